//! A program that runs in a node until told otherwise, its output in a file of the lab.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::exec;

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    exited: Option<ExitStatus>,
}

impl Process {
    /// Starts `argv`; must be called on a thread that is already inside the namespaces it shall run in.
    ///
    /// A second process of the same name appends to the same log, so the story of a restart stays in one place.
    pub(crate) fn start(name: &str, argv: &[String], environment: &[(String, String)], log: PathBuf) -> Result<Self> {
        let file = File::options().create(true).append(true).open(&log)?;
        let child = exec::command(argv)?
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start `{}`", exec::spell(argv)))?;
        Ok(Self { name: name.to_owned(), child, log, exited: None })
    }

    /// What the process is called in this lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id as the lab's owner sees it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything it has printed so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().unwrap_or_default();
        }
        self.exited.is_none()
    }

    /// An error naming the end of the log if the process is gone: what a wait asks first.
    pub fn must_run(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let status = self.exited.map(|status| status.to_string()).unwrap_or_default();
        bail!("{} is gone ({status}); it said last: {}", self.name, tail(&self.log(), 5));
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id out of range")?;
        kill_process(id, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) -> Result<()> {
        if self.is_running() {
            self.child.kill()?;
            self.exited = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// SIGTERM, and waits until the process has ended by itself.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        if self.is_running() {
            self.signal(Signal::TERM)?;
        }
        self.wait(limit)
    }

    /// Waits until the process has ended by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() > deadline {
                bail!("{} has not ended after {limit:?}; it said last: {}", self.name, tail(&self.log(), 5));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.exited.context("the process has no exit status")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("cannot kill {}: {error}", self.name);
        }
    }
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
