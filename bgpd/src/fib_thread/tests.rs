//! The thread over the twin.

use std::sync::mpsc;

use bgp_core::rib::{PathRef, Placement, Resolved, Source};
use fib::{Forwarding, Nexthop, Twin};

use super::*;

fn change(prefix: &str, peers: &[u32]) -> BestChange {
    let path = |peer: &u32| PathRef {
        source: Source::Peer(PeerId(*peer)),
        resolved: Resolved { ifindex: *peer, gateway: None, metric: 0 },
        stale: false,
        sent_back: false,
        blackhole: false,
        weight: 1,
    };
    BestChange {
        prefix: prefix.parse().unwrap(),
        best: peers.first().map(path),
        multipath: Vec::new(),
        alternate: peers.get(1).map(path),
        placement: Placement::default(),
        protect: true,
    }
}

struct Rig {
    fib: FibHandle,
    rib: RibSide,
    thread: JoinHandle<()>,
}

impl Rig {
    fn new() -> Self {
        let (fib, thread) = start(Fib::new(Twin::default())).unwrap();
        let rib = fib.rib_side();
        Self { fib, rib, thread }
    }

    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&dyn Table) -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.fib.ask(move |table| tell.send(question(table)).unwrap());
        told.recv().unwrap()
    }

    /// The interface that a prefix leaves by once nothing is left to write; 0 for none.
    fn way(&self, prefix: &str) -> u32 {
        let prefix = prefix.parse().unwrap();
        loop {
            let (settled, installed) = self.ask(move |table| {
                let route = table.route(&prefix);
                (table.stats().urgent == 0, route.and_then(|route| route.installed.cloned()))
            });
            match (settled, installed) {
                (true, Some(Forwarding::Single(Nexthop::Via { ifindex, .. }))) => return ifindex,
                (true, Some(Forwarding::Single(Nexthop::Blackhole(_))) | None) => return 0,
                (true, Some(Forwarding::Multipath(several))) => panic!("shared by {several:?}"),
                (false, _) => std::thread::yield_now(),
            }
        }
    }
}

#[test]
fn a_fault_moves_traffic_then_tells_the_session_then_is_logged_to_its_end() {
    let rig = Rig::new();
    rig.rib.changes(vec![change("10.1.0.0/16", &[1, 2]), change("10.2.0.0/16", &[2, 1])]);
    rig.rib.idle();
    assert_eq!((rig.way("10.1.0.0/16"), rig.way("10.2.0.0/16")), (1, 2));

    let peer: IpAddr = "169.254.1.1".parse().unwrap();
    let (tell, told) = mpsc::channel();
    let fault = || Fault::now(Cause::BfdDown, "test", vec![(Scope::Source(1), PathState::Dead)]).peer(peer);
    rig.fib.fault(fault().then(move || tell.send(()).unwrap()));
    told.recv().unwrap();
    assert_eq!(rig.way("10.1.0.0/16"), 2);
    // Another detector sees the same.
    rig.fib.fault(fault());

    // The table catches up, the session comes back, its routes come in.
    rig.rib.changes(vec![change("10.1.0.0/16", &[2]), change("10.2.0.0/16", &[2])]);
    rig.rib.idle();
    rig.fib.returning(PeerId(1));
    rig.rib.changes(vec![change("10.1.0.0/16", &[1, 2]), change("10.2.0.0/16", &[2, 1])]);
    assert_eq!(rig.way("10.1.0.0/16"), 2, "not all routes are in yet");
    rig.rib.returned(PeerId(1), peer);
    rig.rib.idle();
    while rig.fib.log().lock().unwrap().is_open(peer) {
        std::thread::yield_now();
    }
    assert_eq!(rig.way("10.1.0.0/16"), 1);

    let log = rig.fib.log().lock().unwrap();
    let faults: Vec<_> = log.faults().collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!((faults[0].path_lists_replaced, faults[0].routes_moved), (1, 1));
    assert!(faults[0].fib_switch_us.is_some() && faults[0].rib_done_at_unix_us.is_some());
    drop(log);
    rig.fib.close();
    rig.thread.join().unwrap();
}

#[test]
fn a_session_that_is_back_puts_what_bfd_had_against_its_path_in_doubt() {
    let rig = Rig::new();
    let mut preferred = change("10.1.0.0/16", &[1, 2]);
    preferred.alternate.as_mut().unwrap().sent_back = true;
    rig.rib.changes(vec![preferred]);
    assert_eq!(rig.way("10.1.0.0/16"), 1);
    rig.fib.words(vec![(Scope::Tunnel(1), PathState::Doubtful)]);
    assert_eq!(rig.way("10.1.0.0/16"), 1, "the other router would give packets back");
    rig.fib.words(vec![(Scope::Monitored(1), PathState::LastResort)]);
    assert_eq!(rig.way("10.1.0.0/16"), 2, "it will be told");
    rig.fib.returning(PeerId(1));
    assert_eq!(rig.way("10.1.0.0/16"), 1, "it is told that this path is there again, and uses it");
    rig.fib.words(vec![(Scope::Monitored(1), PathState::LastResort)]);
    assert_eq!(rig.way("10.1.0.0/16"), 2, "BFD has spoken since");
}

#[test]
fn what_has_no_other_path_is_dropped_and_served_by_the_last_resort() {
    let rig = Rig::new();
    rig.rib.changes(vec![change("10.1.0.0/16", &[1])]);
    assert_eq!(rig.way("10.1.0.0/16"), 1);
    rig.fib.words(vec![(Scope::Tunnel(1), PathState::Dead)]);
    assert_eq!(rig.way("10.1.0.0/16"), 0);
    rig.rib.changes(vec![change("10.1.0.0/16", &[])]);
    assert_eq!(rig.way("10.1.0.0/16"), 0);
    assert!(rig.ask(|table| table.route(&"10.1.0.0/16".parse().unwrap()).is_some()), "protected");
    rig.fib.words(vec![(Scope::Tunnel(1), PathState::LastResort)]);
    rig.rib.changes(vec![change("10.1.0.0/16", &[1])]);
    assert_eq!(rig.way("10.1.0.0/16"), 1);
}

#[test]
fn what_was_found_is_dropped_until_everybody_has_spoken_who_may_have_announced_it() {
    let mut before = Fib::new(Twin::default());
    for (prefix, ifindex) in [("10.1.0.0/16", 1), ("10.2.0.0/16", 2), ("10.3.0.0/16", 2)] {
        before.set_route(prefix.parse().unwrap(), &[PathKey { source: ifindex, ifindex, gateway: None }]);
    }
    while before.flush(10).written > 0 {}
    let mut fib = Fib::new(std::mem::take(before.backend_mut()));
    fib.adopt().unwrap();
    let (fib, thread) = start(fib).unwrap();
    let rig = Rig { rib: fib.rib_side(), fib, thread };

    rig.rib.settled(Unclaimed { silent: vec![PeerId(1)], ..Unclaimed::default() }, [1].into());
    rig.rib.changes(vec![change("10.3.0.0/16", &[2])]);
    rig.rib.idle();
    while rig.way("10.1.0.0/16") != 0 {
        std::thread::yield_now();
    }
    assert_eq!((rig.way("10.2.0.0/16"), rig.way("10.3.0.0/16")), (0, 2), "it may have been the alternate");
    // Whoever speaks takes it back, but somebody else may have announced it, too.
    rig.rib.changes(vec![BestChange { protect: false, ..change("10.3.0.0/16", &[]) }]);
    assert_eq!(rig.way("10.3.0.0/16"), 0);
    assert_eq!(rig.ask(|table| table.stats().routes), 3, "dropped, not removed");
    rig.rib.changes(vec![change("10.2.0.0/16", &[1])]);
    rig.rib.returned(PeerId(1), "169.254.1.1".parse().unwrap());
    rig.rib.idle();
    while rig.ask(|table| table.stats().routes) > 1 {
        std::thread::yield_now();
    }
    assert_eq!(rig.way("10.2.0.0/16"), 1, "what is announced stays");
}

#[test]
fn a_static_route_wins_and_gives_way_to_what_was_learned_meanwhile() {
    let rig = Rig::new();
    let prefix: Prefix = "10.1.0.0/16".parse().unwrap();
    let by = |ifindex, distance| {
        let paths = if ifindex == 0 { vec![] } else { vec![PathKey { source: u32::MAX - 1, ifindex, gateway: None }] };
        vec![StaticRoute { prefix, paths: PathList::ordered(paths), distance }]
    };
    rig.fib.statics(by(9, 1));
    rig.rib.changes(vec![change("10.1.0.0/16", &[1])]);
    assert_eq!(rig.way("10.1.0.0/16"), 9);
    rig.fib.statics(by(0, 1));
    assert_eq!(rig.way("10.1.0.0/16"), 0);
    rig.fib.statics(vec![]);
    assert_eq!(rig.way("10.1.0.0/16"), 1);
    rig.rib.changes(vec![BestChange { protect: false, ..change("10.1.0.0/16", &[]) }]);
    rig.ask(|_| ());
    while rig.ask(|table| table.stats().routes) > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn of_a_static_route_and_a_learned_one_the_nearer_is_used() {
    let rig = Rig::new();
    let prefix: Prefix = "10.1.0.0/16".parse().unwrap();
    let paths = PathList::ordered([PathKey { source: u32::MAX - 1, ifindex: 9, gateway: None }]);
    let floating = |distance| vec![StaticRoute { prefix, paths: paths.clone(), distance }];
    rig.rib.changes(vec![change("10.1.0.0/16", &[1])]);
    assert_eq!(rig.way("10.1.0.0/16"), 1);
    // A backup for when BGP has nothing.
    rig.fib.statics(floating(250));
    assert_eq!(rig.way("10.1.0.0/16"), 1, "BGP's was there first, and is nearer");
    rig.rib.changes(vec![BestChange { protect: false, ..change("10.1.0.0/16", &[]) }]);
    assert_eq!(rig.way("10.1.0.0/16"), 9);
    rig.rib.changes(vec![change("10.1.0.0/16", &[2])]);
    assert_eq!(rig.way("10.1.0.0/16"), 2);
    // Between the two kinds of neighbors.
    rig.fib.statics(floating(100));
    assert_eq!(rig.way("10.1.0.0/16"), 2);
    rig.fib.distances(Distances { internal_sources: [2].into(), ..Distances::default() });
    assert_eq!(rig.way("10.1.0.0/16"), 9, "an internal neighbor's route is at 200");
    rig.fib.distances(Distances {
        internal: [50; net_types::Family::COUNT],
        internal_sources: [2].into(),
        ..Distances::default()
    });
    assert_eq!(rig.way("10.1.0.0/16"), 2);
}

#[test]
fn what_is_to_be_dropped_is_dropped_whatever_else_leads_there() {
    let rig = Rig::new();
    let mut dropped = change("192.0.2.66/32", &[1, 2]);
    if let Some(best) = &mut dropped.best {
        best.blackhole = true;
    }
    rig.rib.changes(vec![dropped]);
    assert_eq!(rig.way("192.0.2.66/32"), 0);
    let installed =
        rig.ask(|table| table.route(&"192.0.2.66/32".parse().unwrap()).and_then(|route| route.installed.cloned()));
    assert!(installed.as_ref().is_some_and(Forwarding::is_blackhole), "{installed:?}");
}

#[test]
fn paths_as_good_as_the_best_share_and_the_alternate_follows_when_all_are_lost() {
    let rig = Rig::new();
    let [one, two, three] = [1, 2, 3].map(|peer| change("10.1.0.0/16", &[peer]).best.unwrap());
    let shared = BestChange {
        best: Some(PathRef { weight: 3, ..one }),
        multipath: vec![two],
        alternate: Some(three),
        ..change("10.1.0.0/16", &[])
    };
    rig.rib.changes(vec![shared]);
    let prefix: Prefix = "10.1.0.0/16".parse().unwrap();
    let spread = loop {
        let (settled, spread) = rig.ask(move |table| {
            let installed = table.route(&prefix).and_then(|route| route.installed.cloned());
            (table.stats().urgent == 0, installed)
        });
        if settled && let Some(spread) = spread {
            break spread.nexthops().map(|it| it.weight).collect::<Vec<_>>();
        }
    };
    assert_eq!(spread, [3, 1]);
    let lost = |peer| Fault::now(Cause::SessionClosed, "", vec![(Scope::Source(peer), PathState::Dead)]);
    rig.fib.fault(lost(1));
    assert_eq!(rig.way("10.1.0.0/16"), 2);
    rig.fib.fault(lost(2));
    assert_eq!(rig.way("10.1.0.0/16"), 3);
    rig.fib.fault(lost(3));
    assert_eq!(rig.way("10.1.0.0/16"), 0);
}

/// Interface by which `prefix` of a table goes, once there is such a route.
fn way_in(rig: &Rig, prefix: Prefix) -> Option<u32> {
    loop {
        let (settled, ifindex) = rig.ask(move |table| {
            let route = table.route(&prefix);
            let first = route.as_ref().and_then(|route| route.list?.paths().first().map(|path| path.ifindex));
            (table.stats().urgent == 0, first)
        });
        if settled {
            return ifindex;
        }
    }
}

#[test]
fn policy_says_in_which_table_a_route_is_and_it_is_in_no_other() {
    let rig = Rig::new();
    let prefix: Prefix = "10.1.0.0/16".parse().unwrap();
    let into = |table| Placement { table, ..Placement::default() };
    let tell = |table, peers: &[u32], protect| {
        rig.rib.changes(vec![BestChange { placement: into(table), protect, ..change("10.1.0.0/16", peers) }]);
        [prefix, prefix.in_table(100), prefix.in_table(101)].map(|place| way_in(&rig, place))
    };
    assert_eq!(tell(Some(100), &[1], true), [None, Some(1), None]);
    assert_eq!(tell(Some(101), &[2], true), [None, None, Some(2)]);
    tell(None, &[], true);
    let dropped = rig.ask(move |table| table.route(&prefix.in_table(101)).is_some_and(|route| route.list.is_some()));
    assert!(dropped, "fails closed where it was");
    assert_eq!(tell(Some(254), &[1], true), [Some(1), None, None], "the main table is no other");
    tell(Some(100), &[1], true);
    tell(None, &[], false);
    while rig.ask(|table| table.stats().routes) > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn policy_says_how_a_route_ranks_and_whence_our_own_packets_come() {
    let rig = Rig::new();
    let prefix: Prefix = "10.1.0.0/16".parse().unwrap();
    let source = "192.0.2.1".parse().ok();
    let with = |distance| BestChange {
        placement: Placement { distance, source, ..Placement::default() },
        ..change("10.1.0.0/16", &[1])
    };
    let paths = PathList::ordered([PathKey { source: u32::MAX - 1, ifindex: 9, gateway: None }]);
    rig.rib.changes(vec![with(Some(150))]);
    let told = rig.ask(move |table| table.route(&prefix).and_then(|route| route.list?.source()));
    assert_eq!(told, source);
    rig.fib.statics(vec![StaticRoute { prefix, paths, distance: 100 }]);
    assert_eq!(rig.way("10.1.0.0/16"), 9);
    rig.rib.changes(vec![with(Some(99))]);
    assert_eq!(rig.way("10.1.0.0/16"), 1);
    rig.rib.changes(vec![with(Some(255))]);
    assert_eq!(rig.way("10.1.0.0/16"), 9, "never used");
    rig.rib.changes(vec![with(None)]);
    assert_eq!(rig.way("10.1.0.0/16"), 1, "as an external route");
}

#[test]
fn a_path_that_keeps_failing_is_held_down_but_never_the_last_one() {
    let rig = Rig::new();
    let long = std::time::Duration::from_secs(3600);
    rig.fib.damping(Some(damping::Settings { failures: 2, within: long, hold: long, max: long }));
    rig.rib.changes(vec![change("10.1.0.0/16", &[1, 2]), change("10.2.0.0/16", &[1])]);
    let both = || (rig.way("10.1.0.0/16"), rig.way("10.2.0.0/16"));
    assert_eq!(both(), (1, 1));
    let peer: IpAddr = "169.254.1.1".parse().unwrap();
    let dead = vec![(Scope::Monitored(1), PathState::Dead)];
    let fault = || Fault::now(Cause::BfdDown, "test", dead.clone()).peer(peer).over(Some((1, "tun1".parse().unwrap())));
    let back = || {
        rig.fib.words(vec![(Scope::Monitored(1), PathState::Up)]);
        rig.fib.restored(Restored::Peer(peer));
    };
    let lines = || {
        rig.ask(|_| ());
        let log = rig.fib.log().lock().unwrap();
        let line =
            |fault: &crate::failover::Fault| (fault.held_until_unix_us.is_some(), fault.restored_at_unix_us.is_some());
        log.faults().map(line).collect::<Vec<_>>()
    };

    rig.fib.fault(fault());
    assert_eq!(both(), (2, 0));
    back();
    assert_eq!(both(), (1, 1), "one failure is none too many");
    rig.fib.fault(fault());
    back();
    assert_eq!(both(), (2, 1), "used only where nothing else is left");
    assert_eq!(lines(), [(false, true), (true, false)]);
    rig.fib.words(vec![(Scope::Tunnel(2), PathState::Dead)]);
    assert_eq!(both(), (1, 1));
    rig.fib.words(vec![(Scope::Tunnel(2), PathState::Up)]);
    assert_eq!(both(), (2, 1));
    // It fails again although nothing went over it: that is another line.
    rig.fib.fault(fault());
    back();
    assert_eq!(lines().len(), 3);

    let (tell, told) = mpsc::channel();
    rig.fib.release(Some("tun1".parse().unwrap()), move |count| tell.send(count).unwrap());
    assert_eq!(told.recv().unwrap(), 1);
    assert_eq!(both(), (1, 1));
    assert_eq!(lines(), [(false, true), (true, true), (true, true)]);
    assert!(rig.fib.log().lock().unwrap().held_paths().is_empty());
}

#[test]
fn a_hold_ends_by_itself() {
    let rig = Rig::new();
    let second = std::time::Duration::from_secs(1);
    let brief = std::time::Duration::from_millis(1);
    rig.fib.damping(Some(damping::Settings { failures: 1, within: second, hold: brief, max: second }));
    rig.rib.changes(vec![change("10.1.0.0/16", &[1, 2])]);
    rig.fib.fault(Fault::now(Cause::LinkDown, "test", vec![(Scope::Monitored(1), PathState::Dead)]));
    rig.fib.words(vec![(Scope::Monitored(1), PathState::Up)]);
    rig.ask(|_| ());
    assert_eq!(rig.fib.log().lock().unwrap().holds(), 1);
    while rig.way("10.1.0.0/16") != 1 {
        std::thread::yield_now();
    }
    assert!(rig.fib.log().lock().unwrap().held_paths().is_empty());
}
