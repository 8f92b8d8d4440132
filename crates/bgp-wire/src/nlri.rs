//! Prefixes on the wire: a length in bits, then as many octets as it needs (RFC 4271 §4.3, RFC 4760 §5). Those of VPNs have
//! labels and a route distinguisher in front, which count as part of the prefix (RFC 4364 §4.3.4, RFC 8277 §2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BufMut;
use net_types::{Family, Prefix, Rd};

use crate::{
    cursor::Cursor,
    label::{self, Label, Labels},
};

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
    /// The length does not hold labels and a route distinguisher, or the labels do not end within it.
    #[error("{bits} bits do not hold labels, a route distinguisher and a prefix of {family} (RFC 4364 §4.3.4)")]
    Labels {
        /// The family whose list it is.
        family: Family,
        /// The length found.
        bits: u8,
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
    /// Of prefixes of VPNs that are announced, one for each; otherwise empty.
    pub(crate) labels: Vec<Labels>,
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
    /// The labels of a prefix of a VPN.
    fn labels(&self) -> &[Label] {
        &[]
    }
}

/// A path for a prefix of a VPN.
#[derive(Clone, Debug)]
pub struct LabelledPath {
    /// The prefix.
    pub prefix: Prefix,
    /// The path's identifier, 0 where it has none.
    pub id: u32,
    /// What packets are to carry; with none, they need no label.
    pub labels: Labels,
}

impl Nlri for LabelledPath {
    fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    fn path_id(&self) -> u32 {
        self.id
    }

    fn labels(&self) -> &[Label] {
        &self.labels
    }
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
    if family.is_vpn() {
        read_vpn(family, add_path, true, body, &mut list)?;
    } else if !body.is_empty() {
        read(family, add_path, body, &mut list)?;
    }
    Ok(list)
}

/// Reads every prefix of `body`, which withdraws them.
pub(crate) fn parse_withdrawn(family: Family, add_path: bool, body: &[u8]) -> Result<List, NlriError> {
    if !family.is_vpn() {
        return parse(family, add_path, body);
    }
    let mut list = List::default();
    read_vpn(family, add_path, false, body, &mut list)?;
    Ok(list)
}

/// A prefix takes at least twelve octets, so there are far fewer of these than of others.
fn read_vpn(family: Family, add_path: bool, labelled: bool, body: &[u8], list: &mut List) -> Result<(), NlriError> {
    let mut cursor = Cursor::new(body);
    while !cursor.is_empty() {
        let left = cursor.remaining();
        let id = if add_path { cursor.u32() } else { Some(0) };
        let (Some(id), Some(bits)) = (id, cursor.u8()) else {
            return Err(NlriError::PathId { left });
        };
        let needed = usize::from(bits).div_ceil(8);
        let left = cursor.remaining();
        let mut inner = Cursor::new(cursor.take(needed).ok_or(NlriError::Overrun { bits, needed, left })?);
        let short = NlriError::Labels { family, bits };
        let labels = match labelled {
            true => label::parse(&mut inner),
            false => label::skip_withdrawn(&mut inner).map(|()| Labels::new()),
        };
        let (Some(labels), Some(rd)) = (labels, inner.array().map(Rd::from_octets)) else { return Err(short) };
        let taken = (needed - inner.remaining()) * 8;
        let Some(found) = u8::try_from(taken).ok().and_then(|taken| bits.checked_sub(taken)) else { return Err(short) };
        let max = family.max_bits();
        if found > max {
            return Err(NlriError::Bits { family, found, max });
        }
        let address: IpAddr = match family.unicast() {
            Family::Ipv6Unicast => Ipv6Addr::from(padded::<16>(inner.rest())).into(),
            _ => Ipv4Addr::from(padded::<4>(inner.rest())).into(),
        };
        if let Ok(prefix) = Prefix::new(address, found) {
            list.prefixes.push(prefix.in_vpn(rd));
            if add_path {
                list.ids.push(id);
            }
            if labelled {
                list.labels.push(labels);
            }
        }
    }
    Ok(())
}

fn read(family: Family, add_path: bool, body: &[u8], list: &mut List) -> Result<(), NlriError> {
    let mut cursor = Cursor::new(body);
    let List { prefixes, ids, .. } = list;
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
            Family::Ipv6Unicast | Family::Ipv6Vpn => Ipv6Addr::from(padded::<16>(octets)).into(),
            Family::Ipv4Unicast | Family::Ipv4Vpn => Ipv4Addr::from(padded::<4>(octets)).into(),
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

/// Whether prefixes are written to be announced or to be withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Announced,
    Withdrawn,
}

/// Octets of a prefix's length and of what is longest behind it: labels, a distinguisher and an address.
pub(crate) fn longest(family: Family) -> usize {
    if family.is_vpn() { 1 + usize::from(u8::MAX).div_ceil(8) } else { 17 }
}

/// Octets that stand between the length and the prefix of a VPN.
fn before(nlri: &impl Nlri, way: Way) -> usize {
    let labels = match way {
        _ if nlri.prefix().rd().is_none() => return 0,
        Way::Announced => label::octets(nlri.labels()),
        Way::Withdrawn => label::OCTETS,
    };
    labels + size_of::<Rd>()
}

/// Octets that it takes, without its path identifier.
pub(crate) fn octets(nlri: &impl Nlri, way: Way) -> usize {
    1 + before(nlri, way) + usize::from(nlri.prefix().bits()).div_ceil(8)
}

/// Whether the length of it can be written: it has one octet, which is used up by two labels in front of an IPv6 host.
pub(crate) fn fits(nlri: &impl Nlri, way: Way) -> bool {
    before(nlri, way) * 8 + usize::from(nlri.prefix().bits()) <= usize::from(u8::MAX)
}

/// Writes one prefix.
pub(crate) fn emit(nlri: &impl Nlri, way: Way, out: &mut impl BufMut) {
    let prefix = nlri.prefix();
    let used = usize::from(prefix.bits()).div_ceil(8);
    out.put_u8(prefix.bits() + (before(nlri, way) * 8) as u8); // at most 255: see `fits`
    if let Some(rd) = prefix.rd() {
        match way {
            Way::Announced => label::emit(nlri.labels(), out),
            Way::Withdrawn => label::emit_withdrawn(out),
        }
        out.put_slice(&rd.octets());
    }
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
    fn a_prefix_of_a_vpn_has_labels_a_distinguisher_and_the_rest() {
        let body = [112, 0, 1, 1, 0, 0, 0xfd, 0xe8, 0, 0, 0, 1, 10, 1, 0];
        let list = parse(Family::Ipv4Vpn, false, &body).unwrap();
        assert_eq!(list.prefixes[0].to_string(), "65000:1:10.1.0.0/24");
        assert_eq!(list.labels[0].as_slice(), [Label::FIRST]);
        let refused = |bits: u8| {
            let mut body = body;
            body[0] = bits;
            parse(Family::Ipv4Vpn, false, &body[..1 + usize::from(bits).div_ceil(8).min(14)])
        };
        assert!(matches!(refused(87), Err(NlriError::Labels { bits: 87, .. })), "no room for the distinguisher");
        assert!(matches!(refused(121), Err(NlriError::Overrun { .. })));
        let mut long = body.to_vec();
        long[0] = 121;
        long.extend([0, 0]);
        assert_eq!(
            parse(Family::Ipv4Vpn, false, &long),
            Err(NlriError::Bits { family: Family::Ipv4Vpn, found: 33, max: 32 })
        );
        let endless = [48, 0, 1, 0, 0, 1, 0];
        assert!(matches!(parse(Family::Ipv4Vpn, false, &endless), Err(NlriError::Labels { .. })));
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
            emit(&prefix, Way::Announced, &mut out);
            prop_assert_eq!(out.len(), octets(&prefix, Way::Announced));
            prop_assert_eq!(read(prefix.family(), &out), Ok(vec![prefix]));
        }

        #[test]
        fn emitted_prefixes_of_vpns_parse_back(
            address in any::<IpAddr>(), bits in 0u8..=128, rd in any::<[u8; 8]>(),
            labels in proptest::collection::vec(0u32..1 << 20, 0..3), id in any::<u32>(), add_path: bool,
        ) {
            let bits = if address.is_ipv4() { bits.min(32) } else { bits };
            let prefix = Prefix::new(address, bits).unwrap().in_vpn(Rd::from_octets(rd));
            let labels: Labels = labels.into_iter().map(|label| Label::try_from(label).unwrap()).collect();
            let nlri = LabelledPath { prefix, id, labels: labels.clone() };
            if !fits(&nlri, Way::Announced) {
                return Ok(());
            }
            for way in [Way::Announced, Way::Withdrawn] {
                let mut out = Vec::new();
                if add_path {
                    out.put_u32(id);
                }
                emit(&nlri, way, &mut out);
                prop_assert_eq!(out.len(), octets(&nlri, way) + if add_path { 4 } else { 0 });
                prop_assert!(octets(&nlri, way) <= longest(prefix.family()));
                let read = if way == Way::Announced { parse } else { parse_withdrawn };
                let list = read(prefix.family(), add_path, &out).unwrap();
                prop_assert_eq!(list.prefixes, [prefix]);
                prop_assert_eq!(list.ids.as_slice(), if add_path { &[id][..] } else { &[] });
                if way == Way::Announced {
                    let wanted = if labels.is_empty() { Labels::from_elem(Label::IMPLICIT_NULL, 1) } else { labels.clone() };
                    prop_assert_eq!(list.labels, [wanted]);
                }
            }
        }

        #[test]
        fn any_octets_are_survived(body in proptest::collection::vec(any::<u8>(), 0..80), add_path: bool) {
            for family in Family::ALL {
                for read in [parse, parse_withdrawn] {
                    if let Ok(list) = read(family, add_path, &body) {
                        prop_assert!(list.prefixes.iter().all(|prefix| prefix.family() == family));
                        prop_assert!(list.labels.is_empty() || list.labels.len() == list.prefixes.len());
                    }
                }
            }
        }
    }
}
