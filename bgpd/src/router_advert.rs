//! Router advertisements on links whose far end is a neighbor without a configured address (RFC 4861 §4.2, §6.2).
//!
//! Both ends advertise themselves, and each takes the source of the other's advertisement, a link-local address, for the
//! neighbor (`neighbor IFNAME interface`, as FRR and others do it). Nothing else of an advertisement is used, and ours offer
//! nothing: a router lifetime of 0 keeps hosts from taking us for a default router.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::{Duration, Instant},
};

use net_types::IfName;
use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with, sockopt},
};
use sys::{
    mmsg::RecvBatch,
    sockopt::{IpFamily, bind_to_device, set_receive_ttl},
};
use tokio::{io::Interest, net::UdpSocket, sync::mpsc};

/// Between advertisements; FRR's for the same purpose.
const INTERVAL: Duration = Duration::from_secs(10);
/// Solicitations are answered, but not more often than this (MIN_DELAY_BETWEEN_RAS, RFC 4861 §10).
const LEAST_INTERVAL: Duration = Duration::from_secs(3);
/// What packets of a neighbor on the link have, and no others (RFC 4861 §6.1).
const HOP_LIMIT: u8 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// The longest message that is looked at; of a longer one only the beginning matters.
const OCTETS: usize = 1500;

/// Somebody advertised itself on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// On which.
    pub interface: IfName,
    /// Its link-local address.
    pub address: Ipv6Addr,
}

/// What a message says to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Router(Ipv6Addr),
    Solicitation,
}

/// Advertises us on a link, and tells whoever else does each time that it is somebody else than before. Ends when nobody
/// listens, or the link is gone.
///
/// # Errors
/// When the link cannot be used: raw sockets take CAP_NET_RAW.
pub async fn advertise(interface: IfName, ifindex: u32, seen: mpsc::Sender<Seen>) -> io::Result<()> {
    // To the runtime a raw socket is as good as any that takes datagrams.
    let socket = UdpSocket::from_std(open(&interface, ifindex)?.into())?;
    let mut batch = RecvBatch::new(8, OCTETS);
    let mut last = None;
    let mut sent_at = None;
    let mut due = Instant::now();
    loop {
        if Instant::now() >= due {
            // A link that is down for the moment takes nothing; the next one may go.
            if let Err(error) = say(&socket, ifindex) {
                tracing::debug!(%interface, %error, "router advertisement not sent");
            }
            sent_at = Some(Instant::now());
            due = Instant::now() + INTERVAL;
        }
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            ready = socket.readable() => {
                ready?;
                let received = socket.try_io(Interest::READABLE, || match batch.receive(&socket)? {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    count => Ok(count),
                });
                match received {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error),
                }
                for (meta, octets) in batch.iter_mut() {
                    match heard(meta.from.ip(), meta.ttl, octets) {
                        Some(Heard::Router(address)) if last != Some(address) => {
                            if seen.send(Seen { interface: interface.clone(), address }).await.is_err() {
                                return Ok(());
                            }
                            last = Some(address);
                        }
                        Some(Heard::Solicitation) => {
                            let soonest = sent_at.map_or(Instant::now(), |at| at + LEAST_INTERVAL);
                            due = due.min(soonest);
                        }
                        Some(Heard::Router(_)) | None => {}
                    }
                }
            }
            () = seen.closed() => return Ok(()),
        }
    }
}

fn open(interface: &IfName, ifindex: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET6, SocketType::RAW, flags, Some(ipproto::ICMPV6))?;
    bind_to_device(&socket, interface)?;
    sockopt::set_ipv6_multicast_hops(&socket, HOP_LIMIT.into())?;
    sockopt::set_ipv6_multicast_loop(&socket, false)?;
    sockopt::set_ipv6_add_membership(&socket, &ALL_ROUTERS, ifindex)?;
    set_receive_ttl(&socket, IpFamily::V6)?;
    Ok(socket)
}

fn say(socket: &UdpSocket, ifindex: u32) -> io::Result<()> {
    let everybody: SocketAddr = SocketAddrV6::new(ALL_NODES, 0, 0, ifindex).into();
    sendto(socket, &advertisement(), SendFlags::DONTWAIT, &everybody)?;
    Ok(())
}

/// RFC 4861 §4.2, without options. The kernel fills in the checksum (RFC 3542 §3.1).
fn advertisement() -> [u8; 16] {
    let mut message = [0; 16];
    message[0] = ROUTER_ADVERTISEMENT;
    message[4] = 64; // hop limit for hosts; all else is 0, which is "not from us"
    message
}

/// RFC 4861 §6.1.1, §6.1.2.
fn heard(from: IpAddr, hop_limit: Option<u8>, message: &[u8]) -> Option<Heard> {
    let IpAddr::V6(from) = from else { return None };
    match message {
        _ if hop_limit != Some(HOP_LIMIT) => None,
        [ROUTER_ADVERTISEMENT, 0, ..] if message.len() >= 16 && from.is_unicast_link_local() => {
            Some(Heard::Router(from))
        }
        [ROUTER_SOLICITATION, 0, ..] if message.len() >= 8 => Some(Heard::Solicitation),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_routers_of_the_link_are_heard() {
        let (near, far): (IpAddr, IpAddr) = ("fe80::1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let ours = advertisement();
        assert_eq!(heard(near, Some(255), &ours), Some(Heard::Router("fe80::1".parse().unwrap())));
        assert_eq!(heard(near, Some(254), &ours), None, "it came through a router");
        assert_eq!(heard(near, None, &ours), None);
        assert_eq!(heard(far, Some(255), &ours), None);
        assert_eq!(heard(near, Some(255), &ours[..15]), None);
        assert_eq!(heard(near, Some(255), &[ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]), Some(Heard::Solicitation));
        assert_eq!(heard(near, Some(255), &[]), None);
    }
}
