//! Trust that changes while tunnels are up or coming up: revocation, responders, new certificates, other authorities.

mod world;

use std::{collections::BTreeMap, sync::Arc};

use ike_core::{DownCause, Event, Input, Refusal, Role};
use ike_crypto::{
    AuthError, ChainError, RevocationPolicy, Revocations,
    pki::{CertificateStatus, Heard, StatusAnswer},
};
use simnet::{Profile, for_each_seed};
use world::{TODAY, World, config, millis, pki::Authority, secs};

/// Serial numbers of the two ends' certificates.
const SERIALS: [u64; 2] = [10, 11];

/// Each end has a certificate; both trust under this policy.
fn pair(seed: u64, profile: Profile, authority: &Authority, revocation: RevocationPolicy, responder: bool) -> World {
    let credentials =
        [0, 1].map(|n| authority.issue_numbered(&format!("edge{n}.example.net"), (2026, 2027), SERIALS[n]));
    World::pair(seed, profile, |n, config| {
        config.local_credential = credentials[n].clone();
        config.remote_credential = authority.trust_under(revocation, responder);
    })
}

/// The responder's answers to everything that was asked at this end reach it.
fn answer(world: &mut World, n: usize, heard: Heard) {
    let answers = world.nodes[n].asked.iter().map(|query| (query.key(), heard)).collect();
    world.input(n, Input::Revocations(Arc::new(Revocations::new(Vec::new(), answers))));
}

fn says(status: CertificateStatus) -> Heard {
    Heard::Answer(StatusAnswer { status, this_update: TODAY - secs(60), next_update: TODAY + secs(3600) })
}

fn revoked_at(world: &World, n: usize) -> bool {
    world.nodes[n].causes.iter().any(|cause| {
        matches!(cause, DownCause::Refused(Refusal::Peer(AuthError::Certificate(ChainError::Revoked { .. }))))
    })
}

#[test]
fn under_the_strict_policy_both_ends_wait_for_their_responders() {
    let authority = Authority::new("Example CA");
    for_each_seed(20, |seed| {
        let mut world = pair(seed, Profile::lossy(), &authority, RevocationPolicy::Strict, true);
        // The one that is called is asked first: it has the caller's certificate.
        world.expect("a question at the called end", secs(30), |world| !world.nodes[1].asked.is_empty());
        world.run(secs(1));
        assert!(!world.nodes[0].up && !world.nodes[1].up && world.nodes[0].asked.is_empty());
        answer(&mut world, 1, says(CertificateStatus::Good));
        world.expect("a question at the calling end", secs(30), |world| !world.nodes[0].asked.is_empty());
        assert!(!world.nodes[0].up, "{}", world.story());
        answer(&mut world, 0, says(CertificateStatus::Good));
        world.expect("converged", secs(30), World::converged);
    });
}

#[test]
fn a_responder_that_says_revoked_or_nothing_ends_the_handshake_at_either_end() {
    let authority = Authority::new("Example CA");
    let silent = Heard::Nothing { until: TODAY + secs(3600) };
    for (refuses, heard) in [0, 1]
        .into_iter()
        .flat_map(|n| [says(CertificateStatus::Revoked { at: TODAY }), silent].map(|heard| (n, heard)))
    {
        let profile = Profile::default().delay(millis(10));
        let mut world = pair(1, profile, &authority, RevocationPolicy::Strict, true);
        world.expect("a question", secs(5), |world| !world.nodes[1].asked.is_empty());
        if refuses == 0 {
            answer(&mut world, 1, says(CertificateStatus::Good));
            world.expect("a question", secs(5), |world| !world.nodes[0].asked.is_empty());
        }
        answer(&mut world, refuses, heard);
        world.run(secs(3));
        let refused = world.count(refuses, |event| {
            let Event::Refused { why: Refusal::Peer(AuthError::Certificate(why)), .. } = event else { return false };
            match heard {
                Heard::Answer(_) => matches!(why, ChainError::Revoked { .. }),
                Heard::Nothing { .. } => matches!(why, ChainError::StatusUnknown { .. }),
            }
        });
        assert!(refused > 0 && !world.nodes[0].up && !world.nodes[1].up, "{}", world.story());
    }
}

#[test]
fn nobody_waits_for_ever() {
    let authority = Authority::new("Example CA");
    let mut world = pair(1, Profile::default().delay(millis(10)), &authority, RevocationPolicy::Strict, true);
    world.expect("a question", secs(5), |world| !world.nodes[1].asked.is_empty());
    answer(&mut world, 1, says(CertificateStatus::Good));
    world.expect("a question", secs(5), |world| !world.nodes[0].asked.is_empty());
    world.expect("the caller gives up", secs(20), |world| {
        world.count(0, |event| {
            matches!(
                event,
                Event::Refused { why: Refusal::Peer(AuthError::Certificate(ChainError::StatusUnknown { .. })), .. }
            )
        }) > 0
    });
    world.expect("the called end is told", secs(5), |world| !world.nodes[1].up);
}

#[test]
fn under_the_relaxed_policy_nobody_waits_and_a_revocation_closes_what_is_up() {
    let authority = Authority::new("Example CA");
    for n in [0, 1] {
        let profile = Profile::default().delay(millis(10));
        let mut world = pair(1, profile, &authority, RevocationPolicy::Relaxed, true);
        world.expect("up without an answer", millis(41), World::converged);
        assert_eq!(world.nodes.each_ref().map(|node| node.asked.len()), [1, 1]);
        answer(&mut world, n, says(CertificateStatus::Good));
        assert!(world.nodes[n].up);
        answer(&mut world, n, says(CertificateStatus::Revoked { at: TODAY }));
        assert!(!world.nodes[n].up && revoked_at(&world, n), "{}", world.story());
        world.expect("the other end is told", secs(1), |world| !world.nodes[1 - n].up);
        world.run(secs(60));
        assert!(!world.nodes[0].up && !world.nodes[1].up, "{}", world.story());
    }
}

#[test]
fn a_new_list_closes_the_tunnels_of_whom_it_takes_back_and_of_nobody_else() {
    let authority = Authority::new("Example CA");
    let mut world = pair(1, Profile::default(), &authority, RevocationPolicy::Relaxed, false);
    world.expect("converged", secs(5), World::converged);
    let take_back = |serials: &[u64]| {
        Input::Revocations(Arc::new(Revocations::new(vec![authority.list(serials)], BTreeMap::new())))
    };
    world.input(0, take_back(&[SERIALS[0], 99]));
    assert!(world.nodes[0].up, "our own certificate is the peer's business\n{}", world.story());
    world.input(0, take_back(&[SERIALS[1]]));
    assert!(!world.nodes[0].up && revoked_at(&world, 0), "{}", world.story());
}

#[test]
fn new_certificates_replace_old_ones_without_a_word_to_the_peer() {
    let authority = Authority::new("Example CA");
    let mut world = pair(1, Profile::default().delay(millis(10)), &authority, RevocationPolicy::Relaxed, false);
    world.expect("converged", secs(5), World::converged);
    let pairs = [0, 1].map(|n| world.nodes[n].inbound.keys().copied().collect::<Vec<_>>());
    for n in [0, 1] {
        let mut renewed = config(n);
        renewed.local_credential =
            authority.issue_numbered(&format!("edge{n}.example.net"), (2026, 2028), 20 + SERIALS[n]);
        renewed.remote_credential = authority.trust_under(RevocationPolicy::Relaxed, false);
        world.reconfigure(n, renewed);
    }
    world.run(secs(60));
    assert_eq!([0, 1].map(|n| world.nodes[n].inbound.keys().copied().collect::<Vec<_>>()), pairs);
    assert!(world.converged() && world.nodes[0].causes.len() == 2, "{}", world.story());
    // The next handshake is by the new one: the old one may be taken back by then.
    let old = Arc::new(Revocations::new(vec![authority.list(&SERIALS)], BTreeMap::new()));
    world.restart(0);
    world.input(0, Input::Revocations(old.clone()));
    world.expect("converged", secs(60), World::converged);
    world.input(1, Input::Revocations(old));
    world.run(secs(5));
    assert!(world.converged(), "{}", world.story());
}

#[test]
fn an_authority_that_is_trusted_no_more_takes_its_tunnels_with_it() {
    let (authority, other) = (Authority::new("Example CA"), Authority::new("Other CA"));
    let mut world = pair(1, Profile::default(), &authority, RevocationPolicy::Relaxed, false);
    world.expect("converged", secs(5), World::converged);
    let mut distrusting = config(1);
    distrusting.local_credential = authority.issue_numbered("edge1.example.net", (2026, 2027), SERIALS[1]);
    distrusting.remote_credential = other.trust();
    distrusting.role = Role::RespondOnly;
    world.reconfigure(1, distrusting);
    let distrusted = |cause: &DownCause| {
        matches!(cause, DownCause::Refused(Refusal::Peer(AuthError::Certificate(ChainError::UntrustedIssuer { .. }))))
    };
    assert!(!world.nodes[1].up && world.nodes[1].causes.iter().any(distrusted), "{}", world.story());
    world.expect("the other end is told", secs(1), |world| !world.nodes[0].up);
}

/// A peer that is looked at under a responder's policy is asked about as long as nothing has been heard of it: the
/// questions count the looks.
#[test]
fn only_peers_whom_a_change_concerns_are_looked_at_again() {
    let (authority, other) = (Authority::new("Example CA"), Authority::new("Other CA"));
    let mut world = pair(1, Profile::default(), &authority, RevocationPolicy::Relaxed, true);
    world.expect("converged", secs(5), World::converged);
    let mut foreign = pair(2, Profile::default(), &other, RevocationPolicy::Relaxed, true);
    foreign.expect("converged", secs(5), World::converged);
    let foreign = foreign.nodes[0].asked[0].key();
    let looks = |world: &World| world.nodes[0].asked.len();
    let publish = |world: &mut World, lists: Vec<_>, answers: &[_]| {
        let answers = answers.iter().copied().collect();
        world.input(0, Input::Revocations(Arc::new(Revocations::new(lists, answers))));
        world.run(secs(1));
    };
    assert_eq!(looks(&world), 1, "at the handshake");
    publish(&mut world, vec![], &[]);
    assert_eq!(looks(&world), 1, "nothing changed");
    let lists = vec![other.list(&[1, 2]), authority.list(&[77])];
    publish(&mut world, lists.clone(), &[]);
    assert_eq!(looks(&world), 2, "its authority has a list");
    for round in 0..50u64 {
        // Another authority's list, and what a responder says of a certificate of it.
        let mut lists = lists.clone();
        lists[0] = other.list(&[round]);
        let heard = Heard::Nothing { until: TODAY + secs(round) };
        publish(&mut world, lists, &[(foreign, heard)]);
    }
    assert_eq!(looks(&world), 2, "others are of no concern");
    publish(&mut world, vec![lists[0].clone(), authority.list(&[77, 78])], &[]);
    assert_eq!(looks(&world), 3, "the list of its authority is another one");
    publish(&mut world, vec![lists[0].clone()], &[]);
    assert_eq!(looks(&world), 4, "it is gone");
    let key = world.nodes[0].asked[0].key();
    publish(&mut world, vec![], &[(key, Heard::Nothing { until: TODAY - secs(1) })]);
    assert_eq!(looks(&world), 5, "its responder was asked in vain");
    publish(&mut world, vec![], &[(key, says(CertificateStatus::Revoked { at: TODAY }))]);
    assert!(!world.nodes[0].up && revoked_at(&world, 0), "{}", world.story());
}
