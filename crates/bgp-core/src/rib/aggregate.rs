//! Aggregates: one prefix that is announced for all that is within it (RFC 4271 §9.2.2.2).
//!
//! Which entries contribute is noted when their best paths come and go, so that a change costs its own entry only. What
//! the aggregate says follows from counters; only the path of an `as-set` takes a pass over the contributors, which is
//! made by the piece and never twice at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use bgp_wire::{Aggregator, AsPath, Attributes, Community, ExtCommunity, LargeCommunity, Origin, attr};
use hashbrown::HashMap;
use net_types::{Asn, Family, Prefix};
use smallvec::SmallVec;

use super::{
    IdSet, Install, PathAttrs, Rib, Slot,
    attrs::{AttrId, Merit},
    local::{OWN_WEIGHT, ourselves},
    peer::LocalSource,
    state::Shared,
    table::Entry,
};
use crate::policy::Policy;

/// What is configured about an aggregate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AggregateConfig {
    /// Its more specific routes are not announced.
    pub summary_only: bool,
    /// Its path names the ASes of its more specific routes in a set; their communities are united.
    pub as_set: bool,
    /// It is only there while all of them have the same MED.
    pub matching_med_only: bool,
    /// ORIGIN; otherwise the worst of theirs.
    pub origin: Option<Origin>,
    /// What it goes through itself.
    pub policy: Policy,
    /// More specific routes that this permits are not announced.
    pub suppress: Option<Policy>,
}

/// An aggregate and what contributes to it.
#[derive(Debug, Default)]
pub(crate) struct Aggregate {
    config: AggregateConfig,
    contributors: IdSet,
    /// How many of them have each origin, and each MED.
    origins: [u32; 3],
    meds: HashMap<Option<u32>, u32, foldhash::quality::RandomState>,
    /// It has to be worked out again.
    dirty: bool,
    /// A pass over the contributors is under way.
    pass: Option<Pass>,
    /// It is announced, so that suppression holds.
    active: bool,
}

/// What the contributors seen so far have in common, and all that they have.
#[derive(Debug, Default)]
struct Pass {
    next: u32,
    asns: BTreeSet<Asn>,
    communities: BTreeSet<Community>,
    ext_communities: BTreeSet<ExtCommunity>,
    large_communities: BTreeSet<LargeCommunity>,
}

/// The aggregates of a family.
#[derive(Debug, Default)]
pub(crate) struct Aggregates {
    by_prefix: BTreeMap<Prefix, Aggregate>,
    /// Lengths that occur, so that few look-ups find what covers a prefix.
    lengths: Vec<u8>,
}

impl Aggregate {
    fn is_wanted(&self) -> bool {
        !self.contributors.is_empty() && (!self.config.matching_med_only || self.meds.len() == 1)
    }

    fn come(&mut self, id: u32, merit: &Merit) {
        self.contributors.insert(id);
        self.origins[usize::from(merit.origin.min(2))] += 1;
        *self.meds.entry(merit.med).or_default() += 1;
        self.dirty = true;
    }

    fn go(&mut self, id: u32, merit: &Merit) {
        if !self.contributors.remove(id) {
            return;
        }
        self.origins[usize::from(merit.origin.min(2))] -= 1;
        if let Some(count) = self.meds.get_mut(&merit.med) {
            *count -= 1;
            if *count == 0 {
                self.meds.remove(&merit.med);
            }
        }
        self.dirty = true;
    }

    fn origin(&self) -> Origin {
        let [_, egp, incomplete] = self.origins;
        self.config.origin.unwrap_or(match (egp, incomplete) {
            (_, 1..) => Origin::Incomplete,
            (1.., _) => Origin::Egp,
            _ => Origin::Igp,
        })
    }
}

impl Aggregates {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
    }

    /// Prefixes of aggregates that `prefix` is more specific than.
    fn covering(&self, prefix: &Prefix) -> SmallVec<[Prefix; 2]> {
        let lengths = self.lengths.iter().filter(|bits| **bits < prefix.bits());
        let of = |bits: &u8| Prefix::new(prefix.address(), *bits).ok();
        lengths.filter_map(of).filter(|outer| self.by_prefix.contains_key(outer)).collect()
    }

    /// Each is worked out again.
    pub(crate) fn renew(&mut self) {
        self.by_prefix.values_mut().for_each(|aggregate| aggregate.dirty = true);
    }

    /// The best path of an entry changed.
    pub(crate) fn note(&mut self, prefix: &Prefix, id: u32, before: Option<&Merit>, after: Option<&Merit>) {
        for outer in self.covering(prefix) {
            let Some(aggregate) = self.by_prefix.get_mut(&outer) else { continue };
            if let Some(merit) = before {
                aggregate.go(id, merit);
            }
            if let Some(merit) = after {
                aggregate.come(id, merit);
            }
        }
    }

    /// Whether a route is not to be announced because an aggregate stands for it.
    pub(crate) fn suppresses(&self, prefix: &Prefix, attrs: impl Fn() -> PathAttrs) -> bool {
        self.covering(prefix).iter().filter_map(|outer| self.by_prefix.get(outer)).any(|aggregate| {
            let Aggregate { config, active, .. } = aggregate;
            let chosen = || config.suppress.as_ref().is_some_and(|map| map.judge(prefix, &attrs(), None).is_some());
            *active && (config.summary_only || chosen())
        })
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.by_prefix.values().any(|aggregate| aggregate.dirty || aggregate.pass.is_some())
    }
}

/// The slot of aggregates.
pub(crate) fn slot() -> Slot {
    LocalSource::Aggregate.slot()
}

/// The best path of an entry, as far as it may contribute: an aggregate is no part of another.
fn contribution(entry: &Entry) -> Option<AttrId> {
    entry.best().filter(|path| path.source != slot()).and_then(|path| path.effective)
}

impl Rib {
    /// What is aggregated in `family` from now on. What that changes is worked out in [`work`](Self::work).
    pub fn set_aggregates(&mut self, family: Family, configs: BTreeMap<Prefix, AggregateConfig>) {
        let Self { shared, tables, .. } = self;
        let table = &tables[family as usize].table;
        let known = &shared.aggregates[family as usize].by_prefix;
        if known.len() == configs.len()
            && configs.iter().all(|(prefix, config)| known.get(prefix).is_some_and(|known| known.config == *config))
        {
            return;
        }
        let mut before = std::mem::take(&mut shared.aggregates[family as usize]).by_prefix;
        let mut after = BTreeMap::new();
        for (prefix, config) in configs {
            let aggregate = match before.remove(&prefix) {
                Some(known) if known.config == config => known,
                Some(known) => {
                    shared.look_again(family, &known.contributors);
                    Aggregate { config, dirty: true, ..known }
                }
                None => {
                    let mut new = Aggregate { config, ..Aggregate::default() };
                    for (id, entry) in table.entries.iter().enumerate().filter(|(_, entry)| entry.live) {
                        let inner = table.prefix(id as u32);
                        if inner.bits() > prefix.bits()
                            && prefix.covers(&inner)
                            && let Some(attrs) = contribution(entry)
                        {
                            new.come(id as u32, shared.attrs.merit(attrs).0);
                        }
                    }
                    new
                }
            };
            after.insert(prefix, aggregate);
        }
        let mut lengths: Vec<u8> = after.keys().map(Prefix::bits).collect();
        lengths.sort_unstable();
        lengths.dedup();
        shared.aggregates[family as usize] = Aggregates { by_prefix: after, lengths };
        for (prefix, gone) in before {
            self.shared.look_again(family, &gone.contributors);
            self.retract(LocalSource::Aggregate, &prefix);
        }
    }

    /// Whether an aggregate has to be worked out.
    pub(super) fn has_aggregates_to_do(&self) -> bool {
        self.shared.aggregates.iter().any(Aggregates::is_pending)
    }

    /// One step towards an aggregate that is up to date; `false` when all are.
    pub(super) fn aggregate_next(&mut self, now: Instant, family: Family) -> bool {
        let Self { shared, tables, .. } = self;
        let mut all = std::mem::take(&mut shared.aggregates[family as usize]);
        let next = all.by_prefix.iter_mut().find(|(_, aggregate)| aggregate.dirty || aggregate.pass.is_some());
        let Some((prefix, aggregate)) = next else {
            shared.aggregates[family as usize] = all;
            return false;
        };
        let prefix = *prefix;
        if aggregate.pass.is_none() {
            aggregate.dirty = false;
            aggregate.pass = Some(Pass::default());
        }
        let wanted = aggregate.is_wanted();
        let mut done = None;
        if let Some(mut pass) = aggregate.pass.take() {
            let more = wanted && aggregate.config.as_set;
            match aggregate.contributors.next_from(pass.next).filter(|_| more) {
                Some(id) => {
                    pass.next = id + 1;
                    let entry = &tables[family as usize].table.entries[id as usize];
                    if let Some(attrs) = contribution(entry) {
                        pass.add(&shared.attrs.attrs(attrs).attributes);
                    }
                    aggregate.pass = Some(pass);
                }
                None => done = Some(pass),
            }
        }
        let Some(mut pass) = done else {
            shared.aggregates[family as usize] = all;
            return true;
        };
        let own = &self.config;
        if own.reject_as_sets {
            pass.asns.clear(); // RFC 6472 §3: the aggregate says that something is missing, and not what
        }
        let attrs = wanted
            .then(|| pass.attrs(aggregate, family, Aggregator { asn: own.asn, address: own.router_id.get().into() }));
        let attrs =
            attrs.and_then(|attrs| aggregate.config.policy.judge(&prefix, &attrs, Some(LocalSource::Aggregate)));
        let flipped = attrs.is_some() != std::mem::replace(&mut aggregate.active, attrs.is_some());
        if flipped {
            shared.look_again(family, &aggregate.contributors);
        }
        shared.aggregates[family as usize] = all;
        match attrs {
            Some(attrs) => self.originate_as(now, LocalSource::Aggregate, prefix, attrs),
            None => self.retract(LocalSource::Aggregate, &prefix),
        }
        true
    }
}

impl Shared {
    /// Has every group see whether these entries are still to be told, or not.
    pub(super) fn look_again(&mut self, family: Family, entries: &IdSet) {
        for group in self.groups[family as usize].iter_mut().flatten() {
            entries.iter().for_each(|id| group.doubt(id));
        }
    }
}

impl Pass {
    fn add(&mut self, attributes: &Attributes) {
        self.asns.extend(attributes.as_path.asns());
        self.communities.extend(&attributes.communities);
        self.ext_communities.extend(&attributes.ext_communities);
        self.large_communities.extend(&attributes.large_communities);
    }

    fn attrs(self, aggregate: &Aggregate, family: Family, aggregator: Aggregator) -> PathAttrs {
        // A segment holds 255 ASes (RFC 4271 §4.3); of more, the path says as much as fits and that something is missing.
        let (fits, stripped) = (self.asns.len() <= 255, self.asns.is_empty());
        let set = attr::Segment { kind: attr::SegmentKind::Set, asns: self.asns.into_iter().take(255).collect() };
        let attributes = Attributes {
            origin: aggregate.origin(),
            as_path: AsPath::from_segments([set]),
            atomic_aggregate: !aggregate.config.as_set || !fits || stripped,
            aggregator: Some(aggregator),
            communities: self.communities.into_iter().collect(),
            ext_communities: self.ext_communities.into_iter().collect(),
            large_communities: self.large_communities.into_iter().collect(),
            ..Attributes::default()
        };
        let install = Install { blackhole: true, ..Install::default() };
        PathAttrs { attributes, next_hop: ourselves(family), scope: 0, weight: OWN_WEIGHT, install }
    }
}
