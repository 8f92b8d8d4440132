//! BGP neighbors and peer-groups: `neighbor …` within `router bgp`.
//!
//! What is written of a neighbor and what is written of a peer-group is one type, in which everything may be left unsaid.
//! What a neighbor comes to is worked out by [`Bgp::resolve`](super::Bgp::resolve) and has another type, so that nobody acts
//! on lines without those of the group.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use net_types::{Asn, Family, IfName};

use super::{AoUse, Name, PolicySettings, RouteSettings, Secret, SessionSettings, Timers};

/// Which neighbor is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NeighborId {
    /// The one with this address.
    Address(IpAddr),
    /// Whoever is found at the other end of this link (`neighbor IFNAME interface`).
    Interface(IfName),
}

impl NeighborId {
    /// The address, if that is what it is known by.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Interface(_) => None,
        }
    }
}

impl From<IpAddr> for NeighborId {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

impl FromStr for NeighborId {
    type Err = <IfName as FromStr>::Err;

    /// An address where it is one, the name of a link otherwise.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map_or_else(|_| text.parse().map(Self::Interface), |address| Ok(Self::Address(address)))
    }
}

impl fmt::Display for NeighborId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Interface(interface) => interface.fmt(f),
        }
    }
}

/// What is written of one neighbor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeighborEntry {
    /// `peer-group NAME`: whose lines hold where this neighbor has none.
    pub peer_group: Option<Name>,
    /// `interface v6only`, of a neighbor that is known by its link: no session over IPv4.
    pub v6only: bool,
    /// Everything else.
    pub settings: NeighborSettings,
}

/// A neighbor as it is to be treated: what [`Bgp::resolve`](super::Bgp::resolve) makes of the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// Who it is.
    pub id: NeighborId,
    /// Its group.
    pub peer_group: Option<Name>,
    /// `interface v6only`
    pub v6only: bool,
    /// `remote-as`, its own or its group's.
    pub remote_as: RemoteAs,
    /// What is said of it, or of its group; still unsaid is what is at its default.
    pub settings: NeighborSettings,
}

impl Neighbor {
    /// A neighbor without a group, everything at its default.
    pub fn new(id: impl Into<NeighborId>, remote_as: RemoteAs) -> Self {
        Self { id: id.into(), peer_group: None, v6only: false, remote_as, settings: NeighborSettings::default() }
    }
}

/// What may be said of a neighbor, or of a peer-group for its members; `None` is unsaid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeighborSettings {
    /// `remote-as`
    pub remote_as: Option<RemoteAs>,
    /// `description`
    pub description: Option<String>,
    /// `shutdown`
    pub shutdown: Option<Shutdown>,
    /// `password` (RFC 2385)
    pub password: Option<Password>,
    /// `ao` (RFC 5925)
    pub ao: Option<AoUse>,
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
    pub disable_connected_check: Option<bool>,
    /// `update-source`
    pub update_source: Option<UpdateSource>,
    /// `interface`: the link that a link-local address is on.
    pub interface: Option<IfName>,
    /// `port`
    pub port: Option<u16>,
    /// `passive`: never dial.
    pub passive: Option<bool>,
    /// `graceful-restart…`
    pub graceful_restart: Option<NeighborRestart>,
    /// What is negotiated with it, and how.
    pub session: SessionSettings,
    /// What is said within `address-family`.
    pub families: BTreeMap<Family, NeighborFamily>,
}

impl NeighborSettings {
    /// `timers connect` where nothing is said, as in FRR.
    pub const CONNECT_RETRY: Duration = Duration::from_secs(120);

    /// These, and where nothing is said, those of `group`. Both are named field by field: a new one has to be inherited.
    pub(super) fn or(&self, group: &Self) -> Self {
        let Self {
            remote_as,
            description,
            shutdown,
            password,
            ao,
            timers,
            connect_retry,
            bfd,
            ttl_security_hops,
            ebgp_multihop,
            disable_connected_check,
            update_source,
            interface,
            port,
            passive,
            graceful_restart,
            session,
            families,
        } = self.clone();
        let families = Family::ALL.into_iter().filter_map(|family| {
            let settings = match (families.get(&family), group.families.get(&family)) {
                (Some(own), Some(group)) => own.or(group),
                (own, group) => own.or(group)?.clone(),
            };
            Some((family, settings))
        });
        Self {
            remote_as: remote_as.or(group.remote_as),
            description: description.or_else(|| group.description.clone()),
            shutdown: shutdown.or_else(|| group.shutdown.clone()),
            password: password.or_else(|| group.password.clone()),
            ao: ao.or_else(|| group.ao.clone()),
            timers: timers.or(group.timers),
            connect_retry: connect_retry.or(group.connect_retry),
            bfd: bfd.or_else(|| group.bfd.clone()),
            ttl_security_hops: ttl_security_hops.or(group.ttl_security_hops),
            ebgp_multihop: ebgp_multihop.or(group.ebgp_multihop),
            disable_connected_check: disable_connected_check.or(group.disable_connected_check),
            update_source: update_source.or_else(|| group.update_source.clone()),
            interface: interface.or_else(|| group.interface.clone()),
            port: port.or(group.port),
            passive: passive.or(group.passive),
            graceful_restart: graceful_restart.or(group.graceful_restart),
            session: session.or(&group.session),
            families: families.collect(),
        }
    }
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

/// `shutdown`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// `no … shutdown`, also where the group is held down.
    No,
    /// `shutdown [message TEXT]`
    Down {
        /// Told to the neighbor (RFC 9003).
        message: Option<String>,
    },
}

impl Shutdown {
    /// Whether the session is held down.
    pub fn is_down(&self) -> bool {
        matches!(self, Self::Down { .. })
    }
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
    /// `bfd strict`: there is no session with the neighbor while BFD does not see it.
    pub strict: bool,
    /// `bfd check-control-plane-failure`: what BFD says of a neighbor that may be restarting does not end the session
    /// (RFC 5882 §4.3).
    pub check_control_plane: bool,
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

/// What may be said of a neighbor or a peer-group within an address family; `None` is unsaid.
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
    pub next_hop_self: Option<bool>,
    /// `soft-reconfiguration inbound`: what the neighbor sent is always kept as received, so this only documents intent.
    pub soft_reconfiguration: Option<bool>,
    /// `maximum-prefix`
    pub maximum_prefix: Option<MaximumPrefix>,
    /// `weight`: of what it announces, local to this router.
    pub weight: Option<u16>,
    /// `capability orf prefix-list` (RFC 5291)
    pub outbound_filter: Option<OutboundFilter>,
    /// How its routes are changed on the way.
    pub routes: RouteSettings,
    /// Which of its routes pass, and what is announced beyond the table.
    pub policy: PolicySettings,
}

impl NeighborFamily {
    /// These, and where nothing is said, those of `group`.
    fn or(&self, group: &Self) -> Self {
        let Self {
            activate,
            route_map_in,
            route_map_out,
            prefix_list_in,
            prefix_list_out,
            next_hop_self,
            soft_reconfiguration,
            maximum_prefix,
            weight,
            outbound_filter,
            routes,
            policy,
        } = self.clone();
        Self {
            activate: activate.or(group.activate),
            route_map_in: route_map_in.or_else(|| group.route_map_in.clone()),
            route_map_out: route_map_out.or_else(|| group.route_map_out.clone()),
            prefix_list_in: prefix_list_in.or_else(|| group.prefix_list_in.clone()),
            prefix_list_out: prefix_list_out.or_else(|| group.prefix_list_out.clone()),
            next_hop_self: next_hop_self.or(group.next_hop_self),
            soft_reconfiguration: soft_reconfiguration.or(group.soft_reconfiguration),
            maximum_prefix: maximum_prefix.or(group.maximum_prefix),
            weight: weight.or(group.weight),
            outbound_filter: outbound_filter.or(group.outbound_filter),
            routes: routes.or(&group.routes),
            policy: policy.or(&group.policy),
        }
    }
}

/// `capability orf prefix-list`: which way filters may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundFilter {
    /// `send`: the neighbor applies our inbound prefix-list.
    Send,
    /// `receive`: we apply what the neighbor asks for.
    Receive,
    /// `both`
    Both,
}

impl OutboundFilter {
    /// All of them, with their words.
    pub const SPELLINGS: [(Self, &str); 3] = [(Self::Send, "send"), (Self::Receive, "receive"), (Self::Both, "both")];

    /// Whether we send filters.
    pub fn sends(self) -> bool {
        self != Self::Receive
    }

    /// Whether we take them.
    pub fn receives(self) -> bool {
        self != Self::Send
    }
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

#[cfg(test)]
mod tests {
    use crate::model::Bgp;

    use super::*;

    #[test]
    fn a_member_has_what_it_says_and_the_rest_from_its_group() {
        let mut bgp = Bgp::new("65001".parse().unwrap());
        let name: Name = "SPINES".parse().unwrap();
        let family = NeighborFamily { activate: Some(true), weight: Some(7), ..NeighborFamily::default() };
        let group = NeighborSettings {
            remote_as: Some(RemoteAs::External),
            passive: Some(true),
            shutdown: Some(Shutdown::Down { message: None }),
            families: [(Family::Ipv6Unicast, family)].into(),
            ..NeighborSettings::default()
        };
        bgp.peer_groups.insert(name.clone(), group);
        let own = NeighborFamily { weight: Some(9), ..NeighborFamily::default() };
        let settings = NeighborSettings {
            shutdown: Some(Shutdown::No),
            families: [(Family::Ipv6Unicast, own)].into(),
            ..NeighborSettings::default()
        };
        let id = NeighborId::Interface("eth0".parse().unwrap());
        let entry = NeighborEntry { peer_group: Some(name.clone()), v6only: true, settings };
        bgp.neighbors.insert(id.clone(), entry);
        let resolved = bgp.resolve(&id).unwrap();
        assert_eq!((resolved.remote_as, resolved.settings.passive), (RemoteAs::External, Some(true)));
        assert_eq!(resolved.settings.shutdown, Some(Shutdown::No), "its own word holds");
        assert!(bgp.is_active(&resolved, Family::Ipv6Unicast));
        assert_eq!(resolved.settings.families[&Family::Ipv6Unicast].weight, Some(9));

        bgp.listen_ranges.insert("10.0.0.0/8".parse().unwrap(), "OTHERS".parse().unwrap());
        bgp.listen_ranges.insert("10.1.0.0/16".parse().unwrap(), name.clone());
        let found = bgp.dynamic("10.1.2.3".parse().unwrap()).unwrap();
        assert_eq!((found.peer_group, found.settings.passive), (Some(name), Some(true)), "the longest range");
        assert_eq!(bgp.dynamic("10.2.0.1".parse().unwrap()), None, "a group without an AS takes nobody");
        assert_eq!(bgp.dynamic("192.0.2.1".parse().unwrap()), None);
    }
}
