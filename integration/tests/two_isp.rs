//! Our own pair: every fault of the first path, and every daemon killed. No test asserts a time.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::edge::{Binaries, Daemon};
use integration::two_isp::{self, Fault, HOST_A, NEIGHBORS_OF_A, Rival, TwoIsp};
use integration::{Lab, kernel};

const ROUTES: usize = 2_000;
/// Where the processor is emulated; it is not the number of routes that is tested there.
const ROUTES_EMULATED: usize = 200;
const SECONDS: fn(u64) -> Duration = Duration::from_secs;

fn converged<'lab>(lab: &'lab Lab) -> Result<TwoIsp<'lab>> {
    let mut scenario = TwoIsp::build(lab, &Binaries::find()?)?;
    scenario.start()?;
    scenario.feed(if kernel::is_emulated() { ROUTES_EMULATED } else { ROUTES })?;
    scenario.wait_converged()?;
    Ok(scenario)
}

fn fault_is_survived(fault: Fault) {
    Lab::test(fault.name(), |lab| {
        let trial = converged(lab)?.trial(fault, &mut |_| {})?;
        ensure!(trial.outcome.restored && trial.outcome.cleartext_packets == 0, "{:?}", trial.outcome);
        ensure!(trial.held(), "{}; {:?}", trial.complaints.join("; "), trial.moments);
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_cut_link_moves_traffic_and_its_return_brings_it_back() {
    fault_is_survived(Fault::Cut);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_silent_wan_moves_traffic_and_its_return_brings_it_back() {
    fault_is_survived(Fault::Silent);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_deleted_tunnel_moves_traffic_and_its_return_brings_it_back() {
    fault_is_survived(Fault::Sa);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_closed_session_moves_traffic_and_its_return_brings_it_back() {
    fault_is_survived(Fault::Session);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_killed_bgpd_leaves_the_routes_and_the_next_one_adopts_them() {
    Lab::test("bgpd-killed", |lab| {
        let mut scenario = converged(lab)?;
        let probe = scenario.probe()?;
        scenario.a.kill(Daemon::Bgpd)?;
        lab.holds_for("the kernel keeps a path to site B while bgpd is gone", SECONDS(3), || {
            Ok(scenario.egress().0.is_some_and(|path| path.starts_with("tun")))
        })?;
        scenario.a.start_bgpd()?;
        lab.holds_for("the kernel keeps a path to site B while bgpd starts", SECONDS(3), || {
            Ok(scenario.egress().0.is_some_and(|path| path.starts_with("tun")))
        })?;
        scenario.wait_converged()?;
        let flows = probe.finish()?;
        // Site B's BFD sees the end of site A's bgpd; with both neighbors gone it keeps the stale routes (RFC 4724).
        let (lost, sent) = (flows.forth.lost(0, i64::MAX), flows.forth.sent.len());
        ensure!(lost * 20 < sent, "{lost} of {sent} packets from A to B were lost while bgpd restarted");
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_killed_ipsecd_leaks_nothing_and_the_next_one_brings_the_tunnels_back() {
    Lab::test("ipsecd-killed", |lab| {
        let mut scenario = converged(lab)?;
        let captures = scenario.watch_wans()?;
        let probe = scenario.probe()?;
        scenario.a.kill(Daemon::Ipsecd)?;
        lab.holds_for("nothing leaves site A by a WAN while ipsecd is gone", SECONDS(3), || {
            Ok(!scenario.egress().0.is_some_and(|path| path.starts_with("wan")))
        })?;
        scenario.a.start_ipsecd()?;
        scenario.wait_converged()?;
        drop(probe.finish()?);
        scenario.must_have_been_sealed(captures)
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_any_path_traffic_is_dropped_and_not_sent_in_the_clear() {
    Lab::test("no-path", |lab| {
        let mut scenario = converged(lab)?;
        let captures = scenario.watch_wans()?;
        let probe = scenario.probe()?;
        // Both tunnels go, both WANs stay: the default routes would carry everything.
        for tunnel in ["tun1", "tun2"] {
            scenario.b.shell(&format!("terminate ipsec tunnel {tunnel}"))?;
        }
        lab.wait_for("site A has no way to site B", SECONDS(30), || Ok(scenario.egress().0.is_none()))?;
        lab.holds_for("it stays so", SECONDS(3), || Ok(scenario.egress().0.is_none()))?;
        for tunnel in ["tun1", "tun2"] {
            scenario.b.shell(&format!("initiate ipsec tunnel {tunnel}"))?;
        }
        scenario.wait_converged()?;
        drop(probe.finish()?);
        scenario.must_have_been_sealed(captures)
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_reload_leaves_sessions_and_tunnels_alone_that_did_not_change() {
    Lab::test("reload", |lab| {
        let mut scenario = converged(lab)?;
        let uptime = |scenario: &TwoIsp<'_>, neighbor: &str| -> Result<String> {
            let peer = scenario.a.json(&format!("show bgp neighbors {neighbor} json"))?;
            Ok(peer.pointer(&format!("/{neighbor}/bgpTimerUpEstablishedEpoch")).unwrap_or(&peer[neighbor]).to_string())
        };
        let before = uptime(&scenario, NEIGHBORS_OF_A[0])?;
        let text = two_isp::site_a().replace(
            "neighbor 169.254.2.2 description",
            "neighbor 169.254.2.2 shutdown\n neighbor 169.254.2.2 description",
        );
        scenario.a.configure(&text)?;
        scenario.a.reload()?;
        lab.wait_for("the second session is shut down", SECONDS(20), || {
            Ok(!scenario.a.is_established(NEIGHBORS_OF_A[1])?)
        })?;
        ensure!(scenario.a.is_established(NEIGHBORS_OF_A[0])?, "the first session went down, too");
        ensure!(uptime(&scenario, NEIGHBORS_OF_A[0])? == before, "the first session is another one");
        ensure!(scenario.a.tunnel_state("tun2")?.starts_with("up"), "tun2 went down, too");
        scenario.a.configure(&two_isp::site_a())?;
        scenario.a.reload()?;
        scenario.wait_converged()
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_bad_configuration_changes_nothing_and_is_refused_with_its_place() {
    Lab::test("bad-config", |lab| {
        let mut scenario = converged(lab)?;
        let good = two_isp::site_a();
        let line = good.lines().count() + 1;
        scenario.a.configure(&format!("{good} neighbor 169.254.9.9 remote-is 65009\n"))?;
        for daemon in ["bgpd", "ipsecd"] {
            let refusal =
                format!("{:#}", scenario.a.check(daemon).err().unwrap_or_else(|| anyhow::anyhow!("accepted")));
            ensure!(refusal.contains(&format!("holdfast.conf:{line}:")), "{daemon} --check said: {refusal}");
        }
        let refusal = match scenario.a.reload() {
            Ok(said) => said,
            Err(error) => format!("{error:#}"),
        };
        ensure!(refusal.contains(&format!("holdfast.conf:{line}:")), "reload said: {refusal}");
        scenario.must_run()?;
        ensure!(scenario.has_all_routes()?, "the refused configuration changed something");
        ensure!(scenario.b.node.egress(HOST_A.into()).as_deref() == Some("tun1"));
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_clean_stop_says_goodbye_to_the_peers() {
    Lab::test("goodbye", |lab| {
        let mut scenario = converged(lab)?;
        scenario.a.stop(SECONDS(10))?;
        lab.wait_for("site B heard the CEASE and the DELETE", SECONDS(5), || {
            let down = NEIGHBORS_OF_A.len();
            let gone = two_isp::NEIGHBORS_OF_B.iter().filter(|peer| !scenario.b.is_established(peer).unwrap_or(true));
            Ok(gone.count() == down && !scenario.b.tunnel_state("tun1")?.starts_with("up"))
        })
    });
}

/// What the benchmark measures beside us: FRR over strongSwan, in the same lab.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn frr_over_strongswan_fails_over_in_the_same_lab() {
    Lab::test("rival", |lab| {
        let mut rival = Rival::start(lab, TwoIsp::build(lab, &Binaries::find()?)?)?;
        rival.feed(10)?;
        rival.wait_converged()?;
        let outcome = rival.trial(Fault::Silent)?;
        ensure!(outcome.restored && outcome.lost_packets > 0, "{outcome:?}");
        Ok(())
    });
}
