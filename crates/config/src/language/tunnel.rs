//! `ipsec tunnel`

use std::{net::IpAddr, time::Duration};

use net_types::{Prefix, TunnelName, WanName};

use super::{Action, LEAVE, Section, Statement, Verb, draft::TunnelDraft, ipsec::spaced, then};
use crate::{
    grammar::{Args, Complaint},
    model::{
        ChildLifetime, Childless, Community, Datapath, Dpd, Initiate, InterfaceAddress, Ppk, Probe, Remote,
        RemoteAddress, ReverseRoute, Span, Standby, Tunnel,
    },
};

pub(super) const BEGIN: &[Statement] = &[Statement {
    syntax: "ipsec tunnel TUNNEL",
    help: "A tunnel, which is the interface of that name",
    action: Action::Enter(
        |draft, args| {
            let name = args.get("TUNNEL")?;
            draft.tunnel(&name);
            Ok(Section::Tunnel(name))
        },
        |config, lines| {
            for (name, tunnel) in &config.tunnels {
                lines.section(format_args!("ipsec tunnel {name}"), |lines| {
                    lines.body(&Section::Tunnel(name.clone()), tunnel, |action| match action {
                        Action::Tunnel(verb) => Some(verb.write),
                        _ => None,
                    });
                });
            }
        },
    ),
}];

pub(super) const ROWS: &[&[Statement]] = &[TUNNEL, super::packets::TUNNEL, super::trust::TUNNEL, LEAVE];

const TUNNEL: &[Statement] = &[
    Statement {
        syntax: "description TEXT",
        help: "A note for people",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.description = Some(args.get("TEXT")?);
                Ok(())
            },
            write: |tunnel, lines| {
                tunnel.description.iter().for_each(|text| lines.line(format_args!("description {text}")));
            },
        }),
    },
    Statement {
        syntax: "remote (any|ADDRESS) [id IKE-ID]",
        help: "The other end, and who it must prove to be",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                let address = args.opt("ADDRESS")?.map_or(RemoteAddress::Any, RemoteAddress::Address);
                tunnel.remote = Some(Remote { address, id: args.opt("IKE-ID")? });
                Ok(())
            },
            write: |tunnel, lines| {
                let id = then("id", tunnel.remote.id.as_ref());
                match tunnel.remote.address {
                    RemoteAddress::Any => lines.line(format_args!("remote any{id}")),
                    RemoteAddress::Address(address) => lines.line(format_args!("remote {address}{id}")),
                }
            },
        }),
    },
    Statement {
        syntax: "local ADDRESS",
        help: "Our outer address, which routers may share: the tunnel is there while the link has it",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                let address: IpAddr = args.get("ADDRESS")?;
                if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
                    return Err(args.complain("ADDRESS", "expected an address that the link has, now or at times"));
                }
                tunnel.local = Some(address);
                Ok(())
            },
            write: |tunnel, lines| {
                tunnel.local.iter().for_each(|address| lines.line(format_args!("local {address}")));
            },
        }),
    },
    Statement {
        syntax: "wan WAN-USED...",
        help: "The link that it runs over, and others for when that one is lost",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                let mut wans: Vec<WanName> = Vec::new();
                for wan in args.all("WAN-USED")? {
                    if wans.contains(&wan) {
                        return Err(args.complain("WAN-USED", "this link is named twice"));
                    }
                    wans.push(wan);
                }
                tunnel.wans = wans;
                Ok(())
            },
            write: |tunnel, lines| {
                let wans: Vec<_> = std::iter::once(&tunnel.wan).chain(&tunnel.backup_wans).collect();
                lines.line(format_args!("wan {}", spaced(&wans)));
            },
        }),
    },
    Statement {
        syntax: "[no] mobike",
        help: "Go on at other outer addresses when a link is lost or the peer moves",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.immobile = args.has("no");
                Ok(())
            },
            write: |tunnel, lines| lines.flag(!tunnel.mobike, "no mobike"),
        }),
    },
    Statement {
        syntax: "identity IDENTITY",
        help: "Who we are to this peer",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.identity = Some(args.get("IDENTITY")?);
                Ok(())
            },
            write: |tunnel, lines| lines.line(format_args!("identity {}", tunnel.identity)),
        }),
    },
    Statement {
        syntax: "proposal PROPOSAL",
        help: "Cipher suites other than the default ones",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.proposal = Some(args.get("PROPOSAL")?);
                Ok(())
            },
            write: |tunnel, lines| {
                tunnel.proposal.iter().for_each(|name| lines.line(format_args!("proposal {name}")));
            },
        }),
    },
    Statement {
        syntax: "ip address INTERFACE4",
        help: "An address of the interface; may be given several times",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| add_address(tunnel, args, "INTERFACE4"),
            write: |tunnel, lines| {
                let addresses = tunnel.addresses.iter().filter(|address| address.address().is_ipv4());
                addresses.for_each(|address| lines.line(format_args!("ip address {address}")));
            },
        }),
    },
    Statement {
        syntax: "ipv6 address INTERFACE6",
        help: "An address of the interface; may be given several times",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| add_address(tunnel, args, "INTERFACE6"),
            write: |tunnel, lines| {
                let addresses = tunnel.addresses.iter().filter(|address| address.address().is_ipv6());
                addresses.for_each(|address| lines.line(format_args!("ipv6 address {address}")));
            },
        }),
    },
    Statement {
        syntax: "local-ts PREFIX...",
        help: "Inner addresses on our side; everything where not given",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.local_selectors = selectors(args)?;
                Ok(())
            },
            write: |tunnel, lines| {
                if !tunnel.local_selectors.is_empty() {
                    lines.line(format_args!("local-ts {}", spaced(&tunnel.local_selectors)));
                }
            },
        }),
    },
    Statement {
        syntax: "remote-ts PREFIX...",
        help: "Inner addresses on the other side; everything where not given",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.remote_selectors = selectors(args)?;
                Ok(())
            },
            write: |tunnel, lines| {
                if !tunnel.remote_selectors.is_empty() {
                    lines.line(format_args!("remote-ts {}", spaced(&tunnel.remote_selectors)));
                }
            },
        }),
    },
    Statement {
        syntax: "reverse-route [default-route] [distance DISTANCE:1-254] [tag TAG:1-4294967295] [community COMMUNITY...]",
        help: "While the tunnel is up, route into it what its child SA carries on the other side",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                let mut communities: Vec<Community> = args.all("COMMUNITY")?;
                communities.sort();
                communities.dedup();
                tunnel.reverse_route = Some(ReverseRoute {
                    default_route: args.has("default-route"),
                    distance: args.opt("DISTANCE")?.unwrap_or(ReverseRoute::DISTANCE),
                    tag: args.opt("TAG")?.unwrap_or(0),
                    communities,
                });
                Ok(())
            },
            write: |tunnel, lines| {
                let Some(ReverseRoute { default_route, distance, tag, communities }) = &tunnel.reverse_route else {
                    return;
                };
                let default_route = if *default_route { " default-route" } else { "" };
                let distance = then("distance", Some(distance).filter(|distance| **distance != ReverseRoute::DISTANCE));
                let tag = then("tag", Some(tag).filter(|tag| **tag != 0));
                let communities = then("community", (!communities.is_empty()).then(|| spaced(communities)));
                lines.line(format_args!("reverse-route{default_route}{distance}{tag}{communities}"));
            },
        }),
    },
    Statement {
        syntax: "ppk NAME file FILE [required]",
        help: "A postquantum preshared key that both sides have (RFC 8784)",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                let (id, file) = (args.get("NAME")?, args.get("FILE")?);
                tunnel.ppk = Some(Ppk { id, file, required: args.has("required") });
                Ok(())
            },
            write: |tunnel, lines| {
                if let Some(Ppk { id, file, required }) = &tunnel.ppk {
                    let required = if *required { " required" } else { "" };
                    lines.line(format_args!("ppk {id} file {}{required}", file.display()));
                }
            },
        }),
    },
    Statement {
        syntax: "childless (allow|prefer|force|never)",
        help: "Whether the IKE SA comes without a child SA, which is then made in an exchange of its own (RFC 6023)",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                let said = Childless::ALL.iter().find(|childless| args.has(childless.as_str()));
                tunnel.childless = said.copied().unwrap_or_default();
                Ok(())
            },
            write: |tunnel, lines| {
                if tunnel.childless != Childless::default() {
                    lines.line(format_args!("childless {}", tunnel.childless.as_str()));
                }
            },
        }),
    },
    Statement {
        syntax: "dpd [on-demand] interval INTERVAL [timeout TIMEOUT]",
        help: "Liveness check of the peer; 0 turns it off",
        action: Action::Tunnel(Verb {
            read: read_dpd,
            write: |tunnel, lines| {
                let Dpd { on_demand, interval, timeout } = tunnel.dpd;
                let on_demand = if on_demand { " on-demand" } else { "" };
                if tunnel.dpd != Dpd::default() {
                    lines.line(format_args!("dpd{on_demand} interval {} timeout {}", Span(interval), Span(timeout)));
                }
            },
        }),
    },
    Statement {
        syntax: "probe ADDRESS [interval INTERVAL] [timeout TIMEOUT]",
        help: "Ask an address through the tunnel; while nobody answers, the tunnel counts as down",
        action: Action::Tunnel(Verb {
            read: read_probe,
            write: |tunnel, lines| {
                let Some(probe @ Probe { address, interval, timeout }) = tunnel.probe else { return };
                if probe == Probe::new(address) {
                    lines.line(format_args!("probe {address}"));
                } else {
                    let (interval, timeout) = (Span(interval), Span(timeout));
                    lines.line(format_args!("probe {address} interval {interval} timeout {timeout}"));
                }
            },
        }),
    },
    Statement {
        syntax: "rekey ike SECONDS:60-604800",
        help: "Age at which the IKE SA is renewed",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.ike_lifetime = Some(Duration::from_secs(args.get("SECONDS")?));
                Ok(())
            },
            write: |tunnel, lines| {
                if tunnel.ike_lifetime != Tunnel::IKE_LIFETIME {
                    lines.line(format_args!("rekey ike {}", tunnel.ike_lifetime.as_secs()));
                }
            },
        }),
    },
    Statement {
        syntax: "reauthenticate SECONDS:10-31536000",
        help: "Age at which both sides prove anew who they are",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.reauth = Some(Duration::from_secs(args.get("SECONDS")?));
                Ok(())
            },
            write: |tunnel, lines| {
                tunnel.reauth.iter().for_each(|age| lines.line(format_args!("reauthenticate {}", age.as_secs())));
            },
        }),
    },
    Statement {
        syntax: "rekey child SECONDS:30-604800 [megabytes MEGABYTES:1-1000000000] [packets PACKETS:1000-1000000000000]",
        help: "Age or volume at which an ESP SA is renewed",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                let time = Duration::from_secs(args.get("SECONDS")?);
                let octets = args.opt::<u64>("MEGABYTES")?.map(|megabytes| megabytes.saturating_mul(MEGABYTE));
                tunnel.child_lifetime = ChildLifetime { time, octets, packets: args.opt("PACKETS")? };
                Ok(())
            },
            write: |tunnel, lines| {
                let ChildLifetime { time, octets, packets } = tunnel.child_lifetime;
                if tunnel.child_lifetime != ChildLifetime::default() {
                    let volume = then("megabytes", octets.map(|octets| octets / MEGABYTE));
                    let packets = then("packets", packets);
                    lines.line(format_args!("rekey child {}{volume}{packets}", time.as_secs()));
                }
            },
        }),
    },
    Statement {
        syntax: "initiate (on-start|never)",
        help: "Which side begins",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.initiate = if args.has("never") { Initiate::Never } else { Initiate::OnStart };
                Ok(())
            },
            write: |tunnel, lines| lines.flag(tunnel.initiate == Initiate::Never, "initiate never"),
        }),
    },
    Statement {
        syntax: "initiate standby-for TUNNEL...",
        help: "Begin while none of these carries packets, and end when one does again",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                let mut stands_for: Vec<TunnelName> = Vec::new();
                for other in args.all("TUNNEL")? {
                    if stands_for.contains(&other) {
                        return Err(args.complain("TUNNEL", "this tunnel is named twice"));
                    }
                    stands_for.push(other);
                }
                tunnel.initiate = Initiate::Standby(Standby { stands_for, hold: Standby::HOLD });
                Ok(())
            },
            write: |tunnel, lines| {
                if let Initiate::Standby(Standby { stands_for, .. }) = &tunnel.initiate {
                    lines.line(format_args!("initiate standby-for {}", spaced(stands_for)));
                }
            },
        }),
    },
    Statement {
        syntax: "standby-hold SECONDS:0-86400",
        help: "How long it stays when it is needed no more",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.standby_hold = Some(Duration::from_secs(args.get("SECONDS")?));
                Ok(())
            },
            write: |tunnel, lines| {
                if let Initiate::Standby(Standby { hold, .. }) = &tunnel.initiate
                    && *hold != Standby::HOLD
                {
                    lines.line(format_args!("standby-hold {}", hold.as_secs()));
                }
            },
        }),
    },
    Statement {
        syntax: "mtu OCTETS:576-9500",
        help: "Largest inner packet",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.mtu_octets = Some(args.get("OCTETS")?);
                Ok(())
            },
            write: |tunnel, lines| tunnel.mtu_octets.iter().for_each(|mtu| lines.line(format_args!("mtu {mtu}"))),
        }),
    },
    Statement {
        syntax: "datapath (auto|userspace|kernel)",
        help: "Who seals and opens this tunnel's packets",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.datapath = read_datapath(args);
                Ok(())
            },
            write: |tunnel, lines| {
                tunnel.datapath.iter().for_each(|path| lines.line(format_args!("datapath {}", path.as_str())));
            },
        }),
    },
    Statement {
        syntax: "[no] hardware-offload",
        help: "Let the network card of the link seal and open, where the kernel's datapath is used",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.hardware_offload = !args.has("no");
                Ok(())
            },
            write: |tunnel, lines| lines.flag(tunnel.hardware_offload, "hardware-offload"),
        }),
    },
    Statement {
        syntax: "[no] shutdown",
        help: "Hold the tunnel down",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                tunnel.shutdown = !args.has("no");
                Ok(())
            },
            write: |tunnel, lines| lines.flag(tunnel.shutdown, "shutdown"),
        }),
    },
];

/// `ipsec datapath`, for tunnels that say nothing of it.
pub(super) const DATAPATH: &[Statement] = &[Statement {
    syntax: "ipsec datapath (auto|userspace|kernel)",
    help: "Who seals and opens packets, unless a tunnel says otherwise",
    action: Action::Config(Verb {
        read: |draft, args| {
            draft.config.datapath = read_datapath(args).unwrap_or_default();
            Ok(())
        },
        write: |config, lines| {
            if config.datapath != Datapath::default() {
                lines.line(format_args!("ipsec datapath {}", config.datapath.as_str()));
                lines.line(format_args!("!"));
            }
        },
    }),
}];

fn read_datapath(args: &Args<'_>) -> Option<Datapath> {
    Datapath::ALL.iter().copied().find(|path| args.has(path.as_str()))
}

/// As disks and ISPs count.
const MEGABYTE: u64 = 1_000_000;

fn add_address(tunnel: &mut TunnelDraft, args: &Args<'_>, label: &str) -> Result<(), Complaint> {
    let address: InterfaceAddress = args.get(label)?;
    tunnel.addresses.retain(|known| known.address() != address.address());
    tunnel.addresses.push(address);
    // IPv4 first, as they are printed.
    tunnel.addresses.sort_by_key(|address| address.address().is_ipv6());
    Ok(())
}

fn selectors(args: &Args<'_>) -> Result<Vec<Prefix>, Complaint> {
    let mut selectors: Vec<Prefix> = args.all("PREFIX")?;
    selectors.sort();
    selectors.dedup();
    Ok(selectors)
}

fn read_dpd(tunnel: &mut TunnelDraft, args: &Args<'_>) -> Result<(), Complaint> {
    const BRIEFEST: Duration = Duration::from_millis(50);
    let Span(interval) = args.get("INTERVAL")?;
    if (!interval.is_zero() && interval < BRIEFEST) || interval > Duration::from_secs(3600) {
        return Err(args.complain("INTERVAL", "expected 50ms to 3600 seconds, or 0 for no check"));
    }
    let on_demand = args.has("on-demand");
    if on_demand && interval.is_zero() {
        return Err(args.complain("INTERVAL", "\"on-demand\" needs an interval, of 50ms to 3600 seconds"));
    }
    let timeout = match args.opt("TIMEOUT")? {
        Some(Span(timeout)) => timeout,
        None => (3 * interval).max(Duration::from_secs(1)),
    };
    if timeout < 2 * BRIEFEST || timeout > Duration::from_secs(7200) {
        return Err(args.complain("TIMEOUT", "expected 100ms to 7200 seconds"));
    }
    if timeout < interval {
        return Err(args.complain("TIMEOUT", "the timeout is shorter than the interval"));
    }
    tunnel.dpd = Dpd { on_demand, interval, timeout };
    Ok(())
}

fn read_probe(tunnel: &mut TunnelDraft, args: &Args<'_>) -> Result<(), Complaint> {
    let address: IpAddr = args.get("ADDRESS")?;
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(args.complain("ADDRESS", "expected the address of one router or host beyond the tunnel"));
    }
    let interval = args.opt("INTERVAL")?.map_or(Probe::INTERVAL, |Span(interval)| interval);
    if interval < Probe::BRIEFEST || interval > Probe::LONGEST / 2 {
        return Err(args.complain("INTERVAL", "expected 50ms to 30 seconds"));
    }
    let timeout = match args.opt("TIMEOUT")? {
        Some(Span(timeout)) => timeout,
        None => (Probe::INTERVALS * interval).min(Probe::LONGEST),
    };
    // With fewer, one lost packet would be a lost tunnel.
    if timeout < 2 * interval || timeout > Probe::LONGEST {
        return Err(args.complain("TIMEOUT", "expected two intervals to 60 seconds"));
    }
    tunnel.probe = Some(Probe { address, interval, timeout });
    Ok(())
}
