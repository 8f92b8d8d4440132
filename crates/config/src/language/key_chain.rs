//! `key chain NAME`, in the words of the routers that speak TCP-AO; FRR knows the section, for other protocols.

use super::{Action, LEAVE, Lines, Section, Statement, Verb, draft::KeyDraft};
use crate::model::{AoAlgorithm, ChainKey, Config, Name, Password};

pub(super) const BEGIN: &[Statement] = &[Statement {
    syntax: "key chain NAME",
    help: "Keys for TCP-AO (RFC 5925), of which the one with the highest number is preferred",
    action: Action::Enter(
        |draft, args| {
            let name: Name = args.get("NAME")?;
            draft.key_chain(&name);
            Ok(Section::KeyChain(name))
        },
        write,
    ),
}];

fn write(config: &Config, lines: &mut Lines) {
    for (name, chain) in &config.key_chains {
        lines.section(format_args!("key chain {name}"), |lines| {
            for (number, key) in &chain.keys {
                lines.section(format_args!("key {number}"), |lines| {
                    lines.body(&Section::ChainKey(name.clone(), *number), key, |action| match action {
                        Action::ChainKey(verb) => Some(verb.write),
                        _ => None,
                    });
                });
            }
        });
    }
}

pub(super) const ROWS: &[&[Statement]] = &[CHAIN, LEAVE];

const CHAIN: &[Statement] = &[Statement {
    syntax: "key NUMBER:0-255",
    help: "A key; its number is also what segments name it by, unless said otherwise",
    action: Action::EnterWithin(|draft, section, args| {
        let Section::KeyChain(name) = section else { return Ok(None) };
        let number = args.get("NUMBER")?;
        draft.chain_key(name, number);
        Ok(Some(Section::ChainKey(name.clone(), number)))
    }),
}];

pub(super) const KEY_ROWS: &[&[Statement]] = &[KEY, LEAVE];

const KEY: &[Statement] = &[
    Statement {
        syntax: "send-id NUMBER:0-255",
        help: "What segments that we sign with it name it by",
        action: Action::ChainKey(Verb {
            read: |key, args| {
                key.send_id = Some(args.get("NUMBER")?);
                Ok(())
            },
            write: |key, lines| key.send_id.iter().for_each(|id| lines.line(format_args!("send-id {id}"))),
        }),
    },
    Statement {
        syntax: "recv-id NUMBER:0-255",
        help: "What segments that the neighbor signs with it name it by",
        action: Action::ChainKey(Verb {
            read: |key, args| {
                key.receive_id = Some(args.get("NUMBER")?);
                Ok(())
            },
            write: |key, lines| key.receive_id.iter().for_each(|id| lines.line(format_args!("recv-id {id}"))),
        }),
    },
    Statement {
        syntax: "cryptographic-algorithm (hmac-sha-1-96|aes-128-cmac-96|hmac-sha-256-128)",
        help: "How segments are signed; hmac-sha-1-96 unless said otherwise",
        action: Action::ChainKey(Verb {
            read: |key, args| {
                let said = AoAlgorithm::ALL.into_iter().find(|algorithm| args.has(&algorithm.to_string()));
                key.algorithm = said.unwrap_or_default();
                Ok(())
            },
            write: |key, lines| {
                if key.algorithm != AoAlgorithm::default() {
                    lines.line(format_args!("cryptographic-algorithm {}", key.algorithm));
                }
            },
        }),
    },
    Statement {
        syntax: "key-string (PASSWORD|file FILE)",
        help: "The key itself",
        action: Action::ChainKey(Verb {
            read: |key: &mut KeyDraft, args| {
                key.secret = Some(match args.opt("FILE")? {
                    Some(path) => Password::File(path),
                    None => Password::Inline(args.get("PASSWORD")?),
                });
                Ok(())
            },
            write: |key: &ChainKey, lines| match &key.secret {
                Password::Inline(secret) => lines.line(format_args!("key-string {}", secret.expose())),
                Password::File(path) => lines.line(format_args!("key-string file {}", path.display())),
            },
        }),
    },
];
