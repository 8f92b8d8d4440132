//! `show rpki`, with FRR's field names.

use std::fmt::Write as _;

use bgp_core::validation::{Roa, ValidationState};
use config::model::RpkiTransport;
use net_types::{Asn, Family, Prefix};
use serde_json::{Map, Value};

use super::{epoch, object};
use crate::rpki::CacheStatus;

fn mode(cache: &CacheStatus) -> &'static str {
    match cache.config.transport {
        RpkiTransport::Tcp => "tcp",
        RpkiTransport::Tls { .. } => "tls",
    }
}

fn state(cache: &CacheStatus) -> &'static str {
    if cache.client.connected { "connected" } else { "disconnected" }
}

/// `show rpki cache-connection`, as text.
pub fn connections_text(caches: &[CacheStatus]) -> String {
    let mut out = match caches.iter().find(|cache| cache.active) {
        Some(active) => format!("Connected to group {}\n", active.preference),
        None => "No payloads of any RPKI cache are in force.\n".to_owned(),
    };
    for cache in caches {
        let (host, port, preference) = (&cache.config.host, cache.config.port, cache.preference);
        let _ = writeln!(out, "rpki {} cache {host} {port} pref {preference} ({})", mode(cache), state(cache));
        let version = cache.client.version as u8;
        match (cache.client.position, &cache.trouble) {
            (Some((session, serial)), None) => {
                let payloads = cache.client.payloads;
                let _ = writeln!(out, "  version {version}, session {session}, serial {serial}, {payloads} payloads");
            }
            (_, Some(trouble)) => {
                let _ = writeln!(out, "  {trouble}; {} payloads kept", cache.client.payloads);
            }
            (None, None) => {}
        }
    }
    out
}

/// `show rpki cache-connection json`
pub fn connections_json(caches: &[CacheStatus]) -> Value {
    let mut out = Map::new();
    if let Some(active) = caches.iter().find(|cache| cache.active) {
        out.insert("connectedGroup".into(), active.preference.into());
    }
    let connections = caches.iter().map(|cache| {
        let mut one = server_json(cache);
        let status = &cache.client;
        one.extend(object([
            ("state", state(cache).into()),
            ("active", cache.active.into()),
            ("since", epoch(cache.since)),
            ("protocolVersion", (status.version as u8).into()),
            ("payloadCount", status.payloads.into()),
            ("refreshInterval", status.intervals.refresh.as_secs().into()),
            ("retryInterval", status.intervals.retry.as_secs().into()),
            ("expireInterval", status.intervals.expire.as_secs().into()),
        ]));
        if let Some((session, serial)) = status.position {
            one.extend(object([("sessionId", session.into()), ("serial", serial.into())]));
        }
        if let Some(trouble) = &cache.trouble {
            one.insert("lastError".into(), trouble.as_str().into());
        }
        Value::Object(one)
    });
    out.insert("connections".into(), connections.collect::<Vec<_>>().into());
    Value::Object(out)
}

fn server_json(cache: &CacheStatus) -> Map<String, Value> {
    object([
        ("mode", mode(cache).into()),
        ("host", cache.config.host.as_str().into()),
        ("port", cache.config.port.to_string().into()),
        ("preference", cache.preference.into()),
    ])
}

/// `show rpki cache-server`, as text.
pub fn servers_text(caches: &[CacheStatus]) -> String {
    let line = |cache: &CacheStatus| {
        let (host, port, preference) = (&cache.config.host, cache.config.port, cache.preference);
        format!("host: {host} port: {port}, preference: {preference}, protocol: {}\n", mode(cache))
    };
    caches.iter().map(line).collect()
}

/// `show rpki cache-server json`
pub fn servers_json(caches: &[CacheStatus]) -> Value {
    let servers: Vec<Value> = caches.iter().map(|cache| Value::Object(server_json(cache))).collect();
    Value::Object(object([("servers", servers.into())]))
}

/// What stands above the payloads, as text.
pub const PREFIXES_HEAD: &str =
    "RPKI/RTR prefix table\nPrefix                                   Prefix Length  Origin-AS\n";

fn asn(roa: &Roa) -> u32 {
    roa.asn().map_or(0, Asn::get)
}

/// One payload, as text.
pub fn prefix_row(roa: &Roa) -> String {
    let prefix = roa.prefix();
    format!("{:<40}   {:>3} - {:<3}  {}\n", prefix.address(), prefix.bits(), roa.max_bits(), asn(roa))
}

/// One payload, in JSON.
pub fn prefix_json(roa: &Roa) -> Value {
    let prefix = roa.prefix();
    Value::Object(object([
        ("prefix", prefix.address().to_string().into()),
        ("prefixLenMin", prefix.bits().into()),
        ("prefixLenMax", roa.max_bits().into()),
        ("asn", asn(roa).into()),
    ]))
}

/// What stands below the payloads, as text.
pub fn prefixes_foot(counts: [usize; 2]) -> String {
    let [v4, v6] = counts;
    format!("Number of IPv4 Prefixes: {v4}\nNumber of IPv6 Prefixes: {v6}\n")
}

/// What stands below the payloads, in JSON.
pub fn prefixes_json_foot(counts: [usize; 2]) -> String {
    let [v4, v6] = counts;
    format!("\n],\"ipv4PrefixCount\":{v4},\"ipv6PrefixCount\":{v6}}}\n")
}

/// Which of the two counts a payload belongs to.
pub fn family(roa: &Roa) -> Family {
    roa.prefix().family()
}

/// `show rpki prefix`, as text.
pub fn covering_text(roas: &[Roa], verdict: Option<(Prefix, Asn, ValidationState)>) -> String {
    let mut out = PREFIXES_HEAD.to_owned();
    out.extend(roas.iter().map(prefix_row));
    if let Some((prefix, asn, state)) = verdict {
        let _ = writeln!(out, "{prefix} from {asn}: {state}");
    }
    out
}

/// `show rpki prefix json`
pub fn covering_json(roas: &[Roa], verdict: Option<(Prefix, Asn, ValidationState)>) -> Value {
    let mut out = object([("prefixes", roas.iter().map(prefix_json).collect::<Vec<_>>().into())]);
    if let Some((_, _, state)) = verdict {
        out.insert("rpkiValidationState".into(), spelling(state).into());
    }
    Value::Object(out)
}

/// As FRR's tables spell a state, which the command line spells without the space.
pub fn spelling(state: ValidationState) -> &'static str {
    match state {
        ValidationState::Valid => "valid",
        ValidationState::Invalid => "invalid",
        ValidationState::NotFound => "not found",
    }
}
