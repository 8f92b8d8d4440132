//! Two routers that share one tunnel address: whoever has it has the tunnels, and the routes that they carry.
//!
//! ```text
//!            ┌─ router-a ─┐          ┌─ spoke1 ─ h2
//!   h1 ─ lan ┤            ├ wan ─ inet
//!            └─ router-b ─┘          └─ spoke2 (strongSwan) ─ h3
//! ```

mod ground;
mod others;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use self::ground::{GATEWAY, Ground, HOSTS, LINKS, ROUTERS, SHARED, SPOKES};
use super::{PATIENCE, Story};
use crate::capture::{Capture, Captured, Clearness};
use crate::edge::{Binaries, Edge};
use crate::kernel;
use crate::lab::Lab;
use crate::lan::{arp_entry, hardware_address};
use crate::probe::MAGIC;

pub use others::take_over as strongswan_takes_over;

const CONFIGURATIONS: [&str; 2] = [
    include_str!("../../../../examples/ipsec-ha/router-a.conf"),
    include_str!("../../../../examples/ipsec-ha/router-b.conf"),
];
/// What the routers announce the spokes' prefixes with.
const COMMUNITY: &str = "65001:100";
const STOP: Duration = Duration::from_secs(10);

struct Pair<'lab> {
    ground: Ground<'lab>,
    routers: [Edge; 2],
}

impl<'lab> Pair<'lab> {
    fn build(lab: &'lab Lab, binaries: &Binaries) -> Result<Self> {
        let ground = Ground::build(lab, binaries)?;
        let edge = |n: usize| Edge::new(&ground.routers[n], binaries, &kernel::fitted(CONFIGURATIONS[n]));
        let routers = [edge(0)?, edge(1)?];
        Ok(Self { ground, routers })
    }

    /// Until router `n` has the shared address, both tunnels, their routes and the hosts; and the other one, unless it is gone,
    /// knows.
    fn wait_holder(&mut self, n: usize, whole: bool) -> Result<()> {
        let lab = self.ground.lab;
        lab.wait_for(&format!("{} has the tunnels", ROUTERS[n]), PATIENCE, || {
            self.ground.spoke2.process.must_run()?;
            self.ground.spoke1.must_run()?;
            self.routers[n].must_run()?;
            self.holds(n)?;
            if whole {
                self.routers[1 - n].must_run()?;
                self.stands_by(1 - n)?;
            }
            Ok(true)
        })
    }

    fn holds(&self, n: usize) -> Result<()> {
        let router = &self.routers[n];
        ensure!(has_shared_address(router)?, "it has not {SHARED}");
        for ((spoke, _, prefix), host) in SPOKES.iter().zip(&HOSTS[1..]) {
            ensure!(router.tunnel_state(spoke)? == "up", "{spoke}: {}", router.shell("show ipsec tunnel")?);
            router.must_have_the_labs_datapath(spoke)?;
            let way = router.node.egress(IpAddr::V4(*host));
            ensure!(way.as_deref() == Some(spoke), "it sends to {prefix} by {way:?}");
            let (own, community) = announced(router, prefix)?;
            ensure!(own && community == COMMUNITY, "{prefix} is own: {own}, with {community:?}");
        }
        let (wanted, known) = (hardware_address(&router.node, "lan0")?, arp_entry(&self.ground.hosts[0], GATEWAY)?);
        ensure!(known.as_ref() == Some(&wanted), "the host has its gateway at {known:?}");
        Ok(())
    }

    fn stands_by(&self, n: usize) -> Result<()> {
        let router = &self.routers[n];
        ensure!(!has_shared_address(router)?, "it has {SHARED}");
        let tunnels = router.json("show ipsec tunnel json")?;
        for ((spoke, _, prefix), host) in SPOKES.iter().zip(&HOSTS[1..]) {
            let cause = tunnels.pointer(&format!("/{spoke}/cause")).and_then(Value::as_str);
            ensure!(cause == Some(&format!("{SHARED} is not on the WAN link")), "{spoke} is down: {cause:?}");
            let way = router.node.egress(IpAddr::V4(*host));
            ensure!(way.as_deref() == Some("lan0"), "it sends to {prefix} by {way:?}");
            let (own, community) = announced(router, prefix)?;
            ensure!(!own && community == COMMUNITY, "{prefix} is own: {own}, with {community:?}");
        }
        Ok(())
    }

    /// While router `n` has the tunnels, nothing on the WAN comes from the shared address but by that router. A machine that
    /// is too busy for VRRP's intervals is looked at again: the address has moved then.
    fn check_silence(&self, n: usize) -> Result<()> {
        let captured = self.ground.lab.wait_until("no router to change its role", PATIENCE, || {
            let before = self.roles_taken()?;
            let probes = self.ground.probes()?;
            let capture = Capture::start(&self.ground.wan.switch, |packet| !packet.outgoing)?;
            self.ground.some_traffic(&probes, 500)?;
            let captured = capture.finish()?;
            for probe in probes {
                probe.finish()?;
            }
            Ok((self.roles_taken()? == before).then_some(captured))
        })?;
        let [holder, other] = [n, 1 - n].map(|n| sent_as_shared(&captured, ROUTERS[n]));
        ensure!(holder > 0, "nothing from {SHARED} by {}", ROUTERS[n]);
        ensure!(other == 0, "{other} packets from {SHARED} by {}", ROUTERS[1 - n]);
        Ok(())
    }

    /// How often the routers have changed their roles on the WAN, which none of them does while it hears the other.
    fn roles_taken(&self) -> Result<[u64; 2]> {
        let count = |router: &Edge| -> Result<u64> {
            let groups = router.json("show vrrp json")?;
            let wan = groups.as_array().into_iter().flatten().find(|group| group["interface"] == "wan0");
            let count = wan.and_then(|group| group.pointer("/v4/stats/transitions")?.as_u64());
            count.with_context(|| format!("no transitions on wan0 in {groups}"))
        };
        Ok([count(&self.routers[0])?, count(&self.routers[1])?])
    }
}

fn has_shared_address(router: &Edge) -> Result<bool> {
    Ok(router.node.ip("-4 address show dev wan0")?.contains(&format!("inet {SHARED}/")))
}

/// Whether BGP has the prefix from the router itself, and with which communities.
fn announced(router: &Edge, prefix: &str) -> Result<(bool, String)> {
    let route = router.json(&format!("show bgp ipv4 unicast {prefix} json"))?;
    let paths = route.get("paths").and_then(Value::as_array);
    let best = paths.into_iter().flatten().find(|path| path.get("bestpath").is_some());
    let best = best.with_context(|| format!("{} has no path to {prefix}", router.node.name()))?;
    let community = best.pointer("/community/string").and_then(Value::as_str).unwrap_or_default();
    Ok((best.get("local").is_some(), community.to_owned()))
}

/// Packets from the shared address that came to the switch from a router.
fn sent_as_shared(captured: &Captured, router: &str) -> usize {
    let shared = |source: IpAddr| source == IpAddr::V4(SHARED);
    let packets = captured.packets.iter().filter(|packet| captured.interface(packet) == router);
    packets.filter(|packet| packet.header().is_some_and(|header| shared(header.source))).count()
}

/// The page's story.
pub(super) fn play(lab: &Lab, binaries: &Binaries, story: &mut Story<'_>) -> Result<()> {
    let mut scene = Pair::build(lab, binaries)?;
    let outside =
        [&scene.ground.internet, &scene.ground.wan.switch].map(|node| Capture::start(node, |packet| !packet.outgoing));
    for edge in scene.routers.iter_mut().chain([&mut scene.ground.spoke1]) {
        edge.start()?;
    }
    lab.wait_for("the gateway answers", PATIENCE, || scene.ground.hosts[0].ping(GATEWAY.parse()?, 1).map(|()| true))?;
    scene.wait_holder(0, true)?;
    scene.check_silence(0)?;
    story
        .tell(format!("router a has {SHARED} and both tunnels; router b has the spokes by router a, and says nothing"));

    let probes = scene.ground.probes()?;
    lose_power(&mut scene.routers[0])?;
    story.tell("router a loses its power");
    scene.wait_holder(1, false)?;
    scene.ground.tell_outage(story, "router b has taken over", probes)?;
    let probes = scene.ground.probes()?;
    let whole = kernel::fitted(CONFIGURATIONS[0]);
    let patient = whole.replace("preempt delay 5\n", "preempt delay 3600\n");
    ensure!(patient != whole, "the example has the delay that is replaced");
    // However slow the machine, it is seen to stand by.
    scene.routers[0].configure(&patient)?;
    // The default route went with the link.
    scene.routers[0].regain_power(&LINKS)?;
    scene.routers[0].node.ip("route replace default via 198.51.100.1")?;
    lab.wait_for("router a stands by", PATIENCE, || scene.stands_by(0).map(|()| true))?;
    story.tell("router a has power again: it has the spokes by router b, and waits");
    scene.routers[0].configure(&whole)?;
    scene.routers[0].reload()?;
    scene.wait_holder(0, true)?;
    scene.ground.tell_outage(story, "router a has its tunnels again", probes)?;

    let probes = scene.ground.probes()?;
    scene.routers[0].configure(&whole.replace("vrrp 20 priority 200", "vrrp 20 priority 100"))?;
    scene.routers[0].reload()?;
    story.tell("router a's priority is lowered: a hand-over that is planned");
    scene.wait_holder(1, true)?;
    scene.ground.tell_outage(story, "router b was handed the tunnels", probes)?;
    scene.check_silence(1)?;
    story.tell("router b has the tunnels, and router a says nothing");
    let probes = scene.ground.probes()?;
    scene.routers[0].configure(&whole)?;
    scene.routers[0].reload()?;
    scene.wait_holder(0, true)?;
    scene.ground.tell_outage(story, "router a was handed them back", probes)?;

    let probes = scene.ground.probes()?;
    scene.routers[0].stop(STOP)?;
    story.tell("router a is stopped for an upgrade");
    scene.wait_holder(1, false)?;
    scene.ground.tell_outage(story, "router b has taken over from a router that was stopped", probes)?;
    scene.routers[0].start()?;
    scene.wait_holder(0, true)?;
    story.tell("router a is back and has its tunnels again");

    lab.wait_for("strongSwan has one association left", PATIENCE, || {
        let sas = scene.ground.spoke2.sas()?;
        ensure!(sas.matches("INSTALLED").count() == 1, "{sas}");
        Ok(true)
    })?;
    scene.routers[0].shell("terminate ipsec tunnel spoke1")?;
    lab.wait_for("both routers know nothing of spoke 1", PATIENCE, || {
        let gone = |router: &Edge| announced(router, SPOKES[0].2).is_err();
        ensure!(scene.routers.iter().all(gone), "it is still announced");
        // Not into the clear either.
        for router in &scene.routers {
            let way = router.node.egress(IpAddr::V4(HOSTS[1]));
            ensure!(way.is_none(), "{} sends to it by {way:?}", router.node.name());
        }
        Ok(true)
    })?;
    story.tell("spoke 1's tunnel is taken down by hand: its prefix is withdrawn, and dropped at both routers");

    let transport = ["198.51.100.0/24".parse()?, "203.0.113.0/24".parse()?];
    let judge = Clearness { transport: transport.to_vec(), secret: MAGIC.to_vec() };
    for capture in outside {
        let leaks = judge.findings(&capture?.finish()?);
        ensure!(leaks.is_empty(), "in the clear: {leaks:?}");
    }
    story.tell("in all that time the WAN and the Internet saw IKE, ESP and VRRP, and nothing in the clear");
    Ok(())
}

/// With everything that it had put into the kernel: an address may have been taken off in the last moment.
fn lose_power(router: &mut Edge) -> Result<()> {
    router.lose_power(&LINKS)?;
    router.node.ip(&format!("address flush dev wan0 to {SHARED}/32"))?;
    router.node.ip(&format!("address flush dev lan0 to {GATEWAY}/32")).map(drop)
}
