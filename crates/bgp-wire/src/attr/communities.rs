//! COMMUNITIES, path attribute type 8: optional, transitive (RFC 1997).

use std::{fmt, str::FromStr};

use super::{LengthError, elements};

/// A community: an AS and a number that it gives a meaning (RFC 1997).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

/// The text is not a community.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a community: expected AS:NUMBER, each 0-65535, or a well-known name such as no-export")]
pub struct CommunitySyntax(String);

impl Community {
    /// Drain traffic first (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
    /// Discard traffic (RFC 7999).
    pub const BLACKHOLE: Self = Self(0xffff_029a);
    /// Not beyond our AS or confederation (RFC 1997).
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// Not to any peer (RFC 1997).
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// Its route outlived the restart time of who announced it (RFC 9494).
    pub const LLGR_STALE: Self = Self(0xffff_0006);
    /// Its route is not to be kept beyond that (RFC 9494).
    pub const NO_LLGR: Self = Self(0xffff_0007);
    /// Not beyond our AS, even inside the confederation (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);
    /// Not to peers of the same standing (RFC 3765).
    pub const NO_PEER: Self = Self(0xffff_ff04);

    const NAMES: [(Self, &'static str); 9] = [
        (Self(0), "internet"), // a name of the vendors for what RFC 1997 reserves
        (Self::GRACEFUL_SHUTDOWN, "graceful-shutdown"),
        (Self::BLACKHOLE, "blackhole"),
        (Self::NO_EXPORT, "no-export"),
        (Self::NO_ADVERTISE, "no-advertise"),
        (Self::NO_EXPORT_SUBCONFED, "local-AS"),
        (Self::NO_PEER, "no-peer"),
        (Self::LLGR_STALE, "llgr-stale"),
        (Self::NO_LLGR, "no-llgr"),
    ];

    /// From its two halves.
    pub fn new(asn: u16, number: u16) -> Self {
        Self(u32::from(asn) << 16 | u32::from(number))
    }
}

/// Reads the list (RFC 7606 §7.8).
pub(crate) fn parse(body: &[u8]) -> Result<Vec<Community>, LengthError> {
    elements(body, "a multiple of 4, not 0", |octets| Community(u32::from_be_bytes(octets)))
}

impl fmt::Display for Community {
    /// As FRR prints it: `65000:1`, or the well-known name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(community, _)| community == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

impl fmt::Debug for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Community {
    type Err = CommunitySyntax;
    fn from_str(text: &str) -> Result<Self, CommunitySyntax> {
        if let Some((community, _)) = Self::NAMES.iter().find(|(_, name)| *name == text) {
            return Ok(*community);
        }
        let syntax = || CommunitySyntax(text.to_owned());
        let half = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u16>().ok()).flatten();
        let (asn, number) = text.split_once(':').ok_or_else(syntax)?;
        Ok(Self::new(half(asn).ok_or_else(syntax)?, half(number).ok_or_else(syntax)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for text in ["65000:1", "no-export", "blackhole", "internet", "local-AS"] {
            assert_eq!(text.parse::<Community>().unwrap().to_string(), text);
        }
        for text in ["", "1", "1:", "65536:1", "+1:1", "1:2:3", "no-such"] {
            assert!(text.parse::<Community>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_empty_or_ragged_list_is_malformed() {
        assert!(parse(&[]).is_err());
        assert!(parse(&[0, 1, 0]).is_err());
        assert_eq!(parse(&[0xff, 0xff, 0xff, 0x01]), Ok(vec![Community::NO_EXPORT]));
    }
}
