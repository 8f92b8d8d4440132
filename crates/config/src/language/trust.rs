//! What has to be known and be true of a peer's certificate: in `ipsec identity` and in `ipsec tunnel`.

use std::path::PathBuf;

use super::{Action, Statement, Verb};
use crate::model::{Credential, ListSource, Revocation, RevocationPolicy};

/// Nothing is printed for an identity by pre-shared key, which has none of this.
fn revocation(credential: &Credential) -> Option<&Revocation> {
    match credential {
        Credential::Certificate { revocation, .. } => Some(revocation),
        Credential::PreSharedKey { .. } => None,
    }
}

pub(super) const IDENTITY: &[Statement] = &[
    Statement {
        syntax: "crl file FILE",
        help: "A revocation list, read again when the file changes; may be given several times",
        action: Action::Identity(Verb {
            read: |identity, args| {
                add(&mut identity.revocation.lists, ListSource::File(args.get("FILE")?));
                Ok(())
            },
            write: |identity, lines| {
                for source in revocation(&identity.credential).iter().flat_map(|revocation| &revocation.lists) {
                    if let ListSource::File(path) = source {
                        lines.line(format_args!("crl file {}", path.display()));
                    }
                }
            },
        }),
    },
    Statement {
        syntax: "crl url URL",
        help: "A revocation list to fetch, again before it ends; may be given several times",
        action: Action::Identity(Verb {
            read: |identity, args| {
                add(&mut identity.revocation.lists, ListSource::Url(args.get("URL")?));
                Ok(())
            },
            write: |identity, lines| {
                for source in revocation(&identity.credential).iter().flat_map(|revocation| &revocation.lists) {
                    if let ListSource::Url(url) = source {
                        lines.line(format_args!("crl url {url}"));
                    }
                }
            },
        }),
    },
    Statement {
        syntax: "ocsp URL",
        help: "A responder to ask about peers' certificates (RFC 6960)",
        action: Action::Identity(Verb {
            read: |identity, args| {
                identity.revocation.responder = Some(args.get("URL")?);
                Ok(())
            },
            write: |identity, lines| {
                if let Some(url) = revocation(&identity.credential).and_then(|one| one.responder.as_ref()) {
                    lines.line(format_args!("ocsp {url}"));
                }
            },
        }),
    },
    Statement {
        syntax: "revocation (relaxed|strict)",
        help: "Whether what is not known to be revoked will do",
        action: Action::Identity(Verb {
            read: |identity, args| {
                identity.revocation.policy =
                    if args.has("strict") { RevocationPolicy::Strict } else { RevocationPolicy::Relaxed };
                Ok(())
            },
            write: |identity, lines| {
                let strict = revocation(&identity.credential).is_some_and(|one| one.policy == RevocationPolicy::Strict);
                lines.flag(strict, "revocation strict");
            },
        }),
    },
];

pub(super) const TUNNEL: &[Statement] = &[
    Statement {
        syntax: "remote-ca FILE",
        help: "An authority for this peer alone, in the place of the identity's; may be given several times",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                add(&mut tunnel.demands.authorities, args.get::<PathBuf>("FILE")?);
                Ok(())
            },
            write: |tunnel, lines| {
                let files = &tunnel.demands.authorities;
                files.iter().for_each(|file| lines.line(format_args!("remote-ca {}", file.display())));
            },
        }),
    },
    Statement {
        syntax: "remote-certificate name IKE-ID",
        help: "A name that the peer's certificate must have as well; may be given several times",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                add(&mut tunnel.demands.names, args.get("IKE-ID")?);
                Ok(())
            },
            write: |tunnel, lines| {
                let names = &tunnel.demands.names;
                names.iter().for_each(|name| lines.line(format_args!("remote-certificate name {name}")));
            },
        }),
    },
    Statement {
        syntax: "remote-certificate unit TEXT",
        help: "An organizational unit that its subject must have; may be given several times",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                add(&mut tunnel.demands.units, args.get("TEXT")?);
                Ok(())
            },
            write: |tunnel, lines| {
                let units = &tunnel.demands.units;
                units.iter().for_each(|unit| lines.line(format_args!("remote-certificate unit {unit}")));
            },
        }),
    },
    Statement {
        syntax: "remote-certificate fingerprint FINGERPRINT",
        help: "The certificate that it must be (SHA-256); one of several, where given several times",
        action: Action::Tunnel(Verb {
            read: |tunnel, args| {
                add(&mut tunnel.demands.fingerprints, args.get("FINGERPRINT")?);
                Ok(())
            },
            write: |tunnel, lines| {
                let pins = &tunnel.demands.fingerprints;
                pins.iter().for_each(|pin| lines.line(format_args!("remote-certificate fingerprint {pin}")));
            },
        }),
    },
];

fn add<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}
