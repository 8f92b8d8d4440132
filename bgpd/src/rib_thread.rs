//! The thread that owns the routing table, and how everybody else talks to it.
//!
//! What comes in: UPDATEs by a bounded queue per session ([`SessionLink`]), and everything else (sessions coming and
//! going, policy, next hops, our own routes, questions) as jobs by one bounded queue that is served first. What goes
//! out is pulled by the thread when there is room for it: changes for the FIB ([`Outlet::fib_room`]), messages for a
//! peer (its queue). A full queue therefore delays nobody but its own reader, and what is not pulled collapses in the
//! table instead of piling up.
//!
//! One turn of the loop serves each of them with a bounded piece, so that a job waits for milliseconds at most.

mod session;
mod walk;
mod worker;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bgp_core::{
    PeerId,
    rib::{BestChange, Departure, NextHopEvent, NextHopKey, PeerConfig, PeerUp, Resolved, Rib, RibConfig, RibEvent},
};
use bgp_wire::{FamilySet, Negotiated};
use net_types::{Family, Prefix};
use tokio::sync::{mpsc, oneshot};

pub use session::{SessionLink, SessionOutput};
pub use walk::RouteWalk;

use worker::Worker;

/// Jobs that may wait.
const JOBS: usize = 256;

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
    /// Something for the log, the peer's session or the FIB.
    fn event(&self, event: RibEvent);
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
    waker: Arc<Waker>,
}

/// Wakes the thread if it sleeps; costs an atomic write if it does not.
struct Waker {
    thread: thread::Thread,
    /// Sessions so far: tells one of a peer from the next.
    sessions: AtomicU64,
}

impl Waker {
    fn wake(&self) {
        self.thread.unpark();
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.wake(); // the last handle went: the thread has to see that nobody can reach it any more
    }
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
    let waker = Arc::new(Waker { thread: thread.thread().clone(), sessions: AtomicU64::new(0) });
    Ok((RibHandle { jobs, waker }, thread))
}

impl RibHandle {
    /// Has the thread look for what it can do: there is room again where there was none.
    pub fn wake(&self) {
        self.waker.wake();
    }

    async fn job(&self, job: impl FnOnce(&mut Worker) + Send + 'static) -> Result<(), Gone> {
        self.jobs.send(Box::new(job)).await.map_err(|_| Gone)?;
        self.wake();
        Ok(())
    }

    /// Runs `change` on the table.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn apply(&self, change: impl FnOnce(&mut Rib, Instant) + Send + 'static) -> Result<(), Gone> {
        self.job(|worker| change(&mut worker.rib, Instant::now())).await
    }

    /// The same from a thread that may wait.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn apply_blocking(&self, change: impl FnOnce(&mut Rib, Instant) + Send + 'static) -> Result<(), Gone> {
        let job = |worker: &mut Worker| change(&mut worker.rib, Instant::now());
        self.jobs.blocking_send(Box::new(job)).map_err(|_| Gone)?;
        self.wake();
        Ok(())
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

    /// Walks the routes within `within` in order, by the piece.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn walk(&self, within: Prefix) -> Result<RouteWalk, Gone> {
        let walk = self.query(move |rib, _| rib.walk(&within)).await?;
        Ok(RouteWalk::new(self.clone(), walk))
    }

    /// Walks the routes that `peer` announced.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn walk_received(&self, peer: PeerId, family: Family) -> Result<RouteWalk, Gone> {
        let walk = self.query(move |rib, _| rib.walk_received(peer, family)).await?;
        Ok(RouteWalk::new(self.clone(), walk))
    }

    /// Walks the routes that `peer` was sent.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn walk_advertised(&self, peer: PeerId, family: Family) -> Result<RouteWalk, Gone> {
        let walk = self.query(move |rib, _| rib.walk_advertised(peer, family)).await?;
        Ok(RouteWalk::new(self.clone(), walk))
    }

    /// Adds a peer, or changes how it is treated without its session noticing.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn configure_peer(&self, peer: PeerId, config: PeerConfig) -> Result<(), Gone> {
        self.apply(move |rib, _| {
            if !rib.configure_peer(peer, config) {
                tracing::error!(%peer, "too many neighbors: its routes are not taken");
            }
        })
        .await
    }

    /// Takes a peer and everything learned from it away.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn remove_peer(&self, peer: PeerId) -> Result<(), Gone> {
        self.job(move |worker| worker.remove_peer(peer)).await
    }

    /// A session of `peer` is established: gives its two queues. A session that the peer had before is over.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn session_up(
        &self,
        peer: PeerId,
        up: PeerUp,
        negotiated: Negotiated,
    ) -> Result<(SessionLink, SessionOutput), Gone> {
        let number = self.waker.sessions.fetch_add(1, Ordering::Relaxed);
        let (link, output, table_end) = session::connect(peer, number, negotiated, self.clone());
        self.job(move |worker| worker.session_up(up, table_end)).await?;
        Ok((link, output))
    }

    /// The peer will not be back soon, whatever its last session promised: its tunnel is dead or it was shut down.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn peer_lost(&self, peer: PeerId) -> Result<(), Gone> {
        self.job(move |worker| worker.session_down(peer, None, Departure::Withdraw)).await
    }

    /// The peer asks for everything again (RFC 2918).
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn route_refresh(&self, peer: PeerId, family: Family) -> Result<(), Gone> {
        self.apply(move |rib, _| rib.route_refresh(peer, family)).await
    }

    /// How a wanted next hop is reached, if it is.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn next_hop_resolved(&self, key: NextHopKey, resolved: Option<Resolved>) -> Result<(), Gone> {
        self.apply(move |rib, _| rib.next_hop_resolved(key, resolved)).await
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
mod tests {}
