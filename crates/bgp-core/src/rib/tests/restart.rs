//! Paths that outlive their session: graceful restart, long-lived or not, theirs and ours (RFC 4724, RFC 9494).

use super::*;

/// What there is to hear at the end of a restart after which these have not spoken.
fn unclaimed(silent: &[PeerId]) -> RibEvent {
    RibEvent::Settled(Unclaimed { protected: vec![A, B, C], silent: silent.to_vec(), always: false })
}

#[test]
fn a_restarting_peers_paths_serve_until_end_of_rib_or_the_deadline() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "10.1.0.0/16"]));
    bench.hear(B, announce(B, 5, &["10.0.0.0/8"]));
    bench.changes();
    let until = bench.now + Duration::from_secs(120);
    bench.rib.peer_down(
        bench.now,
        A,
        Departure::Stale { until, families: FamilySet::from(V4), long_lived: Default::default() },
    );
    bench.settle();
    assert_eq!(bench.chosen(), (from(B), from(A)), "stale loses against fresh, whatever else");
    let mut changes = Vec::new();
    bench.rib.poll_changes(9, &mut changes);
    assert_eq!(changes.len(), 1, "10.1.0.0/16 keeps its only path: {changes:?}");
    assert!(changes[0].alternate.as_ref().unwrap().stale);
    assert_eq!(bench.rib.poll_timeout(), Some(until));

    bench.rib.peer_up(bench.now, A, up(A));
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    assert_eq!(bench.chosen(), (from(A), from(B)));
    bench.hear(A, end_of_rib());
    let last = bench.changes();
    assert!(last.contains(&("10.1.0.0/16".into(), None, None, false)), "{last:?}");
    assert_eq!(bench.rib.poll_timeout(), None);

    let until = bench.now + Duration::from_secs(120);
    bench.rib.peer_down(
        bench.now,
        A,
        Departure::Stale { until, families: FamilySet::from(V4), long_lived: Default::default() },
    );
    bench.pass(Duration::from_secs(119));
    assert_eq!(bench.chosen(), (from(B), from(A)));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.chosen(), (from(B), None));
}

#[test]
fn a_peer_that_lost_its_forwarding_state_is_not_waited_for() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    let until = bench.now + Duration::from_secs(120);
    bench.rib.peer_down(
        bench.now,
        A,
        Departure::Stale { until, families: FamilySet::from(V4), long_lived: Default::default() },
    );
    bench.settle();
    assert_eq!(bench.chosen(), (from(A), None));
    bench.changes();
    bench.rib.peer_up(bench.now, A, PeerUp { preserved: FamilySet::EMPTY, ..up(A) });
    bench.settle();
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), None, None, true)]);
}

#[test]
fn leftovers_of_a_peer_that_never_says_end_of_rib_go_after_a_while() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.rib.peer_down(bench.now, A, Departure::Withdraw);
    bench.rib.peer_up(bench.now, A, PeerUp { sends_end_of_rib: false, ..up(A) });
    bench.settle();
    bench.changes();
    bench.pass(Duration::from_secs(359));
    assert_eq!(bench.changes(), []);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), None, None, false)]);
}

#[test]
fn after_our_own_restart_nothing_is_said_before_the_peers_have_spoken() {
    let mut bench = Bench::new();
    let all = FamilySet::from(V4);
    bench.rib.defer(bench.now + Duration::from_secs(60), [(A, all), (B, all)]);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    assert!(bench.changes().is_empty() && bench.told(C).is_empty());
    bench.hear(A, end_of_rib());
    assert!(bench.rib.is_deferring());
    bench.hear(B, end_of_rib());
    assert_eq!(bench.rib.poll_event(), Some(unclaimed(&[])));
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), from(A), None, true)]);
    assert_eq!(bench.told(C), ["+10.0.0.0/8"]);

    // Who speaks before it is known who is waited for has spoken.
    bench.rib.hold(bench.now + Duration::from_secs(60));
    bench.hear(A, announce(A, 1, &["10.1.0.0/16"]));
    bench.hear(A, end_of_rib());
    assert!(bench.rib.is_deferring() && bench.changes().is_empty());
    bench.rib.defer(bench.now + Duration::from_secs(60), [(A, all), (B, all)]);
    assert!(bench.rib.is_deferring());
    bench.hear(B, end_of_rib());
    assert_eq!(bench.rib.poll_event(), Some(unclaimed(&[])));
    assert_eq!(bench.changes(), [("10.1.0.0/16".into(), from(A), None, true)]);

    bench.rib.defer(bench.now + Duration::from_secs(60), [(A, all)]);
    assert!(bench.rib.is_deferring());
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.rib.poll_event(), Some(unclaimed(&[A])), "and what it announced before is protected");
    assert!(!bench.rib.is_deferring(), "a peer that never comes is not waited for");
}

#[test]
fn sixty_five_thousand_sessions_later_old_paths_are_still_old() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    for _ in 0..=u16::MAX {
        bench.rib.peer_down(bench.now, A, Departure::Withdraw);
        bench.rib.peer_up(bench.now, A, up(A));
    }
    bench.settle();
    assert_eq!(bench.chosen(), (None, None), "never announced again, so never usable again");
    bench.hear(A, end_of_rib());
    assert_eq!(bench.remembered(), 1, "not yet told to the FIB");
    bench.changes();
    bench.told(B);
    bench.told(C);
    assert_eq!(bench.remembered(), 0);
}

#[test]
fn long_lived_stale_paths_are_the_last_resort_and_say_so() {
    let mut bench = Bench::new();
    let long_lived = Family::ALL.map(|family| Duration::from_secs(if family == V4 { 1000 } else { 0 }));
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    let mut never = announce(A, 1, &["10.9.0.0/16"]);
    never.reach.as_mut().unwrap().attributes.communities.push(bgp_wire::Community::NO_LLGR);
    bench.hear(A, never);
    let until = bench.now + Duration::from_secs(120);
    bench.rib.peer_down(bench.now, A, Departure::Stale { until, families: FamilySet::from(V4), long_lived });
    bench.settle();
    let path =
        |bench: &Bench, text: &str| bench.rib.route(bench.now, &prefix(text)).map(|route| route.paths[0].clone());
    let marked = |path: &PathView| {
        let attrs = path.effective.as_ref().unwrap();
        attrs.attributes.communities.contains(&bgp_wire::Community::LLGR_STALE)
    };
    let stale = path(&bench, "10.0.0.0/8").unwrap();
    assert!(stale.stale && stale.state == PathState::Best && !marked(&stale), "the restart time is not over");
    bench.pass(Duration::from_secs(120));
    let long = path(&bench, "10.0.0.0/8").unwrap();
    assert!(long.stale && long.state == PathState::Best && marked(&long), "RFC 9494 §4.2");
    assert_eq!(path(&bench, "10.9.0.0/16").unwrap().state, PathState::Ghost, "NO_LLGR: unused, and still protected");
    // Who does not speak it is not told, who does is.
    assert_eq!(bench.rib.advertised(B, &prefix("10.0.0.0/8")), None);
    let speaker = PeerUp { long_lived: FamilySet::from(V4), ..up(C) };
    bench.rib.peer_up(bench.now, C, speaker);
    bench.settle();
    while bench.rib.poll_out(C, 100).is_some() {}
    let told = bench.rib.advertised(C, &prefix("10.0.0.0/8")).expect("a speaker is told");
    assert!(told.attributes.communities.contains(&bgp_wire::Community::LLGR_STALE));
    // Anything fresher wins, and anything that somebody else marked does not count as fresher.
    let mut marked_by_b = announce(B, 1, &["10.0.0.0/8"]);
    marked_by_b.reach.as_mut().unwrap().attributes.communities.push(bgp_wire::Community::LLGR_STALE);
    bench.hear(B, marked_by_b);
    let mut longer = announce(C, 5, &["10.0.0.0/8"]);
    longer.reach.as_mut().unwrap().attributes.local_pref = None;
    bench.hear(C, longer);
    assert_eq!(path(&bench, "10.0.0.0/8").unwrap().source, Source::Peer(C));
    // In the end they go; the prefix stays protected, as after any loss.
    bench.hear(C, withdraw(&["10.0.0.0/8"]));
    bench.hear(B, withdraw(&["10.0.0.0/8"]));
    bench.pass(Duration::from_secs(1000));
    let gone = path(&bench, "10.0.0.0/8").unwrap();
    assert_eq!(gone.state, PathState::Ghost);
}

#[test]
fn routes_that_are_kept_are_marked_for_our_own_as_and_for_nobody_else() {
    let mut bench = Bench::new();
    let inside = PeerConfig::new(address(B), PeerKind::Internal, bench.rib.config().asn);
    bench.rib.configure_peer(B, inside);
    bench.rib.peer_up(bench.now, B, PeerUp { remote_as: bench.rib.config().asn, ..up(B) });
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.settle();
    let marked = |bench: &Bench, peer| {
        let told = bench.rib.advertised(peer, &prefix("10.0.0.0/8")).expect("it is told");
        told.attributes.communities.contains(&bgp_wire::Community::LLGR_STALE)
    };
    bench.told(B);
    bench.told(C);
    assert!(!marked(&bench, B) && !marked(&bench, C));

    let until = bench.now + Duration::from_secs(120);
    let stale = Departure::Stale { until, families: FamilySet::from(V4), long_lived: Default::default() };
    bench.rib.peer_down(bench.now, A, stale);
    bench.settle();
    assert_eq!(bench.told(B), ["+10.0.0.0/8"], "it is told again");
    assert!(bench.told(C).is_empty(), "nothing has changed for who is outside");
    assert!(marked(&bench, B) && !marked(&bench, C));
    // What another router of ours marked so is no better than our own.
    let mut theirs = announce(B, 1, &["10.0.0.0/8"]);
    theirs.reach.as_mut().unwrap().attributes.communities.push(bgp_wire::Community::LLGR_STALE);
    theirs.reach.as_mut().unwrap().attributes.local_pref = Some(100);
    bench.hear(B, theirs);
    bench.settle();
    let route = bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap();
    let best = route.paths.iter().find(|path| path.state == PathState::Best).unwrap();
    assert_eq!(best.source, Source::Peer(A));

    bench.rib.peer_up(bench.now, A, PeerUp { preserved: FamilySet::from(V4), sends_end_of_rib: true, ..up(A) });
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(A, end_of_rib());
    bench.settle();
    assert_eq!(bench.told(B), ["+10.0.0.0/8"], "it is fresh again");
    assert!(!marked(&bench, B));
}

#[test]
fn what_an_internal_peer_would_send_back_is_not_kept_while_it_restarts() {
    let mut bench = Bench::new();
    let inside = PeerConfig::new(address(B), PeerKind::Internal, bench.rib.config().asn);
    bench.rib.configure_peer(B, inside);
    bench.rib.peer_up(bench.now, B, PeerUp { negotiated: Negotiated::base(PeerKind::Internal), ..up(B) });
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(A, announce(A, 2, &["10.1.0.0/16"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8", "10.1.0.0/16"]));
    let until = bench.now + Duration::from_secs(120);
    let stale = Departure::Stale { until, families: FamilySet::from(V4), long_lived: Default::default() };
    bench.rib.peer_down(bench.now, B, stale);
    bench.settle();
    bench.rib.peer_down(bench.now, A, Departure::Withdraw);
    bench.settle();
    // It preferred our shorter way to the one, and its own to the other; it does not know that ours are gone.
    let usable = |text| bench.rib.route(bench.now, &prefix(text)).unwrap().paths[0].state;
    assert_eq!((usable("10.0.0.0/8"), usable("10.1.0.0/16")), (PathState::Ghost, PathState::Best));
}

#[test]
fn what_is_protected_from_withdrawals_is_so_from_those_by_silence() {
    let mut bench = Bench::new();
    let mut config = PeerConfig::new(address(A), PeerKind::External, bench.rib.config().asn);
    config.protection = Protection::Always;
    bench.rib.configure_peer(A, config);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.changes();
    let until = bench.now + Duration::from_secs(120);
    let stale = Departure::Stale { until, families: FamilySet::from(V4), long_lived: Default::default() };
    bench.rib.peer_down(bench.now, A, stale);
    bench.rib.peer_up(bench.now, A, PeerUp { preserved: FamilySet::from(V4), sends_end_of_rib: true, ..up(A) });
    bench.hear(A, end_of_rib());
    bench.settle();
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), None, None, true)], "not announced again, and dropped");
    bench.rib.clear_leftovers(A);
    bench.settle();
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), None, None, false)], "until an operator says otherwise");
}
