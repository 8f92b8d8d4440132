//! One malformed UPDATE for each rule of RFC 7606 and its kin, and the remedy that it must meet.

use bgp_wire::{Message, MessageError, Negotiated, Parsed, PeerKind, Remedy, Update, UpdateError};
use net_types::Family;

/// A session with both families.
fn terms(peer_kind: PeerKind, four_octet_as: bool) -> Negotiated {
    Negotiated { four_octet_as, families: Family::ALL.into_iter().collect(), ..Negotiated::base(peer_kind) }
}

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8]; // 65000
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];
const LOCAL_PREF: &[u8] = &[0x40, 5, 4, 0, 0, 0, 100];
/// 203.0.113.0/24
const NLRI: &[u8] = &[24, 203, 0, 113];
/// 2001:db8::/32 via 2001:db8::1
const MP_REACH: &[u8] =
    &[0x80, 14, 26, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 32, 0x20, 1, 0xd, 0xb8];
/// 2001:db8::/32
const MP_UNREACH: &[u8] = &[0x80, 15, 8, 0, 2, 1, 32, 0x20, 1, 0xd, 0xb8];

fn message(withdrawn: &[u8], attributes: &[&[u8]], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let mut bytes = vec![0xff; 16];
    bytes.extend((23 + withdrawn.len() as u16 + attributes.len() as u16 + nlri.len() as u16).to_be_bytes());
    bytes.push(2);
    bytes.extend((withdrawn.len() as u16).to_be_bytes());
    bytes.extend(withdrawn);
    bytes.extend((attributes.len() as u16).to_be_bytes());
    bytes.extend(attributes);
    bytes.extend(nlri);
    bytes
}

/// What an UPDATE with these attributes beside 203.0.113.0/24 came to: the worst remedy, and the text of each mistake.
fn outcome(message: &[u8], negotiated: &Negotiated) -> (Option<Remedy>, Update, String) {
    match Message::parse(message, negotiated) {
        Ok(Parsed { message: Message::Update(update), survived }) => {
            let text: Vec<String> = survived.iter().map(|survived| survived.error.to_string()).collect();
            (survived.iter().map(|survived| survived.remedy).max(), update, text.join("; "))
        }
        Ok(other) => panic!("{other:?}"),
        Err(MessageError::Update(error)) => (Some(Remedy::ResetSession), Update::default(), error.to_string()),
        Err(other) => panic!("{other:?}"),
    }
}

/// A route with one attribute added or put in the place of the one with its type; `kind` says whose it is.
fn with(kind: PeerKind, attribute: &[u8]) -> (Option<Remedy>, Update, String) {
    let mut attributes = vec![ORIGIN, AS_PATH, NEXT_HOP];
    if kind == PeerKind::Internal {
        attributes.push(LOCAL_PREF);
    }
    let types: Vec<u8> = attributes.iter().map(|attribute| attribute[1]).collect();
    match types.iter().position(|code| *code == attribute[1]) {
        Some(at) => attributes[at] = attribute,
        None => attributes.push(attribute),
    }
    outcome(&message(&[], &attributes, NLRI), &terms(kind, true))
}

#[test]
fn a_good_update_survives_whole() {
    for kind in [PeerKind::Internal, PeerKind::External] {
        let (remedy, update, text) = with(kind, &[0x80, 4, 4, 0, 0, 0, 7]);
        assert_eq!((remedy, text.as_str()), (None, ""));
        let reach = update.reach.unwrap();
        assert_eq!(reach.attributes.med, Some(7));
        assert_eq!(reach.announced[0].prefixes, ["203.0.113.0/24".parse().unwrap()]);
    }
}

#[test]
fn each_malformed_attribute_meets_its_remedy() {
    use PeerKind::{External, Internal};
    use Remedy::{DiscardAttribute as Discard, ResetSession as Reset, TreatAsWithdraw as Withdraw};
    let cases: &[(&str, PeerKind, Remedy, &[u8])] = &[
        ("§3 c: ORIGIN that calls itself optional", External, Withdraw, &[0xc0, 1, 1, 0]),
        ("§3 c: MED that calls itself transitive", External, Withdraw, &[0xc0, 4, 4, 0, 0, 0, 7]),
        ("§3 c: COMMUNITIES that calls itself well-known", External, Withdraw, &[0x40, 8, 4, 0, 0, 0, 7]),
        ("§4: an attribute longer than the list", External, Withdraw, &[0xc0, 8, 200, 0, 0, 0, 7]),
        ("§4: the list ends within a header", External, Withdraw, &[0xc0, 8]),
        ("§4: the list ends within a length of two octets", External, Withdraw, &[0xd0, 8, 0]),
        ("§4: MED without an octet", External, Withdraw, &[0x80, 4, 0]),
        ("§4: NEXT_HOP without an octet", External, Withdraw, &[0x40, 3, 0]),
        ("§7.1: ORIGIN of two octets", External, Withdraw, &[0x40, 1, 2, 0, 0]),
        ("§7.1: ORIGIN of no octet", External, Withdraw, &[0x40, 1, 0]),
        ("§7.1: ORIGIN 3", External, Withdraw, &[0x40, 1, 1, 3]),
        ("§7.2: AS_PATH segment type 5", External, Withdraw, &[0x40, 2, 6, 5, 1, 0, 0, 0xfd, 0xe8]),
        ("§7.2: AS_PATH segment overrun", External, Withdraw, &[0x40, 2, 6, 2, 2, 0, 0, 0xfd, 0xe8]),
        ("§7.2: AS_PATH segment underrun", External, Withdraw, &[0x40, 2, 7, 2, 1, 0, 0, 0xfd, 0xe8, 2]),
        ("§7.2: AS_PATH segment without numbers", External, Withdraw, &[0x40, 2, 2, 2, 0]),
        ("RFC 5065 §5: confederation from outside", External, Withdraw, &[0x40, 2, 6, 3, 1, 0, 0, 0xfd, 0xe8]),
        ("RFC 7607: AS 0 on the path", External, Withdraw, &[0x40, 2, 6, 2, 1, 0, 0, 0, 0]),
        ("§7.3: NEXT_HOP of five octets", External, Withdraw, &[0x40, 3, 5, 192, 0, 2, 1, 0]),
        ("RFC 4271 §6.3: NEXT_HOP 0.0.0.0", External, Withdraw, &[0x40, 3, 4, 0, 0, 0, 0]),
        ("RFC 4271 §6.3: NEXT_HOP 224.0.0.1", External, Withdraw, &[0x40, 3, 4, 224, 0, 0, 1]),
        ("§7.4: MED of three octets", External, Withdraw, &[0x80, 4, 3, 0, 0, 7]),
        ("§7.5: LOCAL_PREF of three octets", Internal, Withdraw, &[0x40, 5, 3, 0, 0, 7]),
        ("§7.5: LOCAL_PREF from outside, good", External, Discard, LOCAL_PREF),
        ("§7.5: LOCAL_PREF from outside, bad", External, Discard, &[0x40, 5, 3, 0, 0, 7]),
        ("§7.6: ATOMIC_AGGREGATE with a value", External, Discard, &[0x40, 6, 1, 0]),
        ("§4: AGGREGATOR without an octet", External, Discard, &[0xc0, 7, 0]),
        ("§7.7: AGGREGATOR of six octets", External, Discard, &[0xc0, 7, 6, 0xfd, 0xe8, 192, 0, 2, 1]),
        ("RFC 7607: AGGREGATOR of AS 0", External, Discard, &[0xc0, 7, 8, 0, 0, 0, 0, 192, 0, 2, 1]),
        ("§7.8: COMMUNITIES of six octets", External, Withdraw, &[0xc0, 8, 6, 0, 0, 0, 0, 0, 0]),
        ("§7.8: COMMUNITIES without any", External, Withdraw, &[0xc0, 8, 0]),
        ("§7.9: ORIGINATOR_ID from outside", External, Discard, &[0x80, 9, 4, 192, 0, 2, 1]),
        ("§7.9: ORIGINATOR_ID of five octets", Internal, Withdraw, &[0x80, 9, 5, 192, 0, 2, 1, 0]),
        ("§7.10: CLUSTER_LIST from outside", External, Discard, &[0x80, 10, 4, 192, 0, 2, 1]),
        ("§4: CLUSTER_LIST without an octet", Internal, Withdraw, &[0x80, 10, 0]),
        ("§7.10: CLUSTER_LIST of five octets", Internal, Withdraw, &[0x80, 10, 5, 192, 0, 2, 1, 0]),
        ("§7.11: MP_REACH_NLRI with a next hop of 15", External, Reset, &[0x80, 14, 5, 0, 2, 1, 15, 0]),
        ("§7.11: MP_REACH_NLRI of three octets", External, Reset, &[0x80, 14, 3, 0, 2, 1]),
        ("§7.12: MP_UNREACH_NLRI of two octets", External, Reset, &[0x80, 15, 2, 0, 2]),
        ("§5.3: MP_UNREACH_NLRI with a /129", External, Reset, &[0x80, 15, 4, 0, 2, 1, 129]),
        ("§7.14: EXTENDED COMMUNITIES of four octets", External, Withdraw, &[0xc0, 16, 4, 0, 2, 0, 0]),
        ("§7.14: EXTENDED COMMUNITIES without any", External, Withdraw, &[0xc0, 16, 0]),
        ("RFC 6793 §4.1: AS4_PATH on a wide session", External, Discard, &[0xc0, 17, 6, 2, 1, 0, 1, 0, 0]),
        ("RFC 6793 §4.1: AS4_AGGREGATOR on one", External, Discard, &[0xc0, 18, 8, 0, 1, 0, 0, 192, 0, 2, 1]),
        (
            "RFC 8092 §5: LARGE_COMMUNITY of 13 octets",
            External,
            Withdraw,
            &[0xc0, 32, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        ("RFC 8092 §5: LARGE_COMMUNITY without any", External, Withdraw, &[0xc0, 32, 0]),
        ("RFC 9234 §5: ONLY_TO_CUSTOMER of three octets", External, Withdraw, &[0xc0, 35, 3, 0, 0, 1]),
        ("RFC 9012 §13: no tunnel", External, Discard, &[0xc0, 23, 0]),
        ("RFC 9012 §13: a tunnel past the end", External, Withdraw, &[0xc0, 23, 5, 0, 8, 0, 2, 4]),
        ("RFC 9012 §13: a sub-TLV past the end", External, Withdraw, &[0xc0, 23, 6, 0, 8, 0, 2, 8, 2]),
        ("RFC 7606 §3 c: TUNNEL_ENCAPSULATION that is not transitive", External, Withdraw, &[0x80, 23, 4, 0, 8, 0, 0]),
        ("RFC 4271 §6.3: unknown well-known attribute", External, Reset, &[0x40, 99, 1, 0]),
        (
            "RFC 4760 §8: routes that were not negotiated",
            External,
            Discard,
            &[0x80, 14, 9, 0, 1, 133, 4, 1, 2, 3, 4, 0],
        ),
        (
            "RFC 4364 §4.3.2: a next hop without a route distinguisher",
            External,
            Reset,
            &[0x80, 14, 9, 0, 1, 128, 4, 1, 2, 3, 4, 0],
        ),
    ];
    for (rule, kind, expected, attribute) in cases {
        let (remedy, update, text) = with(*kind, attribute);
        assert_eq!(remedy, Some(*expected), "{rule}: {text}");
        match expected {
            Remedy::DiscardAttribute => {
                let reach = update.reach.unwrap_or_else(|| panic!("{rule}: the route is kept"));
                let attributes = reach.attributes;
                if *kind == External {
                    assert_eq!(attributes.local_pref, None, "{rule}");
                }
                assert!(attributes.aggregator.is_none() && !attributes.atomic_aggregate, "{rule}");
                assert!(attributes.originator_id.is_none() && attributes.cluster_list.is_empty(), "{rule}");
                assert_eq!(attributes.as_path.to_string(), "65000", "{rule}");
                assert!(update.withdrawn.is_empty());
            }
            Remedy::TreatAsWithdraw => {
                assert_eq!(update.reach, None, "{rule}");
                assert_eq!(update.withdrawn, ["203.0.113.0/24".parse().unwrap()], "{rule}");
            }
            Remedy::ResetSession => {}
        }
    }
}

/// Of the attributes with a length of zero two are well-formed (§4); and attributes whose sections (§7.13 traffic engineering,
/// §7.15 IPv6 extended communities, §7.16 ATTR_SET) concern others are carried unread, so nothing in them is malformed here.
#[test]
fn what_is_empty_or_not_ours_to_read_is_no_error() {
    let (remedy, update, text) = with(PeerKind::Internal, &[0x40, 2, 0]);
    assert_eq!((remedy, text.as_str()), (None, ""), "§4: an AS_PATH without segments");
    assert!(update.reach.unwrap().attributes.as_path.is_empty());
    let (remedy, update, text) = with(PeerKind::Internal, &[0x40, 6, 0]);
    assert_eq!((remedy, text.as_str()), (None, ""), "§4: ATOMIC_AGGREGATE");
    assert!(update.reach.unwrap().attributes.atomic_aggregate);
    for (code, section) in [(25, "§7.15"), (128, "§7.16")] {
        let (remedy, update, _) = with(PeerKind::External, &[0xc0, code, 1, 0]);
        assert_eq!(remedy, None, "{section}");
        assert_eq!(update.reach.unwrap().attributes.unknown[0].code, code, "{section}");
    }
    let (remedy, update, _) = with(PeerKind::External, &[0x80, 24, 1, 0]);
    assert_eq!(
        (remedy, update.reach.unwrap().attributes.unknown.len()),
        (None, 0),
        "§7.13: not transitive, so it ends here"
    );
}

#[test]
fn missing_attributes_cost_the_routes() {
    let full = [ORIGIN, AS_PATH, NEXT_HOP, LOCAL_PREF];
    for missing in 0..full.len() {
        let attributes: Vec<&[u8]> = full.iter().enumerate().filter(|(i, _)| *i != missing).map(|(_, a)| *a).collect();
        let (remedy, update, text) = outcome(&message(&[], &attributes, NLRI), &terms(PeerKind::Internal, true));
        assert_eq!(remedy, Some(Remedy::TreatAsWithdraw), "§3 d: {text}");
        assert_eq!(update.withdrawn.len(), 1);
    }
    // NEXT_HOP belongs to plain NLRI only, LOCAL_PREF to internal peers.
    let (remedy, update, _) =
        outcome(&message(&[], &[MP_REACH, ORIGIN, AS_PATH], &[]), &terms(PeerKind::External, true));
    assert_eq!(remedy, None);
    assert!(update.reach.is_some());
}

#[test]
fn repeated_attributes_are_dropped_but_repeated_routes_are_not() {
    let terms = terms(PeerKind::External, true);
    let again: &[u8] = &[0x40, 1, 1, 2];
    let (remedy, update, _) = outcome(&message(&[], &[ORIGIN, AS_PATH, NEXT_HOP, again], NLRI), &terms);
    assert_eq!(remedy, Some(Remedy::DiscardAttribute), "§3 g");
    assert_eq!(update.reach.unwrap().attributes.origin, bgp_wire::Origin::Igp, "the first one counts");
    for twice in [MP_REACH, MP_UNREACH] {
        let (remedy, _, _) = outcome(&message(&[], &[ORIGIN, AS_PATH, twice, twice], &[]), &terms);
        assert_eq!(remedy, Some(Remedy::ResetSession), "§3 g");
    }
}

#[test]
fn the_strongest_remedy_counts() {
    let bad_origin: &[u8] = &[0x40, 1, 1, 9];
    let bad_aggregate: &[u8] = &[0x40, 6, 1, 0];
    let attributes = [bad_aggregate, bad_origin, AS_PATH, NEXT_HOP];
    let (remedy, update, text) = outcome(&message(&[], &attributes, NLRI), &terms(PeerKind::External, true));
    assert_eq!(remedy, Some(Remedy::TreatAsWithdraw), "§3 h: {text}");
    assert!(text.contains("ATOMIC_AGGREGATE") && text.contains("ORIGIN"), "both are told: {text}");
    assert_eq!(update.withdrawn.len(), 1);
}

#[test]
fn all_routes_of_an_update_are_withdrawn_together() {
    let bad_origin: &[u8] = &[0x40, 1, 1, 9];
    let withdrawn = [24, 198, 51, 100];
    let bytes = message(&withdrawn, &[MP_REACH, bad_origin, AS_PATH, NEXT_HOP], NLRI);
    let (_, update, _) = outcome(&bytes, &terms(PeerKind::External, true));
    let all: Vec<String> = update.withdrawn.iter().map(ToString::to_string).collect();
    assert_eq!(all, ["198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"]);
}

#[test]
fn an_error_without_routes_to_withdraw_ends_the_session() {
    let terms = terms(PeerKind::External, true);
    let bad_origin: &[u8] = &[0x40, 1, 1, 9];
    let bytes = message(&[24, 198, 51, 100], &[bad_origin, AS_PATH], &[]);
    let error = Message::parse(&bytes, &terms).unwrap_err();
    assert!(matches!(error, MessageError::Update(UpdateError::NothingToWithdraw { .. })), "§5.2: {error}");
    let notification = error.notification().unwrap();
    assert_eq!((notification.code().codes(), notification.data()), ((3, 6), bad_origin));
    // An error that only costs an attribute does not.
    let bytes = message(&[24, 198, 51, 100], &[&[0x40, 6, 1, 0]], &[]);
    assert!(Message::parse(&bytes, &terms).is_ok());
    // Nor does wrong flags on MP_UNREACH_NLRI alone: its routes are being withdrawn anyway.
    let mut transitive = MP_UNREACH.to_vec();
    transitive[0] = 0xc0;
    let (remedy, update, _) = outcome(&message(&[], &[&transitive], &[]), &terms);
    assert_eq!(remedy, Some(Remedy::TreatAsWithdraw));
    assert_eq!(update.withdrawn, ["2001:db8::/32".parse().unwrap()]);
}

#[test]
fn prefixes_that_cannot_be_read_end_the_session() {
    let terms = terms(PeerKind::External, true);
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP];
    for (withdrawn, nlri) in [(&[][..], &[33, 1, 2, 3, 4, 5][..]), (&[], &[24, 203, 0]), (&[24, 1], NLRI), (&[40], &[])]
    {
        let error = Message::parse(&message(withdrawn, &attributes, nlri), &terms).unwrap_err();
        assert_eq!(error.notification().unwrap().code().codes(), (3, 10), "§5.3: {error}");
    }
}

#[test]
fn lengths_that_do_not_add_up_end_the_session() {
    let terms = terms(PeerKind::External, true);
    let good = message(&[], &[ORIGIN, AS_PATH, NEXT_HOP], NLRI);
    for (at, octets) in [(19, [0xff, 0xff]), (21, [0xff, 0xff]), (21, [0, 200])] {
        let mut bytes = good.clone();
        bytes[at..at + 2].copy_from_slice(&octets);
        let error = Message::parse(&bytes, &terms).unwrap_err();
        assert_eq!(error.notification().unwrap().code().codes(), (3, 1), "{error}");
    }
}

#[test]
fn a_path_that_does_not_start_with_the_peer_is_refused_where_that_is_enforced() {
    let bytes = message(&[], &[ORIGIN, AS_PATH, NEXT_HOP], NLRI);
    for (expected, remedy) in [(65000, None), (65001, Some(Remedy::TreatAsWithdraw))] {
        let enforce_first_as = Some(net_types::Asn::try_from(expected).unwrap());
        let terms = Negotiated { enforce_first_as, ..terms(PeerKind::External, true) };
        assert_eq!(outcome(&bytes, &terms).0, remedy);
    }
}

#[test]
fn unknown_optional_attributes_are_carried_or_dropped() {
    let (remedy, update, _) = with(PeerKind::External, &[0xc0, 99, 2, 1, 2]);
    assert_eq!(remedy, None);
    let unknown = &update.reach.unwrap().attributes.unknown[0];
    assert_eq!((unknown.code, &unknown.value[..]), (99, &[1, 2][..]));
    assert!(unknown.flags.is_partial(), "RFC 4271 §5: whoever passes it on says that it is partial");
    let (remedy, update, _) = with(PeerKind::External, &[0x80, 99, 2, 1, 2]);
    assert_eq!(remedy, None);
    assert!(update.reach.unwrap().attributes.unknown.is_empty(), "non-transitive ones are dropped quietly");
}
