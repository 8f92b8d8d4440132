//! `show bgp summary` and `show bgp neighbors`: what sessions, the table and BFD know, put together.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::SystemTime,
};

use bgp_core::{PeerId, rib::Source};
use config::{
    command::{Nesting, SummaryOf},
    model::NeighborId,
};
use net_types::Family;
use rpc::Failure;

use super::{Output, gone, not_found};
use crate::{
    peer::{self, PeerStatus, SelfState},
    show::{
        neighbors, restart, summary,
        view::{self, Aliases, NeighborTable, Speaker, TableCounters},
    },
    state::{Running, State},
};

/// The speaker itself, where `router bgp` is configured.
pub(super) fn speaker(running: &Running) -> Result<Speaker, Failure> {
    let rib = running.rib.as_ref().ok_or_else(|| not_found("BGP is not configured (no \"router bgp\")"))?;
    Ok(Speaker {
        hostname: running.config.hostname.as_ref().map(ToString::to_string).or_else(crate::setup::host_name),
        router_id: rib.router_id,
        asn: rib.asn,
        default_local_preference: rib.default_local_pref,
        aliases: Aliases::of(&running.config),
    })
}

/// Everything about every neighbor, in the order of addresses; then those whose links show nobody yet.
async fn all(state: &State, running: &Running, speaker: &Speaker) -> Result<Vec<view::Neighbor>, Failure> {
    let ids: Vec<PeerId> = running.peers.values().map(|peer| peer.id()).collect();
    let counters = state
        .rib
        .query(move |rib, _| {
            let of =
                |id: &PeerId| Family::ALL.map(|family| rib.counters(Source::Peer(*id), family).unwrap_or_default());
            ids.iter().map(|id| (*id, of(id))).collect::<BTreeMap<_, _>>()
        })
        .await
        .map_err(gone)?;
    let sessions = state.bfd.snapshot().await;
    let neighbor = |(address, peer): (&IpAddr, &std::sync::Arc<crate::peer::PeerHandle>)| {
        let mut neighbor = peer.status().view();
        configured(running, &mut neighbor, &peer.status().spec.name());
        neighbor.bfd = sessions.iter().find(|session| session.peer == *address).cloned();
        if let Some(counters) = counters.get(&peer.id()) {
            for (family, table) in &mut neighbor.families {
                let counted = counters[*family as usize];
                *table = NeighborTable {
                    received: counted.accepted as usize,
                    sent: counted.sent as usize,
                    stale: counted.leftover as usize,
                    ..*table
                };
            }
        }
        neighbor
    };
    let mut all: Vec<_> = running.peers.iter().map(neighbor).collect();
    all.extend(sought(running, speaker));
    Ok(all)
}

/// Puts in what the configuration says of a neighbor and its task does not know.
fn configured(running: &Running, neighbor: &mut view::Neighbor, name: &NeighborId) {
    let Some(bgp) = &running.config.bgp else { return };
    if let Some(found) = bgp.named(name) {
        neighbor.description = found.settings.description;
        neighbor.peer_group = found.peer_group.map(|name| name.to_string());
        neighbor.configured = found.settings.families;
        neighbor.dynamic = !bgp.neighbors.contains_key(name);
        neighbor.restart_inherited = found.settings.graceful_restart.is_none();
        neighbor.restart_times = (bgp.graceful_restart.restart_time, bgp.graceful_restart.stalepath_time);
    }
}

/// Neighbors that are known by links at whose other end nobody has shown himself yet.
fn sought(running: &Running, speaker: &Speaker) -> Vec<view::Neighbor> {
    let ourselves = SelfState {
        router_id: speaker.router_id,
        hostname: speaker.hostname.clone(),
        restarting: false,
        forwarding_preserved: false,
    };
    let Some(bgp) = &running.config.bgp else { return Vec::new() };
    let by_link = bgp.resolved().filter(|neighbor| matches!(neighbor.id, NeighborId::Interface(_)));
    let missing = by_link.filter(|neighbor| running.named(&neighbor.id).is_none());
    let shown = missing.filter_map(|neighbor| {
        let nowhere = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let spec = peer::spec(bgp, &neighbor, nowhere, PeerId(0), &ourselves).ok()?;
        let mut shown = PeerStatus::idle(spec).view();
        configured(running, &mut shown, &neighbor.id);
        Some(shown)
    });
    shown.collect()
}

pub(super) async fn summary(
    state: &State,
    only: Option<Family>,
    of: SummaryOf,
    nesting: Nesting,
    json: bool,
    out: &Output,
) -> Result<(), Failure> {
    let running = state.running();
    let speaker = speaker(&running)?;
    let neighbors = all(state, &running, &speaker).await?;
    let listed = |neighbor: &&view::Neighbor| match of {
        SummaryOf::All => true,
        SummaryOf::Established => neighbor.established_at.is_some(),
        SummaryOf::Failed => neighbor.established_at.is_none(),
    };
    let counters = state
        .rib
        .query(|rib, _| Family::ALL.map(|family| (rib.prefix_count(family), rib.attribute_count())))
        .await
        .map_err(gone)?;
    let families = Family::ALL.into_iter().filter(|family| only.is_none_or(|only| only == *family));
    let summaries: Vec<_> = families
        .map(|family| summary::FamilySummary {
            family,
            table: TableCounters { prefixes: counters[family as usize].0, ..TableCounters::default() },
            neighbors: neighbors.iter().filter(|neighbor| neighbor.families.contains_key(&family)).collect(),
            listed: neighbors
                .iter()
                .filter(|neighbor| neighbor.families.contains_key(&family))
                .filter(listed)
                .collect(),
        })
        .filter(|summary| !summary.neighbors.is_empty() || only.is_some())
        .collect();
    let now = SystemTime::now();
    if json {
        let failed = of == SummaryOf::Failed;
        let families = summary::json(&speaker, &summaries, failed, now);
        let value = match (nesting, families) {
            (Nesting::Families, families) => families,
            (Nesting::Instances, families) => serde_json::json!({ "default": families }),
            (Nesting::Bare, serde_json::Value::Object(families)) => families
                .into_values()
                .next()
                .filter(|_| summaries.iter().any(|summary| !summary.neighbors.is_empty()))
                .unwrap_or_else(|| serde_json::json!({})),
            (Nesting::Bare, other) => other,
        };
        out.json(&value).await
    } else {
        out.text(summary::text(&speaker, &summaries, now)).await
    }
}

/// The neighbors that are asked for; an error tells a missing one, unless JSON is to say so.
async fn chosen(
    state: &State,
    speaker: &Speaker,
    running: &Running,
    only: Option<&NeighborId>,
    json: bool,
) -> Result<Vec<view::Neighbor>, Failure> {
    let mut neighbors = all(state, running, speaker).await?;
    let Some(only) = only else { return Ok(neighbors) };
    neighbors.retain(|neighbor| match only {
        NeighborId::Address(address) => neighbor.address == *address,
        NeighborId::Interface(link) => neighbor.link.as_ref() == Some(link),
    });
    if neighbors.is_empty() && !json {
        return Err(not_found(format!("neighbor {only} is not configured")));
    }
    Ok(neighbors)
}

pub(super) async fn detail(state: &State, only: Option<NeighborId>, json: bool, out: &Output) -> Result<(), Failure> {
    let running = state.running();
    let speaker = speaker(&running)?;
    let neighbors = chosen(state, &speaker, &running, only.as_ref(), json).await?;
    let now = SystemTime::now();
    if json {
        if neighbors.is_empty() && only.is_some() {
            return out.json(&serde_json::json!({ "bgpNoSuchNeighbor": true })).await;
        }
        return out.json(&neighbors::json(&speaker, &neighbors, now)).await;
    }
    for neighbor in &neighbors {
        out.text(neighbors::text(&speaker, neighbor, now)).await?;
    }
    Ok(())
}

/// `show bgp neighbors … graceful-restart`
pub(super) async fn restart(state: &State, only: Option<NeighborId>, json: bool, out: &Output) -> Result<(), Failure> {
    let running = state.running();
    let speaker = speaker(&running)?;
    let neighbors = chosen(state, &speaker, &running, only.as_ref(), json).await?;
    if json {
        if neighbors.is_empty() && only.is_some() {
            return out.json(&serde_json::json!({ "bgpNoSuchNeighbor": true })).await;
        }
        return out.json(&restart::json(&neighbors)).await;
    }
    out.text(restart::text(&neighbors)).await
}

/// What a neighbor asked us to keep back (RFC 5291).
pub(super) async fn outbound_filter(
    state: &State,
    family: Family,
    neighbor: NeighborId,
    json: bool,
    out: &Output,
) -> Result<(), Failure> {
    let known = state.running().named(&neighbor).map(|(_, peer)| peer.id());
    let Some(peer) = known else { return Err(not_found(format!("neighbor {neighbor} is not configured"))) };
    let lines = state.rib.query(move |rib, _| rib.outbound_filter(peer, family)).await.map_err(gone)?;
    if json {
        out.json(&crate::show::orf::filter_json(family, &neighbor.to_string(), &lines)).await
    } else {
        out.text(crate::show::orf::filter_text(family, &neighbor.to_string(), &lines)).await
    }
}
