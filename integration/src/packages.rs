//! Debian packages that labs need: installed when missing, quietly, and without starting their services.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What every lab needs.
pub const BASE: [&str; 4] = ["iproute2", "iputils-ping", "util-linux", "procps"];

/// The real peers.
pub const PEERS: [&str; 8] = [
    "frr",
    "bird2",
    "gobgpd",
    "keepalived",
    "strongswan",
    "strongswan-swanctl",
    "libcharon-extra-plugins",
    "libstrongswan-standard-plugins",
];

/// What a NAT is made with, and what shows the kernel's own table.
pub const NAT: [&str; 2] = ["nftables", "conntrack"];

/// Installs those of the packages that are missing.
///
/// Services of freshly installed packages are kept from starting: a second BGP daemon on the machine is not wanted.
pub fn ensure(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "packages are missing; as root: apt-get install --no-install-recommends {}",
        missing.join(" ")
    );
    eprintln!("installing {}", missing.join(" "));
    // Somebody else may be installing, too.
    let install =
        || apt(&["-o", "DPkg::Lock::Timeout=300", "install", "--no-install-recommends", "-y", "-q"], &missing);
    // A machine that never fetched the package lists needs them first; one that has them is not made to wait.
    if install().is_err() {
        apt(&["update", "-q"], &[])?;
        install()?;
    }
    Ok(())
}

fn is_installed(package: &str) -> bool {
    let query =
        Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).stderr(Stdio::null()).output();
    query.is_ok_and(|answer| answer.stdout == b"installed")
}

/// Runs apt-get where the programs by which packages start their services do nothing. They are covered in a mount
/// namespace, so the machine itself is never without them, not even if we are killed.
const WITHOUT_SERVICES: &str = "for program in /usr/sbin/invoke-rc.d /usr/bin/deb-systemd-invoke; do \
                                [ ! -e $program ] || mount --bind /bin/true $program; done; exec apt-get \"$@\"";

fn apt(verb: &[&str], packages: &[&str]) -> Result<()> {
    let outcome = Command::new("unshare")
        .args(["--mount", "sh", "-c", WITHOUT_SERVICES, "apt-get"])
        .args(verb)
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("cannot run `unshare` (package util-linux)")?;
    if !outcome.status.success() {
        bail!("apt-get {} failed: {}", verb.join(" "), String::from_utf8_lossy(&outcome.stderr).trim_end());
    }
    Ok(())
}
