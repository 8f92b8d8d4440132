//! Dead peer detection on demand: only traffic without an answer is a reason to ask (RFC 7296 §2.4).

mod world;

use std::time::Duration;

use ike_core::{Doubt, DownCause, Dpd, Input};
use simnet::{Profile, for_each_seed};
use world::{World, millis, secs};

/// A pair that asks on demand.
fn on_demand(profile: Profile, interval: Duration, timeout: Duration) -> World {
    let mut world = World::pair(1, profile, |_, config| {
        config.dpd = Dpd { doubt: Doubt::NoAnswer, interval, timeout };
    });
    world.expect("both up", secs(60), World::converged);
    world
}

fn line() -> Profile {
    Profile::default().delay(millis(10))
}

/// How many messages each end has been handed.
fn heard(world: &World) -> [usize; 2] {
    [0, 1].map(|n| world.nodes[n].heard.len())
}

/// Node 0 says that it has sent something just now.
fn send(world: &mut World) {
    let spi_in = world.nodes[0].active.expect("there is a pair");
    let since = world.net.now();
    world.input(0, Input::OutboundSeen { spi_in, since });
}

fn dead(world: &World, n: usize) -> bool {
    !world.nodes[n].up && world.nodes[n].causes.iter().any(|cause| matches!(cause, DownCause::DpdTimeout { .. }))
}

#[test]
fn a_tunnel_at_rest_says_nothing() {
    let mut world = on_demand(line(), secs(5), secs(15));
    let before = heard(&world);
    world.run(secs(1800));
    assert_eq!(heard(&world), before, "{}", world.story());
    assert!(world.converged());
}

#[test]
fn a_tunnel_at_rest_does_not_notice_a_dead_peer_until_it_is_used() {
    let mut world = on_demand(line(), secs(5), secs(15));
    world.net.cut(world.link);
    world.run(secs(600));
    assert!(world.converged(), "nobody has asked");
    send(&mut world);
    world.run(secs(19));
    assert!(!dead(&world, 0), "an interval and the timeout are not over");
    world.expect("node 0 knows", millis(1100), |world| dead(world, 0));
    assert!(world.nodes[1].up, "its peer has not sent anything");
}

#[test]
fn what_was_sent_is_looked_at_four_times_an_interval_and_not_more_often_than_is_cheap() {
    for (interval, look) in [(secs(4), secs(1)), (millis(100), millis(50)), (millis(50), millis(50))] {
        let mut world = on_demand(line(), interval, secs(15));
        world.run(secs(10));
        for _ in 0..10 {
            let next = world.nodes[0].ike.poll_timeout().expect("a look");
            assert!(next.saturating_duration_since(world.net.now()) <= look, "{}", world.story());
            world.run(look);
        }
    }
}

#[test]
fn traffic_that_is_answered_is_no_reason_to_ask() {
    let mut world = on_demand(line(), millis(500), secs(2));
    world.traffic = true;
    world.run(secs(1)); // the first of it may come before the peer's
    let before = heard(&world);
    world.run(secs(600));
    assert_eq!(heard(&world), before, "{}", world.story());
}

#[test]
fn traffic_that_ends_leaves_silence() {
    let mut world = on_demand(line(), millis(500), secs(2));
    world.traffic = true;
    world.run(secs(10));
    world.traffic = false;
    world.run(secs(2)); // what was sent last has no answer: one question is due to it
    let before = heard(&world);
    world.run(secs(600));
    assert_eq!(heard(&world), before, "{}", world.story());
    assert!(world.converged());
}

#[test]
fn silence_in_one_direction_is_asked_about_once_an_interval() {
    let mut world = on_demand(line(), secs(2), secs(6));
    let before = heard(&world);
    for _ in 0..600 {
        world.run(millis(100));
        send(&mut world);
    }
    let [answers, questions] = [0, 1].map(|n| heard(&world)[n] - before[n]);
    assert_eq!(answers, questions, "the peer lives and says so");
    assert!((25..=30).contains(&questions), "{questions} in 60 s");
    assert!(world.converged(), "{}", world.story());
}

#[test]
fn what_was_sent_before_the_last_sign_of_life_is_no_reason_to_ask() {
    let mut world = on_demand(line(), secs(2), secs(6));
    let since = world.net.now();
    world.run(secs(10));
    let spi_in = world.nodes[0].active.unwrap();
    let at = world.net.now();
    world.input(0, Input::InboundSeen { spi_in, at });
    let before = heard(&world);
    world.input(0, Input::OutboundSeen { spi_in, since });
    world.run(secs(60));
    assert_eq!(heard(&world), before);
}

#[test]
fn a_dead_peer_is_noticed_within_a_second() {
    let mut world = on_demand(line(), millis(200), millis(600));
    world.traffic = true;
    world.run(secs(10));
    world.net.cut(world.link);
    world.run(millis(700));
    assert!(!dead(&world, 0) && !dead(&world, 1), "{}", world.story());
    world.expect("both know", millis(300), |world| dead(world, 0) && dead(world, 1));
}

#[test]
fn a_bad_line_is_no_dead_peer() {
    for_each_seed(20, |seed| {
        let mut world = World::pair(seed, Profile::lossy(), |_, config| {
            config.dpd = Dpd { doubt: Doubt::NoAnswer, interval: secs(1), timeout: secs(10) };
        });
        world.expect("both up", secs(60), World::converged);
        world.traffic = true;
        world.run(secs(120));
        assert!(world.both_up() && !dead(&world, 0) && !dead(&world, 1), "{}", world.story());
    });
}
