//! Any octets as a BGP message: read or refused. What was read of an UPDATE reads the same after it is written.
//!
//! The first octet chooses the session: four-octet AS numbers, kind of peer, extended messages, IPv4 over IPv6.
#![no_main]

use bgp_wire::{Announcements, FamilySet, LabelledPath, Labels, Message, Negotiated, PeerKind, frame_length};
use libfuzzer_sys::fuzz_target;
use net_types::Family;

fuzz_target!(|data: &[u8]| {
    let Some((choice, frame)) = data.split_first() else { return };
    let kind = match (choice & 2, choice & 16) {
        (0, _) => PeerKind::Internal,
        (_, 0) => PeerKind::External,
        _ => PeerKind::Confederation,
    };
    let negotiated = Negotiated {
        four_octet_as: choice & 1 == 0,
        families: Family::ALL.into_iter().collect(),
        extended_message: choice & 4 == 0,
        over_ipv6: if choice & 8 == 0 { FamilySet::EMPTY } else { Family::Ipv4Unicast.into() },
        ..Negotiated::base(kind)
    };
    let _ = frame_length(frame, negotiated.max_message_octets());
    let parsed = match Message::parse(frame, &negotiated) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.to_string();
            if let Some(notification) = error.notification() {
                Message::parse(&notification.to_bytes(), &negotiated).expect("our own words can be read");
            }
            return;
        }
    };
    match parsed.message {
        Message::Update(update) => {
            let Some(reach) = &update.reach else { return };
            for (at, announcement) in reach.announced.iter().enumerate() {
                let labels = update.announced_labels(at).iter().cloned().chain(std::iter::repeat(Labels::new()));
                let paths = announcement.prefixes.iter().zip(labels);
                let paths = paths.map(|(prefix, labels)| LabelledPath { prefix: *prefix, id: 0, labels });
                let written = Announcements::new(
                    &reach.attributes,
                    announcement.family,
                    announcement.next_hop,
                    paths,
                    &negotiated,
                );
                let Ok(messages) = written else { continue };
                let mut seen = Vec::new();
                for message in messages {
                    let again = Message::parse(&message, &negotiated).expect("what we write can be read");
                    assert!(again.survived.is_empty(), "{:?}", again.survived);
                    let Message::Update(update) = again.message else { panic!("an UPDATE stays one") };
                    let again = update.reach.expect("routes stay announced");
                    // AS_TRANS and AS4_PATH may be put together differently the second time; a member AS gets a LOCAL_PREF.
                    if negotiated.four_octet_as && kind != PeerKind::Confederation {
                        assert_eq!(again.attributes, reach.attributes);
                    }
                    again.announced.into_iter().for_each(|group| seen.extend(group.prefixes));
                }
                assert_eq!(seen, announcement.prefixes);
            }
        }
        Message::Open(open) => {
            let again = Message::parse(&open.to_bytes(), &negotiated);
            assert!(again.is_ok(), "an OPEN that we could read is one that we can write");
        }
        Message::Notification(notification) => {
            let _ = notification.to_string();
        }
        Message::RouteRefresh(refresh) => {
            let again = Message::parse(&refresh.to_bytes(), &negotiated).map(|parsed| parsed.message);
            let filters = |message: &Message| match message {
                Message::RouteRefresh(refresh) => refresh.filters.clone().map(|filters| filters.changes),
                _ => None,
            };
            let again = again.expect("a request that we could read is one that we can write");
            assert_eq!(filters(&again), refresh.filters.clone().map(|filters| filters.changes));
        }
        Message::Keepalive => {}
    }
});
