//! Virtual routers.

use std::net::IpAddr;

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
    let address = (1u8..255).prop_map(|host| [198, 18, 0, host].into());
    (
        btree_set(address, 1..4),
        (1u8..255, 1u16..4096),
        (any::<bool>(), seconds(0, 3600), any::<bool>()),
        btree_map("tun[0-9]".prop_map(|name| VrrpTracked::Tunnel(name.parse().unwrap())), 1u8..254, 0..3),
    )
        .prop_map(|(addresses, (priority, interval), (preempt, preempt_delay, shutdown), track)| VrrpGroup {
            addresses,
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
