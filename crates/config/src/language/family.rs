//! `address-family … unicast` within `router bgp`, in FRR's spelling.

use std::time::Duration;

use net_types::{Family, Prefix};

use super::{
    Action, LEAVE, Leave, Lines, Said, Section, Statement, Verb, dampening, multipath, neighbor_policy,
    neighbor_routes, route_map, then,
};
use crate::{
    grammar::{Args, Complaint},
    model::{
        Aggregate, Bgp, Distances, FamilyConfig, MaximumPrefix, MaximumPrefixAction, NeighborFamily, OutboundFilter,
        Redistribute, RedistributeSource,
    },
};

/// As `address-family` spells it.
pub(super) fn spelling(family: Family) -> &'static str {
    match family {
        Family::Ipv4Unicast => "ipv4 unicast",
        Family::Ipv6Unicast => "ipv6 unicast",
        Family::Ipv4Vpn => "ipv4 vpn",
        Family::Ipv6Vpn => "ipv6 vpn",
    }
}

/// Writes the section if there is anything to say in it.
pub(super) fn write(bgp: &Bgp, family: Family, lines: &mut Lines) {
    let groups = bgp.peer_groups.iter().map(|(name, settings)| (name.to_string(), settings));
    let neighbors = bgp.neighbors.iter().map(|(id, neighbor)| (id.to_string(), &neighbor.settings));
    let said = groups
        .chain(neighbors)
        .filter_map(|(who, settings)| Some(Said { who, what: settings.families.get(&family)?.clone() }));
    let mut said = said.peekable();
    if said.peek().is_none() && !bgp.families.contains_key(&family) {
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
    for said in said {
        lines.body(&section, &said, |action| match action {
            Action::NeighborFamily(verb) => Some(verb.write),
            _ => None,
        });
    }
    lines.depth -= 1;
    lines.line("exit-address-family");
}

pub(super) const ROWS: &[&[Statement]] = &[
    FAMILY,
    multipath::FAMILY,
    dampening::FAMILY,
    NEIGHBOR,
    neighbor_routes::ROWS,
    neighbor_policy::ROWS,
    LEAVE_FAMILY,
    LEAVE,
];

/// A VPN's family has neighbors and no routes of its own: those are its VRFs'.
pub(super) const VPN_ROWS: &[&[Statement]] =
    &[NEIGHBOR, neighbor_routes::ROWS, neighbor_policy::ROWS, LEAVE_FAMILY, LEAVE];

pub(super) const LEAVE_FAMILY: &[Statement] =
    &[Statement { syntax: "exit-address-family", help: "Leave the address family", action: Action::Leave(Leave::One) }];

const FAMILY: &[Statement] = &[
    Statement {
        syntax: "distance bgp EXTERNAL:1-255 INTERNAL:1-255 LOCAL:1-255",
        help: "Administrative distances of routes of external and internal neighbors, and of our own",
        action: Action::Family(Verb {
            read: |family, args| {
                let (external, internal) = (args.get("EXTERNAL")?, args.get("INTERNAL")?);
                family.distance = Some(Distances { external, internal, local: args.get("LOCAL")? });
                Ok(())
            },
            write: |family, lines| {
                if let Some(Distances { external, internal, local }) = family.distance {
                    lines.line(format_args!("distance bgp {external} {internal} {local}"));
                }
            },
        }),
    },
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
        syntax: "redistribute (connected|static|kernel|ipsec) [metric NUMBER:0-4294967295] [route-map ROUTE-MAP]",
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
    Statement {
        syntax: "aggregate-address PREFIX [as-set] [summary-only] [route-map ROUTE-MAP] [origin (igp|egp|incomplete)] [matching-MED-only] [suppress-map SUPPRESS]",
        help: "Announce one prefix for all that is within it",
        action: Action::Family(Verb { read: read_aggregate, write: write_aggregates }),
    },
    Statement {
        syntax: "aggregate-address PREFIX summary-only as-set [route-map ROUTE-MAP]",
        help: "Announce one prefix for all that is within it",
        action: Action::Family(Verb { read: read_aggregate, write: |_, _| {} }),
    },
    Statement {
        syntax: "table-map ROUTE-MAP",
        help: "Filter and change routes on their way into the kernel",
        action: Action::Family(Verb {
            read: |family, args| {
                family.table_map = Some(args.get("ROUTE-MAP")?);
                Ok(())
            },
            write: |family, lines| {
                family.table_map.iter().for_each(|name| lines.line(format_args!("table-map {name}")))
            },
        }),
    },
];

fn read_aggregate(family: &mut FamilyConfig, args: &Args<'_>) -> Result<(), Complaint> {
    let aggregate = Aggregate {
        summary_only: args.has("summary-only"),
        as_set: args.has("as-set"),
        matching_med_only: args.has("matching-MED-only"),
        origin: route_map::origin(args),
        route_map: args.opt("ROUTE-MAP")?,
        suppress_map: args.opt("SUPPRESS")?,
    };
    if aggregate.summary_only && aggregate.suppress_map.is_some() {
        return Err(Complaint::new(
            "\"summary-only\" suppresses everything; leave it out to let \"suppress-map\" choose",
        ));
    }
    family.aggregates.insert(args.get("PREFIX")?, aggregate);
    Ok(())
}

fn write_aggregates(family: &FamilyConfig, lines: &mut Lines) {
    for (prefix, aggregate) in &family.aggregates {
        let Aggregate { summary_only, as_set, matching_med_only, origin, route_map, suppress_map } = aggregate;
        let word = |said: bool, word: &'static str| if said { word } else { "" };
        lines.line(format_args!(
            "aggregate-address {prefix}{}{}{}{}{}{}",
            word(*as_set, " as-set"),
            word(*summary_only, " summary-only"),
            then("route-map", route_map.as_ref()),
            then("origin", origin.map(route_map::spell_origin)),
            word(*matching_med_only, " matching-MED-only"),
            then("suppress-map", suppress_map.as_ref()),
        ));
    }
}

pub(super) type Subject = Said<NeighborFamily>;

pub(super) fn line(subject: &Subject, lines: &mut Lines, text: impl std::fmt::Display) {
    lines.line(format_args!("neighbor {} {text}", subject.who));
}

/// Rows of one flag of a neighbor.
macro_rules! flag {
    ($word:literal, $help:literal, $field:ident) => {
        Statement {
            syntax: concat!("[no] neighbor PEER ", $word),
            help: $help,
            action: Action::NeighborFamily(Verb {
                read: |settings, args| {
                    settings.$field = Some(!args.has("no"));
                    Ok(())
                },
                write: |subject, lines| match subject.what.$field {
                    None => {}
                    Some(true) => line(subject, lines, $word),
                    Some(false) => lines.line(format_args!(concat!("no neighbor {} ", $word), subject.who)),
                },
            }),
        }
    };
}

/// A row that takes back what another says: the group's word holds again, or the default.
macro_rules! unsay {
    ($syntax:expr, $help:expr, $field:ident) => {
        Statement {
            syntax: $syntax,
            help: $help,
            action: Action::NeighborFamily(Verb {
                read: |settings, _| {
                    settings.$field = None;
                    Ok(())
                },
                write: |_, _| {},
            }),
        }
    };
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
                    if let Some(name) = &subject.what.$field {
                        line(subject, lines, format_args!(concat!($word, " {} ", $direction), name));
                    }
                },
            }),
        }
    };
}

const NEIGHBOR: &[Statement] = &[
    flag!("activate", "Exchange routes of this family with the neighbor", activate),
    flag!("next-hop-self", "Announce ourselves as next hop", next_hop_self),
    flag!(
        "soft-reconfiguration inbound",
        "Keep what the neighbor announced as received (always so)",
        soft_reconfiguration
    ),
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
                if let Some(weight) = subject.what.weight {
                    line(subject, lines, format_args!("weight {weight}"));
                }
            },
        }),
    },
    unsay!("no neighbor PEER prefix-list PREFIX-LIST in", "Take back the filter", prefix_list_in),
    unsay!("no neighbor PEER prefix-list PREFIX-LIST out", "Take back the filter", prefix_list_out),
    unsay!("no neighbor PEER route-map ROUTE-MAP in", "Take back the filter", route_map_in),
    unsay!("no neighbor PEER route-map ROUTE-MAP out", "Take back the filter", route_map_out),
    unsay!(
        "no neighbor PEER maximum-prefix [NUMBER:1-4294967295 [PERCENT:1-100] [warning-only|restart MINUTES:1-65535]]",
        "Accept any number of prefixes",
        maximum_prefix
    ),
    Statement {
        syntax: "neighbor PEER capability orf prefix-list (send|receive|both)",
        help: "Let the other side apply the inbound prefix-list, before routes are sent (RFC 5291)",
        action: Action::NeighborFamily(Verb {
            read: |settings, args| {
                let said = OutboundFilter::SPELLINGS.into_iter().find(|(_, word)| args.has(word));
                settings.outbound_filter = said.map(|(way, _)| way);
                Ok(())
            },
            write: |subject, lines| {
                let way = subject.what.outbound_filter;
                if let Some((_, word)) = OutboundFilter::SPELLINGS.iter().find(|(known, _)| Some(*known) == way) {
                    line(subject, lines, format_args!("capability orf prefix-list {word}"));
                }
            },
        }),
    },
    unsay!(
        "no neighbor PEER capability orf prefix-list [(send|receive|both)]",
        "No filters in either direction",
        outbound_filter
    ),
    unsay!("no neighbor PEER weight [NUMBER:0-65535]", "No preference", weight),
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
    let Some(MaximumPrefix { limit, threshold_percent, action }) = subject.what.maximum_prefix else { return };
    let threshold = if threshold_percent == THRESHOLD { String::new() } else { format!(" {threshold_percent}") };
    let action = match action {
        MaximumPrefixAction::Close => String::new(),
        MaximumPrefixAction::Warn => " warning-only".to_owned(),
        MaximumPrefixAction::Restart(time) => format!(" restart {}", time.as_secs() / 60),
    };
    line(subject, lines, format_args!("maximum-prefix {limit}{threshold}{action}"));
}
