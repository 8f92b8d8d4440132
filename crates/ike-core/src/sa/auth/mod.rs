//! IKE_AUTH: who the two sides are, and the first pair of child SAs (RFC 7296 §1.2, §2.15, §2.21.2).

mod again;
mod called;
mod calling;

use std::{sync::Arc, time::Instant};

use ike_crypto::{AuthError, CrashToken, PpkKeys, Presented, SignedOctets, Verdict};
use ike_wire::{Authentication, Certificate, Header, Identification, Payload};

use super::{
    Cx, IkeSa, News, Stage,
    established::{Birth, Established, Peer},
    exchange::ChildOffer,
    init::Handshake,
    mobike::Mobility,
    ppk,
};
use crate::{
    config::ConnectionConfig,
    event::{DownCause, Event, Refusal},
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

impl IkeSa {
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

    /// The IKE SA stands; the pair that was to come with it does not.
    fn no_first_child(&mut self, cx: &mut Cx<'_>, why: Refusal) {
        cx.log(Event::Refused { tunnel: self.tunnel.clone(), remote: self.path.remote, why: why.clone() });
        cx.news.push(News::ChildRefused { cause: DownCause::Refused(why), setback: Setback::Refused });
    }
}
