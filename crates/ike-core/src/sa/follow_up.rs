//! IKE_FOLLOWUP_KE: the additional key exchanges of a CREATE_CHILD_SA exchange (RFC 9370 §2.2.4).
//!
//! Nothing is installed before the last of them. The initiator keeps what was agreed on beside the request that is on the
//! way; the responder keeps it under a mark that only it understands, for a while. Where both ends replace the same SA at
//! once, both go through to the end and the nonces decide then, as they do without additional key exchanges.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ike_crypto::{Additional, DhKey, Group, SecretBytes};
use ike_wire::{Header, NotifyType, Payload, find_notify};
use rand::Rng;

use super::{
    Cx, IkeSa, Stage,
    agreement::{ChildDraft, No, error_of},
    channel::notify,
    established::Established,
    exchange::{ChildOffer, Exchange, IkeOffer},
    intermediate::{in_order, ke_of},
    rekey::IkeDraft,
};

/// How long the initiator may take from one exchange to the next (RFC 9370 §2.2.4: 5 to 20 s).
const EXPECT_FOR: Duration = Duration::from_secs(20);
/// Most exchanges of a peer that wait for their follow-ups.
const MAX_AWAITED: usize = 4;

/// What we began.
#[derive(Debug)]
pub(crate) enum Offer {
    Child(ChildOffer),
    Ike(IkeOffer),
}

/// Our side of an exchange whose follow-ups are under way.
#[derive(Debug)]
pub(crate) struct FollowUp {
    pub(super) offer: Offer,
    /// What CREATE_CHILD_SA was answered with.
    answer: Vec<Payload>,
    key: DhKey,
    secrets: Vec<SecretBytes>,
    left: VecDeque<Group>,
}

/// What the peer began.
pub(super) enum Draft {
    Child(ChildDraft),
    Ike(IkeDraft),
}

/// The peer's side of an exchange whose follow-ups are to come.
pub(super) struct Awaited {
    link: [u8; 8],
    draft: Draft,
    next: Group,
    left: VecDeque<Group>,
    until: Instant,
}

impl Draft {
    fn secrets(&mut self) -> &mut Vec<SecretBytes> {
        match self {
            Self::Child(draft) => &mut draft.secrets,
            Self::Ike(draft) => &mut draft.secrets,
        }
    }
}

impl Established {
    /// Whether the peer is about to replace this IKE SA: nothing new is begun on it meanwhile.
    pub(super) fn awaits_ike_rekey(&self) -> bool {
        self.awaited.iter().any(|awaited| matches!(awaited.draft, Draft::Ike(_)))
    }

    /// When the first of the awaited follow-ups is given up.
    pub(super) fn awaited_until(&self) -> Option<Instant> {
        self.awaited.iter().map(|awaited| awaited.until).min()
    }

    /// Gives up those whose time is over.
    pub(super) fn drop_overdue(&mut self, now: Instant) {
        self.awaited.retain(|awaited| now < awaited.until);
    }

    /// Keeps what was agreed on until the follow-ups are done; gives the payload that says so. `methods` are not none.
    pub(super) fn await_follow_up(
        &mut self,
        cx: &mut Cx<'_>,
        draft: Draft,
        mut left: VecDeque<Group>,
    ) -> Result<Payload, No> {
        let busy = || No::plain(NotifyType::TemporaryFailure);
        let next = left.pop_front().ok_or_else(busy)?;
        if self.awaited.len() >= MAX_AWAITED {
            return Err(busy());
        }
        let link: [u8; 8] = cx.rng.random();
        self.awaited.push(Awaited { link, draft, next, left, until: cx.now + EXPECT_FOR });
        Ok(notify(NotifyType::AdditionalKeyExchange, link))
    }
}

impl IkeSa {
    /// Begins the follow-ups of an exchange of ours that was answered. `secrets` has that of its own key exchange.
    pub(super) fn follow_up(
        &mut self,
        cx: &mut Cx<'_>,
        offer: Offer,
        answer: Vec<Payload>,
        secrets: Vec<SecretBytes>,
        additional: Additional,
    ) {
        let payloads = answer.clone();
        self.next_follow_up(cx, offer, answer, secrets, in_order(additional), &payloads);
    }

    /// One more key exchange; `last` is the message that has the peer's mark for it.
    fn next_follow_up(
        &mut self,
        cx: &mut Cx<'_>,
        offer: Offer,
        answer: Vec<Payload>,
        secrets: Vec<SecretBytes>,
        mut left: VecDeque<Group>,
        last: &[Payload],
    ) {
        let Some(method) = left.pop_front() else { return self.finished(cx, offer, answer, secrets, last) };
        let Some(link) = find_notify(last, NotifyType::AdditionalKeyExchange) else {
            return self.break_off(cx, "the peer agreed to additional key exchanges and does not link them".to_owned());
        };
        let key = match DhKey::generate(method, cx.rng) {
            Ok(key) => key,
            Err(error) => return self.break_off(cx, error.to_string()),
        };
        let payloads = [Payload::Ke(key.payload()), notify(NotifyType::AdditionalKeyExchange, link.data.clone())];
        let follow_up = FollowUp { offer, answer, key, secrets, left };
        self.request(cx, Exchange::FollowUp(Box::new(follow_up)), &payloads);
    }

    /// The answer to [`IkeSa::follow_up`].
    pub(super) fn follow_up_answered(&mut self, cx: &mut Cx<'_>, follow_up: FollowUp, payloads: &[Payload]) {
        let FollowUp { offer, answer, key, mut secrets, left } = follow_up;
        if let Some(error) = error_of(payloads) {
            return match offer {
                Offer::Child(offer) => self.child_failed(cx, offer, error.kind, payloads),
                Offer::Ike(offer) => self.ike_rekey_failed(cx, offer, error.kind, payloads),
            };
        }
        let Some(theirs) = ke_of(payloads) else {
            return self.break_off(cx, "answer to IKE_FOLLOWUP_KE without a key exchange".to_owned());
        };
        match key.agree(theirs) {
            Ok(shared) => secrets.push(shared),
            Err(error) => return self.break_off(cx, error.to_string()),
        }
        self.next_follow_up(cx, offer, answer, secrets, left, payloads);
    }

    fn finished(
        &mut self,
        cx: &mut Cx<'_>,
        offer: Offer,
        answer: Vec<Payload>,
        secrets: Vec<SecretBytes>,
        last: &[Payload],
    ) {
        match offer {
            Offer::Child(offer) => self.child_agreed(cx, offer, &answer, secrets),
            Offer::Ike(offer) => self.ike_rekey_agreed(cx, offer, &answer, secrets, last),
        }
    }

    /// IKE_FOLLOWUP_KE from the peer.
    pub(super) fn follow_up_requested(&mut self, cx: &mut Cx<'_>, header: &Header, payloads: &[Payload]) {
        let Stage::Established(established) = &mut self.stage else { return };
        let link = find_notify(payloads, NotifyType::AdditionalKeyExchange).map(|notify| &notify.data[..]);
        let known = established.awaited.iter().position(|awaited| link == Some(&awaited.link[..]));
        let Some(mut awaited) = known.map(|at| established.awaited.remove(at)) else {
            return self.respond(cx, header, &[notify(NotifyType::StateNotFound, [])]);
        };
        let done = ke_of(payloads).map(|theirs| DhKey::respond(awaited.next, theirs, cx.rng));
        let ours = match done {
            Some(Ok((ours, shared))) => {
                awaited.draft.secrets().push(shared);
                ours
            }
            Some(Err(error)) => return self.decline(cx, header, No::bad_key_exchange(error)),
            None => return self.decline(cx, header, No::plain(NotifyType::InvalidSyntax)),
        };
        let Awaited { draft, left, .. } = awaited;
        if !left.is_empty() {
            return match established.await_follow_up(cx, draft, left) {
                Ok(link) => self.respond(cx, header, &[Payload::Ke(ours), link]),
                Err(no) => self.decline(cx, header, no),
            };
        }
        match draft {
            // The dataplane has the inbound side before the answer tells the peer to use it.
            Draft::Child(draft) => match self.install_draft(cx, draft) {
                Ok(()) => self.respond(cx, header, &[Payload::Ke(ours)]),
                Err(no) => self.decline(cx, header, no),
            },
            Draft::Ike(draft) => match self.heir_of(cx, draft) {
                Ok((heir, token)) => {
                    let mut answer = vec![Payload::Ke(ours)];
                    answer.extend(token);
                    self.respond(cx, header, &answer);
                    self.succeeded_by(cx, heir);
                }
                Err(no) => self.decline(cx, header, no),
            },
        }
    }
}
