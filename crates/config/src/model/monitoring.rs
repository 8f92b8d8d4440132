//! Watching BGP: stations that are told by BMP, and dumps in MRT.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use net_types::Family;

use super::Host;

/// `bmp targets NAME`: stations, and what they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BmpTargets {
    /// `bmp connect HOST port PORT …`, by host and port.
    pub stations: BTreeMap<(Host, u16), BmpRetry>,
    /// `bmp monitor FAMILY unicast …`
    pub monitor: BTreeMap<Family, BmpMonitor>,
    /// `bmp stats interval`: between statistics reports.
    pub stats_interval: Option<Duration>,
}

/// How often a station is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BmpRetry {
    /// `min-retry`: after the first attempt; it doubles.
    pub min: Duration,
    /// `max-retry`: up to this.
    pub max: Duration,
}

impl Default for BmpRetry {
    /// FRR's: 30 s and 12 min.
    fn default() -> Self {
        Self { min: Duration::from_secs(30), max: Duration::from_secs(720) }
    }
}

/// Which views of a family are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BmpMonitor {
    /// `pre-policy`: what neighbors announce, as received.
    pub pre_policy: bool,
    /// `post-policy`: what import policy made of it.
    pub post_policy: bool,
    /// `loc-rib`: the best paths (RFC 9069).
    pub loc_rib: bool,
    /// `adj-rib-out post-policy`: what neighbors are sent (RFC 8671).
    pub adj_rib_out: bool,
}

/// `dump bgp …`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dumps {
    /// `all`: every message that is received, and every change of state.
    pub all: Option<Dump>,
    /// `updates`: the UPDATEs that are received.
    pub updates: Option<Dump>,
    /// `routes-mrt`: the table.
    pub routes: Option<Dump>,
}

/// A file that is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Its name, in which %Y, %m, %d, %H, %M and %S stand for the time (UTC) when it is begun.
    pub file: PathBuf,
    /// After which a new one is begun; the table is dumped once without.
    pub interval: Option<Duration>,
}
