//! Next hops that rest on routes of BGP's own, several steps of them, with FRR as the neighbor that announces all.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::edge::{Binaries, Edge};
use integration::peers::Frr;
use integration::{Lab, packages};
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const OURS: &str = "10.254.0.1";
const FAR: &str = "10.254.0.2";

/// Each prefix but the first has a next hop within the one before it; the last two lead to each other.
fn far_end() -> String {
    let mut text = format!(
        "router bgp 65001\n bgp router-id {FAR}\n no bgp network import-check\n neighbor {OURS} remote-as 65001\n \
         neighbor {OURS} timers connect 2\n address-family ipv4 unicast\n  neighbor {OURS} route-map out out\n"
    );
    for number in 1..=6 {
        text += &format!("  network 10.{number}.0.0/16\n");
    }
    text += " exit-address-family\n";
    for (number, next_hop) in [(2, 1), (3, 2), (4, 3), (5, 6), (6, 5)] {
        text += &format!(
            "ip prefix-list p{number} permit 10.{number}.0.0/16\nroute-map out permit {number}\n \
             match ip address prefix-list p{number}\n set ip next-hop 10.{next_hop}.0.1\n"
        );
    }
    text + "route-map out permit 100\n"
}

/// Which of the prefixes have a best path here.
fn reachable(ours: &Edge) -> Result<Vec<u8>> {
    let answer = ours.json("show bgp ipv4 unicast json")?;
    let best = |number: &u8| {
        let paths = answer.get("routes").and_then(|routes| routes.get(format!("10.{number}.0.0/16"))?.as_array());
        paths.into_iter().flatten().any(|path| path.get("bestpath") == Some(&Value::Bool(true)))
    };
    Ok((1..=6).filter(best).collect())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_next_hop_rests_on_others_several_steps_down_and_goes_and_comes_with_them() {
    Lab::test("next-hops", |lab| {
        packages::ensure(&packages::PEERS)?;
        let (node, other) = (lab.node("ours")?, lab.node("far")?);
        lab.join((&node, "to-far"), (&other, "to-ours"))?;
        node.address("to-far", &format!("{OURS}/30"))?;
        other.address("to-ours", &format!("{FAR}/30"))?;
        let frr = Frr::start(&other, &["bgpd"], &far_end())?;
        let text = format!(
            "router bgp 65001\n bgp router-id {OURS}\n neighbor {FAR} remote-as 65001\n neighbor {FAR} timers connect 1\n"
        );
        let mut ours = Edge::new(&node, &Binaries::find()?, &text)?;
        ours.start_bgpd()?;
        lab.wait_for("three steps", SECONDS(60), || Ok(reachable(&ours)? == [1, 2, 3, 4]))?;
        lab.wait_for("the last one in the kernel", SECONDS(10), || {
            Ok(node.egress("10.4.0.9".parse()?).as_deref() == Some("to-far"))
        })?;
        let shown = ours.shell("show ip route 10.4.0.0/16")?;
        ensure!(shown.contains(&format!("via {FAR}, to-far")), "{shown}");
        // What all of them rest on goes, and comes back.
        let change = |word: &str| {
            frr.vtysh(&format!("configure terminal\nrouter bgp 65001\naddress-family ipv4 unicast\n{word} 10.1.0.0/16"))
        };
        change("no network")?;
        lab.wait_for("nothing to rest on", SECONDS(20), || Ok(reachable(&ours)?.is_empty()))?;
        change("network")?;
        lab.wait_for("all of them again", SECONDS(20), || Ok(reachable(&ours)? == [1, 2, 3, 4]))?;
        ours.must_run()
    });
}
