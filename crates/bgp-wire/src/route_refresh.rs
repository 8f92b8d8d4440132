//! ROUTE-REFRESH (RFC 2918) and its demarcation (RFC 7313).

use bytes::{BufMut, BytesMut};
use net_types::{Afi, Family, Safi};

use crate::{
    MessageType, PrefixFilters,
    cursor::Cursor,
    header,
    notification::{HeaderCode, Notification, NotificationCode, RouteRefreshCode},
};

/// What a ROUTE-REFRESH is for (RFC 7313 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefreshKind {
    /// 0: send it all again.
    Request,
    /// 1: it begins (BoRR).
    Begin,
    /// 2: it has ended (EoRR).
    End,
    /// Any other; to be ignored.
    Other(u8),
}

/// One ROUTE-REFRESH message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteRefresh {
    /// Address family.
    pub afi: Afi,
    /// What it is for.
    pub kind: RefreshKind,
    /// Subsequent address family.
    pub safi: Safi,
    /// What a request asks us to keep back (RFC 5291), of a family that we know.
    pub filters: Option<PrefixFilters>,
}

/// Why a ROUTE-REFRESH cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteRefreshError {
    /// Too short to name a family.
    #[error("ROUTE-REFRESH with a body of {0} octets, expected 4 (RFC 2918 §3)")]
    Short(usize),
    /// BoRR and EoRR have nothing behind the family.
    #[error("ROUTE-REFRESH subtype {subtype} of {found} octets, expected 4 (RFC 7313 §5)")]
    Length {
        /// 1 or 2.
        subtype: u8,
        /// Octets of body.
        found: usize,
        /// The whole message, which the NOTIFICATION returns.
        message: Vec<u8>,
    },
}

impl RouteRefreshError {
    /// The NOTIFICATION that the peer gets.
    pub fn notification(&self) -> Notification {
        match self {
            Self::Short(body) => {
                let octets = u16::try_from(body + header::HEADER_OCTETS).unwrap_or(u16::MAX);
                Notification::new(NotificationCode::Header(HeaderCode::BadMessageLength), octets.to_be_bytes().to_vec())
            }
            Self::Length { message, .. } => Notification::new(
                NotificationCode::RouteRefresh(RouteRefreshCode::InvalidMessageLength),
                message.clone(),
            ),
        }
    }
}

impl RouteRefresh {
    /// A request for all of `family`.
    pub fn request(family: Family) -> Self {
        Self { afi: family.afi(), kind: RefreshKind::Request, safi: family.safi(), filters: None }
    }

    /// The family, if we carry it.
    pub fn family(&self) -> Option<Family> {
        Family::from_codes(self.afi, self.safi)
    }

    /// Reads the body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, RouteRefreshError> {
        let short = || RouteRefreshError::Short(body.len());
        let mut cursor = Cursor::new(body);
        let afi = Afi::from(cursor.u16().ok_or_else(short)?);
        let subtype = cursor.u8().ok_or_else(short)?;
        let safi = Safi::from(cursor.u8().ok_or_else(short)?);
        let kind = match subtype {
            0 => RefreshKind::Request,
            1 => RefreshKind::Begin,
            2 => RefreshKind::End,
            other => RefreshKind::Other(other),
        };
        if matches!(kind, RefreshKind::Begin | RefreshKind::End) && !cursor.is_empty() {
            let mut message = BytesMut::new();
            header::begin(&mut message, MessageType::RouteRefresh);
            message.put_slice(body);
            header::finish(&mut message, 0);
            return Err(RouteRefreshError::Length { subtype, found: body.len(), message: message.to_vec() });
        }
        let family = Family::from_codes(afi, safi).filter(|_| kind == RefreshKind::Request);
        let filters = family.and_then(|family| PrefixFilters::parse(cursor.rest(), family));
        Ok(Self { afi, kind, safi, filters })
    }

    pub(crate) fn emit(&self, out: &mut BytesMut) {
        out.put_u16(self.afi.code());
        out.put_u8(match self.kind {
            RefreshKind::Request => 0,
            RefreshKind::Begin => 1,
            RefreshKind::End => 2,
            RefreshKind::Other(other) => other,
        });
        out.put_u8(self.safi.code());
        if let Some(filters) = &self.filters {
            filters.emit(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demarcation_has_an_exact_length_and_requests_may_carry_filters() {
        let filters = Some(PrefixFilters { immediate: true, ..PrefixFilters::default() });
        let wanted = RouteRefresh { filters, ..RouteRefresh::request(Family::Ipv4Unicast) };
        assert_eq!(RouteRefresh::parse(&[0, 1, 0, 1, 1, 64, 0, 0]), Ok(wanted));
        assert_eq!(RouteRefresh::parse(&[0, 1, 0, 1]), Ok(RouteRefresh::request(Family::Ipv4Unicast)));
        let error = RouteRefresh::parse(&[0, 1, 1, 1, 9]).unwrap_err();
        let notification = error.notification();
        assert_eq!(notification.code(), NotificationCode::RouteRefresh(RouteRefreshCode::InvalidMessageLength));
        assert_eq!(notification.data().len(), 24);
        assert_eq!(RouteRefresh::parse(&[0, 1, 0]), Err(RouteRefreshError::Short(3)));
    }
}
