//! Packets spread over several paths (ECMP), with FRR at the far ends: kernel groups, weights by link bandwidth, and what
//! becomes of them when members die one after the other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::edge::{Binaries, Edge};
use integration::peers::Frr;
use integration::{Lab, Node, packages};
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const PREFIX: &str = "10.9.0.0/16";
/// An address within it.
const WITHIN: &str = "10.9.1.1";
/// Far ends in one AS, with the bandwidth that each names, in megabits per second. The last one is farther away.
const FAR: [(&str, u32); 3] = [("a", 300), ("b", 100), ("c", 100)];

fn link(number: usize) -> (String, String) {
    (format!("10.254.{number}.1"), format!("10.254.{number}.2"))
}

/// One of FRR's at the other end of link `number`.
fn far_end(node: &Node, number: usize, megabits: u32) -> Result<Frr> {
    let (ours, own) = link(number);
    let prepend = if number + 1 == FAR.len() { " set as-path prepend 65002 65002\n" } else { "" };
    let text = format!(
        "router bgp 65002\n bgp router-id {own}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         neighbor {ours} remote-as 65001\n neighbor {ours} timers connect 2\n neighbor {ours} timers 1 3\n \
         address-family ipv4 unicast\n  network {PREFIX}\n  neighbor {ours} route-map out out\n exit-address-family\n\
         route-map out permit 10\n set extcommunity bandwidth {megabits}\n{prepend}"
    );
    Frr::start(node, &["bgpd"], &text)
}

fn configuration(more: &str) -> String {
    let mut text = "router bgp 65001\n bgp router-id 10.254.0.1\n".to_owned();
    for number in 0..FAR.len() {
        text += &format!(" neighbor {0} remote-as 65002\n neighbor {0} timers connect 1\n", link(number).1);
    }
    text + more + " address-family ipv4 unicast\n  maximum-paths 4\n"
}

/// Nexthops of the prefix by `show ip route`: address, weight, and whether it is in use.
fn nexthops(ours: &Edge) -> Result<Vec<(String, u64)>> {
    let answer = ours.json(&format!("show ip route {PREFIX} json"))?;
    let route = answer.get(PREFIX).and_then(|routes| routes.get(0));
    let hops = route.and_then(|route| route.get("nexthops")?.as_array());
    let hop = |hop: &Value| {
        let (active, fib) = (hop.get("active")?.as_bool()?, hop.get("fib")?.as_bool()?);
        (active && fib).then_some((hop.get("ip")?.as_str()?.to_owned(), hop.get("weight")?.as_u64()?))
    };
    Ok(hops.into_iter().flatten().filter_map(hop).collect())
}

/// The weights of the kernel's groups of ours, each in order.
fn groups(node: &Node) -> Result<Vec<Vec<u64>>> {
    let shown = node.run_json(&["ip", "-j", "nexthop"])?;
    let objects = shown.as_array().context("no list of nexthops")?;
    let weights = |members: &Value| {
        let weight = |member: &Value| member.get("weight").and_then(Value::as_u64).unwrap_or(1);
        let mut all: Vec<u64> = members.as_array().into_iter().flatten().map(weight).collect();
        all.sort_unstable();
        all
    };
    Ok(objects.iter().filter_map(|object| object.get("group")).map(weights).collect())
}

fn multipath(ours: &Edge) -> Result<usize> {
    let answer = ours.json(&format!("show bgp ipv4 unicast {PREFIX} multipath json"))?;
    let paths = answer.get("paths").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    Ok(paths.iter().filter(|path| path.get("multipath") == Some(&Value::Bool(true))).count())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn packets_are_spread_by_bandwidth_until_one_path_after_the_other_dies() {
    Lab::test("multipath", |lab| {
        packages::ensure(&packages::PEERS)?;
        let node = lab.node("ours")?;
        let mut far = Vec::new();
        for (number, (name, megabits)) in FAR.into_iter().enumerate() {
            let other = lab.node(name)?;
            let interface = format!("to-{name}");
            lab.join((&node, &interface), (&other, "to-ours"))?;
            let (near, there) = link(number);
            node.address(&interface, &format!("{near}/30"))?;
            other.address("to-ours", &format!("{there}/30"))?;
            far.push(Some(far_end(&other, number, megabits)?));
        }
        let [a, b, c] = [0, 1, 2].map(|number| link(number).1);
        let mut ours = Edge::new(&node, &Binaries::find()?, &configuration(""))?;
        ours.start()?;
        let is = |ours: &Edge, wanted: &[(&String, u64)]| {
            let mut found = nexthops(ours)?;
            found.sort();
            Ok(found == wanted.iter().map(|(ip, weight)| ((*ip).clone(), *weight)).collect::<Vec<_>>())
        };
        lab.wait_for("shares by bandwidth", SECONDS(60), || is(&ours, &[(&a, 75), (&b, 25)]))?;
        ensure!(groups(&node)? == [vec![25, 75]], "{:?}", groups(&node)?);
        ensure!(multipath(&ours)? == 2, "the one that is farther away takes no part");
        let text = ours.shell("show bgp ipv4 unicast")?;
        ensure!(text.lines().any(|line| line.starts_with(" *=")), "{text}");

        ours.configure(&configuration(" bgp bestpath bandwidth ignore\n"))?;
        ours.reload()?;
        lab.wait_for("equal shares", SECONDS(10), || is(&ours, &[(&a, 1), (&b, 1)]))?;
        ensure!(groups(&node)? == [vec![1, 1]], "{:?}", groups(&node)?);

        // One after the other: a member, the other member, the alternate. The end of a session moves packets at once.
        far[0] = None;
        lab.wait_for("the other member", SECONDS(20), || is(&ours, &[(&b, 1)]))?;
        ensure!(node.egress(WITHIN.parse()?).as_deref() == Some("to-b"));
        far[1] = None;
        lab.wait_for("the alternate", SECONDS(20), || is(&ours, &[(&c, 1)]))?;
        ensure!(node.egress(WITHIN.parse()?).as_deref() == Some("to-c"));
        far[0] = Some(far_end(&lab.node("a-again").and_then(|again| rejoin(lab, &node, again))?, 0, 300)?);
        lab.wait_for("the best again", SECONDS(60), || is(&ours, &[(&a, 1)]))?;
        ours.must_run()
    });
}

/// Another machine at the end of the first link.
fn rejoin(lab: &Lab, node: &Node, other: Node) -> Result<Node> {
    node.ip("link del to-a")?;
    lab.join((node, "to-a"), (&other, "to-ours"))?;
    let (near, there) = link(0);
    node.address("to-a", &format!("{near}/30"))?;
    other.address("to-ours", &format!("{there}/30"))?;
    Ok(other)
}
