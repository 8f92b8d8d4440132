//! BIRD 2.

use anyhow::{Context, Result};

use crate::node::Node;
use crate::process::Process;

/// A running BIRD; it ends with this value.
#[derive(Debug)]
pub struct Bird {
    node: Node,
    socket: String,
    /// The daemon.
    pub process: Process,
}

impl Bird {
    /// Starts it on a configuration in its own language.
    pub fn start(node: &Node, config: &str) -> Result<Self> {
        let file = node.write("bird.conf", config)?;
        let (socket, pid) = (node.folder().join("bird.ctl"), node.folder().join("bird.pid"));
        let path = |path: &std::path::Path| path.to_str().map(str::to_owned).context("a path that is not UTF-8");
        let socket = path(&socket)?;
        let process = node.spawn("bird", &["bird", "-f", "-c", &path(&file)?, "-s", &socket, "-P", &path(&pid)?])?;
        Ok(Self { node: node.clone(), socket, process })
    }

    /// Runs one command in its shell.
    pub fn birdc(&self, command: &str) -> Result<String> {
        let argv: Vec<&str> = ["birdc", "-r", "-s", &self.socket].into_iter().chain(command.split(' ')).collect();
        self.node.run(&argv)
    }

    /// Whether a protocol's session is up.
    pub fn is_established(&self, protocol: &str) -> Result<bool> {
        Ok(self.birdc(&format!("show protocols {protocol}"))?.contains("Established"))
    }

    /// Whether a prefix has been learned from a protocol.
    pub fn has_route(&self, prefix: &str, protocol: &str) -> Result<bool> {
        Ok(self.birdc(&format!("show route protocol {protocol} {prefix}"))?.contains(prefix))
    }
}
