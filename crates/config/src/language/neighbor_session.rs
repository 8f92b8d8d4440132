//! `neighbor PEER …` within `router bgp`: which AS we are to the neighbor, what is negotiated with it, and how.

use std::time::Duration;

use super::{Action, Statement, Verb, neighbor::line};
use crate::{
    grammar::Complaint,
    model::{LocalAs, LocalRole, Role},
};

/// Rows of one flag; what is said with `no` overrides the group.
macro_rules! flag {
    ($word:literal, $help:literal, $field:ident) => {
        Statement {
            syntax: concat!("[no] neighbor PEER ", $word),
            help: $help,
            action: Action::Neighbor(Verb {
                read: |neighbor, args| {
                    neighbor.session.$field = Some(!args.has("no"));
                    Ok(())
                },
                write: |neighbor, lines| match neighbor.what.session.$field {
                    None => {}
                    Some(true) => line(lines, neighbor, $word),
                    Some(false) => lines.line(format_args!(concat!("no neighbor {} ", $word), neighbor.who)),
                },
            }),
        }
    };
}

/// A row that takes a setting back.
macro_rules! unset {
    ($syntax:literal, $help:literal, $field:ident) => {
        Statement {
            syntax: concat!("no neighbor PEER ", $syntax),
            help: $help,
            action: Action::Neighbor(Verb {
                read: |neighbor, _| {
                    neighbor.session.$field = None;
                    Ok(())
                },
                write: |_, _| {},
            }),
        }
    };
}

pub(super) const ROWS: &[Statement] = &[
    Statement {
        syntax: "neighbor PEER local-as ASN [no-prepend [replace-as]]",
        help: "The AS that the neighbor takes us for",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                let (no_prepend, replace_as) = (args.has("no-prepend"), args.has("replace-as"));
                neighbor.session.local_as = Some(LocalAs { asn: args.get("ASN")?, no_prepend, replace_as });
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(LocalAs { asn, no_prepend, replace_as }) = neighbor.what.session.local_as {
                    let no_prepend = if no_prepend || replace_as { " no-prepend" } else { "" };
                    let replace_as = if replace_as { " replace-as" } else { "" };
                    line(lines, neighbor, format_args!("local-as {}{no_prepend}{replace_as}", asn.get()));
                }
            },
        }),
    },
    unset!("local-as [ASN [no-prepend [replace-as]]]", "Be what we are to the neighbor", local_as),
    flag!("enforce-first-as", "Refuse paths that do not start with the neighbor's AS", enforce_first_as),
    flag!(
        "sender-as-path-loop-detection",
        "Keep back routes that the neighbor would take for a loop",
        sender_loop_detection
    ),
    flag!("solo", "Make messages for this neighbor alone", solo),
    Statement {
        syntax: "neighbor PEER advertisement-interval SECONDS:0-600",
        help: "Least time between UPDATEs",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.session.advertisement_interval = Some(Duration::from_secs(args.get("SECONDS")?));
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(time) = neighbor.what.session.advertisement_interval {
                    line(lines, neighbor, format_args!("advertisement-interval {}", time.as_secs()));
                }
            },
        }),
    },
    unset!(
        "advertisement-interval [SECONDS:0-600]",
        "Send UPDATEs when there is something to say",
        advertisement_interval
    ),
    flag!("dont-capability-negotiate", "Send no capabilities in our OPEN", dont_capability_negotiate),
    flag!("override-capability", "Carry what is configured, whatever the neighbor's OPEN says", override_capability),
    flag!("strict-capability-match", "Refuse a neighbor that offers anything else than we do", strict_capability_match),
    flag!(
        "extended-optional-parameters",
        "Send the extended layout of optional parameters (RFC 9072)",
        extended_optional_parameters
    ),
    flag!("capability extended-nexthop", "Take IPv4 routes with IPv6 next hops (RFC 8950)", extended_next_hop),
    flag!("capability fqdn", "Tell the neighbor our host name", tell_hostname),
    flag!("capability software-version", "Tell the neighbor our version", tell_software_version),
    Statement {
        syntax: "neighbor PEER local-role (provider|rs-server|rs-client|customer|peer) [strict-mode]",
        help: "What we are to the neighbor, so that routes do not leak (RFC 9234)",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                let role = Role::ALL.into_iter().find(|role| args.has(role.as_str()));
                let role = role.ok_or_else(|| Complaint::new("no such role"))?;
                neighbor.session.role = Some(LocalRole { role, strict: args.has("strict-mode") });
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(LocalRole { role, strict }) = neighbor.what.session.role {
                    let strict = if strict { " strict-mode" } else { "" };
                    line(lines, neighbor, format_args!("local-role {}{strict}", role.as_str()));
                }
            },
        }),
    },
    unset!("local-role [provider|rs-server|rs-client|customer|peer] [strict-mode]", "Say nothing of roles", role),
    Statement {
        syntax: "neighbor PEER tcp-mss OCTETS:1-65535",
        help: "Largest TCP segment, in octets of payload",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.session.tcp_mss = Some(args.get("OCTETS")?);
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(octets) = neighbor.what.session.tcp_mss {
                    line(lines, neighbor, format_args!("tcp-mss {octets}"));
                }
            },
        }),
    },
    unset!("tcp-mss [OCTETS:1-65535]", "Let the kernel choose the size of TCP segments", tcp_mss),
];
