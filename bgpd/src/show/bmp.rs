//! `show bmp`.

use std::{fmt::Write as _, time::SystemTime};

use net_types::Family;
use serde_json::{Map, Value};

use super::{epoch, family_key, family_name, object, uptime};
use crate::bmp::StationView;

/// The views of a family that a station is told, as the configuration names them.
fn views(station: &StationView, family: Family) -> Vec<&'static str> {
    let Some(monitor) = station.config.monitor.get(&family) else { return Vec::new() };
    let all = [
        (monitor.pre_policy, "pre-policy"),
        (monitor.post_policy, "post-policy"),
        (monitor.loc_rib, "loc-rib"),
        (monitor.adj_rib_out, "adj-rib-out"),
    ];
    all.into_iter().filter(|(told, _)| *told).map(|(_, name)| name).collect()
}

/// As text.
pub fn text(stations: &[StationView], now: SystemTime) -> String {
    if stations.is_empty() {
        return "No BMP station is configured.\n".to_owned();
    }
    let mut out = String::new();
    let mut last = None;
    for station in stations {
        if last.replace(&station.targets) != Some(&station.targets) {
            let _ = writeln!(out, "BMP targets \"{}\":", station.targets);
            for family in Family::ALL {
                let views = views(station, family);
                if !views.is_empty() {
                    let _ = writeln!(out, "  Route monitoring {}: {}", family_name(family), views.join(" "));
                }
            }
            if let Some(interval) = station.config.stats_interval {
                let _ = writeln!(out, "  Statistics every {} ms", interval.as_millis());
            }
        }
        let status = &station.status;
        let since = uptime(now.duration_since(status.since).unwrap_or_default());
        let state = if status.up { "Up" } else { "Down" };
        let _ = write!(out, "  {} port {}: {state} {since}", station.host, station.port);
        let _ = writeln!(out, ", {} messages, {} octets sent", status.messages, status.octets);
        if let Some(trouble) = &status.trouble {
            let _ = writeln!(out, "    {trouble}");
        }
    }
    out
}

/// As JSON.
pub fn json(stations: &[StationView]) -> Value {
    let mut targets = Map::new();
    for station in stations {
        let entry = targets.entry(station.targets.to_string()).or_insert_with(|| {
            let told = Family::ALL.into_iter().filter(|family| !views(station, *family).is_empty());
            let monitor = told.map(|family| (family_key(family).to_owned(), views(station, family).into()));
            let mut entry =
                object([("monitor", Value::Object(monitor.collect())), ("stations", Vec::<Value>::new().into())]);
            if let Some(interval) = station.config.stats_interval {
                entry.insert("statsIntervalMsecs".into(), super::msec(interval));
            }
            Value::Object(entry)
        });
        let status = &station.status;
        let mut one = object([
            ("host", station.host.as_str().into()),
            ("port", station.port.into()),
            ("state", if status.up { "Up" } else { "Down" }.into()),
            ("since", epoch(status.since)),
            ("connections", status.connections.into()),
            ("messagesSent", status.messages.into()),
            ("octetsSent", status.octets.into()),
        ]);
        if let Some(trouble) = &status.trouble {
            one.insert("lastError".into(), trouble.as_str().into());
        }
        if let Some(Value::Array(list)) = entry.get_mut("stations") {
            list.push(Value::Object(one));
        }
    }
    Value::Object(object([("targets", Value::Object(targets))]))
}
