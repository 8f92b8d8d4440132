//! What a session is refused, kept or ended for, with FRR at the other end: hold times, links, BFD, and how long segments are.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::edge::{Binaries, Daemon, Edge};
use integration::peers::Frr;
use integration::{Lab, Node, packages};
use rustix::process::Signal;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Our bgpd at 10.0.1.1 in AS 65001 with `lines` about FRR, which is at 10.0.1.2 in AS 65002 with lines of its own.
fn pair(lab: &Lab, lines: &str, theirs: &str) -> Result<(Edge, Node, Frr)> {
    packages::ensure(&packages::PEERS)?;
    let (ours, far) = (lab.node("ours")?, lab.node("frr")?);
    lab.join((&ours, "to-frr"), (&far, "eth0"))?;
    ours.address("to-frr", "10.0.1.1/24")?;
    far.address("eth0", "10.0.1.2/24")?;
    let mut edge = Edge::new(&ours, &Binaries::find()?, &config(lines))?;
    edge.start_bgpd()?;
    let frr = Frr::start(
        &far,
        &["bgpd", "bfdd"],
        &format!(
            "router bgp 65002\n bgp router-id 10.0.1.2\n no bgp network import-check\n no bgp ebgp-requires-policy\n \
             no bgp fast-external-failover\n neighbor 10.0.1.1 remote-as 65001\n neighbor 10.0.1.1 timers connect 2\n{theirs} \
             address-family ipv4 unicast\n  network 10.12.0.0/24\n exit-address-family\n"
        ),
    )?;
    Ok((edge, ours, frr))
}

fn config(lines: &str) -> String {
    format!(
        "router bgp 65001\n bgp router-id 10.0.1.1\n neighbor 10.0.1.2 remote-as 65002\n neighbor 10.0.1.2 timers connect 2\n{lines}"
    )
}

fn reload(edge: &mut Edge, lines: &str) -> Result<()> {
    edge.configure(&config(lines))?;
    edge.process(Daemon::Bgpd)?.signal(Signal::HUP)
}

fn up(lab: &Lab, edge: &mut Edge) -> Result<()> {
    lab.wait_for("the session", SECONDS(60), || {
        edge.must_run()?;
        edge.is_established("10.0.1.2")
    })
}

/// Sessions with FRR that were lost.
fn dropped(edge: &Edge) -> Result<u64> {
    let shown = edge.json("show bgp neighbors 10.0.1.2 json")?;
    shown["10.0.1.2"]["connectionsDropped"].as_u64().with_context(|| format!("no count in {shown}"))
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_hold_time_below_the_least_is_refused() {
    Lab::test("min-hold", |lab| {
        let (mut ours, _, frr) = pair(lab, " bgp minimum-holdtime 20\n", " neighbor 10.0.1.1 timers 1 3\n")?;
        lab.wait_for("the refusal", SECONDS(60), || {
            let shown = frr.json("show bgp neighbors 10.0.1.1 json")?;
            Ok(shown["10.0.1.1"]["lastNotificationReason"] == "OPEN Message Error/Unacceptable Hold Time")
        })?;
        ensure!(!ours.is_established("10.0.1.2")? && dropped(&ours)? == 0, "there has never been a session");
        reload(&mut ours, "")?;
        up(lab, &mut ours)
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_session_ends_with_its_link_unless_it_is_to_outlive_it() {
    Lab::test("link-loss", |lab| {
        let (mut ours, node, frr) = pair(lab, " no bgp fast-external-failover\n", "")?;
        up(lab, &mut ours)?;
        let told = |what: &str, times: usize| {
            let events = ours.shell("show bgp events")?;
            Ok(events.lines().filter(|line| line.contains("to-frr") && line.contains(what)).count() >= times)
        };
        node.set_link("to-frr", false)?;
        lab.wait_for("bgpd to hear of the link", SECONDS(30), || told("down", 1))?;
        node.set_link("to-frr", true)?;
        lab.wait_for("bgpd to hear of it again", SECONDS(30), || told("up", 1))?;
        frr.vtysh("configure terminal\nrouter bgp 65002\naddress-family ipv4 unicast\nnetwork 10.13.0.0/24\n")?;
        lab.wait_for("a route by the same session", SECONDS(60), || {
            let shown = ours.json("show bgp ipv4 unicast json")?;
            Ok(shown["routes"].get("10.13.0.0/24").is_some())
        })?;
        ensure!(dropped(&ours)? == 0, "the session has outlived its link");

        reload(&mut ours, "")?;
        node.set_link("to-frr", false)?;
        // The hold time is 180 s.
        lab.wait_for("the session to end with the link", SECONDS(60), || Ok(dropped(&ours)? == 1))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_session_that_may_go_another_way_ends_with_its_link_only_when_asked_to() {
    Lab::test("link-loss-multihop", |lab| {
        let multihop = " neighbor 10.0.1.2 ebgp-multihop 2\n";
        let (mut ours, node, _frr) = pair(lab, multihop, "")?;
        up(lab, &mut ours)?;
        node.set_link("to-frr", false)?;
        lab.wait_for("bgpd to hear of the link", SECONDS(30), || {
            let events = ours.shell("show bgp events")?;
            Ok(events.lines().any(|line| line.contains("to-frr") && line.contains("down")))
        })?;
        node.set_link("to-frr", true)?;
        ensure!(dropped(&ours)? == 0, "the session has outlived its link");
        reload(&mut ours, &format!("{multihop} bgp fast-convergence\n"))?;
        lab.wait_for("the new configuration", SECONDS(20), || {
            Ok(ours.shell("show running-config")?.contains("bgp fast-convergence"))
        })?;
        node.set_link("to-frr", false)?;
        // The hold time is 180 s.
        lab.wait_for("the session to end with the link", SECONDS(60), || Ok(dropped(&ours)? == 1))?;
        let shown = ours.json("show bgp neighbors 10.0.1.2 json")?;
        ensure!(shown["10.0.1.2"]["lastResetDueTo"] == "Interface down", "{shown}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn bfd_that_never_saw_the_neighbor_ends_nothing_but_keeps_a_strict_session_back() {
    Lab::test("bfd-strict", |lab| {
        let (mut ours, _, frr) = pair(lab, " neighbor 10.0.1.2 bfd\n", "")?;
        up(lab, &mut ours)?;
        let bfd = |ours: &Edge| Ok::<_, anyhow::Error>(ours.json("show bfd peers json")?[0].clone());
        // A packet a second goes out: five are several detection times.
        lab.wait_for("BFD that nobody answers", SECONDS(20), || {
            let session = bfd(&ours)?;
            Ok(session["status"] == "down" && session["control-packet-output"].as_u64() >= Some(5))
        })?;
        ensure!(ours.is_established("10.0.1.2")? && dropped(&ours)? == 0, "RFC 5882 §3.2");

        reload(&mut ours, " neighbor 10.0.1.2 bfd\n neighbor 10.0.1.2 bfd strict\n")?;
        lab.wait_for("the session to end", SECONDS(20), || Ok(dropped(&ours)? == 1))?;
        let before = bfd(&ours)?["control-packet-output"].as_u64();
        lab.wait_for("some more of BFD", SECONDS(20), || {
            let now = bfd(&ours)?["control-packet-output"].as_u64();
            Ok(now >= before.map(|count| count + 5))
        })?;
        let shown = ours.json("show bgp neighbors 10.0.1.2 json")?;
        ensure!(shown["10.0.1.2"]["bgpState"] == "Idle", "FRR has called meanwhile: {shown}");
        frr.vtysh("configure terminal\nrouter bgp 65002\nneighbor 10.0.1.1 bfd\n")?;
        up(lab, &mut ours)?;
        ensure!(bfd(&ours)?["status"] == "up");
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn tcp_segments_are_as_long_as_configured() {
    Lab::test("tcp-mss", |lab| {
        let (mut ours, node, _frr) = pair(lab, " neighbor 10.0.1.2 tcp-mss 500\n", "")?;
        up(lab, &mut ours)?;
        let longest = || -> Result<u64> {
            let sockets = node.run(&["ss", "-Htin", "state", "established", "( sport = :179 or dport = :179 )"])?;
            let sizes = sockets.split_ascii_whitespace().filter_map(|word| word.strip_prefix("mss:")?.parse().ok());
            sizes.max().with_context(|| format!("no segment size in {sockets}"))
        };
        let size = longest()?;
        ensure!(size <= 500, "the kernel sends {size} octets at a time");
        let shown = ours.json("show bgp neighbors 10.0.1.2 json")?;
        let neighbor = &shown["10.0.1.2"];
        ensure!(neighbor["bgpTcpMssConfigured"] == 500, "{neighbor}");
        ensure!(neighbor["bgpTcpMssSynced"].as_u64().is_some_and(|synced| (1..=500).contains(&synced)), "{neighbor}");

        reload(&mut ours, "")?;
        lab.wait_for("a session with longer segments", SECONDS(60), || {
            Ok(ours.is_established("10.0.1.2")? && longest().is_ok_and(|size| size > 1000))
        })
    });
}
