//! What the FIB thread does with its orders.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::PoisonError,
    time::{Duration, Instant, SystemTime},
};

use bgp_core::{
    PeerId,
    rib::{BestChange, PathRef, Source, Unclaimed},
};
use fib::{Backend, Fib, PathKey, PathList, PathState, Resync, Scope, Switch, wire::ROUTE_TABLE};
use hashbrown::HashMap;
use net_types::Prefix;
use tracing::{debug, error, warn};

use super::{
    Bulk, Distances, Fast, Fault, Restored, SharedLog, StaticRoute,
    flaps::Flaps,
    found::Found,
    mailbox::{Order, Receiver},
};
use crate::failover::{Detected, Switched};

/// Before all but what is more urgent still.
const NICE: i8 = -12;
/// Routes in one batch: about half a millisecond at the kernel's pace.
const BATCH: usize = 128;
/// Routes rewritten at a time that forward correctly as they are.
const LAZY_BATCH: usize = 64;
/// Between two such batches: 6400 routes a second disturb nobody.
const LAZY_PAUSE: Duration = Duration::from_millis(10);
/// How long the last path switch has to be ago before such rewriting begins: a path that is back by then needs none.
const LAZY_AFTER: Duration = Duration::from_secs(5);
/// Between two readings of the whole table.
const RESYNC_PAUSE: Duration = Duration::from_secs(1);
/// The distance of what is not to be used.
const NEVER: u8 = 255;
/// Longest wait with nothing to do.
const NAP: Duration = Duration::from_secs(3600);

pub(super) struct Worker<B> {
    pub(super) fib: Fib<B>,
    log: SharedLog,
    /// Paths that have failed lately.
    pub(super) flaps: Flaps,
    /// Routed by configuration.
    statics: HashMap<Prefix, StaticRoute, foldhash::fast::RandomState>,
    /// What BGP has for such prefixes, if anything.
    learned: HashMap<Prefix, Option<PathList>, foldhash::fast::RandomState>,
    distances: Distances,
    /// Where routes are that policy puts into another table than the main one, by where they would be.
    elsewhere: HashMap<Prefix, Prefix, foldhash::fast::RandomState>,
    /// Distances that policy gave to routes of BGP, by where they are.
    given: HashMap<Prefix, u8, foldhash::fast::RandomState>,
    /// Peers that have sent everything; up once the table is idle.
    returned: Vec<(PeerId, IpAddr)>,
    /// The neighbors have spoken after our restart, or are not waited for any more; what was adopted and not asked for is
    /// dealt with once the table is idle.
    sweep: Option<(Unclaimed, BTreeSet<u32>)>,
    pub(super) found: Found,
    /// Faults whose prefixes are not all decided anew and written.
    unfinished: bool,
    /// The table has passed on everything; once the queue is written the faults are dealt with.
    rib_idle: bool,
    /// When the present turn began.
    pub(super) now: Instant,
    lazy_at: Instant,
    resync_at: Instant,
    resync_pause: Duration,
}

impl<B: Backend> Worker<B> {
    pub(super) fn new(fib: Fib<B>, log: SharedLog, now: Instant) -> Self {
        Self {
            fib,
            log,
            flaps: Flaps::new(),
            statics: HashMap::default(),
            learned: HashMap::default(),
            distances: Distances::default(),
            elsewhere: HashMap::default(),
            given: HashMap::default(),
            returned: Vec::new(),
            sweep: None,
            found: Found::default(),
            unfinished: false,
            rib_idle: false,
            now,
            lazy_at: now,
            resync_at: now,
            resync_pause: RESYNC_PAUSE,
        }
    }

    pub(super) fn run(mut self, orders: &Receiver<Fast, Bulk>) {
        // A fault should not wait for a busy machine. Not in real time: a million routes keep this thread busy as well.
        if let Err(error) = sys::sched::set_nice(NICE) {
            debug!(%error, "the FIB thread gets no priority (CAP_SYS_NICE)");
        }
        loop {
            let (deadline, crowded) = self.prepare(Instant::now());
            let order = orders.next(deadline, crowded);
            if !self.serve(order, Instant::now()) {
                break;
            }
        }
        while self.flush() > 0 {}
    }

    /// To be called before orders are looked at: until when to wait for one, and whether urgent ones only.
    pub(super) fn prepare(&mut self, now: Instant) -> (Instant, bool) {
        self.now = now;
        if self.flaps.poll_timeout().is_some_and(|at| at <= now) {
            self.holds_are_over(now);
        }
        // A queue that is long enough is written before it grows, and the table waits meanwhile.
        let crowded = self.fib.stats().urgent > 16 * BATCH;
        (self.next_work(now), crowded)
    }

    /// Carries out an order, or does a piece of what is left to do; whether more can come.
    pub(super) fn serve(&mut self, order: Order<Fast, Bulk>, now: Instant) -> bool {
        self.now = now;
        match order {
            Order::Fast(order) => self.fast(order),
            Order::Bulk(order) => self.bulk(order),
            Order::Idle => self.work(now),
            Order::Closed => return false,
        }
        true
    }

    /// When there is something to do without orders.
    fn next_work(&self, now: Instant) -> Instant {
        let stats = self.fib.stats();
        let settled = self.fib.is_settled();
        if !settled
            || self.fib.is_resyncing()
            || (self.rib_idle && (self.unfinished || self.sweep.is_some() || !self.returned.is_empty()))
        {
            return now;
        }
        let resync = self.fib.wants_resync().then_some(self.resync_at);
        let lazy = (stats.lazy > 0).then_some(self.lazy_at);
        [resync, lazy, self.flaps.poll_timeout()].into_iter().flatten().min().unwrap_or(now + NAP)
    }

    fn work(&mut self, now: Instant) {
        if !self.fib.is_settled() {
            self.flush();
        } else if self.rib_idle {
            self.table_is_written();
        }
        if self.fib.is_resyncing() || (self.fib.wants_resync() && now >= self.resync_at) {
            self.resync(now);
        } else if self.fib.is_settled() && self.fib.stats().lazy > 0 && now >= self.lazy_at {
            let flushed = self.fib.migrate(LAZY_BATCH);
            report(&flushed);
            self.lazy_at = now + LAZY_PAUSE;
        }
    }

    fn flush(&mut self) -> usize {
        let flushed = self.fib.flush(BATCH);
        report(&flushed);
        if flushed.error.is_some() { 0 } else { flushed.written }
    }

    fn resync(&mut self, now: Instant) {
        match self.fib.resync_step() {
            Ok(Resync::Done { repaired }) => {
                if repaired > 0 {
                    warn!(repaired, "the kernel's table was not as it should have been; mended");
                }
                // One that was needed right after the last means a fight; it should not take all our time.
                self.resync_pause = if repaired > 0 { (self.resync_pause * 2).min(NAP / 60) } else { RESYNC_PAUSE };
                self.resync_at = now + self.resync_pause;
            }
            Ok(Resync::Idle | Resync::Running) => {}
            Err(error) => {
                error!(%error, "the kernel's table cannot be read; trying again");
                self.resync_at = now + self.resync_pause;
            }
        }
    }

    /// Everything that the table passed on is in the kernel.
    fn table_is_written(&mut self) {
        self.rib_idle = false;
        if let Some((unclaimed, tunnels)) = self.sweep.take() {
            self.sweep_found(unclaimed, &tunnels);
        }
        for (peer, address) in std::mem::take(&mut self.returned) {
            self.excuse(Some(peer));
            let switch = self.fib.set_state(Scope::Source(peer.0), PathState::Up);
            self.note(&switch, "a path is back");
            self.look_for_returned();
            self.restored(Restored::Peer(address));
        }
        if std::mem::take(&mut self.unfinished) {
            self.with_log(|log| log.rib_done(SystemTime::now()));
        }
    }

    fn fast(&mut self, order: Fast) {
        match order {
            Fast::Fault(fault) => self.fault(fault),
            Fast::Words(words) => self.words(&words),
            Fast::Returning(peer) => {
                let monitored = Scope::Monitored(peer.0);
                let bfd = (self.fib.word(&monitored) > PathState::Doubtful).then_some(monitored);
                let scopes = std::iter::once(Scope::Source(peer.0)).chain(bfd);
                self.words(&scopes.map(|scope| (scope, PathState::Doubtful)).collect::<Vec<_>>());
            }
            Fast::Kernel(events) => {
                for event in events {
                    let switch = self.fib.on_event(&event);
                    self.note(&switch, "the kernel changed paths");
                }
            }
            Fast::Retry(ifindex) => {
                let switch = self.fib.retry(ifindex);
                self.note(&switch, "paths that the kernel refused were tried again");
            }
            Fast::Restored(whom) => self.restored(whom),
            Fast::Damping(settings) => {
                let released = self.flaps.configure(settings);
                self.let_go(released, "paths that flap are not held down any more");
            }
            Fast::Release(interface, told) => {
                let released = self.flaps.release(interface.as_ref());
                told(released.len());
                self.let_go(released, "an operator said so");
            }
        }
        self.look_for_returned();
    }

    fn words(&mut self, words: &[(Scope, PathState)]) {
        let switch = self.fib.set_states(words);
        self.flaps.heard(words);
        self.note(&switch, "paths changed");
    }

    fn fault(&mut self, fault: Fault) {
        let noted = self.flaps.fault(fault.at, &fault);
        let words = if noted.words.is_empty() { &fault.words } else { &[&fault.words[..], &noted.words].concat() };
        let switch = self.fib.set_states(words);
        let took = fault.at.elapsed();
        let at = SystemTime::now();
        // One loss is often seen by several detectors. The first one gets the line, unless a later one moved more. One of
        // a path that is held down is another, though it moves nothing.
        let known = fault.peer.is_some_and(|peer| self.with_log(|log| log.is_open(peer)));
        if !known || noted.new || switch.lists > 0 {
            let detected = Detected {
                cause: fault.cause,
                detail: fault.detail.clone(),
                peer: fault.peer,
                tunnel: fault.interface.as_ref().map(|(_, name)| name.clone()),
                at: fault.at_wall,
            };
            let switched = Switched { at, took, path_lists: switch.lists, routes: switch.routes + switch.flushed };
            self.with_log(|log| {
                let id = log.detected(detected);
                log.switched(id, switched);
            });
            self.unfinished = true;
            let tunnel = fault.interface.as_ref().map(|(_, name)| tracing::field::display(name));
            let peer = fault.peer.map(tracing::field::display);
            warn!(
                peer,
                tunnel,
                cause = fault.cause.as_str(),
                detail = fault.detail,
                path_lists = switch.lists,
                routes = switch.routes + switch.flushed,
                blackholed = switch.blackholed,
                took_us = took.as_micros() as u64,
                "a path was lost; traffic has moved"
            );
        }
        // A returning peer that is lost again has to begin anew.
        for (scope, _) in &fault.words {
            if let Scope::Source(source) = scope {
                self.returned.retain(|(peer, _)| peer.0 != *source);
            }
        }
        if let Some(then) = fault.then {
            then();
        }
        self.note(&switch, "path lost");
        if !noted.words.is_empty() {
            self.show_holds();
        }
    }

    fn restored(&mut self, whom: Restored) {
        if !self.flaps.postpone(&whom) {
            self.with_log(|log| log.restored(&whom, SystemTime::now()));
        }
    }

    fn bulk(&mut self, order: Bulk) {
        match order {
            Bulk::Changes(changes) => {
                self.rib_idle = false;
                self.fib.look_ahead(changes.iter().map(|change| &change.prefix));
                changes.into_iter().for_each(|change| self.change(change));
            }
            Bulk::RibIdle => self.rib_idle = true,
            Bulk::Returned(peer, address) => {
                // What the peer said last is in the table, but may not have been passed on.
                self.rib_idle = false;
                self.returned.push((peer, address));
            }
            Bulk::Statics(routes) => self.set_statics(routes),
            Bulk::Distances(distances) => self.set_distances(distances),
            Bulk::Settled(unclaimed, tunnels) => {
                self.rib_idle = false;
                self.found.wait_for(&unclaimed);
                self.sweep = Some((unclaimed, tunnels));
            }
            Bulk::Excused(peer) => self.excuse(peer),
            Bulk::Ask(question) => question(&self.fib),
        }
    }

    fn change(&mut self, change: BestChange) {
        let wanted = wanted(&change).filter(|_| change.placement.distance != Some(NEVER));
        let place = self.place(&change, wanted.is_some());
        let wanted = match wanted {
            None if change.best.is_none() && self.found.closes(&place) => Some(PathList::default()),
            wanted => {
                self.found.claimed(&place);
                wanted
            }
        };
        match change.placement.distance {
            Some(distance) => drop(self.given.insert(place, distance)),
            None if self.given.is_empty() => {}
            None => drop(self.given.remove(&place)),
        }
        self.learn(place, wanted);
    }

    /// Where a route belongs, and takes it away from where it was.
    fn place(&mut self, change: &BestChange, wanted: bool) -> Prefix {
        let prefix = change.prefix;
        let before = if self.elsewhere.is_empty() { None } else { self.elsewhere.get(&prefix).copied() };
        let table = change.placement.table.filter(|table| *table != ROUTE_TABLE && prefix.is_plain());
        let place = match (before, &change.best, table) {
            (Some(before), None, _) if wanted => before, // fails closed where it was
            (.., Some(table)) => prefix.in_table(table),
            (.., None) => prefix,
        };
        let was = before.unwrap_or(prefix);
        if was != place {
            self.given.remove(&was);
            self.learn(was, None);
        }
        if wanted && place != prefix {
            self.elsewhere.insert(prefix, place);
        } else if before.is_some() {
            self.elsewhere.remove(&prefix);
        }
        place
    }

    fn learn(&mut self, place: Prefix, wanted: Option<PathList>) {
        if self.statics.contains_key(&place) {
            self.learned.insert(place, wanted);
            self.settle(place);
        } else {
            self.route(place, wanted);
        }
    }

    pub(super) fn route(&mut self, prefix: Prefix, wanted: Option<PathList>) {
        match wanted {
            Some(paths) => self.fib.set_path_list(prefix, &paths),
            None => self.fib.remove_route(prefix),
        }
    }

    /// Of a static route and what BGP has for the same prefix, the one with the lesser distance is used; a static one
    /// where they are equal.
    fn settle(&mut self, prefix: Prefix) {
        let learned = self.learned.get(&prefix).cloned().flatten();
        let Some(own) = self.statics.get(&prefix) else { return };
        match learned {
            Some(paths) if self.distance(&prefix, &paths) < own.distance => self.fib.set_path_list(prefix, &paths),
            _ => self.fib.set_path_list(prefix, &own.paths),
        }
    }

    /// Of a route of BGP.
    fn distance(&self, prefix: &Prefix, paths: &PathList) -> u8 {
        let given = self.given.get(prefix).copied();
        given.unwrap_or_else(|| self.distances.of(prefix, paths.paths().first()))
    }

    fn set_statics(&mut self, routes: Vec<StaticRoute>) {
        let before = std::mem::take(&mut self.statics);
        for route in routes {
            if !before.contains_key(&route.prefix) {
                // What there is by now is BGP's, or was found at start and will be decided anew.
                let there = self.fib.route(&route.prefix).and_then(|found| found.list.cloned());
                self.learned.insert(route.prefix, there);
            }
            self.statics.insert(route.prefix, route);
        }
        let all: Vec<Prefix> = self.statics.keys().copied().collect();
        all.into_iter().for_each(|prefix| self.settle(prefix));
        for prefix in before.into_keys().filter(|prefix| !self.statics.contains_key(prefix)).collect::<Vec<_>>() {
            let learned = self.learned.remove(&prefix).flatten();
            self.route(prefix, learned);
        }
    }

    fn set_distances(&mut self, distances: Distances) {
        self.distances = distances;
        let all: Vec<Prefix> = self.statics.keys().copied().collect();
        all.into_iter().for_each(|prefix| self.settle(prefix));
    }

    pub(super) fn note(&mut self, switch: &Switch, what: &'static str) {
        if switch.lists > 0 {
            self.lazy_at = self.now + LAZY_AFTER;
            debug!(
                path_lists = switch.lists,
                routes = switch.routes,
                took_us = switch.elapsed.as_micros() as u64,
                what
            );
        }
        for refusal in &switch.refusals {
            warn!(refusal, "the kernel refuses a path; the next one is used");
        }
        if let Some(error) = &switch.error {
            error!(%error, "paths were switched, but the outcome is unknown");
        }
    }

    pub(super) fn with_log<T>(&self, work: impl FnOnce(&mut crate::failover::FailoverLog) -> T) -> T {
        work(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The paths that a prefix should have for BGP's sake, none meaning that it is dropped; `None` where it should have no
/// route.
fn wanted(change: &BestChange) -> Option<PathList> {
    match &change.best {
        // Dropped on purpose: an aggregate, or a blackhole that a neighbor asked for.
        Some(best) if best.blackhole => Some(PathList::default()),
        // Nothing is left, and the prefix must not go out some other way.
        None if change.protect => Some(PathList::default()),
        // Nothing is left.
        None => None,
        Some(best) => {
            // A best path of our own is in the kernel by other means.
            let key = path_key(best)?;
            let alternate = change.alternate.as_ref().and_then(path_key);
            let at_best = alternate.zip(change.alternate.as_ref().map(at_best));
            let family = change.prefix.address().is_ipv4();
            let source = change.placement.source.filter(|source| source.is_ipv4() == family);
            if change.multipath.is_empty() {
                let paths = std::iter::once(key).chain(alternate).collect::<Vec<_>>();
                return Some(PathList::ordered(paths).with_source(source).with_at_best(at_best));
            }
            let others = change.multipath.iter().filter_map(|path| Some((path_key(path)?, path.weight)));
            let sharing: Vec<(PathKey, u8)> = std::iter::once((key, best.weight)).chain(others).collect();
            let list = PathList::multipath(&sharing, alternate.as_slice());
            Some(list.with_source(source).with_at_best(at_best))
        }
    }
}

/// How well an alternate is, however well all that it goes over is.
fn at_best(alternate: &PathRef) -> PathState {
    match alternate {
        // Who told it may have lost the same neighbor as we, and be about to send packets here.
        PathRef { stale: true, .. } => PathState::LastResort,
        // As long as we only doubt our best path and have not told so, packets may come back.
        PathRef { sent_back: true, .. } => PathState::Doubtful,
        _ => PathState::Up,
    }
}

/// The FIB's name for a path; none for those of our own, which the kernel has from elsewhere.
fn path_key(path: &PathRef) -> Option<PathKey> {
    match path.source {
        Source::Peer(peer) => {
            let resolved = path.resolved;
            Some(PathKey { source: peer.0, ifindex: resolved.ifindex, gateway: resolved.gateway })
        }
        Source::Local(_) => None,
    }
}

fn report(flushed: &fib::Flushed) {
    if let Some(refusal) = &flushed.refusal {
        warn!(refused = flushed.refused, refusal, "the kernel refuses routes");
    }
    if let Some(error) = &flushed.error {
        error!(%error, "routes were written, but the outcome is unknown");
    }
}
