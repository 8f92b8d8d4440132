//! IP prefixes with no host bits set.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Family;

/// An IPv4 or IPv6 prefix in canonical form: every bit beyond the length is zero.
///
/// Order is by family, then address, then length, so that a covering prefix sorts right before what it covers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNet);

/// Why a text or pair is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// The length is greater than the family's.
    #[error("prefix length {found} is greater than {max}")]
    Length {
        /// Bits asked for.
        found: u8,
        /// Bits that the family has.
        max: u8,
    },
    /// Not `address/length`.
    #[error("\"{0}\" is not a prefix: expected ADDRESS/LENGTH")]
    Syntax(String),
}

impl Prefix {
    /// 0.0.0.0/0
    pub const DEFAULT_V4: Self = Self(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)));
    /// ::/0
    pub const DEFAULT_V6: Self = Self(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)));

    /// The prefix of `address` that is `bits` long; host bits are cleared.
    ///
    /// # Errors
    /// When `bits` is greater than the family's address length.
    pub fn new(address: IpAddr, bits: u8) -> Result<Self, PrefixError> {
        let max = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, bits).map(|net| Self(net.trunc())).map_err(|_| PrefixError::Length { found: bits, max })
    }

    /// The prefix that holds `address` alone (/32 or /128).
    pub fn host(address: IpAddr) -> Self {
        Self(IpNet::from(address))
    }

    /// Its lowest address.
    pub fn address(&self) -> IpAddr {
        self.0.network()
    }

    /// Length in bits.
    pub fn bits(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The unicast family that it belongs to.
    pub fn family(&self) -> Family {
        match self.0 {
            IpNet::V4(_) => Family::Ipv4Unicast,
            IpNet::V6(_) => Family::Ipv6Unicast,
        }
    }

    /// Whether `address` lies within.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether `other` is this prefix or a longer one within it.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    /// The same value as the `ipnet` crate's type.
    pub fn as_net(&self) -> IpNet {
        self.0
    }
}

impl From<IpNet> for Prefix {
    /// Clears host bits.
    fn from(net: IpNet) -> Self {
        Self(net.trunc())
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;
    /// Reads `address/length`; host bits are cleared, as FRR does for `network 10.0.0.1/8`.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        text.parse::<IpNet>().map(Self::from).map_err(|_| PrefixError::Syntax(text.to_owned()))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl serde::Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!("10.1.2.3/8".parse::<Prefix>().unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(Prefix::new("fd00::1".parse().unwrap(), 64).unwrap().to_string(), "fd00::/64");
    }

    #[test]
    fn lengths_beyond_the_family_are_refused() {
        let too_long = Prefix::new("10.0.0.0".parse().unwrap(), 33);
        assert_eq!(too_long, Err(PrefixError::Length { found: 33, max: 32 }));
        assert!("10.0.0.0".parse::<Prefix>().is_err());
    }

    proptest! {
        #[test]
        fn text_round_trips(address in any::<IpAddr>(), bits in 0u8..=128) {
            if let Ok(prefix) = Prefix::new(address, bits) {
                prop_assert_eq!(prefix.to_string().parse::<Prefix>(), Ok(prefix));
                prop_assert!(prefix.contains(address) && prefix.covers(&prefix));
            }
        }
    }
}
