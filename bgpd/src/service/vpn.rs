//! `show bgp … vpn` and `show bgp vrf NAME …`.

use std::time::SystemTime;

use bgp_core::rib::RouteView;
use config::{command::VpnView, model::Name};
use net_types::{Family, Prefix, Rd};
use rpc::Failure;
use serde_json::Map;

use super::{
    Output, gone,
    neighbors::speaker,
    not_found,
    routes::{Peers, Rows},
};
use crate::{
    show::{
        route, table,
        view::{Route, Speaker},
    },
    state::State,
    vrf,
};

pub(super) async fn show(state: &State, what: VpnView, json: bool, out: &Output) -> Result<(), Failure> {
    match what {
        VpnView::Table { family, rd } => whole(state, family, rd, json, out).await,
        VpnView::Prefix { prefix, rd } => one(state, prefix, rd, json, out).await,
        VpnView::Vrf { name, family } => of_vrf(state, &name, family, json, out).await,
    }
}

/// The table of a VPN family, one distinguisher after the other.
async fn whole(state: &State, family: Family, rd: Option<Rd>, json: bool, out: &Output) -> Result<(), Failure> {
    let running = state.running();
    let (speaker, peers, now) = (speaker(&running)?, Peers::of(&running), SystemTime::now());
    let head = if json { table::vpn::json_head(&speaker) } else { table::head(&speaker, 0) };
    let mut rows = Rows::new(out, head);
    let mut walk = state.rib.walk_vpn(family, rd).await.map_err(gone)?;
    let mut last = None;
    while let Some(views) = walk.next().await.map_err(gone)? {
        for view in &views {
            let rd = view.prefix.rd();
            let first = std::mem::replace(&mut last, rd) != rd;
            let route = Route { prefix: view.prefix.plain(), ..peers.route(view, now) };
            let row = match (json, rd) {
                (true, Some(rd)) if first => {
                    let end = if rows.is_empty() { "" } else { "}," };
                    format!("{end}\n\"{rd}\":{{{}", table::json_row(&route, true, &speaker))
                }
                (true, _) => table::json_row(&route, false, &speaker),
                (false, Some(rd)) if first => format!("Route Distinguisher: {rd}\n{}", table::vpn::rows(&route)),
                (false, _) => table::vpn::rows(&route),
            };
            rows.push(&row, route.paths.len()).await?;
        }
    }
    let empty = rows.is_empty();
    if json { rows.end(table::vpn::json_foot(empty)).await } else { rows.table_end(false).await }
}

/// The paths of one prefix, in every VPN that has it.
async fn one(state: &State, prefix: Prefix, rd: Option<Rd>, json: bool, out: &Output) -> Result<(), Failure> {
    let running = state.running();
    let (speaker, peers, now) = (speaker(&running)?, Peers::of(&running), SystemTime::now());
    let mut walk = state.rib.walk_vpn(prefix.family(), rd).await.map_err(gone)?;
    let mut found = Vec::new();
    while let Some(views) = walk.next().await.map_err(gone)? {
        found.extend(views.into_iter().filter(|view| view.prefix.plain() == prefix));
    }
    let routes = found.iter().map(|view| (view.prefix, peers.route(view, now)));
    if json {
        let by_rd = routes.filter_map(|(prefix, route)| Some((prefix.rd()?.to_string(), json_of(&route, &speaker))));
        return out.json(&serde_json::Value::Object(by_rd.collect::<Map<_, _>>())).await;
    }
    let text: Vec<String> = routes.map(|(_, route)| route::text(&route, &speaker, now)).collect();
    if text.is_empty() { out.text("% Network not in table\n").await } else { out.text(text.join("\n")).await }
}

fn json_of(route: &Route, speaker: &Speaker) -> serde_json::Value {
    route::json(&Route { prefix: route.prefix.plain(), ..route.clone() }, speaker)
}

/// What a VRF imported, and what it has itself; the path in use first.
async fn of_vrf(state: &State, name: &Name, family: Family, json: bool, out: &Output) -> Result<(), Failure> {
    let running = state.running();
    let known = running.config.bgp.as_ref().is_some_and(|bgp| bgp.vrfs.contains_key(name));
    if !known {
        return Err(not_found(format!("vrf {name} is not configured; \"router bgp ASN vrf {name}\" would do that")));
    }
    let Some(number) = vrf::table(&running.config, &running.view, name) else {
        return Err(not_found(format!(
            "vrf {name} has no kernel table: there is no VRF device of that name; say \"table NUMBER\" in \"vrf {name}\""
        )));
    };
    let (speaker, peers, now) = (speaker(&running)?, Peers::of(&running), SystemTime::now());
    let found = state
        .rib
        .query(move |rib, now| {
            let views = |(prefix, from): (Prefix, Vec<Prefix>)| {
                let views: Vec<RouteView> = from.iter().filter_map(|of| rib.route(now, of)).collect();
                (prefix, views)
            };
            rib.vrf_prefixes(number, family).into_iter().map(views).collect::<Vec<_>>()
        })
        .await
        .map_err(gone)?;
    let head = if json { table::vpn::vrf_json_head(&speaker, number, name.as_str()) } else { table::head(&speaker, 0) };
    let mut rows = Rows::new(out, head);
    for (prefix, views) in found {
        let mut paths: Vec<_> = views.iter().flat_map(|view| peers.route(view, now).paths).collect();
        // Each was the best of its VPN; here one of them is.
        let mut best = false;
        for path in &mut paths {
            path.best &= !best;
            best |= path.best;
        }
        let route = Route { prefix, version: 0, paths, advertised_to: Vec::new() };
        rows.route(&route, json, &speaker).await?;
    }
    rows.table_end(json).await
}
