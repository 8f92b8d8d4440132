//! Route flap dampening (RFC 2439): the same routes flap before our bgpd and before FRR, and both judge alike.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::edge::{Binaries, Edge};
use integration::peers::{Bird, Frr};
use integration::{Lab, packages};
use rustix::process::Signal;
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Announces what flaps, to both, without holding anything back.
const FLAPPER: &str = "\
router bgp 65002
 bgp router-id 10.0.0.2
 no bgp network import-check
 no bgp ebgp-requires-policy
 neighbor 10.0.1.1 remote-as 65001
 neighbor 10.0.1.1 advertisement-interval 0
 neighbor 10.0.2.1 remote-as 65001
 neighbor 10.0.2.1 advertisement-interval 0
 address-family ipv4 unicast
  network 10.20.0.0/16
  network 10.30.0.0/16
  network 10.40.0.0/16
 exit-address-family
";

/// Two withdrawals suffice, and half a minute heals.
const DAMPENING: &str = "  bgp dampening 1 1400 1900 4\n";

fn judge(number: u8, more: &str) -> String {
    format!(
        "router bgp 65001\n bgp router-id 10.0.{number}.1\n no bgp ebgp-requires-policy\n \
         neighbor 10.0.{number}.2 remote-as 65002\n neighbor 10.0.{number}.2 timers connect 2\n{more} \
         address-family ipv4 unicast\n{DAMPENING} exit-address-family\n"
    )
}

/// The prefixes in a table of dampening, with the keys of each one's path.
fn paths(answer: &Value) -> Result<Vec<(String, BTreeSet<String>)>> {
    let routes = answer.get("routes").and_then(Value::as_object).with_context(|| format!("no routes in {answer}"))?;
    let keys = |paths: &Value| {
        let path = paths.get(0).and_then(Value::as_object).into_iter().flatten();
        path.map(|(key, _)| key.clone()).collect::<BTreeSet<_>>()
    };
    Ok(routes.iter().map(|(prefix, paths)| (prefix.clone(), keys(paths))).collect())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_flaps_is_judged_as_by_frr() {
    Lab::test("dampening", |lab| {
        packages::ensure(&packages::PEERS)?;
        let flapper = lab.node("flapper")?;
        let (ours, frr, listener) = (lab.node("ours")?, lab.node("frr")?, lab.node("listener")?);
        for (node, number) in [(&ours, 1), (&frr, 2)] {
            let to = format!("to-{number}");
            lab.join((node, "eth0"), (&flapper, to.as_str()))?;
            node.address("eth0", &format!("10.0.{number}.1/24"))?;
            flapper.address(&to, &format!("10.0.{number}.2/24"))?;
        }
        lab.join((&ours, "eth1"), (&listener, "eth0"))?;
        ours.address("eth1", "10.0.3.1/24")?;
        listener.address("eth0", "10.0.3.2/24")?;

        let source = Frr::start(&flapper, &["bgpd"], FLAPPER)?;
        let theirs = Frr::start(&frr, &["bgpd"], &judge(2, ""))?;
        let hears = " neighbor 10.0.3.2 remote-as 65003\n neighbor 10.0.3.2 timers connect 2\n";
        let mut edge = Edge::new(&ours, &Binaries::find()?, &judge(1, hears))?;
        edge.start_bgpd()?;
        let bird = Bird::start(
            &listener,
            "router id 10.0.0.3;\nprotocol device {}\nprotocol bgp ours { connect retry time 2; connect delay time 1; \
             local as 65003; neighbor 10.0.3.1 as 65001; ipv4 { import all; export none; };\n}\n",
        )?;
        // BIRD fails where there is no such network.
        let heard = |prefix: &str| bird.has_route(prefix, "ours").unwrap_or(false);
        let all = ["10.20.0.0/16", "10.30.0.0/16", "10.40.0.0/16"];
        lab.wait_for("all routes everywhere", SECONDS(60), || {
            edge.must_run()?;
            let there = all.iter().map(|prefix| Ok(heard(prefix) && theirs.has_route(prefix)?));
            there.collect::<Result<Vec<bool>>>().map(|there| there.into_iter().all(|there| there))
        })?;
        let say = |no: &str, prefix: &str| {
            source.vtysh(&format!(
                "configure terminal\nrouter bgp 65002\naddress-family ipv4 unicast\n{no}network {prefix}"
            ))
        };
        // 10.20.0.0/16 flaps twice, 10.30.0.0/16 goes once and stays away, 10.40.0.0/16 does nothing.
        say("no ", "10.30.0.0/16")?;
        lab.wait_for("the second route is gone", SECONDS(20), || Ok(!heard("10.30.0.0/16")))?;
        let flap = |edge: &Edge| -> Result<()> {
            for (no, count) in [("no ", 1), ("", 1), ("no ", 2), ("", 2)] {
                say(no, "10.20.0.0/16")?;
                lab.wait_for("both have heard of it", SECONDS(20), || {
                    let ours = edge.json("show bgp ipv4 unicast dampening flap-statistics json")?;
                    let frrs = theirs.json("show ip bgp dampening flap-statistics json")?;
                    let is = |answer: &Value| {
                        let path = &answer["routes"]["10.20.0.0/16"][0];
                        path["bdiFlap"] == count && path["history"].is_null() == no.is_empty()
                    };
                    Ok(is(&ours) && is(&frrs))
                })?;
            }
            Ok(())
        };
        flap(&edge)?;

        let (ours_says, frr_says) = (
            |what: &str| edge.json(&format!("show ip bgp dampening {what} json")),
            |what: &str| theirs.json(&format!("show ip bgp dampening {what} json")),
        );
        ensure!(ours_says("parameters")? == frr_says("parameters")?, "{}", ours_says("parameters")?);
        for table in ["dampened-paths", "flap-statistics"] {
            let (ours, frrs) = (ours_says(table)?, frr_says(table)?);
            ensure!(paths(&ours)? == paths(&frrs)?, "{table}: {ours} is not {frrs}");
        }
        let one = "show bgp ipv4 unicast 10.20.0.0/16 json";
        let (ours_one, frr_one) = (edge.json(one)?, theirs.json(one)?);
        for path in [&ours_one["paths"][0], &frr_one["paths"][0]] {
            ensure!(path["dampeningSuppressed"] == true && path["dampeningFlapCount"] == 2, "{path}");
            let penalty = path["dampeningPenalty"].as_u64().context("no penalty")?;
            ensure!((1500..=2000).contains(&penalty), "{path}");
        }
        ensure!(edge.json("show bgp ipv4 unicast json")?["routes"]["10.20.0.0/16"][0]["damped"] == true);
        ensure!(!heard("10.20.0.0/16"), "what is dampened is told to nobody");
        ensure!(heard("10.40.0.0/16"), "and nothing else suffers");
        ensure!(edge.shell("show ip bgp dampening dampened-paths")?.contains("*d 10.20.0.0/16"));

        // FRR looks every ten seconds, we when it is time.
        lab.wait_for("the route is used again", SECONDS(60), || Ok(heard("10.20.0.0/16")))?;
        lab.wait_for("FRR uses it, too", SECONDS(30), || {
            Ok(theirs.json(one)?["paths"][0]["bestpath"]["overall"] == true)
        })?;

        // An operator who knows better does not have to wait.
        let count = |edge: &Edge| -> Result<usize> {
            Ok(paths(&edge.json("show ip bgp dampening dampened-paths json")?)?.len())
        };
        let again = |no: &str| -> Result<()> {
            say(no, "10.20.0.0/16")?;
            lab.wait_for("it is heard", SECONDS(20), || {
                Ok(edge.json(one)?.as_object().is_none_or(serde_json::Map::is_empty) != no.is_empty())
            })
        };
        again("no ")?;
        again("")?;
        ensure!(count(&edge)? == 1);
        edge.shell("clear ip bgp dampening 10.20.0.0/16")?;
        lab.wait_for("it is used after clear", SECONDS(10), || Ok(heard("10.20.0.0/16")))?;
        ensure!(count(&edge)? == 0);
        for no in ["no ", "", "no ", ""] {
            again(no)?;
        }
        ensure!(count(&edge)? == 1);
        edge.configure(&judge(1, hears).replace(DAMPENING, ""))?;
        edge.process(integration::edge::Daemon::Bgpd)?.signal(Signal::HUP)?;
        lab.wait_for("it is used without dampening", SECONDS(10), || Ok(heard("10.20.0.0/16")))?;
        let off = edge.shell("show ip bgp dampening parameters").expect_err("there is none").to_string();
        ensure!(!off.is_empty());
        Ok(())
    });
}
