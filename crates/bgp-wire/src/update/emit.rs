//! Writing UPDATEs: attributes are encoded once, prefixes packed behind them until the message is full.

use std::iter::Peekable;

use bytes::{BufMut, Bytes, BytesMut};
use net_types::{Family, Prefix};

use crate::{
    Attributes, HEADER_OCTETS, MessageType, Negotiated, NextHop,
    attr::{AttrCode, AttrFlags, mp_reach, mp_unreach},
    header, nlri,
};

/// Octets of withdrawn routes length and attribute list length.
const LENGTHS: usize = 4;
/// Octets of flags, type and a two-octet length.
const LONG_ATTR_HEADER: usize = 4;
/// Octets of the longest prefix.
const LONGEST_PREFIX: usize = 17;

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
pub struct Announcements<I: Iterator<Item = Prefix>> {
    prefixes: Peekable<I>,
    family: Family,
    /// The next hop, where it is in MP_REACH_NLRI.
    multiprotocol: Option<NextHop>,
    attributes: Vec<u8>,
    max: usize,
}

impl<I: Iterator<Item = Prefix>> Announcements<I> {
    /// Prepares the messages. Prefixes of other families than `family` are left out.
    ///
    /// # Errors
    /// When no such message can be written.
    pub fn new(
        attributes: &Attributes,
        family: Family,
        next_hop: NextHop,
        prefixes: impl IntoIterator<Item = Prefix, IntoIter = I>,
        negotiated: &Negotiated,
    ) -> Result<Self, EmitError> {
        let (plain, multiprotocol) = match (family, next_hop) {
            (Family::Ipv4Unicast, NextHop::V4(address)) => (Some(address), None),
            (Family::Ipv6Unicast, NextHop::V6 { .. }) => (None, Some(next_hop)),
            // RFC 8950 §3
            (Family::Ipv4Unicast, NextHop::V6 { .. }) if negotiated.over_ipv6.contains(family) => {
                (None, Some(next_hop))
            }
            _ => return Err(EmitError::NextHop { family, next_hop }),
        };
        let mut encoded = Vec::with_capacity(128);
        attributes.emit(plain, negotiated, &mut encoded);
        let max = negotiated.max_message_octets();
        let announcements =
            Self { prefixes: prefixes.into_iter().peekable(), family, multiprotocol, attributes: encoded, max };
        let found = announcements.fixed_octets();
        if found + LONGEST_PREFIX > max { Err(EmitError::TooLong { found, max }) } else { Ok(announcements) }
    }

    /// Octets of a message without its prefixes.
    fn fixed_octets(&self) -> usize {
        let reach = self.multiprotocol.map_or(0, |next_hop| LONG_ATTR_HEADER + mp_reach::fixed_octets(&next_hop));
        HEADER_OCTETS + LENGTHS + reach + self.attributes.len()
    }
}

impl<I: Iterator<Item = Prefix>> Iterator for Announcements<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut list = Vec::new();
        let room = self.max - self.fixed_octets();
        fill(&mut self.prefixes, self.family, room, &mut list);
        if list.is_empty() {
            return None;
        }
        let mut out = BytesMut::with_capacity(self.fixed_octets() + list.len());
        header::begin(&mut out, MessageType::Update);
        out.put_u16(0);
        match self.multiprotocol {
            None => {
                out.put_u16(self.attributes.len() as u16); // below `max`, which has 16 bits
                out.put_slice(&self.attributes);
                out.put_slice(&list);
            }
            Some(next_hop) => {
                let value = mp_reach::fixed_octets(&next_hop) + list.len();
                out.put_u16((LONG_ATTR_HEADER + value + self.attributes.len()) as u16);
                // RFC 7606 §5.1: first, so that the routes are found whatever else is wrong.
                long_attr_header(AttrCode::MpReach, value, &mut out);
                mp_reach::emit_fixed(self.family, &next_hop, &mut out);
                out.put_slice(&list);
                out.put_slice(&self.attributes);
            }
        }
        header::finish(&mut out, 0);
        Some(out.freeze())
    }
}

/// UPDATEs that withdraw prefixes of one family; each message is as full as it can be.
#[derive(Debug)]
pub struct Withdrawals<I: Iterator<Item = Prefix>> {
    prefixes: Peekable<I>,
    family: Family,
    max: usize,
}

impl<I: Iterator<Item = Prefix>> Withdrawals<I> {
    /// Prepares the messages. Prefixes of other families than `family` are left out.
    pub fn new(
        family: Family,
        prefixes: impl IntoIterator<Item = Prefix, IntoIter = I>,
        negotiated: &Negotiated,
    ) -> Self {
        Self { prefixes: prefixes.into_iter().peekable(), family, max: negotiated.max_message_octets() }
    }
}

impl<I: Iterator<Item = Prefix>> Iterator for Withdrawals<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let unreach = match self.family {
            Family::Ipv4Unicast => 0,
            Family::Ipv6Unicast => LONG_ATTR_HEADER + mp_unreach::FIXED_OCTETS,
        };
        let mut list = Vec::new();
        fill(&mut self.prefixes, self.family, self.max - HEADER_OCTETS - LENGTHS - unreach, &mut list);
        if list.is_empty() { None } else { Some(withdrawal(self.family, &list)) }
    }
}

/// The End-of-RIB marker of `family`, a whole message (RFC 4724 §2).
pub fn emit_end_of_rib(family: Family) -> Bytes {
    withdrawal(family, &[])
}

fn withdrawal(family: Family, list: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_OCTETS + LENGTHS + LONG_ATTR_HEADER + 3 + list.len());
    header::begin(&mut out, MessageType::Update);
    match family {
        Family::Ipv4Unicast => {
            out.put_u16(list.len() as u16); // below the message's length, which has 16 bits
            out.put_slice(list);
            out.put_u16(0);
        }
        Family::Ipv6Unicast => {
            let value = mp_unreach::FIXED_OCTETS + list.len();
            out.put_u16(0);
            out.put_u16((LONG_ATTR_HEADER + value) as u16);
            long_attr_header(AttrCode::MpUnreach, value, &mut out);
            mp_unreach::emit_fixed(family, &mut out);
            out.put_slice(list);
        }
    }
    header::finish(&mut out, 0);
    out.freeze()
}

fn long_attr_header(code: AttrCode, octets: usize, out: &mut BytesMut) {
    out.put_u8(AttrFlags::OPTIONAL | AttrFlags::EXTENDED_LENGTH);
    out.put_u8(code.code());
    out.put_u16(octets as u16); // below the message's length, which has 16 bits
}

/// Appends prefixes while they fit into `room` octets.
fn fill<I: Iterator<Item = Prefix>>(prefixes: &mut Peekable<I>, family: Family, room: usize, list: &mut Vec<u8>) {
    while let Some(prefix) = prefixes.next_if(|p| p.family() != family || list.len() + nlri::octets(p) <= room) {
        if prefix.family() == family {
            nlri::emit(&prefix, list);
        }
    }
}
