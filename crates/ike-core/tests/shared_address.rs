//! A tunnel whose local address routers share: it is there while the link has that address.

mod world;

use std::net::IpAddr;

use ike_core::{DownCause, Input, Remote, Role};
use simnet::Profile;
use world::{World, address, config, millis, secs, wan};

/// The address that is this router's alone.
const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 77));

/// Node 0 is bound to the address that its peer knows, and has its own one only.
fn standing_by(remote: Remote) -> World {
    let mut world = World::new(1, Profile::default().delay(millis(10)));
    for n in 0..2 {
        let mut config = config(n);
        if n == 0 {
            (config.local_address, config.remote) = (Some(address(0)), remote);
            if remote == Remote::Any {
                config.role = Role::RespondOnly;
            }
        }
        world.reconfigure(n, config);
    }
    world.wan(1, true);
    hold(&mut world, false);
    world
}

fn hold(world: &mut World, holds: bool) {
    let addresses = std::iter::once(OWN).chain(holds.then(|| address(0))).collect();
    world.input(0, Input::Wan { wan: wan(), addresses });
}

#[test]
fn who_has_not_the_address_says_nothing_and_says_why() {
    let mut world = standing_by(Remote::Address(address(1)));
    world.run(secs(60));
    assert!(world.nodes[0].said.is_none() && world.nodes[1].heard.is_empty(), "{}", world.story());
    assert_eq!(world.nodes[0].causes.last(), Some(&DownCause::AddressAway(address(0))));
    let text = world.nodes[0].causes.last().map(ToString::to_string);
    assert_eq!(text.as_deref(), Some("192.0.2.1 is not on the WAN link"));
    let waits = standing_by(Remote::Any);
    assert_eq!(waits.nodes[0].causes.last(), Some(&DownCause::AddressAway(address(0))));
}

#[test]
fn whoever_gets_the_address_calls_at_once_and_the_peer_drops_what_it_had() {
    let mut world = standing_by(Remote::Address(address(1)));
    hold(&mut world, true);
    world.expect("two round trips later", millis(41), World::converged);
    // Another router of the same name takes over: it knows nothing of the first one's SAs.
    world.restart(0);
    hold(&mut world, false);
    world.run(secs(1));
    hold(&mut world, true);
    world.expect("the peer has the new SA", millis(61), |world| world.both_up() && world.usable());
    world.expect("and no other", secs(6), World::converged);
}

#[test]
fn an_answer_that_goes_to_the_router_before_is_soon_asked_for_again() {
    let mut world = standing_by(Remote::Address(address(1)));
    world.lost = Some(|world, n, _| n == 0 && world.net.elapsed() < millis(25));
    hold(&mut world, true);
    world.expect("one more message and two round trips later", millis(91), World::converged);
}

#[test]
fn who_loses_the_address_drops_its_keys_without_a_word() {
    let mut world = standing_by(Remote::Address(address(1)));
    hold(&mut world, true);
    world.expect("up", secs(1), World::converged);
    world.run(secs(1));
    let heard = world.nodes[1].heard.len();
    hold(&mut world, false);
    assert!(!world.nodes[0].up && world.nodes[0].inbound.is_empty(), "{}", world.story());
    world.run(secs(3));
    assert_eq!(world.nodes[1].heard.len(), heard, "{}", world.story());
    assert_eq!(world.nodes[0].causes.last(), Some(&DownCause::AddressAway(address(0))));
    // The link itself may be gone as well, and come back without the address.
    hold(&mut world, true);
    world.expect("up again", secs(1), |world| world.both_up() && world.usable());
    world.wan(0, false);
    assert_eq!(world.nodes[0].causes.last(), Some(&DownCause::LinkDown));
    hold(&mut world, false);
    assert!(world.nodes[0].inbound.is_empty(), "{}", world.story());
}
