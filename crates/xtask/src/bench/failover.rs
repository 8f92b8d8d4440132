//! `cargo xtask bench failover`: from a fault to traffic on the other path, in the lab of `examples/two-isp`, beside FRR over
//! strongSwan in the same lab with the same BFD (10 ms x 3).
//!
//! An outage is the longest time without an arrival that the hosts see, of either direction, less the millisecond that packets
//! are apart. It has the machine's own pauses in it: where nothing is lost at all, packets came late. When FRR noticed and when it had switched, it does not tell.

use anyhow::Result;
use integration::Lab;
use integration::bgp_load::Kind;
use integration::edge::Binaries;
use integration::two_isp::{Fault, Outcome, Rival, TwoIsp};
use serde::Serialize;

use super::{Options, Shown};
use crate::root;

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
    /// Packets that the fault cost, of the two thousand a second that go both ways.
    lost_packets: Option<usize>,
    lost_packets_max: Option<usize>,
    /// Packets lost in all trials once the fault was mended, both directions.
    restore_lost_packets: usize,
    cleartext_packets: usize,
    not_held: usize,
}

/// Runs every fault at every subject; `false` when a trial of ours did not hold.
pub(super) fn run(options: &Options, binaries: &Binaries) -> Result<bool> {
    root::ensure()?;
    if !options.json {
        println!(
            "{:14} {:8} {:>9} {:>6} {:>22} {:>22} {:>22} {:>13} {:>8} {:>6}",
            "subject",
            "fault",
            "routes",
            "trials",
            "detect ms p50/max",
            "FIB ms p50/max",
            "outage ms p50/max",
            "lost p50/max",
            "mending",
            "clear"
        );
    }
    let mut held = true;
    for routes in options.routes_or(&[1_000, 100_000, 1_000_000]) {
        for subject in options.subjects() {
            match subject {
                Kind::Holdfast => held &= ours(options, binaries, routes)?,
                Kind::Frr => theirs(options, binaries, routes)?,
                Kind::Bird => {} // has no IPsec that it goes with
            }
        }
    }
    Ok(held)
}

fn ours(options: &Options, binaries: &Binaries, routes: usize) -> Result<bool> {
    let mut held = true;
    let lab = Lab::new("bench")?;
    let mut scenario = TwoIsp::build(&lab, binaries)?;
    scenario.start()?;
    scenario.feed(routes)?;
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
        print(&line("holdfast", *fault, routes, &outcomes, not_held), options.json)?;
    }
    Ok(held)
}

/// FRR over strongSwan. A trial that does not come to its end is counted as not held.
fn theirs(options: &Options, binaries: &Binaries, routes: usize) -> Result<()> {
    let lab = Lab::new("bench")?;
    let mut rival = Rival::start(&lab, TwoIsp::build(&lab, binaries)?)?;
    rival.feed(routes)?;
    rival.wait_converged()?;
    for Shown(fault) in &options.fault {
        let (mut outcomes, mut not_held) = (Vec::with_capacity(options.trials), 0);
        for _ in 0..options.trials {
            match rival.trial(*fault) {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => {
                    eprintln!("FRR and strongSwan, {} with {routes} routes: {error:#}", fault.name());
                    not_held += 1;
                    rival.wait_converged()?;
                }
            }
        }
        print(&line("frr-strongswan", *fault, routes, &outcomes, not_held), options.json)?;
    }
    Ok(())
}

fn line(subject: &'static str, fault: Fault, routes: usize, outcomes: &[Outcome], not_held: usize) -> Line {
    let column = |pick: &dyn Fn(&Outcome) -> Option<f64>| -> Vec<f64> {
        let mut values: Vec<f64> = outcomes.iter().filter_map(pick).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let median = |values: &[f64]| values.get(values.len() / 2).copied();
    let (detect, switch) = (column(&|outcome| outcome.detect_ms), column(&|outcome| outcome.fib_switch_ms));
    let outage = column(&|outcome| Some(outcome.outage_ms));
    let mut lost: Vec<usize> = outcomes.iter().map(|outcome| outcome.lost_packets).collect();
    lost.sort_unstable();
    Line {
        subject,
        fault,
        routes,
        trials: outcomes.len(),
        detect_ms: median(&detect),
        detect_ms_max: detect.last().copied(),
        fib_switch_ms: median(&switch),
        fib_switch_ms_max: switch.last().copied(),
        outage_ms: median(&outage),
        outage_ms_max: outage.last().copied(),
        lost_packets: lost.get(lost.len() / 2).copied(),
        lost_packets_max: lost.last().copied(),
        restore_lost_packets: outcomes.iter().map(|outcome| outcome.restore_lost_packets).sum(),
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
        "{:14} {:8} {:>9} {:>6} {:>22} {:>22} {:>22} {:>13} {:>8} {:>6}",
        line.subject,
        line.fault.name(),
        line.routes,
        line.trials,
        pair(line.detect_ms, line.detect_ms_max),
        pair(line.fib_switch_ms, line.fib_switch_ms_max),
        pair(line.outage_ms, line.outage_ms_max),
        line.lost_packets
            .zip(line.lost_packets_max)
            .map_or("-".to_owned(), |(median, most)| format!("{median} / {most}")),
        line.restore_lost_packets,
        line.cleartext_packets
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(outage_ms: f64, detect_ms: Option<f64>, lost_packets: usize) -> Outcome {
        Outcome {
            routes: 1000,
            fault: Fault::Cut,
            detect_ms,
            fib_switch_ms: Some(0.1),
            outage_ms,
            lost_packets,
            cleartext_packets: 1,
            restored: true,
            restore_lost_packets: 2,
        }
    }

    #[test]
    fn a_line_has_medians_and_maxima() {
        let outcomes = [outcome(9.0, Some(3.0), 0), outcome(1.0, None, 7), outcome(2.0, Some(1.0), 4)];
        let line = line("holdfast", Fault::Cut, 1000, &outcomes, 1);
        assert_eq!((line.outage_ms, line.outage_ms_max), (Some(2.0), Some(9.0)));
        assert_eq!((line.detect_ms, line.detect_ms_max), (Some(3.0), Some(3.0)));
        assert_eq!((line.lost_packets, line.lost_packets_max), (Some(4), Some(7)));
        assert_eq!((line.restore_lost_packets, line.cleartext_packets, line.not_held, line.trials), (6, 3, 1, 3));
    }
}
