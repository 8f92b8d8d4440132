//! One UDP stream of numbered packets, with a window.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use sys::mmsg::{self, Datagram, RecvBatch};
use sys::sockopt;

use crate::node::Node;

const PORT: u16 = 7009;
/// Packets on their way at most: half of what a TUN device queues.
const WINDOW: u64 = 256;
/// Packets handed to the kernel at once.
const BURST: u64 = 32;
/// When nothing arrives for so long, what is missing is lost, and the window opens.
const LOST_AFTER: Duration = Duration::from_millis(200);
const SOCKET_BUFFER: usize = 16 << 20;

/// What the packets look like.
#[derive(Clone, Copy, Debug)]
pub struct UdpShape {
    /// Octets behind the UDP header; at least the eight of the number.
    pub payload: u16,
    /// Handed to the kernel as one to be segmented (UDP_SEGMENT), as QUIC does; otherwise each for itself.
    pub segmented: bool,
}

/// A running stream.
#[derive(Debug)]
pub struct UdpLoad {
    shared: Arc<Shared>,
    sender: JoinHandle<Result<u64>>,
    receiver: JoinHandle<Result<Received>>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UdpOutcome {
    /// Packets sent.
    pub sent: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came after one with a higher number.
    pub reordered: u64,
    /// Packets a second that arrived, from the first to the last.
    pub per_s: f64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicBool,
    /// One more than the highest number that arrived.
    arrived: AtomicU64,
    /// Whether the sender sleeps; it is woken when a quarter of the window is free.
    waiting: Mutex<bool>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Received {
    packets: u64,
    reordered: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl UdpLoad {
    /// Starts to send from one node's address to another's.
    pub fn start((from, source): (&Node, IpAddr), (to, target): (&Node, IpAddr), shape: UdpShape) -> Result<Self> {
        let target = SocketAddr::new(target, PORT);
        let into = to.enter(|| UdpSocket::bind(target))??;
        sockopt::set_socket_recv_buffer_size_force(&into, SOCKET_BUFFER)?;
        sockopt::set_udp_gro(&into, true)?;
        into.set_nonblocking(true)?;
        let out = from.enter(|| UdpSocket::bind(SocketAddr::new(source, 0)))??;
        sockopt::set_socket_send_buffer_size_force(&out, SOCKET_BUFFER)?;
        let shared = Arc::new(Shared::default());
        let sender = std::thread::Builder::new().name("load-send".into()).spawn({
            let shared = Arc::clone(&shared);
            move || send(&out, target, shape, &shared)
        })?;
        let receiver = std::thread::Builder::new().name("load-recv".into()).spawn({
            let shared = Arc::clone(&shared);
            move || receive(&into, usize::from(shape.payload), &shared)
        })?;
        Ok(Self { shared, sender, receiver })
    }

    /// Packets of which a later one, or they themselves, have arrived.
    pub fn arrived(&self) -> u64 {
        self.shared.arrived.load(Ordering::Relaxed)
    }

    /// Stops sending, waits for what is on its way, and counts.
    pub fn finish(self) -> Result<UdpOutcome> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().ok().context("the sending thread failed")??;
        self.shared.done.store(true, Ordering::Relaxed);
        let received = self.receiver.join().ok().context("the receiving thread failed")??;
        let time = received.first.zip(received.last).map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        Ok(UdpOutcome {
            sent,
            lost: sent.saturating_sub(received.packets),
            reordered: received.reordered,
            per_s: if time > 0.0 { received.packets as f64 / time } else { 0.0 },
        })
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, shape: UdpShape, shared: &Shared) -> Result<u64> {
    let size = usize::from(shape.payload);
    let mut slab = vec![0x5a; size * BURST as usize];
    let segment = NonZeroU16::new(shape.payload);
    let (mut sent, mut forgiven) = (0, 0);
    while !shared.stop.load(Ordering::Relaxed) {
        if !shared.wait_for_room(sent, forgiven) {
            forgiven = sent;
        }
        for (packet, number) in slab.chunks_exact_mut(size).zip(sent..) {
            packet[..8].copy_from_slice(&u64::to_be_bytes(number));
        }
        let one = |payload| Datagram { to, from: None, payload, segment: None, tos: 0 };
        let datagrams: Vec<Datagram<'_>> = if shape.segmented {
            vec![Datagram { segment, ..one(&slab[..]) }]
        } else {
            slab.chunks_exact(size).map(one).collect()
        };
        let mut at = 0;
        while at < datagrams.len() {
            match mmsg::send(socket, &datagrams[at..]) {
                Ok(count) => at += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
                    match rustix::event::poll(&mut fds, None) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error).context("sending"),
            }
        }
        sent += BURST;
    }
    Ok(sent)
}

impl Shared {
    /// Waits until a burst fits the window; `false` when nothing arrived for too long.
    fn wait_for_room(&self, sent: u64, forgiven: u64) -> bool {
        let on_the_way = || sent - self.arrived.load(Ordering::SeqCst).max(forgiven).min(sent);
        if on_the_way() + BURST <= WINDOW {
            return true;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            *waiting = true;
            let before = on_the_way();
            if before <= WINDOW * 3 / 4 {
                *waiting = false;
                return true;
            }
            let (guard, timeout) = self.wake.wait_timeout(waiting, LOST_AFTER).unwrap_or_else(PoisonError::into_inner);
            waiting = guard;
            if timeout.timed_out() && on_the_way() == before {
                *waiting = false;
                return false;
            }
        }
    }

    fn advance(&self, arrived: u64) {
        self.arrived.store(arrived, Ordering::SeqCst);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *waiting) {
            self.wake.notify_one();
        }
    }
}

fn receive(socket: &UdpSocket, size: usize, shared: &Shared) -> Result<Received> {
    let mut batch = RecvBatch::new(32, 65_536);
    let mut received = Received::default();
    let mut next = 0;
    let patience = Timespec::try_from(LOST_AFTER)?;
    loop {
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        // Only an empty queue ends it: what was on its way when the sender stopped is not lost.
        let ready = match rustix::event::poll(&mut fds, Some(&patience)) {
            Err(rustix::io::Errno::INTR) => continue,
            ready => ready?,
        };
        if ready == 0 {
            if shared.done.load(Ordering::Relaxed) {
                return Ok(received);
            }
            continue;
        }
        if batch.receive(socket).is_err() {
            continue;
        }
        let now = Instant::now();
        received.first.get_or_insert(now);
        received.last = Some(now);
        for (_, octets) in batch.iter_mut() {
            for packet in octets.chunks_exact(size) {
                let Some(number) = packet.first_chunk().map(|octets| u64::from_be_bytes(*octets)) else { continue };
                received.packets += 1;
                received.reordered += u64::from(number < next);
                next = next.max(number + 1);
            }
        }
        shared.advance(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_opens_with_what_arrives_and_when_nothing_does() {
        let shared = Shared::default();
        assert!(shared.wait_for_room(WINDOW - BURST, 0));
        assert!(!shared.wait_for_room(WINDOW, 0), "nothing arrives");
        assert!(shared.wait_for_room(WINDOW, WINDOW), "what is lost is forgiven");
        shared.advance(WINDOW);
        assert!(shared.wait_for_room(WINDOW, 0));
    }
}
