//! The receiving side of an association (RFC 4303 §3.4).

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use net_types::Spi;

use crate::{
    Cipher, HEADER_LEN, HEADROOM, ICV_LEN, Inner, InnerError, Keymat, MIN_LEN, ReplayError, ReplayWindow, TRAILER_LEN,
    cipher::{AssociatedData, Key, Schedule},
    next_header,
};

/// An association that opens. Shared by reference; [`Self::opener`] takes its replay window for a batch.
pub struct InboundSa {
    spi: Spi,
    key: Key,
    esn: bool,
    window: Mutex<ReplayWindow>,
}

/// What an authentic packet held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// An IP packet, [`HEADROOM`] octets into the buffer and as long as it says itself.
    Packet(Inner),
    /// A dummy, sent to hide traffic (RFC 4303 §2.6).
    Dummy,
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short to be ESP, or not a multiple of four octets.
    #[error("{0} octets are no ESP packet of this association")]
    Length(usize),
    /// It names another association.
    #[error("the packet is for SPI {0:#010x}")]
    OtherSpi(u32),
    /// The replay window refuses it.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// Forged, damaged, or under another key.
    #[error("the integrity check value does not match")]
    Authentication,
    /// Authentic, but its padding is not 1, 2, 3 … (RFC 4303 §2.4).
    #[error("the padding is malformed")]
    Padding,
    /// Authentic, but what it carries is no IP packet as tunnel mode has it.
    #[error(transparent)]
    Inner(#[from] InnerError),
}

impl OpenError {
    /// Whether the sender proved to know the key, so that it is at fault and not somebody on the way.
    pub fn is_authentic(&self) -> bool {
        matches!(self, Self::Padding | Self::Inner(_))
    }
}

impl InboundSa {
    /// A fresh association.
    pub fn new(spi: Spi, keymat: &Keymat, esn: bool) -> Self {
        Self { spi, key: Key::new(keymat), esn, window: Mutex::new(ReplayWindow::new(esn)) }
    }

    /// The same with a replay window of so many packets; see [`ReplayWindow::of`].
    #[must_use]
    pub fn with_window(mut self, packets: u64) -> Self {
        let window = self.window.get_mut().unwrap_or_else(PoisonError::into_inner);
        *window = window.clone().of(packets);
        self
    }

    /// The number that its packets carry.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// Its cipher.
    pub fn cipher(&self) -> Cipher {
        self.key.cipher()
    }

    /// Whether sequence numbers have 64 bits.
    pub fn is_extended(&self) -> bool {
        self.esn
    }

    /// The highest sequence number accepted.
    pub fn highest(&self) -> u64 {
        self.lock().top()
    }

    /// Takes the replay window for as many packets as come in one batch.
    pub fn opener(&self) -> Opener<'_> {
        Opener { sa: self, window: self.lock() }
    }

    /// A window is whole between any two statements, so that a panic elsewhere cannot have left it half changed.
    fn lock(&self) -> MutexGuard<'_, ReplayWindow> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn starting_at(self, top: u64) -> Self {
        *self.lock() = ReplayWindow::starting_at(top, self.esn);
        self
    }
}

impl fmt::Debug for InboundSa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundSa").field("spi", &self.spi).field("cipher", &self.cipher()).finish_non_exhaustive()
    }
}

/// Opens packets of one association, one after the other.
pub struct Opener<'a> {
    sa: &'a InboundSa,
    window: MutexGuard<'a, ReplayWindow>,
}

impl Opener<'_> {
    /// Checks, authenticates and decrypts a whole ESP packet in place, then advances the window (RFC 4303 §3.4.3: in this
    /// order). On success the inner packet is `packet[HEADROOM..HEADROOM + inner.length]`; on failure the octets are
    /// rubbish.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&mut self, packet: &mut [u8]) -> Result<Opened, OpenError> {
        let length = packet.len();
        if length < MIN_LEN || !length.is_multiple_of(4) {
            return Err(OpenError::Length(length));
        }
        let spi = word(packet, 0);
        if spi != self.sa.spi.get() {
            return Err(OpenError::OtherSpi(spi));
        }
        let sequence = self.window.check(word(packet, 4))?;
        let text_len = match self.sa.key.schedule() {
            Schedule::Aead(key) => {
                let (header, text_and_icv) = packet.split_at_mut(HEADROOM);
                let aad = AssociatedData::new(spi, sequence, self.sa.esn);
                let iv = header.get(HEADER_LEN..).and_then(|iv| iv.try_into().ok()).ok_or(OpenError::Length(length))?;
                key.open(iv, aad.as_slice(), text_and_icv).map_err(|_| OpenError::Authentication)?;
                text_and_icv.len().saturating_sub(ICV_LEN)
            }
            Schedule::Cbc(key) => key.open(packet, sequence, self.sa.esn).map_err(|_| OpenError::Authentication)?,
        };
        self.window.accept(sequence);
        let text = packet.get(HEADROOM..HEADROOM + text_len).ok_or(OpenError::Length(length))?;
        unpack(text)
    }
}

/// Takes the trailer off an authentic plaintext (RFC 4303 §2.4-§2.7).
fn unpack(text: &[u8]) -> Result<Opened, OpenError> {
    let Some((rest, &[pad_length, next])) = text.split_last_chunk::<TRAILER_LEN>() else {
        return Err(OpenError::Padding);
    };
    let payload_len = rest.len().checked_sub(usize::from(pad_length)).ok_or(OpenError::Padding)?;
    let (payload, padding) = rest.split_at(payload_len);
    if next == next_header::DUMMY {
        return Ok(Opened::Dummy); // its content is arbitrary
    }
    if !padding.iter().copied().eq(1..=pad_length) {
        return Err(OpenError::Padding);
    }
    // What follows the inner packet's own length is traffic flow confidentiality padding (RFC 4303 §2.7).
    Ok(Opened::Packet(Inner::parse(next, payload)?))
}

fn word(octets: &[u8], at: usize) -> u32 {
    octets.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::{AesKeySize, Hmac, OutboundSa, SealError, cipher::AeadKey};

    fn keymat(cipher: Cipher) -> Keymat {
        Keymat::new(cipher, vec![0x5a; cipher.keymat_len()]).unwrap()
    }

    fn spi() -> Spi {
        Spi::try_from(0x1234_5678).unwrap()
    }

    fn pair(esn: bool) -> (OutboundSa, InboundSa) {
        pair_of(Cipher::Aes128Gcm16, esn)
    }

    fn pair_of(cipher: Cipher, esn: bool) -> (OutboundSa, InboundSa) {
        let keymat = keymat(cipher);
        (OutboundSa::new(spi(), &keymat, esn), InboundSa::new(spi(), &keymat, esn))
    }

    fn inner(length: usize) -> Vec<u8> {
        let mut packet: Vec<u8> = (0..length.max(20)).map(|n| n as u8).collect();
        let said = u16::try_from(packet.len()).unwrap();
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&said.to_be_bytes());
        packet
    }

    fn sealed(out: &OutboundSa, inner: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; out.cipher().sealed_len(inner.len())];
        buffer[HEADROOM..HEADROOM + inner.len()].copy_from_slice(inner);
        out.seal(&mut buffer, inner.len()).unwrap();
        buffer
    }

    fn aead(key: &Key) -> &AeadKey {
        let Schedule::Aead(key) = key.schedule() else { panic!("not a combined-mode cipher") };
        key
    }

    /// Seals a plaintext that ends in a trailer of the test's choice.
    fn crafted(sequence: u64, mut text: Vec<u8>) -> Vec<u8> {
        let key = Key::new(&keymat(Cipher::Aes128Gcm16));
        let aad = AssociatedData::new(spi().get(), sequence, false);
        let icv = aead(&key).seal(sequence.to_be_bytes(), aad.as_slice(), &mut text);
        let mut packet = spi().get().to_be_bytes().to_vec();
        packet.extend(crate::cipher::low(sequence).to_be_bytes());
        packet.extend(sequence.to_be_bytes());
        packet.extend(text);
        packet.extend(icv);
        packet
    }

    #[test]
    fn a_packet_opens_once_and_only_unchanged() {
        let (out, inbound) = pair(false);
        let packet = sealed(&out, &inner(100));
        for at in 0..packet.len() {
            let mut forged = packet.clone();
            forged[at] ^= 1;
            assert!(inbound.opener().open(&mut forged).is_err(), "octet {at}");
        }
        assert!(inbound.opener().open(&mut packet.clone()).is_ok(), "forgeries left the window alone");
        assert_eq!(inbound.opener().open(&mut packet.clone()), Err(ReplayError::Duplicate(1).into()));
    }

    #[test]
    fn extended_numbers_cross_the_32_bit_border() {
        let (out, inbound) = pair(true);
        let (out, inbound) = (out.starting_at(u64::from(u32::MAX) - 2), inbound.starting_at(u64::from(u32::MAX) - 2));
        let packets: Vec<_> = (0..6).map(|_| sealed(&out, &inner(40))).collect();
        for packet in packets.iter().rev() {
            assert!(inbound.opener().open(&mut packet.clone()).is_ok());
        }
        assert_eq!(inbound.highest(), u64::from(u32::MAX) + 4);
    }

    #[test]
    fn numbers_run_out_and_never_repeat() {
        let (out, _) = pair(false);
        let out = out.starting_at(u64::from(u32::MAX) - 1);
        let mut buffer = vec![0; out.cipher().sealed_len(20)];
        buffer[HEADROOM..HEADROOM + 20].copy_from_slice(&inner(20));
        let mut slab = buffer.repeat(2);
        let mut frames = [0, buffer.len()].map(|start| crate::Frame { start, length: 20 });
        assert_eq!(out.seal_batch(&mut slab, &mut frames), Err(SealError::Exhausted(spi())));
        assert!(out.seal(&mut buffer, 20).is_ok(), "one is left");
        buffer[HEADROOM..HEADROOM + 20].copy_from_slice(&inner(20));
        assert_eq!(out.seal(&mut buffer, 20), Err(SealError::Exhausted(spi())));
    }

    #[test]
    fn the_trailer_is_held_to_the_rfc() {
        let open = |text: Vec<u8>| pair(false).1.opener().open(&mut crafted(1, text));
        let packet = inner(20);
        let with = |tail: &[u8]| [packet.as_slice(), tail].concat();
        assert!(matches!(open(with(&[1, 2, 2, 4])), Ok(Opened::Packet(_))));
        assert_eq!(open(with(&[1, 1, 2, 4])), Err(OpenError::Padding));
        assert_eq!(open(with(&[1, 2, 200, 4])), Err(OpenError::Padding), "more padding than packet");
        assert_eq!(open(with(&[1, 2, 2, 41])), Err(InnerError::Version { found: 4, expected: 6 }.into()));
        assert_eq!(open(with(&[1, 2, 2, 6])), Err(InnerError::NextHeader(6).into()));
        assert_eq!(open(vec![9, 9, 0, 59]), Ok(Opened::Dummy));
        let tfc = open([packet.as_slice(), &[0; 40], &[1, 2, 2, 4]].concat());
        assert!(matches!(tfc, Ok(Opened::Packet(Inner { length: 20, .. }))), "{tfc:?}");
    }

    #[test]
    fn a_malformed_but_authentic_packet_uses_up_its_number() {
        let (_, inbound) = pair(false);
        let packet = crafted(7, vec![0, 0, 200, 4]);
        assert_eq!(inbound.opener().open(&mut packet.clone()), Err(OpenError::Padding));
        assert_eq!(inbound.opener().open(&mut packet.clone()), Err(ReplayError::Duplicate(7).into()));
    }

    fn any_cipher() -> impl Strategy<Value = Cipher> {
        let size = select(&[AesKeySize::Bits128, AesKeySize::Bits192, AesKeySize::Bits256][..]);
        let hmac = select(&[Hmac::Sha256, Hmac::Sha384, Hmac::Sha512][..]);
        prop_oneof![
            select(&[Cipher::Aes128Gcm16, Cipher::Aes256Gcm16, Cipher::ChaCha20Poly1305][..]),
            (size, hmac).prop_map(|(size, hmac)| Cipher::AesCbc(size, hmac)),
        ]
    }

    proptest! {
        #[test]
        fn a_batch_of_any_sizes_comes_back(cipher in any_cipher(), sizes in vec(20usize..1500, 1..40), esn: bool) {
            let (out, inbound) = pair_of(cipher, esn);
            let mut slab = Vec::new();
            let mut frames = Vec::new();
            for size in &sizes {
                frames.push(crate::Frame { start: slab.len(), length: *size });
                slab.extend([0; HEADROOM]);
                slab.extend(inner(*size));
                slab.resize(frames[frames.len() - 1].start + out.cipher().sealed_len(*size), 0);
            }
            prop_assert_eq!(out.seal_batch(&mut slab, &mut frames), Ok(0));
            prop_assert_eq!(frames.iter().map(|frame| frame.length).sum::<usize>(), slab.len());
            let mut opener = inbound.opener();
            for (frame, size) in frames.iter().zip(&sizes) {
                let packet = &mut slab[frame.start..frame.start + frame.length];
                let Ok(Opened::Packet(found)) = opener.open(packet) else { panic!("not opened") };
                prop_assert_eq!(&packet[HEADROOM..HEADROOM + found.length], &inner(*size)[..]);
            }
        }

        #[test]
        fn no_octets_make_opening_panic(
            cipher in any_cipher(), mut octets in vec(any::<u8>(), 0..200), named: bool, esn: bool,
        ) {
            if named && octets.len() >= 4 {
                octets[..4].copy_from_slice(&spi().get().to_be_bytes());
            }
            prop_assert!(pair_of(cipher, esn).1.opener().open(&mut octets).is_err());
        }

        #[test]
        fn any_authentic_text_is_judged_without_panic(text in vec(any::<u8>(), 1..40), next in 0usize..4) {
            let mut text = text;
            text.resize(text.len().next_multiple_of(4), 0);
            let last = text.len() - 1;
            text[last] = [4, 41, 59, text[last]][next];
            let _verdict = pair(false).1.opener().open(&mut crafted(1, text));
        }
    }

    /// `draft-mcgrew-gcm-test-01`: packets of GCM in ESP, octet for octet.
    #[test]
    fn gcm_vectors_seal_and_open_octet_for_octet() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len() / 2).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect()
        };
        let file = include_str!("../testdata/draft-mcgrew-gcm-test.txt");
        let mut count = 0;
        for line in file.lines().filter(|line| !line.starts_with('#')) {
            let parts: Vec<&str> = line.split_whitespace().collect();
            let [cipher, keymat, aad, iv, text, sealed] = parts[..] else { panic!("six fields a line: {line}") };
            let cipher = if cipher == "aes128gcm16" { Cipher::Aes128Gcm16 } else { Cipher::Aes256Gcm16 };
            let key = Key::new(&Keymat::new(cipher, hex(keymat)).unwrap());
            let aad = hex(aad);
            let spi = word(&aad, 0);
            let (esn, sequence) = match aad.len() {
                12 => (true, u64::from(word(&aad, 4)) << 32 | u64::from(word(&aad, 8))),
                _ => (false, u64::from(word(&aad, 4))),
            };
            assert_eq!(AssociatedData::new(spi, sequence, esn).as_slice(), aad, "RFC 4106 §5");
            let mut work = hex(text);
            let icv = aead(&key).seal(hex(iv).try_into().unwrap(), &aad, &mut work);
            work.extend(icv);
            assert_eq!(work, hex(sealed), "{line}");
            let mut packet = spi.to_be_bytes().to_vec();
            packet.extend(crate::cipher::low(sequence).to_be_bytes());
            packet.extend(hex(iv));
            packet.extend(&work);
            let sa = InboundSa::new(Spi::try_from(spi).unwrap(), &Keymat::new(cipher, hex(keymat)).unwrap(), esn);
            let sa = sa.starting_at(sequence - 1);
            assert_eq!(sa.opener().open(&mut packet), Err(InnerError::NextHeader(1).into()), "authentic, {line}");
            count += 1;
        }
        assert_eq!(count, 2);
    }
}
