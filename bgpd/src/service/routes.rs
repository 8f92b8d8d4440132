//! `show bgp … unicast`: tables by the piece, single destinations in full.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::SystemTime};

use bgp_core::{
    PeerId,
    rib::{PathAttrs, PathState, PathView, RouteView, Source},
    validation::ValidationState,
};
use bgp_wire::PeerKind;
use config::{
    command::{Destination, NeighborRoutes, Paths},
    model::NeighborId,
};
use net_types::{Family, IfName, Prefix, RouterId};
use rpc::{Failure, Text};
use serde_json::json;

use super::{Output, gone, neighbors::speaker, not_found};
use crate::{
    load,
    rib_thread::RouteWalk,
    show::{
        route, table,
        view::{Path, PathSource, Route, Speaker},
    },
    state::{Running, State},
};

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
        self.0.get(&id).map_or_else(|| load::name(id), |known| known.hostname.clone())
    }

    fn link(&self, source: Source) -> Option<IfName> {
        let Source::Peer(id) = source else { return None };
        self.0.get(&id)?.link.clone()
    }

    pub(super) fn route(&self, view: &RouteView, now: SystemTime) -> Route {
        self.route_of(view, now, is_route)
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
            // As FRR marks it: it would be used if it had not flapped.
            valid: usable || view.state == PathState::Damped,
            damped: view.state == PathState::Damped,
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
    pub(super) fn bare(&self, source: Source, attrs: &PathAttrs, now: SystemTime) -> Path {
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
            damped: false,
            flap: None,
            validation: None,
            labels: Vec::new(),
            reason: None,
            hostname: self.hostname(source),
            link: self.link(source),
            updated: now,
        }
    }
}

/// What policy or a loop check refused is no route; `received-routes` and `filtered-routes` have it.
fn is_route(path: &PathView) -> bool {
    !matches!(path.state, PathState::Refused(_))
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

/// How a listing of routes is written.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// JSON, or text.
    pub(super) json: bool,
    /// Each route as `show bgp PREFIX` has it, or a row for each path.
    pub(super) detail: bool,
}

impl Style {
    /// A row for each path.
    pub(super) fn rows(json: bool) -> Self {
        Self { json, detail: false }
    }
}

pub(super) async fn table(state: &State, family: Family, style: Style, out: &Output) -> Result<(), Failure> {
    let walk = state.rib.walk(everything(family)).await.map_err(gone)?;
    walked(state, walk, style, out, |peers, view, now| Some(peers.route(view, now))).await
}

/// Routes within `within` with a path that passes, and of each only those paths.
pub(super) async fn passing(
    state: &State,
    within: Prefix,
    style: Style,
    out: &Output,
    passes: impl Fn(&Prefix, &PathView) -> bool,
) -> Result<(), Failure> {
    let walk = state.rib.walk(within).await.map_err(gone)?;
    walked(state, walk, style, out, |peers, view, now| {
        Some(peers.route_of(view, now, |path| is_route(path) && passes(&view.prefix, path)))
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
    walked(state, walk, Style::rows(json), out, |peers, view, now| {
        Some(peers.route_of(view, now, |path| path.validation == Some(wanted)))
    })
    .await
}

/// What `render` makes of each route, but for those of which it leaves no path.
async fn walked(
    state: &State,
    mut walk: RouteWalk,
    Style { json, detail }: Style,
    out: &Output,
    render: impl Fn(&Peers, &RouteView, SystemTime) -> Option<Route>,
) -> Result<(), Failure> {
    let running = state.running();
    let (speaker, peers, now) = (speaker(&running)?, Peers::of(&running), SystemTime::now());
    let mut rows = Rows::new(out, if detail && !json { String::new() } else { head(&speaker, json) });
    while let Some(views) = walk.next().await.map_err(gone)? {
        let rendered = views.iter().filter_map(|view| render(&peers, view, now));
        for route in rendered.filter(|route| !route.paths.is_empty()) {
            if !detail {
                rows.route(&route, json, &speaker).await?;
                continue;
            }
            let row = match json {
                true => route::json_row(&route, rows.routes == 0, &speaker),
                false => route::text(&route, &speaker, now) + "\n",
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
            let flap = |path: &PathView| match path.source {
                Source::Peer(peer) => rib.flap(now, &view.prefix, peer, path.path_id),
                Source::Local(_) => None,
            };
            let flaps: Vec<_> = view.paths.iter().filter(|path| is_route(path)).map(flap).collect();
            Some((view, told, flaps))
        })
        .await
        .map_err(gone)?;
    match found.filter(|(view, ..)| view.paths.iter().any(is_route)) {
        Some((view, told, flaps)) => {
            let named = |(id, address): (PeerId, IpAddr)| {
                let source = Source::Peer(id);
                let name = peers.link(source).map_or(NeighborId::Address(address), NeighborId::Interface);
                (name, peers.hostname(source))
            };
            let told = told.into_iter().map(named).collect();
            let mut route = Route { advertised_to: told, ..peers.route(&view, now) };
            for (path, flap) in route.paths.iter_mut().zip(flaps) {
                path.flap = flap.as_ref().map(super::dampening::flap);
            }
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
    walked(state, walk, Style::rows(json), out, |peers, view, now| {
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
                    Some((view.prefix, source?, rib.advertised_bare(peer, &view.prefix)?))
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
