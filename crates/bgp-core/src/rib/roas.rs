//! Origin validation of what is in the table (RFC 6811), and what has to be looked at again when payloads change.
//!
//! The state of a path is worked out when somebody asks. Only where a policy asks does a change of payloads lead to
//! anything: then one pass over the entries, by the piece, finds those that a changed prefix covers, and evaluates them
//! again for the peers whose policies ask.

use net_types::{Family, Prefix};

use super::{PathAttrs, Rib, peer::Standing};
use crate::validation::{RoaChanges, RoaTable, Touched, ValidationState};

/// What of the routing table concerns origin validation.
pub(super) struct Revalidation {
    /// Prefixes whose payloads changed and whose pass is not over.
    touched: Touched,
    /// Where the pass stands, by family.
    cursors: [Option<u32>; Family::COUNT],
    seed: u64,
}

impl Revalidation {
    pub(super) fn new(seed: u64) -> Self {
        Self { touched: Touched::new(seed), cursors: [None; Family::COUNT], seed }
    }

    pub(super) fn is_pending(&self) -> bool {
        self.cursors.iter().any(Option::is_some)
    }
}

impl Rib {
    /// Payloads came and went. Routes that they cover and that a policy judges by validation are evaluated again in
    /// [`work`](Self::work); the others are not touched.
    pub fn change_roas(&mut self, changes: &RoaChanges) {
        let was_empty = self.shared.roas.is_empty();
        let mut touched = self.shared.roas.apply(changes);
        if was_empty != self.shared.roas.is_empty() {
            // Between no state and "not found" lies every route.
            touched.extend([Prefix::DEFAULT_V4, Prefix::DEFAULT_V6]);
        }
        if touched.is_empty() || !self.policies_ask() {
            return;
        }
        let Revalidation { touched: pending, cursors, .. } = &mut self.revalidation;
        pending.extend(touched);
        for family in Family::ALL {
            // A pass under way starts over: what it has seen may be covered by what is new.
            if pending.0.has(family) {
                cursors[family as usize] = Some(0);
            }
        }
    }

    /// The payloads in force.
    pub fn roas(&self) -> &RoaTable {
        &self.shared.roas
    }

    /// What the payloads say of a route; `None` while there are no payloads at all.
    pub fn validation(&self, prefix: &Prefix, attrs: &PathAttrs) -> Option<ValidationState> {
        let roas = &self.shared.roas;
        (!roas.is_empty()).then(|| roas.validate(prefix, &attrs.attributes.as_path, self.config.asn))
    }

    /// Whether any policy judges routes by validation.
    fn policies_ask(&self) -> bool {
        let families = self.shared.peers.iter().flatten().flat_map(|peer| &peer.config.families);
        families.into_iter().any(|family| family.import.uses_validation() || family.export.uses_validation())
    }

    /// One entry of the pass; `false` when there is none left, and the pass is over.
    pub(super) fn revalidate_next(&mut self, family: Family) -> bool {
        let Some(id) = self.revalidation.cursors[family as usize] else { return false };
        let table = &self.tables[family as usize].table;
        let Some(entry) = table.entries.get(id as usize) else {
            self.revalidation.cursors[family as usize] = None;
            if !self.revalidation.is_pending() {
                self.revalidation.touched = Touched::new(self.revalidation.seed);
            }
            return false;
        };
        self.revalidation.cursors[family as usize] = Some(id + 1);
        if !entry.live || !self.revalidation.touched.0.covers(&table.prefix(id)) {
            return true;
        }
        let asks =
            |source: super::Slot| self.shared.peer(source).config.families[family as usize].import.uses_validation();
        let paths: smallvec::SmallVec<[super::Path; 4]> =
            entry.paths.iter().filter(|path| asks(path.source)).copied().collect();
        for path in paths {
            if matches!(self.shared.standing(family, &path), Standing::Fresh | Standing::Stale) {
                self.reevaluate(family, id, path);
            }
        }
        for group in self.shared.groups[family as usize].iter_mut().flatten() {
            if group.terms.uses_validation() {
                group.changed(id);
            }
        }
        true
    }
}
