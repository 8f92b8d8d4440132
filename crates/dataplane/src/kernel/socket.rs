//! A netlink socket that speaks in [`xfrm::Message`]s and wipes what it has read: the kernel repeats keys.

use std::{io, io::IoSlice, time::Duration};

use netlink_sys::{Socket, SocketAddr};
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags,
    sockopt::{self, Timeout},
};
use xfrm::{Answer, Message, Messages, Received, Refusal};
use zeroize::{Zeroize, Zeroizing};

/// As large as the kernel's largest part of a dump.
const READ: usize = 64 << 10;
/// Room for answers and events. The kernel charges each for a whole page or so.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The kernel answers before the request has been sent; what is not there then was lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most messages in one send: an acknowledgement each has to fit the receive buffer.
const BATCH: usize = 64;

/// Why a request was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub(super) enum NetlinkError {
    /// The kernel says no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The socket fails, or the kernel does not answer.
    #[error("netlink: {0}")]
    Socket(#[from] io::Error),
}

impl NetlinkError {
    /// Whether the kernel refused with this error number.
    pub(super) fn is(&self, errno: rustix::io::Errno) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.errno == errno.raw_os_error())
    }
}

impl From<NetlinkError> for io::Error {
    fn from(error: NetlinkError) -> Self {
        match error {
            NetlinkError::Refused(refusal) => {
                Self::new(Self::from_raw_os_error(refusal.errno).kind(), refusal.to_string())
            }
            NetlinkError::Socket(error) => error,
        }
    }
}

/// A socket for requests, or one for events.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    input: Zeroizing<Vec<u8>>,
}

impl Netlink {
    /// For requests.
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // The forced size needs CAP_NET_ADMIN in the first user namespace; otherwise the system's limit holds.
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
        }
        sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Self { socket, sequence: 0, input: Zeroizing::new(vec![0; READ]) })
    }

    /// For events of these groups.
    pub(super) fn listen(protocol: isize, groups: &[u32]) -> io::Result<Self> {
        let this = Self::open(protocol)?;
        groups.iter().try_for_each(|group| this.socket.add_membership(*group))?;
        this.socket.set_non_blocking(true)?;
        Ok(this)
    }

    pub(super) fn as_fd(&self) -> &Socket {
        &self.socket
    }

    /// Sends one request and waits until the kernel has done it.
    pub(super) fn request(&mut self, message: Message) -> Result<(), NetlinkError> {
        self.batch(vec![message]).pop().unwrap_or(Ok(()))
    }

    /// Sends requests, many at once, and gives how each went. The kernel does them in their order, whatever becomes of
    /// those before.
    pub(super) fn batch(&mut self, messages: Vec<Message>) -> Vec<Result<(), NetlinkError>> {
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut rest = messages.into_iter();
        loop {
            let mut some: Vec<Message> = rest.by_ref().take(BATCH).collect();
            if some.is_empty() {
                return outcomes;
            }
            let count = some.len();
            let first = self.sequence.wrapping_add(1);
            for message in &mut some {
                self.sequence = self.sequence.wrapping_add(1);
                message.set_sequence(self.sequence);
            }
            let mut seen: Vec<Option<Result<(), Refusal>>> = vec![None; count];
            let sent = self.send(&some);
            let answered = sent.and_then(|()| {
                while seen.iter().any(Option::is_none) {
                    self.receive(|received| {
                        let at = received.sequence.wrapping_sub(first) as usize;
                        let Some(slot) = seen.get_mut(at) else { return }; // of an earlier request
                        *slot = match received.answer() {
                            Answer::Acknowledged => Some(Ok(())),
                            Answer::Refused(refusal) => Some(Err(refusal)),
                            Answer::Done | Answer::Data(_) => slot.take(),
                        };
                    })?;
                }
                Ok(())
            });
            let failure = answered.err();
            outcomes.extend(seen.into_iter().map(|outcome| match (outcome, &failure) {
                (Some(outcome), _) => outcome.map_err(NetlinkError::from),
                (None, Some(error)) => Err(io::Error::new(error.kind(), error.to_string()).into()),
                (None, None) => Ok(()),
            }));
        }
    }

    /// Sends requests of nftables as one transaction: all of them are done, or none. The kernel tells of the first that it
    /// refuses.
    pub(super) fn transaction(&mut self, messages: Vec<Message>) -> Result<(), NetlinkError> {
        let mut unanswered = messages.len();
        let mut all = vec![xfrm::begin_batch()];
        all.extend(messages);
        all.push(xfrm::end_batch());
        let first = self.sequence.wrapping_add(1);
        for message in &mut all {
            self.sequence = self.sequence.wrapping_add(1);
            message.set_sequence(self.sequence);
        }
        self.send(&all)?;
        let mut refused = None;
        while unanswered > 0 && refused.is_none() {
            self.receive(|received| {
                let at = received.sequence.wrapping_sub(first) as usize;
                if at >= all.len() {
                    return; // of an earlier request
                }
                match received.answer() {
                    // Of the brackets only Linux 6.10 and later might tell, and is not asked to.
                    Answer::Acknowledged => unanswered = unanswered.saturating_sub(1),
                    // One with the number of the opening bracket says that the whole cannot be.
                    Answer::Refused(refusal) if refused.is_none() => refused = Some(refusal),
                    Answer::Refused(_) | Answer::Done | Answer::Data(_) => {}
                }
            })?;
        }
        refused.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// Asks for one thing, whose answer is read by `read`; `None` where nothing that it reads has come.
    pub(super) fn ask<T>(
        &mut self,
        mut message: Message,
        mut read: impl FnMut(Received<'_>) -> Option<T>,
    ) -> Result<Option<T>, NetlinkError> {
        let mut found = None;
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        message.set_sequence(sequence);
        self.send(std::slice::from_ref(&message))?;
        let mut done = None;
        while done.is_none() {
            self.receive(|received| {
                if received.sequence != sequence || done.is_some() {
                    return;
                }
                match received.answer() {
                    Answer::Data(received) => {
                        found = read(received);
                        done = Some(Ok(()));
                    }
                    Answer::Refused(refusal) => done = Some(Err(refusal)),
                    Answer::Acknowledged | Answer::Done => done = Some(Ok(())),
                }
            })?;
        }
        done.unwrap_or(Ok(()))?;
        Ok(found)
    }

    /// Asks for everything; what `read` reads of the parts is collected.
    pub(super) fn dump<T>(
        &mut self,
        mut message: Message,
        mut read: impl FnMut(Received<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let mut found = Vec::new();
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        message.set_sequence(sequence);
        self.send(std::slice::from_ref(&message))?;
        let mut done = None;
        while done.is_none() {
            self.receive(|received| {
                if received.sequence != sequence {
                    return;
                }
                match received.answer() {
                    Answer::Data(received) => found.extend(read(received)),
                    Answer::Refused(refusal) => done = Some(Err(refusal)),
                    Answer::Acknowledged | Answer::Done => done = Some(Ok(())),
                }
            })?;
        }
        done.unwrap_or(Ok(()))?;
        Ok(found)
    }

    fn send(&self, messages: &[Message]) -> io::Result<()> {
        let parts: Vec<IoSlice<'_>> = messages.iter().map(|message| IoSlice::new(message.as_bytes())).collect();
        let mut nothing = SendAncillaryBuffer::default();
        rustix::net::sendmsg(&self.socket, &parts, &mut nothing, SendFlags::empty())?;
        Ok(())
    }

    /// One read, whose messages go to `each`. It is wiped afterwards.
    pub(super) fn receive(&mut self, mut each: impl FnMut(Received<'_>)) -> io::Result<()> {
        let length = loop {
            match rustix::net::recv(&self.socket, &mut self.input[..], RecvFlags::empty()) {
                Ok((length, _)) => break length,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        let mut outcome = Ok(());
        for received in Messages::new(self.input.get(..length).unwrap_or_default()) {
            match received {
                Ok(received) => each(received),
                Err(malformed) => outcome = Err(io::Error::new(io::ErrorKind::InvalidData, malformed)),
            }
        }
        self.input[..length].zeroize();
        outcome
    }
}
