//! Recorded messages against what is known of them.

mod common;

use std::{env, fmt::Write as _, fs, net::Ipv4Addr};

use bgp_wire::{
    Announcement, Announcements, Capability, LabelledPath, Message, MessageError, Negotiated, Origin, Parsed, PeerKind,
    Update,
    notification::{CeaseCode, NotificationCode},
};
use common::{terms, unhex, vectors};
use net_types::{Asn, Family};

fn parse(message: &[u8]) -> Result<Parsed, MessageError> {
    Message::parse(message, &terms(PeerKind::Internal, true))
}

fn update(message: &str) -> Update {
    match parse(&unhex(message)).unwrap() {
        Parsed { message: Message::Update(update), survived } if survived.is_empty() => update,
        other => panic!("{other:?}"),
    }
}

/// One line that says all that was understood.
fn describe(message: &[u8]) -> String {
    let Parsed { message, survived } = match parse(message) {
        Ok(parsed) => parsed,
        Err(error) => {
            let codes = error.notification().map(|notification| notification.code().codes());
            return format!("refused: {error}; answer {codes:?}");
        }
    };
    let mut line = match message {
        Message::Update(Update { withdrawn, reach, end_of_rib, path_ids }) => {
            let mut line = "update".to_owned();
            if let Some(family) = end_of_rib {
                write!(line, " end-of-rib {family}").unwrap();
            }
            if !withdrawn.is_empty() {
                write!(line, " withdrawn {withdrawn:?}").unwrap();
            }
            if let Some(reach) = reach {
                for announcement in &reach.announced {
                    write!(line, " announced {:?} via {:?}", announcement.prefixes, announcement.next_hop).unwrap();
                }
                write!(line, " {:?}", reach.attributes).unwrap();
            }
            if let Some(ids) = path_ids {
                write!(line, " {ids:?}").unwrap();
            }
            line
        }
        other => format!("{other:?}"),
    };
    for survived in survived {
        write!(line, "; {:?}: {}", survived.remedy, survived.error).unwrap();
    }
    line
}

fn compare(name: &str) {
    let mut found = String::new();
    for (message, bytes) in vectors(&format!("{name}.hex")) {
        writeln!(found, "{message}: {}", describe(&bytes)).unwrap();
    }
    let path = format!("{}/testdata/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if env::var_os("BLESS").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{path}:{}", number + 1);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

#[test]
fn exabgp_messages_read_as_recorded() {
    compare("exabgp");
}

#[test]
fn tcpdump_messages_read_as_recorded() {
    compare("tcpdump");
}

#[test]
fn a_large_community_route_of_exabgp() {
    // announce route 10.0.0.7/32 next-hop 255.255.255.254 origin igp local-preference 100
    //   large-community [1:2:3 10:11:12]; the recorded next hop, the broadcast address, is no host's.
    let update = update(
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF:004C:02:0000003040010100400200400304FFFFFFFE40050400000064C0201800000001\
         00000002000000030000000A0000000B0000000C200A000007",
    );
    let reach = update.reach.unwrap();
    assert_eq!(reach.attributes.origin, Origin::Igp);
    assert_eq!(reach.attributes.local_pref, Some(100));
    let large: Vec<String> = reach.attributes.large_communities.iter().map(ToString::to_string).collect();
    assert_eq!(large, ["1:2:3", "10:11:12"]);
    assert_eq!(reach.announced[0].prefixes, ["10.0.0.7/32".parse().unwrap()]);
}

#[test]
fn an_aggregate_of_exabgp() {
    // announce route 1.0.64.0/18 next-hop 192.168.1.254 origin igp as-path [57821 6939] local-preference 100
    //   atomic-aggregate aggregator 18144:219.118.225.189
    let update = update(
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF:0048:02:0000002D4001010040020A02020000E1DD00001B1B400304C0A801FE40050400\
         000064400600C00708000046E0DB76E1BD12010040",
    );
    let reach = update.reach.unwrap();
    assert_eq!(reach.attributes.as_path.to_string(), "57821 6939");
    assert!(reach.attributes.atomic_aggregate);
    let aggregator = reach.attributes.aggregator.unwrap();
    assert_eq!((aggregator.asn, aggregator.address), (Asn::literal(18144), Ipv4Addr::new(219, 118, 225, 189)));
    assert_eq!(reach.announced[0].prefixes, ["1.0.64.0/18".parse().unwrap()]);
    assert_eq!(reach.announced[0].next_hop.to_string(), "192.168.1.254");
}

#[test]
fn an_ipv6_route_of_exabgp() {
    // announce ipv6 unicast 2a02:b80:0:1::1/128 next-hop 2a02:b80:0:2::1 origin igp local-preference 200
    //   community [30740:0 30740:30740]
    let update = update(
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF:0059:02:0000004240010100400200400504000000C8C008087814000078147814800E26\
         000201102A020B8000000002000000000000000100802A020B80000000010000000000000001",
    );
    let reach = update.reach.unwrap();
    assert_eq!(reach.announced[0].family, Family::Ipv6Unicast);
    assert_eq!(reach.announced[0].prefixes, ["2a02:b80:0:1::1/128".parse().unwrap()]);
    assert_eq!(reach.announced[0].next_hop.to_string(), "2a02:b80:0:2::1");
    let communities: Vec<String> = reach.attributes.communities.iter().map(ToString::to_string).collect();
    assert_eq!(communities, ["30740:0", "30740:30740"]);
}

/// `conf-vpn` of exabgp: each prefix has the label that its configuration gives it, and is written back as it came.
#[test]
fn routes_of_a_vpn_of_exabgp() {
    let negotiated = terms(PeerKind::Internal, true);
    let mut seen = Vec::new();
    for (_, bytes) in vectors("exabgp.hex").into_iter().filter(|(name, _)| name == "conf-vpn") {
        let Ok(Parsed { message: Message::Update(update), .. }) = Message::parse(&bytes, &negotiated) else { continue };
        let labels = update.announced_labels(0).to_vec();
        let Some(reach) = update.reach else { continue };
        let Announcement { family, next_hop, prefixes } = &reach.announced[0];
        let paths = prefixes.iter().zip(&labels);
        let paths = paths.map(|(prefix, labels)| LabelledPath { prefix: *prefix, id: 0, labels: labels.clone() });
        let paths: Vec<LabelledPath> = paths.collect();
        seen.extend(paths.iter().map(|path| format!("{} {:?}", path.prefix, path.labels)));
        for message in Announcements::new(&reach.attributes, *family, *next_hop, paths, &negotiated).unwrap() {
            let Message::Update(again) = Message::parse(&message, &negotiated).unwrap().message else { panic!() };
            assert_eq!((again.announced_labels(0), again.reach.as_ref()), (&labels[..], Some(&reach)));
        }
    }
    assert_eq!(
        seen,
        [
            "65000:1:10.0.0.0/25 [1000]",
            "65000:1:10.0.0.128/25 [1000]",
            "65000:1:20.0.0.0/25 [1000]",
            "65000:1:20.0.0.128/25 [1000]"
        ]
    );
}

#[test]
fn end_of_rib_of_each_family() {
    let eor = |message| update(message).end_of_rib;
    assert_eq!(eor("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF:0017:02:00000000"), Some(Family::Ipv4Unicast));
    let six = "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF:001E:02:00000007900F0003000201";
    assert_eq!(eor(six), Some(Family::Ipv6Unicast));
}

#[test]
fn notifications_of_captures() {
    let notifications = |capture: &str| -> Vec<_> {
        let named = vectors("tcpdump.hex").into_iter().filter(|(name, _)| name == capture);
        named
            .filter_map(|(_, bytes)| match parse(&bytes).ok()?.message {
                Message::Notification(notification) => Some(notification),
                _ => None,
            })
            .collect()
    };
    assert_eq!(notifications("bgp-bfd-cease")[0].code(), NotificationCode::Cease(CeaseCode::BfdDown));
    let hard = notifications("bgp-cease-hard-reset");
    assert!(hard.iter().all(|notification| notification.code() == NotificationCode::Cease(CeaseCode::HardReset)));
    assert!(hard.iter().any(|notification| notification.hard_reset_reason().is_some()));
    let texts: Vec<_> = notifications("bgp-shutdown-msg-variations").iter().filter_map(|n| n.communication()).collect();
    assert!(texts.iter().any(|text| !text.as_str().is_empty()), "{texts:?}");
}

#[test]
fn a_software_version_of_exabgp() {
    let (_, bytes) = vectors("exabgp.hex").into_iter().find(|(name, _)| name == "bgp-open-sofware-version").unwrap();
    let Message::Open(open) = parse(&bytes).unwrap().message else { panic!() };
    assert!(open.capabilities.iter().any(|c| matches!(c, Capability::SoftwareVersion(text) if !text.is_empty())));
}

/// Messages of sessions on which paths have identifiers (RFC 7911), read as such and written back the same.
#[test]
fn paths_with_identifiers_of_exabgp_and_a_capture() {
    let all = Family::ALL.into_iter().collect();
    let negotiated = Negotiated { add_path_in: all, add_path_out: all, ..terms(PeerKind::Internal, true) };
    let read = |file: &str, name: &str| -> Vec<(String, u32)> {
        let named = vectors(file).into_iter().filter(|(found, _)| found == name);
        let updates = named.filter_map(|(_, bytes)| match Message::parse(&bytes, &negotiated).ok()?.message {
            Message::Update(update) => Some(update),
            _ => None,
        });
        let mut paths = Vec::new();
        for update in updates {
            let ids = update.path_ids.unwrap_or_default();
            let withdrawn = update.withdrawn.iter().zip(&ids.withdrawn);
            paths.extend(withdrawn.map(|(prefix, id)| (format!("-{prefix}"), *id)));
            for (announcement, ids) in update.reach.iter().flat_map(|reach| &reach.announced).zip(&ids.announced) {
                assert_eq!(announcement.prefixes.len(), ids.len());
                let announced: Vec<_> = announcement.prefixes.iter().copied().zip(ids.iter().copied()).collect();
                paths.extend(announced.iter().map(|(prefix, id)| (prefix.to_string(), *id)));
                let Announcement { family, next_hop, .. } = announcement;
                let attributes = &update.reach.as_ref().unwrap().attributes;
                let again = Announcements::new(attributes, *family, *next_hop, announced, &negotiated).unwrap();
                for message in again {
                    let Message::Update(read) = Message::parse(&message, &negotiated).unwrap().message else {
                        panic!()
                    };
                    assert_eq!(read.announced_ids(0), ids);
                }
            }
        }
        paths
    };
    let of_two_families = [("193.0.2.1/32".to_owned(), 0x0102_0304), ("100:100:10.0.0.0/24".to_owned(), 10)];
    assert_eq!(read("exabgp.hex", "conf-addpath"), of_two_families);
    assert_eq!(read("tcpdump.hex", "bgp-addpath"), []);
}
