//! From the configuration to what the routing table works with: neighbors, options, and the policies that they name.

mod policies;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use bgp_core::{
    decision::{DecisionOptions, LinkBandwidth, MaximumPaths},
    policy::{self, Clause, Policy, PrefixRule},
    rib::{
        AggregateConfig, ConditionalAdvertisement, Dampening, DefaultOriginate, Existence, FamilyConfig, LocalSource,
        MaximumPrefix, NextHopSelf, PeerConfig, Protection, RibConfig,
    },
};
use bgp_wire::PeerKind;
use config::model::{self, Bgp, FailClosed, MaximumPrefixAction, Name, Neighbor, RedistributeSource};
use net_types::{Family, Prefix, RouterId};

pub use policies::{Policies, community, large_community};

use crate::peer::{self, Ases};

/// How paths are compared. `deterministic-med` is not asked: they always are. Neither is `bestpath med confed`, since paths that
/// never left the confederation have the same neighboring AS, which is none (RFC 5065 §5.3).
pub fn decision(bgp: &Bgp) -> DecisionOptions {
    DecisionOptions {
        always_compare_med: bgp.best_path.always_compare_med,
        missing_med_as_worst: bgp.best_path.missing_med_is_worst,
        compare_router_id: bgp.best_path.compare_router_id,
        ignore_as_path_length: bgp.best_path.ignore_as_path_length,
        count_confederation: bgp.best_path.confed_as_path,
        relax_as_path: bgp.best_path.relax_as_path,
        relax_peer_type: bgp.best_path.relax_peer_type,
        maximum_paths: Family::ALL.map(|family| maximum_paths(bgp, family)),
        link_bandwidth: match bgp.best_path.bandwidth {
            model::LinkBandwidth::WhenAll => LinkBandwidth::WhenAll,
            model::LinkBandwidth::Ignore => LinkBandwidth::Ignore,
            model::LinkBandwidth::SkipMissing => LinkBandwidth::SkipMissing,
            model::LinkBandwidth::DefaultForMissing => LinkBandwidth::DefaultForMissing,
        },
    }
}

/// Paths that share packets where FRR's defaults hold and nothing is said: what it is built for as a rule.
const FRR_MAXIMUM_PATHS: u8 = 64;

fn maximum_paths(bgp: &Bgp, family: Family) -> MaximumPaths {
    let section = bgp.families.get(&family);
    let default = if bgp.frr_defaults { FRR_MAXIMUM_PATHS } else { 1 };
    let internal = section.and_then(|section| section.maximum_internal_paths);
    MaximumPaths {
        external: section.and_then(|section| section.maximum_paths).unwrap_or(default),
        internal: internal.map_or(default, |internal| internal.paths),
        equal_cluster_length: internal.is_some_and(|internal| internal.equal_cluster_length),
    }
}

/// How flapping is judged in a family, if it is.
pub fn dampening(bgp: &Bgp, family: Family) -> Option<Dampening> {
    let figures = bgp.families.get(&family)?.dampening?;
    let minutes = |minutes: u8| Duration::from_secs(60 * u64::from(minutes));
    Some(Dampening {
        half_life: minutes(figures.half_life_minutes),
        reuse: figures.reuse.into(),
        suppress: figures.suppress.into(),
        max_suppress: minutes(figures.max_suppress_minutes),
    })
}

/// What the table has to know of this router. `router_id` is the configured one or what was chosen in its place.
pub fn rib_config(bgp: &Bgp, router_id: RouterId, hash_seed: u64) -> RibConfig {
    RibConfig {
        asn: bgp.asn,
        router_id,
        cluster_id: bgp.cluster_id,
        client_to_client_reflection: bgp.client_to_client_reflection,
        graceful_shutdown: bgp.graceful_shutdown,
        confederation: bgp.confederation.identifier,
        default_local_pref: bgp.default_local_preference,
        reject_as_sets: bgp.checks.reject_as_sets,
        decision: decision(bgp),
        hash_seed,
    }
}

/// What the table has to know of a neighbor at `address`. `through_tunnel`: it is reached through an IPsec tunnel, so that what it
/// announces must not leave in the clear.
pub fn peer_config(
    bgp: &Bgp,
    neighbor: &Neighbor,
    address: IpAddr,
    policies: &Policies,
    through_tunnel: bool,
) -> PeerConfig {
    let Ases { own, kind, .. } = Ases::of(bgp, neighbor);
    let session = &neighbor.settings.session;
    PeerConfig {
        protection: match bgp.fail_closed {
            FailClosed::Off => Protection::None,
            _ if !through_tunnel && kind == PeerKind::Internal => Protection::AsTold,
            _ if !through_tunnel => Protection::None,
            FailClosed::Lost => Protection::OnFailure,
            FailClosed::Withdrawn => Protection::Always,
        },
        families: Family::ALL.map(|family| family_config(bgp, neighbor, policies, kind, family)),
        alias: session.local_as.map(peer::alias),
        advertisement_interval: session.advertisement_interval.unwrap_or_default(),
        loop_check: session.sender_loop_detection == Some(true),
        echo: bgp.frr_defaults && session.solo != Some(true),
        role: session.role.map(|local| peer::role(local.role)).filter(|_| kind == PeerKind::External),
        ..PeerConfig::new(address, kind, own)
    }
}

fn family_config(bgp: &Bgp, neighbor: &Neighbor, policies: &Policies, kind: PeerKind, family: Family) -> FamilyConfig {
    let settings = neighbor.settings.families.get(&family).cloned().unwrap_or_default();
    let policy = |lists: [&Option<Name>; 3], route_map: &Option<Name>| {
        let [access_list, prefix_list, as_path_list] = lists;
        let silent = lists.iter().all(|list| list.is_none()) && route_map.is_none();
        if silent && bgp.ebgp_requires_policy && kind == PeerKind::External {
            return Policy::deny_all(); // RFC 8212 §2.1
        }
        Policy {
            access_list: access_list.as_ref().map(|name| policies.access_list(family.unicast(), name)),
            prefix_list: prefix_list.as_ref().map(|name| policies.prefix_list(family.unicast(), name)),
            as_path_list: as_path_list.as_ref().map(|name| policies.as_path_list(name)),
            ..policies.of_map(route_map.as_ref())
        }
    };
    let filters = &settings.policy;
    FamilyConfig {
        import: policy(
            [&filters.distribute_list_in, &settings.prefix_list_in, &filters.filter_list_in],
            &settings.route_map_in,
        ),
        export: policy(
            [&filters.distribute_list_out, &settings.prefix_list_out, &filters.filter_list_out],
            &settings.route_map_out,
        ),
        next_hop_self: match (settings.routes.next_hop_self_force, settings.next_hop_self) {
            (Some(true), _) => NextHopSelf::Always,
            (_, Some(true)) => NextHopSelf::External,
            _ => NextHopSelf::WhereRequired,
        },
        maximum_prefix: settings.maximum_prefix.map(|maximum| MaximumPrefix {
            limit: maximum.limit,
            threshold: maximum.threshold_percent,
            warning_only: maximum.action == MaximumPrefixAction::Warn,
            force: false,
        }),
        unsuppress: filters.unsuppress_map.as_ref().map(|name| policies.of_map(Some(name))),
        default_originate: match &filters.default_originate {
            Some(model::DefaultOriginate::Yes { route_map }) => {
                Some(DefaultOriginate { condition: route_map.as_ref().map(|name| policies.of_map(Some(name))) })
            }
            None | Some(model::DefaultOriginate::No) => None,
        },
        advertise: filters.advertise_map.as_ref().map(|advertise| ConditionalAdvertisement {
            routes: policies.of_map(Some(&advertise.map)),
            wanted: match advertise.wanted {
                model::Existence::Exist => Existence::Exists,
                model::Existence::NonExist => Existence::Missing,
            },
            condition: policies.of_map(Some(&advertise.condition)),
        }),
        maximum_out: filters.maximum_prefix_out,
        weight: settings.weight.map(u32::from),
        rules: peer::rules(&settings.routes),
        add_path: peer::add_path(&settings.routes),
    }
}

/// What routes of our own go through, by source: what `redistribute` and `network` name. A source that the configuration
/// does not mention lets everything pass, and has nothing.
pub fn local_policies(
    policies: &Policies,
    family: Family,
    section: &model::FamilyConfig,
) -> Vec<(LocalSource, Policy)> {
    let redistributed = RedistributeSource::ALL.into_iter().map(|source| {
        let settings = section.redistribute.get(&source);
        (local_source(source), policies.of_map(settings.and_then(|settings| settings.route_map.as_ref())))
    });
    redistributed.chain([(LocalSource::Network, network_policy(policies, family, section))]).collect()
}

/// What `network` statements of `family` go through: those that name a route-map are asked there, the others pass as they
/// are.
fn network_policy(policies: &Policies, family: Family, section: &model::FamilyConfig) -> Policy {
    let mapped = section.networks.iter().filter_map(|(prefix, map)| Some((*prefix, map.as_ref()?)));
    let asked = mapped.map(|(prefix, name)| {
        let only = PrefixRule { sequence: 0, action: policy::Action::Permit, prefix, ge: None, le: None };
        let only = policy::PrefixList::new(prefix.to_string(), vec![only]);
        (vec![policy::Match::Prefix(family, Arc::new(only))], Some(policies.route_map(name)))
    });
    let mut clauses: Vec<(Vec<policy::Match>, Option<Arc<policy::RouteMap>>)> = asked.collect();
    if clauses.is_empty() {
        return Policy::default();
    }
    clauses.push((Vec::new(), None));
    let clause = |(sequence, (matches, call))| Clause {
        sequence,
        action: policy::Action::Permit,
        matches,
        sets: Vec::new(),
        call,
        on_match: policy::OnMatch::Stop,
    };
    Policy::of_map(Some(Arc::new(policy::RouteMap::new("network", (0..).zip(clauses).map(clause).collect()))))
}

/// What is aggregated in a family.
pub fn aggregates(policies: &Policies, section: &model::FamilyConfig) -> BTreeMap<Prefix, AggregateConfig> {
    let config = |aggregate: &model::Aggregate| AggregateConfig {
        summary_only: aggregate.summary_only,
        as_set: aggregate.as_set,
        matching_med_only: aggregate.matching_med_only,
        origin: aggregate.origin.map(policies::origin),
        policy: policies.of_map(aggregate.route_map.as_ref()),
        suppress: aggregate.suppress_map.as_ref().map(|name| policies.of_map(Some(name))),
    };
    section.aggregates.iter().map(|(prefix, aggregate)| (*prefix, config(aggregate))).collect()
}

/// The table's name for a source of routes.
pub fn local_source(source: RedistributeSource) -> LocalSource {
    match source {
        RedistributeSource::Connected => LocalSource::Connected,
        RedistributeSource::Static => LocalSource::Static,
        RedistributeSource::Kernel => LocalSource::Kernel,
        RedistributeSource::Ipsec => LocalSource::Ipsec,
    }
}

#[cfg(test)]
mod tests {
    use config::model::{Adjust, Config, Match, NeighborFamily, OnMatch, RemoteAs, RouteMapEntry, Set};
    use net_types::Asn;

    use super::*;

    const V4: Family = Family::Ipv4Unicast;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn permit(matches: Vec<Match>, sets: Vec<Set>) -> RouteMapEntry {
        RouteMapEntry { matches, sets, ..RouteMapEntry::new(model::Action::Permit) }
    }

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 1, 1));

    /// A speaker in AS 65001 with one neighbor in AS 65000, which `adjust` may change.
    fn speaker(adjust: impl FnOnce(&mut Bgp, &mut Neighbor)) -> (Bgp, Neighbor) {
        let mut bgp = Bgp::new(Asn::literal(65001));
        let mut neighbor = Neighbor::new(PEER, RemoteAs::Asn(Asn::literal(65000)));
        adjust(&mut bgp, &mut neighbor);
        (bgp, neighbor)
    }

    #[test]
    fn a_network_goes_through_its_own_route_map_and_no_other() {
        let mut rib = bgp_core::rib::Rib::new(
            rib_config(&Bgp::new(Asn::literal(65001)), RouterId::try_from(1).unwrap(), 3),
            std::time::Instant::now(),
        );
        let mut config = Config::default();
        let next = RouteMapEntry { on_match: OnMatch::Next, ..permit(vec![], vec![Set::Metric(Adjust::To(5))]) };
        let never = permit(vec![Match::Metric(77)], vec![Set::Metric(Adjust::To(9))]);
        config.route_maps.insert(name("five"), model::RouteMap { entries: [(10, next), (20, never)].into() });
        let section = model::FamilyConfig {
            networks: [("10.0.0.0/8", Some("five")), ("10.1.0.0/16", Some("undefined")), ("10.2.0.0/16", None)]
                .map(|(network, map)| (prefix(network), map.map(name)))
                .into(),
            ..Default::default()
        };
        let policy = network_policy(&Policies::new(&config), V4, &section);
        rib.set_local_policy(LocalSource::Network, V4, policy);
        let now = std::time::Instant::now();
        let mut med = |network: &str| {
            rib.originate(now, LocalSource::Network, prefix(network), Default::default());
            let route = rib.route(now, &prefix(network)).unwrap();
            route.paths[0].effective.as_ref().map(|attrs| attrs.attributes.med)
        };
        assert_eq!(med("10.0.0.0/8"), Some(Some(5)));
        assert_eq!(med("10.1.0.0/16"), None, "denied");
        assert_eq!(med("10.2.0.0/16"), Some(None));
    }

    #[test]
    fn only_what_comes_through_a_tunnel_is_protected_be_it_anothers() {
        for (fail_closed, remote_as, through_tunnel, expected) in [
            (FailClosed::Lost, 65000, true, Protection::OnFailure),
            (FailClosed::Lost, 65000, false, Protection::None),
            (FailClosed::Withdrawn, 65000, true, Protection::Always),
            (FailClosed::Off, 65000, true, Protection::None),
            (FailClosed::Lost, 65001, true, Protection::OnFailure),
            (FailClosed::Lost, 65001, false, Protection::AsTold),
            (FailClosed::Withdrawn, 65001, false, Protection::AsTold),
            (FailClosed::Off, 65001, false, Protection::None),
        ] {
            let (bgp, neighbor) = speaker(|bgp, neighbor| {
                bgp.fail_closed = fail_closed;
                neighbor.remote_as = RemoteAs::Asn(Asn::literal(remote_as));
            });
            let policies = Policies::new(&Config::default());
            let peer = peer_config(&bgp, &neighbor, PEER, &policies, through_tunnel);
            assert_eq!(peer.protection, expected, "{fail_closed:?}, AS{remote_as}, tunnel: {through_tunnel}");
        }
    }

    #[test]
    fn a_silent_external_neighbor_passes_all_or_nothing() {
        let policies = Policies::new(&Config::default());
        let (bgp, neighbor) = speaker(|_, _| {});
        let peer = peer_config(&bgp, &neighbor, PEER, &policies, false);
        assert_eq!((peer.kind, &peer.families[V4 as usize]), (PeerKind::External, &FamilyConfig::default()));
        let (bgp, neighbor) = speaker(|bgp, neighbor| {
            bgp.ebgp_requires_policy = true;
            let settings = NeighborFamily { route_map_in: Some(name("m")), ..NeighborFamily::default() };
            neighbor.settings.families.insert(V4, settings);
        });
        let family = &peer_config(&bgp, &neighbor, PEER, &policies, false).families[V4 as usize];
        assert_eq!(family.export, Policy::deny_all(), "RFC 8212");
        assert_eq!(family.import, policies.of_map(Some(&name("m"))), "said, so not silent");
        let (bgp, internal) = speaker(|bgp, neighbor| {
            bgp.ebgp_requires_policy = true;
            neighbor.remote_as = RemoteAs::Internal;
        });
        let peer = peer_config(&bgp, &internal, PEER, &policies, false);
        assert_eq!((peer.kind, &peer.families[V4 as usize]), (PeerKind::Internal, &FamilyConfig::default()));
    }
}
