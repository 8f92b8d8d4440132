//! StayRTR, an RTR cache that serves payloads from a file of JSON.

use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::node::Node;
use crate::process::Process;

/// A running StayRTR; it ends with this value.
#[derive(Debug)]
pub struct Stayrtr {
    /// The daemon.
    pub process: Process,
    payloads: PathBuf,
}

/// A payload: prefix, longest length, AS.
pub type Payload<'a> = (&'a str, u8, u32);

impl Stayrtr {
    /// Starts it on these payloads, at a port of the node's.
    pub fn start(node: &Node, port: u16, payloads: &[Payload<'_>]) -> Result<Self> {
        let file = node.write(&format!("payloads-{port}.json"), json(payloads))?;
        let path = file.to_str().context("a path that is not UTF-8")?;
        let (bind, name) = (format!(":{port}"), format!("stayrtr-{port}"));
        let argv =
            ["stayrtr", "-bind", &bind, "-cache", path, "-checktime=false", "-metrics.addr", "", "-refresh", "3600"];
        Ok(Self { process: node.spawn(&name, &argv)?, payloads: file })
    }

    /// Has it serve other payloads, which it tells its routers of.
    pub fn serve(&self, payloads: &[Payload<'_>]) -> Result<()> {
        std::fs::write(&self.payloads, json(payloads))?;
        self.process.signal(Signal::HUP)
    }
}

fn json(payloads: &[Payload<'_>]) -> String {
    let roa = |(prefix, longest, asn): &Payload<'_>| {
        format!("{{\"prefix\": \"{prefix}\", \"maxLength\": {longest}, \"asn\": \"AS{asn}\", \"ta\": \"lab\"}}")
    };
    let roas: Vec<String> = payloads.iter().map(roa).collect();
    format!("{{\"metadata\": {{}}, \"roas\": [{}]}}\n", roas.join(", "))
}
