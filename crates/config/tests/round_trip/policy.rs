//! Lists and route-maps.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use config::model::{
    AccessTarget, Adjust, AliasedCommunity, Bandwidth, Community, CommunityChange, CommunityList, ExtCommunity,
    ExtCommunityChange, ExtCommunityTerm, LargeCommunity, Match, MatchPeer, Name, OnMatch, Origin, Pattern, PrefixList,
    PrefixListEntry, Protocol, RedistributeSource, RouteMapEntry, Rules, Set, Validation,
};
use net_types::Family;
use proptest::{
    collection::{btree_map, vec},
    option::of,
    prelude::*,
    sample::select,
};

use super::values::{action, asn, family, name, prefix_of, text, unicast};

pub(super) fn prefix_list(family: Family) -> impl Strategy<Value = PrefixList> {
    let entry =
        (action(), prefix_of(family), of(0u8..=128), of(0u8..=128)).prop_map(move |(action, prefix, ge, le)| {
            let (bits, max) = (prefix.bits(), family.max_bits());
            let ge = ge.map(|ge| ge.clamp(bits, max));
            PrefixListEntry { action, prefix, ge, le: le.map(|le| le.clamp(ge.unwrap_or(bits), max)) }
        });
    (of(text()), btree_map(1u32.., entry, 1..4)).prop_map(|(description, entries)| PrefixList { description, entries })
}

pub(super) fn change<C: Ord + std::fmt::Debug + Clone>(
    community: impl Strategy<Value = C> + Clone,
) -> impl Strategy<Value = CommunityChange<C>> {
    let some = proptest::collection::btree_set(community, 1..4).prop_map(|set| set.into_iter().collect::<Vec<C>>());
    prop_oneof![
        Just(CommunityChange::Clear),
        some.clone().prop_map(CommunityChange::Replace),
        some.prop_map(CommunityChange::Add)
    ]
}

pub(super) fn rules<R: std::fmt::Debug + Clone>(rule: impl Strategy<Value = R>) -> impl Strategy<Value = Rules<R>> {
    btree_map(1u32.., (action(), rule), 1..4).prop_map(Rules)
}

pub(super) fn pattern() -> impl Strategy<Value = Pattern> {
    "[_^]?[0-9]{1,5}(_| |\\.\\*|\\(1\\|2\\)|\\[0-9_\\])[0-9]{1,3}[_$]?".prop_map(|text| text.parse().unwrap())
}

pub(super) fn access_list(family: Family) -> impl Strategy<Value = Rules<AccessTarget>> {
    let wildcard = any::<(u32, u32)>().prop_map(|(address, wildcard)| AccessTarget::Wildcard {
        address: (address & !wildcard).into(),
        wildcard: wildcard.into(),
    });
    let plain = || {
        prop_oneof![
            Just(AccessTarget::Any),
            prefix_of(family).prop_map(AccessTarget::Within),
            prefix_of(family).prop_map(AccessTarget::Exactly),
        ]
    };
    let target = match family {
        Family::Ipv4Unicast | Family::Ipv4Vpn => prop_oneof![3 => plain(), 1 => wildcard].boxed(),
        Family::Ipv6Unicast | Family::Ipv6Vpn => plain().boxed(),
    };
    rules(target)
}

pub(super) fn community_list<C: Ord + Clone + std::fmt::Debug>(
    community: impl Strategy<Value = C>,
) -> impl Strategy<Value = CommunityList<C>> {
    let standard = proptest::collection::btree_set(community, 1..4).prop_map(|set| set.into_iter().collect());
    prop_oneof![rules(standard).prop_map(CommunityList::Standard), rules(pattern()).prop_map(CommunityList::Expanded)]
}

pub(super) fn community_lists<C: Ord + Clone + std::fmt::Debug>(
    community: impl Strategy<Value = C>,
) -> impl Strategy<Value = BTreeMap<Name, CommunityList<C>>> {
    btree_map(name(), community_list(community), 0..3)
}

pub(super) fn large_community() -> impl Strategy<Value = LargeCommunity> + Clone {
    any::<(u32, u32, u32)>().prop_map(|(a, b, c)| LargeCommunity(a, b, c))
}

pub(super) fn ext_community() -> impl Strategy<Value = ExtCommunity> + Clone {
    prop_oneof![
        any::<(u16, u32)>().prop_map(|(asn, number)| ExtCommunity::TwoOctetAs(asn, number)),
        any::<(Ipv4Addr, u16)>().prop_map(|(address, number)| ExtCommunity::Ipv4(address, number)),
        (65_536u32.., any::<u16>()).prop_map(|(asn, number)| ExtCommunity::FourOctetAs(asn, number)),
    ]
}

pub(super) fn ext_community_term() -> impl Strategy<Value = ExtCommunityTerm> {
    prop_oneof![
        ext_community().prop_map(ExtCommunityTerm::RouteTarget),
        ext_community().prop_map(ExtCommunityTerm::SiteOfOrigin)
    ]
}

pub(super) fn origin() -> impl Strategy<Value = Origin> {
    select(&[Origin::Igp, Origin::Egp, Origin::Incomplete][..])
}

pub(super) fn condition() -> impl Strategy<Value = Match> {
    let address = prop_oneof![
        (family(), name()).prop_map(|(family, name)| Match::Address(family, name)),
        (family(), name()).prop_map(|(family, name)| Match::AddressPrefixList(family, name)),
        (family(), 0u8..=32).prop_map(|(family, bits)| Match::AddressLength(family, bits)),
        (family(), name()).prop_map(|(family, name)| Match::NextHop(family, name)),
        unicast().prop_map(Match::NextHopAddress),
        (family(), name()).prop_map(|(family, name)| Match::NextHopPrefixList(family, name)),
    ];
    let sources = select(&RedistributeSource::ALL[..]).prop_map(Protocol::Redistributed);
    prop_oneof![
        4 => address,
        1 => name().prop_map(Match::AsPath),
        1 => (name(), any::<bool>()).prop_map(|(list, exact)| Match::Community { list, exact }),
        1 => (name(), any::<bool>()).prop_map(|(list, exact)| Match::LargeCommunity { list, exact }),
        1 => name().prop_map(Match::ExtCommunity),
        1 => any::<u32>().prop_map(Match::Metric),
        1 => any::<u32>().prop_map(Match::LocalPreference),
        1 => origin().prop_map(Match::Origin),
        1 => unicast().prop_map(|address| Match::Peer(MatchPeer::Address(address))),
        1 => Just(Match::Peer(MatchPeer::Local)),
        1 => prop_oneof![Just(Protocol::Bgp), sources].prop_map(Match::SourceProtocol),
        1 => (1u32..).prop_map(Match::Tag),
        1 => name().prop_map(Match::Alias),
        1 => select(&Validation::ALL[..]).prop_map(Match::Rpki),
    ]
}

pub(super) fn aliased_community() -> impl Strategy<Value = AliasedCommunity> {
    prop_oneof![
        any::<u32>().prop_map(|value| AliasedCommunity::Standard(Community(value))),
        large_community().prop_map(AliasedCommunity::Large),
    ]
}

pub(super) fn adjust() -> impl Strategy<Value = Adjust> {
    let number = any::<u32>();
    prop_oneof![number.prop_map(Adjust::To), number.prop_map(Adjust::Add), number.prop_map(Adjust::Subtract)]
}

pub(super) fn change_of_route() -> impl Strategy<Value = Set> {
    let values =
        || proptest::collection::btree_set(ext_community(), 1..4).prop_map(|set| set.into_iter().collect::<Vec<_>>());
    let extended = prop_oneof![
        Just(ExtCommunityChange::Clear),
        values().prop_map(ExtCommunityChange::RouteTarget),
        values().prop_map(ExtCommunityChange::SiteOfOrigin),
        (
            prop_oneof![
                (1u16..=25_600).prop_map(Bandwidth::Megabits),
                Just(Bandwidth::Cumulative),
                Just(Bandwidth::PerPath)
            ],
            any::<bool>()
        )
            .prop_map(|(bandwidth, non_transitive)| ExtCommunityChange::Bandwidth { bandwidth, non_transitive }),
    ];
    let next_hop = prop_oneof![
        unicast().prop_map(Set::NextHop),
        any::<Ipv6Addr>().prop_map(Set::NextHopLocal),
        family().prop_map(Set::NextHopPeerAddress),
        Just(Set::NextHopUnchanged),
        Just(Set::NextHopPreferGlobal),
    ];
    let here = prop_oneof![
        (1u32..).prop_map(Set::Tag),
        (1u8..).prop_map(Set::Distance),
        (1u32..).prop_map(Set::Table),
        unicast().prop_map(Set::Source),
        any::<u16>().prop_map(Set::Weight),
    ];
    let path = prop_oneof![
        vec(asn(), 1..4).prop_map(Set::AsPathPrepend),
        (1u8..=10).prop_map(Set::AsPathPrependLast),
        vec(asn(), 1..4).prop_map(Set::AsPathExclude),
        of(asn()).prop_map(Set::AsPathReplace),
    ];
    prop_oneof![
        3 => path,
        1 => change(any::<u32>().prop_map(Community)).prop_map(Set::Community),
        1 => name().prop_map(Set::CommunityDelete),
        1 => change(large_community()).prop_map(Set::LargeCommunity),
        1 => name().prop_map(Set::LargeCommunityDelete),
        2 => extended.prop_map(Set::ExtCommunity),
        4 => next_hop,
        1 => adjust().prop_map(Set::LocalPreference),
        1 => adjust().prop_map(Set::Metric),
        1 => origin().prop_map(Set::Origin),
        1 => (asn(), any::<Ipv4Addr>()).prop_map(|(asn, address)| Set::Aggregator(asn, address)),
        1 => Just(Set::AtomicAggregate),
        1 => any::<Ipv4Addr>().prop_map(Set::OriginatorId),
        3 => here,
    ]
}

/// What a kind is known by: two of one kind cannot be in an entry.
pub(super) fn kind_of_match(condition: &Match) -> (std::mem::Discriminant<Match>, bool) {
    let v6 = match condition {
        Match::Address(family, _)
        | Match::AddressPrefixList(family, _)
        | Match::AddressLength(family, _)
        | Match::NextHop(family, _)
        | Match::NextHopPrefixList(family, _) => *family == Family::Ipv6Unicast,
        Match::NextHopAddress(address) => address.is_ipv6(),
        _ => false,
    };
    (std::mem::discriminant(condition), v6)
}

pub(super) fn kind_of_set(set: &Set) -> String {
    match set {
        Set::AsPathPrepend(_) | Set::AsPathPrependLast(_) => "prepend".to_owned(),
        Set::NextHop(IpAddr::V4(_)) | Set::NextHopPeerAddress(Family::Ipv4Unicast) | Set::NextHopUnchanged => {
            "ip next-hop".to_owned()
        }
        Set::ExtCommunity(change) => format!("{:?}", std::mem::discriminant(change)),
        other => format!("{:?}", std::mem::discriminant(other)),
    }
}

pub(super) fn route_map_entry() -> impl Strategy<Value = RouteMapEntry> {
    let on_match = prop_oneof![Just(OnMatch::Stop), Just(OnMatch::Next), (1u16..).prop_map(OnMatch::Goto)];
    (action(), of(text()), vec(condition(), 0..4), vec(change_of_route(), 0..6), of(name()), on_match).prop_map(
        |(action, description, mut matches, mut sets, call, on_match)| {
            let mut kinds = std::collections::HashSet::new();
            matches.retain(|condition| kinds.insert(kind_of_match(condition)));
            matches.sort();
            let mut kinds = std::collections::HashSet::new();
            sets.retain(|set| kinds.insert(kind_of_set(set)));
            RouteMapEntry { action, description, matches, sets, call, on_match }
        },
    )
}
