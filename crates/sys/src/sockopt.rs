//! Socket options that rustix does not wrap, and a few of its own re-exported so that callers find all in one place.
#![allow(unsafe_code)]

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
};

use net_types::{IfName, Prefix};
pub use rustix::net::sockopt::{
    set_ip_freebind, set_ip_mtu_discover, set_ip_tos, set_ip_ttl, set_ipv6_freebind, set_ipv6_mtu_discover,
    set_ipv6_tclass, set_ipv6_unicast_hops, set_ipv6_v6only, set_socket_recv_buffer_size,
    set_socket_recv_buffer_size_force, set_socket_reuseaddr, set_socket_reuseport, set_socket_send_buffer_size,
    set_socket_send_buffer_size_force, set_tcp_nodelay, set_tcp_user_timeout, socket_peercred,
};

/// Marks every packet of the socket, for routing rules (`ip rule fwmark`) and filters to see.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN (or CAP_NET_RAW since Linux 5.17).
pub fn set_mark(socket: impl AsFd, mark: u32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_MARK, &mark)
}

/// Lets the socket send and receive through one interface alone.
///
/// # Errors
/// `ENODEV` when there is no such interface, `EPERM` when already bound and without CAP_NET_RAW.
pub fn bind_to_device(socket: impl AsFd, interface: &IfName) -> io::Result<()> {
    set_bytes(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, interface.as_str().as_bytes())
}

/// Sends to any address as to a neighbor on the link, whatever routes say (`SO_DONTROUTE`). Of IPv4 alone; IPv6 looks at
/// its routes all the same.
///
/// # Errors
/// As the kernel reports them.
pub fn set_dont_route(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_DONTROUTE, &1i32)
}

/// Drops what arrives with a TTL or hop limit below `minimum`: the generalised TTL security mechanism (RFC 5082).
///
/// # Errors
/// As the kernel reports them.
pub fn set_minimum_ttl(socket: impl AsFd, family: IpFamily, minimum: u8) -> io::Result<()> {
    let minimum = libc::c_int::from(minimum);
    match family {
        IpFamily::V4 => set(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &minimum),
        IpFamily::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &minimum),
    }
}

/// Asks for the destination address and interface of each datagram (`IP_PKTINFO`, `IPV6_RECVPKTINFO`).
///
/// # Errors
/// As the kernel reports them.
pub fn set_receive_packet_info(socket: impl AsFd, family: IpFamily) -> io::Result<()> {
    match family {
        IpFamily::V4 => set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, &1i32),
        IpFamily::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &1i32),
    }
}

/// Asks for the TTL or hop limit of each datagram.
///
/// # Errors
/// As the kernel reports them.
pub fn set_receive_ttl(socket: impl AsFd, family: IpFamily) -> io::Result<()> {
    match family {
        IpFamily::V4 => set(socket, libc::IPPROTO_IP, libc::IP_RECVTTL, &1i32),
        IpFamily::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, &1i32),
    }
}

/// Asks for the TOS or traffic class of each datagram.
///
/// # Errors
/// As the kernel reports them.
pub fn set_receive_tos(socket: impl AsFd, family: IpFamily) -> io::Result<()> {
    match family {
        IpFamily::V4 => set(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, &1i32),
        IpFamily::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, &1i32),
    }
}

/// Lets the kernel merge datagrams of one flow into one large receive; the size of the parts comes as a control message.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 5.0.
pub fn set_udp_gro(socket: impl AsFd, on: bool) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, &libc::c_int::from(on))
}

/// Leaves ESP that arrives on the socket to the kernel's associations, or takes it back (`UDP_ENCAP`, RFC 3948). What is not
/// ESP still comes to the socket; keepalives do not.
///
/// # Errors
/// `ENOPROTOOPT` where the kernel has no IPsec.
pub fn set_udp_encapsulation(socket: impl AsFd, on: bool) -> io::Result<()> {
    const UDP_ENCAP: libc::c_int = 100; // of linux/udp.h, which libc lacks
    const UDP_ENCAP_ESPINUDP: libc::c_int = 2;
    set(socket, libc::SOL_UDP, UDP_ENCAP, &if on { UDP_ENCAP_ESPINUDP } else { 0 })
}

/// Bounds the TCP segments of a socket: before it connects also what the other end is asked for.
///
/// # Errors
/// `EINVAL` below 88 octets, or where the kernel cannot go so high.
pub fn set_tcp_max_segment(socket: impl AsFd, octets: u16) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG, &libc::c_int::from(octets))
}

/// The largest TCP segment that is sent now, in octets of payload.
///
/// # Errors
/// As the kernel reports them.
pub fn tcp_max_segment(socket: impl AsFd) -> io::Result<u16> {
    u16::try_from(get_int(socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG)?).map_err(io::Error::other)
}

/// The largest packet, IP header included, that the path of a connected socket is known to take: its link's, or less where
/// ICMP said so within the last minutes (`net.ipv4.route.mtu_expires`).
///
/// # Errors
/// `ENOTCONN` when it is not connected.
pub fn path_mtu(socket: impl AsFd, family: IpFamily) -> io::Result<u32> {
    let octets = match family {
        IpFamily::V4 => get_int(socket, libc::IPPROTO_IP, libc::IP_MTU)?,
        IpFamily::V6 => get_int(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU)?,
    };
    u32::try_from(octets).map_err(io::Error::other)
}

fn get_int(socket: impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t; // 4
    // SAFETY: both pointers are to live locals, and the kernel writes at most `length` octets.
    crate::check(unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    })?;
    Ok(value)
}

/// The key of TCP-MD5 (RFC 2385) for segments to and from `peer` (port ignored). An empty key removes it.
///
/// # Errors
/// `EINVAL` for a key longer than 80 octets, `ENOENT` when removing what is not there.
pub fn set_tcp_md5(socket: impl AsFd, peer: SocketAddr, key: &[u8]) -> io::Result<()> {
    set_md5(socket, peer, None, key)
}

/// The same for all peers with an address in `range` that have no key of their own.
///
/// # Errors
/// As [`set_tcp_md5`].
pub fn set_tcp_md5_range(socket: impl AsFd, range: &Prefix, key: &[u8]) -> io::Result<()> {
    set_md5(socket, SocketAddr::new(range.address(), 0), Some(range.bits()), key)
}

fn set_md5(socket: impl AsFd, peer: SocketAddr, bits: Option<u8>, key: &[u8]) -> io::Result<()> {
    let mut option = TcpMd5Sig {
        address: sockaddr_storage(peer),
        flags: if bits.is_some() { TCP_MD5SIG_FLAG_PREFIX } else { 0 },
        prefix_length: bits.unwrap_or(0),
        key_length: 0,
        ifindex: 0,
        key: [0; 80],
    };
    let Some(room) = option.key.get_mut(..key.len()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a TCP-MD5 key has at most 80 octets"));
    };
    room.copy_from_slice(key);
    option.key_length = u16::try_from(key.len()).unwrap_or_default(); // at most 80, as just checked
    let name = if bits.is_some() { TCP_MD5SIG_EXT } else { libc::TCP_MD5SIG };
    let result = set(socket, libc::IPPROTO_TCP, name, &option);
    for octet in &mut option.key {
        // SAFETY: a volatile write through an exclusive reference; it keeps the key from staying on the stack.
        unsafe { std::ptr::write_volatile(octet, 0) };
    }
    result
}

/// Which of the two IP versions a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamily {
    /// `AF_INET`
    V4,
    /// `AF_INET6`
    V6,
}

impl IpFamily {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Of linux/tcp.h, which libc lacks.
const TCP_MD5SIG_EXT: libc::c_int = 32;
const TCP_MD5SIG_FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig` of linux/tcp.h, which libc lacks.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    ifindex: i32,
    key: [u8; 80],
}

/// Plain C data whose octets the kernel may read: integers and structures of them without uninitialised padding.
///
/// # Safety
/// Every octet of every value is initialised.
unsafe trait OptionValue {}
// SAFETY: integers have no padding.
unsafe impl OptionValue for u32 {}
// SAFETY: integers have no padding.
unsafe impl OptionValue for i32 {}
// SAFETY: sockaddr_storage is built from zeroed memory, and its 128 octets are followed by 1 + 1 + 2 + 4 + 80, which
// leaves no gap at alignment 8 (216 octets in all).
unsafe impl OptionValue for TcpMd5Sig {}
const _: () = assert!(size_of::<TcpMd5Sig>() == 216);

fn set<T: OptionValue>(socket: impl AsFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is live for the call, its octets are initialised (OptionValue), and the length is its own.
    let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) };
    set_bytes(socket, level, option, bytes)
}

fn set_bytes(socket: impl AsFd, level: libc::c_int, option: libc::c_int, bytes: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(bytes.len()).map_err(io::Error::other)?;
    // SAFETY: pointer and length describe a live slice, which the kernel only reads.
    crate::check(unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, bytes.as_ptr().cast(), length)
    })?;
    Ok(())
}

/// `address` as the kernel wants it, zero where it says nothing.
pub(crate) fn sockaddr_storage(address: SocketAddr) -> libc::sockaddr_storage {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let name = crate::mmsg::SockAddr::new(address);
    let bytes = name.as_bytes();
    // SAFETY: `bytes` holds at most 28 octets and the storage 128; both are live and do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut storage).cast::<u8>(), bytes.len()) };
    storage
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use rustix::net::{AddressFamily, SocketType};

    use super::*;
    use crate::netns::NetNs;

    fn with_loopback<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        NetNs::new().unwrap().run(|| {
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            work()
        })
    }

    #[test]
    fn marks_and_devices_are_set() {
        with_loopback(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            set_mark(&socket, 0x4801).unwrap();
            bind_to_device(&socket, &"lo".parse().unwrap()).unwrap();
            let missing = UdpSocket::bind("127.0.0.1:0").unwrap();
            let error = bind_to_device(&missing, &"absent0".parse().unwrap()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        });
    }

    #[test]
    fn a_low_ttl_is_dropped_by_the_minimum() {
        with_loopback(|| {
            let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
            receiver.set_nonblocking(true).unwrap();
            set_minimum_ttl(&receiver, IpFamily::V4, 255).unwrap();
            // UDP ignores the minimum; TCP is what it is for.
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            set_minimum_ttl(&listener, IpFamily::V4, 255).unwrap();
            let far = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            set_ip_ttl(&far, 255).unwrap();
            let address = listener.local_addr().unwrap();
            rustix::net::connect(&far, &address).unwrap();
            let near = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            set_ip_ttl(&near, 64).unwrap();
            rustix::io::ioctl_fionbio(&near, true).unwrap();
            assert_eq!(rustix::net::connect(&near, &address), Err(rustix::io::Errno::INPROGRESS));
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_ok(), "the peer with TTL 255 is accepted");
            assert!(listener.accept().is_err(), "the peer with TTL 64 is not");
        });
    }

    #[test]
    fn tcp_md5_lets_matching_keys_connect() {
        with_loopback(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let peer: SocketAddr = "127.0.0.1:0".parse().unwrap();
            if let Err(error) = set_tcp_md5(&listener, peer, b"a shared secret") {
                // A kernel built without CONFIG_TCP_MD5SIG says so; that is all that can be tested there.
                assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
                return;
            }
            let dial = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            set_tcp_md5(&dial, address, b"a shared secret").unwrap();
            rustix::net::connect(&dial, &address).unwrap();
            listener.accept().unwrap();
            let plain = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            rustix::io::ioctl_fionbio(&plain, true).unwrap();
            assert_eq!(rustix::net::connect(&plain, &address), Err(rustix::io::Errno::INPROGRESS));
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_err(), "a peer without the key is not accepted");
        });
    }

    #[test]
    fn long_md5_keys_are_refused() {
        with_loopback(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let error = set_tcp_md5(&listener, "127.0.0.1:0".parse().unwrap(), &[1; 81]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        });
    }

    #[test]
    fn the_kernel_takes_timeouts_and_sizes() {
        with_loopback(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            set_tcp_user_timeout(&stream, 9000).unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            set_socket_recv_buffer_size_force(&socket, 8 << 20).unwrap();
            assert!(rustix::net::sockopt::socket_recv_buffer_size(&socket).unwrap() >= 8 << 20);
            set_udp_gro(&socket, true).unwrap();
        });
    }
}
