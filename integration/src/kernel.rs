//! What labs ask of a kernel that the machine's own may not have: VRF devices, TCP-AO.

use std::process::Command;
use std::sync::Once;

use anyhow::{Result, ensure};

use crate::node::Node;

/// Set by `cargo xtask test --kernel`: the kernel was booted for what these labs need, and lacking it is a failure.
pub const REQUIRED: &str = "HOLDFAST_KERNEL_FEATURES";

/// Whether what is missing is a failure, and not the machine's to have.
pub fn is_required() -> bool {
    std::env::var_os(REQUIRED).is_some()
}

/// Names the datapath of tunnels in labs; where it is not set, they have the default.
pub const DATAPATH: &str = "HOLDFAST_DATAPATH";

/// The datapath that labs are to have, with the modules that it takes.
pub fn datapath() -> Option<String> {
    let datapath = std::env::var(DATAPATH).ok()?;
    if datapath == "kernel" {
        load_ipsec();
    }
    Some(datapath)
}

/// A configuration with what this machine asks of it: the datapath that labs are to have and, where the processor is emulated,
/// no BFD or VRRP that takes its pauses for somebody's end.
pub fn fitted(text: &str) -> String {
    let mut fitted = match datapath() {
        Some(datapath) => text.replacen("\nwan ", &format!("\nipsec datapath {datapath}\nwan "), 1),
        None => text.to_owned(),
    };
    if is_emulated() {
        for millis in [10, 50, 100] {
            fitted = fitted.replace(&format!("-interval {millis}\n"), "-interval 1000\n");
        }
    }
    fitted
}

/// Loads what the kernel's datapath takes.
pub fn load_ipsec() {
    static LOADED: Once = Once::new();
    let modules = ["esp4", "esp6", "xfrm_user", "xfrm_interface", "aesni_intel", "nf_tables", "ip_gre", "ip6_gre"];
    LOADED.call_once(|| modules.into_iter().for_each(load));
}

/// Makes sure that the kernel has what GRE over IPsec takes; asks by trying in `node`, which is of no use afterwards.
///
/// # Errors
/// Which modules are missing, and what to do about it.
pub fn ensure_gre(node: &Node) -> Result<()> {
    load_ipsec();
    let state = "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1001 mode transport aead rfc4106(gcm(aes)) \
                 0x0102030405060708090a0b0c0d0e0f1011121314 128";
    let tries = [
        ("esp4 and xfrm_user", state),
        ("xfrm_interface", "link add hf-xfrm type xfrm if_id 1"),
        ("ip_gre", "link add hf-gre type gre local 192.0.2.1 remote 192.0.2.2"),
    ];
    let missing: Vec<_> =
        tries.into_iter().filter(|(_, words)| node.ip(words).is_err()).map(|(what, _)| what).collect();
    ensure!(
        missing.is_empty(),
        "this machine's kernel lacks {}, of what GRE over IPsec takes; load the modules (modprobe), boot a distribution's kernel, \
         or play it in a guest: cargo xtask demo gre-over-ipsec --kernelbox PROGRAM",
        missing.join(", ")
    );
    Ok(())
}

/// Whether this is the guest that was booted for the labs, whose processor is emulated: then it is slow, and not always run.
pub fn is_emulated() -> bool {
    is_required()
}

/// How much longer than on hardware anything may take.
pub fn slowness() -> u32 {
    if is_emulated() { 6 } else { 1 }
}

/// Asks for a module of the kernel; a guest has nobody who loads it on demand.
pub fn load(module: &str) {
    // Where it is built in, or is not to be had, the lab finds out.
    let _ = Command::new("modprobe").arg("--quiet").arg(module).status();
}
