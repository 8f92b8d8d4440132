//! Intervals that follow the path's jitter: long enough that a path which is merely uneven does not end the session, and no
//! longer.
//!
//! A session ends when the time between two packets exceeds the interval times the peer's multiplier. So of the room that
//! the multiplier gives, half is kept free: the interval is raised until the latest packet of the last minute used no more
//! than the other half. Packets that are lost count as lateness of those that follow.

use std::time::{Duration, Instant};

/// Lateness is remembered for one to two of these.
const WINDOW: Duration = Duration::from_secs(30);

/// The jitter of what comes in, and the interval that it asks for.
#[derive(Clone, Debug)]
pub(crate) struct Jitter {
    /// The most that it may ask for.
    most: Duration,
    window_began: Instant,
    /// The latest packet of this window and of the one before: by how much it came after the interval.
    worst: [Duration; 2],
    interval: Duration,
}

impl Jitter {
    pub(crate) fn new(now: Instant, most: Duration) -> Self {
        Self { most, window_began: now, worst: [Duration::ZERO; 2], interval: Duration::ZERO }
    }

    /// Other bounds; what was measured is kept.
    pub(crate) fn bound(&mut self, most: Duration) {
        self.most = most;
        self.interval = self.interval.min(most);
    }

    /// The interval that the path can do; zero while it can do any.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// The latest packet of the last half to whole minute: by how much it came after the interval.
    pub(crate) fn worst(&self) -> Duration {
        self.worst[0].max(self.worst[1])
    }

    /// A packet came `late` after the interval that the peer keeps to; so many intervals in a row may pass without one.
    pub(crate) fn arrived(&mut self, now: Instant, late: Duration, multiplier: u8) {
        let windows = now.saturating_duration_since(self.window_began).as_nanos() / WINDOW.as_nanos();
        if windows > 0 {
            self.worst = [Duration::ZERO, if windows == 1 { self.worst[0] } else { Duration::ZERO }];
            self.window_began = now;
        }
        self.worst[0] = self.worst[0].max(late);
        let room = u32::from(multiplier).saturating_sub(1).max(1);
        let needed = (self.worst() * 2 / room).min(self.most);
        if needed > self.interval {
            // A little more, lest each packet that is a little later begins a poll of its own.
            self.interval = (needed + needed / 4).min(self.most);
        } else if windows > 0 && needed * 2 <= self.interval {
            // Slowly back: a path that was bad a minute ago may be so again.
            self.interval /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn late_packets_raise_the_interval_at_once_and_quiet_minutes_lower_it_by_halves() {
        let start = Instant::now(); // an origin only
        let mut jitter = Jitter::new(start, ms(300));
        jitter.arrived(start + ms(10), ms(0), 3);
        assert_eq!(jitter.interval(), ms(0));
        // 40 ms late: of the two intervals of room half is 40 ms, with an interval of 40 ms; and a quarter more.
        jitter.arrived(start + ms(60), ms(40), 3);
        assert_eq!((jitter.interval(), jitter.worst()), (ms(50), ms(40)));
        jitter.arrived(start + ms(100), ms(45), 3);
        assert_eq!(jitter.interval(), ms(50), "covered by the quarter");
        jitter.arrived(start + ms(31_000), ms(0), 3);
        assert_eq!((jitter.interval(), jitter.worst()), (ms(50), ms(45)), "not forgotten yet");
        jitter.arrived(start + ms(62_000), ms(0), 3);
        assert_eq!((jitter.interval(), jitter.worst()), (ms(25), ms(0)));
        jitter.arrived(start + ms(93_000), ms(1), 3);
        assert_eq!(jitter.interval(), ms(25) / 2);
    }

    #[test]
    fn it_never_asks_for_more_than_it_may() {
        let start = Instant::now(); // an origin only
        let mut jitter = Jitter::new(start, ms(300));
        jitter.arrived(start, ms(5_000), 3);
        assert_eq!(jitter.interval(), ms(300));
        jitter.bound(ms(100));
        assert_eq!(jitter.interval(), ms(100));
        jitter.arrived(start, ms(5_000), 1);
        assert_eq!(jitter.interval(), ms(100), "a multiplier of 1 leaves no room at all");
    }
}
