//! Neighbours of a flow become a super-packet, as the kernel's GRO makes them.
//!
//! Only what can be cut again to the very same packets is merged: equal headers but for lengths and numbers, sequence numbers
//! that follow on, equal sizes of which the last may be shorter, and right checksums (what arrives damaged goes on damaged).
//! Packets of one flow keep their order; a fragment waits for nobody and nobody overtakes it.

use std::io::IoSlice;

use super::{
    VnetHeader,
    checksum::Sum,
    header::{Cut, Kind, VNET_LEN},
    layout::{ACK, ECE, PSH, TCP, TCP_CHECKSUM, TCP_FLAGS, UDP, UDP_CHECKSUM},
};

/// Flows that are merged at the same time.
const FLOWS: usize = 4;
/// Packets of a super-packet; more do not fit in 64 KiB at common sizes, and the kernel cuts UDP into no more.
const MAX_PACKETS: usize = 64;
/// Octets of a super-packet, as its own length field bounds them.
const MAX_OCTETS: usize = 65_535;

/// Where packets go.
pub(crate) trait Device {
    /// Takes a header and the packet behind it in parts; it stands for so many packets.
    fn write(&self, parts: &[IoSlice<'_>], packets: usize);
}

/// What the device's kernel cuts again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mergeable {
    pub(crate) tcp: bool,
    pub(crate) udp: bool,
}

/// Takes packets in order and writes them merged.
pub(crate) struct Merger<'a, D> {
    flows: [Option<Flow<'a>>; FLOWS],
    /// Whose turn it is to give way when all places are taken.
    next: usize,
    mergeable: Mergeable,
    device: D,
}

/// A super-packet in the making.
struct Flow<'a> {
    shape: Shape,
    head: &'a mut [u8],
    /// Payloads behind the head.
    more: [&'a [u8]; MAX_PACKETS - 1],
    count: usize,
    octets: usize,
    pushed: bool,
    verified: bool,
}

/// Where things are in a packet that may be merged.
#[derive(Clone, Copy)]
struct Shape {
    v4: bool,
    udp: bool,
    ip: usize,
    headers: usize,
    payload: usize,
}

/// What a packet is to the merger.
enum Class {
    /// TCP or UDP with payload and nothing unusual.
    Mergeable(Shape),
    /// Of a flow that may be under way, but not to be merged.
    Single {
        v4: bool,
        udp: bool,
        ip: usize,
    },
    /// A fragment, of any flow.
    Fragment,
    Other,
}

impl<'a, D: Device> Merger<'a, D> {
    /// Nothing held back.
    pub(crate) fn new(mergeable: Mergeable, device: D) -> Self {
        Self { flows: [const { None }; FLOWS], next: 0, mergeable, device }
    }

    /// Where its packets go.
    pub(crate) fn device(&self) -> &D {
        &self.device
    }

    /// Takes the next packet, which is exactly as long as it says itself.
    pub(crate) fn push(&mut self, packet: &'a mut [u8]) {
        match Class::of(packet) {
            Class::Mergeable(shape) if if shape.udp { self.mergeable.udp } else { self.mergeable.tcp } => {
                let known = self.find(packet, shape.v4, shape.udp, shape.ip);
                let Some(place) = known else { return self.begin(shape, packet) };
                match self.flows[place].as_mut().map(|flow| flow.take(shape, packet)) {
                    Some(Taken::Open) => {}
                    Some(Taken::Closed) => self.flush(place),
                    Some(Taken::Not(packet)) => {
                        self.flush(place);
                        self.begin(shape, packet);
                    }
                    None => {}
                }
            }
            Class::Mergeable(Shape { v4, udp, ip, .. }) | Class::Single { v4, udp, ip } => {
                if let Some(place) = self.find(packet, v4, udp, ip) {
                    self.flush(place);
                }
                self.write_one(packet);
            }
            Class::Fragment => {
                self.finish();
                self.write_one(packet);
            }
            Class::Other => self.write_one(packet),
        }
    }

    /// Writes what is still held back.
    pub(crate) fn finish(&mut self) {
        (0..FLOWS).for_each(|place| self.flush(place));
    }

    fn find(&self, packet: &[u8], v4: bool, udp: bool, ip: usize) -> Option<usize> {
        let same = |flow: &Flow<'_>| {
            (flow.shape.v4, flow.shape.udp) == (v4, udp)
                && addresses(flow.head, v4) == addresses(packet, v4)
                && flow.head.get(flow.shape.ip..flow.shape.ip + 4) == packet.get(ip..ip + 4)
        };
        self.flows.iter().position(|flow| flow.as_ref().is_some_and(same))
    }

    fn begin(&mut self, shape: Shape, packet: &'a mut [u8]) {
        if !shape.udp && packet[shape.ip + TCP_FLAGS] & PSH != 0 {
            return self.write_one(packet); // nothing may follow it
        }
        let place = self.flows.iter().position(Option::is_none).unwrap_or_else(|| {
            let place = self.next;
            self.next = (place + 1) % FLOWS;
            self.flush(place);
            place
        });
        let octets = packet.len();
        self.flows[place] = Some(Flow {
            shape,
            head: packet,
            more: [&[]; MAX_PACKETS - 1],
            count: 1,
            octets,
            pushed: false,
            verified: false,
        });
    }

    fn write_one(&mut self, packet: &[u8]) {
        self.device.write(&[IoSlice::new(&[0; VNET_LEN]), IoSlice::new(packet)], 1);
    }

    fn flush(&mut self, place: usize) {
        let Some(flow) = self.flows.get_mut(place).and_then(Option::take) else { return };
        let header = if flow.count > 1 {
            seal_headers(&flow.shape, flow.head, flow.octets, flow.pushed)
        } else {
            VnetHeader::default()
        };
        let header = header.emit();
        let mut parts = [IoSlice::new(&[]); MAX_PACKETS + 1];
        parts[0] = IoSlice::new(&header);
        parts[1] = IoSlice::new(flow.head);
        let more = &flow.more[..flow.count - 1];
        for (part, payload) in parts[2..].iter_mut().zip(more) {
            *part = IoSlice::new(payload);
        }
        self.device.write(&parts[..flow.count + 1], flow.count);
    }
}

/// What became of a packet that a flow was offered.
enum Taken<'a> {
    /// More may follow.
    Open,
    /// Nothing more.
    Closed,
    /// It does not belong.
    Not(&'a mut [u8]),
}

impl<'a> Flow<'a> {
    fn take(&mut self, shape: Shape, packet: &'a mut [u8]) -> Taken<'a> {
        if !self.continues(&shape, packet) {
            return Taken::Not(packet);
        }
        self.pushed = !shape.udp && packet[shape.ip + TCP_FLAGS] & PSH != 0;
        let whole: &'a [u8] = packet;
        self.more[self.count - 1] = &whole[shape.headers..];
        self.count += 1;
        self.octets += shape.payload;
        let full = self.count == MAX_PACKETS || self.octets + self.shape.payload > MAX_OCTETS;
        if self.pushed || full || shape.payload < self.shape.payload { Taken::Closed } else { Taken::Open }
    }

    /// Whether cutting the two together would give the two.
    fn continues(&mut self, shape: &Shape, packet: &[u8]) -> bool {
        let head = &*self.head;
        if (shape.ip, shape.headers) != (self.shape.ip, self.shape.headers) || shape.payload > self.shape.payload {
            return false;
        }
        let (ours, theirs) = (head.split_at(shape.ip), packet.split_at(shape.ip));
        let same_ip = if shape.v4 {
            let id = |ip: &[u8]| u16::from_be_bytes([ip[4], ip[5]]);
            // With DF set the identification has no meaning (RFC 6864 §4.1).
            let numbered = ours.0[6] & 0x40 != 0 || id(theirs.0) == id(ours.0).wrapping_add(self.count as u16);
            ours.0[..2] == theirs.0[..2] && ours.0[6..10] == theirs.0[6..10] && numbered
        } else {
            ours.0[..4] == theirs.0[..4] && ours.0[6..8] == theirs.0[6..8]
        };
        let same_transport = shape.udp || {
            let sequence = |tcp: &[u8]| u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
            let sent = (self.octets - self.shape.headers) as u32; // less than 64 KiB
            sequence(theirs.1) == sequence(ours.1).wrapping_add(sent)
                && ours.1[8..13] == theirs.1[8..13]
                && (ours.1[TCP_FLAGS] ^ theirs.1[TCP_FLAGS]) & !PSH == 0
                && ours.1[14..16] == theirs.1[14..16]
                && ours.1[20..shape.headers - shape.ip] == theirs.1[20..shape.headers - shape.ip]
        };
        if !same_ip || !same_transport || self.octets + shape.payload > MAX_OCTETS {
            return false;
        }
        // Last, because it costs most.
        self.verified = self.verified || is_whole(&self.shape, head);
        self.verified && is_whole(shape, packet)
    }
}

/// Whether the transport checksum is right, and there.
fn is_whole(shape: &Shape, packet: &[u8]) -> bool {
    let (ip, segment) = packet.split_at(shape.ip);
    let (protocol, field) = if shape.udp { (UDP, UDP_CHECKSUM) } else { (TCP, TCP_CHECKSUM) };
    let given = !shape.udp || segment[field..field + 2] != [0, 0];
    given && Sum::default().add_pseudo_header(ip, protocol, segment.len()).add(segment).checksum() == [0, 0]
}

/// Makes the head's headers those of the super-packet.
fn seal_headers(shape: &Shape, head: &mut [u8], octets: usize, pushed: bool) -> VnetHeader {
    let (ip, segment) = head.split_at_mut(shape.ip);
    let length = octets - shape.ip;
    if shape.v4 {
        ip[2..4].copy_from_slice(&(octets as u16).to_be_bytes()); // bounded by MAX_OCTETS
        ip[10..12].fill(0);
        let check = Sum::default().add(ip).checksum();
        ip[10..12].copy_from_slice(&check);
    } else {
        ip[4..6].copy_from_slice(&((octets - 40) as u16).to_be_bytes());
    }
    let (protocol, field, kind) = match (shape.udp, shape.v4) {
        (true, _) => (UDP, UDP_CHECKSUM, Kind::Udp),
        (false, true) => (TCP, TCP_CHECKSUM, Kind::TcpV4),
        (false, false) => (TCP, TCP_CHECKSUM, Kind::TcpV6),
    };
    if shape.udp {
        segment[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    } else if pushed {
        segment[TCP_FLAGS] |= PSH;
    }
    // The kernel completes it for each packet that it cuts.
    let partial = Sum::default().add_pseudo_header(ip, protocol, length).partial();
    segment[field..field + 2].copy_from_slice(&partial);
    // All bounded by the length of the longest headers, and the payload by that of a packet.
    let cut = Cut { kind, size: shape.payload as u16, headers: shape.headers as u16 };
    VnetHeader { checksum: Some((shape.ip as u16, field as u16)), cut: Some(cut) }
}

impl Class {
    fn of(packet: &[u8]) -> Self {
        match packet.first().map_or(0, |octet| octet >> 4) {
            4 => Self::of_v4(packet).unwrap_or(Self::Other),
            6 => Self::of_v6(packet).unwrap_or(Self::Other),
            _ => Self::Other,
        }
    }

    fn of_v4(packet: &[u8]) -> Option<Self> {
        let header: &[u8; 20] = packet.first_chunk()?;
        if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
            return Some(Self::Fragment); // more to come, or an offset
        }
        let ip = usize::from(header[0] & 0xf) * 4;
        // A checksum of the IP header is only recomputed where it was right.
        let plain = ip == 20 && Sum::default().add(header).checksum() == [0, 0] && header[6] & 0x80 == 0;
        Self::transport(packet, true, header[9], ip, plain)
    }

    fn of_v6(packet: &[u8]) -> Option<Self> {
        match packet.get(6)? {
            44 => Some(Self::Fragment),
            next => Self::transport(packet, false, *next, 40, true),
        }
    }

    fn transport(packet: &[u8], v4: bool, protocol: u8, ip: usize, plain: bool) -> Option<Self> {
        let segment = packet.get(ip..)?;
        let udp = match protocol {
            TCP => false,
            UDP => true,
            _ => return None,
        };
        let own = if udp { 8 } else { usize::from(*segment.get(12)? >> 4) * 4 };
        let single = Self::Single { v4, udp, ip };
        if segment.len() <= own || own < if udp { 8 } else { 20 } {
            return Some(single); // no payload: an acknowledgement, or nonsense
        }
        let fits = if udp {
            usize::from(u16::from_be_bytes([segment[4], segment[5]])) == segment.len()
        } else {
            // Data that is acknowledged data and nothing else; the urgent pointer unused.
            segment[TCP_FLAGS] & !(PSH | ECE) == ACK && segment[12] & 0xf == 0 && segment[18..20] == [0, 0]
        };
        let shape = Shape { v4, udp, ip, headers: ip + own, payload: segment.len() - own };
        Some(if plain && fits { Self::Mergeable(shape) } else { single })
    }
}

fn addresses(packet: &[u8], v4: bool) -> &[u8] {
    packet.get(if v4 { 12..20 } else { 8..40 }).unwrap_or_default()
}
