//! Outbound route filtering (RFC 5291, RFC 5292) with FRR, both ways: what a side does not want is not sent to it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::edge::{Binaries, Daemon, Edge};
use integration::peers::Frr;
use integration::{Lab, packages};
use rustix::process::Signal;
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

const FRR: &str = "\
ip prefix-list IN seq 5 permit 30.0.0.0/8 ge 9 le 24
router bgp 65002
 bgp router-id 10.0.0.2
 no bgp network import-check
 no bgp ebgp-requires-policy
 neighbor 10.0.0.1 remote-as 65001
 neighbor 10.0.0.1 timers connect 2
 neighbor 10.0.0.1 advertisement-interval 0
 address-family ipv4 unicast
  network 10.20.0.0/16
  network 10.30.0.0/16
  network 20.0.0.0/16
  neighbor 10.0.0.1 capability orf prefix-list both
  neighbor 10.0.0.1 prefix-list IN in
 exit-address-family
";

fn ours(list: &str) -> String {
    format!(
        "{list}router bgp 65001\n bgp router-id 10.0.0.1\n neighbor 10.0.0.2 remote-as 65002\n \
         neighbor 10.0.0.2 timers connect 2\n address-family ipv4 unicast\n  network 30.1.0.0/16\n  network 30.2.0.0/16\n  \
         network 40.0.0.0/16\n  neighbor 10.0.0.2 capability orf prefix-list both\n  neighbor 10.0.0.2 prefix-list IN in\n"
    )
}

/// The prefixes in an answer that has them as keys of the object behind `key`.
fn prefixes(answer: &Value, key: &str) -> Result<BTreeSet<String>> {
    let routes = answer.get(key).and_then(Value::as_object).with_context(|| format!("no {key} in {answer}"))?;
    Ok(routes.keys().cloned().collect())
}

fn set(prefixes: &[&str]) -> BTreeSet<String> {
    prefixes.iter().map(|prefix| (*prefix).to_owned()).collect()
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn each_side_is_sent_what_it_asked_for() {
    Lab::test("orf", |lab| {
        packages::ensure(&packages::PEERS)?;
        let (node, peer) = (lab.node("ours")?, lab.node("frr")?);
        lab.join((&node, "eth0"), (&peer, "eth0"))?;
        node.address("eth0", "10.0.0.1/24")?;
        peer.address("eth0", "10.0.0.2/24")?;
        let frr = Frr::start(&peer, &["bgpd"], FRR)?;
        let mut edge =
            Edge::new(&node, &Binaries::find()?, &ours("ip prefix-list IN seq 5 permit 10.0.0.0/8 le 24\n"))?;
        edge.start_bgpd()?;

        // What either side was sent, before any policy of its own.
        let sent_to_us = |edge: &Edge| {
            prefixes(&edge.json("show bgp ipv4 unicast neighbors 10.0.0.2 received-routes json")?, "receivedRoutes")
        };
        let sent_to_frr = |edge: &Edge| {
            prefixes(&edge.json("show bgp ipv4 unicast neighbors 10.0.0.2 advertised-routes json")?, "advertisedRoutes")
        };
        lab.wait_for("only what both asked for", SECONDS(60), || {
            edge.must_run()?;
            let there = frr.has_route("30.1.0.0/16")? && frr.has_route("30.2.0.0/16")?;
            Ok(there && sent_to_us(&edge)? == set(&["10.20.0.0/16", "10.30.0.0/16"]))
        })?;
        ensure!(sent_to_frr(&edge)? == set(&["30.1.0.0/16", "30.2.0.0/16"]), "{:?}", sent_to_frr(&edge)?);
        ensure!(edge.json("show bgp neighbors 10.0.0.2 json")?["10.0.0.2"]["connectionsDropped"] == 0);

        // Both show the same of what was agreed, and of the filter that came.
        // FRR still offers a type from before the RFC beside it.
        let capability = |answer: Value, neighbor: &str| {
            let found =
                answer.pointer(&format!("/{neighbor}/addressFamilyInfo/ipv4Unicast/afDependentCap/orfPrefixList"));
            found.cloned().with_context(|| format!("no orfPrefixList in {answer}"))
        };
        let agreed = capability(edge.json("show bgp neighbors 10.0.0.2 json")?, "10.0.0.2")?;
        ensure!(agreed == capability(frr.json("show bgp neighbors 10.0.0.1 json")?, "10.0.0.1")?, "{agreed}");
        let filter = edge.shell("show bgp ipv4 unicast neighbors 10.0.0.2 received prefix-filter")?;
        ensure!(filter.contains("seq 5 permit 30.0.0.0/8 ge 9 le 24"), "{filter}");
        let theirs = frr.vtysh("show bgp ipv4 unicast neighbors 10.0.0.1 received prefix-filter")?;
        ensure!(theirs.contains("seq 5 permit 10.0.0.0/8 le 24"), "{theirs}");

        // Another list goes out by itself, and is obeyed.
        edge.configure(&ours(
            "ip prefix-list IN seq 5 deny 10.20.0.0/16\nip prefix-list IN seq 10 permit 10.0.0.0/8 le 24\nip prefix-list IN seq 15 permit 20.0.0.0/8 le 24\n",
        ))?;
        edge.process(Daemon::Bgpd)?.signal(Signal::HUP)?;
        lab.wait_for(
            "our new filter",
            SECONDS(30),
            || Ok(sent_to_us(&edge)? == set(&["10.30.0.0/16", "20.0.0.0/16"])),
        )?;
        frr.vtysh(
            "configure terminal\nno ip prefix-list IN seq 5\nip prefix-list IN seq 7 deny 30.2.0.0/16\n\
             ip prefix-list IN seq 9 permit any",
        )?;
        frr.vtysh("clear bgp ipv4 unicast 10.0.0.1 in prefix-filter")?;
        lab.wait_for("FRR's new filter", SECONDS(30), || {
            Ok(sent_to_frr(&edge)? == set(&["30.1.0.0/16", "40.0.0.0/16"]) && frr.has_route("40.0.0.0/16")?)
        })?;
        lab.wait_for("30.2.0.0/16 is withdrawn", SECONDS(30), || Ok(!frr.has_route("30.2.0.0/16")?))?;
        let shown = edge.json("show bgp neighbors 10.0.0.2 json")?;
        ensure!(shown["10.0.0.2"]["connectionsDropped"] == 0, "{shown}");

        // Without the capability everything is sent, and what is not wanted is dropped here.
        let plain = ours("ip prefix-list IN seq 5 permit 10.0.0.0/8 le 24\n")
            .replace("orf prefix-list both", "orf prefix-list receive");
        edge.configure(&plain)?;
        edge.process(Daemon::Bgpd)?.signal(Signal::HUP)?;
        lab.wait_for("everything is sent to us", SECONDS(60), || {
            let all = set(&["10.20.0.0/16", "10.30.0.0/16", "20.0.0.0/16"]);
            // FRR sends back what it has from us, as well.
            Ok(sent_to_us(&edge).is_ok_and(|sent| sent.is_superset(&all)))
        })?;
        lab.wait_for("FRR's filter holds on", SECONDS(30), || {
            Ok(sent_to_frr(&edge)? == set(&["30.1.0.0/16", "40.0.0.0/16"]))
        })
    });
}
