//! ESP (RFC 4303) in tunnel mode: sealing, opening and replay protection, in place and in batches.
//!
//! No I/O and no clock: the owner brings octets and takes octets. A packet is sealed where it lies, with 16 octets of room
//! in front and [`Cipher::sealed_len`] in all, so that a batch of inner packets becomes one slab of ESP packets back
//! to back, ready for UDP segmentation; an ESP packet is opened where it was received.
//!
//! Ciphers are combined-mode, AES-GCM with a 16-octet ICV (RFC 4106) and ChaCha20-Poly1305 (RFC 7634), and for peers that
//! have neither AES-CBC with HMAC-SHA-2 (RFC 3602, RFC 4868). Left out on purpose: transport mode, and resynchronisation
//! after the loss of 2^32 packets in a row (RFC 4303 appendix A3), for which dead peer detection makes a new association.

mod cbc;
mod cipher;
mod inner;
mod open;
mod replay;
mod seal;
mod selector;

pub use cbc::{AesKeySize, Hmac};
pub use cipher::{Cipher, KeyMaterialLength, Keymat};
pub use inner::{Inner, InnerError};
pub use open::{InboundSa, OpenError, Opened, Opener};
pub use replay::{ReplayError, ReplayWindow};
pub use seal::{Frame, OutboundSa, SealError};
pub use selector::{Selector, Selectors};

/// SPI and sequence number (RFC 4303 §2).
pub const HEADER_LEN: usize = 8;
/// Explicit initialisation vector of the combined-mode ciphers (RFC 4106 §3.1, RFC 7634 §2).
pub const IV_LEN: usize = 8;
/// Integrity check value of the combined-mode ciphers (RFC 4106 §6, RFC 7634 §2).
pub const ICV_LEN: usize = 16;
/// What stands before the inner packet while it is not sealed, whatever the cipher.
pub const HEADROOM: usize = HEADER_LEN + IV_LEN;
/// Pad length and next header (RFC 4303 §2.5, §2.6).
pub(crate) const TRAILER_LEN: usize = 2;
/// The shortest packet that can be one of ours: header, IV, a trailer padded to four octets, ICV.
pub const MIN_LEN: usize = HEADROOM + 4 + ICV_LEN;
/// Most octets that any cipher here adds to an inner packet: header, an IV and padding of a block each, trailer, ICV.
pub const MAX_OVERHEAD: usize = HEADER_LEN + 16 + 15 + TRAILER_LEN + 32;

/// Next header values of tunnel mode (RFC 4303 §2.6).
pub(crate) mod next_header {
    pub(crate) const IPV4: u8 = 4;
    pub(crate) const IPV6: u8 = 41;
    /// "No next header": a dummy packet, dropped in silence.
    pub(crate) const DUMMY: u8 = 59;
}

/// The largest inner packet whose ESP packet, under a combined-mode cipher, fits in `room` octets.
///
/// Padding makes the ciphertext a multiple of four octets (RFC 4303 §2.4), the trailer takes two.
pub fn inner_capacity(room: usize) -> usize {
    (room.saturating_sub(HEADROOM + ICV_LEN) & !3).saturating_sub(TRAILER_LEN)
}

/// The SPI that an ESP packet names, if it is long enough to be one.
pub fn spi_of(packet: &[u8]) -> Option<u32> {
    packet.first_chunk().map(|octets| u32::from_be_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inner_mtu_is_what_the_design_says() {
        // Outer 1500, IPv4 (20) or IPv6 (40), and UDP (8).
        assert_eq!(inner_capacity(1500 - 28), 1438);
        assert_eq!(inner_capacity(1500 - 48), 1418);
        assert_eq!(inner_capacity(0), 0);
    }
}
