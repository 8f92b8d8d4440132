//! Scripts of operations on a [`Fib`], with a model of what the table has to be.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use fib::{Fib, Nexthop, PathKey, PathState, Resync, Scope, Twin};
use net_types::{Family, Prefix};
use proptest::prelude::*;

/// Everything that may happen.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Route a prefix.
    Set(usize, Vec<usize>),
    /// Take a prefix out.
    Remove(usize),
    /// Hear about the health of a scope.
    State(Scope, PathState),
    /// Write some of what is queued.
    Flush(usize),
    /// Write some of what can wait.
    Migrate(usize),
    /// A link goes up or down in the kernel.
    Link(u32, bool),
    /// Somebody removes a route.
    LoseRoute(usize, bool),
    /// Answers to the next batches are lost.
    LoseAnswers(usize),
    /// Notifications are delivered.
    Events,
    /// The daemon is killed and starts again.
    Restart,
    /// What is stale goes.
    Sweep,
}

const PREFIXES: usize = 12;

/// Half of them IPv4, half IPv6.
pub(crate) fn prefix(index: usize) -> Prefix {
    let text = if index.is_multiple_of(2) { format!("10.{index}.0.0/16") } else { format!("fd00:{index}::/32") };
    text.parse().unwrap()
}

/// Three interfaces with two gateways each; sources share interfaces.
pub(crate) fn path(index: usize, family: Family) -> PathKey {
    let ifindex = (index % 3) as u32 + 2;
    let gateway = match family {
        Family::Ipv4Unicast => format!("192.0.{ifindex}.{}", 2 + index / 3),
        Family::Ipv6Unicast => format!("2001:db8:{ifindex}::{}", 2 + index / 3),
    };
    PathKey { source: index as u32 % 4, ifindex, gateway: Some(gateway.parse().unwrap()) }
}

fn any_scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        4 => (0..4u32).prop_map(Scope::Source),
        2 => (2..5u32).prop_map(Scope::Tunnel),
        1 => (0..6usize).prop_map(|index| Scope::Path(path(index, Family::Ipv4Unicast))),
        1 => (0..6usize).prop_map(|index| Scope::Path(path(index, Family::Ipv6Unicast))),
    ]
}

fn any_state() -> impl Strategy<Value = PathState> {
    prop_oneof![3 => Just(PathState::Up), 1 => Just(PathState::LastResort), 3 => Just(PathState::Dead)]
}

fn any_candidates() -> impl Strategy<Value = Vec<usize>> {
    Just((0..6).collect::<Vec<usize>>())
        .prop_shuffle()
        .prop_flat_map(|all| (0..4usize).prop_map(move |n| all[..n].into()))
}

fn quiet() -> BoxedStrategy<Op> {
    prop_oneof![
        8 => ((0..PREFIXES), any_candidates()).prop_map(|(prefix, list)| Op::Set(prefix, list)),
        2 => (0..PREFIXES).prop_map(Op::Remove),
        5 => (any_scope(), any_state()).prop_map(|(scope, state)| Op::State(scope, state)),
        5 => (1..12usize).prop_map(Op::Flush),
        2 => (1..6usize).prop_map(Op::Migrate),
    ]
    .boxed()
}

/// Operations of every kind.
pub(crate) fn any_ops(count: Range<usize>) -> impl Strategy<Value = Vec<Op>> {
    let any = prop_oneof![
        22 => quiet(),
        3 => (2..5u32, any::<bool>()).prop_map(|(ifindex, up)| Op::Link(ifindex, up)),
        1 => (0..PREFIXES, any::<bool>()).prop_map(|(prefix, announced)| Op::LoseRoute(prefix, announced)),
        1 => (1..3usize).prop_map(Op::LoseAnswers),
        4 => Just(Op::Events),
    ];
    proptest::collection::vec(any, count)
}

/// Operations of the daemon alone.
pub(crate) fn any_op_without_faults(count: Range<usize>) -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(quiet(), count)
}

/// A run: the engine over the twin, and what it was told.
pub(crate) struct Script {
    fib: Fib<Twin>,
    desired: BTreeMap<Prefix, Vec<PathKey>>,
    states: BTreeMap<Scope, PathState>,
    /// In the table, wanted, and since then damaged by nobody.
    held: BTreeSet<Prefix>,
}

impl Script {
    pub(crate) fn new(fib: Fib<Twin>) -> Self {
        Self { fib, desired: BTreeMap::new(), states: BTreeMap::new(), held: BTreeSet::new() }
    }

    pub(crate) fn table(&mut self) -> BTreeMap<Prefix, Nexthop> {
        self.fib.backend_mut().table()
    }

    /// Messages that the table took so far.
    pub(crate) fn written(&mut self) -> u64 {
        self.fib.backend_mut().applied()
    }

    pub(crate) fn run(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Set(index, list) => {
                let prefix = prefix(*index);
                let list: Vec<PathKey> = list.iter().map(|index| path(*index, prefix.family())).collect();
                self.fib.set_route(prefix, &list);
                self.desired.insert(prefix, list);
            }
            Op::Remove(index) => {
                self.fib.remove_route(prefix(*index));
                self.desired.remove(&prefix(*index));
                self.held.remove(&prefix(*index));
            }
            Op::State(scope, state) => {
                self.states.insert(*scope, *state);
                self.fib.set_state(*scope, *state);
            }
            Op::Flush(budget) => {
                let flushed = self.fib.flush(*budget);
                prop_assert!(flushed.written <= *budget + 1, "{} messages on a budget of {budget}", flushed.written);
            }
            Op::Migrate(budget) => {
                self.fib.migrate(*budget);
            }
            Op::Link(ifindex, up) => {
                self.fib.backend_mut().set_link(*ifindex, *up);
                self.states.insert(Scope::Link(*ifindex), if *up { PathState::Up } else { PathState::Dead });
                self.damaged();
            }
            Op::LoseRoute(index, announced) => {
                self.fib.backend_mut().lose_route(&prefix(*index), *announced);
                if !announced {
                    self.fib.request_resync();
                }
                self.damaged();
            }
            Op::LoseAnswers(count) => self.fib.backend_mut().lose_answers(*count),
            Op::Events => self.deliver(),
            Op::Restart => {
                let twin = std::mem::take(self.fib.backend_mut());
                self.fib = Fib::new(twin);
                self.fib.adopt().unwrap();
                for (scope, state) in &self.states {
                    self.fib.set_state(*scope, *state);
                }
            }
            Op::Sweep => {
                self.fib.sweep();
            }
        }
        self.check_always()
    }

    /// The kernel or somebody else took routes out; what is left has to stay.
    fn damaged(&mut self) {
        let table = self.table();
        self.held.retain(|prefix| table.contains_key(prefix));
    }

    fn deliver(&mut self) {
        for event in self.fib.backend_mut().take_events() {
            self.fib.on_event(&event);
        }
    }

    /// What the speaker tells after a restart: all it wants, again.
    pub(crate) fn replay_desired(&mut self) {
        for (prefix, list) in &self.desired {
            self.fib.set_route(*prefix, list);
        }
    }

    fn state(&self, path: &PathKey) -> PathState {
        let scopes =
            [Scope::Source(path.source), Scope::Link(path.ifindex), Scope::Tunnel(path.ifindex), Scope::Path(*path)];
        scopes.iter().filter_map(|scope| self.states.get(scope)).max().copied().unwrap_or_default()
    }

    fn wanted(&self, prefix: &Prefix, list: &[PathKey]) -> Nexthop {
        let find = |state| list.iter().find(|path| self.state(path) == state);
        match find(PathState::Up).or_else(|| find(PathState::LastResort)) {
            Some(path) => Nexthop::Via { family: prefix.family(), ifindex: path.ifindex, gateway: path.gateway },
            None => Nexthop::Blackhole(prefix.family()),
        }
    }

    fn check_always(&mut self) -> Result<(), TestCaseError> {
        let table = self.table();
        for prefix in &self.held {
            prop_assert!(table.contains_key(prefix), "{} leaked", prefix);
        }
        self.held.extend(table.keys().filter(|prefix| self.desired.contains_key(prefix)));
        // What is known to be dead carries nothing, not even before queues are written. (A link's death counts from
        // when its notification is delivered, but then its nexthops are gone already.)
        for (prefix, nexthop) in &table {
            let Nexthop::Via { ifindex, gateway, .. } = nexthop else { continue };
            let alive = (0..6).map(|index| path(index, prefix.family())).any(|path| {
                (path.ifindex, path.gateway) == (*ifindex, *gateway) && self.state(&path) != PathState::Dead
            });
            prop_assert!(alive, "{} still goes over {:?}", prefix, nexthop);
        }
        Ok(())
    }

    /// Serves everything until nothing is left to do.
    pub(crate) fn settle(&mut self) -> Result<(), TestCaseError> {
        self.fib.backend_mut().lose_answers(0);
        for _ in 0..1000 {
            self.deliver();
            let resync = self.fib.resync_step().unwrap();
            let flushed = self.fib.flush(7);
            let migrated = if self.fib.is_settled() { self.fib.migrate(7).written } else { 0 };
            self.check_always()?;
            let idle = matches!(resync, Resync::Idle) && flushed.written == 0 && migrated == 0;
            if idle && self.fib.is_settled() && self.fib.stats().lazy == 0 {
                return Ok(());
            }
        }
        Err(TestCaseError::fail(format!("does not settle: {:?}", self.fib.stats())))
    }

    /// Serves what cannot wait, until nothing of it is left.
    pub(crate) fn flush(&mut self) -> Result<(), TestCaseError> {
        self.fib.backend_mut().lose_answers(0);
        for _ in 0..1000 {
            self.deliver();
            let resync = self.fib.resync_step().unwrap();
            let flushed = self.fib.flush(7);
            if matches!(resync, Resync::Idle) && flushed.written == 0 && self.fib.is_settled() {
                return Ok(());
            }
        }
        Err(TestCaseError::fail(format!("does not settle: {:?}", self.fib.stats())))
    }

    /// Nothing is left to write, so whichever path dies next, the table is right at once: no route has to be written.
    pub(crate) fn survives(&mut self, dying: usize) -> Result<(), TestCaseError> {
        for family in [Family::Ipv4Unicast, Family::Ipv6Unicast] {
            self.run(&Op::State(Scope::Path(path(dying, family)), PathState::Dead))?;
        }
        let wanted: BTreeMap<Prefix, Nexthop> =
            self.desired.iter().map(|(prefix, list)| (*prefix, self.wanted(prefix, list))).collect();
        prop_assert_eq!(self.table(), wanted);
        Ok(())
    }

    /// The table is what the model says, and nothing is left over.
    pub(crate) fn check_final(&mut self) -> Result<(), TestCaseError> {
        let wanted: BTreeMap<Prefix, Nexthop> =
            self.desired.iter().map(|(prefix, list)| (*prefix, self.wanted(prefix, list))).collect();
        prop_assert_eq!(self.table(), wanted);
        let lists: BTreeSet<_> = self.desired.iter().map(|(prefix, list)| (prefix.family(), list)).collect();
        let lists = lists.len();
        prop_assert_eq!(self.fib.backend_mut().nexthops(), lists, "nexthop objects are left over");
        prop_assert_eq!(self.fib.stats().path_lists, lists);
        Ok(())
    }
}
