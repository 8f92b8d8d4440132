//! Two engines, a link between them, and a dataplane that only keeps books.
//!
//! The dataplane believes what it is told and checks it: a pair is usable in one direction when the sender's active
//! outbound SA is among the receiver's inbound ones with the same key. Data packets cross the same link as IKE.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod pki;
pub(crate) mod rekeys;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ike_core::{
    ChildMode, Childless, ConnectionConfig, Doubt, DownCause, Dpd, Encapsulation, EngineConfig, Event, Ike, Input,
    InstallChild, Lifetime, Output, Path, Remote, Retry, Role,
};
use ike_crypto::{CrashTokenSecret, LocalCredential, PeerCredential, SecretBytes, StatusQuery};
use ike_wire::{Header, TrafficSelector};
use net_types::{Prefix, Spi, TunnelName, WanName};
use rand::{SeedableRng, rngs::StdRng};
use simnet::{LinkId, Net, NodeId, Payload, Profile, Step};

/// A date in 2026, for certificates.
pub(crate) const TODAY: Duration = Duration::from_secs(1_790_000_000);

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What crosses the link.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// An IKE message from the first address to the second.
    Ike { from: SocketAddr, to: SocketAddr, natt: bool, bytes: Bytes },
    /// A data packet under this SPI, numbered by its sender.
    Esp { spi: Spi, number: u64 },
}

impl Payload for Packet {
    fn octets(&self) -> usize {
        match self {
            Self::Ike { bytes, .. } => bytes.len() + 28,
            Self::Esp { .. } => 100,
        }
    }
}

/// One end.
pub(crate) struct Node {
    pub(crate) ike: Ike,
    pub(crate) id: NodeId,
    pub(crate) address: IpAddr,
    pub(crate) inbound: BTreeMap<Spi, InstallChild>,
    pub(crate) active: Option<Spi>,
    pub(crate) up: bool,
    pub(crate) causes: Vec<DownCause>,
    pub(crate) events: Vec<Event>,
    /// What responders would have been asked.
    pub(crate) asked: Vec<StatusQuery>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) unknown: u64,
    /// Rewrites the source of what leaves, as a NAT does.
    pub(crate) translated: Option<SocketAddr>,
    /// The message sent last.
    pub(crate) said: Option<Bytes>,
    /// Messages handed in, for tests that replay them.
    pub(crate) heard: Vec<(Path, Bytes)>,
    /// What crash tokens are made with; it outlives a restart.
    pub(crate) crash_secret: Option<u8>,
    seed: u64,
    settings: EngineConfig,
    config: Vec<ConnectionConfig>,
}

pub(crate) struct World {
    pub(crate) net: Net<Packet>,
    pub(crate) link: LinkId,
    /// A second link: between the second WAN of node 0 and node 1.
    pub(crate) backup: LinkId,
    pub(crate) nodes: [Node; 2],
    /// Whether IKE_SA_INIT requests are lost on the way.
    pub(crate) refuse_calls: bool,
    /// Which messages to a node are lost on the way.
    pub(crate) lost: Option<fn(&World, usize, &Header) -> bool>,
    /// Whether both ends send data all the time.
    pub(crate) traffic: bool,
    /// Checked after every step.
    pub(crate) invariant: Option<fn(&World)>,
    pub(crate) steps: u64,
    next_traffic: Instant,
    trace: VecDeque<String>,
}

pub(crate) fn wan() -> WanName {
    "isp1".parse().unwrap()
}

/// The second WAN of node 0, and its address there.
pub(crate) fn backup_wan() -> WanName {
    "lte".parse().unwrap()
}

pub(crate) fn backup_address() -> IpAddr {
    IpAddr::from([203, 0, 113, 77])
}

pub(crate) fn tunnel() -> TunnelName {
    "tun1".parse().unwrap()
}

pub(crate) fn address(n: usize) -> IpAddr {
    IpAddr::from([192, 0, 2, n as u8 + 1])
}

pub(crate) fn psk(key: &str) -> (Arc<LocalCredential>, Arc<PeerCredential>) {
    let secret = || SecretBytes::new(key.as_bytes().to_vec());
    (
        Arc::new(LocalCredential::pre_shared_key(secret()).unwrap()),
        Arc::new(PeerCredential::pre_shared_key(secret()).unwrap()),
    )
}

/// The configuration of one end; both initiate.
pub(crate) fn config(n: usize) -> ConnectionConfig {
    let (local_credential, remote_credential) = psk("correct horse battery staple");
    let any =
        vec![TrafficSelector::from_prefix(&Prefix::DEFAULT_V4), TrafficSelector::from_prefix(&Prefix::DEFAULT_V6)];
    ConnectionConfig {
        tunnel: tunnel(),
        wan: wan(),
        backup_wans: Vec::new(),
        reauth: None,
        childless: Childless::Allow,
        mobike: true,
        local_address: None,
        remote: Remote::Address(address(1 - n)),
        local_id: format!("edge{n}.example.net").parse().unwrap(),
        local_credential,
        remote_id: format!("edge{}.example.net", 1 - n).parse().unwrap(),
        remote_credential,
        ppk: None,
        ike_proposals: vec!["aes256gcm16-prfsha256-x25519".parse().unwrap()],
        esp_proposals: vec!["aes256gcm16-x25519".parse().unwrap()],
        mode: ChildMode::Tunnel,
        local_ts: any.clone(),
        remote_ts: any,
        role: if n == 0 { Role::Initiate } else { Role::RespondOnly },
        encapsulation: Encapsulation::Always,
        dpd: Dpd { doubt: Doubt::Silence, interval: secs(5), timeout: secs(15) },
        ike_lifetime: Lifetime::of(secs(4 * 3600)),
        child_lifetime: Lifetime::of(secs(3600)),
        retry: Retry::default(),
        shutdown: false,
    }
}

fn engine(now: Instant, seed: u64, settings: &EngineConfig) -> Ike {
    Ike::new(now, TODAY, settings.clone(), Box::new(StdRng::seed_from_u64(seed)))
}

impl World {
    pub(crate) fn new(seed: u64, profile: Profile) -> Self {
        Self::with_settings(seed, profile, EngineConfig::default())
    }

    pub(crate) fn with_settings(seed: u64, profile: Profile, settings: EngineConfig) -> Self {
        let mut net = Net::new(seed);
        let now = net.now();
        let nodes = [0, 1].map(|n| {
            let seed = seed.wrapping_mul(1000).wrapping_add(n as u64);
            Node {
                ike: engine(now, seed, &settings),
                id: net.add_node(),
                address: address(n),
                inbound: BTreeMap::new(),
                active: None,
                up: false,
                causes: Vec::new(),
                events: Vec::new(),
                asked: Vec::new(),
                sent: 0,
                received: 0,
                unknown: 0,
                translated: None,
                said: None,
                heard: Vec::new(),
                crash_secret: None,
                seed,
                settings: settings.clone(),
                config: Vec::new(),
            }
        });
        let link = net.link(nodes[0].id, nodes[1].id, profile);
        let backup = net.link(nodes[0].id, nodes[1].id, profile);
        let (lost, traffic, invariant, trace) = (None, false, None, VecDeque::new());
        World {
            net,
            link,
            backup,
            nodes,
            refuse_calls: false,
            lost,
            traffic,
            invariant,
            steps: 0,
            next_traffic: now,
            trace,
        }
    }

    /// A pair with the default configuration, changed by `change`; links up, nothing sent yet.
    pub(crate) fn pair(seed: u64, profile: Profile, change: impl Fn(usize, &mut ConnectionConfig)) -> Self {
        let mut world = Self::new(seed, profile);
        world.start(change);
        world
    }

    pub(crate) fn start(&mut self, change: impl Fn(usize, &mut ConnectionConfig)) {
        for n in 0..2 {
            let mut config = config(n);
            change(n, &mut config);
            self.reconfigure(n, config);
            self.wan(n, true);
        }
    }

    pub(crate) fn reconfigure(&mut self, n: usize, config: ConnectionConfig) {
        self.nodes[n].config = vec![config.clone()];
        self.input(n, Input::Reconfigure(vec![config]));
    }

    /// The configuration that an end has now.
    pub(crate) fn config_of(&self, n: usize) -> ConnectionConfig {
        self.nodes[n].config.first().cloned().expect("it was configured")
    }

    pub(crate) fn wan(&mut self, n: usize, up: bool) {
        let addresses = if up { vec![self.nodes[n].address] } else { Vec::new() };
        self.input(n, Input::Wan { wan: wan(), addresses });
    }

    /// How the other end's packets reach this one.
    pub(crate) fn path_to(&self, n: usize) -> Path {
        let sender = &self.nodes[1 - n];
        let remote = sender.translated.unwrap_or(SocketAddr::new(sender.address, 4500));
        Path { wan: wan(), local: SocketAddr::new(self.nodes[n].address, 4500), remote, natt: true }
    }

    /// What an end sent last.
    pub(crate) fn sent_last(&self, n: usize) -> Bytes {
        self.nodes[n].said.clone().expect("something was sent")
    }

    /// From now on an end gives its peer crash tokens, which outlive its restarts.
    pub(crate) fn give_crash_tokens(&mut self, n: usize) {
        let octet = n as u8 + 1;
        self.nodes[n].crash_secret = Some(octet);
        self.nodes[n].ike.set_crash_token_secret(CrashTokenSecret::new(&[octet; 32].into()));
    }

    /// The second WAN of node 0 comes up or goes down.
    pub(crate) fn backup_wan(&mut self, up: bool) {
        let addresses = if up { vec![backup_address()] } else { Vec::new() };
        self.input(0, Input::Wan { wan: backup_wan(), addresses });
    }

    /// Which link joins two addresses.
    fn link_of(&self, ends: [SocketAddr; 2]) -> LinkId {
        if ends.iter().any(|end| end.ip() == backup_address()) { self.backup } else { self.link }
    }

    /// The process of one end dies and starts again with nothing but its configuration.
    pub(crate) fn restart(&mut self, n: usize) {
        let now = self.net.now();
        let node = &mut self.nodes[n];
        node.seed += 77;
        node.ike = engine(now, node.seed, &node.settings);
        if let Some(octet) = node.crash_secret {
            node.ike.set_crash_token_secret(CrashTokenSecret::new(&[octet; 32].into()));
        }
        node.inbound.clear();
        node.active = None;
        node.up = false;
        let config = node.config.clone();
        self.input(n, Input::Reconfigure(config));
        self.wan(n, true);
    }

    pub(crate) fn input(&mut self, n: usize, input: Input) {
        let now = self.net.now();
        let outputs = self.nodes[n].ike.handle_input(now, input);
        for output in outputs {
            self.perform(n, output);
        }
        self.steps += 1;
        if let Some(invariant) = self.invariant {
            invariant(self);
        }
    }

    fn note(&mut self, n: usize, what: String) {
        let line = format!("{:>9.3} {n}: {what}", self.net.elapsed().as_secs_f64());
        if std::env::var_os("TRACE").is_some() {
            eprintln!("{line}");
        }
        self.trace.push_back(line);
        if self.trace.len() > 60 {
            self.trace.pop_front();
        }
    }

    fn perform(&mut self, n: usize, output: Output) {
        match &output {
            Output::Send { path, bytes } => {
                let described = describe(bytes);
                self.note(n, format!("-> {} {described}", path.remote));
            }
            Output::InstallChild(child) => {
                self.note(n, format!("install {} {} replaces {:?}", child.spi_in, child.spi_out, child.replaces));
            }
            other => self.note(n, format!("{other:?}")),
        }
        let node = &mut self.nodes[n];
        match output {
            Output::Send { path, bytes } => {
                let from = node.translated.unwrap_or(path.local);
                node.said = Some(bytes.clone());
                let id = node.id;
                let packet = Packet::Ike { from, to: path.remote, natt: path.natt, bytes };
                let link = self.link_of([path.local, path.remote]);
                self.net.send(id, link, packet);
            }
            Output::NatKeepalive { .. } => {}
            Output::MoveChild { spi_in, path, .. } => {
                node.inbound.get_mut(&spi_in).expect("what is moved is installed").path = path;
            }
            Output::InstallChild(child) => {
                let known = node.inbound.insert(child.spi_in, *child);
                assert!(known.is_none(), "an SPI was installed twice");
            }
            Output::UseOutbound { spi_in, .. } => {
                assert!(node.inbound.contains_key(&spi_in), "{spi_in} is used but not installed");
                node.active = Some(spi_in);
            }
            Output::RemoveChild { spi_in, spi_out, .. } => {
                let removed = node.inbound.remove(&spi_in).expect("a pair is removed once");
                assert_eq!(removed.spi_out, spi_out);
                if node.active == Some(spi_in) {
                    node.active = None;
                }
            }
            Output::TunnelUp { .. } => node.up = true,
            Output::TunnelDown { cause, .. } => {
                node.up = false;
                node.causes.push(cause);
            }
            Output::AskStatus(query) => node.asked.push(*query),
            Output::Event(event) => node.events.push(event),
        }
    }

    /// Whether what `n` sends now can be opened by the other end.
    pub(crate) fn usable_from(&self, n: usize) -> bool {
        let (sender, receiver) = (&self.nodes[n], &self.nodes[1 - n]);
        let Some(outbound) = sender.active.and_then(|active| sender.inbound.get(&active)) else { return false };
        receiver.inbound.get(&outbound.spi_out).is_some_and(|inbound| inbound.keys.inbound == outbound.keys.outbound)
    }

    pub(crate) fn usable(&self) -> bool {
        self.usable_from(0) && self.usable_from(1)
    }

    pub(crate) fn both_up(&self) -> bool {
        self.nodes.iter().all(|node| node.up)
    }

    /// Both ends are up, agree on exactly one pair and nothing is left over.
    pub(crate) fn converged(&self) -> bool {
        self.both_up() && self.usable() && self.nodes.iter().all(|node| node.inbound.len() == 1)
    }

    fn deadline(&self, end: Instant) -> Instant {
        let timers = self.nodes.iter().filter_map(|node| node.ike.poll_timeout());
        let traffic = self.traffic.then_some(self.next_traffic);
        timers.chain(traffic).chain([end]).min().unwrap_or(end)
    }

    /// Runs for a while.
    pub(crate) fn run(&mut self, duration: Duration) {
        self.run_until(duration, |_| false);
    }

    /// Runs until something is true; says whether it became so in time.
    pub(crate) fn run_until(&mut self, duration: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.net.now() + duration;
        loop {
            if done(self) {
                return true;
            }
            match self.net.advance(self.deadline(end)) {
                Step::Arrived(arrival) => self.arrive(arrival.node.index(), arrival.payload),
                Step::Deadline => {
                    let now = self.net.now();
                    if now >= end {
                        return done(self);
                    }
                    if self.traffic && now >= self.next_traffic {
                        self.next_traffic = now + millis(100);
                        self.send_data();
                    }
                    self.serve_timeouts(now);
                }
            }
        }
    }

    fn serve_timeouts(&mut self, now: Instant) {
        for n in 0..2 {
            if self.nodes[n].ike.poll_timeout().is_some_and(|at| at <= now) {
                self.input(n, Input::Timeout);
                let next = self.nodes[n].ike.poll_timeout();
                assert!(next.is_none_or(|at| at > now), "the deadline did not move on");
            }
        }
    }

    fn send_data(&mut self) {
        for n in 0..2 {
            let node = &mut self.nodes[n];
            let Some(spi_in) = node.active.filter(|active| node.inbound.contains_key(active)) else { continue };
            node.sent += 1;
            let (child, number) = (&node.inbound[&spi_in], node.sent);
            let (id, ends) = (node.id, [child.path.local, child.path.remote]);
            let packet = Packet::Esp { spi: child.spi_out, number };
            let (link, since) = (self.link_of(ends), self.net.now());
            self.net.send(id, link, packet);
            self.input(n, Input::OutboundSeen { spi_in, since });
        }
    }

    pub(crate) fn arrive(&mut self, n: usize, packet: Packet) {
        let now = self.net.now();
        if let (Packet::Ike { bytes, .. }, Some(lost)) = (&packet, self.lost)
            && Header::parse(bytes).is_ok_and(|(header, _)| lost(self, n, &header))
        {
            return;
        }
        let node = &mut self.nodes[n];
        match packet {
            Packet::Ike { bytes, .. } if self.refuse_calls && bytes.get(18) == Some(&34) => {}
            Packet::Ike { from, to, natt, bytes } => {
                // A NAT on the way puts our own address back.
                let local = SocketAddr::new(node.address, if natt { 4500 } else { 500 });
                let local = if node.translated.is_some() { local } else { to };
                let wan = if local.ip() == backup_address() { backup_wan() } else { wan() };
                let path = Path { wan, local, remote: from, natt };
                node.heard.push((path.clone(), bytes.clone()));
                self.input(n, Input::Datagram { path, bytes });
            }
            Packet::Esp { spi, .. } if node.inbound.contains_key(&spi) => {
                node.received += 1;
                self.input(n, Input::InboundSeen { spi_in: spi, at: now });
            }
            Packet::Esp { spi, .. } => {
                node.unknown += 1;
                let path = self.path_to(n);
                self.note(n, format!("unknown SPI {spi}"));
                self.input(n, Input::UnknownSpi { spi: spi.get(), path });
            }
        }
    }

    /// What happened last, for failures.
    pub(crate) fn story(&self) -> String {
        let state: Vec<_> = self
            .nodes
            .iter()
            .map(|node| {
                format!("up={} active={:?} inbound={:?}", node.up, node.active, node.inbound.keys().collect::<Vec<_>>())
            })
            .collect();
        let trace: Vec<_> = self.trace.iter().cloned().collect();
        format!("seed {}\n{}\n{}", self.net.seed(), trace.join("\n"), state.join("\n"))
    }

    /// Waits for something that must happen.
    pub(crate) fn expect(&mut self, what: &str, within: Duration, done: impl Fn(&Self) -> bool) {
        assert!(self.run_until(within, done), "not within {within:?}: {what}\n{}", self.story());
    }

    pub(crate) fn count(&self, n: usize, which: impl Fn(&Event) -> bool) -> usize {
        self.nodes[n].events.iter().filter(|event| which(event)).count()
    }
}

fn describe(bytes: &Bytes) -> String {
    match Header::parse(bytes) {
        Ok((header, _)) => format!(
            "{} {} {}{} ({} octets, {}_i)",
            header.exchange,
            header.message_id,
            if header.flags.response { "response" } else { "request" },
            if header.flags.initiator { " of initiator" } else { "" },
            bytes.len(),
            header.initiator_spi
        ),
        Err(error) => error.to_string(),
    }
}
