//! Several paths for a prefix (RFC 7911), with FRR, BIRD and GoBGP, in both directions.
//!
//! Two sources announce the same prefixes. Once they are neighbors of ours, and the real peer hears both paths from us;
//! once they are the peer's, and we hear both from it. A source that goes takes its path along.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::bgp_load::{Origin, Plan, Speaker, Table};
use integration::edge::{Binaries, Edge};
use integration::peers::{Bird, Frr, Gobgp};
use integration::{Lab, Node, packages};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
/// The first prefix of the sources' table.
const PREFIX: &str = "1.0.0.0/24";
const OURS: Ipv4Addr = Ipv4Addr::new(10, 254, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 254, 0, 2);
const SOURCES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 255, 0, 11), Ipv4Addr::new(10, 255, 0, 12)];
/// Whoever the sources talk to.
const MIDDLE: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);

/// Our end, the real peer's, and where the sources are.
struct Places {
    ours: Node,
    peer: Node,
    sources: Node,
}

impl Places {
    /// With the sources as neighbors of ours, or of the peer's.
    fn build(lab: &Lab, sources_at_ours: bool) -> Result<Self> {
        packages::ensure(&packages::PEERS)?;
        let (ours, peer, sources) = (lab.node("ours")?, lab.node("peer")?, lab.node("sources")?);
        lab.join((&ours, "to-peer"), (&peer, "to-ours"))?;
        ours.address("to-peer", &format!("{OURS}/24"))?;
        peer.address("to-ours", &format!("{PEER}/24"))?;
        let middle = if sources_at_ours { &ours } else { &peer };
        lab.join((middle, "to-sources"), (&sources, "out"))?;
        middle.address("to-sources", &format!("{MIDDLE}/24"))?;
        SOURCES.iter().try_for_each(|source| sources.address("out", &format!("{source}/24")))?;
        // The next hops are the sources: who hears of them has to find them.
        let (far, via) = if sources_at_ours { (&peer, OURS) } else { (&ours, PEER) };
        far.route(&format!("10.255.0.0/24 via {via}"))?;
        Ok(Self { ours, peer, sources })
    }

    fn source(&self, number: usize) -> Result<Speaker> {
        let (asn, address) = (65_101 + number as u32, SOURCES[number]);
        let plan = Plan { asn, address, peer: SocketAddr::from((MIDDLE, 179)), hold_seconds: 90 };
        let speaker = Speaker::establish(&self.sources, plan, SECONDS(60))?;
        speaker.send(&Table::consecutive(0, 10, 1 + number as u64).announcements(Origin { asn, next_hop: address }))?;
        Ok(speaker)
    }

    fn bgpd(&self, with_sources: bool) -> Result<Edge> {
        let mut text = format!(
            "router bgp 65001\n bgp router-id {OURS}\n no bgp ebgp-requires-policy\n neighbor {PEER} remote-as 65002\n \
             neighbor {PEER} timers connect 1\n"
        );
        let sources = SOURCES.iter().enumerate().filter(|_| with_sources);
        for (number, source) in sources {
            text += &format!(" neighbor {source} remote-as {}\n neighbor {source} passive\n", 65_101 + number);
        }
        text += &format!(" address-family ipv4 unicast\n  neighbor {PEER} addpath-tx-all-paths\n");
        let mut edge = Edge::new(&self.ours, &Binaries::find()?, &text)?;
        edge.start_bgpd()?;
        Ok(edge)
    }
}

/// How many paths of ours for the prefix have an identifier of the peer's.
fn paths_of_ours(ours: &Edge) -> Result<usize> {
    let answer = ours.json(&format!("show bgp ipv4 unicast {PREFIX} json"))?;
    let paths = answer.get("paths").and_then(|paths| paths.as_array()).context("no paths")?;
    Ok(paths.iter().filter(|path| path.get("addpathRxId").is_some()).count())
}

/// The peer hears both paths of the sources from us, and then that one is gone.
fn told(lab: &Lab, start: impl FnOnce(&Node) -> Result<()>, paths: impl Fn(&Node) -> Result<usize>) -> Result<()> {
    let places = Places::build(lab, true)?;
    start(&places.peer)?;
    let mut ours = places.bgpd(true)?;
    let (stays, goes) = (places.source(0)?, places.source(1)?);
    lab.wait_for("both paths at the peer", SECONDS(60), || {
        ours.must_run()?;
        Ok(paths(&places.peer)? == 2)
    })?;
    drop(goes);
    lab.wait_for("one path at the peer", SECONDS(30), || Ok(paths(&places.peer)? == 1))?;
    stays.must_live()
}

/// We hear both paths of the sources from the peer, and then that one is gone.
fn heard(lab: &Lab, start: impl FnOnce(&Node) -> Result<()>) -> Result<()> {
    let places = Places::build(lab, false)?;
    start(&places.peer)?;
    let mut ours = places.bgpd(false)?;
    let (stays, goes) = (places.source(0)?, places.source(1)?);
    lab.wait_for("both paths here", SECONDS(60), || {
        ours.must_run()?;
        Ok(paths_of_ours(&ours)? == 2)
    })?;
    drop(goes);
    lab.wait_for("one path here", SECONDS(30), || Ok(paths_of_ours(&ours)? == 1))?;
    let listed = ours.shell(&format!("show bgp ipv4 unicast {PREFIX}"))?;
    ensure!(listed.contains("AddPath ID: RX "), "{listed}");
    stays.must_live()
}

fn frr(sources: bool) -> String {
    let mut text = format!(
        "router bgp 65002\n bgp router-id {PEER}\n no bgp ebgp-requires-policy\n neighbor {OURS} remote-as 65001\n \
         neighbor {OURS} timers connect 2\n"
    );
    for (number, source) in SOURCES.iter().enumerate().filter(|_| sources) {
        text += &format!(" neighbor {source} remote-as {}\n neighbor {source} passive\n", 65_101 + number);
    }
    text + &format!(" address-family ipv4 unicast\n  neighbor {OURS} addpath-tx-all-paths\n")
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn frr_hears_every_path_and_tells_us_its_own() {
    Lab::test("paths-to-frr", |lab| {
        let daemon = std::cell::RefCell::new(None);
        let start = |node: &Node| {
            *daemon.borrow_mut() = Some(Frr::start(node, &["bgpd"], &frr(false))?);
            Ok(())
        };
        told(lab, start, |_| {
            let daemon = daemon.borrow();
            let answer =
                daemon.as_ref().context("not started")?.json(&format!("show bgp ipv4 unicast {PREFIX} json"))?;
            Ok(answer.get("paths").and_then(|paths| paths.as_array()).map_or(0, Vec::len))
        })
    });
    Lab::test("paths-from-frr", |lab| {
        let mut daemon = None;
        heard(lab, |node| {
            daemon = Some(Frr::start(node, &["bgpd"], &frr(true))?);
            Ok(())
        })
    });
}

fn bird(sources: bool) -> String {
    let mut text = format!(
        "router id {PEER};\nprotocol device {{}}\nprotocol direct {{ ipv4; }}\n\
         protocol bgp ours {{ local {PEER} as 65002; neighbor {OURS} as 65001; connect retry time 2; connect delay time 1; \
         ipv4 {{ add paths on; import all; export all; }}; }}\n"
    );
    for (number, source) in SOURCES.iter().enumerate().filter(|_| sources) {
        text += &format!(
            "protocol bgp s{number} {{ local {MIDDLE} as 65002; neighbor {source} as {}; passive; \
             ipv4 {{ import all; export none; }}; }}\n",
            65_101 + number
        );
    }
    text
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn bird_hears_every_path_and_tells_us_its_own() {
    Lab::test("paths-to-bird", |lab| {
        let daemon = std::cell::RefCell::new(None);
        let start = |node: &Node| {
            *daemon.borrow_mut() = Some(Bird::start(node, &bird(false))?);
            Ok(())
        };
        told(lab, start, |_| {
            let daemon = daemon.borrow();
            let shown = daemon.as_ref().context("not started")?.birdc(&format!("show route all {PREFIX}"))?;
            Ok(shown.matches("BGP.as_path").count())
        })
    });
    Lab::test("paths-from-bird", |lab| {
        let mut daemon = None;
        heard(lab, |node| {
            daemon = Some(Bird::start(node, &bird(true))?);
            Ok(())
        })
    });
}

fn gobgp(sources: bool) -> String {
    let mut text = format!(
        "[global.config]\n as = 65002\n router-id = \"{PEER}\"\n\n[[neighbors]]\n [neighbors.config]\n  \
         neighbor-address = \"{OURS}\"\n  peer-as = 65001\n [[neighbors.afi-safis]]\n  [neighbors.afi-safis.config]\n   \
         afi-safi-name = \"ipv4-unicast\"\n  [neighbors.afi-safis.add-paths.config]\n   receive = true\n   send-max = 8\n"
    );
    for (number, source) in SOURCES.iter().enumerate().filter(|_| sources) {
        text += &format!(
            "[[neighbors]]\n [neighbors.config]\n  neighbor-address = \"{source}\"\n  peer-as = {}\n \
             [neighbors.transport.config]\n  passive-mode = true\n",
            65_101 + number
        );
    }
    text
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn gobgp_hears_every_path_and_tells_us_its_own() {
    Lab::test("paths-to-gobgp", |lab| {
        let daemon = std::cell::RefCell::new(None);
        let start = |node: &Node| {
            *daemon.borrow_mut() = Some(Gobgp::start(node, &gobgp(false))?);
            Ok(())
        };
        told(lab, start, |_| {
            let daemon = daemon.borrow();
            let shown = daemon.as_ref().context("not started")?.gobgp(&format!("global rib {PREFIX} -a ipv4"))?;
            Ok(shown.matches(PREFIX).count())
        })
    });
    Lab::test("paths-from-gobgp", |lab| {
        let mut daemon = None;
        heard(lab, |node| {
            daemon = Some(Gobgp::start(node, &gobgp(true))?);
            Ok(())
        })
    });
}
