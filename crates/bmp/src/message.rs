//! Messages (RFC 7854 §4.3 to §4.10).

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Peer, PeerType, Stat, VERSION, peer::emit_address};

/// Octets of the common header.
pub(crate) const HEADER: usize = 6;

pub(crate) const ROUTE_MONITORING: u8 = 0;
pub(crate) const STATISTICS: u8 = 1;
pub(crate) const PEER_DOWN: u8 = 2;
pub(crate) const PEER_UP: u8 = 3;
pub(crate) const INITIATION: u8 = 4;
pub(crate) const TERMINATION: u8 = 5;

/// What a router says of itself (RFC 7854 §4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Information {
    /// Type 0: whatever it likes to say.
    Text(String),
    /// Type 1: sysDescr.
    Description(String),
    /// Type 2: sysName.
    Name(String),
    /// Type 3, in Peer Up and Peer Down of Loc-RIB: the name of the table (RFC 9069 §5.2.1).
    Table(String),
    /// One that is not known here.
    Other(u16),
}

/// Why a peer is down (RFC 7854 §4.9, RFC 9069 §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// 1: we sent this NOTIFICATION.
    LocalNotification(Bytes),
    /// 2: we closed the session without one, at this event of the state machine; 0 for none (RFC 4271 §8.1).
    LocalEvent(u16),
    /// 3: the peer sent this NOTIFICATION.
    RemoteNotification(Bytes),
    /// 4: the peer closed the session without a word.
    RemoteClosed,
    /// 5: it is not monitored any more.
    Deconfigured,
    /// 6: the Loc-RIB of this name is not monitored any more.
    LocalSystemClosed(Vec<Information>),
    /// One that is not known here.
    Other(u8),
}

/// Why a router ends the session (RFC 7854 §4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Termination {
    /// Type 0: whatever it likes to say.
    Text(String),
    /// Type 1: 0 administratively closed, 1 unspecified, 2 out of resources, 3 redundant, 4 closed for good.
    Reason(u16),
    /// One that is not known here.
    Other(u16),
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Routes, as the UPDATE that they came in, or would.
    RouteMonitoring {
        /// Of whom.
        peer: Peer,
        /// A whole BGP message.
        update: Bytes,
    },
    /// Counters.
    Statistics {
        /// Of whom.
        peer: Peer,
        /// Which.
        stats: Vec<Stat>,
    },
    /// A session ended: all its routes are gone.
    PeerDown {
        /// Whose.
        peer: Peer,
        /// Why.
        reason: DownReason,
    },
    /// A session is established.
    PeerUp {
        /// With whom.
        peer: Peer,
        /// Our end of the connection: address and port.
        local: (IpAddr, u16),
        /// The port at the peer's end.
        remote_port: u16,
        /// The whole OPEN that we sent.
        sent_open: Bytes,
        /// The whole OPEN that we received.
        received_open: Bytes,
        /// More about it.
        information: Vec<Information>,
    },
    /// The first message.
    Initiation(Vec<Information>),
    /// The last message.
    Termination(Vec<Termination>),
    /// One that is not known here, or not looked at (route mirroring, 6).
    Other(u8),
}

fn tlv(out: &mut BytesMut, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    out.put_u16(code);
    out.put_u16(value.len() as u16); // cut to fit
    out.put_slice(value);
}

impl Information {
    fn emit(&self, out: &mut BytesMut) {
        match self {
            Self::Text(text) => tlv(out, 0, text.as_bytes()),
            Self::Description(text) => tlv(out, 1, text.as_bytes()),
            Self::Name(text) => tlv(out, 2, text.as_bytes()),
            Self::Table(text) => tlv(out, 3, text.as_bytes()),
            Self::Other(code) => tlv(out, *code, &[]),
        }
    }
}

impl Message {
    /// Appends the message.
    pub fn emit(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_u8(VERSION);
        out.put_u32(0); // the length, once it is known
        match self {
            Self::RouteMonitoring { peer, update } => {
                out.put_u8(ROUTE_MONITORING);
                peer.emit(out);
                out.put_slice(update);
            }
            Self::Statistics { peer, stats } => {
                out.put_u8(STATISTICS);
                peer.emit(out);
                out.put_u32(stats.len() as u32); // a handful
                stats.iter().for_each(|stat| stat.emit(out));
            }
            Self::PeerDown { peer, reason } => {
                out.put_u8(PEER_DOWN);
                peer.emit(out);
                match reason {
                    DownReason::LocalNotification(notification) => {
                        out.put_u8(1);
                        out.put_slice(notification);
                    }
                    DownReason::LocalEvent(event) => {
                        out.put_u8(2);
                        out.put_u16(*event);
                    }
                    DownReason::RemoteNotification(notification) => {
                        out.put_u8(3);
                        out.put_slice(notification);
                    }
                    DownReason::RemoteClosed => out.put_u8(4),
                    DownReason::Deconfigured => out.put_u8(5),
                    DownReason::LocalSystemClosed(information) => {
                        out.put_u8(6);
                        information.iter().for_each(|one| one.emit(out));
                    }
                    DownReason::Other(code) => out.put_u8(*code),
                }
            }
            Self::PeerUp { peer, local, remote_port, sent_open, received_open, information } => {
                out.put_u8(PEER_UP);
                peer.emit(out);
                let (address, port) =
                    if peer.kind == PeerType::LocRib { (std::net::Ipv4Addr::UNSPECIFIED.into(), 0) } else { *local };
                emit_address(address, out);
                out.put_u16(port);
                out.put_u16(*remote_port);
                out.put_slice(sent_open);
                out.put_slice(received_open);
                information.iter().for_each(|one| one.emit(out));
            }
            Self::Initiation(information) => {
                out.put_u8(INITIATION);
                information.iter().for_each(|one| one.emit(out));
            }
            Self::Termination(reasons) => {
                out.put_u8(TERMINATION);
                for reason in reasons {
                    match reason {
                        Termination::Text(text) => tlv(out, 0, text.as_bytes()),
                        Termination::Reason(code) => tlv(out, 1, &code.to_be_bytes()),
                        Termination::Other(code) => tlv(out, *code, &[]),
                    }
                }
            }
            Self::Other(code) => out.put_u8(*code),
        }
        let length = (out.len() - start) as u32; // BGP messages have 16 bits of length, and few TLVs follow
        if let Some(field) = out.get_mut(start + 1..start + 5) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }
}
