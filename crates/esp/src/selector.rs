//! Which inner packets an association may carry (RFC 4301 §4.4.1.1): traffic selectors as IKEv2 agreed on them.

use std::net::IpAddr;

use net_types::Prefix;

use crate::Inner;

/// One side of a traffic selector: a range of addresses, of ports, and a protocol (RFC 7296 §3.13.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector {
    /// First address. Both are of one family.
    pub first: IpAddr,
    /// Last address.
    pub last: IpAddr,
    /// Transport protocol; 0 is any.
    pub protocol: u8,
    /// First port.
    pub first_port: u16,
    /// Last port.
    pub last_port: u16,
}

/// What the two ends may say to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    local: Vec<Selector>,
    remote: Vec<Selector>,
    /// Both sides hold 0.0.0.0/0 (::/0) without further conditions: the usual case, worth no search.
    any_v4: bool,
    any_v6: bool,
}

impl Selector {
    /// Every protocol and port within `prefix`.
    pub fn prefix(prefix: Prefix) -> Self {
        let net = prefix.as_net();
        Self { first: net.network(), last: net.broadcast(), protocol: 0, first_port: 0, last_port: u16::MAX }
    }

    fn holds(&self, address: IpAddr, protocol: u8, port: Option<u16>) -> bool {
        // Addresses order by family first, so that a range never holds the other family's.
        self.first <= address
            && address <= self.last
            && (self.protocol == 0 || self.protocol == protocol)
            && (self.any_port() || port.is_some_and(|port| self.first_port <= port && port <= self.last_port))
    }

    fn any_port(&self) -> bool {
        self.first_port == 0 && self.last_port == u16::MAX
    }

    fn is_all(&self, all: Prefix) -> bool {
        *self == Self::prefix(all)
    }
}

impl Selectors {
    /// From what was negotiated: the local and the remote side.
    pub fn new(local: Vec<Selector>, remote: Vec<Selector>) -> Self {
        let any = |all: Prefix| [&local, &remote].into_iter().all(|side| side.iter().any(|s| s.is_all(all)));
        let (any_v4, any_v6) = (any(Prefix::DEFAULT_V4), any(Prefix::DEFAULT_V6));
        Self { local, remote, any_v4, any_v6 }
    }

    /// Everything, both families: a route-based tunnel.
    pub fn any() -> Self {
        let all = vec![Selector::prefix(Prefix::DEFAULT_V4), Selector::prefix(Prefix::DEFAULT_V6)];
        Self::new(all.clone(), all)
    }

    /// The local side.
    pub fn local(&self) -> &[Selector] {
        &self.local
    }

    /// The remote side.
    pub fn remote(&self) -> &[Selector] {
        &self.remote
    }

    /// Whether a packet that came out of the tunnel belongs there.
    pub fn permit_inbound(&self, inner: &Inner) -> bool {
        self.permit(inner, inner.source, inner.destination, inner.ports)
    }

    /// Whether a packet may go into the tunnel.
    pub fn permit_outbound(&self, inner: &Inner) -> bool {
        self.permit(
            inner,
            inner.destination,
            inner.source,
            inner.ports.map(|(source, destination)| (destination, source)),
        )
    }

    /// `ports` are the remote's, then the local's.
    fn permit(&self, inner: &Inner, remote: IpAddr, local: IpAddr, ports: Option<(u16, u16)>) -> bool {
        if if remote.is_ipv4() { self.any_v4 } else { self.any_v6 } {
            return true;
        }
        self.remote.iter().any(|s| s.holds(remote, inner.protocol, ports.map(|p| p.0)))
            && self.local.iter().any(|s| s.holds(local, inner.protocol, ports.map(|p| p.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(source: &str, destination: &str, ports: Option<(u16, u16)>) -> Inner {
        Inner {
            length: 28,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: 17,
            ports,
        }
    }

    fn prefixes(text: &str) -> Vec<Selector> {
        text.split(' ').map(|prefix| Selector::prefix(prefix.parse().unwrap())).collect()
    }

    #[test]
    fn a_route_based_tunnel_carries_both_families() {
        let any = Selectors::any();
        assert!(any.permit_inbound(&udp("10.0.0.1", "192.0.2.1", None)));
        assert!(any.permit_outbound(&udp("fd00::1", "2001:db8::1", Some((1, 2)))));
    }

    #[test]
    fn a_foreign_source_does_not_belong() {
        let selectors = Selectors::new(prefixes("10.1.0.0/16"), prefixes("10.2.0.0/16 10.4.0.0/16"));
        assert!(selectors.permit_inbound(&udp("10.4.0.1", "10.1.0.1", None)));
        assert!(!selectors.permit_inbound(&udp("10.3.0.1", "10.1.0.1", None)), "source");
        assert!(!selectors.permit_inbound(&udp("10.2.0.1", "10.2.0.2", None)), "destination");
        assert!(!selectors.permit_inbound(&udp("fd00::1", "fd00::2", None)), "family");
        assert!(selectors.permit_outbound(&udp("10.1.0.1", "10.2.255.255", None)));
        assert!(!selectors.permit_outbound(&udp("10.2.0.1", "10.1.0.1", None)));
    }

    #[test]
    fn ports_and_protocols_narrow() {
        let dns = Selector { protocol: 17, first_port: 53, last_port: 53, ..Selector::prefix(Prefix::DEFAULT_V4) };
        let selectors = Selectors::new(vec![Selector::prefix(Prefix::DEFAULT_V4)], vec![dns]);
        assert!(selectors.permit_inbound(&udp("10.2.0.1", "10.1.0.1", Some((53, 4000)))));
        assert!(!selectors.permit_inbound(&udp("10.2.0.1", "10.1.0.1", Some((4000, 53)))));
        assert!(selectors.permit_outbound(&udp("10.1.0.1", "10.2.0.1", Some((4000, 53)))));
        assert!(!selectors.permit_inbound(&udp("10.2.0.1", "10.1.0.1", None)), "a later fragment has no port to show");
    }
}
