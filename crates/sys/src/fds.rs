//! File descriptors sent over a Unix socket (SCM_RIGHTS), through rustix's safe interface.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

/// Sends `bytes` (one message on a SEQPACKET or DGRAM socket) with at most one descriptor.
///
/// # Errors
/// As `sendmsg` reports them.
pub fn send(socket: impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.as_slice();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for a descriptor in the control message"));
    }
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives one message and the descriptor that came with it. Length 0 means that the peer has closed.
///
/// # Errors
/// As `recvmsg` reports them; `InvalidData` when the message or its control part was longer than provided for.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fd = None;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = part {
            fd = fds.last(); // room for one was given; any other is closed as it is dropped
        }
    }
    let flags = message.flags;
    if flags.contains(rustix::net::ReturnFlags::TRUNC) || flags.contains(rustix::net::ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message longer than its reader expects"));
    }
    Ok((message.bytes, fd))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Seek, SeekFrom, Write},
        os::unix::net::UnixDatagram,
    };

    use super::*;

    #[test]
    fn a_descriptor_arrives_as_the_same_open_file() {
        let (near, far) = UnixDatagram::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"kept").unwrap();
        send(&near, b"take this", Some(file.as_fd())).unwrap();
        let mut buffer = [0; 32];
        let (length, fd) = receive(&far, &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"take this");
        let mut copy = std::fs::File::from(fd.unwrap());
        copy.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept");
    }

    #[test]
    fn plain_messages_and_too_long_ones() {
        let (near, far) = UnixDatagram::pair().unwrap();
        send(&near, b"plain", None).unwrap();
        let mut buffer = [0; 8];
        assert!(matches!(receive(&far, &mut buffer), Ok((5, None))));
        send(&near, b"longer than eight", None).unwrap();
        assert_eq!(receive(&far, &mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
