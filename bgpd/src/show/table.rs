//! `show bgp ipv4|ipv6 unicast`: the whole table, a route at a time.

use std::{fmt::Write as _, net::IpAddr};

use bgp_core::validation::ValidationState;
use net_types::Family;
use serde_json::Value;

use super::{
    afi, object, rpki,
    view::{Path, PathSource, Route, Speaker},
};

/// What stands above the routes, as text.
pub fn head(speaker: &Speaker, version: u64) -> String {
    format!(
        "BGP table version is {version}, local router ID is {}, vrf id 0\n\
         Default local pref {}, local AS {}\n\
         Status codes:  s suppressed, d damped, h history, * valid, > best, = multipath, b backup,\n\
         \x20              i internal, r RIB-failure, S Stale, R Removed\n\
         Origin codes:  i - IGP, e - EGP, ? - incomplete\n\
         RPKI validation codes: V valid, I invalid, N Not found\n\n\
         \x20   Network          Next Hop            Metric LocPrf Weight Path\n",
        speaker.router_id, speaker.default_local_preference, speaker.asn
    )
}

/// One route, as lines of text.
pub fn rows(route: &Route) -> String {
    let mut out = String::new();
    for (index, path) in route.paths.iter().enumerate() {
        let network = if index == 0 { route.prefix.to_string() } else { String::new() };
        let status = [
            match path.validation {
                _ if path.stale => 'S',
                Some(ValidationState::Valid) => 'V',
                Some(ValidationState::Invalid) => 'I',
                Some(ValidationState::NotFound) => 'N',
                None => ' ',
            },
            if path.valid { '*' } else { ' ' },
            match (path.best, path.multipath, path.alternate) {
                _ if path.damped => 'd',
                (true, ..) => '>',
                (_, true, _) => '=',
                (.., true) => 'b',
                _ => ' ',
            },
            if matches!(path.source, PathSource::Internal { .. }) { 'i' } else { ' ' },
        ];
        out.extend(status);
        // FRR breaks the line where the prefix is longer than its column.
        if network.len() > 16 {
            let _ = write!(out, "{network}\n{:20}", "");
        } else {
            let _ = write!(out, "{network:<16}");
        }
        let next_hop = path.next_hop.to_string();
        if next_hop.len() > 16 {
            let _ = write!(out, " {next_hop}\n{:37}", "");
        } else {
            let _ = write!(out, " {next_hop:<16}");
        }
        let number = |value: Option<u32>| value.map_or_else(String::new, |value| value.to_string());
        let attributes = &path.attributes;
        let _ = write!(out, "{:>10} {:>6} {:>6} ", number(metric(path)), number(attributes.local_pref), path.weight);
        if !attributes.as_path.is_empty() {
            let _ = write!(out, "{} ", attributes.as_path);
        }
        out.push(attributes.origin.letter());
        out.push('\n');
    }
    out
}

/// What stands below the routes, as text.
pub fn foot(routes: usize, paths: usize) -> String {
    format!("\nDisplayed  {routes} routes and {paths} total paths\n")
}

/// What stands before the first route in JSON.
pub fn json_head(speaker: &Speaker, version: u64) -> String {
    let mut head = serde_json::to_string(&Value::Object(object([
        ("vrfId", 0.into()),
        ("vrfName", "default".into()),
        ("tableVersion", version.into()),
        ("routerId", speaker.router_id.to_string().into()),
        ("defaultLocPrf", speaker.default_local_preference.into()),
        ("localAS", speaker.asn.get().into()),
    ])))
    .unwrap_or_default();
    head.pop(); // the brace: the routes go inside
    head.push_str(",\"routes\":{");
    head
}

/// One route in JSON, `first` telling whether another stands before it.
///
/// Written straight into text: a table has millions of paths, and nothing in them needs escaping.
pub fn json_row(route: &Route, first: bool, speaker: &Speaker) -> String {
    let mut out = String::with_capacity(400 * route.paths.len());
    let comma = if first { "" } else { "," };
    let _ = write!(out, "{comma}\n\"{}\":[", route.prefix);
    for (index, path) in route.paths.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        path_json(route, path, speaker, &mut out);
    }
    out.push(']');
    out
}

/// What stands after the last route in JSON.
pub fn json_foot(routes: usize, paths: usize) -> String {
    format!("}},\"totalRoutes\":{routes},\"totalPaths\":{paths}}}\n")
}

fn path_json(route: &Route, path: &Path, speaker: &Speaker, out: &mut String) {
    out.push('{');
    let flags = [
        ("valid", path.valid),
        ("multipath", path.multipath),
        ("bestpath", path.best),
        ("backup", path.alternate),
        ("stale", path.stale),
        ("damped", path.damped),
    ];
    for (key, _) in flags.into_iter().filter(|(_, set)| *set) {
        let _ = write!(out, "\"{key}\":true,");
    }
    if let Some(validation) = path.validation {
        let _ = write!(out, "\"rpkiValidationState\":\"{}\",", rpki::spelling(validation));
    }
    if let Some(reason) = path.reason {
        let _ = write!(out, "\"selectionReason\":{},", Value::from(reason));
    }
    let from = if matches!(path.source, PathSource::Internal { .. }) { "internal" } else { "external" };
    let (address, bits) = (route.prefix.address(), route.prefix.bits());
    let _ = write!(
        out,
        "\"pathFrom\":\"{from}\",\"prefix\":\"{address}\",\"prefixLen\":{bits},\"network\":\"{}\",\"version\":{},",
        route.prefix, route.version
    );
    if let Some(metric) = metric(path) {
        let _ = write!(out, "\"metric\":{metric},");
    }
    if let Some(preference) = path.attributes.local_pref {
        let _ = write!(out, "\"locPrf\":{preference},");
    }
    let _ = write!(out, "\"weight\":{},\"peerId\":\"", path.weight);
    let _ = match path.source {
        PathSource::Local => out.write_str("(unspec)"),
        PathSource::External { peer, .. } | PathSource::Internal { peer, .. } => write!(out, "{peer}"),
    };
    let (as_path, origin) = (&path.attributes.as_path, &path.attributes.origin);
    let _ = write!(out, "\",\"path\":\"{as_path}\",\"origin\":\"{origin}\",\"nexthops\":[");
    if path.source == PathSource::Local {
        let hops: Vec<String> = next_hops_json(path, speaker).iter().map(Value::to_string).collect();
        out.push_str(&hops.join(","));
    } else {
        // A host's name is whatever somebody chose.
        let name = path.hostname.as_deref().map(|name| format!("\"hostname\":{},", Value::from(name)));
        let name = name.unwrap_or_default();
        let hop = |out: &mut String, address: IpAddr, scope: &str, used: bool| {
            let used = if used { ",\"used\":true" } else { "" };
            let _ = write!(out, "{{\"ip\":\"{address}\",{name}\"afi\":\"{}\"{scope}{used}}}", afi(address));
        };
        let scope = if path.next_hop.is_ipv6() { ",\"scope\":\"global\"" } else { "" };
        hop(out, path.next_hop, scope, path.link_local.is_none());
        if let Some(link_local) = path.link_local {
            out.push(',');
            hop(out, link_local, ",\"scope\":\"link-local\"", true);
        }
    }
    out.push_str("]}");
}

/// The next hops of a path, global first; with both kinds the link-local one is used.
pub(super) fn next_hops_json(path: &Path, speaker: &Speaker) -> Vec<Value> {
    let hop = |address: IpAddr, scope: Option<&str>, used: bool| {
        let mut hop = object([("ip", address.to_string().into())]);
        let hostname = if path.source == PathSource::Local { &speaker.hostname } else { &path.hostname };
        if let Some(hostname) = hostname {
            hop.insert("hostname".into(), hostname.as_str().into());
        }
        hop.insert("afi".into(), afi(address).into());
        if let Some(scope) = scope {
            hop.insert("scope".into(), scope.into());
        }
        if used {
            hop.insert("used".into(), true.into());
        }
        Value::Object(hop)
    };
    let global_scope = path.next_hop.is_ipv6().then_some("global");
    let mut hops = vec![hop(path.next_hop, global_scope, path.link_local.is_none())];
    hops.extend(path.link_local.map(|address| hop(address, Some("link-local"), true)));
    hops
}

/// FRR shows 0 for a path of our own that has no MED.
pub(super) fn metric(path: &Path) -> Option<u32> {
    path.attributes.med.or((path.source == PathSource::Local).then_some(0))
}

/// `show bgp … json` of a family that is not configured.
pub fn json_nothing(family: Family) -> String {
    let name = super::family_name(family);
    format!(
        "{}\n",
        Value::Object(object([("warning", format!("No BGP {name} table: the family is not active").into())]))
    )
}

/// The routes that passed between a neighbor and us, in the layout that FRR has for them.
pub mod adjacent {
    use super::*;

    /// What stands before the first route; `key` is `receivedRoutes` or `advertisedRoutes`.
    pub fn json_head(speaker: &Speaker, key: &str) -> String {
        let codes = |codes: &[(&str, &str)]| {
            Value::Object(codes.iter().map(|(name, code)| ((*name).to_owned(), (*code).into())).collect())
        };
        let status = [
            ("suppressed", "s"),
            ("damped", "d"),
            ("history", "h"),
            ("valid", "*"),
            ("best", ">"),
            ("multipath", "="),
            ("internal", "i"),
            ("ribFailure", "r"),
            ("stale", "S"),
            ("removed", "R"),
        ];
        let mut head = serde_json::to_string(&Value::Object(object([
            ("bgpTableVersion", 0.into()),
            ("bgpLocalRouterId", speaker.router_id.to_string().into()),
            ("defaultLocPrf", speaker.default_local_preference.into()),
            ("localAS", speaker.asn.get().into()),
            ("bgpStatusCodes", codes(&status)),
            ("bgpOriginCodes", codes(&[("igp", "i"), ("egp", "e"), ("incomplete", "?")])),
        ])))
        .unwrap_or_default();
        head.pop(); // the brace: the routes go inside
        head.push_str(&format!(",\"{key}\":{{"));
        head
    }

    /// One route, `first` telling whether another stands before it.
    pub fn json_row(route: &Route, first: bool) -> String {
        let Some(path) = route.paths.first() else { return String::new() };
        let attributes = &path.attributes;
        let mut out = object([
            ("addrPrefix", route.prefix.address().to_string().into()),
            ("prefixLen", route.prefix.bits().into()),
            ("network", route.prefix.to_string().into()),
        ]);
        let key = if path.next_hop.is_ipv6() { "nextHopGlobal" } else { "nextHop" };
        out.insert(key.into(), path.next_hop.to_string().into());
        if let Some(metric) = attributes.med {
            out.insert("metric".into(), metric.into());
        }
        if let Some(preference) = attributes.local_pref {
            out.insert("locPrf".into(), preference.into());
        }
        out.extend(object([
            ("weight", path.weight.into()),
            ("path", attributes.as_path.to_string().into()),
            ("bgpOriginCode", attributes.origin.letter().to_string().into()),
            ("appliedStatusSymbols", Value::Object(object([("*", true.into()), (">", true.into())]))),
        ]));
        let comma = if first { "" } else { "," };
        format!("{comma}\n\"{}\":{}", route.prefix, Value::Object(out))
    }

    /// What stands after the last route.
    pub fn json_foot(routes: usize, filtered: usize) -> String {
        format!("}},\"totalPrefixCounter\":{routes},\"filteredPrefixCounter\":{filtered}}}\n")
    }
}

/// Routes of VPNs, by distinguisher, and those of VRFs.
pub mod vpn {
    use super::*;

    /// What stands before the first distinguisher.
    pub fn json_head(speaker: &Speaker) -> String {
        super::json_head(speaker, 0) + "\"routeDistinguishers\":{"
    }

    /// What stands after the last route.
    pub fn json_foot(empty: bool) -> &'static str {
        if empty { "}}}\n" } else { "}}}}\n" }
    }

    /// One route, as lines of text: below each path what FRR shows of its labels and extended communities.
    pub fn rows(route: &Route) -> String {
        let mut out = String::new();
        for (index, path) in route.paths.iter().enumerate() {
            let row = super::rows(&Route { paths: vec![path.clone()], advertised_to: Vec::new(), ..*route });
            // The prefix is said once.
            match row.find(&route.prefix.to_string()).filter(|_| index > 0) {
                Some(at) => {
                    let prefix = route.prefix.to_string();
                    let _ =
                        write!(out, "{}{:width$}{}", &row[..at], "", &row[at + prefix.len()..], width = prefix.len());
                }
                None => out.push_str(&row),
            }
            // FRR names the kind of an extended community elsewhere, and not here.
            let bare = |text: String| text.split_once(':').map_or(text.clone(), |(_, value)| value.to_owned());
            let communities = path.attributes.ext_communities.iter().map(|community| bare(community.to_string()));
            let communities: Vec<String> = communities.collect();
            let communities =
                if communities.is_empty() { String::new() } else { format!(" EC{{{}}}", communities.join(" ")) };
            let label = path.labels.first().copied().unwrap_or(bgp_wire::Label::IMPLICIT_NULL.get());
            let _ = writeln!(out, "    UN={}{communities} label={label} type=bgp, subtype=0", path.next_hop);
        }
        out
    }

    /// What stands before the first route of a VRF.
    pub fn vrf_json_head(speaker: &Speaker, number: u32, name: &str) -> String {
        let default = format!("\"vrfId\":0,\"vrfName\":{}", Value::from("default"));
        super::json_head(speaker, 0).replacen(
            &default,
            &format!("\"vrfId\":{number},\"vrfName\":{}", Value::from(name)),
            1,
        )
    }
}
