//! Whose AS is on the path, who reflects what to whom, who is what to whom: with FRR, BIRD and GoBGP around our bgpd.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::edge::{Binaries, Daemon, Edge};
use integration::peers::{Bird, Frr, Gobgp};
use integration::{Lab, Node, packages};
use rustix::process::Signal;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Our bgpd in the middle of links to one, two or three others: 10.0.N.1 is ours, 10.0.N.2 theirs.
fn star(lab: &Lab, config: &str, others: &[&str]) -> Result<(Edge, Vec<Node>)> {
    packages::ensure(&packages::PEERS)?;
    let ours = lab.node("ours")?;
    let mut nodes = Vec::new();
    for (number, name) in (1..).zip(others) {
        let node = lab.node(name)?;
        let to = format!("to-{name}");
        lab.join((&ours, to.as_str()), (&node, "eth0"))?;
        ours.address(&to, &format!("10.0.{number}.1/24"))?;
        node.address("eth0", &format!("10.0.{number}.2/24"))?;
        // Next hops beyond the link are known, though not by BGP.
        node.route(&format!("10.0.0.0/16 via 10.0.{number}.1"))?;
        nodes.push(node);
    }
    let mut edge = Edge::new(&ours, &Binaries::find()?, config)?;
    edge.start_bgpd()?;
    Ok((edge, nodes))
}

fn established(lab: &Lab, edge: &mut Edge, neighbors: &[&str]) -> Result<()> {
    lab.wait_for("the sessions", SECONDS(60), || {
        edge.must_run()?;
        let up = neighbors.iter().map(|neighbor| edge.is_established(neighbor));
        Ok(up.collect::<Result<Vec<_>>>()?.into_iter().all(|up| up))
    })
}

/// BIRD that announces `prefix`; `protocol` goes into each of its BGP sessions.
fn bird(node: &Node, id: &str, prefix: &str, protocol: &str) -> Result<Bird> {
    Bird::start(
        node,
        &format!(
            "router id {id};\nprotocol device {{}}\nprotocol static {{ ipv4; route {prefix} blackhole; }}\n\
             protocol bgp ours {{ connect retry time 2; connect delay time 1; ipv4 {{ import all; export all; }};\n\
             {protocol}\n}}\n"
        ),
    )
}

fn gobgp(lab: &Lab, node: &Node, asn: u32, id: &str, neighbor: &str, peer_as: u32) -> Result<Gobgp> {
    let gobgp = Gobgp::start(
        node,
        &format!(
            "[global.config]\nas = {asn}\nrouter-id = \"{id}\"\n[[neighbors]]\n[neighbors.config]\n\
             neighbor-address = \"{neighbor}\"\npeer-as = {peer_as}\n[neighbors.timers.config]\nconnect-retry = 5\n"
        ),
    )?;
    lab.wait_for("GoBGP answers", SECONDS(20), || gobgp.gobgp("global").map(|_| true))?;
    Ok(gobgp)
}

/// The AS path of `prefix` as BIRD has it, `None` while it has no route.
fn bird_path(bird: &Bird, prefix: &str) -> Result<Option<String>> {
    let answer = bird.birdc(&format!("show route all {prefix}"))?;
    let path = answer.lines().find_map(|line| line.trim().strip_prefix("BGP.as_path:"));
    Ok(path.map(|path| path.trim().to_owned()))
}

/// BIRD answers a question for what it does not have with an error.
fn bird_lacks(bird: &Bird, prefix: &str) -> bool {
    bird.has_route(prefix, "ours").map_or_else(|error| format!("{error:#}").contains("Network not found"), |has| !has)
}

/// Our bgpd reads another configuration; ipsecd does not run here.
fn reload(edge: &mut Edge, config: &str) -> Result<()> {
    edge.configure(config)?;
    edge.process(Daemon::Bgpd)?.signal(Signal::HUP)
}

fn frr_path(frr: &Frr, prefix: &str) -> Result<Option<String>> {
    let answer = frr.json(&format!("show bgp ipv4 unicast {prefix} json"))?;
    Ok(answer.pointer("/paths/0/aspath/string").and_then(|path| path.as_str()).map(str::to_owned))
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn clients_of_a_reflector_hear_of_each_other() {
    let config = |more: &str| {
        format!(
            "router bgp 65000\n bgp router-id 10.0.0.1\n bgp cluster-id 10.0.0.99\n{more} neighbor 10.0.1.2 remote-as 65000\n \
             neighbor 10.0.2.2 remote-as internal\n neighbor 10.0.3.2 remote-as 65000\n address-family ipv4 unicast\n  \
             neighbor 10.0.1.2 route-reflector-client\n  neighbor 10.0.2.2 route-reflector-client\n"
        )
    };
    Lab::test("reflector", |lab| {
        let (mut ours, nodes) = star(lab, &config(""), &["frr", "bird", "gobgp"])?;
        let frr = Frr::start(
            &nodes[0],
            &["bgpd"],
            "router bgp 65000\n bgp router-id 10.0.1.2\n no bgp network import-check\n neighbor 10.0.1.1 remote-as 65000\n \
             address-family ipv4 unicast\n  network 10.11.0.0/24\n exit-address-family\n",
        )?;
        let bird = bird(&nodes[1], "10.0.2.2", "10.12.0.0/24", "local as 65000; neighbor 10.0.2.1 as 65000;")?;
        let gobgp = gobgp(lab, &nodes[2], 65000, "10.0.3.2", "10.0.3.1", 65000)?;
        gobgp.gobgp("global rib add 10.13.0.0/24 nexthop 10.0.3.2 -a ipv4")?;
        established(lab, &mut ours, &["10.0.1.2", "10.0.2.2", "10.0.3.2"])?;
        lab.wait_for("everybody's routes everywhere", SECONDS(30), || {
            Ok(frr.has_route("10.12.0.0/24")?
                && frr.has_route("10.13.0.0/24")?
                && bird.has_route("10.11.0.0/24", "ours")?
                && bird.has_route("10.13.0.0/24", "ours")?
                && gobgp.has_route("10.11.0.0/24")?
                && gobgp.has_route("10.12.0.0/24")?)
        })?;
        let route = frr.json("show bgp ipv4 unicast 10.12.0.0/24 json")?;
        let path = route.pointer("/paths/0").context("no path")?;
        ensure!(path["originatorId"] == "10.0.2.2", "RFC 4456 §8: {path}");
        ensure!(path.pointer("/clusterList/list/0").is_some_and(|cluster| cluster == "10.0.0.99"), "{path}");
        ensure!(path.pointer("/nexthops/0/ip").is_some_and(|next_hop| next_hop == "10.0.2.2"), "RFC 4456 §10: {path}");
        let shown = ours.json("show bgp neighbors 10.0.2.2 json")?;
        ensure!(shown["10.0.2.2"]["nbrInternalLink"] == true, "{shown}");

        // Clients that are fully meshed among themselves need no reflection, others still do.
        reload(&mut ours, &config(" no bgp client-to-client reflection\n"))?;
        lab.wait_for("the other client's route is gone", SECONDS(20), || {
            Ok(!frr.has_route("10.12.0.0/24")? && bird_lacks(&bird, "10.11.0.0/24"))
        })?;
        ensure!(frr.has_route("10.13.0.0/24")? && gobgp.has_route("10.12.0.0/24")?);
        ensure!(frr.is_established("10.0.1.1")?, "no session falls for it");
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_confederation_is_one_as_for_everybody_outside() {
    let config = "router bgp 65001\n bgp router-id 10.0.0.1\n bgp confederation identifier 65300\n \
                  bgp confederation peers 65002\n neighbor 10.0.1.2 remote-as external\n neighbor 10.0.2.2 remote-as 64999\n \
                  neighbor 10.0.3.2 remote-as 64998\n address-family ipv4 unicast\n  network 10.10.0.0/24\n";
    Lab::test("confederation", |lab| {
        let (mut ours, nodes) = star(lab, config, &["frr", "bird", "gobgp"])?;
        let frr = Frr::start(
            &nodes[0],
            &["bgpd"],
            "router bgp 65002\n bgp router-id 10.0.1.2\n no bgp network import-check\n no bgp ebgp-requires-policy\n bgp confederation identifier 65300\n \
             bgp confederation peers 65001\n neighbor 10.0.1.1 remote-as 65001\n address-family ipv4 unicast\n  \
             network 10.11.0.0/24\n exit-address-family\n",
        )?;
        let bird = bird(&nodes[1], "10.0.2.2", "10.12.0.0/24", "local as 64999; neighbor 10.0.2.1 as 65300;")?;
        let gobgp = gobgp(lab, &nodes[2], 64998, "10.0.3.2", "10.0.3.1", 65300)?;
        gobgp.gobgp("global rib add 10.13.0.0/24 nexthop 10.0.3.2 -a ipv4")?;
        established(lab, &mut ours, &["10.0.1.2", "10.0.2.2", "10.0.3.2"])?;
        lab.wait_for("members on the path within the confederation", SECONDS(30), || {
            Ok(frr_path(&frr, "10.12.0.0/24")?.as_deref() == Some("(65001) 64999")
                && frr_path(&frr, "10.10.0.0/24")?.as_deref() == Some("(65001)"))
        })?;
        lab.wait_for("one AS outside", SECONDS(30), || {
            Ok(bird_path(&bird, "10.11.0.0/24")?.as_deref() == Some("65300")
                && bird_path(&bird, "10.13.0.0/24")?.as_deref() == Some("65300 64998")
                && gobgp.has_route("10.11.0.0/24")?)
        })?;
        let shown = ours.json("show bgp neighbors 10.0.1.2 json")?;
        let frr_shown = &shown["10.0.1.2"];
        ensure!(frr_shown["nbrConfedExternalLink"] == true && frr_shown["nbrCommonAdmin"] == true, "{shown}");
        let shown = ours.json("show bgp neighbors 10.0.2.2 json")?;
        ensure!(shown["10.0.2.2"]["localAs"] == 65300, "{shown}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn paths_are_rewritten_as_configured() {
    // FRR's side is AS 64600, BIRD's 65020; each line is one way of changing what BIRD sees of 10.11.0.0/24.
    let config = |neighbor: &str, family: &str| {
        format!(
            "router bgp 65001\n bgp router-id 10.0.0.1\n neighbor 10.0.1.2 remote-as 64600\n neighbor 10.0.2.2 remote-as 65020\n\
             {neighbor} address-family ipv4 unicast\n  network 10.10.0.0/24\n{family}"
        )
    };
    let cases = [
        ("", "", "65001 64600"),
        (" neighbor 10.0.2.2 local-as 65009\n", "", "65009 65001 64600"),
        (" neighbor 10.0.2.2 local-as 65009 no-prepend replace-as\n", "", "65009 64600"),
        ("", "  neighbor 10.0.2.2 remove-private-AS\n", "65001"),
        ("", "  neighbor 10.0.2.2 remove-private-AS replace-AS\n", "65001 65001"),
        ("", "  neighbor 10.0.2.2 attribute-unchanged as-path\n", "64600"),
    ];
    Lab::test("rewriting", |lab| {
        let (mut ours, nodes) = star(lab, &config("", ""), &["frr", "bird"])?;
        let frr = Frr::start(
            &nodes[0],
            &["bgpd"],
            "router bgp 64600\n bgp router-id 10.0.1.2\n no bgp network import-check\n no bgp ebgp-requires-policy\n \
             neighbor 10.0.1.1 remote-as 65001\n address-family ipv4 unicast\n  network 10.11.0.0/24\n \
             exit-address-family\n",
        )?;
        // BIRD takes us for whoever we say that we are.
        let bird = bird(
            &nodes[1],
            "10.0.2.2",
            "10.12.0.0/24",
            "local as 65020; neighbor 10.0.2.1 external; enforce first as off;",
        )?;
        established(lab, &mut ours, &["10.0.1.2", "10.0.2.2"])?;
        for (neighbor, family, path) in cases {
            reload(&mut ours, &config(neighbor, family))?;
            lab.wait_for(&format!("the path {path}"), SECONDS(60), || {
                Ok(bird_path(&bird, "10.11.0.0/24")?.as_deref() == Some(path))
            })?;
        }
        // Behind local-as FRR sees the AS that we let BIRD take us for, unless no-prepend says otherwise.
        reload(&mut ours, &config(" neighbor 10.0.2.2 local-as 65009\n", ""))?;
        lab.wait_for("the other AS on what BIRD sent", SECONDS(60), || {
            Ok(frr_path(&frr, "10.12.0.0/24")?.as_deref() == Some("65001 65009 65020"))
        })
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn roles_keep_routes_from_leaking() {
    let config = |ours_to_bird: &str| {
        format!(
            "router bgp 65001\n bgp router-id 10.0.0.1\n neighbor 10.0.1.2 remote-as 65010\n \
             neighbor 10.0.1.2 local-role customer\n neighbor 10.0.2.2 remote-as 65020\n \
             neighbor 10.0.2.2 local-role {ours_to_bird} strict-mode\n address-family ipv4 unicast\n  network 10.10.0.0/24\n"
        )
    };
    Lab::test("roles", |lab| {
        // FRR is our provider, BIRD a peer: what FRR says is not for BIRD.
        let (mut ours, nodes) = star(lab, &config("peer"), &["frr", "bird"])?;
        let frr = Frr::start(
            &nodes[0],
            &["bgpd"],
            "router bgp 65010\n bgp router-id 10.0.1.2\n no bgp network import-check\n no bgp ebgp-requires-policy\n \
             neighbor 10.0.1.1 remote-as 65001\n neighbor 10.0.1.1 local-role provider\n address-family ipv4 unicast\n  \
             network 10.11.0.0/24\n exit-address-family\n",
        )?;
        let bird = bird(
            &nodes[1],
            "10.0.2.2",
            "10.12.0.0/24",
            "local as 65020; neighbor 10.0.2.1 as 65001; local role peer; require roles on;",
        )?;
        established(lab, &mut ours, &["10.0.1.2", "10.0.2.2"])?;
        lab.wait_for("our own route at both", SECONDS(30), || {
            Ok(frr.has_route("10.10.0.0/24")? && bird.has_route("10.10.0.0/24", "ours")?)
        })?;
        lab.wait_for("our provider's route here", SECONDS(30), || Ok(ours.prefixes_from("10.0.1.2")? == 1))?;
        ensure!(bird_lacks(&bird, "10.11.0.0/24"), "a provider's route reached a peer");
        ensure!(!frr.has_route("10.12.0.0/24")?, "a peer's route reached a provider");
        let otc = bird.birdc("show route all 10.10.0.0/24")?;
        ensure!(otc.contains("BGP.otc: 65001") || otc.contains("BGP.otc [65001]"), "no mark on our own route: {otc}");
        let shown = ours.json("show bgp neighbors 10.0.1.2 json")?;
        ensure!(shown["10.0.1.2"]["remoteRole"] == "provider", "{shown}");

        // Roles that do not go together: no session, and the reason is shown.
        reload(&mut ours, &config("provider"))?;
        lab.wait_for("the contradiction is told", SECONDS(60), || {
            let shown = ours.json("show bgp neighbors 10.0.2.2 json")?;
            Ok(shown["10.0.2.2"]["lastErrorCodeSubcode"] == "020B" && !ours.is_established("10.0.2.2")?)
        })
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn bfd_goes_over_several_hops_and_by_peer_lines() {
    let config = "bfd\n peer 10.0.9.9 multihop local-address 10.0.1.1\n  transmit-interval 50\n  receive-interval 50\n \
                  peer 10.0.2.2\n  detect-multiplier 5\n  receive-interval 60\nrouter bgp 65001\n bgp router-id 10.0.0.1\n \
                  neighbor 10.0.9.9 remote-as 65010\n neighbor 10.0.9.9 ebgp-multihop 3\n neighbor 10.0.9.9 bfd\n \
                  neighbor 10.0.9.9 update-source 10.0.1.1\n neighbor 10.0.9.9 timers connect 1\n";
    Lab::test("multihop", |lab| {
        // One FRR is behind a router of its own; the other has a session without BGP.
        let (mut ours, nodes) = star(lab, config, &["router", "frr"])?;
        let far = lab.node("far")?;
        lab.join((&nodes[0], "eth1"), (&far, "eth0"))?;
        nodes[0].address("eth1", "10.0.9.1/24")?;
        nodes[0].forward()?;
        far.address("eth0", "10.0.9.9/24")?;
        far.route("10.0.0.0/16 via 10.0.9.1")?;
        ours.node.route("10.0.9.0/24 via 10.0.1.2")?;
        let distant = Frr::start(
            &far,
            &["bgpd", "bfdd"],
            "bfd\n peer 10.0.1.1 multihop local-address 10.0.9.9\n  transmit-interval 50\n  receive-interval 50\n  \
             minimum-ttl 250\n !\n!\nrouter bgp 65010\n bgp router-id 10.0.9.9\n no bgp ebgp-requires-policy\n \
             neighbor 10.0.1.1 remote-as 65001\n neighbor 10.0.1.1 ebgp-multihop 3\n neighbor 10.0.1.1 bfd\n \
             neighbor 10.0.1.1 update-source 10.0.9.9\n",
        )?;
        let near = Frr::start(&nodes[1], &["bfdd"], "bfd\n peer 10.0.2.1\n  transmit-interval 100\n !\n!\n")?;
        let status = |ours: &Edge, peer: &str| -> Result<serde_json::Value> {
            let peers = ours.json("show bfd peers json")?;
            let found = peers.as_array().into_iter().flatten().find(|entry| entry["peer"] == peer).cloned();
            found.with_context(|| format!("no BFD peer {peer} in {peers}"))
        };
        established(lab, &mut ours, &["10.0.9.9"])?;
        lab.wait_for("both BFD sessions", SECONDS(30), || {
            let (distant_one, near_one) = (status(&ours, "10.0.9.9")?, status(&ours, "10.0.2.2")?);
            ensure!(distant_one["multihop"] == true && near_one["multihop"] == false, "{distant_one} {near_one}");
            Ok(distant_one["status"] == "up" && near_one["status"] == "up" && near.bfd_is_up("10.0.2.1")?)
        })?;
        let near_one = status(&ours, "10.0.2.2")?;
        ensure!(near_one["detect-multiplier"] == 5 && near_one["receive-interval"] == 60, "{near_one}");
        ensure!(near_one["remote-transmit-interval"] == 100, "{near_one}");
        // The router drops everything: BFD ends the session long before the hold time of three minutes.
        nodes[0].ip("rule add pref 0 blackhole")?;
        lab.wait_for("our session is down", SECONDS(20), || Ok(!ours.is_established("10.0.9.9")?))?;
        lab.wait_for("FRR's session is down", SECONDS(20), || Ok(!distant.is_established("10.0.1.1")?))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn neighbors_come_from_a_listen_range() {
    let config = "router bgp 65001\n bgp router-id 10.0.0.1\n neighbor KNOWN peer-group\n neighbor KNOWN remote-as 65010\n \
                  neighbor KNOWN password swordfish\n neighbor OTHERS peer-group\n neighbor OTHERS remote-as external\n \
                  bgp listen range 10.0.0.0/16 peer-group OTHERS\n bgp listen range 10.0.1.0/24 peer-group KNOWN\n \
                  bgp listen limit 2\n address-family ipv4 unicast\n  network 10.10.0.0/24\n";
    Lab::test("listen", |lab| {
        let (mut ours, nodes) = star(lab, config, &["frr", "bird", "gobgp"])?;
        let frr = |password: &str| {
            Frr::start(
                &nodes[0],
                &["bgpd"],
                &format!(
                    "router bgp 65010\n bgp router-id 10.0.1.2\n no bgp network import-check\n \
                     no bgp ebgp-requires-policy\n neighbor 10.0.1.1 remote-as 65001\n neighbor 10.0.1.1 password {password}\n \
                     neighbor 10.0.1.1 timers connect 1\n address-family ipv4 unicast\n  network 10.11.0.0/24\n \
                     exit-address-family\n"
                ),
            )
        };
        let is_there = |ours: &Edge, address: &str| ours.is_established(address).unwrap_or(false);
        let first = frr("swordfish")?;
        let bird = bird(&nodes[1], "10.0.2.2", "10.12.0.0/24", "local as 65020; neighbor 10.0.2.1 as 65001;")?;
        lab.wait_for("both that came", SECONDS(60), || {
            ours.must_run()?;
            Ok(is_there(&ours, "10.0.1.2") && is_there(&ours, "10.0.2.2"))
        })?;
        lab.wait_for("routes both ways", SECONDS(30), || {
            Ok(first.has_route("10.12.0.0/24")? && bird.has_route("10.11.0.0/24", "ours")?)
        })?;
        // There is room for two.
        let _third = gobgp(lab, &nodes[2], 65030, "10.0.3.2", "10.0.3.1", 65001)?;
        lab.holds_for("the third waits", SECONDS(8), || Ok(!is_there(&ours, "10.0.3.2")))?;
        // Whoever goes is forgotten, and makes room.
        drop(first);
        lab.wait_for("the first is forgotten and the third is there", SECONDS(200), || {
            Ok(ours.neighbor("10.0.1.2").is_err() && is_there(&ours, "10.0.3.2"))
        })?;
        ensure!(is_there(&ours, "10.0.2.2"), "nobody else noticed");
        // A group that is gone takes its neighbors along; the range that is left does for them.
        reload(&mut ours, &config.replace("bgp listen limit 2\n", "bgp listen limit 3\n"))?;
        let wrong = frr("halibut")?;
        lab.holds_for("the wrong key opens no connection", SECONDS(5), || Ok(!is_there(&ours, "10.0.1.2")))?;
        drop(wrong);
        let _again = frr("swordfish")?;
        lab.wait_for("the first is back", SECONDS(60), || Ok(is_there(&ours, "10.0.1.2")))
    });
}

/// The link-local address of an interface.
fn link_local(node: &Node, interface: &str) -> Result<String> {
    let shown = node.run_json(&["ip", "-j", "-6", "addr", "show", "dev", interface, "scope", "link"])?;
    let address = shown.pointer("/0/addr_info/0/local").and_then(|address| address.as_str()).map(str::to_owned);
    address.context("no link-local address yet")
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_link_without_addresses_carries_both_families() {
    let config = "router bgp 65001\n bgp router-id 10.0.0.1\n neighbor eth0 interface remote-as external\n \
                  address-family ipv4 unicast\n  network 10.10.0.0/24\n address-family ipv6 unicast\n  \
                  network fd10:1::/64\n  neighbor eth0 activate\n";
    Lab::test("unnumbered", |lab| {
        packages::ensure(&packages::PEERS)?;
        let (left, right) = (lab.node("ours")?, lab.node("frr")?);
        lab.join((&left, "eth0"), (&right, "eth0"))?;
        for (node, number) in [(&left, 10), (&right, 11)] {
            node.address("lo", &format!("10.{number}.0.1/24"))?;
            node.address("lo", &format!("fd{number}:1::1/64"))?;
            node.forward()?;
        }
        let frr = Frr::start(
            &right,
            &["bgpd"],
            "router bgp 65002\n bgp router-id 10.0.0.2\n no bgp ebgp-requires-policy\n \
             neighbor eth0 interface remote-as external\n address-family ipv4 unicast\n  network 10.11.0.0/24\n \
             exit-address-family\n address-family ipv6 unicast\n  network fd11:1::/64\n  neighbor eth0 activate\n \
             exit-address-family\n",
        )?;
        let far = lab.wait_until("FRR's link-local address", SECONDS(20), || link_local(&right, "eth0").map(Some))?;
        let mut ours = Edge::new(&left, &Binaries::find()?, config)?;
        ours.start_bgpd()?;
        lab.wait_for("the session", SECONDS(60), || {
            ours.must_run()?;
            ours.is_established("eth0")
        })?;
        lab.wait_for("routes of both families at FRR", SECONDS(30), || {
            Ok(frr.has_route("10.10.0.0/24")? && frr.has_route("fd10:1::/64")?)
        })?;
        lab.wait_for("IPv4 by IPv6 in our kernel", SECONDS(30), || {
            let route = left.ip("route show 10.11.0.0/24")?;
            let by_object = left.ip("nexthop show")?;
            Ok(route.contains(&format!("via inet6 {far}")) || route.contains("nhid") && by_object.contains(&far))
        })?;
        lab.wait_for("traffic in IPv4", SECONDS(20), || {
            left.run(&["ping", "-n", "-q", "-c", "1", "-W", "1", "-I", "10.10.0.1", "10.11.0.1"]).map(|_| true)
        })?;
        lab.wait_for("traffic in IPv6", SECONDS(20), || {
            left.run(&["ping", "-n", "-q", "-c", "1", "-W", "1", "-I", "fd10:1::1", "fd11:1::1"]).map(|_| true)
        })?;
        let shown = ours.json("show bgp neighbors eth0 json")?;
        let agreed = shown.pointer("/eth0/neighborCapabilities/extendedNexthop");
        ensure!(agreed.is_some_and(|agreed| agreed == "advertisedAndReceived"), "RFC 8950: {shown}");
        // The link goes and comes back, and so does the session.
        left.set_link("eth0", false)?;
        lab.wait_for("the session is gone", SECONDS(20), || Ok(!ours.is_established("eth0").unwrap_or(false)))?;
        left.set_link("eth0", true)?;
        lab.wait_for("the session is back", SECONDS(90), || Ok(ours.is_established("eth0").unwrap_or(false)))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_neighbor_that_stays_away_is_used_for_long_and_only_as_a_last_resort() {
    let config = "router bgp 65001\n bgp router-id 10.0.0.1\n bgp long-lived-graceful-restart stale-time 600\n \
                  neighbor 10.0.1.2 remote-as 65010\n neighbor 10.0.1.2 timers connect 1\n neighbor 10.0.2.2 remote-as 65020\n neighbor 10.0.3.2 remote-as 65030\n \
                  address-family ipv4 unicast\n  network 10.10.0.0/24\n";
    Lab::test("llgr", |lab| {
        let (mut ours, nodes) = star(lab, config, &["bird", "frr", "gobgp"])?;
        let start = || {
            bird(
                &nodes[0],
                "10.0.1.2",
                "10.12.0.0/24",
                "local as 65010; neighbor 10.0.1.1 as 65001; graceful restart on; graceful restart time 3; \
                 long lived graceful restart on; long lived stale time 500;",
            )
        };
        let mut away = start()?;
        let frr = Frr::start(
            &nodes[1],
            &["bgpd"],
            "router bgp 65020\n bgp router-id 10.0.2.2\n no bgp network import-check\n no bgp ebgp-requires-policy\n \
             neighbor 10.0.2.1 remote-as 65001\n address-family ipv4 unicast\n exit-address-family\n",
        )?;
        let plain = gobgp(lab, &nodes[2], 65030, "10.0.3.2", "10.0.3.1", 65001)?;
        let plain_has = || Ok::<_, anyhow::Error>(plain.gobgp("global rib -a ipv4")?.contains("10.12.0.0/24"));
        established(lab, &mut ours, &["10.0.1.2", "10.0.2.2", "10.0.3.2"])?;
        lab.wait_for("the route at both", SECONDS(30), || Ok(frr.has_route("10.12.0.0/24")? && plain_has()?))?;
        away.process.kill()?;
        let path = |ours: &Edge| -> Result<serde_json::Value> {
            let shown = ours.json("show bgp ipv4 unicast 10.12.0.0/24 json")?;
            shown.pointer("/paths/0").cloned().with_context(|| format!("no path in {shown}"))
        };
        lab.wait_for("the restart time is over, and the path is marked", SECONDS(30), || {
            let path = path(&ours)?;
            let communities = path.pointer("/community/string").and_then(|text| text.as_str()).unwrap_or_default();
            Ok(communities.contains("llgr-stale") && path["valid"] == true)
        })?;
        ensure!(ours.node.egress("10.12.0.1".parse()?).as_deref() == Some("to-bird"), "it is used");
        lab.wait_for("FRR, which speaks it, is told, and GoBGP, which does not here, is not", SECONDS(20), || {
            let route = frr.json("show bgp ipv4 unicast 10.12.0.0/24 json")?;
            let communities = route.pointer("/paths/0/community/string").and_then(|text| text.as_str());
            Ok(communities.is_some_and(|text| text.contains("llgr-stale")) && !plain_has()?)
        })?;
        // It is back, and so is its route.
        let _back = start()?;
        lab.wait_for("the route is fresh", SECONDS(60), || {
            let path = path(&ours)?;
            let communities = path.pointer("/community/string").and_then(|text| text.as_str()).unwrap_or_default();
            Ok(!communities.contains("llgr-stale") && path["valid"] == true && plain_has()?)
        })
    });
}
