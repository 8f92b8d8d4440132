//! `route-map`, in FRR's spelling. A row reads one kind of line; an entry is written as a whole, since the order of its
//! changes is part of its meaning.

use net_types::Family;

use super::{Action, LEAVE, Lines, Section, Statement, Verb, ipsec::spaced, routing};
use crate::{
    grammar::{Args, Complaint},
    model::{
        Bandwidth, CommunityChange, ExtCommunityChange, Match, MatchPeer, Name, OnMatch, Origin, Protocol,
        RouteMapEntry, Set,
    },
};

mod matches;
mod sets;

/// A row of an entry.
macro_rules! row {
    ($syntax:literal, $help:literal, $read:expr) => {
        Statement { syntax: $syntax, help: $help, action: Action::RouteMap(Verb { read: $read, write: |_, _| {} }) }
    };
}
use row;

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
                    let head = format_args!("route-map {name} {} {sequence}", entry.action.as_str());
                    lines.section(head, |lines| write(entry, lines));
                }
            }
        },
    ),
}];

pub(super) const ROWS: &[&[Statement]] = &[ENTRY, matches::ROWS, sets::ROWS, LEAVE];

const ENTRY: &[Statement] = &[
    row!("description TEXT", "A note for people", |entry, args| {
        entry.description = Some(args.get("TEXT")?);
        Ok(())
    }),
    row!("call ROUTE-MAP", "Ask another route-map after that", |entry, args| {
        entry.call = Some(args.get("ROUTE-MAP")?);
        Ok(())
    }),
    row!("on-match (next|goto SEQUENCE:1-65535)", "What follows a match that permits", |entry, args| {
        entry.on_match = args.opt("SEQUENCE")?.map_or(OnMatch::Next, OnMatch::Goto);
        Ok(())
    }),
    row!("continue [SEQUENCE:1-65535]", "Go on at the next entry, or at this one", |entry, args| {
        entry.on_match = args.opt("SEQUENCE")?.map_or(OnMatch::Next, OnMatch::Goto);
        Ok(())
    }),
];

fn write(entry: &RouteMapEntry, lines: &mut Lines) {
    let RouteMapEntry { action: _, description, matches, sets, call, on_match } = entry;
    description.iter().for_each(|text| lines.line(format_args!("description {text}")));
    matches.iter().for_each(|condition| lines.line(format_args!("match {}", matches::spell(condition))));
    sets.iter().for_each(|change| lines.line(format_args!("set {}", sets::spell(change))));
    call.iter().for_each(|name| lines.line(format_args!("call {name}")));
    match on_match {
        OnMatch::Stop => {}
        OnMatch::Next => lines.line("on-match next"),
        OnMatch::Goto(sequence) => lines.line(format_args!("on-match goto {sequence}")),
    }
}

const ORIGINS: [(Origin, &str); 3] = [(Origin::Igp, "igp"), (Origin::Egp, "egp"), (Origin::Incomplete, "incomplete")];

pub(super) fn spell_origin(origin: Origin) -> &'static str {
    ORIGINS.into_iter().find(|(known, _)| *known == origin).map_or("incomplete", |(_, word)| word)
}

/// The ORIGIN of a line, if it has one.
pub(super) fn origin(args: &Args<'_>) -> Option<Origin> {
    ORIGINS.into_iter().find(|(_, word)| args.has(word)).map(|(origin, _)| origin)
}

fn keyword(family: Family) -> &'static str {
    match family {
        Family::Ipv4Unicast | Family::Ipv4Vpn => "ip",
        Family::Ipv6Unicast | Family::Ipv6Vpn => "ipv6",
    }
}
