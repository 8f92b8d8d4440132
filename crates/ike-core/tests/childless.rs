//! IKE SAs that come without a child SA (RFC 6023): who does so with whom, and what comes of it.

#[path = "world/puppet.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod puppet;
mod world;

use ike_core::{Childless, ConnectionConfig, Doubt, Dpd, Event, Role};
use ike_wire::{ExchangeType, Notify, NotifyType, Payload};
use puppet::Stage;
use simnet::{Profile, for_each_seed};
use world::{World, millis, rekeys::always_usable, secs};

/// What each end makes of it, the caller first.
fn policies(policies: [Childless; 2]) -> impl Fn(usize, &mut ConnectionConfig) {
    move |n, config| config.childless = policies[n]
}

/// The suite of an end's first pair: only in an exchange of its own it has a group.
fn first_suite(world: &World, n: usize) -> Option<&str> {
    world.nodes[n].events.iter().find_map(|event| match event {
        Event::ChildInstalled { suite, .. } => Some(suite.as_str()),
        _ => None,
    })
}

const WITH_IKE_AUTH: &str = "aes256gcm16-esn";
const BY_ITSELF: &str = "aes256gcm16-x25519-esn";

#[test]
fn the_policies_of_both_ends_decide() {
    use Childless::{Allow, Force, Never, Prefer};
    for (caller, called, outcome) in [
        (Allow, Allow, Some(WITH_IKE_AUTH)),
        (Allow, Prefer, Some(WITH_IKE_AUTH)),
        (Allow, Force, None),
        (Allow, Never, Some(WITH_IKE_AUTH)),
        (Prefer, Allow, Some(BY_ITSELF)),
        (Prefer, Prefer, Some(BY_ITSELF)),
        (Prefer, Force, Some(BY_ITSELF)),
        (Prefer, Never, Some(WITH_IKE_AUTH)),
        (Force, Allow, Some(BY_ITSELF)),
        (Force, Prefer, Some(BY_ITSELF)),
        (Force, Force, Some(BY_ITSELF)),
        (Force, Never, None),
        (Never, Allow, Some(WITH_IKE_AUTH)),
        (Never, Prefer, Some(WITH_IKE_AUTH)),
        (Never, Force, None),
        (Never, Never, Some(WITH_IKE_AUTH)),
    ] {
        let mut world = World::pair(1, Profile::default().delay(millis(10)), policies([caller, called]));
        world.run(secs(3));
        assert_eq!([0, 1].map(|n| first_suite(&world, n)), [outcome; 2], "{caller:?} calls {called:?}");
        assert_eq!(world.converged(), outcome.is_some(), "{caller:?} calls {called:?}\n{}", world.story());
        let refused =
            |event: &Event| matches!(event, Event::Refused { why, .. } if why.to_string().contains("childless "));
        let refusals = [0, 1].map(|n| world.count(n, refused));
        assert_eq!(refusals.iter().any(|count| *count > 0), outcome.is_none(), "{caller:?} calls {called:?}");
    }
}

#[test]
fn the_first_pair_takes_one_more_round_trip_and_is_the_only_one() {
    for called in [Role::RespondOnly, Role::Initiate] {
        let mut world = World::pair(1, Profile::default().delay(millis(10)), |n, config| {
            config.childless = Childless::Prefer;
            if n == 1 {
                config.role = called;
            }
        });
        // The other end, if it calls too, does so at the same moment: one of the calls is given up for the other.
        world.expect("both up", millis(100), |world| world.both_up() && world.usable());
        world.run(secs(30));
        assert!(world.converged(), "{}", world.story());
        if called == Role::RespondOnly {
            let installed = |event: &Event| matches!(event, Event::ChildInstalled { .. });
            assert_eq!([0, 1].map(|n| world.count(n, installed)), [1, 1], "{}", world.story());
        }
    }
}

#[test]
fn a_tunnel_comes_up_over_a_bad_line() {
    for_each_seed(60, |seed| {
        let both_call = seed % 2 == 1;
        let mut world = World::pair(seed, Profile::lossy(), |_, config| {
            config.childless = Childless::Force;
            if both_call {
                config.role = Role::Initiate;
            }
        });
        world.expect("converged", secs(90), World::converged);
        assert_eq!(first_suite(&world, 0), Some(BY_ITSELF));
    });
}

#[test]
fn further_key_exchanges_are_for_the_first_pair_too() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), |_, config| {
        config.childless = Childless::Prefer;
        config.esp_proposals = vec!["aes256gcm16-x25519-ke1_mlkem768".parse().unwrap()];
    });
    world.expect("both up", millis(81), World::converged);
    assert_eq!([0, 1].map(|n| first_suite(&world, n)), [Some("aes256gcm16-x25519-ke1_mlkem768-esn"); 2]);
}

#[test]
fn authentication_anew_makes_no_gap() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), |_, config| {
        config.childless = Childless::Force;
        config.reauth = Some(secs(40));
    });
    world.expect("both up", secs(5), World::converged);
    world.traffic = true;
    world.invariant = Some(always_usable);
    world.run(secs(200));
    let renewed = world.count(0, |event| matches!(event, Event::Reauthenticated { .. }));
    assert!(renewed >= 3, "{renewed} in 200 s\n{}", world.story());
    assert_eq!(world.nodes[0].sent, world.nodes[1].received, "nothing was lost");
}

#[test]
fn a_change_of_the_policy_leaves_the_tunnel_up() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), |_, _| {});
    world.expect("both up", secs(5), World::converged);
    world.invariant = Some(always_usable);
    for n in 0..2 {
        let mut config = world.config_of(n);
        config.childless = Childless::Force;
        world.reconfigure(n, config);
    }
    world.run(secs(10));
    assert!(world.converged(), "{}", world.story());
}

/// A caller that comes without a child SA and then does nothing: the side that calls asks for one.
#[test]
fn an_end_that_calls_does_not_wait_for_ever_for_the_peers_child() {
    let mut stage = Stage::with(9, |config| {
        config.remote = ike_core::Remote::Address([192, 0, 2, 1].into());
        config.role = Role::Initiate;
        config.dpd = Dpd { doubt: Doubt::Silence, interval: secs(60), timeout: secs(60) };
    });
    assert_eq!(call_childless(&mut stage), None);
    let asked = |stage: &Stage| stage.said.iter().any(|(header, _)| header.exchange == ExchangeType::CreateChildSa);
    let (begin, mut waited) = (stage.now, None);
    while waited.is_none() && stage.now < begin + secs(20) {
        stage.tick(begin + secs(20));
        waited = asked(&stage).then(|| stage.now - begin);
    }
    assert_eq!(waited, Some(secs(5)));
}

/// Calls without a child SA; gives the notify that refuses it.
fn call_childless(stage: &mut Stage) -> Option<Notify> {
    assert!(stage.call());
    let mut payloads = stage.auth_payloads(true);
    payloads.retain(|payload| matches!(payload, Payload::IdInitiator(_) | Payload::Auth(_)));
    stage.say(ExchangeType::IkeAuth, false, 0, &payloads, 1200);
    let answer = stage.said.first().map(|(_, payloads)| payloads.clone()).expect("an answer");
    answer.into_iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind.is_error() => Some(notify),
        _ => None,
    })
}

#[test] // RFC 6023 §4
fn a_caller_without_a_child_is_answered_invalid_syntax_where_that_is_not_supported() {
    let mut stage = Stage::with(9, |config| config.childless = Childless::Never);
    assert_eq!(call_childless(&mut stage), Some(Notify::new(NotifyType::InvalidSyntax, [])));
    assert_eq!(stage.ike.census().established, 0);
    let mut stage = Stage::new(9);
    assert_eq!(call_childless(&mut stage), None);
    assert_eq!((stage.ike.census().established, stage.installed.len(), stage.up), (1, 0, false));
}
