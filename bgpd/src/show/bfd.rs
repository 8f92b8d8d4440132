//! `show bfd peers`.

use std::{fmt::Write as _, time::SystemTime};

use bfd::RoundTrip;
use serde_json::{Map, Value};

use super::{object, view::Bfd};

/// As text.
pub fn text(peers: &[Bfd], now: SystemTime) -> String {
    let mut out = String::from("BFD Peers:\n");
    for peer in peers {
        let _ = write!(out, "\tpeer {}{}", peer.peer, if peer.multihop { " multihop" } else { "" });
        if let Some(local) = peer.local {
            let _ = write!(out, " local-address {local}");
        }
        out.push_str(" vrf default");
        if let Some(interface) = &peer.interface {
            let _ = write!(out, " interface {interface}");
        }
        let _ = writeln!(out, "\n\t\tID: {}", peer.local_discriminator);
        let _ = writeln!(out, "\t\tRemote ID: {}", peer.remote_discriminator);
        let _ =
            writeln!(out, "\t\t{} mode\n\t\tStatus: {}", if peer.passive { "Passive" } else { "Active" }, peer.status);
        if peer.multihop {
            let _ = writeln!(out, "\t\tMinimum TTL: {}", peer.minimum_ttl);
        }
        let seconds = now.duration_since(peer.since).unwrap_or_default().as_secs();
        let _ = writeln!(out, "\t\t{}: {seconds} second(s)", if peer.status == "up" { "Uptime" } else { "Downtime" });
        let _ = writeln!(out, "\t\tDiagnostics: {}", peer.diagnostic);
        let _ = writeln!(out, "\t\tRemote diagnostics: {}", peer.remote_diagnostic);
        out.push_str("\t\tPeer Type: dynamic\n\t\tLocal timers:\n");
        let _ = writeln!(out, "\t\t\tDetect-multiplier: {}", peer.detect_multiplier);
        let _ = writeln!(out, "\t\t\tReceive interval: {}ms", peer.receive_interval.as_millis());
        let _ = writeln!(out, "\t\t\tTransmission interval: {}ms", peer.transmit_interval.as_millis());
        if let Some(jitter) = peer.jitter {
            let (most, late) = (peer.adapt_up_to.as_millis(), jitter.as_micros());
            let _ = writeln!(out, "\t\t\tIntervals adapt up to {most}ms; latest packet {late}us late");
        }
        if !peer.echo_transmit_interval.is_zero() {
            let heard = if peer.echo_heard { "comes back" } else { "has not come back yet" };
            let interval = peer.echo_transmit_interval.as_millis();
            let _ = writeln!(out, "\t\t\tEcho transmission interval: {interval}ms; what is sent {heard}");
        }
        if let Some(trip) = peer.round_trip {
            let [min, mean, max] = [trip.min, trip.mean, trip.max].map(|time| time.as_micros());
            let _ = writeln!(out, "\t\t\tRTT min/avg/max: {min}/{mean}/{max} usec");
        }
        if let (Some(interval), Some(silence)) = (peer.transmit_interval_in_use, peer.detection_time) {
            let (interval, silence) = (interval.as_millis(), silence.as_millis());
            let _ = writeln!(out, "\t\t\tIn use: a packet each {interval}ms; down after {silence}ms of silence");
        }
        out.push_str("\t\tRemote timers:\n");
        let _ = writeln!(out, "\t\t\tDetect-multiplier: {}", peer.remote_detect_multiplier);
        let _ = writeln!(out, "\t\t\tReceive interval: {}ms", peer.remote_receive_interval.as_millis());
        let _ = writeln!(out, "\t\t\tTransmission interval: {}ms", peer.remote_transmit_interval.as_millis());
        let _ = writeln!(out, "\t\tControl packet input: {} packets", peer.packets.0);
        let _ = writeln!(out, "\t\tControl packet output: {} packets", peer.packets.1);
        let _ = writeln!(out, "\t\tSession up events: {}", peer.changes.0);
        let _ = writeln!(out, "\t\tSession down events: {}\n", peer.changes.1);
    }
    out
}

/// As JSON: a list.
pub fn json(peers: &[Bfd], now: SystemTime) -> Value {
    Value::Array(peers.iter().map(|peer| peer_json(peer, now)).collect())
}

fn peer_json(peer: &Bfd, now: SystemTime) -> Value {
    let mut out: Map<String, Value> =
        object([("multihop", peer.multihop.into()), ("peer", peer.peer.to_string().into())]);
    if let Some(local) = peer.local {
        out.insert("local".into(), local.to_string().into());
    }
    out.insert("vrf".into(), "default".into());
    if let Some(interface) = &peer.interface {
        out.insert("interface".into(), interface.as_str().into());
    }
    let since = if peer.status == "up" { "uptime" } else { "downtime" };
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // Microseconds, as FRR has them.
    let trip = |which: fn(RoundTrip) -> std::time::Duration| {
        peer.round_trip.map_or(0, |trip| u64::try_from(which(trip).as_micros()).unwrap_or(u64::MAX))
    };
    if peer.multihop {
        out.insert("minimum-ttl".into(), peer.minimum_ttl.into());
    }
    out.extend(object([
        ("id", peer.local_discriminator.into()),
        ("remote-id", peer.remote_discriminator.into()),
        ("passive-mode", peer.passive.into()),
        ("status", peer.status.into()),
        (since, now.duration_since(peer.since).unwrap_or_default().as_secs().into()),
        ("diagnostic", peer.diagnostic.as_str().into()),
        ("remote-diagnostic", peer.remote_diagnostic.as_str().into()),
        ("receive-interval", millis(peer.receive_interval).into()),
        ("transmit-interval", millis(peer.transmit_interval).into()),
        ("echo-receive-interval", millis(peer.echo_receive_interval).into()),
        ("echo-transmit-interval", millis(peer.echo_transmit_interval).into()),
        ("echo-comes-back", peer.echo_heard.into()),
        ("detect-multiplier", peer.detect_multiplier.into()),
        ("remote-receive-interval", millis(peer.remote_receive_interval).into()),
        ("remote-transmit-interval", millis(peer.remote_transmit_interval).into()),
        ("remote-echo-receive-interval", millis(peer.remote_echo_receive_interval).into()),
        ("remote-detect-multiplier", peer.remote_detect_multiplier.into()),
        ("control-packet-input", peer.packets.0.into()),
        ("control-packet-output", peer.packets.1.into()),
        ("session-up", peer.changes.0.into()),
        ("session-down", peer.changes.1.into()),
        ("rtt-min", trip(|trip| trip.min).into()),
        ("rtt-avg", trip(|trip| trip.mean).into()),
        ("rtt-max", trip(|trip| trip.max).into()),
        ("transmit-interval-in-use", peer.transmit_interval_in_use.map(millis).into()),
        ("detection-time", peer.detection_time.map(millis).into()),
    ]));
    if let Some(jitter) = peer.jitter {
        out.extend(object([
            ("adapt-up-to", millis(peer.adapt_up_to).into()),
            ("jitter-us", u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX).into()),
        ]));
    }
    Value::Object(out)
}

/// `show bfd peers counters json`
pub fn counters_json(peers: &[Bfd]) -> Value {
    let counters = |peer: &Bfd| {
        let mut out = object([("multihop", peer.multihop.into()), ("peer", peer.peer.to_string().into())]);
        if let Some(local) = peer.local {
            out.insert("local".into(), local.to_string().into());
        }
        out.insert("vrf".into(), "default".into());
        if let Some(interface) = &peer.interface {
            out.insert("interface".into(), interface.as_str().into());
        }
        out.extend(object([
            ("control-packet-input", peer.packets.0.into()),
            ("control-packet-output", peer.packets.1.into()),
            ("echo-packet-input", peer.echo_packets.0.into()),
            ("echo-packet-output", peer.echo_packets.1.into()),
            ("session-up", peer.changes.0.into()),
            ("session-down", peer.changes.1.into()),
            ("zebra-notifications", 0.into()),
        ]));
        Value::Object(out)
    };
    Value::Array(peers.iter().map(counters).collect())
}

/// `show bfd peers counters`
pub fn counters_text(peers: &[Bfd]) -> String {
    let mut out = String::from("BFD Peers:\n");
    for peer in peers {
        let _ = writeln!(out, "\tpeer {} vrf default", peer.peer);
        let _ = writeln!(out, "\t\tControl packet input: {} packets", peer.packets.0);
        let _ = writeln!(out, "\t\tControl packet output: {} packets", peer.packets.1);
        let _ = writeln!(out, "\t\tSession up events: {}", peer.changes.0);
        let _ = writeln!(out, "\t\tSession down events: {}\n", peer.changes.1);
    }
    out
}

/// `show bfd peers brief`
pub fn brief(peers: &[Bfd]) -> String {
    let mut out = format!("Session count: {}\n", peers.len());
    let _ = writeln!(out, "{:<10} {:<40} {:<40} Status", "SessionId", "LocalAddress", "PeerAddress");
    for peer in peers {
        let local = peer.local.map_or_else(|| "*".to_owned(), |local| local.to_string());
        let _ =
            writeln!(out, "{:<10} {local:<40} {:<40} {}", peer.local_discriminator, peer.peer.to_string(), peer.status);
    }
    out
}
