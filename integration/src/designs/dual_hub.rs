//! Two hubs and two spokes: both directions by one hub, a hub drained and stopped without a loss, a hub that dies.
//!
//! ```text
//!          ┌─ hub1 ─┐        ┌─ s1 ─ h1
//!   core ──┤   │    ├─ inet ─┤
//!          └─ hub2 ─┘        └─ s2 ─ h2
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::ground::{Ground, router};
use super::{PATIENCE, Story};
use crate::capture::{Capture, Clearness};
use crate::edge::{Binaries, Edge};
use crate::lab::Lab;
use crate::node::Node;
use crate::peers::Frr;
use crate::probe::{MAGIC, PORT, Probe};

const CONFIGURATIONS: [(&str, &str); 4] = [
    ("hub1", include_str!("../../../examples/dual-hub/hub1.conf")),
    ("hub2", include_str!("../../../examples/dual-hub/hub2.conf")),
    ("spoke1", include_str!("../../../examples/dual-hub/spoke1.conf")),
    ("spoke2", include_str!("../../../examples/dual-hub/spoke2.conf")),
];
const CORE: &str = include_str!("../../../examples/dual-hub/core.conf");
/// At headquarters, on the core router itself.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
/// Of a hub.
const LINKS: [&str; 3] = ["wan0", "lan0", "peer0"];
const STOP: Duration = Duration::from_secs(10);

struct DualHub<'lab> {
    lab: &'lab Lab,
    hubs: [Edge; 2],
    spokes: [Edge; 2],
    hosts: [Node; 2],
    core_node: Node,
    core: Frr,
    internet: Node,
}

/// A host of a spoke.
fn host(spoke: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 1 + spoke as u8, 0, 10)
}

impl<'lab> DualHub<'lab> {
    fn build(lab: &'lab Lab, binaries: &Binaries, configurations: &[(&str, &str)]) -> Result<Self> {
        let ground = Ground::new(lab, binaries, "Dual hub CA", configurations)?;
        let edge = |name: &str, address: &str, gateway: &str| ground.edge(name, address, gateway);
        let core_node = router(lab, "core")?;
        let hubs = [edge("hub1", "198.51.100.2", "198.51.100.1")?, edge("hub2", "198.51.100.6", "198.51.100.5")?];
        let spokes = [edge("spoke1", "203.0.113.2", "203.0.113.1")?, edge("spoke2", "203.0.113.6", "203.0.113.5")?];
        for (n, hub) in (1..).zip(&hubs) {
            lab.join((&hub.node, "lan0"), (&core_node, &format!("hub{n}")))?;
            hub.node.ip(&format!("address add 10.0.{n}.1/30 dev lan0"))?;
            core_node.ip(&format!("address add 10.0.{n}.2/30 dev hub{n}"))?;
        }
        lab.join((&hubs[0].node, "peer0"), (&hubs[1].node, "peer0"))?;
        for (n, hub) in (1..).zip(&hubs) {
            hub.node.ip(&format!("address add 10.0.3.{n}/30 dev peer0"))?;
        }
        core_node.ip(&format!("address add {SERVER}/32 dev lo"))?;
        let mut hosts = Vec::new();
        for (n, spoke) in (1..).zip(&spokes) {
            let host = router(lab, &format!("host{n}"))?;
            lab.join((&host, "lan0"), (&spoke.node, "lan0"))?;
            spoke.node.ip(&format!("address add 10.{n}.0.1/24 dev lan0"))?;
            host.ip_batch(&format!("address add 10.{n}.0.10/24 dev lan0\nroute add default via 10.{n}.0.1"))?;
            hosts.push(host);
        }
        // What leaves a site in the clear arrives: nothing but the edges' own care keeps it from leaving.
        ground.internet.ip_batch(
            "route add 10.0.0.0/16 via 198.51.100.2\nroute add 10.1.0.0/16 via 203.0.113.2\n\
             route add 10.2.0.0/16 via 203.0.113.6",
        )?;
        let core = Frr::start(&core_node, &["bfdd", "bgpd"], CORE)?;
        let hosts = hosts.try_into().ok().context("two hosts")?;
        Ok(Self { lab, hubs, spokes, hosts, core_node, core, internet: ground.internet })
    }

    /// By which hub spoke `n`'s traffic goes to headquarters, and comes back.
    fn ways(&self, n: usize) -> (Option<String>, Option<String>) {
        let there = self.spokes[n].node.egress(IpAddr::V4(SERVER));
        let back = self.core_node.egress(IpAddr::V4(host(n)));
        (there, back)
    }

    fn wait_way(&mut self, n: usize, hub: &str) -> Result<()> {
        self.must_run()?;
        wait_way(self.lab, self, n, hub)
    }

    /// Until every spoke's way is as the configurations say, and the other hub stands by.
    fn wait_converged(&mut self) -> Result<()> {
        for n in 0..2 {
            self.wait_way(n, &format!("hub{}", n + 1))?;
        }
        let lab = self.lab;
        lab.wait_for("two paths to everything", PATIENCE, || {
            for n in 1..=2u8 {
                let spoke = &self.spokes[usize::from(n) - 1];
                for hub in 1..=2u8 {
                    ensure!(spoke.prefixes_from(&format!("169.254.{hub}{n}.1"))? >= 2, "spoke {n} from hub {hub}");
                }
                let paths = self.core.json(&format!("show bgp ipv4 unicast 10.{n}.0.0/24 json"))?;
                let count = paths.pointer("/paths").and_then(|paths| paths.as_array()).map_or(0, Vec::len);
                ensure!(count == 2, "the core router has {count} paths to 10.{n}.0.0/24");
            }
            Ok(true)
        })
    }

    /// Until all neighbors of a hub are there.
    fn wait_sessions(&mut self, hub: usize) -> Result<()> {
        let lab = self.lab;
        lab.wait_for(&format!("all neighbors of hub {}", hub + 1), PATIENCE, || {
            self.must_run()?;
            let n = hub + 1;
            for neighbor in [&format!("169.254.{n}1.2"), &format!("169.254.{n}2.2"), &format!("10.0.{n}.2")] {
                ensure!(self.hubs[hub].is_established(neighbor)?, "{neighbor} is not up");
            }
            Ok(true)
        })
    }

    fn must_run(&mut self) -> Result<()> {
        self.hubs.iter_mut().chain(&mut self.spokes).try_for_each(Edge::must_run)
    }

    fn probe(&self, n: usize) -> Result<Probe> {
        let (here, there) = (SocketAddr::from((host(n), PORT)), SocketAddr::from((SERVER, PORT)));
        Probe::start((&self.hosts[n], here), (&self.core_node, there))
    }

    /// Waits until `count` more packets have come both ways.
    fn some_traffic(&self, probe: &Probe, count: u64) -> Result<()> {
        let before = probe.counts();
        self.lab.wait_for("traffic both ways", PATIENCE, || {
            Ok(probe.counts().iter().zip(before).all(|(now, before)| now.1 >= before.1 + count))
        })
    }
}

fn wait_way(lab: &Lab, scene: &DualHub<'_>, n: usize, hub: &str) -> Result<()> {
    let wanted = (Some(hub.to_owned()), Some(hub.to_owned()));
    lab.wait_for(&format!("spoke {} by {hub} both ways", n + 1), PATIENCE, || {
        ensure!(scene.ways(n) == wanted, "it is {:?}", scene.ways(n));
        Ok(true)
    })
}

/// The page's story.
pub(super) fn play(lab: &Lab, binaries: &Binaries, story: &mut Story<'_>) -> Result<()> {
    play_with(lab, binaries, &CONFIGURATIONS, story)
}

/// The same story where headquarters decides by MED, as the page says that it may: no local preference, and no prepended path,
/// which would decide before it.
pub fn play_by_med(lab: &Lab, binaries: &Binaries, tell: &mut dyn FnMut(&str)) -> Result<()> {
    let by_med = CONFIGURATIONS.map(|(name, text)| {
        let text = if name.starts_with("hub") {
            text.replace("set local-preference 200", "set metric 50")
                .replace("set local-preference 50", "set metric 200")
        } else {
            text.lines().filter(|line| !line.contains("prepend")).map(|line| format!("{line}\n")).collect()
        };
        (name, text)
    });
    let configurations = by_med.each_ref().map(|(name, text)| (*name, text.as_str()));
    play_with(lab, binaries, &configurations, &mut Story { tell })
}

fn play_with(lab: &Lab, binaries: &Binaries, configurations: &[(&str, &str); 4], story: &mut Story<'_>) -> Result<()> {
    let mut scene = DualHub::build(lab, binaries, configurations)?;
    let capture = Capture::start(&scene.internet, |packet| !packet.outgoing)?;
    for edge in scene.hubs.iter_mut().chain(&mut scene.spokes) {
        edge.start()?;
    }
    scene.wait_converged()?;
    story.tell("four tunnels and seven sessions are up; spoke 1 uses hub 1 both ways, spoke 2 uses hub 2");

    let probe = scene.probe(0)?;
    story.tell("traffic of spoke 1 begins");
    scene.some_traffic(&probe, 200)?;
    let [(_, hub1), ..] = *configurations;
    let drained = hub1.replace(" bgp router-id", " bgp graceful-shutdown\n bgp router-id");
    scene.hubs[0].configure(&drained)?;
    scene.hubs[0].reload()?;
    scene.wait_way(0, "hub2")?;
    story.tell("hub 1 is told to drain (bgp graceful-shutdown): spoke 1 goes by hub 2 both ways");
    scene.some_traffic(&probe, 200)?;
    scene.hubs[0].stop(STOP)?;
    scene.some_traffic(&probe, 500)?;
    story.tell("hub 1 is stopped for its maintenance");
    scene.hubs[0].start()?;
    scene.wait_sessions(0)?;
    story.tell("hub 1 is back with all its sessions");
    scene.hubs[0].configure(hub1)?;
    scene.hubs[0].reload()?;
    scene.wait_converged()?;
    scene.some_traffic(&probe, 500)?;
    story.tell("it drains no more: spoke 1 uses it again");
    story.lossless("maintenance of hub 1, as spoke 1 saw it", &probe.finish()?)?;

    let probe = scene.probe(1)?;
    scene.some_traffic(&probe, 200)?;
    scene.hubs[1].lose_power(&LINKS)?;
    story.tell("hub 2 loses its power");
    wait_way(lab, &scene, 1, "hub1")?;
    scene.some_traffic(&probe, 500)?;
    story.outage("spoke 2, whose first hub it was", &probe.finish()?);
    let noticed = scene.spokes[1].failovers()?;
    let last = noticed.last().context("spoke 2 has the fault in its log")?;
    story.tell(format!(
        "spoke 2 noticed by {}; its FIB had switched {} µs later, {} routes",
        last.cause,
        last.fib_switch_us.context("it says how long the switch took")?,
        last.routes_moved
    ));
    let probe = scene.probe(1)?;
    // The default route went with the link.
    scene.hubs[1].regain_power(&LINKS)?;
    scene.hubs[1].node.ip("route replace default via 198.51.100.5")?;
    scene.wait_converged()?;
    scene.some_traffic(&probe, 500)?;
    story.lossless("hub 2 has power again and is used again", &probe.finish()?)?;

    let transport = vec!["198.51.100.0/24".parse()?, "203.0.113.0/24".parse()?];
    let leaks = Clearness { transport, secret: MAGIC.to_vec() }.findings(&capture.finish()?);
    ensure!(leaks.is_empty(), "in the clear: {leaks:?}");
    story.tell("in all that time the Internet saw IKE and ESP, and nothing in the clear");
    Ok(())
}
