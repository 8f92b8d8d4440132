//! The two clocks of a lab: the monotonic one for measuring, the calendar for what daemons and captures report.
//!
//! Both are the same in every namespace, so a time stamp taken in one site can be compared with one of the other.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Microseconds since the epoch.
pub fn unix_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Nanoseconds on the monotonic clock.
pub fn monotonic_ns() -> i64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// What to add to a monotonic time stamp to get the calendar's (both in nanoseconds).
///
/// The calendar is read between two readings of the other clock, and the closest of some attempts wins, because a
/// thread that loses its processor in between would be wrong by that much.
pub fn calendar_offset_ns() -> i64 {
    let attempt = || {
        let before = monotonic_ns();
        let calendar = nanoseconds(clock_gettime(ClockId::Realtime));
        let after = monotonic_ns();
        (after - before, calendar - (before + (after - before) / 2))
    };
    (0..16).map(|_| attempt()).min().map_or(0, |(_, offset)| offset)
}

/// Sleeps until the monotonic clock shows `deadline`; returns at once when that has passed.
pub fn sleep_until_ns(deadline: i64) {
    let request = Timespec { tv_sec: deadline / 1_000_000_000, tv_nsec: deadline % 1_000_000_000 };
    while let Err(rustix::io::Errno::INTR) = rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &request) {}
}

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
