//! Reauthentication: a second IKE SA takes over, the first one ends, and no packet notices.

mod world;

use ike_core::{ConnectionConfig, DownCause, Event, Lifetime};
use simnet::{Profile, for_each_seed};
use world::{World, millis, rekeys::always_usable, secs};

fn reauth(who: usize, seconds: u64) -> impl Fn(usize, &mut ConnectionConfig) {
    move |n, config| {
        if n == who {
            config.reauth = Some(secs(seconds));
        }
    }
}

fn done(world: &World, n: usize) -> usize {
    world.count(n, |event| matches!(event, Event::Reauthenticated { .. }))
}

/// One IKE SA and one pair at each end.
fn one_of_each(world: &World) -> bool {
    world.converged() && world.nodes.iter().all(|node| node.ike.census().established == 1)
}

#[test]
fn the_caller_authenticates_anew_without_losing_a_packet() {
    // The caller is configured to; or the called end asks for it (RFC 4478).
    for who in 0..2 {
        let mut world = World::pair(1, Profile::default().delay(millis(10)), reauth(who, 30));
        world.expect("both up", secs(5), World::converged);
        world.traffic = true;
        world.invariant = Some(always_usable);
        world.run(secs(300));
        assert!((9..=14).contains(&done(&world, 0)), "{} times in 300 s", done(&world, 0));
        assert_eq!(done(&world, 1), 0, "the called end does not begin one");
        world.traffic = false;
        world.run(secs(1));
        assert_eq!((world.nodes[0].sent, world.nodes[1].sent), (world.nodes[1].received, world.nodes[0].received));
        world.expect("one of each", secs(20), one_of_each);
        assert_eq!(world.nodes[0].causes.len(), 2, "it was never down: {:?}", world.nodes[0].causes);
    }
}

#[test]
fn reauthentications_and_rekeys_meet_over_a_bad_line() {
    for_each_seed(40, |seed| {
        let mut world = World::pair(seed, Profile::lossy(), |n, config| {
            let lifetime = |rekey| Lifetime { rekey: secs(rekey), hard: secs(rekey * 20), jitter: secs(rekey) / 2 };
            (config.ike_lifetime, config.child_lifetime) = (lifetime(13), lifetime(8));
            reauth((seed % 2) as usize, 60)(n, config);
        });
        world.expect("both up", secs(60), World::converged);
        world.traffic = true;
        world.invariant = Some(always_usable);
        world.run(secs(300));
        assert!(done(&world, 0) >= 3, "{} times\n{}", done(&world, 0), world.story());
        assert!(world.nodes.iter().all(|node| node.unknown == 0), "{}", world.story());
        world.net.set_profile(world.link, Profile::default());
        for n in 0..2 {
            let mut config = world.config_of(n);
            (config.ike_lifetime, config.child_lifetime) = (Lifetime::of(secs(9_000)), Lifetime::of(secs(9_000)));
            config.reauth = None;
            world.reconfigure(n, config);
        }
        world.run(secs(100));
        world.expect("one of each", secs(120), one_of_each);
    });
}

#[test]
fn one_that_fails_leaves_what_there_is_and_is_tried_again() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), reauth(0, 30));
    world.expect("both up", secs(5), World::converged);
    let before = world.nodes[0].active;
    world.invariant = Some(always_usable);
    world.refuse_calls = true;
    world.run(secs(100));
    assert!(world.count(0, |event| matches!(event, Event::Unreachable { .. })) >= 1, "{}", world.story());
    assert!(world.nodes[0].active == before && one_of_each(&world), "{}", world.story());
    world.refuse_calls = false;
    world.expect("done at last", secs(60), |world| done(world, 0) == 1);
    world.expect("one of each", secs(20), one_of_each);
}

#[test]
fn a_caller_that_does_not_authenticate_anew_is_let_go() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), reauth(1, 30));
    world.expect("both up", secs(5), World::converged);
    // It cannot: its calls are lost, its SA still works.
    world.refuse_calls = true;
    world.run(secs(50));
    assert!(world.nodes[1].up, "{}", world.story());
    world.run(secs(15));
    assert!(world.nodes[1].causes.contains(&DownCause::ReauthMissed), "{:?}", world.nodes[1].causes);
    world.refuse_calls = false;
    world.expect("up again", secs(60), |world| world.both_up() && world.usable());
}
