//! Encrypted (SK, type 46) and Encrypted Fragment (SKF, type 53) payloads (RFC 7296 §3.14, RFC 7383 §2.5).
//!
//! They stay in the datagram: opening happens in place and authenticates the octets before them, so what is kept here
//! is where they are. How many octets are IV and ICV is the cipher's to say.

use std::ops::Range;

use super::{GENERIC_HEADER_LEN, PayloadType};

/// Octets of fragment number and total.
pub const FRAGMENT_HEADER_LEN: usize = 4;

/// Where the protected part of a message is, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    /// The type of the first payload inside; `None` (the wire's zero) for an empty one, and in fragments after the
    /// first.
    pub first_inner: PayloadType,
    /// Set for SKF.
    pub fragment: Option<Fragment>,
    /// IV, ciphertext and ICV within the datagram. Everything before is what the ICV covers besides (RFC 5282 §5.1).
    pub body: Range<usize>,
}

/// Which piece of a message an SKF payload is; numbers start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// 1 to `total`.
    pub number: u16,
    /// How many there are.
    pub total: u16,
}

/// Fragment numbers RFC 7383 §2.5 forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// No room for the numbers.
    #[error("{0} octets cannot hold the fragment number and total")]
    Short(usize),
    /// Zero, or a number past the total.
    #[error("fragment {number} of {total} (RFC 7383 §2.5)")]
    Numbers {
        /// The fragment number field.
        number: u16,
        /// The total field.
        total: u16,
    },
}

impl Protected {
    /// `end` is where the body ends in the datagram.
    pub(super) fn parse(
        kind: PayloadType,
        first_inner: PayloadType,
        body: &[u8],
        end: usize,
    ) -> Result<Self, FragmentError> {
        let start = end - body.len();
        if kind == PayloadType::Encrypted {
            return Ok(Self { first_inner, fragment: None, body: start..end });
        }
        let Some(&[n0, n1, t0, t1]) = body.first_chunk::<FRAGMENT_HEADER_LEN>() else {
            return Err(FragmentError::Short(body.len()));
        };
        let (number, total) = (u16::from_be_bytes([n0, n1]), u16::from_be_bytes([t0, t1]));
        if number == 0 || number > total {
            return Err(FragmentError::Numbers { number, total });
        }
        Ok(Self { first_inner, fragment: Some(Fragment { number, total }), body: start + FRAGMENT_HEADER_LEN..end })
    }

    /// SK or SKF.
    pub fn kind(&self) -> PayloadType {
        if self.fragment.is_some() { PayloadType::EncryptedFragment } else { PayloadType::Encrypted }
    }

    /// Octets of the payload's headers (generic, and fragment numbers) before the body.
    pub fn header_len(&self) -> usize {
        GENERIC_HEADER_LEN + if self.fragment.is_some() { FRAGMENT_HEADER_LEN } else { 0 }
    }
}
