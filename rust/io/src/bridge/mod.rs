//! The meeting point of I/O and event loop: readiness tokens and one coalesced wake per loop.
//!
//! Nothing here knows Python or quinn. `port` carries tokens from any thread to the loop, `ring` is the queue of those who
//! wait for one condition, `wake` is the file descriptor that the loop watches. Both protocols are model-checked
//! with loom (`rust/io/loom`).

pub mod port;
pub mod ring;
pub mod wake;

/// Atomics and mutex of the model checker under `cfg(loom)`, the real ones otherwise.
pub(crate) mod sync {
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering, fence};
    #[cfg(not(loom))]
    pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};

    /// One `lock()` without a poison result for both mutexes.
    #[cfg(loom)]
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);
    #[cfg(loom)]
    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }
        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("loom mutexes do not poison")
        }
    }
    #[cfg(not(loom))]
    pub(crate) use parking_lot::Mutex;
}
