//! AES-CBC with HMAC-SHA-2: encrypt, then authenticate (RFC 3602, RFC 4868).
//!
//! For peers that speak nothing better, cloud gateways above all. The IV is sixteen octets where the combined-mode ciphers
//! have eight, so the inner packet is moved behind it before sealing and back after opening: everybody else finds it
//! [`HEADROOM`] octets into the packet, whatever the cipher.
//!
//! An IV has to be unpredictable (RFC 3602 §3). It is the sequence number encrypted under the packet's key, which
//! NIST SP 800-38A appendix C approves and which needs no generator: a block with the number is encrypted with an IV of
//! zero ahead of the text, and its ciphertext is the IV of the rest.

use std::fmt;

use aws_lc_rs::{
    cipher::{
        AES_128, AES_192, AES_256, Algorithm, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext,
        UnboundCipherKey,
    },
    constant_time::verify_slices_are_equal,
    hmac,
    iv::FixedLength,
};

use crate::{
    HEADER_LEN, HEADROOM,
    cipher::{Forged, low},
};

/// Octets of an AES block, and so of the IV.
pub(crate) const BLOCK: usize = 16;

/// The key sizes of AES.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AesKeySize {
    /// 128 bits.
    Bits128,
    /// 192 bits.
    Bits192,
    /// 256 bits.
    Bits256,
}

impl AesKeySize {
    /// Octets of the key.
    pub fn octets(self) -> usize {
        match self {
            Self::Bits128 => 16,
            Self::Bits192 => 24,
            Self::Bits256 => 32,
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Bits128 => &AES_128,
            Self::Bits192 => &AES_192,
            Self::Bits256 => &AES_256,
        }
    }
}

impl fmt::Display for AesKeySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "aes{}", self.octets() * 8)
    }
}

/// The integrity algorithms that go with CBC: HMAC whose output is cut in half (RFC 4868 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hmac {
    /// HMAC-SHA-256-128.
    Sha256,
    /// HMAC-SHA-384-192.
    Sha384,
    /// HMAC-SHA-512-256.
    Sha512,
}

impl Hmac {
    /// Octets of the key: those of the whole output (RFC 4868 §2.1.1).
    pub fn key_len(self) -> usize {
        2 * self.icv_len()
    }

    /// Octets of the ICV.
    pub fn icv_len(self) -> usize {
        match self {
            Self::Sha256 => 16,
            Self::Sha384 => 24,
            Self::Sha512 => 32,
        }
    }

    fn algorithm(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

impl fmt::Display for Hmac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        })
    }
}

/// Keys of one direction. The library wipes its own.
pub(crate) struct CbcKey {
    encrypt: EncryptingKey,
    decrypt: DecryptingKey,
    authenticate: hmac::Key,
    icv_len: usize,
}

impl CbcKey {
    /// `material` is the encryption key, then the integrity key (RFC 7296 §2.17); `None` if its length is another.
    pub(crate) fn new(size: AesKeySize, hmac: Hmac, material: &[u8]) -> Option<Self> {
        let (key, integrity) = material.split_at_checked(size.octets())?;
        if integrity.len() != hmac.key_len() {
            return None;
        }
        let unbound = || UnboundCipherKey::new(size.algorithm(), key).ok();
        Some(Self {
            encrypt: EncryptingKey::cbc(unbound()?).ok()?,
            decrypt: DecryptingKey::cbc(unbound()?).ok()?,
            authenticate: hmac::Key::new(hmac.algorithm(), integrity),
            icv_len: hmac.icv_len(),
        })
    }

    /// Seals a whole packet whose header is written and whose text, trailer included, begins [`HEADROOM`] octets into it
    /// and is `text_len` long; behind it there is room for eight octets and the ICV.
    pub(crate) fn seal(&self, packet: &mut [u8], text_len: usize, sequence: u64, esn: bool) {
        packet.copy_within(HEADROOM..HEADROOM + text_len, HEADER_LEN + BLOCK);
        let end = HEADER_LEN + BLOCK + text_len;
        let (whole, icv) = packet.split_at_mut(end);
        let (_, sealed) = whole.split_at_mut(HEADER_LEN);
        sealed[..BLOCK / 2].fill(0);
        sealed[BLOCK / 2..BLOCK].copy_from_slice(&sequence.to_be_bytes());
        let zero = EncryptionContext::Iv128(FixedLength::from([0; BLOCK]));
        let _iv = self.encrypt.less_safe_encrypt(sealed, zero).expect("whole blocks under a key of their cipher");
        let tag = self.tag(whole, sequence, esn);
        icv.copy_from_slice(&tag.as_ref()[..self.icv_len]);
    }

    /// Authenticates a whole packet, then decrypts it in place; the text is moved to where it begins [`HEADROOM`] octets
    /// into the packet, and its length returned.
    pub(crate) fn open(&self, packet: &mut [u8], sequence: u64, esn: bool) -> Result<usize, Forged> {
        let end = packet.len().checked_sub(self.icv_len).ok_or(Forged)?;
        let (whole, icv) = packet.split_at_mut(end);
        let tag = self.tag(whole, sequence, esn);
        let expected = tag.as_ref().get(..self.icv_len).ok_or(Forged)?;
        verify_slices_are_equal(expected, icv).map_err(|_| Forged)?;
        let (iv, text) = whole.get_mut(HEADER_LEN..).and_then(|rest| rest.split_first_chunk_mut()).ok_or(Forged)?;
        let text_len = text.len();
        let context = DecryptionContext::Iv128(FixedLength::from(*iv));
        self.decrypt.decrypt(text, context).map_err(|_| Forged)?; // only if the text is not made of whole blocks
        packet.copy_within(HEADER_LEN + BLOCK..end, HEADROOM);
        Ok(text_len)
    }

    /// Over the packet up to the ICV, and the high half of an extended number, which is not sent (RFC 4303 §2.8, §2.2.1).
    fn tag(&self, whole: &[u8], sequence: u64, esn: bool) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.authenticate);
        context.update(whole);
        if esn {
            context.update(&low(sequence >> 32).to_be_bytes());
        }
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use net_types::Spi;

    use super::*;
    use crate::{Cipher, InboundSa, Keymat, OpenError, Opened, OutboundSa};

    const SIZES: [AesKeySize; 3] = [AesKeySize::Bits128, AesKeySize::Bits192, AesKeySize::Bits256];
    const HMACS: [Hmac; 3] = [Hmac::Sha256, Hmac::Sha384, Hmac::Sha512];

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn pair(size: AesKeySize, hmac: Hmac, esn: bool) -> (OutboundSa, InboundSa) {
        let cipher = Cipher::AesCbc(size, hmac);
        let octets: Vec<u8> = (0..cipher.keymat_len()).map(|n| n as u8).collect();
        let keymat = Keymat::new(cipher, octets).unwrap();
        let spi = Spi::try_from(0x1234_5678).unwrap();
        (OutboundSa::new(spi, &keymat, esn), InboundSa::new(spi, &keymat, esn))
    }

    fn inner(length: usize) -> Vec<u8> {
        let mut packet: Vec<u8> = (0..length).map(|n| n as u8).collect();
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        packet
    }

    fn sealed(out: &OutboundSa, inner: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; out.cipher().sealed_len(inner.len())];
        buffer[HEADROOM..HEADROOM + inner.len()].copy_from_slice(inner);
        assert_eq!(out.seal(&mut buffer, inner.len()), Ok(buffer.len()));
        buffer
    }

    /// RFC 3602 §4, case 7: a ping in tunnel mode. The RFC stops at the ciphertext; the ICV is made here with
    /// HMAC-SHA-256-128, whose own vectors are below.
    #[test]
    fn the_tunnel_mode_packet_of_rfc_3602_opens() {
        let ciphertext = hex("773b5241 a4c44922 5e4f3ce5 ed611b0c 237ca96c f74a9301 3c1b0ea1 a0cf70f8
             e4ecaec7 8ac53aad 7a0f022b 859243c6 47752e94 a859352b 8a4d4d2d ecd136e5
             c177f132 ad3fbfb2 201ac990 4c74ee0a 109e0ca1 e4dfe9d5 a100b842 f1c22f0d");
        let ping = hex("45000054 09040000 4001f988 c0a87b03 c0a87bc8
             08009f76 a90a0100 b49c083d 02a20400 08090a0b 0c0d0e0f 10111213 14151617
             18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637");
        let mut packet = hex("00008765 00000002 f4e76524 4f6407ad f13dc138 0f673f37");
        packet.extend(ciphertext);
        let integrity = [0x0b; 32];
        let icv = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &integrity), &packet);
        packet.extend(&icv.as_ref()[..16]);
        let mut material = hex("01234567 89abcdef 01234567 89abcdef");
        material.extend(integrity);
        let keymat = Keymat::new(Cipher::AesCbc(AesKeySize::Bits128, Hmac::Sha256), material).unwrap();
        let sa = InboundSa::new(Spi::try_from(0x8765).unwrap(), &keymat, false);
        let opened = sa.opener().open(&mut packet);
        let Ok(Opened::Packet(found)) = opened else { panic!("{opened:?}") };
        assert_eq!(packet[HEADROOM..HEADROOM + found.length], ping);
    }

    #[test] // RFC 4868 §2.7.2.1 to §2.7.2.3, test cases AUTH256-1, AUTH384-1, AUTH512-1: "Hi There" under a key of 0x0b
    fn integrity_values_are_those_of_rfc_4868() {
        for (hmac, expected) in [
            (Hmac::Sha256, "198a607eb44bfbc69903a0f1cf2bbdc5"),
            (Hmac::Sha384, "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"),
            (Hmac::Sha512, "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"),
        ] {
            let key = hmac::Key::new(hmac.algorithm(), &vec![0x0b; hmac.key_len()]);
            assert_eq!(hmac::sign(&key, b"Hi There").as_ref()[..hmac.icv_len()], hex(expected), "{hmac}");
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        for size in SIZES {
            for hmac in HMACS {
                let (out, inbound) = pair(size, hmac, true);
                let packet = sealed(&out, &inner(50));
                for bit in 0..packet.len() * 8 {
                    let mut forged = packet.clone();
                    forged[bit / 8] ^= 1 << (bit % 8);
                    assert!(inbound.opener().open(&mut forged).is_err(), "{size}-{hmac}, bit {bit}");
                }
                assert!(inbound.opener().open(&mut packet.clone()).is_ok(), "forgeries left the window alone");
            }
        }
    }

    #[test]
    fn the_high_half_of_an_extended_number_is_authenticated() {
        let border = u64::from(u32::MAX);
        let (out, inbound) = pair(AesKeySize::Bits256, Hmac::Sha256, true);
        let packet = sealed(&out.starting_at(border + 6), &inner(40)); // number 2^32 + 6
        let same_low_half = inbound.starting_at(0);
        assert_eq!(same_low_half.opener().open(&mut packet.clone()), Err(OpenError::Authentication));
        let (_, inbound) = pair(AesKeySize::Bits256, Hmac::Sha256, true);
        assert!(inbound.starting_at(border).opener().open(&mut packet.clone()).is_ok());
    }

    #[test]
    fn ivs_are_neither_repeated_nor_the_number_itself() {
        let (out, _) = pair(AesKeySize::Bits128, Hmac::Sha256, false);
        let ivs: Vec<_> = (0..3).map(|_| sealed(&out, &inner(40))[HEADER_LEN..HEADER_LEN + BLOCK].to_vec()).collect();
        assert!(ivs[0] != ivs[1] && ivs[1] != ivs[2] && ivs[0] != ivs[2]);
        assert!(ivs.iter().all(|iv| iv[..8] != [0; 8]), "encrypted");
    }

    #[test]
    fn sizes_fit_a_path() {
        let cipher = Cipher::AesCbc(AesKeySize::Bits256, Hmac::Sha256);
        // Outer 1500, IPv4 and UDP: 1472 - 8 - 16 - 16 = 1432, of which 89 blocks, less the trailer.
        assert_eq!(cipher.inner_capacity(1500 - 28), 1422);
        assert_eq!(Cipher::AesCbc(AesKeySize::Bits256, Hmac::Sha512).inner_capacity(1500 - 28), 1406);
        assert_eq!(cipher.inner_capacity(0), 0);
        for room in 60..1600 {
            let most = cipher.inner_capacity(room);
            assert!(most == 0 || (cipher.sealed_len(most) <= room && cipher.sealed_len(most + 1) > room), "{room}");
        }
        assert_eq!(cipher.to_string(), "aes256-sha256");
    }
}
