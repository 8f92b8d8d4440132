//! Origin validation moves what payloads cover, and nothing else (RFC 6811).

use super::*;
use crate::{
    policy::Match,
    validation::{Roa, RoaChanges, ValidationState},
};

fn roa(text: &str, asn: u32) -> Roa {
    Roa::new(prefix(text), 32, asn.try_into().ok()).unwrap()
}

fn announced(roas: &[Roa]) -> RoaChanges {
    RoaChanges { announced: roas.to_vec(), withdrawn: Vec::new() }
}

/// A route-map that denies what is invalid.
fn no_invalid() -> Policy {
    let clause = |sequence, action, matches| Clause {
        sequence,
        action,
        matches,
        sets: vec![],
        call: None,
        on_match: OnMatch::Stop,
    };
    let clauses =
        vec![clause(10, Action::Deny, vec![Match::Rpki(ValidationState::Invalid)]), clause(20, Action::Permit, vec![])];
    Policy { route_map: Some(Arc::new(RouteMap::new("no-invalid", clauses))), ..Policy::default() }
}

#[test]
fn payloads_that_change_move_what_they_cover_and_nothing_else() {
    let mut bench = Bench::new();
    let mut judged = peer_config(A);
    judged.families[V4 as usize].import = no_invalid();
    assert!(bench.rib.configure_peer(A, judged));
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "11.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    assert_eq!(bench.chosen(), (Some(Source::Peer(A)), Some(Source::Peer(B))));
    bench.changes();

    // Only B's origin (the last AS of its path, 64001) may have 10.0.0.0/8.
    bench.rib.change_roas(&announced(&[roa("10.0.0.0/8", 64001)]));
    bench.settle();
    assert_eq!(bench.chosen(), (Some(Source::Peer(B)), None));
    let states = |bench: &Bench| {
        let route = bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap();
        let state = |path: &PathView| bench.rib.validation(&route.prefix, &path.received);
        route.paths.iter().map(|path| (path.source, state(path).unwrap())).collect::<Vec<_>>()
    };
    assert!(states(&bench).contains(&(Source::Peer(A), ValidationState::Invalid)));
    assert!(states(&bench).contains(&(Source::Peer(B), ValidationState::Valid)));
    let touched: Vec<String> = bench.changes().into_iter().map(|(prefix, ..)| prefix).collect();
    assert_eq!(touched, ["10.0.0.0/8"], "11.0.0.0/8 is covered by nothing");

    // Said again, nothing happens; taken back, A is in again.
    bench.rib.change_roas(&announced(&[roa("10.0.0.0/8", 64001)]));
    assert!(!bench.rib.has_work());
    bench.rib.change_roas(&RoaChanges { withdrawn: vec![roa("10.0.0.0/8", 64001)], ..RoaChanges::default() });
    bench.settle();
    assert_eq!(bench.chosen(), (Some(Source::Peer(A)), Some(Source::Peer(B))));
    assert_eq!(
        bench.rib.validation(
            &prefix("10.0.0.0/8"),
            &bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap().paths[0].received
        ),
        None
    );
}

#[test]
fn what_is_announced_follows_payloads_too() {
    let mut bench = Bench::new();
    let mut judged = peer_config(C);
    judged.families[V4 as usize].export = no_invalid();
    assert!(bench.rib.configure_peer(C, judged));
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    assert_eq!(bench.told(C), ["+10.0.0.0/8"]);
    assert_eq!(bench.told(B), ["+10.0.0.0/8"]);
    bench.rib.change_roas(&announced(&[roa("10.0.0.0/8", 64001)]));
    bench.settle();
    assert_eq!(bench.told(C), ["-10.0.0.0/8"]);
    assert!(bench.told(B).is_empty(), "its policy does not ask");
}

#[test]
fn without_a_policy_that_asks_payloads_cost_no_pass() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.rib.change_roas(&announced(&[roa("10.0.0.0/8", 1)]));
    assert!(!bench.rib.has_work());
}
