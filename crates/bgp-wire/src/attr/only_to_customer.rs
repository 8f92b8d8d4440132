//! ONLY_TO_CUSTOMER, path attribute type 35: optional, transitive, four octets (RFC 9234 §5).
//!
//! The attribute is read, checked and carried; roles, which would act on it, are not negotiated.

use net_types::Asn;

use super::four_octets;

/// Why an ONLY_TO_CUSTOMER is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OnlyToCustomerError {
    /// Not four octets.
    #[error("{0} octets long, expected 4 (RFC 9234 §5)")]
    Length(usize),
    /// AS 0.
    #[error("its AS is 0 (RFC 7607 §2)")]
    AsZero,
}

/// Reads the AS that set it.
pub(crate) fn parse(body: &[u8]) -> Result<Asn, OnlyToCustomerError> {
    let raw = four_octets(body).map_err(|error| OnlyToCustomerError::Length(error.found))?;
    Asn::try_from(raw).map_err(|_| OnlyToCustomerError::AsZero)
}
