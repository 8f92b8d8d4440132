//! `cargo xtask bench bgp-table`: one neighbor sends a whole table, another one receives it.
//!
//! No speaker has a forwarding table here. The sender's octets are made before the clock starts; it stops when the
//! receiver has the last prefix. `ceiling_s` is what sender and receiver need between themselves, on the same machine:
//! what is measured may not come near it. Our sessions have a hold time of 3 s, so that one that starves is lost.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use integration::bgp_load::{Asker, Kind, Neighbor, Origin, Plan, Setting, Speaker, Subject, Table, ceiling, listing};
use integration::edge::Binaries;
use integration::{Lab, packages};
use serde::Serialize;

use super::Options;
use crate::root;

const SUBJECT: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
const SENDER: Neighbor = Neighbor { address: Ipv4Addr::new(10, 255, 1, 1), asn: 65101 };
const RECEIVER: Neighbor = Neighbor { address: Ipv4Addr::new(10, 255, 1, 2), asn: 65102 };
const LIMIT: Duration = Duration::from_secs(600);
const SEED: u64 = 20_261_125;

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    bench: &'static str,
    subject: &'static str,
    routes: usize,
    paths: usize,
    /// From the first UPDATE until the receiver has the last prefix.
    load_s: f64,
    withdraw_s: f64,
    ceiling_s: f64,
    rss_mb: f64,
    rss_peak_mb: f64,
    #[serde(flatten)]
    ours: Option<Ours>,
}

/// What only our own speaker is asked.
#[derive(Debug, Serialize)]
struct Ours {
    show_summary_ms_max: f64,
    show_summary_count: usize,
    json_first_byte_ms: f64,
    json_whole_s: f64,
    json_mb: f64,
    json_rss_growth_percent: f64,
}

/// Runs the measurement for each subject.
pub(super) fn run(options: &Options, binaries: &Binaries) -> Result<bool> {
    if options.subjects().any(|kind| kind != Kind::Holdfast) {
        packages::ensure(&packages::PEERS)?;
    }
    root::ensure()?;
    for routes in options.routes_or(&[1_000_000]) {
        let table = Table::internet(routes, SEED);
        for kind in options.subjects() {
            print(&measure(kind, binaries, &table)?, options.json)?;
        }
    }
    Ok(true)
}

fn measure(kind: Kind, binaries: &Binaries, table: &Table) -> Result<Line> {
    let lab = Lab::new("bgp-table")?;
    let (subject, peers) = (lab.node("subject")?, lab.node("peers")?);
    lab.join((&subject, "to-peers"), (&peers, "to-subject"))?;
    subject.address("to-peers", &format!("{SUBJECT}/16"))?;
    for neighbor in [SENDER, RECEIVER] {
        peers.address("to-subject", &format!("{}/16", neighbor.address))?;
    }
    let hold_seconds = if kind == Kind::Holdfast { 3 } else { 90 };
    let setting =
        Setting { address: SUBJECT, asn: 65001, neighbors: &[SENDER, RECEIVER], route_server: false, hold_seconds };
    let announcements = table.announcements(Origin { asn: SENDER.asn, next_hop: SENDER.address });
    let withdrawals = table.withdrawals();
    let ceiling = ceiling(&announcements)?;
    let running = Subject::start(kind, &subject, binaries, &setting)?;
    let dial = |Neighbor { address, asn }: Neighbor| {
        let plan = Plan { asn, address, peer: SocketAddr::from((SUBJECT, 179)), hold_seconds };
        Speaker::establish(&peers, plan, Duration::from_secs(60))
    };
    let (receiver, sender) = (dial(RECEIVER)?, dial(SENDER)?);

    let asker = running.socket().map(|socket| Asker::start(socket.clone(), "show bgp summary")).transpose()?;
    let started = Instant::now();
    sender.send(&announcements)?;
    let load = receiver.wait(table.len(), LIMIT)?.duration_since(started);
    let answers = asker.map(Asker::stop).transpose()?;
    let memory = running.memory()?;
    let ours = match (running.socket(), answers) {
        (Some(socket), Some(answers)) => {
            running.forget_peak()?;
            let before = running.memory()?.resident_mb;
            let listing = listing(socket, "show bgp ipv4 unicast json")?;
            let growth = running.memory()?.peak_mb - before;
            Some(Ours {
                show_summary_ms_max: answers.slowest.as_secs_f64() * 1000.0,
                show_summary_count: answers.count,
                json_first_byte_ms: listing.first.as_secs_f64() * 1000.0,
                json_whole_s: listing.whole.as_secs_f64(),
                json_mb: listing.octets as f64 / 1e6,
                json_rss_growth_percent: growth / before * 100.0,
            })
        }
        _ => None,
    };
    let started = Instant::now();
    sender.send(&withdrawals)?;
    let withdraw = receiver.wait(0, LIMIT)?.duration_since(started);
    for speaker in [&sender, &receiver] {
        speaker.must_live().with_context(|| format!("{} did not hold its sessions", kind.name()))?;
    }
    Ok(Line {
        bench: "bgp-table",
        subject: kind.name(),
        routes: table.len(),
        paths: table.paths(),
        load_s: load.as_secs_f64(),
        withdraw_s: withdraw.as_secs_f64(),
        ceiling_s: ceiling.as_secs_f64(),
        rss_mb: memory.resident_mb,
        rss_peak_mb: memory.peak_mb,
        ours,
    })
}

fn print(line: &Line, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(line)?);
        return Ok(());
    }
    println!(
        "{:9} {:>9} routes: loaded in {:.2} s, withdrawn in {:.2} s, {:.0} MB, at most {:.0} MB (sender and receiver alone: {:.2} s)",
        line.subject, line.routes, line.load_s, line.withdraw_s, line.rss_mb, line.rss_peak_mb, line.ceiling_s
    );
    if let Some(ours) = &line.ours {
        println!(
            "          show bgp summary: {} answers, the slowest after {:.1} ms; json of the table: first octet after {:.1} ms, \
             {:.0} MB in {:.1} s, memory {:+.1} %",
            ours.show_summary_count,
            ours.show_summary_ms_max,
            ours.json_first_byte_ms,
            ours.json_mb,
            ours.json_whole_s,
            ours.json_rss_growth_percent
        );
    }
    Ok(())
}
