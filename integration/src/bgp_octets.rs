//! BGP messages as octets, for load and for core routers. Written here rather than with `bgp-wire`: a peer that shared our codec
//! would share its mistakes.

use std::net::Ipv4Addr;

/// Octets of a header (RFC 4271 §4.1).
pub(crate) const HEADER: usize = 19;
/// Octets of the longest message.
pub(crate) const MAX_MESSAGE: usize = 4096;
/// Type of an OPEN.
pub(crate) const OPEN: u8 = 1;
/// Type of an UPDATE.
pub(crate) const UPDATE: u8 = 2;
/// Type of a NOTIFICATION.
pub(crate) const NOTIFICATION: u8 = 3;
/// Type of a KEEPALIVE.
pub(crate) const KEEPALIVE: u8 = 4;

/// A message with its header (RFC 4271 §4.1).
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    octets.extend(u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX).to_be_bytes());
    octets.push(kind);
    octets.extend(body);
    octets
}

/// OPEN with IPv4 unicast (RFC 4760) and four-octet AS numbers (RFC 6793); the address is the BGP identifier.
pub(crate) fn open(asn: u32, hold_seconds: u16, address: Ipv4Addr) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(23456).to_be_bytes());
    body.extend(hold_seconds.to_be_bytes());
    body.extend(address.octets());
    body.extend([capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
    body.extend(capabilities);
    message(OPEN, &body)
}
