//! Traffic Selector, payload types 44 and 45 (RFC 7296 §3.13).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bytes::BufMut;
use net_types::Prefix;

use super::{Oversized, PayloadType};
use crate::reader::{Reader, Truncated};

/// Most selectors in one payload: its count is one octet.
pub const MAX_SELECTORS: usize = 255;
const IPV4_RANGE: u8 = 7;
const IPV6_RANGE: u8 = 8;

/// The selectors of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficSelectors {
    /// In the sender's order; the first may describe the packet that triggered the exchange (RFC 7296 §2.9).
    pub selectors: Vec<TrafficSelector>,
}

/// Which packets an SA carries, seen from one side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrafficSelector {
    /// IP protocol; 0 is any.
    pub protocol: u8,
    /// First port, or ICMP type and code, of the range.
    pub start_port: u16,
    /// Last port of the range.
    pub end_port: u16,
    /// The addresses.
    pub range: TsRange,
}

/// An inclusive range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TsRange {
    /// TS_IPV4_ADDR_RANGE.
    V4(Ipv4Addr, Ipv4Addr),
    /// TS_IPV6_ADDR_RANGE.
    V6(Ipv6Addr, Ipv6Addr),
    /// A selector type without a meaning here; never matches (RFC 7296 §2.9: narrowed away).
    Other {
        /// The selector type.
        kind: u8,
        /// What follows the ports.
        body: Vec<u8>,
    },
}

/// A traffic selector payload that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TsError {
    /// A field is missing.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// The count disagrees with the selectors.
    #[error("{said} selectors announced, {found} found")]
    Count {
        /// The count field.
        said: u8,
        /// Selectors found.
        found: usize,
    },
    /// One of its selectors.
    #[error("selector {at}: {reason}")]
    Selector {
        /// Counting from 1.
        at: usize,
        /// What was wrong.
        #[source]
        reason: SelectorError,
    },
}

/// A selector that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A field is missing.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// The length is not the one its type has, or runs past the payload.
    #[error("type {kind} says it is {said} octets long; {left} are left")]
    Length {
        /// The selector type.
        kind: u8,
        /// The length field.
        said: u16,
        /// Octets from its start.
        left: usize,
    },
    /// The range ends before it begins.
    #[error("the address range {0} to {1} is empty")]
    Backwards(IpAddr, IpAddr),
}

impl TrafficSelectors {
    /// Reads the payload's body.
    pub fn parse(body: &[u8]) -> Result<Self, TsError> {
        let mut reader = Reader::new(body);
        let [said, _, _, _] = reader.array()?;
        let mut selectors = Vec::new();
        while !reader.is_empty() {
            if selectors.len() == usize::from(said) {
                return Err(TsError::Count { said, found: selectors.len() + 1 });
            }
            let at = selectors.len() + 1;
            selectors.push(TrafficSelector::parse(&mut reader).map_err(|reason| TsError::Selector { at, reason })?);
        }
        // RFC 7296 §3.13.1 has no use for a payload without selectors; an empty count is a broken one.
        if selectors.len() != usize::from(said) || selectors.is_empty() {
            return Err(TsError::Count { said, found: selectors.len() });
        }
        Ok(Self { selectors })
    }

    /// Writes the payload's body.
    pub fn emit(&self, out: &mut Vec<u8>) -> Result<(), Oversized> {
        let oversized = Oversized { kind: PayloadType::TsInitiator, octets: self.selectors.len() };
        out.put_u8(u8::try_from(self.selectors.len()).map_err(|_| oversized)?);
        out.put_bytes(0, 3);
        self.selectors.iter().try_for_each(|selector| selector.emit(out))
    }

    /// Selectors for any protocol and port of the given prefixes.
    pub fn from_prefixes<'a>(prefixes: impl IntoIterator<Item = &'a Prefix>) -> Self {
        Self { selectors: prefixes.into_iter().map(TrafficSelector::from_prefix).collect() }
    }
}

impl TrafficSelector {
    /// Any protocol and port of a prefix.
    pub fn from_prefix(prefix: &Prefix) -> Self {
        Self { protocol: 0, start_port: 0, end_port: u16::MAX, range: range_of(prefix) }
    }

    fn parse(reader: &mut Reader<'_>) -> Result<Self, SelectorError> {
        let left = reader.len();
        let [kind, protocol, high, low] = reader.array()?;
        let said = u16::from_be_bytes([high, low]);
        let length = SelectorError::Length { kind, said, left };
        let inside = usize::from(said).checked_sub(4).and_then(|n| reader.take(n).ok()).ok_or(length.clone())?;
        let mut inside = Reader::new(inside);
        let (start_port, end_port) = (inside.u16()?, inside.u16()?);
        let range = match kind {
            IPV4_RANGE => {
                let (start, end) = (Ipv4Addr::from(inside.array::<4>()?), Ipv4Addr::from(inside.array::<4>()?));
                if start > end {
                    return Err(SelectorError::Backwards(start.into(), end.into()));
                }
                TsRange::V4(start, end)
            }
            IPV6_RANGE => {
                let (start, end) = (Ipv6Addr::from(inside.array::<16>()?), Ipv6Addr::from(inside.array::<16>()?));
                if start > end {
                    return Err(SelectorError::Backwards(start.into(), end.into()));
                }
                TsRange::V6(start, end)
            }
            kind => TsRange::Other { kind, body: inside.rest().to_vec() },
        };
        // Ports are not ordered: start 65535 with end 0 means OPAQUE (RFC 7296 §3.13.1).
        if inside.is_empty() { Ok(Self { protocol, start_port, end_port, range }) } else { Err(length) }
    }

    fn emit(&self, out: &mut Vec<u8>) -> Result<(), Oversized> {
        let (kind, len) = match &self.range {
            TsRange::V4(..) => (IPV4_RANGE, 8),
            TsRange::V6(..) => (IPV6_RANGE, 32),
            TsRange::Other { kind, body } => (*kind, body.len()),
        };
        let octets = len + 8;
        out.put_u8(kind);
        out.put_u8(self.protocol);
        out.put_u16(u16::try_from(octets).map_err(|_| Oversized { kind: PayloadType::TsInitiator, octets })?);
        out.put_u16(self.start_port);
        out.put_u16(self.end_port);
        match &self.range {
            TsRange::V4(start, end) => {
                out.put_slice(&start.octets());
                out.put_slice(&end.octets());
            }
            TsRange::V6(start, end) => {
                out.put_slice(&start.octets());
                out.put_slice(&end.octets());
            }
            TsRange::Other { body, .. } => out.put_slice(body),
        }
        Ok(())
    }

    /// Whether every protocol and port is covered.
    pub fn is_any_port(&self) -> bool {
        self.protocol == 0 && self.start_port == 0 && self.end_port == u16::MAX
    }
}

impl fmt::Display for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.range.fmt(f)?;
        if self.is_any_port() {
            return Ok(());
        }
        write!(f, "[{}", self.protocol)?;
        match (self.start_port, self.end_port) {
            (0, u16::MAX) => f.write_str("]"),
            (start, end) if start == end => write!(f, "/{start}]"),
            (start, end) => write!(f, "/{start}-{end}]"),
        }
    }
}

impl TsRange {
    /// The addresses both ranges have; `None` if there are none or the families differ.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::V4(a, b), Self::V4(c, d)) if a.max(c) <= b.min(d) => Some(Self::V4(*a.max(c), *b.min(d))),
            (Self::V6(a, b), Self::V6(c, d)) if a.max(c) <= b.min(d) => Some(Self::V6(*a.max(c), *b.min(d))),
            _ => None,
        }
    }

    /// Whether an address lies within.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4(start, end), IpAddr::V4(address)) => (*start..=*end).contains(&address),
            (Self::V6(start, end), IpAddr::V6(address)) => (*start..=*end).contains(&address),
            _ => false,
        }
    }

    /// The fewest prefixes that cover exactly this range, in order: at most 62 for IPv4 and 254 for IPv6.
    pub fn prefixes(&self) -> Vec<Prefix> {
        prefixes_of(self)
    }
}

impl fmt::Display for TsRange {
    /// As a prefix where the range is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.prefixes().as_slice(), self) {
            ([prefix], _) => prefix.fmt(f),
            (_, Self::V4(start, end)) => write!(f, "{start}-{end}"),
            (_, Self::V6(start, end)) => write!(f, "{start}-{end}"),
            (_, Self::Other { kind, .. }) => write!(f, "selector-type{kind}"),
        }
    }
}

/// The range a prefix spans.
pub fn range_of(prefix: &Prefix) -> TsRange {
    let host_bits = |width: u8| u32::from(width.saturating_sub(prefix.bits()));
    match prefix.address() {
        IpAddr::V4(start) => {
            let ones = u32::MAX.checked_shr(32 - host_bits(32)).unwrap_or(0);
            TsRange::V4(start, Ipv4Addr::from(u32::from(start) | ones))
        }
        IpAddr::V6(start) => {
            let ones = u128::MAX.checked_shr(128 - host_bits(128)).unwrap_or(0);
            TsRange::V6(start, Ipv6Addr::from(u128::from(start) | ones))
        }
    }
}

/// The fewest prefixes that cover exactly a range.
pub fn prefixes_of(range: &TsRange) -> Vec<Prefix> {
    match range {
        TsRange::V4(start, end) => {
            let blocks = blocks(u128::from(u32::from(*start)), u128::from(u32::from(*end)), 32);
            let narrow = |first: u128| u32::try_from(first).map(|raw| IpAddr::V4(Ipv4Addr::from(raw))).ok();
            blocks.into_iter().filter_map(|(first, bits)| Prefix::new(narrow(first)?, bits).ok()).collect()
        }
        TsRange::V6(start, end) => blocks(u128::from(*start), u128::from(*end), 128)
            .into_iter()
            .filter_map(|(first, bits)| Prefix::new(IpAddr::V6(Ipv6Addr::from(first)), bits).ok())
            .collect(),
        TsRange::Other { .. } => Vec::new(),
    }
}

/// Splits an inclusive range of `width`-bit numbers into aligned blocks: (first number, prefix length).
fn blocks(start: u128, end: u128, width: u8) -> Vec<(u128, u8)> {
    let mut found = Vec::new();
    let mut first = start;
    while first <= end {
        // The largest block that starts here (alignment) and ends no later than the range.
        let mut host_bits = u8::try_from(first.trailing_zeros()).unwrap_or(width).min(width);
        let last_of = |host_bits: u8| first | u128::MAX.checked_shr(128 - u32::from(host_bits)).unwrap_or(0);
        while last_of(host_bits) > end {
            host_bits -= 1; // ends at 0 at the latest, where the block is `first` alone
        }
        found.push((first, width - host_bits));
        match last_of(host_bits).checked_add(1) {
            Some(next) => first = next,
            None => break, // the very last address
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_become_ranges_and_back() {
        for text in ["0.0.0.0/0", "10.1.0.0/16", "192.0.2.7/32", "::/0", "2001:db8::/32", "2001:db8::1/128"] {
            let prefix = prefix(text);
            assert_eq!(range_of(&prefix).prefixes(), [prefix], "{text}");
            assert_eq!(range_of(&prefix).to_string(), text);
        }
    }

    #[test]
    fn ragged_ranges_take_the_fewest_prefixes() {
        let range = TsRange::V4(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 6));
        let expected = ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"].map(prefix);
        assert_eq!(range.prefixes(), expected);
        let worst = TsRange::V4(Ipv4Addr::new(0, 0, 0, 1), Ipv4Addr::new(255, 255, 255, 254));
        assert_eq!(worst.prefixes().len(), 62);
        let worst = TsRange::V6(Ipv6Addr::from(1u128), Ipv6Addr::from(u128::MAX - 1));
        assert_eq!(worst.prefixes().len(), 254);
    }

    #[test]
    fn selectors_must_fit_their_type_and_count() {
        let ts = TrafficSelectors::from_prefixes(&[prefix("10.0.0.0/8"), prefix("2001:db8::/32")]);
        let mut wire = Vec::new();
        ts.emit(&mut wire).unwrap();
        assert_eq!(TrafficSelectors::parse(&wire), Ok(ts));
        let with = |at: usize, value: u8| {
            let mut bad = wire.clone();
            bad[at] = value;
            TrafficSelectors::parse(&bad).unwrap_err()
        };
        assert_eq!(with(0, 1), TsError::Count { said: 1, found: 2 });
        assert_eq!(with(0, 3), TsError::Count { said: 3, found: 2 });
        assert!(matches!(with(7, 17), TsError::Selector { at: 1, reason: SelectorError::Length { .. } }));
        assert!(matches!(with(7, 15), TsError::Selector { at: 1, reason: SelectorError::Truncated(_) }));
        assert!(matches!(with(12, 11), TsError::Selector { at: 1, reason: SelectorError::Backwards(..) }));
        assert_eq!(TrafficSelectors::parse(&[0; 4]), Err(TsError::Count { said: 0, found: 0 }));
    }

    #[test]
    fn ranges_intersect_within_a_family() {
        let ten = range_of(&prefix("10.0.0.0/8"));
        assert_eq!(range_of(&prefix("0.0.0.0/0")).intersect(&ten), Some(ten.clone()));
        assert_eq!(ten.intersect(&range_of(&prefix("::/0"))), None);
        assert_eq!(ten.intersect(&range_of(&prefix("11.0.0.0/8"))), None);
        assert!(ten.contains("10.255.255.255".parse().unwrap()));
        assert!(!ten.contains("11.0.0.0".parse().unwrap()));
    }
}
