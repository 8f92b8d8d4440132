//! The lists and route-maps of a configuration, each made once however many neighbors use it.
//!
//! Names are resolved here. One that is used and never defined behaves as in FRR: a route-map denies everything, a list on a
//! neighbor denies everything, and a list in a `match` never matches.

use std::{collections::BTreeMap, sync::Arc};

use bgp_core::{
    policy::{
        self, AccessList, AccessTarget, Adjust, AsPathList, Clause, CommunityChange, CommunityKind, CommunityList,
        CommunityTest, ExtCommunityChange, Policy, PrefixRule,
    },
    validation::ValidationState,
};
use bgp_wire::{Aggregator, Community, ExtCommunity, LargeCommunity, Origin};
use config::model::{self, Config, MatchPeer, Name, Protocol, Rules};
use net_types::{Asn, Family};

use super::local_source;

/// How deep route-maps may call each other, as in FRR: beyond, the route is denied.
const DEEPEST_CALL: u8 = 10;

/// All of them.
pub struct Policies {
    access_lists: BTreeMap<(Family, Name), Arc<AccessList>>,
    prefix_lists: BTreeMap<(Family, Name), Arc<policy::PrefixList>>,
    as_path_lists: BTreeMap<Name, Arc<AsPathList>>,
    community_lists: BTreeMap<Name, Arc<CommunityList<Community>>>,
    large_community_lists: BTreeMap<Name, Arc<CommunityList<LargeCommunity>>>,
    ext_community_lists: BTreeMap<Name, Arc<CommunityList<ExtCommunity>>>,
    aliases: BTreeMap<Name, model::AliasedCommunity>,
    route_maps: BTreeMap<Name, Arc<policy::RouteMap>>,
    /// Ours, which a link bandwidth names; without a speaker there is none.
    asn: Option<Asn>,
}

/// The route-maps that are being made: by name, and by how deep in calls they are used.
type Made = BTreeMap<(Name, u8), Arc<policy::RouteMap>>;

impl Policies {
    /// Builds them.
    pub fn new(config: &Config) -> Self {
        let mut this = Self {
            access_lists: arcs(&config.access_lists, |(_, name), rules| access_list(name, rules)),
            prefix_lists: arcs(&config.prefix_lists, |(_, name), list| prefix_list(name, list)),
            as_path_lists: arcs(&config.as_path_lists, |name, rules| {
                AsPathList::new(name.as_str(), in_order(rules, |pattern| pattern.regex().clone().into()))
            }),
            community_lists: arcs(&config.community_lists, |name, list| community_list(name, list, community)),
            large_community_lists: arcs(&config.large_community_lists, |name, list| {
                community_list(name, list, large_community)
            }),
            ext_community_lists: arcs(&config.ext_community_lists, |name, list| community_list(name, list, term)),
            aliases: config.community_aliases.iter().map(|(community, name)| (name.clone(), *community)).collect(),
            route_maps: BTreeMap::new(),
            asn: config.bgp.as_ref().map(|bgp| bgp.asn),
        };
        let mut made = Made::new();
        let maps = config.route_maps.keys().map(|name| (name.clone(), this.build(config, name, 0, &mut made)));
        this.route_maps = maps.collect();
        this
    }

    /// The prefix-list of that name.
    pub fn prefix_list(&self, family: Family, name: &Name) -> Arc<policy::PrefixList> {
        let known = self.prefix_lists.get(&(family, name.clone())).cloned();
        known.unwrap_or_else(|| Arc::new(policy::PrefixList::undefined(name.as_str())))
    }

    /// The access-list of that name.
    pub fn access_list(&self, family: Family, name: &Name) -> Arc<AccessList> {
        let known = self.access_lists.get(&(family, name.clone())).cloned();
        known.unwrap_or_else(|| Arc::new(AccessList::new(name.as_str(), [])))
    }

    /// The AS path access-list of that name.
    pub fn as_path_list(&self, name: &Name) -> Arc<AsPathList> {
        let known = self.as_path_lists.get(name).cloned();
        known.unwrap_or_else(|| Arc::new(AsPathList::new(name.as_str(), [])))
    }

    /// The community-list of that name, if it is defined.
    pub fn community_list(&self, name: &Name) -> Option<Arc<CommunityList<Community>>> {
        self.community_lists.get(name).cloned()
    }

    /// The large-community-list of that name, if it is defined.
    pub fn large_community_list(&self, name: &Name) -> Option<Arc<CommunityList<LargeCommunity>>> {
        self.large_community_lists.get(name).cloned()
    }

    /// The route-map of that name.
    pub fn route_map(&self, name: &Name) -> Arc<policy::RouteMap> {
        let known = self.route_maps.get(name).cloned();
        known.unwrap_or_else(|| Arc::new(policy::RouteMap::undefined(name.as_str())))
    }

    /// What a route-map means by itself; without one, everything passes.
    pub fn of_map(&self, route_map: Option<&Name>) -> Policy {
        Policy::of_map(route_map.map(|name| self.route_map(name)))
    }

    /// The route-map of that name, where it is used so deep in calls.
    fn build(&self, config: &Config, name: &Name, depth: u8, made: &mut Made) -> Arc<policy::RouteMap> {
        let key = (name.clone(), depth);
        if let Some(known) = made.get(&key) {
            return known.clone();
        }
        let map = match config.route_maps.get(name) {
            Some(map) if depth <= DEEPEST_CALL => {
                let clauses = map.entries.iter().map(|(sequence, entry)| {
                    let call = entry.call.as_ref().map(|name| self.build(config, name, depth + 1, made));
                    self.clause(*sequence, entry, call)
                });
                policy::RouteMap::new(name.as_str(), clauses.collect())
            }
            _ => policy::RouteMap::undefined(name.as_str()),
        };
        let map = Arc::new(map);
        made.insert(key, map.clone());
        map
    }

    fn clause(&self, sequence: u16, entry: &model::RouteMapEntry, call: Option<Arc<policy::RouteMap>>) -> Clause {
        Clause {
            sequence: u32::from(sequence),
            action: action(entry.action),
            matches: entry.matches.iter().map(|condition| self.condition(condition)).collect(),
            sets: entry.sets.iter().filter_map(|set| self.change(set)).collect(),
            call,
            on_match: match entry.on_match {
                model::OnMatch::Stop => policy::OnMatch::Stop,
                model::OnMatch::Next => policy::OnMatch::Next,
                model::OnMatch::Goto(sequence) => policy::OnMatch::Goto(u32::from(sequence)),
            },
        }
    }

    fn condition(&self, condition: &model::Match) -> policy::Match {
        use model::Match as From;
        use policy::Match as To;
        match condition {
            From::Address(family, name) => To::PrefixAccess(*family, self.access_list(*family, name)),
            From::AddressPrefixList(family, name) => To::Prefix(*family, self.prefix_list(*family, name)),
            From::AddressLength(family, bits) => To::PrefixLength(*family, *bits),
            From::NextHop(family, name) => To::NextHopAccess(self.access_list(*family, name)),
            From::NextHopAddress(address) => To::NextHopAddress(*address),
            From::NextHopPrefixList(family, name) => To::NextHop(self.prefix_list(*family, name)),
            From::AsPath(name) => To::AsPath(self.as_path_list(name)),
            From::Community { list, exact } => {
                To::CommunityList { list: or_empty(&self.community_lists, list), exact: *exact }
            }
            From::LargeCommunity { list, exact } => {
                To::LargeCommunityList { list: or_empty(&self.large_community_lists, list), exact: *exact }
            }
            From::Alias(name) => match self.aliases.get(name) {
                Some(model::AliasedCommunity::Standard(known)) => To::Communities(vec![community(known)]),
                Some(model::AliasedCommunity::Large(known)) => To::LargeCommunities(vec![large_community(known)]),
                None => To::CommunityList { list: Arc::new(CommunityList::new(name.as_str(), [])), exact: false },
            },
            From::ExtCommunity(list) => To::ExtCommunityList(or_empty(&self.ext_community_lists, list)),
            From::Metric(metric) => To::Metric(*metric),
            From::LocalPreference(preference) => To::LocalPreference(*preference),
            From::Origin(code) => To::Origin(origin(*code)),
            From::Peer(MatchPeer::Address(address)) => To::Peer(*address),
            From::Peer(MatchPeer::Local) => To::PeerLocal,
            From::SourceProtocol(Protocol::Bgp) => To::Source(None),
            From::SourceProtocol(Protocol::Redistributed(source)) => To::Source(Some(local_source(*source))),
            From::Tag(tag) => To::Tag(*tag),
            From::Rpki(model::Validation::Valid) => To::Rpki(ValidationState::Valid),
            From::Rpki(model::Validation::Invalid) => To::Rpki(ValidationState::Invalid),
            From::Rpki(model::Validation::NotFound) => To::Rpki(ValidationState::NotFound),
        }
    }

    /// The change, unless it is what happens anyhow.
    fn change(&self, set: &model::Set) -> Option<policy::Set> {
        use model::Set as From;
        use policy::Set as To;
        Some(match set {
            From::AsPathPrepend(asns) => To::Prepend(asns.clone()),
            From::AsPathPrependLast(times) => To::PrependLast(*times),
            From::AsPathExclude(asns) => To::Exclude(asns.clone()),
            From::AsPathReplace(target) => To::Replace { target: *target, with: self.asn? },
            From::Community(change) => To::Communities(communities(change, community)),
            From::CommunityDelete(name) => To::DeleteCommunities(or_empty(&self.community_lists, name)),
            From::LargeCommunity(change) => To::LargeCommunities(communities(change, large_community)),
            From::LargeCommunityDelete(name) => To::DeleteLargeCommunities(or_empty(&self.large_community_lists, name)),
            From::ExtCommunity(change) => To::ExtCommunities(match change {
                model::ExtCommunityChange::Clear => ExtCommunityChange::Clear,
                model::ExtCommunityChange::RouteTarget(values) => {
                    ExtCommunityChange::RouteTargets(values.iter().map(|value| ext_community(*value, 2)).collect())
                }
                model::ExtCommunityChange::SiteOfOrigin(values) => {
                    ExtCommunityChange::SitesOfOrigin(values.iter().map(|value| ext_community(*value, 3)).collect())
                }
                model::ExtCommunityChange::Bandwidth { bandwidth: said, non_transitive } => {
                    let like = |megabits| bandwidth(self.asn, megabits, *non_transitive);
                    match said {
                        model::Bandwidth::Megabits(megabits) => ExtCommunityChange::Bandwidth(like(*megabits)),
                        model::Bandwidth::Cumulative => ExtCommunityChange::CumulativeBandwidth(like(0)),
                        model::Bandwidth::PerPath => ExtCommunityChange::BandwidthPerPath(like(0)),
                    }
                }
            }),
            From::NextHop(address) => To::NextHop(*address),
            From::NextHopLocal(address) => To::NextHopLinkLocal(*address),
            From::NextHopPeerAddress(_) => To::NextHopPeerAddress,
            From::NextHopUnchanged => To::NextHopUnchanged,
            From::NextHopPreferGlobal => To::NextHopPreferGlobal,
            From::LocalPreference(number) => To::LocalPreference(adjust(*number)),
            From::Metric(number) => To::Metric(adjust(*number)),
            From::Origin(code) => To::Origin(origin(*code)),
            From::Weight(weight) => To::Weight(u32::from(*weight)),
            From::Aggregator(asn, address) => To::Aggregator(Aggregator { asn: *asn, address: *address }),
            From::AtomicAggregate => To::AtomicAggregate,
            From::OriginatorId(id) => To::OriginatorId(*id),
            From::Tag(tag) => To::Tag(*tag),
            From::Distance(distance) => To::Distance(*distance),
            From::Table(table) => To::Table(*table),
            From::Source(address) => To::Source(*address),
        })
    }
}

fn arcs<K: Ord + Clone, M, T>(lists: &BTreeMap<K, M>, build: impl Fn(&K, &M) -> T) -> BTreeMap<K, Arc<T>> {
    lists.iter().map(|(key, list)| (key.clone(), Arc::new(build(key, list)))).collect()
}

/// The list of that name; one that is not defined is empty, and nothing passes it.
fn or_empty<C: CommunityKind>(lists: &BTreeMap<Name, Arc<CommunityList<C>>>, name: &Name) -> Arc<CommunityList<C>> {
    lists.get(name).cloned().unwrap_or_else(|| Arc::new(CommunityList::new(name.as_str(), [])))
}

fn in_order<R, T>(rules: &Rules<R>, build: impl Fn(&R) -> T) -> impl Iterator<Item = (policy::Action, T)> {
    rules.0.values().map(move |(known, rule)| (action(*known), build(rule)))
}

pub(super) fn action(action: model::Action) -> policy::Action {
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

fn access_list(name: &Name, rules: &Rules<model::AccessTarget>) -> AccessList {
    let target = |target: &model::AccessTarget| match *target {
        model::AccessTarget::Any => AccessTarget::Any,
        model::AccessTarget::Within(prefix) => AccessTarget::Within(prefix),
        model::AccessTarget::Exactly(prefix) => AccessTarget::Exactly(prefix),
        model::AccessTarget::Wildcard { address, wildcard } => AccessTarget::Wildcard { address, wildcard },
    };
    AccessList::new(name.as_str(), in_order(rules, target))
}

fn community_list<M, C: CommunityKind>(
    name: &Name,
    list: &model::CommunityList<M>,
    wire: impl Fn(&M) -> C,
) -> CommunityList<C> {
    match list {
        model::CommunityList::Standard(rules) => {
            let all = |values: &Vec<M>| CommunityTest::All(values.iter().map(&wire).collect());
            CommunityList::new(name.as_str(), in_order(rules, all))
        }
        model::CommunityList::Expanded(rules) => {
            let pattern = |pattern: &model::Pattern| CommunityTest::Pattern(pattern.regex().clone().into());
            CommunityList::new(name.as_str(), in_order(rules, pattern))
        }
    }
}

fn communities<C, W>(change: &model::CommunityChange<C>, wire: impl Fn(&C) -> W) -> CommunityChange<W> {
    match change {
        model::CommunityChange::Clear => CommunityChange::Replace(Vec::new()),
        model::CommunityChange::Replace(list) => CommunityChange::Replace(list.iter().map(wire).collect()),
        model::CommunityChange::Add(list) => CommunityChange::Add(list.iter().map(wire).collect()),
    }
}

/// A community as it is on the wire.
pub fn community(community: &model::Community) -> Community {
    Community(community.0)
}

/// A large community as it is on the wire.
pub fn large_community(community: &model::LargeCommunity) -> LargeCommunity {
    LargeCommunity { global: community.0, local1: community.1, local2: community.2 }
}

fn term(term: &model::ExtCommunityTerm) -> ExtCommunity {
    match term {
        model::ExtCommunityTerm::RouteTarget(value) => ext_community(*value, 2), // RFC 4360 §4
        model::ExtCommunityTerm::SiteOfOrigin(value) => ext_community(*value, 3), // RFC 4360 §5
    }
}

/// RFC 4360 §3.1, §3.2, RFC 5668 §2.
fn ext_community(value: model::ExtCommunity, sub_type: u8) -> ExtCommunity {
    let mut octets = [0, sub_type, 0, 0, 0, 0, 0, 0];
    match value {
        model::ExtCommunity::TwoOctetAs(asn, number) => {
            octets[2..4].copy_from_slice(&asn.to_be_bytes());
            octets[4..].copy_from_slice(&number.to_be_bytes());
        }
        model::ExtCommunity::Ipv4(address, number) => {
            octets[0] = 1;
            octets[2..6].copy_from_slice(&address.octets());
            octets[6..].copy_from_slice(&number.to_be_bytes());
        }
        model::ExtCommunity::FourOctetAs(asn, number) => {
            octets[0] = 2;
            octets[2..6].copy_from_slice(&asn.to_be_bytes());
            octets[6..].copy_from_slice(&number.to_be_bytes());
        }
    }
    ExtCommunity(octets)
}

/// Link bandwidth (draft-ietf-idr-link-bandwidth §3): octets per second as an IEEE float, behind the AS in two octets.
fn bandwidth(asn: Option<Asn>, megabits: u16, non_transitive: bool) -> ExtCommunity {
    let mut octets = [if non_transitive { 0x40 } else { 0 }, 4, 0, 0, 0, 0, 0, 0];
    octets[2..4].copy_from_slice(&asn.map_or(0, Asn::two_octets).to_be_bytes());
    octets[4..].copy_from_slice(&(f32::from(megabits) * 125_000.0).to_be_bytes());
    ExtCommunity(octets)
}

fn adjust(number: model::Adjust) -> Adjust {
    match number {
        model::Adjust::To(number) => Adjust::To(number),
        model::Adjust::Add(number) => Adjust::Add(number),
        model::Adjust::Subtract(number) => Adjust::Subtract(number),
    }
}

pub(super) fn origin(origin: model::Origin) -> Origin {
    match origin {
        model::Origin::Igp => Origin::Igp,
        model::Origin::Egp => Origin::Egp,
        model::Origin::Incomplete => Origin::Incomplete,
    }
}

#[cfg(test)]
mod tests {
    use bgp_core::rib::PathAttrs;
    use std::net::IpAddr;

    use bgp_wire::{AsPath, Attributes};

    use super::*;

    fn policies(text: &str) -> Policies {
        Policies::new(&config::parse(text).unwrap_or_else(|errors| panic!("{}", errors.render("test", text))).config)
    }

    fn attrs() -> PathAttrs {
        PathAttrs {
            attributes: Attributes {
                as_path: AsPath::sequence([65001, 65002].map(Asn::literal)),
                communities: vec![Community::new(65000, 1), Community::NO_EXPORT],
                large_communities: vec![LargeCommunity { global: 1, local1: 2, local2: 3 }],
                ext_communities: vec![ExtCommunity([0, 2, 0xfd, 0xe8, 0, 0, 0, 1])],
                med: Some(10),
                ..Attributes::default()
            },
            next_hop: IpAddr::from([192, 0, 2, 1]).into(),
            scope: 0,
            weight: 0,
            install: Default::default(),
        }
    }

    /// What route-map M of `text` makes of 10.0.0.0/8 with these attributes.
    fn judged(text: &str) -> Option<PathAttrs> {
        let policy = policies(text).of_map(Some(&"M".parse().unwrap()));
        policy.judge(&"10.0.0.0/8".parse().unwrap(), &attrs(), None)
    }

    #[test]
    fn every_condition_finds_its_list() {
        let lists = "access-list A permit 10.0.0.0/8\nip prefix-list P permit 10.0.0.0/8\nip prefix-list H permit 192.0.2.1/32\n\
                     bgp as-path access-list S permit ^65001_65002$\nbgp community-list standard C permit no-export 65000:1\n\
                     bgp community-list expanded X permit 65000:.*no-export\nbgp large-community-list standard L permit 1:2:3\n\
                     bgp extcommunity-list standard E permit rt 65000:1\n";
        for (condition, holds) in [
            ("ip address A", true),
            ("ip address prefix-list P", true),
            ("ip address prefix-len 8", true),
            ("ip address prefix-len 9", false),
            ("ipv6 address prefix-len 8", false),
            ("ip next-hop prefix-list H", true),
            ("ip next-hop address 192.0.2.2", false),
            ("as-path S", true),
            ("community C", true),
            ("community C exact-match", true),
            ("community X", true),
            ("large-community L", true),
            ("extcommunity E", true),
            ("metric 10", true),
            ("local-preference 100", true),
            ("origin igp", true),
            ("source-protocol bgp", true),
            ("source-protocol static", false),
            ("rpki valid", false),
            ("community NONE", false),
            ("as-path NONE", false),
            ("ip address NONE", false),
        ] {
            let text = format!("{lists}route-map M permit 10\n match {condition}\n");
            assert_eq!(judged(&text).is_some(), holds, "{condition}");
        }
    }

    #[test]
    fn every_change_is_made() {
        let changed = judged(
            "bgp community-list standard C permit no-export\nroute-map M permit 10\n set comm-list C delete\n \
             set community 65000:9 additive\n set large-community 4:5:6\n set extcommunity soo 192.0.2.1:7\n \
             set extcommunity bandwidth 8 non-transitive\n set as-path exclude 65001\n set as-path prepend 3 4\n set metric +5\n \
             set local-preference +99\n set weight 7\n set ip next-hop 192.0.2.9\n set aggregator as 5 192.0.2.5\n \
             set originator-id 192.0.2.6\n set tag 1\n set distance 2\n set table 3\n set src 192.0.2.7\nrouter bgp 65009\n",
        )
        .unwrap();
        let (attributes, install) = (&changed.attributes, changed.install);
        assert_eq!(attributes.communities, [Community::new(65000, 1), Community::new(65000, 9)]);
        assert_eq!(attributes.large_communities[0].to_string(), "4:5:6");
        // 8 megabits per second are 1,000,000 octets per second: 0x49742400 as IEEE float.
        let bandwidth = ExtCommunity([0x40, 4, 0xfd, 0xf1, 0x49, 0x74, 0x24, 0]);
        let printed: Vec<_> =
            attributes.ext_communities.iter().filter(|c| **c != bandwidth).map(ToString::to_string).collect();
        assert_eq!((attributes.ext_communities.len(), printed.join(" ").as_str()), (3, "RT:65000:1 SoO:192.0.2.1:7"));
        assert_eq!(attributes.as_path.to_string(), "3 4 65002");
        assert_eq!((attributes.med, attributes.local_pref, changed.weight), (Some(15), Some(99), 7));
        assert_eq!(changed.next_hop.to_string(), "192.0.2.9");
        assert_eq!((install.tag, install.distance, install.table), (1, Some(2), Some(3)));
        assert_eq!(install.source, Some(IpAddr::from([192, 0, 2, 7])));
    }

    #[test]
    fn calls_go_ten_deep_and_no_deeper() {
        let chain = |length: u8| {
            let mut text = "route-map M permit 1\n call C1\n".to_owned();
            for number in 1..length {
                text += &format!("route-map C{number} permit 1\n call C{}\n", number + 1);
            }
            text + &format!("route-map C{length} permit 1\n set weight 5\n")
        };
        assert_eq!(judged(&chain(10)).map(|changed| changed.weight), Some(5));
        assert_eq!(judged(&chain(11)), None);
        assert_eq!(judged("route-map M permit 1\n call M\n"), None, "a map that calls itself never ends");
    }
}
