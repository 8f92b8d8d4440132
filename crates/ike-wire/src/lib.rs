//! IKEv2 messages and payloads: bytes to values and back (RFC 7296 §3, RFC 7383 §2.5).
//!
//! Nothing here keeps state, reads a clock or decides anything: it says what a datagram holds or why it cannot be
//! read. Reading is strict about lengths, one pass, and bounded in the number of payloads, proposals, transforms and
//! selectors; what IANA may extend is kept as a number. Ciphertext is described by its place and opened elsewhere.
//!
//! Left out on purpose: IKEv1, and the contents of CP and EAP payloads, which are kept as octets.

mod codes;
mod header;
mod marker;
mod message;
pub mod payload;
mod reader;

pub use header::{ExchangeType, Flags, HEADER_LEN, Header, HeaderError, IkeSpi, VERSION};
pub use marker::{Encapsulated, NON_ESP_MARKER, classify, with_marker};
pub use message::{EmitError, MAX_MESSAGE_LEN, Message, MessageError, find_notify, set_length};
pub use payload::{
    AuthMethod, Authentication, CertEncoding, Certificate, CertificateRequest, ChainError, Delete, DhGroup, Encryption,
    EsnMode, Fragment, IdKind, Identification, Integrity, KeyExchange, Notify, NotifyType, Payload, PayloadError,
    PayloadType, Prf, Proposal, Protected, ProtocolId, SecurityAssociation, TrafficSelector, TrafficSelectors,
    Transform, TransformId, TsRange, emit_chain, first_type, parse_inner, unsupported_critical,
};
pub use reader::Truncated;
