//! NOTIFICATION (RFC 4271 §4.5): why a session ends.

mod code;
mod shutdown;

use std::fmt;

use bytes::{BufMut, BytesMut};

pub use code::{CeaseCode, FsmCode, HeaderCode, NotificationCode, OpenCode, RouteRefreshCode, UpdateCode};
pub use shutdown::{MAX_COMMUNICATION_OCTETS, ShutdownCommunication};

use crate::{HEADER_OCTETS, MAX_MESSAGE_OCTETS, cursor::Cursor};

/// Most octets of data that fit beside code and subcode without RFC 8654.
const MAX_DATA: usize = MAX_MESSAGE_OCTETS - HEADER_OCTETS - 2;

/// One NOTIFICATION message.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Notification {
    code: NotificationCode,
    data: Vec<u8>,
}

/// A NOTIFICATION that is too short to have a code. It ends the session all the same, unanswered (RFC 4271 §6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("NOTIFICATION with a body of {0} octets, expected at least 2 (RFC 4271 §4.5)")]
pub struct NotificationError(pub usize);

impl Notification {
    /// A notification; data that a message cannot hold is cut off.
    pub fn new(code: NotificationCode, mut data: Vec<u8>) -> Self {
        data.truncate(MAX_DATA);
        Self { code, data }
    }

    /// A CEASE without more to say.
    pub fn cease(code: CeaseCode) -> Self {
        Self::new(NotificationCode::Cease(code), Vec::new())
    }

    /// A CEASE with a text for the other operator: administrative shutdown or reset (RFC 9003 §2).
    pub fn shutdown(code: CeaseCode, communication: Option<&ShutdownCommunication>) -> Self {
        let mut data = Vec::new();
        if let Some(text) = communication {
            text.emit(&mut data);
        }
        Self::new(NotificationCode::Cease(code), data)
    }

    /// This notification as one that also ends graceful restart (RFC 8538 §3).
    pub fn into_hard_reset(self) -> Self {
        let (code, subcode) = self.code.codes();
        let mut data = vec![code, subcode];
        data.extend_from_slice(&self.data);
        Self::new(NotificationCode::Cease(CeaseCode::HardReset), data)
    }

    /// What a hard reset carries inside (RFC 8538 §3.1).
    pub fn hard_reset_reason(&self) -> Option<Self> {
        match (self.code, self.data.as_slice()) {
            (NotificationCode::Cease(CeaseCode::HardReset), [code, subcode, data @ ..]) => {
                Some(Self { code: NotificationCode::from_codes(*code, *subcode), data: data.to_vec() })
            }
            _ => None,
        }
    }

    /// Code and subcode.
    pub fn code(&self) -> NotificationCode {
        self.code
    }

    /// What the code says is here.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The operator's text in a shutdown or reset (RFC 9003 §2), also inside a hard reset.
    pub fn communication(&self) -> Option<ShutdownCommunication> {
        match self.code {
            NotificationCode::Cease(CeaseCode::AdministrativeShutdown | CeaseCode::AdministrativeReset) => {
                ShutdownCommunication::parse(&self.data)
            }
            NotificationCode::Cease(CeaseCode::HardReset) => match self.hard_reset_reason() {
                Some(inner) if inner.code != self.code => inner.communication(), // one level, however many are sent
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, NotificationError> {
        let mut cursor = Cursor::new(body);
        match (cursor.u8(), cursor.u8()) {
            (Some(code), Some(subcode)) => {
                Ok(Self { code: NotificationCode::from_codes(code, subcode), data: cursor.rest().to_vec() })
            }
            _ => Err(NotificationError(body.len())),
        }
    }

    pub(crate) fn emit(&self, out: &mut BytesMut) {
        let (code, subcode) = self.code.codes();
        out.put_u8(code);
        out.put_u8(subcode);
        // Parsed from an extended message it may be longer than what every peer reads.
        out.put_slice(self.data.get(..MAX_DATA).unwrap_or(&self.data));
    }
}

impl fmt::Display for Notification {
    /// `Cease/Administrative Shutdown (6/2): "maintenance"`; text of a peer is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, subcode) = self.code.codes();
        write!(f, "{} ({code}/{subcode})", self.code)?;
        if let Some(inner) = self.hard_reset_reason() {
            let (code, subcode) = inner.code.codes();
            write!(f, " of {} ({code}/{subcode})", inner.code)?;
        }
        match self.communication() {
            Some(text) if !text.as_str().is_empty() => write!(f, ": \"{}\"", text.as_str().escape_debug()),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notification({self}, {} octets of data)", self.data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_reset_carries_its_reason() {
        let text = ShutdownCommunication::new("maintenance");
        let plain = Notification::shutdown(CeaseCode::AdministrativeShutdown, Some(&text));
        let hard = plain.clone().into_hard_reset();
        assert_eq!(hard.code(), NotificationCode::Cease(CeaseCode::HardReset));
        assert_eq!(hard.hard_reset_reason(), Some(plain));
        assert_eq!(hard.to_string(), "Cease/Hard Reset (6/9) of Cease/Administrative Shutdown (6/2): \"maintenance\"");
    }

    #[test]
    fn nested_hard_resets_do_not_recurse() {
        let mut nested = Notification::cease(CeaseCode::HardReset);
        for _ in 0..2000 {
            nested = nested.into_hard_reset();
        }
        assert_eq!(nested.communication(), None);
        assert!(nested.data().len() <= MAX_DATA);
    }

    #[test]
    fn a_body_without_subcode_is_refused() {
        assert_eq!(Notification::parse(&[6]), Err(NotificationError(1)));
    }
}
