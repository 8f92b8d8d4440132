//! What IKE_AUTH proves about the IKE_INTERMEDIATE exchanges before it (RFC 9242 §3.3.2).
//!
//! Each side's messages are chained through the prf, each under the SK_p that was current when it was sent, and the ends of
//! the two chains are signed. What goes in is the message as it would be without encryption: lengths are those of the
//! plaintext, so that neither cipher nor fragmentation makes a difference.

use ike_wire::{Header, PayloadType, payload::GENERIC_HEADER_LEN};

use crate::{schedule::IkeKeys, secret::SecretBytes};

/// The two chains.
#[derive(Default)]
pub struct IntAuth {
    initiator: Option<SecretBytes>,
    responder: Option<SecretBytes>,
}

impl IntAuth {
    /// Adds a message that was sent or received under `keys`; `inner` are its payloads in plain, without padding.
    pub fn add(&mut self, keys: &IkeKeys, header: &Header, first_inner: PayloadType, inner: &[u8]) {
        let chain = if header.flags.initiator { &mut self.initiator } else { &mut self.responder };
        let (prf, sk_p) = keys.identity_key(header.flags.initiator);
        let mut outer = Vec::with_capacity(ike_wire::HEADER_LEN + GENERIC_HEADER_LEN);
        let length = ike_wire::HEADER_LEN + GENERIC_HEADER_LEN + inner.len();
        header.emit(PayloadType::Encrypted, u32::try_from(length).unwrap_or(u32::MAX), &mut outer);
        outer.extend_from_slice(&[first_inner.code(), 0]);
        let payload = u16::try_from(GENERIC_HEADER_LEN + inner.len()).unwrap_or(u16::MAX);
        outer.extend_from_slice(&payload.to_be_bytes());
        let before = chain.as_ref().map_or(&[][..], SecretBytes::expose);
        *chain = Some(prf.compute(sk_p.expose(), &[before, &outer, inner]));
    }

    /// IntAuth_iN | IntAuth_rN | IKE_AUTH_MID, for an IKE_AUTH exchange with this message ID; nothing if there was none.
    pub fn octets(&self, message_id: u32) -> Vec<u8> {
        match (&self.initiator, &self.responder) {
            (Some(initiator), Some(responder)) => {
                [initiator.expose(), responder.expose(), &message_id.to_be_bytes()].concat()
            }
            _ => Vec::new(),
        }
    }
}

impl std::fmt::Debug for IntAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IntAuth(begun: {})", self.initiator.is_some())
    }
}

#[cfg(test)]
mod tests {
    use ike_wire::{ExchangeType, Flags, IkeSpi};

    use super::*;
    use crate::{Exchange, IkeProposal, accept_ike, choose_ike, offer_ike};

    fn keys() -> IkeKeys {
        let local: Vec<IkeProposal> = vec!["aes256gcm16-prfsha256-x25519".parse().unwrap()];
        let answer = choose_ike(&local, &offer_ike(&local, None), None).unwrap().answer([]);
        let suite = accept_ike(&local, &answer).unwrap().suite;
        let nonces = Exchange { initiator_nonce: &[1; 32], responder_nonce: &[2; 32] };
        let spi = |raw| IkeSpi::new(raw).unwrap();
        IkeKeys::derive(suite, &SecretBytes::from(vec![3; 32]), nonces, spi(4), spi(5)).unwrap()
    }

    fn header(initiator: bool, message_id: u32) -> Header {
        Header {
            initiator_spi: IkeSpi::new(4).unwrap(),
            responder_spi: IkeSpi::new(5),
            exchange: ExchangeType::IkeIntermediate,
            flags: Flags { initiator, response: !initiator, higher_version: false },
            message_id,
        }
    }

    #[test] // RFC 9242 §3.3.2, figure by figure
    fn the_chains_are_those_of_the_rfc() {
        let keys = keys();
        let mut made = IntAuth::default();
        assert!(made.octets(1).is_empty(), "without an exchange AUTH covers what it always did");
        let messages: [(bool, u32, &[u8]); 4] =
            [(true, 1, b"KEi"), (false, 1, b"KEr!"), (true, 2, b"KEi2"), (false, 2, b"")];
        let mut chains: [Vec<u8>; 2] = Default::default();
        for (initiator, message_id, inner) in messages {
            let first = if inner.is_empty() { PayloadType::None } else { PayloadType::KeyExchange };
            made.add(&keys, &header(initiator, message_id), first, inner);
            let mut text = vec![0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 46, 0x20, 43];
            text.push(if initiator { 0x08 } else { 0x20 });
            text.extend(message_id.to_be_bytes());
            text.extend((32 + inner.len() as u32).to_be_bytes());
            text.extend([if inner.is_empty() { 0 } else { 34 }, 0]);
            text.extend((4 + inner.len() as u16).to_be_bytes());
            let sk_p = if initiator { &keys.sk_pi } else { &keys.sk_pr };
            let chain = &mut chains[usize::from(!initiator)];
            *chain = keys.suite.prf.compute(sk_p.expose(), &[chain, &text, inner]).expose().to_vec();
        }
        let [initiator, responder] = chains;
        assert_eq!(made.octets(3), [&initiator[..], &responder, &[0, 0, 0, 3]].concat());
    }
}
