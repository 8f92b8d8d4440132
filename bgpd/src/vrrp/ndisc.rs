//! Unsolicited neighbor advertisements: everybody on the link learns at which hardware address an IPv6 address is from now on
//! (RFC 4861 §7.2.6, RFC 9568 §6.4.2).

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, ipproto, sendto, socket_with, sockopt};
use sys::packet::Broadcaster;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// What packets of a neighbor on the link have, and no others (RFC 4861 §7.1.2).
const HOP_LIMIT: u32 = 255;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// A router says so (R), nobody has asked (S is clear), and what was known before is not true any more (O).
const FLAGS: u8 = 0x80 | 0x20;
/// The option that has the hardware address, in units of eight octets (RFC 4861 §4.6.1).
const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];

/// Announces from `primary`, the link's own link-local address, that these addresses are ours. Links without Ethernet
/// addresses are left alone.
///
/// # Errors
/// When the link takes no packet.
pub(super) fn announce(ifindex: u32, primary: Ipv6Addr, addresses: impl Iterator<Item = Ipv6Addr>) -> io::Result<u64> {
    let Some(hardware) = Broadcaster::open(ifindex)?.hardware_address()? else { return Ok(0) };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET6, SocketType::RAW, flags, Some(ipproto::ICMPV6))?;
    sockopt::set_ipv6_multicast_hops(&socket, HOP_LIMIT)?;
    sockopt::set_ipv6_multicast_loop(&socket, false)?;
    bind(&socket, &SocketAddrV6::new(primary, 0, 0, ifindex))?;
    let everybody = SocketAddrV6::new(ALL_NODES, 0, 0, ifindex);
    let mut sent = 0;
    for address in addresses {
        sendto(&socket, &announcement(hardware, address), SendFlags::DONTWAIT, &everybody)?;
        sent += 1;
    }
    Ok(sent)
}

/// RFC 4861 §4.4. The kernel fills in the checksum (RFC 3542 §3.1).
fn announcement(hardware: [u8; 6], address: Ipv6Addr) -> [u8; 32] {
    let mut message = [0; 32];
    (message[0], message[4]) = (NEIGHBOR_ADVERTISEMENT, FLAGS);
    message[8..24].copy_from_slice(&address.octets());
    message[24..26].copy_from_slice(&TARGET_LINK_LAYER_ADDRESS);
    message[26..].copy_from_slice(&hardware);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_the_address_and_comes_with_the_hardware_address() {
        let message = announcement([2, 0, 0, 0, 0, 10], Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
        let head = [136, 0, 0, 0, 0xa0, 0, 0, 0];
        let target = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(message[..], [&head[..], &target, &[2, 1, 2, 0, 0, 0, 0, 10]].concat());
    }
}
