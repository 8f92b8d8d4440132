//! The sources of routes: peers, and what this router originates itself.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use bgp_wire::{FamilySet, Negotiated, NextHop, PeerKind, Role};
use net_types::{Asn, Family, Prefix, RouterId};

use super::{Alias, ConditionalAdvertisement, DefaultOriginate, Rules, id_set::IdSet, outbound_filter::OutboundFilter};
use crate::{
    PeerId,
    adj_out::Member,
    decision::SourceKind,
    policy::{Changes, Policy},
};

/// Why this router originates a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LocalSource {
    /// A `network` statement.
    Network,
    /// `redistribute connected`
    Connected,
    /// `redistribute static`
    Static,
    /// `redistribute kernel`
    Kernel,
    /// `redistribute ipsec`
    Ipsec,
    /// An `aggregate-address` statement.
    Aggregate,
    /// The default route that peers with `default-originate` are told; never used here.
    Default,
    /// A VRF that exports its routes to a VPN.
    Vrf,
}

impl LocalSource {
    pub(crate) const ALL: [Self; 8] = [
        Self::Network,
        Self::Connected,
        Self::Static,
        Self::Kernel,
        Self::Ipsec,
        Self::Aggregate,
        Self::Default,
        Self::Vrf,
    ];

    pub(crate) fn slot(self) -> Slot {
        Slot(self as u16)
    }
}

/// Where a path came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// From ourselves.
    Local(LocalSource),
    /// From a neighbor.
    Peer(PeerId),
}

/// Index of a source. The first ones are [`LocalSource`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) u16);

/// Whether prefixes learned from a peer may be forwarded by some other, unencrypted route once it is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protection {
    /// They may: the peer is not behind a tunnel, or `no bgp fail-closed`.
    #[default]
    None,
    /// Of an internal peer: not what it says came through a tunnel, as with [`OnFailure`](Self::OnFailure).
    AsTold,
    /// Not when the session died; a withdrawal by the living peer takes the route away.
    OnFailure,
    /// Not even when the peer withdraws them (`bgp fail-closed withdrawn`).
    Always,
}

/// When to name ourselves as next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextHopSelf {
    /// As RFC 4271 §5.1.3 has it: to external peers off the next hop's subnet.
    #[default]
    WhereRequired,
    /// Also to internal peers and to external ones on the next hop's subnet, but not for routes that are reflected
    /// (`next-hop-self`).
    External,
    /// For those, too (`next-hop-self force`).
    Always,
}

/// `maximum-prefix`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaximumPrefix {
    /// Most prefixes accepted.
    pub limit: u32,
    /// Percentage of it at which to warn.
    pub threshold: u8,
    /// Only warn.
    pub warning_only: bool,
    /// Count what policy refused as well.
    pub force: bool,
}

/// Which paths a peer is told that takes several for a prefix (RFC 7911).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddPaths {
    /// Every usable one (`addpath-tx-all-paths`).
    #[default]
    All,
    /// The best of each neighboring AS (`addpath-tx-bestpath-per-AS`).
    BestPerNeighbor,
}

/// What is configured for one family of one peer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FamilyConfig {
    /// For routes from the peer.
    pub import: Policy,
    /// For routes to the peer.
    pub export: Policy,
    /// `next-hop-self`
    pub next_hop_self: NextHopSelf,
    /// `maximum-prefix`
    pub maximum_prefix: Option<MaximumPrefix>,
    /// Weight of its routes, unless policy says otherwise.
    pub weight: Option<u32>,
    /// `unsuppress-map`: routes that an aggregate suppresses and that this permits are announced all the same.
    pub unsuppress: Option<Policy>,
    /// `default-originate`
    pub default_originate: Option<DefaultOriginate>,
    /// `advertise-map`
    pub advertise: Option<ConditionalAdvertisement>,
    /// `maximum-prefix-out`: no more prefixes than this are announced.
    pub maximum_out: Option<u32>,
    /// Which paths it is told, where its session carries several for a prefix.
    pub add_path: Option<AddPaths>,
    /// All else that is configured about its routes.
    pub rules: Rules,
}

/// What the table has to know of a configured peer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerConfig {
    /// Its address.
    pub address: IpAddr,
    /// Whether it is in our AS.
    pub kind: PeerKind,
    /// Our AS towards it.
    pub local_as: Asn,
    /// `local-as`, where it takes us for a member of another AS than that.
    pub alias: Option<Alias>,
    /// Routes that have its AS on their path are not sent to it (`sender-as-path-loop-detection`).
    pub loop_check: bool,
    /// Its own routes are sent to it, too, where they are the best. It sees the loop and discards them; FRR does so with every
    /// neighbor that is not `solo`, and counts them as sent.
    pub echo: bool,
    /// The least time between the ends of two bursts of UPDATEs to it (MinRouteAdvertisementIntervalTimer,
    /// RFC 4271 §9.2.1.1); kept by whoever calls
    /// [`Rib::poll_group`](super::Rib::poll_group).
    pub advertisement_interval: Duration,
    /// What we are to it: decides which routes may pass (`local-role`, RFC 9234 §5).
    pub role: Option<Role>,
    /// Whether its prefixes are blackholed rather than leaked when it fails.
    pub protection: Protection,
    /// Indexed by `Family as usize`.
    pub families: [FamilyConfig; Family::COUNT],
}

impl PeerConfig {
    /// A peer with everything optional left out.
    pub fn new(address: IpAddr, kind: PeerKind, local_as: Asn) -> Self {
        let (protection, families) = Default::default();
        Self {
            address,
            kind,
            local_as,
            alias: None,
            loop_check: false,
            echo: false,
            advertisement_interval: Duration::ZERO,
            role: None,
            protection,
            families,
        }
    }

    pub(crate) fn kind(&self) -> SourceKind {
        match self.kind {
            PeerKind::Internal => SourceKind::Internal,
            PeerKind::Confederation => SourceKind::Confederation,
            PeerKind::External => SourceKind::External,
        }
    }
}

/// Our addresses on the session, to name as next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LocalAddresses {
    /// For IPv4 prefixes.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6 prefixes.
    pub v6: Option<Ipv6Addr>,
    /// Beside it, to a peer on the same link (RFC 2545 §3).
    pub link_local: Option<Ipv6Addr>,
}

impl LocalAddresses {
    pub(crate) fn next_hop(&self, family: Family) -> Option<NextHop> {
        match family {
            Family::Ipv4Unicast => self.v4.map(NextHop::V4),
            Family::Ipv6Unicast => self.ipv6(),
            // RFC 4364 §4.3.2, RFC 4659 §3.2.1: of the network between the routers, whatever the routes are.
            Family::Ipv4Vpn | Family::Ipv6Vpn => self.v4.map(NextHop::V4).or_else(|| self.ipv6()),
        }
    }

    /// The IPv6 next hop, of whatever family the routes are.
    pub(crate) fn ipv6(&self) -> Option<NextHop> {
        match (self.v6, self.link_local) {
            (Some(global), link_local) => Some(NextHop::V6 { global, link_local }),
            (None, Some(link_local)) => Some(NextHop::V6 { global: link_local, link_local: Some(link_local) }),
            (None, None) => None,
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4 == Some(address),
            IpAddr::V6(address) => self.v6 == Some(address) || self.link_local == Some(address),
        }
    }
}

/// What a session that came up settled.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerUp {
    /// The peer's BGP identifier.
    pub router_id: RouterId,
    /// The peer's AS.
    pub remote_as: Asn,
    /// How messages to it are written, and which families both sides carry.
    pub negotiated: Negotiated,
    /// Families whose forwarding state the peer kept over its restart (RFC 4724 §3, F bit).
    pub preserved: FamilySet,
    /// Families that it speaks long-lived graceful restart for: only such peers are told of long-lived stale routes
    /// (RFC 9494 §4.3).
    pub long_lived: FamilySet,
    /// Those of them whose forwarding state it kept.
    pub long_lived_preserved: FamilySet,
    /// The peer marks the end of its initial routes (it negotiated graceful restart).
    pub sends_end_of_rib: bool,
    /// How long what an earlier session left may wait for that mark.
    pub stale_limit: Duration,
    /// Our addresses.
    pub local: LocalAddresses,
    /// The interface of the session, for link-local next hops; 0 if it has none.
    pub scope: u32,
    /// Families of which it sends filters (RFC 5291): its first request for routes is waited for.
    pub awaits_filters: FamilySet,
    /// Subnets that the peer is on, for third-party next hops (RFC 4271 §5.1.3).
    pub shared_subnets: Vec<Prefix>,
}

/// What becomes of a peer's paths when its session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// They are gone, now.
    Withdraw,
    /// The peer restarts gracefully: those of `families` serve as a last resort until `until` (RFC 4724 §4.2).
    Stale {
        /// When to stop waiting for the peer.
        until: Instant,
        /// The families that it negotiated graceful restart for.
        families: FamilySet,
        /// How long those of a family may serve after that, indexed by `Family as usize` (RFC 9494 §4.2); zero is not at all.
        long_lived: [Duration; Family::COUNT],
    },
}

/// What paths are worth that were learned in an earlier epoch of their source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Retain {
    /// Nothing: they go as soon as they are visited.
    #[default]
    Nothing,
    /// Not usable, but their prefixes stay protected: whatever had no other path is blackholed.
    Ghosts,
    /// Usable when nothing else is.
    Stale,
}

/// What one path is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Fresh,
    Stale,
    Ghost,
    Gone,
}

/// The epoch of paths that a living peer withdrew and whose prefixes stay protected all the same. No session has it.
pub(crate) const GHOST_EPOCH: u16 = u16::MAX;

/// The epoch of paths that are kept from a session for the sake of what they protect, and not used whatever others are. No
/// session has it, either.
pub(crate) const UNUSED_EPOCH: u16 = GHOST_EPOCH - 1;

/// A pass over a peer's Adj-RIB-In.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Visit {
    /// The next entry to look at.
    pub(crate) cursor: u32,
    /// Policy changed: evaluate it again.
    pub(crate) reimport: bool,
    /// The operator cleared the peer: ghosts go too.
    pub(crate) exorcise: bool,
    /// The session ended: say so when done.
    pub(crate) departed: bool,
}

/// One family of a source.
#[derive(Debug, Default)]
pub(crate) struct FamilyState {
    /// Negotiated, on a session that is up.
    pub(crate) active: bool,
    /// Entries with a path from here, of whatever epoch.
    pub(crate) adj_in: IdSet,
    /// Paths from here, of whatever epoch: more than entries where it tells several a prefix.
    pub(crate) paths: u32,
    /// Paths of the present epoch, and how many of them policy let in.
    pub(crate) received: u32,
    pub(crate) accepted: u32,
    pub(crate) warned: bool,
    pub(crate) exceeded: bool,
    /// What paths of earlier epochs are worth, from `retain_from` on; those before are gone, though perhaps not
    /// visited yet. Set by [`Peer::retain`] only.
    pub(crate) retain: Retain,
    pub(crate) retain_from: u16,
    /// When `retain` changes by itself, and to what.
    pub(crate) retain_until: Option<(Instant, Retain)>,
    /// How long they go on after that as long-lived stale paths (RFC 9494).
    pub(crate) long_lived_for: Duration,
    /// That is what they are now.
    pub(crate) long_lived: bool,
    pub(crate) visit: Option<Visit>,
    /// Its Adj-RIB-Out: the group that it is told with, while a session carries the family.
    pub(crate) member: Option<Member>,
    /// As conditions are met now: the default route is told, changed like this.
    pub(crate) default_route: Option<(Policy, Changes)>,
    /// As conditions are met now: routes that this permits are not told.
    pub(crate) withheld: Option<Policy>,
    /// What it asked us to keep back, on this session.
    pub(crate) filter: OutboundFilter,
}

/// A source of paths.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) source: Source,
    pub(crate) kind: SourceKind,
    pub(crate) config: PeerConfig,
    /// Counts sessions; see `Path::epoch`.
    pub(crate) epoch: u16,
    pub(crate) router_id: u32,
    /// Its AS, once it has said it.
    pub(crate) remote_as: Option<Asn>,
    pub(crate) up: Option<PeerUp>,
    pub(crate) families: [FamilyState; Family::COUNT],
    /// No longer configured; its slot is free once its paths are.
    pub(crate) removed: bool,
}

impl Peer {
    pub(crate) fn new(source: Source, config: PeerConfig) -> Self {
        let kind = match source {
            Source::Local(_) => SourceKind::Local,
            Source::Peer(_) => config.kind(),
        };
        let families = Default::default();
        Self { source, kind, config, epoch: 0, router_id: 0, remote_as: None, up: None, families, removed: false }
    }

    /// What a path of `epoch` from here is worth.
    pub(crate) fn standing(&self, family: Family, epoch: u16) -> Standing {
        if epoch == self.epoch {
            return Standing::Fresh;
        }
        // With what a living peer takes back goes what it does not announce again after a restart.
        let taken_back = match self.config.protection {
            Protection::Always if !self.removed => Standing::Ghost,
            _ => Standing::Gone,
        };
        let state = &self.families[family as usize];
        match state.retain {
            _ if epoch == GHOST_EPOCH || epoch < state.retain_from => taken_back,
            Retain::Nothing => taken_back,
            Retain::Ghosts => Standing::Ghost,
            Retain::Stale if epoch == UNUSED_EPOCH => Standing::Ghost,
            Retain::Stale => Standing::Stale,
        }
    }

    /// Says what paths of earlier epochs are worth from now on. What is gone once stays gone, whatever follows.
    pub(crate) fn retain(&mut self, family: Family, retain: Retain) {
        let state = &mut self.families[family as usize];
        (state.retain, state.retain_until) = (retain, None);
        (state.long_lived_for, state.long_lived) = (Duration::ZERO, false);
        if retain == Retain::Nothing {
            state.retain_from = self.epoch;
        }
    }

    /// What remains of paths that are neither fresh nor kept in use.
    pub(crate) fn remains(&self) -> Retain {
        if self.config.protection == Protection::None || self.removed { Retain::Nothing } else { Retain::Ghosts }
    }

    /// Whether all that it announces comes through a tunnel of ours, and is protected.
    pub(crate) fn has_tunnel(&self) -> bool {
        matches!(self.config.protection, Protection::OnFailure | Protection::Always)
    }

    /// Whether `address` is ours on the session.
    pub(crate) fn is_ourselves(&self, address: IpAddr) -> bool {
        self.up.as_ref().is_some_and(|up| up.local.contains(address))
    }

    /// Starts, or starts over, the visit of everything learned from here.
    pub(crate) fn visit(&mut self, family: Family, why: Visit) {
        let visit = self.families[family as usize].visit.get_or_insert(why);
        *visit = Visit {
            cursor: 0,
            reimport: visit.reimport || why.reimport,
            exorcise: visit.exorcise || why.exorcise,
            departed: visit.departed || why.departed,
        };
    }
}
