//! What two sides agree on for a child SA: proposals, selectors, keys, and the words for saying no (RFC 7296 §2.7, §2.9,
//! §2.17, §1.3).

use ike_crypto::{Additional, DhError, DhKey, EspSuite, Exchange as Nonces, Group, IkeKeys, SecretBytes};
use ike_wire::{
    DhGroup, KeyExchange, Notify, NotifyType, Payload, SecurityAssociation, TrafficSelector, TrafficSelectors,
    find_notify,
};
use net_types::Spi;

use super::{
    Cx,
    child::NewChild,
    exchange::{ChildOffer, lowest},
};
use crate::{config::ConnectionConfig, event::Refusal, selectors};

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
    pub(super) draft: ChildDraft,
    /// Key exchanges that have to follow before the draft is finished.
    pub(super) additional: Additional,
}

/// A pair that was agreed on, but for its keys.
pub(super) struct ChildDraft {
    suite: EspSuite,
    pub(super) secrets: Vec<SecretBytes>,
    pub(super) nonces: (Vec<u8>, Vec<u8>),
    spi_in: Spi,
    spi_out: Spi,
    local_ts: Vec<TrafficSelector>,
    remote_ts: Vec<TrafficSelector>,
    pub(super) replaces: Option<Spi>,
}

impl ChildDraft {
    /// Derives the keys.
    pub(super) fn finish(self, keys: &IkeKeys) -> Result<NewChild, No> {
        let Self { suite, secrets, nonces, spi_in, spi_out, local_ts, remote_ts, replaces } = self;
        let lowest_nonce = lowest(&nonces.0, &nonces.1).into();
        let nonces = Nonces { initiator_nonce: &nonces.0, responder_nonce: &nonces.1 };
        let keys = keys
            .child(suite, &secrets, nonces, false)
            .map_err(|error| No::because(NotifyType::NoProposalChosen, Refusal::Malformed(error.to_string())))?;
        Ok(NewChild { spi_in, spi_out, keys, local_ts, remote_ts, lowest_nonce, replaces, ready: false })
    }
}

/// The responder's part: chooses and narrows. `key_exchange` is false in IKE_AUTH (RFC 7296 §1.2).
pub(super) fn agree(
    cx: &mut Cx<'_>,
    config: &ConnectionConfig,
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
    let spi_in = cx.spis.propose(cx.rng);
    let mut payloads = vec![Payload::Sa(chosen.answer(spi_in.get().to_be_bytes()))];
    if key_exchange {
        payloads.push(Payload::Nonce(nonces.responder_nonce.to_vec()));
    }
    payloads.extend(answer_ke.map(Payload::Ke));
    payloads.push(Payload::TsInitiator(TrafficSelectors { selectors: remote_ts.clone() }));
    payloads.push(Payload::TsResponder(TrafficSelectors { selectors: local_ts.clone() }));
    let draft = ChildDraft {
        suite: chosen.suite,
        secrets: shared.into_iter().collect(),
        nonces: (nonces.initiator_nonce.to_vec(), nonces.responder_nonce.to_vec()),
        spi_in,
        spi_out,
        local_ts,
        remote_ts,
        replaces,
    };
    Ok(Agreed { payloads, draft, additional: chosen.suite.additional })
}

/// Our half of a key exchange in the group chosen, if one was chosen, and the secret.
pub(super) fn respond_to_key_exchange(
    cx: &mut Cx<'_>,
    group: Option<Group>,
    offered: Option<&KeyExchange>,
) -> Result<Option<(KeyExchange, SecretBytes)>, No> {
    let Some(group) = group else { return Ok(None) };
    let Some(theirs) = offered.filter(|ke| ke.group == group.id()) else { return Err(No::other_group(group)) };
    DhKey::respond(group, theirs, cx.rng).map(Some).map_err(No::bad_key_exchange)
}

/// The initiator's view of an answer: the secret of its key exchange, and the key exchanges that have to follow.
pub(super) fn first_secret(
    config: &ConnectionConfig,
    offer: &ChildOffer,
    answer: &ChildPayloads<'_>,
) -> Result<(Vec<SecretBytes>, Additional), Refusal> {
    let chosen = ike_crypto::accept_esp(&config.esp_proposals, answer.sa, true).map_err(Refusal::NoChildProposal)?;
    let shared = match (chosen.suite.group, &offer.key, answer.ke) {
        (None, _, _) => None,
        (Some(group), Some(key), Some(theirs)) if key.group() == group => {
            Some(key.agree(theirs).map_err(|error| Refusal::Malformed(error.to_string()))?)
        }
        (Some(_), _, _) => {
            let what = "the key exchange of the answer is not in the group it chose";
            return Err(Refusal::Malformed(what.to_owned()));
        }
    };
    Ok((shared.into_iter().collect(), chosen.suite.additional))
}

/// The initiator's part, once the answer is there: `offer` against what came back. `secrets` are those of all its key
/// exchanges; in IKE_AUTH, which has none, they are `None`.
pub(super) fn conclude(
    config: &ConnectionConfig,
    keys: &IkeKeys,
    offer: ChildOffer,
    answer: &ChildPayloads<'_>,
    nonces: Nonces<'_>,
    secrets: Option<Vec<SecretBytes>>,
) -> Result<NewChild, Refusal> {
    let chosen = ike_crypto::accept_esp(&config.esp_proposals, answer.sa, secrets.is_some());
    let chosen = chosen.map_err(Refusal::NoChildProposal)?;
    let spi_out = chosen
        .proposal
        .esp_spi()
        .ok_or_else(|| Refusal::Malformed("child proposal without a usable SPI".to_owned()))?;
    if !selectors::within(answer.ts_i, &config.local_ts) || !selectors::within(answer.ts_r, &config.remote_ts) {
        return Err(Refusal::TrafficSelectors {
            found: format!("the peer answers {} to {}", selectors::list(answer.ts_i), selectors::list(answer.ts_r)),
            wanted: format!("{} to {}", selectors::list(&config.local_ts), selectors::list(&config.remote_ts)),
        });
    }
    let keys = keys
        .child(chosen.suite, &secrets.unwrap_or_default(), nonces, true)
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    Ok(NewChild {
        spi_in: offer.spi_in,
        spi_out,
        keys,
        local_ts: answer.ts_i.to_vec(),
        remote_ts: answer.ts_r.to_vec(),
        lowest_nonce: lowest(nonces.initiator_nonce, nonces.responder_nonce).into(),
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
