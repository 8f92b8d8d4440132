//! `show bgp ipv4|ipv6 unicast`: the whole table, a route at a time.

use std::{fmt::Write as _, net::IpAddr};

use bgp_core::validation::ValidationState;
use net_types::Family;
use serde_json::{Map, Value};

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
            match (path.best, path.alternate) {
                (true, _) => '>',
                (false, true) => 'b',
                (false, false) => ' ',
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
pub fn json_row(route: &Route, first: bool, speaker: &Speaker) -> String {
    let paths: Vec<Value> = route.paths.iter().map(|path| path_json(route, path, speaker)).collect();
    let comma = if first { "" } else { "," };
    format!("{comma}\n\"{}\":{}", route.prefix, Value::Array(paths))
}

/// What stands after the last route in JSON.
pub fn json_foot(routes: usize, paths: usize) -> String {
    format!("}},\"totalRoutes\":{routes},\"totalPaths\":{paths}}}\n")
}

/// Whether the table of `family` has next hops of this address family in JSON; a path of our own has the unspecified one.
fn path_json(route: &Route, path: &Path, speaker: &Speaker) -> Value {
    let mut out = Map::new();
    let flags = [("valid", path.valid), ("bestpath", path.best), ("backup", path.alternate), ("stale", path.stale)];
    out.extend(flags.into_iter().filter(|(_, set)| *set).map(|(key, _)| (key.to_owned(), Value::Bool(true))));
    if let Some(validation) = path.validation {
        out.insert("rpkiValidationState".into(), rpki::spelling(validation).into());
    }
    if let Some(reason) = path.reason {
        out.insert("selectionReason".into(), reason.into());
    }
    let internal = matches!(path.source, PathSource::Internal { .. });
    let peer = match path.source {
        PathSource::Local => "(unspec)".to_owned(),
        PathSource::External { peer, .. } | PathSource::Internal { peer, .. } => peer.to_string(),
    };
    out.extend(object([
        ("pathFrom", if internal { "internal" } else { "external" }.into()),
        ("prefix", route.prefix.address().to_string().into()),
        ("prefixLen", route.prefix.bits().into()),
        ("network", route.prefix.to_string().into()),
        ("version", route.version.into()),
    ]));
    if let Some(metric) = metric(path) {
        out.insert("metric".into(), metric.into());
    }
    if let Some(preference) = path.attributes.local_pref {
        out.insert("locPrf".into(), preference.into());
    }
    out.extend(object([
        ("weight", path.weight.into()),
        ("peerId", peer.into()),
        ("path", path.attributes.as_path.to_string().into()),
        ("origin", path.attributes.origin.to_string().into()),
        ("nexthops", next_hops_json(path, speaker).into()),
    ]));
    Value::Object(out)
}

/// The next hops of a path, global first; with both kinds the link-local one is used.
pub(super) fn next_hops_json(path: &Path, speaker: &Speaker) -> Vec<Value> {
    let hop = |address: IpAddr, scope: Option<&str>, used: bool| {
        let mut hop = object([("ip", address.to_string().into())]);
        if let (PathSource::Local, Some(hostname)) = (path.source, &speaker.hostname) {
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
