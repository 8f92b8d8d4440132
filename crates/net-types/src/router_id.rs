//! BGP identifiers.

use std::{fmt, net::Ipv4Addr, num::NonZeroU32, str::FromStr};

/// A BGP Identifier: any four octets but zero, unique within the AS (RFC 6286 §2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId(NonZeroU32);

/// Zero is no BGP Identifier (RFC 6286 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a BGP identifier is four octets such as 10.1.0.1 and not 0.0.0.0 (RFC 6286)")]
pub struct ZeroRouterId;

impl RouterId {
    /// The identifier as it stands on the wire.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl TryFrom<u32> for RouterId {
    type Error = ZeroRouterId;
    fn try_from(raw: u32) -> Result<Self, ZeroRouterId> {
        NonZeroU32::new(raw).map(Self).ok_or(ZeroRouterId)
    }
}

impl TryFrom<Ipv4Addr> for RouterId {
    type Error = ZeroRouterId;
    fn try_from(address: Ipv4Addr) -> Result<Self, ZeroRouterId> {
        Self::try_from(u32::from(address))
    }
}

impl FromStr for RouterId {
    type Err = ZeroRouterId;
    fn from_str(text: &str) -> Result<Self, ZeroRouterId> {
        text.parse::<Ipv4Addr>().map_err(|_| ZeroRouterId)?.try_into()
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Ipv4Addr::from(self.get()), f)
    }
}

impl fmt::Debug for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for RouterId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
