//! `cargo xtask bench`: the figures of the README, as lines of JSON.

mod bgp_table;
mod esp;
mod fib;
mod ike;
mod peers;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use integration::bgp_load::Kind;
use integration::edge::Binaries;
use integration::two_isp::{Fault, Outcome, TwoIsp};
use integration::{Lab, packages};
use serde::Serialize;

use crate::{build, root};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// The measurement
    #[arg(value_enum)]
    name: Name,
    /// How many prefixes: one run for each [default: 1000,100000,1000000; bgp-table: 1000000]
    #[arg(long, value_delimiter = ',')]
    routes: Vec<usize>,
    /// Only these speakers: holdfast, bird, frr
    #[arg(long, value_delimiter = ',', default_values_t = Kind::ALL.map(Measured))]
    subject: Vec<Measured>,
    /// Only settings with so many peers [default: 10,500]
    #[arg(long, value_delimiter = ',')]
    peers: Vec<usize>,
    /// How often each fault strikes
    #[arg(long, default_value_t = 10)]
    trials: usize,
    /// esp: only these carriers: holdfast, holdfast-kernel, strongswan-libipsec, boringtun, veth [default: all but
    /// holdfast-kernel; in the guest: holdfast-kernel, holdfast, veth]
    #[arg(long, value_delimiter = ',')]
    carrier: Vec<esp::Measured>,
    /// esp: only these cases: tcp1, udp1200, pps64, rekey100; ike: psk-x25519, psk-ecp256, ecdsa-x25519, psk-x25519-mlkem768, many
    #[arg(long, value_delimiter = ',')]
    case: Vec<String>,
    /// esp: in a guest whose kernel has ESP, as for `cargo xtask test --kernel`
    #[arg(long)]
    kernel: bool,
    /// The program that boots the guest: PROGRAM --kernel new --timeout SECONDS -- COMMAND
    #[arg(long, value_name = "PROGRAM")]
    kernelbox: Option<PathBuf>,
    /// ike: how many tunnels [default: 200; many: 5000]
    #[arg(long)]
    tunnels: Option<usize>,
    /// esp: how long each case is loaded, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Only these faults
    #[arg(long, value_delimiter = ',', default_values_t = Fault::ALL.map(Shown))]
    fault: Vec<Shown>,
    /// Lines of JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Name {
    /// From a fault to traffic on the other path
    Failover,
    /// One neighbor sends a table, another receives it; beside BIRD and FRR
    BgpTable,
    /// Ten neighbors with large tables, and a route server with hundreds of clients; beside BIRD
    Peers,
    /// Routes into the kernel, beside a bare netlink writer
    Fib,
    /// Tunnels that come up at once, beside strongSwan's; and thousands in one daemon
    Ike,
    /// One TCP stream and UDP streams through a tunnel; beside strongSwan's kernel-libipsec, boringtun and a bare veth
    Esp,
}

/// A speaker as the command line spells it.
#[derive(Clone, Copy)]
struct Measured(Kind);

impl std::fmt::Display for Measured {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.0.name())
    }
}

impl std::str::FromStr for Measured {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == text);
        found.map(Self).ok_or_else(|| format!("\"{text}\" is none of holdfast, bird, frr"))
    }
}

/// A fault as the command line spells it.
#[derive(Clone, Copy)]
struct Shown(Fault);

impl std::fmt::Display for Shown {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.0.name())
    }
}

impl std::str::FromStr for Shown {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

/// One line of the result.
#[derive(Debug, Serialize, PartialEq)]
struct Line {
    subject: &'static str,
    fault: Fault,
    routes: usize,
    trials: usize,
    detect_ms: Option<f64>,
    detect_ms_max: Option<f64>,
    fib_switch_ms: Option<f64>,
    fib_switch_ms_max: Option<f64>,
    outage_ms: Option<f64>,
    outage_ms_max: Option<f64>,
    cleartext_packets: usize,
    not_held: usize,
}

/// Runs the measurement; `false` when a trial did not hold.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(!options.kernel || options.name == Name::Esp, "only esp is measured in the guest: leave out --kernel");
    let binaries = build::daemons()?;
    packages::ensure(&packages::BASE)?;
    match options.name {
        Name::Failover => failover(options, &binaries),
        Name::BgpTable => bgp_table::run(options, &binaries),
        Name::Peers => peers::run(options, &binaries),
        Name::Fib => fib::run(options),
        Name::Esp if options.kernel => esp::run_in_guest(options, &binaries),
        Name::Esp => esp::run(options),
        Name::Ike => ike::run(options, &binaries),
    }
}

impl Options {
    /// How many prefixes, or else so many.
    fn routes_or(&self, default: &[usize]) -> Vec<usize> {
        if self.routes.is_empty() { default.to_vec() } else { self.routes.clone() }
    }

    /// Who is measured.
    fn subjects(&self) -> impl Iterator<Item = Kind> {
        self.subject.iter().map(|Measured(kind)| *kind)
    }
}

fn failover(options: &Options, binaries: &Binaries) -> Result<bool> {
    root::ensure()?;
    if !options.json {
        println!(
            "{:8} {:>9} {:>6} {:>22} {:>22} {:>22} {:>6}",
            "fault", "routes", "trials", "detect ms p50/max", "FIB ms p50/max", "outage ms p50/max", "clear"
        );
    }
    let mut held = true;
    for routes in &options.routes_or(&[1_000, 100_000, 1_000_000]) {
        let lab = Lab::new("bench")?;
        let mut scenario = TwoIsp::build(&lab, binaries)?;
        scenario.start()?;
        scenario.feed(*routes)?;
        scenario.wait_converged()?;
        for Shown(fault) in &options.fault {
            let mut outcomes = Vec::with_capacity(options.trials);
            let mut not_held = 0;
            for _ in 0..options.trials {
                scenario.wait_converged()?;
                let trial = scenario.trial(*fault, &mut |_| {})?;
                for complaint in &trial.complaints {
                    eprintln!("{} with {routes} routes did not hold: {complaint}", fault.name());
                }
                not_held += usize::from(!trial.held());
                outcomes.push(trial.outcome);
            }
            held &= not_held == 0;
            print(&line(*fault, *routes, &outcomes, not_held), options.json)?;
        }
    }
    Ok(held)
}

fn line(fault: Fault, routes: usize, outcomes: &[Outcome], not_held: usize) -> Line {
    let column = |pick: &dyn Fn(&Outcome) -> Option<f64>| -> Vec<f64> {
        let mut values: Vec<f64> = outcomes.iter().filter_map(pick).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let median = |values: &[f64]| values.get(values.len() / 2).copied();
    let (detect, switch) = (column(&|outcome| outcome.detect_ms), column(&|outcome| outcome.fib_switch_ms));
    let outage = column(&|outcome| Some(outcome.outage_ms));
    Line {
        subject: "holdfast",
        fault,
        routes,
        trials: outcomes.len(),
        detect_ms: median(&detect),
        detect_ms_max: detect.last().copied(),
        fib_switch_ms: median(&switch),
        fib_switch_ms_max: switch.last().copied(),
        outage_ms: median(&outage),
        outage_ms_max: outage.last().copied(),
        cleartext_packets: outcomes.iter().map(|outcome| outcome.cleartext_packets).sum(),
        not_held,
    }
}

fn print(line: &Line, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(line)?);
        return Ok(());
    }
    let pair = |median: Option<f64>, most: Option<f64>| match median.zip(most) {
        Some((median, most)) => format!("{median:.3} / {most:.3}"),
        None => "-".to_owned(),
    };
    println!(
        "{:8} {:>9} {:>6} {:>22} {:>22} {:>22} {:>6}",
        line.fault.name(),
        line.routes,
        line.trials,
        pair(line.detect_ms, line.detect_ms_max),
        pair(line.fib_switch_ms, line.fib_switch_ms_max),
        pair(line.outage_ms, line.outage_ms_max),
        line.cleartext_packets
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(outage_ms: f64, detect_ms: Option<f64>) -> Outcome {
        Outcome {
            routes: 1000,
            fault: Fault::Cut,
            detect_ms,
            fib_switch_ms: Some(0.1),
            outage_ms,
            lost_packets: 0,
            cleartext_packets: 1,
            restored: true,
            restore_lost_packets: 0,
        }
    }

    #[test]
    fn a_line_has_medians_and_maxima() {
        let outcomes = [outcome(9.0, Some(3.0)), outcome(1.0, None), outcome(2.0, Some(1.0))];
        let line = line(Fault::Cut, 1000, &outcomes, 1);
        assert_eq!((line.outage_ms, line.outage_ms_max), (Some(2.0), Some(9.0)));
        assert_eq!((line.detect_ms, line.detect_ms_max), (Some(3.0), Some(3.0)));
        assert_eq!((line.cleartext_packets, line.not_held, line.trials), (3, 1, 3));
    }
}
