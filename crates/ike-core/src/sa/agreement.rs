//! What two sides agree on for a child SA: proposals, selectors, keys, and the words for saying no (RFC 7296 §2.7, §2.9,
//! §2.17, §1.3).
//!
//! Departure: a peer that asks for transport mode where tunnel mode is configured gets tunnel mode, as RFC 7296 §1.3.1 has it;
//! one that asks for tunnel mode where transport mode is configured is refused, since a GRE interface has no use for it.

use std::{borrow::Cow, net::IpAddr};

use ike_crypto::{Additional, DhError, DhKey, EspSuite, Exchange as Nonces, Group, IkeKeys, SecretBytes};
use ike_wire::{
    DhGroup, KeyExchange, Notify, NotifyType, Payload, SecurityAssociation, TrafficSelector, TrafficSelectors,
    find_notify,
};
use net_types::{Prefix, Spi};

use super::{
    Cx,
    channel::notify,
    child::NewChild,
    exchange::{ChildOffer, lowest},
};
use crate::{
    config::{ChildMode, ConnectionConfig},
    event::Refusal,
    io::Path,
    nat::Nat,
    selectors,
};

/// The payloads of a message that makes a child SA.
pub(super) struct ChildPayloads<'a> {
    pub(super) sa: &'a SecurityAssociation,
    pub(super) nonce: Option<&'a [u8]>,
    pub(super) ke: Option<&'a KeyExchange>,
    pub(super) ts_i: &'a [TrafficSelector],
    pub(super) ts_r: &'a [TrafficSelector],
    /// Whether USE_TRANSPORT_MODE stands beside them.
    pub(super) transport: bool,
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
        let transport = find_notify(payloads, NotifyType::UseTransportMode).is_some();
        Some(Self { sa: sa?, nonce, ke, ts_i: ts_i?, ts_r: ts_r?, transport })
    }
}

/// What the configuration says of child SAs on a path.
pub(super) struct Terms<'a> {
    config: &'a ConnectionConfig,
    local_ts: Cow<'a, [TrafficSelector]>,
    remote_ts: Cow<'a, [TrafficSelector]>,
    /// In transport mode: the address that stands here for one that a NAT translates, ours and the peer's.
    translated: (Option<IpAddr>, Option<IpAddr>),
}

impl<'a> Terms<'a> {
    pub(super) fn of(config: &'a ConnectionConfig, nat: Nat, path: &Path) -> Self {
        let ChildMode::Transport { protocol } = config.mode else {
            let (local_ts, remote_ts) = (Cow::from(&config.local_ts), Cow::from(&config.remote_ts));
            return Self { config, local_ts, remote_ts, translated: (None, None) };
        };
        // RFC 7296 §2.23.1: one address a side, that of the IKE SA.
        let only = |address: IpAddr| {
            let prefix = Prefix::host(address);
            Cow::from(vec![TrafficSelector { protocol, ..TrafficSelector::from_prefix(&prefix) }])
        };
        let (local, remote) = (path.local.ip(), path.remote.ip());
        let translated = (nat.we_are_behind.then_some(local), nat.peer_is_behind.then_some(remote));
        Self { config, local_ts: only(local), remote_ts: only(remote), translated }
    }

    fn is_transport(&self) -> bool {
        self.config.mode != ChildMode::Tunnel
    }

    /// The mode and both selectors, of an offer of ours.
    pub(super) fn offer(&self) -> Vec<Payload> {
        self.payloads(self.local_ts.to_vec(), self.remote_ts.to_vec())
    }

    fn payloads(&self, ts_i: Vec<TrafficSelector>, ts_r: Vec<TrafficSelector>) -> Vec<Payload> {
        let mode = self.is_transport().then(|| notify(NotifyType::UseTransportMode, []));
        let selectors = [
            Payload::TsInitiator(TrafficSelectors { selectors: ts_i }),
            Payload::TsResponder(TrafficSelectors { selectors: ts_r }),
        ];
        mode.into_iter().chain(selectors).collect()
    }

    /// The peer's words for our side and for its own, with addresses as they are here (RFC 7296 §2.23.1).
    fn seen_here<'t>(
        &self,
        local: &'t [TrafficSelector],
        remote: &'t [TrafficSelector],
    ) -> (Cow<'t, [TrafficSelector]>, Cow<'t, [TrafficSelector]>) {
        let (ours, theirs) = self.translated;
        (selectors::translated(local, ours), selectors::translated(remote, theirs))
    }

    fn unacceptable(&self, says: &str, local: &[TrafficSelector], remote: &[TrafficSelector]) -> Refusal {
        Refusal::TrafficSelectors {
            found: format!("the peer {says} {} to {}", selectors::list(remote), selectors::list(local)),
            wanted: format!("{} to {}", selectors::list(&self.remote_ts), selectors::list(&self.local_ts)),
        }
    }
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
    terms: &Terms<'_>,
    offer: &ChildPayloads<'_>,
    nonces: Nonces<'_>,
    key_exchange: bool,
    replaces: Option<Spi>,
) -> Result<Agreed, No> {
    if terms.is_transport() && !offer.transport {
        let why =
            "the peer asks for tunnel mode, where \"tunnel mode gre\" takes transport mode; set transport mode there";
        return Err(No::because(NotifyType::NoProposalChosen, Refusal::Mode(why)));
    }
    let ke_group = offer.ke.map(|ke| ke.group);
    let chosen = ike_crypto::choose_esp(&terms.config.esp_proposals, offer.sa, key_exchange, ke_group)
        .map_err(|why| No::because(NotifyType::NoProposalChosen, Refusal::NoChildProposal(why)))?;
    let spi_out = chosen.proposal.esp_spi().ok_or_else(|| {
        No::because(NotifyType::InvalidSyntax, Refusal::Malformed("child proposal without a usable SPI".to_owned()))
    })?;
    let (ts_r, ts_i) = terms.seen_here(offer.ts_r, offer.ts_i);
    let remote_ts = selectors::narrow(&ts_i, &terms.remote_ts);
    let local_ts = selectors::narrow(&ts_r, &terms.local_ts);
    if remote_ts.is_empty() || local_ts.is_empty() {
        return Err(No::because(NotifyType::TsUnacceptable, terms.unacceptable("offers", &ts_r, &ts_i)));
    }
    let exchange = respond_to_key_exchange(cx, chosen.suite.group, offer.ke)?;
    let (answer_ke, shared) = exchange.unzip();
    let spi_in = cx.spis.propose(cx.rng);
    let mut payloads = vec![Payload::Sa(chosen.answer(spi_in.get().to_be_bytes()))];
    if key_exchange {
        payloads.push(Payload::Nonce(nonces.responder_nonce.to_vec()));
    }
    payloads.extend(answer_ke.map(Payload::Ke));
    payloads.extend(terms.payloads(remote_ts.clone(), local_ts.clone()));
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
    terms: &Terms<'_>,
    keys: &IkeKeys,
    offer: ChildOffer,
    answer: &ChildPayloads<'_>,
    nonces: Nonces<'_>,
    secrets: Option<Vec<SecretBytes>>,
) -> Result<NewChild, Refusal> {
    match (terms.is_transport(), answer.transport) {
        // RFC 7296 §1.3.1: the peer has made an SA in tunnel mode, and who cannot use that ends it.
        (true, false) => {
            return Err(Refusal::Mode(
                "the peer answers with tunnel mode, where \"tunnel mode gre\" takes transport mode; set transport mode there",
            ));
        }
        (false, true) => return Err(Refusal::Mode("the peer answers with transport mode, which it was not asked for")),
        _ => {}
    }
    let chosen = ike_crypto::accept_esp(&terms.config.esp_proposals, answer.sa, secrets.is_some());
    let chosen = chosen.map_err(Refusal::NoChildProposal)?;
    let spi_out = chosen
        .proposal
        .esp_spi()
        .ok_or_else(|| Refusal::Malformed("child proposal without a usable SPI".to_owned()))?;
    let (ts_i, ts_r) = terms.seen_here(answer.ts_i, answer.ts_r);
    if !selectors::within(&ts_i, &terms.local_ts) || !selectors::within(&ts_r, &terms.remote_ts) {
        return Err(terms.unacceptable("answers", &ts_i, &ts_r));
    }
    let keys = keys
        .child(chosen.suite, &secrets.unwrap_or_default(), nonces, true)
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    Ok(NewChild {
        spi_in: offer.spi_in,
        spi_out,
        keys,
        local_ts: ts_i.into_owned(),
        remote_ts: ts_r.into_owned(),
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
            offered: match (config.mode, config.esp_proposals.iter().map(ToString::to_string).collect::<Vec<_>>()) {
                (ChildMode::Tunnel, suites) => suites.join(", "),
                (ChildMode::Transport { .. }, suites) => format!("{} in transport mode", suites.join(", ")),
            },
        },
        NotifyType::TsUnacceptable => Refusal::TrafficSelectors {
            found: "the peer refused ours".to_owned(),
            wanted: match config.mode {
                ChildMode::Tunnel => {
                    format!("{} to {}", selectors::list(&config.local_ts), selectors::list(&config.remote_ts))
                }
                ChildMode::Transport { protocol } => format!("protocol {protocol} between the two outer addresses"),
            },
        },
        other => Refusal::Notified(other.to_string()),
    }
}
