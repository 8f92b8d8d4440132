//! Two tunnels to a cloud gateway that has no BFD: silence and ESP lost one way, noticed and evaded from our side alone.
//!
//! ```text
//! host ── edge ── isp ──┬── endpoint1 ──┬── vpc     198.51.100.2; 203.0.113.6 and 203.0.113.10
//!                       └── endpoint2 ──┘
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};

use super::ground::router;
use super::{PATIENCE, Story};
use crate::capture::{Capture, Clearness};
use crate::edge::{Binaries, Edge};
use crate::lab::Lab;
use crate::node::Node;
use crate::peers::{Connection, Frr, Secret, StrongSwan};
use crate::probe::{MAGIC, PORT, Probe};
use crate::{packages, pki};

const SITE: &str = include_str!("../../../examples/cloud-detection/site.conf");
const HOST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 10);
/// In the cloud, on its router itself.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 10);
/// What a gateway's documents allow.
const SUITE: &str = "aes256-sha256-modp2048";

struct Cloud<'lab> {
    lab: &'lab Lab,
    edge: Edge,
    host: Node,
    isp: Node,
    /// What runs at the gateway; it ends with this value.
    _endpoints: Vec<(StrongSwan, Frr)>,
    vpc: Node,
    _router: Frr,
}

/// What the ISP does to the first tunnel's packets.
#[derive(Clone, Copy)]
enum Fault {
    /// Drops them all.
    Silent,
    /// Drops ESP that comes from the cloud; IKE passes.
    EspBack,
    /// Drops ESP that goes to the cloud; IKE passes.
    EspForth,
}

impl Fault {
    /// Lines for a chain of nftables. On port 4500 four octets of zero precede IKE, and none precede ESP (RFC 3948 §2).
    fn rules(self) -> &'static str {
        match self {
            Self::Silent => "ip saddr 203.0.113.6 drop\n ip daddr 203.0.113.6 drop",
            Self::EspBack => "ip saddr 203.0.113.6 udp sport 4500 @th,64,32 != 0 drop",
            Self::EspForth => "ip daddr 203.0.113.6 udp dport 4500 @th,64,32 != 0 drop",
        }
    }
}

impl<'lab> Cloud<'lab> {
    fn build(lab: &'lab Lab, binaries: &Binaries) -> Result<Self> {
        packages::ensure(&packages::PEERS)?;
        packages::ensure(&packages::NAT)?;
        let node = |name: &str| router(lab, name);
        let (edge, isp, vpc, host) = (node("edge")?, node("isp")?, node("vpc")?, node("host")?);
        lab.join((&edge, "eth0"), (&isp, "to-edge"))?;
        lab.join((&host, "lan0"), (&edge, "lan0"))?;
        isp.address("to-edge", "198.51.100.1/30")?;
        edge.ip_batch(
            "address add 198.51.100.2/30 dev eth0\naddress add 10.1.0.1/24 dev lan0\nroute add default via 198.51.100.1",
        )?;
        host.ip_batch(&format!("address add {HOST}/24 dev lan0\nroute add default via 10.1.0.1"))?;
        vpc.ip(&format!("address add {SERVER}/16 dev lo"))?;
        let nodes = [node("endpoint1")?, node("endpoint2")?];
        let endpoints = (1u8..).zip(&nodes).map(|(number, node)| endpoint(lab, number, node, &isp, &vpc));
        let endpoints = endpoints.collect::<Result<Vec<_>>>()?;
        // What leaves in the clear arrives: nothing but the edge's own care keeps it from leaving.
        isp.ip_batch("route add 10.1.0.0/24 via 198.51.100.2\nroute add 10.2.0.0/16 via 203.0.113.6")?;
        let router = Frr::start(
            &vpc,
            &["bgpd"],
            "router bgp 64512\n bgp router-id 10.2.0.10\n no bgp network import-check\n \
             neighbor 10.255.1.1 remote-as 64512\n neighbor 10.255.1.1 timers connect 2\n \
             neighbor 10.255.2.1 remote-as 64512\n neighbor 10.255.2.1 timers connect 2\n \
             address-family ipv4 unicast\n  network 10.2.0.0/16\n exit-address-family\n",
        )?;
        for tunnel in ["aws1", "aws2"] {
            pki::write_secret(&edge.folder().join(format!("{tunnel}.psk")), &key(tunnel))?;
        }
        let edge = Edge::new(&edge, binaries, SITE)?;
        Ok(Self { lab, edge, host, isp, _endpoints: endpoints, vpc, _router: router })
    }

    /// By which tunnel the host's packets go, and by which endpoint those of the cloud.
    fn ways(&self) -> (Option<String>, Option<String>) {
        (self.edge.node.egress(IpAddr::V4(SERVER)), self.vpc.egress(IpAddr::V4(HOST)))
    }

    fn wait_way(&mut self, number: u8) -> Result<()> {
        let lab = self.lab;
        let wanted = (Some(format!("aws{number}")), Some(format!("endpoint{number}")));
        lab.wait_for(&format!("tunnel {number} both ways"), PATIENCE, || {
            self.edge.must_run()?;
            ensure!(self.ways() == wanted, "it is {:?}; {}", self.ways(), self.edge.shell("show ipsec tunnel")?);
            Ok(true)
        })
    }

    /// Until traffic goes by the first tunnel, and the second waits.
    fn wait_converged(&mut self) -> Result<()> {
        let lab = self.lab;
        lab.wait_for("both sessions", PATIENCE, || {
            self.edge.must_run()?;
            for neighbor in ["169.254.10.1", "169.254.11.1"] {
                ensure!(self.edge.prefixes_from(neighbor)? >= 1, "nothing from {neighbor}");
            }
            Ok(true)
        })?;
        self.wait_way(1)?;
        lab.wait_for("the halves withdrawn", PATIENCE, || Ok(self.vpc.ip("route show 10.1.0.0/25")?.trim().is_empty()))
    }

    fn strike(&self, fault: Fault) -> Result<()> {
        let rules = fault.rules();
        let table =
            format!("table ip fault {{\n chain forward {{\n type filter hook forward priority 0;\n {rules}\n }}\n}}\n");
        self.isp.run_with_input(&["nft", "-f", "-"], &table).map(drop)
    }

    fn mend(&self) -> Result<()> {
        self.isp.run(&["nft", "delete", "table", "ip", "fault"]).map(drop)
    }

    fn probe(&self) -> Result<Probe> {
        let (here, there) = (SocketAddr::from((HOST, PORT)), SocketAddr::from((SERVER, PORT)));
        Probe::start((&self.host, here), (&self.vpc, there))
    }

    /// Waits until `count` more packets have come both ways.
    fn some_traffic(&self, probe: &Probe, count: u64) -> Result<()> {
        let before = probe.counts();
        self.lab.wait_for("traffic both ways", PATIENCE, || {
            Ok(probe.counts().iter().zip(before).all(|(now, before)| now.1 >= before.1 + count))
        })
    }

    /// Why the first tunnel is down.
    fn cause(&self) -> Result<String> {
        let tunnels = self.edge.json("show ipsec tunnel aws1 json")?;
        Ok(tunnels.pointer("/aws1/cause").and_then(|cause| cause.as_str()).unwrap_or_default().to_owned())
    }

    /// The first tunnel's IKE SA, by its SPI.
    fn ike_sa(&self) -> Result<String> {
        let sas = self.edge.json("show ipsec sa aws1 json")?;
        let spi = sas.pointer("/aws1/ikeSa/initiatorSpi").and_then(|spi| spi.as_str());
        spi.map(str::to_owned).with_context(|| format!("no IKE SA: {sas}"))
    }

    /// To IKE all has been well: nothing was negotiated anew.
    fn must_have_ike_alive(&self, before: &str) -> Result<()> {
        let now = self.ike_sa()?;
        ensure!(now == before, "the IKE SA is {now}, no longer {before}");
        Ok(())
    }
}

fn key(tunnel: &str) -> String {
    format!("the key of {tunnel}")
}

/// One end of the gateway: strongSwan and FRR as its documents say, with the cloud's router behind it.
fn endpoint(lab: &Lab, number: u8, node: &Node, isp: &Node, vpc: &Node) -> Result<(StrongSwan, Frr)> {
    let name = node.name().to_owned();
    let (ours, gateway) = (format!("203.0.113.{}", 4 * number + 2), format!("203.0.113.{}", 4 * number + 1));
    lab.join((node, "wan1"), (isp, &name))?;
    lab.join((node, "vpc0"), (vpc, &name))?;
    isp.address(&name, &format!("{gateway}/30"))?;
    node.ip_batch(&format!(
        "address add {ours}/30 dev wan1\naddress add 10.255.{number}.1/30 dev vpc0\nroute add default via {gateway}"
    ))?;
    vpc.address(&name, &format!("10.255.{number}.2/30"))?;
    let connection = Connection {
        local: ours.clone(),
        remote: "198.51.100.2".to_owned(),
        local_id: ours,
        remote_id: "198.51.100.2".to_owned(),
        selectors: ("0.0.0.0/0".to_owned(), "0.0.0.0/0".to_owned()),
        ike: SUITE.to_owned(),
        esp: SUITE.to_owned(),
        secret: Secret::Psk(key(&format!("aws{number}"))),
        // A cloud gateway has no MOBIKE; charon would name its address in the tunnel as another of its own.
        more: "dpd_delay = 10s\n  mobike = no".to_owned(),
        more_child: String::new(),
    };
    let ipsec = StrongSwan::start_route_based(node, &connection)?;
    lab.wait_for("the endpoint's tunnel device", PATIENCE, || Ok(node.ip("link show ipsec0").is_ok()))?;
    let (inside, neighbor) = (format!("169.254.{}.1", 9 + number), format!("169.254.{}.2", 9 + number));
    // charon has a table of its own, which sends everything into the tunnel; an endpoint goes by what BGP says.
    node.ip_batch(&format!("link set ipsec0 up\naddress add {inside}/30 dev ipsec0\nrule add pref 100 lookup main"))?;
    let bgp = format!(
        "router bgp 64512\n bgp router-id {inside}\n no bgp ebgp-requires-policy\n \
         neighbor {neighbor} remote-as 65000\n neighbor {neighbor} timers 10 30\n neighbor {neighbor} timers connect 2\n \
         neighbor 10.255.{number}.2 remote-as 64512\n neighbor 10.255.{number}.2 timers connect 2\n \
         address-family ipv4 unicast\n  neighbor 10.255.{number}.2 next-hop-self\n exit-address-family\n"
    );
    Ok((ipsec, Frr::start(node, &["bgpd"], &bgp)?))
}

/// The page's story.
pub(super) fn play(lab: &Lab, binaries: &Binaries, story: &mut Story<'_>) -> Result<()> {
    let mut scene = Cloud::build(lab, binaries)?;
    let capture = Capture::start(&scene.isp, |packet| !packet.outgoing)?;
    scene.edge.start()?;
    scene.wait_converged()?;
    story.tell("two tunnels and two sessions are up; traffic uses the first one both ways");

    let probe = scene.probe()?;
    scene.some_traffic(&probe, 200)?;
    scene.strike(Fault::Silent)?;
    story.tell("the first tunnel's path drops everything, and says nothing");
    scene.wait_way(2)?;
    scene.some_traffic(&probe, 500)?;
    story.outage("the host's traffic, now by the second tunnel", &probe.finish()?);
    tell_cause(&scene, story)?;
    lab.wait_for("IKE to give up", PATIENCE, || Ok(!scene.cause()?.starts_with("probe:")))?;
    story.tell(format!("then IKE noticed, too: {}", scene.cause()?));
    comes_back(&mut scene, story)?;

    for (fault, what) in [
        (Fault::EspBack, "ESP from the first endpoint is dropped, and nothing else"),
        (Fault::EspForth, "ESP to the first endpoint is dropped, and nothing else"),
    ] {
        let ike = scene.ike_sa()?;
        let probe = scene.probe()?;
        scene.some_traffic(&probe, 200)?;
        scene.strike(fault)?;
        story.tell(what);
        scene.wait_way(2)?;
        scene.some_traffic(&probe, 500)?;
        story.outage("the host's traffic, now by the second tunnel", &probe.finish()?);
        tell_cause(&scene, story)?;
        scene.must_have_ike_alive(&ike)?;
        comes_back(&mut scene, story)?;
        scene.must_have_ike_alive(&ike)?;
        story.tell("the IKE SA has been the same all the time");
    }

    let transport = vec!["198.51.100.0/24".parse()?, "203.0.113.0/24".parse()?];
    let leaks = Clearness { transport, secret: MAGIC.to_vec() }.findings(&capture.finish()?);
    ensure!(leaks.is_empty(), "in the clear: {leaks:?}");
    story.tell("in all that time the ISP saw IKE and ESP, and nothing in the clear");
    Ok(())
}

/// Tells who noticed; it has to be the probe.
fn tell_cause(scene: &Cloud<'_>, story: &mut Story<'_>) -> Result<()> {
    let noticed = scene.edge.failovers()?;
    let last = noticed.last().context("the edge has the fault in its log")?;
    ensure!(last.cause == "tunnelDown", "it was noticed by {}", last.cause);
    let cause = scene.cause()?;
    ensure!(cause == "probe: nobody answers at 169.254.10.1 for 1s", "the tunnel is down: {cause:?}");
    story.tell(format!(
        "noticed by \"{cause}\"; routes moved: {}, {} µs later",
        last.routes_moved,
        last.fib_switch_us.context("it says how long the switch took")?
    ));
    Ok(())
}

/// The first tunnel's path is as it was, and traffic returns to it without a loss.
fn comes_back(scene: &mut Cloud<'_>, story: &mut Story<'_>) -> Result<()> {
    let probe = scene.probe()?;
    scene.some_traffic(&probe, 200)?;
    scene.mend()?;
    scene.wait_converged()?;
    scene.some_traffic(&probe, 500)?;
    story.lossless("the path is mended, and traffic back on the first tunnel", &probe.finish()?)
}
