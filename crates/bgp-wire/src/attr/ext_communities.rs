//! EXTENDED COMMUNITIES, path attribute type 16: optional, transitive (RFC 4360).

use std::{fmt, net::Ipv4Addr};

use net_types::Asn;

use super::{LengthError, elements};

/// Sub-type of a link bandwidth (IANA, transitive and non-transitive two-octet AS specific).
const LINK_BANDWIDTH: u8 = 4;

/// An extended community, eight octets of which the first tells how to read the rest (RFC 4360 §2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtCommunity(pub [u8; 8]);

impl ExtCommunity {
    /// Between routers of one AS that run this software: the route came through a tunnel, and what it leads to must not leave in
    /// the clear. Not transitive, of a type for experiments (0xc0 to 0xcf, RFC 7153), with a word that others are not likely to use.
    pub const THROUGH_TUNNEL: Self = Self(*b"\xc0\xfctunnel");

    /// The same, and there is no way left: packets that are sent here are dropped.
    pub const TUNNEL_LOST: Self = Self(*b"\xc0\xfcclosed");

    /// Whether it may cross AS boundaries (RFC 4360 §2: the second bit of the type is 0).
    pub fn is_transitive(self) -> bool {
        self.0[0] & 0x40 == 0
    }

    /// A link bandwidth of `asn`, in octets a second, as IEEE floating point (draft-ietf-idr-link-bandwidth §2).
    /// `asn` is two octets there; a greater one is AS_TRANS (RFC 6793 §4.2.2), as with FRR.
    pub fn link_bandwidth(asn: Asn, octets_per_second: f32, transitive: bool) -> Self {
        let [high, low] = u16::try_from(asn.get()).unwrap_or(23_456).to_be_bytes();
        let [a, b, c, d] = octets_per_second.to_be_bytes();
        Self([if transitive { 0x00 } else { 0x40 }, LINK_BANDWIDTH, high, low, a, b, c, d])
    }

    /// A link bandwidth with these octets a second in the place of its own.
    pub fn with_bandwidth(self, octets_per_second: u64) -> Self {
        let [kind, sub, high, low, ..] = self.0;
        let [a, b, c, d] = (octets_per_second as f32).to_be_bytes();
        Self([kind, sub, high, low, a, b, c, d])
    }

    /// The bandwidth that it names, in octets a second; `None` when it is no link bandwidth, or names none that makes
    /// sense. FRR takes a transitive one as well, and so do we.
    pub fn bandwidth(self) -> Option<u64> {
        let [kind, sub, _, _, a, b, c, d] = self.0;
        let octets = f32::from_be_bytes([a, b, c, d]);
        // A number too large for the type becomes the largest.
        (kind & !0x40 == 0 && sub == LINK_BANDWIDTH && octets.is_finite() && octets >= 1.0).then_some(octets as u64)
    }
}

/// Reads the list (RFC 7606 §7.14).
pub(crate) fn parse(body: &[u8]) -> Result<Vec<ExtCommunity>, LengthError> {
    elements(body, "a multiple of 8, not 0", ExtCommunity)
}

impl fmt::Display for ExtCommunity {
    /// `RT:65000:1`, `SoO:65000:1`, `LB:65000:125000 (1.000 Mbps)`, `ET:8` and `Color:7` as FRR prints them,
    /// hexadecimal for the other kinds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, sub, a, b, c, d, e, g] = self.0;
        if let Some(octets) = self.bandwidth() {
            let bits = octets as f64 * 8.0;
            let (scaled, unit) = match octets.saturating_mul(8) {
                1_000_000_000.. => (bits / 1e9, "Gbps"),
                1_000_000.. => (bits / 1e6, "Mbps"),
                1_000.. => (bits / 1e3, "Kbps"),
                _ => (bits, "bps"),
            };
            let asn = u16::from_be_bytes([a, b]);
            return match unit {
                "bps" => write!(f, "LB:{asn}:{octets} ({scaled:.0} {unit})"),
                _ => write!(f, "LB:{asn}:{octets} ({scaled:.3} {unit})"),
            };
        }
        if *self == Self::THROUGH_TUNNEL {
            return f.write_str("through-tunnel");
        }
        if *self == Self::TUNNEL_LOST {
            return f.write_str("tunnel-lost");
        }
        // RFC 9012 §4.1, §4.3: which encapsulation to send with, and the color that tunnels are chosen by.
        match self.0 {
            [0x03, 0x0c, _, _, _, _, high, low] => return write!(f, "ET:{}", u16::from_be_bytes([high, low])),
            [0x03, 0x0b, _, _, a, b, c, d] => return write!(f, "Color:{}", u32::from_be_bytes([a, b, c, d])),
            _ => {}
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
        assert_eq!(ExtCommunity([3, 0x0c, 0, 0, 0, 0, 0, 8]).to_string(), "ET:8");
        assert_eq!(ExtCommunity([3, 0x0b, 0, 0, 0, 0, 1, 0]).to_string(), "Color:256");
        assert_eq!(ExtCommunity([0x80, 6, 0, 0, 0, 0, 0, 0]).to_string(), "0x8006000000000000");
    }

    #[test]
    fn a_link_bandwidth_is_octets_a_second_as_a_float() {
        // 125,000 octets a second (1 Mbit/s) as IEEE 754 single precision is 0x47f42400.
        let community = ExtCommunity([0x40, 4, 0xfd, 0xe8, 0x47, 0xf4, 0x24, 0x00]);
        assert_eq!(community.bandwidth(), Some(125_000));
        assert_eq!(community.to_string(), "LB:65000:125000 (1.000 Mbps)");
        assert_eq!(ExtCommunity::link_bandwidth(Asn::literal(65000), 125_000.0, false), community);
        let wide = ExtCommunity::link_bandwidth(Asn::literal(70000), 1.25e9, true);
        assert_eq!(wide.0[..4], [0, 4, 0x5b, 0xa0], "AS_TRANS, transitive");
        assert_eq!(wide.to_string(), "LB:23456:1250000000 (10.000 Gbps)");
        for odd in [f32::NAN, f32::INFINITY, -1.0, 0.0, 0.5] {
            assert_eq!(ExtCommunity::link_bandwidth(Asn::literal(1), odd, true).bandwidth(), None, "{odd}");
        }
        assert!(ExtCommunity::link_bandwidth(Asn::literal(1), f32::MAX, true).bandwidth().is_some());
        assert_eq!(ExtCommunity([1, 4, 0, 0, 0x47, 0xf4, 0x24, 0]).bandwidth(), None, "of another type");
    }

    #[test]
    fn the_transitive_bit_is_inverted() {
        assert!(ExtCommunity([0x00, 2, 0, 0, 0, 0, 0, 0]).is_transitive());
        assert!(!ExtCommunity([0x40, 4, 0, 0, 0, 0, 0, 0]).is_transitive());
        assert!(!ExtCommunity::THROUGH_TUNNEL.is_transitive() && !ExtCommunity::TUNNEL_LOST.is_transitive());
    }
}
