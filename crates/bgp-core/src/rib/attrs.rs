//! Attribute sets, each kept once however many prefixes carry it.
//!
//! A path names its set by a number of four octets; the set is freed when the last path lets go of it, so what peers
//! can make us remember is bounded by the paths they may announce. What the decision process compares is worked out
//! once per set and lies beside the number, so that a comparison follows no pointer.

use std::{hash::BuildHasher, net::IpAddr, num::NonZeroU32, sync::Arc};

use bgp_wire::{Attributes, NextHop};
use foldhash::quality::FixedState;
use hashbrown::HashTable;

use super::next_hops::{NextHopId, NextHopKey, NextHops};

/// LOCAL_PREF of a route that carries none: what every vendor assumes.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// Everything about a path that does not depend on its prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathAttrs {
    /// As on the wire.
    pub attributes: Attributes,
    /// Where packets go; unspecified for routes of our own.
    pub next_hop: NextHop,
    /// The interface that a link-local next hop belongs to, 0 otherwise.
    pub scope: u32,
    /// Preference on this router alone; the highest wins before anything else is asked.
    pub weight: u32,
    /// How the route is installed on this router, as far as policy says.
    pub install: Install,
}

/// What policy says of a route that nobody else is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Install {
    /// `set tag`; 0 is none.
    pub tag: u32,
    /// `set distance`: administrative distance.
    pub distance: Option<u8>,
    /// `set table`: the kernel table.
    pub table: Option<u32>,
    /// `set src`: the source address of our own packets.
    pub source: Option<IpAddr>,
}

impl PathAttrs {
    /// What has to be resolved for the path to be usable.
    pub fn next_hop_key(&self) -> NextHopKey {
        NextHopKey { address: self.next_hop.address(), scope: self.scope }
    }
}

/// Names an attribute set in the [`Interner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttrId(NonZeroU32);

/// What the decision process asks of an attribute set (RFC 4271 §9.1.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merit {
    pub(crate) weight: u32,
    pub(crate) local_pref: u32,
    pub(crate) path_len: u32,
    pub(crate) med: Option<u32>,
    /// The neighboring AS, 0 for a path without one.
    pub(crate) neighbor_as: u32,
    /// ORIGINATOR_ID, 0 without one.
    pub(crate) originator: u32,
    pub(crate) clusters: u16,
    pub(crate) origin: u8,
}

impl Merit {
    pub(crate) fn of(attrs: &PathAttrs) -> Self {
        let a = &attrs.attributes;
        Self {
            weight: attrs.weight,
            local_pref: a.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
            path_len: a.as_path.hop_count() as u32,
            med: a.med,
            neighbor_as: a.as_path.first().map_or(0, |asn| asn.get()),
            originator: a.originator_id.map_or(0, u32::from),
            clusters: u16::try_from(a.cluster_list.len()).unwrap_or(u16::MAX),
            origin: a.origin as u8,
        }
    }
}

struct Held {
    attrs: Arc<PathAttrs>,
    merit: Merit,
    uses: u32,
    /// Uses as effective attributes; while there is one, the next hop is tracked.
    active: u32,
    next_hop: Option<NextHopId>,
}

/// Every attribute set in use.
pub(crate) struct Interner {
    held: Vec<Option<Held>>,
    index: HashTable<AttrId>,
    free: Vec<AttrId>,
    hasher: FixedState,
}

impl AttrId {
    fn at(self) -> usize {
        self.0.get() as usize - 1
    }
}

const LIVE: &str = "a path names only sets that it holds";

impl Interner {
    pub(crate) fn new(seed: u64) -> Self {
        Self { held: Vec::new(), index: HashTable::new(), free: Vec::new(), hasher: FixedState::with_seed(seed) }
    }

    /// The number of `attrs`, held once more.
    pub(crate) fn intern(&mut self, attrs: PathAttrs) -> AttrId {
        let Self { held, index, free, hasher } = self;
        let hash = hasher.hash_one(&attrs);
        let same = |id: &AttrId| held[id.at()].as_ref().is_some_and(|h| *h.attrs == attrs);
        if let Some(id) = index.find(hash, same).copied() {
            self.hold(id);
            return id;
        }
        let merit = Merit::of(&attrs);
        let new = Some(Held { attrs: Arc::new(attrs), merit, uses: 1, active: 0, next_hop: None });
        let id = match free.pop() {
            Some(id) => {
                held[id.at()] = new;
                id
            }
            None => {
                held.push(new);
                AttrId(NonZeroU32::MIN.saturating_add(held.len() as u32 - 1))
            }
        };
        index.insert_unique(hash, id, |id| hasher.hash_one(held[id.at()].as_ref().map(|h| &*h.attrs).expect(LIVE)));
        id
    }

    fn get(&self, id: AttrId) -> &Held {
        self.held[id.at()].as_ref().expect(LIVE)
    }

    fn get_mut(&mut self, id: AttrId) -> &mut Held {
        self.held[id.at()].as_mut().expect(LIVE)
    }

    /// Holds `id` once more.
    pub(crate) fn hold(&mut self, id: AttrId) {
        self.get_mut(id).uses += 1;
    }

    /// Holds `id` once more as effective attributes of a path; its next hop is wanted from now on.
    pub(crate) fn activate(&mut self, id: AttrId, next_hops: &mut NextHops) -> NextHopId {
        let held = self.get_mut(id);
        held.uses += 1;
        held.active += 1;
        *held.next_hop.get_or_insert_with(|| next_hops.acquire(held.attrs.next_hop_key()))
    }

    /// The reverse of [`activate`](Self::activate).
    pub(crate) fn deactivate(&mut self, id: AttrId, next_hops: &mut NextHops) {
        let held = self.get_mut(id);
        held.active -= 1;
        if held.active == 0
            && let Some(next_hop) = held.next_hop.take()
        {
            next_hops.release(next_hop);
        }
        self.release(id);
    }

    /// Lets go of `id`; the last one frees the set.
    pub(crate) fn release(&mut self, id: AttrId) {
        let held = self.get_mut(id);
        held.uses -= 1;
        if held.uses > 0 {
            return;
        }
        let hash = self.hasher.hash_one(&*self.get(id).attrs);
        if let Ok(slot) = self.index.find_entry(hash, |other| *other == id) {
            slot.remove();
        }
        self.held[id.at()] = None;
        self.free.push(id);
    }

    /// The set itself.
    pub(crate) fn attrs(&self, id: AttrId) -> &Arc<PathAttrs> {
        &self.get(id).attrs
    }

    /// What the decision process asks of it, and its next hop if it is tracked.
    pub(crate) fn merit(&self, id: AttrId) -> (&Merit, Option<NextHopId>) {
        let held = self.get(id);
        (&held.merit, held.next_hop)
    }

    /// Sets in use.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
}
