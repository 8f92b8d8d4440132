//! From the configuration to what neighbors' tasks and BFD work with. The routing table's part is in
//! [`policy_setup`](crate::policy_setup).

use std::{fs, net::IpAddr, sync::Arc};

use bgp_core::{
    PeerId,
    session::{RemoteAs, SessionConfig},
};
use bgp_wire::{
    FamilySet, Fqdn, GracefulRestart, GracefulRestartFamily, Notification,
    notification::{CeaseCode, ShutdownCommunication},
};
use config::model::{self, BfdProfile, Bgp, Config, Neighbor, NeighborRestart, Password, UpdateSource};
use net_types::{Family, IfName, Prefix, RouterId};
use netwatch::View;
use zeroize::Zeroizing;

use crate::peer::{Hops, PeerSpec, Source, Transport};

/// What a neighbor is told besides its configuration.
#[derive(Clone, Copy, Debug)]
pub struct Speaker {
    /// Our BGP identifier.
    pub router_id: RouterId,
    /// We have just restarted (RFC 4724, R bit).
    pub restarting: bool,
    /// The kernel went on forwarding meanwhile (F bit).
    pub preserved: bool,
}

/// Why a neighbor cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("neighbor {neighbor}: {text}")]
pub struct SetupError {
    neighbor: IpAddr,
    text: String,
}

/// Our BGP identifier: the configured one, or the highest IPv4 address of this machine.
pub fn router_id(bgp: &Bgp, view: &View) -> Option<RouterId> {
    let own = view.addresses().filter_map(|address| match address.local {
        IpAddr::V4(v4) if !v4.is_loopback() => Some(v4),
        _ => None,
    });
    bgp.router_id.or_else(|| own.max().and_then(|address| RouterId::try_from(address).ok()))
}

/// The tunnel that a neighbor is reached through, if there is one: that of its `interface`, or the one whose subnet it
/// is on.
pub fn tunnel_of(config: &Config, neighbor: &Neighbor) -> Option<IfName> {
    let by_name = |name: &IfName| config.tunnels.keys().find(|tunnel| tunnel.as_str() == name.as_str());
    let on_subnet = || {
        config.tunnels.iter().find_map(|(name, tunnel)| {
            let on = |address: &model::InterfaceAddress| {
                Prefix::new(address.address(), address.bits()).is_ok_and(|subnet| subnet.contains(neighbor.address))
            };
            tunnel.addresses.iter().any(on).then_some(name)
        })
    };
    neighbor.interface.as_ref().and_then(by_name).or_else(on_subnet).cloned().map(IfName::from)
}

/// The session's part of a neighbor.
///
/// # Errors
/// When its password cannot be read.
pub fn peer_spec(
    config: &Config,
    bgp: &Bgp,
    neighbor: &Neighbor,
    id: PeerId,
    speaker: &Speaker,
) -> Result<PeerSpec, SetupError> {
    let remote_as = match neighbor.remote_as {
        model::RemoteAs::Asn(asn) => RemoteAs::Exactly(asn),
        model::RemoteAs::Internal => RemoteAs::Internal,
        model::RemoteAs::External => RemoteAs::External,
    };
    let timers = bgp.timers(neighbor);
    let families: FamilySet = Family::ALL.into_iter().filter(|family| bgp.is_active(neighbor, *family)).collect();
    let session = SessionConfig {
        hold_time: timers.hold,
        keepalive: timers.keepalive,
        connect_retry: neighbor.connect_retry.unwrap_or(Neighbor::CONNECT_RETRY),
        passive: neighbor.passive,
        families,
        graceful_restart: graceful_restart(bgp, neighbor, families, speaker),
        name: config.hostname.as_ref().map(|host| Fqdn { host: host.to_string(), domain: String::new() }),
        software_version: Some(concat!("holdfast/", env!("CARGO_PKG_VERSION")).to_owned()),
        ..SessionConfig::new(bgp.asn, speaker.router_id, remote_as)
    };
    let external = bgp.remote_as(neighbor) != Some(bgp.asn);
    let hops = match (neighbor.ttl_security_hops, neighbor.ebgp_multihop) {
        (Some(hops), _) => Hops::Secured(hops),
        (None, Some(hops)) => Hops::Within(hops),
        (None, None) if external => Hops::Direct,
        (None, None) => Hops::Within(255),
    };
    let transport = Transport {
        port: neighbor.port.unwrap_or(179),
        source: neighbor.update_source.as_ref().map(|source| match source {
            UpdateSource::Address(address) => Source::Address(*address),
            UpdateSource::Interface(interface) => Source::Interface(interface.clone()),
        }),
        interface: neighbor.interface.clone(),
        hops,
        password: password(neighbor)?,
    };
    let shutdown = neighbor.shutdown.as_ref().map(|shutdown| {
        let text = shutdown.message.as_deref().map(ShutdownCommunication::new);
        Notification::shutdown(CeaseCode::AdministrativeShutdown, text.as_ref())
    });
    Ok(PeerSpec { id, address: neighbor.address, session, transport, shutdown })
}

fn graceful_restart(bgp: &Bgp, neighbor: &Neighbor, families: FamilySet, speaker: &Speaker) -> Option<GracefulRestart> {
    let (restarter, helper) = match neighbor.graceful_restart {
        Some(NeighborRestart::Full) => (true, true),
        Some(NeighborRestart::HelperOnly) => (false, true),
        Some(NeighborRestart::Disabled) => (false, false),
        None => (bgp.graceful_restart.restarter, bgp.graceful_restart.helper),
    };
    if !restarter && !helper {
        return None;
    }
    let seconds = u16::try_from(bgp.graceful_restart.restart_time.as_secs()).unwrap_or(u16::MAX);
    // Without families it only says that we help others, and mark the end of our routes (RFC 4724 §3).
    let kept = families.iter().filter(|_| restarter);
    Some(GracefulRestart {
        restarting: restarter && speaker.restarting,
        notification: true,
        restart_seconds: if restarter { seconds } else { 0 },
        families: kept.map(|family| GracefulRestartFamily::new(family, speaker.preserved)).collect(),
    })
}

fn password(neighbor: &Neighbor) -> Result<Option<Arc<Zeroizing<Vec<u8>>>>, SetupError> {
    let error = |text| SetupError { neighbor: neighbor.address, text };
    let key = match &neighbor.password {
        None => return Ok(None),
        Some(Password::Inline(secret)) => Zeroizing::new(secret.expose().as_bytes().to_vec()),
        Some(Password::File(path)) => {
            let read = fs::read(path).map_err(|why| error(format!("password file {}: {why}", path.display())))?;
            let read = Zeroizing::new(read);
            Zeroizing::new(read.trim_ascii_end().to_vec())
        }
    };
    // TCP_MD5SIG_MAXKEYLEN of Linux.
    if key.is_empty() || key.len() > 80 {
        return Err(error(format!("the password has {} octets, expected 1 to 80", key.len())));
    }
    Ok(Some(Arc::new(key)))
}

/// Timing of a neighbor's BFD session and whether it is held down; `None` where it has none.
pub fn bfd(config: &Config, neighbor: &Neighbor) -> Option<(bfd::Config, bool)> {
    let used = neighbor.bfd.as_ref()?;
    let profile = used.profile.as_ref().and_then(|name| config.bfd_profiles.get(name)).copied();
    let BfdProfile { transmit_interval, receive_interval, detect_multiplier, passive, shutdown } =
        profile.unwrap_or_default();
    let timing = bfd::Config {
        desired_min_tx: transmit_interval,
        required_min_rx: receive_interval,
        detect_multiplier,
        passive,
    };
    Some((timing, shutdown || neighbor.shutdown.is_some()))
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
 neighbor 169.254.1.1 timers 3 9
 neighbor 192.0.2.9 remote-as 65001
 neighbor 192.0.2.9 graceful-restart-disable
";

    #[test]
    fn a_neighbor_gets_what_its_lines_say() {
        let config = parsed(FILE);
        let bgp = config.bgp.as_ref().unwrap();
        let speaker = Speaker { router_id: bgp.router_id.unwrap(), restarting: true, preserved: true };
        let spec = |address: &str| {
            let neighbor = &bgp.neighbors[&address.parse::<IpAddr>().unwrap()];
            (peer_spec(&config, bgp, neighbor, PeerId(1), &speaker).unwrap(), neighbor)
        };
        let (tunnelled, neighbor) = spec("169.254.1.1");
        assert_eq!(tunnelled.session.hold_time.as_secs(), 9);
        assert_eq!(tunnelled.transport.hops, Hops::Direct);
        let restart = tunnelled.session.graceful_restart.unwrap();
        assert!(restart.restarting && restart.families[0].forwarding_preserved);
        assert_eq!(tunnel_of(&config, neighbor).unwrap().as_str(), "tun1");
        let (timing, held) = bfd(&config, neighbor).unwrap();
        assert_eq!((timing.desired_min_tx.as_millis(), timing.detect_multiplier, held), (10, 3, false));

        let (internal, neighbor) = spec("192.0.2.9");
        assert_eq!(internal.transport.hops, Hops::Within(255));
        assert_eq!(internal.session.graceful_restart, None);
        assert_eq!(tunnel_of(&config, neighbor), None);
        assert_eq!(bfd(&config, neighbor), None);
    }
}
