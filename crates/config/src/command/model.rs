//! What commands there are.

use std::net::IpAddr;

use net_types::{Asn, Family, IfName, Prefix, TunnelName, WanName};

use super::{DampeningView, PolicyView, VpnView, Watch};
use crate::model::{Name, NeighborId, RedistributeSource};

/// Who runs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// bgpd
    Bgpd,
    /// ipsecd
    Ipsecd,
    /// Whichever is there: both know.
    Either,
    /// Each of them.
    Both,
    /// The shell itself.
    Shell,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `show bgp summary`: every family, or one.
    ShowBgpSummary {
        /// Only this one.
        family: Option<Family>,
        /// Only these.
        of: SummaryOf,
        /// What its JSON is an object of.
        nesting: Nesting,
        /// As JSON.
        json: bool,
    },
    /// `show bgp ipv4 unicast`: the table.
    ShowBgp {
        /// Of this family.
        family: Family,
        /// Only this destination.
        destination: Option<Destination>,
        /// Only these paths of a destination.
        paths: Paths,
        /// Every route as `show bgp PREFIX` has it.
        detail: bool,
        /// As JSON.
        json: bool,
    },
    /// What there is of VPNs.
    ShowBgpVpn {
        /// What of it.
        what: VpnView,
        /// As JSON.
        json: bool,
    },
    /// What policy is configured, and what it picks out of the table.
    Policy {
        /// What of it.
        what: PolicyView,
        /// As JSON.
        json: bool,
    },
    /// What is watched and validated.
    Watch {
        /// What of it.
        what: Watch,
        /// As JSON.
        json: bool,
    },
    /// `show bgp neighbors`
    ShowBgpNeighbors {
        /// Only this one.
        neighbor: Option<NeighborId>,
        /// As JSON.
        json: bool,
    },
    /// `show interface`
    ShowInterface {
        /// Only this one.
        interface: Option<IfName>,
        /// As JSON.
        json: bool,
    },
    /// `show bgp neighbors … graceful-restart`
    ShowBgpRestart {
        /// Only this one.
        neighbor: Option<NeighborId>,
        /// As JSON.
        json: bool,
    },
    /// `show bgp ipv4 unicast neighbors PEER routes`: routes from or to one neighbor.
    ShowBgpNeighborRoutes {
        /// Of this family.
        family: Family,
        /// Of this neighbor.
        neighbor: NeighborId,
        /// Which ones.
        which: NeighborRoutes,
        /// As JSON.
        json: bool,
    },
    /// `show bgp attribute-info`
    ShowBgpAttributes,
    /// `show bgp memory`
    ShowBgpMemory {
        /// As JSON.
        json: bool,
    },
    /// `load mrt`: routes of a file into the table.
    LoadMrt {
        /// The file, MRT as it is or packed by gzip or bzip2.
        file: std::path::PathBuf,
        /// In the place of the next hops in the file; those of another address family stay.
        next_hop: Option<IpAddr>,
    },
    /// `clear mrt`: takes them out again.
    ClearMrt {
        /// Of this file, by its number; `None` is of all.
        number: Option<u32>,
    },
    /// `show bgp peer-group`
    ShowBgpPeerGroups {
        /// Only this one.
        name: Option<Name>,
        /// As JSON.
        json: bool,
    },
    /// `show bgp vrfs`
    ShowBgpVrfs {
        /// As JSON.
        json: bool,
    },
    /// `show ip route`, `show ipv6 route`: what is in the kernel by our doing, and what is connected.
    ShowRoute {
        /// Of this family.
        family: Family,
        /// `fib` in the place of `route`: only what packets are forwarded by.
        fib: bool,
        /// Only from there; `None` in it is BGP.
        from: Option<Option<RedistributeSource>>,
        /// Only this destination.
        destination: Option<Destination>,
        /// As JSON.
        json: bool,
    },
    /// `show bfd peers`
    ShowBfdPeers {
        /// Only this one.
        peer: Option<IpAddr>,
        /// One line each.
        brief: bool,
        /// Only counters of packets and events.
        counters: bool,
        /// As JSON.
        json: bool,
    },
    /// `show failover`
    ShowFailover {
        /// As JSON.
        json: bool,
    },
    /// `clear failover damping`
    ClearFailoverDamping {
        /// Of paths over this interface; of all without.
        interface: Option<IfName>,
    },
    /// `show ipsec certificate`
    ShowIpsecCertificates {
        /// As JSON.
        json: bool,
    },
    /// `show ipsec sa`
    ShowIpsecSa {
        /// Only of this tunnel.
        tunnel: Option<TunnelName>,
        /// As JSON.
        json: bool,
    },
    /// `show ipsec tunnel`
    ShowIpsecTunnel {
        /// Only this one.
        tunnel: Option<TunnelName>,
        /// As JSON.
        json: bool,
    },
    /// `show wan`
    ShowWan {
        /// Only this one.
        wan: Option<WanName>,
        /// As JSON.
        json: bool,
    },
    /// `show running-config`
    ShowRunningConfig,
    /// `show version`
    ShowVersion {
        /// As JSON.
        json: bool,
    },
    /// `show bgp ipv4 unicast dampening …`
    ShowDampening {
        /// Of which family.
        family: Family,
        /// What of it.
        what: DampeningView,
        /// As JSON.
        json: bool,
    },
    /// `show bgp ipv4 unicast neighbors X received prefix-filter`
    ShowOutboundFilter {
        /// Of which family.
        family: Family,
        /// Whose.
        neighbor: NeighborId,
        /// As JSON.
        json: bool,
    },
    /// `clear ip bgp dampening`
    ClearDampening {
        /// Of this prefix; of all without.
        prefix: Option<Prefix>,
    },
    /// `clear bgp`
    ClearBgp {
        /// Whose.
        whom: Cleared,
        /// How.
        how: Clear,
    },
    /// `initiate ipsec tunnel`
    InitiateTunnel {
        /// Which.
        tunnel: TunnelName,
    },
    /// `terminate ipsec tunnel`
    TerminateTunnel {
        /// Which.
        tunnel: TunnelName,
    },
    /// `rekey ipsec tunnel`
    RekeyTunnel {
        /// Which.
        tunnel: TunnelName,
        /// The IKE SA; its child SA otherwise.
        ike: bool,
    },
    /// `reload`
    Reload,
    /// `configure terminal`
    Configure,
    /// `write`: the file is the operator's.
    Write,
    /// `terminal length`: there is no pager.
    Pager,
    /// `help`
    Help,
    /// `exit` or `quit`
    Exit,
}

/// A place in a table of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Exactly this prefix.
    Prefix(Prefix),
    /// The longest prefix that holds this address.
    Address(IpAddr),
}

/// Routes of one neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighborRoutes {
    /// Accepted from it.
    Accepted,
    /// From it, as received.
    Received,
    /// From it, and refused by policy.
    Filtered,
    /// Announced to it.
    Advertised,
}

/// Which neighbors a summary lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SummaryOf {
    /// Every one.
    #[default]
    All,
    /// Those whose session is established.
    Established,
    /// The others.
    Failed,
}

/// What the outermost object of a summary's JSON holds, which in FRR depends on the words of the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nesting {
    /// Families by name.
    #[default]
    Families,
    /// The one family that was named in full, `ipv4 unicast`.
    Bare,
    /// Routing instances by name, for `vrf all`.
    Instances,
}

/// Which paths of a destination are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paths {
    /// Every one.
    #[default]
    All,
    /// The best.
    Best,
    /// Those in use at the same time.
    Multipath,
}

/// Whose sessions begin anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleared {
    /// Everybody's.
    All,
    /// This neighbor's.
    Neighbor(NeighborId),
    /// Of the neighbors in this AS.
    As(Asn),
    /// Of the neighbors in other ASes.
    External,
    /// Of the members of this peer-group.
    Group(Name),
}

/// How a session begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clear {
    /// It is closed (CEASE, administrative reset) and opened again.
    Hard,
    /// Its routes are asked for again, and pass the policy again.
    SoftIn,
    /// Our routes are sent again.
    SoftOut,
    /// Both.
    Soft,
}

impl Destination {
    /// The family it lies in.
    pub fn family(&self) -> Family {
        match self {
            Self::Prefix(prefix) => prefix.family(),
            Self::Address(IpAddr::V4(_)) => Family::Ipv4Unicast,
            Self::Address(IpAddr::V6(_)) => Family::Ipv6Unicast,
        }
    }
}
