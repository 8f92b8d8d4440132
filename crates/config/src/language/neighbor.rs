//! `neighbor PEER …` within `router bgp`, in FRR's spelling. PEER is an address, or the interface or the peer-group that
//! a line above has declared; what may be said of a neighbor may be said of a group.

use std::time::Duration;

use net_types::Asn;

use super::{Action, Lines, Said, Statement, Verb, bgp, then};
use crate::{
    grammar::{Args, Complaint},
    model::{
        AoUse, Bgp, NeighborEntry, NeighborId, NeighborRestart, NeighborSettings, Password, RemoteAs, Shutdown,
        UpdateSource,
    },
};

pub(super) type Subject = Said<NeighborSettings>;

/// A line about a neighbor.
pub(super) fn line(lines: &mut Lines, neighbor: &Subject, text: impl std::fmt::Display) {
    lines.line(format_args!("neighbor {} {text}", neighbor.who));
}

/// A line about a neighbor if the condition holds.
fn flag(lines: &mut Lines, neighbor: &Subject, condition: bool, text: &str) {
    if condition {
        line(lines, neighbor, text);
    }
}

/// Writes every peer-group and neighbor: what makes it one, then what is said of it.
pub(super) fn write(bgp: &Bgp, lines: &mut Lines) {
    for (name, settings) in &bgp.peer_groups {
        lines.line(format_args!("neighbor {name} peer-group"));
        write_settings(name.to_string(), settings, lines);
    }
    for (id, NeighborEntry { peer_group, v6only, settings }) in &bgp.neighbors {
        if let NeighborId::Interface(interface) = id {
            lines.line(format_args!("neighbor {interface} interface{}", if *v6only { " v6only" } else { "" }));
        }
        if let Some(group) = peer_group {
            lines.line(format_args!("neighbor {id} peer-group {group}"));
        }
        write_settings(id.to_string(), settings, lines);
    }
    for (range, group) in &bgp.listen_ranges {
        lines.line(format_args!("bgp listen range {range} peer-group {group}"));
    }
}

fn write_settings(who: String, settings: &NeighborSettings, lines: &mut Lines) {
    let said = Said { who, what: settings.clone() };
    lines.body(&super::Section::Bgp, &said, |action| match action {
        Action::Neighbor(verb) => Some(verb.write),
        _ => None,
    });
}

/// What a line about a neighbor says of its AS.
fn remote_as(args: &Args<'_>) -> Result<Option<RemoteAs>, Complaint> {
    Ok(match args.opt::<Asn>("ASN")? {
        Some(asn) => Some(RemoteAs::Asn(asn)),
        None if args.has("internal") => Some(RemoteAs::Internal),
        None if args.has("external") => Some(RemoteAs::External),
        None => None,
    })
}

/// Rows of one flag of a neighbor.
macro_rules! flag {
    ($word:literal, $help:literal, $field:ident) => {
        Statement {
            syntax: concat!("[no] neighbor PEER ", $word),
            help: $help,
            action: Action::Neighbor(Verb {
                read: |neighbor, args| {
                    neighbor.$field = Some(!args.has("no"));
                    Ok(())
                },
                write: |neighbor, lines| match neighbor.what.$field {
                    None => {}
                    Some(true) => line(lines, neighbor, $word),
                    Some(false) => lines.line(format_args!(concat!("no neighbor {} ", $word), neighbor.who)),
                },
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
                    neighbor.graceful_restart = Some(NeighborRestart::$mode);
                    Ok(())
                },
                write: |neighbor, lines| {
                    flag(lines, neighbor, neighbor.what.graceful_restart == Some(NeighborRestart::$mode), $word);
                },
            }),
        }
    };
}

/// A row that takes back what another says: the group's word holds again, or the default.
macro_rules! unsay {
    ($syntax:literal, $help:literal, $field:ident) => {
        Statement {
            syntax: concat!("no neighbor PEER ", $syntax),
            help: $help,
            action: Action::Neighbor(Verb {
                read: |neighbor, _| {
                    neighbor.$field = None;
                    Ok(())
                },
                write: |_, _| {},
            }),
        }
    };
}

/// Rows of one word about how BFD is used.
macro_rules! bfd_use {
    ($word:literal, $help:literal, $field:ident) => {
        Statement {
            syntax: concat!("neighbor PEER ", $word),
            help: $help,
            action: Action::Neighbor(Verb {
                read: |neighbor, _| {
                    neighbor.bfd.get_or_insert_default().$field = true;
                    Ok(())
                },
                write: |neighbor, lines| {
                    flag(lines, neighbor, neighbor.what.bfd.as_ref().is_some_and(|bfd| bfd.$field), $word);
                },
            }),
        }
    };
}

/// Rows that take such a word back.
macro_rules! no_bfd_use {
    ($word:literal, $help:literal, $field:ident) => {
        Statement {
            syntax: concat!("no neighbor PEER ", $word),
            help: $help,
            action: Action::Neighbor(Verb {
                read: |neighbor, _| {
                    if let Some(bfd) = &mut neighbor.bfd {
                        bfd.$field = false;
                    }
                    Ok(())
                },
                write: |_, _| {},
            }),
        }
    };
}

/// What makes a neighbor or a group, and what undoes it.
pub(super) const DECLARATIONS: &[Statement] = &[
    Statement {
        syntax: "neighbor PEER peer-group",
        help: "Begin a peer-group",
        action: Action::Config(Verb { read: |draft, args| draft.begin_peer_group(args), write: |_, _| {} }),
    },
    Statement {
        syntax: "neighbor PEER peer-group PEER-GROUP",
        help: "Make the neighbor a member of a peer-group",
        action: Action::Config(Verb {
            read: |draft, args| {
                draft.neighbor(args)?.peer_group = Some(args.get("PEER-GROUP")?);
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    Statement {
        syntax: "no neighbor PEER peer-group [PEER-GROUP]",
        help: "End a peer-group, or the neighbor's membership in it",
        action: Action::Config(Verb { read: |draft, args| draft.end_peer_group(args), write: |_, _| {} }),
    },
    Statement {
        syntax: "neighbor PEER interface [v6only] [remote-as (ASN|internal|external)|peer-group PEER-GROUP]",
        help: "A neighbor that is known by its link",
        action: Action::Config(Verb {
            read: |draft, args| {
                let neighbor = draft.interface_neighbor(args)?;
                neighbor.v6only = args.has("v6only");
                if let Some(remote_as) = remote_as(args)? {
                    neighbor.settings.remote_as = Some(remote_as);
                }
                if let Some(group) = args.opt("PEER-GROUP")? {
                    neighbor.peer_group = Some(group);
                }
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    Statement {
        syntax: "no neighbor PEER [interface [v6only] [remote-as (ASN|internal|external)|peer-group PEER-GROUP]]",
        help: "Take back all that is said of the neighbor or group",
        action: Action::Config(Verb { read: |draft, args| draft.forget_neighbor(args), write: |_, _| {} }),
    },
    Statement {
        syntax: "bgp listen range PREFIX peer-group PEER-GROUP",
        help: "Take whoever connects from there for a member of the group",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.listen_ranges.insert(args.get("PREFIX")?, args.get("PEER-GROUP")?);
                Ok(())
            },
            write: |_, _| {}, // Printed behind the groups, which must be known when it is read.
        }),
    },
    Statement {
        syntax: "no bgp listen range PREFIX [peer-group PEER-GROUP]",
        help: "Take nobody from there",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.listen_ranges.remove(&args.get("PREFIX")?);
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    Statement {
        syntax: "bgp listen limit NUMBER:1-65535",
        help: "Most neighbors that come from listen ranges",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.listen_limit = args.get("NUMBER")?;
                Ok(())
            },
            write: |bgp, lines| {
                if bgp.listen_limit != Bgp::LISTEN_LIMIT {
                    lines.line(format_args!("bgp listen limit {}", bgp.listen_limit));
                }
            },
        }),
    },
    Statement {
        syntax: "no bgp listen limit [NUMBER:1-65535]",
        help: "As many as by default",
        action: Action::Bgp(Verb {
            read: |bgp, _| {
                bgp.listen_limit = Bgp::LISTEN_LIMIT;
                Ok(())
            },
            write: |_, _| {},
        }),
    },
];

pub(super) const ROWS: &[Statement] = &[
    Statement {
        syntax: "neighbor PEER remote-as (ASN|internal|external)",
        help: "The neighbor's AS",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.remote_as = remote_as(args)?;
                Ok(())
            },
            write: |neighbor, lines| match neighbor.what.remote_as {
                None => {}
                Some(RemoteAs::Asn(asn)) => line(lines, neighbor, format_args!("remote-as {}", asn.get())),
                Some(RemoteAs::Internal) => line(lines, neighbor, "remote-as internal"),
                Some(RemoteAs::External) => line(lines, neighbor, "remote-as external"),
            },
        }),
    },
    Statement {
        syntax: "neighbor PEER description TEXT",
        help: "A note for people",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.description = Some(args.get("TEXT")?);
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(text) = &neighbor.what.description {
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
                neighbor.interface = Some(args.get("IFNAME")?);
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(interface) = &neighbor.what.interface {
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
                let bfd = neighbor.bfd.get_or_insert_default();
                if let Some(profile) = args.opt("PROFILE")? {
                    bfd.profile = Some(profile);
                }
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(bfd) = &neighbor.what.bfd {
                    line(lines, neighbor, format_args!("bfd{}", then("profile", bfd.profile.as_ref())));
                }
            },
        }),
    },
    bfd_use!(
        "bfd check-control-plane-failure",
        "What BFD misses does not end a session that survives a restart of the neighbor (RFC 5882)",
        check_control_plane
    ),
    bfd_use!("bfd strict", "No session while BFD does not see the neighbor", strict),
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
                neighbor.ebgp_multihop = Some(args.opt("NUMBER")?.unwrap_or(255));
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(hops) = neighbor.what.ebgp_multihop {
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
        syntax: "neighbor PEER ao KEY-CHAIN [(include-tcp-options|exclude-tcp-options)]",
        help: "Sign segments by TCP-AO with the keys of a chain (RFC 5925)",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                let exclude_options = args.has("exclude-tcp-options");
                neighbor.ao = Some(AoUse { chain: args.get("KEY-CHAIN")?, exclude_options });
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(AoUse { chain, exclude_options }) = &neighbor.what.ao {
                    let options = if *exclude_options { " exclude-tcp-options" } else { "" };
                    line(lines, neighbor, format_args!("ao {chain}{options}"));
                }
            },
        }),
    },
    Statement {
        syntax: "neighbor PEER password (PASSWORD|file FILE)",
        help: "TCP MD5 signature (RFC 2385)",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.password = Some(match args.opt("FILE")? {
                    Some(path) => Password::File(path),
                    None => Password::Inline(args.get("PASSWORD")?),
                });
                Ok(())
            },
            write: |neighbor, lines| match &neighbor.what.password {
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
                neighbor.port = Some(args.get("PORT")?);
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(port) = neighbor.what.port {
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
                neighbor.shutdown = Some(Shutdown::Down { message: args.opt("TEXT")? });
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(Shutdown::Down { message }) = &neighbor.what.shutdown {
                    line(lines, neighbor, format_args!("shutdown{}", then("message", message.as_ref())));
                }
            },
        }),
    },
    Statement {
        syntax: "no neighbor PEER shutdown [message TEXT]",
        help: "Do not hold the session down",
        action: Action::Neighbor(Verb {
            read: |neighbor, _| {
                neighbor.shutdown = Some(Shutdown::No);
                Ok(())
            },
            write: |neighbor, lines| {
                if neighbor.what.shutdown == Some(Shutdown::No) {
                    lines.line(format_args!("no neighbor {} shutdown", neighbor.who));
                }
            },
        }),
    },
    Statement {
        syntax: "neighbor PEER timers KEEPALIVE:0-65535 HOLD:0-65535",
        help: "Keepalive and hold time",
        action: Action::Neighbor(Verb {
            read: |neighbor, args| {
                neighbor.timers = Some(bgp::timers(args)?);
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(timers) = neighbor.what.timers {
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
                neighbor.connect_retry = Some(Duration::from_secs(args.get("SECONDS")?));
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(time) = neighbor.what.connect_retry {
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
                neighbor.ttl_security_hops = Some(args.get("NUMBER")?);
                Ok(())
            },
            write: |neighbor, lines| {
                if let Some(hops) = neighbor.what.ttl_security_hops {
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
                neighbor.update_source = Some(match args.opt("ADDRESS")? {
                    Some(address) => UpdateSource::Address(address),
                    None => UpdateSource::Interface(args.get("IFNAME")?),
                });
                Ok(())
            },
            write: |neighbor, lines| match &neighbor.what.update_source {
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
    unsay!("remote-as [(ASN|internal|external)]", "Take back the neighbor's AS", remote_as),
    unsay!("description [TEXT]", "Take back the note", description),
    unsay!("bfd", "Do not watch the neighbor with BFD", bfd),
    Statement {
        syntax: "no neighbor PEER bfd profile [PROFILE]",
        help: "Watch the neighbor with the usual timing",
        action: Action::Neighbor(Verb {
            read: |neighbor, _| {
                if let Some(bfd) = &mut neighbor.bfd {
                    bfd.profile = None;
                }
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    no_bfd_use!("bfd check-control-plane-failure", "What BFD misses ends the session", check_control_plane),
    no_bfd_use!("bfd strict", "A session needs no BFD to come up", strict),
    unsay!("ebgp-multihop [NUMBER:1-255]", "Expect the neighbor one hop away", ebgp_multihop),
    unsay!("graceful-restart", "Restart as the speaker does", graceful_restart),
    unsay!("graceful-restart-helper", "Restart as the speaker does", graceful_restart),
    unsay!("graceful-restart-disable", "Restart as the speaker does", graceful_restart),
    unsay!("ao [KEY-CHAIN] [(include-tcp-options|exclude-tcp-options)]", "No TCP-AO", ao),
    unsay!("password [PASSWORD]", "No TCP MD5 signature", password),
    unsay!("port [PORT:1-65535]", "The usual TCP port", port),
    unsay!("timers [KEEPALIVE:0-65535 HOLD:0-65535]", "Keepalive and hold time of the speaker", timers),
    unsay!("timers connect [SECONDS:1-65535]", "The usual time between attempts to connect", connect_retry),
    unsay!("ttl-security hops [NUMBER:1-254]", "Do not look at how far packets came", ttl_security_hops),
    unsay!("update-source [(ADDRESS|IFNAME)]", "Whatever address the kernel takes", update_source),
];
