//! Established: routes flow (RFC 4271 §8.2.2), until something ends it.

use std::time::{Duration, Instant};

use bgp_wire::{Message, MessageType, Notification, Open, notification::CeaseCode};

use super::{
    ConnectionId, Direction, DownReason, Input, Outgoing, Output, Phase, Terms,
    backoff::STABLE,
    opening::{OPEN_WAIT, close},
    pulse::Pulse,
    seeking::Seeking,
    state::{Core, State},
};

/// How long after its start a session may see the neighbor's half of a collision.
const COLLISION_WINDOW: Duration = Duration::from_secs(10);
/// The least send hold time (RFC 9687 §4).
const LEAST_SEND_HOLD: Duration = Duration::from_secs(8 * 60);

/// An established session.
pub(super) struct Established {
    pub(super) connection: ConnectionId,
    pub(super) terms: Box<Terms>,
    pulse: Option<Pulse>,
    /// When to give up on a neighbor that does not read (RFC 9687); none with a hold time of 0.
    send_hold_at: Option<Instant>,
    since: Instant,
    /// A connection that a restarted neighbor may have opened (RFC 4724 §4.2): its OPEN will tell.
    newcomer: Option<Newcomer>,
}

/// A connection beside the session; nothing has been said on it.
struct Newcomer {
    connection: ConnectionId,
    give_up_at: Instant,
}

impl Established {
    pub(super) fn start(
        connection: ConnectionId,
        terms: Box<Terms>,
        pulse: Option<Pulse>,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Box<Self> {
        out.push(Output::Up(connection, terms.clone()));
        let mut session = Box::new(Self { connection, terms, pulse, send_hold_at: None, since: now, newcomer: None });
        session.heard(now);
        session.written(now);
        session
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let newcomer = self.newcomer.as_ref().map(|newcomer| newcomer.give_up_at);
        let pulse = self.pulse.as_ref().map(Pulse::next);
        pulse.into_iter().chain(self.send_hold_at).chain(newcomer).min()
    }

    fn heard(&mut self, now: Instant) {
        if let Some(pulse) = &mut self.pulse {
            pulse.heard(now);
        }
    }

    fn written(&mut self, now: Instant) {
        // RFC 9687 §4: off where the hold timer is.
        let hold = self.terms.hold_time;
        self.send_hold_at = (!hold.is_zero()).then(|| now + LEAST_SEND_HOLD.max(hold * 2));
    }

    pub(super) fn step(
        mut self: Box<Self>,
        core: &mut Core,
        now: Instant,
        input: Input,
        out: &mut Vec<Output>,
    ) -> State {
        match input {
            Input::Start | Input::PathUp | Input::DialFailed => State::Established(self),
            Input::Stop(notification) => {
                // RFC 8538 §4: who shuts down for good does not want to be waited for.
                let hard = self.terms.restart.as_ref().is_some_and(|restart| restart.notification);
                let notification = if hard { notification.into_hard_reset() } else { notification };
                self.end(core, now, DownReason::Stopped(notification), out);
                State::Stopped
            }
            Input::Leave => {
                let reason = self.farewell();
                self.end(core, now, reason, out);
                State::Stopped
            }
            Input::Reset(notification) => self.over(core, now, DownReason::Reset(notification), out),
            Input::BfdDown => self.over(core, now, DownReason::BfdDown, out),
            Input::PathLost => self.over(core, now, DownReason::PathLost, out),
            // RFC 4724 §4.2: a neighbor that restarted may be back before the old connection is known to be dead. While
            // the session is young, it is the neighbor's half of a collision instead.
            Input::Connected(connection, Direction::Incoming)
                if self.terms.restart.is_some() && now.saturating_duration_since(self.since) >= COLLISION_WINDOW =>
            {
                if let Some(old) = self.newcomer.replace(Newcomer { connection, give_up_at: now + OPEN_WAIT }) {
                    out.push(Output::HangUp(old.connection)); // the neighbor gave that one up, or it would not dial
                }
                State::Established(self)
            }
            Input::Connected(connection, _) => {
                self.refuse(connection, out);
                State::Established(self)
            }
            Input::Received(connection, message) if connection == self.connection => {
                self.receive(core, now, message, out)
            }
            Input::Received(connection, message) => match (self.take_newcomer(connection), message) {
                (Some(newcomer), Message::Open(open)) => self.newcomer_spoke(core, now, newcomer, open, out),
                (Some(_), _) => {
                    out.push(Output::HangUp(connection));
                    State::Established(self)
                }
                (None, _) => State::Established(self),
            },
            Input::Malformed(connection, error) if connection == self.connection => {
                self.over(core, now, DownReason::Malformed(error), out)
            }
            Input::Malformed(connection, error) => {
                if self.take_newcomer(connection).is_some() {
                    close(connection, error.notification(), out);
                }
                State::Established(self)
            }
            Input::Backlog(connection) => {
                if connection == self.connection {
                    self.heard(now);
                }
                State::Established(self)
            }
            Input::Written(connection) => {
                if connection == self.connection {
                    self.written(now);
                }
                State::Established(self)
            }
            Input::Lost(connection) if connection == self.connection => {
                self.over(core, now, DownReason::TransportLost, out)
            }
            Input::Lost(connection) => {
                if self.take_newcomer(connection).is_some() {
                    out.push(Output::HangUp(connection));
                }
                State::Established(self)
            }
            Input::Timeout => self.expire(core, now, out),
        }
    }

    fn receive(mut self: Box<Self>, core: &mut Core, now: Instant, message: Message, out: &mut Vec<Output>) -> State {
        self.heard(now);
        match message {
            Message::Update(update) => out.push(Output::Routes(update)),
            Message::Keepalive => {}
            // RFC 2918 §4: ignored where it was not negotiated.
            Message::RouteRefresh(refresh) if self.terms.route_refresh => out.push(Output::Refresh(refresh)),
            Message::RouteRefresh(_) => {}
            Message::Notification(notification) => {
                return self.over(core, now, DownReason::Received(notification), out);
            }
            Message::Open(_) => {
                let reason = DownReason::Unexpected { phase: Phase::Established, message: MessageType::Open };
                return self.over(core, now, reason, out);
            }
        }
        State::Established(self)
    }

    fn take_newcomer(&mut self, connection: ConnectionId) -> Option<Newcomer> {
        self.newcomer.take_if(|newcomer| newcomer.connection == connection)
    }

    /// RFC 4271 §6.8: the session stays. If the neighbor no longer knows it, the KEEPALIVE brings its TCP to say so.
    fn refuse(&self, connection: ConnectionId, out: &mut Vec<Output>) {
        close(connection, Some(Notification::cease(CeaseCode::CollisionResolution)), out);
        out.push(Output::Send(self.connection, Outgoing::Keepalive));
    }

    /// An OPEN that says that the neighbor has restarted ends the old session; its routes are kept (RFC 4724 §4.2).
    fn newcomer_spoke(
        mut self: Box<Self>,
        core: &mut Core,
        now: Instant,
        newcomer: Newcomer,
        open: Open,
        out: &mut Vec<Output>,
    ) -> State {
        if !open.graceful_restart().is_some_and(|restart| restart.restarting) {
            self.refuse(newcomer.connection, out);
            return State::Established(self);
        }
        self.end(core, now, DownReason::Reconnected, out);
        let state = State::Seeking(Seeking::start(core, now, Some(newcomer.connection), out));
        state.step(core, now, Input::Received(newcomer.connection, Message::Open(open)), out)
    }

    pub(super) fn expire(mut self: Box<Self>, core: &mut Core, now: Instant, out: &mut Vec<Output>) -> State {
        if self.pulse.as_ref().is_some_and(|pulse| pulse.is_expired(now)) {
            return self.over(core, now, DownReason::HoldExpired, out);
        }
        if self.send_hold_at.is_some_and(|at| now >= at) {
            return self.over(core, now, DownReason::SendHoldExpired, out);
        }
        if self.pulse.as_mut().is_some_and(|pulse| pulse.keepalive_due(now, &mut *core.rng)) {
            out.push(Output::Send(self.connection, Outgoing::Keepalive));
        }
        if let Some(silent) = self.newcomer.take_if(|newcomer| now >= newcomer.give_up_at) {
            out.push(Output::HangUp(silent.connection));
        }
        State::Established(self)
    }

    /// How to go without the neighbor dropping our routes, if it agreed to keep them.
    fn farewell(&self) -> DownReason {
        let kept = self.terms.local_open.graceful_restart().is_some_and(|restart| !restart.families.is_empty());
        match &self.terms.restart {
            Some(restart) if kept && restart.notification => {
                DownReason::Stopped(Notification::cease(CeaseCode::AdministrativeReset)) // RFC 8538 §4: no hard reset
            }
            Some(_) if kept => DownReason::Left, // RFC 4724 §4.2: any NOTIFICATION would be the end
            Some(restart) if restart.notification => {
                DownReason::Stopped(Notification::cease(CeaseCode::AdministrativeShutdown).into_hard_reset())
            }
            _ => DownReason::Stopped(Notification::cease(CeaseCode::AdministrativeShutdown)),
        }
    }

    /// Ends the session and rests.
    fn over(&mut self, core: &mut Core, now: Instant, reason: DownReason, out: &mut Vec<Output>) -> State {
        self.end(core, now, reason, out);
        State::rest(core, now)
    }

    /// Ends the session. That it is down comes first: traffic moves before the neighbor is told.
    fn end(&mut self, core: &mut Core, now: Instant, reason: DownReason, out: &mut Vec<Output>) {
        if now.saturating_duration_since(self.since) >= STABLE || reason.is_ordered() {
            core.backoff.reset();
        }
        let (notification, retain) = (reason.notification(), reason.retain(&self.terms));
        out.push(Output::Down(reason, retain));
        close(self.connection, notification, out);
        if let Some(newcomer) = self.newcomer.take() {
            out.push(Output::HangUp(newcomer.connection));
        }
    }
}
