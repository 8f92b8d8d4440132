//! ICMP Echo and Echo Reply, of IPv4 (RFC 792) and IPv6 (RFC 4443 §4.1, §4.2), as raw sockets send and receive them.

use std::net::{IpAddr, Ipv4Addr};

/// Octets of a question: header, identifier, sequence number, and something to recognise it by in a capture.
const LENGTH: usize = 16;
const DATA: [u8; 8] = *b"holdfast";

/// What a question and its answer have in common (RFC 792, RFC 4443 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Echo {
    /// Whose question it is.
    pub(crate) identifier: u16,
    /// Which one.
    pub(crate) sequence: u16,
}

/// The message of a question to `to`. That of IPv6 goes without a checksum: the kernel fills it in (RFC 3542 §3.1).
pub(crate) fn request(to: IpAddr, echo: Echo) -> [u8; LENGTH] {
    let mut message = [0; LENGTH];
    message[0] = if to.is_ipv4() { 8 } else { 128 };
    message[4..6].copy_from_slice(&echo.identifier.to_be_bytes());
    message[6..8].copy_from_slice(&echo.sequence.to_be_bytes());
    message[8..].copy_from_slice(&DATA);
    if to.is_ipv4() {
        let checksum = !sum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

/// Reads what came in on a raw socket of the family of `from`, who is to have sent it. `None` for anything that is not a
/// whole Echo Reply to a question of ours.
pub(crate) fn reply(from: IpAddr, datagram: &[u8]) -> Option<Echo> {
    let (message, kind) = match from {
        IpAddr::V4(from) => (payload_v4(from, datagram)?, 0),
        // Without the header, and with its checksum looked at by the kernel (RFC 3542 §3, §3.1).
        IpAddr::V6(_) => (datagram, 129),
    };
    let (&[found, code, _, _, i0, i1, s0, s1], data) = message.split_first_chunk()?;
    if (found, code) != (kind, 0) || data != DATA {
        return None;
    }
    Some(Echo { identifier: u16::from_be_bytes([i0, i1]), sequence: u16::from_be_bytes([s0, s1]) })
}

/// A raw socket of IPv4 gives the header as well, and looks at no checksum but that one's.
fn payload_v4(from: Ipv4Addr, datagram: &[u8]) -> Option<&[u8]> {
    let header = datagram.first_chunk::<20>()?;
    let octets = 4 * usize::from(header[0] & 0x0f);
    if header[0] >> 4 != 4 || octets < header.len() || header[9] != 1 || header[12..16] != from.octets() {
        return None;
    }
    let message = datagram.get(octets..)?;
    (sum(message) == u16::MAX).then_some(message)
}

/// The ones' complement sum of RFC 1071 §1.
fn sum(octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: Echo = Echo { identifier: 0xbeef, sequence: 7 };

    fn v4() -> IpAddr {
        [169, 254, 1, 1].into()
    }

    fn v6() -> IpAddr {
        "fd00::1".parse().unwrap()
    }

    /// What a router that follows RFC 792 makes of a question: type 0, the rest the same, a checksum of its own.
    fn answer_v4(options: usize) -> Vec<u8> {
        let mut message = request(v4(), ECHO);
        message[0] = 0;
        message[2..4].fill(0);
        let checksum = !sum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let mut datagram = vec![0; 20 + options];
        datagram[0] = 0x45 + (options / 4) as u8;
        datagram[9] = 1;
        datagram[12..16].copy_from_slice(&[169, 254, 1, 1]);
        datagram.extend(message);
        datagram
    }

    #[test]
    fn questions_are_as_the_rfcs_draw_them() {
        // 0800 + beef + 0007 + 686f + 6c64 + 6661 + 7374 = 2759e, folded 75a0, inverted 8a5f.
        assert_eq!(request(v4(), ECHO)[..8], [8, 0, 0x8a, 0x5f, 0xbe, 0xef, 0, 7]);
        assert_eq!(request(v6(), ECHO)[..8], [128, 0, 0, 0, 0xbe, 0xef, 0, 7]);
    }

    #[test]
    fn the_sum_is_that_of_the_rfc() {
        // The example of RFC 1071 §3.
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(sum(&[0x01]), 0x0100, "an odd octet is the first of its pair");
    }

    #[test]
    fn answers_are_read_with_and_without_options() {
        assert_eq!(reply(v4(), &answer_v4(0)), Some(ECHO));
        assert_eq!(reply(v4(), &answer_v4(40)), Some(ECHO));
        let mut message = request(v6(), ECHO);
        message[0] = 129;
        assert_eq!(reply(v6(), &message), Some(ECHO));
    }

    #[test]
    fn what_is_cut_short_or_altered_is_no_answer() {
        let whole = answer_v4(8);
        for end in 0..whole.len() {
            assert_eq!(reply(v4(), &whole[..end]), None, "{end} octets");
        }
        let checked = |at: usize| at == 0 || at == 9 || (12..16).contains(&at) || at >= 28;
        for at in (0..whole.len()).filter(|at| checked(*at)) {
            let mut altered = whole.clone();
            altered[at] ^= 0x11;
            assert_eq!(reply(v4(), &altered), None, "octet {at}");
        }
        assert_eq!(reply([169, 254, 1, 9].into(), &whole), None, "of somebody else");
        assert_eq!(reply(v6(), &request(v6(), ECHO)), None, "a question");
        assert_eq!(reply(v6(), &answer_v4(0)), None);
        let mut long = request(v6(), ECHO).to_vec();
        long[0] = 129;
        long.push(0);
        assert_eq!(reply(v6(), &long), None, "longer than what was asked");
    }
}
