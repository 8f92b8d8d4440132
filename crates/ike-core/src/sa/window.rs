//! Message IDs, retransmission and the answer to a repeated request (RFC 7296 §2.1-§2.3).
//!
//! The window is one request each way, the size that every peer must support: a request is sent again until it is
//! answered or given up, and the last answer is kept until the next request shows that it arrived. Requests that wait
//! for their turn are kept by the owner as intentions, not as messages, because what they say depends on what happened
//! meanwhile.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::Retransmission;

/// The request window of one IKE SA; `X` is what the owner remembers about a request while it waits for the answer.
#[derive(Debug)]
pub(crate) struct Window<X> {
    next_request: u32,
    next_expected: u32,
    outstanding: Option<Outstanding<X>>,
    answered: Option<Answered>,
}

/// A request without its answer.
#[derive(Debug)]
pub(crate) struct Outstanding<X> {
    pub(crate) message_id: u32,
    pub(crate) exchange: X,
    pub(crate) packets: Vec<Bytes>,
    pub(crate) first_sent: Instant,
    interval: Duration,
    next_at: Instant,
    give_up_at: Instant,
    policy: Retransmission,
}

/// The last request that was answered, and the answer.
#[derive(Debug)]
struct Answered {
    message_id: u32,
    /// The request's first packet: only a bitwise copy of it is answered again (RFC 7296 §2.1).
    request: Bytes,
    packets: Vec<Bytes>,
}

/// Where a request's message ID lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// The next request in turn.
    Expected,
    /// The one answered last.
    Repeated,
    /// Too old or too new.
    Outside,
}

/// What a request needs at a given time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet.
    Nothing,
    /// To be sent once more.
    Again(Vec<Bytes>),
    /// No answer came in the time allowed.
    GiveUp {
        /// Since the first transmission.
        waited: Duration,
    },
}

impl<X> Window<X> {
    /// A window whose next own request is `next_request` and whose next expected one is `next_expected`.
    pub(crate) fn new(next_request: u32, next_expected: u32) -> Self {
        Self { next_request, next_expected, outstanding: None, answered: None }
    }

    /// Whether a request of ours waits for its answer.
    pub(crate) fn is_busy(&self) -> bool {
        self.outstanding.is_some()
    }

    /// The request that waits, if any.
    pub(crate) fn outstanding(&self) -> Option<&Outstanding<X>> {
        self.outstanding.as_ref()
    }

    /// The request that waits, if any.
    pub(crate) fn outstanding_mut(&mut self) -> Option<&mut Outstanding<X>> {
        self.outstanding.as_mut()
    }

    /// The message ID that the next request of ours takes; `None` once all are used up (RFC 7296 §2.2: rekey before).
    pub(crate) fn next_request(&self) -> Option<u32> {
        (self.next_request < u32::MAX).then_some(self.next_request)
    }

    /// Remembers a request that has just been sent for the first time.
    pub(crate) fn sent(&mut self, now: Instant, policy: Retransmission, exchange: X, packets: Vec<Bytes>) {
        let message_id = self.next_request;
        self.next_request = self.next_request.saturating_add(1);
        self.outstanding = Some(Outstanding {
            message_id,
            exchange,
            packets,
            first_sent: now,
            interval: policy.first,
            next_at: now + policy.first,
            give_up_at: now + policy.give_up,
            policy,
        });
    }

    /// Takes the request that `message_id` answers.
    pub(crate) fn answer(&mut self, message_id: u32) -> Option<Outstanding<X>> {
        self.outstanding.take_if(|outstanding| outstanding.message_id == message_id)
    }

    /// Drops the request that waits; its message ID stays used.
    pub(crate) fn abandon(&mut self) -> Option<Outstanding<X>> {
        self.outstanding.take()
    }

    /// Begins anew with the request that waits, as if it had just been sent; gives its packets.
    pub(crate) fn restart(&mut self, now: Instant, policy: Retransmission) -> Option<Vec<Bytes>> {
        let outstanding = self.outstanding.as_mut()?;
        outstanding.policy = policy;
        outstanding.interval = policy.first;
        outstanding.first_sent = now;
        outstanding.next_at = now + policy.first;
        outstanding.give_up_at = now + policy.give_up;
        Some(outstanding.packets.clone())
    }

    /// There is a reason to ask again sooner: the next repetition comes as early as the first one did.
    pub(crate) fn hasten(&mut self) {
        if let Some(outstanding) = &mut self.outstanding {
            let early = outstanding.interval.saturating_sub(outstanding.policy.first);
            outstanding.next_at = outstanding.next_at.checked_sub(early).unwrap_or(outstanding.next_at);
            outstanding.interval = outstanding.policy.first;
        }
    }

    /// Where a request of the peer with this message ID lies.
    pub(crate) fn position(&self, message_id: u32) -> Position {
        if message_id == self.next_expected {
            Position::Expected
        } else if self.answered.as_ref().is_some_and(|answered| answered.message_id == message_id) {
            Position::Repeated
        } else {
            Position::Outside
        }
    }

    /// Remembers the answer to the request expected next, and expects the one after it.
    pub(crate) fn answered(&mut self, request: Bytes, packets: Vec<Bytes>) {
        self.answered = Some(Answered { message_id: self.next_expected, request, packets });
        self.next_expected = self.next_expected.saturating_add(1);
    }

    /// The answer to a repeated request, if `datagram` is a bitwise copy of what was answered.
    ///
    /// For a fragmented request that is its first fragment, so that each repetition is answered once
    /// (RFC 7383 §2.6.1).
    pub(crate) fn repeat(&self, datagram: &[u8]) -> Option<&[Bytes]> {
        self.answered.as_ref().filter(|answered| answered.request == datagram).map(|answered| &answered.packets[..])
    }

    /// When [`Window::due`] has something to say.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.outstanding.as_ref().map(|outstanding| outstanding.next_at.min(outstanding.give_up_at))
    }

    /// What the outstanding request needs now. Giving up leaves it in place: the owner closes the SA.
    ///
    /// `alive` is when the peer last showed life by other means than an answer (inbound ESP, a request of its own): it
    /// is not declared dead for the missing answer, only asked on.
    pub(crate) fn due(&mut self, now: Instant, alive: Option<Instant>) -> Due {
        let Some(outstanding) = &mut self.outstanding else { return Due::Nothing };
        if let Some(alive) = alive {
            outstanding.give_up_at = outstanding.give_up_at.max(alive + outstanding.policy.give_up);
        }
        if now >= outstanding.give_up_at {
            return Due::GiveUp { waited: now.saturating_duration_since(outstanding.first_sent) };
        }
        if now < outstanding.next_at {
            return Due::Nothing;
        }
        // RFC 7296 §2.4: exponential back-off, here with a ceiling so that a peer that returns is noticed.
        outstanding.interval = (outstanding.interval * 2).min(outstanding.policy.ceiling);
        outstanding.next_at = now + outstanding.interval;
        Due::Again(outstanding.packets.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const POLICY: Retransmission = Retransmission {
        first: Duration::from_millis(100),
        ceiling: Duration::from_millis(400),
        give_up: Duration::from_millis(1600),
    };

    fn packet(text: &'static str) -> Vec<Bytes> {
        vec![Bytes::from_static(text.as_bytes())]
    }

    #[test]
    fn a_request_is_repeated_with_growing_pauses_until_it_is_given_up() {
        let start = Instant::now();
        let mut window = Window::new(0, 0);
        window.sent(start, POLICY, (), packet("request"));
        let mut at = Vec::new();
        loop {
            let now = window.deadline().unwrap();
            match window.due(now, None) {
                Due::Again(packets) => {
                    assert_eq!(packets, packet("request"));
                    at.push((now - start).as_millis());
                }
                Due::GiveUp { waited } => break assert_eq!(waited, 1600 * MS),
                Due::Nothing => panic!("the deadline came and nothing was due"),
            }
        }
        assert_eq!(at, [100, 300, 700, 1100, 1500]);
    }

    #[test]
    fn a_peer_whose_data_flows_is_not_given_up() {
        let start = Instant::now();
        let mut window = Window::new(0, 0);
        window.sent(start, POLICY, (), packet("request"));
        assert!(matches!(window.due(start + 1600 * MS, Some(start + 1000 * MS)), Due::Again(_)));
        assert!(matches!(window.due(start + 2600 * MS, Some(start + 1000 * MS)), Due::GiveUp { .. }));
    }

    #[test]
    fn a_hastened_request_keeps_the_first_pause() {
        let start = Instant::now();
        let mut window = Window::new(0, 0);
        window.sent(start, POLICY, (), packet("request"));
        for at in [100, 300, 700] {
            assert!(matches!(window.due(start + at * MS, None), Due::Again(_)));
        }
        for _ in 0..3 {
            window.hasten();
            assert_eq!(window.deadline(), Some(start + 800 * MS), "once is as good as often");
        }
        assert!(matches!(window.due(start + 800 * MS, None), Due::Again(_)));
        assert_eq!(window.deadline(), Some(start + 1000 * MS));
    }

    #[test]
    fn only_the_matching_answer_ends_a_request() {
        let mut window = Window::new(7, 0);
        window.sent(Instant::now(), POLICY, "exchange", packet("request"));
        assert!(window.answer(6).is_none());
        assert!(window.answer(8).is_none());
        assert_eq!(window.answer(7).map(|o| o.exchange), Some("exchange"));
        assert!(window.answer(7).is_none(), "a repeated answer finds nothing");
        assert_eq!(window.next_request(), Some(8));
    }

    #[test]
    fn a_repeated_request_is_answered_again_only_if_it_is_the_same() {
        let mut window = Window::<()>::new(0, 5);
        assert_eq!(window.position(5), Position::Expected);
        window.answered(Bytes::from_static(b"question"), packet("answer"));
        assert_eq!(window.position(5), Position::Repeated);
        assert_eq!(window.position(4), Position::Outside);
        assert_eq!(window.position(7), Position::Outside);
        assert_eq!(window.position(6), Position::Expected);
        assert_eq!(window.repeat(b"question"), Some(&packet("answer")[..]));
        assert_eq!(window.repeat(b"other"), None);
    }
}
