//! What a tunnel does with its packets beside sealing and opening them.

/// In an `ipsec tunnel`: the lines `encapsulation`, `dscp`, `df` and `replay-window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets {
    /// `encapsulation`
    pub encapsulation: Encapsulation,
    /// `dscp`
    pub dscp: Dscp,
    /// `df`
    pub df: Df,
    /// `replay-window`: how many packets behind the newest one may come.
    pub replay_window: u16,
}

impl Packets {
    /// `replay-window` where nothing is said, and the widest there is.
    pub const REPLAY_WINDOW: u16 = 16_320;
}

impl Default for Packets {
    fn default() -> Self {
        Self {
            encapsulation: Encapsulation::default(),
            dscp: Dscp::default(),
            df: Df::default(),
            replay_window: Self::REPLAY_WINDOW,
        }
    }
}

/// Whether ESP goes in UDP (RFC 3948).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encapsulation {
    /// `encapsulation always`: also without a NAT; many packets then go in one system call.
    #[default]
    Always,
    /// `encapsulation if-nat`: as protocol 50 where there is no NAT on the way.
    IfNat,
}

/// The class that outer packets say they are of (RFC 4301 §5.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dscp {
    /// `dscp copy`: as inside.
    #[default]
    Copy,
    /// `dscp set NUMBER`: always the same, 0 to 63.
    Set(u8),
}

/// Whether routers may fragment outer IPv4 packets (RFC 4301 §8.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Df {
    /// `df copy`: those of inner packets that may be fragmented.
    #[default]
    Copy,
    /// `df set`: none.
    Set,
    /// `df clear`: all.
    Clear,
}
