//! Peers that mean no good: bent copies of true messages, and a peer with the keys that says anything at any time.

#[path = "world/puppet.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod puppet;
mod world;

use std::time::Duration;

use ike_core::{Input, Path, Role};
use ike_wire::{ExchangeType, NotifyType, Payload};
use proptest::prelude::*;
use puppet::Stage;
use simnet::Profile;
use world::{World, millis, secs, tunnel};

/// A conversation with everything in it, as both ends heard it.
fn conversation() -> Vec<(usize, Path, bytes::Bytes)> {
    let mut world = World::pair(5, Profile::default().delay(millis(10)), |_, config| config.role = Role::Initiate);
    world.run(secs(20));
    for ike in [false, true, false] {
        world.input(0, Input::Rekey { tunnel: tunnel(), ike });
        world.input(1, Input::Rekey { tunnel: tunnel(), ike });
        world.run(secs(5));
    }
    world.input(0, Input::Terminate(tunnel()));
    world.run(secs(5));
    let heard = |n: usize| world.nodes[n].heard.iter().map(move |(path, bytes)| (n, path.clone(), bytes.clone()));
    heard(0).chain(heard(1)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn bent_copies_of_true_messages_change_nothing(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1u8..), 1..60),
        seed in 0u64..1000,
    ) {
        let mut world = World::pair(seed, Profile::default().delay(millis(10)), |_, _| {});
        let mut stored = conversation();
        for (at, place, change) in changes {
            // Old messages and the live session's own, one octet of each bent.
            for (n, node) in world.nodes.iter().enumerate() {
                stored.extend(node.heard.iter().rev().take(2).map(|(path, bytes)| (n, path.clone(), bytes.clone())));
            }
            let (n, path, bytes) = stored[at.index(stored.len())].clone();
            let mut bent = bytes.to_vec();
            let place = place.index(bent.len());
            bent[place] ^= change;
            let before = world.nodes[n].active;
            world.input(n, Input::Datagram { path, bytes: bent.into() });
            prop_assert!(before.is_none() || world.nodes[n].active == before, "a forgery changed the SA in use");
            world.run(millis(100));
        }
        prop_assert!(world.run_until(secs(30), World::converged), "{}", world.story());
    }

    #[test]
    fn scripts_of_a_peer_with_keys_break_nothing(script in prop::collection::vec(any::<u8>(), 0..400)) {
        puppet::play(&script);
    }

    #[test]
    fn scripts_that_begin_honestly_break_nothing(script in prop::collection::vec(any::<u8>(), 0..400)) {
        puppet::play(&[&[1, 2][..], &script].concat());
    }

    #[test]
    fn scripts_of_a_peer_that_is_called_break_nothing(script in prop::collection::vec(any::<u8>(), 0..400)) {
        puppet::play_called(&script);
        puppet::play_called(&[&[1][..], &script].concat());
        puppet::play_called(&[&[1, 2][..], &script].concat());
    }

    #[test]
    fn raw_octets_break_nothing(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let mut stage = Stage::new(3);
        for mut datagram in datagrams {
            stage.datagram(datagram.clone());
            // And with a header that leads further in.
            if datagram.len() > 28 {
                datagram[8..16].fill(0);
                datagram[17] = 0x20;
                datagram[18] = 34;
                datagram[19] = 8;
                datagram[20..24].fill(0);
                let length = datagram.len() as u32;
                datagram[24..28].copy_from_slice(&length.to_be_bytes());
                stage.datagram(datagram);
            }
        }
        prop_assert!(stage.installed.is_empty());
    }
}

#[test]
fn the_seed_scripts_of_the_fuzz_targets_break_nothing() {
    for (target, play) in [("ike_engine", puppet::play as fn(&[u8])), ("ike_caller", puppet::play_called)] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let scripts: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!scripts.is_empty(), "no scripts in {}", folder.display());
        for script in scripts {
            play(&std::fs::read(script).unwrap());
        }
    }
}

#[test]
fn a_caller_accepts_whom_it_called_and_nobody_without_proof() {
    let mut stage = Stage::calling(9);
    assert!(stage.answer_call());
    // Every exchange in place of the answer to IKE_AUTH, and the answer itself with a wrong proof.
    for exchange in [ExchangeType::CreateChildSa, ExchangeType::Informational, ExchangeType::IkeAuth] {
        let payloads = stage.auth_payloads(false);
        stage.say(exchange, true, 1, &payloads, 1200);
        stage.say(exchange, false, 0, &payloads, 1200);
        assert!(stage.installed.is_empty() && !stage.up, "{exchange}");
    }
    let mut stage = Stage::calling(9);
    assert!(stage.answer_call());
    let payloads = stage.auth_payloads(true);
    stage.say(ExchangeType::IkeAuth, true, 1, &payloads, 1200);
    assert!(stage.up && stage.installed.len() == 1, "the honest answer is accepted, or scripts lead nowhere");
}

/// A stage on which the puppet is authenticated.
fn authenticated() -> Stage {
    let mut stage = Stage::new(9);
    assert!(stage.call());
    let payloads = stage.auth_payloads(true);
    stage.say(ExchangeType::IkeAuth, false, 0, &payloads, 1200);
    assert!(stage.up && stage.installed.len() == 1);
    stage
}

#[test]
fn nothing_is_installed_without_proof() {
    let mut stage = Stage::new(9);
    assert!(stage.call());
    // Every exchange before IKE_AUTH, sealed with the right keys: they prove nothing but the key exchange.
    for exchange in [ExchangeType::CreateChildSa, ExchangeType::Informational, ExchangeType::IkeSaInit] {
        let payloads = stage.auth_payloads(true);
        stage.say(exchange, false, 0, &payloads, 1200);
        assert!(stage.installed.is_empty() && !stage.up, "{exchange}");
    }
    let mut stage = Stage::new(9);
    assert!(stage.call());
    let payloads = stage.auth_payloads(false);
    stage.say(ExchangeType::IkeAuth, false, 0, &payloads, 1200);
    assert!(stage.installed.is_empty() && !stage.up, "a wrong proof");
    let payloads = stage.auth_payloads(true);
    stage.say(ExchangeType::IkeAuth, false, 0, &payloads, 1200);
    assert!(stage.installed.is_empty() && !stage.up, "a second try on the same SA");
}

#[test]
fn a_called_peer_can_go_along_with_a_rekey() {
    for (ike, kinds) in [(false, &[21, 0, 4, 7, 8][..]), (true, &[21, 0, 4][..])] {
        let mut stage = Stage::calling(9);
        assert!(stage.answer_call());
        let payloads = stage.auth_payloads(true);
        stage.say(ExchangeType::IkeAuth, true, 1, &payloads, 1200);
        stage.input(Input::Rekey { tunnel: tunnel(), ike });
        let payloads: Vec<_> = kinds.iter().map(|kind| stage.payload(*kind, &[])).collect();
        stage.say(ExchangeType::CreateChildSa, true, 2, &payloads, 1200);
        let (pairs, census) = (stage.installed.len(), stage.ike.census());
        assert_eq!((pairs, census.established, census.leaving), if ike { (1, 1, 1) } else { (2, 1, 0) }, "ike {ike}");
    }
}

#[test]
fn an_auth_payload_that_is_missing_is_no_authentication() {
    for missing in 0..2 {
        let mut stage = Stage::new(9);
        assert!(stage.call());
        let mut payloads = stage.auth_payloads(true);
        payloads.remove(missing); // IDi, then AUTH
        stage.say(ExchangeType::IkeAuth, false, 0, &payloads, 1200);
        assert!(stage.installed.is_empty() && !stage.up);
    }
}

#[test]
fn a_shared_secret_of_zero_is_refused() {
    // RFC 6989 §2, RFC 8031 §2.1: a public value of zero makes the secret zero.
    let mut stage = authenticated();
    let payloads = [stage.payload(1, &[]), stage.payload(0, &[]), stage.payload(5, &[])]
        .into_iter()
        .chain([stage.payload(7, &[]), stage.payload(8, &[])])
        .collect::<Vec<_>>();
    stage.say(ExchangeType::CreateChildSa, false, 0, &payloads, 1200);
    assert_eq!(stage.installed.len(), 1, "no child from such a key exchange");
    assert!(stage.up, "and the IKE SA stands");
}

#[test]
fn a_peer_cannot_pile_up_children() {
    let mut stage = authenticated();
    for _ in 0..100 {
        let payloads: Vec<Payload> = [2, 0, 7, 8].map(|kind| stage.payload(kind, &[])).into();
        stage.say(ExchangeType::CreateChildSa, false, 0, &payloads, 1200);
    }
    assert_eq!(stage.installed.len(), 16, "as many as one IKE SA may have");
}

#[test] // RFC 9370 §2.2.4, RFC 9242 §3
fn key_exchanges_that_nobody_agreed_on_are_refused_without_harm() {
    let mut stage = authenticated();
    let link = Payload::Notify(ike_wire::Notify::new(NotifyType::AdditionalKeyExchange, [7; 8]));
    for (id, payloads) in [vec![], vec![link.clone()], vec![stage.payload(4, &[]), link]].into_iter().enumerate() {
        stage.say(ExchangeType::IkeFollowupKe, false, id as u32, &payloads, 1200);
        let ke = stage.payload(4, &[]);
        stage.say(ExchangeType::IkeIntermediate, false, id as u32, &[ke], 1200);
    }
    stage.wait(Duration::from_secs(1));
    assert!(stage.up && stage.installed.len() == 1, "the tunnel is as it was");
}

#[test]
fn fragments_that_never_end_hold_little() {
    let mut stage = authenticated();
    for round in 0..50u32 {
        let payloads = [stage.payload(17, &[0xc0; 63]), stage.payload(17, &[0xc0; 63])];
        // Message IDs outside the window, so that no fragment is ever used.
        stage.say(ExchangeType::Informational, false, 2 + round % 2, &payloads, 90);
    }
    assert!(stage.up);
}

#[test]
fn an_error_in_place_of_an_answer_is_survived() {
    for kind in [NotifyType::TemporaryFailure, NotifyType::NoProposalChosen, NotifyType::ChildSaNotFound] {
        let mut stage = authenticated();
        // The engine's own requests get an error as answer, whatever they were.
        for id in 0..20 {
            stage.wait(Duration::from_secs(3));
            let payloads = [Payload::Notify(ike_wire::Notify::new(kind, []))];
            for exchange in [ExchangeType::CreateChildSa, ExchangeType::Informational] {
                stage.say(exchange, true, id, &payloads, 1200);
            }
        }
    }
}
