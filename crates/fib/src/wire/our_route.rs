//! The route messages that we send, written without a value in between: a full table is a million of them, and what is
//! not the kernel's time is ours.
//!
//! Everything but prefix and nexthop object is the same in each. What `netlink-packet-route` would write is the test.

use std::net::IpAddr;

use net_types::{Family, Prefix};

use super::{
    ROUTE_METRIC, ROUTE_PROTOCOL,
    route::{AF_INET, AF_INET6, HEADER_LEN, RTA_DST, RTA_NH_ID, RTA_PRIORITY, RTA_TABLE},
};
use crate::backend::NexthopId;

/// `RT_TABLE_MAIN`
const TABLE_MAIN: u8 = 254;
/// `RT_SCOPE_UNIVERSE` and `RTN_UNICAST`.
const PUT: [u8; 2] = [0, 1];
/// `RT_SCOPE_NOWHERE` and `RTN_UNSPEC`: in a deletion they match any scope and type.
const REMOVE: [u8; 2] = [255, 0];
/// Octets of an attribute's header, and of one that holds a number.
const ATTRIBUTE: usize = 4;
const NUMBER: usize = ATTRIBUTE + 4;

/// A route of ours, to be put or (without a nexthop object) to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OurRoute {
    pub(crate) prefix: Prefix,
    pub(crate) nexthop: Option<NexthopId>,
}

impl OurRoute {
    /// Octets of the message's body.
    pub(crate) fn len(&self) -> usize {
        let address = match self.prefix.family() {
            Family::Ipv4Unicast | Family::Ipv4Vpn => 4,
            Family::Ipv6Unicast | Family::Ipv6Vpn => 16,
        };
        let table = self.prefix.table().map_or(0, |_| NUMBER);
        HEADER_LEN + ATTRIBUTE + address + NUMBER + table + self.nexthop.map_or(0, |_| NUMBER)
    }

    /// Writes the body into [`len`](Self::len) octets.
    pub(crate) fn emit(&self, mut out: &mut [u8]) {
        let family = match self.prefix.family() {
            Family::Ipv4Unicast | Family::Ipv4Vpn => AF_INET,
            Family::Ipv6Unicast | Family::Ipv6Vpn => AF_INET6,
        };
        let [scope, kind] = if self.nexthop.is_some() { PUT } else { REMOVE };
        // struct rtmsg: family, two prefix lengths, TOS, table, protocol, scope, type, flags (linux/rtnetlink.h)
        put(&mut out, &[family, self.prefix.bits(), 0, 0, TABLE_MAIN, ROUTE_PROTOCOL, scope, kind, 0, 0, 0, 0]);
        match self.prefix.address() {
            IpAddr::V4(address) => attribute(&mut out, RTA_DST, &address.octets()),
            IpAddr::V6(address) => attribute(&mut out, RTA_DST, &address.octets()),
        }
        attribute(&mut out, RTA_PRIORITY, &ROUTE_METRIC.to_ne_bytes());
        // That of a VRF, which may be greater than the 255 that fit above.
        if let Some(table) = self.prefix.table() {
            attribute(&mut out, RTA_TABLE, &table.to_ne_bytes());
        }
        if let Some(NexthopId(id)) = self.nexthop {
            attribute(&mut out, RTA_NH_ID, &id.to_ne_bytes());
        }
    }
}

fn attribute(out: &mut &mut [u8], kind: u16, value: &[u8]) {
    put(out, &((ATTRIBUTE + value.len()) as u16).to_ne_bytes());
    put(out, &kind.to_ne_bytes());
    put(out, value);
}

fn put(out: &mut &mut [u8], octets: &[u8]) {
    let (here, rest) = std::mem::take(out).split_at_mut(octets.len());
    here.copy_from_slice(octets);
    *out = rest;
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::route::{put_route, remove_route};

    proptest! {
        #[test]
        fn the_octets_are_those_of_the_library(
            address in any::<IpAddr>(), bits in 0u8..=128, id in any::<u32>(), table in any::<Option<u32>>(),
        ) {
            let Ok(prefix) = Prefix::new(address, bits) else { return Ok(()) };
            let prefix = table.map_or(prefix, |table| prefix.in_table(table));
            for (nexthop, library) in
                [(Some(NexthopId(id)), put_route(&prefix, NexthopId(id))), (None, remove_route(&prefix))]
            {
                let route = OurRoute { prefix, nexthop };
                let mut ours = vec![0; route.len()];
                route.emit(&mut ours);
                let mut theirs = vec![0; library.buffer_len()];
                library.emit(&mut theirs);
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
