//! RPKI with a real cache: what is announced is judged by what the cache says, and again when it says something else.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::edge::{Binaries, Edge};
use integration::peers::{Frr, Stayrtr};
use integration::{Lab, Node, packages};
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// bgpd between two caches; what is invalid is refused.
const CACHES: &str = "\
rpki
 rpki cache 192.0.2.2 8282 preference 1
 rpki cache tcp 192.0.2.2 8283 preference 2
 rpki retry_interval 2
 exit
";

/// The session.
const BGP: &str = "\
router bgp 65001
 bgp router-id 10.1.0.1
 neighbor 192.0.2.2 remote-as 65002
 neighbor 192.0.2.2 timers connect 1
 address-family ipv4 unicast
  neighbor 192.0.2.2 route-map sound in
 exit-address-family
route-map sound deny 10
 match rpki invalid
route-map sound permit 20
";

fn lab(lab: &Lab) -> Result<(Node, Node)> {
    packages::ensure(&["frr", "stayrtr"])?;
    let (ours, theirs) = (lab.node("ours")?, lab.node("theirs")?);
    lab.join((&ours, "eth0"), (&theirs, "eth0"))?;
    ours.address("eth0", "192.0.2.1/24")?;
    theirs.address("eth0", "192.0.2.2/24")?;
    Ok((ours, theirs))
}

/// Prefixes whose paths have this state.
fn of_state(edge: &Edge, state: &str) -> Result<Vec<String>> {
    let table = edge.json(&format!("show bgp ipv4 unicast rpki {state} json"))?;
    let routes = table["routes"].as_object().into_iter().flatten();
    Ok(routes.map(|(prefix, _)| prefix.clone()).collect())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn routes_are_judged_by_what_the_cache_says_now() {
    Lab::test("rpki", |lab_| {
        let (ours, theirs) = lab(lab_)?;
        let first = Stayrtr::start(&theirs, 8282, &[("10.1.0.0/16", 24, 65002), ("10.2.0.0/16", 16, 65003)])?;
        let frr = Frr::start(
            &theirs,
            &["bgpd"],
            "router bgp 65002\n bgp router-id 10.2.0.1\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
             neighbor 192.0.2.1 remote-as 65001\n address-family ipv4 unicast\n  network 10.1.1.0/24\n  network 10.2.0.0/16\n  \
             network 10.3.0.0/16\n exit-address-family\n",
        )?;
        let mut edge = Edge::new(&ours, &Binaries::find()?, &format!("{CACHES}{BGP}"))?;
        edge.start_bgpd()?;
        lab_.wait_for("a session", SECONDS(60), || {
            edge.must_run()?;
            edge.is_established("192.0.2.2")
        })?;
        let states = |valid: &[&str], invalid: &[&str], unknown: &[&str]| -> Result<bool> {
            Ok(of_state(&edge, "valid")? == valid
                && of_state(&edge, "invalid")? == invalid
                && of_state(&edge, "notfound")? == unknown)
        };
        lab_.wait_for("a state of each", SECONDS(30), || states(&["10.1.1.0/24"], &["10.2.0.0/16"], &["10.3.0.0/16"]))?;
        let forwards = |address: &str| -> Result<bool> { Ok(ours.egress(address.parse()?).as_deref() == Some("eth0")) };
        lab_.wait_for("what is sound in the kernel", SECONDS(20), || {
            Ok(forwards("10.1.1.1")? && forwards("10.3.0.1")?)
        })?;
        ensure!(!forwards("10.2.0.1")?, "an invalid route is used");
        let table = edge.json("show rpki prefix-table json")?;
        ensure!(table["ipv4PrefixCount"] == 2 && table["prefixes"][0]["asn"] == 65002, "{table}");
        let refused = edge.json("show bgp ipv4 unicast 10.2.0.0/16 json")?;
        ensure!(refused.get("paths").is_none(), "a route that policy refused is in the table: {refused}");
        let detail = edge.json("show bgp ipv4 unicast 10.3.0.0/16 json")?;
        ensure!(detail["paths"][0]["rpkiValidationState"] == "not found", "{detail}");

        // The cache says something else: by Serial Notify, not by the next poll in an hour.
        first.serve(&[("10.2.0.0/16", 16, 65002), ("10.3.0.0/16", 16, 65003)])?;
        lab_.wait_for("the new states", SECONDS(30), || states(&["10.2.0.0/16"], &["10.3.0.0/16"], &["10.1.1.0/24"]))?;
        lab_.wait_for("the kernel follows", SECONDS(20), || {
            Ok(forwards("10.2.0.1")? && !forwards("10.3.0.1")? && forwards("10.1.1.1")?)
        })?;
        let connection = |preference: u8| -> Result<Value> {
            let caches = edge.json("show rpki cache-connection json")?;
            let list = caches["connections"].as_array().cloned().unwrap_or_default();
            Ok(list.into_iter().find(|cache| cache["preference"] == preference).unwrap_or_default())
        };
        ensure!(connection(1)?["active"] == true && connection(1)?["protocolVersion"] == 1, "{}", connection(1)?);

        // The cache is lost: its payloads stay, until the second one is there.
        drop(first);
        lab_.wait_for("the loss", SECONDS(30), || Ok(connection(1)?["state"] == "disconnected"))?;
        ensure!(states(&["10.2.0.0/16"], &["10.3.0.0/16"], &["10.1.1.0/24"])?, "payloads went with the connection");
        let _second = Stayrtr::start(&theirs, 8283, &[("10.3.0.0/16", 16, 65002)])?;
        lab_.wait_for("the second cache", SECONDS(60), || {
            Ok(connection(2)?["active"] == true && states(&["10.3.0.0/16"], &[], &["10.1.1.0/24", "10.2.0.0/16"])?)
        })?;

        // No cache is configured any more: no state at all.
        std::fs::write(edge.config_path(), BGP)?;
        edge.bgpd.as_ref().map_or(Ok(()), |bgpd| bgpd.signal(rustix::process::Signal::HUP))?;
        lab_.wait_for("no states", SECONDS(30), || states(&[], &[], &[]))?;
        ensure!(frr.is_established("192.0.2.1")?, "the session did not notice");
        Ok(())
    });
}
