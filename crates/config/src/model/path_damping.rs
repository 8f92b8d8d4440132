//! How paths that flap are held down.

use std::time::Duration;

/// `path-damping`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathDamping {
    /// So many failures within [`within`](Self::within) hold a path down; from 1 to 100.
    pub failures: u8,
    /// From 1 second to an hour.
    pub within: Duration,
    /// How long it is held the first time, from 100 milliseconds to an hour; twice as long with each further failure.
    pub hold: Duration,
    /// The longest hold, from [`hold`](Self::hold) to a day; also how long nothing has to happen for all to be forgotten.
    pub max: Duration,
}

impl Default for PathDamping {
    fn default() -> Self {
        Self {
            failures: 3,
            within: Duration::from_secs(60),
            hold: Duration::from_secs(5),
            max: Duration::from_secs(300),
        }
    }
}
