//! What an answer has said so far, until it is complete.

use std::collections::BTreeSet;

use bgp_core::validation::{Roa, RoaChanges};

use super::{Closed, LIMIT};
use crate::pdu::ErrorCode;

/// Payloads of an answer that is not complete.
#[derive(Debug)]
pub(super) enum Staged {
    /// Everything there is.
    All(BTreeSet<Roa>),
    /// What is different from what we hold.
    Difference { announced: BTreeSet<Roa>, withdrawn: BTreeSet<Roa> },
}

impl Staged {
    /// Takes note of one payload.
    ///
    /// # Errors
    /// When it announces what is there already, withdraws what is not, or is one too many.
    pub(super) fn change(&mut self, held: &BTreeSet<Roa>, announce: bool, roa: Roa) -> Result<(), Closed> {
        let (fits, count) = match (self, announce) {
            (Self::All(all), true) => (all.insert(roa), all.len()),
            (Self::All(all), false) => (all.remove(&roa), all.len()),
            (Self::Difference { announced, withdrawn }, true) => {
                let fits = withdrawn.remove(&roa) || (!held.contains(&roa) && announced.insert(roa));
                (fits, held.len() + announced.len())
            }
            (Self::Difference { announced, withdrawn }, false) => {
                (announced.remove(&roa) || (held.contains(&roa) && withdrawn.insert(roa)), held.len())
            }
        };
        if count > LIMIT {
            return Err(Closed::TooMuch);
        }
        if fits {
            return Ok(());
        }
        let code = if announce { ErrorCode::DuplicateAnnouncement } else { ErrorCode::WithdrawalOfUnknown };
        let asn = roa.asn().map_or(0, |asn| asn.get());
        Err(Closed::Protocol { code, what: format!("{} up to /{} from AS{asn}", roa.prefix(), roa.max_bits()) })
    }

    /// Makes `held` what the answer says; gives what that changes.
    pub(super) fn put_into(self, held: &mut BTreeSet<Roa>) -> RoaChanges {
        match self {
            Self::All(all) => {
                let changes = RoaChanges {
                    announced: all.difference(held).copied().collect(),
                    withdrawn: held.difference(&all).copied().collect(),
                };
                *held = all;
                changes
            }
            Self::Difference { announced, withdrawn } => {
                for roa in &withdrawn {
                    held.remove(roa);
                }
                held.extend(&announced);
                RoaChanges { announced: announced.into_iter().collect(), withdrawn: withdrawn.into_iter().collect() }
            }
        }
    }
}
