//! VRRP: addresses that routers of a link share (RFC 9568).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use net_types::TunnelName;
use vrrp::{Addresses, Family, Interval};

/// `vrrp N` of an interface: what hosts of the link use as their gateway, and when it is this router. As in FRR, a number
/// stands for a virtual router of each family, which have all but the addresses in common here and go their own ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VrrpGroup {
    /// `ip`: the virtual addresses for hosts with IPv4; at least one of this or the other family.
    pub v4: BTreeSet<Ipv4Addr>,
    /// `ipv6`: those for hosts with IPv6, one of which is link-local if there are any.
    pub v6: BTreeSet<Ipv6Addr>,
    /// `priority`: who is preferred, 1 to 254.
    pub priority: u8,
    /// `advertisement-interval`
    pub interval: Interval,
    /// `preempt`: whether a router with a lower priority is relieved.
    pub preempt: bool,
    /// `preempt delay`: how long nobody is relieved after coming up, or after becoming ready; whole seconds.
    pub preempt_delay: Duration,
    /// `track`: what has to be there, and what its loss takes off the priority.
    pub track: BTreeMap<VrrpTracked, u8>,
    /// `shutdown`
    pub shutdown: bool,
}

impl VrrpGroup {
    /// What a tracked tunnel or neighbor takes off the priority unless said otherwise.
    pub const DECREMENT: u8 = 100;

    /// The addresses of the virtual router of this family, if there is one. Of IPv6 the link-local one comes first, as it
    /// has to in advertisements (RFC 9568 §5.2.9).
    pub fn addresses(&self, family: Family) -> Option<Addresses> {
        let addresses = match family {
            Family::V4 => Addresses::V4(self.v4.iter().copied().collect()),
            Family::V6 => {
                let (local, wide): (Vec<_>, Vec<_>) =
                    self.v6.iter().partition(|address| address.is_unicast_link_local());
                Addresses::V6([local, wide].concat())
            }
        };
        Some(addresses).filter(|addresses| !addresses.is_empty())
    }
}

impl Default for VrrpGroup {
    /// RFC 9568 §6.1.
    fn default() -> Self {
        Self {
            v4: BTreeSet::new(),
            v6: BTreeSet::new(),
            priority: 100,
            interval: Interval::DEFAULT,
            preempt: true,
            preempt_delay: Duration::ZERO,
            track: BTreeMap::new(),
            shutdown: false,
        }
    }
}

/// What a group depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VrrpTracked {
    /// An IPsec tunnel: healthy while it is up.
    Tunnel(TunnelName),
    /// A BGP neighbor: healthy while its session is established and it has said what it has.
    Neighbor(IpAddr),
}

impl fmt::Display for VrrpTracked {
    /// As the configuration has it behind `track`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel(name) => write!(f, "tunnel {name}"),
            Self::Neighbor(address) => write!(f, "neighbor {address}"),
        }
    }
}
