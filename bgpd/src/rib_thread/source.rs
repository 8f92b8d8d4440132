//! A neighbor as the table's thread sees it: a channel of events, and while a session is up a queue for messages.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bgp_core::{
    PeerId,
    adj_out::OutBatch,
    rib::{Departure, PeerUp, Rib},
    session::Retain,
};
use bgp_wire::{Announcements, FamilySet, Negotiated, RefreshKind, Withdrawals, emit_end_of_rib};
use net_types::Family;
use tokio::sync::mpsc;

use crate::peer::{PeerEvent, RouteQueue, SessionUp};

pub(super) struct Source {
    pub(super) peer: PeerId,
    pub(super) stale_limit: Duration,
    events: mpsc::Receiver<PeerEvent>,
    session: Option<Session>,
}

struct Session {
    negotiated: Negotiated,
    queue: RouteQueue,
}

/// What came of taking an event.
pub(super) enum Taken {
    Something,
    EndOfRib(Family),
    Nothing,
}

impl Source {
    pub(super) fn new(peer: PeerId, stale_limit: Duration, events: mpsc::Receiver<PeerEvent>) -> Self {
        Self { peer, stale_limit, events, session: None }
    }

    /// Applies the next event, if there is one; otherwise `context` is woken when there is.
    pub(super) fn take(&mut self, rib: &mut Rib, now: Instant, context: &mut Context<'_>) -> Taken {
        let event = match self.events.poll_recv(context) {
            Poll::Ready(Some(event)) => event,
            Poll::Ready(None) => {
                // The task ended; if it did so without a word, its session is over all the same.
                return if self.end(rib, now, Departure::Withdraw) { Taken::Something } else { Taken::Nothing };
            }
            Poll::Pending => return Taken::Nothing,
        };
        match event {
            PeerEvent::Up(up) => self.start(rib, now, *up),
            PeerEvent::Routes { update, .. } => {
                let end_of_rib = update.end_of_rib;
                rib.update(now, self.peer, update);
                return end_of_rib.map_or(Taken::Something, Taken::EndOfRib);
            }
            PeerEvent::Refresh { refresh, .. } => {
                // The marks of a demarcated refresh (RFC 7313) say nothing that the table has to act on: routes that
                // the neighbor no longer has are withdrawn by it in any case.
                if refresh.kind == RefreshKind::Request
                    && let Some(family) = Family::from_codes(refresh.afi, refresh.safi)
                {
                    rib.route_refresh(self.peer, family);
                }
            }
            PeerEvent::Writable { .. } => {} // it woke us, which is all it is for
            PeerEvent::Down { retain, .. } => {
                self.end(rib, now, departure(now, retain));
            }
        }
        Taken::Something
    }

    fn start(&mut self, rib: &mut Rib, now: Instant, up: SessionUp) {
        let SessionUp { terms, link, queue, .. } = up;
        let restart = terms.restart.as_ref();
        rib.peer_up(
            now,
            self.peer,
            PeerUp {
                router_id: terms.peer_open.router_id,
                families: terms.negotiated.families,
                preserved: restart.map_or(FamilySet::EMPTY, |restart| restart.preserved),
                sends_end_of_rib: restart.is_some(),
                stale_limit: self.stale_limit,
                local: link.addresses,
                scope: link.ifindex,
                shared_subnets: link.subnets,
            },
        );
        self.session = Some(Session { negotiated: terms.negotiated, queue });
    }

    /// Ends the session; whether there was one.
    fn end(&mut self, rib: &mut Rib, now: Instant, departure: Departure) -> bool {
        let ended = self.session.take().is_some();
        if ended {
            rib.peer_down(now, self.peer, departure);
        }
        ended
    }

    /// Hands over up to `budget` routes if there is room. Whether there was anything to hand over.
    pub(super) fn feed(&self, rib: &mut Rib, budget: usize) -> bool {
        let Some(Session { negotiated, queue }) = &self.session else { return false };
        if !rib.owes(self.peer) || !queue.has_room() {
            return false;
        }
        let Some(batch) = rib.poll_out(self.peer, budget) else { return false };
        encode(self.peer, batch, negotiated, queue);
        true
    }
}

fn departure(now: Instant, retain: Option<Retain>) -> Departure {
    match retain {
        Some(Retain { families, restart_time }) => Departure::Stale { until: now + restart_time, families },
        None => Departure::Withdraw,
    }
}

/// Writes a batch as messages. Routes that the session cannot carry are withdrawn instead (RFC 4271 §9.2).
fn encode(peer: PeerId, batch: OutBatch, negotiated: &Negotiated, queue: &RouteQueue) {
    let OutBatch { family, mut withdrawn, announced, end_of_rib } = batch;
    for group in announced {
        let (attributes, next_hop) = (&group.attrs.attributes, group.attrs.next_hop);
        match Announcements::new(attributes, family, next_hop, group.prefixes.iter().copied(), negotiated) {
            Ok(messages) => messages.for_each(|message| queue.push(message)),
            Err(error) => {
                // A remote can cause this at will, hence not louder.
                tracing::debug!(%peer, count = group.prefixes.len(), %error, "routes not announced");
                withdrawn.extend(group.prefixes);
            }
        }
    }
    Withdrawals::new(family, withdrawn, negotiated).for_each(|message| queue.push(message));
    if end_of_rib {
        queue.push(emit_end_of_rib(family));
    }
}
