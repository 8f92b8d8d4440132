//! What protects messages and packets: a combined-mode cipher, or AES-CBC and an HMAC (RFC 5282, RFC 3602, RFC 4868).
//!
//! A combined-mode cipher stands alone; CBC never does. The types leave no third way, and no proposal mixes the two,
//! since a responder could not tell which integrity algorithm is meant for which cipher (RFC 5282 §8).

use std::fmt;

use aws_lc_rs::{aead, cipher, hmac};
use ike_wire::{Encryption, Integrity, Transform, TransformId};

use crate::suite::{PrfAlgorithm, names};

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

/// AES in CBC mode, by the size of its key (RFC 3602).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AesCbc {
    /// 128 bits.
    Aes128,
    /// 192 bits.
    Aes192,
    /// 256 bits.
    Aes256,
}

impl AesCbc {
    /// All of them, strongest habit first.
    pub const ALL: [Self; 3] = [Self::Aes256, Self::Aes192, Self::Aes128];

    /// Octets of the key.
    pub fn key_len(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// As it is offered.
    pub fn transform(self) -> Transform {
        let bits = match self {
            Self::Aes128 => 128,
            Self::Aes192 => 192,
            Self::Aes256 => 256,
        };
        Transform::cipher(Encryption::AesCbc, Some(bits))
    }

    pub(crate) fn algorithm(self) -> &'static cipher::Algorithm {
        match self {
            Self::Aes128 => &cipher::AES_128,
            Self::Aes192 => &cipher::AES_192,
            Self::Aes256 => &cipher::AES_256,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Aes128 => "aes128",
            Self::Aes192 => "aes192",
            Self::Aes256 => "aes256",
        }
    }
}

/// An HMAC whose output is cut in half, the integrity algorithm beside CBC (RFC 4868 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HmacAlgorithm {
    /// HMAC-SHA-256-128.
    Sha256,
    /// HMAC-SHA-384-192.
    Sha384,
    /// HMAC-SHA-512-256.
    Sha512,
}

impl HmacAlgorithm {
    /// All of them, in the order of an offer.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// Octets of the ICV.
    pub fn icv_len(self) -> usize {
        match self {
            Self::Sha256 => 16,
            Self::Sha384 => 24,
            Self::Sha512 => 32,
        }
    }

    /// Octets of the key: as many as the whole output has (RFC 4868 §2.1.1).
    pub fn key_len(self) -> usize {
        2 * self.icv_len()
    }

    /// As it is offered.
    pub fn transform(self) -> Transform {
        Transform::new(TransformId::Integrity(match self {
            Self::Sha256 => Integrity::HmacSha256_128,
            Self::Sha384 => Integrity::HmacSha384_192,
            Self::Sha512 => Integrity::HmacSha512_256,
        }))
    }

    /// The pseudorandom function of the same hash: what a proposal means that names none.
    pub fn prf(self) -> PrfAlgorithm {
        match self {
            Self::Sha256 => PrfAlgorithm::HmacSha256,
            Self::Sha384 => PrfAlgorithm::HmacSha384,
            Self::Sha512 => PrfAlgorithm::HmacSha512,
        }
    }

    pub(crate) fn algorithm(self) -> hmac::Algorithm {
        self.prf().algorithm()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

names!(Aead, "cipher");
names!(AesCbc, "cipher");
names!(HmacAlgorithm, "integrity algorithm");

/// What protects the messages of an IKE SA or the packets of a child SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// One algorithm for both.
    Aead(Aead),
    /// Encryption, then authentication of what was encrypted.
    Cbc(AesCbc, HmacAlgorithm),
}

impl Cipher {
    /// Octets of one direction's encryption key, with the salt that an AEAD has.
    pub fn encryption_len(self) -> usize {
        match self {
            Self::Aead(aead) => aead.keymat_len(),
            Self::Cbc(aes, _) => aes.key_len(),
        }
    }

    /// Octets of one direction's integrity key; combined-mode ciphers have none.
    pub fn integrity_len(self) -> usize {
        match self {
            Self::Aead(_) => 0,
            Self::Cbc(_, hmac) => hmac.key_len(),
        }
    }

    /// As it is answered: the cipher, and the integrity algorithm where there is one.
    pub fn transforms(self) -> Vec<Transform> {
        match self {
            Self::Aead(aead) => vec![aead.transform()],
            Self::Cbc(aes, hmac) => vec![aes.transform(), hmac.transform()],
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aead(aead) => aead.fmt(f),
            Self::Cbc(aes, hmac) => write!(f, "{aes}-{hmac}"),
        }
    }
}

/// What a proposal allows, in order of preference; no list is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ciphers {
    /// Combined-mode ciphers.
    Aead(Vec<Aead>),
    /// Any of the ciphers with any of the integrity algorithms.
    Cbc(Vec<AesCbc>, Vec<HmacAlgorithm>),
}

impl Ciphers {
    /// As they are offered.
    pub(crate) fn transforms(&self) -> Vec<Transform> {
        match self {
            Self::Aead(aeads) => aeads.iter().map(|aead| aead.transform()).collect(),
            Self::Cbc(aes, hmacs) => {
                let aes = aes.iter().map(|aes| aes.transform());
                aes.chain(hmacs.iter().map(|hmac| hmac.transform())).collect()
            }
        }
    }

    /// The one of them liked best whose transforms `has` finds in the peer's proposal.
    pub(crate) fn pick(&self, has: impl Fn(&Transform) -> bool) -> Option<Cipher> {
        match self {
            Self::Aead(aeads) => aeads.iter().find(|aead| has(&aead.transform())).copied().map(Cipher::Aead),
            Self::Cbc(aes, hmacs) => {
                let aes = *aes.iter().find(|aes| has(&aes.transform()))?;
                let hmac = *hmacs.iter().find(|hmac| has(&hmac.transform()))?;
                Some(Cipher::Cbc(aes, hmac))
            }
        }
    }

    /// Whether a proposal with these could have led to `cipher`.
    pub(crate) fn allow(&self, cipher: Cipher) -> bool {
        match (self, cipher) {
            (Self::Aead(aeads), Cipher::Aead(aead)) => aeads.contains(&aead),
            (Self::Cbc(all, hmacs), Cipher::Cbc(aes, hmac)) => all.contains(&aes) && hmacs.contains(&hmac),
            _ => false,
        }
    }

    /// The words of a proposal's text.
    pub(crate) fn words(&self) -> Vec<String> {
        match self {
            Self::Aead(aeads) => aeads.iter().map(Aead::to_string).collect(),
            Self::Cbc(aes, hmacs) => {
                aes.iter().map(AesCbc::to_string).chain(hmacs.iter().map(HmacAlgorithm::to_string)).collect()
            }
        }
    }
}

impl Default for Ciphers {
    /// Every combined-mode cipher: what is older is for those who name it.
    fn default() -> Self {
        Self::Aead(Aead::ALL.to_vec())
    }
}

impl From<Cipher> for Ciphers {
    fn from(cipher: Cipher) -> Self {
        match cipher {
            Cipher::Aead(aead) => Self::Aead(vec![aead]),
            Cipher::Cbc(aes, hmac) => Self::Cbc(vec![aes], vec![hmac]),
        }
    }
}

/// The ciphers of a proposal's text, word by word.
#[derive(Default)]
pub(crate) struct CipherWords {
    aeads: Vec<Aead>,
    aes: Vec<AesCbc>,
    hmacs: Vec<HmacAlgorithm>,
}

impl CipherWords {
    /// Whether the word is one of theirs.
    pub(crate) fn take(&mut self, word: &str) -> bool {
        // The second spelling is strongSwan's longer one.
        let hmac = match word.strip_prefix("sha2_") {
            Some(bits) => format!("sha{bits}").parse(),
            None => word.parse(),
        };
        if let Ok(aead) = word.parse() {
            self.aeads.push(aead);
        } else if let Ok(aes) = word.parse() {
            self.aes.push(aes);
        } else if let Ok(hmac) = hmac {
            self.hmacs.push(hmac);
        } else {
            return false;
        }
        true
    }

    /// The ciphers, or what is missing or too much.
    pub(crate) fn finish(self) -> Result<Ciphers, &'static str> {
        match (&self.aeads[..], &self.aes[..], &self.hmacs[..]) {
            ([], [], _) => Err("names no cipher"),
            ([_, ..], [], []) => Ok(Ciphers::Aead(self.aeads)),
            ([], [_, ..], [_, ..]) => Ok(Ciphers::Cbc(self.aes, self.hmacs)),
            ([], [_, ..], []) => Err("names no integrity algorithm, which AES-CBC needs"),
            ([_, ..], ..) => Err("mixes combined-mode ciphers with AES-CBC or an integrity algorithm (RFC 5282 §8)"),
        }
    }
}
