//! Routes that others put into the kernel's main table: an operator, DHCP, another daemon.
//!
//! What the kernel itself derives from addresses is connected and not among them, nor is what the owner of the
//! [`Watch`](crate::Watch) installs. The kernel drops routes with their link or address without a word, so whoever keeps
//! this true reads everything anew then.

use std::{collections::BTreeMap, net::IpAddr};

use net_types::Prefix;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};

/// A route that somebody else put into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignRoute {
    /// Where it leads; the first way of several.
    pub target: ForeignTarget,
    /// Its priority: the least is used.
    pub metric: u32,
    /// Who put it there (`rtm_protocol`).
    pub protocol: u8,
}

/// Where a route of others leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForeignTarget {
    /// Through an interface.
    Via {
        /// The interface.
        ifindex: u32,
        /// The router on it, where there is one.
        gateway: Option<IpAddr>,
    },
    /// Nowhere, without a word.
    Blackhole,
    /// Nowhere, and the sender is told.
    Unreachable,
}

impl ForeignTarget {
    /// The interface that it needs.
    pub fn ifindex(&self) -> Option<u32> {
        match self {
            Self::Via { ifindex, .. } => Some(*ifindex),
            Self::Blackhole | Self::Unreachable => None,
        }
    }
}

/// Most routes that are kept: an edge box has some dozens. Beyond, new ones are passed over.
const MOST: usize = 100_000;

/// Before every other target in order.
const FIRST: ForeignTarget = ForeignTarget::Via { ifindex: 0, gateway: None };

/// All that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    all: BTreeMap<(Prefix, u32, ForeignTarget), ForeignRoute>,
    /// Some were passed over, which was said.
    crowded: bool,
}

impl Routes {
    /// Takes a route in. `replaces`: it stands in the place of others of its prefix and metric. Whether anything is
    /// different now.
    pub(crate) fn put(&mut self, prefix: Prefix, route: ForeignRoute, replaces: bool) -> bool {
        let key = (prefix, route.metric, route.target);
        let before = self.all.len();
        if replaces {
            let first = (prefix, route.metric, FIRST);
            let same =
                self.all.range(first..).map(|(key, _)| *key).take_while(|key| (key.0, key.1) == (prefix, route.metric));
            let others: Vec<_> = same.filter(|other| *other != key).collect();
            for other in &others {
                self.all.remove(other);
            }
        }
        if self.all.len() >= MOST && !self.all.contains_key(&key) {
            if !std::mem::replace(&mut self.crowded, true) {
                tracing::warn!(
                    %prefix, most = MOST,
                    "the kernel has more routes of others than are followed: this one and later ones are not redistributed"
                );
            }
            return before != self.all.len();
        }
        self.all.insert(key, route) != Some(route) || before != self.all.len()
    }

    /// Takes a route out; whether it was there.
    pub(crate) fn remove(&mut self, prefix: Prefix, route: &ForeignRoute) -> bool {
        self.all.remove(&(prefix, route.metric, route.target)).is_some()
    }

    /// Every route to exactly this prefix.
    pub(crate) fn of(&self, prefix: &Prefix) -> impl Iterator<Item = &ForeignRoute> {
        let first = (*prefix, 0, FIRST);
        let prefix = *prefix;
        self.all.range(first..).take_while(move |((of, ..), _)| *of == prefix).map(|(_, route)| route)
    }

    /// For each prefix the first route that is `usable`.
    pub(crate) fn best(&self, usable: impl Fn(&ForeignRoute) -> bool) -> impl Iterator<Item = (Prefix, &ForeignRoute)> {
        let mut last = None;
        self.all.iter().filter_map(move |((prefix, ..), route)| {
            let first = last != Some(*prefix) && usable(route);
            first.then(|| {
                last = Some(*prefix);
                (*prefix, route)
            })
        })
    }

    /// Whether one leads through this interface.
    pub(crate) fn uses(&self, ifindex: u32) -> bool {
        self.all.values().any(|route| route.target.ifindex() == Some(ifindex))
    }
}

/// A message about a route of somebody else's in the main table; `own` is the protocol number that is ours.
pub(crate) fn parse(message: &RouteMessage, own: u8) -> Option<(Prefix, ForeignRoute)> {
    let header = &message.header;
    let protocol = u8::from(header.protocol);
    let derived = [RouteProtocol::Kernel, RouteProtocol::IcmpRedirect].contains(&header.protocol);
    if derived || protocol == own || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let (mut table, mut destination, mut metric) = (u32::from(header.table), None, 0);
    let (mut ifindex, mut gateway) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => destination = Some(IpAddr::V4(*v4)),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => destination = Some(IpAddr::V6(*v6)),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Via(netlink_packet_route::route::RouteVia::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            RouteAttribute::MultiPath(hops) => {
                let first = hops.first()?;
                ifindex = Some(first.interface_index);
                gateway = first.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Gateway(address) => ip(address),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) {
        return None;
    }
    let everything = match header.address_family {
        netlink_packet_route::AddressFamily::Inet => Prefix::DEFAULT_V4,
        netlink_packet_route::AddressFamily::Inet6 => Prefix::DEFAULT_V6,
        _ => return None,
    };
    let prefix = match destination {
        Some(address) => Prefix::new(address, header.destination_prefix_length).ok()?,
        None => everything,
    };
    let target = match header.kind {
        RouteType::Unicast => ForeignTarget::Via { ifindex: ifindex?, gateway },
        RouteType::BlackHole => ForeignTarget::Blackhole,
        RouteType::Unreachable | RouteType::Prohibit => ForeignTarget::Unreachable,
        _ => return None,
    };
    Some((prefix, ForeignRoute { target, metric, protocol }))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(ifindex: u32, metric: u32) -> ForeignRoute {
        ForeignRoute { target: ForeignTarget::Via { ifindex, gateway: None }, metric, protocol: 4 }
    }

    #[test]
    fn the_least_metric_over_a_usable_link_is_the_route() {
        let (mut routes, prefix) = (Routes::default(), "10.0.0.0/8".parse().unwrap());
        assert!(routes.put(prefix, via(3, 20), false));
        assert!(routes.put(prefix, via(2, 10), false));
        assert!(!routes.put(prefix, via(2, 10), false), "nothing new");
        let best = |routes: &Routes, dead: u32| {
            routes.best(|route| route.target.ifindex() != Some(dead)).map(|(_, r)| r.metric).collect::<Vec<_>>()
        };
        assert_eq!(best(&routes, 0), [10]);
        assert_eq!(best(&routes, 2), [20]);
        assert!(routes.put(prefix, via(4, 10), true), "in the place of the other with that metric");
        assert_eq!(routes.of(&prefix).map(|route| route.target.ifindex().unwrap()).collect::<Vec<_>>(), [4, 3]);
        assert!(routes.uses(3) && !routes.uses(2));
        assert!(routes.remove(prefix, &via(4, 10)) && !routes.remove(prefix, &via(4, 10)));
    }
}
