//! `neighbor PEER …` within `router bgp`, in FRR's spelling.

use std::time::Duration;

use net_types::Asn;

use super::{Action, Lines, Statement, Verb, bgp, then};
use crate::model::{BfdUse, Neighbor, NeighborRestart, Password, RemoteAs, Shutdown, UpdateSource};

/// A line about a neighbor.
fn line(lines: &mut Lines, neighbor: &Neighbor, text: impl std::fmt::Display) {
    lines.line(format_args!("neighbor {} {text}", neighbor.address));
}

/// A line about a neighbor if the condition holds.
fn flag(lines: &mut Lines, neighbor: &Neighbor, condition: bool, text: &str) {
    if condition {
        line(lines, neighbor, text);
    }
}

/// Rows of one flag of a neighbor.
macro_rules! flag {
    ($word:literal, $help:literal, $field:ident) => {
        Statement {
            syntax: concat!("[no] neighbor PEER ", $word),
            help: $help,
            action: Action::Neighbor(Verb {
                read: |neighbor, args| {
                    neighbor.rest.$field = !args.has("no");
                    Ok(())
                },
                write: |neighbor, lines| flag(lines, neighbor, neighbor.$field, $word),
            }),
        }
    };
}

/// Rows of a graceful restart mode of a neighbor.
macro_rules! restart {
    ($word:literal, $help:literal, $mode:ident) => {
        Statement {
            syntax: concat!("neighbor PEER ", $word),
            help: $help,
            action: Action::Neighbor(Verb {
                read: |neighbor, _| {
                    neighbor.rest.graceful_restart = Some(NeighborRestart::$mode);
                    Ok(())
                },
                write: |neighbor, lines| {
                    flag(lines, neighbor, neighbor.graceful_restart == Some(NeighborRestart::$mode), $word);
                },
            }),
        }
    };
}

pub(super) const ROWS: &[Statement] = &[
    Statement {
        syntax: "neighbor PEER remote-as (ASN|internal|external)",
        help: "The neighbor's AS",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.remote_as = Some(match args.opt::<Asn>("ASN")? {
                    Some(asn) => RemoteAs::Asn(asn),
                    None if args.has("internal") => RemoteAs::Internal,
                    None => RemoteAs::External,
                });
                Ok(())
            },
            write: |neighbor, lines| match neighbor.remote_as {
                RemoteAs::Asn(asn) => line(lines, neighbor, format_args!("remote-as {}", asn.get())),
                RemoteAs::Internal => line(lines, neighbor, "remote-as internal"),
                RemoteAs::External => line(lines, neighbor, "remote-as external"),
            },
        }),
    },
    Statement {
        syntax: "neighbor PEER description TEXT",
        help: "A note for people",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.rest.description = Some(args.get("TEXT")?);
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(text) = &neighbor.description {
                    line(lines, neighbor, format_args!("description {text}"));
                }
            },
        }),
    },
    Statement {
        syntax: "neighbor PEER interface IFNAME",
        help: "The link that a link-local address is on",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.rest.interface = Some(args.get("IFNAME")?);
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(interface) = &neighbor.interface {
                    line(lines, neighbor, format_args!("interface {interface}"));
                }
            },
        }),
    },
    Statement {
        syntax: "neighbor PEER bfd [profile PROFILE]",
        help: "Watch the neighbor with BFD",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.rest.bfd = Some(BfdUse { profile: args.opt("PROFILE")? });
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(bfd) = &neighbor.bfd {
                    line(lines, neighbor, format_args!("bfd{}", then("profile", bfd.profile.as_ref())));
                }
            },
        }),
    },
    flag!(
        "disable-connected-check",
        "Allow a neighbor one hop away that is on no connected subnet",
        disable_connected_check
    ),
    Statement {
        syntax: "neighbor PEER ebgp-multihop [NUMBER:1-255]",
        help: "Allow an external neighbor that is several hops away",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.rest.ebgp_multihop = Some(args.opt("NUMBER")?.unwrap_or(255));
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(hops) = neighbor.ebgp_multihop {
                    line(lines, neighbor, format_args!("ebgp-multihop {hops}"));
                }
            },
        }),
    },
    restart!("graceful-restart", "Restart gracefully and help the neighbor to", Full),
    restart!("graceful-restart-helper", "Help the neighbor to restart gracefully, no more", HelperOnly),
    restart!("graceful-restart-disable", "Neither restart gracefully nor help the neighbor to", Disabled),
    flag!("passive", "Never dial, only accept", passive),
    Statement {
        syntax: "neighbor PEER password (PASSWORD|file FILE)",
        help: "TCP MD5 signature (RFC 2385)",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.rest.password = Some(match args.opt("FILE")? {
                    Some(path) => Password::File(path),
                    None => Password::Inline(args.get("PASSWORD")?),
                });
                Ok(())
            },
            write: |neighbor, lines| match &neighbor.password {
                None => {}
                Some(Password::Inline(secret)) => line(lines, neighbor, format_args!("password {}", secret.expose())),
                Some(Password::File(path)) => {
                    line(lines, neighbor, format_args!("password file {}", path.display()));
                }
            },
        }),
    },
    Statement {
        syntax: "neighbor PEER port PORT:1-65535",
        help: "TCP port that the neighbor listens at",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.rest.port = Some(args.get("PORT")?);
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(port) = neighbor.port {
                    line(lines, neighbor, format_args!("port {port}"));
                }
            },
        }),
    },
    Statement {
        syntax: "neighbor PEER shutdown [message TEXT]",
        help: "Hold the session down",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.rest.shutdown = Some(Shutdown { message: args.opt("TEXT")? });
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(shutdown) = &neighbor.shutdown {
                    line(lines, neighbor, format_args!("shutdown{}", then("message", shutdown.message.as_ref())));
                }
            },
        }),
    },
    Statement {
        syntax: "no neighbor PEER shutdown",
        help: "Do not hold the session down",
        action: Action::Neighbor(Verb {
            read: |neighbor, _| {
                neighbor.rest.shutdown = None;
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    Statement {
        syntax: "neighbor PEER timers KEEPALIVE:0-65535 HOLD:0-65535",
        help: "Keepalive and hold time",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.rest.timers = Some(bgp::timers(args)?);
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(timers) = neighbor.timers {
                    line(lines, neighbor, format_args!("timers {}", bgp::spell_timers(timers)));
                }
            },
        }),
    },
    Statement {
        syntax: "neighbor PEER timers connect SECONDS:1-65535",
        help: "Time between attempts to connect",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.rest.connect_retry = Some(Duration::from_secs(args.get("SECONDS")?));
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(time) = neighbor.connect_retry {
                    line(lines, neighbor, format_args!("timers connect {}", time.as_secs()));
                }
            },
        }),
    },
    Statement {
        syntax: "neighbor PEER ttl-security hops NUMBER:1-254",
        help: "Refuse packets from further away (RFC 5082)",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.rest.ttl_security_hops = Some(args.get("NUMBER")?);
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(hops) = neighbor.ttl_security_hops {
                    line(lines, neighbor, format_args!("ttl-security hops {hops}"));
                }
            },
        }),
    },
    Statement {
        syntax: "neighbor PEER update-source (ADDRESS|IFNAME)",
        help: "Our end of the session",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.rest.update_source = Some(match args.opt("ADDRESS")? {
                    Some(address) => UpdateSource::Address(address),
                    None => UpdateSource::Interface(args.get("IFNAME")?),
                });
                Ok(())
            },
            write: |neighbor, lines| match &neighbor.update_source {
                None => {}
                Some(UpdateSource::Address(address)) => {
                    line(lines, neighbor, format_args!("update-source {address}"));
                }
                Some(UpdateSource::Interface(interface)) => {
                    line(lines, neighbor, format_args!("update-source {interface}"));
                }
            },
        }),
    },
];
