//! `show wan`: the links that tunnels run over.

use std::{net::IpAddr, time::SystemTime};

use rpc::WanState;
use serde_json::{Map, Value};

use super::{
    Table, ago, object,
    view::{Wan, since},
};

/// A line each.
pub fn text(wans: &[Wan], now: SystemTime) -> String {
    let mut table = Table::new(&["WAN", "Interface", "State", "For", "Addresses", "Gateway", "Tunnels up", "Cause"]);
    for wan in wans {
        let (addresses, cause) = match &wan.status.state {
            WanState::Up { addresses } => (texts(addresses).join(" "), ""),
            WanState::Down { cause } => ("-".to_owned(), cause.as_str()),
        };
        let (tunnels, up) = wan.tunnels;
        table.row(vec![
            wan.status.wan.to_string(),
            wan.status.interface.to_string(),
            wan.state().to_owned(),
            ago(since(wan.status.since_unix_us), now),
            addresses,
            if wan.gateways.is_empty() { "-".to_owned() } else { wan.gateways.join(" ") },
            format!("{up} of {tunnels}"),
            cause.to_owned(),
        ]);
    }
    table.render()
}

/// An object keyed by link.
pub fn json(wans: &[Wan]) -> Value {
    Value::Object(wans.iter().map(|wan| (wan.status.wan.to_string(), one(wan))).collect())
}

fn one(wan: &Wan) -> Value {
    let (addresses, cause) = match &wan.status.state {
        WanState::Up { addresses } => (texts(addresses), Value::Null),
        WanState::Down { cause } => (Vec::new(), cause.as_str().into()),
    };
    let array = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::from).collect());
    let mut out: Map<String, Value> = object([
        ("state", wan.state().into()),
        ("cause", cause),
        ("sinceUnixUs", wan.status.since_unix_us.into()),
        ("interface", wan.status.interface.to_string().into()),
        ("ifindex", wan.status.ifindex.into()),
        ("addresses", array(addresses)),
        ("gateways", array(wan.gateways.clone())),
        ("tunnels", wan.tunnels.0.into()),
        ("tunnelsUp", wan.tunnels.1.into()),
    ]);
    if let Some(stats) = &wan.stats {
        out.extend(object([
            ("ikeReceived", stats.ike_received.into()),
            ("ikeDropped", stats.ike_dropped.into()),
            ("natKeepalives", stats.keepalives.into()),
            ("unknownSpi", stats.unknown_spi.into()),
            ("malformed", stats.malformed.into()),
        ]));
    }
    Value::Object(out)
}

fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}
