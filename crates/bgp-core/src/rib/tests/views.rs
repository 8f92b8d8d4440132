//! What clients of a route server are told in the place of a best path that is not for them; and internal peers, of one that
//! is internal. `tests/rib_views.rs` has the same against a model.

use super::*;
use crate::policy::Match;

/// Makes `peers` clients that are told together, and never of paths that begin with the AS of `denied`.
fn serve(bench: &mut Bench, peers: &[PeerId], denied: Option<PeerId>) {
    let clause = |sequence, action, matches| Clause {
        sequence,
        action,
        matches,
        sets: vec![],
        call: None,
        on_match: OnMatch::Stop,
    };
    let first = |peer: PeerId| Match::AsPathContains(Asn::try_from(65100 + peer.0).unwrap());
    let mut clauses: Vec<Clause> = denied.map(|peer| clause(5, Action::Deny, vec![first(peer)])).into_iter().collect();
    clauses.push(clause(10, Action::Permit, vec![]));
    let export = Policy::of_map(Some(Arc::new(RouteMap::new("clients", clauses))));
    for peer in peers {
        let mut config = peer_config(*peer);
        let family = &mut config.families[V4 as usize];
        family.export = export.clone();
        (family.rules.unchanged, family.rules.own_view) = (Unchanged::TRANSPARENT, true);
        bench.rib.configure_peer(*peer, config);
    }
    bench.settle();
    while peers.iter().any(|peer| !bench.told(*peer).is_empty()) {}
}

/// The AS of whom the path of 10.0.0.0/8 comes from that `peer` has.
fn has(bench: &Bench, peer: PeerId) -> Option<u32> {
    let route = bench.rib.advertised(peer, &prefix("10.0.0.0/8"))?;
    route.attributes.as_path.first().map(Asn::get)
}

#[test]
fn a_client_is_told_of_the_next_path_where_the_best_is_its_own_or_is_denied() {
    let mut bench = Bench::new();
    serve(&mut bench, &[A, B, C], None);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    assert_eq!((bench.told(A), bench.told(B)), (vec![], vec!["+10.0.0.0/8".into()]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    assert_eq!(bench.told(A), ["+10.0.0.0/8"], "all but its own");
    assert_eq!((bench.told(B), bench.told(C)), (vec![], vec!["+10.0.0.0/8".to_owned()]));
    assert_eq!([A, B, C].map(|peer| has(&bench, peer)), [Some(65102), Some(65101), Some(65101)]);
    assert_eq!(bench.rib.groups().len(), 1, "told together all the same");

    serve(&mut bench, &[A, B, C], Some(A));
    assert_eq!([A, B, C].map(|peer| has(&bench, peer)), [Some(65102), None, Some(65102)]);
    bench.hear(B, withdraw(&["10.0.0.0/8"]));
    assert_eq!(
        [A, B, C].map(|peer| bench.told(peer)),
        [vec!["-10.0.0.0/8".to_owned()], vec![], vec!["-10.0.0.0/8".into()]]
    );
    serve(&mut bench, &[A, B, C], None);
    assert_eq!([A, B, C].map(|peer| has(&bench, peer)), [None, Some(65101), Some(65101)]);
}

#[test]
fn a_change_behind_the_path_that_was_told_is_no_news() {
    let mut bench = Bench::new();
    serve(&mut bench, &[A, B, C], None);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    for peer in [A, B, C] {
        bench.told(peer);
    }
    bench.hear(B, announce(B, 3, &["10.0.0.0/8"]));
    assert_eq!([A, B, C].map(|peer| bench.told(peer)), [vec!["+10.0.0.0/8".to_owned()], vec![], vec![]]);
    bench.hear(C, announce(C, 4, &["10.0.0.0/8"]));
    assert_eq!(
        [B, C].map(|peer| bench.told(peer)),
        [[], []] as [[&str; 0]; 2],
        "the source of the best may hear again"
    );
}

#[test]
fn a_client_that_comes_back_while_its_stale_path_is_used_is_told_of_the_next() {
    let mut bench = Bench::new();
    serve(&mut bench, &[A, B, C], None);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    for peer in [A, B] {
        let until = bench.now + Duration::from_secs(60);
        let long_lived = [Duration::ZERO; Family::COUNT];
        bench.rib.peer_down(bench.now, peer, Departure::Stale { until, families: V4.into(), long_lived });
        bench.settle();
        bench.told(C);
    }
    bench.rib.peer_up(bench.now, A, up(A));
    bench.settle();
    assert_eq!(has(&bench, C), Some(65101), "the stale path of who is back is the best still");
    assert!(bench.told(A).contains(&"+10.0.0.0/8".to_owned()));
    assert_eq!(has(&bench, A), Some(65102));
}

#[test]
fn without_a_view_of_its_own_a_denied_best_path_hides_all_others() {
    let mut bench = Bench::new();
    serve(&mut bench, &[C], Some(A));
    let mut config = bench.rib.shared.peer(bench.rib.slot(C).unwrap()).config.clone();
    config.families[V4 as usize].rules.own_view = false;
    bench.rib.configure_peer(C, config);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    assert!(bench.told(C).is_empty());
}
