//! VRFs: which routes of VPNs go into which tables of this router (RFC 4364 §4.3).
//!
//! A route of a VPN is imported by every VRF that one of its route targets names. Of several that come to one prefix in a
//! VRF, whatever their distinguishers, the decision process chooses, as it does among the paths of one. What a VRF has is
//! worked out for the entries that changed, on the way to the FIB; nothing is copied but the numbers of entries.
//!
//! Routes that a VRF of this router exports are routes of [`LocalSource::Vrf`]; here they only keep others of their prefix
//! out of the VRF's table, where they are already. There is no leaking from one VRF of this router into another.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use bgp_wire::{Attributes, ExtCommunity, Labels, Origin};
use net_types::{Family, Prefix, Rd};
use smallvec::SmallVec;

use super::{
    BestChange, Install, LocalSource, PathAttrs, Rib,
    changes::path_ref,
    local::{OWN_WEIGHT, ourselves},
    state::{FamilyTable, Shared},
    table::Path,
};
use crate::decision::{self, Candidate};

/// One address family of a VRF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VrfFamily {
    /// The distinguisher of its own routes.
    pub rd: Option<Rd>,
    /// Routes with any of these route targets are imported.
    pub import: BTreeSet<ExtCommunity>,
}

/// What is configured of a VRF; indexed as [`Family::UNICAST`] is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VrfConfig {
    /// IPv4, then IPv6.
    pub families: [VrfFamily; 2],
}

/// A route that a VRF exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpnRoute {
    /// Its route targets.
    pub targets: Vec<ExtCommunity>,
    /// What packets are to carry.
    pub labels: Labels,
    /// Where the VRF has it from.
    pub origin: Origin,
}

/// The table of one family.
#[derive(Debug, Default)]
struct VrfTable {
    config: VrfFamily,
    /// By prefix the entries of the VPN family with a path for this VRF.
    entries: BTreeMap<Prefix, SmallVec<[u32; 1]>>,
    /// Prefixes that the FIB has not been told of.
    dirty: BTreeSet<Prefix>,
}

/// A VRF, by the number of its kernel table.
#[derive(Debug, Default)]
struct Vrf {
    tables: [VrfTable; 2],
    /// No longer configured; it goes when its routes have.
    removed: bool,
}

/// Every VRF.
#[derive(Debug, Default)]
pub(crate) struct Vrfs(BTreeMap<u32, Vrf>);

impl VrfTable {
    /// Whether a path belongs here.
    fn takes(&self, shared: &Shared, rd: Option<Rd>, path: &Path) -> bool {
        if path.source == LocalSource::Vrf.slot() {
            return rd.is_some() && rd == self.config.rd;
        }
        let Some(effective) = path.effective.filter(|_| !self.config.import.is_empty()) else { return false };
        let attrs = shared.attrs.attrs(effective);
        attrs.attributes.ext_communities.iter().any(|target| self.config.import.contains(target))
    }

    /// An entry of the VPN family has changed.
    fn note(&mut self, shared: &Shared, table: &FamilyTable, id: u32) {
        let (prefix, entry) = (table.table.prefix(id), &table.table.entries[id as usize]);
        let plain = prefix.plain();
        let wanted = entry.paths.iter().any(|path| self.takes(shared, prefix.rd(), path));
        let known = self.entries.get(&plain).is_some_and(|ids| ids.contains(&id));
        match (known, wanted) {
            (false, false) => return,
            (true, true) => {}
            (false, true) => self.entries.entry(plain).or_default().push(id),
            (true, false) => {
                if let Some(ids) = self.entries.get_mut(&plain) {
                    ids.retain(|other| *other != id);
                    if ids.is_empty() {
                        self.entries.remove(&plain);
                    }
                }
            }
        }
        self.dirty.insert(plain);
    }

    /// Every path for `prefix`, with the prefix that it has in its VPN.
    fn paths<'a>(
        &'a self,
        shared: &'a Shared,
        table: &'a FamilyTable,
        prefix: &Prefix,
    ) -> impl Iterator<Item = (Prefix, u32, &'a Path)> + 'a {
        let ids = self.entries.get(prefix).into_iter().flatten();
        ids.flat_map(move |id| {
            let of = table.table.prefix(*id);
            let paths = table.table.entries[*id as usize].paths.iter();
            paths.filter(move |path| self.takes(shared, of.rd(), path)).map(move |path| (of, *id, path))
        })
    }

    /// The best of the paths for `prefix` and its alternate.
    fn choose<'a>(
        &'a self,
        shared: &'a Shared,
        table: &'a FamilyTable,
        prefix: &Prefix,
    ) -> [Option<(Prefix, &'a Path)>; 2] {
        let usable = self.paths(shared, table, prefix).filter_map(|(of, _, path)| {
            let candidate = shared.candidate(table.family, path)?;
            Some((candidate, (of, path)))
        });
        let (candidates, paths): (Vec<Candidate<'_>>, Vec<(Prefix, &Path)>) = usable.unzip();
        decision::best_and_alternate(&candidates, &shared.decision).map(|at| at.map(|at| paths[at]))
    }

    fn change(&self, shared: &Shared, table: &FamilyTable, number: u32, prefix: Prefix) -> BestChange {
        let [best, alternate] = self.choose(shared, table, &prefix);
        let path = |chosen: Option<(Prefix, &Path)>| chosen.and_then(|(_, path)| path_ref(shared, table.family, path));
        let ids = self.entries.get(&prefix).into_iter().flatten();
        let protect = ids.into_iter().any(|id| table.table.entries[*id as usize].protect);
        BestChange {
            placement: super::Placement::default(),
            prefix: prefix.in_table(number),
            best: path(best),
            multipath: Vec::new(),
            alternate: path(alternate),
            protect,
        }
    }
}

impl Vrfs {
    /// An entry of a VPN family has changed.
    pub(crate) fn note(&mut self, shared: &Shared, table: &FamilyTable, id: u32) {
        for vrf in self.0.values_mut() {
            vrf.tables[table.family.unicast() as usize].note(shared, table, id);
        }
    }

    /// Whether the FIB has something to be told.
    pub(crate) fn has_changes(&self) -> bool {
        self.0.values().flat_map(|vrf| &vrf.tables).any(|table| !table.dirty.is_empty())
    }

    /// The next thing to tell the FIB.
    pub(crate) fn next_change(&mut self, shared: &Shared, tables: &[FamilyTable; Family::COUNT]) -> Option<BestChange> {
        let of = |vrf: &Vrf| vrf.tables.iter().position(|table| !table.dirty.is_empty());
        let (number, at) = self.0.iter().find_map(|(number, vrf)| Some((*number, of(vrf)?)))?;
        let vrf = self.0.get_mut(&number)?;
        let prefix = vrf.tables[at].dirty.pop_first()?;
        let change = vrf.tables[at].change(shared, &tables[Family::UNICAST[at].vpn() as usize], number, prefix);
        if vrf.removed && vrf.tables.iter().all(|table| table.dirty.is_empty() && table.entries.is_empty()) {
            self.0.remove(&number);
        }
        Some(change)
    }

    /// Has everything told again.
    pub(crate) fn replay(&mut self) {
        for table in self.0.values_mut().flat_map(|vrf| &mut vrf.tables) {
            table.dirty.extend(table.entries.keys());
        }
    }

    /// There is no FIB that would want to know.
    pub(crate) fn forget_changes(&mut self) {
        self.0.values_mut().flat_map(|vrf| &mut vrf.tables).for_each(|table| table.dirty.clear());
        self.0.retain(|_, vrf| !vrf.removed || vrf.tables.iter().any(|table| !table.entries.is_empty()));
    }
}

impl Rib {
    /// The VRFs that there are, by the numbers of their kernel tables. What that changes is told with the other changes.
    pub fn set_vrfs(&mut self, configs: &BTreeMap<u32, VrfConfig>) {
        for number in configs.keys() {
            self.vrfs.0.entry(*number).or_default();
        }
        let (mut changed, none) = ([false; 2], VrfConfig::default());
        for (number, vrf) in &mut self.vrfs.0 {
            let config = configs.get(number);
            vrf.removed = config.is_none();
            for (at, table) in vrf.tables.iter_mut().enumerate() {
                let wanted = &config.unwrap_or(&none).families[at];
                changed[at] |= table.config != *wanted;
                table.config = wanted.clone();
            }
        }
        for (family, _) in Family::UNICAST.into_iter().zip(changed).filter(|(_, changed)| *changed) {
            let table = &mut self.tables[family.vpn() as usize];
            for id in table.live().collect::<Vec<_>>() {
                table.fib_dirty.insert(id);
            }
        }
        let empty = |vrf: &Vrf| vrf.tables.iter().all(|table| table.entries.is_empty() && table.dirty.is_empty());
        self.vrfs.0.retain(|_, vrf| !vrf.removed || !empty(vrf));
    }

    /// Announces a route of a VRF to the VPN; `prefix` has the VRF's distinguisher.
    pub fn export_vpn(&mut self, now: Instant, prefix: Prefix, route: VpnRoute) {
        if prefix.rd().is_none() {
            return; // it would be a route of this router itself
        }
        let attributes = Attributes { origin: route.origin, ext_communities: route.targets, ..Attributes::default() };
        let next_hop = ourselves(prefix.family());
        let attrs = PathAttrs { attributes, next_hop, scope: 0, weight: OWN_WEIGHT, install: Install::default() };
        let relabelled = self.shared.label(prefix, LocalSource::Vrf.slot(), 0, Some(&route.labels));
        self.originate_as(now, LocalSource::Vrf, prefix, attrs);
        if relabelled {
            self.relabelled(&prefix);
        }
    }

    /// Every prefix of a VRF's table in order, with the routes of VPNs that it comes from: first the one in use.
    pub fn vrf_prefixes(&self, number: u32, family: Family) -> Vec<(Prefix, Vec<Prefix>)> {
        let at = family.unicast() as usize;
        let Some(vrf) = self.vrfs.0.get(&number) else { return Vec::new() };
        let (vrf, table) = (&vrf.tables[at], &self.tables[family.vpn() as usize]);
        let of = |prefix: &Prefix| {
            let [best, _] = vrf.choose(&self.shared, table, prefix);
            let all = vrf.paths(&self.shared, table, prefix).map(|(of, ..)| of);
            let mut from: Vec<Prefix> = best.map(|(of, _)| of).into_iter().chain(all).collect();
            let mut seen = BTreeSet::new();
            from.retain(|of| seen.insert(*of));
            from
        };
        vrf.entries.keys().map(|prefix| (*prefix, of(prefix))).collect()
    }
}
