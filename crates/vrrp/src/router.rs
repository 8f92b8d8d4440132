//! One virtual router as one of its routers sees it (RFC 9568 §6).
//!
//! Deadlines are absolute: the owner asks [`VirtualRouter::poll_timeout`] and comes back then.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    OWNER,
    packet::{Addresses, Advertisement, Interval, Vrid},
};

/// How a virtual router is set up here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its number.
    pub vrid: Vrid,
    /// What hosts use.
    pub addresses: Addresses,
    /// Who is preferred, 1 to 254; [`OWNER`] for whom the addresses belong to in any case (RFC 9568 §6.1).
    pub priority: u8,
    /// How often we advertise.
    pub interval: Interval,
    /// Whether a router with a lower priority is relieved.
    pub preempt: bool,
    /// How long after coming up, or after becoming ready, nobody is relieved.
    pub preempt_delay: Duration,
}

/// What this router is (RFC 9568 §6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its link is down, or it is shut down.
    Initialize,
    /// Another one is active, as far as it knows.
    Backup,
    /// It answers for the addresses.
    Active,
}

impl Role {
    /// As operators read it and metrics label it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Active => "active",
        }
    }
}

/// What the owner has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send it from the link's primary address.
    Send(Advertisement),
    /// Put the addresses on the link and tell everyone whose they are.
    TakeAddresses,
    /// Take the addresses off the link.
    GiveUpAddresses,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Initialize,
    Backup {
        /// Active_Adver_Interval.
        heard_every: Interval,
        /// Active_Down_Timer.
        down_at: Instant,
        /// Who is active, if one was heard.
        active: Option<(IpAddr, u8)>,
    },
    Active {
        /// Adver_Timer.
        advertise_at: Instant,
    },
}

/// A virtual router.
#[derive(Clone, Debug)]
pub struct VirtualRouter {
    config: Config,
    /// What is left of the configured priority.
    priority: u8,
    /// The link's own address that advertisements come from; it decides between equals.
    primary: Option<IpAddr>,
    /// Since when there is a place to forward to, if there is.
    ready_since: Option<Instant>,
    began: Option<Instant>,
    state: State,
}

impl VirtualRouter {
    /// One whose link is down.
    pub fn new(config: Config) -> Self {
        let priority = config.priority;
        Self { config, priority, primary: None, ready_since: None, began: None, state: State::Initialize }
    }

    /// How it is set up.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What it is now.
    pub fn role(&self) -> Role {
        match self.state {
            State::Initialize => Role::Initialize,
            State::Backup { .. } => Role::Backup,
            State::Active { .. } => Role::Active,
        }
    }

    /// Is set up otherwise from now on, for the same virtual router with the same addresses; others are told at once. What
    /// is left of the priority is the owner's to [say](Self::set_priority).
    pub fn reconfigure(&mut self, now: Instant, config: Config) -> Vec<Output> {
        debug_assert_eq!((config.vrid, &config.addresses), (self.config.vrid, &self.config.addresses));
        if config == self.config {
            return Vec::new();
        }
        self.priority = config.priority;
        self.config = config;
        match self.state {
            State::Active { .. } => self.advertise(now),
            _ => Vec::new(),
        }
    }

    /// What it tells others of itself now.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// Who else is active, and with which priority, as far as it has heard.
    pub fn active(&self) -> Option<(IpAddr, u8)> {
        match self.state {
            State::Backup { active, .. } => active,
            _ => None,
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Initialize => None,
            State::Backup { down_at, .. } => Some(down_at),
            State::Active { advertise_at } => Some(advertise_at),
        }
    }

    /// The link is up, with this address of its own (§6.4.1).
    pub fn start(&mut self, now: Instant, primary: IpAddr) -> Vec<Output> {
        self.primary = Some(primary);
        if !matches!(self.state, State::Initialize) {
            return Vec::new();
        }
        self.began = Some(now);
        if self.priority == OWNER {
            return self.become_active(now);
        }
        self.become_backup(now, self.config.interval, None);
        Vec::new()
    }

    /// The link is down, or the router is shut down (§6.4.2, §6.4.3).
    pub fn stop(&mut self) -> Vec<Output> {
        let was = std::mem::replace(&mut self.state, State::Initialize);
        match was {
            State::Active { .. } => vec![Output::Send(self.advertisement(0)), Output::GiveUpAddresses],
            State::Initialize | State::Backup { .. } => Vec::new(),
        }
    }

    /// What is left of the priority, for what it tracks: at least 1, and nothing for an owner. Others are told at once.
    pub fn set_priority(&mut self, now: Instant, priority: u8) -> Vec<Output> {
        let priority = if self.config.priority == OWNER { OWNER } else { priority.clamp(1, OWNER - 1) };
        if priority == self.priority {
            return Vec::new();
        }
        self.priority = priority;
        match self.state {
            State::Active { .. } => self.advertise(now),
            _ => Vec::new(), // the next advertisement of the active one decides
        }
    }

    /// Whether there is a place to forward to: until then nobody is relieved, but an empty place is taken.
    pub fn set_ready(&mut self, now: Instant, ready: bool) {
        match (ready, self.ready_since) {
            (true, None) => self.ready_since = Some(now),
            (false, Some(_)) => self.ready_since = None,
            _ => {}
        }
    }

    fn may_preempt(&self, now: Instant) -> bool {
        let since = |from: Option<Instant>| {
            from.is_some_and(|from| now.saturating_duration_since(from) >= self.config.preempt_delay)
        };
        self.config.preempt && since(self.began) && since(self.ready_since)
    }

    /// A timer has run out.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Output> {
        match self.state {
            State::Backup { down_at, .. } if now >= down_at => self.become_active(now),
            State::Active { advertise_at } if now >= advertise_at => self.advertise(now),
            _ => Vec::new(),
        }
    }

    /// An advertisement for this virtual router from another router of the link.
    pub fn handle_advertisement(&mut self, now: Instant, from: IpAddr, heard: &Advertisement) -> Vec<Output> {
        let (theirs, interval) = (heard.priority, heard.interval);
        match self.state {
            State::Initialize => Vec::new(),
            State::Backup { heard_every, down_at, .. } => {
                if theirs == 0 {
                    let down_at = now + self.skew(heard_every);
                    self.state = State::Backup { heard_every, down_at, active: None };
                } else if theirs >= self.priority || !self.may_preempt(now) {
                    self.become_backup(now, interval, Some((from, theirs)));
                } else {
                    let down_at = down_at.min(now + self.skew(interval));
                    self.state = State::Backup { heard_every: interval, down_at, active: Some((from, theirs)) };
                }
                Vec::new()
            }
            State::Active { .. } => {
                let wins = theirs > self.priority
                    || theirs == self.priority && self.primary.is_some_and(|primary| from > primary);
                if theirs == 0 || !wins {
                    // Also to whom is not the better one: it and the bridges in between learn who is active (§6.4.3).
                    return self.advertise(now);
                }
                self.become_backup(now, interval, Some((from, theirs)));
                vec![Output::GiveUpAddresses]
            }
        }
    }

    fn become_active(&mut self, now: Instant) -> Vec<Output> {
        let mut outputs = self.advertise(now);
        outputs.push(Output::TakeAddresses);
        outputs
    }

    fn become_backup(&mut self, now: Instant, heard_every: Interval, active: Option<(IpAddr, u8)>) {
        let down_at = now + heard_every.duration() * 3 + self.skew(heard_every);
        self.state = State::Backup { heard_every, down_at, active };
    }

    fn advertise(&mut self, now: Instant) -> Vec<Output> {
        self.state = State::Active { advertise_at: now + self.config.interval.duration() };
        vec![Output::Send(self.advertisement(self.priority))]
    }

    fn advertisement(&self, priority: u8) -> Advertisement {
        let Config { vrid, addresses, interval, .. } = &self.config;
        Advertisement { vrid: *vrid, priority, interval: *interval, addresses: addresses.clone() }
    }

    /// Skew_Time (§6.1): the better the priority, the sooner.
    fn skew(&self, interval: Interval) -> Duration {
        interval.duration() * (256 - u32::from(self.priority)) / 256
    }
}
