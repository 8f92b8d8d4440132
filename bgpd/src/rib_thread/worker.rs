//! The loop.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use bgp_core::{
    PeerId,
    adj_out::{GroupId, Polled, Room},
    rib::{Departure, MonitorConfig, MonitorId, PeerConfig, Rib},
};
use hashbrown::HashMap;
use tokio::sync::{Notify, mpsc};

use super::{
    Job, Outlet, Unpark, encode,
    pauses::Pauses,
    source::{Source, Taken},
};
use crate::peer::PeerEvent;

/// Entries visited, changes handed over and prefixes announced in one turn.
const WORK: usize = 2048;
const CHANGES: usize = 1024;
const ANNOUNCED: usize = 1024;
/// Jobs of one turn: whoever asks much may not keep routes from being taken in.
const JOBS: usize = 64;
/// Events of one neighbor before the next one's.
const EVENTS: usize = 16;
/// Time that a turn spends on neighbors' events, and again on messages to them: so long does a job wait.
const SLICE: Duration = Duration::from_millis(4);
/// How long the thread sleeps when nothing is due; whatever comes wakes it, this is only a net.
const NAP: Duration = Duration::from_secs(60);
/// The same while an outlet has no room: a consumer that forgets to wake us is slow, not stuck.
const SHORT_NAP: Duration = Duration::from_millis(20);

/// The thread's state.
pub(super) struct Worker {
    pub(super) rib: Rib,
    jobs: mpsc::Receiver<Job>,
    outlet: Box<dyn Outlet>,
    sources: Vec<Source>,
    /// With which source the next slice of events, and of messages, begins.
    next_in: usize,
    next_out: usize,
    next_group: usize,
    /// Who watches, and how to call them.
    monitors: Vec<(MonitorId, Arc<Notify>)>,
    pauses: Pauses,
    /// Where each neighbor is in `sources`.
    places: HashMap<PeerId, usize, foldhash::fast::RandomState>,
    /// Something was done since [`Outlet::idle`] was said last.
    was_busy: bool,
}

/// The time, for whoever measures how long a piece of work takes.
pub(super) type Clock<'a> = &'a dyn Fn() -> Instant;

/// What is to come after a turn and what follows from it.
pub(super) enum Next {
    /// Another turn.
    Turn,
    /// Nothing before then, unless somebody wakes the thread.
    Sleep(Instant),
    /// Nothing: nobody can reach us any more.
    End,
}

/// What one turn came to.
#[derive(Default)]
struct Turn {
    /// Something was done, so there may be more.
    busy: bool,
    /// There is something to hand over and no room for it.
    blocked: bool,
    /// Nobody can reach us any more.
    over: bool,
}

impl Worker {
    pub(super) fn new(rib: Rib, jobs: mpsc::Receiver<Job>, outlet: Box<dyn Outlet>) -> Self {
        Self {
            rib,
            jobs,
            outlet,
            sources: Vec::new(),
            next_in: 0,
            next_out: 0,
            next_group: 0,
            monitors: Vec::new(),
            pauses: Pauses::default(),
            places: HashMap::default(),
            was_busy: false,
        }
    }

    pub(super) fn run(mut self) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match self.step(&Instant::now, &mut context) {
                Next::Turn => {}
                // Woken since the turn began, it returns at once: the token is kept.
                Next::Sleep(until) => thread::park_timeout(until.saturating_duration_since(Instant::now())),
                Next::End => return,
            }
        }
    }

    /// One turn, and what is to be done when there was nothing to do in it.
    pub(super) fn step(&mut self, clock: Clock<'_>, context: &mut Context<'_>) -> Next {
        let turn = self.turn(clock, context);
        if turn.over {
            return Next::End;
        }
        if turn.busy {
            self.was_busy = true;
            return Next::Turn;
        }
        if !turn.blocked && std::mem::take(&mut self.was_busy) {
            self.outlet.idle();
        }
        if self.rib.tidy(WORK) {
            return Next::Turn;
        }
        let nap = clock() + if turn.blocked { SHORT_NAP } else { NAP };
        let deadlines = self.sources.iter().filter_map(Source::deadline).chain(self.rib.poll_timeout());
        Next::Sleep(deadlines.chain(self.pauses.deadline()).fold(nap, Instant::min))
    }

    fn turn(&mut self, clock: Clock<'_>, context: &mut Context<'_>) -> Turn {
        let mut turn = Turn::default();
        self.serve_jobs(context, &mut turn);
        if turn.over {
            return turn;
        }
        turn.busy |= self.rib.work(clock(), WORK);
        self.report(&mut turn);
        self.feed_fib(&mut turn);
        self.serve_sources(clock, context, &mut turn);
        self.feed_fib(&mut turn);
        self.feed_sessions(clock, &mut turn);
        self.report(&mut turn);
        for (id, news) in &self.monitors {
            if self.rib.owes_monitor(*id) {
                news.notify_one();
            }
        }
        turn
    }

    pub(super) fn add_monitor(&mut self, config: MonitorConfig, news: Arc<Notify>) -> Option<MonitorId> {
        let id = self.rib.add_monitor(config)?;
        self.monitors.push((id, news));
        Some(id)
    }

    pub(super) fn remove_monitor(&mut self, id: MonitorId) {
        self.monitors.retain(|(other, _)| *other != id);
        self.rib.remove_monitor(id);
    }

    fn serve_jobs(&mut self, context: &mut Context<'_>, turn: &mut Turn) {
        for _ in 0..JOBS {
            match self.jobs.poll_recv(context) {
                Poll::Ready(Some(job)) => {
                    job(self);
                    turn.busy = true;
                }
                Poll::Ready(None) => {
                    turn.over = true;
                    return;
                }
                Poll::Pending => return,
            }
        }
    }

    fn report(&mut self, turn: &mut Turn) {
        while let Some(event) = self.rib.poll_event() {
            self.outlet.event(event);
            turn.busy = true;
        }
        let room = self.outlet.next_hop_room();
        for _ in 0..room {
            let Some(event) = self.rib.poll_next_hop() else { return };
            self.outlet.next_hop(event);
            turn.busy = true;
        }
        turn.blocked |= room == 0;
    }

    fn feed_fib(&mut self, turn: &mut Turn) {
        if !self.rib.has_changes() {
            return;
        }
        let room = self.outlet.fib_room().min(CHANGES);
        if room == 0 {
            turn.blocked = true;
            return;
        }
        let mut changes = Vec::with_capacity(room);
        self.rib.poll_changes(room, &mut changes);
        self.outlet.fib_changes(changes);
        turn.busy = true;
    }

    /// A few events of each neighbor in turn, so that none waits for another's flood.
    fn serve_sources(&mut self, clock: Clock<'_>, context: &mut Context<'_>, turn: &mut Turn) {
        let now = clock();
        let count = self.sources.len();
        for at in (0..count).map(|offset| (self.next_in + offset) % count) {
            let source = &mut self.sources[at];
            for _ in 0..EVENTS {
                match source.take(&mut self.rib, now, context) {
                    Taken::Something => {}
                    Taken::EndOfRib(ends) => ends.iter().for_each(|family| self.outlet.end_of_rib(source.peer, family)),
                    Taken::Nothing => break,
                }
                turn.busy = true;
                if clock() > now + SLICE {
                    self.next_in = at + 1;
                    return;
                }
            }
            for family in source.finished(now).iter() {
                self.outlet.end_of_rib(source.peer, family);
                turn.busy = true;
            }
        }
    }

    /// Messages for each group of neighbors that has room, in turn, and for those that did not keep pace.
    fn feed_sessions(&mut self, clock: Clock<'_>, turn: &mut Turn) {
        let now = clock();
        let groups = self.rib.groups();
        let first = self.next_group;
        for at in (0..groups.len()).map(|offset| (first + offset) % groups.len()) {
            if self.feed_group(groups[at], now, turn) && clock() > now + SLICE {
                self.next_group = at + 1;
                break;
            }
        }
        let (start, first, count) = (clock(), self.next_out, self.sources.len());
        for at in (0..count).map(|offset| (first + offset) % count) {
            if self.sources[at].catch_up(&mut self.rib, now, ANNOUNCED) {
                turn.busy = true;
                if clock() > start + SLICE {
                    self.next_out = at + 1;
                    return;
                }
            }
        }
    }

    /// A piece for one group; whether there was any.
    fn feed_group(&mut self, group: GroupId, now: Instant, turn: &mut Turn) -> bool {
        let Self { rib, sources, places, pauses, .. } = self;
        if pauses.holds(group, now) {
            return false;
        }
        let interval = rib.advertisement_interval(group);
        let room = |peer: PeerId| match places.get(&peer) {
            Some(place) => sources[*place].room(now),
            None => Room::Stuck,
        };
        let batch = match rib.poll_group(group, ANNOUNCED, room) {
            Polled::Nothing => {
                pauses.done(group, interval, now);
                return false;
            }
            Polled::Blocked => {
                turn.blocked = true;
                return false;
            }
            Polled::Batch(batch) => batch,
        };
        pauses.sent(group, interval);
        turn.busy = true;
        let members: Vec<&Source> =
            batch.members.iter().filter_map(|peer| places.get(peer)).map(|place| &sources[*place]).collect();
        // Members of a group agree on how messages are written.
        let Some(negotiated) = members.first().and_then(|member| member.negotiated()).copied() else { return true };
        let parts = encode::Parts::new(batch, &negotiated);
        members.iter().for_each(|member| member.send(parts.of(member.peer)));
        true
    }

    pub(super) fn add_peer(
        &mut self,
        peer: PeerId,
        config: PeerConfig,
        stale_limit: Duration,
        events: mpsc::Receiver<PeerEvent>,
    ) {
        self.remove_source(peer);
        self.places.insert(peer, self.sources.len());
        self.sources.push(Source::new(peer, stale_limit, events));
        self.configure_peer(peer, config, stale_limit);
    }

    pub(super) fn configure_peer(&mut self, peer: PeerId, config: PeerConfig, stale_limit: Duration) {
        for source in self.sources.iter_mut().filter(|source| source.peer == peer) {
            source.stale_limit = stale_limit;
        }
        if !self.rib.configure_peer(peer, config) {
            tracing::error!(%peer, "too many neighbors: its routes are not taken");
        }
    }

    pub(super) fn remove_peer(&mut self, peer: PeerId) {
        self.remove_source(peer);
        self.rib.remove_peer(Instant::now(), peer);
    }

    fn remove_source(&mut self, peer: PeerId) {
        let before = self.sources.len();
        self.sources.retain(|source| source.peer != peer);
        if self.sources.len() < before {
            self.places = self.sources.iter().enumerate().map(|(place, source)| (source.peer, place)).collect();
            self.rib.peer_down(Instant::now(), peer, Departure::Withdraw);
        }
    }
}
