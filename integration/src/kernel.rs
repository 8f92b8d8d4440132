//! What labs ask of a kernel that the machine's own may not have: VRF devices, TCP-AO.

use std::process::Command;

/// Set by `cargo xtask test --kernel`: the kernel was booted for what these labs need, and lacking it is a failure.
pub const REQUIRED: &str = "HOLDFAST_KERNEL_FEATURES";

/// Whether what is missing is a failure, and not the machine's to have.
pub fn is_required() -> bool {
    std::env::var_os(REQUIRED).is_some()
}

/// Asks for a module of the kernel; a guest has nobody who loads it on demand.
pub fn load(module: &str) {
    // Where it is built in, or is not to be had, the lab finds out.
    let _ = Command::new("modprobe").arg("--quiet").arg(module).status();
}
