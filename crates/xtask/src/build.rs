//! Building what is shown, tested and measured.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration::edge::Binaries;

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// A call of the same cargo that runs this program, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// Builds the daemons and the shell for release and says where they are.
pub(crate) fn daemons() -> Result<Binaries> {
    // In a user namespace there may be no network: everything was built before it was entered.
    if !crate::root::is_reexecuted() && std::env::var_os("HOLDFAST_BIN").is_none() {
        let status = cargo()
            .args(["build", "--quiet", "--release", "-p", "bgpd", "-p", "ipsecd", "-p", "shell"])
            .status()
            .context("cannot run cargo")?;
        ensure!(status.success(), "the daemons do not build");
    }
    Binaries::find()
}
