//! A virtual router's place on its link: which address it speaks from, and the socket that it speaks through.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
};

use config::model::VrrpGroup;
use net_types::IfName;
use netwatch::{Address, View};
use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, sendto, socket_with, sockopt},
};
use sys::{mmsg::RecvBatch, sockopt::bind_to_device};
use tokio::{io::Interest, net::UdpSocket};
use vrrp::{Advertisement, GROUP_V4, PacketError, TTL};

use super::{Mishap, kernel::Held};

/// Longest IP packet with an advertisement that is looked at: 255 IPv4 addresses.
const OCTETS: usize = 60 + 8 + 255 * 4;
/// Internetwork control, as other routing protocols have it (RFC 4594 §3.2).
const CLASS: u8 = 0xc0;

/// Where a virtual router is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) ifindex: u32,
    /// The address of the interface's own that advertisements come from.
    pub(super) primary: Ipv4Addr,
}

impl Place {
    /// Finds it; an address that was spoken from before is kept while it is there. What is on the interface is ours while we
    /// are `holding` the virtual addresses, marked or not: kernels before 5.18 keep no marks.
    ///
    /// # Errors
    /// Why the virtual router cannot take part.
    pub(super) fn find(
        view: &View,
        interface: &IfName,
        group: &VrrpGroup,
        before: Option<Ipv4Addr>,
        holding: bool,
    ) -> Result<Self, String> {
        let link = view.link_named(interface.as_str()).ok_or_else(|| format!("there is no interface {interface}"))?;
        if !link.is_up() {
            return Err(format!("interface {interface} is down"));
        }
        let own = || {
            view.addresses_of(link.ifindex).filter(|address| !address.is_virtual).filter_map(|address| {
                match address.local {
                    IpAddr::V4(local) => Some((address, local)),
                    IpAddr::V6(_) => None,
                }
            })
        };
        let shared = |(_, local): &(&Address, Ipv4Addr)| group.addresses.contains(local);
        if !holding && let Some((_, taken)) = own().find(shared) {
            return Err(format!(
                "{taken} is an address of {interface} itself: take it off (ip address del), or choose another virtual one"
            ));
        }
        let same_subnet = |address: &Address| {
            let subnet = address.connected();
            subnet.is_some_and(|subnet| group.addresses.iter().any(|one| subnet.contains((*one).into())))
        };
        let lasting = || own().filter(|own| !shared(own));
        let kept = before.filter(|before| lasting().any(|(_, local)| local == *before));
        let fitting = || lasting().find(|(address, _)| same_subnet(address)).or_else(|| lasting().next());
        let primary = kept.or_else(|| fitting().map(|(_, local)| local));
        let primary = primary.ok_or_else(|| format!("{interface} has no IPv4 address of its own to speak from"))?;
        Ok(Self { ifindex: link.ifindex, primary })
    }

    /// A virtual address as it is put there: with the length of the subnet that it is in, or alone.
    pub(super) fn held(&self, view: &View, address: Ipv4Addr) -> Held {
        let there = view.addresses_of(self.ifindex);
        let subnets = there.filter(|own| !own.is_virtual && own.local.is_ipv4());
        let around = subnets.filter(|own| own.connected().is_some_and(|subnet| subnet.contains(address.into())));
        Held { ifindex: self.ifindex, address, bits: around.map(|own| own.bits).max().unwrap_or(32) }
    }
}

/// Those of the group's addresses that are on the interface by our doing.
pub(super) fn present(view: &View, ifindex: u32, group: &VrrpGroup) -> Vec<Held> {
    let shared = view.addresses_of(ifindex).filter(|address| address.is_virtual);
    let ours = shared.filter_map(|address| match address.local {
        IpAddr::V4(local) if group.addresses.contains(&local) => {
            Some(Held { ifindex, address: local, bits: address.bits })
        }
        _ => None,
    });
    ours.collect()
}

/// The socket.
pub(super) struct Link {
    /// To the runtime a raw socket is as good as any that takes datagrams.
    socket: UdpSocket,
    batch: RecvBatch,
    primary: Ipv4Addr,
}

/// What came.
pub(super) type Heard = Result<(Ipv4Addr, Advertisement), Mishap>;

impl Link {
    /// # Errors
    /// Raw sockets take CAP_NET_RAW.
    pub(super) fn open(interface: &IfName, place: &Place) -> io::Result<Self> {
        let socket = UdpSocket::from_std(socket(interface, place)?.into())?;
        Ok(Self { socket, batch: RecvBatch::new(8, OCTETS), primary: place.primary })
    }

    /// Waits until something may have come.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// All that has come; nothing is an answer, too.
    pub(super) fn receive(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        // A link that is flooded is left for a moment between two batches.
        let received = self.socket.try_io(Interest::READABLE, || match self.batch.receive(&self.socket)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        });
        if received.is_ok() {
            heard.extend(self.batch.iter_mut().filter_map(|(_, packet)| read(packet, self.primary)));
        }
        heard
    }

    pub(super) fn send(&self, advertisement: &Advertisement) -> io::Result<()> {
        let payload = advertisement.emit(self.primary.into(), GROUP_V4.into());
        sendto(&self.socket, &payload, SendFlags::DONTWAIT, &SocketAddrV4::new(GROUP_V4, 0))?;
        Ok(())
    }
}

fn socket(interface: &IfName, place: &Place) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let number = std::num::NonZeroU32::new(vrrp::PROTOCOL.into()).map(Protocol::from_raw);
    let socket = socket_with(AddressFamily::INET, SocketType::RAW, flags, number)?;
    bind_to_device(&socket, interface)?;
    sockopt::set_ip_multicast_ttl(&socket, TTL.into())?;
    sockopt::set_ip_multicast_loop(&socket, false)?;
    sockopt::set_ip_tos(&socket, CLASS)?;
    sockopt::set_ip_multicast_if_with_ifindex(&socket, &Ipv4Addr::UNSPECIFIED, &place.primary, place.ifindex)?;
    sockopt::set_ip_add_membership_with_ifindex(&socket, &GROUP_V4, &place.primary, place.ifindex)?;
    Ok(socket)
}

/// Reads an IP packet, of which raw sockets give the header (RFC 9568 §7.1). What is not for the group, or is our own, is
/// nothing.
fn read(packet: &[u8], own: Ipv4Addr) -> Option<Heard> {
    let (header, _) = packet.split_first_chunk::<20>()?;
    let payload = packet.get(usize::from(header[0] & 0x0f) * 4..).filter(|_| header[0] & 0x0f >= 5)?;
    let address = |at: usize| header.get(at..at + 4)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
    let (source, destination) = (address(12)?, address(16)?);
    if source == own || destination != GROUP_V4 {
        return None;
    }
    if header[8] != TTL {
        return Some(Err(Mishap::Ttl));
    }
    let read = Advertisement::parse(payload, source.into(), destination.into());
    Some(read.map(|advertisement| (source, advertisement)).map_err(|error| match error {
        PacketError::VersionOrType(_) => Mishap::Version,
        PacketError::Checksum => Mishap::Checksum,
        PacketError::Short(_) | PacketError::Zero { .. } | PacketError::Length { .. } | PacketError::Families => {
            Mishap::Malformed
        }
    }))
}

#[cfg(test)]
mod tests {
    use vrrp::{Addresses, Interval, Vrid};

    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 3);

    fn advertisement() -> Advertisement {
        Advertisement {
            vrid: Vrid::new(10).unwrap(),
            priority: 100,
            interval: Interval::DEFAULT,
            addresses: Addresses::V4(vec![Ipv4Addr::new(10, 1, 0, 1)]),
        }
    }

    fn packet(source: Ipv4Addr, destination: Ipv4Addr, ttl: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0xc0, 0, 32, 0, 0, 0, 0, ttl, vrrp::PROTOCOL, 0, 0];
        packet.extend([source.octets(), destination.octets()].concat());
        packet.extend(advertisement().emit(source.into(), destination.into()));
        packet
    }

    #[test]
    fn only_others_of_the_link_are_heard() {
        let whole = packet(OTHER, GROUP_V4, 255);
        assert_eq!(read(&whole, OWN), Some(Ok((OTHER, advertisement()))));
        assert_eq!(read(&packet(OTHER, GROUP_V4, 254), OWN), Some(Err(Mishap::Ttl)), "it came through a router");
        assert_eq!(read(&packet(OWN, GROUP_V4, 255), OWN), None, "that was us");
        assert_eq!(read(&packet(OTHER, OWN, 255), OWN), None, "it is not for everybody");
        for cut in 0..whole.len() {
            assert!(!matches!(read(&whole[..cut], OWN), Some(Ok(_))), "{cut} octets");
        }
        let mut damaged = whole.clone();
        damaged[22] ^= 1;
        assert_eq!(read(&damaged, OWN), Some(Err(Mishap::Checksum)));
        let mut old = whole;
        old[20] = 0x21;
        assert_eq!(read(&old, OWN), Some(Err(Mishap::Version)));
    }
}
