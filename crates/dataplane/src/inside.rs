//! What a tunnel does to the packets inside: TCP MSS fitted to its MTU, and "too big" answers.

use std::net::{Ipv4Addr, Ipv6Addr};

const TCP: u8 = 6;
const SYN: u8 = 0x02;

/// Lowers the MSS option of a TCP SYN to what fits in `mtu` (RFC 4459 §3.1's remedy); says whether it did.
///
/// Packets with IPv6 extension headers are left alone, and later fragments have no TCP header to change.
pub(crate) fn clamp_mss(packet: &mut [u8], mtu: u16) -> bool {
    let (at, limit) = match &*packet {
        [first, ..] if *first >> 4 == 4 && packet.len() >= 20 => {
            let later_fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff != 0;
            if packet[9] != TCP || later_fragment {
                return false;
            }
            (usize::from(*first & 0xf) * 4, mss_v4(mtu))
        }
        [first, ..] if *first >> 4 == 6 && packet.len() >= 40 && packet[6] == TCP => (40, mss_v6(mtu)),
        _ => return false,
    };
    let Some(segment) = packet.get_mut(at..) else { return false };
    let flags = segment.get(13).copied().unwrap_or(0);
    if flags & SYN == 0 {
        return false;
    }
    let header_len = usize::from(segment.get(12).copied().unwrap_or(0) >> 4) * 4;
    clamp_option(segment, header_len, limit)
}

/// The largest MSS that fits, in octets: without the headers of IPv4 and TCP, options not counted (RFC 9293 §3.7.1).
pub(crate) fn mss_v4(mtu: u16) -> u16 {
    mss(mtu, 20 + 20)
}

/// As [`mss_v4`], without the header of IPv6.
pub(crate) fn mss_v6(mtu: u16) -> u16 {
    mss(mtu, 40 + 20)
}

fn mss(mtu: u16, headers: u16) -> u16 {
    mtu.saturating_sub(headers).max(88) // no stack goes below that; nonsense must not stall TCP
}

fn clamp_option(segment: &mut [u8], header_len: usize, limit: u16) -> bool {
    let mut at = 20;
    while at < header_len {
        match segment.get(at..header_len) {
            Some([0, ..]) => return false, // end of options
            Some([1, ..]) => at += 1,      // no operation
            Some(&[2, 4, high, low, ..]) => {
                let old = u16::from_be_bytes([high, low]);
                if old <= limit {
                    return false;
                }
                let Some(value) = segment.get_mut(at + 2..at + 4) else { return false };
                value.copy_from_slice(&limit.to_be_bytes());
                adjust_checksum(segment, at + 2, old, limit);
                return true;
            }
            Some(&[_, length, ..]) if length >= 2 => at += usize::from(length),
            _ => return false,
        }
    }
    false
}

/// RFC 1624: HC' = ~(~HC + ~m + m'). A value at an odd offset enters the sum with its octets exchanged.
fn adjust_checksum(segment: &mut [u8], at: usize, old: u16, new: u16) {
    let aligned = |value: u16| if at.is_multiple_of(2) { value } else { value.swap_bytes() };
    let Some(field) = segment.get_mut(16..18) else { return };
    let check = u16::from_be_bytes([field[0], field[1]]);
    let mut sum = u32::from(!check) + u32::from(!aligned(old)) + u32::from(aligned(new));
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    field.copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// The answer to a packet that is larger than the tunnel takes: ICMP "fragmentation needed" (RFC 1191 §4), or ICMPv6
/// "packet too big" (RFC 4443 §3.2). `None` for what must not be answered: IPv4 without DF, later fragments, ICMP errors,
/// and sources or destinations that are no single host (RFC 1122 §3.2.2, RFC 4443 §2.4).
pub(crate) fn too_big(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    match packet.first()? >> 4 {
        4 => too_big_v4(packet, mtu),
        6 => too_big_v6(packet, mtu),
        _ => None,
    }
}

fn too_big_v4(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let header_len = usize::from(header[0] & 0xf) * 4;
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let destination = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    let dont_fragment = fragment & 0x4000 != 0 && fragment & 0x1fff == 0;
    let icmp_error = header[9] == 1 && !matches!(packet.get(header_len)?, 0 | 8 | 13 | 14);
    let one_host =
        !source.is_unspecified() && !source.is_multicast() && !source.is_broadcast() && !source.is_loopback();
    if !dont_fragment || icmp_error || !one_host || destination.is_multicast() || destination.is_broadcast() {
        return None;
    }
    let quote = packet.get(..(header_len + 8).min(packet.len()))?;
    let mut icmp = vec![3, 4, 0, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(quote);
    let check = checksum(0, &icmp);
    icmp[2..4].copy_from_slice(&check.to_be_bytes());
    let length = u16::try_from(20 + icmp.len()).ok()?;
    let mut answer = vec![0x45, 0xc0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0];
    answer[2..4].copy_from_slice(&length.to_be_bytes());
    answer.extend(destination.octets()); // as if from where it was going: this end has no address of its own
    answer.extend(source.octets());
    let check = checksum(0, &answer);
    answer[10..12].copy_from_slice(&check.to_be_bytes());
    answer.extend(icmp);
    Some(answer)
}

fn too_big_v6(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let header: &[u8; 40] = packet.first_chunk()?;
    let source: [u8; 16] = header[8..24].try_into().ok()?;
    let destination: [u8; 16] = header[24..40].try_into().ok()?;
    let icmp_error = header[6] == 58 && packet.get(40)? & 0x80 == 0;
    let from = Ipv6Addr::from(source);
    if icmp_error || from.is_unspecified() || from.is_multicast() || Ipv6Addr::from(destination).is_multicast() {
        return None;
    }
    let quote = packet.get(..packet.len().min(1280 - 48))?; // as much as fits the minimum MTU
    let mut icmp = vec![2, 0, 0, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(quote);
    let length = u16::try_from(icmp.len()).ok()?;
    let pseudo = [&destination[..], &source[..], &u32::from(length).to_be_bytes(), &[0, 0, 0, 58]].concat();
    let check = checksum(sum(0, &pseudo), &icmp);
    icmp[2..4].copy_from_slice(&check.to_be_bytes());
    let mut answer = vec![0x60, 0, 0, 0, 0, 0, 58, 64];
    answer[4..6].copy_from_slice(&length.to_be_bytes());
    answer.extend(destination);
    answer.extend(source);
    answer.extend(icmp);
    Some(answer)
}

fn sum(start: u32, octets: &[u8]) -> u32 {
    octets.chunks(2).fold(start, |sum, pair| {
        let value = u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        sum.wrapping_add(value) // at most 64 KiB of 16-bit values: never wraps
    })
}

fn checksum(start: u32, octets: &[u8]) -> u16 {
    let mut total = sum(start, octets);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A SYN with NOPs before its MSS, so that the value lies at an odd or an even offset.
    fn syn(version: u8, mss: u16, nops: usize) -> Vec<u8> {
        let mut options = vec![1; nops];
        options.extend([2, 4]);
        options.extend(mss.to_be_bytes());
        options.resize(options.len().next_multiple_of(4), 0);
        let mut tcp = vec![0, 179, 0xc0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        tcp.push(u8::try_from((20 + options.len()) / 4).unwrap() << 4);
        tcp.extend([SYN, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(options);
        let mut packet = if version == 4 {
            let length = u16::try_from(20 + tcp.len()).unwrap().to_be_bytes();
            vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
        } else {
            let mut header = vec![0x60, 0, 0, 0, 0, u8::try_from(tcp.len()).unwrap(), TCP, 64];
            header.extend([0xfd; 32]);
            header
        };
        let check = checksum(pseudo(&packet, tcp.len()), &tcp);
        tcp[16..18].copy_from_slice(&check.to_be_bytes());
        packet.extend(tcp);
        packet
    }

    fn pseudo(header: &[u8], length: usize) -> u32 {
        let addresses = if header[0] >> 4 == 4 { &header[12..20] } else { &header[8..40] };
        sum(u32::try_from(length).unwrap() + u32::from(TCP), addresses)
    }

    #[test]
    fn a_syn_is_clamped_and_its_checksum_still_right() {
        for (version, mtu, fits) in [(4, 1438, 1398), (6, 1438, 1378)] {
            for nops in 0..3 {
                let mut packet = syn(version, 1460, nops);
                assert!(clamp_mss(&mut packet, mtu));
                assert_eq!(packet, syn(version, fits, nops));
                assert!(!clamp_mss(&mut packet, mtu), "small enough already");
            }
        }
    }

    #[test]
    fn other_packets_are_left_alone() {
        let mut ack = syn(4, 1460, 0);
        ack[33] = 0x10;
        let before = ack.clone();
        assert!(!clamp_mss(&mut ack, 1438));
        assert_eq!(ack, before);
        let mut fragment = syn(4, 1460, 0);
        fragment[7] = 9;
        assert!(!clamp_mss(&mut fragment, 1438));
    }

    #[test]
    fn too_big_answers_carry_mtu_quote_and_checksums() {
        let mut packet = syn(4, 1460, 0);
        packet.resize(1500, 0);
        let answer = too_big(&packet, 1438).unwrap();
        assert_eq!(checksum(0, &answer[..20]), 0);
        assert_eq!(checksum(0, &answer[20..]), 0);
        assert_eq!(answer[20..28], [3, 4, answer[22], answer[23], 0, 0, 0x05, 0x9e]);
        assert_eq!(answer[28..], packet[..28]);
        assert_eq!((&answer[12..16], &answer[16..20]), (&packet[16..20], &packet[12..16]));

        let mut packet = syn(6, 1460, 0);
        packet.resize(1500, 0);
        let answer = too_big(&packet, 1418).unwrap();
        assert_eq!(answer.len(), 1280);
        let mut start = sum(58, &answer[8..40]);
        start += 1280 - 40;
        assert_eq!(checksum(start, &answer[40..]), 0);
    }

    #[test]
    fn what_may_not_be_answered_is_not() {
        let mut packet = syn(4, 1460, 0);
        packet[6] = 0;
        assert_eq!(too_big(&packet, 1000), None, "may be fragmented");
        let mut error = syn(4, 1460, 0);
        error[9] = 1;
        error[20] = 3;
        assert_eq!(too_big(&error, 1000), None, "an ICMP error");
        let mut multicast = syn(6, 1460, 0);
        multicast[24] = 0xff;
        assert_eq!(too_big(&multicast, 1000), None, "multicast");
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(mut octets in vec(any::<u8>(), 0..120), version in 0usize..3, mtu: u16) {
            if let Some(first) = octets.first_mut() {
                *first = [0x45, 0x60, *first][version];
            }
            let _answer = too_big(&octets, mtu);
            if octets.len() > 40 {
                octets[9] = TCP;
                octets[6] = if version == 1 { TCP } else { 0 };
            }
            let length = octets.len();
            clamp_mss(&mut octets, mtu);
            prop_assert_eq!(octets.len(), length);
        }
    }
}
