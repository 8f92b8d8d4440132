//! Keeps a [`View`] true: one dump, then notifications; after a lost one a dump again.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::pin,
};

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use netlink_packet_core::{NLM_F_REPLACE, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::{InfoData, InfoVrf, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType},
};
use netlink_sys::AsyncSocket;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::task::JoinHandle;

use crate::{
    Address, Link, VIRTUAL, View,
    routes::{self, Routes},
};

type Messages = Box<dyn futures_util::Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send + Unpin>;

/// A [`View`] and the subscription that keeps it true. Lives on a tokio runtime.
pub struct Watch {
    view: View,
    handle: Handle,
    messages: Messages,
    followed: Option<Followed>,
}

/// The subscription to routes.
struct Followed {
    /// Routes of this protocol number are ours.
    own: u8,
    messages: Messages,
    /// Something may have been lost: everything is to be read anew.
    doubtful: bool,
    /// Everything is being read; what is reported meanwhile waits, since it may be newer.
    reading: Option<JoinHandle<io::Result<Routes>>>,
}

impl Followed {
    /// What comes next: what was read, or a message. Cancelling it loses nothing.
    async fn next(&mut self, handle: &Handle) -> io::Result<News> {
        if self.doubtful && self.reading.is_none() {
            self.doubtful = false;
            let (handle, own) = (handle.clone(), self.own);
            self.reading = Some(tokio::spawn(async move { read_routes(&handle, own).await }));
        }
        if let Some(reading) = &mut self.reading {
            let read = reading.await.map_err(io::Error::other)?;
            self.reading = None;
            return Ok(News::All(read?));
        }
        self.messages.next().await.map(News::One).ok_or_else(|| io::Error::other(ENDED))
    }
}

/// What is heard of routes.
enum News {
    All(Routes),
    One(NetlinkMessage<RouteNetlinkMessage>),
}

const ENDED: &str = "rtnetlink connection ended";

/// Changes of routes that are looked at together, at most.
const TOGETHER: usize = 4096;

/// What became different in the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link came, or its flags or MTU changed.
    Link(Link),
    /// A link went, and its addresses with it.
    LinkGone(Link),
    /// An address came to or went from this interface.
    Address(u32),
    /// Routes of others came or went.
    Routes,
    /// Notifications were lost and everything was read anew: anything may be different.
    Everything,
}

/// How the kernel would reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Through this interface.
    pub ifindex: u32,
    /// By way of this router, or directly.
    pub gateway: Option<IpAddr>,
    /// Length of the route that says so, in bits, where the kernel told it.
    pub bits: u8,
    /// Who installed that route (`rtm_protocol`).
    pub protocol: u8,
}

impl Watch {
    /// Subscribes, then reads everything once. In this order nothing can fall between.
    ///
    /// # Errors
    /// When the netlink socket cannot be opened or the dump fails.
    pub async fn start() -> io::Result<Self> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)?;
        tokio::spawn(connection);
        let messages: Messages = Box::new(messages.map(|(message, _from)| message));
        let mut watch = Self { view: View::default(), handle, messages, followed: None };
        watch.view = watch.read_all().await?;
        Ok(watch)
    }

    /// The present view.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The netlink handle, for requests of the owner's own.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Follows, from now on, the routes that others put into the kernel's main table: all but those of protocol number `own`.
    /// Those that are there already are told as a [change](Self::changed), too.
    ///
    /// # Errors
    /// When the netlink socket cannot be opened; nothing is followed then.
    pub fn follow_routes(&mut self, own: u8) -> io::Result<()> {
        if self.followed.is_some() {
            return Ok(());
        }
        let groups = [MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
        let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&groups)?;
        // In the kernel, before the queue: a million routes of our own must not push out what counts.
        sys::netlink::ignore_routes_of(&*connection.socket_mut().socket_mut(), own)?;
        tokio::spawn(connection);
        let messages: Messages = Box::new(messages.map(|(message, _from)| message));
        self.followed = Some(Followed { own, messages, doubtful: true, reading: None });
        Ok(())
    }

    /// Waits until the view has changed and says how. Cancelling it loses nothing but a resynchronisation under way,
    /// which then starts anew.
    ///
    /// # Errors
    /// When the netlink connection ended, or a resynchronisation failed.
    pub async fn changed(&mut self) -> io::Result<Change> {
        loop {
            let message = tokio::select! {
                biased;
                message = self.messages.next() => message.ok_or_else(|| io::Error::other(ENDED))?,
                news = next_route(&mut self.followed, &self.handle) => {
                    if self.apply_routes(news?) {
                        return Ok(Change::Routes);
                    }
                    continue;
                }
            };
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => {
                    if let Some(change) = self.apply(inner) {
                        self.doubt_routes(&change);
                        return Ok(change);
                    }
                }
                NetlinkPayload::Overrun(_) => {
                    tracing::warn!("rtnetlink notifications were lost; reading links and addresses anew");
                    let mut view = self.read_all().await?;
                    *view.routes_mut() = self.view.routes().clone();
                    self.view = view;
                    self.doubt_routes(&Change::Everything);
                    return Ok(Change::Everything);
                }
                _ => {}
            }
        }
    }

    /// The kernel says nothing of IPv4 routes that go with their link or address.
    fn doubt_routes(&mut self, change: &Change) {
        let Some(followed) = &mut self.followed else { return };
        followed.doubtful |= match change {
            Change::Link(link) | Change::LinkGone(link) => self.view.routes().uses(link.ifindex),
            Change::Address(ifindex) => self.view.routes().uses(*ifindex),
            Change::Everything => true,
            Change::Routes => false,
        };
    }

    /// Takes in a change of routes and those that wait behind it; whether the view is another one.
    fn apply_routes(&mut self, news: News) -> bool {
        let Self { view, followed: Some(followed), .. } = self else { return false };
        let (mut next, mut changed) = match news {
            News::One(first) => (Some(first), false),
            News::All(routes) => {
                let changed = *view.routes() != routes;
                *view.routes_mut() = routes;
                (followed.messages.next().now_or_never().flatten(), changed)
            }
        };
        for _ in 0..TOGETHER {
            let Some(message) = next else { break };
            let replaces = message.header.flags & NLM_F_REPLACE != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                    if let Some((prefix, route)) = routes::parse(&route, followed.own) {
                        changed |= view.routes_mut().put(prefix, route, replaces);
                    }
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(route)) => {
                    if let Some((prefix, route)) = routes::parse(&route, followed.own) {
                        changed |= view.routes_mut().remove(prefix, &route);
                    }
                }
                NetlinkPayload::Overrun(_) => followed.doubtful = true,
                _ => {}
            }
            next = followed.messages.next().now_or_never().flatten();
        }
        changed
    }

    /// The route that the kernel would take to `address` now; `None` if there is none, or only one that discards.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn route_to(&self, address: IpAddr) -> io::Result<Option<Hop>> {
        let request = match address {
            IpAddr::V4(v4) => RouteMessageBuilder::<std::net::Ipv4Addr>::new().destination_prefix(v4, 32).build(),
            IpAddr::V6(v6) => RouteMessageBuilder::<std::net::Ipv6Addr>::new().destination_prefix(v6, 128).build(),
        };
        // RTM_F_FIB_MATCH: the route itself, not the cloned host entry, so that its length and origin are told.
        let mut request = self.handle.route().get(request);
        request.message_mut().header.flags |= netlink_packet_route::route::RouteFlags::FibMatch;
        match pin!(request.execute()).try_next().await {
            Ok(message) => Ok(message.as_ref().and_then(hop)),
            Err(rtnetlink::Error::NetlinkError(error)) if is_unreachable(error.raw_code()) => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn apply(&mut self, message: RouteNetlinkMessage) -> Option<Change> {
        match message {
            RouteNetlinkMessage::NewLink(message) => {
                let link = link(&message)?;
                self.view.put_link(link.clone()).then_some(Change::Link(link))
            }
            RouteNetlinkMessage::DelLink(message) => {
                // AF_BRIDGE uses the same message for "no longer a port", which is not the end of the link.
                if message.header.interface_family == AddressFamily::Bridge {
                    return None;
                }
                self.view.remove_link(message.header.index).map(Change::LinkGone)
            }
            RouteNetlinkMessage::NewAddress(message) => {
                let address = address(&message).filter(|_| is_sure(&message))?;
                self.view.put_address(address).then_some(Change::Address(address.ifindex))
            }
            RouteNetlinkMessage::DelAddress(message) => {
                let address = address(&message)?;
                self.view.remove_address(&address).then_some(Change::Address(address.ifindex))
            }
            _ => None,
        }
    }

    async fn read_all(&self) -> io::Result<View> {
        let mut view = View::default();
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links.try_next().await.map_err(io::Error::other)? {
            link(&message).map(|link| view.put_link(link));
        }
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await.map_err(io::Error::other)? {
            address(&message).filter(|_| is_sure(&message)).map(|address| view.put_address(address));
        }
        let known: BTreeSet<u32> = view.links().map(|link| link.ifindex).collect();
        let orphans: Vec<Address> = view.addresses().filter(|a| !known.contains(&a.ifindex)).copied().collect();
        for orphan in orphans {
            view.remove_address(&orphan); // its link went between the two dumps
        }
        Ok(view)
    }
}

/// The next that is heard of routes; nothing ever is while they are not followed.
async fn next_route(followed: &mut Option<Followed>, handle: &Handle) -> io::Result<News> {
    match followed {
        Some(followed) => followed.next(handle).await,
        None => std::future::pending().await,
    }
}

async fn read_routes(handle: &Handle, own: u8) -> io::Result<Routes> {
    let mut known = Routes::default();
    let requests = [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
    for request in requests {
        let mut messages = handle.route().get(request).execute();
        while let Some(message) = messages.try_next().await.map_err(io::Error::other)? {
            if let Some((prefix, route)) = routes::parse(&message, own) {
                known.put(prefix, route, false);
            }
        }
    }
    Ok(known)
}

/// ENETUNREACH, EHOSTUNREACH, and the errors of unreachable, blackhole and prohibit routes.
fn is_unreachable(code: i32) -> bool {
    matches!(code.abs(), 101 | 113 | 22 | 13)
}

fn link(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family == AddressFamily::Bridge {
        return None;
    }
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        admin_up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        mtu_octets: 0,
        vrf_table: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu_octets = *mtu,
            LinkAttribute::LinkInfo(infos) => link.vrf_table = vrf_table(infos),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

/// The table of a VRF device.
fn vrf_table(infos: &[LinkInfo]) -> Option<u32> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vrf(facts)) => facts.iter().find_map(|fact| match fact {
            InfoVrf::TableId(table) => Some(*table),
            _ => None,
        }),
        _ => None,
    })
}

fn address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut far, mut is_virtual) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Protocol(mark) => is_virtual = u8::from(*mark) == VIRTUAL,
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => far = Some(*address),
            _ => {}
        }
    }
    // IFA_ADDRESS is the peer on a point-to-point link and the same as IFA_LOCAL elsewhere; IPv6 sends it alone.
    let own = local.or(far)?;
    Some(Address {
        ifindex: message.header.index,
        local: own,
        bits: message.header.prefix_len,
        peer: far.filter(|far| *far != own),
        is_virtual,
    })
}

/// An address is not ours before nobody else claims it (RFC 4862 §5.4), nor if somebody does. The kernel reports it again
/// when it is.
fn is_sure(message: &AddressMessage) -> bool {
    let given = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    };
    let header = || AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let flags = message.attributes.iter().find_map(given).unwrap_or_else(header);
    let unsure = flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed);
    !unsure || flags.contains(AddressFlags::Optimistic) // RFC 4429 §3.1
}

fn hop(message: &RouteMessage) -> Option<Hop> {
    if !matches!(message.header.kind, RouteType::Unicast) {
        return None;
    }
    let (mut ifindex, mut gateway) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            RouteAttribute::MultiPath(hops) => {
                let first = hops.first()?;
                ifindex = Some(first.interface_index);
                gateway = first.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Gateway(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
                    RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(Hop {
        ifindex: ifindex?,
        gateway,
        bits: message.header.destination_prefix_length,
        protocol: RouteProtocol::into(message.header.protocol),
    })
}

#[cfg(test)]
mod tests {
    use std::{future::Future, process::Command, time::Duration};

    use super::*;

    /// Runs `test` on a thread and runtime of its own inside a fresh network namespace.
    fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
        let worker = std::thread::spawn(move || {
            sys::netns::unshare_current_thread().expect("needs CAP_SYS_ADMIN to make a network namespace");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), test()).await.expect("timed out") });
        });
        worker.join().unwrap();
    }

    fn ip(arguments: &str) {
        let done = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
        assert!(done.success(), "ip {arguments}");
    }

    #[test]
    fn links_and_addresses_are_followed() {
        in_namespace(|| async {
            ip("link add va type veth peer name vb");
            ip("link set va up");
            let mut watch = Watch::start().await.unwrap();
            assert!(watch.view().link_named("va").is_some_and(|link| link.admin_up && !link.carrier));

            ip("link set vb up");
            ip("addr add 192.0.2.1/24 dev va");
            let toward = "192.0.2.9".parse().unwrap();
            while watch.view().on_link(toward).is_none() {
                watch.changed().await.unwrap();
            }
            assert_eq!(watch.view().on_link(toward).map(|link| link.name.as_str()), Some("va"));

            ip("link set vb down");
            while watch.view().on_link(toward).is_some() {
                watch.changed().await.unwrap();
            }
            ip("link del va");
            while watch.view().link_named("va").is_some() {
                watch.changed().await.unwrap();
            }
        });
    }

    #[test]
    fn routes_of_others_are_followed_and_ours_are_not() {
        in_namespace(|| async {
            ip("link add va type veth peer name vb");
            ip("link set va up");
            ip("link set vb up");
            ip("addr add 192.0.2.1/24 dev va");
            ip("route add 10.1.0.0/16 via 192.0.2.254");
            let mut watch = Watch::start().await.unwrap();
            while watch.view().link_named("va").is_none_or(|link| !link.is_up()) {
                watch.changed().await.unwrap();
            }
            assert_eq!(watch.view().foreign_routes().count(), 0, "not asked for");
            watch.follow_routes(201).unwrap();
            let known = |watch: &Watch| -> Vec<String> {
                watch.view().foreign_routes().map(|(prefix, _)| prefix.to_string()).collect()
            };
            while known(&watch).is_empty() {
                watch.changed().await.unwrap();
            }
            assert_eq!(known(&watch), ["10.1.0.0/16"], "the connected subnet is not among them");

            ip("route add 10.2.0.0/16 via 192.0.2.254 proto 201");
            ip("route add blackhole 10.3.0.0/16");
            ip("route add 10.4.0.0/16 dev va table 77");
            ip("-6 route add 2001:db8:9::/48 dev va");
            while known(&watch).len() < 3 {
                watch.changed().await.unwrap();
            }
            assert_eq!(known(&watch), ["10.1.0.0/16", "10.3.0.0/16", "2001:db8:9::/48"]);

            ip("route replace 10.1.0.0/16 dev va");
            ip("route del blackhole 10.3.0.0/16");
            while known(&watch).len() > 2 {
                watch.changed().await.unwrap();
            }
            let prefix: net_types::Prefix = "10.1.0.0/16".parse().unwrap();
            let (_, route) = watch.view().foreign_routes().find(|(other, _)| *other == prefix).unwrap();
            assert!(matches!(route.target, crate::ForeignTarget::Via { gateway: None, .. }), "{route:?}");

            ip("link set va down");
            while watch.view().has_foreign_route(&prefix) {
                watch.changed().await.unwrap();
            }
            ip("link set va up");
            while watch.view().link_named("va").is_none_or(|link| !link.is_up())
                || watch.view().routes().of(&prefix).next().is_some()
            {
                watch.changed().await.unwrap(); // the kernel dropped it with the link, and said nothing
            }
        });
    }

    #[test]
    fn the_kernel_is_asked_for_a_way() {
        in_namespace(|| async {
            ip("link add va type veth peer name vb");
            ip("link set va up");
            ip("link set vb up");
            ip("addr add 192.0.2.1/24 dev va");
            ip("route add 10.0.0.0/8 via 192.0.2.254");
            ip("route add blackhole 10.66.0.0/16");
            let watch = Watch::start().await.unwrap();
            let hop = watch.route_to("10.1.1.1".parse().unwrap()).await.unwrap().unwrap();
            assert_eq!((hop.gateway, hop.bits), (Some("192.0.2.254".parse().unwrap()), 8));
            assert_eq!(watch.route_to("10.66.1.1".parse().unwrap()).await.unwrap(), None);
            assert_eq!(watch.route_to("172.16.1.1".parse().unwrap()).await.unwrap(), None);
            assert_eq!(watch.route_to("2001:db8::1".parse().unwrap()).await.unwrap(), None);
        });
    }
}
