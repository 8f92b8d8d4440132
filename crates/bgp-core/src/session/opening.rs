//! One connection on which OPENs are exchanged: OpenSent and OpenConfirm (RFC 4271 §8.2.2).

use std::time::{Duration, Instant};

use bgp_wire::{Message, Notification, Open};

use super::{ConnectionId, DownReason, Outgoing, Output, Phase, Terms, pulse::Pulse, state::Core};

/// How long to wait for the neighbor's OPEN; see the departures in the parent module.
const OPEN_WAIT: Duration = Duration::from_secs(60);
/// A connection on which OPENs are exchanged.
pub(super) struct Opening {
    pub(super) connection: ConnectionId,
    stage: Stage,
}

enum Stage {
    OpenSent { give_up_at: Instant },
    OpenConfirm { terms: Box<Terms>, pulse: Option<Pulse> },
}

/// How a step of one opening ended.
pub(super) enum Progress {
    /// It goes on.
    Pending(Opening),
    /// The neighbor agreed and confirmed.
    Complete(ConnectionId, Box<Terms>, Option<Pulse>),
    /// It is over. What had to be said is said, and the connection is gone.
    Failed(DownReason),
}

impl Opening {
    /// Sends our OPEN.
    pub(super) fn start(core: &Core, connection: ConnectionId, now: Instant, out: &mut Vec<Output>) -> Self {
        out.push(Output::Send(connection, Outgoing::Open(core.config.open())));
        Self { connection, stage: Stage::OpenSent { give_up_at: now + OPEN_WAIT } }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.stage {
            Stage::OpenSent { .. } => Phase::OpenSent,
            Stage::OpenConfirm { .. } => Phase::OpenConfirm,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::OpenSent { give_up_at } => Some(*give_up_at),
            Stage::OpenConfirm { pulse, .. } => pulse.as_ref().map(Pulse::next),
        }
    }

    pub(super) fn fail(self, reason: DownReason, out: &mut Vec<Output>) -> Progress {
        close(self.connection, reason.notification(), out);
        Progress::Failed(reason)
    }

    pub(super) fn receive(
        mut self,
        core: &mut Core,
        now: Instant,
        message: Message,
        out: &mut Vec<Output>,
    ) -> Progress {
        let phase = self.phase();
        match (self.stage, message) {
            (_, Message::Notification(notification)) => {
                out.push(Output::HangUp(self.connection));
                Progress::Failed(DownReason::Received(notification))
            }
            (Stage::OpenSent { give_up_at }, Message::Open(open)) => match core.config.agree(&open) {
                Ok(terms) => {
                    out.push(Output::Send(self.connection, Outgoing::Keepalive));
                    let pulse = Pulse::start(&terms, now, &mut *core.rng);
                    self.stage = Stage::OpenConfirm { terms: Box::new(terms), pulse };
                    Progress::Pending(self)
                }
                Err(refusal) => {
                    let opening = Self { connection: self.connection, stage: Stage::OpenSent { give_up_at } };
                    opening.fail(DownReason::Refused(refusal), out)
                }
            },
            (Stage::OpenConfirm { terms, pulse }, Message::Keepalive) => {
                Progress::Complete(self.connection, terms, pulse)
            }
            (stage, message) => {
                let opening = Self { connection: self.connection, stage };
                opening.fail(DownReason::Unexpected { phase, message: message.kind() }, out) // RFC 6608
            }
        }
    }

    pub(super) fn expire(mut self, core: &mut Core, now: Instant, out: &mut Vec<Output>) -> Progress {
        let expired = match &mut self.stage {
            Stage::OpenSent { give_up_at } => now >= *give_up_at,
            Stage::OpenConfirm { pulse: Some(pulse), .. } => {
                let expired = pulse.is_expired(now);
                if !expired && pulse.keepalive_due(now, &mut *core.rng) {
                    out.push(Output::Send(self.connection, Outgoing::Keepalive));
                }
                expired
            }
            Stage::OpenConfirm { pulse: None, .. } => false,
        };
        if expired { self.fail(DownReason::HoldExpired, out) } else { Progress::Pending(self) }
    }

    /// The terms, once the neighbor's OPEN has come.
    pub(super) fn terms(&self) -> Option<&Terms> {
        match &self.stage {
            Stage::OpenSent { .. } => None,
            Stage::OpenConfirm { terms, .. } => Some(terms),
        }
    }

    /// The neighbor's OPEN, where it has come.
    pub(super) fn peer_open(&self) -> Option<&Open> {
        self.terms().map(|terms| &terms.peer_open)
    }
}

/// Says why, and hangs up.
pub(super) fn close(connection: ConnectionId, notification: Option<Notification>, out: &mut Vec<Output>) {
    out.extend(notification.map(|n| Output::Send(connection, Outgoing::Notification(n))));
    out.push(Output::HangUp(connection));
}
