//! One of our edge boxes in a lab: its node, its configuration, `ipsecd`, `bgpd` and the shell.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;

use crate::kernel;
use crate::node::Node;
use crate::process::Process;

/// Where the example configurations expect keys and certificates; labs put theirs elsewhere.
const SYSTEM_FOLDER: &str = "/etc/holdfast";

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Finds the programs: in `$HOLDFAST_BIN`, or where cargo builds them for release, or for debugging.
    pub fn find() -> Result<Self> {
        if let Some(folder) = std::env::var_os("HOLDFAST_BIN") {
            return Self::in_folder(Path::new(&folder));
        }
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        Self::in_folder(&target.join("release")).or_else(|_| Self::in_folder(&target.join("debug")))
    }

    /// Takes the programs from a folder.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        for name in ["bgpd", "ipsecd", "holdfast"] {
            let path = folder.join(name);
            ensure!(path.is_file(), "{} is missing; cargo build --release -p bgpd -p ipsecd -p shell", path.display());
        }
        Ok(Self { folder: folder.canonicalize()? })
    }

    /// The path of one program.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }
}

/// An edge box.
#[derive(Debug)]
pub struct Edge {
    /// The namespace it lives in.
    pub node: Node,
    /// The running `ipsecd`.
    pub ipsecd: Option<Process>,
    /// The running `bgpd`.
    pub bgpd: Option<Process>,
    binaries: Binaries,
    config: PathBuf,
    run_dir: PathBuf,
    relative: bool,
}

/// One fault as `show failover json` tells it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FailoverEvent {
    /// Counts up.
    pub id: u64,
    /// What was noticed: `bfdDown`, `linkDown`, `tunnelDown`, ...
    pub cause: String,
    /// The neighbor it was about.
    #[serde(default)]
    pub peer: Option<String>,
    /// The tunnel it was about.
    #[serde(default)]
    pub tunnel: Option<String>,
    /// When it was noticed.
    pub detected_at_unix_us: i64,
    /// When the kernel had acknowledged the new next hops.
    #[serde(default)]
    pub fib_switched_at_unix_us: Option<i64>,
    /// How long that took.
    #[serde(default)]
    pub fib_switch_us: Option<i64>,
    /// How many next hop objects were replaced.
    #[serde(default)]
    pub path_lists_replaced: u64,
    /// How many routes moved with them.
    #[serde(default)]
    pub routes_moved: u64,
    /// When every route had been decided anew.
    #[serde(default)]
    pub rib_done_at_unix_us: Option<i64>,
    /// Until when it was held down though it worked.
    #[serde(default)]
    pub held_until_unix_us: Option<i64>,
    /// When the path was back in use.
    #[serde(default)]
    pub restored_at_unix_us: Option<i64>,
}

impl Edge {
    /// An edge box with its configuration written and nothing started.
    ///
    /// Paths under `/etc/holdfast` in the text are moved to the node's own folder.
    pub fn new(node: &Node, binaries: &Binaries, config: &str) -> Result<Self> {
        let run_dir = node.folder().join("run");
        std::fs::create_dir_all(&run_dir)?;
        let mut edge = Self {
            node: node.clone(),
            ipsecd: None,
            bgpd: None,
            binaries: binaries.clone(),
            config: node.folder().join("holdfast.conf"),
            run_dir,
            relative: false,
        };
        edge.configure(config)?;
        Ok(edge)
    }

    /// Starts the daemons in the node's folder, with paths relative to it.
    pub fn with_relative_paths(self) -> Self {
        Self { relative: true, ..self }
    }

    /// Writes another configuration; `reload` makes it true.
    pub fn configure(&mut self, config: &str) -> Result<()> {
        let folder = self.node.folder().to_str().context("a path that is not UTF-8")?;
        Ok(std::fs::write(&self.config, config.replace(SYSTEM_FOLDER, folder))?)
    }

    /// The configuration file.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// Where the daemons make their sockets.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Starts both daemons.
    pub fn start(&mut self) -> Result<()> {
        self.start_ipsecd()?;
        self.start_bgpd()
    }

    /// Starts `ipsecd`.
    pub fn start_ipsecd(&mut self) -> Result<()> {
        self.ipsecd = Some(self.spawn("ipsecd")?);
        Ok(())
    }

    /// Starts `bgpd`.
    pub fn start_bgpd(&mut self) -> Result<()> {
        self.bgpd = Some(self.spawn("bgpd")?);
        Ok(())
    }

    fn spawn(&self, daemon: &str) -> Result<Process> {
        let (config, run_dir) = self.paths()?;
        if self.relative {
            let folder = self.node.folder();
            let place = folder.to_str().context("a path that is not UTF-8")?;
            let within = |path: &str| -> Result<String> {
                Ok(Path::new(path).strip_prefix(folder)?.to_string_lossy().into_owned())
            };
            let (config, run_dir, program) = (within(config)?, within(run_dir)?, self.binaries.path(daemon));
            let mut argv = vec!["env", "-C", place, &program, "--config", &config, "--run-dir", &run_dir];
            if daemon == "ipsecd" {
                argv.extend(["--state-dir", "state"]);
            }
            return self.node.spawn(daemon, &argv);
        }
        let (program, state_dir) = (self.binaries.path(daemon), self.state_dir()?);
        let mut argv = vec![program.as_str(), "--config", config, "--run-dir", run_dir];
        if daemon == "ipsecd" {
            argv.extend(["--state-dir", &state_dir]);
        }
        self.node.spawn(daemon, &argv)
    }

    /// What ipsecd keeps from one start to the next.
    fn state_dir(&self) -> Result<String> {
        Ok(self.node.folder().join("state").to_str().context("a path that is not UTF-8")?.to_owned())
    }

    fn paths(&self) -> Result<(&str, &str)> {
        self.config.to_str().zip(self.run_dir.to_str()).context("a path that is not UTF-8")
    }

    /// Runs a daemon with `--check` on the configuration; an error carries what it said.
    pub fn check(&self, daemon: &str) -> Result<String> {
        let (config, run_dir) = self.paths()?;
        self.node.run(&[&self.binaries.path(daemon), "--config", config, "--run-dir", run_dir, "--check"])
    }

    /// Fails when a daemon that was started is gone.
    pub fn must_run(&mut self) -> Result<()> {
        self.ipsecd.iter_mut().chain(&mut self.bgpd).try_for_each(Process::must_run)
    }

    /// Runs one command in the shell.
    pub fn shell(&self, command: &str) -> Result<String> {
        let (_, run_dir) = self.paths()?;
        self.node.run(&[&self.binaries.path("holdfast"), "--run-dir", run_dir, "-c", command])
    }

    /// Runs one command in the shell and parses its JSON.
    pub fn json(&self, command: &str) -> Result<Value> {
        let text = self.shell(command)?;
        serde_json::from_str(&text).with_context(|| format!("`{command}` printed no JSON: {text}"))
    }

    /// The faults that `bgpd` remembers, newest last.
    pub fn failovers(&self) -> Result<Vec<FailoverEvent>> {
        let mut answer = self.json("show failover json")?;
        let events = answer.get_mut("events").map(Value::take).context("`show failover json` has no events")?;
        serde_json::from_value(events).context("`show failover json` has unexpected fields")
    }

    /// The summary's entry of one neighbor, whatever family it is listed under.
    pub fn neighbor(&self, address: &str) -> Result<Value> {
        let summary = self.json("show bgp summary json")?;
        let families = summary.as_object().context("the summary is no object")?;
        let flat = summary.pointer("/peers").and_then(|peers| peers.get(address));
        let found = flat.or_else(|| families.values().find_map(|family| family.get("peers")?.get(address)));
        found.cloned().with_context(|| format!("no neighbor {address} in the summary: {summary}"))
    }

    /// Whether the session with a neighbor is up.
    pub fn is_established(&self, neighbor: &str) -> Result<bool> {
        Ok(self.neighbor(neighbor)?.get("state").and_then(Value::as_str) == Some("Established"))
    }

    /// How many prefixes a neighbor has announced.
    pub fn prefixes_from(&self, neighbor: &str) -> Result<u64> {
        Ok(self.neighbor(neighbor)?.get("pfxRcd").and_then(Value::as_u64).unwrap_or(0))
    }

    /// The state of a tunnel as `show ipsec tunnel json` has it, in lower case: `up`, `negotiating`, `down`.
    pub fn tunnel_state(&self, tunnel: &str) -> Result<String> {
        let tunnels = self.json("show ipsec tunnel json")?;
        let entry = tunnels.get(tunnel).or_else(|| {
            let list = tunnels.get("tunnels")?;
            list.get(tunnel).or_else(|| list.as_array()?.iter().find(|entry| entry["name"] == tunnel))
        });
        let state = entry.and_then(|entry| entry.get("state")?.as_str());
        Ok(state.with_context(|| format!("no state of {tunnel} in {tunnels}"))?.to_lowercase())
    }

    /// Fails when a tunnel is on another datapath than labs are to have.
    pub fn must_have_the_labs_datapath(&self, tunnel: &str) -> Result<()> {
        let Some(wanted) = kernel::datapath() else { return Ok(()) };
        let shown = self.json("show ipsec tunnel json")?;
        let found = shown.pointer(&format!("/{tunnel}/datapath")).and_then(Value::as_str);
        ensure!(found == Some(&wanted), "{tunnel} is on datapath {found:?}, not {wanted}: {shown}");
        Ok(())
    }

    /// Tells both daemons to read the configuration again.
    pub fn reload(&self) -> Result<String> {
        self.shell("reload")
    }

    /// SIGKILL to one of the daemons, and starts it again.
    pub fn kill_and_restart(&mut self, daemon: Daemon) -> Result<()> {
        self.kill(daemon)?;
        match daemon {
            Daemon::Ipsecd => self.start_ipsecd(),
            Daemon::Bgpd => self.start_bgpd(),
        }
    }

    /// SIGKILL to one of the daemons.
    pub fn kill(&mut self, daemon: Daemon) -> Result<()> {
        self.process(daemon)?.kill()
    }

    /// The box loses its power: its links go down at once, and nothing of what ran is left, in the kernel neither.
    pub fn lose_power(&mut self, links: &[&str]) -> Result<()> {
        let down: Vec<_> = links.iter().map(|link| format!("link set {link} down")).collect();
        self.node.ip_batch(&down.join("\n"))?;
        for daemon in [Daemon::Bgpd, Daemon::Ipsecd] {
            self.kill(daemon)?;
        }
        for link in self.node.run_json(&["ip", "-j", "link", "show", "type", "tun"])?.as_array().into_iter().flatten() {
            if let Some(name) = link.get("ifname").and_then(Value::as_str) {
                self.node.ip(&format!("link delete {name}"))?;
            }
        }
        // Some are gone with the links while they are listed, which is an error to ip.
        let flush = "ip route flush proto 201; ip nexthop flush proto 201; test -z \"$(ip route show proto 201)\"";
        self.node.run(&["sh", "-c", flush]).map(drop)
    }

    /// Power is back: the links come up, with the addresses that they had, and the daemons start.
    pub fn regain_power(&mut self, links: &[&str]) -> Result<()> {
        let up: Vec<_> = links.iter().map(|link| format!("link set {link} up")).collect();
        self.node.ip_batch(&up.join("\n"))?;
        self.start()
    }

    /// The process of a daemon that was started.
    pub fn process(&mut self, daemon: Daemon) -> Result<&mut Process> {
        match daemon {
            Daemon::Ipsecd => self.ipsecd.as_mut().context("ipsecd was not started"),
            Daemon::Bgpd => self.bgpd.as_mut().context("bgpd was not started"),
        }
    }

    /// Stops both daemons the ordinary way; each must end with success.
    pub fn stop(&mut self, limit: Duration) -> Result<()> {
        for process in self.bgpd.iter_mut().chain(&mut self.ipsecd) {
            process.signal(Signal::TERM)?;
            let status = process.wait(limit)?;
            ensure!(status.success(), "{} ended with {status}", process.name());
        }
        Ok(())
    }
}

/// Which daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// The IPsec daemon.
    Ipsecd,
    /// The BGP daemon.
    Bgpd,
}
