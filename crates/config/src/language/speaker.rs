//! `router bgp`: what this speaker is to others (a route reflector, a member of a confederation) and what it asks of
//! every session, in FRR's spelling.

use std::time::Duration;

use net_types::Asn;

use super::{Action, Statement, Verb};

pub(super) const ROWS: &[Statement] = &[
    Statement {
        syntax: "[no] bgp client-to-client reflection",
        help: "Pass routes of one route reflection client to the others (RFC 4456)",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.client_to_client_reflection = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| {
                lines.flag(!bgp.client_to_client_reflection, "no bgp client-to-client reflection");
            },
        }),
    },
    Statement {
        syntax: "bgp confederation identifier ASN",
        help: "The AS that our confederation is for everybody outside (RFC 5065)",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.confederation.identifier = Some(args.get("ASN")?);
                Ok(())
            },
            write: |bgp, lines| {
                if let Some(asn) = bgp.confederation.identifier {
                    lines.line(format_args!("bgp confederation identifier {}", asn.get()));
                }
            },
        }),
    },
    Statement {
        syntax: "no bgp confederation identifier [ASN]",
        help: "This AS belongs to no confederation",
        action: Action::Bgp(Verb {
            read: |bgp, _| {
                bgp.confederation.identifier = None;
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    Statement {
        syntax: "bgp confederation peers ASN...",
        help: "The other member ASes of our confederation",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                let asns: Vec<Asn> = args.all("ASN")?;
                if asns.contains(&bgp.asn) {
                    return Err(args.complain("ASN", "our own AS is a member already; name the others"));
                }
                bgp.confederation.members.extend(asns);
                Ok(())
            },
            write: |bgp, lines| {
                if !bgp.confederation.members.is_empty() {
                    let asns: Vec<String> = bgp.confederation.members.iter().map(ToString::to_string).collect();
                    lines.line(format_args!("bgp confederation peers {}", asns.join(" ")));
                }
            },
        }),
    },
    Statement {
        syntax: "no bgp confederation peers ASN...",
        help: "These ASes are not in our confederation",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                for asn in args.all::<Asn>("ASN")? {
                    bgp.confederation.members.remove(&asn);
                }
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    Statement {
        syntax: "bgp minimum-holdtime SECONDS:1-65535",
        help: "Refuse neighbors that propose a shorter hold time",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.minimum_hold_time = Some(Duration::from_secs(args.get("SECONDS")?));
                Ok(())
            },
            write: |bgp, lines| {
                if let Some(time) = bgp.minimum_hold_time {
                    lines.line(format_args!("bgp minimum-holdtime {}", time.as_secs()));
                }
            },
        }),
    },
    Statement {
        syntax: "no bgp minimum-holdtime [SECONDS:1-65535]",
        help: "Accept any hold time",
        action: Action::Bgp(Verb {
            read: |bgp, _| {
                bgp.minimum_hold_time = None;
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    Statement {
        syntax: "bgp long-lived-graceful-restart stale-time SECONDS:1-16777215",
        help: "Seconds that stale paths may be used once the restart time is over (RFC 9494)",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.long_lived_stale_time = Some(Duration::from_secs(args.get("SECONDS")?));
                Ok(())
            },
            write: |bgp, lines| {
                if let Some(time) = bgp.long_lived_stale_time {
                    lines.line(format_args!("bgp long-lived-graceful-restart stale-time {}", time.as_secs()));
                }
            },
        }),
    },
    Statement {
        syntax: "no bgp long-lived-graceful-restart stale-time [SECONDS:1-16777215]",
        help: "No stale path is used once the restart time is over",
        action: Action::Bgp(Verb {
            read: |bgp, _| {
                bgp.long_lived_stale_time = None;
                Ok(())
            },
            write: |_, _| {},
        }),
    },
    Statement {
        syntax: "[no] bgp fast-external-failover",
        help: "End sessions with external neighbors when the link to them goes down",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.fast_external_failover = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| lines.flag(!bgp.fast_external_failover, "no bgp fast-external-failover"),
        }),
    },
    Statement {
        syntax: "[no] bgp fast-convergence",
        help: "End the sessions of all neighbors that are reached over a link when it goes down",
        action: Action::Bgp(Verb {
            read: |bgp, args| {
                bgp.fast_convergence = !args.has("no");
                Ok(())
            },
            write: |bgp, lines| lines.flag(bgp.fast_convergence, "bgp fast-convergence"),
        }),
    },
];
