//! `show running-config` reads back to the configuration it was printed from, whatever that is.

mod neighbors;
mod policy;
mod speaker;
mod tunnels;
mod values;
mod vrrp;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use config::{
    Command, Config,
    model::{
        BfdPeer, BfdPeerId, Bgp, Community, Datapath, Initiate, Log, LogFormat, LogLevel, Metrics, NeighborId,
        PathDamping, RemoteAddress, RouteMap, Standby, Vrf, VrrpTracked,
    },
    parse,
};
use net_types::{Family, TunnelName, WanName};
use proptest::{
    collection::{btree_map, vec},
    option::of,
    prelude::*,
    sample::select,
};

use neighbors::key_chain;
use policy::{
    access_list, aliased_community, community_lists, ext_community_term, large_community, pattern, prefix_list,
    route_map_entry, rules,
};
use speaker::{bgp, dumps, rpki};
use tunnels::{bfd_peer, bfd_profile, identity, proposal, static_route, tunnel, wan};
use values::{family, interface, name, unicast};

fn any_config() -> impl Strategy<Value = Config> {
    let level = select(&[LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace][..]);
    let log = (of(level), of(select(&[LogFormat::Text, LogFormat::Json][..])))
        .prop_map(|(level, format)| Log { level, format });
    let metrics = (of((unicast(), 1u16..5000)), of((unicast(), 5000u16..)))
        .prop_map(|(bgpd, ipsecd)| Metrics { bgpd: bgpd.map(Into::into), ipsecd: ipsecd.map(Into::into) });
    let damping =
        (1u8..=100, 1u64..=3600, 100u64..=3_600_000, 0u64..=82_800).prop_map(|(failures, within, hold, beyond)| {
            let hold = Duration::from_millis(hold);
            let max = hold + Duration::from_secs(beyond);
            PathDamping { failures, within: Duration::from_secs(within), hold, max }
        });
    let lists = family().prop_flat_map(|family| ((Just(family), name()), prefix_list(family)));
    let access_lists = family().prop_flat_map(|family| ((Just(family), name()), access_list(family)));
    let tunnels = btree_map("tun[0-9]".prop_map(|text| text.parse::<TunnelName>().unwrap()), tunnel().boxed(), 0..3);
    (
        (
            (any::<bool>(), of(name()), of(damping)),
            log,
            (metrics, select(Datapath::ALL)),
            btree_map("[a-z]{1,8}".prop_map(|text| text.parse::<WanName>().unwrap()), wan(), 1..3),
        ),
        (btree_map(name(), proposal(), 0..3), btree_map(name(), identity(), 1..3), tunnels),
        (
            (btree_map(name(), bfd_profile(), 0..3), btree_map(name(), key_chain(), 1..3)),
            vec(bfd_peer().boxed(), 0..3),
            (vec(static_route(), 0..4), btree_map((interface(), vrrp::vrid()), vrrp::group(), 0..4)),
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
            let ((frr_defaults, hostname, path_damping), log, (metrics, datapath), wans) = first;
            let (proposals, identities, mut tunnels) = second;
            let ((bfd_profiles, key_chains), bfd_peers, (mut static_routes, mut vrrp), lists) = third;
            let mut bfd_peers: BTreeMap<BfdPeerId, BfdPeer> = bfd_peers.into_iter().collect();
            for peer in bfd_peers.values_mut() {
                peer.profile = bfd_profiles.keys().next().cloned();
            }
            let (route_maps, (rpki, dumps, vrfs), mut bgp) = fourth;
            for route in &mut static_routes {
                if let Some(bfd) = &mut route.bfd {
                    bfd.profile = bfd_profiles.keys().next().cloned();
                }
            }
            static_routes.sort();
            static_routes.dedup();
            // What is named must exist, and two tunnels do not share an address.
            let on_one_wan = tunnels.values().next().and_then(|tunnel| tunnel.datapath);
            // The last one stands by for the others, where it has somebody to call.
            let names: Vec<_> = tunnels.keys().cloned().collect();
            if let [stands_for @ .., _] = &names[..]
                && !stands_for.is_empty()
                && let Some(mut last) = tunnels.last_entry()
                && last.get().remote.address != RemoteAddress::Any
            {
                let standby = Standby {
                    stands_for: stands_for.to_vec(),
                    hold: Duration::from_secs(last.get().ike_lifetime.as_secs() % 100),
                };
                last.get_mut().initiate = Initiate::Standby(standby);
            }
            for (number, tunnel) in tunnels.values_mut().enumerate() {
                tunnel.datapath = on_one_wan;
                let reachable = tunnel.remote.address != RemoteAddress::Any;
                let kernel = on_one_wan.unwrap_or(datapath) != Datapath::Userspace;
                if number == 0 && reachable && kernel && tunnel.packets.gre.is_some() {
                    (tunnel.local_selectors, tunnel.remote_selectors) = Default::default();
                    tunnel.reverse_route = None;
                } else if tunnel.packets.gre.take().is_some() {
                    tunnel.packets.said_encapsulation = None;
                }
                let mut links = wans.keys().cloned();
                tunnel.wan = links.next().unwrap();
                tunnel.backup_wans = links.take(number % 2).collect();
                tunnel.identity = identities.keys().next().unwrap().clone();
                let identity = &identities[&tunnel.identity];
                if matches!(identity.credential, config::model::Credential::PreSharedKey { .. }) {
                    tunnel.demands = Default::default();
                }
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
            let neighbor = bgp.iter().flat_map(|bgp| bgp.neighbors.keys()).find_map(NeighborId::address);
            let mut taken = BTreeSet::new();
            vrrp.retain(|(interface, _), group| {
                group.v4.retain(|address| taken.insert((interface.clone(), IpAddr::V4(*address))));
                group.v6.retain(|address| taken.insert((interface.clone(), IpAddr::V6(*address))));
                if !group.v6.iter().any(Ipv6Addr::is_unicast_link_local) {
                    group.v6.clear();
                }
                vrrp::settle(
                    group,
                    |tracked| matches!(tracked, VrrpTracked::Tunnel(name) if tunnels.contains_key(name)),
                    neighbor,
                );
                !group.v4.is_empty() || !group.v6.is_empty()
            });
            Config {
                frr_defaults,
                hostname,
                log,
                path_damping,
                metrics,
                wans,
                datapath,
                proposals,
                identities,
                tunnels,
                key_chains,
                bfd_profiles,
                bfd_peers,
                vrrp,
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
