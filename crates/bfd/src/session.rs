//! One session: state machine, timers, poll sequences (RFC 5880 §6).
//!
//! Deadlines are absolute and nothing here reads a clock. Times on the wire are in microseconds; [`Config`] is held to
//! what they can express.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use rand::RngCore;

mod terms;

pub use terms::{Cause, Config, Input, Output, Statistics};

use crate::{Diagnostic, EchoPacket, Packet, RoundTrip, State, adapt::Jitter, echo::Echo};

/// The interval while a session is not Up (RFC 5880 §6.8.3: not less than one second).
const SLOW: Duration = Duration::from_secs(1);

/// A packet that comes within so many detection times of the last one shows that the path was not dead but late.
const OVERDUE: u32 = 4;

/// What the peer last said (RFC 5880 §6.8.1).
#[derive(Clone, Copy, Debug)]
struct Remote {
    discriminator: NonZeroU32,
    state: State,
    diagnostic: Diagnostic,
    demand: bool,
    detect_multiplier: u8,
    desired_min_tx: Duration,
    required_min_rx: Duration,
    required_min_echo_rx: Duration,
    control_plane_independent: bool,
    heard_at: Instant,
    /// By how much detection was put off since.
    excused: Duration,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    config: Config,
    local_discriminator: NonZeroU32,
    state: State,
    diagnostic: Diagnostic,
    /// `None` until the peer is heard, and again when it has not been for the detection time.
    remote: Option<Remote>,
    /// The same as last heard, however long ago: for people.
    told: Option<Remote>,
    /// A poll sequence is under way: the intervals as they were before it (RFC 5880 §6.8.3).
    polling: Option<Polling>,
    /// While both ends are Up and Echo packets are sent.
    echo: Option<Echo>,
    round_trip: Option<RoundTrip>,
    /// Where intervals are to adapt.
    jitter: Option<Jitter>,
    send_at: Option<Instant>,
    since: Instant,
    statistics: Statistics,
}

/// What holds until the peer has confirmed new intervals.
#[derive(Clone, Copy, Debug)]
struct Polling {
    /// A longer sending interval must not start before.
    tx: Duration,
    /// A shorter receiving interval must not count for detection before.
    rx: Duration,
}

impl Session {
    /// A session that starts out Down, and sends its first packet at the first timeout.
    pub fn new(now: Instant, local_discriminator: NonZeroU32, config: Config) -> Self {
        let config = config.checked();
        Self {
            config,
            local_discriminator,
            state: State::Down,
            diagnostic: Diagnostic::None,
            remote: None,
            told: None,
            polling: None,
            echo: None,
            round_trip: None,
            jitter: jitter(now, None, &config),
            send_at: (!config.passive).then_some(now),
            since: now,
            statistics: Statistics::default(),
        }
    }

    /// Where the session is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Why it last left Up.
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// What the peer says about its own side.
    pub fn remote_diagnostic(&self) -> Diagnostic {
        self.remote.map_or(Diagnostic::None, |remote| remote.diagnostic)
    }

    /// Both names of the session; the peer's, while it is heard.
    pub fn discriminators(&self) -> (NonZeroU32, Option<NonZeroU32>) {
        (self.local_discriminator, self.remote.map(|remote| remote.discriminator))
    }

    /// What was configured.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How often the peer reflects Echo packets, as last heard; zero for not at all.
    pub fn remote_echo(&self) -> Duration {
        self.told.map_or(Duration::ZERO, |remote| remote.required_min_echo_rx)
    }

    /// How often Echo packets are sent; zero while they are not.
    pub fn echo_interval(&self) -> Duration {
        self.echo.as_ref().map_or(Duration::ZERO, |echo| echo.interval)
    }

    /// Whether Echo packets come back, so that it is their silence that ends the session.
    pub fn echo_is_heard(&self) -> bool {
        self.echo.as_ref().is_some_and(Echo::is_heard)
    }

    /// How long Echo packets took to come back, over the life of the session.
    pub fn round_trip(&self) -> Option<RoundTrip> {
        self.round_trip
    }

    /// By how much the latest control packet of the last half to whole minute came after its interval; `None` where intervals
    /// do not adapt, and nobody measures.
    pub fn jitter(&self) -> Option<Duration> {
        self.jitter.as_ref().map(Jitter::worst)
    }

    /// What the peer is told that we can receive now.
    pub fn required_min_rx(&self) -> Duration {
        let least = if self.echo_is_heard() { SLOW } else { Duration::ZERO };
        self.config.required_min_rx.max(least).max(self.adapted())
    }

    /// The interval that the path's jitter asks for; zero where intervals do not adapt.
    fn adapted(&self) -> Duration {
        self.jitter.as_ref().map_or(Duration::ZERO, Jitter::interval)
    }

    /// Whether the peer's BFD goes on while its control plane restarts (C bit, RFC 5882 §4.3), as last heard.
    pub fn remote_is_independent(&self) -> bool {
        self.told.is_some_and(|remote| remote.control_plane_independent)
    }

    /// What the peer wants to send, can receive, and its multiplier, as last heard.
    pub fn remote_timers(&self) -> Option<(Duration, Duration, u8)> {
        self.told.map(|remote| (remote.desired_min_tx, remote.required_min_rx, remote.detect_multiplier))
    }

    /// Counts.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// How long the peer may be silent (RFC 5880 §6.8.4): its multiplier, times the interval that it sends at.
    pub fn detection_time(&self) -> Option<Duration> {
        let remote = self.remote?;
        let ours = match self.polling {
            Some(polling) => polling.rx.max(self.required_min_rx()),
            None => self.required_min_rx(),
        };
        Some(ours.max(remote.desired_min_tx) * u32::from(remote.detect_multiplier))
    }

    /// The interval between packets, before jitter; `None` when none are to be sent periodically (RFC 5880 §6.8.7).
    pub fn transmit_interval(&self) -> Option<Duration> {
        let Some(remote) = self.remote else {
            return (!self.config.passive || self.state == State::AdminDown).then(|| self.desired_min_tx());
        };
        if remote.required_min_rx.is_zero() {
            return None;
        }
        let both_up = self.state == State::Up && remote.state == State::Up;
        if remote.demand && both_up && self.polling.is_none() {
            return None;
        }
        let ours = match self.polling {
            Some(polling) => polling.tx.min(self.desired_min_tx()),
            None => self.desired_min_tx(),
        };
        Some(ours.max(remote.required_min_rx))
    }

    /// What the peer is told that we want to send.
    fn desired_min_tx(&self) -> Duration {
        let wanted = self.config.desired_min_tx.max(self.adapted());
        if self.state == State::Up { wanted } else { wanted.max(SLOW) }
    }

    /// When to call back with [`Input::Timeout`]; `None` while nothing is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let echo_at = self.echo.as_ref().map(|echo| echo.send_at);
        [self.send_at, self.detect_at(), echo_at, self.echo_detect_at()].into_iter().flatten().min()
    }

    fn echo_detect_at(&self) -> Option<Instant> {
        self.echo.as_ref()?.detect_at(self.config.detect_multiplier)
    }

    fn detect_at(&self) -> Option<Instant> {
        let remote = self.remote?;
        let detection_time = self.detection_time()?;
        Some(remote.heard_at + detection_time + remote.excused.min(detection_time))
    }

    /// Takes what happened and says what to do about it. `random` spreads the sending times.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>, random: &mut dyn RngCore) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Received(packet) => self.received(now, packet, random, &mut out),
            Input::Returned(packet) => self.returned(now, packet, random, &mut out),
            Input::Timeout => self.expire(now, random, &mut out),
            Input::Stalled(late) => {
                if let Some(remote) = &mut self.remote {
                    remote.excused = remote.excused.saturating_add(late);
                }
                if let Some(echo) = &mut self.echo {
                    echo.excuse(late);
                }
            }
            Input::AdminDown(true) if self.state != State::AdminDown => {
                self.diagnostic = Diagnostic::AdministrativelyDown; // RFC 5880 §6.8.16
                self.enter(now, State::AdminDown, Cause::Administrative, random, &mut out);
            }
            Input::AdminDown(false) if self.state == State::AdminDown => {
                self.diagnostic = Diagnostic::None;
                self.enter(now, State::Down, Cause::Administrative, random, &mut out);
            }
            Input::AdminDown(_) => {}
            Input::Reconfigure(config) => self.reconfigure(now, config.checked(), random, &mut out),
        }
        out
    }

    /// RFC 5880 §6.8.6, from where the packet has been found to be well-formed and ours.
    fn received(&mut self, now: Instant, packet: &Packet, random: &mut dyn RngCore, out: &mut Vec<Output>) {
        if packet.authenticated {
            self.statistics.discarded += 1;
            return;
        }
        self.statistics.received += 1;
        let told = self.intervals();
        self.measure(now, packet);
        let before = self.transmit_interval();
        self.remote = Some(Remote {
            discriminator: packet.my_discriminator,
            state: packet.state,
            diagnostic: packet.diagnostic,
            demand: packet.demand,
            detect_multiplier: packet.detect_multiplier,
            desired_min_tx: packet.desired_min_tx,
            required_min_rx: packet.required_min_rx,
            required_min_echo_rx: packet.required_min_echo_rx,
            control_plane_independent: packet.control_plane_independent,
            heard_at: now,
            excused: Duration::ZERO,
        });
        self.told = self.remote;
        if packet.r#final {
            self.polling = None;
        }
        if self.state == State::AdminDown {
            return;
        }
        let sent = self.step(now, packet, random, out);
        self.tend_echo(now);
        if !sent {
            self.announce(now, told, random, out);
        }
        if packet.poll {
            // At once, and without regard to the interval (RFC 5880 §6.8.7).
            self.send(true, out);
        }
        if !sent && self.transmit_interval() != before {
            // The peer wants another interval: the very next packet goes by it.
            self.schedule(now, random);
        }
    }

    /// What the packet says of the path's jitter, where that is asked for.
    fn measure(&mut self, now: Instant, packet: &Packet) {
        let Some(jitter) = &mut self.jitter else { return };
        let Some(last) = self.told.filter(|last| last.state == State::Up && !last.demand) else { return };
        let interval = self.config.required_min_rx.max(jitter.interval()).max(last.desired_min_tx);
        let gap = now.saturating_duration_since(last.heard_at).saturating_sub(last.excused);
        // The packet that ended the session, or would have: if it comes this soon it was late, and the path not dead.
        let overdue = self.state == State::Down
            && self.remote.is_none()
            && self.diagnostic == Diagnostic::DetectionTimeExpired
            && gap <= interval * u32::from(last.detect_multiplier) * OVERDUE;
        // During a poll the peer's interval is not settled, and while Echo packets come back it is a slow one.
        let regular = self.state == State::Up
            && packet.state == State::Up
            && self.polling.is_none()
            && !self.echo.as_ref().is_some_and(Echo::is_heard);
        if overdue || regular {
            jitter.arrived(now, gap.saturating_sub(interval), last.detect_multiplier);
        }
    }

    fn returned(&mut self, now: Instant, packet: EchoPacket, random: &mut dyn RngCore, out: &mut Vec<Output>) {
        let told = self.intervals();
        if packet.discriminator == self.local_discriminator
            && let Some(taken) = self.echo.as_mut().and_then(|echo| echo.returned(now, packet.nonce))
        {
            self.statistics.echo_received += 1;
            self.round_trip = Some(RoundTrip::with(self.round_trip, taken));
            self.announce(now, told, random, out);
        }
    }

    /// Echo packets are sent while both ends are Up, and no more often than the peer reflects them (RFC 5880 §6.8.9).
    fn tend_echo(&mut self, now: Instant) {
        let reflects = self.remote.filter(|remote| self.state == State::Up && remote.state == State::Up);
        let reflects = reflects.map_or(Duration::ZERO, |remote| remote.required_min_echo_rx);
        if reflects.is_zero() || self.config.desired_min_echo_tx.is_zero() {
            self.echo = None;
            return;
        }
        let interval = reflects.max(self.config.desired_min_echo_tx);
        if self.echo_interval() != interval {
            self.echo = Some(Echo::new(now, interval));
        }
    }

    /// The state machine proper; true when it sent something.
    fn step(&mut self, now: Instant, packet: &Packet, random: &mut dyn RngCore, out: &mut Vec<Output>) -> bool {
        let (to, cause) = match (self.state, packet.state) {
            (State::Init | State::Up, State::AdminDown) => (State::Down, Cause::NeighborAdminDown),
            (State::Down, State::Down) => (State::Init, Cause::Handshake),
            (State::Down, State::Init) => (State::Up, Cause::Handshake),
            (State::Init, State::Init | State::Up) => (State::Up, Cause::Handshake),
            (State::Up, State::Down) => (State::Down, Cause::NeighborDown),
            (State::Down, State::AdminDown | State::Up)
            | (State::Init, State::Down)
            | (State::Up, State::Init | State::Up)
            | (State::AdminDown, _) => return false,
        };
        if to == State::Down {
            self.diagnostic = Diagnostic::NeighborSignaledDown;
        }
        self.enter(now, to, cause, random, out);
        true
    }

    fn enter(&mut self, now: Instant, to: State, cause: Cause, random: &mut dyn RngCore, out: &mut Vec<Output>) {
        let from = std::mem::replace(&mut self.state, to);
        self.since = now;
        // Telling first: whoever listens moves traffic, and that is what all this is for.
        out.push(Output::Changed { from, to, cause });
        if from == State::Up {
            self.statistics.downs += 1;
            self.polling = None;
            self.echo = None;
        }
        if to == State::Up {
            self.statistics.ups += 1;
            self.diagnostic = Diagnostic::None;
            // Faster from here on, which the peer has to confirm (RFC 5880 §6.8.3).
            self.polling = Some(Polling { tx: SLOW, rx: self.required_min_rx() });
        }
        // The peer should not have to wait for the next regular packet to learn of it.
        if self.transmit_interval().is_some() {
            self.send(false, out);
        }
        self.schedule(now, random);
    }

    fn expire(&mut self, now: Instant, random: &mut dyn RngCore, out: &mut Vec<Output>) {
        if self.detect_at().is_some_and(|at| at <= now) {
            // RFC 5880 §6.8.1: who is not heard for the detection time is not known any more.
            self.remote = None;
            if matches!(self.state, State::Init | State::Up) {
                self.diagnostic = Diagnostic::DetectionTimeExpired; // §6.8.4
                self.enter(now, State::Down, Cause::DetectionTimeExpired, random, out);
                return;
            }
            if self.transmit_interval().is_none() {
                self.send_at = None;
            }
        }
        if self.echo_detect_at().is_some_and(|at| at <= now) {
            self.diagnostic = Diagnostic::EchoFailed; // §6.8.5
            self.enter(now, State::Down, Cause::EchoFailed, random, out);
            return;
        }
        if let Some(echo) = self.echo.as_mut().filter(|echo| echo.send_at <= now + early(echo.interval)) {
            let packet = EchoPacket { discriminator: self.local_discriminator, nonce: random.next_u64() };
            echo.sends(now, packet.nonce);
            echo.send_at = now + jittered(echo.interval, self.config.detect_multiplier, random);
            self.statistics.echo_sent += 1;
            out.push(Output::SendEcho(packet.emit()));
        }
        let soon = self.transmit_interval().map_or(now, |interval| now + early(interval));
        if self.send_at.is_some_and(|at| at <= soon) {
            if self.transmit_interval().is_some() {
                self.send(false, out);
            }
            self.schedule(now, random);
        }
    }

    fn reconfigure(&mut self, now: Instant, config: Config, random: &mut dyn RngCore, out: &mut Vec<Output>) {
        let told = self.intervals();
        let before = std::mem::replace(&mut self.config, config);
        if before == config {
            return;
        }
        self.jitter = jitter(now, self.jitter.take(), &config);
        self.tend_echo(now);
        self.hold(told);
        if self.transmit_interval().is_some() {
            self.send(false, out);
        }
        self.schedule(now, random);
    }

    /// What the peer is told: how often we want to send, and can receive.
    fn intervals(&self) -> (Duration, Duration) {
        (self.desired_min_tx(), self.required_min_rx())
    }

    /// Tells the peer of intervals that are not those that it was `told`.
    fn announce(&mut self, now: Instant, told: (Duration, Duration), random: &mut dyn RngCore, out: &mut Vec<Output>) {
        if self.hold(told) {
            self.send(false, out);
            self.schedule(now, random);
        }
    }

    /// Keeps to the intervals that the peer was `told` until it has confirmed the others (RFC 5880 §6.8.3); whether there are
    /// others.
    fn hold(&mut self, told: (Duration, Duration)) -> bool {
        let (tx, rx) = told;
        let differs = self.state == State::Up && told != self.intervals();
        if differs {
            self.polling.get_or_insert(Polling { tx, rx });
        }
        differs
    }

    fn send(&mut self, r#final: bool, out: &mut Vec<Output>) {
        self.statistics.sent += 1;
        let packet = Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            // A packet may not both ask and answer (RFC 5880 §6.5).
            poll: self.polling.is_some() && !r#final,
            r#final,
            control_plane_independent: false,
            authenticated: false,
            demand: false,
            detect_multiplier: self.config.detect_multiplier,
            my_discriminator: self.local_discriminator,
            your_discriminator: self.remote.map(|remote| remote.discriminator),
            desired_min_tx: self.desired_min_tx(),
            required_min_rx: self.required_min_rx(),
            required_min_echo_rx: self.config.required_min_echo_rx,
        };
        out.push(Output::Send(packet.emit()));
    }

    fn schedule(&mut self, now: Instant, random: &mut dyn RngCore) {
        let multiplier = self.config.detect_multiplier;
        self.send_at = self.transmit_interval().map(|interval| now + jittered(interval, multiplier, random));
    }
}

/// A packet may leave so much before its time, so that the owner of many sessions sends for several of them when it wakes for
/// one.
fn early(interval: Duration) -> Duration {
    interval / 20
}

/// The next packet goes out after the interval less up to a quarter (RFC 5880 §6.8.7), of which a twentieth is left to
/// [`early`]; with a multiplier of 1, less at least a tenth, lest a single late packet end the session.
fn jittered(interval: Duration, multiplier: u8, random: &mut dyn RngCore) -> Duration {
    let (least, most) = if multiplier == 1 { (80, 90) } else { (80, 100) };
    let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    let spread = nanos / 100 * (most - least);
    let drawn = if spread == 0 { 0 } else { random.next_u64() % spread };
    Duration::from_nanos(nanos / 100 * least + drawn).max(Duration::from_nanos(1))
}

/// The measurement that `config` asks for, which goes on where there was one.
fn jitter(now: Instant, before: Option<Jitter>, config: &Config) -> Option<Jitter> {
    if config.adapt_up_to.is_zero() {
        return None;
    }
    let mut jitter = before.unwrap_or_else(|| Jitter::new(now, config.adapt_up_to));
    jitter.bound(config.adapt_up_to);
    Some(jitter)
}

#[cfg(test)]
mod tests;
