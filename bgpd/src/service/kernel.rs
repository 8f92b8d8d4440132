//! `show ip route`: what this daemon installs, and what is connected, with what BGP knows of it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use bgp_core::rib::{PathState, PathView};
use bgp_wire::PeerKind;
use config::{
    command::Destination,
    model::{Distances, RedistributeSource},
};
use fib::{Nexthop, WeightedNexthop};
use net_types::{Family, Prefix};
use rpc::Failure;
use tokio::sync::oneshot;

use super::{Output, gone, routes::Rows};
use crate::{
    fib_thread::Table,
    local_routes::{self, Origin, Static, StaticWays},
    peer::PeerHandle,
    show::{
        kernel,
        view::{Aliases, Forwarding, KernelRoute, Learned, RouteProtocol, Way},
    },
    state::{Running, State},
};

/// Routes asked of the FIB at a time: well below a millisecond.
const PIECE: usize = 256;

/// A question to the FIB thread.
async fn ask<T: Send + 'static>(
    state: &State,
    question: impl FnOnce(&dyn Table) -> T + Send + 'static,
) -> Result<T, Failure> {
    let (answer, answered) = oneshot::channel();
    state.fib.ask(move |table| {
        // The asker may have gone away meanwhile.
        let _ = answer.send(question(table));
    });
    answered.await.map_err(gone)
}

/// The routes of a family, in order; only those in use (`fib`), `from` somewhere, or of one destination, if so asked.
pub(super) async fn table(
    state: &State,
    family: Family,
    (fib, from): (bool, Option<Option<RedistributeSource>>),
    destination: Option<Destination>,
    json: bool,
    out: &Output,
) -> Result<(), Failure> {
    let running = state.running();
    let mut prefixes = installed(state, family).await?;
    let known = Arc::new(Known::of(&running, family));
    prefixes.extend(known.connected.keys());
    prefixes.sort_unstable();
    prefixes.dedup();
    match destination {
        Some(Destination::Prefix(only)) => prefixes.retain(|prefix| *prefix == only),
        Some(Destination::Address(address)) => {
            let longest = prefixes.iter().filter(|prefix| prefix.contains(address)).max_by_key(|prefix| prefix.bits());
            prefixes = longest.copied().into_iter().collect();
        }
        None => {}
    }
    let aliases = Aliases::of(&running.config);
    let mut rows = Rows::new(out, if json { "{".into() } else { kernel::HEAD.into() });
    for piece in prefixes.chunks(PIECE) {
        let piece = piece.to_vec();
        let names = Arc::clone(&running.view);
        let known = Arc::clone(&known);
        let found = ask(state, move |table| {
            piece.iter().flat_map(|prefix| routes_to(table, prefix, &names, &known)).collect::<Vec<_>>()
        })
        .await?;
        let found = with_bgp(state, &aliases, found).await?;
        let wanted = |route: &&KernelRoute| route.is_listed(fib, from);
        for routes in found.chunk_by(|a, b| a.prefix == b.prefix) {
            let routes: Vec<&KernelRoute> = routes.iter().filter(wanted).collect();
            let text = || routes.iter().map(|route| kernel::row(route)).collect();
            let row: String = if json { kernel::json_row(&routes, rows.is_empty()) } else { text() };
            if !routes.is_empty() {
                rows.push(&row, routes.len()).await?;
            }
        }
    }
    rows.end(if json { "\n}\n" } else { "" }).await
}

/// What the FIB does not know of the routes that it has.
struct Known {
    connected: BTreeMap<Prefix, (u32, String)>,
    statics: local_routes::Statics,
    /// Neighbors, as sources of paths, and whether each is internal.
    internal: BTreeMap<u32, bool>,
    distances: Distances,
}

impl Known {
    fn of(running: &Running, family: Family) -> Self {
        let connected = running.view.connected().filter(|(prefix, _)| prefix.family() == family);
        let section = running.config.bgp.as_ref().and_then(|bgp| bgp.families.get(&family));
        let internal = |peer: &Arc<PeerHandle>| peer.status().kind() == Some(PeerKind::Internal);
        Self {
            connected: connected.map(|(prefix, link)| (prefix, (link.ifindex, link.name.clone()))).collect(),
            statics: local_routes::statics(&running.config, &running.view, &running.health),
            internal: running.peers.values().map(|peer| (peer.id().0, internal(peer))).collect(),
            distances: section.and_then(|section| section.distance).unwrap_or_default(),
        }
    }
}

/// What BGP adds to its routes in the kernel: the MED, which FRR shows as their metric, and the next hop where the way to
/// it leads by another router.
async fn with_bgp(state: &State, aliases: &Aliases, mut routes: Vec<KernelRoute>) -> Result<Vec<KernelRoute>, Failure> {
    let learned = routes.iter().filter(|route| matches!(route.protocol, RouteProtocol::Bgp { .. }));
    let prefixes: Vec<Prefix> = learned.map(|route| route.prefix).collect();
    if prefixes.is_empty() {
        return Ok(routes);
    }
    let best = state
        .rib
        .query(move |rib, now| {
            let best = |prefix: &Prefix| {
                let view = rib.route(now, prefix)?;
                let in_use = view
                    .paths
                    .into_iter()
                    .filter(|path| matches!(path.state, PathState::Best | PathState::Multipath | PathState::Alternate));
                let hop = |path: PathView| {
                    let attrs = path.effective.unwrap_or(path.received);
                    // As the FIB is told: a router on the link by its link-local address, if it has told that.
                    let gateway = path.resolved?.gateway?;
                    let on_link = attrs.next_hop.link_local().filter(|_| gateway == attrs.next_hop.address());
                    Some((on_link.map_or(gateway, IpAddr::V6), attrs))
                };
                Some((*prefix, in_use.filter_map(hop).collect::<Vec<_>>()))
            };
            prefixes.iter().filter_map(best).collect::<BTreeMap<_, _>>()
        })
        .await
        .map_err(gone)?;
    for route in &mut routes {
        let Some([(_, first), ..]) = best.get(&route.prefix).map(Vec::as_slice) else { continue };
        let attributes = &first.attributes;
        route.metric = attributes.med.unwrap_or(0);
        route.tag = first.install.tag;
        route.distance = first.install.distance.unwrap_or(route.distance);
        route.learned = Some(Learned {
            as_path: attributes.as_path.to_string(),
            communities: aliases.spell(&attributes.communities),
            large_communities: aliases.spell(&attributes.large_communities),
        });
        for way in &mut route.ways {
            let Forwarding::Via { gateway: Some(gateway), .. } = way.forwarding else { continue };
            let mut paths = best.get(&route.prefix).into_iter().flatten();
            let next_hop = paths.find(|(by, _)| *by == gateway).map(|(_, attrs)| attrs.next_hop);
            let elsewhere = next_hop.filter(|hop| hop.link_local().map(IpAddr::V6) != Some(gateway));
            let elsewhere = elsewhere.map(|hop| hop.address());
            way.recursive = elsewhere.filter(|hop| *hop != gateway && hop.is_ipv4() == gateway.is_ipv4());
        }
    }
    Ok(routes)
}

/// Every prefix that the FIB has a route for.
async fn installed(state: &State, family: Family) -> Result<Vec<Prefix>, Failure> {
    let (mut prefixes, mut from) = (Vec::new(), 0);
    loop {
        let (mut piece, next) = ask(state, move |table| {
            let (routes, next) = table.routes(from, PIECE * 16);
            let of_family =
                routes.iter().map(|route| route.prefix).filter(|prefix| prefix.family() == family && prefix.is_plain());
            (of_family.collect::<Vec<_>>(), next)
        })
        .await?;
        prefixes.append(&mut piece);
        match next {
            Some(next) => from = next,
            None => return Ok(prefixes),
        }
    }
}

/// All routes to a prefix; what is connected goes before all others.
fn routes_to(table: &dyn Table, prefix: &Prefix, view: &netwatch::View, known: &Known) -> Vec<KernelRoute> {
    let connected = known.connected.get(prefix).map(|(ifindex, interface)| {
        let forwarding = Forwarding::Via { gateway: None, ifindex: *ifindex, interface: interface.clone() };
        bare(prefix, RouteProtocol::Connected, 0, vec![forwarding.into()])
    });
    let selected = connected.is_none();
    let ours = describe(table, prefix, view, known).map(|ours| KernelRoute { selected, ..ours });
    ours.into_iter().chain(connected).collect()
}

fn bare(prefix: &Prefix, protocol: RouteProtocol, distance: u8, ways: Vec<Way>) -> KernelRoute {
    KernelRoute {
        prefix: *prefix,
        protocol,
        distance,
        metric: 0,
        tag: 0,
        learned: None,
        ways,
        source: None,
        backup: None,
        nexthop_id: None,
        installed: true,
        selected: true,
        protected: false,
    }
}

/// Who wants a static route.
fn protocol_of(own: &StaticWays) -> RouteProtocol {
    match own.origin {
        Origin::Configured => RouteProtocol::Static,
        Origin::Tunnel { .. } => RouteProtocol::Ipsec,
    }
}

/// What the FIB has for a prefix.
fn describe(table: &dyn Table, prefix: &Prefix, view: &netwatch::View, known: &Known) -> Option<KernelRoute> {
    let via = |ifindex: u32, gateway: Option<IpAddr>| {
        let interface = view.link(ifindex).map_or_else(|| format!("if{ifindex}"), |link| link.name.clone());
        Forwarding::Via { gateway, ifindex, interface }
    };
    let route = table.route(prefix)?;
    let candidates = route.list.map_or(&[][..], fib::PathList::paths);
    let own = known.statics.get(prefix);
    let dropped = |own: &StaticWays| !matches!(own.ways.first(), Some(Static::Via { .. }));
    let unreachable = route.list.is_some_and(fib::PathList::is_unreachable);
    let (protocol, distance, tag) = match (candidates.first().map(|first| known.internal.get(&first.source)), own) {
        (Some(Some(true)), _) => (RouteProtocol::Bgp { internal: true }, known.distances.internal, 0),
        (Some(Some(false)), _) => (RouteProtocol::Bgp { internal: false }, known.distances.external, 0),
        (Some(None), Some(own)) => (protocol_of(own), own.distance, own.tag),
        (Some(None), None) => (RouteProtocol::Static, 1, 0),
        (None, Some(own)) if unreachable || dropped(own) => (protocol_of(own), own.distance, own.tag),
        // Adopted, or failing closed: it was learned.
        (None, _) => (RouteProtocol::Bgp { internal: false }, known.distances.external, 0),
    };
    // What was asked to be dropped is not failing.
    let configured = protocol == RouteProtocol::Static;
    let way = |WeightedNexthop { nexthop, weight }| match nexthop {
        Nexthop::Via { ifindex, gateway, .. } => Way { weight, ..via(ifindex, gateway).into() },
        Nexthop::Blackhole(_) => Forwarding::Blackhole.into(),
    };
    let ways: Vec<Way> = match route.installed {
        Some(installed) => installed.nexthops().map(way).collect(),
        None if unreachable => vec![Forwarding::Unreachable.into()],
        None => vec![Forwarding::Blackhole.into()],
    };
    let unused = |candidate: &fib::PathKey| {
        let forwarding = via(candidate.ifindex, candidate.gateway);
        ways.iter().all(|way| way.forwarding != forwarding).then_some(forwarding)
    };
    let backup = candidates.iter().find_map(unused);
    let dropping = ways.iter().all(|way| way.forwarding == Forwarding::Blackhole);
    Some(KernelRoute {
        tag,
        source: route.list.and_then(fib::PathList::source),
        backup,
        protected: dropping && !configured,
        nexthop_id: route.object.map(|object| object.0).filter(|_| !unreachable),
        installed: route.installed.is_some() || (unreachable && route.object.is_some()),
        ..bare(prefix, protocol, distance, ways)
    })
}
