//! Files that others wrote, read as another reader reads them; and what we write, read by both.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bgp_wire::{Announcements, AsPath, Attributes, Community, Message, Negotiated, NextHop, PeerKind, Update};
use bgpkit_parser::{BgpkitParser, models::ElemType};
use bytes::{Bytes, BytesMut};
use mrt::{Body, Entry, Peer, PeerIndex, Record, Rib, Session, entry_attributes, frame_length};
use net_types::{Asn, Family, Prefix};
use proptest::prelude::*;

/// A route as either reader tells it: who, what, along which ASes; without a path it is withdrawn.
type Element = (IpAddr, Prefix, Option<String>);

fn negotiated(four_octet_as: bool) -> Negotiated {
    let families = Family::ALL.into_iter().collect();
    Negotiated { four_octet_as, families, extended_message: true, ..Negotiated::base(PeerKind::External) }
}

fn records(file: &[u8]) -> Vec<Record> {
    let mut input = BytesMut::from(file);
    let mut all = Vec::new();
    while let Some(length) = frame_length(&input).unwrap() {
        all.push(Record::parse(&input.split_to(length).freeze()).unwrap());
    }
    assert!(input.is_empty(), "{} octets are left", input.len());
    all
}

fn update(message: &[u8], four_octet_as: bool) -> Option<Update> {
    match Message::parse(message, &negotiated(four_octet_as)).unwrap().message {
        Message::Update(update) => Some(update),
        _ => None,
    }
}

fn elements(update: Update, peer: IpAddr, out: &mut Vec<Element>) {
    let path = update.reach.as_ref().map(|reach| reach.attributes.as_path.to_string());
    let groups = update.reach.into_iter().flat_map(|reach| reach.announced);
    out.extend(groups.flat_map(|group| group.prefixes).map(|prefix| (peer, prefix, path.clone())));
    out.extend(update.withdrawn.into_iter().map(|prefix| (peer, prefix, None)));
}

/// As our reader tells a file.
fn ours(file: &[u8]) -> Vec<Element> {
    let (mut peers, mut out) = (Vec::new(), Vec::new());
    for record in records(file) {
        match record.body {
            Body::TableDump(dump) => {
                let message = dump.entry.to_update(&dump.prefix).unwrap();
                elements(update(&message, false).unwrap(), dump.peer_address, &mut out);
            }
            Body::PeerIndex(index) => peers = index.peers,
            Body::Rib(rib) => {
                for entry in &rib.entries {
                    let message = entry.to_update(&rib.prefix).unwrap();
                    elements(update(&message, true).unwrap(), peers[usize::from(entry.peer)].address, &mut out);
                }
            }
            Body::Message { session, four_octet_as, message, .. } => {
                if let Some(update) = update(&message, four_octet_as) {
                    elements(update, session.peer, &mut out);
                }
            }
            Body::StateChange { .. } | Body::Other { .. } => {}
        }
    }
    out.sort();
    out
}

/// As the other one does.
fn theirs(file: &[u8]) -> Vec<Element> {
    let plain = |path: String| path.replace(['{', '}'], "").replace(',', " ");
    let element = |element: bgpkit_parser::BgpElem| {
        let path = element.as_path.map(|path| plain(path.to_string()));
        let announced = element.elem_type == ElemType::ANNOUNCE;
        (element.peer_ip, Prefix::from(element.prefix.prefix), path.filter(|_| announced))
    };
    let mut all: Vec<Element> =
        BgpkitParser::from_reader(std::io::Cursor::new(file.to_vec())).into_iter().map(element).collect();
    all.sort();
    all
}

#[test]
fn what_others_wrote_is_read_as_another_reader_reads_it() {
    for (name, file, least) in [
        ("table-dump", &include_bytes!("../testdata/table-dump.mrt")[..], 40),
        ("table-dump-v2", include_bytes!("../testdata/table-dump-v2.mrt"), 60),
        ("bgp4mp", include_bytes!("../testdata/bgp4mp.mrt"), 60),
    ] {
        let plain = |elements: Vec<Element>| -> Vec<Element> {
            let path = |path: String| path.replace(['{', '}'], "").replace(',', " ");
            elements.into_iter().map(|(peer, prefix, as_path)| (peer, prefix, as_path.map(path))).collect()
        };
        let (ours, theirs) = (plain(ours(file)), theirs(file));
        assert!(ours.len() >= least, "{name}: {} elements", ours.len());
        assert_eq!(ours, theirs, "{name}");
    }
    let changes = records(include_bytes!("../testdata/bgp4mp.mrt"));
    assert!(changes.iter().filter(|record| matches!(record.body, Body::StateChange { .. })).count() >= 4);
}

#[test]
fn a_table_that_we_write_is_read_by_both() {
    let attributes = Attributes {
        as_path: AsPath::sequence([Asn::literal(65001), Asn::literal(4_200_000_001)]),
        communities: vec![Community(5)],
        med: Some(7),
        ..Attributes::default()
    };
    let peer = Peer {
        router_id: Ipv4Addr::new(1, 2, 3, 4),
        address: "2001:db8::9".parse().unwrap(),
        asn: Some(Asn::literal(65001)),
    };
    let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let index = PeerIndex { collector: Ipv4Addr::new(9, 9, 9, 9), view: String::new(), peers: vec![peer] };
    let mut file = BytesMut::new();
    Record { at, body: Body::PeerIndex(index) }.emit(&mut file);
    let routes: [(&str, NextHop); 2] = [
        ("10.0.0.0/9", NextHop::V4(Ipv4Addr::new(192, 0, 2, 1))),
        (
            "2001:db8:1::/48",
            NextHop::V6 { global: "2001:db8::1".parse().unwrap(), link_local: Some("fe80::1".parse().unwrap()) },
        ),
    ];
    for (sequence, (text, next_hop)) in routes.into_iter().enumerate() {
        let prefix: Prefix = text.parse().unwrap();
        let family = prefix.family();
        let mut message = BytesMut::new();
        let mut messages = Announcements::new(&attributes, family, next_hop, [prefix], &negotiated(true)).unwrap();
        assert!(messages.write_next(&mut message));
        let entry = Entry { peer: 0, originated: at, path_id: None, attributes: entry_attributes(&message).unwrap() };
        // What is made of it again is what it was.
        let again = update(&entry.to_update(&prefix).unwrap(), true).unwrap().reach.unwrap();
        assert_eq!((&again.attributes, again.announced[0].next_hop), (&attributes, next_hop));
        let rib = Rib { sequence: sequence as u32, family, prefix, add_path: false, entries: vec![entry] };
        Record { at, body: Body::Rib(rib) }.emit(&mut file);
    }
    let ours = ours(&file);
    assert_eq!(ours, theirs(&file));
    assert_eq!(ours.iter().map(|(_, prefix, _)| *prefix).collect::<BTreeSet<_>>().len(), 2);
    assert_eq!(ours[0].2.as_deref(), Some("65001 4200000001"));
}

fn any_asn() -> impl Strategy<Value = Option<Asn>> {
    any::<u32>().prop_map(|number| number.try_into().ok())
}

fn any_time() -> impl Strategy<Value = SystemTime> {
    any::<u32>().prop_map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds.into()))
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    (any::<IpAddr>(), 0u8..=128)
        .prop_map(|(address, bits)| Prefix::new(address, if address.is_ipv4() { bits % 33 } else { bits }).unwrap())
}

fn any_session() -> impl Strategy<Value = Session> {
    (any_asn(), any_asn(), any::<u16>(), any::<(u32, u32, u128, u128)>(), any::<bool>()).prop_map(
        |(peer_asn, local_asn, ifindex, (a, b, c, d), v6)| {
            let (peer, local): (IpAddr, IpAddr) = if v6 {
                (c.to_be_bytes().into(), d.to_be_bytes().into())
            } else {
                (a.to_be_bytes().into(), b.to_be_bytes().into())
            };
            Session { peer_asn, local_asn, ifindex, peer, local }
        },
    )
}

fn any_entry(add_path: bool) -> impl Strategy<Value = Entry> {
    (any::<u16>(), any_time(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40)).prop_map(
        move |(peer, originated, id, attributes)| Entry {
            peer,
            originated,
            path_id: add_path.then_some(id),
            attributes: attributes.into(),
        },
    )
}

fn any_record() -> impl Strategy<Value = Record> {
    let peer = (any::<u32>(), any::<IpAddr>(), any_asn()).prop_map(|(id, address, asn)| Peer {
        router_id: Ipv4Addr::from(id),
        address,
        asn,
    });
    let index = (any::<u32>(), "[a-z]{0,8}", proptest::collection::vec(peer, 0..4))
        .prop_map(|(id, view, peers)| Body::PeerIndex(PeerIndex { collector: Ipv4Addr::from(id), view, peers }));
    let rib = (any::<u32>(), any_prefix(), any::<bool>()).prop_flat_map(|(sequence, prefix, add_path)| {
        let entries = proptest::collection::vec(any_entry(add_path), 0..4);
        entries.prop_map(move |entries| Body::Rib(Rib { sequence, family: prefix.family(), prefix, add_path, entries }))
    });
    let message = (any_session(), any::<[bool; 3]>(), proptest::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(mut session, [four_octet_as, add_path, sent], message)| {
            if !four_octet_as {
                let small = |asn: Option<Asn>| asn.and_then(|asn| Asn::try_from(asn.get() & 0x7fff).ok());
                (session.peer_asn, session.local_asn) = (small(session.peer_asn), small(session.local_asn));
            }
            Body::Message { session, four_octet_as, add_path, sent, message: message.into() }
        },
    );
    let change = (any_session(), any::<u16>(), any::<u16>()).prop_map(|(session, from, to)| Body::StateChange {
        session,
        from,
        to,
    });
    (any_time(), prop_oneof![index, rib, message, change]).prop_map(|(at, body)| Record { at, body })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn emitted_records_parse_back(record in any_record()) {
        let mut out = BytesMut::new();
        record.emit(&mut out);
        prop_assert_eq!(frame_length(&out), Ok(Some(out.len())));
        prop_assert_eq!(Record::parse(&out.freeze()), Ok(record));
    }

    #[test]
    fn damaged_records_are_read_or_refused(
        record in any_record(), at in any::<proptest::sample::Index>(), with in any::<u8>(), cut in any::<proptest::sample::Index>(),
    ) {
        let mut out = BytesMut::new();
        record.emit(&mut out);
        let at = at.index(out.len());
        out[at] = with;
        let frame = Bytes::copy_from_slice(&out[..cut.index(out.len() + 1)]);
        if let Ok(Record { body: Body::Rib(rib), .. }) = Record::parse(&frame) {
            for entry in &rib.entries {
                let _ = entry.to_update(&rib.prefix);
            }
        }
        let _ = entry_attributes(&frame);
    }
}
