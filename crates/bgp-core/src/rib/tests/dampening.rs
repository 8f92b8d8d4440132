//! What flaps is not used for a while (RFC 2439), and nothing else notices.

use super::*;

const fn minutes(number: u64) -> Duration {
    Duration::from_secs(60 * number)
}

/// FRR's and everybody's figures.
const USUAL: Dampening = Dampening { half_life: minutes(15), reuse: 750, suppress: 2000, max_suppress: minutes(60) };

fn bench(config: Dampening) -> Bench {
    let mut bench = Bench::new();
    bench.rib.set_dampening(V4, Some(config));
    bench
}

fn flap(bench: &mut Bench, peer: PeerId) {
    bench.hear(peer, withdraw(&["10.0.0.0/8"]));
    bench.hear(peer, announce(peer, 1, &["10.0.0.0/8"]));
}

fn known(bench: &Bench) -> Option<FlapView> {
    bench.rib.flap(bench.now, &prefix("10.0.0.0/8"), A, None)
}

fn state(bench: &Bench) -> Option<PathState> {
    let route = bench.rib.route(bench.now, &prefix("10.0.0.0/8"))?;
    route.paths.iter().find(|path| path.source == Source::Peer(A)).map(|path| path.state)
}

#[test]
fn the_ceiling_follows_from_the_longest_time() {
    assert_eq!(USUAL.ceiling(), 12_000);
    assert_eq!(Dampening { half_life: minutes(1), max_suppress: minutes(4), ..USUAL }.ceiling(), 12_000);
}

#[test]
fn the_third_withdrawal_suppresses() {
    let mut bench = bench(USUAL);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 5, &["10.0.0.0/8"]));
    for _ in 0..2 {
        flap(&mut bench, A);
        bench.pass(Duration::from_secs(1));
    }
    assert_eq!(state(&bench), Some(PathState::Best), "the first of them is not worth its 1000 any more");
    assert_eq!(known(&bench).map(|flap| (flap.penalty, flap.count)), Some((1997, 2)));
    flap(&mut bench, A);
    assert_eq!(state(&bench), Some(PathState::Damped));
}

#[test]
fn what_is_suppressed_is_told_to_nobody_until_its_penalty_has_decayed() {
    let mut bench = bench(USUAL);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(B, announce(B, 5, &["10.0.0.0/8"]));
    for _ in 0..3 {
        bench.pass(Duration::from_secs(10));
        flap(&mut bench, A);
    }
    assert_eq!(state(&bench), Some(PathState::Damped));
    assert_eq!(bench.chosen().0, Some(Source::Peer(B)), "the other path is used");
    bench.told(C);
    let left = known(&bench).unwrap();
    assert!((2950..=3000).contains(&left.penalty) && left.count == 3 && !left.withdrawn, "{left:?}");
    // 3000 halves to 750 in two half-lives.
    let reuse = left.reuse_in.unwrap();
    assert!(reuse > minutes(29) && reuse <= minutes(30) + Duration::from_secs(2), "{reuse:?}");
    assert!(bench.rib.poll_timeout().unwrap() <= bench.now + reuse, "it asks to be woken for it");
    bench.pass(reuse - Duration::from_secs(3));
    assert_eq!(state(&bench), Some(PathState::Damped));
    bench.pass(Duration::from_secs(3));
    assert_eq!(state(&bench), Some(PathState::Best));
    assert_eq!(bench.told(C), ["+10.0.0.0/8"]);
    // Half of that again, and nothing is remembered.
    bench.pass(minutes(16));
    assert!(known(&bench).is_none() && bench.rib.poll_timeout().is_none());
}

#[test]
fn no_penalty_outlasts_the_longest_time() {
    let mut bench = bench(USUAL);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    for _ in 0..100 {
        flap(&mut bench, A);
    }
    let left = known(&bench).unwrap();
    assert_eq!((left.penalty, left.count), (12_000, 100));
    assert!(left.reuse_in.unwrap() <= minutes(60) + Duration::from_secs(2));
}

#[test]
fn other_attributes_cost_half_and_the_same_again_nothing() {
    let mut bench = bench(USUAL);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    assert!(known(&bench).is_none());
    bench.hear(A, announce(A, 2, &["10.0.0.0/8"]));
    assert_eq!(known(&bench).map(|flap| flap.penalty), Some(500));
    for hops in [1, 2, 1] {
        bench.hear(A, announce(A, hops, &["10.0.0.0/8"]));
    }
    assert_eq!(state(&bench), Some(PathState::Damped), "at 2000");
}

#[test]
fn a_withdrawn_path_is_remembered_with_what_it_came_with() {
    let mut bench = bench(USUAL);
    bench.hear(A, announce(A, 3, &["10.0.0.0/8"]));
    bench.hear(A, withdraw(&["10.0.0.0/8"]));
    let left = known(&bench).unwrap();
    assert!(left.withdrawn && left.reuse_in.is_none());
    assert_eq!(left.attrs.attributes.as_path, AsPath::sequence([65101, 64001, 64002].map(Asn::literal)));
    bench.hear(A, withdraw(&["10.0.0.0/8"]));
    assert_eq!(known(&bench).unwrap().count, 1, "what is not there cannot flap");
    bench.pass(minutes(40));
    assert!(known(&bench).is_none());
    bench.changes();
    bench.told(B);
    bench.settle();
    assert_eq!((bench.remembered(), bench.rib.attribute_count()), (0, 0), "nothing is left behind");
}

#[test]
fn the_end_of_a_session_is_no_flap_and_pardons_nobody() {
    let mut bench = bench(USUAL);
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    for _ in 0..3 {
        flap(&mut bench, A);
    }
    bench.rib.peer_down(bench.now, A, Departure::Withdraw);
    bench.settle();
    assert_eq!(known(&bench).unwrap().count, 3);
    bench.rib.peer_up(bench.now, A, up(A));
    bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
    assert_eq!(state(&bench), Some(PathState::Damped));
    bench.rib.reimport(A, V4);
    bench.settle();
    assert_eq!(state(&bench), Some(PathState::Damped), "policy has no say in it");
}

#[test]
fn clearing_other_figures_and_none_let_everything_in() {
    for by in [0, 1, 2] {
        let mut bench = bench(USUAL);
        bench.hear(A, announce(A, 1, &["10.0.0.0/8"]));
        for _ in 0..3 {
            flap(&mut bench, A);
        }
        assert_eq!(state(&bench), Some(PathState::Damped));
        match by {
            0 => assert_eq!(bench.rib.clear_dampening(V4, Some(&prefix("10.0.0.0/8"))), 1),
            1 => bench.rib.set_dampening(V4, Some(Dampening { reuse: 700, ..USUAL })),
            _ => bench.rib.set_dampening(V4, None),
        }
        bench.settle();
        assert_eq!(state(&bench), Some(PathState::Best), "by {by}");
        assert!(known(&bench).is_none());
    }
}

#[test]
fn internal_peers_and_peers_that_are_gone_have_no_record() {
    let mut bench = bench(USUAL);
    let internal = PeerConfig { kind: PeerKind::Internal, ..peer_config(B) };
    bench.rib.configure_peer(B, internal);
    bench.hear(B, announce(B, 1, &["10.0.0.0/8"]));
    flap(&mut bench, B);
    assert!(bench.rib.flaps(bench.now, V4).is_empty());
    bench.hear(A, announce(A, 1, &["10.1.0.0/16"]));
    bench.hear(A, withdraw(&["10.1.0.0/16"]));
    assert_eq!(bench.rib.flaps(bench.now, V4).len(), 1);
    bench.rib.remove_peer(bench.now, A);
    bench.settle();
    assert!(bench.rib.flaps(bench.now, V4).is_empty() && bench.rib.poll_timeout().is_none());
}
