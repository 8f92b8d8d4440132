//! Quick crash detection (RFC 6290): a peer that has restarted is back after a few round trips, and nobody else can make
//! us believe that it has.

mod world;

use ike_core::{ConnectionConfig, DownCause, Event, Input, Lifetime, Path, Role};
use ike_crypto::CrashTokenSecret;
use ike_wire::{ExchangeType, Flags, Header, Message, NotifyType, Payload, ProtocolId};
use simnet::{Profile, for_each_seed};
use world::{World, millis, secs, tunnel};

fn pair(seed: u64, profile: Profile, change: impl Fn(usize, &mut ConnectionConfig)) -> World {
    let mut world = World::new(seed, profile);
    world.give_crash_tokens(0);
    world.give_crash_tokens(1);
    world.start(change);
    world.expect("both up", secs(60), World::converged);
    world
}

fn wire() -> Profile {
    Profile::default().delay(millis(10))
}

/// Whether a message is an unprotected answer that presents a token.
fn presents_token(bytes: &[u8]) -> bool {
    Message::parse(bytes)
        .is_ok_and(|message| message.protected.is_none() && message.notify(NotifyType::QuickCrashDetection).is_some())
}

fn presented(world: &World, n: usize) -> usize {
    world.nodes[n].heard.iter().filter(|(_, bytes)| presents_token(bytes)).count()
}

#[test]
fn a_responder_that_restarts_is_back_in_five_round_trips_once_data_flows() {
    let mut world = pair(1, wire(), |_, _| {});
    world.run(secs(100));
    world.traffic = true;
    world.run(secs(1));
    world.restart(1);
    // Data meets nobody; the restarted end says so; the question is answered with the token; then a new SA.
    world.expect("the caller knows", millis(100 + 20 + 20), |world| {
        world.nodes[0].causes.last() == Some(&DownCause::PeerRestarted)
    });
    world.expect("two round trips later", millis(41), |world| world.both_up() && world.usable());
    assert_eq!(presented(&world, 0), 1);
    world.run(secs(10));
    assert!(world.converged(), "{}", world.story());
}

#[test]
fn without_tokens_the_same_takes_as_long_as_dead_peer_detection() {
    let mut world = World::pair(1, wire(), |_, _| {});
    world.expect("both up", secs(60), World::converged);
    world.traffic = true;
    world.run(secs(1));
    world.restart(1);
    world.run(secs(10));
    assert!(world.nodes[0].up, "nothing that is not authenticated ends an SA\n{}", world.story());
    world.expect("back after the timeout", secs(20), |world| world.both_up() && world.usable());
}

#[test]
fn tokens_are_replaced_when_the_ike_sa_is() {
    // Both ends rekey in turn, so that each is once the initiator of the last rekey.
    for rekeys in 1..5 {
        for crashes in 0..2 {
            let mut world = pair(1, wire(), |_, config| config.role = Role::Initiate);
            world.run(secs(20));
            for n in 0..rekeys {
                world.input(n % 2, Input::Rekey { tunnel: tunnel(), ike: true });
                world.run(secs(2));
            }
            // It restarts without calling, so that only its token can tell.
            let mut config = world.config_of(crashes);
            config.role = Role::RespondOnly;
            world.reconfigure(crashes, config);
            world.traffic = true;
            world.run(secs(1));
            world.restart(crashes);
            world.expect("back", millis(200), |world| world.both_up() && world.usable());
            assert_eq!(world.nodes[1 - crashes].causes.last(), Some(&DownCause::PeerRestarted), "{}", world.story());
        }
    }
}

#[test]
fn restarts_over_a_bad_line_are_survived() {
    let told = std::cell::Cell::new(0);
    for_each_seed(40, |seed| {
        let mut world = pair(seed, Profile::lossy(), |_, config| {
            let lifetime = |rekey| Lifetime { rekey: secs(rekey), hard: secs(10 * rekey), jitter: secs(rekey) / 3 };
            (config.ike_lifetime, config.child_lifetime) = (lifetime(30), lifetime(20));
        });
        world.traffic = true;
        for _ in 0..4 {
            world.run(secs(40));
            world.restart(1);
            world.expect("back", secs(25), |world| world.both_up() && world.usable());
        }
        let restarts = world.nodes[0].causes.iter().filter(|cause| **cause == DownCause::PeerRestarted);
        told.set(told.get() + restarts.count());
    });
    // A peer that restarts between a rekey and its new token is found out as one without tokens is.
    assert!(told.get() >= 150, "{} of 160 restarts were told by token", told.get());
}

/// The last request that an end heard on the SA in use.
fn last_request(world: &World, n: usize) -> (Path, Header) {
    let headers = world.nodes[n].heard.iter().rev();
    let mut requests = headers.filter_map(|(path, bytes)| Some((path.clone(), Header::parse(bytes).ok()?.0)));
    requests.find(|(_, header)| !header.flags.response && header.exchange == ExchangeType::Informational).unwrap()
}

#[test]
fn nobody_gets_the_token_of_an_sa_that_stands() {
    let mut world = pair(1, wire(), |_, _| {});
    world.run(secs(30));
    let (path, header) = last_request(&world, 1);
    let spi = |spi: u64| ike_wire::IkeSpi::new(spi).unwrap();
    let known = (header.initiator_spi, header.responder_spi.unwrap());
    let mut asked = Vec::new();
    for initiator in [true, false] {
        for (i, r) in
            [known, (known.1, known.0), (known.0, spi(99)), (spi(99), known.0), (known.1, spi(99)), (spi(99), known.1)]
        {
            let flags = Flags { initiator, ..Flags::default() };
            let header = Header { initiator_spi: i, responder_spi: Some(r), flags, ..header };
            // An encrypted payload of noise.
            let noise = Payload::Unknown { kind: 200.into(), critical: false, body: vec![7; 40] };
            let mut bytes = Message::clear(header, vec![noise]).emit().unwrap();
            bytes[16] = 46;
            asked.push(bytes);
        }
    }
    for bytes in asked {
        world.input(1, Input::Datagram { path: path.clone(), bytes: bytes.into() });
        world.run(millis(100));
    }
    // Whoever asks for SPIs that no SA has gets some token. It must not be the one that the peer was given.
    let given = CrashTokenSecret::new(&[2; 32].into()).token(known, false);
    let answers = world.nodes[0].heard.iter().filter_map(|(_, bytes)| Message::parse(bytes).ok());
    let tokens: Vec<_> = answers
        .filter_map(|answer| answer.notify(NotifyType::QuickCrashDetection).map(|notify| notify.data.clone()))
        .collect();
    assert!(!tokens.is_empty() && !tokens.contains(&given.to_notify()), "{}", world.story());
    assert!(world.converged());
}

#[test]
fn a_token_that_is_not_the_peers_ends_nothing() {
    let mut world = pair(1, wire(), |_, _| {});
    world.run(secs(8));
    // A question is on the way; somebody on the path answers before the peer does.
    world.net.cut(world.link);
    world.run(secs(8));
    let asked = world.sent_last(0);
    let header = Header::parse(&asked).unwrap().0;
    let flags = Flags { initiator: !header.flags.initiator, response: true, higher_version: false };
    for length in [0, 15, 16, 32, 128, 129] {
        let token = ike_wire::Notify {
            protocol: ProtocolId::Ike,
            ..ike_wire::Notify::new(NotifyType::QuickCrashDetection, vec![1; length])
        };
        let lost = ike_wire::Notify::new(NotifyType::InvalidIkeSpi, []);
        let answer =
            Message::clear(Header { flags, ..header }, [lost, token].map(Payload::Notify).into()).emit().unwrap();
        let path = world.path_to(0);
        world.input(0, Input::Datagram { path, bytes: answer.into() });
        assert!(world.nodes[0].up, "{length} octets\n{}", world.story());
    }
    world.net.mend(world.link);
    world.run(secs(20));
    assert!(world.converged());
    assert_eq!(world.count(0, |event| matches!(event, Event::IkeClosed { .. })), 0);
}

#[test]
fn a_claim_that_a_pair_is_unknown_costs_one_question_and_no_more() {
    let mut world = pair(1, wire(), |_, _| {});
    let spi_out = world.nodes[0].inbound.values().next().unwrap().spi_out;
    let header = Header {
        initiator_spi: ike_wire::IkeSpi::new(5).unwrap(),
        responder_spi: None,
        exchange: ExchangeType::Informational,
        flags: Flags { initiator: true, ..Flags::default() },
        message_id: 0,
    };
    let notify = ike_wire::Notify::new(NotifyType::InvalidSpi, spi_out.get().to_be_bytes());
    let claim = Message::clear(header, vec![Payload::Notify(notify)]).emit().unwrap();
    let before = world.nodes[1].heard.len();
    for _ in 0..1000 {
        let path = world.path_to(0);
        world.input(0, Input::Datagram { path, bytes: claim.clone().into() });
    }
    world.run(secs(1));
    assert_eq!(world.nodes[1].heard.len(), before + 1);
    assert!(world.converged());
}
