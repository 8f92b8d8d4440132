//! Outbound route filtering, capability 3: which filters a speaker sends, and which it takes (RFC 5291 §5).

use bytes::BufMut;
use net_types::{Afi, Family, Safi};

use crate::cursor::Cursor;

/// What the speaker does with filters of a family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutboundFilters {
    /// Address family.
    pub afi: Afi,
    /// Subsequent address family.
    pub safi: Safi,
    /// Types of filters, each with what the speaker does, as on the wire: 1 to receive, 2 to send, 3 for both.
    pub types: Vec<(u8, u8)>,
}

impl OutboundFilters {
    /// Filters by address prefix (RFC 5292).
    pub const ADDRESS_PREFIX: u8 = 64;
    const RECEIVE: u8 = 1;
    const SEND: u8 = 2;

    /// Filters by address prefix in `family`; `None` when the speaker does neither.
    pub fn by_prefix(family: Family, receive: bool, send: bool) -> Option<Self> {
        let direction = if receive { Self::RECEIVE } else { 0 } | if send { Self::SEND } else { 0 };
        let types = vec![(Self::ADDRESS_PREFIX, direction)];
        (direction != 0).then_some(Self { afi: family.afi(), safi: family.safi(), types })
    }

    /// The family, if the speaker does `what` with filters by address prefix.
    fn does(&self, what: u8) -> Option<Family> {
        let does = |(kind, direction): &(u8, u8)| {
            *kind == Self::ADDRESS_PREFIX && matches!(direction, 1..=3) && direction & what != 0
        };
        Family::from_codes(self.afi, self.safi).filter(|_| self.types.iter().any(does))
    }

    /// The family, if the speaker takes filters by address prefix.
    pub fn receives(&self) -> Option<Family> {
        self.does(Self::RECEIVE)
    }

    /// The family, if the speaker sends filters by address prefix.
    pub fn sends(&self) -> Option<Family> {
        self.does(Self::SEND)
    }

    pub(super) fn parse(value: &[u8]) -> Option<Vec<Self>> {
        let mut cursor = Cursor::new(value);
        let mut list = Vec::new();
        while !cursor.is_empty() {
            let [high, low, _, safi, count] = cursor.array()?;
            let types = cursor.take(usize::from(count) * 2)?;
            let types = types.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            list.push(Self { afi: u16::from_be_bytes([high, low]).into(), safi: safi.into(), types });
        }
        Some(list)
    }

    /// No more types are written than their count can say.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let count = u8::try_from(self.types.len()).unwrap_or(u8::MAX);
        out.put_u16(self.afi.code());
        out.put_u8(0);
        out.put_u8(self.safi.code());
        out.put_u8(count);
        for (kind, direction) in self.types.iter().take(count.into()) {
            out.put_slice(&[*kind, *direction]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_filters_by_prefix_that_go_some_way_count() {
        let one =
            |kind, direction| OutboundFilters { afi: Afi::Ipv4, safi: Safi::Unicast, types: vec![(kind, direction)] };
        let known = |one: OutboundFilters| (one.receives().is_some(), one.sends().is_some());
        let all = [0, 1, 2, 3, 4].map(|direction| known(one(64, direction)));
        assert_eq!(all, [(false, false), (true, false), (false, true), (true, true), (false, false)]);
        assert_eq!(known(one(128, 3)), (false, false));
        assert_eq!(OutboundFilters::by_prefix(Family::Ipv4Unicast, true, true), Some(one(64, 3)));
        assert_eq!(OutboundFilters::by_prefix(Family::Ipv4Unicast, false, false), None);
    }

    /// As FRR 8.4.4 sends it for `capability orf prefix-list both`.
    #[test]
    fn frrs_capability_is_read() {
        let value = [0, 1, 0, 1, 1, 64, 3];
        assert_eq!(
            OutboundFilters::parse(&value),
            OutboundFilters::by_prefix(Family::Ipv4Unicast, true, true).map(|one| vec![one])
        );
        assert_eq!(OutboundFilters::parse(&value[..6]), None, "a count that is not there");
    }
}
