//! What a packet path offers, whatever it is made of.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use esp::{Cipher, Keymat, Selectors};
use net_types::{IfName, Spi, TunnelName, WanName};

/// A packet path. Every method may be called from any thread and returns without waiting for packets.
pub trait Dataplane: Send + Sync {
    /// Opens the sockets of a WAN link; an open one of that name is replaced, which is also how a link that was deleted and
    /// made again is taken up.
    ///
    /// # Errors
    /// When the interface does not exist, a port is taken or a privilege is missing.
    fn add_wan(&self, wan: WanSpec) -> Result<(), DataplaneError>;

    /// Closes the sockets of a WAN link. Associations that send by it drop from then on.
    fn remove_wan(&self, wan: &WanName);

    /// Creates the tunnel's interface, or takes up one that exists. It carries nothing until it has associations.
    ///
    /// # Errors
    /// When the device cannot be opened.
    fn add_tunnel(&self, tunnel: TunnelSpec) -> Result<(), DataplaneError>;

    /// Removes a tunnel with its associations and, unless `keep_device`, its interface.
    fn remove_tunnel(&self, tunnel: &TunnelName, keep_device: bool);

    /// Changes the largest inner packet, which also clamps the MSS of TCP inside.
    fn set_mtu(&self, tunnel: &TunnelName, mtu: u16);

    /// Begins to accept an association, beside those that the tunnel has.
    ///
    /// # Errors
    /// When the tunnel is unknown or the SPI is taken.
    fn add_inbound(&self, tunnel: &TunnelName, sa: NewInbound) -> Result<(), DataplaneError>;

    /// Switches the tunnel to a new outbound association, at once and between two packets. Earlier ones are kept until
    /// removed, and taken up again should this one be removed first.
    ///
    /// # Errors
    /// When the tunnel or the WAN link is unknown.
    fn add_outbound(&self, tunnel: &TunnelName, sa: NewOutbound) -> Result<(), DataplaneError>;

    /// Switches the tunnel back to an outbound association that it still has, at once and between two packets.
    ///
    /// # Errors
    /// When the tunnel is unknown or has no such association.
    fn use_outbound(&self, tunnel: &TunnelName, spi: Spi) -> Result<(), DataplaneError>;

    /// Stops accepting an association.
    fn remove_inbound(&self, spi: Spi);

    /// Stops using an association; with none left the tunnel drops.
    fn remove_outbound(&self, tunnel: &TunnelName, spi: Spi);

    /// Sends a tunnel's associations along another path, for a peer that has moved.
    ///
    /// # Errors
    /// When the tunnel or the WAN link is unknown.
    fn set_path(&self, tunnel: &TunnelName, path: Path) -> Result<(), DataplaneError>;

    /// Sends an IKE message by a WAN link; from port 4500 the non-ESP marker is put in front (RFC 3948 §2.2).
    ///
    /// # Errors
    /// As the socket reports them, and when the link is unknown.
    fn send_ike(
        &self,
        wan: &WanName,
        local: SocketAddr,
        remote: SocketAddr,
        message: &[u8],
    ) -> Result<(), DataplaneError>;

    /// Hands every tunnel's device to the keeper again, after one has ended that should not have. A path whose devices do
    /// not hang on a process has nothing to do.
    ///
    /// # Errors
    /// When none can be reached or started.
    fn keep_devices(&self) -> Result<(), DataplaneError> {
        Ok(())
    }

    /// Sends the one octet that keeps a NAT's mapping (RFC 3948 §2.3).
    ///
    /// # Errors
    /// As the socket reports them, and when the link is unknown.
    fn send_keepalive(&self, path: &Path) -> Result<(), DataplaneError>;

    /// All counters.
    fn stats(&self) -> Stats;
}

/// What could not be done, to which object.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// A WAN link's sockets could not be opened or used.
    #[error("wan {wan}: {what}: {error}")]
    Wan {
        /// The link.
        wan: WanName,
        /// What was tried.
        what: String,
        /// What came of it.
        error: io::Error,
    },
    /// There is no such WAN link.
    #[error("wan {0} is not open; check that its interface exists")]
    UnknownWan(WanName),
    /// The tunnel has no outbound association with this SPI.
    #[error("tunnel {tunnel} sends with no association {spi}")]
    UnknownOutbound {
        /// The tunnel.
        tunnel: TunnelName,
        /// The SPI asked for.
        spi: Spi,
    },
    /// A tunnel's device could not be opened or used.
    #[error("tunnel {tunnel}: {what}: {error}")]
    Tunnel {
        /// The tunnel.
        tunnel: TunnelName,
        /// What was tried.
        what: String,
        /// What came of it.
        error: io::Error,
    },
    /// There is no such tunnel.
    #[error("tunnel {0} does not exist")]
    UnknownTunnel(TunnelName),
    /// An inbound association of that SPI exists.
    #[error("SPI {0} is in use")]
    SpiTaken(Spi),
}

/// A WAN link to open.
#[derive(Clone, Debug)]
pub struct WanSpec {
    /// Its name.
    pub name: WanName,
    /// The interface that its packets leave and arrive by, and no other.
    pub interface: IfName,
    /// The mark that leads its packets to its routing table.
    pub mark: u32,
    /// Whether ESP in UDP is left to the kernel's associations. All tunnels of a link have it one way.
    pub kernel_esp: bool,
}

/// A tunnel interface to open.
#[derive(Clone, Debug)]
pub struct TunnelSpec {
    /// Its name, which is the interface's.
    pub name: TunnelName,
    /// The largest inner packet.
    pub mtu: u16,
    /// What it does with packets beyond sealing and opening.
    pub policy: PacketPolicy,
    /// Who seals and opens its packets.
    pub datapath: Datapath,
}

/// Choices about a tunnel's packets. What changes holds for packets at once, but for the window, which an association keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketPolicy {
    /// What the outer header says of the packet's class.
    pub dscp: Dscp,
    /// Whether outer packets may be fragmented.
    pub df: Df,
    /// How many packets behind the newest one may come, 32 to 16,320.
    pub replay_window: u16,
}

/// DSCP of outer packets (RFC 4301 §5.1.2, RFC 2983 §3). That of inner ones is left as it is, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dscp {
    /// As inside.
    Copy,
    /// Always this, 0 to 63.
    Set(u8),
}

/// DF of outer IPv4 packets (RFC 4301 §5.1.2, §8.1). With IPv6 outside, which only senders fragment, it says whether we do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Df {
    /// As inside, where IPv6 counts as set.
    Copy,
    /// Always set.
    Set,
    /// Never set.
    Clear,
}

impl Df {
    /// Whether the packet around `inner` may be fragmented.
    pub(crate) fn may_fragment(self, inner: &[u8]) -> bool {
        const DF: u8 = 0x40;
        match self {
            Self::Copy => matches!(inner, [first, _, _, _, _, _, flags, ..] if first >> 4 == 4 && flags & DF == 0),
            Self::Set => false,
            Self::Clear => true,
        }
    }
}

impl Default for PacketPolicy {
    /// As inside; the widest window.
    fn default() -> Self {
        let widest = esp::ReplayWindow::SIZE;
        Self { dscp: Dscp::Copy, df: Df::Copy, replay_window: u16::try_from(widest).unwrap_or(u16::MAX) }
    }
}

/// Who seals and opens packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// This process.
    Userspace,
    /// The kernel (XFRM).
    Kernel {
        /// What the tunnel's interface is.
        interface: KernelInterface,
        /// The network card that may seal and open.
        offload: Option<u32>,
    },
}

/// What the interface of a tunnel of the kernel's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelInterface {
    /// An xfrm interface: packets are sealed whole, in tunnel mode.
    Xfrm {
        /// The device that outer packets leave by whatever their routes say, for a link whose table may come to nothing.
        pin: Option<u32>,
    },
    /// A GRE interface: packets go in GRE, and that is sealed behind the outer header, in transport mode.
    Gre(Gre),
}

/// A GRE interface. Its outer address and its link are those of the association in use, and these where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gre {
    /// The peer's outer address.
    pub remote: IpAddr,
    /// In each packet, both ways (RFC 2890).
    pub key: Option<u32>,
    /// Our outer address, where the link has one of that family.
    pub local: Option<IpAddr>,
    /// The device that outer packets leave by whatever their routes say, for a link whose table may come to nothing.
    pub link: Option<u32>,
    /// The mark of the link.
    pub mark: u32,
}

impl Datapath {
    /// Whether a tunnel's interface can stay what it is when this comes in the place of `before`. The ends of a GRE interface
    /// can change.
    pub fn keeps_interface(self, before: Self) -> bool {
        let Self::Kernel { interface: KernelInterface::Gre(now), offload } = self else { return self == before };
        match before {
            Self::Kernel { interface: KernelInterface::Gre(gre), offload: card } => {
                offload == card && now.remote.is_ipv4() == gre.remote.is_ipv4()
            }
            _ => false,
        }
    }
}

/// The way that a tunnel's outer packets take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// By this link,
    pub wan: WanName,
    /// from this address
    pub local: SocketAddr,
    /// to this one.
    pub remote: SocketAddr,
}

/// When to ask for new keys and when to stop using the old ones. `None` is no limit of that kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Ask after so many octets of inner packets.
    pub soft_octets: Option<u64>,
    /// Stop after so many.
    pub hard_octets: Option<u64>,
    /// Ask after so many packets. Sequence numbers set a limit of their own, whatever stands here.
    pub soft_packets: Option<u64>,
    /// Stop after so many.
    pub hard_packets: Option<u64>,
}

/// An association to accept.
#[derive(Debug)]
pub struct NewInbound {
    /// The number that we gave it.
    pub spi: Spi,
    /// Cipher, key and salt.
    pub keymat: Keymat,
    /// Extended sequence numbers.
    pub esn: bool,
    /// What it may carry.
    pub selectors: Selectors,
    /// Where its packets are expected from; another authenticated source is reported.
    pub path: Path,
    /// ESP in UDP, or plain ESP (protocol 50).
    pub encapsulated: bool,
    /// Its lifetime in octets and packets.
    pub limits: Limits,
}

/// An association to send by.
#[derive(Debug)]
pub struct NewOutbound {
    /// The number that the peer gave it.
    pub spi: Spi,
    /// Cipher, key and salt.
    pub keymat: Keymat,
    /// Extended sequence numbers.
    pub esn: bool,
    /// What it may carry.
    pub selectors: Selectors,
    /// Where its packets go.
    pub path: Path,
    /// ESP in UDP, or plain ESP (protocol 50).
    pub encapsulated: bool,
    /// Its lifetime in octets and packets.
    pub limits: Limits,
}

/// Where the packet path leaves what is not its own business. Called from packet threads: queue and return.
pub trait Sink: Send + Sync {
    /// An IKE message came. `false` says that there was no room; it is counted and the peer will repeat it.
    fn ike(&self, datagram: IkeDatagram) -> bool;
    /// Something happened. `false` says that there was no room; counters and [`Dataplane::stats`] still tell.
    fn event(&self, event: Event) -> bool;
}

/// An IKE message as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeDatagram {
    /// By which link.
    pub wan: WanName,
    /// To which address and port of ours.
    pub local: SocketAddr,
    /// From where.
    pub remote: SocketAddr,
    /// The message, without the non-ESP marker.
    pub message: Vec<u8>,
}

/// Which of the two directions of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    Inbound,
    /// To the peer.
    Outbound,
}

/// Which limit of an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Time for new keys.
    Soft,
    /// No more packets by this one.
    Hard,
}

/// What a packet thread has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An association has reached a limit, in octets, packets or sequence numbers. Told once for each limit.
    Lifetime {
        /// Of this tunnel,
        tunnel: TunnelName,
        /// this association,
        spi: Spi,
        /// in this direction.
        direction: Direction,
        /// How far.
        limit: Limit,
    },
    /// An authentic packet came from another address than the last one did: a NAT has rebound, or the peer has moved.
    PeerMoved {
        /// Of this tunnel,
        tunnel: TunnelName,
        /// this association's packets
        spi: Spi,
        /// now come along this path.
        path: Path,
    },
    /// The way to the peer takes other sizes than before, as ICMP told the kernel or its news have aged. The packet path
    /// heeds it already; the interface's MTU is for the owner to set.
    PathMtu {
        /// Of this tunnel,
        tunnel: TunnelName,
        /// the largest inner packet now, whatever else bounds it. Never less than IPv6 needs: outer packets are fragmented
        /// before that.
        mtu: u16,
    },
    /// ESP for an association that does not exist, or that an earlier process has left in the kernel and nobody has
    /// negotiated. At most ten a second are told. The former are all counted.
    UnknownSpi {
        /// The number.
        spi: u32,
        /// Where it came by, from and to.
        path: Path,
    },
}

/// Counters of everything.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Per tunnel, by name.
    pub tunnels: Vec<TunnelStats>,
    /// Per WAN link, by name.
    pub wans: Vec<WanStats>,
}

/// Counters of a tunnel.
#[derive(Clone, Debug)]
pub struct TunnelStats {
    /// The tunnel.
    pub tunnel: TunnelName,
    /// Inner packets sent sealed.
    pub sent_packets: u64,
    /// Their octets.
    pub sent_octets: u64,
    /// Inner packets received and passed on.
    pub received_packets: u64,
    /// Their octets.
    pub received_octets: u64,
    /// Time since the last authentic packet from the peer, by any association.
    pub idle: Option<Duration>,
    /// Dropped for want of an outbound association.
    pub dropped_no_sa: u64,
    /// Dropped because the traffic selectors do not hold them, outbound.
    pub dropped_selectors: u64,
    /// Dropped because larger than the tunnel's MTU.
    pub dropped_too_big: u64,
    /// Dropped because they are no IP packets.
    pub dropped_malformed: u64,
    /// Dropped because the WAN socket refused them.
    pub dropped_send: u64,
    /// Dropped because the interface refused them.
    pub dropped_device: u64,
    /// Inbound associations.
    pub inbound: Vec<InboundStats>,
    /// Outbound associations, the one in use first.
    pub outbound: Vec<OutboundStats>,
}

/// Counters of an inbound association.
#[derive(Clone, Debug)]
pub struct InboundStats {
    /// Its number.
    pub spi: Spi,
    /// Its cipher.
    pub cipher: Cipher,
    /// Extended sequence numbers.
    pub esn: bool,
    /// Highest sequence number accepted.
    pub sequence: u64,
    /// Inner packets passed on.
    pub packets: u64,
    /// Their octets.
    pub octets: u64,
    /// Refused by the replay window.
    pub replays: u64,
    /// Refused because the integrity check failed.
    pub forgeries: u64,
    /// Authentic, but with a malformed trailer or no IP packet.
    pub malformed: u64,
    /// Authentic, but outside the traffic selectors.
    pub foreign: u64,
    /// Authentic, but marked on the way as meeting congestion, of which their sender has no notion (RFC 6040 §4.2).
    pub congested: u64,
    /// Time since the last authentic packet.
    pub idle: Option<Duration>,
}

/// Counters of an outbound association.
#[derive(Clone, Debug)]
pub struct OutboundStats {
    /// Its number.
    pub spi: Spi,
    /// Its cipher.
    pub cipher: Cipher,
    /// Extended sequence numbers.
    pub esn: bool,
    /// Last sequence number used.
    pub sequence: u64,
    /// Inner packets sent.
    pub packets: u64,
    /// Their octets.
    pub octets: u64,
    /// The way they take.
    pub path: Path,
}

/// Counters of a WAN link.
#[derive(Clone, Debug)]
pub struct WanStats {
    /// The link.
    pub wan: WanName,
    /// IKE messages handed up.
    pub ike_received: u64,
    /// IKE messages dropped because the queue was full.
    pub ike_dropped: u64,
    /// NAT keepalives.
    pub keepalives: u64,
    /// ESP packets for no association of ours.
    pub unknown_spi: u64,
    /// Datagrams too short or too long to be anything.
    pub malformed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gre_interface_stays_when_its_ends_change_and_no_other_does() {
        let gre = |remote: &str, local: Option<&str>| {
            let (remote, local) = (remote.parse().unwrap(), local.map(|text| text.parse().unwrap()));
            let interface = KernelInterface::Gre(Gre { remote, key: None, local, link: None, mark: 1 });
            Datapath::Kernel { interface, offload: None }
        };
        let xfrm = |pin| Datapath::Kernel { interface: KernelInterface::Xfrm { pin }, offload: None };
        let first = gre("192.0.2.1", None);
        assert!(gre("192.0.2.2", Some("192.0.2.9")).keeps_interface(first));
        for other in [gre("2001:db8::1", None), xfrm(None), Datapath::Userspace] {
            assert!(!other.keeps_interface(first) && !first.keeps_interface(other), "{other:?}");
            assert!(other.keeps_interface(other));
        }
        assert!(!xfrm(Some(1)).keeps_interface(xfrm(None)));
    }
}
