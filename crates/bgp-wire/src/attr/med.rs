//! MULTI_EXIT_DISC, path attribute type 4: optional, non-transitive, four octets (RFC 4271 §5.1.4).

use super::{LengthError, four_octets};

/// Reads the metric (RFC 7606 §7.4).
pub(crate) fn parse(body: &[u8]) -> Result<u32, LengthError> {
    four_octets(body)
}
