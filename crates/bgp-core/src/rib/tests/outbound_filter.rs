//! Peers that ask us to keep routes back get what they asked for (RFC 5291, RFC 5292).

use bgp_wire::{FilterChange, PrefixFilter, PrefixFilters};

use super::*;

fn line(sequence: u32, permit: bool, text: &str, max: u8) -> FilterChange {
    FilterChange::Add(PrefixFilter { sequence, permit, min: 0, max, prefix: prefix(text) })
}

/// What C was told, in order of prefix: which comes first is nobody's concern.
fn told(bench: &mut Bench) -> Vec<String> {
    let mut told = bench.told(C);
    told.sort_by_key(|said| said[1..].to_owned());
    told
}

fn filters(immediate: bool, changes: &[FilterChange]) -> PrefixFilters {
    PrefixFilters { immediate, changes: changes.to_vec(), malformed: false }
}

/// C sends filters; A has announced three routes.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.rib.peer_down(bench.now, C, Departure::Withdraw);
    bench.rib.peer_up(bench.now, C, PeerUp { awaits_filters: FamilySet::from(V4), ..up(C) });
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "10.1.0.0/16", "20.0.0.0/8"]));
    bench
}

fn ask(bench: &mut Bench, immediate: bool, changes: &[FilterChange]) {
    bench.rib.filtered_refresh(C, V4, Some(&filters(immediate, changes)));
    bench.settle();
}

#[test]
fn routes_wait_for_the_first_request_and_end_of_rib_comes_behind_them() {
    let mut bench = bench();
    assert_eq!(told(&mut bench), Vec::<String>::new());
    assert_eq!(bench.told(B).len(), 3, "others do not wait");
    ask(&mut bench, false, &[line(5, true, "10.0.0.0/8", 32)]);
    assert_eq!(told(&mut bench), Vec::<String>::new(), "deferred");
    ask(&mut bench, true, &[]);
    assert_eq!(told(&mut bench), [".", "+10.0.0.0/8", "+10.1.0.0/16"]);
    assert_eq!(bench.rib.outbound_filter(C, V4).len(), 1);
}

#[test]
fn a_filter_that_changes_takes_back_what_it_denies() {
    let mut bench = bench();
    ask(&mut bench, true, &[]);
    assert_eq!(told(&mut bench), [".", "+10.0.0.0/8", "+10.1.0.0/16", "+20.0.0.0/8"]);
    ask(&mut bench, true, &[line(5, false, "10.1.0.0/16", 0), line(10, true, "0.0.0.0/0", 32)]);
    assert_eq!(told(&mut bench), ["+10.0.0.0/8", "-10.1.0.0/16", "+20.0.0.0/8"], "and tells the rest again, as asked");
    bench.hear(A, announce(A, 1, &["10.2.0.0/16"]));
    bench.hear(A, announce(A, 2, &["10.1.0.0/16"]));
    assert_eq!(told(&mut bench), ["+10.2.0.0/16"], "what comes later is filtered as well");
    let gone = PrefixFilter { sequence: 5, permit: false, min: 0, max: 0, prefix: prefix("10.1.0.0/16") };
    ask(&mut bench, true, &[FilterChange::Remove(gone)]);
    let all = ["+10.0.0.0/8", "+10.1.0.0/16", "+10.2.0.0/16", "+20.0.0.0/8"];
    assert_eq!(told(&mut bench), all);
    ask(&mut bench, true, &[FilterChange::RemoveAll, line(1, true, "20.0.0.0/8", 0)]);
    assert_eq!(told(&mut bench), ["-10.0.0.0/8", "-10.1.0.0/16", "-10.2.0.0/16", "+20.0.0.0/8"]);
    ask(&mut bench, true, &[FilterChange::RemoveAll]);
    assert_eq!(told(&mut bench), all);
}

#[test]
fn a_request_without_a_change_sends_it_all_again() {
    let mut bench = bench();
    ask(&mut bench, true, &[line(5, true, "20.0.0.0/8", 0)]);
    assert_eq!(told(&mut bench), [".", "+20.0.0.0/8"]);
    ask(&mut bench, true, &[]);
    assert_eq!(told(&mut bench), ["+20.0.0.0/8"]);
}

#[test]
fn a_filter_ends_with_its_session_and_others_have_none() {
    let mut bench = bench();
    ask(&mut bench, true, &[line(5, true, "20.0.0.0/8", 0)]);
    told(&mut bench);
    bench.told(B);
    bench.rib.peer_down(bench.now, C, Departure::Withdraw);
    bench.rib.peer_up(bench.now, C, up(C));
    bench.settle();
    assert_eq!(told(&mut bench).len(), 4, "all three, and the mark");
    assert!(bench.rib.outbound_filter(C, V4).is_empty());
}

#[test]
fn no_peer_fills_our_memory_with_lines() {
    let mut bench = bench();
    let address = |number: u32| format!("{}/32", Ipv4Addr::from(0x0a00_0000 + number));
    let lines: Vec<FilterChange> = (0..17_000).map(|number| line(number, true, &address(number), 0)).collect();
    let outcome = bench.rib.filtered_refresh(C, V4, Some(&filters(true, &lines)));
    assert_eq!(outcome, Filtering::Overflowed);
    assert_eq!(bench.rib.outbound_filter(C, V4).len(), 16_384);
}
