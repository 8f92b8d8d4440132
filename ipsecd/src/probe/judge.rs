//! Whether anybody answers in a tunnel: when to ask, when nobody has answered for too long, and when somebody does again.
//!
//! Deadlines are absolute: the owner asks [`Judge::deadline`] and comes back then. Nothing here reads a clock. One who comes
//! late has answers waiting that were not read in time, and perhaps packets that were not even opened: what the host did
//! not get done is not held against the peer, as in BFD.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use config::model::Probe;

/// Answers in a row that end a silence: one packet that comes through is no path.
const ROW: u32 = 3;
/// What a timer may be late by without meaning that the host is busy.
const PUNCTUAL: Duration = Duration::from_millis(20);

/// Asks one address, and judges by its answers.
#[derive(Debug)]
pub(crate) struct Judge {
    interval: Duration,
    timeout: Duration,
    next_ask: Instant,
    /// Of the next question.
    sequence: u16,
    /// Questions without an answer, oldest first. None is older than the timeout when a tick has ended.
    open: VecDeque<Question>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug)]
struct Question {
    sequence: u16,
    asked: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// Somebody answers. It is over when nobody has until `silent_at`, which is put off by as much as we are late, but for
    /// no more than `grace` in all.
    Answers { silent_at: Instant, grace: Duration },
    /// Nobody does. The last question that was answered all the same, and how many of those before it in a row.
    Silent { row: u32, last: Option<u16> },
}

/// A change of mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nobody has answered for the timeout.
    Silent,
    /// Somebody answers again.
    Answers,
}

/// What is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// A question to send.
    pub(crate) ask: Option<u16>,
    /// Questions that are not waited for any longer.
    pub(crate) lost: u64,
    /// The verdict, where it is another one.
    pub(crate) turn: Option<Turn>,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// How long it took.
    pub(crate) round_trip: Duration,
    /// The verdict, where it is another one.
    pub(crate) turn: Option<Turn>,
}

impl Judge {
    /// Begins to ask at once. A tunnel in which nobody answered before is silent until it is shown otherwise; any other has
    /// the timeout to answer.
    pub(crate) fn new(now: Instant, probe: &Probe, silent: bool) -> Self {
        let Probe { interval, timeout, .. } = *probe;
        let verdict = if silent { Verdict::Silent { row: 0, last: None } } else { Verdict::answers(now, timeout) };
        Self { interval, timeout, next_ask: now, sequence: 0, open: VecDeque::new(), verdict }
    }

    /// When to call [`Self::tick`].
    pub(crate) fn deadline(&self) -> Instant {
        match self.verdict {
            Verdict::Answers { silent_at, .. } => self.next_ask.min(silent_at),
            Verdict::Silent { .. } => self.next_ask,
        }
    }

    /// Serves what is due. All that has arrived is to be told by [`Self::answered`] before.
    pub(crate) fn tick(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        let late = now.saturating_duration_since(self.deadline());
        if let Verdict::Answers { silent_at, grace } = &mut self.verdict {
            if late > PUNCTUAL {
                let more = late.min(*grace);
                *grace -= more;
                *silent_at = (*silent_at).max(now) + more;
            }
            if *silent_at <= now {
                self.verdict = Verdict::Silent { row: 0, last: None };
                due.turn = Some(Turn::Silent);
            }
        }
        while self.open.front().is_some_and(|question| question.asked + self.timeout <= now) {
            self.open.pop_front();
            due.lost += 1;
        }
        if self.next_ask <= now {
            self.open.push_back(Question { sequence: self.sequence, asked: now });
            due.ask = Some(self.sequence);
            self.sequence = self.sequence.wrapping_add(1);
            self.next_ask = now + self.interval;
        }
        due
    }

    /// Somebody has answered the question of this number. `None` where it was not asked, or was answered or given up
    /// before.
    pub(crate) fn answered(&mut self, now: Instant, sequence: u16) -> Option<Answer> {
        let at = self.open.iter().position(|question| question.sequence == sequence)?;
        let question = self.open.remove(at)?;
        let round_trip = now.saturating_duration_since(question.asked);
        let turn = match &mut self.verdict {
            answers @ Verdict::Answers { .. } => {
                *answers = Verdict::answers(now, self.timeout);
                None
            }
            Verdict::Silent { row, last } => {
                *row = if last.is_some_and(|last| last.wrapping_add(1) == sequence) { *row + 1 } else { 1 };
                *last = Some(sequence);
                (*row >= ROW).then_some(Turn::Answers)
            }
        };
        if turn.is_some() {
            self.verdict = Verdict::answers(now, self.timeout);
        }
        Some(Answer { round_trip, turn })
    }
}

impl Verdict {
    fn answers(now: Instant, timeout: Duration) -> Self {
        Self::Answers { silent_at: now + timeout, grace: timeout }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A peer and a path on a virtual clock; time goes from deadline to deadline.
    struct Bench {
        start: Instant,
        now: Instant,
        judge: Judge,
        /// How long an answer takes, where one comes.
        round_trip: Option<Duration>,
        on_the_way: VecDeque<(Instant, u16)>,
        asked: u64,
        lost: u64,
        turns: Vec<(u128, Turn)>,
    }

    impl Bench {
        fn new(silent: bool) -> Self {
            let start = Instant::now(); // an origin only
            let probe = Probe::new([169, 254, 1, 1].into());
            assert_eq!((probe.interval, probe.timeout), (millis(500), millis(1500)));
            Self {
                start,
                now: start,
                judge: Judge::new(start, &probe, silent),
                round_trip: Some(millis(20)),
                on_the_way: VecDeque::new(),
                asked: 0,
                lost: 0,
                turns: Vec::new(),
            }
        }

        fn turn(&mut self, turn: Option<Turn>) {
            let at = (self.now - self.start).as_millis();
            self.turns.extend(turn.map(|turn| (at, turn)));
        }

        fn tick(&mut self) {
            let due = self.judge.tick(self.now);
            self.asked += u64::from(due.ask.is_some());
            self.lost += due.lost;
            self.turn(due.turn);
            if let (Some(sequence), Some(round_trip)) = (due.ask, self.round_trip) {
                self.on_the_way.push_back((self.now + round_trip, sequence));
            }
            assert!(self.judge.deadline() > self.now, "serving a timer moves the deadline on");
        }

        /// Lets everything happen until so many milliseconds after the start.
        fn until(&mut self, at: u64) {
            let end = self.start + millis(at);
            loop {
                let arrival = self.on_the_way.front().copied();
                let next = arrival.map_or(self.judge.deadline(), |(at, _)| at.min(self.judge.deadline()));
                if next > end {
                    break;
                }
                self.now = next;
                if let Some((_, sequence)) = arrival.filter(|(at, _)| *at == next) {
                    self.on_the_way.pop_front();
                    let answer = self.judge.answered(next, sequence).expect("it was asked");
                    self.turn(answer.turn);
                } else {
                    self.tick();
                }
            }
            self.now = end;
        }
    }

    #[test]
    fn a_path_that_answers_is_asked_at_its_interval_and_nothing_else_happens() {
        let mut bench = Bench::new(false);
        bench.until(60_000);
        assert_eq!((bench.asked, bench.lost), (121, 0));
        assert_eq!(bench.turns, []);
    }

    #[test]
    fn silence_counts_from_the_last_answer_and_three_answers_in_a_row_end_it() {
        let mut bench = Bench::new(false);
        bench.until(10_100);
        bench.round_trip = None;
        bench.until(30_100);
        assert_eq!(bench.turns, [(11_520, Turn::Silent)], "1500 ms after the answer at 10,020");
        assert_eq!(bench.lost, 37, "those from 10,500 to 28,500; three are still waited for");
        bench.round_trip = Some(millis(20));
        bench.until(60_000);
        assert_eq!(bench.turns[1..], [(31_520, Turn::Answers)], "asked at 30,500, 31,000 and 31,500");
    }

    #[test]
    fn one_who_never_answers_has_the_timeout_to_begin() {
        let mut bench = Bench::new(false);
        bench.round_trip = None;
        bench.until(60_000);
        assert_eq!(bench.turns, [(1500, Turn::Silent)], "told once");
    }

    #[test]
    fn a_tunnel_that_was_silent_before_is_so_until_it_answers() {
        let mut bench = Bench::new(true);
        bench.round_trip = None;
        bench.until(20_100);
        assert_eq!(bench.turns, []);
        bench.round_trip = Some(millis(20));
        bench.until(60_000);
        assert_eq!(bench.turns, [(21_520, Turn::Answers)]);
    }

    #[test]
    fn every_second_question_lost_is_no_silence() {
        let mut bench = Bench::new(false);
        for round in 0..20 {
            bench.round_trip = Some(millis(20));
            bench.until(round * 1000 + 400);
            bench.round_trip = None;
            bench.until(round * 1000 + 900);
        }
        assert_eq!(bench.turns, []);
        assert!(bench.lost >= 18, "{} lost", bench.lost);
    }

    #[test]
    fn now_and_then_an_answer_does_not_end_a_silence() {
        let mut bench = Bench::new(true);
        for round in 0..20 {
            bench.round_trip = Some(millis(20));
            bench.until(round * 1500 + 900);
            bench.round_trip = None;
            bench.until(round * 1500 + 1400);
        }
        assert_eq!(bench.turns, [], "two of three");
    }

    #[test]
    fn an_answer_that_takes_longer_than_the_interval_is_one() {
        let mut bench = Bench::new(false);
        bench.round_trip = Some(millis(1300));
        bench.until(60_000);
        assert_eq!((bench.turns.len(), bench.lost), (0, 0));
        bench.round_trip = None;
        bench.until(61_000);
        assert_eq!(bench.turns, [], "answers are still on the way");
    }

    #[test]
    fn what_was_not_asked_says_nothing() {
        let mut bench = Bench::new(true);
        bench.round_trip = None;
        bench.until(1100);
        let judge = &mut bench.judge;
        assert_eq!(judge.answered(bench.now, 3), None, "not asked yet");
        let heard = |turn| Some(Answer { round_trip: millis(100), turn });
        assert_eq!(judge.answered(bench.now, 2), heard(None));
        assert_eq!(judge.answered(bench.now, 2), None, "said twice");
        assert_eq!(judge.answered(bench.start + millis(3000), 0).map(|answer| answer.turn), Some(None), "out of order");
        bench.until(5000);
        assert_eq!(bench.judge.answered(bench.now, 1), None, "given up");
    }

    #[test]
    fn a_host_that_was_busy_blames_nobody() {
        let mut bench = Bench::new(false);
        bench.until(10_100);
        bench.on_the_way.clear();
        // 4 s in which nothing runs; the answers have not been opened either.
        bench.now = bench.start + millis(14_100);
        bench.tick();
        assert_eq!(bench.turns, [], "it was put off");
        bench.until(20_000);
        assert_eq!(bench.turns, [], "they answer");
        bench.round_trip = None;
        for at in (20_400..40_000).step_by(1000) {
            bench.now = bench.start + millis(at);
            bench.tick();
        }
        assert_eq!(bench.turns.len(), 1, "not for ever, however late we always are");
    }

    #[test]
    fn numbers_begin_anew_without_a_break() {
        let mut bench = Bench::new(false);
        bench.judge.sequence = u16::MAX - 2;
        bench.until(10_100);
        bench.round_trip = None;
        bench.until(20_100);
        bench.judge.sequence = u16::MAX;
        bench.judge.open.clear();
        bench.round_trip = Some(millis(20));
        bench.until(30_000);
        assert_eq!(bench.turns, [(11_520, Turn::Silent), (21_520, Turn::Answers)]);
    }
}
