//! The combined-mode ciphers of ESP and their keys (RFC 4106, RFC 7634).

use std::fmt;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::{ICV_LEN, IV_LEN};

/// A cipher that encrypts and authenticates in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// AES-GCM with a 128-bit key and a 16-octet ICV (RFC 4106).
    Aes128Gcm16,
    /// AES-GCM with a 256-bit key and a 16-octet ICV (RFC 4106).
    Aes256Gcm16,
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305,
}

/// Octets of salt that follow the key in KEYMAT (RFC 4106 §8.1, RFC 7634 §2).
const SALT_LEN: usize = 4;

impl Cipher {
    /// Octets of KEYMAT for one direction: the key, then the salt.
    pub fn keymat_len(self) -> usize {
        self.key_len() + SALT_LEN
    }

    fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm16 => 16,
            Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => 32,
        }
    }

    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm16 => &aead::AES_128_GCM,
            Self::Aes256Gcm16 => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes128Gcm16 => "aes128gcm16",
            Self::Aes256Gcm16 => "aes256gcm16",
            Self::ChaCha20Poly1305 => "chacha20poly1305",
        })
    }
}

/// Key and salt of one direction. Wiped when dropped, never shown.
pub struct Keymat {
    cipher: Cipher,
    octets: Zeroizing<Vec<u8>>,
}

/// The key material has another length than the cipher wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cipher} takes {expected} octets of key material (key and 4 octets of salt), got {found}")]
pub struct KeyMaterialLength {
    cipher: Cipher,
    expected: usize,
    found: usize,
}

impl Keymat {
    /// Takes the material for `cipher`: the key followed by the salt.
    ///
    /// # Errors
    /// When the length is not [`Cipher::keymat_len`].
    pub fn new(cipher: Cipher, octets: impl Into<Zeroizing<Vec<u8>>>) -> Result<Self, KeyMaterialLength> {
        let octets = octets.into();
        let (expected, found) = (cipher.keymat_len(), octets.len());
        if expected == found { Ok(Self { cipher, octets }) } else { Err(KeyMaterialLength { cipher, expected, found }) }
    }

    /// The cipher that it is for.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }
}

impl fmt::Debug for Keymat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keymat({}, …)", self.cipher)
    }
}

/// A key ready for use. The library wipes its schedule when dropped.
pub(crate) struct Key {
    cipher: Cipher,
    key: LessSafeKey,
    salt: [u8; SALT_LEN],
}

/// The ICV did not match.
pub(crate) struct Forged;

impl Key {
    pub(crate) fn new(material: &Keymat) -> Self {
        let Keymat { cipher, octets } = material;
        let (key, salt) = octets.split_at(cipher.key_len());
        let key = UnboundKey::new(cipher.algorithm(), key).expect("Keymat::new checked the length");
        let salt = salt.try_into().expect("Keymat::new checked the length");
        Self { cipher: *cipher, key: LessSafeKey::new(key), salt }
    }

    pub(crate) fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// Salt and explicit IV (RFC 4106 §4, RFC 7634 §2).
    fn nonce(&self, iv: [u8; IV_LEN]) -> Nonce {
        let mut nonce = [0; aead::NONCE_LEN];
        let (salt, rest) = nonce.split_at_mut(SALT_LEN);
        salt.copy_from_slice(&self.salt);
        rest.copy_from_slice(&iv);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts `text` in place and returns the ICV.
    pub(crate) fn seal(&self, iv: [u8; IV_LEN], aad: &[u8], text: &mut [u8]) -> [u8; ICV_LEN] {
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(iv), Aad::from(aad), text)
            .expect("the cipher refuses only texts of 2^36 octets and more");
        tag.as_ref().try_into().expect("all three ciphers have a tag of 16 octets")
    }

    /// Decrypts in place a text that its ICV follows; the ICV's octets are left as rubbish.
    pub(crate) fn open(&self, iv: [u8; IV_LEN], aad: &[u8], text_and_icv: &mut [u8]) -> Result<(), Forged> {
        self.key.open_in_place(self.nonce(iv), Aad::from(aad), text_and_icv).map(|_| ()).map_err(|_| Forged)
    }
}

/// What is authenticated beside the ciphertext: SPI and sequence number, with its high half in between when it is
/// extended (RFC 4106 §5, RFC 7634 §2.1, RFC 4303 §2.2.1: that half is not sent).
pub(crate) struct AssociatedData {
    octets: [u8; 12],
    length: usize,
}

impl AssociatedData {
    pub(crate) fn new(spi: u32, sequence: u64, esn: bool) -> Self {
        let mut octets = [0; 12];
        let (spi_part, rest) = octets.split_at_mut(4);
        spi_part.copy_from_slice(&spi.to_be_bytes());
        if esn {
            rest.copy_from_slice(&sequence.to_be_bytes());
            Self { octets, length: 12 }
        } else {
            rest[..4].copy_from_slice(&low(sequence).to_be_bytes());
            Self { octets, length: 8 }
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

/// The 32 bits of a sequence number that travel.
pub(crate) fn low(sequence: u64) -> u32 {
    (sequence & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn material_of_another_length_is_refused_by_name() {
        let error = Keymat::new(Cipher::Aes256Gcm16, vec![0; 20]).unwrap_err();
        assert_eq!(error.to_string(), "aes256gcm16 takes 36 octets of key material (key and 4 octets of salt), got 20");
        assert_eq!(format!("{:?}", Keymat::new(Cipher::Aes128Gcm16, vec![7; 20]).unwrap()), "Keymat(aes128gcm16, …)");
    }
}
