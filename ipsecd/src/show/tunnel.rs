//! `show ipsec tunnel`: a line for each tunnel, or all there is to say of one.

use std::{fmt::Write as _, time::SystemTime};

use config::model::{Gre, Probe};
use dataplane::TunnelStats;
use rpc::TunnelState;
use serde_json::{Map, Value};

use super::{
    Table, ago, epoch_us, msec, object, octets,
    view::{Tunnel, since},
};
use crate::state::Questions;

/// A line each.
pub fn table(tunnels: &[Tunnel], now: SystemTime) -> String {
    let mut table = Table::new(&["Tunnel", "WAN", "Peer", "State", "For", ">MTU", ">Sent", ">Received", "Cause"]);
    for tunnel in tunnels {
        let mtu = match tunnel.status.state {
            TunnelState::Up { mtu, .. } => mtu.to_string(),
            TunnelState::Negotiating | TunnelState::Down { .. } => "-".to_owned(),
        };
        let count =
            |of: fn(&TunnelStats) -> u64| tunnel.stats.as_ref().map_or_else(|| "-".to_owned(), |s| octets(of(s)));
        table.row(vec![
            tunnel.status.tunnel.to_string(),
            tunnel.status.wan.to_string(),
            tunnel.peer_address(),
            tunnel.state().to_owned(),
            ago(since(tunnel.status.since_unix_us), now),
            mtu,
            count(|stats| stats.sent_octets),
            count(|stats| stats.received_octets),
            tunnel.cause().unwrap_or_default().to_owned(),
        ]);
    }
    table.render()
}

/// All there is to say of one.
pub fn text(tunnel: &Tunnel, now: SystemTime) -> String {
    let status = &tunnel.status;
    let mut out = format!("Tunnel {} over {}: {}", status.tunnel, status.wan, tunnel.state());
    if let Some(cause) = tunnel.cause() {
        let _ = write!(out, " ({cause})");
    }
    let _ = writeln!(out, " for {}", ago(since(status.since_unix_us), now));
    if let Some(description) = &tunnel.description {
        let _ = writeln!(out, "  Description: {description}");
    }
    let _ = writeln!(out, "  Interface index: {}", status.ifindex);
    if let Some(Gre { key }) = tunnel.gre {
        let key = key.map_or_else(String::new, |key| format!(" with key {key}"));
        let _ = writeln!(out, "  Mode: GRE{key}, ESP in transport mode");
    }
    if let Some(choice) = &tunnel.detail.datapath {
        let _ = writeln!(out, "  Datapath: {} ({})", choice.name(), choice.why);
    }
    if let TunnelState::Up { mtu, addresses, selectors } = &status.state {
        let list = |items: Vec<String>| items.join(", ");
        let _ = writeln!(out, "  MTU: {mtu}, addresses: {}", list(addresses.iter().map(ToString::to_string).collect()));
        if !selectors.is_empty() {
            let _ = writeln!(out, "  Carries: {}", list(selectors.iter().map(ToString::to_string).collect()));
        }
    }
    if let Some(local) = &tunnel.local {
        let _ = writeln!(out, "  Local address: {local}");
    }
    let _ = write!(out, "  Peer: {}", tunnel.peer_address());
    if let Some(id) = &tunnel.remote_id {
        let _ = write!(out, ", {id}");
    }
    out.push('\n');
    if let Some(id) = &tunnel.local_id {
        let _ = writeln!(out, "  We are: {id}");
    }
    let detail = &tunnel.detail;
    if let Some((probe, silent)) = &tunnel.probe {
        let _ = writeln!(out, "  Probe: {}", probe_text(probe, *silent, &detail.probe));
    }
    let _ = writeln!(
        out,
        "  Came up: {}, IKE SA rekeyed: {}, child SA rekeyed: {}",
        detail.times_up, detail.ike_rekeys, detail.child_rekeys
    );
    let rare = [
        ("Authenticated anew", detail.ike_reauths),
        ("moved", detail.moves),
        ("restarts of the peer noticed", detail.peer_restarts),
    ];
    if rare.iter().any(|(_, count)| *count > 0) {
        let rare = rare.map(|(what, count)| format!("{what}: {count}"));
        let _ = writeln!(out, "  {}", rare.join(", "));
    }
    if let Some(stats) = &tunnel.stats {
        let _ = writeln!(out, "  Sent: {} packets, {} octets", stats.sent_packets, stats.sent_octets);
        let _ = writeln!(out, "  Received: {} packets, {} octets", stats.received_packets, stats.received_octets);
        let dropped: Vec<_> = drops(stats).into_iter().filter(|(_, count)| *count > 0).collect();
        if !dropped.is_empty() {
            let listed: Vec<_> = dropped.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            let _ = writeln!(out, "  Dropped: {}", listed.join(", "));
        }
    }
    if let Some(error) = &detail.last_error {
        let _ = writeln!(out, "  Last error, {} ago: {}", ago(error.at, now), error.value);
    }
    out
}

fn probe_text(Probe { address, interval, timeout }: &Probe, silent: bool, questions: &Questions) -> String {
    let Questions { asked, lost, round_trip, .. } = questions;
    let found = match round_trip {
        _ if silent => format!("nobody answers at {address}"),
        Some(round_trip) => format!("{address} answers in {:.1} ms", round_trip.as_secs_f64() * 1e3),
        None => format!("{address} has not answered yet"),
    };
    format!("{found}; asked every {interval:?} {asked} times, {lost} lost, silent after {timeout:?}")
}

fn probe_json(Probe { address, interval, timeout }: &Probe, silent: bool, questions: &Questions) -> Value {
    let Questions { asked, answered, lost, round_trip } = questions;
    let round_trip = round_trip.map(|round_trip| u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX));
    Value::Object(object([
        ("address", address.to_string().into()),
        ("intervalMs", msec(*interval)),
        ("timeoutMs", msec(*timeout)),
        ("silent", silent.into()),
        ("roundTripUs", round_trip.into()),
        ("asked", (*asked).into()),
        ("answered", (*answered).into()),
        ("lost", (*lost).into()),
    ]))
}

/// An object keyed by tunnel.
pub fn json(tunnels: &[Tunnel]) -> Value {
    Value::Object(tunnels.iter().map(|tunnel| (tunnel.status.tunnel.to_string(), one(tunnel))).collect())
}

fn one(tunnel: &Tunnel) -> Value {
    let status = &tunnel.status;
    let text = |value: &Option<String>| value.clone().map_or(Value::Null, Value::from);
    let mut out: Map<String, Value> = object([
        ("state", tunnel.state().into()),
        ("cause", tunnel.cause().map_or(Value::Null, Value::from)),
        ("sinceUnixUs", status.since_unix_us.into()),
        ("generation", status.generation.into()),
        ("wan", status.wan.to_string().into()),
        ("ifindex", status.ifindex.into()),
        ("description", text(&tunnel.description)),
        ("peerAddress", tunnel.peer_address().into()),
        ("remoteId", text(&tunnel.remote_id)),
        ("localId", text(&tunnel.local_id)),
        ("shutdown", tunnel.shutdown.into()),
        ("mode", if tunnel.gre.is_some() { "gre" } else { "tunnel" }.into()),
    ]);
    if let Some(Gre { key }) = tunnel.gre {
        out.insert("greKey".to_owned(), key.into());
    }
    if let Some(local) = &tunnel.local {
        out.insert("localAddress".to_owned(), local.to_string().into());
    }
    if let TunnelState::Up { mtu, addresses, selectors } = &status.state {
        let addresses = addresses.iter().map(|address| address.to_string().into()).collect();
        let carries = selectors.iter().map(|prefix| prefix.to_string().into()).collect();
        out.extend(object([
            ("mtu", (*mtu).into()),
            ("addresses", Value::Array(addresses)),
            ("carries", Value::Array(carries)),
        ]));
    }
    let detail = &tunnel.detail;
    out.extend(object([
        ("datapath", detail.datapath.as_ref().map_or(Value::Null, |choice| choice.name().into())),
        ("datapathReason", detail.datapath.as_ref().map_or(Value::Null, |choice| choice.why.as_str().into())),
        ("timesUp", detail.times_up.into()),
        ("ikeRekeys", detail.ike_rekeys.into()),
        ("childRekeys", detail.child_rekeys.into()),
        ("ikeReauths", detail.ike_reauths.into()),
        ("moves", detail.moves.into()),
        ("peerRestarts", detail.peer_restarts.into()),
    ]));
    if let Some((probe, silent)) = &tunnel.probe {
        out.insert("probe".to_owned(), probe_json(probe, *silent, &detail.probe));
    }
    if let Some(stats) = &tunnel.stats {
        let dropped = drops(stats).into_iter().map(|(reason, count)| (camel_case(reason), count.into())).collect();
        out.extend(object([
            ("sentPackets", stats.sent_packets.into()),
            ("sentOctets", stats.sent_octets.into()),
            ("receivedPackets", stats.received_packets.into()),
            ("receivedOctets", stats.received_octets.into()),
            ("idleMs", stats.idle.map_or(Value::Null, msec)),
            ("dropped", Value::Object(dropped)),
        ]));
    }
    let last_error = detail.last_error.as_ref().map_or(Value::Null, |error| {
        Value::Object(object([("atUnixUs", epoch_us(error.at)), ("error", error.value.as_str().into())]))
    });
    out.insert("lastError".to_owned(), last_error);
    Value::Object(out)
}

/// Packets that a tunnel did not carry, by reason: words for people, which are labels of the metrics too.
pub fn drops(stats: &TunnelStats) -> [(&'static str, u64); 6] {
    [
        ("without SA", stats.dropped_no_sa),
        ("outside selectors", stats.dropped_selectors),
        ("too big", stats.dropped_too_big),
        ("malformed", stats.dropped_malformed),
        ("refused by WAN", stats.dropped_send),
        ("refused by interface", stats.dropped_device),
    ]
}

fn camel_case(words: &str) -> String {
    let mut out = String::new();
    for (at, word) in words.split(' ').enumerate() {
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if at > 0 => out.extend(first.to_uppercase()),
            Some(first) => out.extend(first.to_lowercase()),
            None => {}
        }
        out.push_str(&letters.as_str().to_lowercase());
    }
    out
}
