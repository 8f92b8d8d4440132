//! Attribute lists between a table's entry and an UPDATE: next hops of other families than IPv4 (RFC 6396 §4.3.4).

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use net_types::{Family, Prefix};

use crate::Entry;

const BGP_HEADER: usize = 19;
const UPDATE: u8 = 2;
const EXTENDED_LENGTH: u8 = 0x10;
const OPTIONAL: u8 = 0x80;
const MP_REACH: u8 = 14;
const MP_UNREACH: u8 = 15;

/// Attributes of a list, as far as it can be cut: flags, type, value, and all of it.
fn items(mut list: &[u8]) -> impl Iterator<Item = (u8, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let [flags, code, ..] = *list else { return None };
        let (start, length) = if flags & EXTENDED_LENGTH == 0 {
            (3, usize::from(*list.get(2)?))
        } else {
            (4, usize::from(u16::from_be_bytes(list.get(2..4)?.try_into().ok()?)))
        };
        let (whole, rest) = list.split_at_checked(start + length)?;
        list = rest;
        Some((code, whole.get(start..)?, whole))
    })
}

/// The next hop in the value of an MP_REACH_NLRI, cut down or whole: its length in octets, and itself.
///
/// Some writers leave the attribute whole; then it begins with an address family, whose first octet is zero, which no
/// length of a next hop is.
fn next_hop(value: &[u8]) -> Option<&[u8]> {
    match value {
        [0, _, _, length, rest @ ..] => rest.get(..usize::from(*length)),
        [length, rest @ ..] if rest.len() == usize::from(*length) => Some(rest),
        _ => None,
    }
}

fn put_prefix(prefix: &Prefix, out: &mut Vec<u8>) {
    let octets = usize::from(prefix.bits()).div_ceil(8);
    out.push(prefix.bits());
    match prefix.address() {
        IpAddr::V4(address) => out.extend(address.octets().iter().take(octets)),
        IpAddr::V6(address) => out.extend(address.octets().iter().take(octets)),
    }
}

impl Entry {
    /// The UPDATE that announces `prefix` with these attributes, as the peer sent it or might have. `None` when there is
    /// no next hop for an IPv6 prefix, or the message would be longer than any can be (RFC 8654).
    pub fn to_update(&self, prefix: &Prefix) -> Option<Bytes> {
        let mut list = Vec::with_capacity(self.attributes.len() + 32);
        let mut reach = None;
        for (code, value, whole) in items(&self.attributes) {
            match code {
                MP_REACH => reach = next_hop(value),
                MP_UNREACH => {}
                _ => list.extend_from_slice(whole),
            }
        }
        let mut plain = Vec::new();
        match (prefix.family(), reach) {
            // IPv4 by way of an IPv6 next hop (RFC 8950) comes in MP_REACH_NLRI as well.
            (Family::Ipv4Unicast, None) => put_prefix(prefix, &mut plain),
            (_, None) => return None,
            (family, Some(next_hop)) => {
                let mut value = family.afi().code().to_be_bytes().to_vec();
                value.extend([family.safi().code(), u8::try_from(next_hop.len()).ok()?]);
                value.extend_from_slice(next_hop);
                value.push(0);
                put_prefix(prefix, &mut value);
                list.extend([OPTIONAL, MP_REACH, u8::try_from(value.len()).ok()?]);
                list.extend(value);
            }
        }
        let length = u16::try_from(BGP_HEADER + 4 + list.len() + plain.len()).ok()?;
        let mut out = BytesMut::with_capacity(usize::from(length));
        out.put_bytes(0xff, 16);
        out.put_u16(length);
        out.put_u8(UPDATE);
        out.put_u16(0);
        out.put_u16(list.len() as u16); // part of `length`
        out.put_slice(&list);
        out.put_slice(&plain);
        Some(out.freeze())
    }
}

/// The attributes of an UPDATE as an [`Entry`] has them. `None` if it is none, or its lengths do not fit.
pub fn entry_attributes(update: &[u8]) -> Option<Bytes> {
    let body = update.get(BGP_HEADER..).filter(|_| update.get(BGP_HEADER - 1) == Some(&UPDATE))?;
    let length_at = |at: usize| body.get(at..)?.first_chunk().map(|octets| usize::from(u16::from_be_bytes(*octets)));
    let start = 2 + length_at(0)? + 2;
    let list = body.get(start..)?.get(..length_at(start - 2)?)?;
    let mut out = BytesMut::with_capacity(list.len());
    for (code, value, whole) in items(list) {
        match code {
            MP_REACH => {
                let next_hop = next_hop(value)?;
                let length = u8::try_from(next_hop.len()).ok()?;
                out.put_slice(&[OPTIONAL, MP_REACH, length.checked_add(1)?, length]);
                out.put_slice(next_hop);
            }
            MP_UNREACH => {}
            _ => out.put_slice(whole),
        }
    }
    Some(out.freeze())
}
