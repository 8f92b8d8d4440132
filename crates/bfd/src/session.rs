//! One session: state machine, timers, poll sequences (RFC 5880 §6).
//!
//! Deadlines are absolute and nothing here reads a clock. Times on the wire are in microseconds; [`Config`] is held to
//! what they can express.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use rand::RngCore;

use crate::{Diagnostic, PACKET_LEN, Packet, State};

/// The interval while a session is not Up (RFC 5880 §6.8.3: not less than one second).
const SLOW: Duration = Duration::from_secs(1);

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
        }
    }
}

impl Config {
    /// The nearest that can be said on the wire.
    fn checked(self) -> Self {
        let (least, most) = (Duration::from_micros(1), Duration::from_micros(u32::MAX.into()));
        Self {
            desired_min_tx: self.desired_min_tx.clamp(least, most),
            required_min_rx: self.required_min_rx.clamp(least, most),
            detect_multiplier: self.detect_multiplier.max(1),
            passive: self.passive,
            required_min_echo_rx: self.required_min_echo_rx.min(most),
        }
    }
}

/// What happens to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// A packet that [`Demux`](crate::Demux) found to be for it.
    Received(&'a Packet),
    /// It is time, or not yet.
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
    /// The peer's session went down.
    NeighborDown,
    /// The peer's session is held down by its configuration. This says nothing about the path (RFC 5882 §3.2).
    NeighborAdminDown,
    /// Ours is, or no longer.
    Administrative,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Handshake => "handshake",
            Self::DetectionTimeExpired => "control detection time expired",
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
    /// Times that it came up.
    pub ups: u64,
    /// Times that it left Up.
    pub downs: u64,
}

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
#[derive(Debug)]
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
        Self {
            config: config.checked(),
            local_discriminator,
            state: State::Down,
            diagnostic: Diagnostic::None,
            remote: None,
            told: None,
            polling: None,
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
            Some(polling) => polling.rx.max(self.config.required_min_rx),
            None => self.config.required_min_rx,
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

    fn desired_min_tx(&self) -> Duration {
        if self.state == State::Up { self.config.desired_min_tx } else { self.config.desired_min_tx.max(SLOW) }
    }

    /// When to call back with [`Input::Timeout`]; `None` while nothing is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.send_at, self.detect_at()].into_iter().flatten().min()
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
            Input::Timeout => self.expire(now, random, &mut out),
            Input::Stalled(late) => {
                if let Some(remote) = &mut self.remote {
                    remote.excused = remote.excused.saturating_add(late);
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
        if packet.poll {
            // At once, and without regard to the interval (RFC 5880 §6.8.7).
            self.send(true, out);
        }
        if !sent && self.transmit_interval() != before {
            // The peer wants another interval: the very next packet goes by it.
            self.schedule(now, random);
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
        }
        if to == State::Up {
            self.statistics.ups += 1;
            self.diagnostic = Diagnostic::None;
            // Faster from here on, which the peer has to confirm (RFC 5880 §6.8.3).
            self.polling = Some(Polling { tx: SLOW, rx: self.config.required_min_rx });
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
        if self.send_at.is_some_and(|at| at <= now) {
            if self.transmit_interval().is_some() {
                self.send(false, out);
            }
            self.schedule(now, random);
        }
    }

    fn reconfigure(&mut self, now: Instant, config: Config, random: &mut dyn RngCore, out: &mut Vec<Output>) {
        let before = std::mem::replace(&mut self.config, config);
        if before == config {
            return;
        }
        let intervals = |config: &Config| (config.desired_min_tx, config.required_min_rx);
        if self.state == State::Up && intervals(&before) != intervals(&config) {
            let held = self.polling.unwrap_or(Polling { tx: before.desired_min_tx, rx: before.required_min_rx });
            self.polling = Some(held);
        }
        if self.transmit_interval().is_some() {
            self.send(false, out);
        }
        self.schedule(now, random);
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
            required_min_rx: self.config.required_min_rx,
            required_min_echo_rx: self.config.required_min_echo_rx,
        };
        out.push(Output::Send(packet.emit()));
    }

    /// The next packet goes out after the interval less up to a quarter (RFC 5880 §6.8.7); with a multiplier of 1,
    /// less at least a tenth, lest a single late packet end the session.
    fn schedule(&mut self, now: Instant, random: &mut dyn RngCore) {
        self.send_at = self.transmit_interval().map(|interval| {
            let (least, most) = if self.config.detect_multiplier == 1 { (75, 90) } else { (75, 100) };
            let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
            let spread = nanos / 100 * (most - least);
            let drawn = if spread == 0 { 0 } else { random.next_u64() % spread };
            now + Duration::from_nanos(nanos / 100 * least + drawn).max(Duration::from_nanos(1))
        });
    }
}

#[cfg(test)]
mod tests;
