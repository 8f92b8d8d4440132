//! The octets that AUTH covers (RFC 7296 §2.15).

use ike_wire::Identification;

use crate::{secret::SecretBytes, suite::PrfAlgorithm};

/// What one side signs, or MACs: its first message, the other's nonce, and its identity under SK_p.
#[derive(Clone, Copy)]
pub struct SignedOctets<'a> {
    /// The prf of the IKE SA.
    pub prf: PrfAlgorithm,
    /// SK_pi for the initiator's proof, SK_pr for the responder's.
    pub sk_p: &'a SecretBytes,
    /// The prover's IKE_SA_INIT message as it was sent: the request with the cookie, if one was asked for.
    pub message: &'a [u8],
    /// The nonce of the side that verifies.
    pub peer_nonce: &'a [u8],
    /// The prover's ID payload.
    pub id: &'a Identification,
    /// What became of the IKE_INTERMEDIATE exchanges ([`crate::IntAuth::octets`]); empty without any.
    pub intermediate: &'a [u8],
}

impl SignedOctets<'_> {
    pub(crate) fn octets(&self) -> Vec<u8> {
        let maced_id = self.prf.compute(self.sk_p.expose(), &[&self.id.to_bytes()]);
        [self.message, self.peer_nonce, maced_id.expose(), self.intermediate].concat()
    }
}

impl std::fmt::Debug for SignedOctets<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignedOctets({:?})", self.id)
    }
}
