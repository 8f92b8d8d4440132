//! Suites on their way: from the configuration to the IKE engine, and from there to the packet path.
//!
//! Each has types of its own, since none may depend on the other; a suite that one of them learns makes this file fail to
//! compile until it says what that is to the others.

use config::model;
use ike_crypto::{
    Additional, Aead, AesCbc, Cipher, EsnPolicy, EspProposal, Group, HmacAlgorithm, IkeProposal, PrfAlgorithm,
};

/// What the engine offers for an `ike` suite.
pub(crate) fn ike_proposal(suite: &model::IkeSuite) -> IkeProposal {
    let prf = match suite.prf {
        model::Prf::HmacSha256 => PrfAlgorithm::HmacSha256,
        model::Prf::HmacSha384 => PrfAlgorithm::HmacSha384,
        model::Prf::HmacSha512 => PrfAlgorithm::HmacSha512,
    };
    IkeProposal {
        ciphers: cipher(suite.cipher).into(),
        prfs: vec![prf],
        groups: vec![group(suite.group)],
        additional: additional(suite.additional),
    }
}

/// What the engine offers for an `esp` suite.
pub(crate) fn esp_proposal(suite: &model::EspSuite) -> EspProposal {
    let esn = match suite.esn {
        model::Esn::Preferred => EsnPolicy::Prefer,
        model::Esn::Required => EsnPolicy::Require,
        model::Esn::Off => EsnPolicy::Never,
    };
    EspProposal {
        ciphers: cipher(suite.cipher).into(),
        groups: suite.group.map(group).into_iter().collect(),
        additional: additional(suite.additional),
        esn,
    }
}

fn cipher(cipher: model::Cipher) -> Cipher {
    match cipher {
        model::Cipher::Aead(aead) => Cipher::Aead(match aead {
            model::Aead::Aes128Gcm16 => Aead::Aes128Gcm16,
            model::Aead::Aes256Gcm16 => Aead::Aes256Gcm16,
            model::Aead::ChaCha20Poly1305 => Aead::ChaCha20Poly1305,
        }),
        model::Cipher::Cbc(aes, integrity) => {
            let aes = match aes {
                model::AesCbc::Aes128 => AesCbc::Aes128,
                model::AesCbc::Aes192 => AesCbc::Aes192,
                model::AesCbc::Aes256 => AesCbc::Aes256,
            };
            let hmac = match integrity {
                model::Integrity::HmacSha256 => HmacAlgorithm::Sha256,
                model::Integrity::HmacSha384 => HmacAlgorithm::Sha384,
                model::Integrity::HmacSha512 => HmacAlgorithm::Sha512,
            };
            Cipher::Cbc(aes, hmac)
        }
    }
}

fn group(group: model::Group) -> Group {
    match group {
        model::Group::Curve25519 => Group::X25519,
        model::Group::Ecp256 => Group::Ecp256,
        model::Group::Ecp384 => Group::Ecp384,
        model::Group::Ecp521 => Group::Ecp521,
        model::Group::Modp2048 => Group::Modp2048,
        model::Group::Modp3072 => Group::Modp3072,
        model::Group::Modp4096 => Group::Modp4096,
    }
}

fn additional(configured: model::Additional) -> Additional {
    let mut additional = Additional::NONE;
    for (number, kem) in configured.iter() {
        let method = match kem {
            model::Kem::MlKem768 => Group::MlKem768,
            model::Kem::MlKem1024 => Group::MlKem1024,
        };
        let added = additional.add(number, method);
        debug_assert!(added, "checked with the configuration");
    }
    additional
}

/// The ciphers that the child SAs of a tunnel may come to use.
pub(crate) fn packet_ciphers(config: &model::Config, tunnel: &model::Tunnel) -> Vec<esp::Cipher> {
    let named = tunnel.proposal.as_ref().and_then(|name| config.proposals.get(name));
    let suites = named.cloned().unwrap_or_default().esp;
    suites.iter().map(|suite| packet_cipher(cipher(suite.cipher))).collect()
}

/// What the packet path calls a negotiated cipher.
pub(crate) fn packet_cipher(cipher: Cipher) -> esp::Cipher {
    match cipher {
        Cipher::Aead(Aead::Aes128Gcm16) => esp::Cipher::Aes128Gcm16,
        Cipher::Aead(Aead::Aes256Gcm16) => esp::Cipher::Aes256Gcm16,
        Cipher::Aead(Aead::ChaCha20Poly1305) => esp::Cipher::ChaCha20Poly1305,
        Cipher::Cbc(aes, hmac) => {
            let size = match aes {
                AesCbc::Aes128 => esp::AesKeySize::Bits128,
                AesCbc::Aes192 => esp::AesKeySize::Bits192,
                AesCbc::Aes256 => esp::AesKeySize::Bits256,
            };
            let hmac = match hmac {
                HmacAlgorithm::Sha256 => esp::Hmac::Sha256,
                HmacAlgorithm::Sha384 => esp::Hmac::Sha384,
                HmacAlgorithm::Sha512 => esp::Hmac::Sha512,
            };
            esp::Cipher::AesCbc(size, hmac)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_keep_their_names_all_the_way() {
        for text in [
            "aes256gcm16-prfsha384-x25519",
            "aes256-sha256-modp2048",
            "aes192-sha512-prfsha256-ecp521",
            "aes256gcm16-prfsha384-x25519-ke1_mlkem768",
        ] {
            assert_eq!(ike_proposal(&text.parse().unwrap()).to_string(), text);
        }
        for text in [
            "aes128gcm16-ecp256-esn",
            "aes128-sha384-modp4096-noesn",
            "chacha20poly1305",
            "aes256gcm16-ecp384-ke2_mlkem1024",
        ] {
            assert_eq!(esp_proposal(&text.parse().unwrap()).to_string(), text);
        }
    }

    #[test]
    fn both_sides_cut_key_material_alike() {
        let cbc = AesCbc::ALL.into_iter().flat_map(|aes| HmacAlgorithm::ALL.map(|hmac| Cipher::Cbc(aes, hmac)));
        for cipher in Aead::ALL.into_iter().map(Cipher::Aead).chain(cbc) {
            let packets = packet_cipher(cipher);
            assert_eq!(packets.keymat_len(), cipher.encryption_len() + cipher.integrity_len());
            assert_eq!(packets.to_string(), cipher.to_string());
        }
    }
}
