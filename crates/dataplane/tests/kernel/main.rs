//! The kernel's packet path, in network namespaces that each test makes for itself.
//!
//! A kernel without ESP or xfrm interfaces cannot run these: they say so and pass, unless `HOLDFAST_KERNEL_FEATURES` is set,
//! as it is by `cargo xtask test --kernel`.

mod common;
mod gre;

use common::*;
use dataplane::{Dataplane, DataplaneError, Direction, Event, Limit, Limits, Path};

#[test]
fn both_families_pass_and_are_counted() {
    let Some((a, b)) = pair(None) else { return };
    associate(&a, &b, 1);
    for (from, to) in [(&a, &b), (&b, &a)] {
        assert_eq!(exchange(from, to, false, 10), 10);
        assert_eq!(exchange(from, to, true, 10), 10);
    }
    let stats = a.stats();
    assert_eq!((stats.inbound.len(), stats.outbound.len()), (1, 1));
    assert!(stats.inbound[0].packets >= 20 && stats.outbound[0].packets >= 20, "{stats:?}");
    assert!(stats.sent_packets >= 20 && stats.received_packets >= 20 && stats.idle.is_some(), "{stats:?}");
    assert!(stats.inbound[0].sequence >= 20 && stats.outbound[0].sequence >= 20, "{stats:?}");
    assert!(stats.idle.unwrap() < PATIENCE);
}

#[test]
fn without_an_association_nothing_leaves() {
    let Some((a, b)) = pair(None) else { return };
    let dropped = |count| wait_for("the drop", || a.stats().dropped_no_sa >= count);
    // Before there was one,
    let before = b.packets_that_came();
    send(&a, &b, 5);
    dropped(5);
    // and after.
    associate(&a, &b, 1);
    assert_eq!(exchange(&a, &b, false, 1), 1);
    let between = b.packets_that_came();
    a.path.remove_outbound(&tunnel(), spi(0x1001));
    send(&a, &b, 5);
    dropped(10);
    assert_eq!(before, 0);
    assert_eq!(b.packets_that_came(), between);
}

#[test]
fn a_switch_loses_nothing() {
    let Some((a, b)) = pair(None) else { return };
    associate(&a, &b, 1);
    associate(&a, &b, 2);
    let counts = |site: &Site| site.stats().outbound.iter().map(|sa| (sa.spi, sa.packets)).collect::<Vec<_>>();
    let mut received = 0;
    for turn in 0..10u32 {
        a.path.use_outbound(&tunnel(), spi(0x1001 + turn % 2)).unwrap();
        received += exchange(&a, &b, false, 20);
    }
    assert_eq!(received, 200);
    let counts = counts(&a);
    assert!(counts.iter().all(|(_, packets)| *packets >= 100), "each has had its turns: {counts:?}");
    let missing = a.path.use_outbound(&tunnel(), spi(0x1003)).unwrap_err();
    assert!(matches!(missing, DataplaneError::UnknownOutbound { .. }));
    // The old pair goes while the new one is in use, and the other way round.
    a.path.remove_outbound(&tunnel(), spi(0x1001));
    b.path.remove_inbound(spi(0x1001));
    assert_eq!(exchange(&a, &b, false, 20), 20);
}

#[test]
fn limits_are_told_once_and_the_hard_one_ends_it() {
    let Some((a, b)) = pair(None) else { return };
    accept(&a, &b, 0x1001, 1);
    let limits = Limits { soft_packets: Some(5), hard_packets: Some(10), ..Limits::default() };
    send_by(&a, &b, 0x1001, 1, limits, 4500);
    send(&a, &b, 30);
    let lifetime =
        |limit| Event::Lifetime { tunnel: tunnel(), spi: spi(0x1001), direction: Direction::Outbound, limit };
    wait_for("both limits", || a.events().len() >= 2);
    assert_eq!(a.events(), [lifetime(Limit::Soft), lifetime(Limit::Hard)]);
    wait_for("the block", || a.stats().dropped_no_sa >= 15);
}

#[test]
fn a_peer_behind_another_port_is_told_once() {
    let Some((a, b)) = pair(None) else { return };
    accept(&a, &b, 0x1001, 1);
    send_by(&a, &b, 0x1001, 1, Limits::default(), 4501); // as a NAT would have it
    assert_eq!(exchange(&a, &b, false, 10), 10);
    let moved = Path { remote: std::net::SocketAddr::new(a.outer(), 4501), ..b.path_to(&a) };
    let expected = Event::PeerMoved { tunnel: tunnel(), spi: spi(0x1001), path: moved };
    wait_for("the event", || !b.events().is_empty());
    assert_eq!(exchange(&a, &b, false, 10), 10);
    assert_eq!(b.events(), [expected]);
}

#[test]
fn associations_outlive_the_process_and_are_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keeper.sock");
    let server = std::thread::spawn({
        let socket = socket.clone();
        move || dataplane::keeper::serve(&socket)
    });
    wait_for("the keeper", || dataplane::keeper::Client::connect(&socket).is_ok());
    let Some((a, b)) = pair(Some(&socket)) else { return };
    associate(&a, &b, 1);
    let a = a.without_process();
    // Nobody is there, and both ends still hear each other.
    assert_eq!(exchange(&b, &a, false, 10), 10);
    assert_eq!(exchange(&a, &b, false, 10), 10);
    let a = a.with_process(Some(&socket));
    assert_eq!(a.stats().inbound.len(), 0, "what was taken up is nobody's yet");
    assert_eq!(exchange(&b, &a, false, 10), 10);
    let unknown = Event::UnknownSpi { spi: 0x2001, path: a.path_to(&b) };
    wait_for("somebody to be told of what the peer sends by", || a.events().contains(&unknown));
    assert_eq!(exchange(&a, &b, false, 10), 10);
    associate(&a, &b, 2);
    b.path.use_outbound(&tunnel(), spi(0x2002)).unwrap();
    assert_eq!(exchange(&a, &b, true, 10), 10);
    // What was inherited goes when its grace is over.
    wait_for("the old ones' end", || !a.ip("xfrm state").contains("0x00001001"));
    assert!(!a.ip("xfrm state").contains("0x00002001"));
    assert_eq!(exchange(&a, &b, false, 10), 10);
    assert_eq!(exchange(&b, &a, false, 10), 10);
    a.path.remove_tunnel(&tunnel(), false);
    assert_eq!(a.ip("xfrm state").trim(), "");
    assert!(!a.ip("xfrm policy").contains("if_id 0x4846"), "{}", a.ip("xfrm policy"));
    a.path.remove_wan(&wan()); // the keeper's last
    server.join().unwrap().unwrap();
}

#[test]
fn associations_follow_addresses_and_ports() {
    follow_addresses_and_ports(true);
}

#[test]
fn associations_without_extended_numbers_follow_addresses_and_ports() {
    follow_addresses_and_ports(false);
}

fn follow_addresses_and_ports(esn: bool) {
    let Some((a, b)) = pair(None) else { return };
    associate_with(&a, &b, 1, esn);
    for (from, to) in [(&a, &b), (&b, &a)] {
        assert_eq!(exchange(from, to, false, 10), 10);
    }
    let before = a.stats().outbound[0].sequence;
    assert!(before >= 10, "{before}");
    let port = |path: Path, local: u16, remote: u16| Path {
        wan: path.wan,
        local: std::net::SocketAddr::new(path.local.ip(), local),
        remote: std::net::SocketAddr::new(path.remote.ip(), remote),
    };
    // Another address of the peer's: both ends go over.
    b.ip("addr add 198.51.100.22/24 dev wan0");
    let other = "198.51.100.22".parse().unwrap();
    let there = Path { remote: std::net::SocketAddr::new(other, 4500), ..a.path_to(&b) };
    let back = Path { local: std::net::SocketAddr::new(other, 4500), ..b.path_to(&a) };
    b.path.set_path(&tunnel(), back.clone()).unwrap();
    a.path.set_path(&tunnel(), there.clone()).unwrap();
    for (from, to) in [(&a, &b), (&b, &a)] {
        assert_eq!(exchange(from, to, false, 10), 10);
    }
    assert_eq!(a.stats().outbound[0].path, there);
    assert!(a.stats().outbound[0].sequence > before, "numbers are not used again");
    assert_eq!(a.ip("xfrm state").matches("0x00001001").count(), 1, "the old one is gone");
    // Another port only: in place.
    a.path.set_path(&tunnel(), port(there.clone(), 4500, 4502)).unwrap();
    assert!(a.ip("xfrm state").contains("dport 4502"), "{}", a.ip("xfrm state"));
    a.path.set_path(&tunnel(), there).unwrap();
    assert_eq!(exchange(&a, &b, false, 10), 10);
    assert!(a.events().is_empty(), "{:?}", a.events());
}

/// The far end has larger interfaces, and so hears what the near end makes of the hosts' MSS; and the near end's host hears
/// what becomes of the far end's.
#[test]
fn tcp_that_passes_through_is_fitted_to_the_tunnel_in_both_directions() {
    let Some((a, b)) = pair(None) else { return };
    associate(&a, &b, 1);
    let host = a.host();
    b.ip("link set tun1 mtu 8000");
    b.ip("route add 10.1.0.0/24 dev tun1");
    b.ip("route add fd10:1::/64 dev tun1");
    for (v6, mss) in [(false, 1360), (true, 1340)] {
        assert_eq!(segments(&host, &b, v6), (mss, mss), "IPv6: {v6}");
    }
    // The interface takes less: so does TCP.
    a.path.set_mtu(&tunnel(), 1300);
    assert_eq!(segments(&host, &b, false), (1260, 1260));
    let table = a.ns().run(nftables);
    assert!(table.contains("holdfast"), "{table}");
    // Without a tunnel there is no table, and without the process neither.
    a.path.remove_tunnel(&tunnel(), false);
    assert_eq!(a.ns().run(nftables), "");
    a.add_tunnel("tun1").unwrap();
    assert!(a.ns().run(nftables).contains("holdfast"));
    let a = a.without_process();
    assert_eq!(a.ns().run(nftables), "");
}

#[test]
fn an_interface_that_is_something_else_is_left_alone() {
    let Some((a, _b)) = pair(None) else { return };
    a.ip("link add tun7 type veth peer name far7");
    let error = a.add_tunnel("tun7").unwrap_err();
    assert!(error.to_string().contains("of kind \"veth\""), "{error}");
    assert!(a.ip("link show tun7").contains("tun7"));
}
