//! Security Association, payload type 33: proposals, transforms, attributes (RFC 7296 §3.3).
//!
//! Transforms of unknown type or with unknown attributes are kept, because a proposal that has them is to be passed
//! over, not to be called malformed (RFC 7296 §3.3.6).

use std::fmt;

use bytes::BufMut;

use super::{Oversized, PayloadType};
use crate::{
    codes::codes,
    reader::{Reader, Truncated},
};

/// Most proposals accepted in one payload.
pub const MAX_PROPOSALS: usize = 64;
/// Most transforms accepted in one proposal; the count field could say 255.
pub const MAX_TRANSFORMS: usize = 128;

const MORE_PROPOSALS: u8 = 2;
const MORE_TRANSFORMS: u8 = 3;
const LAST: u8 = 0;
const PROPOSAL_HEADER_LEN: usize = 8;
const TRANSFORM_HEADER_LEN: usize = 8;
/// Set in an attribute type whose value is two octets without a length field.
const SHORT_FORM: u16 = 0x8000;
/// The one attribute defined (RFC 7296 §3.3.5).
const KEY_LENGTH: u16 = 14;

codes! {
    /// What a proposal, a delete or a notify is about (RFC 7296 §3.3.1).
    pub enum ProtocolId: u8 {
        /// Nothing in particular; only in Notify.
        None = 0, "none";
        /// The IKE SA.
        Ike = 1, "IKE";
        /// Authentication Header; recognised, never chosen.
        Ah = 2, "AH";
        /// Encapsulating Security Payload.
        Esp = 3, "ESP";
    }
}

codes! {
    /// Encryption algorithms, transform type 1.
    pub enum Encryption: u16 {
        /// Triple DES, recognised, never chosen.
        TripleDes = 3, "3des";
        /// AES in CBC mode, needs an integrity transform.
        AesCbc = 12, "aescbc";
        /// AES in counter mode.
        AesCtr = 13, "aesctr";
        /// AES-GCM with an ICV of 8 octets.
        AesGcm8 = 18, "aesgcm8";
        /// AES-GCM with an ICV of 12 octets.
        AesGcm12 = 19, "aesgcm12";
        /// AES-GCM with an ICV of 16 octets (RFC 4106, RFC 5282).
        AesGcm16 = 20, "aesgcm16";
        /// ChaCha20-Poly1305 (RFC 7634).
        ChaCha20Poly1305 = 28, "chacha20poly1305";
        /// AES-GCM with an ICV of 16 octets and the sequence number as IV (RFC 8750).
        AesGcm16Iiv = 30, "aesgcm16iiv";
    }
}

codes! {
    /// Pseudorandom functions, transform type 2.
    pub enum Prf: u16 {
        /// HMAC-MD5; recognised, never chosen.
        HmacMd5 = 1, "prfmd5";
        /// HMAC-SHA-1.
        HmacSha1 = 2, "prfsha1";
        /// AES-XCBC.
        Aes128Xcbc = 4, "prfaesxcbc";
        /// HMAC-SHA-256 (RFC 4868).
        HmacSha256 = 5, "prfsha256";
        /// HMAC-SHA-384 (RFC 4868).
        HmacSha384 = 6, "prfsha384";
        /// HMAC-SHA-512 (RFC 4868).
        HmacSha512 = 7, "prfsha512";
        /// AES-CMAC.
        Aes128Cmac = 8, "prfaescmac";
    }
}

codes! {
    /// Integrity algorithms, transform type 3; combined-mode ciphers have none, or `None` (RFC 7296 §3.3.3).
    pub enum Integrity: u16 {
        /// Explicitly none.
        None = 0, "none";
        /// HMAC-MD5-96; recognised, never chosen.
        HmacMd5_96 = 1, "md5";
        /// HMAC-SHA-1-96.
        HmacSha1_96 = 2, "sha1";
        /// AES-XCBC-96.
        AesXcbc96 = 5, "aesxcbc";
        /// HMAC-SHA-256-128.
        HmacSha256_128 = 12, "sha256";
        /// HMAC-SHA-384-192.
        HmacSha384_192 = 13, "sha384";
        /// HMAC-SHA-512-256.
        HmacSha512_256 = 14, "sha512";
    }
}

codes! {
    /// Key exchange methods, transform types 4 and 6 to 12, also in KE (RFC 9370 §2.2.1).
    pub enum DhGroup: u16 {
        /// No key exchange: a child SA without forward secrecy.
        None = 0, "none";
        /// 1024-bit MODP.
        Modp1024 = 2, "modp1024";
        /// 1536-bit MODP.
        Modp1536 = 5, "modp1536";
        /// 2048-bit MODP.
        Modp2048 = 14, "modp2048";
        /// 3072-bit MODP.
        Modp3072 = 15, "modp3072";
        /// 4096-bit MODP.
        Modp4096 = 16, "modp4096";
        /// NIST P-256 (RFC 5903).
        Ecp256 = 19, "ecp256";
        /// NIST P-384 (RFC 5903).
        Ecp384 = 20, "ecp384";
        /// NIST P-521 (RFC 5903).
        Ecp521 = 21, "ecp521";
        /// Curve25519 (RFC 8031).
        Curve25519 = 31, "x25519";
        /// Curve448 (RFC 8031).
        Curve448 = 32, "x448";
        /// ML-KEM-512 (draft-ietf-ipsecme-ikev2-mlkem).
        MlKem512 = 35, "mlkem512";
        /// ML-KEM-768.
        MlKem768 = 36, "mlkem768";
        /// ML-KEM-1024.
        MlKem1024 = 37, "mlkem1024";
    }
}

codes! {
    /// Sequence numbers of a child SA, transform type 5.
    pub enum EsnMode: u16 {
        /// 32 bits.
        Off = 0, "noesn";
        /// 64 bits.
        On = 1, "esn";
    }
}

/// What a transform stands for: its type and number in one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransformId {
    /// Type 1.
    Encryption(Encryption),
    /// Type 2.
    Prf(Prf),
    /// Type 3.
    Integrity(Integrity),
    /// Type 4.
    Dh(DhGroup),
    /// Type 5.
    Esn(EsnMode),
    /// Types 6 to 12: key exchanges after the first one (RFC 9370 §2.2.1).
    AdditionalKe {
        /// 1 to 7, in the order in which they take place.
        number: u8,
        /// By what; `None` where it may be left out.
        method: DhGroup,
    },
    /// A type without a meaning here.
    Other {
        /// The transform type.
        kind: u8,
        /// The transform ID.
        id: u16,
    },
}

impl TransformId {
    fn parse(kind: u8, id: u16) -> Self {
        match kind {
            1 => Self::Encryption(id.into()),
            2 => Self::Prf(id.into()),
            3 => Self::Integrity(id.into()),
            4 => Self::Dh(id.into()),
            5 => Self::Esn(id.into()),
            6..=12 => Self::AdditionalKe { number: kind - 5, method: id.into() },
            kind => Self::Other { kind, id },
        }
    }

    /// Transform type and transform ID.
    pub fn codes(self) -> (u8, u16) {
        match self {
            Self::Encryption(id) => (1, id.code()),
            Self::Prf(id) => (2, id.code()),
            Self::Integrity(id) => (3, id.code()),
            Self::Dh(id) => (4, id.code()),
            Self::Esn(id) => (5, id.code()),
            Self::AdditionalKe { number, method } => (number.saturating_add(5), method.code()),
            Self::Other { kind, id } => (kind, id),
        }
    }
}

impl fmt::Display for TransformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encryption(id) => id.fmt(f),
            Self::Prf(id) => id.fmt(f),
            Self::Integrity(id) => id.fmt(f),
            Self::Dh(id) => id.fmt(f),
            Self::Esn(id) => id.fmt(f),
            Self::AdditionalKe { number, method } => write!(f, "ke{number}_{method}"),
            Self::Other { kind, id } => write!(f, "type{kind}({id})"),
        }
    }
}

/// An attribute that is not the key length in its proper form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attribute {
    /// Attribute type, without the form bit.
    pub kind: u16,
    /// Its value.
    pub value: AttributeValue,
}

/// The two encodings of an attribute (RFC 7296 §3.3.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttributeValue {
    /// Two octets in place of a length.
    Short(u16),
    /// A length and so many octets.
    Long(Vec<u8>),
}

/// One algorithm of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transform {
    /// The algorithm.
    pub id: TransformId,
    /// Key Length, where the algorithm has several.
    pub key_bits: Option<u16>,
    /// Anything else, which makes the transform one to pass over.
    pub unknown_attributes: Vec<Attribute>,
}

impl Transform {
    /// A transform without attributes.
    pub fn new(id: TransformId) -> Self {
        Self { id, key_bits: None, unknown_attributes: Vec::new() }
    }

    /// A cipher with its key length, where it has one.
    pub fn cipher(id: Encryption, key_bits: Option<u16>) -> Self {
        Self { id: TransformId::Encryption(id), key_bits, unknown_attributes: Vec::new() }
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)?;
        self.key_bits.map_or(Ok(()), |bits| write!(f, "/{bits}"))
    }
}

/// One complete offer: any one transform of each type present.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// Counts from 1 in an offer; the answer repeats the number chosen.
    pub number: u8,
    /// What would be protected with it.
    pub protocol: ProtocolId,
    /// The sender's SPI: none in IKE_SA_INIT, 8 octets when an IKE SA is rekeyed, 4 for ESP.
    pub spi: Vec<u8>,
    /// The algorithms.
    pub transforms: Vec<Transform>,
}

impl Proposal {
    /// The SPI as ESP's four octets, if it is a valid one.
    pub fn esp_spi(&self) -> Option<net_types::Spi> {
        let raw = <[u8; 4]>::try_from(self.spi.as_slice()).ok()?;
        net_types::Spi::try_from(u32::from_be_bytes(raw)).ok()
    }

    /// The SPI as IKE's eight octets, if it is a valid one.
    pub fn ike_spi(&self) -> Option<crate::IkeSpi> {
        let raw = <[u8; 8]>::try_from(self.spi.as_slice()).ok()?;
        crate::IkeSpi::new(u64::from_be_bytes(raw))
    }
}

impl fmt::Display for Proposal {
    /// `ESP:aesgcm16/256-esn`, for log lines about refused offers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.protocol)?;
        for (at, transform) in self.transforms.iter().enumerate() {
            write!(f, "{}{transform}", if at == 0 { "" } else { "-" })?;
        }
        Ok(())
    }
}

/// The SA payload: proposals in the sender's order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityAssociation {
    /// At least one.
    pub proposals: Vec<Proposal>,
}

/// An SA payload whose proposals cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// There is none.
    #[error("no proposals")]
    Empty,
    /// Too many.
    #[error("more than {MAX_PROPOSALS} proposals")]
    TooMany,
    /// A field is missing.
    #[error("proposal: {0}")]
    Truncated(#[from] Truncated),
    /// The length field is impossible.
    #[error("a proposal says it is {said} octets long; {left} are left")]
    Length {
        /// The length field.
        said: u16,
        /// Octets from its start.
        left: usize,
    },
    /// "Last Substruc" is neither 0 nor 2, or disagrees with what follows.
    #[error("a proposal's last-substructure octet is {0} (RFC 7296 §3.3.1: 2 if one follows, else 0)")]
    Chain(u8),
    /// The transform count disagrees with the transforms.
    #[error("proposal {number} counts {said} transforms and has {found}")]
    Count {
        /// The proposal's number.
        number: u8,
        /// The count field.
        said: u8,
        /// Transforms found.
        found: usize,
    },
    /// One of its transforms.
    #[error("proposal {number}: {reason}")]
    Transform {
        /// The proposal's number.
        number: u8,
        /// What was wrong.
        #[source]
        reason: TransformError,
    },
}

/// A transform that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// Too many.
    #[error("more than {MAX_TRANSFORMS} transforms")]
    TooMany,
    /// A field is missing.
    #[error("transform: {0}")]
    Truncated(#[from] Truncated),
    /// The length field is impossible.
    #[error("a transform says it is {said} octets long; {left} are left")]
    Length {
        /// The length field.
        said: u16,
        /// Octets from its start.
        left: usize,
    },
    /// "Last Substruc" is neither 0 nor 3, or disagrees with what follows.
    #[error("a transform's last-substructure octet is {0} (RFC 7296 §3.3.2: 3 if one follows, else 0)")]
    Chain(u8),
}

impl SecurityAssociation {
    /// Reads the payload's body.
    pub fn parse(body: &[u8]) -> Result<Self, ProposalError> {
        let mut reader = Reader::new(body);
        let mut proposals = Vec::new();
        while !reader.is_empty() {
            if proposals.len() == MAX_PROPOSALS {
                return Err(ProposalError::TooMany);
            }
            let left = reader.len();
            let [more, _reserved, high, low] = reader.array()?;
            let said = u16::from_be_bytes([high, low]);
            let inside = usize::from(said)
                .checked_sub(4)
                .and_then(|n| reader.take(n).ok())
                .ok_or(ProposalError::Length { said, left })?;
            if more != if reader.is_empty() { LAST } else { MORE_PROPOSALS } {
                return Err(ProposalError::Chain(more));
            }
            proposals.push(Proposal::parse(inside)?);
        }
        if proposals.is_empty() { Err(ProposalError::Empty) } else { Ok(Self { proposals }) }
    }

    /// Writes the payload's body.
    pub fn emit(&self, out: &mut Vec<u8>) -> Result<(), Oversized> {
        for (at, proposal) in self.proposals.iter().enumerate() {
            let last = at + 1 == self.proposals.len();
            proposal.emit(if last { LAST } else { MORE_PROPOSALS }, out)?;
        }
        Ok(())
    }
}

impl Proposal {
    /// `inside` starts at the proposal number.
    fn parse(inside: &[u8]) -> Result<Self, ProposalError> {
        let mut reader = Reader::new(inside);
        let [number, protocol, spi_len, said] = reader.array()?;
        let spi = reader.take(usize::from(spi_len))?.to_vec();
        let transforms =
            Transform::parse_all(&mut reader).map_err(|reason| ProposalError::Transform { number, reason })?;
        if transforms.len() != usize::from(said) {
            return Err(ProposalError::Count { number, said, found: transforms.len() });
        }
        Ok(Self { number, protocol: protocol.into(), spi, transforms })
    }

    fn emit(&self, more: u8, out: &mut Vec<u8>) -> Result<(), Oversized> {
        let too_many = |octets| Oversized { kind: PayloadType::SecurityAssociation, octets };
        let start = out.len();
        out.put_u8(more);
        out.put_bytes(0, 3); // reserved, length
        out.put_u8(self.number);
        out.put_u8(self.protocol.code());
        out.put_u8(u8::try_from(self.spi.len()).map_err(|_| too_many(self.spi.len()))?);
        out.put_u8(u8::try_from(self.transforms.len()).map_err(|_| too_many(self.transforms.len()))?);
        debug_assert_eq!(out.len() - start, PROPOSAL_HEADER_LEN);
        out.put_slice(&self.spi);
        for (at, transform) in self.transforms.iter().enumerate() {
            let last = at + 1 == self.transforms.len();
            transform.emit(if last { LAST } else { MORE_TRANSFORMS }, out)?;
        }
        patch_length(start, out)
    }
}

impl Transform {
    fn parse_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, TransformError> {
        let mut transforms = Vec::new();
        while !reader.is_empty() {
            if transforms.len() == MAX_TRANSFORMS {
                return Err(TransformError::TooMany);
            }
            let left = reader.len();
            let [more, _reserved, high, low] = reader.array()?;
            let said = u16::from_be_bytes([high, low]);
            let inside = usize::from(said)
                .checked_sub(4)
                .and_then(|n| reader.take(n).ok())
                .ok_or(TransformError::Length { said, left })?;
            if more != if reader.is_empty() { LAST } else { MORE_TRANSFORMS } {
                return Err(TransformError::Chain(more));
            }
            transforms.push(Self::parse(inside)?);
        }
        Ok(transforms)
    }

    /// `inside` starts at the transform type.
    fn parse(inside: &[u8]) -> Result<Self, TransformError> {
        let mut reader = Reader::new(inside);
        let [kind, _reserved] = reader.array()?;
        let id = TransformId::parse(kind, reader.u16()?);
        let mut transform = Self::new(id);
        while !reader.is_empty() {
            let tagged = reader.u16()?;
            let kind = tagged & !SHORT_FORM;
            let value = if tagged & SHORT_FORM != 0 {
                AttributeValue::Short(reader.u16()?)
            } else {
                let len = reader.u16()?;
                AttributeValue::Long(reader.take(usize::from(len))?.to_vec())
            };
            match value {
                AttributeValue::Short(bits) if kind == KEY_LENGTH && transform.key_bits.is_none() => {
                    transform.key_bits = Some(bits);
                }
                value => transform.unknown_attributes.push(Attribute { kind, value }),
            }
        }
        Ok(transform)
    }

    fn emit(&self, more: u8, out: &mut Vec<u8>) -> Result<(), Oversized> {
        let start = out.len();
        let (kind, id) = self.id.codes();
        out.put_u8(more);
        out.put_bytes(0, 3); // reserved, length
        out.put_u8(kind);
        out.put_u8(0);
        out.put_u16(id);
        debug_assert_eq!(out.len() - start, TRANSFORM_HEADER_LEN);
        if let Some(bits) = self.key_bits {
            out.put_u16(KEY_LENGTH | SHORT_FORM);
            out.put_u16(bits);
        }
        for Attribute { kind, value } in &self.unknown_attributes {
            match value {
                AttributeValue::Short(value) => {
                    out.put_u16(kind | SHORT_FORM);
                    out.put_u16(*value);
                }
                AttributeValue::Long(value) => {
                    let oversized = Oversized { kind: PayloadType::SecurityAssociation, octets: value.len() };
                    out.put_u16(kind & !SHORT_FORM);
                    out.put_u16(u16::try_from(value.len()).map_err(|_| oversized)?);
                    out.put_slice(value);
                }
            }
        }
        patch_length(start, out)
    }
}

/// Writes the length of the substructure that began at `start` into its third and fourth octet.
fn patch_length(start: usize, out: &mut [u8]) -> Result<(), Oversized> {
    let octets = out.len() - start;
    let length = u16::try_from(octets).map_err(|_| Oversized { kind: PayloadType::SecurityAssociation, octets })?;
    if let Some(field) = out.get_mut(start + 2..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> SecurityAssociation {
        SecurityAssociation {
            proposals: vec![
                Proposal {
                    number: 1,
                    protocol: ProtocolId::Esp,
                    spi: vec![0xc0, 0xff, 0xee, 1],
                    transforms: vec![
                        Transform::cipher(Encryption::AesGcm16, Some(256)),
                        Transform::new(TransformId::Esn(EsnMode::On)),
                    ],
                },
                Proposal {
                    number: 2,
                    protocol: ProtocolId::Esp,
                    spi: vec![0xc0, 0xff, 0xee, 1],
                    transforms: vec![Transform::new(TransformId::Other { kind: 13, id: 77 })],
                },
            ],
        }
    }

    fn wire(sa: &SecurityAssociation) -> Vec<u8> {
        let mut out = Vec::new();
        sa.emit(&mut out).unwrap();
        out
    }

    #[test]
    fn offers_come_back_with_their_key_lengths_and_unknown_transforms() {
        let sa = offer();
        assert_eq!(SecurityAssociation::parse(&wire(&sa)), Ok(sa.clone()));
        assert_eq!(sa.proposals[0].to_string(), "ESP:aesgcm16/256-esn");
        assert_eq!(sa.proposals[1].to_string(), "ESP:type13(77)");
    }

    #[test]
    fn lengths_counts_and_markers_must_agree() {
        let good = wire(&offer());
        let with = |at: usize, value: u8| {
            let mut bad = good.clone();
            bad[at] = value;
            SecurityAssociation::parse(&bad).unwrap_err()
        };
        assert_eq!(SecurityAssociation::parse(&[]), Err(ProposalError::Empty));
        assert_eq!(with(0, 0), ProposalError::Chain(0));
        assert_eq!(with(0, 3), ProposalError::Chain(3));
        assert!(matches!(with(2, 0xff), ProposalError::Length { .. }));
        assert_eq!(with(7, 3), ProposalError::Count { number: 1, said: 3, found: 2 });
        assert_eq!(with(12, 0), ProposalError::Transform { number: 1, reason: TransformError::Chain(0) });
        assert!(matches!(
            with(14, 0xff),
            ProposalError::Transform { number: 1, reason: TransformError::Length { .. } }
        ));
        assert!(matches!(with(6, 0xff), ProposalError::Truncated(_)));
        for cut in 1..good.len() {
            assert!(SecurityAssociation::parse(&good[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_second_key_length_and_a_long_one_are_unknown_attributes() {
        let mut transform = Transform::cipher(Encryption::AesGcm16, Some(128));
        transform.unknown_attributes = vec![
            Attribute { kind: KEY_LENGTH, value: AttributeValue::Short(256) },
            Attribute { kind: KEY_LENGTH, value: AttributeValue::Long(vec![1, 0]) },
        ];
        let sa = SecurityAssociation {
            proposals: vec![Proposal {
                number: 1,
                protocol: ProtocolId::Ike,
                spi: vec![],
                transforms: vec![transform],
            }],
        };
        assert_eq!(SecurityAssociation::parse(&wire(&sa)), Ok(sa));
    }

    #[test]
    fn floods_of_proposals_and_transforms_are_cut_off() {
        let proposal = Proposal { number: 1, protocol: ProtocolId::Ike, spi: vec![], transforms: vec![] };
        let flood = SecurityAssociation { proposals: vec![proposal.clone(); MAX_PROPOSALS + 1] };
        assert_eq!(SecurityAssociation::parse(&wire(&flood)), Err(ProposalError::TooMany));
        let transforms = vec![Transform::new(TransformId::Esn(EsnMode::Off)); MAX_TRANSFORMS + 1];
        let flood = SecurityAssociation { proposals: vec![Proposal { transforms, ..proposal }] };
        let reason = TransformError::TooMany;
        assert_eq!(SecurityAssociation::parse(&wire(&flood)), Err(ProposalError::Transform { number: 1, reason }));
    }
}
