//! `show ipsec sa`: IKE SAs and the child SAs under them.

use std::{fmt::Write as _, time::SystemTime};

use serde_json::{Map, Value};

use super::{ago, epoch_us, msec, object, view::Tunnel};
use crate::state::{ChildSa, IkeSa};

/// As text; tunnels without SAs say so.
pub fn text(tunnels: &[Tunnel], now: SystemTime) -> String {
    let mut out = String::new();
    for tunnel in tunnels {
        let name = &tunnel.status.tunnel;
        match &tunnel.detail.ike {
            None => {
                let _ = writeln!(out, "{name}: no IKE SA ({})", tunnel.cause().unwrap_or(tunnel.state()));
            }
            Some(ike) => {
                let role = if ike.initiated { "initiator" } else { "responder" };
                let _ = writeln!(out, "{name}: IKE SA {}, we are {role}, {}", spis(ike), ike.suite);
                let _ = write!(out, "  peer {} at {}, established {} ago", ike.peer, ike.remote, ago(ike.since, now));
                let _ = match ike.rekeyed {
                    Some(at) => writeln!(out, ", rekeyed {} ago", ago(at, now)),
                    None => writeln!(out),
                };
            }
        }
        for child in &tunnel.detail.children {
            child_text(&mut out, tunnel, child, now);
        }
    }
    out
}

fn child_text(out: &mut String, tunnel: &Tunnel, child: &ChildSa, now: SystemTime) {
    let use_ = if child.in_use { "in use" } else { "receives only" };
    let ChildSa { spi_in, spi_out, suite, since, .. } = child;
    let _ = writeln!(out, "  child SA {spi_in} in, {spi_out} out, {suite}, {use_}, installed {} ago", ago(*since, now));
    let _ = writeln!(out, "    {} === {}", child.local_selectors.join(" "), child.remote_selectors.join(" "));
    if let Some(sa) = tunnel.inbound(*spi_in) {
        let _ = write!(out, "    in:  {} packets, {} octets, sequence {}", sa.packets, sa.octets, sa.sequence);
        if let Some(idle) = sa.idle {
            let _ = write!(out, ", last {:.1} s ago", idle.as_secs_f64());
        }
        for (what, count) in [
            ("replayed", sa.replays),
            ("forged", sa.forgeries),
            ("malformed", sa.malformed),
            ("foreign", sa.foreign),
            ("congested", sa.congested),
        ] {
            if count > 0 {
                let _ = write!(out, ", {count} {what}");
            }
        }
        out.push('\n');
    }
    if let Some(sa) = tunnel.outbound(*spi_out) {
        let _ = writeln!(out, "    out: {} packets, {} octets, sequence {}", sa.packets, sa.octets, sa.sequence);
    }
}

/// An object keyed by tunnel.
pub fn json(tunnels: &[Tunnel]) -> Value {
    let one = |tunnel: &Tunnel| {
        let ike = tunnel.detail.ike.as_ref().map_or(Value::Null, ike_json);
        let children = tunnel.detail.children.iter().map(|child| child_json(tunnel, child)).collect();
        let state = tunnel.state().into();
        Value::Object(object([("state", state), ("ikeSa", ike), ("childSas", Value::Array(children))]))
    };
    Value::Object(tunnels.iter().map(|tunnel| (tunnel.status.tunnel.to_string(), one(tunnel))).collect())
}

fn ike_json(ike: &IkeSa) -> Value {
    Value::Object(object([
        ("initiatorSpi", format!("{:016x}", ike.spis.0).into()),
        ("responderSpi", format!("{:016x}", ike.spis.1).into()),
        ("role", if ike.initiated { "initiator" } else { "responder" }.into()),
        ("peerId", ike.peer.as_str().into()),
        ("remote", ike.remote.to_string().into()),
        ("suite", ike.suite.as_str().into()),
        ("establishedUnixUs", epoch_us(ike.since)),
        ("rekeyedUnixUs", ike.rekeyed.map_or(Value::Null, epoch_us)),
    ]))
}

fn child_json(tunnel: &Tunnel, child: &ChildSa) -> Value {
    let texts = |texts: &[String]| Value::Array(texts.iter().map(|text| text.as_str().into()).collect());
    let mut out: Map<String, Value> = object([
        ("spiIn", child.spi_in.to_string().into()),
        ("spiOut", child.spi_out.to_string().into()),
        ("suite", child.suite.as_str().into()),
        ("inUse", child.in_use.into()),
        ("installedUnixUs", epoch_us(child.since)),
        ("localSelectors", texts(&child.local_selectors)),
        ("remoteSelectors", texts(&child.remote_selectors)),
    ]);
    if let Some(sa) = tunnel.inbound(child.spi_in) {
        let inbound = object([
            ("packets", sa.packets.into()),
            ("octets", sa.octets.into()),
            ("sequence", sa.sequence.into()),
            ("idleMs", sa.idle.map_or(Value::Null, msec)),
            ("replays", sa.replays.into()),
            ("forgeries", sa.forgeries.into()),
            ("malformed", sa.malformed.into()),
            ("foreign", sa.foreign.into()),
            ("congested", sa.congested.into()),
        ]);
        out.insert("in".to_owned(), Value::Object(inbound));
    }
    if let Some(sa) = tunnel.outbound(child.spi_out) {
        let outbound =
            object([("packets", sa.packets.into()), ("octets", sa.octets.into()), ("sequence", sa.sequence.into())]);
        out.insert("out".to_owned(), Value::Object(outbound));
    }
    Value::Object(out)
}

fn spis(ike: &IkeSa) -> String {
    format!("{:016x}_i {:016x}_r", ike.spis.0, ike.spis.1)
}
