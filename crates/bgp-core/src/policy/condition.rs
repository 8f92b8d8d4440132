//! Conditions of a route-map's clauses.

use std::{net::IpAddr, sync::Arc};

use bgp_wire::{Community, ExtCommunity, LargeCommunity, Origin};
use net_types::{Asn, Family, Prefix};

use super::{AccessList, Action, AsPathList, CommunityList, Origins, PrefixList, Route};
use crate::{
    rib::{DEFAULT_LOCAL_PREF, LocalSource, PathAttrs},
    validation::ValidationState,
};

/// A condition on a route. A list that is named and not defined is an empty one, which no route passes.
#[derive(Clone, Debug, PartialEq)]
pub enum Match {
    /// The prefix is of this family and the list permits it. For an undefined list use [`PrefixList::undefined`]: it
    /// never matches.
    Prefix(Family, Arc<PrefixList>),
    /// The prefix is of this family and the list permits it.
    PrefixAccess(Family, Arc<AccessList>),
    /// The prefix is of this family and so many bits long.
    PrefixLength(Family, u8),
    /// The list permits the next hop as a host prefix.
    NextHop(Arc<PrefixList>),
    /// The same with an access-list.
    NextHopAccess(Arc<AccessList>),
    /// The next hop is this address.
    NextHopAddress(IpAddr),
    /// The list permits the AS path.
    AsPath(Arc<AsPathList>),
    /// The AS is on the path.
    AsPathContains(Asn),
    /// The route carries all of these communities.
    Communities(Vec<Community>),
    /// The list permits the route's communities; `exact` as `exact-match` has it.
    CommunityList {
        /// Which list.
        list: Arc<CommunityList<Community>>,
        /// No others may be there.
        exact: bool,
    },
    /// The list permits the route's large communities.
    LargeCommunityList {
        /// Which list.
        list: Arc<CommunityList<LargeCommunity>>,
        /// No others may be there.
        exact: bool,
    },
    /// The route carries all of these large communities.
    LargeCommunities(Vec<LargeCommunity>),
    /// The list permits the route's extended communities.
    ExtCommunityList(Arc<CommunityList<ExtCommunity>>),
    /// The route has this MED, where none is 0.
    Metric(u32),
    /// The route has this LOCAL_PREF, or the default.
    LocalPreference(u32),
    /// The route has this origin.
    Origin(Origin),
    /// It comes from, or goes to, this neighbor.
    Peer(IpAddr),
    /// It comes from ourselves (`match peer local`).
    PeerLocal,
    /// It was redistributed from there; `None` where it came by BGP.
    Source(Option<LocalSource>),
    /// It has this tag.
    Tag(u32),
    /// Its origin has this validation state (RFC 6811).
    Rpki(ValidationState),
}

impl Match {
    /// Whether the outcome may differ between two prefixes with the same attributes.
    pub(super) fn looks_at_prefix(&self) -> bool {
        matches!(self, Self::Prefix(..) | Self::PrefixAccess(..) | Self::PrefixLength(..) | Self::Rpki(_))
    }

    /// Whether `route`, with `attrs` as earlier clauses have left them, meets the condition.
    pub(super) fn holds(&self, route: &Route<'_>, attrs: &PathAttrs) -> bool {
        let Route { prefix, peer, source, origins, .. } = *route;
        let attributes = &attrs.attributes;
        let next_hop = || Prefix::host(attrs.next_hop.address());
        match self {
            Self::Prefix(family, list) => prefix.family() == *family && list.evaluate(prefix) == Action::Permit,
            Self::PrefixAccess(family, list) => prefix.family() == *family && list.evaluate(prefix) == Action::Permit,
            Self::PrefixLength(family, bits) => prefix.family() == *family && prefix.bits() == *bits,
            Self::NextHop(list) => list.evaluate(&next_hop()) == Action::Permit,
            Self::NextHopAccess(list) => list.evaluate(&next_hop()) == Action::Permit,
            Self::NextHopAddress(address) => attrs.next_hop.address() == *address,
            Self::AsPath(list) => list.evaluate(&attributes.as_path.to_string()) == Action::Permit,
            Self::AsPathContains(asn) => attributes.as_path.contains(*asn),
            Self::Communities(wanted) => wanted.iter().all(|community| attributes.communities.contains(community)),
            Self::CommunityList { list, exact: false } => list.permits(&attributes.communities),
            Self::CommunityList { list, exact: true } => list.permits_exactly(&attributes.communities),
            Self::LargeCommunityList { list, exact: false } => list.permits(&attributes.large_communities),
            Self::LargeCommunityList { list, exact: true } => list.permits_exactly(&attributes.large_communities),
            Self::LargeCommunities(wanted) => wanted.iter().all(|one| attributes.large_communities.contains(one)),
            Self::ExtCommunityList(list) => list.permits(&attributes.ext_communities),
            Self::Metric(metric) => attributes.med.unwrap_or(0) == *metric,
            Self::LocalPreference(preference) => attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF) == *preference,
            Self::Origin(origin) => attributes.origin == *origin,
            Self::Peer(address) => peer == *address,
            Self::PeerLocal => peer.is_unspecified(),
            Self::Source(wanted) => source == *wanted,
            Self::Tag(tag) => attrs.install.tag == *tag,
            Self::Rpki(state) => {
                // Without payloads nothing is known about anybody, as in FRR.
                origins.is_some_and(|Origins { roas, own_as }| {
                    !roas.is_empty() && roas.validate(prefix, &attributes.as_path, own_as) == *state
                })
            }
        }
    }
}
