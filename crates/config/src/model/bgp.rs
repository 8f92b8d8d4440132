//! BGP: `router bgp`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use net_types::{Asn, Family, IfName, Prefix, RouterId};

use super::{Name, Secret};

/// `router bgp ASN`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bgp {
    /// Ours.
    pub asn: Asn,
    /// `bgp router-id`; otherwise the highest IPv4 address of this machine.
    pub router_id: Option<RouterId>,
    /// `bgp cluster-id`, for route reflection loops.
    pub cluster_id: Option<Ipv4Addr>,
    /// `bgp log-neighbor-changes`
    pub log_neighbor_changes: bool,
    /// `bgp ebgp-requires-policy` (RFC 8212); off unless said.
    pub ebgp_requires_policy: bool,
    /// `bgp default ipv4-unicast`: neighbors carry IPv4 unicast without `activate`; on unless `no` is said.
    pub default_ipv4_unicast: bool,
    /// `bgp default local-preference`
    pub default_local_preference: u32,
    /// `bgp bestpath …`, `bgp always-compare-med`, `bgp deterministic-med`
    pub best_path: BestPath,
    /// `bgp graceful-restart …`
    pub graceful_restart: GracefulRestart,
    /// `bgp fail-closed`
    pub fail_closed: FailClosed,
    /// `timers bgp KEEPALIVE HOLD`
    pub timers: Timers,
    /// `neighbor ADDRESS …`
    pub neighbors: BTreeMap<IpAddr, Neighbor>,
    /// `address-family …`
    pub families: BTreeMap<Family, FamilyConfig>,
}

impl Bgp {
    /// A speaker without neighbors, everything at its default.
    pub fn new(asn: Asn) -> Self {
        Self {
            asn,
            router_id: None,
            cluster_id: None,
            log_neighbor_changes: true,
            ebgp_requires_policy: false,
            default_ipv4_unicast: true,
            default_local_preference: 100,
            best_path: BestPath::default(),
            graceful_restart: GracefulRestart::default(),
            fail_closed: FailClosed::default(),
            timers: Timers::default(),
            neighbors: BTreeMap::new(),
            families: BTreeMap::new(),
        }
    }

    /// The neighbor's AS number.
    pub fn remote_as(&self, neighbor: &Neighbor) -> Option<Asn> {
        match neighbor.remote_as {
            RemoteAs::Asn(asn) => Some(asn),
            RemoteAs::Internal => Some(self.asn),
            RemoteAs::External => None,
        }
    }

    /// Whether `neighbor` carries `family`.
    pub fn is_active(&self, neighbor: &Neighbor, family: Family) -> bool {
        let said = neighbor.families.get(&family).and_then(|settings| settings.activate);
        said.unwrap_or(family == Family::Ipv4Unicast && self.default_ipv4_unicast)
    }

    /// Timers of `neighbor`: its own, or the speaker's.
    pub fn timers(&self, neighbor: &Neighbor) -> Timers {
        neighbor.timers.unwrap_or(self.timers)
    }
}

/// Keepalive and hold time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Between our KEEPALIVEs; a third of the hold time if that is shorter.
    pub keepalive: Duration,
    /// What we propose: zero, or 3 s and more (RFC 4271 §4.2).
    pub hold: Duration,
}

impl Default for Timers {
    /// FRR's traditional profile: 60 and 180 s.
    fn default() -> Self {
        Self { keepalive: Duration::from_secs(60), hold: Duration::from_secs(180) }
    }
}

/// Departures from the usual order of path selection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BestPath {
    /// `bgp bestpath as-path ignore`
    pub ignore_as_path_length: bool,
    /// `bgp bestpath compare-routerid`: between eBGP paths too, rather than the older one.
    pub compare_router_id: bool,
    /// `bgp bestpath med missing-as-worst`
    pub missing_med_is_worst: bool,
    /// `bgp always-compare-med`: between different neighbor ASes too.
    pub always_compare_med: bool,
    /// `bgp deterministic-med`: paths are compared grouped by neighbor AS.
    pub deterministic_med: bool,
}

/// Graceful restart (RFC 4724).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracefulRestart {
    /// `bgp graceful-restart`: we announce that our forwarding survives; on unless `no` is said.
    /// Without, a restarting neighbor is still helped unless `bgp graceful-restart-disable`.
    pub restarter: bool,
    /// Cleared by `bgp graceful-restart-disable`: stale paths of a restarting neighbor are kept.
    pub helper: bool,
    /// `bgp graceful-restart restart-time`
    pub restart_time: Duration,
    /// `bgp graceful-restart stalepath-time`
    pub stalepath_time: Duration,
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self {
            restarter: true,
            helper: true,
            restart_time: Duration::from_secs(120),
            stalepath_time: Duration::from_secs(360),
        }
    }
}

/// What becomes of a prefix that was reachable through a tunnel and has no path left: `bgp fail-closed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailClosed {
    /// `no bgp fail-closed`: its route is removed; a less specific one may then carry it in the clear.
    Off,
    /// `bgp fail-closed`: dropped if the session, the tunnel or a daemon was lost; removed if the live peer withdrew it.
    #[default]
    Lost,
    /// `bgp fail-closed withdrawn`: dropped in either case.
    Withdrawn,
}

/// `neighbor ADDRESS …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// Who it is.
    pub address: IpAddr,
    /// `remote-as`
    pub remote_as: RemoteAs,
    /// `description`
    pub description: Option<String>,
    /// `shutdown`
    pub shutdown: Option<Shutdown>,
    /// `password` (RFC 2385)
    pub password: Option<Password>,
    /// `timers KEEPALIVE HOLD`
    pub timers: Option<Timers>,
    /// `timers connect`: between attempts.
    pub connect_retry: Option<Duration>,
    /// `bfd`
    pub bfd: Option<BfdUse>,
    /// `ttl-security hops` (RFC 5082)
    pub ttl_security_hops: Option<u8>,
    /// `ebgp-multihop`
    pub ebgp_multihop: Option<u8>,
    /// `disable-connected-check`: a neighbor one hop away that is on no connected subnet.
    pub disable_connected_check: bool,
    /// `update-source`
    pub update_source: Option<UpdateSource>,
    /// `interface`: the link that a link-local address is on.
    pub interface: Option<IfName>,
    /// `port`
    pub port: Option<u16>,
    /// `passive`: never dial.
    pub passive: bool,
    /// `graceful-restart…`
    pub graceful_restart: Option<NeighborRestart>,
    /// What is said of it within `address-family`.
    pub families: BTreeMap<Family, NeighborFamily>,
}

impl Neighbor {
    /// A neighbor with everything at its default.
    pub fn new(address: IpAddr, remote_as: RemoteAs) -> Self {
        Self {
            address,
            remote_as,
            description: None,
            shutdown: None,
            password: None,
            timers: None,
            connect_retry: None,
            bfd: None,
            ttl_security_hops: None,
            ebgp_multihop: None,
            disable_connected_check: false,
            update_source: None,
            interface: None,
            port: None,
            passive: false,
            graceful_restart: None,
            families: BTreeMap::new(),
        }
    }

    /// `timers connect` where nothing is said, as in FRR.
    pub const CONNECT_RETRY: Duration = Duration::from_secs(120);
}

/// `remote-as`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteAs {
    /// This one.
    Asn(Asn),
    /// Ours, whatever it is.
    Internal,
    /// Any but ours.
    External,
}

/// `shutdown [message TEXT]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shutdown {
    /// Told to the neighbor (RFC 9003).
    pub message: Option<String>,
}

/// `password`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// In the configuration itself, as in FRR.
    Inline(Secret),
    /// `password file PATH`
    File(PathBuf),
}

/// `bfd [profile NAME]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BfdUse {
    /// Timing; the default profile's without.
    pub profile: Option<Name>,
}

/// `update-source`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateSource {
    /// This address.
    Address(IpAddr),
    /// The address of this interface.
    Interface(IfName),
}

/// Graceful restart with one neighbor, where it differs from the speaker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighborRestart {
    /// `graceful-restart`: restarter and helper.
    Full,
    /// `graceful-restart-helper`: helper only.
    HelperOnly,
    /// `graceful-restart-disable`: neither.
    Disabled,
}

/// What is said of a neighbor within an address family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeighborFamily {
    /// `activate` or `no … activate`
    pub activate: Option<bool>,
    /// `route-map NAME in`
    pub route_map_in: Option<Name>,
    /// `route-map NAME out`
    pub route_map_out: Option<Name>,
    /// `prefix-list NAME in`
    pub prefix_list_in: Option<Name>,
    /// `prefix-list NAME out`
    pub prefix_list_out: Option<Name>,
    /// `next-hop-self`
    pub next_hop_self: bool,
    /// `soft-reconfiguration inbound`: what the neighbor sent is always kept as received, so this only documents intent.
    pub soft_reconfiguration: bool,
    /// `maximum-prefix`
    pub maximum_prefix: Option<MaximumPrefix>,
    /// `weight`: of what it announces, local to this router.
    pub weight: Option<u16>,
}

/// `maximum-prefix LIMIT [THRESHOLD] [warning-only|restart MINUTES]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaximumPrefix {
    /// Most prefixes accepted.
    pub limit: u32,
    /// Percentage from which on it is logged.
    pub threshold_percent: u8,
    /// What follows.
    pub action: MaximumPrefixAction,
}

/// What follows when a neighbor announces too many prefixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaximumPrefixAction {
    /// The session is closed until an operator clears it.
    #[default]
    Close,
    /// `restart`: closed, and tried again after this time.
    Restart(Duration),
    /// `warning-only`
    Warn,
}

/// `address-family ipv4|ipv6 unicast`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyConfig {
    /// `network PREFIX [route-map NAME]`
    pub networks: BTreeMap<Prefix, Option<Name>>,
    /// `redistribute SOURCE …`
    pub redistribute: BTreeMap<RedistributeSource, Redistribute>,
}

/// Where redistributed routes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RedistributeSource {
    /// `connected`: subnets of this machine's interfaces.
    Connected,
    /// `static`: `ip route` and `ipv6 route`.
    Static,
    /// `kernel`: routes that someone else put into the kernel.
    Kernel,
}

/// `redistribute SOURCE [metric N] [route-map NAME]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redistribute {
    /// MULTI_EXIT_DISC.
    pub metric: Option<u32>,
    /// Filter and changes.
    pub route_map: Option<Name>,
}

impl RedistributeSource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Connected, Self::Static, Self::Kernel];

    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Static => "static",
            Self::Kernel => "kernel",
        }
    }
}
