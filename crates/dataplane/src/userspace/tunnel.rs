//! A tunnel: its interface and the thread that reads it, seals and sends.

use std::{
    io::IoSlice,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use esp::{Frame, HEADROOM, Inner, MAX_OVERHEAD};
use net_types::{Spi, TunnelName};
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use sys::tun::{Offload, Tun, TunOptions, VNET_HEADER_LEN};

use super::{
    KeeperDoor, Shared,
    association::Outbound,
    send::{self, Mark, Sealed, Sent},
    sockets::Sockets,
    wan::signal,
};
use crate::{
    DataplaneError, Event, PacketPolicy, TunnelSpec, TunnelStats,
    counters::{Counter, LastSeen},
    ecn, inside,
    offload::{
        Device, Mergeable, VnetHeader,
        split::{self, SplitError},
    },
};

/// Packets after which nothing more is read before they are sealed; what one read gives is cut whole.
const BATCH: usize = 64;
/// A read gives at most one IP packet, or a super-packet of that size.
const LARGEST: usize = 65_535;
/// A batch of ordinary packets fits, and behind it a super-packet cut into ordinary ones.
const SLAB: usize = 320 << 10;

/// How often a tunnel that sends has the kernel asked what its path takes.
const ASK_PATH_EVERY: Duration = Duration::from_secs(1);
/// What IPv6 inside needs at least (RFC 8200 §5).
const LEAST_MTU: u16 = 1280;

/// A tunnel as both directions use it.
pub(super) struct Tunnel {
    name: TunnelName,
    tun: Tun,
    /// What the device takes merged.
    mergeable: Mergeable,
    mtu: AtomicU16,
    /// The largest inner packet that the path takes, or what there has to be.
    path_mtu: AtomicU16,
    /// The path takes less than there has to be: outer packets may be fragmented.
    narrow: AtomicBool,
    policy: ArcSwap<PacketPolicy>,
    /// The association in use: the last of `outbounds`.
    current: ArcSwapOption<Outbound>,
    outbounds: Mutex<Vec<Arc<Outbound>>>,
    seen: LastSeen,
    sent_packets: Counter,
    sent_octets: Counter,
    received_packets: Counter,
    received_octets: Counter,
    no_sa: Counter,
    selectors: Counter,
    too_big: Counter,
    malformed: Counter,
    send: Counter,
    device: Counter,
}

impl Tunnel {
    pub(super) fn new(spec: TunnelSpec, tun: Tun) -> Self {
        Self {
            mergeable: offer(&spec.name, &tun),
            name: spec.name,
            tun,
            mtu: AtomicU16::new(spec.mtu),
            path_mtu: AtomicU16::new(u16::MAX),
            narrow: AtomicBool::new(false),
            policy: ArcSwap::from_pointee(spec.policy),
            current: ArcSwapOption::empty(),
            outbounds: Mutex::default(),
            seen: LastSeen::new(),
            sent_packets: Counter::default(),
            sent_octets: Counter::default(),
            received_packets: Counter::default(),
            received_octets: Counter::default(),
            no_sa: Counter::default(),
            selectors: Counter::default(),
            too_big: Counter::default(),
            malformed: Counter::default(),
            send: Counter::default(),
            device: Counter::default(),
        }
    }

    pub(super) fn name(&self) -> &TunnelName {
        &self.name
    }

    pub(super) fn mtu(&self) -> u16 {
        self.mtu.load(Ordering::Relaxed).min(self.path_mtu.load(Ordering::Relaxed))
    }

    pub(super) fn set_mtu(&self, mtu: u16) {
        self.mtu.store(mtu, Ordering::Relaxed);
    }

    pub(super) fn policy(&self) -> PacketPolicy {
        **self.policy.load()
    }

    pub(super) fn set_policy(&self, policy: PacketPolicy) {
        if self.policy() != policy {
            self.policy.store(Arc::new(policy));
        }
    }

    pub(super) fn add_outbound(&self, sa: Arc<Outbound>) {
        let mut outbounds = self.outbounds.lock().unwrap_or_else(PoisonError::into_inner);
        outbounds.push(Arc::clone(&sa));
        self.current.store(Some(sa));
    }

    /// Makes one that is there the current one; false if it is not there.
    pub(super) fn use_outbound(&self, spi: Spi) -> bool {
        let mut outbounds = self.outbounds.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = outbounds.iter().position(|sa| sa.sa.spi() == spi) else { return false };
        let sa = outbounds.remove(at);
        outbounds.push(Arc::clone(&sa)); // the last one is the current one
        self.current.store(Some(sa));
        true
    }

    pub(super) fn remove_outbound(&self, spi: Spi) {
        let mut outbounds = self.outbounds.lock().unwrap_or_else(PoisonError::into_inner);
        outbounds.retain(|sa| sa.sa.spi() != spi);
        self.current.store(outbounds.last().cloned());
    }

    pub(super) fn outbounds(&self) -> Vec<Arc<Outbound>> {
        self.outbounds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the device takes merged.
    pub(super) fn mergeable(&self) -> Mergeable {
        self.mergeable
    }

    /// Hands an inner packet to the interface.
    fn deliver(&self, packet: &[u8]) {
        self.write_parts(&[IoSlice::new(&[0; VNET_HEADER_LEN]), IoSlice::new(packet)], 1);
    }

    fn write_parts(&self, parts: &[IoSlice<'_>], packets: usize) {
        let parts = if self.tun.has_vnet_header() { parts } else { parts.get(1..).unwrap_or_default() };
        if self.tun.write_parts(parts).is_err() {
            self.device.add(packets as u64); // the interface is down
        }
    }

    pub(super) fn received(&self, packets: u64, octets: u64) {
        self.received_packets.add(packets);
        self.received_octets.add(octets);
    }

    pub(super) fn seen(&self, now: Instant) {
        self.seen.touch(now);
    }

    pub(super) fn stats(&self, now: Instant) -> TunnelStats {
        TunnelStats {
            tunnel: self.name.clone(),
            sent_packets: self.sent_packets.get(),
            sent_octets: self.sent_octets.get(),
            received_packets: self.received_packets.get(),
            received_octets: self.received_octets.get(),
            idle: self.seen.idle(now),
            dropped_no_sa: self.no_sa.get(),
            dropped_selectors: self.selectors.get(),
            dropped_too_big: self.too_big.get(),
            dropped_malformed: self.malformed.get(),
            dropped_send: self.send.get(),
            dropped_device: self.device.get(),
            inbound: Vec::new(),
            outbound: self.outbounds().iter().rev().map(|sa| sa.stats()).collect(),
        }
    }

    /// Whether a packet that was read may go on; fits its MSS and answers it when it is too big, or when one of those
    /// that it is to be cut into is: the largest of them has `largest` octets.
    fn admit(&self, packet: &mut [u8], largest: usize, sa: &Outbound) -> bool {
        let inner = match Inner::of(packet) {
            Ok(inner) if inner.length == packet.len() => inner,
            _ => {
                self.malformed.add(1);
                return false;
            }
        };
        if !sa.selectors.permit_outbound(&inner) {
            self.selectors.add(1);
            return false;
        }
        let mtu = self.mtu();
        if largest > usize::from(mtu) {
            self.too_big.add(1);
            if let Some(answer) = inside::too_big(packet, mtu) {
                self.deliver(&answer);
            }
            return false;
        }
        inside::clamp_mss(packet, mtu);
        true
    }
}

impl Device for Arc<Tunnel> {
    fn write(&self, parts: &[IoSlice<'_>], packets: usize) {
        self.write_parts(parts, packets);
    }
}

/// Asks the kernel for super-packets, for as much as it has: the mask belongs to the device, which may come from an earlier
/// life that asked for something else. What it gives uncut it also takes uncut.
fn offer(name: &TunnelName, tun: &Tun) -> Mergeable {
    if !tun.has_vnet_header() {
        tracing::warn!(tunnel = %name, "the interface was made without segmentation offload; delete it for more speed");
        return Mergeable::default();
    }
    let tcp = Offload { checksum: true, tcp_segmentation: true, udp_segmentation: false };
    let both = Offload { udp_segmentation: true, ..tcp };
    if tun.set_offload(both).is_ok() {
        return Mergeable { tcp: true, udp: true };
    }
    if tun.set_offload(tcp).is_ok() {
        return Mergeable { tcp: true, udp: false }; // before Linux 6.2
    }
    if let Err(error) = tun.set_offload(Offload::default()) {
        tracing::warn!(tunnel = %name, %error, "the interface's offloads cannot be set");
    }
    Mergeable::default()
}

/// Takes the tunnel's device from the keeper, or opens it and hands the keeper a descriptor.
pub(super) fn open_device(name: &TunnelName, keeper: Option<&KeeperDoor>) -> Result<Tun, DataplaneError> {
    let failed = |what: &str, error| DataplaneError::Tunnel { tunnel: name.clone(), what: what.to_owned(), error };
    let Some(keeper) = keeper else {
        return create(name).map_err(|error| failed("opening its device", error));
    };
    let mut keeper = keeper().map_err(|error| failed("reaching the keeper of its device", error))?;
    if let Some(fd) = keeper.adopt(name).map_err(|error| failed("asking the keeper for its device", error))? {
        match Tun::from_fd(fd) {
            Ok(tun) if tun.name().as_str() == name.as_str() => return Ok(tun),
            // Deleted or renamed behind our back: what the keeper holds is no longer this tunnel's.
            other => drop(other),
        }
    }
    let tun = create(name).map_err(|error| failed("opening its device", error))?;
    keeper.hold(name, &tun).map_err(|error| failed("handing its device to the keeper", error))?;
    Ok(tun)
}

/// Hands the keeper a descriptor of a device that is open.
pub(super) fn keep_device(tunnel: &Tunnel, keeper: &KeeperDoor) -> Result<(), DataplaneError> {
    let held = keeper().and_then(|mut keeper| keeper.hold(&tunnel.name, &tunnel.tun));
    held.map_err(|error| DataplaneError::Tunnel {
        tunnel: tunnel.name.clone(),
        what: "handing its device to the keeper".to_owned(),
        error,
    })
}

/// Whether there is an interface of that name.
pub(super) fn has_device(name: &TunnelName) -> bool {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
    socket.is_ok_and(|socket| rustix::net::netdevice::name_to_index(&socket, name.as_str()).is_ok())
}

fn create(name: &TunnelName) -> std::io::Result<Tun> {
    let tun = Tun::open(&name.clone().into(), TunOptions { vnet_header: true, multi_queue: false })?;
    tun.set_persistent(true)?;
    Ok(tun)
}

/// Lets the device go with its last descriptor.
pub(super) fn close_device(tunnel: &Tunnel, keeper: Option<&KeeperDoor>) {
    let released = match keeper {
        Some(keeper) => keeper().and_then(|mut keeper| keeper.release(&tunnel.name)),
        None => Ok(()),
    };
    if let Err(error) = released.and_then(|()| tunnel.tun.set_persistent(false)) {
        tracing::warn!(tunnel = %tunnel.name, %error, "the tunnel's interface stays; remove it with \"ip link del\"");
    }
}

/// The sending thread of a tunnel.
pub(super) struct TunnelThread {
    tunnel: Arc<Tunnel>,
    stop: Arc<OwnedFd>,
    thread: JoinHandle<()>,
}

impl TunnelThread {
    pub(super) fn start(tunnel: Tunnel, shared: Arc<Shared>) -> Result<Self, DataplaneError> {
        let failed = {
            let tunnel = tunnel.name.clone();
            move |what: &str, error| DataplaneError::Tunnel { tunnel: tunnel.clone(), what: what.to_owned(), error }
        };
        let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| failed("making an event descriptor", errno.into()))?;
        let stop = Arc::new(stop);
        let tunnel = Arc::new(tunnel);
        let sender = Sender {
            tunnel: Arc::clone(&tunnel),
            shared,
            stop: Arc::clone(&stop),
            slab: vec![0; SLAB].into(),
            frames: Vec::with_capacity(BATCH),
            marks: Vec::with_capacity(BATCH),
            ask_path_at: Instant::now(),
        };
        let thread = thread::Builder::new()
            .name(format!("tun-{}", tunnel.name))
            .spawn(move || sender.run())
            .map_err(|error| failed("starting its thread", error))?;
        Ok(Self { tunnel, stop, thread })
    }

    pub(super) fn tunnel(&self) -> &Arc<Tunnel> {
        &self.tunnel
    }

    /// Ends the thread.
    pub(super) fn stop(self) -> Arc<Tunnel> {
        signal(&self.stop);
        if self.thread.join().is_err() {
            tracing::error!(tunnel = %self.tunnel.name, "the sending thread had panicked");
        }
        self.tunnel
    }
}

struct Sender {
    tunnel: Arc<Tunnel>,
    shared: Arc<Shared>,
    stop: Arc<OwnedFd>,
    slab: Box<[u8]>,
    frames: Vec<Frame>,
    /// What each frame's outer header says.
    marks: Vec<Mark>,
    /// When the kernel is asked next what the path takes.
    ask_path_at: Instant,
}

impl Sender {
    fn run(mut self) {
        let _unprivileged = sys::sched::set_nice(-15); // packets before everything that is not
        let tunnel = Arc::clone(&self.tunnel);
        let stop = Arc::clone(&self.stop);
        let mut fds = [PollFd::new(&tunnel.tun, PollFlags::IN), PollFd::new(&*stop, PollFlags::IN)];
        loop {
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    tracing::error!(tunnel = %tunnel.name, error = %errno, "polling the device failed; the tunnel sends no more");
                    return;
                }
            }
            if !fds[1].revents().is_empty() {
                return;
            }
            if fds[0].revents().contains(PollFlags::ERR) && !fds[0].revents().contains(PollFlags::IN) {
                tracing::error!(tunnel = %tunnel.name, "the interface was deleted; reload the configuration to make it again");
                return;
            }
            self.batch(&tunnel);
        }
    }

    /// Reads what waits, back to back, seals it in place and sends it.
    fn batch(&mut self, tunnel: &Tunnel) {
        let current = tunnel.current.load();
        let Some(sa) = current.as_ref().filter(|sa| sa.check_lifetime(tunnel, &self.shared)) else {
            return self.discard(tunnel);
        };
        self.frames.clear();
        self.marks.clear();
        while self.frames.len() < BATCH {
            let mut at = self.frames.last().map_or(0, |last| last.start + sa.sa.cipher().sealed_len(last.length));
            // Room behind for the trailer and ICV of the largest packet.
            if self.slab.len() < at + HEADROOM + LARGEST + MAX_OVERHEAD {
                break;
            }
            let Some((header, length)) = self.read(tunnel, at) else { break };
            let mut placed = self.place(tunnel, sa, &header, at, length);
            if placed == Err(SplitError::Room) && at > 0 {
                self.send(tunnel, sa);
                self.slab.copy_within(at + HEADROOM..at + HEADROOM + length, HEADROOM);
                at = 0;
                placed = self.place(tunnel, sa, &header, at, length);
            }
            if placed.is_err() {
                tunnel.malformed.add(1);
            }
        }
        self.send(tunnel, sa);
    }

    /// Reads one packet to where it is to be sealed; `None` when none waits.
    fn read(&mut self, tunnel: &Tunnel, at: usize) -> Option<(VnetHeader, usize)> {
        // The header goes where ESP's is going to be.
        const _: () = assert!(VNET_HEADER_LEN <= HEADROOM);
        let prefix = if tunnel.tun.has_vnet_header() { VNET_HEADER_LEN } else { 0 };
        let start = at + HEADROOM - prefix;
        loop {
            let room = self.slab.get_mut(start..start + prefix + LARGEST)?;
            let length = tunnel.tun.read(room).ok()?;
            let Some(length) = length.checked_sub(prefix) else {
                tunnel.malformed.add(1);
                continue;
            };
            if prefix == 0 {
                return Some((VnetHeader::default(), length));
            }
            match room.first_chunk().map(VnetHeader::parse) {
                Some(Ok(header)) => return Some((header, length)),
                _ => tunnel.malformed.add(1),
            }
        }
    }

    /// Finishes, admits and cuts what was read, and adds its frames.
    fn place(
        &mut self,
        tunnel: &Tunnel,
        sa: &Outbound,
        header: &VnetHeader,
        at: usize,
        length: usize,
    ) -> Result<(), SplitError> {
        let packet = self.slab.get_mut(at + HEADROOM..at + HEADROOM + length).ok_or(SplitError::Malformed)?;
        let policy = tunnel.policy();
        let fragments = policy.df.may_fragment(packet) || tunnel.narrow.load(Ordering::Relaxed);
        let mark = Mark { tos: ecn::outer_tos(packet, policy.dscp), fragments };
        let placed = match &header.cut {
            Some(cut) => {
                let largest = length.min(usize::from(cut.headers) + usize::from(cut.size));
                if !tunnel.admit(packet, largest, sa) {
                    return Ok(());
                }
                split::split(cut, sa.sa.cipher(), &mut self.slab, at, length, &mut self.frames)
            }
            None => {
                split::complete(header, packet)?;
                if tunnel.admit(packet, length, sa) {
                    self.frames.push(Frame { start: at, length });
                }
                Ok(())
            }
        };
        self.marks.resize(self.frames.len(), mark);
        placed
    }

    /// Seals and sends the frames that there are.
    fn send(&mut self, tunnel: &Tunnel, sa: &Outbound) {
        let count = self.frames.len() as u64;
        let octets: u64 = self.frames.iter().map(|frame| frame.length as u64).sum();
        if count == 0 {
            return;
        }
        if sa.sa.seal_batch(&mut self.slab, &mut self.frames).is_err() {
            tunnel.no_sa.add(count); // its numbers are used up
            self.frames.clear();
            return self.marks.clear();
        }
        if self.frames.iter().any(|frame| frame.length == 0) {
            let mut sealed = self.frames.iter().map(|frame| frame.length > 0);
            self.marks.retain(|_| sealed.next() == Some(true));
            self.frames.retain(|frame| frame.length > 0);
        }
        let route = sa.route();
        let sealed = Sealed { slab: &self.slab, frames: &self.frames, marks: &self.marks };
        let sockets = route.wan.sockets();
        let sent = match &sockets {
            Some(sockets) => send::send_frames(sockets, &route.path, sa.encapsulated, &sealed),
            None => Sent::none(&sealed),
        };
        let dropped = sent.dropped;
        let largest = self.frames.iter().map(|frame| frame.length).max().unwrap_or(0);
        self.frames.clear();
        self.marks.clear();
        tunnel.send.add(dropped as u64);
        tunnel.sent_packets.add(count.saturating_sub(dropped as u64));
        tunnel.sent_octets.add(octets);
        sa.packets.add(count);
        sa.octets.add(octets);
        let Some(sockets) = sockets else { return };
        let now = Instant::now();
        if sent.refused || sent.too_big || now >= self.ask_path_at {
            self.ask_path_at = now + ASK_PATH_EVERY;
            let room = self.learn_path(tunnel, sa, &sockets);
            if sent.refused && largest <= room {
                sockets.give_up_segmentation(); // it was not the size
            }
        }
    }

    /// Asks what the path takes, heeds it and tells of changes. Gives the room for an ESP packet.
    fn learn_path(&self, tunnel: &Tunnel, sa: &Outbound, sockets: &Sockets) -> usize {
        let path = sa.route().path.clone();
        let Ok(outer) = sockets.path_mtu(&path) else { return usize::MAX }; // no route: nothing gets through anyway
        let ip = if path.remote.is_ipv6() { 40 } else { 20 };
        let headers = ip + if sa.encapsulated { 8 } else { 0 };
        let room = usize::try_from(outer).unwrap_or(usize::MAX).saturating_sub(headers);
        let inner = u16::try_from(sa.sa.cipher().inner_capacity(room)).unwrap_or(u16::MAX);
        tunnel.narrow.store(inner < LEAST_MTU, Ordering::Relaxed);
        let inner = inner.max(LEAST_MTU);
        let before = tunnel.mtu();
        tunnel.path_mtu.store(inner, Ordering::Relaxed);
        if tunnel.mtu() != before {
            tracing::info!(tunnel = %tunnel.name, outer, from = before, to = tunnel.mtu(), "the path takes other sizes");
            self.shared.tell(Event::PathMtu { tunnel: tunnel.name.clone(), mtu: inner });
        }
        room
    }

    /// Without an association nothing leaves, and nothing waits to leave when one comes.
    fn discard(&mut self, tunnel: &Tunnel) {
        let mut count = 0;
        while count < BATCH as u64
            && let Some((header, length)) = self.read(tunnel, 0)
        {
            // Counted as the packets that would have been sent.
            count += match header.cut {
                Some(cut) if cut.size > 0 => {
                    (length.saturating_sub(cut.headers.into())).div_ceil(cut.size.into()) as u64
                }
                _ => 1,
            };
        }
        tunnel.no_sa.add(count);
    }
}
