//! A virtual router's place on its link: which address it speaks from, and the socket that it speaks through.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6},
};

use net_types::IfName;
use netwatch::{Address, View};
use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, bind, sendto, socket_with, sockopt},
};
use sys::{
    mmsg::{Meta, RecvBatch},
    sockopt::{IpFamily, bind_to_device, set_receive_packet_info, set_receive_ttl},
};
use tokio::{io::Interest, net::UdpSocket};
use vrrp::{Addresses, Advertisement, Family, GROUP_V4, GROUP_V6, MAX_LEN, PacketError, TTL};

use super::{Mishap, kernel::Held};

/// Longest IP packet with an advertisement that is looked at: a header of IPv4 and 255 IPv4 addresses.
const OCTETS_V4: usize = 60 + 8 + 255 * 4;
/// Internetwork control, as other routing protocols have it (RFC 4594 §3.2).
const CLASS: u8 = 0xc0;

/// Where a virtual router is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) ifindex: u32,
    /// The address of the interface's own that advertisements come from; of IPv6 a link-local one (RFC 9568 §5.1.2.1).
    pub(super) primary: IpAddr,
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
        shared: &Addresses,
        before: Option<IpAddr>,
        holding: bool,
    ) -> Result<Self, String> {
        let link = view.link_named(interface.as_str()).ok_or_else(|| format!("there is no interface {interface}"))?;
        if !link.is_up() {
            return Err(format!("interface {interface} is down"));
        }
        let family = shared.family();
        let own = || {
            let lasting = view.addresses_of(link.ifindex).filter(|address| !address.is_virtual);
            lasting.filter(|address| Family::of(address.local) == family)
        };
        if !holding && let Some(taken) = own().find(|own| shared.contains(own.local)) {
            return Err(format!(
                "{} is an address of {interface} itself: take it off (ip address del), or choose another virtual one",
                taken.local
            ));
        }
        let same_subnet = |address: &&Address| {
            let subnet = address.connected();
            subnet.is_some_and(|subnet| shared.iter().any(|one| subnet.contains(one)))
        };
        let speaks = || own().filter(|own| may_speak(own.local) && !shared.contains(own.local));
        let kept = before.filter(|before| speaks().any(|own| own.local == *before));
        let fitting = || speaks().find(same_subnet).or_else(|| speaks().next());
        let primary = kept.or_else(|| fitting().map(|own| own.local));
        let primary = primary.ok_or_else(|| match family {
            Family::V4 => format!("{interface} has no IPv4 address of its own to speak from"),
            Family::V6 => format!("{interface} has no link-local IPv6 address of its own to speak from"),
        })?;
        Ok(Self { ifindex: link.ifindex, primary })
    }

    /// A virtual address as it is put there. One of IPv4 has the length of the subnet that it is in, or is alone; one of
    /// IPv6 is alone, since routes to subnets come of the addresses that stay.
    pub(super) fn held(&self, view: &View, address: IpAddr) -> Held {
        let there = view.addresses_of(self.ifindex);
        let subnets = there.filter(|own| !own.is_virtual && own.local.is_ipv4());
        let around = subnets.filter(|own| own.connected().is_some_and(|subnet| subnet.contains(address)));
        let bits = match Family::of(address) {
            Family::V4 => around.map(|own| own.bits).max().unwrap_or(32),
            Family::V6 => 128,
        };
        Held { ifindex: self.ifindex, address, bits }
    }
}

/// Whether advertisements may come from this address of an interface (RFC 9568 §5.1.1.1, §5.1.2.1).
fn may_speak(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Those of the addresses that are on the interface by our doing.
pub(super) fn present(view: &View, ifindex: u32, shared: &Addresses) -> Vec<Held> {
    let ours = view.addresses_of(ifindex).filter(|address| address.is_virtual && shared.contains(address.local));
    ours.map(Held::from).collect()
}

/// The socket.
pub(super) struct Link {
    /// To the runtime a raw socket is as good as any that takes datagrams.
    socket: UdpSocket,
    batch: RecvBatch,
    ifindex: u32,
    primary: IpAddr,
}

/// What came.
pub(super) type Heard = Result<(IpAddr, Advertisement), Mishap>;

impl Link {
    /// # Errors
    /// Raw sockets take CAP_NET_RAW.
    pub(super) fn open(interface: &IfName, place: &Place) -> io::Result<Self> {
        let Place { ifindex, primary } = *place;
        let (socket, octets) = match primary {
            IpAddr::V4(primary) => (socket_v4(interface, ifindex, primary)?, OCTETS_V4),
            IpAddr::V6(primary) => (socket_v6(interface, ifindex, primary)?, MAX_LEN),
        };
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, batch: RecvBatch::new(8, octets), ifindex, primary })
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
            heard.extend(self.batch.iter_mut().filter_map(|(meta, octets)| match self.primary {
                IpAddr::V4(own) => read_v4(octets, own),
                IpAddr::V6(own) => read_v6(meta, octets, own),
            }));
        }
        heard
    }

    pub(super) fn send(&self, advertisement: &Advertisement) -> io::Result<()> {
        let payload = advertisement.emit(self.primary, Family::of(self.primary).group());
        match self.primary {
            IpAddr::V4(_) => sendto(&self.socket, &payload, SendFlags::DONTWAIT, &SocketAddrV4::new(GROUP_V4, 0))?,
            IpAddr::V6(_) => {
                let group = SocketAddrV6::new(GROUP_V6, 0, 0, self.ifindex);
                sendto(&self.socket, &payload, SendFlags::DONTWAIT, &group)?
            }
        };
        Ok(())
    }
}

fn raw_socket(interface: &IfName, family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let number = std::num::NonZeroU32::new(vrrp::PROTOCOL.into()).map(Protocol::from_raw);
    let socket = socket_with(family, SocketType::RAW, flags, number)?;
    bind_to_device(&socket, interface)?;
    Ok(socket)
}

fn socket_v4(interface: &IfName, ifindex: u32, primary: Ipv4Addr) -> io::Result<OwnedFd> {
    let socket = raw_socket(interface, AddressFamily::INET)?;
    sockopt::set_ip_multicast_ttl(&socket, TTL.into())?;
    sockopt::set_ip_multicast_loop(&socket, false)?;
    sockopt::set_ip_tos(&socket, CLASS)?;
    sockopt::set_ip_multicast_if_with_ifindex(&socket, &Ipv4Addr::UNSPECIFIED, &primary, ifindex)?;
    sockopt::set_ip_add_membership_with_ifindex(&socket, &GROUP_V4, &primary, ifindex)?;
    Ok(socket)
}

fn socket_v6(interface: &IfName, ifindex: u32, primary: Ipv6Addr) -> io::Result<OwnedFd> {
    let socket = raw_socket(interface, AddressFamily::INET6)?;
    sockopt::set_ipv6_multicast_hops(&socket, TTL.into())?;
    sockopt::set_ipv6_multicast_loop(&socket, false)?;
    sockopt::set_ipv6_tclass(&socket, CLASS.into())?;
    set_receive_ttl(&socket, IpFamily::V6)?;
    set_receive_packet_info(&socket, IpFamily::V6)?;
    // The checksum is over the source, which the kernel is not to choose otherwise.
    bind(&socket, &SocketAddrV6::new(primary, 0, 0, ifindex))?;
    sockopt::set_ipv6_add_membership(&socket, &GROUP_V6, ifindex)?;
    Ok(socket)
}

/// Reads an IPv4 packet, of which raw sockets give the header (RFC 9568 §7.1). What is not for the group, or is our own, is
/// nothing.
fn read_v4(packet: &[u8], own: Ipv4Addr) -> Option<Heard> {
    let (header, _) = packet.split_first_chunk::<20>()?;
    let payload = packet.get(usize::from(header[0] & 0x0f) * 4..).filter(|_| header[0] & 0x0f >= 5)?;
    let address = |at: usize| header.get(at..at + 4)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
    let (source, destination) = (address(12)?, address(16)?);
    if source == own || destination != GROUP_V4 {
        return None;
    }
    Some(read(payload, source.into(), header[8]))
}

/// Reads the payload of an IPv6 packet, whose header raw sockets tell beside it (RFC 9568 §7.1). What is not for the group,
/// or is our own, is nothing.
fn read_v6(meta: &Meta, payload: &[u8], own: Ipv6Addr) -> Option<Heard> {
    let source = meta.from.ip();
    if source == IpAddr::V6(own) || meta.to != Some(GROUP_V6.into()) {
        return None;
    }
    // Nobody speaks from any other (RFC 9568 §5.1.2.1), and between equals the addresses decide.
    if !may_speak(source) {
        return Some(Err(Mishap::Malformed));
    }
    Some(read(payload, source, meta.ttl?))
}

/// Reads an advertisement to the group of the source's family.
fn read(payload: &[u8], source: IpAddr, ttl: u8) -> Heard {
    if ttl != TTL {
        return Err(Mishap::Ttl);
    }
    let read = Advertisement::parse(payload, source, Family::of(source).group());
    read.map(|advertisement| (source, advertisement)).map_err(|error| match error {
        PacketError::VersionOrType(_) => Mishap::Version,
        PacketError::Checksum => Mishap::Checksum,
        PacketError::Short(_) | PacketError::Zero { .. } | PacketError::Length { .. } | PacketError::Families => {
            Mishap::Malformed
        }
    })
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
        assert_eq!(read_v4(&whole, OWN), Some(Ok((OTHER.into(), advertisement()))));
        assert_eq!(read_v4(&packet(OTHER, GROUP_V4, 254), OWN), Some(Err(Mishap::Ttl)), "it came through a router");
        assert_eq!(read_v4(&packet(OWN, GROUP_V4, 255), OWN), None, "that was us");
        assert_eq!(read_v4(&packet(OTHER, OWN, 255), OWN), None, "it is not for everybody");
        for cut in 0..whole.len() {
            assert!(!matches!(read_v4(&whole[..cut], OWN), Some(Ok(_))), "{cut} octets");
        }
        let mut damaged = whole.clone();
        damaged[22] ^= 1;
        assert_eq!(read_v4(&damaged, OWN), Some(Err(Mishap::Checksum)));
        let mut old = whole;
        old[20] = 0x21;
        assert_eq!(read_v4(&old, OWN), Some(Err(Mishap::Version)));
    }

    #[test]
    fn over_ipv6_too() {
        let [own, other, wide]: [Ipv6Addr; 3] = ["fe80::2", "fe80::3", "2001:db8::3"].map(|text| text.parse().unwrap());
        let advertisement =
            Advertisement { addresses: Addresses::V6(vec!["fe80::1".parse().unwrap()]), ..advertisement() };
        let came = |source: Ipv6Addr, destination: Ipv6Addr, ttl| {
            let payload = advertisement.emit(source.into(), GROUP_V6.into());
            let from = SocketAddrV6::new(source, 0, 0, 2).into();
            let (to, ttl) = (Some(destination.into()), Some(ttl));
            let length = payload.len();
            let meta = Meta { from, length, segment: None, to, ifindex: Some(2), ttl, tos: None, truncated: false };
            read_v6(&meta, &payload, own)
        };
        assert_eq!(came(other, GROUP_V6, 255), Some(Ok((other.into(), advertisement.clone()))));
        assert_eq!(came(other, GROUP_V6, 254), Some(Err(Mishap::Ttl)), "it came through a router");
        assert_eq!(came(own, GROUP_V6, 255), None, "that was us");
        assert_eq!(came(other, own, 255), None, "it is not for everybody");
        assert_eq!(came(wide, GROUP_V6, 255), Some(Err(Mishap::Malformed)), "it is not from a link-local address");
    }

    /// `lan0` with these addresses of its own.
    fn view(addresses: &[&str]) -> View {
        let link = netwatch::Link {
            ifindex: 2,
            name: "lan0".into(),
            admin_up: true,
            carrier: true,
            mtu_octets: 1500,
            vrf_table: None,
        };
        let addresses = addresses.iter().map(|text| {
            let (local, bits) = text.split_once('/').unwrap();
            let (local, bits) = (local.parse().unwrap(), bits.parse().unwrap());
            Address { ifindex: 2, local, bits, peer: None, is_virtual: false }
        });
        View::of([link], addresses)
    }

    #[test]
    fn a_virtual_router_for_ipv6_speaks_from_the_links_own_link_local_address() {
        let interface: IfName = "lan0".parse().unwrap();
        let shared = Addresses::V6(["fe80::1", "2001:db8::1"].map(|text| text.parse().unwrap()).into());
        let found = |addresses: &[&str], holding| {
            Place::find(&view(addresses), &interface, &shared, None, holding).map(|place| place.primary)
        };
        assert_eq!(found(&["10.1.0.2/24", "2001:db8::2/64", "fe80::2/64"], false), Ok("fe80::2".parse().unwrap()));
        let why = found(&["10.1.0.2/24", "2001:db8::2/64"], false).unwrap_err();
        assert_eq!(why, "lan0 has no link-local IPv6 address of its own to speak from");
        let why = found(&["2001:db8::1/64", "fe80::2/64"], false).unwrap_err();
        assert!(why.starts_with("2001:db8::1 is an address of lan0 itself"), "{why}");
        let held = ["fe80::1/128", "fe80::2/64"];
        assert_eq!(found(&held, true), Ok("fe80::2".parse().unwrap()), "a kernel that keeps no marks");
    }
}
