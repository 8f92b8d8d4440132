//! Deadlines of many things, the earliest first.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// Each key has at most one deadline.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    in_order: BTreeSet<(Instant, K)>,
    armed: BTreeMap<K, Instant>,
}

impl<K: Ord + Clone> Timers<K> {
    pub(crate) fn new() -> Self {
        Self { in_order: BTreeSet::new(), armed: BTreeMap::new() }
    }

    /// Replaces the key's deadline; `None` disarms it.
    pub(crate) fn set(&mut self, key: &K, deadline: Option<Instant>) {
        let before = match deadline {
            Some(at) => self.armed.insert(key.clone(), at),
            None => self.armed.remove(key),
        };
        if before == deadline {
            return;
        }
        if let Some(at) = before {
            self.in_order.remove(&(at, key.clone()));
        }
        if let Some(at) = deadline {
            self.in_order.insert((at, key.clone()));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// The keys whose deadline has come, earliest first; they stay armed until they are set anew.
    pub(crate) fn due(&self, now: Instant) -> Vec<K> {
        self.in_order.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_deadline_comes_first_and_can_be_moved() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::new();
        timers.set(&"a", Some(at(3)));
        timers.set(&"b", Some(at(2)));
        timers.set(&"c", Some(at(9)));
        assert_eq!(timers.next(), Some(at(2)));
        assert_eq!(timers.due(at(3)), ["b", "a"]);
        timers.set(&"b", Some(at(7)));
        timers.set(&"a", None);
        assert_eq!(timers.next(), Some(at(7)));
        assert_eq!(timers.due(at(6)), Vec::<&str>::new());
        timers.set(&"b", None);
        timers.set(&"c", None);
        assert_eq!(timers.next(), None);
    }
}
