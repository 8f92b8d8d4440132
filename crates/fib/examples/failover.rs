//! Measures the kernel: how fast routes go in, and how long the replacement of their nexthop takes.
//!
//! Run as root in a namespace of its own: `unshare --net target/release/examples/failover 1000 100000 1000000`

use std::{process::Command, time::Instant};

use fib::{Fib, Kernel, PathKey, PathState, Scope, disable_nexthop_compat_mode};
use net_types::Prefix;

fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("sh runs");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn main() {
    let existing = sh("ip -o link | wc -l");
    assert_eq!(existing.trim(), "1", "this adds links and routes: run it under `unshare --net`");
    let paths: Vec<PathKey> = (1..=2_u32)
        .map(|number| {
            sh(&format!("ip link add v{number} type veth peer name w{number}"));
            sh(&format!("ip addr add 192.0.{number}.1/24 dev v{number}"));
            sh(&format!("ip link set v{number} up; ip link set w{number} up"));
            let ifindex = sh(&format!("ip -o link show v{number}"))
                .split(':')
                .next()
                .and_then(|it| it.parse().ok())
                .expect("an index");
            PathKey { source: number, ifindex, gateway: format!("192.0.{number}.2").parse().ok() }
        })
        .collect();
    println!("nexthop_compat_mode: {:?}", disable_nexthop_compat_mode());
    for count in std::env::args().skip(1).map(|text| text.parse::<u32>().expect("a number of routes")) {
        measure(count, &paths);
    }
}

fn measure(count: u32, paths: &[PathKey]) {
    let mut fib = Fib::new(Kernel::open().expect("a route socket"));
    let prefix = |number: u32| Prefix::new((0x1000_0000 + number * 256).to_be_bytes().into(), 24).expect("a prefix");
    let started = Instant::now();
    for number in 0..count {
        fib.set_route(prefix(number), paths);
    }
    let queued = started.elapsed();
    let mut slowest = std::time::Duration::ZERO;
    while !fib.is_settled() {
        let batch = Instant::now();
        let flushed = fib.flush(128);
        assert!(flushed.error.is_none() && flushed.refused == 0, "{flushed:?}");
        slowest = slowest.max(batch.elapsed());
    }
    let inserted = started.elapsed();
    let mut switches: Vec<_> = (0..100)
        .map(|trial| {
            let state = if trial % 2 == 0 { PathState::Dead } else { PathState::Up };
            let switch = fib.set_state(Scope::Source(1), state);
            assert_eq!((switch.lists, switch.routes), (1, count as usize), "{switch:?}");
            switch.elapsed
        })
        .collect();
    switches.sort();
    let removal = Instant::now();
    for number in 0..count {
        fib.remove_route(prefix(number));
    }
    while fib.flush(256).written > 0 {}
    println!(
        "{count} routes: queued in {queued:.1?}, inserted at {:.0}/s (slowest batch of 128: {slowest:.1?}), \
         switched in {:.0?} p50, {:.0?} p99, {:.0?} max, removed at {:.0}/s",
        f64::from(count) / inserted.as_secs_f64(),
        switches[50],
        switches[98],
        switches[99],
        f64::from(count) / removal.elapsed().as_secs_f64(),
    );
}
