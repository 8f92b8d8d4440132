//! Keeps a [`View`] true: one dump, then notifications; after a lost one a dump again.

use std::{collections::BTreeSet, io, net::IpAddr, pin::pin};

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType},
};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};

use crate::{Address, Link, View};

type Messages =
    Box<dyn futures_util::Stream<Item = netlink_packet_core::NetlinkMessage<RouteNetlinkMessage>> + Send + Unpin>;

/// A [`View`] and the subscription that keeps it true. Lives on a tokio runtime.
pub struct Watch {
    view: View,
    handle: Handle,
    messages: Messages,
}

/// What became different in the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link came, or its flags or MTU changed.
    Link(Link),
    /// A link went, and its addresses with it.
    LinkGone(Link),
    /// An address came to or went from this interface.
    Address(u32),
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
        let mut watch = Self { view: View::default(), handle, messages };
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

    /// Waits until the view has changed and says how. Cancelling it loses nothing but a resynchronisation under way,
    /// which then starts anew.
    ///
    /// # Errors
    /// When the netlink connection ended, or a resynchronisation failed.
    pub async fn changed(&mut self) -> io::Result<Change> {
        loop {
            let message = self.messages.next().await.ok_or_else(|| io::Error::other("rtnetlink connection ended"))?;
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => {
                    if let Some(change) = self.apply(inner) {
                        return Ok(change);
                    }
                }
                NetlinkPayload::Overrun(_) => {
                    tracing::warn!("rtnetlink notifications were lost; reading links and addresses anew");
                    self.view = self.read_all().await?;
                    return Ok(Change::Everything);
                }
                _ => {}
            }
        }
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
                let address = address(&message)?;
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
            address(&message).map(|address| view.put_address(address));
        }
        let known: BTreeSet<u32> = view.links().map(|link| link.ifindex).collect();
        let orphans: Vec<Address> = view.addresses().filter(|a| !known.contains(&a.ifindex)).copied().collect();
        for orphan in orphans {
            view.remove_address(&orphan); // its link went between the two dumps
        }
        Ok(view)
    }
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
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu_octets = *mtu,
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut far) = (None, None);
    for attribute in &message.attributes {
        match attribute {
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
    })
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
