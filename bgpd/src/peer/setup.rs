//! From the configuration to what a neighbor's task has to know.

use std::{io, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use bgp_core::{
    PeerId,
    session::{LocalRole, Negotiation, RemoteAs, SessionConfig},
};
use bgp_wire::{
    FamilySet, Fqdn, GracefulRestart, GracefulRestartFamily, Notification, PeerKind,
    notification::{CeaseCode, ShutdownCommunication},
};
use config::model as bgp;
use net_types::{Asn, Family, RouterId};
use zeroize::Zeroizing;

use super::{BfdRules, Filters, Hops, Password, PeerSpec, Source, Transport, role};

/// The shortest hold time that there may be (RFC 4271 §4.2).
const LEAST_HOLD_TIME: Duration = Duration::from_secs(3);

/// What a neighbor is told of our software.
const SOFTWARE: &str = concat!("Holdfast/", env!("CARGO_PKG_VERSION"));

/// What a neighbor is told about ourselves that is not in `router bgp`.
#[derive(Clone, Debug)]
pub struct SelfState {
    /// Our BGP identifier, configured or chosen.
    pub router_id: RouterId,
    /// `hostname`
    pub hostname: Option<String>,
    /// The daemon has just started, and has not heard all neighbors yet (R bit, RFC 4724 §3).
    pub restarting: bool,
    /// Routes of an earlier run were found in the kernel and adopted (F bit).
    pub forwarding_preserved: bool,
}

/// Why a neighbor cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Its password cannot be read.
    #[error("neighbor {neighbor}: cannot read the password file {path}: {error}")]
    PasswordFile {
        /// Whose.
        neighbor: IpAddr,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Its password does not fit a key of TCP-MD5 or TCP-AO.
    #[error(
        "neighbor {neighbor}: the password has {octets} octets, expected 1 to 80 (as Linux has TCP-MD5 and TCP-AO)"
    )]
    PasswordLength {
        /// Whose.
        neighbor: IpAddr,
        /// What it has.
        octets: usize,
    },
    /// TCP-AO is wanted where there is none.
    #[error(
        "neighbor {0}: \"ao\" needs TCP-AO in the kernel, which is not there: run Linux 6.7 or later built with \
         CONFIG_TCP_AO, or use \"password\""
    )]
    NoTcpAo(IpAddr),
    /// It is to have keys from a chain that has none.
    #[error("neighbor {neighbor}: key chain {chain} has no key: add \"key 1\" with a \"key-string\" to it")]
    EmptyKeyChain {
        /// Whose.
        neighbor: IpAddr,
        /// Which.
        chain: bgp::Name,
    },
    /// A link-local address without a link.
    #[error("neighbor {0} is a link-local address: add \"neighbor {0} interface INTERFACE\"")]
    NoInterface(IpAddr),
}

/// What the task of `neighbor` at `address` has to know. Reads its password file.
///
/// # Errors
/// When the neighbor cannot be reached with what is configured.
pub fn spec(
    speaker: &bgp::Bgp,
    neighbor: &bgp::Neighbor,
    address: IpAddr,
    id: PeerId,
    ourselves: &SelfState,
) -> Result<PeerSpec, SetupError> {
    let settings = &neighbor.settings;
    let interface = crate::setup::interface_of(neighbor).cloned();
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) && interface.is_none() {
        return Err(SetupError::NoInterface(address));
    }
    let session = session(speaker, neighbor, ourselves);
    let hops = hops(settings, session.kind());
    let source = settings.update_source.as_ref().map(|source| match source {
        bgp::UpdateSource::Address(address) => Source::Address(*address),
        bgp::UpdateSource::Interface(interface) => Source::Interface(interface.clone()),
    });
    let transport = Transport {
        port: settings.port.unwrap_or(Transport::default().port),
        source,
        interface,
        tunnel: None, // nor are the tunnels
        hops,
        password: password(address, settings)?,
        ao: None, // the keys are not in `router bgp`: whoever has all of the configuration adds them
        max_segment_octets: settings.session.tcp_mss,
    };
    let shutdown = match &settings.shutdown {
        None | Some(bgp::Shutdown::No) => None,
        Some(bgp::Shutdown::Down { message }) => {
            let text = message.as_deref().map(ShutdownCommunication::new);
            Some(Notification::shutdown(CeaseCode::AdministrativeShutdown, text.as_ref()))
        }
    };
    let link = match &neighbor.id {
        bgp::NeighborId::Interface(link) => Some(link.clone()),
        bgp::NeighborId::Address(_) => None,
    };
    let bfd = settings.bfd.as_ref().map_or_else(BfdRules::default, |used| BfdRules {
        strict: used.strict,
        check_control_plane: used.check_control_plane,
    });
    // The lists that filters are made of are not in `router bgp` either.
    let filters = Filters::new();
    Ok(PeerSpec { id, address, link, bfd, session, transport, shutdown, filters })
}

/// Who is in which AS, as the two see each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ases {
    /// Ours, as the neighbor sees us.
    pub local: Asn,
    /// Ours, as paths towards the neighbor have it behind that.
    pub own: Asn,
    /// The other members of our confederation.
    pub members: Vec<Asn>,
    /// The neighbor's.
    pub remote: RemoteAs,
    /// Whether the neighbor is in our AS or confederation.
    pub kind: PeerKind,
}

impl Ases {
    /// As configured. Outside of a confederation its identifier stands for our member AS (RFC 5065 §4).
    pub fn of(speaker: &bgp::Bgp, neighbor: &bgp::Neighbor) -> Self {
        let remote = match neighbor.remote_as {
            bgp::RemoteAs::Asn(asn) => RemoteAs::Exactly(asn),
            bgp::RemoteAs::Internal => RemoteAs::Internal,
            bgp::RemoteAs::External => RemoteAs::External,
        };
        let confederation = speaker.confederation.identifier;
        let members: Vec<Asn> = match confederation {
            Some(_) => speaker.confederation.members.iter().copied().collect(),
            None => Vec::new(),
        };
        let alias = neighbor.settings.session.local_as.map(|alias| alias.asn);
        let kind = remote.kind(alias.unwrap_or(speaker.asn), &members);
        let own = confederation.filter(|_| kind == PeerKind::External).unwrap_or(speaker.asn);
        Self { local: alias.unwrap_or(own), own, members, remote, kind }
    }
}

fn session(speaker: &bgp::Bgp, neighbor: &bgp::Neighbor, ourselves: &SelfState) -> SessionConfig {
    let ases = Ases::of(speaker, neighbor);
    let settings = &neighbor.settings.session;
    let hostname = ourselves.hostname.clone().filter(|_| settings.tell_hostname != Some(false));
    // As in FRR, a session without configured addresses carries IPv4 over IPv6 unless it is told not to.
    let by_link = matches!(neighbor.id, bgp::NeighborId::Interface(_));
    let over_ipv6 = settings.extended_next_hop.unwrap_or(by_link);
    let timers = speaker.timers(neighbor);
    let routes = |family: Family| -> bgp::RouteSettings {
        neighbor.settings.families.get(&family).map(|settings| settings.routes.clone()).unwrap_or_default()
    };
    let filtered = |way: fn(&bgp::NeighborFamily) -> bool| -> FamilySet {
        let said = |family: &Family| neighbor.settings.families.get(family).is_some_and(way);
        Family::UNICAST.into_iter().filter(said).collect()
    };
    let families: FamilySet = Family::ALL.into_iter().filter(|f| speaker.is_active(neighbor, *f)).collect();
    SessionConfig {
        hold_time: timers.hold,
        keepalive: timers.keepalive,
        connect_retry: neighbor.settings.connect_retry.unwrap_or(bgp::NeighborSettings::CONNECT_RETRY),
        passive: neighbor.settings.passive == Some(true),
        families,
        long_lived: speaker.long_lived_stale_time,
        graceful_restart: graceful_restart(speaker, neighbor, ourselves, families),
        name: hostname.map(|host| Fqdn { host, domain: String::new() }),
        members: ases.members,
        role: settings.role.map(|local| LocalRole { role: role(local.role), strict: local.strict }),
        negotiation: Negotiation {
            silent: settings.dont_capability_negotiate == Some(true),
            override_families: settings.override_capability == Some(true),
            strict: settings.strict_capability_match == Some(true),
            extended_parameters: settings.extended_optional_parameters == Some(true),
        },
        // As in FRR, several paths for a prefix are taken unless that was turned off, and sent only when asked for.
        add_path_in: families.iter().filter(|family| routes(*family).disable_addpath_rx != Some(true)).collect(),
        add_path_out: families.iter().filter(|family| super::add_path(&routes(*family)).is_some()).collect(),
        filters_out: filtered(super::filters::sends),
        filters_in: filtered(super::filters::receives),
        over_ipv6: if over_ipv6 { FamilySet::from(Family::Ipv4Unicast) } else { FamilySet::EMPTY },
        enforce_first_as: settings.enforce_first_as == Some(true),
        software_version: (settings.tell_software_version == Some(true)).then(|| SOFTWARE.to_owned()),
        minimum_hold_time: speaker.minimum_hold_time.unwrap_or(LEAST_HOLD_TIME),
        ..SessionConfig::new(ases.local, ourselves.router_id, ases.remote)
    }
}

/// A helper announces the capability without families: it keeps the neighbor's routes, and promises nothing of its own
/// (RFC 4724 §3).
fn graceful_restart(
    speaker: &bgp::Bgp,
    neighbor: &bgp::Neighbor,
    ourselves: &SelfState,
    families: FamilySet,
) -> Option<GracefulRestart> {
    let settings = speaker.graceful_restart;
    let (restarter, helper) = match neighbor.settings.graceful_restart {
        None => (settings.restarter, settings.helper),
        Some(bgp::NeighborRestart::Full) => (true, true),
        Some(bgp::NeighborRestart::HelperOnly) => (false, true),
        Some(bgp::NeighborRestart::Disabled) => (false, false),
    };
    if !helper {
        return None;
    }
    let family =
        |family| GracefulRestartFamily::new(family, ourselves.forwarding_preserved || settings.preserve_forwarding);
    Some(GracefulRestart {
        restarting: restarter && ourselves.restarting,
        notification: true, // RFC 8538
        restart_seconds: u16::try_from(settings.restart_time.as_secs()).unwrap_or(u16::MAX),
        families: if restarter { families.iter().map(family).collect() } else { Vec::new() },
    })
}

fn hops(settings: &bgp::NeighborSettings, kind: PeerKind) -> Hops {
    match (settings.ttl_security_hops, settings.ebgp_multihop, kind) {
        (Some(hops), _, _) => Hops::Secured(hops),
        (None, Some(hops), PeerKind::External | PeerKind::Confederation) => Hops::Within(hops),
        (None, None, PeerKind::External | PeerKind::Confederation) => Hops::Direct,
        (None, _, PeerKind::Internal) => Hops::Within(255),
    }
}

/// The key of TCP-MD5 for a neighbor at `address`.
///
/// # Errors
/// When it cannot be read, or cannot be one.
pub fn password(neighbor: IpAddr, settings: &bgp::NeighborSettings) -> Result<Option<Password>, SetupError> {
    settings.password.as_ref().map(|password| secret(neighbor, password)).transpose()
}

/// The octets of a password or a key.
pub(super) fn secret(neighbor: IpAddr, password: &bgp::Password) -> Result<Password, SetupError> {
    let key = match password {
        bgp::Password::Inline(secret) => Zeroizing::new(secret.expose().as_bytes().to_vec()),
        bgp::Password::File(path) => {
            let content = std::fs::read(path).map_err(|error| SetupError::PasswordFile {
                neighbor,
                path: path.clone(),
                error,
            })?;
            let content = Zeroizing::new(content);
            // Editors end a file with a line break, which nobody means to be part of the password.
            Zeroizing::new(content.trim_ascii_end().to_vec())
        }
    };
    match key.len() {
        1..=80 => Ok(Arc::new(key)),
        octets => Err(SetupError::PasswordLength { neighbor, octets }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use net_types::Asn;

    use super::*;

    fn ourselves() -> SelfState {
        SelfState {
            router_id: "10.1.0.1".parse().unwrap(),
            hostname: Some("edge1".to_owned()),
            restarting: true,
            forwarding_preserved: true,
        }
    }

    fn neighbor(address: &str, asn: u32) -> bgp::Neighbor {
        let address: IpAddr = address.parse().unwrap();
        bgp::Neighbor::new(address, bgp::RemoteAs::Asn(Asn::literal(asn)))
    }

    /// 192.0.2.1 in AS `asn`, with these settings.
    fn with(asn: u32, settings: bgp::NeighborSettings) -> bgp::Neighbor {
        bgp::Neighbor { settings, ..neighbor("192.0.2.1", asn) }
    }

    fn built(neighbor: &bgp::Neighbor) -> PeerSpec {
        spec(&bgp::Bgp::new(Asn::literal(65001)), neighbor, neighbor.id.address().unwrap(), PeerId(1), &ourselves())
            .unwrap()
    }

    #[test]
    fn the_distance_follows_the_kind_of_neighbor() {
        assert_eq!(built(&neighbor("192.0.2.1", 65000)).transport.hops, Hops::Direct);
        assert_eq!(built(&neighbor("192.0.2.1", 65001)).transport.hops, Hops::Within(255));
        let multihop = with(65000, bgp::NeighborSettings { ebgp_multihop: Some(4), ..Default::default() });
        assert_eq!(built(&multihop).transport.hops, Hops::Within(4));
        let secured = with(65001, bgp::NeighborSettings { ttl_security_hops: Some(1), ..Default::default() });
        assert_eq!(built(&secured).transport.hops, Hops::Secured(1));
    }

    #[test]
    fn a_helper_promises_nothing() {
        let restart = |choice| {
            let settings = bgp::NeighborSettings { graceful_restart: choice, ..Default::default() };
            built(&with(65000, settings)).session.graceful_restart
        };
        let full = restart(None).unwrap();
        assert!(full.restarting && full.families[0].forwarding_preserved && full.restart_seconds == 120);
        let helper = restart(Some(bgp::NeighborRestart::HelperOnly)).unwrap();
        assert!(!helper.restarting && helper.families.is_empty());
        assert_eq!(restart(Some(bgp::NeighborRestart::Disabled)), None);
    }

    #[test]
    fn a_password_file_is_read_without_its_line_break() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"correct horse\n").unwrap();
        let path = file.path().to_owned();
        let secured = |path| {
            let password = Some(bgp::Password::File(path));
            with(65000, bgp::NeighborSettings { password, ..Default::default() })
        };
        let spec_of = |neighbor: &bgp::Neighbor| {
            spec(&bgp::Bgp::new(Asn::literal(65001)), neighbor, neighbor.id.address().unwrap(), PeerId(1), &ourselves())
        };
        let built = spec_of(&secured(path)).unwrap();
        assert_eq!(built.transport.password.as_ref().unwrap().as_slice(), b"correct horse");
        assert!(!format!("{built:?}").contains("horse"), "secrets are not shown");
        assert!(matches!(spec_of(&secured("/nonexistent".into())), Err(SetupError::PasswordFile { .. })));
        let empty = tempfile::NamedTempFile::new().unwrap();
        let refused = spec_of(&secured(empty.path().to_owned()));
        assert!(matches!(refused, Err(SetupError::PasswordLength { octets: 0, .. })));
    }

    #[test]
    fn a_link_local_neighbor_needs_its_link() {
        let lost = neighbor("fe80::1", 65000);
        let refused =
            spec(&bgp::Bgp::new(Asn::literal(65001)), &lost, lost.id.address().unwrap(), PeerId(1), &ourselves())
                .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "neighbor fe80::1 is a link-local address: add \"neighbor fe80::1 interface INTERFACE\""
        );
        let settings = bgp::NeighborSettings { interface: Some("eth0".parse().unwrap()), ..Default::default() };
        assert!(built(&bgp::Neighbor { settings, ..lost }).transport.interface.is_some());
    }

    #[test]
    fn a_shutdown_takes_its_words_along() {
        let shutdown = Some(bgp::Shutdown::Down { message: Some("fibre work".to_owned()) });
        let built = built(&with(65000, bgp::NeighborSettings { shutdown, ..Default::default() }));
        let words = built.shutdown.and_then(|notification| notification.communication()).unwrap();
        assert_eq!(words.as_str(), "fibre work");
    }
}
