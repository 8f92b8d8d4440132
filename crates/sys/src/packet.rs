//! Packet sockets: every packet of a namespace as the kernel sees it, for captures in tests; frames to everybody on a
//! link; and datagrams past the routing of this host.
#![allow(unsafe_code)]

use std::{
    io,
    mem::{MaybeUninit, size_of, size_of_val},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

mod bypass;

pub use bypass::UdpBypass;

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

/// Sends frames to everybody on one link; it receives nothing.
#[derive(Debug)]
pub struct Broadcaster {
    socket: OwnedFd,
    ifindex: libc::c_int,
}

impl Broadcaster {
    /// One for the link of this number.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW, `ENODEV` when there is no such link.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        let ifindex = libc::c_int::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
        let socket = deaf()?;
        bind(&socket, &link_address(ifindex, 0))?;
        Ok(Self { socket, ifindex })
    }

    /// The link's own hardware address; `None` where that is not an Ethernet one.
    ///
    /// # Errors
    /// As the kernel reports them.
    pub fn hardware_address(&self) -> io::Result<Option<[u8; 6]>> {
        let address = name(&self.socket)?;
        let [a, b, c, d, e, f, _, _] = address.sll_addr;
        let ethernet = address.sll_hatype == libc::ARPHRD_ETHER && address.sll_halen == 6;
        Ok(ethernet.then_some([a, b, c, d, e, f]))
    }

    /// Sends a frame of this EtherType to everybody; the kernel puts the link's header before it.
    ///
    /// # Errors
    /// `ENETDOWN` while the link is down.
    pub fn send(&self, ethertype: u16, payload: &[u8]) -> io::Result<()> {
        let mut everybody = link_address(self.ifindex, ethertype);
        everybody.sll_halen = 6;
        everybody.sll_addr = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];
        send_to(&self.socket, payload, &everybody)
    }
}

/// A packet socket that receives nothing until it is bound to a protocol.
fn deaf() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes plain integers.
    let raw = crate::check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn bind(socket: &OwnedFd, address: &libc::sockaddr_ll) -> io::Result<()> {
    // SAFETY: the pointer and length describe a live address.
    crate::check(unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const *address).cast(), size_of_val(address) as libc::socklen_t)
    })?;
    Ok(())
}

/// The address of the link that the socket is bound to.
fn name(socket: &OwnedFd) -> io::Result<libc::sockaddr_ll> {
    let mut address = link_address(0, 0);
    let mut length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the pointer and length describe a live address, of which every bit pattern is valid.
    crate::check(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut length) })?;
    Ok(address)
}

fn send_to(socket: &OwnedFd, octets: &[u8], to: &libc::sockaddr_ll) -> io::Result<()> {
    // SAFETY: both pointers and lengths describe live values.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            octets.as_ptr().cast(),
            octets.len(),
            0,
            (&raw const *to).cast(),
            size_of_val(to) as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn link_address(ifindex: libc::c_int, ethertype: u16) -> libc::sockaddr_ll {
    // SAFETY: all-zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = ifindex;
    address
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

    fn ip(arguments: &str) {
        let done = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(done.success(), "ip {arguments}");
    }

    #[test]
    fn a_frame_to_everybody_arrives_at_the_other_end() {
        NetNs::new().unwrap().run(|| {
            ip("link add va index 10 address 02:00:00:00:00:0a type veth peer name vb index 11");
            ip("link set va up");
            ip("link set vb up");
            ip("link set lo up");
            let tap = PacketTap::open(1 << 20).unwrap();
            let link = Broadcaster::open(10).unwrap();
            assert_eq!(link.hardware_address().unwrap(), Some([2, 0, 0, 0, 0, 10]));
            link.send(0x88b5, b"hello").unwrap(); // an EtherType for experiments
            let mut buffer = [0; 64];
            // A busy kernel hands it on a little later.
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
            let (tapped, octets) = loop {
                assert!(std::time::Instant::now() < deadline, "the frame does not arrive");
                match tap.next(&mut buffer).unwrap() {
                    Some(tapped) if tapped.ifindex == 11 && tapped.protocol == 0x88b5 => break (tapped, buffer),
                    Some(_) => {}
                    None => std::thread::yield_now(),
                }
            };
            assert!(!tapped.outgoing && octets.starts_with(b"hello"));
            let none = Broadcaster::open(1).unwrap();
            assert_eq!(none.hardware_address().unwrap(), None, "the loopback has none");
            assert!(Broadcaster::open(99).is_err());
        });
    }

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
