//! `path-damping`: the first of two tunnels fails again and again, and is held down when it is back. No test asserts a time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::edge::Binaries;
use integration::two_isp::{self, Armed, Fault, NEIGHBORS_OF_A, TwoIsp};
use integration::{Lab, kernel};
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
/// As many as the configuration below allows without consequences, and one more.
const FAULTS: usize = 3;

/// The scenario, with site A holding down for so many seconds what has failed three times.
fn start(lab: &Lab, hold: u64) -> Result<TwoIsp<'_>> {
    let line = format!("path-damping failures {FAULTS} within 3600 hold {hold} max {hold}");
    // A machine that stalls for a moment should not be the one that flaps.
    let patient = |text: String| text.replace("-interval 10\n", "-interval 100\n");
    let site_a = patient(two_isp::site_a()).replacen("\nwan ", &format!("\n{line}\nwan "), 1);
    let mut scenario = TwoIsp::build_with(lab, &Binaries::find()?, &site_a, &patient(two_isp::site_b()))?;
    scenario.start()?;
    scenario.wait_converged()?;
    // BFD begins slowly, and what it has not seen up it does not see fail.
    lab.wait_for("BFD over both tunnels", SECONDS(30), || {
        Ok(NEIGHBORS_OF_A.iter().map(|peer| works(&scenario, peer)).collect::<Result<Vec<_>>>()? == [true; 2])
    })?;
    Ok(scenario)
}

/// What `show failover json` says of tun1 while it works and is held down.
fn held(scenario: &TwoIsp<'_>) -> Result<Option<Value>> {
    let shown = scenario.a.json("show failover json")?;
    let paths = shown["heldPaths"].as_array().context("heldPaths is a list")?;
    Ok(paths.iter().find(|path| path["interface"] == "tun1" && path["isBack"] == true).cloned())
}

/// By which tunnel site A sends.
fn egress(scenario: &mut TwoIsp<'_>) -> Result<Option<String>> {
    scenario.must_run()?;
    Ok(scenario.egress().0)
}

fn goes_by(lab: &Lab, scenario: &mut TwoIsp<'_>, tunnel: &str) -> Result<()> {
    lab.wait_for(&format!("site A's traffic on {tunnel}"), SECONDS(60), || {
        Ok(egress(scenario)?.as_deref() == Some(tunnel))
    })
}

/// ISP 1 is silent for a moment, until tun1 is held down at its return.
fn flap(lab: &Lab, scenario: &mut TwoIsp<'_>) -> Result<()> {
    let mut armed = Armed::new(scenario, Fault::Silent)?;
    for fault in 1..=FAULTS {
        armed.strike()?;
        goes_by(lab, scenario, "tun2")?;
        armed.mend()?;
        lab.wait_for(&format!("tun1 is back for the {fault}. time"), SECONDS(60), || {
            Ok(egress(scenario)?.as_deref() == Some("tun1") || held(scenario)?.is_some())
        })?;
        // A machine that stalls may have had faults of its own.
        if held(scenario)?.is_some() {
            return Ok(());
        }
    }
    Err(anyhow::anyhow!("tun1 is used at once after {FAULTS} faults: {}", scenario.a.shell("show failover")?))
}

/// BFD and BGP with a neighbor are up.
fn works(scenario: &TwoIsp<'_>, neighbor: &str) -> Result<bool> {
    let bfd = scenario.a.json("show bfd peers json")?;
    let up = |peer: &Value| peer["peer"] == neighbor && peer["status"] == "up";
    Ok(bfd.as_array().is_some_and(|peers| peers.iter().any(up)) && scenario.a.is_established(neighbor)?)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_tunnel_that_flaps_is_held_down_and_used_again_after_a_while() {
    Lab::test("damping-held", |lab| {
        let mut scenario = start(lab, 15 * u64::from(kernel::slowness()))?;
        flap(lab, &mut scenario)?;
        lab.wait_for("BFD and BGP over tun1 are up while traffic stays on tun2", SECONDS(30), || {
            let before = held(&scenario)?.context("the hold is over before anybody looked")?;
            let seen = works(&scenario, NEIGHBORS_OF_A[0])? && egress(&mut scenario)?.as_deref() == Some("tun2");
            Ok(seen && held(&scenario)?.is_some_and(|after| after == before))
        })?;
        let text = scenario.a.shell("show failover")?;
        ensure!(text.contains("held down until"), "{text}");
        scenario.ha.ping(scenario.probed(), 2)?;
        goes_by(lab, &mut scenario, "tun1")?;
        ensure!(held(&scenario)?.is_none(), "it is in use and held at once");
        let events = scenario.a.failovers()?;
        let last = events.iter().rfind(|event| event.held_until_unix_us.is_some()).context("a fault that was held")?;
        ensure!(last.cause == "bfdDown" && last.restored_at_unix_us >= last.held_until_unix_us, "{last:?}");
        scenario.ha.ping(scenario.probed(), 2)
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_last_path_is_used_though_it_is_held_down_until_an_operator_lets_it_go() {
    Lab::test("damping-last", |lab| {
        let mut scenario = start(lab, 3600)?;
        flap(lab, &mut scenario)?;
        lab.wait_for("tun1 works", SECONDS(30), || works(&scenario, NEIGHBORS_OF_A[0]))?;
        goes_by(lab, &mut scenario, "tun2")?;
        scenario.b.shell("terminate ipsec tunnel tun2")?;
        goes_by(lab, &mut scenario, "tun1")?;
        ensure!(held(&scenario)?.is_some(), "{}", scenario.a.shell("show failover")?);
        lab.wait_for("an answer over tun1", SECONDS(20), || scenario.ha.ping(scenario.probed(), 2).map(|()| true))?;
        scenario.b.shell("initiate ipsec tunnel tun2")?;
        goes_by(lab, &mut scenario, "tun2")?;
        let said = scenario.a.shell("clear failover damping tun1")?;
        ensure!(said.contains("held down no more"), "{said}");
        goes_by(lab, &mut scenario, "tun1")?;
        ensure!(held(&scenario)?.is_none(), "{}", scenario.a.shell("show failover")?);
        scenario.ha.ping(scenario.probed(), 2)
    });
}
