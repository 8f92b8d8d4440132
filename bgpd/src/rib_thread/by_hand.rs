//! The thread's work without the thread: for whoever has a clock of its own and wants to say when each turn is.

use std::{
    task::{Context, Waker},
    time::{Duration, Instant},
};

use bgp_core::{
    PeerId,
    rib::{PeerConfig, Rib, RibConfig},
};
use tokio::sync::mpsc;

use super::{
    EVENTS, Job, Outlet,
    worker::{Next, Worker},
};
use crate::peer::PeerEvent;

/// A table whose turns are taken by its owner.
pub struct ByHand {
    worker: Worker,
    /// Nobody sends any, but without a sender the work would be over.
    _jobs: mpsc::Sender<Job>,
}

impl ByHand {
    /// An empty table.
    pub fn new(config: RibConfig, outlet: impl Outlet, now: Instant) -> Self {
        let (jobs, inbox) = mpsc::channel(1);
        Self { worker: Worker::new(Rib::new(config, now), inbox, Box::new(outlet)), _jobs: jobs }
    }

    /// What [`RibHandle::apply`](super::RibHandle::apply) works on.
    pub fn rib(&mut self) -> &mut Rib {
        &mut self.worker.rib
    }

    /// As [`RibHandle::add_peer`](super::RibHandle::add_peer).
    pub fn add_peer(&mut self, peer: PeerId, config: PeerConfig, stale_limit: Duration) -> mpsc::Sender<PeerEvent> {
        let (sender, events) = mpsc::channel(EVENTS);
        self.worker.add_peer(peer, config, stale_limit, events);
        sender
    }

    /// Takes one turn at `now`, within which no time passes. Says when the next one is due, which is `now` while there is
    /// more to do; whatever comes in asks for one at once.
    pub fn turn(&mut self, now: Instant) -> Option<Instant> {
        match self.worker.step(&|| now, &mut Context::from_waker(Waker::noop())) {
            Next::Turn => Some(now),
            Next::Sleep(until) => Some(until),
            Next::End => None,
        }
    }
}
