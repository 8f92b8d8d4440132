//! Reading, as a station does.

use bytes::Bytes;

use crate::{
    DownReason, Information, Message, Peer, Stat, Termination, VERSION,
    message::{HEADER, INITIATION, PEER_DOWN, PEER_UP, ROUTE_MONITORING, STATISTICS, TERMINATION},
    peer::{self, parse_address},
};

/// The longest message that is read, in octets: two OPENs and some text, or one UPDATE of RFC 8654.
const LONGEST: usize = 256 * 1024;
/// Octets of a BGP header.
const BGP_HEADER: usize = 19;

/// Why a stream cannot be cut into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another version.
    #[error("BMP version {0}, expected {VERSION}")]
    Version(u8),
    /// A length that no message has.
    #[error("a message of {0} octets")]
    Length(u32),
}

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It ends too early.
    #[error("a message of type {0} ends too early")]
    Short(u8),
    /// Its peer header makes no sense.
    #[error("the peer header of a message of type {0} cannot be read")]
    Peer(u8),
    /// A BGP message within has a length that does not fit.
    #[error("a BGP message within a message of type {0} has a length that does not fit")]
    Bgp(u8),
}

/// How long the first message of `stream` is, as soon as that is known.
///
/// # Errors
/// When the stream cannot be read any further.
pub fn frame_length(stream: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some([version, length @ ..]) = stream.first_chunk::<5>() else { return Ok(None) };
    if *version != VERSION {
        return Err(FrameError::Version(*version));
    }
    let length = u32::from_be_bytes(*length);
    match usize::try_from(length) {
        Ok(octets) if (HEADER..=LONGEST).contains(&octets) => Ok(Some(octets)),
        _ => Err(FrameError::Length(length)),
    }
}

/// What is left of a message.
struct Rest<'a> {
    kind: u8,
    octets: &'a [u8],
}

impl<'a> Rest<'a> {
    fn take(&mut self, octets: usize) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self.octets.split_at_checked(octets).ok_or(ReadError::Short(self.kind))?;
        self.octets = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let (taken, rest) = self.octets.split_first_chunk::<N>().ok_or(ReadError::Short(self.kind))?;
        self.octets = rest;
        Ok(*taken)
    }

    fn peer(&mut self) -> Result<Peer, ReadError> {
        Peer::parse(&self.array::<{ peer::OCTETS }>()?).ok_or(ReadError::Peer(self.kind))
    }

    /// A whole BGP message.
    fn bgp(&mut self) -> Result<Bytes, ReadError> {
        let length = self.octets.get(16..18).and_then(|octets| octets.try_into().ok()).map(u16::from_be_bytes);
        let length = usize::from(length.ok_or(ReadError::Short(self.kind))?);
        if length < BGP_HEADER {
            return Err(ReadError::Bgp(self.kind));
        }
        self.take(length).map(Bytes::copy_from_slice).map_err(|_| ReadError::Bgp(self.kind))
    }

    fn tlvs<T>(&mut self, read: impl Fn(u16, &[u8]) -> T) -> Result<Vec<T>, ReadError> {
        let mut list = Vec::new();
        while !self.octets.is_empty() {
            let code = u16::from_be_bytes(self.array()?);
            let length = u16::from_be_bytes(self.array()?);
            list.push(read(code, self.take(usize::from(length))?));
        }
        Ok(list)
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn information(code: u16, value: &[u8]) -> Information {
    match code {
        0 => Information::Text(text(value)),
        1 => Information::Description(text(value)),
        2 => Information::Name(text(value)),
        3 => Information::Table(text(value)),
        other => Information::Other(other),
    }
}

impl Message {
    /// Reads a whole message, as [`frame_length`] cuts it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn parse(frame: &[u8]) -> Result<Self, ReadError> {
        let Some(([.., kind], octets)) = frame.split_first_chunk::<HEADER>() else { return Err(ReadError::Short(0)) };
        let mut rest = Rest { kind: *kind, octets };
        Ok(match *kind {
            ROUTE_MONITORING => Self::RouteMonitoring { peer: rest.peer()?, update: rest.bgp()? },
            STATISTICS => {
                let peer = rest.peer()?;
                let _count: [u8; 4] = rest.array()?; // the message's length says as much
                Self::Statistics { peer, stats: rest.tlvs(Stat::parse)? }
            }
            PEER_DOWN => {
                let peer = rest.peer()?;
                let [code] = rest.array()?;
                let reason = match code {
                    1 => DownReason::LocalNotification(rest.bgp()?),
                    2 => DownReason::LocalEvent(u16::from_be_bytes(rest.array()?)),
                    3 => DownReason::RemoteNotification(rest.bgp()?),
                    4 => DownReason::RemoteClosed,
                    5 => DownReason::Deconfigured,
                    6 => DownReason::LocalSystemClosed(rest.tlvs(information)?),
                    other => DownReason::Other(other),
                };
                Self::PeerDown { peer, reason }
            }
            PEER_UP => {
                let peer = rest.peer()?;
                let local = parse_address(&rest.array()?, peer.address.is_ipv6());
                let (port, remote_port) = (u16::from_be_bytes(rest.array()?), u16::from_be_bytes(rest.array()?));
                let (sent_open, received_open) = (rest.bgp()?, rest.bgp()?);
                let information = rest.tlvs(information)?;
                Self::PeerUp { peer, local: (local, port), remote_port, sent_open, received_open, information }
            }
            INITIATION => Self::Initiation(rest.tlvs(information)?),
            TERMINATION => Self::Termination(rest.tlvs(|code, value| match (code, value) {
                (0, value) => Termination::Text(text(value)),
                (1, [high, low]) => Termination::Reason(u16::from_be_bytes([*high, *low])),
                (other, _) => Termination::Other(other),
            })?),
            other => Self::Other(other),
        })
    }
}
