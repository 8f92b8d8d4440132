//! ORIGIN, path attribute type 1: well-known, mandatory, one octet (RFC 4271 §5.1.1).

use std::fmt;

use bytes::BufMut;

/// How the route got into BGP; better ones first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Interior to the originating AS.
    #[default]
    Igp = 0,
    /// Learned by EGP.
    Egp = 1,
    /// Learned by some other means.
    Incomplete = 2,
}

/// Why an ORIGIN is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Not one octet.
    #[error("{0} octets long, expected 1 (RFC 7606 §7.1)")]
    Length(usize),
    /// Not a value in use.
    #[error("value {0} is undefined (RFC 7606 §7.1)")]
    Value(u8),
}

impl Origin {
    /// Reads the attribute's value.
    ///
    /// # Errors
    /// When it is not one octet of 0, 1 or 2.
    pub fn parse(body: &[u8]) -> Result<Self, OriginError> {
        Ok(match body {
            [0] => Self::Igp,
            [1] => Self::Egp,
            [2] => Self::Incomplete,
            [other] => return Err(OriginError::Value(*other)),
            _ => return Err(OriginError::Length(body.len())),
        })
    }

    /// Writes the attribute's value.
    pub fn emit(self, out: &mut impl BufMut) {
        out.put_u8(self as u8);
    }

    /// The letter in a `show bgp` table: `i`, `e` or `?`.
    pub fn letter(self) -> char {
        match self {
            Self::Igp => 'i',
            Self::Egp => 'e',
            Self::Incomplete => '?',
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Igp => "IGP",
            Self::Egp => "EGP",
            Self::Incomplete => "incomplete",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_values_and_one_length_are_accepted() {
        for origin in [Origin::Igp, Origin::Egp, Origin::Incomplete] {
            let mut out = Vec::new();
            origin.emit(&mut out);
            assert_eq!(Origin::parse(&out), Ok(origin));
        }
        assert_eq!(Origin::parse(&[3]), Err(OriginError::Value(3)));
        assert_eq!(Origin::parse(&[]), Err(OriginError::Length(0)));
        assert_eq!(Origin::parse(&[0, 0]), Err(OriginError::Length(2)));
    }
}
