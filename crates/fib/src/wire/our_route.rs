//! The route messages that we send, written without a value in between: a full table is a million of them, and what is
//! not the kernel's time is ours.
//!
//! Everything but prefix and target is the same in each. What `netlink-packet-route` would write is the test.

use std::net::IpAddr;

use net_types::{Family, Prefix};

use super::{
    ROUTE_PROTOCOL,
    route::{
        AF_INET, AF_INET6, HEADER_LEN, RTA_DST, RTA_NH_ID, RTA_PREFSRC, RTA_PRIORITY, RTA_TABLE, UNREACHABLE, metric_of,
    },
};
use crate::backend::{NexthopId, Target};

/// `RT_TABLE_MAIN`
const TABLE_MAIN: u8 = 254;
/// `RT_SCOPE_UNIVERSE` and `RTN_UNICAST`.
const PUT: [u8; 2] = [0, 1];
const REJECT: [u8; 2] = [0, UNREACHABLE];
/// `RT_SCOPE_NOWHERE` and `RTN_UNSPEC`: in a deletion they match any scope and type.
const REMOVE: [u8; 2] = [255, 0];
/// Octets of an attribute's header, and of one that holds a number.
const ATTRIBUTE: usize = 4;
const NUMBER: usize = ATTRIBUTE + 4;

/// A route of ours, to be put or (without a target) to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OurRoute {
    pub(crate) prefix: Prefix,
    pub(crate) target: Option<Target>,
}

fn octets(address: IpAddr) -> usize {
    if address.is_ipv4() { 4 } else { 16 }
}

impl OurRoute {
    /// Octets of the message's body.
    pub(crate) fn len(&self) -> usize {
        let table = self.prefix.table().map_or(0, |_| NUMBER);
        let target = match self.target {
            Some(Target::Through(_, source)) => NUMBER + source.map_or(0, |source| ATTRIBUTE + octets(source)),
            Some(Target::Unreachable) | None => 0,
        };
        HEADER_LEN + ATTRIBUTE + octets(self.prefix.address()) + NUMBER + table + target
    }

    /// Writes the body into [`len`](Self::len) octets.
    pub(crate) fn emit(&self, mut out: &mut [u8]) {
        let family = match self.prefix.family() {
            Family::Ipv4Unicast | Family::Ipv4Vpn => AF_INET,
            Family::Ipv6Unicast | Family::Ipv6Vpn => AF_INET6,
        };
        let [scope, kind] = match self.target {
            Some(Target::Through(..)) => PUT,
            Some(Target::Unreachable) => REJECT,
            None => REMOVE,
        };
        // struct rtmsg: family, two prefix lengths, TOS, table, protocol, scope, type, flags (linux/rtnetlink.h)
        put(&mut out, &[family, self.prefix.bits(), 0, 0, TABLE_MAIN, ROUTE_PROTOCOL, scope, kind, 0, 0, 0, 0]);
        host(&mut out, RTA_DST, self.prefix.address());
        attribute(&mut out, RTA_PRIORITY, &metric_of(self.prefix.family()).to_ne_bytes());
        // That of a VRF, which may be greater than the 255 that fit above.
        if let Some(table) = self.prefix.table() {
            attribute(&mut out, RTA_TABLE, &table.to_ne_bytes());
        }
        if let Some(Target::Through(NexthopId(id), source)) = self.target {
            if let Some(source) = source {
                host(&mut out, RTA_PREFSRC, source);
            }
            attribute(&mut out, RTA_NH_ID, &id.to_ne_bytes());
        }
    }
}

fn host(out: &mut &mut [u8], kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => attribute(out, kind, &address.octets()),
        IpAddr::V6(address) => attribute(out, kind, &address.octets()),
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
            source in any::<Option<IpAddr>>(),
        ) {
            let Ok(prefix) = Prefix::new(address, bits) else { return Ok(()) };
            let prefix = table.map_or(prefix, |table| prefix.in_table(table));
            let put = |target| (Some(target), put_route(&prefix, target));
            for (target, library) in [
                put(Target::Through(NexthopId(id), source)),
                put(Target::Unreachable),
                (None, remove_route(&prefix)),
            ] {
                let route = OurRoute { prefix, target };
                let mut ours = vec![0; route.len()];
                route.emit(&mut ours);
                let mut theirs = vec![0; library.buffer_len()];
                library.emit(&mut theirs);
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
