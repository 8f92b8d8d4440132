//! Route flap dampening (RFC 2439), in FRR's layout.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use bgp_core::rib::Dampening;
use serde_json::{Map, Value};

use super::{
    epoch, msec, object, uptime,
    view::{Flap, Path, PathSource, Route, Speaker},
};

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `dampened-paths`: what is not used now.
    Dampened,
    /// `flap-statistics`: everything that is remembered.
    Flaps,
}

/// The figures in force, as text.
pub fn parameters_text(figures: &Dampening) -> String {
    let minutes = |time: Duration| time.as_secs() / 60;
    format!(
        "Half-life time: {} min\nReuse penalty: {}\nSuppress penalty: {}\nMax suppress time: {} min\n\
         Max suppress penalty: {}\n",
        minutes(figures.half_life),
        figures.reuse,
        figures.suppress,
        minutes(figures.max_suppress),
        figures.ceiling()
    )
}

/// The same as JSON.
pub fn parameters_json(figures: &Dampening) -> Value {
    Value::Object(object([
        ("halfLifeSecs", figures.half_life.as_secs().into()),
        ("reusePenalty", figures.reuse.into()),
        ("suppressPenalty", figures.suppress.into()),
        ("maxSuppressTimeSecs", figures.max_suppress.as_secs().into()),
        ("maxSuppressPenalty", figures.ceiling().into()),
    ]))
}

/// What stands above the paths.
pub fn head(speaker: &Speaker, table: Table) -> String {
    let columns = match table {
        Table::Dampened => "    Network          From             Reuse    Path\n",
        Table::Flaps => "    Network          From            Flaps Duration Reuse    Path\n",
    };
    let head = super::table::head(speaker, 0);
    let above = head.rsplit_once("\n\n").map_or(head.as_str(), |(above, _)| above);
    format!("{above}\n\n{columns}")
}

/// One route's lines.
pub fn rows(route: &Route, table: Table) -> String {
    let mut out = String::new();
    for (path, flap) in flapped(route) {
        let status = match (flap.history, flap.reuse_in) {
            (true, _) => "  h ",
            (false, Some(_)) => " *d ",
            (false, None) => " *  ",
        };
        let reuse = flap.reuse_in.map_or_else(String::new, uptime);
        let from = from(path);
        let _ = match table {
            Table::Dampened => write!(out, "{status}{:<16} {from:<16} {reuse:<8} ", route.prefix.to_string()),
            Table::Flaps => {
                let (count, lasted) = (flap.count, uptime(flap.since));
                write!(out, "{status}{:<16} {from:<15} {count:<4} {lasted:<8} {reuse:<8} ", route.prefix.to_string())
            }
        };
        if !path.attributes.as_path.is_empty() {
            let _ = write!(out, "{} ", path.attributes.as_path);
        }
        out.push(path.attributes.origin.letter());
        out.push('\n');
    }
    out
}

/// One route's paths, as JSON.
pub fn paths_json(route: &Route, table: Table, now: SystemTime) -> Vec<Value> {
    let path = |(path, flap): (&Path, &Flap)| {
        let mut out = match (flap.history, flap.reuse_in) {
            (true, _) => object([("history", true.into())]),
            (false, Some(_)) => object([("valid", true.into()), ("damped", true.into())]),
            (false, None) => object([("valid", true.into())]),
        };
        out.insert("pathFrom".into(), "external".into());
        out.insert("peerHost".into(), from(path).into());
        if table == Table::Flaps {
            out.insert("bdiFlap".into(), flap.count.into());
            lasted(flap, now, &mut out);
        }
        if let Some(reuse) = flap.reuse_in {
            out.insert("reuseTimerMsecs".into(), msec(reuse));
        }
        out.insert("asPath".into(), path.attributes.as_path.to_string().into());
        out.insert("origin".into(), path.attributes.origin.letter().to_string().into());
        Value::Object(out)
    };
    flapped(route).map(path).collect()
}

/// Of one path in the detail of its route, as text.
pub(super) fn detail_text(flap: &Flap, out: &mut String) {
    let reuse = flap.reuse_in.map_or_else(String::new, |reuse| format!(", reuse in {}", uptime(reuse)));
    let (penalty, count, since) = (flap.penalty, flap.count, uptime(flap.since));
    let _ = writeln!(out, "      Dampinfo: penalty {penalty}, flapped {count} times in {since}{reuse}");
}

/// The same as JSON.
pub(super) fn detail_json(flap: &Flap, now: SystemTime, out: &mut Map<String, Value>) {
    if flap.reuse_in.is_some() {
        out.insert("dampeningSuppressed".into(), true.into());
    }
    out.insert("dampeningPenalty".into(), flap.penalty.into());
    out.insert("dampeningFlapCount".into(), flap.count.into());
    lasted(flap, now, out);
    if let Some(reuse) = flap.reuse_in {
        out.insert("reuseTimerMsecs".into(), msec(reuse));
    }
}

fn lasted(flap: &Flap, now: SystemTime, out: &mut Map<String, Value>) {
    out.extend(object([
        ("peerUptime", uptime(flap.since).into()),
        ("peerUptimeMsec", msec(flap.since)),
        ("peerUptimeEstablishedEpoch", epoch(now - flap.since)),
    ]));
}

fn flapped(route: &Route) -> impl Iterator<Item = (&Path, &Flap)> {
    route.paths.iter().filter_map(|path| Some((path, path.flap.as_ref()?)))
}

fn from(path: &Path) -> String {
    match path.source {
        PathSource::Local => "0.0.0.0".to_owned(),
        PathSource::External { peer, .. } | PathSource::Internal { peer, .. } => peer.to_string(),
    }
}
