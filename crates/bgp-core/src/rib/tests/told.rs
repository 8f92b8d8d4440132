//! What neighbors are told, in which order, and what is not said twice.

use super::*;

#[test]
fn peers_hear_of_the_best_path_but_its_source_hears_nothing() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    assert_eq!(bench.told(A), Vec::<String>::new());
    assert_eq!(bench.told(B), ["+10.0.0.0/8"]);
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    assert_eq!(bench.told(A), Vec::<String>::new(), "the best is still its own");
    bench.hear(A, withdraw(&["10.0.0.0/8"]));
    assert_eq!(bench.told(A), ["+10.0.0.0/8"]);
    assert_eq!(bench.told(B), ["-10.0.0.0/8"]);
    assert_eq!(bench.told(C), ["+10.0.0.0/8"]);
}

#[test]
fn changes_for_a_slow_peer_collapse() {
    let mut bench = Bench::new();
    for hops in 1..50 {
        bench.hear(A, announce(A, hops, &["10.0.0.0/8"]));
    }
    assert_eq!(bench.told(B), ["+10.0.0.0/8"]);
    bench.hear(A, withdraw(&["10.0.0.0/8"]));
    bench.hear(A, announce(A, 1, &["10.1.0.0/16"]));
    bench.hear(A, withdraw(&["10.1.0.0/16"]));
    assert_eq!(bench.told(B), ["-10.0.0.0/8"], "what it never heard of is not withdrawn");
    bench.told(C);
    bench.changes();
    assert_eq!(bench.remembered(), 0, "and then everything is forgotten");
}

#[test]
fn a_new_session_gets_everything_and_then_end_of_rib() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "10.1.0.0/16"]));
    bench.told(B);
    bench.rib.peer_down(bench.now, B, Departure::Withdraw);
    bench.rib.peer_up(bench.now, B, up(B));
    bench.settle();
    assert_eq!(bench.told(B), ["+10.0.0.0/8", "+10.1.0.0/16", "."]);
    bench.rib.route_refresh(B, V4);
    assert_eq!(bench.told(B), ["+10.0.0.0/8", "+10.1.0.0/16"]);
    assert_eq!(bench.rib.counters(Source::Peer(B), V4).unwrap().sent, 2);
}

#[test]
fn an_empty_table_owes_end_of_rib_all_the_same() {
    let mut bench = Bench::new();
    bench.rib.peer_down(bench.now, B, Departure::Withdraw);
    bench.rib.peer_up(bench.now, B, up(B));
    assert!(bench.rib.owes(B));
    assert_eq!(bench.told(B), ["."]);
    assert!(!bench.rib.owes(B));
}
