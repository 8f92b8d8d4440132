//! The table by itself: routes of our own, lookups, work by the piece.

use super::*;

#[test]
fn our_own_routes_win_and_are_announced() {
    let mut bench = Bench::new();
    bench.rib.originate(bench.now, LocalSource::Network, prefix("10.0.0.0/8"), LocalRoute::default());
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    assert_eq!(bench.chosen(), (Some(Source::Local(LocalSource::Network)), from(A)));
    assert_eq!(bench.told(A), ["+10.0.0.0/8"]);
    bench.rib.retract(LocalSource::Network, &prefix("10.0.0.0/8"));
    assert_eq!(bench.chosen(), (from(A), None));
    assert_eq!(bench.told(A), ["-10.0.0.0/8"]);
    assert_eq!(bench.rib.poll_next_hop(), None, "no next hop of ours is to be resolved");
}

#[test]
fn lookups_find_the_longest_match_and_walks_go_in_order() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.2.0.0/16", "10.0.0.0/8", "10.0.0.0/9", "192.168.0.0/24", "0.0.0.0/0"]));
    let found = bench.rib.longest_match(bench.now, Ipv4Addr::new(10, 2, 3, 4).into()).unwrap();
    assert_eq!(found.prefix, prefix("10.2.0.0/16"));
    let found = bench.rib.longest_match(bench.now, Ipv4Addr::new(172, 16, 0, 1).into()).unwrap();
    assert_eq!(found.prefix, Prefix::DEFAULT_V4);
    let walked: Vec<_> = bench.rib.walk(&prefix("10.0.0.0/8")).map(|p| p.to_string()).collect();
    assert_eq!(walked, ["10.0.0.0/8", "10.0.0.0/9", "10.2.0.0/16"]);
    assert_eq!(bench.rib.walk_received(A, V4).count(), 5);
    bench.told(B);
    assert_eq!(bench.rib.walk_advertised(B, V4).count(), 5);
    let sent = bench.rib.advertised(B, &prefix("10.0.0.0/8")).unwrap();
    assert_eq!(sent.attributes.as_path.to_string(), "65001 65101");
}

#[test]
fn work_is_done_by_the_piece() {
    let mut bench = Bench::new();
    let prefixes: Vec<_> = (0..100).map(|n| format!("10.{n}.0.0/16")).collect();
    let prefixes: Vec<_> = prefixes.iter().map(String::as_str).collect();
    bench.hear(A, announce(A, 1, &prefixes));
    bench.changes();
    bench.rib.peer_down(bench.now, A, Departure::Withdraw);
    assert!(bench.rib.work(bench.now, 10));
    assert_eq!(bench.changes().len(), 10);
    assert_eq!(bench.rib.poll_event(), None, "not done yet");
    bench.settle();
    assert_eq!(bench.changes().len(), 90);
}
