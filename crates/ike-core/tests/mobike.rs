//! MOBIKE (RFC 4555): the outer path moves from one link to another, and nothing is negotiated anew.
//!
//! Node 0 has two links to node 1, which has one address and knows the first of node 0's two, or none.

mod world;

use ike_core::{ConnectionConfig, DownCause, Event, Input, Remote, Role};
use simnet::{Profile, for_each_seed};
use world::{World, backup_wan, millis, secs, tunnel};

fn wire() -> Profile {
    Profile::default().delay(millis(10))
}

/// Both links up; `caller` calls. Data flows both ways.
fn roaming(seed: u64, profile: Profile, change: impl Fn(usize, &mut ConnectionConfig)) -> World {
    let mut world = World::new(seed, profile);
    world.start(|n, config| {
        if n == 0 {
            config.backup_wans = vec![backup_wan()];
        }
        change(n, config);
    });
    world.expect("both up", secs(60), World::converged);
    world.backup_wan(true);
    world.traffic = true;
    world.run(secs(2));
    world
}

fn established(world: &World) -> usize {
    world.count(0, |event| matches!(event, Event::IkeEstablished { .. }))
}

/// By which link each end sends its data.
fn by_backup(world: &World) -> [bool; 2] {
    let of = |n: usize| {
        let node = &world.nodes[n];
        let path = &node.inbound[&node.active.unwrap()].path;
        [path.local.ip(), path.remote.ip()].contains(&world::backup_address())
    };
    [of(0), of(1)]
}

/// The same SAs as before, and no time without a tunnel.
fn nothing_but_moved(world: &World, children: [Option<net_types::Spi>; 2]) {
    assert_eq!(established(world), 1, "{}", world.story());
    assert_eq!([world.nodes[0].active, world.nodes[1].active], children, "no pair was replaced\n{}", world.story());
    for (n, node) in world.nodes.iter().enumerate() {
        let lost = |cause: &&DownCause| matches!(cause, DownCause::DpdTimeout { .. } | DownCause::PeerDeleted);
        assert_eq!(node.causes.iter().filter(lost).count(), 0, "end {n} was down: {:?}", node.causes);
        assert_eq!(node.unknown, 0);
    }
}

#[test]
fn the_loss_of_a_link_moves_everything_to_the_other_in_one_round_trip() {
    let mut world = roaming(1, wire(), |_, _| {});
    let children = [world.nodes[0].active, world.nodes[1].active];
    let downs = world.nodes.each_ref().map(|node| node.causes.len());
    world.net.cut(world.link);
    world.wan(0, false);
    assert!(world.nodes[0].up && by_backup(&world)[0], "our own packets move at once\n{}", world.story());
    world.expect("the peer follows", millis(11), |world| by_backup(world) == [true, true]);
    world.run(secs(30));
    assert_eq!(world.nodes.each_ref().map(|node| node.causes.len()), downs, "neither end saw the tunnel down");
    nothing_but_moved(&world, children);
    assert!(world.converged(), "{}", world.story());
    assert_eq!(world.count(0, |event| matches!(event, Event::PathChanged { .. })), 1);
    assert_eq!(world.count(1, |event| matches!(event, Event::PeerMoved { .. })), 1);
}

#[test]
fn a_better_link_is_taken_when_it_comes_back_and_no_packet_is_lost_by_that() {
    let mut world = roaming(1, wire(), |_, _| {});
    let children = [world.nodes[0].active, world.nodes[1].active];
    world.net.cut(world.link);
    world.wan(0, false);
    world.run(secs(5));
    world.net.mend(world.link);
    world.traffic = false;
    world.run(secs(1));
    let lost =
        |world: &World| (world.nodes[0].sent - world.nodes[1].received, world.nodes[1].sent - world.nodes[0].received);
    let before = lost(&world);
    world.traffic = true;
    world.wan(0, true);
    assert_eq!(by_backup(&world), [true, true], "packets stay where they arrive until the peer has answered");
    world.expect("back on the better one", millis(21), |world| by_backup(world) == [false, false]);
    world.run(secs(5));
    world.traffic = false;
    world.run(secs(1));
    assert_eq!(lost(&world), before, "both links worked: nothing is lost\n{}", world.story());
    nothing_but_moved(&world, children);
}

#[test]
fn a_link_that_fails_without_a_sign_is_left_when_it_gives_no_answer() {
    let mut world = roaming(1, wire(), |_, config| {
        config.dpd = ike_core::Dpd { doubt: ike_core::Doubt::Silence, interval: secs(1), timeout: secs(8) }
    });
    let children = [world.nodes[0].active, world.nodes[1].active];
    world.net.cut(world.link);
    world.expect("moved within interval and a quarter of the timeout", millis(3_200), |world| {
        by_backup(world) == [true, true]
    });
    world.run(secs(20));
    nothing_but_moved(&world, children);
    // Both fail: it is dead as soon as any peer.
    world.net.cut(world.backup);
    world.expect("down", secs(10), |world| !world.nodes[0].up && !world.nodes[1].up);
}

#[test]
fn a_better_link_that_leads_nowhere_costs_nothing() {
    let mut world = roaming(1, wire(), |_, config| {
        config.dpd = ike_core::Dpd { doubt: ike_core::Doubt::Silence, interval: secs(5), timeout: secs(12) }
    });
    let children = [world.nodes[0].active, world.nodes[1].active];
    world.net.cut(world.link);
    world.wan(0, false);
    world.run(secs(5));
    let before = world.nodes[1].received;
    world.wan(0, true); // an address, but still no way to the peer
    world.run(secs(20));
    assert_eq!(by_backup(&world), [true, true], "{}", world.story());
    nothing_but_moved(&world, children);
    assert!(world.nodes[1].received - before >= 195, "data went on all the time");
}

#[test]
fn another_address_on_the_same_link_is_a_move_too() {
    let mut world = roaming(1, wire(), |_, config| config.backup_wans = Vec::new());
    let children = [world.nodes[0].active, world.nodes[1].active];
    world.nodes[0].address = "192.0.2.77".parse().unwrap();
    world.wan(0, true);
    world.run(secs(10));
    assert!(world.converged(), "{}", world.story());
    nothing_but_moved(&world, children);
}

#[test]
fn the_called_end_tells_its_new_address_and_the_caller_decides() {
    let mut world = roaming(1, wire(), |_, _| {});
    let children = [world.nodes[0].active, world.nodes[1].active];
    world.nodes[1].address = "192.0.2.99".parse().unwrap();
    world.wan(1, true);
    world.expect("the caller sends there", millis(61), |world| {
        let child = &world.nodes[0].inbound[&world.nodes[0].active.unwrap()];
        child.path.remote.ip() == world.nodes[1].address
    });
    world.run(secs(10));
    nothing_but_moved(&world, children);
    assert!(world.converged());
}

#[test]
fn rekeys_after_and_during_moves_go_by_the_new_path() {
    for_each_seed(60, |seed| {
        let mut world = roaming(seed, wire().jitter(millis(5)), |_, _| {});
        for round in 0..8u64 {
            let ike = (round + seed) % 2 == 0;
            let who = (seed / 2 % 2) as usize;
            world.input(who, Input::Rekey { tunnel: tunnel(), ike });
            world.run(millis(seed * 3 % 40));
            world.wan(0, round % 2 == 1);
            world.run(millis(seed * 7 % 50));
            world.input(1 - who, Input::Rekey { tunnel: tunnel(), ike });
            world.run(secs(12));
            assert!(world.both_up() && world.usable(), "round {round}\n{}", world.story());
            assert_eq!(by_backup(&world), [round % 2 == 0; 2], "round {round}\n{}", world.story());
        }
        assert_eq!(established(&world), 1, "{}", world.story());
        world.expect("one pair", secs(90), World::converged);
    });
}

#[test]
fn moves_over_bad_lines_end_well() {
    for_each_seed(40, |seed| {
        let mut world = roaming(seed, Profile::lossy(), |_, _| {});
        for round in 0..6 {
            world.wan(0, round % 2 == 1);
            world.run(millis(seed * 97 % 4_000));
        }
        world.expect("both on the first link", secs(60), |world| {
            world.both_up() && world.usable() && by_backup(world) == [false, false]
        });
        assert_eq!(established(&world), 1, "{}", world.story());
    });
}

#[test]
fn a_peer_of_any_address_may_move_and_one_that_is_not_mobile_is_called_anew() {
    let mut world = roaming(1, wire(), |n, config| {
        if n == 1 {
            config.remote = Remote::Any;
        }
    });
    let children = [world.nodes[0].active, world.nodes[1].active];
    world.wan(0, false);
    world.run(secs(3));
    nothing_but_moved(&world, children);

    let mut world = roaming(1, wire(), |n, config| {
        config.mobike = n == 0;
        if n == 1 {
            config.remote = Remote::Any;
        }
    });
    world.wan(0, false);
    world.expect("two round trips", millis(41), |world| world.both_up() && world.usable());
    assert_eq!(established(&world), 2, "{}", world.story());
}

#[test]
fn a_call_without_an_answer_goes_over_the_next_link_next_time() {
    let mut world = World::new(1, wire());
    world.net.cut(world.link);
    world.backup_wan(true);
    world.start(|n, config| match n {
        0 => config.backup_wans = vec![backup_wan()],
        _ => (config.remote, config.role) = (Remote::Any, Role::RespondOnly),
    });
    world.expect("up after one attempt", secs(17), World::converged);
    assert_eq!(by_backup(&world), [true, true]);
}

#[test]
fn only_who_has_the_keys_can_move_a_peer() {
    let mut world = roaming(1, wire(), |_, _| {});
    world.run(secs(20));
    let heard = world.nodes[1].heard.clone();
    // Every message so far once more, from elsewhere.
    for (path, bytes) in heard {
        let path = ike_core::Path { remote: "198.51.100.66:4500".parse().unwrap(), ..path };
        world.input(1, Input::Datagram { path, bytes });
    }
    world.run(secs(20));
    assert_eq!(by_backup(&world), [false, false]);
    assert_eq!(world.count(1, |event| matches!(event, Event::PeerMoved { .. })), 0);
    assert!(world.converged());
}
