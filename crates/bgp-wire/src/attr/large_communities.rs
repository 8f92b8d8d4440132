//! LARGE_COMMUNITY, path attribute type 32: optional, transitive (RFC 8092).

use std::{fmt, str::FromStr};

use super::{LengthError, elements};

/// A large community: three numbers, the first an AS (RFC 8092 §3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// The AS that gives the others a meaning. A plain number: RFC 8092 reserves 0 without making it malformed.
    pub global: u32,
    /// First number.
    pub local1: u32,
    /// Second number.
    pub local2: u32,
}

/// The text is not a large community.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a large community: expected AS:NUMBER:NUMBER, each 0-4294967295")]
pub struct LargeCommunitySyntax(String);

/// Reads the list (RFC 8092 §5).
pub(crate) fn parse(body: &[u8]) -> Result<Vec<LargeCommunity>, LengthError> {
    elements(body, "a multiple of 12, not 0", |octets: [u8; 12]| {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = octets;
        LargeCommunity {
            global: u32::from_be_bytes([a, b, c, d]),
            local1: u32::from_be_bytes([e, f, g, h]),
            local2: u32::from_be_bytes([i, j, k, l]),
        }
    })
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

impl fmt::Debug for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LargeCommunity {
    type Err = LargeCommunitySyntax;
    fn from_str(text: &str) -> Result<Self, LargeCommunitySyntax> {
        let syntax = || LargeCommunitySyntax(text.to_owned());
        let mut parts = text.split(':').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u32>().ok()).flatten().ok_or_else(syntax)
        });
        let mut next = || parts.next().unwrap_or_else(|| Err(syntax()));
        let community = Self { global: next()?, local1: next()?, local2: next()? };
        if parts.next().is_some() { Err(syntax()) } else { Ok(community) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let text = "4294967295:1:0";
        assert_eq!(text.parse::<LargeCommunity>().unwrap().to_string(), text);
        for text in ["", "1:2", "1:2:3:4", "1:2:4294967296", "1:-2:3", "1::3"] {
            assert!(text.parse::<LargeCommunity>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_empty_or_ragged_list_is_malformed() {
        assert!(parse(&[]).is_err());
        assert!(parse(&[0; 13]).is_err());
        assert_eq!(parse(&[0; 24]).unwrap().len(), 2);
    }
}
