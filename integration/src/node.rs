//! One machine of a lab: a network namespace with its interfaces, routes and programs.

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::exec;
use crate::process::Process;

/// A network namespace of a lab; a clone is the same one.
#[derive(Clone, Debug)]
pub struct Node {
    name: Arc<str>,
    net: Arc<File>,
    pids: Arc<File>,
    folder: Arc<Path>,
}

impl Node {
    pub(crate) fn new(name: &str, net: File, pids: Arc<File>, lab: &Path) -> Result<Self> {
        let folder = lab.join(name);
        std::fs::create_dir_all(&folder)?;
        let node = Self { name: name.into(), net: Arc::new(net), pids, folder: folder.into() };
        node.ip_batch("link set lo up")?;
        Ok(node)
    }

    /// The name in this lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where this node's files are: configuration, sockets, logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The namespace, as what `ip link ... netns` takes.
    pub(crate) fn netns_path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.net.as_raw_fd())
    }

    /// Runs `work` on a thread inside the namespace: sockets that it opens stay there wherever they are used later.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        exec::inside(Some(&self.net), None, work)
    }

    /// Runs a program to its end and gives back what it printed.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        exec::inside(Some(&self.net), Some(&self.pids), || exec::output(argv))?
            .with_context(|| format!("in {}", self.name))
    }

    /// Runs a program that reads `input`.
    pub fn run_with_input(&self, argv: &[&str], input: &str) -> Result<String> {
        exec::inside(Some(&self.net), Some(&self.pids), || {
            let mut child = exec::command(argv)?
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .with_context(|| format!("cannot run `{}`", exec::spell(argv)))?;
            child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
            exec::finish(child.wait_with_output(), argv)
        })?
        .with_context(|| format!("in {}", self.name))
    }

    /// Runs a program and parses the JSON it prints; nothing printed is `null`.
    pub fn run_json(&self, argv: &[&str]) -> Result<Value> {
        let text = self.run(argv)?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text)
            .with_context(|| format!("{}: `{}` printed no JSON: {text}", self.name, argv.join(" ")))
    }

    /// `ip` with the words of one line.
    pub fn ip(&self, words: &str) -> Result<String> {
        let argv: Vec<&str> = std::iter::once("ip").chain(words.split_whitespace()).collect();
        self.run(&argv)
    }

    /// Several lines for `ip -batch`, in one process.
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        self.run_with_input(&["ip", "-batch", "-"], lines).map(drop)
    }

    /// Adds an address to an interface; an IPv6 one is usable at once, because nobody else is on these links.
    pub fn address(&self, interface: &str, address: &str) -> Result<()> {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.ip(&format!("address add {address} dev {interface} {nodad}")).map(drop)
    }

    /// Adds a route, in `ip route`'s words.
    pub fn route(&self, words: &str) -> Result<()> {
        let family = if words.contains(':') { "-6" } else { "-4" };
        self.ip(&format!("{family} route add {words}")).map(drop)
    }

    /// Writes a kernel parameter (`net.ipv4.ip_forward`) of this namespace.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
        self.enter(|| std::fs::write(&path, value))?.with_context(|| format!("cannot set {name} in {}", self.name))
    }

    /// Reads a kernel parameter of this namespace.
    pub fn read_sysctl(&self, name: &str) -> Result<String> {
        let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
        let value = self.enter(|| std::fs::read_to_string(&path))?;
        Ok(value.with_context(|| format!("cannot read {name} in {}", self.name))?.trim().to_owned())
    }

    /// Makes a router of this node, for both families.
    pub fn forward(&self) -> Result<()> {
        self.sysctl("net.ipv4.ip_forward", "1")?;
        self.sysctl("net.ipv6.conf.all.forwarding", "1")
    }

    /// Brings an interface up or down.
    pub fn set_link(&self, interface: &str, up: bool) -> Result<()> {
        self.ip(&format!("link set dev {interface} {}", if up { "up" } else { "down" })).map(drop)
    }

    /// The kernel's decision for a destination: `ip route get`'s first answer, or an error when there is none.
    pub fn route_get(&self, destination: IpAddr) -> Result<Value> {
        let answer = self.run_json(&["ip", "-j", "route", "get", &destination.to_string()])?;
        answer.get(0).cloned().with_context(|| format!("{}: no route to {destination}", self.name))
    }

    /// The interface that packets for a destination leave by; `None` when the kernel would drop them.
    pub fn egress(&self, destination: IpAddr) -> Option<String> {
        let route = self.route_get(destination).ok()?;
        Some(route.get("dev")?.as_str()?.to_owned())
    }

    /// Packets received and sent by an interface.
    pub fn link_packets(&self, interface: &str) -> Result<(u64, u64)> {
        let links = self.run_json(&["ip", "-j", "-s", "link", "show", "dev", interface])?;
        let count = |direction: &str| links.pointer(&format!("/0/stats64/{direction}/packets")).and_then(Value::as_u64);
        count("rx").zip(count("tx")).with_context(|| format!("{}: no counters for {interface}", self.name))
    }

    /// Pings until an answer comes, at most `attempts` times, a fifth of a second apart.
    pub fn ping(&self, destination: IpAddr, attempts: u32) -> Result<()> {
        let attempts = attempts.to_string();
        let destination = destination.to_string();
        self.run(&["ping", "-n", "-q", "-i", "0.2", "-W", "1", "-c", "1", "-w", &attempts, &destination]).map(drop)
    }

    /// Starts a program that stays.
    pub fn spawn(&self, name: &str, argv: &[&str]) -> Result<Process> {
        self.spawn_with(name, argv, &[])
    }

    /// Starts a program that stays, with variables in its environment.
    pub fn spawn_with(&self, name: &str, argv: &[&str], environment: &[(&str, &str)]) -> Result<Process> {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let environment: Vec<(String, String)> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let log = self.folder.join(format!("{name}.log"));
        let full_name = format!("{}/{name}", self.name);
        exec::inside(Some(&self.net), Some(&self.pids), || Process::start(&full_name, &argv, &environment, log))?
    }

    /// Writes a file into this node's folder and gives its path.
    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.folder.join(file);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// What a failed test wants to know about this node.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for words in ["-br address", "-4 route", "-6 route", "nexthop", "rule"] {
            let said = self.ip(words).unwrap_or_else(|error| format!("{error:#}"));
            let shown: Vec<&str> = said.lines().take(30).collect();
            if !shown.is_empty() {
                text.push_str(&format!("-- {}: ip {words}\n{}\n", self.name, shown.join("\n")));
            }
        }
        text
    }
}

/// Joins two nodes by a veth pair and brings both ends up.
pub(crate) fn join((left, left_port): (&Node, &str), (right, right_port): (&Node, &str)) -> Result<()> {
    ensure!(left_port.len() < 16 && right_port.len() < 16, "interface names have at most 15 characters");
    let peer = right.netns_path();
    left.ip(&format!("link add {left_port} type veth peer name {right_port} netns {peer}"))
        .with_context(|| format!("joining {} and {}", left.name(), right.name()))?;
    left.set_link(left_port, true)?;
    right.set_link(right_port, true)
}
