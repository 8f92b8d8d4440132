//! UDP in batches: `recvmmsg` and `sendmmsg` with the control messages that a datapath needs.
//!
//! One system call moves up to [`MAX_BATCH`] datagrams, and with GSO and GRO each of them stands for up to 64 KiB of
//! equal segments. Headers, addresses and control buffers live on the stack of the call; payload is lent by the caller
//! on sending and owned by [`RecvBatch`] on receiving, so that nothing is allocated per packet.
#![allow(unsafe_code)]

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    num::NonZeroU16,
    os::fd::{AsFd, AsRawFd},
};

/// Most datagrams that one call sends or receives.
pub const MAX_BATCH: usize = 64;

/// Room for the control messages of one datagram: PKTINFO (at most 40 octets), and 24 each for segment size, TTL, TOS.
type Control = [u64; 16];

/// A datagram to send.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// The source address, where the routing decision is not to choose it. Of the same family as `to`.
    pub from: Option<IpAddr>,
    /// The octets.
    pub payload: &'a [u8],
    /// Cut the payload into datagrams of this size (UDP_SEGMENT), of which the last may be shorter.
    pub segment: Option<NonZeroU16>,
    /// TOS or traffic class.
    pub tos: u8,
}

/// Sends datagrams in order and returns how many the kernel took; at most [`MAX_BATCH`] a call.
///
/// # Errors
/// The error of the *first* datagram when none was taken; when a later one fails, the count comes back and the error
/// follows on the next call, as `sendmmsg` has it.
pub fn send(socket: impl AsFd, datagrams: &[Datagram<'_>]) -> io::Result<usize> {
    let count = datagrams.len().min(MAX_BATCH);
    if count == 0 {
        return Ok(0);
    }
    let mut names = [SockAddr::EMPTY; MAX_BATCH];
    let mut controls = [[0u64; 16]; MAX_BATCH];
    // SAFETY: all-zero is a valid value for both: null pointers and zero lengths.
    let mut parts: [libc::iovec; MAX_BATCH] = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut headers: [libc::mmsghdr; MAX_BATCH] = unsafe { mem::zeroed() };
    let slots = headers.iter_mut().zip(&mut parts).zip(&mut names).zip(&mut controls);
    for (datagram, (((header, part), name), control)) in datagrams.iter().zip(slots) {
        *name = SockAddr::new(datagram.to);
        part.iov_base = datagram.payload.as_ptr().cast_mut().cast(); // only read by sendmmsg
        part.iov_len = datagram.payload.len();
        let header = &mut header.msg_hdr;
        header.msg_name = (&raw mut name.storage).cast();
        header.msg_namelen = name.length;
        header.msg_iov = part;
        header.msg_iovlen = 1;
        let used = write_control(control, datagram);
        if used > 0 {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = used as _;
        }
    }
    // SAFETY: the first `count` headers point to names, parts and controls that live in this frame until after the
    // call, with their true lengths; payloads are borrowed for the call. The kernel writes `msg_len` alone.
    let sent = crate::check(unsafe {
        libc::sendmmsg(socket.as_fd().as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, libc::MSG_DONTWAIT as _)
    })?;
    Ok(usize::try_from(sent).unwrap_or(0))
}

/// What came with a received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Where from.
    pub from: SocketAddr,
    /// Octets received.
    pub length: usize,
    /// Size of each merged datagram but the last, when GRO merged several.
    pub segment: Option<NonZeroU16>,
    /// The address that it was sent to, when packet information was asked for.
    pub to: Option<IpAddr>,
    /// The interface that it came in by, when packet information was asked for.
    pub ifindex: Option<u32>,
    /// TTL or hop limit, when asked for.
    pub ttl: Option<u8>,
    /// TOS or traffic class, when asked for.
    pub tos: Option<u8>,
    /// The datagram was longer than the slot, and its end is lost.
    pub truncated: bool,
}

/// Buffers for one receiving queue, allocated once.
#[derive(Debug)]
pub struct RecvBatch {
    buffer: Box<[u8]>,
    slot_len: usize,
    metas: Vec<Meta>,
    slots: usize,
}

impl RecvBatch {
    /// Room for `slots` datagrams (at most [`MAX_BATCH`]) of `slot_len` octets each.
    pub fn new(slots: usize, slot_len: usize) -> Self {
        let (slots, slot_len) = (slots.clamp(1, MAX_BATCH), slot_len.max(1));
        Self { buffer: vec![0; slots * slot_len].into(), slot_len, metas: Vec::with_capacity(slots), slots }
    }

    /// Receives what waits without blocking, and returns how many datagrams that was. Earlier ones are gone.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits; errors that ICMP brought for earlier sends.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.metas.clear();
        let mut names = [SockAddr::EMPTY; MAX_BATCH];
        let mut controls = [[0u64; 16]; MAX_BATCH];
        // SAFETY: all-zero is a valid value for both: null pointers and zero lengths.
        let mut parts: [libc::iovec; MAX_BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; MAX_BATCH] = unsafe { mem::zeroed() };
        let slots = headers.iter_mut().zip(&mut parts).zip(&mut names).zip(&mut controls);
        for (slot, (((header, part), name), control)) in self.buffer.chunks_exact_mut(self.slot_len).zip(slots) {
            part.iov_base = slot.as_mut_ptr().cast();
            part.iov_len = slot.len();
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut name.storage).cast();
            header.msg_namelen = size_of_val(&name.storage) as libc::socklen_t;
            header.msg_iov = part;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        // SAFETY: `self.slots` headers (at most MAX_BATCH, see `new`) were filled in above with pointers to live,
        // exclusively borrowed memory and its true lengths; no timeout is given.
        let received = crate::check(unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                headers.as_mut_ptr(),
                self.slots as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        })?;
        let received = usize::try_from(received).unwrap_or(0);
        for (header, name) in headers.iter().zip(&mut names).take(received) {
            name.length = header.msg_hdr.msg_namelen;
            let mut meta = Meta {
                from: name.get().unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)),
                length: (header.msg_len as usize).min(self.slot_len),
                segment: None,
                to: None,
                ifindex: None,
                ttl: None,
                tos: None,
                truncated: header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
            };
            read_control(&header.msg_hdr, &mut meta);
            self.metas.push(meta);
        }
        Ok(received)
    }

    /// The datagrams of the last [`Self::receive`], to be worked on in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Meta, &mut [u8])> {
        self.metas.iter().zip(self.buffer.chunks_exact_mut(self.slot_len)).map(|(meta, slot)| {
            let length = meta.length.min(slot.len());
            (meta, &mut slot[..length])
        })
    }
}

/// Appends one control message to `control` at `offset` and returns the next offset.
fn push_control<T: Copy>(
    control: &mut Control,
    offset: usize,
    level: libc::c_int,
    kind: libc::c_int,
    value: T,
) -> usize {
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
    let (space, length) = unsafe {
        (
            libc::CMSG_SPACE(size_of::<T>() as libc::c_uint) as usize,
            libc::CMSG_LEN(size_of::<T>() as libc::c_uint) as usize,
        )
    };
    assert!(offset + space <= size_of::<Control>(), "control messages outgrew their buffer");
    // SAFETY: `offset + space` lies within the buffer (asserted); the buffer is aligned for a cmsghdr (u64) and every
    // offset is a sum of CMSG_SPACE values, which keep that alignment. CMSG_DATA stays within `space`, and the value is
    // written unaligned since its alignment may be stricter than the data's.
    unsafe {
        let header = control.as_mut_ptr().cast::<u8>().add(offset).cast::<libc::cmsghdr>();
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = length as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
    }
    offset + space
}

fn write_control(control: &mut Control, datagram: &Datagram<'_>) -> usize {
    let mut used = 0;
    match datagram.from {
        Some(IpAddr::V4(from)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(from).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            used = push_control(control, used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(from)) => {
            let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 };
            used = push_control(control, used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
        None => {}
    }
    if datagram.tos != 0 {
        let tos = libc::c_int::from(datagram.tos);
        used = match datagram.to {
            SocketAddr::V4(_) => push_control(control, used, libc::IPPROTO_IP, libc::IP_TOS, tos),
            SocketAddr::V6(_) => push_control(control, used, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, tos),
        };
    }
    if let Some(segment) = datagram.segment {
        used = push_control(control, used, libc::SOL_UDP, libc::UDP_SEGMENT, segment.get());
    }
    used
}

fn read_control(header: &libc::msghdr, meta: &mut Meta) {
    // SAFETY: the kernel has filled `msg_control` up to `msg_controllen`, both of which stand in `header` unchanged and
    // still point into the caller's frame.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !control.is_null() {
        // SAFETY: FIRSTHDR and NXTHDR give only headers that lie within the buffer.
        let (level, kind, data) = unsafe { ((*control).cmsg_level, (*control).cmsg_type, libc::CMSG_DATA(control)) };
        // SAFETY, for each arm: the kernel writes a value of exactly this type for this level and kind; read unaligned.
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let size = unsafe { data.cast::<libc::c_int>().read_unaligned() };
                meta.segment = u16::try_from(size).ok().and_then(NonZeroU16::new);
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                meta.to = Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))));
                meta.ifindex = u32::try_from(info.ipi_ifindex).ok();
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                meta.to = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                meta.ifindex = Some(info.ipi6_ifindex);
            }
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                let ttl = unsafe { data.cast::<libc::c_int>().read_unaligned() };
                meta.ttl = u8::try_from(ttl).ok();
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => meta.tos = Some(unsafe { data.read() }), // one octet, as ip(7) has it
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                let class = unsafe { data.cast::<libc::c_int>().read_unaligned() };
                meta.tos = u8::try_from(class).ok();
            }
            _ => {}
        }
        // SAFETY: `control` came from the same header, which is unchanged.
        control = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
}

/// A socket address in the kernel's form. `sockaddr_in6` is the longer of the two that occur.
#[derive(Clone, Copy)]
pub(crate) struct SockAddr {
    storage: libc::sockaddr_in6,
    length: libc::socklen_t,
}

impl SockAddr {
    const EMPTY: Self = Self {
        storage: libc::sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
        length: 0,
    };

    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut name = Self::EMPTY;
        match address {
            SocketAddr::V4(v4) => {
                let short = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                // SAFETY: sockaddr_in is 16 octets at alignment 4 and fits the start of the 28 octets of the same alignment.
                unsafe { (&raw mut name.storage).cast::<libc::sockaddr_in>().write(short) };
                name.length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                name.storage.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                name.storage.sin6_port = v6.port().to_be();
                name.storage.sin6_flowinfo = v6.flowinfo();
                name.storage.sin6_addr.s6_addr = v6.ip().octets();
                name.storage.sin6_scope_id = v6.scope_id();
                name.length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        name
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        let length = (self.length as usize).min(size_of_val(&self.storage));
        // SAFETY: the storage is initialised throughout (28 octets without padding) and `length` is within it.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast::<u8>(), length) }
    }

    fn get(&self) -> Option<SocketAddr> {
        let family = libc::c_int::from(self.storage.sin6_family); // at the same place in both structures
        let length = self.length as usize;
        if family == libc::AF_INET && length >= size_of::<libc::sockaddr_in>() {
            // SAFETY: as in `new`: the shorter structure fits in place, and every bit pattern of it is valid.
            let v4 = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in>().read() };
            return Some(SocketAddrV4::new(u32::from_be(v4.sin_addr.s_addr).into(), u16::from_be(v4.sin_port)).into());
        }
        (family == libc::AF_INET6 && length >= size_of::<libc::sockaddr_in6>()).then(|| {
            let v6 = &self.storage;
            let port = u16::from_be(v6.sin6_port);
            SocketAddrV6::new(v6.sin6_addr.s6_addr.into(), port, v6.sin6_flowinfo, v6.sin6_scope_id).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::{netns::NetNs, sockopt, sockopt::IpFamily};

    fn with_loopback<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        NetNs::new().unwrap().run(|| {
            assert!(std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            work()
        })
    }

    fn plain(to: SocketAddr, payload: &[u8]) -> Datagram<'_> {
        Datagram { to, from: None, payload, segment: None, tos: 0 }
    }

    #[test]
    fn socket_addresses_survive_the_kernels_form() {
        for text in ["192.0.2.1:4500", "[2001:db8::1]:500", "[fe80::1%7]:4500"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(SockAddr::new(address).get(), Some(address));
        }
        assert_eq!(SockAddr::EMPTY.get(), None);
    }

    #[test]
    fn a_batch_arrives_in_order_with_its_facts() {
        with_loopback(|| {
            for (bind, family) in [("127.0.0.1:0", IpFamily::V4), ("[::1]:0", IpFamily::V6)] {
                let receiver = UdpSocket::bind(bind).unwrap();
                sockopt::set_receive_packet_info(&receiver, family).unwrap();
                sockopt::set_receive_ttl(&receiver, family).unwrap();
                sockopt::set_receive_tos(&receiver, family).unwrap();
                let sender = UdpSocket::bind(bind).unwrap();
                let to = receiver.local_addr().unwrap();
                let payloads: Vec<[u8; 3]> = (0..70).map(|n| [n, 0, n]).collect();
                let datagrams: Vec<_> = payloads.iter().map(|bytes| plain(to, bytes)).collect();
                assert_eq!(send(&sender, &datagrams).unwrap(), MAX_BATCH);
                assert_eq!(send(&sender, &datagrams[MAX_BATCH..]).unwrap(), 70 - MAX_BATCH);
                let mut batch = RecvBatch::new(MAX_BATCH, 64);
                let mut seen = Vec::new();
                while batch.receive(&receiver).is_ok() {
                    for (meta, bytes) in batch.iter_mut() {
                        assert_eq!((meta.from, meta.to), (sender.local_addr().unwrap(), Some(to.ip())));
                        assert_eq!((meta.ifindex, meta.ttl, meta.tos), (Some(1), Some(64), Some(0)));
                        assert!(!meta.truncated && meta.segment.is_none());
                        seen.push(bytes.to_vec());
                    }
                }
                assert_eq!(seen, payloads);
            }
        });
    }

    #[test]
    fn a_long_datagram_is_marked_truncated() {
        with_loopback(|| {
            let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            send(&sender, &[plain(receiver.local_addr().unwrap(), &[7; 100])]).unwrap();
            let mut batch = RecvBatch::new(4, 32);
            assert_eq!(batch.receive(&receiver).unwrap(), 1);
            let (meta, bytes) = batch.iter_mut().next().unwrap();
            assert!(meta.truncated);
            assert_eq!(bytes, [7; 32]);
        });
    }

    #[test]
    fn nothing_waiting_is_would_block() {
        with_loopback(|| {
            let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
            let error = RecvBatch::new(4, 32).receive(&receiver).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        });
    }

    #[test]
    fn segments_are_cut_by_the_kernel_and_merged_again() {
        with_loopback(|| {
            let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
            sockopt::set_udp_gro(&receiver, true).unwrap();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let payload: Vec<u8> = (0..=255u8).cycle().take(1000 * 10 + 17).collect();
            let datagram = Datagram {
                to: receiver.local_addr().unwrap(),
                from: Some(Ipv4Addr::LOCALHOST.into()),
                payload: &payload,
                segment: NonZeroU16::new(1000),
                tos: 0,
            };
            assert_eq!(send(&sender, &[datagram]).unwrap(), 1);
            let mut batch = RecvBatch::new(16, 65536);
            batch.receive(&receiver).unwrap();
            let mut whole = Vec::new();
            for (meta, bytes) in batch.iter_mut() {
                if bytes.len() > 1000 {
                    assert_eq!(meta.segment, NonZeroU16::new(1000));
                }
                whole.extend_from_slice(bytes);
            }
            assert_eq!(whole, payload);
        });
    }

    #[test]
    fn each_datagram_has_its_own_tos() {
        with_loopback(|| {
            for (bind, family) in [("127.0.0.1:0", IpFamily::V4), ("[::1]:0", IpFamily::V6)] {
                let receiver = UdpSocket::bind(bind).unwrap();
                sockopt::set_receive_tos(&receiver, family).unwrap();
                let sender = UdpSocket::bind(bind).unwrap();
                let to = receiver.local_addr().unwrap();
                let datagrams = [0, 2, 0xb9].map(|tos| Datagram { tos, ..plain(to, b"x") });
                assert_eq!(send(&sender, &datagrams).unwrap(), 3);
                let mut batch = RecvBatch::new(4, 16);
                batch.receive(&receiver).unwrap();
                let seen: Vec<_> = batch.iter_mut().map(|(meta, _)| meta.tos).collect();
                assert_eq!(seen, [Some(0), Some(2), Some(0xb9)]);
            }
        });
    }

    #[test]
    fn the_source_address_can_be_chosen() {
        with_loopback(|| {
            let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
            let sender = UdpSocket::bind("0.0.0.0:0").unwrap();
            let to = receiver.local_addr().unwrap();
            let from = "127.0.0.9".parse().ok();
            send(&sender, &[Datagram { to, from, payload: b"x", segment: None, tos: 0 }]).unwrap();
            let mut batch = RecvBatch::new(1, 16);
            batch.receive(&receiver).unwrap();
            assert_eq!(batch.iter_mut().next().map(|(meta, _)| meta.from.ip()), from);
        });
    }
}
