//! What is watched and validated, for those who ask.

use std::time::SystemTime;

use config::command::Watch;
use net_types::Family;
use rpc::Failure;

use super::{Output, gone, routes, rpki};
use crate::{show, state::State};

pub(super) async fn show(state: &State, what: Watch, json: bool, out: &Output) -> Result<(), Failure> {
    match what {
        Watch::Validation(family, wanted) => {
            routes::by_validation(state, family, rpki::validation(wanted), json, out).await
        }
        Watch::Rpki(view) => rpki::show(state, view, json, out).await,
        Watch::NextHops(family) => next_hops(state, family, json, out).await,
        Watch::Mrt => mrt(state, json, out).await,
        Watch::Events if json => out.json(&state.tap.to_json()).await,
        Watch::Events => out.text(state.tap.to_text()).await,
        Watch::Vrrp(wanted) => {
            let mut groups = state.vrrp.status();
            groups.retain(|group| {
                wanted.interface.as_ref().is_none_or(|interface| *interface == group.interface)
                    && wanted.vrid.is_none_or(|vrid| vrid == group.vrid.get())
            });
            if json {
                out.json(&show::vrrp::json(&groups)).await
            } else {
                out.text(show::vrrp::text(&groups, SystemTime::now())).await
            }
        }
        Watch::Bmp if json => out.json(&show::bmp::json(&state.bmp.status())).await,
        Watch::Bmp => out.text(show::bmp::text(&state.bmp.status(), SystemTime::now())).await,
    }
}

/// `show ip nht` and `show bgp nexthop`
async fn next_hops(state: &State, family: Option<Family>, json: bool, out: &Output) -> Result<(), Failure> {
    let mut all = state.rib.query(|rib, _| rib.next_hops()).await.map_err(gone)?;
    all.retain(|(key, ..)| family.is_none_or(|family| key.address.is_ipv6() == (family == Family::Ipv6Unicast)));
    let running = state.running();
    if json {
        out.json(&show::nht::json(&all, &running.view)).await
    } else {
        out.text(show::nht::text(&all, &running.view)).await
    }
}

/// `show mrt`
async fn mrt(state: &State, json: bool, out: &Output) -> Result<(), Failure> {
    let files = state.loads.status();
    let sources: Vec<_> = files.iter().map(|file| file.source).collect();
    let paths = state
        .rib
        .query(move |rib, _| {
            let of = |source| Family::UNICAST.map(|family| rib.counters(source, family).map_or(0, |it| it.received));
            sources.into_iter().map(of).collect::<Vec<_>>()
        })
        .await
        .map_err(gone)?;
    if json {
        out.json(&show::mrt::json(&files, &paths)).await
    } else {
        out.text(show::mrt::text(&files, &paths, SystemTime::now())).await
    }
}
