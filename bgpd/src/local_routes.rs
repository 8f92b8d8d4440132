//! What this router originates, and the static routes that it installs: worked out from configuration and links.
//!
//! Both are plain functions to a whole desired state; the caller applies the [difference] to what it had. So a reload, a
//! link that comes and a first start are the same thing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bgp_core::rib::{LocalRoute, LocalSource};
use bgp_wire::Community;
use config::model::{Config, RedistributeSource, StaticTarget};
use net_types::{IfName, Prefix};
use netwatch::{ForeignTarget, View};

use crate::{
    reverse_routes,
    static_health::{Health, Hop},
};

/// Ways that share the packets of a static route at most, as in FRR.
const MOST_WAYS: usize = 64;

/// Routes that this router originates, by why.
pub type Originated = BTreeMap<(LocalSource, Prefix), LocalRoute>;

/// Where a static route leads, as the FIB takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Static {
    /// Through this interface, by way of this router where there is one.
    Via {
        /// The interface.
        ifindex: u32,
        /// The router.
        gateway: Option<IpAddr>,
        /// Only while BFD to that router is up.
        bfd: bool,
    },
    /// Nowhere.
    Blackhole,
    /// Nowhere, and the sender is told.
    Reject,
}

/// The static route of a prefix that can be installed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticWays {
    /// Where it leads; several share the packets, and never is one of several [dropped](Static::Blackhole).
    pub ways: Vec<Static>,
    /// What stands by, best first: the ways of its other lines, farther or not fit for use now.
    pub alternates: Vec<Static>,
    /// Administrative distance; the farthest while nothing of it leads anywhere, so that anybody else's route is used, and
    /// packets are dropped where there is none.
    pub distance: u8,
    /// Tag; 0 for none.
    pub tag: u32,
    /// Who wants it.
    pub origin: Origin,
}

/// Who wants a static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `ip route` and `ipv6 route`
    Configured,
    /// `reverse-route` of a tunnel.
    Tunnel {
        /// What it is announced with, sorted.
        communities: Vec<Community>,
    },
}

/// One line that has a say in where a prefix leads.
#[derive(Clone, Debug)]
pub struct Line {
    /// Where it would lead.
    pub way: Static,
    /// Administrative distance.
    pub distance: u8,
    /// Tag; 0 for none.
    pub tag: u32,
    /// Who wants it.
    pub origin: Origin,
}

/// Static routes that can be installed now.
pub type Statics = BTreeMap<Prefix, StaticWays>;

impl StaticWays {
    /// The distance of a route that leads nowhere.
    pub const NOWHERE: u8 = u8::MAX;

    /// Whether it is of use to anybody else.
    pub fn leads(&self) -> bool {
        self.distance < Self::NOWHERE
    }
}

impl Static {
    fn is_fit(&self, health: &Health) -> bool {
        match self {
            Self::Via { ifindex, gateway, bfd } => health.leads(*ifindex, *gateway, *bfd),
            Self::Blackhole | Self::Reject => true,
        }
    }
}

/// The static routes whose next hop is on a link that is up. Of several for a prefix those of the least distance are used of
/// which any is fit: its tunnel is up, and its BFD where it asks for that. All of them then share the packets; what is to be
/// dropped only where nothing as near leads anywhere. The others stand by.
pub fn statics(config: &Config, view: &View, health: &Health) -> Statics {
    let configured = config.static_routes.iter().filter_map(|route| {
        let line =
            Line { way: way(route, view)?, distance: route.distance, tag: route.tag, origin: Origin::Configured };
        Some((route.prefix, line))
    });
    let mut lines: BTreeMap<Prefix, Vec<Line>> = BTreeMap::new();
    for (prefix, line) in configured.chain(reverse_routes::lines(config, view, health)) {
        lines.entry(prefix).or_default().push(line);
    }
    lines.into_iter().map(|(prefix, lines)| (prefix, settle(lines, health))).collect()
}

fn settle(mut lines: Vec<Line>, health: &Health) -> StaticWays {
    let leads = |way: &Static| matches!(way, Static::Via { .. });
    // What leads somewhere goes before what drops as near.
    let tier = |line: &Line| (line.distance, !leads(&line.way));
    lines.sort_by_key(tier);
    let fit = lines.iter().find(|line| line.way.is_fit(health)).map(tier);
    let chosen = fit.or_else(|| lines.first().map(tier));
    let (best, others): (Vec<Line>, Vec<Line>) = lines.into_iter().partition(|line| Some(tier(line)) == chosen);
    let (tag, origin) = best.first().map_or((0, Origin::Configured), |line| (line.tag, line.origin.clone()));
    let distance = fit.map_or(StaticWays::NOWHERE, |(distance, _)| distance);
    let ways = |lines: Vec<Line>| lines.into_iter().map(|line| line.way);
    let most = if chosen.is_some_and(|(_, drops)| !drops) { MOST_WAYS } else { 1 };
    StaticWays {
        ways: ways(best).take(most).collect(),
        alternates: ways(others).filter(leads).take(MOST_WAYS).collect(),
        distance,
        tag,
        origin,
    }
}

/// The routers whose BFD sessions static routes depend on.
pub fn watched(statics: &Statics) -> BTreeSet<Hop> {
    let ways = statics.values().flat_map(|route| route.ways.iter().chain(&route.alternates));
    ways.filter_map(|way| match way {
        Static::Via { ifindex, gateway: Some(gateway), bfd: true } => Some((*ifindex, *gateway)),
        _ => None,
    })
    .collect()
}

/// Where a line leads while links are as they are.
fn way(route: &config::model::StaticRoute, view: &View) -> Option<Static> {
    let bfd = route.bfd.is_some();
    let up = |name: &IfName| view.link_named(name.as_str()).filter(|link| link.is_up()).map(|link| link.ifindex);
    match &route.target {
        StaticTarget::Blackhole => Some(Static::Blackhole),
        StaticTarget::Reject => Some(Static::Reject),
        StaticTarget::Interface(name) => up(name).map(|ifindex| Static::Via { ifindex, gateway: None, bfd }),
        StaticTarget::Gateway { address, interface } => {
            let ifindex = match interface {
                Some(name) => up(name),
                None => view.on_link(*address).map(|link| link.ifindex),
            };
            ifindex.map(|ifindex| Static::Via { ifindex, gateway: Some(*address), bfd })
        }
    }
}

/// What `network` and `redistribute` of the running configuration originate while links are as they are.
///
/// With `bgp network import-check` a `network` is idle unless there is another route to exactly it: connected, static
/// or of others in the kernel. One of BGP's own does not count, as it would hold itself up.
pub fn originated(config: &Config, view: &View, health: &Health) -> Originated {
    let mut wanted = Originated::new();
    let Some(bgp) = &config.bgp else { return wanted };
    let statics = statics(config, view, health);
    let connected = || view.connected().map(|(prefix, _)| prefix).filter(|prefix| !is_loopback(prefix));
    // What only keeps packets from leaving in the clear is no route.
    let is_static =
        |prefix: &Prefix| statics.get(prefix).is_some_and(|route| route.leads() || route.origin == Origin::Configured);
    let is_routed = |prefix: &Prefix| {
        connected().any(|other| other == *prefix) || is_static(prefix) || view.has_foreign_route(prefix)
    };
    for (family, section) in &bgp.families {
        // As FRR has it where it is to be FRR's: a route without a metric is announced with the least.
        let plain = LocalRoute { metric: bgp.frr_defaults.then_some(0), ..LocalRoute::default() };
        for prefix in section.networks.keys() {
            let idle = bgp.checks.network_import && !is_routed(prefix);
            wanted.insert((LocalSource::Network, *prefix), LocalRoute { idle, ..plain.clone() });
        }
        for (source, redistribute) in &section.redistribute {
            let mut originate = |source, prefix: Prefix, route: LocalRoute| {
                if prefix.family() == *family {
                    let metric = redistribute.metric.or(route.metric);
                    wanted.insert((source, prefix), LocalRoute { metric, ..route });
                }
            };
            match source {
                RedistributeSource::Connected => {
                    connected().for_each(|prefix| originate(LocalSource::Connected, prefix, plain.clone()));
                }
                RedistributeSource::Static => {
                    let ours = |(_, route): &(_, &StaticWays)| route.leads() && route.origin == Origin::Configured;
                    for (prefix, StaticWays { ways, tag, .. }) in statics.iter().filter(ours) {
                        let next_hop = match ways.first() {
                            Some(Static::Via { gateway, .. }) => *gateway,
                            Some(Static::Blackhole | Static::Reject) | None => None,
                        };
                        originate(LocalSource::Static, *prefix, LocalRoute { tag: *tag, next_hop, ..plain.clone() });
                    }
                }
                // Beyond a tunnel is nobody but through us.
                RedistributeSource::Ipsec => {
                    for (prefix, route) in statics.iter().filter(|(_, route)| route.leads()) {
                        let StaticWays { origin: Origin::Tunnel { communities }, tag, .. } = route else { continue };
                        let local = LocalRoute { tag: *tag, communities: communities.clone(), ..plain.clone() };
                        originate(LocalSource::Ipsec, *prefix, local);
                    }
                }
                // Those that forwarding goes by: what is connected or static goes before them.
                RedistributeSource::Kernel => view
                    .foreign_routes()
                    .filter(|(prefix, _)| !is_static(prefix) && connected().all(|other| other != *prefix))
                    .for_each(|(prefix, route)| {
                        let next_hop = match route.target {
                            ForeignTarget::Via { gateway, .. } => gateway,
                            ForeignTarget::Blackhole | ForeignTarget::Unreachable => None,
                        };
                        let metric = Some(route.metric);
                        originate(LocalSource::Kernel, prefix, LocalRoute { metric, next_hop, ..plain.clone() });
                    }),
            }
        }
    }
    wanted
}

/// Whether what `config` originates depends on routes that others put into the kernel.
pub fn asks_for_foreign_routes(config: &Config) -> bool {
    let Some(bgp) = &config.bgp else { return false };
    bgp.families.values().any(|section| {
        section.redistribute.contains_key(&RedistributeSource::Kernel)
            || bgp.checks.network_import && !section.networks.is_empty()
    })
}

fn is_loopback(prefix: &Prefix) -> bool {
    let loopback_v4 = prefix.contains(IpAddr::V4(Ipv4Addr::LOCALHOST)) && prefix.bits() >= 8;
    loopback_v4 || *prefix == Prefix::host(IpAddr::V6(Ipv6Addr::LOCALHOST))
}

/// How one desired state becomes the next: what to put (again) and what to take out.
pub fn difference<K: Ord + Clone, V: PartialEq + Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> (Vec<(K, V)>, Vec<K>) {
    let put = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    let take = before.keys().filter(|key| !after.contains_key(key));
    (put.map(|(key, value)| (key.clone(), value.clone())).collect(), take.cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_what_changed() {
        let before = BTreeMap::from([(1, 'a'), (2, 'b'), (3, 'c')]);
        let after = BTreeMap::from([(1, 'a'), (2, 'x'), (4, 'd')]);
        assert_eq!(difference(&before, &after), (vec![(2, 'x'), (4, 'd')], vec![3]));
        assert_eq!(difference(&after, &after), (vec![], vec![]));
    }

    #[test]
    fn routes_follow_the_links_that_they_need() {
        let worker = std::thread::spawn(|| {
            sys::netns::unshare_current_thread().expect("needs CAP_SYS_ADMIN to make a network namespace");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let ip = |arguments: &str| {
                    let done = std::process::Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
                    assert!(done.success(), "ip {arguments}");
                };
                ip("link add va type veth peer name vb");
                ip("link set va up");
                ip("link set vb up");
                ip("addr add 192.0.2.1/24 dev va");
                ip("route add 10.3.0.0/16 via 192.0.2.7 metric 30");
                let prefix = |text: &str| text.parse::<Prefix>().unwrap();
                let route = |to: &str, target, distance| config::model::StaticRoute {
                    prefix: prefix(to),
                    target,
                    distance,
                    tag: u32::from(distance),
                    bfd: None,
                };
                let gateway = |text: &str| StaticTarget::Gateway { address: text.parse().unwrap(), interface: None };
                let family = config::model::FamilyConfig {
                    networks: [(prefix("10.9.0.0/16"), None), (prefix("10.3.0.0/16"), None)].into(),
                    redistribute: [
                        (RedistributeSource::Static, Default::default()),
                        (RedistributeSource::Kernel, Default::default()),
                        (
                            RedistributeSource::Connected,
                            config::model::Redistribute { metric: Some(5), route_map: None },
                        ),
                    ]
                    .into(),
                    ..Default::default()
                };
                let mut bgp = config::model::Bgp::new(net_types::Asn::literal(65001));
                bgp.families.insert(net_types::Family::Ipv4Unicast, family);
                let mut config = Config {
                    static_routes: vec![
                        route("10.1.0.0/16", gateway("192.0.2.9"), 1),
                        route("10.1.0.0/16", StaticTarget::Blackhole, 200),
                        route("10.1.0.0/16", gateway("192.0.2.8"), 1),
                        route("10.2.0.0/16", gateway("198.51.100.1"), 1),
                    ],
                    bgp: Some(bgp),
                    ..Config::default()
                };
                assert!(asks_for_foreign_routes(&config));
                let mut watch = netwatch::Watch::start().await.unwrap();
                watch.follow_routes(201).unwrap();
                while watch.view().foreign_routes().next().is_none() {
                    watch.changed().await.unwrap();
                }
                let via = statics(&config, watch.view(), &Health::default());
                let StaticWays { ways, distance: 1, tag: 1, .. } = &via[&prefix("10.1.0.0/16")] else {
                    panic!("{via:?}");
                };
                assert!(matches!(ways[..], [Static::Via { .. }, Static::Via { .. }]), "both as near");
                assert_eq!(via.len(), 1, "a gateway on no link is no way");
                let all = originated(&config, watch.view(), &Health::default());
                assert_eq!(
                    all.keys().map(|(source, prefix)| (*source, prefix.to_string())).collect::<Vec<_>>(),
                    [
                        (LocalSource::Network, "10.3.0.0/16".to_owned()),
                        (LocalSource::Network, "10.9.0.0/16".to_owned()),
                        (LocalSource::Connected, "192.0.2.0/24".to_owned()),
                        (LocalSource::Static, "10.1.0.0/16".to_owned()),
                        (LocalSource::Kernel, "10.3.0.0/16".to_owned()),
                    ]
                );
                let kernel = &all[&(LocalSource::Kernel, prefix("10.3.0.0/16"))];
                assert_eq!((kernel.metric, kernel.next_hop), (Some(30), Some("192.0.2.7".parse().unwrap())));
                assert_eq!(
                    all[&(LocalSource::Static, prefix("10.1.0.0/16"))].next_hop,
                    Some("192.0.2.9".parse().unwrap())
                );
                config.bgp.as_mut().unwrap().checks.network_import = true;
                let networks = |watch: &netwatch::Watch| {
                    let all = originated(&config, watch.view(), &Health::default()).into_iter();
                    let networks = all.filter(|((source, _), route)| *source == LocalSource::Network && !route.idle);
                    networks.map(|((_, prefix), _)| prefix.to_string()).collect::<Vec<_>>()
                };
                assert_eq!(networks(&watch), ["10.3.0.0/16"], "nothing leads to the other");
                ip("route add 10.9.0.0/16 dev va");
                while networks(&watch).len() < 2 {
                    watch.changed().await.unwrap();
                }

                ip("link set vb down");
                while watch.view().link_named("va").is_some_and(netwatch::Link::is_up) {
                    watch.changed().await.unwrap();
                }
                let dropped = StaticWays {
                    ways: vec![Static::Blackhole],
                    alternates: vec![],
                    distance: 200,
                    tag: 200,
                    origin: Origin::Configured,
                };
                assert_eq!(statics(&config, watch.view(), &Health::default())[&prefix("10.1.0.0/16")], dropped);
                assert!(
                    !originated(&config, watch.view(), &Health::default())
                        .contains_key(&(LocalSource::Connected, prefix("192.0.2.0/24")))
                );
            });
        });
        worker.join().unwrap();
    }

    /// Lines as `(distance, way)`; what comes of them as interfaces (0 for dropped) in use, standing by, and the distance.
    fn settled(lines: &[(u8, u32, bool)], health: &Health) -> (Vec<u32>, Vec<u32>, u8) {
        let gateway: IpAddr = "192.0.2.1".parse().unwrap();
        let routes = lines.iter().map(|(distance, interface, bfd)| {
            let way = match interface {
                0 => Static::Blackhole,
                ifindex => Static::Via { ifindex: *ifindex, gateway: Some(gateway), bfd: *bfd },
            };
            Line { way, distance: *distance, tag: 0, origin: Origin::Configured }
        });
        let StaticWays { ways, alternates, distance, .. } = settle(routes.collect(), health);
        let interfaces = |ways: Vec<Static>| {
            ways.iter().map(|way| if let Static::Via { ifindex, .. } = way { *ifindex } else { 0 }).collect()
        };
        (interfaces(ways), interfaces(alternates), distance)
    }

    #[test]
    fn the_nearest_ways_that_are_fit_are_used_and_the_others_stand_by() {
        let lines = [(1, 11, false), (1, 12, false), (50, 13, false), (250, 0, false)];
        let dead = |interfaces: &[u32]| Health { dead: interfaces.iter().copied().collect(), ..Health::default() };
        assert_eq!(settled(&lines, &dead(&[])), (vec![11, 12], vec![13], 1));
        // One of those that share is left: the FIB leaves out the other by itself.
        assert_eq!(settled(&lines, &dead(&[12])), (vec![11, 12], vec![13], 1));
        assert_eq!(settled(&lines, &dead(&[11, 12])), (vec![13], vec![11, 12], 50));
        // What drops is always fit, and farther than what leads.
        assert_eq!(settled(&lines, &dead(&[11, 12, 13])), (vec![0], vec![11, 12, 13], 250));
        // With nothing fit left the route stays, as the last that anybody would use, and drops.
        let (ways, others, distance) = settled(&lines[..3], &dead(&[11, 12, 13]));
        assert_eq!((ways, others, distance), (vec![11, 12], vec![13], StaticWays::NOWHERE));
    }

    #[test]
    fn a_way_that_asks_for_bfd_is_fit_while_its_router_answers() {
        let lines = [(1, 11, true), (20, 12, false)];
        assert_eq!(settled(&lines, &Health::default()), (vec![12], vec![11], 20));
        let gateway: IpAddr = "192.0.2.1".parse().unwrap();
        let answering = Health { answering: [(11, gateway)].into(), ..Health::default() };
        assert_eq!(settled(&lines, &answering), (vec![11], vec![12], 1));
    }

    #[test]
    fn loopback_is_not_connected_to_anything() {
        for (text, loopback) in [("127.0.0.0/8", true), ("::1/128", true), ("10.0.0.0/8", false), ("0.0.0.0/0", false)]
        {
            assert_eq!(is_loopback(&text.parse().unwrap()), loopback, "{text}");
        }
    }
}
