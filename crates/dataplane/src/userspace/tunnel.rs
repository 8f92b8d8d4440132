//! A tunnel: its interface and the thread that reads it, seals and sends.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use arc_swap::ArcSwapOption;
use esp::{Frame, HEADROOM, Inner, MAX_OVERHEAD};
use net_types::{Spi, TunnelName};
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use sys::tun::{Tun, TunOptions};

use super::{KeeperDoor, Shared, association::Outbound, send, wan::signal};
use crate::{
    DataplaneError, TunnelSpec, TunnelStats,
    counters::{Counter, LastSeen},
    inside,
};

/// Most packets that are sealed in one go.
const BATCH: usize = 64;
/// A read gives at most one IP packet.
const LARGEST: usize = 65_535;
/// Batches of ordinary packets fit, and one of the largest always does.
const SLAB: usize = 192 << 10;

/// A tunnel as both directions use it.
pub(super) struct Tunnel {
    name: TunnelName,
    tun: Tun,
    mtu: AtomicU16,
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
            name: spec.name,
            tun,
            mtu: AtomicU16::new(spec.mtu),
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
        self.mtu.load(Ordering::Relaxed)
    }

    pub(super) fn set_mtu(&self, mtu: u16) {
        self.mtu.store(mtu, Ordering::Relaxed);
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

    /// Hands an inner packet to the interface.
    pub(super) fn deliver(&self, packet: &[u8]) -> bool {
        let taken = self.tun.write(packet).is_ok();
        if !taken {
            self.device.add(1); // the interface is down
        }
        taken
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

    /// Whether a packet that was read may go on; fits its MSS and answers it when it is too big.
    fn admit(&self, packet: &mut [u8], sa: &Outbound) -> bool {
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
        if packet.len() > usize::from(mtu) {
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

fn create(name: &TunnelName) -> std::io::Result<Tun> {
    let tun = Tun::open(&name.clone().into(), TunOptions::default())?;
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
        let (mut at, mut octets) = (0, 0);
        while self.frames.len() < BATCH {
            // Room behind for the trailer and ICV of the largest packet.
            let Some(room) = self.slab.get_mut(at + HEADROOM..).filter(|room| room.len() >= LARGEST + MAX_OVERHEAD)
            else {
                break;
            };
            let Ok(length) = tunnel.tun.read(&mut room[..LARGEST]) else { break };
            if tunnel.admit(&mut room[..length], sa) {
                self.frames.push(Frame { start: at, length });
                at += sa.sa.cipher().sealed_len(length);
                octets += length as u64;
            }
        }
        let count = self.frames.len() as u64;
        if count == 0 {
            return;
        }
        if sa.sa.seal_batch(&mut self.slab, &mut self.frames).is_err() {
            tunnel.no_sa.add(count); // its numbers are used up
            return;
        }
        self.frames.retain(|frame| frame.length > 0);
        let route = sa.route();
        let dropped = match route.wan.sockets() {
            Some(sockets) => send::send_frames(&sockets, &route.path, &self.slab, &self.frames),
            None => self.frames.len(),
        };
        tunnel.send.add(dropped as u64);
        tunnel.sent_packets.add(count.saturating_sub(dropped as u64));
        tunnel.sent_octets.add(octets);
        sa.packets.add(count);
        sa.octets.add(octets);
    }

    /// Without an association nothing leaves, and nothing waits to leave when one comes.
    fn discard(&mut self, tunnel: &Tunnel) {
        let mut count = 0;
        while count < BATCH as u64 && tunnel.tun.read(&mut self.slab[..LARGEST]).is_ok() {
            count += 1;
        }
        tunnel.no_sa.add(count);
    }
}
