//! What the engine is told about itself and its tunnels.
//!
//! Checked types only: texts of the configuration language are read elsewhere.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ike_crypto::{EspProposal, Identity, IkeProposal, LocalCredential, PeerCredential, Ppk};
use ike_wire::TrafficSelector;
use net_types::{TunnelName, WanName};

use crate::event::DownCause;

/// How the engine as a whole behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// From this many half-open IKE SAs on, callers are asked for a cookie first (RFC 7296 §2.6).
    pub cookies_from: usize,
    /// Callers beyond this many half-open IKE SAs are not answered.
    pub half_open_max: usize,
    /// How long a caller may take from IKE_SA_INIT to IKE_AUTH.
    pub half_open_for: Duration,
    /// Longest IKE message, in octets without IP and UDP headers, before it is sent in fragments (RFC 7383 §2.5.1).
    pub fragment_octets: usize,
    /// UDP port of IKE: 500.
    pub ike_port: u16,
    /// UDP port of IKE and ESP with NAT traversal: 4500.
    pub natt_port: u16,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            cookies_from: 32,
            half_open_max: 1024,
            half_open_for: Duration::from_secs(15),
            fragment_octets: 1220, // fits the IPv6 minimum MTU of 1280 less IPv6, UDP and the non-ESP marker
            ike_port: 500,
            natt_port: 4500,
        }
    }
}

/// One tunnel: who the peer is, how to reach it, what to agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// The tunnel, which is also its interface.
    pub tunnel: TunnelName,
    /// The WAN link that everything of this tunnel goes over.
    pub wan: WanName,
    /// Links to go over while that one is down or gives no answer, best first.
    pub backup_wans: Vec<WanName>,
    /// Whether an IKE SA may come without a child SA (RFC 6023).
    pub childless: Childless,
    /// Whether an SA may change its addresses, and follow a peer that does (RFC 4555).
    pub mobike: bool,
    /// Our address, which the WAN may have at times only: routers share it. The tunnel is there while the WAN has it; when it
    /// is gone the SAs end without a word to the peer, who has another router there by then. By default the WAN's first of
    /// the peer's family.
    pub local_address: Option<IpAddr>,
    /// The peer's address.
    pub remote: Remote,
    /// As whom we authenticate.
    pub local_id: Identity,
    /// By what we authenticate.
    pub local_credential: Arc<LocalCredential>,
    /// Whom we accept.
    pub remote_id: Identity,
    /// By what the peer authenticates.
    pub remote_credential: Arc<PeerCredential>,
    /// A postquantum preshared key (RFC 8784).
    pub ppk: Option<Ppk>,
    /// Proposals for the IKE SA, best first.
    pub ike_proposals: Vec<IkeProposal>,
    /// Proposals for child SAs, best first.
    pub esp_proposals: Vec<EspProposal>,
    /// What of a packet child SAs wrap.
    pub mode: ChildMode,
    /// What may be on our side of the tunnel; in transport mode the addresses in use say that.
    pub local_ts: Vec<TrafficSelector>,
    /// What may be on the peer's side.
    pub remote_ts: Vec<TrafficSelector>,
    /// Who calls.
    pub role: Role,
    /// Whether ESP goes in UDP.
    pub encapsulation: Encapsulation,
    /// How soon a dead peer is noticed.
    pub dpd: Dpd,
    /// How long the IKE SA lives.
    pub ike_lifetime: Lifetime,
    /// How long a child SA lives.
    pub child_lifetime: Lifetime,
    /// The two sides prove anew who they are at this age of an authentication, by a second IKE SA beside the first
    /// (RFC 7296 §2.8.3). The side that called does it; the other one asks for it (RFC 4478).
    pub reauth: Option<Duration>,
    /// How attempts to establish follow each other.
    pub retry: Retry,
    /// Administratively down: nothing is initiated and the peer is refused.
    pub shutdown: bool,
}

impl ConnectionConfig {
    /// Whether it waits for a word before anything is sent or accepted.
    pub(crate) fn begins_held_down(&self) -> bool {
        self.shutdown || self.role == Role::Standby
    }

    /// Why it is down while it is held down.
    pub(crate) fn held_down(&self) -> DownCause {
        if self.role == Role::Standby && !self.shutdown { DownCause::StandingBy } else { DownCause::AdminDown }
    }

    /// Why it is not up before anything has happened, if it is not held down.
    pub(crate) fn first_cause(&self) -> DownCause {
        match self.role {
            Role::Initiate | Role::Standby => DownCause::Starting,
            Role::RespondOnly => DownCause::WaitingForPeer,
        }
    }

    /// Whether its SAs may change their addresses. RFC 4555 §1.2 is for tunnel mode alone.
    pub(crate) fn may_move(&self) -> bool {
        self.mobike && self.mode == ChildMode::Tunnel
    }

    /// The links that it may use, best first.
    pub fn wans(&self) -> impl Iterator<Item = &WanName> {
        std::iter::once(&self.wan).chain(&self.backup_wans)
    }

    /// How a call is repeated. An address that routers share has just moved: whoever is on the link may send the first answer
    /// to the router that had it.
    pub(crate) fn call_policy(&self) -> Retransmission {
        const ADDRESS_KNOWN_AFTER: Duration = Duration::from_millis(50);
        let policy = Retransmission::within(self.retry.attempt);
        match self.local_address {
            Some(_) => Retransmission { first: policy.first.min(ADDRESS_KNOWN_AFTER), ..policy },
            None => policy,
        }
    }

    /// Whether it may use this link.
    pub fn uses(&self, wan: &WanName) -> bool {
        self.wans().any(|used| used == wan)
    }

    /// Whether SAs made under `other` can live on under this configuration. Credentials may be exchanged meanwhile: who
    /// was accepted is looked at again where trust has changed.
    pub(crate) fn negotiates_like(&self, other: &Self) -> bool {
        // Everything but what only says when and how persistently we act, and by what both sides prove who they are.
        let of = |config: &Self| Self {
            role: Role::Initiate,
            backup_wans: Vec::new(),
            reauth: None,
            childless: Childless::Allow,
            dpd: Dpd::default(),
            ike_lifetime: Lifetime::of(Duration::ZERO),
            child_lifetime: Lifetime::of(Duration::ZERO),
            retry: Retry::default(),
            shutdown: false,
            local_credential: self.local_credential.clone(),
            remote_credential: self.remote_credential.clone(),
            ..config.clone()
        };
        of(self) == of(other)
    }
}

/// What of a packet child SAs wrap (RFC 7296 §1.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChildMode {
    /// Whole packets, those that the traffic selectors hold.
    #[default]
    Tunnel,
    /// What follows the IP header of packets between the two outer addresses, of this one protocol.
    Transport {
        /// Its number, 1 to 255 (47 is GRE); 0 would be any.
        protocol: u8,
    },
}

/// The peer's address, as far as it is known before it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// This one.
    Address(IpAddr),
    /// Any; such a tunnel can only respond.
    Any,
}

impl Remote {
    /// Whether the peer may call from `address`.
    pub fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Address(expected) => expected == address,
            Self::Any => true,
        }
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We do, and accept the peer's calls.
    Initiate,
    /// The peer does.
    RespondOnly,
    /// We do, once told to ([`Input::Initiate`](crate::Input::Initiate)) and until told otherwise. The tunnel begins held
    /// down: then the peer is refused when it calls.
    Standby,
}

/// Whether an IKE SA may come without a child SA, each of which is then made in an exchange of its own (RFC 6023).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Childless {
    /// A caller may do so; we do not.
    #[default]
    Allow,
    /// We do so too, with a peer that says that it understands it.
    Prefer,
    /// Both sides do so, or there is no tunnel.
    Force,
    /// Nobody does so.
    Never,
}

impl Childless {
    /// Whether a caller may come without a child SA.
    pub(crate) fn accepts(self) -> bool {
        self != Self::Never
    }

    /// Whether we call without one where the peer understands it.
    pub(crate) fn asks(self) -> bool {
        matches!(self, Self::Prefer | Self::Force)
    }
}

/// Whether ESP goes in UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// Always: NAT detection is made to say that there is a NAT, which every peer understands.
    Always,
    /// Only where there is a NAT.
    IfNat,
}

/// Dead peer detection by traffic (RFC 7296 §2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dpd {
    /// What is doubtful about a silent peer.
    pub doubt: Doubt,
    /// A peer from which nothing came for this long is asked whether it lives, if the silence is doubtful.
    pub interval: Duration,
    /// A peer that does not answer anything for this long is dead.
    pub timeout: Duration,
}

/// When the silence of a peer gives reason to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Always, so that a dead peer is noticed before anybody needs it.
    Silence,
    /// When packets were sent and nothing came back; a tunnel at rest is left alone.
    NoAnswer,
}

impl Default for Dpd {
    fn default() -> Self {
        Self { doubt: Doubt::Silence, interval: Duration::from_secs(10), timeout: Duration::from_secs(30) }
    }
}

/// When an SA is replaced and when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// It is rekeyed at this age, less the jitter.
    pub rekey: Duration,
    /// It is closed at this age, whether it could be rekeyed or not.
    pub hard: Duration,
    /// Up to this much is taken off `rekey`, at random, so that not all SAs are rekeyed at once and rarely both ends
    /// rekey the same one.
    pub jitter: Duration,
}

impl Lifetime {
    /// Rekey at `rekey` less up to a tenth, end a tenth later.
    pub fn of(rekey: Duration) -> Self {
        Self { rekey, hard: rekey + rekey / 10, jitter: rekey / 10 }
    }
}

/// How attempts to establish a tunnel follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// One attempt is repeated for this long before a fresh one begins.
    pub attempt: Duration,
    /// Pause after the first failure; it doubles with each further one.
    pub first: Duration,
    /// Longest pause.
    pub ceiling: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempt: Duration::from_secs(15), first: Duration::from_millis(500), ceiling: Duration::from_secs(30) }
    }
}

/// When a request is sent again and when its sender gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmission {
    /// Pause before the first repetition; it doubles with each.
    pub first: Duration,
    /// Longest pause.
    pub ceiling: Duration,
    /// Time from the first transmission to giving up.
    pub give_up: Duration,
}

impl Retransmission {
    /// Some ten repetitions within `give_up`, none more than 3 s apart: a line that loses every fifth packet each way
    /// loses ten in a row once in 10^4 times.
    pub(crate) fn within(give_up: Duration) -> Self {
        let first = (give_up / 16).clamp(Duration::from_millis(10), Duration::from_millis(500));
        let ceiling = (give_up / 9).clamp(first, Duration::from_secs(3).max(first));
        Self { first, ceiling, give_up: give_up.max(first) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ike_crypto::SecretBytes;

    use super::*;

    /// A tunnel over these links, with nothing unusual.
    pub(crate) fn connection(wans: [&str; 2]) -> ConnectionConfig {
        let secret = || SecretBytes::new(b"correct horse".to_vec());
        let mut wans = wans.map(|wan| wan.parse().unwrap()).into_iter();
        ConnectionConfig {
            tunnel: "tun1".parse().unwrap(),
            wan: wans.next().unwrap(),
            backup_wans: wans.collect(),
            childless: Childless::Allow,
            mobike: true,
            local_address: None,
            remote: Remote::Address(IpAddr::from([192, 0, 2, 1])),
            local_id: "one.example".parse().unwrap(),
            local_credential: Arc::new(LocalCredential::pre_shared_key(secret()).unwrap()),
            remote_id: "other.example".parse().unwrap(),
            remote_credential: Arc::new(PeerCredential::pre_shared_key(secret()).unwrap()),
            ppk: None,
            ike_proposals: Vec::new(),
            esp_proposals: Vec::new(),
            mode: ChildMode::Tunnel,
            local_ts: Vec::new(),
            remote_ts: Vec::new(),
            role: Role::Initiate,
            encapsulation: Encapsulation::Always,
            dpd: Dpd::default(),
            ike_lifetime: Lifetime::of(Duration::from_secs(100)),
            child_lifetime: Lifetime::of(Duration::from_secs(100)),
            reauth: None,
            retry: Retry::default(),
            shutdown: false,
        }
    }
}
