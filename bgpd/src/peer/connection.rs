//! One TCP connection: bytes to frames, messages to bytes, each within bounds.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bgp_core::session::ConnectionId;
use bgp_wire::{HeaderError, frame_length};
use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;

use super::{Ao, Chunk, RouteQueue, status::Shared};

/// Octets to read at once.
const READ: usize = 64 * 1024;
/// Octets of routes to take out of the queue at once: what a KEEPALIVE may have to wait for in the worst case.
const STAGE: usize = 64 * 1024;
/// Messages to hand to the kernel at once.
const SLICES: usize = 64;
/// Writes in a row before others get their turn.
const WRITES: usize = 4;
/// How long a connection may take to deliver our last words.
const LINGER: Duration = Duration::from_secs(2);

/// A connection and what waits on it in either direction.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Shared with nobody for longer than a look at its keys takes.
    stream: Arc<TcpStream>,
    /// Read and not yet looked at; bounded, since reading stops while there is a whole frame in it.
    input: BytesMut,
    /// What is being written, and how much of it is: a message, or several with routes.
    current: Option<(Chunk, usize)>,
    /// OPEN, KEEPALIVE, NOTIFICATION, ROUTE-REFRESH: these overtake routes.
    control: VecDeque<Bytes>,
    /// Taken out of the queue of routes.
    staged: VecDeque<Chunk>,
    /// Where routes come from, while the session on this connection is established.
    routes: Option<RouteQueue>,
    phase: Phase,
    /// The neighbor's FIN, or an error, has been read.
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Our last words are on their way.
    Draining {
        until: Instant,
    },
    /// They are sent, and so is our FIN; the neighbor's is awaited, since closing with unread input would reset the
    /// connection and could destroy them.
    Lingering {
        until: Instant,
    },
}

/// What a connection is ready for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ready {
    pub(super) read: bool,
    pub(super) write: bool,
}

/// What came of writing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    /// The kernel took something.
    pub(super) progress: bool,
    /// The routing table is to hear that there is room again.
    pub(super) room_again: bool,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, stream: TcpStream) -> io::Result<Self> {
        Ok(Self {
            id,
            local: stream.local_addr()?,
            remote: stream.peer_addr()?,
            stream: Arc::new(stream),
            input: BytesMut::new(),
            current: None,
            control: VecDeque::new(),
            staged: VecDeque::new(),
            routes: None,
            phase: Phase::Open,
            ended: false,
        })
    }

    /// The largest TCP segment that is sent, in octets, if the kernel says it.
    pub(super) fn max_segment_octets(&self) -> Option<u16> {
        sys::sockopt::tcp_max_segment(&*self.stream).ok()
    }

    /// For whoever shows what the kernel counts of it, as long as it is there.
    pub(super) fn socket(&self) -> Weak<TcpStream> {
        Arc::downgrade(&self.stream)
    }

    /// Brings its keys of TCP-AO nearer to what is wanted. `false` while an old one is still in use.
    pub(super) fn settle_keys(&self, ao: &Ao, neighbor: IpAddr) -> io::Result<bool> {
        ao.settle(&*self.stream, neighbor)
    }

    /// Queues a message ahead of all routes.
    pub(super) fn send(&mut self, message: Bytes) {
        self.control.push_back(message);
    }

    /// From now on routes are written, too.
    pub(super) fn carry_routes(&mut self, queue: RouteQueue) {
        self.routes = Some(queue);
    }

    pub(super) fn routes(&self) -> Option<&RouteQueue> {
        self.routes.as_ref()
    }

    /// Stops routes, delivers what is queued otherwise, and closes.
    pub(super) fn hang_up(&mut self, now: Instant) {
        if let Some(queue) = self.routes.take() {
            queue.close();
        }
        self.staged.clear();
        self.input.clear();
        if self.phase == Phase::Open {
            self.phase = Phase::Draining { until: now + LINGER };
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// When a closing connection is dropped, come what may.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open => None,
            Phase::Draining { until } | Phase::Lingering { until } => Some(until),
        }
    }

    /// Messages that wait to be written.
    pub(super) fn backlog(&self) -> usize {
        let queued = self.routes.as_ref().map_or(0, RouteQueue::len);
        let taken = self.current.iter().map(|(chunk, _)| chunk).chain(&self.staged);
        self.control.len() + taken.map(|chunk| chunk.messages).sum::<usize>() + queued
    }

    fn has_output(&self) -> bool {
        self.current.is_some() || !self.control.is_empty() || !self.staged.is_empty()
    }

    /// Waits for the kernel. An open connection is read only if `may_read`.
    pub(super) fn poll_ready(&self, context: &mut Context<'_>, may_read: bool) -> Poll<Ready> {
        let mut ready = Ready::default();
        // Errors show when the stream is used.
        if (may_read || !self.is_open()) && !self.ended {
            ready.read = self.stream.poll_read_ready(context).is_ready();
        }
        // A write takes a bounded number of messages. What it left in the queue was announced once and is not again.
        if self.has_output() || self.routes.as_ref().is_some_and(|queue| !queue.is_empty()) {
            ready.write = self.stream.poll_write_ready(context).is_ready();
        }
        if ready.read || ready.write { Poll::Ready(ready) } else { Poll::Pending }
    }

    /// Reads once. `false` is the end of the stream.
    pub(super) fn read(&mut self) -> io::Result<bool> {
        self.input.reserve(READ);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => {
                self.ended = true;
                Ok(false)
            }
            Ok(_) => {
                if !self.is_open() {
                    self.input.clear(); // nobody will look at it
                }
                Ok(true)
            }
            Err(error) if is_transient(&error) => Ok(true),
            Err(error) => {
                self.ended = true;
                Err(error)
            }
        }
    }

    /// The next whole message of what was read; [`passed`](Self::passed) takes it out.
    pub(super) fn frame(&self, max: usize) -> Result<Option<&[u8]>, HeaderError> {
        let length = frame_length(&self.input, max)?;
        Ok(length.and_then(|length| self.input.get(..length)))
    }

    /// Takes out a message that was looked at.
    pub(super) fn passed(&mut self, octets: usize) {
        self.input.advance(octets);
    }

    /// Whether a whole message is waiting to be looked at.
    pub(super) fn has_frame(&self, max: usize) -> bool {
        matches!(frame_length(&self.input, max), Ok(Some(length)) if length <= self.input.len())
    }

    /// Writes what the kernel takes, control messages first.
    pub(super) fn write(&mut self, status: &Shared) -> io::Result<Written> {
        let mut written = Written::default();
        for _ in 0..WRITES {
            if self.staged.is_empty()
                && let Some(queue) = &self.routes
            {
                written.room_again |= queue.drain(STAGE, &mut self.staged);
            }
            if !self.has_output() {
                break;
            }
            match self.write_once() {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(octets) => {
                    written.progress = true;
                    self.consume(octets, status);
                }
                Err(error) if is_transient(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    fn write_once(&self) -> io::Result<usize> {
        let rest = self.current.as_ref().and_then(|(chunk, done)| chunk.octets.get(*done..));
        let staged = self.staged.iter().map(|chunk| &chunk.octets[..]);
        let queued = self.control.iter().map(|message| &message[..]).chain(staged);
        let slices: Vec<IoSlice<'_>> = rest.into_iter().chain(queued).take(SLICES).map(IoSlice::new).collect();
        self.stream.try_write_vectored(&slices)
    }

    /// Takes what was written off the queues.
    fn consume(&mut self, mut octets: usize, status: &Shared) {
        while octets > 0 {
            let next = match self.current.take() {
                Some(current) => Some(current),
                None => {
                    let control = self.control.pop_front().map(Chunk::from);
                    control.or_else(|| self.staged.pop_front()).map(|chunk| (chunk, 0))
                }
            };
            let Some((chunk, done)) = next else { return };
            let left = chunk.octets.len() - done;
            if octets < left {
                self.current = Some((chunk, done + octets));
                return;
            }
            octets -= left;
            // Several messages in one are UPDATEs.
            if let Some(kind) = chunk.octets.get(18) {
                status.sent(*kind, chunk.messages);
            }
        }
    }

    /// Moves a closing connection on. `true` when it may be dropped.
    pub(super) fn is_done(&mut self, now: Instant) -> bool {
        if let Phase::Draining { until } = self.phase
            && !self.has_output()
        {
            // An error means that the neighbor has closed already, which the next read shows.
            let _ = rustix::net::shutdown(&*self.stream, rustix::net::Shutdown::Write);
            self.phase = Phase::Lingering { until };
        }
        self.deadline().is_some_and(|until| self.ended || now >= until)
    }

    /// Gives memory back that a burst took.
    pub(super) fn settle(&mut self) {
        if self.input.is_empty() && self.input.capacity() > 2 * READ {
            self.input = BytesMut::new();
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
