//! A whole message: header, clear payloads, and the protected part that may end it (RFC 7296 §1.2, §3).

use crate::{
    header::{HEADER_LEN, Header, HeaderError},
    payload::{self, ChainError, Oversized, Payload, PayloadType, Protected},
};

/// A message as it stands on the wire; what is protected is described, not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The fixed header.
    pub header: Header,
    /// The payloads in the clear.
    pub payloads: Vec<Payload>,
    /// Where the encrypted payload is, if the message has one.
    pub protected: Option<Protected>,
}

/// A datagram that is not an IKEv2 message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Its header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Its payloads; the header was readable, so that an answer is possible.
    #[error("{reason}")]
    Chain {
        /// The header.
        header: Header,
        /// What was wrong after it.
        #[source]
        reason: ChainError,
    },
}

/// A message that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// One payload is too large.
    #[error(transparent)]
    Payload(#[from] Oversized),
    /// The whole is too large for a UDP datagram.
    #[error("a message of {0} octets does not fit a UDP datagram")]
    Message(usize),
}

/// Largest message sent: a UDP datagram over IPv4, less the non-ESP marker.
pub const MAX_MESSAGE_LEN: usize = 65_507 - 4;

impl Message {
    /// Reads a datagram, any non-ESP marker taken off already.
    pub fn parse(datagram: &[u8]) -> Result<Self, MessageError> {
        let (header, first) = Header::parse(datagram)?;
        let chain = payload::parse_chain(first, datagram.get(HEADER_LEN..).unwrap_or_default(), HEADER_LEN)
            .map_err(|reason| MessageError::Chain { header, reason })?;
        Ok(Self { header, payloads: chain.payloads, protected: chain.protected })
    }

    /// A message without a protected part.
    pub fn clear(header: Header, payloads: Vec<Payload>) -> Self {
        Self { header, payloads, protected: None }
    }

    /// Writes the header and the clear payloads; a protected part is written by the cipher that seals it.
    pub fn emit(&self) -> Result<Vec<u8>, EmitError> {
        let mut out = Vec::with_capacity(512);
        self.header.emit(payload::first_type(&self.payloads), 0, &mut out);
        payload::emit_chain(&self.payloads, PayloadType::None, &mut out)?;
        set_length(&mut out)?;
        Ok(out)
    }

    /// The first notify of a kind.
    pub fn notify(&self, kind: payload::NotifyType) -> Option<&payload::Notify> {
        find_notify(&self.payloads, kind)
    }
}

/// The first notify of a kind among some payloads.
pub fn find_notify(payloads: &[Payload], kind: payload::NotifyType) -> Option<&payload::Notify> {
    payloads.iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind == kind => Some(notify),
        _ => None,
    })
}

/// Puts the length of a finished message into its header.
pub fn set_length(message: &mut [u8]) -> Result<(), EmitError> {
    let octets = message.len();
    let length = u32::try_from(octets).ok().filter(|_| octets <= MAX_MESSAGE_LEN).ok_or(EmitError::Message(octets))?;
    if let Some(field) = message.get_mut(24..HEADER_LEN) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}
