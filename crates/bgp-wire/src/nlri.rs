//! Prefixes on the wire: a length in bits, then as many octets as it needs (RFC 4271 §4.3, RFC 4760 §5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BufMut;
use net_types::{Family, Prefix};

use crate::cursor::Cursor;

/// Why a list of prefixes cannot be read (RFC 7606 §5.3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NlriError {
    /// A length that the family does not have.
    #[error("prefix length {found} is greater than the {max} bits of {family} (RFC 7606 §5.3)")]
    Bits {
        /// The family whose list it is.
        family: Family,
        /// What was found.
        found: u8,
        /// Most bits in that family.
        max: u8,
    },
    /// What is left is too short for a path identifier and a length.
    #[error("{left} octets are left, too few for a path identifier and a prefix (RFC 7911 §3)")]
    PathId {
        /// Octets there are.
        left: usize,
    },
    /// The last prefix runs past the end.
    #[error("a prefix of {bits} bits needs {needed} octets where {left} are left (RFC 7606 §5.3)")]
    Overrun {
        /// Its length.
        bits: u8,
        /// Octets that takes.
        needed: usize,
        /// Octets there are.
        left: usize,
    },
}

/// Prefixes, and their path identifiers if they came with any (RFC 7911 §3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) prefixes: Vec<Prefix>,
    /// Empty, or one for each prefix.
    pub(crate) ids: Vec<u32>,
}

impl List {
    pub(crate) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// Appends another list. Where only one of them has identifiers, the other's are 0.
    pub(crate) fn append(&mut self, other: Self) {
        if !self.ids.is_empty() || !other.ids.is_empty() {
            self.ids.resize(self.prefixes.len(), 0);
            self.ids.extend(&other.ids);
            self.ids.resize(self.prefixes.len() + other.prefixes.len(), 0);
        }
        if self.prefixes.is_empty() {
            self.prefixes = other.prefixes;
        } else {
            self.prefixes.extend(other.prefixes);
        }
    }
}

/// Something that is announced or withdrawn: a prefix, or one path for it.
pub trait Nlri: std::fmt::Debug {
    /// The prefix.
    fn prefix(&self) -> &Prefix;
    /// The path's identifier, for sessions that have them (RFC 7911 §3).
    fn path_id(&self) -> u32;
}

impl Nlri for Prefix {
    fn prefix(&self) -> &Prefix {
        self
    }

    fn path_id(&self) -> u32 {
        0
    }
}

impl Nlri for (Prefix, u32) {
    fn prefix(&self) -> &Prefix {
        &self.0
    }

    fn path_id(&self) -> u32 {
        self.1
    }
}

/// Reads every prefix of `body`, with path identifiers or without.
///
/// A prefix takes at least one octet, so the list never outgrows the message by more than a fixed factor.
pub(crate) fn parse(family: Family, add_path: bool, body: &[u8]) -> Result<List, NlriError> {
    let mut list = List::default();
    if !body.is_empty() {
        read(family, add_path, body, &mut list)?;
    }
    Ok(list)
}

fn read(family: Family, add_path: bool, body: &[u8], list: &mut List) -> Result<(), NlriError> {
    let mut cursor = Cursor::new(body);
    let List { prefixes, ids } = list;
    // Typical prefixes take 4 octets (IPv4 /24) or 7 (IPv6 /48): room for that saves growing on the long lists.
    prefixes.reserve(body.len() / 4 + 1);
    while !cursor.is_empty() {
        let left = cursor.remaining();
        let id = if add_path { cursor.u32() } else { Some(0) };
        let (Some(id), Some(bits)) = (id, cursor.u8()) else {
            return Err(NlriError::PathId { left });
        };
        if bits > family.max_bits() {
            return Err(NlriError::Bits { family, found: bits, max: family.max_bits() });
        }
        let needed = usize::from(bits).div_ceil(8);
        let left = cursor.remaining();
        let octets = cursor.take(needed).ok_or(NlriError::Overrun { bits, needed, left })?;
        let address: IpAddr = match family {
            Family::Ipv4Unicast => Ipv4Addr::from(padded::<4>(octets)).into(),
            Family::Ipv6Unicast => Ipv6Addr::from(padded::<16>(octets)).into(),
        };
        // RFC 4271 §4.3: the value of trailing bits is irrelevant; `Prefix::new` clears them.
        if let Ok(prefix) = Prefix::new(address, bits) {
            prefixes.push(prefix);
            if add_path {
                ids.push(id);
            }
        }
    }
    Ok(())
}

fn padded<const N: usize>(octets: &[u8]) -> [u8; N] {
    let mut whole = [0; N];
    for (to, from) in whole.iter_mut().zip(octets) {
        *to = *from;
    }
    whole
}

/// Octets that `prefix` takes.
pub(crate) fn octets(prefix: &Prefix) -> usize {
    1 + usize::from(prefix.bits()).div_ceil(8)
}

/// Writes one prefix.
pub(crate) fn emit(prefix: &Prefix, out: &mut impl BufMut) {
    let used = usize::from(prefix.bits()).div_ceil(8);
    out.put_u8(prefix.bits());
    match prefix.address() {
        IpAddr::V4(address) => out.put_slice(&address.octets()[..used]),
        IpAddr::V6(address) => out.put_slice(&address.octets()[..used]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(family: Family, body: &[u8]) -> Result<Vec<Prefix>, NlriError> {
        parse(family, false, body).map(|list| list.prefixes)
    }

    #[test]
    fn trailing_bits_are_irrelevant() {
        let prefixes = read(Family::Ipv4Unicast, &[12, 172, 31, 0]).unwrap();
        assert_eq!(prefixes, ["172.16.0.0/12".parse().unwrap(), "0.0.0.0/0".parse().unwrap()]);
    }

    #[test]
    fn lengths_and_overruns_are_refused() {
        assert_eq!(
            read(Family::Ipv4Unicast, &[33, 1, 2, 3, 4, 5]),
            Err(NlriError::Bits { family: Family::Ipv4Unicast, found: 33, max: 32 })
        );
        assert_eq!(read(Family::Ipv6Unicast, &[64, 1]), Err(NlriError::Overrun { bits: 64, needed: 8, left: 1 }));
        assert!(read(Family::Ipv6Unicast, &[129]).is_err());
    }

    #[test]
    fn identifiers_stand_before_each_prefix_or_before_none() {
        let body = [0, 0, 0, 7, 8, 10, 0xff, 0, 0, 1, 0];
        let list = parse(Family::Ipv4Unicast, true, &body).unwrap();
        assert_eq!((list.prefixes.len(), list.ids.as_slice()), (2, &[7, 0xff00_0001][..]));
        assert_eq!(parse(Family::Ipv4Unicast, true, &body[..8]), Err(NlriError::PathId { left: 2 }));
        let mut both = parse(Family::Ipv4Unicast, false, &[8, 11]).unwrap();
        both.append(list.clone());
        assert_eq!(both.ids, [0, 7, 0xff00_0001]);
        let mut both = list;
        both.append(parse(Family::Ipv4Unicast, false, &[8, 11]).unwrap());
        assert_eq!((both.prefixes.len(), both.ids.as_slice()), (3, &[7, 0xff00_0001, 0][..]));
    }

    proptest! {
        #[test]
        fn emitted_prefixes_parse_back(address in any::<IpAddr>(), bits in 0u8..=128) {
            let bits = if address.is_ipv4() { bits.min(32) } else { bits };
            let prefix = Prefix::new(address, bits).unwrap();
            let mut out = Vec::new();
            emit(&prefix, &mut out);
            prop_assert_eq!(out.len(), octets(&prefix));
            prop_assert_eq!(read(prefix.family(), &out), Ok(vec![prefix]));
        }
    }
}
