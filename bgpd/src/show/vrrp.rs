//! `show vrrp`, under FRR's field names where it has them.

use std::{fmt::Write as _, time::SystemTime};

use serde_json::{Value, json};
use vrrp::Role;

use super::{epoch, msec, object, uptime};
use crate::vrrp::{GroupView, Mishap, Status};

/// As FRR has it in JSON, which is older than the RFC's words.
fn status_word(role: Role) -> &'static str {
    match role {
        Role::Initialize => "Initialize",
        Role::Backup => "Backup",
        Role::Active => "Master",
    }
}

/// Milliseconds of the interval that counts, the skew and the time after which the active one is taken for gone
/// (RFC 9568 §6.1).
fn times(group: &GroupView) -> (u64, u64, u64) {
    let interval = group.status.heard_every.unwrap_or(group.config.interval);
    let millis = u64::from(interval.centiseconds()) * 10;
    let skew = millis * (256 - u64::from(group.status.priority)) / 256;
    (millis, skew, 3 * millis + skew)
}

/// As text.
pub fn text(groups: &[GroupView], now: SystemTime) -> String {
    if groups.is_empty() {
        return "No virtual router is configured.\n".to_owned();
    }
    let mut out = String::new();
    for group in groups {
        let GroupView { interface, vrid, config, status } = group;
        let Status { role, since, why, primary, priority, unhealthy, ready, active, counts, .. } = status;
        let since = uptime(now.duration_since(*since).unwrap_or_default());
        let _ = writeln!(out, "{interface} virtual router {vrid}: {} for {since}", role.as_str());
        let _ = writeln!(out, "  Because {why}");
        let addresses: Vec<String> = config.addresses.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "  Virtual addresses: {}", addresses.join(", "));
        let from = primary.map_or_else(|| "none".to_owned(), |address| address.to_string());
        let _ = writeln!(out, "  Own address: {from}");
        let _ = writeln!(out, "  Priority: {priority}, configured {}", config.priority);
        if let Some((other, theirs)) = active {
            let _ = writeln!(out, "  Active router: {other}, priority {theirs}");
        }
        let delay = config.preempt_delay.as_secs();
        let preemption = match config.preempt {
            true if delay > 0 => format!("after {delay} s"),
            true => "yes".to_owned(),
            false => "no".to_owned(),
        };
        let (interval, skew, down) = times(group);
        let _ = writeln!(out, "  Preemption: {preemption}, ready: {}", if *ready { "yes" } else { "no" });
        let _ = writeln!(out, "  Advertisements every {interval} ms, skew {skew} ms, gone after {down} ms");
        for (tracked, decrement) in &config.track {
            let _ = writeln!(out, "  Tracks {tracked}, decrement {decrement}");
        }
        for why in unhealthy {
            let _ = writeln!(out, "    {why}");
        }
        let _ = writeln!(
            out,
            "  Sent {} advertisements and {} gratuitous ARP, received {}; {} transitions",
            counts.sent, counts.arps, counts.received, counts.transitions
        );
        for (mishap, count) in &counts.errors {
            let _ = writeln!(out, "    {}: {count}", mishap.as_str());
        }
    }
    out
}

/// As JSON: a list, as in FRR.
pub fn json(groups: &[GroupView]) -> Value {
    groups.iter().map(one).collect()
}

fn one(group: &GroupView) -> Value {
    let GroupView { interface, vrid, config, status } = group;
    let counts = &status.counts;
    let (interval, skew, down) = times(group);
    let errors = Mishap::ALL.map(|mishap| {
        (mishap.as_str().to_owned(), Value::from(counts.errors.get(&mishap).copied().unwrap_or_default()))
    });
    let stats = json!({
        "adverTx": counts.sent,
        "adverRx": counts.received,
        "adverRxPriorityZero": counts.ceased,
        "garpTx": counts.arps,
        "transitions": counts.transitions,
        "errors": Value::Object(errors.into_iter().collect()),
    });
    let addresses: Vec<String> = config.addresses.iter().map(ToString::to_string).collect();
    let track: Vec<Value> = config
        .track
        .iter()
        .map(|(tracked, decrement)| json!({ "what": tracked.to_string(), "decrement": decrement }))
        .collect();
    let mut v4 = object([
        ("interface", interface.as_str().into()),
        ("primaryAddress", status.primary.map(|address| address.to_string()).into()),
        ("status", status_word(status.role).into()),
        ("since", epoch(status.since)),
        ("reason", status.why.as_str().into()),
        ("effectivePriority", status.priority.into()),
        ("masterAdverInterval", interval.into()),
        ("skewTime", skew.into()),
        ("masterDownInterval", down.into()),
        ("stats", stats),
        ("addresses", addresses.into()),
    ]);
    if let Some((other, theirs)) = status.active {
        v4.insert("master".into(), json!({ "address": other.to_string(), "priority": theirs }));
    }
    Value::Object(object([
        ("vrid", vrid.get().into()),
        ("version", 3.into()),
        ("autoconfigured", false.into()),
        ("shutdown", config.shutdown.into()),
        ("preemptMode", config.preempt.into()),
        ("preemptDelayMsecs", msec(config.preempt_delay)),
        // Hosts reach the gateway's own services at the virtual address (RFC 9568 §6.1).
        ("acceptMode", true.into()),
        ("interface", interface.as_str().into()),
        ("advertisementInterval", msec(config.interval.duration())),
        ("priority", config.priority.into()),
        ("ready", status.ready.into()),
        ("track", track.into()),
        ("unhealthy", status.unhealthy.clone().into()),
        ("v4", Value::Object(v4)),
    ]))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use config::model::VrrpTracked;
    use vrrp::{Interval, Vrid};

    use super::*;
    use crate::vrrp::Counts;

    pub(crate) fn group() -> GroupView {
        let config = config::model::VrrpGroup {
            addresses: ["10.1.0.1".parse().unwrap()].into(),
            priority: 200,
            track: [(VrrpTracked::Tunnel("tun1".parse().unwrap()), 100)].into(),
            ..Default::default()
        };
        let status = Status {
            role: Role::Backup,
            since: SystemTime::UNIX_EPOCH,
            why: "10.1.0.3 has priority 150, and this router 100".into(),
            primary: Some("10.1.0.2".parse().unwrap()),
            priority: 100,
            unhealthy: vec!["tunnel tun1 is down".into()],
            ready: false,
            active: Some(("10.1.0.3".parse().unwrap(), 150)),
            heard_every: Interval::from_centiseconds(20),
            counts: Counts { sent: 7, received: 9, errors: [(Mishap::Ttl, 2)].into(), ..Counts::default() },
        };
        GroupView { interface: "lan0".parse().unwrap(), vrid: Vrid::new(10).unwrap(), config, status }
    }

    #[test]
    fn frrs_fields_are_where_frr_has_them() {
        let json = json(&[group()]);
        let one = &json[0];
        assert_eq!((&one["vrid"], &one["version"], &one["interface"]), (&10.into(), &3.into(), &"lan0".into()));
        let v4 = &one["v4"];
        assert_eq!((&v4["status"], &v4["effectivePriority"]), (&"Backup".into(), &100.into()));
        assert_eq!(
            (&v4["masterAdverInterval"], &v4["skewTime"], &v4["masterDownInterval"]),
            (&200.into(), &121.into(), &721.into())
        );
        assert_eq!((&v4["stats"]["adverTx"], &v4["stats"]["errors"]["ttl"]), (&7.into(), &2.into()));
        assert_eq!(v4["master"]["address"], "10.1.0.3");
    }

    #[test]
    fn people_are_told_why() {
        let text = text(&[group()], SystemTime::UNIX_EPOCH + Duration::from_secs(62));
        for line in [
            "lan0 virtual router 10: backup for 00:01:02",
            "  Because 10.1.0.3 has priority 150, and this router 100",
            "  Priority: 100, configured 200",
            "  Tracks tunnel tun1, decrement 100",
            "    tunnel tun1 is down",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
    }
}
