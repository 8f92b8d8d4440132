//! Several paths for a prefix from one neighbor and to one (RFC 7911).

use super::*;

/// An announcement by `peer` of one path for a prefix under an identifier.
fn announce_path(peer: PeerId, hops: u32, text: &str, id: u32) -> Update {
    let ids = bgp_wire::PathIds { announced: [vec![id]].into_iter().collect(), ..Default::default() };
    Update { path_ids: Some(Box::new(ids)), ..announce(peer, hops, &[text]) }
}

#[test]
fn several_paths_of_one_peer_are_told_apart_and_go_one_by_one() {
    let mut bench = Bench::new();
    for (id, hops) in [(7, 3), (9, 2), (11, 4)] {
        bench.hear(A, announce_path(A, hops, "10.0.0.0/8", id));
    }
    let listed = |bench: &Bench| {
        let route = bench.rib.route(bench.now, &prefix("10.0.0.0/8"));
        let mut ids: Vec<_> = route.iter().flat_map(|route| &route.paths).map(|path| path.path_id.unwrap()).collect();
        let best = ids.first().copied();
        ids.sort_unstable();
        (best, ids)
    };
    assert_eq!(listed(&bench), (Some(9), vec![7, 9, 11]), "the shortest is the best");
    assert_eq!(bench.rib.counters(Source::Peer(A), V4).unwrap().received, 3);
    bench.hear(A, announce_path(A, 1, "10.0.0.0/8", 7));
    assert_eq!(listed(&bench), (Some(7), vec![7, 9, 11]), "said anew under its identifier");
    let gone = |ids: Vec<u32>| {
        let withdrawn = vec![prefix("10.0.0.0/8"); ids.len()];
        let ids = bgp_wire::PathIds { withdrawn: ids, ..Default::default() };
        Update { withdrawn, path_ids: Some(Box::new(ids)), ..Update::default() }
    };
    bench.hear(A, gone(vec![7, 12]));
    assert_eq!(listed(&bench), (Some(9), vec![9, 11]), "nobody knows of a twelfth");
    bench.rib.peer_down(bench.now, A, Departure::Withdraw);
    bench.settle();
    assert_eq!(listed(&bench).1, [9, 11], "they still protect the prefix");
    bench.rib.clear_leftovers(A);
    bench.settle();
    assert_eq!(listed(&bench), (None, vec![]));
    assert_eq!(bench.rib.shared.path_ids.len(), 0);
}

#[test]
fn one_path_of_each_neighboring_as_is_told_where_that_is_asked() {
    let mut bench = Bench::new();
    bench.rib.peer_down(bench.now, C, Departure::Withdraw);
    let mut config = peer_config(C);
    config.families[V4 as usize].add_path = Some(AddPaths::BestPerNeighbor);
    bench.rib.configure_peer(C, config);
    let negotiated = Negotiated { add_path_out: V4.into(), ..Negotiated::base(PeerKind::External) };
    bench.rib.peer_up(bench.now, C, PeerUp { negotiated, ..up(C) });
    for (id, hops) in [(1, 3), (2, 2)] {
        bench.hear(A, announce_path(A, hops, "10.0.0.0/8", id));
    }
    bench.hear(B, announce(B, 1, &["10.0.0.0/8"]));
    let (mut hops, mut end) = (Vec::new(), false);
    while let Some(batch) = bench.rib.poll_out(C, 10) {
        let told = batch.announced.iter().flat_map(|group| {
            assert_eq!(group.ids.len(), group.prefixes.len());
            vec![group.attrs.attributes.as_path.hop_count(); group.ids.len()]
        });
        hops.extend(told);
        end |= batch.end_of_rib;
    }
    hops.sort_unstable();
    assert_eq!((hops, end), (vec![2, 3], true), "our AS before the two of A and the one of B");
}
