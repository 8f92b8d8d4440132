//! Best path and alternate, and what becomes of a prefix that has lost both.

use bgp_wire::{Community, ExtCommunity};

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
fn an_alternate_of_our_as_may_send_packets_back_for_the_sake_of_our_path() {
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
    assert_eq!(comes_back(100, 2), (Some(a), Some(true)), "each prefers its own, and may doubt it");
    assert_eq!(comes_back(90, 3), (Some(a), Some(true)));
    assert_eq!(comes_back(110, 1), (Some(b), Some(false)), "they prefer their own, and so do we");
    bench.hear(C, announce(C, 1, &["10.0.0.0/8"]));
    bench.hear(B, withdraw(&["10.0.0.0/8"]));
    bench.hear(A, announce(A, 2, &["10.0.0.0/8"]));
    let mut changes = Vec::new();
    while bench.rib.poll_changes(1, &mut changes) {}
    let last = changes.pop().unwrap();
    let alternate = last.alternate.map(|path| (path.source, path.sent_back));
    assert_eq!((last.best.map(|path| path.source), alternate), (Some(Source::Peer(C)), Some((a, false))));
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

fn knows_marks() -> PeerUp {
    let negotiated = Negotiated { tunnel_marks: true, ..Negotiated::base(PeerKind::Internal) };
    PeerUp { negotiated, ..up(B) }
}

/// Where B is an internal peer that has no tunnel to us.
fn with_b_inside() -> Bench {
    let mut bench = Bench::new();
    let inside = PeerConfig::new(address(B), PeerKind::Internal, bench.rib.config().asn);
    bench.rib.configure_peer(B, PeerConfig { protection: Protection::AsTold, ..inside });
    bench.rib.peer_up(bench.now, B, knows_marks());
    bench.told(B);
    bench
}

#[test]
fn internal_peers_are_told_what_came_through_a_tunnel_and_that_it_is_lost() {
    let mut bench = with_b_inside();
    let told = |bench: &mut Bench, peer| {
        bench.told(peer);
        bench.rib.advertised(peer, &prefix("10.0.0.0/8")).map(|attrs| attrs.attributes)
    };
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    assert_eq!(told(&mut bench, B).unwrap().ext_communities, [ExtCommunity::THROUGH_TUNNEL]);
    assert_eq!(told(&mut bench, C).unwrap().ext_communities, [], "nobody else");
    bench.rib.peer_down(bench.now, A, Departure::Withdraw);
    bench.settle();
    let lost = told(&mut bench, B).unwrap();
    assert_eq!(lost.ext_communities, [ExtCommunity::TUNNEL_LOST]);
    assert_eq!((lost.local_pref, lost.communities), (Some(0), vec![Community::NO_EXPORT]));
    assert_eq!(told(&mut bench, C), None);
    // One that comes to the AS later hears of it as well.
    bench.rib.peer_down(bench.now, B, Departure::Withdraw);
    bench.rib.peer_up(bench.now, B, knows_marks());
    bench.settle();
    assert_eq!(bench.told(B), ["+10.0.0.0/8", "."]);
    bench.rib.peer_up(bench.now, A, up(A));
    bench.hear(A, end_of_rib());
    assert_eq!(bench.told(B), ["-10.0.0.0/8"], "its neighbor takes it back");
    assert_eq!((bench.changes().last().unwrap().3, bench.remembered()), (false, 0));
}

#[test]
fn who_would_take_what_is_lost_for_a_route_is_told_that_it_is_gone() {
    let mut bench = with_b_inside();
    bench.rib.peer_down(bench.now, B, Departure::Withdraw);
    bench.rib.peer_up(bench.now, B, PeerUp { negotiated: Negotiated::base(PeerKind::Internal), ..up(B) });
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    assert_eq!(bench.told(B), ["+10.0.0.0/8", "."]);
    bench.rib.peer_down(bench.now, A, Departure::Withdraw);
    bench.settle();
    assert_eq!(bench.told(B), ["-10.0.0.0/8"], "it may have another way, by another protocol");
    assert!(bench.changes().last().unwrap().3, "here it stays closed");
}

#[test]
fn one_who_is_told_several_paths_hears_of_the_loss_as_well() {
    let mut bench = with_b_inside();
    bench.rib.peer_down(bench.now, B, Departure::Withdraw);
    let mut config = PeerConfig::new(address(B), PeerKind::Internal, bench.rib.config().asn);
    config.families[V4 as usize].add_path = Some(AddPaths::All);
    bench.rib.configure_peer(B, config);
    let known = knows_marks();
    let negotiated = Negotiated { add_path_out: V4.into(), ..known.negotiated };
    bench.rib.peer_up(bench.now, B, PeerUp { negotiated, ..known });
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(C, announce(C, 1, &["10.0.0.0/8"]));
    let told = |bench: &mut Bench| {
        let (mut marks, mut withdrawn) = (Vec::new(), 0);
        while let Some(batch) = bench.rib.poll_out(B, 10) {
            withdrawn += batch.withdrawn.len();
            marks.extend(batch.announced.iter().flat_map(|group| group.attrs.attributes.ext_communities.clone()));
        }
        (marks, withdrawn)
    };
    assert_eq!(told(&mut bench), (vec![ExtCommunity::THROUGH_TUNNEL; 2], 0));
    bench.rib.peer_down(bench.now, C, Departure::Withdraw);
    bench.settle();
    assert_eq!(told(&mut bench).1, 1);
    bench.rib.peer_down(bench.now, A, Departure::Withdraw);
    bench.settle();
    let (marks, withdrawn) = told(&mut bench);
    // One of the two that are lost stands for both.
    assert_eq!(marks, [ExtCommunity::TUNNEL_LOST]);
    assert!(withdrawn <= 1);
    bench.rib.clear_leftovers(A);
    bench.rib.clear_leftovers(C);
    bench.settle();
    assert_eq!(told(&mut bench), (vec![], 1));
}

#[test]
fn what_an_internal_peer_had_from_a_tunnel_is_protected_when_it_dies_and_no_more_than_that() {
    let marked = |mark: ExtCommunity, prefix: &str| {
        let mut update = announce(B, 1, &[prefix]);
        let attributes = &mut update.reach.as_mut().unwrap().attributes;
        (attributes.local_pref, attributes.ext_communities) = (Some(100), vec![mark]);
        update
    };
    for departure in [
        Departure::Withdraw,
        Departure::Stale {
            until: Instant::now() + Duration::from_secs(3600),
            families: FamilySet::from(V4),
            long_lived: Default::default(),
        },
    ] {
        let mut bench = with_b_inside();
        bench.hear(B, marked(ExtCommunity::THROUGH_TUNNEL, "10.0.0.0/8"));
        bench.hear(B, announce(B, 1, &["10.1.0.0/16"]));
        bench.hear(B, marked(ExtCommunity::TUNNEL_LOST, "10.2.0.0/16"));
        let closed = ("10.2.0.0/16".to_owned(), None, None, true);
        let usable = |text: &str, protect| (text.to_owned(), from(B), None, protect);
        assert_eq!(bench.changes(), [usable("10.0.0.0/8", true), usable("10.1.0.0/16", false), closed]);
        assert_eq!(bench.rib.route(bench.now, &prefix("10.2.0.0/16")).unwrap().paths[0].state, PathState::Ghost);
        bench.rib.peer_down(bench.now, B, departure);
        bench.rib.peer_down(bench.now, B, Departure::Withdraw);
        bench.settle();
        let after: Vec<_> =
            bench.changes().into_iter().map(|(prefix, best, _, protect)| (prefix, best, protect)).collect();
        assert_eq!(after, [("10.0.0.0/8".into(), None, true), ("10.1.0.0/16".into(), None, false)]);
        bench.rib.peer_up(bench.now, B, knows_marks());
        bench.hear(B, end_of_rib());
        assert!(bench.changes().iter().all(|(_, best, _, protect)| best.is_none() && !protect), "it has none of it");
        assert_eq!(bench.remembered(), 0);
    }
}

#[test]
fn what_others_say_of_tunnels_is_of_no_interest() {
    let mut bench = with_b_inside();
    let mut lost = announce(A, 1, &["10.0.0.0/8"]);
    lost.reach.as_mut().unwrap().attributes.ext_communities = vec![ExtCommunity::TUNNEL_LOST];
    bench.hear(A, lost);
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), from(A), None, true)]);
    bench.told(B);
    let told = bench.rib.advertised(B, &prefix("10.0.0.0/8")).unwrap();
    assert_eq!(told.attributes.ext_communities, [ExtCommunity::THROUGH_TUNNEL]);
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
