use std::time::{Duration, Instant};

use bgp_wire::{
    Capability, FamilySet, GracefulRestart, GracefulRestartFamily, HeaderError, Message, MessageError, Notification,
    Open, PeerKind, Role, RouteRefresh, Update,
    notification::{CeaseCode, NotificationCode},
};
use net_types::{Asn, Family};
use proptest::{collection::vec, prelude::*};
use rand::{SeedableRng, rngs::StdRng};

use super::*;

const OUT: ConnectionId = ConnectionId(1);
const IN: ConnectionId = ConnectionId(2);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn config() -> SessionConfig {
    SessionConfig::new(Asn::literal(65001), "10.1.0.1".parse().unwrap(), RemoteAs::Exactly(Asn::literal(65000)))
}

fn restarting_config() -> SessionConfig {
    let families = vec![GracefulRestartFamily::new(Family::Ipv4Unicast, true)];
    let restart = GracefulRestart { restarting: false, notification: true, restart_seconds: 120, families };
    SessionConfig { graceful_restart: Some(restart), ..config() }
}

/// What the neighbor at 10.1.0.`host` sends: the mirror image of our own OPEN.
fn peer_open(ours: &SessionConfig, host: u8) -> Open {
    let theirs = SessionConfig {
        local_asn: Asn::literal(65000),
        router_id: std::net::Ipv4Addr::new(10, 1, 0, host).try_into().unwrap(),
        ..ours.clone()
    };
    theirs.open()
}

fn session(config: &SessionConfig) -> Session {
    Session::new(config.clone(), Box::new(StdRng::seed_from_u64(7)))
}

fn open_message(config: &SessionConfig) -> Message {
    Message::Open(peer_open(config, 9))
}

fn cease(code: CeaseCode) -> Notification {
    Notification::cease(code)
}

fn said(connection: ConnectionId, notification: Notification) -> Output {
    Output::Send(connection, Outgoing::Notification(notification))
}

fn established(config: &SessionConfig, now: Instant) -> Session {
    let mut session = session(config);
    session.handle_input(now, Input::Start);
    session.handle_input(now, Input::Connected(OUT, Direction::Outgoing));
    session.handle_input(now, Input::Received(OUT, open_message(config)));
    session.handle_input(now, Input::Received(OUT, Message::Keepalive));
    assert_eq!(session.phase(), Phase::Established);
    session
}

#[test]
fn a_session_comes_up_step_by_step() {
    let (now, config) = (Instant::now(), config());
    let mut session = session(&config);
    assert_eq!(session.poll_timeout(), None);
    let out = session.handle_input(now, Input::Start);
    assert_eq!(out, [Output::Dial, Output::PhaseChanged { from: Phase::Idle, to: Phase::Connect }]);
    let out = session.handle_input(now, Input::Connected(OUT, Direction::Outgoing));
    assert_eq!(out[0], Output::Send(OUT, Outgoing::Open(config.open())));
    assert!(!session.negotiated(OUT).four_octet_as, "nothing is negotiated before both OPENs are seen");
    let out = session.handle_input(now, Input::Received(OUT, open_message(&config)));
    assert_eq!(out[0], Output::Send(OUT, Outgoing::Keepalive));
    assert!(session.negotiated(OUT).four_octet_as && session.negotiated(OUT).extended_message);
    let out = session.handle_input(now, Input::Received(OUT, Message::Keepalive));
    assert!(matches!(&out[0], Output::Up(OUT, terms) if terms.hold_time == secs(90) && terms.keepalive == secs(30)));
    assert_eq!(session.terms().map(|terms| terms.peer_open.asn), Some(Asn::literal(65000)));
}

#[test]
fn a_silent_peer_is_dropped_when_the_hold_time_runs_out() {
    let (start, config) = (Instant::now(), config());
    let mut session = established(&config, start);
    let early = session.handle_input(start + secs(90) - Duration::from_millis(1), Input::Timeout);
    assert_eq!(early, [Output::Send(OUT, Outgoing::Keepalive)], "only our own keepalive is due");
    let out = session.handle_input(start + secs(90), Input::Timeout);
    let expired = Notification::new(NotificationCode::HoldTimerExpired, Vec::new());
    assert_eq!(out[..3], [Output::Down(DownReason::HoldExpired, None), said(OUT, expired), Output::HangUp(OUT)]);
    assert_eq!(session.phase(), Phase::Idle);
}

#[test]
fn signs_of_life_put_the_hold_time_off() {
    let (start, config) = (Instant::now(), config());
    for sign in [
        Input::Received(OUT, Message::Keepalive),
        Input::Received(OUT, Message::Update(Update::default())),
        Input::Backlog(OUT),
    ] {
        let mut session = established(&config, start);
        session.handle_input(start + secs(89), sign);
        session.handle_input(start + secs(178), Input::Timeout);
        assert_eq!(session.phase(), Phase::Established);
        session.handle_input(start + secs(179), Input::Timeout);
        assert_eq!(session.phase(), Phase::Idle);
    }
}

#[test]
fn a_hold_time_of_zero_silences_both_timers() {
    let (start, ours) = (Instant::now(), SessionConfig { hold_time: Duration::ZERO, ..config() });
    let session = established(&ours, start);
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn keepalives_go_out_within_the_interval_and_not_in_step() {
    let (start, config) = (Instant::now(), config());
    let mut session = established(&config, start);
    let mut gaps = Vec::new();
    let mut last = start;
    for _ in 0..50 {
        let now = session.poll_timeout().unwrap();
        session.handle_input(now, Input::Received(OUT, Message::Keepalive));
        session.handle_input(now, Input::Written(OUT));
        if session.handle_input(now, Input::Timeout) == [Output::Send(OUT, Outgoing::Keepalive)] {
            gaps.push(now - last);
            last = now;
        }
    }
    assert_eq!(gaps.len(), 50);
    assert!(gaps.iter().all(|gap| *gap >= secs(30).mul_f64(0.75) && *gap <= secs(30)), "{gaps:?}");
    assert!(gaps.iter().any(|gap| gap.abs_diff(gaps[0]) > Duration::from_millis(100)), "jitter (RFC 4271 §10)");
}

#[test]
fn a_peer_that_does_not_read_is_dropped() {
    let (start, config) = (Instant::now(), config());
    let mut session = established(&config, start);
    let mut now = start;
    while session.phase() == Phase::Established && now < start + secs(3600) {
        now += secs(20);
        session.handle_input(now, Input::Received(OUT, Message::Keepalive));
        let out = session.handle_input(now, Input::Timeout);
        if let Some(Output::Down(reason, _)) = out.first() {
            assert_eq!(*reason, DownReason::SendHoldExpired);
        }
    }
    assert_eq!(now, start + secs(480), "RFC 9687: eight minutes, where twice the hold time is less");

    let mut session = established(&config, start);
    session.handle_input(start + secs(400), Input::Received(OUT, Message::Keepalive));
    session.handle_input(start + secs(400), Input::Written(OUT));
    session.handle_input(start + secs(480), Input::Timeout);
    assert_eq!(session.phase(), Phase::Established);
}

#[test]
fn a_failed_dial_is_tried_again() {
    let (start, config) = (Instant::now(), config());
    let mut session = session(&config);
    session.handle_input(start, Input::Start);
    session.handle_input(start, Input::DialFailed);
    assert_eq!(session.phase(), Phase::Active);
    let at = session.poll_timeout().unwrap();
    assert!(at > start && at <= start + secs(10));
    assert_eq!(session.handle_input(at, Input::Timeout)[0], Output::Dial);
    // One that hangs is given up for a new one.
    let at = session.poll_timeout().unwrap();
    assert_eq!(session.handle_input(at, Input::Timeout), [Output::CancelDial, Output::Dial]);
}

#[test]
fn a_path_that_works_again_is_dialed_at_once() {
    let (start, config) = (Instant::now(), config());
    let mut session = session(&config);
    session.handle_input(start, Input::Start);
    session.handle_input(start, Input::DialFailed);
    assert_eq!(session.handle_input(start, Input::PathUp)[0], Output::Dial);
    let mut session = established(&config, start);
    session.handle_input(start, Input::BfdDown);
    assert_eq!(session.handle_input(start, Input::PathUp)[0], Output::Dial);
}

#[test]
fn a_passive_session_waits_to_be_called() {
    let (start, config) = (Instant::now(), SessionConfig { passive: true, ..config() });
    let mut session = session(&config);
    let out = session.handle_input(start, Input::Start);
    assert_eq!(out, [Output::PhaseChanged { from: Phase::Idle, to: Phase::Active }]);
    assert_eq!(session.poll_timeout(), None);
    session.handle_input(start, Input::Connected(IN, Direction::Incoming));
    session.handle_input(start, Input::Received(IN, open_message(&config)));
    session.handle_input(start, Input::Received(IN, Message::Keepalive));
    assert_eq!(session.phase(), Phase::Established);
}

#[test]
fn an_open_that_does_not_fit_is_refused_with_its_subcode() {
    let start = Instant::now();
    let ours = config();
    let fitting = peer_open(&ours, 9);
    let cases = [
        (Open { asn: Asn::literal(64511), ..fitting.clone() }, (2, 2)),
        (Open { hold_seconds: 3, ..fitting.clone() }, (2, 6)),
        (Open { capabilities: vec![Capability::multiprotocol(Family::Ipv6Unicast)], ..fitting }, (2, 7)),
    ];
    for (open, codes) in cases {
        let config = SessionConfig { minimum_hold_time: secs(9), ..ours.clone() };
        let mut session = session(&config);
        session.handle_input(start, Input::Start);
        session.handle_input(start, Input::Connected(OUT, Direction::Outgoing));
        let out = session.handle_input(start, Input::Received(OUT, Message::Open(open)));
        let Output::Send(OUT, Outgoing::Notification(notification)) = &out[0] else { panic!("{out:?}") };
        assert_eq!(notification.code().codes(), codes);
        assert_eq!(out[1], Output::HangUp(OUT));
        assert!(matches!(&out[2], Output::AttemptFailed(DownReason::Refused(_))));
        assert_eq!(session.phase(), Phase::Idle, "it rests before it tries again");
        assert!(session.poll_timeout().is_some());
    }
}

#[test]
fn external_internal_and_own_identifier_are_checked() {
    let internal = SessionConfig { remote_asn: RemoteAs::Internal, ..config() };
    let external = SessionConfig { remote_asn: RemoteAs::External, ..config() };
    let from = |asn, host| Open { asn: Asn::literal(asn), ..peer_open(&config(), host) };
    assert!(internal.agree(&from(65001, 9)).is_ok());
    assert!(matches!(internal.agree(&from(65000, 9)), Err(OpenRefusal::PeerAs { .. })));
    assert!(matches!(external.agree(&from(65001, 9)), Err(OpenRefusal::PeerAs { .. })));
    assert!(matches!(internal.agree(&from(65001, 1)), Err(OpenRefusal::OwnIdentifier(_))));
    assert!(external.agree(&from(65000, 1)).is_ok(), "RFC 6286: identifiers are unique within an AS only");
    let refusal = config().agree(&from(64511, 9)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "OPEN announced AS64511, configuration says AS65000; check \"remote-as\" on both sides"
    );
}

#[test]
fn of_two_connections_the_greater_identifiers_stays() {
    let start = Instant::now();
    let config = config(); // 10.1.0.1
    for (host, kept, lost) in [(9, IN, OUT), (0, OUT, IN)] {
        let open = Message::Open(peer_open(&config, host));
        let mut session = session(&config);
        session.handle_input(start, Input::Start);
        session.handle_input(start, Input::Connected(OUT, Direction::Outgoing));
        session.handle_input(start, Input::Connected(IN, Direction::Incoming));
        session.handle_input(start, Input::Received(OUT, open.clone()));
        let out = session.handle_input(start, Input::Received(IN, open));
        assert!(out.contains(&said(lost, cease(CeaseCode::CollisionResolution))), "{out:?}");
        assert!(out.contains(&Output::HangUp(lost)) && !out.contains(&Output::HangUp(kept)));
        let out = session.handle_input(start, Input::Received(kept, Message::Keepalive));
        assert!(matches!(&out[0], Output::Up(connection, _) if *connection == kept));
        // What still arrives on the other one changes nothing.
        assert_eq!(session.handle_input(start, Input::Lost(lost)), []);
        assert_eq!(session.handle_input(start, Input::Received(lost, Message::Keepalive)), []);
    }
}

#[test]
fn losing_a_collision_is_no_failure() {
    let start = Instant::now();
    let config = config();
    let mut session = session(&config);
    session.handle_input(start, Input::Start);
    session.handle_input(start, Input::Connected(OUT, Direction::Outgoing));
    session.handle_input(start, Input::Connected(IN, Direction::Incoming));
    let lost = Message::Notification(cease(CeaseCode::CollisionResolution));
    session.handle_input(start, Input::Received(OUT, lost));
    session.handle_input(start, Input::Received(IN, open_message(&config)));
    session.handle_input(start, Input::Received(IN, Message::Keepalive));
    assert_eq!(session.phase(), Phase::Established);
}

#[test]
fn a_connection_beside_an_established_session_is_refused() {
    let start = Instant::now();
    let mut session = established(&config(), start);
    let out = session.handle_input(start, Input::Connected(IN, Direction::Incoming));
    let refusal = [said(IN, cease(CeaseCode::CollisionResolution)), Output::HangUp(IN)];
    assert_eq!(out[..2], refusal);
    assert_eq!(out[2..], [Output::Send(OUT, Outgoing::Keepalive)], "in case the neighbor no longer knows the old one");
}

#[test]
fn a_restarted_neighbor_replaces_its_old_connection_and_keeps_its_routes() {
    let (start, config) = (Instant::now(), restarting_config());
    let later = start + secs(60);
    let restarted = {
        let mut config = config.clone();
        config.graceful_restart.as_mut().unwrap().restarting = true;
        open_message(&config)
    };
    let mut session = established(&config, start);
    assert_eq!(session.handle_input(later, Input::Connected(IN, Direction::Incoming)), [], "its OPEN will tell");
    let out = session.handle_input(later, Input::Received(IN, restarted.clone()));
    let retain = Retain {
        families: FamilySet::from(Family::Ipv4Unicast),
        restart_time: secs(120),
        long_lived: [Duration::ZERO; Family::COUNT],
    };
    assert_eq!(out[..2], [Output::Down(DownReason::Reconnected, Some(retain)), Output::HangUp(OUT)]);
    assert!(out.contains(&Output::Send(IN, Outgoing::Keepalive)), "{out:?}");
    session.handle_input(later, Input::Received(IN, Message::Keepalive));
    assert_eq!(session.phase(), Phase::Established);

    // Without the R bit, or as a young session's collision, it is refused; the old connection is probed.
    let refused =
        [said(IN, cease(CeaseCode::CollisionResolution)), Output::HangUp(IN), Output::Send(OUT, Outgoing::Keepalive)];
    let mut session = established(&config, start);
    session.handle_input(later, Input::Connected(IN, Direction::Incoming));
    assert_eq!(session.handle_input(later, Input::Received(IN, open_message(&config))), refused);
    let mut session = established(&config, start);
    assert_eq!(session.handle_input(start + secs(1), Input::Connected(IN, Direction::Incoming)), refused);
    assert_eq!(session.phase(), Phase::Established);
}

#[test]
fn what_is_kept_follows_the_reason() {
    let (start, config) = (Instant::now(), restarting_config());
    let kept = |input| match established(&config, start).handle_input(start, input).first() {
        Some(Output::Down(_, retain)) => retain.is_some(),
        other => panic!("{other:?}"),
    };
    assert!(kept(Input::Lost(OUT)));
    assert!(kept(Input::BfdDown) && kept(Input::PathLost));
    let received = |notification| Input::Received(OUT, Message::Notification(notification));
    assert!(kept(received(cease(CeaseCode::AdministrativeReset))), "RFC 8538: the N bit is set on both sides");
    assert!(!kept(received(cease(CeaseCode::AdministrativeShutdown).into_hard_reset())));
    assert!(!kept(Input::Stop(cease(CeaseCode::AdministrativeShutdown))));
}

#[test]
fn a_stop_is_said_and_lasts() {
    let start = Instant::now();
    let mut session = established(&config(), start);
    let notice = cease(CeaseCode::AdministrativeShutdown);
    let out = session.handle_input(start, Input::Stop(notice.clone()));
    assert_eq!(
        out[..3],
        [Output::Down(DownReason::Stopped(notice.clone()), None), said(OUT, notice), Output::HangUp(OUT)]
    );
    assert_eq!(session.poll_timeout(), None);
    let out = session.handle_input(start, Input::Connected(IN, Direction::Incoming));
    assert_eq!(out, [said(IN, cease(CeaseCode::ConnectionRejected)), Output::HangUp(IN)]);

    let mut session = established(&restarting_config(), start);
    let out = session.handle_input(start, Input::Stop(cease(CeaseCode::AdministrativeShutdown)));
    let hard = cease(CeaseCode::AdministrativeShutdown).into_hard_reset();
    assert_eq!(out[1], said(OUT, hard), "RFC 8538: a stop is not a restart");
}

#[test]
fn whoever_goes_to_come_back_has_its_routes_kept_where_that_was_agreed() {
    let start = Instant::now();
    let leave = |config: &SessionConfig| {
        let mut session = established(config, start);
        let out = session.handle_input(start, Input::Leave);
        assert_eq!(session.poll_timeout(), None);
        out.into_iter().find(|output| matches!(output, Output::Send(..)))
    };
    assert_eq!(leave(&restarting_config()), Some(said(OUT, cease(CeaseCode::AdministrativeReset))), "no hard reset");
    let restart = |adjust: fn(&mut GracefulRestart)| {
        let mut config = restarting_config();
        adjust(config.graceful_restart.as_mut().unwrap());
        config
    };
    assert_eq!(
        leave(&restart(|restart| restart.notification = false)),
        None,
        "RFC 4724: a NOTIFICATION would be the end"
    );
    let hard = cease(CeaseCode::AdministrativeShutdown).into_hard_reset();
    assert_eq!(leave(&restart(|restart| restart.families.clear())), Some(said(OUT, hard)), "we only help");
    assert_eq!(leave(&config()), Some(said(OUT, cease(CeaseCode::AdministrativeShutdown))));
}

#[test]
fn a_lost_path_ends_the_session_without_a_word() {
    let start = Instant::now();
    let mut session = established(&config(), start);
    let out = session.handle_input(start, Input::PathLost);
    assert_eq!(out[..2], [Output::Down(DownReason::PathLost, None), Output::HangUp(OUT)]);
}

#[test]
fn bfd_ends_the_session_with_its_own_subcode() {
    let start = Instant::now();
    let mut session = established(&config(), start);
    let out = session.handle_input(start, Input::BfdDown);
    assert_eq!(out[..2], [Output::Down(DownReason::BfdDown, None), said(OUT, cease(CeaseCode::BfdDown))]);
}

#[test]
fn a_message_out_of_place_is_a_state_machine_error() {
    let start = Instant::now();
    let config = config();
    let mut session = session(&config);
    session.handle_input(start, Input::Start);
    session.handle_input(start, Input::Connected(OUT, Direction::Outgoing));
    let out = session.handle_input(start, Input::Received(OUT, Message::Keepalive));
    let Output::Send(_, Outgoing::Notification(notification)) = &out[0] else { panic!("{out:?}") };
    assert_eq!((notification.code().codes(), notification.data()), ((5, 1), &[4][..]));
    let mut session = established(&config, start);
    let out = session.handle_input(start, Input::Received(OUT, open_message(&config)));
    let Output::Send(_, Outgoing::Notification(notification)) = &out[1] else { panic!("{out:?}") };
    assert_eq!(notification.code().codes(), (5, 3));
}

#[test]
fn a_neighbor_that_connects_while_we_rest_is_answered_afterwards() {
    let start = Instant::now();
    let config = config();
    let mut session = established(&config, start);
    session.handle_input(start, Input::Lost(OUT));
    assert_eq!(session.handle_input(start, Input::Connected(IN, Direction::Incoming)), []);
    assert_eq!(session.handle_input(start, Input::Received(IN, open_message(&config))), []);
    let out = session.handle_input(session.poll_timeout().unwrap(), Input::Timeout);
    assert_eq!(out[0], Output::Send(IN, Outgoing::Open(config.open())));
    assert_eq!(out[1], Output::Send(IN, Outgoing::Keepalive));
    assert_eq!(session.phase(), Phase::OpenConfirm);
}

#[test]
fn rests_grow_while_sessions_do_not_last() {
    let (start, config) = (Instant::now(), config());
    let mut session = session(&config);
    session.handle_input(start, Input::Start);
    let mut now = start;
    let mut rests = Vec::new();
    for round in 0..6u64 {
        let (connection, next) = (ConnectionId(round + 10), Input::Timeout);
        session.handle_input(now, Input::Connected(connection, Direction::Outgoing));
        let error = MessageError::Header(HeaderError::Marker);
        session.handle_input(now, Input::Malformed(connection, error));
        let until = session.poll_timeout().unwrap();
        rests.push(until - now);
        now = until;
        session.handle_input(now, next);
    }
    assert!(rests.windows(2).all(|pair| pair[1] > pair[0]), "{rests:?}");
}

#[test]
fn sessions_that_operators_reset_rest_no_longer_each_time() {
    let (start, config) = (Instant::now(), config());
    let mut session = session(&config);
    session.handle_input(start, Input::Start);
    let mut now = start;
    for round in 0..6u64 {
        let connection = ConnectionId(round + 10);
        session.handle_input(now, Input::Connected(connection, Direction::Outgoing));
        session.handle_input(now, Input::Received(connection, open_message(&config)));
        session.handle_input(now, Input::Received(connection, Message::Keepalive));
        assert_eq!(session.phase(), Phase::Established);
        let reset = cease(CeaseCode::AdministrativeReset);
        session.handle_input(
            now,
            match round % 2 {
                0 => Input::Received(connection, Message::Notification(reset)),
                _ => Input::Reset(reset),
            },
        );
        let until = session.poll_timeout().unwrap();
        assert!(until - now <= secs(1), "round {round}: {:?}", until - now);
        now = until;
        session.handle_input(now, Input::Timeout);
    }
}

fn any_connection() -> impl Strategy<Value = ConnectionId> {
    (0u64..4).prop_map(ConnectionId)
}

fn any_message() -> impl Strategy<Value = Message> {
    let config = restarting_config();
    prop_oneof![
        4 => (0u8..3).prop_map(move |host| Message::Open(peer_open(&config, host))),
        4 => Just(Message::Keepalive),
        2 => Just(Message::Update(Update::default())),
        1 => Just(Message::RouteRefresh(RouteRefresh::request(Family::Ipv4Unicast))),
        1 => (1u8..8, any::<u8>()).prop_map(|(code, sub)| {
            Message::Notification(Notification::new(NotificationCode::from_codes(code, sub), Vec::new()))
        }),
    ]
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        2 => Just(Input::Start),
        1 => Just(Input::Stop(cease(CeaseCode::AdministrativeShutdown))),
        1 => Just(Input::Reset(cease(CeaseCode::AdministrativeReset))),
        1 => Just(Input::Leave),
        1 => Just(Input::BfdDown),
        1 => Just(Input::PathLost),
        1 => Just(Input::PathUp),
        4 => any_connection().prop_map(|id| Input::Connected(id, Direction::Outgoing)),
        3 => any_connection().prop_map(|id| Input::Connected(id, Direction::Incoming)),
        1 => Just(Input::DialFailed),
        12 => (any_connection(), any_message()).prop_map(|(id, message)| Input::Received(id, message)),
        1 => any_connection()
            .prop_map(|id| Input::Malformed(id, MessageError::Header(HeaderError::Marker))),
        1 => any_connection().prop_map(Input::Backlog),
        1 => any_connection().prop_map(Input::Written),
        1 => any_connection().prop_map(Input::Lost),
        5 => Just(Input::Timeout),
    ]
}

proptest! {
    /// Whatever arrives, serving a timeout moves the deadline on; otherwise the daemon would spin.
    #[test]
    fn deadlines_always_move_on(
        inputs in vec((any_input(), 0u64..200_000), 1..200),
        passive: bool,
        restart: bool,
    ) {
        let base = if restart { restarting_config() } else { config() };
        let mut session = session(&SessionConfig { passive, ..base });
        let mut now = Instant::now();
        for (input, millis) in inputs {
            now += Duration::from_millis(millis);
            session.handle_input(now, input);
            session.handle_input(now, Input::Timeout);
            prop_assert!(session.poll_timeout().is_none_or(|at| at > now), "{:?}", session.phase());
        }
    }

    /// Routes only come between `Up` and `Down`, which alternate; nothing is written to a connection that was hung up.
    #[test]
    fn the_owner_can_rely_on_the_order(inputs in vec((any_input(), 0u64..40_000), 1..300)) {
        let mut session = session(&restarting_config());
        let mut now = Instant::now();
        let mut up = false;
        let mut closed = std::collections::BTreeSet::new();
        // The owner numbers connections once: an index of the generator becomes a fresh number.
        let mut fresh = 100u64;
        let mut names = [ConnectionId(0); 4];
        for (mut input, millis) in inputs {
            now += Duration::from_millis(millis);
            match &mut input {
                Input::Connected(id, _) => {
                    fresh += 1;
                    names[id.0 as usize] = ConnectionId(fresh);
                    *id = names[id.0 as usize];
                }
                Input::Received(id, _) | Input::Malformed(id, _) | Input::Backlog(id) | Input::Written(id)
                | Input::Lost(id) => *id = names[id.0 as usize],
                _ => {}
            }
            for output in session.handle_input(now, input) {
                match output {
                    Output::Up(..) => {
                        prop_assert!(!up);
                        up = true;
                    }
                    Output::Down(..) => {
                        prop_assert!(up);
                        up = false;
                    }
                    Output::Routes(_) | Output::Refresh(_) => prop_assert!(up),
                    Output::Send(id, _) => prop_assert!(!closed.contains(&id)),
                    Output::HangUp(id) => prop_assert!(closed.insert(id), "hung up twice"),
                    _ => {}
                }
            }
            prop_assert_eq!(up, session.phase() == Phase::Established);
        }
    }
}

#[test]
fn roles_have_to_go_together() {
    let ours = |role, strict| SessionConfig { role: Some(LocalRole { role, strict }), ..config() };
    let theirs = |role: Option<Role>| {
        let config = SessionConfig { role: role.map(|role| LocalRole { role, strict: false }), ..config() };
        peer_open(&config, 9)
    };
    for role in Role::ALL {
        assert!(ours(role, true).agree(&theirs(Some(role.counterpart()))).is_ok(), "{role}");
        let other = Role::ALL.into_iter().find(|other| *other != role.counterpart()).unwrap();
        let refusal = ours(role, false).agree(&theirs(Some(other))).unwrap_err();
        assert_eq!(refusal.notification().code().codes(), (2, 11), "{role} and {other}");
    }
    assert!(ours(Role::Peer, false).agree(&theirs(None)).is_ok());
    assert_eq!(ours(Role::Peer, true).agree(&theirs(None)), Err(OpenRefusal::Roles { ours: Role::Peer, found: 0 }));
    assert!(config().agree(&theirs(Some(Role::Peer))).is_ok(), "who has no role asks for none");
    let mut twice = theirs(Some(Role::Peer));
    twice.capabilities.push(Capability::Role(0));
    assert_eq!(ours(Role::Peer, false).agree(&twice), Err(OpenRefusal::Roles { ours: Role::Peer, found: 2 }));
}

#[test]
fn a_confederation_knows_its_members() {
    let member = |remote_asn| SessionConfig { members: vec![Asn::literal(65000)], remote_asn, ..config() };
    let open = |asn| Open { asn: Asn::literal(asn), ..peer_open(&config(), 9) };
    for remote_as in [RemoteAs::External, RemoteAs::Exactly(Asn::literal(65000))] {
        let terms = member(remote_as).agree(&open(65000)).unwrap();
        assert_eq!(terms.peer_kind(), PeerKind::Confederation);
        assert_eq!(terms.negotiated.enforce_first_as, None);
    }
    let refusal = member(RemoteAs::External).agree(&open(64999)).unwrap_err();
    assert_eq!(refusal, OpenRefusal::NotAMember(Asn::literal(64999)));
    let outside = member(RemoteAs::Exactly(Asn::literal(64999))).agree(&open(64999)).unwrap();
    assert_eq!(outside.peer_kind(), PeerKind::External);
}

#[test]
fn capabilities_are_negotiated_as_configured() {
    let both: FamilySet = Family::ALL.into_iter().collect();
    let with = |negotiation| SessionConfig { negotiation, families: both, ..config() };
    let v4 = peer_open(&config(), 9);
    let all = with(Negotiation::default());
    assert_eq!(all.agree(&v4).unwrap().negotiated.families, FamilySet::from(Family::Ipv4Unicast));
    let overridden = with(Negotiation { override_families: true, ..Negotiation::default() });
    assert_eq!(overridden.agree(&v4).unwrap().negotiated.families, both);
    let silent = with(Negotiation { silent: true, ..Negotiation::default() });
    assert_eq!(silent.open().capabilities, []);
    let terms = silent.agree(&v4).unwrap();
    assert!(!terms.negotiated.four_octet_as && !terms.route_refresh && terms.negotiated.families == both);
    let strict = with(Negotiation { strict: true, ..Negotiation::default() });
    let refusal = strict.agree(&v4).unwrap_err();
    assert_eq!(refusal.notification().code().codes(), (2, 7));
    assert!(strict.agree(&peer_open(&all, 9)).is_ok());
    let mut unknown = peer_open(&all, 9);
    unknown.capabilities.push(Capability::Unknown { code: 200, value: bytes::Bytes::new() });
    assert!(matches!(strict.agree(&unknown), Err(OpenRefusal::NotStrict { unknown: 1, .. })));
}

#[test]
fn ipv6_next_hops_for_ipv4_take_both() {
    let over_ipv6 = FamilySet::from(Family::Ipv4Unicast);
    let willing = SessionConfig { over_ipv6, ..config() };
    assert_eq!(willing.agree(&peer_open(&willing, 9)).unwrap().negotiated.over_ipv6, over_ipv6);
    assert!(willing.agree(&peer_open(&config(), 9)).unwrap().negotiated.over_ipv6.is_empty());
    assert!(config().agree(&peer_open(&willing, 9)).unwrap().negotiated.over_ipv6.is_empty());
}

#[test]
fn a_session_that_is_established_because_the_other_connection_failed_owes_its_keepalive_at_once() {
    let (start, config) = (Instant::now(), restarting_config());
    let mut session = session(&config);
    session.handle_input(start, Input::Start);
    session.handle_input(start, Input::Connected(IN, Direction::Incoming));
    session.handle_input(start, Input::Received(IN, Message::Open(peer_open(&config, 0))));
    session.handle_input(start, Input::Connected(OUT, Direction::Outgoing));
    let later = start + secs(60); // our OPEN on the other connection is given up, and nobody came between
    session.handle_input(later, Input::Received(IN, Message::Keepalive));
    session.handle_input(later, Input::Timeout);
    assert_eq!(session.phase(), Phase::Established);
    assert!(session.poll_timeout().is_some_and(|at| at > later));
}

#[test]
fn long_lived_restarts_take_both_sides_and_graceful_restart() {
    let willing = SessionConfig { long_lived: Some(secs(3600)), ..restarting_config() };
    let time = |ours: &SessionConfig, theirs: &SessionConfig| {
        let terms = ours.agree(&peer_open(theirs, 9)).unwrap();
        terms.restart.map(|restart| restart.long_lived)
    };
    assert_eq!(time(&willing, &willing), Some([secs(3600), Duration::ZERO, Duration::ZERO, Duration::ZERO]));
    assert_eq!(time(&willing, &restarting_config()), Some([Duration::ZERO; Family::COUNT]));
    assert_eq!(time(&restarting_config(), &willing), Some([Duration::ZERO; Family::COUNT]));
    let alone = SessionConfig { graceful_restart: None, ..willing.clone() };
    assert!(alone.open().long_lived().is_none(), "RFC 9494 §3.1: never alone");
    let terms = willing.agree(&peer_open(&willing, 9)).unwrap();
    assert_eq!(terms.long_lived(), FamilySet::from(Family::Ipv4Unicast));
    assert_eq!(terms.long_lived_preserved(), FamilySet::from(Family::Ipv4Unicast));
}
