//! `show running-config` reads back to the configuration it was printed from, whatever that is.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use config::{
    Command, Config,
    model::{
        AccessTarget, Action, Adjust, AdvertiseMap, Aead, Aggregate, AliasedCommunity, AllowOwnAs, AoAlgorithm, AoUse,
        AttributeUnchanged, Bandwidth, BestPath, BfdPeer, BfdPeerId, BfdProfile, BfdUse, Bgp, BgpVrf, BmpMonitor,
        BmpRetry, BmpTargets, ChainKey, ChildLifetime, Community, CommunityChange, CommunityList, Confederation,
        Credential, Dampening, DefaultOriginate, Distances, Dpd, Dump, Dumps, Esn, EspSuite, Existence, ExtCommunity,
        ExtCommunityChange, ExtCommunityTerm, FailClosed, FamilyConfig, GracefulRestart, Group, Identity, IkeId,
        IkeSuite, Initiate, KeyChain, LargeCommunity, LinkBandwidth, LocalAs, LocalRole, Log, LogFormat, LogLevel,
        Match, MatchPeer, MaximumInternalPaths, MaximumPrefix, MaximumPrefixAction, Metrics, Name, NeighborEntry,
        NeighborFamily, NeighborId, NeighborRestart, NeighborSettings, OnMatch, Origin, OutboundFilter, Password,
        Pattern, PolicySettings, PrefixList, PrefixListEntry, Prf, Proposal, Protocol, Redistribute,
        RedistributeSource, Remote, RemoteAddress, RemoteAs, RemovePrivateAs, Role, RouteChecks, RouteMap,
        RouteMapEntry, RouteSettings, Rpki, RpkiCache, RpkiTransport, Rules, SessionSettings, Set, Shutdown,
        StaticRoute, StaticTarget, Timers, Tunnel, UpdateSource, Validation, VpnLabel, Vrf, VrfFamily, Wan,
    },
    parse,
};
use net_types::{Asn, Family, IfName, Prefix, RouterId, TunnelName, WanName};
use proptest::{
    collection::{btree_map, vec},
    option::of,
    prelude::*,
    sample::select,
};

fn name() -> impl Strategy<Value = Name> {
    "[A-Za-z][A-Za-z0-9_.-]{0,12}".prop_map(|text| text.parse().unwrap())
}

fn interface() -> impl Strategy<Value = IfName> {
    // An interface may have a name that is a word of ours.
    prop_oneof!["[a-z][a-z0-9.-]{0,10}", Just("permit".to_owned())].prop_map(|text| text.parse().unwrap())
}

fn text() -> impl Strategy<Value = String> {
    "[!-~]{1,5}( {1,2}[!-~]{1,5}){0,3}"
}

fn path() -> impl Strategy<Value = std::path::PathBuf> {
    "/[a-z.]{1,8}(/[A-Za-z0-9_.-]{1,8}){0,2}".prop_map(Into::into)
}

fn seconds(low: u64, high: u64) -> impl Strategy<Value = Duration> {
    (low..=high).prop_map(Duration::from_secs)
}

fn unicast() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (1u8..224, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| IpAddr::from([a, b, c, d])),
        any::<[u16; 7]>().prop_map(|[b, c, d, e, f, g, h]| IpAddr::from([0x2001, b, c, d, e, f, g, h])),
    ]
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (any::<IpAddr>(), 0u8..=128)
        .prop_map(|(address, bits)| Prefix::new(address, if address.is_ipv4() { bits % 33 } else { bits }).unwrap())
}

fn prefix_of(family: Family) -> impl Strategy<Value = Prefix> {
    prefix().prop_filter("family", move |prefix| prefix.family() == family)
}

fn family() -> impl Strategy<Value = Family> {
    select(&Family::UNICAST[..])
}

fn action() -> impl Strategy<Value = Action> {
    select(&[Action::Permit, Action::Deny][..])
}

fn wan() -> impl Strategy<Value = Wan> {
    (interface(), of(any::<Ipv4Addr>()), of(any::<Ipv6Addr>()), of(576u16..=9500), any::<bool>()).prop_map(
        |(interface, gateway_v4, gateway_v6, mtu_octets, shutdown)| Wan {
            interface,
            gateway_v4,
            gateway_v6,
            mtu_octets,
            shutdown,
        },
    )
}

fn proposal() -> impl Strategy<Value = Proposal> {
    let group = || select(Group::ALL);
    let ike =
        (select(Aead::ALL), select(Prf::ALL), group()).prop_map(|(aead, prf, group)| IkeSuite { aead, prf, group });
    let esn = select(&[Esn::Preferred, Esn::Required, Esn::Off][..]);
    let esp = (select(Aead::ALL), of(group()), esn).prop_map(|(aead, group, esn)| EspSuite { aead, group, esn });
    (vec(ike, 1..4), vec(esp, 1..4)).prop_map(|(ike, esp)| Proposal { ike, esp })
}

fn ike_id() -> impl Strategy<Value = IkeId> {
    prop_oneof![
        "[a-z][a-z0-9.-]{0,20}".prop_map(IkeId::Fqdn),
        "[a-z]{1,8}@[a-z.]{1,8}".prop_map(IkeId::Email),
        any::<IpAddr>().prop_map(IkeId::Address),
        "C=DE, O=[A-Z][a-z]{1,8}, CN=[a-z]{1,8}".prop_map(IkeId::DistinguishedName),
        vec(any::<u8>(), 1..9).prop_map(IkeId::KeyId),
    ]
    .prop_filter("a host name that is an address", |id| id.to_string().parse() == Ok(id.clone()))
}

fn identity() -> impl Strategy<Value = Identity> {
    let anchors = proptest::collection::btree_set(path(), 1..3).prop_map(|set| set.into_iter().collect());
    let credential = prop_oneof![
        path().prop_map(|file| Credential::PreSharedKey { file }),
        (path(), path(), anchors).prop_map(|(certificate, private_key, trust_anchors)| Credential::Certificate {
            certificate,
            private_key,
            trust_anchors
        }),
    ];
    (ike_id(), credential).prop_map(|(id, credential)| Identity { id, credential })
}

/// All that a tunnel names and owns is set by `config`, which knows what there is.
fn tunnel() -> impl Strategy<Value = Tunnel> {
    let remote = prop_oneof![
        ike_id().prop_map(|id| (Remote { address: RemoteAddress::Any, id: Some(id) }, Initiate::Never)),
        (unicast(), of(ike_id()), select(&[Initiate::Never, Initiate::OnStart][..]))
            .prop_map(|(address, id, initiate)| (Remote { address: RemoteAddress::Address(address), id }, initiate)),
    ];
    let dpd = (0u64..=3600, 0u64..=3600).prop_map(|(interval, more)| Dpd {
        interval: Duration::from_secs(interval),
        timeout: Duration::from_secs((interval + more).max(1)),
    });
    let lifetime = (seconds(30, 604_800), of(1u64..=1_000_000_000))
        .prop_map(|(time, megabytes)| ChildLifetime { time, octets: megabytes.map(|n| n * 1_000_000) });
    let selectors =
        || proptest::collection::btree_set(prefix(), 0..3).prop_map(|set| set.into_iter().collect::<Vec<Prefix>>());
    (
        (of(text()), remote, dpd, seconds(60, 604_800), lifetime),
        (selectors(), selectors(), of(576u16..=9500), any::<bool>()),
    )
        .prop_map(|((description, (remote, initiate), dpd, ike_lifetime, child_lifetime), rest)| {
            let (local_selectors, remote_selectors, mtu_octets, shutdown) = rest;
            Tunnel {
                description,
                remote,
                wan: "x".parse().unwrap(),
                identity: "x".parse().unwrap(),
                proposal: None,
                addresses: Vec::new(),
                local_selectors,
                remote_selectors,
                dpd,
                ike_lifetime,
                child_lifetime,
                initiate,
                mtu_octets,
                shutdown,
            }
        })
}

fn bfd_profile() -> impl Strategy<Value = BfdProfile> {
    let interval = || (10u64..=60_000).prop_map(Duration::from_millis);
    let echo = of(prop_oneof![Just(Duration::ZERO), interval()]);
    let last = (echo, of(1u8..=254));
    (interval(), interval(), 2u8..=255, any::<bool>(), any::<bool>(), last).prop_map(
        |(transmit_interval, receive_interval, detect_multiplier, passive, shutdown, last)| {
            let (echo_receive_interval, minimum_ttl) = last;
            BfdProfile {
                echo_receive_interval,
                minimum_ttl,
                transmit_interval,
                receive_interval,
                detect_multiplier,
                passive,
                shutdown,
            }
        },
    )
}

fn bfd_peer() -> impl Strategy<Value = (BfdPeerId, BfdPeer)> {
    let interval = || of((10u64..=60_000).prop_map(Duration::from_millis));
    let id = (unicast(), any::<bool>(), unicast(), any::<bool>(), of(interface())).prop_map(
        |(address, multihop, local, has_local, interface)| {
            let local = Some(local).filter(|local| has_local && local.is_ipv4() == address.is_ipv4());
            BfdPeerId { address, multihop, local, interface }
        },
    );
    let flag = || of(any::<bool>());
    let echo = of(prop_oneof![Just(Duration::ZERO), (10u64..=60_000).prop_map(Duration::from_millis)]);
    (id, interval(), interval(), of(2u8..=255), flag(), flag(), of(1u8..=254), echo).prop_map(
        |(id, transmit_interval, receive_interval, detect_multiplier, passive, shutdown, minimum_ttl, echo)| {
            let peer = BfdPeer {
                echo_receive_interval: echo,
                profile: None,
                transmit_interval,
                receive_interval,
                detect_multiplier,
                passive,
                shutdown,
                minimum_ttl,
            };
            (id, peer)
        },
    )
}

fn static_route() -> impl Strategy<Value = StaticRoute> {
    let target = |v4: bool| {
        let gateway = unicast().prop_filter("family", move |address| address.is_ipv4() == v4);
        prop_oneof![
            Just(StaticTarget::Blackhole),
            Just(StaticTarget::Reject),
            interface().prop_map(StaticTarget::Interface),
            (gateway, of(interface())).prop_map(|(address, interface)| StaticTarget::Gateway { address, interface }),
        ]
    };
    (prefix(), 1u8..=255, any::<u32>()).prop_flat_map(move |(prefix, distance, tag)| {
        let target = target(prefix.family() == Family::Ipv4Unicast);
        target.prop_map(move |target| StaticRoute { prefix, target, distance, tag })
    })
}

fn prefix_list(family: Family) -> impl Strategy<Value = PrefixList> {
    let entry =
        (action(), prefix_of(family), of(0u8..=128), of(0u8..=128)).prop_map(move |(action, prefix, ge, le)| {
            let (bits, max) = (prefix.bits(), family.max_bits());
            let ge = ge.map(|ge| ge.clamp(bits, max));
            PrefixListEntry { action, prefix, ge, le: le.map(|le| le.clamp(ge.unwrap_or(bits), max)) }
        });
    (of(text()), btree_map(1u32.., entry, 1..4)).prop_map(|(description, entries)| PrefixList { description, entries })
}

fn change<C: Ord + std::fmt::Debug + Clone>(
    community: impl Strategy<Value = C> + Clone,
) -> impl Strategy<Value = CommunityChange<C>> {
    let some = proptest::collection::btree_set(community, 1..4).prop_map(|set| set.into_iter().collect::<Vec<C>>());
    prop_oneof![
        Just(CommunityChange::Clear),
        some.clone().prop_map(CommunityChange::Replace),
        some.prop_map(CommunityChange::Add)
    ]
}

fn asn() -> impl Strategy<Value = Asn> {
    (1u32..).prop_map(|number| number.try_into().unwrap())
}

fn rules<R: std::fmt::Debug + Clone>(rule: impl Strategy<Value = R>) -> impl Strategy<Value = Rules<R>> {
    btree_map(1u32.., (action(), rule), 1..4).prop_map(Rules)
}

fn pattern() -> impl Strategy<Value = Pattern> {
    "[_^]?[0-9]{1,5}(_| |\\.\\*|\\(1\\|2\\)|\\[0-9_\\])[0-9]{1,3}[_$]?".prop_map(|text| text.parse().unwrap())
}

fn access_list(family: Family) -> impl Strategy<Value = Rules<AccessTarget>> {
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

fn community_list<C: Ord + Clone + std::fmt::Debug>(
    community: impl Strategy<Value = C>,
) -> impl Strategy<Value = CommunityList<C>> {
    let standard = proptest::collection::btree_set(community, 1..4).prop_map(|set| set.into_iter().collect());
    prop_oneof![rules(standard).prop_map(CommunityList::Standard), rules(pattern()).prop_map(CommunityList::Expanded)]
}

fn community_lists<C: Ord + Clone + std::fmt::Debug>(
    community: impl Strategy<Value = C>,
) -> impl Strategy<Value = BTreeMap<Name, CommunityList<C>>> {
    btree_map(name(), community_list(community), 0..3)
}

fn large_community() -> impl Strategy<Value = LargeCommunity> + Clone {
    any::<(u32, u32, u32)>().prop_map(|(a, b, c)| LargeCommunity(a, b, c))
}

fn ext_community() -> impl Strategy<Value = ExtCommunity> + Clone {
    prop_oneof![
        any::<(u16, u32)>().prop_map(|(asn, number)| ExtCommunity::TwoOctetAs(asn, number)),
        any::<(Ipv4Addr, u16)>().prop_map(|(address, number)| ExtCommunity::Ipv4(address, number)),
        (65_536u32.., any::<u16>()).prop_map(|(asn, number)| ExtCommunity::FourOctetAs(asn, number)),
    ]
}

fn ext_community_term() -> impl Strategy<Value = ExtCommunityTerm> {
    prop_oneof![
        ext_community().prop_map(ExtCommunityTerm::RouteTarget),
        ext_community().prop_map(ExtCommunityTerm::SiteOfOrigin)
    ]
}

fn origin() -> impl Strategy<Value = Origin> {
    select(&[Origin::Igp, Origin::Egp, Origin::Incomplete][..])
}

fn condition() -> impl Strategy<Value = Match> {
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

fn aliased_community() -> impl Strategy<Value = AliasedCommunity> {
    prop_oneof![
        any::<u32>().prop_map(|value| AliasedCommunity::Standard(Community(value))),
        large_community().prop_map(AliasedCommunity::Large),
    ]
}

fn adjust() -> impl Strategy<Value = Adjust> {
    let number = any::<u32>();
    prop_oneof![number.prop_map(Adjust::To), number.prop_map(Adjust::Add), number.prop_map(Adjust::Subtract)]
}

fn change_of_route() -> impl Strategy<Value = Set> {
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
fn kind_of_match(condition: &Match) -> (std::mem::Discriminant<Match>, bool) {
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

fn kind_of_set(set: &Set) -> String {
    match set {
        Set::AsPathPrepend(_) | Set::AsPathPrependLast(_) => "prepend".to_owned(),
        Set::NextHop(IpAddr::V4(_)) | Set::NextHopPeerAddress(Family::Ipv4Unicast) | Set::NextHopUnchanged => {
            "ip next-hop".to_owned()
        }
        Set::ExtCommunity(change) => format!("{:?}", std::mem::discriminant(change)),
        other => format!("{:?}", std::mem::discriminant(other)),
    }
}

fn route_map_entry() -> impl Strategy<Value = RouteMapEntry> {
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

fn timers() -> impl Strategy<Value = Timers> {
    (seconds(0, 65_535), prop_oneof![Just(Duration::ZERO), seconds(3, 65_535)])
        .prop_map(|(keepalive, hold)| Timers { keepalive, hold })
}

fn session_settings() -> impl Strategy<Value = SessionSettings> {
    let local_as = (asn(), any::<bool>(), any::<bool>()).prop_map(|(asn, no_prepend, replace_as)| LocalAs {
        asn,
        no_prepend: no_prepend || replace_as,
        replace_as,
    });
    let role = (select(&Role::ALL[..]), any::<bool>()).prop_map(|(role, strict)| LocalRole { role, strict });
    let flags = || vec(of(any::<bool>()), 10..=10);
    (of(local_as), of(seconds(0, 600)), of(role), of(1u16..), flags()).prop_map(
        |(local_as, advertisement_interval, role, tcp_mss, flags)| SessionSettings {
            local_as,
            enforce_first_as: flags[0],
            advertisement_interval,
            solo: flags[1],
            sender_loop_detection: flags[2],
            dont_capability_negotiate: flags[3],
            override_capability: flags[4],
            strict_capability_match: flags[5],
            extended_optional_parameters: flags[6],
            extended_next_hop: flags[7],
            tell_hostname: flags[8],
            tell_software_version: flags[9],
            role,
            tcp_mss,
        },
    )
}

fn route_settings() -> impl Strategy<Value = RouteSettings> {
    let allow_own_as =
        prop_oneof![Just(AllowOwnAs::No), (1u8..=10).prop_map(AllowOwnAs::Times), Just(AllowOwnAs::Origin)];
    let remove_private_as = prop_oneof![
        Just(RemovePrivateAs::No),
        any::<(bool, bool)>().prop_map(|(all, replace)| RemovePrivateAs::Yes { all, replace })
    ];
    // With none of the three it is "no … attribute-unchanged", which only means something after one of them.
    let attribute_unchanged =
        any::<[bool; 3]>().prop_map(|[as_path, next_hop, med]| AttributeUnchanged { as_path, next_hop, med });
    (of(allow_own_as), of(remove_private_as), of(attribute_unchanged), vec(of(any::<bool>()), 12..=12)).prop_map(
        |(allow_own_as, remove_private_as, attribute_unchanged, flags)| RouteSettings {
            route_reflector_client: flags[0],
            next_hop_self_force: flags[1],
            allow_own_as,
            remove_private_as,
            as_override: flags[2],
            attribute_unchanged,
            send_standard: flags[3],
            send_extended: flags[4],
            send_large: flags[5],
            route_server_client: flags[6],
            addpath_tx_all_paths: flags[7],
            addpath_tx_bestpath_per_as: flags[8],
            disable_addpath_rx: flags[9],
            route_server_best_only: flags[10],
            advertise_best_external: flags[11],
        },
    )
}

fn neighbor_family() -> impl Strategy<Value = NeighborFamily> {
    let action = prop_oneof![
        Just(MaximumPrefixAction::Close),
        Just(MaximumPrefixAction::Warn),
        (1u64..=65_535).prop_map(|minutes| MaximumPrefixAction::Restart(Duration::from_secs(60 * minutes))),
    ];
    let maximum = (1u32.., 1u8..=100, action).prop_map(|(limit, threshold_percent, action)| MaximumPrefix {
        limit,
        threshold_percent,
        action,
    });
    let names = || (of(name()), of(name()));
    let flag = || of(any::<bool>());
    let filter = select(&[OutboundFilter::Send, OutboundFilter::Receive, OutboundFilter::Both][..]);
    let settings = (route_settings(), policy_settings(), of(filter));
    (flag(), names(), names(), flag(), flag(), of(maximum), of(any::<u16>()), settings)
        .prop_map(|(activate, maps, lists, next_hop_self, soft_reconfiguration, maximum_prefix, weight, settings)| {
            let (routes, policy, outbound_filter) = settings;
            NeighborFamily {
                activate,
                route_map_in: maps.0,
                route_map_out: maps.1,
                prefix_list_in: lists.0,
                prefix_list_out: lists.1,
                next_hop_self,
                soft_reconfiguration,
                maximum_prefix,
                weight,
                outbound_filter,
                routes,
                policy,
            }
        })
        .prop_filter("says something", |settings| *settings != NeighborFamily::default())
}

fn password() -> impl Strategy<Value = Password> {
    prop_oneof!["[!-~]{1,80}".prop_map(|text| Password::Inline(text.parse().unwrap())), path().prop_map(Password::File)]
}

/// Ids that are said are those of other numbers, so that no two keys have the same.
fn key_chain() -> impl Strategy<Value = KeyChain> {
    let key = (any::<[bool; 2]>(), select(&AoAlgorithm::ALL[..]), password());
    btree_map(0u8..128, key, 0..3).prop_map(|keys| {
        let keys = keys.into_iter().map(|(number, ([send, receive], algorithm, secret))| {
            let id = |said: bool| said.then_some(number + 128);
            (number, ChainKey { send_id: id(send), receive_id: id(receive), algorithm, secret })
        });
        KeyChain { keys: keys.collect() }
    })
}

/// One of a password, keys for TCP-AO, and neither.
fn signature() -> impl Strategy<Value = (Option<Password>, Option<AoUse>)> {
    let ao = (name(), any::<bool>()).prop_map(|(chain, exclude_options)| AoUse { chain, exclude_options });
    prop_oneof![of(password()).prop_map(|password| (password, None)), ao.prop_map(|ao| (None, Some(ao)))]
}

fn neighbor_settings() -> impl Strategy<Value = NeighborSettings> {
    let remote_as = prop_oneof![asn().prop_map(RemoteAs::Asn), Just(RemoteAs::Internal), Just(RemoteAs::External)];
    let source = prop_oneof![
        unicast().prop_map(UpdateSource::Address),
        interface()
            .prop_filter("not an address", |name| name.as_str().parse::<IpAddr>().is_err())
            .prop_map(UpdateSource::Interface)
    ];
    let distance = prop_oneof![
        Just((None, None)),
        (1u8..=254).prop_map(|hops| (Some(hops), None)),
        (1u8..=255).prop_map(|hops| (None, Some(hops)))
    ];
    let restart = select(&[NeighborRestart::Full, NeighborRestart::HelperOnly, NeighborRestart::Disabled][..]);
    let shutdown = prop_oneof![Just(Shutdown::No), of(text()).prop_map(|message| Shutdown::Down { message })];
    let flag = || of(any::<bool>());
    (
        (of(remote_as), of(text()), of(shutdown), signature(), of(timers())),
        (of(seconds(1, 65_535)), of(any::<(bool, bool)>()), distance, flag(), of(source), of(interface())),
        (
            of(1u16..),
            flag(),
            of(restart),
            session_settings(),
            btree_map(select(&Family::ALL[..]), neighbor_family().boxed(), 0..3),
        ),
    )
        .prop_map(|(first, second, third)| {
            let (remote_as, description, shutdown, (password, ao), timers) = first;
            let (
                connect_retry,
                bfd,
                (ttl_security_hops, ebgp_multihop),
                disable_connected_check,
                update_source,
                interface,
            ) = second;
            let (port, passive, graceful_restart, session, families) = third;
            NeighborSettings {
                remote_as,
                description,
                shutdown,
                password,
                ao,
                timers,
                connect_retry,
                bfd: bfd.map(|(strict, check_control_plane)| BfdUse { profile: None, strict, check_control_plane }),
                ttl_security_hops,
                ebgp_multihop,
                disable_connected_check,
                update_source,
                interface,
                port,
                passive,
                graceful_restart,
                session,
                families,
            }
        })
}

/// A group's name cannot be an address.
fn group_name() -> impl Strategy<Value = Name> {
    "[A-Z][A-Z0-9_.-]{0,12}".prop_map(|text| text.parse().unwrap())
}

fn neighbor_id() -> impl Strategy<Value = NeighborId> {
    prop_oneof![
        3 => unicast().prop_map(NeighborId::Address),
        1 => interface().prop_map(NeighborId::Interface),
    ]
}

/// Groups, neighbors of which some are members, and ranges that lead to groups.
type Peers = (BTreeMap<Name, NeighborSettings>, BTreeMap<NeighborId, NeighborEntry>, BTreeMap<Prefix, Name>);

fn peers() -> impl Strategy<Value = Peers> {
    let neighbor = (any::<proptest::sample::Index>(), of(Just(())), any::<bool>(), neighbor_settings().boxed());
    (
        btree_map(group_name(), neighbor_settings().boxed(), 0..3),
        btree_map(neighbor_id(), neighbor, 0..3),
        btree_map(prefix(), any::<proptest::sample::Index>(), 0..3),
    )
        .prop_map(|(mut groups, neighbors, ranges)| {
            for group in groups.values_mut() {
                group.shutdown.take_if(|shutdown| !shutdown.is_down());
            }
            let names: Vec<Name> = groups.keys().cloned().collect();
            let pick =
                |index: proptest::sample::Index| (!names.is_empty()).then(|| names[index.index(names.len())].clone());
            let neighbors = neighbors.into_iter().map(|(id, (index, member, v6only, mut settings))| {
                let peer_group = member.and_then(|()| pick(index));
                // Its AS must be known from somewhere, and its two ideas of the distance must not contradict each other.
                let group = peer_group.as_ref().map(|name| &groups[name]);
                if group.is_none_or(|group| group.remote_as.is_none()) {
                    settings.remote_as.get_or_insert(RemoteAs::External);
                }
                // Whoever is not held down anyway has nothing to say of it.
                if !group.is_some_and(|group| group.shutdown.as_ref().is_some_and(Shutdown::is_down)) {
                    settings.shutdown.take_if(|shutdown| !shutdown.is_down());
                }
                if group.is_some_and(|group| group.password.is_some()) {
                    settings.ao = None;
                }
                if group.is_some_and(|group| group.ao.is_some()) {
                    settings.password = None;
                }
                if group.is_some_and(|group| group.ttl_security_hops.is_some()) {
                    settings.ebgp_multihop = None;
                }
                if group.is_some_and(|group| group.ebgp_multihop.is_some()) {
                    settings.ttl_security_hops = None;
                }
                let v6only = v6only && matches!(id, NeighborId::Interface(_));
                (id, NeighborEntry { peer_group, v6only, settings })
            });
            let neighbors = neighbors.collect();
            let ranges = ranges.into_iter().filter_map(|(range, index)| Some((range, pick(index)?)));
            let ranges = ranges.collect();
            (groups, neighbors, ranges)
        })
}

fn policy_settings() -> impl Strategy<Value = PolicySettings> {
    let originate =
        prop_oneof![Just(DefaultOriginate::No), of(name()).prop_map(|route_map| DefaultOriginate::Yes { route_map })];
    let existence = select(&[Existence::Exist, Existence::NonExist][..]);
    let advertise =
        (name(), existence, name()).prop_map(|(map, wanted, condition)| AdvertiseMap { map, wanted, condition });
    (vec(of(name()), 5..=5), of(originate), of(advertise), of(1u32..)).prop_map(
        |(names, default_originate, advertise_map, maximum_prefix_out)| PolicySettings {
            distribute_list_in: names[0].clone(),
            distribute_list_out: names[1].clone(),
            filter_list_in: names[2].clone(),
            filter_list_out: names[3].clone(),
            unsuppress_map: names[4].clone(),
            default_originate,
            advertise_map,
            maximum_prefix_out,
        },
    )
}

fn aggregate() -> impl Strategy<Value = Aggregate> {
    (any::<[bool; 3]>(), of(origin()), of(name()), of(name())).prop_map(|(flags, origin, route_map, suppress_map)| {
        let [summary_only, as_set, matching_med_only] = flags;
        let suppress_map = suppress_map.filter(|_| !summary_only);
        Aggregate { summary_only, as_set, matching_med_only, origin, route_map, suppress_map }
    })
}

fn dampening() -> impl Strategy<Value = Dampening> {
    prop_oneof![
        Just(Dampening::default()),
        (1u8..=45).prop_map(Dampening::of_half_life),
        (1u8..=45, 1u16..=20_000, 0u16..=30_000, 1u8..).prop_map(
            |(half_life_minutes, reuse, more, max_suppress_minutes)| {
                Dampening { half_life_minutes, reuse, suppress: reuse + more, max_suppress_minutes }
            }
        ),
    ]
}

fn family_config(family: Family) -> impl Strategy<Value = FamilyConfig> {
    let redistribute =
        (of(any::<u32>()), of(name())).prop_map(|(metric, route_map)| Redistribute { metric, route_map });
    (
        btree_map(prefix_of(family), of(name()), 0..4),
        btree_map(select(&RedistributeSource::ALL[..]), redistribute, 0..3),
        btree_map(prefix_of(family), aggregate(), 0..3),
        of(name()),
        of((1u8.., 1u8.., 1u8..).prop_map(|(external, internal, local)| Distances { external, internal, local })),
        (of(1u8..), of(dampening())),
        of((1u8.., any::<bool>())
            .prop_map(|(paths, equal_cluster_length)| MaximumInternalPaths { paths, equal_cluster_length })),
    )
        .prop_map(
            |(networks, redistribute, aggregates, table_map, distance, (maximum_paths, dampening), internal)| {
                FamilyConfig {
                    maximum_paths,
                    maximum_internal_paths: internal,
                    dampening,
                    distance,
                    networks,
                    redistribute,
                    aggregates,
                    table_map,
                }
            },
        )
}

fn bgp() -> impl Strategy<Value = Bgp> {
    let handling = LinkBandwidth::SPELLINGS.map(|(handling, _)| handling);
    let handling = prop_oneof![Just(LinkBandwidth::WhenAll), select(handling.to_vec())];
    let best_path = (any::<[bool; 9]>(), handling).prop_map(|([a, b, c, d, e, f, g, h, i], bandwidth)| BestPath {
        confed_as_path: f,
        confed_med: g,
        relax_as_path: h,
        relax_peer_type: i,
        bandwidth,
        ignore_as_path_length: a,
        compare_router_id: b,
        missing_med_is_worst: c,
        always_compare_med: d,
        deterministic_med: e,
    });
    let graceful_restart = (any::<[bool; 3]>(), seconds(0, 4095), seconds(1, 4095), of(seconds(0, 3600))).prop_map(
        |([restarter, helper, preserve_forwarding], restart_time, stalepath_time, select_defer_time)| GracefulRestart {
            restarter,
            helper,
            restart_time,
            stalepath_time,
            select_defer_time,
            preserve_forwarding,
        },
    );
    let fail_closed = select(&[FailClosed::Off, FailClosed::Lost, FailClosed::Withdrawn][..]);
    let router_id = (1u32..).prop_map(|id| RouterId::try_from(id).unwrap());
    let families = (family_config(Family::Ipv4Unicast).boxed(), family_config(Family::Ipv6Unicast).boxed()).prop_map(
        |(v4, v6)| {
            let both = [(Family::Ipv4Unicast, v4), (Family::Ipv6Unicast, v6)];
            both.into_iter().filter(|(_, config)| *config != FamilyConfig::default()).collect()
        },
    );
    let confederation = (of(asn()), proptest::collection::btree_set(asn(), 0..3))
        .prop_map(|(identifier, members)| Confederation { identifier, members });
    (
        (confederation, of(seconds(1, 65_535)), any::<[bool; 7]>(), of(seconds(1, 16_777_215))),
        (asn(), of(router_id), of(any::<Ipv4Addr>()), any::<[bool; 3]>(), any::<u32>(), best_path),
        (
            graceful_restart,
            fail_closed,
            timers(),
            peers().boxed(),
            1u16..,
            (families, btree_map(name(), bgp_vrf(), 0..2)),
            btree_map(name(), bmp_targets(), 0..2),
        ),
    )
        .prop_map(|((mut confederation, minimum_hold_time, more, long_lived_stale_time), first, second)| {
            let (asn, router_id, cluster_id, flags, default_local_preference, best_path) = first;
            let (
                graceful_restart,
                fail_closed,
                timers,
                (peer_groups, neighbors, listen_ranges),
                listen_limit,
                (families, vrfs),
                bmp,
            ) = second;
            confederation.members.remove(&asn);
            Bgp {
                asn,
                router_id,
                cluster_id,
                client_to_client_reflection: more[0],
                confederation,
                minimum_hold_time,
                long_lived_stale_time,
                fast_external_failover: more[1],
                fast_convergence: more[6],
                graceful_shutdown: more[2],
                log_neighbor_changes: flags[0],
                frr_defaults: false, // As the whole has it.
                ebgp_requires_policy: flags[1],
                default_ipv4_unicast: flags[2],
                default_ipv6_unicast: more[5],
                default_local_preference,
                best_path,
                checks: RouteChecks { network_import: more[3], reject_as_sets: more[4] },
                graceful_restart,
                fail_closed,
                timers,
                peer_groups,
                neighbors,
                listen_ranges,
                listen_limit,
                families,
                bmp,
                vrfs,
            }
        })
}

fn bgp_vrf() -> impl Strategy<Value = BgpVrf> {
    let rd = ext_community().prop_map(|text| text.to_string().parse().unwrap());
    let targets = || proptest::collection::btree_set(ext_community(), 0..3);
    let label = prop_oneof![Just(VpnLabel::None), Just(VpnLabel::Auto), (0u32..1 << 20).prop_map(VpnLabel::Number)];
    let rest = (of(rd), targets(), targets(), label, any::<bool>(), any::<bool>());
    let family = |family: Family| {
        (proptest::collection::btree_set(prefix_of(family), 0..3), rest.clone()).prop_map(
            |(networks, (rd, import_targets, export_targets, label, import, export))| VrfFamily {
                networks,
                rd,
                import_targets,
                export_targets,
                label,
                import,
                export,
            },
        )
    };
    (family(Family::Ipv4Unicast).boxed(), family(Family::Ipv6Unicast).boxed()).prop_map(|(v4, v6)| {
        let both = [(Family::Ipv4Unicast, v4), (Family::Ipv6Unicast, v6)];
        BgpVrf { families: both.into_iter().filter(|(_, family)| *family != VrfFamily::default()).collect() }
    })
}

fn bmp_targets() -> impl Strategy<Value = BmpTargets> {
    let milliseconds = || (100u64..=86_400_000).prop_map(Duration::from_millis);
    let host = unicast().prop_map(|address| address.to_string().parse().unwrap());
    let retry = (milliseconds(), milliseconds()).prop_map(|(a, b)| BmpRetry { min: a.min(b), max: a.max(b) });
    let monitor = any::<[bool; 4]>().prop_filter("says something", |views| views.contains(&true)).prop_map(
        |[pre_policy, post_policy, loc_rib, adj_rib_out]| BmpMonitor { pre_policy, post_policy, loc_rib, adj_rib_out },
    );
    (btree_map((host, 1u16..), retry, 0..3), btree_map(family(), monitor, 0..3), of(milliseconds()))
        .prop_map(|(stations, monitor, stats_interval)| BmpTargets { stations, monitor, stats_interval })
}

fn dumps() -> impl Strategy<Value = Dumps> {
    let dump = || (path(), of(seconds(1, 604_800))).prop_map(|(file, interval)| Dump { file, interval });
    (of(dump()), of(dump()), of(dump())).prop_map(|(all, updates, routes)| Dumps { all, updates, routes })
}

fn rpki() -> impl Strategy<Value = Rpki> {
    let host = || {
        prop_oneof![
            unicast().prop_map(|address| address.to_string()),
            "[a-z][a-z0-9-]{0,8}([.][a-z][a-z0-9]{0,5}){0,2}".prop_map(String::from),
            Just("tcp".to_owned()),
        ]
        .prop_map(|text| text.parse().unwrap())
    };
    let transport = prop_oneof![
        Just(RpkiTransport::Tcp),
        (path(), of(host()), of((path(), path()))).prop_map(|(trust_anchor, server_name, client)| {
            RpkiTransport::Tls { trust_anchor, server_name, client }
        }),
    ];
    let cache = (host(), 1u16.., transport).prop_map(|(host, port, transport)| RpkiCache { host, port, transport });
    (of(seconds(1, 86_400)), of(seconds(1, 7200)), of(seconds(600, 172_800)), btree_map(1u8.., cache, 0..3)).prop_map(
        |(polling_period, retry_interval, expire_interval, caches)| Rpki {
            polling_period,
            retry_interval,
            expire_interval,
            caches,
        },
    )
}

fn any_config() -> impl Strategy<Value = Config> {
    let level = select(&[LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace][..]);
    let log = (of(level), of(select(&[LogFormat::Text, LogFormat::Json][..])))
        .prop_map(|(level, format)| Log { level, format });
    let metrics = (of((unicast(), 1u16..5000)), of((unicast(), 5000u16..)))
        .prop_map(|(bgpd, ipsecd)| Metrics { bgpd: bgpd.map(Into::into), ipsecd: ipsecd.map(Into::into) });
    let lists = family().prop_flat_map(|family| ((Just(family), name()), prefix_list(family)));
    let access_lists = family().prop_flat_map(|family| ((Just(family), name()), access_list(family)));
    let tunnels = btree_map("tun[0-9]".prop_map(|text| text.parse::<TunnelName>().unwrap()), tunnel().boxed(), 0..3);
    (
        (
            (any::<bool>(), of(name())),
            log,
            metrics,
            btree_map("[a-z]{1,8}".prop_map(|text| text.parse::<WanName>().unwrap()), wan(), 1..3),
        ),
        (btree_map(name(), proposal(), 0..3), btree_map(name(), identity(), 1..3), tunnels),
        (
            (btree_map(name(), bfd_profile(), 0..3), btree_map(name(), key_chain(), 1..3)),
            vec(bfd_peer().boxed(), 0..3),
            vec(static_route(), 0..4),
            vec(lists, 0..3),
        ),
        (
            vec(access_lists, 0..3),
            btree_map(name(), rules(pattern()), 0..3),
            community_lists(any::<u32>().prop_map(Community)),
            community_lists(large_community()),
            community_lists(ext_community_term()),
            btree_map(aliased_community(), Just(()), 0..3),
        ),
        (
            btree_map(
                name(),
                btree_map(1u16.., route_map_entry().boxed(), 1..3).prop_map(|entries| RouteMap { entries }),
                0..3,
            ),
            (rpki(), dumps(), btree_map(name(), of(1u32..253).prop_map(|table| Vrf { table }), 0..3)),
            of(bgp().boxed()),
        ),
    )
        .prop_map(|(first, second, third, lists_of_policy, fourth)| {
            let (access_lists, as_path_lists, community_lists, large_community_lists, ext_community_lists, aliased) =
                lists_of_policy;
            let aliases = aliased.into_keys().enumerate();
            let community_aliases = aliases.map(|(at, community)| (community, format!("alias-{at}").parse().unwrap()));
            let community_aliases = community_aliases.collect();
            let ((frr_defaults, hostname), log, metrics, wans) = first;
            let (proposals, identities, mut tunnels) = second;
            let ((bfd_profiles, key_chains), bfd_peers, mut static_routes, lists) = third;
            let mut bfd_peers: BTreeMap<BfdPeerId, BfdPeer> = bfd_peers.into_iter().collect();
            for peer in bfd_peers.values_mut() {
                peer.profile = bfd_profiles.keys().next().cloned();
            }
            let (route_maps, (rpki, dumps, vrfs), mut bgp) = fourth;
            static_routes.sort();
            static_routes.dedup();
            // What is named must exist, and two tunnels do not share an address.
            for (number, tunnel) in tunnels.values_mut().enumerate() {
                tunnel.wan = wans.keys().next().unwrap().clone();
                tunnel.identity = identities.keys().next().unwrap().clone();
                tunnel.proposal = proposals.keys().next().cloned();
                tunnel.addresses = vec![
                    format!("169.254.{number}.2/30").parse().unwrap(),
                    format!("fd00:{number}::2/64").parse().unwrap(),
                ];
            }
            let said = bgp.iter_mut().flat_map(|bgp: &mut Bgp| {
                bgp.neighbors.values_mut().map(|neighbor| &mut neighbor.settings).chain(bgp.peer_groups.values_mut())
            });
            for settings in said {
                if let Some(bfd) = &mut settings.bfd {
                    bfd.profile = bfd_profiles.keys().next().cloned();
                }
                if let Some(ao) = &mut settings.ao {
                    ao.chain = key_chains.keys().next().unwrap().clone();
                }
            }
            if let Some(bgp) = &mut bgp {
                bgp.frr_defaults = frr_defaults;
            }
            Config {
                frr_defaults,
                hostname,
                log,
                metrics,
                wans,
                proposals,
                identities,
                tunnels,
                key_chains,
                bfd_profiles,
                bfd_peers,
                static_routes,
                protocol_maps: Family::UNICAST.into_iter().zip(route_maps.keys().cloned()).collect(),
                prefix_lists: lists.into_iter().collect(),
                access_lists: access_lists.into_iter().collect(),
                as_path_lists,
                community_lists,
                large_community_lists,
                ext_community_lists,
                community_aliases,
                route_maps,
                rpki,
                dumps,
                vrfs,
                bgp,
            }
        })
}

/// Files to damage: the seeds of the fuzzers.
fn seeds(target: &str) -> Vec<String> {
    let directory = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory}: {error}"));
    let mut seeds: Vec<String> =
        files.map(|file| String::from_utf8(std::fs::read(file.unwrap().path()).unwrap()).unwrap()).collect();
    seeds.sort();
    assert!(!seeds.is_empty());
    seeds
}

fn damaged(seeds: Vec<String>) -> impl Strategy<Value = String> {
    let damage = vec((any::<proptest::sample::Index>(), 0usize..6, "\\PC{0,3}|[ \n\t]"), 1..8);
    (select(seeds), damage).prop_map(|(seed, damage)| {
        let mut letters: Vec<char> = seed.chars().collect();
        for (at, cut, insert) in damage {
            let start = at.index(letters.len() + 1);
            let end = (start + cut).min(letters.len());
            letters.splice(start..end, insert.chars());
        }
        letters.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_configuration_reads_back_as_it_was_printed(config in any_config()) {
        let printed = config.to_string();
        match parse(&printed) {
            Ok(parsed) => prop_assert_eq!(parsed.config, config, "{}", printed),
            Err(wrong) => prop_assert!(false, "{}\n{}", wrong.render("printed", &printed), printed),
        }
    }

    #[test]
    fn damaged_files_are_read_or_refused(source in damaged(seeds("config_file"))) {
        match parse(&source) {
            Ok(parsed) => prop_assert_eq!(parse(&parsed.config.to_string()).unwrap().config, parsed.config),
            Err(wrong) => drop(wrong.render("damaged", &source)),
        }
    }

    #[test]
    fn damaged_commands_are_read_or_refused(line in damaged(seeds("command_line"))) {
        drop(Command::parse(&line).map_err(|error| error.to_string()));
        drop(Command::choices(&line));
    }
}
