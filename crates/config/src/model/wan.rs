//! WAN links.

use std::net::{Ipv4Addr, Ipv6Addr};

use net_types::IfName;

/// A link to the outside: `wan NAME`.
///
/// Tunnels are pinned to one. Their outer packets follow a routing table of the link's own, so that they never follow a
/// route learned through a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wan {
    /// `interface`
    pub interface: IfName,
    /// `gateway` in IPv4; without one only what is on the link can be reached, or what a default route of the main table says.
    pub gateway_v4: Option<Ipv4Addr>,
    /// `gateway` in IPv6.
    pub gateway_v6: Option<Ipv6Addr>,
    /// `mtu`: of the path to the outside, where it is smaller than the interface's.
    pub mtu_octets: Option<u16>,
    /// `shutdown`: no tunnel may use it.
    pub shutdown: bool,
}
