//! `show bgp summary`.

use std::{fmt::Write as _, time::SystemTime};

use net_types::Family;
use serde_json::{Map, Value};

use super::{
    epoch, family_key, family_name, msec, object, uptime,
    view::{Neighbor, Speaker, TableCounters},
};

/// One family's part of the summary.
pub struct FamilySummary<'a> {
    /// The family.
    pub family: Family,
    /// Its table.
    pub table: TableCounters,
    /// Neighbors that it is activated for.
    pub neighbors: Vec<&'a Neighbor>,
    /// Those of them that are to be listed.
    pub listed: Vec<&'a Neighbor>,
}

/// As text, family by family.
pub fn text(speaker: &Speaker, families: &[FamilySummary<'_>], now: SystemTime) -> String {
    let mut out = String::new();
    for summary in families {
        let _ = writeln!(out, "\n{} Summary (VRF default):", family_name(summary.family));
        let _ = writeln!(out, "BGP router identifier {}, local AS number {} vrf-id 0", speaker.router_id, speaker.asn);
        let _ = writeln!(out, "BGP table version {}", summary.table.version);
        let _ = writeln!(
            out,
            "RIB entries {}, using {} of memory",
            summary.table.prefixes,
            octets(summary.table.memory_octets)
        );
        let _ = writeln!(out, "Peers {}\n", summary.neighbors.len());
        let width = summary.neighbors.iter().map(|n| shown(n).len()).max().unwrap_or(0).max(15);
        let _ = writeln!(
            out,
            "{:<width$} V         AS   MsgRcvd   MsgSent   TblVer  InQ OutQ  Up/Down State/PfxRcd   PfxSnt Desc",
            "Neighbor"
        );
        for neighbor in &summary.listed {
            let table = neighbor.families.get(&summary.family).copied().unwrap_or_default();
            let (state, sent) = if neighbor.established_at.is_some() {
                (table.received.to_string(), table.sent.to_string())
            } else {
                (state_word(neighbor).to_owned(), "0".to_owned())
            };
            let _ = writeln!(
                out,
                "{:<width$} 4 {:>10} {:>9} {:>9} {:>8} {:>4} {:>4} {:>8} {:>12} {:>8} {}",
                shown(neighbor),
                neighbor.remote_as.map_or(0, |asn| asn.get()),
                neighbor.received.total(),
                neighbor.sent.total(),
                0,
                neighbor.in_queue,
                neighbor.out_queue,
                up_down(neighbor, now),
                state,
                sent,
                neighbor.description.as_deref().unwrap_or("N/A"),
            );
        }
        let _ = writeln!(out, "\nTotal number of neighbors {}", summary.neighbors.len());
        let dynamic = summary.neighbors.iter().filter(|neighbor| neighbor.dynamic).count();
        if dynamic > 0 {
            let _ = writeln!(out, "* - dynamic neighbor\n{dynamic} dynamic neighbor(s)");
        }
    }
    if families.iter().all(|summary| summary.neighbors.is_empty()) {
        out.push_str("% No BGP neighbors found\n");
    }
    out
}

/// As JSON: an object by family.
///
/// `failed`: of each neighbor only why it failed, as FRR does.
pub fn json(speaker: &Speaker, families: &[FamilySummary<'_>], failed: bool, now: SystemTime) -> Value {
    let by_family = families
        .iter()
        .map(|summary| (family_key(summary.family).to_owned(), family_json(speaker, summary, failed, now)));
    Value::Object(by_family.collect())
}

fn family_json(speaker: &Speaker, summary: &FamilySummary<'_>, failed: bool, now: SystemTime) -> Value {
    let peers: Map<String, Value> = summary
        .listed
        .iter()
        .map(|neighbor| {
            let peer = if failed { failed_json(neighbor, now) } else { peer_json(summary.family, neighbor, now) };
            (neighbor.name(), peer)
        })
        .collect();
    let failures = summary.neighbors.iter().filter(|neighbor| neighbor.established_at.is_none()).count();
    let count = summary.neighbors.len();
    Value::Object(object([
        ("routerId", speaker.router_id.to_string().into()),
        ("as", speaker.asn.get().into()),
        ("vrfId", 0.into()),
        ("vrfName", "default".into()),
        ("tableVersion", summary.table.version.into()),
        ("ribCount", summary.table.prefixes.into()),
        ("ribMemory", summary.table.memory_octets.into()),
        ("peerCount", count.into()),
        ("peers", peers.into()),
        ("failedPeers", failures.into()),
        ("displayedPeers", summary.listed.len().into()),
        ("totalPeers", count.into()),
        ("dynamicPeers", summary.neighbors.iter().filter(|neighbor| neighbor.dynamic).count().into()),
        ("bestPath", Value::Object(object([("multiPathRelax", "false".into())]))),
    ]))
}

fn peer_json(family: Family, neighbor: &Neighbor, now: SystemTime) -> Value {
    let table = neighbor.families.get(&family).copied().unwrap_or_default();
    let mut peer = Map::new();
    if let Some(hostname) = &neighbor.capabilities.peer_hostname {
        peer.insert("hostname".into(), hostname.as_str().into());
    }
    if let Some(description) = &neighbor.description {
        peer.insert("desc".into(), description.as_str().into());
    }
    if neighbor.dynamic {
        peer.insert("dynamicPeer".into(), true.into());
    }
    let elapsed = now.duration_since(neighbor.established_at.unwrap_or(neighbor.since)).unwrap_or_default();
    peer.extend(object([
        ("remoteAs", neighbor.remote_as.map_or(0, |asn| asn.get()).into()),
        ("localAs", neighbor.local_as.get().into()),
        ("version", 4.into()),
        ("msgRcvd", neighbor.received.total().into()),
        ("msgSent", neighbor.sent.total().into()),
        ("tableVersion", 0.into()),
        ("outq", neighbor.out_queue.into()),
        ("inq", neighbor.in_queue.into()),
        ("peerUptime", up_down(neighbor, now).into()),
        ("peerUptimeMsec", msec(elapsed)),
    ]));
    if let Some(at) = neighbor.established_at {
        peer.insert("peerUptimeEstablishedEpoch".into(), epoch(at));
    }
    peer.extend(object([
        ("pfxRcd", table.received.into()),
        ("pfxSnt", table.sent.into()),
        ("state", state_word(neighbor).into()),
        ("peerState", if neighbor.admin_shutdown { "Admin" } else { "OK" }.into()),
        ("connectionsEstablished", neighbor.established_count.into()),
        ("connectionsDropped", neighbor.dropped_count.into()),
        ("idType", id_type(neighbor).into()),
    ]));
    Value::Object(peer)
}

fn failed_json(neighbor: &Neighbor, now: SystemTime) -> Value {
    let mut peer = object([
        ("connectionsEstablished", neighbor.established_count.into()),
        ("connectionsDropped", neighbor.dropped_count.into()),
        ("peerUptime", up_down(neighbor, now).into()),
        ("peerUptimeMsec", msec(now.duration_since(neighbor.since).unwrap_or_default())),
    ]);
    if let Some(reset) = &neighbor.last_reset {
        peer.insert("lastResetDueTo".into(), reset.due_to.into());
    }
    peer.insert("idType".into(), id_type(neighbor).into());
    Value::Object(peer)
}

/// Who came from a listen range has a star, as in FRR.
fn shown(neighbor: &Neighbor) -> String {
    format!("{}{}", if neighbor.dynamic { "*" } else { "" }, neighbor.name())
}

fn id_type(neighbor: &Neighbor) -> &'static str {
    if neighbor.link.is_some() { "interface" } else { super::afi(neighbor.address) }
}

fn state_word(neighbor: &Neighbor) -> &'static str {
    if neighbor.admin_shutdown { "Idle (Admin)" } else { neighbor.state }
}

fn up_down(neighbor: &Neighbor, now: SystemTime) -> String {
    match neighbor.established_at {
        None if neighbor.established_count == 0 => "never".into(),
        established => uptime(now.duration_since(established.unwrap_or(neighbor.since)).unwrap_or_default()),
    }
}

fn octets(count: usize) -> String {
    match count {
        0..10_240 => format!("{count} bytes"),
        10_240..10_485_760 => format!("{} KiB", count / 1024),
        _ => format!("{} MiB", count / 1_048_576),
    }
}
