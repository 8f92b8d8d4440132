//! WAN links: their state, and the routing that pins outer packets to them.
//!
//! Each WAN has a mark and a table of the same number. Outer sockets carry the mark and are bound to the WAN's interface;
//! a rule before the main table sends the mark to the WAN's table, which holds the link's connected prefixes and its
//! gateway. So no route that was learned through a tunnel is ever asked about a tunnel's own packets. A WAN without a
//! gateway has an empty table: the lookup goes on in the main table, where the binding to the interface still admits no
//! route through a tunnel.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::pin,
};

use futures_util::TryStreamExt;
use netlink_packet_route::{
    AddressFamily,
    route::{RouteMessage, RouteProtocol, RouteScope, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use netwatch::View;
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};

/// Marks and tables of WANs are this number plus the WAN's own, 1 to 65535; it spells "HF".
pub const MARK_BASE: u32 = 0x4846_0000;
/// Priority of our rules: after `local` (0), before anything that administrators usually put in front of `main`.
pub const RULE_PRIORITY: u32 = 1000;
/// The metric behind all others.
const LAST: u32 = u32::MAX;
/// Protocol number on the routes of WAN tables; those that bgpd installs carry another, and each daemon keeps to its own.
pub const ROUTE_PROTOCOL: u8 = 202;

/// The number of a WAN link: its mark and its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WanMark(u16);

impl WanMark {
    /// The mark of the WAN that stands at `index` (from 0) in the configuration; `None` beyond 65534 of them.
    pub fn nth(index: usize) -> Option<Self> {
        u16::try_from(index).ok()?.checked_add(1).map(Self)
    }

    /// The number that sockets, rules and the table carry.
    pub fn get(self) -> u32 {
        MARK_BASE | u32::from(self.0)
    }
}

/// What a WAN link is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It carries packets.
    Up {
        /// Its interface.
        ifindex: u32,
        /// Our addresses on it, link-local ones left out, those shared with other routers last. Never empty.
        addresses: Vec<IpAddr>,
        /// What the interface takes, in octets.
        mtu_octets: u32,
    },
    /// It does not.
    Down(DownReason),
}

/// Why a WAN link carries nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// `shutdown` in the configuration.
    Shutdown,
    /// There is no interface of that name.
    NoInterface,
    /// The interface is set down.
    AdminDown,
    /// The interface has no carrier.
    NoCarrier,
    /// The interface has no address to send from.
    NoAddress,
}

impl std::fmt::Display for DownReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Shutdown => "shut down by configuration",
            Self::NoInterface => "no such interface",
            Self::AdminDown => "interface is set down",
            Self::NoCarrier => "no carrier",
            Self::NoAddress => "interface has no address",
        })
    }
}

/// What `wan` is doing, by what the kernel says of its interface.
pub fn assess(view: &View, wan: &config::model::Wan) -> LinkState {
    if wan.shutdown {
        return LinkState::Down(DownReason::Shutdown);
    }
    let Some(link) = view.link_named(wan.interface.as_str()) else {
        return LinkState::Down(DownReason::NoInterface);
    };
    if !link.admin_up {
        return LinkState::Down(DownReason::AdminDown);
    }
    if !link.carrier {
        return LinkState::Down(DownReason::NoCarrier);
    }
    let usable = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    // What another router may have in a moment is nobody's choice but that of who names it.
    let mut found: Vec<_> = view.addresses_of(link.ifindex).filter(|address| usable(&address.local)).collect();
    found.sort_by_key(|address| address.is_virtual);
    let addresses: Vec<IpAddr> = found.into_iter().map(|address| address.local).collect();
    if addresses.is_empty() {
        return LinkState::Down(DownReason::NoAddress);
    }
    LinkState::Up { ifindex: link.ifindex, addresses, mtu_octets: link.mtu_octets }
}

/// Rules and tables of all WANs, in the kernel.
#[derive(Clone)]
pub struct WanRouting {
    handle: Handle,
}

impl WanRouting {
    /// Works through this netlink handle.
    pub fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// Makes the rules of `marks` and no others of ours exist. Rules that are there already stay untouched, so that a
    /// restart never leaves an outer packet without its rule.
    ///
    /// # Errors
    /// When the kernel refuses; the text names the rule.
    pub async fn sync_rules(&self, marks: &BTreeSet<WanMark>) -> io::Result<()> {
        for version in [IpVersion::V4, IpVersion::V6] {
            let family = if version == IpVersion::V4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
            let mut missing = marks.clone();
            let mut stale = Vec::new();
            {
                let mut rules = pin!(self.handle.rule().get(version).execute());
                while let Some(rule) = rules.try_next().await.map_err(io::Error::other)? {
                    match our_mark(&rule) {
                        Some(mark) if marks.iter().any(|ours| ours.get() == mark) => {
                            missing.retain(|ours| ours.get() != mark);
                        }
                        Some(_) => stale.push(rule),
                        None => {}
                    }
                }
            }
            for mark in missing {
                let mut request = self
                    .handle
                    .rule()
                    .add()
                    .fw_mark(mark.get())
                    .table_id(mark.get())
                    .priority(RULE_PRIORITY)
                    .action(RuleAction::ToTable);
                request.message_mut().header.family = family;
                request.execute().await.map_err(|error| {
                    io::Error::other(format!("routing rule for mark {:#x} ({family:?}): {error}", mark.get()))
                })?;
            }
            for rule in stale {
                self.handle.rule().del(rule).execute().await.map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    /// Writes the table of one WAN: the link's connected prefixes, then its gateways. The kernel itself takes the routes
    /// out when the link goes down; this puts them back. What it does not take out is the end of the table: outer packets of
    /// the kernel's are bound to no interface, and must not go on to the main table.
    ///
    /// # Errors
    /// When the kernel refuses a route, for instance since a gateway is not on the link.
    pub async fn write_table(&self, mark: WanMark, wan: &config::model::Wan, view: &View) -> io::Result<()> {
        if wan.gateway_v4.is_none() && wan.gateway_v6.is_none() {
            return Ok(());
        }
        let Some(link) = view.link_named(wan.interface.as_str()).filter(|link| link.is_up()) else { return Ok(()) };
        for prefix in view.addresses_of(link.ifindex).filter_map(|address| address.connected()) {
            let route = match prefix.address() {
                IpAddr::V4(v4) => of_table::<Ipv4Addr>(mark)
                    .destination_prefix(v4, prefix.bits())
                    .scope(RouteScope::Link)
                    .output_interface(link.ifindex)
                    .build(),
                IpAddr::V6(v6) if v6.is_unicast_link_local() => continue,
                IpAddr::V6(v6) => of_table::<Ipv6Addr>(mark)
                    .destination_prefix(v6, prefix.bits())
                    .output_interface(link.ifindex)
                    .build(),
            };
            self.replace(route, &prefix).await?;
        }
        if let Some(gateway) = wan.gateway_v4 {
            let route = of_table::<Ipv4Addr>(mark).output_interface(link.ifindex).gateway(gateway).build();
            self.replace(route, &format_args!("default via {gateway}")).await?;
            self.replace(end_of_table::<Ipv4Addr>(mark), &"unreachable default").await?;
        }
        if let Some(gateway) = wan.gateway_v6 {
            let route = of_table::<Ipv6Addr>(mark).output_interface(link.ifindex).gateway(gateway).build();
            self.replace(route, &format_args!("default via {gateway}")).await?;
            self.replace(end_of_table::<Ipv6Addr>(mark), &"unreachable default").await?;
        }
        Ok(())
    }

    async fn replace(&self, route: RouteMessage, what: &dyn std::fmt::Display) -> io::Result<()> {
        let done = self.handle.route().add(route).replace().execute().await;
        done.map_err(|error| io::Error::other(format!("route {what} in the table of the WAN: {error}")))
    }
}

/// The mark of a rule that this daemon made.
fn our_mark(rule: &RuleMessage) -> Option<u32> {
    let (mut mark, mut priority) = (None, None);
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::Priority(value) => priority = Some(*value),
            _ => {}
        }
    }
    mark.filter(|mark| mark & 0xffff_0000 == MARK_BASE && priority == Some(RULE_PRIORITY))
}

/// A route of ours in the table of one WAN.
fn of_table<T>(mark: WanMark) -> RouteMessageBuilder<T>
where
    RouteMessageBuilder<T>: Default,
{
    RouteMessageBuilder::default().table_id(mark.get()).protocol(RouteProtocol::from(ROUTE_PROTOCOL))
}

/// What keeps a lookup from going on to the next table.
fn end_of_table<T>(mark: WanMark) -> RouteMessage
where
    RouteMessageBuilder<T>: Default,
{
    of_table(mark).kind(RouteType::Unreachable).priority(LAST).build()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use netwatch::Watch;

    use super::*;

    fn wan(gateway: Option<&str>) -> config::model::Wan {
        config::model::Wan {
            interface: "eth0".parse().unwrap(),
            gateway_v4: gateway.map(|text| text.parse().unwrap()),
            gateway_v6: None,
            mtu_octets: None,
            shutdown: false,
        }
    }

    fn ip(arguments: &str) -> String {
        let done = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
        assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    #[test]
    fn marked_packets_follow_the_wan_and_not_the_main_table() {
        let worker = std::thread::spawn(|| {
            sys::netns::unshare_current_thread().expect("needs CAP_SYS_ADMIN to make a network namespace");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                ip("link add eth0 type veth peer name far");
                ip("link add tun1 type veth peer name farther");
                for link in ["eth0", "far", "tun1", "farther"] {
                    ip(&format!("link set {link} up"));
                }
                ip("addr add 198.51.100.2/30 dev eth0");
                ip("addr add 169.254.1.2/30 dev tun1");
                ip("route add default via 169.254.1.1"); // learned through a tunnel
                let watch = Watch::start().await.unwrap();
                let routing = WanRouting::new(watch.handle().clone());
                let mark = WanMark::nth(0).unwrap();
                routing.sync_rules(&[mark].into()).await.unwrap();
                routing.sync_rules(&[mark].into()).await.unwrap(); // once is enough, twice does no harm
                assert_eq!(ip("rule list").matches("fwmark").count(), 1);

                let spec = wan(Some("198.51.100.1"));
                routing.write_table(mark, &spec, watch.view()).await.unwrap();
                routing.write_table(mark, &spec, watch.view()).await.unwrap();
                let marked = ip(&format!("route get 203.0.113.9 mark {:#x}", mark.get()));
                assert!(marked.contains("via 198.51.100.1 dev eth0"), "{marked}");
                assert!(ip("route get 203.0.113.9").contains("dev tun1"));
                ip("link set eth0 down");
                let astray =
                    Command::new("ip").args(["route", "get", "203.0.113.9", "mark", "0x48460001"]).output().unwrap();
                assert!(!astray.status.success(), "without its link it goes nowhere");

                routing.sync_rules(&BTreeSet::new()).await.unwrap();
                assert_eq!(ip("rule list").matches("fwmark").count(), 0);
            });
        });
        worker.join().unwrap();
    }

    #[test]
    fn a_link_is_up_only_with_carrier_and_an_address() {
        let worker = std::thread::spawn(|| {
            sys::netns::unshare_current_thread().expect("needs CAP_SYS_ADMIN to make a network namespace");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let spec = wan(None);
                assert_eq!(assess(&View::default(), &spec), LinkState::Down(DownReason::NoInterface));
                ip("link add eth0 type veth peer name far");
                let now = async || assess(Watch::start().await.unwrap().view(), &spec);
                assert_eq!(now().await, LinkState::Down(DownReason::AdminDown));
                ip("link set eth0 up");
                assert_eq!(now().await, LinkState::Down(DownReason::NoCarrier));
                ip("link set far up");
                assert_eq!(now().await, LinkState::Down(DownReason::NoAddress));
                ip("addr add 198.51.100.2/30 dev eth0");
                assert!(matches!(now().await, LinkState::Up { addresses, .. } if addresses.len() == 1));
                assert_eq!(
                    assess(Watch::start().await.unwrap().view(), &config::model::Wan { shutdown: true, ..wan(None) }),
                    LinkState::Down(DownReason::Shutdown)
                );
            });
        });
        worker.join().unwrap();
    }
}
