//! The algorithms spoken here, under the names that configurations and logs use.

use std::fmt;

use aws_lc_rs::hmac;
use ike_wire::{DhGroup, Prf as PrfId, Transform, TransformId};

use crate::cipher::Cipher;

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

/// A key exchange method: a Diffie-Hellman group, or a key encapsulation mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Curve25519 (RFC 8031), group 31.
    X25519,
    /// NIST P-256 (RFC 5903), group 19.
    Ecp256,
    /// NIST P-384 (RFC 5903), group 20.
    Ecp384,
    /// NIST P-521 (RFC 5903), group 21.
    Ecp521,
    /// 2048-bit MODP (RFC 3526), group 14.
    Modp2048,
    /// 3072-bit MODP (RFC 3526), group 15.
    Modp3072,
    /// 4096-bit MODP (RFC 3526), group 16.
    Modp4096,
    /// ML-KEM-768 (FIPS 203, draft-ietf-ipsecme-ikev2-mlkem), method 36; only after another one.
    MlKem768,
    /// ML-KEM-1024, method 37; only after another one.
    MlKem1024,
}

impl Group {
    /// All of them, strongest habit first.
    pub const ALL: [Self; 9] = [
        Self::X25519,
        Self::Ecp384,
        Self::Ecp256,
        Self::Ecp521,
        Self::Modp4096,
        Self::Modp3072,
        Self::Modp2048,
        Self::MlKem768,
        Self::MlKem1024,
    ];
    /// Those of a default offer, in its order.
    pub const DEFAULT: [Self; 3] = [Self::X25519, Self::Ecp384, Self::Ecp256];

    /// Its number on the wire.
    pub fn id(self) -> DhGroup {
        match self {
            Self::X25519 => DhGroup::Curve25519,
            Self::Ecp256 => DhGroup::Ecp256,
            Self::Ecp384 => DhGroup::Ecp384,
            Self::Ecp521 => DhGroup::Ecp521,
            Self::Modp2048 => DhGroup::Modp2048,
            Self::Modp3072 => DhGroup::Modp3072,
            Self::Modp4096 => DhGroup::Modp4096,
            Self::MlKem768 => DhGroup::MlKem768,
            Self::MlKem1024 => DhGroup::MlKem1024,
        }
    }

    /// The group with that number, if it is spoken here.
    pub fn from_id(id: DhGroup) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.id() == id)
    }

    /// As it is offered for the first key exchange.
    pub fn transform(self) -> Transform {
        Transform::new(TransformId::Dh(self.id()))
    }

    /// Whether it may be the first key exchange. Keys of ML-KEM are too long for IKE_SA_INIT, which cannot be fragmented.
    pub fn may_be_first(self) -> bool {
        !matches!(self, Self::MlKem768 | Self::MlKem1024)
    }

    fn name(self) -> &'static str {
        match self {
            Self::X25519 => "x25519",
            Self::Ecp256 => "ecp256",
            Self::Ecp384 => "ecp384",
            Self::Ecp521 => "ecp521",
            Self::Modp2048 => "modp2048",
            Self::Modp3072 => "modp3072",
            Self::Modp4096 => "modp4096",
            Self::MlKem768 => "mlkem768",
            Self::MlKem1024 => "mlkem1024",
        }
    }
}

/// A name that stands for no algorithm spoken here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} \"{found}\", expected one of {expected}")]
pub struct UnknownAlgorithm {
    pub(crate) what: &'static str,
    pub(crate) found: String,
    pub(crate) expected: String,
}

macro_rules! names {
    ($name:ident, $what:literal) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::suite::UnknownAlgorithm;
            fn from_str(text: &str) -> Result<Self, $crate::suite::UnknownAlgorithm> {
                let known = Self::ALL.into_iter().find(|one| one.name() == text);
                known.ok_or_else(|| $crate::suite::UnknownAlgorithm {
                    what: $what,
                    found: text.to_owned(),
                    expected: Self::ALL.map(|one| one.name()).join(", "),
                })
            }
        }
    };
}
pub(crate) use names;
names!(PrfAlgorithm, "pseudorandom function");
names!(Group, "key exchange group");

/// Key exchanges after the first one, at most one by each method (RFC 9370 §2.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Additional([Option<Group>; 7]);

impl Additional {
    /// None.
    pub const NONE: Self = Self([None; 7]);

    /// Adds number 1 to 7; false if that is taken, there is no such number, or the method is in use already.
    pub fn add(&mut self, number: u8, method: Group) -> bool {
        let known = self.0.contains(&Some(method));
        match usize::from(number).checked_sub(1).and_then(|at| self.0.get_mut(at)) {
            Some(slot @ None) if !known => {
                *slot = Some(method);
                true
            }
            _ => false,
        }
    }

    /// The methods, in their order.
    pub fn methods(self) -> impl Iterator<Item = Group> {
        self.0.into_iter().flatten()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// As they are offered.
    pub(crate) fn transforms(self) -> impl Iterator<Item = Transform> {
        (1u8..).zip(self.0).filter_map(|(number, method)| {
            Some(Transform::new(TransformId::AdditionalKe { number, method: method?.id() }))
        })
    }
}

impl fmt::Display for Additional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (1u8..).zip(self.0).try_for_each(|(number, method)| match method {
            Some(method) => write!(f, "-ke{number}_{method}"),
            None => Ok(()),
        })
    }
}

/// What an IKE SA uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IkeSuite {
    /// Protects its messages.
    pub cipher: Cipher,
    /// Derives its keys and proves PSKs.
    pub prf: PrfAlgorithm,
    /// Exchanges its secret.
    pub group: Group,
    /// Exchange further secrets that are mixed in.
    pub additional: Additional,
}

impl fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}{}", self.cipher, self.prf, self.group, self.additional)
    }
}

/// What a child SA uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EspSuite {
    /// Protects its packets.
    pub cipher: Cipher,
    /// Whether sequence numbers have 64 bits.
    pub esn: bool,
    /// The group of its own key exchange, if it has one (forward secrecy).
    pub group: Option<Group>,
    /// Further key exchanges, if it has a first one.
    pub additional: Additional,
}

impl fmt::Display for EspSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cipher.fmt(f)?;
        self.group.map_or(Ok(()), |group| write!(f, "-{group}"))?;
        self.additional.fmt(f)?;
        f.write_str(if self.esn { "-esn" } else { "-noesn" })
    }
}
