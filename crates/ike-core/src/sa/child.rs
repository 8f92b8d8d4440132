//! Pairs of child SAs: making them, replacing them, their clocks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ike_crypto::{ChildKeys, DhError, DhKey, Exchange as Nonces, Group, SecretBytes};
use ike_wire::{
    DhGroup, KeyExchange, Notify, NotifyType, Payload, ProtocolId, SecurityAssociation, TrafficSelector,
    TrafficSelectors, find_notify,
};
use net_types::Spi;

use super::{
    Cx, IkeSa, News, Stage,
    exchange::{ChildOffer, Exchange, Rival, Task, lowest},
};
use crate::{
    config::ConnectionConfig,
    event::{DownCause, Event, Refusal},
    io::{InstallChild, Output, Path},
    nat::Nat,
    selectors,
    tunnel::{Phase, Setback},
};

/// How long the peer may take to delete a pair that it has replaced.
const EXPECT_FOR: Duration = Duration::from_secs(60);
/// Pause before an attempt that the peer asked to put off, at most; by chance, since the peer is as eager as we are.
const PUT_OFF: Duration = Duration::from_secs(2);
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
}

/// Hands a pair to the dataplane; `None` if somebody else has taken its SPI meanwhile.
pub(super) fn install(
    cx: &mut Cx<'_>,
    config: &ConnectionConfig,
    nat: Nat,
    path: &Path,
    new: NewChild,
) -> Option<Child> {
    let NewChild { spi_in, spi_out, keys, local_ts, remote_ts, replaces, ready } = new;
    let tunnel = &config.tunnel;
    if !cx.spis.take(spi_in, tunnel) {
        return None;
    }
    let suite = keys.suite.to_string();
    let event = Event::ChildInstalled { tunnel: tunnel.clone(), spi_in, spi_out, replaces, suite };
    cx.out.push(Output::InstallChild(Box::new(InstallChild {
        tunnel: tunnel.clone(),
        spi_in,
        spi_out,
        keys,
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
    Some(Child { spi_out, ready, state: ChildState::Live { rekey_at }, hard_at: cx.now + lifetime.hard })
}

/// The payloads of a message that makes a child SA.
pub(super) struct ChildPayloads<'a> {
    pub(super) sa: &'a SecurityAssociation,
    pub(super) nonce: Option<&'a [u8]>,
    pub(super) ke: Option<&'a KeyExchange>,
    pub(super) ts_i: &'a [TrafficSelector],
    pub(super) ts_r: &'a [TrafficSelector],
}

impl<'a> ChildPayloads<'a> {
    /// Finds them; `None` if one that every such message has is missing.
    pub(super) fn find(payloads: &'a [Payload]) -> Option<Self> {
        let (mut sa, mut nonce, mut ke, mut ts_i, mut ts_r) = (None, None, None, None, None);
        for payload in payloads {
            match payload {
                Payload::Sa(found) => sa = sa.or(Some(found)),
                Payload::Nonce(found) => nonce = nonce.or(Some(&found[..])),
                Payload::Ke(found) => ke = ke.or(Some(found)),
                Payload::TsInitiator(found) => ts_i = ts_i.or(Some(&found.selectors[..])),
                Payload::TsResponder(found) => ts_r = ts_r.or(Some(&found.selectors[..])),
                _ => {}
            }
        }
        Some(Self { sa: sa?, nonce, ke, ts_i: ts_i?, ts_r: ts_r? })
    }
}

/// TSi and TSr of an offer of ours.
pub(super) fn ts_payloads(config: &ConnectionConfig) -> [Payload; 2] {
    [
        Payload::TsInitiator(TrafficSelectors { selectors: config.local_ts.clone() }),
        Payload::TsResponder(TrafficSelectors { selectors: config.remote_ts.clone() }),
    ]
}

/// An answer that refuses, and what it says in the log.
pub(super) struct No {
    pub(super) notify: Notify,
    pub(super) why: Option<Box<Refusal>>,
}

impl No {
    pub(super) fn plain(kind: NotifyType) -> Self {
        Self { notify: Notify::new(kind, []), why: None }
    }

    pub(super) fn because(kind: NotifyType, why: Refusal) -> Self {
        Self { notify: Notify::new(kind, []), why: Some(Box::new(why)) }
    }

    /// RFC 7296 §1.3: the group that we want instead.
    pub(super) fn other_group(wanted: Group) -> Self {
        Self { notify: Notify::new(NotifyType::InvalidKePayload, wanted.id().code().to_be_bytes()), why: None }
    }

    pub(super) fn bad_key_exchange(error: DhError) -> Self {
        Self::because(NotifyType::InvalidSyntax, Refusal::Malformed(error.to_string()))
    }
}

/// What the responder of a child SA answers.
pub(super) struct Agreed {
    pub(super) payloads: Vec<Payload>,
    pub(super) new: NewChild,
}

/// The responder's part: chooses, narrows, derives. `key_exchange` is false in IKE_AUTH (RFC 7296 §1.2).
pub(super) fn agree(
    cx: &mut Cx<'_>,
    config: &ConnectionConfig,
    keys: &ike_crypto::IkeKeys,
    offer: &ChildPayloads<'_>,
    nonces: Nonces<'_>,
    key_exchange: bool,
    replaces: Option<Spi>,
) -> Result<Agreed, No> {
    let ke_group = offer.ke.map(|ke| ke.group);
    let chosen = ike_crypto::choose_esp(&config.esp_proposals, offer.sa, key_exchange, ke_group)
        .map_err(|why| No::because(NotifyType::NoProposalChosen, Refusal::NoChildProposal(why)))?;
    let spi_out = chosen.proposal.esp_spi().ok_or_else(|| {
        No::because(NotifyType::InvalidSyntax, Refusal::Malformed("child proposal without a usable SPI".to_owned()))
    })?;
    let remote_ts = selectors::narrow(offer.ts_i, &config.remote_ts);
    let local_ts = selectors::narrow(offer.ts_r, &config.local_ts);
    if remote_ts.is_empty() || local_ts.is_empty() {
        let show = |theirs: &[_], ours: &[_]| format!("{} to {}", selectors::list(theirs), selectors::list(ours));
        let why = Refusal::TrafficSelectors {
            found: format!("the peer offers {}", show(offer.ts_i, offer.ts_r)),
            wanted: show(&config.remote_ts, &config.local_ts),
        };
        return Err(No::because(NotifyType::TsUnacceptable, why));
    }
    let exchange = respond_to_key_exchange(cx, chosen.suite.group, offer.ke)?;
    let (answer_ke, shared) = exchange.unzip();
    let keys = keys
        .child(chosen.suite, shared.as_ref(), nonces, false)
        .map_err(|error| No::because(NotifyType::NoProposalChosen, Refusal::Malformed(error.to_string())))?;
    let spi_in = cx.spis.propose(cx.rng);
    let mut payloads = vec![Payload::Sa(chosen.answer(spi_in.get().to_be_bytes()))];
    if key_exchange {
        payloads.push(Payload::Nonce(nonces.responder_nonce.to_vec()));
    }
    payloads.extend(answer_ke.map(Payload::Ke));
    payloads.push(Payload::TsInitiator(TrafficSelectors { selectors: remote_ts.clone() }));
    payloads.push(Payload::TsResponder(TrafficSelectors { selectors: local_ts.clone() }));
    let new = NewChild { spi_in, spi_out, keys, local_ts, remote_ts, replaces, ready: false };
    Ok(Agreed { payloads, new })
}

/// Our half of a key exchange in the group chosen, if one was chosen, and the secret.
pub(super) fn respond_to_key_exchange(
    cx: &mut Cx<'_>,
    group: Option<Group>,
    offered: Option<&KeyExchange>,
) -> Result<Option<(KeyExchange, SecretBytes)>, No> {
    let Some(group) = group else { return Ok(None) };
    let Some(theirs) = offered.filter(|ke| ke.group == group.id()) else { return Err(No::other_group(group)) };
    let key = DhKey::generate(group, cx.rng).map_err(No::bad_key_exchange)?;
    let shared = key.agree(theirs).map_err(No::bad_key_exchange)?;
    Ok(Some((key.payload(), shared)))
}

/// The initiator's part, once the answer is there: `offer` against what came back.
pub(super) fn conclude(
    config: &ConnectionConfig,
    keys: &ike_crypto::IkeKeys,
    offer: ChildOffer,
    answer: &ChildPayloads<'_>,
    nonces: Nonces<'_>,
    key_exchange: bool,
) -> Result<NewChild, Refusal> {
    let malformed = |what: &str| Refusal::Malformed(what.to_owned());
    let chosen =
        ike_crypto::accept_esp(&config.esp_proposals, answer.sa, key_exchange).map_err(Refusal::NoChildProposal)?;
    let spi_out = chosen.proposal.esp_spi().ok_or_else(|| malformed("child proposal without a usable SPI"))?;
    if !selectors::within(answer.ts_i, &config.local_ts) || !selectors::within(answer.ts_r, &config.remote_ts) {
        return Err(Refusal::TrafficSelectors {
            found: format!("the peer answers {} to {}", selectors::list(answer.ts_i), selectors::list(answer.ts_r)),
            wanted: format!("{} to {}", selectors::list(&config.local_ts), selectors::list(&config.remote_ts)),
        });
    }
    let shared = match (chosen.suite.group, &offer.key, answer.ke) {
        (None, _, _) => None,
        (Some(group), Some(key), Some(theirs)) if key.group() == group => {
            Some(key.agree(theirs).map_err(|error| Refusal::Malformed(error.to_string()))?)
        }
        (Some(_), _, _) => return Err(malformed("the key exchange of the answer is not in the group it chose")),
    };
    let keys = keys
        .child(chosen.suite, shared.as_ref(), nonces, true)
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    Ok(NewChild {
        spi_in: offer.spi_in,
        spi_out,
        keys,
        local_ts: answer.ts_i.to_vec(),
        remote_ts: answer.ts_r.to_vec(),
        replaces: offer.replaces,
        ready: true,
    })
}

/// The group that an INVALID_KE_PAYLOAD notify asks for, if it is one of ours and another than before.
pub(super) fn group_asked_for(payloads: &[Payload], before: Option<Group>, allowed: &[Group]) -> Option<Group> {
    let notify = find_notify(payloads, NotifyType::InvalidKePayload)?;
    let code = <[u8; 2]>::try_from(&notify.data[..]).ok().map(u16::from_be_bytes)?;
    let group = Group::from_id(DhGroup::from(code))?;
    (Some(group) != before && allowed.contains(&group)).then_some(group)
}

/// The first error notify of an answer.
pub(super) fn error_of(payloads: &[Payload]) -> Option<&Notify> {
    payloads.iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind.is_error() => Some(notify),
        _ => None,
    })
}

/// What an error in answer to a child offer means.
pub(super) fn child_error(config: &ConnectionConfig, kind: NotifyType) -> Refusal {
    match kind {
        NotifyType::NoProposalChosen => Refusal::OfferRefused {
            what: "child SA",
            offered: config.esp_proposals.iter().map(|p| p.to_string()).collect::<Vec<_>>().join(", "),
        },
        NotifyType::TsUnacceptable => Refusal::TrafficSelectors {
            found: "the peer refused ours".to_owned(),
            wanted: format!("{} to {}", selectors::list(&config.local_ts), selectors::list(&config.remote_ts)),
        },
        other => Refusal::Notified(other.to_string()),
    }
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
        let offer = ChildOffer { spi_in: cx.spis.propose(cx.rng), nonce: cx.nonce(), key, replaces, rival: None };
        let mut payloads = Vec::new();
        if let Some(old) = replaces {
            payloads.push(Payload::Notify(Notify::about_esp(NotifyType::RekeySa, old)));
        }
        payloads.push(Payload::Sa(ike_crypto::offer_esp(&config.esp_proposals, offer.spi_in, true)));
        payloads.push(Payload::Nonce(offer.nonce.clone()));
        payloads.extend(offer.key.as_ref().map(|key| Payload::Ke(key.payload())));
        payloads.extend(ts_payloads(&config));
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
        let Some((their_nonce, answer)) = answer else {
            return self.break_off(cx, "answer to CREATE_CHILD_SA without SA, nonce or selectors".to_owned());
        };
        let our_nonce = offer.nonce.clone();
        let nonces = Nonces { initiator_nonce: &our_nonce, responder_nonce: their_nonce };
        let our_lowest: Arc<[u8]> = lowest(&our_nonce, their_nonce).into();
        let (ours, old, rival) =
            (offer.spi_in, offer.replaces, offer.rival.as_ref().map(|r| (r.spi, r.wins(&our_lowest))));
        let new = match conclude(&config, &established.channel.keys, offer, &answer, nonces, true) {
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

    fn retire(&mut self, cx: &mut Cx<'_>, spi_in: Spi, phase: Phase) {
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
    fn child_failed(&mut self, cx: &mut Cx<'_>, offer: ChildOffer, kind: NotifyType, payloads: &[Payload]) {
        let put_off = cx.up_to(PUT_OFF);
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
            let setback = if kind == NotifyType::TemporaryFailure { Setback::Lost } else { Setback::Refused };
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
            NotifyType::TemporaryFailure => child.state = ChildState::Live { rekey_at: cx.now + put_off },
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
        let agreed = agree(cx, &config, &established.channel.keys, offer, nonces, true, replaces)?;
        let spi_in = agreed.new.spi_in;
        // The dataplane has the inbound side before the answer tells the peer to use it.
        let child = install(cx, &config, established.nat, &self.path, agreed.new)
            .ok_or_else(|| No::plain(NotifyType::TemporaryFailure))?;
        established.children.insert(spi_in, child);
        if let Some(old) = replaces {
            let rival = Rival { spi: spi_in, lowest_nonce: lowest(their_nonce, &our_nonce).into() };
            if let Some(outstanding) = established.channel.window.outstanding_mut()
                && let Exchange::Child(ours) = &mut outstanding.exchange
                && ours.replaces == Some(old)
            {
                ours.rival = Some(rival);
            }
            self.leave_to_peer(cx, old);
        }
        Ok(agreed.payloads)
    }
}
