//! Extended Next Hop Encoding, capability 5: families that may have next hops of another one (RFC 8950 §4).

use bytes::BufMut;
use net_types::{Afi, Family};

use crate::cursor::Cursor;

/// Routes of a family whose next hops may be of `next_hop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtendedNextHop {
    /// The routes' address family.
    pub afi: Afi,
    /// Their subsequent address family, in two octets here.
    pub safi: u16,
    /// The next hops' address family.
    pub next_hop: Afi,
}

impl ExtendedNextHop {
    /// `family` over IPv6.
    pub fn over_ipv6(family: Family) -> Self {
        Self { afi: family.afi(), safi: family.safi().code().into(), next_hop: Afi::Ipv6 }
    }

    pub(super) fn parse(value: &[u8]) -> Option<Vec<Self>> {
        let mut cursor = Cursor::new(value);
        let mut list = Vec::with_capacity(value.len() / 6);
        while !cursor.is_empty() {
            let [a, b, c, d, e, f] = cursor.array()?;
            let pair = |high, low| u16::from_be_bytes([high, low]);
            list.push(Self { afi: pair(a, b).into(), safi: pair(c, d), next_hop: pair(e, f).into() });
        }
        Some(list)
    }

    pub(super) fn emit(self, out: &mut Vec<u8>) {
        out.put_u16(self.afi.code());
        out.put_u16(self.safi);
        out.put_u16(self.next_hop.code());
    }
}
