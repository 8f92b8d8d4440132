//! `show ip route` and `show ipv6 route`: what the kernel forwards by, a route at a time.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    afi, object,
    view::{Forwarding, KernelRoute, Learned, RouteProtocol, Way},
};

/// What stands above the routes, as text.
pub const HEAD: &str = "Codes: K - kernel route, C - connected, S - static, B - BGP,\n\
\x20      P - IPsec (reverse-route),\n\
\x20      > - selected route, * - FIB route, q - queued, b - backup, p - fails closed\n\n";

/// One route, as lines of text.
pub fn row(route: &KernelRoute) -> String {
    let code = match route.protocol {
        RouteProtocol::Kernel => 'K',
        RouteProtocol::Connected => 'C',
        RouteProtocol::Static => 'S',
        RouteProtocol::Ipsec => 'P',
        RouteProtocol::Bgp { .. } => 'B',
    };
    let mark = match (route.selected, route.installed) {
        (false, _) => ' ',
        (true, true) => '*',
        (true, false) => 'q',
    };
    let mut out = format!("{code}{}{mark} {}", if route.selected { '>' } else { ' ' }, route.prefix);
    if route.protocol != RouteProtocol::Connected {
        let _ = write!(out, " [{}/{}]", route.distance, route.metric);
    }
    if route.tag != 0 {
        let _ = write!(out, " tag {},", route.tag);
    }
    let mut ways = route.ways.iter();
    let _ = write!(out, " {}", ways.next().map(|way| way_text(route, way)).unwrap_or_default());
    if let Some(id) = route.nexthop_id {
        let _ = write!(out, ", nhid {id}");
    }
    if route.protected {
        out.push_str(", fails closed");
    }
    out.push('\n');
    let width = route.prefix.to_string().len();
    for way in ways {
        let _ = writeln!(out, "  {mark} {:width$} {}", "", way_text(route, way));
    }
    if let Some(backup) = &route.backup {
        let _ = writeln!(out, "  b {:width$} {}", "", way_text(route, &backup.clone().into()));
    }
    out
}

fn way_text(route: &KernelRoute, way: &Way) -> String {
    let source = route.source.map(|source| format!(", src {source}")).unwrap_or_default();
    match &way.forwarding {
        Forwarding::Via { gateway: Some(gateway), interface, .. } => {
            format!("via {gateway}, {interface}{source}, weight {}", way.weight)
        }
        Forwarding::Via { gateway: None, interface, .. } => format!("is directly connected, {interface}{source}"),
        Forwarding::Blackhole => "unreachable (blackhole)".into(),
        Forwarding::Unreachable => "unreachable (ICMP unreachable)".into(),
    }
}

/// The routes to one prefix in JSON, `first` telling whether others stand before them. The whole is `{`, the rows, `}`.
pub fn json_row(routes: &[&KernelRoute], first: bool) -> String {
    let Some(route) = routes.first() else { return String::new() };
    let all: Vec<String> = routes.iter().map(|route| entry_json(route).to_string()).collect();
    let comma = if first { "" } else { "," };
    format!("{comma}\n\"{}\":[{}]", route.prefix, all.join(","))
}

fn entry_json(route: &KernelRoute) -> Value {
    let protocol = match route.protocol {
        RouteProtocol::Kernel => "kernel",
        RouteProtocol::Connected => "connected",
        RouteProtocol::Static => "static",
        RouteProtocol::Ipsec => "ipsec",
        RouteProtocol::Bgp { .. } => "bgp",
    };
    let mut out = object([
        ("prefix", route.prefix.to_string().into()),
        ("prefixLen", route.prefix.bits().into()),
        ("protocol", protocol.into()),
        ("vrfId", 0.into()),
        ("vrfName", "default".into()),
        ("distance", route.distance.into()),
        ("metric", route.metric.into()),
        ("table", 254.into()),
        ("internalStatus", (if route.installed { 16 } else { 0 }).into()),
        ("internalFlags", internal_flags(route).into()),
    ]);
    if route.selected {
        out.extend(object([
            ("selected", true.into()),
            ("destSelected", true.into()),
            ("installed", route.installed.into()),
        ]));
    }
    if route.tag != 0 {
        out.insert("tag".into(), route.tag.into());
    }
    if let Some(Learned { as_path, communities, large_communities }) = &route.learned {
        out.insert("asPath".into(), as_path.as_str().into());
        out.insert("communities".into(), communities.as_str().into());
        out.insert("largeCommunities".into(), large_communities.as_str().into());
    }
    if route.protected {
        out.insert("failsClosed".into(), true.into());
    }
    if let Some(id) = route.nexthop_id {
        out.insert("nexthopGroupId".into(), id.into());
        out.insert("installedNexthopGroupId".into(), id.into());
    }
    let mut hops = Vec::new();
    for way in &route.ways {
        if let Some(next_hop) = way.recursive {
            let hop = object([
                ("flags", 5.into()),
                ("ip", next_hop.to_string().into()),
                ("afi", afi(next_hop).into()),
                ("active", true.into()),
                ("recursive", true.into()),
                ("weight", way.weight.into()),
            ]);
            hops.push(Value::Object(hop));
        }
        hops.push(hop_json(route, way, route.selected && route.installed));
    }
    out.insert("internalNextHopNum".into(), hops.len().into());
    out.insert("internalNextHopActiveNum".into(), hops.len().into());
    out.insert("nexthops".into(), hops.into());
    if let Some(backup) = &route.backup {
        out.insert("backupNexthops".into(), vec![hop_json(route, &backup.clone().into(), false)].into());
    }
    Value::Object(out)
}

/// The flags that FRR's zebra keeps of a route: selected (8), of iBGP (4), may be recursive (1), distance counts (64).
fn internal_flags(route: &KernelRoute) -> u32 {
    match route.protocol {
        RouteProtocol::Static | RouteProtocol::Ipsec => 73,
        RouteProtocol::Bgp { internal: true } => 13,
        RouteProtocol::Bgp { internal: false } if route.ways.iter().any(|way| way.recursive.is_some()) => 9,
        _ => 8,
    }
}

fn hop_json(route: &KernelRoute, way: &Way, fib: bool) -> Value {
    let mut out = object([("flags", (if fib { 3 } else { 1 }).into())]);
    if fib {
        out.insert("fib".into(), true.into());
    }
    match &way.forwarding {
        Forwarding::Via { gateway, ifindex, interface } => {
            match gateway {
                Some(gateway) => {
                    out.insert("ip".into(), gateway.to_string().into());
                    out.insert("afi".into(), afi(*gateway).into());
                }
                None => {
                    out.insert("directlyConnected".into(), true.into());
                }
            }
            if let Some(source) = route.source {
                out.insert("rmapSource".into(), source.to_string().into());
            }
            out.insert("interfaceIndex".into(), (*ifindex).into());
            out.insert("interfaceName".into(), interface.as_str().into());
            out.insert("active".into(), true.into());
            out.insert("weight".into(), way.weight.into());
        }
        Forwarding::Blackhole => {
            out.extend(object([("unreachable", true.into()), ("blackhole", true.into()), ("active", true.into())]));
            out.insert("weight".into(), 1.into());
        }
        Forwarding::Unreachable => {
            out.extend(object([("unreachable", true.into()), ("reject", true.into()), ("active", true.into())]));
        }
    }
    Value::Object(out)
}
