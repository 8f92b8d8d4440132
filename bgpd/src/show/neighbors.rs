//! `show bgp neighbors [ADDRESS]`.

use std::{fmt::Write as _, time::SystemTime};

use bgp_wire::{PeerKind, Role};
use config::model::{MaximumPrefixAction, NeighborFamily};
use net_types::Family;
use serde_json::{Map, Value};

use super::{
    epoch, family_key, family_name, msec, object, orf, restart, tcp_ao, uptime,
    view::{Bfd, Capabilities, MessageCounts, Mutual, Neighbor, Speaker},
};

/// One neighbor, as text.
pub fn text(speaker: &Speaker, neighbor: &Neighbor, now: SystemTime) -> String {
    let mut out = String::new();
    let ago = |at: SystemTime| uptime(now.duration_since(at).unwrap_or_default());
    let kind = match neighbor.kind {
        PeerKind::Internal => "internal",
        PeerKind::Confederation => "confed-external",
        PeerKind::External => "external",
    };
    let remote_as = neighbor.remote_as.map_or_else(|| "unspecified".to_owned(), |asn| asn.to_string());
    let who = match &neighbor.link {
        Some(link) => format!("on {link}: {}", found(neighbor)),
        None => format!("is {}{}", if neighbor.dynamic { "*" } else { "" }, neighbor.address),
    };
    let _ = writeln!(out, "BGP neighbor {who}, remote AS {remote_as}, local AS {}, {kind} link", neighbor.local_as);
    if neighbor.kind == PeerKind::Confederation {
        out.push_str("  Neighbor under common administration\n");
    }
    if let Some(description) = &neighbor.description {
        let _ = writeln!(out, " Description: {description}");
    }
    if let Some(hostname) = &neighbor.capabilities.peer_hostname {
        let _ = writeln!(out, "Hostname: {hostname}");
    }
    if let Some(software) = &neighbor.capabilities.peer_software {
        let _ = writeln!(out, "Software version: {software}");
    }
    if let Some(role) = neighbor.local_role {
        let remote = neighbor.capabilities.peer_role.map_or("undefined", Role::as_str);
        let _ = writeln!(out, "  Local Role: {role}\n  Remote Role: {remote}");
    }
    if neighbor.admin_shutdown {
        out.push_str(" Administratively shut down\n");
    }
    let remote_id = neighbor.router_id.map_or_else(|| "0.0.0.0".to_owned(), |id| id.to_string());
    let _ = writeln!(out, "  BGP version 4, remote router ID {remote_id}, local router ID {}", speaker.router_id);
    let _ = write!(out, "  BGP state = {}", neighbor.state);
    match neighbor.established_at {
        Some(at) => {
            let _ = writeln!(out, ", up for {}", ago(at));
        }
        None => out.push('\n'),
    }
    if let (Some(read), Some(written)) = (neighbor.last_read, neighbor.last_write) {
        let _ = writeln!(out, "  Last read {}, Last write {}", ago(read), ago(written));
    }
    if let (Some(hold), Some(keepalive)) = (neighbor.hold, neighbor.keepalive) {
        let (hold, keepalive) = (hold.as_secs(), keepalive.as_secs());
        let _ = writeln!(out, "  Hold time is {hold} seconds, keepalive interval is {keepalive} seconds");
    }
    let _ = writeln!(
        out,
        "  Configured hold time is {} seconds, keepalive interval is {} seconds",
        neighbor.configured_hold.as_secs(),
        neighbor.configured_keepalive.as_secs()
    );
    if neighbor.established_at.is_some() {
        capabilities_text(&neighbor.capabilities, &mut out);
    }
    let _ = writeln!(
        out,
        "  Message statistics:\n    Inq depth is {}\n    Outq depth is {}",
        neighbor.in_queue, neighbor.out_queue
    );
    let _ = writeln!(out, "                         Sent       Rcvd");
    for (name, count) in COUNTS {
        let _ = writeln!(
            out,
            "    {:<15} {:>9} {:>10}",
            format!("{name}:"),
            count(&neighbor.sent),
            count(&neighbor.received)
        );
    }
    if neighbor.extended_parameters {
        out.push_str("  Extended Optional Parameters Length is enabled\n");
    }
    for (family, table) in &neighbor.families {
        let _ = writeln!(out, "\n For address family: {}", family_name(*family));
        orf::text(neighbor, *family, &mut out);
        let _ = writeln!(out, "  {} accepted prefixes, {} sent, {} stale", table.received, table.sent, table.stale);
        let said = |done: bool| if done { "yes" } else { "no" };
        let (sent, received) = (said(table.end_of_rib_sent), said(table.end_of_rib_received));
        let _ = writeln!(out, "  End-of-RIB sent: {sent}, received: {received}");
    }
    let (established, dropped) = (neighbor.established_count, neighbor.dropped_count);
    let _ = writeln!(out, "\n  Connections established {established}; dropped {dropped}");
    match &neighbor.last_reset {
        Some(reset) => {
            let _ = writeln!(out, "  Last reset {},  {}", ago(reset.at), reset.reason);
            if let Some((code, subcode, sent)) = reset.notification {
                let _ = writeln!(out, "  Notification {} {code}/{subcode}", if sent { "sent" } else { "received" });
            }
        }
        None => out.push_str("  Last reset never\n"),
    }
    if neighbor.kind != PeerKind::Internal {
        let _ = writeln!(out, "  External BGP neighbor may be up to {} hops away.", neighbor.max_hops);
    }
    if let Some(configured) = neighbor.configured_max_segment_octets {
        let _ = writeln!(
            out,
            "  Configured tcp-mss is {configured}, synced tcp-mss is {}",
            neighbor.max_segment_octets.unwrap_or(0)
        );
    }
    for (end, address) in [("Local", neighbor.local), ("Foreign", neighbor.remote)] {
        if let Some(address) = address {
            let _ = writeln!(out, "{end} host: {}, {end} port: {}", address.ip(), address.port());
        }
    }
    let _ = writeln!(out, "BGP Connect Retry Timer in Seconds: {}", neighbor.connect_retry.as_secs());
    if let Some(ao) = &neighbor.ao {
        tcp_ao::text(ao, &mut out);
    }
    if let Some(bfd) = &neighbor.bfd {
        bfd_text(bfd, now, &mut out);
    }
    out.push('\n');
    out
}

type Count = fn(&MessageCounts) -> u64;
const COUNTS: [(&str, Count); 6] = [
    ("Opens", |counts| counts.opens),
    ("Notifications", |counts| counts.notifications),
    ("Updates", |counts| counts.updates),
    ("Keepalives", |counts| counts.keepalives),
    ("Route Refresh", |counts| counts.route_refreshes),
    ("Total", MessageCounts::total),
];

fn capabilities_text(capabilities: &Capabilities, out: &mut String) {
    out.push_str("  Neighbor capabilities:\n");
    let mut line = |name: &str, words: Option<&str>| {
        if let Some(words) = words {
            let _ = writeln!(out, "    {name}: {words}");
        }
    };
    line("4 Byte AS", capabilities.four_octet_as.words());
    line("Extended Message", capabilities.extended_message.words());
    line("Route refresh", capabilities.route_refresh.words());
    line("Enhanced Route Refresh", capabilities.enhanced_route_refresh.words());
    for (family, mutual) in &capabilities.families {
        line(&format!("Address Family {}", family_name(*family)), mutual.words());
    }
    line("Extended nexthop", capabilities.extended_next_hop.words());
    for (family, (tx, rx)) in &capabilities.add_path {
        line(&format!("AddPath {} tx", family_name(*family)), tx.words());
        line(&format!("AddPath {} rx", family_name(*family)), rx.words());
    }
    line("Role", capabilities.role.words());
    line("Long-lived Graceful Restart", capabilities.long_lived.words());
    line("Graceful Restart Capability", capabilities.graceful_restart.words());
    if let Some(time) = capabilities.peer_restart_time {
        let _ = writeln!(out, "      Remote Restart timer is {} seconds", time.as_secs());
        let kept: Vec<&str> = capabilities.peer_preserved.iter().map(|family| family_name(*family)).collect();
        let kept = if kept.is_empty() { "none".to_owned() } else { kept.join(", ") };
        let _ = writeln!(out, "      Address families preserved by peer: {kept}");
    }
}

fn bfd_text(bfd: &Bfd, now: SystemTime, out: &mut String) {
    let (receive, transmit) = (bfd.receive_interval.as_millis(), bfd.transmit_interval.as_millis());
    let since = uptime(now.duration_since(bfd.since).unwrap_or_default());
    let _ = writeln!(
        out,
        "\n  BFD: Type: {}\n  Detect Multiplier: {}, Min Rx interval: {receive}, Min Tx interval: {transmit}\n  Status: {}, Last update: {since}",
        hops(bfd),
        bfd.detect_multiplier,
        capitalised(bfd.status),
    );
}

fn hops(bfd: &Bfd) -> &'static str {
    if bfd.multihop { "multi hop" } else { "single hop" }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The address of a neighbor that is known by its link, as FRR prints it.
fn found(neighbor: &Neighbor) -> String {
    if neighbor.address.is_unspecified() { "None".to_owned() } else { neighbor.address.to_string() }
}

/// Neighbors as JSON: an object by name.
pub fn json(speaker: &Speaker, neighbors: &[Neighbor], now: SystemTime) -> Value {
    let by_name = neighbors.iter().map(|neighbor| (neighbor.name(), neighbor_json(speaker, neighbor, now)));
    Value::Object(by_name.collect())
}

fn neighbor_json(speaker: &Speaker, neighbor: &Neighbor, now: SystemTime) -> Value {
    let since = |at: SystemTime| msec(now.duration_since(at).unwrap_or_default());
    let link = match neighbor.kind {
        PeerKind::Internal => "nbrInternalLink",
        PeerKind::Confederation => "nbrConfedExternalLink",
        PeerKind::External => "nbrExternalLink",
    };
    let mut out = Map::new();
    if neighbor.link.is_some() {
        out.insert("bgpNeighborAddr".into(), found(neighbor).to_lowercase().into());
    }
    out.extend(object([
        ("remoteAs", neighbor.remote_as.map_or(0, |asn| asn.get()).into()),
        ("localAs", neighbor.local_as.get().into()),
        (link, true.into()),
    ]));
    if neighbor.dynamic {
        out.insert("dynamicPeer".into(), true.into());
    }
    if neighbor.kind == PeerKind::Confederation {
        out.insert("nbrCommonAdmin".into(), true.into());
    }
    let role = |role: Option<Role>| role.map_or("undefined", Role::as_str).into();
    out.insert("localRole".into(), role(neighbor.local_role));
    out.insert("remoteRole".into(), role(neighbor.capabilities.peer_role));
    if let Some(description) = &neighbor.description {
        out.insert("nbrDesc".into(), description.as_str().into());
    }
    if let Some(hostname) = &neighbor.capabilities.peer_hostname {
        out.insert("hostname".into(), hostname.as_str().into());
    }
    if let Some(group) = &neighbor.peer_group {
        out.insert("peerGroup".into(), group.as_str().into());
    }
    if neighbor.admin_shutdown {
        out.insert("adminShutDown".into(), true.into());
    }
    out.extend(object([
        ("bgpVersion", 4.into()),
        ("remoteRouterId", neighbor.router_id.map_or_else(|| "0.0.0.0".to_owned(), |id| id.to_string()).into()),
        ("localRouterId", speaker.router_id.to_string().into()),
        ("bgpState", neighbor.state.into()),
    ]));
    if let Some(at) = neighbor.established_at {
        out.extend(object([
            ("bgpTimerUpMsec", since(at)),
            ("bgpTimerUpString", uptime(now.duration_since(at).unwrap_or_default()).into()),
            ("bgpTimerUpEstablishedEpoch", epoch(at)),
        ]));
    }
    for (key, at) in [("bgpTimerLastRead", neighbor.last_read), ("bgpTimerLastWrite", neighbor.last_write)] {
        if let Some(at) = at {
            out.insert(key.into(), since(at));
        }
    }
    out.insert("bgpTimerConfiguredHoldTimeMsecs".into(), msec(neighbor.configured_hold));
    out.insert("bgpTimerConfiguredKeepAliveIntervalMsecs".into(), msec(neighbor.configured_keepalive));
    // Until something is agreed FRR shows what is configured.
    out.insert("bgpTimerHoldTimeMsecs".into(), msec(neighbor.hold.unwrap_or(neighbor.configured_hold)));
    let keepalive = neighbor.keepalive.unwrap_or(neighbor.configured_keepalive);
    out.insert("bgpTimerKeepAliveIntervalMsecs".into(), msec(keepalive));
    if neighbor.established_at.is_some() {
        out.insert("neighborCapabilities".into(), capabilities_json(neighbor));
    }
    out.insert("gracefulRestartInfo".into(), restart::info(neighbor).into());
    out.insert("messageStats".into(), counts_json(neighbor));
    let families =
        neighbor.families.keys().map(|family| (family_key(*family).to_owned(), family_json(neighbor, *family)));
    out.insert("addressFamilyInfo".into(), Value::Object(families.collect()));
    out.insert("connectionsEstablished".into(), neighbor.established_count.into());
    out.insert("connectionsDropped".into(), neighbor.dropped_count.into());
    if let Some(reset) = &neighbor.last_reset {
        out.insert("lastResetTimerMsecs".into(), since(reset.at));
        out.insert("lastResetDueTo".into(), reset.due_to.into());
        out.insert("lastResetReason".into(), reset.reason.as_str().into());
        if let (Some((code, subcode, _)), Some(name)) = (reset.notification, &reset.notification_name) {
            out.insert("lastNotificationReason".into(), name.as_str().into());
            out.insert("lastNotificationHardReset".into(), ((code, subcode) == (6, 9)).into());
            out.insert("lastErrorCodeSubcode".into(), format!("{code:02X}{subcode:02X}").into());
        }
    }
    if neighbor.kind != PeerKind::Internal {
        out.insert("externalBgpNbrMaxHopsAway".into(), neighbor.max_hops.into());
    }
    if neighbor.extended_parameters {
        out.insert("extendedOptionalParametersLength".into(), true.into());
    }
    if let Some(configured) = neighbor.configured_max_segment_octets {
        out.insert("bgpTcpMssConfigured".into(), configured.into());
        out.insert("bgpTcpMssSynced".into(), neighbor.max_segment_octets.unwrap_or(0).into());
    }
    for (host, port, address) in
        [("hostLocal", "portLocal", neighbor.local), ("hostForeign", "portForeign", neighbor.remote)]
    {
        out.insert(host.into(), address.map_or_else(|| "Unknown".to_owned(), |end| end.ip().to_string()).into());
        out.insert(port.into(), address.map_or(-1, |end| i32::from(end.port())).into());
    }
    if let Some(local) = neighbor.local {
        out.insert("nexthop".into(), local.ip().to_string().into());
    }
    out.insert("connectRetryTimer".into(), neighbor.connect_retry.as_secs().into());
    let threads = if neighbor.established_at.is_some() { "on" } else { "off" };
    out.extend(object([("readThread", threads.into()), ("writeThread", threads.into())]));
    if let Some(ao) = &neighbor.ao {
        out.insert("tcpAo".into(), tcp_ao::json(ao));
    }
    if let Some(bfd) = &neighbor.bfd {
        out.insert("peerBfdInfo".into(), bfd_json(bfd, now));
    }
    Value::Object(out)
}

fn capabilities_json(neighbor: &Neighbor) -> Value {
    let capabilities = &neighbor.capabilities;
    let mut out = Map::new();
    let mut put = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            out.insert(key.to_owned(), value.into());
        }
    };
    put("4byteAs", capabilities.four_octet_as.key());
    put("extendedMessage", capabilities.extended_message.key());
    // FRR tells the capability's number before RFC 2918 from the one since; only the latter exists here.
    let refresh = capabilities.route_refresh;
    let refresh = if refresh.advertised && refresh.received { Some("advertisedAndReceivedNew") } else { refresh.key() };
    put("routeRefresh", refresh);
    put("enhancedRouteRefresh", capabilities.enhanced_route_refresh.key());
    put("extendedNexthop", capabilities.extended_next_hop.key());
    let add_path = add_path_json(capabilities);
    put("role", capabilities.role.key());
    put("longLivedGracefulRestart", capabilities.long_lived.key());
    put("gracefulRestart", capabilities.graceful_restart.key());
    let families = capabilities.families.iter().filter_map(|(family, mutual)| {
        let said = Value::Object(object([(mutual.key()?, true.into())]));
        Some((family_key(*family).to_owned(), said))
    });
    let families = Value::Object(families.collect());
    out.insert("multiprotocolExtensions".into(), families);
    if !add_path.is_empty() {
        out.insert("addPath".into(), add_path.into());
    }
    let mut names = Map::new();
    let told = [("adv", &neighbor.own_hostname), ("rcv", &capabilities.peer_hostname)];
    for (whose, name) in told.into_iter().filter_map(|(whose, name)| Some((whose, name.as_ref()?))) {
        names.insert(format!("{whose}HostName"), name.as_str().into());
        names.insert(format!("{whose}DomainName"), "n/a".into());
    }
    if !names.is_empty() {
        out.insert("hostName".into(), names.into());
    }
    if let Some(software) = &capabilities.peer_software {
        let received = Value::Object(object([("receivedSoftwareVersion", software.as_str().into())]));
        out.insert("softwareVersion".into(), received);
    }
    if let Some(time) = capabilities.peer_restart_time {
        out.insert("gracefulRestartRemoteTimerMsecs".into(), msec(time));
        let kept = capabilities.peer_preserved.iter().map(|family| {
            (family_key(*family).to_owned(), Value::Object(object([("preservedAfterRestart", true.into())])))
        });
        let kept: Map<String, Value> = kept.collect();
        let kept = if kept.is_empty() { Value::from("none") } else { Value::Object(kept) };
        out.insert("addressFamiliesByPeer".into(), kept);
    }
    Value::Object(out)
}

/// `txAdvertised` and the like, by family.
fn add_path_json(capabilities: &Capabilities) -> Map<String, Value> {
    let of_family = |(family, (tx, rx)): (&Family, &(Mutual, Mutual))| {
        let said = [("tx", tx.key()), ("rx", rx.key())].into_iter().filter_map(|(what, key)| {
            let key = key?;
            let (first, rest) = key.split_at_checked(1)?;
            Some((format!("{what}{}{rest}", first.to_uppercase()), Value::Bool(true)))
        });
        let said: Map<String, Value> = said.collect();
        (!said.is_empty()).then(|| (family_key(*family).to_owned(), Value::Object(said)))
    };
    capabilities.add_path.iter().filter_map(of_family).collect()
}

fn counts_json(neighbor: &Neighbor) -> Value {
    let mut out = object([("depthInq", neighbor.in_queue.into()), ("depthOutq", neighbor.out_queue.into())]);
    let keys = ["opens", "notifications", "updates", "keepalives", "routeRefresh", "total"];
    for (key, (_, count)) in keys.into_iter().zip(COUNTS) {
        out.insert(format!("{key}Sent"), count(&neighbor.sent).into());
        out.insert(format!("{key}Recv"), count(&neighbor.received).into());
    }
    out.extend(object([("capabilitySent", 0.into()), ("capabilityRecv", 0.into())]));
    Value::Object(out)
}

/// What is configured of a family, and its counters.
fn family_json(neighbor: &Neighbor, family: Family) -> Value {
    let table = neighbor.families.get(&family).copied().unwrap_or_default();
    let mut out = neighbor.configured.get(&family).map(settings_json).unwrap_or_default();
    if let Some(filters) = orf::json(neighbor, family) {
        out.insert("afDependentCap".into(), filters);
    }
    out.insert("acceptedPrefixCounter".into(), table.received.into());
    if neighbor.established_at.is_some() {
        out.insert("sentPrefixCounter".into(), table.sent.into());
    }
    out.insert("stalePrefixCounter".into(), table.stale.into());
    Value::Object(out)
}

fn settings_json(settings: &NeighborFamily) -> Map<String, Value> {
    let mut out = Map::new();
    let filters = [
        ("incomingUpdatePrefixFilterList", &settings.prefix_list_in),
        ("outgoingUpdatePrefixFilterList", &settings.prefix_list_out),
        ("routeMapForIncomingAdvertisements", &settings.route_map_in),
        ("routeMapForOutgoingAdvertisements", &settings.route_map_out),
    ];
    for (key, name) in filters.into_iter().filter_map(|(key, name)| Some((key, name.as_ref()?))) {
        out.insert(key.to_owned(), name.as_str().into());
    }
    let policies = [
        ("inboundPathPolicyConfig", [&settings.prefix_list_in, &settings.route_map_in]),
        ("outboundPathPolicyConfig", [&settings.prefix_list_out, &settings.route_map_out]),
    ];
    for (key, _) in policies.into_iter().filter(|(_, names)| names.iter().any(|name| name.is_some())) {
        out.insert(key.to_owned(), true.into());
    }
    if let Some(maximum) = &settings.maximum_prefix {
        out.insert("prefixAllowedMax".into(), maximum.limit.into());
        out.insert("prefixAllowedWarningThresh".into(), maximum.threshold_percent.into());
        match maximum.action {
            MaximumPrefixAction::Close => {}
            MaximumPrefixAction::Warn => drop(out.insert("prefixAllowedMaxWarning".into(), true.into())),
            MaximumPrefixAction::Restart(pause) => {
                out.insert("prefixAllowedRestartIntervalMsecs".into(), msec(pause));
            }
        }
    }
    out
}

fn bfd_json(bfd: &Bfd, now: SystemTime) -> Value {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Value::Object(object([
        ("type", hops(bfd).into()),
        ("detectMultiplier", bfd.detect_multiplier.into()),
        ("rxMinInterval", millis(bfd.receive_interval).into()),
        ("txMinInterval", millis(bfd.transmit_interval).into()),
        ("status", capitalised(bfd.status).into()),
        ("lastUpdate", uptime(now.duration_since(bfd.since).unwrap_or_default()).into()),
    ]))
}
