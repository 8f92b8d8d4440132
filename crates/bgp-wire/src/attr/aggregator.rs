//! AGGREGATOR, path attribute type 7: optional, transitive (RFC 4271 §5.1.7, RFC 6793 §4).

use std::net::Ipv4Addr;

use bytes::BufMut;
use net_types::Asn;

use crate::cursor::Cursor;

/// Who made the aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its address, mostly its BGP identifier.
    pub address: Ipv4Addr,
}

/// Why an AGGREGATOR is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AggregatorError {
    /// Not 6 octets, or 8 with four-octet AS numbers.
    #[error("{found} octets long, expected {expected} (RFC 7606 §7.7)")]
    Length {
        /// Octets found.
        found: usize,
        /// Octets for the width in use.
        expected: usize,
    },
    /// AS 0.
    #[error("AS 0 is the aggregator (RFC 7607 §2)")]
    AsZero,
}

impl Aggregator {
    /// Reads the attribute's value.
    ///
    /// # Errors
    /// When it has another length, or names AS 0.
    pub fn parse(body: &[u8], four_octets: bool) -> Result<Self, AggregatorError> {
        let expected = Self::octets(four_octets);
        let mut cursor = Cursor::new(body);
        let asn = if four_octets { cursor.u32() } else { cursor.u16().map(u32::from) };
        match (asn, cursor.array::<4>(), cursor.is_empty()) {
            (Some(asn), Some(address), true) => {
                let asn = Asn::try_from(asn).map_err(|_| AggregatorError::AsZero)?;
                Ok(Self { asn, address: address.into() })
            }
            _ => Err(AggregatorError::Length { found: body.len(), expected }),
        }
    }

    /// Octets that [`emit`](Self::emit) writes.
    pub fn octets(four_octets: bool) -> usize {
        if four_octets { 8 } else { 6 }
    }

    /// Writes the attribute's value. In two octets, AS_TRANS stands for what does not fit (RFC 6793 §4.2.2).
    pub fn emit(&self, four_octets: bool, out: &mut impl BufMut) {
        if four_octets {
            out.put_u32(self.asn.get())
        } else {
            out.put_u16(self.asn.two_octets())
        }
        out.put_slice(&self.address.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_decides_the_length() {
        let narrow = Aggregator::parse(&[0xfb, 0xf4, 192, 0, 2, 1], false).unwrap();
        assert_eq!((narrow.asn.get(), narrow.address), (64500, Ipv4Addr::new(192, 0, 2, 1)));
        assert!(Aggregator::parse(&[0xfb, 0xf4, 192, 0, 2, 1], true).is_err());
        assert_eq!(Aggregator::parse(&[0; 6], false), Err(AggregatorError::AsZero));
        assert_eq!(Aggregator::parse(&[0; 9], true), Err(AggregatorError::Length { found: 9, expected: 8 }));
    }
}
