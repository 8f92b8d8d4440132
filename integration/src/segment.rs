//! A link on which two routers share the address of the hosts' gateway, and a host that sends through it all the time.
//!
//! ```text
//! ours ──┐
//!        ├── lan ── host
//! other ─┘
//! ```

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::edge::{Binaries, Edge};
use crate::lab::Lab;
use crate::lan::{Lan, arp_entry, hardware_address};
use crate::node::Node;
use crate::packages;
use crate::process::Process;

/// How long anything on the link may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the routers share.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// The address that the host sends to.
    pub gateway: &'static str,
    /// Every shared address as `ip address` has it while a router holds it.
    pub held: &'static [&'static str],
    /// What the host asks all the time; whoever is the gateway answers.
    pub asked: &'static str,
}

/// The link, with a machine at each port, by interface `lan0`.
#[derive(Debug)]
pub struct Segment<'lab> {
    /// The lab it lives in.
    pub lab: &'lab Lab,
    /// The switch.
    pub lan: Lan<'lab>,
    /// The router that bgpd runs on.
    pub ours: Node,
    /// The router of somebody else's.
    pub other: Node,
    /// The host.
    pub host: Node,
    shared: Shared,
    /// Asks through the gateway all the time.
    ping: Process,
}

impl<'lab> Segment<'lab> {
    /// Makes the machines, has `plug` connect them, and lets the host ask.
    pub fn build(
        lab: &'lab Lab,
        shared: Shared,
        plug: impl FnOnce(&Lan<'_>, [&Node; 3]) -> Result<()>,
    ) -> Result<Self> {
        let lan = Lan::new(lab, "lan")?;
        let (ours, other, host) = (lab.node("ours")?, lab.node("other")?, lab.node("host")?);
        plug(&lan, [&ours, &other, &host])?;
        let ping = host.spawn("ping", &["ping", "-n", "-i", "0.05", shared.asked])?;
        Ok(Self { lab, lan, ours, other, host, shared, ping })
    }

    /// Answers that the host had.
    fn answers(&self) -> usize {
        self.ping.log().matches("bytes from").count()
    }

    /// Until hosts reach the gateway at this router, and it answers.
    pub fn wait_gateway(&self, router: &Node) -> Result<()> {
        let hardware = hardware_address(router, "lan0")?;
        let gateway = self.shared.gateway;
        self.lab.wait_for(&format!("{} is the gateway", router.name()), PATIENCE, || {
            ensure!(self.holds(router)?, "it does not hold what is shared");
            let known = arp_entry(&self.host, gateway)?;
            ensure!(known.as_ref() == Some(&hardware), "the host has the gateway at {known:?}, not at {hardware}");
            Ok(true)
        })?;
        let before = self.answers();
        self.lab.wait_for("the gateway answers", PATIENCE, || Ok(self.answers() > before + 5))
    }

    /// Until a router holds nothing of what is shared.
    pub fn wait_without(&self, router: &Node) -> Result<()> {
        self.lab.wait_for(&format!("{} holds nothing shared", router.name()), PATIENCE, || {
            let there = router.ip("address show dev lan0")?;
            ensure!(!self.shared.held.iter().any(|held| there.contains(held)), "{there}");
            Ok(true)
        })
    }

    /// Whether a router holds all that is shared.
    pub fn holds(&self, router: &Node) -> Result<bool> {
        let there = router.ip("address show dev lan0")?;
        Ok(self.shared.held.iter().all(|held| there.contains(held)))
    }
}

/// A lab with such a link, keepalived at hand for the other router, and bgpd not started yet with this configuration.
pub fn with_keepalived(
    name: &str,
    build: impl FnOnce(&Lab) -> Result<Segment<'_>>,
    config: &str,
    work: impl FnOnce(&Segment<'_>, Edge) -> Result<()>,
) {
    Lab::test(name, |lab| {
        packages::ensure(&["keepalived"])?;
        let segment = build(lab)?;
        let edge = Edge::new(&segment.ours, &Binaries::find()?, config)?;
        work(&segment, edge)
    });
}

/// The virtual router of `lan0` as `show vrrp json` has it.
pub fn status(edge: &Edge) -> Result<Value> {
    edge.json("show vrrp interface lan0 json")?.get(0).cloned().context("no virtual router is shown")
}

/// Until it is so for a family, `v4` or `v6`.
pub fn wait_status(lab: &Lab, edge: &Edge, family: &str, wanted: &str) -> Result<Value> {
    lab.wait_until(&format!("{} is {wanted} for {family}", edge.node.name()), PATIENCE, || {
        let status = status(edge)?;
        ensure!(status[family]["status"] == wanted, "it is {status}");
        Ok(Some(status))
    })
}
