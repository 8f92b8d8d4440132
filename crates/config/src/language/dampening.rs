//! `bgp dampening` within a unicast address family, in FRR's spelling.

use super::{Action, Lines, Statement, Verb};
use crate::{
    grammar::{Args, Complaint},
    model::{Dampening, FamilyConfig},
};

pub(super) const FAMILY: &[Statement] = &[
    Statement {
        syntax: "bgp dampening [HALF-LIFE:1-45 [REUSE:1-20000 SUPPRESS:1-50000 MINUTES:1-255]]",
        help: "Do not use what has flapped for a while (RFC 2439)",
        action: Action::Family(Verb { read, write }),
    },
    Statement {
        syntax: "no bgp dampening [HALF-LIFE:1-45 [REUSE:1-20000 SUPPRESS:1-50000 MINUTES:1-255]]",
        help: "Use what has flapped",
        action: Action::Family(Verb {
            read: |family, _| {
                family.dampening = None;
                Ok(())
            },
            write: |_, _| {},
        }),
    },
];

fn read(family: &mut FamilyConfig, args: &Args<'_>) -> Result<(), Complaint> {
    let usual = args.opt("HALF-LIFE")?.map_or_else(Dampening::default, Dampening::of_half_life);
    let figures = Dampening {
        reuse: args.opt("REUSE")?.unwrap_or(usual.reuse),
        suppress: args.opt("SUPPRESS")?.unwrap_or(usual.suppress),
        max_suppress_minutes: args.opt("MINUTES")?.unwrap_or(usual.max_suppress_minutes),
        ..usual
    };
    if figures.suppress < figures.reuse {
        let message = format!(
            "a path would be used again below {} and not used from {} on; the second has to be the higher one",
            figures.reuse, figures.suppress
        );
        return Err(args.complain("SUPPRESS", message));
    }
    family.dampening = Some(figures);
    Ok(())
}

fn write(family: &FamilyConfig, lines: &mut Lines) {
    let Some(figures) = family.dampening else { return };
    let Dampening { half_life_minutes, reuse, suppress, max_suppress_minutes } = figures;
    if figures == Dampening::default() {
        lines.line("bgp dampening");
    } else if figures == Dampening::of_half_life(half_life_minutes) {
        lines.line(format_args!("bgp dampening {half_life_minutes}"));
    } else {
        lines.line(format_args!("bgp dampening {half_life_minutes} {reuse} {suppress} {max_suppress_minutes}"));
    }
}
