//! Path attributes (RFC 4271 §4.3, §5), one file each, and the set of them that a route carries.

mod aggregator;
mod as4;
mod as_path;
pub(crate) mod atomic_aggregate;
pub(crate) mod cluster_list;
pub(crate) mod communities;
pub(crate) mod ext_communities;
mod flags;
pub(crate) mod large_communities;
pub(crate) mod local_pref;
pub(crate) mod med;
pub(crate) mod mp_reach;
pub(crate) mod mp_unreach;
pub(crate) mod next_hop;
pub(crate) mod only_to_customer;
mod origin;
pub(crate) mod originator_id;
mod packed;
mod set;
mod tunnel_encap;

pub use aggregator::{Aggregator, AggregatorError};
pub use as_path::{AsPath, AsPathError, Asns, Segment, SegmentKind};
pub use cluster_list::ClusterId;
pub use communities::Community;
pub use ext_communities::ExtCommunity;
pub use flags::{AttrCode, AttrFlags, RawAttr};
pub use large_communities::LargeCommunity;
pub use mp_reach::MpReachError;
pub use mp_unreach::MpUnreachError;
pub use next_hop::NextHopError;
pub use only_to_customer::OnlyToCustomerError;
pub use origin::{Origin, OriginError};
pub use set::{Attributes, Partial};
pub use tunnel_encap::{SubTlv, Tunnel, TunnelEncap, TunnelEncapError};

pub(crate) use as4::{merge_aggregator, merge_path};
pub(crate) use flags::{Category, emit_header};

use crate::cursor::Cursor;

/// An attribute whose value has another length than its type prescribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found} octets long, expected {expected}")]
pub struct LengthError {
    /// Octets found.
    pub found: usize,
    /// What the specification asks for.
    pub expected: &'static str,
}

/// Reads a value of exactly four octets.
pub(crate) fn four_octets(body: &[u8]) -> Result<u32, LengthError> {
    let octets = body.try_into().map_err(|_| LengthError { found: body.len(), expected: "4" })?;
    Ok(u32::from_be_bytes(octets))
}

/// Reads a list of `N`-octet elements; an empty one is malformed (RFC 7606 §7.8, §7.10, §7.14; RFC 8092 §5).
pub(crate) fn elements<const N: usize, T>(
    body: &[u8],
    expected: &'static str,
    element: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, LengthError> {
    if body.is_empty() || !body.len().is_multiple_of(N) {
        return Err(LengthError { found: body.len(), expected });
    }
    let mut cursor = Cursor::new(body);
    let mut list = Vec::with_capacity(body.len() / N);
    while let Some(octets) = cursor.array::<N>() {
        list.push(element(octets));
    }
    Ok(list)
}
