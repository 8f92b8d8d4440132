//! ORIGINATOR_ID, path attribute type 9: optional, non-transitive, four octets (RFC 4456 §8).

use std::net::Ipv4Addr;

use super::{LengthError, four_octets};

/// Reads the identifier of the router in our AS that brought the route in (RFC 7606 §7.9).
///
/// An address rather than a `RouterId`: a zero is odd, but no specification makes it malformed.
pub(crate) fn parse(body: &[u8]) -> Result<Ipv4Addr, LengthError> {
    four_octets(body).map(Ipv4Addr::from)
}
