//! The algorithms spoken here, under the names that configurations and logs use.

use std::{fmt, str::FromStr};

use aws_lc_rs::{aead, hmac};
use ike_wire::{DhGroup, Encryption, Prf as PrfId, Transform, TransformId};

/// Octets of salt after each AEAD key (RFC 4106 §8.1, RFC 5282 §7.1, RFC 7634 §2).
pub const SALT_LEN: usize = 4;

/// A cipher that encrypts and authenticates, for IKE and for ESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Aead {
    /// AES-GCM, 128-bit key, 16-octet ICV.
    Aes128Gcm16,
    /// AES-GCM, 256-bit key, 16-octet ICV.
    Aes256Gcm16,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl Aead {
    /// All of them, strongest habit first.
    pub const ALL: [Self; 3] = [Self::Aes256Gcm16, Self::Aes128Gcm16, Self::ChaCha20Poly1305];

    /// Octets of the key.
    pub fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm16 => 16,
            Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// Octets of key material: the key, then the salt.
    pub fn keymat_len(self) -> usize {
        self.key_len() + SALT_LEN
    }

    /// As it is offered.
    pub fn transform(self) -> Transform {
        match self {
            Self::Aes128Gcm16 => Transform::cipher(Encryption::AesGcm16, Some(128)),
            Self::Aes256Gcm16 => Transform::cipher(Encryption::AesGcm16, Some(256)),
            Self::ChaCha20Poly1305 => Transform::cipher(Encryption::ChaCha20Poly1305, None), // RFC 7634 §3: no length
        }
    }

    pub(crate) fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm16 => &aead::AES_128_GCM,
            Self::Aes256Gcm16 => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm16 => "aes128gcm16",
            Self::Aes256Gcm16 => "aes256gcm16",
            Self::ChaCha20Poly1305 => "chacha20poly1305",
        }
    }
}

/// A pseudorandom function: HMAC over one of the SHA-2 family (RFC 4868).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PrfAlgorithm {
    /// HMAC-SHA-256.
    HmacSha256,
    /// HMAC-SHA-384.
    HmacSha384,
    /// HMAC-SHA-512.
    HmacSha512,
}

impl PrfAlgorithm {
    /// All of them, in the order of a default offer.
    pub const ALL: [Self; 3] = [Self::HmacSha384, Self::HmacSha256, Self::HmacSha512];

    /// Octets of its output, which is also its preferred key length (RFC 4868 §2.6).
    pub fn output_len(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }

    /// As it is offered.
    pub fn transform(self) -> Transform {
        Transform::new(TransformId::Prf(match self {
            Self::HmacSha256 => PrfId::HmacSha256,
            Self::HmacSha384 => PrfId::HmacSha384,
            Self::HmacSha512 => PrfId::HmacSha512,
        }))
    }

    pub(crate) fn algorithm(self) -> hmac::Algorithm {
        match self {
            Self::HmacSha256 => hmac::HMAC_SHA256,
            Self::HmacSha384 => hmac::HMAC_SHA384,
            Self::HmacSha512 => hmac::HMAC_SHA512,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::HmacSha256 => "prfsha256",
            Self::HmacSha384 => "prfsha384",
            Self::HmacSha512 => "prfsha512",
        }
    }
}

/// A key exchange group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Curve25519 (RFC 8031), group 31.
    X25519,
    /// NIST P-256 (RFC 5903), group 19.
    Ecp256,
    /// NIST P-384 (RFC 5903), group 20.
    Ecp384,
}

impl Group {
    /// All of them, in the order of a default offer.
    pub const ALL: [Self; 3] = [Self::X25519, Self::Ecp384, Self::Ecp256];

    /// Its number on the wire.
    pub fn id(self) -> DhGroup {
        match self {
            Self::X25519 => DhGroup::Curve25519,
            Self::Ecp256 => DhGroup::Ecp256,
            Self::Ecp384 => DhGroup::Ecp384,
        }
    }

    /// The group with that number, if it is spoken here.
    pub fn from_id(id: DhGroup) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.id() == id)
    }

    /// As it is offered.
    pub fn transform(self) -> Transform {
        Transform::new(TransformId::Dh(self.id()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::X25519 => "x25519",
            Self::Ecp256 => "ecp256",
            Self::Ecp384 => "ecp384",
        }
    }
}

/// A name that stands for no algorithm spoken here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} \"{found}\", expected one of {expected}")]
pub struct UnknownAlgorithm {
    what: &'static str,
    found: String,
    expected: String,
}

macro_rules! names {
    ($name:ident, $what:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
        impl FromStr for $name {
            type Err = UnknownAlgorithm;
            fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
                Self::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| UnknownAlgorithm {
                    what: $what,
                    found: text.to_owned(),
                    expected: Self::ALL.map(|one| one.name()).join(", "),
                })
            }
        }
    };
}
names!(Aead, "cipher");
names!(PrfAlgorithm, "pseudorandom function");
names!(Group, "key exchange group");

/// What an IKE SA uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IkeSuite {
    /// Protects its messages.
    pub aead: Aead,
    /// Derives its keys and proves PSKs.
    pub prf: PrfAlgorithm,
    /// Exchanges its secret.
    pub group: Group,
}

impl fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.aead, self.prf, self.group)
    }
}

/// What a child SA uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EspSuite {
    /// Protects its packets.
    pub aead: Aead,
    /// Whether sequence numbers have 64 bits.
    pub esn: bool,
    /// The group of its own key exchange, if it has one (forward secrecy).
    pub group: Option<Group>,
}

impl fmt::Display for EspSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.aead.fmt(f)?;
        self.group.map_or(Ok(()), |group| write!(f, "-{group}"))?;
        f.write_str(if self.esn { "-esn" } else { "-noesn" })
    }
}
