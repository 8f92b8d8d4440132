//! The two queues between a session and the table.

use bgp_core::{PeerId, adj_out::OutBatch, rib::Departure};
use bgp_wire::{Announcements, Negotiated, Update, Withdrawals, emit_end_of_rib};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Gone, RibHandle};

/// Batches of UPDATEs that a session may be ahead of the table.
const BATCHES_IN: usize = 32;
/// Batches of messages that the table may be ahead of a session.
const BATCHES_OUT: usize = 4;

/// The session's end towards the table. Dropping it without [`down`](Self::down) ends the session there, too.
pub struct SessionLink {
    peer: PeerId,
    number: u64,
    updates: mpsc::Sender<Vec<Update>>,
    table: RibHandle,
}

/// Messages for the session's peer, encoded and in order.
pub struct SessionOutput {
    messages: mpsc::Receiver<Vec<Bytes>>,
    table: RibHandle,
}

/// The table's end.
pub(super) struct TableEnd {
    pub(super) peer: PeerId,
    pub(super) number: u64,
    pub(super) negotiated: Negotiated,
    pub(super) updates: mpsc::Receiver<Vec<Update>>,
    pub(super) messages: mpsc::Sender<Vec<Bytes>>,
}

pub(super) fn connect(
    peer: PeerId,
    number: u64,
    negotiated: Negotiated,
    table: RibHandle,
) -> (SessionLink, SessionOutput, TableEnd) {
    let (updates_in, updates) = mpsc::channel(BATCHES_IN);
    let (messages, messages_out) = mpsc::channel(BATCHES_OUT);
    let link = SessionLink { peer, number, updates: updates_in, table: table.clone() };
    let output = SessionOutput { messages: messages_out, table };
    (link, output, TableEnd { peer, number, negotiated, updates, messages })
}

impl SessionLink {
    /// Hands UPDATEs over, in order; waits while the table is behind. What was read together belongs together: one
    /// batch costs one wake-up.
    ///
    /// # Errors
    /// When the table is gone, or another session of the peer has taken this one's place.
    pub async fn send(&self, updates: Vec<Update>) -> Result<(), Gone> {
        self.updates.send(updates).await.map_err(|_| Gone)?;
        self.table.wake();
        Ok(())
    }

    /// The session ended. UPDATEs that the table has not seen yet are lost with it.
    ///
    /// # Errors
    /// When the table is gone.
    pub async fn down(self, departure: Departure) -> Result<(), Gone> {
        let Self { peer, number, updates, table } = self;
        table
            .job(move |worker| {
                worker.session_down(peer, Some(number), departure);
                drop(updates); // only now: closed earlier, it would look as if nobody had said why
            })
            .await
    }
}

impl SessionOutput {
    /// The next messages to write; `None` when the table has ended the session or is gone.
    pub async fn recv(&mut self) -> Option<Vec<Bytes>> {
        let messages = self.messages.recv().await;
        self.table.wake(); // there is room for one more batch
        messages
    }
}

impl TableEnd {
    /// Encodes a batch. Routes that the session cannot carry are withdrawn instead.
    pub(super) fn encode(&self, batch: OutBatch) -> Vec<Bytes> {
        let OutBatch { family, mut withdrawn, announced, end_of_rib } = batch;
        let mut announcements = Vec::new();
        for group in announced {
            let (attributes, next_hop) = (&group.attrs.attributes, group.attrs.next_hop);
            match Announcements::new(attributes, family, next_hop, group.prefixes.iter().copied(), &self.negotiated) {
                Ok(messages) => announcements.extend(messages),
                Err(error) => {
                    // A remote can cause this at will, hence not louder.
                    tracing::debug!(peer = %self.peer, count = group.prefixes.len(), %error, "routes not announced");
                    withdrawn.extend(group.prefixes);
                }
            }
        }
        let mut messages: Vec<Bytes> = Withdrawals::new(family, withdrawn, &self.negotiated).collect();
        messages.append(&mut announcements);
        if end_of_rib {
            messages.push(emit_end_of_rib(family));
        }
        messages
    }
}
