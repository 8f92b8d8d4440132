//! `wan`

use super::{Action, LEAVE, Section, Statement, Verb};

pub(super) const BEGIN: &[Statement] = &[Statement {
    syntax: "wan WAN",
    help: "Settings of a WAN link",
    action: Action::Enter(
        |draft, args| {
            let name = args.get("WAN")?;
            draft.wan(&name);
            Ok(Section::Wan(name))
        },
        |config, lines| {
            for (name, wan) in &config.wans {
                lines.section(format_args!("wan {name}"), |lines| {
                    lines.body(&Section::Wan(name.clone()), wan, |action| match action {
                        Action::Wan(verb) => Some(verb.write),
                        _ => None,
                    });
                });
            }
        },
    ),
}];

pub(super) const ROWS: &[&[Statement]] = &[WAN, LEAVE];

const WAN: &[Statement] = &[
    Statement {
        syntax: "interface IFNAME",
        help: "The interface that leads there",
        action: Action::Wan(Verb {
            read: |wan, args| {
                wan.interface = Some(args.get("IFNAME")?);
                Ok(())
            },
            write: |wan, lines| lines.line(format_args!("interface {}", wan.interface)),
        }),
    },
    Statement {
        syntax: "gateway IPV4",
        help: "The IPv4 router on this link",
        action: Action::Wan(Verb {
            read: |wan, args| {
                wan.gateway_v4 = Some(args.get("IPV4")?);
                Ok(())
            },
            write: |wan, lines| wan.gateway_v4.iter().for_each(|gateway| lines.line(format_args!("gateway {gateway}"))),
        }),
    },
    Statement {
        syntax: "gateway IPV6",
        help: "The IPv6 router on this link",
        action: Action::Wan(Verb {
            read: |wan, args| {
                wan.gateway_v6 = Some(args.get("IPV6")?);
                Ok(())
            },
            write: |wan, lines| wan.gateway_v6.iter().for_each(|gateway| lines.line(format_args!("gateway {gateway}"))),
        }),
    },
    Statement {
        syntax: "mtu OCTETS:576-9500",
        help: "Largest packet on the path to the outside",
        action: Action::Wan(Verb {
            read: |wan, args| {
                wan.mtu_octets = Some(args.get("OCTETS")?);
                Ok(())
            },
            write: |wan, lines| wan.mtu_octets.iter().for_each(|mtu| lines.line(format_args!("mtu {mtu}"))),
        }),
    },
    Statement {
        syntax: "[no] shutdown",
        help: "Use this link for no tunnel",
        action: Action::Wan(Verb {
            read: |wan, args| {
                wan.shutdown = !args.has("no");
                Ok(())
            },
            write: |wan, lines| lines.flag(wan.shutdown, "shutdown"),
        }),
    },
];
