//! A lab: its folder, its nodes, and the guarantee that nothing of it outlives its owner.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::kernel;
use crate::node::{self, Node};
use crate::process;

/// How often a wait asks again. Waiting costs the daemons processor time, so not as often as possible.
const POLL: Duration = Duration::from_millis(50);

/// A set of nodes and what runs in them.
///
/// All processes of a lab live in one process-id namespace whose first process reads a pipe that only the owner holds
/// open: when the owner ends, by `drop`, by a panic or by SIGKILL, that first process ends, and the kernel kills the rest.
#[derive(Debug)]
pub struct Lab {
    name: String,
    folder: PathBuf,
    init: Child,
    pids: Arc<File>,
    nodes: RefCell<Vec<Node>>,
    failed: Cell<bool>,
}

impl Lab {
    /// An empty lab. Needs root, or a user namespace in which the caller is root.
    pub fn new(name: &str) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "labs need root: run `cargo xtask test` or `cargo xtask demo`");
        let folder = tempfile::Builder::new().prefix("holdfast-").tempdir()?.keep();
        // Daemons that give up root must still reach their files; secrets have modes of their own.
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        // The script is the first process of the namespace: it also adopts and reaps what daemons leave behind.
        let script = if std::env::var_os("HOLDFAST_KEEP_LAB").is_some() {
            "echo ready; cat >/dev/null"
        } else {
            "echo ready; cat >/dev/null; rm -rf -- \"$0\""
        };
        let mut init = Command::new("unshare")
            .args(["--pid", "--fork", "sh", "-c", script])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start `unshare` (package util-linux)")?;
        wait_ready(&mut init)?;
        let pids = File::open(format!("/proc/{}/ns/pid_for_children", init.id()))?;
        Ok(Self {
            name: name.to_owned(),
            folder,
            init,
            pids: Arc::new(pids),
            nodes: RefCell::default(),
            failed: Cell::new(false),
        })
    }

    /// Builds a lab for one test and runs it; a failure panics after the state of everything was printed.
    #[track_caller]
    pub fn test(name: &str, work: impl FnOnce(&Lab) -> Result<()>) {
        let lab = match Self::new(name) {
            Ok(lab) => lab,
            Err(error) => panic!("cannot build the lab {name}: {error:#}"),
        };
        if let Err(error) = work(&lab) {
            lab.failed.set(true);
            drop(lab);
            panic!("{name}: {error:#}");
        }
    }

    /// Where the lab's files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds a node.
    pub fn node(&self, name: &str) -> Result<Node> {
        // The namespace belongs to whoever holds its descriptor; the process that made it may go.
        let mut maker = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; cat >/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start `unshare` (package util-linux)")?;
        wait_ready(&mut maker)?;
        let net = File::open(format!("/proc/{}/ns/net", maker.id()))?;
        drop(maker.stdin.take());
        maker.wait()?;
        let node = Node::new(name, net, Arc::clone(&self.pids), &self.folder)?;
        self.nodes.borrow_mut().push(node.clone());
        Ok(node)
    }

    /// Joins two nodes by a veth pair: `lab.join((&a, "wan1"), (&isp1, "to-a"))`.
    pub fn join(&self, left: (&Node, &str), right: (&Node, &str)) -> Result<()> {
        node::join(left, right)
    }

    /// Waits until `condition` holds. Errors mean "not yet"; the last one is part of the failure.
    pub fn wait_for(&self, what: &str, limit: Duration, condition: impl FnMut() -> Result<bool>) -> Result<()> {
        let mut condition = condition;
        self.wait_until(what, limit, || Ok(condition()?.then_some(())))
    }

    /// Waits until `look` finds something and gives it back.
    pub fn wait_until<T>(&self, what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let limit = limit * kernel::slowness();
        let deadline = Instant::now() + limit;
        loop {
            let seen = look();
            if let Ok(Some(found)) = seen {
                return Ok(found);
            }
            if Instant::now() > deadline {
                self.failed.set(true);
                let last = seen.err().map(|error| format!("; last seen: {error:#}")).unwrap_or_default();
                bail!("waited {limit:?} in vain for {what}{last}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// Checks that a condition keeps holding for a while.
    pub fn holds_for(&self, what: &str, time: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if !condition().with_context(|| format!("while checking that {what}"))? {
                self.failed.set(true);
                bail!("it did not last that {what}");
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn print_state(&self) {
        eprintln!("==== lab {}: state at the failure", self.name);
        for node in self.nodes.borrow().iter() {
            eprint!("{}", node.describe());
            let Ok(files) = std::fs::read_dir(node.folder()) else { continue };
            let mut logs: Vec<PathBuf> = files.flatten().map(|entry| entry.path()).collect();
            logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
            logs.sort();
            for path in logs {
                let Ok(text) = std::fs::read(&path) else { continue };
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                eprintln!("-- {}: {file}\n{}", node.name(), process::tail(&String::from_utf8_lossy(&text), 60));
            }
        }
        eprintln!("==== end of lab {}", self.name);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.failed.get() || std::thread::panicking() {
            self.print_state();
        }
        drop(self.init.stdin.take());
        if let Err(error) = self.init.wait() {
            eprintln!("the lab {} did not end: {error}", self.name);
        }
    }
}

/// Waits for the line that a helper prints once it is where it belongs.
fn wait_ready(helper: &mut Child) -> Result<()> {
    let output = helper.stdout.take().context("a helper without standard output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    ensure!(line == "ready\n", "`unshare` refused; namespaces need root and a kernel that has them");
    Ok(())
}
