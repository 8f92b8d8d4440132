//! `router bgp`: what a route must meet before it is announced or used, and finer points of the comparison, in FRR's
//! spelling.

use super::{Action, Statement, Verb};
use crate::{grammar::Complaint, model::Bgp};

/// A row of one switch that is off unless said.
macro_rules! switch {
    ($words:literal, $help:literal, $($field:ident).+) => {
        Statement {
            syntax: concat!("[no] ", $words),
            help: $help,
            action: Action::Bgp(Verb {
                read: |bgp, args| {
                    bgp.$($field).+ = !args.has("no");
                    Ok(())
                },
                write: |bgp, lines| lines.flag(bgp.$($field).+, $words),
            }),
        }
    };
}

pub(super) const ROWS: &[Statement] = &[
    Statement {
        syntax: "[no] bgp network import-check",
        help: "Announce a network only while there is a route to exactly it",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.checks.network_import = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| match (bgp.checks.network_import, bgp.frr_defaults) {
                (true, false) => lines.line("bgp network import-check"),
                (false, true) => lines.line("no bgp network import-check"),
                _ => {}
            },
        }),
    },
    switch!("bgp reject-as-sets", "Neither accept nor announce paths with sets (RFC 6472)", checks.reject_as_sets),
    switch!("bgp bestpath as-path confed", "Confederation segments count as length", best_path.confed_as_path),
    Statement {
        syntax: "[no] bgp bestpath med confed [missing-as-worst]",
        help: "Compare MED between paths that never left the confederation",
        action: Action::Bgp(Verb { read: read_med, write: |_, _| {} }), // Printed with the next row.
    },
    Statement {
        syntax: "[no] bgp bestpath med missing-as-worst [confed]",
        help: "No MED is the worst MED",
        action: Action::Bgp(Verb {
            read: read_med,
            write: |bgp, lines| match (bgp.best_path.confed_med, bgp.best_path.missing_med_is_worst) {
                (true, true) => lines.line("bgp bestpath med confed missing-as-worst"),
                (true, false) => lines.line("bgp bestpath med confed"),
                (false, true) => lines.line("bgp bestpath med missing-as-worst"),
                (false, false) => {}
            },
        }),
    },
];

fn read_med(bgp: &mut Bgp, args: &crate::grammar::Args<'_>) -> Result<(), Complaint> {
    let on = !args.has("no");
    if args.has("confed") {
        bgp.best_path.confed_med = on;
    }
    if args.has("missing-as-worst") {
        bgp.best_path.missing_med_is_worst = on;
    }
    Ok(())
}
