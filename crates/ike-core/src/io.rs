//! What goes into the engine and what comes out.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ike_crypto::{ChildKeys, Revocations, StatusQuery};
use ike_wire::TrafficSelector;
use net_types::{Spi, TunnelName, WanName};

use crate::{
    config::{ChildMode, ConnectionConfig},
    event::{DownCause, Event},
};

/// Something that happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// An IKE message arrived, its non-ESP marker taken off.
    Datagram {
        /// How it came.
        path: Path,
        /// The message.
        bytes: Bytes,
    },
    /// The deadline that [`Ike::poll_timeout`](crate::Ike::poll_timeout) named has come. Early calls change nothing.
    Timeout,
    /// The configuration, whole: tunnels are added, changed and removed by difference.
    Reconfigure(Vec<ConnectionConfig>),
    /// A WAN link came up, went down or changed its addresses.
    Wan {
        /// Which.
        wan: WanName,
        /// The addresses that can be used as source; none when the link is down.
        addresses: Vec<IpAddr>,
    },
    /// The operator wants the tunnel up: now, and whatever `Terminate` said.
    Initiate(TunnelName),
    /// The operator wants the tunnel down: the peer is told, and refused if it calls.
    Terminate(TunnelName),
    /// The operator wants this tunnel's SAs replaced now.
    Rekey {
        /// Which tunnel.
        tunnel: TunnelName,
        /// The IKE SA, or the child SA.
        ike: bool,
    },
    /// ESP was received and authenticated on this inbound SA, most recently at `at`.
    InboundSeen {
        /// The inbound SA.
        spi_in: Spi,
        /// When.
        at: Instant,
    },
    /// ESP was sent on the outbound SA of this pair, later than `since`. Of use where dead peer detection asks for it
    /// ([`Doubt::NoAnswer`](crate::Doubt::NoAnswer)); to be told before a [`Input::Timeout`], after [`Input::InboundSeen`].
    OutboundSeen {
        /// The inbound SPI of the pair.
        spi_in: Spi,
        /// When it was looked at before; what was sent up to then has been told.
        since: Instant,
    },
    /// Authentic ESP on this inbound SA came by another path than before.
    InboundFrom {
        /// The inbound SA.
        spi_in: Spi,
        /// How it came.
        path: Path,
    },
    /// A volume limit of this SA was reached: the soft one (rekey) or the hard one (close).
    ChildLimit {
        /// The inbound SPI of the pair.
        spi_in: Spi,
        /// Whether it may not be used any more.
        hard: bool,
    },
    /// ESP came for an SPI that nobody has: the peer may have missed a restart of ours.
    UnknownSpi {
        /// The SPI.
        spi: u32,
        /// Where it came from.
        path: Path,
    },
    /// The wall clock, which certificates are checked against: time since 1970.
    WallClock(Duration),
    /// All that is known of revoked certificates: lists, and what responders said. Peers whom a change concerns are looked at
    /// again.
    Revocations(Arc<Revocations>),
    /// The daemon ends: every peer is told, nothing is initiated any more.
    Shutdown,
}

/// Something to be done outside, in the order given.
#[derive(Debug)]
pub enum Output {
    /// Send an IKE message; on a path with NAT traversal the non-ESP marker goes before it.
    Send {
        /// How.
        path: Path,
        /// The message.
        bytes: Bytes,
    },
    /// Send one octet 0xff, without marker, to keep a NAT's mapping (RFC 3948 §2.3).
    NatKeepalive {
        /// How.
        path: Path,
    },
    /// Install a pair of child SAs. Inbound works at once; outbound is used from [`Output::UseOutbound`] on.
    InstallChild(Box<InstallChild>),
    /// Send this tunnel's traffic on the outbound SA of this pair from now on.
    UseOutbound {
        /// The tunnel.
        tunnel: TunnelName,
        /// The pair, by its inbound SPI.
        spi_in: Spi,
    },
    /// The peer's address or ours changed for this pair.
    MoveChild {
        /// The tunnel.
        tunnel: TunnelName,
        /// The pair, by its inbound SPI.
        spi_in: Spi,
        /// The path from now on.
        path: Path,
    },
    /// Remove a pair of child SAs.
    RemoveChild {
        /// The tunnel.
        tunnel: TunnelName,
        /// The pair, by its inbound SPI.
        spi_in: Spi,
        /// Its outbound SPI.
        spi_out: Spi,
    },
    /// The tunnel carries traffic.
    TunnelUp {
        /// The tunnel.
        tunnel: TunnelName,
        /// How.
        path: Path,
    },
    /// The tunnel does not carry traffic; repeated when the cause changes.
    TunnelDown {
        /// The tunnel.
        tunnel: TunnelName,
        /// Why.
        cause: DownCause,
    },
    /// Ask the responder about this certificate. What it says, or that it says nothing, comes back with
    /// [`Input::Revocations`]; asked again for the same certificate while the answer is on its way.
    AskStatus(Box<StatusQuery>),
    /// A line for the log.
    Event(Event),
}

/// How datagrams travel between us and a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The WAN link.
    pub wan: WanName,
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// Whether this is the NAT traversal port, where IKE has a marker and shares the port with ESP in UDP.
    pub natt: bool,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} over {}", self.local, self.remote, self.wan)
    }
}

/// A pair of child SAs, ready for a dataplane. `Debug` shows no key.
#[derive(Debug)]
pub struct InstallChild {
    /// The tunnel.
    pub tunnel: TunnelName,
    /// SPI that the peer sends to us with.
    pub spi_in: Spi,
    /// SPI that we send to the peer with.
    pub spi_out: Spi,
    /// Algorithm and keys of both directions.
    pub keys: ChildKeys,
    /// What of a packet it wraps.
    pub mode: ChildMode,
    /// What may be on our side.
    pub local_ts: Vec<TrafficSelector>,
    /// What may be on the peer's side.
    pub remote_ts: Vec<TrafficSelector>,
    /// Between which addresses; with `path.natt`, ESP goes in UDP between these ports.
    pub path: Path,
    /// ESP in UDP, or ESP as IP protocol 50.
    pub encapsulated: bool,
    /// The pair that this one replaces, by its inbound SPI.
    pub replaces: Option<Spi>,
}
