//! BFD control packets from anybody, into a parser and a session.
#![no_main]

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use bfd::{Config, Input, Packet, Session};

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
    if let Ok(packet) = Packet::parse(data) {
        assert_eq!(Packet::parse(&packet.emit()), Ok(Packet { authenticated: false, ..packet }));
    }
    let mut now = Instant::now();
    let mut random = Steady(1);
    let mut session = Session::new(now, NonZeroU32::MIN, Config::default());
    for datagram in data.chunks(25) {
        let (wait, datagram) = datagram.split_first().expect("chunks are not empty");
        now += Duration::from_millis(u64::from(*wait) * 8);
        if let Ok(packet) = Packet::parse(datagram) {
            session.handle_input(now, Input::Received(&packet), &mut random);
        }
        session.handle_input(now, Input::Timeout, &mut random);
        session.handle_input(now, Input::Timeout, &mut random);
        assert!(session.poll_timeout().is_none_or(|next| next > now), "the deadline does not move on");
    }
});
