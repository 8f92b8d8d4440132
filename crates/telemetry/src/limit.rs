//! A limit on log lines that a remote can cause at will. What is left out is counted, and the count is told with the next
//! line that is let through, so that a flood shows as a number instead of filling a disk.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lets `burst` lines through at once and one more in each `interval`.
///
/// ```
/// use std::time::{Duration, Instant};
/// use telemetry::LogLimit;
///
/// static REFUSED: LogLimit = LogLimit::new(5, Duration::from_secs(10));
/// if let Some(left_out) = REFUSED.admit(Instant::now()) {
///     tracing::warn!(left_out, "a connection was refused");
/// }
/// ```
#[derive(Debug)]
pub struct LogLimit {
    burst: u32,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Lines let through that have not been made up for by time.
    used: u32,
    /// When one of them is made up for.
    next: Option<Instant>,
    left_out: u64,
}

impl LogLimit {
    /// A fresh limit, also for a `static`.
    pub const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, state: Mutex::new(State { used: 0, next: None, left_out: 0 }) }
    }

    /// Whether a line may be written at `now`; if so, how many were left out since the last one.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(next) = state.next.filter(|next| *next <= now) {
            state.used -= 1;
            state.next = (state.used > 0).then(|| next + self.interval);
        }
        if state.used >= self.burst {
            state.left_out = state.left_out.saturating_add(1);
            return None;
        }
        state.used += 1;
        state.next.get_or_insert(now + self.interval);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_each_interval_and_the_rest_is_counted() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let limit = LogLimit::new(2, second);
        assert_eq!([(); 5].map(|()| limit.admit(start)), [Some(0), Some(0), None, None, None]);
        assert_eq!(limit.admit(start + second), Some(3));
        assert_eq!(limit.admit(start + second), None);
        // A long silence restores the burst and no more than that.
        let later = start + 1000 * second;
        assert_eq!([(); 3].map(|()| limit.admit(later)), [Some(1), Some(0), None]);
    }
}
