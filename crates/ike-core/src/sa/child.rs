//! Pairs of child SAs: making them, replacing them, their clocks.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ike_crypto::{ChildKeys, DhKey, Exchange as Nonces, Group, SecretBytes};
use ike_wire::{Notify, NotifyType, Payload, ProtocolId, TrafficSelector};
use net_types::Spi;

use super::{
    Cx, IkeSa, News, Stage,
    agreement::{
        Agreed, ChildDraft, ChildPayloads, No, Terms, agree, child_error, conclude, error_of, first_secret,
        group_asked_for,
    },
    exchange::{ChildOffer, Exchange, Rival, Task, lowest},
    follow_up::{Draft, Offer},
    intermediate::in_order,
};
use crate::{
    config::ConnectionConfig,
    event::{DownCause, Event},
    io::{InstallChild, Output, Path},
    nat::Nat,
    tunnel::{Phase, Setback},
};

/// How long two pairs for the same traffic may stand side by side before the one that is too many is deleted by its
/// creator; and how much longer the other side waits for that.
const TWINS_FOR: Duration = Duration::from_secs(3);
const TWINS_PATIENCE: Duration = Duration::from_secs(12);
/// How long the peer may take to delete a pair that it has replaced.
const EXPECT_FOR: Duration = Duration::from_secs(60);
/// Pause before a rekey that the peer refused is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(15);
/// Most pairs on one IKE SA.
const MAX_CHILDREN: usize = 16;

/// A pair of child SAs, by its inbound SPI in its owner's map.
pub(crate) struct Child {
    /// What we send with.
    pub(super) spi_out: Spi,
    /// Whether the peer is known to have its side.
    pub(super) ready: bool,
    pub(super) state: ChildState,
    hard_at: Instant,
    since: Instant,
    /// Whether we asked for it.
    ours: bool,
    /// The lower of the two nonces that made it (RFC 7296 §2.8.1).
    lowest_nonce: Arc<[u8]>,
    /// What it carries, ours and the peer's side.
    selectors: (Vec<TrafficSelector>, Vec<TrafficSelector>),
}

/// Where a pair is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChildState {
    /// In use until it is time for another.
    Live { rekey_at: Instant },
    /// Its replacement is planned or under way.
    Rekeying,
    /// Another one is in its place.
    Replaced,
    /// We have planned, or sent, its DELETE; because it expired, or because another one is in its place.
    Deleting { expired: bool },
}

impl Child {
    pub(super) fn deadline(&self) -> Instant {
        match self.state {
            // A peer that is not known to have the pair cannot replace it: its own request may still be on the way.
            ChildState::Live { rekey_at } if self.ready => rekey_at.min(self.hard_at),
            ChildState::Live { .. } | ChildState::Rekeying | ChildState::Replaced => self.hard_at,
            // Its end is in the queue or on the way, which has a clock of its own.
            ChildState::Deleting { .. } => self.hard_at + EXPECT_FOR,
        }
    }

    /// What its clocks ask for.
    pub(super) fn due(&mut self, now: Instant, spi_in: Spi) -> Option<Task> {
        if now < self.deadline() {
            return None;
        }
        match self.state {
            ChildState::Live { .. } if now < self.hard_at => {
                self.state = ChildState::Rekeying;
                Some(Task::Child { replaces: Some(spi_in), group: None })
            }
            ChildState::Live { .. } | ChildState::Rekeying => Some(self.expire(now, spi_in)),
            ChildState::Replaced | ChildState::Deleting { .. } => {
                if self.state == ChildState::Replaced {
                    self.state = ChildState::Deleting { expired: false };
                }
                self.hard_at = now;
                Some(Task::DeleteChild(spi_in))
            }
        }
    }

    /// It may not be used any more, whether there is another or not.
    pub(super) fn expire(&mut self, now: Instant, spi_in: Spi) -> Task {
        self.state = ChildState::Deleting { expired: true };
        self.hard_at = now;
        Task::DeleteChild(spi_in)
    }

    fn is_live(&self) -> bool {
        matches!(self.state, ChildState::Live { .. }) && self.ready
    }

    /// Another IKE SA takes it over: what was planned on the old one begins again.
    pub(super) fn adopt(&mut self, now: Instant) {
        match self.state {
            ChildState::Rekeying => self.state = ChildState::Live { rekey_at: now },
            ChildState::Deleting { .. } => {
                self.state = ChildState::Replaced;
                self.hard_at = now;
            }
            ChildState::Live { .. } | ChildState::Replaced => {}
        }
    }

    /// The peer is to delete it; if it forgets, we do.
    fn leave_to_peer(&mut self, now: Instant) {
        self.state = ChildState::Replaced;
        self.hard_at = self.hard_at.min(now + EXPECT_FOR);
    }
}

/// A pair that both sides have agreed on.
pub(super) struct NewChild {
    pub(super) spi_in: Spi,
    pub(super) spi_out: Spi,
    pub(super) keys: ChildKeys,
    pub(super) local_ts: Vec<TrafficSelector>,
    pub(super) remote_ts: Vec<TrafficSelector>,
    pub(super) replaces: Option<Spi>,
    /// Whether we asked for it, so that the peer has its side.
    pub(super) ready: bool,
    /// The lower of the two nonces that make it (RFC 7296 §2.8.1).
    pub(super) lowest_nonce: Arc<[u8]>,
}

/// Which pair is one too many, and when we delete it.
///
/// Both sides may have asked for a new pair at the same time, as after a deletion: RFC 7296 §2.8.1 speaks of rekeys only,
/// but its rule serves here too. The one with the lowest nonce goes, and its creator deletes it. Pairs with other
/// selectors are a policy-based peer's and stay.
pub(super) fn superfluous(children: &BTreeMap<Spi, Child>) -> Option<(Instant, Spi)> {
    let live: Vec<_> = children.iter().filter(|(_, child)| child.is_live()).collect();
    let lowest = |(_, child): &(&Spi, &Child)| child.lowest_nonce.clone();
    let (spi_in, child, newest) = live.iter().find_map(|(_, first)| {
        let twins: Vec<_> =
            live.iter().filter(|(_, other)| other.selectors == first.selectors).map(|(s, c)| (*s, *c)).collect();
        let newest = twins.iter().map(|(_, child)| child.since).max()?;
        let (spi_in, child) = twins.iter().min_by_key(|twin| lowest(twin)).filter(|_| twins.len() > 1)?;
        Some((**spi_in, *child, newest))
    })?;
    let patience = if child.ours { Duration::ZERO } else { TWINS_PATIENCE };
    Some((newest + TWINS_FOR + patience, spi_in))
}

/// Hands a pair to the dataplane; `None` if somebody else has taken its SPI meanwhile.
pub(super) fn install(
    cx: &mut Cx<'_>,
    config: &ConnectionConfig,
    nat: Nat,
    path: &Path,
    new: NewChild,
) -> Option<Child> {
    let NewChild { spi_in, spi_out, keys, local_ts, remote_ts, replaces, ready, lowest_nonce } = new;
    let tunnel = &config.tunnel;
    if !cx.spis.take(spi_in, tunnel) {
        return None;
    }
    let suite = keys.suite.to_string();
    let selectors = (local_ts.clone(), remote_ts.clone());
    let event = Event::ChildInstalled { tunnel: tunnel.clone(), spi_in, spi_out, replaces, suite };
    cx.out.push(Output::InstallChild(Box::new(InstallChild {
        tunnel: tunnel.clone(),
        spi_in,
        spi_out,
        keys,
        mode: config.mode,
        local_ts,
        remote_ts,
        path: path.clone(),
        encapsulated: path.natt && nat.encapsulates(config.encapsulation),
        replaces,
    })));
    cx.log(event);
    cx.news.push(News::ChildInstalled { spi_in, spi_out, ready });
    let lifetime = config.child_lifetime;
    let rekey_at = cx.now + lifetime.rekey.saturating_sub(cx.up_to(lifetime.jitter));
    let (state, hard_at) = (ChildState::Live { rekey_at }, cx.now + lifetime.hard);
    Some(Child { spi_out, ready, state, hard_at, since: cx.now, ours: ready, lowest_nonce, selectors })
}

impl IkeSa {
    /// Asks for a pair, perhaps in place of another.
    pub(super) fn request_child(&mut self, cx: &mut Cx<'_>, replaces: Option<Spi>, group: Option<Group>) {
        let Stage::Established(established) = &mut self.stage else { return };
        if let Some(old) = replaces {
            // It may have ended, or been replaced by the peer, while the request waited.
            match established.children.get(&old) {
                Some(child) if matches!(child.state, ChildState::Live { .. } | ChildState::Rekeying) => {}
                _ => return,
            }
        }
        let config = established.config.clone();
        let groups: Vec<Group> = config.esp_proposals.iter().flat_map(|proposal| proposal.groups.clone()).collect();
        let key = match group.or(groups.first().copied()).map(|group| DhKey::generate(group, cx.rng)).transpose() {
            Ok(key) => key,
            Err(error) => return self.break_off(cx, error.to_string()),
        };
        let offer = ChildOffer {
            spi_in: cx.spis.propose(cx.rng),
            nonce: cx.nonce(),
            key,
            replaces,
            rival: None,
            deleted: Vec::new(),
        };
        let mut payloads = Vec::new();
        if let Some(old) = replaces {
            payloads.push(Payload::Notify(Notify::about_esp(NotifyType::RekeySa, old)));
        }
        payloads.push(Payload::Sa(ike_crypto::offer_esp(&config.esp_proposals, offer.spi_in, true)));
        payloads.push(Payload::Nonce(offer.nonce.clone()));
        payloads.extend(offer.key.as_ref().map(|key| Payload::Ke(key.payload())));
        payloads.extend(Terms::of(&config, established.nat, &self.path).offer());
        self.request(cx, Exchange::Child(Box::new(offer)), &payloads);
    }

    /// The answer to [`IkeSa::request_child`].
    pub(super) fn child_answered(&mut self, cx: &mut Cx<'_>, offer: ChildOffer, payloads: &[Payload]) {
        let Stage::Established(established) = &mut self.stage else { return };
        let config = established.config.clone();
        if let Some(error) = error_of(payloads) {
            return self.child_failed(cx, offer, error.kind, payloads);
        }
        let answer = ChildPayloads::find(payloads).and_then(|answer| Some((answer.nonce?, answer)));
        let Some((_, answer)) = answer else {
            return self.break_off(cx, "answer to CREATE_CHILD_SA without SA, nonce or selectors".to_owned());
        };
        match first_secret(&config, &offer, &answer) {
            Err(why) => self.break_off(cx, why.to_string()),
            Ok((secrets, additional)) if additional.is_empty() => self.child_agreed(cx, offer, payloads, secrets),
            Ok((secrets, additional)) => {
                self.follow_up(cx, Offer::Child(offer), payloads.to_vec(), secrets, additional);
            }
        }
    }

    /// All key exchanges are done: `payloads` are the answer to CREATE_CHILD_SA.
    pub(super) fn child_agreed(
        &mut self,
        cx: &mut Cx<'_>,
        offer: ChildOffer,
        payloads: &[Payload],
        secrets: Vec<SecretBytes>,
    ) {
        let Stage::Established(established) = &mut self.stage else { return };
        let config = established.config.clone();
        let answer = ChildPayloads::find(payloads).and_then(|answer| Some((answer.nonce?, answer)));
        let Some((their_nonce, answer)) = answer else { return };
        let spi_out = answer.sa.proposals.first().and_then(|proposal| proposal.esp_spi());
        if spi_out.is_some_and(|spi| offer.deleted.contains(&spi.get())) {
            // Its answer was overtaken by its end: as if it had been put off.
            return self.child_failed(cx, offer, NotifyType::TemporaryFailure, &[]);
        }
        let our_nonce = offer.nonce.clone();
        let nonces = Nonces { initiator_nonce: &our_nonce, responder_nonce: their_nonce };
        let our_lowest: Arc<[u8]> = lowest(&our_nonce, their_nonce).into();
        let (ours, old, rival) =
            (offer.spi_in, offer.replaces, offer.rival.as_ref().map(|r| (r.spi, r.wins(&our_lowest))));
        let terms = Terms::of(&config, established.nat, &self.path);
        let new = match conclude(&terms, &established.channel.keys, offer, &answer, nonces, Some(secrets)) {
            Ok(new) => new,
            // The peer has installed something that we cannot: only closing the IKE SA is sure to end it.
            Err(why) => return self.break_off(cx, why.to_string()),
        };
        let Some(child) = install(cx, &config, established.nat, &self.path, new) else {
            return self.break_off(cx, format!("SPI {ours} was taken"));
        };
        established.children.insert(ours, child);
        match rival {
            // RFC 7296 §2.8.1: ours was made with the lowest nonce, so we close it and the peer closes the old one.
            Some((_, true)) => {
                self.retire(cx, ours, Phase::Leaving);
                self.plan_child_delete(ours);
            }
            Some((theirs, false)) => {
                self.leave_to_peer(cx, theirs);
                self.replace(cx, old);
            }
            None => self.replace(cx, old),
        }
    }

    /// The pair that was replaced by ours is deleted by us.
    fn replace(&mut self, cx: &mut Cx<'_>, old: Option<Spi>) {
        if let Some(old) = old {
            self.retire(cx, old, Phase::Replaced);
            self.plan_child_delete(old);
        }
    }

    pub(super) fn retire(&mut self, cx: &mut Cx<'_>, spi_in: Spi, phase: Phase) {
        if let Stage::Established(established) = &mut self.stage
            && let Some(child) = established.children.get_mut(&spi_in)
        {
            child.state = ChildState::Deleting { expired: false };
            cx.news.push(News::ChildPhase(spi_in, phase));
        }
    }

    /// The pair was replaced by the peer's, and deleting it is the peer's part.
    fn leave_to_peer(&mut self, cx: &mut Cx<'_>, spi_in: Spi) {
        if let Stage::Established(established) = &mut self.stage
            && let Some(child) = established.children.get_mut(&spi_in)
        {
            child.leave_to_peer(cx.now);
            cx.news.push(News::ChildPhase(spi_in, Phase::Replaced));
        }
    }

    /// The peer did not agree to a pair.
    pub(super) fn child_failed(&mut self, cx: &mut Cx<'_>, offer: ChildOffer, kind: NotifyType, payloads: &[Payload]) {
        let put_off = cx.put_off();
        let Stage::Established(established) = &mut self.stage else { return };
        let config = established.config.clone();
        let tunnel = config.tunnel.clone();
        let groups: Vec<Group> = config.esp_proposals.iter().flat_map(|proposal| proposal.groups.clone()).collect();
        let before = offer.key.as_ref().map(DhKey::group);
        if let Some(group) = group_asked_for(payloads, before, &groups) {
            return established.enqueue_first(Task::Child { replaces: offer.replaces, group: Some(group) });
        }
        let Some(old) = offer.replaces else {
            let why = child_error(&config, kind);
            let passing = matches!(kind, NotifyType::TemporaryFailure | NotifyType::StateNotFound);
            let setback = if passing { Setback::Lost } else { Setback::Refused };
            cx.log(Event::Refused { tunnel: Some(tunnel), remote: self.path.remote, why: why.clone() });
            return cx.news.push(News::ChildRefused { cause: DownCause::Refused(why), setback });
        };
        if offer.rival.is_some() {
            return; // the peer's own rekey has done it, and the peer deletes the old pair
        }
        let Some(child) = established.children.get_mut(&old) else { return };
        if !matches!(child.state, ChildState::Rekeying | ChildState::Live { .. }) {
            return;
        }
        match kind {
            NotifyType::ChildSaNotFound => {
                // RFC 7296 §2.25: the peer no longer has it, so neither do we; a new one takes its place.
                established.children.remove(&old);
                cx.news.push(News::ChildGone { spi_in: old, cause: None });
                established.enqueue(Task::Child { replaces: None, group: None });
            }
            // RFC 9370 §2.2.4: the peer has forgotten what it agreed on, so it begins anew.
            NotifyType::TemporaryFailure | NotifyType::StateNotFound => {
                child.state = ChildState::Live { rekey_at: cx.now + put_off };
            }
            other => {
                child.state = ChildState::Live { rekey_at: cx.now + TRY_AGAIN };
                cx.log(Event::RekeyDelayed { tunnel, why: child_error(&config, other).to_string() });
            }
        }
    }

    /// A request for a pair, new or in place of another.
    pub(super) fn child_requested(
        &mut self,
        cx: &mut Cx<'_>,
        offer: &ChildPayloads<'_>,
        rekeyed: Option<&Notify>,
    ) -> Result<Vec<Payload>, No> {
        let Stage::Established(established) = &mut self.stage else {
            return Err(No::plain(NotifyType::TemporaryFailure));
        };
        let config = established.config.clone();
        let replaces = match rekeyed {
            None => None,
            Some(notify) => {
                let found = notify.esp_spi().and_then(|theirs| {
                    established
                        .children
                        .iter()
                        .find(|(_, child)| child.spi_out == theirs)
                        .map(|(spi, c)| (*spi, c.state))
                });
                match found {
                    // RFC 7296 §2.25.1: the answer names the pair as the request did.
                    None => {
                        let mut gone = Notify::new(NotifyType::ChildSaNotFound, []);
                        gone.protocol = ProtocolId::Esp;
                        gone.spi = notify.spi.clone();
                        return Err(No { notify: gone, why: None });
                    }
                    Some((_, ChildState::Deleting { .. } | ChildState::Replaced)) => {
                        return Err(No::plain(NotifyType::TemporaryFailure));
                    }
                    Some((spi, ChildState::Live { .. } | ChildState::Rekeying)) => Some(spi),
                }
            }
        };
        if established.children.len() >= MAX_CHILDREN {
            return Err(No::plain(NotifyType::NoAdditionalSas));
        }
        let their_nonce = offer.nonce.ok_or_else(|| No::plain(NotifyType::InvalidSyntax))?;
        let our_nonce = cx.nonce();
        let nonces = Nonces { initiator_nonce: their_nonce, responder_nonce: &our_nonce };
        let terms = Terms::of(&config, established.nat, &self.path);
        let Agreed { mut payloads, draft, additional } = agree(cx, &terms, offer, nonces, true, replaces)?;
        if additional.is_empty() {
            // The dataplane has the inbound side before the answer tells the peer to use it.
            self.install_draft(cx, draft)?;
        } else {
            payloads.push(established.await_follow_up(cx, Draft::Child(draft), in_order(additional))?);
        }
        Ok(payloads)
    }

    /// Installs a pair that the peer asked for, once all its key exchanges are done.
    pub(super) fn install_draft(&mut self, cx: &mut Cx<'_>, draft: ChildDraft) -> Result<(), No> {
        let Stage::Established(established) = &mut self.stage else {
            return Err(No::plain(NotifyType::TemporaryFailure));
        };
        let config = established.config.clone();
        let replaces = draft.replaces;
        let lowest_nonce = lowest(&draft.nonces.0, &draft.nonces.1).into();
        let replaceable = |old: &Spi| {
            let state = established.children.get(old).map(|child| child.state);
            matches!(state, Some(ChildState::Live { .. } | ChildState::Rekeying))
        };
        if !replaces.as_ref().is_none_or(replaceable) {
            return Err(No::plain(NotifyType::StateNotFound)); // it was replaced, or ended, meanwhile
        }
        let new = draft.finish(&established.channel.keys)?;
        let spi_in = new.spi_in;
        let child = install(cx, &config, established.nat, &self.path, new)
            .ok_or_else(|| No::plain(NotifyType::TemporaryFailure))?;
        established.children.insert(spi_in, child);
        if let Some(old) = replaces {
            if let Some(outstanding) = established.channel.window.outstanding_mut()
                && let Some(ours) = outstanding.exchange.child_mut()
                && ours.replaces == Some(old)
            {
                ours.rival = Some(Rival { spi: spi_in, lowest_nonce });
            }
            self.leave_to_peer(cx, old);
        }
        Ok(())
    }
}
