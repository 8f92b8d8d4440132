//! LOCAL_PREF, path attribute type 5: well-known, within an AS only, four octets (RFC 4271 §5.1.5).

use super::{LengthError, four_octets};

/// Reads the preference (RFC 7606 §7.5).
pub(crate) fn parse(body: &[u8]) -> Result<u32, LengthError> {
    four_octets(body)
}
