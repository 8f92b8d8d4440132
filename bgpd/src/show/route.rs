//! `show bgp ipv4|ipv6 unicast PREFIX`: one route in full.

use std::{fmt::Write as _, time::SystemTime};

use bgp_core::decision::Step;
use bgp_wire::{AsPath, Community, SegmentKind};
use serde_json::{Map, Value};

use super::{
    dampening, epoch, object, rpki,
    table::{metric, next_hops_json},
    view::{Path, PathSource, Route, Speaker},
};

/// As text.
pub fn text(route: &Route, speaker: &Speaker, now: SystemTime) -> String {
    let mut out = String::new();
    let best = route.paths.iter().position(|path| path.best);
    let _ = writeln!(out, "BGP routing table entry for {}, version {}", route.prefix, route.version);
    let best = best.map_or_else(|| "no best path".to_owned(), |index| format!("best #{}", index + 1));
    let _ = writeln!(out, "Paths: ({} available, {best}, table default)", route.paths.len());
    if route.advertised_to.is_empty() {
        out.push_str("  Not advertised to any peer\n");
    } else {
        let peers: Vec<String> = route.advertised_to.iter().map(|(peer, _)| peer.to_string()).collect();
        let _ = writeln!(out, "  Advertised to non peer-group peers:\n  {}", peers.join(" "));
    }
    for path in &route.paths {
        path_text(path, speaker, now, &mut out);
    }
    out
}

fn path_text(path: &Path, speaker: &Speaker, now: SystemTime, out: &mut String) {
    let attributes = &path.attributes;
    if attributes.as_path.is_empty() {
        out.push_str("  Local");
    } else {
        let _ = write!(out, "  {}", attributes.as_path);
    }
    if let Some(aggregator) = &attributes.aggregator {
        let _ = write!(out, ", (aggregated by {} {})", aggregator.asn, aggregator.address);
    }
    if path.stale {
        out.push_str(", (stale)");
    }
    if path.damped {
        out.push_str(", (suppressed due to dampening)");
    }
    let from = match path.source {
        PathSource::Local => "0.0.0.0 (self)".to_owned(),
        PathSource::External { peer, router_id } | PathSource::Internal { peer, router_id } => {
            let from = path.link.as_ref().map_or_else(|| peer.to_string(), ToString::to_string);
            format!("{from} ({})", identifier(router_id))
        }
    };
    let reach = if path.valid { String::new() } else { " (inaccessible)".into() };
    let _ = writeln!(out, "\n    {}{reach} from {from}", path.next_hop);
    if let Some(link_local) = path.link_local {
        let _ = writeln!(out, "    ({link_local}) (used)");
    }
    let _ = write!(out, "      Origin {}", attributes.origin);
    if let Some(metric) = metric(path) {
        let _ = write!(out, ", metric {metric}");
    }
    if let Some(preference) = attributes.local_pref {
        let _ = write!(out, ", localpref {preference}");
    }
    if path.weight != 0 {
        let _ = write!(out, ", weight {}", path.weight);
    }
    for (said, word) in [(path.valid, "valid"), (!path.valid, "invalid")] {
        if said {
            let _ = write!(out, ", {word}");
        }
    }
    out.push_str(match path.source {
        PathSource::Local => ", sourced, local",
        PathSource::External { .. } => ", external",
        PathSource::Internal { .. } => ", internal",
    });
    if attributes.atomic_aggregate {
        out.push_str(", atomic-aggregate");
    }
    if path.multipath {
        out.push_str(", multipath");
    }
    if path.best {
        let _ = write!(out, ", best ({})", path.reason.unwrap_or("First path received"));
    }
    if path.alternate {
        out.push_str(", backup");
    }
    if let Some(validation) = path.validation {
        let _ = write!(out, ", rpki validation-state: {}", rpki::spelling(validation));
    }
    out.push('\n');
    let mut list = |name: &str, values: Vec<String>| {
        if !values.is_empty() {
            let _ = writeln!(out, "      {name}: {}", values.join(" "));
        }
    };
    list("Community", speaker.aliases.list(&attributes.communities));
    list("Extended Community", attributes.ext_communities.iter().map(ToString::to_string).collect());
    list("Large Community", speaker.aliases.list(&attributes.large_communities));
    if let Some(tunnels) = &attributes.tunnel_encap {
        let tunnels: Vec<String> = tunnels.tunnels().map(|tunnel| tunnel.to_string()).collect();
        let _ = writeln!(out, "      Tunnel-encap: {}", tunnels.join(", "));
    }
    if let Some(originator) = attributes.originator_id {
        let clusters: Vec<String> = attributes.cluster_list.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "      Originator: {originator}, Cluster list: {}", clusters.join(" "));
    }
    if let Some(id) = path.path_id {
        let _ = writeln!(out, "      AddPath ID: RX {id}");
    }
    if !path.labels.is_empty() {
        let labels: Vec<String> = path.labels.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "      Remote label: {}", labels.join(" "));
    }
    if let Some(flap) = &path.flap {
        dampening::detail_text(flap, out);
    }
    let age = now.duration_since(path.updated).unwrap_or_default();
    let _ = writeln!(out, "      Last update: {} ago", super::uptime(age));
}

/// As JSON.
pub fn json(route: &Route, speaker: &Speaker) -> Value {
    let mut out = head_json(route);
    let paths: Vec<Value> = route.paths.iter().map(|path| path_json(path, route.version, speaker)).collect();
    out.insert("paths".into(), paths.into());
    Value::Object(out)
}

/// One route of a table in detail, `first` telling whether another stands before it.
pub fn json_row(route: &Route, first: bool, speaker: &Speaker) -> String {
    // FRR puts the prefix as one more element before the paths.
    let mut paths = vec![Value::Object(head_json(route))];
    paths.extend(route.paths.iter().map(|path| path_json(path, route.version, speaker)));
    let comma = if first { "" } else { "," };
    format!("{comma}\n\"{}\":{}", route.prefix, Value::Array(paths))
}

/// What stands before the paths.
fn head_json(route: &Route) -> Map<String, Value> {
    let mut out = object([("prefix", route.prefix.to_string().into()), ("version", route.version.into())]);
    if !route.advertised_to.is_empty() {
        let peers = route.advertised_to.iter().map(|(peer, hostname)| {
            let name = hostname.iter().map(|name| ("hostname".to_owned(), name.as_str().into()));
            (peer.to_string(), Value::Object(name.collect()))
        });
        out.insert("advertisedTo".into(), Value::Object(peers.collect()));
    }
    out
}

fn path_json(path: &Path, version: u64, speaker: &Speaker) -> Value {
    let attributes = &path.attributes;
    let mut out =
        object([("aspath", as_path_json(&attributes.as_path)), ("origin", attributes.origin.to_string().into())]);
    if let Some(metric) = metric(path) {
        out.insert("metric".into(), metric.into());
    }
    if let Some(preference) = attributes.local_pref {
        out.insert("locPrf".into(), preference.into());
    }
    if path.weight != 0 {
        out.insert("weight".into(), path.weight.into());
    }
    out.insert("valid".into(), path.valid.into());
    out.insert("version".into(), version.into());
    match path.source {
        PathSource::Local => out.extend(object([("sourced", true.into()), ("local", true.into())])),
        PathSource::External { .. } | PathSource::Internal { .. } => {}
    }
    if attributes.atomic_aggregate {
        out.insert("atomicAggregate".into(), true.into());
    }
    if let Some(aggregator) = &attributes.aggregator {
        out.insert("aggregatorAs".into(), aggregator.asn.get().into());
        out.insert("aggregatorId".into(), aggregator.address.to_string().into());
    }
    if path.stale {
        out.insert("stale".into(), true.into());
    }
    if path.multipath {
        out.insert("multipath".into(), true.into());
    }
    if path.best {
        let reason = path.reason.unwrap_or("First path received");
        out.insert(
            "bestpath".into(),
            Value::Object(object([("overall", true.into()), ("selectionReason", reason.into())])),
        );
    }
    if path.alternate {
        out.insert("backup".into(), true.into());
    }
    if let Some(validation) = path.validation {
        out.insert("rpkiValidationState".into(), rpki::spelling(validation).into());
    }
    if let Some(asn) = attributes.only_to_customer {
        out.insert("otc".into(), asn.get().into());
    }
    let known = speaker.aliases.list(&attributes.communities);
    let spelt = known.iter().map(|word| camel(word)).collect::<Vec<_>>();
    let extended: Vec<String> = attributes.ext_communities.iter().map(ToString::to_string).collect();
    let large = speaker.aliases.list(&attributes.large_communities);
    for (key, string, values) in [
        ("community", known.join(" "), spelt),
        ("extendedCommunity", extended.join(" "), extended),
        ("largeCommunity", large.join(" "), large),
    ] {
        if !values.is_empty() {
            out.insert(key.into(), Value::Object(object([("string", string.into()), ("list", values.into())])));
        }
    }
    if let Some(tunnels) = &attributes.tunnel_encap {
        let tunnels: Vec<Value> = tunnels.tunnels().map(|tunnel| tunnel.to_string().into()).collect();
        out.insert("tunnelEncap".into(), tunnels.into());
    }
    if let Some(originator) = attributes.originator_id {
        out.insert("originatorId".into(), originator.to_string().into());
        let clusters: Vec<Value> = attributes.cluster_list.iter().map(|id| id.to_string().into()).collect();
        out.insert("clusterList".into(), Value::Object(object([("list", clusters.into())])));
    }
    if let Some(id) = path.path_id {
        out.insert("addpathRxId".into(), id.into());
    }
    if let Some(label) = path.labels.first() {
        out.insert("remoteLabel".into(), (*label).into());
    }
    if let Some(flap) = &path.flap {
        dampening::detail_json(flap, SystemTime::now(), &mut out);
    }
    out.insert("lastUpdate".into(), Value::Object(object([("epoch", epoch(path.updated))])));
    let hops = next_hops_json(path, speaker).into_iter().map(|mut hop| {
        if let Value::Object(fields) = &mut hop {
            fields.insert("metric".into(), path.igp_metric.into());
            fields.insert("accessible".into(), path.valid.into());
        }
        hop
    });
    out.insert("nexthops".into(), hops.collect::<Vec<_>>().into());
    let peer = match path.source {
        PathSource::Local => object([("peerId", "0.0.0.0".into()), ("routerId", speaker.router_id.to_string().into())]),
        PathSource::External { peer, router_id } => object([
            ("peerId", peer.to_string().into()),
            ("routerId", identifier(router_id).into()),
            ("type", "external".into()),
        ]),
        PathSource::Internal { peer, router_id } => object([
            ("peerId", peer.to_string().into()),
            ("routerId", identifier(router_id).into()),
            ("type", "internal".into()),
        ]),
    };
    let mut peer = peer;
    if let Some(hostname) = &path.hostname {
        peer.insert("hostname".into(), hostname.as_str().into());
    }
    if let Some(link) = &path.link {
        peer.insert("interface".into(), link.as_str().into());
    }
    out.insert("peer".into(), Value::Object(peer));
    Value::Object(out)
}

/// A well-known community as FRR's JSON lists it, `no-export` as `noExport`; others stay as they are.
fn camel(word: &str) -> String {
    let well_known = word.parse::<Community>().is_ok() && !word.contains(':');
    if !well_known {
        return word.to_owned();
    }
    let mut parts = word.split('-');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut out, part| {
        let mut letters = part.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.extend(letters.map(|letter| letter.to_ascii_lowercase()));
        out
    })
}

/// Why a path is the best, as FRR spells it.
pub fn reason(step: Step) -> &'static str {
    match step {
        Step::Only => "First path received",
        Step::Staleness => "Path Staleness",
        Step::Weight => "Weight",
        Step::LocalPref => "Local Pref",
        Step::Local => "Local Route",
        Step::AsPath => "AS Path",
        Step::Origin => "Origin",
        Step::Med => "MED",
        Step::PeerType => "Peer Type",
        Step::IgpMetric => "IGP Metric",
        Step::Age => "Older Path",
        Step::RouterId => "Router ID",
        Step::Clusters => "Cluster length",
        Step::Address => "Neighbor IP",
        Step::Rest => "Nothing left to compare",
    }
}

/// As FRR prints one that is not known.
fn identifier(router_id: Option<net_types::RouterId>) -> String {
    router_id.map_or_else(|| "0.0.0.0".to_owned(), |id| id.to_string())
}

fn as_path_json(path: &AsPath) -> Value {
    let segments = path.segments().iter().map(|segment| {
        let kind = match segment.kind {
            SegmentKind::Set => "as-set",
            SegmentKind::Sequence => "as-sequence",
            SegmentKind::ConfedSequence => "as-confed-sequence",
            SegmentKind::ConfedSet => "as-confed-set",
        };
        let list: Vec<Value> = segment.asns.iter().map(|asn| asn.get().into()).collect();
        Value::Object(object([("type", kind.into()), ("list", list.into())]))
    });
    let string = if path.is_empty() { "Local".to_owned() } else { path.to_string() };
    Value::Object(object([
        ("string", string.into()),
        ("segments", segments.collect::<Vec<_>>().into()),
        ("length", path.hop_count().into()),
    ]))
}
