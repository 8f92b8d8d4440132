//! What tunnel mode carries: an IP packet that is what its next header says (RFC 4303 §2.6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::next_header;

/// The facts of an inner packet that policy looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Octets, as its own header says.
    pub length: usize,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Transport protocol, behind IPv6 extension headers where they can be followed.
    pub protocol: u8,
    /// Source and destination port, where the protocol has them and this is not a later fragment.
    pub ports: Option<(u16, u16)>,
}

/// Why a payload is no inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InnerError {
    /// Tunnel mode carries IPv4 (4) and IPv6 (41) alone.
    #[error("next header {0} is neither IPv4 (4) nor IPv6 (41)")]
    NextHeader(u8),
    /// The IP version is another than the next header says, or none.
    #[error("IP version {found} where {expected} was announced")]
    Version {
        /// From the first four bits.
        found: u8,
        /// From the next header.
        expected: u8,
    },
    /// The packet says that it is longer than what came, or shorter than its own header.
    #[error("an IP packet that says {said} octets in a payload of {found}")]
    Length {
        /// From the IP header.
        said: usize,
        /// What is there.
        found: usize,
    },
}

impl Inner {
    /// Reads the payload that a next header announces; octets beyond the packet's own length are ignored.
    ///
    /// # Errors
    /// See [`InnerError`].
    pub fn parse(next: u8, payload: &[u8]) -> Result<Self, InnerError> {
        let expected = match next {
            next_header::IPV4 => 4,
            next_header::IPV6 => 6,
            other => return Err(InnerError::NextHeader(other)),
        };
        let found = payload.first().map_or(0, |octet| octet >> 4);
        if found != expected {
            return Err(InnerError::Version { found, expected });
        }
        Self::of(payload)
    }

    /// Reads a packet by its own version.
    ///
    /// # Errors
    /// See [`InnerError`].
    pub fn of(packet: &[u8]) -> Result<Self, InnerError> {
        let found = packet.len();
        match packet.first().map_or(0, |octet| octet >> 4) {
            4 => Self::ipv4(packet).map_err(|said| InnerError::Length { said, found }),
            6 => Self::ipv6(packet).map_err(|said| InnerError::Length { said, found }),
            found => Err(InnerError::Version { found, expected: 4 }),
        }
    }

    fn ipv4(packet: &[u8]) -> Result<Self, usize> {
        let header: &[u8; 20] = packet.first_chunk().ok_or(20usize)?;
        let header_len = usize::from(header[0] & 0xf) * 4;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_len < 20 || length < header_len || length > packet.len() {
            return Err(length);
        }
        let first_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
        let protocol = header[9];
        let ports = first_fragment.then(|| ports(protocol, packet.get(header_len..length)?)).flatten();
        Ok(Self {
            length,
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            protocol,
            ports,
        })
    }

    fn ipv6(packet: &[u8]) -> Result<Self, usize> {
        let header: &[u8; 40] = packet.first_chunk().ok_or(40usize)?;
        let length = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let packet = packet.get(..length).ok_or(length)?;
        let address = |at: usize| -> IpAddr {
            let mut octets = [0; 16];
            octets.copy_from_slice(&header[at..at + 16]); // 8 and 24 of 40
            Ipv6Addr::from(octets).into()
        };
        let (protocol, ports) = ipv6_transport(header[6], packet);
        Ok(Self { length, source: address(8), destination: address(24), protocol, ports })
    }
}

/// Follows extension headers (RFC 8200 §4) to the transport header; gives up after eight of them.
fn ipv6_transport(first: u8, packet: &[u8]) -> (u8, Option<(u16, u16)>) {
    let (mut protocol, mut at) = (first, 40usize);
    for _ in 0..8 {
        let Some(rest) = packet.get(at..) else { return (protocol, None) };
        match (protocol, rest) {
            // Hop-by-hop, routing, destination options: length in units of eight octets beyond the first eight.
            (0 | 43 | 60, [next, units, ..]) => {
                protocol = *next;
                at = at.saturating_add(8 + usize::from(*units) * 8);
            }
            // Fragment: only the first has the transport header.
            (44, [next, _, high, low, ..]) => {
                if u16::from_be_bytes([*high, *low]) & 0xfff8 != 0 {
                    return (*next, None);
                }
                protocol = *next;
                at = at.saturating_add(8);
            }
            _ => return (protocol, ports(protocol, rest)),
        }
    }
    (protocol, None)
}

fn ports(protocol: u8, transport: &[u8]) -> Option<(u16, u16)> {
    match (protocol, transport) {
        // TCP, UDP, SCTP, UDP-Lite
        (6 | 17 | 132 | 136, [a, b, c, d, ..]) => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn udp4(source: [u8; 4], destination: [u8; 4], payload: usize) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend(source);
        packet.extend(destination);
        packet.extend([0x13, 0x88, 0, 53, 0, 0, 0, 0]);
        packet.resize(28 + payload, 0xa5);
        let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
        packet[2..4].copy_from_slice(&length);
        packet
    }

    #[test]
    fn an_ipv4_packet_is_as_long_as_it_says() {
        let mut packet = udp4([10, 1, 0, 1], [10, 2, 0, 1], 10);
        packet.extend([0; 30]); // traffic flow confidentiality padding
        let inner = Inner::parse(4, &packet).unwrap();
        assert_eq!((inner.length, inner.protocol, inner.ports), (38, 17, Some((5000, 53))));
        assert_eq!(inner.source, IpAddr::from([10, 1, 0, 1]));
        assert_eq!(inner.destination, IpAddr::from([10, 2, 0, 1]));
    }

    #[test]
    fn ports_are_found_behind_extension_headers_and_not_in_later_fragments() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, 0, 64];
        packet.extend([0xfd; 32]);
        packet.extend([44, 0, 0, 0, 0, 0, 0, 0]); // hop-by-hop, then fragment
        packet.extend([6, 0, 0, 1, 0, 0, 0, 9]); // first fragment, then TCP
        packet.extend([0, 179, 0xc0, 0, 0, 0, 0, 0]);
        let inner = Inner::of(&packet).unwrap();
        assert_eq!((inner.length, inner.protocol, inner.ports), (64, 6, Some((179, 0xc000))));
        packet[50] = 1; // offset 32
        assert_eq!(Inner::of(&packet).unwrap().ports, None);
    }

    #[test]
    fn what_is_not_as_announced_is_refused() {
        let packet = udp4([10, 1, 0, 1], [10, 2, 0, 1], 0);
        assert_eq!(Inner::parse(41, &packet), Err(InnerError::Version { found: 4, expected: 6 }));
        assert_eq!(Inner::parse(17, &packet), Err(InnerError::NextHeader(17)));
        assert_eq!(Inner::parse(4, &packet[..27]), Err(InnerError::Length { said: 28, found: 27 }));
        assert_eq!(Inner::parse(4, &[]), Err(InnerError::Version { found: 0, expected: 4 }));
        let mut short = packet.clone();
        short[0] = 0x44;
        assert_eq!(Inner::parse(4, &short), Err(InnerError::Length { said: 28, found: 28 }));
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic_or_lie(next in prop_oneof![Just(4u8), Just(41), any::<u8>()], mut octets: Vec<u8>, version: u8) {
            if let Some(first) = octets.first_mut() {
                *first = (*first & 0xf) | if version & 1 == 0 { 0x40 } else { 0x60 };
            }
            if let Ok(inner) = Inner::parse(next, &octets) {
                prop_assert!(inner.length <= octets.len() && inner.length >= 20);
            }
        }
    }
}
