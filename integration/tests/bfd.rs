//! BFD beyond plain control packets: Echo packets that the far end's kernel brings back, and intervals that adapt. No test
//! asserts a time. A kernel without netem makes no path uneven: that test says so and passes, unless
//! `HOLDFAST_KERNEL_FEATURES` is set, as it is by `cargo xtask test --kernel`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::designs::no_bgp::{self, SITE_A, SITE_B, wait_egress};
use integration::edge::{Binaries, Edge};
use integration::two_isp::{Armed, Fault, TwoIsp};
use integration::{Lab, Node, kernel};
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

/// The first WAN holds packets back for so long again and again, in both directions, and then passes on what has gathered; all
/// else it passes at once. Zero makes it even.
fn make_uneven(isp: &Node, hold: Duration) -> Result<()> {
    for port in ["to-a", "to-b"] {
        let hold = format!("{}ms", hold.as_millis());
        let netem = ["tc", "qdisc", "replace", "dev", port, "root", "netem"];
        // A slot ends with its twelfth packet, which is more than gather while the next one is waited for.
        isp.run(&[&netem[..], &["slot", &hold, &hold, "packets", "12"]].concat())?;
    }
    Ok(())
}

/// A path that is late by more than the configured timers allow, and never quite silent. It gets worse by steps, each of
/// which the session can take once it has learnt from the one before.
#[test]
#[ignore = "needs root: cargo xtask test --kernel"]
fn intervals_follow_an_uneven_path_and_come_back() {
    Lab::test("bfd-uneven", |lab| {
        kernel::load("sch_netem");
        if let Err(why) = make_uneven_somewhere(&lab.node("asks")?) {
            ensure!(!kernel::is_required(), "the kernel lacks sch_netem: {why:#}");
            eprintln!("not run, this machine's kernel lacks sch_netem (modprobe sch_netem): {why:#}");
            return Ok(());
        }
        let timers = "  transmit-interval 400\n  receive-interval 400\n  detect-multiplier 5\n";
        let adaptive = format!("{timers}  adaptive-intervals maximum 2000\n");
        let mut scenario = start(lab, &adaptive)?;
        let both = |scenario: &TwoIsp<'_>| -> Result<[Value; 2]> {
            Ok([session(&scenario.a, "tun1")?, session(&scenario.b, "tun1")?])
        };
        let millis = |session: &Value, what: &str| session[what].as_u64().unwrap_or_default();
        let downs = |sessions: &[Value; 2]| sessions.each_ref().map(|session| millis(session, "session-down"));
        lab.wait_for("the timers that are configured", SECONDS(60), || {
            let sessions = both(&scenario)?;
            let detection = sessions.each_ref().map(|session| millis(session, "detection-time"));
            ensure!(detection.iter().all(|time| (2000..3000).contains(time)), "detection within {detection:?} ms");
            Ok(true)
        })?;
        let before = downs(&both(&scenario)?);
        for (hold, wanted) in [(1600, 2500), (3000, 4500)] {
            make_uneven(&scenario.isp1, Duration::from_millis(hold))?;
            let seen = lab.wait_until("intervals that suit the path", SECONDS(60), || {
                scenario.must_run()?;
                let sessions = both(&scenario)?;
                let detection = sessions.each_ref().map(|session| millis(session, "detection-time"));
                ensure!(detection.iter().all(|time| *time > wanted), "detection within {detection:?} ms");
                Ok(Some(sessions))
            })?;
            assert_eq!(downs(&seen), before, "held back for {hold} ms: {seen:?}");
        }
        // More than the configured timers would have taken, for a while.
        let lasting = both(&scenario)?;
        let heard = lasting.each_ref().map(|session| millis(session, "control-packet-input"));
        lab.wait_for("many more packets of the uneven path", SECONDS(120), || {
            let now = both(&scenario)?.map(|session| millis(&session, "control-packet-input"));
            Ok(now.iter().zip(heard).all(|(now, heard)| *now >= heard + 40))
        })?;
        let seen = both(&scenario)?;
        assert_eq!(downs(&seen), before, "{seen:?}");
        for session in &seen {
            ensure!(session["status"] == "up" && millis(session, "jitter-us") > 1_600_000, "{session}");
            ensure!(millis(session, "detection-time") <= 5 * 2000, "as the maximum has it: {session}");
        }
        let high = seen.each_ref().map(|session| millis(session, "transmit-interval-in-use"));

        // What is not late but lost is still found.
        let mut armed = Armed::new(&scenario, Fault::Silent)?;
        armed.strike()?;
        wait_egress(&mut scenario, "tun2")?;
        let event = scenario.a.failovers()?.pop().context("the fault is in the log")?;
        ensure!(event.cause == "bfdDown", "{event:?}");
        armed.mend()?;
        wait_egress(&mut scenario, "tun1")?;

        make_uneven(&scenario.isp1, Duration::ZERO)?;
        lab.wait_for("shorter intervals again", SECONDS(240), || {
            let now = both(&scenario)?.map(|session| millis(&session, "transmit-interval-in-use"));
            ensure!(now.iter().zip(high).all(|(now, high)| *now > 0 && now * 2 <= high), "{now:?} ms of {high:?} ms");
            Ok(true)
        })?;

        // The same path with timers that stay as they are.
        for edge in [&mut scenario.a, &mut scenario.b] {
            let text = std::fs::read_to_string(edge.config_path())?;
            edge.configure(&text.replace(&adaptive, timers))?;
            edge.reload()?;
        }
        let before = both(&scenario)?;
        ensure!(before.iter().all(|session| session.get("adapt-up-to").is_none()), "{before:?}");
        make_uneven(&scenario.isp1, Duration::from_millis(3000))?;
        lab.wait_for("a session that comes and goes", SECONDS(120), || {
            let now = both(&scenario)?;
            let more = now.iter().zip(downs(&before)).map(|(now, before)| millis(now, "session-down") - before);
            ensure!(more.clone().all(|count| count >= 2), "more downs: {:?}", more.collect::<Vec<_>>());
            Ok(true)
        })
    });
}

/// Whether the kernel can do it, in a node that is of no use afterwards.
fn make_uneven_somewhere(node: &Node) -> Result<()> {
    node.ip("link add to-a type veth peer name to-b")?;
    make_uneven(node, Duration::from_millis(1))
}
