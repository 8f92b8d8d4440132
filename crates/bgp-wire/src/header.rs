//! The header of every message: marker, length, type (RFC 4271 §4.1), and framing by it.

use bytes::{Buf, BufMut, BytesMut};

use crate::notification::{HeaderCode, Notification, NotificationCode};

/// Octets of the fixed header.
pub const HEADER_OCTETS: usize = 19;
/// The longest message without RFC 8654.
pub const MAX_MESSAGE_OCTETS: usize = 4096;
/// The longest message with RFC 8654.
pub const MAX_EXTENDED_OCTETS: usize = 65535;

/// The message types (RFC 4271 §4.1, RFC 2918).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// 1
    Open = 1,
    /// 2
    Update = 2,
    /// 3
    Notification = 3,
    /// 4
    Keepalive = 4,
    /// 5
    RouteRefresh = 5,
}

impl MessageType {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Open,
            2 => Self::Update,
            3 => Self::Notification,
            4 => Self::Keepalive,
            5 => Self::RouteRefresh,
            _ => return None,
        })
    }

    /// The least and greatest length of a message of this type, header included.
    fn bounds(self, max: usize) -> (usize, usize) {
        match self {
            Self::Open => (29, MAX_MESSAGE_OCTETS), // RFC 8654 §3: OPEN and KEEPALIVE are never extended
            Self::Update => (23, max),
            Self::Notification => (21, max),
            Self::Keepalive => (HEADER_OCTETS, HEADER_OCTETS),
            Self::RouteRefresh => (23, max),
        }
    }
}

/// Why a header cannot be trusted; there is no way to find the next message, so the session ends (RFC 4271 §6.1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The marker is not all ones.
    #[error("the marker is not all ones, so the two sides have lost their place in the stream (RFC 4271 §6.1)")]
    Marker,
    /// The length is outside of what the type allows.
    #[error("message type {kind} with length {found}, which is outside of what that type allows (RFC 4271 §6.1)")]
    Length {
        /// The type octet.
        kind: u8,
        /// The length field.
        found: u16,
    },
    /// The type is not one that we know.
    #[error("message type {0} is not one of 1 to 5 (RFC 4271 §6.1)")]
    Type(u8),
}

impl HeaderError {
    /// The NOTIFICATION that the peer gets.
    pub fn notification(&self) -> Notification {
        let (code, data) = match self {
            Self::Marker => (HeaderCode::ConnectionNotSynchronized, Vec::new()),
            Self::Length { found, .. } => (HeaderCode::BadMessageLength, found.to_be_bytes().to_vec()),
            Self::Type(kind) => (HeaderCode::BadMessageType, vec![*kind]),
        };
        Notification::new(NotificationCode::Header(code), data)
    }
}

/// How long the message at the front of `stream` is; `None` until its header is complete.
///
/// The header is checked as far as it has arrived, so that a stream which is not BGP is refused before it is buffered.
/// `max` is [`Negotiated::max_message_octets`](crate::Negotiated::max_message_octets).
///
/// # Errors
/// When the header is wrong; the session cannot go on.
pub fn frame_length(stream: &[u8], max: usize) -> Result<Option<usize>, HeaderError> {
    if stream.iter().take(16).any(|octet| *octet != 0xff) {
        return Err(HeaderError::Marker);
    }
    let Some(&[high, low, kind]) = stream.get(16..HEADER_OCTETS) else { return Ok(None) };
    let found = u16::from_be_bytes([high, low]);
    let known = MessageType::from_code(kind).ok_or(HeaderError::Type(kind))?;
    let (least, most) = known.bounds(max);
    if (least..=most).contains(&usize::from(found)) {
        Ok(Some(usize::from(found)))
    } else {
        Err(HeaderError::Length { kind, found })
    }
}

/// Takes one whole message apart into its type and body.
pub(crate) fn split(frame: &[u8], max: usize) -> Result<(MessageType, &[u8]), HeaderError> {
    let kind = frame.get(18).copied().unwrap_or(0);
    let found = u16::try_from(frame.len()).unwrap_or(u16::MAX);
    match frame_length(frame, max)? {
        Some(length) if length == frame.len() => {}
        _ => return Err(HeaderError::Length { kind, found }),
    }
    let known = MessageType::from_code(kind).ok_or(HeaderError::Type(kind))?;
    let mut body = frame;
    body.advance(HEADER_OCTETS);
    Ok((known, body))
}

/// Starts a message; [`finish`] writes its length.
pub(crate) fn begin(out: &mut BytesMut, kind: MessageType) {
    out.put_bytes(0xff, 16);
    out.put_u16(0);
    out.put_u8(kind as u8);
}

/// Writes the length of the message that starts at `start` and ends with the buffer.
pub(crate) fn finish(out: &mut BytesMut, start: usize) {
    let octets = out.len() - start;
    debug_assert!(octets <= MAX_EXTENDED_OCTETS, "emitters bound what they write");
    out[start + 16..start + 18].copy_from_slice(&(octets as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u16, kind: u8) -> Vec<u8> {
        let mut bytes = vec![0xff; 16];
        bytes.extend(length.to_be_bytes());
        bytes.push(kind);
        bytes
    }

    #[test]
    fn a_partial_header_is_waited_for_and_a_wrong_marker_is_not() {
        assert_eq!(frame_length(&[], 4096), Ok(None));
        assert_eq!(frame_length(&[0xff; 18], 4096), Ok(None));
        assert_eq!(frame_length(b"GET / HTTP/1.1", 4096), Err(HeaderError::Marker));
    }

    #[test]
    fn lengths_are_bounded_by_type() {
        assert_eq!(frame_length(&header(19, 4), 4096), Ok(Some(19)));
        assert_eq!(frame_length(&header(23, 2), 4096), Ok(Some(23)));
        assert_eq!(frame_length(&header(5000, 2), MAX_EXTENDED_OCTETS), Ok(Some(5000)));
        for (length, kind) in [(20, 4), (18, 4), (22, 2), (4097, 2), (28, 1), (20, 3), (22, 5)] {
            assert_eq!(frame_length(&header(length, kind), 4096), Err(HeaderError::Length { kind, found: length }));
        }
        // RFC 8654 §3: an OPEN is never extended.
        assert!(frame_length(&header(4097, 1), MAX_EXTENDED_OCTETS).is_err());
        assert_eq!(frame_length(&header(19, 9), 4096), Err(HeaderError::Type(9)));
    }
}
