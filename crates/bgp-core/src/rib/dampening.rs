//! Route flap dampening (RFC 2439), with FRR's figures: what is withdrawn again and again is not used for a while.
//!
//! A path of an external peer that is withdrawn, or announced with other attributes, collects a penalty that halves with
//! time. Above one limit the path is refused, as by policy; below another it is let in again; below half of that it is
//! forgotten. What is kept stands beside the table, for paths that have flapped and for no others, and is bounded.
//!
//! Departure from the RFC: none of its arrays; the decay is computed, and due times are kept in order. As in FRR, the end of
//! a session is no flap.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use net_types::{Family, Prefix};

use super::{Path, PathAttrs, Rib, Slot, Source, attrs::AttrId, state::Shared};
use crate::{PeerId, decision::SourceKind};

/// What a withdrawal costs (RFC 2439 §4.2 leaves the unit open; this is everybody's).
const WITHDRAWAL: f64 = 1000.0;
/// What other attributes cost.
const CHANGE: f64 = 500.0;
/// Paths of a family that are remembered: what flaps beyond that goes unpunished.
const MOST_FLAPS: usize = 262_144;

/// `bgp dampening HALF-LIFE REUSE SUPPRESS MAX-SUPPRESS`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dampening {
    /// The time in which a penalty halves; not zero.
    pub half_life: Duration,
    /// A path is used again below this penalty.
    pub reuse: u32,
    /// A path is not used from this penalty on.
    pub suppress: u32,
    /// A path is suppressed for no longer than this after it was last seen to flap.
    pub max_suppress: Duration,
}

impl Dampening {
    /// The highest penalty there is: one that decays to `reuse` within `max_suppress` (RFC 2439 §4.2, "ceiling").
    pub fn ceiling(&self) -> u32 {
        let ratio = self.max_suppress.as_secs_f64() / self.half_life.as_secs_f64();
        (f64::from(self.reuse) * ratio.exp2()) as u32 // saturates
    }

    /// What is left of `penalty` after `time`.
    fn decayed(&self, penalty: f64, time: Duration) -> f64 {
        penalty * (-time.as_secs_f64() / self.half_life.as_secs_f64()).exp2()
    }

    /// How long `penalty` takes to fall below `limit`, in whole seconds, so that many fall due together.
    fn until(&self, penalty: f64, limit: f64) -> Duration {
        let halvings = (penalty / limit.max(1.0)).log2().max(0.0);
        let seconds = (halvings * self.half_life.as_secs_f64()).ceil();
        Duration::from_secs(seconds as u64 + 1)
    }
}

/// Which path: prefix, source, and our number for what the source calls it.
type Key = (Prefix, Slot, u32);

/// What is known of a path that has flapped.
struct Flap {
    penalty: f64,
    /// When the penalty was that.
    at: Instant,
    count: u32,
    since: Instant,
    suppressed: bool,
    /// When it is to be looked at.
    due: Instant,
    /// The attributes that it came with last, held.
    last: AttrId,
}

/// The paths of one family that have flapped.
pub(crate) struct Flaps {
    config: Dampening,
    flaps: HashMap<Key, Flap, FixedState>,
    due: BTreeSet<(Instant, Key)>,
}

impl Flaps {
    fn new(config: Dampening, seed: u64) -> Self {
        Self { config, flaps: HashMap::with_hasher(FixedState::with_seed(seed)), due: BTreeSet::new() }
    }

    /// Adds to the penalty of a path. The attributes that take the place of `last` in its record, or `last` itself where
    /// there is no room for one: to be let go of by the caller.
    fn punish(&mut self, now: Instant, key: Key, penalty: f64, last: AttrId) -> (Option<AttrId>, bool) {
        let Self { config, flaps, due } = self;
        let new = !flaps.contains_key(&key);
        if new && flaps.len() >= MOST_FLAPS {
            return (Some(last), false);
        }
        let flap = flaps.entry(key).or_insert(Flap {
            penalty: 0.0,
            at: now,
            count: 0,
            since: now,
            suppressed: false,
            due: now,
            last,
        });
        let old = (!new).then(|| std::mem::replace(&mut flap.last, last));
        let ceiling = f64::from(config.ceiling());
        flap.penalty = (config.decayed(flap.penalty, now.saturating_duration_since(flap.at)) + penalty).min(ceiling);
        flap.at = now;
        flap.count = flap.count.saturating_add(1);
        flap.suppressed |= flap.penalty >= f64::from(config.suppress);
        schedule(config, due, key, flap, now);
        (old, new)
    }

    fn is_suppressed(&self, key: &Key) -> bool {
        self.flaps.get(key).is_some_and(|flap| flap.suppressed)
    }

    /// A path whose time has come: whether it is used again, and the attributes held of one that is forgotten.
    fn pop(&mut self, now: Instant) -> Option<(Key, Due)> {
        let Self { config, flaps, due } = self;
        let (at, key) = *due.first()?;
        if at > now {
            return None;
        }
        due.remove(&(at, key));
        let flap = flaps.get_mut(&key)?;
        if flap.suppressed {
            flap.suppressed = false;
            schedule(config, due, key, flap, now);
            return Some((key, Due::Reuse));
        }
        let last = flap.last;
        flaps.remove(&key);
        Some((key, Due::Forgotten(last)))
    }

    fn remove(&mut self, key: &Key) -> Option<Flap> {
        let flap = self.flaps.remove(key)?;
        self.due.remove(&(flap.due, *key));
        Some(flap)
    }
}

/// When a path is to be looked at next: to be used again, or to be forgotten.
fn schedule(config: &Dampening, due: &mut BTreeSet<(Instant, Key)>, key: Key, flap: &mut Flap, now: Instant) {
    due.remove(&(flap.due, key));
    let limit = f64::from(config.reuse) / if flap.suppressed { 1.0 } else { 2.0 };
    let penalty = config.decayed(flap.penalty, now.saturating_duration_since(flap.at));
    flap.due = now + config.until(penalty, limit);
    due.insert((flap.due, key));
}

/// What is due.
enum Due {
    Reuse,
    Forgotten(AttrId),
}

/// Dampening in both unicast families, and paths that are to be let in because it has changed.
#[derive(Default)]
pub(crate) struct Released {
    keys: VecDeque<Key>,
    /// More is due at the time of the last piece of work.
    pub(super) overdue: bool,
}

impl Released {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// A path that has flapped, as it is shown.
#[derive(Clone, Debug)]
pub struct FlapView {
    /// Its prefix.
    pub prefix: Prefix,
    /// Who announced it.
    pub peer: PeerId,
    /// The penalty now.
    pub penalty: u32,
    /// How often it was withdrawn, or came with other attributes.
    pub count: u32,
    /// Since when that is counted.
    pub since: Duration,
    /// How long until it may be used; `None` while it is not suppressed.
    pub reuse_in: Option<Duration>,
    /// Nobody announces it now.
    pub withdrawn: bool,
    /// With which attributes it came last.
    pub attrs: PathAttrs,
}

impl Shared {
    /// Whether dampening keeps a path from being used.
    pub(super) fn is_damped(&self, prefix: &Prefix, source: Slot, number: u32) -> bool {
        let flaps = self.dampening[prefix.family() as usize].as_ref();
        flaps.is_some_and(|flaps| flaps.is_suppressed(&(*prefix, source, number)))
    }

    /// Whether the paths of a source can be dampened.
    pub(super) fn dampens(&self, family: Family, source: Slot) -> bool {
        self.dampening[family as usize].is_some() && self.peer(source).kind == SourceKind::External
    }

    /// Notes that `path` for `prefix` is withdrawn, or replaced by one with other attributes.
    pub(super) fn flapped(&mut self, now: Instant, prefix: Prefix, path: &Path, withdrawn: bool) {
        let family = prefix.family();
        let Some(flaps) = &mut self.dampening[family as usize] else { return };
        let key = (prefix, path.source, path.id);
        self.attrs.hold(path.received);
        let penalty = if withdrawn { WITHDRAWAL } else { CHANGE };
        let (old, new) = flaps.punish(now, key, penalty, path.received);
        if let Some(old) = old {
            self.attrs.release(old);
        }
        if new {
            self.path_ids.hold_again(path.id); // what the source calls it means the same as long as it is remembered
        }
    }
}

impl Rib {
    /// Turns dampening of a family on or off. As in FRR, other figures begin with an empty record.
    pub fn set_dampening(&mut self, family: Family, config: Option<Dampening>) {
        let known = &mut self.shared.dampening[family as usize];
        if known.as_ref().map(|flaps| flaps.config) == config {
            return;
        }
        let seed = self.config.hash_seed ^ 6;
        let old = std::mem::replace(known, config.map(|config| Box::new(Flaps::new(config, seed))));
        for (key, flap) in old.into_iter().flat_map(|old| old.flaps) {
            self.let_in(key, flap.suppressed, flap.last);
        }
    }

    /// Forgets what has flapped (`clear ip bgp dampening`): one prefix, or all. How many paths that were.
    pub fn clear_dampening(&mut self, family: Family, prefix: Option<&Prefix>) -> usize {
        self.forget_flaps(family, |(of, ..)| prefix.is_none_or(|prefix| prefix == of))
    }

    /// Forgets what a peer is remembered for: it is no longer configured, and its place may become another's.
    pub(super) fn forgive(&mut self, slot: Slot) {
        for family in Family::UNICAST {
            self.forget_flaps(family, |(_, source, _)| *source == slot);
        }
    }

    fn forget_flaps(&mut self, family: Family, which: impl Fn(&Key) -> bool) -> usize {
        let Some(flaps) = &mut self.shared.dampening[family as usize] else { return 0 };
        let keys: Vec<Key> = flaps.flaps.keys().filter(|key| which(key)).copied().collect();
        let gone: Vec<(Key, Flap)> = keys.iter().filter_map(|key| Some((*key, flaps.remove(key)?))).collect();
        let count = gone.len();
        for (key, flap) in gone {
            self.let_in(key, flap.suppressed, flap.last);
        }
        count
    }

    /// The record of a path is gone.
    fn let_in(&mut self, key: Key, suppressed: bool, last: AttrId) {
        self.shared.attrs.release(last);
        self.shared.path_ids.release(key.2);
        if suppressed {
            self.released.keys.push_back(key);
        }
    }

    /// The figures in force.
    pub fn dampening(&self, family: Family) -> Option<Dampening> {
        self.shared.dampening[family as usize].as_ref().map(|flaps| flaps.config)
    }

    /// What dampening knows of a path of a peer; `path_id` is what the peer calls it, if it tells several apart.
    pub fn flap(&self, now: Instant, prefix: &Prefix, peer: PeerId, path_id: Option<u32>) -> Option<FlapView> {
        let slot = self.slot(peer)?;
        let number = path_id.map_or(Some(0), |theirs| self.shared.path_ids.find(slot, theirs))?;
        let flaps = self.shared.dampening[prefix.family() as usize].as_ref()?;
        self.flap_view(now, flaps, &(*prefix, slot, number))
    }

    /// All paths that have flapped, in order.
    pub fn flaps(&self, now: Instant, family: Family) -> Vec<FlapView> {
        let Some(flaps) = &self.shared.dampening[family as usize] else { return Vec::new() };
        let mut keys: Vec<&Key> = flaps.flaps.keys().collect();
        keys.sort_unstable();
        keys.into_iter().filter_map(|key| self.flap_view(now, flaps, key)).collect()
    }

    fn flap_view(&self, now: Instant, flaps: &Flaps, key: &Key) -> Option<FlapView> {
        let (flap, (prefix, source, number)) = (flaps.flaps.get(key)?, key);
        let peer = self.shared.peer(*source);
        let Source::Peer(id) = peer.source else { return None };
        let table = &self.tables[prefix.family() as usize].table;
        let entry = table.find(prefix).map(|id| &table.entries[id as usize]);
        let there = entry.and_then(|entry| Some(entry.paths[entry.position(*source, *number)?]));
        Some(FlapView {
            prefix: *prefix,
            peer: id,
            penalty: flaps.config.decayed(flap.penalty, now.saturating_duration_since(flap.at)) as u32,
            count: flap.count,
            since: now.saturating_duration_since(flap.since),
            reuse_in: flap.suppressed.then(|| flap.due.saturating_duration_since(now)),
            withdrawn: there.is_none_or(|path| path.epoch != peer.epoch),
            attrs: self.shared.attrs.attrs(flap.last),
        })
    }

    /// One path that is due, or was let in; `false` when there is none.
    pub(super) fn undamp_next(&mut self, now: Instant) -> bool {
        if let Some(key) = self.released.keys.pop_front() {
            self.undamp(key);
            return true;
        }
        for family in Family::UNICAST {
            let due = self.shared.dampening[family as usize].as_mut().and_then(|flaps| flaps.pop(now));
            match due {
                Some((key, Due::Reuse)) => self.undamp(key),
                Some((key, Due::Forgotten(last))) => self.let_in(key, false, last),
                None => continue,
            }
            return true;
        }
        false
    }

    /// Asks policy about a path that dampening has kept out.
    fn undamp(&mut self, (prefix, source, number): Key) {
        let family = prefix.family();
        let table = &self.tables[family as usize].table;
        let Some(id) = table.find(&prefix) else { return };
        let entry = &table.entries[id as usize];
        if let Some(path) = entry.position(source, number).map(|at| entry.paths[at]) {
            self.reevaluate(family, id, path);
        }
    }

    /// When the next path is due.
    pub(super) fn dampening_due(&self) -> Option<Instant> {
        let all = self.shared.dampening.iter().flatten();
        all.filter_map(|flaps| flaps.due.first().map(|(at, _)| *at)).min()
    }
}
