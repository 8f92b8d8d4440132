//! From the configuration to what the routing table works with: prefix-lists, route-maps, neighbors, options.
//!
//! Names are resolved here. One that is used and never defined behaves as in FRR: a route-map denies everything, a
//! prefix-list on a neighbor denies everything, and a prefix-list in a `match` never matches.

use std::{collections::BTreeMap, sync::Arc};

use bgp_core::{
    decision::DecisionOptions,
    policy::{self, Adjust, Clause, CommunityChange, Policy, PrefixRule},
    rib::{FamilyConfig, LocalSource, MaximumPrefix, NextHopSelf, PeerConfig, Protection, RibConfig},
};
use bgp_wire::{Community, LargeCommunity, Origin, PeerKind};
use config::model::{self, Bgp, Config, FailClosed, MaximumPrefixAction, Name, Neighbor, RedistributeSource};
use net_types::{Family, RouterId};

/// The prefix-lists and route-maps of a configuration, each made once however many neighbors use it.
pub struct Policies {
    prefix_lists: BTreeMap<(Family, Name), Arc<policy::PrefixList>>,
    route_maps: BTreeMap<Name, Arc<policy::RouteMap>>,
}

impl Policies {
    /// Builds them.
    pub fn new(config: &Config) -> Self {
        let build =
            |(key, list): (&(Family, Name), &model::PrefixList)| (key.clone(), Arc::new(prefix_list(&key.1, list)));
        let prefix_lists: BTreeMap<_, _> = config.prefix_lists.iter().map(build).collect();
        let mut this = Self { prefix_lists, route_maps: BTreeMap::new() };
        let maps = config.route_maps.iter();
        this.route_maps = maps.map(|(name, map)| (name.clone(), Arc::new(this.build_route_map(name, map)))).collect();
        this
    }

    /// The prefix-list of that name.
    pub fn prefix_list(&self, family: Family, name: &Name) -> Arc<policy::PrefixList> {
        let known = self.prefix_lists.get(&(family, name.clone())).cloned();
        known.unwrap_or_else(|| Arc::new(policy::PrefixList::undefined(name.as_str())))
    }

    /// The route-map of that name.
    pub fn route_map(&self, name: &Name) -> Arc<policy::RouteMap> {
        let known = self.route_maps.get(name).cloned();
        known.unwrap_or_else(|| Arc::new(policy::RouteMap::undefined(name.as_str())))
    }

    /// What these names mean together for routes of `family`.
    pub fn policy(&self, family: Family, prefix_list: Option<&Name>, route_map: Option<&Name>) -> Policy {
        Policy {
            prefix_list: prefix_list.map(|name| self.prefix_list(family, name)),
            route_map: route_map.map(|name| self.route_map(name)),
        }
    }

    fn build_route_map(&self, name: &Name, map: &model::RouteMap) -> policy::RouteMap {
        let clauses = map.entries.iter().map(|(sequence, entry)| Clause {
            sequence: u32::from(*sequence),
            action: action(entry.action),
            matches: entry.matches.iter().map(|condition| self.condition(condition)).collect(),
            sets: entry.sets.iter().map(change).collect(),
            on_match: match entry.on_match {
                model::OnMatch::Stop => policy::OnMatch::Stop,
                model::OnMatch::Next => policy::OnMatch::Next,
                model::OnMatch::Goto(sequence) => policy::OnMatch::Goto(u32::from(sequence)),
            },
        });
        policy::RouteMap::new(name.as_str(), clauses.collect())
    }

    fn condition(&self, condition: &model::Match) -> policy::Match {
        match condition {
            model::Match::PrefixListV4(name) => self.covered(Family::Ipv4Unicast, name),
            model::Match::PrefixListV6(name) => self.covered(Family::Ipv6Unicast, name),
            model::Match::Metric(metric) => policy::Match::Metric(*metric),
            model::Match::LocalPreference(preference) => policy::Match::LocalPreference(*preference),
            model::Match::Peer(address) => policy::Match::Peer(*address),
        }
    }

    fn covered(&self, family: Family, name: &Name) -> policy::Match {
        policy::Match::Prefix(family, self.prefix_list(family, name))
    }
}

fn action(action: model::Action) -> policy::Action {
    match action {
        model::Action::Permit => policy::Action::Permit,
        model::Action::Deny => policy::Action::Deny,
    }
}

fn prefix_list(name: &Name, list: &model::PrefixList) -> policy::PrefixList {
    let rule = |(sequence, entry): (&u32, &model::PrefixListEntry)| PrefixRule {
        sequence: *sequence,
        action: action(entry.action),
        prefix: entry.prefix,
        ge: entry.ge,
        le: entry.le,
    };
    policy::PrefixList::new(name.as_str(), list.entries.iter().map(rule).collect())
}

fn change(set: &model::Set) -> policy::Set {
    match set {
        model::Set::AsPathPrepend(asns) => policy::Set::Prepend(asns.clone()),
        model::Set::AsPathPrependLast(times) => policy::Set::PrependLast(*times),
        model::Set::Community(change) => policy::Set::Communities(communities(change, |c| Community(c.0))),
        model::Set::LargeCommunity(change) => policy::Set::LargeCommunities(communities(change, |c| LargeCommunity {
            global: c.0,
            local1: c.1,
            local2: c.2,
        })),
        model::Set::NextHop(address) => policy::Set::NextHop(*address),
        model::Set::LocalPreference(preference) => policy::Set::LocalPreference(Adjust::To(*preference)),
        model::Set::Metric(metric) => policy::Set::Metric(Adjust::To(*metric)),
        model::Set::Origin(origin) => policy::Set::Origin(match origin {
            model::Origin::Igp => Origin::Igp,
            model::Origin::Egp => Origin::Egp,
            model::Origin::Incomplete => Origin::Incomplete,
        }),
        model::Set::Weight(weight) => policy::Set::Weight(u32::from(*weight)),
    }
}

fn communities<C, W>(change: &model::CommunityChange<C>, wire: impl Fn(&C) -> W) -> CommunityChange<W> {
    match change {
        model::CommunityChange::Clear => CommunityChange::Replace(Vec::new()),
        model::CommunityChange::Replace(list) => CommunityChange::Replace(list.iter().map(wire).collect()),
        model::CommunityChange::Add(list) => CommunityChange::Add(list.iter().map(wire).collect()),
    }
}

/// How paths are compared. `deterministic-med` is not asked: they always are.
pub fn decision(bgp: &Bgp) -> DecisionOptions {
    DecisionOptions {
        always_compare_med: bgp.best_path.always_compare_med,
        missing_med_as_worst: bgp.best_path.missing_med_is_worst,
        compare_router_id: bgp.best_path.compare_router_id,
        ignore_as_path_length: bgp.best_path.ignore_as_path_length,
    }
}

/// What the table has to know of this router. `router_id` is the configured one or what was chosen in its place.
pub fn rib_config(bgp: &Bgp, router_id: RouterId, hash_seed: u64) -> RibConfig {
    RibConfig {
        asn: bgp.asn,
        router_id,
        cluster_id: bgp.cluster_id,
        default_local_pref: bgp.default_local_preference,
        decision: decision(bgp),
        hash_seed,
    }
}

/// What the table has to know of a neighbor. `through_tunnel`: it is reached through an IPsec tunnel, so that what it
/// announces must not leave in the clear.
pub fn peer_config(bgp: &Bgp, neighbor: &Neighbor, policies: &Policies, through_tunnel: bool) -> PeerConfig {
    let kind = match bgp.remote_as(neighbor) {
        Some(asn) if asn == bgp.asn => PeerKind::Internal,
        _ => PeerKind::External,
    };
    PeerConfig {
        protection: match bgp.fail_closed {
            _ if !through_tunnel => Protection::None,
            FailClosed::Off => Protection::None,
            FailClosed::Lost => Protection::OnFailure,
            FailClosed::Withdrawn => Protection::Always,
        },
        families: Family::ALL.map(|family| family_config(bgp, neighbor, policies, kind, family)),
        ..PeerConfig::new(neighbor.address, kind, bgp.asn)
    }
}

fn family_config(bgp: &Bgp, neighbor: &Neighbor, policies: &Policies, kind: PeerKind, family: Family) -> FamilyConfig {
    let settings = neighbor.families.get(&family).cloned().unwrap_or_default();
    let policy = |prefix_list: &Option<Name>, route_map: &Option<Name>| {
        let silent = prefix_list.is_none() && route_map.is_none();
        if silent && bgp.ebgp_requires_policy && kind == PeerKind::External {
            return Policy::deny_all(); // RFC 8212 §2.1
        }
        policies.policy(family, prefix_list.as_ref(), route_map.as_ref())
    };
    FamilyConfig {
        import: policy(&settings.prefix_list_in, &settings.route_map_in),
        export: policy(&settings.prefix_list_out, &settings.route_map_out),
        next_hop_self: if settings.next_hop_self { NextHopSelf::External } else { NextHopSelf::WhereRequired },
        maximum_prefix: settings.maximum_prefix.map(|maximum| MaximumPrefix {
            limit: maximum.limit,
            threshold: maximum.threshold_percent,
            warning_only: maximum.action == MaximumPrefixAction::Warn,
            force: false,
        }),
        weight: settings.weight.map(u32::from),
    }
}

/// What redistributed routes of `source` go through.
pub fn redistribute_policy(policies: &Policies, family: Family, redistribute: &model::Redistribute) -> Policy {
    policies.policy(family, None, redistribute.route_map.as_ref())
}

/// The table's name for a source of routes.
pub fn local_source(source: RedistributeSource) -> LocalSource {
    match source {
        RedistributeSource::Connected => LocalSource::Connected,
        RedistributeSource::Static => LocalSource::Static,
        RedistributeSource::Kernel => LocalSource::Kernel,
    }
}
