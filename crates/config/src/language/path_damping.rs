//! `path-damping`: how paths that flap are held down.

use std::time::Duration;

use super::{Action, Draft, Lines, Statement, Verb};
use crate::{
    grammar::{Args, Complaint},
    model::{Config, PathDamping, Span},
};

const HOUR: Duration = Duration::from_secs(3600);

pub(super) const ROW: &[Statement] = &[Statement {
    syntax: "path-damping [failures COUNT:1-100] [within WINDOW] [hold HOLD-TIME] [max HOLD-MAX]",
    help: "A path that fails again and again is held down for a while when it is back",
    action: Action::Config(Verb { read, write }),
}];

fn read(draft: &mut Draft, args: &Args<'_>) -> Result<(), Complaint> {
    let usual = PathDamping::default();
    let span = |label, usual: Duration, least: Duration, most: Duration, bounds: &str| {
        let Span(span) = args.opt(label)?.unwrap_or(Span(usual));
        if (least..=most).contains(&span) { Ok(span) } else { Err(args.complain(label, format!("expected {bounds}"))) }
    };
    let within = span("WINDOW", usual.within, Duration::from_secs(1), HOUR, "1 to 3600 seconds")?;
    let hold = span("HOLD-TIME", usual.hold, Duration::from_millis(100), HOUR, "100ms to 3600 seconds")?;
    // One that is longer than the usual bound, and comes without one, is its own.
    let max = span("HOLD-MAX", usual.max.max(hold), Duration::ZERO, 24 * HOUR, "a day (86400 seconds) at most")?;
    if max < hold {
        let message = format!("the longest hold is shorter than the first, which takes {} seconds", Span(hold));
        return Err(args.complain("HOLD-MAX", message));
    }
    let failures = args.opt("COUNT")?.unwrap_or(usual.failures);
    draft.config.path_damping = Some(PathDamping { failures, within, hold, max });
    Ok(())
}

fn write(config: &Config, lines: &mut Lines) {
    let Some(damping) = config.path_damping else { return };
    if damping == PathDamping::default() {
        return lines.line("path-damping");
    }
    let PathDamping { failures, within, hold, max } = damping;
    let (within, hold, max) = (Span(within), Span(hold), Span(max));
    lines.line(format_args!("path-damping failures {failures} within {within} hold {hold} max {max}"));
}
