//! The loop.

use std::{
    thread,
    time::{Duration, Instant},
};

use bgp_core::{
    PeerId,
    rib::{Departure, PeerUp, Rib},
};
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::{Job, Outlet, session::TableEnd};

/// Entries visited, changes handed over and prefixes announced in one turn.
const WORK: usize = 2048;
const CHANGES: usize = 1024;
const ANNOUNCED: usize = 1024;
/// Jobs of one turn: whoever asks much may not keep routes from being taken in.
const JOBS: usize = 64;
/// Batches of one session that are applied in one turn.
const UPDATES: usize = 4;
/// How long the thread sleeps when nothing is due: it is always woken, this is only a net.
const NAP: Duration = Duration::from_secs(60);

/// The thread's state.
pub(super) struct Worker {
    pub(super) rib: Rib,
    jobs: mpsc::Receiver<Job>,
    outlet: Box<dyn Outlet>,
    sessions: Vec<TableEnd>,
}

/// What one turn came to.
#[derive(Default)]
struct Turn {
    /// Something was done, so there may be more.
    busy: bool,
    over: bool,
}

impl Worker {
    pub(super) fn new(rib: Rib, jobs: mpsc::Receiver<Job>, outlet: Box<dyn Outlet>) -> Self {
        Self { rib, jobs, outlet, sessions: Vec::new() }
    }

    pub(super) fn run(mut self) {
        loop {
            let turn = self.turn();
            if turn.over {
                return;
            }
            if !turn.busy {
                let now = Instant::now();
                let due = self.rib.poll_timeout().map_or(NAP, |at| at.saturating_duration_since(now));
                // A wake-up since the turn began is remembered by the token, so none is missed.
                thread::park_timeout(due.min(NAP));
            }
        }
    }

    fn turn(&mut self) -> Turn {
        let mut turn = Turn::default();
        self.serve_jobs(&mut turn);
        if turn.over {
            return turn;
        }
        let now = Instant::now();
        turn.busy |= self.rib.work(now, WORK);
        self.report(&mut turn);
        self.feed_fib(&mut turn);
        self.serve_updates(now, &mut turn);
        self.feed_fib(&mut turn);
        self.feed_sessions(&mut turn);
        self.report(&mut turn);
        turn
    }

    fn serve_jobs(&mut self, turn: &mut Turn) {
        for _ in 0..JOBS {
            match self.jobs.try_recv() {
                Ok(job) => {
                    job(self);
                    turn.busy = true;
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    turn.over = true;
                    return;
                }
            }
        }
    }

    fn report(&mut self, turn: &mut Turn) {
        while let Some(event) = self.rib.poll_event() {
            self.outlet.event(event);
            turn.busy = true;
        }
        for _ in 0..self.outlet.next_hop_room() {
            let Some(event) = self.rib.poll_next_hop() else { return };
            self.outlet.next_hop(event);
            turn.busy = true;
        }
    }

    fn feed_fib(&mut self, turn: &mut Turn) {
        let room = self.outlet.fib_room().min(CHANGES);
        if room == 0 || !self.rib.has_changes() {
            return;
        }
        let mut changes = Vec::with_capacity(room);
        self.rib.poll_changes(room, &mut changes);
        self.outlet.fib_changes(changes);
        turn.busy = true;
    }

    /// A few batches of each session in turn, so that none waits for another's flood.
    fn serve_updates(&mut self, now: Instant, turn: &mut Turn) {
        let mut ended = Vec::new();
        for session in &mut self.sessions {
            for _ in 0..UPDATES {
                match session.updates.try_recv() {
                    Ok(batch) => {
                        for update in batch {
                            self.rib.update(now, session.peer, update);
                        }
                        turn.busy = true;
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        ended.push(session.peer);
                        break;
                    }
                }
            }
        }
        for peer in ended {
            // Its task ended without saying so.
            self.session_down(peer, None, Departure::Withdraw);
            turn.busy = true;
        }
    }

    /// One batch for each session that has room.
    fn feed_sessions(&mut self, turn: &mut Turn) {
        for session in &self.sessions {
            let Ok(place) = session.messages.try_reserve() else { continue };
            let Some(batch) = self.rib.poll_out(session.peer, ANNOUNCED) else { continue };
            let messages = session.encode(batch);
            if !messages.is_empty() {
                place.send(messages);
            }
            turn.busy = true;
        }
    }

    pub(super) fn session_up(&mut self, up: PeerUp, end: TableEnd) {
        self.sessions.retain(|session| session.peer != end.peer);
        self.rib.peer_up(Instant::now(), end.peer, up);
        self.sessions.push(end);
    }

    /// Ends session `number` of `peer`, or whichever it has.
    pub(super) fn session_down(&mut self, peer: PeerId, number: Option<u64>, departure: Departure) {
        let known = self.sessions.iter().position(|session| session.peer == peer);
        if known.is_some_and(|at| number.is_some_and(|number| self.sessions[at].number != number)) {
            return; // a newer session must not suffer for an older one's end
        }
        if let Some(at) = known {
            self.sessions.swap_remove(at);
        }
        self.rib.peer_down(Instant::now(), peer, departure);
    }

    pub(super) fn remove_peer(&mut self, peer: PeerId) {
        self.sessions.retain(|session| session.peer != peer);
        self.rib.remove_peer(Instant::now(), peer);
    }
}
