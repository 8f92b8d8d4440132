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
    /// An authenticated cipher; only these exist, there is nothing to negotiate down to.
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
    }
}

/// What protects one IKE SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IkeSuite {
    /// Encryption and integrity.
    pub aead: Aead,
    /// Key derivation.
    pub prf: Prf,
    /// Key exchange.
    pub group: Group,
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
    pub aead: Aead,
    /// A key exchange of its own at each rekeying (perfect forward secrecy), where given.
    pub group: Option<Group>,
    /// Sequence numbers.
    pub esn: Esn,
}

impl IkeSuite {
    /// What is offered where a tunnel names no proposal, in order of preference.
    pub const DEFAULT: [Self; 3] = [
        Self { aead: Aead::Aes256Gcm16, prf: Prf::HmacSha384, group: Group::Curve25519 },
        Self { aead: Aead::Aes256Gcm16, prf: Prf::HmacSha384, group: Group::Ecp384 },
        Self { aead: Aead::Aes128Gcm16, prf: Prf::HmacSha256, group: Group::Ecp256 },
    ];
}

impl EspSuite {
    /// What is offered where a tunnel names no proposal, in order of preference.
    pub const DEFAULT: [Self; 3] = [
        Self { aead: Aead::Aes256Gcm16, group: None, esn: Esn::Preferred },
        Self { aead: Aead::Aes128Gcm16, group: None, esn: Esn::Preferred },
        Self { aead: Aead::ChaCha20Poly1305, group: None, esn: Esn::Preferred },
    ];
}

/// Puts `value` into `slot` unless that is taken.
fn fill<T>(slot: &mut Option<T>, value: T, text: &str, what: &'static str) -> Result<(), SuiteError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(SuiteError::Count(text.to_owned(), what)),
    }
}

impl FromStr for IkeSuite {
    type Err = SuiteError;
    fn from_str(text: &str) -> Result<Self, SuiteError> {
        let (mut aead, mut prf, mut group) = (None, None, None);
        for word in text.split('-') {
            if let Some(found) = Aead::from_word(word) {
                fill(&mut aead, found, text, "cipher")?;
            } else if let Some(found) = Prf::from_word(word) {
                fill(&mut prf, found, text, "prf")?;
            } else if let Some(found) = Group::from_word(word) {
                fill(&mut group, found, text, "group")?;
            } else {
                const EXPECTED: &str = "CIPHER-PRF-GROUP of aes128gcm16, aes256gcm16, chacha20poly1305; prfsha256, prfsha384, \
                     prfsha512; x25519, ecp256, ecp384";
                return Err(SuiteError::Unknown(word.to_owned(), EXPECTED));
            }
        }
        let missing = |what| SuiteError::Count(text.to_owned(), what);
        Ok(Self {
            aead: aead.ok_or_else(|| missing("cipher"))?,
            prf: prf.ok_or_else(|| missing("prf"))?,
            group: group.ok_or_else(|| missing("group"))?,
        })
    }
}

impl FromStr for EspSuite {
    type Err = SuiteError;
    fn from_str(text: &str) -> Result<Self, SuiteError> {
        let (mut aead, mut group, mut esn) = (None, None, None);
        for word in text.split('-') {
            if let Some(found) = Aead::from_word(word) {
                fill(&mut aead, found, text, "cipher")?;
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
                     ecp384";
                return Err(SuiteError::Unknown(word.to_owned(), EXPECTED));
            }
        }
        let aead = aead.ok_or_else(|| SuiteError::Count(text.to_owned(), "cipher"))?;
        Ok(Self { aead, group, esn: esn.unwrap_or_default() })
    }
}

impl fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.aead, self.prf, self.group)
    }
}

impl fmt::Display for EspSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.aead)?;
        if let Some(group) = self.group {
            write!(f, "-{group}")?;
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
        for text in ["aes256gcm16-prfsha384-ecp384", "chacha20poly1305-prfsha256-x25519"] {
            assert_eq!(text.parse::<IkeSuite>().unwrap().to_string(), text);
        }
        for text in ["aes256gcm16", "aes128gcm16-ecp256", "chacha20poly1305-x25519-noesn", "aes128gcm16-esn"] {
            assert_eq!(text.parse::<EspSuite>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn incomplete_doubled_and_unknown_suites_are_refused() {
        assert!(matches!("aes256gcm16-ecp384".parse::<IkeSuite>(), Err(SuiteError::Count(_, "prf"))));
        assert!(matches!("aes256gcm16-aes128gcm16".parse::<EspSuite>(), Err(SuiteError::Count(..))));
        assert!(matches!("3des-prfsha256-ecp256".parse::<IkeSuite>(), Err(SuiteError::Unknown(..))));
        assert!("".parse::<EspSuite>().is_err());
    }
}
