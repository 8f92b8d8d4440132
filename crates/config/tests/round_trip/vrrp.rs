//! Virtual routers.

use std::net::{IpAddr, Ipv6Addr};

use config::model::{VrrpGroup, VrrpTracked};
use proptest::{
    collection::{btree_map, btree_set},
    prelude::*,
};
use vrrp::{Interval, Vrid};

use super::values::seconds;

pub(super) fn vrid() -> impl Strategy<Value = Vrid> {
    (1u8..).prop_map(|number| Vrid::new(number).unwrap())
}

/// A group that tracks some of these neighbors, which have to exist.
pub(super) fn group() -> impl Strategy<Value = VrrpGroup> {
    // A network of its own, since no address may be anybody else's.
    let v4 = (1u8..255).prop_map(|host| [198, 18, 0, host].into());
    let v6 = (any::<bool>(), 1u16..).prop_map(|(local, host)| {
        let (first, second) = if local { (0xfe80, 0) } else { (0x2001, 0xdb8) };
        Ipv6Addr::new(first, second, 0, 0, 0, 0, 0x18, host)
    });
    (
        (btree_set(v4, 0..4), btree_set(v6, 0..4)),
        (1u8..255, 1u16..4096),
        (any::<bool>(), seconds(0, 3600), any::<bool>()),
        btree_map("tun[0-9]".prop_map(|name| VrrpTracked::Tunnel(name.parse().unwrap())), 1u8..254, 0..3),
    )
        .prop_map(|((v4, v6), (priority, interval), (preempt, preempt_delay, shutdown), track)| VrrpGroup {
            v4,
            v6,
            priority,
            interval: Interval::from_centiseconds(interval).unwrap(),
            preempt,
            preempt_delay,
            track,
            shutdown,
        })
}

/// Makes what is tracked something that there is: tunnels that are configured, and a neighbor.
pub(super) fn settle(group: &mut VrrpGroup, is_tunnel: impl Fn(&VrrpTracked) -> bool, neighbor: Option<IpAddr>) {
    group.track.retain(|tracked, _| is_tunnel(tracked));
    group.track.extend(neighbor.map(|address| (VrrpTracked::Neighbor(address), group.priority.clamp(1, 253))));
}
