//! Paths that share packets: who, in which shares, and when the FIB hears of it.

use bgp_wire::ExtCommunity;

use super::*;
use crate::{
    decision::{LinkBandwidth, MaximumPaths},
    policy::ExtCommunityChange,
};

#[test]
fn equals_share_by_bandwidth_and_the_fib_hears_of_every_change() {
    let mut bench = Bench::new();
    let maximum = MaximumPaths { external: 2, internal: 1, equal_cluster_length: false };
    let spread =
        DecisionOptions { maximum_paths: [maximum; Family::COUNT], relax_as_path: true, ..DecisionOptions::default() };
    bench.rib.set_decision(spread);
    let with = |peer, bandwidth: Option<f32>| {
        let mut update = announce(peer, 1, &["10.0.0.0/8"]);
        let reach = update.reach.as_mut().unwrap();
        let community = bandwidth.map(|octets| ExtCommunity::link_bandwidth(Asn::literal(1), octets, true));
        reach.attributes.ext_communities.extend(community);
        update
    };
    let shares = |bench: &mut Bench| {
        let mut changes = Vec::new();
        while bench.rib.poll_changes(1, &mut changes) {}
        let share = |path: &PathRef| (path.source, path.weight);
        let last = changes.pop()?;
        let all: Vec<_> = last.best.iter().chain(&last.multipath).map(share).collect();
        Some((all, last.alternate.map(|path| path.source)))
    };
    let [a, b, c] = [A, B, C].map(Source::Peer);
    bench.hear(A, with(A, Some(3e6)));
    assert_eq!(shares(&mut bench), Some((vec![(a, 1)], None)));
    bench.hear(B, with(B, Some(1e6)));
    assert_eq!(shares(&mut bench), Some((vec![(a, 75), (b, 25)], None)));
    bench.hear(C, with(C, None));
    assert_eq!(shares(&mut bench), Some((vec![(a, 75), (b, 25)], Some(c))), "two at most; the third stands by");
    let route = bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap();
    let states: Vec<_> = route.paths.iter().map(|path| (path.source, path.state)).collect();
    assert_eq!(states, [(a, PathState::Best), (b, PathState::Multipath), (c, PathState::Alternate)]);
    bench.hear(B, with(B, None));
    assert_eq!(shares(&mut bench), Some((vec![(a, 1), (b, 1)], Some(c))), "one of them names none");
    bench.rib.set_decision(DecisionOptions { link_bandwidth: LinkBandwidth::SkipMissing, ..spread });
    bench.settle();
    assert_eq!(shares(&mut bench), Some((vec![(a, 100)], Some(c))));
    bench.hear(B, withdraw(&["10.0.0.0/8"]));
    assert_eq!(shares(&mut bench), Some((vec![(a, 100)], None)), "the one that stood by shares, and gets nothing");
    bench.rib.set_decision(DecisionOptions::default());
    bench.settle();
    assert_eq!(shares(&mut bench), Some((vec![(a, 1)], Some(c))));
    assert_eq!(bench.told(C), ["+10.0.0.0/8"], "told of the best path alone, and once");
}

#[test]
fn what_is_told_on_sums_up_the_paths_that_share_and_follows_them() {
    sums_up(true);
}

#[test]
fn what_is_told_on_with_our_next_hop_sums_them_up_unasked() {
    sums_up(false);
}

fn sums_up(asked: bool) {
    let mut bench = Bench::new();
    let maximum = MaximumPaths { external: 4, internal: 1, equal_cluster_length: false };
    bench.rib.set_decision(DecisionOptions {
        maximum_paths: [maximum; Family::COUNT],
        relax_as_path: true,
        ..DecisionOptions::default()
    });
    let like = ExtCommunity::link_bandwidth(Asn::literal(65001), 0.0, true);
    let mut config = peer_config(C);
    config.families[V4 as usize].export =
        policy(vec![Set::ExtCommunities(ExtCommunityChange::CumulativeBandwidth(like))]);
    if asked {
        assert!(bench.rib.configure_peer(C, config));
    }
    bench.settle();
    while bench.rib.poll_out(C, 100).is_some() {}
    let with = |peer, octets| {
        let mut update = announce(peer, 1, &["10.0.0.0/8"]);
        let community = ExtCommunity::link_bandwidth(Asn::literal(1), octets, true);
        update.reach.as_mut().unwrap().attributes.ext_communities.push(community);
        update
    };
    let told = |bench: &mut Bench| {
        let mut last = None;
        while let Some(batch) = bench.rib.poll_out(C, 100) {
            last = batch.announced.first().map(|group| group.attrs.attributes.ext_communities.clone()).or(last);
        }
        let advertised = bench.rib.advertised(C, &prefix("10.0.0.0/8")).unwrap().attributes.ext_communities;
        assert!(last.as_ref().is_none_or(|last| *last == advertised), "what is shown is what was told");
        last.map(|all| all.iter().map(|community| community.bandwidth().unwrap()).collect::<Vec<_>>())
    };
    bench.hear(A, with(A, 3e6));
    assert_eq!(told(&mut bench), Some(vec![3_000_000]));
    bench.hear(B, with(B, 1e6));
    assert_eq!(told(&mut bench), Some(vec![4_000_000]), "the best path is the same, and the sum another");
    bench.hear(B, withdraw(&["10.0.0.0/8"]));
    assert_eq!(told(&mut bench), Some(vec![3_000_000]));
    bench.hear(A, with(A, 3e6));
    assert_eq!(told(&mut bench), None, "said again, nothing new");
}
