//! The thread's loop.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
    time::{Duration, Instant, SystemTime},
};

use bfd::{Demux, Diagnostic, Input, Output, PORT, Packet, Peer, Session, State};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
};
use sys::{mmsg::RecvBatch, sockopt::IpFamily};

use super::{Change, Order, Wanted, sockets};
use crate::show::view;

/// Real-time priority: above interactive work, below what the kernel itself needs.
const PRIORITY: u8 = 50;
/// Longest sleep, so that nothing depends on a deadline that was never set.
const LONGEST: Duration = Duration::from_secs(60);
/// Room for the longest packet that a peer may send: authentication sections are at most 28 octets longer.
const SLOT: usize = 256;
/// Batches taken in at a time; what remains is found at the next turn, after timers were served.
const BATCHES: usize = 8;

struct Running {
    wanted: Wanted,
    session: Session,
    socket: UdpSocket,
    /// The last send failed; told once.
    failing: bool,
}

pub(super) struct Worker {
    orders: Receiver<Order>,
    wake: Arc<OwnedFd>,
    changed: Box<dyn Fn(Change) + Send>,
    sessions: BTreeMap<Peer, Running>,
    demux: Demux<Peer>,
    listeners: [Option<UdpSocket>; 2],
    batch: RecvBatch,
    random: StdRng,
}

impl Worker {
    pub(super) fn new(orders: Receiver<Order>, wake: Arc<OwnedFd>, changed: Box<dyn Fn(Change) + Send>) -> Self {
        Self {
            orders,
            wake,
            changed,
            sessions: BTreeMap::new(),
            demux: Demux::default(),
            listeners: [None, None],
            batch: RecvBatch::new(sys::mmsg::MAX_BATCH, SLOT),
            random: StdRng::from_os_rng(),
        }
    }

    pub(super) fn run(mut self) {
        match sys::sched::set_fifo(PRIORITY) {
            Ok(()) => tracing::debug!(priority = PRIORITY, "BFD runs in real time"),
            Err(error) => match sys::sched::set_nice(-15) {
                Ok(()) => tracing::info!(%error, "BFD may not run in real time (CAP_SYS_NICE); it runs at nice -15"),
                Err(_) => {
                    tracing::warn!(%error, "BFD runs at ordinary priority; allow CAP_SYS_NICE, or intervals below 50 ms may flap under load")
                }
            },
        }
        loop {
            self.receive();
            self.expire();
            if !self.obey() {
                return;
            }
            self.sleep();
        }
    }

    /// Until a packet, an order or the next deadline.
    fn sleep(&self) {
        let now = Instant::now();
        let deadline = self.sessions.values().filter_map(|running| running.session.poll_timeout()).min();
        let wait = deadline.map_or(LONGEST, |at| at.saturating_duration_since(now)).min(LONGEST);
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut fds = vec![PollFd::new(&*self.wake, PollFlags::IN)];
        fds.extend(self.listeners.iter().flatten().map(|socket| PollFd::new(socket, PollFlags::IN)));
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timeout));
    }

    fn receive(&mut self) {
        for index in 0..self.listeners.len() {
            for _ in 0..BATCHES {
                let Some(socket) = &self.listeners[index] else { break };
                match self.batch.receive(socket) {
                    Ok(count) if count > 0 => {}
                    // An ICMP error for an earlier packet of ours: what waits behind it is found at the next turn.
                    _ => break,
                }
                let now = Instant::now();
                let mut taken = Vec::with_capacity(sys::mmsg::MAX_BATCH);
                for (meta, octets) in self.batch.iter_mut() {
                    // RFC 5881 §5: packets without authentication and of any other TTL are discarded.
                    let (Some(sockets::TTL), Some(ifindex), false) = (meta.ttl, meta.ifindex, meta.truncated) else {
                        continue;
                    };
                    let from = Peer { ifindex, address: meta.from.ip().to_canonical() };
                    let Ok(packet) = Packet::parse(octets) else { continue };
                    if let Some(peer) = self.demux.find(&from, &packet) {
                        taken.push((peer, packet));
                    }
                }
                for (peer, packet) in taken {
                    self.input(now, peer, Input::Received(&packet));
                }
            }
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let due: Vec<Peer> = self
            .sessions
            .iter()
            .filter(|(_, running)| running.session.poll_timeout().is_some_and(|at| at <= now))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in due {
            self.input(now, peer, Input::Timeout);
        }
    }

    /// Carries out what was ordered; false when it is time to end.
    fn obey(&mut self) -> bool {
        let mut counter = [0u8; 8];
        let _ = rustix::io::read(&*self.wake, &mut counter);
        loop {
            let now = Instant::now();
            match self.orders.try_recv() {
                Ok(Order::Run(wanted)) => self.begin(now, wanted),
                Ok(Order::Remove(peer)) => {
                    self.demux.remove(&peer);
                    self.sessions.remove(&peer);
                }
                Ok(Order::AdminDown(peer, down)) => self.input(now, peer, Input::AdminDown(down)),
                Ok(Order::Ask(then)) => then(self.snapshot(now)),
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => {
                    let peers: Vec<Peer> = self.sessions.keys().copied().collect();
                    for peer in peers {
                        self.input(now, peer, Input::AdminDown(true));
                    }
                    return false;
                }
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn begin(&mut self, now: Instant, wanted: Wanted) {
        let peer = wanted.peer;
        if let Some(running) = self.sessions.get_mut(&peer) {
            let (local, interface) = (running.wanted.local, running.wanted.interface.clone());
            if (local, &interface) == (wanted.local, &wanted.interface) {
                let config = wanted.config;
                running.wanted = wanted;
                self.input(now, peer, Input::Reconfigure(config));
                return;
            }
            self.demux.remove(&peer);
            self.sessions.remove(&peer);
        }
        if let Err(error) = self.open(now, wanted) {
            tracing::error!(peer = %peer.address, ifindex = peer.ifindex, %error, "BFD session cannot be run; is another BFD daemon on this machine?");
        }
    }

    fn open(&mut self, now: Instant, wanted: Wanted) -> io::Result<()> {
        let (index, family) = match wanted.local {
            IpAddr::V4(_) => (0, IpFamily::V4),
            IpAddr::V6(_) => (1, IpFamily::V6),
        };
        if self.listeners[index].is_none() {
            self.listeners[index] = Some(sockets::listener(family)?);
        }
        let peer = wanted.peer;
        let socket = sockets::sender(&wanted.interface, wanted.local, peer.ifindex, &mut self.random)?;
        let Some(discriminator) = self.demux.insert(peer, peer, &mut self.random) else {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        };
        let session = Session::new(now, discriminator, wanted.config);
        self.sessions.insert(peer, Running { wanted, session, socket, failing: false });
        self.input(now, peer, Input::Timeout);
        Ok(())
    }

    fn input(&mut self, now: Instant, peer: Peer, input: Input<'_>) {
        let Some(running) = self.sessions.get_mut(&peer) else { return };
        let random: &mut dyn RngCore = &mut self.random;
        for output in running.session.handle_input(now, input, random) {
            match output {
                Output::Changed { from, to, cause } => {
                    (self.changed)(Change { peer, from, to, cause, at: now, at_wall: SystemTime::now() });
                }
                Output::Send(octets) => {
                    let to: SocketAddr = sockets::addressed(peer.address, PORT, peer.ifindex);
                    let failed = running.socket.send_to(&octets, to).err();
                    if let (Some(error), false) = (&failed, running.failing) {
                        tracing::debug!(peer = %peer.address, %error, "BFD packet not sent");
                    }
                    running.failing = failed.is_some();
                }
            }
        }
    }

    fn snapshot(&self, now: Instant) -> Vec<view::Bfd> {
        let wall = SystemTime::now();
        self.sessions.values().map(|running| describe(running, now, wall)).collect()
    }
}

fn describe(running: &Running, now: Instant, wall: SystemTime) -> view::Bfd {
    let session = &running.session;
    let (local, remote) = session.discriminators();
    let timers = session.remote_timers().unwrap_or_default();
    let counts = session.statistics();
    view::Bfd {
        peer: running.wanted.peer.address,
        local: Some(running.wanted.local),
        interface: Some(running.wanted.interface.clone()),
        local_discriminator: local.get(),
        remote_discriminator: remote.map_or(0, std::num::NonZeroU32::get),
        status: match session.state() {
            State::AdminDown => "shutdown",
            State::Down => "down",
            State::Init => "init",
            State::Up => "up",
        },
        since: wall - now.saturating_duration_since(session.since()),
        diagnostic: words(session.diagnostic()),
        remote_diagnostic: words(session.remote_diagnostic()),
        receive_interval: session.config().required_min_rx,
        transmit_interval: session.config().desired_min_tx,
        detect_multiplier: session.config().detect_multiplier,
        remote_receive_interval: timers.1,
        remote_transmit_interval: timers.0,
        remote_detect_multiplier: timers.2,
        packets: (counts.received, counts.sent),
        changes: (counts.ups, counts.downs),
    }
}

/// In FRR's words.
fn words(diagnostic: Diagnostic) -> String {
    match diagnostic {
        Diagnostic::None => "ok".into(),
        other => other.to_string(),
    }
}
