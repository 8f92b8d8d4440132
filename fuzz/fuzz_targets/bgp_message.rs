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
