//! Debian packages that labs need: installed when missing, quietly, and without starting their services.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What every lab needs.
pub const BASE: [&str; 4] = ["iproute2", "iputils-ping", "util-linux", "procps"];

/// The real peers.
pub const PEERS: [&str; 7] = [
    "frr",
    "bird2",
    "gobgpd",
    "strongswan",
    "strongswan-swanctl",
    "libcharon-extra-plugins",
    "libstrongswan-standard-plugins",
];

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
    let install = || apt(&["install", "--no-install-recommends", "-y", "-q"], &missing);
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

fn apt(verb: &[&str], packages: &[&str]) -> Result<()> {
    // Debian's own switch: invoke-rc.d asks this program before it starts a service, and 101 means "not allowed".
    let policy = tempfile::tempdir()?;
    let program = policy.path().join("policy-rc.d");
    std::fs::write(&program, "#!/bin/sh\nexit 101\n")?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let outcome = Command::new("apt-get")
        .args(verb)
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("POLICYRCD", &program)
        .env("SYSTEMD_OFFLINE", "1")
        .stdin(Stdio::null())
        .output()
        .context("cannot run apt-get; labs install their real peers from Debian's packages")?;
    if !outcome.status.success() {
        bail!("apt-get {} failed: {}", verb.join(" "), String::from_utf8_lossy(&outcome.stderr).trim_end());
    }
    Ok(())
}
