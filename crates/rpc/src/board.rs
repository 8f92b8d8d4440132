//! State for any number of subscribers: all of it first, then changes.
//!
//! A board keeps one value a key and numbers every change. A subscription is only the number up to which it has seen:
//! what it is owed are the keys changed since, oldest change first, each with its newest value. So a subscriber costs no
//! queue, a slow one gets fewer, newer values instead of losing any key, and the publisher never waits.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// One thing that a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<K, V> {
    /// The key has this value now.
    Set(K, V),
    /// The key is gone.
    Removed(K),
    /// All that existed when the subscription began has been told.
    Synced,
}

/// See the [module](self). Clones show the same board.
#[derive(Debug)]
pub struct Board<K, V> {
    shared: Arc<Shared<K, V>>,
}

#[derive(Debug)]
struct Shared<K, V> {
    state: Mutex<State<K, V>>,
    /// Number of the last change, for those who wait for the next.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State<K, V> {
    last: u64,
    /// By key: number of its last change, and its value unless it is gone.
    entries: BTreeMap<K, (u64, Option<V>)>,
    /// By number: which key changed. Exactly one number a key.
    order: BTreeMap<u64, K>,
    /// By subscription: what it has seen. The slowest tells how long a key that is gone must be remembered.
    seen: BTreeMap<u64, u64>,
    next_subscription: u64,
}

/// One subscriber's view of a [`Board`].
#[derive(Debug)]
pub struct Subscription<K: Ord + Clone, V> {
    shared: Arc<Shared<K, V>>,
    changed: watch::Receiver<u64>,
    number: u64,
    /// Where the board stood at the beginning, until all up to there has been told.
    synced_at: Option<u64>,
}

impl<K, V> Clone for Board<K, V> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> Default for Board<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Shared<K, V> {
    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        // No code of others runs under the lock, and every step leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> Board<K, V> {
    /// An empty board.
    pub fn new() -> Self {
        let state = State {
            last: 0,
            entries: BTreeMap::new(),
            order: BTreeMap::new(),
            seen: BTreeMap::new(),
            next_subscription: 0,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: watch::Sender::new(0) }) }
    }

    /// Gives `key` a value. An equal value is no change.
    pub fn set(&self, key: K, value: V) {
        self.change(key, Some(value));
    }

    /// Takes `key` away.
    pub fn remove(&self, key: &K) {
        self.change(key.clone(), None);
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        self.shared.lock().entries.get(key).and_then(|(_, value)| value.clone())
    }

    /// All that exists.
    pub fn snapshot(&self) -> Vec<(K, V)> {
        let state = self.shared.lock();
        state.entries.iter().filter_map(|(key, (_, value))| Some((key.clone(), value.clone()?))).collect()
    }

    /// Begins to watch.
    pub fn subscribe(&self) -> Subscription<K, V> {
        let changed = self.shared.changed.subscribe();
        let mut state = self.shared.lock();
        let number = state.next_subscription;
        state.next_subscription += 1;
        state.seen.insert(number, 0);
        let synced_at = Some(state.last);
        drop(state);
        Subscription { shared: self.shared.clone(), changed, number, synced_at }
    }

    fn change(&self, key: K, value: Option<V>) {
        let mut state = self.shared.lock();
        let before = state.entries.get(&key);
        if before.and_then(|(_, value)| value.as_ref()) == value.as_ref() {
            return; // Nothing new, or gone before.
        }
        let old_number = before.map(|(number, _)| *number);
        if let Some(number) = old_number {
            state.order.remove(&number);
        }
        state.last += 1;
        let last = state.last;
        state.order.insert(last, key.clone());
        state.entries.insert(key, (last, value));
        state.forget();
        drop(state);
        self.shared.changed.send_replace(last);
    }
}

impl<K: Ord + Clone, V> State<K, V> {
    /// Forgets keys that are gone and of which every subscriber has heard.
    fn forget(&mut self) {
        let heard = self.seen.values().min().copied().unwrap_or(self.last);
        let gone = |key: &K| self.entries.get(key).is_some_and(|(_, value)| value.is_none());
        let numbers: Vec<u64> =
            self.order.range(..=heard).filter(|(_, key)| gone(key)).map(|(number, _)| *number).collect();
        for number in numbers {
            if let Some(key) = self.order.remove(&number) {
                self.entries.remove(&key);
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone> Subscription<K, V> {
    /// What comes next, if something does already.
    pub fn try_next(&mut self) -> Option<Change<K, V>> {
        let mut state = self.shared.lock();
        let mut seen = state.seen.get(&self.number).copied().unwrap_or(0);
        loop {
            let next = state.order.range(seen + 1..).next().map(|(number, key)| (*number, key.clone()));
            let until = next.as_ref().map_or(u64::MAX, |(number, _)| *number);
            if self.synced_at.is_some_and(|synced_at| synced_at < until) {
                self.synced_at = None;
                return Some(Change::Synced);
            }
            let (number, key) = next?;
            seen = number;
            state.seen.insert(self.number, seen);
            match state.entries.get(&key).and_then(|(_, value)| value.clone()) {
                Some(value) => return Some(Change::Set(key, value)),
                // Who has not heard of it yet need not hear that it is gone; but whether it has, nobody remembers.
                None if self.synced_at.is_none() => return Some(Change::Removed(key)),
                None => {}
            }
        }
    }

    /// What comes next. Never ends; safe to drop and to ask again.
    pub async fn next(&mut self) -> Change<K, V> {
        loop {
            self.changed.mark_unchanged();
            if let Some(change) = self.try_next() {
                return change;
            }
            // The sender lives in `shared`, which we hold, so this cannot fail.
            let _ = self.changed.changed().await;
        }
    }
}

impl<K: Ord + Clone, V> Drop for Subscription<K, V> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.seen.remove(&self.number);
        state.forget();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn drain(subscription: &mut Subscription<u8, u32>) -> Vec<Change<u8, u32>> {
        std::iter::from_fn(|| subscription.try_next()).collect()
    }

    #[test]
    fn a_subscriber_first_gets_the_whole_state_then_changes() {
        let board = Board::new();
        board.set(2, 20);
        board.set(1, 10);
        let mut subscription = board.subscribe();
        assert_eq!(drain(&mut subscription), [Change::Set(2, 20), Change::Set(1, 10), Change::Synced]);
        board.set(1, 11);
        board.set(1, 11);
        board.remove(&2);
        assert_eq!(drain(&mut subscription), [Change::Set(1, 11), Change::Removed(2)]);
        assert_eq!(drain(&mut Board::<u8, u32>::new().subscribe()), [Change::Synced]);
    }

    #[test]
    fn a_slow_subscriber_gets_the_newest_value_of_every_key() {
        let board = Board::new();
        let mut subscription = board.subscribe();
        for value in 0..1000 {
            board.set(1, value);
            board.set(2, value);
        }
        assert_eq!(drain(&mut subscription), [Change::Synced, Change::Set(1, 999), Change::Set(2, 999)]);
    }

    #[test]
    fn keys_that_are_gone_are_forgotten_when_all_have_heard() {
        let board = Board::new();
        let mut fast = board.subscribe();
        let slow = board.subscribe();
        for key in 0..100 {
            board.set(key, 1);
            board.remove(&key);
        }
        drain(&mut fast);
        assert_eq!(board.shared.lock().entries.len(), 100, "the slow one has not heard");
        drop(slow);
        assert_eq!(board.shared.lock().entries.len(), 0);
        assert_eq!(board.shared.lock().order.len(), 0);
    }

    #[tokio::test]
    async fn a_waiting_subscriber_wakes() {
        let board = Board::new();
        let mut subscription = board.subscribe();
        assert_eq!(subscription.next().await, Change::Synced);
        let waiting = tokio::spawn(async move { subscription.next().await });
        board.set(1u8, 1u32);
        assert_eq!(waiting.await.unwrap(), Change::Set(1, 1));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, u32),
        Remove(u8),
        Read(usize, u8),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..5, any::<u32>()).prop_map(|(key, value)| Step::Set(key, value)),
            (0u8..5).prop_map(Step::Remove),
            (0usize..3, 1u8..5).prop_map(|(who, times)| Step::Read(who, times)),
        ]
    }

    proptest! {
        /// However slow each is, in the end every subscriber's copy equals the board.
        #[test]
        fn every_copy_converges(steps in vec(any_step(), 0..200)) {
            let board = Board::new();
            let mut subscribers: Vec<_> = (0..3).map(|_| (board.subscribe(), BTreeMap::new(), 0)).collect();
            let mut read = |who: usize, times: usize| {
                let (subscription, copy, synced) = &mut subscribers[who];
                for change in std::iter::from_fn(|| subscription.try_next()).take(times) {
                    match change {
                        Change::Set(key, value) => drop(copy.insert(key, value)),
                        Change::Removed(key) => drop(copy.remove(&key)),
                        Change::Synced => *synced += 1,
                    }
                }
                (copy.clone(), *synced)
            };
            for step in steps {
                match step {
                    Step::Set(key, value) => board.set(key, value),
                    Step::Remove(key) => board.remove(&key),
                    Step::Read(who, times) => drop(read(who, times.into())),
                }
            }
            let truth: BTreeMap<u8, u32> = board.snapshot().into_iter().collect();
            for who in 0..3 {
                prop_assert_eq!(read(who, usize::MAX), (truth.clone(), 1));
            }
        }
    }
}
