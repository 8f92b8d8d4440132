//! What is said of neighbors and their groups.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use config::model::{
    AllowOwnAs, AoAlgorithm, AoUse, AttributeUnchanged, BfdUse, ChainKey, KeyChain, LocalAs, LocalRole, MaximumPrefix,
    MaximumPrefixAction, Name, NeighborEntry, NeighborFamily, NeighborId, NeighborRestart, NeighborSettings,
    OutboundFilter, Password, RemoteAs, RemovePrivateAs, Role, RouteSettings, SessionSettings, Shutdown, Timers,
    UpdateSource,
};
use net_types::{Family, Prefix};
use proptest::{
    collection::{btree_map, vec},
    option::of,
    prelude::*,
    sample::select,
};

use super::speaker::policy_settings;
use super::values::{asn, group_name, interface, name, password, prefix, seconds, text, unicast};

pub(super) fn timers() -> impl Strategy<Value = Timers> {
    (seconds(0, 65_535), prop_oneof![Just(Duration::ZERO), seconds(3, 65_535)])
        .prop_map(|(keepalive, hold)| Timers { keepalive, hold })
}

pub(super) fn session_settings() -> impl Strategy<Value = SessionSettings> {
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

pub(super) fn route_settings() -> impl Strategy<Value = RouteSettings> {
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

pub(super) fn neighbor_family() -> impl Strategy<Value = NeighborFamily> {
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

/// Ids that are said are those of other numbers, so that no two keys have the same.
pub(super) fn key_chain() -> impl Strategy<Value = KeyChain> {
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
pub(super) fn signature() -> impl Strategy<Value = (Option<Password>, Option<AoUse>)> {
    let ao = (name(), any::<bool>()).prop_map(|(chain, exclude_options)| AoUse { chain, exclude_options });
    prop_oneof![of(password()).prop_map(|password| (password, None)), ao.prop_map(|ao| (None, Some(ao)))]
}

pub(super) fn neighbor_settings() -> impl Strategy<Value = NeighborSettings> {
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

pub(super) fn neighbor_id() -> impl Strategy<Value = NeighborId> {
    prop_oneof![
        3 => unicast().prop_map(NeighborId::Address),
        1 => interface().prop_map(NeighborId::Interface),
    ]
}

/// Groups, neighbors of which some are members, and ranges that lead to groups.
type Peers = (BTreeMap<Name, NeighborSettings>, BTreeMap<NeighborId, NeighborEntry>, BTreeMap<Prefix, Name>);

pub(super) fn peers() -> impl Strategy<Value = Peers> {
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
