//! VRRP advertisements from anybody, into a parser and a virtual router.
#![no_main]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use vrrp::{Addresses, Advertisement, Config, GROUP_V4, GROUP_V6, Interval, Output, Role, VirtualRouter, Vrid};

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
        let (from_v6, group_v6) = (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last.into()), GROUP_V6);
        let over_v6 = checked(payload, &[from_v6.octets(), group_v6.octets()].concat());
        let (from_v6, group_v6) = (IpAddr::V6(from_v6), IpAddr::V6(group_v6));
        if let Ok(heard) = Advertisement::parse(&over_v6, from_v6, group_v6) {
            assert_eq!(Advertisement::parse(&heard.emit(from_v6, group_v6), from_v6, group_v6), Ok(heard));
        }
        let payload = checked(payload, &[]);
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

/// With the checksum that belongs there, or nothing would get any further; of IPv6 with the addresses in it.
fn checked(payload: &[u8], addresses: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    if payload.len() < 8 {
        return payload;
    }
    payload[6..8].copy_from_slice(&[0, 0]);
    let pseudo = if addresses.is_empty() { 0 } else { payload.len() as u32 + u32::from(vrrp::PROTOCOL) };
    let words = addresses.chunks(2).chain(payload.chunks(2));
    let mut sum = words
        .fold(pseudo, |sum, word| sum + u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    payload[6..8].copy_from_slice(&(!sum as u16).to_be_bytes());
    payload
}
