//! `bfd`

use std::time::Duration;

use super::{Action, LEAVE, Lines, Section, Statement, Verb};
use crate::{
    grammar::{Args, Complaint},
    model::{BfdPeerId, BfdProfile},
};

pub(super) const BEGIN: &[Statement] = &[Statement {
    syntax: "bfd",
    help: "Settings of BFD",
    action: Action::Enter(
        |_, _| Ok(Section::Bfd),
        |config, lines| {
            if config.bfd_profiles.is_empty() && config.bfd_peers.is_empty() {
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
                for (id, peer) in &config.bfd_peers {
                    lines.section(format_args!("peer {id}"), |lines| {
                        lines.body(&Section::BfdPeer(id.clone()), peer, |action| match action {
                            Action::BfdPeer(verb) => Some(verb.write),
                            _ => None,
                        });
                    });
                }
            });
        },
    ),
}];

pub(super) const ROWS: &[&[Statement]] = &[BFD, LEAVE];

const BFD: &[Statement] = &[
    Statement {
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
    },
    Statement {
        syntax: "peer ADDRESS [multihop] [local-address LOCAL] [interface IFNAME]",
        help: "A session, and its timers",
        action: Action::Enter(
            |draft, args| {
                let id = peer_id(args)?;
                draft.bfd_peer(&id);
                Ok(Section::BfdPeer(id))
            },
            |_, _| {}, // Printed with the section around it.
        ),
    },
    Statement {
        syntax: "no peer ADDRESS [multihop] [local-address LOCAL] [interface IFNAME]",
        help: "No such session",
        action: Action::Config(Verb {
            read: |draft, args| {
                draft.config.bfd_peers.remove(&peer_id(args)?);
                Ok(())
            },
            write: |_, _| {},
        }),
    },
];

fn peer_id(args: &Args<'_>) -> Result<BfdPeerId, Complaint> {
    let id = BfdPeerId {
        address: args.get("ADDRESS")?,
        multihop: args.has("multihop"),
        local: args.opt("LOCAL")?,
        interface: args.opt("IFNAME")?,
    };
    if id.local.is_some_and(|local| local.is_ipv4() != id.address.is_ipv4()) {
        return Err(args.complain("LOCAL", "both ends of a session have addresses of the same kind"));
    }
    Ok(id)
}

pub(super) const PEER_ROWS: &[&[Statement]] = &[PEER, PEER_ECHO, LEAVE];

/// Rows of one value of a peer.
macro_rules! value {
    ($word:literal, $label:literal, $range:literal, $help:literal, $field:ident, $read:expr, $show:expr) => {
        Statement {
            syntax: concat!($word, " ", $label, ":", $range),
            help: $help,
            action: Action::BfdPeer(Verb {
                read: |peer, args| {
                    peer.$field = Some($read(args.get($label)?));
                    Ok(())
                },
                write: |peer, lines| {
                    if let Some(value) = peer.$field {
                        lines.line(format_args!(concat!($word, " {}"), $show(value)));
                    }
                },
            }),
        }
    };
}

/// Rows of one flag of a peer.
macro_rules! flag {
    ($word:literal, $help:literal, $field:ident) => {
        Statement {
            syntax: concat!("[no] ", $word),
            help: $help,
            action: Action::BfdPeer(Verb {
                read: |peer, args| {
                    peer.$field = Some(!args.has("no"));
                    Ok(())
                },
                write: |peer, lines| match peer.$field {
                    None => {}
                    Some(true) => lines.line($word),
                    Some(false) => lines.line(concat!("no ", $word)),
                },
            }),
        }
    };
}

const PEER: &[Statement] = &[
    Statement {
        syntax: "profile PROFILE",
        help: "Timers of a profile where this peer says nothing",
        action: Action::BfdPeer(Verb {
            read: |peer, args| {
                peer.profile = Some(args.get("PROFILE")?);
                Ok(())
            },
            write: |peer, lines| peer.profile.iter().for_each(|name| lines.line(format_args!("profile {name}"))),
        }),
    },
    Statement {
        syntax: "no profile [PROFILE]",
        help: "No profile",
        action: Action::BfdPeer(Verb {
            read: |peer, _| {
                peer.profile = None;
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    value!("detect-multiplier", "NUMBER", "2-255", "Packets that may be missed", detect_multiplier, as_is, as_is),
    value!(
        "transmit-interval",
        "MILLISECONDS",
        "10-60000",
        "Milliseconds between packets that we want to send",
        transmit_interval,
        Duration::from_millis,
        millis
    ),
    value!(
        "receive-interval",
        "MILLISECONDS",
        "10-60000",
        "Milliseconds between packets that we are able to receive",
        receive_interval,
        Duration::from_millis,
        millis
    ),
    value!("minimum-ttl", "NUMBER", "1-254", "Drop packets that came further (multihop)", minimum_ttl, as_is, as_is),
    value!(
        "echo transmit-interval",
        "MILLISECONDS",
        "10-60000",
        "Milliseconds between Echo packets that we want to send",
        echo_transmit_interval,
        Duration::from_millis,
        millis
    ),
    flag!("echo-mode", "Send Echo packets, which the peer's forwarding brings back (tunnels only)", echo_mode),
    Statement {
        syntax: "adaptive-intervals maximum MILLISECONDS:10-60000",
        help: "Raise both intervals as far as the path's jitter asks for, but not beyond this",
        action: Action::BfdPeer(Verb {
            read: |peer, args| {
                peer.adapt_up_to = Some(Duration::from_millis(args.get("MILLISECONDS")?));
                Ok(())
            },
            write: |peer, lines| match peer.adapt_up_to {
                None => {}
                Some(Duration::ZERO) => lines.line("no adaptive-intervals"),
                Some(most) => lines.line(format_args!("adaptive-intervals maximum {}", most.as_millis())),
            },
        }),
    },
    Statement {
        syntax: "no adaptive-intervals [maximum] [MILLISECONDS:10-60000]",
        help: "Intervals stay as they are configured",
        action: Action::BfdPeer(Verb {
            read: |peer, _| {
                peer.adapt_up_to = Some(Duration::ZERO);
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    flag!("passive-mode", "Do not send before the peer has", passive),
    flag!("shutdown", "Hold the session down", shutdown),
];

fn as_is(number: u8) -> u8 {
    number
}

fn millis(time: Duration) -> u128 {
    time.as_millis()
}

/// Rows about Echo packets of the peer: they are reflected by the kernel, which the peer has to be told.
macro_rules! echo {
    ($action:ident) => {
        &[
            Statement {
                syntax: "echo receive-interval (disabled|MILLISECONDS:10-60000)",
                help: "How often the peer may have Echo packets reflected, which the kernel does where it forwards packets",
                action: Action::$action(Verb {
                    read: |target, args| {
                        let millis = args.opt("MILLISECONDS")?.unwrap_or(0);
                        target.echo_receive_interval = Some(Duration::from_millis(millis));
                        Ok(())
                    },
                    write: |target, lines| {
                        if let Some(interval) = target.echo_receive_interval {
                            write_echo(interval, lines);
                        }
                    },
                }),
            },
            Statement {
                syntax: "echo-interval MILLISECONDS:10-60000",
                help: "The same, in the spelling that FRR had before",
                action: Action::$action(Verb {
                    read: |target, args| {
                        let millis = args.get("MILLISECONDS")?;
                        target.echo_receive_interval = Some(Duration::from_millis(millis));
                        Ok(())
                    },
                    write: |_, _| {},
                }),
            },
        ]
    };
}

const PEER_ECHO: &[Statement] = echo!(BfdPeer);

const PROFILE_ECHO: &[Statement] = echo!(BfdProfile);

fn write_echo(interval: Duration, lines: &mut Lines) {
    match interval.as_millis() {
        0 => lines.line("echo receive-interval disabled"),
        millis => lines.line(format_args!("echo receive-interval {millis}")),
    }
}

pub(super) const PROFILE_ROWS: &[&[Statement]] = &[PROFILE, PROFILE_ECHO, LEAVE];

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
        syntax: "echo transmit-interval MILLISECONDS:10-60000",
        help: "Milliseconds between Echo packets that we want to send",
        action: Action::BfdProfile(Verb {
            read: |profile, args| {
                profile.echo_transmit_interval = Duration::from_millis(args.get("MILLISECONDS")?);
                Ok(())
            },
            write: |profile, lines| {
                if profile.echo_transmit_interval != BfdProfile::default().echo_transmit_interval {
                    let millis = profile.echo_transmit_interval.as_millis();
                    lines.line(format_args!("echo transmit-interval {millis}"));
                }
            },
        }),
    },
    Statement {
        syntax: "[no] echo-mode",
        help: "Send Echo packets, which the peer's forwarding brings back (tunnels only)",
        action: Action::BfdProfile(Verb {
            read: |profile, args| {
                profile.echo_mode = !args.has("no");
                Ok(())
            },
            write: |profile, lines| lines.flag(profile.echo_mode, "echo-mode"),
        }),
    },
    Statement {
        syntax: "adaptive-intervals maximum MILLISECONDS:10-60000",
        help: "Raise both intervals as far as the path's jitter asks for, but not beyond this",
        action: Action::BfdProfile(Verb {
            read: |profile, args| {
                profile.adapt_up_to = Some(Duration::from_millis(args.get("MILLISECONDS")?));
                Ok(())
            },
            write: |profile, lines| {
                if let Some(most) = profile.adapt_up_to {
                    lines.line(format_args!("adaptive-intervals maximum {}", most.as_millis()));
                }
            },
        }),
    },
    Statement {
        syntax: "no adaptive-intervals [maximum] [MILLISECONDS:10-60000]",
        help: "Intervals stay as they are configured",
        action: Action::BfdProfile(Verb {
            read: |profile, _| {
                profile.adapt_up_to = None;
                Ok(())
            },
            write: |_, _| {},
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
        syntax: "minimum-ttl NUMBER:1-254",
        help: "Drop packets that came further (multihop)",
        action: Action::BfdProfile(Verb {
            read: |profile, args| {
                profile.minimum_ttl = Some(args.get("NUMBER")?);
                Ok(())
            },
            write: |profile, lines| {
                profile.minimum_ttl.iter().for_each(|ttl| lines.line(format_args!("minimum-ttl {ttl}")))
            },
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
