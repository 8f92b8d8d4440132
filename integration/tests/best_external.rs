//! Two routers of one site with an exit each: the second prefers the first one's, and tells its own best external path all
//! the same, so that the first has it ready in its FIB when its exit dies (draft-ietf-idr-best-external). FRR, an internal
//! neighbor too, hears of it.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::edge::{Binaries, Edge};
use integration::peers::{Bird, Frr};
use integration::{Lab, Node, packages};
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const PREFIX: &str = "10.88.0.0/16";
const WITHIN: &str = "10.88.1.1";

/// One of BIRD's beyond an exit, at `address` in AS `asn`.
fn provider(node: &Node, address: &str, near: &str, asn: u32) -> Result<Bird> {
    Bird::start(
        node,
        &format!(
            "router id {address};\nprotocol device {{}}\nprotocol static {{ ipv4; route {PREFIX} blackhole; }}\n\
             protocol bgp site {{ local {address} as {asn}; neighbor {near} as 65001; connect retry time 2; \
             connect delay time 1; hold time 3; ipv4 {{ import none; export all; }}; }}\n"
        ),
    )
}

/// The site's LAN is 10.254.1.0/24: the first router is .1, the second .2, FRR .3.
fn router(number: u8, external: &str, asn: u32, local_pref: u32, best_external: bool) -> String {
    let mut text = format!(
        "router bgp 65001\n bgp router-id 10.254.1.{number}\n no bgp ebgp-requires-policy\n neighbor {external} remote-as {asn}\n \
         neighbor {external} timers connect 1\n"
    );
    let others = [1, 2, 3].into_iter().filter(|other| *other != number);
    for other in others.clone() {
        text += &format!(" neighbor 10.254.1.{other} remote-as 65001\n neighbor 10.254.1.{other} timers connect 1\n");
    }
    text += &format!(" address-family ipv4 unicast\n  neighbor {external} route-map in in\n");
    for other in others {
        text += &format!("  neighbor 10.254.1.{other} next-hop-self\n");
        text += &if best_external {
            format!("  neighbor 10.254.1.{other} advertise-best-external\n")
        } else {
            String::new()
        };
    }
    text + &format!("route-map in permit 10\n set local-preference {local_pref}\n")
}

fn frr() -> String {
    let neighbor = |number: u8| {
        format!(" neighbor 10.254.1.{number} remote-as 65001\n neighbor 10.254.1.{number} timers connect 2\n")
    };
    format!("router bgp 65001\n bgp router-id 10.254.1.3\n{}{}", neighbor(1), neighbor(2))
}

/// The next hops of the paths that FRR has.
fn at_frr(frr: &Frr) -> Result<Vec<String>> {
    let answer = frr.json(&format!("show bgp ipv4 unicast {PREFIX} json"))?;
    let paths = answer.get("paths").and_then(Value::as_array);
    let hops = paths.into_iter().flatten().filter_map(|path| path.pointer("/nexthops/0/ip")?.as_str());
    let mut hops: Vec<String> = hops.map(str::to_owned).collect();
    hops.sort();
    Ok(hops)
}

/// Where the first router has its packets go, and would if that failed.
fn forwarding(edge: &Edge) -> Result<(Option<String>, Option<String>)> {
    let answer = edge.json(&format!("show bgp ipv4 unicast {PREFIX} json"))?;
    let paths = answer.get("paths").and_then(Value::as_array).cloned().unwrap_or_default();
    let with = |state: &str| {
        let path = paths.iter().find(|path| path.get(state).is_some_and(|value| *value != Value::Bool(false)))?;
        path.pointer("/nexthops/0/ip")?.as_str().map(str::to_owned)
    };
    Ok((with("bestpath"), with("backup")))
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_other_exit_is_ready_before_it_is_needed() {
    Lab::test("best-external", |lab| {
        packages::ensure(&packages::PEERS)?;
        let [lan, first, second, third, isp1, isp2] =
            ["lan", "first", "second", "third", "isp1", "isp2"].map(|name| lab.node(name));
        let (lan, first, second, third, isp1, isp2) = (lan?, first?, second?, third?, isp1?, isp2?);
        lan.ip("link add switch type bridge")?;
        lan.set_link("switch", true)?;
        for (number, node) in [(1, &first), (2, &second), (3, &third)] {
            let port = format!("port{number}");
            lab.join((&lan, &port), (node, "lan0"))?;
            lan.ip(&format!("link set {port} master switch"))?;
            node.address("lan0", &format!("10.254.1.{number}/24"))?;
        }
        for (node, isp, net) in [(&first, &isp1, 11), (&second, &isp2, 12)] {
            lab.join((node, "wan0"), (isp, "site"))?;
            node.address("wan0", &format!("10.254.{net}.1/30"))?;
            isp.address("site", &format!("10.254.{net}.2/30"))?;
        }
        let one = provider(&isp1, "10.254.11.2", "10.254.11.1", 65101)?;
        let _two = provider(&isp2, "10.254.12.2", "10.254.12.1", 65102)?;
        let binaries = Binaries::find()?;
        let mut a = Edge::new(&first, &binaries, &router(1, "10.254.11.2", 65101, 200, false))?;
        let mut b = Edge::new(&second, &binaries, &router(2, "10.254.12.2", 65102, 100, false))?;
        a.start()?;
        b.start()?;
        let frr = Frr::start(&third, &["bgpd"], &frr())?;
        let up = || {
            Ok(a.is_established("10.254.1.2")?
                && b.is_established("10.254.12.2")?
                && frr.is_established("10.254.1.2")?)
        };
        lab.wait_for("sessions", SECONDS(60), up)?;
        let [exit, beyond_b] = [Some("10.254.11.2".to_owned()), Some("10.254.1.2".to_owned())];
        lab.wait_for("the first exit", SECONDS(60), || {
            let chosen = forwarding(&b)?.0.as_deref() == Some("10.254.1.1");
            Ok(chosen && at_frr(&frr)? == ["10.254.1.1"] && forwarding(&a)? == (exit.clone(), None))
        })?;

        b.configure(&router(2, "10.254.12.2", 65102, 100, true))?;
        b.reload()?;
        let ready = || Ok(forwarding(&a)? == (exit.clone(), beyond_b.clone()));
        lab.wait_for("the second exit behind the first", SECONDS(30), ready)?;
        lab.wait_for("both at FRR", SECONDS(30), || Ok(at_frr(&frr)? == ["10.254.1.1", "10.254.1.2"]))?;
        ensure!(forwarding(&b)?.0.as_deref() == Some("10.254.1.1"), "the second router itself goes on as before");

        drop(one);
        let moved = || Ok(first.egress(WITHIN.parse()?).as_deref() == Some("lan0"));
        lab.wait_for("packets at the second exit", SECONDS(30), moved)?;
        lab.wait_for("and nothing else", SECONDS(30), || Ok(at_frr(&frr)? == ["10.254.1.2"]))?;
        a.must_run()?;
        b.must_run()
    });
}
