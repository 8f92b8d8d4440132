//! What a route-map's clauses change.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use bgp_wire::{Aggregator, AsPath, Community, ExtCommunity, LargeCommunity, NextHop, Origin, attr::Segment};
use net_types::Asn;

use super::CommunityList;
use crate::rib::PathAttrs;

/// How a number is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjust {
    /// Becomes this.
    To(u32),
    /// Grows by this, up to the greatest number.
    Add(u32),
    /// Shrinks by this, down to zero.
    Subtract(u32),
}

impl Adjust {
    fn apply(self, old: u32) -> u32 {
        match self {
            Self::To(new) => new,
            Self::Add(more) => old.saturating_add(more),
            Self::Subtract(less) => old.saturating_sub(less),
        }
    }
}

/// A change to a route.
#[derive(Clone, Debug, PartialEq)]
pub enum Set {
    /// LOCAL_PREF.
    LocalPreference(Adjust),
    /// MED.
    Metric(Adjust),
    /// Weight, which never leaves this router.
    Weight(u32),
    /// ORIGIN.
    Origin(Origin),
    /// These ASes in front of the path, in this order.
    Prepend(Vec<Asn>),
    /// The leftmost AS of the path again in front of it, so many times.
    PrependLast(u8),
    /// These ASes off the path, wherever they are.
    Exclude(Vec<Asn>),
    /// An AS in the place of another wherever that is on the path, or of every one.
    Replace {
        /// This one, or every one.
        target: Option<Asn>,
        /// What stands there then.
        with: Asn,
    },
    /// COMMUNITIES.
    Communities(CommunityChange<Community>),
    /// LARGE_COMMUNITY.
    LargeCommunities(CommunityChange<LargeCommunity>),
    /// EXTENDED COMMUNITIES.
    ExtCommunities(ExtCommunityChange),
    /// Communities that the list names go.
    DeleteCommunities(Arc<CommunityList<Community>>),
    /// Large communities that the list names go.
    DeleteLargeCommunities(Arc<CommunityList<LargeCommunity>>),
    /// Another next hop.
    NextHop(IpAddr),
    /// The link-local address beside an IPv6 next hop (RFC 2545 §3).
    NextHopLinkLocal(Ipv6Addr),
    /// The neighbor's address on what comes from it, ours on what goes to it.
    NextHopPeerAddress,
    /// On the way in: the global IPv6 address is used, and not the link-local one beside it.
    NextHopPreferGlobal,
    /// The next hop stays as it came, even towards external neighbors.
    NextHopUnchanged,
    /// AGGREGATOR.
    Aggregator(Aggregator),
    /// ATOMIC_AGGREGATE.
    AtomicAggregate,
    /// ORIGINATOR_ID.
    OriginatorId(Ipv4Addr),
    /// The tag, which never leaves this router.
    Tag(u32),
    /// The administrative distance it is installed with.
    Distance(u8),
    /// The kernel table it is installed in.
    Table(u32),
    /// The source address that our own packets to it get.
    Source(IpAddr),
}

/// How a list of communities is changed.
#[derive(Clone, Debug, PartialEq)]
pub enum CommunityChange<C> {
    /// These instead of those there; none of them removes the attribute.
    Replace(Vec<C>),
    /// These besides those there.
    Add(Vec<C>),
}

impl<C: Copy + Ord> CommunityChange<C> {
    fn apply(&self, list: &mut Vec<C>) {
        match self {
            Self::Replace(new) => list.clone_from(new),
            Self::Add(more) => list.extend(more),
        }
        list.sort_unstable();
        list.dedup();
    }
}

/// How extended communities are changed: each kind by itself, as FRR has it.
#[derive(Clone, Debug, PartialEq)]
pub enum ExtCommunityChange {
    /// All go.
    Clear,
    /// These route targets instead of those there.
    RouteTargets(Vec<ExtCommunity>),
    /// These sites of origin instead of those there.
    SitesOfOrigin(Vec<ExtCommunity>),
    /// This link bandwidth instead of that there.
    Bandwidth(ExtCommunity),
    /// A link bandwidth like this, which sums up what the paths name that share the packets, instead of that there; no
    /// change where none of them names any.
    CumulativeBandwidth(ExtCommunity),
    /// A link bandwidth like this of one megabit per second for each of those paths.
    BandwidthPerPath(ExtCommunity),
}

/// The paths that share the packets of a route that goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Sharing {
    /// How many; 0 where that is not known.
    pub(crate) paths: u8,
    /// The sum of the bandwidths that they name, in octets a second.
    pub(crate) octets: u64,
    /// Their shares follow these bandwidths.
    pub(crate) weighted: bool,
}

/// One megabit per second in octets.
const MEGABIT: u64 = 125_000;

impl ExtCommunityChange {
    fn apply(&self, list: &mut Vec<ExtCommunity>, sharing: Sharing) {
        let made;
        let (sub_type, new): (u8, &[ExtCommunity]) = match self {
            Self::Clear => return list.clear(),
            Self::RouteTargets(new) => (2, new),  // RFC 4360 §4
            Self::SitesOfOrigin(new) => (3, new), // RFC 4360 §5
            Self::Bandwidth(new) => (4, std::slice::from_ref(new)),
            Self::CumulativeBandwidth(_) if sharing.octets == 0 => return,
            Self::BandwidthPerPath(_) if sharing.paths == 0 => return,
            Self::CumulativeBandwidth(like) => {
                made = like.with_bandwidth(sharing.octets);
                (4, std::slice::from_ref(&made))
            }
            Self::BandwidthPerPath(like) => {
                made = like.with_bandwidth(MEGABIT * u64::from(sharing.paths));
                (4, std::slice::from_ref(&made))
            }
        };
        // Types 0, 1 and 2 are the two-octet AS, IPv4 and four-octet AS forms; 0x40 says that it is not transitive.
        list.retain(|community| !(community.0[0] & !0x40 <= 2 && community.0[1] == sub_type));
        list.extend(new);
        list.sort_unstable();
        list.dedup();
    }
}

/// Which way a route goes that a policy changes, and by which neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From this address.
    In(IpAddr),
    /// From ourselves, where routes without a preference have this one.
    Own(u32),
    /// To a neighbor; these share its packets here.
    Out(Sharing),
}

impl Way {
    fn sharing(self) -> Sharing {
        match self {
            Self::In(_) | Self::Own(_) => Sharing::default(),
            Self::Out(sharing) => sharing,
        }
    }
}

/// What a policy wants the next hop to be on the way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum NextHopRule {
    /// Nothing special.
    #[default]
    Usual,
    /// As it stands in the attributes now.
    Given,
    /// Ours on the session.
    Ourselves,
    /// As it came.
    Unchanged,
}

impl Set {
    /// Whether what it does depends on the paths that share the packets.
    pub(crate) fn concerns_sharing(&self) -> bool {
        use ExtCommunityChange::{BandwidthPerPath, CumulativeBandwidth};
        matches!(self, Self::ExtCommunities(CumulativeBandwidth(_) | BandwidthPerPath(_)))
    }

    /// Changes `attrs`; what is to become of the next hop on the way out, if that is what it is about.
    pub(crate) fn apply(&self, attrs: &mut PathAttrs, way: Way, next_hop: &mut NextHopRule) {
        let attributes = &mut attrs.attributes;
        match self {
            Self::LocalPreference(adjust) => {
                // As in FRR, what has none counts from 0 and not from the default, unless it is ours.
                let none = if let Way::Own(default) = way { default } else { 0 };
                attributes.local_pref = Some(adjust.apply(attributes.local_pref.unwrap_or(none)));
            }
            Self::Metric(adjust) => attributes.med = Some(adjust.apply(attributes.med.unwrap_or(0))),
            Self::Weight(weight) => attrs.weight = *weight,
            Self::Origin(origin) => attributes.origin = *origin,
            Self::Prepend(asns) => asns.iter().rev().for_each(|asn| attributes.as_path.prepend(*asn, 1)),
            Self::PrependLast(times) => {
                if let Some(last) = attributes.as_path.first() {
                    attributes.as_path.prepend(last, usize::from(*times));
                }
            }
            Self::Exclude(asns) => attributes.as_path = without(&attributes.as_path, asns),
            Self::Replace { target, with } => {
                attributes.as_path.map(|asn| Some(if target.is_none_or(|target| target == asn) { *with } else { asn }));
            }
            Self::Communities(change) => change.apply(&mut attributes.communities),
            Self::LargeCommunities(change) => change.apply(&mut attributes.large_communities),
            Self::ExtCommunities(change) => change.apply(&mut attributes.ext_communities, way.sharing()),
            Self::DeleteCommunities(list) => attributes.communities.retain(|community| !list.names(community)),
            Self::DeleteLargeCommunities(list) => {
                attributes.large_communities.retain(|community| !list.names(community));
            }
            // As in FRR, an IPv4 next hop is nothing to an IPv6 route, and the other way round.
            Self::NextHop(address) if address.is_ipv4() != attrs.next_hop.address().is_ipv4() => {}
            Self::NextHop(address) => {
                attrs.next_hop = match (*address, attrs.next_hop) {
                    // A link-local address that a change before this one gave stays beside it.
                    (IpAddr::V6(global), NextHop::V6 { link_local, .. }) if *next_hop == NextHopRule::Given => {
                        NextHop::V6 { global, link_local }
                    }
                    (address, _) => address.into(),
                };
                attrs.scope = 0;
                *next_hop = NextHopRule::Given;
            }
            Self::NextHopLinkLocal(address) => {
                if let NextHop::V6 { link_local, .. } = &mut attrs.next_hop {
                    *link_local = Some(*address);
                    *next_hop = NextHopRule::Given;
                }
            }
            Self::NextHopPreferGlobal => {
                if let (NextHop::V6 { link_local, global }, Way::In(_)) = (&mut attrs.next_hop, way)
                    && !global.is_unicast_link_local()
                {
                    *link_local = None;
                }
            }
            Self::NextHopPeerAddress => match way {
                // An address of the other family says nothing about where packets go.
                Way::In(peer) if peer.is_ipv4() == attrs.next_hop.address().is_ipv4() => attrs.next_hop = peer.into(),
                Way::In(_) | Way::Own(_) => {}
                Way::Out(_) => *next_hop = NextHopRule::Ourselves,
            },
            Self::NextHopUnchanged => *next_hop = NextHopRule::Unchanged,
            Self::Aggregator(aggregator) => attributes.aggregator = Some(*aggregator),
            Self::AtomicAggregate => attributes.atomic_aggregate = true,
            Self::OriginatorId(id) => attributes.originator_id = Some(*id),
            Self::Tag(tag) => attrs.install.tag = *tag,
            Self::Distance(distance) => attrs.install.distance = Some(*distance),
            Self::Table(table) => attrs.install.table = Some(*table),
            Self::Source(address) => attrs.install.source = Some(*address),
        }
    }
}

/// The path without any of `asns`.
fn without(path: &AsPath, asns: &[Asn]) -> AsPath {
    let kept = path.segments().iter().map(|Segment { kind, asns: numbers }| Segment {
        kind: *kind,
        asns: numbers.iter().copied().filter(|asn| !asns.contains(asn)).collect(),
    });
    AsPath::from_segments(kept)
}

#[cfg(test)]
mod tests {
    use bgp_wire::Attributes;

    use super::*;

    fn attrs() -> PathAttrs {
        PathAttrs {
            attributes: Attributes {
                as_path: AsPath::sequence([1, 2, 3, 2].map(Asn::literal)),
                communities: vec![Community(5), Community(6)],
                ..Attributes::default()
            },
            next_hop: "2001:db8::7".parse::<IpAddr>().unwrap().into(),
            scope: 0,
            weight: 0,
            install: Default::default(),
        }
    }

    fn apply(sets: &[Set], way: Way) -> (PathAttrs, NextHopRule) {
        let (mut attrs, mut rule) = (attrs(), NextHopRule::Usual);
        sets.iter().for_each(|set| set.apply(&mut attrs, way, &mut rule));
        (attrs, rule)
    }

    #[test]
    fn excluded_ases_leave_the_path_and_empty_segments_go() {
        let (changed, _) = apply(&[Set::Exclude(vec![Asn::literal(2)])], Way::Out(Sharing::default()));
        assert_eq!(changed.attributes.as_path.to_string(), "1 3");
        let (changed, _) = apply(&[Set::Exclude([1, 2, 3].map(Asn::literal).into())], Way::Out(Sharing::default()));
        assert!(changed.attributes.as_path.is_empty());
    }

    #[test]
    fn our_as_stands_for_one_or_for_all() {
        let path = |target| {
            let replace = Set::Replace { target, with: Asn::literal(9) };
            apply(&[replace], Way::Out(Sharing::default())).0.attributes.as_path.to_string()
        };
        assert_eq!(path(Some(Asn::literal(2))), "1 9 3 9");
        assert_eq!(path(None), "9 9 9 9");
    }

    #[test]
    fn the_preference_of_our_own_routes_counts_from_the_default() {
        let set = [Set::LocalPreference(Adjust::Add(10))];
        assert_eq!(apply(&set, Way::Own(100)).0.attributes.local_pref, Some(110));
        assert_eq!(apply(&set, Way::Out(Sharing::default())).0.attributes.local_pref, Some(10));
    }

    #[test]
    fn deletion_and_addition_happen_in_the_order_given() {
        let named = super::super::CommunityTest::All(vec![Community(5)]);
        let list = Arc::new(CommunityList::new("l", [(super::super::Action::Permit, named)]));
        let add = Set::Communities(CommunityChange::Add(vec![Community(5)]));
        let delete = Set::DeleteCommunities(list);
        let communities = |sets: &[Set]| apply(sets, Way::Out(Sharing::default())).0.attributes.communities;
        assert_eq!(communities(&[delete.clone(), add.clone()]), [Community(5), Community(6)]);
        assert_eq!(communities(&[add, delete]), [Community(6)]);
    }

    #[test]
    fn each_kind_of_extended_community_replaces_its_own() {
        let rt = |number| ExtCommunity([0, 2, 0xfd, 0xe8, 0, 0, 0, number]);
        let soo = ExtCommunity([1, 3, 192, 0, 2, 1, 0, 7]);
        let mut list = vec![rt(1), soo];
        ExtCommunityChange::RouteTargets(vec![rt(2), rt(3)]).apply(&mut list, Sharing::default());
        assert_eq!(list, [rt(2), rt(3), soo]);
        ExtCommunityChange::Clear.apply(&mut list, Sharing::default());
        assert!(list.is_empty());
    }

    #[test]
    fn bandwidths_follow_the_paths_that_share() {
        let like = ExtCommunity::link_bandwidth(Asn::literal(65001), 0.0, true);
        let old = ExtCommunity::link_bandwidth(Asn::literal(65002), 9e6, true);
        let changed = |change: ExtCommunityChange, paths, octets| {
            let mut list = vec![old];
            change.apply(&mut list, Sharing { paths, octets, weighted: false });
            list.iter().map(|community| community.bandwidth().unwrap()).collect::<Vec<_>>()
        };
        let [sum, each] = [ExtCommunityChange::CumulativeBandwidth(like), ExtCommunityChange::BandwidthPerPath(like)];
        assert_eq!(changed(sum.clone(), 2, 50_000_000), [50_000_000]);
        assert_eq!(changed(sum, 2, 0), [9_000_000], "none names any");
        assert_eq!(changed(each.clone(), 3, 0), [375_000]);
        assert_eq!(changed(each, 0, 0), [9_000_000], "not known on the way in");
    }

    #[test]
    fn next_hops_are_given_taken_from_the_peer_or_left_alone() {
        let (peer, other): (IpAddr, IpAddr) = ("2001:db8::9".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let (changed, _) = apply(&[Set::NextHopPeerAddress], Way::In(peer));
        assert_eq!(changed.next_hop.address(), peer);
        assert_eq!(apply(&[Set::NextHopPeerAddress], Way::In(other)).0, attrs(), "another family");
        assert_eq!(apply(&[Set::NextHopPeerAddress], Way::Out(Sharing::default())).1, NextHopRule::Ourselves);
        assert_eq!(apply(&[Set::NextHopUnchanged], Way::Out(Sharing::default())).1, NextHopRule::Unchanged);
        let local = "fe80::1".parse().unwrap();
        let global = "2001:db8::7".parse().unwrap();
        let both = PathAttrs { next_hop: NextHop::V6 { global, link_local: Some(local) }, ..attrs() };
        let mut changed = both.clone();
        Set::NextHopPreferGlobal.apply(&mut changed, Way::In(peer), &mut NextHopRule::Usual);
        assert_eq!(changed.next_hop, NextHop::V6 { global, link_local: None });
        for sets in
            [[Set::NextHopLinkLocal(local), Set::NextHop(peer)], [Set::NextHop(peer), Set::NextHopLinkLocal(local)]]
        {
            let (changed, rule) = apply(&sets, Way::Out(Sharing::default()));
            let both = NextHop::V6 { global: "2001:db8::9".parse().unwrap(), link_local: Some(local) };
            assert_eq!((changed.next_hop, rule), (both, NextHopRule::Given));
        }
    }
}
