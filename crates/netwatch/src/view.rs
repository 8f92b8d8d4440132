//! Links and addresses as the kernel last told them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use net_types::Prefix;

use crate::routes::{ForeignRoute, Routes};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it; a new interface of the same name gets another.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// The administrator wants it up (`IFF_UP`).
    pub admin_up: bool,
    /// It has carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Largest packet that it takes, in octets.
    pub mtu_octets: u32,
    /// The routing table behind it, of a VRF device.
    pub vrf_table: Option<u32>,
}

impl Link {
    /// Whether packets can pass.
    pub fn is_up(&self) -> bool {
        self.admin_up && self.carrier
    }
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The interface.
    pub ifindex: u32,
    /// Our own address there.
    pub local: IpAddr,
    /// Length of the connected prefix, in bits.
    pub bits: u8,
    /// The other end of a point-to-point link, where one is configured.
    pub peer: Option<IpAddr>,
    /// It is here for the moment and may be another router's next, marked so ([`VIRTUAL`]).
    pub is_virtual: bool,
}

/// What marks an address that routers of a link share (`IFA_PROTO`): the number that our routes carry, too. Kernels before
/// 5.18 keep no marks.
pub const VIRTUAL: u8 = 201;

impl Address {
    /// The prefix that is reachable directly because of this address.
    pub fn connected(&self) -> Option<Prefix> {
        Prefix::new(self.peer.unwrap_or(self.local), self.bits).ok()
    }
}

/// The interfaces of one network namespace and their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    links: BTreeMap<u32, Link>,
    addresses: BTreeMap<(u32, IpAddr, u8), Address>,
    /// Shared, because views are copied more often than routes change.
    routes: Arc<Routes>,
}

impl View {
    /// One of these links and addresses, without routes.
    pub fn of(links: impl IntoIterator<Item = Link>, addresses: impl IntoIterator<Item = Address>) -> Self {
        Self {
            links: links.into_iter().map(|link| (link.ifindex, link)).collect(),
            addresses: addresses.into_iter().map(|one| ((one.ifindex, one.local, one.bits), one)).collect(),
            routes: Arc::default(),
        }
    }

    /// Every interface, by number.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// The interface of this number.
    pub fn link(&self, ifindex: u32) -> Option<&Link> {
        self.links.get(&ifindex)
    }

    /// The interface of this name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// Every address.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.addresses.values()
    }

    /// The addresses of one interface.
    pub fn addresses_of(&self, ifindex: u32) -> impl Iterator<Item = &Address> {
        self.addresses.values().filter(move |address| address.ifindex == ifindex)
    }

    /// The source address that the kernel would prefer on this interface in the family of `toward`: one whose prefix
    /// holds `toward`, else the first; link-local IPv6 only toward link-local, and none that is virtual.
    pub fn source_toward(&self, ifindex: u32, toward: IpAddr) -> Option<IpAddr> {
        let fits = |address: &&Address| {
            address.local.is_ipv4() == toward.is_ipv4()
                && is_link_local(address.local) == is_link_local(toward)
                && !address.is_virtual
        };
        let on_link = |address: &&Address| address.connected().is_some_and(|prefix| prefix.contains(toward));
        self.addresses_of(ifindex)
            .filter(fits)
            .find(on_link)
            .or_else(|| self.addresses_of(ifindex).find(fits))
            .map(|address| address.local)
    }

    /// Whether `address` is one of our own.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.addresses.values().any(|ours| ours.local == address)
    }

    /// Connected prefixes on links that are up, each with its interface; host routes to ourselves and link-local
    /// prefixes are not among them, nor is what only a virtual address connects.
    pub fn connected(&self) -> impl Iterator<Item = (Prefix, &Link)> {
        let lasting = |address: &&Address| !is_link_local(address.local) && !address.is_virtual;
        self.addresses.values().filter(lasting).filter_map(|address| {
            let link = self.links.get(&address.ifindex).filter(|link| link.is_up())?;
            Some((address.connected()?, link))
        })
    }

    /// Routes that others have in the kernel's main table and that lead over a link which is up, or nowhere: the one of the
    /// least metric for each prefix, in order. There are none unless they are [followed](crate::Watch::follow_routes).
    pub fn foreign_routes(&self) -> impl Iterator<Item = (Prefix, &ForeignRoute)> {
        self.routes.best(|route| self.is_usable(route))
    }

    /// Whether a route of others is there to exactly this prefix.
    pub fn has_foreign_route(&self, prefix: &Prefix) -> bool {
        self.routes.of(prefix).any(|route| self.is_usable(route))
    }

    fn is_usable(&self, route: &ForeignRoute) -> bool {
        route.target.ifindex().is_none_or(|ifindex| self.links.get(&ifindex).is_some_and(Link::is_up))
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }

    pub(crate) fn routes_mut(&mut self) -> &mut Routes {
        Arc::make_mut(&mut self.routes)
    }

    /// The link on which `address` is directly reachable: the longest connected prefix that holds it. Our own addresses
    /// are reachable on no link.
    pub fn on_link(&self, address: IpAddr) -> Option<&Link> {
        if self.is_local(address) {
            return None;
        }
        self.connected()
            .filter(|(prefix, _)| prefix.contains(address))
            .max_by_key(|(prefix, _)| prefix.bits())
            .map(|(_, link)| link)
    }

    pub(crate) fn put_link(&mut self, link: Link) -> bool {
        let before = self.links.insert(link.ifindex, link.clone());
        before != Some(link)
    }

    pub(crate) fn remove_link(&mut self, ifindex: u32) -> Option<Link> {
        self.addresses.retain(|_, address| address.ifindex != ifindex);
        self.links.remove(&ifindex)
    }

    pub(crate) fn put_address(&mut self, address: Address) -> bool {
        self.addresses.insert((address.ifindex, address.local, address.bits), address) != Some(address)
    }

    pub(crate) fn remove_address(&mut self, address: &Address) -> bool {
        self.addresses.remove(&(address.ifindex, address.local, address.bits)).is_some()
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local() || v6 == Ipv6Addr::LOCALHOST)
        || matches!(address, IpAddr::V4(v4) if v4.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let links = [(2, "eth0", true), (3, "tun1", true), (4, "tun2", false)].map(|(ifindex, name, carrier)| Link {
            ifindex,
            name: name.into(),
            admin_up: true,
            carrier,
            mtu_octets: 1500,
            vrf_table: None,
        });
        let addresses = [(2, "10.0.0.1", 8), (3, "169.254.1.2", 30), (4, "169.254.2.2", 30), (3, "10.9.0.1", 24)];
        let addresses = addresses.map(|(ifindex, local, bits)| Address {
            ifindex,
            local: local.parse().unwrap(),
            bits,
            peer: None,
            is_virtual: false,
        });
        View::of(links, addresses)
    }

    #[test]
    fn the_longest_connected_prefix_wins() {
        let view = view();
        let name = |address: &str| view.on_link(address.parse().unwrap()).map(|link| link.name.clone());
        assert_eq!(name("10.9.0.7").as_deref(), Some("tun1"));
        assert_eq!(name("10.8.0.7").as_deref(), Some("eth0"));
    }

    #[test]
    fn neither_a_dead_link_nor_our_own_address_is_a_way() {
        let view = view();
        assert_eq!(view.on_link("169.254.2.1".parse().unwrap()), None);
        assert_eq!(view.on_link("169.254.1.2".parse().unwrap()), None);
    }

    #[test]
    fn a_link_takes_its_addresses_with_it() {
        let mut view = view();
        assert_eq!(view.remove_link(3).map(|link| link.name).as_deref(), Some("tun1"));
        assert_eq!(view.addresses_of(3).count(), 0);
    }

    #[test]
    fn a_virtual_address_is_local_and_no_more() {
        let mut view = view();
        let shared = Address { ifindex: 2, local: "10.0.0.0".parse().unwrap(), bits: 32, peer: None, is_virtual: true };
        let connected = view.connected().count();
        view.put_address(shared);
        assert!(view.is_local(shared.local));
        assert_eq!(view.connected().count(), connected);
        assert_eq!(view.source_toward(2, "10.8.0.7".parse().unwrap()), Some("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn the_source_is_chosen_on_the_destinations_prefix() {
        let view = view();
        assert_eq!(view.source_toward(3, "10.9.0.9".parse().unwrap()), Some("10.9.0.1".parse().unwrap()));
        assert_eq!(view.source_toward(3, "fd00::1".parse().unwrap()), None);
    }
}
