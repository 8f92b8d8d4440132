//! Counters that packet threads add to and others read: relaxed atomics, each written by few and never waited on.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// When something was last seen, to the millisecond.
#[derive(Debug)]
pub(crate) struct LastSeen {
    origin: Instant,
    /// Milliseconds after the origin, plus one; zero before the first time.
    millis: AtomicU64,
}

impl LastSeen {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now(), millis: AtomicU64::new(0) }
    }

    pub(crate) fn touch(&self, now: Instant) {
        let millis = u64::try_from(now.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX - 1);
        self.millis.store(millis + 1, Ordering::Relaxed);
    }

    pub(crate) fn idle(&self, now: Instant) -> Option<Duration> {
        let at = self.millis.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.saturating_duration_since(self.origin).saturating_sub(Duration::from_millis(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_counts_from_the_last_touch() {
        let seen = LastSeen::new();
        let start = seen.origin;
        assert_eq!(seen.idle(start), None);
        seen.touch(start);
        seen.touch(start + Duration::from_secs(5));
        assert_eq!(seen.idle(start + Duration::from_secs(7)), Some(Duration::from_secs(2)));
    }
}
