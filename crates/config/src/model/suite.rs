//! Cipher suites, in the spelling that operators of strongSwan know: `aes256gcm16-prfsha384-ecp384`.

use std::{fmt, str::FromStr};

/// Why a text is not a suite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuiteError {
    /// A part that names no algorithm of ours.
    #[error("\"{0}\" is not an algorithm of this suite: expected {1}")]
    Unknown(String, &'static str),
    /// Two parts of one kind, or none where one is needed.
    #[error("\"{0}\" needs exactly one {1}")]
    Count(String, &'static str),
    /// A combined-mode cipher with an integrity algorithm, which it has no use for (RFC 5282 §8).
    #[error("\"{0}\": {1} authenticates by itself and takes no integrity algorithm")]
    Integrity(String, Aead),
    /// An additional key exchange that cannot be.
    #[error(
        "\"{0}\": additional key exchanges are ke1_mlkem768 to ke7_mlkem1024, each number and each mechanism once, after a first one"
    )]
    Additional(String),
}

macro_rules! algorithms {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal $(| $alias:literal)*,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// All of them, strongest habit first.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($text $(| $alias)* => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)+ })
            }
        }
    };
}

algorithms! {
    /// A cipher that encrypts and authenticates.
    Aead {
        /// AES-GCM, 256-bit key, 16-octet tag (RFC 4106, RFC 5282).
        Aes256Gcm16 = "aes256gcm16" | "aes256gcm128",
        /// AES-GCM, 128-bit key, 16-octet tag.
        Aes128Gcm16 = "aes128gcm16" | "aes128gcm128" | "aesgcm16",
        /// ChaCha20-Poly1305 (RFC 7634).
        ChaCha20Poly1305 = "chacha20poly1305",
    }
}
algorithms! {
    /// AES in CBC mode, for peers that have nothing better; needs an [`Integrity`] (RFC 3602).
    AesCbc {
        /// 256-bit key
        Aes256 = "aes256",
        /// 192-bit key
        Aes192 = "aes192",
        /// 128-bit key
        Aes128 = "aes128" | "aes",
    }
}
algorithms! {
    /// What authenticates beside [`AesCbc`]: HMAC, cut in half (RFC 4868).
    Integrity {
        /// HMAC-SHA-256-128
        HmacSha256 = "sha256" | "sha2_256",
        /// HMAC-SHA-384-192
        HmacSha384 = "sha384" | "sha2_384",
        /// HMAC-SHA-512-256
        HmacSha512 = "sha512" | "sha2_512",
    }
}
algorithms! {
    /// The pseudorandom function of an IKE SA (RFC 4868).
    Prf {
        /// HMAC-SHA-384
        HmacSha384 = "prfsha384",
        /// HMAC-SHA-256
        HmacSha256 = "prfsha256",
        /// HMAC-SHA-512
        HmacSha512 = "prfsha512",
    }
}
algorithms! {
    /// A Diffie-Hellman group.
    Group {
        /// Group 31 (RFC 8031).
        Curve25519 = "x25519" | "curve25519",
        /// Group 20 (RFC 5903).
        Ecp384 = "ecp384",
        /// Group 19 (RFC 5903).
        Ecp256 = "ecp256",
        /// Group 21 (RFC 5903).
        Ecp521 = "ecp521",
        /// Group 16 (RFC 3526).
        Modp4096 = "modp4096",
        /// Group 15 (RFC 3526).
        Modp3072 = "modp3072",
        /// Group 14 (RFC 3526).
        Modp2048 = "modp2048",
    }
}

algorithms! {
    /// A key encapsulation mechanism, for key exchanges after the first (FIPS 203).
    Kem {
        /// Method 36
        MlKem768 = "mlkem768",
        /// Method 37
        MlKem1024 = "mlkem1024",
    }
}

/// Key exchanges after the first: `ke1_mlkem768` to `ke7_…`, each mechanism at most once (RFC 9370).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Additional([Option<Kem>; 7]);

impl Additional {
    /// None.
    pub const NONE: Self = Self([None; 7]);

    /// Adds number 1 to 7; false where that cannot be.
    pub fn add(&mut self, number: u8, kem: Kem) -> bool {
        let known = self.0.contains(&Some(kem));
        match usize::from(number).checked_sub(1).and_then(|at| self.0.get_mut(at)) {
            Some(slot @ None) if !known => {
                *slot = Some(kem);
                true
            }
            _ => false,
        }
    }

    /// Numbers and mechanisms, in their order.
    pub fn iter(self) -> impl Iterator<Item = (u8, Kem)> {
        (1u8..).zip(self.0).filter_map(|(number, kem)| Some((number, kem?)))
    }

    /// `Some` where the word is one of these; false in it where it cannot be added.
    fn take(&mut self, word: &str) -> Option<bool> {
        let (number, kem) = word.strip_prefix("ke")?.split_once('_')?;
        Some(matches!((number.parse(), Kem::from_word(kem)), (Ok(number), Some(kem)) if self.add(number, kem)))
    }
}

impl fmt::Display for Additional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(number, kem)| write!(f, "-ke{number}_{kem}"))
    }
}

/// Encryption and integrity: in one, or one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cipher {
    /// In one.
    Aead(Aead),
    /// One after the other.
    Cbc(AesCbc, Integrity),
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aead(aead) => aead.fmt(f),
            Self::Cbc(aes, integrity) => write!(f, "{aes}-{integrity}"),
        }
    }
}

impl Integrity {
    /// The pseudorandom function of a suite that names none: the one of the same hash.
    fn prf(self) -> Prf {
        match self {
            Self::HmacSha256 => Prf::HmacSha256,
            Self::HmacSha384 => Prf::HmacSha384,
            Self::HmacSha512 => Prf::HmacSha512,
        }
    }
}

/// What protects one IKE SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IkeSuite {
    /// Encryption and integrity.
    pub cipher: Cipher,
    /// Key derivation.
    pub prf: Prf,
    /// Key exchange.
    pub group: Group,
    /// Key exchanges after it, all of which the peer must take part in.
    pub additional: Additional,
}

/// Whether extended sequence numbers are used (RFC 4303 §2.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Esn {
    /// Both are offered, extended ones preferred.
    #[default]
    Preferred,
    /// Only extended ones: `-esn`.
    Required,
    /// Only 32-bit ones: `-noesn`.
    Off,
}

/// What protects one ESP SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EspSuite {
    /// Encryption and integrity.
    pub cipher: Cipher,
    /// A key exchange of its own at each rekeying (perfect forward secrecy), where given.
    pub group: Option<Group>,
    /// Key exchanges after it; none where it has no group.
    pub additional: Additional,
    /// Sequence numbers.
    pub esn: Esn,
}

impl IkeSuite {
    /// What is offered where a tunnel names no proposal, in order of preference.
    pub const DEFAULT: [Self; 3] = [
        Self {
            cipher: Cipher::Aead(Aead::Aes256Gcm16),
            prf: Prf::HmacSha384,
            group: Group::Curve25519,
            additional: Additional::NONE,
        },
        Self {
            cipher: Cipher::Aead(Aead::Aes256Gcm16),
            prf: Prf::HmacSha384,
            group: Group::Ecp384,
            additional: Additional::NONE,
        },
        Self {
            cipher: Cipher::Aead(Aead::Aes128Gcm16),
            prf: Prf::HmacSha256,
            group: Group::Ecp256,
            additional: Additional::NONE,
        },
    ];
}

impl EspSuite {
    /// What is offered where a tunnel names no proposal, in order of preference.
    pub const DEFAULT: [Self; 3] = [
        Self {
            cipher: Cipher::Aead(Aead::Aes256Gcm16),
            group: None,
            additional: Additional::NONE,
            esn: Esn::Preferred,
        },
        Self {
            cipher: Cipher::Aead(Aead::Aes128Gcm16),
            group: None,
            additional: Additional::NONE,
            esn: Esn::Preferred,
        },
        Self {
            cipher: Cipher::Aead(Aead::ChaCha20Poly1305),
            group: None,
            additional: Additional::NONE,
            esn: Esn::Preferred,
        },
    ];
}

/// Puts `value` into `slot` unless that is taken.
fn fill<T>(slot: &mut Option<T>, value: T, text: &str, what: &'static str) -> Result<(), SuiteError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(SuiteError::Count(text.to_owned(), what)),
    }
}

/// The parts of a cipher, as they come.
#[derive(Default)]
struct CipherParts {
    aead: Option<Aead>,
    aes: Option<AesCbc>,
    integrity: Option<Integrity>,
}

impl CipherParts {
    /// Whether the word is one of them.
    fn take(&mut self, word: &str, text: &str) -> Result<bool, SuiteError> {
        if let Some(found) = Aead::from_word(word) {
            fill(&mut self.aead, found, text, "cipher")?;
        } else if let Some(found) = AesCbc::from_word(word) {
            fill(&mut self.aes, found, text, "cipher")?;
        } else if let Some(found) = Integrity::from_word(word) {
            fill(&mut self.integrity, found, text, "integrity algorithm")?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn finish(self, text: &str) -> Result<Cipher, SuiteError> {
        match self {
            Self { aead: Some(aead), aes: None, integrity: None } => Ok(Cipher::Aead(aead)),
            Self { aead: Some(aead), aes: None, integrity: Some(_) } => {
                Err(SuiteError::Integrity(text.to_owned(), aead))
            }
            Self { aead: None, aes: Some(aes), integrity: Some(integrity) } => Ok(Cipher::Cbc(aes, integrity)),
            Self { aead: None, aes: Some(_), integrity: None } => {
                Err(SuiteError::Count(text.to_owned(), "integrity algorithm, as in aes256-sha256"))
            }
            Self { aead: Some(_), aes: Some(_), .. } | Self { aead: None, aes: None, .. } => {
                Err(SuiteError::Count(text.to_owned(), "cipher"))
            }
        }
    }
}

impl FromStr for IkeSuite {
    type Err = SuiteError;
    fn from_str(text: &str) -> Result<Self, SuiteError> {
        let (mut cipher, mut prf, mut group) = (CipherParts::default(), None, None);
        let mut additional = Additional::NONE;
        for word in text.split('-') {
            if cipher.take(word, text)? {
            } else if let Some(added) = additional.take(word) {
                added.then_some(()).ok_or_else(|| SuiteError::Additional(text.to_owned()))?;
            } else if let Some(found) = Prf::from_word(word) {
                fill(&mut prf, found, text, "prf")?;
            } else if let Some(found) = Group::from_word(word) {
                fill(&mut group, found, text, "group")?;
            } else {
                const EXPECTED: &str = "CIPHER-PRF-GROUP of aes128gcm16, aes256gcm16, chacha20poly1305; prfsha256, prfsha384, \
                     prfsha512; x25519, ecp256, ecp384, ecp521, modp2048, modp3072, modp4096; ke1_mlkem768, \
                     ke1_mlkem1024 behind; or for older peers CIPHER-INTEGRITY-GROUP with aes128, aes192, aes256; sha256, sha384, sha512";
                return Err(SuiteError::Unknown(word.to_owned(), EXPECTED));
            }
        }
        let missing = |what| SuiteError::Count(text.to_owned(), what);
        let cipher = cipher.finish(text)?;
        let prf = match (prf, cipher) {
            (None, Cipher::Cbc(_, integrity)) => integrity.prf(),
            (prf, _) => prf.ok_or_else(|| missing("prf"))?,
        };
        Ok(Self { cipher, prf, group: group.ok_or_else(|| missing("group"))?, additional })
    }
}

impl FromStr for EspSuite {
    type Err = SuiteError;
    fn from_str(text: &str) -> Result<Self, SuiteError> {
        let (mut cipher, mut group, mut esn) = (CipherParts::default(), None, None);
        let mut additional = Additional::NONE;
        for word in text.split('-') {
            if cipher.take(word, text)? {
            } else if let Some(added) = additional.take(word) {
                added.then_some(()).ok_or_else(|| SuiteError::Additional(text.to_owned()))?;
            } else if let Some(found) = Group::from_word(word) {
                fill(&mut group, found, text, "group at most")?;
            } else if let Some(found) = match word {
                "esn" => Some(Esn::Required),
                "noesn" => Some(Esn::Off),
                _ => None,
            } {
                fill(&mut esn, found, text, "of esn and noesn at most")?;
            } else {
                const EXPECTED: &str = "CIPHER[-GROUP][-esn|-noesn] of aes128gcm16, aes256gcm16, chacha20poly1305; x25519, ecp256, \
                     ecp384, ecp521, modp2048, modp3072, modp4096; or for older peers CIPHER-INTEGRITY with aes128, aes192, \
                     aes256; sha256, sha384, sha512";
                return Err(SuiteError::Unknown(word.to_owned(), EXPECTED));
            }
        }
        if group.is_none() && additional != Additional::NONE {
            return Err(SuiteError::Additional(text.to_owned()));
        }
        Ok(Self { cipher: cipher.finish(text)?, group, additional, esn: esn.unwrap_or_default() })
    }
}

impl fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cipher, prf, group, additional } = self;
        match cipher {
            Cipher::Cbc(_, integrity) if integrity.prf() == *prf => write!(f, "{cipher}-{group}{additional}"),
            _ => write!(f, "{cipher}-{prf}-{group}{additional}"),
        }
    }
}

impl fmt::Display for EspSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cipher)?;
        if let Some(group) = self.group {
            write!(f, "-{group}{}", self.additional)?;
        }
        match self.esn {
            Esn::Preferred => Ok(()),
            Esn::Required => f.write_str("-esn"),
            Esn::Off => f.write_str("-noesn"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_print_as_they_are_read() {
        for text in [
            "aes256gcm16-prfsha384-ecp384",
            "chacha20poly1305-prfsha256-x25519",
            "aes256-sha256-modp2048",
            "aes192-sha384-prfsha512-ecp521",
            "aes256gcm16-prfsha384-x25519-ke1_mlkem768",
            "aes256gcm16-prfsha384-ecp384-ke1_mlkem1024-ke2_mlkem768",
        ] {
            assert_eq!(text.parse::<IkeSuite>().unwrap().to_string(), text);
        }
        for text in [
            "aes256gcm16",
            "aes128gcm16-ecp256",
            "chacha20poly1305-x25519-noesn",
            "aes128gcm16-esn",
            "aes128-sha512-modp4096",
            "aes256gcm16-x25519-ke1_mlkem768-esn",
        ] {
            assert_eq!(text.parse::<EspSuite>().unwrap().to_string(), text);
        }
        let longer = "aes-sha2_256-prfsha256-modp3072".parse::<IkeSuite>().unwrap();
        assert_eq!(longer.to_string(), "aes128-sha256-modp3072", "as strongSwan reads it, too");
    }

    #[test]
    fn incomplete_doubled_and_unknown_suites_are_refused() {
        assert!(matches!("aes256gcm16-ecp384".parse::<IkeSuite>(), Err(SuiteError::Count(_, "prf"))));
        assert!(matches!("aes256gcm16-aes128gcm16".parse::<EspSuite>(), Err(SuiteError::Count(..))));
        assert!(matches!("3des-prfsha256-ecp256".parse::<IkeSuite>(), Err(SuiteError::Unknown(..))));
        assert!("".parse::<EspSuite>().is_err());
        let refusal = |text: &str| text.parse::<IkeSuite>().unwrap_err().to_string();
        assert_eq!(
            refusal("aes256-modp2048"),
            "\"aes256-modp2048\" needs exactly one integrity algorithm, as in aes256-sha256"
        );
        assert_eq!(
            refusal("aes256gcm16-sha256-modp2048"),
            "\"aes256gcm16-sha256-modp2048\": aes256gcm16 authenticates by itself and takes no integrity algorithm"
        );
        assert!(refusal("aes256gcm16-aes256-sha256-modp2048").contains("exactly one cipher"));
        assert!(refusal("aes256-sha256-modp1024").contains("modp2048"));
        for bad in
            ["ke0_mlkem768", "ke8_mlkem768", "ke1_x25519", "ke1_mlkem768-ke2_mlkem768", "ke1_mlkem768-ke1_mlkem1024"]
        {
            assert!(refusal(&format!("aes256gcm16-prfsha384-x25519-{bad}")).contains("each mechanism once"), "{bad}");
        }
        assert!("aes256gcm16-ke1_mlkem768".parse::<EspSuite>().is_err(), "after a first one");
    }
}
