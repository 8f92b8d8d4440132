//! `rpki`, in FRR's spelling; `tls` is ours.

use std::time::Duration;

use super::{Action, Draft, LEAVE, Lines, Section, Statement, Verb, then};
use crate::{
    grammar::{Args, Complaint},
    model::{Rpki, RpkiCache, RpkiTransport},
};

pub(super) const BEGIN: &[Statement] = &[Statement {
    syntax: "rpki",
    help: "Caches that tell which AS may originate which prefix",
    action: Action::Enter(
        |_, _| Ok(Section::Rpki),
        |config, lines| {
            if config.rpki != Rpki::default() {
                lines.section("rpki", |lines| {
                    lines.body(&Section::Rpki, &config.rpki, |action| match action {
                        Action::Rpki(verb) => Some(verb.write),
                        _ => None,
                    });
                });
            }
        },
    ),
}];

pub(super) const ROWS: &[&[Statement]] = &[RPKI, LEAVE];

const RPKI: &[Statement] = &[
    Statement {
        syntax: "rpki polling_period SECONDS:1-86400",
        help: "Seconds between queries, in place of what the cache asks for",
        action: Action::Rpki(Verb {
            read: |draft, args| {
                draft.config.rpki.polling_period = Some(Duration::from_secs(args.get("SECONDS")?));
                Ok(())
            },
            write: |rpki, lines| write_seconds(lines, "polling_period", rpki.polling_period),
        }),
    },
    Statement {
        syntax: "rpki retry_interval SECONDS:1-7200",
        help: "Longest time in seconds between attempts to connect, in place of what the cache asks for",
        action: Action::Rpki(Verb {
            read: |draft, args| {
                draft.config.rpki.retry_interval = Some(Duration::from_secs(args.get("SECONDS")?));
                Ok(())
            },
            write: |rpki, lines| write_seconds(lines, "retry_interval", rpki.retry_interval),
        }),
    },
    Statement {
        syntax: "rpki expire_interval SECONDS:600-172800",
        help: "Seconds that payloads stay in force while no cache answers",
        action: Action::Rpki(Verb {
            read: |draft, args| {
                draft.config.rpki.expire_interval = Some(Duration::from_secs(args.get("SECONDS")?));
                Ok(())
            },
            write: |rpki, lines| write_seconds(lines, "expire_interval", rpki.expire_interval),
        }),
    },
    Statement {
        syntax: "rpki cache [tcp] HOST PORT:1-65535 preference PREFERENCE:1-255",
        help: "A cache; of several the one with the lowest preference is believed",
        action: Action::Rpki(Verb { read: read_cache, write: write_caches }),
    },
    Statement {
        syntax: "rpki cache tls HOST PORT:1-65535 trust-anchor ANCHOR-FILE [server-name SERVER-NAME] [certificate CERTIFICATE-FILE private-key KEY-FILE] preference PREFERENCE:1-255",
        help: "A cache behind TLS",
        action: Action::Rpki(Verb {
            read: read_cache,
            write: |_, _| {}, // Printed with the other caches.
        }),
    },
    Statement {
        syntax: "no rpki cache [tcp|tls] HOST PORT:1-65535 preference PREFERENCE:1-255",
        help: "Forget a cache",
        action: Action::Rpki(Verb {
            read: |draft, args| {
                draft.config.rpki.caches.remove(&args.get("PREFERENCE")?);
                Ok(())
            },
            write: |_, _| {},
        }),
    },
];

fn write_seconds(lines: &mut Lines, word: &str, time: Option<Duration>) {
    time.iter().for_each(|time| lines.line(format_args!("rpki {word} {}", time.as_secs())));
}

fn read_cache(draft: &mut Draft, args: &Args<'_>) -> Result<(), Complaint> {
    let transport = match args.opt("ANCHOR-FILE")? {
        None => RpkiTransport::Tcp,
        Some(trust_anchor) => RpkiTransport::Tls {
            trust_anchor,
            server_name: args.opt("SERVER-NAME")?,
            client: args.opt("CERTIFICATE-FILE")?.zip(args.opt("KEY-FILE")?),
        },
    };
    let preference: u8 = args.get("PREFERENCE")?;
    let cache = RpkiCache { host: args.get("HOST")?, port: args.get("PORT")?, transport };
    match draft.config.rpki.caches.get(&preference) {
        Some(other) if *other != cache => {
            let message = format!(
                "preference {preference} is that of cache {} {}; give this one another",
                other.host, other.port
            );
            Err(args.complain("PREFERENCE", message))
        }
        _ => {
            draft.config.rpki.caches.insert(preference, cache);
            Ok(())
        }
    }
}

fn write_caches(rpki: &Rpki, lines: &mut Lines) {
    for (preference, RpkiCache { host, port, transport }) in &rpki.caches {
        let (kind, tls) = match transport {
            RpkiTransport::Tcp => ("tcp", String::new()),
            RpkiTransport::Tls { trust_anchor, server_name, client } => {
                let name = then("server-name", server_name.as_ref());
                let client = client.iter().map(|(certificate, key)| {
                    format!(" certificate {} private-key {}", certificate.display(), key.display())
                });
                ("tls", format!(" trust-anchor {}{name}{}", trust_anchor.display(), client.collect::<String>()))
            }
        };
        lines.line(format_args!("rpki cache {kind} {host} {port}{tls} preference {preference}"));
    }
}
