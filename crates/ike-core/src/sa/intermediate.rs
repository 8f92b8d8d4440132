//! IKE_INTERMEDIATE: further key exchanges before anybody proves who they are (RFC 9242, RFC 9370 §2.2.2).
//!
//! Each is protected by the keys as they are before it, and mixes its secret into those after it. AUTH covers the messages
//! (see [`ike_crypto::IntAuth`]), so that whoever meddles with them is found out there.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use ike_crypto::{DhKey, Exchange as Nonces, Group, SecretBytes};
use ike_wire::{ExchangeType, Header, KeyExchange, NotifyType, Payload};

use super::{
    Cx, Ending, IkeSa, News, Stage,
    agreement::error_of,
    channel::{Opened, notify, send},
    exchange::Exchange,
    init::Handshake,
    window::Due,
};
use crate::{
    config::ConnectionConfig,
    event::{DownCause, Event, Refusal},
    io::Path,
};

/// We have sent IKE_INTERMEDIATE.
pub(super) struct Mixing {
    pub(super) handshake: Handshake,
    pub(super) config: Arc<ConnectionConfig>,
    key: DhKey,
}

impl Handshake {
    /// Mixes a secret in: what follows is protected by the new keys, while repetitions are answered as they were.
    fn mix(&mut self, shared: SecretBytes) -> Result<(), Refusal> {
        let nonces = Nonces { initiator_nonce: &self.initiator_nonce, responder_nonce: &self.responder_nonce };
        let (initiator, responder) = self.channel.spis;
        let keys = self.channel.keys.mix(shared, nonces, initiator, responder);
        let keys = keys.map_err(|error| Refusal::Malformed(error.to_string()))?;
        self.channel.change_keys(keys).map_err(|error| Refusal::Malformed(error.to_string()))
    }
}

pub(super) fn ke_of(payloads: &[Payload]) -> Option<&KeyExchange> {
    payloads.iter().find_map(|payload| match payload {
        Payload::Ke(ke) => Some(ke),
        _ => None,
    })
}

/// The methods of a suite that are still to come.
pub(super) fn in_order(additional: ike_crypto::Additional) -> VecDeque<Group> {
    additional.methods().collect()
}

// --- the side that called ---

impl IkeSa {
    /// The next key exchange, or IKE_AUTH after the last.
    pub(super) fn mix_or_prove(&mut self, cx: &mut Cx<'_>, mut handshake: Handshake, config: Arc<ConnectionConfig>) {
        let Some(method) = handshake.left.pop_front() else { return self.prove(cx, handshake, config) };
        let key = match DhKey::generate(method, cx.rng) {
            Ok(key) => key,
            Err(error) => return self.refuse(cx, Refusal::Malformed(error.to_string())),
        };
        let policy = config.call_policy();
        let payloads = [Payload::Ke(key.payload())];
        let sent = handshake.channel.request(cx.now, &self.path, policy, Exchange::Intermediate, &payloads, cx.out);
        match sent {
            Ok(()) => self.stage = Stage::Mixing(Box::new(Mixing { handshake, config, key })),
            Err(error) => self.refuse(cx, Refusal::Malformed(format!("our own IKE_INTERMEDIATE: {error}"))),
        }
    }

    /// The answer to IKE_INTERMEDIATE.
    pub(super) fn mixing_answered(&mut self, cx: &mut Cx<'_>, header: &Header, path: &Path, bytes: &Bytes) {
        let Stage::Mixing(mixing) = &mut self.stage else { return };
        let payloads = match mixing.handshake.channel.answered(header, path, bytes, cx.out) {
            Ok(Some(payloads)) => payloads,
            Ok(None) => return,
            Err(why) => return self.refuse(cx, why),
        };
        if let Some(error) = error_of(&payloads) {
            return self.refuse(cx, Refusal::Notified(error.kind.to_string()));
        }
        let Stage::Mixing(mixing) = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        let Mixing { mut handshake, config, key } = *mixing;
        let malformed = |what: String| Refusal::Malformed(format!("answer to IKE_INTERMEDIATE: {what}"));
        let shared = ke_of(&payloads)
            .ok_or_else(|| malformed("no key exchange".to_owned()))
            .and_then(|ke| key.agree(ke).map_err(|error| malformed(error.to_string())));
        match shared.and_then(|shared| handshake.mix(shared)) {
            Ok(()) => self.mix_or_prove(cx, handshake, config),
            Err(why) => self.refuse(cx, why),
        }
    }

    pub(super) fn mixing_timeout(&mut self, cx: &mut Cx<'_>) {
        let Stage::Mixing(mixing) = &mut self.stage else { return };
        match mixing.handshake.channel.window.due(cx.now, None) {
            Due::Nothing => {}
            Due::Again(packets) => send(&self.path, &packets, cx.out),
            Due::GiveUp { waited } => {
                let (tunnel, remote) = (mixing.config.tunnel.clone(), self.path.remote);
                cx.log(Event::Unreachable { tunnel, remote, tried_for: waited });
                cx.news.push(News::Ended(Ending::Lost(DownCause::PeerUnreachable)));
                self.stage = Stage::Over;
            }
        }
    }
}

// --- the side that was called ---

impl IkeSa {
    /// IKE_INTERMEDIATE on a half-open SA. Where none is due it is not looked at.
    pub(super) fn mixing_requested(&mut self, cx: &mut Cx<'_>, header: &Header, path: Path, bytes: &Bytes) {
        let Stage::HalfOpen(half_open) = &mut self.stage else { return };
        let handshake = &mut half_open.handshake;
        let Some(method) = handshake.left.front().copied() else {
            // The last one may be repeated; is_due answers it again.
            if header.exchange == ExchangeType::IkeIntermediate {
                handshake.channel.is_due(header, &path, bytes, cx.out);
            }
            return;
        };
        if !handshake.channel.is_due(header, &path, bytes, cx.out) {
            return;
        }
        let opened = match handshake.channel.open(header, bytes) {
            Err(_) | Ok(Opened::Partial) => return,
            Ok(opened) => opened,
        };
        self.path = path; // authentic, and perhaps on the NAT traversal port by now
        let invalid = notify(NotifyType::InvalidSyntax, []);
        let payloads = match opened {
            Opened::Partial => return,
            Opened::Payloads(payloads) => payloads,
            Opened::Critical(kind) => {
                let answer = notify(NotifyType::UnsupportedCriticalPayload, [kind]);
                return self.turn_away(cx, header, answer, Refusal::Malformed(format!("critical payload {kind}")));
            }
            Opened::Malformed(reason) => {
                return self.turn_away(cx, header, invalid, Refusal::Malformed(reason.to_string()));
            }
        };
        let Some(theirs) = ke_of(&payloads) else {
            let why = "IKE_INTERMEDIATE without a key exchange".to_owned();
            return self.turn_away(cx, header, invalid, Refusal::Malformed(why));
        };
        let (ours, shared) = match DhKey::respond(method, theirs, cx.rng) {
            Ok(done) => done,
            Err(error) => return self.turn_away(cx, header, invalid, Refusal::Malformed(error.to_string())),
        };
        self.respond(cx, header, &[Payload::Ke(ours)]);
        let Stage::HalfOpen(half_open) = &mut self.stage else { return };
        half_open.handshake.left.pop_front();
        if half_open.handshake.mix(shared).is_err() {
            self.stage = Stage::Over; // keys of a length that fitted before do not fit now
        }
    }
}
