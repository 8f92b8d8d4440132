//! IKE_AUTH: who the two sides are, and the first pair of child SAs (RFC 7296 §1.2, §2.15, §2.21.2).

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use ike_crypto::{AuthError, ChainError, CrashToken, PpkKeys, Presented, SignedOctets, Verdict};
use ike_wire::{
    Authentication, Certificate, ExchangeType, Header, Identification, Notify, NotifyType, Payload, find_notify,
};

use super::{
    Cx, Ending, IkeSa, News, Stage,
    agreement::{ChildPayloads, agree, child_error, conclude, error_of, ts_payloads},
    channel::{Opened, notify, send},
    child::install,
    crash,
    established::{Birth, Established, Peer},
    exchange::{ChildOffer, Exchange},
    init::{HalfOpen, Handshake},
    leaving::{Goodbye, Leaving},
    mobike::{self, Mobility},
    ppk, reauth,
    window::Due,
};
use crate::{
    config::{Childless, ConnectionConfig, Retransmission},
    event::{DownCause, Event, Refusal},
    io::Path,
    tunnel::Setback,
};

/// We have sent IKE_AUTH.
pub(super) struct Proving {
    pub(super) handshake: Handshake,
    pub(super) config: Arc<ConnectionConfig>,
    /// What we asked for with it; none where child SAs come later (RFC 6023).
    offer: Option<ChildOffer>,
    waiting: Option<Waiting>,
}

/// The peer's proof is good, but a responder has to say first that its certificate was not revoked.
pub(super) struct Waiting {
    /// The message that carries the proof.
    header: Header,
    payloads: Vec<Payload>,
    give_up_at: Instant,
}

impl Proving {
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.waiting {
            Some(waiting) => Some(waiting.give_up_at),
            None => self.handshake.channel.window.deadline(),
        }
    }
}

/// Ni and Nr of the first exchange, which the first pair's keys come from too (RFC 7296 §2.17).
struct OwnedNonces(Vec<u8>, Vec<u8>);

impl OwnedNonces {
    fn borrow(&self) -> ike_crypto::Exchange<'_> {
        ike_crypto::Exchange { initiator_nonce: &self.0, responder_nonce: &self.1 }
    }
}

/// How an IKE SA came about.
struct Meeting {
    ours: bool,
    /// The peer says that it has no other, as of then.
    initial_contact: Option<Instant>,
    peer: Peer,
    peer_token: Option<CrashToken>,
    mobility: Option<Mobility>,
    reauth_at: Option<Instant>,
}

/// What a side shows of itself.
struct Shown<'a> {
    id: &'a Identification,
    auth: &'a Authentication,
    certificates: Vec<Certificate>,
}

impl<'a> Shown<'a> {
    /// Finds the initiator's, or the responder's.
    fn find(payloads: &'a [Payload], of_initiator: bool) -> Option<Self> {
        let (mut id, mut auth, mut certificates) = (None, None, Vec::new());
        for payload in payloads {
            match payload {
                Payload::IdInitiator(found) if of_initiator => id = id.or(Some(found)),
                Payload::IdResponder(found) if !of_initiator => id = id.or(Some(found)),
                Payload::Auth(found) => auth = auth.or(Some(found)),
                Payload::Cert(found) => certificates.push(found.clone()),
                _ => {}
            }
        }
        Some(Self { id: id?, auth: auth?, certificates })
    }

    /// Whether it proves the identity that a tunnel's configuration asks for.
    fn check(
        &self,
        cx: &Cx<'_>,
        config: &ConnectionConfig,
        handshake: &Handshake,
        initiator: bool,
        payloads: &[Payload],
    ) -> Result<(Verdict, Option<PpkKeys>), AuthError> {
        let proof = ppk::proof(config, handshake, initiator, payloads)?;
        let without = proof.without(self.auth);
        let octets = signed_octets(handshake, self.id, initiator, proof.keys());
        let auth = without.as_ref().unwrap_or(self.auth);
        let presented = Presented { auth, certificates: &self.certificates, octets };
        let verdict = config.remote_credential.check(&config.remote_id, &presented, cx.since_1970, cx.revocations)?;
        Ok((verdict, proof.into_keys()))
    }
}

/// What the initiator's, or the responder's, proof covers.
fn signed_octets<'a>(
    handshake: &'a Handshake,
    id: &'a Identification,
    of_initiator: bool,
    ppk: Option<&'a PpkKeys>,
) -> SignedOctets<'a> {
    let (prf, plain) = handshake.channel.keys.identity_key(of_initiator);
    let sk_p = ppk.map_or(plain, |keys| keys.identity_key(of_initiator));
    let (message, peer_nonce) = match of_initiator {
        true => (&handshake.request[..], &handshake.responder_nonce[..]),
        false => (&handshake.response[..], &handshake.initiator_nonce[..]),
    };
    SignedOctets { prf, sk_p, message, peer_nonce, id, intermediate: &handshake.intermediate }
}

fn peer_name(id: &Identification) -> String {
    id.to_string()
}

// --- the side that called ---

impl IkeSa {
    /// Sends IKE_AUTH.
    pub(super) fn prove(&mut self, cx: &mut Cx<'_>, mut handshake: Handshake, config: Arc<ConnectionConfig>) {
        let message_id = handshake.channel.window.next_request().unwrap_or(u32::MAX);
        handshake.intermediate = handshake.channel.int_auth.octets(message_id);
        let id = config.local_credential.id_payload(&config.local_id);
        let mixed = match ppk::ours(&config, &handshake) {
            Ok(mixed) => mixed,
            Err(why) => return self.refuse(cx, Refusal::Peer(why)),
        };
        let prove = |keys: Option<&PpkKeys>| {
            let octets = signed_octets(&handshake, &id, true, keys);
            config.local_credential.prove(&octets, handshake.peer_hashes)
        };
        let auth = match prove(mixed.as_ref()) {
            Ok(auth) => auth,
            Err(why) => return self.refuse(cx, Refusal::Ourselves(why)),
        };
        let mut named = Vec::new();
        if let (Some(_), Some(ppk)) = (&mixed, &config.ppk) {
            named.push(notify(NotifyType::PpkIdentity, ppk.identity()));
            if !ppk.is_required() {
                // RFC 8784 §3: what a responder without this key checks instead.
                match prove(None) {
                    Ok(without) => named.push(notify(NotifyType::NoPpkAuth, without.data)),
                    Err(why) => return self.refuse(cx, Refusal::Ourselves(why)),
                }
            }
        }
        let childless = config.childless.asks() && handshake.childless;
        let offer = (!childless).then(|| ChildOffer::first(cx.spis.propose(cx.rng)));
        let first_contact = cx.tunnels.get(&config.tunnel).is_none_or(|tunnel| !tunnel.has_children());
        let mut payloads = vec![Payload::IdInitiator(id)];
        payloads.extend(config.local_credential.cert_payloads().into_iter().map(Payload::Cert));
        payloads.extend(config.remote_credential.cert_request().map(Payload::CertRequest));
        payloads.push(Payload::IdResponder(config.remote_id.payload()));
        payloads.push(Payload::Auth(auth));
        payloads.extend(first_contact.then(|| notify(NotifyType::InitialContact, [])));
        if let Some(offer) = &offer {
            payloads.push(Payload::Sa(ike_crypto::offer_esp(&config.esp_proposals, offer.spi_in, false)));
            payloads.extend(ts_payloads(&config));
        }
        payloads.extend(named);
        payloads.extend(crash::token_payload(cx, &handshake.channel));
        payloads.extend(mobike::offer(cx, &config, &self.path));
        let policy = Retransmission::within(config.retry.attempt);
        let sent = handshake.channel.request(cx.now, &self.path, policy, Exchange::Auth, &payloads, cx.out);
        if let Err(error) = sent {
            return self.refuse(cx, Refusal::Malformed(format!("our own IKE_AUTH: {error}")));
        }
        self.stage = Stage::Proving(Box::new(Proving { handshake, config, offer, waiting: None }));
    }

    /// The answer to IKE_AUTH.
    pub(super) fn auth_answered(&mut self, cx: &mut Cx<'_>, header: &Header, path: &Path, bytes: &Bytes) {
        let Stage::Proving(proving) = &mut self.stage else { return };
        let payloads = match proving.handshake.channel.answered(header, path, bytes, cx.out) {
            Ok(Some(payloads)) => payloads,
            Ok(None) => return,
            Err(why) => return self.refuse(cx, why),
        };
        self.responder_shown(cx, header, payloads);
    }

    /// What the responder shows of itself is looked at; again, if a responder of its authority had to be heard first.
    fn responder_shown(&mut self, cx: &mut Cx<'_>, header: &Header, payloads: Vec<Payload>) {
        let Stage::Proving(proving) = &mut self.stage else { return };
        let Some(shown) = Shown::find(&payloads, false) else {
            return match error_of(&payloads).map(|notify| notify.kind) {
                Some(NotifyType::AuthenticationFailed) => self.refuse(cx, Refusal::ByPeer),
                Some(other) => self.refuse(cx, Refusal::Notified(other.to_string())),
                None => self.refuse(cx, Refusal::Malformed("answer to IKE_AUTH without IDr or AUTH".to_owned())),
            };
        };
        let ppk_keys = match shown.check(cx, &proving.config, &proving.handshake, false, &payloads) {
            Ok((Verdict::Accepted { ask }, keys)) => {
                cx.ask_status(ask);
                keys
            }
            Ok((Verdict::Undecided(query), _)) => {
                cx.ask_status(Some(query));
                let give_up_at = cx.now + cx.settings.half_open_for;
                let give_up_at = proving.waiting.as_ref().map_or(give_up_at, |waiting| waiting.give_up_at);
                proving.waiting = Some(Waiting { header: *header, payloads, give_up_at });
                return;
            }
            Err(why) => return self.reject_responder(cx, Refusal::Peer(why)),
        };
        let peer = Peer { name: peer_name(shown.id), certificates: shown.certificates.into() };
        let Stage::Proving(proving) = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        let Proving { mut handshake, config, offer, .. } = *proving;
        if let Some(keys) = ppk_keys {
            handshake.channel.keys.adopt(keys);
        }
        let mobility = mobike::agreed(cx.now, &config, &self.path, &payloads);
        let peer_token = crash::token_in(&payloads);
        let reauth_at = reauth::due_at(cx, &config, &payloads);
        let meeting = Meeting { ours: true, initial_contact: None, peer, peer_token, mobility, reauth_at };
        let nonces = self.establish(cx, handshake, config.clone(), meeting);
        match offer {
            Some(offer) => self.first_child(cx, &config, offer, &nonces, &payloads),
            None => self.want_child(),
        }
    }

    /// RFC 7296 §2.21.2: the responder believes that all is well, so it has to be told.
    fn reject_responder(&mut self, cx: &mut Cx<'_>, why: Refusal) {
        cx.log(Event::Refused { tunnel: self.tunnel.clone(), remote: self.path.remote, why: why.clone() });
        cx.news.push(News::Ended(Ending::Refused(why)));
        let Stage::Proving(proving) = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        let Proving { handshake, config, .. } = *proving;
        let mut leaving = Leaving::new(cx.now, handshake.channel, Goodbye::Said);
        let policy = Retransmission::within(config.dpd.timeout);
        let payloads = [notify(NotifyType::AuthenticationFailed, [])];
        if leaving.channel.request(cx.now, &self.path, policy, Exchange::Refusal, &payloads, cx.out).is_ok() {
            self.stage = Stage::Leaving(Box::new(leaving));
        }
    }

    /// The pair that came with IKE_AUTH; its failure leaves the IKE SA as it is.
    fn first_child(
        &mut self,
        cx: &mut Cx<'_>,
        config: &ConnectionConfig,
        offer: ChildOffer,
        nonces: &OwnedNonces,
        payloads: &[Payload],
    ) {
        let Stage::Established(established) = &mut self.stage else { return };
        let Some(answer) = ChildPayloads::find(payloads) else {
            let kind = error_of(payloads).map_or(NotifyType::NoProposalChosen, |notify| notify.kind);
            return self.no_first_child(cx, child_error(config, kind));
        };
        let spi_in = offer.spi_in;
        let new = match conclude(config, &established.channel.keys, offer, &answer, nonces.borrow(), None) {
            Ok(new) => new,
            Err(why) => {
                // The peer has installed its side: closing the IKE SA is what is sure to remove it.
                cx.log(Event::Refused { tunnel: self.tunnel.clone(), remote: self.path.remote, why: why.clone() });
                return self.close(cx, DownCause::Refused(why));
            }
        };
        match install(cx, config, established.nat, &self.path, new) {
            Some(child) => {
                established.children.insert(spi_in, child);
            }
            None => self.break_off(cx, format!("SPI {spi_in} was taken")),
        }
    }

    fn no_first_child(&mut self, cx: &mut Cx<'_>, why: Refusal) {
        cx.log(Event::Refused { tunnel: self.tunnel.clone(), remote: self.path.remote, why: why.clone() });
        cx.news.push(News::ChildRefused { cause: DownCause::Refused(why), setback: Setback::Refused });
    }

    pub(super) fn proving_timeout(&mut self, cx: &mut Cx<'_>) {
        let Stage::Proving(proving) = &mut self.stage else { return };
        if let Some(waiting) = &proving.waiting {
            if cx.now >= waiting.give_up_at {
                let names = proving.config.remote_id.to_string();
                let why = ChainError::StatusUnknown { names, why: "its responder was not heard in time" };
                self.reject_responder(cx, Refusal::Peer(why.into()));
            }
            return;
        }
        match proving.handshake.channel.window.due(cx.now, None) {
            Due::Nothing => {}
            Due::Again(packets) => send(&self.path, &packets, cx.out),
            Due::GiveUp { waited } => {
                let (tunnel, remote) = (proving.config.tunnel.clone(), self.path.remote);
                cx.log(Event::Unreachable { tunnel, remote, tried_for: waited });
                cx.news.push(News::Ended(Ending::Lost(DownCause::PeerUnreachable)));
                self.stage = Stage::Over;
            }
        }
    }

    /// From now on the SA is in use.
    fn establish(
        &mut self,
        cx: &mut Cx<'_>,
        handshake: Handshake,
        config: Arc<ConnectionConfig>,
        meeting: Meeting,
    ) -> OwnedNonces {
        let Meeting { ours, initial_contact, peer, peer_token, mobility, reauth_at } = meeting;
        let lowest_nonce = handshake.lowest_nonce();
        let Handshake { channel, nat, initiator_nonce, responder_nonce, .. } = handshake;
        let (spis, suite) = (channel.spis, channel.keys.suite);
        cx.log(Event::IkeEstablished {
            tunnel: config.tunnel.clone(),
            remote: self.path.remote,
            peer: peer.name.clone(),
            initiated: ours,
            spis: (spis.0.get(), spis.1.get()),
            suite: suite.to_string(),
        });
        cx.news.push(News::Established { initial_contact });
        self.tunnel = Some(config.tunnel.clone());
        let birth = Birth {
            config,
            channel,
            lowest_nonce,
            ours,
            peer_called: !ours,
            undecided: false,
            nat,
            peer,
            peer_token,
            mobility,
            reauth_at,
        };
        let established = Established::new(cx, birth);
        self.stage = Stage::Established(Box::new(established));
        OwnedNonces(initiator_nonce, responder_nonce)
    }
}

// --- the side that was called ---

/// Who the caller turned out to be.
struct Identified {
    config: Arc<ConnectionConfig>,
    peer: Peer,
    /// With the postquantum preshared key in them, if it was used.
    ppk_keys: Option<PpkKeys>,
}

/// Whether a caller may come with a child SA, or without (RFC 6023 §3: INVALID_SYNTAX where that is not supported).
fn may_come_so(childless: Childless, with_child: bool) -> Result<(), Refusal> {
    match (childless, with_child) {
        (Childless::Force, true) => Err(Refusal::Childless(
            "the caller wants a child SA with IKE_AUTH, which \"childless force\" does not accept; it has to call childless",
        )),
        (Childless::Never, false) => Err(Refusal::Childless(
            "the caller comes without a child SA (RFC 6023), which \"childless never\" does not accept",
        )),
        _ => Ok(()),
    }
}

/// What is known of a caller that was not refused.
enum Caller {
    Known(Identified),
    /// It depends on what a responder of its authority says.
    Undecided,
}

impl IkeSa {
    /// A request on a half-open SA: IKE_AUTH, or IKE_INTERMEDIATE before it.
    pub(super) fn auth_requested(&mut self, cx: &mut Cx<'_>, header: &Header, path: Path, bytes: &Bytes) {
        let Stage::HalfOpen(half_open) = &mut self.stage else { return };
        if half_open.waiting.is_some() {
            return; // for an answer that is to come; the peer repeats itself
        }
        if header.exchange == ExchangeType::IkeIntermediate {
            return self.mixing_requested(cx, header, path, bytes);
        }
        let handshake = &mut half_open.handshake;
        let channel = &mut handshake.channel;
        // RFC 9370 §2.2.2: not before all key exchanges that were agreed on.
        let ready = header.exchange == ExchangeType::IkeAuth && handshake.left.is_empty();
        if !ready || !channel.is_due(header, &path, bytes, cx.out) {
            return;
        }
        let opened = match channel.open(header, bytes) {
            Err(_) | Ok(Opened::Partial) => return,
            Ok(opened) => opened,
        };
        handshake.intermediate = handshake.channel.int_auth.octets(header.message_id);
        self.path = path; // authentic, and perhaps on the NAT traversal port by now
        let payloads = match opened {
            Opened::Payloads(payloads) => payloads,
            Opened::Critical(kind) => {
                let answer = notify(NotifyType::UnsupportedCriticalPayload, [kind]);
                return self.turn_away(cx, header, answer, Refusal::Malformed(format!("critical payload {kind}")));
            }
            Opened::Malformed(reason) => {
                let answer = notify(NotifyType::InvalidSyntax, []);
                return self.turn_away(cx, header, answer, Refusal::Malformed(reason.to_string()));
            }
            Opened::Partial => return,
        };
        self.caller_shown(cx, header, payloads);
    }

    /// What the caller shows of itself is looked at; again, if a responder of its authority had to be heard first.
    fn caller_shown(&mut self, cx: &mut Cx<'_>, header: &Header, payloads: Vec<Payload>) {
        match self.identify(cx, &payloads) {
            Ok(Caller::Known(identified)) => self.welcome(cx, header, identified, &payloads),
            Ok(Caller::Undecided) => {
                if let Stage::HalfOpen(half_open) = &mut self.stage {
                    let give_up_at = half_open.give_up_at;
                    half_open.waiting = Some(Waiting { header: *header, payloads, give_up_at });
                }
            }
            Err(why) => self.turn_away(cx, header, notify(NotifyType::AuthenticationFailed, []), why),
        }
    }

    /// Finds the tunnel that the caller belongs to, if it proves who it is.
    fn identify(&mut self, cx: &mut Cx<'_>, payloads: &[Payload]) -> Result<Caller, Refusal> {
        let Stage::HalfOpen(half_open) = &self.stage else { return Err(Refusal::AdminDown) };
        let shown = Shown::find(payloads, true)
            .ok_or_else(|| Refusal::Malformed("IKE_AUTH without IDi or AUTH (EAP is not spoken here)".to_owned()))?;
        let wanted = payloads.iter().find_map(|payload| match payload {
            Payload::IdResponder(id) => Some(id),
            _ => None,
        });
        let suite = half_open.handshake.channel.keys.suite;
        // By address and algorithms; the configuration may have changed since the first message.
        let possible: Vec<_> = half_open
            .candidates
            .iter()
            .filter_map(|name| cx.tunnels.get(name))
            .filter(|tunnel| tunnel.config.ike_proposals.iter().any(|proposal| proposal.allows(suite)))
            .collect();
        let meant: Vec<_> = possible
            .iter()
            .filter(|tunnel| tunnel.config.remote_id.is_claimed_by(shown.id))
            .filter(|tunnel| wanted.is_none_or(|id| tunnel.config.local_id.is_claimed_by(id)))
            .collect();
        let mut refusal = match (&meant[..], &possible[..]) {
            ([], [only]) => {
                self.tunnel = Some(only.config.tunnel.clone());
                let config = &only.config;
                let other = |claimed: &Identification, expected: &ike_crypto::Identity| {
                    let (claimed, expected) = (claimed.to_string(), expected.to_string());
                    Refusal::Peer(AuthError::OtherIdentity { claimed, expected })
                };
                match wanted {
                    Some(id) if config.remote_id.is_claimed_by(shown.id) => {
                        Refusal::UnknownPeer(format!("{} as {id}, which we are not here", shown.id))
                    }
                    _ => other(shown.id, &config.remote_id),
                }
            }
            _ => Refusal::UnknownPeer(shown.id.to_string()),
        };
        for tunnel in meant {
            self.tunnel = Some(tunnel.config.tunnel.clone());
            if tunnel.admin_down {
                refusal = Refusal::AdminDown;
                continue;
            }
            match shown.check(cx, &tunnel.config, &half_open.handshake, true, payloads) {
                Ok((Verdict::Accepted { ask }, ppk_keys)) => {
                    let config = tunnel.config.clone();
                    let peer = Peer { name: peer_name(shown.id), certificates: shown.certificates.into() };
                    cx.ask_status(ask);
                    return Ok(Caller::Known(Identified { config, peer, ppk_keys }));
                }
                Ok((Verdict::Undecided(query), _)) => {
                    cx.ask_status(Some(query));
                    return Ok(Caller::Undecided);
                }
                Err(why) => refusal = Refusal::Peer(why),
            }
        }
        Err(refusal)
    }

    /// Refuses the caller; the answer can be repeated for a while.
    pub(super) fn turn_away(&mut self, cx: &mut Cx<'_>, header: &Header, answer: Payload, why: Refusal) {
        cx.log(Event::Refused { tunnel: self.tunnel.clone(), remote: self.path.remote, why: why.clone() });
        cx.news.push(News::CallerRefused(why));
        self.respond(cx, header, &[answer]);
        if let Stage::HalfOpen(half_open) = std::mem::replace(&mut self.stage, Stage::Over) {
            self.stage = Stage::Leaving(Box::new(Leaving::new(cx.now, half_open.handshake.channel, Goodbye::Done)));
        }
    }

    /// Proves who we are and makes the first pair.
    fn welcome(&mut self, cx: &mut Cx<'_>, header: &Header, identified: Identified, payloads: &[Payload]) {
        let Identified { config, peer, ppk_keys } = identified;
        let Stage::HalfOpen(half_open) = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        let HalfOpen { mut handshake, candidates, began, give_up_at, .. } = *half_open;
        let keep = |handshake, candidates| HalfOpen { handshake, candidates, began, give_up_at, waiting: None };
        if let Err(why) = may_come_so(config.childless, ChildPayloads::find(payloads).is_some()) {
            self.stage = Stage::HalfOpen(Box::new(keep(handshake, candidates)));
            return self.turn_away(cx, header, notify(NotifyType::InvalidSyntax, []), why);
        }
        let id = config.local_credential.id_payload(&config.local_id);
        let octets = signed_octets(&handshake, &id, false, ppk_keys.as_ref());
        let proof = config.local_credential.prove(&octets, handshake.peer_hashes);
        let auth = match proof {
            Ok(auth) => auth,
            Err(why) => {
                self.stage = Stage::HalfOpen(Box::new(keep(handshake, candidates)));
                let answer = notify(NotifyType::AuthenticationFailed, []);
                return self.turn_away(cx, header, answer, Refusal::Ourselves(why));
            }
        };
        let mut answer = vec![Payload::IdResponder(id)];
        answer.extend(config.local_credential.cert_payloads().into_iter().map(Payload::Cert));
        answer.push(Payload::Auth(auth));
        if let Some(keys) = ppk_keys {
            answer.push(notify(NotifyType::PpkIdentity, [])); // RFC 8784 §3: it was used
            handshake.channel.keys.adopt(keys);
        }
        let initial_contact = find_notify(payloads, NotifyType::InitialContact).map(|_| began);
        answer.extend(crash::token_payload(cx, &handshake.channel));
        let mobility = mobike::agreed(cx.now, &config, &self.path, payloads);
        if mobility.is_some() {
            answer.extend(mobike::offer(cx, &config, &self.path));
        }
        answer.extend(reauth::lifetime_payload(&config));
        let peer_token = crash::token_in(payloads);
        let reauth_at = reauth::expected_by(cx.now, &config);
        let meeting = Meeting { ours: false, initial_contact, peer, peer_token, mobility, reauth_at };
        let nonces = self.establish(cx, handshake, config.clone(), meeting);
        answer.extend(self.first_child_requested(cx, &config, &nonces, payloads));
        self.respond(cx, header, &answer);
    }

    /// The pair asked for in IKE_AUTH, or why not; the IKE SA stands either way (RFC 7296 §1.2).
    fn first_child_requested(
        &mut self,
        cx: &mut Cx<'_>,
        config: &ConnectionConfig,
        nonces: &OwnedNonces,
        payloads: &[Payload],
    ) -> Vec<Payload> {
        let Stage::Established(established) = &mut self.stage else { return Vec::new() };
        let Some(offer) = ChildPayloads::find(payloads) else {
            cx.news.push(News::ChildExpected); // RFC 6023 §3: the caller asks for it next
            return Vec::new();
        };
        let agreed = match agree(cx, config, &offer, nonces.borrow(), false, None) {
            Ok(agreed) => agreed,
            Err(no) => {
                if let Some(why) = no.why {
                    self.no_first_child(cx, *why);
                }
                return vec![Payload::Notify(no.notify)];
            }
        };
        let new = match agreed.draft.finish(&established.channel.keys) {
            Ok(new) => new,
            Err(no) => return vec![Payload::Notify(no.notify)],
        };
        let spi_in = new.spi_in;
        match install(cx, config, established.nat, &self.path, new) {
            Some(child) => {
                established.children.insert(spi_in, child);
                agreed.payloads
            }
            None => vec![Payload::Notify(Notify::new(NotifyType::TemporaryFailure, []))],
        }
    }
}

// --- what becomes known of certificates ---

impl IkeSa {
    /// More is known of who was revoked: what waited for it is looked at again.
    pub(crate) fn revocations_changed(&mut self, cx: &mut Cx<'_>) {
        match &mut self.stage {
            Stage::Proving(proving) => {
                if let Some(Waiting { header, payloads, .. }) = proving.waiting.take() {
                    self.responder_shown(cx, &header, payloads);
                }
            }
            Stage::HalfOpen(half_open) => {
                if let Some(Waiting { header, payloads, .. }) = half_open.waiting.take() {
                    self.caller_shown(cx, &header, payloads);
                }
            }
            _ => {}
        }
    }

    /// Whether the peer would be accepted still: closes the SA if not.
    pub(crate) fn check_peer_again(&mut self, cx: &mut Cx<'_>) {
        let Stage::Established(established) = &self.stage else { return };
        let (config, peer) = (&established.config, &established.peer);
        if config.remote_credential.policy().is_none() != peer.certificates.is_empty() {
            return self.close(cx, DownCause::Reconfigured); // a key where there was a certificate, or the reverse
        }
        let outcome = config.remote_credential.examine_again(
            &config.remote_id,
            &peer.certificates,
            cx.since_1970,
            cx.revocations,
        );
        match outcome {
            Ok(ask) => cx.ask_status(ask),
            Err(why) => {
                let why = Refusal::Peer(why.into());
                cx.log(Event::Refused { tunnel: self.tunnel.clone(), remote: self.path.remote, why: why.clone() });
                self.close(cx, DownCause::Refused(why));
            }
        }
    }
}
