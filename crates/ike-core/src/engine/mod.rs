//! The engine: every IKE SA of the daemon, who gets which input, and what the tunnels make of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ike_crypto::{CrashTokenSecret, Revocations};
use ike_wire::IkeSpi;
use net_types::{TunnelName, WanName};
use rand::CryptoRng;

use crate::{
    config::EngineConfig,
    door::Door,
    io::{Input, Output},
    sa::{IkeSa, SpiBook},
    timers::Timers,
    tunnel::{Standing, Tunnel},
};

/// What an SA's step needs, borrowed field by field so that the SAs stay free.
macro_rules! context {
    ($engine:ident, $now:ident, $out:ident) => {
        $crate::sa::Cx {
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

mod calls;
mod messages;
mod orders;
mod sas;
mod tunnels;

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
    calls: calls::Calls,
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
            calls: calls::Calls::default(),
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
}

impl WallClock {
    fn at(&self, now: Instant) -> Duration {
        self.since_1970 + now.saturating_duration_since(self.at)
    }
}
