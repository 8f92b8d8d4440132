//! Routes on rtnetlink, each by the nexthop object that it uses (`RTA_NH_ID`).

use std::net::IpAddr;

use net_types::{Family, Prefix};
use netlink_packet_core::{DecodeError, NlasIterator, parse_u32};
#[cfg(test)]
use netlink_packet_route::route::{RouteScope, RouteType};
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol},
};

use super::nexthop::parse_address;
use crate::backend::{NexthopId, Target};

/// Octets of `struct rtmsg` (linux/rtnetlink.h).
pub(super) const HEADER_LEN: usize = 12;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_PRIORITY: u16 = 6;
pub(super) const RTA_PREFSRC: u16 = 7;
pub(super) const RTA_TABLE: u16 = 15;
/// `RTN_UNREACHABLE`
pub(super) const UNREACHABLE: u8 = 7;
pub(super) const RTA_NH_ID: u16 = 30;

/// The number that marks routes and nexthop objects as ours (`proto 201` in `ip route`).
///
/// iproute2's `rt_protos` and FRR leave it free; 186 to 198 are theirs.
pub const ROUTE_PROTOCOL: u8 = 201;

/// The table that routes go to which are in no VRF: main.
pub const ROUTE_TABLE: u32 = 254;

/// Metric of every IPv4 route: behind what the kernel derives from addresses (0), before what DHCP clients install.
const ROUTE_METRIC: u32 = 20;
/// The same for IPv6, where the kernel gives 256 to what it derives from addresses, and 1024 to what is learned from router
/// advertisements.
const ROUTE_METRIC_V6: u32 = 256 + ROUTE_METRIC;

/// The metric of our routes of a family.
pub(super) fn metric_of(family: Family) -> u32 {
    match family {
        Family::Ipv4Unicast | Family::Ipv4Vpn => ROUTE_METRIC,
        Family::Ipv6Unicast | Family::Ipv6Vpn => ROUTE_METRIC_V6,
    }
}

fn header(family: Family, bits: u8) -> RouteHeader {
    RouteHeader {
        address_family: match family {
            Family::Ipv4Unicast | Family::Ipv4Vpn => AddressFamily::Inet,
            Family::Ipv6Unicast | Family::Ipv6Vpn => AddressFamily::Inet6,
        },
        destination_prefix_length: bits,
        // That of a VRF stands in an attribute, since it may be greater than the 255 that fit here.
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::from(ROUTE_PROTOCOL),
        ..RouteHeader::default()
    }
}

#[cfg(test)]
fn message(prefix: &Prefix, kind: RouteType, scope: RouteScope, target: Option<Target>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader { kind, scope, ..header(prefix.family(), prefix.bits()) };
    message.attributes = Vec::with_capacity(3);
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(prefix.address())));
    message.attributes.push(RouteAttribute::Priority(metric_of(prefix.family())));
    if let Some(table) = prefix.table() {
        message.attributes.push(RouteAttribute::Table(table));
    }
    if let Some(Target::Through(NexthopId(id), source)) = target {
        message.attributes.extend(source.map(|source| RouteAttribute::PrefSource(RouteAddress::from(source))));
        message.attributes.push(RouteAttribute::NhId(id));
    }
    message
}

/// A route of `prefix`, as the library has it.
#[cfg(test)]
pub(super) fn put_route(prefix: &Prefix, target: Target) -> RouteMessage {
    let kind = if target == Target::Unreachable { RouteType::Unreachable } else { RouteType::Unicast };
    message(prefix, kind, RouteScope::Universe, Some(target))
}

/// Names our route of `prefix`, whatever it uses.
#[cfg(test)]
pub(super) fn remove_route(prefix: &Prefix) -> RouteMessage {
    message(prefix, RouteType::Unspec, RouteScope::NoWhere, None)
}

/// Asks for our routes of one family in whatever table; with strict checking the kernel filters by protocol itself.
pub(crate) fn route_query(family: Family) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader { table: 0, ..header(family, 0) };
    message
}

/// `prefix` in the table that it was found in.
fn placed(prefix: Prefix, table: u32) -> Prefix {
    if table == ROUTE_TABLE { prefix } else { prefix.in_table(table) }
}

/// Prefix and target of a route of ours; `None` for anybody else's.
pub(crate) fn parse_route(message: &RouteMessage) -> Option<(Prefix, Option<Target>)> {
    (u8::from(message.header.protocol) == ROUTE_PROTOCOL).then(|| in_our_place(message)).flatten()
}

/// The same of a route message's octets, without a value in between: a table of a million is read at every start.
///
/// # Errors
/// When an attribute is cut short or has an impossible length.
pub(crate) fn read_route(body: &[u8]) -> Result<Option<(Prefix, Option<Target>)>, DecodeError> {
    let Some((header, rest)) = body.split_first_chunk::<HEADER_LEN>() else {
        return Err(DecodeError::from(format!("route message of {} octets, expected {HEADER_LEN}", body.len())));
    };
    let [family, bits, _, _, table, protocol, _, kind, ..] = *header;
    if protocol != ROUTE_PROTOCOL {
        return Ok(None);
    }
    let family = match family {
        AF_INET => Family::Ipv4Unicast,
        AF_INET6 => Family::Ipv6Unicast,
        _ => return Ok(None),
    };
    let (mut destination, mut nexthop, mut source) = (None, None, None);
    let (mut metric, mut table) = (0, u32::from(table));
    for attribute in NlasIterator::new(rest) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            RTA_DST => destination = Some(parse_address(value)?),
            RTA_PRIORITY => metric = parse_u32(value)?,
            RTA_PREFSRC => source = Some(parse_address(value)?),
            RTA_TABLE => table = parse_u32(value)?,
            RTA_NH_ID => nexthop = Some(NexthopId(parse_u32(value)?)),
            _ => {}
        }
    }
    if metric != metric_of(family) {
        return Ok(None);
    }
    // A default route carries no destination at all.
    let address = destination.unwrap_or(match family {
        Family::Ipv4Unicast | Family::Ipv4Vpn => Prefix::DEFAULT_V4.address(),
        Family::Ipv6Unicast | Family::Ipv6Vpn => Prefix::DEFAULT_V6.address(),
    });
    let prefix = Prefix::new(address, bits).ok().filter(|prefix| prefix.family() == family);
    Ok(prefix.map(|prefix| (placed(prefix, table), target(kind, nexthop, source))))
}

/// What a route of the kernel's type `kind` does.
fn target(kind: u8, nexthop: Option<NexthopId>, source: Option<IpAddr>) -> Option<Target> {
    match nexthop {
        Some(id) => Some(Target::Through(id, source)),
        None => (kind == UNREACHABLE).then_some(Target::Unreachable),
    }
}

/// The prefix of somebody else's route that has the table and metric of ours, and so may stand in the place of one.
pub(crate) fn foreign_route(message: &RouteMessage) -> Option<Prefix> {
    (u8::from(message.header.protocol) != ROUTE_PROTOCOL).then(|| in_our_place(message)).flatten().map(|(it, _)| it)
}

fn in_our_place(message: &RouteMessage) -> Option<(Prefix, Option<Target>)> {
    let (mut destination, mut nexthop, mut source, mut metric) = (None, None, None, 0);
    let mut table = u32::from(message.header.table);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => destination = Some(IpAddr::V4(*v4)),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => destination = Some(IpAddr::V6(*v6)),
            RouteAttribute::PrefSource(RouteAddress::Inet(v4)) => source = Some(IpAddr::V4(*v4)),
            RouteAttribute::PrefSource(RouteAddress::Inet6(v6)) => source = Some(IpAddr::V6(*v6)),
            RouteAttribute::NhId(id) => nexthop = Some(NexthopId(*id)),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Table(id) => table = *id,
            _ => {}
        }
    }
    let (unspecified, family) = match message.header.address_family {
        AddressFamily::Inet => (Prefix::DEFAULT_V4.address(), Family::Ipv4Unicast),
        AddressFamily::Inet6 => (Prefix::DEFAULT_V6.address(), Family::Ipv6Unicast),
        _ => return None,
    };
    if metric != metric_of(family) {
        return None;
    }
    // A default route carries no destination at all.
    let address = destination.unwrap_or(unspecified);
    let prefix = Prefix::new(address, message.header.destination_prefix_length).ok()?;
    Some((placed(prefix, table), target(message.header.kind.into(), nexthop, source)))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{Emitable, Parseable};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn emitted_routes_parse_back(
            address in any::<IpAddr>(), bits in 0u8..=128, id in proptest::option::of(any::<u32>()),
            source in any::<Option<IpAddr>>(), table in proptest::option::of(1u32..),
        ) {
            let source = source.filter(|source| source.is_ipv4() == address.is_ipv4());
            let target = id.map_or(Target::Unreachable, |id| Target::Through(NexthopId(id), source));
            if let Ok(prefix) = Prefix::new(address, bits) {
                let table = table.filter(|table| *table != ROUTE_TABLE);
                let prefix = table.map_or(prefix, |table| prefix.in_table(table));
                let message = put_route(&prefix, target);
                let mut buffer = vec![0; message.buffer_len()];
                message.emit(&mut buffer);
                let parsed = RouteMessage::parse(&buffer).unwrap();
                prop_assert_eq!(parse_route(&parsed), Some((prefix, Some(target))));
                prop_assert_eq!(read_route(&buffer).unwrap(), Some((prefix, Some(target))));
            }
        }

        #[test]
        fn both_readers_agree_on_whatever_can_be_read(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let read = read_route(&body);
            if let (Ok(parsed), Ok(read)) = (RouteMessage::parse(&body), read) {
                prop_assert_eq!(parse_route(&parsed), read);
            }
        }
    }

    #[test]
    fn routes_of_others_are_not_ours() {
        let prefix: Prefix = "10.0.0.0/8".parse().unwrap();
        let through = Target::Through(NexthopId(1), None);
        let ours = put_route(&prefix, through);
        let mut foreign = ours.clone();
        foreign.header.protocol = RouteProtocol::Bgp;
        assert_eq!(parse_route(&foreign), None);
        assert_eq!(foreign_route(&foreign), Some(prefix));
        let mut elsewhere = ours.clone();
        elsewhere.attributes.push(RouteAttribute::Table(100));
        assert_eq!(parse_route(&elsewhere), Some((prefix.in_table(100), Some(through))));
        assert!(parse_route(&ours).is_some());
    }
}
