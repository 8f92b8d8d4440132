//! VRRP advertisements from anybody, into a parser and a virtual router.
#![no_main]

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use vrrp::{Addresses, Advertisement, Config, GROUP_V4, Interval, Output, Role, VirtualRouter, Vrid};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (us, group) = (IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)), IpAddr::V4(GROUP_V4));
    let mut now = Instant::now();
    let mut router = VirtualRouter::new(Config {
        vrid: Vrid::new(10).expect("not 0"),
        addresses: Addresses::V4(vec![Ipv4Addr::new(10, 1, 0, 1)]),
        priority: 100,
        interval: Interval::DEFAULT,
        preempt: true,
        preempt_delay: Duration::ZERO,
    });
    router.set_ready(now, true);
    router.start(now, us);
    let mut holds = false;
    for step in data.chunks(14) {
        let (&[last, wait], payload) = step.split_first_chunk::<2>().unwrap_or((&[0, 0], &[]));
        let from = IpAddr::V4(Ipv4Addr::new(10, 1, 0, last));
        // With the checksum that belongs there, or nothing would get any further.
        let mut payload = payload.to_vec();
        if let Some(check) = payload.get_mut(6..8) {
            check.copy_from_slice(&[0, 0]);
            let sum = payload.chunks(2).fold(0u32, |sum, word| {
                sum + u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]))
            });
            payload[6..8].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
        }
        let mut outputs = Vec::new();
        if let Ok(heard) = Advertisement::parse(&payload, from, group) {
            assert_eq!(Advertisement::parse(&heard.emit(from, group), from, group), Ok(heard.clone()));
            outputs = router.handle_advertisement(now, from, &heard);
        }
        now += Duration::from_millis(u64::from(wait) * 8);
        outputs.extend(router.handle_timeout(now));
        for output in outputs {
            match output {
                Output::TakeAddresses => assert!(!std::mem::replace(&mut holds, true), "taken twice"),
                Output::GiveUpAddresses => assert!(std::mem::replace(&mut holds, false), "given up twice"),
                Output::Send(_) => {}
            }
        }
        assert_eq!(holds, router.role() == Role::Active);
        assert!(router.poll_timeout().is_none_or(|next| next > now), "the deadline does not move on");
    }
});
