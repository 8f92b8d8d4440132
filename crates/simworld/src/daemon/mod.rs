//! One `bgpd`: the daemon's table and FIB threads taken turn by turn, the sessions' and BFD's cores, and between them what
//! the daemon's tasks do with sockets.
//!
//! What is decided anywhere is decided by the daemon's own code. What stands here instead of it is what touches the
//! world: connections, datagrams, addresses.

mod paths;
mod peer;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc},
    time::{Duration, Instant},
};

use bfd::{Demux, Input as BfdInput};
use bgp_core::{
    PeerId,
    rib::{BestChange, LocalRoute, LocalSource, NextHopEvent, NextHopKey, Resolved, RibEvent},
    session::{ConnectionId, Input, Session},
};
use bgp_wire::Update;
use bgpd::{
    fib_thread::{self, FibHandle, RibSide},
    peer::{PeerEvent, PeerSpec, RouteQueue, SelfState},
    policy_setup::{self, Policies},
    rib_thread::{self, Outlet},
    setup::{self, BfdReach},
    tunnels::Tunnels,
};
use bytes::BytesMut;
use config::Config;
use fib::Fib;
use net_types::{Family, IfName, Prefix};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::mpsc;

use crate::{
    kernel::Kernel,
    packet::Packet,
    tcp::{Connection, Segment},
    topology::{self, Plan, ifindex},
};

/// So long a thread takes at most until it runs when there is something to do.
const LAG: Duration = Duration::from_millis(3);
/// Octets of routes that are handed to a connection at a time.
const PIECE: usize = 16 * 1024;

/// Something of the daemon that is due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Fib,
    Rib,
    Peer(usize),
}

/// What the table says to the rest of the daemon.
enum Said {
    NextHop(NextHopEvent),
    Event(RibEvent),
}

/// What a fault's `then` asks of a session.
enum Command {
    BfdLost,
    PathLost,
}

/// What the outside hears of a daemon.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) packets: Vec<(usize, Packet)>,
    /// Which neighbor, by place, said what; and whose session has begun.
    pub(crate) heard: Vec<(usize, Heard)>,
}

pub(crate) enum Heard {
    Session,
    Update(Box<Update>),
}

struct Outside {
    fib: RibSide,
    said: std_mpsc::Sender<Said>,
    up: Arc<Mutex<BTreeMap<PeerId, IpAddr>>>,
    interfaces: BTreeMap<PeerId, u32>,
}

impl Outlet for Outside {
    fn fib_room(&self) -> usize {
        self.fib.room()
    }
    fn fib_changes(&self, changes: Vec<BestChange>) {
        self.fib.changes(changes);
    }
    fn next_hop_room(&self) -> usize {
        usize::MAX
    }
    fn next_hop(&self, event: NextHopEvent) {
        self.said.send(Said::NextHop(event)).unwrap_or_default(); // the daemon may be on its way out
    }
    fn event(&self, event: RibEvent) {
        if let RibEvent::Settled(unclaimed) = &event {
            let interface = |peer: &PeerId| self.interfaces.get(peer).copied();
            self.fib.settled(unclaimed.clone(), unclaimed.protected.iter().filter_map(interface).collect());
        }
        self.said.send(Said::Event(event)).unwrap_or_default(); // as above
    }
    fn end_of_rib(&self, peer: PeerId, _: Family) {
        // Sessions carry one family.
        let up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = up.get(&peer) {
            self.fib.returned(peer, *address);
        }
    }
    fn idle(&self) {
        self.fib.idle();
    }
}

/// A neighbor's task.
struct Peer {
    link: usize,
    local: IpAddr,
    spec: PeerSpec,
    session: Session,
    bfd: bfd::Session,
    events: mpsc::Sender<PeerEvent>,
    pending: VecDeque<PeerEvent>,
    connections: BTreeMap<ConnectionId, (Connection, BytesMut)>,
    routes: Option<(ConnectionId, RouteQueue)>,
    due: Option<Instant>,
}

impl Peer {
    /// What it is behind, by number and name.
    fn interface(&self) -> Option<(u32, IfName)> {
        Some((ifindex(self.link), topology::interface(self.link)))
    }
}

/// The daemon.
pub(crate) struct Daemon {
    rib: rib_thread::ByHand,
    fib: fib_thread::ByHand<Kernel>,
    orders: FibHandle,
    said: std_mpsc::Receiver<Said>,
    commands: std_mpsc::Sender<(usize, Command)>,
    commanded: std_mpsc::Receiver<(usize, Command)>,
    up: Arc<Mutex<BTreeMap<PeerId, IpAddr>>>,
    demux: Demux<usize>,
    peers: Vec<Peer>,
    /// Which of them is on which link.
    places: BTreeMap<usize, usize>,
    tunnels: Tunnels,
    /// With the last answer.
    next_hops: BTreeMap<NextHopKey, Option<Resolved>>,
    carrier: BTreeMap<usize, bool>,
    agenda: BTreeSet<(Instant, Task)>,
    rib_at: Option<Instant>,
    fib_at: Option<Instant>,
    /// Threads that had something to do in their last turn.
    busy: [bool; 2],
    random: StdRng,
}

/// What a daemon is started over.
pub(crate) struct Start<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) router: usize,
    pub(crate) config: &'a Config,
    pub(crate) kernel: Kernel,
    pub(crate) carrier: BTreeMap<usize, bool>,
    pub(crate) seed: u64,
    pub(crate) now: Instant,
}

impl Daemon {
    /// As `daemon::start` does it: adopts what is in the kernel, and waits for every neighbor's routes if there was any.
    pub(crate) fn start(start: Start<'_>, out: &mut Outbox) -> Self {
        let Start { plan, router, config, kernel, carrier, seed, now } = start;
        let bgp = config.bgp.as_ref().expect("every router speaks BGP");
        let mut random = StdRng::seed_from_u64(seed);
        let mut fib = Fib::new(kernel);
        let preserved = fib.adopt().expect("the twin can be read").routes > 0;
        let (fib, orders) = fib_thread::ByHand::new(fib, now);
        orders.damping(config.path_damping);
        let (tell, said) = std_mpsc::channel();
        let up: Arc<Mutex<BTreeMap<PeerId, IpAddr>>> = Arc::default();
        let router_id = plan.router_id(router);
        let links = plan.routers[router].neighbors.iter().map(|neighbor| ifindex(neighbor.link));
        let interfaces = (1..).map(PeerId).zip(links).collect();
        let outlet = Outside { fib: orders.rib_side(), said: tell, up: up.clone(), interfaces };
        let mut rib = rib_thread::ByHand::new(policy_setup::rib_config(bgp, router_id, random.random()), outlet, now);
        let restart = bgp.graceful_restart;
        let limit = restart.select_defer_time.unwrap_or(restart.restart_time);
        if preserved {
            rib.rib().hold(now + limit);
        }
        let ourselves = SelfState { router_id, hostname: None, restarting: preserved, forwarding_preserved: preserved };
        let policies = Policies::new(config);
        let mut demux = Demux::default();
        let mut peers = Vec::new();
        for (at, neighbor) in plan.routers[router].neighbors.iter().enumerate() {
            let address = IpAddr::V4(plan.address(neighbor));
            let id = PeerId(at as u32 + 1);
            let configured = bgp.resolve(&address.into()).expect("the plan wrote it");
            let spec = bgpd::peer::spec(bgp, &configured, address, id, &ourselves).expect("nothing is missing");
            let through_tunnel = setup::tunnel_of(config, &configured).is_some();
            let peer = policy_setup::peer_config(bgp, &configured, address, &policies, through_tunnel);
            let events = rib.add_peer(id, peer, restart.stalepath_time);
            let (timing, _) = setup::bfd(config, &configured, BfdReach::Link).expect("the plan wrote it");
            let far = bfd::Peer { ifindex: ifindex(neighbor.link), address };
            let discriminator = demux.insert(far, at, &mut random).expect("each has an address of its own");
            let session = Session::new(spec.session.clone(), Box::new(StdRng::seed_from_u64(random.random())));
            peers.push(Peer {
                link: neighbor.link,
                local: IpAddr::V4(plan.own_address(neighbor)),
                spec,
                session,
                bfd: bfd::Session::new(now, discriminator, timing),
                events,
                pending: VecDeque::new(),
                connections: BTreeMap::new(),
                routes: None,
                due: None,
            });
        }
        for (family, section) in &bgp.families {
            assert_eq!(*family, Family::Ipv4Unicast, "the plan writes no other");
            for prefix in section.networks.keys() {
                rib.rib().originate(now, LocalSource::Network, *prefix, LocalRoute::default());
            }
        }
        if preserved {
            let awaited = peers.iter().map(|peer| (peer.spec.id, peer.spec.session.families)).collect::<Vec<_>>();
            rib.rib().defer(now + limit, awaited);
        }
        let (commands, commanded) = std_mpsc::channel();
        let mut this = Self {
            rib,
            fib,
            orders,
            said,
            commands,
            commanded,
            up,
            demux,
            places: peers.iter().enumerate().map(|(at, peer)| (peer.link, at)).collect(),
            peers,
            tunnels: Tunnels::default(),
            next_hops: BTreeMap::new(),
            carrier,
            agenda: BTreeSet::new(),
            rib_at: None,
            fib_at: None,
            busy: [true; 2],
            random,
        };
        for at in 0..this.peers.len() {
            this.input(now, at, Input::Start, out);
            this.settle(now, at, out);
        }
        this.poke(now);
        this
    }

    /// When there is something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// Neither thread has anything left to do for what was said so far.
    pub(crate) fn is_idle(&self) -> bool {
        !self.busy.contains(&true)
    }

    /// Nothing is written into the FIB yet, since not everybody has spoken after a restart.
    pub(crate) fn is_deferring(&mut self) -> bool {
        self.rib.rib().is_deferring()
    }

    /// For a failure's report.
    pub(crate) fn describe(&mut self, now: Instant, prefix: &Prefix) -> String {
        let phases: Vec<_> = self.peers.iter().map(|peer| peer.session.phase().as_str()).collect();
        let paths: Vec<String> = match self.rib.rib().route(now, prefix) {
            Some(route) => route
                .paths
                .iter()
                .map(|path| {
                    let stale = if path.stale { " stale" } else { "" };
                    let marked = path
                        .effective
                        .as_ref()
                        .is_some_and(|attrs| attrs.attributes.communities.contains(&bgp_wire::Community::LLGR_STALE));
                    format!("{:?} {:?}{stale}{}", path.source, path.state, if marked { " marked" } else { "" })
                })
                .collect(),
            None => Vec::new(),
        };
        format!("sessions {phases:?}, paths {paths:?}")
    }

    /// The best path for a prefix: which neighbor by place, with its AS path; `None` for none, or one of our own.
    pub(crate) fn best(&mut self, now: Instant, prefix: &Prefix) -> Option<(usize, Vec<u32>)> {
        let route = self.rib.rib().route(now, prefix)?;
        let best = route.paths.iter().find(|path| path.state == bgp_core::rib::PathState::Best)?;
        let bgp_core::rib::Source::Peer(peer) = best.source else { return None };
        let path =
            best.effective.as_ref().unwrap_or(&best.received).attributes.as_path.asns().map(|asn| asn.get()).collect();
        Some((peer.0 as usize - 1, path))
    }

    /// Does what is due.
    pub(crate) fn work(&mut self, now: Instant, out: &mut Outbox) {
        while let Some((at, task)) = self.agenda.first().copied().filter(|(at, _)| *at <= now) {
            self.agenda.remove(&(at, task));
            match task {
                Task::Fib => self.fib_turn(now, out),
                Task::Rib => self.rib_turn(now, out),
                Task::Peer(at) => {
                    self.peers[at].due = None;
                    self.expire(now, at, out);
                }
            }
        }
    }

    fn fib_turn(&mut self, now: Instant, out: &mut Outbox) {
        self.fib_at = None;
        let next = self.fib.turn(now);
        self.busy[0] = next == Some(now);
        if let Some(next) = next {
            let at = if next == now { self.soon(now) } else { next };
            self.schedule_fib(at);
        }
        while let Ok((at, command)) = self.commanded.try_recv() {
            match command {
                Command::BfdLost => self.input(now, at, Input::BfdDown, out),
                Command::PathLost => self.input(now, at, Input::PathLost, out),
            }
            self.settle(now, at, out);
        }
    }

    fn rib_turn(&mut self, now: Instant, out: &mut Outbox) {
        self.rib_at = None;
        let next = self.rib.turn(now);
        self.busy[1] = next == Some(now);
        if let Some(next) = next {
            let at = if next == now { self.soon(now) } else { next };
            self.schedule_rib(at);
        }
        while let Ok(said) = self.said.try_recv() {
            match said {
                Said::NextHop(NextHopEvent::Wanted(key)) => {
                    let resolved = self.resolve(&key);
                    self.next_hops.insert(key, resolved);
                    self.rib.rib().next_hop_resolved(key, resolved);
                }
                Said::NextHop(NextHopEvent::Unwanted(key)) => {
                    self.next_hops.remove(&key);
                }
                Said::Event(RibEvent::Settled(_)) => self.restart_is_over(),
                Said::Event(_) => {}
            }
            self.busy[1] = true;
            self.schedule_rib(self.rib_at.map_or(now, |at| at.min(now)));
        }
        // There may be something for the FIB, and for any neighbor.
        self.busy[0] = true;
        let soon = self.soon(now);
        self.schedule_fib(soon);
        for at in 0..self.peers.len() {
            let waits = self.peers[at].routes.as_ref().is_some_and(|(_, queue)| !queue.is_empty());
            if waits || !self.peers[at].pending.is_empty() {
                self.settle(now, at, out);
            }
        }
    }

    /// OPENs from now on do not say that we have just restarted.
    fn restart_is_over(&mut self) {
        for peer in &mut self.peers {
            if let Some(restart) = &mut peer.spec.session.graceful_restart {
                restart.restarting = false;
                peer.session.reconfigure(peer.spec.session.clone());
            }
        }
    }

    fn soon(&mut self, now: Instant) -> Instant {
        now + LAG.mul_f64(self.random.random::<f64>())
    }

    fn schedule_rib(&mut self, at: Instant) {
        if self.rib_at.is_none_or(|known| at < known) {
            if let Some(known) = self.rib_at.replace(at) {
                self.agenda.remove(&(known, Task::Rib));
            }
            self.agenda.insert((at, Task::Rib));
        }
    }

    fn schedule_fib(&mut self, at: Instant) {
        if self.fib_at.is_none_or(|known| at < known) {
            if let Some(known) = self.fib_at.replace(at) {
                self.agenda.remove(&(known, Task::Fib));
            }
            self.agenda.insert((at, Task::Fib));
        }
    }

    /// Both threads may have something to do.
    fn poke(&mut self, now: Instant) {
        self.busy = [true; 2];
        let (fib, rib) = (self.soon(now), self.soon(now));
        self.schedule_fib(fib);
        self.schedule_rib(rib);
    }

    /// Ends in order, as `Supervisor::shut_down` does it, or at once.
    pub(crate) fn end(mut self, now: Instant, in_order: bool, out: &mut Outbox) {
        if in_order {
            self.orders.close();
            while self.fib.turn(now) == Some(now) {}
            for at in 0..self.peers.len() {
                self.bfd(now, at, BfdInput::AdminDown(true), out);
                self.input(now, at, Input::Leave, out);
            }
        }
        // The kernel closes what is open.
        for peer in &mut self.peers {
            for (connection, _) in peer.connections.values_mut() {
                let mut segments = Vec::new();
                connection.pump(now, &mut segments);
                segments.push(Segment::Reset);
                let packets = segments.into_iter().map(|segment| (peer.link, Packet::Tcp(connection.key, segment)));
                out.packets.extend(packets);
            }
        }
    }
}
