//! The ciphers of ESP, their sizes and their keys (RFC 4106, RFC 7634; RFC 3602 with RFC 4868).

use std::fmt;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::{
    HEADER_LEN, HEADROOM, ICV_LEN, IV_LEN, TRAILER_LEN,
    cbc::{AesKeySize, BLOCK, CbcKey, Hmac},
};

/// What encrypts and authenticates: a combined-mode cipher, or two algorithms one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// AES-GCM with a 128-bit key and a 16-octet ICV (RFC 4106).
    Aes128Gcm16,
    /// AES-GCM with a 256-bit key and a 16-octet ICV (RFC 4106).
    Aes256Gcm16,
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305,
    /// AES-CBC (RFC 3602), authenticated by HMAC-SHA-2 (RFC 4868).
    AesCbc(AesKeySize, Hmac),
}

/// Octets of salt that follow the key in KEYMAT (RFC 4106 §8.1, RFC 7634 §2).
const SALT_LEN: usize = 4;

impl Cipher {
    /// Octets of KEYMAT for one direction: the key, then the salt or the integrity key.
    pub fn keymat_len(self) -> usize {
        match self {
            Self::Aes128Gcm16 => 16 + SALT_LEN,
            Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => 32 + SALT_LEN,
            Self::AesCbc(size, hmac) => size.octets() + hmac.key_len(),
        }
    }

    /// Octets of the ESP packet around an inner packet of `inner` octets.
    pub fn sealed_len(self, inner: usize) -> usize {
        let Sizes { before, multiple, icv } = self.sizes();
        before + (inner + TRAILER_LEN).next_multiple_of(multiple) + icv
    }

    /// The largest inner packet whose ESP packet fits in `room` octets.
    pub fn inner_capacity(self, room: usize) -> usize {
        let Sizes { before, multiple, icv } = self.sizes();
        let text = room.saturating_sub(before + icv);
        (text - text % multiple).saturating_sub(TRAILER_LEN)
    }

    pub(crate) fn sizes(self) -> Sizes {
        match self {
            Self::Aes128Gcm16 | Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => {
                Sizes { before: HEADROOM, multiple: 4, icv: ICV_LEN }
            }
            Self::AesCbc(_, hmac) => Sizes { before: HEADER_LEN + BLOCK, multiple: BLOCK, icv: hmac.icv_len() },
        }
    }
}

/// The form of a cipher's packets.
pub(crate) struct Sizes {
    /// Octets before the text: header and IV.
    pub(crate) before: usize,
    /// What the text with its trailer is padded to a multiple of (RFC 4303 §2.4), in octets.
    pub(crate) multiple: usize,
    /// Octets behind the text.
    pub(crate) icv: usize,
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes128Gcm16 => "aes128gcm16",
            Self::Aes256Gcm16 => "aes256gcm16",
            Self::ChaCha20Poly1305 => "chacha20poly1305",
            Self::AesCbc(size, hmac) => return write!(f, "{size}-{hmac}"),
        })
    }
}

/// Key of one direction, and its salt or integrity key. Wiped when dropped, never shown.
pub struct Keymat {
    cipher: Cipher,
    octets: Zeroizing<Vec<u8>>,
}

/// The key material has another length than the cipher wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cipher} takes {expected} octets of key material (key, then salt or integrity key), got {found}")]
pub struct KeyMaterialLength {
    cipher: Cipher,
    expected: usize,
    found: usize,
}

impl Keymat {
    /// Takes the material for `cipher`: the key followed by the salt, or by the integrity key.
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

    /// The material itself, for a packet path outside of this process: not to be copied, kept or shown.
    pub fn expose(&self) -> &[u8] {
        &self.octets
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
    schedule: Schedule,
}

/// What sealing and opening is done with.
pub(crate) enum Schedule {
    /// A combined-mode cipher.
    Aead(AeadKey),
    /// Two algorithms one after the other.
    Cbc(Box<CbcKey>),
}

/// The key of a combined-mode cipher.
pub(crate) struct AeadKey {
    key: LessSafeKey,
    salt: [u8; SALT_LEN],
}

/// The ICV did not match.
pub(crate) struct Forged;

impl Key {
    pub(crate) fn new(material: &Keymat) -> Self {
        let Keymat { cipher, octets } = material;
        let schedule = match cipher {
            Cipher::Aes128Gcm16 => AeadKey::new(&aead::AES_128_GCM, octets).map(Schedule::Aead),
            Cipher::Aes256Gcm16 => AeadKey::new(&aead::AES_256_GCM, octets).map(Schedule::Aead),
            Cipher::ChaCha20Poly1305 => AeadKey::new(&aead::CHACHA20_POLY1305, octets).map(Schedule::Aead),
            Cipher::AesCbc(size, hmac) => CbcKey::new(*size, *hmac, octets).map(|key| Schedule::Cbc(Box::new(key))),
        };
        Self { cipher: *cipher, schedule: schedule.expect("Keymat::new checked the length") }
    }

    pub(crate) fn cipher(&self) -> Cipher {
        self.cipher
    }

    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }
}

impl AeadKey {
    fn new(algorithm: &'static aead::Algorithm, octets: &[u8]) -> Option<Self> {
        let (key, salt) = octets.split_last_chunk()?;
        Some(Self { key: LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?), salt: *salt })
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
        assert_eq!(
            error.to_string(),
            "aes256gcm16 takes 36 octets of key material (key, then salt or integrity key), got 20"
        );
        assert_eq!(format!("{:?}", Keymat::new(Cipher::Aes128Gcm16, vec![7; 20]).unwrap()), "Keymat(aes128gcm16, …)");
    }
}
