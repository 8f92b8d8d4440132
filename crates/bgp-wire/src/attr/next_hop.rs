//! NEXT_HOP, path attribute type 3: well-known, mandatory beside IPv4 NLRI, four octets (RFC 4271 §5.1.3).

use std::net::Ipv4Addr;

use super::four_octets;
use crate::NextHop;

/// Why a next hop cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NextHopError {
    /// Not four octets.
    #[error("{0} octets long, expected 4 (RFC 7606 §7.3)")]
    Length(usize),
    /// Not the address of a host.
    #[error("{0} is not the address of a host (RFC 4271 §6.3)")]
    NotAHost(NextHop),
}

/// Reads the address.
pub(crate) fn parse(body: &[u8]) -> Result<NextHop, NextHopError> {
    let raw = four_octets(body).map_err(|error| NextHopError::Length(error.found))?;
    let next_hop = NextHop::V4(Ipv4Addr::from(raw));
    // RFC 4271 §6.3: syntactically wrong addresses make the attribute malformed.
    if next_hop.is_host() { Ok(next_hop) } else { Err(NextHopError::NotAHost(next_hop)) }
}
