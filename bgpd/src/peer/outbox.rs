//! What a neighbor's task owes the routing table.

use std::collections::VecDeque;

use bgp_core::PeerId;
use bgp_wire::Update;

use super::PeerEvent;

/// Messages from which on nothing more is read from the neighbor.
pub(super) const ROOM: usize = 256;
/// Messages in one event: each costs the routing table a look at the channel.
const BATCH: usize = 64;

/// Events in order, UPDATEs put together as far as they wait anyway.
///
/// Who fills it asks for [`has_room`](Self::has_room) before reading on: what a session says of itself always goes in, and is
/// a handful of events.
#[derive(Default)]
pub(super) struct Outbox {
    events: VecDeque<PeerEvent>,
    /// UPDATEs in `events`.
    updates: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Messages that wait.
    pub(super) fn len(&self) -> usize {
        self.updates + self.events.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.len() < ROOM
    }

    pub(super) fn push(&mut self, event: PeerEvent) {
        self.events.push_back(event);
    }

    pub(super) fn push_routes(&mut self, peer: PeerId, update: Update) {
        self.updates += 1;
        match self.events.back_mut() {
            // One that withdraws hundreds of prefixes is work enough by itself.
            Some(PeerEvent::Routes { updates, .. })
                if updates.len() < BATCH && updates.last().is_none_or(|last| last.withdrawn.len() < BATCH) =>
            {
                updates.push(update);
            }
            _ => self.events.push_back(PeerEvent::Routes { peer, updates: vec![update] }),
        }
    }

    pub(super) fn pop(&mut self) -> Option<PeerEvent> {
        let event = self.events.pop_front()?;
        if let PeerEvent::Routes { updates, .. } = &event {
            self.updates -= updates.len();
        }
        Some(event)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_go_together_and_are_counted_until_they_leave() {
        let (mut outbox, peer) = (Outbox::default(), PeerId(1));
        for _ in 0..BATCH + 1 {
            outbox.push_routes(peer, Update::default());
        }
        outbox.push(PeerEvent::Writable { peer });
        outbox.push_routes(peer, Update::default());
        assert_eq!(outbox.len(), BATCH + 2 + 4, "each event counts, too");
        let mut sizes = Vec::new();
        while let Some(event) = outbox.pop() {
            sizes.push(match event {
                PeerEvent::Routes { updates, .. } => updates.len(),
                _ => 0,
            });
        }
        assert_eq!((sizes.as_slice(), outbox.len()), ([BATCH, 1, 0, 1].as_slice(), 0), "and order is kept");
        while outbox.has_room() {
            outbox.push_routes(peer, Update::default());
        }
        assert!(outbox.len() >= ROOM);
        outbox.clear();
        assert!(outbox.is_empty() && outbox.has_room());
    }
}
