//! Replacing SAs: one usable pair at any moment, whatever the line does and whoever begins.

mod world;

use ike_core::{ConnectionConfig, Event, Input, Lifetime, Role};
use simnet::{Profile, for_each_seed};
use world::{
    World, millis,
    rekeys::{always_usable, rekeys, simultaneous},
    secs, tunnel,
};

/// Child and IKE SA live only this long, so that a minute has many rekeys of both kinds.
fn short_lived(child: u64, ike: u64) -> impl Fn(usize, &mut ConnectionConfig) {
    move |_, config| {
        let lifetime = |rekey: u64| Lifetime { rekey: secs(rekey), hard: secs(rekey * 6), jitter: secs(rekey) / 4 };
        config.child_lifetime = lifetime(child);
        config.ike_lifetime = lifetime(ike);
    }
}

/// Rekeys for `duration` under traffic with the invariant on, then quiet: one pair is left.
fn rekey_under(world: &mut World, duration: u64) {
    world.expect("both up", secs(60), World::converged);
    world.traffic = true;
    world.invariant = Some(always_usable);
    world.run(secs(duration));
    assert!(world.both_up(), "{}", world.story());
    for n in 0..2 {
        assert_eq!(world.nodes[n].unknown, 0, "data came for an SPI that was gone\n{}", world.story());
        assert!(world.nodes[n].received > 0);
    }
    // Once in every rekey period there is a moment with one pair only; grace periods have to end for it.
    assert!(world.nodes.iter().all(|node| node.inbound.len() <= 8), "pairs pile up\n{}", world.story());
}

#[test]
fn children_and_ike_sas_are_replaced_without_a_gap() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), short_lived(20, 45));
    rekey_under(&mut world, 300);
    let (children, ikes) = rekeys(&world);
    assert!(children >= 12 && ikes >= 5, "{children} and {ikes} rekeys in 300 s");
    assert_eq!(world.nodes[0].sent, world.nodes[1].received, "nothing was lost");
    world.traffic = false;
    world.expect("one pair", secs(30), World::converged);
}

#[test]
fn children_are_replaced_over_a_bad_line() {
    for_each_seed(30, |seed| {
        let mut world = World::pair(seed, Profile::lossy(), short_lived(15, 10_000));
        rekey_under(&mut world, 180);
        assert!(rekeys(&world).0 >= 6, "{:?}", rekeys(&world));
    });
}

#[test]
fn ike_sas_are_replaced_over_a_bad_line() {
    for_each_seed(30, |seed| {
        let mut world = World::pair(seed, Profile::lossy(), short_lived(10_000, 12));
        rekey_under(&mut world, 180);
        assert!(rekeys(&world).1 >= 6, "{:?}", rekeys(&world));
    });
}

#[test]
fn both_kinds_collide_over_a_bad_line() {
    for_each_seed(50, |seed| {
        let mut world = World::pair(seed, Profile::lossy(), short_lived(7, 11));
        rekey_under(&mut world, 180);
        let (children, ikes) = rekeys(&world);
        assert!(children >= 6 && ikes >= 4, "{children} and {ikes} rekeys in 180 s\n{}", world.story());
    });
}

#[test]
fn simultaneous_child_rekeys_leave_one_pair() {
    simultaneous(Profile::default().delay(millis(10)), false, |_, _| {});
}

#[test]
fn simultaneous_ike_rekeys_leave_one_sa() {
    simultaneous(Profile::default().delay(millis(10)), true, |_, _| {});
}

#[test]
fn simultaneous_child_rekeys_leave_one_pair_on_a_bad_line() {
    simultaneous(Profile::lossy(), false, |_, _| {});
}

#[test]
fn simultaneous_ike_rekeys_leave_one_sa_on_a_bad_line() {
    simultaneous(Profile::lossy(), true, |_, _| {});
}

#[test]
fn a_child_and_an_ike_rekey_at_once_both_succeed_in_the_end() {
    for_each_seed(30, |seed| {
        let mut world = World::pair(seed, Profile::default().delay(millis(10)).jitter(millis(15)), |_, config| {
            config.role = Role::Initiate;
        });
        world.expect("both up", secs(60), |world| world.both_up() && world.usable());
        world.run(secs(30));
        world.traffic = true;
        world.invariant = Some(always_usable);
        world.input(0, Input::Rekey { tunnel: tunnel(), ike: false });
        world.input(1, Input::Rekey { tunnel: tunnel(), ike: true });
        world.run(secs(30));
        let (children, ikes) = rekeys(&world);
        assert!(children >= 1 && ikes >= 1, "{children} {ikes}\n{}", world.story());
        world.expect("one pair", secs(90), World::converged);
    });
}

#[test]
fn a_soft_volume_limit_replaces_the_pair() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), |_, _| {});
    world.expect("both up", secs(5), World::converged);
    world.traffic = true;
    world.invariant = Some(always_usable);
    let before = world.nodes[1].active.unwrap();
    world.input(1, Input::ChildLimit { spi_in: before, hard: false });
    world.run(secs(10));
    assert!(world.converged() && world.nodes[1].active != Some(before), "{}", world.story());
}

#[test]
fn a_pair_that_cannot_be_replaced_ends_at_its_hard_limit() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), |n, config| {
        config.child_lifetime = Lifetime { rekey: secs(20), hard: secs(60), jitter: secs(0) };
        // The first pair needs no key exchange, its successor does, and they have no group in common.
        config.esp_proposals =
            vec![if n == 0 { "aes256gcm16-ecp256".parse().unwrap() } else { "aes256gcm16-ecp384".parse().unwrap() }];
    });
    world.expect("both up", secs(5), World::converged);
    world.run(secs(50));
    assert!(world.both_up(), "it still works while its rekey is refused\n{}", world.story());
    assert!(world.count(0, |event| matches!(event, Event::RekeyDelayed { .. })) >= 1);
    world.run(secs(20));
    assert!(!world.nodes[0].up && !world.nodes[1].up, "{}", world.story());
}
