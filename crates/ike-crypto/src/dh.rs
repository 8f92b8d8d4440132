//! Key exchange over Curve25519, P-256 and P-384 (RFC 8031, RFC 5903).

use std::fmt;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use ike_wire::{DhGroup, KeyExchange};
use rand::RngCore;
use zeroize::Zeroizing;

use crate::{secret::SecretBytes, suite::Group};

/// First octet of an uncompressed point, which IKE leaves out (RFC 5903 §7).
const UNCOMPRESSED: u8 = 4;

/// Our half of an exchange.
pub struct DhKey {
    group: Group,
    private: PrivateKey,
    public: Vec<u8>,
}

/// A key exchange that cannot be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DhError {
    /// The peer's value is for another group; INVALID_KE_PAYLOAD is due.
    #[error("the peer's key exchange is for group {found}, expected {expected}")]
    Group {
        /// The group of the KE payload.
        found: DhGroup,
        /// The one negotiated.
        expected: Group,
    },
    /// The peer's value has the wrong length, is not on the curve, or yields zero.
    #[error("the peer's public value of {octets} octets is not valid in {group} (RFC 6989)")]
    PeerValue {
        /// The group.
        group: Group,
        /// Its length.
        octets: usize,
    },
    /// The generator or the library failed.
    #[error("cannot make a key for {0}")]
    Generate(Group),
}

impl Group {
    fn algorithm(self) -> &'static agreement::Algorithm {
        match self {
            Self::X25519 => &agreement::X25519,
            Self::Ecp256 => &agreement::ECDH_P256,
            Self::Ecp384 => &agreement::ECDH_P384,
        }
    }

    /// Octets of a private value.
    fn private_len(self) -> usize {
        match self {
            Self::X25519 | Self::Ecp256 => 32,
            Self::Ecp384 => 48,
        }
    }

    /// Octets of a public value in a KE payload.
    pub fn public_len(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::Ecp256 => 64,
            Self::Ecp384 => 96,
        }
    }

    fn has_point_format(self) -> bool {
        match self {
            Self::X25519 => false,
            Self::Ecp256 | Self::Ecp384 => true,
        }
    }
}

impl DhKey {
    /// A fresh key from the generator's octets. Values that are no scalar of the group are drawn again.
    pub fn generate(group: Group, rng: &mut dyn RngCore) -> Result<Self, DhError> {
        let mut scalar = Zeroizing::new(vec![0; group.private_len()]);
        // A P-256 or P-384 draw misses with probability below 2^-32: eight in a row mean a broken generator.
        for _ in 0..8 {
            rng.fill_bytes(&mut scalar);
            if let Ok(key) = Self::from_scalar(group, &scalar) {
                return Ok(key);
            }
        }
        Err(DhError::Generate(group))
    }

    fn from_scalar(group: Group, scalar: &[u8]) -> Result<Self, DhError> {
        let private = PrivateKey::from_private_key(group.algorithm(), scalar).map_err(|_| DhError::Generate(group))?;
        let public = private.compute_public_key().map_err(|_| DhError::Generate(group))?;
        let public = match public.as_ref() {
            [UNCOMPRESSED, point @ ..] if group.has_point_format() => point.to_vec(),
            raw => raw.to_vec(),
        };
        Ok(Self { group, private, public })
    }

    /// The group.
    pub fn group(&self) -> Group {
        self.group
    }

    /// Our public value, as it goes to the peer.
    pub fn payload(&self) -> KeyExchange {
        KeyExchange { group: self.group.id(), public: self.public.clone() }
    }

    /// The shared secret. The peer's point is checked to be on the curve and the result not to be zero (RFC 6989 §2,
    /// RFC 8031 §2.1).
    pub fn agree(&self, peer: &KeyExchange) -> Result<SecretBytes, DhError> {
        if peer.group != self.group.id() {
            return Err(DhError::Group { found: peer.group, expected: self.group });
        }
        let refused = DhError::PeerValue { group: self.group, octets: peer.public.len() };
        if peer.public.len() != self.group.public_len() {
            return Err(refused);
        }
        let mut point = Vec::with_capacity(peer.public.len() + 1);
        if self.group.has_point_format() {
            point.push(UNCOMPRESSED);
        }
        point.extend_from_slice(&peer.public);
        let public = UnparsedPublicKey::new(self.group.algorithm(), point);
        agreement::agree(&self.private, public, refused, |secret| Ok(SecretBytes::new(secret.to_vec())))
    }
}

impl fmt::Debug for DhKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DhKey({})", self.group)
    }
}
