//! Filters that a speaker asks its peer to apply for it, by address prefix, in ROUTE-REFRESH (RFC 5291 §4, RFC 5292 §2).

use bytes::{BufMut, Bytes, BytesMut};
use net_types::{Family, Prefix};

use crate::{OutboundFilters, RouteRefresh, cursor::Cursor, header};

/// One line of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixFilter {
    /// Its place.
    pub sequence: u32,
    /// Routes that it matches may be sent.
    pub permit: bool,
    /// Shortest length matched; 0 where nothing is said.
    pub min: u8,
    /// Longest length matched; 0 where nothing is said. Without either only the prefix itself is.
    pub max: u8,
    /// What it covers.
    pub prefix: Prefix,
}

/// What is to be done to the filter that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterChange {
    /// Put in a line.
    Add(PrefixFilter),
    /// Take out a line.
    Remove(PrefixFilter),
    /// Begin anew.
    RemoveAll,
}

/// The filters of one ROUTE-REFRESH.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PrefixFilters {
    /// Routes are to be told again at once; with DEFER a message that follows says when.
    pub immediate: bool,
    /// In order.
    pub changes: Vec<FilterChange>,
    /// Something could not be read. What stood before holds; a filter that is half known would keep back routes that are
    /// wanted, so there is none (the changes end in [`FilterChange::RemoveAll`]).
    pub malformed: bool,
}

const IMMEDIATE: u8 = 1;
const DEFER: u8 = 2;

const ADD: u8 = 0;
const REMOVE: u8 = 1;
const REMOVE_ALL: u8 = 2;
/// Action in the two highest bits, then whether it denies.
const ACTION_SHIFT: u8 = 6;
const DENY: u8 = 1 << 5;

impl PrefixFilters {
    /// Reads what follows the family in a request; `family` says how long addresses are.
    pub(crate) fn parse(body: &[u8], family: Family) -> Option<Self> {
        let (when, groups) = body.split_first()?;
        let mut filters = Self { immediate: *when == IMMEDIATE, ..Self::default() };
        filters.malformed = !matches!(*when, IMMEDIATE | DEFER) || filters.groups(groups, family).is_none();
        if filters.malformed {
            filters.immediate = true;
            filters.changes.push(FilterChange::RemoveAll);
        }
        Some(filters)
    }

    fn groups(&mut self, octets: &[u8], family: Family) -> Option<()> {
        let mut cursor = Cursor::new(octets);
        while !cursor.is_empty() {
            let [kind, high, low] = cursor.array()?;
            let entries = cursor.take(u16::from_be_bytes([high, low]).into())?;
            // RFC 5291 §5: of other types nobody was told that we take them.
            if kind == OutboundFilters::ADDRESS_PREFIX {
                let mut entries = Cursor::new(entries);
                while !entries.is_empty() {
                    self.changes.push(change(&mut entries, family)?);
                }
            }
        }
        Some(())
    }

    /// Writes what follows the family.
    pub(crate) fn emit(&self, out: &mut BytesMut) {
        out.put_u8(if self.immediate { IMMEDIATE } else { DEFER });
        if self.changes.is_empty() {
            return;
        }
        out.put_u8(OutboundFilters::ADDRESS_PREFIX);
        let length_at = out.len();
        out.put_u16(0);
        self.changes.iter().for_each(|change| emit_change(change, out));
        let octets = out.len() - length_at - 2;
        // Messages are at most 65,535 octets long, and whoever makes one keeps to that.
        let octets = u16::try_from(octets).unwrap_or(u16::MAX);
        out[length_at..length_at + 2].copy_from_slice(&octets.to_be_bytes());
    }

    /// The messages that make `lines` the filter of a peer that has none, or `has_one`, each `max_octets` long at most; the
    /// last one asks for the routes. FRR passes over what follows "remove all" in a message, so that stands alone.
    pub fn messages(family: Family, lines: &[PrefixFilter], has_one: bool, max_octets: usize) -> Vec<Bytes> {
        // Header, family, when, type and length; an entry takes 23 octets at most.
        let room = max_octets.saturating_sub(header::HEADER_OCTETS + 8) / 23;
        let anew = has_one.then(|| vec![FilterChange::RemoveAll]);
        let parts = lines.chunks(room.max(1)).map(|part| part.iter().copied().map(FilterChange::Add).collect());
        let mut parts: Vec<Vec<FilterChange>> = anew.into_iter().chain(parts).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let last = parts.len() - 1;
        let message = |(at, changes): (usize, Vec<FilterChange>)| {
            let filters = Self { immediate: at == last, changes, malformed: false };
            RouteRefresh { filters: Some(filters), ..RouteRefresh::request(family) }.to_bytes()
        };
        parts.into_iter().enumerate().map(message).collect()
    }
}

fn change(cursor: &mut Cursor<'_>, family: Family) -> Option<FilterChange> {
    let common = cursor.u8()?;
    let action = common >> ACTION_SHIFT;
    if action == REMOVE_ALL {
        return Some(FilterChange::RemoveAll);
    }
    let sequence = u32::from_be_bytes(cursor.array()?);
    let [min, max, bits] = cursor.array()?;
    let octets = cursor.take(usize::from(bits).div_ceil(8))?;
    // RFC 5292 §2: lengths grow from the prefix's own to the shortest to the longest.
    let longest = family.max_bits();
    if bits > longest || min > longest || max > longest || min != 0 && min < bits || max != 0 && max < min.max(bits) {
        return None;
    }
    let address = match family.max_bits() {
        32 => {
            let mut room = [0; 4];
            room.get_mut(..octets.len())?.copy_from_slice(octets);
            std::net::IpAddr::from(room)
        }
        _ => {
            let mut room = [0; 16];
            room.get_mut(..octets.len())?.copy_from_slice(octets);
            std::net::IpAddr::from(room)
        }
    };
    let prefix = Prefix::new(address, bits).ok()?;
    let filter = PrefixFilter { sequence, permit: common & DENY == 0, min, max, prefix };
    match action {
        ADD => Some(FilterChange::Add(filter)),
        REMOVE => Some(FilterChange::Remove(filter)),
        _ => None,
    }
}

fn emit_change(change: &FilterChange, out: &mut BytesMut) {
    let (action, filter) = match change {
        FilterChange::RemoveAll => return out.put_u8(REMOVE_ALL << ACTION_SHIFT),
        FilterChange::Add(filter) => (ADD, filter),
        FilterChange::Remove(filter) => (REMOVE, filter),
    };
    out.put_u8(action << ACTION_SHIFT | if filter.permit { 0 } else { DENY });
    out.put_u32(filter.sequence);
    out.put_slice(&[filter.min, filter.max, filter.prefix.bits()]);
    let octets = usize::from(filter.prefix.bits()).div_ceil(8);
    match filter.prefix.address() {
        std::net::IpAddr::V4(address) => out.put_slice(&address.octets()[..octets]),
        std::net::IpAddr::V6(address) => out.put_slice(&address.octets()[..octets]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Message, Negotiated, PeerKind};

    fn read(message: &[u8]) -> RouteRefresh {
        let parsed = Message::parse(message, &Negotiated::base(PeerKind::External)).unwrap();
        let Message::RouteRefresh(refresh) = parsed.message else { panic!("{:?}", parsed.message) };
        refresh
    }

    /// `ip prefix-list IN seq 5 permit 10.0.0.0/8 le 24` and `seq 10 deny 0.0.0.0/0 le 32`, as FRR 8.4.4 sends them.
    #[test]
    fn frrs_filter_is_read() {
        let body = [
            1, 64, 0, 17, // immediate; by address prefix, 17 octets
            0x00, 0, 0, 0, 5, 0, 24, 8, 10, // add, permit
            0x20, 0, 0, 0, 10, 0, 32, 0, // add, deny
        ];
        let filters = PrefixFilters::parse(&body, Family::Ipv4Unicast).unwrap();
        let line = |sequence, permit, max, prefix: &str| {
            FilterChange::Add(PrefixFilter { sequence, permit, min: 0, max, prefix: prefix.parse().unwrap() })
        };
        let changes = vec![line(5, true, 24, "10.0.0.0/8"), line(10, false, 32, "0.0.0.0/0")];
        assert_eq!(filters, PrefixFilters { immediate: true, changes, malformed: false });
    }

    #[test]
    fn what_cannot_be_read_leaves_no_filter() {
        for wrong in [
            &[1, 64, 0, 9, 0, 0, 0, 0, 5, 0, 24, 8][..],  // cut short
            &[1, 64, 0, 8, 0, 0, 0, 0, 5, 0, 33, 0],      // longer than an address
            &[1, 64, 0, 9, 0, 0, 0, 0, 5, 4, 0, 8, 10],   // shorter than its own prefix
            &[1, 64, 0, 9, 0, 0, 0, 0, 5, 20, 16, 8, 10], // from 20 to 16
            &[1, 64, 0, 1, 0xc0],                         // no such action
            &[9],                                         // no such time
        ] {
            let filters = PrefixFilters::parse(wrong, Family::Ipv4Unicast).unwrap();
            assert!(filters.malformed && filters.immediate, "{wrong:?}");
            assert_eq!(filters.changes.last(), Some(&FilterChange::RemoveAll), "{wrong:?}");
        }
        let other = PrefixFilters::parse(&[2, 2, 0, 1, 9], Family::Ipv4Unicast).unwrap();
        assert_eq!(other, PrefixFilters::default(), "another type, deferred");
        assert_eq!(PrefixFilters::parse(&[], Family::Ipv4Unicast), None, "a plain request");
    }

    fn any_line(family: Family) -> impl Strategy<Value = PrefixFilter> {
        let bits = family.max_bits();
        let address = any::<[u8; 16]>().prop_map(move |octets| match bits {
            32 => std::net::IpAddr::from(<[u8; 4]>::try_from(&octets[..4]).unwrap()),
            _ => std::net::IpAddr::from(octets),
        });
        (any::<u32>(), any::<bool>(), address, 0..=bits, 0..=bits, 0..=bits).prop_map(
            move |(sequence, permit, address, length, min, max)| {
                let min = if min < length { 0 } else { min };
                let max = if max < min.max(length) { 0 } else { max };
                PrefixFilter { sequence, permit, min, max, prefix: Prefix::new(address, length).unwrap() }
            },
        )
    }

    proptest! {
        #[test]
        fn a_filter_of_any_size_arrives_whole(
            has_one: bool,
            (family, lines) in prop_oneof![Just(Family::Ipv4Unicast), Just(Family::Ipv6Unicast)]
                .prop_flat_map(|family| (Just(family), prop::collection::vec(any_line(family), 0..600)))
        ) {
            let messages = PrefixFilters::messages(family, &lines, has_one, 4096);
            let mut seen = Vec::new();
            for (at, message) in messages.iter().enumerate() {
                prop_assert!(message.len() <= 4096);
                let refresh = read(message);
                prop_assert_eq!(refresh.family(), Some(family));
                let filters = refresh.filters.unwrap();
                prop_assert_eq!((filters.immediate, filters.malformed), (at + 1 == messages.len(), false));
                seen.extend(filters.changes);
            }
            if has_one {
                prop_assert_eq!(seen.remove(0), FilterChange::RemoveAll);
            }
            prop_assert_eq!(seen, lines.into_iter().map(FilterChange::Add).collect::<Vec<_>>());
        }

        #[test]
        fn no_octets_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for family in Family::ALL {
                let _ = PrefixFilters::parse(&body, family);
            }
        }
    }
}
