//! CREATE_CHILD_SA: who wants what, and replacing the IKE SA itself (RFC 7296 §1.3, §2.8, §2.18, §2.25).

use std::{sync::Arc, time::Duration};

use ike_crypto::{DhKey, Exchange as Nonces, Group, IkeSuite, SecretBytes, accept_ike, choose_ike, offer_ike};
use ike_wire::{Header, IkeSpi, KeyExchange, NotifyType, Payload, ProtocolId, SecurityAssociation, find_notify};

use super::{
    Cx, Ending, IkeSa, News, Stage,
    agreement::{ChildPayloads, No, error_of, group_asked_for, respond_to_key_exchange},
    channel::Channel,
    crash,
    established::{Birth, Established},
    exchange::{Exchange, IkeOffer, Rival, Task, lowest},
    follow_up::{Draft, Offer},
    intermediate::in_order,
    leaving::Goodbye,
};
use crate::event::{Event, Refusal};

/// Pause before a rekey that the peer refused is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// The payloads of a message that rekeys an IKE SA.
struct RekeyPayloads<'a> {
    sa: &'a SecurityAssociation,
    nonce: &'a [u8],
    ke: Option<&'a KeyExchange>,
}

impl<'a> RekeyPayloads<'a> {
    fn find(payloads: &'a [Payload]) -> Option<Self> {
        let (mut sa, mut nonce, mut ke) = (None, None, None);
        for payload in payloads {
            match payload {
                Payload::Sa(found) => sa = sa.or(Some(found)),
                Payload::Nonce(found) => nonce = nonce.or(Some(&found[..])),
                Payload::Ke(found) => ke = ke.or(Some(found)),
                _ => {}
            }
        }
        Some(Self { sa: sa?, nonce: nonce?, ke })
    }
}

/// A new IKE SA that the peer asked for, but for its keys.
pub(super) struct IkeDraft {
    suite: IkeSuite,
    pub(super) secrets: Vec<SecretBytes>,
    /// Initiator's and responder's.
    spis: (IkeSpi, IkeSpi),
    /// Initiator's and responder's.
    nonces: (Vec<u8>, Vec<u8>),
}

/// What the answer to our rekey of the IKE SA comes to.
struct Accepted {
    suite: IkeSuite,
    theirs: IkeSpi,
    nonce: Vec<u8>,
    shared: SecretBytes,
}

impl IkeSa {
    /// A CREATE_CHILD_SA request.
    pub(super) fn create_child_requested(&mut self, cx: &mut Cx<'_>, header: &Header, payloads: &[Payload]) {
        let Some(offer) = ChildPayloads::find(payloads) else {
            return self.ike_rekey_requested(cx, header, payloads);
        };
        let answer = match self.busy_with() {
            Some(no) => Err(no),
            None => self.child_requested(cx, &offer, find_notify(payloads, NotifyType::RekeySa)),
        };
        match answer {
            Ok(payloads) => self.respond(cx, header, &payloads),
            Err(no) => self.decline(cx, header, no),
        }
    }

    pub(super) fn decline(&mut self, cx: &mut Cx<'_>, header: &Header, no: No) {
        if let Some(why) = no.why {
            cx.log(Event::Refused { tunnel: self.tunnel.clone(), remote: self.path.remote, why: *why });
        }
        self.respond(cx, header, &[Payload::Notify(no.notify)]);
    }

    /// RFC 7296 §2.25.2: while the IKE SA is being replaced no child may be made on it.
    fn busy_with(&self) -> Option<No> {
        let Stage::Established(established) = &self.stage else {
            return Some(No::plain(NotifyType::TemporaryFailure));
        };
        let replacing = established.channel.window.outstanding().is_some_and(|o| o.exchange.ike().is_some());
        (established.undecided || replacing).then(|| No::plain(NotifyType::TemporaryFailure))
    }

    /// Asks for a new IKE SA in place of this one.
    pub(super) fn request_ike_rekey(&mut self, cx: &mut Cx<'_>, group: Option<Group>) {
        let Stage::Established(established) = &mut self.stage else { return };
        let config = established.config.clone();
        // The group in use is known to be acceptable to the peer, unless it is no longer acceptable to us.
        let mut groups = config.ike_proposals.iter().flat_map(|proposal| proposal.groups.iter().copied());
        let current = established.channel.keys.suite.group;
        let group = group.or_else(|| groups.clone().find(|group| *group == current)).or_else(|| groups.next());
        let key = match DhKey::generate(group.unwrap_or(current), cx.rng) {
            Ok(key) => key,
            Err(error) => return self.break_off(cx, error.to_string()),
        };
        let offer = IkeOffer { spi: cx.ike_spi(), nonce: cx.nonce(), key, rival: None };
        let payloads = [
            Payload::Sa(offer_ike(&config.ike_proposals, Some(offer.spi))),
            Payload::Nonce(offer.nonce.clone()),
            Payload::Ke(offer.key.payload()),
        ];
        self.request(cx, Exchange::RekeyIke(Box::new(offer)), &payloads);
    }

    /// The answer to [`IkeSa::request_ike_rekey`].
    pub(super) fn ike_rekey_answered(&mut self, cx: &mut Cx<'_>, offer: IkeOffer, payloads: &[Payload]) {
        if let Some(error) = error_of(payloads) {
            return self.ike_rekey_failed(cx, offer, error.kind, payloads);
        }
        let accepted = match self.accept_ike_rekey(&offer, payloads) {
            Ok(accepted) => accepted,
            Err(why) => return self.break_off(cx, why.to_string()),
        };
        let (suite, secrets) = (accepted.suite, vec![accepted.shared]);
        if suite.additional.is_empty() {
            self.ike_rekey_agreed(cx, offer, payloads, secrets, payloads);
        } else {
            self.follow_up(cx, Offer::Ike(offer), payloads.to_vec(), secrets, suite.additional);
        }
    }

    /// All key exchanges are done: `payloads` are the answer to CREATE_CHILD_SA, `last` the last answer of all.
    pub(super) fn ike_rekey_agreed(
        &mut self,
        cx: &mut Cx<'_>,
        offer: IkeOffer,
        payloads: &[Payload],
        secrets: Vec<SecretBytes>,
        last: &[Payload],
    ) {
        let heir = match self.conclude_ike_rekey(cx, &offer, payloads, &secrets, last) {
            Ok(heir) => heir,
            Err(why) => return self.break_off(cx, why.to_string()),
        };
        let our_lowest = heir.established().map(|established| established.lowest_nonce.clone()).unwrap_or_default();
        let ours = heir.spi();
        cx.news.push(News::Heir(Box::new(heir)));
        match offer.rival {
            // RFC 7296 §2.8.1: ours was made with the lowest nonce, so we close it; the peer closes the old one.
            Some(rival) if rival.wins(&our_lowest) => {
                cx.news.push(News::CloseRival(ours));
                self.bequeath(cx, rival.spi, Goodbye::Expected);
            }
            rival => {
                self.bequeath(cx, ours, Goodbye::Due);
                cx.news.extend(rival.map(|rival| News::AwaitClose(rival.spi)));
            }
        }
    }

    /// What the peer chose, and the secret of the first key exchange.
    fn accept_ike_rekey(&self, offer: &IkeOffer, payloads: &[Payload]) -> Result<Accepted, Refusal> {
        let malformed = |what: String| Refusal::Malformed(what);
        let Stage::Established(established) = &self.stage else {
            return Err(malformed("not established".to_owned()));
        };
        let answer = RekeyPayloads::find(payloads)
            .ok_or_else(|| malformed("answer to a rekey of the IKE SA without SA or nonce".to_owned()))?;
        let chosen = accept_ike(&established.config.ike_proposals, answer.sa).map_err(Refusal::NoIkeProposal)?;
        let theirs =
            chosen.proposal.ike_spi().ok_or_else(|| malformed("IKE proposal without a usable SPI".to_owned()))?;
        let ke = answer.ke.ok_or_else(|| malformed("answer to a rekey of the IKE SA without KE".to_owned()))?;
        let shared = offer.key.agree(ke).map_err(|error| malformed(error.to_string()))?;
        if chosen.suite.group != offer.key.group() {
            return Err(malformed("the key exchange of the answer is not in the group it chose".to_owned()));
        }
        Ok(Accepted { suite: chosen.suite, theirs, nonce: answer.nonce.to_vec(), shared })
    }

    fn conclude_ike_rekey(
        &mut self,
        cx: &mut Cx<'_>,
        offer: &IkeOffer,
        payloads: &[Payload],
        secrets: &[SecretBytes],
        last: &[Payload],
    ) -> Result<IkeSa, Refusal> {
        let malformed = |what: String| Refusal::Malformed(what);
        let Accepted { suite, theirs, nonce, .. } = self.accept_ike_rekey(offer, payloads)?;
        let Stage::Established(established) = &mut self.stage else {
            return Err(malformed("not established".to_owned()));
        };
        let nonces = Nonces { initiator_nonce: &offer.nonce, responder_nonce: &nonce };
        let keys = established
            .channel
            .keys
            .rekey(suite, secrets, nonces, offer.spi, theirs)
            .map_err(|error| malformed(error.to_string()))?;
        let lowest_nonce = lowest(&offer.nonce, &nonce).into();
        let mut heir = self.make_heir(cx, keys, (offer.spi, theirs), true, lowest_nonce, false);
        if let Some(heir) = &mut heir {
            heir.take_token(last);
        }
        heir.ok_or_else(|| malformed("key material of the wrong length".to_owned()))
    }

    /// An IKE SA that continues this one.
    fn make_heir(
        &mut self,
        cx: &mut Cx<'_>,
        keys: ike_crypto::IkeKeys,
        spis: (IkeSpi, IkeSpi),
        ours: bool,
        lowest_nonce: Arc<[u8]>,
        undecided: bool,
    ) -> Option<IkeSa> {
        let Stage::Established(old) = &mut self.stage else { return None };
        // RFC 7296 §2.18: message IDs begin anew, and the initiator of the rekey is the new SA's initiator.
        let channel = Channel::new(keys, spis, ours, old.channel.fragment_octets(), 0, 0).ok()?;
        let birth = Birth {
            config: old.config.clone(),
            channel,
            lowest_nonce,
            ours,
            peer_called: old.peer_called,
            undecided,
            nat: old.nat.under_other_spis(),
            peer: old.peer.clone(),
            peer_token: None,
            mobility: old.mobility.clone(),
            reauth_at: old.reauth_at,
        };
        let mut established = Established::new(cx, birth);
        established.authenticated = old.authenticated;
        if ours && old.peer_token.is_some() && cx.crash_tokens.is_some() {
            // RFC 6290 §4.3: its request had no responder's SPI to make a token of. Peers without the extension are spared.
            established.enqueue(Task::CrashToken);
        }
        if old.is_to_tell_move() {
            established.enqueue_first(Task::Move); // the old one may not come to it any more
        }
        let spi = if ours { spis.0 } else { spis.1 };
        Some(IkeSa::heir(spi, self.path.clone(), established))
    }

    /// Hands the children on and begins to leave.
    pub(super) fn bequeath(&mut self, cx: &mut Cx<'_>, heir: IkeSpi, goodbye: Goodbye) {
        if let Stage::Established(established) = &mut self.stage {
            let (children, path) = (std::mem::take(&mut established.children), established.carried_by(&self.path));
            cx.news.push(News::Inherit { heir, children, path });
            cx.news.push(News::Ended(Ending::Superseded));
            self.leave(cx, goodbye);
        }
    }

    pub(super) fn ike_rekey_failed(
        &mut self,
        cx: &mut Cx<'_>,
        offer: IkeOffer,
        kind: NotifyType,
        payloads: &[Payload],
    ) {
        let put_off = cx.put_off();
        if let Some(rival) = offer.rival {
            // The peer's own rekey has done it, and the peer closes the old one.
            return self.bequeath(cx, rival.spi, Goodbye::Expected);
        }
        let Stage::Established(established) = &mut self.stage else { return };
        let config = established.config.clone();
        let groups: Vec<Group> = config.ike_proposals.iter().flat_map(|proposal| proposal.groups.clone()).collect();
        if let Some(group) = group_asked_for(payloads, Some(offer.key.group()), &groups) {
            return established.enqueue_first(Task::RekeyIke { group: Some(group) });
        }
        if matches!(kind, NotifyType::TemporaryFailure | NotifyType::StateNotFound) {
            established.rekey_at = Some(cx.now + put_off);
        } else {
            established.rekey_at = Some(cx.now + TRY_AGAIN);
            let why = Refusal::Notified(kind.to_string()).to_string();
            cx.log(Event::RekeyDelayed { tunnel: config.tunnel.clone(), why });
        }
    }

    /// A request to replace the IKE SA.
    fn ike_rekey_requested(&mut self, cx: &mut Cx<'_>, header: &Header, payloads: &[Payload]) {
        match self.agree_to_ike_rekey(cx, payloads) {
            Err(no) => self.decline(cx, header, no),
            Ok((answer, None)) => self.respond(cx, header, &answer),
            Ok((mut answer, Some(draft))) => match self.heir_of(cx, draft) {
                Err(no) => self.decline(cx, header, no),
                Ok((heir, token)) => {
                    answer.extend(token);
                    self.respond(cx, header, &answer);
                    self.succeeded_by(cx, heir);
                }
            },
        }
    }

    /// The IKE SA out of the peer's rekey takes over, unless ours is still on the way.
    pub(super) fn succeeded_by(&mut self, cx: &mut Cx<'_>, heir: IkeSa) {
        let Stage::Established(established) = &mut self.stage else { return };
        let theirs = heir.spi();
        let lowest_nonce = heir.established().map(|heir| heir.lowest_nonce.clone()).unwrap_or_default();
        cx.news.push(News::Heir(Box::new(heir)));
        match established.channel.window.outstanding_mut().and_then(|outstanding| outstanding.exchange.ike_mut()) {
            Some(ours) => ours.rival = Some(Rival { spi: theirs, lowest_nonce }),
            None => self.bequeath(cx, theirs, Goodbye::Expected),
        }
    }

    /// Whether a rekey of the peer's can go through: true if it would be beside one of ours.
    fn may_be_replaced(&self) -> Result<bool, No> {
        let Stage::Established(established) = &self.stage else {
            return Err(No::plain(NotifyType::TemporaryFailure));
        };
        let undecided = match established.channel.window.outstanding().map(|outstanding| &outstanding.exchange) {
            // RFC 7296 §2.25.2: not while a child is being made, replaced or closed.
            Some(exchange) if exchange.child().is_some() || matches!(exchange, Exchange::DeleteChildren(_)) => {
                return Err(No::plain(NotifyType::TemporaryFailure));
            }
            Some(exchange) => exchange.ike().is_some(),
            None => false,
        };
        if established.undecided {
            return Err(No::plain(NotifyType::TemporaryFailure));
        }
        Ok(undecided)
    }

    /// The answer, and the draft of the new SA where no key exchange has to follow.
    fn agree_to_ike_rekey(
        &mut self,
        cx: &mut Cx<'_>,
        payloads: &[Payload],
    ) -> Result<(Vec<Payload>, Option<IkeDraft>), No> {
        let offer = RekeyPayloads::find(payloads).ok_or_else(|| No::plain(NotifyType::InvalidSyntax))?;
        if !offer.sa.proposals.iter().any(|proposal| proposal.protocol == ProtocolId::Ike) {
            return Err(No::plain(NotifyType::InvalidSyntax)); // a child without selectors
        }
        self.may_be_replaced()?;
        let Stage::Established(established) = &mut self.stage else {
            return Err(No::plain(NotifyType::TemporaryFailure));
        };
        let chosen = choose_ike(&established.config.ike_proposals, offer.sa, offer.ke.map(|ke| ke.group))
            .map_err(|why| No::because(NotifyType::NoProposalChosen, Refusal::NoIkeProposal(why)))?;
        let theirs = chosen.proposal.ike_spi().ok_or_else(|| No::plain(NotifyType::InvalidSyntax))?;
        let exchange = respond_to_key_exchange(cx, Some(chosen.suite.group), offer.ke)?;
        let Some((ke, shared)) = exchange else { return Err(No::other_group(chosen.suite.group)) };
        let (ours, our_nonce) = (cx.ike_spi(), cx.nonce());
        let mut answer =
            vec![Payload::Sa(chosen.answer(ours.to_bytes())), Payload::Nonce(our_nonce.clone()), Payload::Ke(ke)];
        let suite = chosen.suite;
        let nonces = (offer.nonce.to_vec(), our_nonce);
        let draft = IkeDraft { suite, secrets: vec![shared], spis: (theirs, ours), nonces };
        if suite.additional.is_empty() {
            return Ok((answer, Some(draft)));
        }
        answer.push(established.await_follow_up(cx, Draft::Ike(draft), in_order(suite.additional))?);
        Ok((answer, None))
    }

    /// The IKE SA out of the peer's rekey once all its key exchanges are done, and what the peer is told with it.
    pub(super) fn heir_of(&mut self, cx: &mut Cx<'_>, draft: IkeDraft) -> Result<(IkeSa, Option<Payload>), No> {
        let undecided = self.may_be_replaced()?;
        let Stage::Established(established) = &mut self.stage else {
            return Err(No::plain(NotifyType::TemporaryFailure));
        };
        let IkeDraft { suite, secrets, spis, nonces } = draft;
        let borrowed = Nonces { initiator_nonce: &nonces.0, responder_nonce: &nonces.1 };
        let keys = established
            .channel
            .keys
            .rekey(suite, &secrets, borrowed, spis.0, spis.1)
            .map_err(|error| No::because(NotifyType::NoProposalChosen, Refusal::Malformed(error.to_string())))?;
        let lowest_nonce = lowest(&nonces.0, &nonces.1).into();
        let heir = self
            .make_heir(cx, keys, spis, false, lowest_nonce, undecided)
            .ok_or_else(|| No::plain(NotifyType::NoProposalChosen))?;
        let token = heir.established().and_then(|heir| crash::token_payload(cx, &heir.channel));
        Ok((heir, token))
    }
}
