//! Questions that operators ask. Nothing here changes anything.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use bgp_wire::Labels;
use net_types::{Family, Prefix, Rd};

use super::{
    Path, PathAttrs, Rib, Source, conditions,
    input::{Refusal, admit},
    next_hops::{NextHopKey, Resolved},
    peer::Standing,
    state::FamilyTable,
    table::Entry,
};
use crate::{
    PeerId,
    decision::{self, Step},
    validation::ValidationState,
};

/// What a path is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathState {
    /// The best.
    Best,
    /// As good as the best: packets are spread over it too.
    Multipath,
    /// In the FIB behind the best.
    Alternate,
    /// Usable, and not needed.
    Valid,
    /// Its next hop cannot be reached.
    Unreachable,
    /// Loop check or policy.
    Refused(Refusal),
    /// It has flapped, and is not used for a while (RFC 2439).
    Damped,
    /// Its session ended; it only keeps the prefix protected.
    Ghost,
    /// Its session ended; it is about to go.
    Leaving,
}

/// One path of a prefix.
#[derive(Clone, Debug)]
pub struct PathView {
    /// Who announced it.
    pub source: Source,
    /// What its source calls it, where that tells several paths apart (RFC 7911 §3).
    pub path_id: Option<u32>,
    /// What it is used for.
    pub state: PathState,
    /// Kept from a session that ended.
    pub stale: bool,
    /// As received.
    pub received: Arc<PathAttrs>,
    /// After import policy, unless refused.
    pub effective: Option<Arc<PathAttrs>>,
    /// How its next hop is reached.
    pub resolved: Option<Resolved>,
    /// What origin validation says of it as received; `None` while there are no payloads.
    pub validation: Option<ValidationState>,
    /// In front of a prefix of a VPN.
    pub labels: Labels,
    /// Since when it is known.
    pub age: Duration,
}

/// A prefix with everything known about it.
#[derive(Clone, Debug)]
pub struct RouteView {
    /// Which prefix.
    pub prefix: Prefix,
    /// Best first, then those that share its packets, then the alternate.
    pub paths: Vec<PathView>,
    /// Blackholed rather than removed when nothing usable is left.
    pub protect: bool,
    /// Which step of the decision told the best path from the next.
    pub decided: Option<Step>,
}

/// Counters of one family of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyCounters {
    /// Whether a session carries the family now.
    pub active: bool,
    /// Prefixes received in this session.
    pub received: u32,
    /// Those that policy and loop checks let in.
    pub accepted: u32,
    /// Paths that an earlier session left behind, kept as a last resort or to protect their prefixes.
    pub leftover: u32,
    /// Prefixes that the peer was sent and still has.
    pub sent: u32,
    /// Prefixes to look at before it is up to date.
    pub to_send: u32,
}

/// Prefixes in one part of a walk over a table, where they are spread evenly.
const PART: u32 = 16_384;

/// A walk over prefixes in order, taken up again as often as one likes while the table changes.
///
/// It holds the keys there were at its start, packed; prefixes that went are skipped, and new ones left out. Sorting
/// happens at the first step, on the thread that takes it.
pub struct Walk {
    family: Family,
    keys: WalkKeys,
    next: usize,
    sorted: bool,
}

enum WalkKeys {
    V4(Vec<u64>),
    V6(Vec<(u128, u8)>),
    Vpn(Vec<Prefix>),
}

impl Walk {
    fn new(family: Family, prefixes: impl Iterator<Item = Prefix>) -> Self {
        let keys = match family {
            Family::Ipv4Unicast => WalkKeys::V4(prefixes.filter_map(pack4).collect()),
            Family::Ipv6Unicast => WalkKeys::V6(prefixes.filter_map(pack6).collect()),
            Family::Ipv4Vpn | Family::Ipv6Vpn => WalkKeys::Vpn(prefixes.collect()),
        };
        Self { family, keys, next: 0, sorted: false }
    }

    /// The family walked.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Sorts what is to be walked; may be done on another thread than the table's.
    pub fn sort(&mut self) {
        match &mut self.keys {
            WalkKeys::V4(keys) => keys.sort_unstable(),
            WalkKeys::V6(keys) => keys.sort_unstable(),
            WalkKeys::Vpn(keys) => keys.sort_unstable(),
        }
        self.sorted = true;
    }

    /// How many prefixes are left to walk.
    pub fn remaining(&self) -> usize {
        let all = match &self.keys {
            WalkKeys::V4(keys) => keys.len(),
            WalkKeys::V6(keys) => keys.len(),
            WalkKeys::Vpn(keys) => keys.len(),
        };
        all - self.next
    }
}

impl Iterator for Walk {
    type Item = Prefix;
    fn next(&mut self) -> Option<Prefix> {
        if !self.sorted {
            self.sort();
        }
        let prefix = match &self.keys {
            WalkKeys::V4(keys) => {
                let key = keys.get(self.next)?;
                Prefix::new(Ipv4Addr::from((key >> 8) as u32).into(), *key as u8).ok()
            }
            WalkKeys::V6(keys) => {
                let (address, bits) = keys.get(self.next)?;
                Prefix::new(Ipv6Addr::from(*address).into(), *bits).ok()
            }
            WalkKeys::Vpn(keys) => Some(*keys.get(self.next)?),
        };
        self.next += 1;
        prefix
    }
}

fn pack4(prefix: Prefix) -> Option<u64> {
    match prefix.address() {
        IpAddr::V4(address) => Some(u64::from(u32::from(address)) << 8 | u64::from(prefix.bits())),
        IpAddr::V6(_) => None,
    }
}

fn pack6(prefix: Prefix) -> Option<(u128, u8)> {
    match prefix.address() {
        IpAddr::V6(address) => Some((address.into(), prefix.bits())),
        IpAddr::V4(_) => None,
    }
}

impl Rib {
    /// Everything known about exactly `prefix`.
    pub fn route(&self, now: Instant, prefix: &Prefix) -> Option<RouteView> {
        let table = &self.tables[prefix.family() as usize];
        let id = table.table.find(prefix)?;
        self.view(now, table, id)
    }

    /// Everything known about the longest prefix that contains `address` and has a path.
    pub fn longest_match(&self, now: Instant, address: IpAddr) -> Option<RouteView> {
        let family = if address.is_ipv4() { Family::Ipv4Unicast } else { Family::Ipv6Unicast };
        let table = &self.tables[family as usize];
        let id = table.table.longest_match(address, |entry| !entry.paths.is_empty())?;
        self.view(now, table, id)
    }

    /// Walks every prefix within `within`, in order.
    pub fn walk(&self, within: &Prefix) -> Walk {
        let family = within.family();
        Walk::new(family, self.tables[family as usize].table.prefixes(*within, 0..=u16::MAX))
    }

    /// Walks every prefix of a VPN family, or of the VPN that `rd` distinguishes, in order.
    pub fn walk_vpn(&self, family: Family, rd: Option<Rd>) -> Walk {
        let all = self.tables[family.vpn() as usize].table.all();
        Walk::new(family.vpn(), all.into_iter().filter(|prefix| rd.is_none() || prefix.rd() == rd))
    }

    /// Divides a family's table into parts of some thousands of prefixes each, in order, for
    /// [`walk_part`](Self::walk_part).
    pub fn parts(&self, family: Family) -> Vec<RangeInclusive<u16>> {
        self.tables[family as usize].table.parts(PART)
    }

    /// Walks the prefixes within `within` that are in `part` now. A walk over a whole table takes part after part, so
    /// that its start waits for none but the first, and its memory is that of one.
    pub fn walk_part(&self, within: &Prefix, part: RangeInclusive<u16>) -> Walk {
        let family = within.family();
        Walk::new(family, self.tables[family as usize].table.prefixes(*within, part))
    }

    /// Walks every prefix that `peer` has announced, or one of an earlier session left behind.
    pub fn walk_received(&self, peer: PeerId, family: Family) -> Walk {
        let table = &self.tables[family as usize].table;
        let ids = self.slot(peer).map(|slot| &self.shared.peer(slot).families[family as usize].adj_in);
        Walk::new(family, ids.into_iter().flat_map(|ids| ids.iter()).map(|id| table.prefix(id)))
    }

    /// Walks every prefix that `peer` was sent; [`advertised`](Self::advertised) says how.
    pub fn walk_advertised(&self, peer: PeerId, family: Family) -> Walk {
        let table = &self.tables[family as usize].table;
        let held = |slot| {
            let member = self.shared.peer(slot).families[family as usize].member.as_ref()?;
            Some(member.held(self.shared.groups[family as usize][member.group].as_ref()?, slot))
        };
        let ids = self.slot(peer).and_then(held).unwrap_or_default();
        Walk::new(family, ids.iter().map(|id| table.prefix(id)))
    }

    /// Counters of a source, if it is configured.
    pub fn counters(&self, source: Source, family: Family) -> Option<FamilyCounters> {
        let slot = match source {
            Source::Local(local) => local.slot(),
            Source::Peer(peer) => self.slot(peer)?,
        };
        let state = &self.shared.peer(slot).families[family as usize];
        let told = state.member.as_ref().and_then(|member| {
            let group = self.shared.groups[family as usize][member.group].as_ref()?;
            Some((member.sent(group, slot), member.to_send(group)))
        });
        let (sent, to_send) = told.unwrap_or_default();
        Some(FamilyCounters {
            active: state.active,
            received: state.received,
            accepted: state.accepted,
            leftover: state.paths - state.received,
            sent,
            to_send,
        })
    }

    /// Prefixes known in `family`.
    pub fn prefix_count(&self, family: Family) -> usize {
        self.tables[family as usize].table.len()
    }

    /// Prefixes with a best path in `family`.
    pub fn reachable_count(&self, family: Family) -> usize {
        self.tables[family as usize].reachable as usize
    }

    /// Different attribute sets held.
    pub fn attribute_count(&self) -> usize {
        self.shared.attrs.len()
    }

    /// Every next hop with how it is reached and how many attribute sets name it, in order.
    pub fn next_hops(&self) -> Vec<(NextHopKey, Option<Resolved>, u32)> {
        let all = self.shared.next_hops.iter().filter(|(key, _, uses)| *uses > 0 && !key.is_ours());
        let mut all: Vec<_> = all.map(|(key, resolved, uses)| (*key, resolved.copied(), uses)).collect();
        all.sort_unstable_by_key(|(key, ..)| *key);
        all
    }

    /// How a next hop is reached, if it is wanted.
    pub fn next_hop(&self, key: &NextHopKey) -> Option<Option<Resolved>> {
        self.shared.next_hops.get(key)
    }

    fn view(&self, now: Instant, table: &FamilyTable, id: u32) -> Option<RouteView> {
        let entry = &table.table.entries[id as usize];
        let prefix = table.table.prefix(id);
        let in_use = |path: &Path| path.source != conditions::default_slot();
        if !entry.paths.iter().any(in_use) {
            return None; // only waiting for everybody to be told, or told to some and not used here
        }
        let paths = entry.paths.iter().enumerate().filter(|(_, path)| in_use(path));
        let paths: Vec<_> = paths.map(|(at, path)| self.path_view(now, &prefix, entry, at, path)).collect();
        let decided = self.deciding_step(prefix.family(), entry, &paths);
        Some(RouteView { prefix, paths, protect: entry.protect, decided })
    }

    /// By which step the best of `paths`, which are those of `entry`, is before the next.
    fn deciding_step(&self, family: Family, entry: &Entry, paths: &[PathView]) -> Option<Step> {
        let used = entry.paths.iter().filter(|path| path.source != conditions::default_slot()).zip(paths);
        let usable = used.filter_map(|(path, view)| Some((self.shared.candidate(family, path)?, view.state)));
        let (candidates, states): (Vec<_>, Vec<_>) = usable.unzip();
        let best = states.iter().position(|state| *state == PathState::Best)?;
        Some(decision::deciding(&candidates, best, &self.shared.decision))
    }

    fn path_view(&self, now: Instant, prefix: &Prefix, entry: &Entry, at: usize, path: &Path) -> PathView {
        let family = prefix.family();
        let attrs = |id| Arc::new(self.shared.attrs.attrs(id));
        let next_hop = path.effective.and_then(|id| self.shared.attrs.merit(id).1);
        let resolved = next_hop.and_then(|id| self.shared.next_hops.resolved(id)).copied();
        let standing = self.shared.standing(family, path);
        let state = match (standing, path.effective, resolved) {
            (Standing::Gone, ..) => PathState::Leaving,
            (Standing::Ghost, ..) => PathState::Ghost,
            (_, None, _) if self.shared.is_damped(prefix, path.source, path.id) => PathState::Damped,
            (_, None, _) => PathState::Refused(self.refusal(family, path)),
            (.., None) => PathState::Unreachable,
            _ if at == 0 && entry.sharing > 0 => PathState::Best,
            _ if at < usize::from(entry.sharing) => PathState::Multipath,
            _ if at == usize::from(entry.sharing) && entry.has_alternate => PathState::Alternate,
            _ => PathState::Valid,
        };
        let received = attrs(path.received);
        let validation = self.validation(prefix, &received).filter(|_| !family.is_vpn());
        PathView {
            source: self.shared.peer(path.source).source,
            path_id: self.shared.path_ids.theirs(path.id),
            state,
            stale: standing == Standing::Stale,
            effective: match path.effective {
                Some(same) if same == path.received => Some(received.clone()),
                other => other.map(attrs),
            },
            received,
            resolved,
            validation,
            labels: self.shared.labels(prefix, path),
            age: self.age(now, path.learned),
        }
    }

    fn refusal(&self, family: Family, path: &Path) -> Refusal {
        let attrs = self.shared.attrs.attrs(path.received);
        let admitted = admit(self.shared.peer(path.source), &self.config, family, &attrs);
        admitted.err().unwrap_or(Refusal::Policy)
    }
}
