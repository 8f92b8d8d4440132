//! `show bgp memory`, `show bgp attribute-info`, `show bgp vrfs` and `show interface`: what there is.

use net_types::{Family, IfName};
use rpc::Failure;
use serde_json::json;

use super::{Output, gone, neighbors::speaker, not_found};
use crate::{show::interface, state::State};

/// What the table has.
struct Counts {
    prefixes: [usize; Family::COUNT],
    attributes: usize,
}

async fn counts(state: &State) -> Result<Counts, Failure> {
    let count = |rib: &bgp_core::rib::Rib| Counts {
        prefixes: Family::ALL.map(|family| rib.prefix_count(family)),
        attributes: rib.attribute_count(),
    };
    state.rib.query(move |rib, _| count(rib)).await.map_err(gone)
}

pub(super) async fn attributes(state: &State, out: &Output) -> Result<(), Failure> {
    let attributes = counts(state).await?.attributes;
    out.text(format!("{attributes} sets of attributes are in use\n")).await
}

pub(super) async fn memory(state: &State, json: bool, out: &Output) -> Result<(), Failure> {
    let counts = counts(state).await?;
    let resident = resident_octets();
    let neighbors = state.running().peers.len();
    if json {
        let value = json!({
            "bgpTableEntries": counts.prefixes.iter().sum::<usize>(),
            "ipv4UnicastPrefixes": counts.prefixes[0],
            "ipv6UnicastPrefixes": counts.prefixes[1],
            "attributeSets": counts.attributes,
            "peers": neighbors,
            "residentOctets": resident,
        });
        return out.json(&value).await;
    }
    let mut text = String::new();
    for (family, prefixes) in Family::ALL.into_iter().zip(counts.prefixes) {
        text += &format!("{prefixes} {family} prefixes\n");
    }
    text += &format!("{} sets of attributes\n{neighbors} neighbors\n", counts.attributes);
    if let Some(octets) = resident {
        text += &format!("{} KiB of memory are in use by bgpd\n", octets / 1024);
    }
    out.text(text).await
}

/// What the kernel says that this process takes.
fn resident_octets() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

pub(super) async fn vrfs(state: &State, json: bool, out: &Output) -> Result<(), Failure> {
    let running = state.running();
    let speaker = speaker(&running)?;
    let neighbors = running.peers.values();
    let established = neighbors.clone().filter(|peer| peer.status().established_at.is_some()).count();
    let (count, router_id) = (neighbors.len(), speaker.router_id.to_string());
    if json {
        let vrf = json!({
            "type": "DFLT",
            "vrfId": 0,
            "routerId": router_id,
            "numConfiguredPeers": count,
            "numEstablishedPeers": established,
        });
        return out.json(&json!({ "vrfs": { "default": vrf }, "totalVrfs": 1 })).await;
    }
    out.text(format!("Type  Id     routerId          #PeersCfg  #PeersEstb  Name\nDFLT  0      {router_id:<16}  {count:>9}  {established:>10}  default\n")).await
}

/// `show interface`
pub(super) async fn interfaces(state: &State, only: Option<IfName>, json: bool, out: &Output) -> Result<(), Failure> {
    let view = state.running().view.clone();
    if let Some(only) = only.as_ref().filter(|only| view.link_named(only.as_str()).is_none()) {
        return Err(not_found(format!("there is no interface {only}; \"show interface\" lists those that are")));
    }
    let wanted = view.links().filter(|link| only.as_ref().is_none_or(|only| link.name == only.as_str()));
    let shown: Vec<_> = wanted.map(|link| (link, view.addresses_of(link.ifindex).collect())).collect();
    if json { out.json(&interface::json(&shown)).await } else { out.text(interface::text(&shown)).await }
}
