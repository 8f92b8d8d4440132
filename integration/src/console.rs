//! A connection with a daemon, as the shell has one: for commands that are to cost no process each.

use std::path::Path;

use anyhow::{Context, Result};
use rpc::{Client, Execute};
use tokio::runtime::Runtime;

use crate::edge::Edge;

/// Executes commands in one daemon.
#[derive(Debug)]
pub struct Console {
    runtime: Runtime,
    client: Client,
}

impl Console {
    /// Connects to an edge's `ipsecd`.
    pub fn of_ipsecd(edge: &Edge) -> Result<Self> {
        Self::open(&edge.run_dir().join(rpc::IPSECD_SOCKET))
    }

    /// Connects to an edge's `bgpd`.
    pub fn of_bgpd(edge: &Edge) -> Result<Self> {
        Self::open(&edge.run_dir().join(rpc::BGPD_SOCKET))
    }

    fn open(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(Client::connect(socket, "integration"));
        let client = client.with_context(|| format!("cannot connect to {}", socket.display()))?;
        Ok(Self { runtime, client })
    }

    /// Lets the daemon execute one command to its end.
    pub fn execute(&self, line: &str) -> Result<()> {
        self.runtime.block_on(async {
            let mut pieces = self.client.stream(&Execute { line: line.to_owned() }).await?;
            while let Some(piece) = pieces.next().await {
                piece.with_context(|| format!("`{line}`"))?;
            }
            Ok(())
        })
    }
}
