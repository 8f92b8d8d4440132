//! `ipsec proposal` and `ipsec identity`

use std::path::{Path, PathBuf};

use super::{Action, LEAVE, Lines, Section, Statement, Verb};
use crate::model::{Credential, Identity};

pub(super) const BEGIN: &[Statement] = &[
    Statement {
        syntax: "ipsec proposal NAME",
        help: "Cipher suites under a name",
        action: Action::Enter(
            |draft, args| {
                let name = args.get("NAME")?;
                draft.proposal(&name);
                Ok(Section::Proposal(name))
            },
            |config, lines| {
                for (name, proposal) in &config.proposals {
                    lines.section(format_args!("ipsec proposal {name}"), |lines| {
                        lines.body(&Section::Proposal(name.clone()), proposal, |action| match action {
                            Action::Proposal(verb) => Some(verb.write),
                            _ => None,
                        });
                    });
                }
            },
        ),
    },
    Statement {
        syntax: "ipsec identity NAME",
        help: "Who we are, and how both sides prove it",
        action: Action::Enter(
            |draft, args| {
                let name = args.get("NAME")?;
                draft.identity(&name);
                Ok(Section::Identity(name))
            },
            |config, lines| {
                for (name, identity) in &config.identities {
                    lines.section(format_args!("ipsec identity {name}"), |lines| {
                        lines.body(&Section::Identity(name.clone()), identity, |action| match action {
                            Action::Identity(verb) => Some(verb.write),
                            _ => None,
                        });
                    });
                }
            },
        ),
    },
];

pub(super) const PROPOSAL_ROWS: &[&[Statement]] = &[PROPOSAL, LEAVE];

const PROPOSAL: &[Statement] = &[
    Statement {
        syntax: "ike IKE-SUITE...",
        help: "Suites for IKE, preferred ones first",
        action: Action::Proposal(Verb {
            read: |proposal, args| {
                proposal.ike = args.all("IKE-SUITE")?;
                Ok(())
            },
            write: |proposal, lines| lines.line(format_args!("ike {}", spaced(&proposal.ike))),
        }),
    },
    Statement {
        syntax: "esp ESP-SUITE...",
        help: "Suites for ESP, preferred ones first",
        action: Action::Proposal(Verb {
            read: |proposal, args| {
                proposal.esp = args.all("ESP-SUITE")?;
                Ok(())
            },
            write: |proposal, lines| lines.line(format_args!("esp {}", spaced(&proposal.esp))),
        }),
    },
];

pub(super) const IDENTITY_ROWS: &[&[Statement]] = &[IDENTITY, super::trust::IDENTITY, LEAVE];

const IDENTITY: &[Statement] = &[
    Statement {
        syntax: "id IKE-ID",
        help: "What we call ourselves to the peer",
        action: Action::Identity(Verb {
            read: |identity, args| {
                identity.id = Some(args.get("IKE-ID")?);
                Ok(())
            },
            write: |identity, lines| lines.line(format_args!("id {}", identity.id)),
        }),
    },
    Statement {
        syntax: "certificate FILE",
        help: "Our chain in PEM, own certificate first",
        action: Action::Identity(Verb {
            read: |identity, args| {
                identity.certificate = Some(args.get("FILE")?);
                Ok(())
            },
            write: |identity, lines| {
                if let Credential::Certificate { certificate, .. } = &identity.credential {
                    file(lines, "certificate", certificate);
                }
            },
        }),
    },
    Statement {
        syntax: "private-key FILE",
        help: "The certificate's key in PEM",
        action: Action::Identity(Verb {
            read: |identity, args| {
                identity.private_key = Some(args.get("FILE")?);
                Ok(())
            },
            write: |identity, lines| {
                if let Credential::Certificate { private_key, .. } = &identity.credential {
                    file(lines, "private-key", private_key);
                }
            },
        }),
    },
    Statement {
        syntax: "trust-anchor FILE",
        help: "Authorities that may vouch for the peer; may be given several times",
        action: Action::Identity(Verb {
            read: |identity, args| {
                let anchor: PathBuf = args.get("FILE")?;
                if !identity.trust_anchors.contains(&anchor) {
                    identity.trust_anchors.push(anchor);
                }
                Ok(())
            },
            write: write_trust_anchors,
        }),
    },
    Statement {
        syntax: "pre-shared-key file FILE",
        help: "A key that both sides have",
        action: Action::Identity(Verb {
            read: |identity, args| {
                identity.pre_shared_key = Some(args.get("FILE")?);
                Ok(())
            },
            write: |identity, lines| {
                if let Credential::PreSharedKey { file: path } = &identity.credential {
                    file(lines, "pre-shared-key file", path);
                }
            },
        }),
    },
];

fn write_trust_anchors(identity: &Identity, lines: &mut Lines) {
    if let Credential::Certificate { trust_anchors, .. } = &identity.credential {
        trust_anchors.iter().for_each(|anchor| file(lines, "trust-anchor", anchor));
    }
}

/// Paths come from lines of text, so they are text.
fn file(lines: &mut Lines, statement: &str, path: &Path) {
    lines.line(format_args!("{statement} {}", path.display()));
}

/// Values with spaces between them.
pub(super) fn spaced(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
