//! Root, or something as good: a user namespace in which the caller is root.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

const MARK: &str = "HOLDFAST_IN_USER_NAMESPACE";

/// Whether this process was started again inside a user namespace.
pub(crate) fn is_reexecuted() -> bool {
    std::env::var_os(MARK).is_some()
}

/// How to start a program as root of a user namespace, if the caller is not root already.
pub(crate) fn wrapper() -> Vec<&'static str> {
    if rustix::process::geteuid().is_root() {
        Vec::new()
    } else {
        vec!["unshare", "--user", "--map-root-user", "--mount"]
    }
}

/// Makes sure that this process may build labs: starts it again in a user namespace if need be.
pub(crate) fn ensure() -> Result<()> {
    let wrapper = wrapper();
    let Some((program, arguments)) = wrapper.split_first() else { return Ok(()) };
    let error = Command::new(program)
        .args(arguments)
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    Err(error).context("cannot start `unshare`; run as root, or install util-linux")
}
