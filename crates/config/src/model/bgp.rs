//! BGP: `router bgp`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use net_types::{Asn, Family, Prefix, RouterId};

use super::{BgpVrf, BmpTargets, Name, Neighbor, NeighborEntry, NeighborId, NeighborSettings, Origin, RemoteAs};

/// `router bgp ASN`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bgp {
    /// Ours.
    pub asn: Asn,
    /// `bgp router-id`; otherwise the highest IPv4 address of this machine.
    pub router_id: Option<RouterId>,
    /// `bgp cluster-id`, for route reflection loops.
    pub cluster_id: Option<Ipv4Addr>,
    /// `bgp client-to-client reflection`; on unless `no` is said.
    pub client_to_client_reflection: bool,
    /// `bgp confederation …`
    pub confederation: Confederation,
    /// `bgp minimum-holdtime`: neighbors that propose less are refused.
    pub minimum_hold_time: Option<Duration>,
    /// `bgp fast-external-failover`: a link that goes down ends the external sessions that go over it alone; on unless `no` is
    /// said.
    pub fast_external_failover: bool,
    /// `bgp fast-convergence`: it ends the sessions of all neighbors that are reached over it.
    pub fast_convergence: bool,
    /// `bgp log-neighbor-changes`
    pub log_neighbor_changes: bool,
    /// `frr defaults traditional`, as in [`Config`](super::Config): decides what printing may leave out.
    pub frr_defaults: bool,
    /// `bgp ebgp-requires-policy` (RFC 8212); off unless said, and on with FRR's defaults.
    pub ebgp_requires_policy: bool,
    /// `bgp default ipv4-unicast`: neighbors carry IPv4 unicast without `activate`; on unless `no` is said.
    pub default_ipv4_unicast: bool,
    /// `bgp default ipv6-unicast`: the same of IPv6.
    pub default_ipv6_unicast: bool,
    /// `bgp default local-preference`
    pub default_local_preference: u32,
    /// `bgp bestpath …`, `bgp always-compare-med`, `bgp deterministic-med`
    pub best_path: BestPath,
    /// `bgp network import-check`, `bgp reject-as-sets`
    pub checks: RouteChecks,
    /// `bgp graceful-restart …`
    pub graceful_restart: GracefulRestart,
    /// `bgp long-lived-graceful-restart stale-time` (RFC 9494); not announced unless said.
    pub long_lived_stale_time: Option<Duration>,
    /// `bgp graceful-shutdown` (RFC 8326): everything is announced as about to go, and what is learned is a last resort.
    pub graceful_shutdown: bool,
    /// `bgp fail-closed`
    pub fail_closed: FailClosed,
    /// `timers bgp KEEPALIVE HOLD`
    pub timers: Timers,
    /// `neighbor NAME peer-group`, and what is said of each.
    pub peer_groups: BTreeMap<Name, NeighborSettings>,
    /// `neighbor ADDRESS …` and `neighbor IFNAME interface …`, as written; [`Bgp::resolve`] says what that comes to.
    pub neighbors: BTreeMap<NeighborId, NeighborEntry>,
    /// `bgp listen range PREFIX peer-group NAME`: whoever connects from there is a neighbor of that group.
    pub listen_ranges: BTreeMap<Prefix, Name>,
    /// `bgp listen limit`: most neighbors that come that way.
    pub listen_limit: u16,
    /// `address-family …`
    pub families: BTreeMap<Family, FamilyConfig>,
    /// `bmp targets NAME`
    pub bmp: BTreeMap<Name, BmpTargets>,
    /// `router bgp ASN vrf NAME`
    pub vrfs: BTreeMap<Name, BgpVrf>,
}

impl Bgp {
    /// A speaker without neighbors, everything at its default.
    pub fn new(asn: Asn) -> Self {
        Self {
            asn,
            router_id: None,
            cluster_id: None,
            client_to_client_reflection: true,
            confederation: Confederation::default(),
            minimum_hold_time: None,
            fast_external_failover: true,
            fast_convergence: false,
            log_neighbor_changes: true,
            frr_defaults: false,
            ebgp_requires_policy: false,
            default_ipv4_unicast: true,
            default_ipv6_unicast: false,
            default_local_preference: 100,
            best_path: BestPath::default(),
            checks: RouteChecks::default(),
            graceful_restart: GracefulRestart::default(),
            long_lived_stale_time: None,
            graceful_shutdown: false,
            fail_closed: FailClosed::default(),
            timers: Timers::default(),
            peer_groups: BTreeMap::new(),
            neighbors: BTreeMap::new(),
            listen_ranges: BTreeMap::new(),
            listen_limit: Self::LISTEN_LIMIT,
            families: BTreeMap::new(),
            bmp: BTreeMap::new(),
            vrfs: BTreeMap::new(),
        }
    }

    /// `bgp listen limit` where nothing is said, as in FRR.
    pub const LISTEN_LIMIT: u16 = 100;

    /// A neighbor as it is to be treated: what is said of it, and where nothing is, what is said of its peer-group.
    pub fn resolve(&self, id: &NeighborId) -> Option<Neighbor> {
        let NeighborEntry { peer_group, v6only, settings } = self.neighbors.get(id)?;
        self.join(id.clone(), peer_group.as_ref(), *v6only, settings)
    }

    /// Every configured neighbor as it is to be treated.
    pub fn resolved(&self) -> impl Iterator<Item = Neighbor> {
        self.neighbors.keys().filter_map(|id| self.resolve(id))
    }

    /// Whom `address` stands for if it is no configured neighbor and connects from a `bgp listen range`: a member of the
    /// group of the longest range that contains it.
    pub fn dynamic(&self, address: IpAddr) -> Option<Neighbor> {
        let ranges = self.listen_ranges.iter().filter(|(range, _)| range.contains(address));
        let (_, group) = ranges.max_by_key(|(range, _)| range.bits())?;
        self.join(NeighborId::Address(address), Some(group), false, &NeighborSettings::default())
    }

    /// Who goes by `id`: a configured neighbor, or a member of a range.
    pub fn named(&self, id: &NeighborId) -> Option<Neighbor> {
        self.resolve(id).or_else(|| self.dynamic(id.address()?))
    }

    fn join(
        &self,
        id: NeighborId,
        group: Option<&Name>,
        v6only: bool,
        settings: &NeighborSettings,
    ) -> Option<Neighbor> {
        let of_group = group.and_then(|name| self.peer_groups.get(name));
        let settings = of_group.map_or_else(|| settings.clone(), |group| settings.or(group));
        let remote_as = settings.remote_as?;
        Some(Neighbor { id, peer_group: group.cloned(), v6only, remote_as, settings })
    }

    /// A speaker of FRR's traditional profile: external neighbors need a policy, a network needs a route, and restarting
    /// gracefully is for others.
    pub fn with_frr_defaults(asn: Asn) -> Self {
        let graceful_restart = GracefulRestart { restarter: false, ..GracefulRestart::default() };
        let checks = RouteChecks { network_import: true, ..RouteChecks::default() };
        Self { frr_defaults: true, ebgp_requires_policy: true, checks, graceful_restart, ..Self::new(asn) }
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
        let said = neighbor.settings.families.get(&family).and_then(|settings| settings.activate);
        said.unwrap_or(match family {
            Family::Ipv4Unicast => self.default_ipv4_unicast,
            Family::Ipv6Unicast => self.default_ipv6_unicast,
            Family::Ipv4Vpn | Family::Ipv6Vpn => false,
        })
    }

    /// Timers of `neighbor`: its own, or the speaker's.
    pub fn timers(&self, neighbor: &Neighbor) -> Timers {
        neighbor.settings.timers.unwrap_or(self.timers)
    }
}

/// One AS for everybody outside, several within (RFC 5065).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confederation {
    /// `bgp confederation identifier`: without it there is no confederation, whatever its members.
    pub identifier: Option<Asn>,
    /// `bgp confederation peers`: the other member ASes.
    pub members: BTreeSet<Asn>,
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
    /// `bgp bestpath as-path confed`: confederation segments count as length.
    pub confed_as_path: bool,
    /// `bgp bestpath med confed`: paths that never left the confederation are compared by MED, as they are in any case.
    pub confed_med: bool,
    /// `bgp bestpath compare-routerid`: between eBGP paths too, rather than the older one.
    pub compare_router_id: bool,
    /// `bgp bestpath med missing-as-worst`
    pub missing_med_is_worst: bool,
    /// `bgp always-compare-med`: between different neighbor ASes too.
    pub always_compare_med: bool,
    /// `bgp deterministic-med`: paths are compared grouped by neighbor AS.
    pub deterministic_med: bool,
    /// `bgp bestpath as-path multipath-relax`: paths through several ASes may share packets.
    pub relax_as_path: bool,
    /// `bgp bestpath peer-type multipath-relax`: external and internal paths may share packets.
    pub relax_peer_type: bool,
    /// `bgp bestpath bandwidth`
    pub bandwidth: LinkBandwidth,
}

/// What becomes of the bandwidths that paths name which share packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkBandwidth {
    /// Where nothing is said: packets are shared in proportion when all paths name one.
    #[default]
    WhenAll,
    /// `ignore`: packets are shared equally.
    Ignore,
    /// `skip-missing`: paths that name none get nothing.
    SkipMissing,
    /// `default-weight-for-missing`: paths that name none get the least share.
    DefaultForMissing,
}

impl LinkBandwidth {
    /// Each with the word for it.
    pub const SPELLINGS: [(Self, &'static str); 3] = [
        (Self::Ignore, "ignore"),
        (Self::SkipMissing, "skip-missing"),
        (Self::DefaultForMissing, "default-weight-for-missing"),
    ];
}

/// `maximum-paths ibgp PATHS [equal-cluster-length]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaximumInternalPaths {
    /// How many.
    pub paths: u8,
    /// Only such with cluster lists as long.
    pub equal_cluster_length: bool,
}

/// What a route must meet before it is announced or used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteChecks {
    /// `bgp network import-check`: a network is announced only while this router has another route to exactly it; off
    /// unless said, and on with FRR's defaults.
    pub network_import: bool,
    /// `bgp reject-as-sets`: paths with sets are neither accepted nor announced (RFC 6472).
    pub reject_as_sets: bool,
}

/// Graceful restart (RFC 4724).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracefulRestart {
    /// `bgp graceful-restart`: we announce that our forwarding survives; on unless `no` is said, off with FRR's defaults.
    /// Without, a restarting neighbor is still helped unless `bgp graceful-restart-disable`.
    pub restarter: bool,
    /// Cleared by `bgp graceful-restart-disable`: stale paths of a restarting neighbor are kept.
    pub helper: bool,
    /// `bgp graceful-restart restart-time`
    pub restart_time: Duration,
    /// `bgp graceful-restart stalepath-time`
    pub stalepath_time: Duration,
    /// `bgp graceful-restart select-defer-time`: how long after our own restart we wait for what neighbors have to say.
    pub select_defer_time: Option<Duration>,
    /// `bgp graceful-restart preserve-fw-state`: neighbors are told that our forwarding state has survived, whatever was
    /// found in the kernel (F bit).
    pub preserve_forwarding: bool,
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self {
            restarter: true,
            helper: true,
            restart_time: Duration::from_secs(120),
            stalepath_time: Duration::from_secs(360),
            select_defer_time: None,
            preserve_forwarding: false,
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

/// `address-family ipv4|ipv6 unicast`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyConfig {
    /// `network PREFIX [route-map NAME]`
    pub networks: BTreeMap<Prefix, Option<Name>>,
    /// `redistribute SOURCE …`
    pub redistribute: BTreeMap<RedistributeSource, Redistribute>,
    /// `aggregate-address PREFIX …`
    pub aggregates: BTreeMap<Prefix, Aggregate>,
    /// `table-map NAME`: what routes go through on their way into the kernel.
    pub table_map: Option<Name>,
    /// `distance bgp EXTERNAL INTERNAL LOCAL`
    pub distance: Option<Distances>,
    /// `maximum-paths`: most external paths that share the packets of a prefix; one where nothing is said, and any number
    /// with FRR's defaults.
    pub maximum_paths: Option<u8>,
    /// `maximum-paths ibgp`: the same of internal ones.
    pub maximum_internal_paths: Option<MaximumInternalPaths>,
    /// `bgp dampening`
    pub dampening: Option<Dampening>,
}

/// `bgp dampening HALF-LIFE REUSE SUPPRESS MAX-SUPPRESS` (RFC 2439)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dampening {
    /// Minutes in which a penalty halves, 1 to 45.
    pub half_life_minutes: u8,
    /// The penalty below which a path is used again.
    pub reuse: u16,
    /// The penalty from which on a path is not used.
    pub suppress: u16,
    /// Most minutes for which a path is not used.
    pub max_suppress_minutes: u8,
}

impl Dampening {
    /// FRR's figures but for the half-life, of which the longest time is four.
    pub fn of_half_life(minutes: u8) -> Self {
        let max_suppress_minutes = minutes.saturating_mul(4);
        Self { half_life_minutes: minutes, reuse: 750, suppress: 2000, max_suppress_minutes }
    }
}

impl Default for Dampening {
    fn default() -> Self {
        Self::of_half_life(15)
    }
}

/// Administrative distances: of a static route and a route of BGP for one prefix, the one with the lesser is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distances {
    /// Of routes that external neighbors announce.
    pub external: u8,
    /// Of routes that internal neighbors announce.
    pub internal: u8,
    /// Of our own, which are in the kernel from where they came in any case.
    pub local: u8,
}

impl Default for Distances {
    /// As everywhere: 20, 200 and 200.
    fn default() -> Self {
        Self { external: 20, internal: 200, local: 200 }
    }
}

/// `aggregate-address PREFIX …`: announced while some more specific route is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aggregate {
    /// `summary-only`: its more specific routes are not announced.
    pub summary_only: bool,
    /// `as-set`: its path has the ASes of its more specific routes as a set.
    pub as_set: bool,
    /// `matching-MED-only`: only while all of them have the same MED.
    pub matching_med_only: bool,
    /// `origin`
    pub origin: Option<Origin>,
    /// `route-map`: changes it, or denies it.
    pub route_map: Option<Name>,
    /// `suppress-map`: more specific routes that it permits are not announced.
    pub suppress_map: Option<Name>,
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
    /// `ipsec`: what tunnels with `reverse-route` carry on their peers' side.
    Ipsec,
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
    pub const ALL: [Self; 4] = [Self::Connected, Self::Static, Self::Kernel, Self::Ipsec];

    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Static => "static",
            Self::Kernel => "kernel",
            Self::Ipsec => "ipsec",
        }
    }
}
