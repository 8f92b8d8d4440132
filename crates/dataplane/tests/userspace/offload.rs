//! Super-packets of a real kernel: cut and sealed on one side, merged and taken on the other.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    num::NonZeroU16,
    thread,
};

use crate::common::*;
use sys::mmsg::{self, Datagram};

const LENGTH: usize = 16 << 20;

fn octet(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

fn address(site: &Site, version: u8, number: u16) -> IpAddr {
    if version == 4 { site.inner() } else { Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number).into() }
}

/// Packets that the interface counted: a super-packet is one.
fn interface_packets(site: &Site, direction: &str) -> u64 {
    let text = site.ip("-s link show tun1");
    let after = text.split_once(&format!("{direction}:")).unwrap().1;
    after.lines().nth(1).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_tcp_stream_crosses_whole_and_in_super_packets() {
    let (a, b) = pair(1438, None);
    associate(&a, &b, 1);
    for version in [4, 6] {
        let to = SocketAddr::new(address(&b, version, 2), 7000);
        let listener = b.ns.run(|| TcpListener::bind(to).unwrap());
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = a.ns.run(|| TcpStream::connect(to).unwrap());
                let octets: Vec<u8> = (0..LENGTH).map(octet).collect();
                stream.write_all(&octets).unwrap();
            });
            let mut stream = listener.accept().unwrap().0;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut octets = Vec::new();
            stream.read_to_end(&mut octets).unwrap();
            assert_eq!(octets.len(), LENGTH);
            assert!(octets.iter().enumerate().all(|(at, found)| *found == octet(at)), "version {version}");
        });
    }
    let (sent, received) = (a.tunnel_stats(), b.tunnel_stats());
    assert_eq!(sent.dropped_too_big + sent.dropped_malformed + sent.dropped_selectors, 0);
    assert_eq!(received.inbound[0].malformed + received.inbound[0].forgeries, 0);
    assert!(interface_packets(&a, "TX") < sent.sent_packets / 2, "the kernel leaves it uncut");
    assert!(interface_packets(&b, "RX") < received.received_packets / 2, "and takes it merged");
}

#[test]
fn udp_segments_arrive_as_the_datagrams_that_they_are() {
    let (a, b) = pair(1438, None);
    associate(&a, &b, 1);
    for version in [4, 6] {
        let (near, far) = (a.socket(address(&a, version, 1)), b.socket(address(&b, version, 2)));
        crosses(&near, &far, b"a neighbor is found");
        let payload: Vec<u8> = (0..12_345).map(octet).collect();
        let to = far.local_addr().unwrap();
        let one = Datagram { to, from: None, payload: &payload, segment: NonZeroU16::new(1000), tos: 0 };
        assert_eq!(mmsg::send(&near, &[one]).unwrap(), 1);
        let mut buffer = [0; 2000];
        for expected in payload.chunks(1000) {
            let (length, from) = far.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (expected, near.local_addr().unwrap()));
        }
    }
}
