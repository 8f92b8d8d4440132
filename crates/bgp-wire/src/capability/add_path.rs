//! ADD-PATH, capability 69: several paths for one prefix, told apart by identifiers (RFC 7911 §4).

use bytes::BufMut;
use net_types::{Afi, Family, Safi};

use crate::cursor::Cursor;

/// What the speaker does with several paths of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddPath {
    /// Address family.
    pub afi: Afi,
    /// Subsequent address family.
    pub safi: Safi,
    /// Send/Receive, as on the wire: 1 to receive, 2 to send, 3 for both. Others mean nothing (RFC 7911 §4).
    pub direction: u8,
}

impl AddPath {
    const RECEIVE: u8 = 1;
    const SEND: u8 = 2;

    /// For `family`; `None` when the speaker does neither.
    pub fn new(family: Family, receive: bool, send: bool) -> Option<Self> {
        let direction = if receive { Self::RECEIVE } else { 0 } | if send { Self::SEND } else { 0 };
        (direction != 0).then_some(Self { afi: family.afi(), safi: family.safi(), direction })
    }

    /// The family, if it is one that we know and the rest makes sense.
    fn family(self) -> Option<Family> {
        Family::from_codes(self.afi, self.safi).filter(|_| matches!(self.direction, 1..=3))
    }

    /// The family, if the speaker takes several paths of it.
    pub fn receives(self) -> Option<Family> {
        self.family().filter(|_| self.direction & Self::RECEIVE != 0)
    }

    /// The family, if the speaker sends several paths of it.
    pub fn sends(self) -> Option<Family> {
        self.family().filter(|_| self.direction & Self::SEND != 0)
    }

    pub(super) fn parse(value: &[u8]) -> Option<Vec<Self>> {
        let mut cursor = Cursor::new(value);
        let mut list = Vec::with_capacity(value.len() / 4);
        while !cursor.is_empty() {
            let [high, low, safi, direction] = cursor.array()?;
            list.push(Self { afi: u16::from_be_bytes([high, low]).into(), safi: safi.into(), direction });
        }
        Some(list)
    }

    pub(super) fn emit(self, out: &mut Vec<u8>) {
        out.put_u16(self.afi.code());
        out.put_u8(self.safi.code());
        out.put_u8(self.direction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_that_do_not_exist_mean_nothing() {
        let one = |direction| AddPath { afi: Afi::Ipv4, safi: Safi::Unicast, direction };
        let known = |direction| (one(direction).receives().is_some(), one(direction).sends().is_some());
        assert_eq!([0, 1, 2, 3, 4, 7].map(known), [0, 1, 2, 3, 0, 0].map(|bits| (bits & 1 != 0, bits & 2 != 0)));
        assert_eq!(AddPath::new(Family::Ipv4Unicast, true, true), Some(one(3)));
        assert_eq!(AddPath::new(Family::Ipv4Unicast, false, false), None);
    }
}
