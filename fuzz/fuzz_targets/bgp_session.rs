//! A session whose neighbor sends anything at any time, on both connections at once.
//!
//! The input is a list of steps: what happens, how much time passes before it, and for what arrives a frame.
#![no_main]

use std::time::{Duration, Instant};

use bgp_core::session::{ConnectionId, Direction, Input, Output, RemoteAs, Session, SessionConfig};
use bgp_wire::{Message, Notification, frame_length, notification::CeaseCode};
use net_types::{Asn, RouterId};

/// Jitter that a replay repeats.
struct Steady(u64);

impl rand::RngCore for Steady {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0
    }

    fn fill_bytes(&mut self, to: &mut [u8]) {
        to.iter_mut().for_each(|octet| *octet = self.next_u64() as u8);
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let asn = |number: u32| Asn::try_from(number).expect("a valid AS number");
    let router_id = RouterId::try_from(std::net::Ipv4Addr::new(10, 1, 0, 1)).expect("a valid identifier");
    let config = SessionConfig::new(asn(65_001), router_id, RemoteAs::External);
    let mut session = Session::new(config, Box::new(Steady(1)));
    let mut now = Instant::now();
    session.handle_input(now, Input::Start);
    let mut rest = data;
    while let [step, wait, after @ ..] = rest {
        rest = after;
        now += Duration::from_millis(u64::from(*wait) * 500);
        // Timers first, as the owner would.
        if session.poll_timeout().is_some_and(|at| at <= now) {
            session.handle_input(now, Input::Timeout);
            assert!(session.poll_timeout().is_none_or(|next| next > now), "the deadline does not move on");
        }
        let connection = ConnectionId(u64::from(step >> 6));
        let direction = if connection.0 % 2 == 0 { Direction::Outgoing } else { Direction::Incoming };
        let input = match step & 15 {
            0 => Input::Start,
            1 => Input::Stop(Notification::cease(CeaseCode::AdministrativeShutdown)),
            2 => Input::Reset(Notification::cease(CeaseCode::AdministrativeReset)),
            3 => Input::BfdDown,
            4 => Input::PathUp,
            5 => Input::DialFailed,
            6 => Input::Backlog(connection),
            7 => Input::Written(connection),
            8 => Input::Lost(connection),
            9 => Input::Timeout,
            10 | 11 => Input::Connected(connection, direction),
            _ => {
                let negotiated = session.negotiated(connection);
                let Ok(Some(length)) = frame_length(rest, negotiated.max_message_octets()) else { continue };
                let Some((frame, after)) = rest.split_at_checked(length) else { continue };
                rest = after;
                match Message::parse(frame, &negotiated) {
                    Ok(parsed) => Input::Received(connection, parsed.message),
                    Err(error) => Input::Malformed(connection, error),
                }
            }
        };
        let up_before = session.terms().is_some();
        for output in session.handle_input(now, input) {
            match output {
                Output::Routes(_) => assert!(up_before, "routes without an established session"),
                Output::Send(_, outgoing) => drop(outgoing.to_bytes()),
                _ => {}
            }
        }
    }
});
