//! What the FIB is told.

use std::net::IpAddr;

use bgp_wire::NextHop;
use net_types::{Family, Prefix};
use smallvec::SmallVec;

use super::{Path, Placement, Rib, Source, bandwidth, next_hops::Resolved, peer::Standing, state::Shared};
use crate::policy::Policy;

/// A path as the FIB needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRef {
    /// Who announced it. Paths of our own are in the kernel already, from where they came.
    pub source: Source,
    /// How packets get to its next hop.
    pub resolved: Resolved,
    /// Kept from a session that ended, here or where it came into our AS; a last resort.
    pub stale: bool,
    /// Of an alternate: whoever announced it is in our AS and is told of our best path. Packets may come back until it has heard
    /// that we lost that one, since it prefers it, or doubts its own way as we do ours.
    pub sent_back: bool,
    /// Packets are to be dropped.
    pub blackhole: bool,
    /// Its share of the packets beside others' that are as good; not 0.
    pub weight: u8,
}

/// The present state of a prefix, after it changed. Earlier states that nobody asked for are skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BestChange {
    /// Which prefix; one that a VRF imported is in the VRF's table.
    pub prefix: Prefix,
    /// Its best path; `None` when nothing usable is left. Where the best path gets no share, the first that does.
    pub best: Option<PathRef>,
    /// Paths that share the packets with `best`.
    pub multipath: Vec<PathRef>,
    /// The best path that does not fail together with `best`.
    pub alternate: Option<PathRef>,
    /// In what way the route goes into the kernel; as it does anyway where nothing says otherwise.
    pub placement: Placement,
    /// With nothing usable left, now or later, packets are to be dropped: the prefix was learned through a protected
    /// peer that did not take it back. Otherwise its route is to be removed.
    pub protect: bool,
}

impl Rib {
    /// Hands over up to `budget` changed prefixes. Whether more are waiting.
    pub fn poll_changes(&mut self, budget: usize, changes: &mut Vec<BestChange>) -> bool {
        if self.deferral.is_some() {
            return false;
        }
        let mut left = budget;
        for family in Family::UNICAST {
            while left > 0 {
                let Some(change) = self.next_change(family) else { break };
                changes.push(change);
                left -= 1;
            }
            while left > 0 && self.import_next(family.vpn()) {
                left -= 1;
            }
        }
        let Self { vrfs, shared, tables, .. } = self;
        if !shared.fib {
            vrfs.forget_changes();
        }
        while left > 0 {
            let Some(change) = vrfs.next_change(shared, tables) else { break };
            changes.push(change);
            left -= 1;
        }
        self.has_changes()
    }

    /// Shows a changed entry of a VPN family to the VRFs; `false` when there is none.
    fn import_next(&mut self, family: Family) -> bool {
        let Self { shared, tables, vrfs, .. } = self;
        let table = &mut tables[family as usize];
        let Some(id) = table.fib_dirty.next_from(0) else { return false };
        vrfs.note(shared, table, id);
        table.fib_dirty.remove(id);
        table.reap(id);
        true
    }

    /// Whether [`poll_changes`](Self::poll_changes) has anything to hand over.
    pub fn has_changes(&self) -> bool {
        let waiting = || self.tables.iter().any(|table| !table.fib_dirty.is_empty()) || self.vrfs.has_changes();
        self.deferral.is_none() && waiting()
    }

    /// There is no FIB: nothing is kept for it from now on. For a speaker that forwards nothing.
    pub fn without_fib(&mut self) {
        self.shared.fib = false;
        for family in Family::UNICAST {
            self.tables[family as usize].fib_dirty = Default::default();
        }
    }

    /// What best paths of `family` go through on their way into the FIB (`table-map`): what it denies is not installed.
    pub fn set_table_map(&mut self, family: Family, policy: Policy) {
        if std::mem::replace(&mut self.shared.table_maps[family as usize], policy.clone()) != policy {
            self.replay_changes();
        }
    }

    /// What routes of `family` go through after that (`ip protocol bgp route-map`): what it denies is not installed, and
    /// what it sets of a [`Placement`] holds.
    pub fn set_protocol_map(&mut self, family: Family, policy: Policy) {
        if std::mem::replace(&mut self.shared.protocol_maps[family as usize], policy.clone()) != policy {
            self.replay_changes();
        }
    }

    /// Hands every prefix over again, for a FIB that lost its state.
    pub fn replay_changes(&mut self) {
        self.vrfs.replay();
        for table in &mut self.tables {
            for (id, entry) in table.table.entries.iter().enumerate() {
                if entry.live && self.shared.fib {
                    table.fib_dirty.insert(id as u32);
                }
            }
        }
    }

    fn next_change(&mut self, family: Family) -> Option<BestChange> {
        let Self { shared, tables, .. } = self;
        let table = &mut tables[family as usize];
        let id = match table.fib_dirty.next_from(table.fib_cursor) {
            Some(id) => id,
            None => table.fib_dirty.next_from(0)?, // round and round: no prefix waits behind a flapping one
        };
        table.fib_cursor = id + 1;
        table.fib_dirty.remove(id);
        let entry = &table.table.entries[id as usize];
        let prefix = table.table.prefix(id);
        let kept = |path: &&Path| placement(shared, &prefix, path).is_some();
        let placed = entry.best().and_then(|path| Some((path, placement(shared, &prefix, path)?)));
        let best = placed.map(|(path, _)| path);
        // What the table-map keeps out of the kernel is not protected there either.
        let kept_out = best.is_none() && entry.sharing > 0;
        let alternate = entry.alternate().filter(|path| !kept_out && kept(path));
        let sharing: SmallVec<[&Path; 4]> = match best {
            Some(best) => std::iter::once(best).chain(entry.sharing().iter().skip(1).filter(kept)).collect(),
            None => SmallVec::new(),
        };
        let weighted = sharing
            .iter()
            .zip(bandwidth::weights(shared, &sharing))
            .filter_map(|(path, weight)| Some(PathRef { weight: weight?, ..path_ref(shared, family, path)? }));
        let mut weighted = weighted.collect::<SmallVec<[PathRef; 4]>>().into_iter();
        let change = BestChange {
            prefix,
            best: weighted.next(),
            multipath: weighted.collect(),
            alternate: alternate.and_then(|path| {
                let internal = |path: &Path| shared.peer(path.source).kind.is_internal();
                let sent_back = internal(path) && best.is_some_and(|best| !internal(best));
                Some(PathRef { sent_back, ..path_ref(shared, family, path)? })
            }),
            placement: placed.map(|(_, placement)| placement).unwrap_or_default(),
            protect: entry.protect && !kept_out,
        };
        drop(sharing);
        table.reap(id);
        Some(change)
    }
}

/// What packets are handed to. A router on the link is best known by its link-local address where it has told that
/// (RFC 2545 §2, §3): it stays when global addresses are renumbered.
fn on_the_link(next_hop: NextHop, gateway: Option<IpAddr>) -> Option<IpAddr> {
    match (next_hop, gateway) {
        (NextHop::V6 { global, link_local: Some(link_local) }, Some(IpAddr::V6(gateway))) if gateway == global => {
            Some(link_local.into())
        }
        _ => gateway,
    }
}

/// In what way a path goes into the FIB; `None` where the table-map or what follows it keeps it out.
fn placement(shared: &Shared, prefix: &Prefix, path: &Path) -> Option<Placement> {
    let family = prefix.family() as usize;
    let maps = [&shared.table_maps[family], &shared.protocol_maps[family]];
    let placed = path.effective.is_some_and(|id| shared.attrs.merit(id).0.placed);
    if !placed && maps.iter().all(|policy| policy.is_open()) {
        return Some(Placement::default());
    }
    let source = match shared.peer(path.source).source {
        Source::Local(source) => Some(source),
        Source::Peer(_) => None,
    };
    let mut attrs = shared.attrs.attrs(path.effective?);
    for policy in maps.into_iter().filter(|policy| !policy.is_open()) {
        attrs = policy.judge(prefix, &attrs, source)?;
    }
    Some(Placement::of(&attrs.install))
}

pub(super) fn path_ref(shared: &Shared, family: Family, path: &Path) -> Option<PathRef> {
    let effective = path.effective?;
    let (merit, next_hop) = shared.attrs.merit(effective);
    let resolved = *shared.next_hops.resolved(next_hop?)?;
    Some(PathRef {
        source: shared.peer(path.source).source,
        resolved: Resolved { gateway: on_the_link(shared.attrs.next_hop(effective), resolved.gateway), ..resolved },
        stale: shared.standing(family, path) != Standing::Fresh || merit.long_lived_stale,
        sent_back: false,
        blackhole: merit.blackhole,
        weight: 1,
    })
}
