//! Sealing and opening encrypted payloads with combined-mode ciphers (RFC 7296 §3.14, RFC 5282, RFC 7634, RFC 7383).
//!
//! The nonce is the salt and an IV of eight octets; the IV counts up, so it cannot repeat under one key, and a key is
//! owned by exactly one sealer. What precedes the IV in the message is authenticated with it (RFC 5282 §5.1).

use std::fmt;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ike_wire::{
    EmitError, Fragment, HEADER_LEN, Header, Payload, PayloadType, Protected, emit_chain, first_type,
    payload::{FRAGMENT_HEADER_LEN, GENERIC_HEADER_LEN, Oversized, emit_generic_header},
    set_length,
};

use crate::{
    secret::SecretBytes,
    suite::{Aead, SALT_LEN},
};

/// Octets of the explicit IV (RFC 5282 §3).
pub const IV_LEN: usize = 8;
/// Octets of the ICV.
pub const ICV_LEN: usize = 16;
/// The pad length octet; no padding is needed, and none is sent (RFC 5282 §3).
const PAD_LENGTH_LEN: usize = 1;
/// Most fragments of one message; peers refuse long before.
const MAX_FRAGMENTS: usize = 255;

/// Key material of another length than the cipher takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{aead} takes {} octets of key material, got {found}", aead.keymat_len())]
pub struct KeyLength {
    aead: Aead,
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
    /// The description does not fit the datagram.
    #[error("the protected range lies outside the message")]
    Range,
}

struct Key {
    aead: Aead,
    key: LessSafeKey,
    salt: [u8; SALT_LEN],
}

impl Key {
    fn new(aead: Aead, keymat: &SecretBytes) -> Result<Self, KeyLength> {
        let wrong = KeyLength { aead, found: keymat.len() };
        let (key, salt) = keymat.expose().split_at_checked(aead.key_len()).ok_or(wrong)?;
        let salt = salt.try_into().map_err(|_| wrong)?;
        let key = UnboundKey::new(aead.algorithm(), key).map_err(|_| wrong)?;
        Ok(Self { aead, key: LessSafeKey::new(key), salt })
    }

    fn nonce(&self, iv: [u8; IV_LEN]) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        let (salt, explicit) = nonce.split_at_mut(SALT_LEN);
        salt.copy_from_slice(&self.salt);
        explicit.copy_from_slice(&iv);
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.salt); // the library wipes its own
    }
}

/// Seals the messages of one direction.
pub struct Sealer {
    key: Key,
    next_iv: u64,
}

impl Sealer {
    /// A sealer that owns this key from now on: two with the same key would repeat IVs.
    pub fn new(aead: Aead, keymat: &SecretBytes) -> Result<Self, KeyLength> {
        Ok(Self { key: Key::new(aead, keymat)?, next_iv: 0 })
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
        let overhead = HEADER_LEN + GENERIC_HEADER_LEN + IV_LEN + PAD_LENGTH_LEN + ICV_LEN;
        let first = first_type(payloads);
        if inner.len() + overhead <= limit {
            return Ok(vec![self.seal_part(header, first, None, &inner)?]);
        }
        let refused = SealError::Fragments { octets: inner.len(), limit };
        let room = limit.checked_sub(overhead + FRAGMENT_HEADER_LEN).filter(|room| *room > 0).ok_or(refused)?;
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
        let body_len = IV_LEN + inner.len() + PAD_LENGTH_LEN + ICV_LEN;
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
        out.extend_from_slice(&iv.to_be_bytes());
        let text = out.len();
        out.extend_from_slice(inner);
        out.push(0); // pad length
        let tag = out.len();
        out.resize(tag + ICV_LEN, 0);
        set_length(&mut out)?; // before sealing: the header is authenticated as it is sent
        let (aad, rest) = out.split_at_mut(body);
        let (_, rest) = rest.split_at_mut(text - body);
        let (text, icv) = rest.split_at_mut(tag - text);
        let made = self
            .key
            .key
            .seal_in_place_separate_tag(self.key.nonce(iv.to_be_bytes()), Aad::from(&*aad), text)
            .map_err(|_| SealError::Cipher)?;
        icv.copy_from_slice(made.as_ref());
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
    pub fn new(aead: Aead, keymat: &SecretBytes) -> Result<Self, KeyLength> {
        Ok(Self { key: Key::new(aead, keymat)? })
    }

    /// Decrypts in place and gives the payload chain inside, without padding. On failure the protected octets are
    /// garbage.
    pub fn open<'a>(&self, datagram: &'a mut [u8], protected: &Protected) -> Result<&'a [u8], OpenError> {
        let (aad, body) = datagram
            .get_mut(..protected.body.end)
            .and_then(|message| message.split_at_mut_checked(protected.body.start))
            .ok_or(OpenError::Range)?;
        let short = OpenError::Short(body.len());
        let (iv, sealed) = body.split_first_chunk_mut::<IV_LEN>().ok_or(short)?;
        if sealed.len() < PAD_LENGTH_LEN + ICV_LEN {
            return Err(short);
        }
        let text = self
            .key
            .key
            .open_in_place(self.key.nonce(*iv), Aad::from(&*aad), sealed)
            .map_err(|_| OpenError::Integrity)?;
        let (padding, text) = text.split_last().ok_or(short)?;
        text.len()
            .checked_sub(usize::from(*padding))
            .and_then(|len| text.get(..len))
            .ok_or(OpenError::Padding { padding: *padding, octets: text.len() })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.key.aead)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener({})", self.key.aead)
    }
}

#[cfg(test)]
mod tests {
    use ike_wire::{ExchangeType, Flags, IkeSpi, Message, Notify, NotifyType, parse_inner};

    use super::*;

    fn header() -> Header {
        Header {
            initiator_spi: IkeSpi::new(1).unwrap(),
            responder_spi: IkeSpi::new(2),
            exchange: ExchangeType::IkeAuth,
            flags: Flags::default(),
            message_id: 1,
        }
    }

    fn pair(aead: Aead) -> (Sealer, Opener) {
        let keymat = SecretBytes::from((0..aead.keymat_len()).map(|octet| octet as u8).collect::<Vec<_>>());
        (Sealer::new(aead, &keymat).unwrap(), Opener::new(aead, &keymat).unwrap())
    }

    fn payloads(octets: usize) -> Vec<Payload> {
        vec![Payload::Notify(Notify::new(NotifyType::InitialContact, [])), Payload::VendorId(vec![7; octets])]
    }

    #[test]
    fn sealed_messages_open_and_nothing_of_them_may_change() {
        for aead in Aead::ALL {
            let (mut sealer, opener) = pair(aead);
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
                assert_eq!(opener.open(&mut bad, &protected), Err(OpenError::Integrity), "octet {at}");
            }
        }
    }

    #[test]
    fn no_two_messages_share_a_nonce() {
        let (mut sealer, _) = pair(Aead::Aes256Gcm16);
        let body = HEADER_LEN + GENERIC_HEADER_LEN;
        let ivs = [0, 1, 2].map(|_| sealer.seal(&header(), &[]).unwrap()[body..body + IV_LEN].to_vec());
        assert_eq!(ivs, [0u64, 1, 2].map(|iv| iv.to_be_bytes().to_vec()));
        sealer.next_iv = u64::MAX;
        assert_eq!(sealer.seal(&header(), &[]), Err(SealError::IvExhausted));
    }

    #[test]
    fn long_messages_are_cut_to_fit_and_short_ones_are_not() {
        let (mut sealer, opener) = pair(Aead::ChaCha20Poly1305);
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

    #[test]
    fn limits_without_room_are_refused() {
        let (mut sealer, _) = pair(Aead::Aes128Gcm16);
        for limit in [0, 61, 62] {
            let refused = sealer.seal_fragmented(&header(), &payloads(3000), limit);
            assert!(matches!(refused, Err(SealError::Fragments { .. })), "{limit}: {refused:?}");
        }
    }

    #[test]
    fn padding_of_other_implementations_is_taken_off_and_must_fit() {
        let (_, opener) = pair(Aead::Aes256Gcm16);
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
            let nonce = opener.key.nonce([9; IV_LEN]);
            let tag = opener.key.key.seal_in_place_separate_tag(nonce, Aad::from(aad), text).unwrap();
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
        let error = Sealer::new(Aead::Aes256Gcm16, &SecretBytes::from(vec![0; 35])).unwrap_err();
        assert_eq!(error.to_string(), "aes256gcm16 takes 36 octets of key material, got 35");
    }
}
