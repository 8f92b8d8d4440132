//! The states of a session and the steps between them (RFC 4271 §8.2.2).
//!
//! Each state holds exactly what is true in it; leaving a state disarms its timers because they leave with it.

use std::time::Instant;

use bgp_wire::{Message, Notification, Open, notification::CeaseCode};
use rand::RngCore;

use super::{
    ConnectionId, Direction, Input, Output, Phase, SessionConfig, Terms, backoff::Backoff, established::Established,
    opening::close, seeking::Seeking,
};

/// What every state may use.
pub(super) struct Core {
    pub(super) config: SessionConfig,
    pub(super) rng: Box<dyn RngCore + Send>,
    pub(super) backoff: Backoff,
}

#[derive(Default)]
pub(super) enum State {
    /// Idle: not wanted.
    #[default]
    Stopped,
    /// Idle after a failure. The neighbor may have connected already.
    Resting { until: Instant, parked: Option<Parked> },
    /// Connect, Active, OpenSent and OpenConfirm, of up to two connections at once.
    Seeking(Seeking),
    /// Established.
    Established(Box<Established>),
}

/// A connection that the neighbor opened while we rest, and the OPEN that it sent on it.
pub(super) struct Parked {
    connection: ConnectionId,
    open: Option<Open>,
}

impl State {
    pub(super) fn step(self, core: &mut Core, now: Instant, input: Input, out: &mut Vec<Output>) -> Self {
        let input = match (input, &self) {
            (Input::Leave, Self::Stopped | Self::Resting { .. } | Self::Seeking(_)) => {
                Input::Stop(Notification::cease(CeaseCode::AdministrativeShutdown))
            }
            (input, _) => input,
        };
        match self {
            Self::Stopped => Self::stopped(core, now, input, out),
            Self::Resting { until, parked } => Self::resting(until, parked, core, now, input, out),
            Self::Seeking(seeking) => seeking.step(core, now, input, out),
            Self::Established(session) => session.step(core, now, input, out),
        }
    }

    fn stopped(core: &mut Core, now: Instant, input: Input, out: &mut Vec<Output>) -> Self {
        match input {
            Input::Start => {
                core.backoff.reset();
                Self::Seeking(Seeking::start(core, now, None, out))
            }
            // RFC 4271 §8.2.2: Idle refuses connections.
            Input::Connected(connection, _) => {
                close(connection, Some(Notification::cease(CeaseCode::ConnectionRejected)), out);
                Self::Stopped
            }
            _ => Self::Stopped,
        }
    }

    fn resting(
        until: Instant,
        parked: Option<Parked>,
        core: &mut Core,
        now: Instant,
        input: Input,
        out: &mut Vec<Output>,
    ) -> Self {
        match input {
            Input::Stop(notification) => {
                if let Some(parked) = parked {
                    close(parked.connection, Some(notification), out);
                }
                Self::Stopped
            }
            Input::Timeout if now < until => Self::Resting { until, parked },
            Input::Timeout | Input::PathUp => {
                let (connection, open) = match parked {
                    Some(Parked { connection, open }) => (Some(connection), open),
                    None => (None, None),
                };
                let state = Self::Seeking(Seeking::start(core, now, connection, out));
                match (connection, open) {
                    (Some(connection), Some(open)) => {
                        state.step(core, now, Input::Received(connection, Message::Open(open)), out)
                    }
                    _ => state,
                }
            }
            Input::Connected(connection, Direction::Outgoing) => {
                out.push(Output::HangUp(connection)); // the dial was canceled while it succeeded
                Self::Resting { until, parked }
            }
            Input::Connected(connection, Direction::Incoming) => {
                if let Some(old) = parked {
                    out.push(Output::HangUp(old.connection)); // the neighbor gave that one up, or it would not dial
                }
                Self::Resting { until, parked: Some(Parked { connection, open: None }) }
            }
            Input::Received(connection, message) => match parked {
                Some(Parked { connection: held, open: None }) if held == connection => match message {
                    Message::Open(open) => {
                        Self::Resting { until, parked: Some(Parked { connection, open: Some(open) }) }
                    }
                    _ => {
                        out.push(Output::HangUp(connection));
                        Self::Resting { until, parked: None }
                    }
                },
                // Whatever follows the OPEN before ours was sent, a NOTIFICATION above all, ends it.
                Some(held) if held.connection == connection => {
                    out.push(Output::HangUp(connection));
                    Self::Resting { until, parked: None }
                }
                parked => Self::Resting { until, parked },
            },
            Input::Malformed(connection, error) if is_parked(&parked, connection) => {
                close(connection, error.notification(), out);
                Self::Resting { until, parked: None }
            }
            Input::Lost(connection) if is_parked(&parked, connection) => Self::Resting { until, parked: None },
            _ => Self::Resting { until, parked },
        }
    }

    /// Rests, for longer after each failure in a row.
    pub(super) fn rest(core: &mut Core, now: Instant) -> Self {
        Self::Resting { until: now + core.backoff.next(&mut *core.rng), parked: None }
    }

    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Stopped | Self::Resting { .. } => Phase::Idle,
            Self::Seeking(seeking) => seeking.phase(),
            Self::Established(_) => Phase::Established,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Stopped => None,
            Self::Resting { until, .. } => Some(*until),
            Self::Seeking(seeking) => seeking.deadline(),
            Self::Established(session) => session.deadline(),
        }
    }

    /// The terms on `connection`, or those of the established session.
    pub(super) fn terms(&self, connection: Option<ConnectionId>) -> Option<&Terms> {
        match (self, connection) {
            (Self::Established(session), None) => Some(&session.terms),
            (Self::Established(session), Some(id)) if session.connection == id => Some(&session.terms),
            (Self::Seeking(seeking), Some(id)) => {
                let opening = seeking.openings().find(|opening| opening.connection == id)?;
                opening.terms()
            }
            _ => None,
        }
    }
}

fn is_parked(parked: &Option<Parked>, connection: ConnectionId) -> bool {
    parked.as_ref().is_some_and(|parked| parked.connection == connection)
}
