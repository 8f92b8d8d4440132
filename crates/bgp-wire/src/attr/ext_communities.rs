//! EXTENDED COMMUNITIES, path attribute type 16: optional, transitive (RFC 4360).

use std::{fmt, net::Ipv4Addr};

use super::{LengthError, elements};

/// An extended community, eight octets of which the first tells how to read the rest (RFC 4360 §2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtCommunity(pub [u8; 8]);

impl ExtCommunity {
    /// Whether it may cross AS boundaries (RFC 4360 §2: the second bit of the type is 0).
    pub fn is_transitive(self) -> bool {
        self.0[0] & 0x40 == 0
    }
}

/// Reads the list (RFC 7606 §7.14).
pub(crate) fn parse(body: &[u8]) -> Result<Vec<ExtCommunity>, LengthError> {
    elements(body, "a multiple of 8, not 0", ExtCommunity)
}

impl fmt::Display for ExtCommunity {
    /// `RT:65000:1`, `SoO:65000:1` and `LB:65000:125000 (1.000 Mbps)` as FRR prints them, hexadecimal for the other kinds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, sub, a, b, c, d, e, g] = self.0;
        if kind & !0x40 == 0 && sub == 4 {
            // draft-ietf-idr-link-bandwidth §3: octets per second as an IEEE float.
            let octets = f32::from_be_bytes([c, d, e, g]);
            let bits = f64::from(octets) * 8.0;
            let unit = [(1e9, "Gbps"), (1e6, "Mbps"), (1e3, "Kbps")].into_iter().find(|(unit, _)| bits >= *unit);
            let asn = u16::from_be_bytes([a, b]);
            return match unit {
                Some((unit, name)) => write!(f, "LB:{asn}:{octets:.0} ({:.3} {name})", bits / unit),
                None => write!(f, "LB:{asn}:{octets:.0} ({bits:.0} bps)"),
            };
        }
        let name = match sub {
            2 => "RT",
            3 => "SoO",
            _ => return write!(f, "{:#018x}", u64::from_be_bytes(self.0)),
        };
        match kind {
            // RFC 4360 §3.1, §3.2; RFC 5668
            0 => write!(f, "{name}:{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g])),
            1 => write!(f, "{name}:{}:{}", Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([e, g])),
            2 => write!(f, "{name}:{}:{}", u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, g])),
            _ => write!(f, "{:#018x}", u64::from_be_bytes(self.0)),
        }
    }
}

impl fmt::Debug for ExtCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_targets_print_as_operators_write_them() {
        assert_eq!(ExtCommunity([0, 2, 0xfd, 0xe8, 0, 0, 0, 1]).to_string(), "RT:65000:1");
        assert_eq!(ExtCommunity([1, 3, 192, 0, 2, 1, 0, 7]).to_string(), "SoO:192.0.2.1:7");
        assert_eq!(ExtCommunity([2, 2, 0, 1, 0, 0, 0, 7]).to_string(), "RT:65536:7");
        assert_eq!(ExtCommunity([0x80, 6, 0, 0, 0, 0, 0, 0]).to_string(), "0x8006000000000000");
    }

    #[test]
    fn link_bandwidth_is_octets_and_printed_as_bits() {
        let of = |octets: f32| {
            let [a, b, c, d] = octets.to_be_bytes();
            ExtCommunity([0x40, 4, 0xfd, 0xe8, a, b, c, d]).to_string()
        };
        assert_eq!(of(25_000_000.0), "LB:65000:25000000 (200.000 Mbps)");
        assert_eq!(of(1.25e9), "LB:65000:1250000000 (10.000 Gbps)");
        assert_eq!(of(100.0), "LB:65000:100 (800 bps)");
    }

    #[test]
    fn the_transitive_bit_is_inverted() {
        assert!(ExtCommunity([0x00, 2, 0, 0, 0, 0, 0, 0]).is_transitive());
        assert!(!ExtCommunity([0x40, 4, 0, 0, 0, 0, 0, 0]).is_transitive());
    }
}
