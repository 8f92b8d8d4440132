//! Two routers at one site, and one gateway for its hosts: a provider that drops everything, an upgrade, a power failure.
//!
//! ```text
//!            ┌─ router1 ─┐
//!   h1 ─ lan ┤           ├─ inet ─ site-b ─ h2
//!            └─ router2 ─┘
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::ground::Ground;
use super::{PATIENCE, Story};
use crate::capture::{Capture, Clearness};
use crate::edge::{Binaries, Edge};
use crate::lab::Lab;
use crate::lan::{Lan, arp_entry, hardware_address};
use crate::node::Node;
use crate::probe::{MAGIC, PORT, Probe};

const CONFIGURATIONS: [(&str, &str); 3] = [
    ("router1", include_str!("../../../examples/dual-router/router1.conf")),
    ("router2", include_str!("../../../examples/dual-router/router2.conf")),
    ("site-b", include_str!("../../../examples/dual-router/site-b.conf")),
];
/// What hosts of site A have for a gateway.
const GATEWAY: &str = "10.1.0.1";
/// A host of each site.
const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 10), Ipv4Addr::new(10, 2, 0, 10)];
/// Of a router.
const LINKS: [&str; 2] = ["wan0", "lan0"];
const STOP: Duration = Duration::from_secs(10);

struct DualRouter<'lab> {
    lab: &'lab Lab,
    routers: [Edge; 2],
    site_b: Edge,
    hosts: [Node; 2],
    internet: Node,
}

impl<'lab> DualRouter<'lab> {
    fn build(lab: &'lab Lab, binaries: &Binaries) -> Result<Self> {
        let ground = Ground::new(lab, binaries, "Dual router CA", &CONFIGURATIONS)?;
        let edge = |name: &str, address: &str, gateway: &str| ground.edge(name, address, gateway);
        let routers =
            [edge("router1", "198.51.100.2", "198.51.100.1")?, edge("router2", "198.51.100.6", "198.51.100.5")?];
        let site_b = edge("site-b", "203.0.113.2", "203.0.113.1")?;
        let lan = Lan::new(lab, "lan")?;
        for (n, router) in (2..).zip(&routers) {
            lan.plug(&router.node, "lan0", &format!("10.1.0.{n}/24"))?;
        }
        let hosts = [lab.node("h1")?, lab.node("h2")?];
        lan.plug(&hosts[0], "lan0", "10.1.0.10/24")?;
        hosts[0].route(&format!("default via {GATEWAY}"))?;
        lab.join((&hosts[1], "lan0"), (&site_b.node, "lan0"))?;
        site_b.node.address("lan0", "10.2.0.1/24")?;
        hosts[1].address("lan0", "10.2.0.10/24")?;
        hosts[1].route("default via 10.2.0.1")?;
        // What leaves a site in the clear arrives: nothing but the edges' own care keeps it from leaving.
        ground.internet.ip_batch("route add 10.1.0.0/16 via 198.51.100.2\nroute add 10.2.0.0/16 via 203.0.113.2")?;
        Ok(Self { lab, routers, site_b, hosts, internet: ground.internet })
    }

    fn must_run(&mut self) -> Result<()> {
        self.routers.iter_mut().chain([&mut self.site_b]).try_for_each(Edge::must_run)
    }

    /// Whether router `n` is the gateway, as it says, as the host's ARP has it, and as no other router denies.
    fn is_gateway(&self, n: usize) -> Result<bool> {
        for (router, edge) in self.routers.iter().enumerate() {
            let holds = edge.node.ip("-4 address show dev lan0")?.contains(&format!("inet {GATEWAY}/24"));
            ensure!(holds == (router == n), "router {} {}", router + 1, if holds { "has it" } else { "has it not" });
        }
        let (wanted, known) = (hardware_address(&self.routers[n].node, "lan0")?, arp_entry(&self.hosts[0], GATEWAY)?);
        ensure!(known.as_ref() == Some(&wanted), "the host has it at {known:?}");
        let status = self.routers[n].json("show vrrp json")?;
        ensure!(status.pointer("/0/v4/status").is_some_and(|status| status == "Master"), "it is {status}");
        Ok(true)
    }

    /// Until router `n` is the gateway, and site B sends by it.
    fn wait_gateway(&self, n: usize) -> Result<()> {
        let tunnel = format!("router{}", n + 1);
        self.lab.wait_for(&format!("router {} is the gateway", n + 1), PATIENCE, || {
            ensure!(self.is_gateway(n)?, "it is not");
            let back = self.site_b.node.egress(IpAddr::V4(HOSTS[0]));
            ensure!(back.as_ref() == Some(&tunnel), "site B sends by {back:?}");
            Ok(true)
        })
    }

    /// Until everything is as it is while nothing is lost.
    fn wait_whole(&mut self) -> Result<()> {
        let lab = self.lab;
        lab.wait_for("every session is up", PATIENCE, || {
            self.must_run()?;
            for (router, neighbors) in
                self.routers.iter().zip([["169.254.1.2", "10.1.0.3"], ["169.254.2.2", "10.1.0.2"]])
            {
                let bfd = router.json("show bfd peers json")?;
                for neighbor in neighbors {
                    ensure!(router.is_established(neighbor)?, "{neighbor} is not up");
                    let session = bfd.as_array().into_iter().flatten().find(|session| session["peer"] == neighbor);
                    ensure!(
                        session.is_some_and(|session| session["status"] == "up"),
                        "BFD to {neighbor} is {session:?}"
                    );
                }
                let own = router.node.egress(IpAddr::V4(HOSTS[1]));
                ensure!(own.as_deref() == Some("site-b"), "{} sends by {own:?}", router.node.name());
            }
            Ok(true)
        })?;
        self.wait_gateway(0)
    }

    fn probe(&self) -> Result<Probe> {
        let at = |n: usize| SocketAddr::from((HOSTS[n], PORT));
        Probe::start((&self.hosts[0], at(0)), (&self.hosts[1], at(1)))
    }

    /// Waits until `count` more packets have come both ways.
    fn some_traffic(&self, probe: &Probe, count: u64) -> Result<()> {
        let before = probe.counts();
        self.lab.wait_for("traffic both ways", PATIENCE, || {
            Ok(probe.counts().iter().zip(before).all(|(now, before)| now.1 >= before.1 + count))
        })
    }

    /// Router 1's provider drops everything, or carries it again; no link goes down.
    fn set_provider(&self, carries: bool) -> Result<()> {
        let verb = if carries { "del" } else { "add" };
        self.internet.ip_batch(&format!(
            "rule {verb} from 198.51.100.2 priority 1 blackhole\nrule {verb} to 198.51.100.2 priority 2 blackhole"
        ))
    }

    fn why(&self, n: usize) -> Result<String> {
        let status = self.routers[n].json("show vrrp json")?;
        let unhealthy = status.pointer("/0/unhealthy").and_then(|list| list.as_array()).cloned().unwrap_or_default();
        Ok(unhealthy.iter().filter_map(|why| why.as_str()).collect::<Vec<_>>().join("; "))
    }
}

/// The page's story.
pub(super) fn play(lab: &Lab, binaries: &Binaries, story: &mut Story<'_>) -> Result<()> {
    let mut scene = DualRouter::build(lab, binaries)?;
    let capture = Capture::start(&scene.internet, |packet| !packet.outgoing)?;
    for edge in scene.routers.iter_mut().chain([&mut scene.site_b]) {
        edge.start()?;
    }
    lab.wait_for("the gateway answers", PATIENCE, || scene.hosts[0].ping(GATEWAY.parse()?, 1).map(|()| true))?;
    scene.wait_whole()?;
    story.tell("two tunnels and three sessions are up; router 1 is the hosts' gateway");

    let probe = scene.probe()?;
    scene.some_traffic(&probe, 200)?;
    scene.set_provider(false)?;
    story.tell("router 1's provider drops everything");
    scene.wait_gateway(1)?;
    story.tell(format!("router 2 is the gateway; router 1 says: {}", scene.why(0)?));
    scene.some_traffic(&probe, 500)?;
    story.outage("the hosts, whose gateway lost its tunnel", &probe.finish()?);
    let probe = scene.probe()?;
    scene.some_traffic(&probe, 200)?;
    scene.set_provider(true)?;
    scene.wait_whole()?;
    scene.some_traffic(&probe, 500)?;
    story.lossless("router 1 has its tunnel again and is the gateway again", &probe.finish()?)?;

    let probe = scene.probe()?;
    scene.some_traffic(&probe, 200)?;
    scene.routers[0].shell("terminate ipsec tunnel site-b")?;
    scene.wait_gateway(1)?;
    let why = scene.why(0)?;
    ensure!(why.contains("tunnel site-b is down"), "router 1 says: {why}");
    story.tell(format!("router 1's tunnel is taken down by hand: router 2 is the gateway; router 1 says: {why}"));
    scene.some_traffic(&probe, 500)?;
    story.outage("the hosts, whose gateway's tunnel was taken down", &probe.finish()?);
    let probe = scene.probe()?;
    scene.routers[0].shell("initiate ipsec tunnel site-b")?;
    scene.wait_whole()?;
    scene.some_traffic(&probe, 500)?;
    story.lossless("router 1's tunnel is up again, and it is the gateway again", &probe.finish()?)?;

    let probe = scene.probe()?;
    scene.some_traffic(&probe, 200)?;
    scene.routers[0].stop(STOP)?;
    story.tell("router 1 is stopped for an upgrade");
    scene.wait_gateway(1)?;
    scene.some_traffic(&probe, 500)?;
    story.outage("the hosts, whose gateway was stopped", &probe.finish()?);
    let probe = scene.probe()?;
    scene.some_traffic(&probe, 200)?;
    scene.routers[0].start()?;
    scene.wait_whole()?;
    scene.some_traffic(&probe, 500)?;
    story.lossless("router 1 is back, its routes are in, and it is the gateway again", &probe.finish()?)?;

    let probe = scene.probe()?;
    scene.some_traffic(&probe, 200)?;
    scene.routers[0].lose_power(&LINKS)?;
    // It may have been taken off in the last moment.
    scene.routers[0].node.ip(&format!("address flush dev lan0 to {GATEWAY}/32"))?;
    story.tell("router 1 loses its power");
    scene.wait_gateway(1)?;
    scene.some_traffic(&probe, 500)?;
    story.outage("the hosts, whose gateway lost its power", &probe.finish()?);
    let probe = scene.probe()?;
    scene.some_traffic(&probe, 200)?;
    // The default route went with the link.
    scene.routers[0].regain_power(&LINKS)?;
    scene.routers[0].node.ip("route replace default via 198.51.100.1")?;
    scene.wait_whole()?;
    scene.some_traffic(&probe, 500)?;
    story.lossless("router 1 has power again and is the gateway again", &probe.finish()?)?;

    let transport = vec!["198.51.100.0/24".parse()?, "203.0.113.0/24".parse()?];
    let leaks = Clearness { transport, secret: MAGIC.to_vec() }.findings(&capture.finish()?);
    ensure!(leaks.is_empty(), "in the clear: {leaks:?}");
    story.tell("in all that time the Internet saw IKE and ESP, and nothing in the clear");
    Ok(())
}
