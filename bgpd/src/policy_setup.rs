//! From the configuration to what the routing table works with: prefix-lists, route-maps, neighbors, options.
//!
//! Names are resolved here. One that is used and never defined behaves as in FRR: a route-map denies everything, a
//! prefix-list on a neighbor denies everything, and a prefix-list in a `match` never matches.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use bgp_core::{
    decision::DecisionOptions,
    policy::{self, Adjust, Clause, CommunityChange, Policy, PrefixRule},
    rib::{FamilyConfig, LocalSource, MaximumPrefix, NextHopSelf, PeerConfig, Protection, RibConfig},
};
use bgp_wire::{Community, LargeCommunity, Origin, PeerKind};
use config::model::{self, Bgp, Config, FailClosed, MaximumPrefixAction, Name, Neighbor, RedistributeSource};
use net_types::{Family, Prefix, RouterId};

use crate::peer::{self, Ases};

/// One more than the highest sequence number of a route-map.
const SEQUENCES: u32 = 1 << 16;

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
            ..Policy::default()
        }
    }

    fn build_route_map(&self, name: &Name, map: &model::RouteMap) -> policy::RouteMap {
        policy::RouteMap::new(name.as_str(), self.clauses(map, 0).collect())
    }

    /// The clauses of `map`, numbered from `base` on.
    fn clauses(&self, map: &model::RouteMap, base: u32) -> impl Iterator<Item = Clause> {
        map.entries.iter().map(move |(sequence, entry)| Clause {
            sequence: base + u32::from(*sequence),
            action: action(entry.action),
            matches: entry.matches.iter().map(|condition| self.condition(condition)).collect(),
            sets: entry.sets.iter().map(change).collect(),
            call: None,
            on_match: match entry.on_match {
                model::OnMatch::Stop => policy::OnMatch::Stop,
                model::OnMatch::Next => policy::OnMatch::Next,
                model::OnMatch::Goto(sequence) => policy::OnMatch::Goto(base + u32::from(sequence)),
            },
        })
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
        client_to_client_reflection: bgp.client_to_client_reflection,
        confederation: bgp.confederation.identifier,
        default_local_pref: bgp.default_local_preference,
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
            _ if !through_tunnel => Protection::None,
            FailClosed::Off => Protection::None,
            FailClosed::Lost => Protection::OnFailure,
            FailClosed::Withdrawn => Protection::Always,
        },
        families: Family::ALL.map(|family| family_config(bgp, neighbor, policies, kind, family)),
        alias: session.local_as.map(peer::alias),
        loop_check: session.sender_loop_detection == Some(true),
        role: session.role.map(|local| peer::role(local.role)).filter(|_| kind == PeerKind::External),
        ..PeerConfig::new(address, kind, own)
    }
}

fn family_config(bgp: &Bgp, neighbor: &Neighbor, policies: &Policies, kind: PeerKind, family: Family) -> FamilyConfig {
    let settings = neighbor.settings.families.get(&family).cloned().unwrap_or_default();
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
        weight: settings.weight.map(u32::from),
        rules: peer::rules(&settings.routes),
    }
}

/// What redistributed routes of `source` go through.
pub fn redistribute_policy(policies: &Policies, family: Family, redistribute: &model::Redistribute) -> Policy {
    policies.policy(family, None, redistribute.route_map.as_ref())
}

/// What `network` statements of `family` go through: for those that name a route-map its clauses, restricted to that
/// prefix; the others pass as they are.
pub fn network_policy(config: &Config, policies: &Policies, family: Family, section: &model::FamilyConfig) -> Policy {
    let mapped: Vec<_> = section.networks.iter().filter_map(|(prefix, map)| Some((*prefix, map.as_ref()?))).collect();
    if mapped.is_empty() {
        return Policy::default();
    }
    let exactly = |action, prefix| PrefixRule { sequence: 0, action, prefix, ge: None, le: None };
    let mut clauses = Vec::new();
    let mut base = 0;
    for (prefix, name) in &mapped {
        let only = policy::PrefixList::new(name.as_str(), vec![exactly(policy::Action::Permit, *prefix)]);
        let only = policy::Match::Prefix(family, Arc::new(only));
        // A route-map that is not defined has no clauses, so nothing lets its network pass.
        let map = config.route_maps.get(name).into_iter().flat_map(|map| policies.clauses(map, base));
        clauses.extend(map.map(|mut clause| {
            clause.matches.push(only.clone());
            clause
        }));
        base = base.saturating_add(SEQUENCES);
    }
    let everything = match family {
        Family::Ipv4Unicast => Prefix::DEFAULT_V4,
        Family::Ipv6Unicast => Prefix::DEFAULT_V6,
    };
    let mut others: Vec<_> = mapped.iter().map(|(prefix, _)| exactly(policy::Action::Deny, *prefix)).collect();
    let rest = PrefixRule { sequence: 1, le: Some(family.max_bits()), ..exactly(policy::Action::Permit, everything) };
    others.push(rest);
    let others = policy::Match::Prefix(family, Arc::new(policy::PrefixList::new("others", others)));
    clauses.push(Clause {
        sequence: base,
        action: policy::Action::Permit,
        matches: vec![others],
        sets: Vec::new(),
        call: None,
        on_match: policy::OnMatch::Stop,
    });
    Policy::of_map(Some(Arc::new(policy::RouteMap::new("network", clauses))))
}

/// The table's name for a source of routes.
pub fn local_source(source: RedistributeSource) -> LocalSource {
    match source {
        RedistributeSource::Connected => LocalSource::Connected,
        RedistributeSource::Static => LocalSource::Static,
        RedistributeSource::Kernel => LocalSource::Kernel,
    }
}

#[cfg(test)]
mod tests {
    use config::model::{Match, NeighborFamily, OnMatch, PrefixListEntry, RemoteAs, RouteMapEntry, Set};
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
    fn lists_and_maps_keep_their_meaning() {
        let entry =
            PrefixListEntry { action: model::Action::Permit, prefix: prefix("10.0.0.0/8"), ge: None, le: Some(24) };
        let list = model::PrefixList { description: None, entries: [(5, entry)].into() };
        let communities = model::CommunityChange::Add(vec![model::Community(7)]);
        let first = RouteMapEntry {
            on_match: OnMatch::Goto(30),
            ..permit(vec![Match::PrefixListV4(name("tens")), Match::Metric(3)], vec![Set::Community(communities)])
        };
        let mut config = Config::default();
        config.prefix_lists.insert((V4, name("tens")), list);
        config.route_maps.insert(name("m"), model::RouteMap { entries: [(10, first)].into() });
        let policies = Policies::new(&config);

        let tens = policies.prefix_list(V4, &name("tens"));
        assert_eq!(tens.evaluate(&prefix("10.1.0.0/16")), policy::Action::Permit);
        assert_eq!(tens.evaluate(&prefix("10.1.1.0/25")), policy::Action::Deny);
        let expected = Clause {
            sequence: 10,
            action: policy::Action::Permit,
            matches: vec![policy::Match::Prefix(V4, tens), policy::Match::Metric(3)],
            sets: vec![policy::Set::Communities(CommunityChange::Add(vec![Community(7)]))],
            call: None,
            on_match: policy::OnMatch::Goto(30),
        };
        assert_eq!(*policies.route_map(&name("m")), policy::RouteMap::new("m", vec![expected]));
    }

    #[test]
    fn names_that_were_never_defined_deny() {
        let policies = Policies::new(&Config::default());
        assert_eq!(*policies.route_map(&name("m")), policy::RouteMap::undefined("m"));
        let list = policies.prefix_list(V4, &name("l"));
        assert_eq!(list.evaluate(&prefix("10.0.0.0/8")), policy::Action::Deny);
    }

    #[test]
    fn a_network_goes_through_its_own_route_map_and_no_other() {
        let mut rib = bgp_core::rib::Rib::new(
            rib_config(&Bgp::new(Asn::literal(65001)), RouterId::try_from(1).unwrap(), 3),
            std::time::Instant::now(),
        );
        let mut config = Config::default();
        let next = RouteMapEntry { on_match: OnMatch::Next, ..permit(vec![], vec![Set::Metric(5)]) };
        let never = permit(vec![Match::Metric(77)], vec![Set::Metric(9)]);
        config.route_maps.insert(name("five"), model::RouteMap { entries: [(10, next), (20, never)].into() });
        let section = model::FamilyConfig {
            networks: [("10.0.0.0/8", Some("five")), ("10.1.0.0/16", Some("undefined")), ("10.2.0.0/16", None)]
                .map(|(network, map)| (prefix(network), map.map(name)))
                .into(),
            ..Default::default()
        };
        let policy = network_policy(&config, &Policies::new(&config), V4, &section);
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
    fn only_what_comes_through_a_tunnel_is_protected() {
        for (fail_closed, through_tunnel, expected) in [
            (FailClosed::Lost, true, Protection::OnFailure),
            (FailClosed::Lost, false, Protection::None),
            (FailClosed::Withdrawn, true, Protection::Always),
            (FailClosed::Off, true, Protection::None),
        ] {
            let (bgp, neighbor) = speaker(|bgp, _| bgp.fail_closed = fail_closed);
            let policies = Policies::new(&Config::default());
            let peer = peer_config(&bgp, &neighbor, PEER, &policies, through_tunnel);
            assert_eq!(peer.protection, expected, "{fail_closed:?}, tunnel: {through_tunnel}");
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
        assert_eq!(family.import, policies.policy(V4, None, Some(&name("m"))), "said, so not silent");
        let (bgp, internal) = speaker(|bgp, neighbor| {
            bgp.ebgp_requires_policy = true;
            neighbor.remote_as = RemoteAs::Internal;
        });
        let peer = peer_config(&bgp, &internal, PEER, &policies, false);
        assert_eq!((peer.kind, &peer.families[V4 as usize]), (PeerKind::Internal, &FamilyConfig::default()));
    }
}
