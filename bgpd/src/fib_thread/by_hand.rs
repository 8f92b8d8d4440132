//! The thread's work without the thread: for whoever has a clock of its own and wants to say when each order is served.

use std::time::Instant;

use fib::{Backend, Fib};

use super::{
    Bulk, Fast, FibHandle, SharedLog,
    mailbox::{self, Order, Receiver},
    worker::Worker,
};

/// A forwarding table whose orders are served by its owner.
pub struct ByHand<B> {
    worker: Worker<B>,
    orders: Receiver<Fast, Bulk>,
}

impl<B: Backend> ByHand<B> {
    /// Over a table that has adopted what it found; and the way to give it orders.
    pub fn new(fib: Fib<B>, now: Instant) -> (Self, FibHandle) {
        let (sender, orders) = mailbox::mailbox();
        let log = SharedLog::default();
        (Self { worker: Worker::new(fib, log.clone(), now), orders }, FibHandle { sender, log })
    }

    /// Serves one order at `now`, or writes one batch when none waits. Says when the next turn is due, which is `now` while
    /// there is more to do; whatever comes in asks for one at once.
    pub fn turn(&mut self, now: Instant) -> Option<Instant> {
        let (due, crowded) = self.worker.prepare(now);
        match self.orders.poll(crowded) {
            Order::Idle if due > now => Some(due),
            order => self.worker.serve(order, now).then_some(now),
        }
    }
}
