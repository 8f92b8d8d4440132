//! One trial: traffic, a fault, its mending, and the verdict.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{Armed, Fault, TwoIsp};
use crate::capture::{Capture, Captured};
use crate::clock;
use crate::edge::{Edge, FailoverEvent};
use crate::feeder::Feeder;
use crate::kernel;
use crate::packet::Packet;
use crate::probe::{self, Flow, Flows};

/// Traffic that does not count yet.
pub(super) const SETTLING: Duration = Duration::from_millis(500);
/// Traffic before the fault, to show that nothing was lost without it.
pub(super) const BASELINE: Duration = Duration::from_millis(1000);
/// How long a fault lasts at least, once traffic has moved.
pub(super) const LASTING: Duration = Duration::from_millis(1000);
/// Traffic after everything is back.
pub(super) const AFTERWARDS: Duration = Duration::from_millis(1000);
/// How long traffic may take to move before the trial is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What `cargo xtask demo --json` prints.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Outcome {
    /// How many prefixes the far site announced.
    pub routes: usize,
    /// The fault.
    pub fault: Fault,
    /// From the fault until the later of the two sites had noticed; `null` if one never did.
    pub detect_ms: Option<f64>,
    /// From noticing until the kernel had acknowledged the new next hops, at the slower site.
    pub fib_switch_ms: Option<f64>,
    /// The longest time without an arrival, of both directions.
    pub outage_ms: f64,
    /// Packets that the fault cost, both directions.
    pub lost_packets: usize,
    /// Packets seen in the clear on either WAN.
    pub cleartext_packets: usize,
    /// Whether all routes, both sessions and the traffic came back to the first path.
    pub restored: bool,
    /// Packets that coming back cost, both directions.
    pub restore_lost_packets: usize,
}

/// A direction of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From site A to site B.
    Forth,
    /// From site B to site A.
    Back,
}

/// One packet of the traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it was sent, in nanoseconds after the fault.
    pub sent_ns: i64,
    /// Which way it went.
    pub way: Way,
    /// Which interface it left its site by, if it left.
    pub path: Option<String>,
    /// When it arrived, in nanoseconds after the fault.
    pub arrived_ns: Option<i64>,
}

/// Something that happened, in nanoseconds after the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at_ns: i64,
    /// What.
    pub text: String,
}

/// A finished trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The verdict in figures.
    pub outcome: Outcome,
    /// What happened, in order.
    pub moments: Vec<Moment>,
    /// Every packet of the traffic.
    pub arrivals: Vec<Arrival>,
    /// What was seen in the clear, spelled for people.
    pub leaks: Vec<String>,
    /// Why it does not count as held, if it does not.
    pub complaints: Vec<String>,
}

impl Trial {
    /// Whether everything held that has to.
    pub fn held(&self) -> bool {
        self.complaints.is_empty()
    }
}

/// Captures at the edges of site A and B, at ISP 1 and ISP 2.
type Instruments = [Capture; 4];

/// The moments of a trial on the monotonic clock.
struct Times {
    begin: i64,
    fault: i64,
    mend: i64,
    end: i64,
}

impl TwoIsp<'_> {
    /// Runs one trial of a fault; the scenario must have converged before and has again afterwards, if all is well.
    ///
    /// `tell` hears of each step as it is seen; the exact times come with the result.
    pub fn trial(&mut self, fault: Fault, tell: &mut dyn FnMut(&str)) -> Result<Trial> {
        // Counted from when the captures begin: what a core router lost costs is not the edges' doing.
        let fed = self.feeder.as_ref().map(Feeder::sessions);
        let instruments = self.start_instruments()?;
        let mut armed = Armed::new(self, fault)?;
        let probe = self.probe()?;
        // Starting all this takes processor time, on a small machine enough of it for BFD to lose its patience.
        std::thread::sleep(SETTLING);
        self.wait_converged()?;
        let known = [last_event(&self.a)?, last_event(&self.b)?];
        let begin = clock::monotonic_ns();
        tell("a packet each millisecond, both ways");
        std::thread::sleep(BASELINE);

        let struck = armed.strike()?;
        tell(&format!("FAULT: {}", fault.story()));
        let mut complaints = Vec::new();
        if !self.watch(PATIENCE, |scenario| scenario.has_moved(fault, known))? {
            complaints.push(format!("traffic did not move within {PATIENCE:?}"));
        }
        tell(if fault.lasts() { "traffic is on tun2" } else { "both sites have noticed" });
        std::thread::sleep(LASTING);

        let mended = armed.mend()?;
        tell(&format!("MENDED: {}", fault.mending()));
        let limit = Duration::from_secs(60 + self.routes as u64 / 4_000);
        let restored = self.watch(limit, TwoIsp::is_restored)?;
        if restored {
            tell("traffic is back on tun1");
        } else {
            complaints.push(format!("not restored within {limit:?}: {}", self.what_is_missing()));
        }
        std::thread::sleep(AFTERWARDS);

        if let Some(feeder) = &self.feeder
            && fed != Some(feeder.sessions())
        {
            complaints.push(format!("site B lost its core router: {}", feeder.last_error()));
        }
        let times = Times { begin, fault: struck, mend: mended, end: clock::monotonic_ns() };
        let flows = probe.finish()?;
        let events = [new_events(&self.a, known[0])?, new_events(&self.b, known[1])?];
        self.must_run()?;
        self.judge(fault, &times, &flows, &events, instruments, restored, complaints)
    }

    fn start_instruments(&self) -> Result<Instruments> {
        let is_probe = |packet: &Packet| packet.outgoing && packet.udp_ports() == Some((probe::PORT, probe::PORT));
        let edge = |edge: &Edge| Capture::start(&edge.node, is_probe);
        // Coming in and going out of the ISP is one packet on the wire twice; its arrival counts. Nothing else is left
        // out: what looks sealed is searched for the probes' mark, too.
        let wan = |node| Capture::start(node, |packet| !packet.outgoing);
        Ok([edge(&self.a)?, edge(&self.b)?, wan(&self.isp1)?, wan(&self.isp2)?])
    }

    /// Asks until it is so; errors mean "not yet". Asks seldom: each question costs the daemons processor time.
    fn watch(&mut self, limit: Duration, mut so: impl FnMut(&Self) -> Result<bool>) -> Result<bool> {
        let deadline = Instant::now() + limit * kernel::slowness();
        while Instant::now() < deadline {
            if so(self).unwrap_or(false) {
                return Ok(true);
            }
            self.must_run()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(false)
    }

    fn has_moved(&self, fault: Fault, known: [u64; 2]) -> Result<bool> {
        let switched = |edge: &Edge, known| -> Result<bool> {
            Ok(new_events(edge, known)?.iter().any(|event| event.fib_switched_at_unix_us.is_some()))
        };
        let second = Some("tun2".to_owned());
        Ok(switched(&self.a, known[0])?
            && switched(&self.b, known[1])?
            && (!fault.lasts() || self.egress() == (second.clone(), second)))
    }

    fn is_restored(&self) -> Result<bool> {
        let first = Some("tun1".to_owned());
        Ok(self.egress() == (first.clone(), first) && self.has_all_routes()?)
    }

    fn what_is_missing(&self) -> String {
        match self.has_all_routes() {
            Err(error) => format!("{error:#}"),
            Ok(_) => format!("traffic leaves by {:?}", self.egress()),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "everything that was observed, put together once")]
    fn judge(
        &self,
        fault: Fault,
        times: &Times,
        flows: &Flows,
        events: &[Vec<FailoverEvent>; 2],
        instruments: Instruments,
        restored: bool,
        mut complaints: Vec<String>,
    ) -> Result<Trial> {
        let offset = clock::calendar_offset_ns();
        let since_fault = |unix_us: i64| unix_us * 1000 - offset - times.fault;
        let [edge_a, edge_b, isp1, isp2] = instruments;
        let (edge_a, edge_b) = (edge_a.finish()?, edge_b.finish()?);
        let mut arrivals = self::arrivals(Way::Forth, &flows.forth, &edge_a, times.fault);
        arrivals.extend(self::arrivals(Way::Back, &flows.back, &edge_b, times.fault));
        let clearness = self.clearness()?;
        let mut leaks = Vec::new();
        for (name, capture) in [("isp1", isp1), ("isp2", isp2)] {
            let captured = capture.finish()?;
            ensure!(!captured.packets.is_empty(), "the capture in {name} saw nothing at all");
            leaks.extend(clearness.findings(&captured).into_iter().map(|leak| format!("{name} {leak}")));
        }
        // The first thing each site noticed about the fault; the later site decides.
        let firsts: Vec<&FailoverEvent> = events
            .iter()
            .filter_map(|events| events.iter().find(|event| event.fib_switched_at_unix_us.is_some()))
            .collect();
        let detect = firsts.iter().map(|event| since_fault(event.detected_at_unix_us)).max();
        let switch = firsts.iter().filter_map(|event| event.fib_switch_us).max();
        if firsts.len() < 2 {
            complaints.push("not both sites recorded a failover".to_owned());
        }
        let both = |measure: &dyn Fn(&Flow) -> i64| measure(&flows.forth).max(measure(&flows.back));
        // A packet that was on its way when the fault struck belongs to the fault.
        let from = times.fault - 20_000_000;
        let outcome = Outcome {
            routes: self.routes,
            fault,
            detect_ms: detect.filter(|_| firsts.len() == 2).map(milliseconds),
            fib_switch_ms: switch.map(|us| milliseconds(us * 1000)),
            outage_ms: milliseconds(both(&|flow| flow.outage_ns(from, times.mend))),
            lost_packets: flows.forth.lost(from, times.mend) + flows.back.lost(from, times.mend),
            cleartext_packets: leaks.len(),
            restored,
            restore_lost_packets: flows.forth.lost(times.mend, times.end) + flows.back.lost(times.mend, times.end),
        };
        let before = flows.forth.lost(times.begin, from) + flows.back.lost(times.begin, from);
        if before > 0 {
            // Senders sleep for a millisecond at a time, in real time where that is allowed.
            let standstill = milliseconds(both(&|flow| flow.longest_pause_ns(times.begin, from)));
            complaints.push(format!(
                "{before} packets were lost before the fault; the longest that this machine ran no sender was {standstill} ms"
            ));
        }
        if !leaks.is_empty() {
            complaints.push(format!("{} packets in the clear, the first: {}", leaks.len(), leaks[0]));
        }
        let mut moments = moments(events, since_fault);
        moments.push(Moment { at_ns: 0, text: format!("fault: {}", fault.story()) });
        if fault.lasts() {
            moments.push(Moment { at_ns: times.mend - times.fault, text: format!("mended: {}", fault.mending()) });
        }
        moments.extend(changes_of_path(&arrivals));
        moments.sort_by_key(|moment| moment.at_ns);
        Ok(Trial { outcome, moments, arrivals, leaks, complaints })
    }
}

fn last_event(edge: &Edge) -> Result<u64> {
    Ok(edge.failovers()?.last().map_or(0, |event| event.id))
}

fn new_events(edge: &Edge, known: u64) -> Result<Vec<FailoverEvent>> {
    Ok(edge.failovers()?.into_iter().filter(|event| event.id > known).collect())
}

/// Joins what the hosts noted with what the edge's kernel saw leave.
fn arrivals(way: Way, flow: &Flow, edge: &Captured, fault: i64) -> Vec<Arrival> {
    let mut paths = HashMap::new();
    for packet in &edge.packets {
        let number = packet.header().and_then(|header| probe::number_of(packet.bytes.get(header.payload_at + 8..)?));
        let interface = edge.interface(packet);
        // The other direction leaves towards the host: not a path.
        if let Some(number) = number.filter(|_| !interface.starts_with("lan")) {
            paths.entry(number).or_insert_with(|| interface.to_owned());
        }
    }
    let packets = flow.sent.iter().zip(&flow.arrived).zip(0u64..);
    packets
        .map(|((sent, arrived), number)| Arrival {
            sent_ns: sent - fault,
            way,
            path: paths.get(&number).cloned(),
            arrived_ns: arrived.map(|at| at - fault),
        })
        .collect()
}

/// When traffic first arrived by another path than before, each way.
fn changes_of_path(arrivals: &[Arrival]) -> Vec<Moment> {
    let mut moments = Vec::new();
    for (way, name) in [(Way::Forth, "A to B"), (Way::Back, "B to A")] {
        let first = |path: &str, after: i64| {
            let fits = |arrival: &&Arrival| {
                arrival.way == way && arrival.sent_ns >= after && arrival.path.as_deref() == Some(path)
            };
            arrivals.iter().filter(fits).filter_map(|arrival| arrival.arrived_ns).min()
        };
        if let Some(at_ns) = first("tun2", 0) {
            moments.push(Moment { at_ns, text: format!("traffic {name} moved to tun2") });
            if let Some(at_ns) = first("tun1", at_ns) {
                moments.push(Moment { at_ns, text: format!("traffic {name} back on tun1") });
            }
        }
    }
    moments
}

/// The failover log of both sites as moments.
fn moments(events: &[Vec<FailoverEvent>; 2], since_fault: impl Fn(i64) -> i64) -> Vec<Moment> {
    let mut moments = Vec::new();
    for (site, events) in ["A", "B"].into_iter().zip(events) {
        for event in events {
            let about = event.tunnel.as_deref().or(event.peer.as_deref()).unwrap_or("?");
            let mut note = |at: Option<i64>, text: String| {
                moments.extend(at.map(|at| Moment { at_ns: since_fault(at), text: format!("site {site}: {text}") }));
            };
            note(Some(event.detected_at_unix_us), format!("{} on {about} noticed", event.cause));
            let moved = format!("FIB switched: {} next hops, {} routes", event.path_lists_replaced, event.routes_moved);
            note(event.fib_switched_at_unix_us, moved);
            note(event.rib_done_at_unix_us, "every route decided anew".to_owned());
            note(event.restored_at_unix_us, format!("{about} in use again"));
        }
    }
    moments
}

pub(super) fn milliseconds(nanoseconds: i64) -> f64 {
    (nanoseconds as f64 / 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(sent_ns: i64, path: &str) -> Arrival {
        Arrival { sent_ns, way: Way::Forth, path: Some(path.to_owned()), arrived_ns: Some(sent_ns + 1) }
    }

    #[test]
    fn traffic_that_moves_and_comes_back_gives_two_moments() {
        let arrivals = [arrival(-5, "tun1"), arrival(10, "tun2"), arrival(20, "tun2"), arrival(30, "tun1")];
        let moments = changes_of_path(&arrivals);
        let seen: Vec<(i64, &str)> = moments.iter().map(|moment| (moment.at_ns, moment.text.as_str())).collect();
        assert_eq!(seen, [(11, "traffic A to B moved to tun2"), (31, "traffic A to B back on tun1")]);
    }

    #[test]
    fn the_outcome_has_the_promised_fields() -> Result<()> {
        let outcome = Outcome {
            routes: 1000,
            fault: Fault::Silent,
            detect_ms: Some(31.25),
            fib_switch_ms: Some(0.08),
            outage_ms: 33.0,
            lost_packets: 66,
            cleartext_packets: 0,
            restored: true,
            restore_lost_packets: 0,
        };
        let text = serde_json::to_string(&outcome)?;
        assert_eq!(
            text,
            "{\"routes\":1000,\"fault\":\"silent\",\"detect_ms\":31.25,\"fib_switch_ms\":0.08,\"outage_ms\":33.0,\
             \"lost_packets\":66,\"cleartext_packets\":0,\"restored\":true,\"restore_lost_packets\":0}"
        );
        Ok(())
    }
}
