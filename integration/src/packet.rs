//! A captured packet, and as much of its headers as a verdict needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When the kernel saw it: nanoseconds since the epoch.
    pub at_ns: i64,
    /// The index of the interface, in the namespace of the capture.
    pub ifindex: u32,
    /// The EtherType.
    pub protocol: u16,
    /// Whether it was going out.
    pub outgoing: bool,
    /// The packet from its network header on, cut at the capture's length.
    pub bytes: Vec<u8>,
}

/// What a network header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The protocol above (for IPv6 the first next header).
    pub protocol: u8,
    /// Where the protocol above begins.
    pub payload_at: usize,
}

impl Packet {
    /// Reads the IPv4 or IPv6 header; `None` for anything else or when it is cut short.
    pub fn header(&self) -> Option<Header> {
        let bytes = &self.bytes;
        match self.protocol {
            0x0800 => Some(Header {
                source: IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(12..16)?).ok()?)),
                destination: IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(16..20)?).ok()?)),
                protocol: *bytes.get(9)?,
                payload_at: usize::from(bytes.first()? & 0x0f) * 4,
            }),
            0x86dd => Some(Header {
                source: IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?)),
                destination: IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(24..40)?).ok()?)),
                protocol: *bytes.get(6)?,
                payload_at: 40,
            }),
            _ => None,
        }
    }

    /// Source and destination port, if the packet is UDP.
    pub fn udp_ports(&self) -> Option<(u16, u16)> {
        let header = self.header().filter(|header| header.protocol == 17)?;
        let ports = self.bytes.get(header.payload_at..)?.first_chunk::<4>()?;
        Some((u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp_packet() -> Packet {
        let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 10, 10, 2, 0, 10];
        bytes.extend([0, 7, 0, 9, 0, 8, 0, 0]);
        Packet { at_ns: 0, ifindex: 3, protocol: 0x0800, outgoing: true, bytes }
    }

    #[test]
    fn addresses_and_ports_are_read() {
        let packet = udp_packet();
        assert_eq!(packet.udp_ports(), Some((7, 9)));
        assert_eq!(packet.header().map(|header| header.source), Some(IpAddr::from([10, 1, 0, 10])));
    }

    #[test]
    fn a_packet_cut_anywhere_has_whole_headers_or_none() {
        let whole = udp_packet();
        for length in 0..whole.bytes.len() {
            let cut = Packet { bytes: whole.bytes[..length].to_vec(), ..whole.clone() };
            assert_eq!(cut.header().is_some(), length >= 20);
            assert_eq!(cut.udp_ports().is_some(), length >= 24);
        }
    }
}
