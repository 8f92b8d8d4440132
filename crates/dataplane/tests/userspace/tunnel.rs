//! Two packet paths with the kernel's own stack at either end.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::common::*;
use dataplane::{Dataplane, Direction, Event, Limit, Limits, Path};
use esp::{Selector, Selectors};

#[test]
fn packets_of_both_families_cross_in_both_directions() {
    let (a, b) = pair(1438, None);
    associate(&a, &b, 1);
    for version in [4, 6] {
        let address = |site: &Site, n: u16| -> IpAddr {
            if version == 4 { site.inner() } else { Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n).into() }
        };
        let (near, far) = (a.socket(address(&a, 1)), b.socket(address(&b, 2)));
        crosses(&near, &far, b"there");
        crosses(&far, &near, b"and back");
        let largest = 1438 - if version == 4 { 28 } else { 48 };
        crosses(&near, &far, &vec![7; largest]);
        crosses(&near, &far, &vec![8; 5000]); // the kernel fragments it to the interface's MTU
    }
    wait_for("both ends count the same", || {
        let (sent, received) = (a.tunnel_stats().sent_packets, b.tunnel_stats().received_packets);
        sent >= 12 && sent == received && sent == a.tunnel_stats().outbound[0].packets
    });
    let received = b.tunnel_stats();
    assert_eq!((received.inbound[0].replays, received.inbound[0].forgeries), (0, 0));
    assert!(received.idle.is_some());
}

#[test]
fn without_an_association_nothing_leaves() {
    let (a, b) = pair(1438, None);
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    for _ in 0..10 {
        near.send_to(b"to nobody", far.local_addr().unwrap()).unwrap();
    }
    wait_for("ten drops", || a.tunnel_stats().dropped_no_sa >= 10);
    assert_eq!(a.tunnel_stats().sent_packets, 0);
    associate(&a, &b, 1);
    crosses(&near, &far, b"first of all"); // none of the earlier ones waited for the association
    b.path.remove_inbound(spi(0x1001));
    a.path.remove_outbound(&tunnel(), spi(0x1001));
    let before = a.tunnel_stats().dropped_no_sa;
    near.send_to(b"to nobody", far.local_addr().unwrap()).unwrap();
    wait_for("one more drop", || a.tunnel_stats().dropped_no_sa > before);
}

#[test]
fn rekeying_under_load_loses_nothing() {
    const WINDOW: u32 = 64;
    const TOTAL: u32 = 30_000;
    let (a, b) = pair(1438, None);
    associate(&a, &b, 1);
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Echoes until the last number has come; a lost packet stops the window and the read times out.
        let echo = scope.spawn(|| {
            let mut buffer = [0; 1200];
            for expected in 0..TOTAL {
                let (length, from) = far.recv_from(&mut buffer).expect("no packet is lost");
                assert_eq!(buffer[..4], expected.to_be_bytes(), "in order");
                far.send_to(&buffer[..length], from).unwrap();
            }
        });
        let source = scope.spawn(|| {
            let (mut buffer, mut packet) = ([0; 1200], [0x5a; 1000]);
            let to = far.local_addr().unwrap();
            for number in 0..TOTAL + WINDOW {
                if number >= WINDOW {
                    near.recv_from(&mut buffer).expect("no echo is lost");
                    assert_eq!(buffer[..4], (number - WINDOW).to_be_bytes(), "in order");
                }
                if number < TOTAL {
                    packet[..4].copy_from_slice(&number.to_be_bytes());
                    near.send_to(&packet, to).unwrap();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut generations = 1;
        while !done.load(Ordering::Relaxed) && !source.is_finished() {
            let next = generations % 100 + 1;
            if generations > 99 {
                break; // SPIs of the test are used up
            }
            // Each rekey waits until the association before it has carried something.
            associate(&a, &b, next);
            wait_for("the new association carries traffic", || {
                a.tunnel_stats().outbound[0].packets > 0 || done.load(Ordering::Relaxed) || source.is_finished()
            });
            let old = u32::from(next) - 1;
            a.path.remove_outbound(&tunnel(), spi(0x1000 + old));
            b.path.remove_outbound(&tunnel(), spi(0x2000 + old));
            generations = next;
        }
        echo.join().unwrap();
        source.join().unwrap();
        assert!(generations > 3, "several rekeys took place under load");
    });
    let inbound = b.tunnel_stats().inbound;
    assert!(inbound.iter().all(|sa| sa.replays + sa.forgeries + sa.malformed == 0), "{inbound:?}");
    assert!(inbound.iter().filter(|sa| sa.packets > 0).count() > 3);
}

#[test]
fn a_packet_that_does_not_belong_to_the_peer_is_dropped() {
    let (a, b) = pair(1438, None);
    let peer = Selectors::new(
        vec![Selector::prefix("0.0.0.0/0".parse().unwrap())],
        vec![Selector::prefix("169.254.1.1/32".parse().unwrap())],
    );
    accept(&a, &b, 0x1001, 1, peer);
    send_by(&a, &b, 0x1001, 1, Limits::default());
    a.ip("addr add 10.66.0.1/32 dev lo");
    b.ip("route add 10.66.0.0/16 dev tun1");
    let far = b.socket(b.inner());
    let spoofer = a.socket([10, 66, 0, 1].into());
    spoofer.send_to(b"not mine", far.local_addr().unwrap()).unwrap();
    wait_for("the foreign packet is counted", || b.tunnel_stats().inbound[0].foreign == 1);
    crosses(&a.socket(a.inner()), &far, b"mine");
}

#[test]
fn ike_goes_up_from_both_ports_and_back_down() {
    let (a, b) = pair(1438, None);
    for port in [500, 4500] {
        for (local, remote) in
            [(a.outer(), b.outer()), ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap())]
        {
            let (local, remote) = (SocketAddr::new(local, port), SocketAddr::new(remote, port));
            a.path.send_ike(&wan(), local, remote, b"an IKE message").unwrap();
            wait_for("the message arrives", || !b.sink.ike.lock().unwrap().is_empty());
            let datagram = b.sink.ike.lock().unwrap().remove(0);
            assert_eq!((datagram.local, datagram.remote), (remote, local));
            assert_eq!(datagram.message, b"an IKE message");
        }
    }
    assert_eq!(b.wan_stats().ike_received, 4);
    let error = a.path.send_ike(
        &"isp9".parse().unwrap(),
        SocketAddr::new(a.outer(), 500),
        SocketAddr::new(b.outer(), 500),
        b"",
    );
    assert_eq!(error.unwrap_err().to_string(), "wan isp9 is not open; check that its interface exists");
}

#[test]
fn what_strangers_send_is_counted_and_told_at_a_bounded_rate() {
    let (a, b) = pair(1438, None);
    let stranger = a.socket(a.outer());
    let to = SocketAddr::new(b.outer(), 4500);
    stranger.send_to(&[0xff], to).unwrap();
    stranger.send_to(&[1, 2], to).unwrap();
    for _ in 0..200 {
        stranger.send_to(&[0xc0, 0xff, 0xee, 0x01, 0, 0, 0, 1, 0, 0, 0, 0], to).unwrap();
    }
    wait_for("all are counted", || b.wan_stats().unknown_spi == 200);
    let stats = b.wan_stats();
    assert_eq!((stats.keepalives, stats.malformed, stats.ike_received), (1, 1, 0));
    let events = b.sink.events.lock().unwrap();
    assert!((1..=20).contains(&events.len()), "200 packets made {} events", events.len());
    assert!(matches!(events[0], Event::UnknownSpi { spi: 0xc0ff_ee01, .. }));
}

#[test]
fn a_peer_that_moves_is_told_once_and_followed_when_asked() {
    let (a, b) = pair(1438, None);
    associate(&a, &b, 1);
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    crosses(&near, &far, b"from the old address");
    a.ip("addr add 198.51.100.77/24 dev wan0");
    let moved = SocketAddr::new([198, 51, 100, 77].into(), 4500);
    a.path.set_path(&tunnel(), Path { local: moved, ..a.path_to(&b) }).unwrap();
    crosses(&near, &far, b"from the new one");
    crosses(&near, &far, b"and again");
    let path = Path { remote: moved, ..b.path_to(&a) };
    assert_eq!(
        *b.sink.events.lock().unwrap(),
        [Event::PeerMoved { tunnel: tunnel(), spi: spi(0x1001), path: path.clone() }]
    );
    b.path.set_path(&tunnel(), path.clone()).unwrap();
    crosses(&far, &near, b"answer");
    assert_eq!(b.tunnel_stats().outbound[0].path, path);
}

#[test]
fn lifetimes_are_told_and_kept() {
    let (a, b) = pair(1438, None);
    accept(&a, &b, 0x1001, 1, Selectors::any());
    let limits = Limits { soft_packets: Some(3), hard_packets: Some(5), ..Limits::default() };
    send_by(&a, &b, 0x1001, 1, limits);
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    for number in 0..5u8 {
        // Batches are counted as a whole, so that the limit is exact only when packets go one by one.
        if a.tunnel_stats().outbound[0].packets < 5 {
            crosses(&near, &far, &[number]);
        }
    }
    wait_for("the hard limit is told", || {
        near.send_to(b"one too many", far.local_addr().unwrap()).unwrap();
        a.sink.events.lock().unwrap().len() >= 2
    });
    let told = |limit| Event::Lifetime { tunnel: tunnel(), spi: spi(0x1001), direction: Direction::Outbound, limit };
    assert_eq!(*a.sink.events.lock().unwrap(), [told(Limit::Soft), told(Limit::Hard)]);
    let sent = a.tunnel_stats().outbound[0].packets;
    let dropped = a.tunnel_stats().dropped_no_sa;
    near.send_to(b"one more", far.local_addr().unwrap()).unwrap();
    wait_for("the drop", || a.tunnel_stats().dropped_no_sa > dropped);
    assert_eq!(a.tunnel_stats().outbound[0].packets, sent);
}

#[test]
fn tcp_inside_fits_the_tunnel() {
    let (a, b) = pair(1300, None);
    associate(&a, &b, 1);
    let listener = b.ns.run(|| std::net::TcpListener::bind((b.inner(), 0)).unwrap());
    let to = listener.local_addr().unwrap();
    // The interface says 1500, the path takes 1300: the MSS must come from the path.
    for site in [&a, &b] {
        site.ip("link set tun1 mtu 1500");
    }
    let data = vec![0x42; 1 << 20];
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = a.ns.run(|| std::net::TcpStream::connect(to).unwrap());
            std::io::Write::write_all(&mut stream, &data).unwrap();
        });
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut received).unwrap();
        assert_eq!(received.len(), data.len());
    });
    assert_eq!(a.tunnel_stats().dropped_too_big, 0);
}

#[test]
fn a_packet_too_big_for_the_path_is_answered() {
    let (a, b) = pair(1300, None);
    associate(&a, &b, 1);
    a.ip("link set tun1 mtu 1500");
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    near.connect(far.local_addr().unwrap()).unwrap();
    rustix::net::sockopt::set_ip_mtu_discover(&near, rustix::net::sockopt::Ipv4PathMtuDiscovery::DO).unwrap();
    near.send(&[1; 1400]).unwrap();
    wait_for("the path MTU is learned", || rustix::net::sockopt::ip_mtu(&near).unwrap() == 1300);
    assert_eq!(a.tunnel_stats().dropped_too_big, 1);
}

#[test]
fn a_link_that_is_made_again_is_taken_up() {
    let (a, b) = pair(1438, None);
    associate(&a, &b, 1);
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    crosses(&near, &far, b"before");
    a.path.remove_wan(&wan());
    near.send_to(b"nowhere", far.local_addr().unwrap()).unwrap();
    wait_for("the drop", || a.tunnel_stats().dropped_send == 1);
    open_wan(&a);
    crosses(&near, &far, b"after");
    open_wan(&a);
    crosses(&far, &near, b"replaced in place");
}

#[test]
fn removing_a_tunnel_removes_its_interface() {
    let (a, b) = pair(1438, None);
    associate(&a, &b, 1);
    assert!(a.ip("-o link").contains("tun1"));
    a.path.remove_tunnel(&tunnel(), false);
    assert!(!a.ip("-o link").contains("tun1"));
    assert!(a.path.add_inbound(&tunnel(), inbound(&a, &b)).is_err());
    let socket: UdpSocket = b.socket(b.inner());
    socket.send_to(b"x", SocketAddr::new(a.inner(), 9)).unwrap();
    wait_for("its association is unknown", || a.wan_stats().unknown_spi >= 1); // its kernel may say something, too
}

fn inbound(a: &Site, b: &Site) -> dataplane::NewInbound {
    dataplane::NewInbound {
        spi: spi(0x3001),
        keymat: keymat(1),
        esn: true,
        selectors: Selectors::any(),
        path: a.path_to(b),
        encapsulated: true,
        limits: Limits::default(),
    }
}
