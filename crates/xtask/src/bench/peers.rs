//! `cargo xtask bench peers`: many neighbors, each of which sends routes and gets everybody else's.
//!
//! Two settings: 10 peers with 200,000 routes each, and a route server (RFC 7947) with 500 clients of 1,000. All
//! sessions are up before the clock starts; it stops when the last peer has the last prefix. Our sessions have a hold
//! time of 3 s: the measurement fails when one is lost.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use integration::bgp_load::{Asker, Kind, Neighbor, Origin, Plan, Setting, Speaker, Subject, Table};
use integration::edge::Binaries;
use integration::{Lab, packages};
use serde::Serialize;

use super::Options;
use crate::root;

const SUBJECT: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
const LIMIT: Duration = Duration::from_secs(900);

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    bench: &'static str,
    subject: &'static str,
    peers: usize,
    routes_each: usize,
    route_server: bool,
    /// From the first UPDATE until everybody has everything.
    load_s: f64,
    /// Prefixes told, over all peers.
    announced: usize,
    announced_per_s: f64,
    rss_mb: f64,
    rss_peak_mb: f64,
    show_summary_ms_max: Option<f64>,
}

/// Runs each setting for each subject.
pub(super) fn run(options: &Options, binaries: &Binaries) -> Result<bool> {
    if options.subjects().any(|kind| kind != Kind::Holdfast) {
        packages::ensure(&packages::PEERS)?;
    }
    root::ensure()?;
    let all = [(10, 200_000, false), (500, 1_000, true)];
    let asked = |(peers, ..): &(usize, usize, bool)| options.peers.is_empty() || options.peers.contains(peers);
    for (peers, routes_each, route_server) in all.into_iter().filter(asked) {
        for kind in options.subjects().filter(|kind| *kind != Kind::Frr) {
            print(&measure(kind, binaries, peers, routes_each, route_server)?, options.json)?;
        }
    }
    Ok(true)
}

fn measure(kind: Kind, binaries: &Binaries, peers: usize, routes_each: usize, route_server: bool) -> Result<Line> {
    let lab = Lab::new("peers")?;
    let (subject, node) = (lab.node("subject")?, lab.node("peers")?);
    lab.join((&subject, "to-peers"), (&node, "to-subject"))?;
    subject.address("to-peers", &format!("{SUBJECT}/16"))?;
    let neighbor = |number: usize| {
        let address = Ipv4Addr::new(10, 255, 1 + (number / 250) as u8, 1 + (number % 250) as u8);
        Neighbor { address, asn: 65_100 + number as u32 }
    };
    let neighbors: Vec<Neighbor> = (0..peers).map(neighbor).collect();
    let lines = neighbors.iter().map(|neighbor| format!("address add {}/16 dev to-subject\n", neighbor.address));
    node.ip_batch(&lines.collect::<String>())?;
    let hold_seconds = if kind == Kind::Holdfast { 3 } else { 90 };
    let setting = Setting { address: SUBJECT, asn: 65001, neighbors: &neighbors, route_server, hold_seconds };
    let running = Subject::start(kind, &subject, binaries, &setting)?;
    let mut speakers = Vec::with_capacity(peers);
    for (number, Neighbor { address, asn }) in neighbors.iter().copied().enumerate() {
        let table = Table::consecutive(number * routes_each, routes_each, number as u64 + 1);
        let plan = Plan { asn, address, peer: SocketAddr::from((SUBJECT, 179)), hold_seconds };
        let speaker = Speaker::establish(&node, plan, Duration::from_secs(120))?;
        speakers.push((speaker, table.announcements(Origin { asn, next_hop: address })));
    }
    let asker = running.socket().map(|socket| Asker::start(socket.clone(), "show bgp summary")).transpose()?;
    let others = (peers - 1) * routes_each;
    let started = Instant::now();
    let last = std::thread::scope(|scope| -> Result<Instant> {
        let sending: Vec<_> = speakers.iter().map(|(speaker, octets)| scope.spawn(|| speaker.send(octets))).collect();
        let mut last = started;
        for (speaker, _) in &speakers {
            last = last.max(speaker.wait(others, LIMIT)?);
        }
        for sent in sending {
            sent.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(last)
    })?;
    let answers = asker.map(Asker::stop).transpose()?;
    for (speaker, _) in &speakers {
        speaker.must_live().with_context(|| format!("{} did not hold its sessions", kind.name()))?;
    }
    let (load, memory) = (last.duration_since(started).as_secs_f64(), running.memory()?);
    Ok(Line {
        bench: "peers",
        subject: kind.name(),
        peers,
        routes_each,
        route_server,
        load_s: load,
        announced: peers * others,
        announced_per_s: (peers * others) as f64 / load,
        rss_mb: memory.resident_mb,
        rss_peak_mb: memory.peak_mb,
        show_summary_ms_max: answers.map(|answers| answers.slowest.as_secs_f64() * 1000.0),
    })
}

fn print(line: &Line, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(line)?);
        return Ok(());
    }
    let summary =
        line.show_summary_ms_max.map_or_else(String::new, |ms| format!(", show bgp summary at most {ms:.1} ms"));
    println!(
        "{:9} {:>4} peers x {:>7} routes: everybody has everything after {:.1} s ({:.0} a second), {:.0} MB, at most {:.0} MB{summary}",
        line.subject, line.peers, line.routes_each, line.load_s, line.announced_per_s, line.rss_mb, line.rss_peak_mb
    );
    Ok(())
}
