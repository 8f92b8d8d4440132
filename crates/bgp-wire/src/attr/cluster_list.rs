//! CLUSTER_LIST, path attribute type 10: optional, non-transitive (RFC 4456 §8).

use std::net::Ipv4Addr;

use super::{LengthError, elements};

/// Names a cluster of route reflectors (RFC 4456 §7).
pub type ClusterId = Ipv4Addr;

/// Reads the clusters that the route was reflected through, latest first (RFC 7606 §7.10).
pub(crate) fn parse(body: &[u8]) -> Result<Vec<ClusterId>, LengthError> {
    elements(body, "a multiple of 4, not 0", ClusterId::from)
}
