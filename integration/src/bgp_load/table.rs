//! Made-up tables in the Internet's shape, the same for the same seed.
//!
//! 60 % of the prefixes are /24, the rest /8 to /23; about five share a path; paths have 2 to 7 ASes, and two thirds of
//! them carry communities.

use std::net::Ipv4Addr;

use super::Presence;
use crate::bgp_octets::{HEADER, MAX_MESSAGE, UPDATE};

/// A prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its address.
    pub address: u32,
    /// Its length.
    pub bits: u8,
}

/// Prefixes that share attributes.
#[derive(Clone, Debug)]
struct Group {
    routes: std::ops::Range<usize>,
    /// Behind the announcing AS.
    path: Vec<u32>,
    communities: Vec<u32>,
}

/// Who announces it.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Its AS.
    pub asn: u32,
    /// The next hop of everything.
    pub next_hop: Ipv4Addr,
}

/// A table: prefixes in no order, by groups of equal attributes.
#[derive(Clone, Debug)]
pub struct Table {
    routes: Vec<Route>,
    groups: Vec<Group>,
}

impl Table {
    /// As many different prefixes in the Internet's shape.
    pub fn internet(count: usize, seed: u64) -> Self {
        let mut random = Random(seed | 1);
        let (mut known, mut routes) = (Presence::default(), Vec::with_capacity(count));
        while routes.len() < count {
            let bits = if random.below(10) < 6 { 24 } else { SHORTER[random.below(SHORTER.len() as u32) as usize] };
            // 1.0.0.0 to 223.255.255.255, without 10.0.0.0/8 where the labs are, and what contains it.
            let address = (0x0100_0000 + random.below(0xdf00_0000)) & (u32::MAX << (32 - bits));
            let reserved = address >> 24 == 10 || address >> 24 == 127;
            if !reserved && matches!(known.set(address, bits, true), Ok(true)) {
                routes.push(Route { address, bits });
            }
        }
        Self::grouped(routes, &mut random)
    }

    /// `count` /24s from the one numbered `first` on, where 1.0.0.0/24 has number 0.
    pub fn consecutive(first: usize, count: usize, seed: u64) -> Self {
        // Over 10.0.0.0/8 and 127.0.0.0/8, where other things are.
        let skip = |number: u32| number + if number >= 9 << 16 { 1 << 16 } else { 0 };
        let routes = (first..first + count).map(|number| {
            let number = skip(number as u32);
            let number = number + if number >= 126 << 16 { 1 << 16 } else { 0 };
            Route { address: (number << 8) + 0x0100_0000, bits: 24 }
        });
        Self::grouped(routes.collect(), &mut Random(seed | 1))
    }

    fn grouped(routes: Vec<Route>, random: &mut Random) -> Self {
        let mut groups = Vec::new();
        let mut start = 0;
        while start < routes.len() {
            let end = (start + 1 + random.below(9) as usize).min(routes.len()); // 1 to 9, five on average
            let hops = 1 + random.below(6);
            let communities = if random.below(3) < 2 { 1 + random.below(5) } else { 0 };
            groups.push(Group {
                routes: start..end,
                path: (0..hops).map(|_| 1 + random.below(64_000)).collect(),
                communities: (0..communities).map(|_| random.below(u32::MAX)).collect(),
            });
            start = end;
        }
        Self { routes, groups }
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// How many different paths there are.
    pub fn paths(&self) -> usize {
        self.groups.len()
    }

    /// The UPDATEs that announce everything, one behind the other.
    pub fn announcements(&self, origin: Origin) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.routes.len() * 24);
        for group in &self.groups {
            let at = out.len();
            out.extend([0xff; 16]);
            out.extend([0, 0, UPDATE, 0, 0, 0, 0]);
            let attributes = out.len();
            out.extend([0x40, 1, 1, 0]); // ORIGIN IGP
            out.extend([0x40, 2, (group.path.len() as u8 + 1) * 4 + 2, 2, group.path.len() as u8 + 1]);
            for asn in std::iter::once(&origin.asn).chain(&group.path) {
                out.extend(asn.to_be_bytes());
            }
            out.extend([0x40, 3, 4]);
            out.extend(origin.next_hop.octets());
            if !group.communities.is_empty() {
                out.extend([0xc0, 8, group.communities.len() as u8 * 4]);
                group.communities.iter().for_each(|community| out.extend(community.to_be_bytes()));
            }
            let octets = (out.len() - attributes) as u16;
            out[attributes - 2..attributes].copy_from_slice(&octets.to_be_bytes());
            self.routes[group.routes.clone()].iter().for_each(|route| route.emit(&mut out));
            let length = (out.len() - at) as u16;
            out[at + 16..at + 18].copy_from_slice(&length.to_be_bytes());
        }
        out
    }

    /// The UPDATEs that withdraw everything, each as full as it can be.
    pub fn withdrawals(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.routes.len() * 5);
        for routes in self.routes.chunks((MAX_MESSAGE - HEADER - 4) / 4) {
            let at = out.len();
            out.extend([0xff; 16]);
            out.extend([0, 0, UPDATE, 0, 0]);
            let list = out.len();
            routes.iter().for_each(|route| route.emit(&mut out));
            let octets = (out.len() - list) as u16;
            out[list - 2..list].copy_from_slice(&octets.to_be_bytes());
            out.extend([0, 0]);
            let length = (out.len() - at) as u16;
            out[at + 16..at + 18].copy_from_slice(&length.to_be_bytes());
        }
        out
    }
}

impl Route {
    fn emit(self, out: &mut Vec<u8>) {
        out.push(self.bits);
        out.extend(self.address.to_be_bytes().iter().take(usize::from(self.bits).div_ceil(8)));
    }
}

/// The lengths of those that are no /24, about as often as in a real table.
const SHORTER: [u8; 32] = [
    23, 23, 23, 23, 23, 23, 23, 22, 22, 22, 22, 22, 22, 22, 22, 21, 21, 21, 20, 20, 20, 19, 19, 18, 18, 17, 16, 16, 15,
    14, 13, 12,
];

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

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin { asn: 65101, next_hop: Ipv4Addr::new(10, 255, 1, 1) };

    /// Reads messages as their receiver would.
    fn read(octets: &[u8]) -> (Presence, usize) {
        let (mut there, mut rest, mut messages) = (Presence::default(), octets, 0);
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
            assert!(length <= MAX_MESSAGE && rest[18] == UPDATE);
            crate::bgp_load::speaker::update(&rest[HEADER..length], &mut there).unwrap();
            (rest, messages) = (&rest[length..], messages + 1);
        }
        (there, messages)
    }

    #[test]
    fn a_table_has_the_internets_shape_and_every_prefix_once() {
        let table = Table::internet(50_000, 7);
        let (there, messages) = read(&table.announcements(ORIGIN));
        assert_eq!((there.len(), messages), (50_000, table.paths()));
        let long = table.routes.iter().filter(|route| route.bits == 24).count();
        assert!((29_000..31_000).contains(&long), "{long} /24s");
        assert!((9_500..10_500).contains(&table.paths()), "{} paths", table.paths());
        assert_eq!(table.announcements(ORIGIN), Table::internet(50_000, 7).announcements(ORIGIN));
    }

    #[test]
    fn withdrawals_take_back_what_was_announced() {
        let table = Table::consecutive(8 << 16, 150_000, 3);
        assert!(table.routes.iter().all(|route| route.address >> 24 != 10));
        let mut octets = table.announcements(ORIGIN);
        assert_eq!(read(&octets).0.len(), 150_000);
        octets.extend(table.withdrawals());
        assert!(read(&octets).0.is_empty());
    }
}
