//! What is let in and out: loops, leaks, policy, limits; and how another configuration is taken over.

use super::*;

#[test]
fn loops_are_refused_and_may_be_allowed() {
    let mut bench = Bench::new();
    let mut looped = announce(A, 2, &["10.0.0.0/8"]);
    looped.reach.as_mut().unwrap().attributes.as_path.prepend(Asn::literal(65001), 1);
    bench.hear(A, looped);
    let route = bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap();
    assert_eq!(route.paths[0].state, PathState::Refused(Refusal::OwnAs(Asn::literal(65001))));
    assert_eq!(bench.changes(), []);
    bench.rib.configure_peer(A, {
        let mut config = peer_config(A);
        config.families[V4 as usize].rules.allow_own_as = AllowOwnAs::Times(1);
        config
    });
    bench.settle();
    assert_eq!(bench.chosen(), (from(A), None));

    let mut ours = announce(B, 1, &["10.3.0.0/16"]);
    ours.reach.as_mut().unwrap().announced[0].next_hop = IpAddr::from(Ipv4Addr::new(192, 0, 2, 100)).into();
    bench.hear(B, ours);
    let route = bench.rib.route(bench.now, &prefix("10.3.0.0/16")).unwrap();
    assert_eq!(route.paths[0].state, PathState::Refused(Refusal::NextHop));
}

#[test]
fn a_policy_change_is_applied_to_what_was_received_without_the_session_noticing() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    let mut config = peer_config(B);
    config.families[V4 as usize].import = policy(vec![Set::LocalPreference(Adjust::To(200))]);
    bench.rib.configure_peer(B, config.clone());
    bench.settle();
    assert_eq!(bench.chosen(), (from(B), from(A)));
    config.families[V4 as usize].import.route_map = Some(Arc::new(RouteMap::undefined("gone")));
    bench.rib.configure_peer(B, config);
    bench.settle();
    assert_eq!(bench.chosen(), (from(A), None));
    let counters = bench.rib.counters(Source::Peer(B), V4).unwrap();
    assert_eq!((counters.received, counters.accepted), (1, 0));
    bench.rib.configure_peer(B, peer_config(B));
    bench.settle();
    assert_eq!(bench.chosen(), (from(A), from(B)));
}

#[test]
fn weight_is_configured_per_neighbor_and_policy_has_the_last_word() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    let mut config = peer_config(B);
    config.families[V4 as usize].weight = Some(10);
    bench.rib.configure_peer(B, config.clone());
    bench.settle();
    assert_eq!(bench.chosen(), (from(B), from(A)));
    config.families[V4 as usize].import = policy(vec![Set::Weight(0)]);
    bench.rib.configure_peer(B, config);
    bench.settle();
    assert_eq!(bench.chosen(), (from(A), from(B)));
}

#[test]
fn other_rules_of_comparison_are_applied_to_what_is_there() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 3, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8"]));
    let mut config = bench.rib.config().clone();
    config.decision.ignore_as_path_length = true;
    bench.rib.configure(config.clone());
    bench.settle();
    assert_eq!(bench.chosen(), (from(A), from(B)));
    config.default_local_pref = 50;
    bench.rib.configure(config);
    bench.settle();
    let route = bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap();
    let preferences = route.paths.iter().map(|path| path.effective.as_ref().unwrap().attributes.local_pref);
    assert!(preferences.eq([Some(50), Some(50)]));
}

#[test]
fn another_export_policy_is_sent_at_once_as_far_as_it_makes_a_difference() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.told(B);
    let mut config = peer_config(B);
    config.families[V4 as usize].export = Policy::deny_all();
    bench.rib.configure_peer(B, config);
    assert_eq!(bench.told(B), ["-10.0.0.0/8"]);
    bench.rib.configure_peer(B, peer_config(B));
    assert_eq!(bench.told(B), ["+10.0.0.0/8"]);
    bench.rib.configure_peer(B, peer_config(B));
    assert_eq!(bench.told(B), Vec::<String>::new(), "nothing changed");
}

#[test]
fn too_many_prefixes_warn_first_and_then_end_the_session() {
    let mut bench = Bench::new();
    let mut config = peer_config(A);
    let maximum = MaximumPrefix { limit: 3, threshold: 67, warning_only: false, force: false };
    config.families[V4 as usize].maximum_prefix = Some(maximum);
    bench.rib.configure_peer(A, config);
    let event = |count, teardown| Some(RibEvent::MaximumPrefix { peer: A, family: V4, count, limit: 3, teardown });
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "10.1.0.0/16"]));
    assert_eq!(bench.rib.poll_event(), None);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]));
    assert_eq!(bench.rib.poll_event(), event(3, false));
    bench.hear(A, announce(A, 1, &["10.3.0.0/16", "10.4.0.0/16", "10.5.0.0/16"]));
    assert_eq!(bench.rib.poll_event(), event(4, true));
    bench.hear(A, announce(A, 1, &["10.6.0.0/16"]));
    assert_eq!((bench.rib.poll_event(), bench.remembered()), (None, 4), "nothing more is taken in");
}

#[test]
fn routes_that_were_not_meant_to_come_this_way_are_refused() {
    let mut bench = Bench::new();
    let as_a = |role| PeerConfig { role: Some(role), ..peer_config(A) };
    let sent = |bench: &Bench| bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap().paths[0].clone();
    let mut marked = announce(A, 2, &["10.0.0.0/8"]);
    marked.reach.as_mut().unwrap().attributes.only_to_customer = Some(Asn::literal(7));
    bench.hear(A, marked);
    for (role, refused) in [
        (Role::Provider, true),
        (Role::RouteServer, true),
        (Role::Peer, true), // it names another AS than the peer's
        (Role::Customer, false),
        (Role::RouteServerClient, false),
    ] {
        bench.rib.configure_peer(A, as_a(role));
        bench.settle();
        assert_eq!(sent(&bench).state == PathState::Refused(Refusal::RouteLeak), refused, "{role}");
    }
    bench.hear(A, announce(A, 2, &["10.0.0.0/8"]));
    for (role, marked) in [(Role::Customer, true), (Role::Peer, true), (Role::Provider, false)] {
        bench.rib.configure_peer(A, as_a(role));
        bench.settle();
        let mark = sent(&bench).effective.unwrap().attributes.only_to_customer;
        assert_eq!(mark, marked.then_some(Asn::literal(65101)), "{role}");
    }
}

#[test]
fn tunnels_of_another_as_are_not_taken_in() {
    let mut bench = Bench::new();
    let tunnels = bgp_wire::TunnelEncap::parse(&[0, 8, 0, 0]).unwrap();
    let mut update = announce(A, 2, &["10.0.0.0/8"]);
    update.reach.as_mut().unwrap().attributes.tunnel_encap = Some(tunnels.clone());
    bench.hear(A, update);
    let path = bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap().paths[0].clone();
    assert_eq!(path.effective.unwrap().attributes.tunnel_encap, None);
    assert_eq!(path.received.attributes.tunnel_encap, Some(tunnels), "what it sent is kept");
}

#[test]
fn another_as_of_ours_is_put_in_front_of_what_the_peer_sends() {
    let mut bench = Bench::new();
    let alias = |prepend_received| {
        let alias = Some(Alias { asn: Asn::literal(65009), prepend_received, keep_own: true });
        PeerConfig { alias, ..peer_config(A) }
    };
    let path = |bench: &Bench| {
        let route = bench.rib.route(bench.now, &prefix("10.0.0.0/8")).unwrap();
        route.paths[0].effective.as_ref().map(|attrs| attrs.attributes.as_path.to_string())
    };
    bench.hear(A, announce(A, 2, &["10.0.0.0/8"]));
    let plain = path(&bench).unwrap();
    bench.rib.configure_peer(A, alias(true));
    bench.settle();
    assert_eq!(path(&bench), Some(format!("65009 {plain}")));
    bench.rib.configure_peer(A, alias(false));
    bench.settle();
    assert_eq!(path(&bench), Some(plain));
    let mut looped = announce(A, 2, &["10.0.0.0/8"]);
    looped.reach.as_mut().unwrap().attributes.as_path.prepend(Asn::literal(65009), 1);
    bench.hear(A, looped);
    assert_eq!(path(&bench), None, "that AS is ours, too");
}
