//! Postquantum preshared keys (RFC 8784): both have it, one has it, they differ, somebody insists.

mod world;

use ike_core::{ConnectionConfig, Event, Input};
use ike_crypto::{Ppk, SecretBytes};
use simnet::{Profile, for_each_seed};
use world::{World, millis, pki::Authority, secs, tunnel};

fn ppk(name: &str, key: &str, required: bool) -> Option<Ppk> {
    Some(Ppk::new(name, SecretBytes::from(key.as_bytes().to_vec()), required).unwrap())
}

fn pair(change: impl Fn(usize, &mut ConnectionConfig)) -> World {
    World::pair(1, Profile::default().delay(millis(10)), change)
}

#[test]
fn a_tunnel_comes_up_with_it_and_is_rekeyed() {
    for required in [false, true] {
        let mut world = pair(|_, config| config.ppk = ppk("site 7", "a key from a safe place", required));
        world.expect("both up", millis(41), World::converged);
        world.traffic = true;
        for ike in [false, true, false] {
            world.input(0, Input::Rekey { tunnel: tunnel(), ike });
            world.run(secs(10));
        }
        assert!(world.converged(), "{}", world.story());
    }
}

#[test]
fn it_goes_with_certificates_further_key_exchanges_and_bad_lines() {
    let authority = Authority::new("Example CA");
    let credentials = [0, 1].map(|n| authority.issue(&format!("edge{n}.example.net"), (2026, 2027)));
    for_each_seed(20, |seed| {
        let mut world = World::pair(seed, Profile::lossy(), |n, config| {
            config.local_credential = credentials[n].clone();
            config.remote_credential = authority.trust();
            config.ppk = ppk("site 7", "a key from a safe place", true);
            config.ike_proposals = vec!["aes256gcm16-prfsha384-x25519-ke1_mlkem768".parse().unwrap()];
        });
        world.expect("converged", secs(60), World::converged);
    });
}

/// The keys really differ: another key under the same name is no proof.
#[test]
fn another_key_under_the_same_name_is_refused() {
    for optional in [true, false] {
        let mut world = pair(|n, config| {
            config.ppk = ppk("site 7", if n == 0 { "one" } else { "another" }, !optional);
        });
        world.run(secs(5));
        assert!(!world.nodes[0].up && !world.nodes[1].up, "{}", world.story());
    }
}

#[test]
fn who_does_not_insist_goes_without_where_the_other_has_none_or_another_one() {
    for other in [None, ppk("site 8", "another", false)] {
        for able in 0..2 {
            let mut world = pair(|n, config| {
                config.ppk = if n == able { ppk("site 7", "one", false) } else { other.clone() };
            });
            world.expect("both up", millis(41), World::converged);
        }
    }
}

#[test]
fn who_insists_refuses_a_peer_without_it_and_says_so() {
    for insists in 0..2 {
        let mut world = pair(|n, config| {
            config.ppk = if n == insists { ppk("site 7", "one", true) } else { None };
        });
        world.run(secs(5));
        assert!(!world.nodes[0].up && !world.nodes[1].up, "{}", world.story());
        let said = |event: &Event| matches!(event, Event::Refused { why, .. } if why.to_string().contains("postquantum preshared key"));
        assert!(world.count(insists, said) >= 1, "{}", world.story());
    }
    let mut world = pair(|n, config| config.ppk = ppk(if n == 0 { "site 7" } else { "site 8" }, "one", n == 1));
    world.run(secs(5));
    assert!(!world.nodes[0].up, "a key of another name is not the one insisted on\n{}", world.story());
}
