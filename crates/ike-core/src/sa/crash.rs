//! Quick crash detection: a peer that has lost an SA shows that it had it, and the SA ends in a round trip (RFC 6290).
//!
//! We are token maker and token taker. Ours is given in IKE_AUTH and after each rekey of the IKE SA; the peer's is kept
//! with the SA. Only an answer to a request of ours can present one, so that nobody can make us compare at will.
//! Left out: tokens of a cluster, and sessions that are resumed.

use ike_crypto::CrashToken;
use ike_wire::{Header, Message, Notify, NotifyType, Payload, ProtocolId, find_notify};

use super::{Cx, IkeSa, Stage, channel::Channel, exchange::Exchange};

/// Most tokens that one message can present (RFC 6290 §4.5 allows several, as after a change of the maker's secret).
const PRESENTED: usize = 4;

/// Our token for an IKE SA.
pub(super) fn token_payload(cx: &Cx<'_>, channel: &Channel) -> Option<Payload> {
    let token = cx.crash_tokens?.token(channel.spis, channel.initiator);
    // RFC 6290 §4.1: protocol 1, without SPI.
    let notify = Notify::new(NotifyType::QuickCrashDetection, token.to_notify());
    Some(Payload::Notify(Notify { protocol: ProtocolId::Ike, ..notify }))
}

/// The peer's token for an IKE SA.
pub(super) fn token_in(payloads: &[Payload]) -> Option<CrashToken> {
    CrashToken::from_notify(&find_notify(payloads, NotifyType::QuickCrashDetection)?.data)
}

impl IkeSa {
    /// The peer gives its token, or another one in its place (RFC 6290 §4.4).
    pub(super) fn take_token(&mut self, payloads: &[Payload]) {
        if let (Stage::Established(established), Some(token)) = (&mut self.stage, token_in(payloads)) {
            established.peer_token = Some(token);
        }
    }

    /// Gives our token for this SA.
    pub(super) fn request_crash_token(&mut self, cx: &mut Cx<'_>) {
        let Stage::Established(established) = &self.stage else { return };
        if let Some(token) = token_payload(cx, &established.channel) {
            self.request(cx, Exchange::Liveness, &[token]);
        }
    }

    /// Whether an answer to our request says, unprotected but with the peer's token, that the peer has no such SA.
    pub(super) fn is_crash(&self, header: &Header, datagram: &[u8]) -> bool {
        let Stage::Established(established) = &self.stage else { return false };
        let Some(token) = established.peer_token.as_ref().filter(|_| header.flags.response) else { return false };
        let Ok(Message { payloads, protected: None, .. }) = Message::parse(datagram) else { return false };
        find_notify(&payloads, NotifyType::InvalidIkeSpi).is_some()
            && payloads
                .iter()
                .filter_map(|payload| match payload {
                    Payload::Notify(notify) if notify.kind == NotifyType::QuickCrashDetection => Some(notify),
                    _ => None,
                })
                .take(PRESENTED)
                .any(|notify| CrashToken::from_notify(&notify.data).as_ref() == Some(token))
    }

    /// Whether one of its pairs is sent with by this SPI.
    pub(crate) fn sends_with(&self, spi_out: u32) -> bool {
        let children = self.established().map(|established| established.children.values());
        children.into_iter().flatten().any(|child| child.spi_out.get() == spi_out)
    }
}
