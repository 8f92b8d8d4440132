//! Next hops, as NEXT_HOP and MP_REACH_NLRI carry them (RFC 4271 §5.1.3, RFC 4760 §3, RFC 2545 §3).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bytes::BufMut;
use net_types::Family;

/// The route distinguisher in front of a VPN's next hop, which is in no VPN.
pub(crate) const NO_RD: [u8; 8] = [0; 8];

/// Where packets for the announced prefixes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, and on a shared link the link-local one beside it (RFC 2545 §3).
    V6 {
        /// The global address. Speakers on links without one put a link-local address here.
        global: Ipv6Addr,
        /// The link-local address, if the peer shares a link with the next hop.
        link_local: Option<Ipv6Addr>,
    },
}

impl NextHop {
    /// The address that routing looks up: the global one, unless only the link-local one means anything.
    pub fn address(&self) -> IpAddr {
        match *self {
            Self::V4(address) => address.into(),
            Self::V6 { global, link_local: Some(link_local) } if global.is_unspecified() => link_local.into(),
            Self::V6 { global, .. } => global.into(),
        }
    }

    /// The link-local address, wherever it was put.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        match *self {
            Self::V4(_) => None,
            Self::V6 { link_local: Some(address), .. } => Some(address),
            Self::V6 { global, .. } => global.is_unicast_link_local().then_some(global),
        }
    }

    /// Whether it can be the address of a host (RFC 4271 §6.3: else the route is not used).
    pub fn is_host(&self) -> bool {
        match self.address() {
            IpAddr::V4(a) => a.octets()[0] != 0 && !a.is_loopback() && !a.is_multicast() && !a.is_broadcast(),
            IpAddr::V6(a) => !a.is_unspecified() && !a.is_loopback() && !a.is_multicast(),
        }
    }

    /// Octets that it takes in MP_REACH_NLRI of `family`.
    pub(crate) fn octets(&self, family: Family) -> usize {
        let addresses = match self {
            Self::V4(_) if family == Family::Ipv6Vpn => 16,
            Self::V4(_) => 4,
            Self::V6 { link_local: None, .. } => 16,
            Self::V6 { link_local: Some(_), .. } => 32,
        };
        let count = if matches!(self, Self::V6 { link_local: Some(_), .. }) { 2 } else { 1 };
        if family.is_vpn() { addresses + count * NO_RD.len() } else { addresses }
    }

    /// Each address of a VPN's next hop has a route distinguisher of zero in front (RFC 4364 §4.3.2, RFC 4659 §3.2.1).
    pub(crate) fn emit(&self, family: Family, out: &mut impl BufMut) {
        let mut put = |address: &[u8]| {
            if family.is_vpn() {
                out.put_slice(&NO_RD);
            }
            out.put_slice(address);
        };
        match self {
            // RFC 4659 §3.2.1.2: across an IPv4 network.
            Self::V4(address) if family == Family::Ipv6Vpn => put(&address.to_ipv6_mapped().octets()),
            Self::V4(address) => put(&address.octets()),
            Self::V6 { global, link_local } => {
                put(&global.octets());
                if let Some(address) = link_local {
                    put(&address.octets());
                }
            }
        }
    }
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(global) => Self::V6 { global, link_local: None },
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}
