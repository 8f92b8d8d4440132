<<<<<<< HEAD
//! Any octets as a BGP message: read or refused. What was read of an UPDATE reads the same after it is written.
//!
//! The first octet chooses the session: four-octet AS numbers, external peer, extended messages.
#![no_main]

use bgp_wire::{Announcements, Message, Negotiated, PeerKind, frame_length};
use libfuzzer_sys::fuzz_target;
use net_types::Family;

fuzz_target!(|data: &[u8]| {
    let Some((choice, frame)) = data.split_first() else { return };
    let kind = if choice & 2 == 0 { PeerKind::Internal } else { PeerKind::External };
    let negotiated = Negotiated {
        four_octet_as: choice & 1 == 0,
        families: Family::ALL.into_iter().collect(),
        extended_message: choice & 4 == 0,
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
            let Some(reach) = update.reach else { return };
            for announcement in &reach.announced {
                let prefixes = announcement.prefixes.iter().copied();
                let written =
                    Announcements::new(&reach.attributes, announcement.family, announcement.next_hop, prefixes, &negotiated);
                let Ok(messages) = written else { continue };
                let mut seen = Vec::new();
                for message in messages {
                    let again = Message::parse(&message, &negotiated).expect("what we write can be read");
                    assert!(again.survived.is_empty(), "{:?}", again.survived);
                    let Message::Update(update) = again.message else { panic!("an UPDATE stays one") };
                    let again = update.reach.expect("routes stay announced");
                    // AS_TRANS and AS4_PATH may be put together differently the second time.
                    if negotiated.four_octet_as {
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
        Message::Keepalive | Message::RouteRefresh(_) => {}
    }
});
=======
//! A stream of BGP messages from anybody; the first octet says what was negotiated.
//!
//! What is understood is written again and must be read back as the same.
#![no_main]

use bgp_wire::{Announcements, Message, Negotiated, PeerKind, Update, emit_end_of_rib, frame_length};
use net_types::{Asn, Family};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((terms, mut stream)) = data.split_first() else { return };
    let mut negotiated = Negotiated::base(if terms & 1 == 0 { PeerKind::External } else { PeerKind::Internal });
    negotiated.four_octet_as = terms & 2 != 0;
    negotiated.extended_message = terms & 4 != 0;
    if terms & 8 != 0 {
        negotiated.families.insert(Family::Ipv6Unicast);
    }
    if terms & 16 != 0 {
        negotiated.families.remove(Family::Ipv4Unicast);
    }
    if terms & 32 != 0 {
        negotiated.enforce_first_as = Asn::try_from(65_001).ok();
    }
    while let Ok(Some(length)) = frame_length(stream, negotiated.max_message_octets()) {
        let Some((frame, rest)) = stream.split_at_checked(length) else { break };
        stream = rest;
        match Message::parse(frame, &negotiated) {
            Ok(parsed) => again(parsed.message, &negotiated),
            Err(error) => {
                if let Some(notification) = error.notification() {
                    again(Message::Notification(notification), &negotiated);
                }
                let _printable = error.to_string();
                break; // the session ends
            }
        }
    }
});

/// Writes a message and reads it back.
fn again(message: Message, negotiated: &Negotiated) {
    let octets = match &message {
        Message::Open(open) => open.to_bytes(),
        Message::Notification(notification) => notification.to_bytes(),
        Message::RouteRefresh(refresh) => refresh.to_bytes(),
        Message::Keepalive => bgp_wire::keepalive(),
        Message::Update(update) => return announce(update, negotiated),
    };
    // What came in an extended message may not fit into an ordinary one.
    if octets.len() <= negotiated.max_message_octets() {
        let read = Message::parse(&octets, negotiated).expect("what we write can be read");
        assert_eq!(read.message.kind(), message.kind());
    }
}

/// Announces the routes of an UPDATE as they came; every prefix must arrive, none may be added.
fn announce(update: &Update, negotiated: &Negotiated) {
    if let Some(family) = update.end_of_rib {
        let read = Message::parse(&emit_end_of_rib(family), negotiated).expect("what we write can be read");
        assert!(matches!(read.message, Message::Update(Update { end_of_rib: Some(marked), .. }) if marked == family));
    }
    let Some(reach) = &update.reach else { return };
    for group in &reach.announced {
        let prefixes = group.prefixes.iter().copied();
        let Ok(messages) = Announcements::new(&reach.attributes, group.family, group.next_hop, prefixes, negotiated)
        else {
            continue;
        };
        let mut arrived = Vec::new();
        for octets in messages {
            assert!(octets.len() <= negotiated.max_message_octets());
            let read = Message::parse(&octets, negotiated).expect("what we write can be read");
            let Message::Update(read) = read.message else { panic!("an UPDATE was written") };
            arrived.extend(read.reach.into_iter().flat_map(|reach| reach.announced).flat_map(|group| group.prefixes));
            arrived.extend(read.withdrawn); // what we may not announce as it came is treated so
        }
        assert_eq!(arrived.len(), group.prefixes.len());
    }
}
>>>>>>> main
