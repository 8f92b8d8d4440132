//! Rendered output against what the peers' users expect.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bgp_wire::{AsPath, Attributes};
use config::model::RedistributeSource;
use net_types::{Asn, Family};
use serde_json::Value;

use super::{
    bfd, kernel, neighbors, restart, route,
    summary::{self, FamilySummary},
    table,
    view::{
        Bfd, Capabilities, Forwarding, KernelRoute, LastReset, Learned, MessageCounts, Mutual, Neighbor, NeighborTable,
        Path, PathSource, Route, RouteProtocol, Speaker, TableCounters, Way,
    },
};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_474_425)
}

fn speaker() -> Speaker {
    Speaker {
        hostname: Some("edgea".into()),
        router_id: "10.1.0.1".parse().unwrap(),
        asn: Asn::literal(65001),
        default_local_preference: 100,
        aliases: Default::default(),
    }
}

fn both() -> Mutual {
    Mutual { advertised: true, received: true }
}

fn neighbor() -> Neighbor {
    Neighbor {
        local_as: Asn::literal(65001),
        kind: bgp_wire::PeerKind::External,
        local_role: None,
        configured_max_segment_octets: None,
        max_segment_octets: None,
        ao: None,
        address: "169.254.1.2".parse().unwrap(),
        link: None,
        dynamic: false,
        description: None,
        remote_as: Some(Asn::literal(65002)),
        router_id: Some("10.2.0.1".parse().unwrap()),
        state: "Established",
        admin_shutdown: false,
        established_at: Some(now() - Duration::from_secs(11)),
        since: now() - Duration::from_secs(11),
        established_count: 1,
        dropped_count: 0,
        sent: MessageCounts { opens: 1, updates: 3, keepalives: 4, ..MessageCounts::default() },
        received: MessageCounts { opens: 1, updates: 3, keepalives: 4, ..MessageCounts::default() },
        out_queue: 0,
        in_queue: 0,
        last_read: Some(now() - Duration::from_secs(2)),
        last_write: Some(now() - Duration::from_secs(2)),
        hold: Some(Duration::from_secs(9)),
        keepalive: Some(Duration::from_secs(3)),
        configured_hold: Duration::from_secs(9),
        configured_keepalive: Duration::from_secs(3),
        connect_retry: Duration::from_secs(120),
        capabilities: Capabilities {
            four_octet_as: both(),
            route_refresh: both(),
            families: BTreeMap::from([(Family::Ipv4Unicast, both())]),
            peer_hostname: Some("edgeb".into()),
            ..Capabilities::default()
        },
        families: BTreeMap::from([(
            Family::Ipv4Unicast,
            NeighborTable { received: 2, sent: 2, ..NeighborTable::default() },
        )]),
        peer_group: None,
        configured: BTreeMap::new(),
        own_hostname: Some("edgea".into()),
        restart_times: (Duration::from_secs(120), Duration::from_secs(360)),
        restart_inherited: true,
        restart_mode: "Restart",
        last_reset: Some(LastReset {
            due_to: "BGP Notification received",
            notification_name: Some("Cease/Administrative Reset".into()),
            at: now() - Duration::from_secs(12),
            reason: "Cease/Administrative Reset".into(),
            notification: Some((6, 4, false)),
        }),
        local: Some("169.254.1.1:52586".parse().unwrap()),
        remote: Some("169.254.1.2:179".parse().unwrap()),
        bfd: None,
        max_hops: 1,
        extended_parameters: false,
    }
}

fn path(peer: &str, best: bool) -> Path {
    Path {
        hostname: None,
        link: None,
        source: PathSource::External { peer: peer.parse().unwrap(), router_id: "10.2.0.1".parse().ok() },
        attributes: Arc::new(Attributes {
            as_path: AsPath::sequence([Asn::literal(65002)]),
            med: Some(0),
            ..Attributes::default()
        }),
        next_hop: peer.parse().unwrap(),
        link_local: None,
        igp_metric: 0,
        weight: 0,
        valid: true,
        best,
        multipath: false,
        alternate: !best,
        path_id: None,
        stale: false,
        validation: None,
        labels: Vec::new(),
        reason: best.then_some("Older Path"),
        damped: false,
        flap: None,
        updated: now() - Duration::from_secs(10),
    }
}

fn two_paths() -> Route {
    Route {
        prefix: "10.2.0.0/16".parse().unwrap(),
        version: 3,
        paths: vec![path("169.254.1.2", true), path("169.254.2.2", false)],
        advertised_to: vec![("169.254.2.2".parse().unwrap(), Some("edgeb".into()))],
    }
}

#[test]
fn the_summary_has_frrs_columns_and_fields() {
    let neighbor = neighbor();
    let table = TableCounters { version: 4, prefixes: 5, paths: 6, memory_octets: 960 };
    let families =
        [FamilySummary { family: Family::Ipv4Unicast, table, neighbors: vec![&neighbor], listed: vec![&neighbor] }];
    let text = summary::text(&speaker(), &families, now());
    assert!(text.contains("BGP router identifier 10.1.0.1, local AS number 65001 vrf-id 0\n"), "{text}");
    let line = text.lines().find(|line| line.starts_with("169.254.1.2")).unwrap();
    let columns: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(columns, ["169.254.1.2", "4", "65002", "8", "8", "0", "0", "0", "00:00:11", "2", "2", "N/A"]);

    let json = summary::json(&speaker(), &families, false, now());
    let peer = &json["ipv4Unicast"]["peers"]["169.254.1.2"];
    assert_eq!(
        (&peer["state"], &peer["pfxRcd"], &peer["peerUptimeMsec"]),
        (&"Established".into(), &2.into(), &11_000.into())
    );
    assert_eq!((&peer["msgRcvd"], &peer["hostname"], &peer["idType"]), (&8.into(), &"edgeb".into(), &"ipv4".into()));
}

#[test]
fn a_neighbor_that_is_down_shows_its_state_where_the_count_stands() {
    let neighbor = Neighbor { established_at: None, established_count: 0, state: "Active", ..neighbor() };
    let families = [FamilySummary {
        family: Family::Ipv4Unicast,
        table: TableCounters::default(),
        neighbors: vec![&neighbor],
        listed: vec![&neighbor],
    }];
    let text = summary::text(&speaker(), &families, now());
    assert!(text.lines().any(|line| line.contains("never") && line.contains("Active")), "{text}");
    assert_eq!(summary::json(&speaker(), &families, false, now())["ipv4Unicast"]["failedPeers"], 1);
}

#[test]
fn a_neighbor_goes_by_the_link_that_it_is_known_by() {
    let address = "fe80::1".parse().unwrap();
    let neighbor = Neighbor { link: Some("eth0".parse().unwrap()), address, ..neighbor() };
    let nowhere = Neighbor { address: "::".parse().unwrap(), ..neighbor.clone() };
    let families = [FamilySummary {
        family: Family::Ipv4Unicast,
        table: TableCounters::default(),
        neighbors: vec![&neighbor],
        listed: vec![&neighbor],
    }];
    assert!(summary::text(&speaker(), &families, now()).contains("\neth0 "));
    let json = summary::json(&speaker(), &families, false, now());
    assert_eq!(json["ipv4Unicast"]["peers"]["eth0"]["idType"], "interface");
    assert!(neighbors::text(&speaker(), &neighbor, now()).starts_with("BGP neighbor on eth0: fe80::1, remote AS"));
    let json = neighbors::json(&speaker(), &[neighbor], now());
    assert_eq!(json["eth0"]["bgpNeighborAddr"], "fe80::1");
    let json = neighbors::json(&speaker(), &[nowhere], now());
    assert_eq!(json["eth0"]["bgpNeighborAddr"], "none");

    let told = Path { link: Some("eth0".parse().unwrap()), ..path("fe80::1", true) };
    let route = Route { paths: vec![told], advertised_to: Vec::new(), ..two_paths() };
    assert!(route::text(&route, &speaker(), now()).contains(" from eth0 ("));
    assert_eq!(route::json(&route, &speaker())["paths"][0]["peer"]["interface"], "eth0");
}

#[test]
fn who_came_from_a_range_has_a_star() {
    let neighbor = Neighbor { dynamic: true, ..neighbor() };
    let families = [FamilySummary {
        family: Family::Ipv4Unicast,
        table: TableCounters::default(),
        neighbors: vec![&neighbor],
        listed: vec![&neighbor],
    }];
    assert!(summary::text(&speaker(), &families, now()).contains("\n*169.254.1.2 "));
    let json = summary::json(&speaker(), &families, false, now());
    assert_eq!(json["ipv4Unicast"]["dynamicPeers"], 1);
    assert_eq!(json["ipv4Unicast"]["peers"]["169.254.1.2"]["dynamicPeer"], true);
}

#[test]
fn restarts_are_told_with_where_the_mode_comes_from() {
    let mut neighbor = Neighbor { restart_mode: "Helper", ..neighbor() };
    neighbor.capabilities.peer_restart_time = Some(Duration::from_secs(150));
    neighbor.capabilities.peer_restarts = vec![Family::Ipv4Unicast];
    neighbor.capabilities.peer_preserved = Vec::new();
    neighbor.capabilities.peer_restarting = true;
    let json = restart::json(std::slice::from_ref(&neighbor));
    let shown = &json["169.254.1.2"];
    assert_eq!(shown["neighborAddr"], "169.254.1.2");
    assert_eq!((&shown["localGrMode"], &shown["remoteGrMode"]), (&"Helper*".into(), &"Restart".into()));
    assert_eq!((&shown["rBit"], &shown["timers"]["receivedRestartTimer"]), (&true.into(), &150.into()));
    assert_eq!(shown["ipv4Unicast"]["fBit"], false, "it restarts gracefully, and has not kept its routes");
    let own = Neighbor { restart_inherited: false, ..neighbor };
    assert!(restart::text(&[own]).contains("  Local GR Mode: Helper\n  Remote GR Mode: Restart\n  R bit: yes\n"));
}

#[test]
fn the_table_marks_best_and_backup() {
    let rows = table::rows(&two_paths());
    let lines: Vec<&str> = rows.lines().collect();
    assert!(lines[0].starts_with(" *> 10.2.0.0/16      169.254.1.2 "), "{rows}");
    assert!(lines[1].starts_with(" *b "), "{rows}");
    assert!(lines.iter().all(|line| line.ends_with(" 65002 i")), "{rows}");
}

#[test]
fn the_table_in_json_is_one_document() {
    let mut document = table::json_head(&speaker(), 4);
    document.push_str(&table::json_row(&two_paths(), true, &speaker()));
    let other = Route { prefix: "10.3.0.0/16".parse().unwrap(), ..two_paths() };
    document.push_str(&table::json_row(&other, false, &speaker()));
    document.push_str(&table::json_foot(2, 4));
    let json: Value = serde_json::from_str(&document).unwrap();
    let paths = json["routes"]["10.2.0.0/16"].as_array().unwrap();
    assert_eq!((&paths[0]["bestpath"], &paths[1]["backup"]), (&true.into(), &true.into()));
    assert_eq!(paths[0]["nexthops"][0]["ip"], "169.254.1.2");
    assert_eq!((&json["totalRoutes"], &json["totalPaths"]), (&2.into(), &4.into()));

    let empty = format!("{}{}", table::json_head(&speaker(), 4), table::json_foot(0, 0));
    assert!(serde_json::from_str::<Value>(&empty).unwrap()["routes"].as_object().unwrap().is_empty());
}

#[test]
fn one_route_is_told_in_full() {
    let text = route::text(&two_paths(), &speaker(), now());
    assert!(text.contains("Paths: (2 available, best #1, table default)"), "{text}");
    assert!(text.contains("Origin IGP, metric 0, valid, external, best (Older Path)"), "{text}");
    let json = route::json(&two_paths(), &speaker());
    let first = &json["paths"][0];
    assert_eq!((&first["aspath"]["string"], &first["aspath"]["length"]), (&"65002".into(), &1.into()));
    assert_eq!(first["bestpath"]["selectionReason"], "Older Path");
    assert_eq!(first["nexthops"][0]["accessible"], true);
    assert_eq!(json["paths"][1]["backup"], true);
}

#[test]
fn a_neighbor_is_told_in_full() {
    let text = neighbors::text(&speaker(), &neighbor(), now());
    for part in [
        "BGP neighbor is 169.254.1.2, remote AS 65002, local AS 65001, external link",
        "BGP state = Established, up for 00:00:11",
        "4 Byte AS: advertised and received",
        "Notification received 6/4",
        "Foreign host: 169.254.1.2, Foreign port: 179",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let json = neighbors::json(&speaker(), &[neighbor()], now());
    let peer = &json["169.254.1.2"];
    assert_eq!((&peer["bgpState"], &peer["messageStats"]["totalRecv"]), (&"Established".into(), &8.into()));
    assert_eq!(peer["addressFamilyInfo"]["ipv4Unicast"]["acceptedPrefixCounter"], 2);
    assert_eq!(peer["lastErrorCodeSubcode"], "0604");
}

#[test]
fn kernel_routes_show_their_backup() {
    let via = |gateway: &str, ifindex, interface: &str| Forwarding::Via {
        gateway: Some(gateway.parse().unwrap()),
        ifindex,
        interface: interface.into(),
    };
    let route = KernelRoute {
        prefix: "10.2.0.0/16".parse().unwrap(),
        protocol: RouteProtocol::Bgp { internal: false },
        distance: 20,
        metric: 0,
        tag: 10,
        learned: Some(Learned {
            as_path: "65101".into(),
            communities: "home 65001:2".into(),
            large_communities: "".into(),
        }),
        ways: vec![Way { weight: 3, ..via("169.254.1.2", 5, "tun1").into() }, via("169.254.3.2", 7, "tun3").into()],
        source: Some("10.0.0.1".parse().unwrap()),
        backup: Some(via("169.254.2.2", 6, "tun2")),
        nexthop_id: Some(11),
        installed: true,
        selected: true,
        protected: false,
    };
    let text = kernel::row(&route);
    assert!(
        text.starts_with("B>* 10.2.0.0/16 [20/0] tag 10, via 169.254.1.2, tun1, src 10.0.0.1, weight 3, nhid 11\n"),
        "{text}"
    );
    assert!(text.contains("  * ") && text.contains("via 169.254.3.2, tun3, src 10.0.0.1, weight 1\n"), "{text}");
    assert!(text.contains("  b ") && text.contains("via 169.254.2.2, tun2"), "{text}");
    let json: Value = serde_json::from_str(&format!("{{{}}}", kernel::json_row(&[&route], true))).unwrap();
    let entry = &json["10.2.0.0/16"][0];
    assert_eq!((&entry["protocol"], &entry["installed"]), (&"bgp".into(), &true.into()));
    assert_eq!(entry["nexthops"][0]["interfaceName"], "tun1");
    assert_eq!((&entry["tag"], &entry["communities"]), (&10.into(), &"home 65001:2".into()));
    assert_eq!((&entry["nexthops"][0]["weight"], &entry["nexthops"][1]["weight"]), (&3.into(), &1.into()));
    assert_eq!((&entry["nexthops"][1]["fib"], &entry["nexthops"][1]["active"]), (&true.into(), &true.into()));
    assert_eq!(entry["nexthops"][0]["rmapSource"], "10.0.0.1");
    assert_eq!(entry["backupNexthops"][0]["ip"], "169.254.2.2");
    // Something else goes before it.
    let beaten = KernelRoute { selected: false, ..route.clone() };
    let listed = |fib, from| [&route, &beaten].map(|route| route.is_listed(fib, from));
    assert_eq!((listed(false, None), listed(true, None)), ([true, true], [true, false]));
    assert_eq!(listed(false, Some(Some(RedistributeSource::Connected))), [false, false]);
    assert!(kernel::row(&beaten).starts_with("B   10.2.0.0/16 "), "{}", kernel::row(&beaten));
    let json: Value = serde_json::from_str(&format!("{{{}}}", kernel::json_row(&[&beaten, &route], true))).unwrap();
    let [first, second] = [0, 1].map(|at| &json["10.2.0.0/16"][at]);
    assert_eq!((first.get("selected"), first["nexthops"][0].get("fib")), (None, None));
    assert_eq!(second["selected"], true);
}

#[test]
fn bfd_peers_have_frrs_fields() {
    let peer = Bfd {
        multihop: false,
        minimum_ttl: 255,
        passive: false,
        peer: "169.254.1.2".parse().unwrap(),
        local: Some("169.254.1.1".parse().unwrap()),
        interface: Some("tun1".parse().unwrap()),
        local_discriminator: 7,
        remote_discriminator: 9,
        status: "up",
        since: now() - Duration::from_secs(11),
        diagnostic: "ok".into(),
        remote_diagnostic: "ok".into(),
        receive_interval: Duration::from_millis(10),
        transmit_interval: Duration::from_millis(10),
        detect_multiplier: 3,
        echo_receive_interval: Duration::ZERO,
        remote_echo_receive_interval: Duration::ZERO,
        echo_transmit_interval: Duration::from_millis(50),
        echo_heard: true,
        echo_packets: (3, 4),
        round_trip: None,
        jitter: Some(Duration::from_micros(1500)),
        adapt_up_to: Duration::from_millis(100),
        transmit_interval_in_use: Some(Duration::from_millis(300)),
        detection_time: Some(Duration::from_millis(900)),
        remote_receive_interval: Duration::from_millis(10),
        remote_transmit_interval: Duration::from_millis(10),
        remote_detect_multiplier: 3,
        packets: (1, 2),
        changes: (1, 0),
    };
    let json = bfd::json(std::slice::from_ref(&peer), now());
    assert_eq!(
        (&json[0]["status"], &json[0]["uptime"], &json[0]["detect-multiplier"]),
        (&"up".into(), &11.into(), &3.into())
    );
    assert!(bfd::text(std::slice::from_ref(&peer), now()).contains("\t\tStatus: up\n\t\tUptime: 11 second(s)\n"));
    assert_eq!(json[0].get("minimum-ttl"), None, "on a link there is only one");
    let far = Bfd { multihop: true, minimum_ttl: 253, ..peer };
    assert_eq!(bfd::json(std::slice::from_ref(&far), now())[0]["minimum-ttl"], 253);
    assert!(bfd::text(&[far], now()).contains("\t\tMinimum TTL: 253\n"));
}

#[test]
fn uptimes_are_printed_as_frr_does() {
    let at = |seconds| super::uptime(Duration::from_secs(seconds));
    assert_eq!(at(62), "00:01:02");
    assert_eq!(at(86_400 + 2 * 3600 + 180), "1d02h03m");
    assert_eq!(at(17 * 86_400 + 4 * 3600), "02w3d04h");
}
