//! One IKE SA from its first message to its last.
//!
//! Each stage holds what is true in it and nothing else. What concerns the tunnel as a whole (which child carries the
//! traffic, when to call again) is not decided here: it is reported as [`News`].

mod agreement;
mod auth;
mod channel;
mod child;
mod crash;
mod established;
mod exchange;
mod follow_up;
mod informational;
pub(crate) mod init;
mod intermediate;
mod leaving;
mod mobike;
mod ppk;
mod reauth;
mod rekey;
mod window;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ike_crypto::{CrashTokenSecret, Revocations, StatusQuery};
use ike_wire::{Certificate, Header, IkeSpi};
use net_types::{Spi, TunnelName, WanName};
use rand::{CryptoRng, Rng};

use self::{
    auth::Proving,
    init::{Calling, HalfOpen},
    intermediate::Mixing,
    leaving::Leaving,
};
pub(crate) use self::{channel::notify, child::Child, established::Established};
use crate::{
    config::{ConnectionConfig, EngineConfig},
    event::{DownCause, Event, Refusal},
    io::{Output, Path},
    tunnel::{Phase, SaView, Setback, Standing, Tunnel},
};

/// Pause before an attempt that the peer put off, at most.
const PUT_OFF: Duration = Duration::from_secs(2);

/// What an SA needs from outside while it takes a step.
pub(crate) struct Cx<'a> {
    pub(crate) now: Instant,
    pub(crate) since_1970: Duration,
    pub(crate) rng: &'a mut (dyn CryptoRng + Send),
    pub(crate) settings: &'a EngineConfig,
    pub(crate) tunnels: &'a BTreeMap<TunnelName, Tunnel>,
    pub(crate) revocations: &'a Revocations,
    pub(crate) wans: &'a BTreeMap<WanName, Vec<IpAddr>>,
    pub(crate) spis: &'a mut SpiBook,
    pub(crate) crash_tokens: Option<&'a CrashTokenSecret>,
    pub(crate) out: &'a mut Vec<Output>,
    pub(crate) news: Vec<News>,
}

impl Cx<'_> {
    pub(crate) fn log(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    /// Has a responder asked about a certificate.
    pub(crate) fn ask_status(&mut self, query: Option<StatusQuery>) {
        self.out.extend(query.map(|query| Output::AskStatus(Box::new(query))));
    }

    /// A fresh SPI for an IKE SA; 64 random bits do not collide.
    pub(crate) fn ike_spi(&mut self) -> IkeSpi {
        loop {
            if let Some(spi) = IkeSpi::new(self.rng.random()) {
                return spi;
            }
        }
    }

    /// A fresh nonce: as long as the strongest PRF's key needs (RFC 7296 §2.10).
    pub(crate) fn nonce(&mut self) -> Vec<u8> {
        let mut nonce = vec![0; 32];
        self.rng.fill_bytes(&mut nonce);
        nonce
    }

    /// Pause before what the peer put off is asked for again: by chance, since the peer is as eager as we are, and never
    /// none (RFC 7296 §2.25).
    pub(crate) fn put_off(&mut self) -> Duration {
        PUT_OFF / 4 + self.up_to(PUT_OFF * 3 / 4)
    }

    /// A duration up to `most`, by chance.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.rng.random::<f64>())
    }
}

/// Which tunnel each inbound SPI belongs to: they are unique in the daemon, because one dataplane demultiplexes them.
#[derive(Debug, Default)]
pub(crate) struct SpiBook {
    owners: BTreeMap<Spi, TunnelName>,
}

impl SpiBook {
    /// An SPI that is not in use. It is not taken by this, only by [`SpiBook::take`].
    pub(crate) fn propose(&self, rng: &mut (dyn CryptoRng + Send)) -> Spi {
        loop {
            match Spi::try_from(rng.random::<u32>()) {
                Ok(spi) if !self.owners.contains_key(&spi) => return spi,
                _ => {}
            }
        }
    }

    /// Takes an SPI; false if somebody has taken it since it was proposed.
    pub(crate) fn take(&mut self, spi: Spi, tunnel: &TunnelName) -> bool {
        match self.owners.entry(spi) {
            std::collections::btree_map::Entry::Occupied(_) => false,
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(tunnel.clone());
                true
            }
        }
    }

    /// The SPI is no longer in use.
    pub(crate) fn free(&mut self, spi: Spi) {
        self.owners.remove(&spi);
    }

    /// Whose it is.
    pub(crate) fn tunnel_of(&self, spi: Spi) -> Option<&TunnelName> {
        self.owners.get(&spi)
    }
}

/// What an SA reports about itself.
pub(crate) enum News {
    /// It was authenticated; the peer says that it has no other, as of the time when this one began.
    Established { initial_contact: Option<Instant> },
    /// A pair was installed.
    ChildInstalled { spi_in: Spi, spi_out: Spi, ready: bool },
    /// The peer is known to have its side of a pair.
    ChildReady(Spi),
    /// A pair enters another phase.
    ChildPhase(Spi, Phase),
    /// A pair ended; with a cause if nothing replaces it.
    ChildGone { spi_in: Spi, cause: Option<DownCause> },
    /// A child SA could not be made.
    ChildRefused { cause: DownCause, setback: Setback },
    /// The peer called without a child SA, and is about to ask for one.
    ChildExpected,
    /// A new IKE SA came out of a rekey.
    Heir(Box<IkeSa>),
    /// The children move to that IKE SA; so far their packets take this path.
    Inherit { heir: IkeSpi, children: BTreeMap<Spi, Child>, path: Path },
    /// It is time to prove anew who the two sides are.
    Reauthenticate,
    /// The peer uses this IKE SA, which came out of its rekey while ours was on the way: it is the one that stays.
    Elected,
    /// This IKE SA lost against another one out of the same rekey, and closing it is our part.
    CloseRival(IkeSpi),
    /// The same, but closing it is the peer's part.
    AwaitClose(IkeSpi),
    /// A caller was refused; our own attempts are not affected.
    CallerRefused(Refusal),
    /// It is of no more use.
    Ended(Ending),
    /// Something changed that the tunnel may want to know.
    Changed,
}

/// How the use of an IKE SA ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Another one has taken its place.
    Superseded,
    /// It was lost, or closed on purpose.
    Lost(DownCause),
    /// Somebody said no.
    Refused(Refusal),
}

/// One IKE SA.
pub(crate) struct IkeSa {
    spi: IkeSpi,
    tunnel: Option<TunnelName>,
    path: Path,
    /// How the request at hand came, which is how the answer goes (RFC 7296 §2.11).
    arrival: Option<Path>,
    /// Made to authenticate anew: what it replaces is closed once its first pair is installed.
    renews: bool,
    stage: Stage,
}

/// How far it has got.
enum Stage {
    /// We have sent IKE_SA_INIT.
    Calling(Box<Calling>),
    /// We have answered IKE_SA_INIT.
    HalfOpen(Box<HalfOpen>),
    /// We have sent IKE_INTERMEDIATE.
    Mixing(Box<Mixing>),
    /// We have sent IKE_AUTH.
    Proving(Box<Proving>),
    /// Authenticated.
    Established(Box<Established>),
    /// Being closed, or replaced: only answers.
    Leaving(Box<Leaving>),
    /// Nothing is left of it.
    Over,
}

impl IkeSa {
    fn heir(spi: IkeSpi, path: Path, established: Established) -> Self {
        let tunnel = Some(established.config.tunnel.clone());
        Self { spi, tunnel, path, arrival: None, renews: false, stage: Stage::Established(Box::new(established)) }
    }

    /// Our SPI, by which it is found.
    pub(crate) fn spi(&self) -> IkeSpi {
        self.spi
    }

    /// Initiator's and responder's SPI, as logs show them; 0 while unknown.
    pub(crate) fn spis(&self) -> (u64, u64) {
        let of = |(i, r): (IkeSpi, IkeSpi)| (i.get(), r.get());
        match &self.stage {
            Stage::Calling(_) | Stage::Over => (self.spi.get(), 0),
            Stage::HalfOpen(half_open) => of(half_open.handshake.channel.spis),
            Stage::Mixing(mixing) => of(mixing.handshake.channel.spis),
            Stage::Proving(proving) => of(proving.handshake.channel.spis),
            Stage::Established(established) => of(established.channel.spis),
            Stage::Leaving(leaving) => of(leaving.channel.spis),
        }
    }

    /// The tunnel, once it is known.
    pub(crate) fn tunnel(&self) -> Option<&TunnelName> {
        self.tunnel.as_ref()
    }

    /// How it reaches the peer.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it waits for a caller's IKE_AUTH.
    pub(crate) fn is_half_open(&self) -> bool {
        matches!(self.stage, Stage::HalfOpen(_))
    }

    /// Whether it waits for the answer to IKE_SA_INIT.
    pub(crate) fn is_calling(&self) -> bool {
        matches!(self.stage, Stage::Calling(_))
    }

    /// Whether it is authenticated and in use.
    pub(crate) fn is_established(&self) -> bool {
        matches!(self.stage, Stage::Established(_))
    }

    /// Whether its handshake waits for what a responder says of the peer's certificate.
    pub(crate) fn is_waiting(&self) -> bool {
        match &self.stage {
            Stage::HalfOpen(half_open) => half_open.waiting.is_some(),
            Stage::Proving(proving) => proving.is_waiting(),
            _ => false,
        }
    }

    /// Those by which the peer was accepted; none where by a pre-shared key.
    pub(crate) fn certificates(&self) -> &[Certificate] {
        match &self.stage {
            Stage::Established(established) => &established.peer.certificates,
            _ => &[],
        }
    }

    /// Whether it can be forgotten.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// What the tunnel sees.
    pub(crate) fn view(&self) -> SaView {
        let standing = match &self.stage {
            Stage::Calling(_) | Stage::HalfOpen(_) | Stage::Mixing(_) | Stage::Proving(_) => Standing::Larval,
            Stage::Established(established) => established.standing(&self.path),
            Stage::Leaving(_) | Stage::Over => Standing::Leaving,
        };
        SaView { spi: self.spi, standing }
    }

    /// Whether the peer still has to be told of its end.
    pub(crate) fn has_to_tell(&self) -> bool {
        match &self.stage {
            Stage::Leaving(leaving) => leaving.has_to_tell(),
            Stage::Over => false,
            _ => true,
        }
    }

    /// What runs in it, for `show`.
    pub(crate) fn established(&self) -> Option<&Established> {
        match &self.stage {
            Stage::Established(established) => Some(established),
            _ => None,
        }
    }

    /// When it has something to do by itself.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Calling(calling) => calling.window.deadline(),
            Stage::HalfOpen(half_open) => Some(half_open.give_up_at),
            Stage::Mixing(mixing) => mixing.handshake.channel.window.deadline(),
            Stage::Proving(proving) => proving.deadline(),
            Stage::Established(established) => established.deadline(),
            Stage::Leaving(leaving) => Some(leaving.deadline()),
            Stage::Over => None,
        }
    }

    /// A message whose header names this SA.
    pub(crate) fn datagram(&mut self, cx: &mut Cx<'_>, header: &Header, path: Path, bytes: &Bytes) {
        match &mut self.stage {
            Stage::Calling(_) => self.init_answered(cx, header, &path, bytes),
            Stage::HalfOpen(_) => self.auth_requested(cx, header, path, bytes),
            Stage::Mixing(_) => self.mixing_answered(cx, header, &path, bytes),
            Stage::Proving(_) => self.auth_answered(cx, header, &path, bytes),
            Stage::Established(_) => self.established_datagram(cx, header, path, bytes),
            Stage::Leaving(_) => self.leaving_datagram(cx, header, &path, bytes),
            Stage::Over => {}
        }
    }

    /// Its deadline may have come.
    pub(crate) fn timeout(&mut self, cx: &mut Cx<'_>) {
        match &mut self.stage {
            Stage::Calling(_) => self.calling_timeout(cx),
            Stage::HalfOpen(half_open) => {
                if cx.now >= half_open.give_up_at {
                    self.stage = Stage::Over;
                }
            }
            Stage::Mixing(_) => self.mixing_timeout(cx),
            Stage::Proving(_) => self.proving_timeout(cx),
            Stage::Established(_) => self.established_timeout(cx),
            Stage::Leaving(_) => self.leaving_timeout(cx),
            Stage::Over => {}
        }
    }

    /// Begins what waits for its turn; called after every step.
    pub(crate) fn proceed(&mut self, cx: &mut Cx<'_>) {
        if let Stage::Established(_) = self.stage {
            self.next_request(cx);
        }
    }

    /// A call of ours that is no longer needed, since the peer's own call succeeded.
    pub(crate) fn withdraw(&mut self) {
        if self.is_calling() {
            self.stage = Stage::Over;
        }
    }

    /// Forgets it at once, without a word to the peer.
    pub(crate) fn vanish(&mut self, cx: &mut Cx<'_>, cause: DownCause) {
        self.end_children(cx);
        if self.is_established() {
            self.log_closed(cx, cause.clone());
        }
        if !matches!(self.stage, Stage::Leaving(_) | Stage::Over) {
            cx.news.push(News::Ended(Ending::Lost(cause)));
        }
        self.stage = Stage::Over;
    }

    fn log_closed(&self, cx: &mut Cx<'_>, cause: DownCause) {
        if let Some(tunnel) = self.tunnel.clone() {
            cx.log(Event::IkeClosed { tunnel, spis: self.spis(), cause });
        }
    }

    /// Reports every child as gone, because the IKE SA goes.
    fn end_children(&mut self, cx: &mut Cx<'_>) {
        if let Stage::Established(established) = &mut self.stage {
            let children = std::mem::take(&mut established.children);
            cx.news.extend(children.into_keys().map(|spi_in| News::ChildGone { spi_in, cause: None }));
        }
    }

    /// The peer said no, or we did: the attempt is over.
    fn refuse(&mut self, cx: &mut Cx<'_>, why: Refusal) {
        cx.log(Event::Refused { tunnel: self.tunnel.clone(), remote: self.path.remote, why: why.clone() });
        cx.news.push(News::Ended(Ending::Refused(why)));
        self.stage = Stage::Over;
    }

    /// The configuration changed in ways that need no new negotiation.
    pub(crate) fn reconfigured(&mut self, config: Arc<ConnectionConfig>) {
        match &mut self.stage {
            Stage::Calling(calling) => calling.config = config,
            Stage::Mixing(mixing) => mixing.config = config,
            Stage::Proving(proving) => proving.config = config,
            Stage::Established(established) => established.config = config,
            Stage::HalfOpen(_) | Stage::Leaving(_) | Stage::Over => {}
        }
    }
}
