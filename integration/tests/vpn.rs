//! VPNv4 and VPNv6 (RFC 4364, RFC 4659) with FRR and GoBGP: routes of VPNs go into the kernel tables of the VRFs that their
//! route targets name, and the peer hears what the VRFs export.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::edge::{Binaries, Edge};
use integration::peers::{Frr, Gobgp};
use integration::{Lab, Node, kernel, packages};
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const OURS: Ipv4Addr = Ipv4Addr::new(10, 254, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 254, 0, 2);
const OURS6: &str = "fd00:254::1";
const PEER6: &str = "fd00:254::2";

fn nodes(lab: &Lab) -> Result<(Node, Node)> {
    packages::ensure(&packages::PEERS)?;
    let (ours, peer) = (lab.node("ours")?, lab.node("peer")?);
    lab.join((&ours, "to-peer"), (&peer, "to-ours"))?;
    for (node, interface, v4, v6) in [(&ours, "to-peer", OURS, OURS6), (&peer, "to-ours", PEER, PEER6)] {
        node.address(interface, &format!("{v4}/24"))?;
        node.ip(&format!("address add {v6}/64 dev {interface} nodad"))?;
    }
    Ok((ours, peer))
}

/// RED takes target 65001:7 and has 10.1.0.0/16; BLUE takes 65001:8, and both have no device but a table.
fn config(red: &str) -> String {
    format!(
        "vrf RED\n table 100\nvrf BLUE\n table 200\n\
         router bgp 65001\n bgp router-id {OURS}\n no bgp default ipv4-unicast\n\
         \x20neighbor {PEER} remote-as 65001\n neighbor {PEER} timers connect 1\n\
         \x20neighbor {PEER6} remote-as 65001\n neighbor {PEER6} timers connect 1\n\
         \x20address-family ipv4 vpn\n  neighbor {PEER} activate\n\
         \x20address-family ipv6 vpn\n  neighbor {PEER6} activate\n\
         router bgp 65001 vrf RED\n\
         \x20address-family ipv4 unicast\n  network 10.1.0.0/16\n  rd vpn export 65001:1\n{red}  \
         label vpn export auto\n  export vpn\n\
         \x20address-family ipv6 unicast\n  rt vpn import 65001:7\n  import vpn\n\
         router bgp 65001 vrf BLUE\n\
         \x20address-family ipv4 unicast\n  rt vpn import 65001:8\n  import vpn\n"
    )
}

/// RED's targets, with those that it exports.
const TARGETS: &str = "  rt vpn import 65001:7\n  rt vpn export 65001:9 192.0.2.1:5\n  import vpn\n";

fn start(node: &Node) -> Result<Edge> {
    let mut edge = Edge::new(node, &Binaries::find()?, &config(TARGETS))?;
    edge.start_bgpd()?;
    Ok(edge)
}

/// The gateway of a route in a kernel table; `None` where there is no route.
fn gateway(node: &Node, family: &str, table: &str, prefix: &str) -> Result<Option<String>> {
    // A table that never had a route is not there at all, which `ip` takes for a mistake.
    let Ok(routes) = node.run_json(&["ip", family, "-json", "route", "show", "table", table, prefix]) else {
        return Ok(None);
    };
    let Some(id) = routes.pointer("/0/nhid").and_then(Value::as_u64) else { return Ok(None) };
    // The route may be gone by now, and its nexthop object with it.
    let object = node.run_json(&["ip", "-json", "nexthop", "show", "id", &id.to_string()]).unwrap_or_default();
    Ok(object.pointer("/0/gateway").and_then(Value::as_str).map(str::to_owned))
}

/// The paths of a prefix with a distinguisher, as `show bgp … vpn json` lays them out.
fn paths<'a>(answer: &'a Value, rd: &str, prefix: &str) -> Option<&'a Vec<Value>> {
    answer.get("routes")?.get("routeDistinguishers")?.get(rd)?.get(prefix)?.as_array()
}

/// It judges its own routes of a VPN once, so the route-maps stand first.
const FRR: &str = "\
route-map SEVEN permit 10
 set extcommunity rt 65001:7
route-map EIGHT permit 10
 set extcommunity rt 65001:8
router bgp 65001
 bgp router-id 10.254.0.2
 no bgp default ipv4-unicast
 neighbor 10.254.0.1 remote-as 65001
 neighbor 10.254.0.1 timers connect 2
 neighbor fd00:254::1 remote-as 65001
 neighbor fd00:254::1 timers connect 2
 address-family ipv4 vpn
  neighbor 10.254.0.1 activate
  network 10.7.0.0/16 rd 65001:7 label 77 route-map SEVEN
  network 10.8.0.0/16 rd 65001:8 label 88 route-map EIGHT
 exit-address-family
 address-family ipv6 vpn
  neighbor fd00:254::1 activate
  network 2001:db8:7::/48 rd 65001:7 label 77 route-map SEVEN
 exit-address-family
";

#[test]
#[ignore = "needs root, network namespaces and FRR"]
fn routes_of_frr_go_into_the_tables_that_their_targets_name() {
    Lab::test("vpn-frr", |lab| {
        let (ours, peer) = nodes(lab)?;
        let frr = Frr::start(&peer, &["bgpd"], FRR)?;
        let mut edge = start(&ours)?;
        let in_table = |family: &str, table: &str, prefix: &str| gateway(&ours, family, table, prefix);
        lab.wait_for("10.7.0.0/16 in table 100", SECONDS(60), || {
            edge.must_run()?;
            Ok(in_table("-4", "100", "10.7.0.0/16")?.as_deref() == Some("10.254.0.2"))
        })?;
        lab.wait_for("10.8.0.0/16 in table 200", SECONDS(20), || Ok(in_table("-4", "200", "10.8.0.0/16")?.is_some()))?;
        lab.wait_for("2001:db8:7::/48 in table 100", SECONDS(30), || {
            // FRR tells its link-local address too, which is the one to hand packets to (RFC 2545 section 3).
            let through = in_table("-6", "100", "2001:db8:7::/48")?;
            Ok(through.is_some_and(|through| through == PEER6 || through.starts_with("fe80:")))
        })?;
        for (family, table, prefix) in [("-4", "100", "10.8.0.0/16"), ("-4", "200", "10.7.0.0/16")] {
            ensure!(in_table(family, table, prefix)?.is_none(), "{prefix} is in table {table}");
        }
        for prefix in ["10.7.0.0/16", "10.8.0.0/16"] {
            ensure!(in_table("-4", "main", prefix)?.is_none(), "{prefix} is in our own table");
        }

        lab.wait_for("10.1.0.0/16 at FRR", SECONDS(20), || {
            let answer = frr.json("show bgp ipv4 vpn json")?;
            Ok(paths(&answer, "65001:1", "10.1.0.0/16").is_some())
        })?;
        let detail = frr.vtysh("show bgp ipv4 vpn 10.1.0.0/16")?;
        for said in ["RT:65001:9", "RT:192.0.2.1:5", "Remote label: 116"] {
            ensure!(detail.contains(said), "{said}: {detail}");
        }

        // Both show the same routes in the same places.
        let (mine, theirs) = (edge.json("show bgp ipv4 vpn json")?, frr.json("show bgp ipv4 vpn json")?);
        for (rd, prefix) in [("65001:1", "10.1.0.0/16"), ("65001:7", "10.7.0.0/16"), ("65001:8", "10.8.0.0/16")] {
            let [mine, theirs] = [&mine, &theirs].map(|answer| paths(answer, rd, prefix));
            let (mine, theirs) = (mine.context("not shown by us")?, theirs.context("not shown by FRR")?);
            ensure!(mine.len() == 1 && theirs.len() == 1, "{mine:?} {theirs:?}");
        }
        let text = edge.shell("show bgp ipv4 vpn")?;
        ensure!(text.contains("Route Distinguisher: 65001:7") && text.contains("label=77"), "{text}");
        let of_vrf = edge.json("show bgp vrf RED ipv4 unicast json")?;
        ensure!(of_vrf.pointer("/routes/10.7.0.0~116/0/bestpath") == Some(&Value::Bool(true)), "{of_vrf}");
        ensure!(of_vrf.pointer("/vrfName") == Some(&Value::from("RED")), "{of_vrf}");

        // Another target, by a reload: the session does not notice, the table does.
        edge.configure(&config(&TARGETS.replace("import 65001:7", "import 65001:8")))?;
        edge.bgpd.as_ref().context("bgpd runs")?.signal(rustix::process::Signal::HUP)?;
        lab.wait_for("the other route in table 100", SECONDS(20), || {
            Ok(in_table("-4", "100", "10.8.0.0/16")?.is_some() && in_table("-4", "100", "10.7.0.0/16")?.is_none())
        })?;
        ensure!(frr.is_established(&OURS.to_string())?, "the session was lost");

        // What the peer takes back goes.
        frr.vtysh(
            "configure terminal\nrouter bgp 65001\naddress-family ipv4 vpn\n\
             no network 10.8.0.0/16 rd 65001:8 label 88",
        )?;
        lab.wait_for("nothing in table 100", SECONDS(20), || Ok(in_table("-4", "100", "10.8.0.0/16")?.is_none()))
    });
}

#[test]
#[ignore = "needs root, network namespaces and FRR"]
fn routes_in_a_table_outlive_a_restart_and_those_that_are_gone_by_then_go() {
    Lab::test("vpn-restart", |lab| {
        let (ours, peer) = nodes(lab)?;
        let frr = Frr::start(&peer, &["bgpd"], FRR)?;
        let mut edge = start(&ours)?;
        let in_table = |table: &str, prefix: &str| gateway(&ours, "-4", table, prefix);
        lab.wait_for("both routes", SECONDS(60), || {
            Ok(in_table("100", "10.7.0.0/16")?.is_some() && in_table("200", "10.8.0.0/16")?.is_some())
        })?;
        edge.bgpd.take().context("bgpd runs")?.kill()?;
        frr.vtysh(
            "configure terminal\nrouter bgp 65001\naddress-family ipv4 vpn\n\
             no network 10.8.0.0/16 rd 65001:8 label 88",
        )?;
        ensure!(in_table("100", "10.7.0.0/16")?.is_some(), "a route went with the daemon");
        edge.start_bgpd()?;
        lab.wait_for("the stale route to go", SECONDS(60), || {
            ensure!(in_table("100", "10.7.0.0/16")?.is_some(), "a route that is still there was taken out");
            Ok(in_table("200", "10.8.0.0/16")?.is_none())
        })
    });
}

#[test]
#[ignore = "needs root, network namespaces and GoBGP"]
fn routes_of_gobgp_go_into_the_tables_that_their_targets_name() {
    Lab::test("vpn-gobgp", |lab| {
        let (ours, peer) = nodes(lab)?;
        let gobgp = Gobgp::start(
            &peer,
            &format!(
                "[global.config]\nas = 65001\nrouter-id = \"{PEER}\"\n\
                 [[neighbors]]\n[neighbors.config]\nneighbor-address = \"{OURS}\"\npeer-as = 65001\n\
                 [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"l3vpn-ipv4-unicast\"\n"
            ),
        )?;
        let mut edge = start(&ours)?;
        lab.wait_for("the session", SECONDS(60), || gobgp.is_established(&OURS.to_string()))?;
        gobgp.gobgp(&format!("global rib add -a vpnv4 10.7.0.0/16 label 77 rd 65001:7 rt 65001:7 nexthop {PEER}"))?;
        lab.wait_for("10.7.0.0/16 in table 100", SECONDS(30), || {
            edge.must_run()?;
            Ok(gateway(&ours, "-4", "100", "10.7.0.0/16")?.is_some())
        })?;
        let heard = gobgp.gobgp("global rib -a vpnv4")?;
        ensure!(heard.contains("65001:1:10.1.0.0/16") && heard.contains("65001:9"), "{heard}");
        gobgp.gobgp("global rib del -a vpnv4 10.7.0.0/16 label 77 rd 65001:7 rt 65001:7")?;
        lab.wait_for("nothing in table 100", SECONDS(20), || Ok(gateway(&ours, "-4", "100", "10.7.0.0/16")?.is_none()))
    });
}

/// A VRF device for RED on `node`, with the link to `site` in it; `false` where the kernel has no such devices.
fn red_device(lab: &Lab, node: &Node, site: &Node) -> Result<bool> {
    kernel::load("vrf");
    lab.join((node, "to-site"), (site, "to-edge"))?;
    site.address("to-edge", "10.1.0.2/24")?;
    site.route("default via 10.1.0.1")?;
    if let Err(error) = node.ip("link add RED type vrf table 1007") {
        ensure!(!kernel::is_required(), "this kernel was booted for its VRF devices: {error:#}");
        node.address("to-site", "10.1.0.1/24")?;
        return Ok(false);
    }
    node.set_link("RED", true)?;
    node.ip("link set to-site master RED")?;
    node.address("to-site", "10.1.0.1/24")?;
    Ok(true)
}

#[test]
#[ignore = "needs root, network namespaces and FRR"]
fn routes_go_into_the_table_of_a_vrf_device_and_packets_follow_them() {
    Lab::test("vpn-device", |lab| {
        let (ours, peer) = nodes(lab)?;
        let site = lab.node("site")?;
        ours.forward()?;
        let frr = Frr::start(&peer, &["bgpd"], FRR)?;
        // Nothing says which table RED has but the device, which comes and goes while bgpd runs.
        let text = config(TARGETS).replace("vrf RED\n table 100\n", "");
        let mut edge = Edge::new(&ours, &Binaries::find()?, &text)?;
        edge.start_bgpd()?;
        lab.wait_for("10.8.0.0/16 in table 200", SECONDS(120), || {
            edge.must_run()?;
            Ok(gateway(&ours, "-4", "200", "10.8.0.0/16")?.is_some())
        })?;
        ensure!(gateway(&ours, "-4", "1007", "10.7.0.0/16")?.is_none(), "there is no RED yet");
        if !red_device(lab, &ours, &site)? {
            // Without a table the VRF imports nothing, and everything else is as it was.
            let shown = edge.json("show bgp ipv4 vpn json")?;
            ensure!(paths(&shown, "65001:7", "10.7.0.0/16").is_some(), "{shown}");
            return lab.holds_for("no route of RED in the main table", SECONDS(2), || {
                edge.must_run()?;
                Ok(gateway(&ours, "-4", "main", "10.7.0.0/16")?.is_none())
            });
        }
        let arrived = || Ok(gateway(&ours, "-4", "1007", "10.7.0.0/16")?.as_deref() == Some("10.254.0.2"));
        lab.wait_for("10.7.0.0/16 in the device's table", SECONDS(60), arrived)?;
        lab.wait_for("2001:db8:7::/48 in the device's table", SECONDS(60), || {
            Ok(gateway(&ours, "-6", "1007", "2001:db8:7::/48")?.is_some())
        })?;
        // The other router has 10.7.0.1 and knows the way back; here the site's prefix is handed over to its VRF.
        peer.address("lo", "10.7.0.1/32")?;
        peer.route("10.1.0.0/16 via 10.254.0.1")?;
        ours.route("10.1.0.0/16 dev RED")?;
        site.ping("10.7.0.1".parse()?, 10)?;
        ensure!(gateway(&ours, "-4", "main", "10.7.0.0/16")?.is_none(), "a route of RED is in the main table");

        // The device goes, with its table, and comes back under another number.
        ours.ip("link del RED")?;
        lab.wait_for("the table is empty", SECONDS(60), || Ok(gateway(&ours, "-4", "1007", "10.7.0.0/16")?.is_none()))?;
        ours.ip("link add RED type vrf table 1008")?;
        ours.set_link("RED", true)?;
        lab.wait_for("10.7.0.0/16 in the new table", SECONDS(60), || {
            Ok(gateway(&ours, "-4", "1008", "10.7.0.0/16")?.as_deref() == Some("10.254.0.2"))
        })?;
        // The session that carries it all has not noticed.
        let neighbor = edge.json(&format!("show bgp neighbors {PEER} json"))?;
        let dropped = neighbor.pointer(&format!("/{PEER}/connectionsDropped")).and_then(Value::as_u64);
        ensure!(dropped == Some(0), "{neighbor}");
        drop(frr);
        Ok(())
    });
}
