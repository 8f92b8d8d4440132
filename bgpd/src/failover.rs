//! The log of faults: what was detected, when the kernel FIB had switched, when the RIB had caught up, when the path was
//! back. `show failover` prints it.
//!
//! Bounded: the newest [`FailoverLog::CAPACITY`] faults are kept. Times are wall clock, so that the logs of two routers can
//! be laid side by side; the one duration that matters is measured on the monotonic clock.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::{self, Write as _},
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use net_types::IfName;
use serde::Serialize;

use crate::fib_thread::Restored;

/// Which detector found the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// The BFD session to the peer went down.
    BfdDown,
    /// The interface toward the peer lost its link.
    LinkDown,
    /// ipsecd said that the tunnel is down.
    TunnelDown,
    /// The peer, or its host, closed the BGP session.
    SessionClosed,
    /// The BGP hold timer ran out.
    HoldTimer,
    /// The connection to ipsecd was lost.
    IpsecdLost,
    /// An operator took the path away.
    Configuration,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::BfdDown,
        Self::LinkDown,
        Self::TunnelDown,
        Self::SessionClosed,
        Self::HoldTimer,
        Self::IpsecdLost,
        Self::Configuration,
    ];

    /// Whether the path itself has failed, as opposed to somebody who was reached by it.
    pub fn blames_the_path(self) -> bool {
        match self {
            Self::BfdDown | Self::LinkDown | Self::TunnelDown | Self::HoldTimer => true,
            Self::SessionClosed | Self::IpsecdLost | Self::Configuration => false,
        }
    }

    /// As operators read it, and as metrics label it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BfdDown => "BFD down",
            Self::LinkDown => "link down",
            Self::TunnelDown => "tunnel down",
            Self::SessionClosed => "session closed",
            Self::HoldTimer => "hold timer expired",
            Self::IpsecdLost => "ipsecd lost",
            Self::Configuration => "configuration",
        }
    }
}

/// One fault and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Counts up from 1 in the life of the daemon.
    pub id: u64,
    /// Which detector found it.
    pub cause: Cause,
    /// What the detector said.
    pub detail: String,
    /// The BGP neighbor that the path went to.
    pub peer: Option<IpAddr>,
    /// The tunnel or other interface that it went through.
    pub tunnel: Option<IfName>,
    /// When it was detected, in microseconds since 1970.
    pub detected_at_unix_us: u64,
    /// When the kernel had acknowledged the last replaced nexthop object.
    pub fib_switched_at_unix_us: Option<u64>,
    /// From detection to that acknowledgement, in microseconds.
    pub fib_switch_us: Option<u64>,
    /// Path-lists, that is kernel nexthop objects, that were replaced.
    pub path_lists_replaced: usize,
    /// Prefixes that moved with them.
    pub routes_moved: usize,
    /// When every prefix had been decided anew and written.
    pub rib_done_at_unix_us: Option<u64>,
    /// Until when the path is, or was, held down though it works, for having failed too often.
    pub held_until_unix_us: Option<u64>,
    /// When the path was in use again.
    pub restored_at_unix_us: Option<u64>,
}

impl Fault {
    /// Its fields, and when each step was reached, in milliseconds after it was detected.
    fn to_json(&self) -> serde_json::Value {
        let since = |at: Option<u64>| at.map(|at| at.saturating_sub(self.detected_at_unix_us));
        // Microseconds of a daemon's life are far below 2^53.
        let millis = |us: Option<u64>| us.map(|us| us as f64 / 1000.0);
        let mut value = serde_json::json!(self);
        value["afterMs"] = serde_json::json!({
            "fibSwitched": millis(self.fib_switch_us),
            "ribDone": millis(since(self.rib_done_at_unix_us)),
            "restored": millis(since(self.restored_at_unix_us)),
        });
        value
    }

    /// Why it is not in use.
    fn unrestored(&self) -> &'static str {
        if self.held_until_unix_us.is_some() { "held down" } else { "open" }
    }
}

/// What a detector reports.
#[derive(Clone, Debug)]
pub struct Detected {
    /// Which detector.
    pub cause: Cause,
    /// What it said.
    pub detail: String,
    /// The BGP neighbor concerned.
    pub peer: Option<IpAddr>,
    /// The interface concerned.
    pub tunnel: Option<IfName>,
    /// When.
    pub at: SystemTime,
}

/// What the FIB did about it.
#[derive(Clone, Copy, Debug)]
pub struct Switched {
    /// When the kernel had acknowledged.
    pub at: SystemTime,
    /// From detection to there, on the monotonic clock.
    pub took: Duration,
    /// Nexthop objects replaced.
    pub path_lists: usize,
    /// Prefixes that refer to them.
    pub routes: usize,
}

/// A path that has failed too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldPath {
    /// The interface that it goes over.
    pub interface: Option<IfName>,
    /// The neighbors that were lost with it.
    pub neighbors: Vec<IpAddr>,
    /// How often it has failed since the last calm time.
    pub failures: u32,
    /// How long it is held at a time.
    pub hold: Duration,
    /// Until then; `None` while it is not back yet.
    pub until: Option<SystemTime>,
}

/// The newest faults, oldest first.
#[derive(Debug, Default)]
pub struct FailoverLog {
    faults: VecDeque<Fault>,
    last_id: u64,
    counts: BTreeMap<Cause, u64>,
    held_paths: Vec<HeldPath>,
    holds: u64,
}

impl FailoverLog {
    /// Most faults kept.
    pub const CAPACITY: usize = 256;

    /// Records a fault and gives the number by which to add to it.
    pub fn detected(&mut self, detected: Detected) -> u64 {
        self.last_id += 1;
        *self.counts.entry(detected.cause).or_default() += 1;
        if self.faults.len() == Self::CAPACITY {
            self.faults.pop_front();
        }
        self.faults.push_back(Fault {
            id: self.last_id,
            cause: detected.cause,
            detail: detected.detail,
            peer: detected.peer,
            tunnel: detected.tunnel,
            detected_at_unix_us: unix_us(detected.at),
            fib_switched_at_unix_us: None,
            fib_switch_us: None,
            path_lists_replaced: 0,
            routes_moved: 0,
            rib_done_at_unix_us: None,
            held_until_unix_us: None,
            restored_at_unix_us: None,
        });
        self.last_id
    }

    /// The FIB has switched.
    pub fn switched(&mut self, id: u64, switched: Switched) {
        if let Some(fault) = self.find(id) {
            fault.fib_switched_at_unix_us = Some(unix_us(switched.at));
            fault.fib_switch_us = Some(u64::try_from(switched.took.as_micros()).unwrap_or(u64::MAX));
            fault.path_lists_replaced = switched.path_lists;
            fault.routes_moved = switched.routes;
        }
    }

    /// Every prefix that the fault touched has been decided and written.
    pub fn rib_done(&mut self, at: SystemTime) {
        for fault in self.faults.iter_mut().filter(|fault| fault.rib_done_at_unix_us.is_none()) {
            fault.rib_done_at_unix_us = Some(unix_us(at));
        }
    }

    /// A path is in use again: every fault of it that is still open is closed.
    pub fn restored(&mut self, whom: &Restored, at: SystemTime) {
        let concerns = |fault: &Fault| match whom {
            Restored::Peer(peer) => fault.peer == Some(*peer),
            Restored::Interface(interface) => fault.peer.is_none() && fault.tunnel.as_ref() == Some(interface),
        };
        for fault in self.open().filter(|fault| concerns(fault)) {
            fault.restored_at_unix_us = Some(unix_us(at));
        }
    }

    /// A path works again and is held down until then, the one to these neighbors or over this interface.
    pub fn held(&mut self, neighbors: &BTreeSet<IpAddr>, interface: Option<&IfName>, until: SystemTime) {
        self.holds += 1;
        let concerns = |fault: &Fault| match &fault.peer {
            Some(peer) => neighbors.contains(peer),
            None => fault.tunnel.is_some() && fault.tunnel.as_ref() == interface,
        };
        for fault in self.open().filter(|fault| concerns(fault)) {
            fault.held_until_unix_us = Some(unix_us(until));
        }
    }

    /// These paths are held down, or will be when they are back, and no others.
    pub fn set_held_paths(&mut self, paths: Vec<HeldPath>) {
        self.held_paths = paths;
    }

    /// Paths that are held down, or will be when they are back.
    pub fn held_paths(&self) -> &[HeldPath] {
        &self.held_paths
    }

    /// How often a path was held down.
    pub fn holds(&self) -> u64 {
        self.holds
    }

    /// How many faults each detector has found, in the life of the daemon.
    pub fn counts(&self) -> impl Iterator<Item = (Cause, u64)> {
        Cause::ALL.into_iter().map(|cause| (cause, self.counts.get(&cause).copied().unwrap_or_default()))
    }

    /// Whether a fault of `peer` is open; the same loss is often seen by several detectors, one after the other.
    pub fn is_open(&self, peer: IpAddr) -> bool {
        self.faults.iter().any(|fault| fault.peer == Some(peer) && fault.restored_at_unix_us.is_none())
    }

    fn open(&mut self) -> impl Iterator<Item = &mut Fault> {
        self.faults.iter_mut().filter(|fault| fault.restored_at_unix_us.is_none())
    }

    /// The faults, oldest first.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter()
    }

    /// `show failover json`.
    pub fn to_json(&self) -> serde_json::Value {
        let held = self.held_paths.iter().map(HeldPath::to_json);
        serde_json::json!({
            "events": self.faults.iter().map(Fault::to_json).collect::<Vec<_>>(),
            "heldPaths": held.collect::<Vec<_>>(),
        })
    }

    /// `show failover`.
    pub fn to_text(&self) -> String {
        if self.faults.is_empty() {
            return "No fault has been seen since the daemon started.\n".into();
        }
        let mut text = format!(
            "{:>4}  {:<24}  {:<18}  {:<15}  {:<39}  {:>12}  {:>9}  {:>9}  {:>9}\n",
            "Id", "Detected (UTC)", "Cause", "Tunnel", "Peer", "FIB switched", "Routes", "RIB done", "Restored"
        );
        for fault in &self.faults {
            let since = |at: Option<u64>| at.map(|at| millis(at.saturating_sub(fault.detected_at_unix_us)));
            let _ = writeln!(
                text,
                "{:>4}  {:<24}  {:<18}  {:<15}  {:<39}  {:>12}  {:>9}  {:>9}  {:>9}",
                fault.id,
                utc(fault.detected_at_unix_us),
                fault.cause.as_str(),
                fault.tunnel.as_ref().map_or("-", IfName::as_str),
                fault.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string()),
                fault.fib_switch_us.map_or_else(|| "-".into(), millis),
                fault.routes_moved,
                since(fault.rib_done_at_unix_us).unwrap_or_else(|| "-".into()),
                since(fault.restored_at_unix_us).unwrap_or_else(|| fault.unrestored().into()),
            );
            if !fault.detail.is_empty() {
                let _ = writeln!(text, "      {}", fault.detail);
            }
        }
        if !self.held_paths.is_empty() {
            text.push_str("\nPaths that keep failing, used only where nothing else is left:\n");
        }
        for path in &self.held_paths {
            let _ = writeln!(text, "  {path}");
        }
        text
    }

    fn find(&mut self, id: u64) -> Option<&mut Fault> {
        self.faults.iter_mut().rev().find(|fault| fault.id == id)
    }
}

impl HeldPath {
    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "interface": self.interface,
            "neighbors": self.neighbors,
            "failures": self.failures,
            "holdMs": self.hold.as_millis() as u64,
            "isBack": self.until.is_some(),
            "heldUntilUnixUs": self.until.map(unix_us),
        })
    }
}

impl fmt::Display for HeldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.interface.as_ref().map_or("-", IfName::as_str))?;
        if !self.neighbors.is_empty() {
            let neighbors: Vec<String> = self.neighbors.iter().map(ToString::to_string).collect();
            write!(f, " (neighbor {})", neighbors.join(", "))?;
        }
        let hold = millis(u64::try_from(self.hold.as_micros()).unwrap_or(u64::MAX));
        write!(f, ": {} failures, ", self.failures)?;
        match self.until {
            Some(until) => write!(f, "held down until {} ({hold})", utc(unix_us(until))),
            None => write!(f, "down; held for {hold} when it is back"),
        }
    }
}

/// Microseconds since 1970; 0 for a clock that stands before that.
pub fn unix_us(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn millis(us: u64) -> String {
    match us {
        0..100_000 => format!("{}.{:03} ms", us / 1000, us % 1000),
        100_000..10_000_000 => format!("{} ms", us / 1000),
        _ => format!("{} s", us / 1_000_000),
    }
}

/// `2026-11-23 22:12:33.123`
pub(crate) fn utc(unix_us: u64) -> String {
    let Civil { year, month, day, hour, minute, second } = civil(unix_us / 1_000_000);
    let milliseconds = unix_us / 1000 % 1000;
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{milliseconds:03}")
}

/// A time as people name it, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: u64,
    pub(crate) month: u64,
    pub(crate) day: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
}

/// Date and time from seconds since 1970, in the proleptic Gregorian calendar.
pub(crate) fn civil(unix_seconds: u64) -> Civil {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Years begin in March here, so that the leap day is the last of its year; eras are 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    Civil { year, month, day, hour: second / 3600, minute: second / 60 % 60, second: second % 60 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(log: &mut FailoverLog, peer: &str) -> u64 {
        log.detected(Detected {
            cause: Cause::BfdDown,
            detail: "control detection time expired".into(),
            peer: Some(peer.parse().unwrap()),
            tunnel: Some("tun1".parse().unwrap()),
            at: UNIX_EPOCH + Duration::from_micros(1_000_000),
        })
    }

    #[test]
    fn a_fault_is_told_from_detection_to_restoration() {
        let mut log = FailoverLog::default();
        let id = fault(&mut log, "169.254.1.1");
        let at = |us| UNIX_EPOCH + Duration::from_micros(us);
        let took = Duration::from_micros(310);
        log.switched(id, Switched { at: at(1_000_310), took, path_lists: 2, routes: 100_000 });
        log.rib_done(at(1_400_000));
        assert!(log.is_open("169.254.1.1".parse().unwrap()));
        log.restored(&Restored::Peer("169.254.1.1".parse().unwrap()), at(3_000_000));
        assert!(!log.is_open("169.254.1.1".parse().unwrap()));
        let json = log.to_json();
        let event = &json["events"][0];
        assert_eq!(
            (&event["cause"], &event["fibSwitchUs"], &event["routesMoved"]),
            (&"bfdDown".into(), &310.into(), &100_000.into())
        );
        assert_eq!(event["restoredAtUnixUs"], 3_000_000);
        assert_eq!(event["afterMs"], serde_json::json!({ "fibSwitched": 0.31, "ribDone": 400.0, "restored": 2000.0 }));
        assert!(log.to_text().contains("0.310 ms"), "{}", log.to_text());
    }

    #[test]
    fn what_only_static_routes_used_is_restored_by_its_interface() {
        let mut log = FailoverLog::default();
        let detected = Detected {
            cause: Cause::TunnelDown,
            detail: String::new(),
            peer: None,
            tunnel: Some("tun1".parse().unwrap()),
            at: UNIX_EPOCH,
        };
        log.detected(detected);
        fault(&mut log, "169.254.1.1");
        log.restored(&Restored::Interface("tun2".parse().unwrap()), UNIX_EPOCH);
        log.restored(&Restored::Interface("tun1".parse().unwrap()), UNIX_EPOCH);
        let open: Vec<bool> = log.faults().map(|fault| fault.restored_at_unix_us.is_none()).collect();
        assert_eq!(open, [false, true], "a neighbor's fault ends with its own return");
        let counted: Vec<_> = log.counts().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(Cause::BfdDown, 1), (Cause::TunnelDown, 1)]);
    }

    #[test]
    fn a_path_that_is_held_down_says_so_and_until_when() {
        let mut log = FailoverLog::default();
        fault(&mut log, "169.254.1.1");
        fault(&mut log, "169.254.2.1");
        let (tun1, until) = ("tun1".parse().unwrap(), UNIX_EPOCH + Duration::from_secs(20));
        let neighbors: BTreeSet<IpAddr> = ["169.254.1.1".parse().unwrap()].into();
        log.held(&neighbors, Some(&tun1), until);
        let hold = Duration::from_secs(10);
        let path = HeldPath { interface: Some(tun1), neighbors: vec![], failures: 4, hold, until: Some(until) };
        let down = HeldPath { neighbors: neighbors.into_iter().collect(), until: None, ..path.clone() };
        log.set_held_paths(vec![path, down]);
        let (text, json) = (log.to_text(), log.to_json());
        assert!(text.contains("  tun1: 4 failures, held down until 1970-01-01 00:00:20.000 (10 s)\n"), "{text}");
        assert!(
            text.contains("  tun1 (neighbor 169.254.1.1): 4 failures, down; held for 10 s when it is back\n"),
            "{text}"
        );
        assert_eq!((text.matches("held down\n").count(), text.matches("open\n").count()), (1, 1), "{text}");
        assert_eq!(json["events"][0]["heldUntilUnixUs"], 20_000_000);
        assert!(json["events"][1]["heldUntilUnixUs"].is_null());
        let held = &json["heldPaths"][0];
        assert_eq!((&held["isBack"], &held["holdMs"], &held["failures"]), (&true.into(), &10_000.into(), &4.into()));
        assert_eq!(log.holds(), 1);
    }

    #[test]
    fn the_log_is_bounded() {
        let mut log = FailoverLog::default();
        for _ in 0..FailoverLog::CAPACITY + 10 {
            fault(&mut log, "169.254.1.1");
        }
        assert_eq!(log.faults().count(), FailoverLog::CAPACITY);
        assert_eq!(log.faults().next().map(|fault| fault.id), Some(11));
    }

    #[test]
    fn dates_are_civil() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000");
        assert_eq!(utc(951_782_400_000_000), "2000-02-29 00:00:00.000");
        assert_eq!(utc(1_795_471_953_123_456), "2026-11-23 22:12:33.123");
    }
}
