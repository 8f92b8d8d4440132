//! What the design `no-bgp` does not play: a peer without BFD, and what is told of a fault that is over. No test asserts a time.

use std::time::Duration;

use anyhow::{Context, ensure};
use integration::Lab;
use integration::designs::no_bgp::{SITE_A, SITE_B, start, wait_egress};
use integration::edge::Binaries;
use integration::two_isp::{Armed, Fault};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// The fault moves traffic to the other tunnel, its mending brings it back, and nothing goes in the clear.
fn survives(name: &str, fault: Fault, without_bfd: bool) {
    Lab::test(name, |lab| {
        let plain = |text: &str| text.replace(" bfd profile fast", "");
        let (site_a, site_b) =
            if without_bfd { (plain(SITE_A), plain(SITE_B)) } else { (SITE_A.to_owned(), SITE_B.to_owned()) };
        let mut scenario = start(lab, &Binaries::find()?, &site_a, &site_b)?;
        let captures = scenario.watch_wans()?;
        let mut armed = Armed::new(&scenario, fault)?;
        armed.strike()?;
        wait_egress(&mut scenario, "tun2")?;
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
        wait_egress(&mut scenario, "tun1")?;
        lab.wait_for("traffic over tun1", SECONDS(20), || scenario.ha.ping(scenario.probed(), 2).map(|()| true))?;
        lab.wait_for("every fault of tun1 is told to its end", SECONDS(20), || {
            let events = scenario.a.failovers()?;
            let mut of_tun1 = events.iter().filter(|event| event.tunnel.as_deref() == Some("tun1")).peekable();
            Ok(of_tun1.peek().is_some() && of_tun1.all(|event| event.restored_at_unix_us.is_some()))
        })?;
        scenario.must_have_been_sealed(captures)
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
