//! What policy says of routes on their way into the kernel.

use super::*;
use crate::policy::{Match, PrefixList, PrefixRule};

fn placed(bench: &mut Bench) -> Vec<(String, bool, Placement)> {
    let mut changes = Vec::new();
    while bench.rib.poll_changes(1, &mut changes) {}
    let mut all: Vec<_> =
        changes.into_iter().map(|it| (it.prefix.to_string(), it.best.is_some(), it.placement)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn what_import_policy_sets_goes_along() {
    let mut bench = Bench::new();
    let mut config = peer_config(A);
    let sets = vec![Set::Table(100), Set::Distance(30), Set::Source("192.0.2.77".parse().unwrap())];
    config.families[V4 as usize].import = policy(sets);
    bench.rib.configure_peer(A, config);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    let all = Placement { table: Some(100), distance: Some(30), source: "192.0.2.77".parse().ok() };
    assert_eq!(placed(&mut bench), [("10.0.0.0/8".into(), true, all)]);
    bench.rib.configure_peer(A, peer_config(A));
    bench.settle();
    assert_eq!(placed(&mut bench), [("10.0.0.0/8".into(), true, Placement::default())]);
}

#[test]
fn the_map_of_the_protocol_filters_and_sets_after_the_table_map() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "10.1.0.0/16"]));
    placed(&mut bench);
    let rule = PrefixRule { sequence: 5, action: Action::Permit, prefix: prefix("10.0.0.0/8"), ge: None, le: None };
    let list = Arc::new(PrefixList::new("l", vec![rule]));
    let clause = Clause {
        sequence: 10,
        action: Action::Permit,
        matches: vec![Match::Prefix(V4, list)],
        sets: vec![Set::Source("192.0.2.77".parse().unwrap())],
        call: None,
        on_match: OnMatch::Stop,
    };
    bench.rib.set_protocol_map(V4, Policy::of_map(Some(Arc::new(RouteMap::new("m", vec![clause])))));
    let source = Placement { source: "192.0.2.77".parse().ok(), ..Placement::default() };
    let denied = ("10.1.0.0/16".to_owned(), false, Placement::default());
    assert_eq!(placed(&mut bench), [("10.0.0.0/8".into(), true, source), denied.clone()]);
    bench.rib.set_table_map(V4, policy(vec![Set::Table(7)]));
    let both = Placement { table: Some(7), ..source };
    assert_eq!(placed(&mut bench), [("10.0.0.0/8".into(), true, both), denied]);
    bench.rib.set_protocol_map(V4, Policy::default());
    assert!(placed(&mut bench).iter().all(|(_, kept, placement)| *kept && placement.source.is_none()));
}
