//! What goes into a session and what comes out of it.

use std::time::Duration;

use crate::{ECHO_LEN, EchoPacket, PACKET_LEN, Packet, State};

/// What a session is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often to send once Up, if the peer can take it.
    pub desired_min_tx: Duration,
    /// How often the peer may send.
    pub required_min_rx: Duration,
    /// Packets of ours that may go missing in a row before the peer gives us up.
    pub detect_multiplier: u8,
    /// Not to send before the peer has (RFC 5880 §6.1).
    pub passive: bool,
    /// How often the peer may send Echo packets; zero for not at all. They are addressed to the peer itself, so that whatever
    /// forwards packets here reflects them (RFC 5880 §6.4, RFC 5881 §4); this crate never sees one.
    pub required_min_echo_rx: Duration,
    /// How often to send Echo packets, if the peer reflects them as often; zero for not at all. While they come back, it is
    /// their silence that ends the session, and control packets become rare (RFC 5880 §6.8.3).
    pub desired_min_echo_tx: Duration,
    /// Both intervals are raised as far as the jitter of what comes in asks for, but not beyond this; zero for not at all.
    pub adapt_up_to: Duration,
}

impl Default for Config {
    /// 300 ms, three times.
    fn default() -> Self {
        let interval = Duration::from_millis(300);
        Self {
            desired_min_tx: interval,
            required_min_rx: interval,
            detect_multiplier: 3,
            passive: false,
            required_min_echo_rx: Duration::ZERO,
            desired_min_echo_tx: Duration::ZERO,
            adapt_up_to: Duration::ZERO,
        }
    }
}

impl Config {
    /// The nearest that can be said on the wire.
    pub(super) fn checked(self) -> Self {
        let (least, most) = (Duration::from_micros(1), Duration::from_micros(u32::MAX.into()));
        Self {
            desired_min_tx: self.desired_min_tx.clamp(least, most),
            required_min_rx: self.required_min_rx.clamp(least, most),
            detect_multiplier: self.detect_multiplier.max(1),
            passive: self.passive,
            required_min_echo_rx: self.required_min_echo_rx.min(most),
            desired_min_echo_tx: self.desired_min_echo_tx.min(most),
            adapt_up_to: self.adapt_up_to.min(most),
        }
    }
}

/// What happens to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// A packet that [`Demux`](crate::Demux) found to be for it.
    Received(&'a Packet),
    /// An Echo packet that has the session's discriminator came back by the session's interface.
    Returned(EchoPacket),
    /// It is time, or not yet. Packets that are due soon leave now: within a twentieth of their interval.
    Timeout,
    /// This host did not run us for so long beyond what we asked for. What the peer sent meanwhile may still be on its
    /// way through this host, so the silence is not held against it: detection is put off by as long, but never by more
    /// than one detection time in all. A busy host so takes at most twice the detection time to notice a fault, instead
    /// of taking its own stall for one.
    Stalled(Duration),
    /// Hold the session down, or let it go.
    AdminDown(bool),
    /// Other timers are wanted.
    Reconfigure(Config),
}

/// What a session wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send([u8; PACKET_LEN]),
    /// Send this to ourselves by way of the peer, to port [`ECHO_PORT`](crate::ECHO_PORT).
    SendEcho([u8; ECHO_LEN]),
    /// The state is another now.
    Changed {
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// Why.
        cause: Cause,
    },
}

/// Why the state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer's packets say so, on the way up.
    Handshake,
    /// Nothing was heard for the detection time.
    DetectionTimeExpired,
    /// No Echo packet came back for the detection time.
    EchoFailed,
    /// The peer's session went down.
    NeighborDown,
    /// The peer's session is held down by its configuration. This says nothing about the path (RFC 5882 §3.2).
    NeighborAdminDown,
    /// Ours is, or no longer.
    Administrative,
}

impl Cause {
    /// Whether a session that went down for this reason says that the path is dead, and not that somebody does without BFD on
    /// purpose (RFC 5882 §3.2).
    pub fn blames_the_path(self) -> bool {
        match self {
            Self::DetectionTimeExpired | Self::EchoFailed | Self::NeighborDown => true,
            Self::Handshake | Self::NeighborAdminDown | Self::Administrative => false,
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Handshake => "handshake",
            Self::DetectionTimeExpired => "control detection time expired",
            Self::EchoFailed => "echo function failed",
            Self::NeighborDown => "neighbor signaled session down",
            Self::NeighborAdminDown => "neighbor is administratively down",
            Self::Administrative => "administratively changed",
        })
    }
}

/// Counts since the session was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets sent.
    pub sent: u64,
    /// Packets taken.
    pub received: u64,
    /// Packets that carried an authentication section, which this session has no use for.
    pub discarded: u64,
    /// Echo packets sent.
    pub echo_sent: u64,
    /// Echo packets that came back.
    pub echo_received: u64,
    /// Times that it came up.
    pub ups: u64,
    /// Times that it left Up.
    pub downs: u64,
}
