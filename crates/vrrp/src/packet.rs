//! The advertisement, the only message there is (RFC 9568 §5.2).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU8,
    time::Duration,
};

const VERSION_AND_TYPE: u8 = 3 << 4 | 1;
const HEADER: usize = 8;

/// Longest advertisement: 255 IPv6 addresses.
pub const MAX_LEN: usize = HEADER + 255 * 16;

/// Names a virtual router on a link, 1 to 255 (RFC 9568 §5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrid(NonZeroU8);

impl Vrid {
    /// `None` for 0.
    pub const fn new(number: u8) -> Option<Self> {
        match NonZeroU8::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Time between advertisements, 10 ms to 40.95 s in steps of 10 ms (RFC 9568 §5.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(u16);

impl Interval {
    /// One second, which is the default (RFC 9568 §6.1).
    pub const DEFAULT: Self = Self(100);

    /// `None` outside of 1 to 4095 hundredths of a second.
    pub const fn from_centiseconds(centiseconds: u16) -> Option<Self> {
        if centiseconds >= 1 && centiseconds <= 0xfff { Some(Self(centiseconds)) } else { None }
    }

    /// In hundredths of a second.
    pub const fn centiseconds(self) -> u16 {
        self.0
    }

    /// As a time.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }
}

/// The version of IP that a virtual router is for. Those of the two on a link are independent of one another, also where
/// they have the same number (RFC 9568 §1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// That of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Where its advertisements go (RFC 9568 §5.1.1.2, §5.1.2.2).
    pub const fn group(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(crate::GROUP_V4),
            Self::V6 => IpAddr::V6(crate::GROUP_V6),
        }
    }

    /// As metrics label it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

impl fmt::Display for Family {
    /// As operators read it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Virtual addresses, all of one family; at least one and at most 255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// For hosts with IPv4.
    V4(Vec<Ipv4Addr>),
    /// For hosts with IPv6; the first one is link-local (RFC 9568 §5.2.9).
    V6(Vec<Ipv6Addr>),
}

impl Addresses {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::V4(addresses) => addresses.len(),
            Self::V6(addresses) => addresses.len(),
        }
    }

    /// Whether there is none, which no virtual router has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Which family that is.
    pub const fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.iter().any(|one| one == address)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let (v4, v6): (&[Ipv4Addr], &[Ipv6Addr]) = match self {
            Self::V4(addresses) => (addresses, &[]),
            Self::V6(addresses) => (&[], addresses),
        };
        v4.iter().map(|address| IpAddr::V4(*address)).chain(v6.iter().map(|address| IpAddr::V6(*address)))
    }
}

/// What a router that is active says, or one that has just ceased to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Whose.
    pub vrid: Vrid,
    /// 1 to 255; 0 from a router that ceases (RFC 9568 §5.2.4).
    pub priority: u8,
    /// How often it says so.
    pub interval: Interval,
    /// What it holds.
    pub addresses: Addresses,
}

/// What is wrong with a message. Each is a reason to discard it (RFC 9568 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Shorter than its header.
    #[error("{0} octets are too short for an advertisement")]
    Short(usize),
    /// Another version of the protocol, or no advertisement.
    #[error("version and type are {0:#04x}, not 0x31 (version 3, advertisement)")]
    VersionOrType(u8),
    /// Virtual router 0, or an interval of 0.
    #[error("virtual router {vrid} with interval {centiseconds} cs")]
    Zero {
        /// As it came.
        vrid: u8,
        /// As it came.
        centiseconds: u16,
    },
    /// Not as long as its count of addresses says.
    #[error("{count} addresses do not fill {length} octets")]
    Length {
        /// As it says.
        count: u8,
        /// As it came.
        length: usize,
    },
    /// Damaged on the way.
    #[error("wrong checksum")]
    Checksum,
    /// Source and destination are not of one family.
    #[error("source and destination are of different families")]
    Families,
}

impl Advertisement {
    /// Reads the payload of an IP packet from `source` to `destination`, whose family tells that of the addresses.
    ///
    /// Over IPv4 the checksum is right with the pseudo-header, as keepalived and FRR send it unless told otherwise, or without
    /// it, as others do: both have an option for them.
    ///
    /// # Errors
    /// For what is to be discarded.
    pub fn parse(payload: &[u8], source: IpAddr, destination: IpAddr) -> Result<Self, PacketError> {
        let Some((&[first, vrid, priority, count, high, low, _, _], rest)) = payload.split_first_chunk::<HEADER>()
        else {
            return Err(PacketError::Short(payload.len()));
        };
        if first != VERSION_AND_TYPE {
            return Err(PacketError::VersionOrType(first));
        }
        let length = PacketError::Length { count, length: payload.len() };
        let addresses = match (source, destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) => {
                let (chunks, left) = rest.as_chunks::<4>();
                if chunks.len() != usize::from(count) || !left.is_empty() {
                    return Err(length);
                }
                Addresses::V4(chunks.iter().map(|octets| Ipv4Addr::from(*octets)).collect())
            }
            (IpAddr::V6(_), IpAddr::V6(_)) => {
                let (chunks, left) = rest.as_chunks::<16>();
                if chunks.len() != usize::from(count) || !left.is_empty() {
                    return Err(length);
                }
                Addresses::V6(chunks.iter().map(|octets| Ipv6Addr::from(*octets)).collect())
            }
            _ => return Err(PacketError::Families),
        };
        if addresses.is_empty() {
            return Err(length);
        }
        let whole = |pseudo| sum(payload, pseudo) == 0xffff;
        let right = whole(pseudo_header(source, destination, payload.len())) || source.is_ipv4() && whole(0);
        if !right {
            return Err(PacketError::Checksum);
        }
        let centiseconds = u16::from_be_bytes([high & 0x0f, low]); // the rest is reserved (§5.2.6)
        let (Some(id), Some(interval)) = (Vrid::new(vrid), Interval::from_centiseconds(centiseconds)) else {
            return Err(PacketError::Zero { vrid, centiseconds });
        };
        Ok(Self { vrid: id, priority, interval, addresses })
    }

    /// The payload of an IP packet from `source` to `destination`, which are of the addresses' family. Over IPv4 its
    /// checksum is with the pseudo-header, as keepalived and FRR have it.
    pub fn emit(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let [high, low] = self.interval.centiseconds().to_be_bytes();
        let count = u8::try_from(self.addresses.len()).unwrap_or(u8::MAX);
        let mut payload = vec![VERSION_AND_TYPE, self.vrid.get(), self.priority, count, high, low, 0, 0];
        match &self.addresses {
            Addresses::V4(all) => payload.extend(all.iter().take(count.into()).flat_map(|address| address.octets())),
            Addresses::V6(all) => payload.extend(all.iter().take(count.into()).flat_map(|address| address.octets())),
        }
        let checksum = !sum(&payload, pseudo_header(source, destination, payload.len()));
        payload[6..8].copy_from_slice(&checksum.to_be_bytes());
        payload
    }
}

/// One's complement sum of words, onto what is there already (RFC 1071).
fn sum(octets: &[u8], start: u32) -> u16 {
    let (words, rest) = octets.as_chunks::<2>();
    let tail = rest.first().map_or(0, |last| u32::from(*last) << 8);
    let mut sum = words.iter().fold(start + tail, |sum, word| sum + u32::from(u16::from_be_bytes(*word)));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The sum over the addresses, the length and the protocol (RFC 8200 §8.1).
fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> u32 {
    let words = |address: IpAddr| match address {
        IpAddr::V4(address) => u32::from(sum(&address.octets(), 0)),
        IpAddr::V6(address) => u32::from(sum(&address.octets(), 0)),
    };
    words(source) + words(destination) + u32::try_from(length).unwrap_or(0) + u32::from(crate::PROTOCOL)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{GROUP_V4, GROUP_V6};

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
    const DESTINATION: IpAddr = IpAddr::V4(GROUP_V4);

    fn interval(centiseconds: u16) -> Interval {
        Interval::from_centiseconds(centiseconds).unwrap()
    }

    /// As keepalived 2.2.7 sent it, captured on a veth pair.
    const KEEPALIVED: [u8; 12] = [0x31, 0x0a, 0x96, 0x01, 0x00, 0x32, 0x44, 0x2e, 0x0a, 0x01, 0x00, 0x01];

    fn expected() -> Advertisement {
        Advertisement {
            vrid: Vrid::new(10).unwrap(),
            priority: 150,
            interval: interval(50),
            addresses: Addresses::V4(vec![Ipv4Addr::new(10, 1, 0, 1)]),
        }
    }

    #[test]
    fn keepaliveds_advertisement_is_read_and_written() {
        assert_eq!(Advertisement::parse(&KEEPALIVED, SOURCE, DESTINATION), Ok(expected()));
        assert_eq!(expected().emit(SOURCE, DESTINATION), KEEPALIVED);
    }

    #[test]
    fn keepaliveds_advertisement_for_ipv6_is_read_and_written() {
        let mut captured = vec![0x31, 0x0b, 0x78, 0x02, 0x00, 0x64, 0x06, 0x85];
        let addresses: Vec<Ipv6Addr> = vec!["fe80::100".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        captured.extend(addresses.iter().flat_map(|address| address.octets()));
        let source = "fe80::6811:e5ff:fe43:d84a".parse().unwrap();
        let expected = Advertisement {
            vrid: Vrid::new(11).unwrap(),
            priority: 120,
            interval: Interval::DEFAULT,
            addresses: Addresses::V6(addresses),
        };
        assert_eq!(Advertisement::parse(&captured, source, GROUP_V6.into()), Ok(expected.clone()));
        assert_eq!(expected.emit(source, GROUP_V6.into()), captured);
    }

    #[test]
    fn over_ipv4_the_checksum_may_be_without_the_pseudo_header() {
        let mut packet = KEEPALIVED;
        packet[6..8].copy_from_slice(&[0, 0]);
        let check = !sum(&packet, 0);
        packet[6..8].copy_from_slice(&check.to_be_bytes());
        assert_eq!(Advertisement::parse(&packet, SOURCE, DESTINATION), Ok(expected()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let damaged = |at: usize, octet: u8| {
            let mut packet = KEEPALIVED;
            packet[at] = octet;
            Advertisement::parse(&packet, SOURCE, DESTINATION).unwrap_err()
        };
        assert_eq!(damaged(0, 0x21), PacketError::VersionOrType(0x21));
        assert_eq!(damaged(2, 1), PacketError::Checksum);
        assert_eq!(damaged(3, 2), PacketError::Length { count: 2, length: 12 });
        assert_eq!(Advertisement::parse(&KEEPALIVED[..7], SOURCE, DESTINATION), Err(PacketError::Short(7)));
        assert_eq!(
            Advertisement::parse(&KEEPALIVED[..8], SOURCE, DESTINATION),
            Err(PacketError::Length { count: 1, length: 8 })
        );
        assert_eq!(Advertisement::parse(&KEEPALIVED, SOURCE, GROUP_V6.into()), Err(PacketError::Families));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            vrid in 1u8..,
            priority: u8,
            centiseconds in 1u16..4096,
            addresses in proptest::collection::vec(any::<u32>(), 1..255),
            source: u32,
        ) {
            let addresses = Addresses::V4(addresses.into_iter().map(Ipv4Addr::from).collect());
            let vrid = Vrid::new(vrid).unwrap();
            let advertisement = Advertisement { vrid, priority, interval: interval(centiseconds), addresses };
            let source = IpAddr::V4(source.into());
            let packet = advertisement.emit(source, DESTINATION);
            prop_assert!(packet.len() <= MAX_LEN);
            prop_assert_eq!(Advertisement::parse(&packet, source, DESTINATION), Ok(advertisement));
        }

        #[test]
        fn nothing_panics(payload in proptest::collection::vec(any::<u8>(), 0..64), v6: bool) {
            let destination = if v6 { GROUP_V6.into() } else { DESTINATION };
            let _read_or_not = Advertisement::parse(&payload, SOURCE, destination);
        }
    }
}
