//! What is written is what is read, here and by another decoder.

use std::{
    net::IpAddr,
    time::{Duration, UNIX_EPOCH},
};

use bgpkit_parser::parse_bmp_msg;
use bgpkit_parser::parser::bmp::messages::{BmpMessageBody, BmpPeerType};
use bmp::{DownReason, Information, Message, Peer, PeerType, Stat, Termination, frame_length};
use bytes::{Bytes, BytesMut};
use net_types::{Asn, Family, RouterId};
use proptest::prelude::*;

fn octets(message: &Message) -> BytesMut {
    let mut out = BytesMut::new();
    message.emit(&mut out);
    out
}

/// A BGP message of some kind: a header and a body.
fn bgp(kind: u8, body: &[u8]) -> Bytes {
    let mut out = vec![0xff; 16];
    out.extend(((19 + body.len()) as u16).to_be_bytes());
    out.push(kind);
    out.extend(body);
    out.into()
}

fn open() -> Bytes {
    bgp(1, &[4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1, 0])
}

/// 10.0.0.0/8 with path 65001 by way of 192.0.2.1.
fn update() -> Bytes {
    let attributes = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9, 0x40, 3, 4, 192, 0, 2, 1];
    let mut body = vec![0, 0, 0, attributes.len() as u8];
    body.extend(attributes);
    body.extend([8, 10]);
    bgp(2, &body)
}

fn any_peer() -> impl Strategy<Value = Peer> {
    let kind = prop_oneof![
        any::<bool>().prop_map(|post_policy| PeerType::AdjRibIn { post_policy }),
        any::<bool>().prop_map(|post_policy| PeerType::AdjRibOut { post_policy }),
        Just(PeerType::LocRib),
    ];
    (kind, any::<IpAddr>(), 1u32.., any::<u32>(), any::<bool>(), 1u64..2_000_000_000).prop_map(
        |(kind, address, asn, router_id, two_octet_as, micros)| {
            let local = kind == PeerType::LocRib;
            Peer {
                kind,
                address: if local { IpAddr::from([0, 0, 0, 0]) } else { address },
                asn: Asn::try_from(if two_octet_as { asn % 0xffff + 1 } else { asn }).unwrap(),
                router_id: RouterId::try_from(router_id).ok(),
                two_octet_as: two_octet_as && !local,
                at: Some(UNIX_EPOCH + Duration::from_micros(micros)),
            }
        },
    )
}

fn any_stat() -> impl Strategy<Value = Stat> {
    let family = || proptest::sample::select(&Family::ALL[..]);
    prop_oneof![
        any::<u32>().prop_map(Stat::RejectedByPolicy),
        any::<u64>().prop_map(Stat::AdjRibIn),
        any::<u64>().prop_map(Stat::LocRib),
        (family(), any::<u64>()).prop_map(|(family, count)| Stat::FamilyAdjRibIn(family, count)),
        (family(), any::<u64>()).prop_map(|(family, count)| Stat::FamilyLocRib(family, count)),
        any::<u64>().prop_map(Stat::AdjRibOut),
        (family(), any::<u64>()).prop_map(|(family, count)| Stat::FamilyAdjRibOut(family, count)),
    ]
}

fn any_information() -> impl Strategy<Value = Vec<Information>> {
    let one = ("[ -~]{1,20}", 0u8..4).prop_map(|(text, kind)| match kind {
        0 => Information::Text(text),
        1 => Information::Description(text),
        2 => Information::Name(text),
        _ => Information::Table(text),
    });
    proptest::collection::vec(one, 0..3)
}

fn any_message() -> impl Strategy<Value = Message> {
    let reason = prop_oneof![
        Just(DownReason::LocalNotification(bgp(3, &[6, 2]))),
        any::<u16>().prop_map(DownReason::LocalEvent),
        Just(DownReason::RemoteNotification(bgp(3, &[6, 4]))),
        Just(DownReason::RemoteClosed),
        Just(DownReason::Deconfigured),
        any_information().prop_map(DownReason::LocalSystemClosed),
    ];
    let up = (any_peer(), any::<(u32, u128, u16, u16)>(), any_information()).prop_map(
        |(peer, (v4, v6, port, remote_port), information)| {
            let local = match peer.address {
                _ if peer.kind == PeerType::LocRib => (IpAddr::from([0, 0, 0, 0]), 0),
                IpAddr::V4(_) => (IpAddr::from(v4.to_be_bytes()), port),
                IpAddr::V6(_) => (IpAddr::from(v6.to_be_bytes()), port),
            };
            Message::PeerUp { peer, local, remote_port, sent_open: open(), received_open: open(), information }
        },
    );
    let termination = prop_oneof!["[ -~]{1,20}".prop_map(Termination::Text), (0u16..=4).prop_map(Termination::Reason),];
    prop_oneof![
        any_peer().prop_map(|peer| Message::RouteMonitoring { peer, update: update() }),
        (any_peer(), proptest::collection::vec(any_stat(), 0..5))
            .prop_map(|(peer, stats)| Message::Statistics { peer, stats }),
        (any_peer(), reason).prop_map(|(peer, reason)| Message::PeerDown { peer, reason }),
        up,
        any_information().prop_map(Message::Initiation),
        proptest::collection::vec(termination, 0..3).prop_map(Message::Termination),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn emitted_messages_parse_back(message in any_message()) {
        let out = octets(&message);
        prop_assert_eq!(frame_length(&out), Ok(Some(out.len())));
        prop_assert_eq!(Message::parse(&out), Ok(message));
    }

    #[test]
    fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = frame_length(&octets);
        let _ = Message::parse(&octets);
    }

    #[test]
    fn cut_messages_are_refused(message in any_message(), cut in any::<proptest::sample::Index>()) {
        let out = octets(&message);
        let _ = Message::parse(&out[..cut.index(out.len())]);
    }

    #[test]
    fn another_decoder_reads_them(message in any_message()) {
        let mut out = octets(&message).freeze();
        let read = parse_bmp_msg(&mut out).map_err(|error| TestCaseError::fail(format!("{error}")))?;
        let header = read.per_peer_header;
        match (&message, &read.message_body) {
            (Message::RouteMonitoring { peer, .. }, BmpMessageBody::RouteMonitoring(_))
            | (Message::Statistics { peer, .. }, BmpMessageBody::StatsReport(_))
            | (Message::PeerDown { peer, .. }, BmpMessageBody::PeerDownNotification(_))
            | (Message::PeerUp { peer, .. }, BmpMessageBody::PeerUpNotification(_)) => {
                let header = header.unwrap();
                prop_assert_eq!(header.peer_ip, peer.address);
                prop_assert_eq!(header.peer_asn.to_u32(), peer.asn.get());
                prop_assert_eq!(header.peer_type == BmpPeerType::LocalRib, peer.kind == PeerType::LocRib);
                prop_assert_eq!(u32::from(header.peer_bgp_id), peer.router_id.map_or(0, RouterId::get));
            }
            (Message::Initiation(sent), BmpMessageBody::InitiationMessage(read)) => {
                prop_assert_eq!(sent.len(), read.tlvs.len());
            }
            (Message::Termination(sent), BmpMessageBody::TerminationMessage(read)) => {
                prop_assert_eq!(sent.len(), read.tlvs.len());
            }
            (_, other) => prop_assert!(false, "read as {other:?}"),
        }
    }
}
