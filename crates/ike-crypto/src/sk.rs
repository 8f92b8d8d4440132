//! Sealing and opening encrypted payloads (RFC 7296 §3.14, RFC 5282, RFC 7634, RFC 7383).
//!
//! With a combined-mode cipher the nonce is the salt and an IV of eight octets; the IV counts up, so it cannot repeat under
//! one key, and a key is owned by exactly one sealer. What precedes the IV in the message is authenticated with it
//! (RFC 5282 §5.1). With AES-CBC the counter is encrypted to become an IV that nobody can predict (NIST SP 800-38A
//! appendix C), and the HMAC covers the message from its first octet; it is checked before anything is decrypted.

use std::fmt;

use aws_lc_rs::{
    aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    cipher::{DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey},
    hmac,
    iv::FixedLength,
};
use ike_wire::{
    EmitError, Fragment, HEADER_LEN, Header, Payload, PayloadType, Protected, emit_chain, first_type,
    payload::{FRAGMENT_HEADER_LEN, GENERIC_HEADER_LEN, Oversized, emit_generic_header},
    set_length,
};

use subtle::ConstantTimeEq;

use crate::{
    cipher::{Aead, AesCbc, Cipher, HmacAlgorithm, SALT_LEN},
    schedule::MessageKeys,
};

/// Octets of the explicit IV of combined-mode ciphers (RFC 5282 §3).
const IV_LEN: usize = 8;
/// Octets of the ICV of combined-mode ciphers.
const ICV_LEN: usize = 16;
/// Octets of an AES block, and of the IV in CBC mode.
const BLOCK: usize = 16;
/// The pad length octet.
const PAD_LENGTH_LEN: usize = 1;
/// Most fragments of one message; peers refuse long before.
const MAX_FRAGMENTS: usize = 255;

/// Key material of another length than the cipher takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cipher} takes {expected} octets of key material, got {found}")]
pub struct KeyLength {
    cipher: Cipher,
    expected: usize,
    found: usize,
}

/// A message that cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is too large.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// It needs more fragments than is reasonable, or the limit leaves no room for contents.
    #[error("{octets} octets do not fit {MAX_FRAGMENTS} fragments of at most {limit} octets")]
    Fragments {
        /// Octets to carry.
        octets: usize,
        /// The limit per message.
        limit: usize,
    },
    /// 2^64 messages were sealed with this key.
    #[error("the IV counter of this key is used up: the IKE SA has to be rekeyed")]
    IvExhausted,
    /// The library failed.
    #[error("the cipher failed")]
    Cipher,
}

impl From<Oversized> for SealError {
    fn from(oversized: Oversized) -> Self {
        Self::Emit(oversized.into())
    }
}

/// A protected payload that cannot be opened. Whoever sent it does not hold the keys: drop it silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No room for IV, pad length and ICV.
    #[error("{0} octets cannot hold IV, pad length and ICV")]
    Short(usize),
    /// Not sealed with this key, or changed on the way.
    #[error("the integrity check failed")]
    Integrity,
    /// Authentic, but its pad length exceeds what it holds.
    #[error("the pad length is {padding}, and {octets} octets precede it (RFC 7296 §3.14)")]
    Padding {
        /// The pad length octet.
        padding: u8,
        /// Octets before it.
        octets: usize,
    },
    /// Authentic, but not made of whole blocks.
    #[error("{0} octets of ciphertext are not whole blocks (RFC 7296 §3.14)")]
    Blocks(usize),
    /// The description does not fit the datagram.
    #[error("the protected range lies outside the message")]
    Range,
}

/// A key ready for use.
enum Key {
    Aead(AeadKey),
    Cbc(Box<CbcKey>),
}

struct AeadKey {
    aead: Aead,
    key: LessSafeKey,
    salt: [u8; SALT_LEN],
}

/// The library wipes both.
struct CbcKey {
    aes: AesCbc,
    hmac: HmacAlgorithm,
    encrypt: EncryptingKey,
    decrypt: DecryptingKey,
    authenticate: hmac::Key,
}

impl Key {
    fn new(keys: MessageKeys<'_>) -> Result<Self, KeyLength> {
        let MessageKeys { cipher, encryption, integrity } = keys;
        let (expected, found) = (cipher.encryption_len() + cipher.integrity_len(), encryption.len() + integrity.len());
        let key = match cipher {
            Cipher::Aead(aead) if integrity.is_empty() => AeadKey::new(aead, encryption.expose()).map(Self::Aead),
            Cipher::Aead(_) => None,
            Cipher::Cbc(aes, hmac) => {
                CbcKey::new(aes, hmac, encryption.expose(), integrity.expose()).map(|key| Self::Cbc(Box::new(key)))
            }
        };
        key.ok_or(KeyLength { cipher, expected, found })
    }

    fn cipher(&self) -> Cipher {
        match self {
            Self::Aead(key) => Cipher::Aead(key.aead),
            Self::Cbc(key) => Cipher::Cbc(key.aes, key.hmac),
        }
    }

    /// Octets of IV, ICV, and what the text with its padding and pad length is a multiple of. Combined-mode ciphers need
    /// no padding (RFC 5282 §3).
    fn sizes(&self) -> (usize, usize, usize) {
        match self {
            Self::Aead(_) => (IV_LEN, ICV_LEN, 1),
            Self::Cbc(key) => (BLOCK, key.hmac.icv_len(), BLOCK),
        }
    }

    /// Octets of a payload's body around `inner` octets.
    fn sealed_len(&self, inner: usize) -> usize {
        let (iv, icv, multiple) = self.sizes();
        iv + (inner + PAD_LENGTH_LEN).next_multiple_of(multiple) + icv
    }

    /// Most octets whose body fits in `room`.
    fn capacity(&self, room: usize) -> Option<usize> {
        let (iv, icv, multiple) = self.sizes();
        let text = room.checked_sub(iv + icv)?;
        (text - text % multiple).checked_sub(PAD_LENGTH_LEN)
    }

    /// Seals a message whose body begins at `body` and is complete but for what sealing fills in: IV and ICV.
    fn seal(&self, message: &mut [u8], body: usize, counter: u64) -> Result<(), SealError> {
        match self {
            Self::Aead(key) => {
                let (aad, rest) = message.split_at_mut(body);
                let (iv, rest) = rest.split_at_mut(IV_LEN);
                iv.copy_from_slice(&counter.to_be_bytes());
                let (text, icv) = rest.split_at_mut(rest.len() - ICV_LEN);
                let nonce = key.nonce(counter.to_be_bytes());
                let tag = key.key.seal_in_place_separate_tag(nonce, Aad::from(&*aad), text);
                icv.copy_from_slice(tag.map_err(|_| SealError::Cipher)?.as_ref());
            }
            Self::Cbc(key) => {
                let (covered, icv) = message.split_at_mut(message.len() - key.hmac.icv_len());
                let sealed = &mut covered[body..];
                // A block with the counter ahead of the text, under an IV of zero: its ciphertext is the text's IV.
                sealed[..BLOCK].fill(0);
                sealed[BLOCK - 8..BLOCK].copy_from_slice(&counter.to_be_bytes());
                let zero = EncryptionContext::Iv128(FixedLength::from([0; BLOCK]));
                key.encrypt.less_safe_encrypt(sealed, zero).map_err(|_| SealError::Cipher)?;
                icv.copy_from_slice(&key.tag(covered).as_ref()[..icv.len()]);
            }
        }
        Ok(())
    }

    /// Opens `body` in place, which `before` precedes in the message; gives the text with its padding.
    fn open<'a>(&self, before: &[u8], body: &'a mut [u8]) -> Result<&'a [u8], OpenError> {
        let short = OpenError::Short(body.len());
        let (iv_len, icv_len, _) = self.sizes();
        if body.len() < iv_len + PAD_LENGTH_LEN + icv_len {
            return Err(short);
        }
        match self {
            Self::Aead(key) => {
                let (iv, sealed) = body.split_first_chunk_mut::<IV_LEN>().ok_or(short)?;
                let text = key.key.open_in_place(key.nonce(*iv), Aad::from(before), sealed);
                text.map(|text| &*text).map_err(|_| OpenError::Integrity)
            }
            Self::Cbc(key) => {
                let (sealed, icv) = body.split_at_mut(body.len() - icv_len);
                let mut context = hmac::Context::with_key(&key.authenticate);
                context.update(before);
                context.update(sealed);
                let tag = context.sign();
                let expected = tag.as_ref().get(..icv_len).ok_or(short)?;
                if !bool::from(expected.ct_eq(icv)) {
                    return Err(OpenError::Integrity);
                }
                let (iv, text) = sealed.split_first_chunk_mut::<BLOCK>().ok_or(short)?;
                let octets = text.len();
                let context = DecryptionContext::Iv128(FixedLength::from(*iv));
                // The library refuses what is not made of whole blocks.
                let text = key.decrypt.decrypt(text, context).map_err(|_| OpenError::Blocks(octets))?;
                Ok(&*text)
            }
        }
    }
}

impl AeadKey {
    fn new(aead: Aead, keymat: &[u8]) -> Option<Self> {
        let (key, salt) = keymat.split_last_chunk::<SALT_LEN>()?;
        Some(Self { aead, key: LessSafeKey::new(UnboundKey::new(aead.algorithm(), key).ok()?), salt: *salt })
    }

    fn nonce(&self, iv: [u8; IV_LEN]) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        let (salt, explicit) = nonce.split_at_mut(SALT_LEN);
        salt.copy_from_slice(&self.salt);
        explicit.copy_from_slice(&iv);
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Drop for AeadKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.salt); // the library wipes its own
    }
}

impl CbcKey {
    fn new(aes: AesCbc, hmac: HmacAlgorithm, key: &[u8], integrity: &[u8]) -> Option<Self> {
        let unbound = || UnboundCipherKey::new(aes.algorithm(), key).ok();
        (integrity.len() == hmac.key_len()).then_some(())?;
        Some(Self {
            aes,
            hmac,
            encrypt: EncryptingKey::cbc(unbound()?).ok()?,
            decrypt: DecryptingKey::cbc(unbound()?).ok()?,
            authenticate: hmac::Key::new(hmac.algorithm(), integrity),
        })
    }

    fn tag(&self, covered: &[u8]) -> hmac::Tag {
        hmac::sign(&self.authenticate, covered)
    }
}

/// Seals the messages of one direction.
pub struct Sealer {
    key: Key,
    next_iv: u64,
}

impl Sealer {
    /// A sealer that owns this key from now on: two with the same key would repeat IVs.
    ///
    /// # Errors
    /// When the key material is not as long as the cipher takes.
    pub fn new(keys: MessageKeys<'_>) -> Result<Self, KeyLength> {
        Ok(Self { key: Key::new(keys)?, next_iv: 0 })
    }

    /// A whole message with all its payloads inside one SK payload.
    pub fn seal(&mut self, header: &Header, payloads: &[Payload]) -> Result<Vec<u8>, SealError> {
        let mut inner = Vec::with_capacity(512);
        emit_chain(payloads, PayloadType::None, &mut inner)?;
        self.seal_part(header, first_type(payloads), None, &inner)
    }

    /// A message as one datagram if it fits `limit` octets, else as fragments that do (RFC 7383 §2.5.1). The limit
    /// covers the whole IKE message, without IP and UDP headers and non-ESP marker.
    pub fn seal_fragmented(
        &mut self,
        header: &Header,
        payloads: &[Payload],
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, SealError> {
        let mut inner = Vec::with_capacity(2048);
        emit_chain(payloads, PayloadType::None, &mut inner)?;
        let headers = HEADER_LEN + GENERIC_HEADER_LEN;
        let first = first_type(payloads);
        if headers + self.key.sealed_len(inner.len()) <= limit {
            return Ok(vec![self.seal_part(header, first, None, &inner)?]);
        }
        let refused = SealError::Fragments { octets: inner.len(), limit };
        let room = limit.checked_sub(headers + FRAGMENT_HEADER_LEN).and_then(|room| self.key.capacity(room));
        let room = room.filter(|room| *room > 0).ok_or(refused)?;
        let count = inner.len().div_ceil(room);
        let total = u16::try_from(count).ok().filter(|_| count <= MAX_FRAGMENTS).ok_or(refused)?;
        let part = |(number, piece): (u16, &[u8])| {
            let kind = if number == 1 { first } else { PayloadType::None }; // RFC 7383 §2.5: zero in later fragments
            self.seal_part(header, kind, Some(Fragment { number, total }), piece)
        };
        (1u16..).zip(inner.chunks(room)).map(part).collect()
    }

    fn seal_part(
        &mut self,
        header: &Header,
        first_inner: PayloadType,
        fragment: Option<Fragment>,
        inner: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let iv = self.next_iv;
        let after = iv.checked_add(1).ok_or(SealError::IvExhausted)?;
        let (iv_len, icv_len, _) = self.key.sizes();
        let body_len = self.key.sealed_len(inner.len());
        let mut out = Vec::with_capacity(HEADER_LEN + GENERIC_HEADER_LEN + FRAGMENT_HEADER_LEN + body_len);
        match fragment {
            None => {
                header.emit(PayloadType::Encrypted, 0, &mut out);
                emit_generic_header(PayloadType::Encrypted, first_inner, false, body_len, &mut out)?;
            }
            Some(Fragment { number, total }) => {
                let kind = PayloadType::EncryptedFragment;
                header.emit(kind, 0, &mut out);
                emit_generic_header(kind, first_inner, false, FRAGMENT_HEADER_LEN + body_len, &mut out)?;
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(&total.to_be_bytes());
            }
        }
        let body = out.len();
        out.resize(body + iv_len, 0);
        out.extend_from_slice(inner);
        let padding = body_len - iv_len - inner.len() - PAD_LENGTH_LEN - icv_len;
        out.resize(out.len() + padding, 0);
        out.push(u8::try_from(padding).unwrap_or_default()); // less than a block
        out.resize(out.len() + icv_len, 0);
        set_length(&mut out)?; // before sealing: the header is authenticated as it is sent
        self.key.seal(&mut out, body, iv)?;
        self.next_iv = after;
        Ok(out)
    }
}

/// Opens the messages of one direction.
pub struct Opener {
    key: Key,
}

impl Opener {
    /// An opener for what the peer seals with this key.
    ///
    /// # Errors
    /// When the key material is not as long as the cipher takes.
    pub fn new(keys: MessageKeys<'_>) -> Result<Self, KeyLength> {
        Ok(Self { key: Key::new(keys)? })
    }

    /// Decrypts in place and gives the payload chain inside, without padding. On failure the protected octets are
    /// garbage.
    pub fn open<'a>(&self, datagram: &'a mut [u8], protected: &Protected) -> Result<&'a [u8], OpenError> {
        let (aad, body) = datagram
            .get_mut(..protected.body.end)
            .and_then(|message| message.split_at_mut_checked(protected.body.start))
            .ok_or(OpenError::Range)?;
        let short = OpenError::Short(body.len());
        let text = self.key.open(aad, body)?;
        let (padding, text) = text.split_last().ok_or(short)?;
        text.len()
            .checked_sub(usize::from(*padding))
            .and_then(|len| text.get(..len))
            .ok_or(OpenError::Padding { padding: *padding, octets: text.len() })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.key.cipher())
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener({})", self.key.cipher())
    }
}

#[cfg(test)]
mod tests {
    use ike_wire::{ExchangeType, Flags, IkeSpi, Message, Notify, NotifyType, parse_inner};

    use super::*;
    use crate::secret::SecretBytes;

    /// Every cipher there is.
    fn ciphers() -> Vec<Cipher> {
        let pairs = AesCbc::ALL.into_iter().flat_map(|aes| HmacAlgorithm::ALL.map(|hmac| Cipher::Cbc(aes, hmac)));
        Aead::ALL.into_iter().map(Cipher::Aead).chain(pairs).collect()
    }

    fn header() -> Header {
        Header {
            initiator_spi: IkeSpi::new(1).unwrap(),
            responder_spi: IkeSpi::new(2),
            exchange: ExchangeType::IkeAuth,
            flags: Flags::default(),
            message_id: 1,
        }
    }

    fn pair(cipher: Cipher) -> (Sealer, Opener) {
        let octets = |len: usize| SecretBytes::from((0..len).map(|octet| octet as u8).collect::<Vec<_>>());
        let (encryption, integrity) = (octets(cipher.encryption_len()), octets(cipher.integrity_len()));
        let keys = MessageKeys { cipher, encryption: &encryption, integrity: &integrity };
        (Sealer::new(keys).unwrap(), Opener::new(keys).unwrap())
    }

    fn payloads(octets: usize) -> Vec<Payload> {
        vec![Payload::Notify(Notify::new(NotifyType::InitialContact, [])), Payload::VendorId(vec![7; octets])]
    }

    #[test]
    fn sealed_messages_open_and_nothing_of_them_may_change() {
        for cipher in ciphers() {
            let (mut sealer, opener) = pair(cipher);
            let wire = sealer.seal(&header(), &payloads(100)).unwrap();
            let message = Message::parse(&wire).unwrap();
            let protected = message.protected.unwrap();
            assert_eq!(message.header, header());
            let mut copy = wire.clone();
            let inner = opener.open(&mut copy, &protected).unwrap();
            assert_eq!(parse_inner(protected.first_inner, inner).unwrap(), payloads(100));
            for at in 0..wire.len() {
                let mut bad = wire.clone();
                bad[at] ^= 1;
                assert_eq!(opener.open(&mut bad, &protected), Err(OpenError::Integrity), "{cipher}, octet {at}");
            }
        }
    }

    #[test]
    fn no_two_messages_share_a_nonce() {
        let (mut sealer, _) = pair(Cipher::Aead(Aead::Aes256Gcm16));
        let body = HEADER_LEN + GENERIC_HEADER_LEN;
        let ivs = [0, 1, 2].map(|_| sealer.seal(&header(), &[]).unwrap()[body..body + IV_LEN].to_vec());
        assert_eq!(ivs, [0u64, 1, 2].map(|iv| iv.to_be_bytes().to_vec()));
        sealer.next_iv = u64::MAX;
        assert_eq!(sealer.seal(&header(), &[]), Err(SealError::IvExhausted));
    }

    #[test]
    fn long_messages_are_cut_to_fit_and_short_ones_are_not() {
        for cipher in ciphers() {
            let (mut sealer, opener) = pair(cipher);
            assert_eq!(sealer.seal_fragmented(&header(), &payloads(100), 1220).unwrap().len(), 1);
            let pieces = sealer.seal_fragmented(&header(), &payloads(3000), 1220).unwrap();
            assert_eq!(pieces.len(), 3);
            let mut inner = Vec::new();
            for (number, piece) in (1..).zip(&pieces) {
                assert!(piece.len() <= 1220);
                let protected = Message::parse(piece).unwrap().protected.unwrap();
                assert_eq!(protected.fragment, Some(Fragment { number, total: 3 }));
                let first = if number == 1 { PayloadType::Notify } else { PayloadType::None };
                assert_eq!(protected.first_inner, first);
                inner.extend_from_slice(opener.open(&mut piece.clone(), &protected).unwrap());
            }
            assert_eq!(parse_inner(PayloadType::Notify, &inner).unwrap(), payloads(3000));
            let exactly = sealer.seal(&header(), &payloads(500)).unwrap().len();
            assert_eq!(sealer.seal_fragmented(&header(), &payloads(500), exactly).unwrap().len(), 1);
            assert_eq!(sealer.seal_fragmented(&header(), &payloads(500), exactly - 1).unwrap().len(), 2);
        }
    }

    #[test]
    fn cbc_pads_to_whole_blocks_under_ivs_that_do_not_repeat() {
        let (mut sealer, _) = pair(Cipher::Cbc(AesCbc::Aes256, HmacAlgorithm::Sha384));
        let body = HEADER_LEN + GENERIC_HEADER_LEN;
        let mut ivs = std::collections::BTreeSet::new();
        for octets in 0..40 {
            let wire = sealer.seal(&header(), &payloads(octets)).unwrap();
            assert_eq!((wire.len() - body - 24) % BLOCK, 0);
            ivs.insert(wire[body..body + BLOCK].to_vec());
        }
        assert_eq!(ivs.len(), 40);
        assert!(ivs.iter().all(|iv| iv[..8] != [0; 8]), "the counter does not show");
        sealer.next_iv = u64::MAX;
        assert_eq!(sealer.seal(&header(), &[]), Err(SealError::IvExhausted));
    }

    #[test]
    fn authentic_texts_of_broken_blocks_and_padding_are_refused() {
        let (_, opener) = pair(Cipher::Cbc(AesCbc::Aes128, HmacAlgorithm::Sha256));
        let Key::Cbc(key) = &opener.key else { panic!("not CBC") };
        let crafted = |text: &[u8]| {
            let mut wire = Vec::new();
            let len = BLOCK + text.len() + 16;
            header().emit(PayloadType::Encrypted, 0, &mut wire);
            emit_generic_header(PayloadType::Encrypted, PayloadType::None, false, len, &mut wire).unwrap();
            let body = wire.len();
            wire.resize(body + BLOCK, 0);
            wire.extend_from_slice(text);
            wire.resize(body + len, 0);
            set_length(&mut wire).unwrap();
            let end = wire.len() - 16;
            let zero = EncryptionContext::Iv128(FixedLength::from([0; BLOCK]));
            // Where the text is no whole block it stays as it is: only its authenticity counts.
            let _ignored = key.encrypt.less_safe_encrypt(&mut wire[body..end], zero);
            let tag = key.tag(&wire[..end]);
            wire[end..].copy_from_slice(&tag.as_ref()[..16]);
            let protected = Message::parse(&wire).unwrap().protected.unwrap();
            opener.open(&mut wire, &protected).map(<[u8]>::to_vec)
        };
        let block = |last: u8| [[7; 15].as_slice(), &[last]].concat();
        assert_eq!(crafted(&block(15)), Ok(vec![]));
        assert_eq!(crafted(&block(3)), Ok(vec![7; 12]));
        assert_eq!(crafted(&block(16)), Err(OpenError::Padding { padding: 16, octets: 15 }));
        assert_eq!(crafted(&[1; 17]), Err(OpenError::Blocks(17)));
        assert_eq!(crafted(&[]), Err(OpenError::Short(32)));
    }

    #[test]
    fn limits_without_room_are_refused() {
        let (mut sealer, _) = pair(Cipher::Aead(Aead::Aes128Gcm16));
        for limit in [0, 61, 62] {
            let refused = sealer.seal_fragmented(&header(), &payloads(3000), limit);
            assert!(matches!(refused, Err(SealError::Fragments { .. })), "{limit}: {refused:?}");
        }
    }

    #[test]
    fn padding_of_other_implementations_is_taken_off_and_must_fit() {
        let (_, opener) = pair(Cipher::Aead(Aead::Aes256Gcm16));
        let sealed = |text: &[u8]| {
            let mut wire = Vec::new();
            let len = IV_LEN + text.len() + ICV_LEN;
            header().emit(PayloadType::Encrypted, 0, &mut wire);
            emit_generic_header(PayloadType::Encrypted, PayloadType::None, false, len, &mut wire).unwrap();
            let body = wire.len();
            wire.extend_from_slice(&[9; IV_LEN]);
            wire.extend_from_slice(text);
            wire.resize(body + len, 0);
            set_length(&mut wire).unwrap();
            let aad = wire[..body].to_vec();
            let (text, icv) = wire[body + IV_LEN..].split_at_mut(text.len());
            let Key::Aead(key) = &opener.key else { panic!("not a combined-mode cipher") };
            let nonce = key.nonce([9; IV_LEN]);
            let tag = key.key.seal_in_place_separate_tag(nonce, Aad::from(aad), text).unwrap();
            icv.copy_from_slice(tag.as_ref());
            let protected = Message::parse(&wire).unwrap().protected.unwrap();
            opener.open(&mut wire, &protected).map(<[u8]>::to_vec)
        };
        assert_eq!(sealed(&[1, 2, 3, 0xaa, 0xbb, 2]), Ok(vec![1, 2, 3]));
        assert_eq!(sealed(&[0xaa, 1]), Ok(vec![]));
        assert_eq!(sealed(&[0xaa, 2]), Err(OpenError::Padding { padding: 2, octets: 1 }));
        assert_eq!(sealed(&[]), Err(OpenError::Short(24)));
    }

    #[test]
    fn keys_of_another_length_are_refused() {
        let refused = |cipher, encryption, integrity| {
            let [encryption, integrity] = [encryption, integrity].map(|len| SecretBytes::from(vec![0; len]));
            let keys = MessageKeys { cipher, encryption: &encryption, integrity: &integrity };
            Sealer::new(keys).unwrap_err().to_string()
        };
        let aead = Cipher::Aead(Aead::Aes256Gcm16);
        assert_eq!(refused(aead, 35, 0), "aes256gcm16 takes 36 octets of key material, got 35");
        refused(aead, 36, 1);
        let cbc = Cipher::Cbc(AesCbc::Aes256, HmacAlgorithm::Sha256);
        assert_eq!(refused(cbc, 32, 31), "aes256-sha256 takes 64 octets of key material, got 63");
        refused(cbc, 31, 32);
        refused(cbc, 64, 0);
    }
}
