//! `route-map`, in FRR's spelling.

use std::{fmt::Display, net::IpAddr, str::FromStr};

use net_types::Asn;

use super::{Action, LEAVE, Lines, Section, Statement, Verb, ipsec::spaced, routing};
use crate::{
    grammar::{Args, Complaint},
    model::{CommunityChange, Match, Name, OnMatch, Origin, RouteMapEntry, Set},
};

pub(super) const BEGIN: &[Statement] = &[Statement {
    syntax: "route-map NAME (permit|deny) SEQUENCE:1-65535",
    help: "An entry of a route-map",
    action: Action::Enter(
        |draft, args| {
            let (name, sequence): (Name, u16) = (args.get("NAME")?, args.get("SEQUENCE")?);
            let map = draft.config.route_maps.entry(name.clone()).or_default();
            let entry = map.entries.entry(sequence).or_insert_with(|| RouteMapEntry::new(routing::action(args)));
            entry.action = routing::action(args);
            Ok(Section::RouteMap(name, sequence))
        },
        |config, lines| {
            for (name, map) in &config.route_maps {
                for (sequence, entry) in &map.entries {
                    lines.section(format_args!("route-map {name} {} {sequence}", entry.action.as_str()), |lines| {
                        lines.body(&Section::RouteMap(name.clone(), *sequence), entry, |action| match action {
                            Action::RouteMap(verb) => Some(verb.write),
                            _ => None,
                        });
                    });
                }
            }
        },
    ),
}];

pub(super) const ROWS: &[&[Statement]] = &[ENTRY, MATCH, SET, LEAVE];

const ENTRY: &[Statement] = &[
    Statement {
        syntax: "description TEXT",
        help: "A note for people",
        action: Action::RouteMap(Verb {
            read: |entry, args| {
                entry.description = Some(args.get("TEXT")?);
                Ok(())
            },
            write: |entry, lines| {
                entry.description.iter().for_each(|text| lines.line(format_args!("description {text}")));
            },
        }),
    },
    Statement {
        syntax: "on-match (next|goto SEQUENCE:1-65535)",
        help: "What follows a match that permits",
        action: Action::RouteMap(Verb {
            read: |entry, args| {
                entry.on_match = args.opt("SEQUENCE")?.map_or(OnMatch::Next, OnMatch::Goto);
                Ok(())
            },
            write: |entry, lines| match entry.on_match {
                OnMatch::Stop => {}
                OnMatch::Next => lines.line("on-match next"),
                OnMatch::Goto(sequence) => lines.line(format_args!("on-match goto {sequence}")),
            },
        }),
    },
];

const MATCH: &[Statement] = &[
    Statement {
        syntax: "match ip address prefix-list PREFIX-LIST4",
        help: "IPv4 routes that a prefix-list permits",
        action: Action::RouteMap(Verb {
            read: |entry, args| matching(entry, Match::PrefixListV4(args.get("PREFIX-LIST4")?)),
            write: |entry, lines| {
                write_matches(entry, lines, |condition| match condition {
                    Match::PrefixListV4(name) => Some(format!("ip address prefix-list {name}")),
                    _ => None,
                });
            },
        }),
    },
    Statement {
        syntax: "match ipv6 address prefix-list PREFIX-LIST6",
        help: "IPv6 routes that a prefix-list permits",
        action: Action::RouteMap(Verb {
            read: |entry, args| matching(entry, Match::PrefixListV6(args.get("PREFIX-LIST6")?)),
            write: |entry, lines| {
                write_matches(entry, lines, |condition| match condition {
                    Match::PrefixListV6(name) => Some(format!("ipv6 address prefix-list {name}")),
                    _ => None,
                });
            },
        }),
    },
    Statement {
        syntax: "match metric NUMBER:0-4294967295",
        help: "Routes with this MED",
        action: Action::RouteMap(Verb {
            read: |entry, args| matching(entry, Match::Metric(args.get("NUMBER")?)),
            write: |entry, lines| {
                write_matches(entry, lines, |condition| match condition {
                    Match::Metric(number) => Some(format!("metric {number}")),
                    _ => None,
                });
            },
        }),
    },
    Statement {
        syntax: "match local-preference NUMBER:0-4294967295",
        help: "Routes with this LOCAL_PREF",
        action: Action::RouteMap(Verb {
            read: |entry, args| matching(entry, Match::LocalPreference(args.get("NUMBER")?)),
            write: |entry, lines| {
                write_matches(entry, lines, |condition| match condition {
                    Match::LocalPreference(number) => Some(format!("local-preference {number}")),
                    _ => None,
                });
            },
        }),
    },
    Statement {
        syntax: "match peer NEIGHBOR",
        help: "Routes from, or to, this neighbor",
        action: Action::RouteMap(Verb {
            read: |entry, args| matching(entry, Match::Peer(args.get("NEIGHBOR")?)),
            write: |entry, lines| {
                write_matches(entry, lines, |condition| match condition {
                    Match::Peer(address) => Some(format!("peer {address}")),
                    _ => None,
                });
            },
        }),
    },
];

const SET: &[Statement] = &[
    Statement {
        syntax: "set as-path prepend ASN...",
        help: "Put these in front of the AS path",
        action: Action::RouteMap(Verb {
            read: |entry, args| setting(entry, Set::AsPathPrepend(args.all::<Asn>("ASN")?)),
            write: |entry, lines| {
                write_sets(entry, lines, |change| match change {
                    Set::AsPathPrepend(path) => {
                        let numbers: Vec<u32> = path.iter().map(|asn| asn.get()).collect();
                        Some(format!("as-path prepend {}", spaced(&numbers)))
                    }
                    _ => None,
                });
            },
        }),
    },
    Statement {
        syntax: "set as-path prepend last-as NUMBER:1-10",
        help: "Put the leftmost AS in front again",
        action: Action::RouteMap(Verb {
            read: |entry, args| setting(entry, Set::AsPathPrependLast(args.get("NUMBER")?)),
            write: |entry, lines| {
                write_sets(entry, lines, |change| match change {
                    Set::AsPathPrependLast(times) => Some(format!("as-path prepend last-as {times}")),
                    _ => None,
                });
            },
        }),
    },
    Statement {
        syntax: "set community (none|COMMUNITY... [additive])",
        help: "Communities",
        action: Action::RouteMap(Verb {
            read: |entry, args| setting(entry, Set::Community(communities(args, "COMMUNITY")?)),
            write: |entry, lines| {
                write_sets(entry, lines, |change| match change {
                    Set::Community(change) => Some(format!("community {}", spell(change))),
                    _ => None,
                });
            },
        }),
    },
    Statement {
        syntax: "set large-community (none|LARGE-COMMUNITY... [additive])",
        help: "Large communities",
        action: Action::RouteMap(Verb {
            read: |entry, args| setting(entry, Set::LargeCommunity(communities(args, "LARGE-COMMUNITY")?)),
            write: |entry, lines| {
                write_sets(entry, lines, |change| match change {
                    Set::LargeCommunity(change) => Some(format!("large-community {}", spell(change))),
                    _ => None,
                });
            },
        }),
    },
    Statement {
        syntax: "set ip next-hop IPV4",
        help: "The next hop",
        action: Action::RouteMap(Verb {
            read: |entry, args| setting(entry, Set::NextHop(args.get("IPV4")?)),
            write: |entry, lines| {
                write_sets(entry, lines, |change| match change {
                    Set::NextHop(IpAddr::V4(address)) => Some(format!("ip next-hop {address}")),
                    _ => None,
                });
            },
        }),
    },
    Statement {
        syntax: "set ipv6 next-hop global IPV6",
        help: "The next hop",
        action: Action::RouteMap(Verb {
            read: |entry, args| setting(entry, Set::NextHop(args.get("IPV6")?)),
            write: |entry, lines| {
                write_sets(entry, lines, |change| match change {
                    Set::NextHop(IpAddr::V6(address)) => Some(format!("ipv6 next-hop global {address}")),
                    _ => None,
                });
            },
        }),
    },
    Statement {
        syntax: "set local-preference NUMBER:0-4294967295",
        help: "LOCAL_PREF, higher is better",
        action: Action::RouteMap(Verb {
            read: |entry, args| setting(entry, Set::LocalPreference(args.get("NUMBER")?)),
            write: |entry, lines| {
                write_sets(entry, lines, |change| match change {
                    Set::LocalPreference(number) => Some(format!("local-preference {number}")),
                    _ => None,
                });
            },
        }),
    },
    Statement {
        syntax: "set metric NUMBER:0-4294967295",
        help: "MED, lower is better",
        action: Action::RouteMap(Verb {
            read: |entry, args| setting(entry, Set::Metric(args.get("NUMBER")?)),
            write: |entry, lines| {
                write_sets(entry, lines, |change| match change {
                    Set::Metric(number) => Some(format!("metric {number}")),
                    _ => None,
                });
            },
        }),
    },
    Statement {
        syntax: "set origin (igp|egp|incomplete)",
        help: "ORIGIN",
        action: Action::RouteMap(Verb {
            read: |entry, args| {
                let origin = ORIGINS.into_iter().find(|(_, word)| args.has(word));
                setting(entry, Set::Origin(origin.map_or(Origin::Incomplete, |(origin, _)| origin)))
            },
            write: |entry, lines| {
                write_sets(entry, lines, |change| match change {
                    Set::Origin(origin) => {
                        let word = ORIGINS.into_iter().find(|(known, _)| known == origin)?.1;
                        Some(format!("origin {word}"))
                    }
                    _ => None,
                });
            },
        }),
    },
    Statement {
        syntax: "set weight NUMBER:0-65535",
        help: "Preference within this router, higher is better",
        action: Action::RouteMap(Verb {
            read: |entry, args| setting(entry, Set::Weight(args.get("NUMBER")?)),
            write: |entry, lines| {
                write_sets(entry, lines, |change| match change {
                    Set::Weight(number) => Some(format!("weight {number}")),
                    _ => None,
                });
            },
        }),
    },
];

const ORIGINS: [(Origin, &str); 3] = [(Origin::Igp, "igp"), (Origin::Egp, "egp"), (Origin::Incomplete, "incomplete")];

/// Adds a condition in the place of one of its kind.
fn matching(entry: &mut RouteMapEntry, condition: Match) -> Result<(), Complaint> {
    entry.matches.retain(|known| std::mem::discriminant(known) != std::mem::discriminant(&condition));
    entry.matches.push(condition);
    entry.matches.sort();
    Ok(())
}

/// Adds a change in the place of one of its kind; an IPv4 and an IPv6 next hop may stand side by side.
fn setting(entry: &mut RouteMapEntry, change: Set) -> Result<(), Complaint> {
    let kind = |set: &Set| {
        let v6 = matches!(set, Set::NextHop(IpAddr::V6(_)));
        // As in FRR, the two ways to prepend replace each other.
        let set = if let Set::AsPathPrependLast(_) = set { &Set::AsPathPrepend(Vec::new()) } else { set };
        (std::mem::discriminant(set), v6)
    };
    entry.sets.retain(|known| kind(known) != kind(&change));
    entry.sets.push(change);
    entry.sets.sort();
    Ok(())
}

fn communities<C: FromStr + Ord>(args: &Args<'_>, label: &str) -> Result<CommunityChange<C>, Complaint>
where
    C::Err: Display,
{
    if args.has("none") {
        return Ok(CommunityChange::Clear);
    }
    let mut communities = args.all(label)?;
    communities.sort();
    communities.dedup();
    Ok(if args.has("additive") { CommunityChange::Add(communities) } else { CommunityChange::Replace(communities) })
}

fn spell<C: ToString>(change: &CommunityChange<C>) -> String {
    match change {
        CommunityChange::Clear => "none".to_owned(),
        CommunityChange::Replace(communities) => spaced(communities),
        CommunityChange::Add(communities) => format!("{} additive", spaced(communities)),
    }
}

fn write_matches(entry: &RouteMapEntry, lines: &mut Lines, spell: fn(&Match) -> Option<String>) {
    entry.matches.iter().filter_map(spell).for_each(|text| lines.line(format_args!("match {text}")));
}

fn write_sets(entry: &RouteMapEntry, lines: &mut Lines, spell: fn(&Set) -> Option<String>) {
    entry.sets.iter().filter_map(spell).for_each(|text| lines.line(format_args!("set {text}")));
}
