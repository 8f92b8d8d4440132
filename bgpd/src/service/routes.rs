//! `show bgp … unicast` and `show ip route`: tables by the piece, single destinations in full.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::SystemTime};

use bgp_core::{
    PeerId,
    rib::{PathAttrs, PathState, PathView, RouteView, Source},
    validation::ValidationState,
};
use bgp_wire::PeerKind;
use config::{
    command::{Destination, NeighborRoutes, Paths},
    model::{NeighborId, RedistributeSource},
};
use fib::{Nexthop, WeightedNexthop};
use net_types::{Family, IfName, Prefix, RouterId};
use rpc::{Failure, Text};
use serde_json::json;
use tokio::sync::oneshot;

use super::{Output, gone, neighbors::speaker, not_found};
use crate::{
    fib_thread::Table,
    rib_thread::RouteWalk,
    show::{
        kernel, route, table,
        view::{Aliases, Forwarding, KernelRoute, Learned, Path, PathSource, Route, RouteProtocol, Speaker, Way},
    },
    state::{Running, State},
};

/// Routes asked of the FIB at a time: well below a millisecond.
const PIECE: usize = 256;

/// Who the numbers in the table are.
pub(super) struct Peers(BTreeMap<PeerId, Known>);

/// What is known of one of them.
struct Known {
    address: IpAddr,
    router_id: Option<RouterId>,
    kind: Option<PeerKind>,
    hostname: Option<String>,
    link: Option<IfName>,
}

impl Peers {
    pub(super) fn of(running: &Running) -> Self {
        let entry = |(address, peer): (&IpAddr, &Arc<crate::peer::PeerHandle>)| {
            let status = peer.status();
            let (router_id, kind, hostname) = (status.router_id(), status.kind(), status.hostname());
            (peer.id(), Known { address: *address, router_id, kind, hostname, link: status.spec.link })
        };
        Self(running.peers.iter().map(entry).collect())
    }

    fn source(&self, source: Source) -> PathSource {
        let Source::Peer(id) = source else { return PathSource::Local };
        // A neighbor that was taken out a moment ago is known to nobody any more.
        let known = self.0.get(&id);
        let peer = known.map_or(IpAddr::from([0, 0, 0, 0]), |known| known.address);
        let router_id = known.and_then(|known| known.router_id);
        match known.and_then(|known| known.kind) {
            Some(PeerKind::Internal) => PathSource::Internal { peer, router_id },
            _ => PathSource::External { peer, router_id },
        }
    }

    fn hostname(&self, source: Source) -> Option<String> {
        let Source::Peer(id) = source else { return None };
        self.0.get(&id)?.hostname.clone()
    }

    fn link(&self, source: Source) -> Option<IfName> {
        let Source::Peer(id) = source else { return None };
        self.0.get(&id)?.link.clone()
    }

    pub(super) fn route(&self, view: &RouteView, now: SystemTime) -> Route {
        // What policy or a loop check refused is no route; `received-routes` and `filtered-routes` have it.
        self.route_of(view, now, |path| !matches!(path.state, PathState::Refused(_)))
    }

    /// The paths that are `kept`.
    fn route_of(&self, view: &RouteView, now: SystemTime, kept: impl Fn(&PathView) -> bool) -> Route {
        let paths = view.paths.iter().filter(|path| kept(path)).map(|path| {
            let reason = view.decided.filter(|_| path.state == PathState::Best).map(route::reason);
            Path { reason, ..self.path(path, now) }
        });
        let mut paths: Vec<Path> = paths.collect();
        let shared = paths.iter().any(|path| path.multipath);
        paths.iter_mut().filter(|path| path.best).for_each(|best| best.multipath = shared);
        Route { prefix: view.prefix, version: 0, paths, advertised_to: Vec::new() }
    }

    fn path(&self, view: &PathView, now: SystemTime) -> Path {
        let attrs = view.effective.as_ref().unwrap_or(&view.received);
        let usable =
            matches!(view.state, PathState::Best | PathState::Multipath | PathState::Alternate | PathState::Valid);
        Path {
            valid: usable,
            best: view.state == PathState::Best,
            multipath: view.state == PathState::Multipath,
            alternate: view.state == PathState::Alternate,
            path_id: view.path_id,
            stale: view.stale,
            validation: view.validation,
            labels: view.labels.iter().map(|label| label.get()).collect(),
            igp_metric: view.resolved.map_or(0, |resolved| resolved.metric),
            updated: now - view.age,
            ..self.bare(view.source, attrs, now)
        }
    }

    /// A path of which no more is known than its attributes.
    fn bare(&self, source: Source, attrs: &PathAttrs, now: SystemTime) -> Path {
        Path {
            source: self.source(source),
            attributes: Arc::new(attrs.attributes.clone()),
            next_hop: attrs.next_hop.address(),
            link_local: attrs.next_hop.link_local().map(IpAddr::V6),
            igp_metric: 0,
            weight: attrs.weight,
            valid: true,
            best: false,
            multipath: false,
            alternate: false,
            path_id: None,
            stale: false,
            validation: None,
            labels: Vec::new(),
            reason: None,
            hostname: self.hostname(source),
            link: self.link(source),
            updated: now,
        }
    }
}

/// Collects rows and sends them by the piece.
pub(super) struct Rows<'a> {
    out: &'a Output,
    buffer: String,
    routes: usize,
    paths: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn new(out: &'a Output, head: String) -> Self {
        Self { out, buffer: head, routes: 0, paths: 0 }
    }

    pub(super) async fn push(&mut self, row: &str, paths: usize) -> Result<(), Failure> {
        self.buffer.push_str(row);
        self.routes += 1;
        self.paths += paths;
        if self.buffer.len() >= Text::PIECE {
            self.out.text(std::mem::take(&mut self.buffer)).await?;
        }
        Ok(())
    }

    /// Whether nothing was put in.
    pub(super) fn is_empty(&self) -> bool {
        self.routes == 0
    }

    pub(super) async fn end(mut self, foot: &str) -> Result<(), Failure> {
        self.buffer.push_str(foot);
        self.out.text(self.buffer).await
    }

    pub(super) async fn route(&mut self, route: &Route, json: bool, speaker: &Speaker) -> Result<(), Failure> {
        let row = if json { table::json_row(route, self.routes == 0, speaker) } else { table::rows(route) };
        self.push(&row, route.paths.len()).await
    }

    pub(super) async fn table_end(self, json: bool) -> Result<(), Failure> {
        let (routes, paths) = (self.routes, self.paths);
        let foot = if json { table::json_foot(routes, paths) } else { table::foot(routes, paths) };
        self.end(&foot).await
    }
}

fn everything(family: Family) -> Prefix {
    match family {
        Family::Ipv4Unicast | Family::Ipv4Vpn => Prefix::DEFAULT_V4,
        Family::Ipv6Unicast | Family::Ipv6Vpn => Prefix::DEFAULT_V6,
    }
}

fn head(speaker: &Speaker, json: bool) -> String {
    if json { table::json_head(speaker, 0) } else { table::head(speaker, 0) }
}

pub(super) async fn table(
    state: &State,
    family: Family,
    detail: bool,
    json: bool,
    out: &Output,
) -> Result<(), Failure> {
    let walk = state.rib.walk(everything(family)).await.map_err(gone)?;
    if detail {
        return in_detail(state, walk, json, out, |peers, view, now| Some(peers.route(view, now))).await;
    }
    walked(state, walk, json, out, |peers, view, now| Some(peers.route(view, now))).await
}

/// Routes within `within` with a path that passes, and of each only those paths.
pub(super) async fn passing(
    state: &State,
    within: Prefix,
    json: bool,
    out: &Output,
    passes: impl Fn(&Prefix, &PathView) -> bool,
) -> Result<(), Failure> {
    let walk = state.rib.walk(within).await.map_err(gone)?;
    walked(state, walk, json, out, |peers, view, now| {
        let paths = view.paths.iter().filter(|path| passes(&view.prefix, path)).map(|path| peers.path(path, now));
        let route = Route { paths: paths.collect(), ..peers.route(view, now) };
        (!route.paths.is_empty()).then_some(route)
    })
    .await
}

/// `show bgp … rpki STATE`: what policy refused is among them, for to refuse what is invalid is what most do.
pub(super) async fn by_validation(
    state: &State,
    family: Family,
    wanted: ValidationState,
    json: bool,
    out: &Output,
) -> Result<(), Failure> {
    let walk = state.rib.walk(everything(family)).await.map_err(gone)?;
    walked(state, walk, json, out, |peers, view, now| {
        let route = peers.route_of(view, now, |path| path.validation == Some(wanted));
        (!route.paths.is_empty()).then_some(route)
    })
    .await
}

async fn walked(
    state: &State,
    mut walk: RouteWalk,
    json: bool,
    out: &Output,
    render: impl Fn(&Peers, &RouteView, SystemTime) -> Option<Route>,
) -> Result<(), Failure> {
    let running = state.running();
    let (speaker, peers, now) = (speaker(&running)?, Peers::of(&running), SystemTime::now());
    let mut rows = Rows::new(out, head(&speaker, json));
    while let Some(views) = walk.next().await.map_err(gone)? {
        let rendered = views.iter().filter_map(|view| render(&peers, view, now));
        for route in rendered.filter(|route| !route.paths.is_empty()) {
            rows.route(&route, json, &speaker).await?;
        }
    }
    rows.table_end(json).await
}

/// The same, each as `show bgp PREFIX` has it.
pub(super) async fn passing_in_detail(
    state: &State,
    within: Prefix,
    json: bool,
    out: &Output,
    passes: impl Fn(&Prefix, &PathView) -> bool,
) -> Result<(), Failure> {
    let walk = state.rib.walk(within).await.map_err(gone)?;
    in_detail(state, walk, json, out, |peers, view, now| {
        let paths = view.paths.iter().filter(|path| passes(&view.prefix, path)).map(|path| peers.path(path, now));
        let route = Route { paths: paths.collect(), ..peers.route(view, now) };
        (!route.paths.is_empty()).then_some(route)
    })
    .await
}

/// Every route as `show bgp PREFIX` has it.
async fn in_detail(
    state: &State,
    mut walk: RouteWalk,
    json: bool,
    out: &Output,
    render: impl Fn(&Peers, &RouteView, SystemTime) -> Option<Route>,
) -> Result<(), Failure> {
    let running = state.running();
    let (speaker, peers, now) = (speaker(&running)?, Peers::of(&running), SystemTime::now());
    let mut rows = Rows::new(out, if json { table::json_head(&speaker, 0) } else { String::new() });
    while let Some(views) = walk.next().await.map_err(gone)? {
        let rendered = views.iter().filter_map(|view| render(&peers, view, now));
        for route in rendered.filter(|route| !route.paths.is_empty()) {
            let row = if json {
                route::json_row(&route, rows.routes == 0, &speaker)
            } else {
                route::text(&route, &speaker, now) + "\n"
            };
            rows.push(&row, route.paths.len()).await?;
        }
    }
    rows.table_end(json).await
}

pub(super) async fn destination(
    state: &State,
    destination: Destination,
    paths: Paths,
    json: bool,
    out: &Output,
) -> Result<(), Failure> {
    let running = state.running();
    let (speaker, peers, now) = (speaker(&running)?, Peers::of(&running), SystemTime::now());
    let ids: Vec<(PeerId, IpAddr)> = running.peers.iter().map(|(address, peer)| (peer.id(), *address)).collect();
    let found = state
        .rib
        .query(move |rib, now| {
            let view = match destination {
                Destination::Prefix(prefix) => rib.route(now, &prefix),
                Destination::Address(address) => rib.longest_match(now, address),
            }?;
            let told = ids.iter().filter(|(id, _)| rib.advertised(*id, &view.prefix).is_some());
            let told: Vec<(PeerId, IpAddr)> = told.copied().collect();
            Some((view, told))
        })
        .await
        .map_err(gone)?;
    let refused = |view: &RouteView| view.paths.iter().all(|path| matches!(path.state, PathState::Refused(_)));
    match found.filter(|(view, _)| !refused(view)) {
        Some((view, told)) => {
            let named = |(id, address): (PeerId, IpAddr)| {
                let source = Source::Peer(id);
                let name = peers.link(source).map_or(NeighborId::Address(address), NeighborId::Interface);
                (name, peers.hostname(source))
            };
            let told = told.into_iter().map(named).collect();
            let mut route = Route { advertised_to: told, ..peers.route(&view, now) };
            route.paths.retain(|path| match paths {
                Paths::All => true,
                Paths::Best => path.best,
                Paths::Multipath => path.best || path.multipath,
            });
            if json {
                out.json(&route::json(&route, &speaker)).await
            } else {
                out.text(route::text(&route, &speaker, now)).await
            }
        }
        None if json => out.json(&json!({})).await,
        None => out.text("% Network not in table\n").await,
    }
}

pub(super) async fn of_neighbor(
    state: &State,
    family: Family,
    neighbor: NeighborId,
    which: NeighborRoutes,
    json: bool,
    out: &Output,
) -> Result<(), Failure> {
    let running = state.running();
    let Some(peer) = running.named(&neighbor).map(|(_, peer)| peer.id()) else {
        // It is configured by its link, and has not shown itself there yet.
        if running.config.bgp.as_ref().is_some_and(|bgp| bgp.neighbors.contains_key(&neighbor)) {
            return none_of_neighbor(&running, which, json, out).await;
        }
        return Err(not_found(format!("neighbor {neighbor} is not configured")));
    };
    if which == NeighborRoutes::Advertised {
        return advertised(state, &running, family, peer, json, out).await;
    }
    let walk = state.rib.walk_received(peer, family).await.map_err(gone)?;
    if json && which != NeighborRoutes::Accepted {
        return received_json(&running, walk, peer, which, out).await;
    }
    walked(state, walk, json, out, |peers, view, now| {
        let path = view.paths.iter().find(|path| path.source == Source::Peer(peer))?;
        let shown = match which {
            NeighborRoutes::Received => peers.bare(path.source, &path.received, now - path.age),
            NeighborRoutes::Filtered if path.effective.is_some() => return None,
            NeighborRoutes::Filtered => peers.bare(path.source, &path.received, now - path.age),
            _ => path.effective.as_ref().map(|_| peers.path(path, now))?,
        };
        Some(Route { prefix: view.prefix, version: 0, paths: vec![shown], advertised_to: Vec::new() })
    })
    .await
}

/// The routes of a neighbor that is not there.
async fn none_of_neighbor(running: &Running, which: NeighborRoutes, json: bool, out: &Output) -> Result<(), Failure> {
    let speaker = speaker(running)?;
    let key = match which {
        NeighborRoutes::Advertised => "advertisedRoutes",
        NeighborRoutes::Received | NeighborRoutes::Filtered => "receivedRoutes",
        NeighborRoutes::Accepted => return Rows::new(out, head(&speaker, json)).table_end(json).await,
    };
    if !json {
        return Rows::new(out, head(&speaker, false)).table_end(false).await;
    }
    out.text(table::adjacent::json_head(&speaker, key) + &table::adjacent::json_foot(0, 0)).await
}

/// What a neighbor sent, or what of it was refused, as FRR lays it out.
async fn received_json(
    running: &Running,
    mut walk: RouteWalk,
    peer: PeerId,
    which: NeighborRoutes,
    out: &Output,
) -> Result<(), Failure> {
    let (speaker, peers, now) = (speaker(running)?, Peers::of(running), SystemTime::now());
    let established = running.peer(peer).is_some_and(|(_, peer)| peer.status().established_at.is_some());
    let head = if established { table::adjacent::json_head(&speaker, "receivedRoutes") } else { NO_SESSION.into() };
    let (mut rows, mut filtered) = (Rows::new(out, head), 0);
    while let Some(views) = walk.next().await.map_err(gone)? {
        for view in views {
            let Some(path) = view.paths.iter().find(|path| path.source == Source::Peer(peer)) else { continue };
            filtered += usize::from(path.effective.is_none());
            if which == NeighborRoutes::Filtered && path.effective.is_some() {
                continue;
            }
            let paths = vec![peers.bare(path.source, &path.received, now - path.age)];
            let route = Route { prefix: view.prefix, version: 0, paths, advertised_to: Vec::new() };
            rows.push(&table::adjacent::json_row(&route, rows.routes == 0), 1).await?;
        }
    }
    let routes = rows.routes;
    let filtered = if which == NeighborRoutes::Filtered { 0 } else { filtered };
    rows.end(&table::adjacent::json_foot(routes, filtered)).await
}

/// How the routes of a neighbor begin that has no session.
const NO_SESSION: &str = "{\"receivedRoutes\":{";

async fn advertised(
    state: &State,
    running: &Running,
    family: Family,
    peer: PeerId,
    json: bool,
    out: &Output,
) -> Result<(), Failure> {
    let (speaker, peers, now) = (speaker(running)?, Peers::of(running), SystemTime::now());
    let mut walk = state.rib.walk_advertised(peer, family).await.map_err(gone)?;
    let head = if json { table::adjacent::json_head(&speaker, "advertisedRoutes") } else { head(&speaker, false) };
    let mut rows = Rows::new(out, head);
    while let Some(views) = walk.next().await.map_err(gone)? {
        let sent = state
            .rib
            .query(move |rib, _| {
                let as_sent = |view: &RouteView| {
                    let source = view.paths.iter().find(|path| path.state == PathState::Best).map(|path| path.source);
                    Some((view.prefix, source?, rib.advertised(peer, &view.prefix)?))
                };
                views.iter().filter_map(as_sent).collect::<Vec<_>>()
            })
            .await
            .map_err(gone)?;
        for (prefix, source, attrs) in sent {
            let path = Path { best: true, ..peers.bare(source, &attrs, now) };
            let route = Route { prefix, version: 0, paths: vec![path], advertised_to: Vec::new() };
            if json {
                rows.push(&table::adjacent::json_row(&route, rows.routes == 0), 1).await?;
            } else {
                rows.route(&route, false, &speaker).await?;
            }
        }
    }
    let routes = rows.routes;
    if json { rows.end(&table::adjacent::json_foot(routes, 0)).await } else { rows.table_end(false).await }
}

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

/// `show ip route`: what this daemon installs, and what is connected, in order.
pub(super) async fn kernel(
    state: &State,
    family: Family,
    from: Option<Option<RedistributeSource>>,
    destination: Option<Destination>,
    json: bool,
    out: &Output,
) -> Result<(), Failure> {
    let running = state.running();
    let mut prefixes = installed(state, family).await?;
    let connected: BTreeMap<Prefix, (u32, String)> = running
        .view
        .connected()
        .filter(|(prefix, _)| prefix.family() == family)
        .map(|(prefix, link)| (prefix, (link.ifindex, link.name.clone())))
        .collect();
    prefixes.extend(connected.keys());
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
        let own: BTreeMap<u32, bool> = running
            .peers
            .values()
            .map(|peer| (peer.id().0, peer.status().kind() == Some(PeerKind::Internal)))
            .collect();
        let connected = connected.clone();
        let found = ask(state, move |table| {
            piece.iter().filter_map(|prefix| describe(table, prefix, &names, &own, &connected)).collect::<Vec<_>>()
        })
        .await?;
        let found = with_bgp(state, &aliases, found).await?;
        let wanted = |route: &&KernelRoute| from.is_none_or(|from| from == route.protocol.source());
        for route in found.iter().filter(wanted) {
            let row = if json { kernel::json_row(route, rows.routes == 0) } else { kernel::row(route) };
            rows.push(&row, 1).await?;
        }
    }
    rows.end(if json { "\n}\n" } else { "" }).await
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

fn describe(
    table: &dyn Table,
    prefix: &Prefix,
    view: &netwatch::View,
    internal: &BTreeMap<u32, bool>,
    connected: &BTreeMap<Prefix, (u32, String)>,
) -> Option<KernelRoute> {
    let via = |ifindex: u32, gateway: Option<IpAddr>| {
        let interface = view.link(ifindex).map_or_else(|| format!("if{ifindex}"), |link| link.name.clone());
        Forwarding::Via { gateway, ifindex, interface }
    };
    let bare = |protocol, distance, ways| KernelRoute {
        prefix: *prefix,
        protocol,
        distance,
        metric: 0,
        tag: 0,
        learned: None,
        ways,
        backup: None,
        nexthop_id: None,
        installed: true,
        protected: false,
    };
    let Some(route) = table.route(prefix) else {
        let (ifindex, interface) = connected.get(prefix)?.clone();
        let forwarding = Forwarding::Via { gateway: None, ifindex, interface };
        return Some(bare(RouteProtocol::Connected, 0, vec![forwarding.into()]));
    };
    let candidates = route.list.map_or(&[][..], fib::PathList::paths);
    let (protocol, distance) = match candidates.first().map(|first| internal.get(&first.source)) {
        Some(Some(true)) => (RouteProtocol::Bgp { internal: true }, 200),
        Some(None) => (RouteProtocol::Static, 1),
        // Adopted, or failing closed: it was learned.
        Some(Some(false)) | None => (RouteProtocol::Bgp { internal: false }, 20),
    };
    let way = |WeightedNexthop { nexthop, weight }| match nexthop {
        Nexthop::Via { ifindex, gateway, .. } => Way { weight, ..via(ifindex, gateway).into() },
        Nexthop::Blackhole(_) => Forwarding::Blackhole.into(),
    };
    let ways: Vec<Way> = match route.installed {
        Some(installed) => installed.nexthops().map(way).collect(),
        None => vec![Forwarding::Blackhole.into()],
    };
    let unused = |candidate: &fib::PathKey| {
        let forwarding = via(candidate.ifindex, candidate.gateway);
        ways.iter().all(|way| way.forwarding != forwarding).then_some(forwarding)
    };
    let backup = candidates.iter().find_map(unused);
    let protected = ways.iter().all(|way| way.forwarding == Forwarding::Blackhole);
    Some(KernelRoute {
        backup,
        protected,
        nexthop_id: route.object.map(|object| object.0),
        installed: route.installed.is_some(),
        ..bare(protocol, distance, ways)
    })
}
