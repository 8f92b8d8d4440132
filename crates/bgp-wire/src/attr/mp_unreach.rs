//! MP_UNREACH_NLRI, path attribute type 15: optional, non-transitive (RFC 4760 §4).

use bytes::BufMut;
use net_types::{Afi, Family, Safi};

use crate::{Negotiated, NlriError, cursor::Cursor, nlri};

/// What the attribute withdraws.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MpUnreach {
    /// Prefixes of a family that the session carries; none mean End-of-RIB where nothing else is in the UPDATE (RFC 4724 §2).
    Known { family: Family, list: nlri::List },
    /// Anything else.
    Foreign { afi: Afi, safi: Safi },
}

/// Why an MP_UNREACH_NLRI cannot be read (RFC 7606 §7.12).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MpUnreachError {
    /// Ends before the prefixes start.
    #[error("{0} octets long, expected at least 3 (RFC 7606 §7.12)")]
    Truncated(usize),
    /// The prefixes.
    #[error(transparent)]
    Nlri(#[from] NlriError),
}

/// Octets before the prefixes.
pub(crate) const FIXED_OCTETS: usize = 3;

/// Reads the attribute's value, as far as it is about a family that the session carries.
pub(crate) fn parse(body: &[u8], negotiated: &Negotiated) -> Result<MpUnreach, MpUnreachError> {
    let short = || MpUnreachError::Truncated(body.len());
    let mut cursor = Cursor::new(body);
    let afi = Afi::from(cursor.u16().ok_or_else(short)?);
    let safi = Safi::from(cursor.u8().ok_or_else(short)?);
    let Some(family) = Family::from_codes(afi, safi).filter(|f| negotiated.families.contains(*f)) else {
        return Ok(MpUnreach::Foreign { afi, safi });
    };
    let list = nlri::parse_withdrawn(family, negotiated.add_path_in.contains(family), cursor.rest())?;
    Ok(MpUnreach::Known { family, list })
}

/// Writes all but the prefixes.
pub(crate) fn emit_fixed(family: Family, out: &mut impl BufMut) {
    out.put_u16(family.afi().code());
    out.put_u8(family.safi().code());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_octets_are_the_least() {
        let families = Family::ALL.into_iter().collect();
        let all = &Negotiated { families, ..Negotiated::base(crate::PeerKind::External) };
        assert_eq!(parse(&[0, 2], all), Err(MpUnreachError::Truncated(2)));
        assert_eq!(
            parse(&[0, 2, 1], all),
            Ok(MpUnreach::Known { family: Family::Ipv6Unicast, list: nlri::List::default() })
        );
        assert_eq!(parse(&[0, 1, 4], all), Ok(MpUnreach::Foreign { afi: Afi::Ipv4, safi: Safi::Other(4) }));
    }
}
