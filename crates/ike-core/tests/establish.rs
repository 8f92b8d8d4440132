//! Establishing a tunnel: by PSK and certificates, over bad lines, and being refused for the reason that is true.

mod world;

use ike_core::{ConnectionConfig, DownCause, Event, Input, Refusal, Role};
use ike_crypto::AuthError;
use simnet::{Profile, for_each_seed};
use world::{World, config, millis, pki::Authority, psk, secs};

#[test]
fn a_tunnel_comes_up_in_two_round_trips() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), |_, _| {});
    world.expect("both up", millis(41), World::converged);
    let node = &world.nodes[0];
    let child = node.inbound.values().next().unwrap();
    assert!(child.encapsulated && child.path.natt && child.path.remote.port() == 4500);
    assert!(world.nodes[1].inbound.values().all(|child| child.encapsulated && child.path.remote.port() == 4500));
}

#[test]
fn a_tunnel_comes_up_over_a_bad_line() {
    for_each_seed(100, |seed| {
        let mut world = World::pair(seed, Profile::lossy(), |_, _| {});
        world.expect("converged", secs(60), World::converged);
    });
}

#[test]
fn both_may_call_at_once_and_one_sa_remains() {
    for profile in [Profile::default().delay(millis(10)), Profile::lossy()] {
        for_each_seed(100, |seed| {
            let mut world = World::pair(seed, profile, |_, config| config.role = Role::Initiate);
            world.expect("both up", secs(60), |world| world.both_up() && world.usable());
            world.run(secs(60));
            assert!(world.converged(), "{}", world.story());
            for n in 0..2 {
                // No flapping: it came up once and stayed up.
                assert_eq!(world.nodes[n].causes, [DownCause::LinkDown, DownCause::Starting], "{}", world.story());
            }
        });
    }
}

#[test]
fn certificates_prove_identities() {
    let authority = Authority::new("Example CA");
    let credentials = [0, 1].map(|n| authority.issue(&format!("edge{n}.example.net"), (2026, 2027)));
    for_each_seed(20, |seed| {
        let mut world = World::pair(seed, Profile::lossy().mtu(1300), |n, config| {
            config.local_credential = credentials[n].clone();
            config.remote_credential = authority.trust();
        });
        world.expect("converged", secs(60), World::converged);
    });
}

#[test]
fn long_messages_go_in_fragments() {
    let authority = Authority::new("Example CA");
    let credentials = [0, 1].map(|n| authority.issue(&format!("edge{n}.example.net"), (2026, 2027)));
    for_each_seed(30, |seed| {
        let settings = ike_core::EngineConfig { fragment_octets: 200, ..Default::default() };
        let mut world = World::with_settings(seed, Profile::lossy(), settings);
        world.start(|n, config| {
            config.local_credential = credentials[n].clone();
            config.remote_credential = authority.trust();
        });
        world.expect("converged", secs(60), World::converged);
    });
}

/// Brings a pair to its refusal and gives what each end logged about it.
fn refusals(change: impl Fn(usize, &mut ike_core::ConnectionConfig)) -> [Vec<Refusal>; 2] {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), change);
    world.run(secs(5));
    assert!(!world.nodes[0].up && !world.nodes[1].up, "the tunnel must stay down\n{}", world.story());
    [0, 1].map(|n| {
        let refused = |event: &Event| match event {
            Event::Refused { why, .. } => Some(why.clone()),
            _ => None,
        };
        let mut found: Vec<_> = world.nodes[n].events.iter().filter_map(refused).collect();
        found.dedup_by_key(|why| std::mem::discriminant(why));
        found
    })
}

#[test]
fn a_wrong_psk_is_named() {
    let [caller, called] = refusals(|n, config| {
        let (local, remote) = psk(if n == 0 { "one" } else { "other" });
        (config.local_credential, config.remote_credential) = (local, remote);
    });
    assert_eq!(caller, [Refusal::ByPeer]);
    assert!(matches!(&called[..], [Refusal::Peer(AuthError::WrongPreSharedKey(who))] if who == "edge0.example.net"));
}

#[test]
fn a_wrong_identity_is_named_by_either_side() {
    let [caller, called] = refusals(|n, config| {
        if n == 1 {
            config.remote_id = "edge9.example.net".parse().unwrap();
        }
    });
    assert_eq!(caller, [Refusal::ByPeer]);
    assert!(matches!(&called[..], [Refusal::Peer(AuthError::OtherIdentity { claimed, expected })]
        if claimed == "edge0.example.net" && expected == "edge9.example.net"));

    let [caller, called] = refusals(|n, config| {
        if n == 0 {
            config.remote_id = "edge9.example.net".parse().unwrap();
        }
    });
    assert_eq!(caller, [Refusal::ByPeer]);
    assert!(matches!(&called[..], [Refusal::UnknownPeer(what)] if what.contains("edge9.example.net")), "{called:?}");
}

#[test]
fn a_responder_that_is_somebody_else_is_told_so() {
    // The responder's certificate is for another name than it claims: only the caller can notice.
    let authority = Authority::new("Example CA");
    let [caller, called] = refusals(|n, config| {
        let name = if n == 0 { "edge0.example.net" } else { "edge7.example.net" };
        config.local_credential = authority.issue(name, (2026, 2027));
        config.remote_credential = authority.trust();
    });
    assert!(matches!(&caller[..], [Refusal::Peer(AuthError::Certificate(_))]), "{caller:?}");
    assert_eq!(called, [Refusal::ByPeer]);
}

#[test]
fn expired_and_untrusted_certificates_are_named() {
    let (authority, other) = (Authority::new("Example CA"), Authority::new("Other CA"));
    let [caller, called] = refusals(|n, config| {
        let years = if n == 0 { (2020, 2021) } else { (2026, 2027) };
        config.local_credential = authority.issue(&format!("edge{n}.example.net"), years);
        config.remote_credential = authority.trust();
    });
    assert_eq!(caller, [Refusal::ByPeer]);
    assert!(called.len() == 1 && called[0].to_string().contains("expired"), "{called:?}");

    let [caller, called] = refusals(|n, config| {
        let issuer = if n == 0 { &other } else { &authority };
        config.local_credential = issuer.issue(&format!("edge{n}.example.net"), (2026, 2027));
        config.remote_credential = authority.trust();
    });
    assert_eq!(caller, [Refusal::ByPeer]);
    assert!(called.len() == 1 && called[0].to_string().contains("leads to no trust anchor"), "{called:?}");
}

#[test]
fn a_psk_where_a_certificate_is_wanted_is_named() {
    let authority = Authority::new("Example CA");
    let [caller, called] = refusals(|n, config| {
        if n == 1 {
            config.remote_credential = authority.trust();
        }
    });
    assert_eq!(caller, [Refusal::ByPeer]);
    assert!(matches!(&called[..], [Refusal::Peer(AuthError::Method { .. })]), "{called:?}");
}

#[test]
fn no_common_proposal_is_named() {
    let [caller, called] = refusals(|n, config| {
        if n == 1 {
            config.ike_proposals = vec!["aes128gcm16-prfsha256-ecp256".parse().unwrap()];
        }
    });
    assert!(matches!(&caller[..], [Refusal::OfferRefused { what: "IKE SA", .. }]), "{caller:?}");
    assert!(matches!(&called[..], [Refusal::NoIkeProposal(_)]), "{called:?}");
}

#[test]
fn a_refused_child_leaves_the_ike_sa_and_is_retried() {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), |n, config| {
        if n == 1 {
            config.esp_proposals = vec!["chacha20poly1305".parse().unwrap()];
        }
    });
    world.run(secs(5));
    assert_eq!(world.count(0, |event| matches!(event, Event::IkeEstablished { .. })), 1);
    assert!(world.count(0, |event| matches!(event, Event::Refused { .. })) >= 2, "it is tried again");
    assert!(matches!(
        world.nodes[0].causes.last(),
        Some(DownCause::Refused(Refusal::OfferRefused { what: "child SA", .. }))
    ));
    let mut mended = config(1);
    mended.esp_proposals = vec!["chacha20poly1305".parse().unwrap(), "aes256gcm16-x25519".parse().unwrap()];
    world.reconfigure(1, mended);
    world.expect("converged after the mistake is mended", secs(60), World::converged);
}

#[test]
fn selectors_are_narrowed_to_what_both_allow() {
    let prefix = |text: &str| ike_wire::TrafficSelector::from_prefix(&text.parse().unwrap());
    let mut world = World::pair(1, Profile::default(), |n, config| {
        if n == 1 {
            config.local_ts = vec![prefix("10.1.0.0/16")];
            config.remote_ts = vec![prefix("10.2.0.0/16")];
        }
    });
    world.expect("converged", secs(1), World::converged);
    let caller = world.nodes[0].inbound.values().next().unwrap();
    assert_eq!((&caller.local_ts, &caller.remote_ts), (&vec![prefix("10.2.0.0/16")], &vec![prefix("10.1.0.0/16")]));
    let called = world.nodes[1].inbound.values().next().unwrap();
    assert_eq!((&called.local_ts, &called.remote_ts), (&vec![prefix("10.1.0.0/16")], &vec![prefix("10.2.0.0/16")]));
}

#[test]
fn another_group_is_used_when_the_responder_asks_for_it() {
    let mut world = World::pair(1, Profile::default(), |n, config| {
        config.ike_proposals = vec![if n == 0 {
            "aes256gcm16-prfsha256-x25519-ecp384".parse().unwrap()
        } else {
            "aes256gcm16-prfsha256-ecp384".parse().unwrap()
        }];
    });
    world.expect("converged", secs(1), World::converged);
}

#[test]
fn a_responder_only_end_never_calls() {
    let mut world = World::pair(1, Profile::default(), |_, config| config.role = Role::RespondOnly);
    world.run(secs(120));
    assert_eq!(world.net.counters(world.link).sent, 0);
    assert_eq!(world.nodes[0].causes, [DownCause::LinkDown, DownCause::WaitingForPeer]);
}

#[test]
fn thousands_of_tunnels_with_one_gateway_do_not_call_it_all_at_once() {
    let mut world = World::new(1, Profile::default().delay(millis(10)));
    let named = |n: usize| {
        (0..200)
            .map(|number| {
                let (ours, theirs) = (format!("n{number}.{n}.example.net"), format!("n{number}.{}.example.net", 1 - n));
                let role = if n == 0 { Role::Initiate } else { Role::RespondOnly };
                let tunnel = format!("t{number}").parse().unwrap();
                let (local_id, remote_id) = (ours.parse().unwrap(), theirs.parse().unwrap());
                ConnectionConfig { tunnel, local_id, remote_id, role, ..config(n) }
            })
            .collect::<Vec<_>>()
    };
    for n in [1, 0] {
        world.input(n, Input::Reconfigure(named(n)));
        world.wan(n, true);
    }
    assert_eq!(world.nodes[0].ike.census().calling, 64);
    world.expect("all of them", secs(10), |world| {
        assert!(world.nodes[0].ike.census().calling <= 64);
        world.nodes.iter().all(|node| node.ike.census().established == 200)
    });
    // None has waited for a retransmission: each round of 64 takes two round trips.
    assert!(world.net.elapsed() < millis(400), "{:?}", world.net.elapsed());
}
