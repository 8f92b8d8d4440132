//! VRRP with keepalived as the other router, and between two of ours: who is the hosts' gateway, and who becomes it.
//!
//! ```text
//! ours (10.1.0.2) ──┐
//!                   ├── lan ── host (10.1.0.10), whose gateway is 10.1.0.1
//! other (10.1.0.3) ─┘
//! ```

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::Lab;
use integration::edge::{Binaries, Daemon, Edge};
use integration::peers::Keepalived;
use integration::segment::{self, PATIENCE, Segment, Shared, status};
use rustix::process::Signal;
use serde_json::Value;

const STOP: Duration = Duration::from_secs(10);
const GATEWAY: &str = "10.1.0.1";

fn ours(priority: u8, more: &str) -> String {
    format!(
        "hostname ours\ninterface lan0\n vrrp 10\n vrrp 10 ip {GATEWAY}\n vrrp 10 priority {priority}\n \
         vrrp 10 advertisement-interval 200\n{more}"
    )
}

fn theirs(priority: u8) -> String {
    format!(
        " interface lan0\n virtual_router_id 10\n priority {priority}\n advert_int 0.2\n \
         virtual_ipaddress {{\n {GATEWAY}/24\n }}"
    )
}

fn build(lab: &Lab) -> Result<Segment<'_>> {
    let shared = Shared { gateway: GATEWAY, held: &["inet 10.1.0.1/24"], asked: GATEWAY };
    Segment::build(lab, shared, |lan, [ours, other, host]| {
        lan.plug(ours, "lan0", "10.1.0.2/24")?;
        lan.plug(other, "lan0", "10.1.0.3/24")?;
        lan.plug(host, "lan0", "10.1.0.10/24")
    })
}

fn with_keepalived(name: &str, work: impl FnOnce(&Segment<'_>, Edge) -> Result<()>) {
    segment::with_keepalived(name, build, &ours(150, ""), work);
}

fn wait_status(lab: &Lab, edge: &Edge, wanted: &str) -> Result<Value> {
    segment::wait_status(lab, edge, "v4", wanted)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn with_keepalived_the_better_priority_is_the_gateway() {
    with_keepalived("vrrp-election", |scene, mut edge| {
        let _other = Keepalived::start(&scene.other, &theirs(100))?;
        scene.wait_gateway(&scene.other)?;
        edge.start_bgpd()?;
        scene.wait_gateway(&scene.ours)?;
        scene.wait_without(&scene.other)?;

        edge.configure(&ours(50, ""))?;
        edge.process(Daemon::Bgpd)?.signal(Signal::HUP)?;
        scene.wait_gateway(&scene.other)?;
        scene.wait_without(&scene.ours)?;
        let shown = wait_status(scene.lab, &edge, "Backup")?;
        assert_eq!(shown["v4"]["master"]["address"], "10.1.0.3", "{shown}");
        assert_eq!(shown["v4"]["master"]["priority"], 100, "{shown}");
        assert_eq!(shown["v4"]["primaryAddress"], "10.1.0.2", "{shown}");
        assert!(shown["v4"]["stats"]["errors"].as_object().is_some_and(|all| all.values().all(|n| n == 0)), "{shown}");

        edge.configure(&ours(200, " vrrp 10 preempt delay 1\n"))?;
        edge.process(Daemon::Bgpd)?.signal(Signal::HUP)?;
        scene.wait_gateway(&scene.ours)?;
        let told = edge.shell("show bgp events")?;
        ensure!(told.contains("lan0 vrrp 10") && told.contains("backup to active"), "{told}");
        edge.must_run()
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn with_keepalived_whoever_stops_or_dies_is_relieved() {
    with_keepalived("vrrp-hand-over", |scene, mut edge| {
        edge.start_bgpd()?;
        scene.wait_gateway(&scene.ours)?;
        let mut other = Keepalived::start(&scene.other, &theirs(100))?;
        let heard = || Ok(status(&edge)?["v4"]["stats"]["adverTx"].as_u64() > Some(10));
        scene.lab.wait_for("advertisements to keepalived", PATIENCE, heard)?;
        ensure!(!scene.holds(&scene.other)?, "keepalived heard the better one");

        // Ours stops, and says so; then it comes back.
        edge.process(Daemon::Bgpd)?.terminate(STOP)?;
        ensure!(!scene.holds(&scene.ours)?, "it took the address off before it ended");
        scene.wait_gateway(&scene.other)?;
        edge.start_bgpd()?;
        scene.wait_gateway(&scene.ours)?;
        scene.wait_without(&scene.other)?;

        // Its cable is pulled.
        scene.lan.set_cable(&scene.ours, false)?;
        scene.wait_gateway(&scene.other)?;
        let shown = wait_status(scene.lab, &edge, "Initialize")?;
        assert_eq!(shown["v4"]["reason"], "interface lan0 is down");
        scene.lan.set_cable(&scene.ours, true)?;
        scene.wait_gateway(&scene.ours)?;

        // It is killed and says nothing: the address stays, and the next life does not take it for its own.
        edge.kill(Daemon::Bgpd)?;
        scene.lab.wait_for("keepalived takes over", PATIENCE, || scene.holds(&scene.other))?;
        ensure!(scene.holds(&scene.ours)?, "nobody could take it off");
        edge.configure(&ours(50, ""))?;
        edge.start_bgpd()?;
        scene.wait_without(&scene.ours)?;
        scene.wait_gateway(&scene.other)?;

        // keepalived stops, comes back, and loses its cable.
        ensure!(other.process.terminate(STOP)?.success(), "keepalived ended badly");
        scene.wait_gateway(&scene.ours)?;
        let shown = wait_status(scene.lab, &edge, "Master")?;
        assert_eq!(shown["v4"]["reason"], "10.1.0.3 has ceased", "{shown}");
        let _other = Keepalived::start(&scene.other, &theirs(100))?;
        scene.wait_gateway(&scene.other)?;
        scene.lan.set_cable(&scene.other, false)?;
        scene.wait_gateway(&scene.ours)?;
        scene.lan.set_cable(&scene.other, true)?;
        scene.wait_gateway(&scene.other)?;
        edge.must_run()
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_address_of_the_interface_itself_is_left_alone() {
    with_keepalived("vrrp-conflict", |scene, mut edge| {
        scene.ours.address("lan0", &format!("{GATEWAY}/24"))?;
        edge.start_bgpd()?;
        let why = scene.lab.wait_until("it says why not", PATIENCE, || {
            let shown = status(&edge)?;
            let why = shown["v4"]["reason"].as_str().unwrap_or_default().to_owned();
            Ok(why.contains("is an address of lan0 itself").then_some(shown))
        })?;
        assert_eq!(why["v4"]["status"], "Initialize");
        ensure!(scene.holds(&scene.ours)?, "the operator's address stays");
        scene.ours.ip(&format!("address del {GATEWAY}/24 dev lan0"))?;
        scene.wait_gateway(&scene.ours)?;
        // A kernel that keeps no marks, which takes the one that there is: what we hold is ours all the same.
        let before = wait_status(scene.lab, &edge, "Master")?;
        scene.ours.ip(&format!("address replace {GATEWAY}/24 dev lan0"))?;
        scene.lab.holds_for("it is the gateway", Duration::from_secs(1), || scene.holds(&scene.ours))?;
        let after = wait_status(scene.lab, &edge, "Master")?;
        assert_eq!(before["v4"]["stats"]["transitions"], after["v4"]["stats"]["transitions"], "{after}");
        // Somebody takes off what is ours.
        scene.ours.ip(&format!("address del {GATEWAY}/24 dev lan0"))?;
        scene.wait_gateway(&scene.ours)?;
        scene.ours.ip(&format!("address replace {GATEWAY}/24 dev lan0"))?;
        edge.process(Daemon::Bgpd)?.terminate(STOP)?;
        ensure!(!scene.holds(&scene.ours)?, "it takes off what it has put there, marked or not");
        Ok(())
    });
}

/// Behind both of ours is a router that each has a session with.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn between_two_of_ours_a_lost_neighbor_moves_the_gateway_and_its_routes_bring_it_back() {
    Lab::test("vrrp-track", |lab| {
        let (scene, binaries) = (build(lab)?, Binaries::find()?);
        let core = lab.node("core")?;
        let mut edges = Vec::new();
        for (n, (node, priority)) in (1..).zip([(&scene.ours, 200), (&scene.other, 150)]) {
            lab.join((node, "up0"), (&core, node.name()))?;
            node.address("up0", &format!("10.9.{n}.2/30"))?;
            core.address(node.name(), &format!("10.9.{n}.1/30"))?;
            let tracking = format!(
                " vrrp 10 track neighbor 10.9.{n}.1\nrouter bgp 65001\n bgp router-id 10.9.{n}.2\n \
                 neighbor 10.9.{n}.1 remote-as 65009\n neighbor 10.9.{n}.1 timers 1 3\n \
                 neighbor 10.9.{n}.1 timers connect 1\n address-family ipv4 unicast\n  redistribute connected\n"
            );
            edges.push(Edge::new(node, &binaries, &ours(priority, &tracking))?);
        }
        let text = "router bgp 65009\n bgp router-id 10.9.9.9\n neighbor 10.9.1.2 remote-as 65001\n \
                    neighbor 10.9.1.2 timers connect 1\n neighbor 10.9.2.2 remote-as 65001\n \
                    neighbor 10.9.2.2 timers connect 1\n address-family ipv4 unicast\n  network 10.99.0.0/16\n";
        let mut behind = Edge::new(&core, &binaries, text)?;
        // With nobody better there one that is not fit is the gateway all the same, and keeps its place before another.
        edges[0].start_bgpd()?;
        scene.wait_gateway(&scene.ours)?;
        edges[1].start_bgpd()?;
        wait_status(lab, &edges[1], "Backup")?;
        let shown = wait_status(lab, &edges[0], "Master")?;
        assert_eq!(shown["v4"]["effectivePriority"], 100, "{shown}");
        behind.start_bgpd()?;
        lab.wait_for("both are whole", PATIENCE, || {
            for (edge, priority) in edges.iter().zip([200, 150]) {
                let shown = status(edge)?;
                ensure!(shown["v4"]["effectivePriority"] == priority && shown["ready"] == true, "{shown}");
            }
            Ok(true)
        })?;
        scene.wait_gateway(&scene.ours)?;
        // The virtual address is no network of its own, and nobody's next hop.
        let told = behind.json("show bgp ipv4 unicast 10.1.0.0/24 json")?;
        ensure!(told.to_string().contains("10.9.1.2"), "{told}");
        ensure!(behind.shell("show bgp ipv4 unicast 10.1.0.1/32").is_ok_and(|text| !text.contains("10.9.1.2")));

        core.set_link(scene.ours.name(), false)?;
        scene.wait_gateway(&scene.other)?;
        let shown = wait_status(lab, &edges[0], "Backup")?;
        assert_eq!((&shown["v4"]["effectivePriority"], &shown["ready"]), (&100.into(), &false.into()), "{shown}");
        assert_eq!(shown["v4"]["master"]["address"], "10.1.0.3", "{shown}");
        core.set_link(scene.ours.name(), true)?;
        scene.wait_gateway(&scene.ours)?;
        let shown = wait_status(lab, &edges[0], "Master")?;
        assert_eq!((&shown["v4"]["effectivePriority"], &shown["ready"]), (&200.into(), &true.into()), "{shown}");
        edges.iter_mut().chain([&mut behind]).try_for_each(Edge::must_run)
    });
}
