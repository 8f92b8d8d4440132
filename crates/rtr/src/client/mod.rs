//! What a router does about one cache (RFC 8210 §6 to §8): queries, timers, and what it holds.
//!
//! The payloads outlive the connection: until they expire they stay in force, and a connection that comes back asks only
//! for what has changed since. Nothing here reads a clock; whoever owns the socket says what happened and when.
//!
//! Departure from the RFC: after a lost connection the owner may dial again sooner than the retry interval, which then
//! counts from the query that failed. Left out: router keys are read over, since nothing here validates paths.

mod staged;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use bgp_core::validation::{Roa, RoaChanges};
use bytes::{Buf, Bytes, BytesMut};

use self::staged::Staged;
use crate::pdu::{ErrorCode, FrameError, Pdu, PduError, Version, frame_length};

/// How long a cache may be silent while it owes an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Payloads that one cache may have: three times what the Internet has.
const LIMIT: usize = 2_000_000;
/// Changes in one answer; more of them only go round in circles.
const CHANGES: usize = 2 * LIMIT;

/// The three intervals (RFC 8210 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Between queries while all is well, 1 s to a day.
    pub refresh: Duration,
    /// Between attempts while it is not, 1 s to two hours.
    pub retry: Duration,
    /// How long payloads stay in force without a query that succeeds, 10 min to two days.
    pub expire: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { refresh: seconds(3600), retry: seconds(600), expire: seconds(7200) }
    }
}

impl Intervals {
    /// What a cache asks for, brought within the bounds of §6; payloads do not expire before they are asked for again.
    fn from_cache([refresh, retry, expire]: [u32; 3]) -> Self {
        let (refresh, retry) = (refresh.clamp(1, 86_400), retry.clamp(1, 7200));
        let expire = expire.clamp(600, 172_800).max(refresh).max(retry);
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Self { refresh: seconds(refresh), retry: seconds(retry), expire: seconds(expire) }
    }
}

/// What the owner of the client has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send(Bytes),
    /// An answer is complete: this is different now, which may be nothing.
    Synced(RoaChanges),
    /// The payloads were in force for too long, or belong to a session that never was: they are out.
    Flushed(RoaChanges),
    /// Close the connection, after what is to be sent; then call [`Client::lost`].
    Close(Closed),
}

/// Why a connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The cache said so.
    #[error("the cache reports: {code}{}{text}", if text.is_empty() { "" } else { ": " })]
    Report {
        /// Its code.
        code: ErrorCode,
        /// Its words.
        text: String,
    },
    /// What it sent cannot be cut into PDUs.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// What it sent is no PDU.
    #[error(transparent)]
    Pdu(#[from] PduError),
    /// What it sent has no place here.
    #[error("{what} ({code})")]
    Protocol {
        /// As the cache is told.
        code: ErrorCode,
        /// In words.
        what: String,
    },
    /// It owed an answer for too long.
    #[error("the cache has been silent for {} s while it owed an answer", ANSWER.as_secs())]
    Silent,
    /// It has too much to say.
    #[error("the cache sends more than {LIMIT} payloads or {CHANGES} changes at once")]
    TooMuch,
}

/// Where the conversation is.
#[derive(Debug)]
enum State {
    /// There is no connection.
    Offline,
    /// A query was sent.
    Asked { give_up_at: Instant },
    /// The answer is coming in.
    Receiving { session: u16, staged: Staged, changes: usize, give_up_at: Instant },
    /// Everything was answered.
    Idle { refresh_at: Instant },
}

/// Up to where we know what a cache has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    session: u16,
    serial: u32,
}

/// What operators see of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// There is a connection.
    pub connected: bool,
    /// An answer has been complete, and its payloads have not expired.
    pub synced: bool,
    /// The version that is spoken, or would be.
    pub version: Version,
    /// Session and serial number of what is held.
    pub position: Option<(u16, u32)>,
    /// Payloads held.
    pub payloads: usize,
    /// The intervals in force.
    pub intervals: Intervals,
}

/// One cache, as its router sees it.
pub struct Client {
    /// What is configured, in the place of what the cache says.
    configured: [Option<Duration>; 3],
    intervals: Intervals,
    /// The version to ask in.
    version: Version,
    /// The cache has answered in it, on this connection.
    settled: bool,
    state: State,
    position: Option<Position>,
    /// The cache has told of a serial number beyond the answer that is coming in.
    notified: Option<u32>,
    expires_at: Option<Instant>,
    roas: BTreeSet<Roa>,
    input: BytesMut,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that has never spoken to its cache. Refresh, retry and expire interval are those that are given, else
    /// what the cache asks for, else the RFC's.
    pub fn new(configured: [Option<Duration>; 3]) -> Self {
        let mut new = Self {
            configured,
            intervals: Intervals::default(),
            version: Version::V1,
            settled: false,
            state: State::Offline,
            position: None,
            notified: None,
            expires_at: None,
            roas: BTreeSet::new(),
            input: BytesMut::new(),
        };
        new.use_intervals(Intervals::default());
        new
    }

    fn use_intervals(&mut self, offered: Intervals) {
        let [refresh, retry, expire] = self.configured;
        self.intervals = Intervals {
            refresh: refresh.unwrap_or(offered.refresh),
            retry: retry.unwrap_or(offered.retry),
            expire: expire.unwrap_or(offered.expire),
        };
    }

    /// Goes by other configured intervals, from the next answer on.
    pub fn configure(&mut self, configured: [Option<Duration>; 3]) {
        if self.configured != configured {
            self.configured = configured;
            let offered = self.intervals;
            self.use_intervals(offered);
        }
    }

    /// The payloads in force.
    pub fn roas(&self) -> &BTreeSet<Roa> {
        &self.roas
    }

    /// Whether a complete answer is in force.
    pub fn is_synced(&self) -> bool {
        self.expires_at.is_some()
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        !matches!(self.state, State::Offline)
    }

    /// What operators see.
    pub fn status(&self) -> Status {
        Status {
            connected: self.is_connected(),
            synced: self.is_synced(),
            version: self.version,
            position: self.position.map(|Position { session, serial }| (session, serial)),
            payloads: self.roas.len(),
            intervals: self.intervals,
        }
    }

    /// A connection was made.
    pub fn connected(&mut self, now: Instant) -> Vec<Output> {
        self.input.clear();
        self.settled = false;
        self.notified = None;
        vec![self.ask(now)]
    }

    /// The connection is gone, whoever closed it.
    pub fn lost(&mut self) {
        if matches!(self.state, State::Asked { .. }) && !self.settled {
            // A cache of before RFC 8210 may hang up on a version that it does not know; the next attempt tries the other.
            self.version = match self.version {
                Version::V1 => Version::V0,
                Version::V0 => Version::V1,
            };
        }
        self.state = State::Offline;
        self.input = BytesMut::new();
    }

    /// When to call [`timeout`](Self::timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = match &self.state {
            State::Offline => None,
            State::Asked { give_up_at } | State::Receiving { give_up_at, .. } => Some(*give_up_at),
            State::Idle { refresh_at } => Some(*refresh_at),
        };
        due.into_iter().chain(self.expires_at).min()
    }

    /// Time has passed. An early call changes nothing.
    pub fn timeout(&mut self, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        if self.expires_at.is_some_and(|at| at <= now) {
            out.push(self.flush());
        }
        match self.state {
            State::Asked { give_up_at } | State::Receiving { give_up_at, .. } if give_up_at <= now => {
                out.push(Output::Close(Closed::Silent));
            }
            State::Idle { refresh_at } if refresh_at <= now => out.push(self.ask(now)),
            _ => {}
        }
        out
    }

    /// Octets came in.
    pub fn received(&mut self, now: Instant, octets: &[u8]) -> Vec<Output> {
        let mut out = Vec::new();
        self.input.extend_from_slice(octets);
        if let State::Asked { give_up_at } | State::Receiving { give_up_at, .. } = &mut self.state {
            *give_up_at = now + ANSWER;
        }
        loop {
            let frame = match frame_length(&self.input) {
                Ok(Some(length)) if length <= self.input.len() => self.input.split_to(length).freeze(),
                Ok(_) => break,
                Err(error) => {
                    let text = error.to_string();
                    out.push(Output::Send(Pdu::error_report(self.version, ErrorCode::CorruptData, &[], &text)));
                    out.push(Output::Close(error.into()));
                    break;
                }
            };
            if let Err(closed) = self.frame(now, &frame, &mut out) {
                let code = match &closed {
                    Closed::Pdu(error) => Some(error.code()),
                    Closed::Protocol { code, .. } => Some(*code),
                    Closed::TooMuch => Some(ErrorCode::InternalError),
                    // §5.11: no error report is answered with one.
                    Closed::Report { .. } | Closed::Frame(_) | Closed::Silent => None,
                };
                if let Some(code) = code {
                    out.push(Output::Send(Pdu::error_report(self.version, code, &frame, &closed.to_string())));
                }
                out.push(Output::Close(closed));
                break;
            }
        }
        if !self.input.has_remaining() {
            self.input = BytesMut::new(); // what a long answer took is given back
        }
        out
    }

    /// Asks for what has changed, or for everything.
    fn ask(&mut self, now: Instant) -> Output {
        self.state = State::Asked { give_up_at: now + ANSWER };
        let query = match self.position {
            Some(Position { session, serial }) => Pdu::SerialQuery { session, serial },
            None => Pdu::ResetQuery,
        };
        Output::Send(query.to_bytes(self.version))
    }

    fn frame(&mut self, now: Instant, frame: &[u8], out: &mut Vec<Output>) -> Result<(), Closed> {
        let parsed = Pdu::parse(frame);
        if let Some(answer) = self.settle_version(now, frame, &parsed)? {
            out.extend(answer);
            return Ok(());
        }
        let (_, pdu) = parsed?;
        match (pdu, &mut self.state) {
            (Pdu::ErrorReport { code, text }, _) => return Err(Closed::Report { code, text }),
            (Pdu::SerialNotify { session, serial }, state) => {
                // §7: one that precedes the first answer is not looked at.
                if !self.settled {
                    return Ok(());
                }
                if let Some(position) = self.position.filter(|position| position.session != session) {
                    return Err(self.other_session(position.session, session, out));
                }
                match state {
                    State::Idle { .. } if self.position.is_none_or(|position| position.serial != serial) => {
                        out.push(self.ask(now));
                    }
                    State::Idle { .. } | State::Offline => {}
                    State::Asked { .. } | State::Receiving { .. } => self.notified = Some(serial),
                }
            }
            (Pdu::CacheResponse { session }, State::Asked { give_up_at }) => {
                let give_up_at = *give_up_at;
                let staged = match self.position {
                    Some(position) if position.session != session => {
                        return Err(self.other_session(position.session, session, out));
                    }
                    Some(_) => Staged::Difference { announced: BTreeSet::new(), withdrawn: BTreeSet::new() },
                    None => Staged::All(BTreeSet::new()),
                };
                self.state = State::Receiving { session, staged, changes: 0, give_up_at };
            }
            (Pdu::CacheReset, State::Asked { .. }) if self.position.is_some() => {
                // What we hold stays in force until the whole answer is there.
                self.position = None;
                out.push(self.ask(now));
            }
            (Pdu::Prefix { announce, roa }, State::Receiving { staged, changes, .. }) => {
                *changes += 1;
                if *changes > CHANGES {
                    return Err(Closed::TooMuch);
                }
                staged.change(&self.roas, announce, roa)?;
            }
            (Pdu::RouterKey, State::Receiving { .. }) => {}
            (Pdu::EndOfData { session, serial, intervals }, State::Receiving { session: begun, staged, .. }) => {
                if session != *begun {
                    let begun = *begun;
                    return Err(self.other_session(begun, session, out));
                }
                let staged = std::mem::replace(staged, Staged::All(BTreeSet::new()));
                self.use_intervals(intervals.map_or_else(Intervals::default, Intervals::from_cache));
                self.position = Some(Position { session, serial });
                self.expires_at = Some(now + self.intervals.expire);
                self.state = State::Idle { refresh_at: now + self.intervals.refresh };
                out.push(Output::Synced(staged.put_into(&mut self.roas)));
                if self.notified.take().is_some_and(|notified| notified != serial) {
                    out.push(self.ask(now));
                }
            }
            (pdu, _) => {
                let what = format!("a PDU that was not expected: {}", name(&pdu));
                return Err(Closed::Protocol { code: ErrorCode::InvalidRequest, what });
            }
        }
        Ok(())
    }

    /// The first answer decides about the version (§7). Gives what to do in place of looking at it, if there is anything.
    fn settle_version(
        &mut self,
        now: Instant,
        frame: &[u8],
        parsed: &Result<(Version, Pdu), PduError>,
    ) -> Result<Option<Vec<Output>>, Closed> {
        let Ok((version, pdu)) = parsed else {
            // An error report in a version that we do not speak cannot be anything else.
            return match (parsed, frame) {
                (Err(PduError::Version(_)), [_, 10, ..]) => {
                    Err(Closed::Report { code: ErrorCode::UnsupportedVersion, text: String::new() })
                }
                _ => Ok(None),
            };
        };
        let (version, lower) = (*version, *version < self.version);
        match pdu {
            Pdu::ErrorReport { code: ErrorCode::UnsupportedVersion, .. } if !self.settled && lower => {
                self.version = version;
                return Ok(Some(vec![self.ask(now)]));
            }
            Pdu::ErrorReport { .. } => return Ok(None),
            Pdu::SerialNotify { .. } if !self.settled => return Ok(None),
            _ if self.settled => {}
            _ if lower => self.version = version,
            _ => {}
        }
        if version != self.version {
            let what = format!("a PDU of version {} in a session of version {}", version as u8, self.version as u8);
            return Err(Closed::Protocol { code: ErrorCode::UnexpectedVersion, what });
        }
        self.settled = true;
        Ok(None)
    }

    /// §5.1: data of a session that is not the one we thought is worth nothing.
    fn other_session(&mut self, ours: u16, theirs: u16, out: &mut Vec<Output>) -> Closed {
        out.push(self.flush());
        let what = format!("session {theirs} where {ours} was expected");
        Closed::Protocol { code: ErrorCode::CorruptData, what }
    }

    fn flush(&mut self) -> Output {
        (self.position, self.expires_at) = (None, None);
        let withdrawn = std::mem::take(&mut self.roas).into_iter().collect();
        Output::Flushed(RoaChanges { announced: Vec::new(), withdrawn })
    }
}

fn name(pdu: &Pdu) -> &'static str {
    match pdu {
        Pdu::SerialNotify { .. } => "Serial Notify",
        Pdu::SerialQuery { .. } => "Serial Query",
        Pdu::ResetQuery => "Reset Query",
        Pdu::CacheResponse { .. } => "Cache Response",
        Pdu::Prefix { .. } => "Prefix",
        Pdu::EndOfData { .. } => "End of Data",
        Pdu::CacheReset => "Cache Reset",
        Pdu::RouterKey => "Router Key",
        Pdu::ErrorReport { .. } => "Error Report",
    }
}
