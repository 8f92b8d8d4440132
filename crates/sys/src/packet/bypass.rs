//! Datagrams past the routing of this host.

use std::{
    io,
    mem::size_of_val,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use super::{bind, deaf, link_address, name, send_to};
use crate::sockopt::IpFamily;

/// Whole IP packets to and from one link, past the routing of this host: so a packet for an address of our own leaves, and
/// one that comes back with it as its source is received, which the host takes for forged. What it receives is UDP for one
/// port; the host's own sockets get it, too.
#[derive(Debug)]
pub struct UdpBypass {
    socket: OwnedFd,
    ifindex: libc::c_int,
    ethertype: u16,
}

impl UdpBypass {
    /// One for the link of this number. `None` where the link has hardware addresses, of which this knows nothing: it is for
    /// tunnels.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW, `ENODEV` when there is no such link, `ENETDOWN` while it is down.
    pub fn open(ifindex: u32, family: IpFamily, port: u16) -> io::Result<Option<Self>> {
        let ifindex = libc::c_int::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
        let (ethertype, mut filter) = match family {
            IpFamily::V4 => (libc::ETH_P_IP as u16, udp_over_ipv4(port).to_vec()),
            IpFamily::V6 => (libc::ETH_P_IPV6 as u16, udp_over_ipv6(port).to_vec()),
        };
        let socket = deaf()?;
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: the pointer and length describe a live program, which the kernel copies and checks.
        crate::check(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of_val(&program) as libc::socklen_t,
            )
        })?;
        bind(&socket, &link_address(ifindex, ethertype))?;
        let bare = name(&socket)?.sll_halen == 0;
        Ok(bare.then_some(Self { socket, ifindex, ethertype }))
    }

    /// Sends a packet, which begins with its IP header.
    ///
    /// # Errors
    /// `ENETDOWN` while the link is down, `EMSGSIZE` when its MTU is less.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        send_to(&self.socket, packet, &link_address(self.ifindex, self.ethertype))
    }

    /// The octets of the next packet, which begins with its IP header; `None` when there is none now. What does not fit into
    /// `buffer` is cut off.
    ///
    /// # Errors
    /// As the kernel reports them; `ENETDOWN` once after the link went down.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::net::recv(&self.socket, buffer, rustix::net::RecvFlags::DONTWAIT) {
            Ok((length, _)) => Ok(Some(length)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for UdpBypass {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Instructions of the classic packet filter, from the IP header on. Jumps name how many instructions they skip.
mod filter {
    use libc::{
        BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET,
        sock_filter,
    };

    const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
        sock_filter { code: code as u16, jt, jf, k }
    }

    pub(super) const fn octet(at: u32) -> sock_filter {
        instruction(BPF_LD | BPF_B | BPF_ABS, 0, 0, at)
    }

    pub(super) const fn word(at: u32) -> sock_filter {
        instruction(BPF_LD | BPF_H | BPF_ABS, 0, 0, at)
    }

    /// A word behind the header whose length [`header_length`] found.
    pub(super) const fn word_behind(at: u32) -> sock_filter {
        instruction(BPF_LD | BPF_H | BPF_IND, 0, 0, at)
    }

    pub(super) const fn header_length() -> sock_filter {
        instruction(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0)
    }

    pub(super) const fn unless_equal(to: u32, skip: u8) -> sock_filter {
        instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, skip, to)
    }

    pub(super) const fn if_any(bits: u32, skip: u8) -> sock_filter {
        instruction(BPF_JMP | BPF_JSET | BPF_K, skip, 0, bits)
    }

    pub(super) const TAKE: sock_filter = instruction(BPF_RET | BPF_K, 0, 0, 0xffff);
    pub(super) const LEAVE: sock_filter = instruction(BPF_RET | BPF_K, 0, 0, 0);
}

const UDP: u32 = libc::IPPROTO_UDP as u32;

fn udp_over_ipv4(port: u16) -> [libc::sock_filter; 9] {
    use filter::{LEAVE, TAKE, header_length, if_any, octet, unless_equal, word, word_behind};
    [
        octet(9),
        unless_equal(UDP, 6),
        word(6),
        if_any(0x1fff, 4), // no first fragment: its ports are elsewhere
        header_length(),
        word_behind(2),
        unless_equal(port.into(), 1),
        TAKE,
        LEAVE,
    ]
}

fn udp_over_ipv6(port: u16) -> [libc::sock_filter; 6] {
    use filter::{LEAVE, TAKE, octet, unless_equal, word};
    [octet(6), unless_equal(UDP, 3), word(42), unless_equal(port.into(), 1), TAKE, LEAVE]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        netns::NetNs,
        tun::{Tun, TunOptions},
    };

    fn ip(arguments: &str) {
        let done = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(done.success(), "ip {arguments}");
    }

    fn packet(protocol: u8, fragment: u8, port: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 30, 0, 0, 0, fragment, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 1];
        packet.extend([0xc0, 0]);
        packet.extend(port.to_be_bytes());
        packet.extend([0, 10, 0, 0, b'h', b'i']);
        packet
    }

    #[test]
    fn datagrams_for_ourselves_leave_by_a_tunnel_and_are_received_from_it() {
        NetNs::new().unwrap().run(|| {
            let tun = Tun::open(&"t0".parse().unwrap(), TunOptions::default()).unwrap();
            ip("addr add 192.0.2.1/24 dev t0");
            ip("link set t0 up");
            let any = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            let index = |name: &str| rustix::net::netdevice::name_to_index(&any, name).unwrap();
            let bypass =
                UdpBypass::open(index("t0"), IpFamily::V4, 3785).unwrap().expect("a tunnel has no hardware address");
            let mut buffer = [0; 64];
            for stranger in [packet(17, 0, 3784), packet(6, 0, 3785), packet(17, 1, 3785)] {
                tun.write(&stranger).unwrap();
                assert_eq!(bypass.receive(&mut buffer).unwrap(), None, "{stranger:?}");
            }
            let ours = packet(17, 0, 3785);
            tun.write(&ours).unwrap();
            assert_eq!(bypass.receive(&mut buffer).unwrap(), Some(ours.len()));
            assert!(buffer.starts_with(&ours));
            bypass.send(&ours).unwrap();
            let left = std::iter::from_fn(|| tun.read(&mut buffer).ok().map(|length| buffer[..length].to_vec()));
            assert!(left.collect::<Vec<_>>().contains(&ours), "it went to the tunnel, not to ourselves");
            ip("link add va type veth peer name vb");
            ip("link set va up");
            assert!(UdpBypass::open(index("va"), IpFamily::V4, 3785).unwrap().is_none());
        });
    }
}
