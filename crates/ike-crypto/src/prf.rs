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
