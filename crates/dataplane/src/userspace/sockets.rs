//! The sockets of a WAN link: ports 500 and 4500 in both families, and raw ones for ESP without UDP.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use net_types::{IfName, WanName};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, ipproto,
    sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery},
};
use sys::sockopt::{self, IpFamily};

use crate::{DataplaneError, Path, WanSpec, keeper::Held};

/// RFC 7296 §2: IKE without encapsulation.
pub(super) const IKE_PORT: u16 = 500;
/// RFC 3948 §2: ESP, and IKE behind a marker of four zero octets.
pub(super) const NATT_PORT: u16 = 4500;
/// Stands for protocol 50 itself, which has no ports.
pub(super) const PLAIN: u16 = 0;
/// Octets of socket buffer either way: some milliseconds at several Gbit/s.
const SOCKET_BUFFER: usize = 8 << 20;

/// Sockets bound to one interface and marked for its routing table, so that nothing sent by them follows another route.
pub(super) struct Sockets {
    wan: WanName,
    natt_v4: UdpSocket,
    ike_v4: UdpSocket,
    /// `None` where the kernel has no IPv6.
    natt_v6: Option<UdpSocket>,
    ike_v6: Option<UdpSocket>,
    /// Raw ones for ESP without UDP; `None` where the kernel has none, or does not let us.
    plain_v4: Option<UdpSocket>,
    plain_v6: Option<UdpSocket>,
    segmentation: AtomicBool,
    /// Held alone while one of the ESP sockets lets its packets be fragmented: the kernel has that of a socket, not of a packet.
    fragmenting: RwLock<()>,
    interface: IfName,
    mark: u32,
}

impl Sockets {
    pub(super) fn open(spec: &WanSpec) -> Result<Self, DataplaneError> {
        let open = |family, port| {
            socket(spec, family, port).map_err(|error| DataplaneError::Wan {
                wan: spec.name.clone(),
                what: format!("opening UDP port {port} on {}", spec.interface),
                error,
            })
        };
        let optional = |port| match open(IpFamily::V6, port) {
            Ok(socket) => Ok(Some(socket)),
            Err(DataplaneError::Wan { error, .. })
                if matches!(
                    error.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
                    Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        };
        Ok(Self {
            wan: spec.name.clone(),
            natt_v4: open(IpFamily::V4, NATT_PORT)?,
            ike_v4: open(IpFamily::V4, IKE_PORT)?,
            natt_v6: optional(NATT_PORT)?,
            ike_v6: optional(IKE_PORT)?,
            plain_v4: if spec.kernel_esp { None } else { plain(spec, IpFamily::V4) },
            plain_v6: if spec.kernel_esp { None } else { plain(spec, IpFamily::V6) },
            segmentation: AtomicBool::new(true),
            fragmenting: RwLock::default(),
            interface: spec.interface.clone(),
            mark: spec.mark,
        })
    }

    pub(super) fn for_esp(&self, local: SocketAddr) -> Option<BorrowedFd<'_>> {
        if local.is_ipv4() { Some(self.natt_v4.as_fd()) } else { self.natt_v6.as_ref().map(AsFd::as_fd) }
    }

    pub(super) fn for_plain(&self, local: SocketAddr) -> Option<BorrowedFd<'_>> {
        let socket = if local.is_ipv4() { &self.plain_v4 } else { &self.plain_v6 };
        socket.as_ref().map(AsFd::as_fd)
    }

    /// The sockets that the kernel takes ESP from.
    pub(super) fn encapsulated(&self) -> impl Iterator<Item = (Held, &UdpSocket)> {
        let v6 = self.natt_v6.as_ref().map(|socket| (IpFamily::V6, socket));
        std::iter::once((IpFamily::V4, &self.natt_v4))
            .chain(v6)
            .map(|(family, socket)| (Held::port(&self.wan, family), socket))
    }

    pub(super) fn for_ike(&self, local: SocketAddr) -> Option<BorrowedFd<'_>> {
        if local.is_ipv4() { Some(self.ike_v4.as_fd()) } else { self.ike_v6.as_ref().map(AsFd::as_fd) }
    }

    /// Runs `send`, which sends on `socket`, one of those for ESP and of the family of `to`. Its packets may be fragmented on
    /// the way if `fragments` says so; otherwise they have DF set, and what is larger than the path is known to take is refused.
    pub(super) fn sending<T>(
        &self,
        socket: BorrowedFd<'_>,
        to: SocketAddr,
        fragments: bool,
        send: impl FnOnce() -> T,
    ) -> T {
        if !fragments {
            let _shared = self.fragmenting.read().unwrap_or_else(PoisonError::into_inner);
            return send();
        }
        let _alone = self.fragmenting.write().unwrap_or_else(PoisonError::into_inner);
        // Neither fails on a socket of that family; if one did, packets would be larger or smaller than they might be.
        let _set = set_whole(socket, family(to), false);
        let sent = send();
        let _set = set_whole(socket, family(to), true);
        sent
    }

    /// The largest outer packet that the kernel believes the path to take. It judges the ICMP messages that say so by the
    /// sockets that they quote.
    pub(super) fn path_mtu(&self, path: &Path) -> io::Result<u32> {
        let (domain, family) = match path.remote {
            SocketAddr::V4(_) => (AddressFamily::INET, IpFamily::V4),
            SocketAddr::V6(_) => (AddressFamily::INET6, IpFamily::V6),
        };
        let probe = rustix::net::socket_with(domain, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(ipproto::UDP))?;
        sockopt::bind_to_device(&probe, &self.interface)?;
        sockopt::set_mark(&probe, self.mark)?;
        rustix::net::bind(&probe, &SocketAddr::new(path.local.ip(), 0))?;
        rustix::net::connect(&probe, &path.remote)?; // sends nothing
        sockopt::path_mtu(&probe, family)
    }

    pub(super) fn segmentation(&self) -> bool {
        self.segmentation.load(Ordering::Relaxed)
    }

    pub(super) fn give_up_segmentation(&self) {
        self.segmentation.store(false, Ordering::Relaxed);
    }

    /// Every socket with its port.
    pub(super) fn all(&self) -> impl Iterator<Item = (&UdpSocket, u16)> {
        let v6 =
            [(&self.natt_v6, NATT_PORT), (&self.ike_v6, IKE_PORT), (&self.plain_v4, PLAIN), (&self.plain_v6, PLAIN)];
        let v6 = v6.into_iter().filter_map(|(socket, port)| Some((socket.as_ref()?, port)));
        [(&self.natt_v4, NATT_PORT), (&self.ike_v4, IKE_PORT)].into_iter().chain(v6)
    }
}

const fn family(address: SocketAddr) -> IpFamily {
    if address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 }
}

/// Whether packets leave unfragmented and with DF set. The default, `IP_PMTUDISC_WANT`, sets DF on single packets alone: a
/// train of UDP_SEGMENT as a whole is larger than any path, so that its packets would be fragmented and the path never say
/// what it takes.
fn set_whole(socket: impl AsFd, family: IpFamily, whole: bool) -> io::Result<()> {
    match family {
        IpFamily::V4 => {
            let way = if whole { Ipv4PathMtuDiscovery::DO } else { Ipv4PathMtuDiscovery::DONT };
            sockopt::set_ip_mtu_discover(&socket, way)?;
        }
        IpFamily::V6 => {
            let way = if whole { Ipv6PathMtuDiscovery::DO } else { Ipv6PathMtuDiscovery::DONT };
            sockopt::set_ipv6_mtu_discover(&socket, way)?;
        }
    }
    Ok(())
}

/// A socket for protocol 50. Most tunnels do without, so that a refusal is no error; associations that need it then drop.
fn plain(spec: &WanSpec, family: IpFamily) -> Option<UdpSocket> {
    let opened = socket(spec, family, PLAIN);
    opened.inspect_err(|error| tracing::debug!(wan = %spec.name, ?family, %error, "no ESP without UDP")).ok()
}

fn socket(spec: &WanSpec, family: IpFamily, port: u16) -> io::Result<UdpSocket> {
    let (domain, any): (_, IpAddr) = match family {
        IpFamily::V4 => (AddressFamily::INET, Ipv4Addr::UNSPECIFIED.into()),
        IpFamily::V6 => (AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (kind, protocol) =
        if port == PLAIN { (SocketType::RAW, ipproto::ESP) } else { (SocketType::DGRAM, ipproto::UDP) };
    let socket = rustix::net::socket_with(domain, kind, flags, Some(protocol))?;
    if family == IpFamily::V6 && port != PLAIN {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // Device and mark come before the port: the socket never exists unbound on a port that the world can reach.
    sockopt::bind_to_device(&socket, &spec.interface)?;
    sockopt::set_mark(&socket, spec.mark)?;
    sockopt::set_receive_packet_info(&socket, family)?;
    sockopt::set_receive_tos(&socket, family)?;
    if port != IKE_PORT {
        set_whole(&socket, family, true)?;
    }
    let _unforced = sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER)); // smaller buffers work, too
    let _unforced = sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER)
        .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER));
    if port == NATT_PORT && spec.kernel_esp {
        // Before the port, too: no packet of the kernel's comes here. Another process holds a socket of the same port open
        // while there is no ipsecd; merged datagrams would not be opened.
        sockopt::set_socket_reuseport(&socket, true)?;
        sockopt::set_udp_encapsulation(&socket, true)?;
    } else if port == NATT_PORT {
        let _without = sockopt::set_udp_gro(&socket, true); // Linux 5.0; one receive a packet without it
    }
    if port != PLAIN {
        rustix::net::bind(&socket, &SocketAddr::new(any, port))?;
    }
    Ok(socket.into())
}
