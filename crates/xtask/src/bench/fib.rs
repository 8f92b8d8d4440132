//! `cargo xtask bench fib`: routes into the kernel, beside a writer that does nothing else; and a restart.
//!
//! The bare writer sends octets that were made before, 256 messages at a time with one acknowledgement. Ours is the
//! engine as bgpd drives it. Both take turns, and the better of two rounds counts. Then a second engine adopts the
//! table, is told the same routes again, and has to find nothing to write.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fib::{Fib, Kernel, PathKey, disable_nexthop_compat_mode};
use integration::bare_routes::BareWriter;
use integration::{Lab, Node};
use net_types::Prefix;
use serde::Serialize;

use super::Options;
use crate::root;

/// As many as bgpd writes at a time.
const BATCH: usize = 128;
/// As many as bgpd's routing table hands over at a time.
const CHANGES: usize = 1024;

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    bench: &'static str,
    subject: &'static str,
    routes: usize,
    per_s: f64,
    bare_per_s: f64,
    ratio: f64,
    /// From the start of a second engine until it knows that nothing is to be written.
    reconcile_s: f64,
    reconcile_written: usize,
}

/// Runs the measurement.
pub(super) fn run(options: &Options) -> Result<bool> {
    root::ensure()?;
    for routes in options.routes_or(&[1_000_000]) {
        let lab = Lab::new("fib")?;
        let (node, other) = (lab.node("router")?, lab.node("other")?);
        lab.join((&node, "out"), (&other, "in"))?;
        node.address("out", "10.255.0.1/24")?;
        let line = node.enter(|| measure(&node, routes))??;
        if options.json {
            println!("{}", serde_json::to_string(&line)?);
        } else {
            println!(
                "{routes} routes: {:.0} a second, a bare writer {:.0} ({:.2}); adopted and told again in {:.2} s, {} written",
                line.per_s, line.bare_per_s, line.ratio, line.reconcile_s, line.reconcile_written
            );
        }
    }
    Ok(true)
}

fn measure(node: &Node, routes: usize) -> Result<Line> {
    disable_nexthop_compat_mode();
    let prefixes: Vec<Prefix> = (0..routes as u32)
        .map(|number| Prefix::new((0x1000_0000 + (number << 8)).to_be_bytes().into(), 24))
        .collect::<Result<_, _>>()?;
    let ifindex = std::fs::read_to_string("/sys/class/net/out/ifindex").ok().and_then(|text| text.trim().parse().ok());
    let ifindex = match ifindex {
        Some(ifindex) => ifindex,
        // The namespace's own devices are not in this /sys.
        None => node
            .run_json(&["ip", "-j", "link", "show", "dev", "out"])?
            .pointer("/0/ifindex")
            .and_then(|v| v.as_u64())
            .context("no index")? as u32,
    };
    let path = PathKey { source: 1, ifindex, gateway: Some([10, 255, 0, 2].into()) };
    let (mut bare, mut ours) = (Duration::MAX, Duration::MAX);
    for round in 0..2 {
        let mut writer = BareWriter::open(ifindex, [10, 255, 0, 2].into())?;
        bare = bare.min(writer.write(&prefixes)?);
        writer.clear()?;
        let mut fib = Fib::new(Kernel::open()?);
        let started = Instant::now();
        route(&mut fib, &prefixes, path);
        settle(&mut fib)?;
        ours = ours.min(started.elapsed());
        if round == 0 {
            prefixes.iter().for_each(|prefix| fib.remove_route(*prefix));
            settle(&mut fib)?;
        }
    }
    let started = Instant::now();
    let mut fib = Fib::new(Kernel::open()?);
    let adopted = fib.adopt()?;
    ensure!(adopted.routes == routes, "{} of {routes} routes were found", adopted.routes);
    route(&mut fib, &prefixes, path);
    let written = settle(&mut fib)?;
    let reconcile = started.elapsed();
    let per_s = |took: Duration| routes as f64 / took.as_secs_f64();
    Ok(Line {
        bench: "fib",
        subject: "holdfast",
        routes,
        per_s: per_s(ours),
        bare_per_s: per_s(bare),
        ratio: bare.as_secs_f64() / ours.as_secs_f64(),
        reconcile_s: reconcile.as_secs_f64(),
        reconcile_written: written,
    })
}

/// Says of every prefix where it goes, as many at a time as the routing table hands over.
fn route(fib: &mut Fib<Kernel>, prefixes: &[Prefix], path: PathKey) {
    for prefixes in prefixes.chunks(CHANGES) {
        fib.look_ahead(prefixes);
        prefixes.iter().for_each(|prefix| fib.set_route(*prefix, &[path]));
    }
}

/// Writes everything that is to be written; says how much that was.
fn settle(fib: &mut Fib<Kernel>) -> Result<usize> {
    let mut written = 0;
    while !fib.is_settled() {
        let flushed = fib.flush(BATCH);
        if let Some(error) = flushed.error {
            return Err(error.into());
        }
        ensure!(flushed.refused == 0, "the kernel refuses routes: {:?}", flushed.refusal);
        written += flushed.written;
    }
    Ok(written)
}
