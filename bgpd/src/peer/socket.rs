//! TCP as BGP wants it: where connections come from, how far they reach, and how soon they are given up.

use std::{io, net::SocketAddr, os::fd::AsFd, time::Duration};

use net_types::IfName;
use rustix::net::netdevice::name_to_index;
use sys::sockopt::{self, IpFamily};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{Ao, AoKey, PeerHost, PeerSpec, Source};

/// Internetwork control, CS6 (RFC 4271 leaves it open; RFC 4594 §3.1 names routing protocols).
const TRAFFIC_CLASS: u8 = 0xc0;
/// The least time after which the kernel gives up on segments that are not acknowledged.
const LEAST_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a neighbor may take to answer a key of TCP-AO before the next one is tried: its kernel drops what is signed
/// with a key that it does not have.
const KEY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a connection to the neighbor, with each of its keys in turn: the preferred one first, or as many behind it as
/// `attempt` says. Dropping the future gives it up.
pub(super) async fn dial<H: PeerHost>(spec: &PeerSpec, host: &H, attempt: usize) -> io::Result<TcpStream> {
    let Some(ao) = &spec.transport.ao else { return dial_with(spec, host, None).await };
    let count = ao.by_preference().count();
    for (nth, key) in ao.by_preference().cycle().skip(attempt % count.max(1)).take(count).enumerate() {
        let dialed = dial_with(spec, host, Some((ao, key)));
        if nth + 1 == count {
            return dialed.await;
        }
        match timeout(KEY_TIMEOUT, dialed).await {
            Ok(result) => return result,
            Err(_) => tracing::debug!(neighbor = %spec.address, key = key.number, "no answer to a key of TCP-AO"),
        }
    }
    Err(io::ErrorKind::InvalidInput.into()) // a chain without keys is refused before
}

async fn dial_with<H: PeerHost>(spec: &PeerSpec, host: &H, ao: Option<(&Ao, &AoKey)>) -> io::Result<TcpStream> {
    let family = IpFamily::of(spec.address);
    let socket = match family {
        IpFamily::V4 => TcpSocket::new_v4()?,
        IpFamily::V6 => TcpSocket::new_v6()?,
    };
    let scope = match &spec.transport.interface {
        Some(interface) => {
            let index = name_to_index(&socket, interface.as_str()).map_err(|error| no_interface(interface, error))?;
            sockopt::bind_to_device(&socket, interface)?;
            index
        }
        None => 0,
    };
    prepare(&socket, spec)?;
    if let Some(password) = &spec.transport.password {
        sockopt::set_tcp_md5(&socket, SocketAddr::new(spec.address, 0), password)?;
    }
    if let Some((ao, key)) = ao {
        ao.arm(&socket, spec.address, key)?;
    }
    match &spec.transport.source {
        None => {}
        Some(Source::Address(address)) => socket.bind(SocketAddr::new(*address, 0))?,
        Some(Source::Interface(interface)) => {
            let address = host.source(interface, spec.address).ok_or_else(|| {
                let text = format!("update-source {interface} has no address that reaches {}", spec.address);
                io::Error::new(io::ErrorKind::AddrNotAvailable, text)
            })?;
            socket.bind(SocketAddr::new(address, 0))?;
        }
    }
    socket.connect(spec.socket_address(scope)).await
}

fn no_interface(interface: &IfName, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("interface {interface}: {error}"))
}

/// What both directions need, before the first segment where that is possible.
pub(crate) fn prepare(socket: impl AsFd, spec: &PeerSpec) -> io::Result<()> {
    let socket = socket.as_fd();
    let (family, hops) = (IpFamily::of(spec.address), spec.transport.hops);
    // A tunnel whose interface is not there yet, or not any more, must not have its neighbor looked for by the default route.
    if let Some(tunnel) = &spec.transport.tunnel
        && spec.transport.interface.is_none()
    {
        sockopt::bind_to_device(socket, tunnel).map_err(|error| no_interface(tunnel, error))?;
    }
    match family {
        IpFamily::V4 => {
            sockopt::set_ip_ttl(socket, hops.ttl().into())?;
            sockopt::set_ip_tos(socket, TRAFFIC_CLASS)?;
        }
        IpFamily::V6 => {
            sockopt::set_ipv6_unicast_hops(socket, Some(hops.ttl()))?;
            sockopt::set_ipv6_tclass(socket, TRAFFIC_CLASS.into())?;
        }
    }
    if let Some(minimum) = hops.minimum_ttl() {
        sockopt::set_minimum_ttl(socket, family, minimum)?;
    }
    sockopt::set_tcp_nodelay(socket, true)?;
    if let Some(octets) = spec.transport.max_segment_octets {
        sockopt::set_tcp_max_segment(socket, octets)?;
    }
    // Retransmitting for much longer than the hold time helps nobody: the neighbor has given up by then. Not sooner,
    // since Linux counts the time that a neighbor's window stays shut, and slowness is for RFC 9687 to judge.
    if !spec.session.hold_time.is_zero() {
        let timeout = (spec.session.hold_time * 2).max(LEAST_USER_TIMEOUT).as_millis();
        sockopt::set_tcp_user_timeout(socket, u32::try_from(timeout).unwrap_or(u32::MAX))?;
    }
    Ok(())
}

/// Whether a connection that came in over `scope` (0 for addresses without one) comes over the neighbor's link.
pub(super) fn is_on_link(socket: impl AsFd, spec: &PeerSpec, remote: SocketAddr) -> bool {
    match (&spec.transport.interface, remote) {
        (Some(interface), SocketAddr::V6(remote)) if remote.ip().is_unicast_link_local() => {
            name_to_index(socket, interface.as_str()).is_ok_and(|index| index == remote.scope_id())
        }
        _ => true,
    }
}
