//! Proposals as operators write them.

use std::{fmt, str::FromStr};

use super::{EsnPolicy, EspProposal, IkeProposal};
use crate::{
    cipher::{Aead, AesCbc, CipherWords, Ciphers, HmacAlgorithm},
    suite::{Additional, Group, PrfAlgorithm},
};

/// A proposal's text that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposalTextError {
    /// A word in it.
    #[error("{0}; proposals look like aes256gcm16-prfsha384-ecp384 (IKE) or aes256gcm16-ecp384-esn (ESP)")]
    Word(String),
    /// A type of algorithm is missing, or one too many.
    #[error("\"{text}\" {what}; {example}")]
    Incomplete {
        /// The text.
        text: String,
        /// What is wrong.
        what: &'static str,
        /// How it should look.
        example: &'static str,
    },
}

impl FromStr for IkeProposal {
    type Err = ProposalTextError;

    /// Words joined by `-`, each an algorithm of any type: `aes256gcm16-prfsha384-ecp384`. Beside an integrity algorithm
    /// the pseudorandom function may be left out, which means the one of the same hash: `aes256-sha256-modp2048`.
    fn from_str(text: &str) -> Result<Self, ProposalTextError> {
        let (mut ciphers, mut prfs, mut groups) = (CipherWords::default(), Vec::new(), GroupWords::default());
        for word in text.split('-') {
            if ciphers.take(word) || groups.take(word) {
            } else if let Ok(prf) = word.parse() {
                prfs.push(prf);
            } else {
                return Err(unknown_word(word, true));
            }
        }
        let GroupWords { groups, additional } = groups;
        let incomplete = |what| ProposalTextError::Incomplete {
            text: text.to_owned(),
            what,
            example: "IKE proposals look like aes256gcm16-prfsha384-ecp384 or aes256-sha256-modp2048",
        };
        let ciphers = ciphers.finish().map_err(incomplete)?;
        if let (Ciphers::Cbc(_, hmacs), []) = (&ciphers, &prfs[..]) {
            prfs = implied(hmacs);
        }
        match (&prfs[..], &groups[..]) {
            ([], _) => Err(incomplete("names no pseudorandom function")),
            (_, []) => Err(incomplete("names no key exchange group")),
            _ => Ok(Self { ciphers, prfs, groups, additional }),
        }
    }
}

/// The pseudorandom functions of a proposal that names integrity algorithms only.
fn implied(hmacs: &[HmacAlgorithm]) -> Vec<PrfAlgorithm> {
    hmacs.iter().map(|hmac| hmac.prf()).collect()
}

impl FromStr for EspProposal {
    type Err = ProposalTextError;

    /// Words joined by `-`: `aes256gcm16`, `aes256gcm16-ecp384`, `chacha20poly1305-x25519-noesn`,
    /// `aes256-sha256-modp2048`.
    fn from_str(text: &str) -> Result<Self, ProposalTextError> {
        let (mut ciphers, mut groups, mut esn) = (CipherWords::default(), GroupWords::default(), EsnPolicy::Prefer);
        for word in text.split('-') {
            match word {
                "esn" => esn = EsnPolicy::Require,
                "noesn" => esn = EsnPolicy::Never,
                word if ciphers.take(word) || groups.take(word) => {}
                word => return Err(unknown_word(word, false)),
            }
        }
        let incomplete = |what| ProposalTextError::Incomplete {
            text: text.to_owned(),
            what,
            example: "ESP proposals look like aes256gcm16-ecp384, aes256gcm16-x25519-ke1_mlkem768 or aes256-sha256-modp2048",
        };
        let ciphers = ciphers.finish().map_err(incomplete)?;
        let GroupWords { groups, additional } = groups;
        if groups.is_empty() && !additional.is_empty() {
            return Err(incomplete("has an additional key exchange without a first one"));
        }
        Ok(Self { ciphers, groups, additional, esn })
    }
}

/// The key exchanges of a proposal's text, word by word.
#[derive(Default)]
struct GroupWords {
    groups: Vec<Group>,
    additional: Additional,
}

impl GroupWords {
    /// Whether the word is one of theirs: `ecp384`, or `ke1_mlkem768` for one after the first (strongSwan's spelling).
    fn take(&mut self, word: &str) -> bool {
        let additional = word.strip_prefix("ke").and_then(|rest| rest.split_once('_'));
        match (additional, word.parse::<Group>()) {
            (Some((number, method)), _) => match (number.parse(), method.parse()) {
                (Ok(number), Ok(method)) => !self.groups.contains(&method) && self.additional.add(number, method),
                _ => false,
            },
            (None, Ok(group)) if group.may_be_first() => {
                self.groups.push(group);
                true
            }
            _ => false,
        }
    }
}

fn unknown_word(word: &str, prfs: bool) -> ProposalTextError {
    let mut known: Vec<String> = Aead::ALL.iter().map(Aead::to_string).collect();
    known.extend(AesCbc::ALL.iter().map(AesCbc::to_string));
    known.extend(HmacAlgorithm::ALL.iter().map(HmacAlgorithm::to_string));
    if prfs {
        known.extend(PrfAlgorithm::ALL.iter().map(PrfAlgorithm::to_string));
    }
    let groups = |first| Group::ALL.into_iter().filter(move |group| group.may_be_first() == first);
    known.extend(groups(true).map(|group| group.to_string()));
    known.extend(groups(false).map(|group| format!("ke1_{group}")));
    ProposalTextError::Word(format!("unknown algorithm \"{word}\", expected one of {}", known.join(", ")))
}

impl fmt::Display for IkeProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = self.ciphers.words();
        if !matches!(&self.ciphers, Ciphers::Cbc(_, hmacs) if implied(hmacs) == self.prfs) {
            words.extend(self.prfs.iter().map(PrfAlgorithm::to_string));
        }
        words.extend(self.groups.iter().map(Group::to_string));
        write!(f, "{}{}", words.join("-"), self.additional)
    }
}

impl fmt::Display for EspProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = self.ciphers.words();
        words.extend(self.groups.iter().map(Group::to_string));
        write!(f, "{}{}", words.join("-"), self.additional)?;
        f.write_str(match self.esn {
            EsnPolicy::Prefer => "",
            EsnPolicy::Require => "-esn",
            EsnPolicy::Never => "-noesn",
        })
    }
}
