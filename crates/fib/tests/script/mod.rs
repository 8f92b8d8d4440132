//! Scripts of operations on a [`Fib`], with a model of what the table has to be.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use fib::{Damped, Fib, Forwarding, Nexthop, PathKey, PathList, PathState, Resync, Scope, Twin, WeightedNexthop};
use net_types::{Family, Prefix};
use proptest::prelude::*;

/// Everything that may happen.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Route a prefix over these, of which the first ones share its packets by these weights.
    Set(usize, Vec<usize>, Vec<u8>),
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
    /// Somebody removes an object that groups consist of.
    LoseMember(usize),
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
        Family::Ipv4Unicast | Family::Ipv4Vpn => format!("192.0.{ifindex}.{}", 2 + index / 3),
        Family::Ipv6Unicast | Family::Ipv6Vpn => format!("2001:db8:{ifindex}::{}", 2 + index / 3),
    };
    PathKey { source: index as u32 % 4, ifindex, gateway: Some(gateway.parse().unwrap()) }
}

fn any_scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        4 => (0..4u32).prop_map(Scope::Source),
        2 => (2..5u32).prop_map(Scope::Tunnel),
        1 => (0..6usize).prop_map(|index| Scope::Path(path(index, Family::Ipv4Unicast))),
        1 => (0..6usize).prop_map(|index| Scope::Path(path(index, Family::Ipv6Unicast))),
        1 => (0..4u32).prop_map(|source| Scope::Damped(Damped::Source(source))),
        1 => (2..5u32).prop_map(|ifindex| Scope::Damped(Damped::Interface(ifindex))),
        1 => (0..6usize).prop_map(|index| Scope::Damped(Damped::Path(path(index, Family::Ipv4Unicast)))),
    ]
}

fn any_state() -> impl Strategy<Value = PathState> {
    let between = prop_oneof![Just(PathState::Doubtful), Just(PathState::LastResort)];
    prop_oneof![3 => Just(PathState::Up), 1 => between, 3 => Just(PathState::Dead)]
}

/// Up to four paths; half of the time, up to all of them share the packets.
fn any_candidates() -> impl Strategy<Value = (Vec<usize>, Vec<u8>)> {
    let paths = Just((0..6).collect::<Vec<usize>>())
        .prop_shuffle()
        .prop_flat_map(|all| (0..5usize).prop_map(move |n| all[..n].to_vec()));
    let weights = prop_oneof![Just(Vec::new()), proptest::collection::vec(1..4u8, 0..5)];
    (paths, weights).prop_map(|(paths, mut weights)| {
        weights.truncate(paths.len());
        (paths, weights)
    })
}

/// Most messages that one route may take beyond itself: its group, and each of the members.
const OBJECTS: usize = 7;

fn path_list(paths: &[usize], weights: &[u8], family: Family) -> PathList {
    let paths: Vec<PathKey> = paths.iter().map(|index| path(*index, family)).collect();
    let sharing: Vec<_> = paths.iter().copied().zip(weights.iter().copied()).collect();
    PathList::multipath(&sharing, &paths[sharing.len()..])
}

fn quiet() -> BoxedStrategy<Op> {
    prop_oneof![
        8 => ((0..PREFIXES), any_candidates()).prop_map(|(prefix, (paths, weights))| Op::Set(prefix, paths, weights)),
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
        1 => (0..8usize).prop_map(Op::LoseMember),
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
    desired: BTreeMap<Prefix, PathList>,
    states: BTreeMap<Scope, PathState>,
    /// In the table, wanted, and since then damaged by nobody.
    held: BTreeSet<Prefix>,
}

impl Script {
    pub(crate) fn new(fib: Fib<Twin>) -> Self {
        Self { fib, desired: BTreeMap::new(), states: BTreeMap::new(), held: BTreeSet::new() }
    }

    pub(crate) fn table(&mut self) -> BTreeMap<Prefix, Forwarding> {
        self.fib.backend_mut().table()
    }

    /// Messages that the table took so far.
    pub(crate) fn written(&mut self) -> u64 {
        self.fib.backend_mut().applied()
    }

    pub(crate) fn run(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Set(index, paths, weights) => {
                let prefix = prefix(*index);
                let list = path_list(paths, weights, prefix.family());
                self.fib.set_path_list(prefix, &list);
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
                prop_assert!(
                    flushed.written <= *budget + OBJECTS,
                    "{} messages on a budget of {budget}",
                    flushed.written
                );
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
            Op::LoseMember(nth) => {
                self.fib.backend_mut().lose_member(*nth);
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
            self.fib.set_path_list(*prefix, list);
        }
    }

    fn state(&self, path: &PathKey) -> PathState {
        let damped = [Damped::Source(path.source), Damped::Interface(path.ifindex), Damped::Path(*path)];
        let [source, interface, alone] = damped.map(Scope::Damped);
        let (link, tunnel) = (Scope::Link(path.ifindex), Scope::Tunnel(path.ifindex));
        let scopes = [Scope::Source(path.source), link, tunnel, Scope::Path(*path), source, interface, alone];
        scopes.iter().filter_map(|scope| self.states.get(scope)).max().copied().unwrap_or_default()
    }

    fn wanted(&self, prefix: &Prefix, list: &PathList) -> Forwarding {
        let family = prefix.family();
        let via = |path: &PathKey| Nexthop::Via { family, ifindex: path.ifindex, gateway: path.gateway };
        let (sharing, others) = list.paths().split_at(list.weights().len());
        for state in [PathState::Up, PathState::Doubtful, PathState::LastResort] {
            let mut share: Vec<WeightedNexthop> = sharing
                .iter()
                .zip(list.weights())
                .filter(|(path, _)| self.state(path) == state)
                .map(|(path, weight)| WeightedNexthop { nexthop: via(path), weight: *weight })
                .collect();
            share.sort_unstable();
            match (share.as_slice(), others.iter().find(|path| self.state(path) == state)) {
                ([], None) => {}
                ([], Some(path)) => return Forwarding::Single(via(path)),
                ([only], _) => return Forwarding::Single(only.nexthop),
                _ => return Forwarding::Multipath(share.into()),
            }
        }
        Forwarding::Single(Nexthop::Blackhole(family))
    }

    fn check_always(&mut self) -> Result<(), TestCaseError> {
        let table = self.table();
        for prefix in &self.held {
            prop_assert!(table.contains_key(prefix), "{} leaked", prefix);
        }
        self.held.extend(table.keys().filter(|prefix| self.desired.contains_key(prefix)));
        // What is known to be dead carries nothing, not even before queues are written. (A link's death counts from
        // when its notification is delivered, but then its nexthops are gone already.)
        for (prefix, nexthop) in table.iter().flat_map(|(prefix, it)| it.nexthops().map(move |it| (prefix, it.nexthop)))
        {
            let Nexthop::Via { ifindex, gateway, .. } = nexthop else { continue };
            let alive = (0..6)
                .map(|index| path(index, prefix.family()))
                .any(|path| (path.ifindex, path.gateway) == (ifindex, gateway) && self.state(&path) != PathState::Dead);
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
        let before = self.fib.backend_mut().applied();
        for family in [Family::Ipv4Unicast, Family::Ipv6Unicast] {
            self.run(&Op::State(Scope::Path(path(dying, family)), PathState::Dead))?;
        }
        let wanted: BTreeMap<Prefix, Forwarding> =
            self.desired.iter().map(|(prefix, list)| (*prefix, self.wanted(prefix, list))).collect();
        prop_assert_eq!(self.table(), wanted);
        let messages = self.fib.backend_mut().applied() - before;
        let objects = self.fib.stats().path_lists as u64;
        prop_assert!(messages <= objects, "{} messages for {} objects", messages, objects);
        Ok(())
    }

    /// The table is what the model says, and nothing is left over.
    pub(crate) fn check_final(&mut self) -> Result<(), TestCaseError> {
        let wanted: BTreeMap<Prefix, Forwarding> =
            self.desired.iter().map(|(prefix, list)| (*prefix, self.wanted(prefix, list))).collect();
        prop_assert_eq!(self.table(), wanted);
        let lists: BTreeSet<_> = self.desired.iter().map(|(prefix, list)| (prefix.family(), list)).collect();
        let groups = lists.iter().filter(|(_, list)| list.is_multipath()).count();
        prop_assert_eq!(self.fib.backend_mut().groups(), groups, "groups are left over");
        prop_assert_eq!(self.fib.stats().path_lists, lists.len());
        // Members are shared, and those of links that are down need not be there.
        let members: BTreeSet<_> = lists
            .iter()
            .filter(|(_, list)| list.is_multipath())
            .flat_map(|(family, list)| {
                list.paths().iter().map(|path| Some((*family, path.ifindex, path.gateway))).chain([None])
            })
            .collect();
        let plain = lists.len() - groups;
        let nexthops = self.fib.backend_mut().nexthops();
        prop_assert!(nexthops >= plain && nexthops <= plain + members.len() + 1, "nexthop objects are left over");
        Ok(())
    }
}
