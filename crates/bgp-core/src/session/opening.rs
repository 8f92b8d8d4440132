//! One connection on which OPENs are exchanged: OpenSent and OpenConfirm (RFC 4271 §8.2.2).

use std::time::{Duration, Instant};

use bgp_wire::{Message, Notification};

use super::{ConnectionId, DownReason, Outgoing, Output, Phase, Terms, pulse::Pulse, state::Core};

/// How long to wait for the neighbor's OPEN; see the departures in the parent module.
pub(super) const OPEN_WAIT: Duration = Duration::from_secs(60);

/// A connection on which OPENs are exchanged.
pub(super) struct Opening {
    pub(super) connection: ConnectionId,
    stage: Stage,
}

enum Stage {
    OpenSent {
        give_up_at: Instant,
    },
    OpenConfirm {
        terms: Box<Terms>,
        pulse: Option<Pulse>,
        /// The neighbor's KEEPALIVE has come: it agrees, and only a collision may still be in the way.
        confirmed: bool,
    },
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

    /// Says why, and hangs up.
    pub(super) fn fail(self, reason: DownReason, out: &mut Vec<Output>) -> DownReason {
        close(self.connection, reason.notification(), out);
        reason
    }

    /// What the opening is after a message; the reason if it is over.
    pub(super) fn receive(
        mut self,
        core: &mut Core,
        now: Instant,
        message: Message,
        out: &mut Vec<Output>,
    ) -> Result<Self, DownReason> {
        match (&mut self.stage, message) {
            (_, Message::Notification(notification)) => {
                out.push(Output::HangUp(self.connection));
                Err(DownReason::Received(notification))
            }
            (Stage::OpenSent { .. }, Message::Open(open)) => match core.config.agree(&open) {
                Ok(terms) => {
                    out.push(Output::Send(self.connection, Outgoing::Keepalive));
                    let pulse = Pulse::start(&terms, now, &mut *core.rng);
                    self.stage = Stage::OpenConfirm { terms: Box::new(terms), pulse, confirmed: false };
                    Ok(self)
                }
                Err(refusal) => Err(self.fail(DownReason::Refused(refusal), out)),
            },
            (Stage::OpenConfirm { pulse, confirmed, .. }, Message::Keepalive) => {
                *confirmed = true;
                if let Some(pulse) = pulse {
                    pulse.heard(now);
                }
                Ok(self)
            }
            (_, message) => {
                let phase = self.phase();
                Err(self.fail(DownReason::Unexpected { phase, message: message.kind() }, out)) // RFC 6608
            }
        }
    }

    /// What the opening is at `now`; the reason if it is over.
    pub(super) fn expire(mut self, core: &mut Core, now: Instant, out: &mut Vec<Output>) -> Result<Self, DownReason> {
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
        if expired { Err(self.fail(DownReason::HoldExpired, out)) } else { Ok(self) }
    }

    /// The terms, once the neighbor's OPEN has come.
    pub(super) fn terms(&self) -> Option<&Terms> {
        match &self.stage {
            Stage::OpenSent { .. } => None,
            Stage::OpenConfirm { terms, .. } => Some(terms),
        }
    }

    /// Whether the neighbor has confirmed.
    pub(super) fn is_confirmed(&self) -> bool {
        matches!(self.stage, Stage::OpenConfirm { confirmed: true, .. })
    }

    /// What was agreed, and the timers that run.
    pub(super) fn into_agreed(self) -> Option<(Box<Terms>, Option<Pulse>)> {
        match self.stage {
            Stage::OpenSent { .. } => None,
            Stage::OpenConfirm { terms, pulse, .. } => Some((terms, pulse)),
        }
    }
}

/// Says why, and hangs up.
pub(super) fn close(connection: ConnectionId, notification: Option<Notification>, out: &mut Vec<Output>) {
    out.extend(notification.map(|n| Output::Send(connection, Outgoing::Notification(n))));
    out.push(Output::HangUp(connection));
}
