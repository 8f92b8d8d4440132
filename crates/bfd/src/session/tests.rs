//! Two sessions, a link between them and a clock that only the tests turn.

use std::collections::VecDeque;

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::PACKET_LEN;

const DELAY: Duration = Duration::from_millis(1);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn fast() -> Config {
    Config {
        desired_min_tx: ms(10),
        required_min_rx: ms(10),
        detect_multiplier: 3,
        passive: false,
        ..Config::default()
    }
}

/// Both ends of a link.
struct Pair {
    now: Instant,
    start: Instant,
    ends: [Session; 2],
    /// Arrival, receiver, octets; in order of arrival, since every packet takes as long.
    flying: VecDeque<(Instant, usize, [u8; PACKET_LEN])>,
    /// Echo packets on their way back.
    echoes: VecDeque<(Instant, usize, EchoPacket)>,
    /// Whether the far end's forwarding brings them back.
    reflects: bool,
    /// Nothing arrives before.
    stuck_until: Instant,
    /// Whether packets to that end arrive.
    open: [bool; 2],
    /// Of a hundred packets, so many are lost.
    loss: u32,
    random: StdRng,
    changes: Vec<(Duration, usize, State, Cause)>,
    sent: [Vec<(Instant, Packet)>; 2],
}

impl Pair {
    fn new(configs: [Config; 2], seed: u64) -> Self {
        let start = Instant::now(); // an origin only
        let discriminators = [11, 22].map(|number| NonZeroU32::new(number).unwrap());
        Self {
            now: start,
            start,
            ends: [0, 1].map(|end| Session::new(start, discriminators[end], configs[end])),
            flying: VecDeque::new(),
            echoes: VecDeque::new(),
            reflects: true,
            stuck_until: start,
            open: [true; 2],
            loss: 0,
            random: StdRng::seed_from_u64(seed),
            changes: Vec::new(),
            sent: [Vec::new(), Vec::new()],
        }
    }

    fn input(&mut self, end: usize, input: Input<'_>) {
        for output in self.ends[end].handle_input(self.now, input, &mut self.random) {
            match output {
                Output::Send(octets) => {
                    self.sent[end].push((self.now, Packet::parse(&octets).unwrap()));
                    let to = 1 - end;
                    if self.open[to] && self.random.random_range(0..100) >= self.loss {
                        self.flying.push_back(((self.now + DELAY).max(self.stuck_until), to, octets));
                    }
                }
                Output::SendEcho(octets) => {
                    if self.reflects && self.open == [true; 2] {
                        let back = (self.now + DELAY * 2).max(self.stuck_until);
                        self.echoes.push_back((back, end, EchoPacket::parse(&octets).unwrap()));
                    }
                }
                Output::Changed { to, cause, .. } => self.changes.push((self.now - self.start, end, to, cause)),
            }
        }
    }

    /// Turns the clock, stopping wherever something is due.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let arrival = self.flying.front().map(|(at, ..)| *at);
            let echo = self.echoes.front().map(|(at, ..)| *at);
            let due = [arrival, echo, self.ends[0].poll_timeout(), self.ends[1].poll_timeout()];
            let Some(next) = due.into_iter().flatten().min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if arrival.is_some_and(|at| at <= self.now) {
                let (_, to, octets) = self.flying.pop_front().unwrap();
                self.input(to, Input::Received(&Packet::parse(&octets).unwrap()));
            }
            if echo.is_some_and(|at| at <= self.now) {
                let (_, to, packet) = self.echoes.pop_front().unwrap();
                self.input(to, Input::Returned(packet));
            }
            for end in 0..2 {
                if self.ends[end].poll_timeout().is_some_and(|at| at <= self.now) {
                    self.input(end, Input::Timeout);
                }
            }
        }
        self.now = end;
    }

    fn states(&self) -> [State; 2] {
        [self.ends[0].state(), self.ends[1].state()]
    }

    fn up(configs: [Config; 2]) -> Self {
        let mut pair = Self::new(configs, 7);
        pair.run(ms(3000));
        assert_eq!(pair.states(), [State::Up; 2], "{:?}", pair.changes);
        pair.changes.clear();
        pair.sent = [Vec::new(), Vec::new()];
        pair
    }
}

#[test]
fn two_sessions_come_up_and_agree_on_the_slower_end() {
    let slow = Config {
        desired_min_tx: ms(50),
        required_min_rx: ms(40),
        detect_multiplier: 5,
        passive: false,
        ..Config::default()
    };
    let mut pair = Pair::up([fast(), slow]);
    assert_eq!(pair.ends[0].transmit_interval(), Some(ms(40)));
    assert_eq!(pair.ends[1].transmit_interval(), Some(ms(50)));
    // The peer's multiplier, times the interval that the peer keeps to.
    assert_eq!(pair.ends[0].detection_time(), Some(ms(5 * 50)));
    assert_eq!(pair.ends[1].detection_time(), Some(ms(3 * 40)));
    // Both polls are over.
    pair.run(ms(500));
    assert!(pair.sent.iter().flatten().all(|(_, packet)| !packet.poll && !packet.r#final));
}

#[test]
fn a_silent_peer_is_noticed_within_the_detection_time() {
    let mut pair = Pair::up([fast(), fast()]);
    pair.open = [false, true]; // packets to end 0 vanish
    let cut = pair.now - pair.start;
    pair.run(ms(500));
    let (at, end, to, cause) = pair.changes[0];
    assert_eq!((end, to, cause), (0, State::Down, Cause::DetectionTimeExpired));
    assert!(at - cut <= ms(30) + DELAY, "took {:?}", at - cut);
    assert_eq!(pair.ends[0].diagnostic(), Diagnostic::DetectionTimeExpired);
    // The other end hears of it, and never comes up while it is not heard.
    assert_eq!(pair.changes[1].1, 1);
    assert_eq!(pair.changes[1].3, Cause::NeighborDown);
    assert_eq!(pair.ends[1].remote_diagnostic(), Diagnostic::DetectionTimeExpired);
    assert!(!pair.states().contains(&State::Up));
    pair.open = [true; 2];
    pair.run(ms(3000));
    assert_eq!(pair.states(), [State::Up; 2]);
}

#[test]
fn a_stall_of_this_host_puts_detection_off_by_as_long_but_only_so_often() {
    let mut pair = Pair::up([fast(); 2]);
    pair.open = [false; 2];
    let (session, random) = (&mut pair.ends[0], &mut pair.random);
    let before = session.detect_at().unwrap();
    assert_eq!(session.handle_input(pair.now, Input::Stalled(ms(20)), random), []);
    assert_eq!(session.detect_at(), Some(before + ms(20)));
    session.handle_input(pair.now, Input::Stalled(ms(500)), random);
    assert_eq!(session.detect_at(), Some(before + ms(30)), "twice the detection time is the most");
    pair.run(ms(100));
    assert_eq!(pair.states(), [State::Down; 2]);
}

#[test]
fn before_it_is_up_a_session_sends_once_a_second() {
    let mut pair = Pair::new([fast(), fast()], 1);
    pair.open = [false; 2];
    pair.run(ms(10_000));
    let times: Vec<Instant> = pair.sent[0].iter().map(|(at, _)| *at).collect();
    assert!((10..=14).contains(&times.len()), "{} packets in ten seconds", times.len());
    for pair in times.windows(2) {
        assert!((ms(750)..=ms(1000)).contains(&(pair[1] - pair[0])), "{:?}", pair[1] - pair[0]);
    }
    assert!(pair.sent[0].iter().all(|(_, packet)| packet.desired_min_tx == SLOW));
}

#[test]
fn sending_times_are_spread_by_up_to_a_quarter() {
    for (multiplier, most) in [(3, ms(10)), (1, ms(9))] {
        let config = Config { detect_multiplier: multiplier, ..fast() };
        let mut pair = Pair::up([Config { required_min_rx: ms(100), ..config }, fast()]);
        pair.ends[1].config.detect_multiplier = 10; // end 0 is to survive the other's pace
        pair.run(ms(1000));
        let regular: Vec<Duration> =
            pair.sent[0].windows(2).filter(|two| !two[1].1.r#final).map(|two| two[1].0 - two[0].0).collect();
        assert!(regular.len() > 90);
        assert!(regular.iter().all(|gap| (Duration::from_micros(7500)..=most).contains(gap)), "{regular:?}");
        assert!(regular.iter().min() != regular.iter().max());
    }
}

#[test]
fn a_poll_is_answered_at_once() {
    let mut pair = Pair::up([fast(), fast()]);
    let poll = Packet {
        diagnostic: Diagnostic::None,
        state: State::Up,
        poll: true,
        r#final: false,
        control_plane_independent: true,
        authenticated: false,
        demand: false,
        detect_multiplier: 3,
        my_discriminator: NonZeroU32::new(22).unwrap(),
        your_discriminator: NonZeroU32::new(11),
        desired_min_tx: ms(10),
        required_min_rx: ms(10),
        required_min_echo_rx: Duration::ZERO,
    };
    pair.input(0, Input::Received(&poll));
    let (at, answer) = pair.sent[0].last().unwrap();
    assert!(answer.r#final && !answer.poll && *at == pair.now);
    // The bits are no poll of the peer's: nothing follows.
    let answers = pair.sent[0].len();
    pair.input(0, Input::Received(&Packet { poll: false, ..poll }));
    assert_eq!(pair.sent[0].len(), answers);
}

#[test]
fn a_longer_interval_waits_until_the_peer_has_confirmed_it() {
    let mut pair = Pair::up([fast(), fast()]);
    pair.open[1] = false;
    let slower = Config { desired_min_tx: ms(20), ..fast() };
    pair.input(0, Input::Reconfigure(slower));
    assert!(pair.sent[0].last().unwrap().1.poll);
    assert_eq!(pair.ends[0].transmit_interval(), Some(ms(10)), "not confirmed yet");
    pair.open[1] = true;
    pair.run(ms(15));
    assert_eq!(pair.ends[0].transmit_interval(), Some(ms(20)));
    assert_eq!(pair.ends[1].detection_time(), Some(ms(60)));
    pair.run(ms(1000));
    assert!(pair.changes.is_empty(), "{:?}", pair.changes);
}

#[test]
fn a_shorter_receiving_interval_counts_only_once_confirmed() {
    let slow = Config { required_min_rx: ms(100), ..fast() };
    let mut pair = Pair::up([slow, fast()]);
    assert_eq!(pair.ends[0].detection_time(), Some(ms(300)));
    pair.input(0, Input::Reconfigure(fast()));
    assert_eq!(pair.ends[0].detection_time(), Some(ms(300)));
    pair.run(ms(200));
    assert_eq!(pair.ends[0].detection_time(), Some(ms(30)));
    assert!(pair.changes.is_empty(), "{:?}", pair.changes);
}

#[test]
fn administrative_down_is_told_and_stays() {
    let mut pair = Pair::up([fast(), fast()]);
    pair.input(0, Input::AdminDown(true));
    pair.run(ms(5000));
    assert_eq!(pair.states(), [State::AdminDown, State::Down]);
    assert_eq!(pair.changes[1].3, Cause::NeighborAdminDown);
    assert_eq!(pair.ends[1].remote_diagnostic(), Diagnostic::AdministrativelyDown);
    pair.input(0, Input::AdminDown(false));
    pair.run(ms(3000));
    assert_eq!(pair.states(), [State::Up; 2]);
}

#[test]
fn a_passive_end_waits_to_be_spoken_to() {
    let passive = Config { passive: true, ..fast() };
    let mut pair = Pair::new([passive, passive], 3);
    pair.run(ms(5000));
    assert!(pair.sent.iter().all(Vec::is_empty));
    let mut pair = Pair::new([passive, fast()], 3);
    pair.run(ms(5000));
    assert_eq!(pair.states(), [State::Up; 2]);
}

#[test]
fn a_packet_with_authentication_is_not_for_a_session_without() {
    let mut pair = Pair::up([fast(), fast()]);
    let forged = Packet { authenticated: true, state: State::Down, ..pair.sample(1) };
    pair.input(0, Input::Received(&forged));
    assert_eq!(pair.states(), [State::Up; 2]);
    assert_eq!(pair.ends[0].statistics().discarded, 1);
}

#[test]
fn a_peer_in_demand_mode_is_left_in_peace() {
    let mut pair = Pair::up([fast(), fast()]);
    let demand = Packet { demand: true, ..pair.sample(1) };
    pair.input(0, Input::Received(&demand));
    assert_eq!(pair.ends[0].transmit_interval(), None);
    pair.input(0, Input::Received(&Packet { required_min_rx: Duration::ZERO, ..pair.sample(1) }));
    assert_eq!(pair.ends[0].transmit_interval(), None);
    pair.input(0, Input::Received(&pair.sample(1)));
    assert_eq!(pair.ends[0].transmit_interval(), Some(ms(10)));
}

#[test]
fn a_peer_that_started_anew_takes_the_session_down_and_up() {
    let mut pair = Pair::up([fast(), fast()]);
    let restarted = Session::new(pair.now, NonZeroU32::new(33).unwrap(), fast());
    pair.ends[1] = restarted;
    pair.run(ms(3000));
    assert_eq!(pair.changes[0].1, 0);
    assert!(matches!(pair.changes[0].3, Cause::NeighborDown), "{:?}", pair.changes);
    assert_eq!(pair.states(), [State::Up; 2]);
    assert_eq!(pair.ends[0].discriminators().1, NonZeroU32::new(33));
}

impl Pair {
    /// A packet as the end would send it now.
    fn sample(&self, end: usize) -> Packet {
        let mut session = self.ends[end].clone();
        let mut out = Vec::new();
        session.send(false, &mut out);
        match out[..] {
            [Output::Send(octets)] => Packet::parse(&octets).unwrap(),
            _ => unreachable!("one packet is sent"),
        }
    }
}

proptest! {
    /// Whatever is lost on the way up: as soon as packets arrive, both are up within three slow intervals.
    #[test]
    fn sessions_come_up_over_any_lossy_link(seed: u64, loss in 0..90u32, bad in 0..20_000u64) {
        let mut pair = Pair::new([fast(), fast()], seed);
        pair.loss = loss;
        pair.run(ms(bad));
        pair.loss = 0;
        pair.run(ms(3200));
        prop_assert_eq!(pair.states(), [State::Up; 2]);
    }

    /// A link that loses nothing never takes a session down, whatever the timers.
    #[test]
    fn a_good_link_stays_up(seed: u64, tx in 3..500u64, rx in 3..500u64, multiplier in 2..10u8) {
        let odd = Config { desired_min_tx: ms(tx), required_min_rx: ms(rx), detect_multiplier: multiplier, passive: false, ..Config::default() };
        let mut pair = Pair::new([odd, fast()], seed);
        pair.run(ms(5000));
        prop_assert_eq!(pair.states(), [State::Up; 2]);
        pair.changes.clear();
        pair.run(ms(20_000));
        prop_assert!(pair.changes.is_empty(), "{:?}", pair.changes);
    }

    /// Serving a timeout moves the deadline on, whatever came before; otherwise the daemon would spin.
    #[test]
    fn deadlines_always_move_on(seed: u64, packets in proptest::collection::vec(any::<(u16, [u8; 24])>(), 1..60)) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut now = Instant::now();
        let mut session = Session::new(now, NonZeroU32::MIN, fast());
        for (wait, mut octets) in packets {
            now += ms(wait.into());
            octets[0] = 0x20 | octets[0] & 0x1f;
            octets[1] &= 0xfa;
            octets[3] = 24;
            if let Ok(packet) = Packet::parse(&octets) {
                session.handle_input(now, Input::Received(&packet), &mut random);
            }
            for _ in 0..2 {
                session.handle_input(now, Input::Timeout, &mut random);
            }
            if let Some(next) = session.poll_timeout() {
                prop_assert!(next > now);
            }
        }
    }
}

/// End 0 sends Echo packets every 10 ms, which end 1 reflects; control packets would be sent every 300 ms.
fn echoing() -> Pair {
    let asks = Config { desired_min_echo_tx: ms(10), ..Config::default() };
    let reflects = Config { required_min_echo_rx: ms(5), ..Config::default() };
    Pair::up([asks, reflects])
}

#[test]
fn echo_packets_that_come_back_make_control_packets_rare() {
    let mut pair = echoing();
    assert!(pair.ends[0].echo_is_heard() && !pair.ends[1].echo_is_heard());
    assert_eq!((pair.ends[0].echo_interval(), pair.ends[1].echo_interval()), (ms(10), ms(0)));
    assert_eq!(pair.ends[0].round_trip().map(|trip| (trip.min, trip.max)), Some((DELAY * 2, DELAY * 2)));
    // RFC 5880 §6.8.3: whoever echoes asks for few control packets; the other end needs them as before.
    assert_eq!([pair.ends[1].transmit_interval(), pair.ends[0].transmit_interval()], [Some(SLOW), Some(ms(300))]);
    let before = pair.ends[0].statistics();
    pair.run(ms(10_000));
    assert!(pair.changes.is_empty(), "{:?}", pair.changes);
    let after = pair.ends[0].statistics();
    let (sent, back) = (after.echo_sent - before.echo_sent, after.echo_received - before.echo_received);
    assert!((1000..=1340).contains(&sent) && back.abs_diff(sent) <= 1, "{sent} sent, {back} came back");
}

#[test]
fn echo_packets_that_stay_away_end_the_session_long_before_control_packets_would() {
    let mut pair = echoing();
    pair.reflects = false;
    let cut = pair.now - pair.start;
    pair.run(ms(500));
    let (at, end, to, cause) = pair.changes[0];
    assert_eq!((end, to, cause), (0, State::Down, Cause::EchoFailed));
    assert!(at - cut <= ms(30) + DELAY * 2, "took {:?}", at - cut);
    assert!(pair.sent[0].iter().any(|(_, packet)| packet.diagnostic == Diagnostic::EchoFailed));
    // Control packets still pass, so the session returns; what has not come back since says nothing.
    pair.run(ms(5000));
    assert_eq!(pair.states(), [State::Up; 2]);
    assert!(!pair.ends[0].echo_is_heard());
    assert_eq!(pair.ends[1].transmit_interval(), Some(ms(300)), "control packets are what is left");
    pair.reflects = true;
    pair.run(ms(100));
    assert!(pair.ends[0].echo_is_heard());
}

#[test]
fn a_peer_that_no_longer_reflects_is_not_blamed() {
    let mut pair = echoing();
    pair.input(1, Input::Reconfigure(Config::default()));
    pair.reflects = false;
    pair.run(ms(5000));
    assert!(pair.changes.is_empty(), "{:?}", pair.changes);
    assert_eq!((pair.ends[0].echo_interval(), pair.ends[0].required_min_rx()), (ms(0), ms(300)));
}

#[test]
fn an_echo_packet_of_somebody_else_does_not_keep_the_session_up() {
    let mut pair = echoing();
    pair.reflects = false;
    let discriminator = NonZeroU32::new(11).unwrap();
    for nonce in 0..20 {
        pair.input(0, Input::Returned(EchoPacket { discriminator, nonce }));
        pair.run(ms(5));
    }
    assert_eq!(pair.changes[0].3, Cause::EchoFailed);
}

/// Turns the clock while the path holds up everything for `stuck` of each 200 ms.
fn run_unevenly(pair: &mut Pair, rounds: u32, stuck: Duration) {
    for _ in 0..rounds {
        pair.stuck_until = pair.now + stuck;
        pair.run(ms(200));
    }
}

fn adapting() -> Config {
    Config { adapt_up_to: ms(200), ..fast() }
}

#[test]
fn intervals_that_adapt_survive_a_path_that_others_do_not() {
    let mut fixed = Pair::up([fast(), fast()]);
    run_unevenly(&mut fixed, 50, ms(60));
    let flaps = fixed.changes.iter().filter(|(.., to, _)| *to == State::Down).count();
    assert!(flaps >= 10, "the path is meant to be too uneven for 10 ms x 3: {flaps}");
    let mut pair = Pair::up([adapting(), adapting()]);
    run_unevenly(&mut pair, 50, ms(60));
    pair.changes.clear();
    run_unevenly(&mut pair, 500, ms(60));
    assert!(pair.changes.is_empty(), "{:?}", pair.changes);
    assert_eq!(pair.states(), [State::Up; 2]);
    // Half of the two intervals that the multiplier leaves is free.
    let interval = pair.ends[0].transmit_interval().unwrap();
    assert!(interval >= ms(40) && interval <= ms(100), "{interval:?}");
    // A smooth path has its short intervals back after some minutes.
    pair.stuck_until = pair.now;
    pair.run(Duration::from_secs(400));
    assert!(pair.changes.is_empty(), "{:?}", pair.changes);
    assert_eq!(pair.ends[0].transmit_interval(), Some(ms(10)));
}

#[test]
fn a_dead_path_is_noticed_as_fast_after_it_died_as_before() {
    let mut pair = Pair::up([adapting(), adapting()]);
    pair.run(ms(2000));
    pair.open = [false; 2];
    pair.run(Duration::from_secs(60));
    pair.open = [true; 2];
    pair.run(ms(5000));
    assert_eq!(pair.states(), [State::Up; 2]);
    let detection: Vec<_> = pair.ends.iter().map(Session::detection_time).collect();
    assert_eq!(detection, [Some(ms(30)); 2], "a minute of silence is no jitter");
}
