//! Where the FIB thread gets its orders: faults first, always; then routes, of which only so many wait.
//!
//! Reporting a fault never waits: their number is bounded by that of paths, tunnels and links. Routes come by the
//! hundred thousand, and whoever has more asks for room first, and is called back when there is some again.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

/// Most parcels of routes that wait. Each holds up to a thousand prefixes.
const BULK_CAPACITY: usize = 16;

struct Boxes<F, B> {
    fast: VecDeque<F>,
    bulk: VecDeque<B>,
    closed: bool,
    /// Somebody asked for room when there was none.
    starved: bool,
}

/// Called when there is room again.
type Waker = Box<dyn Fn() + Send + Sync>;

struct Shared<F, B> {
    boxes: Mutex<Boxes<F, B>>,
    /// There is something to read.
    filled: Condvar,
    waker: OnceLock<Waker>,
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
    let boxes = Boxes { fast: VecDeque::new(), bulk: VecDeque::new(), closed: false, starved: false };
    let shared = Arc::new(Shared { boxes: Mutex::new(boxes), filled: Condvar::new(), waker: OnceLock::new() });
    (Sender(shared.clone()), Receiver(shared))
}

impl<F, B> Clone for Sender<F, B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F, B> Sender<F, B> {
    /// Puts in what is urgent, unless the mailbox is closed. Never waits.
    pub(super) fn fast(&self, order: F) {
        let mut boxes = self.0.lock();
        if !boxes.closed {
            boxes.fast.push_back(order);
            self.0.filled.notify_one();
        }
    }

    /// Puts in what is not, unless the mailbox is closed. Whoever has much of it asks [`has_room`](Self::has_room) before.
    pub(super) fn bulk(&self, order: B) {
        let mut boxes = self.0.lock();
        if !boxes.closed {
            boxes.bulk.push_back(order);
            self.0.filled.notify_one();
        }
    }

    /// Whether more routes should be put in. After a no the waker is called when there is room again.
    pub(super) fn has_room(&self) -> bool {
        let mut boxes = self.0.lock();
        boxes.starved = boxes.bulk.len() >= BULK_CAPACITY;
        !boxes.starved
    }

    /// Whom to call when there is room again. The first one stays.
    pub(super) fn set_waker(&self, waker: Waker) {
        // A second one would be the same: there is one routing table.
        let _ = self.0.waker.set(waker);
    }

    /// Ends the mailbox: the reader is told once it has read everything. Nothing that comes after this gets in, or sessions
    /// that end with the daemon would take their routes along.
    pub(super) fn close(&self) {
        self.0.lock().closed = true;
        self.0.filled.notify_one();
    }
}

impl<F, B> Receiver<F, B> {
    /// Reads the next order, waiting for one until `deadline` at most. With `urgent_only` routes stay where they are.
    pub(super) fn next(&self, deadline: Instant, urgent_only: bool) -> Order<F, B> {
        let mut boxes = self.0.lock();
        loop {
            match self.take(boxes, urgent_only) {
                Ok(order) => return order,
                Err(empty) => boxes = empty,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Order::Idle;
            }
            boxes = self.0.filled.wait_timeout(boxes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The same without waiting.
    pub(super) fn poll(&self, urgent_only: bool) -> Order<F, B> {
        self.take(self.0.lock(), urgent_only).unwrap_or(Order::Idle)
    }

    /// The next order, or the boxes back when there is none.
    fn take<'a>(
        &'a self,
        mut boxes: MutexGuard<'a, Boxes<F, B>>,
        urgent_only: bool,
    ) -> Result<Order<F, B>, MutexGuard<'a, Boxes<F, B>>> {
        if let Some(order) = boxes.fast.pop_front() {
            return Ok(Order::Fast(order));
        }
        if !urgent_only && let Some(order) = boxes.bulk.pop_front() {
            let wake = boxes.starved && boxes.bulk.len() < BULK_CAPACITY / 2;
            boxes.starved &= !wake;
            drop(boxes);
            if wake && let Some(waker) = self.0.waker.get() {
                waker();
            }
            return Ok(Order::Bulk(order));
        }
        if boxes.closed { Ok(Order::Closed) } else { Err(boxes) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn faults_overtake_routes() {
        let (sender, receiver) = mailbox();
        sender.bulk("routes");
        sender.fast("fault");
        assert_eq!(receiver.next(soon(), false), Order::Fast("fault"));
        assert_eq!(receiver.next(Instant::now(), true), Order::Idle);
        assert_eq!(receiver.next(soon(), false), Order::Bulk("routes"));
        sender.bulk("before");
        sender.close();
        sender.bulk("after");
        sender.fast("after");
        assert_eq!(receiver.next(soon(), false), Order::Bulk("before"));
        assert_eq!(receiver.next(soon(), false), Order::Closed);
    }

    #[test]
    fn whoever_found_no_room_is_called_once_when_there_is_some() {
        let (sender, receiver) = mailbox::<u32, usize>();
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        sender.set_waker(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        let mut sent = 0;
        while sender.has_room() {
            sender.bulk(sent);
            sent += 1;
        }
        assert_eq!(sent, BULK_CAPACITY);
        for number in 0..sent {
            assert_eq!(receiver.next(soon(), false), Order::Bulk(number));
        }
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert!(sender.has_room());
    }
}
