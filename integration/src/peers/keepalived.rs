//! keepalived: VRRP.

use anyhow::{Context, Result};

use crate::node::Node;
use crate::process::Process;

/// A running keepalived; it ends with this value.
#[derive(Debug)]
pub struct Keepalived {
    /// The daemon.
    pub process: Process,
}

impl Keepalived {
    /// Starts it with one virtual router of version 3; `group` are the lines within `vrrp_instance`.
    pub fn start(node: &Node, group: &str) -> Result<Self> {
        Self::start_all(node, &format!("vrrp_instance gateway {{\n state BACKUP\n{group}\n}}\n"))
    }

    /// Starts it with these sections, all of version 3.
    pub fn start_all(node: &Node, sections: &str) -> Result<Self> {
        let config =
            format!("global_defs {{\n vrrp_version 3\n vrrp_garp_master_delay 1\n script_user root\n}}\n{sections}");
        let file = node.write("keepalived.conf", config)?;
        let path =
            |name: &str| node.folder().join(name).to_str().map(str::to_owned).context("a path that is not UTF-8");
        let (pid, vrrp_pid) = (path("keepalived.pid")?, path("keepalived-vrrp.pid")?);
        let argv = [
            "keepalived",
            "--dont-fork",
            "--vrrp",
            "--log-console",
            "--log-detail",
            "--no-syslog",
            "--use-file",
            file.to_str().context("a path that is not UTF-8")?,
            "--pid",
            &pid,
            "--vrrp_pid",
            &vrrp_pid,
        ];
        Ok(Self { process: node.spawn("keepalived", &argv)? })
    }
}
