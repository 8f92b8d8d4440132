//! Virtual Router Redundancy Protocol, version 3 (RFC 9568), without I/O.
//!
//! A [`VirtualRouter`] takes advertisements and timeouts and gives back advertisements to send and changes of who holds the
//! virtual addresses; the owner has the sockets, the addresses and the clock.
//!
//! The owner of the sockets checks what only the IP header tells: advertisements come with TTL or hop limit 255 (§7.1) from
//! another router of the link, and leave the same way for [`GROUP_V4`] or [`GROUP_V6`].
//!
//! Departures from the RFC, both on the side of those who wait:
//! - A router with a better priority that may preempt takes over after its Skew_Time instead of the whole
//!   Active_Down_Interval: a router that tracking has made unfit says so in its next advertisement, and hosts need not wait.
//! - Preemption can be put off, by a delay and until the owner says that forwarding is ready ([`VirtualRouter::set_ready`]).
//!
//! Left out on purpose: the virtual router's MAC address (§7.3), which takes a device of its own for each virtual router.
//! Addresses move with the interface's own MAC address and a gratuitous ARP or an unsolicited neighbor advertisement, as
//! keepalived does unless told otherwise.

mod packet;
mod router;

pub use packet::{Addresses, Advertisement, Family, Interval, MAX_LEN, PacketError, Vrid};
pub use router::{Config, Output, Role, VirtualRouter};

use std::net::{Ipv4Addr, Ipv6Addr};

/// The IP protocol number (RFC 9568 §5.1.1.4).
pub const PROTOCOL: u8 = 112;
/// Where advertisements for IPv4 addresses go (§5.1.1.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Where advertisements for IPv6 addresses go (§5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// TTL or hop limit of every advertisement (§5.1.1.3, §5.1.2.3).
pub const TTL: u8 = 255;
/// The priority of a router that owns the addresses (§5.2.4).
pub const OWNER: u8 = 255;
