//! Key exchange over Curve25519, the NIST curves and MODP groups (RFC 8031, RFC 5903, RFC 3526), and by ML-KEM (FIPS 203,
//! draft-ietf-ipsecme-ikev2-mlkem): there the initiator's value is an encapsulation key, the responder's a ciphertext.

use std::fmt;

use aws_lc_rs::{
    agreement::{self, PrivateKey, UnparsedPublicKey},
    kem::{self, AlgorithmId, Ciphertext, DecapsulationKey, EncapsulationKey},
};
use ike_wire::{DhGroup, KeyExchange};
use rand::RngCore;
use zeroize::Zeroizing;

use crate::{
    modp::{EXPONENT_LEN, MODP_2048, MODP_3072, MODP_4096, Prime},
    secret::SecretBytes,
    suite::Group,
};

/// First octet of an uncompressed point, which IKE leaves out (RFC 5903 §7).
const UNCOMPRESSED: u8 = 4;

/// Our half of an exchange.
pub struct DhKey {
    group: Group,
    private: Private,
    public: Vec<u8>,
}

enum Private {
    /// The library wipes it.
    Curve(PrivateKey),
    Modp(&'static Prime, Zeroizing<[u8; EXPONENT_LEN]>),
    /// The library wipes it.
    Kem(DecapsulationKey<AlgorithmId>),
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
    /// The peer's value has the wrong length, is not on the curve or in the range, or yields zero.
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

/// What the arithmetic of a group is done with.
enum Arithmetic {
    Curve { algorithm: &'static agreement::Algorithm, private_len: usize, point_format: bool },
    Modp(&'static Prime),
    Kem(&'static kem::Algorithm<AlgorithmId>),
}

impl Group {
    fn arithmetic(self) -> Arithmetic {
        let nist = |algorithm, private_len| Arithmetic::Curve { algorithm, private_len, point_format: true };
        match self {
            Self::X25519 => Arithmetic::Curve { algorithm: &agreement::X25519, private_len: 32, point_format: false },
            Self::Ecp256 => nist(&agreement::ECDH_P256, 32),
            Self::Ecp384 => nist(&agreement::ECDH_P384, 48),
            Self::Ecp521 => nist(&agreement::ECDH_P521, 66),
            Self::Modp2048 => Arithmetic::Modp(&MODP_2048),
            Self::Modp3072 => Arithmetic::Modp(&MODP_3072),
            Self::Modp4096 => Arithmetic::Modp(&MODP_4096),
            Self::MlKem768 => Arithmetic::Kem(&kem::ML_KEM_768),
            Self::MlKem1024 => Arithmetic::Kem(&kem::ML_KEM_1024),
        }
    }

    /// Octets of the initiator's value in a KE payload, which for all but ML-KEM is also the responder's.
    pub fn public_len(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::Ecp256 => 64,
            Self::Ecp384 => 96,
            Self::Ecp521 => 132,
            Self::Modp2048 => 256,
            Self::Modp3072 => 384,
            Self::Modp4096 => 512,
            Self::MlKem768 => 1184,
            Self::MlKem1024 => 1568,
        }
    }

    /// Octets of the responder's value in a KE payload.
    pub fn response_len(self) -> usize {
        match self {
            Self::MlKem768 => 1088,
            Self::MlKem1024 => 1568,
            other => other.public_len(),
        }
    }
}

impl DhKey {
    /// A fresh key from the generator's octets. Values that are no scalar of the group are drawn again.
    pub fn generate(group: Group, rng: &mut dyn RngCore) -> Result<Self, DhError> {
        let private_len = match group.arithmetic() {
            Arithmetic::Curve { private_len, .. } => private_len,
            Arithmetic::Modp(_) => EXPONENT_LEN,
            Arithmetic::Kem(algorithm) => return Self::generate_kem(group, algorithm),
        };
        let mut scalar = Zeroizing::new(vec![0; private_len]);
        // A draw misses with probability below 2^-32: eight in a row mean a broken generator.
        for _ in 0..8 {
            rng.fill_bytes(&mut scalar);
            if let (Group::Ecp521, Some(first)) = (group, scalar.first_mut()) {
                *first &= 1; // 521 bits in 66 octets
            }
            if let Ok(key) = Self::from_scalar(group, &scalar) {
                return Ok(key);
            }
        }
        Err(DhError::Generate(group))
    }

    /// Here the library insists on its own randomness.
    fn generate_kem(group: Group, algorithm: &'static kem::Algorithm<AlgorithmId>) -> Result<Self, DhError> {
        let failed = |_| DhError::Generate(group);
        let private = DecapsulationKey::generate(algorithm).map_err(failed)?;
        let public = private.encapsulation_key().and_then(|key| key.key_bytes()).map_err(failed)?;
        let public = public.as_ref().to_vec();
        Ok(Self { group, private: Private::Kem(private), public })
    }

    /// The responder's part: its value for the KE payload, and the secret.
    ///
    /// # Errors
    /// As [`Self::generate`] and [`Self::agree`].
    pub fn respond(
        group: Group,
        peer: &KeyExchange,
        rng: &mut dyn RngCore,
    ) -> Result<(KeyExchange, SecretBytes), DhError> {
        let Arithmetic::Kem(algorithm) = group.arithmetic() else {
            let key = Self::generate(group, rng)?;
            let shared = key.agree(peer)?;
            return Ok((key.payload(), shared));
        };
        if peer.group != group.id() {
            return Err(DhError::Group { found: peer.group, expected: group });
        }
        let refused = DhError::PeerValue { group, octets: peer.public.len() };
        if peer.public.len() != group.public_len() {
            return Err(refused);
        }
        // FIPS 203 §7.2: the library checks that the key is made of reduced numbers.
        let key = EncapsulationKey::new(algorithm, &peer.public).map_err(|_| refused)?;
        let (ciphertext, secret) = key.encapsulate().map_err(|_| refused)?;
        let answer = KeyExchange { group: group.id(), public: ciphertext.as_ref().to_vec() };
        Ok((answer, SecretBytes::from(secret.as_ref().to_vec())))
    }

    fn from_scalar(group: Group, scalar: &[u8]) -> Result<Self, DhError> {
        match group.arithmetic() {
            Arithmetic::Curve { algorithm, point_format, .. } => {
                let private = PrivateKey::from_private_key(algorithm, scalar).map_err(|_| DhError::Generate(group))?;
                let public = private.compute_public_key().map_err(|_| DhError::Generate(group))?;
                let public = match public.as_ref() {
                    [UNCOMPRESSED, point @ ..] if point_format => point.to_vec(),
                    raw => raw.to_vec(),
                };
                Ok(Self { group, private: Private::Curve(private), public })
            }
            Arithmetic::Modp(prime) => {
                let mut exponent = Zeroizing::new([0; EXPONENT_LEN]);
                if scalar.len() != EXPONENT_LEN {
                    return Err(DhError::Generate(group));
                }
                exponent.copy_from_slice(scalar);
                let public = prime.public(&exponent);
                Ok(Self { group, private: Private::Modp(prime, exponent), public })
            }
            Arithmetic::Kem(_) => Err(DhError::Generate(group)), // it has no scalars
        }
    }

    /// The group.
    pub fn group(&self) -> Group {
        self.group
    }

    /// Our public value, as it goes to the peer.
    pub fn payload(&self) -> KeyExchange {
        KeyExchange { group: self.group.id(), public: self.public.clone() }
    }

    /// The shared secret. The peer's value is checked to be on the curve, or in the range of the prime, and a curve's
    /// result not to be zero (RFC 6989 §2, RFC 8031 §2.1).
    pub fn agree(&self, peer: &KeyExchange) -> Result<SecretBytes, DhError> {
        if peer.group != self.group.id() {
            return Err(DhError::Group { found: peer.group, expected: self.group });
        }
        let refused = DhError::PeerValue { group: self.group, octets: peer.public.len() };
        if peer.public.len() != self.group.response_len() {
            return Err(refused);
        }
        match (&self.private, self.group.arithmetic()) {
            (Private::Modp(prime, exponent), _) => {
                prime.shared(&peer.public, exponent).map(SecretBytes::from).ok_or(refused)
            }
            (Private::Curve(private), Arithmetic::Curve { algorithm, point_format, .. }) => {
                let mut point = Vec::with_capacity(peer.public.len() + 1);
                if point_format {
                    point.push(UNCOMPRESSED);
                }
                point.extend_from_slice(&peer.public);
                let public = UnparsedPublicKey::new(algorithm, point);
                agreement::agree(private, public, refused, |secret| Ok(SecretBytes::new(secret.to_vec())))
            }
            // A ciphertext that was changed yields another secret (FIPS 203 §6.3), and the peers do not understand each other.
            (Private::Kem(private), _) => {
                let secret = private.decapsulate(Ciphertext::from(&peer.public[..])).map_err(|_| refused)?;
                Ok(SecretBytes::from(secret.as_ref().to_vec()))
            }
            (Private::Curve(_), Arithmetic::Modp(_) | Arithmetic::Kem(_)) => Err(refused),
        }
    }
}

impl fmt::Debug for DhKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DhKey({})", self.group)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::testing::hex;

    /// Private values of both sides, their public values, the secret.
    fn agrees_on(group: Group, [i, r, public_i, public_r, secret]: [&str; 5]) {
        let initiator = DhKey::from_scalar(group, &hex(i)).unwrap();
        let responder = DhKey::from_scalar(group, &hex(r)).unwrap();
        assert_eq!(initiator.payload(), KeyExchange { group: group.id(), public: hex(public_i) });
        assert_eq!(responder.payload(), KeyExchange { group: group.id(), public: hex(public_r) });
        assert_eq!(initiator.agree(&responder.payload()).unwrap().expose(), hex(secret));
        assert_eq!(responder.agree(&initiator.payload()).unwrap().expose(), hex(secret));
    }

    #[test] // RFC 7748 §6.1
    fn x25519_gives_what_the_rfc_gives() {
        agrees_on(
            Group::X25519,
            [
                "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
                "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
                "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
                "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
                "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
            ],
        );
    }

    #[test] // RFC 5903 §8.1
    fn p256_gives_what_the_rfc_gives() {
        agrees_on(
            Group::Ecp256,
            [
                "C88F01F5 10D9AC3F 70A292DA A2316DE5 44E9AAB8 AFE84049 C62A9C57 862D1433",
                "C6EF9C5D 78AE012A 011164AC B397CE20 88685D8F 06BF9BE0 B283AB46 476BEE53",
                "DAD0B653 94221CF9 B051E1FE CA5787D0 98DFE637 FC90B9EF 945D0C37 72581180
                 5271A046 1CDB8252 D61F1C45 6FA3E59A B1F45B33 ACCF5F58 389E0577 B8990BB3",
                "D12DFB52 89C8D4F8 1208B702 70398C34 2296970A 0BCCB74C 736FC755 4494BF63
                 56FBF3CA 366CC23E 8157854C 13C58D6A AC23F046 ADA30F83 53E74F33 039872AB",
                "D6840F6B 42F6EDAF D13116E0 E1256520 2FEF8E9E CE7DCE03 812464D0 4B9442DE",
            ],
        );
    }

    #[test] // RFC 5903 §8.2
    fn p384_gives_what_the_rfc_gives() {
        agrees_on(
            Group::Ecp384,
            [
                "099F3C70 34D4A2C6 99884D73 A375A67F 7624EF7C 6B3C0F16 0647B674 14DCE655 E35B5380 41E649EE 3FAEF896
                 783AB194",
                "41CB0779 B4BDB85D 47846725 FBEC3C94 30FAB46C C8DC5060 855CC9BD A0AA2942 E0308312 916B8ED2 960E4BD5
                 5A7448FC",
                "667842D7 D180AC2C DE6F74F3 7551F557 55C7645C 20EF73E3 1634FE72 B4C55EE6 DE3AC808 ACB4BDB4 C88732AE
                 E95F41AA 9482ED1F C0EEB9CA FC498462 5CCFC23F 65032149 E0E144AD A0241815 35A0F38E EB9FCFF3 C2C947DA
                 E69B4C63 4573A81C",
                "E558DBEF 53EECDE3 D3FCCFC1 AEA08A89 A987475D 12FD950D 83CFA417 32BC509D 0D1AC43A 0336DEF9 6FDA41D0
                 774A3571 DCFBEC7A ACF31964 72169E83 8430367F 66EEBE3C 6E70C416 DD5F0C68 759DD1FF F83FA401 42209DFF
                 5EAAD96D B9E6386C",
                "11187331 C279962D 93D60424 3FD592CB 9D0A926F 422E4718 7521287E 7156C5C4 D6031355 69B9E9D0 9CF5D4A2
                 70F59746",
            ],
        );
    }

    #[test] // RFC 5903 §8.3
    fn p521_gives_what_the_rfc_gives() {
        agrees_on(
            Group::Ecp521,
            [
                "0037ADE9 319A89F4 DABDB3EF 411AACCC A5123C61 ACAB57B5 393DCE47 608172A0 95AA85A3 0FE1C295 2C6771D9 37BA9777
                 F5957B26 39BAB072 462F68C2 7A57382D 4A52",
                "0145BA99 A847AF43 793FDD0E 872E7CDF A16BE30F DC780F97 BCCC3F07 8380201E 9C677D60 0B343757 A3BDBF2A 3163E4C2
                 F869CCA7 458AA4A4 EFFC311F 5CB15168 5EB9",
                "0015417E 84DBF28C 0AD3C278 713349DC 7DF153C8 97A1891B D98BAB43 57C9ECBE E1E3BF42 E00B8E38 0AEAE57C 2D107564
                 94188594 2AF5A7F4 601723C4 195D176C ED3E
                 017CAE20 B6641D2E EB695786 D8C94614 6239D099 E18E1D5A 514C739D 7CB4A10A D8A78801 5AC405D7 799DC75E 7B7D5B6C
                 F2261A6A 7F150743 8BF01BEB 6CA3926F 9582",
                "00D0B397 5AC4B799 F5BEA16D 5E13E9AF 971D5E9B 984C9F39 728B5E57 39735A21 9B97C356 436ADC6E 95BB0352 F6BE64A6
                 C2912D4E F2D0433C ED2B6171 640012D9 460F
                 015C6822 6383956E 3BD066E7 97B623C2 7CE0EAC2 F551A10C 2C724D98 52077B87 220B6536 C5C408A1 D2AEBB8E 86D678AE
                 49CB5709 1F473229 6579AB44 FCD17F0F C56A",
                "01144C7D 79AE6956 BC8EDB8E 7C787C45 21CB086F A64407F9 7894E5E6 B2D79B04 D1427E73 CA4BAA24 0A347868 59810C06
                 B3C715A3 A8CC3151 F2BEE417 996D19F3 DDEA",
            ],
        );
    }

    #[test]
    fn the_two_ends_of_every_group_agree() {
        let mut rng = StdRng::seed_from_u64(9);
        for group in Group::ALL {
            let key = DhKey::generate(group, &mut rng).unwrap();
            let (answer, secret) = DhKey::respond(group, &key.payload(), &mut rng).unwrap();
            assert_eq!(secret, key.agree(&answer).unwrap(), "{group}");
            assert_eq!(key.payload().public.len(), group.public_len());
            assert_eq!(answer.public.len(), group.response_len());
            let mut short = key.payload();
            short.public.pop();
            let octets = short.public.len();
            let refused = DhKey::respond(group, &short, &mut rng).unwrap_err();
            assert_eq!(refused, DhError::PeerValue { group, octets });
        }
    }

    #[test]
    fn encapsulation_keys_out_of_range_are_refused_and_changed_ciphertexts_agree_on_nothing() {
        let mut rng = StdRng::seed_from_u64(9);
        for group in [Group::MlKem768, Group::MlKem1024] {
            let octets = group.public_len();
            let beyond = KeyExchange { group: group.id(), public: vec![0xff; octets] };
            assert_eq!(DhKey::respond(group, &beyond, &mut rng).unwrap_err(), DhError::PeerValue { group, octets });
            let key = DhKey::generate(group, &mut rng).unwrap();
            let (mut answer, secret) = DhKey::respond(group, &key.payload(), &mut rng).unwrap();
            answer.public[7] ^= 1;
            assert_ne!(key.agree(&answer).unwrap(), secret);
        }
    }

    #[test]
    fn bad_public_values_are_refused() {
        for group in Group::ALL.into_iter().filter(|group| group.may_be_first()) {
            let key = DhKey::generate(group, &mut StdRng::seed_from_u64(1)).unwrap();
            let with = |public: Vec<u8>| key.agree(&KeyExchange { group: group.id(), public });
            let good = key.payload().public;
            assert!(with(good.clone()).is_ok());
            let zero = vec![0; good.len()];
            let octets = good.len();
            assert_eq!(with(zero), Err(DhError::PeerValue { group, octets }), "off the curve, or a zero secret");
            for len in [0, 1, octets - 1, octets + 1] {
                let refused = with(good.iter().copied().cycle().take(len).collect());
                assert_eq!(refused, Err(DhError::PeerValue { group, octets: len }), "{group}");
            }
            let other = KeyExchange { group: DhGroup::Modp1024, public: good };
            assert_eq!(key.agree(&other), Err(DhError::Group { found: DhGroup::Modp1024, expected: group }));
        }
    }

    #[test]
    fn a_seed_replays_a_key() {
        let key = |seed| DhKey::generate(Group::Ecp384, &mut StdRng::seed_from_u64(seed)).unwrap().payload();
        assert_eq!(key(7), key(7));
        assert_ne!(key(7), key(8));
    }
}
