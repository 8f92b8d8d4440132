//! A WAN link: its four sockets (ports 500 and 4500, both families) and the thread that receives on them.

use std::{
    io,
    iter::Peekable,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use arc_swap::ArcSwapOption;
use net_types::{IfName, WanName};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags},
    net::{AddressFamily, SocketFlags, SocketType, ipproto},
};
use sys::{
    mmsg::{Meta, RecvBatch},
    sockopt::{self, IpFamily},
};

use super::{Shared, send, tunnel::Tunnel};
use crate::{
    DataplaneError, Event, IkeDatagram, Path, WanSpec, WanStats, counters::Counter, keeper::Held, offload::Merger,
};

/// RFC 7296 §2: IKE without encapsulation.
const IKE_PORT: u16 = 500;
/// RFC 3948 §2: ESP, and IKE behind a marker of four zero octets.
const NATT_PORT: u16 = 4500;
/// Stands for protocol 50 itself, which has no ports.
const PLAIN: u16 = 0;
/// RFC 3948 §2.2
const NON_ESP_MARKER: [u8; 4] = [0; 4];
/// RFC 3948 §2.3
const KEEPALIVE: [u8; 1] = [0xff];
/// Longest IKE message that is handed up: several times the longest certificate chain, so that a full queue stays small.
const MAX_IKE: usize = 32 << 10;
/// A GRO receive is at most one IP packet long.
const SLOT: usize = 65_536;
const SLOTS: usize = 32;
/// Octets of socket buffer either way: some milliseconds at several Gbit/s.
const SOCKET_BUFFER: usize = 8 << 20;

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
        send::send_one(socket, path, octets).map_err(|errno| failed(errno.into()))
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

/// Sockets bound to one interface and marked for its routing table, so that nothing sent by them follows another route.
pub(super) struct Sockets {
    wan: WanName,
    natt_v4: UdpSocket,
    ike_v4: UdpSocket,
    /// `None` where the kernel has no IPv6.
    natt_v6: Option<UdpSocket>,
    ike_v6: Option<UdpSocket>,
    /// Raw ones for ESP without UDP; `None` where the kernel has none, or does not let us.
    plain_v4: Option<UdpSocket>,
    plain_v6: Option<UdpSocket>,
    segmentation: AtomicBool,
    interface: IfName,
    mark: u32,
}

impl Sockets {
    fn open(spec: &WanSpec) -> Result<Self, DataplaneError> {
        let open = |family, port| {
            socket(spec, family, port).map_err(|error| DataplaneError::Wan {
                wan: spec.name.clone(),
                what: format!("opening UDP port {port} on {}", spec.interface),
                error,
            })
        };
        let optional = |port| match open(IpFamily::V6, port) {
            Ok(socket) => Ok(Some(socket)),
            Err(DataplaneError::Wan { error, .. })
                if matches!(
                    error.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
                    Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        };
        Ok(Self {
            wan: spec.name.clone(),
            natt_v4: open(IpFamily::V4, NATT_PORT)?,
            ike_v4: open(IpFamily::V4, IKE_PORT)?,
            natt_v6: optional(NATT_PORT)?,
            ike_v6: optional(IKE_PORT)?,
            plain_v4: if spec.kernel_esp { None } else { plain(spec, IpFamily::V4) },
            plain_v6: if spec.kernel_esp { None } else { plain(spec, IpFamily::V6) },
            segmentation: AtomicBool::new(true),
            interface: spec.interface.clone(),
            mark: spec.mark,
        })
    }

    pub(super) fn for_esp(&self, local: SocketAddr) -> Option<BorrowedFd<'_>> {
        if local.is_ipv4() { Some(self.natt_v4.as_fd()) } else { self.natt_v6.as_ref().map(AsFd::as_fd) }
    }

    pub(super) fn for_plain(&self, local: SocketAddr) -> Option<BorrowedFd<'_>> {
        let socket = if local.is_ipv4() { &self.plain_v4 } else { &self.plain_v6 };
        socket.as_ref().map(AsFd::as_fd)
    }

    /// The sockets that the kernel takes ESP from.
    pub(super) fn encapsulated(&self) -> impl Iterator<Item = (Held, &UdpSocket)> {
        let v6 = self.natt_v6.as_ref().map(|socket| (IpFamily::V6, socket));
        std::iter::once((IpFamily::V4, &self.natt_v4))
            .chain(v6)
            .map(|(family, socket)| (Held::port(&self.wan, family), socket))
    }

    fn for_ike(&self, local: SocketAddr) -> Option<BorrowedFd<'_>> {
        if local.is_ipv4() { Some(self.ike_v4.as_fd()) } else { self.ike_v6.as_ref().map(AsFd::as_fd) }
    }

    /// The largest outer packet that the kernel believes the path to take. It judges the ICMP messages that say so by the
    /// sockets that they quote.
    pub(super) fn path_mtu(&self, path: &Path) -> io::Result<u32> {
        let (domain, family) = match path.remote {
            SocketAddr::V4(_) => (AddressFamily::INET, IpFamily::V4),
            SocketAddr::V6(_) => (AddressFamily::INET6, IpFamily::V6),
        };
        let probe = rustix::net::socket_with(domain, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(ipproto::UDP))?;
        sockopt::bind_to_device(&probe, &self.interface)?;
        sockopt::set_mark(&probe, self.mark)?;
        rustix::net::bind(&probe, &SocketAddr::new(path.local.ip(), 0))?;
        rustix::net::connect(&probe, &path.remote)?; // sends nothing
        sockopt::path_mtu(&probe, family)
    }

    pub(super) fn segmentation(&self) -> bool {
        self.segmentation.load(Ordering::Relaxed)
    }

    pub(super) fn give_up_segmentation(&self) {
        self.segmentation.store(false, Ordering::Relaxed);
    }

    /// Every socket with its port.
    fn all(&self) -> impl Iterator<Item = (&UdpSocket, u16)> {
        let v6 =
            [(&self.natt_v6, NATT_PORT), (&self.ike_v6, IKE_PORT), (&self.plain_v4, PLAIN), (&self.plain_v6, PLAIN)];
        let v6 = v6.into_iter().filter_map(|(socket, port)| Some((socket.as_ref()?, port)));
        [(&self.natt_v4, NATT_PORT), (&self.ike_v4, IKE_PORT)].into_iter().chain(v6)
    }
}

/// A socket for protocol 50. Most tunnels do without, so that a refusal is no error; associations that need it then drop.
fn plain(spec: &WanSpec, family: IpFamily) -> Option<UdpSocket> {
    let opened = socket(spec, family, PLAIN);
    opened.inspect_err(|error| tracing::debug!(wan = %spec.name, ?family, %error, "no ESP without UDP")).ok()
}

fn socket(spec: &WanSpec, family: IpFamily, port: u16) -> io::Result<UdpSocket> {
    let (domain, any): (_, IpAddr) = match family {
        IpFamily::V4 => (AddressFamily::INET, Ipv4Addr::UNSPECIFIED.into()),
        IpFamily::V6 => (AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (kind, protocol) =
        if port == PLAIN { (SocketType::RAW, ipproto::ESP) } else { (SocketType::DGRAM, ipproto::UDP) };
    let socket = rustix::net::socket_with(domain, kind, flags, Some(protocol))?;
    if family == IpFamily::V6 && port != PLAIN {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // Device and mark come before the port: the socket never exists unbound on a port that the world can reach.
    sockopt::bind_to_device(&socket, &spec.interface)?;
    sockopt::set_mark(&socket, spec.mark)?;
    sockopt::set_receive_packet_info(&socket, family)?;
    sockopt::set_receive_tos(&socket, family)?;
    let _unforced = sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER)); // smaller buffers work, too
    let _unforced = sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER)
        .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER));
    if port == NATT_PORT && spec.kernel_esp {
        // Before the port, too: no packet of the kernel's comes here. Another process holds a socket of the same port open
        // while there is no ipsecd; merged datagrams would not be opened.
        sockopt::set_socket_reuseport(&socket, true)?;
        sockopt::set_udp_encapsulation(&socket, true)?;
    } else if port == NATT_PORT {
        let _without = sockopt::set_udp_gro(&socket, true); // Linux 5.0; one receive a packet without it
    }
    if port != PLAIN {
        rustix::net::bind(&socket, &SocketAddr::new(any, port))?;
    }
    Ok(socket.into())
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
