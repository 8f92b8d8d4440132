//! Classes of flaws that IKE daemons have had, a test each: what a peer may send must neither end the daemon, nor be
//! believed, nor be kept without bound.

#[path = "world/puppet.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod puppet;
mod world;

use ike_core::{EngineConfig, Input, Path};
use ike_wire::{
    Delete, ExchangeType, Flags, Header, IkeSpi, KeyExchange, Message, Notify, NotifyType, Payload, PayloadType,
    ProtocolId,
};
use puppet::Stage;
use simnet::Profile;
use world::{World, millis, secs, tunnel};

fn authenticated() -> Stage {
    let mut stage = Stage::new(9);
    assert!(stage.call());
    let payloads = stage.auth_payloads(true);
    stage.say(ExchangeType::IkeAuth, false, 0, &payloads, 1200);
    assert!(stage.up && stage.installed.len() == 1);
    stage
}

/// Still the tunnel that it was, and it still answers.
fn unharmed(stage: &mut Stage, what: &str) {
    assert!(stage.up && stage.installed.len() == 1, "{what}: the tunnel is as it was");
    stage.say(ExchangeType::Informational, false, 0, &[], 1200);
    assert_eq!(stage.last.len(), 1, "{what}: a question is answered");
}

fn notify(kind: NotifyType, data: &[u8]) -> Payload {
    Payload::Notify(Notify::new(kind, data))
}

/// Zero payloads, or all but one of those that an exchange needs, in every exchange and state.
#[test]
fn missing_payloads() {
    for missing in 0..=5 {
        let mut stage = Stage::new(9);
        assert!(stage.call());
        let mut payloads = stage.auth_payloads(true);
        match missing {
            5 => payloads.clear(),
            at => drop(payloads.remove(at)),
        }
        stage.say(ExchangeType::IkeAuth, false, 0, &payloads, 1200);
        // Without IDi, AUTH or anything: refused. Without SA or a selector: an IKE SA, and no pair.
        assert!(stage.installed.is_empty(), "missing {missing}");
    }
    let mut stage = authenticated();
    let whole = [2, 0, 7, 8].map(|kind| stage.payload(kind, &[]));
    for missing in 0..whole.len() {
        let mut payloads = whole.to_vec();
        payloads.remove(missing);
        stage.say(ExchangeType::CreateChildSa, false, 0, &payloads, 1200);
        unharmed(&mut stage, "a CREATE_CHILD_SA without something");
    }
    stage.say(ExchangeType::CreateChildSa, false, 0, &[], 1200);
    unharmed(&mut stage, "an empty CREATE_CHILD_SA");
}

/// A rekey of the IKE SA, of children, deletes and anything else before IKE_AUTH.
#[test]
fn anything_on_an_sa_that_is_not_established() {
    for kind in 0..24 {
        for exchange in [ExchangeType::CreateChildSa, ExchangeType::Informational, ExchangeType::IkeFollowupKe] {
            let mut stage = Stage::new(9);
            assert!(stage.call());
            let payloads = [3, 0, 4, kind].map(|kind| stage.payload(kind, &[1, 2, 3, 4]));
            stage.say(exchange, false, 0, &payloads, 1200);
            assert!(stage.last.is_empty(), "{exchange} with payload {kind} is not answered");
            // And its own IKE_AUTH still goes through: nothing was used up.
            let (_, next) = stage.place();
            assert_eq!(next, 2);
            assert!(!stage.up && stage.installed.is_empty());
        }
    }
}

/// Public values of zero, too short, too long, of a group that was not chosen.
#[test]
fn key_shares_out_of_range() {
    let shares = [(31, vec![0; 32]), (31, vec![]), (31, vec![1; 31]), (31, vec![1; 33]), (31, vec![0xff; 4000])];
    let points = [(19, vec![0; 64]), (19, vec![0xff; 64]), (14, vec![0; 256]), (0, vec![]), (65_535, vec![1; 32])];
    let mut stage = authenticated();
    for (group, public) in shares.into_iter().chain(points) {
        let ke = Payload::Ke(KeyExchange { group: group.into(), public });
        let child: Vec<_> = [1, 0].map(|kind| stage.payload(kind, &[])).into_iter().chain([ke.clone()]).collect();
        let child: Vec<_> = child.into_iter().chain([7, 8].map(|kind| stage.payload(kind, &[]))).collect();
        stage.say(ExchangeType::CreateChildSa, false, 0, &child, 1200);
        unharmed(&mut stage, "a child with such a share");
        let ike: Vec<_> = [3, 0].map(|kind| stage.payload(kind, &[])).into_iter().chain([ke]).collect();
        stage.say(ExchangeType::CreateChildSa, false, 0, &ike, 1200);
        unharmed(&mut stage, "a rekey with such a share");
    }
}

/// Numbers of fragments that cannot be: zero, past the total, a total of zero.
#[test]
fn impossible_fragments() {
    let mut stage = authenticated();
    let (spis, message_id) = stage.place();
    for (number, total) in [(0u16, 0u16), (0, 1), (1, 0), (2, 1), (u16::MAX, 1), (u16::MAX, u16::MAX), (1, u16::MAX)] {
        let flags = Flags { initiator: true, ..Flags::default() };
        let (initiator_spi, responder_spi) = (spis.0, Some(spis.1));
        let header = Header { initiator_spi, responder_spi, exchange: ExchangeType::Informational, flags, message_id };
        let body = [&number.to_be_bytes()[..], &total.to_be_bytes(), &[7; 60]].concat();
        let noise = Payload::Unknown { kind: PayloadType::Other(200), critical: false, body };
        let mut bytes = Message::clear(header, vec![noise]).emit().unwrap();
        bytes[16] = 53; // SKF
        stage.datagram(bytes);
        assert!(stage.last.is_empty());
    }
    unharmed(&mut stage, "impossible fragments");
}

/// Authentic fragments that never become a message: totals that change, pieces twice, pieces missing, for as long as the
/// peer likes. Then a message in fragments like any other.
#[test]
fn fragments_that_are_never_a_message() {
    let mut stage = authenticated();
    let long: Vec<_> = (0..40).map(|_| stage.payload(17, &[0xc0; 63])).collect();
    for round in 0..300 {
        let limit = 100 + round % 50;
        stage.say_pieces(&long, limit, false, |number| number != 3);
        stage.say_pieces(&long, limit, false, |number| number == 2);
        assert!(stage.last.is_empty(), "round {round}: nothing is complete");
    }
    // The largest total so far wins, and what is complete under it is a message.
    stage.say_pieces(&long, 92, true, |_| true);
    assert_eq!(stage.last.len(), 1, "the whole message is answered");
    unharmed(&mut stage, "fragments");
}

/// Datagrams as large as UDP allows.
#[test]
fn oversized_datagrams() {
    let mut stage = authenticated();
    let (spis, message_id) = stage.place();
    let flags = Flags { initiator: true, ..Flags::default() };
    for (responder_spi, exchange) in [
        (Some(spis.1), ExchangeType::Informational),
        (None, ExchangeType::IkeSaInit),
        (IkeSpi::new(7), ExchangeType::IkeAuth),
    ] {
        let header = Header { initiator_spi: spis.0, responder_spi, exchange, flags, message_id };
        let huge = Payload::Unknown { kind: PayloadType::Other(200), critical: false, body: vec![0; 65_000] };
        let mut bytes = Message::clear(header, vec![huge]).emit().unwrap();
        stage.datagram(bytes.clone());
        bytes[16] = 46;
        stage.datagram(bytes);
    }
    // Sealed by the peer itself, in one datagram.
    let many: Vec<_> = (0..60).map(|_| stage.payload(17, &[0xc0; 1000])).collect();
    stage.say(ExchangeType::Informational, false, 0, &many, usize::MAX);
    unharmed(&mut stage, "large datagrams");
}

#[test]
fn unknown_critical_payloads() {
    let mut stage = authenticated();
    let critical = stage.payload(20, &[1, 2, 3]);
    for exchange in [ExchangeType::Informational, ExchangeType::CreateChildSa] {
        stage.say(exchange, false, 0, &[critical.clone(), stage_delete()], 1200);
        unharmed(&mut stage, "RFC 7296 §2.5: the message is not acted upon");
    }
    let mut stage = Stage::new(9);
    assert!(stage.call());
    let mut payloads = stage.auth_payloads(true);
    payloads.insert(0, critical);
    stage.say(ExchangeType::IkeAuth, false, 0, &payloads, 1200);
    assert!(!stage.up && stage.installed.is_empty());
}

fn stage_delete() -> Payload {
    Payload::Delete(Delete::Ike)
}

/// Deletes of SPIs that are not the peer's, of other protocols, very many at once.
#[test]
fn deletes_of_what_is_not_theirs() {
    let mut stage = authenticated();
    for protocol in [ProtocolId::Esp, ProtocolId::Ah] {
        for spis in [vec![], vec![0; 1000], (1..5000).collect(), vec![u32::MAX]] {
            stage.say(
                ExchangeType::Informational,
                false,
                0,
                &[Payload::Delete(Delete::Child { protocol, spis })],
                1200,
            );
            unharmed(&mut stage, "deletes of foreign SPIs");
        }
    }
    // Our own inbound SPI is not the peer's to name.
    let ours = stage.installed.iter().next().unwrap().get();
    let delete = Delete::Child { protocol: ProtocolId::Esp, spis: vec![ours] };
    stage.say(ExchangeType::Informational, false, 0, &[Payload::Delete(delete)], 1200);
    unharmed(&mut stage, "a delete of our inbound SPI");
}

/// Notifies about addresses, tokens and lifetimes of wrong lengths, and from a side that may not send them.
#[test]
fn notifies_of_extensions_with_nonsense_in_them() {
    for data in [&[][..], &[0], &[0; 3], &[255; 4], &[0; 16], &[1; 65], &[9; 300]] {
        let mut stage = authenticated();
        for kind in [16_396, 16_397, 16_398, 16_399, 16_401, 16_402, 16_403, 16_419, 16_384, 16_385] {
            stage.say(ExchangeType::Informational, false, 0, &[notify(NotifyType::from(kind), data)], 1200);
            unharmed(&mut stage, "a notify");
        }
        // UPDATE_SA_ADDRESSES without mobility agreed on: RFC 4555 §3.1 forbids it, and nothing follows from it.
        stage.say(ExchangeType::Informational, false, 0, &[notify(NotifyType::UpdateSaAddresses, data)], 1200);
        unharmed(&mut stage, "UPDATE_SA_ADDRESSES");
    }
}

/// A flood of calls from everywhere: so many half-open SAs and not one more, whatever comes; and no answer is larger than
/// its question.
#[test]
fn a_flood_of_calls_is_bounded_and_does_not_amplify() {
    let settings = EngineConfig { cookies_from: 32, half_open_max: 200, ..EngineConfig::default() };
    let mut world = World::with_settings(1, Profile::default().delay(millis(10)), settings);
    world.start(|_, _| {});
    world.expect("up", secs(5), World::converged);
    world.input(0, Input::Terminate(tunnel()));
    world.run(secs(10));
    let (path, first) = world.nodes[1].heard.first().cloned().unwrap();
    let now = world.net.now();
    let (mut asked, mut answered) = (0, 0);
    for n in 0..20_000u32 {
        let mut bytes = first.to_vec();
        bytes[..4].copy_from_slice(&(n + 1).to_be_bytes());
        asked += bytes.len();
        let remote = std::net::SocketAddr::from(([192, 0, 2, 1], 1024 + (n % 60_000) as u16));
        let path = Path { remote, ..path.clone() };
        for output in world.nodes[1].ike.handle_input(now, Input::Datagram { path, bytes: bytes.into() }) {
            if let ike_core::Output::Send { bytes, .. } = output {
                answered += bytes.len();
            }
        }
        assert!(world.nodes[1].ike.census().half_open <= 32, "beyond the mark nothing is kept without a cookie");
    }
    assert!(answered <= asked, "{answered} octets for {asked}");
    world.run(secs(20));
    assert_eq!(world.nodes[1].ike.census(), ike_core::Census::default(), "nothing is left of it");
}

/// Failures of authentication do not add up to anything that stays.
#[test]
fn attempts_without_proof_leave_nothing() {
    let mut stage = Stage::new(9);
    for _ in 0..200 {
        assert!(stage.call());
        let payloads = stage.auth_payloads(false);
        stage.say(ExchangeType::IkeAuth, false, 0, &payloads, 1200);
    }
    stage.wait(secs(30));
    assert_eq!(stage.ike.census(), ike_core::Census::default());
    assert!(stage.installed.is_empty() && !stage.up);
}
