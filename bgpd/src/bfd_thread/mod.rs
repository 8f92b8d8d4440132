<<<<<<< HEAD
//! The thread that BFD runs on.
//!
//! It has its own sockets and waits for nothing but them and its timers, so a busy routing table cannot make a session
//! miss its time; it asks the scheduler to be preferred, and says so when it may not be. Packets that are waiting are
//! read before a detection time is held to have run out: a thread that was kept from running blames nobody else.
//!
//! State changes are told by a function that is called on this thread, first thing after the packet that brought them.

mod link;
=======
//! BFD, on a thread that nothing else can starve.
//!
//! The thread owns the sockets, the clock and the sessions, runs ahead of everything else that it may run ahead of
//! (SCHED_FIFO where permitted), and shares no lock with the RIB, the FIB or the runtime. A session that goes down is told
//! by a callback on this very thread before anything else is done, so that the FIB hears of it at once.
//!
//! Packets are taken in before timers are looked at: a thread that was held up finds what came meanwhile before it calls
//! a peer silent.

mod sockets;
>>>>>>> main
mod worker;

use std::{
    io,
    net::IpAddr,
<<<<<<< HEAD
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Instant,
};

use bfd::{Cause, Config, Peer, State};
use bgp_core::PeerId;
=======
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Instant, SystemTime},
};

use bfd::{Cause, Config, Peer, State};
>>>>>>> main
use net_types::IfName;
use rustix::{
    event::{EventfdFlags, eventfd},
    fd::OwnedFd,
};
<<<<<<< HEAD
use tokio::sync::oneshot;

use crate::show::view;

/// A session that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The neighbor that it is for.
    pub neighbor: PeerId,
    /// Whom it is with.
    pub peer: Peer,
    /// The interface's name.
    pub interface: IfName,
    /// Our own address; the kernel's choice without.
    pub local: Option<IpAddr>,
    /// Its timers.
    pub config: Config,
    /// Held down (`shutdown`).
    pub admin_down: bool,
}

/// A session went up or down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The neighbor that it is for.
    pub neighbor: PeerId,
    /// Whom it is with.
=======

use crate::show::view;

/// Orders that may wait at once. They come from configuration and operators; who finds the queue full waits.
const ORDERS: usize = 1024;

/// A change of a session's state, as the thread saw it.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Which session.
>>>>>>> main
    pub peer: Peer,
    /// Before.
    pub from: State,
    /// Now.
    pub to: State,
    /// Why.
    pub cause: Cause,
<<<<<<< HEAD
    /// When the packet, or the silence, was noticed.
    pub at: Instant,
}

enum Command {
    /// These sessions and no others. What stays as it was does not notice.
    Sessions(Vec<Wanted>),
    Snapshot(oneshot::Sender<Vec<view::Bfd>>),
    Close,
}

/// A grip on the thread. Cheap to clone.
#[derive(Clone)]
pub struct BfdHandle {
    commands: mpsc::Sender<Command>,
    bell: Arc<OwnedFd>,
}

impl BfdHandle {
    /// These sessions are to be, and no others. Those that stay as they were do not notice.
    pub fn sessions(&self, wanted: Vec<Wanted>) {
        self.command(Command::Sessions(wanted));
    }

    /// What `show bfd peers` prints; nothing when the thread has ended.
    pub async fn snapshot(&self) -> Vec<view::Bfd> {
        let (tell, told) = oneshot::channel();
        self.command(Command::Snapshot(tell));
        told.await.unwrap_or_default()
    }

    /// Tells every peer that its session is administratively down, and ends the thread.
    pub fn close(&self) {
        self.command(Command::Close);
    }

    fn command(&self, command: Command) {
        // After the thread's end there is nobody to do anything, and nothing to be done.
        if self.commands.send(command).is_ok()
            && let Err(error) = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes())
        {
            tracing::error!(%error, "the BFD thread cannot be woken");
=======
    /// When.
    pub at: Instant,
    /// The same by the wall clock.
    pub at_wall: SystemTime,
}

/// A session to run.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// With whom.
    pub peer: Peer,
    /// Our address.
    pub local: IpAddr,
    /// The interface of `peer.ifindex`.
    pub interface: IfName,
    /// Timers.
    pub config: Config,
}

enum Order {
    Run(Wanted),
    Remove(Peer),
    AdminDown(Peer, bool),
    Ask(Box<dyn FnOnce(Vec<view::Bfd>) + Send>),
    Stop,
}

/// Orders for the thread. Cheap to clone.
#[derive(Clone)]
pub struct BfdHandle {
    orders: SyncSender<Order>,
    wake: Arc<OwnedFd>,
}

impl BfdHandle {
    /// Runs a session, or gives a running one other timers. One whose addresses changed begins anew.
    pub fn run(&self, wanted: Wanted) {
        self.order(Order::Run(wanted));
    }

    /// Ends a session without telling the peer more than silence does.
    pub fn remove(&self, peer: Peer) {
        self.order(Order::Remove(peer));
    }

    /// Holds a session down, or lets it go; the peer is told that it is by intention (RFC 5880 §6.8.16).
    pub fn admin_down(&self, peer: Peer, down: bool) {
        self.order(Order::AdminDown(peer, down));
    }

    /// Every session as it is, in the order of addresses; `then` is called on the thread and must not wait for anything.
    pub fn snapshot(&self, then: impl FnOnce(Vec<view::Bfd>) + Send + 'static) {
        self.order(Order::Ask(Box::new(then)));
    }

    /// Ends the thread. Sessions are told to be down by intention first, so that peers do not take it for a fault.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    fn order(&self, order: Order) {
        // A thread that has ended takes no orders, and nobody needs it to.
        if self.orders.send(order).is_ok() {
            // It fails only when the counter is full, and then the thread has been woken already.
            let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
>>>>>>> main
        }
    }
}

<<<<<<< HEAD
/// Starts the thread in the caller's network namespace. `changed` is called on it and must not wait.
///
/// # Errors
/// When the system gives no thread or descriptor.
pub fn start(changed: impl FnMut(Change) + Send + 'static) -> io::Result<(BfdHandle, JoinHandle<()>)> {
    let (commands, inbox) = mpsc::channel();
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let worker = worker::Worker::new(inbox, bell.clone(), Box::new(changed));
    let thread = std::thread::Builder::new().name("bfd".into()).spawn(move || worker.run())?;
    Ok((BfdHandle { commands, bell }, thread))
=======
/// Starts the thread. `changed` is called on it at each change of a session's state and must not wait for anything.
///
/// # Errors
/// When the thread cannot be made.
pub fn spawn(changed: impl Fn(Change) + Send + 'static) -> io::Result<(BfdHandle, JoinHandle<()>)> {
    let (orders, incoming) = sync_channel(ORDERS);
    let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    let handle = BfdHandle { orders, wake: Arc::clone(&wake) };
    let worker = worker::Worker::new(incoming, wake, Box::new(changed));
    let thread = std::thread::Builder::new().name("bfd".into()).spawn(move || worker.run())?;
    Ok((handle, thread))
>>>>>>> main
}

#[cfg(test)]
mod tests;
