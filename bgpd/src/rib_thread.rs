//! The thread that owns the routing table, and how everybody else talks to it.
//!
//! What comes in: the events of each neighbor's task by a bounded channel of its own, and everything else (policy, next
//! hops, our own routes, questions) as jobs by one bounded channel that is served first. What goes out is pulled by the
//! thread when there is room for it: changes for the FIB ([`Outlet::fib_room`]), messages for a neighbor
//! ([`RouteQueue`](crate::peer::RouteQueue)). Something full therefore delays nobody but its own reader, and what is
//! not pulled collapses in the table instead of piling up.
//!
//! One turn of the loop serves each of them with a bounded piece, so that a job waits for milliseconds at most. The
//! channels wake the thread themselves: it polls them as an executor would, with a waker that unparks it.

mod by_hand;
mod encode;
mod pauses;
mod source;
mod walk;
mod worker;

use std::{
    io,
    sync::Arc,
    task::Wake,
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use bgp_core::{
    PeerId,
    rib::{
        BestChange, Departure, MonitorConfig, MonitorId, MonitorPiece, NextHopEvent, NextHopKey, PeerConfig, Resolved,
        Rib, RibConfig, RibEvent,
    },
};
use bgp_wire::FamilySet;
use net_types::{Family, Prefix, Rd};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::peer::PeerEvent;

pub use by_hand::ByHand;
pub use walk::RouteWalk;

use worker::Worker;

/// Jobs that may wait.
const JOBS: usize = 256;
/// Events of one neighbor that may wait, each with up to 64 messages.
const EVENTS: usize = 8;

/// Where the table's answers go. Called on the table's thread, so nothing here may wait.
pub trait Outlet: Send + 'static {
    /// How many changed prefixes the FIB takes now. Call [`RibHandle::wake`] when there is room again after none.
    fn fib_room(&self) -> usize;
    /// Changed prefixes, never more than there was room for.
    fn fib_changes(&self, changes: Vec<BestChange>);
    /// How many next hop events are taken now; as with [`fib_room`](Self::fib_room).
    fn next_hop_room(&self) -> usize;
    /// A next hop to start or stop resolving.
    fn next_hop(&self, event: NextHopEvent);
    /// Something for the log, the neighbor's task or the FIB.
    fn event(&self, event: RibEvent);
    /// A neighbor has sent all that it has of a family, and everything is taken in. Once a session: at its End-of-RIB,
    /// or if it promised none, when it has been quiet for a while.
    fn end_of_rib(&self, peer: PeerId, family: Family);
    /// Nothing is left to do or to hand over, after there was.
    fn idle(&self);
}

/// The table's thread is gone: the daemon is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the routing table has shut down")]
pub struct Gone;

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// A way to the table. Clones lead to the same one; the thread ends when the last is dropped.
#[derive(Clone)]
pub struct RibHandle {
    jobs: mpsc::Sender<Job>,
    thread: Thread,
}

/// Starts the thread.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(config: RibConfig, outlet: impl Outlet) -> io::Result<(RibHandle, JoinHandle<()>)> {
    let (jobs, inbox) = mpsc::channel(JOBS);
    let rib = Rib::new(config, Instant::now());
    let worker = Worker::new(rib, inbox, Box::new(outlet));
    let thread = thread::Builder::new().name("rib".to_owned()).spawn(move || worker.run())?;
    Ok((RibHandle { jobs, thread: thread.thread().clone() }, thread))
}

/// Wakes the thread for whatever it polls.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

impl RibHandle {
    /// Has the thread look for what it can do: there is room again where there was none.
    pub fn wake(&self) {
        self.thread.unpark();
    }

    async fn job(&self, job: impl FnOnce(&mut Worker) + Send + 'static) -> Result<(), Gone> {
        self.jobs.send(Box::new(job)).await.map_err(|_| Gone)
    }

    /// Runs `change` on the table.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn apply(&self, change: impl FnOnce(&mut Rib, Instant) + Send + 'static) -> Result<(), Gone> {
        self.job(|worker| change(&mut worker.rib, Instant::now())).await
    }

    /// The same from a thread that may wait; not for tasks of an async runtime.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn apply_blocking(&self, change: impl FnOnce(&mut Rib, Instant) + Send + 'static) -> Result<(), Gone> {
        let job = |worker: &mut Worker| change(&mut worker.rib, Instant::now());
        self.jobs.blocking_send(Box::new(job)).map_err(|_| Gone)
    }

    /// Asks the table something. The answer has to be quick; for whole tables there is [`walk`](Self::walk).
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Rib, Instant) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (answer, answered) = oneshot::channel();
        self.job(|worker| {
            // The asker may have gone away meanwhile.
            let _ = answer.send(question(&worker.rib, Instant::now()));
        })
        .await?;
        answered.await.map_err(|_| Gone)
    }

    /// Changes the table, and says what came of it.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn query_mut<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Rib, Instant) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (answer, answered) = oneshot::channel();
        self.job(|worker| {
            // The asker may have gone away meanwhile.
            let _ = answer.send(change(&mut worker.rib, Instant::now()));
        })
        .await?;
        answered.await.map_err(|_| Gone)
    }

    /// Walks the routes within `within` in order, by the piece.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn walk(&self, within: Prefix) -> Result<RouteWalk, Gone> {
        RouteWalk::over(self.clone(), within).await
    }

    /// Walks the routes of a VPN family, or of the VPN that `rd` distinguishes.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn walk_vpn(&self, family: Family, rd: Option<Rd>) -> Result<RouteWalk, Gone> {
        let walk = self.query(move |rib, _| rib.walk_vpn(family, rd)).await?;
        RouteWalk::new(self.clone(), walk).await
    }

    /// Walks the routes that `peer` announced.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn walk_received(&self, peer: PeerId, family: Family) -> Result<RouteWalk, Gone> {
        let walk = self.query(move |rib, _| rib.walk_received(peer, family)).await?;
        RouteWalk::new(self.clone(), walk).await
    }

    /// Walks the routes that `peer` was sent.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn walk_advertised(&self, peer: PeerId, family: Family) -> Result<RouteWalk, Gone> {
        let walk = self.query(move |rib, _| rib.walk_advertised(peer, family)).await?;
        RouteWalk::new(self.clone(), walk).await
    }

    /// Adds a neighbor; gives the channel for its task's events ([`crate::peer::spawn`]). What its sessions leave
    /// behind may wait `stale_limit` for an End-of-RIB (`bgp graceful-restart stalepath-time`).
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn add_peer(
        &self,
        peer: PeerId,
        config: PeerConfig,
        stale_limit: Duration,
    ) -> Result<mpsc::Sender<PeerEvent>, Gone> {
        let (sender, events) = mpsc::channel(EVENTS);
        self.job(move |worker| worker.add_peer(peer, config, stale_limit, events)).await?;
        Ok(sender)
    }

    /// Changes how a neighbor is treated, without its session noticing.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn configure_peer(&self, peer: PeerId, config: PeerConfig, stale_limit: Duration) -> Result<(), Gone> {
        self.job(move |worker| worker.configure_peer(peer, config, stale_limit)).await
    }

    /// Takes a neighbor and everything learned from it away.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn remove_peer(&self, peer: PeerId) -> Result<(), Gone> {
        self.job(move |worker| worker.remove_peer(peer)).await
    }

    /// Changes how this router is configured, without any session noticing.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn configure(&self, config: RibConfig) -> Result<(), Gone> {
        self.apply(move |rib, _| rib.configure(config)).await
    }

    /// The neighbor will not be back soon, whatever its last session promised: its tunnel is dead or it was shut down.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn peer_lost(&self, peer: PeerId) -> Result<(), Gone> {
        self.apply(move |rib, now| rib.peer_down(now, peer, Departure::Withdraw)).await
    }

    /// How a wanted next hop is reached, if it is.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn next_hop_resolved(&self, key: NextHopKey, resolved: Option<Resolved>) -> Result<(), Gone> {
        self.apply(move |rib, _| rib.next_hop_resolved(key, resolved)).await
    }

    /// Watches the table; `news` is notified whenever there is something to [poll](Self::poll_monitor) for. `None` when
    /// too many watch already.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn add_monitor(&self, config: MonitorConfig, news: Arc<Notify>) -> Result<Option<MonitorId>, Gone> {
        let (answer, answered) = oneshot::channel();
        self.job(move |worker| {
            // The asker may have gone away meanwhile; then nothing watches.
            if let Some(id) = answer.send(worker.add_monitor(config, news)).err().flatten() {
                worker.remove_monitor(id);
            }
        })
        .await?;
        answered.await.map_err(|_| Gone)
    }

    /// Watches no longer.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn remove_monitor(&self, id: MonitorId) -> Result<(), Gone> {
        self.job(move |worker| worker.remove_monitor(id)).await
    }

    /// The next piece for a monitor, after a look at up to `budget` entries; `None` when it knows everything.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn poll_monitor(&self, id: MonitorId, budget: usize) -> Result<Option<MonitorPiece>, Gone> {
        let (answer, answered) = oneshot::channel();
        self.job(move |worker| {
            // Whoever goes away takes the monitor along, so nothing is missed.
            let _ = answer.send(worker.rib.poll_monitor(id, budget));
        })
        .await?;
        answered.await.map_err(|_| Gone)
    }

    /// After our own restart, before any neighbor can connect: as [`defer`](Self::defer), which is to follow with whom it
    /// waits for.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn hold(&self, limit: Duration) -> Result<(), Gone> {
        self.apply(move |rib, now| rib.hold(now + limit)).await
    }

    /// After our own restart: nothing is announced or put into the FIB until these peers have spoken, or for `limit`.
    /// Then comes [`RibEvent::Settled`].
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn defer(&self, limit: Duration, awaited: Vec<(PeerId, FamilySet)>) -> Result<(), Gone> {
        self.apply(move |rib, now| rib.defer(now + limit, awaited)).await
    }
}

#[cfg(test)]
mod tests;
