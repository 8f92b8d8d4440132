//! What an operator decides about one session.

use std::{fmt, time::Duration};

use bgp_wire::{
    AddPath, Capability, ExtendedNextHop, FamilySet, Fqdn, GracefulRestart, LongLivedFamily, MAX_LONG_LIVED_SECONDS,
    Open, OutboundFilters, PeerKind, Role,
};
use net_types::{Asn, Family, RouterId};

/// Which AS a neighbor may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteAs {
    /// This one.
    Exactly(Asn),
    /// Any but ours (`remote-as external`).
    External,
    /// Ours (`remote-as internal`).
    Internal,
}

impl RemoteAs {
    /// Whether `asn` is acceptable where ours is `local`.
    pub fn accepts(self, asn: Asn, local: Asn) -> bool {
        match self {
            Self::Exactly(expected) => asn == expected,
            Self::External => asn != local,
            Self::Internal => asn == local,
        }
    }

    /// Internal or external, as far as the configuration alone tells, where our AS is `local` and `members` are the other
    /// ones of our confederation. With any, `External` is one of them: what we say in our OPEN depends on it, so it
    /// cannot wait for the neighbor's.
    pub fn kind(self, local: Asn, members: &[Asn]) -> PeerKind {
        match self {
            Self::Internal => PeerKind::Internal,
            Self::Exactly(asn) if asn == local => PeerKind::Internal,
            Self::Exactly(asn) if members.contains(&asn) => PeerKind::Confederation,
            Self::External if !members.is_empty() => PeerKind::Confederation,
            Self::Exactly(_) | Self::External => PeerKind::External,
        }
    }
}

impl fmt::Display for RemoteAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(asn) => write!(f, "AS{asn}"),
            Self::External => f.write_str("any external AS"),
            Self::Internal => f.write_str("our own AS"),
        }
    }
}

/// What two speakers do about each other's capabilities (RFC 5492); the default is to negotiate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiation {
    /// Our OPEN has no capabilities, for speakers that cannot read them (`dont-capability-negotiate`).
    pub silent: bool,
    /// The families that are configured are carried whatever the neighbor says (`override-capability`).
    pub override_families: bool,
    /// The neighbor has to offer the same families as we do, and nothing that we do not know (`strict-capability-match`).
    pub strict: bool,
    /// Our OPEN has the extended layout (`extended-optional-parameters`, RFC 9072).
    pub extended_parameters: bool,
}

/// What we are to the neighbor (`local-role`, RFC 9234 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalRole {
    /// Our role.
    pub role: Role,
    /// Refuse a neighbor that says nothing of its role.
    pub strict: bool,
}

/// The configuration of one session. A change takes effect with the next OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Our AS, as this neighbor sees it.
    pub local_asn: Asn,
    /// The neighbor's.
    pub remote_asn: RemoteAs,
    /// The other member ASes of our confederation, in order; `local_asn` is ours then, but towards neighbors outside
    /// it is the confederation's (RFC 5065 §4).
    pub members: Vec<Asn>,
    /// What we are to the neighbor.
    pub role: Option<LocalRole>,
    /// How capabilities are negotiated.
    pub negotiation: Negotiation,
    /// The families that we take with IPv6 next hops although they are not IPv6 (RFC 8950).
    pub over_ipv6: FamilySet,
    /// The families of which we take several paths for a prefix (RFC 7911).
    pub add_path_in: FamilySet,
    /// The families of which we send several.
    pub add_path_out: FamilySet,
    /// The families of which we send filters by address prefix (RFC 5292).
    pub filters_out: FamilySet,
    /// The families of which we take them.
    pub filters_in: FamilySet,
    /// Our BGP identifier.
    pub router_id: RouterId,
    /// The hold time to propose; zero for none, else at least 3 s.
    pub hold_time: Duration,
    /// The longest time between keepalives; a third of the hold time where that is shorter.
    pub keepalive: Duration,
    /// Refuse neighbors that want a shorter hold time (zero, which is none at all, is let through).
    pub minimum_hold_time: Duration,
    /// How long to wait between attempts to connect (ConnectRetryTime, RFC 4271 §10).
    pub connect_retry: Duration,
    /// Wait for the neighbor to connect (RFC 4271 §8.1.1, PassiveTcpEstablishment).
    pub passive: bool,
    /// The families to carry.
    pub families: FamilySet,
    /// What we promise about our restarts; `None` keeps the capability out of our OPEN.
    pub graceful_restart: Option<GracefulRestart>,
    /// How long our routes may be used after a restart that takes longer than announced (RFC 9494), as far as restarts are
    /// graceful at all; `None` keeps that capability out of our OPEN.
    pub long_lived: Option<Duration>,
    /// Refuse paths of an external neighbor that do not start with its AS (RFC 4271 §6.3).
    pub enforce_first_as: bool,
    /// Our name, for the neighbor's operator.
    pub name: Option<Fqdn>,
    /// Our software, for the neighbor's operator.
    pub software_version: Option<String>,
}

impl SessionConfig {
    /// The defaults, for a neighbor in `remote_asn`.
    ///
    /// Timers are those of FRR's datacenter profile but for the hold time: tunnels that fail silently without BFD
    /// should not blackhole for three minutes.
    pub fn new(local_asn: Asn, router_id: RouterId, remote_asn: RemoteAs) -> Self {
        Self {
            local_asn,
            remote_asn,
            members: Vec::new(),
            role: None,
            negotiation: Negotiation::default(),
            over_ipv6: FamilySet::EMPTY,
            add_path_in: FamilySet::EMPTY,
            add_path_out: FamilySet::EMPTY,
            filters_out: FamilySet::EMPTY,
            filters_in: FamilySet::EMPTY,
            router_id,
            hold_time: Duration::from_secs(90), // RFC 4271 §10
            keepalive: Duration::from_secs(30),
            minimum_hold_time: Duration::from_secs(3),
            connect_retry: Duration::from_secs(10),
            passive: false,
            families: FamilySet::from(Family::Ipv4Unicast),
            graceful_restart: None,
            long_lived: None,
            enforce_first_as: true,
            name: None,
            software_version: None,
        }
    }

    /// What the neighbor is to us.
    pub fn kind(&self) -> PeerKind {
        self.remote_asn.kind(self.local_asn, &self.members)
    }

    /// The hold time as an OPEN carries it.
    fn hold_seconds(&self) -> u16 {
        let seconds = u16::try_from(self.hold_time.as_secs()).unwrap_or(u16::MAX);
        if matches!(seconds, 1 | 2) { 3 } else { seconds } // RFC 4271 §4.2: 1 and 2 are not allowed
    }

    /// Our OPEN. Demarcated refreshes (RFC 7313) are not offered: nothing is swept after them.
    pub fn open(&self) -> Open {
        let (asn, hold_seconds, router_id) = (self.local_asn, self.hold_seconds(), self.router_id);
        let extended_parameters = self.negotiation.extended_parameters;
        if self.negotiation.silent {
            return Open { asn, hold_seconds, router_id, capabilities: Vec::new(), extended_parameters };
        }
        let mut capabilities: Vec<_> = self.families.iter().map(Capability::multiprotocol).collect();
        capabilities.extend([
            Capability::RouteRefresh,
            Capability::ExtendedMessage,
            Capability::FourOctetAs(self.local_asn.get()),
        ]);
        let over_ipv6: Vec<_> =
            self.families.intersection(self.over_ipv6).iter().map(ExtendedNextHop::over_ipv6).collect();
        if !over_ipv6.is_empty() {
            capabilities.push(Capability::ExtendedNextHop(over_ipv6));
        }
        let add_path =
            |family| AddPath::new(family, self.add_path_in.contains(family), self.add_path_out.contains(family));
        let add_path: Vec<_> = self.families.iter().filter_map(add_path).collect();
        if !add_path.is_empty() {
            capabilities.push(Capability::AddPath(add_path));
        }
        let filters = |family| {
            OutboundFilters::by_prefix(family, self.filters_in.contains(family), self.filters_out.contains(family))
        };
        let filters: Vec<_> = self.families.iter().filter_map(filters).collect();
        if !filters.is_empty() {
            capabilities.push(Capability::OutboundFilters(filters));
        }
        capabilities.extend(self.role.map(|local| Capability::Role(local.role as u8)));
        capabilities.extend(self.graceful_restart.clone().map(Capability::GracefulRestart));
        // RFC 9494 §3.1: never without the other one.
        if let (Some(restart), Some(time)) = (&self.graceful_restart, self.long_lived) {
            let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX).min(MAX_LONG_LIVED_SECONDS);
            let long_lived = restart.families.iter().map(|family| LongLivedFamily {
                afi: family.afi,
                safi: family.safi,
                forwarding_preserved: family.forwarding_preserved,
                stale_seconds: seconds,
            });
            capabilities.push(Capability::LongLived(long_lived.collect()));
        }
        capabilities.extend(self.name.clone().map(Capability::Fqdn));
        capabilities.extend(self.software_version.clone().map(Capability::SoftwareVersion));
        // Nobody else has a use for it. Who wants nothing unknown is not to be told something unknown, either.
        if self.kind() == PeerKind::Internal && !self.negotiation.strict {
            capabilities.push(Capability::TunnelMarks);
        }
        Open { asn, hold_seconds, router_id, capabilities, extended_parameters }
    }
}
