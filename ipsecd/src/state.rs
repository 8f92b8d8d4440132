//! What the daemon knows of itself, for those who ask: the RPC service, `show` and the metrics.
//!
//! One writer, the daemon's main loop; any number of readers, who take snapshots and never wait for packets. Tunnels and
//! links are on boards, which subscribers follow (first all, then changes); details that only people ask for stand
//! beside them; counters are read from the packet path when asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use config::Config;
use dataplane::{Dataplane, Stats};
use net_types::{Spi, TunnelName, WanName};
use rpc::{Board, TunnelState, TunnelStatus, WanStatus};
use tokio::sync::{mpsc, oneshot};

use crate::{datapath::Choice, trust::TrustView};

/// Handle on the daemon's state; clones show the same.
#[derive(Clone)]
pub struct State {
    tunnels: Board<TunnelName, TunnelStatus>,
    wans: Board<WanName, WanStatus>,
    details: Arc<Mutex<Details>>,
    dataplane: Arc<dyn Dataplane>,
    requests: mpsc::Sender<Request>,
}

#[derive(Default)]
struct Details {
    config: Arc<Config>,
    trust: Arc<TrustView>,
    tunnels: BTreeMap<TunnelName, TunnelDetail>,
    negotiated: BTreeMap<TunnelName, Negotiated>,
}

/// What a tunnel's IKE SA says of it, and what is known beyond that.
struct Negotiated {
    wan: WanName,
    ifindex: u32,
    state: TunnelState,
    /// Why it counts as down although it is up.
    silent: Option<String>,
}

impl Negotiated {
    /// What others are told.
    fn told(&self) -> TunnelState {
        match (&self.state, &self.silent) {
            (TunnelState::Up { .. }, Some(cause)) => TunnelState::Down { cause: cause.clone() },
            (state, _) => state.clone(),
        }
    }
}

/// What there is to say of a tunnel beyond its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelDetail {
    /// Its IKE SA, when there is one.
    pub ike: Option<IkeSa>,
    /// Its child SAs, oldest first.
    pub children: Vec<ChildSa>,
    /// How often it has come up since the daemon began.
    pub times_up: u64,
    /// How often IKE and child SAs have been replaced since then.
    pub ike_rekeys: u64,
    /// See `ike_rekeys`.
    pub child_rekeys: u64,
    /// How often both sides have authenticated anew.
    pub ike_reauths: u64,
    /// How often the peer was known to have lost its SAs by its crash token (RFC 6290).
    pub peer_restarts: u64,
    /// How often the outer path has changed under an IKE SA.
    pub moves: u64,
    /// What came of the questions of its `probe` since the daemon began.
    pub probe: Questions,
    /// Who seals and opens its packets.
    pub datapath: Option<Choice>,
    /// The last thing that went wrong, for people.
    pub last_error: Option<Stamped<String>>,
}

/// What came of questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// How many were sent.
    pub asked: u64,
    /// How many were answered within the timeout.
    pub answered: u64,
    /// How many were not.
    pub lost: u64,
    /// How long the last answer took.
    pub round_trip: Option<Duration>,
}

/// An IKE SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeSa {
    /// Both SPIs, initiator's first.
    pub spis: (u64, u64),
    /// Whether we called.
    pub initiated: bool,
    /// As the peer calls itself.
    pub peer: String,
    /// The other end.
    pub remote: SocketAddr,
    /// Negotiated algorithms.
    pub suite: String,
    /// Since when the peer is authenticated.
    pub since: SystemTime,
    /// When it was last rekeyed.
    pub rekeyed: Option<SystemTime>,
}

/// A pair of child SAs. Their counters are in the statistics of the packet path, by SPI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildSa {
    /// SPI that the peer sends to us with.
    pub spi_in: Spi,
    /// SPI that we send to the peer with.
    pub spi_out: Spi,
    /// Negotiated algorithms.
    pub suite: String,
    /// Our side of the traffic selectors, for people.
    pub local_selectors: Vec<String>,
    /// The peer's.
    pub remote_selectors: Vec<String>,
    /// Whether traffic is sent by it: of several, the newest that the peer has agreed to.
    pub in_use: bool,
    /// Since when.
    pub since: SystemTime,
}

/// A value and when it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped<T> {
    /// When.
    pub at: SystemTime,
    /// What.
    pub value: T,
}

/// What an operator may ask of the daemon. The answer is a line for the operator, or why not.
#[derive(Debug)]
pub enum Request {
    /// Bring the tunnel up now, and no longer hold it down.
    Initiate(TunnelName, Answer),
    /// Delete the tunnel's SAs and hold it down: the peer is refused when it calls.
    Terminate(TunnelName, Answer),
    /// Replace the tunnel's SAs: the IKE SA, or its child SA.
    Rekey {
        /// Which tunnel.
        tunnel: TunnelName,
        /// The IKE SA; the child SA otherwise.
        ike: bool,
        /// To whom to answer.
        answer: Answer,
    },
    /// Read the configuration file again and apply the difference.
    Reload(Answer),
    /// bgpd says in which tunnels nobody answers.
    Silent(BTreeSet<TunnelName>, Answer),
    /// Nothing: the answer shows that the loop goes round. For the watchdog.
    Ping(Answer),
}

/// Where the outcome of a [`Request`] goes.
pub type Answer = oneshot::Sender<Result<String, String>>;

impl State {
    /// A state without tunnels, and the end at which requests arrive.
    pub fn new(dataplane: Arc<dyn Dataplane>) -> (Self, mpsc::Receiver<Request>) {
        let (requests, incoming) = mpsc::channel(64); // operators; who finds it full waits
        let (tunnels, wans) = (Board::new(), Board::new());
        (Self { tunnels, wans, details: Arc::default(), dataplane, requests }, incoming)
    }

    /// Tunnels, to read or to follow.
    pub fn tunnels(&self) -> &Board<TunnelName, TunnelStatus> {
        &self.tunnels
    }

    /// WAN links, to read or to follow.
    pub fn wans(&self) -> &Board<WanName, WanStatus> {
        &self.wans
    }

    /// The configuration that runs.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.details().config)
    }

    /// What there is to say of a tunnel.
    pub fn tunnel(&self, tunnel: &TunnelName) -> Option<TunnelDetail> {
        self.details().tunnels.get(tunnel).cloned()
    }

    /// The counters of the packet path as they are now.
    pub fn stats(&self) -> Stats {
        self.dataplane.stats()
    }

    /// Asks the daemon for something and waits for its answer.
    ///
    /// # Errors
    /// Why it was not done, for the operator.
    pub async fn request(&self, request: impl FnOnce(Answer) -> Request) -> Result<String, String> {
        let (answer, outcome) = oneshot::channel();
        let ending = || "the daemon is about to end".to_owned();
        self.requests.send(request(answer)).await.map_err(|_| ending())?;
        outcome.await.unwrap_or_else(|_| Err(ending()))
    }

    pub(crate) fn set_config(&self, config: Arc<Config>) {
        self.details().config = config;
    }

    /// Changes what there is to say of a tunnel.
    pub(crate) fn edit(&self, tunnel: &TunnelName, change: impl FnOnce(&mut TunnelDetail)) {
        change(self.details().tunnels.entry(tunnel.clone()).or_default());
    }

    /// Counts questions of a tunnel's probe, while there is the tunnel.
    pub(crate) fn count(&self, tunnel: &TunnelName, change: impl FnOnce(&mut Questions)) {
        if let Some(detail) = self.details().tunnels.get_mut(tunnel) {
            change(&mut detail.probe);
        }
    }

    pub(crate) fn forget(&self, tunnel: &TunnelName) {
        let mut details = self.details();
        details.tunnels.remove(tunnel);
        details.negotiated.remove(tunnel);
        drop(details);
        self.tunnels.remove(tunnel);
    }

    /// A tunnel's state as its IKE SA has it, be it that nobody answers in it.
    pub(crate) fn negotiated(&self, tunnel: &TunnelName) -> Option<TunnelState> {
        self.details().negotiated.get(tunnel).map(|negotiated| negotiated.state.clone())
    }

    /// Whether nobody answers in a tunnel, be it up or not.
    pub fn is_silent(&self, tunnel: &TunnelName) -> bool {
        self.details().negotiated.get(tunnel).is_some_and(|negotiated| negotiated.silent.is_some())
    }

    /// Nobody answers in a tunnel, for a reason: it is told as down while it is up. Or somebody does again.
    pub(crate) fn set_silent(&self, tunnel: &TunnelName, silent: Option<String>) {
        let mut details = self.details();
        let Some(negotiated) = details.negotiated.get_mut(tunnel) else { return };
        negotiated.silent = silent;
        let (wan, ifindex, told) = (negotiated.wan.clone(), negotiated.ifindex, negotiated.told());
        drop(details);
        self.tell(tunnel, &wan, ifindex, told);
    }

    /// Takes up a tunnel's state as its IKE SA has it, and tells others.
    pub(crate) fn publish(&self, tunnel: &TunnelName, wan: &WanName, ifindex: u32, state: TunnelState) {
        let mut details = self.details();
        let silent = details.negotiated.remove(tunnel).and_then(|before| before.silent);
        let negotiated = Negotiated { wan: wan.clone(), ifindex, state, silent };
        let told = negotiated.told();
        details.negotiated.insert(tunnel.clone(), negotiated);
        drop(details);
        self.tell(tunnel, wan, ifindex, told);
    }

    /// Tells a tunnel's state unless it is the same already. Time and generation move with the state alone.
    fn tell(&self, tunnel: &TunnelName, wan: &WanName, ifindex: u32, state: TunnelState) {
        let before = self.tunnels.get(tunnel);
        let unchanged = |before: &TunnelStatus| (&before.wan, before.ifindex, &before.state) == (wan, ifindex, &state);
        if before.as_ref().is_some_and(unchanged) {
            return;
        }
        let status = TunnelStatus {
            tunnel: tunnel.clone(),
            ifindex,
            wan: wan.clone(),
            state,
            since_unix_us: unix_us(SystemTime::now()),
            generation: before.map_or(1, |before| before.generation.wrapping_add(1)),
        };
        self.tunnels.set(tunnel.clone(), status);
    }

    /// What is known of certificates.
    pub fn trust(&self) -> Arc<TrustView> {
        self.details().trust.clone()
    }

    pub(crate) fn set_trust(&self, trust: TrustView) {
        self.details().trust = Arc::new(trust);
    }

    /// Publishes a link's state unless it is the same already.
    pub(crate) fn publish_wan(&self, mut status: WanStatus) {
        let before = self.wans.get(&status.wan);
        if let Some(before) = &before {
            let same = (&before.interface, before.ifindex, &before.state);
            if same == (&status.interface, status.ifindex, &status.state) {
                return;
            }
        }
        status.since_unix_us = unix_us(SystemTime::now());
        status.generation = before.map_or(1, |before| before.generation.wrapping_add(1));
        self.wans.set(status.wan.clone(), status);
    }

    pub(crate) fn forget_wan(&self, wan: &WanName) {
        self.wans.remove(wan);
    }

    /// No code of others runs under the lock, and every change leaves the details whole.
    fn details(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Microseconds of Unix time.
pub fn unix_us(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
