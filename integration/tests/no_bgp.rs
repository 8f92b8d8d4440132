//! `examples/no-bgp`: static routes over two tunnels follow tunnels and BFD, without BGP. No test asserts a time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::Lab;
use integration::capture::Capture;
use integration::edge::Binaries;
use integration::two_isp::{Armed, Fault, TwoIsp};

const SITE_A: &str = include_str!("../../examples/no-bgp/site-a.conf");
const SITE_B: &str = include_str!("../../examples/no-bgp/site-b.conf");
const SECONDS: fn(u64) -> Duration = Duration::from_secs;

fn start<'lab>(lab: &'lab Lab, site_a: &str, site_b: &str) -> Result<TwoIsp<'lab>> {
    let mut scenario = TwoIsp::build_with(lab, &Binaries::find()?, site_a, site_b)?;
    scenario.start()?;
    egress(lab, &mut scenario, "tun1")?;
    lab.wait_for("an answer from host to host", SECONDS(20), || scenario.ha.ping(scenario.probed(), 2).map(|()| true))?;
    Ok(scenario)
}

/// Waits until the hosts' traffic goes by this tunnel at both ends.
fn egress(lab: &Lab, scenario: &mut TwoIsp<'_>, tunnel: &str) -> Result<()> {
    lab.wait_for(&format!("traffic on {tunnel} at both sites"), SECONDS(60), || {
        scenario.must_run()?;
        Ok(scenario.egress() == (Some(tunnel.into()), Some(tunnel.into())))
    })
}

/// The fault moves traffic to the other tunnel, its mending brings it back, and nothing goes in the clear.
fn survives(name: &str, fault: Fault, without_bfd: bool) {
    Lab::test(name, |lab| {
        let plain = |text: &str| text.replace(" bfd profile fast", "");
        let (site_a, site_b) =
            if without_bfd { (plain(SITE_A), plain(SITE_B)) } else { (SITE_A.to_owned(), SITE_B.to_owned()) };
        let mut scenario = start(lab, &site_a, &site_b)?;
        let captures = [&scenario.isp1, &scenario.isp2].map(|isp| Capture::start(isp, |packet| !packet.outgoing));
        let mut armed = Armed::new(&scenario, fault)?;
        armed.strike()?;
        egress(lab, &mut scenario, "tun2")?;
        lab.wait_for("traffic over tun2", SECONDS(20), || scenario.ha.ping(scenario.probed(), 2).map(|()| true))?;
        let noticed = scenario.a.failovers()?;
        let event = noticed.last().context("the fault is in the log")?;
        ensure!(event.fib_switched_at_unix_us.is_some(), "{event:?}");
        let expected: &[&str] = match fault {
            Fault::Silent => &["bfdDown"],
            Fault::Sa => &["tunnelDown"],
            _ => &["bfdDown", "tunnelDown", "linkDown"],
        };
        ensure!(noticed.iter().any(|event| expected.contains(&event.cause.as_str())), "{noticed:?}");
        armed.mend()?;
        egress(lab, &mut scenario, "tun1")?;
        lab.wait_for("traffic over tun1", SECONDS(20), || scenario.ha.ping(scenario.probed(), 2).map(|()| true))?;
        lab.wait_for("every fault of tun1 is told to its end", SECONDS(20), || {
            let events = scenario.a.failovers()?;
            let mut of_tun1 = events.iter().filter(|event| event.tunnel.as_deref() == Some("tun1")).peekable();
            Ok(of_tun1.peek().is_some() && of_tun1.all(|event| event.restored_at_unix_us.is_some()))
        })?;
        for capture in captures {
            let leaks = scenario.clearness()?.findings(&capture?.finish()?);
            ensure!(leaks.is_empty(), "in the clear: {leaks:?}");
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_silent_wan_is_noticed_by_bfd() {
    survives("nobgp-silent", Fault::Silent, false);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_deleted_tunnel_is_noticed_without_bfd() {
    survives("nobgp-sa", Fault::Sa, true);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn with_both_tunnels_gone_packets_are_dropped_and_not_sent_in_the_clear() {
    Lab::test("nobgp-both", |lab| {
        let mut scenario = start(lab, SITE_A, SITE_B)?;
        let captures = [&scenario.isp1, &scenario.isp2].map(|isp| Capture::start(isp, |packet| !packet.outgoing));
        for tunnel in ["tun1", "tun2"] {
            scenario.b.shell(&format!("terminate ipsec tunnel {tunnel}"))?;
        }
        lab.wait_for("the routes lead nowhere", SECONDS(30), || Ok(scenario.egress() == (None, None)))?;
        ensure!(scenario.ha.ping(scenario.probed(), 1).is_err(), "nobody answers");
        for tunnel in ["tun1", "tun2"] {
            scenario.b.shell(&format!("initiate ipsec tunnel {tunnel}"))?;
        }
        egress(lab, &mut scenario, "tun1")?;
        for capture in captures {
            let leaks = scenario.clearness()?.findings(&capture?.finish()?);
            ensure!(leaks.is_empty(), "in the clear: {leaks:?}");
        }
        Ok(())
    });
}
