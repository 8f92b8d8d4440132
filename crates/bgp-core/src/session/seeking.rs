//! Connect, Active, OpenSent and OpenConfirm, of up to two connections at once (RFC 4271 §8.2.2, §6.8).

use std::time::{Duration, Instant};

use bgp_wire::{
    Notification,
    notification::{CeaseCode, NotificationCode},
};

use super::{
    ConnectionId, Direction, DownReason, Input, Output, Phase,
    established::Established,
    opening::{Opening, Progress, close},
    pulse::jitter,
    state::{Core, State},
};

/// On the way to a session.
pub(super) struct Seeking {
    dial: Dial,
    incoming: Option<Opening>,
}

/// What our own attempt to connect is at.
enum Dial {
    /// There is none: the neighbor has to connect.
    Passive,
    /// Active: between two attempts.
    Waiting { retry_at: Instant },
    /// Connect.
    Dialing { give_up_at: Instant },
    /// The connection is there.
    Open(Opening),
}

impl Dial {
    fn start(core: &mut Core, now: Instant, out: &mut Vec<Output>) -> Self {
        if core.config.passive {
            return Self::Passive;
        }
        out.push(Output::Dial);
        Self::Dialing { give_up_at: now + retry(core) }
    }

    fn wait(core: &mut Core, now: Instant) -> Self {
        if core.config.passive { Self::Passive } else { Self::Waiting { retry_at: now + retry(core) } }
    }
}

/// ConnectRetryTime with jitter (RFC 4271 §10); never zero, or the daemon would spin.
fn retry(core: &mut Core) -> Duration {
    jitter(core.config.connect_retry.max(Duration::from_secs(1)), &mut *core.rng)
}

impl Seeking {
    /// Begins to connect, beside a connection that the neighbor has opened already.
    pub(super) fn start(core: &mut Core, now: Instant, accepted: Option<ConnectionId>, out: &mut Vec<Output>) -> Self {
        let incoming = accepted.map(|connection| Opening::start(core, connection, now, out));
        // With a connection at hand a second one would only collide.
        let dial = if incoming.is_some() { Dial::wait(core, now) } else { Dial::start(core, now, out) };
        Self { dial, incoming }
    }

    pub(super) fn openings(&self) -> impl Iterator<Item = &Opening> {
        [Direction::Outgoing, Direction::Incoming].into_iter().filter_map(|direction| self.opening(direction))
    }

    pub(super) fn phase(&self) -> Phase {
        let dial = match &self.dial {
            Dial::Passive | Dial::Waiting { .. } => Phase::Active,
            Dial::Dialing { .. } => Phase::Connect,
            Dial::Open(opening) => opening.phase(),
        };
        self.incoming.as_ref().map_or(dial, |opening| opening.phase().max(dial))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let dial = match &self.dial {
            Dial::Waiting { retry_at: at } | Dial::Dialing { give_up_at: at } => Some(*at),
            Dial::Passive | Dial::Open(_) => None,
        };
        self.openings().filter_map(Opening::deadline).chain(dial).min()
    }

    pub(super) fn step(mut self, core: &mut Core, now: Instant, input: Input, out: &mut Vec<Output>) -> State {
        match input {
            Input::Start | Input::Backlog(_) | Input::Written(_) => State::Seeking(self),
            Input::Stop(notification) => {
                self.abandon(Some(&notification), out);
                State::Stopped
            }
            Input::Reset(notification) => {
                self.abandon(Some(&notification), out);
                State::rest(core, now)
            }
            // Nothing is up yet that BFD could take down.
            Input::BfdDown => State::Seeking(self),
            Input::PathUp => {
                match self.dial {
                    Dial::Passive | Dial::Open(_) => {}
                    Dial::Waiting { .. } if self.incoming.is_some() => {}
                    Dial::Waiting { .. } => self.dial = Dial::start(core, now, out),
                    Dial::Dialing { .. } => {
                        out.push(Output::CancelDial); // its SYN went into the void; the next would come too late
                        self.dial = Dial::start(core, now, out);
                    }
                }
                State::Seeking(self)
            }
            Input::Connected(connection, Direction::Outgoing) => {
                match self.dial {
                    Dial::Dialing { .. } => self.dial = Dial::Open(Opening::start(core, connection, now, out)),
                    _ => out.push(Output::HangUp(connection)), // that dial was canceled
                }
                State::Seeking(self)
            }
            Input::Connected(connection, Direction::Incoming) => {
                if let Some(old) = self.incoming.take() {
                    // The neighbor gave that one up, or it would not dial again.
                    close(old.connection, Some(Notification::cease(CeaseCode::CollisionResolution)), out);
                }
                self.incoming = Some(Opening::start(core, connection, now, out));
                State::Seeking(self)
            }
            Input::DialFailed => {
                if matches!(self.dial, Dial::Dialing { .. }) {
                    self.dial = Dial::wait(core, now);
                }
                State::Seeking(self)
            }
            Input::Received(connection, message) => match self.take(core, now, connection) {
                Some((opening, direction)) => {
                    let progress = opening.receive(core, now, message, out);
                    self.proceed(core, now, direction, progress, out)
                }
                None => State::Seeking(self),
            },
            Input::Malformed(connection, error) => match self.take(core, now, connection) {
                Some((opening, direction)) => {
                    let progress = opening.fail(DownReason::Malformed(error), out);
                    self.proceed(core, now, direction, progress, out)
                }
                None => State::Seeking(self),
            },
            Input::Lost(connection) => {
                // RFC 4271 §8.2.2, event 18: back to Active, without a rest.
                if self.take(core, now, connection).is_some() {
                    out.push(Output::HangUp(connection));
                    out.push(Output::AttemptFailed(DownReason::TransportLost));
                }
                State::Seeking(self)
            }
            Input::Timeout => self.expire(core, now, out),
        }
    }

    /// Goes on with a connection that has replaced an established one (RFC 4724 §4.2).
    pub(super) fn resume(core: &mut Core, now: Instant, incoming: Opening) -> Self {
        Self { dial: Dial::wait(core, now), incoming: Some(incoming) }
    }

    /// Closes every connection and stops dialing.
    fn abandon(self, notification: Option<&Notification>, out: &mut Vec<Output>) {
        if matches!(self.dial, Dial::Dialing { .. }) {
            out.push(Output::CancelDial);
        }
        for opening in self.openings() {
            close(opening.connection, notification.cloned(), out);
        }
    }

    /// Takes the opening on `connection` out of its place.
    fn take(&mut self, core: &mut Core, now: Instant, connection: ConnectionId) -> Option<(Opening, Direction)> {
        [Direction::Outgoing, Direction::Incoming].into_iter().find_map(|direction| {
            let here = self.opening(direction).is_some_and(|opening| opening.connection == connection);
            let opening = if here { self.vacate(core, now, direction) } else { None };
            opening.map(|opening| (opening, direction))
        })
    }

    fn opening(&self, direction: Direction) -> Option<&Opening> {
        match (direction, &self.dial) {
            (Direction::Outgoing, Dial::Open(opening)) => Some(opening),
            (Direction::Outgoing, _) => None,
            (Direction::Incoming, _) => self.incoming.as_ref(),
        }
    }

    /// Takes the opening out of a place; ours is dialed again after a while.
    fn vacate(&mut self, core: &mut Core, now: Instant, direction: Direction) -> Option<Opening> {
        if direction == Direction::Incoming {
            return self.incoming.take();
        }
        self.opening(direction)?;
        match std::mem::replace(&mut self.dial, Dial::wait(core, now)) {
            Dial::Open(opening) => Some(opening),
            _ => None,
        }
    }

    fn put(&mut self, opening: Opening, direction: Direction) {
        match direction {
            Direction::Outgoing => self.dial = Dial::Open(opening),
            Direction::Incoming => self.incoming = Some(opening),
        }
    }

    /// Goes on after the opening that was in `direction`'s place has made a step.
    fn proceed(
        mut self,
        core: &mut Core,
        now: Instant,
        direction: Direction,
        progress: Progress,
        out: &mut Vec<Output>,
    ) -> State {
        match progress {
            Progress::Pending(opening) => {
                self.put(opening, direction);
                self.resolve_collision(core, now, out);
                State::Seeking(self)
            }
            Progress::Complete(connection, terms, pulse) => {
                // RFC 4271 §6.8: what is left collides with an established session.
                self.abandon(Some(&Notification::cease(CeaseCode::CollisionResolution)), out);
                State::Established(Established::start(connection, terms, pulse, now, out))
            }
            Progress::Failed(reason) => self.failed(core, now, reason, out),
        }
    }

    /// One opening is over; the session goes on with the other one, if any.
    fn failed(self, core: &mut Core, now: Instant, reason: DownReason, out: &mut Vec<Output>) -> State {
        let lost_collision = matches!(&reason, DownReason::Received(notification)
            if notification.code() == NotificationCode::Cease(CeaseCode::CollisionResolution));
        out.push(Output::AttemptFailed(reason));
        if lost_collision || self.openings().next().is_some() {
            return State::Seeking(self);
        }
        self.abandon(None, out);
        State::rest(core, now)
    }

    /// With both OPENs of both connections here, the one that the speaker with the greater identifier opened stays
    /// (RFC 4271 §6.8); between equal ones the greater AS decides (RFC 6286 §2.3).
    fn resolve_collision(&mut self, core: &mut Core, now: Instant, out: &mut Vec<Output>) {
        let (Dial::Open(outgoing), Some(incoming)) = (&self.dial, &self.incoming) else { return };
        let (Some(_), Some(peer)) = (outgoing.peer_open(), incoming.peer_open()) else { return };
        let ours = (core.config.router_id, core.config.local_asn);
        let loser = if ours > (peer.router_id, peer.asn) {
            self.incoming.take().map(|opening| opening.connection)
        } else {
            let connection = outgoing.connection;
            self.dial = Dial::wait(core, now);
            Some(connection)
        };
        if let Some(connection) = loser {
            close(connection, Some(Notification::cease(CeaseCode::CollisionResolution)), out);
        }
    }

    fn expire(mut self, core: &mut Core, now: Instant, out: &mut Vec<Output>) -> State {
        match self.dial {
            Dial::Waiting { retry_at } if now >= retry_at => {
                // A second connection would only collide with the one at hand.
                let start = if self.incoming.is_some() { Dial::wait(core, now) } else { Dial::start(core, now, out) };
                self.dial = start;
            }
            Dial::Dialing { give_up_at } if now >= give_up_at => {
                out.push(Output::CancelDial);
                self.dial = Dial::start(core, now, out); // RFC 4271 §8.2.2, Connect, event 9
            }
            _ => {}
        }
        for direction in [Direction::Outgoing, Direction::Incoming] {
            let Some(opening) = self.vacate(core, now, direction) else { continue };
            match opening.expire(core, now, out) {
                Progress::Failed(reason) => match self.failed(core, now, reason, out) {
                    State::Seeking(rest) => self = rest,
                    over => return over,
                },
                Progress::Pending(opening) => self.put(opening, direction),
                // Time alone confirms nothing; were it so, the session would be up.
                Progress::Complete(connection, terms, pulse) => {
                    return State::Established(Established::start(connection, terms, pulse, now, out));
                }
            }
        }
        State::Seeking(self)
    }
}
