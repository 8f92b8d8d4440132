//! How long a path that flaps is held down after it has come back.
//!
//! A path that has failed [`failures`](Settings::failures) times within [`within`](Settings::within) is not used at once
//! when it works again, but held: first for [`hold`](Settings::hold), then for twice as long with each further failure, up
//! to [`max`](Settings::max). After as long as `max` without a failure or a hold everything about it is forgotten, an
//! outage that lasts so long with it: that is no flapping.
//!
//! It is counted here, and no more: the owner says what failed and what is back, acts on the answers, and comes back at
//! [`poll_timeout`](Damping::poll_timeout). Nothing here reads a clock. What is remembered is bounded by the number of paths,
//! and for each of them by the number of failures that it takes.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

pub use config::model::PathDamping as Settings;

/// What is known of every path that has failed lately.
#[derive(Clone, Debug)]
pub struct Damping<K> {
    settings: Option<Settings>,
    paths: BTreeMap<K, Record>,
}

/// What was said of a path.
#[derive(Clone, Debug)]
struct Record {
    /// The latest failures within the window, oldest first; never more than it takes to be held.
    recent: VecDeque<Instant>,
    /// Failures since it was last forgotten.
    failures: u32,
    /// How long it is held at its next return; `None` while it may be used at once.
    hold: Option<Duration>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// In use, if at all, as any other; since then.
    Calm { since: Instant },
    /// It has failed and is not back; since then.
    Down { since: Instant },
    /// It works, and is held until then.
    Held { until: Instant },
}

/// What became of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to an outage that is known already, or nothing is counted.
    Known,
    /// It is new, and the path may be used as soon as it is back.
    Counted,
    /// It is new, and the path is to be held for that long once it is back.
    ToBeHeld(Duration),
}

/// A path is held from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Failures since it was last forgotten.
    pub failures: u32,
    /// For so long.
    pub hold: Duration,
    /// Until then, unless it fails again.
    pub until: Instant,
}

/// What is shown of a path that is held, or will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Failures since it was last forgotten.
    pub failures: u32,
    /// How long it is held at a time.
    pub hold: Duration,
    /// Until when; `None` while it is not back yet.
    pub until: Option<Instant>,
}

impl<K: Ord + Copy> Damping<K> {
    /// Nothing is known; nothing is held without settings.
    pub fn new(settings: Option<Settings>) -> Self {
        Self { settings, paths: BTreeMap::new() }
    }

    /// Judges by these settings from the next failure on. Without any, everything is forgotten: gives what was held, or
    /// would have been.
    pub fn configure(&mut self, settings: Option<Settings>) -> Vec<K> {
        self.settings = settings;
        if settings.is_some() { Vec::new() } else { self.release(|_| true) }
    }

    /// The path does not work any more. Several detectors may say so of one outage; it counts once.
    pub fn failed(&mut self, now: Instant, path: K) -> Verdict {
        let Some(settings) = self.settings else { return Verdict::Known };
        let fresh = || Record { recent: VecDeque::new(), failures: 0, hold: None, phase: Phase::Calm { since: now } };
        let record = self.paths.entry(path).or_insert_with(fresh);
        if matches!(record.phase, Phase::Down { .. }) {
            return Verdict::Known;
        }
        record.phase = Phase::Down { since: now };
        record.failures = record.failures.saturating_add(1);
        record.recent.push_back(now);
        let enough = usize::from(settings.failures);
        while record.recent.len() > enough
            || record.recent.front().is_some_and(|at| now.saturating_duration_since(*at) > settings.within)
        {
            record.recent.pop_front();
        }
        record.hold = match record.hold {
            Some(last) => Some(last.saturating_mul(2).min(settings.max)),
            None => (record.recent.len() >= enough).then_some(settings.hold),
        };
        record.hold.map_or(Verdict::Counted, Verdict::ToBeHeld)
    }

    /// Whether anything is counted.
    pub fn is_on(&self) -> bool {
        self.settings.is_some()
    }

    /// Whether the path has failed lately.
    pub fn knows(&self, path: &K) -> bool {
        self.paths.contains_key(path)
    }

    /// Whether the path has failed and is not known to be back.
    pub fn is_down(&self, path: &K) -> bool {
        matches!(self.paths.get(path), Some(Record { phase: Phase::Down { .. }, .. }))
    }

    /// The path works again. Tells whether it is held for a time.
    pub fn recovered(&mut self, now: Instant, path: &K) -> Option<Held> {
        let record = self.paths.get_mut(path).filter(|record| matches!(record.phase, Phase::Down { .. }))?;
        let Some(hold) = record.hold else {
            record.phase = Phase::Calm { since: now };
            return None;
        };
        let until = now + hold;
        record.phase = Phase::Held { until };
        Some(Held { failures: record.failures, hold, until })
    }

    /// When to come back and [`expire`](Self::expire).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let settings = self.settings?;
        self.paths.values().map(|record| record.due(&settings)).min()
    }

    /// Ends what is over by now. Gives paths that were held and are not any more, or that are not to be once they are back.
    pub fn expire(&mut self, now: Instant) -> Vec<K> {
        let Some(settings) = self.settings else { return Vec::new() };
        let mut released = Vec::new();
        self.paths.retain(|path, record| {
            if record.due(&settings) > now {
                return true;
            }
            match record.phase {
                Phase::Held { .. } => {
                    record.phase = Phase::Calm { since: now };
                    released.push(*path);
                    true
                }
                Phase::Down { .. } => {
                    released.extend(record.hold.map(|_| *path));
                    false
                }
                Phase::Calm { .. } => false,
            }
        });
        released
    }

    /// Forgets these paths. Gives those that were held, or would have been.
    pub fn release(&mut self, mut wanted: impl FnMut(&K) -> bool) -> Vec<K> {
        let mut released = Vec::new();
        self.paths.retain(|path, record| {
            let forget = wanted(path);
            let holds = record.hold.is_some() && !matches!(record.phase, Phase::Calm { .. });
            released.extend((forget && holds).then_some(*path));
            !forget
        });
        released
    }

    /// Every path that is held, or will be when it is back.
    pub fn sentences(&self) -> impl Iterator<Item = (&K, Sentence)> {
        self.paths.iter().filter_map(|(path, record)| {
            let Record { failures, hold: Some(hold), phase, .. } = *record else { return None };
            let until = match phase {
                Phase::Calm { .. } => return None,
                Phase::Down { .. } => None,
                Phase::Held { until } => Some(until),
            };
            Some((path, Sentence { failures, hold, until }))
        })
    }

    /// The same of one path.
    pub fn sentence(&self, path: &K) -> Option<Sentence> {
        self.sentences().find(|(known, _)| *known == path).map(|(_, sentence)| sentence)
    }
}

impl Record {
    /// When its phase is over.
    fn due(&self, settings: &Settings) -> Instant {
        // What may count towards a hold has to be remembered even where holds are short.
        let calm = settings.max.max(settings.within);
        match self.phase {
            Phase::Calm { since } | Phase::Down { since } => since + calm,
            Phase::Held { until } => until,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Settings = Settings {
        failures: 3,
        within: Duration::from_secs(60),
        hold: Duration::from_secs(5),
        max: Duration::from_secs(300),
    };

    const NOBODY: [u32; 0] = [];

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Fails and is back a second later, so often, ten seconds apart.
    fn flap(damping: &mut Damping<u32>, mut now: Instant, times: usize) -> (Instant, Vec<Option<u64>>) {
        let mut holds = Vec::new();
        for _ in 0..times {
            damping.failed(now, 1);
            holds.push(damping.recovered(now + secs(1), &1).map(|held| held.hold.as_secs()));
            now += secs(10);
        }
        (now, holds)
    }

    #[test]
    fn the_third_failure_is_held_and_each_further_one_twice_as_long_up_to_the_bound() {
        let mut damping = Damping::new(Some(SETTINGS));
        let (_, holds) = flap(&mut damping, Instant::now(), 10);
        let longest = [Some(5), Some(10), Some(20), Some(40), Some(80), Some(160), Some(300), Some(300)];
        assert_eq!(holds[..2], [None, None]);
        assert_eq!(holds[2..], longest);
    }

    #[test]
    fn failures_that_are_far_apart_are_not_held() {
        let mut damping = Damping::new(Some(SETTINGS));
        let mut now = Instant::now();
        for _ in 0..20 {
            assert_eq!(damping.failed(now, 1), Verdict::Counted);
            assert_eq!(damping.recovered(now + secs(1), &1), None);
            now += secs(31);
        }
        assert_eq!(damping.failed(now - secs(11), 1), Verdict::ToBeHeld(secs(5)), "three within a minute");
    }

    #[test]
    fn one_outage_counts_once_however_many_see_it() {
        let (mut damping, now) = (Damping::new(Some(SETTINGS)), Instant::now());
        assert_eq!(damping.failed(now, 1), Verdict::Counted);
        for second in 1..10 {
            assert_eq!(damping.failed(now + secs(second), 1), Verdict::Known);
        }
        assert!(damping.is_down(&1));
        assert_eq!(damping.recovered(now + secs(10), &1), None);
        assert!(!damping.is_down(&1));
        assert_eq!(damping.recovered(now + secs(10), &1), None, "it is back already");
        assert_eq!(damping.failed(now + secs(11), 2), Verdict::Counted, "another path");
    }

    #[test]
    fn a_path_is_released_in_time_and_its_penalty_is_forgotten_after_a_calm_time() {
        let mut damping = Damping::new(Some(SETTINGS));
        let (now, _) = flap(&mut damping, Instant::now(), 3);
        let back = now - secs(9);
        assert_eq!(damping.poll_timeout(), Some(back + secs(5)));
        let sentence = Sentence { failures: 3, hold: secs(5), until: Some(back + secs(5)) };
        assert_eq!(damping.sentence(&1), Some(sentence));
        assert_eq!(damping.expire(back + secs(4)), NOBODY, "too early");
        assert_eq!(damping.expire(back + secs(5)), [1]);
        assert_eq!(damping.sentence(&1), None);

        let mut not_calm = damping.clone();
        assert_eq!(not_calm.failed(back + secs(304), 1), Verdict::ToBeHeld(secs(10)), "not calm for long enough");
        assert_eq!(damping.poll_timeout(), Some(back + secs(305)));
        assert_eq!(damping.expire(back + secs(305)), NOBODY);
        assert_eq!(damping.poll_timeout(), None, "nothing is left of it");
        assert_eq!(damping.failed(back + secs(306), 1), Verdict::Counted);
    }

    #[test]
    fn a_path_that_fails_while_it_is_held_begins_anew_and_stays_away_for_longer() {
        let mut damping = Damping::new(Some(SETTINGS));
        let (now, _) = flap(&mut damping, Instant::now(), 3);
        let back = now - secs(9);
        assert_eq!(damping.failed(back + secs(3), 1), Verdict::ToBeHeld(secs(10)));
        assert_eq!(damping.expire(back + secs(5)), NOBODY, "that hold is no more");
        assert_eq!(damping.sentence(&1).map(|sentence| sentence.until), Some(None));
        let held = Held { failures: 4, hold: secs(10), until: back + secs(16) };
        assert_eq!(damping.recovered(back + secs(6), &1), Some(held));
    }

    #[test]
    fn an_outage_that_lasts_is_no_flapping() {
        let mut damping = Damping::new(Some(SETTINGS));
        let (now, _) = flap(&mut damping, Instant::now(), 2);
        assert_eq!(damping.failed(now, 1), Verdict::ToBeHeld(secs(5)));
        assert_eq!(damping.expire(now + secs(299)), NOBODY);
        assert_eq!(damping.expire(now + secs(300)), [1], "it is not to be held any more");
        assert_eq!(damping.recovered(now + secs(301), &1), None);
    }

    #[test]
    fn what_is_released_by_hand_is_forgotten() {
        let mut damping = Damping::new(Some(SETTINGS));
        let (now, _) = flap(&mut damping, Instant::now(), 3);
        damping.failed(now, 2);
        assert_eq!(damping.release(|path| *path == 2), NOBODY, "it was not held");
        assert_eq!(damping.release(|_| true), [1]);
        assert_eq!(damping.poll_timeout(), None);
        assert_eq!(damping.failed(now, 1), Verdict::Counted);
    }

    #[test]
    fn without_settings_nothing_is_held_and_whoever_was_is_free() {
        let mut damping = Damping::new(Some(SETTINGS));
        flap(&mut damping, Instant::now(), 3);
        assert_eq!(damping.configure(Some(Settings { failures: 2, ..SETTINGS })), NOBODY);
        assert!(damping.sentence(&1).is_some(), "other settings do not end it");
        assert_eq!(damping.configure(None), [1]);
        let (_, holds) = flap(&mut damping, Instant::now(), 5);
        assert!(holds.iter().all(Option::is_none) && damping.poll_timeout().is_none());
    }

    proptest! {
        /// Whatever happens: serving the deadline moves it on, no hold is out of bounds, and a path that is left alone is
        /// used and forgotten in the end.
        #[test]
        fn every_hold_is_bounded_and_ends(steps in proptest::collection::vec((0..3u8, 0..3u32, 0..90u64), 1..200)) {
            let mut damping = Damping::new(Some(SETTINGS));
            let mut now = Instant::now();
            for (what, path, pause) in steps {
                now += secs(pause);
                match what {
                    0 => drop(damping.failed(now, path)),
                    1 => drop(damping.recovered(now, &path)),
                    _ => drop(damping.expire(now)),
                }
                for (_, sentence) in damping.sentences() {
                    prop_assert!((SETTINGS.hold..=SETTINGS.max).contains(&sentence.hold));
                }
            }
            for _ in 0..2 * 3 {
                let Some(due) = damping.poll_timeout() else { break };
                now = now.max(due);
                damping.expire(now);
                prop_assert!(damping.poll_timeout().is_none_or(|next| next > now));
            }
            prop_assert_eq!(damping.poll_timeout(), None);
        }
    }
}
