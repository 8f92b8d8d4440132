//! GRE interfaces protected by ESP in transport mode: to a router that knows only that, and to a hub of ours.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};

use super::ground::{Ground, router};
use super::{PATIENCE, Story};
use crate::capture::{Capture, Clearness};
use crate::edge::{Binaries, Daemon, Edge};
use crate::kernel;
use crate::lab::Lab;
use crate::node::Node;
use crate::peers::{Connection, Frr, Secret, StrongSwan};
use crate::probe::{MAGIC, PORT, Probe};

const EDGE: &str = include_str!("../../../examples/gre-over-ipsec/edge.conf");
const HUB: &str = include_str!("../../../examples/gre-over-ipsec/hub.conf");
const ROUTER: &str = include_str!("../../../examples/gre-over-ipsec/router.frr");
const CONFIGURATIONS: &[(&str, &str)] = &[("edge", EDGE), ("hub", HUB)];
/// An address of the router's and of the hub's: whoever is asked answers.
const HOST: [u8; 4] = [10, 2, 0, 10];
const INSIDE: [u8; 4] = [10, 1, 0, 1];
/// Outside and inside: what it sends in the clear while it has no SA, or no interface, is its own affair.
const OF_ROUTER: [[u8; 4]; 2] = [[203, 0, 113, 2], [169, 254, 31, 1]];

struct Scene {
    internet: Node,
    edge: Edge,
    hub: Edge,
    router: Node,
    connection: Connection,
}

impl Scene {
    fn build(lab: &Lab, binaries: &Binaries) -> Result<Self> {
        let ground = Ground::new(lab, binaries, "GRE CA", CONFIGURATIONS)?;
        let edge = ground.edge("edge", "198.51.100.2", "198.51.100.1")?;
        let hub = ground.edge("hub", "192.0.2.2", "192.0.2.1")?;
        edge.node.ip("address add 10.1.0.1/24 dev lo")?;
        let (router, credential) = ground.foreign("router", "203.0.113.2", "203.0.113.1")?;
        for node in [&hub.node, &router] {
            node.ip("address add 10.2.0.10/24 dev lo")?;
        }
        router.ip_batch(
            "link add gre1 type gre local 203.0.113.2 remote 198.51.100.2 ttl 64\nlink set gre1 mtu 1400 up\n\
             address add 169.254.31.1/30 dev gre1",
        )?;
        let connection = Connection {
            local: "203.0.113.2".to_owned(),
            remote: "198.51.100.2".to_owned(),
            local_id: "router.example.net".to_owned(),
            remote_id: "edge.example.net".to_owned(),
            selectors: ("dynamic[gre]".to_owned(), "dynamic[gre]".to_owned()),
            ike: "aes256gcm16-prfsha384-ecp384".to_owned(),
            esp: "aes256gcm16".to_owned(),
            secret: Secret::Certificate(credential),
            more: String::new(),
            more_child: "mode = transport\n start_action = trap".to_owned(),
        };
        Ok(Self { internet: ground.internet, edge, hub, router, connection })
    }

    /// What our two ends send.
    fn capture(&self) -> Result<Capture> {
        Capture::start(&self.internet, |packet| {
            let source = packet.header().map(|header| header.source);
            !packet.outgoing && !OF_ROUTER.iter().any(|router| source == Some(IpAddr::from(*router)))
        })
    }

    fn clean(capture: Capture, at_least: usize) -> Result<()> {
        let transport = ["198.51.100.0/30", "203.0.113.0/30", "192.0.2.0/30"];
        let transport = transport.iter().map(|net| net.parse()).collect::<Result<_, _>>()?;
        let judge = Clearness { transport, secret: MAGIC.to_vec() };
        let captured = capture.finish()?;
        let findings = judge.findings(&captured);
        ensure!(findings.is_empty(), "in the clear: {findings:?}");
        let esp = captured.packets.iter().filter(|packet| packet.header().is_some_and(|header| header.protocol == 50));
        let esp = esp.count();
        ensure!(esp >= at_least, "only {esp} packets of ESP were captured");
        Ok(())
    }

    /// Waits until packets for the host go by this interface, and are answered.
    fn goes_by(&mut self, lab: &Lab, interface: &str) -> Result<()> {
        lab.wait_for(&format!("an answer by {interface}"), PATIENCE, || {
            self.edge.must_run()?;
            let way = self.edge.node.egress(HOST.into());
            ensure!(way.as_deref() == Some(interface), "it goes by {way:?}");
            self.ping().map(|()| true)
        })
    }

    fn ping(&self) -> Result<()> {
        let words = ["ping", "-n", "-q", "-c", "1", "-w", "2", "-I", "10.1.0.1", "10.2.0.10"];
        self.edge.node.run(&words).map(drop)
    }

    /// Traffic both ways with the router, or with the hub.
    fn probe(&self, with: &Node) -> Result<Probe> {
        let at = |address: [u8; 4]| SocketAddr::from((address, PORT));
        Probe::start((&self.edge.node, at(INSIDE)), (with, at(HOST)))
    }

    fn rekeyed(&self, tunnel: &str, counter: &str) -> Result<u64> {
        let shown = self.edge.json("show ipsec tunnel json")?;
        shown.pointer(&format!("/{tunnel}/{counter}")).and_then(serde_json::Value::as_u64).context("no such counter")
    }
}

/// How many packets a machine's IPsec has dropped.
fn errors(node: &Node) -> Result<u64> {
    let text = node.run(&["cat", "/proc/net/xfrm_stat"])?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum())
}

/// Waits for so many more packets both ways.
fn some_traffic(lab: &Lab, probe: &Probe) -> Result<()> {
    let before = probe.counts();
    lab.wait_for("traffic both ways", PATIENCE, || {
        Ok(probe.counts().iter().zip(before).all(|(now, before)| now.1 >= before.1 + 40))
    })
}

/// The page's story.
pub(super) fn play(lab: &Lab, binaries: &Binaries, story: &mut Story<'_>) -> Result<()> {
    kernel::ensure_gre(&router(lab, "asks")?)?;
    let mut scene = Scene::build(lab, binaries)?;
    let capture = scene.capture()?;
    scene.edge.start()?;
    lab.wait_for("the interfaces", PATIENCE, || {
        let way = |address: [u8; 4]| scene.edge.node.egress(address.into());
        Ok((way([169, 254, 31, 1]), way([169, 254, 32, 1])) == (Some("gre1".into()), Some("gre2".into())))
    })?;
    for neighbor in ["169.254.31.1", "169.254.32.1"] {
        ensure!(
            scene.edge.node.run(&["ping", "-c", "3", "-i", "0.2", "-w", "2", neighbor]).is_err(),
            "{neighbor} answers"
        );
    }
    Scene::clean(capture, 0)?;
    story.tell("nobody is there yet: what is sent into the tunnels does not leave, in the clear or otherwise");

    let capture = scene.capture()?;
    scene.hub.start()?;
    let swan = StrongSwan::start_route_based(&scene.router, &scene.connection)?;
    let frr = Frr::start(&scene.router, &["bgpd"], ROUTER)?;
    lab.wait_for("the sessions", PATIENCE, || {
        let ours = scene.edge.is_established("169.254.31.1")? && scene.edge.is_established("169.254.32.1")?;
        Ok(ours && frr.is_established("169.254.31.2")?)
    })?;
    scene.goes_by(lab, "gre1")?;
    let states = scene.router.ip("xfrm state")?;
    ensure!(states.contains("mode transport"), "{states}");
    story.tell("both tunnels are up, with strongSwan and with Holdfast; BGP runs in them, traffic goes by the router");

    for (who, what, counter) in
        [("edge", "", "childRekeys"), ("router", "net", "childRekeys"), ("edge", " ike", "ikeRekeys")]
    {
        let before = scene.rekeyed("gre1", counter)?;
        let errors = [errors(&scene.edge.node)?, errors(&scene.router)?];
        let probe = scene.probe(&scene.router)?;
        some_traffic(lab, &probe)?;
        match who {
            "edge" => scene.edge.shell(&format!("rekey ipsec tunnel gre1{what}")),
            _ => swan.rekey(&format!("--child {what}")),
        }?;
        lab.wait_for("the rekey", PATIENCE, || Ok(scene.rekeyed("gre1", counter)? > before))?;
        some_traffic(lab, &probe)?;
        let flows = probe.finish()?;
        let [ours, theirs] = [self::errors(&scene.edge.node)? - errors[0], self::errors(&scene.router)? - errors[1]];
        let lost = flows.forth.lost(0, i64::MAX) + flows.back.lost(0, i64::MAX);
        ensure!(ours == 0, "{lost} lost, the edge has dropped {ours}");
        // When it ends its old association, a packet of its own may be in that one's hands.
        if lost == 0 || theirs < lost as u64 {
            story.lossless(&format!("keys renewed by the {who}"), &flows)?;
        } else {
            story
                .tell(format!("keys renewed by the {who}: none lost by us, {lost} by the router, as its counters say"));
        }
    }

    swan.load(&[])?; // it would begin again at once
    swan.swanctl("--terminate --ike net")?;
    scene.goes_by(lab, "gre2")?;
    let told = scene.edge.failovers()?;
    let event = told.iter().find(|event| event.cause == "tunnelDown" && event.tunnel.as_deref() == Some("gre1"));
    let event = event.with_context(|| format!("no tunnelDown of gre1 in {told:?}"))?;
    ensure!(event.fib_switched_at_unix_us.is_some(), "{event:?}");
    story.tell(format!(
        "the router deletes its SAs: bgpd is told, and the FIB has gone over to the hub in {} us",
        event.fib_switch_us.unwrap_or_default()
    ));
    let probe = scene.probe(&scene.hub.node)?;
    some_traffic(lab, &probe)?;
    let before = scene.rekeyed("gre2", "childRekeys")?;
    scene.hub.shell("rekey ipsec tunnel edge")?;
    lab.wait_for("the rekey", PATIENCE, || Ok(scene.rekeyed("gre2", "childRekeys")? > before))?;
    some_traffic(lab, &probe)?;
    story.lossless("keys renewed by the hub", &probe.finish()?)?;
    Scene::clean(capture, 200)?;

    let capture = scene.capture()?;
    swan.load(&[("net".to_owned(), scene.connection.clone())])?;
    scene.goes_by(lab, "gre1")?;
    story.tell("the router takes part again: traffic returns to it");
    scene.router.ip("link set gre1 down")?;
    scene.goes_by(lab, "gre2")?;
    let cause = scene.edge.json("show ipsec tunnel json")?;
    let cause = cause.pointer("/gre1/cause").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    ensure!(cause.contains("169.254.31.1"), "gre1 is down: {cause:?}");
    story.tell("the router's interface is set down, its SAs stay: the probe notices, traffic goes by the hub");
    scene.router.ip("link set gre1 up")?;
    scene.goes_by(lab, "gre1")?;
    lab.wait_for("the session in it", PATIENCE, || {
        Ok(scene.edge.is_established("169.254.31.1")? && frr.is_established("169.254.31.2")?)
    })?;

    scene.edge.kill(Daemon::Ipsecd)?;
    // Where a tunnel leads that nobody tells of, traffic may go by either.
    let words = ["ping", "-n", "-q", "-c", "25", "-i", "0.2", "-W", "5", "-I", "10.1.0.1", "10.2.0.10"];
    let said = scene.edge.node.run(&words)?;
    ensure!(said.contains(" 0% packet loss"), "while ipsecd is dead: {said}");
    story.tell("ipsecd is killed: the kernel goes on by its associations, 25 of 25 pings are answered");
    scene.edge.start_ipsecd()?;
    lab.wait_for("both tunnels again", PATIENCE, || {
        Ok(["gre1", "gre2"].iter().all(|tunnel| scene.edge.tunnel_state(tunnel).is_ok_and(|state| state == "up")))
    })?;
    scene.goes_by(lab, "gre1")?;
    story.tell("it starts again, takes up interfaces and SAs, and negotiates new ones");
    scene.edge.kill(Daemon::Ipsecd)?;
    scene.edge.node.ip("xfrm state flush")?;
    ensure!(scene.ping().is_err(), "somebody answers although there is no SA");
    scene.edge.start_ipsecd()?;
    scene.goes_by(lab, "gre1")?;
    story.tell("killed once more, and its SAs taken out of the kernel: nothing leaves until it is back");
    Scene::clean(capture, 200)?;
    story.tell("in all that time nothing of ours was in the clear");
    Ok(())
}
