//! What the table promises, said as an operator would.

mod announcements;
mod dampening;
mod monitors;
mod multipath;
mod next_hops;
mod outbound_filter;
mod placement;
mod policy;
mod protection;
mod restart;
mod several_paths;
mod table;
mod told;
mod validation;
mod views;

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
        awaits_filters: FamilySet::EMPTY,
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
        let config = RibConfig::new(Asn::literal(65001), RouterId::try_from(0x0a00_0001).unwrap(), 1);
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

    /// Prefixes that are remembered once there was time to forget.
    fn remembered(&mut self) -> usize {
        while self.rib.tidy(1) {}
        self.rib.prefix_count(V4)
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
