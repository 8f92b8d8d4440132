//! The engine against the real kernel, in a network namespace of its own.
//!
//! Each test starts itself again under `unshare`, so that nothing here can touch the machine's own network.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use fib::{
    Backend, CompatMode, Event, Fib, GroupMember, Kernel, Nexthop, NexthopId, PathKey, PathList, PathState, Resync,
    Row, Scope, Target, Twin, disable_nexthop_compat_mode,
};
use net_types::Prefix;

const MARK: &str = "HOLDFAST_TEST_NAMESPACE";

/// Runs the test of that name in a new namespace; true in the process that is to run it.
fn in_namespace(test: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        sh("ip link set lo up");
        return true;
    }
    let as_root = rustix::process::geteuid().is_root();
    let unshare: &[&str] = if as_root { &["--net"] } else { &["--user", "--map-root-user", "--net"] };
    let able = Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|status| status.success());
    if !able {
        return false;
    }
    let me = std::env::current_exe().unwrap();
    let status =
        Command::new("unshare").args(unshare).arg(me).args([test, "--exact", "--nocapture"]).env(MARK, "1").status();
    assert!(status.unwrap().success(), "failed in the namespace");
    false
}

fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a pair of links that are up; returns the index of the near end.
fn link(number: u32) -> u32 {
    sh(&format!("ip link add v{number} type veth peer name w{number}"));
    sh(&format!(
        "ip addr add 192.0.{number}.1/24 dev v{number}; ip addr add 2001:db8:{number}::1/64 dev v{number} nodad"
    ));
    sh(&format!("ip link set v{number} up; ip link set w{number} up"));
    sh(&format!("ip -o link show v{number}")).split(':').next().unwrap().parse().unwrap()
}

fn path(source: u32, number: u32, ifindex: u32, v6: bool) -> PathKey {
    let gateway = if v6 { format!("2001:db8:{number}::2") } else { format!("192.0.{number}.2") };
    PathKey { source, ifindex, gateway: Some(gateway.parse().unwrap()) }
}

/// Every prefix with what it meets, by nexthop and weight, in order.
fn table(backend: &mut impl Backend) -> BTreeMap<Prefix, Vec<(Option<Nexthop>, u8)>> {
    backend.start_dump().unwrap();
    let mut rows = Vec::new();
    while backend.continue_dump(&mut rows).unwrap() {}
    let mut objects: BTreeMap<NexthopId, Option<Nexthop>> = BTreeMap::new();
    let mut groups: BTreeMap<NexthopId, Vec<GroupMember>> = BTreeMap::new();
    let mut table = BTreeMap::new();
    for row in rows {
        match row {
            Row::Nexthop(id, nexthop) => {
                objects.insert(id, nexthop);
            }
            Row::Group(id, members) => {
                groups.insert(id, members);
            }
            Row::Route(prefix, target) => {
                let Some(Target::Through(id, _)) = target else { panic!("ours use nexthop objects here") };
                let alone = vec![GroupMember { id, weight: 1 }];
                let members = groups.get(&id).unwrap_or(&alone);
                let met = |member: &GroupMember| (objects.get(&member.id).copied().flatten(), member.weight);
                let mut all: Vec<_> = members.iter().map(met).collect();
                if let [(_, weight)] = &mut all[..] {
                    *weight = 1;
                }
                all.sort_unstable();
                table.insert(prefix, all);
            }
        }
    }
    table
}

fn settle<B: Backend>(fib: &mut Fib<B>) {
    loop {
        let resync = fib.resync_step().unwrap();
        let flushed = fib.flush(256);
        assert!(flushed.error.is_none(), "{flushed:?}");
        let migrated = fib.migrate(256).written;
        if flushed.written + migrated == 0 && resync == Resync::Idle && fib.is_settled() {
            return;
        }
    }
}

/// Every operation on both; afterwards the two tables are the same.
#[test]
fn the_kernel_and_its_twin_agree() {
    if !in_namespace("the_kernel_and_its_twin_agree") {
        return;
    }
    let indexes: Vec<u32> = (1..=3).map(link).collect();
    let mut real = Fib::new(Kernel::open().unwrap());
    let mut twin = Fib::new(Twin::default());
    // A seeded walk; any seed would do.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for step in 0..600 {
        let v6 = random(2) == 1;
        match random(10) {
            0..=5 => {
                let number = random(200);
                let text = if v6 { format!("fd00:{number}::/32") } else { format!("10.{number}.0.0/16") };
                let prefix = text.parse().unwrap();
                let first = random(3);
                let paths: Vec<PathKey> = (0..random(4))
                    .map(|nth| (first + nth) % 3)
                    .map(|at| path(at as u32, at as u32 + 1, indexes[at], v6))
                    .collect();
                let sharing: Vec<_> = paths.iter().take(random(4)).map(|path| (*path, 1 + random(3) as u8)).collect();
                let list = PathList::multipath(&sharing, &paths[sharing.len()..]);
                if random(6) == 0 {
                    real.remove_route(prefix);
                    twin.remove_route(prefix);
                } else {
                    real.set_path_list(prefix, &list);
                    twin.set_path_list(prefix, &list);
                }
            }
            6 | 7 => {
                let scope = Scope::Source(random(3) as u32);
                let state = [PathState::Up, PathState::Doubtful, PathState::LastResort, PathState::Dead][random(4)];
                let (here, there) = (real.set_state(scope, state), twin.set_state(scope, state));
                assert!(here.error.is_none() && here.refusals.is_empty(), "{here:?}");
                assert_eq!((here.lists, here.routes), (there.lists, there.routes), "step {step}");
            }
            8 => {
                let budget = random(20);
                assert_eq!(real.flush(budget).written, twin.flush(budget).written, "step {step}");
            }
            _ => assert_eq!(real.migrate(5).written, twin.migrate(5).written, "step {step}"),
        }
    }
    settle(&mut real);
    settle(&mut twin);
    let here = table(real.backend_mut());
    assert!(here.len() > 50, "the walk went nowhere: {} routes", here.len());
    assert_eq!(here, table(twin.backend_mut()));
    // And what the system's own tool sees is what we think we wrote.
    let shown = sh("ip -4 route show proto 201; ip -6 route show proto 201");
    // A group's nexthops stand below its route, indented.
    assert_eq!(shown.lines().filter(|line| !line.starts_with(char::is_whitespace)).count(), here.len());
}

#[test]
fn a_dead_path_costs_one_message_and_is_left_at_once() {
    if !in_namespace("a_dead_path_costs_one_message_and_is_left_at_once") {
        return;
    }
    assert!(matches!(disable_nexthop_compat_mode(), CompatMode::SwitchedOff | CompatMode::AlreadyOff));
    let (one, two) = (link(1), link(2));
    let mut fib = Fib::new(Kernel::open().unwrap());
    for number in 0..1000_u32 {
        let prefix = format!("10.{}.{}.0/24", number / 256, number % 256).parse().unwrap();
        fib.set_route(prefix, &[path(1, 1, one, false), path(2, 2, two, false)]);
    }
    settle(&mut fib);
    assert!(sh("ip route get 10.1.2.3").contains("via 192.0.1.2 dev v1"));
    let switch = fib.set_state(Scope::Source(1), PathState::Dead);
    assert_eq!((switch.lists, switch.routes, switch.blackholed), (1, 1000, 0));
    assert!(sh("ip route get 10.1.2.3").contains("via 192.0.2.2 dev v2"));
    let switch = fib.set_state(Scope::Source(2), PathState::Dead);
    assert_eq!((switch.lists, switch.routes, switch.blackholed), (1, 1000, 1000));
    assert!(!Command::new("ip").args(["route", "get", "10.1.2.3"]).status().unwrap().success());
    fib.set_state(Scope::Source(1), PathState::Up);
    assert!(sh("ip route get 10.1.2.3").contains("via 192.0.1.2 dev v1"));
}

/// Which interfaces the only group spreads packets over, with their weights, as the system's own tool has it. Routes name
/// the group alone, without compatibility mode.
fn spread() -> Vec<(String, u8)> {
    let shown = sh("ip nexthop");
    let word = |line: &str, key: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != key);
        words.nth(1).unwrap_or_default().to_owned()
    };
    let interface = |id: &str| word(shown.lines().find(|line| word(line, "id") == id).unwrap(), "dev");
    let group = shown.lines().map(|line| word(line, "group")).find(|group| !group.is_empty()).unwrap();
    let member = |member: &str| match member.split_once(',') {
        Some((id, weight)) => (interface(id), weight.parse().unwrap()),
        None => (interface(member), 1),
    };
    group.split('/').map(member).collect()
}

#[test]
fn a_member_that_dies_leaves_its_group_in_one_message() {
    if !in_namespace("a_member_that_dies_leaves_its_group_in_one_message") {
        return;
    }
    assert!(matches!(disable_nexthop_compat_mode(), CompatMode::SwitchedOff | CompatMode::AlreadyOff));
    let links = [link(1), link(2), link(3)];
    let [one, two, three] = [0, 1, 2].map(|at| path(at as u32 + 1, at as u32 + 1, links[at], false));
    let list = PathList::multipath(&[(one, 1), (two, 3)], &[three]);
    let mut fib = Fib::new(Kernel::open().unwrap());
    for number in 0..1000_u32 {
        fib.set_path_list(format!("10.{}.{}.0/24", number / 256, number % 256).parse().unwrap(), &list);
    }
    settle(&mut fib);
    let both = [("v1".to_owned(), 1), ("v2".to_owned(), 3)];
    assert_eq!(spread(), both);
    assert_eq!(sh("ip nexthop").lines().count(), 5, "three ways, a blackhole and the group");
    let switch = fib.set_state(Scope::Source(2), PathState::Dead);
    assert_eq!((switch.lists, switch.routes, switch.blackholed), (1, 1000, 0));
    assert!(sh("ip route get 10.1.2.3").contains("via 192.0.1.2 dev v1"));
    let switch = fib.set_state(Scope::Source(1), PathState::Dead);
    assert_eq!((switch.lists, switch.routes, switch.blackholed), (1, 1000, 0));
    assert!(sh("ip route get 10.1.2.3").contains("via 192.0.3.2 dev v3"), "the alternate");
    let switch = fib.set_state(Scope::Source(3), PathState::Dead);
    assert_eq!((switch.lists, switch.routes, switch.blackholed), (1, 1000, 1000));
    assert!(!Command::new("ip").args(["route", "get", "10.1.2.3"]).status().unwrap().success());
    fib.set_states(&[(Scope::Source(1), PathState::Up), (Scope::Source(2), PathState::Up)]);
    assert_eq!(spread(), both);

    // A restart takes the group over as it is.
    let before = sh("ip -d route show proto 201; ip nexthop");
    let mut fib = Fib::new(Kernel::open().unwrap());
    assert_eq!(fib.adopt().unwrap().routes, 1000);
    for number in 0..1000_u32 {
        fib.set_path_list(format!("10.{}.{}.0/24", number / 256, number % 256).parse().unwrap(), &list);
    }
    assert_eq!(fib.flush(100).written, 0);
    assert_eq!(fib.sweep(), 0);
    assert_eq!(sh("ip -d route show proto 201; ip nexthop"), before);
    for number in 0..1000_u32 {
        fib.remove_route(format!("10.{}.{}.0/24", number / 256, number % 256).parse().unwrap());
    }
    settle(&mut fib);
    assert_eq!(sh("ip route show proto 201; ip nexthop"), "", "members go with the last group");
}

#[test]
fn a_link_that_takes_a_member_along_costs_no_route() {
    if !in_namespace("a_link_that_takes_a_member_along_costs_no_route") {
        return;
    }
    let links = [link(1), link(2)];
    let [one, two] = [0, 1].map(|at| path(at as u32 + 1, at as u32 + 1, links[at], false));
    let kernel = Kernel::open().unwrap();
    let mut monitor = kernel.monitor().unwrap();
    let mut fib = Fib::new(kernel);
    for number in 0..100 {
        let prefix = format!("10.{number}.0.0/16").parse().unwrap();
        fib.set_path_list(prefix, &PathList::multipath(&[(one, 1), (two, 1)], &[]));
    }
    settle(&mut fib);
    let whole = table(fib.backend_mut());
    let mut hear = |fib: &mut Fib<Kernel>, wanted: &dyn Fn(&Event) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let events = monitor.wait(Duration::from_millis(100)).unwrap();
            let found = events.iter().any(wanted);
            let switches: Vec<_> = events.iter().map(|event| fib.on_event(event)).collect();
            if found {
                return switches
                    .iter()
                    .map(|switch| (switch.lists, switch.flushed))
                    .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            }
            assert!(Instant::now() < deadline, "the event did not come");
        }
    };
    // The kernel takes the member out of the group by itself; before that is heard, the group is replaced, which fails
    // for want of the member that the engine still counts on, and then succeeds.
    sh("ip link set w2 down");
    assert_eq!(sh("ip route show proto 201").lines().filter(|line| line.contains("dev v1")).count(), 100);
    fib.set_state(Scope::Source(1), PathState::LastResort);
    let (_, flushed) = hear(&mut fib, &|event| *event == Event::Link { ifindex: links[1], up: false });
    assert_eq!(flushed, 0, "no route was lost");
    assert_eq!(fib.flush(256).written, 0, "and none has to be written");
    assert!(sh("ip route get 10.1.2.3").contains("dev v1"));
    fib.set_state(Scope::Source(1), PathState::Up);
    sh("ip link set w2 up");
    hear(&mut fib, &|event| *event == Event::Link { ifindex: links[1], up: true });
    assert_eq!(table(fib.backend_mut()), whole, "a link that came back");

    // Somebody removes a member; the group shrinks, and is made whole.
    let member = sh("ip nexthop show dev v1").split_whitespace().nth(1).unwrap().to_owned();
    sh(&format!("ip nexthop del id {member}"));
    hear(&mut fib, &|event| matches!(event, Event::NexthopRemoved(id) if id.0.to_string() == member));
    settle(&mut fib);
    assert_eq!(table(fib.backend_mut()), whole, "a removed member");

    // Both links at once: the group goes with its routes, and comes back with them.
    sh("ip link set w1 down; ip link set w2 down");
    hear(&mut fib, &|event| *event == Event::Link { ifindex: links[1], up: false });
    settle(&mut fib);
    assert!(sh("ip route show proto 201").lines().count() == 100, "dropped, not gone");
    sh("ip link set w1 up; ip link set w2 up");
    hear(&mut fib, &|event| *event == Event::Link { ifindex: links[1], up: true });
    settle(&mut fib);
    assert_eq!(table(fib.backend_mut()), whole, "both came back");
}

#[test]
fn what_others_break_is_heard_and_mended() {
    if !in_namespace("what_others_break_is_heard_and_mended") {
        return;
    }
    let (one, two) = (link(1), link(2));
    let kernel = Kernel::open().unwrap();
    let mut monitor = kernel.monitor().unwrap();
    let mut fib = Fib::new(kernel);
    let prefixes: Vec<Prefix> = vec!["10.1.0.0/16".parse().unwrap(), "10.2.0.0/16".parse().unwrap()];
    for prefix in &prefixes {
        fib.set_route(*prefix, &[path(1, 1, one, false), path(2, 2, two, false)]);
    }
    settle(&mut fib);
    let whole = table(fib.backend_mut());
    let mut pump = |fib: &mut Fib<Kernel>, until: &mut dyn FnMut(&Event) -> bool| {
        // One cause may bring several events; they are all out when a wait brings none.
        let (deadline, mut found) = (Instant::now() + Duration::from_secs(10), false);
        loop {
            let events = monitor.wait(Duration::from_millis(100)).unwrap();
            if events.is_empty() && found {
                return;
            }
            for event in &events {
                fib.on_event(event);
                found |= until(event);
            }
            assert!(Instant::now() < deadline, "the event did not come, or they do not end");
        }
    };

    sh("ip route del 10.1.0.0/16 proto 201");
    pump(&mut fib, &mut |event| *event == Event::RouteTouched(prefixes[0]));
    settle(&mut fib);
    assert_eq!(table(fib.backend_mut()), whole, "a deleted route");

    sh("ip route replace 10.2.0.0/16 via 192.0.2.7 metric 20 proto static");
    pump(&mut fib, &mut |event| *event == Event::RouteTouched(prefixes[1]));
    settle(&mut fib);
    assert_eq!(table(fib.backend_mut()), whole, "a replaced route");

    sh("ip nexthop flush proto 201");
    pump(&mut fib, &mut |event| matches!(event, Event::NexthopRemoved(_)));
    settle(&mut fib);
    assert_eq!(table(fib.backend_mut()), whole, "a flushed nexthop");

    // The far end goes down: carrier is lost, and the kernel flushes the nexthop with its routes.
    sh("ip link set w1 down");
    pump(&mut fib, &mut |event| *event == Event::Link { ifindex: one, up: false });
    settle(&mut fib);
    assert!(sh("ip route get 10.1.2.3").contains("via 192.0.2.2 dev v2"));
    sh("ip link set w1 up");
    pump(&mut fib, &mut |event| *event == Event::Link { ifindex: one, up: true });
    settle(&mut fib);
    assert_eq!(table(fib.backend_mut()), whole, "a link that came back");

    // A path over a link that is down is refused by the kernel, and the next one taken, without waiting for events.
    sh("ip link set w2 down");
    let switch = fib.set_state(Scope::Source(1), PathState::Dead);
    assert_eq!(switch.refusals.len(), 1, "{switch:?}");
    assert!(switch.refusals[0].contains("Carrier"), "{switch:?}");
    assert_eq!(switch.blackholed, 2);
}

#[test]
fn what_is_connected_goes_before_our_routes_to_the_same_prefixes() {
    if !in_namespace("what_is_connected_goes_before_our_routes_to_the_same_prefixes") {
        return;
    }
    let [_, two] = [link(1), link(2)];
    let mut fib = Fib::new(Kernel::open().unwrap());
    for (prefix, v6) in [("192.0.1.0/24", false), ("2001:db8:1::/64", true)] {
        fib.set_route(prefix.parse().unwrap(), &[path(1, 2, two, v6)]);
    }
    settle(&mut fib);
    for neighbor in ["192.0.1.7", "2001:db8:1::7"] {
        assert!(sh(&format!("ip route get {neighbor}")).contains("dev v1"), "{neighbor}");
    }
    // Ours are there for when the link is not.
    sh("ip addr flush dev v1");
    for neighbor in ["192.0.1.7", "2001:db8:1::7"] {
        assert!(sh(&format!("ip route get {neighbor}")).contains("dev v2"), "{neighbor}");
    }
}

#[test]
fn a_restart_adopts_what_is_there_and_sweeps_what_is_stale() {
    if !in_namespace("a_restart_adopts_what_is_there_and_sweeps_what_is_stale") {
        return;
    }
    let one = link(1);
    let [kept, stale]: [Prefix; 2] = ["10.1.0.0/16".parse().unwrap(), "fd00:1::/32".parse().unwrap()];
    let mut fib = Fib::new(Kernel::open().unwrap());
    fib.set_route(kept, &[path(1, 1, one, false)]);
    fib.set_route(stale, &[path(1, 1, one, true)]);
    settle(&mut fib);
    let before = sh("ip -d route show proto 201; ip nexthop");

    let mut fib = Fib::new(Kernel::open().unwrap());
    let adopted = fib.adopt().unwrap();
    assert_eq!((adopted.routes, adopted.nexthops), (2, 2));
    fib.set_route(kept, &[path(1, 1, one, false)]);
    assert_eq!(fib.flush(100).written, 0);
    assert_eq!(sh("ip -d route show proto 201; ip nexthop"), before);
    assert_eq!(fib.sweep(), 1);
    settle(&mut fib);
    assert_eq!(sh("ip -6 route show proto 201"), "");
    assert_eq!(sh("ip route show proto 201").lines().count(), 1);
    assert_eq!(sh("ip nexthop").lines().count(), 1);
}
