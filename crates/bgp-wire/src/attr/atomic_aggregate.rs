//! ATOMIC_AGGREGATE, path attribute type 6: well-known, discretionary, no value (RFC 4271 §5.1.6).

use super::LengthError;

/// Checks that there is no value (RFC 7606 §7.6).
pub(crate) fn parse(body: &[u8]) -> Result<(), LengthError> {
    if body.is_empty() { Ok(()) } else { Err(LengthError { found: body.len(), expected: "0" }) }
}
