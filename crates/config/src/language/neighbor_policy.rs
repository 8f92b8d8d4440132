//! `neighbor PEER …` within an address family: filters of its routes, and what is announced to it beyond the table.

use super::{Action, Statement, Verb, family::line, then};
use crate::model::{AdvertiseMap, DefaultOriginate, Existence};

/// A row that says a field.
macro_rules! row {
    ($syntax:expr, $help:literal, $field:ident, $read:expr, $write:expr) => {
        Statement {
            syntax: $syntax,
            help: $help,
            action: Action::NeighborFamily(Verb {
                read: |settings, args| {
                    settings.policy.$field = $read(args)?;
                    Ok(())
                },
                write: |subject, lines| {
                    if let Some(value) = &subject.what.policy.$field {
                        $write(subject, lines, value);
                    }
                },
            }),
        }
    };
}

/// A row that takes back what another says: the group's word holds again, or the default.
macro_rules! unsay {
    ($syntax:expr, $help:literal, $field:ident) => {
        Statement {
            syntax: $syntax,
            help: $help,
            action: Action::NeighborFamily(Verb {
                read: |settings, _| {
                    settings.policy.$field = None;
                    Ok(())
                },
                write: |_, _| {},
            }),
        }
    };
}

/// The row of a filter that is a list.
macro_rules! list {
    ($word:literal, $label:literal, $direction:literal, $help:literal, $field:ident) => {
        row!(
            concat!("neighbor PEER ", $word, " ", $label, " ", $direction),
            $help,
            $field,
            |args: &crate::grammar::Args<'_>| args.get($label).map(Some),
            |subject, lines, name: &crate::model::Name| {
                line(subject, lines, format_args!(concat!($word, " {} ", $direction), name));
            }
        )
    };
}

type Args<'a> = crate::grammar::Args<'a>;
type Read<T> = Result<Option<T>, crate::grammar::Complaint>;

pub(super) const ROWS: &[Statement] = &[
    list!("distribute-list", "ACCESS-LIST", "in", "Filter what the neighbor announces", distribute_list_in),
    list!("distribute-list", "ACCESS-LIST", "out", "Filter what is announced to the neighbor", distribute_list_out),
    list!("filter-list", "AS-PATH-LIST", "in", "Filter what the neighbor announces by its AS path", filter_list_in),
    list!(
        "filter-list",
        "AS-PATH-LIST",
        "out",
        "Filter what is announced to the neighbor by its AS path",
        filter_list_out
    ),
    row!(
        "neighbor PEER unsuppress-map ROUTE-MAP",
        "Announce more specific routes although an aggregate suppresses them",
        unsuppress_map,
        |args: &Args<'_>| args.get("ROUTE-MAP").map(Some),
        |subject, lines, name: &crate::model::Name| line(subject, lines, format_args!("unsuppress-map {name}"))
    ),
    row!(
        "neighbor PEER default-originate [route-map ROUTE-MAP]",
        "Announce a default route to the neighbor",
        default_originate,
        |args: &Args<'_>| -> Read<DefaultOriginate> {
            Ok(Some(DefaultOriginate::Yes { route_map: args.opt("ROUTE-MAP")? }))
        },
        |subject, lines, value: &DefaultOriginate| {
            if let DefaultOriginate::Yes { route_map } = value {
                line(subject, lines, format_args!("default-originate{}", then("route-map", route_map.as_ref())));
            }
        }
    ),
    row!(
        "no neighbor PEER default-originate [route-map ROUTE-MAP]",
        "Announce no default route to the neighbor",
        default_originate,
        |_: &Args<'_>| -> Read<DefaultOriginate> { Ok(Some(DefaultOriginate::No)) },
        |subject: &super::family::Subject, lines: &mut super::Lines, value: &DefaultOriginate| {
            if *value == DefaultOriginate::No {
                lines.line(format_args!("no neighbor {} default-originate", subject.who));
            }
        }
    ),
    row!(
        "neighbor PEER advertise-map ROUTE-MAP (exist-map|non-exist-map) CONDITION",
        "Announce some routes only while others are there, or are not",
        advertise_map,
        |args: &Args<'_>| -> Read<AdvertiseMap> {
            Ok(Some(AdvertiseMap {
                map: args.get("ROUTE-MAP")?,
                wanted: if args.has("exist-map") { Existence::Exist } else { Existence::NonExist },
                condition: args.get("CONDITION")?,
            }))
        },
        |subject, lines, value: &AdvertiseMap| {
            let AdvertiseMap { map, wanted, condition } = value;
            line(subject, lines, format_args!("advertise-map {map} {} {condition}", wanted.as_str()));
        }
    ),
    row!(
        "neighbor PEER maximum-prefix-out NUMBER:1-4294967295",
        "Most prefixes announced to the neighbor",
        maximum_prefix_out,
        |args: &Args<'_>| args.get("NUMBER").map(Some),
        |subject, lines, limit: &u32| line(subject, lines, format_args!("maximum-prefix-out {limit}"))
    ),
    unsay!("no neighbor PEER distribute-list ACCESS-LIST in", "Take back the filter", distribute_list_in),
    unsay!("no neighbor PEER distribute-list ACCESS-LIST out", "Take back the filter", distribute_list_out),
    unsay!("no neighbor PEER filter-list AS-PATH-LIST in", "Take back the filter", filter_list_in),
    unsay!("no neighbor PEER filter-list AS-PATH-LIST out", "Take back the filter", filter_list_out),
    unsay!("no neighbor PEER unsuppress-map [ROUTE-MAP]", "Announce nothing that is suppressed", unsuppress_map),
    unsay!(
        "no neighbor PEER advertise-map [ROUTE-MAP (exist-map|non-exist-map) CONDITION]",
        "Announce all routes at all times",
        advertise_map
    ),
    unsay!(
        "no neighbor PEER maximum-prefix-out [NUMBER:1-4294967295]",
        "Announce any number of prefixes",
        maximum_prefix_out
    ),
];
