//! From the configuration to what the IKE engine is told.
//!
//! All or nothing: with one file unreadable or one name unknown nothing is given, and all that is wrong is said at
//! once. What did not change compares equal, so that the engine leaves it alone at a reload.

use std::{collections::BTreeMap, fmt, time::Duration};

use config::model::{self, Config, Name};
use ike_core::{ChildMode, Childless, ConnectionConfig, Doubt, Dpd, Encapsulation, Lifetime, Remote, Retry, Role};
use ike_crypto::{CertificateChain, Identity, PeerCredential};
use ike_wire::TrafficSelector;
use net_types::{Prefix, TunnelName};

use crate::{
    credentials::{self, LoadError, Loaded},
    suites,
    trust::{CertificateRole, Held, Material},
};

/// Protocol number of GRE (RFC 2784 §4).
const GRE: u8 = 47;

/// Everything that is wrong with the IPsec part of a configuration, a line each.
#[derive(Debug)]
pub struct SetupErrors(Vec<SetupError>);

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An identity.
    #[error("ipsec identity {name}: {reason}")]
    Identity {
        /// Its name.
        name: Name,
        /// Why.
        #[source]
        reason: LoadError,
    },
    /// A tunnel names something that is not there.
    #[error("ipsec tunnel {tunnel}: there is no {what} \"{name}\"; add it or correct the name")]
    Unknown {
        /// The tunnel.
        tunnel: TunnelName,
        /// What it names.
        what: &'static str,
        /// By this name.
        name: Name,
    },
    /// The peer's identity cannot be read.
    #[error("ipsec tunnel {tunnel}: remote {reason}")]
    RemoteId {
        /// The tunnel.
        tunnel: TunnelName,
        /// Why.
        #[source]
        reason: LoadError,
    },
    /// What it demands of the peer's certificate, or its postquantum preshared key.
    #[error("ipsec tunnel {tunnel}: {reason}")]
    Credential {
        /// The tunnel.
        tunnel: TunnelName,
        /// Why.
        #[source]
        reason: LoadError,
    },
    /// Nobody could be told from anybody.
    #[error("ipsec tunnel {0}: \"remote any\" needs the peer's identity: \"remote any id NAME\"")]
    RemoteIdMissing(TunnelName),
}

impl SetupErrors {
    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &SetupError> {
        self.0.iter()
    }
}

impl fmt::Display for SetupErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(SetupError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for SetupErrors {}

/// What the configuration comes to.
#[derive(Debug)]
pub struct Setup {
    /// A connection for each tunnel.
    pub connections: Vec<ConnectionConfig>,
    /// Certificates to watch and lists to keep.
    pub material: Material,
}

/// Reads the files that the configuration names.
///
/// # Errors
/// All that is wrong.
pub fn setup(config: &Config) -> Result<Setup, SetupErrors> {
    let mut errors = Vec::new();
    let mut identities = BTreeMap::new();
    let mut material = Material::default();
    for (name, identity) in &config.identities {
        let loaded = credentials::load(identity).and_then(|loaded| {
            material.lists.extend(credentials::lists(identity)?);
            Ok(loaded)
        });
        match loaded {
            Ok(loaded) => {
                material.held.extend(held_by_identity(name, &loaded));
                identities.insert(name, loaded);
            }
            Err(reason) => errors.push(SetupError::Identity { name: name.clone(), reason }),
        }
    }
    let mut connections = Vec::new();
    for (name, tunnel) in &config.tunnels {
        match connection(config, &identities, name, tunnel) {
            Ok(Some(connection)) => {
                if !tunnel.demands.authorities.is_empty() {
                    let holder = format!("ipsec tunnel {name}");
                    material.held.extend(authorities(&holder, &connection.remote_credential));
                }
                connections.push(connection);
            }
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(Setup { connections, material }) } else { Err(SetupErrors(errors)) }
}

fn held_by_identity(name: &Name, loaded: &Loaded) -> Vec<Held> {
    let holder = format!("ipsec identity {name}");
    let chain = loaded.local.chain().map(CertificateChain::all).unwrap_or_default();
    let ours = chain.into_iter().enumerate().map(|(at, names)| {
        let role = if at == 0 { CertificateRole::Own } else { CertificateRole::Intermediate };
        Held { holder: holder.clone(), role, names }
    });
    ours.chain(authorities(&holder, &loaded.peer)).collect()
}

fn authorities(holder: &str, credential: &PeerCredential) -> Vec<Held> {
    let anchors = credential.policy().map(|policy| policy.anchors.all().to_vec()).unwrap_or_default();
    let held = |names| Held { holder: holder.to_owned(), role: CertificateRole::Authority, names };
    anchors.into_iter().map(held).collect()
}

/// `None` when the identity could not be loaded, which is reported once and not for each tunnel that uses it.
fn connection(
    config: &Config,
    identities: &BTreeMap<&Name, Loaded>,
    name: &TunnelName,
    tunnel: &model::Tunnel,
) -> Result<Option<ConnectionConfig>, SetupError> {
    let unknown = |what, missing: &Name| SetupError::Unknown { tunnel: name.clone(), what, name: missing.clone() };
    let proposal = match &tunnel.proposal {
        None => model::Proposal::default(),
        Some(proposal) => config.proposals.get(proposal).cloned().ok_or_else(|| unknown("ipsec proposal", proposal))?,
    };
    if !config.identities.contains_key(&tunnel.identity) {
        return Err(unknown("ipsec identity", &tunnel.identity));
    }
    let remote_id = remote_id(name, &tunnel.remote)?;
    let Some(identity) = identities.get(&tunnel.identity) else { return Ok(None) };
    let remote = match tunnel.remote.address {
        model::RemoteAddress::Address(address) => Remote::Address(address),
        model::RemoteAddress::Any => Remote::Any,
    };
    let role = match (&tunnel.initiate, remote) {
        (model::Initiate::OnStart, Remote::Address(_)) => Role::Initiate,
        (model::Initiate::Standby(_), Remote::Address(_)) => Role::Standby,
        (model::Initiate::Never, _) | (_, Remote::Any) => Role::RespondOnly,
    };
    Ok(Some(ConnectionConfig {
        tunnel: name.clone(),
        wan: tunnel.wan.clone(),
        backup_wans: tunnel.backup_wans.clone(),
        childless: match tunnel.childless {
            model::Childless::Allow => Childless::Allow,
            model::Childless::Prefer => Childless::Prefer,
            model::Childless::Force => Childless::Force,
            model::Childless::Never => Childless::Never,
        },
        mobike: tunnel.mobike,
        reauth: tunnel.reauth,
        local_address: tunnel.local,
        remote,
        local_id: identity.id.clone(),
        local_credential: identity.local.clone(),
        remote_id,
        remote_credential: credentials::of_tunnel(identity, &tunnel.demands)
            .map_err(|reason| SetupError::Credential { tunnel: name.clone(), reason })?,
        ppk: credentials::ppk(tunnel.ppk.as_ref())
            .map_err(|reason| SetupError::Credential { tunnel: name.clone(), reason })?,
        ike_proposals: proposal.ike.iter().map(suites::ike_proposal).collect(),
        esp_proposals: proposal.esp.iter().map(suites::esp_proposal).collect(),
        mode: match tunnel.packets.gre {
            None => ChildMode::Tunnel,
            Some(_) => ChildMode::Transport { protocol: GRE },
        },
        local_ts: selectors(&tunnel.local_selectors),
        remote_ts: selectors(&tunnel.remote_selectors),
        role,
        encapsulation: match tunnel.packets.encapsulation() {
            model::Encapsulation::Always => Encapsulation::Always,
            model::Encapsulation::IfNat => Encapsulation::IfNat,
        },
        dpd: dpd(tunnel.dpd),
        ike_lifetime: Lifetime::of(tunnel.ike_lifetime),
        child_lifetime: Lifetime::of(tunnel.child_lifetime.time),
        retry: Retry::default(),
        shutdown: tunnel.shutdown,
    }))
}

fn remote_id(name: &TunnelName, remote: &model::Remote) -> Result<Identity, SetupError> {
    match (&remote.id, remote.address) {
        (Some(id), _) => {
            let refused = |reason| SetupError::RemoteId { tunnel: name.clone(), reason };
            credentials::identity_of(id).map_err(refused)
        }
        (None, model::RemoteAddress::Address(address)) => Ok(Identity::Address(address)),
        (None, model::RemoteAddress::Any) => Err(SetupError::RemoteIdMissing(name.clone())),
    }
}

/// An interval of zero never asks: to the engine that is one longer than any IKE SA lives.
fn dpd(configured: model::Dpd) -> Dpd {
    const NEVER: Duration = Duration::from_secs(365 * 86_400);
    let interval = if configured.interval.is_zero() { NEVER } else { configured.interval };
    let doubt = if configured.on_demand { Doubt::NoAnswer } else { Doubt::Silence };
    Dpd { doubt, interval, timeout: configured.timeout }
}

/// Without any: everything, in both families, and routing decides.
fn selectors(prefixes: &[Prefix]) -> Vec<TrafficSelector> {
    let everything = [Prefix::DEFAULT_V4, Prefix::DEFAULT_V6];
    let prefixes = if prefixes.is_empty() { &everything } else { prefixes };
    prefixes.iter().map(TrafficSelector::from_prefix).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;

    fn connections(config: &Config) -> Vec<ConnectionConfig> {
        setup(config).unwrap().connections
    }

    /// An identity `site` with a pre-shared key, and a tunnel `tun1` that uses it.
    fn config(directory: &Path) -> Config {
        let file = directory.join("psk");
        fs::write(&file, "correct horse\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let credential = model::Credential::PreSharedKey { file };
        let identity = model::Identity { id: "edge1.example.net".parse().unwrap(), credential };
        let tunnel = model::Tunnel {
            description: None,
            remote: model::Remote {
                address: model::RemoteAddress::Address("203.0.113.1".parse().unwrap()),
                id: Some("hub1.example.net".parse().unwrap()),
            },
            local: None,
            wan: "isp1".parse().unwrap(),
            backup_wans: vec![],
            childless: model::Childless::Allow,
            mobike: true,
            reauth: None,
            identity: "site".parse().unwrap(),
            proposal: None,
            addresses: vec![],
            local_selectors: vec![],
            remote_selectors: vec!["10.0.0.0/8".parse().unwrap()],
            reverse_route: None,
            ppk: None,
            dpd: model::Dpd::default(),
            probe: None,
            ike_lifetime: model::Tunnel::IKE_LIFETIME,
            child_lifetime: model::ChildLifetime::default(),
            initiate: model::Initiate::OnStart,
            mtu_octets: None,
            packets: model::Packets::default(),
            demands: model::PeerDemands::default(),
            datapath: None,
            hardware_offload: false,
            shutdown: false,
        };
        let mut config = Config::default();
        config.identities.insert("site".parse().unwrap(), identity);
        config.tunnels.insert("tun1".parse().unwrap(), tunnel);
        config
    }

    fn tunnel(config: &mut Config) -> &mut model::Tunnel {
        config.tunnels.values_mut().next().unwrap()
    }

    #[test]
    fn a_tunnel_becomes_a_connection_and_the_same_files_an_equal_one() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let found = connections(&config);
        let [connection] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(connection.role, Role::Initiate);
        assert_eq!(connection.remote_id, Identity::fqdn("hub1.example.net"));
        assert_eq!(connection.ike_proposals[0].to_string(), "aes256gcm16-prfsha384-x25519");
        assert_eq!(connection.esp_proposals[0].to_string(), "aes256gcm16");
        let text = |selectors: &[TrafficSelector]| selectors.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&connection.local_ts), ["0.0.0.0/0", "::/0"]);
        assert_eq!(text(&connection.remote_ts), ["10.0.0.0/8"]);
        assert_eq!(connections(&config), found);
        fs::write(directory.path().join("psk"), "another\n").unwrap();
        assert_ne!(connections(&config), found, "another key is another connection");
    }

    #[test]
    fn a_postquantum_key_is_a_secret_file_as_others_are() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path());
        let file = directory.path().join("ppk");
        fs::write(&file, "quantum\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        tunnel(&mut config).ppk = Some(model::Ppk { id: "site7".parse().unwrap(), file: file.clone(), required: true });
        let key = ike_crypto::SecretBytes::from(b"quantum".to_vec());
        assert_eq!(connections(&config)[0].ppk, Some(ike_crypto::Ppk::new("site7", key, true).unwrap()));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let text = setup(&config).unwrap_err().to_string();
        assert!(text.starts_with("ipsec tunnel tun1: ppk file ") && text.ends_with("run chmod 600 on it"), "{text}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "\n").unwrap();
        let text = setup(&config).unwrap_err().to_string();
        assert_eq!(text, "ipsec tunnel tun1: the postquantum preshared key is empty");
    }

    #[test]
    fn who_does_not_know_the_peers_address_waits_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path());
        tunnel(&mut config).remote.address = model::RemoteAddress::Any;
        assert_eq!(connections(&config)[0].role, Role::RespondOnly);
        tunnel(&mut config).remote.id = None;
        assert_eq!(
            setup(&config).unwrap_err().to_string(),
            "ipsec tunnel tun1: \"remote any\" needs the peer's identity: \"remote any id NAME\""
        );
    }

    #[test]
    fn a_peer_without_a_name_is_its_address() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path());
        tunnel(&mut config).remote.id = None;
        let expected = Identity::Address("203.0.113.1".parse().unwrap());
        assert_eq!(connections(&config)[0].remote_id, expected);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_and_nothing_twice() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path());
        fs::remove_file(directory.path().join("psk")).unwrap();
        let first = tunnel(&mut config).clone();
        let second = model::Tunnel { proposal: Some("strong".parse().unwrap()), ..first.clone() };
        config.tunnels.insert("tun2".parse().unwrap(), second);
        config.tunnels.insert("tun3".parse().unwrap(), model::Tunnel { identity: "other".parse().unwrap(), ..first });
        let text = setup(&config).unwrap_err().to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("ipsec identity site: pre-shared-key file "), "{text}");
        assert_eq!(lines[1], "ipsec tunnel tun2: there is no ipsec proposal \"strong\"; add it or correct the name");
        assert_eq!(lines[2], "ipsec tunnel tun3: there is no ipsec identity \"other\"; add it or correct the name");
    }

    #[test]
    fn liveness_checks_that_are_off_never_come() {
        assert!(
            dpd(model::Dpd { on_demand: false, interval: Duration::ZERO, timeout: Duration::ZERO }).interval
                > model::Tunnel::IKE_LIFETIME
        );
        assert_eq!(dpd(model::Dpd::default()), Dpd::default());
    }
}
