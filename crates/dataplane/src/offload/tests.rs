//! Splitting and merging against each other, and against the plainest way to make the same packets.

use std::{cell::RefCell, io::IoSlice};

use esp::{Cipher, Frame, HEADROOM};
use proptest::{collection::vec, prelude::*};

use super::{
    Device, Mergeable, Merger, VnetHeader,
    checksum::Sum,
    header::{Cut, Kind, VNET_LEN},
    layout::{ACK, CWR, ECE, FIN, PSH, TCP, UDP},
    split::{SplitError, complete, split},
};

const CIPHER: Cipher = Cipher::Aes128Gcm16;

/// Everything that two packets of a flow may differ in.
#[derive(Clone, Debug)]
struct Packet {
    v4: bool,
    udp: bool,
    /// Which of a few flows.
    flow: u8,
    sequence: u32,
    id: u16,
    df: bool,
    tos: u8,
    ttl: u8,
    flags: u8,
    /// TCP options, a multiple of four octets.
    options: Vec<u8>,
    payload: Vec<u8>,
}

impl Packet {
    fn data(v4: bool, udp: bool, payload: Vec<u8>) -> Self {
        let options = if udp { Vec::new() } else { vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] };
        Self { v4, udp, flow: 1, sequence: 7, id: 3, df: true, tos: 2, ttl: 64, flags: ACK, options, payload }
    }

    /// The packet with every checksum right, written field by field.
    fn octets(&self) -> Vec<u8> {
        let mut segment = vec![0x13, self.flow, 0, 80];
        let field = if self.udp {
            segment.extend(u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes());
            segment.extend([0, 0]);
            6
        } else {
            segment.extend(self.sequence.to_be_bytes());
            segment.extend([0, 0, 0, 9, ((20 + self.options.len()) * 4) as u8, self.flags, 1, 0, 0, 0, 0, 0]);
            segment.extend(&self.options);
            16
        };
        segment.extend(&self.payload);
        let protocol = if self.udp { UDP } else { TCP };
        let mut ip = if self.v4 {
            let length = u16::try_from(20 + segment.len()).unwrap().to_be_bytes();
            let id = self.id.to_be_bytes();
            let df = if self.df { 0x40 } else { 0 };
            let mut ip = vec![0x45, self.tos, length[0], length[1], id[0], id[1], df, 0, self.ttl, protocol, 0, 0];
            ip.extend([10, 1, 0, 1, 10, 2, 0, 1]);
            let check = Sum::default().add(&ip).checksum();
            ip[10..12].copy_from_slice(&check);
            ip
        } else {
            let length = u16::try_from(segment.len()).unwrap().to_be_bytes();
            let mut ip = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0, length[0], length[1], protocol, self.ttl];
            ip.extend([0xfd; 16]);
            ip.extend([0xfc; 16]);
            ip
        };
        let mut check = Sum::default().add_pseudo_header(&ip, protocol, segment.len()).add(&segment).checksum();
        if self.udp && check == [0, 0] {
            check = [0xff, 0xff];
        }
        segment[field..field + 2].copy_from_slice(&check);
        ip.extend(segment);
        ip
    }

    fn headers(&self) -> usize {
        (if self.v4 { 20 } else { 40 }) + if self.udp { 8 } else { 20 + self.options.len() }
    }

    fn cut(&self, size: u16) -> Cut {
        let kind = match (self.udp, self.v4) {
            (true, _) => Kind::Udp,
            (false, true) => Kind::TcpV4,
            (false, false) => Kind::TcpV6,
        };
        Cut { kind, size, headers: u16::try_from(self.headers()).unwrap() }
    }

    /// The packets that it is to become: what a sender without offload would have sent.
    fn segments(&self, size: u16) -> Vec<Vec<u8>> {
        let size = usize::from(size);
        let count = self.payload.len().div_ceil(size);
        let segment = |(index, payload): (usize, &[u8])| {
            let mut flags = self.flags;
            if index + 1 < count {
                flags &= !(FIN | PSH);
            }
            if index > 0 {
                flags &= !CWR;
            }
            let sequence = self.sequence.wrapping_add((index * size) as u32);
            let id = self.id.wrapping_add(index as u16);
            Self { sequence, id, flags, payload: payload.to_vec(), ..self.clone() }.octets()
        };
        self.payload.chunks(size).enumerate().map(segment).collect()
    }
}

/// Cuts a super-packet that lies `at` in a slab of `room` octets.
fn cut(cut: &Cut, octets: &[u8], at: usize, room: usize) -> Result<Vec<Vec<u8>>, SplitError> {
    let mut slab = vec![0xee; room.max(at + HEADROOM + octets.len())];
    slab[at + HEADROOM..at + HEADROOM + octets.len()].copy_from_slice(octets);
    let mut frames: Vec<Frame> = Vec::new();
    split(cut, CIPHER, &mut slab, at, octets.len(), &mut frames)?;
    let mut next = at;
    for frame in &frames {
        assert_eq!(frame.start, next, "frames lie back to back once sealed");
        next += CIPHER.sealed_len(frame.length);
    }
    let packet = |frame: &Frame| slab[frame.start + HEADROOM..frame.start + HEADROOM + frame.length].to_vec();
    Ok(frames.iter().map(packet).collect())
}

/// A device that cuts what it is given, as the kernel behind a real one does.
#[derive(Default)]
struct Cutter {
    packets: RefCell<Vec<Vec<u8>>>,
    writes: RefCell<Vec<usize>>,
}

impl Device for &Cutter {
    fn write(&self, parts: &[IoSlice<'_>], packets: usize) {
        self.writes.borrow_mut().push(packets);
        let header = VnetHeader::parse(parts[0].as_ref().try_into().unwrap()).unwrap();
        let mut octets: Vec<u8> = parts[1..].iter().flat_map(|part| part.iter().copied()).collect();
        let given = match &header.cut {
            Some(how) => cut(how, &octets, 0, 1 << 20).unwrap(),
            None => {
                complete(&header, &mut octets).unwrap();
                vec![octets]
            }
        };
        assert_eq!(given.len(), packets);
        self.packets.borrow_mut().extend(given);
    }
}

const BOTH: Mergeable = Mergeable { tcp: true, udp: true };

/// What the device cut, and how many packets each write held.
fn merged(mergeable: Mergeable, packets: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<usize>) {
    let cutter = Cutter::default();
    let mut octets = packets.to_vec();
    let mut merger = Merger::new(mergeable, &cutter);
    octets.iter_mut().for_each(|packet| merger.push(packet));
    merger.finish();
    (cutter.packets.into_inner(), cutter.writes.into_inner())
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 251) as u8).collect()
}

fn all_kinds() -> impl Iterator<Item = (bool, bool)> {
    [(true, false), (false, false), (true, true), (false, true)].into_iter()
}

#[test]
fn a_super_packet_becomes_what_its_sender_would_have_sent() {
    for (v4, udp) in all_kinds() {
        let mut whole = Packet::data(v4, udp, payload(60_000));
        whole.sequence = u32::MAX - 3000; // wraps on the way
        whole.id = u16::MAX - 2;
        whole.flags = ACK | PSH | FIN | CWR;
        assert_eq!(cut(&whole.cut(1386), &whole.octets(), 96, 1 << 20).unwrap(), whole.segments(1386));
    }
}

#[test]
fn without_room_nothing_is_touched() {
    let whole = Packet::data(true, false, payload(30_000));
    assert_eq!(cut(&whole.cut(1000), &whole.octets(), 0, 30_100), Err(SplitError::Room));
}

#[test]
fn a_header_that_does_not_fit_its_packet_is_refused() {
    let whole = Packet::data(true, false, payload(3000));
    let octets = whole.octets();
    let refused = |how: Cut, octets: &[u8]| assert_eq!(cut(&how, octets, 0, 1 << 16), Err(SplitError::Malformed));
    refused(Cut { size: 0, ..whole.cut(1000) }, &octets);
    refused(Cut { kind: Kind::TcpV6, ..whole.cut(1000) }, &octets);
    refused(Cut { kind: Kind::Udp, ..whole.cut(1000) }, &octets);
    refused(whole.cut(1000), &octets[..whole.headers()]);
    refused(whole.cut(1000), &[]);
    let mut fragment = octets;
    fragment[6] = 0x20;
    refused(whole.cut(1000), &fragment);
}

#[test]
fn a_checksum_is_completed() {
    for (v4, udp) in all_kinds() {
        let packet = Packet::data(v4, udp, payload(99));
        let right = packet.octets();
        let (ip, field) = (if v4 { 20 } else { 40 }, if udp { 6 } else { 16 });
        let mut open = right.clone();
        let protocol = if udp { UDP } else { TCP };
        let sum = Sum::default().add_pseudo_header(&right[..ip], protocol, right.len() - ip).partial();
        open[ip + field..ip + field + 2].copy_from_slice(&sum);
        complete(&VnetHeader { checksum: Some((ip as u16, field as u16)), cut: None }, &mut open).unwrap();
        assert_eq!(open, right);
        let outside = VnetHeader { checksum: Some((ip as u16, 200)), cut: None };
        assert_eq!(complete(&outside, &mut open), Err(SplitError::Malformed));
    }
}

#[test]
fn the_segments_of_a_flow_become_one_write() {
    for (v4, udp) in all_kinds() {
        let packets = Packet::data(v4, udp, payload(30_500)).segments(1000);
        let (given, writes) = merged(BOTH, &packets);
        assert_eq!((given, writes), (packets, vec![31]), "v4 {v4}, udp {udp}");
    }
}

#[test]
fn without_the_kernels_help_each_packet_goes_alone() {
    let packets = Packet::data(true, true, payload(3000)).segments(1000);
    assert_eq!(merged(Mergeable { tcp: true, udp: false }, &packets), (packets.clone(), vec![1; 3]));
}

#[test]
fn two_flows_do_not_hinder_each_other() {
    let one = Packet::data(true, false, payload(8000)).segments(1000);
    let two = Packet { flow: 2, ..Packet::data(true, false, payload(8000)) }.segments(1000);
    let mixed: Vec<_> = one.iter().zip(&two).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    assert_eq!(merged(BOTH, &mixed).1, [8, 8]);
}

#[test]
fn what_differs_is_not_merged() {
    type Change = fn(&mut Packet);
    let changes: [(&str, Change); 8] = [
        ("DSCP or ECN", |p| p.tos = 3),
        ("TTL", |p| p.ttl = 63),
        ("sequence", |p| p.sequence += 1),
        ("flags", |p| p.flags |= ECE),
        ("urgent", |p| p.flags |= 0x20),
        ("SYN", |p| p.flags |= 2),
        ("timestamp", |p| p.options[7] = 9),
        ("options", |p| p.options.truncate(8)),
    ];
    for (what, change) in changes {
        for v4 in [true, false] {
            let first = Packet::data(v4, false, payload(500));
            let mut second = Packet { sequence: first.sequence + 500, ..first.clone() };
            let pair = [first.octets(), second.octets()];
            assert_eq!(merged(BOTH, &pair).1, [2], "equal");
            change(&mut second);
            let pair = [first.octets(), second.octets()];
            assert_eq!(merged(BOTH, &pair), (pair.to_vec(), vec![1, 1]), "{what}, v4 {v4}");
        }
    }
    // Without DF the identification has to count up.
    let first = Packet { df: false, ..Packet::data(true, true, payload(500)) };
    let pair = |id| [first.octets(), Packet { id, ..first.clone() }.octets()];
    assert_eq!(merged(BOTH, &pair(first.id + 1)).1, [2]);
    assert_eq!(merged(BOTH, &pair(first.id + 2)).1, [1, 1]);
}

#[test]
fn damage_passes_as_it_came() {
    for (v4, udp) in all_kinds() {
        for index in 0..3 {
            let mut packets = Packet::data(v4, udp, payload(3000)).segments(1000);
            *packets[index].last_mut().unwrap() ^= 1;
            let (given, writes) = merged(BOTH, &packets);
            assert_eq!(given, packets);
            assert!(writes.len() > 1);
        }
    }
}

#[test]
fn nothing_overtakes_a_packet_of_its_own_flow() {
    let data = Packet::data(true, false, payload(2000)).segments(1000);
    let fin = Packet { sequence: 2007, flags: ACK | FIN, payload: Vec::new(), ..Packet::data(true, false, Vec::new()) };
    let mut fragment = Packet::data(true, true, payload(100)).octets();
    fragment[6] = 0x20;
    for last in [fin.octets(), fragment] {
        let packets = [data[0].clone(), data[1].clone(), last];
        assert_eq!(merged(BOTH, &packets), (packets.to_vec(), vec![2, 1]));
    }
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let bits = (any::<bool>(), prop::bool::weighted(0.3), 0u8..3, prop::bool::weighted(0.8));
    let sizes = prop_oneof![8 => Just(400usize), 2 => 0usize..400, 1 => Just(401usize)];
    let rare = (prop::bool::weighted(0.05), prop::bool::weighted(0.1), prop::bool::weighted(0.05));
    (bits, sizes, rare, any::<u8>()).prop_map(|((v4, udp, flow, df), size, (fin, push, tos), fill)| {
        let mut packet = Packet { flow, df, ..Packet::data(v4, udp, vec![fill; size]) };
        packet.flags |= if fin { FIN } else { 0 } | if push { PSH } else { 0 };
        packet.tos = if tos { 3 } else { 2 };
        packet
    })
}

/// Numbers the packets of each flow as a sender would, but for a few.
fn numbered(mut packets: Vec<Packet>, odd: &[bool]) -> Vec<Vec<u8>> {
    let mut next = std::collections::BTreeMap::new();
    for (packet, odd) in packets.iter_mut().zip(odd) {
        let (sequence, id) = next.entry((packet.v4, packet.udp, packet.flow)).or_insert((u32::MAX - 900, u16::MAX - 2));
        (packet.sequence, packet.id) = (sequence.wrapping_add(u32::from(*odd)), *id);
        *sequence = sequence.wrapping_add(packet.payload.len() as u32);
        *id = id.wrapping_add(1);
    }
    packets.iter().map(Packet::octets).collect()
}

/// Packets of one flow, or of none.
fn flow_of(packet: &[u8]) -> Vec<u8> {
    let (v4, ip) = (packet[0] >> 4 == 4, if packet[0] >> 4 == 4 { 20 } else { 40 });
    vec![u8::from(v4), packet[if v4 { 9 } else { 6 }], packet[ip + 1]]
}

proptest! {
    #[test]
    fn any_traffic_is_cut_back_to_itself_in_the_order_of_each_flow(
        packets in vec(any_packet(), 1..80), odd in vec(prop::bool::weighted(0.05), 80),
    ) {
        let packets = numbered(packets, &odd);
        let (given, _) = merged(BOTH, &packets);
        prop_assert_eq!(given.len(), packets.len());
        // With DF the identification may come out otherwise than it went in, and the header's checksum with it.
        let plain = |packet: &Vec<u8>| {
            let mut packet = packet.clone();
            if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
                assert_eq!(Sum::default().add(&packet[..20]).checksum(), [0, 0]);
                packet[4..6].fill(0);
                packet[10..12].fill(0);
            }
            packet
        };
        let flows: std::collections::BTreeSet<_> = packets.iter().map(|packet| flow_of(packet)).collect();
        for flow in flows {
            let of = |all: &[Vec<u8>]| -> Vec<Vec<u8>> {
                all.iter().filter(|packet| flow_of(packet) == flow).map(plain).collect()
            };
            prop_assert_eq!(of(&given), of(&packets));
        }
    }

    #[test]
    fn any_super_packet_is_cut_right(
        v4: bool, udp: bool, length in 1usize..9000, size in 100u16..3000, sequence: u32, id: u16, flags: u8,
    ) {
        let whole = Packet { sequence, id, flags, ..Packet::data(v4, udp, payload(length)) };
        prop_assert_eq!(cut(&whole.cut(size), &whole.octets(), 0, 1 << 20).unwrap(), whole.segments(size));
    }

    #[test]
    fn no_octets_make_it_panic(mut octets in vec(any::<u8>(), 0..200), start: u8, header: [u8; VNET_LEN]) {
        if let Some(first) = octets.first_mut() {
            *first = [0x45, 0x60, 0x46, *first][usize::from(start % 4)];
        }
        if octets.len() > 9 && start & 4 != 0 {
            (octets[6], octets[9]) = (if octets[0] == 0x60 { TCP } else { 0x40 }, if start & 8 == 0 { TCP } else { UDP });
        }
        if let Ok(header) = VnetHeader::parse(&header) {
            let _judged = complete(&header, &mut octets.clone());
            if let Some(how) = header.cut {
                let _judged = cut(&how, &octets, 0, 1 << 16);
            }
        }
        let (given, _) = merged(BOTH, &[octets.clone(), octets.clone()]);
        prop_assert_eq!(given, vec![octets.clone(), octets]);
    }
}
