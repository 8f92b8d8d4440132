//! What is announced beyond and instead of what the table has: aggregates, default routes, conditions, limits; and what
//! well-known communities ask for.

use bgp_wire::{Community, Origin};

use super::*;
use crate::policy::{Match, PrefixList, PrefixRule};

/// A policy that permits exactly these prefixes and makes these changes.
fn exactly(prefixes: &[&str], sets: Vec<Set>) -> Policy {
    let rule =
        |text: &&str| PrefixRule { sequence: 1, action: Action::Permit, prefix: prefix(text), ge: None, le: None };
    let list = Arc::new(PrefixList::new("l", prefixes.iter().map(rule).collect()));
    let matches = vec![Match::Prefix(V4, list)];
    let clause = Clause { sequence: 1, action: Action::Permit, matches, sets, call: None, on_match: OnMatch::Stop };
    Policy::of_map(Some(Arc::new(RouteMap::new("exactly", vec![clause]))))
}

fn configured(bench: &mut Bench, peer: PeerId, adjust: impl FnOnce(&mut FamilyConfig)) {
    let mut config = peer_config(peer);
    adjust(&mut config.families[V4 as usize]);
    assert!(bench.rib.configure_peer(peer, config));
    bench.settle();
}

fn aggregated(bench: &mut Bench, text: &str, config: AggregateConfig) {
    bench.rib.set_aggregates(V4, [(prefix(text), config)].into());
    bench.settle();
}

/// What `peer` is told of `text`.
fn sent(bench: &Bench, peer: PeerId, text: &str) -> Option<Attributes> {
    bench.rib.advertised(peer, &prefix(text)).map(|attrs| attrs.attributes)
}

/// An announcement by `peer` with what `adjust` makes of its attributes.
fn announce_with(peer: PeerId, prefixes: &[&str], adjust: impl FnOnce(&mut Attributes)) -> Update {
    let mut update = announce(peer, 1, prefixes);
    adjust(&mut update.reach.as_mut().unwrap().attributes);
    update
}

#[test]
fn a_peer_hears_its_own_routes_only_where_they_are_echoed() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.1.0.0/16"]));
    assert_eq!((bench.told(A), bench.told(B)), (vec![], vec!["+10.1.0.0/16".to_owned()]));
    let echo = |bench: &mut Bench, echo| {
        assert!(bench.rib.configure_peer(A, PeerConfig { echo, ..peer_config(A) }));
        bench.settle();
    };
    echo(&mut bench, true);
    assert_eq!(bench.told(A), ["+10.1.0.0/16"]);
    let echoed = bench.rib.advertised(A, &prefix("10.1.0.0/16")).unwrap();
    assert_eq!(
        (echoed.attributes.as_path.to_string(), echoed.next_hop),
        ("65001 65101".into(), "192.0.2.100".parse::<IpAddr>().unwrap().into())
    );
    let bare = bench.rib.advertised_bare(A, &prefix("10.1.0.0/16")).unwrap();
    assert_eq!(bare.attributes.as_path.to_string(), "65101");
    assert_eq!(bench.rib.counters(Source::Peer(A), V4).unwrap().sent, 1);
    assert_eq!(bench.told(B), [] as [&str; 0]);
    bench.hear(A, withdraw(&["10.1.0.0/16"]));
    assert_eq!((bench.told(A), bench.told(B)), (vec!["-10.1.0.0/16".to_owned()], vec!["-10.1.0.0/16".to_owned()]));
    bench.hear(A, announce(A, 1, &["10.1.0.0/16"]));
    assert_eq!(bench.told(A), ["+10.1.0.0/16"]);
    echo(&mut bench, false);
    assert_eq!(bench.told(A), ["-10.1.0.0/16"]);
}

#[test]
fn an_aggregate_comes_with_its_first_more_specific_route_and_goes_with_the_last() {
    let mut bench = Bench::new();
    aggregated(&mut bench, "10.0.0.0/8", AggregateConfig::default());
    assert_eq!(bench.told(B), [] as [&str; 0]);
    bench.hear(A, announce(A, 1, &["10.1.0.0/16", "11.0.0.0/16"]));
    let mut told = bench.told(B);
    told.sort();
    assert_eq!(told, ["+10.0.0.0/8", "+10.1.0.0/16", "+11.0.0.0/16"]);
    let aggregate = sent(&bench, B, "10.0.0.0/8").unwrap();
    assert_eq!(aggregate.as_path.to_string(), "65001");
    assert!(aggregate.atomic_aggregate && aggregate.aggregator.is_some());
    let mut changes = Vec::new();
    while bench.rib.poll_changes(10, &mut changes) {}
    let aggregate = changes.iter().find(|change| change.prefix == prefix("10.0.0.0/8")).unwrap();
    assert!(aggregate.best.unwrap().blackhole, "what no more specific route takes is dropped");

    bench.hear(A, announce_with(A, &["10.2.0.0/16"], |attributes| attributes.origin = Origin::Incomplete));
    assert_eq!(sent(&bench, B, "10.0.0.0/8").unwrap().origin, Origin::Incomplete, "the worst of theirs");
    bench.told(B);
    bench.hear(A, withdraw(&["10.2.0.0/16"]));
    bench.hear(A, withdraw(&["10.1.0.0/16"]));
    let mut told = bench.told(B);
    told.sort();
    assert_eq!(told, ["-10.0.0.0/8", "-10.1.0.0/16", "-10.2.0.0/16"]);
}

#[test]
fn a_summary_stands_for_its_more_specific_routes_until_it_is_no_longer_configured() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.1.0.0/16", "10.2.0.0/16", "11.0.0.0/16"]));
    for peer in [B, C] {
        bench.told(peer);
    }
    configured(&mut bench, C, |config| config.unsuppress = Some(exactly(&["10.2.0.0/16"], vec![])));
    aggregated(&mut bench, "10.0.0.0/8", AggregateConfig { summary_only: true, ..AggregateConfig::default() });
    let sorted = |mut told: Vec<String>| {
        told.sort();
        told
    };
    assert_eq!(sorted(bench.told(B)), ["+10.0.0.0/8", "-10.1.0.0/16", "-10.2.0.0/16"]);
    assert_eq!(sent(&bench, C, "10.1.0.0/16"), None);
    bench.told(C);
    assert!(sent(&bench, C, "10.2.0.0/16").is_some(), "unsuppressed");
    bench.hear(A, announce(A, 1, &["10.3.0.0/16"]));
    assert_eq!(bench.told(B), [] as [&str; 0], "what comes later is part of the summary, too");

    // A suppress-map chooses; what it does not name comes back.
    let suppress = Some(exactly(&["10.1.0.0/16"], vec![]));
    aggregated(&mut bench, "10.0.0.0/8", AggregateConfig { suppress, ..AggregateConfig::default() });
    assert_eq!(sorted(bench.told(B)), ["+10.2.0.0/16", "+10.3.0.0/16"]);
    assert!(sent(&bench, B, "10.1.0.0/16").is_none() && sent(&bench, B, "10.3.0.0/16").is_some());

    bench.rib.set_aggregates(V4, Default::default());
    bench.settle();
    assert_eq!(sorted(bench.told(B)), ["+10.1.0.0/16", "-10.0.0.0/8"]);
}

#[test]
fn an_as_set_unites_and_equal_meds_may_be_a_condition() {
    let mut bench = Bench::new();
    let config = AggregateConfig { as_set: true, matching_med_only: true, ..AggregateConfig::default() };
    aggregated(&mut bench, "10.0.0.0/8", config);
    let with = |community: u32, med| {
        move |attributes: &mut Attributes| {
            (attributes.communities, attributes.med) = (vec![Community(community)], Some(med));
        }
    };
    bench.hear(A, announce_with(A, &["10.1.0.0/16"], with(1, 5)));
    bench.hear(B, announce_with(B, &["10.2.0.0/16"], with(2, 5)));
    bench.told(C);
    let aggregate = sent(&bench, C, "10.0.0.0/8").unwrap();
    assert_eq!(aggregate.as_path.to_string(), "65001 {65101,65102}");
    assert_eq!((aggregate.communities, aggregate.atomic_aggregate), (vec![Community(1), Community(2)], false));
    bench.hear(B, announce_with(B, &["10.2.0.0/16"], with(2, 6)));
    assert!(bench.told(C).contains(&"-10.0.0.0/8".to_owned()), "the MEDs differ");
}

#[test]
fn a_default_route_is_told_whatever_the_table_and_the_filters_say() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["0.0.0.0/0", "10.0.0.0/8"]));
    bench.told(B);
    configured(&mut bench, B, |config| {
        config.export = Policy::deny_all();
        config.default_originate = Some(DefaultOriginate::default());
    });
    let mut told = bench.told(B);
    told.sort();
    assert_eq!(told, ["+0.0.0.0/0", "-10.0.0.0/8"]);
    assert_eq!(sent(&bench, B, "0.0.0.0/0").unwrap().as_path.to_string(), "65001", "ours, and not A's");
    let route = bench.rib.route(bench.now, &prefix("0.0.0.0/0")).unwrap();
    assert_eq!(route.paths.len(), 1, "it is not in the table");
    bench.hear(A, withdraw(&["0.0.0.0/0"]));
    assert!(!bench.told(B).contains(&"-0.0.0.0/0".to_owned()));
    assert!(bench.rib.route(bench.now, &prefix("0.0.0.0/0")).is_none());
    configured(&mut bench, B, |config| config.export = Policy::deny_all());
    assert_eq!(bench.told(B), ["-0.0.0.0/0"]);
}

#[test]
fn conditions_follow_the_table_without_looking_at_what_does_not_concern_them() {
    let mut bench = Bench::new();
    let condition = exactly(&["10.0.0.0/8"], vec![Set::Metric(Adjust::To(7))]);
    configured(&mut bench, B, |config| {
        config.default_originate = Some(DefaultOriginate { condition: Some(condition.clone()) });
    });
    configured(&mut bench, C, |config| {
        config.advertise = Some(ConditionalAdvertisement {
            routes: exactly(&["12.0.0.0/8"], vec![]),
            wanted: Existence::Missing,
            condition: condition.clone(),
        });
    });
    bench.hear(A, announce(A, 1, &["12.0.0.0/8", "13.0.0.0/8"]));
    assert!(!bench.rib.has_work());
    let mut told = bench.told(C);
    told.sort();
    assert_eq!(told, ["+12.0.0.0/8", "+13.0.0.0/8"], "10.0.0.0/8 is missing");
    assert!(!bench.told(B).contains(&"+0.0.0.0/0".to_owned()));

    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    let mut told = bench.told(C);
    told.sort();
    assert_eq!(told, ["+10.0.0.0/8", "-12.0.0.0/8"]);
    assert!(bench.told(B).contains(&"+0.0.0.0/0".to_owned()));

    // Another way to the same prefix changes nothing, and the last way that goes takes the condition with it.
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    assert_eq!(bench.told(C), [] as [&str; 0]);
    bench.hear(B, withdraw(&["10.0.0.0/8"]));
    bench.hear(A, withdraw(&["10.0.0.0/8"]));
    let mut told = bench.told(C);
    told.sort();
    assert_eq!(told, ["+12.0.0.0/8", "-10.0.0.0/8"]);
    assert!(bench.told(B).contains(&"-0.0.0.0/0".to_owned()));
}

#[test]
fn what_is_told_under_a_condition_goes_by_its_own_route_map() {
    let mut bench = Bench::new();
    configured(&mut bench, C, |config| {
        config.export = Policy::deny_all();
        config.advertise = Some(ConditionalAdvertisement {
            routes: exactly(&["12.0.0.0/8"], vec![Set::Metric(Adjust::To(5))]),
            wanted: Existence::Exists,
            condition: exactly(&["10.0.0.0/8"], vec![]),
        });
    });
    bench.hear(A, announce(A, 1, &["12.0.0.0/8", "13.0.0.0/8"]));
    assert_eq!(bench.told(C), [] as [&str; 0]);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    assert_eq!(bench.told(C), ["+12.0.0.0/8"], "whatever the other route-map says");
    assert_eq!(sent(&bench, C, "12.0.0.0/8").unwrap().med, Some(5));
    bench.hear(A, withdraw(&["10.0.0.0/8"]));
    assert_eq!(bench.told(C), ["-12.0.0.0/8"]);
}

#[test]
fn a_path_that_cannot_be_used_meets_a_condition_all_the_same() {
    let mut bench = Bench::new();
    let condition = Some(exactly(&["10.0.0.0/8"], vec![]));
    configured(&mut bench, B, |config| config.default_originate = Some(DefaultOriginate { condition }));
    let idle = |idle| LocalRoute { idle, ..LocalRoute::default() };
    bench.rib.originate(bench.now, LocalSource::Network, prefix("10.0.0.0/8"), idle(true));
    bench.settle();
    assert_eq!(bench.told(B), ["+0.0.0.0/0"], "the network leads nowhere, so it is not announced itself");
    assert_eq!(bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap().paths[0].state, PathState::Unreachable);
    bench.rib.originate(bench.now, LocalSource::Network, prefix("10.0.0.0/8"), idle(false));
    bench.settle();
    assert_eq!(bench.told(B), ["+10.0.0.0/8"]);
    bench.rib.retract(LocalSource::Network, &prefix("10.0.0.0/8"));
    bench.settle();
    assert_eq!(bench.told(B), ["-0.0.0.0/0", "-10.0.0.0/8"]);
}

#[test]
fn the_default_route_takes_what_its_condition_changes_about_the_route_that_meets_it() {
    let mut bench = Bench::new();
    let clause = |sequence, text: &str, med| {
        let rule = PrefixRule { sequence: 1, action: Action::Permit, prefix: prefix(text), ge: None, le: None };
        Clause {
            sequence,
            action: Action::Permit,
            matches: vec![Match::Prefix(V4, Arc::new(PrefixList::new("l", vec![rule])))],
            sets: vec![Set::Metric(Adjust::To(med))],
            call: None,
            on_match: OnMatch::Stop,
        }
    };
    let map = RouteMap::new("either", vec![clause(1, "10.0.0.0/8", 7), clause(2, "11.0.0.0/8", 8)]);
    let condition = Some(Policy::of_map(Some(Arc::new(map))));
    configured(&mut bench, B, |config| config.default_originate = Some(DefaultOriginate { condition }));
    let med = |bench: &Bench| sent(bench, B, "0.0.0.0/0").map(|attributes| attributes.med);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "11.0.0.0/8"]));
    assert!(bench.told(B).contains(&"+0.0.0.0/0".to_owned()));
    assert_eq!(med(&bench), Some(Some(7)));
    bench.hear(A, withdraw(&["10.0.0.0/8"]));
    assert_eq!(bench.told(B), ["+0.0.0.0/0", "-10.0.0.0/8"], "another route meets it, and asks for something else");
    assert_eq!(med(&bench), Some(Some(8)));
    bench.hear(A, withdraw(&["11.0.0.0/8"]));
    assert_eq!((bench.told(B).len(), med(&bench)), (2, None));
}

#[test]
fn no_more_prefixes_are_announced_than_a_peer_takes() {
    let mut bench = Bench::new();
    configured(&mut bench, B, |config| config.maximum_out = Some(2));
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"]));
    assert_eq!(bench.told(B).len(), 2);
    bench.hear(A, announce(A, 2, &["10.0.0.0/8"]));
    assert_eq!(bench.told(B), ["+10.0.0.0/8"], "a change of what was told is no new prefix");
}

#[test]
fn who_is_about_to_go_is_the_last_resort() {
    let mut bench = Bench::new();
    let leaving = |attributes: &mut Attributes| attributes.communities = vec![Community::GRACEFUL_SHUTDOWN];
    bench.hear(A, announce_with(A, &["10.0.0.0/8"], leaving));
    bench.hear(B, announce(B, 5, &["10.0.0.0/8"]));
    assert_eq!(bench.chosen(), (from(B), from(A)), "the longer path is preferred to one that goes");
    // The lowering happens behind the policy, as nothing should undo it.
    configured(&mut bench, A, |config| config.import = policy(vec![Set::LocalPreference(Adjust::To(500))]));
    assert_eq!(bench.chosen(), (from(B), from(A)));

    bench.told(C);
    let config = RibConfig { graceful_shutdown: true, ..bench.rib.config().clone() };
    bench.rib.configure(config);
    bench.settle();
    assert_eq!(bench.told(C), ["+10.0.0.0/8"]);
    assert_eq!(sent(&bench, C, "10.0.0.0/8").unwrap().communities, [Community::GRACEFUL_SHUTDOWN]);
    let route = bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap();
    let preferences = route.paths.iter().map(|path| path.effective.as_ref().unwrap().attributes.local_pref);
    assert!(preferences.into_iter().all(|preference| preference == Some(0)));
}

#[test]
fn a_host_with_the_blackhole_community_is_dropped_and_told_within_the_as_only() {
    let mut bench = Bench::new();
    let blackhole = |attributes: &mut Attributes| attributes.communities = vec![Community::BLACKHOLE];
    bench.hear(A, announce_with(A, &["192.0.2.66/32", "10.0.0.0/8"], blackhole));
    assert!(bench.told(B).is_empty(), "RFC 7999 §3.2, whatever the length");
    let route = bench.rib.route(bench.now, &prefix("192.0.2.66/32")).unwrap();
    let kept = &route.paths[0].effective.as_ref().unwrap().attributes.communities;
    assert_eq!(*kept, [Community::BLACKHOLE, Community::NO_EXPORT]);
    let mut changes = Vec::new();
    while bench.rib.poll_changes(10, &mut changes) {}
    let dropped: Vec<_> = changes.iter().map(|c| (c.prefix.to_string(), c.best.unwrap().blackhole)).collect();
    assert!(dropped.contains(&("192.0.2.66/32".into(), true)) && dropped.contains(&("10.0.0.0/8".into(), false)));
}

#[test]
fn a_change_of_policy_visits_the_routes_of_the_neighbor_that_it_concerns_and_no_others() {
    let mut bench = Bench::new();
    let prefixes: Vec<String> = (0..50).map(|n| format!("10.{n}.0.0/16")).collect();
    let texts: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    bench.hear(A, announce(A, 1, &texts));
    bench.hear(B, announce(B, 2, &texts[..3]));
    let mut config = peer_config(B);
    config.families[V4 as usize].import = policy(vec![Set::Weight(9)]);
    assert!(bench.rib.configure_peer(B, config));
    let slot = |bench: &Bench, peer| bench.rib.slot(peer).unwrap();
    let visited = |bench: &Bench, peer| bench.rib.shared.peer(slot(bench, peer)).families[V4 as usize].visit.is_some();
    assert!(visited(&bench, B) && !visited(&bench, A), "A's routes are not looked at");
    let mut steps = 0;
    while bench.rib.work(bench.now, 1) {
        steps += 1;
    }
    assert!(steps <= 4, "{steps} steps for three routes");
    let states = bench.rib.route(bench.now, &prefix("10.0.0.0/16")).unwrap();
    assert_eq!(states.paths[0].source, Source::Peer(B), "and the new weight decides");
    assert!(bench.rib.shared.peer(slot(&bench, A)).up.is_some());
}

#[test]
fn a_table_map_keeps_routes_out_of_the_kernel_and_nowhere_else() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "11.0.0.0/8"]));
    bench.changes();
    bench.rib.set_table_map(V4, exactly(&["10.0.0.0/8"], vec![]));
    let changes = bench.changes();
    assert!(changes.contains(&("10.0.0.0/8".into(), from(A), None, true)));
    assert!(changes.contains(&("11.0.0.0/8".into(), None, None, false)), "{changes:?}");
    assert_eq!(bench.told(B).len(), 2, "neighbors are told all the same");
    bench.rib.set_table_map(V4, Policy::default());
    assert!(bench.changes().contains(&("11.0.0.0/8".into(), from(A), None, true)));
}
