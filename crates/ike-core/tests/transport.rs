//! Child SAs in transport mode (RFC 7296 §1.3.1), as a GRE interface wants them: offered, agreed to, declined, rekeyed, and
//! made through a NAT (§2.23.1).

#[path = "world/puppet.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod puppet;
mod world;

use std::net::SocketAddr;

use ike_core::{ChildMode, ConnectionConfig, Encapsulation, Event, Input, Refusal, Remote};
use ike_wire::{ExchangeType, Notify, NotifyType, Payload, TrafficSelector, TrafficSelectors};
use net_types::Prefix;
use puppet::Stage;
use simnet::{Profile, for_each_seed};
use world::{World, address, millis, rekeys::always_usable, secs, tunnel};

const GRE: u8 = 47;
const MODE: ChildMode = ChildMode::Transport { protocol: GRE };

fn gre(n: usize) -> TrafficSelector {
    TrafficSelector { protocol: GRE, ..TrafficSelector::from_prefix(&Prefix::host(address(n))) }
}

fn transport(_: usize, config: &mut ConnectionConfig) {
    config.mode = MODE;
}

/// Mode and selectors of an end's only pair, ours first.
fn pair_of(world: &World, n: usize) -> (ChildMode, Vec<TrafficSelector>, Vec<TrafficSelector>) {
    let child = world.nodes[n].inbound.values().next().unwrap();
    (child.mode, child.local_ts.clone(), child.remote_ts.clone())
}

#[test]
fn both_ends_carry_that_protocol_between_the_two_outer_addresses_also_after_rekeys() {
    for encapsulation in [Encapsulation::Always, Encapsulation::IfNat] {
        let mut world = World::pair(1, Profile::default().delay(millis(10)), |n, config| {
            transport(n, config);
            config.encapsulation = encapsulation;
        });
        world.expect("both up", secs(5), World::converged);
        world.traffic = true;
        world.invariant = Some(always_usable);
        for (by, ike) in [(0, false), (1, false), (0, true), (1, false), (1, true), (0, false)] {
            let before: Vec<_> = world.nodes[1].inbound.keys().copied().collect();
            world.input(by, Input::Rekey { tunnel: tunnel(), ike });
            let another = |world: &World| ike || world.nodes[1].inbound.keys().all(|spi| !before.contains(spi));
            world.expect("replaced", secs(60), |world| another(world) && world.converged());
            assert_eq!(pair_of(&world, 0), (MODE, vec![gre(0)], vec![gre(1)]));
            assert_eq!(pair_of(&world, 1), (MODE, vec![gre(1)], vec![gre(0)]));
        }
        assert_eq!(world.nodes[0].sent, world.nodes[1].received, "nothing was lost");
    }
}

#[test]
fn it_comes_up_over_a_bad_line_and_with_further_key_exchanges() {
    for_each_seed(20, |seed| {
        let mut world = World::pair(seed, Profile::lossy(), |n, config| {
            transport(n, config);
            config.childless = ike_core::Childless::Prefer;
            config.esp_proposals = vec!["aes256gcm16-x25519-ke1_mlkem768".parse().unwrap()];
        });
        world.expect("both up", secs(90), World::converged);
        assert_eq!(pair_of(&world, 1).0, MODE);
    });
}

/// RFC 7296 §1.3.1: who was asked for transport mode and has tunnel mode makes an SA in that, which who asked has to end.
#[test]
fn a_responder_in_tunnel_mode_is_refused_by_the_caller() {
    let mut world = World::pair(1, Profile::default(), |n, config| {
        if n == 0 {
            transport(n, config);
        }
    });
    world.run(secs(3));
    let refused = |event: &Event| matches!(event, Event::Refused { why: Refusal::Mode(why), .. } if why.contains("answers with tunnel mode"));
    assert!(world.count(0, refused) > 0, "{}", world.story());
    assert!(!world.nodes[0].up && world.nodes[0].inbound.is_empty(), "{}", world.story());
    world.run(millis(100));
    assert!(world.nodes[1].inbound.is_empty(), "the peer's half ends too\n{}", world.story());
}

#[test]
fn a_caller_in_tunnel_mode_is_refused_by_the_responder() {
    let mut world = World::pair(1, Profile::default(), |n, config| {
        if n == 1 {
            transport(n, config);
        }
    });
    world.run(secs(3));
    let refused = |event: &Event| matches!(event, Event::Refused { why: Refusal::Mode(why), .. } if why.contains("asks for tunnel mode"));
    assert!(world.count(1, refused) > 0, "{}", world.story());
    assert!(world.nodes.iter().all(|node| !node.up && node.inbound.is_empty()), "{}", world.story());
}

/// The caller's address is another one behind the NAT: both ends go by the one that they see.
#[test]
fn through_a_nat_each_end_goes_by_the_addresses_that_it_sees() {
    let outside: SocketAddr = "198.51.100.9:4711".parse().unwrap();
    let mut world = World::new(1, Profile::default().delay(millis(10)));
    world.nodes[0].translated = Some(outside);
    world.start(|n, config| {
        transport(n, config);
        config.encapsulation = Encapsulation::IfNat;
        if n == 1 {
            config.remote = Remote::Address(outside.ip());
        }
    });
    world.expect("both up", secs(5), World::converged);
    let seen = TrafficSelector { protocol: GRE, ..TrafficSelector::from_prefix(&Prefix::host(outside.ip())) };
    for by in [0, 1] {
        assert_eq!(pair_of(&world, 0), (MODE, vec![gre(0)], vec![gre(1)]));
        assert_eq!(pair_of(&world, 1), (MODE, vec![gre(1)], vec![seen.clone()]));
        assert!(world.nodes.iter().all(|node| node.inbound.values().all(|child| child.encapsulated)));
        let before: Vec<_> = world.nodes[0].inbound.keys().copied().collect();
        world.input(by, Input::Rekey { tunnel: tunnel(), ike: false });
        world.expect("replaced", secs(60), |world| {
            world.converged() && world.nodes[0].inbound.keys().all(|spi| !before.contains(spi))
        });
    }
}

/// RFC 4555 is for tunnel mode: nobody offers to move.
#[test]
fn nobody_offers_mobility() {
    let mut stage = Stage::with(9, |config| config.mode = MODE);
    let answer = ask(&mut stage, [192, 0, 2, 1], true);
    assert!(has(&answer, NotifyType::UseTransportMode), "{answer:?}");
    assert!(!has(&answer, NotifyType::MobikeSupported), "{answer:?}");
    assert_eq!(stage.installed.len(), 1);
}

#[test]
fn selectors_of_other_addresses_or_protocols_are_unacceptable() {
    let mut stage = Stage::with(9, |config| (config.mode, config.encapsulation) = (MODE, Encapsulation::IfNat));
    // The puppet says that a NAT is between the two, so its address is that which it is seen under.
    let answer = ask(&mut stage, [10, 9, 9, 9], true);
    assert!(has(&answer, NotifyType::UseTransportMode) && stage.installed.len() == 1, "{answer:?}");
    let mut stage = Stage::with(9, |config| config.mode = ChildMode::Transport { protocol: 4 });
    let answer = ask(&mut stage, [192, 0, 2, 1], true);
    assert!(has(&answer, NotifyType::TsUnacceptable) && stage.installed.is_empty(), "{answer:?}");
    let mut stage = Stage::with(9, |config| config.mode = MODE);
    let answer = ask(&mut stage, [192, 0, 2, 1], false);
    assert!(has(&answer, NotifyType::NoProposalChosen) && stage.installed.is_empty(), "{answer:?}");
}

fn has(payloads: &[Payload], kind: NotifyType) -> bool {
    payloads.iter().any(|payload| matches!(payload, Payload::Notify(notify) if notify.kind == kind))
}

/// Calls, offers mobility and a pair for GRE from this address; gives the answer.
fn ask(stage: &mut Stage, from: [u8; 4], transport: bool) -> Vec<Payload> {
    assert!(stage.call());
    let only = |address: [u8; 4]| TrafficSelectors {
        selectors: vec![TrafficSelector {
            protocol: GRE,
            ..TrafficSelector::from_prefix(&Prefix::host(address.into()))
        }],
    };
    let mut payloads = stage.auth_payloads(true);
    payloads.retain(|payload| !matches!(payload, Payload::TsInitiator(_) | Payload::TsResponder(_)));
    payloads.push(Payload::Notify(Notify::new(NotifyType::MobikeSupported, [])));
    payloads.extend(transport.then(|| Payload::Notify(Notify::new(NotifyType::UseTransportMode, []))));
    payloads.extend([Payload::TsInitiator(only(from)), Payload::TsResponder(only([192, 0, 2, 2]))]);
    stage.say(ExchangeType::IkeAuth, false, 0, &payloads, 1200);
    stage.said.first().map(|(_, payloads)| payloads.clone()).expect("an answer")
}
