//! All the attributes of a route but its next hop, which belongs to the prefixes beside it.

use std::net::Ipv4Addr;

use bytes::BufMut;
use net_types::Asn;

use super::{
    Aggregator, AsPath, AttrCode, AttrFlags, Category, ClusterId, Community, ExtCommunity, LargeCommunity, Origin,
    RawAttr, TunnelEncap, emit_header, flags::Category::WellKnown,
};
use crate::{Negotiated, PeerKind};

/// What LOCAL_PREF is where nobody set one.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// Known attributes that arrived with the Partial bit, which is never cleared again (RFC 4271 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Partial(u8);

impl Partial {
    fn bit(code: AttrCode) -> u8 {
        match code {
            AttrCode::Aggregator => 1,
            AttrCode::Communities => 2,
            AttrCode::ExtCommunities => 4,
            AttrCode::LargeCommunities => 8,
            AttrCode::OnlyToCustomer => 16,
            AttrCode::TunnelEncap => 32,
            _ => 0, // the bit means something on optional transitive attributes only
        }
    }

    /// Notes that `code` is partial.
    pub fn insert(&mut self, code: AttrCode) {
        self.0 |= Self::bit(code);
    }

    /// Whether `code` is partial.
    pub fn contains(self, code: AttrCode) -> bool {
        self.0 & Self::bit(code) != 0
    }
}

/// The attributes that the routes of one UPDATE share.
///
/// Lists are in wire order. The next hop is beside the prefixes ([`Announcement`](crate::Announcement)), since one
/// UPDATE may carry two families.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH, put together with AS4_PATH where the peer speaks two octets.
    pub as_path: AsPath,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF; always present on what an internal peer sent, never on what an external one did.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR, put together with AS4_AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES.
    pub communities: Vec<Community>,
    /// ORIGINATOR_ID.
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST.
    pub cluster_list: Vec<ClusterId>,
    /// EXTENDED COMMUNITIES.
    pub ext_communities: Vec<ExtCommunity>,
    /// TUNNEL_ENCAPSULATION.
    pub tunnel_encap: Option<TunnelEncap>,
    /// LARGE_COMMUNITY.
    pub large_communities: Vec<LargeCommunity>,
    /// ONLY_TO_CUSTOMER.
    pub only_to_customer: Option<Asn>,
    /// Optional transitive attributes that we do not know, to be passed on.
    pub unknown: Vec<RawAttr>,
    /// Which of the above arrived with the Partial bit.
    pub partial: Partial,
}

impl Attributes {
    /// Writes the attributes in the order of their type codes (RFC 4271 §5), `next_hop` as NEXT_HOP if given.
    ///
    /// What may not leave the AS is left out towards external peers: LOCAL_PREF (RFC 4271 §5.1.5), ORIGINATOR_ID and
    /// CLUSTER_LIST (RFC 4456 §8). Internal peers and those in our confederation (RFC 5065 §5.2) always get a LOCAL_PREF.
    pub(crate) fn emit(&self, next_hop: Option<Ipv4Addr>, negotiated: &Negotiated, out: &mut Vec<u8>) {
        let internal = negotiated.peer_kind == PeerKind::Internal;
        let within = negotiated.peer_kind != PeerKind::External;
        let preference = within.then(|| self.local_pref.unwrap_or(DEFAULT_LOCAL_PREF));
        self.write(next_hop, negotiated.four_octet_as, internal, preference, out);
    }

    /// Writes them with AS numbers of `four` octets or two, with what stays within the AS or without.
    pub(super) fn write(
        &self,
        next_hop: Option<Ipv4Addr>,
        four: bool,
        internal: bool,
        local_pref: Option<u32>,
        out: &mut Vec<u8>,
    ) {
        emit_header(WellKnown.flags(), AttrCode::Origin.code(), 1, out);
        self.origin.emit(out);
        emit_header(WellKnown.flags(), AttrCode::AsPath.code(), self.as_path.octets(four), out);
        self.as_path.emit(four, out);
        if let Some(address) = next_hop {
            self.put(AttrCode::NextHop, &address.octets(), out);
        }
        if let Some(med) = self.med {
            self.put(AttrCode::Med, &med.to_be_bytes(), out);
        }
        if let Some(preference) = local_pref {
            self.put(AttrCode::LocalPref, &preference.to_be_bytes(), out);
        }
        if self.atomic_aggregate {
            self.put(AttrCode::AtomicAggregate, &[], out);
        }
        if let Some(aggregator) = &self.aggregator {
            self.header(AttrCode::Aggregator, Aggregator::octets(four), out);
            aggregator.emit(four, out);
        }
        self.list(AttrCode::Communities, &self.communities, |c| c.0.to_be_bytes(), out);
        if internal {
            if let Some(id) = self.originator_id {
                self.put(AttrCode::OriginatorId, &id.octets(), out);
            }
            self.list(AttrCode::ClusterList, &self.cluster_list, Ipv4Addr::octets, out);
        }
        self.list(AttrCode::ExtCommunities, &self.ext_communities, |c| c.0, out);
        if !four {
            self.emit_as4(out);
        }
        let mut unknown = self.unknown.iter().peekable();
        while let Some(attr) = unknown.next_if(|attr| attr.code < AttrCode::TunnelEncap.code()) {
            attr.emit(out);
        }
        if let Some(tunnels) = &self.tunnel_encap {
            self.put(AttrCode::TunnelEncap, tunnels.octets(), out);
        }
        while let Some(attr) = unknown.next_if(|attr| attr.code < AttrCode::LargeCommunities.code()) {
            attr.emit(out);
        }
        if !self.large_communities.is_empty() {
            self.header(AttrCode::LargeCommunities, self.large_communities.len() * 12, out);
            for community in &self.large_communities {
                out.put_u32(community.global);
                out.put_u32(community.local1);
                out.put_u32(community.local2);
            }
        }
        if let Some(asn) = self.only_to_customer {
            self.put(AttrCode::OnlyToCustomer, &asn.get().to_be_bytes(), out);
        }
        unknown.for_each(|attr| attr.emit(out));
    }

    /// AS4_PATH and AS4_AGGREGATOR, where two octets lost something (RFC 6793 §4.2.2).
    fn emit_as4(&self, out: &mut Vec<u8>) {
        if !self.as_path.fits_two_octets() {
            let wide = self.as_path.without_confederation();
            if !wide.is_empty() {
                self.header(AttrCode::As4Path, wide.octets(true), out);
                wide.emit(true, out);
            }
        }
        if let Some(aggregator) = self.aggregator.filter(|a| u16::try_from(a.asn.get()).is_err()) {
            self.header(AttrCode::As4Aggregator, Aggregator::octets(true), out);
            aggregator.emit(true, out);
        }
    }

    fn header(&self, code: AttrCode, octets: usize, out: &mut Vec<u8>) {
        let flags = code.category().map_or(0, Category::flags);
        let partial = if self.partial.contains(code) { AttrFlags::PARTIAL } else { 0 };
        emit_header(flags | partial, code.code(), octets, out);
    }

    fn put(&self, code: AttrCode, value: &[u8], out: &mut Vec<u8>) {
        self.header(code, value.len(), out);
        out.put_slice(value);
    }

    /// An empty list is no attribute: RFC 7606 makes an empty one malformed.
    fn list<T, const N: usize>(&self, code: AttrCode, list: &[T], octets: impl Fn(&T) -> [u8; N], out: &mut Vec<u8>) {
        if list.is_empty() {
            return;
        }
        self.header(code, list.len() * N, out);
        for element in list {
            out.put_slice(&octets(element));
        }
    }
}
