//! The thread that owns the forwarding table.
//!
//! A fault goes straight from its detector to this thread ([`FibHandle::fault`]) and is served between two batches of
//! routes, each of about a millisecond at most. First the nexthop objects are replaced; then the fault is logged; then
//! the session and the table are told (`then`), which takes as long as it takes.
//!
//! A path comes back in two steps, so that nothing is cut while its routes are still being learned: when its session
//! is established it becomes the last resort ([`FibHandle::returning`]), which serves prefixes that have nothing else;
//! when the peer has sent everything and the table has passed it on ([`FibHandle::returned`], [`RibSide::idle`]) it is
//! up.

mod mailbox;
mod worker;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Instant, SystemTime},
};

use bgp_core::{
    PeerId,
    rib::{BestChange, RibEvent},
};
use fib::{Backend, Fib, PathKey, PathState, Scope};
use net_types::{IfName, Prefix};

use crate::failover::{Cause, FailoverLog};
use mailbox::Sender;

/// The failover log, which the FIB thread writes and `show failover` reads.
pub type SharedLog = Arc<Mutex<FailoverLog>>;

/// A fault, as its detector saw it.
pub struct Fault {
    /// Which detector.
    pub cause: Cause,
    /// What it said.
    pub detail: String,
    /// The neighbor concerned.
    pub peer: Option<IpAddr>,
    /// The interface concerned.
    pub tunnel: Option<IfName>,
    /// What is not usable any more, and how badly.
    pub words: Vec<(Scope, PathState)>,
    /// When it was detected.
    pub at: Instant,
    /// The same by the wall clock.
    pub at_wall: SystemTime,
    /// To be called once traffic has moved: whatever takes longer. Must not wait for anything.
    pub then: Option<Box<dyn FnOnce() + Send>>,
}

impl Fault {
    /// A fault that is detected now.
    pub fn now(cause: Cause, detail: impl Into<String>, words: Vec<(Scope, PathState)>) -> Self {
        Self {
            cause,
            detail: detail.into(),
            peer: None,
            tunnel: None,
            words,
            at: Instant::now(),
            at_wall: SystemTime::now(),
            then: None,
        }
    }

    /// The neighbor concerned.
    pub fn peer(self, peer: IpAddr) -> Self {
        Self { peer: Some(peer), ..self }
    }

    /// The interface concerned.
    pub fn tunnel(self, tunnel: Option<IfName>) -> Self {
        Self { tunnel, ..self }
    }

    /// To be called once traffic has moved.
    pub fn then(self, then: impl FnOnce() + Send + 'static) -> Self {
        Self { then: Some(Box::new(then)), ..self }
    }
}

/// A question to the forwarding table, asked between two batches; it should take a millisecond at most.
pub type Question = Box<dyn FnOnce(&dyn Table) + Send>;

/// What may be asked of the forwarding table, whatever holds it.
pub trait Table {
    /// One route.
    fn route(&self, prefix: &Prefix) -> Option<fib::RouteView<'_>>;
    /// A piece of all routes; see [`Fib::routes`].
    fn routes(&self, from: usize, limit: usize) -> (Vec<fib::RouteView<'_>>, Option<usize>);
    /// Counts.
    fn stats(&self) -> fib::Stats;
}

impl<B: Backend> Table for Fib<B> {
    fn route(&self, prefix: &Prefix) -> Option<fib::RouteView<'_>> {
        Fib::route(self, prefix)
    }

    fn routes(&self, from: usize, limit: usize) -> (Vec<fib::RouteView<'_>>, Option<usize>) {
        Fib::routes(self, from, limit)
    }

    fn stats(&self) -> fib::Stats {
        Fib::stats(self)
    }
}

/// What cannot wait.
enum Fast {
    Fault(Fault),
    Words(Vec<(Scope, PathState)>),
    Kernel(Vec<fib::Event>),
    Retry(u32),
    Restored(IpAddr),
}

/// What can.
enum Bulk {
    Changes(Vec<BestChange>),
    RibEvent(RibEvent),
    RibIdle,
    Returned(PeerId, IpAddr),
    Statics(Vec<(Prefix, Vec<PathKey>)>),
    Sweep,
    Ask(Question),
}

/// Orders for the thread. Cheap to clone.
#[derive(Clone)]
pub struct FibHandle {
    sender: Sender<Fast, Bulk>,
    log: SharedLog,
}

impl FibHandle {
    /// Something broke.
    pub fn fault(&self, fault: Fault) {
        self.sender.fast(Fast::Fault(fault));
    }

    /// The health of something is another now, and nobody needs to hear of it. What is worth a line in the failover
    /// log is a [`Fault`].
    pub fn words(&self, words: Vec<(Scope, PathState)>) {
        self.sender.fast(Fast::Words(words));
    }

    /// The session to a peer is established: its path serves as a last resort until the peer has sent its routes.
    pub fn returning(&self, peer: PeerId) {
        self.words(vec![(Scope::Source(peer.0), PathState::LastResort)]);
    }

    /// The peer has sent all its routes. To be called where the table has taken them in (on its thread), so that
    /// the changes that they bring are ahead of this. The path is up once the table has [nothing left to
    /// pass on](RibSide::idle).
    pub fn returned(&self, peer: PeerId, address: IpAddr) {
        self.sender.bulk_now(Bulk::Returned(peer, address));
    }

    /// The path to a peer is in use again although its session was never lost.
    pub fn restored(&self, address: IpAddr) {
        self.sender.fast(Fast::Restored(address));
    }

    /// What the kernel or somebody else did.
    pub fn kernel(&self, events: Vec<fib::Event>) {
        self.sender.fast(Fast::Kernel(events));
    }

    /// Addresses on this interface changed: what the kernel refused to send through it may be acceptable now.
    pub fn retry(&self, ifindex: u32) {
        self.sender.fast(Fast::Retry(ifindex));
    }

    /// All static routes, in place of those given before. No path means that packets are dropped.
    pub fn statics(&self, routes: Vec<(Prefix, Vec<PathKey>)>) {
        self.sender.bulk_now(Bulk::Statics(routes));
    }

    /// Routes found at start that nobody has asked for since are taken out.
    pub fn sweep(&self) {
        self.sender.bulk_now(Bulk::Sweep);
    }

    /// Asks the table.
    pub fn ask(&self, question: impl FnOnce(&dyn Table) + Send + 'static) {
        self.sender.bulk_now(Bulk::Ask(Box::new(question)));
    }

    /// The failover log.
    pub fn log(&self) -> &SharedLog {
        &self.log
    }

    /// The thread ends once it has done what it was told before. Routes stay in the kernel.
    pub fn close(&self) {
        self.sender.close();
    }

    /// The end for the thread that owns the routing table.
    pub fn rib_side(&self) -> RibSide {
        RibSide { sender: self.sender.clone() }
    }
}

/// What the owner of the routing table says to the FIB. Its thread waits when it is too fast.
pub struct RibSide {
    sender: Sender<Fast, Bulk>,
}

impl RibSide {
    /// Changes of best paths. Waits for room; false when the FIB thread has ended.
    pub fn changes(&self, changes: Vec<BestChange>) -> bool {
        self.sender.bulk(Bulk::Changes(changes))
    }

    /// The table said so.
    pub fn event(&self, event: RibEvent) {
        self.sender.bulk_now(Bulk::RibEvent(event));
    }

    /// The table has nothing left to do or to pass on, after it had. To be called each time that this comes true,
    /// and after each question that was put to it, since that may have been [`FibHandle::returned`].
    pub fn idle(&self) {
        self.sender.bulk_now(Bulk::RibIdle);
    }
}

/// Starts the thread over a table that has adopted what it found.
///
/// # Errors
/// When the system gives no thread.
pub fn start<B: Backend + Send + 'static>(fib: Fib<B>) -> std::io::Result<(FibHandle, JoinHandle<()>)> {
    let (sender, receiver) = mailbox::mailbox();
    let log = SharedLog::default();
    let worker = worker::Worker::new(fib, log.clone());
    let thread = std::thread::Builder::new().name("fib".into()).spawn(move || worker.run(&receiver))?;
    Ok((FibHandle { sender, log }, thread))
}

#[cfg(test)]
mod tests;
