//! BFD, on a thread that nothing else can starve.
//!
//! The thread owns the sockets, the clock and the sessions, runs ahead of everything else that it may run ahead of
//! (SCHED_FIFO where permitted), and shares no lock with the RIB, the FIB or the runtime. A session that goes down is told
//! by a callback on this very thread before anything else is done, so that the FIB hears of it at once.
//!
//! Packets are taken in before timers are looked at: a thread that was held up finds what came meanwhile before it calls
//! a peer silent.

mod sockets;
mod worker;

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Instant, SystemTime},
};

use bfd::{Cause, Config, Peer, State};
use net_types::IfName;
use rustix::{
    event::{EventfdFlags, eventfd},
    fd::OwnedFd,
};

use crate::show::view;

/// Orders that may wait at once. They come from configuration and operators; who finds the queue full waits.
const ORDERS: usize = 1024;

/// A change of a session's state, as the thread saw it.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Which session.
    pub peer: Peer,
    /// Before.
    pub from: State,
    /// Now.
    pub to: State,
    /// Why.
    pub cause: Cause,
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
        }
    }
}

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
}

#[cfg(test)]
mod tests;
