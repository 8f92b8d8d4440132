//! The picture of a trial: packets per millisecond by path, and what happened, as SVG.

use std::fmt::Write;

use crate::two_isp::{Arrival, Moment, Trial};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 980.0;
const PANEL_HEIGHT: f64 = 150.0;
const MILLISECOND: i64 = 1_000_000;

/// The paths with their colours; what took neither was lost before it left its site.
const PATHS: [(&str, &str); 2] = [("tun1", "#2563eb"), ("tun2", "#d97706")];
const LOST: &str = "#dc2626";

/// Draws a trial: all of it, and the milliseconds around the fault.
pub fn svg(trial: &Trial) -> String {
    let begin = trial.arrivals.iter().map(|arrival| arrival.sent_ns).min().unwrap_or(0);
    let end = trial.arrivals.iter().map(|arrival| arrival.sent_ns).max().unwrap_or(0).max(begin + MILLISECOND);
    let outcome = &trial.outcome;
    let mut body = String::new();
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.2} ms"));
    let headline = format!(
        "fault “{}”, {} routes: noticed after {}, FIB switched in {}, outage {:.1} ms, {} packets lost, {} in the clear",
        outcome.fault.name(),
        outcome.routes,
        figure(outcome.detect_ms),
        figure(outcome.fib_switch_ms),
        outcome.outage_ms,
        outcome.lost_packets,
        outcome.cleartext_packets
    );
    text(&mut body, LEFT, 28.0, "#111827", 15, &headline);
    let mut legend_at = LEFT;
    for (name, colour) in PATHS.into_iter().chain([("lost (by time of sending)", LOST)]) {
        let _infallible = write!(body, "<rect x='{legend_at}' y='42' width='12' height='12' fill='{colour}'/>");
        text(&mut body, legend_at + 18.0, 53.0, "#374151", 12, name);
        legend_at += 34.0 + name.len() as f64 * 7.0;
    }
    let zoom_end = (outcome.outage_ms.mul_add(2e6, 40e6) as i64).min(end);
    let panels = [
        Panel {
            title: "packets per millisecond, the whole trial",
            top: 90.0,
            from: begin,
            to: end,
            bucket: 10 * MILLISECOND,
        },
        Panel { title: "around the fault", top: 310.0, from: -20 * MILLISECOND, to: zoom_end, bucket: MILLISECOND },
    ];
    for panel in &panels {
        panel.draw(trial, &mut body);
    }
    let mut y = 540.0;
    for (number, moment) in (1..).zip(&trial.moments) {
        let line = format!("{number}   {:+.3} ms   {}", moment.at_ns as f64 / 1e6, moment.text);
        text(&mut body, LEFT, y, "#111827", 12, &line);
        y += 18.0;
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='sans-serif'>\
         <rect width='{WIDTH}' height='{height}' fill='white'/>{body}</svg>\n",
        height = y + 10.0
    )
}

struct Panel {
    title: &'static str,
    top: f64,
    from: i64,
    to: i64,
    bucket: i64,
}

impl Panel {
    fn x(&self, at: i64) -> f64 {
        LEFT + (at - self.from) as f64 / (self.to - self.from).max(1) as f64 * (RIGHT - LEFT)
    }

    fn draw(&self, trial: &Trial, out: &mut String) {
        let base = self.top + PANEL_HEIGHT;
        text(out, LEFT, self.top - 14.0, "#374151", 12, self.title);
        for (path, colour) in PATHS {
            let arrived = |arrival: &Arrival| arrival.arrived_ns.filter(|_| arrival.path.as_deref() == Some(path));
            self.bars(trial, colour, arrived, out);
        }
        self.bars(trial, LOST, |arrival| arrival.arrived_ns.is_none().then_some(arrival.sent_ns), out);
        let _infallible = write!(out, "<path d='M{LEFT},{base}H{RIGHT}' stroke='#9ca3af'/>");
        text(out, self.x(0) - 4.0, base + 16.0, "#6b7280", 11, "0");
        text(out, RIGHT - 60.0, base + 16.0, "#6b7280", 11, &format!("{:.0} ms", self.to as f64 / 1e6));
        // The height of two packets a millisecond: one each way.
        text(out, LEFT - 16.0, self.y(2.0) + 4.0, "#6b7280", 11, "2");
        for (number, moment) in (1..).zip(&trial.moments) {
            self.mark(number, moment, out);
        }
    }

    fn y(&self, packets_per_millisecond: f64) -> f64 {
        // Bursts may exceed the two packets that are sent; the panel shows up to four.
        self.top + PANEL_HEIGHT * (1.0 - packets_per_millisecond.min(4.0) / 4.0)
    }

    fn bars(&self, trial: &Trial, colour: &str, when: impl Fn(&Arrival) -> Option<i64>, out: &mut String) {
        let buckets = usize::try_from((self.to - self.from).max(0) / self.bucket + 1).unwrap_or(0);
        let mut counts = vec![0u32; buckets];
        for at in trial.arrivals.iter().filter_map(when).filter(|at| (self.from..self.to).contains(at)) {
            let slot = usize::try_from((at - self.from) / self.bucket).ok().and_then(|slot| counts.get_mut(slot));
            if let Some(count) = slot {
                *count += 1;
            }
        }
        let base = self.top + PANEL_HEIGHT;
        let per_millisecond = self.bucket as f64 / MILLISECOND as f64;
        let mut path = String::new();
        for (count, start) in counts.iter().zip((self.from..).step_by(usize::try_from(self.bucket).unwrap_or(1))) {
            if *count > 0 {
                let (x, next) = (self.x(start), self.x(start + self.bucket));
                let y = self.y(f64::from(*count) / per_millisecond);
                let _infallible = write!(path, "M{x:.2},{base}V{y:.1}H{next:.2}V{base}Z");
            }
        }
        let _infallible = write!(out, "<path d='{path}' fill='{colour}' fill-opacity='0.75'/>");
    }

    fn mark(&self, number: u32, moment: &Moment, out: &mut String) {
        if !(self.from..=self.to).contains(&moment.at_ns) {
            return;
        }
        let (x, base) = (self.x(moment.at_ns), self.top + PANEL_HEIGHT);
        let _infallible = write!(
            out,
            "<path d='M{x:.2},{:.0}V{base}' stroke='#111827' stroke-width='0.6' stroke-dasharray='3 2'/>",
            self.top
        );
        // Neighbours in time take turns in height, so that their numbers stay legible.
        text(out, x + 2.0, self.top + 8.0 + f64::from(number % 5) * 11.0, "#111827", 10, &number.to_string());
    }
}

fn text(out: &mut String, x: f64, y: f64, colour: &str, size: u32, words: &str) {
    let escaped = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _infallible = write!(out, "<text x='{x:.1}' y='{y:.1}' fill='{colour}' font-size='{size}'>{escaped}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::two_isp::{Fault, Outcome, Way};

    #[test]
    fn every_moment_and_both_paths_are_drawn() {
        let arrival = |ms: i64, path: &str| Arrival {
            sent_ns: ms * MILLISECOND,
            way: Way::Forth,
            path: Some(path.to_owned()),
            arrived_ns: Some(ms * MILLISECOND + 50_000),
        };
        let mut arrivals: Vec<Arrival> = (-100..0).map(|ms| arrival(ms, "tun1")).collect();
        arrivals.extend((30..100).map(|ms| arrival(ms, "tun2")));
        let trial = Trial {
            outcome: Outcome {
                routes: 1000,
                fault: Fault::Silent,
                detect_ms: Some(29.0),
                fib_switch_ms: Some(0.1),
                outage_ms: 30.0,
                lost_packets: 30,
                cleartext_packets: 0,
                restored: true,
                restore_lost_packets: 0,
            },
            moments: vec![Moment { at_ns: 29 * MILLISECOND, text: "site A: <noticed>".to_owned() }],
            arrivals,
            leaks: Vec::new(),
            complaints: Vec::new(),
        };
        let picture = svg(&trial);
        assert!(picture.contains("+29.000 ms   site A: &lt;noticed&gt;"));
        for (_, colour) in PATHS {
            assert_eq!(picture.matches(&format!("Z' fill='{colour}'")).count(), 2, "{colour} in both panels");
        }
    }
}
