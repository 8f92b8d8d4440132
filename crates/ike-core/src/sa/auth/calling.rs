//! IKE_AUTH of the side that calls.

use std::sync::Arc;

use bytes::Bytes;
use ike_crypto::{ChainError, PpkKeys, Verdict};
use ike_wire::{Header, NotifyType, Payload};

use super::{Meeting, OwnedNonces, Proving, Shown, Waiting, peer_name, signed_octets};
use crate::{
    config::{ConnectionConfig, Retransmission},
    event::{DownCause, Event, Refusal},
    io::Path,
    sa::{
        Cx, Ending, IkeSa, News, Stage,
        agreement::{ChildPayloads, Terms, child_error, conclude, error_of},
        channel::{notify, send},
        child::install,
        crash,
        established::Peer,
        exchange::{ChildOffer, Exchange},
        init::Handshake,
        leaving::{Goodbye, Leaving},
        mobike, ppk, reauth,
        window::Due,
    },
};

impl IkeSa {
    /// Sends IKE_AUTH.
    pub(in crate::sa) fn prove(&mut self, cx: &mut Cx<'_>, mut handshake: Handshake, config: Arc<ConnectionConfig>) {
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
            payloads.extend(Terms::of(&config, handshake.nat, &self.path).offer());
        }
        payloads.extend(named);
        payloads.extend(crash::token_payload(cx, &handshake.channel));
        payloads.extend(mobike::offer(cx, &config, &self.path));
        let policy = config.call_policy();
        let sent = handshake.channel.request(cx.now, &self.path, policy, Exchange::Auth, &payloads, cx.out);
        if let Err(error) = sent {
            return self.refuse(cx, Refusal::Malformed(format!("our own IKE_AUTH: {error}")));
        }
        self.stage = Stage::Proving(Box::new(Proving { handshake, config, offer, waiting: None }));
    }

    /// The answer to IKE_AUTH.
    pub(in crate::sa) fn auth_answered(&mut self, cx: &mut Cx<'_>, header: &Header, path: &Path, bytes: &Bytes) {
        let Stage::Proving(proving) = &mut self.stage else { return };
        let payloads = match proving.handshake.channel.answered(header, path, bytes, cx.out) {
            Ok(Some(payloads)) => payloads,
            Ok(None) => return,
            Err(why) => return self.refuse(cx, why),
        };
        self.responder_shown(cx, header, payloads);
    }

    /// What the responder shows of itself is looked at; again, if a responder of its authority had to be heard first.
    pub(super) fn responder_shown(&mut self, cx: &mut Cx<'_>, header: &Header, payloads: Vec<Payload>) {
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
        let terms = Terms::of(config, established.nat, &self.path);
        let new = match conclude(&terms, &established.channel.keys, offer, &answer, nonces.borrow(), None) {
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

    pub(in crate::sa) fn proving_timeout(&mut self, cx: &mut Cx<'_>) {
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
}
