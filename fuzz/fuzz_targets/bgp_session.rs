//! A session under any sequence of events and any octets from the neighbor.
//!
//! The input is a list of steps: an operation, how much time passes first (in half seconds), and for a message its
//! type, the length of its body and the body. What the owner relies on is asserted after each.
#![no_main]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bgp_core::session::{ConnectionId, Direction, Input, Output, Phase, RemoteAs, Session, SessionConfig};
use bgp_wire::{GracefulRestart, GracefulRestartFamily, Message, Notification, notification::CeaseCode};
use libfuzzer_sys::fuzz_target;
use net_types::{Asn, Family};
use rand::{SeedableRng, rngs::StdRng};

struct Steps<'a>(&'a [u8]);

impl<'a> Steps<'a> {
    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, octets: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(octets.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

fn config(choice: u8) -> SessionConfig {
    let restart = GracefulRestart {
        notification: choice & 4 != 0,
        restart_seconds: 60,
        families: vec![GracefulRestartFamily::new(Family::Ipv4Unicast, true)],
        ..GracefulRestart::default()
    };
    let router_id = "10.0.0.5".parse().expect("not zero");
    SessionConfig {
        passive: choice & 1 != 0,
        graceful_restart: (choice & 2 != 0).then_some(restart),
        ..SessionConfig::new(Asn::literal(65001), router_id, RemoteAs::External)
    }
}

fn step(session: &Session, steps: &mut Steps<'_>, operation: u8, fresh: &mut u64) -> Option<Input> {
    // Of the connections so far, one of the last four.
    let recent = |octet: u8, fresh: u64| ConnectionId(fresh.saturating_sub(u64::from(octet & 3)));
    Some(match operation % 18 {
        0 => Input::Start,
        1 => Input::Stop(Notification::cease(CeaseCode::AdministrativeShutdown)),
        2 => Input::Reset(Notification::cease(CeaseCode::AdministrativeReset)),
        3 => Input::BfdDown,
        4 => Input::PathUp,
        5 | 6 => {
            *fresh += 1;
            let direction = if operation % 18 == 5 { Direction::Outgoing } else { Direction::Incoming };
            Input::Connected(ConnectionId(*fresh), direction)
        }
        7 => Input::DialFailed,
        8 => Input::Backlog(recent(steps.octet()?, *fresh)),
        9 => Input::Written(recent(steps.octet()?, *fresh)),
        10 => Input::Lost(recent(steps.octet()?, *fresh)),
        11 => Input::Timeout,
        12 => Input::Leave,
        13 => Input::PathLost,
        _ => {
            let connection = recent(steps.octet()?, *fresh);
            let kind = steps.octet()?;
            let length = usize::from(steps.octet()?);
            let body = steps.take(length);
            let mut frame = vec![0xff; 16];
            frame.extend((19 + body.len() as u16).to_be_bytes());
            frame.push(kind);
            frame.extend_from_slice(body);
            match Message::parse(&frame, &session.negotiated(connection)) {
                Ok(parsed) => Input::Received(connection, parsed.message),
                Err(error) => Input::Malformed(connection, error),
            }
        }
    })
}

fuzz_target!(|data: &[u8]| {
    let mut steps = Steps(data);
    let Some(choice) = steps.octet() else { return };
    let mut session = Session::new(config(choice), Box::new(StdRng::seed_from_u64(u64::from(choice))));
    let mut now = Instant::now();
    let mut fresh = 0;
    let mut up = false;
    let mut closed = BTreeSet::new();
    while let (Some(operation), Some(pause)) = (steps.octet(), steps.octet()) {
        now += Duration::from_millis(500 * u64::from(pause));
        let Some(input) = step(&session, &mut steps, operation, &mut fresh) else { return };
        let mut outputs = session.handle_input(now, input);
        outputs.extend(session.handle_input(now, Input::Timeout));
        for output in outputs {
            match output {
                Output::Up(..) => assert!(!std::mem::replace(&mut up, true), "up twice"),
                Output::Down(..) => assert!(std::mem::replace(&mut up, false), "down without up"),
                Output::Routes(_) | Output::Refresh(_) => assert!(up, "routes without a session"),
                Output::Send(id, message) => {
                    assert!(!closed.contains(&id), "sent to a closed connection");
                    let _ = message.to_bytes();
                }
                Output::HangUp(id) => assert!(closed.insert(id), "hung up twice"),
                _ => {}
            }
        }
        assert_eq!(up, session.phase() == Phase::Established);
        assert!(session.poll_timeout().is_none_or(|at| at > now), "the daemon would spin");
    }
});
