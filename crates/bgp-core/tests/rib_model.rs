//! The table against a model that is too simple to be wrong.
//!
//! Whatever happens in whatever order, and however rarely the consumers look: once they have caught up, the FIB and
//! every peer hold what the model says, and nothing is remembered that no longer matters.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use bgp_core::{
    PeerId,
    adj_out::{OutBatch, Polled, Room},
    policy::{Policy, RouteMap},
    rib::{
        Departure, LocalAddresses, NextHopEvent, NextHopKey, PathRef, PeerConfig, PeerUp, Protection, Resolved, Rib,
        RibConfig, Source,
    },
};
use bgp_wire::{Announcement, AsPath, Attributes, FamilySet, Negotiated, PeerKind, Reach, Update};
use net_types::{Asn, Family, Prefix, RouterId};
use proptest::prelude::*;

const V4: Family = Family::Ipv4Unicast;
const PEERS: usize = 4;
const PREFIXES: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Announce { peer: usize, prefixes: Vec<usize>, hops: u32 },
    Withdraw { peer: usize, prefix: usize },
    Down { peer: usize, graceful: bool },
    Up { peer: usize, preserved: bool },
    EndOfRib { peer: usize },
    Reachable { peer: usize, yes: bool },
    Deny { peer: usize, yes: bool },
    DenyOut { peer: usize, yes: bool },
    Echo { peer: usize, yes: bool },
    Refresh { peer: usize },
    MaximumPaths { paths: u8 },
    Work { budget: usize },
    PollFib { budget: usize },
    PollOut { peer: usize, budget: usize },
    PollGroups { stuck: usize, budget: usize },
}

fn any_step() -> impl Strategy<Value = Step> {
    let peer = 0..PEERS;
    prop_oneof![
        6 => (peer.clone(), proptest::collection::vec(0..PREFIXES, 1..3), 1u32..4)
            .prop_map(|(peer, prefixes, hops)| Step::Announce { peer, prefixes, hops }),
        3 => (peer.clone(), 0..PREFIXES).prop_map(|(peer, prefix)| Step::Withdraw { peer, prefix }),
        2 => (peer.clone(), any::<bool>()).prop_map(|(peer, graceful)| Step::Down { peer, graceful }),
        3 => (peer.clone(), any::<bool>()).prop_map(|(peer, preserved)| Step::Up { peer, preserved }),
        2 => peer.clone().prop_map(|peer| Step::EndOfRib { peer }),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, yes)| Step::Reachable { peer, yes }),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, yes)| Step::Deny { peer, yes }),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, yes)| Step::DenyOut { peer, yes }),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, yes)| Step::Echo { peer, yes }),
        1 => peer.clone().prop_map(|peer| Step::Refresh { peer }),
        1 => (1u8..4).prop_map(|paths| Step::MaximumPaths { paths }),
        2 => (0..=PEERS, 1usize..4).prop_map(|(stuck, budget)| Step::PollGroups { stuck, budget }),
        2 => (1usize..4).prop_map(|budget| Step::Work { budget }),
        2 => (1usize..3).prop_map(|budget| Step::PollFib { budget }),
        2 => (peer, 1usize..3).prop_map(|(peer, budget)| Step::PollOut { peer, budget }),
    ]
}

fn prefix(at: usize) -> Prefix {
    Prefix::new(Ipv4Addr::new(10, at as u8, 0, 0).into(), 16).unwrap()
}

fn address(peer: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 1 + peer as u8).into()
}

/// The first and the last peer are behind the same interface.
fn exit(peer: usize) -> Resolved {
    Resolved { ifindex: 10 + (peer % (PEERS - 1)) as u32, gateway: None, metric: 0 }
}

fn protected(peer: usize) -> bool {
    peer != 1
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Standing {
    Fresh,
    Stale,
    Ghost,
}

#[derive(Clone, Copy)]
struct Said {
    hops: u32,
    standing: Standing,
}

#[derive(Default)]
struct ModelPeer {
    up: bool,
    unreachable: bool,
    denied: bool,
    denied_out: bool,
    echo: bool,
    said: BTreeMap<usize, Said>,
}

/// What the FIB should hold for a prefix: best and those that share its packets, alternate, protection.
type Held = (Vec<usize>, Option<usize>, bool);

struct Model {
    peers: [ModelPeer; PEERS],
    maximum_paths: u8,
}

impl Default for Model {
    fn default() -> Self {
        Self { peers: Default::default(), maximum_paths: 1 }
    }
}

impl ModelPeer {
    fn demote(&mut self, from: &[Standing], to: Option<Standing>) {
        self.said.retain(|_, said| {
            if !from.contains(&said.standing) {
                return true;
            }
            said.standing = to.unwrap_or(said.standing);
            to.is_some()
        });
    }
}

impl Model {
    fn apply(&mut self, step: &Step) {
        let ghost = |peer: usize| protected(peer).then_some(Standing::Ghost);
        match step {
            Step::Announce { peer, prefixes, hops } if self.peers[*peer].up => {
                let said = Said { hops: *hops, standing: Standing::Fresh };
                self.peers[*peer].said.extend(prefixes.iter().map(|prefix| (*prefix, said)));
            }
            Step::Withdraw { peer, prefix } if self.peers[*peer].up => {
                self.peers[*peer].said.remove(prefix);
            }
            Step::Down { peer, graceful } => {
                let state = &mut self.peers[*peer];
                let all = [Standing::Fresh, Standing::Stale, Standing::Ghost];
                if std::mem::take(&mut state.up) {
                    state.demote(&all, if *graceful { Some(Standing::Stale) } else { ghost(*peer) });
                } else if !graceful {
                    state.demote(&[Standing::Stale], ghost(*peer));
                }
            }
            Step::Up { peer, preserved } if !self.peers[*peer].up => {
                self.peers[*peer].up = true;
                if !preserved {
                    self.peers[*peer].demote(&[Standing::Stale], ghost(*peer));
                }
            }
            Step::EndOfRib { peer } if self.peers[*peer].up => {
                self.peers[*peer].demote(&[Standing::Stale, Standing::Ghost], None);
            }
            Step::Reachable { peer, yes } => self.peers[*peer].unreachable = !yes,
            Step::Deny { peer, yes } => self.peers[*peer].denied = *yes,
            Step::DenyOut { peer, yes } => self.peers[*peer].denied_out = *yes,
            Step::Echo { peer, yes } => self.peers[*peer].echo = *yes,
            Step::MaximumPaths { paths } => self.maximum_paths = *paths,
            _ => {}
        }
    }

    fn held(&self, prefix: usize) -> Option<Held> {
        let mut usable = Vec::new();
        let (mut protect, mut known) = (false, false);
        for (at, peer) in self.peers.iter().enumerate() {
            let Some(said) = peer.said.get(&prefix) else { continue };
            known = true;
            if peer.denied {
                continue;
            }
            protect |= protected(at);
            if said.standing != Standing::Ghost && !peer.unreachable {
                usable.push((said.standing, said.hops, at));
            }
        }
        usable.sort_unstable(); // fresh first, then short paths, then the lower router-id
        // As fresh and as short as the best, in the order of their next hops.
        let alike = |other: &&(Standing, u32, usize)| (other.0, other.1) == (usable[0].0, usable[0].1);
        let sharing = usable.iter().take_while(alike).take(self.maximum_paths.into()).map(|(.., peer)| *peer);
        let sharing: Vec<usize> = sharing.collect();
        let others = || usable.iter().map(|(.., peer)| *peer).filter(|peer| !sharing.contains(peer));
        let apart = |peer: &usize| sharing.iter().all(|chosen| exit(*chosen) != exit(*peer));
        let alternate = others().find(apart).or(others().next());
        known.then_some((sharing, alternate, protect))
    }

    /// What `peer` should have been told: per prefix, and per path for the one that takes several, the length.
    fn told(&self, peer: usize) -> Told {
        let hops = |from: usize, prefix: usize| self.peers[from].said[&prefix].hops as usize + 1;
        let told = |at: usize| -> Vec<_> {
            let hears = |from: usize| from != peer || self.peers[peer].echo;
            let best = self.held(at).and_then(|held| held.0.first().copied()).filter(|best| hears(*best));
            if peer == SEVERAL {
                let others = (0..PEERS).filter(|from| hears(*from) && self.is_usable(*from, at));
                // Paths of peers that tell one a prefix are named after the peer, behind eight sources of our own.
                return others.map(|from| ((prefix(at), from as u32 + 9), hops(from, at))).collect();
            }
            best.map(|best| ((prefix(at), 0), hops(best, at))).into_iter().collect()
        };
        let listens = self.peers[peer].up && !self.peers[peer].denied_out;
        (0..PREFIXES).filter(|_| listens).flat_map(told).collect()
    }

    fn is_usable(&self, from: usize, prefix: usize) -> bool {
        let peer = &self.peers[from];
        let said = peer.said.get(&prefix).is_some_and(|said| said.standing != Standing::Ghost);
        said && !peer.denied && !peer.unreachable
    }
}

struct Real {
    rib: Rib,
    now: Instant,
    fib: BTreeMap<Prefix, Held>,
    told: [Told; PEERS],
    /// Denied on the way in, on the way out, and whether it hears its own.
    configured: [(bool, bool, bool); PEERS],
}

/// The length of each path, by prefix and identifier.
type Told = BTreeMap<(Prefix, u32), usize>;

/// The peer that takes several paths for a prefix.
const SEVERAL: usize = PEERS - 1;

fn id(peer: usize) -> PeerId {
    PeerId(peer as u32 + 1)
}

fn config(peer: usize, (denied, denied_out, echo): (bool, bool, bool)) -> PeerConfig {
    let mut config = PeerConfig::new(address(peer), PeerKind::External, Asn::literal(65001));
    config.echo = echo;
    config.protection = if protected(peer) { Protection::OnFailure } else { Protection::None };
    let route_map = denied.then(|| Arc::new(RouteMap::undefined("none")));
    config.families[V4 as usize].import = Policy::of_map(route_map);
    let none = Arc::new(RouteMap::undefined("none"));
    config.families[V4 as usize].export = Policy::of_map(denied_out.then_some(none));
    config
}

fn up(peer: usize, preserved: bool) -> PeerUp {
    PeerUp {
        router_id: RouterId::try_from(peer as u32 + 1).unwrap(),
        remote_as: Asn::literal(64500),
        negotiated: Negotiated {
            add_path_out: if peer == SEVERAL { V4.into() } else { FamilySet::EMPTY },
            ..Negotiated::base(PeerKind::External)
        },
        long_lived: FamilySet::EMPTY,
        long_lived_preserved: FamilySet::EMPTY,
        preserved: if preserved { FamilySet::from(V4) } else { FamilySet::EMPTY },
        sends_end_of_rib: true,
        stale_limit: Duration::from_secs(3600),
        local: LocalAddresses { v4: Some(Ipv4Addr::new(192, 0, 2, 100)), ..Default::default() },
        scope: 0,
        awaits_filters: FamilySet::EMPTY,
        shared_subnets: Vec::new(),
    }
}

impl Real {
    /// Prefixes that are remembered once there was time to forget.
    fn remembered(&mut self) -> usize {
        while self.rib.tidy(1) {}
        self.rib.prefix_count(V4)
    }

    fn new() -> Self {
        let config_of_ours = RibConfig::new(Asn::literal(65001), RouterId::try_from(0x0a00_0001).unwrap(), 3);
        let now = Instant::now();
        let mut rib = Rib::new(config_of_ours, now);
        (0..PEERS).for_each(|peer| assert!(rib.configure_peer(id(peer), config(peer, (false, false, false)))));
        Self { rib, now, fib: BTreeMap::new(), told: Default::default(), configured: Default::default() }
    }

    fn apply(&mut self, model: &Model, step: &Step) {
        let now = self.now;
        match step {
            Step::Announce { peer, prefixes, hops } => {
                let path =
                    (0..*hops).map(|hop| Asn::try_from(if hop == 0 { 65101 + *peer as u32 } else { 7 }).unwrap());
                let attributes = Attributes { as_path: AsPath::sequence(path), ..Attributes::default() };
                let prefixes = prefixes.iter().map(|at| prefix(*at)).collect();
                let announcement = Announcement { family: V4, next_hop: address(*peer).into(), prefixes };
                let reach = Reach { attributes, announced: [announcement].into_iter().collect() };
                self.rib.update(now, id(*peer), Update { reach: Some(reach), ..Update::default() });
            }
            Step::Withdraw { peer, prefix: at } => {
                self.rib.update(now, id(*peer), Update { withdrawn: vec![prefix(*at)], ..Update::default() });
            }
            Step::Down { peer, graceful: false } => {
                self.rib.peer_down(now, id(*peer), Departure::Withdraw);
                self.told[*peer].clear();
            }
            Step::Down { peer, graceful: true } => {
                let until = now + Duration::from_secs(3600);
                self.rib.peer_down(
                    now,
                    id(*peer),
                    Departure::Stale {
                        until,
                        families: FamilySet::from(V4),
                        long_lived: [Duration::ZERO; Family::COUNT],
                    },
                );
                self.told[*peer].clear();
            }
            Step::Up { peer, preserved } => {
                if !model.peers[*peer].up {
                    self.rib.peer_up(now, id(*peer), up(*peer, *preserved));
                }
            }
            Step::EndOfRib { peer } => {
                self.rib.update(now, id(*peer), Update { end_of_rib: Some(V4), ..Update::default() });
            }
            Step::Reachable { peer, yes } => {
                let key = NextHopKey { address: address(*peer), scope: 0 };
                self.rib.next_hop_resolved(key, yes.then(|| exit(*peer)));
            }
            Step::Deny { peer, yes } => {
                self.configured[*peer].0 = *yes;
                self.rib.configure_peer(id(*peer), config(*peer, self.configured[*peer]));
            }
            Step::DenyOut { peer, yes } => {
                self.configured[*peer].1 = *yes;
                self.rib.configure_peer(id(*peer), config(*peer, self.configured[*peer]));
            }
            Step::Echo { peer, yes } => {
                self.configured[*peer].2 = *yes;
                self.rib.configure_peer(id(*peer), config(*peer, self.configured[*peer]));
            }
            Step::PollGroups { stuck, budget } => {
                for group in self.rib.groups() {
                    let stuck = id(*stuck);
                    let room = |peer| if peer == stuck { Room::Stuck } else { Room::Ready };
                    let Polled::Batch(batch) = self.rib.poll_group(group, *budget, room) else { continue };
                    assert!(batch.members.len() == 1 || !batch.members.contains(&stuck));
                    (0..PEERS).for_each(|peer| self.hear(peer, batch.of(id(peer))));
                }
            }
            Step::MaximumPaths { paths } => {
                let mut config = self.rib.config().clone();
                config.decision.maximum_paths[V4 as usize].external = *paths;
                self.rib.configure(config);
            }
            Step::Refresh { peer } => self.rib.route_refresh(id(*peer), V4),
            Step::Work { budget } => {
                self.rib.work(now, *budget);
            }
            Step::PollFib { budget } => self.poll_fib(*budget),
            Step::PollOut { peer, budget } => {
                self.poll_out(*peer, *budget);
            }
        }
    }

    fn poll_fib(&mut self, budget: usize) {
        let mut changes = Vec::new();
        self.rib.poll_changes(budget, &mut changes);
        assert!(changes.len() <= budget);
        let peer = |path: &PathRef| match path.source {
            Source::Peer(id) => id.0 as usize - 1,
            Source::Local(_) => panic!("nothing is originated here"),
        };
        for change in changes {
            let sharing: Vec<usize> = change.best.iter().chain(&change.multipath).map(peer).collect();
            if sharing.is_empty() && !change.protect {
                self.fib.remove(&change.prefix);
            } else {
                self.fib.insert(change.prefix, (sharing, change.alternate.as_ref().map(peer), change.protect));
            }
        }
    }

    fn poll_out(&mut self, peer: usize, budget: usize) -> bool {
        let Some(batch) = self.rib.poll_out(id(peer), budget) else { return false };
        self.hear(peer, batch);
        true
    }

    fn hear(&mut self, peer: usize, batch: OutBatch) {
        let paths = |prefixes: Vec<Prefix>, ids: Vec<u32>| {
            assert_eq!(ids.len(), if peer == SEVERAL { prefixes.len() } else { 0 });
            prefixes.into_iter().zip(ids.into_iter().chain(std::iter::repeat(0))).collect::<Vec<_>>()
        };
        for path in paths(batch.withdrawn, batch.withdrawn_ids) {
            assert!(self.told[peer].remove(&path).is_some(), "withdrew {path:?} that it never announced");
        }
        for group in batch.announced {
            let hops = group.attrs.attributes.as_path.hop_count();
            self.told[peer].extend(paths(group.prefixes, group.ids).into_iter().map(|path| (path, hops)));
        }
    }

    fn catch_up(&mut self, model: &Model) {
        loop {
            while self.rib.work(self.now, 2) {}
            let Some(event) = self.rib.poll_next_hop() else { break };
            if let NextHopEvent::Wanted(key) = event {
                let peer = (0..PEERS).find(|peer| address(*peer) == key.address).unwrap();
                let reachable = !model.peers[peer].unreachable;
                self.rib.next_hop_resolved(key, reachable.then(|| exit(peer)));
            }
        }
        while self.rib.has_changes() {
            self.poll_fib(2);
        }
        for peer in 0..PEERS {
            while self.poll_out(peer, 2) {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn consumers_end_up_with_what_the_model_says(steps in proptest::collection::vec((any_step(), any::<bool>()), 1..60)) {
        let (mut model, mut real) = (Model::default(), Real::new());
        for (step, catch_up) in &steps {
            real.apply(&model, step);
            model.apply(step);
            if !catch_up {
                continue;
            }
            real.catch_up(&model);
            real.rib.tidy(1); // now and then, and never to the end
            for at in 0..PREFIXES {
                let expected = model.held(at).filter(|(sharing, _, protect)| !sharing.is_empty() || *protect);
                prop_assert_eq!(real.fib.get(&prefix(at)).cloned(), expected, "FIB, prefix {}", at);
            }
            for peer in 0..PEERS {
                let expected = model.told(peer);
                prop_assert_eq!(&real.told[peer], &expected, "told to peer {}", peer);
                let counters = real.rib.counters(Source::Peer(id(peer)), V4).unwrap();
                let said = &model.peers[peer].said;
                let fresh = said.values().filter(|said| said.standing == Standing::Fresh).count();
                prop_assert_eq!(counters.received as usize, fresh);
                prop_assert_eq!(counters.leftover as usize, said.len() - fresh);
                prop_assert_eq!(counters.accepted as usize, if model.peers[peer].denied { 0 } else { fresh });
                let prefixes: BTreeSet<_> = expected.keys().map(|(prefix, _)| prefix).collect();
                prop_assert_eq!(counters.sent as usize, prefixes.len());
            }
        }
        // Everybody goes: nothing is left behind.
        for peer in 0..PEERS {
            real.rib.remove_peer(real.now, id(peer));
        }
        real.catch_up(&model);
        prop_assert_eq!((real.remembered(), real.rib.attribute_count()), (0, 0));
        prop_assert!(real.fib.is_empty() && real.rib.next_hops().is_empty());
    }
}
