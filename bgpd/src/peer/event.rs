//! What a neighbor's task tells the rest of the daemon.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bgp_core::{
    PeerId,
    rib::LocalAddresses,
    session::{DownReason, Phase, Retain, Terms},
};
use bgp_wire::{RouteRefresh, Update};
use bytes::Bytes;
use fib::{PathState, Scope};
use net_types::{Asn, IfName, Prefix};

use super::RouteQueue;

/// For the routing table, in order. A session's events lie between `Up` and `Down`.
#[derive(Clone, Debug)]
pub enum PeerEvent {
    /// A session came up.
    Up(Box<SessionUp>),
    /// The neighbor's routes.
    Routes {
        /// Who.
        peer: PeerId,
        /// What it says, in order.
        updates: Vec<Update>,
    },
    /// The neighbor wants our routes again, or demarcates its own (RFC 2918, RFC 7313).
    Refresh {
        /// Who.
        peer: PeerId,
        /// What it says.
        refresh: RouteRefresh,
    },
    /// The session's queue, once refused as full, has room again.
    Writable {
        /// Who.
        peer: PeerId,
    },
    /// The session ended.
    Down {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: DownReason,
        /// What is kept of its routes.
        retain: Option<Retain>,
        /// When.
        at: Instant,
    },
}

impl PeerEvent {
    /// Who it is about.
    pub fn peer(&self) -> PeerId {
        match self {
            Self::Up(up) => up.peer,
            Self::Routes { peer, .. }
            | Self::Refresh { peer, .. }
            | Self::Writable { peer }
            | Self::Down { peer, .. } => *peer,
        }
    }
}

/// A session that came up.
#[derive(Clone, Debug)]
pub struct SessionUp {
    /// With whom.
    pub peer: PeerId,
    /// What was agreed.
    pub terms: Terms,
    /// Our end of its connection.
    pub local: SocketAddr,
    /// The neighbor's end.
    pub remote: SocketAddr,
    /// The link that it runs over; our end of the connection is among its addresses.
    pub link: Link,
    /// Where the messages for the neighbor go.
    pub queue: RouteQueue,
    /// When.
    pub at: Instant,
}

/// The link that a session runs over, as far as next hops depend on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// Our addresses on it, to name as next hops.
    pub addresses: LocalAddresses,
    /// Its interface; 0 if there is none.
    pub ifindex: u32,
    /// The subnets on it.
    pub subnets: Vec<Prefix>,
}

impl Link {
    /// The address of the session is one of ours, whether the daemon knows the link or not.
    pub(super) fn with(mut self, local: IpAddr) -> Self {
        let LocalAddresses { v4, v6, link_local } = &mut self.addresses;
        match local {
            IpAddr::V4(local) => *v4 = v4.or(Some(local)),
            IpAddr::V6(local) if local.is_unicast_link_local() => *link_local = link_local.or(Some(local)),
            IpAddr::V6(local) => *v6 = v6.or(Some(local)),
        }
        self
    }
}

/// An established session was lost: the fastest news there is of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFault {
    /// With whom.
    pub peer: PeerId,
    /// Why.
    pub reason: DownReason,
    /// Its routes are kept for a while (RFC 4724): the path is the last resort, not dead.
    pub retained: bool,
    /// When, for measuring.
    pub at: Instant,
    /// When, for the log.
    pub wall: SystemTime,
}

impl PeerFault {
    /// What the forwarding table is told of whatever was learned from the peer.
    pub fn word(&self) -> (Scope, PathState) {
        (Scope::Source(self.peer.0), if self.retained { PathState::LastResort } else { PathState::Dead })
    }
}

/// Both ends of a session, for a record of what happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerEnds {
    /// The neighbor.
    pub address: IpAddr,
    /// Its AS, where that is known.
    pub asn: Option<Asn>,
    /// Our address, while there is a connection.
    pub local: Option<IpAddr>,
    /// Our AS.
    pub local_asn: Asn,
}

/// What a neighbor's task needs of the daemon around it. No call may block.
pub trait PeerHost: Send + Sync + 'static {
    /// An established session was lost. Called before the state machine goes on, for the FIB to move traffic.
    fn faulted(&self, fault: &PeerFault);

    /// A session, or an attempt at one, ended, and what is kept of its routes is kept for this long.
    fn ended(&self, _peer: PeerId, _kept_for: Option<Duration>) {}

    /// A session was established. `marked`: the neighbor will mark the end of its routes.
    fn established(&self, peer: PeerId, marked: bool);

    /// The link that a connection from `local` to `remote` runs over.
    fn link(&self, local: SocketAddr, remote: SocketAddr) -> Link;

    /// The address of `interface` that goes best with a neighbor at `toward` (`update-source INTERFACE`).
    fn source(&self, interface: &IfName, toward: IpAddr) -> Option<IpAddr>;

    /// Whether somebody wants to see every message.
    fn wants_messages(&self) -> bool {
        false
    }

    /// The neighbor sent a whole message; called only while [messages are wanted](Self::wants_messages).
    fn received(&self, _: &PeerEnds, _four_octet_as: bool, _message: Bytes) {}

    /// The session went from one state to another.
    fn changed(&self, _: &PeerEnds, _from: Phase, _to: Phase) {}
}

impl<H: PeerHost> PeerHost for Arc<H> {
    fn faulted(&self, fault: &PeerFault) {
        (**self).faulted(fault);
    }

    fn ended(&self, peer: PeerId, kept_for: Option<Duration>) {
        (**self).ended(peer, kept_for);
    }

    fn established(&self, peer: PeerId, marked: bool) {
        (**self).established(peer, marked);
    }

    fn link(&self, local: SocketAddr, remote: SocketAddr) -> Link {
        (**self).link(local, remote)
    }

    fn source(&self, interface: &IfName, toward: IpAddr) -> Option<IpAddr> {
        (**self).source(interface, toward)
    }

    fn wants_messages(&self) -> bool {
        (**self).wants_messages()
    }

    fn received(&self, peer: &PeerEnds, four_octet_as: bool, message: Bytes) {
        (**self).received(peer, four_octet_as, message);
    }

    fn changed(&self, peer: &PeerEnds, from: Phase, to: Phase) {
        (**self).changed(peer, from, to);
    }
}
