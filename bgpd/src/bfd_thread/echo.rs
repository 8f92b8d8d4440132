//! Echo packets on their way out and back (RFC 5881 §4). They are addressed to ourselves, and go to the peer all the same: so
//! they pass by the routing of this host, which would keep them, and on the way back by its check of sources, which would
//! take them for forged.
//!
//! Links with hardware addresses are left out: whom to send to is known to nobody but the kernel's routing there.

use std::{io, net::IpAddr};

use bfd::{ECHO_LEN, ECHO_PORT, EchoPacket};
use rustix::fd::{AsFd, BorrowedFd};
use sys::{packet::UdpBypass, sockopt::IpFamily};

use super::link::{TRAFFIC_CLASS, TTL};

const UDP: u8 = 17;
const UDP_LEN: usize = 8 + ECHO_LEN;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

/// Sends Echo packets by one link in one family, and hears those that come back.
pub(super) struct Reflector(UdpBypass);

impl Reflector {
    /// `None` where the link has hardware addresses.
    pub(super) fn open(ifindex: u32, family: IpFamily) -> io::Result<Option<Self>> {
        Ok(UdpBypass::open(ifindex, family, ECHO_PORT)?.map(Self))
    }

    /// Sends, or does not: a packet that cannot go out now is as good as lost, and BFD is there to notice.
    pub(super) fn send(&self, local: IpAddr, payload: &[u8; ECHO_LEN]) {
        let _ = self.0.send(&to_ourselves(local, payload));
    }

    /// Hands over each packet that came back.
    pub(super) fn hear(&self, mut returned: impl FnMut(EchoPacket)) {
        let mut buffer = [0; IPV6_LEN + UDP_LEN + 40];
        while let Ok(Some(length)) = self.0.receive(&mut buffer) {
            if let Some(packet) = buffer.get(..length).and_then(payload_of).and_then(EchoPacket::parse) {
                returned(packet);
            }
        }
    }
}

impl AsFd for Reflector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A datagram from `local` to itself, from the IP header on.
fn to_ourselves(local: IpAddr, payload: &[u8; ECHO_LEN]) -> Vec<u8> {
    let mut udp = Vec::with_capacity(UDP_LEN);
    for word in [ECHO_PORT, ECHO_PORT, UDP_LEN as u16, 0] {
        udp.extend(word.to_be_bytes());
    }
    udp.extend(payload);
    let mut packet = Vec::with_capacity(IPV6_LEN + UDP_LEN);
    match local {
        IpAddr::V4(local) => {
            let [high, low] = ((IPV4_LEN + UDP_LEN) as u16).to_be_bytes();
            // DF, so that nobody makes fragments of it; and no identification, which only those need (RFC 6864 §4.1).
            packet.extend([0x45, TRAFFIC_CLASS, high, low, 0, 0, 0x40, 0, TTL, UDP, 0, 0]);
            packet.extend(local.octets());
            packet.extend(local.octets());
            let sum = checksum(&[&packet]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        IpAddr::V6(local) => {
            let [high, low] = (UDP_LEN as u16).to_be_bytes();
            packet.extend([0x60 | TRAFFIC_CLASS >> 4, TRAFFIC_CLASS << 4, 0, 0, high, low, UDP, TTL]);
            packet.extend(local.octets());
            packet.extend(local.octets());
        }
    }
    // What the checksum covers beside the datagram: addresses, length, protocol (RFC 768, RFC 8200 §8.1).
    let addresses = if local.is_ipv4() { &packet[12..] } else { &packet[8..] };
    let sum = match checksum(&[addresses, &(UDP_LEN as u16).to_be_bytes(), &[0, UDP], &udp]) {
        0 => 0xffff, // zero would say that there is none
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend(udp);
    packet
}

/// The payload of a UDP datagram from its IP header on; the kernel has looked at protocol and port.
fn payload_of(packet: &[u8]) -> Option<&[u8]> {
    let header = match packet.first()? >> 4 {
        4 => usize::from(packet.first()? & 15) * 4,
        6 => IPV6_LEN,
        _ => return None,
    };
    packet.get(header + 8..)
}

/// The one's complement sum of RFC 1071, of parts that each have a whole number of words.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn a_packet_to_ourselves_is_sound_and_carries_what_was_sent() {
        let echo = EchoPacket { discriminator: NonZeroU32::new(7).unwrap(), nonce: 0x0102_0304_0506_0708 };
        for (local, header) in [("192.0.2.1", IPV4_LEN), ("2001:db8::1", IPV6_LEN)] {
            let packet = to_ourselves(local.parse().unwrap(), &echo.emit());
            assert_eq!(packet.len(), header + UDP_LEN);
            assert_eq!(payload_of(&packet).and_then(EchoPacket::parse), Some(echo));
            let (ip, udp) = packet.split_at(header);
            let addresses = if header == IPV4_LEN { &ip[12..] } else { &ip[8..] };
            // A sum over what it is a checksum of, and itself, comes to nothing.
            assert_eq!(checksum(&[addresses, &(UDP_LEN as u16).to_be_bytes(), &[0, UDP], udp]), 0);
            if header == IPV4_LEN {
                assert_eq!(checksum(&[ip]), 0);
            }
        }
    }

    #[test]
    fn what_is_cut_short_has_no_payload() {
        let packet = to_ourselves("192.0.2.1".parse().unwrap(), &[0; ECHO_LEN]);
        for length in 0..28 {
            assert_eq!(payload_of(&packet[..length]), None, "{length}");
        }
        assert_eq!(payload_of(&[0x4f; 30]), None);
        assert_eq!(payload_of(&[0x10; 60]), None);
    }
}
