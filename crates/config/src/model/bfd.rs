//! BFD: profiles, and sessions that are named by their peer.

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

use net_types::IfName;

use super::Name;

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
    /// `echo receive-interval`: how often the peer may have Echo packets reflected; zero for not at all.
    pub echo_receive_interval: Option<Duration>,
    /// `echo-mode`: Echo packets are sent, if the peer reflects them.
    pub echo_mode: bool,
    /// `echo transmit-interval`: how often.
    pub echo_transmit_interval: Duration,
    /// `adaptive-intervals maximum`: how long intervals may become on an uneven path; they do not adapt without.
    pub adapt_up_to: Option<Duration>,
    /// `minimum-ttl`: packets that came further are dropped, in a session over several hops.
    pub minimum_ttl: Option<u8>,
}

impl Default for BfdProfile {
    /// 300 ms x 3, and 50 ms for Echo packets: FRR's.
    fn default() -> Self {
        Self {
            transmit_interval: Duration::from_millis(300),
            receive_interval: Duration::from_millis(300),
            detect_multiplier: 3,
            passive: false,
            shutdown: false,
            echo_receive_interval: None,
            echo_mode: false,
            echo_transmit_interval: Duration::from_millis(50),
            adapt_up_to: None,
            minimum_ttl: None,
        }
    }
}

/// Which session a `peer …` line of `bfd` is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BfdPeerId {
    /// The peer.
    pub address: IpAddr,
    /// `multihop`: the peer is several hops away (RFC 5883).
    pub multihop: bool,
    /// `local-address`: our end.
    pub local: Option<IpAddr>,
    /// `interface`: the link that the peer is on.
    pub interface: Option<IfName>,
}

impl fmt::Display for BfdPeerId {
    /// As the configuration has it behind `peer`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        if self.multihop {
            f.write_str(" multihop")?;
        }
        if let Some(local) = self.local {
            write!(f, " local-address {local}")?;
        }
        if let Some(interface) = &self.interface {
            write!(f, " interface {interface}")?;
        }
        Ok(())
    }
}

/// What is said of one session: `bfd` / `peer …`; `None` is unsaid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BfdPeer {
    /// `profile`
    pub profile: Option<Name>,
    /// `transmit-interval`
    pub transmit_interval: Option<Duration>,
    /// `receive-interval`
    pub receive_interval: Option<Duration>,
    /// `detect-multiplier`
    pub detect_multiplier: Option<u8>,
    /// `passive-mode`
    pub passive: Option<bool>,
    /// `shutdown`
    pub shutdown: Option<bool>,
    /// `echo receive-interval`
    pub echo_receive_interval: Option<Duration>,
    /// `echo-mode`
    pub echo_mode: Option<bool>,
    /// `echo transmit-interval`
    pub echo_transmit_interval: Option<Duration>,
    /// `adaptive-intervals maximum`; zero where this session's are not to adapt, whatever its profile says.
    pub adapt_up_to: Option<Duration>,
    /// `minimum-ttl`: packets that came further are dropped, in a session over several hops.
    pub minimum_ttl: Option<u8>,
}

impl BfdPeer {
    /// `minimum-ttl` where nothing is said, as in FRR: one router may stand between.
    pub const MINIMUM_TTL: u8 = 254;

    /// Its timing: what it says, and the rest as its profile, or the one called `other`, or nobody has it.
    pub fn timing(&self, profiles: &BTreeMap<Name, BfdProfile>, other: Option<&Name>) -> BfdProfile {
        let profile = self.profile.as_ref().or(other).and_then(|name| profiles.get(name)).copied().unwrap_or_default();
        BfdProfile {
            transmit_interval: self.transmit_interval.unwrap_or(profile.transmit_interval),
            receive_interval: self.receive_interval.unwrap_or(profile.receive_interval),
            detect_multiplier: self.detect_multiplier.unwrap_or(profile.detect_multiplier),
            passive: self.passive.unwrap_or(profile.passive),
            shutdown: self.shutdown.unwrap_or(profile.shutdown),
            echo_receive_interval: self.echo_receive_interval.or(profile.echo_receive_interval),
            echo_mode: self.echo_mode.unwrap_or(profile.echo_mode),
            echo_transmit_interval: self.echo_transmit_interval.unwrap_or(profile.echo_transmit_interval),
            adapt_up_to: self.adapt_up_to.or(profile.adapt_up_to).filter(|most| !most.is_zero()),
            minimum_ttl: self.minimum_ttl.or(profile.minimum_ttl),
        }
    }
}
