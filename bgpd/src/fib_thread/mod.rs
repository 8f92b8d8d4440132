//! The thread that owns the forwarding table.
//!
//! A fault goes straight from its detector to this thread ([`FibHandle::fault`]) and is served between two batches of
//! routes, each of about a millisecond at most. First the nexthop objects are replaced; then the fault is logged; then
//! the session and the table are told (`then`), which takes as long as it takes.
//!
//! A path comes back in two steps, so that nothing is cut while its routes are still being learned: when its session
//! is established it becomes a doubtful one ([`FibHandle::returning`]), which serves prefixes that have nothing else;
//! when the peer has sent everything and the table has passed it on ([`RibSide::returned`], [`RibSide::idle`]) it is
//! up.
//!
//! One that keeps failing is held down for a while even then: it stays a doubtful one ([`damping`]).
//!
//! Nobody is told of a doubt, so another router of our AS may send packets back: it prefers what we have told it, or doubts its
//! own way as well. Its path does not count as better than a doubtful one; what is known to be lost is left for it at once, and
//! it hears of that.

mod by_hand;
mod flaps;
mod found;
mod holds;
mod mailbox;
mod worker;

use std::{
    cell::Cell,
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Instant, SystemTime},
};

use bgp_core::{
    PeerId,
    rib::{BestChange, Unclaimed},
};
use fib::{Backend, Fib, PathKey, PathList, PathState, Scope};
use net_types::{Family, IfName, Prefix};

use crate::{
    damping,
    failover::{Cause, FailoverLog},
};
pub use by_hand::ByHand;
use mailbox::Sender;

/// Most changes in one parcel from the table.
const PARCEL: usize = 1024;

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
    /// The interface concerned, by number and name.
    pub interface: Option<(u32, IfName)>,
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
        Self::at(Instant::now(), cause, detail, words)
    }

    /// A fault that was detected at `at`.
    pub fn at(at: Instant, cause: Cause, detail: impl Into<String>, words: Vec<(Scope, PathState)>) -> Self {
        Self {
            cause,
            detail: detail.into(),
            peer: None,
            interface: None,
            words,
            at,
            at_wall: SystemTime::now(),
            then: None,
        }
    }

    /// The neighbor concerned.
    pub fn peer(self, peer: IpAddr) -> Self {
        Self { peer: Some(peer), ..self }
    }

    /// The interface concerned, by number and name.
    pub fn over(self, interface: Option<(u32, IfName)>) -> Self {
        Self { interface, ..self }
    }

    /// To be called once traffic has moved.
    pub fn then(self, then: impl FnOnce() + Send + 'static) -> Self {
        Self { then: Some(Box::new(then)), ..self }
    }
}

/// What is in use again, in the words of the faults that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The path to a neighbor, or to a router that static routes lead to.
    Peer(IpAddr),
    /// A tunnel that only static routes lead over.
    Interface(IfName),
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

/// A static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticRoute {
    /// Its prefix.
    pub prefix: Prefix,
    /// Where it leads; no path means that packets are dropped.
    pub paths: PathList,
    /// Its administrative distance.
    pub distance: u8,
}

/// How routes of BGP rank beside static ones: administrative distances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distances {
    /// Of routes that external neighbors announce; indexed by `Family as usize`.
    pub external: [u8; Family::COUNT],
    /// Of routes that internal neighbors announce.
    pub internal: [u8; Family::COUNT],
    /// The internal neighbors, by their number as a source of paths.
    pub internal_sources: std::collections::BTreeSet<u32>,
}

impl Default for Distances {
    fn default() -> Self {
        Self { external: [20; Family::COUNT], internal: [200; Family::COUNT], internal_sources: Default::default() }
    }
}

impl Distances {
    /// Of a route of BGP, by its best path; one that only fails closed ranks as an external one.
    fn of(&self, prefix: &Prefix, best: Option<&PathKey>) -> u8 {
        let internal = best.is_some_and(|path| self.internal_sources.contains(&path.source));
        let distances = if internal { &self.internal } else { &self.external };
        distances[prefix.family() as usize]
    }
}

/// What cannot wait.
enum Fast {
    Fault(Fault),
    Words(Vec<(Scope, PathState)>),
    Kernel(Vec<fib::Event>),
    Retry(u32),
    Returning(PeerId),
    Restored(Restored),
    Damping(Option<damping::Settings>),
    Release(Option<IfName>, Told),
}

/// Who is told how many.
type Told = Box<dyn FnOnce(usize) + Send>;

/// What can.
enum Bulk {
    Changes(Vec<BestChange>),
    RibIdle,
    Returned(PeerId, IpAddr),
    Statics(Vec<StaticRoute>),
    Distances(Distances),
    Settled(Unclaimed, BTreeSet<u32>),
    Excused(Option<PeerId>),
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

    /// The session to a peer is established: its path serves what has no other until the peer has sent its routes. What BFD had
    /// against it is in doubt as well until BFD speaks again, since packets have come and gone.
    pub fn returning(&self, peer: PeerId) {
        self.sender.fast(Fast::Returning(peer));
    }

    /// Something is in use again, and no session says so by its return.
    pub fn restored(&self, whom: Restored) {
        self.sender.fast(Fast::Restored(whom));
    }

    /// Paths that flap are held down so from now on, or none is any more.
    pub fn damping(&self, settings: Option<damping::Settings>) {
        self.sender.fast(Fast::Damping(settings));
    }

    /// Paths over this interface, or all, are held down no more, and what they did is forgotten. `told` hears how many were
    /// held, or would have been at their return; it must not wait for anything.
    pub fn release(&self, interface: Option<IfName>, told: impl FnOnce(usize) + Send + 'static) {
        self.sender.fast(Fast::Release(interface, Box::new(told)));
    }

    /// What the kernel or somebody else did.
    pub fn kernel(&self, events: Vec<fib::Event>) {
        self.sender.fast(Fast::Kernel(events));
    }

    /// Addresses on this interface changed: what the kernel refused to send through it may be acceptable now.
    pub fn retry(&self, ifindex: u32) {
        self.sender.fast(Fast::Retry(ifindex));
    }

    /// All static routes, in place of those given before.
    pub fn statics(&self, routes: Vec<StaticRoute>) {
        self.sender.bulk(Bulk::Statics(routes));
    }

    /// How routes of BGP rank beside static ones.
    pub fn distances(&self, distances: Distances) {
        self.sender.bulk(Bulk::Distances(distances));
    }

    /// Routes of an earlier run are not dropped any more for the sake of this neighbor, who has not spoken since; or for
    /// anybody's.
    pub fn excused(&self, peer: Option<PeerId>) {
        self.sender.bulk(Bulk::Excused(peer));
    }

    /// Asks the table.
    pub fn ask(&self, question: impl FnOnce(&dyn Table) + Send + 'static) {
        self.sender.bulk(Bulk::Ask(Box::new(question)));
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
        RibSide { sender: self.sender.clone(), told: Cell::new(false) }
    }

    /// Whom to call when the table may pass on more, after [`RibSide::room`] was none.
    pub fn call_when_room(&self, waker: impl Fn() + Send + Sync + 'static) {
        self.sender.set_waker(Box::new(waker));
    }
}

/// What the owner of the routing table says to the FIB. Nothing here waits.
pub struct RibSide {
    sender: Sender<Fast, Bulk>,
    /// Something was passed on since the table was idle last.
    told: Cell<bool>,
}

impl RibSide {
    /// How many changes are taken now.
    pub fn room(&self) -> usize {
        if self.sender.has_room() { PARCEL } else { 0 }
    }

    /// Changes of best paths.
    pub fn changes(&self, changes: Vec<BestChange>) {
        self.told.set(true);
        self.sender.bulk(Bulk::Changes(changes));
    }

    /// The peer has sent all its routes, and the table has taken them in. Its path is up once the table has
    /// [nothing left to pass on](Self::idle).
    pub fn returned(&self, peer: PeerId, address: IpAddr) {
        self.told.set(true);
        self.sender.bulk(Bulk::Returned(peer, address));
    }

    /// The deferral after our own restart is over: once what the table passed on is written, routes found at start
    /// that nobody asked for are stale. `tunnels`: the interfaces that protected neighbors are behind.
    pub fn settled(&self, unclaimed: Unclaimed, tunnels: BTreeSet<u32>) {
        self.told.set(true);
        self.sender.bulk(Bulk::Settled(unclaimed, tunnels));
    }

    /// The table has nothing left to do or to pass on. May be called as often as that is so.
    pub fn idle(&self) {
        if self.told.take() {
            self.sender.bulk(Bulk::RibIdle);
        }
    }
}

/// Starts the thread over a table that has adopted what it found.
///
/// # Errors
/// When the system gives no thread.
pub fn start<B: Backend + Send + 'static>(fib: Fib<B>) -> std::io::Result<(FibHandle, JoinHandle<()>)> {
    let (sender, receiver) = mailbox::mailbox();
    let log = SharedLog::default();
    let worker = worker::Worker::new(fib, log.clone(), Instant::now());
    let thread = std::thread::Builder::new().name("fib".into()).spawn(move || worker.run(&receiver))?;
    Ok((FibHandle { sender, log }, thread))
}

#[cfg(test)]
mod tests;
