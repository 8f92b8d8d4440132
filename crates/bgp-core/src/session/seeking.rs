//! Connect, Active, OpenSent and OpenConfirm, of up to two connections at once (RFC 4271 §8.2.2, §6.8).

use std::time::{Duration, Instant};

use bgp_wire::{
    Message, Notification,
    notification::{CeaseCode, NotificationCode},
};

use super::{
    ConnectionId, Direction, DownReason, Input, Output, Phase,
    established::Established,
    opening::{Opening, close},
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
            Input::BfdDown | Input::PathLost | Input::Leave => State::Seeking(self),
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
            Input::Received(connection, message) => {
                let Some((opening, direction)) = self.take(core, now, connection) else { return State::Seeking(self) };
                // Routes say that the neighbor holds this session for established, whatever else there is.
                if opening.is_confirmed() && matches!(message, Message::Update(_) | Message::RouteRefresh(_)) {
                    let state = self.complete(opening, now, out);
                    return state.step(core, now, Input::Received(connection, message), out);
                }
                match opening.receive(core, now, message, out) {
                    Ok(opening) => {
                        self.put(opening, direction);
                        self.settle(core, now, out)
                    }
                    Err(reason) => self.failed(core, now, reason, out),
                }
            }
            Input::Malformed(connection, error) => {
                let Some((opening, _)) = self.take(core, now, connection) else { return State::Seeking(self) };
                let reason = opening.fail(DownReason::Malformed(error), out);
                self.failed(core, now, reason, out)
            }
            Input::Lost(connection) => {
                // RFC 4271 §8.2.2, event 18: back to Active, without a rest.
                if self.take(core, now, connection).is_some() {
                    out.push(Output::HangUp(connection));
                    out.push(Output::AttemptFailed(DownReason::TransportLost));
                }
                self.settle(core, now, out)
            }
            Input::Timeout => self.expire(core, now, out),
        }
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

    /// One opening is over; the session goes on with the other one, if any.
    fn failed(self, core: &mut Core, now: Instant, reason: DownReason, out: &mut Vec<Output>) -> State {
        let lost_collision = matches!(&reason, DownReason::Received(notification)
            if notification.code() == NotificationCode::Cease(CeaseCode::CollisionResolution));
        out.push(Output::AttemptFailed(reason));
        if lost_collision || self.openings().next().is_some() {
            return self.settle(core, now, out);
        }
        self.abandon(None, out);
        State::rest(core, now)
    }

    /// Resolves a collision as far as both sides are sure to agree, and lets a confirmed connection become the session.
    ///
    /// Of two connections the one that the speaker with the greater identifier opened stays (RFC 4271 §6.8); between
    /// equal ones the greater AS decides (RFC 6286 §2.3). A confirmed connection that would lose waits for the other
    /// one: the neighbor may be closing it this moment, and a session that is taken for established would fall.
    fn settle(mut self, core: &mut Core, now: Instant, out: &mut Vec<Output>) -> State {
        let Some(peer) = self.openings().find_map(Opening::terms).map(|terms| &terms.peer_open) else {
            return State::Seeking(self);
        };
        let ours = (core.config.router_id, core.config.local_asn);
        let (winner, loser) = if ours > (peer.router_id, peer.asn) {
            (Direction::Outgoing, Direction::Incoming)
        } else {
            (Direction::Incoming, Direction::Outgoing)
        };
        let agreed = |direction| self.opening(direction).is_some_and(|opening| opening.terms().is_some());
        if agreed(winner)
            && agreed(loser)
            && let Some(opening) = self.vacate(core, now, loser)
        {
            close(opening.connection, Some(Notification::cease(CeaseCode::CollisionResolution)), out);
        }
        let confirmed = |direction| self.opening(direction).is_some_and(Opening::is_confirmed);
        let ready = if confirmed(winner) {
            self.vacate(core, now, winner)
        } else if confirmed(loser) && self.opening(winner).is_none() {
            self.vacate(core, now, loser)
        } else {
            None
        };
        match ready {
            Some(opening) => self.complete(opening, now, out),
            None => State::Seeking(self),
        }
    }

    /// The session is established on `opening`, which was taken out of its place.
    fn complete(self, opening: Opening, now: Instant, out: &mut Vec<Output>) -> State {
        let connection = opening.connection;
        // RFC 4271 §6.8: what is left collides with an established session.
        self.abandon(Some(&Notification::cease(CeaseCode::CollisionResolution)), out);
        match opening.into_agreed() {
            Some((terms, pulse)) => State::Established(Established::start(connection, terms, pulse, now, out)),
            None => State::Stopped, // not reached: only confirmed openings come here, and those have agreed
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
                Ok(opening) => self.put(opening, direction),
                Err(reason) => match self.failed(core, now, reason, out) {
                    State::Seeking(rest) => self = rest,
                    // The other connection was ready and is the session now; its keepalive may be due.
                    State::Established(session) => return session.expire(core, now, out),
                    over => return over,
                },
            }
        }
        State::Seeking(self)
    }
}
