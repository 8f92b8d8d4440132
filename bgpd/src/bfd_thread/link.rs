//! The sockets of BFD: one for each interface and family to hear by, one for each family to hear peers by that are several
//! hops away, one for each session to speak by.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use bfd::{MULTIHOP_PORT, PORT, Peer};
use net_types::IfName;
use rand::Rng;
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, connect, send, socket_with, sockopt},
};
use sys::{
    mmsg::RecvBatch,
    sockopt::{IpFamily, bind_to_device, set_receive_ttl},
};

use super::Wanted;

/// The TTL that a neighbor on the same link sends with, and no other can fake (RFC 5881 §5).
pub(super) const TTL: u8 = 255;
/// Source ports that a session may use (RFC 5881 §4).
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;
/// Attempts to find one that is free.
const ATTEMPTS: usize = 64;
/// Class selector 6, for what keeps the network together.
pub(super) const TRAFFIC_CLASS: u8 = 0xc0;
/// The longest packet with authentication section is 52 octets.
const PACKET: usize = 128;
/// Packets that are read at once.
const BATCH: usize = 32;

/// What an interface hears in one family.
pub(super) struct Ear {
    socket: OwnedFd,
    ifindex: u32,
    batch: RecvBatch,
}

fn udp(family: IpFamily) -> io::Result<OwnedFd> {
    let domain = match family {
        IpFamily::V4 => AddressFamily::INET,
        IpFamily::V6 => AddressFamily::INET6,
    };
    let socket = socket_with(domain, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match family {
        IpFamily::V4 => {
            sockopt::set_ip_ttl(&socket, TTL.into())?;
            sockopt::set_ip_tos(&socket, TRAFFIC_CLASS)?;
        }
        IpFamily::V6 => {
            sockopt::set_ipv6_v6only(&socket, true)?;
            sockopt::set_ipv6_unicast_hops(&socket, Some(TTL))?;
            sockopt::set_ipv6_tclass(&socket, TRAFFIC_CLASS.into())?;
        }
    }
    Ok(socket)
}

fn unspecified(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
        IpFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

impl Ear {
    /// Hears what comes in by `interface`, or from peers several hops away.
    pub(super) fn open(interface: Option<&IfName>, ifindex: u32, family: IpFamily) -> io::Result<Self> {
        let socket = udp(family)?;
        if let Some(interface) = interface {
            // Each interface has a socket of its own on the same port.
            sockopt::set_socket_reuseaddr(&socket, true)?;
            bind_to_device(&socket, interface)?;
        }
        set_receive_ttl(&socket, family)?;
        let port = if interface.is_some() { PORT } else { MULTIHOP_PORT };
        bind(&socket, &SocketAddr::new(unspecified(family), port))?;
        Ok(Self { socket, ifindex, batch: RecvBatch::new(BATCH, PACKET) })
    }

    /// Hands over each packet that came from a neighbor on the link, or from further away where that is expected, with its
    /// TTL; the others are counted.
    pub(super) fn hear(&mut self, mut heard: impl FnMut(Peer, u8, &[u8])) -> usize {
        let mut strangers = 0;
        // A batch that is not full has emptied the socket; if more came meanwhile, the kernel says so again.
        let mut more = true;
        while more && let Ok(count) = self.batch.receive(&self.socket) {
            more = count == BATCH;
            for (meta, octets) in self.batch.iter_mut() {
                let peer = Peer { ifindex: self.ifindex, address: meta.from.ip().to_canonical() };
                match meta.ttl {
                    Some(ttl) if !meta.truncated && (ttl == TTL || peer.is_multihop()) => heard(peer, ttl, octets),
                    _ => strangers += 1,
                }
            }
        }
        strangers
    }
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a session speaks by.
pub(super) struct Mouth(OwnedFd);

impl Mouth {
    pub(super) fn open(wanted: &Wanted, random: &mut impl Rng) -> io::Result<Self> {
        let family = IpFamily::of(wanted.peer.address);
        let socket = udp(family)?;
        if let Some(interface) = &wanted.interface {
            bind_to_device(&socket, interface)?;
        }
        let local = wanted.local.unwrap_or(unspecified(family));
        let scoped = |address: IpAddr, port| match address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                SocketAddr::V6(SocketAddrV6::new(v6, port, 0, wanted.peer.ifindex))
            }
            other => SocketAddr::new(other, port),
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            match bind(&socket, &scoped(local, random.random_range(SOURCE_PORTS))) {
                Ok(()) => break,
                Err(rustix::io::Errno::ADDRINUSE) if attempts < ATTEMPTS => {}
                Err(error) => return Err(error.into()),
            }
        }
        let port = if wanted.peer.is_multihop() { MULTIHOP_PORT } else { PORT };
        connect(&socket, &scoped(wanted.peer.address, port))?;
        Ok(Self(socket))
    }

    /// Our address as the kernel has chosen it.
    pub(super) fn local(&self) -> Option<IpAddr> {
        let local = SocketAddr::try_from(rustix::net::getsockname(&self.0).ok()?).ok()?;
        Some(local.ip()).filter(|address| !address.is_unspecified())
    }

    /// Sends, or does not: a packet that cannot go out now is as good as lost, and BFD is there to notice.
    pub(super) fn say(&self, octets: &[u8]) -> bool {
        // The second attempt is for an ICMP error that an earlier packet brought back.
        (0..2).any(|_| send(&self.0, octets, SendFlags::DONTWAIT).is_ok())
    }
}
