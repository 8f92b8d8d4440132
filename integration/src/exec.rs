//! Running short commands and closures inside namespaces.
//!
//! A thread that has joined a namespace is thrown away afterwards: no thread of the caller ever changes its own.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` on a thread of its own that has joined the given namespaces; what it spawns is born inside them.
pub(crate) fn inside<T: Send>(net: Option<&File>, pids: Option<&File>, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || -> Result<T> {
            if let Some(net) = net {
                move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network))
                    .context("cannot join the network namespace")?;
            }
            // Last, because a thread in two process-id namespaces may start processes but no more threads.
            if let Some(pids) = pids {
                move_into_link_name_space(pids.as_fd(), Some(LinkNameSpaceType::ProcessID))
                    .context("cannot join the process-id namespace")?;
            }
            Ok(work())
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a program to its end and gives back what it printed; a failure carries the command and what it said.
pub fn output<A: AsRef<OsStr>>(argv: &[A]) -> Result<String> {
    let mut command = command(argv)?;
    finish(command.stdin(Stdio::null()).output(), argv)
}

/// Builds the command for an argument vector.
pub(crate) fn command<A: AsRef<OsStr>>(argv: &[A]) -> Result<Command> {
    let (program, arguments) = argv.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// Turns the outcome of a command into its standard output or an error that says what happened.
pub(crate) fn finish<A: AsRef<OsStr>>(outcome: std::io::Result<Output>, argv: &[A]) -> Result<String> {
    let spelled = spell(argv);
    let outcome = outcome.with_context(|| format!("cannot run `{spelled}`"))?;
    let stdout = String::from_utf8_lossy(&outcome.stdout).into_owned();
    if !outcome.status.success() {
        let stderr = String::from_utf8_lossy(&outcome.stderr);
        bail!("`{spelled}` ended with {}: {}{}", outcome.status, stdout, stderr.trim_end());
    }
    Ok(stdout)
}

/// The command as one would type it.
pub(crate) fn spell<A: AsRef<OsStr>>(argv: &[A]) -> String {
    argv.iter().map(|word| word.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ")
}
