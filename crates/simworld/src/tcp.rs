//! Connections: octets in order, or none any more.
//!
//! As much of TCP as a BGP session can tell: what the network loses is sent again, what it reorders is put in order, an end
//! that has forgotten the connection resets it, and one that hears nothing for [`PATIENCE`] gives up. Pieces are whole
//! messages, of which a window's worth is on its way at once.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

/// Names one connection, at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) u64);

/// What travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Open,
    Accept,
    /// A numbered piece; the empty one is the end of the stream.
    Piece(u64, Bytes),
    /// Everything before this piece has arrived.
    Ack(u64),
    Reset,
}

/// Pieces on their way at once.
const WINDOW: usize = 32;
const FIRST_RETRY: Duration = Duration::from_millis(300);
const LAST_RETRY: Duration = Duration::from_secs(3);
/// Without a sign of life from the other end the connection is over.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One end.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) key: Key,
    opened_here: bool,
    pub(crate) open: bool,
    /// Nothing more is written; the end of the stream is on its way.
    pub(crate) closing: bool,
    next_out: u64,
    unacknowledged: VecDeque<(u64, Bytes)>,
    waiting: VecDeque<Bytes>,
    next_in: u64,
    early: BTreeMap<u64, Bytes>,
    retry: Duration,
    retry_at: Option<Instant>,
    heard_at: Instant,
}

/// What came of a segment.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) opened: bool,
    /// In order; an empty one is the end.
    pub(crate) pieces: Vec<Bytes>,
    /// What we sent was taken.
    pub(crate) progress: bool,
    pub(crate) reset: bool,
}

impl Connection {
    pub(crate) fn new(key: Key, opened_here: bool, now: Instant) -> Self {
        Self {
            key,
            opened_here,
            open: !opened_here,
            closing: false,
            next_out: 0,
            unacknowledged: VecDeque::new(),
            waiting: VecDeque::new(),
            next_in: 0,
            early: BTreeMap::new(),
            retry: FIRST_RETRY,
            retry_at: None,
            heard_at: now,
        }
    }

    /// The first segment: of whoever opens, or of whoever accepts.
    pub(crate) fn begin(&mut self, now: Instant, out: &mut Vec<Segment>) {
        out.push(if self.opened_here { Segment::Open } else { Segment::Accept });
        self.retry_at = self.opened_here.then(|| now + self.retry);
    }

    pub(crate) fn write(&mut self, octets: Bytes) {
        if !self.closing {
            self.waiting.push_back(octets);
        }
    }

    pub(crate) fn close(&mut self) {
        self.write(Bytes::new());
        self.closing = true;
    }

    /// Nothing of what was written is left to send or to send again.
    pub(crate) fn is_drained(&self) -> bool {
        self.waiting.is_empty() && self.unacknowledged.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.open && self.waiting.len() < WINDOW
    }

    /// Sends as much as may be on its way.
    pub(crate) fn pump(&mut self, now: Instant, out: &mut Vec<Segment>) {
        while self.open && self.unacknowledged.len() < WINDOW {
            let Some(octets) = self.waiting.pop_front() else { break };
            if self.unacknowledged.is_empty() {
                self.heard_at = now;
                self.retry = FIRST_RETRY;
            }
            out.push(Segment::Piece(self.next_out, octets.clone()));
            self.unacknowledged.push_back((self.next_out, octets));
            self.next_out += 1;
            self.retry_at.get_or_insert(now + self.retry);
        }
    }

    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Sends again what was not acknowledged; false when the other end is given up.
    pub(crate) fn expire(&mut self, now: Instant, out: &mut Vec<Segment>) -> bool {
        if self.retry_at.is_none_or(|at| at > now) {
            return true;
        }
        if now >= self.heard_at + PATIENCE {
            return false;
        }
        match self.unacknowledged.front() {
            Some((number, octets)) => out.push(Segment::Piece(*number, octets.clone())),
            None if !self.open => out.push(Segment::Open),
            None => {
                self.retry_at = None;
                return true;
            }
        }
        self.retry = (self.retry * 2).min(LAST_RETRY);
        self.retry_at = Some(now + self.retry);
        true
    }

    pub(crate) fn hear(&mut self, now: Instant, segment: Segment, out: &mut Vec<Segment>) -> Heard {
        let mut heard = Heard::default();
        match segment {
            Segment::Open => out.push(Segment::Accept),
            Segment::Accept if !self.open => {
                (self.open, heard.opened, self.heard_at, self.retry_at) = (true, true, now, None);
            }
            Segment::Accept => {}
            Segment::Piece(number, octets) => {
                if number >= self.next_in {
                    self.early.insert(number, octets);
                }
                while let Some(octets) = self.early.remove(&self.next_in) {
                    self.next_in += 1;
                    heard.pieces.push(octets);
                }
                out.push(Segment::Ack(self.next_in));
            }
            Segment::Ack(next) => {
                let before = self.unacknowledged.len();
                self.unacknowledged.retain(|(number, _)| *number >= next);
                if self.unacknowledged.len() < before {
                    heard.progress = true;
                    (self.heard_at, self.retry) = (now, FIRST_RETRY);
                    self.retry_at = (!self.unacknowledged.is_empty()).then(|| now + self.retry);
                }
            }
            Segment::Reset => heard.reset = true,
        }
        heard
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn what_is_lost_and_reordered_arrives_once_and_in_order() {
        let mut random = StdRng::seed_from_u64(1);
        let mut now = Instant::now();
        let (mut one, mut other) = (Connection::new(Key(1), true, now), Connection::new(Key(1), false, now));
        let (mut to_other, mut to_one) = (Vec::new(), Vec::new());
        one.begin(now, &mut to_other);
        for number in 0..200u8 {
            one.write(Bytes::from(vec![number]));
        }
        one.close();
        let mut arrived = Vec::new();
        for _ in 0..5000 {
            now += Duration::from_millis(20);
            one.pump(now, &mut to_other);
            assert!(one.expire(now, &mut to_other), "the other end lives");
            if !to_other.is_empty() {
                let segment = to_other.swap_remove(random.random_range(0..to_other.len()));
                if random.random_bool(0.8) {
                    arrived.extend(other.hear(now, segment, &mut to_one).pieces);
                }
            }
            for segment in to_one.drain(..) {
                if random.random_bool(0.8) {
                    one.hear(now, segment, &mut to_other);
                }
            }
        }
        let expected: Vec<Bytes> = (0..200u8).map(|number| Bytes::from(vec![number])).chain([Bytes::new()]).collect();
        assert_eq!(arrived, expected);
        assert!(one.is_drained());
    }

    #[test]
    fn who_hears_nothing_gives_up() {
        let start = Instant::now();
        let mut one = Connection::new(Key(1), true, start);
        one.begin(start, &mut Vec::new());
        let mut now = start;
        while one.expire(now, &mut Vec::new()) {
            now = one.timeout().unwrap();
            assert!(now < start + 2 * PATIENCE);
        }
        assert!(now >= start + PATIENCE);
    }
}
