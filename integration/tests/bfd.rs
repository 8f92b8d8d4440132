//! BFD beyond plain control packets: Echo packets that the far end's kernel brings back, and intervals that adapt. No test
//! asserts a time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::Lab;
use integration::designs::no_bgp::{self, SITE_A, SITE_B, wait_egress};
use integration::edge::{Binaries, Edge};
use integration::two_isp::{Armed, Fault, TwoIsp};
use rustix::process::Signal;
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
/// What the example says of its sessions.
const TIMERS: &str = "  transmit-interval 50\n  receive-interval 50\n  detect-multiplier 3\n";

/// The example without BGP, with other timers.
fn start<'lab>(lab: &'lab Lab, timers: &str) -> Result<TwoIsp<'lab>> {
    let [site_a, site_b] = [SITE_A, SITE_B].map(|text| text.replace(TIMERS, timers));
    ensure!(site_a != SITE_A && site_b != SITE_B, "the example has the timers that are replaced");
    no_bgp::start(lab, &Binaries::find()?, &site_a, &site_b)
}

/// What `show bfd peers json` says of the session over a tunnel.
fn session(edge: &Edge, tunnel: &str) -> Result<Value> {
    let peers = edge.json("show bfd peers json")?;
    let found = peers.as_array().into_iter().flatten().find(|peer| peer["interface"] == tunnel);
    found.cloned().with_context(|| format!("no session over {tunnel}: {peers}"))
}

/// Control packets come once a second: silence of the tunnel is noticed by Echo packets, which the far kernel brings back.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn echo_packets_notice_a_silent_tunnel() {
    Lab::test("bfd-echo", |lab| {
        let timers = "  transmit-interval 1000\n  receive-interval 1000\n  detect-multiplier 3\n  echo-mode\n  \
                      echo transmit-interval 50\n  echo receive-interval 20\n";
        let mut scenario = start(lab, timers)?;
        let captures = scenario.watch_wans()?;
        let comes_back = |scenario: &TwoIsp<'_>, tunnel: &str| -> Result<bool> {
            let sessions = [session(&scenario.a, tunnel)?, session(&scenario.b, tunnel)?];
            Ok(sessions.iter().all(|session| session["echo-comes-back"] == true))
        };
        lab.wait_for("Echo packets of both ends to come back", SECONDS(20), || {
            Ok(comes_back(&scenario, "tun1")? && comes_back(&scenario, "tun2")?)
        })?;
        let seen = session(&scenario.a, "tun1")?;
        ensure!(seen["echo-transmit-interval"] == 50 && seen["rtt-max"].as_u64() > Some(0), "{seen}");

        let mut armed = Armed::new(&scenario, Fault::Silent)?;
        armed.strike()?;
        wait_egress(&mut scenario, "tun2")?;
        let event = scenario.a.failovers()?.pop().context("the fault is in the log")?;
        ensure!(event.cause == "bfdDown", "{event:?}");
        let reasons = [&scenario.a, &scenario.b].map(|edge| edge.shell("show failover"));
        // Whichever end noticed first has told the other, if it could.
        let told = reasons.into_iter().collect::<Result<Vec<_>>>()?;
        ensure!(told.iter().any(|text| text.contains("echo function failed")), "{told:?}");
        armed.mend()?;
        wait_egress(&mut scenario, "tun1")?;
        lab.wait_for("Echo packets to come back again", SECONDS(20), || comes_back(&scenario, "tun1"))?;

        // A host that does not forward brings nothing back: control packets are what is left, and the session stays.
        let flaps = session(&scenario.a, "tun2")?["session-down"].clone();
        scenario.b.node.sysctl("net.ipv4.conf.tun2.forwarding", "0")?;
        lab.wait_for("the end that is not answered to do without", SECONDS(30), || {
            let session = session(&scenario.a, "tun2")?;
            Ok(session["status"] == "up" && session["echo-comes-back"] == false)
        })?;
        let now = session(&scenario.a, "tun2")?;
        ensure!(now["session-down"].as_u64() <= flaps.as_u64().map(|flaps| flaps + 1), "{flaps} before, {now}");
        scenario.must_have_been_sealed(captures)
    });
}

/// A far end that is late again and again makes the intervals longer, as far as they may become.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn intervals_follow_a_peer_that_is_late() {
    Lab::test("bfd-adapt", |lab| {
        let mut scenario = start(lab, &format!("{TIMERS}  adaptive-intervals maximum 400\n"))?;
        ensure!(session(&scenario.a, "tun1")?["adapt-up-to"] == 400, "{}", session(&scenario.a, "tun1")?);
        lab.wait_for("longer intervals", SECONDS(60), || {
            let bgpd = scenario.b.bgpd.as_ref().context("bgpd runs")?;
            bgpd.signal(Signal::STOP)?;
            std::thread::sleep(Duration::from_millis(70)); // the fault itself: a far end that does not run for so long
            bgpd.signal(Signal::CONT)?;
            scenario.must_run()?;
            let seen = session(&scenario.a, "tun1")?;
            let interval = seen["transmit-interval-in-use"].as_u64().unwrap_or_default();
            Ok(seen["status"] == "up" && interval > 50 && interval <= 400 && seen["jitter-us"].as_u64() > Some(0))
        })?;
        let text = scenario.a.shell("show bfd peers")?;
        ensure!(text.contains("Intervals adapt up to 400ms; latest packet"), "{text}");
        Ok(())
    });
}
