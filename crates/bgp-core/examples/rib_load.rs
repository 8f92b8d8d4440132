//! How long the table takes for a million prefixes from two peers, and how much memory: `cargo run --release -p
//! bgp-core --example rib_load [PREFIXES]`.
//!
//! The table is made up in the Internet's shape: 60 % /24, five prefixes an attribute set, paths of 2 to 7 ASes,
//! communities on two thirds. A third peer receives everything; the FIB is drained along the way.

use std::{
    hint::black_box,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use bgp_core::{
    PeerId,
    rib::{Departure, LocalAddresses, PeerConfig, PeerUp, Resolved, Rib, RibConfig},
};
use bgp_wire::{Announcement, AsPath, Attributes, Community, FamilySet, Negotiated, PeerKind, Reach, Update};
use net_types::{Asn, Family, Prefix, RouterId};

const RECEIVER: PeerId = PeerId(9);

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let now = Instant::now();
    let mut rib = Rib::new(
        RibConfig::new(Asn::literal(65001), RouterId::try_from(Ipv4Addr::new(10, 0, 0, 1)).expect("not zero"), 0x5eed),
        now,
    );
    let mut random = Random(88_172_645_463_325_252);
    let prefixes = table(count, &mut random);
    let empty = resident_octets();
    for peer in [PeerId(1), PeerId(2), RECEIVER] {
        start(&mut rib, now, peer);
    }
    drain_out(&mut rib); // nothing but End-of-RIB

    println!("{count} prefixes, 5 in an update");
    let per = |took: Duration| took.as_nanos() as f64 / count as f64;
    for peer in [1, 2] {
        let mut random = Random(u64::from(peer) * 7919 + 1);
        let mut took = Duration::ZERO;
        // Made up piece by piece and outside of the measurement: what is held in the end is the table's own.
        for piece in prefixes.chunks(5000) {
            let updates = updates(piece, peer, &mut random);
            let start = Instant::now();
            for update in updates {
                rib.update(now, PeerId(peer), update);
            }
            resolve(&mut rib);
            while rib.work(now, 1024) {}
            took += start.elapsed();
        }
        println!("{:<34}{:>8.0} ns/prefix", format!("announcements of peer {peer}"), per(took));
    }
    let octets = resident_octets().saturating_sub(empty);
    println!(
        "attribute sets {}, memory {:.1} octets a path",
        rib.attribute_count(),
        octets as f64 / count as f64 / 2.0
    );

    let timed = |name: &str, took: Duration, what: usize| {
        println!("{name:<34}{:>8.0} ns/prefix  ({what})", per(took));
    };
    let start = Instant::now();
    let changes = drain_fib(&mut rib);
    timed("changes for the FIB", start.elapsed(), changes);
    let start = Instant::now();
    let (sent, groups) = drain_out(&mut rib);
    timed("routes for the receiver", start.elapsed(), sent);
    println!("{:.1} prefixes in a group", sent as f64 / groups as f64);

    let start = Instant::now();
    let mut walk = rib.walk(&Prefix::DEFAULT_V4);
    walk.sort();
    timed("keys in order", start.elapsed(), walk.remaining());
    let start = Instant::now();
    let seen = walk.filter_map(|prefix| black_box(rib.route(now, &prefix))).count();
    timed("walk with every path", start.elapsed(), seen);

    let start = Instant::now();
    rib.peer_down(now, PeerId(1), Departure::Withdraw);
    let told = start.elapsed();
    rib.work(now, usize::MAX);
    timed("the first peer is gone", start.elapsed(), told.as_nanos() as usize);
    let start = Instant::now();
    let changes = drain_fib(&mut rib);
    timed("changes for the FIB", start.elapsed(), changes);
    let start = Instant::now();
    for prefixes in prefixes.chunks(800) {
        let withdrawn = prefixes.to_vec();
        rib.update(now, PeerId(2), Update { withdrawn, ..Update::default() });
    }
    timed("withdrawals of the second peer", start.elapsed(), rib.reachable_count(Family::Ipv4Unicast));
    drain_fib(&mut rib);
    drain_out(&mut rib);
    println!("left: {} prefixes, {} attribute sets", rib.prefix_count(Family::Ipv4Unicast), rib.attribute_count());
}

fn start(rib: &mut Rib, now: Instant, peer: PeerId) {
    let octet = peer.0 as u8;
    let config = PeerConfig::new(Ipv4Addr::new(192, 0, 2, octet).into(), PeerKind::External, Asn::literal(65001));
    rib.configure_peer(peer, config);
    let up = PeerUp {
        router_id: RouterId::try_from(Ipv4Addr::new(10, 9, 9, octet)).expect("not zero"),
        remote_as: Asn::literal(64500),
        negotiated: Negotiated::base(PeerKind::External),
        long_lived: FamilySet::EMPTY,
        long_lived_preserved: FamilySet::EMPTY,
        preserved: FamilySet::EMPTY,
        sends_end_of_rib: true,
        stale_limit: Duration::from_secs(360),
        local: LocalAddresses { v4: Some(Ipv4Addr::new(192, 0, 2, 100)), ..Default::default() },
        scope: 0,
        awaits_filters: FamilySet::EMPTY,
        shared_subnets: Vec::new(),
    };
    rib.peer_up(now, peer, up);
}

fn resolve(rib: &mut Rib) {
    while let Some(event) = rib.poll_next_hop() {
        if let bgp_core::rib::NextHopEvent::Wanted(key) = event {
            rib.next_hop_resolved(key, Some(Resolved { ifindex: 2, gateway: Some(key.address), metric: 0 }));
        }
    }
}

fn drain_fib(rib: &mut Rib) -> usize {
    let (mut changes, mut count) = (Vec::new(), 0);
    loop {
        let more = rib.poll_changes(1024, &mut changes);
        count += black_box(&changes).len();
        changes.clear();
        if !more {
            return count;
        }
    }
}

fn drain_out(rib: &mut Rib) -> (usize, usize) {
    let (mut prefixes, mut groups) = (0, 0);
    while let Some(batch) = rib.poll_out(RECEIVER, 4096) {
        groups += batch.announced.len();
        prefixes += batch.withdrawn.len();
        prefixes += black_box(&batch.announced).iter().map(|group| group.prefixes.len()).sum::<usize>();
    }
    (prefixes, groups)
}

/// As many different prefixes, in no order.
fn table(count: usize, random: &mut Random) -> Vec<Prefix> {
    let mut prefixes = std::collections::BTreeSet::new();
    while prefixes.len() < count {
        let bits = if random.below(10) < 6 { 24 } else { 16 + random.below(8) as u8 };
        let address = Ipv4Addr::from(0x0100_0000 + random.below(0xde00_0000));
        prefixes.extend(Prefix::new(address.into(), bits));
    }
    let mut prefixes: Vec<_> = prefixes.into_iter().collect();
    for at in (1..prefixes.len()).rev() {
        prefixes.swap(at, random.below(at as u32 + 1) as usize);
    }
    prefixes
}

fn updates(prefixes: &[Prefix], peer: u32, random: &mut Random) -> Vec<Update> {
    let next_hop = std::net::IpAddr::from(Ipv4Addr::new(192, 0, 2, peer as u8)).into();
    let mut update = |prefixes: &[Prefix]| {
        let hops = 1 + random.below(6);
        let hops: Vec<_> = (0..hops).map(|_| 1 + random.below(64_000)).collect();
        let path = std::iter::once(64_500 + peer).chain(hops);
        let communities = if random.below(3) < 2 { 1 + random.below(4) } else { 0 };
        let attributes = Attributes {
            as_path: AsPath::sequence(path.map(asn)),
            communities: (0..communities).map(|_| Community(random.below(u32::MAX))).collect(),
            ..Attributes::default()
        };
        let announcement = Announcement { family: Family::Ipv4Unicast, next_hop, prefixes: prefixes.to_vec() };
        let reach = Reach { attributes, announced: [announcement].into_iter().collect() };
        Update { reach: Some(reach), ..Update::default() }
    };
    prefixes.chunks(5).map(&mut update).collect()
}

fn asn(number: u32) -> Asn {
    Asn::try_from(number).expect("not zero")
}

fn resident_octets() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = status.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// xorshift64*: the same table every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) * u64::from(limit)) >> 32) as u32
    }
}
