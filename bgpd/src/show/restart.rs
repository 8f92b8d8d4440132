//! `show bgp neighbors [NEIGHBOR] graceful-restart`: how both sides restart (RFC 4724), as FRR lays it out.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{
    family_key, family_name, object,
    view::{Neighbor, NeighborTable},
};

/// Our mode towards a neighbor; a star tells that it is the speaker's.
fn local_mode(neighbor: &Neighbor) -> String {
    format!("{}{}", neighbor.restart_mode, if neighbor.restart_inherited { "*" } else { "" })
}

/// What the neighbor has said of itself.
fn remote_mode(neighbor: &Neighbor) -> &'static str {
    let capabilities = &neighbor.capabilities;
    match (neighbor.established_at, capabilities.peer_restart_time) {
        (None, _) => "NotApplicable",
        (_, None) => "Disable",
        (_, Some(_)) if capabilities.peer_restarts.is_empty() => "Helper",
        (_, Some(_)) => "Restart",
    }
}

/// Neighbors as JSON: an object by name.
pub fn json(neighbors: &[Neighbor]) -> Value {
    let by_name = neighbors.iter().map(|neighbor| {
        let mut out = object([("neighborAddr", neighbor.name().into())]);
        out.extend(modes(neighbor));
        out.insert("rBit".into(), neighbor.capabilities.peer_restarting.into());
        out.extend(details(neighbor));
        (neighbor.name(), Value::Object(out))
    });
    Value::Object(by_name.collect())
}

/// `gracefulRestartInfo` of `show bgp neighbors json`.
pub(super) fn info(neighbor: &Neighbor) -> Map<String, Value> {
    let by = |said: fn(&NeighborTable) -> bool| {
        let families = neighbor.families.iter().filter(|(_, table)| said(table));
        Value::Object(families.map(|(family, _)| (family_key(*family).to_owned(), Value::Bool(true))).collect())
    };
    let mut out = object([
        ("endOfRibSend", by(|table| table.end_of_rib_sent)),
        ("endOfRibRecv", by(|table| table.end_of_rib_received)),
    ]);
    out.extend(modes(neighbor));
    out.extend(details(neighbor));
    out
}

fn modes(neighbor: &Neighbor) -> Map<String, Value> {
    object([("localGrMode", local_mode(neighbor).into()), ("remoteGrMode", remote_mode(neighbor).into())])
}

/// Times, and what is known of each family.
fn details(neighbor: &Neighbor) -> Map<String, Value> {
    let capabilities = &neighbor.capabilities;
    let received = capabilities.peer_restart_time.unwrap_or_default();
    let (configured, stale) = neighbor.restart_times;
    let timers = object([
        ("configuredRestartTimer", configured.as_secs().into()),
        ("receivedRestartTimer", received.as_secs().into()),
    ]);
    let mut out = object([("timers", Value::Object(timers))]);
    for (family, table) in neighbor.families.iter().filter(|_| capabilities.peer_restart_time.is_some()) {
        let said = object([
            ("endOfRibSend", table.end_of_rib_sent.into()),
            // We have no other: it follows the routes that there were when the session came up.
            ("endOfRibSentAfterUpdate", table.end_of_rib_sent.into()),
            ("endOfRibRecv", table.end_of_rib_received.into()),
        ]);
        let of_family = object([
            ("fBit", capabilities.peer_preserved.contains(family).into()),
            ("endOfRibStatus", Value::Object(said)),
            ("timers", Value::Object(object([("stalePathTimer", stale.as_secs().into())]))),
        ]);
        out.insert(family_key(*family).to_owned(), Value::Object(of_family));
    }
    out
}

/// Neighbors as text.
pub fn text(neighbors: &[Neighbor]) -> String {
    let mut out = String::from("\n* inherited from \"bgp graceful-restart\" and its like\n");
    let said = |yes: bool| if yes { "yes" } else { "no" };
    for neighbor in neighbors {
        let capabilities = &neighbor.capabilities;
        let (configured, stale) = neighbor.restart_times;
        let _ = writeln!(out, "\nBGP neighbor is {}", neighbor.name());
        let _ = writeln!(out, "  Local GR Mode: {}", local_mode(neighbor));
        let _ = writeln!(out, "  Remote GR Mode: {}", remote_mode(neighbor));
        let _ = writeln!(out, "  R bit: {}", said(capabilities.peer_restarting));
        let _ = writeln!(out, "  Timers:\n    Configured Restart Time(sec): {}", configured.as_secs());
        if let Some(received) = capabilities.peer_restart_time {
            let _ = writeln!(out, "    Received Restart Time(sec): {}", received.as_secs());
            for (family, table) in &neighbor.families {
                let _ = writeln!(out, "  {}:", family_name(*family));
                let _ = writeln!(out, "    F bit: {}", said(capabilities.peer_preserved.contains(family)));
                let _ = writeln!(out, "    End-of-RIB Send: {}", said(table.end_of_rib_sent));
                let _ = writeln!(out, "    End-of-RIB Received: {}", said(table.end_of_rib_received));
                let _ = writeln!(out, "    Stale Path Time(sec): {}", stale.as_secs());
            }
        }
    }
    out
}
