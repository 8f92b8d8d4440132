//! A WAN link: what arrives by its sockets, and the thread that receives on them.

use std::{
    io,
    iter::Peekable,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use arc_swap::ArcSwapOption;
use net_types::WanName;
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags},
    io::Errno,
};
use sys::mmsg::{Meta, RecvBatch};

use super::{
    Shared, send,
    sockets::{IKE_PORT, PLAIN, Sockets},
    tunnel::Tunnel,
};
use crate::{DataplaneError, Event, IkeDatagram, Path, WanSpec, WanStats, counters::Counter, offload::Merger};

/// RFC 3948 §2.2
const NON_ESP_MARKER: [u8; 4] = [0; 4];
/// RFC 3948 §2.3
const KEEPALIVE: [u8; 1] = [0xff];
/// Longest IKE message that is handed up: several times the longest certificate chain, so that a full queue stays small.
const MAX_IKE: usize = 32 << 10;
/// A GRO receive is at most one IP packet long.
const SLOT: usize = 65_536;
const SLOTS: usize = 32;

/// A link by name. Its sockets come and go with the interface.
pub(super) struct Wan {
    name: WanName,
    sockets: ArcSwapOption<Sockets>,
    ike_received: Counter,
    ike_dropped: Counter,
    keepalives: Counter,
    unknown_spi: Counter,
    malformed: Counter,
}

impl Wan {
    pub(super) fn new(name: WanName) -> Self {
        Self {
            name,
            sockets: ArcSwapOption::empty(),
            ike_received: Counter::default(),
            ike_dropped: Counter::default(),
            keepalives: Counter::default(),
            unknown_spi: Counter::default(),
            malformed: Counter::default(),
        }
    }

    pub(super) fn name(&self) -> &WanName {
        &self.name
    }

    /// The open sockets, if the link has any.
    pub(super) fn sockets(&self) -> Option<Arc<Sockets>> {
        self.sockets.load_full()
    }

    pub(super) fn send_ike(&self, local: SocketAddr, remote: SocketAddr, message: &[u8]) -> Result<(), DataplaneError> {
        let path = Path { wan: self.name.clone(), local, remote };
        if local.port() == IKE_PORT {
            self.send(&path, message, "an IKE message")
        } else {
            self.send(&path, &[&NON_ESP_MARKER, message].concat(), "an IKE message")
        }
    }

    pub(super) fn send_keepalive(&self, path: &Path) -> Result<(), DataplaneError> {
        self.send(path, &KEEPALIVE, "a NAT keepalive")
    }

    fn send(&self, path: &Path, octets: &[u8], what: &str) -> Result<(), DataplaneError> {
        let failed = |error| DataplaneError::Wan {
            wan: self.name.clone(),
            what: format!("sending {what} from {} to {}", path.local, path.remote),
            error,
        };
        let sockets = self.sockets().ok_or_else(|| DataplaneError::UnknownWan(self.name.clone()))?;
        let from_500 = path.local.port() == IKE_PORT;
        let socket = if from_500 { sockets.for_ike(path.local) } else { sockets.for_esp(path.local) };
        let socket = socket.ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
        let send = |fragments| sockets.sending(socket, path.remote, fragments, || send::send_one(socket, path, octets));
        let sent = if from_500 { send::send_one(socket, path, octets) } else { send(false) };
        // RFC 7296 §2: a message that the path does not take goes in fragments of IP, where the peer has none of IKE.
        let sent = if sent == Err(Errno::MSGSIZE) && !from_500 { send(true) } else { sent };
        sent.map_err(|errno| failed(errno.into()))
    }

    pub(super) fn stats(&self) -> WanStats {
        WanStats {
            wan: self.name.clone(),
            ike_received: self.ike_received.get(),
            ike_dropped: self.ike_dropped.get(),
            keepalives: self.keepalives.get(),
            unknown_spi: self.unknown_spi.get(),
            malformed: self.malformed.get(),
        }
    }
}

/// The receiving thread of an open link.
pub(super) struct WanThread {
    wan: Arc<Wan>,
    kernel_esp: bool,
    stop: Arc<OwnedFd>,
    thread: JoinHandle<()>,
}

impl WanThread {
    pub(super) fn start(wan: Arc<Wan>, spec: &WanSpec, shared: Arc<Shared>) -> Result<Self, DataplaneError> {
        let failed = |what: &str, error| DataplaneError::Wan { wan: spec.name.clone(), what: what.to_owned(), error };
        let sockets = Arc::new(Sockets::open(spec)?);
        let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| failed("making an event descriptor", errno.into()))?;
        let stop = Arc::new(stop);
        let receiver = Receiver {
            wan: Arc::clone(&wan),
            shared,
            batch: RecvBatch::new(SLOTS, SLOT),
            sockets: Arc::clone(&sockets),
            stop: Arc::clone(&stop),
        };
        let thread = thread::Builder::new()
            .name(format!("wan-{}", spec.name))
            .spawn(move || receiver.run())
            .map_err(|error| failed("starting its thread", error))?;
        wan.sockets.store(Some(sockets));
        Ok(Self { wan, kernel_esp: spec.kernel_esp, stop, thread })
    }

    pub(super) fn wan(&self) -> &Arc<Wan> {
        &self.wan
    }

    /// Whether ESP is left to the kernel.
    pub(super) fn kernel_esp(&self) -> bool {
        self.kernel_esp
    }

    /// Ends the thread and closes the sockets; returns when the ports are free.
    pub(super) fn stop(self) {
        let sockets = self.wan.sockets.swap(None);
        signal(&self.stop);
        if self.thread.join().is_err() {
            tracing::error!(wan = %self.wan.name, "the receiving thread had panicked");
        }
        // A sender holds on to the sockets for the length of one system call.
        while sockets.as_ref().is_some_and(|sockets| Arc::strong_count(sockets) > 1) {
            thread::yield_now();
        }
    }
}

/// Wakes a thread that polls `fd`.
pub(super) fn signal(fd: &OwnedFd) {
    // Fails only when the counter is full, that is, when the thread has been woken already.
    let _already = rustix::io::write(fd, &1u64.to_ne_bytes());
}

struct Receiver {
    wan: Arc<Wan>,
    shared: Arc<Shared>,
    batch: RecvBatch,
    sockets: Arc<Sockets>,
    stop: Arc<OwnedFd>,
}

impl Receiver {
    fn run(mut self) {
        let _unprivileged = sys::sched::set_nice(-15); // packets before everything that is not
        let sockets = Arc::clone(&self.sockets);
        let stop = Arc::clone(&self.stop);
        let mut fds: Vec<_> = sockets.all().map(|(socket, _)| PollFd::new(socket, PollFlags::IN)).collect();
        fds.push(PollFd::new(&*stop, PollFlags::IN));
        loop {
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    tracing::error!(wan = %self.wan.name, error = %errno, "polling the sockets failed; the link receives no more");
                    return;
                }
            }
            if fds.last().is_some_and(|stop| !stop.revents().is_empty()) {
                return;
            }
            for ((socket, port), fd) in sockets.all().zip(&fds) {
                if !fd.revents().is_empty() {
                    self.drain(socket, port);
                }
            }
        }
    }

    /// One batch a turn, so that no socket starves another.
    fn drain(&mut self, socket: &UdpSocket, port: u16) {
        // An error is an ICMP message that some earlier send brought back; reading it has cleared it.
        if self.batch.receive(socket).is_err() {
            return;
        }
        let now = Instant::now();
        let mut merger = None;
        for (meta, octets) in self.batch.iter_mut() {
            let path = Path {
                wan: self.wan.name.clone(),
                local: SocketAddr::new(meta.to.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port),
                remote: meta.from,
            };
            if meta.truncated {
                self.wan.malformed.add(1);
            } else if port == PLAIN {
                unencapsulated(&self.wan, &self.shared, meta, octets, &path, now, &mut merger);
            } else if port == IKE_PORT {
                ike(&self.wan, &self.shared, &path, octets);
            } else {
                encapsulated(&self.wan, &self.shared, meta, octets, &path, now, &mut merger);
            }
        }
        if let Some(mut merger) = merger {
            merger.finish();
        }
    }
}

fn ike(wan: &Wan, shared: &Shared, path: &Path, message: &[u8]) {
    if message.len() > MAX_IKE {
        return wan.malformed.add(1);
    }
    let datagram =
        IkeDatagram { wan: path.wan.clone(), local: path.local, remote: path.remote, message: message.to_vec() };
    if shared.sink.ike(datagram) {
        wan.ike_received.add(1);
    } else {
        wan.ike_dropped.add(1);
    }
}

/// What kind of datagram arrived on port 4500 (RFC 3948 §2).
#[derive(PartialEq, Eq)]
enum Kind {
    Ike,
    Keepalive,
    Esp(u32),
    Malformed,
}

impl Kind {
    fn of(octets: &[u8]) -> Self {
        match octets.first_chunk::<4>() {
            Some(&NON_ESP_MARKER) => Self::Ike,
            Some(spi) => Self::Esp(u32::from_be_bytes(*spi)),
            None if *octets == KEEPALIVE => Self::Keepalive,
            None => Self::Malformed,
        }
    }
}

/// Takes apart what GRO has merged, and opens runs of one association together.
fn encapsulated<'a>(
    wan: &Wan,
    shared: &Shared,
    meta: &Meta,
    octets: &'a mut [u8],
    path: &Path,
    now: Instant,
    merger: &mut Option<Merger<'a, Arc<Tunnel>>>,
) {
    let size = meta.segment.map_or(octets.len(), |size| usize::from(size.get())).max(1);
    let mut rest = octets.chunks_mut(size).peekable();
    while let Some(kind) = rest.peek().map(|octets| Kind::of(octets)) {
        if let Kind::Esp(spi) = kind {
            let table = shared.inbound.load();
            let Some(sa) = table.get(&spi) else {
                let count = run_of(&mut rest, spi).count();
                unknown(wan, shared, spi, count, path, now);
                continue;
            };
            sa.receive(run_of(&mut rest, spi), path, meta.tos.unwrap_or(0), now, shared, merger);
            // An association that takes no more leaves its packets: they are dropped here.
            run_of(&mut rest, spi).for_each(drop);
            continue;
        }
        match (kind, rest.next()) {
            (Kind::Ike, Some(octets)) => ike(wan, shared, path, octets.get(NON_ESP_MARKER.len()..).unwrap_or_default()),
            (Kind::Keepalive, _) => wan.keepalives.add(1),
            _ => wan.malformed.add(1),
        }
    }
}

fn unknown(wan: &Wan, shared: &Shared, spi: u32, count: usize, path: &Path, now: Instant) {
    wan.unknown_spi.add(count as u64);
    if shared.unknown.allow(now) {
        shared.tell(Event::UnknownSpi { spi, path: path.clone() });
    }
}

/// A packet of protocol 50. RFC 7296 §2.23: one end may send without UDP what the other sends with it.
fn unencapsulated<'a>(
    wan: &Wan,
    shared: &Shared,
    meta: &Meta,
    octets: &'a mut [u8],
    path: &Path,
    now: Instant,
    merger: &mut Option<Merger<'a, Arc<Tunnel>>>,
) {
    // raw(7): IPv4 comes with its header, IPv6 without.
    let header = match octets.first() {
        Some(first) if meta.from.is_ipv4() => usize::from(first & 0xf) * 4,
        _ => 0,
    };
    let packet = octets.get_mut(header..).unwrap_or_default();
    let Some(spi) = esp::spi_of(packet) else { return wan.malformed.add(1) };
    let table = shared.inbound.load();
    match table.get(&spi) {
        Some(sa) => sa.receive(std::iter::once(packet), path, meta.tos.unwrap_or(0), now, shared, merger),
        None => unknown(wan, shared, spi, 1, path, now),
    }
}

/// The packets at the front that are for `spi`.
fn run_of<'a, 'r>(
    rest: &'r mut Peekable<impl Iterator<Item = &'a mut [u8]>>,
    spi: u32,
) -> impl Iterator<Item = &'a mut [u8]> + 'r {
    std::iter::from_fn(move || rest.next_if(|octets| Kind::of(octets) == Kind::Esp(spi)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_on_port_4500_are_told_apart() {
        assert!(Kind::of(&[0, 0, 0, 0, 1, 2]) == Kind::Ike);
        assert!(Kind::of(&[0xff]) == Kind::Keepalive);
        assert!(Kind::of(&[0xc0, 0xff, 0xee, 0x01, 0]) == Kind::Esp(0xc0ff_ee01));
        assert!(Kind::of(&[0, 0, 0]) == Kind::Malformed);
        assert!(Kind::of(&[]) == Kind::Malformed);
    }
}
