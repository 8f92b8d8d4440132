//! Hold and keepalive timing for one connection (RFC 4271 §4.2, §4.4, §10).
//!
//! Deadlines are absolute: the owner asks [`Pulse::next`] and comes back then. Nothing here reads a clock.

use std::time::{Duration, Instant};

use rand::{Rng, RngCore};

use super::Terms;

/// Both timers or neither: a hold time of 0 silences the pair (RFC 4271 §4.2, §4.4).
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    hold: Duration,
    hold_at: Instant,
    keepalive: Duration,
    keepalive_at: Instant,
}

impl Pulse {
    pub(super) fn start(terms: &Terms, now: Instant, rng: &mut dyn RngCore) -> Option<Self> {
        let (hold, keepalive) = (terms.hold_time, terms.keepalive);
        (!hold.is_zero()).then(|| Self {
            hold,
            hold_at: now + hold,
            keepalive,
            keepalive_at: now + jitter(keepalive, rng),
        })
    }

    /// The neighbor gave a sign of life.
    pub(super) fn heard(&mut self, now: Instant) {
        self.hold_at = now + self.hold;
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        now >= self.hold_at
    }

    /// Whether a keepalive is due; if so, the next one is scheduled.
    pub(super) fn keepalive_due(&mut self, now: Instant, rng: &mut dyn RngCore) -> bool {
        let due = now >= self.keepalive_at;
        if due {
            self.keepalive_at = now + jitter(self.keepalive, rng);
        }
        due
    }

    pub(super) fn next(&self) -> Instant {
        self.hold_at.min(self.keepalive_at)
    }
}

/// Three quarters to all of `full`, so that routers do not fall into step (RFC 4271 §10).
pub(super) fn jitter(full: Duration, rng: &mut dyn RngCore) -> Duration {
    full.mul_f64(rng.random_range(0.75..=1.0))
}
