//! `address-family … unicast` within `router bgp`, in FRR's spelling.

use std::{net::IpAddr, time::Duration};

use net_types::{Family, Prefix};

use super::{Action, LEAVE, Leave, Lines, Section, Statement, Verb, then};
use crate::{
    grammar::{Args, Complaint},
    model::{Bgp, MaximumPrefix, MaximumPrefixAction, NeighborFamily, Redistribute, RedistributeSource},
};

/// As `address-family` spells it.
pub(super) fn spelling(family: Family) -> &'static str {
    match family {
        Family::Ipv4Unicast => "ipv4 unicast",
        Family::Ipv6Unicast => "ipv6 unicast",
    }
}

/// Writes the section if there is anything to say in it.
pub(super) fn write(bgp: &Bgp, family: Family, lines: &mut Lines) {
    let said_of_neighbors = bgp.neighbors.values().any(|neighbor| neighbor.families.contains_key(&family));
    if !said_of_neighbors && !bgp.families.contains_key(&family) {
        return;
    }
    lines.line("!");
    lines.line(format_args!("address-family {}", spelling(family)));
    lines.depth += 1;
    let section = Section::Family(family);
    if let Some(settings) = bgp.families.get(&family) {
        lines.body(&section, settings, |action| match action {
            Action::Family(verb) => Some(verb.write),
            _ => None,
        });
    }
    for neighbor in bgp.neighbors.values() {
        if let Some(settings) = neighbor.families.get(&family) {
            lines.body(&section, &(neighbor.address, settings.clone()), |action| match action {
                Action::NeighborFamily(verb) => Some(verb.write),
                _ => None,
            });
        }
    }
    lines.depth -= 1;
    lines.line("exit-address-family");
}

pub(super) const ROWS: &[&[Statement]] = &[FAMILY, NEIGHBOR, LEAVE_FAMILY, LEAVE];

const LEAVE_FAMILY: &[Statement] =
    &[Statement { syntax: "exit-address-family", help: "Leave the address family", action: Action::Leave(Leave::One) }];

const FAMILY: &[Statement] = &[
    Statement {
        syntax: "network PREFIX [route-map ROUTE-MAP]",
        help: "Announce a prefix",
        action: Action::Family(Verb {
            read: |family, args| {
                family.networks.insert(args.get::<Prefix>("PREFIX")?, args.opt("ROUTE-MAP")?);
                Ok(())
            },
            write: |family, lines| {
                for (prefix, map) in &family.networks {
                    lines.line(format_args!("network {prefix}{}", then("route-map", map.as_ref())));
                }
            },
        }),
    },
    Statement {
        syntax: "redistribute (connected|static|kernel) [metric NUMBER:0-4294967295] [route-map ROUTE-MAP]",
        help: "Announce routes from elsewhere",
        action: Action::Family(Verb {
            read: |family, args| {
                let source = RedistributeSource::ALL.into_iter().find(|source| args.has(source.as_str()));
                let source = source.ok_or_else(|| Complaint::new("nothing to redistribute"))?;
                let settings = Redistribute { metric: args.opt("NUMBER")?, route_map: args.opt("ROUTE-MAP")? };
                family.redistribute.insert(source, settings);
                Ok(())
            },
            write: |family, lines| {
                for (source, settings) in &family.redistribute {
                    let metric = then("metric", settings.metric);
                    let map = then("route-map", settings.route_map.as_ref());
                    lines.line(format_args!("redistribute {}{metric}{map}", source.as_str()));
                }
            },
        }),
    },
];

type Subject = (IpAddr, NeighborFamily);

fn line((address, _): &Subject, lines: &mut Lines, text: impl std::fmt::Display) {
    lines.line(format_args!("neighbor {address} {text}"));
}

/// Rows of a policy applied to a neighbor's routes.
macro_rules! policy {
    ($word:literal, $label:literal, $direction:literal, $help:literal, $field:ident) => {
        Statement {
            syntax: concat!("neighbor PEER ", $word, " ", $label, " ", $direction),
            help: $help,
            action: Action::NeighborFamily(Verb {
                read: |settings, args| {
                    settings.$field = Some(args.get($label)?);
                    Ok(())
                },
                write: |subject, lines| {
                    if let Some(name) = &subject.1.$field {
                        line(subject, lines, format_args!(concat!($word, " {} ", $direction), name));
                    }
                },
            }),
        }
    };
}

const NEIGHBOR: &[Statement] = &[
    Statement {
        syntax: "[no] neighbor PEER activate",
        help: "Exchange routes of this family with the neighbor",
        action: Action::NeighborFamily(Verb {
            read: |settings, args| {
                settings.activate = Some(!args.has("no"));
                Ok(())
            },
            write: |subject, lines| match subject.1.activate {
                None => {}
                Some(true) => line(subject, lines, "activate"),
                Some(false) => lines.line(format_args!("no neighbor {} activate", subject.0)),
            },
        }),
    },
    Statement {
        syntax: "[no] neighbor PEER next-hop-self",
        help: "Announce ourselves as next hop",
        action: Action::NeighborFamily(Verb {
            read: |settings, args| {
                settings.next_hop_self = !args.has("no");
                Ok(())
            },
            write: |subject, lines| {
                if subject.1.next_hop_self {
                    line(subject, lines, "next-hop-self");
                }
            },
        }),
    },
    Statement {
        syntax: "[no] neighbor PEER soft-reconfiguration inbound",
        help: "Keep what the neighbor announced as received (always so)",
        action: Action::NeighborFamily(Verb {
            read: |settings, args| {
                settings.soft_reconfiguration = !args.has("no");
                Ok(())
            },
            write: |subject, lines| {
                if subject.1.soft_reconfiguration {
                    line(subject, lines, "soft-reconfiguration inbound");
                }
            },
        }),
    },
    policy!("prefix-list", "PREFIX-LIST", "in", "Filter what the neighbor announces", prefix_list_in),
    policy!("prefix-list", "PREFIX-LIST", "out", "Filter what is announced to the neighbor", prefix_list_out),
    policy!("route-map", "ROUTE-MAP", "in", "Filter and change what the neighbor announces", route_map_in),
    policy!("route-map", "ROUTE-MAP", "out", "Filter and change what is announced to the neighbor", route_map_out),
    Statement {
        syntax: "neighbor PEER maximum-prefix NUMBER:1-4294967295 [PERCENT:1-100] [warning-only|restart MINUTES:1-65535]",
        help: "Most prefixes accepted",
        action: Action::NeighborFamily(Verb { read: read_maximum, write: write_maximum }),
    },
    Statement {
        syntax: "neighbor PEER weight NUMBER:0-65535",
        help: "Preference within this router of what the neighbor announces",
        action: Action::NeighborFamily(Verb {
            read: |settings, args| {
                settings.weight = Some(args.get("NUMBER")?);
                Ok(())
            },
            write: |subject, lines| {
                if let Some(weight) = subject.1.weight {
                    line(subject, lines, format_args!("weight {weight}"));
                }
            },
        }),
    },
];

/// `maximum-prefix` logs from this percentage on where nothing is said, as in FRR.
const THRESHOLD: u8 = 75;

fn read_maximum(settings: &mut NeighborFamily, args: &Args<'_>) -> Result<(), Complaint> {
    let action = match args.opt::<u64>("MINUTES")? {
        Some(minutes) => MaximumPrefixAction::Restart(Duration::from_secs(60 * minutes)),
        None if args.has("warning-only") => MaximumPrefixAction::Warn,
        None => MaximumPrefixAction::Close,
    };
    let threshold_percent = args.opt("PERCENT")?.unwrap_or(THRESHOLD);
    settings.maximum_prefix = Some(MaximumPrefix { limit: args.get("NUMBER")?, threshold_percent, action });
    Ok(())
}

fn write_maximum(subject: &Subject, lines: &mut Lines) {
    let Some(MaximumPrefix { limit, threshold_percent, action }) = subject.1.maximum_prefix else { return };
    let threshold = if threshold_percent == THRESHOLD { String::new() } else { format!(" {threshold_percent}") };
    let action = match action {
        MaximumPrefixAction::Close => String::new(),
        MaximumPrefixAction::Warn => " warning-only".to_owned(),
        MaximumPrefixAction::Restart(time) => format!(" restart {}", time.as_secs() / 60),
    };
    line(subject, lines, format_args!("maximum-prefix {limit}{threshold}{action}"));
}
