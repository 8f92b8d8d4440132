//! FRR: zebra, and bgpd or bfdd or both.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::node::Node;
use crate::process::Process;

/// Where Debian puts the daemons.
const FOLDER: &str = "/usr/lib/frr";

/// A running FRR; its daemons end with it.
#[derive(Debug)]
pub struct Frr {
    node: Node,
    run_dir: String,
    daemons: Vec<Process>,
}

impl Frr {
    /// Starts zebra and the other daemons (`"bgpd"`, `"bfdd"`) on one configuration in FRR's language.
    pub fn start(node: &Node, daemons: &[&str], config: &str) -> Result<Self> {
        ensure!(Path::new(FOLDER).is_dir(), "{FOLDER} is missing: apt-get install frr");
        let file = node.write("frr.conf", config)?;
        let run = node.folder().join("frr");
        std::fs::create_dir_all(&run)?;
        let (file, run_dir) = file.to_str().zip(run.to_str()).context("a path that is not UTF-8")?;
        // The daemons give up root at once, and read and write here as their own user.
        node.run(&["chown", "-R", "frr:frr", run_dir, file])?;
        let mut frr = Self { node: node.clone(), run_dir: run_dir.to_owned(), daemons: Vec::new() };
        for daemon in std::iter::once(&"zebra").chain(daemons) {
            let binary = format!("{FOLDER}/{daemon}");
            let (zapi, pid) = (format!("{run_dir}/zserv.api"), format!("{run_dir}/{daemon}.pid"));
            let mut argv = vec![binary.as_str(), "-f", file, "-z", &zapi, "-i", &pid];
            argv.extend(["--vty_socket", run_dir, "-P", "0", "--log", "stdout"]);
            let control = format!("{run_dir}/bfdd.sock");
            if *daemon == "bfdd" {
                argv.extend(["--bfdctl", &control]);
            }
            let mut process = node.spawn(&format!("frr-{daemon}"), &argv)?;
            wait_for_socket(&mut process, Path::new(&format!("{run_dir}/{daemon}.vty")))?;
            frr.daemons.push(process);
        }
        Ok(frr)
    }

    /// One of its daemons, if it was started.
    pub fn daemon(&self, name: &str) -> Option<&Process> {
        self.daemons.iter().find(|process| process.name().ends_with(&format!("frr-{name}")))
    }

    /// Runs commands in FRR's shell, one a line; the configuration mode lasts from line to line.
    pub fn vtysh(&self, commands: &str) -> Result<String> {
        let mut argv = vec!["vtysh", "--vty_socket", &self.run_dir];
        argv.extend(commands.lines().flat_map(|command| ["-c", command]));
        self.node.run(&argv)
    }

    /// Runs one command and parses its JSON.
    pub fn json(&self, command: &str) -> Result<Value> {
        self.node.run_json(&["vtysh", "--vty_socket", &self.run_dir, "-c", command])
    }

    /// Whether the session with a neighbor is up.
    pub fn is_established(&self, neighbor: &str) -> Result<bool> {
        let answer = self.json(&format!("show bgp neighbors {neighbor} json"))?;
        Ok(answer.get(neighbor).and_then(|peer| peer.get("bgpState")?.as_str()) == Some("Established"))
    }

    /// Whether a prefix has been learned (`ipv4` or `ipv6` by its form).
    pub fn has_route(&self, prefix: &str) -> Result<bool> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let answer = self.json(&format!("show bgp {family} unicast {prefix} json"))?;
        Ok(answer.pointer("/paths/0/valid").and_then(Value::as_bool) == Some(true))
    }

    /// Whether the BFD session with a peer is up.
    pub fn bfd_is_up(&self, peer: &str) -> Result<bool> {
        let peers = self.json("show bfd peers json")?;
        Ok(peers.as_array().into_iter().flatten().any(|entry| entry["peer"] == peer && entry["status"] == "up"))
    }
}

/// A daemon that has opened its socket has read its configuration.
fn wait_for_socket(process: &mut Process, socket: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        process.must_run()?;
        if Instant::now() > deadline {
            bail!("{} does not open {}: {}", process.name(), socket.display(), process.log());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
