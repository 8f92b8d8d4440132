//! What the table promises, said as an operator would.

mod announcements;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use bgp_wire::{Announcement, AsPath, Attributes, FamilySet, Negotiated, PeerKind, Reach, Role, Update};
use net_types::{Asn, Family, Prefix, RouterId};

use super::*;
use crate::policy::{Action, Adjust, Clause, OnMatch, Policy, RouteMap, Set};

const V4: Family = Family::Ipv4Unicast;
const A: PeerId = PeerId(1);
const B: PeerId = PeerId(2);
const C: PeerId = PeerId(3);

/// A table with peers A, B and C (AS 65101 to 65103 at 192.0.2.1 to .3), all protected, and the clock.
struct Bench {
    rib: Rib,
    now: Instant,
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn address(peer: PeerId) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, peer.0 as u8).into()
}

fn peer_config(peer: PeerId) -> PeerConfig {
    let protection = Protection::OnFailure;
    PeerConfig { protection, ..PeerConfig::new(address(peer), PeerKind::External, Asn::literal(65001)) }
}

fn up(peer: PeerId) -> PeerUp {
    PeerUp {
        router_id: RouterId::try_from(peer.0).unwrap(),
        remote_as: Asn::try_from(65100 + peer.0).unwrap(),
        negotiated: Negotiated::base(PeerKind::External),
        long_lived: FamilySet::EMPTY,
        long_lived_preserved: FamilySet::EMPTY,
        preserved: FamilySet::from(V4),
        sends_end_of_rib: true,
        stale_limit: Duration::from_secs(360),
        local: LocalAddresses { v4: Some(Ipv4Addr::new(192, 0, 2, 100)), ..Default::default() },
        scope: 0,
        shared_subnets: Vec::new(),
    }
}

/// An announcement by `peer` with `hops` ASes on the path.
fn announce(peer: PeerId, hops: u32, prefixes: &[&str]) -> Update {
    let path = (0..hops).map(|hop| Asn::try_from(if hop == 0 { 65100 + peer.0 } else { 64000 + hop }).unwrap());
    let attributes = Attributes { as_path: AsPath::sequence(path), ..Attributes::default() };
    let prefixes = prefixes.iter().map(|text| prefix(text)).collect();
    let announced = [Announcement { family: V4, next_hop: address(peer).into(), prefixes }].into_iter().collect();
    Update { reach: Some(Reach { attributes, announced }), ..Update::default() }
}

fn withdraw(prefixes: &[&str]) -> Update {
    Update { withdrawn: prefixes.iter().map(|text| prefix(text)).collect(), ..Update::default() }
}

fn end_of_rib() -> Update {
    Update { end_of_rib: Some(V4), ..Update::default() }
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let config = RibConfig {
            asn: Asn::literal(65001),
            router_id: RouterId::try_from(0x0a00_0001).unwrap(),
            cluster_id: None,
            client_to_client_reflection: true,
            graceful_shutdown: false,
            confederation: None,
            default_local_pref: 100,
            decision: Default::default(),
            hash_seed: 1,
        };
        let mut bench = Self { rib: Rib::new(config, now), now };
        for peer in [A, B, C] {
            assert!(bench.rib.configure_peer(peer, peer_config(peer)));
            bench.rib.peer_up(now, peer, up(peer));
            while bench.rib.poll_out(peer, 100).is_some() {}
        }
        bench
    }

    fn hear(&mut self, peer: PeerId, update: Update) {
        self.rib.update(self.now, peer, update);
        self.settle();
    }

    /// Resolves next hops (through interface 10 + last octet) and does all pending work.
    fn settle(&mut self) {
        loop {
            while self.rib.work(self.now, 1) {}
            let Some(event) = self.rib.poll_next_hop() else { break };
            if let NextHopEvent::Wanted(key) = event {
                self.rib.next_hop_resolved(key, Some(reached(key.address)));
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.settle();
    }

    fn changes(&mut self) -> Vec<(String, Option<Source>, Option<Source>, bool)> {
        let mut changes = Vec::new();
        while self.rib.poll_changes(1, &mut changes) {}
        let source = |path: Option<PathRef>| path.map(|path| path.source);
        changes.into_iter().map(|c| (c.prefix.to_string(), source(c.best), source(c.alternate), c.protect)).collect()
    }

    /// Best and alternate of 10.0.0.0/8.
    fn chosen(&self) -> (Option<Source>, Option<Source>) {
        let route = self.rib.route(self.now, &prefix("10.0.0.0/8"));
        let with = |state| {
            let route = route.as_ref()?;
            route.paths.iter().find(|path| path.state == state).map(|path| path.source)
        };
        (with(PathState::Best), with(PathState::Alternate))
    }

    /// What `peer` is told, as `+prefix`, `-prefix` and `.` for End-of-RIB.
    fn told(&mut self, peer: PeerId) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(batch) = self.rib.poll_out(peer, 1) {
            told.extend(batch.withdrawn.iter().map(|prefix| format!("-{prefix}")));
            told.extend(batch.announced.iter().flat_map(|g| g.prefixes.iter().map(|prefix| format!("+{prefix}"))));
            told.extend(batch.end_of_rib.then(|| ".".to_owned()));
        }
        told
    }
}

fn reached(address: IpAddr) -> Resolved {
    let octet = match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => 0,
    };
    Resolved { ifindex: 10 + u32::from(octet), gateway: Some(address), metric: 0 }
}

fn from(peer: PeerId) -> Option<Source> {
    Some(Source::Peer(peer))
}

fn policy(sets: Vec<Set>) -> Policy {
    let clause =
        Clause { sequence: 10, action: Action::Permit, matches: vec![], sets, call: None, on_match: OnMatch::Stop };
    Policy::of_map(Some(Arc::new(RouteMap::new("m", vec![clause]))))
}

#[test]
fn best_and_alternate_reach_the_fib_together() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), from(A), from(B), true)]);
    bench.hear(A, announce(A, 3, &["10.0.0.0/8"]));
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), from(B), from(A), true)]);
    bench.hear(A, announce(A, 3, &["10.0.0.0/8"]));
    assert_eq!(bench.changes(), [], "said again, nothing new");
}

#[test]
fn a_withdrawal_by_a_living_peer_removes_the_route_and_a_death_protects_it() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "10.1.0.0/16"]));
    bench.changes();
    bench.hear(A, withdraw(&["10.1.0.0/16"]));
    assert_eq!(bench.changes(), [("10.1.0.0/16".into(), None, None, false)]);
    bench.rib.peer_down(bench.now, A, Departure::Withdraw);
    bench.settle();
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), None, None, true)]);
    assert_eq!(bench.rib.prefix_count(V4), 1, "the ghost is remembered");
    assert_eq!(bench.rib.poll_event(), Some(RibEvent::Departed { peer: A, family: V4 }));
}

#[test]
fn protection_ends_when_the_peer_is_back_and_has_said_all_it_has() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "10.1.0.0/16"]));
    bench.rib.peer_down(bench.now, A, Departure::Withdraw);
    bench.settle();
    bench.changes();
    bench.rib.peer_up(bench.now, A, up(A));
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), from(A), None, true)]);
    bench.hear(A, end_of_rib());
    assert_eq!(bench.changes(), [("10.1.0.0/16".into(), None, None, false)]);
    assert_eq!(bench.rib.prefix_count(V4), 1);
}

#[test]
fn protection_ends_by_clear_and_by_configuration() {
    for clear in [true, false] {
        let mut bench = Bench::new();
        bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
        bench.rib.peer_down(bench.now, A, Departure::Withdraw);
        bench.settle();
        bench.changes();
        if clear {
            bench.rib.clear_leftovers(A);
        } else {
            bench.rib.remove_peer(bench.now, A);
        }
        bench.settle();
        assert_eq!(bench.changes(), [("10.0.0.0/8".into(), None, None, false)]);
        assert_eq!((bench.rib.prefix_count(V4), bench.rib.attribute_count()), (0, 0));
    }
}

#[test]
fn with_fail_closed_withdrawn_even_a_withdrawal_protects() {
    let mut bench = Bench::new();
    bench.rib.configure_peer(A, PeerConfig { protection: Protection::Always, ..peer_config(A) });
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(A, withdraw(&["10.0.0.0/8"]));
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), None, None, true)]);
    bench.hear(A, end_of_rib());
    assert_eq!(bench.changes(), [], "an End-of-RIB does not take back what was withdrawn");
    bench.rib.configure_peer(A, peer_config(A));
    bench.settle();
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), None, None, false)]);
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
        Departure::Stale { until, families: FamilySet::from(V4), long_lived: [Duration::ZERO; 2] },
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
        Departure::Stale { until, families: FamilySet::from(V4), long_lived: [Duration::ZERO; 2] },
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
        Departure::Stale { until, families: FamilySet::from(V4), long_lived: [Duration::ZERO; 2] },
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
fn an_unreachable_next_hop_takes_its_paths_out_and_back_in() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8", "10.2.0.0/16"]));
    bench.changes();
    let key = NextHopKey { address: address(A), scope: 0 };
    bench.rib.next_hop_resolved(key, None);
    bench.settle();
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), from(B), None, true)], "and only what depends on it");
    let moved = Resolved { ifindex: 99, gateway: None, metric: 0 };
    bench.rib.next_hop_resolved(key, Some(moved));
    bench.settle();
    let mut changes = Vec::new();
    bench.rib.poll_changes(9, &mut changes);
    assert_eq!(changes[0].best.as_ref().unwrap().resolved, moved);
    bench.rib.next_hop_resolved(key, Some(reached(address(A))));
    bench.settle();
    assert_eq!(bench.changes().len(), 1, "the FIB hears of another interface although the choice stays");
}

#[test]
fn the_cost_of_the_next_hop_decides_between_equals() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 1, &["10.0.0.0/8"]));
    assert_eq!(bench.chosen(), (from(A), from(B)));
    let far = Resolved { metric: 20, ..reached(address(A)) };
    bench.rib.next_hop_resolved(NextHopKey { address: address(A), scope: 0 }, Some(far));
    bench.settle();
    assert_eq!(bench.chosen(), (from(B), from(A)));
}

#[test]
fn loops_are_refused_and_may_be_allowed() {
    let mut bench = Bench::new();
    let mut looped = announce(A, 2, &["10.0.0.0/8"]);
    looped.reach.as_mut().unwrap().attributes.as_path.prepend(Asn::literal(65001), 1);
    bench.hear(A, looped);
    let route = bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap();
    assert_eq!(route.paths[0].state, PathState::Refused(Refusal::OwnAs(Asn::literal(65001))));
    assert_eq!(bench.changes(), []);
    bench.rib.configure_peer(A, {
        let mut config = peer_config(A);
        config.families[V4 as usize].rules.allow_own_as = AllowOwnAs::Times(1);
        config
    });
    bench.settle();
    assert_eq!(bench.chosen(), (from(A), None));

    let mut ours = announce(B, 1, &["10.3.0.0/16"]);
    ours.reach.as_mut().unwrap().announced[0].next_hop = IpAddr::from(Ipv4Addr::new(192, 0, 2, 100)).into();
    bench.hear(B, ours);
    let route = bench.rib.route(bench.now, &prefix("10.3.0.0/16")).unwrap();
    assert_eq!(route.paths[0].state, PathState::Refused(Refusal::NextHop));
}

#[test]
fn a_policy_change_is_applied_to_what_was_received_without_the_session_noticing() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    let mut config = peer_config(B);
    config.families[V4 as usize].import = policy(vec![Set::LocalPreference(Adjust::To(200))]);
    bench.rib.configure_peer(B, config.clone());
    bench.settle();
    assert_eq!(bench.chosen(), (from(B), from(A)));
    config.families[V4 as usize].import.route_map = Some(Arc::new(RouteMap::undefined("gone")));
    bench.rib.configure_peer(B, config);
    bench.settle();
    assert_eq!(bench.chosen(), (from(A), None));
    let counters = bench.rib.counters(Source::Peer(B), V4).unwrap();
    assert_eq!((counters.received, counters.accepted), (1, 0));
    bench.rib.configure_peer(B, peer_config(B));
    bench.settle();
    assert_eq!(bench.chosen(), (from(A), from(B)));
}

#[test]
fn weight_is_configured_per_neighbor_and_policy_has_the_last_word() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    let mut config = peer_config(B);
    config.families[V4 as usize].weight = Some(10);
    bench.rib.configure_peer(B, config.clone());
    bench.settle();
    assert_eq!(bench.chosen(), (from(B), from(A)));
    config.families[V4 as usize].import = policy(vec![Set::Weight(0)]);
    bench.rib.configure_peer(B, config);
    bench.settle();
    assert_eq!(bench.chosen(), (from(A), from(B)));
}

#[test]
fn other_rules_of_comparison_are_applied_to_what_is_there() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 3, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    let mut config = bench.rib.config().clone();
    config.decision.ignore_as_path_length = true;
    bench.rib.configure(config.clone());
    bench.settle();
    assert_eq!(bench.chosen(), (from(A), from(B)));
    config.default_local_pref = 50;
    bench.rib.configure(config);
    bench.settle();
    let route = bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap();
    let preferences = route.paths.iter().map(|path| path.effective.as_ref().unwrap().attributes.local_pref);
    assert!(preferences.eq([Some(50), Some(50)]));
}

#[test]
fn another_export_policy_is_sent_at_once_as_far_as_it_makes_a_difference() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.told(B);
    let mut config = peer_config(B);
    config.families[V4 as usize].export = Policy::deny_all();
    bench.rib.configure_peer(B, config);
    assert_eq!(bench.told(B), ["-10.0.0.0/8"]);
    bench.rib.configure_peer(B, peer_config(B));
    assert_eq!(bench.told(B), ["+10.0.0.0/8"]);
    bench.rib.configure_peer(B, peer_config(B));
    assert_eq!(bench.told(B), Vec::<String>::new(), "nothing changed");
}

#[test]
fn a_link_local_next_hop_is_resolved_on_the_link_that_it_was_learned_on() {
    let mut bench = Bench::new();
    let v6 = Family::Ipv6Unicast;
    for (peer, scope) in [(A, 7), (B, 8)] {
        let local = LocalAddresses { v6: Some("2001:db8::100".parse().unwrap()), ..Default::default() };
        bench.rib.peer_up(
            bench.now,
            peer,
            PeerUp {
                negotiated: Negotiated { families: FamilySet::from(v6), ..Negotiated::base(PeerKind::External) },
                scope,
                local,
                ..up(peer)
            },
        );
        let mut update = announce(peer, 1, &["fd00::/16"]);
        let announcement = &mut update.reach.as_mut().unwrap().announced[0];
        announcement.family = v6;
        announcement.next_hop = IpAddr::from("fe80::1".parse::<std::net::Ipv6Addr>().unwrap()).into();
        bench.rib.update(bench.now, peer, update);
    }
    let mut wanted = Vec::new();
    while let Some(event) = bench.rib.poll_next_hop() {
        wanted.push(event);
    }
    let key = |scope| NextHopKey { address: "fe80::1".parse().unwrap(), scope };
    wanted.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(wanted, [NextHopEvent::Wanted(key(7)), NextHopEvent::Wanted(key(8))]);
    bench.rib.next_hop_resolved(key(8), Some(Resolved { ifindex: 8, gateway: Some(key(8).address), metric: 0 }));
    bench.settle();
    assert_eq!(bench.changes(), [("fd00::/16".into(), from(B), None, true)]);
    assert_eq!(bench.told(A), ["+fd00::/16", "."]);
    let sent = bench.rib.advertised(A, &prefix("fd00::/16")).unwrap();
    assert_eq!(sent.next_hop.address(), "2001:db8::100".parse::<IpAddr>().unwrap(), "link-local stays on its link");
}

#[test]
fn too_many_prefixes_warn_first_and_then_end_the_session() {
    let mut bench = Bench::new();
    let mut config = peer_config(A);
    let maximum = MaximumPrefix { limit: 3, threshold: 67, warning_only: false, force: false };
    config.families[V4 as usize].maximum_prefix = Some(maximum);
    bench.rib.configure_peer(A, config);
    let event = |count, teardown| Some(RibEvent::MaximumPrefix { peer: A, family: V4, count, limit: 3, teardown });
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "10.1.0.0/16"]));
    assert_eq!(bench.rib.poll_event(), None);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]));
    assert_eq!(bench.rib.poll_event(), event(3, false));
    bench.hear(A, announce(A, 1, &["10.3.0.0/16", "10.4.0.0/16", "10.5.0.0/16"]));
    assert_eq!(bench.rib.poll_event(), event(4, true));
    bench.hear(A, announce(A, 1, &["10.6.0.0/16"]));
    assert_eq!((bench.rib.poll_event(), bench.rib.prefix_count(V4)), (None, 4), "nothing more is taken in");
}

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
    assert_eq!(bench.rib.prefix_count(V4), 0, "and then everything is forgotten");
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
    assert_eq!(bench.rib.poll_event(), Some(RibEvent::Settled));
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), from(A), None, true)]);
    assert_eq!(bench.told(C), ["+10.0.0.0/8"]);

    bench.rib.defer(bench.now + Duration::from_secs(60), [(A, all)]);
    assert!(bench.rib.is_deferring());
    bench.pass(Duration::from_secs(60));
    assert!(!bench.rib.is_deferring(), "a peer that never comes is not waited for");
}

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
    assert_eq!(bench.rib.prefix_count(V4), 1, "not yet told to the FIB");
    bench.changes();
    bench.told(B);
    bench.told(C);
    assert_eq!(bench.rib.prefix_count(V4), 0);
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

#[test]
fn routes_that_were_not_meant_to_come_this_way_are_refused() {
    let mut bench = Bench::new();
    let as_a = |role| PeerConfig { role: Some(role), ..peer_config(A) };
    let sent = |bench: &Bench| bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap().paths[0].clone();
    let mut marked = announce(A, 2, &["10.0.0.0/8"]);
    marked.reach.as_mut().unwrap().attributes.only_to_customer = Some(Asn::literal(7));
    bench.hear(A, marked);
    for (role, refused) in [
        (Role::Provider, true),
        (Role::RouteServer, true),
        (Role::Peer, true), // it names another AS than the peer's
        (Role::Customer, false),
        (Role::RouteServerClient, false),
    ] {
        bench.rib.configure_peer(A, as_a(role));
        bench.settle();
        assert_eq!(sent(&bench).state == PathState::Refused(Refusal::RouteLeak), refused, "{role}");
    }
    bench.hear(A, announce(A, 2, &["10.0.0.0/8"]));
    for (role, marked) in [(Role::Customer, true), (Role::Peer, true), (Role::Provider, false)] {
        bench.rib.configure_peer(A, as_a(role));
        bench.settle();
        let mark = sent(&bench).effective.unwrap().attributes.only_to_customer;
        assert_eq!(mark, marked.then_some(Asn::literal(65101)), "{role}");
    }
}

#[test]
fn another_as_of_ours_is_put_in_front_of_what_the_peer_sends() {
    let mut bench = Bench::new();
    let alias = |prepend_received| {
        let alias = Some(Alias { asn: Asn::literal(65009), prepend_received, keep_own: true });
        PeerConfig { alias, ..peer_config(A) }
    };
    let path = |bench: &Bench| {
        let route = bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap();
        route.paths[0].effective.as_ref().map(|attrs| attrs.attributes.as_path.to_string())
    };
    bench.hear(A, announce(A, 2, &["10.0.0.0/8"]));
    let plain = path(&bench).unwrap();
    bench.rib.configure_peer(A, alias(true));
    bench.settle();
    assert_eq!(path(&bench), Some(format!("65009 {plain}")));
    bench.rib.configure_peer(A, alias(false));
    bench.settle();
    assert_eq!(path(&bench), Some(plain));
    let mut looped = announce(A, 2, &["10.0.0.0/8"]);
    looped.reach.as_mut().unwrap().attributes.as_path.prepend(Asn::literal(65009), 1);
    bench.hear(A, looped);
    assert_eq!(path(&bench), None, "that AS is ours, too");
}

mod validation {
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
        let clauses = vec![
            clause(10, Action::Deny, vec![Match::Rpki(ValidationState::Invalid)]),
            clause(20, Action::Permit, vec![]),
        ];
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
}

mod monitors {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// What a station believes, from what it was told.
    #[derive(Default, Debug, PartialEq)]
    struct Believed {
        up: BTreeSet<PeerId>,
        /// By view and prefix: the AS path.
        routes: BTreeMap<(String, Prefix), String>,
        ends: Vec<String>,
    }

    impl Believed {
        fn take(&mut self, view: String, changes: Watched, end_of_rib: bool) {
            for prefix in changes.withdrawn {
                let had = self.routes.remove(&(view.clone(), prefix));
                assert!(had.is_some(), "{view}: {prefix} is withdrawn and was never announced");
            }
            for (attrs, prefixes) in changes.announced {
                for prefix in prefixes {
                    self.routes.insert((view.clone(), prefix), attrs.attributes.as_path.to_string());
                }
            }
            if end_of_rib {
                self.ends.push(view);
            }
        }

        fn pull(&mut self, rib: &mut Rib, id: MonitorId, budget: usize) {
            while let Some(piece) = rib.poll_monitor(id, budget) {
                match piece {
                    MonitorPiece::Up(peer) => assert!(self.up.insert(peer)),
                    MonitorPiece::Down(peer) => {
                        assert!(self.up.remove(&peer));
                        self.routes.retain(|(view, _), _| !view.ends_with(&format!("{peer:?}")));
                    }
                    MonitorPiece::AdjIn { peer, pre_policy, post_policy, end_of_rib, .. } => {
                        assert!(self.up.contains(&peer));
                        self.take(format!("pre {peer:?}"), pre_policy.unwrap(), end_of_rib);
                        self.take(format!("post {peer:?}"), post_policy.unwrap(), false);
                    }
                    MonitorPiece::AdjOut { peer, changes, end_of_rib, .. } => {
                        assert!(self.up.contains(&peer));
                        self.take(format!("out {peer:?}"), changes, end_of_rib);
                    }
                    MonitorPiece::LocRib { changes, end_of_rib, .. } => self.take("loc".into(), changes, end_of_rib),
                }
            }
            assert!(!rib.owes_monitor(id));
        }
    }

    fn everything() -> MonitorConfig {
        let both = [true; 2];
        MonitorConfig { pre_policy: both, post_policy: both, loc_rib: both, adj_out: both }
    }

    /// What a station would believe that knew the table itself.
    fn truth(bench: &Bench) -> BTreeMap<(String, Prefix), String> {
        let mut all = BTreeMap::new();
        for prefix in bench.rib.walk(&Prefix::DEFAULT_V4) {
            let Some(route) = bench.rib.route(bench.now, &prefix) else { continue };
            for path in &route.paths {
                let Source::Peer(peer) = path.source else { continue };
                let gone = path.stale || matches!(path.state, PathState::Ghost | PathState::Leaving);
                if !gone {
                    all.insert((format!("pre {peer:?}"), prefix), path.received.attributes.as_path.to_string());
                    if let Some(effective) = &path.effective {
                        all.insert((format!("post {peer:?}"), prefix), effective.attributes.as_path.to_string());
                    }
                }
                if path.state == PathState::Best
                    && let Some(effective) = &path.effective
                {
                    all.insert(("loc".into(), prefix), effective.attributes.as_path.to_string());
                }
            }
            for peer in [A, B, C] {
                if let Some(attrs) = bench.rib.advertised(peer, &prefix) {
                    all.insert((format!("out {peer:?}"), prefix), attrs.attributes.as_path.to_string());
                }
            }
        }
        all
    }

    #[test]
    fn a_station_is_told_what_there_is_and_then_what_changes() {
        let mut bench = Bench::new();
        bench.hear(A, announce(A, 1, &["10.0.0.0/8", "11.0.0.0/8"]));
        let id = bench.rib.add_monitor(everything()).unwrap();
        let mut station = Believed::default();
        bench.told(C);
        station.pull(&mut bench.rib, id, 1);
        assert_eq!(station.routes, truth(&bench));
        assert_eq!(station.up, [A, B, C].into());
        assert_eq!(station.ends.iter().filter(|view| *view == "loc").count(), 2, "one for each family");
        bench.hear(B, announce(B, 3, &["10.0.0.0/8"]));
        bench.hear(A, withdraw(&["10.0.0.0/8"]));
        bench.told(C);
        station.pull(&mut bench.rib, id, 1);
        assert_eq!(station.routes, truth(&bench));
        bench.rib.peer_down(bench.now, A, Departure::Withdraw);
        bench.settle();
        bench.told(C);
        station.pull(&mut bench.rib, id, 100);
        assert_eq!(station.routes, truth(&bench));
        assert_eq!(station.up, [B, C].into());
        bench.rib.remove_monitor(id);
        bench.settle();
        assert_eq!(bench.rib.poll_monitor(id, 1), None);
    }

    proptest::proptest! {
        /// Whatever happens, and however seldom a station looks, in the end it believes what is so.
        #[test]
        fn a_station_believes_what_is_so(
            steps in proptest::collection::vec((0u8..8, 1u32..4, 0u8..6, 1usize..4), 1..60),
        ) {
            let mut bench = Bench::new();
            let id = bench.rib.add_monitor(everything()).unwrap();
            let mut station = Believed::default();
            for (what, peer, octet, budget) in steps {
                let (peer, text) = (PeerId(peer), format!("{}.0.0.0/8", 10 + octet));
                match what {
                    0..=2 => bench.hear(peer, announce(peer, 1 + u32::from(octet) % 3, &[&text])),
                    3 => bench.hear(peer, withdraw(&[&text])),
                    4 => {
                        let until = bench.now + Duration::from_secs(60);
                        let stale = Departure::Stale { until, families: FamilySet::from(V4), long_lived: [Duration::ZERO; 2] };
                        bench.rib.peer_down(bench.now, peer, if octet < 3 { stale } else { Departure::Withdraw });
                        bench.settle();
                    }
                    5 => {
                        bench.rib.peer_up(bench.now, peer, up(peer));
                        bench.settle();
                    }
                    6 => drop(bench.told(peer)),
                    _ => station.pull(&mut bench.rib, id, budget),
                }
            }
            bench.pass(Duration::from_secs(1000));
            for peer in [A, B, C] {
                bench.told(peer);
            }
            station.pull(&mut bench.rib, id, 7);
            proptest::prop_assert_eq!(&station.routes, &truth(&bench));
        }
    }
}

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

#[test]
fn long_lived_stale_paths_are_the_last_resort_and_say_so() {
    let mut bench = Bench::new();
    let long_lived = [Duration::from_secs(1000), Duration::ZERO];
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
