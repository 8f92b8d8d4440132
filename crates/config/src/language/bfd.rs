//! `bfd`

use std::time::Duration;

use super::{Action, LEAVE, Section, Statement, Verb};
use crate::model::BfdProfile;

pub(super) const BEGIN: &[Statement] = &[Statement {
    syntax: "bfd",
    help: "Settings of BFD",
    action: Action::Enter(
        |_, _| Ok(Section::Bfd),
        |config, lines| {
            if config.bfd_profiles.is_empty() {
                return;
            }
            lines.section("bfd", |lines| {
                for (name, profile) in &config.bfd_profiles {
                    lines.section(format_args!("profile {name}"), |lines| {
                        lines.body(&Section::BfdProfile(name.clone()), profile, |action| match action {
                            Action::BfdProfile(verb) => Some(verb.write),
                            _ => None,
                        });
                    });
                }
            });
        },
    ),
}];

pub(super) const ROWS: &[&[Statement]] = &[BFD, LEAVE];

const BFD: &[Statement] = &[Statement {
    syntax: "profile NAME",
    help: "A set of timers under a name",
    action: Action::Enter(
        |draft, args| {
            let name = args.get("NAME")?;
            draft.bfd_profile(&name);
            Ok(Section::BfdProfile(name))
        },
        |_, _| {}, // Printed with the section around it.
    ),
}];

pub(super) const PROFILE_ROWS: &[&[Statement]] = &[PROFILE, LEAVE];

const PROFILE: &[Statement] = &[
    Statement {
        syntax: "detect-multiplier NUMBER:2-255",
        help: "Packets that may be missed",
        action: Action::BfdProfile(Verb {
            read: |profile, args| {
                profile.detect_multiplier = args.get("NUMBER")?;
                Ok(())
            },
            write: |profile, lines| {
                if profile.detect_multiplier != BfdProfile::default().detect_multiplier {
                    lines.line(format_args!("detect-multiplier {}", profile.detect_multiplier));
                }
            },
        }),
    },
    Statement {
        syntax: "transmit-interval MILLISECONDS:10-60000",
        help: "Milliseconds between packets that we want to send",
        action: Action::BfdProfile(Verb {
            read: |profile, args| {
                profile.transmit_interval = Duration::from_millis(args.get("MILLISECONDS")?);
                Ok(())
            },
            write: |profile, lines| {
                if profile.transmit_interval != BfdProfile::default().transmit_interval {
                    lines.line(format_args!("transmit-interval {}", profile.transmit_interval.as_millis()));
                }
            },
        }),
    },
    Statement {
        syntax: "receive-interval MILLISECONDS:10-60000",
        help: "Milliseconds between packets that we are able to receive",
        action: Action::BfdProfile(Verb {
            read: |profile, args| {
                profile.receive_interval = Duration::from_millis(args.get("MILLISECONDS")?);
                Ok(())
            },
            write: |profile, lines| {
                if profile.receive_interval != BfdProfile::default().receive_interval {
                    lines.line(format_args!("receive-interval {}", profile.receive_interval.as_millis()));
                }
            },
        }),
    },
    Statement {
        syntax: "[no] passive-mode",
        help: "Do not send before the peer has",
        action: Action::BfdProfile(Verb {
            read: |profile, args| {
                profile.passive = !args.has("no");
                Ok(())
            },
            write: |profile, lines| lines.flag(profile.passive, "passive-mode"),
        }),
    },
    Statement {
        syntax: "[no] shutdown",
        help: "Hold sessions down",
        action: Action::BfdProfile(Verb {
            read: |profile, args| {
                profile.shutdown = !args.has("no");
                Ok(())
            },
            write: |profile, lines| lines.flag(profile.shutdown, "shutdown"),
        }),
    },
];
