//! Statistics (RFC 7854 §4.8, RFC 8671 §6.2).

use bytes::BufMut;
use net_types::Family;

/// One statistic of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    /// Type 0: prefixes that inbound policy refused.
    RejectedByPolicy(u32),
    /// Type 7: routes in the Adj-RIB-In.
    AdjRibIn(u64),
    /// Type 8: routes in the Loc-RIB.
    LocRib(u64),
    /// Type 9: the same as 7, of one family.
    FamilyAdjRibIn(Family, u64),
    /// Type 10: the same as 8, of one family.
    FamilyLocRib(Family, u64),
    /// Type 15: routes in the Adj-RIB-Out after policy (RFC 8671).
    AdjRibOut(u64),
    /// Type 17: the same of one family.
    FamilyAdjRibOut(Family, u64),
    /// One that IANA has given out and that is not known here.
    Other(u16),
}

impl Stat {
    pub(crate) fn emit(&self, out: &mut impl BufMut) {
        let gauge = |out: &mut dyn BufMut, code: u16, value: u64| {
            out.put_u16(code);
            out.put_u16(8);
            out.put_u64(value);
        };
        let of_family = |out: &mut dyn BufMut, code: u16, family: Family, value: u64| {
            out.put_u16(code);
            out.put_u16(11);
            out.put_u16(family.afi().code());
            out.put_u8(family.safi().code());
            out.put_u64(value);
        };
        match *self {
            Self::RejectedByPolicy(count) => {
                out.put_u16(0);
                out.put_u16(4);
                out.put_u32(count);
            }
            Self::AdjRibIn(count) => gauge(out, 7, count),
            Self::LocRib(count) => gauge(out, 8, count),
            Self::FamilyAdjRibIn(family, count) => of_family(out, 9, family, count),
            Self::FamilyLocRib(family, count) => of_family(out, 10, family, count),
            Self::AdjRibOut(count) => gauge(out, 15, count),
            Self::FamilyAdjRibOut(family, count) => of_family(out, 17, family, count),
            Self::Other(code) => {
                out.put_u16(code);
                out.put_u16(0);
            }
        }
    }

    pub(crate) fn parse(code: u16, value: &[u8]) -> Self {
        let count32 = || value.try_into().ok().map(u32::from_be_bytes);
        let count64 = || value.try_into().ok().map(u64::from_be_bytes);
        let of_family = || {
            let (head, count) = value.split_first_chunk::<3>()?;
            let [high, low, safi] = *head;
            let (afi, safi) = (net_types::Afi::from(u16::from_be_bytes([high, low])), net_types::Safi::from(safi));
            Some((Family::from_codes(afi, safi)?, count.try_into().ok().map(u64::from_be_bytes)?))
        };
        let known = match code {
            0 => count32().map(Self::RejectedByPolicy),
            7 => count64().map(Self::AdjRibIn),
            8 => count64().map(Self::LocRib),
            9 => of_family().map(|(family, count)| Self::FamilyAdjRibIn(family, count)),
            10 => of_family().map(|(family, count)| Self::FamilyLocRib(family, count)),
            15 => count64().map(Self::AdjRibOut),
            17 => of_family().map(|(family, count)| Self::FamilyAdjRibOut(family, count)),
            _ => None,
        };
        known.unwrap_or(Self::Other(code))
    }
}
