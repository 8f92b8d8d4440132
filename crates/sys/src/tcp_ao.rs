//! TCP-AO (RFC 5925) as Linux has it since 6.7: master key tuples of a socket, which one is in use, and what was counted.
//!
//! libc does not know these options yet, so their numbers and structures of linux/tcp.h stand here. Keys come back from the
//! kernel beside what is asked for; they are cleared before anybody sees them.
#![allow(unsafe_code)]

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    sync::atomic::{Ordering, compiler_fence},
};

use net_types::Prefix;
use rustix::net::{AddressFamily, SocketType};

use crate::sockopt::sockaddr_storage;

/// The longest key that Linux takes, in octets (TCP_AO_MAXKEYLEN).
pub const MAX_KEY_OCTETS: usize = 80;

/// How a segment's authentication code and the keys of a connection are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC-SHA-1-96 with KDF_HMAC_SHA1 (RFC 5926 §3.1.1.1, §3.2.1).
    HmacSha1_96,
    /// AES-128-CMAC-96 with KDF_AES_128_CMAC (RFC 5926 §3.1.1.2, §3.2.2).
    Aes128Cmac96,
    /// HMAC-SHA-256 cut to 128 bits, its KDF with the same hash (draft-ietf-tcpm-tcp-ao-algs).
    HmacSha256_128,
}

impl Algorithm {
    /// As the kernel calls it, and the length of the code in octets.
    fn kernel(self) -> (&'static [u8], u8) {
        match self {
            Self::HmacSha1_96 => (b"hmac(sha1)", 12),
            Self::Aes128Cmac96 => (b"cmac(aes128)", 12),
            Self::HmacSha256_128 => (b"hmac(sha256)", 16),
        }
    }
}

/// A master key tuple (RFC 5925 §3.1). It has no `Debug`, since it has the key.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    /// For segments to and from these addresses.
    pub peers: &'a Prefix,
    /// KeyID of what we send.
    pub send_id: u8,
    /// KeyID of what we receive.
    pub receive_id: u8,
    /// Both functions.
    pub algorithm: Algorithm,
    /// Other TCP options are part of what is signed.
    pub covers_options: bool,
    /// The key: at most [`MAX_KEY_OCTETS`].
    pub secret: &'a [u8],
    /// Segments are signed with it, and the peer is asked to, from now on: for a socket that is to connect.
    pub at_once: bool,
}

/// What a connection's segments are signed with, and what was counted of those received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Current_key: the KeyID of what we send; none before the connection begins.
    pub current: Option<u8>,
    /// RNext_key: the KeyID that we ask the peer to send with.
    pub next: Option<u8>,
    /// Segments whose code was right.
    pub good: u64,
    /// Segments whose code was wrong.
    pub bad: u64,
    /// Segments with a KeyID that names no key.
    pub key_not_found: u64,
    /// Segments without the option where it is required.
    pub unsigned: u64,
}

/// A key of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// For segments to and from these addresses.
    pub peers: Prefix,
    /// KeyID of what we send.
    pub send_id: u8,
    /// KeyID of what we receive.
    pub receive_id: u8,
    /// Our segments are signed with it.
    pub is_current: bool,
    /// The peer is asked to sign with it.
    pub is_next: bool,
    /// Segments that it was right for.
    pub good: u64,
    /// Segments that named it and had a wrong code.
    pub bad: u64,
}

/// Whether this kernel has TCP-AO: Linux 6.7 or later, built with CONFIG_TCP_AO.
pub fn is_supported() -> bool {
    let Ok(socket) = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None) else { return false };
    // A kernel that knows the option says that this socket has no key.
    !matches!(info(&socket), Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT))
}

/// Gives a socket a key: one that listens, one that is to connect, or one whose connection has other keys already.
///
/// # Errors
/// `ENOPROTOOPT` without TCP-AO, `EEXIST` where either KeyID is another key's for the same addresses, `EKEYREJECTED`
/// beside a key of TCP-MD5 for them, `InvalidInput` for a key that is too long.
pub fn add_key(socket: impl AsFd, key: &Key<'_>) -> io::Result<()> {
    let (name, code_octets) = key.algorithm.kernel();
    let mut option = Add {
        address: sockaddr_storage(SocketAddr::new(key.peers.address(), 0)),
        algorithm: [0; 64],
        ifindex: 0,
        flags: if key.at_once { SET_CURRENT | SET_NEXT } else { 0 },
        reserved: 0,
        prefix: key.peers.bits(),
        send_id: key.send_id,
        receive_id: key.receive_id,
        code_octets,
        key_flags: if key.covers_options { 0 } else { EXCLUDE_OPTIONS },
        key_octets: 0,
        key: [0; MAX_KEY_OCTETS],
    };
    let Some(room) = option.key.get_mut(..key.secret.len()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a key of TCP-AO has at most 80 octets"));
    };
    room.copy_from_slice(key.secret);
    option.key_octets = u8::try_from(key.secret.len()).unwrap_or_default(); // at most 80, as just checked
    option.algorithm[..name.len()].copy_from_slice(name);
    let result = set(socket, TCP_AO_ADD_KEY, &option);
    clear(&mut option.key);
    result
}

/// Takes a key from a socket.
///
/// # Errors
/// `ENOENT` where it is not there, `EBUSY` while it is current, or the peer is asked for it.
pub fn delete_key(socket: impl AsFd, peers: &Prefix, send_id: u8, receive_id: u8) -> io::Result<()> {
    let listens = rustix::net::sockopt::socket_acceptconn(&socket).unwrap_or(false);
    let option = Delete {
        address: sockaddr_storage(SocketAddr::new(peers.address(), 0)),
        ifindex: 0,
        // A socket that listens would wait for every processor's readers otherwise.
        flags: if listens { DELETE_LATER } else { 0 },
        reserved: 0,
        prefix: peers.bits(),
        send_id,
        receive_id,
        current: 0,
        next: 0,
        key_flags: 0,
    };
    set(socket, TCP_AO_DEL_KEY, &option)
}

/// Asks the peer of a connection to sign with the key that has this receive id; when it does, it has the key, and asks
/// us for it in turn or did so before.
///
/// # Errors
/// `ENOENT` where the connection has no such key, or is not signed.
pub fn ask_for(socket: impl AsFd, receive_id: u8) -> io::Result<()> {
    let mut option = InfoOption { flags: SET_NEXT, next: receive_id, ..InfoOption::default() };
    // What is not said here would be turned off: kept as it is.
    option.flags |= get_info(&socket)?.flags & (REQUIRED | ACCEPT_ICMP);
    set(socket, TCP_AO_INFO, &option)
}

/// What a socket's segments are signed with.
///
/// # Errors
/// `ENOENT` where they are not signed, `ENOPROTOOPT` without TCP-AO.
pub fn info(socket: impl AsFd) -> io::Result<Info> {
    let option = get_info(&socket)?;
    Ok(Info {
        current: (option.flags & SET_CURRENT != 0).then_some(option.current),
        next: (option.flags & SET_NEXT != 0).then_some(option.next),
        good: option.good,
        bad: option.bad,
        key_not_found: option.key_not_found,
        unsigned: option.unsigned,
    })
}

/// The keys of a socket, as many as there are up to 64; the kernel keeps their order.
///
/// # Errors
/// `ENOENT` where it has none, `ENOPROTOOPT` without TCP-AO.
pub fn keys(socket: impl AsFd) -> io::Result<Vec<KeyInfo>> {
    // SAFETY: integers and arrays of them; all-zero is a valid value.
    let zero: GetKeys = unsafe { std::mem::zeroed() };
    let mut list = vec![zero; MOST_KEYS];
    list[0].count = MOST_KEYS as u32; // 64
    list[0].flags = GET_ALL;
    let mut length = size_of::<GetKeys>() as libc::socklen_t; // of one element: 304
    // SAFETY: the list has room for as many elements as its first one says, and outlives the call.
    crate::check(unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_AO_GET_KEYS,
            list.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    list.iter_mut().for_each(|key| clear(&mut key.key));
    let count = usize::try_from(list[0].count).unwrap_or(MOST_KEYS);
    list.truncate(count);
    let known = |key: &GetKeys| KeyInfo {
        peers: key.peers(),
        send_id: key.send_id,
        receive_id: key.receive_id,
        is_current: key.flags & IS_CURRENT != 0,
        is_next: key.flags & IS_NEXT != 0,
        good: key.good,
        bad: key.bad,
    };
    Ok(list.iter().map(known).collect())
}

const TCP_AO_ADD_KEY: libc::c_int = 38;
const TCP_AO_DEL_KEY: libc::c_int = 39;
const TCP_AO_INFO: libc::c_int = 40;
const TCP_AO_GET_KEYS: libc::c_int = 41;

/// More keys than a connection has use for.
const MOST_KEYS: usize = 64;
/// TCP_AO_KEYF_EXCLUDE_OPT
const EXCLUDE_OPTIONS: u8 = 2;

// Bit fields of 32 bits, as the compilers of Linux lay them out on little-endian machines.
const SET_CURRENT: u32 = 1;
const SET_NEXT: u32 = 1 << 1;
const DELETE_LATER: u32 = 1 << 2;
const REQUIRED: u32 = 1 << 2;
const ACCEPT_ICMP: u32 = 1 << 4;
const IS_CURRENT: u16 = 1;
const IS_NEXT: u16 = 1 << 1;
const GET_ALL: u16 = 1 << 2;
#[cfg(target_endian = "big")]
compile_error!("the bit fields of linux/tcp.h are known for little-endian machines only");

/// `struct tcp_ao_add`
#[repr(C, align(8))]
struct Add {
    address: libc::sockaddr_storage,
    algorithm: [u8; 64],
    ifindex: i32,
    flags: u32,
    reserved: u16,
    prefix: u8,
    send_id: u8,
    receive_id: u8,
    code_octets: u8,
    key_flags: u8,
    key_octets: u8,
    key: [u8; MAX_KEY_OCTETS],
}
const _: () = assert!(size_of::<Add>() == 288);

/// `struct tcp_ao_del`
#[repr(C, align(8))]
struct Delete {
    address: libc::sockaddr_storage,
    ifindex: i32,
    flags: u32,
    reserved: u16,
    prefix: u8,
    send_id: u8,
    receive_id: u8,
    current: u8,
    next: u8,
    key_flags: u8,
}
const _: () = assert!(size_of::<Delete>() == 144);

/// `struct tcp_ao_info_opt`
#[repr(C, align(8))]
#[derive(Clone, Copy, Default)]
struct InfoOption {
    flags: u32,
    reserved: u16,
    current: u8,
    next: u8,
    good: u64,
    bad: u64,
    key_not_found: u64,
    unsigned: u64,
    dropped_icmp: u64,
}
const _: () = assert!(size_of::<InfoOption>() == 48);

/// `struct tcp_ao_getsockopt`
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct GetKeys {
    address: libc::sockaddr_storage,
    algorithm: [u8; 64],
    key: [u8; MAX_KEY_OCTETS],
    count: u32,
    flags: u16,
    send_id: u8,
    receive_id: u8,
    prefix: u8,
    code_octets: u8,
    key_flags: u8,
    key_octets: u8,
    ifindex: i32,
    good: u64,
    bad: u64,
}
const _: () = assert!(size_of::<GetKeys>() == 304);

impl GetKeys {
    fn peers(&self) -> Prefix {
        let storage = std::ptr::from_ref(&self.address);
        let address = match libc::c_int::from(self.address.ss_family) {
            libc::AF_INET6 => {
                // SAFETY: the kernel says that a sockaddr_in6 is there, which a sockaddr_storage has room and alignment for.
                let name = unsafe { &*storage.cast::<libc::sockaddr_in6>() };
                IpAddr::V6(Ipv6Addr::from(name.sin6_addr.s6_addr))
            }
            _ => {
                // SAFETY: the same for sockaddr_in; whatever is there, its octets are initialised integers.
                let name = unsafe { &*storage.cast::<libc::sockaddr_in>() };
                IpAddr::V4(Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)))
            }
        };
        Prefix::new(address, self.prefix).unwrap_or_else(|_| Prefix::host(address))
    }
}

fn get_info(socket: impl AsFd) -> io::Result<InfoOption> {
    let mut option = InfoOption::default();
    let mut length = size_of::<InfoOption>() as libc::socklen_t; // 48
    // SAFETY: both pointers are to live locals, and the kernel writes at most `length` octets.
    crate::check(unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_AO_INFO,
            (&raw mut option).cast(),
            &raw mut length,
        )
    })?;
    Ok(option)
}

fn set<T>(socket: impl AsFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t; // a few hundred
    // SAFETY: `value` is live for the call, and the kernel reads `length` octets, its own size, at its address.
    crate::check(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    })?;
    Ok(())
}

/// Keeps a key from staying behind in memory.
fn clear(key: &mut [u8; MAX_KEY_OCTETS]) {
    // SAFETY: a volatile write through an exclusive reference.
    unsafe { std::ptr::write_volatile(key, [0; MAX_KEY_OCTETS]) };
    compiler_fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::netns::NetNs;

    fn key<'a>(peers: &'a Prefix, id: u8, secret: &'a [u8], at_once: bool) -> Key<'a> {
        let algorithm = Algorithm::HmacSha1_96;
        Key { peers, send_id: id, receive_id: id, algorithm, covers_options: true, secret, at_once }
    }

    /// Under a kernel without TCP-AO the first half is what can be tested; `cargo xtask test --kernel` has one with it.
    #[test]
    fn keys_are_taken_or_the_kernel_says_that_it_has_none() {
        NetNs::new().unwrap().run(|| {
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let peers: Prefix = "127.0.0.0/8".parse().unwrap();
            if !is_supported() {
                let error = add_key(&listener, &key(&peers, 1, b"secret", false)).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
                return;
            }
            add_key(&listener, &key(&peers, 1, b"the first", false)).unwrap();
            add_key(&listener, &key(&peers, 2, b"the second", false)).unwrap();
            let again = add_key(&listener, &key(&peers, 2, b"another", false)).unwrap_err();
            assert_eq!(again.raw_os_error(), Some(libc::EEXIST));
            for algorithm in [Algorithm::Aes128Cmac96, Algorithm::HmacSha256_128] {
                let other = Key { algorithm, ..key(&peers, 7, b"another kind", false) };
                add_key(&listener, &other).unwrap();
                delete_key(&listener, &peers, 7, 7).unwrap();
            }

            let address = listener.local_addr().unwrap();
            let dial = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            let far = Prefix::host(address.ip());
            add_key(&dial, &key(&far, 1, b"the first", true)).unwrap();
            rustix::net::connect(&dial, &address).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let before = info(&accepted).unwrap();
            assert_eq!((before.current, before.next), (Some(1), Some(1)));

            // The key rolls over: added here, asked for there.
            add_key(&dial, &key(&far, 2, b"the second", false)).unwrap();
            ask_for(&dial, 2).unwrap();
            let busy = delete_key(&dial, &far, 1, 1).unwrap_err();
            assert_eq!(busy.raw_os_error(), Some(libc::EBUSY), "a key in use stays");
            rustix::io::write(&dial, b"x").unwrap();
            rustix::io::read(&accepted, &mut [0; 1]).unwrap();
            assert_eq!(info(&accepted).unwrap().current, Some(2), "the other end signs with what it was asked for");
            ask_for(&accepted, 2).unwrap();
            rustix::io::write(&accepted, b"y").unwrap();
            rustix::io::read(&dial, &mut [0; 1]).unwrap();
            assert_eq!(info(&dial).unwrap().current, Some(2));
            delete_key(&dial, &far, 1, 1).unwrap();
            let left = keys(&dial).unwrap();
            assert_eq!(left.len(), 1);
            assert_eq!(left[0].peers, far);
            assert!(left[0].is_current && left[0].is_next && left[0].send_id == 2 && left[0].good > 0);
            assert_eq!(info(&dial).unwrap().bad, 0);

            let wrong = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            add_key(&wrong, &key(&far, 1, b"a guess", true)).unwrap();
            rustix::io::ioctl_fionbio(&wrong, true).unwrap();
            assert_eq!(rustix::net::connect(&wrong, &address), Err(rustix::io::Errno::INPROGRESS));
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_err(), "a wrong key opens nothing");
        });
    }

    #[test]
    fn long_keys_are_refused() {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let peers: Prefix = "192.0.2.1/32".parse().unwrap();
        let error = add_key(&socket, &key(&peers, 1, &[1; 81], false)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
