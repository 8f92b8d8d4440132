//! A peer that holds the keys and says whatever it is told to: any message, in any state.
//!
//! It initiates honestly, or answers so, that what it seals afterwards is authentic; what is inside need not make sense. The
//! fuzz targets use it too.
#![allow(dead_code, reason = "each user takes its part")]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ike_core::{
    ChildMode, Childless, ConnectionConfig, Doubt, Dpd, Encapsulation, EngineConfig, Ike, Input, Lifetime, Output,
    Path, Remote, Retry, Role,
};
use ike_crypto::{
    DhKey, Exchange, Group, IkeKeys, IkeProposal, LocalCredential, Opener, PeerCredential, Sealer, SecretBytes,
    SignatureHashes, SignedOctets, accept_ike, choose_esp, choose_ike, offer_esp, offer_ike,
};
use ike_wire::{
    Delete, ExchangeType, Flags, Header, Identification, IkeSpi, KeyExchange, Message, Notify, NotifyType, Payload,
    PayloadType, ProtocolId, SecurityAssociation, TrafficSelector, TrafficSelectors, parse_inner,
};
use net_types::{Prefix, Spi, TunnelName};
use rand::{RngCore, SeedableRng, rngs::StdRng};

const SECRET: &str = "correct horse battery staple";

fn proposals() -> Vec<IkeProposal> {
    vec!["aes128gcm16-prfsha256-x25519".parse().unwrap()]
}

fn any() -> Vec<TrafficSelector> {
    vec![TrafficSelector::from_prefix(&Prefix::DEFAULT_V4)]
}

fn secret() -> SecretBytes {
    SecretBytes::new(SECRET.as_bytes().to_vec())
}

/// The engine under test with its books, and the puppet's side of the conversation.
pub struct Stage {
    pub now: Instant,
    pub ike: Ike,
    pub installed: BTreeSet<Spi>,
    pub up: bool,
    pub path: Path,
    rng: StdRng,
    spi: IkeSpi,
    /// The engine's first message, where it is the engine that calls.
    called: Option<Bytes>,
    /// Whether the engine calls.
    calls: bool,
    /// Whether the puppet has proved who it is: nothing is installed and nothing is up before.
    proven: bool,
    /// What the engine offered last, for a child SA or another IKE SA.
    asked: Option<SecurityAssociation>,
    /// SPIs that the puppet has offered for child SAs.
    pub offered: Vec<Spi>,
    /// What the engine sent last, to be answered or repeated.
    pub last: Vec<Bytes>,
    /// The same, opened, as far as the puppet has the keys.
    pub said: Vec<(Header, Vec<Payload>)>,
    talk: Option<Talk>,
}

/// An IKE SA as the puppet sees it.
struct Talk {
    sealer: Sealer,
    opener: Opener,
    keys: IkeKeys,
    spis: (IkeSpi, IkeSpi),
    /// The puppet's first message, and the engine's nonce: what its proof covers.
    message: Vec<u8>,
    peer_nonce: Vec<u8>,
    next: u32,
}

impl Stage {
    /// An engine that waits for this caller.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    /// An engine that calls the puppet.
    pub fn calling(seed: u64) -> Self {
        Self::build(seed, true, |config| {
            (config.role, config.remote) = (Role::Initiate, Remote::Address([192, 0, 2, 1].into()));
        })
    }

    /// The same with another configuration.
    pub fn with(seed: u64, change: impl FnOnce(&mut ConnectionConfig)) -> Self {
        Self::build(seed, false, change)
    }

    fn build(seed: u64, calls: bool, change: impl FnOnce(&mut ConnectionConfig)) -> Self {
        let now = Instant::now(); // an origin only
        let tunnel: TunnelName = "tun1".parse().unwrap();
        let mut config = ConnectionConfig {
            tunnel,
            wan: "isp1".parse().unwrap(),
            backup_wans: Vec::new(),
            reauth: None,
            childless: Childless::Allow,
            mobike: true,
            local_address: None,
            remote: Remote::Any,
            local_id: "engine.example".parse().unwrap(),
            local_credential: Arc::new(LocalCredential::pre_shared_key(secret()).unwrap()),
            remote_id: "puppet.example".parse().unwrap(),
            remote_credential: Arc::new(PeerCredential::pre_shared_key(secret()).unwrap()),
            ppk: None,
            ike_proposals: proposals(),
            esp_proposals: vec!["aes128gcm16-x25519".parse().unwrap(), "aes128gcm16".parse().unwrap()],
            mode: ChildMode::Tunnel,
            local_ts: any(),
            remote_ts: any(),
            role: Role::RespondOnly,
            encapsulation: Encapsulation::Always,
            dpd: Dpd { doubt: Doubt::Silence, interval: Duration::from_secs(3), timeout: Duration::from_secs(9) },
            ike_lifetime: Lifetime::of(Duration::from_secs(60)),
            child_lifetime: Lifetime::of(Duration::from_secs(20)),
            retry: Retry::default(),
            shutdown: false,
        };
        change(&mut config);
        let rng = Box::new(StdRng::seed_from_u64(seed));
        let ike = Ike::new(now, Duration::from_secs(1_790_000_000), EngineConfig::default(), rng);
        let path = Path {
            wan: "isp1".parse().unwrap(),
            local: "192.0.2.2:4500".parse().unwrap(),
            remote: SocketAddr::from(([192, 0, 2, 1], 4500)),
            natt: true,
        };
        let spi = IkeSpi::new(seed | 1).unwrap();
        let rng = StdRng::seed_from_u64(!seed);
        let (installed, last, said) = (BTreeSet::new(), Vec::new(), Vec::new());
        let mut stage = Self {
            now,
            ike,
            installed,
            up: false,
            path,
            rng,
            spi,
            called: None,
            asked: None,
            calls,
            proven: false,
            offered: Vec::new(),
            last,
            said,
            talk: None,
        };
        let addresses = vec![stage.path.local.ip()];
        stage.input(Input::Reconfigure(vec![config]));
        stage.input(Input::Wan { wan: stage.path.wan.clone(), addresses });
        stage
    }

    /// Hands something in, keeps the books and checks what must hold after every step.
    pub fn input(&mut self, input: Input) {
        let timeout = matches!(input, Input::Timeout);
        self.last.clear();
        for output in self.ike.handle_input(self.now, input) {
            match output {
                Output::Send { path, bytes } => {
                    let call = |(header, _): &(Header, PayloadType)| {
                        header.exchange == ExchangeType::IkeSaInit && !header.flags.response
                    };
                    if Header::parse(&bytes).ok().filter(call).is_some() {
                        self.called = Some(bytes.clone());
                    }
                    if self.calls {
                        self.path = path; // it changes its port
                    }
                    self.last.push(bytes);
                }
                Output::InstallChild(child) => assert!(self.installed.insert(child.spi_in), "installed twice"),
                Output::UseOutbound { spi_in, .. } => assert!(self.installed.contains(&spi_in), "used after removal"),
                Output::RemoveChild { spi_in, .. } => assert!(self.installed.remove(&spi_in), "removed twice"),
                Output::TunnelUp { .. } => self.up = true,
                Output::TunnelDown { .. } => self.up = false,
                Output::MoveChild { spi_in, .. } => assert!(self.installed.contains(&spi_in)),
                Output::NatKeepalive { .. } | Output::AskStatus(_) | Output::Event(_) => {}
            }
        }
        assert!(self.proven || self.installed.is_empty() && !self.up, "something is accepted without proof");
        assert!(self.installed.len() <= 64, "a peer makes us hold {} pairs", self.installed.len());
        if timeout {
            let next = self.ike.poll_timeout();
            assert!(next.is_none_or(|at| at > self.now), "the deadline did not move on");
        }
        self.read();
    }

    /// Hands in a datagram from the peer's address.
    pub fn datagram(&mut self, bytes: Vec<u8>) {
        let path = self.path.clone();
        self.input(Input::Datagram { path, bytes: Bytes::from(bytes) });
    }

    /// Turns the clock and serves what is due on the way.
    pub fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..1000 {
            if self.now >= end {
                return;
            }
            self.tick(end);
        }
        self.now = end;
    }

    /// Turns the clock to the engine's next deadline and serves it, or to `end` if there is none before.
    pub fn tick(&mut self, end: Instant) {
        match self.ike.poll_timeout().filter(|at| *at < end) {
            Some(at) => {
                self.now = at.max(self.now);
                self.input(Input::Timeout);
            }
            None => self.now = end,
        }
    }

    fn nonce(&mut self) -> Vec<u8> {
        let mut nonce = vec![0; 32];
        self.rng.fill_bytes(&mut nonce);
        nonce
    }

    /// IKE_SA_INIT, honestly; true if the engine answered with an SA.
    pub fn call(&mut self) -> bool {
        self.spi = IkeSpi::new(self.rng.next_u64() | 1).unwrap();
        let key = DhKey::generate(Group::X25519, &mut self.rng).unwrap();
        let nonce = self.nonce();
        let header = Header {
            initiator_spi: self.spi,
            responder_spi: None,
            exchange: ExchangeType::IkeSaInit,
            flags: Flags { initiator: true, ..Flags::default() },
            message_id: 0,
        };
        let payloads = vec![
            Payload::Sa(offer_ike(&proposals(), None)),
            Payload::Ke(key.payload()),
            Payload::Nonce(nonce.clone()),
            Payload::Notify(Notify::new(NotifyType::NatDetectionSourceIp, [1; 20])),
            Payload::Notify(Notify::new(NotifyType::NatDetectionDestinationIp, [2; 20])),
            Payload::Notify(Notify::new(NotifyType::FragmentationSupported, [])),
        ];
        let request = Message::clear(header, payloads).emit().unwrap();
        self.datagram(request.clone());
        let Some(answer) = self.last.first().and_then(|bytes| Message::parse(bytes).ok()) else { return false };
        self.talk = self.conclude(request, &key, &nonce, &answer);
        self.talk.is_some()
    }

    fn conclude(&self, request: Vec<u8>, key: &DhKey, nonce: &[u8], answer: &Message) -> Option<Talk> {
        let theirs = answer.header.responder_spi?;
        let (mut sa, mut ke, mut their_nonce) = (None, None, None);
        for payload in &answer.payloads {
            match payload {
                Payload::Sa(found) => sa = Some(found),
                Payload::Ke(found) => ke = Some(found),
                Payload::Nonce(found) => their_nonce = Some(found.clone()),
                _ => {}
            }
        }
        let responder_nonce = their_nonce?;
        let suite = accept_ike(&proposals(), sa?).ok()?.suite;
        let shared = key.agree(ke?).ok()?;
        let exchange = Exchange { initiator_nonce: nonce, responder_nonce: &responder_nonce };
        let keys = IkeKeys::derive(suite, &shared, exchange, self.spi, theirs).ok()?;
        let sealer = Sealer::new(keys.protection(true)).ok()?;
        let opener = Opener::new(keys.protection(false)).ok()?;
        let spis = (self.spi, theirs);
        Some(Talk { sealer, opener, keys, spis, message: request, peer_nonce: responder_nonce, next: 1 })
    }

    /// Answers the engine's call, honestly; true if the engine goes on with it.
    pub fn answer_call(&mut self) -> bool {
        let Some(request) = self.called.take() else { return false };
        self.talk = self.answered(&request);
        let Some(message) = self.talk.as_ref().map(|talk| talk.message.clone()) else { return false };
        self.datagram(message);
        self.said.iter().any(|(header, _)| header.exchange == ExchangeType::IkeAuth)
    }

    fn answered(&mut self, request: &[u8]) -> Option<Talk> {
        let asked = Message::parse(request).ok()?;
        let (mut sa, mut ke, mut nonce) = (None, None, None);
        for payload in &asked.payloads {
            match payload {
                Payload::Sa(found) => sa = Some(found),
                Payload::Ke(found) => ke = Some(found),
                Payload::Nonce(found) => nonce = Some(found.clone()),
                _ => {}
            }
        }
        let (ke, peer_nonce, ours) = (ke?, nonce?, self.nonce());
        let chosen = choose_ike(&proposals(), sa?, Some(ke.group)).ok()?;
        let (answer, shared) = DhKey::respond(chosen.suite.group, ke, &mut self.rng).ok()?;
        let spis = (asked.header.initiator_spi, IkeSpi::new(self.rng.next_u64() | 1)?);
        let exchange = Exchange { initiator_nonce: &peer_nonce, responder_nonce: &ours };
        let keys = IkeKeys::derive(chosen.suite, &shared, exchange, spis.0, spis.1).ok()?;
        let payloads = vec![
            Payload::Sa(chosen.answer([])),
            Payload::Ke(answer),
            Payload::Nonce(ours.clone()),
            Payload::Notify(Notify::new(NotifyType::NatDetectionSourceIp, [1; 20])),
            Payload::Notify(Notify::new(NotifyType::NatDetectionDestinationIp, [2; 20])),
            Payload::Notify(Notify::new(NotifyType::FragmentationSupported, [])),
        ];
        let flags = Flags { response: true, ..Flags::default() };
        let message = Message::clear(Header { responder_spi: Some(spis.1), flags, ..asked.header }, payloads);
        let (message, sealer) = (message.emit().ok()?, Sealer::new(keys.protection(false)).ok()?);
        let opener = Opener::new(keys.protection(true)).ok()?;
        Some(Talk { sealer, opener, keys, spis, message, peer_nonce, next: 0 })
    }

    /// Anything in the clear in answer to the engine's call.
    fn answer_in_clear(&mut self, payloads: Vec<Payload>) {
        let Some((header, _)) = self.called.as_ref().and_then(|request| Header::parse(request).ok()) else { return };
        let with_spi = payloads.len() % 2 == 1;
        let responder_spi = IkeSpi::new(self.rng.next_u64() | 1).filter(|_| with_spi);
        let flags = Flags { response: true, ..Flags::default() };
        if let Ok(message) = Message::clear(Header { responder_spi, flags, ..header }, payloads).emit() {
            self.datagram(message);
        }
    }

    /// The payloads of an honest IKE_AUTH, or of the answer to one; with `proven` false the proof is wrong.
    pub fn auth_payloads(&mut self, proven: bool) -> Vec<Payload> {
        let (spi, calls) = (self.child_spi(), self.calls);
        self.proven |= proven && self.talk.is_some();
        let Some(talk) = &self.talk else { return Vec::new() };
        let id = Identification::new(ike_wire::IdKind::Fqdn, "puppet.example");
        let (prf, sk_p) = talk.keys.identity_key(!calls);
        let octets = SignedOctets {
            prf,
            sk_p,
            message: &talk.message,
            peer_nonce: &talk.peer_nonce,
            id: &id,
            intermediate: &[],
        };
        let credential = LocalCredential::pre_shared_key(secret()).unwrap();
        let mut auth = credential.prove(&octets, SignatureHashes::none()).unwrap();
        if !proven {
            auth.data[0] ^= 1;
        }
        let esp = vec!["aes128gcm16".parse().unwrap()];
        let chosen = self.asked.as_ref().and_then(|asked| choose_esp(&esp, asked, false, None).ok());
        let sa = match chosen {
            Some(chosen) if calls => chosen.answer(spi.get().to_be_bytes()),
            _ => offer_esp(&esp, spi, false),
        };
        let id = if calls { Payload::IdResponder(id) } else { Payload::IdInitiator(id) };
        let mut payloads = vec![id, Payload::Auth(auth)];
        payloads.push(Payload::Sa(sa));
        payloads.extend(Self::selectors());
        payloads
    }

    fn selectors() -> [Payload; 2] {
        let ts = TrafficSelectors { selectors: any() };
        [Payload::TsInitiator(ts.clone()), Payload::TsResponder(ts)]
    }

    fn child_spi(&mut self) -> Spi {
        let spi = Spi::try_from(self.rng.next_u32() | 0x1000).unwrap();
        self.offered.push(spi);
        spi
    }

    /// One of many payloads that could stand in a message, honest or not, by number.
    pub fn payload(&mut self, kind: u8, body: &[u8]) -> Payload {
        // RFC 7296 §1.3.3, §1.4.1: a pair is named by what the sender receives with.
        let child = self.offered.iter().rev().nth(usize::from(kind / 24 % 4)).map(|spi| spi.get());
        match kind % 24 {
            0 => Payload::Nonce(self.nonce()),
            1 => Payload::Sa(offer_esp(&["aes128gcm16-x25519".parse().unwrap()], self.child_spi(), true)),
            2 => Payload::Sa(offer_esp(&["aes128gcm16".parse().unwrap()], self.child_spi(), true)),
            3 => Payload::Sa(offer_ike(&proposals(), IkeSpi::new(self.rng.next_u64() | 1))),
            4 => Payload::Ke(DhKey::generate(Group::X25519, &mut self.rng).unwrap().payload()),
            5 => Payload::Ke(KeyExchange { group: Group::X25519.id(), public: vec![0; 32] }),
            6 => Payload::Ke(KeyExchange { group: Group::Ecp256.id(), public: body.to_vec() }),
            7 => Self::selectors()[0].clone(),
            8 => Self::selectors()[1].clone(),
            9 => Payload::Delete(Delete::Ike),
            10 => {
                let spis = vec![self.rng.next_u32(), 0, 0];
                Payload::Delete(Delete::Child { protocol: ProtocolId::Esp, spis })
            }
            11 => Payload::Delete(Delete::Child { protocol: ProtocolId::Esp, spis: child.into_iter().collect() }),
            12 => {
                let spi = child.unwrap_or(7).to_be_bytes().to_vec();
                let (protocol, data) = (ProtocolId::Esp, Vec::new());
                Payload::Notify(Notify { protocol, spi, kind: NotifyType::RekeySa, data })
            }
            13 => Payload::Notify(Notify::new(NotifyType::TemporaryFailure, body)),
            14 => Payload::Notify(Notify::new(NotifyType::InvalidKePayload, [0, 31])),
            15 => Payload::Notify(Notify::new(NotifyType::AuthenticationFailed, body)),
            16 => Payload::Notify(Notify::new(NotifyType::InitialContact, body)),
            17 => {
                let number = body.first_chunk::<2>().map_or(17, |two| u16::from_be_bytes(*two));
                Payload::Notify(Notify::new(NotifyType::from(number), body))
            }
            18 => Payload::IdResponder(Identification::new(ike_wire::IdKind::Fqdn, "engine.example")),
            19 => Payload::IdInitiator(Identification::new(ike_wire::IdKind::Fqdn, "puppet.example")),
            20 => Payload::Unknown { kind: PayloadType::Other(200), critical: true, body: body.to_vec() },
            21 => {
                // An answer to what the engine offered.
                let esp = vec!["aes128gcm16-x25519".parse().unwrap()];
                let spi = self.child_spi();
                let ours = self.asked.as_ref().and_then(|asked| {
                    let group = Some(Group::X25519.id());
                    let child = choose_esp(&esp, asked, true, group).map(|it| it.answer(spi.get().to_be_bytes()));
                    let ike = || choose_ike(&proposals(), asked, group).map(|it| it.answer(0x77u64.to_be_bytes()));
                    child.or_else(|_| ike()).ok()
                });
                Payload::Sa(ours.unwrap_or_else(|| offer_esp(&esp, spi, true)))
            }
            // A known type with whatever inside.
            _ => {
                let kind = PayloadType::from(33 + body.first().copied().unwrap_or(0) % 16);
                Payload::Unknown { kind, critical: false, body: body.to_vec() }
            }
        }
    }

    /// Seals a message and hands it in. `offset` moves the message ID away from the expected one.
    pub fn say(&mut self, exchange: ExchangeType, response: bool, offset: u32, payloads: &[Payload], limit: usize) {
        let Some(talk) = &mut self.talk else { return };
        let message_id = match response {
            false => talk.next.wrapping_add(offset),
            true => offset,
        };
        let flags = Flags { initiator: !self.calls, response, higher_version: false };
        let (initiator_spi, responder_spi) = (talk.spis.0, Some(talk.spis.1));
        let header = Header { initiator_spi, responder_spi, exchange, flags, message_id };
        let Ok(packets) = talk.sealer.seal_fragmented(&header, payloads, limit) else { return };
        if !response && offset == 0 {
            talk.next += 1;
        }
        for packet in packets {
            self.datagram(packet);
        }
    }

    /// Seals a request in fragments of at most `limit` octets and hands in those that `keep` wants, by number from 1. Without
    /// `complete` the message ID is not used up.
    pub fn say_pieces(&mut self, payloads: &[Payload], limit: usize, complete: bool, keep: impl Fn(usize) -> bool) {
        let Some(talk) = &mut self.talk else { return };
        let flags = Flags { initiator: true, ..Flags::default() };
        let (initiator_spi, responder_spi) = (talk.spis.0, Some(talk.spis.1));
        let (exchange, message_id) = (ExchangeType::Informational, talk.next);
        let header = Header { initiator_spi, responder_spi, exchange, flags, message_id };
        let packets = talk.sealer.seal_fragmented(&header, payloads, limit).unwrap();
        talk.next += u32::from(complete);
        for (_, packet) in packets.into_iter().enumerate().filter(|(at, _)| keep(at + 1)) {
            self.datagram(packet);
        }
    }

    /// The SPIs of the IKE SA, and the message ID of the puppet's next request.
    pub fn place(&self) -> ((IkeSpi, IkeSpi), u32) {
        let talk = self.talk.as_ref().expect("a call was made");
        (talk.spis, talk.next)
    }

    /// Opens what the engine said.
    fn read(&mut self) {
        self.said.clear();
        let Some(talk) = &mut self.talk else { return };
        for bytes in &self.last {
            let Ok(Message { header, protected: Some(protected), .. }) = Message::parse(bytes) else { continue };
            let mut copy = bytes.to_vec();
            let Ok(inside) = talk.opener.open(&mut copy, &protected) else { continue };
            let payloads = parse_inner(protected.first_inner, inside).unwrap_or_default();
            let offer = payloads.iter().find_map(|payload| match payload {
                Payload::Sa(sa) if !header.flags.response => Some(sa.clone()),
                _ => None,
            });
            self.asked = offer.or(self.asked.take());
            self.said.push((header, payloads));
        }
    }
}

/// Plays a script with an engine that is called: each octet string is read as steps until it ends.
pub fn play(data: &[u8]) {
    play_on(Stage::new(1), data);
}

/// The same with an engine that calls.
pub fn play_called(data: &[u8]) {
    play_on(Stage::calling(1), data);
}

fn play_on(mut stage: Stage, data: &[u8]) {
    let mut rest = data;
    let mut take = |count: usize| -> Vec<u8> {
        let (taken, left) = rest.split_at(count.min(rest.len()));
        rest = left;
        taken.to_vec()
    };
    // A step costs a few octets, so their number is bounded by the script's length; key exchanges are dear, so also so.
    for _ in 0..200 {
        let Some(step) = take(1).first().copied() else { return };
        match step % 8 {
            0 => {
                let length = take(1).first().map_or(0, |length| usize::from(*length));
                stage.datagram(take(length));
            }
            1 if stage.calls => {
                stage.answer_call();
            }
            1 => {
                stage.call();
            }
            2 => {
                let (payloads, answers) = (stage.auth_payloads(step & 0x80 == 0), stage.calls);
                let limit = if step & 0x40 == 0 { 1200 } else { 100 };
                stage.say(ExchangeType::IkeAuth, answers, u32::from(answers), &payloads, limit);
            }
            3 => stage.wait(Duration::from_millis(100 * u64::from(step / 8).pow(2))),
            4 => {
                // What the engine said last, bent a little, or as it was.
                if let (Some(last), [at, change, ..]) = (stage.last.first().cloned(), &take(2)[..]) {
                    let mut bytes = last.to_vec();
                    let place = usize::from(*at) % bytes.len().max(1);
                    if let Some(octet) = bytes.get_mut(place) {
                        *octet ^= change;
                    }
                    stage.datagram(bytes);
                }
            }
            _ => {
                let header = take(2);
                let [form, count] = header[..] else { return };
                let payloads: Vec<_> = (0..count % 6)
                    .map(|_| {
                        let [kind, length] = take(2)[..] else { return stage.payload(0, &[]) };
                        let body = take(usize::from(length % 64));
                        stage.payload(kind, &body)
                    })
                    .collect();
                if step % 8 == 5 && stage.calls {
                    stage.answer_in_clear(payloads);
                    continue;
                }
                let exchange = match form % 4 {
                    0 | 1 => ExchangeType::CreateChildSa,
                    2 => ExchangeType::Informational,
                    _ => ExchangeType::from(34 + form / 32),
                };
                let response = form & 0x40 != 0;
                let offset = u32::from(form / 4 % 4);
                stage.say(exchange, response, offset, &payloads, if form & 0x80 == 0 { 1200 } else { 90 });
            }
        }
    }
}
