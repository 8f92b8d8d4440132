//! `bmp targets` within `router bgp`, and `dump bgp`, in FRR's spelling; `adj-rib-out` is ours.

use std::time::Duration;

use net_types::Family;

use super::{Action, Draft, LEAVE, Lines, Section, Statement, Verb, family};
use crate::{
    grammar::{Args, Complaint},
    model::{Bgp, BmpMonitor, BmpRetry, BmpTargets, Config, Dump, Dumps, Name},
};

pub(super) const BEGIN_BMP: &[Statement] = &[Statement {
    syntax: "bmp targets NAME",
    help: "Stations that are told by BMP, and what",
    action: Action::Enter(
        |draft, args| {
            let name: Name = args.get("NAME")?;
            draft.bgp()?.bmp.entry(name.clone()).or_default();
            Ok(Section::Bmp(name))
        },
        |_, _| {}, // Printed with the section around it.
    ),
}];

/// Writes every `bmp targets` of the speaker.
pub(super) fn write_bmp(bgp: &Bgp, lines: &mut Lines) {
    for (name, targets) in &bgp.bmp {
        lines.section(format_args!("bmp targets {name}"), |lines| {
            lines.body(&Section::Bmp(name.clone()), targets, |action| match action {
                Action::Bmp(verb) => Some(verb.write),
                _ => None,
            });
        });
    }
}

pub(super) const BMP_ROWS: &[&[Statement]] = &[BMP, LEAVE];

const BMP: &[Statement] = &[
    Statement {
        syntax: "bmp connect HOST port PORT:1-65535 [min-retry MILLISECONDS:100-86400000] [max-retry MAXIMUM:100-86400000]",
        help: "A station to connect to",
        action: Action::Bmp(Verb { read: read_station, write: write_stations }),
    },
    Statement {
        syntax: "[no] bmp monitor (ipv4|ipv6) unicast (pre-policy|post-policy|loc-rib|adj-rib-out post-policy)",
        help: "Routes that stations are told",
        action: Action::Bmp(Verb { read: read_monitor, write: write_monitor }),
    },
    Statement {
        syntax: "bmp stats [interval MILLISECONDS:100-86400000]",
        help: "Send statistics, each minute unless said otherwise",
        action: Action::Bmp(Verb {
            read: |targets, args| {
                let interval: u64 = args.opt("MILLISECONDS")?.unwrap_or(60_000);
                targets.stats_interval = Some(Duration::from_millis(interval));
                Ok(())
            },
            write: |targets, lines| {
                if let Some(interval) = targets.stats_interval {
                    lines.line(format_args!("bmp stats interval {}", interval.as_millis()));
                }
            },
        }),
    },
];

fn read_station(targets: &mut BmpTargets, args: &Args<'_>) -> Result<(), Complaint> {
    let default = BmpRetry::default();
    let min = args.opt("MILLISECONDS")?.map_or(default.min, Duration::from_millis);
    let max = args.opt("MAXIMUM")?.map_or(default.max.max(min), Duration::from_millis);
    if max < min {
        return Err(args.complain("MAXIMUM", format!("max-retry must be at least min-retry, {} ms", min.as_millis())));
    }
    targets.stations.insert((args.get("HOST")?, args.get("PORT")?), BmpRetry { min, max });
    Ok(())
}

fn write_stations(targets: &BmpTargets, lines: &mut Lines) {
    for ((host, port), BmpRetry { min, max }) in &targets.stations {
        let (min, max) = (min.as_millis(), max.as_millis());
        lines.line(format_args!("bmp connect {host} port {port} min-retry {min} max-retry {max}"));
    }
}

fn read_monitor(targets: &mut BmpTargets, args: &Args<'_>) -> Result<(), Complaint> {
    let family = if args.has("ipv6") { Family::Ipv6Unicast } else { Family::Ipv4Unicast };
    let monitor = targets.monitor.entry(family).or_default();
    let view = if args.has("adj-rib-out") {
        &mut monitor.adj_rib_out
    } else if args.has("pre-policy") {
        &mut monitor.pre_policy
    } else if args.has("post-policy") {
        &mut monitor.post_policy
    } else {
        &mut monitor.loc_rib
    };
    *view = !args.has("no");
    // What was said and unsaid again is as if it had never been said.
    targets.monitor.retain(|_, monitor| *monitor != BmpMonitor::default());
    Ok(())
}

fn write_monitor(targets: &BmpTargets, lines: &mut Lines) {
    for (of, BmpMonitor { pre_policy, post_policy, loc_rib, adj_rib_out }) in &targets.monitor {
        let views = [
            (pre_policy, "pre-policy"),
            (post_policy, "post-policy"),
            (loc_rib, "loc-rib"),
            (adj_rib_out, "adj-rib-out post-policy"),
        ];
        for (_, view) in views.iter().filter(|(wanted, _)| **wanted) {
            lines.line(format_args!("bmp monitor {} {view}", family::spelling(*of)));
        }
    }
}

pub(super) const DUMP_ROWS: &[Statement] = &[Statement {
    syntax: "dump bgp (all|all-et|updates|updates-et|routes-mrt) FILE [INTERVAL-TEXT]",
    help: "Write MRT files: messages, or the table",
    action: Action::Config(Verb { read: read_dump, write: write_dumps }),
}];

fn read_dump(draft: &mut Draft, args: &Args<'_>) -> Result<(), Complaint> {
    let interval = match args.opt::<String>("INTERVAL-TEXT")? {
        None => None,
        Some(text) => Some(interval(&text).ok_or_else(|| {
            args.complain("INTERVAL-TEXT", format!("\"{text}\" is not an interval such as 300, 5m, 1h or 1h30m"))
        })?),
    };
    let dump = Some(Dump { file: args.get("FILE")?, interval });
    let dumps = &mut draft.config.dumps;
    // Both kinds of time stamps are read everywhere by now, and ours have microseconds in any case.
    if args.has("all") || args.has("all-et") {
        dumps.all = dump;
    } else if args.has("routes-mrt") {
        dumps.routes = dump;
    } else {
        dumps.updates = dump;
    }
    Ok(())
}

/// Seconds, or numbers with h, m and s behind them.
fn interval(text: &str) -> Option<Duration> {
    const LONGEST: u64 = 7 * 86_400;
    let (mut seconds, mut number) = (0u64, String::new());
    for letter in text.chars() {
        if letter.is_ascii_digit() && number.len() < 9 {
            number.push(letter);
            continue;
        }
        let unit = match letter {
            'h' | 'H' => 3600,
            'm' | 'M' => 60,
            's' | 'S' => 1,
            _ => return None,
        };
        seconds += number.parse::<u64>().ok()? * unit;
        number.clear();
    }
    if !number.is_empty() {
        seconds += number.parse::<u64>().ok()?;
    }
    (1..=LONGEST).contains(&seconds).then(|| Duration::from_secs(seconds))
}

fn write_dumps(config: &Config, lines: &mut Lines) {
    let Dumps { all, updates, routes } = &config.dumps;
    for (word, dump) in [("all", all), ("updates", updates), ("routes-mrt", routes)] {
        if let Some(Dump { file, interval }) = dump {
            let interval = interval.map_or_else(String::new, |time| format!(" {}", time.as_secs()));
            lines.line(format_args!("dump bgp {word} {}{interval}", file.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_spelled_as_frr_has_them() {
        for (text, seconds) in [("300", 300), ("5m", 300), ("1h", 3600), ("1h30m", 5400), ("1h2m3", 3723), ("7s", 7)] {
            assert_eq!(interval(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0", "m", "1d", "1h ", "-1", "99999999999", "8d", "200h"] {
            assert_eq!(interval(text), None, "{text}");
        }
    }
}
