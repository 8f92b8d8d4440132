//! Any message: a frame to a value, a value to a frame.

use bytes::{Bytes, BytesMut};

use crate::{
    HeaderError, MAX_EXTENDED_OCTETS, MessageType, Negotiated, Notification, NotificationError, Open, OpenError,
    RouteRefresh, RouteRefreshError, Survived, Update, UpdateError, header, update,
};

/// One message.
#[expect(clippy::large_enum_variant, reason = "nearly all messages are UPDATEs; a box each would cost more")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The start of a session.
    Open(Open),
    /// Routes.
    Update(Update),
    /// The end of a session.
    Notification(Notification),
    /// A sign of life.
    Keepalive,
    /// A request for routes, or its demarcation.
    RouteRefresh(RouteRefresh),
}

/// A message, and the mistakes in it that were survived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The message, with the remedies applied.
    pub message: Message,
    /// Each mistake and what was done about it (RFC 7606); to be logged and counted.
    pub survived: Vec<Survived>,
}

/// Why the session cannot go on after a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// An OPEN.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An UPDATE.
    #[error("UPDATE: {0}")]
    Update(#[from] UpdateError),
    /// A NOTIFICATION.
    #[error(transparent)]
    Notification(#[from] NotificationError),
    /// A ROUTE-REFRESH.
    #[error(transparent)]
    RouteRefresh(#[from] RouteRefreshError),
}

impl MessageError {
    /// The NOTIFICATION that the peer gets; none for a mistake in its own last words (RFC 4271 §6.4).
    pub fn notification(&self) -> Option<Notification> {
        match self {
            Self::Header(error) => Some(error.notification()),
            Self::Open(error) => Some(error.notification()),
            Self::Update(error) => Some(error.notification()),
            Self::Notification(_) => None,
            Self::RouteRefresh(error) => Some(error.notification()),
        }
    }
}

impl Message {
    /// Reads one whole message, as [`frame_length`](crate::frame_length) delimits it.
    ///
    /// # Errors
    /// When the session cannot go on (RFC 4271 §6, RFC 7606).
    pub fn parse(frame: &[u8], negotiated: &Negotiated) -> Result<Parsed, MessageError> {
        let (kind, body) = header::split(frame, negotiated.max_message_octets())?;
        let mut survived = Vec::new();
        let message = match kind {
            MessageType::Open => Self::Open(Open::parse(body)?),
            MessageType::Update => {
                let (update, mistakes) = update::parse(body, negotiated)?;
                survived = mistakes;
                Self::Update(update)
            }
            MessageType::Notification => Self::Notification(Notification::parse(body)?),
            MessageType::Keepalive => Self::Keepalive,
            MessageType::RouteRefresh => Self::RouteRefresh(RouteRefresh::parse(body)?),
        };
        Ok(Parsed { message, survived })
    }

    /// The message's type.
    pub fn kind(&self) -> MessageType {
        match self {
            Self::Open(_) => MessageType::Open,
            Self::Update(_) => MessageType::Update,
            Self::Notification(_) => MessageType::Notification,
            Self::Keepalive => MessageType::Keepalive,
            Self::RouteRefresh(_) => MessageType::RouteRefresh,
        }
    }
}

impl Open {
    /// The whole message.
    pub fn to_bytes(&self) -> Bytes {
        frame(MessageType::Open, |out| self.emit(out))
    }
}

impl Notification {
    /// The whole message.
    pub fn to_bytes(&self) -> Bytes {
        frame(MessageType::Notification, |out| self.emit(out))
    }
}

impl RouteRefresh {
    /// The whole message.
    pub fn to_bytes(&self) -> Bytes {
        frame(MessageType::RouteRefresh, |out| self.emit(out))
    }
}

/// A whole KEEPALIVE (RFC 4271 §4.4).
pub fn keepalive() -> Bytes {
    const KEEPALIVE: [u8; 19] =
        [255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 19, 4];
    Bytes::from_static(&KEEPALIVE)
}

fn frame(kind: MessageType, body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    header::begin(&mut out, kind);
    body(&mut out);
    debug_assert!(out.len() <= MAX_EXTENDED_OCTETS);
    header::finish(&mut out, 0);
    out.freeze()
}
