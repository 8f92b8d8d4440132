//! Traffic selectors as policies have them: prefixes for ranges of addresses, masks for ranges of ports.

use esp::Selectors;
use net_types::Prefix;
use xfrm::Ports;

/// More policies than anyone's selectors need; each packet is held against them.
const MOST: usize = 256;

/// The selectors need more policies than a tunnel may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the traffic selectors come to more than {MOST} policies; agree on prefixes instead of ranges, or use datapath userspace"
)]
pub(super) struct TooMany;

/// The policies' selectors of packets that leave. Those of what comes are [`reversed`].
pub(super) fn outbound(selectors: &Selectors) -> Result<Vec<xfrm::Selector>, TooMany> {
    let mut out = Vec::new();
    for local in selectors.local() {
        for remote in selectors.remote() {
            let Some(protocol) = common_protocol(local.protocol, remote.protocol) else { continue };
            for source in Prefix::of_range(local.first, local.last) {
                for destination in Prefix::of_range(remote.first, remote.last) {
                    if source.family() != destination.family() {
                        continue;
                    }
                    for source_ports in ports(local.first_port, local.last_port) {
                        for destination_ports in ports(remote.first_port, remote.last_port) {
                            if out.len() == MOST {
                                return Err(TooMany);
                            }
                            out.push(xfrm::Selector { source, destination, protocol, source_ports, destination_ports });
                        }
                    }
                }
            }
        }
    }
    out.sort();
    out.dedup();
    Ok(out)
}

/// The same seen from the other end.
pub(super) fn reversed(selector: &xfrm::Selector) -> xfrm::Selector {
    xfrm::Selector {
        source: selector.destination,
        destination: selector.source,
        protocol: selector.protocol,
        source_ports: selector.destination_ports,
        destination_ports: selector.source_ports,
    }
}

/// A packet has one protocol: two different ones hold nothing.
fn common_protocol(local: u8, remote: u8) -> Option<u8> {
    match (local, remote) {
        (0, other) | (other, 0) => Some(other),
        (local, remote) => (local == remote).then_some(local),
    }
}

/// The fewest blocks that hold just the ports from the first to the last; none if they are in the wrong order, which is how
/// IKE says "opaque" (RFC 7296 §3.13.1).
fn ports(first: u16, last: u16) -> Vec<Ports> {
    let (mut at, end) = (u32::from(first), u32::from(last));
    let mut out = Vec::new();
    while at <= end {
        let room = 31 - (end - at + 1).leading_zeros();
        let low = at.trailing_zeros().min(room).min(16);
        let mask = (u32::from(u16::MAX) >> low << low) as u16;
        out.push(Ports { first: at as u16, mask });
        at += 1 << low;
    }
    out
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use esp::{Inner, Selector};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_route_based_tunnel_takes_one_policy_a_family() {
        let all = [Prefix::DEFAULT_V4, Prefix::DEFAULT_V6].map(|all| xfrm::Selector::between(all, all));
        assert_eq!(outbound(&Selectors::any()), Ok(all.to_vec()));
    }

    #[test]
    fn ranges_of_ports_become_masks() {
        assert_eq!(ports(0, u16::MAX), [Ports::ANY]);
        assert_eq!(ports(u16::MAX, 0), []);
        assert_eq!(ports(53, 53), [Ports { first: 53, mask: u16::MAX }]);
        assert_eq!(ports(1024, u16::MAX).len(), 6);
    }

    #[test]
    fn selectors_that_need_too_many_policies_are_refused() {
        let odd = |n: u8| Selector {
            first: [10, 0, 0, 1].into(),
            last: [10, 255, 255, 254].into(),
            protocol: n,
            first_port: 1,
            last_port: 65_534,
        };
        assert_eq!(outbound(&Selectors::new(vec![odd(6)], vec![odd(6)])), Err(TooMany));
        assert_eq!(outbound(&Selectors::new(vec![odd(6)], vec![odd(17)])), Ok(Vec::new()));
    }

    /// As the kernel holds a packet against a selector (`__xfrm4_selector_match`).
    fn holds(selector: &xfrm::Selector, inner: &Inner) -> bool {
        let (source_port, destination_port) = inner.ports.unwrap_or((0, 0));
        let port = |ports: Ports, port: u16| (ports.first ^ port) & ports.mask == 0;
        selector.source.contains(inner.source)
            && selector.destination.contains(inner.destination)
            && (selector.protocol == 0 || selector.protocol == inner.protocol)
            && port(selector.source_ports, source_port)
            && port(selector.destination_ports, destination_port)
    }

    prop_compose! {
        fn any_selector()(a: u16, b: u16, protocol in prop_oneof![Just(0u8), Just(6), Just(17)], c: u16, d: u16, all: bool)
            -> Selector {
            let address = |low: u16| IpAddr::from([10, 0, (low >> 8) as u8, (low & 255) as u8]);
            let (first_port, last_port) = if all { (0, u16::MAX) } else { (c.min(d), c.max(d)) };
            Selector { first: address(a.min(b)), last: address(a.max(b)), protocol, first_port, last_port }
        }
    }

    proptest! {
        /// A packet is held by the policies just when the user-space path would let it out.
        #[test]
        fn policies_hold_what_the_selectors_hold(
            local in vec(any_selector(), 1..2),
            remote in vec(any_selector(), 1..2),
            packets in vec((any::<u16>(), any::<u16>(), any::<u16>(), any::<u16>(), any::<bool>()), 1..40),
        ) {
            let selectors = Selectors::new(local, remote);
            let Ok(policies) = outbound(&selectors) else { return Ok(()) };
            for (source, destination, source_port, destination_port, udp) in packets {
                let address = |low: u16| IpAddr::from([10, 0, (low >> 8) as u8, (low & 255) as u8]);
                let inner = Inner {
                    length: 28,
                    source: address(source),
                    destination: address(destination),
                    protocol: if udp { 17 } else { 6 },
                    ports: Some((source_port, destination_port)),
                };
                let held = policies.iter().any(|selector| holds(selector, &inner));
                prop_assert_eq!(held, selectors.permit_outbound(&inner), "{:?}", inner);
            }
        }
    }
}
