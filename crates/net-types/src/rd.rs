//! Route distinguishers, which tell equal prefixes of different VPNs apart (RFC 4364 §4.2).

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// Eight octets in front of a prefix: a type of two, and an administrator with a number of its own.
///
/// It says nothing about who may use the route, which route targets do. Types that we do not know are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rd([u8; 8]);

/// Why a text is not a route distinguisher.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a route distinguisher: expected ASN:NN or A.B.C.D:NN")]
pub struct RdError(String);

impl Rd {
    /// From the octets on the wire.
    pub const fn from_octets(octets: [u8; 8]) -> Self {
        Self(octets)
    }

    /// As on the wire.
    pub const fn octets(self) -> [u8; 8] {
        self.0
    }

    /// Type 0: an AS of two octets and a number of four.
    pub const fn two_octet_as(asn: u16, number: u32) -> Self {
        let ([a, b], [c, d, e, f]) = (asn.to_be_bytes(), number.to_be_bytes());
        Self([0, 0, a, b, c, d, e, f])
    }

    /// Type 1: an address and a number of two octets.
    pub const fn ipv4(address: Ipv4Addr, number: u16) -> Self {
        let ([a, b, c, d], [e, f]) = (address.octets(), number.to_be_bytes());
        Self([0, 1, a, b, c, d, e, f])
    }

    /// Type 2: an AS of four octets and a number of two.
    pub const fn four_octet_as(asn: u32, number: u16) -> Self {
        let ([a, b, c, d], [e, f]) = (asn.to_be_bytes(), number.to_be_bytes());
        Self([0, 2, a, b, c, d, e, f])
    }
}

impl FromStr for Rd {
    type Err = RdError;
    /// An AS that fits into two octets gives type 0, as in FRR.
    fn from_str(text: &str) -> Result<Self, RdError> {
        let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
        let read = || {
            let (administrator, number) = text.split_once(':').filter(|(_, number)| digits(number))?;
            if let Ok(address) = administrator.parse() {
                return Some(Self::ipv4(address, number.parse().ok()?));
            }
            let asn: u32 = administrator.parse().ok().filter(|_| digits(administrator))?;
            match u16::try_from(asn) {
                Ok(asn) => Some(Self::two_octet_as(asn, number.parse().ok()?)),
                Err(_) => Some(Self::four_octet_as(asn, number.parse().ok()?)),
            }
        };
        read().ok_or_else(|| RdError(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Rd {
    /// As FRR prints it; a type that is not known by its number and six octets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [high, low, a, b, c, d, e, g] = self.0;
        match u16::from_be_bytes([high, low]) {
            0 => write!(f, "{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g])),
            1 => write!(f, "{}:{}", Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([e, g])),
            2 => write!(f, "{}:{}", u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, g])),
            kind => write!(f, "type{kind}:{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{g:02x}"),
        }
    }
}

impl fmt::Debug for Rd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_read_and_printed() {
        for (text, octets) in [
            ("65000:7", [0, 0, 0xfd, 0xe8, 0, 0, 0, 7]),
            ("192.0.2.1:7", [0, 1, 192, 0, 2, 1, 0, 7]),
            ("65536:7", [0, 2, 0, 1, 0, 0, 0, 7]),
        ] {
            assert_eq!(text.parse::<Rd>().unwrap().octets(), octets);
            assert_eq!(Rd::from_octets(octets).to_string(), text);
        }
        assert_eq!(Rd::from_octets([0, 9, 1, 2, 3, 4, 5, 6]).to_string(), "type9:010203040506");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for text in ["", "1", "1:", ":1", "1:2:3", "70000:65536", "192.0.2.1:65536", "+1:2", "1:+2", "4294967296:1"] {
            assert!(text.parse::<Rd>().is_err(), "{text}");
        }
    }
}
