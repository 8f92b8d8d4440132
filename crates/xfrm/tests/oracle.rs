//! Another implementation of the messages as judge: what we write means the same there, and what it writes means the same here.

use std::net::{IpAddr, SocketAddr};

use net_types::{Prefix, Spi};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_xfrm::{
    Address, Alg, AlgAead, AlgAuth, EncapTmpl, ExpireMessage, MappingMessage, ReplayEsn, UserExpire, UserMapping,
    UserSaId, UserSaInfo, XfrmAttrs, XfrmMessage, state,
};
use proptest::{collection::vec, prelude::*};
use xfrm::{
    Action, Algorithms, Direction, Encapsulation, Event, Lifetimes, Message, Messages, Mode, Moved, Offload,
    OuterHeader, Policy, PolicyDirection, PolicyInfo, Ports, Replay, Sa, SaId, SaInfo, Selector, Template,
};

const AEAD: &str = "rfc4106(gcm(aes))";

fn theirs(message: &Message) -> XfrmMessage {
    let parsed = NetlinkMessage::<XfrmMessage>::deserialize(message.as_bytes()).expect("their parser reads it");
    match parsed.payload {
        NetlinkPayload::InnerMessage(message) => message,
        other => panic!("{other:?}"),
    }
}

fn attributes(message: &Message) -> (UserSaInfo, Vec<XfrmAttrs>) {
    match theirs(message) {
        XfrmMessage::AddSa(added) | XfrmMessage::UpdateSa(added) => (added.user_sa_info, added.nlas),
        other => panic!("{other:?}"),
    }
}

/// One of their messages as ours would be received.
fn octets(message: XfrmMessage) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.finalize();
    let mut out = vec![0; message.buffer_len()];
    message.serialize(&mut out);
    out
}

fn name(text: &str) -> [u8; 64] {
    let mut out = [0; 64];
    out[..text.len()].copy_from_slice(text.as_bytes());
    out
}

fn address(of: IpAddr) -> Address {
    let mut addr = [0; 16];
    match of {
        IpAddr::V4(v4) => addr[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => addr = v6.octets(),
    }
    Address { addr }
}

fn id(destination: &str, spi: u32) -> SaId {
    SaId { destination: destination.parse().unwrap(), spi: Spi::try_from(spi).unwrap() }
}

fn sa<'k>(direction: Direction, algorithms: Algorithms<'k>) -> Sa<'k> {
    Sa {
        id: id("198.51.100.6", 0xc0ff_ee01),
        source: "198.51.100.2".parse().unwrap(),
        direction,
        mode: Mode::Tunnel,
        reqid: 9,
        if_id: 0x4846_0001,
        algorithms,
        esn: true,
        replay_window: 4096,
        replay: Replay::default(),
        encapsulation: Some(Encapsulation { source_port: 4500, destination_port: 61_000 }),
        output_mark: Some(0x4846_0002),
        lifetimes: Lifetimes { soft_octets: Some(1 << 40), hard_packets: Some(77), ..Lifetimes::default() },
        outer: OuterHeader::default(),
        offload: Some(Offload { ifindex: 5 }),
        directed: true,
    }
}

fn gcm(key: &[u8]) -> Algorithms<'_> {
    Algorithms::Aead { name: AEAD, key, icv_bits: 128 }
}

#[test]
fn an_outbound_association_means_the_same() {
    let key: Vec<u8> = (0..36).collect();
    let (info, nlas) = attributes(&sa(Direction::Outbound, gcm(&key)).add());
    assert_eq!((info.id.spi, info.id.proto, info.family, info.mode, info.reqid), (0xc0ff_ee01, 50, 2, 1, 9));
    assert_eq!(info.id.daddr, address("198.51.100.6".parse().unwrap()));
    assert_eq!(info.saddr, address("198.51.100.2".parse().unwrap()));
    assert_eq!(info.flags, 128 | 32, "ESN, and both families inside");
    let limits = info.lifetime_cfg;
    assert_eq!((limits.soft_byte_limit, limits.hard_byte_limit), (1 << 40, u64::MAX));
    assert_eq!((limits.soft_packet_limit, limits.hard_packet_limit), (u64::MAX, 77));
    let expected = [
        XfrmAttrs::EncryptionAlgAead(AlgAead {
            alg_name: name(AEAD),
            alg_key_len: 288,
            alg_icv_len: 128,
            alg_key: key,
        }),
        XfrmAttrs::EncapsulationTemplate(EncapTmpl {
            encap_type: 2,
            encap_sport: 4500,
            encap_dport: 61_000,
            encap_oa: Address::default(),
        }),
        XfrmAttrs::IfId(0x4846_0001),
        XfrmAttrs::ReplayStateEsn(ReplayEsn::default()),
        XfrmAttrs::MarkVal(0x4846_0002),
        XfrmAttrs::MarkMask(u32::MAX),
    ];
    assert_eq!(nlas[..6], expected);
    let XfrmAttrs::OffloadDevice(offload) = &nlas[6] else { panic!("{:?}", nlas[6]) };
    assert_eq!((offload.ifindex, offload.flags), (5, 0));
    assert!(
        matches!(&nlas[7..], [XfrmAttrs::Other(direction)] if direction == &netlink_packet_core::DefaultNla::new(33, vec![2]))
    );
}

#[test]
fn an_association_in_transport_mode_has_one_family() {
    let (info, _) = attributes(&Sa { mode: Mode::Transport, ..sa(Direction::Outbound, gcm(&[0; 36])) }.add());
    assert_eq!((info.mode, info.flags), (0, 128), "ESN alone");
    // The kernel tells of it under the type of a new one, with the selector's family filled in.
    let told = octets(XfrmMessage::AddSa(state::ModifyMessage { user_sa_info: info, nlas: Vec::new() }));
    let seen = SaInfo::parse(Messages::new(&told).next().unwrap().unwrap()).unwrap();
    assert_eq!((seen.mode, seen.reqid), (Mode::Transport, 9));
}

#[test]
fn an_inbound_association_means_the_same() {
    let (cipher_key, auth_key) = ([1; 32], [2; 48]);
    let algorithms = Algorithms::CipherAndAuth {
        cipher: "cbc(aes)",
        cipher_key: &cipher_key,
        auth: "hmac(sha384)",
        auth_key: &auth_key,
        icv_bits: 192,
    };
    let outer = OuterHeader { copy_df: false, copy_dscp: false, restore_dscp: true, ecn: false };
    let sa = Sa { outer, esn: false, directed: false, offload: None, ..sa(Direction::Inbound, algorithms) };
    let (info, nlas) = attributes(&sa.add());
    assert_eq!(info.flags, 1 | 2 | 32);
    let replay = ReplayEsn { bmp_len: 128, replay_window: 4096, bmp: vec![0; 128], ..ReplayEsn::default() };
    let expected = [
        XfrmAttrs::AuthenticationAlgTrunc(AlgAuth {
            alg_name: name("hmac(sha384)"),
            alg_key_len: 384,
            alg_trunc_len: 192,
            alg_key: auth_key.to_vec(),
        }),
        XfrmAttrs::EncryptionAlg(Alg { alg_name: name("cbc(aes)"), alg_key_len: 256, alg_key: cipher_key.to_vec() }),
        XfrmAttrs::EncapsulationTemplate(EncapTmpl {
            encap_type: 2,
            encap_sport: 4500,
            encap_dport: 61_000,
            encap_oa: Address::default(),
        }),
        XfrmAttrs::MappingTimeThreshold(1),
        XfrmAttrs::IfId(0x4846_0001),
        XfrmAttrs::ReplayStateEsn(replay),
    ];
    assert_eq!(nlas, expected, "and neither a mark nor a direction");
}

#[test]
fn old_kernels_want_a_window_for_what_is_sent_with_extended_numbers() {
    let key = [0; 20];
    let window = |directed, esn, sent| {
        let replay = Replay { sent, received: 0 };
        let (_, nlas) = attributes(&Sa { directed, esn, replay, ..sa(Direction::Outbound, gcm(&key)) }.add());
        nlas.into_iter().find_map(|nla| match nla {
            XfrmAttrs::ReplayStateEsn(replay) => {
                Some((replay.replay_window, replay.bmp_len, replay.oseq_hi, replay.oseq))
            }
            _ => None,
        })
    };
    assert_eq!(window(true, true, 0), Some((0, 0, 0, 0)));
    assert_eq!(window(false, true, 0), Some((1, 1, 0, 0)));
    for directed in [false, true] {
        assert_eq!(window(directed, false, 0), Some((0, 0, 0, 0)), "told of in the form that is read");
    }
    assert_eq!(window(true, true, 5 << 32 | 7), Some((0, 0, 5, 7)));
}

#[test]
fn flags_are_those_that_mean_something_in_the_direction() {
    let outer = OuterHeader { copy_df: false, copy_dscp: true, restore_dscp: true, ecn: false };
    for (direction, expected) in [(Direction::Inbound, 2), (Direction::Outbound, 4)] {
        let (info, _) = attributes(&Sa { outer, ..sa(direction, gcm(&[0; 20])) }.add());
        assert_eq!(info.flags, 128 | 32 | 1 | expected, "{direction:?}");
    }
}

#[test]
fn requests_that_name_an_association_mean_the_same() {
    let id = id("2001:db8::6", 0x1000);
    let expected = UserSaId { daddr: address(id.destination), spi: 0x1000, family: 10, proto: 50 };
    assert!(matches!(theirs(&xfrm::delete_sa(id)), XfrmMessage::DeleteSa(message) if message.user_sa_id == expected));
    assert!(matches!(theirs(&xfrm::get_sa(id)), XfrmMessage::GetSa(message) if message.user_sa_id == expected));
    assert!(matches!(theirs(&xfrm::flush_sas()), XfrmMessage::FlushSa(message) if message.protocol == 50));
}

/// An answer about an association with extended numbers, as the kernel would give it.
fn answer(received: Replay) -> Vec<u8> {
    answer_with(128 | 32, received)
}

fn answer_with(flags: u8, received: Replay) -> Vec<u8> {
    let mut info = UserSaInfo { family: 2, mode: 1, flags, reqid: 9, ..UserSaInfo::default() };
    info.id.daddr = address("198.51.100.6".parse().unwrap());
    info.id.spi = 0xc0ff_ee01;
    info.id.proto = 50;
    info.saddr = address("198.51.100.2".parse().unwrap());
    (info.lifetime_cur.bytes, info.lifetime_cur.packets) = (3000, 3);
    (info.stats.replay_window, info.stats.replay, info.stats.integrity_failed) = (4, 5, 6);
    let replay = ReplayEsn {
        bmp_len: 2,
        replay_window: if received.received > 0 { 64 } else { 0 },
        oseq: (received.sent & 0xffff_ffff) as u32,
        oseq_hi: (received.sent >> 32) as u32,
        seq: (received.received & 0xffff_ffff) as u32,
        seq_hi: (received.received >> 32) as u32,
        bmp: vec![0xf0f0, 1],
    };
    let encapsulation = EncapTmpl { encap_type: 2, encap_sport: 4500, encap_dport: 4501, encap_oa: Address::default() };
    let aead = AlgAead { alg_name: name(AEAD), alg_key_len: 160, alg_icv_len: 128, alg_key: vec![7; 20] };
    octets(XfrmMessage::AddSa(state::ModifyMessage {
        user_sa_info: info,
        nlas: vec![
            XfrmAttrs::EncryptionAlgAead(aead),
            XfrmAttrs::EncapsulationTemplate(encapsulation),
            XfrmAttrs::ReplayStateEsn(replay),
            XfrmAttrs::LastUsed(1_800_000_000),
            XfrmAttrs::MarkVal(3),
            XfrmAttrs::IfId(8),
        ],
    }))
}

#[test]
fn what_the_kernel_tells_of_an_association_is_read() {
    let replay = Replay { sent: 0, received: 3 << 32 | 9 };
    let octets = answer(replay);
    let received = Messages::new(&octets).next().unwrap().unwrap();
    let info = SaInfo::parse(received).unwrap();
    assert_eq!(info.id, id("198.51.100.6", 0xc0ff_ee01));
    assert_eq!((info.reqid, info.if_id, info.esn, info.output_mark), (9, 8, true, Some(3)));
    assert_eq!(info.replay, replay);
    assert_eq!(info.encapsulation, Some(Encapsulation { source_port: 4500, destination_port: 4501 }));
    let current = info.current;
    assert_eq!((current.octets, current.packets, current.last_used), (3000, 3, Some(1_800_000_000)));
    assert_eq!((current.outside_window, current.replayed, current.forged), (4, 5, 6));
}

fn moved() -> Moved {
    Moved {
        source: "2001:db8::2".parse().unwrap(),
        destination: "2001:db8::6".parse().unwrap(),
        encapsulation: Some(Encapsulation { source_port: 4500, destination_port: 1024 }),
        output_mark: Some(4),
        skip: 4096,
    }
}

#[test]
fn numbers_of_32_bits_do_not_begin_again_when_an_association_moves() {
    let end = u64::from(u32::MAX);
    for (sent, expected) in [(9, 9 + 4096), (end - 4096, end), (end - 1, end), (end, end)] {
        let octets = answer_with(32, Replay { sent, received: 0 });
        let message = moved().add(Messages::new(&octets).next().unwrap().unwrap()).unwrap();
        let (_, nlas) = attributes(&message);
        let numbers = nlas.iter().find_map(|nla| match nla {
            XfrmAttrs::ReplayStateEsn(replay) => Some((replay.oseq_hi, u64::from(replay.oseq))),
            _ => None,
        });
        assert_eq!(numbers, Some((0, expected)), "{sent} were sent");
    }
}

#[test]
fn what_does_not_say_how_far_it_has_counted_does_not_move() {
    let info = UserSaInfo { family: 2, mode: 1, flags: 32, ..UserSaInfo::default() };
    let octets =
        octets(XfrmMessage::AddSa(state::ModifyMessage { user_sa_info: info, nlas: vec![XfrmAttrs::IfId(8)] }));
    let received = Messages::new(&octets).next().unwrap().unwrap();
    assert!(moved().add(received).is_none() && moved().update(received).is_none());
}

#[test]
fn a_moved_association_keeps_its_keys_and_skips_numbers() {
    let octets = answer(Replay { sent: u64::from(u32::MAX), received: 0 });
    let received = Messages::new(&octets).next().unwrap().unwrap();
    let moved = moved();
    let message = moved.add(received).unwrap();
    assert!(matches!(theirs(&message), XfrmMessage::AddSa(_)));
    assert!(matches!(theirs(&moved.update(received).unwrap()), XfrmMessage::UpdateSa(_)));
    let (info, nlas) = attributes(&message);
    assert_eq!((info.family, info.id.daddr, info.saddr), (10, address(moved.destination), address(moved.source)));
    assert_eq!((info.lifetime_cur.packets, info.stats.replay), (0, 0));
    assert!(nlas.contains(&XfrmAttrs::MarkVal(4)) && nlas.contains(&XfrmAttrs::IfId(8)));
    assert!(nlas.iter().any(|nla| matches!(nla, XfrmAttrs::EncryptionAlgAead(aead) if aead.alg_key == [7; 20])));
    assert!(nlas.iter().any(|nla| matches!(nla, XfrmAttrs::EncapsulationTemplate(encap) if encap.encap_dport == 1024)));
    let replay = nlas.iter().find_map(|nla| match nla {
        XfrmAttrs::ReplayStateEsn(replay) => Some((replay.oseq_hi, replay.oseq, replay.bmp.clone())),
        _ => None,
    });
    assert_eq!(replay, Some((1, 4095, vec![0xf0f0, 1])));
}

#[test]
fn events_are_read() {
    let mut state = UserSaInfo { family: 10, mode: 1, reqid: 3, ..UserSaInfo::default() };
    state.id.daddr = address("2001:db8::1".parse().unwrap());
    (state.id.spi, state.id.proto) = (0x2000, 50);
    for hard in [0, 1] {
        let octets = octets(XfrmMessage::Expire(ExpireMessage { expire: UserExpire { state, hard } }));
        let event = Event::parse(Messages::new(&octets).next().unwrap().unwrap());
        let Some(Event::Expired { sa, hard: seen }) = event else { panic!("{event:?}") };
        assert_eq!((sa.id, sa.reqid, seen), (id("2001:db8::1", 0x2000), 3, hard == 1));
    }
    let map = UserMapping {
        id: UserSaId { daddr: address("198.51.100.2".parse().unwrap()), spi: 0x3000, family: 2, proto: 50 },
        reqid: 4,
        old_saddr: address("203.0.113.1".parse().unwrap()),
        new_saddr: address("203.0.113.9".parse().unwrap()),
        old_sport: 4500,
        new_sport: 5000,
    };
    let octets = octets(XfrmMessage::Mapping(MappingMessage { map }));
    let event = Event::parse(Messages::new(&octets).next().unwrap().unwrap());
    let from: SocketAddr = "203.0.113.9:5000".parse().unwrap();
    assert_eq!(event, Some(Event::Moved { id: id("198.51.100.2", 0x3000), reqid: 4, from }));
}

prop_compose! {
    fn any_prefix(v6: bool)(octets: [u8; 16], bits in 0..=128u8) -> Prefix {
        let address: IpAddr = if v6 { octets.into() } else { <[u8; 4]>::try_from(&octets[..4]).unwrap().into() };
        Prefix::new(address, if v6 { bits } else { bits % 33 }).unwrap()
    }
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let ports = || {
        (any::<u16>(), 0..=16u32).prop_map(|(port, bits)| {
            let mask = u16::MAX.checked_shl(bits).unwrap_or(0);
            Ports { first: port & mask, mask }
        })
    };
    let selector = any::<bool>().prop_flat_map(move |v6| {
        (any_prefix(v6), any_prefix(v6), any::<u8>(), ports(), ports()).prop_map(
            |(source, destination, protocol, source_ports, destination_ports)| Selector {
                source,
                destination,
                protocol,
                source_ports,
                destination_ports,
            },
        )
    });
    let path = prop_oneof![
        Just(None),
        Just(Some(("198.51.100.2".parse().unwrap(), "198.51.100.6".parse().unwrap()))),
        Just(Some(("2001:db8::2".parse().unwrap(), "2001:db8::6".parse().unwrap()))),
    ];
    let spi = proptest::option::of((256..=u32::MAX).prop_map(|spi| Spi::try_from(spi).unwrap()));
    let action = prop_oneof![
        Just(Action::Block),
        (path, spi, any::<u32>(), any::<bool>()).prop_map(|(path, spi, reqid, transport)| {
            let mode = if transport { Mode::Transport } else { Mode::Tunnel };
            Action::Protect(Template { path, spi, reqid, mode })
        }),
    ];
    let direction = prop_oneof![Just(PolicyDirection::In), Just(PolicyDirection::Out), Just(PolicyDirection::Forward)];
    (selector, direction, any::<u32>(), any::<u32>(), action).prop_map(
        |(selector, direction, if_id, priority, action)| Policy { selector, direction, if_id, priority, action },
    )
}

proptest! {
    #[test]
    fn policies_mean_the_same_both_ways(policy in any_policy()) {
        let XfrmMessage::UpdatePolicy(mut read) = theirs(&policy.replace()) else { panic!("no policy") };
        let info = &read.user_policy_info;
        prop_assert_eq!((info.direction, info.priority), (policy.direction as u8, policy.priority));
        prop_assert_eq!(info.action, u8::from(policy.action == Action::Block));
        prop_assert_eq!(info.selector.daddr, address(policy.selector.destination.address()));
        prop_assert_eq!(info.selector.prefixlen_s, policy.selector.source.bits());
        prop_assert_eq!(info.selector.sport, policy.selector.source_ports.first);
        prop_assert_eq!(info.selector.dport_mask, policy.selector.destination_ports.mask);
        if let Action::Protect(template) = policy.action {
            let [XfrmAttrs::Template(templates), XfrmAttrs::IfId(_)] = &read.nlas[..] else { panic!("{:?}", read.nlas) };
            prop_assert_eq!(templates[0].id.spi, template.spi.map_or(0, Spi::get));
            let mode = u8::from(template.mode == Mode::Tunnel);
            prop_assert_eq!((templates[0].mode, templates[0].reqid, templates[0].optional), (mode, template.reqid, 0));
        }
        // The kernel repeats a policy under the type of a new one; the order of attributes is its own.
        read.nlas.reverse();
        let octets = octets(XfrmMessage::AddPolicy(read));
        let seen = PolicyInfo::parse(Messages::new(&octets).next().unwrap().unwrap());
        prop_assert_eq!(seen, Some(PolicyInfo(policy)));
        let XfrmMessage::DeletePolicy(deleted) =
            theirs(&Policy::delete(&policy.selector, policy.direction, policy.if_id)) else { panic!("no deletion") };
        prop_assert_eq!(deleted.user_policy_id.direction, policy.direction as u8);
        prop_assert_eq!(deleted.nlas, [XfrmAttrs::IfId(policy.if_id)]);
    }

    #[test]
    fn nothing_that_is_read_panics(kind in 0x10..0x28u16, body in vec(any::<u8>(), 0..5000)) {
        let mut octets = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.extend([0; 10]);
        octets.extend(&body);
        for received in Messages::new(&octets).flatten() {
            let (_sa, _policy, _event) = (SaInfo::parse(received), PolicyInfo::parse(received), Event::parse(received));
            let moved = Moved {
                source: "::1".parse().unwrap(),
                destination: "::1".parse().unwrap(),
                encapsulation: None,
                output_mark: None,
                skip: 1,
            };
            let _message = moved.add(received);
        }
    }
}
