//! The plain data that `show` renders: snapshots, taken by the threads that own the truth.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bgp_core::validation::ValidationState;
use bgp_wire::{PeerKind, Role, attr::Attributes};
use config::{
    Config,
    model::{AoAlgorithm, Name, NeighborFamily, NeighborId, RedistributeSource},
};
use net_types::{Asn, Family, IfName, Prefix, RouterId};
use sys::tcp_ao::{Info, KeyInfo};

/// The speaker itself.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// `hostname`
    pub hostname: Option<String>,
    /// Our BGP identifier.
    pub router_id: RouterId,
    /// Our AS.
    pub asn: Asn,
    /// `bgp default local-preference`
    pub default_local_preference: u32,
    /// `bgp community alias`
    pub aliases: Aliases,
}

/// What communities are called, as they are printed otherwise.
#[derive(Clone, Debug, Default)]
pub struct Aliases(BTreeMap<String, String>);

impl Aliases {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        Self(config.community_aliases.iter().map(|(known, name)| (known.to_string(), name.to_string())).collect())
    }

    /// Each by its alias where it has one.
    pub fn list<C: ToString>(&self, communities: &[C]) -> Vec<String> {
        let name = |community: &C| {
            let text = community.to_string();
            self.0.get(&text).cloned().unwrap_or(text)
        };
        communities.iter().map(name).collect()
    }

    /// The same in one line.
    pub fn spell<C: ToString>(&self, communities: &[C]) -> String {
        self.list(communities).join(" ")
    }
}

/// Counters of one family's table.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableCounters {
    /// Counts up with each change of a best path.
    pub version: u64,
    /// Prefixes.
    pub prefixes: usize,
    /// Paths.
    pub paths: usize,
    /// Memory that they take, in octets.
    pub memory_octets: usize,
}

/// Messages by type, one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// OPEN
    pub opens: u64,
    /// NOTIFICATION
    pub notifications: u64,
    /// UPDATE
    pub updates: u64,
    /// KEEPALIVE
    pub keepalives: u64,
    /// ROUTE-REFRESH
    pub route_refreshes: u64,
}

impl MessageCounts {
    /// Of every type.
    pub fn total(&self) -> u64 {
        self.opens + self.notifications + self.updates + self.keepalives + self.route_refreshes
    }
}

/// A capability: who announced it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mutual {
    /// By us.
    pub advertised: bool,
    /// By the peer.
    pub received: bool,
}

impl Mutual {
    /// As FRR's JSON spells it; `None` where neither did.
    pub fn key(self) -> Option<&'static str> {
        match (self.advertised, self.received) {
            (true, true) => Some("advertisedAndReceived"),
            (true, false) => Some("advertised"),
            (false, true) => Some("received"),
            (false, false) => None,
        }
    }

    /// As FRR's text spells it; `None` where neither did.
    pub fn words(self) -> Option<&'static str> {
        match (self.advertised, self.received) {
            (true, true) => Some("advertised and received"),
            (true, false) => Some("advertised"),
            (false, true) => Some("received"),
            (false, false) => None,
        }
    }
}

/// What both OPENs said.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// RFC 6793
    pub four_octet_as: Mutual,
    /// RFC 8654
    pub extended_message: Mutual,
    /// RFC 2918
    pub route_refresh: Mutual,
    /// RFC 7313
    pub enhanced_route_refresh: Mutual,
    /// RFC 4724
    pub graceful_restart: Mutual,
    /// RFC 9494
    pub long_lived: Mutual,
    /// Restart time that the peer announced.
    pub peer_restart_time: Option<Duration>,
    /// It has just restarted (R bit).
    pub peer_restarting: bool,
    /// Families that the peer restarts gracefully.
    pub peer_restarts: Vec<Family>,
    /// Families for which the peer preserved its forwarding state.
    pub peer_preserved: Vec<Family>,
    /// RFC 8950
    pub extended_next_hop: Mutual,
    /// RFC 7911, by family: that several paths are sent, and that they are taken.
    pub add_path: BTreeMap<Family, (Mutual, Mutual)>,
    /// RFC 5291, by family: that filters are sent, and that they are taken.
    pub filters: BTreeMap<Family, (Mutual, Mutual)>,
    /// RFC 9234
    pub role: Mutual,
    /// The role that the peer announced.
    pub peer_role: Option<Role>,
    /// RFC 4760
    pub families: BTreeMap<Family, Mutual>,
    /// Host name that the peer announced.
    pub peer_hostname: Option<String>,
    /// Software that the peer announced.
    pub peer_software: Option<String>,
}

/// What a neighbor has in one family.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeighborTable {
    /// Accepted from it.
    pub received: usize,
    /// Announced to it.
    pub sent: usize,
    /// Kept though its session is gone (RFC 4724).
    pub stale: usize,
    /// End-of-RIB sent in this session.
    pub end_of_rib_sent: bool,
    /// End-of-RIB received in this session.
    pub end_of_rib_received: bool,
}

/// Why the last session ended.
#[derive(Clone, Debug)]
pub struct LastReset {
    /// When.
    pub at: SystemTime,
    /// In words.
    pub reason: String,
    /// As FRR's JSON spells the kind of reason.
    pub due_to: &'static str,
    /// The NOTIFICATION's code and subcode by name.
    pub notification_name: Option<String>,
    /// The NOTIFICATION's code and subcode, and whether we sent it.
    pub notification: Option<(u8, u8, bool)>,
}

/// One neighbor.
#[derive(Clone, Debug)]
pub struct Neighbor {
    /// Its address; unspecified as long as nobody was found on its link.
    pub address: IpAddr,
    /// The link that it is known by (`neighbor IFNAME interface`).
    pub link: Option<IfName>,
    /// It came from a listen range.
    pub dynamic: bool,
    /// `description`
    pub description: Option<String>,
    /// Its AS.
    pub remote_as: Option<Asn>,
    /// Our AS as it sees us.
    pub local_as: Asn,
    /// Whether it is in our AS or confederation.
    pub kind: PeerKind,
    /// What we are to it (RFC 9234).
    pub local_role: Option<Role>,
    /// Its BGP identifier, once it has said it.
    pub router_id: Option<RouterId>,
    /// `Idle` to `Established`
    pub state: &'static str,
    /// `shutdown`
    pub admin_shutdown: bool,
    /// When the session was established.
    pub established_at: Option<SystemTime>,
    /// When it left Established, or was configured, last.
    pub since: SystemTime,
    /// Sessions that reached Established.
    pub established_count: u64,
    /// Sessions that were lost.
    pub dropped_count: u64,
    /// Messages sent.
    pub sent: MessageCounts,
    /// Messages received.
    pub received: MessageCounts,
    /// Messages waiting to be written.
    pub out_queue: usize,
    /// Messages waiting to be decided.
    pub in_queue: usize,
    /// When the last message came.
    pub last_read: Option<SystemTime>,
    /// When the last message went.
    pub last_write: Option<SystemTime>,
    /// Agreed hold time.
    pub hold: Option<Duration>,
    /// Agreed keepalive interval.
    pub keepalive: Option<Duration>,
    /// Configured hold time.
    pub configured_hold: Duration,
    /// Configured keepalive interval.
    pub configured_keepalive: Duration,
    /// Configured connect retry time.
    pub connect_retry: Duration,
    /// What both OPENs said.
    pub capabilities: Capabilities,
    /// By family that is configured.
    pub families: BTreeMap<Family, NeighborTable>,
    /// Its peer-group.
    pub peer_group: Option<String>,
    /// What is configured of it within those.
    pub configured: BTreeMap<Family, NeighborFamily>,
    /// Host name that we announce.
    pub own_hostname: Option<String>,
    /// Graceful restart as configured: restart time, and time that stale paths are kept.
    pub restart_times: (Duration, Duration),
    /// That mode is the speaker's, and not said of the neighbor.
    pub restart_inherited: bool,
    /// Graceful restart as configured: `Restart`, `Helper` or `Disable`.
    pub restart_mode: &'static str,
    /// Why the last session ended.
    pub last_reset: Option<LastReset>,
    /// Our end of the TCP connection.
    pub local: Option<SocketAddr>,
    /// The peer's end.
    pub remote: Option<SocketAddr>,
    /// Its BFD session, where one is configured.
    pub bfd: Option<Bfd>,
    /// `tcp-mss`
    pub configured_max_segment_octets: Option<u16>,
    /// The largest TCP segment in use.
    pub max_segment_octets: Option<u16>,
    /// What its segments are signed with, where TCP-AO does that.
    pub ao: Option<TcpAo>,
    /// Hops that the peer may be away.
    pub max_hops: u8,
    /// `extended-optional-parameters` (RFC 9072)
    pub extended_parameters: bool,
}

/// TCP-AO (RFC 5925) with a neighbor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpAo {
    /// The key chain.
    pub chain: Name,
    /// Other TCP options are not signed.
    pub exclude_options: bool,
    /// The chain's keys: number, send-id, recv-id, algorithm; the preferred one last.
    pub configured: Vec<(u8, u8, u8, AoAlgorithm)>,
    /// What the kernel says of the connection, while the session is established.
    pub live: Option<(Info, Vec<KeyInfo>)>,
}

impl Neighbor {
    /// As FRR calls it: by its link where that is what is configured, by its address otherwise.
    pub fn name(&self) -> String {
        self.link.as_ref().map_or_else(|| self.address.to_string(), ToString::to_string)
    }
}

/// Where a path comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathSource {
    /// `network`, redistribution.
    Local,
    /// A neighbor in another AS.
    External {
        /// Its address.
        peer: IpAddr,
        /// Its identifier, while its session is established.
        router_id: Option<RouterId>,
    },
    /// A neighbor in our AS.
    Internal {
        /// Its address.
        peer: IpAddr,
        /// Its identifier, while its session is established.
        router_id: Option<RouterId>,
    },
}

/// One path of a route.
#[derive(Clone, Debug)]
pub struct Path {
    /// Where it comes from.
    pub source: PathSource,
    /// Attributes after import policy.
    pub attributes: Arc<Attributes>,
    /// Next hop; unspecified for a local path.
    pub next_hop: IpAddr,
    /// IPv6 link-local next hop beside a global one.
    pub link_local: Option<IpAddr>,
    /// Cost to the next hop.
    pub igp_metric: u32,
    /// Cisco's weight.
    pub weight: u32,
    /// The next hop is reachable and the path passed every check.
    pub valid: bool,
    /// It is the best.
    pub best: bool,
    /// It is the best and others share its packets, or one of those.
    pub multipath: bool,
    /// It is the one that takes over.
    pub alternate: bool,
    /// Its session is gone and it is kept (RFC 4724).
    pub stale: bool,
    /// It is not used because it has flapped (RFC 2439).
    pub damped: bool,
    /// What is remembered of it by dampening, where that was asked for.
    pub flap: Option<Flap>,
    /// What origin validation says of it (RFC 6811).
    pub validation: Option<ValidationState>,
    /// What its neighbor calls it, where that tells several paths apart (RFC 7911).
    pub path_id: Option<u32>,
    /// MPLS labels in front of a prefix of a VPN (RFC 8277).
    pub labels: Vec<u32>,
    /// Which step of the decision made it the best.
    pub reason: Option<&'static str>,
    /// Host name of the neighbor that it came from.
    pub hostname: Option<String>,
    /// The link that this neighbor is known by (`neighbor IFNAME interface`).
    pub link: Option<IfName>,
    /// When it came.
    pub updated: SystemTime,
}

/// What dampening remembers of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flap {
    /// Its penalty now.
    pub penalty: u32,
    /// How often it was withdrawn, or came with other attributes.
    pub count: u32,
    /// Since when that is counted.
    pub since: Duration,
    /// When it may be used again, if it may not now.
    pub reuse_in: Option<Duration>,
    /// Nobody announces it now.
    pub history: bool,
}

/// A prefix and its paths, best first as the decision sees them.
#[derive(Clone, Debug)]
pub struct Route {
    /// The prefix.
    pub prefix: Prefix,
    /// Version of the table when its best path changed last; 0 where it is not tracked.
    pub version: u64,
    /// Its paths.
    pub paths: Vec<Path>,
    /// Neighbors that it is announced to, with the host names that they told.
    pub advertised_to: Vec<(NeighborId, Option<String>)>,
}

/// A BFD session.
#[derive(Clone, Debug)]
pub struct Bfd {
    /// The peer is several hops away.
    pub multihop: bool,
    /// Packets with a lower TTL are dropped.
    pub minimum_ttl: u8,
    /// It does not send before the peer has.
    pub passive: bool,
    /// The peer.
    pub peer: IpAddr,
    /// Our address.
    pub local: Option<IpAddr>,
    /// Interface that it runs on.
    pub interface: Option<IfName>,
    /// Our discriminator.
    pub local_discriminator: u32,
    /// The peer's; 0 until it is known.
    pub remote_discriminator: u32,
    /// `up`, `down`, `init`, `shutdown`
    pub status: &'static str,
    /// When it went up or down.
    pub since: SystemTime,
    /// Our diagnostic.
    pub diagnostic: String,
    /// The peer's.
    pub remote_diagnostic: String,
    /// Our required minimum receive interval.
    pub receive_interval: Duration,
    /// Our desired minimum transmit interval.
    pub transmit_interval: Duration,
    /// Our multiplier.
    pub detect_multiplier: u8,
    /// How often we have Echo packets reflected; zero for not at all.
    pub echo_receive_interval: Duration,
    /// The same, of the peer.
    pub remote_echo_receive_interval: Duration,
    /// How often we send Echo packets now; zero while we do not.
    pub echo_transmit_interval: Duration,
    /// Whether they come back, so that their silence ends the session.
    pub echo_heard: bool,
    /// Echo packets that came back, and that were sent.
    pub echo_packets: (u64, u64),
    /// How long they took.
    pub round_trip: Option<bfd::RoundTrip>,
    /// By how much the latest packet of the last minute was late, where intervals adapt.
    pub jitter: Option<Duration>,
    /// How long intervals may become; zero where they do not adapt.
    pub adapt_up_to: Duration,
    /// How often control packets are sent now; none while they are not sent periodically.
    pub transmit_interval_in_use: Option<Duration>,
    /// How long the peer may be silent now, by control packets; none while it is not heard.
    pub detection_time: Option<Duration>,
    /// The peer's receive interval.
    pub remote_receive_interval: Duration,
    /// The peer's transmit interval.
    pub remote_transmit_interval: Duration,
    /// The peer's multiplier.
    pub remote_detect_multiplier: u8,
    /// Control packets received and sent.
    pub packets: (u64, u64),
    /// Times that it came up, and went down.
    pub changes: (u64, u64),
}

/// Who brought a route into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteProtocol {
    /// The kernel or somebody else.
    Kernel,
    /// An address on an interface.
    Connected,
    /// `ip route`
    Static,
    /// `reverse-route` of a tunnel.
    Ipsec,
    /// BGP; internal where the best path is from our own AS.
    Bgp {
        /// The best path is internal.
        internal: bool,
    },
}

impl RouteProtocol {
    /// As `redistribute` calls it; `None` for BGP itself.
    pub fn source(self) -> Option<RedistributeSource> {
        match self {
            Self::Kernel => Some(RedistributeSource::Kernel),
            Self::Connected => Some(RedistributeSource::Connected),
            Self::Static => Some(RedistributeSource::Static),
            Self::Ipsec => Some(RedistributeSource::Ipsec),
            Self::Bgp { .. } => None,
        }
    }
}

/// What a route does with packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Sends them this way.
    Via {
        /// Router, or `None` where the destination is on the link.
        gateway: Option<IpAddr>,
        /// Interface number.
        ifindex: u32,
        /// Interface name.
        interface: String,
    },
    /// Discards them: fail closed, or as configured.
    Blackhole,
    /// Discards them with an ICMP error.
    Unreachable,
}

/// What BGP says of a route that it brought into the kernel.
#[derive(Clone, Debug)]
pub struct Learned {
    /// Its AS path.
    pub as_path: String,
    /// Its communities.
    pub communities: String,
    /// Its large communities.
    pub large_communities: String,
}

/// One of the ways of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// What becomes of the packets.
    pub forwarding: Forwarding,
    /// Its share of them, beside the other ways' weights.
    pub weight: u8,
    /// BGP's next hop, where it is reached by way of another.
    pub recursive: Option<IpAddr>,
}

impl From<Forwarding> for Way {
    fn from(forwarding: Forwarding) -> Self {
        Self { forwarding, weight: 1, recursive: None }
    }
}

/// A route in the kernel's main table.
#[derive(Clone, Debug)]
pub struct KernelRoute {
    /// The prefix.
    pub prefix: Prefix,
    /// Who brought it.
    pub protocol: RouteProtocol,
    /// Administrative distance, as FRR counts.
    pub distance: u8,
    /// Metric.
    pub metric: u32,
    /// Tag; 0 for none.
    pub tag: u32,
    /// What BGP says of it.
    pub learned: Option<Learned>,
    /// What it does: one way, or several that share the packets.
    pub ways: Vec<Way>,
    /// Packets of this router's own are sent from this address.
    pub source: Option<IpAddr>,
    /// What it would do next, where an alternate is ready.
    pub backup: Option<Forwarding>,
    /// The kernel's nexthop object.
    pub nexthop_id: Option<u32>,
    /// It is in the kernel.
    pub installed: bool,
    /// The kernel goes by it, and not by another to the same prefix.
    pub selected: bool,
    /// Why traffic is discarded, where the route fails closed.
    pub protected: bool,
}

impl KernelRoute {
    /// Whether it is asked for: with `fib` the ones in use, with `from` those from there.
    pub fn is_listed(&self, fib: bool, from: Option<Option<RedistributeSource>>) -> bool {
        (self.selected || !fib) && from.is_none_or(|from| from == self.protocol.source())
    }
}
