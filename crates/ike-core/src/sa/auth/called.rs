//! IKE_AUTH of the side that is called.

use std::sync::Arc;

use bytes::Bytes;
use ike_crypto::{AuthError, PpkKeys, Verdict};
use ike_wire::{ExchangeType, Header, Identification, Notify, NotifyType, Payload, find_notify};

use super::{Meeting, OwnedNonces, Shown, Waiting, peer_name, signed_octets};
use crate::{
    config::{Childless, ConnectionConfig},
    event::{Event, Refusal},
    io::Path,
    sa::{
        Cx, IkeSa, News, Stage,
        agreement::{ChildPayloads, Terms, agree},
        channel::{Opened, notify},
        child::install,
        crash,
        established::Peer,
        init::{HalfOpen, tunnels_on},
        leaving::{Goodbye, Leaving},
        mobike, reauth,
    },
};

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
    pub(in crate::sa) fn auth_requested(&mut self, cx: &mut Cx<'_>, header: &Header, path: Path, bytes: &Bytes) {
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
    pub(super) fn caller_shown(&mut self, cx: &mut Cx<'_>, header: &Header, payloads: Vec<Payload>) {
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
        let possible: Vec<_> = tunnels_on(cx, &self.path)
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
    pub(in crate::sa) fn turn_away(&mut self, cx: &mut Cx<'_>, header: &Header, answer: Payload, why: Refusal) {
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
        let HalfOpen { mut handshake, began, give_up_at, .. } = *half_open;
        let keep = |handshake| HalfOpen { handshake, began, give_up_at, waiting: None };
        if let Err(why) = may_come_so(config.childless, ChildPayloads::find(payloads).is_some()) {
            self.stage = Stage::HalfOpen(Box::new(keep(handshake)));
            return self.turn_away(cx, header, notify(NotifyType::InvalidSyntax, []), why);
        }
        let id = config.local_credential.id_payload(&config.local_id);
        let octets = signed_octets(&handshake, &id, false, ppk_keys.as_ref());
        let proof = config.local_credential.prove(&octets, handshake.peer_hashes);
        let auth = match proof {
            Ok(auth) => auth,
            Err(why) => {
                self.stage = Stage::HalfOpen(Box::new(keep(handshake)));
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
        let terms = Terms::of(config, established.nat, &self.path);
        let agreed = match agree(cx, &terms, &offer, nonces.borrow(), false, None) {
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
