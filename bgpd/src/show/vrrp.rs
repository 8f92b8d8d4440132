//! `show vrrp`, under FRR's field names where it has them.

use std::{fmt::Write as _, time::SystemTime};

use serde_json::{Map, Value, json};
use vrrp::{Addresses, Family, Role};

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
        let GroupView { interface, vrid, addresses, config, status } = group;
        let family = addresses.family();
        let Status { role, since, why, primary, priority, unhealthy, ready, active, counts, .. } = status;
        let since = uptime(now.duration_since(*since).unwrap_or_default());
        let _ = writeln!(out, "{interface} virtual router {vrid} for {family}: {} for {since}", role.as_str());
        let _ = writeln!(out, "  Because {why}");
        let _ = writeln!(out, "  Virtual addresses: {}", texts(addresses).join(", "));
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
            "  Sent {} advertisements and {} {}, received {}; {} transitions",
            counts.sent,
            counts.announced,
            match family {
                Family::V4 => "gratuitous ARP",
                Family::V6 => "unsolicited neighbor advertisements",
            },
            counts.received,
            counts.transitions
        );
        for (mishap, count) in &counts.errors {
            let _ = writeln!(out, "    {}: {count}", mishap.as_str());
        }
    }
    out
}

fn texts(addresses: &Addresses) -> Vec<String> {
    addresses.iter().map(|address| address.to_string()).collect()
}

/// As JSON: a list, as in FRR, of which each has `v4`, `v6`, or both.
pub fn json(groups: &[GroupView]) -> Value {
    groups.chunk_by(|one, next| (&one.interface, one.vrid) == (&next.interface, next.vrid)).map(both).collect()
}

/// The virtual routers of one number, of which there is at least one.
fn both(groups: &[GroupView]) -> Value {
    let Some(GroupView { interface, vrid, config, .. }) = groups.first() else { return Value::Null };
    let track: Vec<Value> = config
        .track
        .iter()
        .map(|(tracked, decrement)| json!({ "what": tracked.to_string(), "decrement": decrement }))
        .collect();
    let mut unhealthy: Vec<&str> = Vec::new();
    for why in groups.iter().flat_map(|group| &group.status.unhealthy) {
        if !unhealthy.contains(&why.as_str()) {
            unhealthy.push(why);
        }
    }
    let mut fields = object([
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
        ("ready", groups.iter().all(|group| group.status.ready).into()),
        ("track", track.into()),
        ("unhealthy", unhealthy.into()),
    ]);
    for group in groups {
        let name = match group.addresses.family() {
            Family::V4 => "v4",
            Family::V6 => "v6",
        };
        fields.insert(name.into(), Value::Object(one(group)));
    }
    Value::Object(fields)
}

/// What a virtual router has of its own.
fn one(group: &GroupView) -> Map<String, Value> {
    let GroupView { interface, addresses, status, .. } = group;
    let counts = &status.counts;
    let (interval, skew, down) = times(group);
    let errors = Mishap::ALL.map(|mishap| {
        (mishap.as_str().to_owned(), Value::from(counts.errors.get(&mishap).copied().unwrap_or_default()))
    });
    let announced = match addresses.family() {
        Family::V4 => "garpTx",
        Family::V6 => "neighborAdverTx",
    };
    let stats = object([
        ("adverTx", counts.sent.into()),
        ("adverRx", counts.received.into()),
        ("adverRxPriorityZero", counts.ceased.into()),
        (announced, counts.announced.into()),
        ("transitions", counts.transitions.into()),
        ("errors", Value::Object(errors.into_iter().collect())),
    ]);
    let mut fields = object([
        ("interface", interface.as_str().into()),
        ("primaryAddress", status.primary.map(|address| address.to_string()).into()),
        ("status", status_word(status.role).into()),
        ("since", epoch(status.since)),
        ("reason", status.why.as_str().into()),
        ("ready", status.ready.into()),
        ("effectivePriority", status.priority.into()),
        ("masterAdverInterval", interval.into()),
        ("skewTime", skew.into()),
        ("masterDownInterval", down.into()),
        ("stats", Value::Object(stats)),
        ("addresses", texts(addresses).into()),
    ]);
    if let Some((other, theirs)) = status.active {
        fields.insert("master".into(), json!({ "address": other.to_string(), "priority": theirs }));
    }
    fields
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
            v4: ["10.1.0.1".parse().unwrap()].into(),
            v6: ["fe80::1".parse().unwrap(), "2001:db8::1".parse().unwrap()].into(),
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
        let addresses = config.addresses(Family::V4).unwrap();
        GroupView { interface: "lan0".parse().unwrap(), vrid: Vrid::new(10).unwrap(), addresses, config, status }
    }

    /// The other one of the same number.
    fn group_v6() -> GroupView {
        let GroupView { interface, vrid, config, mut status, .. } = group();
        status.role = Role::Active;
        (status.primary, status.active) = (Some("fe80::2".parse().unwrap()), None);
        (status.ready, status.unhealthy) = (true, Vec::new());
        GroupView { interface, vrid, addresses: config.addresses(Family::V6).unwrap(), config, status }
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
    fn the_two_of_one_number_are_one_entry() {
        let mut elsewhere = group_v6();
        elsewhere.interface = "lan1".parse().unwrap();
        let json = json(&[group(), group_v6(), elsewhere]);
        assert_eq!(json.as_array().map(Vec::len), Some(2), "{json}");
        let both = &json[0];
        assert_eq!((&both["v4"]["status"], &both["v6"]["status"]), (&"Backup".into(), &"Master".into()));
        assert_eq!(both["v6"]["addresses"], json!(["fe80::1", "2001:db8::1"]));
        assert_eq!(
            (&both["v6"]["stats"]["neighborAdverTx"], &both["v6"]["stats"]["garpTx"]),
            (&0.into(), &Value::Null)
        );
        assert_eq!((&both["ready"], &both["v6"]["ready"]), (&false.into(), &true.into()), "one of them is not");
        assert_eq!((&json[1]["v4"], &json[1]["v6"]["status"]), (&Value::Null, &"Master".into()));
    }

    #[test]
    fn people_are_told_why() {
        let text = text(&[group(), group_v6()], SystemTime::UNIX_EPOCH + Duration::from_secs(62));
        for line in [
            "lan0 virtual router 10 for IPv4: backup for 00:01:02",
            "lan0 virtual router 10 for IPv6: active for 00:01:02",
            "  Virtual addresses: fe80::1, 2001:db8::1",
            "  Because 10.1.0.3 has priority 150, and this router 100",
            "  Priority: 100, configured 200",
            "  Tracks tunnel tun1, decrement 100",
            "    tunnel tun1 is down",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
    }
}
