//! What is written reads back the same, on every kind of session; and nothing that can be sent panics.

mod common;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use bgp_wire::{
    Aggregator, Announcements, AsPath, AttrCode, AttrFlags, Attributes, Community, EmitError, ExtCommunity,
    LargeCommunity, Message, Negotiated, NextHop, Origin, Parsed, PeerKind, RawAttr, Segment, SegmentKind, TunnelEncap,
    Withdrawals, emit_end_of_rib, frame_length,
};
use common::{terms, vectors};
use net_types::{Asn, Family, Prefix, Rd};
use proptest::{collection::vec, option, prelude::*};

fn any_asn() -> impl Strategy<Value = Asn> {
    prop_oneof![1u32..=65535, 1u32..=u32::MAX].prop_map(|raw| Asn::try_from(raw).unwrap())
}

fn any_path() -> impl Strategy<Value = AsPath> {
    let kind = prop_oneof![4 => Just(SegmentKind::Sequence), 1 => Just(SegmentKind::Set)];
    let segment = (kind, vec(any_asn(), 1..12)).prop_map(|(kind, asns)| Segment { kind, asns: asns.into() });
    // Two sequences in a row come back as one where AS4_PATH is merged in, which means the same.
    vec(segment, 0..4).prop_map(|segments| {
        let mut joined: Vec<Segment> = Vec::new();
        for segment in segments {
            match joined.last_mut() {
                Some(last) if last.kind == segment.kind && segment.kind == SegmentKind::Sequence => {
                    last.asns.extend(segment.asns);
                }
                _ => joined.push(segment),
            }
        }
        AsPath::from_segments(joined)
    })
}

prop_compose! {
    fn any_attributes()(
        origin in prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)],
        as_path in any_path(),
        med in option::of(any::<u32>()),
        local_pref in any::<u32>(),
        atomic_aggregate: bool,
        aggregator in option::of((any_asn(), any::<Ipv4Addr>())),
        communities in vec(any::<u32>().prop_map(Community), 0..20),
        originator_id in option::of(any::<Ipv4Addr>()),
        cluster_list in vec(any::<Ipv4Addr>(), 0..5),
        ext_communities in vec(any::<[u8; 8]>().prop_map(ExtCommunity), 0..10),
        large_communities in vec(any::<(u32, u32, u32)>(), 0..10),
        only_to_customer in option::of(any_asn()),
        tunnel in option::of((any::<u16>(), vec(any::<u8>(), 0..40))),
        unknown in option::of((100u8..200, vec(any::<u8>(), 0..300))),
        partial: bool,
    ) -> Attributes {
        let mut attributes = Attributes {
            origin, as_path, med, local_pref: Some(local_pref), atomic_aggregate,
            aggregator: aggregator.map(|(asn, address)| Aggregator { asn, address }),
            communities, originator_id, cluster_list, ext_communities,
            large_communities: large_communities
                .into_iter()
                .map(|(global, local1, local2)| LargeCommunity { global, local1, local2 })
                .collect(),
            only_to_customer,
            tunnel_encap: tunnel.map(|(kind, value)| {
                let sub_tlv = [&[4, value.len() as u8], &value[..]].concat();
                let tunnel = [&kind.to_be_bytes()[..], &(sub_tlv.len() as u16).to_be_bytes(), &sub_tlv].concat();
                TunnelEncap::parse(&tunnel).unwrap()
            }),
            unknown: unknown
                .into_iter()
                .map(|(code, value)| RawAttr { flags: AttrFlags::new(0xe0), code, value: value.into() })
                .collect(),
            ..Attributes::default()
        };
        if partial && !attributes.communities.is_empty() {
            attributes.partial.insert(AttrCode::Communities);
        }
        attributes
    }
}

fn any_prefix(family: Family) -> impl Strategy<Value = Prefix> {
    let address = match family {
        Family::Ipv4Unicast | Family::Ipv4Vpn => any::<Ipv4Addr>().prop_map(IpAddr::from).boxed(),
        Family::Ipv6Unicast | Family::Ipv6Vpn => any::<Ipv6Addr>().prop_map(IpAddr::from).boxed(),
    };
    (address, 0..=family.max_bits(), any::<[u8; 8]>()).prop_map(move |(address, bits, rd)| {
        let plain = Prefix::new(address, bits).unwrap();
        if family.is_vpn() { plain.in_vpn(Rd::from_octets(rd)) } else { plain }
    })
}

fn next_hop(family: Family, both: bool) -> NextHop {
    match family {
        Family::Ipv4Unicast | Family::Ipv4Vpn => NextHop::V4(Ipv4Addr::new(192, 0, 2, 1)),
        Family::Ipv6Unicast | Family::Ipv6Vpn => {
            NextHop::V6 { global: "2001:db8::1".parse().unwrap(), link_local: both.then(|| "fe80::1".parse().unwrap()) }
        }
    }
}

/// What arrives of `attributes` on such a session.
fn received(mut attributes: Attributes, negotiated: &Negotiated) -> Attributes {
    if negotiated.peer_kind == PeerKind::External {
        attributes.local_pref = None;
        attributes.originator_id = None;
        attributes.cluster_list.clear();
    }
    attributes
}

fn any_family() -> impl Strategy<Value = Family> {
    prop::sample::select(Family::ALL.to_vec())
}

/// Every recorded message.
static CORPUS: LazyLock<Vec<(String, Vec<u8>)>> =
    LazyLock::new(|| ["exabgp.hex", "tcpdump.hex", "ris.hex"].map(vectors).concat());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn packed_attributes_are_what_they_were(attributes in any_attributes(), local_pref in option::of(any::<u32>())) {
        let attributes = Attributes { local_pref, ..attributes };
        let mut packed = Vec::new();
        attributes.pack(&mut packed);
        prop_assert_eq!(Attributes::unpack(&packed), attributes);
    }

    #[test]
    fn octets_that_are_no_packed_attributes_give_some(packed in vec(any::<u8>(), 0..200)) {
        let mut again = Vec::new();
        Attributes::unpack(&packed).pack(&mut again);
    }

    #[test]
    fn announcements_read_back(
        attributes in any_attributes(),
        (family, prefixes) in any_family().prop_flat_map(|family| (Just(family), vec(any_prefix(family), 1..1500))),
        four_octets: bool, internal: bool, extended: bool, both: bool,
    ) {
        let kind = if internal { PeerKind::Internal } else { PeerKind::External };
        let negotiated = Negotiated { extended_message: extended, ..terms(kind, four_octets) };
        let hop = next_hop(family, both);
        let messages: Vec<_> =
            Announcements::new(&attributes, family, hop, prefixes.iter().copied(), &negotiated).unwrap().collect();
        let expected = received(attributes, &negotiated);
        let mut seen = Vec::new();
        for message in &messages {
            prop_assert_eq!(frame_length(message, negotiated.max_message_octets()), Ok(Some(message.len())));
            let Parsed { message, survived } = Message::parse(message, &negotiated).unwrap();
            prop_assert_eq!(survived, []);
            let Message::Update(update) = message else { panic!() };
            let reach = update.reach.unwrap();
            prop_assert_eq!(&reach.attributes, &expected);
            prop_assert_eq!(reach.announced.len(), 1);
            prop_assert_eq!(reach.announced[0].next_hop, hop);
            seen.extend(reach.announced[0].prefixes.iter().copied());
        }
        prop_assert_eq!(seen, prefixes);
        // Packed: only the last message may have room for another prefix.
        let (_, full) = messages.split_last().unwrap();
        prop_assert!(full.iter().all(|message| message.len() + 33 > negotiated.max_message_octets()));
    }

    #[test]
    fn withdrawals_read_back(
        (family, prefixes) in any_family().prop_flat_map(|family| (Just(family), vec(any_prefix(family), 1..3000))),
    ) {
        let negotiated = terms(PeerKind::External, true);
        let mut seen = Vec::new();
        for message in Withdrawals::new(family, prefixes.iter().copied(), &negotiated) {
            let Message::Update(update) = Message::parse(&message, &negotiated).unwrap().message else { panic!() };
            prop_assert!(update.reach.is_none() && update.end_of_rib.is_none());
            seen.extend(update.withdrawn);
        }
        prop_assert_eq!(seen, prefixes);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Recorded messages with octets changed, cut or added: read or refused, never a panic, on any session.
    #[test]
    fn mutated_messages_do_not_panic(
        index: prop::sample::Index,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut: prop::sample::Index,
        keep_length: bool, four_octets: bool, internal: bool,
    ) {
        let mut bytes = CORPUS[index.index(CORPUS.len())].1.clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(1 + cut.index(bytes.len()) + bytes.len() / 2);
        if keep_length && bytes.len() >= 19 {
            let length = (bytes.len() as u16).to_be_bytes();
            bytes[16..18].copy_from_slice(&length);
        }
        let kind = if internal { PeerKind::Internal } else { PeerKind::External };
        let negotiated = terms(kind, four_octets);
        let _ = frame_length(&bytes, negotiated.max_message_octets());
        match Message::parse(&bytes, &negotiated) {
            Ok(parsed) => prop_assert!(parsed.survived.len() <= bytes.len()),
            Err(error) => {
                let _ = error.to_string();
                if let Some(notification) = error.notification() {
                    // What we answer is a message itself.
                    prop_assert!(Message::parse(&notification.to_bytes(), &negotiated).is_ok());
                }
            }
        }
    }
}

#[test]
fn attributes_beyond_a_message_are_refused() {
    let attributes = Attributes { communities: (0..1100).map(Community).collect::<Vec<_>>(), ..Attributes::default() };
    let negotiated = terms(PeerKind::External, true);
    let hop = next_hop(Family::Ipv4Unicast, false);
    let prefix: [Prefix; 1] = ["10.0.0.0/8".parse().unwrap()];
    let refused = Announcements::new(&attributes, Family::Ipv4Unicast, hop, prefix, &negotiated).map(|_| ());
    assert!(matches!(refused, Err(EmitError::TooLong { max: 4096, .. })));
    let longer = Negotiated { extended_message: true, ..negotiated };
    assert_eq!(Announcements::new(&attributes, Family::Ipv4Unicast, hop, prefix, &longer).unwrap().count(), 1);
    let other = Announcements::new(&attributes, Family::Ipv6Unicast, hop, prefix, &longer).map(|_| ());
    assert!(matches!(other, Err(EmitError::NextHop { .. })));
}

#[test]
fn end_of_rib_reads_back() {
    for family in Family::ALL {
        let negotiated = terms(PeerKind::External, true);
        let Message::Update(update) = Message::parse(&emit_end_of_rib(family), &negotiated).unwrap().message else {
            panic!()
        };
        assert_eq!(update.end_of_rib, Some(family));
    }
}

#[test]
fn a_table_takes_few_messages() {
    let prefixes: BTreeSet<Prefix> =
        (0..100_000u32).map(|n| Prefix::new(Ipv4Addr::from(n << 8).into(), 24).unwrap()).collect();
    let negotiated = terms(PeerKind::External, true);
    let mut attributes = Attributes::default();
    attributes.as_path.prepend(Asn::literal(65000), 3);
    let hop = next_hop(Family::Ipv4Unicast, false);
    let messages = Announcements::new(&attributes, Family::Ipv4Unicast, hop, prefixes, &negotiated).unwrap();
    // 4 octets each in the 4045 that attributes leave: 1011 to a message.
    assert_eq!(messages.count(), 99);
}
