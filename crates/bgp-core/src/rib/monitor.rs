//! What somebody who watches the whole table is owed: who is up, and how every watched view changes (RFC 7854).
//!
//! A monitor is pulled like a peer: what it has not been told is a bit a prefix and view, so that a slow one costs no
//! more than that and changes collapse while it is busy. Nothing is queued. A monitor of everything costs the table one
//! look at an empty list for each change while there is none.

use std::sync::Arc;

use hashbrown::HashMap;
use net_types::{Family, Prefix};

use super::{
    PathAttrs, Rib, Slot, Source,
    attrs::AttrId,
    id_set::IdSet,
    peer::Standing,
    state::{FamilyTable, Shared},
};
use crate::PeerId;

/// Most monitors at once.
const MONITORS: usize = 16;

/// Names a monitor for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MonitorId(u64);

/// Which routes are watched; indexed by `Family as usize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MonitorConfig {
    /// What peers announce, as received.
    pub pre_policy: [bool; Family::COUNT],
    /// What import policy made of it.
    pub post_policy: [bool; Family::COUNT],
    /// The best paths.
    pub loc_rib: [bool; Family::COUNT],
    /// What peers are sent.
    pub adj_out: [bool; Family::COUNT],
}

impl MonitorConfig {
    fn adj_in(&self, family: Family) -> bool {
        self.pre_policy[family as usize] || self.post_policy[family as usize]
    }
}

/// Changes of one view of one family.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watched {
    /// No longer there.
    pub withdrawn: Vec<Prefix>,
    /// There with these attributes.
    pub announced: Vec<(Arc<PathAttrs>, Vec<Prefix>)>,
}

impl Watched {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.withdrawn.is_empty() && self.announced.is_empty()
    }
}

/// The next piece for a monitor. What it says of a peer lies between its `Up` and its `Down`.
#[derive(Clone, Debug, PartialEq)]
pub enum MonitorPiece {
    /// A session is up; whatever was said of an earlier one is void.
    Up(PeerId),
    /// The session that was up is not any more.
    Down(PeerId),
    /// What a peer announced.
    AdjIn {
        /// Who.
        peer: PeerId,
        /// In which family.
        family: Family,
        /// Before policy; `None` where that is not watched.
        pre_policy: Option<Watched>,
        /// After policy; `None` where that is not watched.
        post_policy: Option<Watched>,
        /// All that there was when the monitor, or the session, began has been said.
        end_of_rib: bool,
    },
    /// What a peer is sent.
    AdjOut {
        /// Who.
        peer: PeerId,
        /// In which family.
        family: Family,
        /// After policy.
        changes: Watched,
        /// As above.
        end_of_rib: bool,
    },
    /// The best paths.
    LocRib {
        /// In which family.
        family: Family,
        /// Changes.
        changes: Watched,
        /// As above.
        end_of_rib: bool,
    },
}

/// One view: what has to be looked at, and what the monitor has been told of. An entry that it has been told of counts as
/// sent, so that its number names no other prefix before the monitor knows that it is gone.
#[derive(Default)]
struct View {
    dirty: IdSet,
    told: [IdSet; 2],
    cursor: u32,
    owes_end_of_rib: bool,
}

impl View {
    fn of(ids: impl Iterator<Item = u32>) -> Self {
        let mut view = Self { owes_end_of_rib: true, ..Self::default() };
        for id in ids {
            view.dirty.insert(id);
        }
        view
    }

    /// The entries whose counts have to be taken back.
    fn retire(self, family: Family, retired: &mut Vec<(Family, IdSet)>) {
        retired.extend(self.told.into_iter().filter(|told| !told.is_empty()).map(|told| (family, told)));
    }

    fn owes(&self) -> bool {
        self.owes_end_of_rib || !self.dirty.is_empty()
    }

    /// Up to `budget` entries to look at; whether the first pass is over with them.
    fn take(&mut self, budget: usize) -> (Vec<u32>, bool) {
        let mut ids = Vec::new();
        while ids.len() < budget {
            let Some(id) = self.dirty.next_from(self.cursor) else {
                self.cursor = 0;
                return (ids, std::mem::take(&mut self.owes_end_of_rib));
            };
            self.cursor = id + 1;
            self.dirty.remove(id);
            ids.push(id);
        }
        (ids, false)
    }
}

/// A session that the monitor knows of.
struct Session {
    peer: PeerId,
    epoch: u16,
    adj_in: [View; Family::COUNT],
    adj_out: [View; Family::COUNT],
}

impl Session {
    fn retire(self, retired: &mut Vec<(Family, IdSet)>) {
        for (family, view) in Family::ALL.into_iter().zip(self.adj_in).chain(Family::ALL.into_iter().zip(self.adj_out))
        {
            view.retire(family, retired);
        }
    }
}

/// What came of telling a monitor: entries that it believes in now, or does not any more.
#[derive(Default)]
struct Told {
    new: Vec<u32>,
    gone: Vec<u32>,
}

impl Told {
    /// Notes whether the monitor is told that an entry is there; whether it has to be told that it is gone.
    fn note(&mut self, told: &mut IdSet, id: u32, there: bool) -> bool {
        if there {
            if told.insert(id) {
                self.new.push(id);
            }
            return false;
        }
        let gone = told.remove(id);
        if gone {
            self.gone.push(id);
        }
        gone
    }

    fn book(self, table: &mut FamilyTable) {
        for id in self.new {
            table.table.entries[id as usize].sent += 1;
        }
        for id in self.gone {
            table.unsent(id);
        }
    }
}

struct Monitor {
    id: MonitorId,
    config: MonitorConfig,
    sessions: HashMap<Slot, Session, foldhash::fast::FixedState>,
    loc_rib: [View; Family::COUNT],
    /// Sessions came or went since the monitor was last told.
    check: bool,
}

/// Everybody who watches.
#[derive(Default)]
pub(crate) struct Monitors {
    all: Vec<Monitor>,
    last: u64,
}

impl Monitors {
    /// What `source` says about an entry has changed.
    pub(crate) fn heard(&mut self, source: Slot, family: Family, id: u32) {
        for monitor in &mut self.all {
            if monitor.config.adj_in(family)
                && let Some(session) = monitor.sessions.get_mut(&source)
            {
                session.adj_in[family as usize].dirty.insert(id);
            }
        }
    }

    /// The best path of an entry has changed.
    pub(crate) fn decided(&mut self, family: Family, id: u32) {
        for monitor in &mut self.all {
            if monitor.config.loc_rib[family as usize] {
                monitor.loc_rib[family as usize].dirty.insert(id);
            }
        }
    }

    /// A peer has been told about an entry.
    pub(crate) fn told(&mut self, peer: Slot, family: Family, id: u32) {
        for monitor in &mut self.all {
            if monitor.config.adj_out[family as usize]
                && let Some(session) = monitor.sessions.get_mut(&peer)
            {
                session.adj_out[family as usize].dirty.insert(id);
            }
        }
    }

    /// Whether anybody watches what peers are told.
    pub(crate) fn watch_adj_out(&self, family: Family) -> bool {
        self.all.iter().any(|monitor| monitor.config.adj_out[family as usize])
    }

    /// A session came or went.
    pub(crate) fn sessions_changed(&mut self) {
        self.all.iter_mut().for_each(|monitor| monitor.check = true);
    }
}

impl Rib {
    /// Watches the table from now on: all that there is, then whatever changes. `None` when too many do already.
    pub fn add_monitor(&mut self, config: MonitorConfig) -> Option<MonitorId> {
        let monitors = &mut self.shared.monitors;
        if monitors.all.len() >= MONITORS {
            return None;
        }
        monitors.last += 1;
        let id = MonitorId(monitors.last);
        let loc_rib = Family::ALL.map(|family| match config.loc_rib[family as usize] {
            true => View::of(self.tables[family as usize].live()),
            false => View::default(),
        });
        monitors.all.push(Monitor { id, config, sessions: HashMap::default(), loc_rib, check: true });
        Some(id)
    }

    /// Watches no longer.
    pub fn remove_monitor(&mut self, id: MonitorId) {
        let Some(at) = self.shared.monitors.all.iter().position(|monitor| monitor.id == id) else { return };
        let monitor = self.shared.monitors.all.swap_remove(at);
        for (family, view) in Family::ALL.into_iter().zip(monitor.loc_rib) {
            view.retire(family, &mut self.retired);
        }
        monitor.sessions.into_values().for_each(|session| session.retire(&mut self.retired));
    }

    /// Whether [`poll_monitor`](Self::poll_monitor) has anything to hand over.
    pub fn owes_monitor(&self, id: MonitorId) -> bool {
        let owes = |monitor: &Monitor| {
            let sessions =
                || monitor.sessions.values().flat_map(|session| session.adj_in.iter().chain(&session.adj_out));
            monitor.check || monitor.loc_rib.iter().any(View::owes) || sessions().any(View::owes)
        };
        self.shared.monitors.all.iter().find(|monitor| monitor.id == id).is_some_and(owes)
    }

    /// The next piece for a monitor, after a look at up to `budget` entries; `None` when it knows everything.
    pub fn poll_monitor(&mut self, id: MonitorId, budget: usize) -> Option<MonitorPiece> {
        let at = self.shared.monitors.all.iter().position(|monitor| monitor.id == id)?;
        // Taken out meanwhile, so that the table can be read.
        let mut monitor = self.shared.monitors.all.swap_remove(at);
        let piece = self.next_piece(&mut monitor, budget);
        self.shared.monitors.all.push(monitor);
        piece
    }

    fn next_piece(&mut self, monitor: &mut Monitor, budget: usize) -> Option<MonitorPiece> {
        if monitor.check {
            if let Some(piece) = self.session_change(monitor) {
                return Some(piece);
            }
            monitor.check = false;
        }
        for family in Family::ALL {
            let view = &mut monitor.loc_rib[family as usize];
            if view.owes() {
                let (ids, end_of_rib) = view.take(budget);
                let table = &mut self.tables[family as usize];
                let mut told = Told::default();
                let changes = loc_rib(&self.shared, table, &ids, &mut view.told[0], &mut told);
                told.book(table);
                return Some(MonitorPiece::LocRib { family, changes, end_of_rib });
            }
        }
        let config = monitor.config;
        for (slot, session) in &mut monitor.sessions {
            for family in Family::ALL {
                let peer = session.peer;
                let view = &mut session.adj_in[family as usize];
                if view.owes() {
                    let (ids, end_of_rib) = view.take(budget);
                    let table = &mut self.tables[family as usize];
                    let mut told = Told::default();
                    let mut changes = |wanted: bool, post: bool| {
                        let believed = &mut view.told[usize::from(post)];
                        wanted.then(|| adj_in(&self.shared, table, *slot, post, &ids, believed, &mut told))
                    };
                    let pre_policy = changes(config.pre_policy[family as usize], false);
                    let post_policy = changes(config.post_policy[family as usize], true);
                    told.book(table);
                    return Some(MonitorPiece::AdjIn { peer, family, pre_policy, post_policy, end_of_rib });
                }
                let view = &mut session.adj_out[family as usize];
                if view.owes() {
                    let (ids, end_of_rib) = view.take(budget);
                    let mut told = Told::default();
                    let changes = self.adj_out(peer, family, &ids, &mut view.told[0], &mut told);
                    told.book(&mut self.tables[family as usize]);
                    return Some(MonitorPiece::AdjOut { peer, family, changes, end_of_rib });
                }
            }
        }
        None
    }

    /// One session that came or went since the monitor was last told.
    fn session_change(&mut self, monitor: &mut Monitor) -> Option<MonitorPiece> {
        let up = |slot: Slot| {
            let peer = self.shared.peers.get(usize::from(slot.0))?.as_ref()?;
            match (peer.source, &peer.up) {
                (Source::Peer(id), Some(_)) => Some((id, peer.epoch)),
                _ => None,
            }
        };
        let gone = monitor.sessions.iter().find(|(slot, known)| up(**slot) != Some((known.peer, known.epoch)));
        if let Some(slot) = gone.map(|(slot, _)| *slot) {
            let session = monitor.sessions.remove(&slot)?;
            let peer = session.peer;
            session.retire(&mut self.retired);
            return Some(MonitorPiece::Down(peer));
        }
        let slots = (0..self.shared.peers.len()).filter_map(|at| u16::try_from(at).ok().map(Slot));
        let mut new = slots.filter(|slot| !monitor.sessions.contains_key(slot));
        let (slot, (peer, epoch)) = new.find_map(|slot| Some((slot, up(slot)?)))?;
        let state = self.shared.peer(slot);
        let config = monitor.config;
        let adj_in = Family::ALL.map(|family| {
            let state = &state.families[family as usize];
            if state.active && config.adj_in(family) { View::of(state.adj_in.iter()) } else { View::default() }
        });
        let adj_out = Family::ALL.map(|family| {
            let active = state.families[family as usize].active && config.adj_out[family as usize];
            if active { View::of(self.tables[family as usize].live()) } else { View::default() }
        });
        monitor.sessions.insert(slot, Session { peer, epoch, adj_in, adj_out });
        Some(MonitorPiece::Up(peer))
    }

    fn adj_out(&self, peer: PeerId, family: Family, ids: &[u32], believed: &mut IdSet, told: &mut Told) -> Watched {
        let table = &self.tables[family as usize].table;
        let mut watched = Watched::default();
        for id in ids.iter().filter(|id| table.entries.get(**id as usize).is_some_and(|entry| entry.live)) {
            let prefix = table.prefix(*id);
            let attrs = self.advertised(peer, &prefix);
            if told.note(believed, *id, attrs.is_some()) {
                watched.withdrawn.push(prefix);
            }
            match (attrs, watched.announced.last_mut()) {
                (Some(attrs), Some((last, prefixes))) if **last == attrs => prefixes.push(prefix),
                (Some(attrs), _) => watched.announced.push((Arc::new(attrs), vec![prefix])),
                (None, _) => {}
            }
        }
        watched
    }
}

/// Collects prefixes by the attributes that they share.
struct Grouped<'a> {
    shared: &'a Shared,
    groups: HashMap<AttrId, usize, foldhash::fast::FixedState>,
    watched: Watched,
}

impl<'a> Grouped<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self { shared, groups: HashMap::default(), watched: Watched::default() }
    }

    fn put(&mut self, prefix: Prefix, attrs: AttrId) {
        let announced = &mut self.watched.announced;
        let at = *self.groups.entry(attrs).or_insert_with(|| {
            announced.push((Arc::new(self.shared.attrs.attrs(attrs)), Vec::new()));
            announced.len() - 1
        });
        announced[at].1.push(prefix);
    }

    /// Tells what of an entry is to be told.
    fn tell(&mut self, prefix: Prefix, attrs: Option<AttrId>, id: u32, believed: &mut IdSet, told: &mut Told) {
        if told.note(believed, id, attrs.is_some()) {
            self.watched.withdrawn.push(prefix);
        }
        if let Some(attrs) = attrs {
            self.put(prefix, attrs);
        }
    }
}

fn loc_rib(shared: &Shared, table: &FamilyTable, ids: &[u32], believed: &mut IdSet, told: &mut Told) -> Watched {
    let mut grouped = Grouped::new(shared);
    for id in ids {
        let Some(entry) = table.table.entries.get(*id as usize).filter(|entry| entry.live) else { continue };
        grouped.tell(table.table.prefix(*id), entry.best().and_then(|path| path.effective), *id, believed, told);
    }
    grouped.watched
}

fn adj_in(
    shared: &Shared,
    table: &FamilyTable,
    slot: Slot,
    post: bool,
    ids: &[u32],
    believed: &mut IdSet,
    told: &mut Told,
) -> Watched {
    let mut grouped = Grouped::new(shared);
    for id in ids {
        let Some(entry) = table.table.entries.get(*id as usize).filter(|entry| entry.live) else { continue };
        // Of several that the peer tells (RFC 7911), the first stands for all: what is monitored has no identifiers yet.
        let path = entry.paths.iter().find(|path| path.source == slot);
        let path = path.filter(|path| shared.standing(table.family, path) == Standing::Fresh);
        let attrs = path.and_then(|path| if post { path.effective } else { Some(path.received) });
        grouped.tell(table.table.prefix(*id), attrs, *id, believed, told);
    }
    grouped.watched
}
