//! Further key exchanges with ML-KEM, in IKE_INTERMEDIATE and IKE_FOLLOWUP_KE (RFC 9242, RFC 9370).

mod world;

use ike_core::{ConnectionConfig, Event, Input, Lifetime, Role};
use ike_wire::{ExchangeType, Header};
use simnet::{Profile, for_each_seed};
use world::{
    World, millis,
    pki::Authority,
    rekeys::{always_usable, simultaneous},
    secs, tunnel,
};

const IKE: &str = "aes256gcm16-prfsha384-x25519-ke1_mlkem768";
const ESP: &str = "aes256gcm16-x25519-ke1_mlkem768";

/// Both ends speak these and nothing else.
fn suites(ike: &'static str, esp: &'static str) -> impl Fn(usize, &mut ConnectionConfig) {
    move |_, config| {
        config.ike_proposals = vec![ike.parse().unwrap()];
        config.esp_proposals = vec![esp.parse().unwrap()];
    }
}

/// The suite that an end says its IKE SA has.
fn ike_suite(world: &World, n: usize) -> String {
    let mut suites = world.nodes[n].events.iter().filter_map(|event| match event {
        Event::IkeEstablished { suite, .. } => Some(suite.clone()),
        _ => None,
    });
    suites.next_back().unwrap_or_default()
}

fn child_suites(world: &World, n: usize) -> Vec<String> {
    let suites = world.nodes[n].events.iter().filter_map(|event| match event {
        Event::ChildInstalled { suite, .. } => Some(suite.clone()),
        _ => None,
    });
    suites.collect()
}

/// How many messages of a kind were handed to an end.
fn heard(world: &World, n: usize, exchange: ExchangeType) -> usize {
    let kinds = world.nodes[n].heard.iter().filter_map(|(_, bytes)| Header::parse(bytes).ok());
    kinds.filter(|(header, _)| header.exchange == exchange).count()
}

#[test]
fn a_tunnel_comes_up_in_three_round_trips() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), suites(IKE, ESP));
    world.expect("both up", millis(61), World::converged);
    assert_eq!([0, 1].map(|n| ike_suite(&world, n)), [IKE; 2]);
    // An encapsulation key of 1184 octets does not fit beside the rest in 1220: two fragments there, one back.
    assert_eq!(heard(&world, 1, ExchangeType::IkeIntermediate), 2);
    assert_eq!(heard(&world, 0, ExchangeType::IkeIntermediate), 1);
}

#[test]
fn several_key_exchanges_follow_each_other() {
    let ike = "aes256-sha512-prfsha384-ecp384-ke1_mlkem1024-ke2_x25519-ke4_mlkem768";
    let mut world = World::pair(1, Profile::default().delay(millis(10)), suites(ike, ESP));
    world.expect("both up", millis(101), World::converged);
    assert_eq!([0, 1].map(|n| ike_suite(&world, n)), [ike; 2]);
}

#[test]
fn a_tunnel_comes_up_over_a_bad_line() {
    for_each_seed(60, |seed| {
        let mut world = World::pair(seed, Profile::lossy(), suites(IKE, ESP));
        world.expect("converged", secs(60), World::converged);
    });
}

#[test]
fn certificates_sign_the_intermediate_exchanges_too() {
    let authority = Authority::new("Example CA");
    let credentials = [0, 1].map(|n| authority.issue(&format!("edge{n}.example.net"), (2026, 2027)));
    for_each_seed(20, |seed| {
        let settings = ike_core::EngineConfig { fragment_octets: 300, ..Default::default() };
        let mut world = World::with_settings(seed, Profile::lossy(), settings);
        world.start(|n, config| {
            suites(IKE, ESP)(n, config);
            config.local_credential = credentials[n].clone();
            config.remote_credential = authority.trust();
        });
        world.expect("converged", secs(60), World::converged);
    });
}

#[test]
fn both_may_call_at_once_and_one_sa_remains() {
    for_each_seed(30, |seed| {
        let mut world = World::pair(seed, Profile::lossy(), |n, config| {
            suites(IKE, ESP)(n, config);
            config.role = Role::Initiate;
        });
        world.expect("both up", secs(60), |world| world.both_up() && world.usable());
        world.run(secs(60));
        assert!(world.converged(), "{}", world.story());
    });
}

/// The first suite that both have is taken, whoever calls, and nobody speaks of IKE_INTERMEDIATE to one who cannot.
#[test]
fn a_peer_without_it_gets_the_next_suite() {
    for able in 0..2 {
        let mut world = World::pair(1, Profile::default().delay(millis(10)), |n, config| {
            let plain = "aes256gcm16-prfsha384-x25519".parse().unwrap();
            let plain_child = "aes256gcm16-x25519".parse().unwrap();
            config.ike_proposals = vec![plain];
            config.esp_proposals = vec![plain_child];
            if n == able {
                config.ike_proposals.insert(0, IKE.parse().unwrap());
                config.esp_proposals.insert(0, ESP.parse().unwrap());
            }
        });
        world.expect("both up", millis(41), World::converged);
        assert_eq!([0, 1].map(|n| ike_suite(&world, n)), ["aes256gcm16-prfsha384-x25519"; 2]);
        world.input(able, Input::Rekey { tunnel: tunnel(), ike: false });
        world.run(secs(10));
        assert_eq!(child_suites(&world, 0).last().unwrap(), "aes256gcm16-x25519-esn");
        assert_eq!(heard(&world, 0, ExchangeType::IkeFollowupKe) + heard(&world, 1, ExchangeType::IkeFollowupKe), 0);
    }
}

#[test]
fn an_end_that_insists_refuses_a_peer_that_cannot() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), |n, config| {
        let ike = if n == 0 { IKE } else { "aes256gcm16-prfsha384-x25519" };
        config.ike_proposals = vec![ike.parse().unwrap()];
    });
    world.run(secs(5));
    assert!(!world.nodes[0].up && !world.nodes[1].up);
    let refused =
        |event: &Event| matches!(event, Event::Refused { why, .. } if why.to_string().contains("ke1_mlkem768"));
    assert!(world.count(0, refused) >= 1 && world.count(1, refused) >= 1, "{}", world.story());
}

#[test]
fn rekeys_of_both_kinds_have_their_own_exchanges() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), suites(IKE, ESP));
    world.expect("both up", secs(1), World::converged);
    world.traffic = true;
    world.invariant = Some(always_usable);
    for (ike, caller) in [(false, 0), (false, 1), (true, 0), (true, 1), (false, 0)] {
        let before = [0, 1].map(|n| heard(&world, n, ExchangeType::IkeFollowupKe));
        world.input(caller, Input::Rekey { tunnel: tunnel(), ike });
        world.run(secs(10));
        assert!(world.converged(), "{}", world.story());
        for (n, before) in before.into_iter().enumerate() {
            assert!(heard(&world, n, ExchangeType::IkeFollowupKe) > before, "end {n}, ike {ike}");
        }
    }
    assert_eq!(world.count(0, |event| matches!(event, Event::IkeRekeyed { .. })), 2);
    assert_eq!(child_suites(&world, 1).last().unwrap(), "aes256gcm16-x25519-ke1_mlkem768-esn");
    assert_eq!(world.nodes[0].sent, world.nodes[1].received, "nothing was lost");
}

/// Child and IKE SA live only so long, so that there are many rekeys.
fn short_lived(child: u64, ike: u64) -> impl Fn(usize, &mut ConnectionConfig) {
    move |n, config| {
        suites(IKE, ESP)(n, config);
        let lifetime = |rekey: u64| Lifetime { rekey: secs(rekey), hard: secs(rekey * 8), jitter: secs(rekey) / 4 };
        config.child_lifetime = lifetime(child);
        config.ike_lifetime = lifetime(ike);
    }
}

#[test]
fn both_kinds_collide_over_a_bad_line() {
    for_each_seed(40, |seed| {
        let mut world = World::pair(seed, Profile::lossy(), short_lived(9, 14));
        world.expect("both up", secs(60), World::converged);
        world.traffic = true;
        world.invariant = Some(always_usable);
        world.run(secs(180));
        assert!(world.both_up(), "{}", world.story());
        for n in 0..2 {
            assert_eq!(world.nodes[n].unknown, 0, "data came for an SPI that was gone\n{}", world.story());
            assert!(world.nodes[n].inbound.len() <= 8, "pairs pile up\n{}", world.story());
            let children = world.count(n, |event| matches!(event, Event::ChildInstalled { replaces: Some(_), .. }));
            let ikes = world.count(n, |event| matches!(event, Event::IkeRekeyed { .. }));
            assert!(children >= 4 && ikes >= 3, "{children} and {ikes} rekeys in 180 s\n{}", world.story());
        }
    });
}

#[test]
fn simultaneous_child_rekeys_leave_one_pair() {
    simultaneous(Profile::default().delay(millis(10)), false, suites(IKE, ESP));
    simultaneous(Profile::lossy(), false, suites(IKE, ESP));
}

#[test]
fn simultaneous_ike_rekeys_leave_one_sa() {
    simultaneous(Profile::default().delay(millis(10)), true, suites(IKE, ESP));
    simultaneous(Profile::lossy(), true, suites(IKE, ESP));
}

/// Every message that was heard comes again, from everybody, in an established tunnel and in the middle of one being made.
#[test]
fn replayed_and_misplaced_messages_do_no_harm() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), suites(IKE, ESP));
    world.expect("the exchange is under way", secs(1), |world| heard(world, 1, ExchangeType::IkeIntermediate) > 0);
    for n in 0..2 {
        for (path, bytes) in world.nodes[n].heard.clone() {
            world.input(n, Input::Datagram { path: path.clone(), bytes: bytes.clone() });
            // As if it were of another exchange, and changed within.
            for kind in [35, 36, 37, 43, 44] {
                let mut other = bytes.to_vec();
                other[18] = kind;
                world.input(n, Input::Datagram { path: path.clone(), bytes: other.into() });
            }
            let mut forged = bytes.to_vec();
            let last = forged.len() - 1;
            forged[last] ^= 1;
            world.input(n, Input::Datagram { path, bytes: forged.into() });
        }
    }
    world.expect("both up", secs(10), World::converged);
    world.traffic = true;
    world.invariant = Some(always_usable);
    world.input(0, Input::Rekey { tunnel: tunnel(), ike: false });
    world.run(secs(5));
    for n in 0..2 {
        for (path, bytes) in world.nodes[n].heard.clone() {
            world.input(n, Input::Datagram { path, bytes });
        }
    }
    world.run(secs(10));
    assert!(world.converged(), "{}", world.story());
}
