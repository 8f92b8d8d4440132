//! The protected side of an IKE SA: sealing, opening, fragments and the request window.

use std::time::Instant;

use bytes::Bytes;
use ike_crypto::{IkeKeys, IntAuth, KeyLength, OpenError, Opener, SealError, Sealer};
use ike_wire::{
    ChainError, ExchangeType, Flags, Header, IkeSpi, Message, NotifyType, Payload, PayloadType, Protected, emit_chain,
    first_type, parse_inner, unsupported_critical,
};

use super::{
    exchange::Exchange,
    window::{Position, Window},
};
use crate::{
    config::Retransmission,
    event::Refusal,
    fragment::{Reassembly, ReassemblyError},
    io::{Output, Path},
};

/// Keys and window of one IKE SA.
pub(crate) struct Channel {
    pub(crate) keys: IkeKeys,
    sealer: Sealer,
    opener: Opener,
    /// Initiator's and responder's SPI.
    pub(crate) spis: (IkeSpi, IkeSpi),
    /// Whether we initiated this IKE SA, which the header's flag says.
    pub(crate) initiator: bool,
    /// Longest message before it is sent in fragments; `None` if the peer does not understand them.
    fragment_octets: Option<usize>,
    pub(crate) window: Window<Exchange>,
    requests: Reassembly,
    responses: Reassembly,
    /// What IKE_AUTH has to prove about the IKE_INTERMEDIATE exchanges.
    pub(crate) int_auth: IntAuth,
    /// The first packet of the request that is being received: what a repetition is known by.
    request_head: Bytes,
}

/// A message that was opened.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Complete and well-formed.
    Payloads(Vec<Payload>),
    /// A fragment; more are to come.
    Partial,
    /// Authentic, but it breaks the protocol: a request is answered with this notify, then the SA ends
    /// (RFC 7296 §2.21.3).
    Malformed(ChainError),
    /// Authentic, with a critical payload that we do not know (RFC 7296 §2.5).
    Critical(u8),
}

/// A datagram that is none of the peer's doing, or of no use: dropped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejected {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Reassembly(#[from] ReassemblyError),
    #[error("payloads outside the encrypted one, or none encrypted")]
    Unprotected,
}

impl Channel {
    /// A channel whose next own message ID is `next_request` and whose next expected one is `next_expected`.
    pub(crate) fn new(
        keys: IkeKeys,
        spis: (IkeSpi, IkeSpi),
        initiator: bool,
        fragment_octets: Option<usize>,
        next_request: u32,
        next_expected: u32,
    ) -> Result<Self, KeyLength> {
        let sealer = Sealer::new(keys.protection(initiator))?;
        let opener = Opener::new(keys.protection(!initiator))?;
        Ok(Self {
            keys,
            sealer,
            opener,
            spis,
            initiator,
            fragment_octets,
            window: Window::new(next_request, next_expected),
            requests: Reassembly::default(),
            responses: Reassembly::default(),
            int_auth: IntAuth::default(),
            request_head: Bytes::new(),
        })
    }

    /// Seals and opens with other keys from now on; the window stays as it is.
    pub(crate) fn change_keys(&mut self, keys: IkeKeys) -> Result<(), KeyLength> {
        self.sealer = Sealer::new(keys.protection(self.initiator))?;
        self.opener = Opener::new(keys.protection(!self.initiator))?;
        self.keys = keys;
        Ok(())
    }

    /// Longest message before it is sent in fragments.
    pub(crate) fn fragment_octets(&self) -> Option<usize> {
        self.fragment_octets
    }

    fn header(&self, exchange: ExchangeType, message_id: u32, response: bool) -> Header {
        Header {
            initiator_spi: self.spis.0,
            responder_spi: Some(self.spis.1),
            exchange,
            flags: Flags { initiator: self.initiator, response, higher_version: false },
            message_id,
        }
    }

    fn seal(&mut self, header: &Header, payloads: &[Payload]) -> Result<Vec<Bytes>, SealError> {
        if header.exchange == ExchangeType::IkeIntermediate {
            let mut inner = Vec::new();
            emit_chain(payloads, PayloadType::None, &mut inner).map_err(SealError::from)?;
            self.int_auth.add(&self.keys, header, first_type(payloads), &inner);
        }
        let limit = self.fragment_octets.unwrap_or(usize::MAX);
        let packets = self.sealer.seal_fragmented(header, payloads, limit)?;
        Ok(packets.into_iter().map(Bytes::from).collect())
    }

    /// Sends a request and keeps it until it is answered. Nothing may be outstanding.
    pub(crate) fn request(
        &mut self,
        now: Instant,
        path: &Path,
        policy: Retransmission,
        exchange: Exchange,
        payloads: &[Payload],
        out: &mut Vec<Output>,
    ) -> Result<(), SealError> {
        debug_assert!(!self.window.is_busy(), "window size 1");
        let message_id = self.window.next_request().ok_or(SealError::IvExhausted)?;
        let header = self.header(exchange.exchange_type(), message_id, false);
        let packets = self.seal(&header, payloads)?;
        send(path, &packets, out);
        self.window.sent(now, policy, exchange, packets);
        self.responses.clear();
        Ok(())
    }

    /// Answers the request that was opened last.
    pub(crate) fn respond(
        &mut self,
        path: &Path,
        header: &Header,
        payloads: &[Payload],
        out: &mut Vec<Output>,
    ) -> Result<(), SealError> {
        let packets = self.seal(&self.header(header.exchange, header.message_id, true), payloads)?;
        send(path, &packets, out);
        self.window.answered(std::mem::take(&mut self.request_head), packets);
        self.requests.clear();
        Ok(())
    }

    /// Whether a message with this header is one to be opened; repeated requests are answered here.
    pub(crate) fn is_due(&self, header: &Header, path: &Path, datagram: &[u8], out: &mut Vec<Output>) -> bool {
        if (header.initiator_spi, header.responder_spi) != (self.spis.0, Some(self.spis.1))
            || header.flags.initiator == self.initiator
            || header.exchange == ExchangeType::IkeSaInit
        {
            return false;
        }
        if header.flags.response {
            return self.window.outstanding().is_some_and(|outstanding| {
                outstanding.message_id == header.message_id && outstanding.exchange.exchange_type() == header.exchange
            });
        }
        match self.window.position(header.message_id) {
            Position::Expected => true,
            Position::Repeated => {
                if let Some(packets) = self.window.repeat(datagram) {
                    send(path, packets, out);
                }
                false
            }
            Position::Outside => false,
        }
    }

    /// The payloads of the answer to the request that is outstanding, which is then outstanding no longer; `None` if
    /// this is not (all of) it.
    ///
    /// # Errors
    ///
    /// If the answer is authentic and breaks the protocol.
    pub(crate) fn answered(
        &mut self,
        header: &Header,
        path: &Path,
        datagram: &Bytes,
        out: &mut Vec<Output>,
    ) -> Result<Option<Vec<Payload>>, Refusal> {
        if !header.flags.response || !self.is_due(header, path, datagram, out) {
            return Ok(None);
        }
        match self.open(header, datagram) {
            Err(_) | Ok(Opened::Partial) => Ok(None),
            Ok(Opened::Payloads(payloads)) => {
                self.window.answer(header.message_id);
                Ok(Some(payloads))
            }
            Ok(Opened::Malformed(reason)) => Err(Refusal::Malformed(reason.to_string())),
            Ok(Opened::Critical(kind)) => Err(Refusal::Malformed(format!("unknown critical payload {kind}"))),
        }
    }

    /// Opens a message that [`Channel::is_due`].
    pub(crate) fn open(&mut self, header: &Header, datagram: &Bytes) -> Result<Opened, Rejected> {
        let message = Message::parse(datagram).map_err(|_| Rejected::Unprotected)?;
        let Message { payloads, protected: Some(protected), .. } = message else { return Err(Rejected::Unprotected) };
        // RFC 7296 §3.14: what stands before the encrypted payload is not ours to use.
        if !payloads.is_empty() {
            return Err(Rejected::Unprotected);
        }
        let mut copy = datagram.to_vec();
        let plaintext = self.opener.open(&mut copy, &protected)?;
        let Protected { first_inner, fragment, .. } = protected;
        if !header.flags.response && fragment.is_none_or(|fragment| fragment.number == 1) {
            self.request_head = datagram.clone();
        }
        let (first_inner, whole) = match fragment {
            None => (first_inner, plaintext.to_vec()),
            Some(fragment) => {
                let parts = if header.flags.response { &mut self.responses } else { &mut self.requests };
                match parts.add(header.message_id, fragment, first_inner, plaintext.to_vec())? {
                    Some(whole) => whole,
                    None => return Ok(Opened::Partial),
                }
            }
        };
        if header.exchange == ExchangeType::IkeIntermediate {
            self.int_auth.add(&self.keys, header, first_inner, &whole);
        }
        Ok(match parse_inner(first_inner, &whole) {
            Err(reason) => Opened::Malformed(reason),
            Ok(payloads) => match unsupported_critical(&payloads) {
                Some(kind) => Opened::Critical(kind.code()),
                None => Opened::Payloads(payloads),
            },
        })
    }
}

/// Puts packets on the way.
pub(crate) fn send(path: &Path, packets: &[Bytes], out: &mut Vec<Output>) {
    out.extend(packets.iter().map(|bytes| Output::Send { path: path.clone(), bytes: bytes.clone() }));
}

/// A notify payload without SPI.
pub(crate) fn notify(kind: NotifyType, data: impl Into<Vec<u8>>) -> Payload {
    Payload::Notify(ike_wire::Notify::new(kind, data))
}
