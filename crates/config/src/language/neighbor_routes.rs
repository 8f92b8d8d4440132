//! `neighbor PEER …` within an address family: reflection, and whose AS and which attributes the neighbor gets to see.

use super::{Action, Statement, Verb, family::line};
use crate::{
    grammar::{Args, Complaint},
    model::{AllowOwnAs, AttributeUnchanged, NeighborFamily, RemovePrivateAs},
};

/// Rows of one flag; what is said with `no` overrides the group.
macro_rules! flag {
    ($word:literal, $help:literal, $field:ident) => {
        Statement {
            syntax: concat!("[no] neighbor PEER ", $word),
            help: $help,
            action: Action::NeighborFamily(Verb {
                read: |settings, args| {
                    settings.routes.$field = Some(!args.has("no"));
                    Ok(())
                },
                write: |subject, lines| match subject.what.routes.$field {
                    None => {}
                    Some(true) => line(subject, lines, $word),
                    Some(false) => lines.line(format_args!(concat!("no neighbor {} ", $word), subject.who)),
                },
            }),
        }
    };
}

/// How often our own AS may come where nothing is said, as in FRR.
const ALLOWED: u8 = 3;

pub(super) const ROWS: &[Statement] = &[
    flag!("route-reflector-client", "Reflect routes to and from the neighbor (RFC 4456)", route_reflector_client),
    flag!("route-server-client", "Serve the neighbor as a route server, transparently (RFC 7947)", route_server_client),
    flag!(
        "route-server-client best-path-only",
        "Tell the client of the best path or of none, whatever others it may have",
        route_server_best_only
    ),
    flag!(
        "advertise-best-external",
        "Tell the internal neighbor of the best external path while the best is internal",
        advertise_best_external
    ),
    flag!("addpath-tx-all-paths", "Send the neighbor every path of a prefix (RFC 7911)", addpath_tx_all_paths),
    flag!(
        "addpath-tx-bestpath-per-AS",
        "Send the neighbor the best path of each neighboring AS (RFC 7911)",
        addpath_tx_bestpath_per_as
    ),
    flag!("disable-addpath-rx", "Take one path a prefix from the neighbor", disable_addpath_rx),
    flag!("next-hop-self force", "Announce ourselves as next hop of reflected routes, too", next_hop_self_force),
    Statement {
        syntax: "neighbor PEER allowas-in [NUMBER:1-10|origin]",
        help: "Accept paths with our own AS",
        action: Action::NeighborFamily(Verb {
            read: |settings, args| {
                settings.routes.allow_own_as = Some(match args.opt("NUMBER")? {
                    Some(times) => AllowOwnAs::Times(times),
                    None if args.has("origin") => AllowOwnAs::Origin,
                    None => AllowOwnAs::Times(ALLOWED),
                });
                Ok(())
            },
            write: |subject, lines| match subject.what.routes.allow_own_as {
                None => {}
                Some(AllowOwnAs::Times(ALLOWED)) => line(subject, lines, "allowas-in"),
                Some(AllowOwnAs::Times(times)) => line(subject, lines, format_args!("allowas-in {times}")),
                Some(AllowOwnAs::Origin) => line(subject, lines, "allowas-in origin"),
                Some(AllowOwnAs::No) => lines.line(format_args!("no neighbor {} allowas-in", subject.who)),
            },
        }),
    },
    Statement {
        syntax: "no neighbor PEER allowas-in [NUMBER:1-10|origin]",
        help: "Refuse paths with our own AS",
        action: Action::NeighborFamily(Verb {
            read: |settings, _| {
                settings.routes.allow_own_as = Some(AllowOwnAs::No);
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    Statement {
        syntax: "neighbor PEER remove-private-AS [all] [replace-AS]",
        help: "Take private AS numbers off paths to the neighbor",
        action: Action::NeighborFamily(Verb {
            read: |settings, args| {
                let (all, replace) = (args.has("all"), args.has("replace-AS"));
                settings.routes.remove_private_as = Some(RemovePrivateAs::Yes { all, replace });
                Ok(())
            },
            write: |subject, lines| match subject.what.routes.remove_private_as {
                None => {}
                Some(RemovePrivateAs::Yes { all, replace }) => {
                    let (all, replace) = (if all { " all" } else { "" }, if replace { " replace-AS" } else { "" });
                    line(subject, lines, format_args!("remove-private-AS{all}{replace}"));
                }
                Some(RemovePrivateAs::No) => lines.line(format_args!("no neighbor {} remove-private-AS", subject.who)),
            },
        }),
    },
    Statement {
        syntax: "no neighbor PEER remove-private-AS [all] [replace-AS]",
        help: "Leave private AS numbers on paths to the neighbor",
        action: Action::NeighborFamily(Verb {
            read: |settings, _| {
                settings.routes.remove_private_as = Some(RemovePrivateAs::No);
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    flag!("as-override", "Put our AS in the place of the neighbor's on paths to it", as_override),
    Statement {
        syntax: "neighbor PEER attribute-unchanged [as-path] [next-hop] [med]",
        help: "Pass attributes to the neighbor as they came",
        action: Action::NeighborFamily(Verb {
            read: |settings, args| {
                settings.routes.attribute_unchanged = Some(unchanged(args));
                Ok(())
            },
            write: |subject, lines| {
                let Some(unchanged) = subject.what.routes.attribute_unchanged else { return };
                let words = spell(unchanged);
                if words.is_empty() {
                    lines.line(format_args!("no neighbor {} attribute-unchanged", subject.who));
                } else {
                    line(subject, lines, format_args!("attribute-unchanged{words}"));
                }
            },
        }),
    },
    Statement {
        syntax: "no neighbor PEER attribute-unchanged [as-path] [next-hop] [med]",
        help: "Change attributes as the protocol asks for",
        action: Action::NeighborFamily(Verb {
            read: |settings, args| {
                let not = unchanged(args);
                let AttributeUnchanged { as_path, next_hop, med } =
                    settings.routes.attribute_unchanged.unwrap_or_default();
                settings.routes.attribute_unchanged = Some(AttributeUnchanged {
                    as_path: as_path && !not.as_path,
                    next_hop: next_hop && !not.next_hop,
                    med: med && !not.med,
                });
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    Statement {
        syntax: "[no] neighbor PEER send-community [standard|extended|large|both|all]",
        help: "Send communities to the neighbor",
        action: Action::NeighborFamily(Verb { read: read_communities, write: write_communities }),
    },
];

fn unchanged(args: &Args<'_>) -> AttributeUnchanged {
    let said =
        AttributeUnchanged { as_path: args.has("as-path"), next_hop: args.has("next-hop"), med: args.has("med") };
    if said == AttributeUnchanged::default() {
        return AttributeUnchanged { as_path: true, next_hop: true, med: true };
    }
    said
}

fn spell(unchanged: AttributeUnchanged) -> String {
    let words = [(unchanged.as_path, " as-path"), (unchanged.next_hop, " next-hop"), (unchanged.med, " med")];
    words.into_iter().filter(|(said, _)| *said).map(|(_, word)| word).collect()
}

/// Without a word it is the standard ones, and `both` leaves out the large ones, as in FRR.
fn read_communities(settings: &mut NeighborFamily, args: &Args<'_>) -> Result<(), Complaint> {
    let send = Some(!args.has("no"));
    let (extended, large) = (args.has("extended"), args.has("large"));
    let (both, all) = (args.has("both"), args.has("all"));
    if !extended && !large {
        settings.routes.send_standard = send;
    }
    if extended || both || all {
        settings.routes.send_extended = send;
    }
    if large || all {
        settings.routes.send_large = send;
    }
    Ok(())
}

fn write_communities(subject: &super::family::Subject, lines: &mut super::Lines) {
    let routes = &subject.what.routes;
    let kinds = [("standard", routes.send_standard), ("extended", routes.send_extended), ("large", routes.send_large)];
    for (kind, send) in kinds {
        match send {
            None => {}
            Some(true) => line(subject, lines, format_args!("send-community {kind}")),
            Some(false) => lines.line(format_args!("no neighbor {} send-community {kind}", subject.who)),
        }
    }
}
