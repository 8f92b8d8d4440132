//! The engine: every IKE SA of the daemon, who gets which input, and what the tunnels make of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ike_crypto::{CrashToken, CrashTokenSecret, Revocations};
use ike_wire::{ExchangeType, Header, HeaderError, IkeSpi, Message, NotifyType, PayloadType};
use net_types::{Spi, TunnelName, WanName};
use rand::CryptoRng;

use crate::{
    config::{ConnectionConfig, EngineConfig, Remote, Role},
    door::Door,
    event::{DownCause, Event},
    io::{Input, Output, Path},
    sa::{Cx, Ending, IkeSa, News, SpiBook, init},
    timers::Timers,
    tunnel::{Setback, Standing, Tunnel, Wish},
};

/// Hints from outside any SA are looked at this often at most.
const HINTS_APART: Duration = Duration::from_millis(50);

/// Peers that are looked at again before anything else has its turn: a few milliseconds.
const CHECKS_AT_ONCE: usize = 16;
/// Until the next portion has its turn.
const CHECKS_APART: Duration = Duration::from_millis(1);

/// What an SA's step needs, borrowed field by field so that the SAs stay free.
macro_rules! context {
    ($engine:ident, $now:ident, $out:ident) => {
        Cx {
            now: $now,
            since_1970: $engine.clock.at($now),
            rng: &mut *$engine.rng,
            settings: &$engine.settings,
            tunnels: &$engine.tunnels,
            revocations: &$engine.revocations,
            wans: &$engine.wans,
            spis: &mut $engine.spis,
            crash_tokens: $engine.crash_tokens.as_ref(),
            out: $out,
            news: Vec::new(),
        }
    };
}

/// IKEv2 for all tunnels of a daemon, without sockets and clock.
///
/// The owner hands in what happens ([`Ike::handle_input`]), does what comes out in that order, and calls again with
/// [`Input::Timeout`] when [`Ike::poll_timeout`] says so.
pub struct Ike {
    settings: EngineConfig,
    rng: Box<dyn CryptoRng + Send>,
    clock: WallClock,
    wans: BTreeMap<WanName, Vec<IpAddr>>,
    tunnels: BTreeMap<TunnelName, Tunnel>,
    sas: BTreeMap<IkeSpi, IkeSa>,
    door: Door,
    spis: SpiBook,
    /// `None` makes no tokens.
    crash_tokens: Option<CrashTokenSecret>,
    timers: Timers<TimerKey>,
    /// Tunnels that something happened to since they were settled last.
    touched: BTreeSet<TunnelName>,
    revocations: Arc<Revocations>,
    /// SAs whose peers are to be looked at again.
    to_check: BTreeSet<IkeSpi>,
    /// When unauthenticated hints were last looked at.
    hinted_at: Option<Instant>,
    told_at: Option<Instant>,
    ending: bool,
}

/// Numbers of IKE SAs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Calls of ours without an end yet.
    pub calling: usize,
    /// Callers that have not proved who they are.
    pub half_open: usize,
    /// In use.
    pub established: usize,
    /// Being closed, or replaced and waiting for the peer to close them.
    pub leaving: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TimerKey {
    Sa(IkeSpi),
    Tunnel(TunnelName),
    /// [`Ike::check_peers`] has more to do.
    Check,
}

/// The wall clock at one moment; certificates are checked against it.
#[derive(Clone, Copy, Debug)]
struct WallClock {
    at: Instant,
    since_1970: Duration,
}

impl Ike {
    /// An engine without tunnels. `since_1970` is the wall clock at `now`.
    pub fn new(now: Instant, since_1970: Duration, settings: EngineConfig, mut rng: Box<dyn CryptoRng + Send>) -> Self {
        Self {
            door: Door::new(now, &mut *rng),
            settings,
            rng,
            clock: WallClock { at: now, since_1970 },
            wans: BTreeMap::new(),
            tunnels: BTreeMap::new(),
            sas: BTreeMap::new(),
            spis: SpiBook::default(),
            crash_tokens: None,
            timers: Timers::new(),
            touched: BTreeSet::new(),
            revocations: Arc::default(),
            to_check: BTreeSet::new(),
            hinted_at: None,
            told_at: None,
            ending: false,
        }
    }

    /// Gives peers tokens made with this secret, by which they know a later life of ours (RFC 6290). It has to be the same
    /// after a restart.
    pub fn set_crash_token_secret(&mut self, secret: CrashTokenSecret) {
        self.crash_tokens = Some(secret);
    }

    /// Takes one input; what comes out is to be done in that order.
    pub fn handle_input(&mut self, now: Instant, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Datagram { path, bytes } => self.datagram(now, path, bytes, &mut out),
            Input::Timeout => self.timeout(now, &mut out),
            Input::Reconfigure(tunnels) => self.reconfigure(now, tunnels, &mut out),
            Input::Wan { wan, addresses } => self.wan_changed(now, wan, addresses, &mut out),
            Input::Initiate(tunnel) => self.initiate(now, tunnel),
            Input::Terminate(tunnel) => self.terminate(now, &tunnel, &mut out),
            Input::Rekey { tunnel, ike } => self.rekey(now, &tunnel, ike, &mut out),
            Input::InboundSeen { spi_in, at } => self.with_child(now, spi_in, &mut out, |sa, cx| {
                sa.inbound_seen(cx, spi_in, at);
            }),
            Input::OutboundSeen { spi_in, since } => self.with_child(now, spi_in, &mut out, |sa, cx| {
                sa.outbound_seen(cx, since);
            }),
            Input::InboundFrom { spi_in, path } => self.with_child(now, spi_in, &mut out, |sa, cx| {
                sa.inbound_from(cx, path);
            }),
            Input::ChildLimit { spi_in, hard } => self.with_child(now, spi_in, &mut out, |sa, cx| {
                sa.child_limit(cx, spi_in, hard);
            }),
            Input::UnknownSpi { spi, path } => self.unknown_child(now, spi, &path, &mut out),
            Input::WallClock(since_1970) => self.clock = WallClock { at: now, since_1970 },
            Input::Revocations(revocations) => self.revocations_changed(now, revocations, &mut out),
            Input::Shutdown => self.shutdown(now, &mut out),
        }
        self.settle(now, &mut out);
        out
    }

    /// When to call with [`Input::Timeout`]; `None` while nothing is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether every SA is closed: after [`Input::Shutdown`] nothing is left to wait for.
    pub fn is_idle(&self) -> bool {
        !self.sas.values().any(IkeSa::has_to_tell)
    }

    /// How many IKE SAs there are, by how far they have got.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for sa in self.sas.values() {
            let count = match sa.view().standing {
                _ if sa.is_half_open() => &mut census.half_open,
                Standing::Larval => &mut census.calling,
                Standing::Established { .. } => &mut census.established,
                Standing::Leaving => &mut census.leaving,
            };
            *count += 1;
        }
        census
    }

    // --- inputs ---

    fn datagram(&mut self, now: Instant, path: Path, bytes: Bytes, out: &mut Vec<Output>) {
        let (header, first) = match Header::parse(&bytes) {
            Ok(parsed) => parsed,
            Err(HeaderError::Version { major, .. }) if major > 2 => {
                return self.door.refuse_version(now, &path, &bytes, out);
            }
            Err(_) => return,
        };
        // RFC 7296 §3.1: the flag says whose SPI is whose.
        let ours = if header.flags.initiator { header.responder_spi } else { Some(header.initiator_spi) };
        match ours {
            Some(spi) if self.sas.contains_key(&spi) => {
                self.with_sa(now, spi, out, |sa, cx| sa.datagram(cx, &header, path, &bytes));
            }
            Some(_) => self.unknown_sa(now, &header, first, &path, out),
            None if header.exchange == ExchangeType::IkeSaInit && !header.flags.response => {
                self.called(now, &header, path, bytes, out);
            }
            None if header.exchange == ExchangeType::Informational && !header.flags.response => {
                self.told_of_unknown_spi(now, &path, &bytes, out);
            }
            None => {}
        }
    }

    /// An IKE_SA_INIT request: from a peer that begins, or repeats itself.
    fn called(&mut self, now: Instant, header: &Header, path: Path, bytes: Bytes, out: &mut Vec<Output>) {
        let caller = (path.remote, header.initiator_spi);
        if let Some(spi) = self.door.known(&caller) {
            return self.with_sa(now, spi, out, |sa, cx| sa.called_again(cx, &path, &bytes));
        }
        if self.ending {
            return;
        }
        let mut cx = context!(self, now, out);
        if let Some(sa) = init::answer(&mut cx, &mut self.door, header, &path, &bytes) {
            self.door.admitted(caller, sa.spi(), &self.settings, out);
            self.insert(sa, out);
        }
    }

    /// A message for an SA that does not exist, as after a restart of ours (RFC 7296 §1.5, §2.21.4).
    fn unknown_sa(&mut self, now: Instant, header: &Header, first: PayloadType, path: &Path, out: &mut Vec<Output>) {
        if header.flags.response {
            return;
        }
        let token = self.token_of_lost_sa(header, first);
        self.door.refuse_spi(now, header, path, token.as_ref(), out);
        self.hint(now, path);
    }

    /// The token that shows the peer that its SA was ours and is lost (RFC 6290 §4.5).
    ///
    /// Never for an SA that stands: with its initiator flag turned around a header names the peer's SPI as ours.
    fn token_of_lost_sa(&self, header: &Header, first: PayloadType) -> Option<CrashToken> {
        let spis = (header.initiator_spi, header.responder_spi?);
        let stands = self.sas.contains_key(&spis.0) || self.sas.contains_key(&spis.1);
        let protected = matches!(first, PayloadType::Encrypted | PayloadType::EncryptedFragment);
        let secret = self.crash_tokens.as_ref().filter(|_| protected && !stands)?;
        Some(secret.token(spis, !header.flags.initiator))
    }

    /// ESP came that no pair of ours takes: the peer has missed a restart of ours. Either we call it, or it is told
    /// (RFC 7296 §1.5), so that it asks and learns what is lost.
    fn unknown_child(&mut self, now: Instant, spi: u32, path: &Path, out: &mut Vec<Output>) {
        self.hint(now, path);
        let calls = |tunnel: &Tunnel| {
            tunnel.config.uses(&path.wan)
                && tunnel.config.remote == Remote::Address(path.remote.ip())
                && (tunnel.is_up() || tunnel.calls())
        };
        if !self.tunnels.values().any(calls) && !self.ending {
            self.door.tell_unknown_spi(now, spi, path, &mut *self.rng, out);
        }
    }

    /// Somebody says that a peer does not have a pair that we send with. It may be anybody: so the peer is asked.
    fn told_of_unknown_spi(&mut self, now: Instant, path: &Path, bytes: &Bytes, out: &mut Vec<Output>) {
        if self.told_at.is_some_and(|at| now.saturating_duration_since(at) < HINTS_APART) {
            return;
        }
        let Ok(message) = Message::parse(bytes) else { return };
        let claimed =
            message.notify(NotifyType::InvalidSpi).and_then(|notify| <[u8; 4]>::try_from(&notify.data[..]).ok());
        let Some(claimed) = claimed.map(u32::from_be_bytes) else { return };
        self.told_at = Some(now);
        let concerned = |sa: &&IkeSa| sa.path().remote.ip() == path.remote.ip() && sa.sends_with(claimed);
        if let Some(spi) = self.sas.values().find(concerned).map(IkeSa::spi) {
            self.with_sa(now, spi, out, |sa, cx| sa.want_proof(cx));
        }
    }

    /// The peer at the other end of `path` seems to believe in an SA that we do not have.
    fn hint(&mut self, now: Instant, path: &Path) {
        // Anybody can send such packets, and each costs a look at every tunnel.
        if self.hinted_at.is_some_and(|at| now.saturating_duration_since(at) < HINTS_APART) {
            return;
        }
        self.hinted_at = Some(now);
        for (name, tunnel) in &mut self.tunnels {
            let theirs = tunnel.config.remote == Remote::Address(path.remote.ip()) && tunnel.config.uses(&path.wan);
            if theirs && !tunnel.is_up() {
                tunnel.hint(now);
                self.touched.insert(name.clone());
            }
        }
    }

    fn timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        for key in self.timers.due(now) {
            match key {
                TimerKey::Sa(spi) => self.with_sa(now, spi, out, |sa, cx| sa.timeout(cx)),
                TimerKey::Tunnel(name) => {
                    self.touched.insert(name);
                }
                TimerKey::Check => self.check_peers(now, out),
            }
        }
    }

    /// Handshakes that waited for this go on at once. Peers that were accepted before are looked at in portions, since
    /// each costs some signatures, and only those whose certificates have to do with what is new.
    fn revocations_changed(&mut self, now: Instant, revocations: Arc<Revocations>, out: &mut Vec<Output>) {
        let changes = revocations.changes_since(&self.revocations);
        self.revocations = revocations;
        let waiting: Vec<_> = self.sas.iter().filter(|(_, sa)| sa.is_waiting()).map(|(spi, _)| *spi).collect();
        for spi in waiting {
            self.with_sa(now, spi, out, |sa, cx| sa.revocations_changed(cx));
        }
        if !changes.is_empty() {
            let concerned = self.sas.iter().filter(|(_, sa)| changes.concern(sa.certificates()));
            self.to_check.extend(concerned.map(|(spi, _)| *spi));
        }
        self.check_peers(now, out);
    }

    fn check_peers(&mut self, now: Instant, out: &mut Vec<Output>) {
        for _ in 0..CHECKS_AT_ONCE {
            let Some(spi) = self.to_check.pop_first() else { break };
            self.with_sa(now, spi, out, |sa, cx| sa.check_peer_again(cx));
        }
        self.timers.set(&TimerKey::Check, (!self.to_check.is_empty()).then_some(now + CHECKS_APART));
    }

    fn reconfigure(&mut self, now: Instant, tunnels: Vec<ConnectionConfig>, out: &mut Vec<Output>) {
        let wanted: BTreeMap<_, _> =
            tunnels.into_iter().map(|config| (config.tunnel.clone(), Arc::new(config))).collect();
        let gone: Vec<_> = self.tunnels.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            self.close_all(now, &name, DownCause::Reconfigured, out);
            self.forget(now, &name, out);
        }
        for (name, config) in wanted {
            let Some(tunnel) = self.tunnels.get_mut(&name) else {
                self.tunnels.insert(name.clone(), Tunnel::new(now, config));
                self.touched.insert(name);
                continue;
            };
            if tunnel.config == config {
                continue;
            }
            let keeps_sas = tunnel.config.negotiates_like(&config);
            let other_trust = tunnel.config.remote_credential != config.remote_credential;
            let was_shut = tunnel.config.shutdown;
            tunnel.config = config.clone();
            if was_shut != config.shutdown {
                tunnel.admin_down = config.shutdown;
            }
            let admin_down = tunnel.admin_down;
            tunnel.call_now(now);
            if admin_down {
                self.close_all(now, &name, DownCause::AdminDown, out);
            } else if !keeps_sas {
                self.close_all(now, &name, DownCause::Reconfigured, out);
            } else {
                for spi in self.sas_of(&name) {
                    let config = config.clone();
                    self.with_sa(now, spi, out, |sa, _| sa.reconfigured(config));
                    if other_trust {
                        self.with_sa(now, spi, out, |sa, cx| sa.check_peer_again(cx));
                    }
                }
            }
            self.touched.insert(name);
        }
    }

    fn wan_changed(&mut self, now: Instant, wan: WanName, addresses: Vec<IpAddr>, out: &mut Vec<Output>) {
        let before = self.wans.insert(wan.clone(), addresses.clone()).unwrap_or_default();
        if before == addresses {
            return;
        }
        if before.is_empty() != addresses.is_empty() {
            out.push(Output::Event(Event::Wan { wan: wan.clone(), up: !addresses.is_empty() }));
        }
        let bound: Vec<_> =
            self.tunnels.iter().filter(|(_, tunnel)| tunnel.config.uses(&wan)).map(|(name, _)| name.clone()).collect();
        for name in bound {
            let mut moved = false;
            for spi in self.sas_of(&name) {
                let Some(sa) = self.sas.get(&spi) else { continue };
                let mobile = sa.is_mobile();
                if sa.path().wan != wan {
                    if mobile && !addresses.is_empty() {
                        self.with_sa(now, spi, out, |sa, cx| sa.consider_link(cx, &wan));
                        moved = true;
                    }
                } else if addresses.contains(&sa.path().local.ip()) {
                    self.with_sa(now, spi, out, |sa, cx| sa.link_back(cx));
                } else {
                    let mut left = false;
                    self.with_sa(now, spi, out, |sa, cx| left = mobile && sa.leave_path(cx));
                    moved |= left;
                    if left {
                        continue;
                    }
                    let elsewhere = self
                        .tunnels
                        .get(&name)
                        .is_some_and(|tunnel| !call_paths(&self.settings, &self.wans, &tunnel.config).is_empty());
                    if addresses.is_empty() && !elsewhere {
                        self.with_sa(now, spi, out, |sa, cx| sa.link_lost(cx));
                    } else {
                        // Its address is gone, and it cannot follow.
                        self.with_sa(now, spi, out, |sa, cx| sa.vanish(cx, DownCause::LinkDown));
                        self.call_now(now, &name);
                    }
                }
            }
            if let Some(tunnel) = self.tunnels.get_mut(&name).filter(|_| !addresses.is_empty() && !moved) {
                tunnel.link_back(now);
            }
            self.touched.insert(name);
        }
    }

    fn call_now(&mut self, now: Instant, name: &TunnelName) {
        if let Some(tunnel) = self.tunnels.get_mut(name) {
            tunnel.call_now(now);
        }
    }

    fn initiate(&mut self, now: Instant, name: TunnelName) {
        if let Some(tunnel) = self.tunnels.get_mut(&name).filter(|tunnel| !tunnel.config.shutdown) {
            if std::mem::take(&mut tunnel.admin_down) {
                tunnel.set_cause(match tunnel.config.role {
                    Role::Initiate => DownCause::Starting,
                    Role::RespondOnly => DownCause::WaitingForPeer,
                });
            }
            tunnel.call_once(now);
            self.touched.insert(name);
        }
    }

    fn terminate(&mut self, now: Instant, name: &TunnelName, out: &mut Vec<Output>) {
        if let Some(tunnel) = self.tunnels.get_mut(name) {
            tunnel.admin_down = true;
            self.touched.insert(name.clone());
            self.close_all(now, name, DownCause::AdminDown, out);
        }
    }

    fn rekey(&mut self, now: Instant, name: &TunnelName, ike: bool, out: &mut Vec<Output>) {
        let Some(active) = self.tunnels.get(name).and_then(Tunnel::active) else { return };
        self.with_child(now, active, out, |sa, cx| sa.rekey_now(cx, (!ike).then_some(active)));
    }

    fn shutdown(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.ending = true;
        let names: Vec<_> = self.tunnels.keys().cloned().collect();
        for name in names {
            self.terminate(now, &name, out);
        }
        let half_open: Vec<_> = self.sas.iter().filter(|(_, sa)| sa.tunnel().is_none()).map(|(spi, _)| *spi).collect();
        for spi in half_open {
            self.with_sa(now, spi, out, |sa, cx| sa.vanish(cx, DownCause::AdminDown));
        }
    }

    // --- SAs ---

    fn sas_of(&self, tunnel: &TunnelName) -> Vec<IkeSpi> {
        self.tunnels.get(tunnel).map(|tunnel| tunnel.sas.iter().copied().collect()).unwrap_or_default()
    }

    fn close_all(&mut self, now: Instant, tunnel: &TunnelName, cause: DownCause, out: &mut Vec<Output>) {
        for spi in self.sas_of(tunnel) {
            let cause = cause.clone();
            self.with_sa(now, spi, out, |sa, cx| sa.close(cx, cause));
        }
    }

    /// Takes a tunnel out of the configuration, its pairs with it; IKE SAs that still say goodbye end on their own.
    fn forget(&mut self, now: Instant, name: &TunnelName, out: &mut Vec<Output>) {
        if let Some(tunnel) = self.tunnels.remove(name) {
            tunnel.remove(now, &mut self.spis, out);
            self.touched.remove(name);
            self.timers.set(&TimerKey::Tunnel(name.clone()), None);
        }
    }

    fn with_child(
        &mut self,
        now: Instant,
        child: Spi,
        out: &mut Vec<Output>,
        step: impl FnOnce(&mut IkeSa, &mut Cx<'_>),
    ) {
        let owner = self.spis.tunnel_of(child).and_then(|name| self.tunnels.get(name)?.sa_of(child));
        if let Some(spi) = owner {
            self.with_sa(now, spi, out, step);
        }
    }

    /// Lets one SA take a step, then acts on its news and arms its timer.
    fn with_sa(
        &mut self,
        now: Instant,
        spi: IkeSpi,
        out: &mut Vec<Output>,
        step: impl FnOnce(&mut IkeSa, &mut Cx<'_>),
    ) {
        let Some(mut sa) = self.sas.remove(&spi) else { return };
        let mut cx = context!(self, now, out);
        step(&mut sa, &mut cx);
        sa.proceed(&mut cx);
        let news = cx.news;
        self.insert(sa, out);
        for item in news {
            self.act_on(now, spi, item, out);
        }
        if self.sas.get(&spi).is_some_and(IkeSa::is_over) {
            self.remove(spi, out);
        }
    }

    fn insert(&mut self, sa: IkeSa, out: &mut Vec<Output>) {
        let spi = sa.spi();
        self.timers.set(&TimerKey::Sa(spi), sa.deadline());
        if !sa.is_half_open() {
            self.door.passed(spi, &self.settings, out);
        }
        if let Some(name) = sa.tunnel() {
            if let Some(tunnel) = self.tunnels.get_mut(name) {
                tunnel.sas.insert(spi);
            }
            self.touched.insert(name.clone());
        }
        self.sas.insert(spi, sa);
    }

    fn remove(&mut self, spi: IkeSpi, out: &mut Vec<Output>) {
        let Some(sa) = self.sas.remove(&spi) else { return };
        self.timers.set(&TimerKey::Sa(spi), None);
        self.door.left(spi, &self.settings, out);
        if let Some(tunnel) = sa.tunnel().and_then(|name| self.tunnels.get_mut(name)) {
            tunnel.sas.remove(&spi);
        }
    }

    /// What an SA reports about itself becomes the tunnel's state, and sometimes another SA's.
    fn act_on(&mut self, now: Instant, spi: IkeSpi, news: News, out: &mut Vec<Output>) {
        let Some(name) = self.sas.get(&spi).and_then(IkeSa::tunnel).cloned() else { return };
        let Some(tunnel) = self.tunnels.get_mut(&name) else { return };
        match news {
            News::Established { initial_contact } => {
                self.established(now, spi, &name, initial_contact, out);
            }
            News::ChildInstalled { spi_in, spi_out, ready } => {
                tunnel.child_installed(spi, spi_in, spi_out, ready);
                self.renewed(now, spi, &name, out);
            }
            News::ChildReady(child) => tunnel.child_ready(child),
            News::ChildPhase(child, phase) => tunnel.child_phase(child, phase),
            News::ChildGone { spi_in, cause } => {
                tunnel.child_gone(now, spi_in);
                if let Some(cause) = cause {
                    tunnel.set_cause(cause);
                    tunnel.setback(now, Setback::Lost, &mut *self.rng);
                }
            }
            News::ChildRefused { .. } if tunnel.has_children() && self.sas.get(&spi).is_some_and(IkeSa::renews) => {
                // What was to be replaced goes on, and has another try later.
                self.with_sa(now, spi, out, |sa, cx| sa.close_superseded(cx));
            }
            News::ChildRefused { cause, setback } => {
                tunnel.set_cause(cause);
                tunnel.setback(now, setback, &mut *self.rng);
            }
            News::ChildExpected => tunnel.expect_child(now),
            News::Heir(heir) => self.insert(*heir, out),
            News::Inherit { heir, children, path } => {
                if let (Some(old), Some(new)) = (self.sas.get(&spi), self.sas.get(&heir)) {
                    let (old, new) = (old.spis(), new.spis());
                    out.push(Output::Event(Event::IkeRekeyed { tunnel: name.clone(), old, new }));
                }
                for child in children.keys() {
                    tunnel.child_moved(*child, heir);
                }
                self.with_sa(now, heir, out, |sa, cx| sa.inherit(cx, children, &path));
            }
            News::Reauthenticate => self.renew(now, spi, &name, out),
            News::Elected => {
                for other in self.sas_of(&name) {
                    self.with_sa(now, other, out, |sa, cx| sa.elect(cx, spi));
                }
            }
            News::CloseRival(rival) => {
                self.with_sa(now, rival, out, |sa, cx| sa.close_superseded(cx));
            }
            News::AwaitClose(rival) => {
                self.with_sa(now, rival, out, |sa, cx| sa.await_close(cx));
            }
            News::CallerRefused(why) => tunnel.set_cause(DownCause::Refused(why)),
            News::Changed => {}
            News::Ended(ending) => self.ended(now, &name, ending),
        }
    }

    /// An IKE SA was authenticated: attempts of ours that are no longer needed end, and so do SAs that the peer says it
    /// has forgotten.
    fn established(
        &mut self,
        now: Instant,
        spi: IkeSpi,
        name: &TunnelName,
        initial_contact: Option<Instant>,
        out: &mut Vec<Output>,
    ) {
        for other in self.sas_of(name) {
            let Some(sa) = self.sas.get(&other).filter(|_| other != spi) else { continue };
            // What was heard on an SA after this call began is from the same life of the peer as the call: the two
            // crossed. They are resolved as duplicates.
            let heard_since = |began: Instant| sa.established().is_some_and(|established| established.heard() >= began);
            if sa.is_calling() {
                // Nothing was promised to the peer yet.
                self.with_sa(now, other, out, |sa, _| sa.withdraw());
            } else if sa.is_established() && initial_contact.is_some_and(|began| !heard_since(began)) {
                // RFC 7296 §2.4. The peer is still told, in case it knows better.
                self.with_sa(now, other, out, |sa, cx| sa.close_superseded(cx));
            }
        }
    }

    /// Calls the peer of an SA once more, by the same way, to prove anew who the two are. The SA carries on meanwhile.
    fn renew(&mut self, now: Instant, spi: IkeSpi, name: &TunnelName, out: &mut Vec<Output>) {
        let (Some(sa), Some(tunnel)) = (self.sas.get(&spi), self.tunnels.get(name)) else { return };
        let (config, port) = (tunnel.config.clone(), self.settings.ike_port);
        let mut path = Path { natt: false, ..sa.path().clone() };
        path.local.set_port(port);
        path.remote.set_port(port);
        let mut cx = context!(self, now, out);
        if let Some(sa) = init::call(&mut cx, config, path) {
            self.insert(sa.renewing(), out);
        }
    }

    /// A pair was installed on an IKE SA that was made to authenticate anew: the ones before it have done their duty.
    fn renewed(&mut self, now: Instant, spi: IkeSpi, name: &TunnelName, out: &mut Vec<Output>) {
        let Some(new) = self.sas.get_mut(&spi).filter(|sa| sa.renews()).map(IkeSa::take_renewal) else { return };
        for other in self.sas_of(name) {
            let Some(sa) = self.sas.get(&other).filter(|sa| other != spi && sa.is_called_by_us()) else { continue };
            let old = sa.spis();
            out.push(Output::Event(Event::Reauthenticated { tunnel: name.clone(), old, new }));
            self.with_sa(now, other, out, |sa, cx| sa.close_superseded(cx));
        }
    }

    fn ended(&mut self, now: Instant, name: &TunnelName, ending: Ending) {
        let Some(tunnel) = self.tunnels.get_mut(name) else { return };
        let (cause, setback) = match ending {
            Ending::Superseded => return,
            Ending::Lost(cause) => (cause, Setback::Lost),
            Ending::Refused(why) => (DownCause::Refused(why), Setback::Refused),
        };
        let restarted = cause == DownCause::PeerRestarted;
        if cause == DownCause::PeerUnreachable {
            tunnel.was_not_answered();
        }
        tunnel.set_cause(cause);
        tunnel.setback(now, setback, &mut *self.rng);
        if restarted {
            tunnel.call_now(now); // it is there, and it said so
        }
    }

    // --- tunnels ---

    /// Lets every touched tunnel draw its conclusions until nothing more follows from them.
    fn settle(&mut self, now: Instant, out: &mut Vec<Output>) {
        while let Some(name) = self.touched.pop_first() {
            let Some(tunnel) = self.tunnels.get_mut(&name) else { continue };
            let views: Vec<_> = tunnel.sas.iter().filter_map(|spi| self.sas.get(spi)).map(IkeSa::view).collect();
            let link = match tunnel.config.remote {
                Remote::Address(_) => !call_paths(&self.settings, &self.wans, &tunnel.config).is_empty(),
                Remote::Any => {
                    let mut wans = tunnel.config.wans().filter_map(|wan| self.wans.get(wan));
                    wans.any(|addresses| !addresses.is_empty())
                }
            };
            let wishes = tunnel.settle(now, link, &views, &mut self.spis, out);
            self.timers.set(&TimerKey::Tunnel(name.clone()), tunnel.deadline());
            for wish in wishes {
                match wish {
                    Wish::Call => self.call(now, &name, out),
                    Wish::NewChild(spi) => self.with_sa(now, spi, out, |sa, _| sa.want_child()),
                    Wish::Probe(spi) => self.with_sa(now, spi, out, |sa, cx| sa.want_proof(cx)),
                    Wish::Abandon(spi) => {
                        self.with_sa(now, spi, out, |sa, cx| sa.vanish(cx, DownCause::LinkDown));
                        if let Some(tunnel) = self.tunnels.get_mut(&name) {
                            tunnel.call_now(now);
                        }
                    }
                    Wish::CloseDuplicate { close, keep } => self.close_duplicate(now, &name, close, keep, out),
                }
            }
        }
    }

    fn call(&mut self, now: Instant, name: &TunnelName, out: &mut Vec<Output>) {
        let Some(tunnel) = self.tunnels.get(name) else { return };
        let config = tunnel.config.clone();
        let paths = call_paths(&self.settings, &self.wans, &config);
        // A link may be up and lead nowhere: after each call without an answer it is the next one's turn.
        let Some(path) = paths.get(tunnel.unanswered() % paths.len().max(1)).cloned() else { return };
        let mut cx = context!(self, now, out);
        if let Some(sa) = init::call(&mut cx, config, path) {
            self.insert(sa, out);
        }
    }

    fn close_duplicate(&mut self, now: Instant, name: &TunnelName, close: IkeSpi, keep: IkeSpi, out: &mut Vec<Output>) {
        if let (Some(closed), Some(kept)) = (self.sas.get(&close), self.sas.get(&keep)) {
            let (closed, kept) = (closed.spis(), kept.spis());
            out.push(Output::Event(Event::DuplicateClosed { tunnel: name.clone(), closed, kept }));
            self.with_sa(now, close, out, |sa, cx| sa.close_superseded(cx));
        }
    }
}

impl WallClock {
    fn at(&self, now: Instant) -> Duration {
        self.since_1970 + now.saturating_duration_since(self.at)
    }
}

/// From where to where a tunnel's first message may go, best first: one path for each link with an address of the peer's
/// family.
fn call_paths(settings: &EngineConfig, wans: &BTreeMap<WanName, Vec<IpAddr>>, config: &ConnectionConfig) -> Vec<Path> {
    let Remote::Address(remote) = config.remote else { return Vec::new() };
    let port = settings.ike_port;
    let path = |wan: &WanName| {
        let addresses = wans.get(wan)?;
        let local = match config.local_address {
            Some(address) => addresses.contains(&address).then_some(address)?,
            None => *addresses.iter().find(|address| address.is_ipv4() == remote.is_ipv4())?,
        };
        let (local, remote) = (SocketAddr::new(local, port), SocketAddr::new(remote, port));
        Some(Path { wan: wan.clone(), local, remote, natt: false })
    };
    config.wans().filter_map(path).collect()
}
