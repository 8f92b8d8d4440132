//! Address families (RFC 4760).

use std::fmt;

/// Address family identifier (IANA "Address Family Numbers"); room is kept for those that we do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Afi {
    /// 1
    Ipv4,
    /// 2
    Ipv6,
    /// Any other.
    Other(u16),
}

/// Subsequent address family identifier (IANA "SAFI Values").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Safi {
    /// 1
    Unicast,
    /// Any other.
    Other(u8),
}

/// The families that this speaker carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

impl Afi {
    /// The number on the wire.
    pub fn code(self) -> u16 {
        match self {
            Self::Ipv4 => 1,
            Self::Ipv6 => 2,
            Self::Other(code) => code,
        }
    }
}

impl From<u16> for Afi {
    fn from(code: u16) -> Self {
        match code {
            1 => Self::Ipv4,
            2 => Self::Ipv6,
            other => Self::Other(other),
        }
    }
}

impl Safi {
    /// The number on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Unicast => 1,
            Self::Other(code) => code,
        }
    }
}

impl From<u8> for Safi {
    fn from(code: u8) -> Self {
        if code == 1 { Self::Unicast } else { Self::Other(code) }
    }
}

impl Family {
    /// Every family, in wire order.
    pub const ALL: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// Address family identifier.
    pub fn afi(self) -> Afi {
        match self {
            Self::Ipv4Unicast => Afi::Ipv4,
            Self::Ipv6Unicast => Afi::Ipv6,
        }
    }

    /// Subsequent address family identifier.
    pub fn safi(self) -> Safi {
        Safi::Unicast
    }

    /// The family that the pair names, if this speaker carries it.
    pub fn from_codes(afi: Afi, safi: Safi) -> Option<Self> {
        Self::ALL.into_iter().find(|family| (family.afi(), family.safi()) == (afi, safi))
    }

    /// Longest prefix length, in bits.
    pub fn max_bits(self) -> u8 {
        match self {
            Self::Ipv4Unicast => 32,
            Self::Ipv6Unicast => 128,
        }
    }
}

impl fmt::Display for Family {
    /// As FRR names it in JSON, without the space: `ipv4Unicast`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Unicast => "ipv4Unicast",
            Self::Ipv6Unicast => "ipv6Unicast",
        })
    }
}
