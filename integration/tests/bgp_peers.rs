//! BGP and BFD with FRR, BIRD and GoBGP, through a tunnel between two of our ipsecd, in both families.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::edge::{Binaries, Edge};
use integration::one_wan::{self, OneWan, Side, Text};
use integration::peers::{Bird, Frr, Gobgp};
use integration::{Lab, Node, packages};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// bgpd on the left: a session in each family, each announcing the network behind it.
const OURS: &str = "\
router bgp 65001
 bgp router-id 10.1.0.1
 neighbor 169.254.1.2 remote-as 65002
 neighbor 169.254.1.2 timers connect 1
 neighbor fd00:1::2 remote-as 65002
 neighbor fd00:1::2 timers connect 1
 address-family ipv4 unicast
  network 10.1.0.0/24
  no neighbor fd00:1::2 activate
 address-family ipv6 unicast
  network fd10:1::/64
  neighbor fd00:1::2 activate
";

#[test]
fn our_side_is_a_configuration() {
    let text = Text::new(Side::Left).psk().tunnel("ip address 169.254.1.1/30\nipv6 address fd00:1::1/64").more(OURS);
    assert!(config::parse(&text.to_string()).is_ok_and(|parsed| parsed.warnings.0.is_empty()), "{text}");
}

/// A tunnel between two of our ipsecd; on the left our bgpd, on the right whoever is to be met.
fn tunnel(lab: &Lab, ours: &str) -> Result<(OneWan, Edge, Edge)> {
    packages::ensure(&packages::PEERS)?;
    let wan = OneWan::build(lab)?;
    let binaries = Binaries::find()?;
    let text = |side: Side| {
        let number = side.number();
        Text::new(side).psk().tunnel(&format!("ip address 169.254.1.{number}/30\nipv6 address fd00:1::{number}/64"))
    };
    for node in [&wan.left, &wan.right] {
        one_wan::write_psk(node, "the key of this test")?;
    }
    let mut left = Edge::new(&wan.left, &binaries, &text(Side::Left).more(ours).to_string())?;
    let mut right = Edge::new(&wan.right, &binaries, &text(Side::Right).tunnel("initiate never").to_string())?;
    right.start_ipsecd()?;
    left.start()?;
    one_wan::wait_up(lab, &mut left)?;
    one_wan::wait_up(lab, &mut right)?;
    Ok((wan, left, right))
}

/// Waits until both sessions are up, routes of both families are in our kernel, and traffic flows by them.
fn meets(lab: &Lab, wan: &OneWan, ours: &mut Edge, has_our_routes: impl Fn() -> Result<bool>) -> Result<()> {
    lab.wait_for("both sessions", SECONDS(60), || {
        ours.must_run()?;
        Ok(ours.is_established("169.254.1.2")? && ours.is_established("fd00:1::2")?)
    })?;
    lab.wait_for("the peer's routes in our kernel", SECONDS(30), || {
        let by = |side: Side| (wan.left.egress(side.inner()), wan.left.egress(side.inner_v6()));
        Ok(by(Side::Right) == (Some("tun1".into()), Some("tun1".into())))
    })?;
    lab.wait_for("our routes at the peer", SECONDS(30), has_our_routes)?;
    lab.wait_for("traffic in IPv4", SECONDS(20), || wan.ping_through(Side::Left).map(|()| true))?;
    lab.wait_for("traffic in IPv6", SECONDS(20), || ping_v6(&wan.left).map(|()| true))
}

fn ping_v6(left: &Node) -> Result<()> {
    let (source, destination) = (Side::Left.inner_v6().to_string(), Side::Right.inner_v6().to_string());
    left.run(&["ping", "-n", "-q", "-c", "2", "-i", "0.2", "-W", "2", "-I", &source, &destination]).map(drop)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn frr_through_the_tunnel() {
    Lab::test("frr", |lab| {
        let (wan, mut ours, _right) = tunnel(lab, OURS)?;
        let frr = Frr::start(
            &wan.right,
            &["bgpd"],
            "router bgp 65002\n bgp router-id 10.2.0.1\n no bgp ebgp-requires-policy\n neighbor 169.254.1.1 remote-as 65001\n \
             neighbor fd00:1::1 remote-as 65001\n address-family ipv4 unicast\n  network 10.2.0.0/24\n  \
             no neighbor fd00:1::1 activate\n exit-address-family\n address-family ipv6 unicast\n  network fd10:2::/64\n  \
             neighbor fd00:1::1 activate\n exit-address-family\n",
        )?;
        meets(lab, &wan, &mut ours, || Ok(frr.has_route("10.1.0.0/24")? && frr.has_route("fd10:1::/64")?))?;
        // A withdrawal is believed, and so is a session that is reset from the other side.
        frr.vtysh("configure terminal\nrouter bgp 65002\naddress-family ipv4 unicast\nno network 10.2.0.0/24")?;
        lab.wait_for("the withdrawn route is gone", SECONDS(20), || {
            Ok(wan.left.egress(Side::Right.inner()).as_deref() != Some("tun1"))
        })?;
        frr.vtysh("clear bgp *")?;
        lab.wait_for("both sessions again", SECONDS(60), || {
            Ok(ours.is_established("169.254.1.2")? && ours.is_established("fd00:1::2")?)
        })
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn bird_through_the_tunnel() {
    Lab::test("bird", |lab| {
        let (wan, mut ours, _right) = tunnel(lab, OURS)?;
        let bird = Bird::start(
            &wan.right,
            "router id 10.2.0.1;\nprotocol device {}\nprotocol direct { ipv4; ipv6; interface \"lo\"; }\n\
             protocol kernel { ipv4 { export all; }; }\nprotocol kernel { ipv6 { export all; }; }\n\
             template bgp edge { local as 65002; connect retry time 2; connect delay time 1; }\n\
             protocol bgp edge4 from edge { neighbor 169.254.1.1 as 65001; ipv4 { import all; export all; }; }\n\
             protocol bgp edge6 from edge { neighbor fd00:1::1 as 65001; ipv6 { import all; export all; }; }\n",
        )?;
        meets(lab, &wan, &mut ours, || {
            Ok(bird.has_route("10.1.0.0/24", "edge4")? && bird.has_route("fd10:1::/64", "edge6")?)
        })
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn gobgp_through_the_tunnel() {
    Lab::test("gobgp", |lab| {
        let (wan, mut ours, _right) = tunnel(lab, OURS)?;
        let neighbor = |address: &str, family: &str| {
            format!(
                "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{address}\"\npeer-as = 65001\n\
                 [neighbors.timers.config]\nconnect-retry = 5\n[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\n\
                 afi-safi-name = \"{family}-unicast\"\n"
            )
        };
        let config = format!(
            "[global.config]\nas = 65002\nrouter-id = \"10.2.0.1\"\n{}{}",
            neighbor("169.254.1.1", "ipv4"),
            neighbor("fd00:1::1", "ipv6")
        );
        let gobgp = Gobgp::start(&wan.right, &config)?;
        lab.wait_for("GoBGP answers", SECONDS(20), || gobgp.gobgp("global").map(|_| true))?;
        gobgp.gobgp("global rib add 10.2.0.0/24 nexthop 169.254.1.2 -a ipv4")?;
        gobgp.gobgp("global rib add fd10:2::/64 nexthop fd00:1::2 -a ipv6")?;
        // GoBGP installs nothing into its kernel.
        wan.right.route("10.1.0.0/24 dev tun1")?;
        wan.right.route("fd10:1::/64 dev tun1")?;
        meets(lab, &wan, &mut ours, || Ok(gobgp.has_route("10.1.0.0/24")? && gobgp.has_route("fd10:1::/64")?))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn frr_as_a_bfd_peer() {
    Lab::test("bfd", |lab| {
        let ours = "bfd\n profile fast\n  transmit-interval 50\n  receive-interval 50\n  detect-multiplier 3\n\
                    router bgp 65001\n bgp router-id 10.1.0.1\n neighbor 169.254.1.2 remote-as 65002\n \
                    neighbor 169.254.1.2 bfd profile fast\n neighbor 169.254.1.2 timers connect 1\n";
        let (wan, mut ours, _right) = tunnel(lab, ours)?;
        let frr = Frr::start(
            &wan.right,
            &["bgpd", "bfdd"],
            "bfd\n profile fast\n  transmit-interval 50\n  receive-interval 50\n !\n!\nrouter bgp 65002\n \
             bgp router-id 10.2.0.1\n no bgp ebgp-requires-policy\n neighbor 169.254.1.1 remote-as 65001\n \
             neighbor 169.254.1.1 bfd profile fast\n",
        )?;
        lab.wait_for("BFD and BGP at both ends", SECONDS(60), || {
            ours.must_run()?;
            Ok(ours.is_established("169.254.1.2")? && frr.bfd_is_up("169.254.1.1")? && bfd_state(&ours)? == "up")
        })?;
        // The WAN goes silent: BFD, not the hold time of three minutes, ends the session at both ends.
        wan.isp.ip("rule add pref 0 blackhole")?;
        lab.wait_for("our session is down", SECONDS(20), || Ok(!ours.is_established("169.254.1.2")?))?;
        lab.wait_for("FRR's session is down", SECONDS(20), || Ok(!frr.is_established("169.254.1.1")?))?;
        wan.isp.ip("rule del pref 0 blackhole")?;
        lab.wait_for("BFD and BGP again", SECONDS(90), || {
            Ok(ours.is_established("169.254.1.2")? && frr.bfd_is_up("169.254.1.1")? && bfd_state(&ours)? == "up")
        })
    });
}

fn bfd_state(edge: &Edge) -> Result<String> {
    let peers = edge.json("show bfd peers json")?;
    let list = peers.as_array().or_else(|| peers["peers"].as_array()).into_iter().flatten();
    let mut states = list.filter(|peer| peer["peer"] == "169.254.1.2").filter_map(|peer| peer["status"].as_str());
    let state = states.next().map(str::to_owned);
    ensure!(state.is_some(), "no BFD peer 169.254.1.2 in {peers}");
    Ok(state.unwrap_or_default())
}
