//! Reading capture files of the "any" device: packets with the interface they were seen on.
//!
//! Formats: the classic pcap file with microseconds or nanoseconds in either byte order, link type LINUX_SLL2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail, ensure};

/// The link type of captures on all interfaces at once.
const LINUX_SLL2: u32 = 276;
/// Octets of that link type's pseudo header.
const SLL2_HEADER: usize = 20;

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

/// Reads a whole capture file. A last packet that was cut off when the capture ended is left out.
pub fn parse(file: &[u8]) -> Result<Vec<Packet>> {
    let mut input = Input { rest: file, swapped: false };
    let magic = input.u32();
    let nanoseconds_per_tick = match magic {
        Some(0xa1b2_c3d4) => 1000,
        Some(0xa1b2_3c4d) => 1,
        Some(0xd4c3_b2a1 | 0x4d3c_b2a1) => {
            input.swapped = true;
            if magic == Some(0xd4c3_b2a1) { 1000 } else { 1 }
        }
        other => bail!("not a capture file: it begins with {other:x?}"),
    };
    let network = input.take(16).and_then(|_| input.u32());
    ensure!(network == Some(LINUX_SLL2), "link type {network:?} is not that of the \"any\" device ({LINUX_SLL2})");
    let mut packets = Vec::new();
    while let Some(packet) = input.packet(nanoseconds_per_tick) {
        packets.push(packet);
    }
    Ok(packets)
}

struct Input<'a> {
    rest: &'a [u8],
    swapped: bool,
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(head)
    }

    /// A field in the byte order of the file; little-endian is this program's own.
    fn u32(&mut self) -> Option<u32> {
        let raw = <[u8; 4]>::try_from(self.take(4)?).ok()?;
        Some(if self.swapped { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) })
    }

    fn packet(&mut self, nanoseconds_per_tick: i64) -> Option<Packet> {
        let seconds = i64::from(self.u32()?);
        let ticks = i64::from(self.u32()?);
        let captured = usize::try_from(self.u32()?).ok()?;
        let _original = self.u32()?;
        let frame = self.take(captured)?;
        let (header, bytes) = frame.split_at_checked(SLL2_HEADER)?;
        Some(Packet {
            at_ns: seconds * 1_000_000_000 + ticks * nanoseconds_per_tick,
            protocol: u16::from_be_bytes([header[0], header[1]]),
            ifindex: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            outgoing: header[10] == 4, // PACKET_OUTGOING
            bytes: bytes.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one UDP packet 10.1.0.10:7 -> 10.2.0.10:9, seen leaving interface 3.
    fn one_packet() -> Vec<u8> {
        let mut ip = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 10, 10, 2, 0, 10];
        ip.extend([0, 7, 0, 9, 0, 8, 0, 0]);
        let mut frame = vec![0x08, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xfe, 4, 0];
        frame.extend([0; 8]);
        frame.extend(ip);
        let mut file = Vec::new();
        for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 96, LINUX_SLL2, 5, 70, 48, 48] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
        file
    }

    #[test]
    fn a_packet_is_read_with_its_interface_and_ports() -> Result<()> {
        let packets = parse(&one_packet())?;
        let [packet] = packets.as_slice() else { bail!("expected one packet, found {}", packets.len()) };
        assert_eq!((packet.at_ns, packet.ifindex, packet.outgoing), (5_000_000_070, 3, true));
        assert_eq!(packet.udp_ports(), Some((7, 9)));
        assert_eq!(packet.header().map(|header| header.source), Some("10.1.0.10".parse()?));
        Ok(())
    }

    #[test]
    fn a_capture_cut_anywhere_yields_whole_packets_or_an_error() {
        let file = one_packet();
        for length in 0..file.len() {
            assert!(parse(&file[..length]).map_or(true, |packets| packets.is_empty()), "{length}");
        }
    }
}
