//! The payloads of a message and the chain that links them (RFC 7296 §3.2).
//!
//! A chain is read in one pass with a bound on its length; what is unknown is kept, so that the caller can tell the
//! peer which critical payload it did not understand (RFC 7296 §2.5).

mod auth;
mod cert;
mod delete;
mod encrypted;
mod id;
mod key_exchange;
mod notify;
mod sa;
mod ts;

use bytes::BufMut;

pub use auth::{AuthMethod, Authentication};
pub use cert::{CertEncoding, Certificate, CertificateRequest};
pub use delete::{Delete, DeleteError};
pub use encrypted::{FRAGMENT_HEADER_LEN, Fragment, FragmentError, Protected};
pub use id::{IdKind, Identification};
pub use key_exchange::KeyExchange;
pub use notify::{Notify, NotifyType};
pub use sa::{
    Attribute, AttributeValue, DhGroup, Encryption, EsnMode, Integrity, MAX_PROPOSALS, MAX_TRANSFORMS, Prf, Proposal,
    ProposalError, ProtocolId, SecurityAssociation, Transform, TransformError, TransformId,
};
pub use ts::{
    MAX_SELECTORS, SelectorError, TrafficSelector, TrafficSelectors, TsError, TsRange, prefixes_of, range_of,
};

use crate::{
    codes::codes,
    reader::{Reader, Truncated},
};

/// Most payloads accepted in one chain; the busiest genuine message has a few dozen (certificates, notifies, vendors).
pub const MAX_PAYLOADS: usize = 96;
/// Octets of the generic payload header.
pub const GENERIC_HEADER_LEN: usize = 4;
const CRITICAL: u8 = 0x80;

codes! {
    /// Payload types (RFC 7296 §3.2, RFC 7383 §5).
    pub enum PayloadType: u8 {
        /// Ends the chain.
        None = 0, "none";
        /// Security Association.
        SecurityAssociation = 33, "SA";
        /// Key Exchange.
        KeyExchange = 34, "KE";
        /// Identification of the initiator.
        IdInitiator = 35, "IDi";
        /// Identification of the responder.
        IdResponder = 36, "IDr";
        /// Certificate.
        Certificate = 37, "CERT";
        /// Certificate Request.
        CertificateRequest = 38, "CERTREQ";
        /// Authentication.
        Authentication = 39, "AUTH";
        /// Nonce.
        Nonce = 40, "Nonce";
        /// Notify.
        Notify = 41, "N";
        /// Delete.
        Delete = 42, "D";
        /// Vendor ID.
        VendorId = 43, "V";
        /// Traffic selectors of the initiator.
        TsInitiator = 44, "TSi";
        /// Traffic selectors of the responder.
        TsResponder = 45, "TSr";
        /// Encrypted and authenticated.
        Encrypted = 46, "SK";
        /// Configuration.
        Configuration = 47, "CP";
        /// Extensible authentication.
        Eap = 48, "EAP";
        /// Encrypted and authenticated fragment (RFC 7383).
        EncryptedFragment = 53, "SKF";
    }
}

/// One payload, its generic header taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// SA: what is offered or chosen.
    Sa(SecurityAssociation),
    /// KE: a public value.
    Ke(KeyExchange),
    /// IDi.
    IdInitiator(Identification),
    /// IDr.
    IdResponder(Identification),
    /// CERT.
    Cert(Certificate),
    /// CERTREQ.
    CertRequest(CertificateRequest),
    /// AUTH.
    Auth(Authentication),
    /// Ni or Nr, 16 to 256 octets (RFC 7296 §3.9).
    Nonce(Vec<u8>),
    /// N.
    Notify(Notify),
    /// D.
    Delete(Delete),
    /// V: opaque.
    VendorId(Vec<u8>),
    /// TSi.
    TsInitiator(TrafficSelectors),
    /// TSr.
    TsResponder(TrafficSelectors),
    /// CP: kept as it came; address assignment is not ours.
    Configuration(Vec<u8>),
    /// EAP: kept as it came.
    Eap(Vec<u8>),
    /// A type without a parser here.
    Unknown {
        /// Its number.
        kind: PayloadType,
        /// Whether the sender insists that it be understood.
        critical: bool,
        /// Its contents.
        body: Vec<u8>,
    },
}

/// A chain that cannot be read; the exchange fails with INVALID_SYNTAX (RFC 7296 §2.21).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The chain goes on but the octets end.
    #[error("the {0} payload's header: {1}")]
    Header(PayloadType, #[source] Truncated),
    /// The length field does not cover its own header or runs past the message.
    #[error("the {kind} payload says it is {said} octets long; {left} are left")]
    Length {
        /// The payload.
        kind: PayloadType,
        /// Its length field.
        said: u16,
        /// Octets from its start to the end of the message.
        left: usize,
    },
    /// Octets follow the last payload.
    #[error("{0} octets follow the last payload")]
    Trailing(usize),
    /// More payloads than any genuine message has.
    #[error("more than {MAX_PAYLOADS} payloads")]
    TooMany,
    /// Something follows, or contains, an encrypted payload (RFC 7296 §3.14: it is always the last one).
    #[error("the {0} payload is not the last one of the outer message (RFC 7296 §3.14)")]
    MisplacedEncrypted(PayloadType),
    /// A payload's own contents are wrong.
    #[error("the {kind} payload: {reason}")]
    Payload {
        /// The payload.
        kind: PayloadType,
        /// What was wrong in it.
        #[source]
        reason: PayloadError,
    },
}

/// What can be wrong inside one payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// A fixed field is missing.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// An SA payload's proposal.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// A nonce of a length RFC 7296 §3.9 forbids.
    #[error("a nonce of {0} octets, expected 16 to 256 (RFC 7296 §3.9)")]
    NonceLength(usize),
    /// A certificate request for a hash list that is not whole hashes.
    #[error("{0} octets of authority hashes, expected a multiple of 20 (RFC 7296 §3.7)")]
    AuthorityHashes(usize),
    /// A Delete payload.
    #[error(transparent)]
    Delete(#[from] DeleteError),
    /// A traffic selector payload.
    #[error(transparent)]
    Ts(#[from] TsError),
    /// An encrypted fragment's numbers.
    #[error(transparent)]
    Fragment(#[from] FragmentError),
}

/// A whole chain: clear payloads, and the encrypted one that may end it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) payloads: Vec<Payload>,
    pub(crate) protected: Option<Protected>,
}

/// Reads the payloads found inside an opened encrypted payload, the first being of type `first`.
pub fn parse_inner(first: PayloadType, plaintext: &[u8]) -> Result<Vec<Payload>, ChainError> {
    let chain = parse_chain(first, plaintext, 0)?;
    match chain.protected {
        None => Ok(chain.payloads),
        Some(nested) => Err(ChainError::MisplacedEncrypted(nested.kind())),
    }
}

/// `base` is where `octets` starts in the datagram, so that the encrypted part can be named by its place there.
pub(crate) fn parse_chain(first: PayloadType, octets: &[u8], base: usize) -> Result<Chain, ChainError> {
    let mut reader = Reader::new(octets);
    let mut payloads = Vec::new();
    let mut kind = first;
    while kind != PayloadType::None {
        if payloads.len() == MAX_PAYLOADS {
            return Err(ChainError::TooMany);
        }
        let left = reader.len();
        let header = reader.array::<GENERIC_HEADER_LEN>().map_err(|e| ChainError::Header(kind, e))?;
        let [next, flags, high, low] = header;
        let said = u16::from_be_bytes([high, low]);
        let body = usize::from(said)
            .checked_sub(GENERIC_HEADER_LEN)
            .and_then(|n| reader.take(n).ok())
            .ok_or(ChainError::Length { kind, said, left })?;
        if matches!(kind, PayloadType::Encrypted | PayloadType::EncryptedFragment) {
            if !reader.is_empty() {
                return Err(ChainError::MisplacedEncrypted(kind));
            }
            let end = base + octets.len();
            let protected = Protected::parse(kind, next.into(), body, end)
                .map_err(|reason| ChainError::Payload { kind, reason: reason.into() })?;
            return Ok(Chain { payloads, protected: Some(protected) });
        }
        let payload =
            Payload::parse(kind, flags & CRITICAL != 0, body).map_err(|reason| ChainError::Payload { kind, reason })?;
        payloads.push(payload);
        kind = next.into();
    }
    if !reader.is_empty() {
        return Err(ChainError::Trailing(reader.len()));
    }
    Ok(Chain { payloads, protected: None })
}

/// The first critical payload of unknown type, which obliges us to refuse the whole message (RFC 7296 §2.5).
pub fn unsupported_critical(payloads: &[Payload]) -> Option<PayloadType> {
    payloads.iter().find_map(|payload| match payload {
        Payload::Unknown { kind, critical: true, .. } => Some(*kind),
        _ => None,
    })
}

/// A payload too large for its 16-bit length field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {kind} payload of {octets} octets does not fit its 16-bit length (RFC 7296 §3.2)")]
pub struct Oversized {
    /// The payload.
    pub kind: PayloadType,
    /// Its size with the generic header.
    pub octets: usize,
}

/// The type of the first payload of a chain, `None` (the wire's zero) for an empty one.
pub fn first_type(payloads: &[Payload]) -> PayloadType {
    payloads.first().map_or(PayloadType::None, Payload::kind)
}

/// Writes a chain of payloads that `last` follows (`PayloadType::None`, or the encrypted payload still to come).
pub fn emit_chain(payloads: &[Payload], last: PayloadType, out: &mut Vec<u8>) -> Result<(), Oversized> {
    for (at, payload) in payloads.iter().enumerate() {
        let next = payloads.get(at + 1).map_or(last, Payload::kind);
        payload.emit(next, out)?;
    }
    Ok(())
}

/// Writes a generic payload header before a body of `body_len` octets.
pub fn emit_generic_header(
    kind: PayloadType,
    next: PayloadType,
    critical: bool,
    body_len: usize,
    out: &mut impl BufMut,
) -> Result<(), Oversized> {
    let octets = body_len.saturating_add(GENERIC_HEADER_LEN);
    let length = u16::try_from(octets).map_err(|_| Oversized { kind, octets })?;
    out.put_u8(next.code());
    out.put_u8(if critical { CRITICAL } else { 0 });
    out.put_u16(length);
    Ok(())
}

impl Payload {
    /// The type this payload has in the chain.
    pub fn kind(&self) -> PayloadType {
        match self {
            Self::Sa(_) => PayloadType::SecurityAssociation,
            Self::Ke(_) => PayloadType::KeyExchange,
            Self::IdInitiator(_) => PayloadType::IdInitiator,
            Self::IdResponder(_) => PayloadType::IdResponder,
            Self::Cert(_) => PayloadType::Certificate,
            Self::CertRequest(_) => PayloadType::CertificateRequest,
            Self::Auth(_) => PayloadType::Authentication,
            Self::Nonce(_) => PayloadType::Nonce,
            Self::Notify(_) => PayloadType::Notify,
            Self::Delete(_) => PayloadType::Delete,
            Self::VendorId(_) => PayloadType::VendorId,
            Self::TsInitiator(_) => PayloadType::TsInitiator,
            Self::TsResponder(_) => PayloadType::TsResponder,
            Self::Configuration(_) => PayloadType::Configuration,
            Self::Eap(_) => PayloadType::Eap,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    /// Reads a body of the given type. The critical bit of types we know is ignored (RFC 7296 §2.5).
    fn parse(kind: PayloadType, critical: bool, body: &[u8]) -> Result<Self, PayloadError> {
        Ok(match kind {
            PayloadType::SecurityAssociation => Self::Sa(SecurityAssociation::parse(body)?),
            PayloadType::KeyExchange => Self::Ke(KeyExchange::parse(body)?),
            PayloadType::IdInitiator => Self::IdInitiator(Identification::parse(body)?),
            PayloadType::IdResponder => Self::IdResponder(Identification::parse(body)?),
            PayloadType::Certificate => Self::Cert(Certificate::parse(body)?),
            PayloadType::CertificateRequest => Self::CertRequest(CertificateRequest::parse(body)?),
            PayloadType::Authentication => Self::Auth(Authentication::parse(body)?),
            PayloadType::Nonce if !(16..=256).contains(&body.len()) => {
                return Err(PayloadError::NonceLength(body.len()));
            }
            PayloadType::Nonce => Self::Nonce(body.to_vec()),
            PayloadType::Notify => Self::Notify(Notify::parse(body)?),
            PayloadType::Delete => Self::Delete(Delete::parse(body)?),
            PayloadType::VendorId => Self::VendorId(body.to_vec()),
            PayloadType::TsInitiator => Self::TsInitiator(TrafficSelectors::parse(body)?),
            PayloadType::TsResponder => Self::TsResponder(TrafficSelectors::parse(body)?),
            PayloadType::Configuration => Self::Configuration(body.to_vec()),
            PayloadType::Eap => Self::Eap(body.to_vec()),
            PayloadType::None | PayloadType::Encrypted | PayloadType::EncryptedFragment | PayloadType::Other(_) => {
                Self::Unknown { kind, critical, body: body.to_vec() }
            }
        })
    }

    /// Writes the payload with its generic header; `next` is the type that follows it.
    pub fn emit(&self, next: PayloadType, out: &mut Vec<u8>) -> Result<(), Oversized> {
        let start = out.len();
        let critical = matches!(self, Self::Unknown { critical: true, .. });
        emit_generic_header(self.kind(), next, critical, 0, out)?;
        match self {
            Self::Sa(sa) => sa.emit(out)?,
            Self::Ke(ke) => ke.emit(out),
            Self::IdInitiator(id) | Self::IdResponder(id) => id.emit(out),
            Self::Cert(cert) => cert.emit(out),
            Self::CertRequest(request) => request.emit(out),
            Self::Auth(auth) => auth.emit(out),
            Self::Notify(notify) => notify.emit(out),
            Self::Delete(delete) => delete.emit(out),
            Self::TsInitiator(ts) | Self::TsResponder(ts) => ts.emit(out)?,
            Self::Nonce(body)
            | Self::VendorId(body)
            | Self::Configuration(body)
            | Self::Eap(body)
            | Self::Unknown { body, .. } => out.put_slice(body),
        }
        let octets = out.len() - start;
        let length = u16::try_from(octets).map_err(|_| Oversized { kind: self.kind(), octets })?;
        if let Some(field) = out.get_mut(start + 2..start + 4) {
            field.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }
}
