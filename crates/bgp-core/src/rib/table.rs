//! The prefixes of one family and the paths known for each.
//!
//! An entry is found by hash (the hot operation is an exact match) and named by its number, which is what sets of
//! entries hold. Keys and entries lie in plain vectors, in order of arrival. Nothing here is kept in prefix order: a walk in order sorts a
//! copy of the keys (eight octets each for IPv4) when somebody asks, instead of every update paying for it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use hash_index::{Hashed, Index};
use net_types::{Family, Prefix, Rd};
use smallvec::SmallVec;

use super::{attrs::AttrId, peer::Slot};

/// One path: what one source says about one prefix. Twenty octets; a million prefixes have millions of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Who says it.
    pub(crate) source: Slot,
    /// The source's epoch when it last said it; an older one than the source's own is stale or a ghost.
    pub(crate) epoch: u16,
    /// Attributes as received.
    pub(crate) received: AttrId,
    /// Attributes after import policy; `None` if policy or a loop check refused the path.
    pub(crate) effective: Option<AttrId>,
    /// Seconds after the table was made.
    pub(crate) learned: u32,
    /// Which of several that its source tells for the prefix, by [`PathIds`](super::path_ids::PathIds); 0 where the
    /// source tells one.
    pub(crate) id: u32,
}

/// What is known about one prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// The best path first, behind it those that share its packets, `sharing` in all; then the alternate if
    /// `has_alternate`, and the others in no order.
    pub(crate) paths: SmallVec<[Path; 2]>,
    /// How many groups were told of it, and how many members behind their group have something of it; it may not be
    /// forgotten before all were told.
    pub(crate) sent: u32,
    pub(crate) sharing: u8,
    pub(crate) has_alternate: bool,
    /// Some path came over a protected peer: with nothing usable left, drop rather than leak.
    pub(crate) protect: bool,
    /// In use; a number that is not waits in the free list.
    pub(crate) live: bool,
}

impl Entry {
    /// The best path.
    pub(crate) fn best(&self) -> Option<&Path> {
        self.sharing().first()
    }

    /// The best path and those that share its packets; none without a best path.
    pub(crate) fn sharing(&self) -> &[Path] {
        self.paths.get(..usize::from(self.sharing)).unwrap_or_default()
    }

    /// The alternate.
    pub(crate) fn alternate(&self) -> Option<&Path> {
        self.paths.get(usize::from(self.sharing)).filter(|_| self.has_alternate)
    }

    /// Where the path of `source` with this number is.
    pub(crate) fn position(&self, source: Slot, id: u32) -> Option<usize> {
        self.paths.iter().position(|path| (path.source, path.id) == (source, id))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key4(u32, u8);
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key6([u32; 4], u8);

/// A prefix of a VPN: what it is without the distinguisher, and that.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct KeyVpn<K>(K, Rd);

enum Keys {
    V4(Vec<Key4>),
    V6(Vec<Key6>),
    Vpn4(Vec<KeyVpn<Key4>>),
    Vpn6(Vec<KeyVpn<Key6>>),
}

/// What every kind of key is: found by hash, marked as free, and turned back into a prefix.
trait Key: Copy + Eq + std::hash::Hash + Into<Prefix> {
    fn of(prefix: &Prefix) -> Option<Self>;
    fn is_free(&self) -> bool;
    fn free(&mut self);
    /// The first sixteen bits of the address.
    fn first_bits(&self) -> u16;
}

impl Key for Key4 {
    fn of(prefix: &Prefix) -> Option<Self> {
        key4(prefix).filter(|_| prefix.is_plain())
    }

    fn is_free(&self) -> bool {
        self.1 == FREE
    }

    fn free(&mut self) {
        self.1 = FREE;
    }

    fn first_bits(&self) -> u16 {
        (self.0 >> 16) as u16
    }
}

impl Key for Key6 {
    fn of(prefix: &Prefix) -> Option<Self> {
        key6(prefix).filter(|_| prefix.is_plain())
    }

    fn is_free(&self) -> bool {
        self.1 == FREE
    }

    fn free(&mut self) {
        self.1 = FREE;
    }

    fn first_bits(&self) -> u16 {
        (self.0[0] >> 16) as u16
    }
}

impl<K: Key> Key for KeyVpn<K> {
    fn of(prefix: &Prefix) -> Option<Self> {
        Some(Self(K::of(&prefix.plain())?, prefix.rd()?))
    }

    fn is_free(&self) -> bool {
        self.0.is_free()
    }

    fn free(&mut self) {
        self.0.free();
    }

    fn first_bits(&self) -> u16 {
        self.0.first_bits()
    }
}

impl<K: Key> From<KeyVpn<K>> for Prefix {
    fn from(KeyVpn(key, rd): KeyVpn<K>) -> Self {
        key.into().in_vpn(rd)
    }
}

/// The same for every kind of key.
macro_rules! with_keys {
    ($all:expr, $keys:ident => $what:expr) => {
        match $all {
            Keys::V4($keys) => $what,
            Keys::V6($keys) => $what,
            Keys::Vpn4($keys) => $what,
            Keys::Vpn6($keys) => $what,
        }
    };
}

impl From<Key4> for Prefix {
    fn from(Key4(address, bits): Key4) -> Self {
        Self::new(Ipv4Addr::from(address).into(), bits).unwrap_or(Self::DEFAULT_V4)
    }
}

impl From<Key6> for Prefix {
    fn from(Key6([a, b, c, d], bits): Key6) -> Self {
        let address = u128::from(a) << 96 | u128::from(b) << 64 | u128::from(c) << 32 | u128::from(d);
        Self::new(Ipv6Addr::from(address).into(), bits).unwrap_or(Self::DEFAULT_V6)
    }
}

fn key4(prefix: &Prefix) -> Option<Key4> {
    match prefix.address() {
        IpAddr::V4(address) => Some(Key4(address.into(), prefix.bits())),
        IpAddr::V6(_) => None,
    }
}

fn key6(prefix: &Prefix) -> Option<Key6> {
    match prefix.address() {
        IpAddr::V6(address) => {
            let a = u128::from(address);
            Some(Key6([(a >> 96) as u32, (a >> 64) as u32, (a >> 32) as u32, a as u32], prefix.bits()))
        }
        IpAddr::V4(_) => None,
    }
}

/// Prefixes that are looked up together.
pub(crate) const LOOKUPS: usize = 32;

/// The length of a key that names no prefix: its entry is free.
const FREE: u8 = u8::MAX;

/// Every prefix of one family.
pub(crate) struct Table {
    index: Index,
    keys: Keys,
    pub(crate) entries: Vec<Entry>,
    free: Vec<u32>,
    /// How many entries have each length, so that a longest-match lookup tries only lengths that exist.
    lengths: Box<[u32; 129]>,
}

impl Table {
    /// An empty table; peers choose the keys, so `seed` should not be guessable.
    pub(crate) fn new(family: Family, seed: u64) -> Self {
        Self {
            index: Index::new(seed),
            keys: match family {
                Family::Ipv4Unicast => Keys::V4(Vec::new()),
                Family::Ipv6Unicast => Keys::V6(Vec::new()),
                Family::Ipv4Vpn => Keys::Vpn4(Vec::new()),
                Family::Ipv6Vpn => Keys::Vpn6(Vec::new()),
            },
            entries: Vec::new(),
            free: Vec::new(),
            lengths: Box::new([0; 129]),
        }
    }

    /// Prefixes in the table.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// The number of `prefix`'s entry.
    pub(crate) fn find(&self, prefix: &Prefix) -> Option<u32> {
        with_keys!(&self.keys, keys => {
            let key = of_kind(keys, prefix)?;
            self.index.find(self.index.hash(&key), |id| keys[id as usize] == key)
        })
    }

    /// To be called with prefixes that will be looked up in a moment.
    pub(crate) fn look_ahead<'a>(&self, prefixes: impl Iterator<Item = &'a Prefix>) {
        with_keys!(&self.keys, keys => self.index.look_ahead(prefixes.filter_map(|prefix| of_kind(keys, prefix))));
    }

    /// The numbers of the entries of a few prefixes, in order.
    pub(crate) fn find_all(&self, prefixes: &[Prefix]) -> SmallVec<[Option<u32>; LOOKUPS]> {
        with_keys!(&self.keys, keys => {
            let hashed = |prefix| of_kind(keys, prefix).map(|key| (key, self.index.hash(&key)));
            let hashed: SmallVec<[_; LOOKUPS]> = prefixes.iter().map(hashed).collect();
            // Before anything is compared, so that they wait for memory together.
            let first = |(_, hash): (_, Hashed)| self.index.first(hash);
            let first: SmallVec<[Option<u32>; LOOKUPS]> = hashed.iter().map(|it| it.and_then(first)).collect();
            let confirm = |(it, first): (&Option<_>, Option<u32>)| {
                let (key, hash) = (*it)?;
                let same = |id: u32| keys[id as usize] == key;
                if same(first?) { first } else { self.index.find(hash, same) }
            };
            hashed.iter().zip(first).map(confirm).collect()
        })
    }

    /// The number of `prefix`'s entry, which is made if need be. `None` if the prefix is of another family.
    pub(crate) fn find_or_insert(&mut self, prefix: &Prefix) -> Option<u32> {
        let Self { index, keys, entries, free, lengths } = self;
        let id = with_keys!(keys, keys => {
            let key = of_kind(keys, prefix)?;
            insert(index, keys, entries, free, key)
        });
        let entry = &mut entries[id as usize];
        if !entry.live {
            entry.live = true;
            lengths[usize::from(prefix.bits())] += 1;
        }
        Some(id)
    }

    /// Forgets entries that hold nothing any more; their numbers will name other prefixes.
    pub(crate) fn forget(&mut self, ids: &[u32]) {
        for ids in ids.chunks(LOOKUPS) {
            let hash = |id: &u32| with_keys!(&self.keys, keys => self.index.hash(&keys[*id as usize]));
            let hashes: SmallVec<[Hashed; LOOKUPS]> = ids.iter().map(hash).collect();
            // Found first and taken out then: lookups wait for memory together.
            std::hint::black_box(hashes.iter().filter_map(|hash| self.index.first(*hash)).count());
            for (id, hash) in ids.iter().copied().zip(hashes) {
                if self.index.remove(hash, id) {
                    self.lengths[usize::from(self.prefix(id).bits())] -= 1;
                    self.entries[id as usize] = Entry::default();
                    with_keys!(&mut self.keys, keys => keys[id as usize].free());
                    self.free.push(id);
                }
            }
        }
    }

    /// Whether a new prefix takes no more room than there is.
    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// The prefix of an entry.
    pub(crate) fn prefix(&self, id: u32) -> Prefix {
        with_keys!(&self.keys, keys => keys[id as usize].into())
    }

    /// The longest prefix that contains `address` and whose entry satisfies `wanted`.
    pub(crate) fn longest_match(&self, address: IpAddr, wanted: impl Fn(&Entry) -> bool) -> Option<u32> {
        let max: u8 = if address.is_ipv4() { 32 } else { 128 };
        (0..=max)
            .rev()
            .filter(|bits| self.lengths[usize::from(*bits)] > 0)
            .filter_map(|bits| self.find(&Prefix::new(address, bits).ok()?))
            .find(|id| wanted(&self.entries[*id as usize]))
    }

    /// Every prefix within `within` whose first sixteen bits are in `part`, in no order.
    pub(crate) fn prefixes(&self, within: Prefix, part: RangeInclusive<u16>) -> impl Iterator<Item = Prefix> {
        let all: Vec<Prefix> = with_keys!(&self.keys, keys => {
            let wanted = keys.iter().filter(|key| !key.is_free() && part.contains(&key.first_bits()));
            wanted.map(|key| (*key).into()).collect()
        });
        all.into_iter().filter(move |prefix| within.covers(prefix))
    }

    /// Every prefix there is, in no order.
    pub(crate) fn all(&self) -> Vec<Prefix> {
        with_keys!(&self.keys, keys => keys.iter().filter(|key| !key.is_free()).map(|key| (*key).into()).collect())
    }

    /// Divides the table by the first sixteen bits of its prefixes into parts of about `size`, in order.
    pub(crate) fn parts(&self, size: u32) -> Vec<RangeInclusive<u16>> {
        let mut counts = vec![0u32; 1 << 16];
        with_keys!(&self.keys, keys => {
            let used = keys.iter().filter(|key| !key.is_free());
            used.for_each(|key| counts[usize::from(key.first_bits())] += 1);
        });
        let (mut parts, mut first, mut count) = (Vec::new(), 0, 0);
        for (bits, more) in counts.into_iter().enumerate() {
            count += more;
            if count >= size {
                parts.push(first..=bits as u16);
                (first, count) = ((bits as u16).saturating_add(1), 0);
            }
        }
        if count > 0 {
            parts.push(first..=u16::MAX);
        }
        parts
    }
}

/// The key of `prefix`, if the keys are of its kind.
fn of_kind<K: Key>(_: &[K], prefix: &Prefix) -> Option<K> {
    K::of(prefix)
}

fn insert<K: Key>(index: &mut Index, keys: &mut Vec<K>, entries: &mut Vec<Entry>, free: &mut Vec<u32>, key: K) -> u32 {
    let hash = index.hash(&key);
    if let Some(id) = index.find(hash, |id| keys[id as usize] == key) {
        return id;
    }
    let id = match free.pop() {
        Some(id) => {
            keys[id as usize] = key;
            id
        }
        None => {
            keys.push(key);
            entries.push(Entry::default());
            (keys.len() - 1) as u32
        }
    };
    index.insert(hash, id);
    id
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn any_prefix() -> impl Strategy<Value = Prefix> {
        // Few distinct bits, so that prefixes nest and repeat.
        (any::<u8>(), 0u8..=32)
            .prop_map(|(a, bits)| Prefix::new(Ipv4Addr::new(a & 3, a >> 6, 0, 0).into(), bits).unwrap())
    }

    #[test]
    fn a_table_of_a_vpn_family_tells_equal_prefixes_of_two_vpns_apart() {
        let mut table = Table::new(Family::Ipv4Vpn, 7);
        let plain: Prefix = "10.0.0.0/8".parse().unwrap();
        let [one, two] = [1, 2].map(|number| plain.in_vpn(Rd::two_octet_as(65000, number)));
        let [a, b] = [one, two].map(|prefix| table.find_or_insert(&prefix).unwrap());
        assert!(a != b && table.find(&one) == Some(a) && table.find(&plain).is_none());
        assert_eq!((table.find_or_insert(&plain), table.prefix(b)), (None, two));
        table.forget(&[a]);
        assert_eq!((table.find(&one), table.all()), (None, vec![two]));
        assert_eq!(Table::new(Family::Ipv4Unicast, 7).find_or_insert(&one), None);
    }

    #[test]
    fn a_path_is_twenty_octets_and_an_entry_fifty_six() {
        assert_eq!(size_of::<Path>(), 20);
        assert_eq!(size_of::<Entry>(), 56);
        assert_eq!(size_of::<Key4>(), 8);
    }

    proptest! {
        #[test]
        fn entries_are_found_forgotten_and_matched_as_a_map_would(
            steps in proptest::collection::vec((any::<bool>(), any_prefix()), 0..200),
            address in any::<[u8; 2]>(),
        ) {
            let mut table = Table::new(Family::Ipv4Unicast, 7);
            let mut model = BTreeMap::new();
            for (add, prefix) in steps {
                if add {
                    let id = table.find_or_insert(&prefix).unwrap();
                    prop_assert_eq!(*model.entry(prefix).or_insert(id), id);
                } else if let Some(id) = model.remove(&prefix) {
                    table.forget(&[id, id]);
                }
                prop_assert_eq!(table.find(&prefix), model.get(&prefix).copied());
                prop_assert_eq!(table.len(), model.len());
            }
            let address: IpAddr = Ipv4Addr::new(address[0] & 3, address[1] >> 6, 0, 0).into();
            let longest = model.keys().filter(|p| p.contains(address)).max_by_key(|p| p.bits());
            prop_assert_eq!(table.longest_match(address, |_| true).map(|id| table.prefix(id)), longest.copied());
            let all: BTreeSet<_> = table.prefixes(Prefix::DEFAULT_V4, 0..=u16::MAX).collect();
            prop_assert!(all.iter().eq(model.keys()));
            let parts = table.parts(3).into_iter();
            let by_parts: Vec<_> = parts
                .flat_map(|part| table.prefixes(Prefix::DEFAULT_V4, part).collect::<BTreeSet<_>>())
                .collect();
            prop_assert!(by_parts.iter().eq(model.keys()), "in order, each once");
        }
    }
}
