//! Filters that peers ask us to apply for them (outbound route filtering, RFC 5291), by address prefix (RFC 5292).
//!
//! A filter belongs to a session: it is gone when that ends. It takes effect when the peer asks for its routes, which before
//! the first such request are kept back (RFC 5291 §6).

use std::{collections::BTreeMap, sync::Arc};

use bgp_wire::{FilterChange, PrefixFilter, PrefixFilters};
use net_types::Family;

use super::{IdSet, Rib, Slot, lifecycle::retire};
use crate::{
    PeerId,
    policy::{Action, PrefixList, PrefixRule},
};

/// Lines of one filter; what a peer asks for beyond that is left out, and it gets more than it wants.
const MOST_LINES: usize = 16_384;

/// What a peer asked for in one family.
#[derive(Debug, Default)]
pub(crate) struct OutboundFilter {
    /// By sequence number.
    lines: BTreeMap<u32, PrefixRule>,
    /// The filter in force, made of those lines at the last request.
    pub(crate) list: Option<Arc<PrefixList>>,
    /// No route is told before the first request.
    pub(super) waits: bool,
    /// The peer asked for more lines than there is room for.
    pub(super) overflowed: bool,
}

impl OutboundFilter {
    fn change(&mut self, change: &FilterChange) {
        match change {
            FilterChange::RemoveAll => self.lines.clear(),
            FilterChange::Remove(filter) => drop(self.lines.remove(&filter.sequence)),
            FilterChange::Add(filter) => {
                if self.lines.len() < MOST_LINES || self.lines.contains_key(&filter.sequence) {
                    self.lines.insert(filter.sequence, rule(filter));
                } else {
                    self.overflowed = true;
                }
            }
        }
    }

    /// Makes the lines the filter in force.
    fn commit(&mut self) {
        let rules: Vec<PrefixRule> = self.lines.values().copied().collect();
        self.list = (!rules.is_empty()).then(|| Arc::new(PrefixList::new("outbound filter", rules)));
    }
}

fn rule(filter: &PrefixFilter) -> PrefixRule {
    let said = |bits: u8| (bits != 0).then_some(bits);
    PrefixRule {
        sequence: filter.sequence,
        action: if filter.permit { Action::Permit } else { Action::Deny },
        prefix: filter.prefix,
        ge: said(filter.min),
        le: said(filter.max),
    }
}

/// What a peer's request did to its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// What it asked for is in force, or will be with the next request.
    Done,
    /// It has more lines than are kept (16,384): some are left out.
    Overflowed,
}

impl Rib {
    /// A ROUTE-REFRESH request of `peer` with what it says about its filter; `None` where filters are not negotiated.
    pub fn filtered_refresh(&mut self, peer: PeerId, family: Family, filters: Option<&PrefixFilters>) -> Filtering {
        let Some(slot) = self.slot(peer) else { return Filtering::Done };
        let state = &mut self.shared.peer_mut(slot).families[family as usize];
        if !state.active {
            return Filtering::Done;
        }
        let filter = &mut state.filter;
        filters.into_iter().flat_map(|filters| &filters.changes).for_each(|change| filter.change(change));
        let outcome = if filter.overflowed { Filtering::Overflowed } else { Filtering::Done };
        if filters.is_some_and(|filters| !filters.immediate) {
            return outcome;
        }
        let before = filter.list.clone();
        filter.commit();
        let changed = before != filter.list;
        if std::mem::take(&mut filter.waits) {
            self.shared.join(&self.config, &mut self.tables[family as usize], slot, IdSet::default(), true);
        } else if changed {
            self.refilter(slot, family);
        } else {
            self.route_refresh(peer, family);
        }
        outcome
    }

    /// What the peer has is compared with what it may be told now.
    fn refilter(&mut self, slot: Slot, family: Family) {
        let Self { shared, tables, retired, config, .. } = self;
        if let Some(left) = shared.regroup(config, &mut tables[family as usize], slot) {
            retire(retired, family, left);
        }
    }

    /// The lines of the filter that a peer asked for, in order.
    pub fn outbound_filter(&self, peer: PeerId, family: Family) -> Vec<PrefixRule> {
        let lines = self.slot(peer).map(|slot| &self.shared.peer(slot).families[family as usize].filter.lines);
        lines.into_iter().flat_map(BTreeMap::values).copied().collect()
    }
}
