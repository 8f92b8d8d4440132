//! TUNNEL_ENCAPSULATION, path attribute type 23: optional, transitive (RFC 9012).
//!
//! A list of tunnels through which packets may be sent to the routes beside it. It is kept as it came, since what is not
//! understood is to be passed on all the same (RFC 9012 §13), and read when somebody asks what it says.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bytes::Bytes;

use crate::cursor::Cursor;

/// The attribute, of which it is known that its tunnels can be told apart.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TunnelEncap(Bytes);

/// Why a TUNNEL_ENCAPSULATION cannot be used (RFC 9012 §13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunnelEncapError {
    /// A tunnel, or something within one, runs past the end.
    #[error("a TLV of {needed} octets stands where {left} are left (RFC 9012 §13)")]
    Overrun {
        /// What its length field says, or its header takes.
        needed: usize,
        /// Octets there are.
        left: usize,
    },
    /// It has no tunnel.
    #[error("it names no tunnel (RFC 9012 §13)")]
    Empty,
}

/// One tunnel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tunnel<'a> {
    /// Tunnel type (IANA "BGP Tunnel Encapsulation Attribute Tunnel Types").
    pub kind: u16,
    body: &'a [u8],
}

/// Something that is said of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubTlv<'a> {
    /// Where the tunnel ends; `None` is the next hop of the route (RFC 9012 §3.1).
    Endpoint(Option<IpAddr>),
    /// The color that it is chosen by (RFC 9012 §3.4.2).
    Color(u32),
    /// The protocol that it carries, as an EtherType (RFC 9012 §3.4.1).
    Protocol(u16),
    /// UDP port to send to (RFC 9012 §3.3.2).
    UdpPort(u16),
    /// Anything else, and what has another length than it should.
    Other {
        /// Sub-TLV type.
        kind: u8,
        /// Its value.
        value: &'a [u8],
    },
}

impl TunnelEncap {
    /// Reads the attribute's value.
    ///
    /// # Errors
    /// When its tunnels cannot be told apart, or there are none.
    pub fn parse(body: &[u8]) -> Result<Self, TunnelEncapError> {
        let mut cursor = Cursor::new(body);
        if cursor.is_empty() {
            return Err(TunnelEncapError::Empty);
        }
        while !cursor.is_empty() {
            let (_, mut inner) = tunnel(&mut cursor)?;
            while !inner.is_empty() {
                sub_tlv(&mut inner)?;
            }
        }
        Ok(Self(Bytes::copy_from_slice(body)))
    }

    /// As on the wire.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// The tunnels, in order of preference where nothing else tells (RFC 9012 §3).
    pub fn tunnels(&self) -> impl Iterator<Item = Tunnel<'_>> {
        let mut cursor = Cursor::new(&self.0);
        std::iter::from_fn(move || {
            let (kind, inner) = tunnel(&mut cursor).ok()?;
            Some(Tunnel { kind, body: inner.rest() })
        })
    }
}

/// Type of the next tunnel, and what is said of it.
fn tunnel<'a>(cursor: &mut Cursor<'a>) -> Result<(u16, Cursor<'a>), TunnelEncapError> {
    let left = cursor.remaining();
    let (Some(kind), Some(octets)) = (cursor.u16(), cursor.u16()) else {
        return Err(TunnelEncapError::Overrun { needed: 4, left });
    };
    let (needed, left) = (usize::from(octets), cursor.remaining());
    let body = cursor.take(needed).ok_or(TunnelEncapError::Overrun { needed, left })?;
    Ok((kind, Cursor::new(body)))
}

/// Type and value of the next sub-TLV: types from 128 on have a length of two octets (RFC 9012 §2).
fn sub_tlv<'a>(cursor: &mut Cursor<'a>) -> Result<(u8, &'a [u8]), TunnelEncapError> {
    let left = cursor.remaining();
    let short = TunnelEncapError::Overrun { needed: 2, left };
    let kind = cursor.u8().ok_or(short)?;
    let octets = if kind < 128 { cursor.u8().map(u16::from) } else { cursor.u16() }.ok_or(short)?;
    let (needed, left) = (usize::from(octets), cursor.remaining());
    let value = cursor.take(needed).ok_or(TunnelEncapError::Overrun { needed, left })?;
    Ok((kind, value))
}

impl<'a> Tunnel<'a> {
    /// What is said of it.
    pub fn sub_tlvs(&self) -> impl Iterator<Item = SubTlv<'a>> + use<'a> {
        let mut cursor = Cursor::new(self.body);
        std::iter::from_fn(move || sub_tlv(&mut cursor).ok().map(|(kind, value)| SubTlv::of(kind, value)))
    }

    /// The name of its type, as FRR and IANA have it.
    pub fn name(&self) -> Option<&'static str> {
        Some(match self.kind {
            1 => "L2TPv3 over IP",
            2 => "GRE",
            7 => "IP in IP",
            8 => "VXLAN",
            9 => "NVGRE",
            10 => "MPLS",
            11 => "MPLS in GRE",
            12 => "VXLAN GPE",
            13 => "MPLS in UDP",
            15 => "SR Policy",
            _ => return None,
        })
    }
}

impl<'a> SubTlv<'a> {
    fn of(kind: u8, value: &'a [u8]) -> Self {
        let known = match (kind, value) {
            (2, [a, b]) => Some(Self::Protocol(u16::from_be_bytes([*a, *b]))),
            // An extended community of the kind Color, its flags between (RFC 9012 §4.3).
            (4, [0x03, 0x0b, _, _, a, b, c, d]) => Some(Self::Color(u32::from_be_bytes([*a, *b, *c, *d]))),
            (6, [_, _, _, _, high, low, address @ ..]) => endpoint(u16::from_be_bytes([*high, *low]), address),
            (8, [a, b]) => Some(Self::UdpPort(u16::from_be_bytes([*a, *b]))),
            _ => None,
        };
        known.unwrap_or(Self::Other { kind, value })
    }
}

/// RFC 9012 §3.1: four octets that are reserved, an address family, an address; family 0 is the route's next hop.
fn endpoint<'a>(family: u16, address: &[u8]) -> Option<SubTlv<'a>> {
    let address = match family {
        0 if address.is_empty() => None,
        1 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).into()),
        2 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).into()),
        _ => return None,
    };
    Some(SubTlv::Endpoint(address))
}

impl fmt::Display for Tunnel<'_> {
    /// `GRE endpoint 192.0.2.1 color 7`; what is not understood by its type and octets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name)?,
            None => write!(f, "type {}", self.kind)?,
        }
        for sub_tlv in self.sub_tlvs() {
            match sub_tlv {
                SubTlv::Endpoint(Some(address)) => write!(f, " endpoint {address}")?,
                SubTlv::Endpoint(None) => f.write_str(" endpoint next-hop")?,
                SubTlv::Color(color) => write!(f, " color {color}")?,
                SubTlv::Protocol(protocol) => write!(f, " protocol {protocol:#06x}")?,
                SubTlv::UdpPort(port) => write!(f, " port {port}")?,
                SubTlv::Other { kind, value } => {
                    write!(f, " ({kind}:")?;
                    value.iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
                    f.write_str(")")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Tunnel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for TunnelEncap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.tunnels()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(body: &[u8]) -> Result<String, TunnelEncapError> {
        TunnelEncap::parse(body).map(|attribute| format!("{attribute:?}"))
    }

    #[test]
    fn tunnels_and_what_is_said_of_them_are_read() {
        let gre = [0, 2, 0, 22, 6, 10, 0, 0, 0, 0, 0, 1, 192, 0, 2, 1, 4, 8, 3, 11, 0, 0, 0, 0, 0, 7];
        let vxlan = [0, 8, 0, 12, 8, 2, 0x12, 0xb5, 6, 6, 0, 0, 0, 0, 0, 0];
        assert_eq!(shown(&gre).unwrap(), "[GRE endpoint 192.0.2.1 color 7]");
        assert_eq!(
            shown(&[&gre[..], &vxlan].concat()).unwrap(),
            "[GRE endpoint 192.0.2.1 color 7, VXLAN port 4789 endpoint next-hop]"
        );
        // A type of ours alone and a sub-TLV with a long length, both kept.
        assert_eq!(shown(&[0, 99, 0, 5, 200, 0, 2, 1, 2]).unwrap(), "[type 99 (200:0102)]");
        assert_eq!(shown(&[0, 2, 0, 3, 8, 1, 9]).unwrap(), "[GRE (8:09)]", "a port has two octets");
    }

    #[test]
    fn what_runs_past_its_end_is_refused() {
        assert_eq!(shown(&[]), Err(TunnelEncapError::Empty));
        assert_eq!(shown(&[0, 2, 0]), Err(TunnelEncapError::Overrun { needed: 4, left: 3 }));
        assert_eq!(shown(&[0, 2, 0, 5, 1]), Err(TunnelEncapError::Overrun { needed: 5, left: 1 }));
        assert_eq!(shown(&[0, 2, 0, 3, 8, 2, 1]), Err(TunnelEncapError::Overrun { needed: 2, left: 1 }));
        assert_eq!(shown(&[0, 2, 0, 1, 8]), Err(TunnelEncapError::Overrun { needed: 2, left: 1 }));
    }

    proptest! {
        #[test]
        fn any_octets_are_refused_or_kept_as_they_came(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(attribute) = TunnelEncap::parse(&body) {
                prop_assert_eq!(attribute.octets(), &body[..]);
                let octets: usize = attribute.tunnels().map(|tunnel| 4 + tunnel.body.len()).sum();
                prop_assert_eq!(octets, body.len());
                let _ = format!("{attribute:?}");
            }
        }
    }
}
