//! `show bgp … dampening …` and `clear bgp … dampening`.

use std::time::SystemTime;

use bgp_core::rib::{FlapView, Source};
use config::command::{DampeningView, FlapTable};
use net_types::{Family, Prefix};
use rpc::Failure;

use super::{
    Output, gone,
    neighbors::speaker,
    not_found,
    routes::{Peers, Rows},
};
use crate::{
    show::{
        dampening::{self, Table},
        table,
        view::{Flap, Path, Route},
    },
    state::State,
};

pub(super) async fn show(
    state: &State,
    family: Family,
    what: DampeningView,
    json: bool,
    out: &Output,
) -> Result<(), Failure> {
    let Some(figures) = state.rib.query(move |rib, _| rib.dampening(family)).await.map_err(gone)? else {
        let hint = "\"bgp dampening\" in the address family turns it on";
        return Err(not_found(format!("dampening of {family} is off; {hint}")));
    };
    match what {
        DampeningView::Parameters if json => out.json(&dampening::parameters_json(&figures)).await,
        DampeningView::Parameters => out.text(dampening::parameters_text(&figures)).await,
        DampeningView::Paths(FlapTable::Dampened) => paths(state, family, Table::Dampened, json, out).await,
        DampeningView::Paths(FlapTable::Flaps) => paths(state, family, Table::Flaps, json, out).await,
    }
}

async fn paths(state: &State, family: Family, which: Table, json: bool, out: &Output) -> Result<(), Failure> {
    let running = state.running();
    let (speaker, peers, now) = (speaker(&running)?, Peers::of(&running), SystemTime::now());
    let flaps = state.rib.query(move |rib, now| rib.flaps(now, family)).await.map_err(gone)?;
    let head = if json { table::json_head(&speaker, 0) } else { dampening::head(&speaker, which) };
    let mut rows = Rows::new(out, head);
    let shown: Vec<&FlapView> =
        flaps.iter().filter(|flap| which == Table::Flaps || flap.reuse_in.is_some() && !flap.withdrawn).collect();
    for (at, of_prefix) in shown.chunk_by(|one, other| one.prefix == other.prefix).enumerate() {
        let Some(first) = of_prefix.first() else { continue };
        let paths = of_prefix
            .iter()
            .map(|view| Path { flap: Some(flap(view)), ..peers.bare(Source::Peer(view.peer), &view.attrs, now) });
        let route = Route { prefix: first.prefix, version: 0, paths: paths.collect(), advertised_to: Vec::new() };
        let row = if json {
            let paths = serde_json::Value::from(dampening::paths_json(&route, which, now));
            format!("{}\n\"{}\":{paths}", if at == 0 { "" } else { "," }, route.prefix)
        } else {
            dampening::rows(&route, which)
        };
        rows.push(&row, route.paths.len()).await?;
    }
    rows.table_end(json).await
}

/// As it is shown.
pub(super) fn flap(view: &FlapView) -> Flap {
    let FlapView { penalty, count, since, reuse_in, withdrawn, .. } = *view;
    Flap { penalty, count, since, reuse_in, history: withdrawn }
}

/// What has flapped is used again, and forgotten.
pub(super) async fn clear(state: &State, prefix: Option<Prefix>, out: &Output) -> Result<(), Failure> {
    let families = prefix.map_or(Family::UNICAST.to_vec(), |prefix| vec![prefix.family()]);
    let forget = move |rib: &mut bgp_core::rib::Rib, _| {
        families.iter().for_each(|family| {
            rib.clear_dampening(*family, prefix.as_ref());
        });
    };
    state.rib.apply(forget).await.map_err(gone)?;
    out.text("").await
}
