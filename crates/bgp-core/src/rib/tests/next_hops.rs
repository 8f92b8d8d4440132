//! Next hops: reached or not, at what cost, on which link.

use std::net::Ipv6Addr;

use super::*;

#[test]
fn an_unreachable_next_hop_takes_its_paths_out_and_back_in() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 2, &["10.0.0.0/8", "10.2.0.0/16"]));
    bench.changes();
    let key = NextHopKey { address: address(A), scope: 0 };
    bench.rib.next_hop_resolved(key, None);
    bench.settle();
    assert_eq!(bench.changes(), [("10.0.0.0/8".into(), from(B), None, true)], "and only what depends on it");
    let moved = Resolved { ifindex: 99, gateway: None, metric: 0 };
    bench.rib.next_hop_resolved(key, Some(moved));
    bench.settle();
    let mut changes = Vec::new();
    bench.rib.poll_changes(9, &mut changes);
    assert_eq!(changes[0].best.as_ref().unwrap().resolved, moved);
    bench.rib.next_hop_resolved(key, Some(reached(address(A))));
    bench.settle();
    assert_eq!(bench.changes().len(), 1, "the FIB hears of another interface although the choice stays");
}

#[test]
fn the_cost_of_the_next_hop_decides_between_equals() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 1, &["10.0.0.0/8"]));
    assert_eq!(bench.chosen(), (from(A), from(B)));
    let far = Resolved { metric: 20, ..reached(address(A)) };
    bench.rib.next_hop_resolved(NextHopKey { address: address(A), scope: 0 }, Some(far));
    bench.settle();
    assert_eq!(bench.chosen(), (from(B), from(A)));
}

#[test]
fn a_link_local_next_hop_is_resolved_on_the_link_that_it_was_learned_on() {
    let mut bench = Bench::new();
    let v6 = Family::Ipv6Unicast;
    for (peer, scope) in [(A, 7), (B, 8)] {
        let local = LocalAddresses { v6: Some("2001:db8::100".parse().unwrap()), ..Default::default() };
        bench.rib.peer_up(
            bench.now,
            peer,
            PeerUp {
                negotiated: Negotiated { families: FamilySet::from(v6), ..Negotiated::base(PeerKind::External) },
                scope,
                local,
                ..up(peer)
            },
        );
        let mut update = announce(peer, 1, &["fd00::/16"]);
        let announcement = &mut update.reach.as_mut().unwrap().announced[0];
        announcement.family = v6;
        announcement.next_hop = IpAddr::from("fe80::1".parse::<std::net::Ipv6Addr>().unwrap()).into();
        bench.rib.update(bench.now, peer, update);
    }
    let mut wanted = Vec::new();
    while let Some(event) = bench.rib.poll_next_hop() {
        wanted.push(event);
    }
    let key = |scope| NextHopKey { address: "fe80::1".parse().unwrap(), scope };
    wanted.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(wanted, [NextHopEvent::Wanted(key(7)), NextHopEvent::Wanted(key(8))]);
    bench.rib.next_hop_resolved(key(8), Some(Resolved { ifindex: 8, gateway: Some(key(8).address), metric: 0 }));
    bench.settle();
    assert_eq!(bench.changes(), [("fd00::/16".into(), from(B), None, true)]);
    assert_eq!(bench.told(A), ["+fd00::/16", "."]);
    let sent = bench.rib.advertised(A, &prefix("fd00::/16")).unwrap();
    assert_eq!(sent.next_hop.address(), "2001:db8::100".parse::<IpAddr>().unwrap(), "link-local stays on its link");
}

#[test]
fn packets_are_handed_to_the_link_local_address_where_it_is_told() {
    let mut bench = Bench::new();
    let (global, link_local): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "fe80::1".parse().unwrap());
    let gateway = |bench: &mut Bench, resolved: &str| {
        let key = NextHopKey { address: global.into(), scope: 0 };
        let resolved = Resolved { ifindex: 7, gateway: Some(resolved.parse().unwrap()), metric: 0 };
        bench.rib.next_hop_resolved(key, Some(resolved));
        while bench.rib.work(bench.now, 1) {}
        let mut changes = Vec::new();
        while bench.rib.poll_changes(1, &mut changes) {}
        changes.pop().and_then(|change| change.best?.resolved.gateway)
    };
    let mut update = announce(A, 1, &["10.0.0.0/8"]);
    let next_hop = bgp_wire::NextHop::V6 { global, link_local: Some(link_local) };
    update.reach.as_mut().unwrap().announced[0].next_hop = next_hop;
    bench.rib.update(bench.now, A, update);
    assert_eq!(gateway(&mut bench, "2001:db8::1"), Some(link_local.into()), "the router itself is on the link");
    let other: IpAddr = "2001:db8:1::1".parse().unwrap();
    assert_eq!(gateway(&mut bench, "2001:db8:1::1"), Some(other), "another stands between");
}
