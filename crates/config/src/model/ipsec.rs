//! Proposals, identities and tunnels.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use net_types::{Prefix, TunnelName, WanName};

use super::{Community, EspSuite, IkeId, IkeSuite, InterfaceAddress, Name, Packets, PeerDemands, Revocation};

/// What to offer and to accept: `ipsec proposal NAME`. Order is preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// `ike`
    pub ike: Vec<IkeSuite>,
    /// `esp`
    pub esp: Vec<EspSuite>,
}

impl Default for Proposal {
    /// What a tunnel uses that names no proposal.
    fn default() -> Self {
        Self { ike: IkeSuite::DEFAULT.to_vec(), esp: EspSuite::DEFAULT.to_vec() }
    }
}

/// Who we are, and how both sides prove it: `ipsec identity NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `id`
    pub id: IkeId,
    /// How we authenticate, and how we check the peer.
    pub credential: Credential,
}

/// Where the material of an authentication lies. Nothing secret stands in the configuration itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `pre-shared-key file PATH`
    PreSharedKey {
        /// A file with the key; trailing line ends are not part of it.
        file: PathBuf,
    },
    /// `certificate`, `private-key` and `trust-anchor`
    Certificate {
        /// Our chain in PEM, own certificate first.
        certificate: PathBuf,
        /// Its key in PEM.
        private_key: PathBuf,
        /// Authorities that may vouch for the peer, in PEM.
        trust_anchors: Vec<PathBuf>,
        /// Which of their certificates were taken back.
        revocation: Revocation,
    },
}

/// One tunnel, which is one network interface: `ipsec tunnel NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// `description`
    pub description: Option<String>,
    /// `remote`
    pub remote: Remote,
    /// `local`: our outer address; the tunnel is there only while the link has it.
    pub local: Option<IpAddr>,
    /// `wan`: the link that it runs over.
    pub wan: WanName,
    /// Further links of `wan`, best first, for when that one is lost.
    pub backup_wans: Vec<WanName>,
    /// `no mobike` unsets it: whether the tunnel may go on at other outer addresses (RFC 4555).
    pub mobike: bool,
    /// `identity`
    pub identity: Name,
    /// `proposal`; [`Proposal::default`] without one.
    pub proposal: Option<Name>,
    /// `ip address` and `ipv6 address`
    pub addresses: Vec<InterfaceAddress>,
    /// `local-ts`; empty means everything, in both families.
    pub local_selectors: Vec<Prefix>,
    /// `remote-ts`; empty means everything, in both families.
    pub remote_selectors: Vec<Prefix>,
    /// `reverse-route`
    pub reverse_route: Option<ReverseRoute>,
    /// `childless`
    pub childless: Childless,
    /// `ppk`
    pub ppk: Option<Ppk>,
    /// `dpd`
    pub dpd: Dpd,
    /// `probe`
    pub probe: Option<Probe>,
    /// `rekey ike`: age at which the IKE SA is renewed.
    pub ike_lifetime: Duration,
    /// `reauthenticate`: age at which both sides prove anew who they are.
    pub reauth: Option<Duration>,
    /// `rekey child`: age or volume at which an ESP SA is renewed.
    pub child_lifetime: ChildLifetime,
    /// `initiate`
    pub initiate: Initiate,
    /// `mtu` of the interface; otherwise the WAN's less the overhead.
    pub mtu_octets: Option<u16>,
    /// `tunnel mode`, `encapsulation`, `dscp`, `df` and `replay-window`
    pub packets: Packets,
    /// `remote-ca` and `remote-certificate`
    pub demands: PeerDemands,
    /// `datapath`; where nothing is said, that of all tunnels.
    pub datapath: Option<Datapath>,
    /// `hardware-offload`: a network card may seal and open, where the kernel's datapath is used.
    pub hardware_offload: bool,
    /// `shutdown`: exists, but is held down.
    pub shutdown: bool,
}

/// Who seals and opens packets: `ipsec datapath` and `datapath`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Datapath {
    /// The kernel where it can, ipsecd otherwise.
    #[default]
    Auto,
    /// ipsecd.
    Userspace,
    /// The kernel (XFRM).
    Kernel,
}

impl Datapath {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Auto, Self::Userspace, Self::Kernel];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Userspace => "userspace",
            Self::Kernel => "kernel",
        }
    }
}

impl Tunnel {
    /// The datapath that it asks for, by its own words or by those for all tunnels. GRE is the kernel's.
    pub fn wanted_datapath(&self, of_all: Datapath) -> Datapath {
        if self.packets.gre.is_some() { Datapath::Kernel } else { self.datapath.unwrap_or(of_all) }
    }
}

/// The tunnels that are bound to have one datapath with `name`, itself among them: those that share a link with it, with
/// one of those, and so on. Port 4500 of a link is either the kernel's or ipsecd's.
pub fn tunnels_of_one_datapath<'a>(
    tunnels: &'a BTreeMap<TunnelName, Tunnel>,
    name: &'a TunnelName,
) -> BTreeSet<&'a TunnelName> {
    let mut links: BTreeSet<&WanName> = tunnels.get(name).into_iter().flat_map(Tunnel::wans).collect();
    let mut found = BTreeSet::new();
    loop {
        let more = tunnels.iter().filter(|(_, tunnel)| tunnel.wans().any(|wan| links.contains(wan)));
        let before = found.len();
        let (names, wans): (Vec<_>, Vec<_>) = more.map(|(name, tunnel)| (name, tunnel.wans())).unzip();
        found.extend(names);
        links.extend(wans.into_iter().flatten());
        if found.len() == before {
            return found;
        }
    }
}

impl Tunnel {
    /// The links that it may run over.
    pub fn wans(&self) -> impl Iterator<Item = &WanName> {
        std::iter::once(&self.wan).chain(&self.backup_wans)
    }

    /// `rekey ike` where nothing is said.
    pub const IKE_LIFETIME: Duration = Duration::from_secs(4 * 3600);
}

/// A postquantum preshared key: `ppk NAME file FILE [required]` (RFC 8784).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ppk {
    /// By which both ends know it.
    pub id: Name,
    /// A file with the key; trailing line ends are not part of it.
    pub file: PathBuf,
    /// Whether there is no tunnel without it.
    pub required: bool,
}

/// The other end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Where it is.
    pub address: RemoteAddress,
    /// `id`: what it must prove to be; its address where not given.
    pub id: Option<IkeId>,
}

/// Where the other end of a tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteAddress {
    /// Wherever it calls from; it is known by its identity alone.
    Any,
    /// At this address.
    Address(IpAddr),
}

/// What the child SA carries on the peer's side is routed into the tunnel: `reverse-route`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReverseRoute {
    /// `default-route`: also 0.0.0.0/0 and ::/0, which tunnels carry that leave it to routing what goes into them.
    pub default_route: bool,
    /// `distance`: administrative distance.
    pub distance: u8,
    /// `tag`, for route-maps of what is redistributed; 0 for none.
    pub tag: u32,
    /// `community`: what they are announced with; sorted.
    pub communities: Vec<Community>,
}

impl ReverseRoute {
    /// `distance` where nothing is said, as of a static route.
    pub const DISTANCE: u8 = 1;
    /// Most prefixes of one tunnel that become routes.
    pub const MOST: usize = 64;

    /// Whether `prefix` may become a route of `tunnel`: it is within the `remote-ts`, and not a default route unless that is
    /// said.
    pub fn admits(&self, tunnel: &Tunnel, prefix: &Prefix) -> bool {
        let within = tunnel.remote_selectors.iter().any(|selector| selector.covers(prefix));
        within && (self.default_route || prefix.bits() > 0)
    }
}

impl Default for ReverseRoute {
    fn default() -> Self {
        Self { default_route: false, distance: Self::DISTANCE, tag: 0, communities: Vec::new() }
    }
}

/// Liveness check: `dpd [on-demand] interval SPAN timeout SPAN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dpd {
    /// `on-demand`: only where packets were sent and nothing came back.
    pub on_demand: bool,
    /// Silence after which the peer is asked; zero never asks.
    pub interval: Duration,
    /// Silence after which the peer is taken for dead.
    pub timeout: Duration,
}

impl Default for Dpd {
    fn default() -> Self {
        Self { on_demand: false, interval: Duration::from_secs(10), timeout: Duration::from_secs(30) }
    }
}

/// Questions through the tunnel: `probe ADDRESS [interval SPAN] [timeout SPAN]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Who is asked: of a family that the tunnel has an address of.
    pub address: IpAddr,
    /// Between two questions; at least [`Self::BRIEFEST`].
    pub interval: Duration,
    /// Silence after which the tunnel is taken for one that carries nothing; at least two intervals.
    pub timeout: Duration,
}

impl Probe {
    /// Asks at the default pace.
    pub fn new(address: IpAddr) -> Self {
        Self { address, interval: Self::INTERVAL, timeout: Self::INTERVALS * Self::INTERVAL }
    }

    /// `interval` where nothing is said.
    pub const INTERVAL: Duration = Duration::from_millis(500);
    /// How many intervals make a `timeout` where nothing is said.
    pub const INTERVALS: u32 = 3;
    /// The least `interval`.
    pub const BRIEFEST: Duration = Duration::from_millis(50);
    /// The greatest `timeout`, which bounds how many questions are open at a time.
    pub const LONGEST: Duration = Duration::from_secs(60);
}

/// When an ESP SA is renewed: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildLifetime {
    /// Age.
    pub time: Duration,
    /// Volume in octets, where limited.
    pub octets: Option<u64>,
    /// Volume in packets, where limited.
    pub packets: Option<u64>,
}

impl Default for ChildLifetime {
    fn default() -> Self {
        Self { time: Duration::from_secs(3600), octets: None, packets: None }
    }
}

/// Whether an IKE SA may come without a child SA (RFC 6023): `childless`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Childless {
    /// A caller may do so.
    #[default]
    Allow,
    /// We do so too, where the peer understands it.
    Prefer,
    /// Both do so, or there is no tunnel.
    Force,
    /// Nobody does so.
    Never,
}

impl Childless {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Allow, Self::Prefer, Self::Force, Self::Never];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Force => "force",
            Self::Never => "never",
        }
    }
}

/// Which side begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Initiate {
    /// `initiate on-start`: at start, and again whenever the tunnel is lost.
    #[default]
    OnStart,
    /// `initiate never`: the peer does, or an operator by `initiate ipsec tunnel`.
    Never,
    /// `initiate standby-for`: we do, while no other path is left.
    Standby(Standby),
}

/// A tunnel that is there only while others are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    /// While one of these carries packets, it is not needed; at least one.
    pub stands_for: Vec<TunnelName>,
    /// `standby-hold`: how long it stays once it is needed no more.
    pub hold: Duration,
}

impl Standby {
    /// `standby-hold` where nothing is said.
    pub const HOLD: Duration = Duration::from_secs(60);
}
