//! Two sessions that dial each other at once, with messages in any order that TCP allows (RFC 4271 §6.8).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bgp_wire::{GracefulRestart, GracefulRestartFamily, Message, Negotiated, PeerKind, Update};
use net_types::{Asn, Family};
use proptest::{collection::vec, prelude::*};
use rand::{SeedableRng, rngs::StdRng};

use super::*;

/// What travels on a connection.
#[derive(Clone, Debug)]
enum Wire {
    Bytes(Bytes),
    Routes,
    Fin,
}

/// A connection between the two; index 0 and 1 are the speakers.
struct Pipe {
    opener: usize,
    /// The other end has accepted it.
    accepted: bool,
    /// The opener has been told that it is there.
    open: bool,
    /// Towards speaker 0 and speaker 1.
    to: [VecDeque<Wire>; 2],
    closed: [bool; 2],
}

struct World {
    now: Instant,
    sessions: [Session; 2],
    pipes: Vec<Pipe>,
    /// Connections that each has as established.
    up: [Option<ConnectionId>; 2],
    /// Routes that arrived.
    routes: [usize; 2],
    downs: Vec<DownReason>,
}

impl World {
    fn new(restart: bool, seed: u64) -> Self {
        let graceful_restart = restart.then(|| GracefulRestart {
            restarting: true, // both have just started
            notification: true,
            restart_seconds: 120,
            families: vec![GracefulRestartFamily::new(Family::Ipv4Unicast, false)],
        });
        let session = |us: u8| {
            let asn = |host: u8| Asn::literal(65000 + u32::from(host));
            let router_id = std::net::Ipv4Addr::new(10, 0, 0, us).try_into().unwrap();
            let config = SessionConfig {
                graceful_restart: graceful_restart.clone(),
                ..SessionConfig::new(asn(us), router_id, RemoteAs::Exactly(asn(3 - us)))
            };
            Session::new(config, Box::new(StdRng::seed_from_u64(seed + u64::from(us))))
        };
        Self {
            now: Instant::now(),
            sessions: [session(1), session(2)],
            pipes: Vec::new(),
            up: [None; 2],
            routes: [0; 2],
            downs: Vec::new(),
        }
    }

    fn input(&mut self, side: usize, input: Input) {
        for output in self.sessions[side].handle_input(self.now, input) {
            match output {
                Output::Dial => self.pipes.push(Pipe {
                    opener: side,
                    accepted: false,
                    open: false,
                    to: Default::default(),
                    closed: [false; 2],
                }),
                Output::CancelDial => {
                    let dialed = self.pipes.iter_mut().rev().find(|pipe| pipe.opener == side && !pipe.open);
                    if let Some(pipe) = dialed {
                        pipe.closed[side] = true;
                        pipe.to[1 - side].push_back(Wire::Fin);
                    }
                }
                Output::Send(id, message) => self.send(side, id, Wire::Bytes(message.to_bytes())),
                Output::HangUp(id) => {
                    self.send(side, id, Wire::Fin);
                    self.pipes[id.0 as usize].closed[side] = true;
                }
                Output::Up(id, _) => {
                    assert_eq!(self.up[side].replace(id), None);
                    self.send(side, id, Wire::Routes);
                }
                Output::Down(reason, _) => {
                    self.up[side] = None;
                    self.downs.push(reason);
                }
                Output::Routes(_) => self.routes[side] += 1,
                _ => {}
            }
        }
    }

    fn send(&mut self, side: usize, id: ConnectionId, what: Wire) {
        let pipe = &mut self.pipes[id.0 as usize];
        if !pipe.closed[side] {
            pipe.to[1 - side].push_back(what);
        }
    }

    /// Everything that may happen next.
    fn choices(&self) -> Vec<(usize, usize, &'static str)> {
        let mut choices = Vec::new();
        for (index, pipe) in self.pipes.iter().enumerate() {
            let (opener, other) = (pipe.opener, 1 - pipe.opener);
            if !pipe.open && !pipe.closed[opener] {
                choices.push((index, opener, "opened"));
            }
            // The other end may learn of it before the opener does, and after what the opener has sent.
            if !pipe.accepted && pipe.open {
                choices.push((index, other, "accepted"));
            }
            for side in 0..2 {
                let known = if side == opener { pipe.open } else { pipe.accepted };
                if known && !pipe.to[side].is_empty() && !pipe.closed[side] {
                    choices.push((index, side, "arrives"));
                }
            }
        }
        choices
    }

    fn happen(&mut self, (index, side, what): (usize, usize, &'static str)) {
        let id = ConnectionId(index as u64);
        match what {
            "opened" => {
                self.pipes[index].open = true;
                self.input(side, Input::Connected(id, Direction::Outgoing));
            }
            "accepted" => {
                self.pipes[index].accepted = true;
                self.input(side, Input::Connected(id, Direction::Incoming));
            }
            _ => match self.pipes[index].to[side].pop_front() {
                Some(Wire::Bytes(bytes)) => {
                    let negotiated: Negotiated = self.sessions[side].negotiated(id);
                    let message = Message::parse(&bytes, &negotiated).unwrap().message;
                    self.input(side, Input::Received(id, message));
                }
                Some(Wire::Routes) => self.input(side, Input::Received(id, Message::Update(Update::default()))),
                Some(Wire::Fin) => {
                    self.input(side, Input::Lost(id));
                    self.pipes[index].closed[side] = true;
                }
                None => {}
            },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// Whatever the order: one session, the same connection on both sides, and no session that was up ever falls.
    #[test]
    fn two_that_dial_at_once_meet_on_one_connection(
        order in vec(any::<prop::sample::Index>(), 0..60),
        restart: bool,
        seed: u64,
    ) {
        let mut world = World::new(restart, seed >> 1);
        world.input(0, Input::Start);
        world.input(1, Input::Start);
        let mut order = order.into_iter();
        for _ in 0..400 {
            let choices = world.choices();
            if !choices.is_empty() {
                let chosen = order.next().map_or(0, |index| index.index(choices.len()));
                world.happen(choices[chosen]);
                continue;
            }
            if world.up.iter().all(Option::is_some) {
                break;
            }
            // Nothing is on its way: the next timer, which is one to dial again.
            let next = world.sessions.iter().filter_map(Session::poll_timeout).min();
            prop_assert!(next.is_some(), "stuck: {:?}", world.sessions);
            world.now = next.unwrap().max(world.now + Duration::from_millis(1));
            world.input(0, Input::Timeout);
            world.input(1, Input::Timeout);
        }
        prop_assert!(world.downs.is_empty(), "{:?}", world.downs);
        prop_assert!(world.up[0].is_some() && world.up[0] == world.up[1], "{:?} {:?}", world.up, world.sessions);
        prop_assert_eq!(world.routes, [1, 1]);
        prop_assert_eq!(world.sessions[0].terms().map(Terms::peer_kind), Some(PeerKind::External));
    }
}
