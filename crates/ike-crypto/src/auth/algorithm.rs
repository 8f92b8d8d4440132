//! Signature algorithms and their AlgorithmIdentifiers (RFC 7427 §3, appendix A; RFC 8420).

use pki_types::SignatureVerificationAlgorithm;
use webpki::aws_lc_rs as verify;

use super::hashes::SignatureHash;

/// A signature algorithm with its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1(SignatureHash),
    /// RSASSA-PSS, salt as long as the hash, MGF1 with the same hash.
    RsaPss(SignatureHash),
    /// ECDSA on any of our curves, as a DER sequence.
    Ecdsa(SignatureHash),
    /// Ed25519.
    Ed25519,
}

const SHA2: [SignatureHash; 3] = [SignatureHash::Sha256, SignatureHash::Sha384, SignatureHash::Sha512];
/// 2.16.840.1.101.3.4.2.x
const SHA2_OID_PREFIX: [u8; 10] = [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
/// 1.2.840.113549.1.1.x
const PKCS1_OID_PREFIX: [u8; 10] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.10045.4.3.x
const ECDSA_SHA2_OID_PREFIX: [u8; 9] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
/// 1.3.101.112
const ED25519_OID: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];
const NULL: [u8; 2] = [0x05, 0x00];

impl SignatureHash {
    /// Its place among the SHA-2 family and its length; `None` for "identity".
    fn sha2(self) -> Option<(u8, u8)> {
        match self {
            Self::Sha256 => Some((1, 32)),
            Self::Sha384 => Some((2, 48)),
            Self::Sha512 => Some((3, 64)),
            Self::Identity => None,
        }
    }
}

impl SignatureAlgorithm {
    fn all() -> impl Iterator<Item = Self> {
        let sha2 = |make: fn(SignatureHash) -> Self| SHA2.into_iter().map(make);
        sha2(Self::RsaPkcs1).chain(sha2(Self::RsaPss)).chain(sha2(Self::Ecdsa)).chain([Self::Ed25519])
    }

    /// The algorithm with this AlgorithmIdentifier. Hash parameters in PSS may be NULL or absent (RFC 5754 §2).
    pub(crate) fn from_identifier(der: &[u8]) -> Option<Self> {
        Self::all().find(|algorithm| algorithm.identifier() == der || algorithm.identifier_without_null() == der)
    }

    /// The AlgorithmIdentifier in DER, as RFC 7427 appendix A lists it.
    pub(crate) fn identifier(self) -> Vec<u8> {
        self.encode(&NULL)
    }

    fn identifier_without_null(self) -> Vec<u8> {
        self.encode(&[])
    }

    fn encode(self, hash_parameters: &[u8]) -> Vec<u8> {
        let sha2 = |hash: SignatureHash| hash.sha2().unwrap_or_default();
        match self {
            Self::RsaPkcs1(hash) => {
                let (place, _) = sha2(hash);
                sequence(&[&PKCS1_OID_PREFIX, &[10 + place], hash_parameters])
            }
            Self::RsaPss(hash) => {
                let (place, len) = sha2(hash);
                let hash_id = sequence(&[&SHA2_OID_PREFIX, &[place], hash_parameters]);
                let mgf1 = sequence(&[&PKCS1_OID_PREFIX, &[8], &hash_id]);
                let parameters =
                    sequence(&[&tagged(0xa0, &hash_id), &tagged(0xa1, &mgf1), &tagged(0xa2, &[0x02, 1, len])]);
                sequence(&[&PKCS1_OID_PREFIX, &[10], &parameters])
            }
            Self::Ecdsa(hash) => {
                let (place, _) = sha2(hash);
                sequence(&[&ECDSA_SHA2_OID_PREFIX, &[1 + place]])
            }
            Self::Ed25519 => sequence(&[&ED25519_OID]),
        }
    }

    /// Verifiers for it; which one fits is the certified key's to say.
    pub(crate) fn verifiers(self) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
        use SignatureHash::{Identity, Sha256, Sha384, Sha512};
        match self {
            Self::RsaPkcs1(Sha256) => vec![verify::RSA_PKCS1_2048_8192_SHA256],
            Self::RsaPkcs1(Sha384) => vec![verify::RSA_PKCS1_2048_8192_SHA384],
            Self::RsaPkcs1(Sha512) => vec![verify::RSA_PKCS1_2048_8192_SHA512],
            Self::RsaPss(Sha256) => vec![verify::RSA_PSS_2048_8192_SHA256_LEGACY_KEY],
            Self::RsaPss(Sha384) => vec![verify::RSA_PSS_2048_8192_SHA384_LEGACY_KEY],
            Self::RsaPss(Sha512) => vec![verify::RSA_PSS_2048_8192_SHA512_LEGACY_KEY],
            Self::Ecdsa(Sha256) => vec![verify::ECDSA_P256_SHA256, verify::ECDSA_P384_SHA256],
            Self::Ecdsa(Sha384) => vec![verify::ECDSA_P384_SHA384, verify::ECDSA_P256_SHA384],
            Self::Ecdsa(Sha512) => vec![verify::ECDSA_P384_SHA512, verify::ECDSA_P256_SHA512],
            Self::Ed25519 => vec![verify::ED25519],
            Self::RsaPkcs1(Identity) | Self::RsaPss(Identity) | Self::Ecdsa(Identity) => vec![],
        }
    }
}

/// A DER element of at most 127 octets; all of ours are.
fn tagged(tag: u8, contents: &[u8]) -> Vec<u8> {
    let len = u8::try_from(contents.len()).unwrap_or(u8::MAX);
    debug_assert!(len < 0x80);
    [&[tag, len], contents].concat()
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tagged(0x30, &parts.concat())
}

/// An ECDSA signature as the two numbers of RFC 4754 §7, turned into the DER sequence that verifiers take.
pub(crate) fn ecdsa_der(fixed: &[u8], number_len: usize) -> Option<Vec<u8>> {
    let (r, s) = fixed.split_at_checked(number_len).filter(|(_, s)| s.len() == number_len)?;
    let integer = |number: &[u8]| {
        let start = number.iter().position(|octet| *octet != 0).unwrap_or(number.len());
        let digits = number.get(start..).unwrap_or_default();
        // A leading octet keeps the number positive, and zero from being empty.
        let pad: &[u8] = if digits.first().is_none_or(|octet| *octet & 0x80 != 0) { &[0] } else { &[] };
        tagged(0x02, &[pad, digits].concat())
    };
    Some(sequence(&[&integer(r), &integer(s)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;

    #[test] // RFC 7427 appendix A
    fn identifiers_are_those_of_the_rfc() {
        use SignatureHash::{Sha256, Sha384, Sha512};
        for (algorithm, expected) in [
            (SignatureAlgorithm::RsaPkcs1(Sha256), "300d 0609 2a86 4886 f70d 0101 0b05 00"),
            (SignatureAlgorithm::RsaPkcs1(Sha384), "300d 0609 2a86 4886 f70d 0101 0c05 00"),
            (SignatureAlgorithm::RsaPkcs1(Sha512), "300d 0609 2a86 4886 f70d 0101 0d05 00"),
            (SignatureAlgorithm::Ecdsa(Sha256), "300a 0608 2a86 48ce 3d04 0302"),
            (SignatureAlgorithm::Ecdsa(Sha384), "300a 0608 2a86 48ce 3d04 0303"),
            (SignatureAlgorithm::Ecdsa(Sha512), "300a 0608 2a86 48ce 3d04 0304"),
            (
                SignatureAlgorithm::RsaPss(Sha256),
                "3041 0609 2a86 4886 f70d 0101 0a30 34a0 0f30 0d06 0960 8648 0165 0304 0201 0500 \
                 a11c 301a 0609 2a86 4886 f70d 0101 0830 0d06 0960 8648 0165 0304 0201 0500 a203 0201 20",
            ),
            (SignatureAlgorithm::Ed25519, "3005 0603 2b65 70"),
        ] {
            assert_eq!(algorithm.identifier(), hex(expected), "{algorithm:?}");
            assert_eq!(SignatureAlgorithm::from_identifier(&hex(expected)), Some(algorithm));
        }
        assert_eq!(SignatureAlgorithm::from_identifier(&hex("300d 0609 2a86 4886 f70d 0101 0505 00")), None, "SHA-1");
    }

    #[test]
    fn pss_hashes_may_leave_out_their_null() {
        let bare = SignatureAlgorithm::RsaPss(SignatureHash::Sha384).identifier_without_null();
        assert_eq!(SignatureAlgorithm::from_identifier(&bare), Some(SignatureAlgorithm::RsaPss(SignatureHash::Sha384)));
    }

    #[test]
    fn fixed_ecdsa_numbers_become_minimal_integers() {
        assert_eq!(ecdsa_der(&[0, 0x7f, 0x80, 1], 2).unwrap(), [0x30, 8, 2, 1, 0x7f, 2, 3, 0, 0x80, 1]);
        assert_eq!(ecdsa_der(&[0, 0, 0, 1], 2).unwrap(), [0x30, 6, 2, 1, 0, 2, 1, 1]);
        assert_eq!(ecdsa_der(&[1, 2, 3], 2), None);
    }
}
