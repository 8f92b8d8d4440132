//! What a tunnel does with its packets: in `ipsec tunnel`.

use super::then;
use super::{Action, Statement, Verb};
use crate::model::{Df, Dscp, Encapsulation, Gre, Packets};

pub(super) const TUNNEL: &[Statement] = &[
    Statement {
        syntax: "tunnel mode gre [key NUMBER:0-4294967295]",
        help: "The interface is GRE between the outer addresses, protected by ESP in transport mode",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.packets.gre = Some(Gre { key: args.opt("NUMBER")? });
                Ok(())
            },
            write: |tunnel, lines| {
                if let Some(Gre { key }) = tunnel.packets.gre {
                    lines.line(format_args!("tunnel mode gre{}", then("key", key)));
                }
            },
        }),
    },
    Statement {
        syntax: "encapsulation (always|if-nat)",
        help: "Whether ESP goes in UDP also where there is no NAT",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                let said = if args.has("if-nat") { Encapsulation::IfNat } else { Encapsulation::Always };
                tunnel.packets.said_encapsulation = Some(said);
                Ok(())
            },
            write: |tunnel, lines| match tunnel.packets.said_encapsulation {
                None => {}
                Some(Encapsulation::IfNat) => lines.line(format_args!("encapsulation if-nat")),
                Some(Encapsulation::Always) => lines.line(format_args!("encapsulation always")),
            },
        }),
    },
    Statement {
        syntax: "dscp copy",
        help: "Outer packets are of the class of the inner ones",
        action: Action::Tunnel(Verb {
            read: |tunnel, _| {
                tunnel.packets.dscp = Dscp::Copy;
                Ok(())
            },
            write: |_, _| {}, // the default
        }),
    },
    Statement {
        syntax: "dscp set DSCP:0-63",
        help: "Outer packets are all of this class",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.packets.dscp = Dscp::Set(args.get("DSCP")?);
                Ok(())
            },
            write: |tunnel, lines| {
                if let Dscp::Set(dscp) = tunnel.packets.dscp {
                    lines.line(format_args!("dscp set {dscp}"));
                }
            },
        }),
    },
    Statement {
        syntax: "df (copy|set|clear)",
        help: "Whether routers on the way may fragment outer packets",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.packets.df = match () {
                    () if args.has("set") => Df::Set,
                    () if args.has("clear") => Df::Clear,
                    () => Df::Copy,
                };
                Ok(())
            },
            write: |tunnel, lines| match tunnel.packets.df {
                Df::Copy => {} // the default
                Df::Set => lines.line(format_args!("df set")),
                Df::Clear => lines.line(format_args!("df clear")),
            },
        }),
    },
    Statement {
        syntax: "replay-window PACKETS:32-16320",
        help: "How many packets behind the newest one may come",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.packets.replay_window = args.get("PACKETS")?;
                Ok(())
            },
            write: |tunnel, lines| {
                let packets = tunnel.packets.replay_window;
                if packets != Packets::REPLAY_WINDOW {
                    lines.line(format_args!("replay-window {packets}"));
                }
            },
        }),
    },
];
