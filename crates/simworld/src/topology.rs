//! Which routers there are, how they are joined, and what each is configured to do.
//!
//! Every router has a configuration file like any other, which [`Plan::config`] writes and the daemon's own code reads. What
//! it says is kept beside it in plain words for the [reference](crate::reference).

use std::{
    fmt::{self, Write as _},
    net::Ipv4Addr,
};

use net_types::{IfName, Prefix, RouterId};
use rand::{Rng, rngs::StdRng};

/// How two routers are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// An IPsec tunnel: its interface stays whatever becomes of it, and what is learned over it is protected.
    Tunnel,
    /// A wire between two routers of one place.
    Lan,
}

/// A link.
#[derive(Clone, Debug)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// The routers at its ends, by number.
    pub ends: [usize; 2],
    /// Their addresses on it.
    pub addresses: [Ipv4Addr; 2],
}

impl Link {
    /// Which end `router` is.
    ///
    /// # Panics
    /// When it is neither.
    pub fn end(&self, router: usize) -> usize {
        self.ends.iter().position(|end| *end == router).expect("the router is at one end of the link")
    }
}

/// A neighbor as configured.
#[derive(Clone, Debug)]
pub struct Neighbor {
    /// The link that it is on, by number.
    pub link: usize,
    /// Which router it is.
    pub router: usize,
    /// `set local-preference` of what it announces.
    pub local_pref: Option<u32>,
    /// Our AS is on the path so many times more when something is announced to it.
    pub prepend: usize,
    /// It is told our own prefixes only.
    pub own_only: bool,
}

/// A router.
#[derive(Clone, Debug)]
pub struct Router {
    /// Its AS.
    pub asn: u32,
    /// Its neighbors; the one at place `n` is number `n` + 1 for the daemon.
    pub neighbors: Vec<Neighbor>,
    /// What it announces.
    pub prefixes: Vec<Prefix>,
}

/// A whole network.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The routers.
    pub routers: Vec<Router>,
    /// The links.
    pub links: Vec<Link>,
    /// `bgp fail-closed withdrawn`: prefixes stay protected even when the neighbor itself takes them back.
    pub always_closed: bool,
    /// `path-damping`: a path is held down from its first failure on.
    pub damping: bool,
}

/// How large a network is to be.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Pairs of hubs, at least one.
    pub regions: usize,
    /// Sites of each pair.
    pub sites: usize,
    /// Of all sites these many announce a prefix; the others only listen.
    pub origins: usize,
}

impl Size {
    /// A few routers, drawn.
    pub fn small(random: &mut StdRng) -> Self {
        let sites = random.random_range(1..=4);
        Self { regions: random.random_range(1..=2), sites, origins: 4 }
    }
}

/// The number that the kernel gives the interface of a link, the same at both ends.
pub(crate) fn ifindex(link: usize) -> u32 {
    10 + link as u32
}

/// Its name.
pub(crate) fn interface(link: usize) -> IfName {
    format!("t{link}").parse().expect("short and of letters and digits")
}

/// The link of an interface.
pub(crate) fn link_of(ifindex: u32) -> usize {
    ifindex as usize - 10
}

/// Until a session is given up whose neighbor is silent.
pub(crate) const HOLD_SECONDS: u64 = 9;
/// Until a neighbor that restarts is waited for no more.
pub(crate) const RESTART_SECONDS: u64 = 12;
/// Between BFD packets, of which three may be missed.
pub(crate) const BFD_MILLISECONDS: u64 = 1000;

impl Plan {
    /// Draws a network: pairs of hubs in an AS each, joined in a chain, and their sites, each with two or three ways out
    /// by one router, or with two routers.
    pub fn draw(size: Size, random: &mut StdRng) -> Self {
        let mut plan = Self { always_closed: random.random_bool(0.5), ..Self::default() };
        let mut hubs = Vec::new();
        for region in 0..size.regions {
            let asn = 64600 + region as u32;
            let pair = [plan.router(asn), plan.router(asn)];
            plan.internal(pair);
            let prefix = prefix(200 + region);
            pair.into_iter().for_each(|hub| plan.routers[hub].prefixes.push(prefix));
            if let Some(before) = hubs.last().copied() {
                let before: [usize; 2] = before;
                (0..2).for_each(|at| plan.external([before[at], pair[at]], [None; 2], [0; 2], [false; 2]));
            }
            hubs.push(pair);
        }
        for site in 0..size.regions * size.sites {
            let pair = hubs[site % size.regions];
            plan.site(site, pair, site < size.origins, random);
        }
        // Drawn last, so that a seed keeps its network.
        plan.damping = random.random_bool(0.3);
        plan
    }

    /// A site with tunnels to both hubs of a pair; which way it prefers is drawn, and both directions agree on it.
    fn site(&mut self, site: usize, hubs: [usize; 2], origin: bool, random: &mut StdRng) {
        let asn = 65100 + site as u32;
        let first = random.random_range(0..2);
        let hubs = [hubs[first], hubs[1 - first]];
        let routers = if random.random_bool(0.3) {
            let pair = [self.router(asn), self.router(asn)];
            self.internal(pair);
            let agreed = random.random_bool(0.5);
            for (at, router) in pair.into_iter().enumerate() {
                let preference = agreed.then_some(200 - 50 * at as u32);
                self.external([router, hubs[at]], [preference, None], [at, 0], [true, false]);
                if random.random_bool(0.3) {
                    self.external([router, hubs[1 - at]], [Some(90 - at as u32), None], [2 + at, 0], [true, false]);
                }
            }
            pair.to_vec()
        } else {
            let router = self.router(asn);
            // Each WAN has a tunnel to one hub at least.
            for way in 0..random.random_range(2..=4) {
                let preference = 300 - 50 * way as u32;
                self.external([router, hubs[way % 2]], [Some(preference), None], [way, 0], [true, false]);
            }
            vec![router]
        };
        if origin {
            routers.into_iter().for_each(|router| self.routers[router].prefixes.push(prefix(site)));
        }
    }

    fn router(&mut self, asn: u32) -> usize {
        self.routers.push(Router { asn, neighbors: Vec::new(), prefixes: Vec::new() });
        self.routers.len() - 1
    }

    fn link(&mut self, kind: LinkKind, ends: [usize; 2]) -> usize {
        let subnet = u32::try_from(self.links.len() * 4).expect("a few thousand links");
        let base = match kind {
            LinkKind::Tunnel => Ipv4Addr::new(169, 254, 0, 0),
            LinkKind::Lan => Ipv4Addr::new(172, 16, 0, 0),
        };
        let addresses = [1, 2].map(|host| Ipv4Addr::from(u32::from(base) + subnet + host));
        self.links.push(Link { kind, ends, addresses });
        self.links.len() - 1
    }

    /// Two routers of one AS on a wire.
    fn internal(&mut self, ends: [usize; 2]) {
        let link = self.link(LinkKind::Lan, ends);
        for (at, router) in ends.into_iter().enumerate() {
            let neighbor = Neighbor { link, router: ends[1 - at], local_pref: None, prepend: 0, own_only: false };
            self.routers[router].neighbors.push(neighbor);
        }
    }

    /// Two routers of different ASes and a tunnel; what each of them does with it.
    fn external(&mut self, ends: [usize; 2], local_pref: [Option<u32>; 2], prepend: [usize; 2], own_only: [bool; 2]) {
        let link = self.link(LinkKind::Tunnel, ends);
        for (at, router) in ends.into_iter().enumerate() {
            let neighbor = Neighbor {
                link,
                router: ends[1 - at],
                local_pref: local_pref[at],
                prepend: prepend[at],
                own_only: own_only[at],
            };
            self.routers[router].neighbors.push(neighbor);
        }
    }

    /// Leaves routers and links out, so that nobody knows of them. All numbers stay.
    pub(crate) fn leave_out(&mut self, router: impl Fn(usize) -> bool, link: impl Fn(usize) -> bool) {
        for (number, left) in self.routers.iter_mut().enumerate() {
            left.neighbors.retain(|it| !router(number) && !router(it.router) && !link(it.link));
            if router(number) {
                left.prefixes.clear();
            }
        }
    }

    /// Every prefix that anybody announces, in order.
    pub fn prefixes(&self) -> Vec<Prefix> {
        let mut all: Vec<Prefix> = self.routers.iter().flat_map(|router| router.prefixes.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The address of a router's neighbor.
    pub fn address(&self, neighbor: &Neighbor) -> Ipv4Addr {
        let link = &self.links[neighbor.link];
        link.addresses[link.end(neighbor.router)]
    }

    /// A router's own address towards a neighbor.
    pub fn own_address(&self, neighbor: &Neighbor) -> Ipv4Addr {
        let link = &self.links[neighbor.link];
        link.addresses[1 - link.end(neighbor.router)]
    }

    /// A router's BGP identifier: it decides where nothing else does.
    pub fn router_id(&self, router: usize) -> RouterId {
        RouterId::try_from(0x0100_0000 + router as u32).expect("not zero")
    }

    /// A router's configuration file.
    pub fn config(&self, router: usize) -> String {
        let mut text = String::new();
        self.write_config(router, &mut text).expect("writing to a string cannot fail");
        text
    }

    fn write_config(&self, number: usize, out: &mut String) -> std::fmt::Result {
        let router = &self.routers[number];
        writeln!(out, "hostname r{number}\nwan isp\n interface wan0\n gateway 198.51.100.1")?;
        writeln!(out, "ipsec identity own\n id r{number}.example.net\n pre-shared-key file /etc/holdfast/psk")?;
        for neighbor in &router.neighbors {
            if self.links[neighbor.link].kind == LinkKind::Tunnel {
                let (link, far) = (neighbor.link, neighbor.router);
                writeln!(
                    out,
                    "ipsec tunnel t{link}\n remote 203.0.113.1 id r{far}.example.net\n wan isp\n identity own"
                )?;
                writeln!(out, " ip address {}/30", self.own_address(neighbor))?;
            }
        }
        if self.damping {
            writeln!(out, "path-damping failures 1 within 60 hold 5 max 10")?;
        }
        let interval = BFD_MILLISECONDS;
        writeln!(out, "bfd\n profile sim\n  transmit-interval {interval}\n  receive-interval {interval}")?;
        for prefix in &router.prefixes {
            writeln!(out, "ip prefix-list OWN permit {prefix}")?;
        }
        for (at, neighbor) in router.neighbors.iter().enumerate() {
            if let Some(preference) = neighbor.local_pref {
                writeln!(out, "route-map IN{at} permit 10\n set local-preference {preference}")?;
            }
            if neighbor.own_only {
                writeln!(out, "route-map OUT{at} permit 10\n match ip address prefix-list OWN")?;
                if neighbor.prepend > 0 {
                    let own = vec![router.asn.to_string(); neighbor.prepend].join(" ");
                    writeln!(out, " set as-path prepend {own}")?;
                }
            }
        }
        writeln!(out, "router bgp {}\n bgp router-id {}", router.asn, self.router_id(number))?;
        writeln!(out, " bgp bestpath compare-routerid\n timers bgp {} {HOLD_SECONDS}", HOLD_SECONDS / 3)?;
        writeln!(out, " bgp graceful-restart restart-time {RESTART_SECONDS}")?;
        writeln!(out, " bgp graceful-restart stalepath-time {}", 2 * RESTART_SECONDS)?;
        if self.always_closed {
            writeln!(out, " bgp fail-closed withdrawn")?;
        }
        for neighbor in &router.neighbors {
            let (address, asn) = (self.address(neighbor), self.routers[neighbor.router].asn);
            writeln!(out, " neighbor {address} remote-as {asn}\n neighbor {address} bfd profile sim")?;
            writeln!(out, " neighbor {address} timers connect 1")?;
        }
        writeln!(out, " address-family ipv4 unicast")?;
        for prefix in &router.prefixes {
            writeln!(out, "  network {prefix}")?;
        }
        for (at, neighbor) in router.neighbors.iter().enumerate() {
            let address = self.address(neighbor);
            if self.routers[neighbor.router].asn == router.asn {
                writeln!(out, "  neighbor {address} next-hop-self\n  neighbor {address} advertise-best-external")?;
            }
            if neighbor.local_pref.is_some() {
                writeln!(out, "  neighbor {address} route-map IN{at} in")?;
            }
            if neighbor.own_only {
                writeln!(out, "  neighbor {address} route-map OUT{at} out")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protection = if self.always_closed { "fail-closed withdrawn" } else { "fail-closed" };
        let damping = if self.damping { ", path-damping" } else { "" };
        writeln!(f, "{} routers, {} links, {protection}{damping}", self.routers.len(), self.links.len())?;
        let joined = self.routers.iter().enumerate().filter(|(_, router)| !router.neighbors.is_empty());
        for (number, router) in joined.take(24) {
            write!(f, "  router {number}: AS {}", router.asn)?;
            router.prefixes.iter().try_for_each(|prefix| write!(f, ", {prefix}"))?;
            for (at, neighbor) in router.neighbors.iter().enumerate() {
                let kind = self.links[neighbor.link].kind;
                write!(f, "; {at}: router {} by {kind:?} {}", neighbor.router, neighbor.link)?;
                neighbor.local_pref.iter().try_for_each(|preference| write!(f, " ({preference})"))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn prefix(number: usize) -> Prefix {
    let [_, _, high, low] = (number as u32).to_be_bytes();
    Prefix::new(Ipv4Addr::new(10, high, low, 0).into(), 24).expect("no host bits")
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_configuration_is_understood_and_says_what_the_plan_does() {
        for seed in 0..20 {
            let mut random = StdRng::seed_from_u64(seed);
            let size = Size::small(&mut random);
            let plan = Plan::draw(size, &mut random);
            for (number, router) in plan.routers.iter().enumerate() {
                let text = plan.config(number);
                let parsed =
                    config::parse(&text).unwrap_or_else(|mistakes| panic!("{}", mistakes.render("sim", &text)));
                let bgp = parsed.config.bgp.unwrap();
                assert_eq!((bgp.asn.get(), bgp.neighbors.len()), (router.asn, router.neighbors.len()), "{text}");
            }
        }
    }
}
