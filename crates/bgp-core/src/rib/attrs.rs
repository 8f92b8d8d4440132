//! Attribute sets, each kept once however many prefixes carry it.
//!
//! A path names its set by a number of four octets; the set is freed when the last path lets go of it, so what peers
//! can make us remember is bounded by the paths they may announce. What the decision process compares is worked out
//! once per set and lies beside the number, so that a comparison follows no pointer.
//!
//! A set is kept as octets ([`Attributes::pack`]), a fifth of what the value with its lists takes: a full table has
//! hundreds of thousands. Whoever wants the value unpacks it, which happens once for all prefixes of a set.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
};

use bgp_wire::{Attributes, Community, ExtCommunity, NextHop};
use hash_index::{Hashed, Index};

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
    /// Packets are dropped: an aggregate, or a blackhole that a neighbor asked for (RFC 7999).
    pub blackhole: bool,
}

/// In what way a route goes into the kernel, as far as policy says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// `set table`: into this table.
    pub table: Option<u32>,
    /// `set src`: packets of our own are sent from this address.
    pub source: Option<IpAddr>,
    /// `set distance`: administrative distance; 255 keeps the route out.
    pub distance: Option<u8>,
}

impl Placement {
    pub(crate) fn of(install: &Install) -> Self {
        Self { table: install.table, source: install.source, distance: install.distance }
    }
}

impl PathAttrs {
    /// What has to be resolved for the path to be usable.
    pub fn next_hop_key(&self) -> NextHopKey {
        NextHopKey { address: self.next_hop.address(), scope: self.scope }
    }
}

/// What stands before the attributes of a packed set: which of the rest is there.
mod head {
    pub(super) const V6: u8 = 1;
    pub(super) const LINK_LOCAL: u8 = 2;
    pub(super) const SCOPE: u8 = 4;
    pub(super) const WEIGHT: u8 = 8;
    pub(super) const INSTALL: u8 = 16;
}

impl PathAttrs {
    /// Appends everything as octets; equal values give equal octets.
    fn pack(&self, out: &mut Vec<u8>) {
        let Self { attributes, next_hop, scope, weight, install } = self;
        let (kind, link_local) = match next_hop {
            NextHop::V4(_) => (0, None),
            NextHop::V6 { link_local, .. } => (head::V6, *link_local),
        };
        let mark = |there: bool, bit: u8| if there { bit } else { 0 };
        let installed = *install != Install::default();
        out.push(
            kind | mark(link_local.is_some(), head::LINK_LOCAL)
                | mark(*scope != 0, head::SCOPE)
                | mark(*weight != 0, head::WEIGHT)
                | mark(installed, head::INSTALL),
        );
        match next_hop {
            NextHop::V4(address) => out.extend_from_slice(&address.octets()),
            NextHop::V6 { global, .. } => out.extend_from_slice(&global.octets()),
        }
        if let Some(link_local) = link_local {
            out.extend_from_slice(&link_local.octets());
        }
        for number in [scope, weight].into_iter().filter(|number| **number != 0) {
            out.extend_from_slice(&number.to_be_bytes());
        }
        if installed {
            install.pack(out);
        }
        attributes.pack(out);
    }

    /// What [`pack`](Self::pack) wrote.
    fn unpack(packed: &[u8]) -> Self {
        let (next_hop, scope, weight, mut rest) = unpack_head(packed);
        let install = match packed.first().is_some_and(|head| head & head::INSTALL != 0) {
            true => Install::unpack(&mut rest),
            false => Install::default(),
        };
        Self { attributes: Attributes::unpack(rest), next_hop, scope, weight, install }
    }
}

impl Install {
    fn pack(&self, out: &mut Vec<u8>) {
        let Self { tag, distance, table, source, blackhole } = self;
        out.extend_from_slice(&tag.to_be_bytes());
        out.push(u8::from(*blackhole));
        out.extend_from_slice(&[u8::from(distance.is_some()), distance.unwrap_or(0), u8::from(table.is_some())]);
        out.extend_from_slice(&table.unwrap_or(0).to_be_bytes());
        match source {
            None => out.push(0),
            Some(IpAddr::V4(address)) => {
                out.push(4);
                out.extend_from_slice(&address.octets());
            }
            Some(IpAddr::V6(address)) => {
                out.push(6);
                out.extend_from_slice(&address.octets());
            }
        }
    }

    fn unpack(rest: &mut &[u8]) -> Self {
        let tag = u32::from_be_bytes(take(rest));
        let [blackhole] = take(rest);
        let [has_distance, distance, has_table] = take(rest);
        let table = u32::from_be_bytes(take(rest));
        let source = match take(rest) {
            [4] => Some(take::<4>(rest).into()),
            [6] => Some(take::<16>(rest).into()),
            _ => None,
        };
        Self {
            tag,
            distance: (has_distance != 0).then_some(distance),
            table: (has_table != 0).then_some(table),
            source,
            blackhole: blackhole != 0,
        }
    }
}

/// Next hop, scope and weight of a packed set, and the rest, still packed.
fn unpack_head(packed: &[u8]) -> (NextHop, u32, u32, &[u8]) {
    let mut rest = packed;
    let [head] = take::<1>(&mut rest);
    let next_hop = match head & head::V6 {
        0 => NextHop::V4(Ipv4Addr::from(take::<4>(&mut rest))),
        _ => {
            let global = Ipv6Addr::from(take::<16>(&mut rest));
            let link_local = (head & head::LINK_LOCAL != 0).then(|| Ipv6Addr::from(take::<16>(&mut rest)));
            NextHop::V6 { global, link_local }
        }
    };
    let mut number = |bit: u8| if head & bit == 0 { 0 } else { u32::from_be_bytes(take::<4>(&mut rest)) };
    let (scope, weight) = (number(head::SCOPE), number(head::WEIGHT));
    (next_hop, scope, weight, rest)
}

fn next_hop_key(packed: &[u8]) -> NextHopKey {
    let (next_hop, scope, ..) = unpack_head(packed);
    NextHopKey { address: next_hop.address(), scope }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (taken, later) = rest.split_first_chunk::<N>().expect("a set is unpacked as it was packed");
    *rest = later;
    *taken
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
    /// Member ASes of the confederation on the path, which are no part of its length.
    pub(crate) confed_len: u16,
    pub(crate) origin: u8,
    pub(crate) blackhole: bool,
    /// Policy says in what way the route goes into the kernel; [`Install`] has it.
    pub(crate) placed: bool,
    /// LLGR_STALE: the last resort, whoever says so (RFC 9494 §4.3).
    pub(crate) long_lived_stale: bool,
    /// Came through a tunnel into our AS, as an internal peer says.
    pub(crate) through_tunnel: bool,
    /// And was lost there.
    pub(crate) tunnel_lost: bool,
    /// NO_LLGR: not to be used once the restart time is over (RFC 9494 §4.2).
    pub(crate) never_long_lived: bool,
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
            confed_len: u16::try_from(a.as_path.confed_count()).unwrap_or(u16::MAX),
            origin: a.origin as u8,
            blackhole: attrs.install.blackhole,
            placed: Placement::of(&attrs.install) != Placement::default(),
            long_lived_stale: a.communities.contains(&Community::LLGR_STALE),
            through_tunnel: a.ext_communities.contains(&ExtCommunity::THROUGH_TUNNEL),
            tunnel_lost: a.ext_communities.contains(&ExtCommunity::TUNNEL_LOST),
            never_long_lived: a.communities.contains(&Community::NO_LLGR),
        }
    }
}

struct Held {
    packed: Box<[u8]>,
    hash: Hashed,
    merit: Merit,
    /// Uses other than those counted by `active`.
    uses: u32,
    /// Uses as effective attributes; while there is one, the next hop is tracked.
    active: u32,
    next_hop: Option<NextHopId>,
}

/// Every attribute set in use.
pub(crate) struct Interner {
    held: Vec<Option<Held>>,
    index: Index,
    free: Vec<AttrId>,
    /// Where sets are packed before it is known whether they are new.
    scratch: Vec<u8>,
}

impl AttrId {
    /// The set at a place.
    fn of(at: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(at))
    }

    fn at(self) -> usize {
        self.0.get() as usize - 1
    }
}

const LIVE: &str = "a path names only sets that it holds";

impl Interner {
    pub(crate) fn new(seed: u64) -> Self {
        Self { held: Vec::new(), index: Index::new(seed), free: Vec::new(), scratch: Vec::new() }
    }

    /// The number of `attrs`, held once more.
    pub(crate) fn intern(&mut self, attrs: &PathAttrs) -> AttrId {
        let Self { held, index, free, scratch } = self;
        scratch.clear();
        attrs.pack(scratch);
        let hash = index.hash(&scratch[..]);
        let same = |at: u32| held[at as usize].as_ref().is_some_and(|h| *h.packed == scratch[..]);
        if let Some(at) = index.find(hash, same) {
            let id = AttrId::of(at);
            self.hold(id);
            return id;
        }
        let packed = scratch.as_slice().into();
        let new = Some(Held { packed, hash, merit: Merit::of(attrs), uses: 1, active: 0, next_hop: None });
        let id = match free.pop() {
            Some(id) => {
                held[id.at()] = new;
                id
            }
            None => {
                held.push(new);
                AttrId::of(held.len() as u32 - 1)
            }
        };
        index.insert(hash, id.at() as u32);
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
        held.active += 1;
        *held.next_hop.get_or_insert_with(|| next_hops.acquire(next_hop_key(&held.packed)))
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
        self.free_if_unused(id);
    }

    /// Lets go of `id`; the last one frees the set.
    pub(crate) fn release(&mut self, id: AttrId) {
        self.get_mut(id).uses -= 1;
        self.free_if_unused(id);
    }

    fn free_if_unused(&mut self, id: AttrId) {
        let held = self.get(id);
        if held.uses > 0 || held.active > 0 {
            return;
        }
        self.index.remove(held.hash, id.at() as u32);
        self.held[id.at()] = None;
        self.free.push(id);
    }

    /// The set itself, made anew.
    pub(crate) fn attrs(&self, id: AttrId) -> PathAttrs {
        PathAttrs::unpack(&self.get(id).packed)
    }

    /// The next hop that it names.
    pub(crate) fn next_hop(&self, id: AttrId) -> NextHop {
        unpack_head(&self.get(id).packed).0
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

#[cfg(test)]
mod tests {
    use bgp_wire::Community;

    use super::*;

    fn sets() -> Vec<PathAttrs> {
        let v4 = NextHop::V4(Ipv4Addr::new(192, 0, 2, 1));
        let [global, link_local]: [Ipv6Addr; 2] = ["2001:db8::1", "fe80::1"].map(|text| text.parse().unwrap());
        let v6 = |link_local| NextHop::V6 { global, link_local };
        let attributes = Attributes { communities: vec![Community(7)], ..Attributes::default() };
        let set = |next_hop, scope, weight| PathAttrs {
            attributes: attributes.clone(),
            next_hop,
            scope,
            weight,
            install: Install::default(),
        };
        let install =
            Install { tag: 7, distance: Some(0), table: Some(100), source: Some(global.into()), blackhole: true };
        let tagged = Install { tag: 1, ..Install::default() };
        let mut sets = vec![
            set(v4, 0, 0),
            set(v4, 0, 9),
            set(v6(None), 0, 0),
            set(v6(Some(link_local)), 3, 0),
            set(v6(None), 3, 9),
        ];
        sets.extend([install, tagged].map(|install| PathAttrs { install, ..set(v4, 0, 9) }));
        sets
    }

    #[test]
    fn sets_come_back_as_they_were_and_equal_ones_have_one_number() {
        let mut interner = Interner::new(5);
        let ids: Vec<_> = sets().iter().map(|set| interner.intern(set)).collect();
        for (id, set) in ids.iter().zip(sets()) {
            assert_eq!(interner.attrs(*id), set);
            assert_eq!(interner.intern(&set), *id);
        }
        assert_eq!(interner.len(), sets().len());
        for id in ids {
            interner.release(id);
            interner.release(id);
        }
        assert_eq!(interner.len(), 0);
    }
}
