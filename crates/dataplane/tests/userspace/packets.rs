//! What stands around and in front of sealed packets: protocol 50, marks of class and congestion, and what others inject.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpStream},
    thread,
};

use crate::common::*;
use dataplane::{Dataplane, Df, Dscp, Event, Limits, NewInbound, NewOutbound, PacketPolicy, Path, TunnelSpec};
use esp::Selectors;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use sys::{packet::PacketTap, sockopt};

const ESP: u8 = 50;
const UDP: u8 = 17;

/// Outer IPv4 or IPv6 packets that arrive at a site, with the protocol and the TOS or traffic class of each.
struct Tap {
    tap: PacketTap,
    seen: Vec<(u8, u8, Vec<u8>)>,
}

impl Tap {
    fn of(site: &Site) -> Self {
        Self { tap: site.ns.run(|| PacketTap::open(1 << 20).unwrap()), seen: Vec::new() }
    }

    /// Waits for a packet of this protocol between the outer addresses.
    fn find(&mut self, protocol: u8) -> (u8, Vec<u8>) {
        let mut found = None;
        wait_for("the packet on the wire", || {
            let mut buffer = [0; 2048];
            while let Ok(Some(tapped)) = self.tap.next(&mut buffer) {
                let packet = buffer[..tapped.length].to_vec();
                let facts = match packet.first().map_or(0, |first| first >> 4) {
                    4 if packet[12..15] == [198, 51, 100] => (packet[9], packet[1]),
                    6 if packet[8..10] == [0x20, 0x01] => (packet[6], packet[0] << 4 | packet[1] >> 4),
                    _ => continue,
                };
                if !tapped.outgoing {
                    self.seen.push((facts.0, facts.1, packet));
                }
            }
            found = self.seen.iter().find(|seen| seen.0 == protocol).cloned();
            found.is_some()
        });
        let (_, tos, packet) = found.unwrap();
        (tos, packet)
    }
}

fn plainly(from: &Site, to: &Site, raw_spi: u32, seed: u8, path: [Path; 2]) {
    let [there, back] = path;
    let inbound = NewInbound {
        spi: spi(raw_spi),
        keymat: keymat(seed),
        esn: true,
        selectors: Selectors::any(),
        path: back,
        encapsulated: false,
        limits: Limits::default(),
    };
    to.path.add_inbound(&tunnel(), inbound).unwrap();
    let outbound = NewOutbound {
        spi: spi(raw_spi),
        keymat: keymat(seed),
        esn: true,
        selectors: Selectors::any(),
        path: there,
        encapsulated: false,
        limits: Limits::default(),
    };
    from.path.add_outbound(&tunnel(), outbound).unwrap();
}

#[test]
fn esp_goes_without_udp_over_both_families() {
    let (a, b) = pair(1400, None);
    let v6 = |number| SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number).into(), 4500);
    let v6_path = |local, remote| Path { wan: wan(), local: v6(local), remote: v6(remote) };
    let mut outer = Tap::of(&b);
    for (round, [there, back]) in
        [[a.path_to(&b), b.path_to(&a)], [v6_path(1, 2), v6_path(2, 1)]].into_iter().enumerate()
    {
        let round = u8::try_from(round).unwrap();
        plainly(&a, &b, 0x1000 + u32::from(round), round + 1, [there.clone(), back.clone()]);
        plainly(&b, &a, 0x2000 + u32::from(round), round + 11, [back, there]);
        let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
        crosses(&near, &far, b"there");
        crosses(&far, &near, b"and back");
        crosses(&near, &far, &[7; 1372]);
        crosses(&near, &far, &[8; 9000]);
        let (_, packet) = outer.find(ESP);
        assert_eq!(packet[0] >> 4, if round == 0 { 4 } else { 6 });
        outer.seen.clear();
    }
    assert!(a.sink.events.lock().unwrap().is_empty() && b.sink.events.lock().unwrap().is_empty(), "nobody moved");
}

#[test]
fn the_outer_header_tells_the_class_and_congestion_comes_back_in() {
    let (a, b) = pair(1438, None);
    associate(&a, &b, 1);
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    let mut outer = Tap::of(&b);
    for (policy, inner, expected) in [(Dscp::Copy, 0xb8 | 2, 0xb8 | 2), (Dscp::Set(8), 0xb8 | 2, 8 << 2 | 2)] {
        let policy = PacketPolicy { dscp: policy, ..PacketPolicy::default() };
        a.ns.run(|| {
            a.path
                .add_tunnel(TunnelSpec { name: tunnel(), mtu: 1438, policy, datapath: dataplane::Datapath::Userspace })
                .unwrap()
        });
        sockopt::set_ip_tos(&near, inner).unwrap();
        outer.seen.clear();
        crosses(&near, &far, b"marked");
        assert_eq!(outer.find(UDP).0, expected);
    }

    // A router on the way met congestion: the same packet with CE outside.
    a.path.remove_outbound(&tunnel(), spi(0x1001)); // what is sent now comes from this test alone
    b.path.remove_inbound(spi(0x1001));
    let stranger = a.socket(a.outer());
    let to = SocketAddr::new(b.outer(), 4500);
    for (raw_spi, inner_ecn, arrives) in [(0x3001, 2, Some(3)), (0x3002, 0, None)] {
        accept(&a, &b, raw_spi, 7, Selectors::any());
        let payload = sealed_by_hand(raw_spi, 7, 0xb8 | inner_ecn);
        sockopt::set_ip_tos(&stranger, 3).unwrap();
        let inner = Tap::of(&b);
        stranger.send_to(&payload, to).unwrap();
        let stats = |site: &Site| site.tunnel_stats().inbound.into_iter().find(|sa| sa.spi == spi(raw_spi)).unwrap();
        match arrives {
            Some(ecn) => {
                wait_for("it arrives", || stats(&b).packets == 1);
                let mut found = None;
                wait_for("it is delivered", || {
                    let mut buffer = [0; 2048];
                    while let Ok(Some(tapped)) = inner.tap.next(&mut buffer) {
                        if tapped.length >= 20 && buffer[12..16] == [169, 254, 1, 1] {
                            found = Some(buffer[1]);
                        }
                    }
                    found.is_some()
                });
                assert_eq!(found, Some(0xb8 | ecn));
            }
            None => wait_for("it is dropped", || (stats(&b).congested, stats(&b).packets) == (1, 0)),
        }
    }
}

/// A TCP stream through the tunnel, in trains where the kernel has segmentation.
fn stream(from: &Site, to: &Site) {
    let listener = to.ns.run(|| std::net::TcpListener::bind((to.inner(), 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let data = vec![0x42; 1 << 20];
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = from.ns.run(|| TcpStream::connect(address).unwrap());
            stream.write_all(&data).unwrap();
        });
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), data.len());
    });
}

#[test]
fn outer_packets_may_be_fragmented_as_the_policy_says() {
    let (a, b) = pair(1438, None);
    associate(&a, &b, 1);
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    set_ip_mtu_discover(&near, Ipv4PathMtuDiscovery::DONT).unwrap();
    let mut outer = Tap::of(&b);
    // With DF inside, and without.
    for (df, whole, loose) in [(Df::Copy, true, false), (Df::Set, true, true), (Df::Clear, false, false)] {
        let policy = PacketPolicy { df, ..PacketPolicy::default() };
        a.ns.run(|| {
            a.path
                .add_tunnel(TunnelSpec { name: tunnel(), mtu: 1438, policy, datapath: dataplane::Datapath::Userspace })
                .unwrap()
        });
        let flags = |outer: &mut Tap| {
            outer.find(UDP);
            let large = outer.seen.drain(..).filter(|(protocol, _, packet)| *protocol == UDP && packet.len() > 1000);
            large.map(|(_, _, packet)| packet[6] & 0x40 != 0).collect::<Vec<_>>()
        };
        stream(&a, &b);
        let trains = flags(&mut outer);
        assert!(!trains.is_empty() && trains.iter().all(|set| *set == whole), "{df:?}: {trains:?}");
        crosses(&near, &far, &[7; 1300]);
        assert_eq!(flags(&mut outer), [loose], "{df:?}");
    }
}

#[test]
fn a_path_that_takes_less_than_there_has_to_be_is_crossed_in_fragments() {
    let (a, b) = pair(1438, None);
    associate(&a, &b, 1);
    a.ip("route replace 198.51.100.0/24 dev wan0 mtu lock 1200");
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    near.send_to(b"by which the path is looked at", far.local_addr().unwrap()).unwrap();
    wait_for("the path is known", || {
        a.sink.events.lock().unwrap().contains(&Event::PathMtu { tunnel: tunnel(), mtu: 1280 })
    });
    let mut outer = Tap::of(&b);
    set_ip_mtu_discover(&near, Ipv4PathMtuDiscovery::DO).unwrap();
    near.send_to(&[7; 1252], far.local_addr().unwrap()).unwrap();
    wait_for("the whole packet", || b.tunnel_stats().received_packets >= 2);
    outer.find(UDP);
    assert!(outer.seen.iter().any(|(_, _, packet)| packet[6] & 0x20 != 0), "no fragment: {:?}", outer.seen);
    assert_eq!((a.tunnel_stats().dropped_send, a.tunnel_stats().dropped_too_big), (0, 0));
}

/// One packet of an association, made without a packet path.
fn sealed_by_hand(raw_spi: u32, seed: u8, tos: u8) -> Vec<u8> {
    let mut inner = vec![0x45, tos, 0, 28, 0, 1, 0x40, 0, 64, 253, 0, 0, 169, 254, 1, 1, 169, 254, 1, 2];
    inner.extend([0; 8]);
    let sum: u32 = inner[..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let check = !((sum & 0xffff) + (sum >> 16)) as u16;
    inner[10..12].copy_from_slice(&check.to_be_bytes());
    let sa = esp::OutboundSa::new(spi(raw_spi), &keymat(seed), true);
    let mut packet = vec![0; sa.cipher().sealed_len(inner.len())];
    packet[esp::HEADROOM..esp::HEADROOM + inner.len()].copy_from_slice(&inner);
    sa.seal(&mut packet, inner.len()).unwrap();
    packet
}

#[test]
fn what_is_replayed_forged_or_cut_off_is_counted_and_dropped() {
    let (a, b) = pair(1438, None);
    associate(&a, &b, 1);
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    let mut outer = Tap::of(&b);
    crosses(&near, &far, b"seen by somebody");
    let (_, packet) = outer.find(UDP);
    let sealed = packet[28..].to_vec();
    let somebody = a.socket(a.outer());
    let to = SocketAddr::new(b.outer(), 4500);
    let before = b.tunnel_stats();
    let inject = |octets: &[u8]| assert_eq!(somebody.send_to(octets, to).unwrap(), octets.len());
    let counts = || {
        let sa = &b.tunnel_stats().inbound[0];
        (sa.replays, sa.forgeries, sa.malformed)
    };
    inject(&sealed);
    wait_for("the replay is counted", || counts() == (1, 0, 0));
    let mut forged = sealed.clone();
    forged[7] = forged[7].wrapping_add(9); // a number that was not sent yet
    inject(&forged);
    wait_for("the forgery is counted", || counts() == (1, 1, 0));
    for length in [4, 8, 20, 35] {
        inject(&sealed[..length]);
    }
    wait_for("the cut ones are counted", || counts() == (1, 1, 4));
    let after = b.tunnel_stats();
    assert_eq!(after.received_packets, before.received_packets);
    assert!(b.sink.events.lock().unwrap().is_empty(), "who is not authentic has not moved the peer");
    crosses(&near, &far, b"and all goes on");
}
