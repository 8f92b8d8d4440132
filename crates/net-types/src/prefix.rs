//! IP prefixes with no host bits set, those of VPNs included.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{Family, Rd};

/// An IPv4 or IPv6 prefix in canonical form: every bit beyond the length is zero.
///
/// One of a VPN has a route distinguisher in front (RFC 4364 §4.1), one of a VRF the number of its kernel table; such a
/// prefix has nothing to do with any that is elsewhere.
///
/// Order is by where it is (nowhere in particular first), then family, address and length, so that a covering prefix sorts
/// right before what it covers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    realm: Realm,
    net: IpNet,
}

/// Where a prefix means something. Octets rather than numbers: prefixes are kept by the million and should not be padded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Realm {
    /// In this router's own tables and in the Internet.
    Own,
    /// In the kernel table of a VRF, most significant octet first.
    Table([u8; 4]),
    /// In the VPN whose routes have this distinguisher.
    Vpn(Rd),
}

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
    pub const DEFAULT_V4: Self =
        Self { realm: Realm::Own, net: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)) };
    /// ::/0
    pub const DEFAULT_V6: Self =
        Self { realm: Realm::Own, net: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)) };

    /// The prefix of `address` that is `bits` long; host bits are cleared.
    ///
    /// # Errors
    /// When `bits` is greater than the family's address length.
    pub fn new(address: IpAddr, bits: u8) -> Result<Self, PrefixError> {
        let net = match address {
            IpAddr::V4(address) if bits <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(u32::from(address) & mask), bits))
            }
            IpAddr::V6(address) if bits <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(u128::from(address) & mask), bits))
            }
            IpAddr::V4(_) => return Err(PrefixError::Length { found: bits, max: 32 }),
            IpAddr::V6(_) => return Err(PrefixError::Length { found: bits, max: 128 }),
        };
        Ok(Self { realm: Realm::Own, net })
    }

    /// The prefix that holds `address` alone (/32 or /128).
    pub fn host(address: IpAddr) -> Self {
        Self { realm: Realm::Own, net: IpNet::from(address) }
    }

    /// The fewest prefixes that hold just the addresses from the first to the last, in order; none if they are of two families
    /// or in the wrong order. At most twice as many as an address has bits.
    pub fn of_range(first: IpAddr, last: IpAddr) -> Vec<Self> {
        let (bits, mut at, end) = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (32, u128::from(first.to_bits()), u128::from(last.to_bits())),
            (IpAddr::V6(first), IpAddr::V6(last)) => (128, first.to_bits(), last.to_bits()),
            _ => return Vec::new(),
        };
        let mut out = Vec::new();
        while at <= end {
            // As many low bits as are zero at this place, and as the rest of the range has room for.
            let room = (end - at).checked_add(1).map_or(128, |rest| 127 - rest.leading_zeros());
            let low = at.trailing_zeros().min(room).min(bits);
            let address = if bits == 32 {
                IpAddr::V4(Ipv4Addr::from_bits((at & u128::from(u32::MAX)) as u32))
            } else {
                IpAddr::V6(Ipv6Addr::from_bits(at))
            };
            let length = u8::try_from(bits - low).unwrap_or(u8::MAX);
            out.extend(Self::new(address, length));
            let Some(next) = 1u128.checked_shl(low).and_then(|step| at.checked_add(step)) else { break };
            at = next;
        }
        out
    }

    /// The same prefix in the VPN whose routes `rd` distinguishes.
    pub fn in_vpn(self, rd: Rd) -> Self {
        Self { realm: Realm::Vpn(rd), ..self }
    }

    /// The same prefix in the kernel table `number`.
    pub fn in_table(self, number: u32) -> Self {
        Self { realm: Realm::Table(number.to_be_bytes()), ..self }
    }

    /// The same prefix, neither in a VPN nor in a table of its own.
    pub fn plain(self) -> Self {
        Self { realm: Realm::Own, ..self }
    }

    /// Whether it is neither in a VPN nor in a table of its own.
    pub fn is_plain(&self) -> bool {
        self.realm == Realm::Own
    }

    /// The distinguisher of a VPN's prefix.
    pub fn rd(&self) -> Option<Rd> {
        match self.realm {
            Realm::Vpn(rd) => Some(rd),
            Realm::Own | Realm::Table(_) => None,
        }
    }

    /// The kernel table of a VRF's prefix.
    pub fn table(&self) -> Option<u32> {
        match self.realm {
            Realm::Table(number) => Some(u32::from_be_bytes(number)),
            Realm::Own | Realm::Vpn(_) => None,
        }
    }

    /// Its lowest address.
    pub fn address(&self) -> IpAddr {
        self.net.network()
    }

    /// Length in bits.
    pub fn bits(&self) -> u8 {
        self.net.prefix_len()
    }

    /// The family that it belongs to.
    pub fn family(&self) -> Family {
        match (self.net, self.realm) {
            (IpNet::V4(_), Realm::Own | Realm::Table(_)) => Family::Ipv4Unicast,
            (IpNet::V6(_), Realm::Own | Realm::Table(_)) => Family::Ipv6Unicast,
            (IpNet::V4(_), Realm::Vpn(_)) => Family::Ipv4Vpn,
            (IpNet::V6(_), Realm::Vpn(_)) => Family::Ipv6Vpn,
        }
    }

    /// Whether `address` lies within.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.net.contains(&address)
    }

    /// Whether `other` is this prefix or a longer one within it, in the same VPN or table.
    pub fn covers(&self, other: &Self) -> bool {
        self.realm == other.realm && self.net.contains(&other.net)
    }

    /// The same value as the `ipnet` crate's type, which knows of no VPN and no table.
    pub fn as_net(&self) -> IpNet {
        self.net
    }
}

impl Hash for Prefix {
    /// Few words, for prefixes are looked up by the million: the address, with the length below it where there is room.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.net {
            IpNet::V4(net) => state.write_u64(u64::from(u32::from(net.addr())) << 8 | u64::from(net.prefix_len())),
            IpNet::V6(net) => {
                state.write_u128(net.addr().into());
                state.write_u8(net.prefix_len());
            }
        }
        if self.realm != Realm::Own {
            self.realm.hash(state);
        }
    }
}

impl From<IpNet> for Prefix {
    /// Clears host bits.
    fn from(net: IpNet) -> Self {
        Self { realm: Realm::Own, net: net.trunc() }
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
    /// `10.0.0.0/8`; one of a VPN with its distinguisher in front, `65000:1:10.0.0.0/8`; one of
    /// a VRF with its table behind, `10.0.0.0/8 in table 100`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.realm {
            Realm::Own => f.pad(&self.net.to_string()),
            Realm::Vpn(rd) => f.pad(&format!("{rd}:{}", self.net)),
            Realm::Table(number) => f.pad(&format!("{} in table {}", self.net, u32::from_be_bytes(number))),
        }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
    fn ranges_become_the_fewest_prefixes() {
        let text = |first: &str, last: &str| -> Vec<String> {
            let prefixes = Prefix::of_range(first.parse().unwrap(), last.parse().unwrap());
            prefixes.iter().map(ToString::to_string).collect()
        };
        assert_eq!(text("10.0.0.1", "10.0.0.6"), ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"]);
        assert_eq!(text("10.0.0.7", "10.0.0.6"), [""; 0]);
        assert_eq!(text("10.0.0.7", "::1"), [""; 0]);
        assert_eq!(text("0.0.0.0", "255.255.255.255"), ["0.0.0.0/0"]);
        assert_eq!(text("fd00::", "fd00::ffff"), ["fd00::/112"]);
        assert_eq!(text("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ["::/0"]);
    }

    #[test]
    fn prefixes_of_different_vpns_have_nothing_to_do_with_each_other() {
        let plain: Prefix = "10.0.0.0/8".parse().unwrap();
        let [one, two] = [1, 2].map(|number| plain.in_vpn(Rd::two_octet_as(65000, number)));
        let longer = "10.1.0.0/16".parse::<Prefix>().unwrap();
        assert_eq!(
            (one.to_string().as_str(), one.family(), one.plain()),
            ("65000:1:10.0.0.0/8", Family::Ipv4Vpn, plain)
        );
        assert!(one != two && one.covers(&longer.in_vpn(Rd::two_octet_as(65000, 1))));
        assert!(!one.covers(&longer) && !plain.covers(&one) && !two.covers(&one));
        assert!(plain < one && one < two);
        let red = plain.in_table(100);
        assert_eq!((red.to_string().as_str(), red.family()), ("10.0.0.0/8 in table 100", Family::Ipv4Unicast));
        assert!(!plain.covers(&red) && red.table() == Some(100) && red.plain() == plain && !red.is_plain());
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
