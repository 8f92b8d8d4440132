//! Postquantum preshared keys (RFC 8784): a key that both sides have makes the derived ones safe from quantum computers,
//! whatever the key exchange was.
//!
//! It goes into the keys of child SAs, of later IKE SAs and of AUTH. The messages of the first IKE SA stay as they were, which
//! RFC 8784 accepts: a rekey right away protects them, too.

use std::{fmt, sync::Arc};

use crate::{prf::TooMuchKeyMaterial, schedule::IkeKeys, secret::SecretBytes};

/// How a key is named on the wire: type 2, a fixed name (RFC 8784 §5.1).
const FIXED: u8 = 2;

/// A key, by what name the peer knows it, and whether there is an SA without it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ppk {
    id: Vec<u8>,
    key: Arc<SecretBytes>,
    required: bool,
}

/// A key without octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the postquantum preshared key is empty")]
pub struct EmptyPpk;

impl Ppk {
    /// A key; an empty one is refused. RFC 8784 §6 asks for 256 bits of entropy.
    ///
    /// # Errors
    /// When the key is empty.
    pub fn new(id: impl Into<Vec<u8>>, key: SecretBytes, required: bool) -> Result<Self, EmptyPpk> {
        if key.is_empty() { Err(EmptyPpk) } else { Ok(Self { id: id.into(), key: Arc::new(key), required }) }
    }

    /// Whether there is no SA without it.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// The data of PPK_IDENTITY.
    pub fn identity(&self) -> Vec<u8> {
        [&[FIXED], &self.id[..]].concat()
    }

    /// Whether the data of a peer's PPK_IDENTITY name this key.
    pub fn is_named(&self, identity: &[u8]) -> bool {
        identity.split_first() == Some((&FIXED, &self.id[..]))
    }
}

impl fmt::Debug for Ppk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ppk({}, required: {})", String::from_utf8_lossy(&self.id), self.required)
    }
}

/// SK_d, SK_pi and SK_pr with a key mixed in.
#[derive(Debug, PartialEq, Eq)]
pub struct PpkKeys {
    sk_d: SecretBytes,
    sk_pi: SecretBytes,
    sk_pr: SecretBytes,
}

impl PpkKeys {
    /// SK_p of a side.
    pub fn identity_key(&self, of_initiator: bool) -> &SecretBytes {
        if of_initiator { &self.sk_pi } else { &self.sk_pr }
    }
}

impl IkeKeys {
    /// prf+(PPK, SK) of each key that it goes into (RFC 8784 §3).
    ///
    /// # Errors
    /// None that can come about: a prf gives more octets than one of its keys has.
    pub fn with_ppk(&self, ppk: &Ppk) -> Result<PpkKeys, TooMuchKeyMaterial> {
        let mixed = |key: &SecretBytes| self.suite.prf.expand(ppk.key.expose(), &[key.expose()], key.len());
        Ok(PpkKeys { sk_d: mixed(&self.sk_d)?, sk_pi: mixed(&self.sk_pi)?, sk_pr: mixed(&self.sk_pr)? })
    }

    /// Goes on with them: both sides have proved that they have the key.
    pub fn adopt(&mut self, keys: PpkKeys) {
        let PpkKeys { sk_d, sk_pi, sk_pr } = keys;
        (self.sk_d, self.sk_pi, self.sk_pr) = (sk_d, sk_pi, sk_pr);
    }
}

#[cfg(test)]
mod tests {
    use ike_wire::IkeSpi;

    use super::*;
    use crate::{Exchange, IkeProposal, choose_ike, offer_ike};

    #[test] // RFC 8784 §3
    fn keys_are_expanded_under_the_ppk() {
        let local: Vec<IkeProposal> = vec!["aes256gcm16-prfsha384-x25519".parse().unwrap()];
        let suite = choose_ike(&local, &offer_ike(&local, None), None).unwrap().suite;
        let nonces = Exchange { initiator_nonce: &[1; 32], responder_nonce: &[2; 32] };
        let spi = |raw| IkeSpi::new(raw).unwrap();
        let mut keys = IkeKeys::derive(suite, &SecretBytes::from(vec![3; 32]), nonces, spi(4), spi(5)).unwrap();
        let ppk = Ppk::new("site 7", SecretBytes::from(vec![9; 40]), true).unwrap();
        let mixed = keys.with_ppk(&ppk).unwrap();
        assert_eq!(mixed.sk_d, suite.prf.compute(&[9; 40], &[keys.sk_d.expose(), &[1]]), "one block of prf+");
        assert_eq!(mixed.identity_key(true), &suite.prf.compute(&[9; 40], &[keys.sk_pi.expose(), &[1]]));
        assert_eq!(mixed.identity_key(false), &suite.prf.compute(&[9; 40], &[keys.sk_pr.expose(), &[1]]));
        let before = keys.sk_ei.expose().to_vec();
        keys.adopt(mixed);
        assert_eq!(keys.sk_ei.expose(), before, "messages are protected as they were");
    }

    #[test]
    fn names_have_a_type_and_keys_do_not_print() {
        let ppk = Ppk::new("site 7", SecretBytes::from(b"hunter2".to_vec()), false).unwrap();
        assert_eq!(ppk.identity(), b"\x02site 7");
        assert!(
            ppk.is_named(b"\x02site 7")
                && !ppk.is_named(b"\x01site 7")
                && !ppk.is_named(b"\x02site 70")
                && !ppk.is_named(b"")
        );
        assert_eq!(format!("{ppk:?}"), "Ppk(site 7, required: false)");
        assert_eq!(Ppk::new("site 7", SecretBytes::from(vec![]), false), Err(EmptyPpk));
    }
}
