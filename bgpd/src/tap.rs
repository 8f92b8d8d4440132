//! What happens to sessions, for those who keep a record of it: the log of events, and dumps of messages.
//!
//! Neighbors' tasks call here, so nothing waits: the log is a bounded ring, and messages go over a bounded channel whose
//! reader is slower than its writers only when a disk is. Then messages are left out of the dump, counted, and said to be.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::failover::{unix_us, utc};

/// Messages that may wait for a dump.
const MESSAGES: usize = 8192;

/// Something about a session.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: SystemTime,
    /// Whose.
    pub session: mrt::Session,
    /// What.
    pub what: Happened,
}

/// What happened to a session.
#[derive(Clone, Debug)]
pub enum Happened {
    /// The neighbor sent this.
    Received {
        /// AS paths in it have four octets an AS.
        four_octet_as: bool,
        /// The whole message.
        message: Bytes,
    },
    /// It went from one state to another, as MRT numbers them.
    Changed {
        /// 1 Idle to 6 Established.
        from: u16,
        /// The same.
        to: u16,
    },
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A BGP session.
    Session,
    /// A BFD session.
    Bfd,
    /// A tunnel, or ipsecd.
    Tunnel,
    /// A link.
    Link,
    /// The way to a next hop.
    NextHop,
    /// The configuration, policy included.
    Policy,
    /// A virtual router.
    Vrrp,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Bfd => "bfd",
            Self::Tunnel => "tunnel",
            Self::Link => "link",
            Self::NextHop => "nexthop",
            Self::Policy => "policy",
            Self::Vrrp => "vrrp",
        }
    }
}

/// One event.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Counts up from 1 in the life of the daemon.
    pub id: u64,
    /// When, in microseconds since 1970.
    pub at_unix_us: u64,
    /// What it is about.
    pub kind: Kind,
    /// Which one: an address, a tunnel, an interface.
    pub subject: String,
    /// What happened.
    pub what: String,
}

/// The newest events, oldest first.
#[derive(Debug, Default)]
struct Log {
    events: VecDeque<Event>,
    last: u64,
}

/// Where everything comes together; clones lead to the same.
#[derive(Clone, Debug, Default)]
pub struct Tap {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    log: Mutex<Log>,
    /// Somebody reads messages.
    dumped: AtomicBool,
    messages: Mutex<Option<mpsc::Sender<Seen>>>,
    lost: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tap {
    /// Most events kept.
    pub const CAPACITY: usize = 1024;

    /// Puts an event into the log.
    pub fn event(&self, kind: Kind, subject: impl ToString, what: impl Into<String>) {
        let mut log = lock(&self.inner.log);
        log.last += 1;
        if log.events.len() == Self::CAPACITY {
            log.events.pop_front();
        }
        let (id, at_unix_us) = (log.last, unix_us(SystemTime::now()));
        log.events.push_back(Event { id, at_unix_us, kind, subject: subject.to_string(), what: what.into() });
    }

    /// Whether messages are wanted at all; asked for each, so that nothing is copied in vain.
    pub fn wants_messages(&self) -> bool {
        self.inner.dumped.load(Relaxed)
    }

    /// Hands something about a session to the dump, if there is one.
    pub fn seen(&self, seen: Seen) {
        if let Some(messages) = &*lock(&self.inner.messages)
            && messages.try_send(seen).is_err()
        {
            self.inner.lost.fetch_add(1, Relaxed);
        }
    }

    /// From now on messages come out here, and no longer where they did.
    pub fn listen(&self) -> mpsc::Receiver<Seen> {
        let (sender, receiver) = mpsc::channel(MESSAGES);
        *lock(&self.inner.messages) = Some(sender);
        self.inner.dumped.store(true, Relaxed);
        receiver
    }

    /// Nobody reads messages any more.
    pub fn deafen(&self) {
        self.inner.dumped.store(false, Relaxed);
        *lock(&self.inner.messages) = None;
    }

    /// Messages that were left out since the last call because the dump was too slow.
    pub fn take_lost(&self) -> u64 {
        self.inner.lost.swap(0, Relaxed)
    }

    /// `show bgp events json`
    pub fn to_json(&self) -> Value {
        json!({ "events": lock(&self.inner.log).events })
    }

    /// `show bgp events`
    pub fn to_text(&self) -> String {
        let log = lock(&self.inner.log);
        if log.events.is_empty() {
            return "Nothing has happened since the daemon started.\n".into();
        }
        let mut text = format!("{:>6}  {:<24} {:<8} {:<39} {}\n", "Id", "When (UTC)", "About", "Which", "What");
        for event in &log.events {
            let (at, kind) = (utc(event.at_unix_us), event.kind.as_str());
            let _ = writeln!(text, "{:>6}  {at:<24} {kind:<8} {:<39} {}", event.id, event.subject, event.what);
        }
        text
    }
}

/// Both ends of a session in one family, as MRT wants them; a port is of no interest.
pub fn session(peer: IpAddr, local: Option<IpAddr>, asns: (Option<net_types::Asn>, net_types::Asn)) -> mrt::Session {
    let unknown = if peer.is_ipv4() { IpAddr::from([0, 0, 0, 0]) } else { IpAddr::from([0u16; 8]) };
    let local = local.filter(|local| local.is_ipv4() == peer.is_ipv4()).unwrap_or(unknown);
    mrt::Session { peer_asn: asns.0, local_asn: Some(asns.1), ifindex: 0, peer, local }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_the_newest_and_says_how_many_there_were() {
        let tap = Tap::default();
        for number in 0..Tap::CAPACITY + 3 {
            tap.event(Kind::Session, "192.0.2.1", format!("event {number}"));
        }
        let json = tap.to_json();
        let events = json["events"].as_array().unwrap();
        assert_eq!(events.len(), Tap::CAPACITY);
        assert_eq!((&events[0]["id"], &events[0]["kind"]), (&4.into(), &"session".into()));
        assert!(tap.to_text().lines().last().unwrap().ends_with("event 1026"));
    }

    #[test]
    fn a_slow_dump_loses_messages_and_says_how_many() {
        let tap = Tap::default();
        let seen = || Seen {
            at: SystemTime::now(),
            session: session("192.0.2.1".parse().unwrap(), None, (None, net_types::Asn::literal(1))),
            what: Happened::Changed { from: 1, to: 2 },
        };
        tap.seen(seen());
        assert!(!tap.wants_messages());
        let mut messages = tap.listen();
        for _ in 0..MESSAGES + 5 {
            tap.seen(seen());
        }
        assert_eq!((tap.take_lost(), tap.take_lost()), (5, 0));
        assert!(messages.try_recv().is_ok());
        tap.deafen();
        assert!(!tap.wants_messages());
    }
}
