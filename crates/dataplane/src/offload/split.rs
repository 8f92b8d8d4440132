//! A super-packet becomes packets, each where its ESP packet is going to be (RFC 9293 §3.1, RFC 768; what a card's TSO does).

use esp::{Cipher, Frame, HEADROOM};

use super::{
    VnetHeader,
    checksum::Sum,
    header::{Cut, Kind},
    layout::{CWR, FIN, PSH, TCP, TCP_CHECKSUM, TCP_FLAGS, UDP, UDP_CHECKSUM},
};

/// Longest headers of a super-packet: IPv6 (40) with a few extension headers, TCP with all options (60).
const MAX_HEADERS: usize = 256;

/// Why a read is not packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SplitError {
    /// Its header and its content do not fit together.
    Malformed,
    /// The slab ends before the last packet's ESP packet would.
    Room,
}

/// Finishes what the header asks of a packet that needs no cutting.
pub(crate) fn complete(header: &VnetHeader, packet: &mut [u8]) -> Result<(), SplitError> {
    let Some((start, offset)) = header.checksum else { return Ok(()) };
    let range = packet.get_mut(usize::from(start)..).ok_or(SplitError::Malformed)?;
    // The field holds the sum of the pseudo-header, which so becomes part of the whole.
    let mut check = Sum::default().add(range).checksum();
    if check == [0, 0] && offset == UDP_CHECKSUM as u16 {
        check = [0xff, 0xff]; // RFC 768: zero means none
    }
    let field = range.get_mut(usize::from(offset)..usize::from(offset) + 2).ok_or(SplitError::Malformed)?;
    field.copy_from_slice(&check);
    Ok(())
}

/// Cuts the super-packet of `length` octets that lies [`HEADROOM`] behind `at` into packets, [`HEADROOM`] before each, at
/// distances of their ESP packets' lengths under `cipher`, and adds their frames.
///
/// On an error nothing has been changed.
pub(crate) fn split(
    cut: &Cut,
    cipher: Cipher,
    slab: &mut [u8],
    at: usize,
    length: usize,
    frames: &mut Vec<Frame>,
) -> Result<(), SplitError> {
    let packet = slab.get(at + HEADROOM..at + HEADROOM + length).ok_or(SplitError::Malformed)?;
    let headers = Headers::of(cut, packet).ok_or(SplitError::Malformed)?;
    let (size, head) = (usize::from(cut.size), headers.length);
    let payload = length - head;
    let count = payload.div_ceil(size);
    let stride = cipher.sealed_len(head + size);
    let last = payload - (count - 1) * size;
    if slab.len() < at + (count - 1) * stride + cipher.sealed_len(head + last) {
        return Err(SplitError::Room);
    }
    // From the last to the first: each goes to where later ones have been already.
    for index in (0..count).rev() {
        let length = if index == count - 1 { last } else { size };
        let from = at + HEADROOM + head + index * size;
        let to = at + index * stride + HEADROOM;
        if index > 0 {
            slab.copy_within(from..from + length, to + head);
        }
        headers.write(&mut slab[to..to + head + length], index, index + 1 == count, cut.size);
    }
    frames.extend((0..count).map(|index| Frame {
        start: at + index * stride,
        length: head + if index == count - 1 { last } else { size },
    }));
    Ok(())
}

/// The headers that all packets of a super-packet share, but for lengths, numbers and checksums.
struct Headers {
    octets: [u8; MAX_HEADERS],
    /// Of all of them.
    length: usize,
    /// Of what stands before the transport header.
    ip: usize,
    udp: bool,
    v4: bool,
}

impl Headers {
    /// `None` when they are not what the cut says, or nothing follows them.
    fn of(cut: &Cut, packet: &[u8]) -> Option<Self> {
        let first = *packet.first()?;
        let (v4, udp) = match (first >> 4, cut.kind) {
            (4, Kind::TcpV4) => (true, false),
            (6, Kind::TcpV6) => (false, false),
            (4, Kind::Udp) => (true, true),
            (6, Kind::Udp) => (false, true),
            _ => return None,
        };
        let protocol = if udp { UDP } else { TCP };
        let ip = if v4 {
            let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff;
            let header = usize::from(first & 0xf) * 4;
            (header >= 20 && *packet.get(9)? == protocol && fragment == 0).then_some(header)?
        } else {
            transport_v6(packet, protocol)?
        };
        let transport = packet.get(ip..)?;
        let own = if udp { 8 } else { usize::from(*transport.get(12)? >> 4) * 4 };
        let length = ip + own;
        let enough = own >= if udp { 8 } else { 20 };
        if !enough || length > MAX_HEADERS || packet.len() <= length || cut.size == 0 {
            return None;
        }
        let mut octets = [0; MAX_HEADERS];
        octets[..length].copy_from_slice(&packet[..length]);
        Some(Self { octets, length, ip, udp, v4 })
    }

    /// Puts them before the payload of the packet with this number.
    fn write(&self, packet: &mut [u8], index: usize, is_last: bool, size: u16) {
        packet[..self.length].copy_from_slice(&self.octets[..self.length]);
        let whole = packet.len();
        let (ip, segment) = packet.split_at_mut(self.ip);
        if self.v4 {
            ip[2..4].copy_from_slice(&(whole as u16).to_be_bytes()); // shorter than the super-packet, which fits
            let id = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(index as u16); // RFC 6864 §4: distinct, mod 2^16
            ip[4..6].copy_from_slice(&id.to_be_bytes());
            ip[10..12].fill(0);
            let check = Sum::default().add(ip).checksum();
            ip[10..12].copy_from_slice(&check);
        } else {
            ip[4..6].copy_from_slice(&((whole - 40) as u16).to_be_bytes());
        }
        let (protocol, field) = if self.udp { (UDP, UDP_CHECKSUM) } else { (TCP, TCP_CHECKSUM) };
        let length = segment.len();
        if self.udp {
            segment[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        } else {
            let first = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
            let sequence = first.wrapping_add((index * usize::from(size)) as u32); // modulo 2^32, as TCP counts
            segment[4..8].copy_from_slice(&sequence.to_be_bytes());
            if !is_last {
                segment[TCP_FLAGS] &= !(FIN | PSH);
            }
            if index > 0 {
                segment[TCP_FLAGS] &= !CWR; // RFC 3168 §6.1.2: told once
            }
        }
        segment[field..field + 2].fill(0);
        let mut check = Sum::default().add_pseudo_header(ip, protocol, length).add(segment).checksum();
        if self.udp && check == [0, 0] {
            check = [0xff, 0xff];
        }
        segment[field..field + 2].copy_from_slice(&check);
    }
}

/// Where the transport header of an IPv6 packet begins, behind extension headers that every fragment-free packet may have.
fn transport_v6(packet: &[u8], protocol: u8) -> Option<usize> {
    let (mut next, mut at) = (*packet.get(6)?, 40);
    for _ in 0..4 {
        match next {
            found if found == protocol => return Some(at),
            0 | 60 => {
                next = *packet.get(at)?;
                at += 8 + usize::from(*packet.get(at + 1)?) * 8;
            }
            _ => return None, // a routing header would change the pseudo-header; the kernel does not cut those for us
        }
    }
    None
}
