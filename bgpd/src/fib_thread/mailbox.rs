//! Where the FIB thread gets its orders: faults first, always; then routes, of which only so many wait.
//!
//! Reporting a fault never waits: their number is bounded by that of paths, tunnels and links. Routes come by the
//! hundred thousand, and whoever has more than fit waits until there is room.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Most parcels of routes that wait. Each holds some hundreds of prefixes.
const BULK_CAPACITY: usize = 64;

struct Boxes<F, B> {
    fast: VecDeque<F>,
    bulk: VecDeque<B>,
    closed: bool,
}

struct Shared<F, B> {
    boxes: Mutex<Boxes<F, B>>,
    /// There is something to read.
    filled: Condvar,
    /// There is room again.
    emptied: Condvar,
}

impl<F, B> Shared<F, B> {
    fn lock(&self) -> MutexGuard<'_, Boxes<F, B>> {
        // Nothing in here is ever left half-done, so a panic elsewhere spoils nothing.
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that orders are put in by.
pub(super) struct Sender<F, B>(Arc<Shared<F, B>>);

/// The end that the thread reads.
pub(super) struct Receiver<F, B>(Arc<Shared<F, B>>);

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order<F, B> {
    /// To be served before anything else.
    Fast(F),
    /// To be served when there is nothing faster.
    Bulk(B),
    /// Nothing came in time.
    Idle,
    /// Nothing will come any more.
    Closed,
}

/// A mailbox.
pub(super) fn mailbox<F, B>() -> (Sender<F, B>, Receiver<F, B>) {
    let boxes = Boxes { fast: VecDeque::new(), bulk: VecDeque::new(), closed: false };
    let shared = Arc::new(Shared { boxes: Mutex::new(boxes), filled: Condvar::new(), emptied: Condvar::new() });
    (Sender(shared.clone()), Receiver(shared))
}

impl<F, B> Clone for Sender<F, B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F, B> Sender<F, B> {
    /// Puts in what is urgent. Never waits.
    pub(super) fn fast(&self, order: F) {
        self.0.lock().fast.push_back(order);
        self.0.filled.notify_one();
    }

    /// Puts in what is not, and waits for room; not for tasks of an async runtime. False once nobody reads any more.
    pub(super) fn bulk(&self, order: B) -> bool {
        let mut boxes = self.0.lock();
        while boxes.bulk.len() >= BULK_CAPACITY && !boxes.closed {
            boxes = self.0.emptied.wait(boxes).unwrap_or_else(PoisonError::into_inner);
        }
        if boxes.closed {
            return false;
        }
        boxes.bulk.push_back(order);
        self.0.filled.notify_one();
        true
    }

    /// Puts in what is not urgent without waiting, for orders of which there are few.
    pub(super) fn bulk_now(&self, order: B) {
        self.0.lock().bulk.push_back(order);
        self.0.filled.notify_one();
    }

    /// Ends the mailbox: the reader is told once it has read everything.
    pub(super) fn close(&self) {
        self.0.lock().closed = true;
        self.0.filled.notify_one();
        self.0.emptied.notify_all();
    }
}

impl<F, B> Receiver<F, B> {
    /// Reads the next order, waiting for one until `deadline` at most. With `urgent_only` routes stay where they are.
    pub(super) fn next(&self, deadline: Instant, urgent_only: bool) -> Order<F, B> {
        let mut boxes = self.0.lock();
        loop {
            if let Some(order) = boxes.fast.pop_front() {
                return Order::Fast(order);
            }
            if !urgent_only && let Some(order) = boxes.bulk.pop_front() {
                self.0.emptied.notify_one();
                return Order::Bulk(order);
            }
            if boxes.closed {
                return Order::Closed;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Order::Idle;
            }
            boxes = self.0.filled.wait_timeout(boxes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<F, B> Drop for Receiver<F, B> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.emptied.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn faults_overtake_routes() {
        let (sender, receiver) = mailbox();
        assert!(sender.bulk("routes"));
        sender.fast("fault");
        assert_eq!(receiver.next(soon(), false), Order::Fast("fault"));
        assert_eq!(receiver.next(Instant::now(), true), Order::Idle);
        assert_eq!(receiver.next(soon(), false), Order::Bulk("routes"));
        sender.close();
        assert_eq!(receiver.next(soon(), false), Order::Closed);
        assert!(!sender.bulk("late"));
    }

    #[test]
    fn routes_wait_for_room_and_faults_do_not() {
        let (sender, receiver) = mailbox::<u32, u32>();
        let writer = {
            let sender = sender.clone();
            std::thread::spawn(move || (0..1000).all(|number| sender.bulk(number)))
        };
        let mut read = Vec::new();
        while read.len() < 1000 {
            sender.fast(0);
            assert_eq!(receiver.next(soon(), false), Order::Fast(0));
            assert!(receiver.0.lock().bulk.len() <= BULK_CAPACITY);
            if let Order::Bulk(number) = receiver.next(soon(), false) {
                read.push(number);
            }
        }
        assert!(writer.join().unwrap());
        assert!(read.is_sorted());
    }

    #[test]
    fn nobody_waits_for_a_reader_that_is_gone() {
        let (sender, receiver) = mailbox::<u32, u32>();
        let writer = std::thread::spawn(move || while sender.bulk(1) {});
        drop(receiver);
        writer.join().unwrap();
    }
}
