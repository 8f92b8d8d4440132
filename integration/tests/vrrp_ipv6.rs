//! VRRP for hosts with IPv6, with keepalived as the other router: whose is the link-local address that they send to.
//!
//! ```text
//! ours (fe80::, its own) ──┐
//!                          ├── lan ── host, whose gateway is fe80::1
//! other (the same) ────────┘
//! ```
//!
//! Both routers have 2001:db8:99::1, which the host asks all the time: whoever is the gateway answers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::edge::{Binaries, Daemon, Edge};
use integration::peers::Keepalived;
use integration::segment::{self, PATIENCE, Segment, Shared, status, wait_status};
use integration::{Lab, Node, Process, packages};
use rustix::process::Signal;
use serde_json::Value;

const STOP: Duration = Duration::from_secs(10);
const GATEWAY: &str = "fe80::1";
const WIDE: &str = "2001:db8:1::1";
const BEHIND: &str = "2001:db8:99::1";

fn ours(priority: u8, more: &str) -> String {
    format!(
        "hostname ours\ninterface lan0\n vrrp 10\n vrrp 10 ipv6 {GATEWAY}\n vrrp 10 ipv6 {WIDE}\n \
         vrrp 10 priority {priority}\n vrrp 10 advertisement-interval 200\n{more}"
    )
}

fn theirs(priority: u8) -> String {
    format!(
        " interface lan0\n virtual_router_id 10\n priority {priority}\n advert_int 0.2\n \
         virtual_ipaddress {{\n {GATEWAY}/64\n {WIDE}/64\n }}"
    )
}

fn build(lab: &Lab) -> Result<Segment<'_>> {
    let held = &["inet6 fe80::1/", "inet6 2001:db8:1::1/"];
    Segment::build(lab, Shared { gateway: GATEWAY, held, asked: BEHIND }, |lan, [ours, other, host]| {
        for (n, node) in [(2, ours), (3, other), (10, host)] {
            node.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
            lan.plug(node, "lan0", &format!("10.1.0.{n}/24"))?;
            node.address("lan0", &format!("2001:db8:1::{n}/64"))?;
        }
        for router in [ours, other] {
            router.forward()?;
            router.address("lo", &format!("{BEHIND}/128"))?;
        }
        // What the host knows of its gateway it believes for an hour, unless it is told otherwise.
        for (name, value) in [("base_reachable_time_ms", "3600000"), ("delay_first_probe_time", "3600")] {
            host.sysctl(&format!("net.ipv6.neigh.lan0.{name}"), value)?;
        }
        host.ip(&format!("-6 route add default via {GATEWAY} dev lan0")).map(drop)
    })
}

/// The link-local address of the interface's own.
fn link_local(node: &Node) -> Result<String> {
    let shown = node.run_json(&["ip", "-j", "-6", "address", "show", "dev", "lan0", "scope", "link"])?;
    let all = shown.pointer("/0/addr_info").and_then(Value::as_array).context("no addresses")?;
    let own = all.iter().filter_map(|one| one["local"].as_str()).find(|address| *address != GATEWAY);
    own.map(str::to_owned).with_context(|| format!("no link-local address: {shown}"))
}

fn with_keepalived(name: &str, work: impl FnOnce(&Segment<'_>, Edge) -> Result<()>) {
    segment::with_keepalived(name, build, &ours(150, ""), work);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn with_keepalived_the_better_priority_is_the_gateway() {
    with_keepalived("vrrp6-election", |scene, mut edge| {
        let _other = Keepalived::start(&scene.other, &theirs(100))?;
        scene.wait_gateway(&scene.other)?;
        edge.start_bgpd()?;
        scene.wait_gateway(&scene.ours)?;
        scene.wait_without(&scene.other)?;
        // Nothing that does not ask for a virtual address speaks from it.
        let shown = scene.ours.ip("-6 address show dev lan0")?;
        assert_eq!(shown.matches("deprecated").count(), 2, "{shown}");
        let own = link_local(&scene.ours)?;
        let source = scene.ours.ip("-6 route get fe80::99 oif lan0")?;
        ensure!(source.contains(&format!("src {own} ")), "{source}");
        let source = scene.ours.ip("-6 route get 2001:db8:1::99")?;
        ensure!(source.contains("src 2001:db8:1::2 "), "{source}");

        edge.configure(&ours(50, ""))?;
        edge.process(Daemon::Bgpd)?.signal(Signal::HUP)?;
        scene.wait_gateway(&scene.other)?;
        scene.wait_without(&scene.ours)?;
        let shown = wait_status(scene.lab, &edge, "v6", "Backup")?;
        let theirs = link_local(&scene.other)?;
        assert_eq!((&shown["v6"]["master"]["address"], &shown["v6"]["primaryAddress"]), (&theirs.into(), &own.into()));
        assert_eq!(shown["v6"]["master"]["priority"], 100, "{shown}");
        assert_eq!(shown["v6"]["addresses"], serde_json::json!([GATEWAY, WIDE]), "{shown}");
        ensure!(shown.get("v4").is_none(), "{shown}");
        let stats = &shown["v6"]["stats"];
        ensure!(stats["errors"].as_object().is_some_and(|all| all.values().all(|n| n == 0)), "{shown}");
        ensure!(stats["neighborAdverTx"].as_u64() >= Some(2), "{shown}");

        edge.configure(&ours(200, " vrrp 10 preempt delay 1\n"))?;
        edge.process(Daemon::Bgpd)?.signal(Signal::HUP)?;
        scene.wait_gateway(&scene.ours)?;
        let told = edge.shell("show bgp events")?;
        ensure!(told.contains("lan0 vrrp 10 IPv6") && told.contains("backup to active"), "{told}");
        edge.must_run()
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn with_keepalived_whoever_stops_or_dies_is_relieved() {
    with_keepalived("vrrp6-hand-over", |scene, mut edge| {
        edge.start_bgpd()?;
        scene.wait_gateway(&scene.ours)?;
        let mut other = Keepalived::start(&scene.other, &theirs(100))?;
        let heard = || Ok(status(&edge)?["v6"]["stats"]["adverTx"].as_u64() > Some(10));
        scene.lab.wait_for("advertisements to keepalived", PATIENCE, heard)?;
        ensure!(!scene.holds(&scene.other)?, "keepalived heard the better one");

        // Ours stops, and says so; then it comes back.
        edge.process(Daemon::Bgpd)?.terminate(STOP)?;
        scene.wait_without(&scene.ours)?;
        scene.wait_gateway(&scene.other)?;
        edge.start_bgpd()?;
        scene.wait_gateway(&scene.ours)?;
        scene.wait_without(&scene.other)?;

        // Its cable is pulled.
        scene.lan.set_cable(&scene.ours, false)?;
        scene.wait_gateway(&scene.other)?;
        let shown = wait_status(scene.lab, &edge, "v6", "Initialize")?;
        assert_eq!(shown["v6"]["reason"], "interface lan0 is down");
        scene.lan.set_cable(&scene.ours, true)?;
        scene.wait_gateway(&scene.ours)?;

        // It is killed and says nothing: the addresses stay, and the next life does not take them for its own.
        edge.kill(Daemon::Bgpd)?;
        scene.lab.wait_for("keepalived takes over", PATIENCE, || scene.holds(&scene.other))?;
        ensure!(scene.holds(&scene.ours)?, "nobody could take them off");
        edge.configure(&ours(50, ""))?;
        edge.start_bgpd()?;
        scene.wait_without(&scene.ours)?;
        scene.wait_gateway(&scene.other)?;

        // They are not wanted at all in the life after that.
        let theirs = link_local(&scene.other)?;
        ensure!(other.process.terminate(STOP)?.success(), "keepalived ended badly");
        scene.wait_gateway(&scene.ours)?;
        let shown = wait_status(scene.lab, &edge, "v6", "Master")?;
        assert_eq!(shown["v6"]["reason"], format!("{theirs} has ceased"), "{shown}");
        edge.kill(Daemon::Bgpd)?;
        ensure!(scene.holds(&scene.ours)?, "nobody could take them off");
        edge.configure("hostname ours\n")?;
        edge.start_bgpd()?;
        scene.wait_without(&scene.ours)?;
        edge.must_run()
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn of_one_number_each_family_goes_its_own_way() {
    with_keepalived("vrrp6-both", |scene, mut edge| {
        // keepalived is the better one for IPv6, and the worse one for IPv4.
        let v4 = " interface lan0\n virtual_router_id 10\n priority 100\n advert_int 0.2\n virtual_ipaddress {\n 10.1.0.1/24\n }";
        let instance = |name: &str, lines: &str| format!("vrrp_instance {name} {{\n state BACKUP\n{lines}\n}}\n");
        let _other = Keepalived::start_all(&scene.other, &(instance("four", v4) + &instance("six", &theirs(200))))?;
        scene.wait_gateway(&scene.other)?;
        edge.configure(&ours(150, " vrrp 10 ip 10.1.0.1\n"))?;
        edge.start_bgpd()?;
        wait_status(scene.lab, &edge, "v4", "Master")?;
        // It begins as a backup; of whom, the first advertisement says.
        scene.lab.wait_for("a backup of the other", PATIENCE, || {
            let v6 = status(&edge)?["v6"].clone();
            Ok(v6["status"] == "Backup" && v6["master"]["priority"] == 200)
        })?;
        scene.wait_gateway(&scene.other)?;
        ensure!(scene.ours.ip("-4 address show dev lan0")?.contains("inet 10.1.0.1/24"), "it has the IPv4 one");
        let text = edge.shell("show vrrp")?;
        ensure!(text.contains("lan0 virtual router 10 for IPv4: active"), "{text}");
        ensure!(text.contains("lan0 virtual router 10 for IPv6: backup"), "{text}");

        // Without its own addresses the one of IPv6 is no more, and the other does not notice.
        let before = status(&edge)?["v4"]["stats"]["transitions"].clone();
        edge.configure("hostname ours\ninterface lan0\n vrrp 10\n vrrp 10 ip 10.1.0.1\n vrrp 10 priority 150\n vrrp 10 advertisement-interval 200\n")?;
        edge.process(Daemon::Bgpd)?.signal(Signal::HUP)?;
        scene.lab.wait_for("it is gone", PATIENCE, || Ok(status(&edge)?.get("v6").is_none()))?;
        let shown = wait_status(scene.lab, &edge, "v4", "Master")?;
        assert_eq!(shown["v4"]["stats"]["transitions"], before, "{shown}");
        edge.must_run()
    });
}

/// A neighbor that has both families has to have told the routes of each to the group of that family; one that has IPv4 alone
/// has none to wait for.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_tracked_neighbor_counts_for_the_families_that_it_carries() {
    Lab::test("vrrp6-track", |lab| {
        let (scene, binaries) = (build(lab)?, Binaries::find()?);
        let router = |own: u8, far: u8, families: &[&str]| {
            let mut text = format!(
                "router bgp 6500{own}\n bgp router-id 10.1.0.{own}\n neighbor 10.1.0.{far} remote-as 6500{far}\n \
                 neighbor 10.1.0.{far} timers connect 1\n"
            );
            for family in ["ipv4", "ipv6"] {
                let no = if families.contains(&family) { "" } else { "no " };
                text += &format!(" address-family {family} unicast\n  {no}neighbor 10.1.0.{far} activate\n");
            }
            text
        };
        let group = |families: &[&str]| {
            ours(150, &format!(" vrrp 10 ip 10.1.0.1\n vrrp 10 track neighbor 10.1.0.3\n{}", router(2, 3, families)))
        };
        let mut edge = Edge::new(&scene.ours, &binaries, &group(&["ipv4", "ipv6"]))?;
        let mut far = Edge::new(&scene.other, &binaries, &router(3, 2, &["ipv4", "ipv6"]))?;
        edge.start_bgpd()?;
        for family in ["v4", "v6"] {
            let shown = wait_status(lab, &edge, family, "Master")?;
            assert_eq!((&shown[family]["ready"], &shown[family]["effectivePriority"]), (&false.into(), &50.into()));
        }
        let ready = |edge: &Edge| {
            lab.wait_for("both to be ready", PATIENCE, || {
                let shown = status(edge)?;
                let ready = ["v4", "v6"].iter().all(|family| shown[family]["ready"] == true);
                ensure!(ready && shown["ready"] == true && shown["v6"]["effectivePriority"] == 150, "{shown}");
                Ok(true)
            })
        };
        far.start_bgpd()?;
        ready(&edge)?;

        edge.configure(&group(&["ipv4"]))?;
        edge.process(Daemon::Bgpd)?.signal(Signal::HUP)?;
        lab.wait_for("a session for IPv4 alone", PATIENCE, || {
            let neighbor = edge.json("show bgp ipv6 unicast summary json")?;
            Ok(!neighbor.to_string().contains("10.1.0.3") && edge.is_established("10.1.0.3")?)
        })?;
        ready(&edge)?;
        edge.must_run()?;
        far.must_run()
    });
}

/// Both routers run radvd, which is told to speak from the virtual address alone.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn hosts_that_learn_the_gateway_from_radvd_follow_it() {
    with_keepalived("vrrp6-radvd", |scene, mut edge| {
        packages::ensure(&["radvd"])?;
        scene.host.ip(&format!("-6 route del default via {GATEWAY} dev lan0"))?;
        let _other = Keepalived::start(&scene.other, &theirs(100))?;
        let _speakers = [radvd(&scene.ours)?, radvd(&scene.other)?];
        let learnt = || -> Result<bool> {
            let routes = scene.host.ip("-6 route show default")?;
            ensure!(
                routes.lines().count() == 1 && routes.contains(&format!("via {GATEWAY} dev lan0 proto ra")),
                "{routes}"
            );
            Ok(true)
        };
        scene.lab.wait_for("the gateway, learnt from keepalived's router", PATIENCE, learnt)?;
        scene.wait_gateway(&scene.other)?;
        edge.start_bgpd()?;
        scene.wait_gateway(&scene.ours)?;
        // What is said from now on comes from ours, and the host has heard it.
        let expires = || -> Result<u64> {
            let routes = scene.host.run_json(&["ip", "-j", "-6", "route", "show", "default"])?;
            routes.pointer("/0/expires").and_then(Value::as_u64).with_context(|| format!("no lifetime in {routes}"))
        };
        let before = expires()?;
        scene.lab.wait_for("a lifetime that runs down", PATIENCE, || Ok(expires()? < before))?;
        let before = expires()?;
        scene.lab.wait_for("another advertisement", PATIENCE, || Ok(expires()? > before && learnt()?))?;
        ensure!(!scene.holds(&scene.other)?, "keepalived has taken the addresses meanwhile");
        edge.process(Daemon::Bgpd)?.terminate(STOP)?;
        scene.wait_gateway(&scene.other)?;
        learnt()?;
        edge.start_bgpd()?;
        scene.wait_gateway(&scene.ours)?;
        learnt()?;
        edge.must_run()
    });
}

fn radvd(router: &Node) -> Result<Process> {
    let config = format!(
        "interface lan0 {{\n AdvSendAdvert on;\n IgnoreIfMissing on;\n MinRtrAdvInterval 3;\n MaxRtrAdvInterval 4;\n \
         AdvDefaultLifetime 600;\n AdvRASrcAddress {{\n {GATEWAY};\n }};\n prefix 2001:db8:1::/64 {{\n }};\n}};\n"
    );
    let file = router.write("radvd.conf", config)?;
    let pid = router.folder().join("radvd.pid");
    let [file, pid] = [&file, &pid].map(|path| path.to_str().context("a path that is not UTF-8"));
    router.spawn("radvd", &["radvd", "--nodaemon", "--logmethod", "stderr", "--config", file?, "--pidfile", pid?])
}
