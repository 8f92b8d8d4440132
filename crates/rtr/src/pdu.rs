//! Protocol data units: octets to values and back (RFC 8210 §5).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bgp_core::validation::{Roa, RoaLength, roa_prefix};
use bytes::{BufMut, Bytes, BytesMut};
use net_types::Asn;

/// Octets of the header that each PDU begins with.
const HEADER: usize = 8;
/// The longest PDU that is read, in octets. Only router keys and error reports have no length of their own, and those
/// in use take some hundred octets.
const LONGEST: usize = 16 * 1024;

/// The version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// RFC 6810.
    V0 = 0,
    /// RFC 8210: router keys, and intervals from the cache.
    V1 = 1,
}

impl Version {
    fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::V0),
            1 => Some(Self::V1),
            _ => None,
        }
    }
}

/// Why one side ends the conversation (RFC 8210 §12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// 0
    CorruptData,
    /// 1
    InternalError,
    /// 2: the cache has nothing yet.
    NoDataAvailable,
    /// 3
    InvalidRequest,
    /// 4
    UnsupportedVersion,
    /// 5
    UnsupportedPdu,
    /// 6
    WithdrawalOfUnknown,
    /// 7
    DuplicateAnnouncement,
    /// 8
    UnexpectedVersion,
    /// One that IANA has given out since.
    Other(u16),
}

impl ErrorCode {
    fn from_code(code: u16) -> Self {
        match code {
            0 => Self::CorruptData,
            1 => Self::InternalError,
            2 => Self::NoDataAvailable,
            3 => Self::InvalidRequest,
            4 => Self::UnsupportedVersion,
            5 => Self::UnsupportedPdu,
            6 => Self::WithdrawalOfUnknown,
            7 => Self::DuplicateAnnouncement,
            8 => Self::UnexpectedVersion,
            other => Self::Other(other),
        }
    }

    fn code(self) -> u16 {
        match self {
            Self::CorruptData => 0,
            Self::InternalError => 1,
            Self::NoDataAvailable => 2,
            Self::InvalidRequest => 3,
            Self::UnsupportedVersion => 4,
            Self::UnsupportedPdu => 5,
            Self::WithdrawalOfUnknown => 6,
            Self::DuplicateAnnouncement => 7,
            Self::UnexpectedVersion => 8,
            Self::Other(code) => code,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CorruptData => "corrupt data",
            Self::InternalError => "internal error",
            Self::NoDataAvailable => "no data available",
            Self::InvalidRequest => "invalid request",
            Self::UnsupportedVersion => "unsupported protocol version",
            Self::UnsupportedPdu => "unsupported PDU type",
            Self::WithdrawalOfUnknown => "withdrawal of unknown record",
            Self::DuplicateAnnouncement => "duplicate announcement received",
            Self::UnexpectedVersion => "unexpected protocol version",
            Self::Other(code) => return write!(f, "error {code}"),
        })
    }
}

/// One PDU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pdu {
    /// The cache has news (§5.2).
    SerialNotify {
        /// Of this session.
        session: u16,
        /// Up to this serial number.
        serial: u32,
    },
    /// What has changed since then? (§5.3)
    SerialQuery {
        /// In this session.
        session: u16,
        /// What the router has.
        serial: u32,
    },
    /// What is there? (§5.4)
    ResetQuery,
    /// The answer begins (§5.5).
    CacheResponse {
        /// In this session.
        session: u16,
    },
    /// A payload came or went (§5.6, §5.7).
    Prefix {
        /// It came.
        announce: bool,
        /// The payload.
        roa: Roa,
    },
    /// The answer ends (§5.8).
    EndOfData {
        /// Of this session.
        session: u16,
        /// What the router has now.
        serial: u32,
        /// Refresh, retry and expire interval in seconds; version 0 has none.
        intervals: Option<[u32; 3]>,
    },
    /// The cache cannot say what changed (§5.9).
    CacheReset,
    /// A BGPsec key came or went (§5.10), which validates no origin.
    RouterKey,
    /// The other side ends the conversation (§5.11).
    ErrorReport {
        /// Why.
        code: ErrorCode,
        /// In words, if there are any.
        text: String,
    },
}

/// Why a stream of PDUs cannot be cut into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its header.
    #[error("a PDU of {0} octets is shorter than its header")]
    Short(u32),
    /// Longer than anything that is read.
    #[error("a PDU of {0} octets is longer than the {LONGEST} that are read")]
    Long(u32),
}

/// Why a PDU cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    /// Its version does not exist, or is not spoken here.
    #[error("protocol version {0} is not spoken here")]
    Version(u8),
    /// Its type does not exist in its version.
    #[error("PDU type {kind} does not exist in version {version}")]
    Kind {
        /// The type.
        kind: u8,
        /// The version.
        version: u8,
    },
    /// It has another length than its type.
    #[error("a PDU of type {kind} has {found} octets")]
    Length {
        /// The type.
        kind: u8,
        /// What was found.
        found: usize,
    },
    /// A prefix that is longer than its family's, or has bits set beyond its length.
    #[error("{address}/{bits} is no prefix")]
    Prefix {
        /// The address.
        address: IpAddr,
        /// The length.
        bits: u8,
    },
    /// A maximum length that cannot be.
    #[error(transparent)]
    MaxLength(#[from] RoaLength),
}

impl PduError {
    /// What the other side is told (§5.11, §12).
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Version(_) => ErrorCode::UnsupportedVersion,
            Self::Kind { .. } => ErrorCode::UnsupportedPdu,
            Self::Length { .. } | Self::Prefix { .. } | Self::MaxLength(_) => ErrorCode::CorruptData,
        }
    }
}

/// How long the first PDU of `stream` is, as soon as that is known.
///
/// # Errors
/// When no PDU has that length: the stream cannot be read any further.
pub fn frame_length(stream: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(octets) = stream.get(4..HEADER).and_then(|octets| octets.try_into().ok()) else { return Ok(None) };
    let length = u32::from_be_bytes(octets);
    match usize::try_from(length) {
        Ok(octets) if octets < HEADER => Err(FrameError::Short(length)),
        Ok(octets) if octets <= LONGEST => Ok(Some(octets)),
        _ => Err(FrameError::Long(length)),
    }
}

fn u32_at(body: &[u8], at: usize) -> Option<u32> {
    body.get(at..)?.first_chunk().map(|octets| u32::from_be_bytes(*octets))
}

impl Pdu {
    /// Reads a whole PDU, as [`frame_length`] cuts it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(frame: &[u8]) -> Result<(Version, Self), PduError> {
        let Some((header, body)) = frame.split_first_chunk::<HEADER>() else {
            return Err(PduError::Length { kind: frame.get(1).copied().unwrap_or_default(), found: frame.len() });
        };
        let [code, kind, high, low, ..] = *header;
        let version = Version::from_code(code).ok_or(PduError::Version(code))?;
        let session = u16::from_be_bytes([high, low]);
        let length = || PduError::Length { kind, found: frame.len() };
        let exactly = |octets: usize| if body.len() == octets { Ok(()) } else { Err(length()) };
        let number = |at: usize| u32_at(body, at).ok_or_else(length);
        let pdu = match (kind, version) {
            (0, _) => {
                exactly(4)?;
                Self::SerialNotify { session, serial: number(0)? }
            }
            (1, _) => {
                exactly(4)?;
                Self::SerialQuery { session, serial: number(0)? }
            }
            (2, _) => exactly(0).map(|()| Self::ResetQuery)?,
            (3, _) => exactly(0).map(|()| Self::CacheResponse { session })?,
            (4, _) => match body {
                [flags, bits, max_bits, _, a, b, c, d, asn @ ..] if asn.len() == 4 => {
                    payload(*flags, Ipv4Addr::new(*a, *b, *c, *d).into(), *bits, *max_bits, number(8)?)?
                }
                _ => return Err(length()),
            },
            (6, _) => match body {
                [flags, bits, max_bits, _, rest @ ..] if rest.len() == 20 => {
                    let octets: &[u8; 16] = rest.first_chunk().ok_or_else(length)?;
                    payload(*flags, Ipv6Addr::from(*octets).into(), *bits, *max_bits, number(20)?)?
                }
                _ => return Err(length()),
            },
            (7, Version::V0) => {
                exactly(4)?;
                Self::EndOfData { session, serial: number(0)?, intervals: None }
            }
            (7, Version::V1) => {
                exactly(16)?;
                Self::EndOfData { session, serial: number(0)?, intervals: Some([number(4)?, number(8)?, number(12)?]) }
            }
            (8, _) => exactly(0).map(|()| Self::CacheReset)?,
            (9, Version::V1) if body.len() >= 24 => Self::RouterKey,
            (9, Version::V1) => return Err(length()),
            (10, _) => Self::ErrorReport { code: ErrorCode::from_code(session), text: report_text(body) },
            _ => return Err(PduError::Kind { kind, version: code }),
        };
        Ok((version, pdu))
    }

    /// Writes the PDU. Router keys, which nothing here sends, are written without a key.
    pub fn to_bytes(&self, version: Version) -> Bytes {
        let (kind, session, body) = match self {
            Self::SerialNotify { session, serial } => (0, *session, serial.to_be_bytes().to_vec()),
            Self::SerialQuery { session, serial } => (1, *session, serial.to_be_bytes().to_vec()),
            Self::ResetQuery => (2, 0, Vec::new()),
            Self::CacheResponse { session } => (3, *session, Vec::new()),
            Self::Prefix { announce, roa } => {
                let mut body = vec![u8::from(*announce), roa.prefix().bits(), roa.max_bits(), 0];
                let kind = match roa.prefix().address() {
                    IpAddr::V4(address) => {
                        body.extend(address.octets());
                        4
                    }
                    IpAddr::V6(address) => {
                        body.extend(address.octets());
                        6
                    }
                };
                body.extend(roa.asn().map_or(0, Asn::get).to_be_bytes());
                (kind, 0, body)
            }
            Self::EndOfData { session, serial, intervals } => {
                let mut body = serial.to_be_bytes().to_vec();
                if version == Version::V1 {
                    let seconds = intervals.unwrap_or([3600, 600, 7200]);
                    body.extend(seconds.iter().flat_map(|seconds| seconds.to_be_bytes()));
                }
                (7, *session, body)
            }
            Self::CacheReset => (8, 0, Vec::new()),
            Self::RouterKey => (9, 0, vec![0; 24]),
            Self::ErrorReport { code, text } => (10, code.code(), report_body(&[], text)),
        };
        frame(version, kind, session, &body)
    }

    /// An error report about `cause`, which is quoted as far as it is not one itself (§5.11).
    pub fn error_report(version: Version, code: ErrorCode, cause: &[u8], text: &str) -> Bytes {
        let quoted = if cause.get(1) == Some(&10) { &[] } else { &cause[..cause.len().min(1024)] };
        frame(version, 10, code.code(), &report_body(quoted, text))
    }
}

fn frame(version: Version, kind: u8, session: u16, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + body.len());
    out.put_u8(version as u8);
    out.put_u8(kind);
    out.put_u16(session);
    out.put_u32((HEADER + body.len()) as u32); // what is written here is short
    out.put_slice(body);
    out.freeze()
}

fn payload(flags: u8, address: IpAddr, bits: u8, max_bits: u8, asn: u32) -> Result<Pdu, PduError> {
    let prefix = roa_prefix(address, bits).ok_or(PduError::Prefix { address, bits })?;
    let roa = Roa::new(prefix, max_bits, asn.try_into().ok())?;
    Ok(Pdu::Prefix { announce: flags & 1 == 1, roa })
}

fn report_body(quoted: &[u8], text: &str) -> Vec<u8> {
    let mut body = (quoted.len() as u32).to_be_bytes().to_vec();
    body.extend(quoted);
    body.extend((text.len() as u32).to_be_bytes());
    body.extend(text.as_bytes());
    body
}

/// The words of an error report. Who sends one is gone in any case, so what cannot be read is left out.
fn report_text(body: &[u8]) -> String {
    let text = || {
        let quoted = usize::try_from(u32_at(body, 0)?).ok()?;
        let rest = body.get(4..)?.get(quoted..)?;
        let length = usize::try_from(u32_at(rest, 0)?).ok()?;
        Some(String::from_utf8_lossy(rest.get(4..)?.get(..length)?).into_owned())
    };
    let printable = |text: String| text.chars().filter(|c| !c.is_control()).take(256).collect();
    text().map(printable).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn roa(text: &str, max_bits: u8, asn: u32) -> Roa {
        Roa::new(text.parse().unwrap(), max_bits, asn.try_into().ok()).unwrap()
    }

    #[test]
    fn the_figures_of_the_rfc_are_read() {
        // RFC 8210 §5.2 to §5.9, each figure filled in.
        for (octets, pdu) in [
            ("0100 1234 0000000c 00000007", Pdu::SerialNotify { session: 0x1234, serial: 7 }),
            ("0101 1234 0000000c 00000007", Pdu::SerialQuery { session: 0x1234, serial: 7 }),
            ("0102 0000 00000008", Pdu::ResetQuery),
            ("0103 1234 00000008", Pdu::CacheResponse { session: 0x1234 }),
            (
                "0104 0000 00000014 01101800 c0a80000 0000fde8",
                Pdu::Prefix { announce: true, roa: roa("192.168.0.0/16", 24, 65000) },
            ),
            (
                "0106 0000 00000020 00203000 20010db8 00000000 00000000 00000000 00000000",
                Pdu::Prefix { announce: false, roa: roa("2001:db8::/32", 48, 0) },
            ),
            (
                "0107 1234 00000018 00000007 00000e10 00000258 00001c20",
                Pdu::EndOfData { session: 0x1234, serial: 7, intervals: Some([3600, 600, 7200]) },
            ),
            ("0108 0000 00000008", Pdu::CacheReset),
        ] {
            let octets = hex(octets);
            assert_eq!(frame_length(&octets), Ok(Some(octets.len())));
            assert_eq!(Pdu::parse(&octets), Ok((Version::V1, pdu.clone())));
            assert_eq!(pdu.to_bytes(Version::V1), octets);
        }
        let old = hex("0007 1234 0000000c 00000007");
        let end = Pdu::EndOfData { session: 0x1234, serial: 7, intervals: None };
        assert_eq!(Pdu::parse(&old), Ok((Version::V0, end.clone())));
        assert_eq!(end.to_bytes(Version::V0), old);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (octets, code) in [
            ("0207 1234 00000018 00000007 00000e10 00000258 00001c20", ErrorCode::UnsupportedVersion),
            ("0105 0000 00000008", ErrorCode::UnsupportedPdu),
            ("0009 0000 00000020 0000000000000000000000000000000000000000 00000000", ErrorCode::UnsupportedPdu),
            ("0108 0000 0000000c 00000000", ErrorCode::CorruptData),
            ("0104 0000 00000014 01211800 c0a80000 0000fde8", ErrorCode::CorruptData), // /33
            ("0104 0000 00000014 01100f00 c0a80000 0000fde8", ErrorCode::CorruptData), // max 15 < 16
            ("0104 0000 00000014 01100f00 c0a80001 0000fde8", ErrorCode::CorruptData), // host bits
            ("0104 0000 00000010 01100f00 c0a80001", ErrorCode::CorruptData),
        ] {
            assert_eq!(Pdu::parse(&hex(octets)).map_err(|error| error.code()), Err(code), "{octets}");
        }
        assert_eq!(frame_length(&hex("0102 0000 00000007")), Err(FrameError::Short(7)));
        assert_eq!(frame_length(&hex("010a 0000 ffffffff")), Err(FrameError::Long(u32::MAX)));
        assert_eq!(frame_length(&hex("0102 0000 0000")), Ok(None));
    }

    #[test]
    fn an_error_report_says_why_as_far_as_it_can_be_read() {
        let cause = Pdu::ResetQuery.to_bytes(Version::V1);
        let report = Pdu::error_report(Version::V1, ErrorCode::NoDataAvailable, &cause, "not yet");
        let read = Pdu::ErrorReport { code: ErrorCode::NoDataAvailable, text: "not yet".into() };
        assert_eq!(Pdu::parse(&report), Ok((Version::V1, read)));
        let lying = hex("010a 0001 00000010 ffffffff ffffffff");
        let (_, read) = Pdu::parse(&lying).unwrap();
        assert_eq!(read, Pdu::ErrorReport { code: ErrorCode::InternalError, text: String::new() });
    }

    proptest! {
        #[test]
        fn emitted_payloads_parse_back(
            address in any::<IpAddr>(), bits in 0u8..=128, more in 0u8..=128, asn in any::<u32>(), announce in any::<bool>(),
        ) {
            let max = if address.is_ipv4() { 32 } else { 128 };
            let prefix = net_types::Prefix::new(address, bits.min(max)).unwrap();
            let longest = prefix.bits().saturating_add(more).min(max);
            let pdu = Pdu::Prefix { announce, roa: Roa::new(prefix, longest, asn.try_into().ok()).unwrap() };
            for version in [Version::V0, Version::V1] {
                prop_assert_eq!(Pdu::parse(&pdu.to_bytes(version)), Ok((version, pdu.clone())));
            }
        }

        #[test]
        fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = frame_length(&octets);
            let _ = Pdu::parse(&octets).map_err(|error| error.to_string());
        }
    }
}
