//! The fixed IKE header (RFC 7296 §3.1).

use std::{fmt, num::NonZeroU64};

use bytes::BufMut;

use crate::{codes::codes, payload::PayloadType};

/// Octets of the fixed header.
pub const HEADER_LEN: usize = 28;
/// The one version spoken here: major 2, minor 0.
pub const VERSION: u8 = 0x20;

/// Names an IKE SA on one side; zero only stands for "not chosen yet" (RFC 7296 §2.6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IkeSpi(NonZeroU64);

impl IkeSpi {
    /// `None` for zero, which no SA may use as its own SPI.
    pub fn new(raw: u64) -> Option<Self> {
        NonZeroU64::new(raw).map(Self)
    }

    /// The number on the wire.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// As it stands in the header and in the key derivation inputs.
    pub fn to_bytes(self) -> [u8; 8] {
        self.get().to_be_bytes()
    }
}

impl fmt::Display for IkeSpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.get())
    }
}

impl fmt::Debug for IkeSpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

codes! {
    /// What a message is part of (RFC 7296 §3.1).
    pub enum ExchangeType: u8 {
        /// The first exchange: algorithms, nonces, key exchange.
        IkeSaInit = 34, "IKE_SA_INIT";
        /// Identities, authentication and the first child SA.
        IkeAuth = 35, "IKE_AUTH";
        /// New or rekeyed SAs.
        CreateChildSa = 36, "CREATE_CHILD_SA";
        /// Deletes, errors, liveness.
        Informational = 37, "INFORMATIONAL";
        /// Session resumption (RFC 5723); named so that logs can say what was refused.
        IkeSessionResume = 38, "IKE_SESSION_RESUME";
        /// Additional key exchanges (RFC 9242).
        IkeIntermediate = 43, "IKE_INTERMEDIATE";
        /// Follow-up key exchanges (RFC 9370).
        IkeFollowupKe = 44, "IKE_FOLLOWUP_KE";
    }
}

/// The three flags that have a meaning (RFC 7296 §3.1); the others are zero when sent and ignored when received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// Set in every message of the side that initiated the IKE SA.
    pub initiator: bool,
    /// The sender can speak a higher major version.
    pub higher_version: bool,
    /// The message answers a request with the same message ID.
    pub response: bool,
}

impl Flags {
    const INITIATOR: u8 = 0x08;
    const VERSION: u8 = 0x10;
    const RESPONSE: u8 = 0x20;

    fn parse(octet: u8) -> Self {
        Self {
            initiator: octet & Self::INITIATOR != 0,
            higher_version: octet & Self::VERSION != 0,
            response: octet & Self::RESPONSE != 0,
        }
    }

    fn octet(self) -> u8 {
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        bit(self.initiator, Self::INITIATOR)
            | bit(self.higher_version, Self::VERSION)
            | bit(self.response, Self::RESPONSE)
    }
}

/// The header without what emission computes (next payload, version, length).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// SPI of the side that initiated the IKE SA.
    pub initiator_spi: IkeSpi,
    /// SPI of the other side; `None` (zero on the wire) in the first request.
    pub responder_spi: Option<IkeSpi>,
    /// The exchange this message belongs to.
    pub exchange: ExchangeType,
    /// Direction bits.
    pub flags: Flags,
    /// Pairs requests with responses and orders them (RFC 7296 §2.2).
    pub message_id: u32,
}

/// A datagram that does not begin with a usable IKEv2 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Too short to hold a header.
    #[error("{0} octets cannot hold the 28-octet IKE header (RFC 7296 §3.1)")]
    Short(usize),
    /// Not IKE version 2.
    #[error("IKE version {major}.{minor}, expected 2.0 (RFC 7296 §2.5)")]
    Version {
        /// What the peer speaks.
        major: u8,
        /// Its minor version.
        minor: u8,
    },
    /// The initiator's SPI is zero.
    #[error("the initiator SPI is zero (RFC 7296 §3.1)")]
    ZeroInitiatorSpi,
    /// The length field and the datagram disagree.
    #[error("the header says {said} octets, the datagram has {found} (RFC 7296 §3.1)")]
    Length {
        /// The length field.
        said: u32,
        /// Octets received.
        found: usize,
    },
}

impl Header {
    /// Reads the header of a whole datagram (after any non-ESP marker); gives the type of the first payload too.
    pub fn parse(datagram: &[u8]) -> Result<(Self, PayloadType), HeaderError> {
        let Some((fixed, _)) = datagram.split_first_chunk::<HEADER_LEN>() else {
            return Err(HeaderError::Short(datagram.len()));
        };
        let [i0, i1, i2, i3, i4, i5, i6, i7, r0, r1, r2, r3, r4, r5, r6, r7, rest @ ..] = *fixed;
        let [next, version, exchange, flags, m0, m1, m2, m3, l0, l1, l2, l3] = rest;
        let (major, minor) = (version >> 4, version & 0x0f);
        if major != 2 {
            return Err(HeaderError::Version { major, minor }); // a higher minor version is ignored: RFC 7296 §2.5
        }
        let initiator_spi =
            IkeSpi::new(u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7])).ok_or(HeaderError::ZeroInitiatorSpi)?;
        let said = u32::from_be_bytes([l0, l1, l2, l3]);
        if usize::try_from(said) != Ok(datagram.len()) {
            return Err(HeaderError::Length { said, found: datagram.len() });
        }
        let header = Self {
            initiator_spi,
            responder_spi: IkeSpi::new(u64::from_be_bytes([r0, r1, r2, r3, r4, r5, r6, r7])),
            exchange: exchange.into(),
            flags: Flags::parse(flags),
            message_id: u32::from_be_bytes([m0, m1, m2, m3]),
        };
        Ok((header, next.into()))
    }

    /// Writes the header of a message whose first payload is `next` and whose whole length is `length`.
    pub fn emit(&self, next: PayloadType, length: u32, out: &mut impl BufMut) {
        out.put_u64(self.initiator_spi.get());
        out.put_u64(self.responder_spi.map_or(0, IkeSpi::get));
        out.put_u8(next.code());
        out.put_u8(VERSION);
        out.put_u8(self.exchange.code());
        out.put_u8(self.flags.octet());
        out.put_u32(self.message_id);
        out.put_u32(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            initiator_spi: IkeSpi::new(0x0102_0304_0506_0708).unwrap(),
            responder_spi: None,
            exchange: ExchangeType::IkeSaInit,
            flags: Flags { initiator: true, ..Flags::default() },
            message_id: 7,
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was_sent() {
        let mut wire = Vec::new();
        sample().emit(PayloadType::None, 28, &mut wire);
        assert_eq!(wire.len(), HEADER_LEN);
        assert_eq!(Header::parse(&wire), Ok((sample(), PayloadType::None)));
    }

    #[test]
    fn other_versions_zero_spis_and_wrong_lengths_are_refused() {
        let mut wire = Vec::new();
        sample().emit(PayloadType::None, 28, &mut wire);
        assert_eq!(Header::parse(&wire[..27]), Err(HeaderError::Short(27)));
        let with = |at: usize, value: u8| {
            let mut changed = wire.clone();
            changed[at] = value;
            Header::parse(&changed)
        };
        assert_eq!(with(17, 0x10), Err(HeaderError::Version { major: 1, minor: 0 }));
        assert_eq!(with(17, 0x30), Err(HeaderError::Version { major: 3, minor: 0 }));
        assert_eq!(with(17, 0x25), Ok((sample(), PayloadType::None)), "minor versions are ignored");
        assert_eq!(with(27, 29), Err(HeaderError::Length { said: 29, found: 28 }));
        assert_eq!(with(24, 0xff), Err(HeaderError::Length { said: 0xff00_001c, found: 28 }));
        let mut zero = wire.clone();
        zero[..8].fill(0);
        assert_eq!(Header::parse(&zero), Err(HeaderError::ZeroInitiatorSpi));
    }

    #[test]
    fn reserved_flags_are_ignored() {
        let mut wire = Vec::new();
        sample().emit(PayloadType::None, 28, &mut wire);
        wire[19] |= 0xc7;
        assert_eq!(Header::parse(&wire).unwrap().0, sample());
    }
}
