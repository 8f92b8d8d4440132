//! The neighbors that are configured, and what everybody who sees one of them fail has to know about it.
//!
//! Detectors run on threads of their own (BFD, the kernel monitor, sessions' tasks); each looks up here whom a fault
//! concerns and reports it to the FIB thread without asking anybody else.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use bgp_core::{
    PeerId,
    rib::LocalAddresses,
    session::{DownReason, Phase},
};
use bytes::Bytes;
use fib::{PathState, Scope};
use net_types::IfName;
use netwatch::{Address, View};
use tokio::sync::mpsc;

use super::exits::Exits;
use crate::{
    failover::Cause,
    fib_thread::{Fault, FibHandle, Restored},
    peer::{Link, PeerCommand, PeerEnds, PeerFault, PeerHandle, PeerHost, PeerStatus},
    tap::{self, Happened, Kind, Seen, Tap},
    vrrp::Signs,
};

/// After this time a neighbor that marks no end of its routes is taken to have sent them all.
const UNMARKED: Duration = Duration::from_secs(5);

/// A neighbor.
#[derive(Clone)]
pub struct Entry {
    /// Its task.
    pub handle: Arc<PeerHandle>,
    /// The interface that it was last reached through, by number and name.
    pub interface: Option<(u32, IfName)>,
    /// It came by itself, from a listen range: it is forgotten when it goes.
    pub dynamic: bool,
    /// That interface is a tunnel of ipsecd's.
    pub through_tunnel: bool,
    /// Its session outlives the loss of its link: as in FRR one that may go over several hops, since there may be another
    /// way; any with `no bgp fast-external-failover`, none with `bgp fast-convergence`.
    pub rides_out_link_loss: bool,
    /// `description`
    pub description: Option<String>,
    /// What is known of its session beside its state.
    pub signs: Arc<Signs>,
}

/// All of them.
#[derive(Clone, Default)]
pub struct Neighbors {
    /// What happens to them, for those who keep a record of it.
    pub tap: Tap,
    /// What else is behind the interfaces that they are behind.
    pub exits: Exits,
    inner: Arc<RwLock<BTreeMap<IpAddr, Entry>>>,
}

impl Neighbors {
    /// Enters one, or what changed about it.
    pub fn insert(&self, address: IpAddr, entry: Entry) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).insert(address, entry);
    }

    /// Takes one out.
    pub fn remove(&self, address: &IpAddr) -> Option<Entry> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).remove(address)
    }

    /// One of them.
    pub fn get(&self, address: &IpAddr) -> Option<Entry> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).get(address).cloned()
    }

    /// All of them, in order of address.
    pub fn all(&self) -> Vec<(IpAddr, Entry)> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.iter().map(|(address, entry)| (*address, entry.clone())).collect()
    }

    /// The one with this number.
    pub fn by_id(&self, id: PeerId) -> Option<(IpAddr, Entry)> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let found = inner.iter().find(|(_, entry)| entry.handle.id() == id);
        found.map(|(address, entry)| (*address, entry.clone()))
    }

    /// Those that are reached through an interface.
    pub fn through(&self, ifindex: u32) -> Vec<(IpAddr, Entry)> {
        let through = |entry: &Entry| entry.interface.as_ref().is_some_and(|(index, _)| *index == ifindex);
        self.all().into_iter().filter(|(_, entry)| through(entry)).collect()
    }

    /// What `show bgp neighbors` starts from.
    pub fn statuses(&self) -> Vec<(IpAddr, Entry, PeerStatus)> {
        let all = self.all().into_iter();
        all.map(|(address, entry)| (address, entry.clone(), entry.handle.status())).collect()
    }

    /// Where neighbors are reached changed: `locate` says where each is, or `None` where it is not known now, in which
    /// case the last answer stays.
    pub fn relocate(&self, locate: impl Fn(&IpAddr) -> Option<(u32, IfName)>) -> bool {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = false;
        for (address, entry) in inner.iter_mut() {
            if let Some(interface) = locate(address)
                && entry.interface.as_ref() != Some(&interface)
            {
                entry.interface = Some(interface);
                changed = true;
            }
        }
        changed
    }

    /// The path over `ifindex` is gone: reports it, and ends the sessions that ran over it once traffic has moved.
    /// With neither a neighbor nor a static route behind it only the words are passed on.
    pub fn path_lost(
        &self,
        fib: &FibHandle,
        ifindex: u32,
        cause: Cause,
        detail: &str,
        word: (Scope, PathState),
        at: (Instant, SystemTime),
    ) {
        let mut behind = self.through(ifindex);
        behind.retain(|(_, entry)| entry.handle.status().phase == Phase::Established);
        let mut fault = Fault::now(cause, detail, vec![word]);
        (fault.at, fault.at_wall) = at;
        match (behind.first(), self.exits.over(ifindex)) {
            (Some((first, entry)), _) => fault = fault.peer(*first).over(entry.interface.clone()),
            (None, Some(name)) => fault.interface = Some((ifindex, name)),
            (None, None) => return fib.words(fault.words),
        }
        let ends = word.1 == PathState::Dead;
        let ridden_out = |entry: &Entry| cause == Cause::LinkDown && entry.rides_out_link_loss;
        let ending = behind.into_iter().filter(|(_, entry)| !ridden_out(entry));
        let handles: Vec<_> = ending.map(|(_, entry)| entry.handle).collect();
        fib.fault(fault.then(move || {
            if ends {
                handles.iter().for_each(|handle| handle.send(PeerCommand::PathLost));
            }
        }));
    }

    /// The path over `ifindex` is whole again: sessions that outlived its loss are in use again.
    pub fn path_restored(&self, fib: &FibHandle, ifindex: u32) {
        for (address, entry) in self.through(ifindex) {
            if entry.handle.status().phase == Phase::Established {
                fib.restored(Restored::Peer(address));
            }
        }
    }

    /// The path over `ifindex` is back as far as it reports: whoever waits to connect should not.
    pub fn path_back(&self, ifindex: u32) {
        for (_, entry) in self.through(ifindex) {
            entry.handle.send(PeerCommand::PathUp);
        }
    }
}

/// What sessions' tasks ask of the daemon.
pub struct Host {
    /// Where faults go.
    pub fib: FibHandle,
    /// Whom they concern.
    pub neighbors: Neighbors,
    /// Links and addresses.
    pub links: Arc<RwLock<View>>,
    /// Where it is told whose session has ended.
    pub left: mpsc::Sender<PeerId>,
    /// For what comes later.
    pub runtime: tokio::runtime::Handle,
}

impl Host {
    fn with_links<T>(&self, question: impl FnOnce(&View) -> T) -> T {
        question(&self.links.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PeerHost for Host {
    fn wants_messages(&self) -> bool {
        self.neighbors.tap.wants_messages()
    }

    fn received(&self, peer: &PeerEnds, four_octet_as: bool, message: Bytes) {
        let session = tap::session(peer.address, peer.local, (peer.asn, peer.local_asn));
        let what = Happened::Received { four_octet_as, message };
        self.neighbors.tap.seen(Seen { at: SystemTime::now(), session, what });
    }

    fn changed(&self, peer: &PeerEnds, from: Phase, to: Phase) {
        if from == Phase::Established || to == Phase::Established {
            self.neighbors.tap.event(Kind::Session, peer.address, format!("{from} to {to}"));
        }
        if self.neighbors.tap.wants_messages() {
            let session = tap::session(peer.address, peer.local, (peer.asn, peer.local_asn));
            let what = Happened::Changed { from: number(from), to: number(to) };
            self.neighbors.tap.seen(Seen { at: SystemTime::now(), session, what });
        }
    }

    fn faulted(&self, fault: &PeerFault) {
        let Some((address, entry)) = self.neighbors.by_id(fault.peer) else { return };
        let cause = match fault.reason {
            DownReason::BfdDown => Cause::BfdDown,
            DownReason::HoldExpired | DownReason::SendHoldExpired => Cause::HoldTimer,
            DownReason::PathLost if entry.through_tunnel => Cause::TunnelDown,
            DownReason::PathLost => Cause::LinkDown,
            DownReason::Stopped(_) | DownReason::Reset(_) | DownReason::Left => Cause::Configuration,
            _ => Cause::SessionClosed,
        };
        let words = vec![fault.word()];
        let mut report =
            Fault::at(fault.at, cause, fault.reason.to_string(), words).peer(address).over(entry.interface);
        report.at_wall = fault.wall;
        self.fib.fault(report);
    }

    fn ended(&self, peer: PeerId, kept_for: Option<Duration>) {
        if !self.neighbors.by_id(peer).is_some_and(|(_, entry)| entry.dynamic) {
            return;
        }
        let left = self.left.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(kept_for.unwrap_or_default()).await;
            // Without a receiver the daemon is ending, and nobody is forgotten any more.
            let _ = left.send(peer).await;
        });
    }

    fn established(&self, peer: PeerId, marked: bool) {
        self.fib.returning(peer);
        if marked {
            return;
        }
        let (fib, neighbors) = (self.fib.clone(), self.neighbors.clone());
        self.runtime.spawn(async move {
            let since = |neighbors: &Neighbors| {
                neighbors
                    .by_id(peer)
                    .and_then(|(address, entry)| Some((address, entry.handle.status().established_at?)))
            };
            let before = since(&neighbors);
            tokio::time::sleep(UNMARKED).await;
            if let Some((address, _)) = before
                && since(&neighbors) == before
            {
                fib.words(vec![(Scope::Source(peer.0), PathState::Up)]);
                fib.restored(Restored::Peer(address));
            }
        });
    }

    fn link(&self, local: SocketAddr, _remote: SocketAddr) -> Link {
        self.with_links(|view| {
            let Some(own) = view.addresses().find(|address| address.local == local.ip()) else {
                return Link { addresses: addresses_of(local.ip(), std::iter::empty()), ..Link::default() };
            };
            let lasting = |address: &&Address| !address.is_virtual || address.local == own.local;
            let all: Vec<_> = view.addresses_of(own.ifindex).filter(lasting).collect();
            Link {
                addresses: addresses_of(local.ip(), all.iter().map(|address| address.local)),
                ifindex: own.ifindex,
                subnets: all.iter().filter_map(|address| address.connected()).collect(),
            }
        })
    }

    fn source(&self, interface: &IfName, toward: IpAddr) -> Option<IpAddr> {
        self.with_links(|view| {
            let link = view.link_named(interface.as_str())?;
            view.source_toward(link.ifindex, toward)
        })
    }
}

/// As MRT numbers the states of a session (RFC 6396 §4.4.1).
fn number(phase: Phase) -> u16 {
    match phase {
        Phase::Idle => 1,
        Phase::Connect => 2,
        Phase::Active => 3,
        Phase::OpenSent => 4,
        Phase::OpenConfirm => 5,
        Phase::Established => 6,
    }
}

/// What to name as next hop: the session's own address, and for the other family the first of the same interface.
fn addresses_of(session: IpAddr, others: impl Iterator<Item = IpAddr>) -> LocalAddresses {
    let mut found = LocalAddresses::default();
    for address in std::iter::once(session).chain(others) {
        match address {
            IpAddr::V4(v4) => {
                found.v4.get_or_insert(v4);
            }
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                found.link_local.get_or_insert(v6);
            }
            IpAddr::V6(v6) => {
                found.v6.get_or_insert(v6);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sessions_own_address_is_preferred_as_next_hop() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let others = ["10.0.0.1", "fe80::1", "fd00::1", "fd00::2"].map(address);
        let found = addresses_of(address("169.254.1.2"), others.into_iter());
        assert_eq!(found.v4, Some("169.254.1.2".parse().unwrap()));
        assert_eq!(found.v6, Some("fd00::1".parse().unwrap()));
        assert_eq!(found.link_local, Some("fe80::1".parse().unwrap()));
    }
}
