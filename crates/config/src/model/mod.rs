//! What a configuration means, in checked types.
//!
//! Everything here is plain data with `Eq`: a reload compares the running value with the new one and applies the difference.
//! Defaults are the ones documented in holdfast.conf(5); a field is an `Option` where "not said" differs from every value.

mod alias;
mod bfd;
mod bgp;
mod host;
mod ipsec;
mod key_chain;
mod lists;
mod log;
mod monitoring;
mod neighbor;
mod neighbor_policy;
mod packets;
mod path_damping;
mod pattern;
mod route_map;
mod routing;
mod rpki;
mod settings;
mod span;
mod suite;
mod trust;
mod values;
mod vrf;
mod vrrp;
mod wan;

use std::collections::BTreeMap;

use ::vrrp::Vrid;
use net_types::{Family, IfName, TunnelName, WanName};

pub use alias::AliasedCommunity;
pub use bfd::{BfdPeer, BfdPeerId, BfdProfile};
pub use bgp::{
    Aggregate, BestPath, Bgp, Confederation, Dampening, Distances, FailClosed, FamilyConfig, GracefulRestart,
    LinkBandwidth, MaximumInternalPaths, Redistribute, RedistributeSource, RouteChecks, Timers,
};
pub use host::Host;
pub use ipsec::{
    ChildLifetime, Childless, Credential, Datapath, Dpd, Identity, Initiate, Ppk, Probe, Proposal, Remote,
    RemoteAddress, ReverseRoute, Standby, Tunnel, tunnels_of_one_datapath,
};
pub use key_chain::{AoAlgorithm, AoUse, ChainKey, KeyChain};
pub use lists::{AccessTarget, CommunityList, Rules};
pub use log::{Log, LogFormat, LogLevel, Metrics};
pub use monitoring::{BmpMonitor, BmpRetry, BmpTargets, Dump, Dumps};
pub use neighbor::{
    BfdUse, MaximumPrefix, MaximumPrefixAction, Neighbor, NeighborEntry, NeighborFamily, NeighborId, NeighborRestart,
    NeighborSettings, OutboundFilter, Password, RemoteAs, Shutdown, UpdateSource,
};
pub use neighbor_policy::{AdvertiseMap, DefaultOriginate, Existence, PolicySettings};
pub use packets::{Df, Dscp, Encapsulation, Gre, Packets};
pub use path_damping::PathDamping;
pub use pattern::{Pattern, PatternError};
pub use route_map::{
    Adjust, Bandwidth, CommunityChange, ExtCommunityChange, Match, MatchPeer, OnMatch, Origin, Protocol, RouteMap,
    RouteMapEntry, Set, Validation,
};
pub use routing::{Action, PrefixList, PrefixListEntry, StaticBfd, StaticRoute, StaticTarget};
pub use rpki::{Rpki, RpkiCache, RpkiTransport};
pub use settings::{
    AllowOwnAs, AttributeUnchanged, LocalAs, LocalRole, RemovePrivateAs, Role, RouteSettings, SessionSettings,
};
pub use span::Span;
pub use suite::{Additional, Aead, AesCbc, Cipher, Esn, EspSuite, Group, IkeSuite, Integrity, Kem, Prf, SuiteError};
pub use trust::{
    Fingerprint, FingerprintError, HttpUrl, HttpUrlError, ListSource, PeerDemands, Revocation, RevocationPolicy,
};
pub(crate) use values::digits;
pub use values::{
    Community, ExtCommunity, ExtCommunityTerm, ExtCommunityTerms, IkeId, IkeIdError, InterfaceAddress, LargeCommunity,
    Name, Secret, ValueError,
};
pub use vrf::{BgpVrf, VpnLabel, Vrf, VrfFamily};
pub use vrrp::{VrrpGroup, VrrpTracked};
pub use wan::Wan;

/// A whole configuration: one file, of which each daemon takes its sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `hostname`: what the shell's prompt and the BGP hostname capability show.
    pub hostname: Option<Name>,
    /// `frr defaults traditional`: where nothing is said, a speaker is as FRR would have it.
    pub frr_defaults: bool,
    /// `log`: level and format, unless the command line says otherwise.
    pub log: Log,
    /// `metrics`: where each daemon serves Prometheus.
    pub metrics: Metrics,
    /// `path-damping`: paths that flap are held down; none is without.
    pub path_damping: Option<PathDamping>,
    /// `wan NAME` sections.
    pub wans: BTreeMap<WanName, Wan>,
    /// `ipsec datapath`: of tunnels that say nothing of it.
    pub datapath: Datapath,
    /// `ipsec proposal NAME` sections.
    pub proposals: BTreeMap<Name, Proposal>,
    /// `ipsec identity NAME` sections.
    pub identities: BTreeMap<Name, Identity>,
    /// `ipsec tunnel NAME` sections.
    pub tunnels: BTreeMap<TunnelName, Tunnel>,
    /// `key chain NAME` sections.
    pub key_chains: BTreeMap<Name, KeyChain>,
    /// `profile NAME` sections within `bfd`.
    pub bfd_profiles: BTreeMap<Name, BfdProfile>,
    /// `peer …` sections within `bfd`.
    pub bfd_peers: BTreeMap<BfdPeerId, BfdPeer>,
    /// `vrrp N` within `interface IFNAME`.
    pub vrrp: BTreeMap<(IfName, Vrid), VrrpGroup>,
    /// `ip route` and `ipv6 route`, sorted, without duplicates.
    pub static_routes: Vec<StaticRoute>,
    /// `ip protocol bgp route-map` and `ipv6 protocol bgp route-map`: what routes of BGP go through on their way into the
    /// kernel, after the `table-map` of their family.
    pub protocol_maps: BTreeMap<Family, Name>,
    /// `ip prefix-list` and `ipv6 prefix-list`; the families have separate names, as in FRR.
    pub prefix_lists: BTreeMap<(Family, Name), PrefixList>,
    /// `access-list` and `ipv6 access-list`.
    pub access_lists: BTreeMap<(Family, Name), Rules<AccessTarget>>,
    /// `bgp as-path access-list`.
    pub as_path_lists: BTreeMap<Name, Rules<Pattern>>,
    /// `bgp community-list`.
    pub community_lists: BTreeMap<Name, CommunityList<Community>>,
    /// `bgp large-community-list`.
    pub large_community_lists: BTreeMap<Name, CommunityList<LargeCommunity>>,
    /// `bgp extcommunity-list`.
    pub ext_community_lists: BTreeMap<Name, CommunityList<ExtCommunityTerm>>,
    /// `bgp community alias`: one name for a community, one community for a name.
    pub community_aliases: BTreeMap<AliasedCommunity, Name>,
    /// `vrf NAME` sections.
    pub vrfs: BTreeMap<Name, Vrf>,
    /// `route-map`.
    pub route_maps: BTreeMap<Name, RouteMap>,
    /// `rpki`.
    pub rpki: Rpki,
    /// `dump bgp`.
    pub dumps: Dumps,
    /// `router bgp`.
    pub bgp: Option<Bgp>,
}
