//! From the configuration to what BFD works with, and where neighbors are. The sessions' part is in
//! [`peer::spec`](crate::peer::spec()), the routing table's in [`policy_setup`](crate::policy_setup).

use std::{net::IpAddr, time::Duration};

use bgp_wire::PeerKind;
use config::model::{self, BfdProfile, Bgp, Config, Neighbor, NeighborId};
use net_types::{IfName, Prefix, RouterId};
use netwatch::View;

use crate::peer::Ases;

/// Our BGP identifier: the configured one, or the highest IPv4 address of the loopback interface, or of the machine. An
/// address that may be another router's next names nobody.
pub fn router_id(bgp: &Bgp, view: &View) -> Option<RouterId> {
    let loopback = view.link_named("lo").map(|link| link.ifindex);
    let lasting = view.addresses().filter(|address| !address.is_virtual);
    let own = lasting.filter_map(|address| match address.local {
        IpAddr::V4(v4) if !v4.is_loopback() => Some((Some(address.ifindex) == loopback, v4)),
        _ => None,
    });
    bgp.router_id.or_else(|| own.max().and_then(|(_, address)| RouterId::try_from(address).ok()))
}

/// The link that a neighbor is on, where the configuration names it.
pub fn interface_of(neighbor: &Neighbor) -> Option<&IfName> {
    match &neighbor.id {
        NeighborId::Interface(interface) => Some(interface),
        NeighborId::Address(_) => neighbor.settings.interface.as_ref(),
    }
}

/// The system's name, which a router without `hostname` goes by, as in FRR.
pub fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().split('.').next().unwrap_or_default().to_owned();
    (!name.is_empty() && name != "(none)").then_some(name)
}

/// The tunnel that a neighbor is reached through, if there is one: that of its `interface`, or the one whose subnet it
/// is on.
pub fn tunnel_of(config: &Config, neighbor: &Neighbor) -> Option<IfName> {
    let by_name = |name: &IfName| config.tunnels.keys().find(|tunnel| tunnel.as_str() == name.as_str());
    let on_subnet = || {
        config.tunnels.iter().find_map(|(name, tunnel)| {
            let on = |address: &model::InterfaceAddress| {
                Prefix::new(address.address(), address.bits())
                    .is_ok_and(|subnet| neighbor.id.address().is_some_and(|address| subnet.contains(address)))
            };
            tunnel.addresses.iter().any(on).then_some(name)
        })
    };
    interface_of(neighbor).and_then(by_name).or_else(on_subnet).cloned().map(IfName::from)
}

/// How far away a neighbor's BFD looks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BfdReach {
    /// On its link (RFC 5881).
    Link,
    /// Several hops away; packets with a lower TTL came from further (RFC 5883).
    Multihop {
        /// Least TTL.
        minimum_ttl: u8,
    },
}

/// How far away BFD looks for a neighbor: where nothing connects us with it, or it is said to be several hops away, beyond
/// the link. `connected` says whether it is on a link of ours.
pub fn bfd_reach(bgp: &Bgp, neighbor: &Neighbor, connected: bool) -> BfdReach {
    let hops = match (neighbor.settings.ebgp_multihop, Ases::of(bgp, neighbor).kind) {
        (_, PeerKind::Internal) if !connected => Some(u8::MAX),
        (Some(hops), PeerKind::External | PeerKind::Confederation) if hops > 1 => Some(hops),
        _ => None,
    };
    hops.map_or(BfdReach::Link, |hops| {
        // One router less than hops stands between.
        BfdReach::Multihop { minimum_ttl: u8::MAX - hops.saturating_sub(1) }
    })
}

/// Timing of a neighbor's BFD session and whether it is held down; `None` where it has none. What `bfd` / `peer` says of the
/// neighbor's address goes before the neighbor's profile.
pub fn bfd(config: &Config, neighbor: &Neighbor, reach: BfdReach) -> Option<(bfd::Config, bool)> {
    let used = neighbor.settings.bfd.as_ref()?;
    let said = neighbor.id.address().and_then(|address| {
        let multihop = reach != BfdReach::Link;
        config.bfd_peers.iter().find(|(id, _)| (id.address, id.multihop) == (address, multihop))
    });
    let said = said.map(|(_, peer)| peer.clone()).unwrap_or_default();
    let (timing, shutdown) = timing(said.timing(&config.bfd_profiles, used.profile.as_ref()), config.frr_defaults);
    Some((timing, shutdown || neighbor.settings.shutdown.as_ref().is_some_and(model::Shutdown::is_down)))
}

/// How often FRR's BFD says that it reflects Echo packets where nothing is configured.
const FRR_ECHO: Duration = Duration::from_millis(50);

/// As a session takes it, and whether it is held down.
pub fn timing(profile: BfdProfile, frr_defaults: bool) -> (bfd::Config, bool) {
    let BfdProfile {
        transmit_interval,
        receive_interval,
        detect_multiplier,
        passive,
        shutdown,
        echo_receive_interval,
        echo_mode,
        echo_transmit_interval,
        adapt_up_to,
        minimum_ttl: _,
    } = profile;
    let unsaid = if frr_defaults { FRR_ECHO } else { Duration::ZERO };
    let timing = bfd::Config {
        desired_min_tx: transmit_interval,
        required_min_rx: receive_interval,
        detect_multiplier,
        passive,
        required_min_echo_rx: echo_receive_interval.unwrap_or(unsaid),
        desired_min_echo_tx: if echo_mode { echo_transmit_interval } else { Duration::ZERO },
        adapt_up_to: adapt_up_to.unwrap_or_default(),
    };
    (timing, shutdown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Config {
        config::parse(text).unwrap_or_else(|errors| panic!("{}", errors.render("test", text))).config
    }

    const FILE: &str = "\
hostname edge1
wan isp1
 interface eth0
 gateway 198.51.100.1
ipsec identity site
 id edge1.example.net
 pre-shared-key file /etc/holdfast/edge1.psk
ipsec tunnel tun1
 remote 203.0.113.1 id hub1.example.net
 wan isp1
 identity site
 ip address 169.254.1.2/30
bfd
 profile fast
  transmit-interval 10
  receive-interval 10
  detect-multiplier 3
router bgp 65001
 bgp router-id 10.1.0.1
 neighbor 169.254.1.1 remote-as 65000
 neighbor 169.254.1.1 bfd profile fast
 neighbor 192.0.2.9 remote-as 65001
";

    #[test]
    fn tunnels_and_timing_are_found() {
        let config = parsed(FILE);
        let bgp = config.bgp.as_ref().unwrap();
        let neighbor = |address: &str| bgp.resolve(&address.parse::<IpAddr>().unwrap().into()).unwrap();
        assert_eq!(tunnel_of(&config, &neighbor("169.254.1.1")).unwrap().as_str(), "tun1");
        assert_eq!(tunnel_of(&config, &neighbor("192.0.2.9")), None);
        let (timing, held) = bfd(&config, &neighbor("169.254.1.1"), BfdReach::Link).unwrap();
        assert_eq!((timing.desired_min_tx.as_millis(), timing.detect_multiplier, held), (10, 3, false));
        assert_eq!(bfd(&config, &neighbor("192.0.2.9"), BfdReach::Link), None);
        let mut far = neighbor("169.254.1.1");
        far.settings.ebgp_multihop = Some(3);
        assert_eq!(bfd_reach(bgp, &far, false), BfdReach::Multihop { minimum_ttl: 253 });
        far.settings.ebgp_multihop = None;
        assert_eq!(bfd_reach(bgp, &far, true), BfdReach::Link);
    }
}
