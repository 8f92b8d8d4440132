//! Static routes over two tunnels follow tunnels and BFD, without BGP.

use anyhow::{Context, Result, ensure};

use super::{PATIENCE, Story};
use crate::edge::Binaries;
use crate::lab::Lab;
use crate::probe::Probe;
use crate::two_isp::{Armed, Fault, TwoIsp};

/// The page's configuration of site A.
pub const SITE_A: &str = include_str!("../../../examples/no-bgp/site-a.conf");
/// The page's configuration of site B.
pub const SITE_B: &str = include_str!("../../../examples/no-bgp/site-b.conf");

/// Both sites, started, with traffic by the first tunnel.
pub fn start<'lab>(lab: &'lab Lab, binaries: &Binaries, site_a: &str, site_b: &str) -> Result<TwoIsp<'lab>> {
    let mut scenario = TwoIsp::build_with(lab, binaries, site_a, site_b)?;
    scenario.start()?;
    wait_egress(&mut scenario, "tun1")?;
    lab.wait_for("an answer from host to host", PATIENCE, || scenario.ha.ping(scenario.probed(), 2).map(|()| true))?;
    Ok(scenario)
}

/// Waits until the hosts' traffic goes by this tunnel at both ends.
pub fn wait_egress(scenario: &mut TwoIsp<'_>, tunnel: &str) -> Result<()> {
    let lab = scenario.lab;
    lab.wait_for(&format!("traffic on {tunnel} at both sites"), PATIENCE, || {
        scenario.must_run()?;
        Ok(scenario.egress() == (Some(tunnel.into()), Some(tunnel.into())))
    })
}

/// Takes down both tunnels at the far end; traffic has to stop, and to come back when they do.
pub fn lose_both(scenario: &mut TwoIsp<'_>) -> Result<()> {
    let lab = scenario.lab;
    for tunnel in ["tun1", "tun2"] {
        scenario.b.shell(&format!("terminate ipsec tunnel {tunnel}"))?;
    }
    lab.wait_for("the routes lead nowhere", PATIENCE, || Ok(scenario.egress() == (None, None)))?;
    ensure!(scenario.ha.ping(scenario.probed(), 1).is_err(), "somebody answers though there is no path");
    for tunnel in ["tun1", "tun2"] {
        scenario.b.shell(&format!("initiate ipsec tunnel {tunnel}"))?;
    }
    wait_egress(scenario, "tun1")
}

/// Waits until `count` more packets have come both ways.
fn some_traffic(lab: &Lab, probe: &Probe, count: u64) -> Result<()> {
    let before = probe.counts();
    lab.wait_for("traffic both ways", PATIENCE, || {
        Ok(probe.counts().iter().zip(before).all(|(now, before)| now.1 >= before.1 + count))
    })
}

/// The page's story.
pub(super) fn play(lab: &Lab, binaries: &Binaries, story: &mut Story<'_>) -> Result<()> {
    let mut scenario = start(lab, binaries, SITE_A, SITE_B)?;
    let captures = scenario.watch_wans()?;
    story.tell("two tunnels and two BFD sessions are up; the static route by the first one is used at both sites");
    for fault in [Fault::Silent, Fault::Cut, Fault::Sa] {
        let mut armed = Armed::new(&scenario, fault)?;
        let probe = scenario.probe()?;
        some_traffic(lab, &probe, 200)?;
        armed.strike()?;
        story.tell(fault.story());
        wait_egress(&mut scenario, "tun2")?;
        some_traffic(lab, &probe, 500)?;
        story.outage("the hosts' traffic, now by the second tunnel", &probe.finish()?);
        let noticed = scenario.a.failovers()?.pop().context("the fault is in site A's log")?;
        let took = noticed.fib_switch_us.context("it says how long the switch took")?;
        story.tell(format!("site A noticed it by {}; its FIB had switched {took} µs later", noticed.cause));

        let probe = scenario.probe()?;
        some_traffic(lab, &probe, 200)?;
        armed.mend()?;
        wait_egress(&mut scenario, "tun1")?;
        some_traffic(lab, &probe, 500)?;
        story.lossless(&format!("{}, and traffic is back on the first tunnel", fault.mending()), &probe.finish()?)?;
    }
    lose_both(&mut scenario)?;
    story.tell("with both tunnels deleted nothing passed, in the clear or otherwise; with both back, traffic was");
    scenario.must_have_been_sealed(captures)?;
    story.tell("in all that time the ISPs saw IKE and ESP, and nothing in the clear");
    Ok(())
}
