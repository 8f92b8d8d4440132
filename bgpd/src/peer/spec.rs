//! What a neighbor's task has to know: the session's configuration, and how to reach the neighbor.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bgp_core::{PeerId, session::SessionConfig};
use bgp_wire::Notification;
use config::model::NeighborId;
use net_types::IfName;
use zeroize::Zeroizing;

use super::{Ao, Filters};

/// One neighbor.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerSpec {
    /// Its number, for as long as it stays configured.
    pub id: PeerId,
    /// Its address.
    pub address: IpAddr,
    /// The link that it is known by (`neighbor IFNAME interface`); none where its address is configured.
    pub link: Option<IfName>,
    /// What to agree on.
    pub session: SessionConfig,
    /// How to reach it.
    pub transport: Transport,
    /// What the neighbor is to keep back for us.
    pub filters: Filters,
    /// What BFD has to say in it.
    pub bfd: BfdRules,
    /// Not wanted now (`shutdown`): what to tell it.
    pub shutdown: Option<Notification>,
}

/// How a session depends on what BFD sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BfdRules {
    /// There is no session while BFD does not see the neighbor (`bfd strict`).
    pub strict: bool,
    /// A loss that may be a restart of the neighbor is left to the hold timer (`bfd check-control-plane-failure`).
    pub check_control_plane: bool,
}

impl PeerSpec {
    /// As the configuration calls it.
    pub fn name(&self) -> NeighborId {
        self.link.clone().map_or(NeighborId::Address(self.address), NeighborId::Interface)
    }

    /// Whether going over to `new` takes a new session: what two OPENs or a connection settle has changed.
    pub fn needs_reset(&self, new: &Self) -> bool {
        self.address != new.address
            || !self.transport.leads_to(&new.transport)
            || lasting(&self.session) != lasting(&new.session)
    }
}

/// A session's configuration without what may change while it is up: how connections are opened, and the state of our
/// own restart, which an OPEN reports and does not agree on.
fn lasting(session: &SessionConfig) -> SessionConfig {
    let mut lasting = session.clone();
    lasting.connect_retry = Duration::ZERO;
    lasting.passive = false;
    lasting.minimum_hold_time = Duration::ZERO;
    if let Some(restart) = &mut lasting.graceful_restart {
        restart.restarting = false;
        restart.families.iter_mut().for_each(|family| family.forwarding_preserved = false);
    }
    lasting
}

/// A TCP-MD5 key; cleared when the last user drops it.
pub type Password = Arc<Zeroizing<Vec<u8>>>;

/// How to reach a neighbor.
#[derive(Clone, PartialEq)]
pub struct Transport {
    /// Its TCP port.
    pub port: u16,
    /// `update-source`; the kernel chooses without.
    pub source: Option<Source>,
    /// The link that it is on: necessary for a link-local address.
    pub interface: Option<IfName>,
    /// The tunnel that it is behind: nothing is sent to it by another way, whatever the routes say.
    pub tunnel: Option<IfName>,
    /// How far away it may be.
    pub hops: Hops,
    /// The key of TCP-MD5 (RFC 2385).
    pub password: Option<Password>,
    /// The keys of TCP-AO (RFC 5925); never beside a password.
    pub ao: Option<Ao>,
    /// The largest TCP segment that we ask for, in octets of payload (`tcp-mss`).
    pub max_segment_octets: Option<u16>,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            port: 179,
            source: None,
            interface: None,
            tunnel: None,
            hops: Hops::Direct,
            password: None,
            ao: None,
            max_segment_octets: None,
        }
    }
}

impl Transport {
    /// Whether a connection that was made like this may go on like that.
    fn leads_to(&self, new: &Self) -> bool {
        let keys = match (&self.ao, &new.ao) {
            (Some(old), Some(new)) => old.leads_to(new),
            (old, new) => old.is_none() && new.is_none(),
        };
        keys && Self { ao: None, ..self.clone() } == Self { ao: None, ..new.clone() }
    }
}

impl Transport {
    /// Whether the neighbor is at the other end of one link, so that the session ends with it.
    pub fn is_on_one_link(&self) -> bool {
        self.interface.is_some() || matches!(self.hops, Hops::Direct | Hops::Secured(1))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("port", &self.port)
            .field("source", &self.source)
            .field("interface", &self.interface)
            .field("hops", &self.hops)
            .field("max_segment_octets", &self.max_segment_octets)
            .field("ao", &self.ao)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .finish()
    }
}

/// Where our connections come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This address.
    Address(IpAddr),
    /// The address of this interface that goes best with the neighbor's; looked up for each attempt.
    Interface(IfName),
}

/// How far away a neighbor may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hops {
    /// On the same link: packets leave with a TTL of 1 (the default of eBGP).
    Direct,
    /// Anywhere within this many hops: packets leave with that TTL (`ebgp-multihop`; 255 for iBGP).
    Within(u8),
    /// The same, and packets that came farther are dropped (`ttl-security hops`, RFC 5082).
    Secured(u8),
}

impl Hops {
    /// The TTL of what we send.
    pub fn ttl(self) -> u8 {
        match self {
            Self::Direct => 1,
            Self::Within(hops) => hops.max(1),
            Self::Secured(_) => 255,
        }
    }

    /// The least TTL of what we accept (RFC 5082 §3).
    pub fn minimum_ttl(self) -> Option<u8> {
        match self {
            Self::Direct | Self::Within(_) => None,
            Self::Secured(hops) => Some(255 - hops.max(1) + 1),
        }
    }

    /// As `show bgp neighbors` counts them.
    pub fn limit(self) -> u8 {
        match self {
            Self::Direct => 1,
            Self::Within(hops) | Self::Secured(hops) => hops.max(1),
        }
    }
}

impl PeerSpec {
    /// Where to connect to; `scope` is the interface of a link-local address.
    pub(super) fn socket_address(&self, scope: u32) -> SocketAddr {
        match self.address {
            IpAddr::V6(address) if address.is_unicast_link_local() => {
                std::net::SocketAddrV6::new(address, self.transport.port, 0, scope).into()
            }
            address => SocketAddr::new(address, self.transport.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_over_several_hops_has_no_link_of_its_own() {
        let over = |hops| Transport { hops, ..Transport::default() };
        assert!(over(Hops::Direct).is_on_one_link() && over(Hops::Secured(1)).is_on_one_link());
        assert!(!over(Hops::Within(255)).is_on_one_link() && !over(Hops::Secured(2)).is_on_one_link());
        let interface = Some("eth0".parse().unwrap());
        assert!(Transport { interface, ..over(Hops::Within(255)) }.is_on_one_link());
    }

    #[test]
    fn ttl_security_bounds_the_distance() {
        assert_eq!((Hops::Secured(1).ttl(), Hops::Secured(1).minimum_ttl()), (255, Some(255)));
        assert_eq!(Hops::Secured(3).minimum_ttl(), Some(253));
        assert_eq!((Hops::Direct.ttl(), Hops::Direct.minimum_ttl()), (1, None));
        assert_eq!(Hops::Within(255).ttl(), 255);
    }
}
