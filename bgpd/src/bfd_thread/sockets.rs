//! The sockets of single-hop BFD (RFC 5881 §4, §5).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
};

use net_types::IfName;
use rand::{Rng, RngCore};
use rustix::net::sockopt;
use sys::sockopt::IpFamily;

/// TTL of every packet, and the least accepted (RFC 5881 §5).
pub(super) const TTL: u8 = 255;
/// Source ports (RFC 5881 §4).
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;
/// Source ports tried before giving up.
const TRIES: usize = 64;

/// The socket on which all packets of a family arrive, with the interface and TTL of each.
pub(super) fn listener(family: IpFamily) -> io::Result<UdpSocket> {
    let any: SocketAddr = match family {
        IpFamily::V4 => (Ipv4Addr::UNSPECIFIED, bfd::PORT).into(),
        IpFamily::V6 => (Ipv6Addr::UNSPECIFIED, bfd::PORT).into(),
    };
    let socket = open(any, |socket| {
        if family == IpFamily::V6 {
            sockopt::set_ipv6_v6only(socket, true)?;
        }
        Ok(())
    })?;
    sys::sockopt::set_receive_packet_info(&socket, family)?;
    sys::sockopt::set_receive_ttl(&socket, family)?;
    Ok(socket)
}

/// A socket to send one session's packets from: bound to its interface and address, from a port of its own.
pub(super) fn sender(
    interface: &IfName,
    local: IpAddr,
    ifindex: u32,
    random: &mut dyn RngCore,
) -> io::Result<UdpSocket> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let port = random.random_range(SOURCE_PORTS);
        let made = open(addressed(local, port, ifindex), |socket| {
            sys::sockopt::bind_to_device(socket, interface)?;
            match local {
                IpAddr::V4(_) => sockopt::set_ip_ttl(socket, u32::from(TTL))?,
                IpAddr::V6(_) => sockopt::set_ipv6_unicast_hops(socket, Some(TTL))?,
            }
            // Network control: routers and queues on the way should not drop these for bulk traffic.
            match local {
                IpAddr::V4(_) => sockopt::set_ip_tos(socket, 0xc0)?,
                IpAddr::V6(_) => sockopt::set_ipv6_tclass(socket, 0xc0)?,
            }
            Ok(())
        });
        match made {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            made => return made,
        }
    }
    Err(last)
}

/// `address`, with the interface that a link-local one needs.
pub(super) fn addressed(address: IpAddr, port: u16, ifindex: u32) -> SocketAddr {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => SocketAddrV6::new(v6, port, 0, ifindex).into(),
        other => SocketAddr::new(other, port),
    }
}

fn open(bind: SocketAddr, prepare: impl FnOnce(&UdpSocket) -> io::Result<()>) -> io::Result<UdpSocket> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
    let family = if bind.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket: UdpSocket = socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?.into();
    prepare(&socket)?;
    rustix::net::bind(&socket, &bind)?;
    Ok(socket)
}
