//! Best path and alternate, and what becomes of a prefix that has lost both.

use super::*;

#[test]
fn best_and_alternate_reach_the_fib_together() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), from(A), from(B), true)]);
    bench.hear(A, announce(A, 3, &["10.0.0.0/8"]));
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), from(B), from(A), true)]);
    bench.hear(A, announce(A, 3, &["10.0.0.0/8"]));
    assert_eq!(bench.changes(), [], "said again, nothing new");
}

#[test]
fn an_alternate_whose_router_prefers_our_path_sends_packets_back() {
    let mut bench = Bench::new();
    let inside = PeerConfig::new(address(B), PeerKind::Internal, bench.rib.config().asn);
    bench.rib.configure_peer(B, inside);
    bench.rib.peer_up(bench.now, B, PeerUp { negotiated: Negotiated::base(PeerKind::Internal), ..up(B) });
    let mut comes_back = |preference, hops| {
        let mut theirs = announce(B, 2, &["10.0.0.0/8"]);
        theirs.reach.as_mut().unwrap().attributes.local_pref = Some(preference);
        bench.hear(B, theirs);
        bench.hear(A, announce(A, hops, &["10.0.0.0/8"]));
        let mut changes = Vec::new();
        while bench.rib.poll_changes(1, &mut changes) {}
        let change = changes.pop().unwrap();
        (change.best.map(|path| path.source), change.alternate.map(|path| path.sent_back))
    };
    let [a, b] = [A, B].map(Source::Peer);
    assert_eq!(comes_back(100, 1), (Some(a), Some(true)), "ours is shorter for either of us");
    assert_eq!(comes_back(100, 2), (Some(a), Some(false)), "each prefers what is external to itself");
    assert_eq!(comes_back(90, 3), (Some(a), Some(true)));
    assert_eq!(comes_back(110, 1), (Some(b), Some(false)), "they prefer their own, and so do we");
}

#[test]
fn a_withdrawal_by_a_living_peer_removes_the_route_and_a_death_protects_it() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "10.1.0.0/16"]));
    bench.changes();
    bench.hear(A, withdraw(&["10.1.0.0/16"]));
    assert_eq!(bench.changes(), [("10.1.0.0/16".into(), None, None, false)]);
    bench.rib.peer_down(bench.now, A, Departure::Withdraw);
    bench.settle();
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), None, None, true)]);
    assert_eq!(bench.remembered(), 1, "the ghost is remembered");
    assert_eq!(bench.rib.poll_event(), Some(RibEvent::Departed { peer: A, family: V4 }));
}

#[test]
fn protection_ends_when_the_peer_is_back_and_has_said_all_it_has() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "10.1.0.0/16"]));
    bench.rib.peer_down(bench.now, A, Departure::Withdraw);
    bench.settle();
    bench.changes();
    bench.rib.peer_up(bench.now, A, up(A));
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), from(A), None, true)]);
    bench.hear(A, end_of_rib());
    assert_eq!(bench.changes(), [("10.1.0.0/16".into(), None, None, false)]);
    assert_eq!(bench.remembered(), 1);
}

#[test]
fn protection_ends_by_clear_and_by_configuration() {
    for clear in [true, false] {
        let mut bench = Bench::new();
        bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
        bench.rib.peer_down(bench.now, A, Departure::Withdraw);
        bench.settle();
        bench.changes();
        if clear {
            bench.rib.clear_leftovers(A);
        } else {
            bench.rib.remove_peer(bench.now, A);
        }
        bench.settle();
        assert_eq!(bench.changes(), [("10.0.0.0/8".into(), None, None, false)]);
        assert_eq!((bench.remembered(), bench.rib.attribute_count()), (0, 0));
    }
}

#[test]
fn with_fail_closed_withdrawn_even_a_withdrawal_protects() {
    let mut bench = Bench::new();
    bench.rib.configure_peer(A, PeerConfig { protection: Protection::Always, ..peer_config(A) });
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(A, withdraw(&["10.0.0.0/8"]));
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), None, None, true)]);
    bench.hear(A, end_of_rib());
    assert_eq!(bench.changes(), [], "an End-of-RIB does not take back what was withdrawn");
    bench.rib.configure_peer(A, peer_config(A));
    bench.settle();
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), None, None, false)]);
}
