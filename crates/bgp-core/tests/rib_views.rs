//! What each client of a route server is told, and what a router tells internal peers of external paths, against a model
//! that asks for every peer which of all paths is the first that it may have.
//!
//! Clients with equal policy are told together, some of them fall behind, policies change, paths come and go behind the
//! best: once all have caught up, each holds what the model says, and was never told to drop what it had not been told.
//! (One that lags behind its group may be told twice that something is gone.)

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use bgp_core::{
    PeerId,
    adj_out::{OutBatch, Polled, Room},
    policy::{Action, Clause, Match, OnMatch, Policy, RouteMap},
    rib::{
        Departure, LocalAddresses, NextHopEvent, NextHopKey, PeerConfig, PeerUp, Resolved, Rib, RibConfig, Source,
        Unchanged,
    },
};
use bgp_wire::{Announcement, AsPath, Attributes, FamilySet, Negotiated, PathIds, PeerKind, Reach, Update};
use net_types::{Asn, Family, Prefix, RouterId};
use proptest::prelude::*;

const V4: Family = Family::Ipv4Unicast;
const PEERS: usize = 7;
const PREFIXES: usize = 3;
/// Three clients that are told together, one with a policy of its own.
const CLIENTS: std::ops::Range<usize> = 0..4;
const APART: usize = 3;
/// A client that tells up to two paths a prefix.
const TELLS_SEVERAL: usize = 1;
// Peer 4 is external and has no view of its own, 5 and 6 are internal.
/// The internal peer that is told of the best external path.
const BEST_EXTERNAL: usize = 5;
const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

#[derive(Clone, Debug)]
enum Step {
    Announce { peer: usize, prefix: usize, id: u32, hops: u32, via: usize },
    Withdraw { peer: usize, prefix: usize, id: u32 },
    Down { peer: usize, graceful: bool },
    Up { peer: usize },
    EndOfRib { peer: usize },
    Reachable { peer: usize, yes: bool },
    Deny { apart: bool, from: usize, yes: bool },
    Refresh { peer: usize },
    Work { budget: usize },
    PollOut { peer: usize, budget: usize },
    PollGroups { stuck: usize, budget: usize },
}

fn any_step() -> impl Strategy<Value = Step> {
    let peer = 0..PEERS;
    let id = 1u32..3;
    prop_oneof![
        8 => (peer.clone(), 0..PREFIXES, id.clone(), 1u32..4, peer.clone(), any::<bool>()).prop_map(
            |(peer, prefix, id, hops, via, own)| Step::Announce { peer, prefix, id, hops, via: if own { peer } else { via } }
        ),
        4 => (peer.clone(), 0..PREFIXES, id).prop_map(|(peer, prefix, id)| Step::Withdraw { peer, prefix, id }),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, graceful)| Step::Down { peer, graceful }),
        3 => peer.clone().prop_map(|peer| Step::Up { peer }),
        1 => peer.clone().prop_map(|peer| Step::EndOfRib { peer }),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, yes)| Step::Reachable { peer, yes }),
        3 => (any::<bool>(), peer.clone(), any::<bool>()).prop_map(|(apart, from, yes)| Step::Deny { apart, from, yes }),
        1 => peer.clone().prop_map(|peer| Step::Refresh { peer }),
        2 => (1usize..4).prop_map(|budget| Step::Work { budget }),
        2 => (peer.clone(), 1usize..3).prop_map(|(peer, budget)| Step::PollOut { peer, budget }),
        4 => (0..=PEERS, 1usize..4).prop_map(|(stuck, budget)| Step::PollGroups { stuck, budget }),
    ]
}

fn prefix(at: usize) -> Prefix {
    Prefix::new(Ipv4Addr::new(10, at as u8, 0, 0).into(), 16).unwrap()
}

fn address(peer: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 1 + peer as u8).into()
}

fn id(peer: usize) -> PeerId {
    PeerId(peer as u32 + 1)
}

fn kind(peer: usize) -> PeerKind {
    if peer < BEST_EXTERNAL { PeerKind::External } else { PeerKind::Internal }
}

/// The AS that paths of `peer` begin with.
fn first_as(peer: usize) -> Asn {
    Asn::try_from(65101 + peer as u32).unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    stale: bool,
    hops: u32,
    internal: bool,
    from: usize,
    via: usize,
}

#[derive(Default)]
struct Model {
    up: [bool; PEERS],
    unreachable: [bool; PEERS],
    /// Whose routes do not go to the clients that are told together, and whose do not go to the other.
    denied: [[bool; PEERS]; 2],
    said: BTreeMap<(usize, usize, u32), Said>,
}

/// The first AS, the length and the next hop of what was told of each prefix.
type Told = BTreeMap<Prefix, (Asn, usize, IpAddr)>;

impl Model {
    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Announce { peer, prefix, id, hops, via } if self.up[peer] => {
                let internal = kind(peer) == PeerKind::Internal;
                let said = Said { stale: false, hops: length(peer, id, hops), internal, from: peer, via };
                self.said.insert((peer, prefix, name(peer, id)), said);
            }
            Step::Withdraw { peer, prefix, id } if self.up[peer] => {
                self.said.remove(&(peer, prefix, name(peer, id)));
            }
            Step::Down { peer, graceful } => {
                let was_up = std::mem::take(&mut self.up[peer]);
                if graceful && was_up {
                    let theirs = self.said.iter().filter(|(_, said)| said.from == peer);
                    let gone: Vec<_> =
                        theirs.filter(|(key, said)| self.is_sent_back(key.1, said)).map(|it| *it.0).collect();
                    self.said.retain(|key, _| !gone.contains(key));
                    self.said.values_mut().filter(|said| said.from == peer).for_each(|said| said.stale = true);
                } else if !graceful {
                    self.said.retain(|_, said| said.from != peer);
                }
            }
            Step::Up { peer } => self.up[peer] = true,
            Step::EndOfRib { peer } if self.up[peer] => {
                self.said.retain(|_, said| said.from != peer || !said.stale);
            }
            Step::Reachable { peer, yes } => self.unreachable[peer] = !yes,
            Step::Deny { apart, from, yes } => self.denied[usize::from(apart)][from] = yes,
            _ => {}
        }
    }

    /// Whether an internal peer preferred an external path of ours to its own: it goes on sending packets here.
    fn is_sent_back(&self, prefix: usize, theirs: &Said) -> bool {
        let usable = |said: &Said| !self.unreachable[said.via];
        let ours = |said: &Said| !said.internal && !said.stale && said.hops < theirs.hops && usable(said);
        theirs.internal && usable(theirs) && self.said.iter().any(|(key, said)| key.1 == prefix && ours(said))
    }

    fn told(&self, peer: usize) -> Told {
        let told = |at: usize| {
            let mut usable: Vec<&Said> =
                self.said.iter().filter(|(key, _)| key.1 == at).map(|(_, said)| said).collect();
            usable.retain(|said| !self.unreachable[said.via]);
            usable.sort();
            let may = |said: &&&Said| said.from != peer && !(said.internal && kind(peer) == PeerKind::Internal);
            let said = match peer {
                _ if CLIENTS.contains(&peer) => {
                    let denied = &self.denied[usize::from(peer == APART)];
                    usable.iter().filter(may).find(|said| !denied[said.from])
                }
                BEST_EXTERNAL => usable.iter().find(may),
                _ => usable.first().filter(may),
            }?;
            let transparent = CLIENTS.contains(&peer) || kind(peer) == PeerKind::Internal;
            let next_hop = if transparent && said.via != peer { address(said.via) } else { OURS.into() };
            let first = if transparent { first_as(said.from) } else { Asn::literal(65001) };
            let hops = said.hops as usize + usize::from(!transparent);
            Some((prefix(at), (first, hops, next_hop)))
        };
        (0..PREFIXES).filter(|_| self.up[peer]).filter_map(told).collect()
    }
}

/// By what number a path is known: only one peer tells several.
fn name(peer: usize, id: u32) -> u32 {
    if peer == TELLS_SEVERAL { id } else { 0 }
}

/// Paths of one peer for a prefix differ in length: which of two equal ones is told is nobody's concern.
fn length(peer: usize, id: u32, hops: u32) -> u32 {
    if peer == TELLS_SEVERAL { hops + 3 * (id - 1) } else { hops }
}

fn config(peer: usize, denied: &[[bool; PEERS]; 2]) -> PeerConfig {
    let mut config = PeerConfig::new(address(peer), kind(peer), Asn::literal(65001));
    let family = &mut config.families[V4 as usize];
    if CLIENTS.contains(&peer) {
        (family.rules.unchanged, family.rules.own_view) = (Unchanged::TRANSPARENT, true);
        let clause = |sequence, action, matches| Clause {
            sequence,
            action,
            matches,
            sets: Vec::new(),
            call: None,
            on_match: OnMatch::Stop,
        };
        let denied = denied[usize::from(peer == APART)].iter().enumerate().filter(|(_, denied)| **denied);
        let deny = |(from, _)| clause(from as u32, Action::Deny, vec![Match::AsPathContains(first_as(from))]);
        let mut clauses: Vec<Clause> = denied.map(deny).collect();
        clauses.push(clause(100, Action::Permit, Vec::new()));
        let name = if peer == APART { "apart" } else { "together" };
        family.export = Policy::of_map(Some(Arc::new(RouteMap::new(name, clauses))));
    }
    family.rules.best_external = peer == BEST_EXTERNAL;
    config
}

fn up(peer: usize) -> PeerUp {
    PeerUp {
        router_id: RouterId::try_from(peer as u32 + 1).unwrap(),
        remote_as: if kind(peer) == PeerKind::Internal { Asn::literal(65001) } else { first_as(peer) },
        negotiated: Negotiated::base(kind(peer)),
        long_lived: FamilySet::EMPTY,
        long_lived_preserved: FamilySet::EMPTY,
        preserved: V4.into(),
        sends_end_of_rib: true,
        stale_limit: Duration::from_secs(3600),
        local: LocalAddresses { v4: Some(OURS), ..Default::default() },
        scope: 0,
        awaits_filters: FamilySet::EMPTY,
        shared_subnets: Vec::new(),
    }
}

struct Real {
    rib: Rib,
    now: Instant,
    told: [Told; PEERS],
    /// What each was told in its session, dropped since or not.
    ever: [BTreeSet<Prefix>; PEERS],
}

impl Real {
    /// Prefixes that are remembered once there was time to forget.
    fn remembered(&mut self) -> usize {
        while self.rib.tidy(1) {}
        self.rib.prefix_count(V4)
    }

    fn new() -> Self {
        let ours = RibConfig::new(Asn::literal(65001), RouterId::try_from(0x0a00_0001).unwrap(), 3);
        let now = Instant::now();
        let mut rib = Rib::new(ours, now);
        (0..PEERS).for_each(|peer| assert!(rib.configure_peer(id(peer), config(peer, &Default::default()))));
        Self { rib, now, told: Default::default(), ever: Default::default() }
    }

    /// `model` is before the step.
    fn apply(&mut self, model: &Model, step: &Step) {
        let now = self.now;
        match *step {
            Step::Announce { peer, prefix: at, id: number, hops, via } => {
                let hops = length(peer, number, hops);
                let path = (0..hops).map(|hop| if hop == 0 { first_as(peer) } else { Asn::literal(7) });
                let attributes = Attributes { as_path: AsPath::sequence(path), ..Attributes::default() };
                let prefixes = vec![prefix(at)];
                let announcement = Announcement { family: V4, next_hop: address(via).into(), prefixes };
                let reach = Some(Reach { attributes, announced: [announcement].into_iter().collect() });
                let ids = PathIds { announced: [vec![number]].into_iter().collect(), ..PathIds::default() };
                let path_ids = (peer == TELLS_SEVERAL).then(|| Box::new(ids));
                self.rib.update(now, id(peer), Update { reach, path_ids, ..Update::default() });
            }
            Step::Withdraw { peer, prefix: at, id: number } => {
                let ids = PathIds { withdrawn: vec![number], ..PathIds::default() };
                let path_ids = (peer == TELLS_SEVERAL).then(|| Box::new(ids));
                let withdrawn = vec![prefix(at)];
                self.rib.update(now, id(peer), Update { withdrawn, path_ids, ..Update::default() });
            }
            Step::Down { peer, graceful } => {
                let until = now + Duration::from_secs(3600);
                let long_lived = [Duration::ZERO; Family::COUNT];
                let stale = Departure::Stale { until, families: V4.into(), long_lived };
                let kept = graceful && kind(peer) == PeerKind::Internal;
                if kept {
                    self.settle(model);
                }
                self.rib.peer_down(now, id(peer), if graceful { stale } else { Departure::Withdraw });
                if kept {
                    self.settle(model); // what there is besides when it is looked at decides what is kept
                }
                self.told[peer].clear();
                self.ever[peer].clear();
            }
            Step::Up { peer } if !model.up[peer] => self.rib.peer_up(now, id(peer), up(peer)),
            Step::Up { .. } => {}
            Step::EndOfRib { peer } => {
                self.rib.update(now, id(peer), Update { end_of_rib: Some(V4), ..Update::default() });
            }
            Step::Reachable { peer, yes } => {
                self.rib.next_hop_resolved(NextHopKey { address: address(peer), scope: 0 }, yes.then_some(exit()));
            }
            Step::Deny { apart, from, yes } => {
                let mut denied = model.denied;
                denied[usize::from(apart)][from] = yes;
                CLIENTS.for_each(|peer| assert!(self.rib.configure_peer(id(peer), config(peer, &denied))));
            }
            Step::Refresh { peer } => self.rib.route_refresh(id(peer), V4),
            Step::Work { budget } => drop(self.rib.work(now, budget)),
            Step::PollOut { peer, budget } => drop(self.poll_out(peer, budget)),
            Step::PollGroups { stuck, budget } => {
                for group in self.rib.groups() {
                    let room = |peer| if peer == id(stuck) { Room::Stuck } else { Room::Ready };
                    let Polled::Batch(batch) = self.rib.poll_group(group, budget, room) else { continue };
                    (0..PEERS).for_each(|peer| self.hear(peer, batch.of(id(peer))));
                }
            }
        }
    }

    fn poll_out(&mut self, peer: usize, budget: usize) -> bool {
        let Some(batch) = self.rib.poll_out(id(peer), budget) else { return false };
        self.hear(peer, batch);
        true
    }

    fn hear(&mut self, peer: usize, batch: OutBatch) {
        for prefix in batch.withdrawn {
            assert!(self.ever[peer].contains(&prefix), "peer {peer}: {prefix} was never announced");
            self.told[peer].remove(&prefix);
        }
        for group in batch.announced {
            let path = &group.attrs.attributes.as_path;
            let (first, hops) = (path.first().expect("never empty here"), path.hop_count());
            let route = (first, hops, group.attrs.next_hop.address());
            self.ever[peer].extend(&group.prefixes);
            self.told[peer].extend(group.prefixes.into_iter().map(|prefix| (prefix, route)));
        }
    }

    /// Does what is to be done, and answers what is asked.
    fn settle(&mut self, model: &Model) {
        loop {
            while self.rib.work(self.now, 2) {}
            let Some(event) = self.rib.poll_next_hop() else { break };
            if let NextHopEvent::Wanted(key) = event {
                let peer = (0..PEERS).find(|peer| address(*peer) == key.address).unwrap();
                self.rib.next_hop_resolved(key, (!model.unreachable[peer]).then_some(exit()));
            }
        }
    }

    fn catch_up(&mut self, model: &Model) {
        self.settle(model);
        self.rib.poll_changes(usize::MAX, &mut Vec::new());
        for peer in 0..PEERS {
            while self.poll_out(peer, 2) {}
        }
    }
}

fn exit() -> Resolved {
    Resolved { ifindex: 10, gateway: None, metric: 0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn everybody_has_the_first_path_that_is_for_him(steps in proptest::collection::vec((any_step(), any::<bool>()), 1..80)) {
        let (mut model, mut real) = (Model::default(), Real::new());
        for (step, catch_up) in &steps {
            real.apply(&model, step);
            model.apply(step);
            if !catch_up {
                continue;
            }
            real.catch_up(&model);
            for peer in 0..PEERS {
                let expected = model.told(peer);
                prop_assert_eq!(&real.told[peer], &expected, "told to peer {}", peer);
                let counters = real.rib.counters(Source::Peer(id(peer)), V4).unwrap();
                prop_assert_eq!((counters.sent as usize, counters.to_send), (expected.len(), 0), "peer {}", peer);
                let held: Vec<Prefix> = real.rib.walk_advertised(id(peer), V4).collect();
                prop_assert_eq!(held, expected.keys().copied().collect::<Vec<_>>(), "peer {}", peer);
                for (prefix, (_, hops, next_hop)) in &expected {
                    let shown = real.rib.advertised(id(peer), prefix).unwrap();
                    let shown = (shown.attributes.as_path.hop_count(), shown.next_hop.address());
                    prop_assert_eq!(shown, (*hops, *next_hop), "shown of peer {}", peer);
                }
            }
        }
        (0..PEERS).for_each(|peer| real.rib.remove_peer(real.now, id(peer)));
        real.catch_up(&model);
        prop_assert_eq!((real.remembered(), real.rib.attribute_count()), (0, 0));
    }
}
