//! Packet sockets: every packet of a namespace as the kernel sees it, for captures in tests.
#![allow(unsafe_code)]

use std::{
    io,
    mem::{MaybeUninit, size_of, size_of_val},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// A tap on all interfaces of the namespace that the opening thread is in. It sees packets from their network header on,
/// both those that come in and those that go out.
#[derive(Debug)]
pub struct PacketTap(OwnedFd);

/// What the kernel says about one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tapped {
    /// When the kernel saw it, in nanoseconds since 1970.
    pub at_ns: i64,
    /// The interface.
    pub ifindex: u32,
    /// The EtherType.
    pub protocol: u16,
    /// Whether it was leaving.
    pub outgoing: bool,
    /// How much of it is in the buffer.
    pub length: usize,
}

impl PacketTap {
    /// Opens a tap with a receive buffer of about `buffer_octets`; the kernel may grant less without CAP_NET_ADMIN in the
    /// first user namespace.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW.
    pub fn open(buffer_octets: usize) -> io::Result<Self> {
        let every = libc::c_int::from((libc::ETH_P_ALL as u16).to_be());
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes plain integers.
        let raw = crate::check(unsafe { libc::socket(libc::AF_PACKET, kind, every) })?;
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, buffer_octets)
            .or_else(|_| rustix::net::sockopt::set_socket_recv_buffer_size(&socket, buffer_octets))?;
        let on: libc::c_int = 1;
        // SAFETY: the pointer and length describe a live integer.
        crate::check(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_TIMESTAMPNS,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        })?;
        Ok(Self(socket))
    }

    /// The next packet, or `None` when there is none now. What does not fit into `buffer` is cut off.
    ///
    /// # Errors
    /// As the kernel reports them; `ENETDOWN` when an interface went away is not one, it only says that no more comes
    /// from there.
    pub fn next(&self, buffer: &mut [u8]) -> io::Result<Option<Tapped>> {
        let mut from = MaybeUninit::<libc::sockaddr_ll>::zeroed();
        // Room for one timestamp; aligned as control messages must be.
        let mut control = [0u64; 8];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all-zero is a valid `msghdr`.
        let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        header.msg_name = from.as_mut_ptr().cast();
        header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control);
        let length = loop {
            // SAFETY: the header points to live buffers of the lengths that it states.
            let received = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, 0) };
            match usize::try_from(received) {
                Ok(length) => break length,
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    error if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        };
        // SAFETY: zeroed before, and the kernel wrote nothing but a `sockaddr_ll`, of which every bit pattern is valid.
        let from = unsafe { from.assume_init() };
        Ok(Some(Tapped {
            at_ns: timestamp_ns(&header).unwrap_or(0),
            ifindex: u32::try_from(from.sll_ifindex).unwrap_or(0),
            protocol: u16::from_be(from.sll_protocol),
            outgoing: from.sll_pkttype == libc::PACKET_OUTGOING,
            length: length.min(buffer.len()),
        }))
    }

    /// How many packets were dropped since the last call because the buffer was full.
    ///
    /// # Errors
    /// As the kernel reports them.
    pub fn dropped(&self) -> io::Result<u32> {
        let mut statistics = [0u32; 2]; // struct tpacket_stats: packets, drops
        let mut length = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: the pointer and length describe a live array, which is as large as the kernel's answer.
        crate::check(unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                statistics.as_mut_ptr().cast(),
                &raw mut length,
            )
        })?;
        Ok(statistics[1])
    }
}

fn timestamp_ns(header: &libc::msghdr) -> Option<i64> {
    // SAFETY: the header was filled in by recvmsg and its control buffer is alive.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: not null, so it points to a whole control message inside the buffer.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_TIMESTAMPNS {
            // SAFETY: this kind of message carries a `timespec`; it is read without assuming alignment.
            let time = unsafe { libc::CMSG_DATA(message).cast::<libc::timespec>().read_unaligned() };
            return Some(time.tv_sec * 1_000_000_000 + time.tv_nsec);
        }
        // SAFETY: both pointers come from this header.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::netns::NetNs;

    #[test]
    fn a_datagram_on_the_loopback_is_seen_leaving_and_coming() {
        NetNs::new().unwrap().run(|| {
            assert!(std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            let tap = PacketTap::open(1 << 20).unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(b"hello", socket.local_addr().unwrap()).unwrap();
            let mut buffer = [0; 30];
            let mut seen = Vec::new();
            while let Some(tapped) = tap.next(&mut buffer).unwrap() {
                if tapped.protocol == 0x0800 {
                    assert_eq!((buffer[9], &buffer[28..30]), (17, &b"he"[..]));
                    seen.push(tapped);
                }
            }
            let directions: Vec<bool> = seen.iter().map(|tapped| tapped.outgoing).collect();
            assert_eq!(directions, [true, false]);
            let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
            assert!(seen.iter().all(|tapped| tapped.length == 30 && (now - tapped.at_ns).abs() < 60_000_000_000));
            assert_eq!(tap.dropped().unwrap(), 0);
        });
    }
}
