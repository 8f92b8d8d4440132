//! What the engine has to say to operators: why a tunnel is down, why a peer was refused, what changed.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ike_crypto::{AuthError, NoProposal, ProofError};
use net_types::{Spi, TunnelName, WanName};

use crate::io::Path;

/// Why a tunnel does not carry traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownCause {
    /// Nothing has been tried yet, or the first attempt runs.
    Starting,
    /// A responder-only tunnel whose peer has not called.
    WaitingForPeer,
    /// The peer deleted the IKE SA or the last child SA.
    PeerDeleted,
    /// The peer stopped answering.
    DpdTimeout {
        /// How long it has been silent.
        silent_for: Duration,
    },
    /// The peer has lost the SA, and shows that it is the one that had it (RFC 6290).
    PeerRestarted,
    /// No answer to an attempt to establish the tunnel.
    PeerUnreachable,
    /// The WAN link that the tunnel is bound to is down or has no address.
    LinkDown,
    /// The WAN link has not the address that the tunnel is bound to: another router has it.
    AddressAway(IpAddr),
    /// The peer or this side was refused; which and why.
    Refused(Refusal),
    /// `terminate`, `shutdown` or the end of the daemon.
    AdminDown,
    /// It is not needed now ([`Role::Standby`](crate::Role::Standby)).
    StandingBy,
    /// The tunnel's configuration changed, or it is no longer configured.
    Reconfigured,
    /// The peer did not prove anew who it is in the time that it was given (RFC 4478).
    ReauthMissed,
    /// A rekey did not succeed before the SA's lifetime ended.
    RekeyFailed,
    /// The peer broke the protocol on an established SA.
    ProtocolError(String),
}

/// Why a negotiation ended, in words that name the mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// We do not accept the peer: wrong key, wrong identity, expired or untrusted certificate, ...
    Peer(AuthError),
    /// We cannot prove who we are to this peer.
    Ourselves(ProofError),
    /// The peer refused us (AUTHENTICATION_FAILED); its log says why.
    ByPeer,
    /// No proposal in common for the IKE SA.
    NoIkeProposal(NoProposal),
    /// No proposal in common for the child SA.
    NoChildProposal(NoProposal),
    /// The peer accepts none of the proposals we offered; for the IKE SA or the child SA.
    OfferRefused {
        /// Which SA.
        what: &'static str,
        /// What we offered.
        offered: String,
    },
    /// No traffic selectors in common.
    TrafficSelectors {
        /// What the peer offered, or that it refused ours.
        found: String,
        /// What the configuration allows.
        wanted: String,
    },
    /// One side wants child SAs in transport mode, the other one in tunnel mode (RFC 7296 §1.3.1).
    Mode(&'static str),
    /// No tunnel is configured for this peer.
    UnknownPeer(String),
    /// The tunnel is administratively down.
    AdminDown,
    /// The two sides do not agree on whether an IKE SA comes with a child SA (RFC 6023); what is the matter.
    Childless(&'static str),
    /// The peer's own error notification, by name.
    Notified(String),
    /// What the peer sent breaks the protocol.
    Malformed(String),
}

/// A change worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An IKE SA was authenticated.
    IkeEstablished {
        /// The tunnel.
        tunnel: TunnelName,
        /// The other end.
        remote: SocketAddr,
        /// As the peer calls itself.
        peer: String,
        /// Whether we called.
        initiated: bool,
        /// Both SPIs, initiator's first.
        spis: (u64, u64),
        /// Negotiated algorithms.
        suite: String,
    },
    /// An IKE SA is gone.
    IkeClosed {
        /// The tunnel.
        tunnel: TunnelName,
        /// Both SPIs, initiator's first.
        spis: (u64, u64),
        /// Why.
        cause: DownCause,
    },
    /// An IKE SA was rekeyed; the second pair of SPIs replaces the first.
    IkeRekeyed {
        /// The tunnel.
        tunnel: TunnelName,
        /// The SPIs before.
        old: (u64, u64),
        /// The SPIs after.
        new: (u64, u64),
    },
    /// Both sides have proved anew who they are; the second IKE SA replaces the first.
    Reauthenticated {
        /// The tunnel.
        tunnel: TunnelName,
        /// The SPIs before.
        old: (u64, u64),
        /// The SPIs after.
        new: (u64, u64),
    },
    /// A child SA was installed.
    ChildInstalled {
        /// The tunnel.
        tunnel: TunnelName,
        /// Inbound SPI.
        spi_in: Spi,
        /// Outbound SPI.
        spi_out: Spi,
        /// The child that it replaces.
        replaces: Option<Spi>,
        /// Negotiated algorithms.
        suite: String,
    },
    /// A rekey was put off or failed; the old SA still works.
    RekeyDelayed {
        /// The tunnel.
        tunnel: TunnelName,
        /// Why.
        why: String,
    },
    /// A negotiation ended without an SA.
    Refused {
        /// The tunnel, where one is known.
        tunnel: Option<TunnelName>,
        /// The other end.
        remote: SocketAddr,
        /// Why.
        why: Refusal,
    },
    /// An attempt to establish got no answer.
    Unreachable {
        /// The tunnel.
        tunnel: TunnelName,
        /// The other end.
        remote: SocketAddr,
        /// How long it was tried.
        tried_for: Duration,
    },
    /// A second IKE SA with the same peer was closed.
    DuplicateClosed {
        /// The tunnel.
        tunnel: TunnelName,
        /// SPIs of the one that was closed.
        closed: (u64, u64),
        /// SPIs of the one that was kept.
        kept: (u64, u64),
    },
    /// The peer's address or port changed, as an authenticated message showed.
    PeerMoved {
        /// The tunnel.
        tunnel: TunnelName,
        /// Before.
        from: SocketAddr,
        /// After.
        to: SocketAddr,
    },
    /// An IKE SA of ours goes by another path.
    PathChanged {
        /// The tunnel.
        tunnel: TunnelName,
        /// Before.
        from: Path,
        /// After.
        to: Path,
    },
    /// Half-open SAs reached the mark from which on cookies are asked for, or fell below it.
    CookiesRequired(bool),
    /// A link was lost or came back.
    Wan {
        /// Which.
        wan: WanName,
        /// Whether it can be used.
        up: bool,
    },
}

impl fmt::Display for DownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::WaitingForPeer => f.write_str("waiting for the peer to call"),
            Self::PeerDeleted => f.write_str("deleted by the peer"),
            Self::DpdTimeout { silent_for } => write!(f, "peer silent for {:.1} s", silent_for.as_secs_f64()),
            Self::PeerRestarted => f.write_str("the peer has restarted"),
            Self::PeerUnreachable => f.write_str("peer does not answer"),
            Self::LinkDown => f.write_str("WAN link down"),
            Self::AddressAway(local) => write!(f, "{local} is not on the WAN link"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::AdminDown => f.write_str("administratively down"),
            Self::StandingBy => f.write_str("standing by for others"),
            Self::Reconfigured => f.write_str("configuration changed"),
            Self::ReauthMissed => f.write_str("the peer did not authenticate anew in time"),
            Self::RekeyFailed => f.write_str("lifetime ended before a rekey succeeded"),
            Self::ProtocolError(what) => write!(f, "protocol error: {what}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(why) => why.fmt(f),
            Self::Ourselves(why) => why.fmt(f),
            Self::ByPeer => f.write_str("the peer refused our authentication; its log says why"),
            Self::NoIkeProposal(why) => write!(f, "IKE SA: {why}"),
            Self::NoChildProposal(why) => write!(f, "child SA: {why}"),
            Self::OfferRefused { what, offered } => {
                write!(f, "no common proposal for the {what}: the peer refused our {offered}; compare both sides")
            }
            Self::TrafficSelectors { found, wanted } => {
                write!(f, "no common traffic selectors: {found}, configuration allows {wanted}")
            }
            Self::UnknownPeer(who) => write!(f, "no tunnel is configured for {who}"),
            Self::AdminDown => f.write_str("the tunnel is administratively down"),
            Self::Childless(what) | Self::Mode(what) => f.write_str(what),
            Self::Notified(name) => write!(f, "the peer answered {name}"),
            Self::Malformed(what) => write!(f, "malformed: {what}"),
        }
    }
}

/// The SPIs of an IKE SA as operators see them.
struct Spis<'a>(&'a (u64, u64));

impl fmt::Display for Spis<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}_i {:016x}_r", self.0.0, self.0.1)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IkeEstablished { tunnel, remote, peer, initiated, spis, suite } => {
                let role = if *initiated { "initiator" } else { "responder" };
                write!(
                    f,
                    "tunnel {tunnel}: IKE SA {} with {peer} at {remote} established as {role}, {suite}",
                    Spis(spis)
                )
            }
            Self::IkeClosed { tunnel, spis, cause } => {
                write!(f, "tunnel {tunnel}: IKE SA {} closed: {cause}", Spis(spis))
            }
            Self::IkeRekeyed { tunnel, old, new } => {
                write!(f, "tunnel {tunnel}: IKE SA {} rekeyed as {}", Spis(old), Spis(new))
            }
            Self::Reauthenticated { tunnel, old, new } => {
                write!(f, "tunnel {tunnel}: IKE SA {} authenticated anew as {}", Spis(old), Spis(new))
            }
            Self::ChildInstalled { tunnel, spi_in, spi_out, replaces: None, suite } => {
                write!(f, "tunnel {tunnel}: child SA {spi_in} in, {spi_out} out installed, {suite}")
            }
            Self::ChildInstalled { tunnel, spi_in, spi_out, replaces: Some(old), suite } => {
                write!(f, "tunnel {tunnel}: child SA {spi_in} in, {spi_out} out installed, {suite}, replaces {old}")
            }
            Self::RekeyDelayed { tunnel, why } => write!(f, "tunnel {tunnel}: rekey delayed: {why}"),
            Self::Refused { tunnel: Some(tunnel), remote, why } => write!(f, "tunnel {tunnel}: peer {remote}: {why}"),
            Self::Refused { tunnel: None, remote, why } => write!(f, "peer {remote}: {why}"),
            Self::Unreachable { tunnel, remote, tried_for } => {
                write!(f, "tunnel {tunnel}: no answer from {remote} in {:.1} s", tried_for.as_secs_f64())
            }
            Self::DuplicateClosed { tunnel, closed, kept } => {
                write!(f, "tunnel {tunnel}: IKE SA {} closed as a duplicate of {}", Spis(closed), Spis(kept))
            }
            Self::PeerMoved { tunnel, from, to } => write!(f, "tunnel {tunnel}: peer moved from {from} to {to}"),
            Self::PathChanged { tunnel, from, to } => write!(f, "tunnel {tunnel}: path changed from {from} to {to}"),
            Self::CookiesRequired(true) => f.write_str("many half-open IKE SAs: asking callers for cookies"),
            Self::CookiesRequired(false) => f.write_str("few half-open IKE SAs: no longer asking for cookies"),
            Self::Wan { wan, up: true } => write!(f, "WAN {wan} can be used"),
            Self::Wan { wan, up: false } => write!(f, "WAN {wan} cannot be used"),
        }
    }
}
