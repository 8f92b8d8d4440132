//! BFD profiles.

use std::time::Duration;

/// Timing of BFD sessions: `bfd` / `profile NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BfdProfile {
    /// `transmit-interval`: how often we want to send.
    pub transmit_interval: Duration,
    /// `receive-interval`: how often we are able to receive.
    pub receive_interval: Duration,
    /// `detect-multiplier`: packets that may be missed.
    pub detect_multiplier: u8,
    /// `passive-mode`: do not send before the peer has.
    pub passive: bool,
    /// `shutdown`: sessions are held in AdminDown.
    pub shutdown: bool,
}

impl Default for BfdProfile {
    /// 300 ms x 3, FRR's.
    fn default() -> Self {
        Self {
            transmit_interval: Duration::from_millis(300),
            receive_interval: Duration::from_millis(300),
            detect_multiplier: 3,
            passive: false,
            shutdown: false,
        }
    }
}
