//! Statements outside of any section.

use super::{
    Action, Draft, LEAVE, Lines, Statement, Verb, bfd, bgp, frr, ipsec, key_chain, lists, monitoring, path_damping,
    route_map, routing, rpki, tunnel, vrf, wan,
};
use crate::{
    grammar::{Args, Complaint},
    model::{Config, LogFormat, LogLevel},
};

/// In the order of `show running-config`.
pub(super) const ROWS: &[&[Statement]] = &[
    GENERAL,
    path_damping::ROW,
    METRICS,
    frr::ROWS,
    wan::BEGIN,
    tunnel::DATAPATH,
    ipsec::BEGIN,
    tunnel::BEGIN,
    key_chain::BEGIN,
    bfd::BEGIN,
    vrf::BEGIN,
    routing::ROWS,
    rpki::BEGIN,
    monitoring::DUMP_ROWS,
    lists::ROWS,
    lists::COMMUNITY,
    lists::LARGE_COMMUNITY,
    lists::EXT_COMMUNITY,
    bgp::BEGIN,
    vrf::BEGIN_BGP,
    route_map::BEGIN,
    LEAVE,
];

const GENERAL: &[Statement] = &[
    Statement {
        syntax: "frr defaults traditional",
        help: "Where nothing is said, a speaker is as FRR would have it",
        action: Action::Config(Verb {
            read: |draft, _| {
                draft.config.frr_defaults = true;
                Ok(())
            },
            write: |config, lines| lines.flag(config.frr_defaults, "frr defaults traditional"),
        }),
    },
    Statement {
        syntax: "hostname NAME",
        help: "Name this router",
        action: Action::Config(Verb {
            read: |draft, args| {
                draft.config.hostname = Some(args.get("NAME")?);
                Ok(())
            },
            write: |config, lines| config.hostname.iter().for_each(|name| lines.line(format_args!("hostname {name}"))),
        }),
    },
    Statement {
        syntax: "log level (error|warn|info|debug|trace)",
        help: "Least severe kind of event that is written",
        action: Action::Config(Verb { read: read_level, write: write_level }),
    },
    Statement {
        syntax: "log format (text|json)",
        help: "How events are written",
        action: Action::Config(Verb {
            read: |draft, args| {
                draft.config.log.format = Some(if args.has("json") { LogFormat::Json } else { LogFormat::Text });
                Ok(())
            },
            write: |config, lines| {
                config.log.format.iter().for_each(|format| lines.line(format_args!("log format {}", format.as_str())));
            },
        }),
    },
];

const METRICS: &[Statement] = &[Statement {
    syntax: "metrics (bgpd|ipsecd) ADDRESS-PORT",
    help: "Serve Prometheus there",
    action: Action::Config(Verb { read: read_metrics, write: write_metrics }),
}];

fn read_level(draft: &mut Draft, args: &Args<'_>) -> Result<(), Complaint> {
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    draft.config.log.level = levels.into_iter().find(|level| args.has(level.as_str()));
    Ok(())
}

fn write_level(config: &Config, lines: &mut Lines) {
    if let Some(level) = config.log.level {
        lines.line(format_args!("log level {}", level.as_str()));
    }
}

fn read_metrics(draft: &mut Draft, args: &Args<'_>) -> Result<(), Complaint> {
    let metrics = &mut draft.config.metrics;
    let (ours, other) =
        if args.has("bgpd") { (&mut metrics.bgpd, metrics.ipsecd) } else { (&mut metrics.ipsecd, metrics.bgpd) };
    let address = args.get("ADDRESS-PORT")?;
    if other == Some(address) {
        return Err(args.complain("ADDRESS-PORT", format!("the other daemon serves its metrics at {address}")));
    }
    *ours = Some(address);
    Ok(())
}

fn write_metrics(config: &Config, lines: &mut Lines) {
    for (daemon, address) in [("bgpd", config.metrics.bgpd), ("ipsecd", config.metrics.ipsecd)] {
        if let Some(address) = address {
            lines.line(format_args!("metrics {daemon} {address}"));
        }
    }
    let said = config.hostname.is_some()
        || config.log != Default::default()
        || config.path_damping.is_some()
        || config.metrics != Default::default();
    lines.flag(said, "!");
}
