//! A neighbor as the table's thread sees it: a channel of events, and while a session is up a queue for messages.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bgp_core::{
    PeerId,
    adj_out::Room,
    rib::{Departure, Filtering, PeerUp, Rib},
    session::Retain,
};
use bgp_wire::{FamilySet, Negotiated, PrefixFilters, RefreshKind};
use net_types::Family;
use tokio::sync::mpsc;

use super::encode;
use crate::peer::{Chunk, PeerEvent, RouteQueue, SessionUp};

pub(super) struct Source {
    pub(super) peer: PeerId,
    pub(super) stale_limit: Duration,
    events: mpsc::Receiver<PeerEvent>,
    session: Option<Session>,
}

struct Session {
    /// Families of which the neighbor asks us to keep routes back.
    filtered: FamilySet,
    negotiated: Negotiated,
    queue: RouteQueue,
    /// Since when it has had no room.
    full_since: Option<Instant>,
    /// Families that the neighbor is still sending for the first time.
    unfinished: FamilySet,
    /// It promised to mark the end of them.
    promised: bool,
    /// When to take them as finished without a mark.
    finished_at: Instant,
}

/// How long others wait for a neighbor that takes no more messages; then they go on without it.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long a neighbor that marks no end has to be quiet to count as finished.
const QUIET: Duration = Duration::from_secs(5);

/// What came of taking an event.
pub(super) enum Taken {
    Something,
    EndOfRib(FamilySet),
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
            PeerEvent::Routes { updates, .. } => {
                let mut ends = FamilySet::EMPTY;
                rib.look_ahead(&updates);
                for update in updates {
                    update.end_of_rib.into_iter().for_each(|family| ends.insert(family));
                    rib.update(now, self.peer, update);
                }
                return self.heard(now, ends);
            }
            PeerEvent::Refresh { refresh, .. } => {
                // The marks of a demarcated refresh (RFC 7313) say nothing that the table has to act on: routes that
                // the neighbor no longer has are withdrawn by it in any case.
                if refresh.kind == RefreshKind::Request
                    && let Some(family) = Family::from_codes(refresh.afi, refresh.safi)
                {
                    let filters = refresh.filters.as_ref();
                    self.refresh(rib, family, filters);
                }
            }
            PeerEvent::Writable { .. } => {} // it woke us, which is all it is for
            PeerEvent::Down { retain, .. } => {
                self.end(rib, now, departure(now, retain));
            }
        }
        Taken::Something
    }

    /// The neighbor wants its routes, or some of them.
    fn refresh(&self, rib: &mut Rib, family: Family, filters: Option<&PrefixFilters>) {
        let filtered = self.session.as_ref().is_some_and(|session| session.filtered.contains(family));
        if !filtered {
            return rib.route_refresh(self.peer, family);
        }
        let peer = self.peer;
        if filters.is_some_and(|filters| filters.malformed) {
            tracing::warn!(%peer, %family, "a filter of the neighbor's cannot be read: it gets everything (RFC 5291)");
        }
        if rib.filtered_refresh(peer, family, filters) == Filtering::Overflowed {
            tracing::warn!(%peer, %family, "the neighbor's filter has too many lines: some are left out (RFC 5291)");
        }
    }

    fn start(&mut self, rib: &mut Rib, now: Instant, up: SessionUp) {
        let SessionUp { terms, link, queue, .. } = up;
        let restart = terms.restart.as_ref();
        rib.peer_up(
            now,
            self.peer,
            PeerUp {
                router_id: terms.peer_open.router_id,
                remote_as: terms.peer_open.asn,
                negotiated: terms.negotiated,
                long_lived: terms.long_lived(),
                long_lived_preserved: terms.long_lived_preserved(),
                preserved: restart.map_or(FamilySet::EMPTY, |restart| restart.preserved),
                sends_end_of_rib: restart.is_some(),
                stale_limit: self.stale_limit,
                local: link.addresses,
                scope: link.ifindex,
                awaits_filters: terms.filters_in,
                shared_subnets: link.subnets,
            },
        );
        let (negotiated, promised) = (terms.negotiated, terms.restart.is_some());
        let finished_at = now + if promised { self.stale_limit } else { QUIET };
        self.session = Some(Session {
            negotiated,
            filtered: terms.filters_in,
            queue,
            full_since: None,
            unfinished: negotiated.families,
            promised,
            finished_at,
        });
    }

    /// Notes that routes came, or the mark of their end.
    fn heard(&mut self, now: Instant, ends: FamilySet) -> Taken {
        let Some(session) = &mut self.session else { return Taken::Something };
        if !session.promised {
            session.finished_at = now + QUIET;
        }
        let ended = ends.intersection(session.unfinished);
        ended.iter().for_each(|family| session.unfinished.remove(family));
        if ended.is_empty() { Taken::Something } else { Taken::EndOfRib(ended) }
    }

    /// When [`finished`](Self::finished) has something to say, unless more comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let session = self.session.as_ref().filter(|session| !session.unfinished.is_empty())?;
        Some(session.finished_at)
    }

    /// Families that by now count as finished although no mark came.
    pub(super) fn finished(&mut self, now: Instant) -> FamilySet {
        match &mut self.session {
            Some(session) if session.finished_at <= now => std::mem::take(&mut session.unfinished),
            _ => FamilySet::EMPTY,
        }
    }

    /// Ends the session; whether there was one.
    fn end(&mut self, rib: &mut Rib, now: Instant, departure: Departure) -> bool {
        let ended = self.session.take().is_some();
        if ended {
            rib.peer_down(now, self.peer, departure);
        }
        ended
    }

    /// Whether the session takes more messages. After a no, the session's task says when it does again.
    pub(super) fn room(&mut self, now: Instant) -> Room {
        let Some(session) = &mut self.session else { return Room::Full };
        if session.queue.has_room() {
            session.full_since = None;
            return Room::Ready;
        }
        let since = *session.full_since.get_or_insert(now);
        if now.saturating_duration_since(since) < PATIENCE { Room::Full } else { Room::Stuck }
    }

    /// How messages for the session are written.
    pub(super) fn negotiated(&self) -> Option<&Negotiated> {
        self.session.as_ref().map(|session| &session.negotiated)
    }

    /// Hands messages to the session.
    pub(super) fn send(&self, chunks: impl IntoIterator<Item = Chunk>) {
        if let Some(session) = &self.session {
            session.queue.extend(chunks);
        }
    }

    /// Hands over up to `budget` routes that the neighbor lacks because it did not keep pace, if there is room now.
    /// Whether there was anything to hand over.
    pub(super) fn catch_up(&mut self, rib: &mut Rib, now: Instant, budget: usize) -> bool {
        if !rib.is_behind(self.peer) || self.room(now) != Room::Ready {
            return false;
        }
        let Some(batch) = rib.poll_behind(self.peer, budget) else { return false };
        if let Some(negotiated) = self.negotiated() {
            self.send(encode::batch(self.peer, batch, negotiated));
        }
        true
    }
}

fn departure(now: Instant, retain: Option<Retain>) -> Departure {
    match retain {
        Some(Retain { families, restart_time, long_lived }) => {
            Departure::Stale { until: now + restart_time, families, long_lived }
        }
        None => Departure::Withdraw,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Family = Family::Ipv4Unicast;

    fn source(promised: bool, now: Instant) -> Source {
        let (_, events) = mpsc::channel(1);
        let mut source = Source::new(PeerId(1), Duration::from_secs(360), events);
        let negotiated = Negotiated::base(bgp_wire::PeerKind::External);
        let finished_at = now + if promised { source.stale_limit } else { QUIET };
        let (queue, unfinished) = (RouteQueue::new(), negotiated.families);
        let filtered = FamilySet::EMPTY;
        source.session =
            Some(Session { negotiated, filtered, queue, full_since: None, unfinished, promised, finished_at });
        source
    }

    #[test]
    fn a_neighbor_that_promised_a_mark_is_finished_when_it_comes_and_only_once() {
        let now = Instant::now();
        let mut source = source(true, now);
        assert!(matches!(source.heard(now, FamilySet::EMPTY), Taken::Something));
        assert!(source.finished(now + QUIET * 2).is_empty());
        assert!(matches!(source.heard(now, V4.into()), Taken::EndOfRib(ends) if ends == V4.into()));
        assert!(matches!(source.heard(now, V4.into()), Taken::Something));
        assert_eq!(source.deadline(), None);
        assert!(source.finished(now + source.stale_limit).is_empty());
    }

    #[test]
    fn a_neighbor_that_promised_none_is_finished_when_it_has_been_quiet() {
        let now = Instant::now();
        let mut source = source(false, now);
        let later = now + QUIET / 2;
        source.heard(later, FamilySet::EMPTY);
        assert!(source.finished(now + QUIET).is_empty(), "it was not quiet");
        assert_eq!(source.deadline(), Some(later + QUIET));
        assert!(source.finished(later + QUIET).contains(V4));
        assert!(source.finished(later + QUIET).is_empty(), "once");
    }

    #[test]
    fn a_promise_that_is_not_kept_is_not_waited_for_longer_than_stale_paths() {
        let now = Instant::now();
        let mut source = source(true, now);
        let limit = source.stale_limit;
        assert!(source.finished(now + limit).contains(V4));
    }
}
