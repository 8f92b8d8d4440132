//! The loop of the BFD thread.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    io,
    net::IpAddr,
    sync::{Arc, mpsc},
    time::{Duration, Instant, SystemTime},
};

use bfd::{Demux, Input, Output, Packet, Peer, Session, State};
use net_types::IfName;
use rand::{SeedableRng, rngs::StdRng};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
};
use sys::sched;
use telemetry::LogLimit;
use tracing::{debug, info, warn};

use super::{
    Change, Command, Wanted,
    echo::Reflector,
    link::{Ear, Mouth},
    ready::{Key, Ready, Source},
};
use crate::show::view;

/// Among real-time threads: above none that matter to the kernel.
const PRIORITY: u8 = 10;
/// Where that is not allowed.
const NICE: i8 = -15;
/// Waking so much later than asked for is a stall of this host, which is no fault of any peer. Less makes no difference to
/// the shortest detection times in use.
const STALL: Duration = Duration::from_millis(3);
/// How far ahead timers are served once one is due; whether a session sends so early is its own matter.
const SOON: Duration = Duration::from_millis(5);
/// Between attempts to open sockets on an interface that was not ready.
const REOPEN: Duration = Duration::from_secs(1);

static STRANGE: LogLimit = LogLimit::new(5, Duration::from_secs(60));
static STALLS: LogLimit = LogLimit::new(5, Duration::from_secs(60));

/// A session with all that belongs to it.
struct Running {
    wanted: Wanted,
    session: Session,
    mouth: Option<Mouth>,
    /// Where Echo packets can be sent, which is on tunnels.
    reflector: Option<Arc<Reflector>>,
    /// When it is in the agenda.
    due: Option<Instant>,
    changed_at: SystemTime,
}

pub(super) struct Worker {
    commands: mpsc::Receiver<Command>,
    bell: Arc<OwnedFd>,
    changed: Box<dyn FnMut(Change) + Send>,
    sessions: BTreeMap<Peer, Running>,
    demux: Demux<Peer>,
    ears: BTreeMap<Key, Ear>,
    /// On tunnels whose sessions send Echo packets; none where a link is no tunnel.
    reflectors: BTreeMap<Key, Option<Arc<Reflector>>>,
    /// Says which sockets have something: there may be hundreds, and each packet wakes the thread.
    ready: Ready,
    agenda: BTreeSet<(Instant, Peer)>,
    /// Sockets that could not be opened are tried again then.
    reopen_at: Option<Instant>,
    random: StdRng,
    /// Somebody has a command.
    rung: bool,
    open: bool,
}

impl Worker {
    pub(super) fn new(
        commands: mpsc::Receiver<Command>,
        bell: Arc<OwnedFd>,
        changed: Box<dyn FnMut(Change) + Send>,
    ) -> io::Result<Self> {
        let ready = Ready::new(&bell)?;
        Ok(Self {
            commands,
            ready,
            bell,
            changed,
            sessions: BTreeMap::new(),
            demux: Demux::default(),
            ears: BTreeMap::new(),
            reflectors: BTreeMap::new(),
            agenda: BTreeSet::new(),
            reopen_at: None,
            random: StdRng::from_os_rng(),
            rung: false,
            open: true,
        })
    }

    pub(super) fn run(mut self) {
        prefer_this_thread();
        while self.open {
            let late = self.wait();
            for source in self.ready.take() {
                match source {
                    Source::Bell => self.rung = true,
                    Source::Ear(key) => self.hear(key),
                    Source::Reflector(key) => self.hear_echoes(key),
                }
            }
            if late >= STALL {
                self.excuse(late);
            }
            self.serve_timers();
            self.serve_commands();
        }
    }

    /// Waits for packets, commands or the next deadline; how late it was when that was over.
    fn wait(&self) -> Duration {
        let due = self.agenda.first().map(|(at, _)| *at);
        let next = [due, self.reopen_at].into_iter().flatten().min();
        let patience = next.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = patience.map(|patience| Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        });
        // The set of sockets is asked by way of `poll`, whose timeout is finer than its own milliseconds.
        match poll(&mut [PollFd::new(&self.ready, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => warn!(%error, "waiting for BFD packets failed"),
        }
        next.map_or(Duration::ZERO, |at| Instant::now().saturating_duration_since(at))
    }

    /// This thread did not run when it was to. What peers have sent meanwhile may be stuck elsewhere in this host, in a
    /// process that did not run either.
    fn excuse(&mut self, late: Duration) {
        if let Some(left_out) = STALLS.admit(Instant::now()) {
            debug!(late_us = late.as_micros() as u64, left_out, "this host stalled; no BFD peer is blamed for it");
        }
        for running in self.sessions.values_mut() {
            running.input(Input::Stalled(late), &mut self.random, &mut self.changed);
            running.reschedule(&mut self.agenda);
        }
    }

    fn hear(&mut self, key: Key) {
        let Self { ears, sessions, demux, random, changed, agenda, .. } = self;
        let Some(ear) = ears.get_mut(&key) else { return };
        let strangers = ear.hear(|from, ttl, octets| {
            let packet = match Packet::parse(octets) {
                Ok(packet) => packet,
                Err(error) => {
                    if let Some(left_out) = STRANGE.admit(Instant::now()) {
                        debug!(peer = %from.address, %error, left_out, "a BFD packet was discarded");
                    }
                    return;
                }
            };
            let Some(running) = demux.find(&from, &packet).and_then(|peer| sessions.get_mut(&peer)) else {
                return;
            };
            if ttl < running.wanted.minimum_ttl {
                return; // RFC 5883 §5: from further away than the peer can be
            }
            running.input(Input::Received(&packet), random, changed);
            running.reschedule(agenda);
        });
        if strangers > 0
            && let Some(left_out) = STRANGE.admit(Instant::now())
        {
            debug!(strangers, left_out, "BFD packets were discarded that did not come from this link (TTL)");
        }
    }

    /// Where Echo packets are to be sent; what could not be opened is given back.
    fn open_reflectors(&mut self) -> Option<(Option<IfName>, io::Error)> {
        let Self { sessions, reflectors, ready, random, changed, agenda, .. } = self;
        let needed: BTreeSet<_> = sessions
            .values()
            .filter(|running| running.wants_echo())
            .map(|running| ear_of(&running.wanted.peer))
            .collect();
        reflectors.retain(|key, _| needed.contains(key));
        let mut failed = None;
        for running in sessions.values_mut() {
            let key = ear_of(&running.wanted.peer);
            if !needed.contains(&key) {
                running.reflector = None;
                continue;
            }
            if let Entry::Vacant(place) = reflectors.entry(key) {
                let opened = Reflector::open(key.ifindex, key.family()).and_then(|found| match found {
                    Some(found) => ready.watch(&found, Source::Reflector(key)).map(|()| Some(found)),
                    None => Ok(None),
                });
                match opened {
                    Ok(found) => {
                        if found.is_none() {
                            let interface = running.wanted.interface.as_ref().map(tracing::field::display);
                            warn!(
                                interface,
                                "BFD Echo packets are sent by tunnels only; this link has hardware addresses"
                            );
                        }
                        place.insert(found.map(Arc::new));
                    }
                    Err(error) => failed = Some((running.wanted.interface.clone(), error)),
                }
            }
            running.reflector = reflectors.get(&key).cloned().flatten();
            // No change to a session that has it already.
            running.input(Input::Reconfigure(running.config()), random, changed);
            running.reschedule(agenda);
        }
        failed
    }

    fn hear_echoes(&mut self, key: Key) {
        let Self { reflectors, sessions, demux, random, changed, agenda, .. } = self;
        let Some(reflector) = reflectors.get(&key).cloned().flatten() else { return };
        reflector.hear(|packet| {
            if let Some(running) = demux.find_echo(key.ifindex, &packet).and_then(|peer| sessions.get_mut(&peer)) {
                running.input(Input::Returned(packet), random, changed);
                running.reschedule(agenda);
            }
        });
    }

    fn serve_timers(&mut self) {
        let now = Instant::now();
        if self.agenda.first().is_some_and(|(at, _)| *at <= now) {
            // Awake for one, others are served that may send by now: one wake-up for several, on this host and at the far end.
            let soon: Vec<Peer> =
                self.agenda.iter().take_while(|(at, _)| *at <= now + SOON).map(|(_, peer)| *peer).collect();
            for peer in soon {
                if let Some(running) = self.sessions.get_mut(&peer) {
                    running.input(Input::Timeout, &mut self.random, &mut self.changed);
                    running.reschedule(&mut self.agenda);
                }
            }
        }
        if self.reopen_at.is_some_and(|at| at <= now) {
            self.open_sockets();
        }
    }

    fn serve_commands(&mut self) {
        if !std::mem::take(&mut self.rung) {
            return;
        }
        // What is sent after this rings again.
        if let Err(error) = rustix::io::read(&*self.bell, &mut [0; 8]) {
            warn!(%error, "the bell of the BFD thread cannot be read");
        }
        loop {
            match self.commands.try_recv() {
                Ok(Command::Sessions(wanted)) => self.set_sessions(wanted),
                Ok(Command::Snapshot(tell)) => {
                    // Whoever asked may have gone.
                    let _ = tell.send(self.sessions.values().map(Running::view).collect());
                }
                Ok(Command::Close) => {
                    self.set_sessions(Vec::new());
                    self.open = false;
                }
                Err(mpsc::TryRecvError::Empty) => return,
                Err(mpsc::TryRecvError::Disconnected) => {
                    self.open = false;
                    return;
                }
            }
        }
    }

    fn set_sessions(&mut self, wanted: Vec<Wanted>) {
        let wanted: BTreeMap<Peer, Wanted> = wanted.into_iter().map(|wanted| (wanted.peer, wanted)).collect();
        let gone: Vec<Peer> = self.sessions.keys().filter(|peer| !wanted.contains_key(*peer)).copied().collect();
        for peer in gone {
            self.end(&peer);
        }
        for wanted in wanted.into_values() {
            match self.sessions.get_mut(&wanted.peer) {
                Some(running) if running.wanted == wanted => {}
                Some(running) => {
                    running.change(wanted, &mut self.random, &mut self.changed);
                    running.reschedule(&mut self.agenda);
                }
                None => self.begin(wanted),
            }
        }
        self.open_sockets();
    }

    fn begin(&mut self, wanted: Wanted) {
        let peer = wanted.peer;
        let Some(discriminator) = self.demux.insert(peer, peer, &mut self.random) else { return };
        let session = Session::new(Instant::now(), discriminator, without_echo(wanted.config));
        let admin_down = wanted.admin_down;
        let changed_at = SystemTime::now();
        let mut running = Running { wanted, session, mouth: None, reflector: None, due: None, changed_at };
        if admin_down {
            running.input(Input::AdminDown(true), &mut self.random, &mut self.changed);
        }
        running.reschedule(&mut self.agenda);
        self.sessions.insert(peer, running);
    }

    /// The last packet says that we leave on purpose, so that the peer does not take it for a fault of the path.
    fn end(&mut self, peer: &Peer) {
        self.demux.remove(peer);
        let Some(mut running) = self.sessions.remove(peer) else { return };
        if let Some(due) = running.due {
            self.agenda.remove(&(due, *peer));
        }
        running.input(Input::AdminDown(true), &mut self.random, &mut |_| {});
    }

    fn open_sockets(&mut self) {
        self.reopen_at = None;
        let needed: BTreeMap<Key, Option<IfName>> =
            self.sessions.iter().map(|(peer, running)| (ear_of(peer), running.wanted.interface.clone())).collect();
        self.ears.retain(|ear, _| needed.contains_key(ear));
        let mut failed = None;
        for (key, interface) in needed {
            if self.ears.contains_key(&key) {
                continue;
            }
            let opened = Ear::open(interface.as_ref(), key.ifindex, key.family())
                .and_then(|ear| self.ready.watch(&ear, Source::Ear(key)).map(|()| ear));
            match opened {
                Ok(ear) => {
                    self.ears.insert(key, ear);
                }
                Err(error) => failed = Some((interface, error)),
            }
        }
        for running in self.sessions.values_mut().filter(|running| running.mouth.is_none()) {
            match Mouth::open(&running.wanted, &mut self.random) {
                Ok(mouth) => running.mouth = Some(mouth),
                Err(error) => failed = Some((running.wanted.interface.clone(), error)),
            }
        }
        failed = self.open_reflectors().or(failed);
        if let Some((interface, error)) = failed {
            self.reopen_at = Some(Instant::now() + REOPEN);
            if let Some(left_out) = STRANGE.admit(Instant::now()) {
                let interface = interface.as_ref().map(tracing::field::display);
                warn!(interface, %error, left_out, "BFD cannot use the interface; trying again");
            }
        }
    }
}

fn without_echo(config: bfd::Config) -> bfd::Config {
    bfd::Config { desired_min_echo_tx: Duration::ZERO, ..config }
}

fn ear_of(peer: &Peer) -> Key {
    Key { ifindex: peer.ifindex, v4: peer.address.is_ipv4() }
}

impl Running {
    fn input(&mut self, input: Input<'_>, random: &mut StdRng, changed: &mut dyn FnMut(Change)) {
        let at = Instant::now();
        for output in self.session.handle_input(at, input, random) {
            match output {
                Output::Changed { from, to, cause } => {
                    self.changed_at = SystemTime::now();
                    let Wanted { neighbor, peer, ref interface, .. } = self.wanted;
                    let interface = interface.clone();
                    let independent = self.session.remote_is_independent();
                    changed(Change { neighbor, peer, interface, from, to, cause, independent, at });
                    let interface = self.wanted.interface.as_ref().map(tracing::field::display);
                    info!(peer = %peer.address, interface, %from, %to, %cause, "BFD session changed state");
                }
                Output::SendEcho(octets) => {
                    let local = self.wanted.local.or_else(|| self.mouth.as_ref()?.local());
                    if let (Some(reflector), Some(local)) = (&self.reflector, local) {
                        reflector.send(local, &octets);
                    }
                }
                Output::Send(octets) => {
                    if self.mouth.is_none() {
                        self.mouth = Mouth::open(&self.wanted, random).ok();
                    }
                    // The interface may have gone, or lost our address: the next packet tries with a new socket.
                    self.mouth = self.mouth.take().filter(|mouth| mouth.say(&octets));
                }
            }
        }
    }

    /// What is addressed to a link-local address is not forwarded, so it does not come back (RFC 4291 §2.5.6); nor does what
    /// several hops lie between (RFC 5883 §3).
    fn wants_echo(&self) -> bool {
        let Peer { address, .. } = self.wanted.peer;
        let stays_on_the_link = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        !self.wanted.config.desired_min_echo_tx.is_zero() && !self.wanted.peer.is_multihop() && !stays_on_the_link
    }

    fn change(&mut self, wanted: Wanted, random: &mut StdRng, changed: &mut dyn FnMut(Change)) {
        let moved = (&wanted.interface, wanted.local) != (&self.wanted.interface, self.wanted.local);
        let before = std::mem::replace(&mut self.wanted, wanted);
        if moved {
            self.mouth = None;
        }
        if before.config != self.wanted.config {
            self.input(Input::Reconfigure(self.config()), random, changed);
        }
        if before.admin_down != self.wanted.admin_down {
            self.input(Input::AdminDown(self.wanted.admin_down), random, changed);
        }
    }

    /// What the session is to be like with the sockets that there are.
    fn config(&self) -> bfd::Config {
        if self.reflector.is_some() { self.wanted.config } else { without_echo(self.wanted.config) }
    }

    fn reschedule(&mut self, agenda: &mut BTreeSet<(Instant, Peer)>) {
        let next = self.session.poll_timeout();
        if next == self.due {
            return;
        }
        if let Some(due) = self.due {
            agenda.remove(&(due, self.wanted.peer));
        }
        self.due = next;
        agenda.extend(next.map(|at| (at, self.wanted.peer)));
    }

    fn view(&self) -> view::Bfd {
        let (local, remote) = self.session.discriminators();
        let (remote_tx, remote_rx, multiplier) = self.session.remote_timers().unwrap_or_default();
        let statistics = self.session.statistics();
        let config = self.session.config();
        view::Bfd {
            peer: self.wanted.peer.address,
            local: self.wanted.local.or_else(|| self.mouth.as_ref()?.local()),
            multihop: self.wanted.peer.is_multihop(),
            minimum_ttl: self.wanted.minimum_ttl,
            passive: config.passive,
            interface: self.wanted.interface.clone(),
            local_discriminator: local.get(),
            remote_discriminator: remote.map_or(0, std::num::NonZeroU32::get),
            status: status(self.session.state()),
            since: self.changed_at,
            diagnostic: self.session.diagnostic().to_string(),
            remote_diagnostic: self.session.remote_diagnostic().to_string(),
            receive_interval: config.required_min_rx,
            transmit_interval: config.desired_min_tx,
            detect_multiplier: config.detect_multiplier,
            echo_receive_interval: config.required_min_echo_rx,
            echo_transmit_interval: self.session.echo_interval(),
            echo_heard: self.session.echo_is_heard(),
            echo_packets: (statistics.echo_received, statistics.echo_sent),
            round_trip: self.session.round_trip(),
            jitter: self.session.jitter(),
            adapt_up_to: config.adapt_up_to,
            transmit_interval_in_use: self.session.transmit_interval(),
            detection_time: self.session.detection_time(),
            remote_echo_receive_interval: self.session.remote_echo(),
            remote_receive_interval: remote_rx,
            remote_transmit_interval: remote_tx,
            remote_detect_multiplier: multiplier,
            packets: (statistics.received, statistics.sent),
            changes: (statistics.ups, statistics.downs),
        }
    }
}

fn status(state: State) -> &'static str {
    match state {
        State::AdminDown => "shutdown",
        State::Down => "down",
        State::Init => "init",
        State::Up => "up",
    }
}

/// A late packet ends sessions, so this thread goes before all others of this machine that are not as urgent.
fn prefer_this_thread() {
    let real_time: io::Result<()> = sched::set_fifo(PRIORITY);
    if let Err(error) = real_time {
        match sched::set_nice(NICE) {
            Ok(()) => info!(%error, "BFD may not run in real time (CAP_SYS_NICE); it runs at nice {NICE}"),
            Err(nice) => warn!(
                %error, %nice,
                "BFD gets no priority over other programs: give bgpd CAP_SYS_NICE, or choose intervals of 100 ms and more"
            ),
        }
    }
}
