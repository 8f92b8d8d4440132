//! Private keys: read from PEM, used to sign, never seen again.

use std::fmt;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding},
};
use pki_types::{PrivateKeyDer, pem::PemObject};

use super::{
    algorithm::SignatureAlgorithm,
    hashes::{SignatureHash, SignatureHashes},
};

/// A key that signs. The library holds its numbers and wipes them.
pub struct PrivateKey(Kind);

enum Kind {
    Rsa(rsa::KeyPair),
    Ecdsa(Ecdsa),
    Ed25519(Ed25519KeyPair),
}

/// One key in two forms, because its signatures are DER in RFC 7427 and two bare numbers in RFC 4754.
struct Ecdsa {
    curve: Curve,
    der: EcdsaKeyPair,
    fixed: EcdsaKeyPair,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

impl Curve {
    const ALL: [Self; 2] = [Self::P256, Self::P384];

    fn algorithms(self) -> (&'static EcdsaSigningAlgorithm, &'static EcdsaSigningAlgorithm) {
        match self {
            Self::P256 => (&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::P384 => (&signature::ECDSA_P384_SHA384_ASN1_SIGNING, &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        }
    }

    fn hash(self) -> SignatureHash {
        match self {
            Self::P256 => SignatureHash::Sha256,
            Self::P384 => SignatureHash::Sha384,
        }
    }
}

/// A file that holds no usable private key. Its contents are not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// Not PEM, or no private key in it.
    #[error("no private key in it; expected PEM with \"-----BEGIN PRIVATE KEY-----\" (not encrypted)")]
    Pem,
    /// A key, but of no kind that is used here.
    #[error(
        "a key of a kind that is not supported; expected RSA (2048 to 8192 bits), ECDSA on P-256 or P-384, or Ed25519"
    )]
    Unsupported,
}

/// The library could not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signing failed")]
pub struct SigningFailed;

/// How a key signs for a given peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// RFC 7427, with its algorithm.
    Digital(SignatureAlgorithm),
    /// RFC 7296 method 1, here always with SHA-256.
    RsaSignature,
    /// RFC 4754, methods 9 and 10.
    Ecdsa256,
    /// RFC 4754 on P-384.
    Ecdsa384,
}

/// The peer can verify nothing that this key makes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("our {key} key needs {needed} in signatures, and the peer announced only {announced}")]
pub struct NoCommonHash {
    key: &'static str,
    needed: &'static str,
    announced: String,
}

impl PrivateKey {
    /// Reads PEM: PKCS #8, or the older RSA and EC forms. The caller wipes `pem`.
    pub fn from_pem(pem: &[u8]) -> Result<Self, PrivateKeyError> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| PrivateKeyError::Pem)?;
        let key = Self::from_der(&der);
        zeroize::Zeroize::zeroize(&mut { der });
        key
    }

    fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self, PrivateKeyError> {
        let kind = match der {
            PrivateKeyDer::Pkcs1(key) => rsa::KeyPair::from_der(key.secret_pkcs1_der()).ok().map(Kind::Rsa),
            PrivateKeyDer::Sec1(key) => ecdsa(key.secret_sec1_der()),
            PrivateKeyDer::Pkcs8(key) => {
                let der = key.secret_pkcs8_der();
                let ed25519 = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(Kind::Ed25519);
                let rsa = || rsa::KeyPair::from_pkcs8(der).ok().map(Kind::Rsa);
                ecdsa(der).or_else(ed25519).or_else(rsa)
            }
            _ => None,
        };
        kind.map(Self).ok_or(PrivateKeyError::Unsupported)
    }

    /// How to sign for a peer that announced these hashes. Without any, the methods from before RFC 7427 remain.
    pub(crate) fn scheme(&self, peer: SignatureHashes) -> Result<Scheme, NoCommonHash> {
        let refused = |key, needed| NoCommonHash { key, needed, announced: describe(peer) };
        match &self.0 {
            Kind::Rsa(_) if peer.is_empty() => Ok(Scheme::RsaSignature),
            Kind::Rsa(_) => [SignatureHash::Sha256, SignatureHash::Sha384, SignatureHash::Sha512]
                .into_iter()
                .find(|hash| peer.contains(*hash))
                .map(|hash| Scheme::Digital(SignatureAlgorithm::RsaPss(hash)))
                .ok_or_else(|| refused("RSA", "a hash of the SHA-2 family")),
            Kind::Ecdsa(key) if peer.contains(key.curve.hash()) => {
                Ok(Scheme::Digital(SignatureAlgorithm::Ecdsa(key.curve.hash())))
            }
            // The curve's own hash is part of the classic methods, so no announcement is needed for them.
            Kind::Ecdsa(key) => Ok(match key.curve {
                Curve::P256 => Scheme::Ecdsa256,
                Curve::P384 => Scheme::Ecdsa384,
            }),
            Kind::Ed25519(_) if peer.contains(SignatureHash::Identity) => {
                Ok(Scheme::Digital(SignatureAlgorithm::Ed25519))
            }
            Kind::Ed25519(_) => Err(refused("Ed25519", "the \"identity\" hash (RFC 8420)")),
        }
    }

    pub(crate) fn sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        let random = SystemRandom::new();
        match (&self.0, scheme) {
            (Kind::Rsa(key), Scheme::RsaSignature) => rsa_signature(key, &signature::RSA_PKCS1_SHA256, message),
            (Kind::Rsa(key), Scheme::Digital(SignatureAlgorithm::RsaPkcs1(hash))) => match hash {
                SignatureHash::Sha256 => rsa_signature(key, &signature::RSA_PKCS1_SHA256, message),
                SignatureHash::Sha384 => rsa_signature(key, &signature::RSA_PKCS1_SHA384, message),
                SignatureHash::Sha512 => rsa_signature(key, &signature::RSA_PKCS1_SHA512, message),
                SignatureHash::Identity => Err(SigningFailed),
            },
            (Kind::Rsa(key), Scheme::Digital(SignatureAlgorithm::RsaPss(hash))) => match hash {
                SignatureHash::Sha256 => rsa_signature(key, &signature::RSA_PSS_SHA256, message),
                SignatureHash::Sha384 => rsa_signature(key, &signature::RSA_PSS_SHA384, message),
                SignatureHash::Sha512 => rsa_signature(key, &signature::RSA_PSS_SHA512, message),
                SignatureHash::Identity => Err(SigningFailed),
            },
            (Kind::Ecdsa(key), Scheme::Digital(SignatureAlgorithm::Ecdsa(hash))) if hash == key.curve.hash() => {
                key.der.sign(&random, message).map(|made| made.as_ref().to_vec()).map_err(|_| SigningFailed)
            }
            (Kind::Ecdsa(key), Scheme::Ecdsa256 | Scheme::Ecdsa384) => {
                key.fixed.sign(&random, message).map(|made| made.as_ref().to_vec()).map_err(|_| SigningFailed)
            }
            (Kind::Ed25519(key), Scheme::Digital(SignatureAlgorithm::Ed25519)) => {
                key.try_sign(message).map(|made| made.as_ref().to_vec()).map_err(|_| SigningFailed)
            }
            _ => Err(SigningFailed),
        }
    }
}

fn ecdsa(der: &[u8]) -> Option<Kind> {
    Curve::ALL.into_iter().find_map(|curve| {
        let (asn1, fixed) = curve.algorithms();
        let read = |algorithm| EcdsaKeyPair::from_private_key_der(algorithm, der).ok();
        Some(Kind::Ecdsa(Ecdsa { curve, der: read(asn1)?, fixed: read(fixed)? }))
    })
}

fn rsa_signature(
    key: &rsa::KeyPair,
    encoding: &'static dyn RsaEncoding,
    message: &[u8],
) -> Result<Vec<u8>, SigningFailed> {
    let mut made = vec![0; key.public_modulus_len()];
    key.sign(encoding, &SystemRandom::new(), message, &mut made).map_err(|_| SigningFailed)?;
    Ok(made)
}

fn describe(hashes: SignatureHashes) -> String {
    let octets = hashes.to_bytes();
    let numbers: Vec<_> = octets.as_chunks::<2>().0.iter().map(|raw| u16::from_be_bytes(*raw).to_string()).collect();
    if numbers.is_empty() { "none".to_owned() } else { format!("hash algorithms {}", numbers.join(", ")) }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Rsa(_) => "PrivateKey(RSA)",
            Kind::Ecdsa(Ecdsa { curve: Curve::P256, .. }) => "PrivateKey(ECDSA P-256)",
            Kind::Ecdsa(Ecdsa { curve: Curve::P384, .. }) => "PrivateKey(ECDSA P-384)",
            Kind::Ed25519(_) => "PrivateKey(Ed25519)",
        })
    }
}
