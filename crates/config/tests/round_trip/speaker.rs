//! What is said of the speaker, and of those that it tells or asks.

use std::{net::Ipv4Addr, time::Duration};

use config::model::{
    AdvertiseMap, Aggregate, BestPath, Bgp, BgpVrf, BmpMonitor, BmpRetry, BmpTargets, Confederation, Dampening,
    DefaultOriginate, Distances, Dump, Dumps, Existence, FailClosed, FamilyConfig, GracefulRestart, LinkBandwidth,
    MaximumInternalPaths, PolicySettings, Redistribute, RedistributeSource, RouteChecks, Rpki, RpkiCache,
    RpkiTransport, VpnLabel, VrfFamily,
};
use net_types::{Family, RouterId};
use proptest::{
    collection::{btree_map, vec},
    option::of,
    prelude::*,
    sample::select,
};

use super::neighbors::{peers, timers};
use super::policy::{ext_community, origin};
use super::values::{asn, family, name, path, prefix_of, seconds, unicast};

pub(super) fn policy_settings() -> impl Strategy<Value = PolicySettings> {
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

pub(super) fn aggregate() -> impl Strategy<Value = Aggregate> {
    (any::<[bool; 3]>(), of(origin()), of(name()), of(name())).prop_map(|(flags, origin, route_map, suppress_map)| {
        let [summary_only, as_set, matching_med_only] = flags;
        let suppress_map = suppress_map.filter(|_| !summary_only);
        Aggregate { summary_only, as_set, matching_med_only, origin, route_map, suppress_map }
    })
}

pub(super) fn dampening() -> impl Strategy<Value = Dampening> {
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

pub(super) fn family_config(family: Family) -> impl Strategy<Value = FamilyConfig> {
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

pub(super) fn bgp() -> impl Strategy<Value = Bgp> {
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

pub(super) fn bgp_vrf() -> impl Strategy<Value = BgpVrf> {
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

pub(super) fn bmp_targets() -> impl Strategy<Value = BmpTargets> {
    let milliseconds = || (100u64..=86_400_000).prop_map(Duration::from_millis);
    let host = unicast().prop_map(|address| address.to_string().parse().unwrap());
    let retry = (milliseconds(), milliseconds()).prop_map(|(a, b)| BmpRetry { min: a.min(b), max: a.max(b) });
    let monitor = any::<[bool; 4]>().prop_filter("says something", |views| views.contains(&true)).prop_map(
        |[pre_policy, post_policy, loc_rib, adj_rib_out]| BmpMonitor { pre_policy, post_policy, loc_rib, adj_rib_out },
    );
    (btree_map((host, 1u16..), retry, 0..3), btree_map(family(), monitor, 0..3), of(milliseconds()))
        .prop_map(|(stations, monitor, stats_interval)| BmpTargets { stations, monitor, stats_interval })
}

pub(super) fn dumps() -> impl Strategy<Value = Dumps> {
    let dump = || (path(), of(seconds(1, 604_800))).prop_map(|(file, interval)| Dump { file, interval });
    (of(dump()), of(dump()), of(dump())).prop_map(|(all, updates, routes)| Dumps { all, updates, routes })
}

pub(super) fn rpki() -> impl Strategy<Value = Rpki> {
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
