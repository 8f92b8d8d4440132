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
    /// 128: prefixes of VPNs, with labels (RFC 4364 §4.3.4)
    LabelledVpn,
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
    /// AFI 1, SAFI 128 (RFC 4364).
    Ipv4Vpn,
    /// AFI 2, SAFI 128 (RFC 4659).
    Ipv6Vpn,
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
            Self::LabelledVpn => 128,
            Self::Other(code) => code,
        }
    }
}

impl From<u8> for Safi {
    fn from(code: u8) -> Self {
        match code {
            1 => Self::Unicast,
            128 => Self::LabelledVpn,
            other => Self::Other(other),
        }
    }
}

impl Family {
    /// How many there are: the length of what is kept for each, indexed by `Family as usize`.
    pub const COUNT: usize = 4;

    /// Every family, in the order of its index.
    pub const ALL: [Self; Self::COUNT] = [Self::Ipv4Unicast, Self::Ipv6Unicast, Self::Ipv4Vpn, Self::Ipv6Vpn];

    /// Those whose routes are for this router's own tables as they are.
    pub const UNICAST: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// Address family identifier.
    pub fn afi(self) -> Afi {
        match self {
            Self::Ipv4Unicast | Self::Ipv4Vpn => Afi::Ipv4,
            Self::Ipv6Unicast | Self::Ipv6Vpn => Afi::Ipv6,
        }
    }

    /// Subsequent address family identifier.
    pub fn safi(self) -> Safi {
        match self {
            Self::Ipv4Unicast | Self::Ipv6Unicast => Safi::Unicast,
            Self::Ipv4Vpn | Self::Ipv6Vpn => Safi::LabelledVpn,
        }
    }

    /// The family that the pair names, if this speaker carries it.
    pub fn from_codes(afi: Afi, safi: Safi) -> Option<Self> {
        Self::ALL.into_iter().find(|family| (family.afi(), family.safi()) == (afi, safi))
    }

    /// Whether its prefixes have route distinguishers and labels.
    pub fn is_vpn(self) -> bool {
        self.safi() == Safi::LabelledVpn
    }

    /// The unicast family of the same addresses.
    pub fn unicast(self) -> Self {
        match self {
            Self::Ipv4Unicast | Self::Ipv4Vpn => Self::Ipv4Unicast,
            Self::Ipv6Unicast | Self::Ipv6Vpn => Self::Ipv6Unicast,
        }
    }

    /// The VPN family of the same addresses.
    pub fn vpn(self) -> Self {
        match self {
            Self::Ipv4Unicast | Self::Ipv4Vpn => Self::Ipv4Vpn,
            Self::Ipv6Unicast | Self::Ipv6Vpn => Self::Ipv6Vpn,
        }
    }

    /// Longest prefix length, in bits.
    pub fn max_bits(self) -> u8 {
        match self.unicast() {
            Self::Ipv6Unicast => 128,
            _ => 32,
        }
    }
}

impl fmt::Display for Family {
    /// As FRR names it in JSON, without the space: `ipv4Unicast`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Unicast => "ipv4Unicast",
            Self::Ipv6Unicast => "ipv6Unicast",
            Self::Ipv4Vpn => "ipv4Vpn",
            Self::Ipv6Vpn => "ipv6Vpn",
        })
    }
}
