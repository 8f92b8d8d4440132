//! ESP in the kernel: XFRM associations and policies, one interface a tunnel: an xfrm interface, or one of GRE (see [`gre`]).
//!
//! An xfrm interface's number (`if_id`) ties everything together: policies with it meet the packets of that interface and no
//! others, associations with it deliver to that interface. Port 4500 is the link's as ever: its socket leaves ESP to the
//! kernel ([`crate::WanSpec::kernel_esp`]) and still gets IKE.
//!
//! What holds here: a packet that no association's policy holds meets a policy that blocks it; outer packets are marked for
//! their link's routing table; nothing is deleted in order to be added again, with one exception (see [`Kernel::set_path`]).
//! Associations and policies live in the kernel and outlive this process: the next one takes up what bears the number of an
//! interface, and ends it when there is something better, or nobody has come for it in [`ORPHANED`].
//!
//! What it cannot do that user space can: count what the selectors refuse by tunnel, and tell of ESP for associations that do
//! not exist. The MSS of TCP inside is nothing that XFRM would touch; a table of nftables does that (see [`mss`]).

mod algorithms;
mod events;
mod gre;
mod inherited;
mod interfaces;
mod moving;
mod mss;
mod probe;
mod selectors;
mod socket;
mod stats;
mod tunnel;

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use net_types::{Spi, TunnelName, WanName};
use rustix::{event::EventfdFlags, io::Errno};
use xfrm::{
    Direction, Encapsulation, Lifetimes, Message, Mode, NETLINK_XFRM, Offload, OuterHeader, Replay, Sa, SaId, SaInfo,
};

pub use self::probe::Support;
pub(crate) use self::{interfaces::remove_leftover, probe::probe};
use self::{
    mss::Mss,
    probe::NETLINK_ROUTE,
    socket::{Netlink, NetlinkError},
    stats::Snapshot,
    tunnel::{Device, Inbound, Outbound, Seen, Told, Tunnel, inbound_of},
};
use crate::{
    DataplaneError, Df, Dscp, KernelInterface, Limits, NewInbound, NewOutbound, PacketPolicy, Path, Sink, TunnelStats,
    WanSpec,
};

/// Numbers of our interfaces are this one plus 1 and up; it spells "HF".
const IF_ID_BASE: u32 = 0x4846_0000;
/// The last number that a tunnel may have; the one behind it is the probe's.
const IF_ID_LAST: u32 = 0x4846_fffe;
/// Packets of replay window: all that the kernel has.
const REPLAY_WINDOW: u32 = 4096;
/// How long inherited associations are accepted beside a new one: packets of the peer may be on the way in their name.
const GRACE: Duration = Duration::from_secs(2);
/// How long inherited associations go on without one.
pub(crate) const ORPHANED: Duration = Duration::from_secs(300);

/// The packet path in the kernel.
pub(crate) struct Kernel {
    control: Arc<Mutex<Control>>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

struct Control {
    requests: Netlink,
    routes: Netlink,
    directed: bool,
    /// The marks of links.
    wans: BTreeMap<WanName, u32>,
    tunnels: BTreeMap<TunnelName, Tunnel>,
    next_if_id: u32,
    snapshot: Option<Snapshot>,
    mss: Mss,
    /// When it is looked again whether peers send by what was inherited.
    look_again: Option<Instant>,
    /// When what belongs to no tunnel is looked for and taken out.
    sweep: Option<Instant>,
    stop: Arc<OwnedFd>,
}

impl Kernel {
    /// A path without links or tunnels.
    ///
    /// # Errors
    /// When the sockets cannot be opened.
    pub(crate) fn open(support: &Support, sink: Arc<dyn Sink>) -> io::Result<Self> {
        let stop = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let control = Arc::new(Mutex::new(Control {
            requests: Netlink::open(NETLINK_XFRM)?,
            routes: Netlink::open(NETLINK_ROUTE)?,
            directed: support.directed,
            wans: BTreeMap::new(),
            tunnels: BTreeMap::new(),
            next_if_id: IF_ID_BASE + 1,
            snapshot: None,
            mss: Mss::default(),
            look_again: None,
            sweep: Some(Instant::now() + ORPHANED),
            stop: Arc::clone(&stop),
        }));
        let listener = events::Listener::new(Arc::clone(&control), sink, Arc::clone(&stop))?;
        let thread = thread::Builder::new().name("xfrm-events".into()).spawn(move || listener.run())?;
        Ok(Self { control, stop, thread: Some(thread) })
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }

    pub(crate) fn add_wan(&self, spec: &WanSpec) {
        self.control().wans.insert(spec.name.clone(), spec.mark);
    }

    /// Makes the tunnel's interface, or takes up one that an earlier process has made, with what it left in the kernel.
    pub(crate) fn add_tunnel(
        &self,
        name: &TunnelName,
        mtu: u16,
        interface: KernelInterface,
        offload: Option<u32>,
        policy: PacketPolicy,
    ) -> Result<(), DataplaneError> {
        let mut control = self.control();
        control.add_tunnel(name, mtu, interface, offload, policy)?;
        control.fit_mss(name, mtu);
        Ok(())
    }

    /// The interface has its MTU from elsewhere; the MSS of TCP follows it here.
    pub(crate) fn set_mtu(&self, name: &TunnelName, mtu: u16) {
        self.control().fit_mss(name, mtu);
    }

    pub(crate) fn remove_tunnel(&self, name: &TunnelName, keep_device: bool) {
        self.control().remove_tunnel(name, keep_device);
    }

    pub(crate) fn add_inbound(&self, name: &TunnelName, sa: NewInbound) -> Result<(), DataplaneError> {
        self.control().add_inbound(name, sa)
    }

    pub(crate) fn add_outbound(&self, name: &TunnelName, sa: NewOutbound) -> Result<(), DataplaneError> {
        let mut control = self.control();
        control.add_outbound(name, sa)?;
        control.wake(); // what was inherited ends soon
        Ok(())
    }

    pub(crate) fn use_outbound(&self, name: &TunnelName, spi: Spi) -> Result<(), DataplaneError> {
        let mut control = self.control();
        let tunnel = control.tunnel(name)?;
        let Some(at) = tunnel.outbound.iter().position(|sa| sa.id.spi == spi) else {
            return Err(DataplaneError::UnknownOutbound { tunnel: name.clone(), spi });
        };
        let sa = tunnel.outbound.remove(at);
        tunnel.outbound.push(sa); // the last one is in use
        control.settle(name)
    }

    pub(crate) fn remove_inbound(&self, spi: Spi) {
        let mut control = self.control();
        let owner = control.tunnels.iter().find(|(_, tunnel)| tunnel.inbound.contains_key(&spi));
        let Some(name) = owner.map(|(name, _)| name.clone()) else { return };
        let Some(sa) = control.tunnels.get_mut(&name).and_then(|tunnel| tunnel.inbound.remove(&spi)) else { return };
        control.delete(&[sa.id]);
        let _logged = control.settle(&name);
    }

    pub(crate) fn remove_outbound(&self, name: &TunnelName, spi: Spi) {
        let mut control = self.control();
        let Ok(tunnel) = control.tunnel(name) else { return };
        let Some(at) = tunnel.outbound.iter().position(|sa| sa.id.spi == spi) else { return };
        let sa = tunnel.outbound.remove(at);
        let _logged = control.settle(name); // first another one, or the block
        control.delete(&[sa.id]);
    }

    /// Sends a tunnel's associations along another path.
    ///
    /// Ports and marks change in place. With another address the association is copied, keys and counters, beside the one that
    /// there is, the policy goes over, and the old one goes. The one case that the kernel has no way for is an outbound
    /// association to the same peer from another address of ours: two of one name cannot be, so one goes right before the
    /// other comes, in one send; what leaves in between is blocked.
    pub(crate) fn set_path(&self, name: &TunnelName, path: &Path) -> Result<(), DataplaneError> {
        self.control().set_path(name, path)
    }

    pub(crate) fn stats(&self) -> Vec<TunnelStats> {
        self.control().stats(Instant::now())
    }
}

impl Drop for Kernel {
    /// The thread ends; associations, policies and interfaces stay as they are, for the next process.
    fn drop(&mut self) {
        let _already = rustix::io::write(&*self.stop, &events::STOP.to_ne_bytes());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread for the kernel's IPsec events had panicked");
        }
    }
}

/// In transport mode there is no other header than the one that the interface writes.
fn outer(mode: Mode, policy: PacketPolicy) -> OuterHeader {
    if mode == Mode::Transport {
        return OuterHeader::default();
    }
    OuterHeader { copy_df: policy.df != Df::Clear, copy_dscp: policy.dscp == Dscp::Copy, ..OuterHeader::default() }
}

/// Control state is changed by whole entries, so that a panic elsewhere leaves it usable.
fn lock(control: &Mutex<Control>) -> MutexGuard<'_, Control> {
    control.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(tunnel: &TunnelName, what: &str) -> impl FnOnce(NetlinkError) -> DataplaneError {
    let (tunnel, what) = (tunnel.clone(), what.to_owned());
    move |error| DataplaneError::Tunnel { tunnel, what, error: error.into() }
}

impl Control {
    fn tunnel(&mut self, name: &TunnelName) -> Result<&mut Tunnel, DataplaneError> {
        self.tunnels.get_mut(name).ok_or_else(|| DataplaneError::UnknownTunnel(name.clone()))
    }

    fn mark(&self, wan: &WanName) -> Result<u32, DataplaneError> {
        self.wans.get(wan).copied().ok_or_else(|| DataplaneError::UnknownWan(wan.clone()))
    }

    /// Has the thread look at its deadlines again.
    fn wake(&self) {
        let _already = rustix::io::write(&*self.stop, &events::WAKE.to_ne_bytes());
    }

    fn add_tunnel(
        &mut self,
        name: &TunnelName,
        mtu: u16,
        interface: KernelInterface,
        offload: Option<u32>,
        policy: PacketPolicy,
    ) -> Result<(), DataplaneError> {
        let is_xfrm = matches!(interface, KernelInterface::Xfrm { .. });
        if is_xfrm && policy.df == Df::Set {
            tracing::warn!(tunnel = %name, "the kernel sets no DF of its own on outer packets: it copies the inner one; \"df set\" takes datapath userspace");
        }
        if is_xfrm && matches!(policy.dscp, Dscp::Set(1..)) {
            tracing::warn!(tunnel = %name, "the kernel sets no class of its own on outer packets: they have class 0; \"dscp set\" with another takes datapath userspace");
        }
        if let Some(tunnel) = self.tunnels.get_mut(name) {
            let stays = match (&mut tunnel.device, interface) {
                (Device::Xfrm { link, .. }, KernelInterface::Xfrm { pin }) => *link == pin.unwrap_or(0),
                (Device::Gre(gre), KernelInterface::Gre(spec))
                    if gre.spec.remote.is_ipv4() == spec.remote.is_ipv4() =>
                {
                    (gre.spec, gre.mtu) = (spec, mtu);
                    true
                }
                _ => false,
            };
            if stays {
                (tunnel.offload, tunnel.policy) = (offload, policy); // of associations to come
                return self.settle(name);
            }
        }
        self.remove_tunnel(name, is_xfrm);
        let (ifindex, device) = match interface {
            KernelInterface::Xfrm { pin } => {
                let link = pin.unwrap_or(0);
                let (if_id, ifindex) = self.interface(name, link)?;
                (ifindex, Device::Xfrm { if_id, link })
            }
            KernelInterface::Gre(spec) => {
                let (ifindex, gre) = self.gre_interface(name, spec, mtu, policy)?;
                (ifindex, Device::Gre(gre))
            }
        };
        let mut tunnel = Tunnel::new(ifindex, device, offload, policy);
        let sas = self.requests.dump(xfrm::dump_sas(), SaInfo::parse);
        let sas = sas.map_err(failed(name, "reading the kernel's associations"))?;
        let policies = self.requests.dump(xfrm::dump_policies(), xfrm::PolicyInfo::parse);
        let policies = policies.map_err(failed(name, "reading the kernel's policies"))?;
        let policies: Vec<_> = policies.into_iter().map(|info| info.0).collect();
        tunnel.inherit(&sas, &policies, Instant::now() + ORPHANED);
        let (inbound, outbound) = (tunnel.inherited.inbound.len(), tunnel.inherited.outbound.len());
        if inbound + outbound > 0 {
            tracing::info!(tunnel = %name, inbound, outbound, "took up the kernel's associations of an earlier run; they go on until replaced");
        }
        self.tunnels.insert(name.clone(), tunnel);
        let settled = self.settle(name);
        if settled.is_err() {
            self.remove_tunnel(name, is_xfrm); // without its block it must not be used, and GRE must not be there
        }
        self.wake();
        settled
    }

    fn fit_mss(&mut self, name: &TunnelName, mtu: u16) {
        if let Some(tunnel) = self.tunnels.get_mut(name) {
            if let Device::Gre(gre) = &mut tunnel.device {
                gre.mtu = mtu;
            }
            self.mss.fit(tunnel.ifindex, mtu);
        }
    }

    fn remove_tunnel(&mut self, name: &TunnelName, keep_device: bool) {
        let Some(tunnel) = self.tunnels.remove(name) else { return };
        self.mss.release(tunnel.ifindex);
        self.delete(&tunnel.ids());
        if keep_device {
            return; // with its block
        }
        // The interface goes before its policies: without them it would drop, but one thing is enough.
        self.delete_interface(name, tunnel.ifindex);
        let policies = tunnel.installed.keys().filter(|key| !self.is_shared(tunnel.if_id(), key, name));
        let gone = policies.map(|(direction, selector)| xfrm::Policy::delete(selector, *direction, tunnel.if_id()));
        let gone = gone.collect();
        for outcome in self.requests.batch(gone) {
            if let Err(error) = outcome
                && !error.is(Errno::NOENT)
            {
                tracing::warn!(tunnel = %name, %error, "a policy of the tunnel stays in the kernel");
            }
        }
    }

    /// Brings the kernel's policies of a tunnel to what its associations want, and a GRE interface to their addresses, behind the
    /// policies of before and after.
    fn settle(&mut self, name: &TunnelName) -> Result<(), DataplaneError> {
        self.set_policies(name)?;
        if self.aim(name)? { self.set_policies(name) } else { Ok(()) }
    }

    /// Whether another tunnel needs a policy, too: those of GRE interfaces that have no address yet may be the same.
    fn is_shared(&self, if_id: u32, key: &tunnel::Key, name: &TunnelName) -> bool {
        let mut others = self.tunnels.iter().filter(|(other, _)| *other != name);
        others.any(|(_, other)| other.if_id() == if_id && other.installed.contains_key(key))
    }

    fn set_policies(&mut self, name: &TunnelName) -> Result<(), DataplaneError> {
        let Some(tunnel) = self.tunnels.get(name) else { return Ok(()) };
        let (mut todo, mut messages, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for change in tunnel.changes(self.aim_of(tunnel).as_ref()) {
            if change.value.is_none() && self.is_shared(tunnel.if_id(), &change.key, name) {
                kept.push(change.key);
                continue;
            }
            todo.push((change.key, change.value));
            messages.push(change.message);
        }
        let Some(tunnel) = self.tunnels.get_mut(name) else { return Ok(()) };
        kept.into_iter().for_each(|key| tunnel.changed(key, None));
        let mut first = Ok(());
        for ((key, value), outcome) in todo.into_iter().zip(self.requests.batch(messages)) {
            match outcome {
                Ok(()) => tunnel.changed(key, value),
                Err(error) if value.is_none() && error.is(Errno::NOENT) => tunnel.changed(key, value),
                Err(error) => {
                    tracing::error!(tunnel = %name, direction = ?key.0, selector = ?key.1, %error, "the kernel refuses a policy");
                    if first.is_ok() {
                        first = Err(failed(name, "setting its policies")(error));
                    }
                }
            }
        }
        first
    }

    /// Takes associations out; those that are gone already are as good.
    fn delete(&mut self, ids: &[SaId]) {
        let messages = ids.iter().map(|id| xfrm::delete_sa(*id)).collect();
        for (id, outcome) in ids.iter().zip(self.requests.batch(messages)) {
            if let Err(error) = outcome
                && !error.is(Errno::SRCH)
            {
                tracing::warn!(spi = %id.spi, destination = %id.destination, %error, "an association stays in the kernel");
            }
        }
        self.snapshot = None;
    }

    fn add_inbound(&mut self, name: &TunnelName, new: NewInbound) -> Result<(), DataplaneError> {
        let directed = self.directed;
        let tunnel = self.tunnel(name)?;
        let selectors = policy_selectors(name, tunnel, &new.selectors, &new.path, "accepting an association")?;
        let id = SaId { destination: new.path.local.ip(), spi: new.spi };
        let sa = Sa {
            id,
            source: new.path.remote.ip(),
            direction: Direction::Inbound,
            mode: tunnel.mode(),
            reqid: tunnel.number,
            if_id: tunnel.if_id(),
            algorithms: algorithms::of(new.keymat.cipher(), new.keymat.expose()),
            esn: new.esn,
            replay_window: u32::from(tunnel.policy.replay_window).min(REPLAY_WINDOW),
            replay: Replay::default(),
            encapsulation: encapsulation(&new.path, Direction::Inbound, new.encapsulated),
            output_mark: None,
            lifetimes: lifetimes(new.limits, None),
            outer: outer(tunnel.mode(), tunnel.policy),
            offload: tunnel.offload.map(|ifindex| Offload { ifindex }),
            directed,
        };
        let message = sa.add();
        let known = Inbound {
            id,
            cipher: new.keymat.cipher(),
            esn: new.esn,
            selectors: inbound_of(&selectors),
            path: new.path,
            limits: new.limits,
            told: Told::default(),
            seen: Seen::new(Instant::now()),
        };
        self.put(name, message, known.cipher, new.spi)?;
        self.tunnel(name)?.inbound.insert(new.spi, known);
        let settled = self.settle(name);
        if settled.is_err() {
            self.tunnel(name)?.inbound.remove(&new.spi);
            self.delete(&[id]);
            let _logged = self.settle(name);
        }
        settled
    }

    fn add_outbound(&mut self, name: &TunnelName, new: NewOutbound) -> Result<(), DataplaneError> {
        let directed = self.directed;
        let mark = self.mark(&new.path.wan)?;
        let tunnel = self.tunnel(name)?;
        let selectors = policy_selectors(name, tunnel, &new.selectors, &new.path, "sending by an association")?;
        let id = SaId { destination: new.path.remote.ip(), spi: new.spi };
        let sa = Sa {
            id,
            source: new.path.local.ip(),
            direction: Direction::Outbound,
            mode: tunnel.mode(),
            reqid: tunnel.number,
            if_id: tunnel.if_id(),
            algorithms: algorithms::of(new.keymat.cipher(), new.keymat.expose()),
            esn: new.esn,
            replay_window: 0,
            replay: Replay::default(),
            encapsulation: encapsulation(&new.path, Direction::Outbound, new.encapsulated),
            output_mark: Some(mark),
            lifetimes: lifetimes(new.limits, (!new.esn).then_some(u64::from(u32::MAX))),
            outer: outer(tunnel.mode(), tunnel.policy),
            offload: tunnel.offload.map(|ifindex| Offload { ifindex }),
            directed,
        };
        let message = sa.add();
        let known = Outbound {
            id,
            cipher: new.keymat.cipher(),
            esn: new.esn,
            selectors,
            path: new.path,
            encapsulated: new.encapsulated,
            limits: new.limits,
            told: Told::default(),
            seen: Seen::new(Instant::now()),
        };
        self.put(name, message, known.cipher, new.spi)?;
        let tunnel = self.tunnel(name)?;
        tunnel.outbound.push(known);
        if let Some(until) = &mut tunnel.inherited.until {
            *until = (*until).min(Instant::now() + GRACE);
        }
        self.settle(name)
    }

    /// Puts an association in.
    fn put(
        &mut self,
        name: &TunnelName,
        message: Message,
        cipher: esp::Cipher,
        spi: Spi,
    ) -> Result<(), DataplaneError> {
        self.requests.request(message).map_err(|error| {
            if error.is(Errno::EXIST) {
                return DataplaneError::SpiTaken(spi);
            }
            let next = if error.is(Errno::NOSYS) {
                "; leave that cipher out of the proposal, or use datapath userspace"
            } else {
                ""
            };
            failed(name, &format!("putting an association with {cipher} into the kernel{next}"))(error)
        })?;
        self.snapshot = None;
        Ok(())
    }
}

/// What policies hold for an association: what its traffic selectors do, or GRE between its addresses.
fn policy_selectors(
    name: &TunnelName,
    tunnel: &Tunnel,
    selectors: &esp::Selectors,
    path: &Path,
    what: &str,
) -> Result<Vec<xfrm::Selector>, DataplaneError> {
    if let Device::Gre(_) = tunnel.device {
        return Ok(vec![gre::selector_of(path)]);
    }
    selectors::outbound(selectors).map_err(|error| DataplaneError::Tunnel {
        tunnel: name.clone(),
        what: what.to_owned(),
        error: io::Error::other(error),
    })
}

fn encapsulation(path: &Path, direction: Direction, encapsulated: bool) -> Option<Encapsulation> {
    encapsulated.then(|| match direction {
        Direction::Inbound => Encapsulation { source_port: path.remote.port(), destination_port: path.local.port() },
        Direction::Outbound => Encapsulation { source_port: path.local.port(), destination_port: path.remote.port() },
    })
}

/// `numbers`: how many packets the association has sequence numbers for, where that may be too few.
fn lifetimes(limits: Limits, numbers: Option<u64>) -> Lifetimes {
    let least = |limit: Option<u64>, numbers: Option<u64>| limit.into_iter().chain(numbers).min();
    Lifetimes {
        soft_octets: limits.soft_octets,
        hard_octets: limits.hard_octets,
        soft_packets: least(limits.soft_packets, numbers.map(|numbers| numbers - numbers / 8)),
        hard_packets: least(limits.hard_packets, numbers),
    }
}
