//! Writing UPDATEs: attributes are encoded once, prefixes packed behind them until the message is full.

use std::iter::Peekable;

use bytes::{BufMut, Bytes, BytesMut};
use net_types::Family;

use crate::{
    Attributes, HEADER_OCTETS, MessageType, Negotiated, NextHop,
    attr::{AttrCode, AttrFlags, mp_reach, mp_unreach},
    header,
    nlri::{self, Nlri, Way},
};

/// Octets of withdrawn routes length and attribute list length.
const LENGTHS: usize = 4;
/// Octets of flags, type and a two-octet length.
const LONG_ATTR_HEADER: usize = 4;
/// Octets of a path identifier (RFC 7911 §3).
const PATH_ID: usize = 4;

/// Why routes cannot be announced to this peer. The caller withdraws them instead (RFC 4271 §9.2, RFC 8654 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// No room is left for a prefix.
    #[error("attributes of {found} octets leave no room for a prefix in a message of {max} octets")]
    TooLong {
        /// Octets of attributes.
        found: usize,
        /// The longest message of the session.
        max: usize,
    },
    /// The family cannot be announced with that kind of next hop: the session did not agree on it (RFC 8950).
    #[error("{family} cannot be announced with next hop {next_hop}")]
    NextHop {
        /// The family.
        family: Family,
        /// The next hop.
        next_hop: NextHop,
    },
}

/// UPDATEs that announce prefixes of one family with the same attributes; each message is as full as it can be.
#[derive(Debug)]
pub struct Announcements<I: Iterator<Item: Nlri>> {
    prefixes: Peekable<I>,
    family: Family,
    /// Path identifiers stand before the prefixes (RFC 7911 §3).
    add_path: bool,
    /// The next hop, where it is in MP_REACH_NLRI.
    multiprotocol: Option<NextHop>,
    attributes: Vec<u8>,
    max: usize,
}

impl<I: Iterator<Item: Nlri>> Announcements<I> {
    /// Prepares the messages. Prefixes of other families than `family` are left out, and those with
    /// more labels than can be written.
    ///
    /// # Errors
    /// When no such message can be written.
    pub fn new(
        attributes: &Attributes,
        family: Family,
        next_hop: NextHop,
        prefixes: impl IntoIterator<Item = I::Item, IntoIter = I>,
        negotiated: &Negotiated,
    ) -> Result<Self, EmitError> {
        let (plain, multiprotocol) = match (family, next_hop) {
            (Family::Ipv4Unicast, NextHop::V4(address)) => (Some(address), None),
            (Family::Ipv6Unicast | Family::Ipv6Vpn, NextHop::V6 { .. }) => (None, Some(next_hop)),
            (Family::Ipv4Vpn | Family::Ipv6Vpn, NextHop::V4(_)) => (None, Some(next_hop)),
            // RFC 8950 §3
            (Family::Ipv4Unicast | Family::Ipv4Vpn, NextHop::V6 { .. }) if negotiated.over_ipv6.contains(family) => {
                (None, Some(next_hop))
            }
            _ => return Err(EmitError::NextHop { family, next_hop }),
        };
        let mut encoded = Vec::with_capacity(128);
        attributes.emit(plain, negotiated, &mut encoded);
        let max = negotiated.max_message_octets();
        let add_path = negotiated.add_path_out.contains(family);
        let announcements = Self {
            prefixes: prefixes.into_iter().peekable(),
            family,
            add_path,
            multiprotocol,
            attributes: encoded,
            max,
        };
        let found = announcements.fixed_octets();
        if found + PATH_ID + nlri::longest(family) > max {
            Err(EmitError::TooLong { found, max })
        } else {
            Ok(announcements)
        }
    }

    /// Octets of a message without its prefixes.
    fn fixed_octets(&self) -> usize {
        let reach =
            self.multiprotocol.map_or(0, |next_hop| LONG_ATTR_HEADER + mp_reach::fixed_octets(self.family, &next_hop));
        HEADER_OCTETS + LENGTHS + reach + self.attributes.len()
    }
}

impl<I: Iterator<Item: Nlri>> Announcements<I> {
    /// Appends the next message to `out`; `false` when there is none left.
    pub fn write_next(&mut self, out: &mut BytesMut) -> bool {
        if self.prefixes.peek().is_none() {
            return false;
        }
        let start = out.len();
        let fixed = self.fixed_octets();
        out.reserve(fixed);
        header::begin(out, MessageType::Update);
        out.put_u16(0);
        let lengths = out.len();
        // The lengths of what holds the prefixes are known when those are written.
        out.put_u16(self.attributes.len() as u16); // below `max`, which has 16 bits
        let list = match self.multiprotocol {
            None => {
                out.put_slice(&self.attributes);
                fill(&mut self.prefixes, self.family, self.add_path, Way::Announced, self.max - fixed, out)
            }
            Some(next_hop) => {
                // RFC 7606 §5.1: first, so that the routes are found whatever else is wrong.
                long_attr_header(AttrCode::MpReach, 0, out);
                let value = out.len();
                mp_reach::emit_fixed(self.family, &next_hop, out);
                let list = fill(&mut self.prefixes, self.family, self.add_path, Way::Announced, self.max - fixed, out);
                let octets = out.len() - value;
                put_u16_at(out, value - 2, octets);
                put_u16_at(out, lengths, LONG_ATTR_HEADER + octets + self.attributes.len());
                out.put_slice(&self.attributes);
                list
            }
        };
        if list == 0 {
            out.truncate(start); // only prefixes of other families were left
            return false;
        }
        header::finish(out, start);
        true
    }
}

impl<I: Iterator<Item: Nlri>> Iterator for Announcements<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        self.write_next(&mut out).then(|| out.freeze())
    }
}

/// UPDATEs that withdraw prefixes of one family; each message is as full as it can be.
#[derive(Debug)]
pub struct Withdrawals<I: Iterator<Item: Nlri>> {
    prefixes: Peekable<I>,
    family: Family,
    add_path: bool,
    max: usize,
}

impl<I: Iterator<Item: Nlri>> Withdrawals<I> {
    /// Prepares the messages. Prefixes of other families than `family` are left out.
    pub fn new(
        family: Family,
        prefixes: impl IntoIterator<Item = I::Item, IntoIter = I>,
        negotiated: &Negotiated,
    ) -> Self {
        let (add_path, max) = (negotiated.add_path_out.contains(family), negotiated.max_message_octets());
        Self { prefixes: prefixes.into_iter().peekable(), family, add_path, max }
    }
}

impl<I: Iterator<Item: Nlri>> Withdrawals<I> {
    /// Appends the next message to `out`; `false` when there is none left.
    pub fn write_next(&mut self, out: &mut BytesMut) -> bool {
        let start = out.len();
        if self.prefixes.peek().is_none() {
            return false;
        }
        let list = withdrawal(self.family, out, |room, out| {
            let room = self.max - HEADER_OCTETS - LENGTHS - room;
            fill(&mut self.prefixes, self.family, self.add_path, Way::Withdrawn, room, out)
        });
        if list == 0 {
            out.truncate(start); // only prefixes of other families were left
        }
        list > 0
    }
}

impl<I: Iterator<Item: Nlri>> Iterator for Withdrawals<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        self.write_next(&mut out).then(|| out.freeze())
    }
}

/// The End-of-RIB marker of `family`, a whole message (RFC 4724 §2).
pub fn emit_end_of_rib(family: Family) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_OCTETS + LENGTHS + LONG_ATTR_HEADER + mp_unreach::FIXED_OCTETS);
    withdrawal(family, &mut out, |_, _| 0);
    out.freeze()
}

/// A message whose prefixes `list` writes, which is told how many octets of the message MP_UNREACH_NLRI takes.
fn withdrawal(family: Family, out: &mut BytesMut, list: impl FnOnce(usize, &mut BytesMut) -> usize) -> usize {
    let start = out.len();
    header::begin(out, MessageType::Update);
    out.put_u16(0);
    let octets = match family {
        Family::Ipv4Unicast => {
            let lengths = out.len() - 2;
            let octets = list(0, out);
            put_u16_at(out, lengths, octets);
            out.put_u16(0);
            octets
        }
        Family::Ipv6Unicast | Family::Ipv4Vpn | Family::Ipv6Vpn => {
            let lengths = out.len();
            out.put_u16(0);
            long_attr_header(AttrCode::MpUnreach, 0, out);
            let value = out.len();
            mp_unreach::emit_fixed(family, out);
            let octets = list(LONG_ATTR_HEADER + mp_unreach::FIXED_OCTETS, out);
            let whole = out.len() - value;
            put_u16_at(out, value - 2, whole);
            put_u16_at(out, lengths, LONG_ATTR_HEADER + whole);
            octets
        }
    };
    header::finish(out, start);
    octets
}

/// Puts a length where room was left for it; all of them are below the message's, which has 16 bits.
fn put_u16_at(out: &mut BytesMut, at: usize, octets: usize) {
    if let Some(field) = out.get_mut(at..at + 2) {
        field.copy_from_slice(&(octets as u16).to_be_bytes());
    }
}

fn long_attr_header(code: AttrCode, octets: usize, out: &mut BytesMut) {
    out.put_u8(AttrFlags::OPTIONAL | AttrFlags::EXTENDED_LENGTH);
    out.put_u8(code.code());
    out.put_u16(octets as u16); // below the message's length, which has 16 bits
}

/// Appends prefixes while they fit into `room` octets; how many octets they take.
fn fill<I: Iterator<Item: Nlri>>(
    prefixes: &mut Peekable<I>,
    family: Family,
    add_path: bool,
    way: Way,
    room: usize,
    out: &mut BytesMut,
) -> usize {
    let start = out.len();
    let id = if add_path { PATH_ID } else { 0 };
    let belongs = |nlri: &I::Item| nlri.prefix().family() == family && nlri::fits(nlri, way);
    let fits =
        |out: &BytesMut, nlri: &I::Item| !belongs(nlri) || out.len() - start + id + nlri::octets(nlri, way) <= room;
    while let Some(nlri) = prefixes.next_if(|nlri| fits(out, nlri)) {
        if belongs(&nlri) {
            if add_path {
                out.put_u32(nlri.path_id());
            }
            nlri::emit(&nlri, way, out);
        }
    }
    out.len() - start
}
