//! The routing table: what every peer said, what policy made of it, which paths are best, and who is to be told.
//!
//! One value, [`Rib`], owned by one thread. Everything that comes in is applied at once to the entries it names; what
//! goes out is *pulled*: [`Rib::poll_changes`] for the FIB, [`Rib::poll_group`] for peers, both by the piece. Between
//! two pulls changes of one prefix collapse into one, so a slow consumer costs a bit a prefix and nobody else's time.
//! What touches a whole Adj-RIB-In (a session that ended, a new policy, a next hop that moved) is done in
//! [`Rib::work`], again by the piece, so that other inputs come between.
//!
//! No clock, no I/O: `now` is an argument, [`Rib::poll_timeout`] says when to call `work` again.
//!
//! A path belongs to an *epoch* of its source. A session that ends starts a new epoch, which at once makes every path
//! of the old one stale (RFC 4724 §4.2), a ghost, or nothing, without touching any: a ghost cannot be used, but keeps
//! its prefix protected, so that what was reachable through a tunnel is dropped rather than sent some other way until
//! the peer has come back and said what it still has.

pub(crate) mod aggregate;
pub(crate) mod attrs;
pub(crate) mod bandwidth;
mod changes;
pub(crate) mod conditions;
mod dampening;
mod id_set;
mod input;
mod lifecycle;
mod local;
mod monitor;
mod next_hops;
mod outbound_filter;
pub(crate) mod path_ids;
pub(crate) mod peer;
mod query;
mod roas;
mod rules;
pub(crate) mod state;
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod vrf;
mod work;

use std::{
    collections::{BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use net_types::{Asn, Family, RouterId};

pub use aggregate::AggregateConfig;
pub use attrs::{DEFAULT_LOCAL_PREF, Install, PathAttrs, Placement};
pub use changes::{BestChange, PathRef};
pub use conditions::{ConditionalAdvertisement, DefaultOriginate, Existence};
pub use dampening::{Dampening, FlapView};
pub(crate) use id_set::IdSet;
pub use input::Refusal;
pub use local::LocalRoute;
pub use monitor::{MonitorConfig, MonitorId, MonitorPiece, Watched};
pub use next_hops::{NextHopEvent, NextHopKey, Resolved};
pub use outbound_filter::Filtering;
pub(crate) use peer::Slot;
pub use peer::{
    AddPaths, Departure, FamilyConfig, LocalAddresses, LocalSource, MaximumPrefix, NextHopSelf, PeerConfig, PeerUp,
    Protection, Source,
};
pub use query::{FamilyCounters, PathState, PathView, RouteView, Walk};
pub use rules::{Alias, AllowOwnAs, RemovePrivate, Rules, Unchanged, Withheld};
pub(crate) use table::Path;
pub use vrf::{VpnRoute, VrfConfig, VrfFamily};

use crate::{PeerId, decision::DecisionOptions, validation::RoaTable};
use attrs::Interner;
use next_hops::NextHops;
use path_ids::PathIds;
use peer::Peer;
use state::{FamilyTable, Shared};

/// What the table has to know of this router.
#[derive(Clone, Debug, PartialEq)]
pub struct RibConfig {
    /// Our AS.
    pub asn: Asn,
    /// Our BGP identifier.
    pub router_id: RouterId,
    /// Our cluster, if it is not named after the router (RFC 4456 §7).
    pub cluster_id: Option<Ipv4Addr>,
    /// Clients get each other's routes from us (unless `no bgp client-to-client reflection`, RFC 4456 §6).
    pub client_to_client_reflection: bool,
    /// `bgp graceful-shutdown` (RFC 8326): we are about to go, and everybody is to look for other ways.
    pub graceful_shutdown: bool,
    /// The AS that our confederation is for everybody outside; `asn` is our member AS then (RFC 5065 §3).
    pub confederation: Option<Asn>,
    /// Preference of routes that come without one.
    pub default_local_pref: u32,
    /// Paths with sets are neither accepted nor announced (RFC 6472 §3).
    pub reject_as_sets: bool,
    /// How paths are compared.
    pub decision: DecisionOptions,
    /// Peers choose the keys of our hash tables: a number that they cannot guess. It is read once.
    pub hash_seed: u64,
}

impl RibConfig {
    /// A router with nothing configured beyond its names: what is optional is as it is without a line about it.
    pub fn new(asn: Asn, router_id: RouterId, hash_seed: u64) -> Self {
        Self {
            asn,
            router_id,
            cluster_id: None,
            client_to_client_reflection: true,
            graceful_shutdown: false,
            confederation: None,
            default_local_pref: DEFAULT_LOCAL_PREF,
            reject_as_sets: false,
            decision: DecisionOptions::default(),
            hash_seed,
        }
    }

    /// Our cluster.
    pub(crate) fn cluster_id(&self) -> Ipv4Addr {
        self.cluster_id.unwrap_or(self.router_id.get().into())
    }
}

/// Something that the owner should act on or tell the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RibEvent {
    /// A peer sent more prefixes than allowed, or came near it.
    MaximumPrefix {
        /// Which peer.
        peer: PeerId,
        /// Which family.
        family: Family,
        /// How many there are.
        count: u32,
        /// How many may be.
        limit: u32,
        /// The session has to end (Cease, subcode 1); else it is a warning.
        teardown: bool,
    },
    /// Everything learned from a session that ended has been decided again.
    Departed {
        /// Whose session.
        peer: PeerId,
        /// Which family.
        family: Family,
    },
    /// The deferral after our own restart is over (RFC 4724 §4.1): changes flow, and routes that the FIB adopted and
    /// no change named once the backlog is read are stale.
    Settled(Unclaimed),
}

/// Why routes that an earlier run left in the FIB may have to be dropped, and not removed, where nobody has claimed them by
/// the end of the deferral: whoever announced them has not taken them back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unclaimed {
    /// Peers of whose routes all or some are protected: those behind tunnels and, where there are any, internal ones, since some
    /// of what they say may have come through a tunnel of theirs.
    pub protected: Vec<PeerId>,
    /// Those of them that have not spoken yet.
    pub silent: Vec<PeerId>,
    /// Some prefixes stay protected whatever living peers say ([`Protection::Always`]).
    pub always: bool,
}

/// The routing table.
pub struct Rib {
    pub(crate) config: RibConfig,
    /// `learned` counts from here.
    origin: Instant,
    pub(crate) shared: Shared,
    pub(crate) tables: [FamilyTable; Family::COUNT],
    by_id: HashMap<PeerId, Slot, foldhash::quality::FixedState>,
    events: VecDeque<RibEvent>,
    deferral: Option<Deferral>,
    /// Advertised sets of sessions that ended; their counts in the entries are taken back by `work`.
    retired: Vec<(Family, IdSet)>,
    /// A pass over everything, after the comparison changed.
    redecide: [Option<u32>; Family::COUNT],
    revalidation: roas::Revalidation,
    pub(crate) vrfs: vrf::Vrfs,
    released: dampening::Released,
}

/// After a restart nothing is announced before the peers have said what they have (RFC 4724 §4.1).
struct Deferral {
    until: Instant,
    awaited: Awaited,
}

/// Whom a [`Deferral`] waits for.
enum Awaited {
    /// Not known yet. These have spoken meanwhile, in one family or altogether.
    Unknown(BTreeSet<(PeerId, Option<Family>)>),
    /// These.
    Peers(Vec<(PeerId, Family)>),
}

impl Rib {
    /// An empty table. `now` is where ages are counted from.
    pub fn new(config: RibConfig, now: Instant) -> Self {
        let seed = config.hash_seed;
        let locals = LocalSource::ALL.map(|source| {
            let address = Ipv4Addr::UNSPECIFIED.into();
            let mut peer =
                Peer::new(Source::Local(source), PeerConfig::new(address, bgp_wire::PeerKind::Internal, config.asn));
            peer.router_id = config.router_id.get();
            Some(peer)
        });
        Self {
            origin: now,
            shared: Shared {
                decision: config.decision,
                peers: locals.into_iter().collect(),
                attrs: Interner::new(seed ^ 1),
                next_hops: NextHops::new(seed ^ 2),
                path_ids: PathIds::new(seed ^ 3),
                groups: Default::default(),
                fib: true,
                roas: RoaTable::new(seed ^ 3),
                monitors: Default::default(),
                aggregates: Default::default(),
                conditions: Default::default(),
                table_maps: Default::default(),
                protocol_maps: Default::default(),
                dampening: Default::default(),
                labels: HashMap::with_hasher(FixedState::with_seed(seed ^ 5)),
            },
            tables: Family::ALL.map(|family| FamilyTable::new(family, seed)),
            by_id: HashMap::default(),
            events: VecDeque::new(),
            deferral: None,
            retired: Vec::new(),
            redecide: [None; Family::COUNT],
            revalidation: roas::Revalidation::new(seed ^ 4),
            vrfs: vrf::Vrfs::default(),
            released: dampening::Released::default(),
            config,
        }
    }

    /// How this router is configured.
    pub fn config(&self) -> &RibConfig {
        &self.config
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<RibEvent> {
        self.events.pop_front()
    }

    /// The next next hop to start or stop resolving.
    pub fn poll_next_hop(&mut self) -> Option<NextHopEvent> {
        self.shared.next_hops.poll()
    }

    /// The owner's answer for a next hop: how it is reached, if it is. Entries that depend on it are decided again in
    /// [`work`](Self::work).
    pub fn next_hop_resolved(&mut self, key: NextHopKey, resolved: Option<Resolved>) {
        self.shared.next_hops.resolve(key, resolved);
        self.check_deferral(None);
    }

    pub(crate) fn slot(&self, peer: PeerId) -> Option<Slot> {
        self.by_id.get(&peer).copied()
    }

    fn learned(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.origin).as_secs() as u32
    }

    fn age(&self, now: Instant, learned: u32) -> Duration {
        now.saturating_duration_since(self.origin + Duration::from_secs(learned.into()))
    }
}
