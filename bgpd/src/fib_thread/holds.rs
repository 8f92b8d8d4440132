//! The FIB thread's part in holding down paths that flap: tells the table, the log and those who look at either.

use std::time::{Instant, SystemTime};

use fib::{Backend, Damped, PathState, Scope};
use tracing::{info, warn};

use super::{flaps::Seen, worker::Worker};
use crate::failover::HeldPath;

impl<B: Backend> Worker<B> {
    /// Paths that are back after having failed too often are held from now on.
    pub(super) fn look_for_returned(&mut self) {
        let now = self.now;
        let fib = &self.fib;
        let held = self.flaps.returned(now, |scope| fib.word(scope));
        if held.is_empty() {
            return;
        }
        for (seen, held) in &held {
            warn!(
                interface = seen.interface.as_ref().map(tracing::field::display),
                neighbors = ?seen.peers,
                failures = held.failures,
                hold_ms = held.hold.as_millis() as u64,
                "a path that keeps failing is back and held down: it is used only where nothing else is left"
            );
            let until = SystemTime::now() + held.until.saturating_duration_since(now);
            self.with_log(|log| log.held(&seen.peers, seen.interface.as_ref(), until));
        }
        self.show_holds();
    }

    /// The time has come for some of them.
    pub(super) fn holds_are_over(&mut self, now: Instant) {
        let released = self.flaps.expire(now);
        self.let_go(released, "its time is over");
    }

    /// These are held no more.
    pub(super) fn let_go(&mut self, released: Vec<(Damped, Seen)>, why: &'static str) {
        if released.is_empty() {
            return;
        }
        let words: Vec<_> = released.iter().map(|(path, _)| (Scope::Damped(*path), PathState::Up)).collect();
        let switch = self.fib.set_states(&words);
        let at = SystemTime::now();
        for (_, seen) in &released {
            info!(
                interface = seen.interface.as_ref().map(tracing::field::display),
                neighbors = ?seen.peers,
                why,
                "a path is held down no more"
            );
            self.with_log(|log| seen.restored().iter().for_each(|whom| log.restored(whom, at)));
        }
        self.note(&switch, "paths are held down no more");
        self.show_holds();
    }

    /// For those who look at the log.
    pub(super) fn show_holds(&self) {
        let (now, wall) = (self.now, SystemTime::now());
        let shown = self.flaps.sentences().map(|(seen, sentence)| HeldPath {
            interface: seen.interface.clone(),
            neighbors: seen.peers.iter().copied().collect(),
            failures: sentence.failures,
            hold: sentence.hold,
            until: sentence.until.map(|until| wall + until.saturating_duration_since(now)),
        });
        let shown = shown.collect();
        self.with_log(|log| log.set_held_paths(shown));
    }
}
