//! Autonomous system numbers.

use std::{fmt, num::NonZeroU32, str::FromStr};

/// An autonomous system number, always four octets in memory (RFC 6793). AS 0 cannot be built (RFC 7607).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Asn(NonZeroU32);

/// Why a number or text is not an autonomous system number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AsnError {
    /// AS 0 may not be used as an AS number in BGP (RFC 7607 §2).
    #[error("AS number 0 is reserved (RFC 7607)")]
    Zero,
    /// Neither asplain nor asdot (RFC 5396 §2).
    #[error("\"{0}\" is not an AS number: expected 1-4294967295 or asdot such as 1.10")]
    Syntax(String),
}

impl Asn {
    /// AS_TRANS, which stands in for a four-octet ASN in two-octet fields (RFC 6793 §9).
    pub const TRANS: Self = Self::literal(23456);

    /// An ASN known when the program is written.
    ///
    /// # Panics
    /// When `raw` is 0; in a constant that is a compile error.
    pub const fn literal(raw: u32) -> Self {
        match NonZeroU32::new(raw) {
            Some(n) => Self(n),
            None => panic!("AS 0 is reserved"),
        }
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The number in two octets, or AS_TRANS where it does not fit (RFC 6793 §4.2.2).
    pub fn two_octets(self) -> u16 {
        u16::try_from(self.get()).unwrap_or(23456)
    }

    /// Whether the number is for private use (RFC 6996 §5).
    pub fn is_private(self) -> bool {
        matches!(self.get(), 64512..=65534 | 4_200_000_000..=4_294_967_294)
    }
}

impl TryFrom<u32> for Asn {
    type Error = AsnError;
    fn try_from(raw: u32) -> Result<Self, AsnError> {
        NonZeroU32::new(raw).map(Self).ok_or(AsnError::Zero)
    }
}

impl FromStr for Asn {
    type Err = AsnError;
    fn from_str(text: &str) -> Result<Self, AsnError> {
        let syntax = || AsnError::Syntax(text.to_owned());
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let raw = match text.split_once('.') {
            Some((high, low)) if digits(high) && digits(low) => {
                let high: u16 = high.parse().map_err(|_| syntax())?;
                let low: u16 = low.parse().map_err(|_| syntax())?;
                u32::from(high) << 16 | u32::from(low)
            }
            None if digits(text) => text.parse().map_err(|_| syntax())?,
            _ => return Err(syntax()),
        };
        Self::try_from(raw)
    }
}

impl fmt::Display for Asn {
    /// Asplain (RFC 5396 §2), as FRR and BIRD print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asplain_and_asdot_are_read() {
        assert_eq!("65010".parse(), Ok(Asn::literal(65010)));
        assert_eq!("1.10".parse(), Ok(Asn::literal(65546)));
        assert_eq!("4294967295".parse(), Ok(Asn::literal(u32::MAX)));
    }

    #[test]
    fn what_is_not_an_asn_is_refused() {
        assert_eq!("0".parse::<Asn>(), Err(AsnError::Zero));
        for text in ["", "-1", "+1", "4294967296", "1.", ".1", "1.65536", "1.2.3", "x"] {
            assert!(matches!(text.parse::<Asn>(), Err(AsnError::Syntax(_))), "{text}");
        }
    }
}
