//! The bridge of wt-io, file for file, with loom's atomics and mutex in place of the real ones. See `tests/`.

#[path = "../../src/bridge/mod.rs"]
pub mod bridge;
#[path = "../../src/stats.rs"]
pub mod stats;
