//! The next piece of what a peer is owed.

use std::sync::Arc;

use hashbrown::HashMap;
use net_types::{Family, Prefix};

use super::{Teller, Terms};
use crate::{
    PeerId,
    policy::Changes,
    rib::{Path, PathAttrs, Rib, Slot, attrs::AttrId, state::Shared},
};

/// Prefixes that share everything but themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct OutGroup {
    /// Attributes and next hop as they go out.
    pub attrs: Arc<PathAttrs>,
    /// The prefixes.
    pub prefixes: Vec<Prefix>,
}

/// A piece of what a peer is owed, in the order to send it.
#[derive(Clone, Debug, PartialEq)]
pub struct OutBatch {
    /// All of it belongs to this family.
    pub family: Family,
    /// No longer reachable through us.
    pub withdrawn: Vec<Prefix>,
    /// Reachable through us.
    pub announced: Vec<OutGroup>,
    /// After that, End-of-RIB (RFC 4724 §2).
    pub end_of_rib: bool,
}

/// What was worked out for earlier prefixes of the same batch.
#[derive(Default)]
struct Memo {
    outlines: HashMap<(AttrId, Teller), Option<PathAttrs>, foldhash::fast::FixedState>,
    /// By path and what policy changes: the group in the batch.
    groups: HashMap<(AttrId, Teller, Changes), usize, foldhash::fast::FixedState>,
    /// The most recent of `groups`: neighbors in the table mostly arrived together.
    last: Option<((AttrId, Teller, Changes), usize)>,
}

impl Rib {
    /// The next piece of what `peer` is owed, after a look at up to `budget` prefixes of one family. `None` when it is
    /// up to date; a piece may be empty when none of those looked at concerns the peer.
    ///
    /// What is handed over counts as sent. Pull only when there is room for it: until then, changes collapse.
    pub fn poll_out(&mut self, peer: PeerId, budget: usize) -> Option<OutBatch> {
        if self.is_deferring() {
            return None;
        }
        let slot = self.slot(peer)?;
        Family::ALL.into_iter().find_map(|family| self.poll_family(slot, family, budget))
    }

    /// Whether [`poll_out`](Self::poll_out) has anything for `peer`.
    pub fn owes(&self, peer: PeerId) -> bool {
        let owed = |slot| {
            let families = &self.shared.peer(slot).families;
            families.iter().any(|state| state.active && (!state.out.dirty.is_empty() || state.out.owes_end_of_rib))
        };
        !self.is_deferring() && self.slot(peer).is_some_and(owed)
    }

    fn poll_family(&mut self, slot: Slot, family: Family, budget: usize) -> Option<OutBatch> {
        let Self { shared, tables, config, .. } = self;
        let peer = shared.peer(slot);
        let terms = Terms::of(config, peer, peer.up.as_ref()?, family);
        if !peer.families[family as usize].active {
            return None;
        }
        let table = &mut tables[family as usize];
        let mut batch = OutBatch { family, withdrawn: Vec::new(), announced: Vec::new(), end_of_rib: false };
        let mut memo = Memo::default();
        for _ in 0..budget {
            let out = &mut shared.peer_mut(slot).families[family as usize].out;
            let Some(id) = out.dirty.next_from(out.cursor) else {
                // The end of a pass: whatever there was when the session came up has been handed over.
                out.cursor = 0;
                batch.end_of_rib = std::mem::take(&mut out.owes_end_of_rib);
                if batch.end_of_rib || out.dirty.is_empty() {
                    break;
                }
                continue;
            };
            out.cursor = id + 1;
            out.dirty.remove(id);
            let prefix = table.table.prefix(id);
            let entry = &mut table.table.entries[id as usize];
            let best = entry.best().filter(|path| path.source != slot).copied();
            let group = best.and_then(|path| memo.group(shared, &terms, &prefix, &path, &mut batch));
            let advertised = &mut shared.peer_mut(slot).families[family as usize].out.advertised;
            match group {
                Some(group) => {
                    batch.announced[group].prefixes.push(prefix);
                    entry.sent += u16::from(advertised.insert(id));
                }
                None if advertised.remove(id) => {
                    batch.withdrawn.push(prefix);
                    entry.sent -= 1;
                    table.reap(id);
                }
                None => {}
            }
        }
        let something = !batch.withdrawn.is_empty() || !batch.announced.is_empty() || batch.end_of_rib;
        let more = !shared.peer(slot).families[family as usize].out.dirty.is_empty();
        (something || more).then_some(batch)
    }

    /// What `peer` was sent for `prefix`, if anything. While a change is on its way to it, the new state.
    pub fn advertised(&self, peer: PeerId, prefix: &Prefix) -> Option<PathAttrs> {
        let slot = self.slot(peer)?;
        let family = prefix.family();
        let known = self.shared.peer(slot);
        let table = &self.tables[family as usize].table;
        let id = table.find(prefix)?;
        if !known.families[family as usize].out.advertised.contains(id) {
            return None;
        }
        let path = table.entries[id as usize].best().filter(|path| path.source != slot)?;
        let terms = Terms::of(self.config(), known, known.up.as_ref()?, family);
        let from = Teller::of(self.shared.peer(path.source), family);
        let outline = terms.outline(from, self.shared.attrs.attrs(path.effective?))?;
        let changes = terms.permits(prefix, &outline, &self.shared.roas)?;
        Some(terms.finish(from.kind, &outline, &changes))
    }
}

impl Memo {
    /// The group of `batch` that `path` belongs to for `prefix`, unless it may not go out.
    fn group(
        &mut self,
        shared: &Shared,
        terms: &Terms,
        prefix: &Prefix,
        path: &Path,
        batch: &mut OutBatch,
    ) -> Option<usize> {
        let (id, from) = (path.effective?, Teller::of(shared.peer(path.source), terms.family));
        let outline = self.outlines.entry((id, from));
        let outline = outline.or_insert_with(|| terms.outline(from, shared.attrs.attrs(id))).as_ref()?;
        let changes = terms.permits(prefix, outline, &shared.roas)?;
        let key = (id, from, changes);
        if let Some((last, group)) = &self.last
            && *last == key
        {
            return Some(*group);
        }
        let group = *self.groups.entry(key.clone()).or_insert_with(|| {
            let attrs = Arc::new(terms.finish(from.kind, outline, &key.2));
            batch.announced.push(OutGroup { attrs, prefixes: Vec::new() });
            batch.announced.len() - 1
        });
        self.last = Some((key, group));
        Some(group)
    }
}
