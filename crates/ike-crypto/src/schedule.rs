//! From a shared secret to keys (RFC 7296 §2.14, §2.17, §2.18).

use ike_wire::IkeSpi;

use crate::{
    cipher::Cipher,
    prf::TooMuchKeyMaterial,
    secret::SecretBytes,
    suite::{EspSuite, IkeSuite, PrfAlgorithm},
};

/// What both sides put into the derivation besides the secret.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// Ni, without any payload header.
    pub initiator_nonce: &'a [u8],
    /// Nr.
    pub responder_nonce: &'a [u8],
}

/// The keys of one IKE SA. SK_ai and SK_ar are empty for combined-mode ciphers (RFC 5282 §7).
#[derive(Debug, PartialEq, Eq)]
pub struct IkeKeys {
    /// The algorithms they are for.
    pub suite: IkeSuite,
    /// Derives child keys and the keys of the IKE SA that succeeds this one.
    pub sk_d: SecretBytes,
    /// Authenticates the initiator's messages.
    pub sk_ai: SecretBytes,
    /// Authenticates the responder's messages.
    pub sk_ar: SecretBytes,
    /// Key of the initiator's messages, with the salt that an AEAD has.
    pub sk_ei: SecretBytes,
    /// Key of the responder's messages, with the salt that an AEAD has.
    pub sk_er: SecretBytes,
    /// Binds the initiator's identity into its AUTH.
    pub sk_pi: SecretBytes,
    /// Binds the responder's identity into its AUTH.
    pub sk_pr: SecretBytes,
}

impl IkeKeys {
    /// Keys after IKE_SA_INIT.
    pub fn derive(
        suite: IkeSuite,
        shared: &SecretBytes,
        exchange: Exchange<'_>,
        initiator: IkeSpi,
        responder: IkeSpi,
    ) -> Result<Self, TooMuchKeyMaterial> {
        let nonces = [exchange.initiator_nonce, exchange.responder_nonce].concat();
        let skeyseed = suite.prf.compute(&nonces, &[shared.expose()]);
        Self::from_skeyseed(suite, &skeyseed, exchange, initiator, responder)
    }

    /// Keys of the IKE SA that replaces this one. SKEYSEED comes from the old SA's prf, the rest from the new one's
    /// (RFC 7296 §2.18). SPIs and nonces are those of the CREATE_CHILD_SA exchange. `secrets` are those of its key exchange
    /// and of the additional ones, in their order (RFC 9370 §2.2.4).
    pub fn rekey(
        &self,
        suite: IkeSuite,
        secrets: &[SecretBytes],
        exchange: Exchange<'_>,
        initiator: IkeSpi,
        responder: IkeSpi,
    ) -> Result<Self, TooMuchKeyMaterial> {
        let parts = seed(secrets, exchange);
        let skeyseed = self.suite.prf.compute(self.sk_d.expose(), &parts);
        Self::from_skeyseed(suite, &skeyseed, exchange, initiator, responder)
    }

    /// Keys after one more key exchange in IKE_INTERMEDIATE (RFC 9370 §2.2.2): nonces and SPIs are those of IKE_SA_INIT.
    pub fn mix(
        &self,
        shared: SecretBytes,
        exchange: Exchange<'_>,
        initiator: IkeSpi,
        responder: IkeSpi,
    ) -> Result<Self, TooMuchKeyMaterial> {
        self.rekey(self.suite, &[shared], exchange, initiator, responder)
    }

    fn from_skeyseed(
        suite: IkeSuite,
        skeyseed: &SecretBytes,
        exchange: Exchange<'_>,
        initiator: IkeSpi,
        responder: IkeSpi,
    ) -> Result<Self, TooMuchKeyMaterial> {
        let prf_len = suite.prf.output_len();
        let (encryption_len, integrity_len) = (suite.cipher.encryption_len(), suite.cipher.integrity_len());
        let (spi_i, spi_r) = (initiator.to_bytes(), responder.to_bytes());
        let parts = [exchange.initiator_nonce, exchange.responder_nonce, &spi_i, &spi_r];
        let stream = suite.prf.expand(skeyseed.expose(), &parts, 3 * prf_len + 2 * (integrity_len + encryption_len))?;
        let mut cut = Cutter(stream.expose());
        Ok(Self {
            suite,
            sk_d: cut.next(prf_len),
            sk_ai: cut.next(integrity_len),
            sk_ar: cut.next(integrity_len),
            sk_ei: cut.next(encryption_len),
            sk_er: cut.next(encryption_len),
            sk_pi: cut.next(prf_len),
            sk_pr: cut.next(prf_len),
        })
    }

    /// Keys of a child SA pair (RFC 7296 §2.17). `secrets` are those of the child's own key exchange, if it has one, and of
    /// the additional ones, in their order (RFC 9370 §2.2.4); `we_initiated` says who sent the request that creates *this child* (not the IKE SA).
    pub fn child(
        &self,
        suite: EspSuite,
        secrets: &[SecretBytes],
        exchange: Exchange<'_>,
        we_initiated: bool,
    ) -> Result<ChildKeys, TooMuchKeyMaterial> {
        let parts = seed(secrets, exchange);
        let len = suite.cipher.encryption_len() + suite.cipher.integrity_len();
        let stream = self.suite.prf.expand(self.sk_d.expose(), &parts, 2 * len)?;
        let mut cut = Cutter(stream.expose());
        let (from_initiator, from_responder) = (cut.next(len), cut.next(len));
        let (inbound, outbound) =
            if we_initiated { (from_responder, from_initiator) } else { (from_initiator, from_responder) };
        Ok(ChildKeys { suite, inbound, outbound })
    }

    /// Key material of the messages that a side sends: the initiator of the IKE SA, or its responder.
    pub fn protection(&self, of_initiator: bool) -> MessageKeys<'_> {
        let cipher = self.suite.cipher;
        match of_initiator {
            true => MessageKeys { cipher, encryption: &self.sk_ei, integrity: &self.sk_ai },
            false => MessageKeys { cipher, encryption: &self.sk_er, integrity: &self.sk_ar },
        }
    }

    /// The prf and SK_p with which a side binds its identity into AUTH.
    pub fn identity_key(&self, of_initiator: bool) -> (PrfAlgorithm, &SecretBytes) {
        (self.suite.prf, if of_initiator { &self.sk_pi } else { &self.sk_pr })
    }
}

/// SK(0) | Ni | Nr | SK(1) | … (RFC 7296 §2.17, §2.18, RFC 9370 §2.2.4).
fn seed<'a>(secrets: &'a [SecretBytes], exchange: Exchange<'a>) -> Vec<&'a [u8]> {
    let (first, additional) = secrets.split_first().map_or((&[][..], &[][..]), |(one, rest)| (one.expose(), rest));
    let mut parts = vec![first, exchange.initiator_nonce, exchange.responder_nonce];
    parts.extend(additional.iter().map(SecretBytes::expose));
    parts
}

/// What protects the messages of one direction.
#[derive(Clone, Copy, Debug)]
pub struct MessageKeys<'a> {
    /// The algorithms.
    pub cipher: Cipher,
    /// SK_e: key, and the salt that an AEAD has.
    pub encryption: &'a SecretBytes,
    /// SK_a: empty for combined-mode ciphers.
    pub integrity: &'a SecretBytes,
}

/// The keys of a child SA pair: each is the cipher's key, then its salt or the integrity key (RFC 7296 §2.17).
#[derive(Debug, PartialEq, Eq)]
pub struct ChildKeys {
    /// The algorithms they are for.
    pub suite: EspSuite,
    /// Opens what the peer sends.
    pub inbound: SecretBytes,
    /// Seals what we send.
    pub outbound: SecretBytes,
}

/// Hands out consecutive pieces of a stream that was made exactly as long as they are together.
struct Cutter<'a>(&'a [u8]);

impl Cutter<'_> {
    fn next(&mut self, len: usize) -> SecretBytes {
        let (piece, rest) = self.0.split_at_checked(len).unwrap_or((self.0, &[]));
        debug_assert_eq!(piece.len(), len);
        self.0 = rest;
        SecretBytes::new(piece.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cipher::{Aead, AesCbc, HmacAlgorithm},
        suite::{Additional, Group},
    };

    const SUITE: IkeSuite = IkeSuite {
        cipher: Cipher::Aead(Aead::Aes256Gcm16),
        prf: PrfAlgorithm::HmacSha384,
        group: Group::Ecp384,
        additional: Additional::NONE,
    };
    const EXCHANGE: Exchange<'_> = Exchange { initiator_nonce: &[1; 32], responder_nonce: &[2; 32] };

    fn spi(raw: u64) -> IkeSpi {
        IkeSpi::new(raw).unwrap()
    }

    fn keys(suite: IkeSuite) -> IkeKeys {
        IkeKeys::derive(suite, &SecretBytes::from(vec![3; 48]), EXCHANGE, spi(4), spi(5)).unwrap()
    }

    #[test]
    fn keys_are_cut_from_one_stream_in_the_order_of_the_rfc() {
        let keys = keys(SUITE);
        let seed = SUITE.prf.compute(&[[1; 32], [2; 32]].concat(), &[&[3; 48]]);
        let spis = [4u64.to_be_bytes(), 5u64.to_be_bytes()].concat();
        let stream = SUITE.prf.expand(seed.expose(), &[&[1; 32], &[2; 32], &spis], 3 * 48 + 2 * 36).unwrap();
        let cut = [&keys.sk_d, &keys.sk_ei, &keys.sk_er, &keys.sk_pi, &keys.sk_pr].map(SecretBytes::expose);
        assert_eq!(cut.concat(), stream.expose());
        assert_eq!(cut.map(<[u8]>::len), [48, 36, 36, 48, 48]);
    }

    #[test]
    fn integrity_keys_come_before_encryption_keys_in_an_ike_sa_and_after_them_in_a_child() {
        let cipher = Cipher::Cbc(AesCbc::Aes192, HmacAlgorithm::Sha256);
        let suite =
            IkeSuite { cipher, prf: PrfAlgorithm::HmacSha256, group: Group::Modp2048, additional: Additional::NONE };
        let keys = keys(suite);
        let seed = suite.prf.compute(&[[1; 32], [2; 32]].concat(), &[&[3; 48]]);
        let spis = [4u64.to_be_bytes(), 5u64.to_be_bytes()].concat();
        let stream = suite.prf.expand(seed.expose(), &[&[1; 32], &[2; 32], &spis], 3 * 32 + 2 * 32 + 2 * 24).unwrap();
        let cut = [&keys.sk_d, &keys.sk_ai, &keys.sk_ar, &keys.sk_ei, &keys.sk_er, &keys.sk_pi, &keys.sk_pr];
        let cut = cut.map(SecretBytes::expose);
        assert_eq!(cut.concat(), stream.expose());
        assert_eq!(cut.map(<[u8]>::len), [32, 32, 32, 24, 24, 32, 32]);
        let child = keys
            .child(EspSuite { cipher, esn: true, group: None, additional: Additional::NONE }, &[], EXCHANGE, true)
            .unwrap();
        let stream = suite.prf.expand(keys.sk_d.expose(), &[&[1; 32], &[2; 32]], 2 * (24 + 32)).unwrap();
        assert_eq!([child.outbound.expose(), child.inbound.expose()].concat(), stream.expose());
    }

    #[test]
    fn rekeying_seeds_with_the_old_prf_and_expands_with_the_new_one() {
        let old = keys(SUITE);
        let suite = IkeSuite {
            cipher: Cipher::Aead(Aead::ChaCha20Poly1305),
            prf: PrfAlgorithm::HmacSha256,
            group: Group::X25519,
            additional: Additional::NONE,
        };
        let new = old.rekey(suite, &[SecretBytes::from(vec![9; 32])], EXCHANGE, spi(6), spi(7)).unwrap();
        let seed = PrfAlgorithm::HmacSha384.compute(old.sk_d.expose(), &[&[9; 32], &[1; 32], &[2; 32]]);
        let spis = [6u64.to_be_bytes(), 7u64.to_be_bytes()].concat();
        let stream = PrfAlgorithm::HmacSha256.expand(seed.expose(), &[&[1; 32], &[2; 32], &spis], 32).unwrap();
        assert_eq!(new.sk_d, stream);
    }

    #[test]
    fn the_two_ends_of_a_child_have_each_others_keys() {
        let suite =
            EspSuite { cipher: Cipher::Aead(Aead::Aes128Gcm16), esn: true, group: None, additional: Additional::NONE };
        let ike = keys(SUITE);
        let initiator = ike.child(suite, &[], EXCHANGE, true).unwrap();
        let responder = ike.child(suite, &[], EXCHANGE, false).unwrap();
        assert_eq!((&initiator.inbound, &initiator.outbound), (&responder.outbound, &responder.inbound));
        let stream = SUITE.prf.expand(ike.sk_d.expose(), &[&[1; 32], &[2; 32]], 40).unwrap();
        assert_eq!([initiator.outbound.expose(), initiator.inbound.expose()].concat(), stream.expose());
        let secret = |octet| SecretBytes::from(vec![octet; 32]);
        assert_ne!(ike.child(suite, &[secret(8)], EXCHANGE, true).unwrap(), initiator);
    }

    #[test] // RFC 9370 §2.2.2, §2.2.4
    fn additional_secrets_follow_the_nonces_in_rekeys_and_chain_in_the_first_exchanges() {
        let ike = keys(SUITE);
        let secret = |octet| SecretBytes::from(vec![octet; 32]);
        let spis = [4u64.to_be_bytes(), 5u64.to_be_bytes()].concat();
        let seed = SUITE.prf.compute(ike.sk_d.expose(), &[&[8; 32], &[1; 32], &[2; 32], &[9; 32], &[7; 32]]);
        let stream = SUITE.prf.expand(seed.expose(), &[&[1; 32], &[2; 32], &spis], 48).unwrap();
        let rekeyed = ike.rekey(SUITE, &[secret(8), secret(9), secret(7)], EXCHANGE, spi(4), spi(5)).unwrap();
        assert_eq!(rekeyed.sk_d, stream);
        let cipher = Cipher::Aead(Aead::Aes128Gcm16);
        let suite = EspSuite { cipher, esn: true, group: Some(Group::X25519), additional: Additional::NONE };
        let child = ike.child(suite, &[secret(8), secret(9)], EXCHANGE, true).unwrap();
        let stream = SUITE.prf.expand(ike.sk_d.expose(), &[&[8; 32], &[1; 32], &[2; 32], &[9; 32]], 40).unwrap();
        assert_eq!([child.outbound.expose(), child.inbound.expose()].concat(), stream.expose());
        let mixed = ike.mix(secret(6), EXCHANGE, spi(4), spi(5)).unwrap();
        let seed = SUITE.prf.compute(ike.sk_d.expose(), &[&[6; 32], &[1; 32], &[2; 32]]);
        let stream = SUITE.prf.expand(seed.expose(), &[&[1; 32], &[2; 32], &spis], 48).unwrap();
        assert_eq!(mixed.sk_d, stream);
    }

    #[test]
    fn keys_do_not_print_themselves() {
        let text = format!("{:?}", keys(SUITE));
        assert!(text.contains("sk_d: SecretBytes(48 octets)"), "{text}");
    }
}
