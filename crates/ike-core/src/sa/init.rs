//! IKE_SA_INIT: the first exchange, in the clear (RFC 7296 §1.2, §2.6, §2.7, §2.23).

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;
use ike_crypto::{
    DhKey, Exchange as Nonces, Group, IkeKeys, IkeProposal, SignatureHashes, accept_ike, choose_ike, offer_ike,
};
use ike_wire::{
    ExchangeType, Flags, Header, KeyExchange, Message, Notify, NotifyType, Payload, SecurityAssociation, find_notify,
    unsupported_critical,
};
use net_types::TunnelName;

use super::{
    Cx, Ending, IkeSa, News, Stage,
    agreement::{No, error_of, group_asked_for, respond_to_key_exchange},
    auth::Waiting,
    channel::{Channel, notify, send},
    exchange::lowest,
    intermediate::in_order,
    window::{Due, Window},
};
use crate::{
    config::{Childless, ConnectionConfig, Retransmission},
    door::{Admission, Door, answer_in_clear},
    event::{DownCause, Event, Refusal},
    io::{Output, Path},
    nat::Nat,
    tunnel::Tunnel,
};

/// How often a responder may make us begin again with a cookie or another group before we think it is playing.
const MAX_RESTARTS: u8 = 5;
/// Longest cookie (RFC 7296 §2.6).
const MAX_COOKIE: usize = 64;

/// We have sent IKE_SA_INIT.
pub(crate) struct Calling {
    pub(super) config: Arc<ConnectionConfig>,
    nonce: Vec<u8>,
    key: DhKey,
    cookie: Option<Vec<u8>>,
    request: Bytes,
    restarts: u8,
    began: Instant,
    pub(super) window: Window<()>,
}

/// We have answered IKE_SA_INIT.
pub(super) struct HalfOpen {
    pub(super) handshake: Handshake,
    pub(super) began: Instant,
    pub(super) give_up_at: Instant,
    /// The caller's IKE_AUTH, while it is not known whether its certificate was revoked.
    pub(super) waiting: Option<Waiting>,
}

/// What the first exchange leaves for the second.
pub(super) struct Handshake {
    pub(super) channel: Channel,
    pub(super) nat: Nat,
    /// Hashes that the peer can use in signatures.
    pub(super) peer_hashes: SignatureHashes,
    /// The two messages, which AUTH covers.
    pub(super) request: Bytes,
    pub(super) response: Bytes,
    pub(super) initiator_nonce: Vec<u8>,
    pub(super) responder_nonce: Vec<u8>,
    /// Key exchanges that are still to come before IKE_AUTH.
    pub(super) left: VecDeque<Group>,
    /// What AUTH covers of those that have been ([`ike_crypto::IntAuth::octets`]), once IKE_AUTH begins.
    pub(super) intermediate: Vec<u8>,
    /// Whether both sides announced postquantum preshared keys (RFC 8784 §3).
    pub(super) use_ppk: bool,
    /// Whether the responder announced that IKE_AUTH may come without a child SA (RFC 6023 §3).
    pub(super) childless: bool,
}

impl Handshake {
    pub(super) fn lowest_nonce(&self) -> Arc<[u8]> {
        lowest(&self.initiator_nonce, &self.responder_nonce).into()
    }
}

/// The payloads that both messages have.
#[derive(PartialEq)]
struct InitPayloads<'a> {
    sa: &'a SecurityAssociation,
    ke: &'a KeyExchange,
    nonce: &'a [u8],
}

impl<'a> InitPayloads<'a> {
    fn find(payloads: &'a [Payload]) -> Option<Self> {
        let (mut sa, mut ke, mut nonce) = (None, None, None);
        for payload in payloads {
            match payload {
                Payload::Sa(found) => sa = sa.or(Some(found)),
                Payload::Ke(found) => ke = ke.or(Some(found)),
                Payload::Nonce(found) => nonce = nonce.or(Some(&found[..])),
                _ => {}
            }
        }
        Some(Self { sa: sa?, ke: ke?, nonce: nonce? })
    }
}

fn hashes_of(payloads: &[Payload]) -> SignatureHashes {
    find_notify(payloads, NotifyType::SignatureHashAlgorithms)
        .map_or_else(SignatureHashes::none, |notify| SignatureHashes::parse(&notify.data))
}

/// Fragments are used if both sides announce them (RFC 7383 §2.3).
fn fragment_octets(cx: &Cx<'_>, payloads: &[Payload]) -> Option<usize> {
    find_notify(payloads, NotifyType::FragmentationSupported).map(|_| cx.settings.fragment_octets)
}

/// RFC 9242 §3.1: without the other side's word there is no IKE_INTERMEDIATE.
fn knows_intermediate(payloads: &[Payload]) -> bool {
    find_notify(payloads, NotifyType::IntermediateExchangeSupported).is_some()
}

fn groups_of(proposals: &[IkeProposal]) -> Vec<Group> {
    proposals.iter().flat_map(|proposal| proposal.groups.iter().copied()).collect()
}

// --- the side that calls ---

/// Calls the peer of a tunnel.
pub(crate) fn call(cx: &mut Cx<'_>, config: Arc<ConnectionConfig>, path: Path) -> Option<IkeSa> {
    let group = *groups_of(&config.ike_proposals).first()?;
    let spi = cx.ike_spi();
    let calling = Calling {
        nonce: cx.nonce(),
        key: DhKey::generate(group, cx.rng).ok()?,
        config,
        cookie: None,
        request: Bytes::new(),
        restarts: 0,
        began: cx.now,
        window: Window::new(0, 0),
    };
    let tunnel = Some(calling.config.tunnel.clone());
    let mut sa = IkeSa { spi, tunnel, path, arrival: None, renews: false, stage: Stage::Calling(Box::new(calling)) };
    sa.send_init(cx);
    Some(sa)
}

impl IkeSa {
    /// Sends IKE_SA_INIT, for the first time or with what the responder asked for.
    fn send_init(&mut self, cx: &mut Cx<'_>) {
        let Stage::Calling(calling) = &mut self.stage else { return };
        let Calling { config, nonce, key, cookie, .. } = &mut **calling;
        let mut payloads = Vec::new();
        // RFC 7296 §2.6: the cookie comes first and the rest is as before.
        payloads.extend(cookie.as_ref().map(|cookie| notify(NotifyType::Cookie, cookie.clone())));
        payloads.push(Payload::Sa(offer_ike(&config.ike_proposals, None)));
        payloads.push(Payload::Ke(key.payload()));
        payloads.push(Payload::Nonce(nonce.clone()));
        payloads.extend(Nat::announce((self.spi, None), &self.path, config.encapsulation, cx.rng));
        payloads.push(notify(NotifyType::FragmentationSupported, []));
        payloads.push(notify(NotifyType::SignatureHashAlgorithms, SignatureHashes::supported().to_bytes()));
        if config.ike_proposals.iter().any(|proposal| !proposal.additional.is_empty()) {
            payloads.push(notify(NotifyType::IntermediateExchangeSupported, []));
        }
        payloads.extend(config.ppk.as_ref().map(|_| notify(NotifyType::UsePpk, [])));
        let header = Header {
            initiator_spi: self.spi,
            responder_spi: None,
            exchange: ExchangeType::IkeSaInit,
            flags: Flags { initiator: true, ..Flags::default() },
            message_id: 0,
        };
        match Message::clear(header, payloads).emit() {
            Ok(octets) => {
                let left = (calling.began + calling.config.retry.attempt).saturating_duration_since(cx.now);
                let policy = calling.config.call_policy();
                calling.request = Bytes::from(octets);
                calling.window = Window::new(0, 0);
                let packets = vec![calling.request.clone()];
                send(&self.path, &packets, cx.out);
                calling.window.sent(cx.now, Retransmission { give_up: left, ..policy }, (), packets);
            }
            Err(error) => self.refuse(cx, Refusal::Malformed(format!("our own IKE_SA_INIT: {error}"))),
        }
    }

    /// The answer to IKE_SA_INIT. Nothing in it is authenticated yet.
    pub(super) fn init_answered(&mut self, cx: &mut Cx<'_>, header: &Header, path: &Path, bytes: &Bytes) {
        let Stage::Calling(calling) = &mut self.stage else { return };
        let expected = header.flags.response
            && !header.flags.initiator
            && header.exchange == ExchangeType::IkeSaInit
            && header.message_id == 0
            && *path == self.path;
        if !expected {
            return;
        }
        let Ok(Message { payloads, protected: None, .. }) = Message::parse(bytes) else { return };
        if unsupported_critical(&payloads).is_some() {
            return;
        }
        let cookie = find_notify(&payloads, NotifyType::Cookie).map(|notify| notify.data.clone());
        if let (Some(cookie), None) = (cookie, header.responder_spi) {
            if (1..=MAX_COOKIE).contains(&cookie.len()) {
                calling.cookie = Some(cookie);
                self.begin_again(cx);
            }
            return;
        }
        if let Some(error) = error_of(&payloads) {
            let groups = groups_of(&calling.config.ike_proposals);
            return match group_asked_for(&payloads, Some(calling.key.group()), &groups) {
                Some(group) => match DhKey::generate(group, cx.rng) {
                    Ok(key) => {
                        calling.key = key;
                        self.begin_again(cx);
                    }
                    Err(error) => self.refuse(cx, Refusal::Malformed(error.to_string())),
                },
                None => {
                    let why = init_error(&calling.config, error.kind);
                    self.refuse(cx, why);
                }
            };
        }
        match self.conclude_init(cx, header, &payloads, bytes) {
            Ok(()) => {}
            // Unauthenticated: it may be forged, and the true answer may still come.
            Err(Refusal::Malformed(_)) => {}
            Err(why) => self.refuse(cx, why),
        }
    }

    fn begin_again(&mut self, cx: &mut Cx<'_>) {
        let Stage::Calling(calling) = &mut self.stage else { return };
        calling.restarts += 1;
        if calling.restarts > MAX_RESTARTS {
            let what = "the responder asks for ever new cookies or groups".to_owned();
            return self.refuse(cx, Refusal::Malformed(what));
        }
        self.send_init(cx);
    }

    fn conclude_init(
        &mut self,
        cx: &mut Cx<'_>,
        header: &Header,
        payloads: &[Payload],
        bytes: &Bytes,
    ) -> Result<(), Refusal> {
        let Stage::Calling(calling) = &mut self.stage else { return Ok(()) };
        let malformed = |what: &str| Refusal::Malformed(what.to_owned());
        let theirs = header.responder_spi.ok_or_else(|| malformed("answer without responder SPI"))?;
        let answer = InitPayloads::find(payloads).ok_or_else(|| malformed("answer without SA, KE or nonce"))?;
        let chosen = accept_ike(&calling.config.ike_proposals, answer.sa).map_err(Refusal::NoIkeProposal)?;
        if chosen.suite.group != calling.key.group() {
            return Err(malformed("the key exchange of the answer is not in the group it chose"));
        }
        if !chosen.suite.additional.is_empty() && !knows_intermediate(payloads) {
            return Err(malformed("additional key exchanges were chosen by a peer without IKE_INTERMEDIATE"));
        }
        let childless = find_notify(payloads, NotifyType::ChildlessIkev2Supported).is_some();
        if calling.config.childless == Childless::Force && !childless {
            return Err(Refusal::Childless(
                "the peer does not announce that an IKE SA may come without a child SA (RFC 6023); check \"childless force\"",
            ));
        }
        let shared = calling.key.agree(answer.ke).map_err(|error| Refusal::Malformed(error.to_string()))?;
        let nonces = Nonces { initiator_nonce: &calling.nonce, responder_nonce: answer.nonce };
        let keys = IkeKeys::derive(chosen.suite, &shared, nonces, self.spi, theirs)
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let spis = (self.spi, theirs);
        let channel = Channel::new(keys, spis, true, fragment_octets(cx, payloads), 1, 0)
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let handshake = Handshake {
            channel,
            nat: Nat::detect((self.spi, Some(theirs)), &self.path, payloads),
            peer_hashes: hashes_of(payloads),
            request: calling.request.clone(),
            response: bytes.clone(),
            initiator_nonce: std::mem::take(&mut calling.nonce),
            responder_nonce: answer.nonce.to_vec(),
            left: in_order(chosen.suite.additional),
            intermediate: Vec::new(),
            use_ppk: find_notify(payloads, NotifyType::UsePpk).is_some() && calling.config.ppk.is_some(),
            childless,
        };
        let config = calling.config.clone();
        if handshake.nat.encapsulates(config.encapsulation) {
            // RFC 7296 §2.23: to port 4500, which an initiator may always do.
            let port = cx.settings.natt_port;
            self.path.local.set_port(port);
            self.path.remote.set_port(port);
            self.path.natt = true;
        }
        self.mix_or_prove(cx, handshake, config);
        Ok(())
    }

    pub(super) fn calling_timeout(&mut self, cx: &mut Cx<'_>) {
        let Stage::Calling(calling) = &mut self.stage else { return };
        match calling.window.due(cx.now, None) {
            Due::Nothing => {}
            Due::Again(packets) => send(&self.path, &packets, cx.out),
            Due::GiveUp { .. } => {
                let tried_for = cx.now.saturating_duration_since(calling.began);
                let (tunnel, remote) = (calling.config.tunnel.clone(), self.path.remote);
                cx.log(Event::Unreachable { tunnel, remote, tried_for });
                cx.news.push(News::Ended(Ending::Lost(DownCause::PeerUnreachable)));
                self.stage = Stage::Over;
            }
        }
    }
}

/// What an error in answer to IKE_SA_INIT means.
fn init_error(config: &ConnectionConfig, kind: NotifyType) -> Refusal {
    match kind {
        NotifyType::NoProposalChosen | NotifyType::InvalidKePayload => Refusal::OfferRefused {
            what: "IKE SA",
            offered: config.ike_proposals.iter().map(|p| p.to_string()).collect::<Vec<_>>().join(", "),
        },
        other => Refusal::Notified(other.to_string()),
    }
}

// --- the side that is called ---

/// Answers a first message, either without keeping anything or with a half-open SA.
pub(crate) fn answer(cx: &mut Cx<'_>, door: &mut Door, header: &Header, path: &Path, bytes: &Bytes) -> Option<IkeSa> {
    if !header.flags.initiator || header.message_id != 0 {
        return None;
    }
    let message = Message::parse(bytes).ok().filter(|message| message.protected.is_none())?;
    let offer = InitPayloads::find(&message.payloads)?;
    let shown = message.notify(NotifyType::Cookie).map(|notify| &notify.data[..]);
    let caller = (path.remote, header.initiator_spi);
    match door.admit(cx.now, cx.settings, cx.rng, &caller, offer.nonce, shown) {
        Admission::Welcome => {}
        Admission::Full => return None,
        Admission::Cookie(cookie) => {
            cx.out.extend(answer_in_clear(header, path, vec![notify(NotifyType::Cookie, cookie)]));
            return None;
        }
    }
    match accept(cx, header, path, bytes, &message.payloads, &offer) {
        Ok(sa) => Some(sa),
        Err(declined) => {
            if door.may_refuse(cx.now) {
                if let Some(why) = declined.no.why {
                    cx.log(Event::Refused { tunnel: declined.tunnel, remote: path.remote, why: *why });
                }
                cx.out.extend(answer_in_clear(header, path, vec![Payload::Notify(declined.no.notify)]));
            }
            None
        }
    }
}

/// A first message that is refused, and the tunnel it was for if there is only one that it can be for.
struct Declined {
    no: No,
    tunnel: Option<TunnelName>,
}

fn accept(
    cx: &mut Cx<'_>,
    header: &Header,
    path: &Path,
    bytes: &Bytes,
    payloads: &[Payload],
    offer: &InitPayloads<'_>,
) -> Result<IkeSa, Declined> {
    if let Some(kind) = unsupported_critical(payloads) {
        let notify = Notify::new(NotifyType::UnsupportedCriticalPayload, [kind.code()]);
        return Err(Declined { no: No { notify, why: None }, tunnel: None });
    }
    let candidates = candidates(cx, path)?;
    let only = match &candidates[..] {
        [only] => Some(only.tunnel.clone()),
        _ => None,
    };
    let declined = |no| Declined { no, tunnel: only.clone() };
    // Thousands of tunnels with one peer's address mostly have the same few proposals.
    let mut proposals: Vec<IkeProposal> = Vec::new();
    for proposal in candidates.iter().flat_map(|config| &config.ike_proposals) {
        let possible = proposal.additional.is_empty() || knows_intermediate(payloads);
        if possible && !proposals.contains(proposal) {
            proposals.push(proposal.clone());
        }
    }
    let chosen = choose_ike(&proposals, offer.sa, Some(offer.ke.group))
        .map_err(|why| declined(No::because(NotifyType::NoProposalChosen, Refusal::NoIkeProposal(why))))?;
    let malformed = |what: String| declined(No::because(NotifyType::NoProposalChosen, Refusal::Malformed(what)));
    let (ke, shared) = respond_to_key_exchange(cx, Some(chosen.suite.group), Some(offer.ke))
        .map_err(declined)?
        .ok_or_else(|| malformed("no key exchange".to_owned()))?;
    let (theirs, ours, our_nonce) = (header.initiator_spi, cx.ike_spi(), cx.nonce());
    let nonces = Nonces { initiator_nonce: offer.nonce, responder_nonce: &our_nonce };
    let keys = IkeKeys::derive(chosen.suite, &shared, nonces, theirs, ours).map_err(|e| malformed(e.to_string()))?;
    let fragments = fragment_octets(cx, payloads);
    let channel =
        Channel::new(keys, (theirs, ours), false, fragments, 0, 1).map_err(|error| malformed(error.to_string()))?;
    let nat = Nat::detect((theirs, None), path, payloads);
    let peer_hashes = hashes_of(payloads);

    let mut answer = vec![Payload::Sa(chosen.answer([])), Payload::Ke(ke), Payload::Nonce(our_nonce.clone())];
    let config = candidates.first();
    if nat.supported {
        let encapsulation = config.map_or(crate::config::Encapsulation::IfNat, |config| config.encapsulation);
        answer.extend(Nat::announce((theirs, Some(ours)), path, encapsulation, cx.rng));
    }
    answer.extend(config.and_then(|config| config.remote_credential.cert_request()).map(Payload::CertRequest));
    if fragments.is_some() {
        answer.push(notify(NotifyType::FragmentationSupported, []));
    }
    if !peer_hashes.is_empty() {
        answer.push(notify(NotifyType::SignatureHashAlgorithms, SignatureHashes::supported().to_bytes()));
    }
    if !chosen.suite.additional.is_empty() {
        answer.push(notify(NotifyType::IntermediateExchangeSupported, []));
    }
    let use_ppk =
        candidates.iter().any(|config| config.ppk.is_some()) && find_notify(payloads, NotifyType::UsePpk).is_some();
    if use_ppk {
        answer.push(notify(NotifyType::UsePpk, []));
    }
    let childless = candidates.iter().any(|config| config.childless.accepts());
    if childless {
        answer.push(notify(NotifyType::ChildlessIkev2Supported, []));
    }
    let flags = Flags { initiator: false, response: true, higher_version: false };
    let response = Message::clear(Header { responder_spi: Some(ours), flags, ..*header }, answer)
        .emit()
        .map(Bytes::from)
        .map_err(|error| malformed(error.to_string()))?;
    cx.out.push(Output::Send { path: path.clone(), bytes: response.clone() });
    let handshake = Handshake {
        channel,
        nat,
        peer_hashes,
        request: bytes.clone(),
        response,
        initiator_nonce: offer.nonce.to_vec(),
        responder_nonce: our_nonce,
        left: in_order(chosen.suite.additional),
        intermediate: Vec::new(),
        use_ppk,
        childless,
    };
    let give_up_at = cx.now + cx.settings.half_open_for;
    let half_open = HalfOpen { handshake, began: cx.now, give_up_at, waiting: None };
    Ok(IkeSa {
        spi: ours,
        tunnel: None,
        path: path.clone(),
        arrival: None,
        renews: false,
        stage: Stage::HalfOpen(Box::new(half_open)),
    })
}

/// The tunnels whose peer may be at the other end of `path`. Thousands may: a half-open SA does not keep them.
pub(super) fn tunnels_on<'c>(cx: &'c Cx<'_>, path: &'c Path) -> impl Iterator<Item = &'c Tunnel> {
    cx.tunnels.values().filter(|tunnel| {
        let config = &tunnel.config;
        config.uses(&path.wan)
            && config.remote.allows(path.remote.ip())
            && config.local_address.is_none_or(|address| address == path.local.ip())
    })
}

/// What those of them say that are not shut down.
fn candidates(cx: &Cx<'_>, path: &Path) -> Result<Vec<Arc<ConnectionConfig>>, Declined> {
    let fitting: Vec<&Tunnel> = tunnels_on(cx, path).collect();
    let open: Vec<_> = fitting.iter().filter(|tunnel| !tunnel.admin_down).map(|tunnel| tunnel.config.clone()).collect();
    match (&open[..], &fitting[..]) {
        ([], []) => {
            let why = Refusal::UnknownPeer(format!("{} on {}", path.remote.ip(), path.wan));
            Err(Declined { no: No::because(NotifyType::NoProposalChosen, why), tunnel: None })
        }
        ([], [first, ..]) => {
            let no = No::because(NotifyType::NoProposalChosen, Refusal::AdminDown);
            Err(Declined { no, tunnel: Some(first.config.tunnel.clone()) })
        }
        _ => Ok(open),
    }
}

impl IkeSa {
    /// The caller repeats its first message: so do we, if it is the same.
    pub(crate) fn called_again(&mut self, cx: &mut Cx<'_>, path: &Path, bytes: &Bytes) {
        let Stage::HalfOpen(half_open) = &mut self.stage else { return };
        let handshake = &mut half_open.handshake;
        if handshake.request != *bytes {
            if !repeats(&handshake.request, bytes) {
                return;
            }
            // It comes with a cookie for which an earlier copy was asked, and from now on this is what the peer
            // takes for its first message (RFC 7296 §2.15).
            handshake.request = bytes.clone();
        }
        send(path, std::slice::from_ref(&handshake.response), cx.out);
    }
}

/// Whether a first message is another one again but for its cookie, and so for what is drawn anew with it.
fn repeats(first: &Bytes, again: &Bytes) -> bool {
    let (Ok(first), Ok(again)) = (Message::parse(first), Message::parse(again)) else { return false };
    let again = InitPayloads::find(&again.payloads);
    again.is_some() && InitPayloads::find(&first.payloads) == again
}
