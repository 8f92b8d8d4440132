//! `router bgp`, in FRR's spelling.

use std::time::Duration;

use net_types::{Asn, Family};

use super::{
    Action, LEAVE, Lines, Section, Statement, Verb, family, frr, monitoring, multipath, neighbor, neighbor_session,
    route_checks, speaker,
};
use crate::{
    grammar::{Args, Complaint},
    model::{Bgp, FailClosed, GracefulRestart, Timers},
};

pub(super) const BEGIN: &[Statement] = &[Statement {
    syntax: "router bgp [ASN]",
    help: "The BGP speaker",
    action: Action::Enter(
        |draft, args| {
            let Some(asn) = args.opt::<Asn>("ASN")? else {
                // As in FRR, the one that there is.
                let missing = |_| Complaint::new("there is no \"router bgp ASN\" above that this could go on with");
                return draft.bgp().map(|_| Section::Bgp).map_err(missing);
            };
            let new = if draft.config.frr_defaults { Bgp::with_frr_defaults } else { Bgp::new };
            let bgp = draft.config.bgp.get_or_insert_with(|| new(asn));
            if bgp.asn != asn {
                let message = format!("\"router bgp {}\" stands above; one speaker has one AS", bgp.asn.get());
                return Err(args.complain("ASN", message));
            }
            Ok(Section::Bgp)
        },
        |config, lines| {
            if let Some(bgp) = &config.bgp {
                lines.section(format_args!("router bgp {}", bgp.asn.get()), |lines| write(bgp, lines));
            }
        },
    ),
}];

fn write(bgp: &Bgp, lines: &mut Lines) {
    lines.body(&Section::Bgp, bgp, |action| match action {
        Action::Bgp(verb) => Some(verb.write),
        _ => None,
    });
    neighbor::write(bgp, lines);
    for family in Family::ALL {
        family::write(bgp, family, lines);
    }
    monitoring::write_bmp(bgp, lines);
}

pub(super) const ROWS: &[&[Statement]] = &[
    BGP,
    route_checks::ROWS,
    multipath::SPEAKER,
    speaker::ROWS,
    neighbor::DECLARATIONS,
    neighbor::ROWS,
    neighbor_session::ROWS,
    FAMILIES,
    monitoring::BEGIN_BMP,
    frr::SPEAKER,
    LEAVE,
];

const FAMILIES: &[Statement] = &[
    Statement {
        syntax: "address-family ipv4 [unicast]",
        help: "Settings of IPv4 unicast",
        action: Action::Enter(|_, _| Ok(Section::Family(Family::Ipv4Unicast)), |_, _| {}),
    },
    Statement {
        syntax: "address-family ipv6 [unicast]",
        help: "Settings of IPv6 unicast",
        action: Action::Enter(|_, _| Ok(Section::Family(Family::Ipv6Unicast)), |_, _| {}),
    },
    Statement {
        syntax: "address-family ipv4 vpn",
        help: "Settings of VPNv4 (RFC 4364)",
        action: Action::Enter(|_, _| Ok(Section::Family(Family::Ipv4Vpn)), |_, _| {}),
    },
    Statement {
        syntax: "address-family ipv6 vpn",
        help: "Settings of VPNv6 (RFC 4659)",
        action: Action::Enter(|_, _| Ok(Section::Family(Family::Ipv6Vpn)), |_, _| {}),
    },
];

const BGP: &[Statement] = &[
    Statement {
        syntax: "bgp router-id ROUTER-ID",
        help: "BGP identifier, unique within the AS",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.router_id = Some(args.get("ROUTER-ID")?);
                Ok(())
            },
            write: |bgp, lines| bgp.router_id.iter().for_each(|id| lines.line(format_args!("bgp router-id {id}"))),
        }),
    },
    Statement {
        syntax: "bgp cluster-id IPV4",
        help: "Identifier of the route reflection cluster",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.cluster_id = Some(args.get("IPV4")?);
                Ok(())
            },
            write: |bgp, lines| bgp.cluster_id.iter().for_each(|id| lines.line(format_args!("bgp cluster-id {id}"))),
        }),
    },
    Statement {
        syntax: "[no] bgp log-neighbor-changes",
        help: "Log neighbors that come and go",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.log_neighbor_changes = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| lines.flag(!bgp.log_neighbor_changes, "no bgp log-neighbor-changes"),
        }),
    },
    Statement {
        syntax: "[no] bgp ebgp-requires-policy",
        help: "Exchange nothing with external neighbors without a policy (RFC 8212)",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.ebgp_requires_policy = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| match (bgp.ebgp_requires_policy, bgp.frr_defaults) {
                (true, false) => lines.line("bgp ebgp-requires-policy"),
                (false, true) => lines.line("no bgp ebgp-requires-policy"),
                _ => {}
            },
        }),
    },
    Statement {
        syntax: "[no] bgp default ipv4-unicast",
        help: "Neighbors carry IPv4 unicast without being activated",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.default_ipv4_unicast = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| lines.flag(!bgp.default_ipv4_unicast, "no bgp default ipv4-unicast"),
        }),
    },
    Statement {
        syntax: "[no] bgp default ipv6-unicast",
        help: "Neighbors carry IPv6 unicast without being activated",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.default_ipv6_unicast = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| lines.flag(bgp.default_ipv6_unicast, "bgp default ipv6-unicast"),
        }),
    },
    Statement {
        syntax: "bgp default local-preference NUMBER:0-4294967295",
        help: "LOCAL_PREF of routes that come without",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.default_local_preference = args.get("NUMBER")?;
                Ok(())
            },
            write: |bgp, lines| {
                if bgp.default_local_preference != 100 {
                    lines.line(format_args!("bgp default local-preference {}", bgp.default_local_preference));
                }
            },
        }),
    },
    Statement {
        syntax: "[no] bgp always-compare-med",
        help: "Compare MED between different neighbor ASes too",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.best_path.always_compare_med = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| lines.flag(bgp.best_path.always_compare_med, "bgp always-compare-med"),
        }),
    },
    Statement {
        syntax: "[no] bgp deterministic-med",
        help: "Compare paths grouped by neighbor AS",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.best_path.deterministic_med = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| lines.flag(bgp.best_path.deterministic_med, "bgp deterministic-med"),
        }),
    },
    Statement {
        syntax: "[no] bgp bestpath as-path ignore",
        help: "Do not look at the length of the AS path",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.best_path.ignore_as_path_length = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| lines.flag(bgp.best_path.ignore_as_path_length, "bgp bestpath as-path ignore"),
        }),
    },
    Statement {
        syntax: "[no] bgp bestpath compare-routerid",
        help: "Prefer the lowest router id between external paths, rather than the older one",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.best_path.compare_router_id = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| lines.flag(bgp.best_path.compare_router_id, "bgp bestpath compare-routerid"),
        }),
    },
    Statement {
        syntax: "[no] bgp graceful-restart",
        help: "Announce that our forwarding survives a restart",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.graceful_restart.restarter = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| match (bgp.graceful_restart.restarter, bgp.frr_defaults) {
                (true, true) => lines.line("bgp graceful-restart"),
                (false, false) => lines.line("no bgp graceful-restart"),
                _ => {}
            },
        }),
    },
    Statement {
        syntax: "[no] bgp graceful-restart-disable",
        help: "Neither restart gracefully nor help others to",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.graceful_restart.helper = args.has("no");
                Ok(())
            },
            write: |bgp, lines| lines.flag(!bgp.graceful_restart.helper, "bgp graceful-restart-disable"),
        }),
    },
    Statement {
        syntax: "bgp graceful-restart restart-time SECONDS:0-4095",
        help: "Seconds that we ask neighbors to wait for us",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.graceful_restart.restart_time = Duration::from_secs(args.get("SECONDS")?);
                Ok(())
            },
            write: |bgp, lines| {
                let time = bgp.graceful_restart.restart_time;
                if time != GracefulRestart::default().restart_time {
                    lines.line(format_args!("bgp graceful-restart restart-time {}", time.as_secs()));
                }
            },
        }),
    },
    Statement {
        syntax: "bgp graceful-restart stalepath-time SECONDS:1-4095",
        help: "Seconds that stale paths are kept",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.graceful_restart.stalepath_time = Duration::from_secs(args.get("SECONDS")?);
                Ok(())
            },
            write: |bgp, lines| {
                let time = bgp.graceful_restart.stalepath_time;
                if time != GracefulRestart::default().stalepath_time {
                    lines.line(format_args!("bgp graceful-restart stalepath-time {}", time.as_secs()));
                }
            },
        }),
    },
    Statement {
        syntax: "bgp graceful-restart select-defer-time SECONDS:0-3600",
        help: "Seconds that we wait after our own restart for what neighbors have to say",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.graceful_restart.select_defer_time = Some(Duration::from_secs(args.get("SECONDS")?));
                Ok(())
            },
            write: |bgp, lines| {
                if let Some(time) = bgp.graceful_restart.select_defer_time {
                    lines.line(format_args!("bgp graceful-restart select-defer-time {}", time.as_secs()));
                }
            },
        }),
    },
    Statement {
        syntax: "[no] bgp graceful-restart preserve-fw-state",
        help: "Tell neighbors that our forwarding state has survived (F bit)",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.graceful_restart.preserve_forwarding = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| {
                lines.flag(bgp.graceful_restart.preserve_forwarding, "bgp graceful-restart preserve-fw-state");
            },
        }),
    },
    Statement {
        syntax: "[no] bgp graceful-shutdown",
        help: "Have neighbors move traffic away before we go (RFC 8326)",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.graceful_shutdown = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| lines.flag(bgp.graceful_shutdown, "bgp graceful-shutdown"),
        }),
    },
    Statement {
        syntax: "no bgp fail-closed",
        help: "Let a less specific route take over what a lost tunnel carried, even in the clear",
        action: Action::Bgp(Verb {
            read: |bgp, _| {
                bgp.fail_closed = FailClosed::Off;
                Ok(())
            },
            write: |bgp, lines| lines.flag(bgp.fail_closed == FailClosed::Off, "no bgp fail-closed"),
        }),
    },
    Statement {
        syntax: "bgp fail-closed [withdrawn]",
        help: "Drop what was reachable through a lost tunnel and has no other path",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.fail_closed = if args.has("withdrawn") { FailClosed::Withdrawn } else { FailClosed::Lost };
                Ok(())
            },
            write: |bgp, lines| lines.flag(bgp.fail_closed == FailClosed::Withdrawn, "bgp fail-closed withdrawn"),
        }),
    },
    Statement {
        syntax: "timers bgp KEEPALIVE:0-65535 HOLD:0-65535",
        help: "Keepalive and hold time of all neighbors",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.timers = timers(args)?;
                Ok(())
            },
            write: |bgp, lines| {
                if bgp.timers != Timers::default() {
                    lines.line(format_args!("timers bgp {}", spell_timers(bgp.timers)));
                }
            },
        }),
    },
];

/// KEEPALIVE and HOLD of a line.
pub(super) fn timers(args: &Args<'_>) -> Result<Timers, Complaint> {
    let (keepalive, hold): (u64, u64) = (args.get("KEEPALIVE")?, args.get("HOLD")?);
    // RFC 4271 §4.2: zero, or at least three seconds.
    if matches!(hold, 1 | 2) {
        return Err(args.complain("HOLD", "a hold time is 0 or at least 3 seconds (RFC 4271)"));
    }
    Ok(Timers { keepalive: Duration::from_secs(keepalive), hold: Duration::from_secs(hold) })
}

pub(super) fn spell_timers(timers: Timers) -> String {
    format!("{} {}", timers.keepalive.as_secs(), timers.hold.as_secs())
}
