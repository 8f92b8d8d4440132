//! The sending side of an association (RFC 4303 §3.3).

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use net_types::Spi;

use crate::{
    Cipher, HEADER_LEN, HEADROOM, Keymat, TRAILER_LEN,
    cipher::{AssociatedData, Key, Schedule, Sizes, low},
    next_header,
};

/// An association that seals. Shared by reference: numbers are taken atomically.
pub struct OutboundSa {
    spi: Spi,
    key: Key,
    esn: bool,
    /// The last number used. One more than that is the next packet's.
    last: AtomicU64,
}

/// Where a packet lies in a slab: the inner packet [`HEADROOM`] octets after `start` before sealing, the whole ESP packet
/// from `start` after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// First octet of the ESP packet.
    pub start: usize,
    /// Length of the inner packet, and of the ESP packet once sealed.
    pub length: usize,
}

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The numbers are used up; they never repeat (RFC 4303 §3.3.3).
    #[error("the sequence numbers of SPI {0} are used up; the association must be rekeyed")]
    Exhausted(Spi),
    /// The buffer ends before the sealed packet does.
    #[error("the sealed packet takes {wanted} octets, the buffer has {found}")]
    Room {
        /// Octets that the packet takes.
        wanted: usize,
        /// Octets from its start to the buffer's end.
        found: usize,
    },
    /// Neither IPv4 nor IPv6.
    #[error("not an IP packet")]
    NotIp,
}

impl OutboundSa {
    /// A fresh association: the first packet has number 1.
    pub fn new(spi: Spi, keymat: &Keymat, esn: bool) -> Self {
        Self { spi, key: Key::new(keymat), esn, last: AtomicU64::new(0) }
    }

    /// The number that the peer knows it by.
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

    /// How many numbers have been used.
    pub fn used(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// How many numbers there are.
    pub fn capacity(&self) -> u64 {
        if self.esn { u64::MAX } else { u64::from(u32::MAX) }
    }

    /// Seals the frames of a slab in order; each one's length becomes that of its ESP packet.
    ///
    /// Frames that are refused for their content or room get length 0 and are counted in the result.
    ///
    /// # Errors
    /// [`SealError::Exhausted`] when there are not numbers enough for all; then none is sealed.
    pub fn seal_batch(&self, slab: &mut [u8], frames: &mut [Frame]) -> Result<usize, SealError> {
        let first = self.reserve(frames.len() as u64)?;
        let mut refused = 0;
        for (frame, nth) in frames.iter_mut().zip(0..) {
            let sequence = first.saturating_add(nth); // reserved, so that it does not pass the end
            let sealed = match slab.get_mut(frame.start..) {
                Some(buffer) => self.seal_numbered(sequence, buffer, frame.length),
                None => Err(SealError::Room { wanted: self.cipher().sealed_len(frame.length), found: 0 }),
            };
            frame.length = sealed.unwrap_or_else(|_| {
                refused += 1;
                0
            });
        }
        Ok(refused)
    }

    /// Seals the inner packet of `inner` octets that lies [`HEADROOM`] into `buffer`; returns the ESP packet's length.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal(&self, buffer: &mut [u8], inner: usize) -> Result<usize, SealError> {
        let sequence = self.reserve(1)?;
        self.seal_numbered(sequence, buffer, inner)
    }

    /// Takes `count` numbers and returns the first.
    fn reserve(&self, count: u64) -> Result<u64, SealError> {
        let take = |last: u64| last.checked_add(count).filter(|new| *new <= self.capacity());
        match self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(last) => Ok(last.saturating_add(1)),
            Err(_) => Err(SealError::Exhausted(self.spi)),
        }
    }

    fn seal_numbered(&self, sequence: u64, buffer: &mut [u8], inner: usize) -> Result<usize, SealError> {
        let wanted = self.cipher().sealed_len(inner);
        let found = buffer.len();
        let packet = buffer.get_mut(..wanted).ok_or(SealError::Room { wanted, found })?;
        let next_header = match packet[HEADROOM] >> 4 {
            _ if inner == 0 => return Err(SealError::NotIp),
            4 => next_header::IPV4,
            6 => next_header::IPV6,
            _ => return Err(SealError::NotIp),
        };
        packet[..4].copy_from_slice(&self.spi.get().to_be_bytes());
        packet[4..HEADER_LEN].copy_from_slice(&low(sequence).to_be_bytes());
        let Sizes { before, icv: icv_len, .. } = self.cipher().sizes();
        let text_len = wanted - before - icv_len;
        let text = &mut packet[HEADROOM..HEADROOM + text_len];
        let padding = text_len - inner - TRAILER_LEN;
        // RFC 4303 §2.4: padding counts 1, 2, 3.
        for (octet, value) in text[inner..].iter_mut().zip(1..=padding as u8) {
            *octet = value;
        }
        text[text_len - 2] = padding as u8; // less than a block
        text[text_len - 1] = next_header;
        match self.key.schedule() {
            Schedule::Aead(key) => {
                // The number is the IV too: it never repeats for a key, which is all that is asked (RFC 4106 §3.1,
                // RFC 7634 §2).
                let iv = sequence.to_be_bytes();
                packet[HEADER_LEN..HEADROOM].copy_from_slice(&iv);
                let aad = AssociatedData::new(self.spi.get(), sequence, self.esn);
                let (text, icv) = packet[HEADROOM..].split_at_mut(text_len);
                icv.copy_from_slice(&key.seal(iv, aad.as_slice(), text));
            }
            Schedule::Cbc(key) => key.seal(packet, text_len, sequence, self.esn),
        }
        Ok(wanted)
    }

    #[cfg(test)]
    pub(crate) fn starting_at(self, last: u64) -> Self {
        self.last.store(last, Ordering::Relaxed);
        self
    }
}

impl fmt::Debug for OutboundSa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundSa")
            .field("spi", &self.spi)
            .field("cipher", &self.cipher())
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}
