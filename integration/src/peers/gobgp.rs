//! GoBGP.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::node::Node;
use crate::process::Process;

/// Its API listens on the loopback of the node, so every node may use the same.
const API: &str = "127.0.0.1:50051";

/// A running GoBGP; it ends with this value.
#[derive(Debug)]
pub struct Gobgp {
    node: Node,
    /// The daemon.
    pub process: Process,
}

impl Gobgp {
    /// Starts it on a configuration in TOML.
    pub fn start(node: &Node, config: &str) -> Result<Self> {
        let file = node.write("gobgpd.toml", config)?;
        let file = file.to_str().context("a path that is not UTF-8")?;
        let process = node.spawn("gobgpd", &["gobgpd", "-f", file, "--api-hosts", API, "--pprof-disable"])?;
        Ok(Self { node: node.clone(), process })
    }

    /// Runs one command in its shell.
    pub fn gobgp(&self, command: &str) -> Result<String> {
        let argv: Vec<&str> = std::iter::once("gobgp").chain(command.split(' ')).collect();
        self.node.run(&argv)
    }

    /// Whether the session with a neighbor is up.
    pub fn is_established(&self, neighbor: &str) -> Result<bool> {
        let answer: Value = serde_json::from_str(&self.gobgp(&format!("neighbor {neighbor} -j"))?)?;
        // Its JSON names the state by number or by word, depending on the version.
        let state = answer.pointer("/state/session_state").cloned().unwrap_or_default();
        Ok(state == 6 || state.as_str().is_some_and(|state| state.eq_ignore_ascii_case("established")))
    }

    /// Whether a prefix is in its table.
    pub fn has_route(&self, prefix: &str) -> Result<bool> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        Ok(self.gobgp(&format!("global rib {prefix} -a {family}"))?.contains("Network"))
    }
}
