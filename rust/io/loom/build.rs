//! Sets `cfg(loom)` for this package alone. In RUSTFLAGS it would reach tokio and quinn too, which then do without
//! sockets, and would need a target directory of its own.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(loom)");
    println!("cargo::rustc-cfg=loom");
    println!("cargo::rerun-if-changed=build.rs");
}
