//! Exchanges that collide, row by row (RFC 7296 §2.25.1, §2.25.2), and rekeys that do (§2.8.1, §2.8.2).
//!
//! What an end answers while it is busy is asked by a peer that can read its answers. What becomes of both ends is seen
//! with two engines whose requests cross, on a good line, on a bad one, and where just the messages of one are lost.

#[path = "world/puppet.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod puppet;
mod world;

use std::time::Duration;

use ike_core::{DownCause, Event, Input, Lifetime, Remote};
use ike_wire::{Delete, ExchangeType, Header, Notify, NotifyType, Payload, ProtocolId, find_notify};
use net_types::Spi;
use puppet::Stage;
use simnet::{Profile, for_each_seed};
use world::{World, millis, rekeys::always_usable, secs, tunnel};

// --- what is answered ---

/// What the engine has asked its peer for, and is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    CreatingChild,
    RekeyingChild,
    ClosingChild,
    RekeyingIke,
    ClosingIke,
}

/// What the peer asks for meanwhile.
#[derive(Clone, Copy, Debug)]
enum Asked {
    NewChild,
    RekeyChild,
    RekeyUnknownChild,
    CloseChild,
    CloseUnknownChild,
    RekeyIke,
    CloseIke,
}

/// What the engine answers.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Something new is agreed on.
    Agreed,
    /// A DELETE with these SPIs.
    Deleted(Vec<u32>),
    Refused(Notify),
    Empty,
}

/// Nobody has this pair.
const UNKNOWN: u32 = 0x0bad_cafe;

/// A peer, authenticated, with one pair.
fn authenticated() -> Stage {
    let mut stage = Stage::with(9, |config| {
        config.remote = Remote::Address([192, 0, 2, 1].into());
        (config.ike_lifetime, config.child_lifetime) = (Lifetime::of(secs(7200)), Lifetime::of(secs(7200)));
    });
    assert!(stage.call());
    let payloads = stage.auth_payloads(true);
    stage.say(ExchangeType::IkeAuth, false, 0, &payloads, 1200);
    assert!(stage.up && stage.installed.len() == 1);
    say(&mut stage, ExchangeType::Informational, &[]); // which shows that the peer has the pair
    stage
}

/// The engine's half of its first pair, and the peer's.
fn pair(stage: &Stage) -> (Spi, u32) {
    (*stage.installed.first().unwrap(), stage.offered[0].get())
}

/// A stage on which the engine has just asked for this.
fn busy(with: Busy) -> Stage {
    let mut stage = authenticated();
    let (spi_in, theirs) = pair(&stage);
    let (input, exchange) = match with {
        Busy::CreatingChild => {
            say(&mut stage, ExchangeType::Informational, &[delete(theirs)]);
            (Input::Initiate(tunnel()), ExchangeType::CreateChildSa)
        }
        Busy::RekeyingChild => (Input::Rekey { tunnel: tunnel(), ike: false }, ExchangeType::CreateChildSa),
        Busy::ClosingChild => (Input::ChildLimit { spi_in, hard: true }, ExchangeType::Informational),
        Busy::RekeyingIke => (Input::Rekey { tunnel: tunnel(), ike: true }, ExchangeType::CreateChildSa),
        Busy::ClosingIke => (Input::Terminate(tunnel()), ExchangeType::Informational),
    };
    stage.input(input);
    let asked: Vec<_> = stage.said.iter().map(|(header, _)| (header.exchange, header.flags.response)).collect();
    assert_eq!(asked, [(exchange, false)], "{with:?}");
    stage
}

fn delete(spi: u32) -> Payload {
    Payload::Delete(Delete::Child { protocol: ProtocolId::Esp, spis: vec![spi] })
}

fn rekey_of(spi: u32) -> Notify {
    Notify::about_esp(NotifyType::RekeySa, Spi::try_from(spi).unwrap())
}

/// Says a request; gives what it is answered with.
fn say(stage: &mut Stage, exchange: ExchangeType, payloads: &[Payload]) -> Vec<Payload> {
    stage.say(exchange, false, 0, payloads, 1200);
    let answers: Vec<_> = stage.said.iter().filter(|(header, _)| header.flags.response).collect();
    let [(header, answer)] = answers[..] else { panic!("{} answers", answers.len()) };
    assert_eq!(header.exchange, exchange);
    answer.clone()
}

fn ask(stage: &mut Stage, what: Asked) -> Answer {
    let theirs = stage.offered[0].get();
    let mut child = |named: Option<u32>| {
        let named = named.map(|spi| Payload::Notify(rekey_of(spi)));
        let rest = [2, 0, 7, 8].map(|kind| stage.payload(kind, &[]));
        (ExchangeType::CreateChildSa, named.into_iter().chain(rest).collect::<Vec<_>>())
    };
    let (exchange, payloads) = match what {
        Asked::NewChild => child(None),
        Asked::RekeyChild => child(Some(theirs)),
        Asked::RekeyUnknownChild => child(Some(UNKNOWN)),
        Asked::CloseChild => (ExchangeType::Informational, vec![delete(theirs)]),
        Asked::CloseUnknownChild => (ExchangeType::Informational, vec![delete(UNKNOWN)]),
        Asked::RekeyIke => (ExchangeType::CreateChildSa, [3, 0, 4].map(|kind| stage.payload(kind, &[])).into()),
        Asked::CloseIke => (ExchangeType::Informational, vec![Payload::Delete(Delete::Ike)]),
    };
    let answer = say(stage, exchange, &payloads);
    match &answer[..] {
        [] => Answer::Empty,
        [Payload::Delete(Delete::Child { protocol: ProtocolId::Esp, spis })] => Answer::Deleted(spis.clone()),
        [Payload::Notify(notify)] => Answer::Refused(notify.clone()),
        [Payload::Sa(_), ..] => Answer::Agreed,
        other => panic!("{what:?} is answered with {other:?}"),
    }
}

/// What an engine that is busy with the one answers to the other.
fn answer(with: Busy, what: Asked) -> Answer {
    ask(&mut busy(with), what)
}

fn put_off() -> Answer {
    Answer::Refused(Notify::new(NotifyType::TemporaryFailure, []))
}

// RFC 7296 §2.25.1, in its order.

#[test]
fn a_rekey_of_a_child_that_is_being_closed_is_put_off() {
    assert_eq!(answer(Busy::ClosingChild, Asked::RekeyChild), put_off());
}

#[test]
fn a_rekey_of_a_child_that_is_being_rekeyed_is_answered_as_usual() {
    assert_eq!(answer(Busy::RekeyingChild, Asked::RekeyChild), Answer::Agreed);
}

#[test]
fn a_rekey_of_an_unknown_child_is_refused_by_its_name() {
    let mut gone = Notify::new(NotifyType::ChildSaNotFound, []);
    (gone.protocol, gone.spi) = (ProtocolId::Esp, UNKNOWN.to_be_bytes().to_vec());
    for with in [Busy::RekeyingChild, Busy::ClosingChild, Busy::CreatingChild] {
        assert_eq!(answer(with, Asked::RekeyUnknownChild), Answer::Refused(gone.clone()), "{with:?}");
    }
}

#[test] // §1.4.1 too
fn closing_a_child_that_is_being_closed_is_answered_without_a_delete() {
    let mut stage = busy(Busy::ClosingChild);
    assert_eq!(ask(&mut stage, Asked::CloseChild), Answer::Empty);
    stage.say(ExchangeType::Informational, true, 0, &[], 1200);
    stage.wait(secs(6));
    assert!(stage.installed.is_empty() && !stage.up, "and it is closed once");
}

#[test]
fn closing_a_child_that_is_being_rekeyed_is_answered_with_a_delete() {
    let mut stage = busy(Busy::RekeyingChild);
    let (ours, _) = pair(&stage);
    assert_eq!(ask(&mut stage, Asked::CloseChild), Answer::Deleted(vec![ours.get()]));
    // The peer then does not know the pair that is to be rekeyed.
    let gone = Notify::new(NotifyType::ChildSaNotFound, []);
    stage.say(ExchangeType::CreateChildSa, true, 0, &[Payload::Notify(gone)], 1200);
    stage.wait(secs(6));
    assert!(stage.installed.is_empty() && stage.ike.census().established == 1, "the IKE SA stands");
}

#[test]
fn closing_an_unknown_child_is_answered_without_a_delete() {
    for with in [Busy::RekeyingChild, Busy::ClosingChild, Busy::RekeyingIke] {
        assert_eq!(answer(with, Asked::CloseUnknownChild), Answer::Empty, "{with:?}");
    }
}

#[test]
fn a_rekey_of_the_ike_sa_is_put_off_while_a_child_is_created() {
    assert_eq!(answer(Busy::CreatingChild, Asked::RekeyIke), put_off());
}

#[test]
fn a_rekey_of_the_ike_sa_is_put_off_while_a_child_is_rekeyed() {
    assert_eq!(answer(Busy::RekeyingChild, Asked::RekeyIke), put_off());
}

#[test]
fn a_rekey_of_the_ike_sa_is_put_off_while_a_child_is_closed() {
    assert_eq!(answer(Busy::ClosingChild, Asked::RekeyIke), put_off());
}

// RFC 7296 §2.25.2, in its order.

#[test]
fn a_rekey_of_an_ike_sa_that_is_being_rekeyed_is_answered_as_usual() {
    assert_eq!(answer(Busy::RekeyingIke, Asked::RekeyIke), Answer::Agreed);
}

#[test]
fn a_rekey_of_an_ike_sa_that_is_being_closed_is_put_off() {
    assert_eq!(answer(Busy::ClosingIke, Asked::RekeyIke), put_off());
}

#[test]
fn closing_an_ike_sa_that_is_being_rekeyed_is_answered_and_the_rekey_forgotten() {
    let mut stage = busy(Busy::RekeyingIke);
    assert_eq!(ask(&mut stage, Asked::CloseIke), Answer::Empty);
    assert_eq!((stage.ike.census().established, stage.ike.census().leaving), (0, 1));
    let answer = [3, 0, 4].map(|kind| stage.payload(kind, &[]));
    stage.say(ExchangeType::CreateChildSa, true, 0, &answer, 1200);
    assert_eq!(stage.ike.census().established, 0, "an answer that comes after all makes nothing");
    assert!(stage.installed.is_empty() && !stage.up);
}

#[test]
fn closing_an_ike_sa_that_is_being_closed_is_answered_and_ends_our_own_request() {
    let mut stage = busy(Busy::ClosingIke);
    assert_eq!(ask(&mut stage, Asked::CloseIke), Answer::Empty);
    assert!(stage.ike.is_idle(), "nothing is left to say");
    stage.wait(secs(2));
    assert!(stage.last.is_empty(), "and nothing is said again");
}

#[test]
fn a_new_child_is_put_off_while_the_ike_sa_is_rekeyed() {
    assert_eq!(answer(Busy::RekeyingIke, Asked::NewChild), put_off());
}

#[test]
fn a_rekey_of_a_child_is_put_off_while_the_ike_sa_is_rekeyed() {
    assert_eq!(answer(Busy::RekeyingIke, Asked::RekeyChild), put_off());
}

#[test]
fn closing_a_child_while_the_ike_sa_is_rekeyed_is_answered_with_a_delete() {
    let mut stage = busy(Busy::RekeyingIke);
    let (ours, _) = pair(&stage);
    assert_eq!(ask(&mut stage, Asked::CloseChild), Answer::Deleted(vec![ours.get()]));
}

#[test] // not in the RFC's list, and meant by it: nothing can begin on what ends
fn children_are_put_off_while_the_ike_sa_is_closed() {
    assert_eq!(answer(Busy::ClosingIke, Asked::NewChild), put_off());
    assert_eq!(answer(Busy::ClosingIke, Asked::RekeyChild), put_off());
    assert_eq!(answer(Busy::ClosingIke, Asked::CloseChild), Answer::Empty, "it ends with the IKE SA");
}

// What a TEMPORARY_FAILURE does to the one who gets it (§2.25).

/// Lets time pass and answers each request: CREATE_CHILD_SA with this error. Says when it was asked for.
fn refuse_for(stage: &mut Stage, duration: Duration, with: NotifyType) -> Vec<Duration> {
    let (begin, mut asked) = (stage.now, Vec::new());
    while stage.now < begin + duration {
        let requests: Vec<_> = stage.said.iter().map(|(header, _)| *header).filter(|h| !h.flags.response).collect();
        if requests.is_empty() {
            stage.tick(begin + duration);
        }
        for Header { exchange, message_id, .. } in requests {
            let no = (exchange == ExchangeType::CreateChildSa).then(|| Payload::Notify(Notify::new(with, [])));
            asked.extend(no.is_some().then(|| stage.now - begin));
            stage.say(exchange, true, message_id, no.as_slice(), 1200);
        }
    }
    asked
}

fn put_off_for(stage: &mut Stage, duration: Duration) -> Vec<Duration> {
    refuse_for(stage, duration, NotifyType::TemporaryFailure)
}

#[test]
fn what_was_put_off_is_not_asked_for_again_at_once() {
    for with in [Busy::RekeyingChild, Busy::RekeyingIke] {
        let asked = put_off_for(&mut busy(with), secs(60));
        let apart: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(apart.len() > 20 && apart.iter().all(|pause| *pause >= millis(250)), "{with:?}: {apart:?}");
    }
}

#[test]
fn an_ike_sa_on_which_all_is_put_off_for_minutes_is_closed() {
    for with in [Busy::RekeyingChild, Busy::RekeyingIke] {
        let mut stage = busy(with);
        put_off_for(&mut stage, secs(290));
        assert_eq!(stage.ike.census().established, 1, "{with:?}: not before some minutes");
        put_off_for(&mut stage, secs(20));
        assert_eq!(stage.ike.census().established, 0, "{with:?}: it is out of step");
        assert!(!stage.up && stage.installed.is_empty());
    }
}

#[test]
fn a_rekey_that_is_put_off_now_and_then_closes_nothing() {
    let mut stage = busy(Busy::RekeyingChild);
    for _ in 0..4 {
        put_off_for(&mut stage, secs(200));
        // Another error shows that the two ends understand each other.
        let refused = refuse_for(&mut stage, secs(5), NotifyType::NoProposalChosen);
        assert!(!refused.is_empty());
    }
    assert_eq!(stage.ike.census().established, 1);
}

#[test] // §2.25: silently deleted, and made from scratch
fn a_child_that_the_peer_does_not_know_is_made_anew() {
    let mut stage = busy(Busy::RekeyingChild);
    let gone = Notify::new(NotifyType::ChildSaNotFound, []);
    stage.say(ExchangeType::CreateChildSa, true, 0, &[Payload::Notify(gone)], 1200);
    let [(header, payloads)] = &stage.said[..] else { panic!("{:?}", stage.said) };
    assert!(header.exchange == ExchangeType::CreateChildSa && !header.flags.response);
    assert!(find_notify(payloads, NotifyType::RekeySa).is_none(), "from scratch");
}

// --- what becomes of both ends ---

/// What an end begins at the moment of the collision.
type Begin = fn(&mut World, usize);

fn rekey_child(world: &mut World, n: usize) {
    world.input(n, Input::Rekey { tunnel: tunnel(), ike: false });
}

fn rekey_ike(world: &mut World, n: usize) {
    world.input(n, Input::Rekey { tunnel: tunnel(), ike: true });
}

fn close_child(world: &mut World, n: usize) {
    let spi_in = world.nodes[n].active.expect("there is a pair");
    world.input(n, Input::ChildLimit { spi_in, hard: true });
}

fn close_ike(world: &mut World, n: usize) {
    world.input(n, Input::Terminate(tunnel()));
}

fn established(world: &World) -> [usize; 2] {
    [0, 1].map(|n| world.nodes[n].ike.census().established)
}

/// One IKE SA and one pair at each end, and nothing that is still to be closed.
fn one_of_each(world: &World) -> bool {
    world.converged() && established(world) == [1, 1]
}

fn calls(world: &World) -> usize {
    world.count(0, |event| matches!(event, Event::IkeEstablished { .. }))
}

/// Both begin at once, each one with either; the two come together again.
fn cross(begin: [Begin; 2]) {
    for profile in [Profile::default().delay(millis(10)), Profile::lossy()] {
        for_each_seed(15, |seed| {
            for turned in [false, true] {
                let mut world = World::pair(seed, profile, |_, _| {});
                world.expect("both up", secs(60), one_of_each);
                world.run(millis(seed * 37));
                let [first, second] = if turned { [1, 0] } else { [0, 1] };
                begin[0](&mut world, first);
                begin[1](&mut world, second);
                world.run(secs(20));
                if begin.iter().any(|begin| *begin as usize == close_ike as Begin as usize) {
                    assert!(world.nodes.iter().any(|node| node.causes.contains(&DownCause::AdminDown)));
                    world.input(first, Input::Initiate(tunnel()));
                    world.input(second, Input::Initiate(tunnel()));
                } else {
                    assert_eq!(calls(&world), 1, "the IKE SA or its heir stands\n{}", world.story());
                }
                world.expect("one of each", secs(120), one_of_each);
            }
        });
    }
}

#[test]
fn child_rekeys_cross() {
    cross([rekey_child, rekey_child]);
}

#[test]
fn a_child_rekey_crosses_the_closing_of_that_child() {
    cross([rekey_child, close_child]);
}

#[test]
fn child_closings_cross() {
    cross([close_child, close_child]);
}

#[test]
fn ike_rekeys_cross() {
    cross([rekey_ike, rekey_ike]);
}

#[test]
fn an_ike_rekey_crosses_a_child_rekey() {
    cross([rekey_ike, rekey_child]);
}

#[test]
fn an_ike_rekey_crosses_the_closing_of_a_child() {
    cross([rekey_ike, close_child]);
}

#[test]
fn an_ike_rekey_crosses_the_closing_of_the_ike_sa() {
    cross([rekey_ike, close_ike]);
}

#[test]
fn a_child_rekey_crosses_the_closing_of_the_ike_sa() {
    cross([rekey_child, close_ike]);
}

#[test]
fn the_closing_of_a_child_crosses_that_of_the_ike_sa() {
    cross([close_child, close_ike]);
}

#[test]
fn ike_closings_cross() {
    cross([close_ike, close_ike]);
}

/// A child is created at one end while the other rekeys the IKE SA.
#[test]
fn the_creation_of_a_child_crosses_an_ike_rekey() {
    for_each_seed(15, |seed| {
        let mut world = World::pair(seed, Profile::default().delay(millis(10)), |_, _| {});
        world.expect("both up", secs(60), one_of_each);
        // The end that calls asks for another pair soon after it has closed its own. Its peer's own one stands a little longer.
        let heard = world.nodes[1].heard.len();
        close_child(&mut world, 0);
        let asked = |world: &World| {
            let kinds = world.nodes[1].heard.iter().skip(heard).filter_map(|(_, bytes)| Header::parse(bytes).ok());
            kinds.map(|(header, _)| header).any(|header| header.exchange == ExchangeType::CreateChildSa)
        };
        rekey_ike(&mut world, 1);
        world.expect("a new pair is asked for", secs(10), asked);
        world.expect("both happen", secs(60), |world| one_of_each(world) && inherited(world) == [1, 1]);
        assert_eq!(calls(&world), 1, "{}", world.story());
    });
}

// Rekeys of the same SA at once, where one end does not hear of the other's (§2.8.1, §2.8.2).

/// Both rekey while these messages to node 0 or node 1 are lost; without a gap one of each is left.
fn rekey_with_losses(ike: bool, lost: fn(&World, usize, &Header) -> bool) -> World {
    let mut world = World::pair(1, Profile::default().delay(millis(10)), |_, _| {});
    world.expect("both up", secs(60), one_of_each);
    world.traffic = true;
    world.invariant = Some(always_usable);
    world.lost = Some(lost);
    for n in 0..2 {
        if ike { rekey_ike(&mut world, n) } else { rekey_child(&mut world, n) }
    }
    world.run(secs(4));
    world.lost = None;
    world.run(secs(4));
    assert!(world.nodes.iter().all(|node| node.unknown == 0), "{}", world.story());
    world.traffic = false;
    world.expect("one of each", secs(90), one_of_each);
    assert_eq!(calls(&world), 1);
    world
}

fn is_request(header: &Header, exchange: ExchangeType) -> bool {
    header.exchange == exchange && !header.flags.response
}

fn is_answer(header: &Header, exchange: ExchangeType) -> bool {
    header.exchange == exchange && header.flags.response
}

fn replaced(world: &World) -> [usize; 2] {
    [0, 1].map(|n| world.count(n, |event| matches!(event, Event::ChildInstalled { replaces: Some(_), .. })))
}

fn inherited(world: &World) -> [usize; 2] {
    [0, 1].map(|n| world.count(n, |event| matches!(event, Event::IkeRekeyed { .. })))
}

/// §2.8.1: "it looks like host A is trying to rekey an SA that no longer exists"; A ignores the error.
#[test]
fn a_child_rekey_that_comes_after_all_is_over_makes_nothing() {
    let world = rekey_with_losses(false, |world, to, header| {
        to == 1
            && is_request(header, ExchangeType::CreateChildSa)
            && world.nodes[1].heard.iter().all(|(_, bytes)| {
                // Until the answer to its own DELETE has come.
                Header::parse(bytes).is_ok_and(|(header, _)| !is_answer(&header, ExchangeType::Informational))
            })
    });
    assert_eq!(replaced(&world), [1, 1], "{}", world.story());
}

#[test]
fn a_child_rekey_that_comes_while_the_old_one_is_closed_makes_nothing() {
    // Node 1 waits for the answer to its DELETE all the time.
    let world = rekey_with_losses(false, |world, to, header| {
        let early =
            world.nodes[1].events.iter().all(|event| !matches!(event, Event::ChildInstalled { replaces: Some(_), .. }));
        to == 1
            && (is_request(header, ExchangeType::CreateChildSa) && early
                || is_answer(header, ExchangeType::Informational))
    });
    assert_eq!(replaced(&world), [1, 1], "{}", world.story());
}

/// §2.8.2: only one end detects the collision; no redundant SA is made.
#[test]
fn an_ike_rekey_that_comes_after_all_is_over_makes_nothing() {
    let world = rekey_with_losses(true, |world, to, header| {
        to == 1 && is_request(header, ExchangeType::CreateChildSa) && inherited(world)[1] == 0
    });
    assert_eq!(inherited(&world), [1, 1], "{}", world.story());
}

/// The end that made what has to go, or what stays, cannot say so for a while, or does not hear what it got.
#[test]
fn messages_of_either_end_after_colliding_rekeys_may_be_lost() {
    let losses: [fn(&World, usize, &Header) -> bool; 8] = [
        |_, to, header| to == 0 && is_answer(header, ExchangeType::CreateChildSa),
        |_, to, header| to == 1 && is_answer(header, ExchangeType::CreateChildSa),
        |_, to, header| to == 0 && is_request(header, ExchangeType::Informational),
        |_, to, header| to == 1 && is_request(header, ExchangeType::Informational),
        |_, to, header| to == 0 && is_answer(header, ExchangeType::Informational),
        |_, to, header| to == 1 && is_answer(header, ExchangeType::Informational),
        |_, _, header| header.exchange == ExchangeType::Informational,
        |_, _, header| is_answer(header, ExchangeType::CreateChildSa),
    ];
    for (number, lost) in losses.into_iter().enumerate() {
        let world = rekey_with_losses(false, lost);
        assert_eq!(replaced(&world), [2, 2], "loss {number}: both rekeys go through\n{}", world.story());
        let world = rekey_with_losses(true, lost);
        assert_eq!(inherited(&world), [1, 1], "loss {number}: the children move once\n{}", world.story());
    }
}
