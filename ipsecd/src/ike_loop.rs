//! Between the IKE engine and the world: what the engine asks for is done here, in its order.
//!
//! No protocol lives in this file. It translates: keys and selectors into associations of the packet path, states into
//! what subscribers see, events into log lines.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use dataplane::{Dataplane, IkeDatagram, Limits, NewInbound, NewOutbound};
use esp::Keymat;
use ike_core::{ConnectionConfig, DownCause, EngineConfig, Event, Ike, Input, InstallChild, Output, Path};
use ike_crypto::CrashTokenSecret;
use ike_wire::TrafficSelector;
use net_types::{Prefix, Spi, TunnelName, WanName};
use rand::{SeedableRng, rngs::StdRng};
use rpc::TunnelState;
use telemetry::LogLimit;

use crate::{
    selectors,
    state::{ChildSa, IkeSa, Stamped, State},
    suites::packet_cipher,
    trust::Asker,
};

/// Between two questions to the packet path what it has received, which cost as much as there are tunnels. A peer may be
/// asked whether it lives although it has sent something within this time.
const ASK_APART: Duration = Duration::from_millis(50);
/// How long a replaced inbound association is still accepted: packets of the peer may be on the way in its name.
const GRACE: Duration = Duration::from_secs(2);
/// Lines that any stranger can cause.
static STRANGERS: LogLimit = LogLimit::new(20, Duration::from_secs(5));

/// The engine with what it drives.
pub(crate) struct IkeLoop {
    engine: Ike,
    dataplane: Arc<dyn Dataplane>,
    state: State,
    asker: Asker,
    /// When the packet path was last asked what it has received.
    asked_at: Option<Instant>,
    tunnels: BTreeMap<TunnelName, TunnelFacts>,
    /// The link that a tunnel goes over, or went over last.
    moved: BTreeMap<TunnelName, WanName>,
    /// What the child SA in use carries on the peer's side, of tunnels that have one.
    carried: BTreeMap<TunnelName, Vec<Prefix>>,
    /// By inbound SPI.
    children: BTreeMap<Spi, Child>,
    /// Replaced inbound associations, and when they end.
    retiring: Vec<(Instant, Spi)>,
}

/// What the engine does not care about, but subscribers and the packet path do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TunnelFacts {
    pub(crate) wan: WanName,
    pub(crate) ifindex: u32,
    pub(crate) mtu: u16,
    pub(crate) addresses: Vec<IpAddr>,
    /// Who seals and opens its packets.
    pub(crate) datapath: dataplane::Datapath,
    /// Octets after which a child SA is replaced.
    pub(crate) child_octets: Option<u64>,
    /// Packets after which a child SA is replaced.
    pub(crate) child_packets: Option<u64>,
}

struct Child {
    tunnel: TunnelName,
    spi_out: Spi,
    /// What it carries on the peer's side and can be routed.
    carries: Vec<Prefix>,
    /// The sending half, until the peer is known to accept it.
    staged: Option<NewOutbound>,
    /// When the engine was last told that the peer's packets arrive.
    told: Option<Instant>,
    /// How many packets had been sent when that was last looked at, and when it was.
    sent: (u64, Instant),
}

impl IkeLoop {
    pub(crate) fn new(now: Instant, dataplane: Arc<dyn Dataplane>, state: State, asker: Asker) -> Self {
        let rng = Box::new(StdRng::from_os_rng());
        Self {
            engine: Ike::new(now, since_1970(), EngineConfig::default(), rng),
            dataplane,
            state,
            asker,
            asked_at: None,
            tunnels: BTreeMap::new(),
            moved: BTreeMap::new(),
            carried: BTreeMap::new(),
            children: BTreeMap::new(),
            retiring: Vec::new(),
        }
    }

    /// Peers are given crash tokens from now on.
    pub(crate) fn set_crash_token_secret(&mut self, secret: CrashTokenSecret) {
        self.engine.set_crash_token_secret(secret);
    }

    /// Takes up tunnels and how to reach their peers; facts of a tunnel must come with its connection.
    pub(crate) fn configure(
        &mut self,
        now: Instant,
        tunnels: BTreeMap<TunnelName, TunnelFacts>,
        connections: Vec<ConnectionConfig>,
    ) {
        self.moved.retain(|tunnel, _| tunnels.contains_key(tunnel));
        self.tunnels = tunnels;
        self.handle(now, Input::Reconfigure(connections));
        // What changed beside the connection itself, such as an address, is told as well.
        for tunnel in self.tunnels.keys() {
            if self.is_up(tunnel) {
                self.publish_up(tunnel);
            }
        }
    }

    /// Hands an input to the engine and does what comes out.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        for output in self.engine.handle_input(now, input) {
            self.perform(now, output);
        }
    }

    pub(crate) fn datagram(&mut self, now: Instant, datagram: IkeDatagram) {
        let IkeDatagram { wan, local, remote, message } = datagram;
        let natt = local.port() == EngineConfig::default().natt_port;
        let path = Path { wan, local, remote, natt };
        self.handle(now, Input::Datagram { path, bytes: Bytes::from(message) });
    }

    /// A tunnel carries other sizes than before.
    pub(crate) fn set_mtu(&mut self, tunnel: &TunnelName, mtu: u16) {
        let Some(facts) = self.tunnels.get_mut(tunnel) else { return };
        facts.mtu = mtu;
        if self.is_up(tunnel) {
            self.publish_up(tunnel);
        }
    }

    /// What packet threads have to tell.
    pub(crate) fn packet_event(&mut self, now: Instant, event: dataplane::Event) {
        match event {
            dataplane::Event::Lifetime { tunnel, spi, direction, limit } => {
                let spi_in = match direction {
                    dataplane::Direction::Inbound => Some(spi),
                    dataplane::Direction::Outbound => {
                        let child =
                            self.children.iter().find(|(_, child)| (&child.tunnel, child.spi_out) == (&tunnel, spi));
                        child.map(|(spi_in, _)| *spi_in)
                    }
                };
                if let Some(spi_in) = spi_in {
                    self.handle(now, Input::ChildLimit { spi_in, hard: limit == dataplane::Limit::Hard });
                }
            }
            dataplane::Event::UnknownSpi { spi, path } => {
                if STRANGERS.admit(now).is_some() {
                    tracing::debug!(spi = format_args!("{spi:#010x}"), remote = %path.remote, wan = %path.wan, "ESP for an unknown SPI");
                }
                let path = Path { natt: true, wan: path.wan, local: path.local, remote: path.remote };
                self.handle(now, Input::UnknownSpi { spi, path });
            }
            dataplane::Event::PathMtu { .. } => {} // the daemon's own affair
            dataplane::Event::PeerMoved { tunnel, spi, path } => {
                tracing::debug!(%tunnel, %spi, remote = %path.remote, wan = %path.wan, "the peer's packets come from another address");
                let path = Path { natt: true, wan: path.wan, local: path.local, remote: path.remote };
                self.handle(now, Input::InboundFrom { spi_in: spi, path });
            }
        }
    }

    /// When to call [`Self::tick`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let retiring = self.retiring.iter().map(|(at, _)| *at).min();
        [self.engine.poll_timeout(), retiring].into_iter().flatten().min()
    }

    /// Serves what is due. The engine first learns whose packets have arrived: a peer that sends needs no question
    /// whether it lives.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.retiring.retain(|(at, spi)| {
            let due = *at <= now;
            if due {
                self.dataplane.remove_inbound(*spi);
            }
            !due
        });
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            if self.asked_at.is_none_or(|at| now.saturating_duration_since(at) >= ASK_APART) {
                self.asked_at = Some(now);
                self.tell_what_was_seen(now);
            }
            self.handle(now, Input::Timeout);
        }
    }

    /// Whether every peer has answered the farewell.
    pub(crate) fn is_idle(&self) -> bool {
        self.engine.is_idle()
    }

    fn tell_what_was_seen(&mut self, now: Instant) {
        let mut seen = Vec::new();
        let stats = self.dataplane.stats();
        for sa in stats.tunnels.iter().flat_map(|tunnel| &tunnel.inbound) {
            let at = sa.idle.and_then(|idle| now.checked_sub(idle));
            if let (Some(at), Some(child)) = (at, self.children.get_mut(&sa.spi))
                && child.told.is_none_or(|told| told < at)
            {
                child.told = Some(at);
                seen.push((sa.spi, at));
            }
        }
        for (spi_in, at) in seen {
            self.handle(now, Input::InboundSeen { spi_in, at });
        }
        let outbound: HashMap<_, _> = stats
            .tunnels
            .iter()
            .flat_map(|tunnel| tunnel.outbound.iter().map(|sa| ((&tunnel.tunnel, sa.spi), sa.packets)))
            .collect();
        let mut sent = Vec::new();
        for (spi_in, child) in &mut self.children {
            let packets = outbound.get(&(&child.tunnel, child.spi_out)).copied().unwrap_or_default();
            let (before, since) = std::mem::replace(&mut child.sent, (packets, now));
            if packets > before {
                sent.push((*spi_in, since));
            }
        }
        for (spi_in, since) in sent {
            self.handle(now, Input::OutboundSeen { spi_in, since });
        }
    }

    fn perform(&mut self, now: Instant, output: Output) {
        match output {
            Output::Send { path, bytes } => {
                if let Err(error) = self.dataplane.send_ike(&path.wan, path.local, path.remote, &bytes) {
                    tracing::debug!(%error, "an IKE message was not sent; it will be repeated");
                }
            }
            Output::NatKeepalive { path } => {
                if let Err(error) = self.dataplane.send_keepalive(&packet_path(&path)) {
                    tracing::debug!(%error, "a NAT keepalive was not sent");
                }
            }
            Output::InstallChild(child) => self.install(now, *child),
            Output::UseOutbound { tunnel, spi_in } => self.use_outbound(&tunnel, spi_in),
            Output::MoveChild { tunnel, path, .. } => {
                if let Err(error) = self.dataplane.set_path(&tunnel, packet_path(&path)) {
                    tracing::error!(%tunnel, %error, "the tunnel cannot follow its peer");
                }
            }
            Output::RemoveChild { tunnel, spi_in, spi_out } => self.remove(now, &tunnel, spi_in, spi_out),
            Output::TunnelUp { tunnel, path } => self.up(&tunnel, &path),
            Output::TunnelDown { tunnel, cause } => self.publish_down(&tunnel, &cause),
            Output::AskStatus(query) => self.asker.ask(*query),
            Output::Event(event) => self.event(now, &event),
        }
    }

    fn install(&mut self, now: Instant, child: InstallChild) {
        let InstallChild { tunnel, spi_in, spi_out, keys, local_ts, remote_ts, path, encapsulated, .. } = child;
        let suite = keys.suite;
        let cipher = packet_cipher(suite.cipher);
        let keymat = |octets: ike_crypto::SecretBytes| Keymat::new(cipher, octets.into_inner());
        let (inbound, outbound) = match (keymat(keys.inbound), keymat(keys.outbound)) {
            (Ok(inbound), Ok(outbound)) => (inbound, outbound),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%tunnel, %error, "the child SA cannot be installed");
                return;
            }
        };
        let selectors = selectors::of_packets(&local_ts, &remote_ts);
        let limits = self.tunnels.get(&tunnel).map_or_else(Limits::default, limits);
        let path = packet_path(&path);
        let sa = NewInbound {
            spi: spi_in,
            keymat: inbound,
            esn: suite.esn,
            selectors: selectors.clone(),
            path: path.clone(),
            encapsulated,
            limits,
        };
        if let Err(error) = self.dataplane.add_inbound(&tunnel, sa) {
            tracing::error!(%tunnel, %error, "the child SA cannot be installed");
            return;
        }
        let staged =
            NewOutbound { spi: spi_out, keymat: outbound, esn: suite.esn, selectors, path, encapsulated, limits };
        let (carries, left_out) = selectors::routable(&remote_ts);
        if left_out > 0 {
            tracing::warn!(%tunnel, left_out, "the peer's traffic selectors come to more prefixes than are told for routing");
        }
        let known =
            Child { tunnel: tunnel.clone(), spi_out, carries, staged: Some(staged), told: None, sent: (0, now) };
        self.children.insert(spi_in, known);
        let text = |side: &[TrafficSelector]| side.iter().map(ToString::to_string).collect();
        let shown = ChildSa {
            spi_in,
            spi_out,
            suite: suite.to_string(),
            local_selectors: text(&local_ts),
            remote_selectors: text(&remote_ts),
            in_use: false,
            since: SystemTime::now(),
        };
        self.state.edit(&tunnel, |detail| detail.children.push(shown));
    }

    fn use_outbound(&mut self, tunnel: &TunnelName, spi_in: Spi) {
        let Some(child) = self.children.get_mut(&spi_in) else { return };
        // A pair may be taken up again: the one that replaced it was a duplicate, or came to nothing.
        let switched = match child.staged.take() {
            Some(staged) => self.dataplane.add_outbound(tunnel, staged),
            None => self.dataplane.use_outbound(tunnel, child.spi_out),
        };
        if let Err(error) = switched {
            tracing::error!(%tunnel, %error, "the tunnel cannot send");
            return;
        }
        let before = self.carried.insert(tunnel.clone(), child.carries.clone());
        if before.as_ref() != Some(&child.carries) && self.is_up(tunnel) {
            self.publish_up(tunnel); // the pair that it replaces carried something else
        }
        self.state.edit(tunnel, |detail| {
            for child in &mut detail.children {
                child.in_use = child.spi_in == spi_in;
            }
        });
    }

    /// The sending half ends at once. The receiving half of a replaced pair stays a little: a packet on the way when the
    /// peer switched is not lost.
    fn remove(&mut self, now: Instant, tunnel: &TunnelName, spi_in: Spi, spi_out: Spi) {
        self.children.remove(&spi_in);
        self.dataplane.remove_outbound(tunnel, spi_out);
        if self.children.values().any(|child| child.tunnel == *tunnel) {
            self.retiring.push((now + GRACE, spi_in));
        } else {
            self.dataplane.remove_inbound(spi_in);
            self.carried.remove(tunnel);
        }
        self.state.edit(tunnel, |detail| detail.children.retain(|child| child.spi_in != spi_in));
    }

    /// It carries traffic, or goes on doing so by another path.
    fn up(&mut self, tunnel: &TunnelName, path: &Path) {
        let was_up = self.is_up(tunnel);
        self.moved.insert(tunnel.clone(), path.wan.clone());
        self.publish_up(tunnel);
        if was_up {
            return tracing::info!(%tunnel, %path, "tunnel goes by another path");
        }
        tracing::info!(%tunnel, %path, "tunnel is up");
        self.state.edit(tunnel, |detail| detail.times_up += 1);
    }

    /// As its IKE SA has it.
    fn is_up(&self, tunnel: &TunnelName) -> bool {
        matches!(self.state.negotiated(tunnel), Some(TunnelState::Up { .. }))
    }

    fn publish_up(&self, tunnel: &TunnelName) {
        let Some(facts) = self.tunnels.get(tunnel) else { return };
        let selectors = self.carried.get(tunnel).cloned().unwrap_or_default();
        let state = TunnelState::Up { mtu: u32::from(facts.mtu), addresses: facts.addresses.clone(), selectors };
        self.state.publish(tunnel, self.moved.get(tunnel).unwrap_or(&facts.wan), facts.ifindex, state);
    }

    fn publish_down(&self, tunnel: &TunnelName, cause: &DownCause) {
        let Some(facts) = self.tunnels.get(tunnel) else { return };
        let state = match cause {
            DownCause::Starting => TunnelState::Negotiating,
            cause => TunnelState::Down { cause: cause.to_string() },
        };
        self.state.publish(tunnel, self.moved.get(tunnel).unwrap_or(&facts.wan), facts.ifindex, state);
        match cause {
            DownCause::Starting | DownCause::WaitingForPeer | DownCause::StandingBy | DownCause::AddressAway(_) => {
                tracing::info!(%tunnel, %cause, "tunnel is not up")
            }
            DownCause::AdminDown | DownCause::Reconfigured => tracing::info!(%tunnel, %cause, "tunnel is down"),
            cause => {
                tracing::warn!(%tunnel, %cause, "tunnel is down");
                self.note(tunnel, &cause.to_string());
            }
        }
    }

    /// A line for the log, and for `show`.
    fn event(&self, now: Instant, event: &Event) {
        match event {
            Event::Refused { tunnel: None, .. } => {
                if let Some(left_out) = STRANGERS.admit(now) {
                    tracing::warn!(left_out, "{event}");
                }
            }
            Event::Refused { tunnel: Some(tunnel), why, .. } => {
                if let Some(left_out) = STRANGERS.admit(now) {
                    tracing::warn!(left_out, "{event}");
                }
                self.note(tunnel, &why.to_string());
            }
            Event::Unreachable { tunnel, .. } | Event::RekeyDelayed { tunnel, .. } => {
                tracing::warn!("{event}");
                self.note(tunnel, &event.to_string());
            }
            Event::IkeEstablished { tunnel, remote, peer, initiated, spis, suite } => {
                tracing::info!("{event}");
                let sa = IkeSa {
                    spis: *spis,
                    initiated: *initiated,
                    peer: peer.clone(),
                    remote: *remote,
                    suite: suite.clone(),
                    since: SystemTime::now(),
                    rekeyed: None,
                };
                self.state.edit(tunnel, |detail| detail.ike = Some(sa));
            }
            Event::IkeRekeyed { tunnel, old, new } => {
                tracing::info!("{event}");
                self.state.edit(tunnel, |detail| {
                    detail.ike_rekeys += 1;
                    if let Some(ike) = detail.ike.as_mut().filter(|ike| ike.spis == *old) {
                        (ike.spis, ike.rekeyed) = (*new, Some(SystemTime::now()));
                    }
                });
            }
            Event::IkeClosed { tunnel, spis, cause } => {
                tracing::info!("{event}");
                self.state.edit(tunnel, |detail| {
                    detail.peer_restarts += u64::from(*cause == DownCause::PeerRestarted);
                    detail.ike.take_if(|ike| ike.spis == *spis);
                });
            }
            Event::ChildInstalled { tunnel, replaces, .. } => {
                tracing::info!("{event}");
                self.state.edit(tunnel, |detail| detail.child_rekeys += u64::from(replaces.is_some()));
            }
            Event::PeerMoved { tunnel, to, .. } => {
                tracing::info!("{event}");
                self.state.edit(tunnel, |detail| {
                    detail.moves += 1;
                    if let Some(ike) = &mut detail.ike {
                        ike.remote = *to;
                    }
                });
            }
            Event::Reauthenticated { tunnel, .. } => {
                tracing::info!("{event}");
                self.state.edit(tunnel, |detail| detail.ike_reauths += 1);
            }
            Event::PathChanged { tunnel, .. } => {
                tracing::info!("{event}");
                self.state.edit(tunnel, |detail| detail.moves += 1);
            }
            Event::DuplicateClosed { tunnel, closed, kept } => {
                tracing::info!("{event}");
                self.state.edit(tunnel, |detail| {
                    if let Some(ike) = detail.ike.as_mut().filter(|ike| ike.spis == *closed) {
                        ike.spis = *kept;
                    }
                });
            }
            Event::Wan { .. } => tracing::info!("{event}"),
            Event::CookiesRequired(_) => tracing::warn!("{event}"),
        }
    }

    fn note(&self, tunnel: &TunnelName, what: &str) {
        let error = Stamped { at: SystemTime::now(), value: what.to_owned() };
        self.state.edit(tunnel, |detail| detail.last_error = Some(error));
    }
}

/// The wall clock, for certificates.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// The packet path sends ESP in UDP from port 4500; IKE may still be on 500 when the child is made. Plain ESP has no ports.
fn packet_path(path: &Path) -> dataplane::Path {
    let natt = EngineConfig::default();
    let on_4500 = |address: SocketAddr| match address.port() {
        port if port == natt.ike_port => SocketAddr::new(address.ip(), natt.natt_port),
        _ => address,
    };
    dataplane::Path { wan: path.wan.clone(), local: on_4500(path.local), remote: on_4500(path.remote) }
}

/// Ask for new keys at the configured volume less up to a tenth by chance, so that both ends rarely ask at once; stop a
/// quarter beyond it: a rekey takes a few round trips.
fn limits(facts: &TunnelFacts) -> Limits {
    let soft = |volume: u64| volume - rand::random_range(0..=volume / 10);
    let hard = |volume: u64| volume.saturating_add(volume / 4);
    Limits {
        soft_octets: facts.child_octets.map(soft),
        hard_octets: facts.child_octets.map(hard),
        soft_packets: facts.child_packets.map(soft),
        hard_packets: facts.child_packets.map(hard),
    }
}
