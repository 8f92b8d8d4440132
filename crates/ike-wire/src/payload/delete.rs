//! Delete, payload type 42 (RFC 7296 §3.11).

use bytes::BufMut;

use super::sa::ProtocolId;
use crate::reader::{Reader, Truncated};

/// SAs the sender has deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delete {
    /// The IKE SA that carries this message.
    Ike,
    /// Child SAs, by the SPIs their sender received on.
    Child {
        /// ESP, or AH, which we never have.
        protocol: ProtocolId,
        /// The SPIs, unchecked: a reserved one names no SA of ours and is answered as such.
        spis: Vec<u32>,
    },
}

/// A Delete payload that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// A field is missing.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// An SPI size that the protocol does not have.
    #[error("SPIs of {size} octets for {protocol} (RFC 7296 §3.11: none for IKE, 4 for AH and ESP)")]
    SpiSize {
        /// The protocol.
        protocol: ProtocolId,
        /// What the payload says.
        size: u8,
    },
    /// A protocol that has no SAs.
    #[error("cannot delete SAs of {0}")]
    Protocol(ProtocolId),
    /// The count and the octets disagree.
    #[error("{count} SPIs in {octets} octets")]
    Count {
        /// The count field.
        count: u16,
        /// Octets after it.
        octets: usize,
    },
}

impl Delete {
    /// Reads the payload's body.
    pub fn parse(body: &[u8]) -> Result<Self, DeleteError> {
        let mut reader = Reader::new(body);
        let protocol: ProtocolId = reader.u8()?.into();
        let size = reader.u8()?;
        let count = reader.u16()?;
        let octets = reader.rest();
        match (protocol, size) {
            (ProtocolId::Ike, 0) if count == 0 && octets.is_empty() => Ok(Self::Ike),
            (ProtocolId::Ike, 0) => Err(DeleteError::Count { count, octets: octets.len() }),
            (ProtocolId::Esp | ProtocolId::Ah, 4) => {
                let (spis, rest) = octets.as_chunks::<4>();
                if spis.len() != usize::from(count) || !rest.is_empty() {
                    return Err(DeleteError::Count { count, octets: octets.len() });
                }
                Ok(Self::Child { protocol, spis: spis.iter().map(|raw| u32::from_be_bytes(*raw)).collect() })
            }
            (ProtocolId::Ike | ProtocolId::Esp | ProtocolId::Ah, _) => Err(DeleteError::SpiSize { protocol, size }),
            _ => Err(DeleteError::Protocol(protocol)),
        }
    }

    /// Writes the payload's body.
    pub fn emit(&self, out: &mut impl BufMut) {
        match self {
            Self::Ike => {
                out.put_u8(ProtocolId::Ike.code());
                out.put_bytes(0, 3);
            }
            Self::Child { protocol, spis } => {
                out.put_u8(protocol.code());
                out.put_u8(4);
                let count = u16::try_from(spis.len()).unwrap_or(u16::MAX);
                out.put_u16(count);
                spis.iter().take(usize::from(count)).for_each(|spi| out.put_u32(*spi));
            }
        }
    }
}
