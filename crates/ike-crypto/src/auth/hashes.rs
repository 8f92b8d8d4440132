//! Which hashes a side can use in signatures (RFC 7427 §4, RFC 8420).

/// A hash of the SIGNATURE_HASH_ALGORITHMS registry that is used here. SHA-1 is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureHash {
    /// SHA2-256.
    Sha256 = 2,
    /// SHA2-384.
    Sha384 = 3,
    /// SHA2-512.
    Sha512 = 4,
    /// "Identity": the algorithm hashes by itself, as Ed25519 does (RFC 8420).
    Identity = 5,
}

/// The hashes a side announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignatureHashes(u8);

impl SignatureHashes {
    const ALL: [SignatureHash; 4] =
        [SignatureHash::Sha256, SignatureHash::Sha384, SignatureHash::Sha512, SignatureHash::Identity];

    /// Ours.
    pub fn supported() -> Self {
        Self(Self::ALL.into_iter().fold(0, |set, hash| set | 1 << hash as u8))
    }

    /// A peer that announced none: only the classic methods can be used with it.
    pub fn none() -> Self {
        Self(0)
    }

    /// From the data of a SIGNATURE_HASH_ALGORITHMS notify; unknown numbers are passed over.
    pub fn parse(data: &[u8]) -> Self {
        let (numbers, _) = data.as_chunks::<2>();
        let known = |raw: &[u8; 2]| Self::ALL.into_iter().find(|hash| u16::from_be_bytes(*raw) == *hash as u16);
        Self(numbers.iter().filter_map(known).fold(0, |set, hash| set | 1 << hash as u8))
    }

    /// The data of a SIGNATURE_HASH_ALGORITHMS notify.
    pub fn to_bytes(self) -> Vec<u8> {
        Self::ALL.into_iter().filter(|hash| self.contains(*hash)).flat_map(|hash| (hash as u16).to_be_bytes()).collect()
    }

    /// Whether this one is among them.
    pub fn contains(self, hash: SignatureHash) -> bool {
        self.0 & 1 << hash as u8 != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_come_back_and_unknown_ones_are_passed_over() {
        let ours = SignatureHashes::supported();
        assert_eq!(ours.to_bytes(), [0, 2, 0, 3, 0, 4, 0, 5]);
        assert_eq!(SignatureHashes::parse(&ours.to_bytes()), ours);
        let theirs = SignatureHashes::parse(&[0, 1, 0, 3, 1, 2, 9]);
        assert!(theirs.contains(SignatureHash::Sha384));
        assert_eq!(theirs.to_bytes(), [0, 3]);
        assert!(SignatureHashes::parse(&[]).is_empty());
    }
}
