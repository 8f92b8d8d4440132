//! Proof by a key both sides know (RFC 7296 §2.15).

use ike_wire::{AuthMethod, Authentication};

use super::octets::SignedOctets;
use crate::secret::SecretBytes;

/// What the secret is padded with, so that nobody has to store it in the clear (RFC 7296 §2.15).
const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

pub(super) fn mac(secret: &SecretBytes, octets: &SignedOctets<'_>) -> SecretBytes {
    let padded = octets.prf.compute(secret.expose(), &[KEY_PAD]);
    octets.prf.compute(padded.expose(), &[&octets.octets()])
}

pub(super) fn prove(secret: &SecretBytes, octets: &SignedOctets<'_>) -> Authentication {
    Authentication { method: AuthMethod::SharedKey, data: mac(secret, octets).expose().to_vec() }
}
