//! The pseudorandom function and its expansion (RFC 7296 §2.13).

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::{secret::SecretBytes, suite::PrfAlgorithm};

/// More octets than prf+ can give: its counter is one octet (RFC 7296 §2.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("prf+ was asked for {wanted} octets and can give {limit} (RFC 7296 §2.13)")]
pub struct TooMuchKeyMaterial {
    wanted: usize,
    limit: usize,
}

impl PrfAlgorithm {
    /// prf(key, parts one after the other).
    pub fn compute(self, key: &[u8], parts: &[&[u8]]) -> SecretBytes {
        let mut context = hmac::Context::with_key(&hmac::Key::new(self.algorithm(), key));
        parts.iter().for_each(|part| context.update(part));
        SecretBytes::new(context.sign().as_ref().to_vec())
    }

    /// prf+(key, parts), the first `octets` of it.
    pub fn expand(self, key: &[u8], parts: &[&[u8]], octets: usize) -> Result<SecretBytes, TooMuchKeyMaterial> {
        let limit = self.output_len() * 255;
        if octets > limit {
            return Err(TooMuchKeyMaterial { wanted: octets, limit });
        }
        let key = hmac::Key::new(self.algorithm(), key);
        // Full capacity at once: a vector that grows would leave copies behind.
        let mut stream = Zeroizing::new(Vec::with_capacity(octets + self.output_len()));
        let mut last = 0..0;
        for counter in 1u8..=255 {
            if stream.len() >= octets {
                break;
            }
            let mut context = hmac::Context::with_key(&key);
            context.update(stream.get(last).unwrap_or_default()); // T(n-1), nothing before T1
            parts.iter().for_each(|part| context.update(part));
            context.update(&[counter]);
            last = stream.len()..stream.len() + self.output_len();
            stream.extend_from_slice(context.sign().as_ref());
        }
        stream.truncate(octets);
        Ok(SecretBytes::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;

    #[test] // RFC 4231 §4.3
    fn outputs_are_those_of_the_rfc() {
        for (prf, expected) in [
            (PrfAlgorithm::HmacSha256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (
                PrfAlgorithm::HmacSha384,
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
            ),
            (
                PrfAlgorithm::HmacSha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fd\
                 caeab1a34d4a6b4b636e070a38bce737",
            ),
        ] {
            assert_eq!(prf.compute(b"Jefe", &[b"what do ya want ", b"for nothing?"]).expose(), hex(expected));
        }
    }

    #[test]
    fn expansion_chains_its_blocks_as_the_rfc_writes_them() {
        let prf = PrfAlgorithm::HmacSha256;
        let t1 = prf.compute(b"key", &[b"seed", &[1]]);
        let t2 = prf.compute(b"key", &[t1.expose(), b"seed", &[2]]);
        let t3 = prf.compute(b"key", &[t2.expose(), b"seed", &[3]]);
        let whole = [t1.expose(), t2.expose(), t3.expose()].concat();
        for octets in [0, 1, 31, 32, 33, 64, 65, 96] {
            assert_eq!(prf.expand(b"key", &[b"se", b"ed"], octets).unwrap().expose(), &whole[..octets]);
        }
        assert_eq!(prf.expand(b"key", &[], 255 * 32).unwrap().len(), 255 * 32);
        assert!(prf.expand(b"key", &[], 255 * 32 + 1).is_err());
    }
}
