//! One neighbor's session: the state machine of RFC 4271 §8 without sockets and without a clock.
//!
//! A [`Session`] owns both connections that two speakers may open to each other at once, and settles which one stays
//! (§6.8). The owner dials, listens, reads and writes; it hands in what happened as [`Input`], performs each
//! [`Output`] in order, and comes back with [`Input::Timeout`] when [`Session::poll_timeout`] says so. Connections go
//! by a number that the owner gives them; what arrives for one that is gone changes nothing.
//!
//! Departures from RFC 4271: an OPEN is awaited for one minute, not four, since tunnels lose packets for seconds and
//! not for minutes (§8.2.2 only suggests four); after a failure the session rests for a time that doubles
//! (DampPeerOscillations is always on), keeping a connection that the neighbor opens meanwhile until then; a connection
//! that is ready but loses a collision is held until the winner shows what it is worth, so that no session falls after
//! the neighbor has taken it for established.

mod backoff;
#[cfg(test)]
mod collision_tests;
mod config;
mod down;
mod established;
mod opening;
mod pulse;
mod seeking;
mod state;
mod terms;
#[cfg(test)]
mod tests;

use std::{fmt, time::Instant};

use bgp_wire::{
    Message, MessageError, Negotiated, Notification, Open, RouteRefresh, Update, keepalive, notification::FsmCode,
};
use bytes::Bytes;
use rand::RngCore;

pub use config::{LocalRole, Negotiation, RemoteAs, SessionConfig};
pub use down::{DownReason, Retain};
pub use terms::{OpenRefusal, RestartTerms, Terms};

use backoff::Backoff;
use state::{Core, State};

/// Names one TCP connection for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// We did.
    Outgoing,
    /// The neighbor did.
    Incoming,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all inputs are UPDATEs; a box each would cost more")]
pub enum Input {
    /// The operator wants the session. Changes nothing while it is wanted already.
    Start,
    /// The operator does not want it: it ends with this NOTIFICATION and stays down.
    Stop(Notification),
    /// It ends with this NOTIFICATION and starts over.
    Reset(Notification),
    /// We end and are expected back: a neighbor that agreed to keep our routes over a restart is not told to drop them (RFC 4724
    /// §4.2, RFC 8538 §4). To all others it is the end.
    Leave,
    /// BFD lost the neighbor (RFC 9384).
    BfdDown,
    /// The link or the tunnel to the neighbor is gone.
    PathLost,
    /// The path to the neighbor works again as far as anybody knows: do not wait to connect.
    PathUp,
    /// A connection is open: the one that [`Output::Dial`] asked for, or one that the neighbor opened.
    Connected(ConnectionId, Direction),
    /// [`Output::Dial`] failed.
    DialFailed,
    /// A message arrived.
    Received(ConnectionId, Message),
    /// What arrived cannot be read.
    Malformed(ConnectionId, MessageError),
    /// More has arrived than we have come to read: the neighbor lives, though we are slow.
    Backlog(ConnectionId),
    /// Some of what we sent was taken over by the transport (RFC 9687).
    Written(ConnectionId),
    /// The connection was closed or reset.
    Lost(ConnectionId),
    /// It may be time for something. Too early is harmless.
    Timeout,
}

/// What the owner has to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Open a connection to the neighbor; answer with `Connected` or `DialFailed`.
    Dial,
    /// Give up opening it; no answer.
    CancelDial,
    /// Write a message.
    Send(ConnectionId, Outgoing),
    /// Close the connection once what was sent is written, or cannot be. No answer is needed.
    HangUp(ConnectionId),
    /// The session is established; routes may be sent.
    Up(ConnectionId, Box<Terms>),
    /// The neighbor's routes.
    Routes(Update),
    /// The neighbor wants our routes, or demarcates its own.
    Refresh(RouteRefresh),
    /// An established session ended; always comes before what is said to the neighbor about it.
    Down(DownReason, Option<Retain>),
    /// An attempt failed before the session was established.
    AttemptFailed(DownReason),
    /// For logs and counters.
    PhaseChanged {
        /// Where the session was.
        from: Phase,
        /// Where it is.
        to: Phase,
    },
}

/// A message of the state machine itself. UPDATEs and ROUTE-REFRESHes are the business of the routes' owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// OPEN
    Open(Open),
    /// KEEPALIVE
    Keepalive,
    /// NOTIFICATION
    Notification(Notification),
}

impl Outgoing {
    /// The whole message.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Open(open) => open.to_bytes(),
            Self::Keepalive => keepalive(),
            Self::Notification(notification) => notification.to_bytes(),
        }
    }
}

/// Where a session is, in the words of RFC 4271 §8.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Not wanted, or resting after a failure.
    Idle,
    /// Opening a connection.
    Connect,
    /// Waiting for a connection.
    Active,
    /// Waiting for the neighbor's OPEN.
    OpenSent,
    /// Waiting for the neighbor to confirm.
    OpenConfirm,
    /// Exchanging routes.
    Established,
}

impl Phase {
    /// How it is named on the screen and in FRR's JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }

    /// The subcode for a message that does not belong here (RFC 6608 §4).
    fn fsm_code(self) -> FsmCode {
        match self {
            Self::OpenSent => FsmCode::UnexpectedInOpenSent,
            Self::OpenConfirm => FsmCode::UnexpectedInOpenConfirm,
            Self::Established => FsmCode::UnexpectedInEstablished,
            Self::Idle | Self::Connect | Self::Active => FsmCode::Unspecified,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One neighbor's session.
pub struct Session {
    core: Core,
    state: State,
}

impl Session {
    /// A session that waits for [`Input::Start`]. `rng` makes the jitter; a seed replays a run.
    pub fn new(config: SessionConfig, rng: Box<dyn RngCore + Send>) -> Self {
        Self { core: Core { config, rng, backoff: Backoff::default() }, state: State::Stopped }
    }

    /// Takes in what happened at `now`, and says what to do.
    pub fn handle_input(&mut self, now: Instant, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        let from = self.phase();
        self.state = std::mem::take(&mut self.state).step(&mut self.core, now, input, &mut out);
        let to = self.phase();
        if from != to {
            out.push(Output::PhaseChanged { from, to });
        }
        out
    }

    /// When to call back with [`Input::Timeout`]; `None` while nothing is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.state.next_deadline()
    }

    /// Where the session is.
    pub fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// How to read what arrives on `connection` now. Ask again for each message: an OPEN changes it.
    pub fn negotiated(&self, connection: ConnectionId) -> Negotiated {
        match self.state.terms(Some(connection)) {
            Some(terms) => terms.negotiated,
            None => Negotiated::base(self.core.config.kind()),
        }
    }

    /// The terms of the established session.
    pub fn terms(&self) -> Option<&Terms> {
        self.state.terms(None)
    }

    /// The configuration in force.
    pub fn config(&self) -> &SessionConfig {
        &self.core.config
    }

    /// Changes the configuration. What two OPENs have settled stays until the session starts over; the owner decides
    /// whether to bring that about with [`Input::Reset`].
    pub fn reconfigure(&mut self, config: SessionConfig) {
        self.core.config = config;
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("config", &self.core.config).field("phase", &self.phase()).finish()
    }
}
