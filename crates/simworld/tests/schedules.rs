//! Schedules that once failed, each shrunk to what it took, under the name of what was wrong.

use std::time::Duration;

use simworld::{Event, Fault, Figures, Scenario};

fn play<const N: usize>(seed: u64, schedule: [(u32, Fault); N]) -> Figures {
    let schedule = schedule.map(|(after, fault)| Event { after, fault });
    match Scenario::new(seed).play(&schedule) {
        Ok(figures) => figures,
        Err(violation) => panic!("{violation}\n{}", Scenario::new(seed).plan().0),
    }
}

/// Two hubs kept the routes of a site whose daemon restarted, told each other of them as if they were fresh, and sent the
/// site's packets to and fro until it was back, though the tunnels to it worked.
#[test]
fn hubs_do_not_take_each_others_kept_routes_for_fresh() {
    play(18, [(48357, Fault::StopBgpd(6, 9000))]);
}

/// The same for a site that had lost its power.
#[test]
fn hubs_that_lost_the_same_site_do_not_send_its_packets_to_and_fro() {
    play(4, [(32611, Fault::PowerOff(8))]);
    play(38, [(44063, Fault::Cut(2))]);
}

/// A kept route over a tunnel that `ipsecd` had called down was still told to the other router of the place.
#[test]
fn kept_routes_over_dead_tunnels_are_not_told_to_others() {
    play(9, [(38245, Fault::PowerOff(4))]);
    play(7, [(38228, Fault::PowerOff(3))]);
}

/// Tunnels that had not changed while the connection between the daemons was lost stayed the last resort for ever.
#[test]
fn tunnels_are_trusted_again_when_ipsecd_says_what_it_said_before() {
    play(1, [(46075, Fault::LoseRpc(10))]);
    play(8, [(22349, Fault::Cut(7)), (288, Fault::RestartIpsecd(4, 1000)), (1925, Fault::Settle), (0, Fault::MendAll)]);
}

/// When the wait after a restart was over, routes of neighbors that had not spoken were removed, and their packets left in
/// the clear.
#[test]
fn a_restart_while_tunnels_are_down_leaks_nothing() {
    play(10, [(291, Fault::Cut(1)), (41, Fault::Cut(2)), (72, Fault::KillBgpd(0, 3000))]);
    play(38, [(11, Fault::CutOneWay(0, 0)), (4, Fault::PowerOff(3)), (2090, Fault::KillBgpd(1, 50))]);
    play(13, [(1739, Fault::PowerOff(7)), (22231, Fault::KillBgpd(4, 500))]);
}

/// The same where the prefix was withdrawn later by those that had spoken.
#[test]
fn a_silent_neighbor_protects_what_others_withdraw() {
    play(4, [(15566, Fault::KillBgpd(10, 9000)), (7196, Fault::CutOneWay(22, 1)), (9849, Fault::PowerOff(8))]);
}

/// With `bgp fail-closed withdrawn` prefixes that a neighbor did not announce again after its restart were removed.
#[test]
fn withdrawals_by_silence_are_withdrawals() {
    play(24, [(27988, Fault::KillBgpd(1, 3000)), (132, Fault::PowerOff(4))]);
}

/// A router whose `ipsecd` was away handed its packets to the other router of the place, which prefers the first and, told
/// nothing, gave them back for as long: with the SAs still there, which would have carried them, and without.
#[test]
fn a_router_that_only_doubts_its_tunnels_does_not_hand_packets_to_one_that_gives_them_back() {
    play(0, [(26317, Fault::RestartIpsecd(5, 9000))]);
    play(0, [(26317, Fault::CrashIpsecd(5, 9000))]);
}

/// Two routers that each prefer their own way gave packets to each other while both were in doubt about it.
#[test]
fn two_routers_that_both_doubt_their_tunnels_do_not_rely_on_each_other() {
    play(721, [(39246, Fault::KillBgpd(2, 500)), (1069, Fault::CrashIpsecd(1, 500))]);
    play(882, [(0, Fault::RestartIpsecd(2, 3000)), (54, Fault::CrashIpsecd(3, 3000))]);
}

/// A hub whose daemon restarts goes on sending packets to the other one, and that one, having lost its own way meanwhile, sent
/// them back by what the first had told it, for twelve seconds.
#[test]
fn what_a_restarting_router_would_send_back_is_not_kept() {
    let figures = [
        play(10, [(291, Fault::Cut(1)), (41, Fault::Cut(2)), (72, Fault::KillBgpd(0, 3000))]),
        play(24, [(27988, Fault::KillBgpd(1, 3000)), (132, Fault::PowerOff(4))]),
    ];
    let longest = figures.map(|figures| figures.longest_circle);
    assert!(longest.iter().all(|longest| *longest < Duration::from_millis(200)), "{longest:?}");
}

/// A prefix that a router knew only from the other router of its place went out in the clear when that one could not be reached
/// any more, though its way was a tunnel.
#[test]
fn what_another_router_had_from_a_tunnel_is_protected() {
    play(1, [(28596, Fault::Cut(3)), (2532, Fault::CutOneWay(17, 0)), (1604, Fault::Cut(0))]);
}

/// With `bgp fail-closed withdrawn` a route that led over the other router of the place when the daemon was restarted was
/// removed, where it had been taken back meanwhile.
#[test]
fn what_was_reached_over_another_router_is_protected_after_a_restart() {
    play(244, [(55621, Fault::KillBgpd(1, 9000)), (7496, Fault::PowerOff(2)), (13525, Fault::StopBgpd(4, 500))]);
}
