//! How a route changes on its way out, peer by peer.

use std::{net::Ipv4Addr, sync::Arc};

use bgp_wire::{AsPath, Attributes};
use net_types::Asn;

use super::*;
use crate::policy::{Action, Adjust, Clause, CommunityChange, OnMatch, PrefixList, PrefixRule, RouteMap, Set};

fn asn(number: u32) -> Asn {
    Asn::try_from(number).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn terms(kind: SourceKind) -> Terms {
    Terms {
        family: Family::Ipv4Unicast,
        kind,
        address: ip("192.0.2.9"),
        local: LocalAddresses { v4: Some(Ipv4Addr::new(192, 0, 2, 1)), ..Default::default() },
        next_hop_self: NextHopSelf::WhereRequired,
        reflection: Reflection { client: false, between_clients: true, cluster_id: Ipv4Addr::new(10, 0, 0, 1) },
        path: PathRules {
            kind,
            local_as: asn(65001),
            alias: None,
            unchanged: false,
            remove_private: None,
            as_override: false,
            bare: false,
            remote_as: None,
        },
        unchanged: Unchanged::default(),
        withheld: Withheld::default(),
        role: None,
        over_ipv6: false,
        loop_check: false,
        echo: false,
        long_lived: false,
        tunnel_marks: false,
        advertisement_interval: Duration::ZERO,
        shared_subnets: Vec::new(),
        policy: Policy::default(),
        unsuppress: None,
        conditional: (None, None),
        default_route: None,
        withheld_now: None,
        advertised_now: None,
        maximum_out: None,
        draining: false,
        reject_as_sets: false,
        alternatives: Alternatives::None,
    }
}

fn route() -> PathAttrs {
    PathAttrs {
        attributes: Attributes {
            as_path: AsPath::sequence([asn(64500)]),
            med: Some(5),
            local_pref: Some(150),
            originator_id: Some(Ipv4Addr::new(1, 1, 1, 1)),
            cluster_list: vec![Ipv4Addr::new(2, 2, 2, 2)],
            ..Attributes::default()
        },
        next_hop: ip("198.51.100.7").into(),
        scope: 0,
        weight: 7,
        install: Default::default(),
    }
}

fn send(terms: &Terms, from: SourceKind, attrs: &PathAttrs) -> Option<PathAttrs> {
    tell(
        terms,
        Teller { kind: from, client: false, router_id: 0x0a00_0007, stale: false, through_tunnel: false, lost: false },
        attrs,
    )
}

fn tell(terms: &Terms, from: Teller, attrs: &PathAttrs) -> Option<PathAttrs> {
    let outline = terms.outline(from, attrs.clone())?;
    let changes = terms.permits(&"10.0.0.0/8".parse().unwrap(), &outline, &crate::validation::RoaTable::new(1))?;
    Some(terms.finish(from.kind, outline, &changes, Sharing::default()))
}

#[test]
fn external_peers_see_our_as_and_address_and_nothing_internal() {
    let sent = send(&terms(SourceKind::External), SourceKind::External, &route()).unwrap();
    assert_eq!(sent.attributes.as_path.to_string(), "65001 64500");
    assert_eq!(sent.next_hop, ip("192.0.2.1").into());
    let a = sent.attributes;
    assert_eq!((a.med, a.local_pref, a.originator_id, a.cluster_list.len(), sent.weight), (None, None, None, 0, 0));
}

#[test]
fn the_med_of_our_own_routes_goes_out() {
    let sent = send(&terms(SourceKind::External), SourceKind::Local, &route()).unwrap();
    assert_eq!(sent.attributes.med, Some(5));
}

#[test]
fn internal_peers_see_the_route_as_it_came() {
    let mut plain = route();
    plain.attributes.local_pref = None;
    let sent = send(&terms(SourceKind::Internal), SourceKind::External, &plain).unwrap();
    assert_eq!(sent.attributes.as_path.to_string(), "64500");
    assert_eq!(sent.attributes.local_pref, Some(100));
    assert_eq!((sent.attributes.med, sent.next_hop), (Some(5), ip("198.51.100.7").into()));
}

#[test]
fn internal_routes_are_not_reflected() {
    assert_eq!(send(&terms(SourceKind::Internal), SourceKind::Internal, &route()), None);
    assert!(send(&terms(SourceKind::External), SourceKind::Internal, &route()).is_some());
}

#[test]
fn clients_and_all_others_hear_of_each_other_from_the_reflector() {
    let to = |client, between_clients| Terms {
        reflection: Reflection { client, between_clients, cluster_id: Ipv4Addr::new(10, 0, 0, 1) },
        ..terms(SourceKind::Internal)
    };
    let from = |client| Teller {
        kind: SourceKind::Internal,
        client,
        router_id: 0x0a00_0007,
        stale: false,
        through_tunnel: false,
        lost: false,
    };
    assert!(tell(&to(false, true), from(true), &route()).is_some());
    assert!(tell(&to(true, true), from(false), &route()).is_some());
    assert!(tell(&to(true, true), from(true), &route()).is_some());
    assert_eq!(tell(&to(true, false), from(true), &route()), None, "clients that are fully meshed");
    let fresh = PathAttrs { attributes: Attributes { local_pref: Some(150), ..Attributes::default() }, ..route() };
    let sent = tell(&to(true, true), from(false), &fresh).unwrap();
    assert_eq!(sent.attributes.originator_id, Some(Ipv4Addr::new(10, 0, 0, 7)));
    assert_eq!(sent.attributes.cluster_list, [Ipv4Addr::new(10, 0, 0, 1)]);
    let again = tell(&to(true, true), from(false), &route()).unwrap();
    assert_eq!(again.attributes.originator_id, route().attributes.originator_id, "the first reflector named it");
    assert_eq!(again.attributes.cluster_list, [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(2, 2, 2, 2)]);
}

#[test]
fn a_reflected_next_hop_changes_only_by_force() {
    let from = Teller {
        kind: SourceKind::Internal,
        client: true,
        router_id: 7,
        stale: false,
        through_tunnel: false,
        lost: false,
    };
    let next_hop =
        |next_hop_self| tell(&Terms { next_hop_self, ..terms(SourceKind::Internal) }, from, &route()).unwrap().next_hop;
    assert_eq!(next_hop(NextHopSelf::External), ip("198.51.100.7").into());
    assert_eq!(next_hop(NextHopSelf::Always), ip("192.0.2.1").into());
}

#[test]
fn a_member_as_gets_what_stays_within_the_confederation() {
    let terms = terms(SourceKind::Confederation);
    let mut route = route();
    route.attributes.communities.push(Community::NO_EXPORT);
    let sent = send(&terms, SourceKind::External, &route).unwrap();
    assert_eq!(sent.attributes.as_path.to_string(), "(65001) 64500");
    assert_eq!((sent.attributes.local_pref, sent.attributes.med), (Some(150), Some(5)), "RFC 5065 §5.2");
    assert_eq!((sent.attributes.originator_id, sent.next_hop), (None, ip("198.51.100.7").into()));
    route.attributes.communities.push(Community::NO_EXPORT_SUBCONFED);
    assert_eq!(send(&terms, SourceKind::External, &route), None);
}

#[test]
fn a_route_server_is_transparent() {
    let mut terms = Terms { unchanged: Unchanged::TRANSPARENT, ..terms(SourceKind::External) };
    terms.path.unchanged = true;
    let sent = send(&terms, SourceKind::External, &route()).unwrap();
    assert_eq!(sent.attributes.as_path.to_string(), "64500");
    assert_eq!((sent.attributes.med, sent.next_hop), (Some(5), ip("198.51.100.7").into()));
}

#[test]
fn communities_are_withheld_one_kind_at_a_time() {
    let mut route = route();
    route.attributes.communities.push(Community(9));
    route.attributes.large_communities.push(bgp_wire::LargeCommunity { global: 1, local1: 2, local2: 3 });
    let withheld = Withheld { standard: true, ..Withheld::default() };
    let sent = send(&Terms { withheld, ..terms(SourceKind::External) }, SourceKind::External, &route).unwrap();
    assert_eq!((sent.attributes.communities.len(), sent.attributes.large_communities.len()), (0, 1));
    let withheld = Withheld { large: true, ..Withheld::default() };
    let sent = send(&Terms { withheld, ..terms(SourceKind::External) }, SourceKind::External, &route).unwrap();
    assert_eq!((sent.attributes.communities.len(), sent.attributes.large_communities.len()), (1, 0));
}

#[test]
fn tunnels_stay_within_the_as() {
    let mut route = route();
    route.attributes.tunnel_encap = Some(bgp_wire::TunnelEncap::parse(&[0, 8, 0, 0]).unwrap());
    let sent = |kind| send(&terms(kind), SourceKind::External, &route).unwrap().attributes.tunnel_encap;
    assert_eq!(sent(SourceKind::External), None);
    assert_eq!(sent(SourceKind::Internal), route.attributes.tunnel_encap);
}

#[test]
fn what_is_for_customers_only_goes_to_nobody_else() {
    let to = |role| Terms { role: Some(role), ..terms(SourceKind::External) };
    let mut marked = route();
    marked.attributes.only_to_customer = Some(asn(64500));
    for role in [Role::Customer, Role::Peer, Role::RouteServerClient] {
        assert_eq!(send(&to(role), SourceKind::External, &marked), None, "{role}");
        assert!(send(&to(role), SourceKind::External, &route()).is_some(), "{role}");
    }
    for role in [Role::Provider, Role::RouteServer] {
        let kept = send(&to(role), SourceKind::External, &marked).unwrap();
        assert_eq!(kept.attributes.only_to_customer, Some(asn(64500)), "{role}");
    }
    for (role, mark) in [(Role::Provider, true), (Role::Peer, true), (Role::RouteServer, true), (Role::Customer, false)]
    {
        let sent = send(&to(role), SourceKind::External, &route()).unwrap();
        assert_eq!(sent.attributes.only_to_customer.is_some(), mark, "{role}");
    }
}

#[test]
fn ipv4_routes_go_over_ipv6_where_that_was_agreed() {
    let link_local = "fe80::1".parse().unwrap();
    let mut terms = Terms { address: ip("fe80::9"), over_ipv6: true, ..terms(SourceKind::External) };
    terms.local = LocalAddresses { link_local: Some(link_local), ..terms.local };
    let expected = NextHop::V6 { global: link_local, link_local: Some(link_local) };
    assert_eq!(send(&terms, SourceKind::External, &route()).unwrap().next_hop, expected);
    terms.over_ipv6 = false;
    assert_eq!(send(&terms, SourceKind::External, &route()).unwrap().next_hop, ip("192.0.2.1").into());
    // What came over IPv6 cannot be passed on as it is to who does not take that.
    let over_ipv6 = PathAttrs { next_hop: ip("2001:db8::7").into(), ..route() };
    let internal = self::terms(SourceKind::Internal);
    assert_eq!(send(&internal, SourceKind::External, &over_ipv6).unwrap().next_hop, ip("192.0.2.1").into());
    let internal = Terms { over_ipv6: true, ..internal };
    assert_eq!(send(&internal, SourceKind::External, &over_ipv6).unwrap().next_hop, ip("2001:db8::7").into());
}

#[test]
fn a_route_that_the_peer_would_take_for_a_loop_is_not_sent_when_asked() {
    let mut terms = terms(SourceKind::External);
    terms.path.remote_as = Some(asn(64500));
    assert!(send(&terms, SourceKind::External, &route()).is_some());
    terms.loop_check = true;
    assert_eq!(send(&terms, SourceKind::External, &route()), None);
}

#[test]
fn next_hop_self_concerns_what_external_peers_said() {
    let terms = Terms { next_hop_self: NextHopSelf::External, ..terms(SourceKind::Internal) };
    assert_eq!(send(&terms, SourceKind::External, &route()).unwrap().next_hop, ip("192.0.2.1").into());
    assert_eq!(send(&terms, SourceKind::Local, &route()).unwrap().next_hop, ip("192.0.2.1").into());
}

#[test]
fn a_route_of_our_own_is_sent_with_the_router_that_it_leads_to_where_that_is_of_use() {
    let own = |terms: &Terms, next_hop: &str| {
        let next_hop = ip(next_hop).into();
        send(terms, SourceKind::Local, &PathAttrs { next_hop, ..route() }).unwrap().next_hop
    };
    let internal = terms(SourceKind::Internal);
    assert_eq!(own(&internal, "198.51.100.7"), ip("198.51.100.7").into(), "RFC 4271 §5.1.3, 1)");
    assert_eq!(own(&internal, "0.0.0.0"), ip("192.0.2.1").into(), "we are the next hop");
    assert_eq!(own(&terms(SourceKind::External), "198.51.100.7"), ip("192.0.2.1").into(), "of no subnet of theirs");
}

#[test]
fn a_third_party_on_the_peers_subnet_stays_the_next_hop() {
    let shared_subnets = vec!["198.51.100.0/24".parse().unwrap()];
    let mut terms = Terms { shared_subnets, ..terms(SourceKind::External) };
    assert_eq!(send(&terms, SourceKind::External, &route()).unwrap().next_hop, ip("198.51.100.7").into());
    terms.address = ip("198.51.100.7");
    assert_eq!(
        send(&terms, SourceKind::External, &route()).unwrap().next_hop,
        ip("192.0.2.1").into(),
        "a peer is never told to use itself"
    );
}

#[test]
fn well_known_communities_are_obeyed() {
    let with = |community| {
        let mut route = route();
        route.attributes.communities.push(community);
        route
    };
    let to = |kind, community| send(&terms(kind), SourceKind::External, &with(community)).is_some();
    assert!(!to(SourceKind::External, Community::NO_EXPORT) && to(SourceKind::Internal, Community::NO_EXPORT));
    assert!(!to(SourceKind::External, Community::NO_EXPORT_SUBCONFED));
    assert!(!to(SourceKind::External, Community::NO_ADVERTISE) && !to(SourceKind::Internal, Community::NO_ADVERTISE));
}

#[test]
fn policy_changes_what_is_sent_and_our_as_stays_in_front() {
    let sets = vec![
        Set::Prepend(vec![asn(65001), asn(65001)]),
        Set::Metric(Adjust::To(77)),
        Set::NextHop(ip("203.0.113.3")),
        Set::Communities(CommunityChange::Add(vec![Community(9)])),
    ];
    let clause =
        Clause { sequence: 10, action: Action::Permit, matches: vec![], sets, call: None, on_match: OnMatch::Stop };
    let mut terms = terms(SourceKind::External);
    terms.policy.route_map = Some(Arc::new(RouteMap::new("out", vec![clause])));
    let sent = send(&terms, SourceKind::External, &route()).unwrap();
    assert_eq!(sent.attributes.as_path.to_string(), "65001 65001 65001 64500");
    assert_eq!((sent.attributes.med, sent.next_hop), (Some(77), ip("203.0.113.3").into()));
    assert_eq!(sent.attributes.communities, [Community(9)]);
}

#[test]
fn a_prefix_list_keeps_routes_back() {
    let deny =
        PrefixRule { sequence: 5, action: Action::Deny, prefix: "10.0.0.0/8".parse().unwrap(), ge: None, le: Some(32) };
    let mut terms = terms(SourceKind::External);
    terms.policy.prefix_list = Some(Arc::new(PrefixList::new("out", vec![deny])));
    assert_eq!(send(&terms, SourceKind::External, &route()), None);
}

#[test]
fn without_an_address_of_the_family_there_is_nothing_to_say() {
    let terms = Terms { family: Family::Ipv6Unicast, ..terms(SourceKind::External) };
    assert_eq!(send(&terms, SourceKind::External, &route()), None);
}

#[test]
fn a_link_local_next_hop_does_not_leave_its_link() {
    let mut terms = Terms { family: Family::Ipv6Unicast, ..terms(SourceKind::Internal) };
    terms.local.v6 = Some("2001:db8::1".parse().unwrap());
    let route = PathAttrs { next_hop: ip("fe80::7").into(), scope: 3, ..route() };
    assert_eq!(send(&terms, SourceKind::External, &route).unwrap().next_hop, ip("2001:db8::1").into());
}
