//! Peers that die, links that are cut, operators who interfere: what is noticed, how soon, and the way back.

mod world;

use ike_core::{ConnectionConfig, Doubt, DownCause, Dpd, EngineConfig, Event, Input, Path, Remote, Role};
use ike_wire::{Flags, Header, Message, Notify, NotifyType, Payload};
use simnet::{Profile, for_each_seed};
use world::{World, config, millis, secs, tunnel, wan};

fn wire() -> Profile {
    Profile::default().delay(millis(10))
}

fn fast_dpd(_: usize, config: &mut ConnectionConfig) {
    config.dpd = Dpd { doubt: Doubt::Silence, interval: millis(500), timeout: millis(1500) };
}

fn up(profile: Profile, seed: u64, change: impl Fn(usize, &mut ConnectionConfig)) -> World {
    let mut world = World::pair(seed, profile, change);
    world.expect("both up", secs(60), World::converged);
    world
}

fn established(world: &World, n: usize) -> usize {
    world.count(n, |event| matches!(event, Event::IkeEstablished { .. }))
}

#[test]
fn a_silent_peer_is_dead_within_interval_and_timeout() {
    let mut world = up(wire(), 1, fast_dpd);
    world.run(secs(3));
    world.net.cut(world.link);
    world.expect("both ends notice", millis(2_100), |world| !world.nodes[0].up && !world.nodes[1].up);
    for node in &world.nodes {
        assert!(matches!(node.causes.last(), Some(DownCause::DpdTimeout { .. })), "{:?}", node.causes);
        assert!(node.inbound.is_empty(), "nothing is left in the dataplane");
    }
}

#[test]
fn a_dead_peer_can_be_noticed_within_a_second() {
    let mut world = up(wire(), 1, |_, config| {
        config.dpd = Dpd { doubt: Doubt::Silence, interval: millis(200), timeout: millis(600) }
    });
    world.traffic = true;
    world.run(secs(3));
    assert!(world.converged());
    world.net.cut(world.link);
    world.expect("both ends notice", millis(900), |world| !world.nodes[0].up && !world.nodes[1].up);
    world.net.mend(world.link);
    world.expect("and are back", secs(2), |world| world.both_up() && world.usable());
}

#[test]
fn a_peer_whose_data_flows_is_not_asked() {
    let mut world = up(wire(), 1, fast_dpd);
    world.traffic = true;
    world.run(secs(1));
    let before = world.nodes.each_ref().map(|node| node.heard.len());
    world.run(secs(60));
    assert_eq!(world.nodes.each_ref().map(|node| node.heard.len()), before, "IKE is silent while ESP flows");
}

#[test]
fn after_a_partition_the_tunnel_comes_back_by_itself() {
    for_each_seed(40, |seed| {
        let mut world = up(Profile::lossy(), seed, |_, config| {
            config.dpd = Dpd { doubt: Doubt::Silence, interval: secs(2), timeout: secs(10) };
            if seed % 2 == 0 {
                config.role = Role::Initiate;
            }
        });
        world.net.cut(world.link);
        world.run(secs(40));
        assert!(!world.nodes[0].up && !world.nodes[1].up, "{}", world.story());
        world.net.mend(world.link);
        world.expect("back within seconds", secs(25), |world| world.both_up() && world.usable());
        world.run(secs(60));
        assert!(world.converged(), "{}", world.story());
    });
}

#[test]
fn a_short_partition_is_outlived() {
    for_each_seed(20, |seed| {
        let mut world = up(wire(), seed, |_, _| {});
        let before = established(&world, 0);
        world.net.cut(world.link);
        world.run(secs(8));
        world.net.mend(world.link);
        world.run(secs(30));
        assert!(world.converged(), "{}", world.story());
        assert_eq!(established(&world, 0), before, "the same SA goes on");
    });
}

#[test]
fn a_peer_that_restarts_and_calls_is_back_at_once() {
    for_each_seed(40, |seed| {
        let mut world = up(Profile::lossy(), seed, |_, config| config.role = Role::Initiate);
        world.run(secs(30));
        world.restart((seed % 2) as usize);
        world.expect("both up on the same pair", secs(30), |world| world.both_up() && world.usable());
        world.run(secs(60));
        assert!(world.converged(), "{}", world.story());
    });
}

#[test]
fn a_restarted_caller_replaces_its_old_sa_without_waiting_for_dpd() {
    let mut world = up(wire(), 1, |_, _| {});
    world.restart(0);
    world.expect("two round trips later", millis(41), |world| world.both_up() && world.usable());
    assert_eq!(world.nodes[1].causes.len(), 2, "the called end never saw the tunnel down\n{}", world.story());
    world.expect("the old pair is gone", secs(20), World::converged);
}

#[test]
fn a_restarted_responder_is_found_out_by_dpd() {
    let mut world = up(wire(), 1, fast_dpd);
    world.restart(1);
    world.expect("both up on the same pair", secs(4), |world| world.both_up() && world.usable());
}

#[test]
fn a_lost_link_is_down_at_once_and_its_return_calls_at_once() {
    let mut world = up(wire(), 1, |_, _| {});
    let before = established(&world, 0);
    world.wan(0, false);
    assert!(!world.nodes[0].up);
    assert_eq!(world.nodes[0].causes.last(), Some(&DownCause::LinkDown));
    world.run(secs(2));
    world.wan(0, true);
    world.expect("one round trip later", millis(21), World::converged);
    assert_eq!(established(&world, 0), before, "the peer still had the SA");

    // Now the peer has forgotten it meanwhile: the caller does not wait for dead peer detection.
    world.wan(0, false);
    world.restart(1);
    world.run(secs(1));
    world.wan(0, true);
    world.expect("a new SA soon", millis(1_100), |world| world.both_up() && world.usable());
}

#[test]
fn a_link_that_comes_back_with_another_address_gets_a_new_sa_at_once() {
    let mut world = up(wire(), 1, |n, config| {
        if n == 1 {
            config.remote = Remote::Any;
        }
    });
    world.nodes[0].address = "192.0.2.77".parse().unwrap();
    world.wan(0, true);
    world.expect("two round trips later", millis(41), |world| world.both_up() && world.usable());
    world.expect("the old pair is gone", secs(60), World::converged);
}

#[test]
fn terminate_tells_the_peer_and_refuses_its_calls_until_initiate() {
    for who in 0..2 {
        let mut world = up(wire(), 1, |_, config| config.role = Role::Initiate);
        world.run(secs(10));
        world.input(who, Input::Terminate(tunnel()));
        assert_eq!(world.nodes[who].causes.last(), Some(&DownCause::AdminDown));
        assert!(world.nodes[who].inbound.is_empty());
        world.expect("the peer knows", millis(11), |world| !world.nodes[1 - who].up);
        assert_eq!(world.nodes[1 - who].causes.last(), Some(&DownCause::PeerDeleted));
        world.run(secs(60));
        assert!(!world.nodes[0].up && !world.nodes[1].up, "{}", world.story());
        world.input(who, Input::Initiate(tunnel()));
        world.expect("up again", millis(41), |world| world.both_up() && world.usable());
    }
}

#[test]
fn an_end_that_only_responds_calls_once_when_the_operator_says_so() {
    let mut world = World::pair(1, wire(), |_, config| config.role = Role::RespondOnly);
    world.run(secs(5));
    assert!(!world.nodes[0].up);
    world.input(0, Input::Initiate(tunnel()));
    world.expect("up", millis(41), World::converged);
    // Nobody answers: it does not go on calling.
    let mut world = World::pair(1, wire(), |_, config| config.role = Role::RespondOnly);
    world.net.cut(world.link);
    world.input(0, Input::Initiate(tunnel()));
    world.run(secs(60));
    assert_eq!(world.count(0, |event| matches!(event, Event::Unreachable { .. })), 1);
}

#[test]
fn a_pair_deleted_by_the_peer_is_made_anew() {
    let mut world = up(wire(), 1, |_, _| {});
    let spi_in = world.nodes[1].active.unwrap();
    world.input(1, Input::ChildLimit { spi_in, hard: true });
    world.expect("the caller knows", millis(11), |world| !world.nodes[0].up);
    assert_eq!(world.nodes[0].causes.last(), Some(&DownCause::PeerDeleted));
    world.expect("a new pair on the same IKE SA", secs(1), World::converged);
    assert_eq!(established(&world, 0), 1);
}

#[test]
fn shutdown_says_goodbye_and_then_is_idle() {
    let mut world = up(wire(), 1, |_, _| {});
    world.input(0, Input::Shutdown);
    assert!(!world.nodes[0].ike.is_idle());
    world.expect("idle", secs(1), |world| world.nodes[0].ike.is_idle());
    assert_eq!(world.nodes[1].causes.last(), Some(&DownCause::PeerDeleted));
    // Towards a peer that does not answer it ends all the same.
    let mut world = up(wire(), 1, |_, _| {});
    world.net.cut(world.link);
    world.input(0, Input::Shutdown);
    world.expect("idle", secs(5), |world| world.nodes[0].ike.is_idle());
}

#[test]
fn a_peer_behind_a_nat_is_followed() {
    let mut world = World::new(1, wire());
    world.nodes[0].translated = Some("198.51.100.9:4711".parse().unwrap());
    world.start(|n, config| {
        if n == 1 {
            config.remote = Remote::Any;
        }
    });
    world.expect("both up", secs(5), World::converged);
    world.nodes[0].translated = Some("198.51.100.9:61000".parse().unwrap());
    world.run(secs(20));
    assert!(world.converged(), "{}", world.story());
    let moved = |event: &Event| matches!(event, Event::PeerMoved { to, .. } if to.port() == 61000);
    assert_eq!(world.count(1, moved), 1);
}

#[test]
fn a_peer_behind_a_nat_is_followed_by_its_data_too() {
    let mut world = World::new(1, wire());
    world.nodes[0].translated = Some("198.51.100.9:4711".parse().unwrap());
    world.start(|n, config| {
        config.mobike = false;
        if n == 1 {
            config.remote = Remote::Any;
        }
    });
    world.expect("both up", secs(5), World::converged);
    let spi_in = world.nodes[1].active.unwrap();
    let elsewhere = |world: &World, remote: &str| {
        let path = world.path_to(1);
        Input::InboundFrom { spi_in, path: Path { remote: remote.parse().unwrap(), ..path } }
    };
    let input = elsewhere(&world, "198.51.100.9:61000");
    world.input(1, input);
    assert_eq!(world.nodes[1].inbound[&spi_in].path.remote.port(), 61_000);
    // Another WAN, or one whose address is known and is not this one: not by data alone.
    let mut world = up(wire(), 1, |_, _| {});
    let spi_in = world.nodes[1].active.unwrap();
    let path = Path { remote: "198.51.100.66:4500".parse().unwrap(), ..world.path_to(1) };
    let before = world.nodes[1].inbound[&spi_in].path.clone();
    world.input(1, Input::InboundFrom { spi_in, path });
    assert_eq!(world.nodes[1].inbound[&spi_in].path, before);
}

#[test]
fn soft_changes_of_the_configuration_keep_the_sa_and_others_replace_it() {
    let mut world = up(wire(), 1, |_, _| {});
    let mut changed = config(0);
    changed.dpd = Dpd { doubt: Doubt::Silence, interval: secs(1), timeout: secs(4) };
    world.reconfigure(0, changed.clone());
    world.run(secs(5));
    assert!(world.converged() && established(&world, 0) == 1, "{}", world.story());

    changed.esp_proposals = vec!["aes256gcm16-noesn".parse().unwrap(), "aes256gcm16-x25519".parse().unwrap()];
    world.reconfigure(0, changed.clone());
    world.expect("negotiated anew", secs(10), |world| world.converged() && established(world, 0) == 2);

    changed.shutdown = true;
    world.reconfigure(0, changed.clone());
    world.run(secs(10));
    assert_eq!(world.nodes[0].causes.last(), Some(&DownCause::AdminDown));
    assert!(!world.nodes[1].up);
    changed.shutdown = false;
    world.reconfigure(0, changed);
    world.expect("up again", secs(2), |world| world.both_up() && world.usable());

    world.input(0, Input::Reconfigure(Vec::new()));
    world.run(secs(10));
    assert_eq!(world.nodes[0].causes.last(), Some(&DownCause::Reconfigured));
    assert!(world.nodes[0].inbound.is_empty() && !world.nodes[1].up);
}

/// First messages of callers that never go on, each from its own port.
fn flood(world: &mut World, count: u16) {
    let (path, first) = world.nodes[1].heard.first().cloned().expect("a call was heard");
    for n in 0..count {
        let mut bytes = first.to_vec();
        bytes[..2].copy_from_slice(&(n + 1).to_be_bytes()); // another initiator SPI
        let path = Path { remote: std::net::SocketAddr::new(path.remote.ip(), 10_000 + n), ..path.clone() };
        world.input(1, Input::Datagram { path, bytes: bytes.into() });
    }
}

#[test]
fn a_flood_of_calls_costs_cookies_and_true_callers_still_get_through() {
    let settings = EngineConfig { cookies_from: 20, half_open_max: 1000, ..EngineConfig::default() };
    let mut world = World::with_settings(1, wire(), settings);
    world.start(|_, _| {});
    world.expect("both up", secs(5), World::converged);
    world.input(0, Input::Terminate(tunnel()));
    world.run(secs(10));
    world.nodes[1].heard.truncate(1);
    flood(&mut world, 500);
    assert_eq!(world.count(1, |event| *event == Event::CookiesRequired(true)), 1);
    world.input(0, Input::Initiate(tunnel()));
    world.expect("up through the flood, with one more round trip", millis(61), |world| {
        world.both_up() && world.usable()
    });
    world.run(secs(20));
    assert_eq!(world.count(1, |event| *event == Event::CookiesRequired(false)), 1, "the half-open ones expire");
}

#[test]
fn a_cookie_that_comes_late_does_not_part_the_two_ends() {
    let mut world = World::pair(1, wire(), |n, config| {
        if n == 1 {
            config.role = Role::RespondOnly;
        }
    });
    world.expect("the call is heard", secs(1), |world| !world.nodes[1].heard.is_empty());
    // Its answer is on the way. An earlier copy of the call had been asked for a cookie, and that arrives first.
    let (path, call) = world.nodes[1].heard[0].clone();
    let header = Message::parse(&call).unwrap().header;
    let flags = Flags { initiator: false, response: true, ..header.flags };
    let cookie = vec![Payload::Notify(Notify::new(NotifyType::Cookie, [7; 20]))];
    let bytes = Message::clear(Header { flags, ..header }, cookie).emit().unwrap().into();
    world.input(0, Input::Datagram { path: Path { local: path.remote, remote: path.local, ..path }, bytes });
    world.expect("both are up, with half a round trip more", millis(60), World::converged);
    assert_eq!(world.count(1, |event| matches!(event, Event::Refused { .. })), 0, "{}", world.story());
}

#[test]
fn an_idle_engine_asks_for_nothing() {
    let mut world = up(wire(), 1, |_, _| {});
    world.input(0, Input::Wan { wan: wan(), addresses: Vec::new() });
    world.input(0, Input::Reconfigure(Vec::new()));
    world.run(secs(60));
    assert_eq!(world.nodes[0].ike.poll_timeout(), None);
}
