//! What a tunnel does with its packets beside sealing and opening them.

/// In an `ipsec tunnel`: the lines `tunnel mode`, `encapsulation`, `dscp`, `df` and `replay-window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets {
    /// `tunnel mode gre`: packets go in GRE, and that in ESP.
    pub gre: Option<Gre>,
    /// `encapsulation`, where it is not as [`Self::encapsulation`] has it without a word.
    pub said_encapsulation: Option<Encapsulation>,
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

    /// Whether ESP goes in UDP. Where nothing is said: always, which many packets in one system call are worth; with GRE,
    /// whose packets the kernel sends, only where there is a NAT.
    pub fn encapsulation(&self) -> Encapsulation {
        self.said_encapsulation.unwrap_or(self.unsaid_encapsulation())
    }

    pub(crate) fn unsaid_encapsulation(&self) -> Encapsulation {
        if self.gre.is_some() { Encapsulation::IfNat } else { Encapsulation::Always }
    }
}

/// A GRE interface protected by ESP in transport mode: `tunnel mode gre [key NUMBER]` (RFC 2784, RFC 2890).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gre {
    /// `key`: in each packet, the same at both ends.
    pub key: Option<u32>,
}

impl Default for Packets {
    fn default() -> Self {
        Self {
            gre: None,
            said_encapsulation: None,
            dscp: Dscp::default(),
            df: Df::default(),
            replay_window: Self::REPLAY_WINDOW,
        }
    }
}

/// Whether ESP goes in UDP (RFC 3948).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// `encapsulation always`: also without a NAT; many packets then go in one system call.
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
