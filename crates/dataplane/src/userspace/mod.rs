//! ESP in this process: TUN devices on the inside, UDP sockets on the outside, a thread for each end.
//!
//! What the kernel has of segmentation offload is used at all four ends: TUN devices give and take super-packets
//! (`crate::offload`), sockets send and receive many ESP packets at a time. Where it has none, the same code moves single
//! packets.
//!
//! Threads: one a WAN link (receives, opens, writes to the TUN devices) and one a tunnel (reads its TUN device, seals,
//! sends). An association's packets thus keep their order in either direction. What the threads look up is published
//! by pointer exchange; only control calls take a lock, and they never hold it across a packet.

mod association;
mod send;
mod sockets;
mod tunnel;
mod wan;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use net_types::{Spi, TunnelName, WanName};
use sys::sockopt::IpFamily;

use crate::{
    Dataplane, DataplaneError, Event, NewInbound, NewOutbound, Path, Sink, Stats, TunnelSpec, WanSpec,
    keeper::{self, Held},
    userspace::{
        association::{Inbound, Outbound, Route},
        tunnel::{Tunnel, TunnelThread},
        wan::{Wan, WanThread},
    },
};

/// The packet path in user space.
pub struct Userspace {
    shared: Arc<Shared>,
    control: Mutex<Control>,
}

/// Reaches the keeper, which may have to be started first. Asked anew for each device, since a keeper without devices ends.
pub type KeeperDoor = Arc<dyn Fn() -> io::Result<keeper::Client> + Send + Sync>;

/// What the packet threads share.
struct Shared {
    sink: Arc<dyn Sink>,
    /// Inbound associations by SPI.
    inbound: ArcSwap<HashMap<u32, Arc<Inbound>>>,
    unknown: RateLimit,
}

struct Control {
    /// Every link ever opened: associations refer to them, whether they have sockets at the moment or not.
    links: BTreeMap<WanName, Arc<Wan>>,
    /// Those that are open.
    wans: BTreeMap<WanName, WanThread>,
    tunnels: BTreeMap<TunnelName, TunnelThread>,
    keeper: Option<KeeperDoor>,
}

impl Userspace {
    /// A path without links or tunnels. With a keeper, tunnel devices outlive this process and are taken up by the next.
    pub fn new(sink: Arc<dyn Sink>, keeper: Option<KeeperDoor>) -> Self {
        Self {
            shared: Arc::new(Shared { sink, inbound: ArcSwap::default(), unknown: RateLimit::new() }),
            control: Mutex::new(Control {
                links: BTreeMap::new(),
                wans: BTreeMap::new(),
                tunnels: BTreeMap::new(),
                keeper,
            }),
        }
    }

    /// Has the keeper let go of a device that an earlier process has left there, for a tunnel that is not this path's any more.
    pub(crate) fn release_device(&self, name: &TunnelName) {
        let keeper = self.control().keeper.clone();
        let Some(keeper) = keeper else { return };
        if !tunnel::has_device(name) {
            return; // and no keeper is started to be asked
        }
        if let Err(error) = keeper().and_then(|mut keeper| keeper.release(name)) {
            tracing::warn!(tunnel = %name, %error, "the keeper does not let go of the tunnel's device");
        }
    }

    /// Control state is changed by whole entries, so that a panic elsewhere leaves it usable.
    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_inbound(&self, keep: impl Fn(&Inbound) -> bool) {
        self.shared.inbound.rcu(|table| {
            let mut table = HashMap::clone(table);
            table.retain(|_, sa| keep(sa));
            table
        });
    }
}

impl Control {
    fn tunnel(&self, name: &TunnelName) -> Result<&Arc<Tunnel>, DataplaneError> {
        self.tunnels.get(name).map(TunnelThread::tunnel).ok_or_else(|| DataplaneError::UnknownTunnel(name.clone()))
    }

    fn wan(&self, name: &WanName) -> Result<&Arc<Wan>, DataplaneError> {
        self.links.get(name).ok_or_else(|| DataplaneError::UnknownWan(name.clone()))
    }

    /// Has the keeper hold the ports that the kernel takes ESP from: it takes none from a port that is not open, and goes on
    /// while there is no ipsecd.
    fn hold_ports(&self, wan: &Wan) {
        let (Some(keeper), Some(sockets)) = (&self.keeper, wan.sockets()) else { return };
        let held = keeper()
            .and_then(|mut keeper| sockets.encapsulated().try_for_each(|(name, socket)| keeper.hold(&name, socket)));
        if let Err(error) = held {
            tracing::error!(wan = %wan.name(), %error, "the link's ports are not kept: without ipsecd its tunnels receive nothing");
        }
    }

    fn release_ports(&self, wan: &WanName) {
        let Some(keeper) = &self.keeper else { return };
        let released = keeper().and_then(|mut keeper| {
            [IpFamily::V4, IpFamily::V6].into_iter().try_for_each(|family| keeper.release(Held::port(wan, family)))
        });
        if let Err(error) = released {
            tracing::warn!(%wan, %error, "the keeper does not let go of the link's ports");
        }
    }

    fn route(&self, path: Path) -> Result<Route, DataplaneError> {
        Ok(Route { wan: Arc::clone(self.wan(&path.wan)?), path })
    }
}

impl Dataplane for Userspace {
    fn add_wan(&self, spec: WanSpec) -> Result<(), DataplaneError> {
        let mut control = self.control();
        let name = spec.name.clone();
        if let Some(open) = control.wans.remove(&name) {
            if open.kernel_esp() && !spec.kernel_esp {
                control.release_ports(&name);
            }
            open.stop(); // its ports must be free before they are opened again
        }
        let wan = control.links.entry(name.clone()).or_insert_with(|| Arc::new(Wan::new(name.clone())));
        let wan = Arc::clone(wan);
        let start = || WanThread::start(Arc::clone(&wan), &spec, Arc::clone(&self.shared));
        let thread = match start() {
            // The keeper may hold the ports since an earlier run, when the kernel took ESP from them.
            Err(DataplaneError::Wan { error, .. }) if error.kind() == io::ErrorKind::AddrInUse => {
                control.release_ports(&name);
                start()?
            }
            other => other?,
        };
        if spec.kernel_esp {
            control.hold_ports(&wan);
        }
        control.wans.insert(name, thread);
        Ok(())
    }

    fn remove_wan(&self, name: &WanName) {
        let mut control = self.control();
        let removed = control.wans.remove(name);
        if let Some(thread) = removed {
            if thread.kernel_esp() {
                control.release_ports(name);
            }
            drop(control);
            thread.stop();
        }
    }

    fn add_tunnel(&self, spec: TunnelSpec) -> Result<(), DataplaneError> {
        let mut control = self.control();
        if let Some(thread) = control.tunnels.get(&spec.name) {
            thread.tunnel().set_mtu(spec.mtu);
            thread.tunnel().set_policy(spec.policy);
            return Ok(());
        }
        let tun = tunnel::open_device(&spec.name, control.keeper.as_ref())?;
        let name = spec.name.clone();
        let thread = TunnelThread::start(Tunnel::new(spec, tun), Arc::clone(&self.shared))?;
        control.tunnels.insert(name, thread);
        Ok(())
    }

    fn remove_tunnel(&self, name: &TunnelName, keep_device: bool) {
        let mut control = self.control();
        let Some(thread) = control.tunnels.remove(name) else { return };
        self.forget_inbound(|sa| sa.tunnel().name() != name);
        let tunnel = thread.stop();
        if !keep_device {
            tunnel::close_device(&tunnel, control.keeper.as_ref());
        }
    }

    fn set_mtu(&self, name: &TunnelName, mtu: u16) {
        if let Ok(tunnel) = self.control().tunnel(name) {
            tunnel.set_mtu(mtu);
        }
    }

    fn add_inbound(&self, name: &TunnelName, sa: NewInbound) -> Result<(), DataplaneError> {
        let control = self.control(); // held to the end: the check and the insertion are one
        let tunnel = Arc::clone(control.tunnel(name)?);
        let spi = sa.spi;
        if self.shared.inbound.load().contains_key(&spi.get()) {
            return Err(DataplaneError::SpiTaken(spi));
        }
        let sa = Arc::new(Inbound::new(tunnel, sa));
        self.shared.inbound.rcu(|table| {
            let mut table = HashMap::clone(table);
            table.insert(spi.get(), Arc::clone(&sa));
            table
        });
        Ok(())
    }

    fn add_outbound(&self, name: &TunnelName, sa: NewOutbound) -> Result<(), DataplaneError> {
        let control = self.control();
        let tunnel = control.tunnel(name)?;
        let route = control.route(sa.path.clone())?;
        tunnel.add_outbound(Arc::new(Outbound::new(sa, route)));
        Ok(())
    }

    fn use_outbound(&self, name: &TunnelName, spi: Spi) -> Result<(), DataplaneError> {
        let used = self.control().tunnel(name)?.use_outbound(spi);
        if used { Ok(()) } else { Err(DataplaneError::UnknownOutbound { tunnel: name.clone(), spi }) }
    }

    fn remove_inbound(&self, spi: Spi) {
        self.forget_inbound(|sa| sa.spi() != spi);
    }

    fn remove_outbound(&self, name: &TunnelName, spi: Spi) {
        if let Ok(tunnel) = self.control().tunnel(name) {
            tunnel.remove_outbound(spi);
        }
    }

    fn set_path(&self, name: &TunnelName, path: Path) -> Result<(), DataplaneError> {
        let control = self.control();
        let route = Arc::new(control.route(path)?);
        for sa in control.tunnel(name)?.outbounds() {
            sa.set_route(Arc::clone(&route));
        }
        Ok(())
    }

    fn send_ike(
        &self,
        wan: &WanName,
        local: SocketAddr,
        remote: SocketAddr,
        message: &[u8],
    ) -> Result<(), DataplaneError> {
        let wan = Arc::clone(self.control().wan(wan)?);
        wan.send_ike(local, remote, message)
    }

    fn keep_devices(&self) -> Result<(), DataplaneError> {
        let control = self.control();
        let Some(keeper) = &control.keeper else { return Ok(()) };
        control.wans.values().filter(|thread| thread.kernel_esp()).for_each(|thread| control.hold_ports(thread.wan()));
        control.tunnels.values().try_for_each(|thread| tunnel::keep_device(thread.tunnel(), keeper))
    }

    fn send_keepalive(&self, path: &Path) -> Result<(), DataplaneError> {
        let wan = Arc::clone(self.control().wan(&path.wan)?);
        wan.send_keepalive(path)
    }

    fn stats(&self) -> Stats {
        let now = Instant::now();
        let control = self.control();
        let inbound = self.shared.inbound.load();
        let mut tunnels: Vec<_> = control.tunnels.values().map(|thread| thread.tunnel().stats(now)).collect();
        for sa in inbound.values() {
            if let Ok(at) = tunnels.binary_search_by(|stats| stats.tunnel.cmp(sa.tunnel().name())) {
                tunnels[at].inbound.push(sa.stats(now));
            }
        }
        for stats in &mut tunnels {
            stats.inbound.sort_by_key(|sa| sa.spi);
        }
        Stats { tunnels, wans: control.links.values().map(|wan| wan.stats()).collect() }
    }
}

impl Drop for Userspace {
    /// Threads end; devices stay as they are, for a keeper or because they are persistent.
    fn drop(&mut self) {
        let control = self.control.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (_, thread) in std::mem::take(&mut control.tunnels) {
            thread.stop();
        }
        for (_, thread) in std::mem::take(&mut control.wans) {
            thread.stop();
        }
    }
}

impl Shared {
    fn tell(&self, event: Event) {
        self.sink.event(event); // when it is full, the counters still tell
    }
}

/// Lets through so many a second, for what anybody on the Internet may trigger.
struct RateLimit {
    origin: Instant,
    /// The second, and how many in it: 48 and 16 bits.
    state: AtomicU64,
}

impl RateLimit {
    const A_SECOND: u64 = 10;

    fn new() -> Self {
        Self { origin: Instant::now(), state: AtomicU64::new(0) }
    }

    fn allow(&self, now: Instant) -> bool {
        let second = now.saturating_duration_since(self.origin).as_secs();
        let step = |state: u64| {
            let (then, count) = (state >> 16, state & 0xffff);
            match (then == second, count) {
                (false, _) => Some(second << 16 | 1),
                (true, count) if count < Self::A_SECOND => Some(state + 1),
                (true, _) => None,
            }
        };
        self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ten_a_second_pass() {
        let limit = RateLimit::new();
        let start = limit.origin;
        let passed = |now| (0..100).filter(|_| limit.allow(now)).count();
        assert_eq!(passed(start), 10);
        assert_eq!(passed(start + Duration::from_secs(1)), 10);
    }
}
