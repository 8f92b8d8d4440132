//! Messages with routes on their way to one neighbor: filled by the routing table, emptied by the neighbor's task.
//!
//! Bounded by octets. The bound is looked at before a piece of work, not within it, so the queue holds at most
//! [`RouteQueue::LIMIT`] and what one piece of work makes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

/// Whole messages, one behind the other. Sessions that get the same share the octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The messages.
    pub octets: Bytes,
    /// How many there are.
    pub messages: usize,
}

impl From<Bytes> for Chunk {
    /// One message.
    fn from(octets: Bytes) -> Self {
        Self { octets, messages: 1 }
    }
}

/// One session's queue; clones share it.
#[derive(Clone, Debug)]
pub struct RouteQueue {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Chunk>,
    octets: usize,
    messages: usize,
    /// The routing table was told that there is no room, and wants to hear when there is.
    refused: bool,
    closed: bool,
}

impl RouteQueue {
    /// Octets from which on there is no room: some milliseconds of a fast link.
    pub const LIMIT: usize = 512 * 1024;
    /// Once it is full there is room again below this.
    const LOW: usize = Self::LIMIT / 2;

    /// An empty queue.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared::default()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic halfway through a change.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to go on filling it. After a `false` the routing table gets [`PeerEvent::Writable`](super::PeerEvent)
    /// when there is room again, unless the session ends before.
    pub fn has_room(&self) -> bool {
        let mut state = self.state();
        let room = state.octets < Self::LIMIT && !state.closed;
        state.refused = !room;
        room
    }

    /// Appends a whole message. After the session has ended it goes nowhere.
    pub fn push(&self, message: Bytes) {
        self.extend([message.into()]);
    }

    /// Appends whole messages.
    pub fn extend(&self, chunks: impl IntoIterator<Item = Chunk>) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        for chunk in chunks {
            state.octets += chunk.octets.len();
            state.messages += chunk.messages;
            state.chunks.push_back(chunk);
        }
        let filled = !state.chunks.is_empty();
        drop(state);
        if filled {
            self.shared.filled.notify_one();
        }
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.state().messages
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until something was pushed.
    pub(super) async fn filled(&self) {
        self.shared.filled.notified().await;
    }

    /// Moves about `octets`, and at least one message if there is one, to `out`. Says whether the routing table is to
    /// hear that there is room again.
    pub fn drain(&self, octets: usize, out: &mut VecDeque<Chunk>) -> bool {
        let mut state = self.state();
        let mut taken = 0;
        while taken < octets
            && let Some(chunk) = state.chunks.pop_front()
        {
            taken += chunk.octets.len();
            state.octets -= chunk.octets.len();
            state.messages -= chunk.messages;
            out.push_back(chunk);
        }
        let room_again = state.refused && state.octets < Self::LOW;
        if room_again {
            state.refused = false;
        }
        room_again
    }

    /// The session ended: what waits is dropped, and so is what comes.
    pub fn close(&self) {
        let mut state = self.state();
        *state = State { closed: true, ..State::default() };
    }
}

impl Default for RouteQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_followed_by_one_word_of_room() {
        let queue = RouteQueue::new();
        let message = Bytes::from(vec![0; 4096]);
        while queue.has_room() {
            queue.push(message.clone());
        }
        assert_eq!(queue.len(), RouteQueue::LIMIT / 4096);
        let mut out = VecDeque::new();
        assert!(!queue.drain(RouteQueue::LIMIT / 4, &mut out), "still more than half full");
        assert!(queue.drain(RouteQueue::LIMIT / 2, &mut out));
        assert!(!queue.drain(RouteQueue::LIMIT, &mut out), "told once");
        assert!(queue.has_room() && queue.is_empty());
    }

    #[test]
    fn nothing_is_kept_for_a_session_that_ended() {
        let queue = RouteQueue::new();
        queue.push(Bytes::from_static(b"x"));
        queue.close();
        queue.push(Bytes::from_static(b"y"));
        assert!(queue.is_empty() && !queue.has_room());
    }
}
