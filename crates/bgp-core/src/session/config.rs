//! What an operator decides about one session.

use std::{fmt, time::Duration};

use bgp_wire::{Capability, FamilySet, Fqdn, GracefulRestart, Open, PeerKind};
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

    /// Internal or external, as far as the configuration alone tells.
    pub fn kind(self, local: Asn) -> PeerKind {
        match self {
            Self::Exactly(asn) if asn != local => PeerKind::External,
            Self::External => PeerKind::External,
            Self::Exactly(_) | Self::Internal => PeerKind::Internal,
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

/// The configuration of one session. A change takes effect with the next OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Our AS, as this neighbor sees it.
    pub local_asn: Asn,
    /// The neighbor's.
    pub remote_asn: RemoteAs,
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
            router_id,
            hold_time: Duration::from_secs(90), // RFC 4271 §10
            keepalive: Duration::from_secs(30),
            minimum_hold_time: Duration::from_secs(3),
            connect_retry: Duration::from_secs(10),
            passive: false,
            families: FamilySet::from(Family::Ipv4Unicast),
            graceful_restart: None,
            enforce_first_as: true,
            name: None,
            software_version: None,
        }
    }

    /// The hold time as an OPEN carries it.
    fn hold_seconds(&self) -> u16 {
        let seconds = u16::try_from(self.hold_time.as_secs()).unwrap_or(u16::MAX);
        if matches!(seconds, 1 | 2) { 3 } else { seconds } // RFC 4271 §4.2: 1 and 2 are not allowed
    }

    /// Our OPEN. Demarcated refreshes (RFC 7313) are not offered: nothing is swept after them.
    pub fn open(&self) -> Open {
        let mut capabilities: Vec<_> = self.families.iter().map(Capability::multiprotocol).collect();
        capabilities.extend([
            Capability::RouteRefresh,
            Capability::ExtendedMessage,
            Capability::FourOctetAs(self.local_asn.get()),
        ]);
        capabilities.extend(self.graceful_restart.clone().map(Capability::GracefulRestart));
        capabilities.extend(self.name.clone().map(Capability::Fqdn));
        capabilities.extend(self.software_version.clone().map(Capability::SoftwareVersion));
        Open { asn: self.local_asn, hold_seconds: self.hold_seconds(), router_id: self.router_id, capabilities }
    }
}
