//! The Echo function (RFC 5880 §6.4): packets that the peer's forwarding brings back, whatever its BFD is busy with.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// UDP destination port of Echo packets (RFC 5881 §4).
pub const ECHO_PORT: u16 = 3785;

/// Octets of an Echo packet's payload.
pub const ECHO_LEN: usize = 12;

/// Packets that may be on their way at once. More are sent only where the way takes longer than so many intervals, and then
/// the oldest are given up.
const ON_THEIR_WAY: usize = 512;

/// What an Echo packet carries. It concerns nobody but its sender (RFC 5880 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoPacket {
    /// The sender's name for the session.
    pub discriminator: NonZeroU32,
    /// Drawn for each packet, so that nobody can answer for the path who does not see it (RFC 5880 §9).
    pub nonce: u64,
}

impl EchoPacket {
    /// Reads a datagram's payload; `None` when it is none of ours.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let octets: &[u8; ECHO_LEN] = datagram.try_into().ok()?;
        let (discriminator, nonce) = octets.split_first_chunk()?;
        Some(Self {
            discriminator: NonZeroU32::new(u32::from_be_bytes(*discriminator))?,
            nonce: u64::from_be_bytes(nonce.try_into().ok()?),
        })
    }

    /// The payload as it goes out.
    pub fn emit(&self) -> [u8; ECHO_LEN] {
        let mut octets = [0; ECHO_LEN];
        let (discriminator, nonce) = octets.split_at_mut(4);
        discriminator.copy_from_slice(&self.discriminator.get().to_be_bytes());
        nonce.copy_from_slice(&self.nonce.to_be_bytes());
        octets
    }
}

/// How long Echo packets take to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// The shortest so far.
    pub min: Duration,
    /// A running mean: each packet counts for an eighth.
    pub mean: Duration,
    /// The longest so far.
    pub max: Duration,
}

/// The Echo function of a session while both ends are Up.
#[derive(Clone, Debug)]
pub(crate) struct Echo {
    /// Between packets, before jitter.
    pub(crate) interval: Duration,
    pub(crate) send_at: Instant,
    sent: VecDeque<(u64, Instant)>,
    /// None until the first packet has come back: only from then on does silence mean anything, since a peer may say that it
    /// reflects packets, and something on the way drop them.
    heard_at: Option<Instant>,
    /// By how much detection was put off since.
    excused: Duration,
}

impl Echo {
    pub(crate) fn new(now: Instant, interval: Duration) -> Self {
        Self { interval, send_at: now, sent: VecDeque::new(), heard_at: None, excused: Duration::ZERO }
    }

    /// Whether packets come back, so that it is their silence that ends the session.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard_at.is_some()
    }

    /// When the silence has lasted too long. The way may take longer than that: it is the time between arrivals that counts.
    pub(crate) fn detect_at(&self, multiplier: u8) -> Option<Instant> {
        let detection_time = self.interval * u32::from(multiplier);
        Some(self.heard_at? + detection_time + self.excused.min(detection_time))
    }

    pub(crate) fn sends(&mut self, now: Instant, nonce: u64) {
        if self.sent.len() == ON_THEIR_WAY {
            self.sent.pop_front();
        }
        self.sent.push_back((nonce, now));
    }

    /// A packet came back; how long it took. `None` when it is not one that is on its way.
    pub(crate) fn returned(&mut self, now: Instant, nonce: u64) -> Option<Duration> {
        let at = self.sent.iter().position(|(sent, _)| *sent == nonce)?;
        // What was sent before and is not back by now is lost, or too late to say anything.
        let (_, sent_at) = self.sent.drain(..=at).next_back()?;
        self.heard_at = Some(now);
        self.excused = Duration::ZERO;
        Some(now.saturating_duration_since(sent_at))
    }

    pub(crate) fn excuse(&mut self, late: Duration) {
        self.excused = self.excused.saturating_add(late);
    }
}

impl RoundTrip {
    pub(crate) fn with(known: Option<Self>, taken: Duration) -> Self {
        match known {
            None => Self { min: taken, mean: taken, max: taken },
            Some(known) => Self {
                min: known.min.min(taken),
                mean: known.mean - known.mean / 8 + taken / 8,
                max: known.max.max(taken),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_packets_that_are_on_their_way_are_taken_and_once() {
        let start = Instant::now(); // an origin only
        let ms = |count| start + Duration::from_millis(count);
        let mut echo = Echo::new(start, Duration::from_millis(10));
        (1..=3).for_each(|nonce| echo.sends(ms(nonce * 10), nonce));
        assert_eq!(echo.detect_at(3), None, "nothing has ever come back");
        assert_eq!(echo.returned(ms(40), 9), None);
        assert_eq!(echo.returned(ms(40), 2), Some(Duration::from_millis(20)));
        assert_eq!(echo.returned(ms(41), 2), None, "replayed");
        assert_eq!(echo.returned(ms(41), 1), None, "overtaken");
        assert_eq!(echo.detect_at(3), Some(ms(70)));
        assert_eq!(echo.returned(ms(42), 3), Some(Duration::from_millis(12)));
        (0..10_000).for_each(|nonce| echo.sends(ms(50), nonce));
        assert_eq!(echo.sent.len(), ON_THEIR_WAY);
    }

    proptest! {
        #[test]
        fn any_octets_are_survived_and_what_parses_emits_back(octets in proptest::collection::vec(any::<u8>(), 0..16)) {
            if let Some(packet) = EchoPacket::parse(&octets) {
                prop_assert_eq!(&packet.emit()[..], &octets[..]);
            }
        }

        #[test]
        fn what_is_emitted_parses(discriminator: NonZeroU32, nonce: u64) {
            let packet = EchoPacket { discriminator, nonce };
            prop_assert_eq!(EchoPacket::parse(&packet.emit()), Some(packet));
        }
    }
}
