//! A netlink socket that sends many messages at once and asks for one acknowledgement, with the last of them.
//!
//! Each acknowledgement takes receive buffer; a client that asks for hundreds hangs on the one that the kernel had to
//! drop. Errors come back whether asked for or not, and name their message by its sequence number.

use std::{io, time::Duration};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt::{self, Timeout};

use crate::{
    backend::{BackendError, Refusal},
    wire::Message,
};

/// Room for answers. The kernel charges each for a whole page or so.
const RECEIVE_BUFFER: usize = 8 << 20;
/// The kernel answers before `sendmsg` returns; what is not there then was dropped.
const PATIENCE: Duration = Duration::from_secs(1);
/// As large as the kernel's largest dump part.
pub(super) const READ: usize = 64 << 10;

const NLMSGERR_ATTR_MSG: u16 = 1;
/// Octets of `struct nlmsghdr`.
const HEADER: usize = 16;

/// One message to send, with the flags beyond `NLM_F_REQUEST` that it needs.
pub(super) struct Request {
    pub(super) flags: u16,
    pub(super) message: Message,
}

pub(super) struct RouteSocket {
    socket: Socket,
    port: u32,
    sequence: u32,
    out: Vec<u8>,
    input: Vec<u8>,
}

/// Opens a route socket with a large receive buffer and errors that explain themselves.
pub(super) fn open() -> io::Result<(Socket, u32)> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    let port = socket.bind_auto()?.port_number();
    socket.connect(&SocketAddr::new(0, 0))?;
    // The forced size needs CAP_NET_ADMIN in the first user namespace; otherwise the system's limit holds.
    if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
    }
    sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    Ok((socket, port))
}

impl RouteSocket {
    pub(super) fn open() -> Result<Self, BackendError> {
        let (socket, port) = open()?;
        Ok(Self { socket, port, sequence: 0, out: Vec::new(), input: Vec::with_capacity(READ) })
    }

    /// The address under which the kernel reports what this socket changed.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// Sends all requests in one call and waits until the kernel is done with the last.
    pub(super) fn transact(&mut self, requests: &mut Vec<Request>) -> Result<Vec<Refusal>, BackendError> {
        let count = requests.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let first = self.sequence.wrapping_add(1);
        self.out.clear();
        for (index, request) in requests.drain(..).enumerate() {
            let acknowledge = if index + 1 == count { NLM_F_ACK } else { 0 };
            self.sequence = self.sequence.wrapping_add(1);
            let flags = NLM_F_REQUEST | request.flags | acknowledge;
            encode(&mut self.out, request.message, flags, self.sequence);
        }
        self.socket.send(&self.out, 0)?;
        self.answers(first, count)
    }

    fn answers(&mut self, first: u32, count: usize) -> Result<Vec<Refusal>, BackendError> {
        let mut refusals = Vec::new();
        loop {
            self.input.clear();
            match self.socket.recv(&mut self.input, 0) {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::ENOBUFS) => return Err(BackendError::Overrun),
                    Some(libc::EAGAIN) => return Err(BackendError::Unacknowledged(count)),
                    _ => return Err(error.into()),
                },
            }
            for message in messages(&self.input) {
                let message = message?;
                let NetlinkPayload::Error(answer) = &message.payload else { continue };
                // Answers to an earlier batch whose end was never seen are of no use any more.
                let index = message.header.sequence_number.wrapping_sub(first) as usize;
                if index >= count {
                    continue;
                }
                if answer.raw_code() != 0 {
                    refusals.push(refusal(index, &message.header, answer.raw_code(), &answer.header));
                }
                if index + 1 == count {
                    return Ok(refusals);
                }
            }
        }
    }
}

pub(super) fn encode(out: &mut Vec<u8>, message: Message, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let start = out.len();
    // All our messages are multiples of four octets long, as netlink wants them.
    out.resize(start + message.buffer_len(), 0);
    message.serialize(&mut out[start..]);
}

/// The messages of one read.
pub(super) fn messages(read: &[u8]) -> impl Iterator<Item = Result<NetlinkMessage<Message>, BackendError>> {
    let mut rest = read;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = NetlinkMessage::deserialize(rest);
        let length = parsed.as_ref().map_or(0, |message| message.header.length as usize);
        // Zero cannot be right and would go on for ever.
        rest = match length.next_multiple_of(4) {
            0 => &[],
            step => rest.get(step..).unwrap_or_default(),
        };
        Some(parsed.map_err(|error| BackendError::Malformed(error.to_string())))
    })
}

/// The body of the first message, if it is of this type, and what follows it.
pub(super) fn leading(read: &[u8], kind: u16) -> Option<(&[u8], &[u8])> {
    let (head, _) = read.split_first_chunk::<HEADER>()?;
    let [a, b, c, d, low, high, ..] = *head;
    let length = u32::from_ne_bytes([a, b, c, d]) as usize;
    let body = read.get(HEADER..length).filter(|_| u16::from_ne_bytes([low, high]) == kind)?;
    Some((body, read.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Puts the kernel's words to its error number; `quoted` is our header (or message) as it came back, then attributes.
pub(super) fn refusal(index: usize, header: &NetlinkHeader, code: i32, quoted: &[u8]) -> Refusal {
    let message = (header.flags & NLM_F_ACK_TLVS != 0).then(|| {
        let ours = match quoted.first_chunk::<4>() {
            Some(_) if header.flags & NLM_F_CAPPED != 0 => 16,
            Some(length) => u32::from_ne_bytes(*length) as usize,
            None => quoted.len(),
        };
        let attributes = quoted.get(ours.next_multiple_of(4)..).unwrap_or_default();
        let text = NlasIterator::new(attributes).map_while(Result::ok).find(|nla| nla.kind() == NLMSGERR_ATTR_MSG)?;
        Some(String::from_utf8_lossy(text.value()).trim_end_matches('\0').to_owned())
    });
    Refusal { index, errno: code.saturating_abs(), message: message.flatten() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{Nexthop, NexthopId},
        wire::{NEW_NEXTHOP, NexthopMessage},
    };

    #[test]
    fn a_read_is_split_at_the_lengths_that_its_messages_state() {
        let hole = NexthopMessage {
            id: Some(NexthopId(9)),
            protocol: 1,
            kind: Some(Nexthop::Blackhole(net_types::Family::Ipv4Unicast)),
            group: Vec::new(),
        };
        let mut out = Vec::new();
        for sequence in 1..=3 {
            encode(&mut out, Message::Nexthop(NEW_NEXTHOP, hole.clone()), 0, sequence);
        }
        let seen: Vec<u32> = messages(&out).map(|message| message.unwrap().header.sequence_number).collect();
        assert_eq!(seen, [1, 2, 3]);
        out.truncate(out.len() - 1);
        assert_eq!(messages(&out).filter(Result::is_err).count(), 1);
        assert_eq!(messages(&[0; 64]).count(), 1);
    }

    #[test]
    fn the_kernels_explanation_is_found_behind_a_capped_quote() {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_CAPPED | NLM_F_ACK_TLVS;
        let mut quoted = vec![0; 16];
        let text = b"Nexthop id does not exist\0";
        quoted.extend((4 + text.len() as u16).to_ne_bytes());
        quoted.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
        quoted.extend(text);
        let refusal = refusal(3, &header, -22, &quoted);
        assert_eq!(refusal.to_string(), "Invalid argument (os error 22): Nexthop id does not exist");
    }
}
