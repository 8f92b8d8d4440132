//! One tunnel over the life of many SAs: which child carries its traffic, what is reported, when to call the peer.
//!
//! The IKE SAs report what happened to them; [`Tunnel::settle`] then draws the conclusions in one place. It is called
//! after every step that touched the tunnel and is idempotent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use ike_wire::IkeSpi;
use net_types::Spi;
use rand::{Rng, RngCore};

use crate::{
    config::{ConnectionConfig, Remote, Role},
    event::DownCause,
    io::{Output, Path},
    sa::SpiBook,
};

/// How long a replaced inbound SA still takes what was under way when it was replaced.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// How long two IKE SAs with the same peer may stand side by side before one is closed: long enough for a peer that
/// has its own opinion to close one.
const DUPLICATES_FOR: Duration = Duration::from_secs(3);
/// How much longer the side that did not create the superfluous SA waits for the other to close it.
const DUPLICATES_PATIENCE: Duration = Duration::from_secs(12);
/// How soon a duplicate that was asked for a sign of life is looked at again.
const DUPLICATES_AGAIN: Duration = Duration::from_secs(1);
/// How long an IKE SA that survived the loss of its link may take to show that the peer still has it.
const PROOF_AFTER_LINK_LOSS: Duration = Duration::from_secs(1);
/// How long a caller that came without a child SA may take to ask for one before we do.
const CHILD_EXPECTED_FOR: Duration = Duration::from_secs(5);
/// Closer together than this, hints that nobody authenticated do not bring a call forward.
const HINTS_APART: Duration = Duration::from_secs(1);

/// A tunnel's state.
pub(crate) struct Tunnel {
    pub(crate) config: Arc<ConnectionConfig>,
    /// Every IKE SA that is this tunnel's, in any state.
    pub(crate) sas: BTreeSet<IkeSpi>,
    /// Down because the operator said so, in the configuration or by command.
    pub(crate) admin_down: bool,
    children: BTreeMap<Spi, Member>,
    draining: BTreeMap<Spi, Draining>,
    active: Option<Spi>,
    installed_so_far: u64,
    /// What has been said last; `None` before anything was.
    reported: Option<Report>,
    cause: DownCause,
    refused_in_a_row: u32,
    /// Calls in a row that nobody answered.
    unanswered: usize,
    /// The operator wants a call although the tunnel only responds.
    asked_to_call: bool,
    call_at: Option<Instant>,
    called_at: Option<Instant>,
    child_at: Option<Instant>,
    duplicates: Option<Duplicates>,
    prove_by: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Report {
    Up(Path),
    Down(DownCause),
}

/// A child SA that the tunnel could use.
#[derive(Debug)]
struct Member {
    sa: IkeSpi,
    spi_out: Spi,
    /// Whether the peer is known to have its inbound side.
    ready: bool,
    phase: Phase,
    order: u64,
}

/// Where a child SA is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It is about to be deleted.
    Leaving,
    /// Another one has taken its place.
    Replaced,
    /// In use.
    Live,
}

#[derive(Debug)]
struct Draining {
    spi_out: Spi,
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Duplicates {
    since: Instant,
    look_at: Instant,
}

/// What the tunnel needs to know about one of its IKE SAs.
#[derive(Clone, Debug)]
pub(crate) struct SaView {
    pub(crate) spi: IkeSpi,
    pub(crate) standing: Standing,
}

/// How far an IKE SA has got.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// Not authenticated yet.
    Larval,
    /// In use.
    Established {
        since: Instant,
        /// When the two sides last proved who they are.
        authenticated: Instant,
        /// When the peer last proved that it has this SA.
        heard: Instant,
        /// A child SA has been asked for, or is about to be.
        asking: bool,
        /// Its link was lost since; until the peer is heard again it may be gone.
        suspect: bool,
        path: Path,
        /// Whether we called.
        ours: bool,
        /// The lower of the two nonces that made it (RFC 7296 §2.8.1).
        lowest_nonce: Arc<[u8]>,
    },
    /// Replaced or being closed.
    Leaving,
}

/// What the tunnel wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Begin an IKE SA.
    Call,
    /// Begin a child SA in this IKE SA.
    NewChild(IkeSpi),
    /// Ask whether the peer still has this IKE SA.
    Probe(IkeSpi),
    /// Close one of two IKE SAs.
    CloseDuplicate { close: IkeSpi, keep: IkeSpi },
    /// Drop an IKE SA that did not outlive the loss of its link.
    Abandon(IkeSpi),
}

/// Why there is no SA (any more), as far as the next attempt is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setback {
    /// Nobody answered, or the SA ended: try soon.
    Lost,
    /// Somebody said no: try ever later.
    Refused,
}

impl Tunnel {
    pub(crate) fn new(now: Instant, config: Arc<ConnectionConfig>) -> Self {
        let admin_down = config.begins_held_down();
        let cause = config.first_cause();
        Self {
            config,
            sas: BTreeSet::new(),
            admin_down,
            children: BTreeMap::new(),
            draining: BTreeMap::new(),
            active: None,
            installed_so_far: 0,
            reported: None,
            cause,
            refused_in_a_row: 0,
            unanswered: 0,
            asked_to_call: false,
            call_at: Some(now),
            called_at: None,
            child_at: None,
            duplicates: None,
            prove_by: None,
        }
    }

    /// Whether any child SA is in use, in whatever phase.
    pub(crate) fn has_children(&self) -> bool {
        !self.children.is_empty()
    }

    /// Whether traffic can flow, as last reported.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.reported, Some(Report::Up(_)))
    }

    /// Calls in a row that nobody answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// One more of them.
    pub(crate) fn was_not_answered(&mut self) {
        self.unanswered = self.unanswered.wrapping_add(1);
    }

    /// Whether we call the peer when it is down.
    pub(crate) fn calls(&self) -> bool {
        (self.config.role != Role::RespondOnly || self.asked_to_call) && !self.admin_down
    }

    /// The child whose outbound SA carries the traffic.
    pub(crate) fn active(&self) -> Option<Spi> {
        self.active
    }

    /// The IKE SA that holds a live child.
    pub(crate) fn sa_of(&self, child: Spi) -> Option<IkeSpi> {
        self.children.get(&child).map(|member| member.sa)
    }

    /// A pair was installed.
    pub(crate) fn child_installed(&mut self, sa: IkeSpi, spi_in: Spi, spi_out: Spi, ready: bool) {
        self.installed_so_far += 1;
        let member = Member { sa, spi_out, ready, phase: Phase::Live, order: self.installed_so_far };
        self.children.insert(spi_in, member);
        self.refused_in_a_row = 0;
        self.unanswered = 0;
        self.asked_to_call = false;
    }

    /// The peer is known to have its side of the pair.
    pub(crate) fn child_ready(&mut self, spi_in: Spi) {
        if let Some(member) = self.children.get_mut(&spi_in) {
            member.ready = true;
        }
    }

    /// A pair enters another phase.
    pub(crate) fn child_phase(&mut self, spi_in: Spi, phase: Phase) {
        if let Some(member) = self.children.get_mut(&spi_in) {
            member.phase = phase;
        }
    }

    /// A pair now belongs to another IKE SA.
    pub(crate) fn child_moved(&mut self, spi_in: Spi, sa: IkeSpi) {
        if let Some(member) = self.children.get_mut(&spi_in) {
            member.sa = sa;
        }
    }

    /// A pair ended; what is under way on it may still arrive for a while.
    pub(crate) fn child_gone(&mut self, now: Instant, spi_in: Spi) {
        if let Some(member) = self.children.remove(&spi_in) {
            self.draining.insert(spi_in, Draining { spi_out: member.spi_out, until: now + GRACE });
        }
    }

    /// Why the tunnel is down, in case it is.
    pub(crate) fn set_cause(&mut self, cause: DownCause) {
        self.cause = cause;
    }

    /// An attempt failed or an SA was lost: plans the next one.
    pub(crate) fn setback(&mut self, now: Instant, kind: Setback, rng: &mut dyn RngCore) {
        self.asked_to_call = false;
        if kind == Setback::Refused {
            self.refused_in_a_row = self.refused_in_a_row.saturating_add(1);
        }
        let at = now + self.pause(rng);
        self.call_at = Some(at);
        self.child_at = Some(at);
    }

    /// The peer is about to ask for a child SA.
    pub(crate) fn expect_child(&mut self, now: Instant) {
        self.child_at = Some(now + CHILD_EXPECTED_FOR);
    }

    /// The next attempt need not wait.
    pub(crate) fn call_now(&mut self, now: Instant) {
        self.refused_in_a_row = 0;
        self.call_at = Some(now);
        self.child_at = Some(now);
    }

    /// The operator wants it up: even a tunnel that only responds calls, once, if it knows whom.
    pub(crate) fn call_once(&mut self, now: Instant) {
        self.call_now(now);
        self.asked_to_call = matches!(self.config.remote, Remote::Address(_));
    }

    /// Something unauthenticated suggests that the peer is there and has no SA: call soon rather than late.
    pub(crate) fn hint(&mut self, now: Instant) {
        let lately = self.called_at.is_some_and(|at| now.saturating_duration_since(at) < HINTS_APART);
        if !lately && self.refused_in_a_row == 0 && self.call_at.is_some_and(|at| at > now) {
            self.call_at = Some(now);
        }
    }

    /// The link is back: an SA from before has a moment to show that the peer still has it.
    pub(crate) fn link_back(&mut self, now: Instant) {
        self.call_now(now);
        self.prove_by = Some(now + PROOF_AFTER_LINK_LOSS);
    }

    /// `first`, doubled with each refusal in a row, up to `ceiling`; a quarter of it is left to chance so that two
    /// sides, or many tunnels, do not keep in step.
    fn pause(&self, rng: &mut dyn RngCore) -> Duration {
        let retry = &self.config.retry;
        let doublings = self.refused_in_a_row.saturating_sub(1).min(16);
        let pause = retry.first.saturating_mul(1 << doublings).min(retry.ceiling);
        pause.mul_f64(0.75 + 0.25 * rng.random::<f64>())
    }

    /// When [`Tunnel::settle`] has something to do without anything else happening.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let draining = self.draining.values().map(|draining| draining.until).min();
        let look_at = self.duplicates.map(|duplicates| duplicates.look_at);
        [draining, look_at, self.call_at, self.child_at, self.prove_by].into_iter().flatten().min()
    }

    /// Draws the conclusions from what the SAs are now, and from whether there is a way to go, or why not.
    pub(crate) fn settle(
        &mut self,
        now: Instant,
        way: &Result<(), DownCause>,
        sas: &[SaView],
        spis: &mut SpiBook,
        out: &mut Vec<Output>,
    ) -> Vec<Wish> {
        let link = way.is_ok();
        let path = self.choose_active(link, sas, out);
        self.drain(now, spis, out);
        self.report(path, way, out);
        let mut wishes = Vec::new();
        if link {
            self.abandon_unproven(now, sas, &mut wishes);
        } else {
            self.prove_by = None;
        }
        self.call_if_needed(now, link, sas, &mut wishes);
        self.close_duplicates(now, sas, &mut wishes);
        wishes
    }

    /// Picks the child whose outbound SA to use; gives its path if it can be relied upon.
    fn choose_active(&mut self, link: bool, sas: &[SaView], out: &mut Vec<Output>) -> Option<Path> {
        let path_of = |member: &Member| {
            sas.iter().find(|view| view.spi == member.sa).and_then(|view| match &view.standing {
                Standing::Established { suspect: false, path, .. } => Some(path.clone()),
                _ => None,
            })
        };
        let authenticated = |member: &Member| {
            sas.iter().find(|view| view.spi == member.sa).and_then(|view| match &view.standing {
                Standing::Established { authenticated, .. } => Some(*authenticated),
                _ => None,
            })
        };
        // What the peer has comes first: a replaced one is kept until the new one is there (RFC 7296 §2.8). Among several IKE
        // SAs the one authenticated last is the one that stays; the peer may have closed the others by now.
        let rank = |member: &Member| match (member.phase, member.ready) {
            (Phase::Live | Phase::Replaced, true) => 2,
            (Phase::Live | Phase::Replaced, false) => 1,
            (Phase::Leaving, _) => 0,
        };
        let key = |member: &Member| {
            (path_of(member).is_some(), rank(member), authenticated(member), member.phase, member.order)
        };
        let best = self.children.iter().max_by_key(|(_, member)| key(member));
        let chosen = best.map(|(spi_in, member)| (*spi_in, path_of(member)));
        let active = chosen.as_ref().map(|(spi_in, _)| *spi_in);
        if active != self.active {
            self.active = active;
            if let Some(spi_in) = active {
                out.push(Output::UseOutbound { tunnel: self.config.tunnel.clone(), spi_in });
            }
        }
        chosen.and_then(|(_, path)| path).filter(|_| link)
    }

    /// Removes pairs whose grace is over; all of them when nothing replaces them.
    fn drain(&mut self, now: Instant, spis: &mut SpiBook, out: &mut Vec<Output>) {
        let nothing_left = self.children.is_empty();
        self.draining.retain(|spi_in, draining| {
            let keep = !nothing_left && now < draining.until;
            if !keep {
                spis.free(*spi_in);
                let (tunnel, spi_in, spi_out) = (self.config.tunnel.clone(), *spi_in, draining.spi_out);
                out.push(Output::RemoveChild { tunnel, spi_in, spi_out });
            }
            keep
        });
    }

    /// Takes everything out of the dataplane: the tunnel is no longer configured.
    pub(crate) fn remove(mut self, now: Instant, spis: &mut SpiBook, out: &mut Vec<Output>) {
        for spi_in in self.children.keys().copied().collect::<Vec<_>>() {
            self.child_gone(now, spi_in);
        }
        self.drain(now, spis, out);
        self.cause = DownCause::Reconfigured;
        self.admin_down = false;
        self.report(None, &Ok(()), out);
    }

    fn report(&mut self, path: Option<Path>, way: &Result<(), DownCause>, out: &mut Vec<Output>) {
        let tunnel = self.config.tunnel.clone();
        let report = match (path, way) {
            (Some(path), _) => Report::Up(path),
            (None, _) if self.admin_down => Report::Down(self.config.held_down()),
            (None, Err(why)) => Report::Down(why.clone()),
            (None, Ok(())) => Report::Down(self.cause.clone()),
        };
        if self.reported.as_ref() == Some(&report) {
            return;
        }
        self.reported = Some(report.clone());
        out.push(match report {
            Report::Up(path) => Output::TunnelUp { tunnel, path },
            Report::Down(cause) => Output::TunnelDown { tunnel, cause },
        });
    }

    fn call_if_needed(&mut self, now: Instant, link: bool, sas: &[SaView], wishes: &mut Vec<Wish>) {
        let mut usable = None;
        let mut larval = false;
        for view in sas {
            match &view.standing {
                Standing::Larval | Standing::Established { asking: true, .. } => larval = true,
                Standing::Established { suspect: false, .. } => usable = Some(view.spi),
                Standing::Established { suspect: true, .. } | Standing::Leaving => {}
            }
        }
        let initiates = self.calls() && link;
        // A suspect SA still has its children: its turn ends before another begins.
        if !initiates || larval || !self.children.is_empty() {
            self.call_at = None;
            self.child_at = None;
            return;
        }
        match usable {
            Some(sa) => {
                self.call_at = None;
                let at = *self.child_at.get_or_insert(now);
                if now >= at {
                    self.child_at = None;
                    wishes.push(Wish::NewChild(sa));
                }
            }
            None => {
                self.child_at = None;
                let at = *self.call_at.get_or_insert(now);
                if now >= at {
                    self.call_at = None;
                    self.called_at = Some(now);
                    wishes.push(Wish::Call);
                }
            }
        }
    }

    /// After the loss of the link the side that can call does not wait for dead peer detection.
    fn abandon_unproven(&mut self, now: Instant, sas: &[SaView], wishes: &mut Vec<Wish>) {
        if self.prove_by.take_if(|at| now >= *at).is_none() || self.config.role == Role::RespondOnly {
            return;
        }
        let suspects = sas.iter().filter(|view| matches!(view.standing, Standing::Established { suspect: true, .. }));
        wishes.extend(suspects.map(|view| Wish::Abandon(view.spi)));
    }

    /// Two IKE SAs with the same peer, as when both sides call at once: one is closed, the same one at both ends.
    ///
    /// As for colliding rekeys (RFC 7296 §2.8.1) it is the one with the lowest nonce, and its creator closes it. It is
    /// done only when the other one has shown since then that the peer has it too: the older of the two may belong to
    /// an earlier life of the peer.
    fn close_duplicates(&mut self, now: Instant, sas: &[SaView], wishes: &mut Vec<Wish>) {
        let mut standing: Vec<_> = sas
            .iter()
            .filter_map(|view| match &view.standing {
                Standing::Established { since, heard, ours, lowest_nonce, .. } => {
                    Some((lowest_nonce, view.spi, *ours, *since, *heard))
                }
                _ => None,
            })
            .collect();
        standing.sort();
        let [(_, lowest, ours, ..), others @ ..] = &standing[..] else {
            self.duplicates = None;
            return;
        };
        let Some((_, keep, _, _, heard)) = others.last() else {
            self.duplicates = None;
            return;
        };
        // The newest of all began the doubt; any sign of life counts from there.
        let since = standing.iter().map(|(.., since, _)| *since).max().unwrap_or(now);
        let duplicates = self.duplicates.get_or_insert(Duplicates { since, look_at: since + DUPLICATES_FOR });
        if duplicates.since != since {
            *duplicates = Duplicates { since, look_at: since + DUPLICATES_FOR };
        }
        if now < duplicates.look_at {
            return;
        }
        duplicates.look_at = now + DUPLICATES_AGAIN;
        if *heard <= since {
            wishes.push(Wish::Probe(*keep));
        } else if *ours || now >= since + DUPLICATES_PATIENCE {
            wishes.push(Wish::CloseDuplicate { close: *lowest, keep: *keep });
        }
    }
}
