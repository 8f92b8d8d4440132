//! A network of routers in one thread, on a virtual clock.

mod checks;
mod faults;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use config::Config;
use net_types::Prefix;
use rand::{Rng, SeedableRng, rngs::StdRng};
use simnet::{LinkId, Net, NodeId, Profile, Step};

use crate::{
    daemon::{Daemon, Outbox},
    fault::Event,
    kernel::{Defect, Kernel},
    packet::Packet,
    topology::{BFD_MILLISECONDS, HOLD_SECONDS, LinkKind, Plan, RESTART_SECONDS},
};

/// Until what happened is known to everybody and nothing of it is waited for any more: detection, a session that is given
/// up, a neighbor that is waited for, whose session is tried again meanwhile, and what an idle router still writes.
const SETTLED: Duration =
    Duration::from_millis(4 * BFD_MILLISECONDS + 1000 * (2 * HOLD_SECONDS + 3 * RESTART_SECONDS + 10));
/// Packets may run in a circle for as long: until what two routers say to each other has crossed.
const CIRCLE: Duration = Duration::from_millis(500);
/// The same where one of them is restarting, and forwards as it did before: what changed since then it learns when it has
/// heard everybody, or waits no more (RFC 4724 §4.1).
const RESTART: Duration = Duration::from_secs(3 * RESTART_SECONDS);
/// From one end of a link to the other.
const DELAY: Duration = Duration::from_millis(10);

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Since the beginning.
    pub at: Duration,
    /// What.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:.3} s: {}", self.at.as_secs_f64(), self.what)
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Faults, not counting what only lets time pass.
    pub faults: usize,
    /// Comparisons of all routers with the reference.
    pub settled: usize,
    /// Packets that were followed.
    pub walks: u64,
    /// Circles that came and went.
    pub circles: usize,
    /// Those of them that lasted longer than others may, since a router was restarting.
    pub circles_in_restart: usize,
    /// The longest of them.
    pub longest_circle: Duration,
    /// The same between two routers of one place.
    pub longest_within_site: Duration,
    /// Virtual time.
    pub elapsed: Duration,
}

/// Packets that run in a circle.
#[derive(Clone, Copy)]
struct Circle {
    since: Instant,
    /// Through routers of one place.
    within: bool,
    /// When one of them was last seen to be restarting.
    restarting: Instant,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    /// Dropped on purpose, or lost on the way.
    Dropped,
    /// This router has no route for it: it goes out in the clear.
    Leaked(usize),
    /// It went through these routers again and again.
    Circle(Vec<usize>),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Later {
    StartBgpd(usize),
    /// The daemons of a router find each other.
    Follow(usize),
    /// `ipsecd` looks after a tunnel.
    Ike(usize),
    /// The end of a tunnel hears that the other one deleted the SA.
    Deleted(usize, usize),
    /// `ipsecd` runs again.
    Ipsecd(usize),
    /// Circles are looked at.
    Look,
}

struct LinkState {
    id: LinkId,
    cut: [bool; 2],
    unplugged: bool,
    /// A tunnel's keys are there.
    sa: bool,
}

struct Router {
    config: Config,
    node: NodeId,
    powered: bool,
    kernel: Kernel,
    daemon: Option<Daemon>,
    ipsecd: bool,
    /// The daemons have found each other.
    followed: bool,
    /// Of tunnels, by link: what ipsecd last said.
    tunnels: BTreeMap<usize, (bool, u64)>,
    /// In `due`.
    due: Option<Instant>,
    changes: u64,
    /// Everything that was said had been written when it was looked at last.
    was_idle: bool,
    /// The kernel has dropped routes by itself, and they are being written anew.
    repairing: bool,
    sessions: Vec<u32>,
    /// The same when the daemon was started.
    sessions_before: Vec<u32>,
    /// Which neighbors have said all that they have since then.
    spoken: Vec<bool>,
    /// What each neighbor behind a tunnel has said and not taken back, and in which session.
    told: Vec<BTreeMap<Prefix, u32>>,
    /// Prefixes that are in the kernel and may not leave it.
    owed: BTreeSet<Prefix>,
}

impl Router {
    /// What the kernel has dropped by itself while no daemon was there to write it again: nobody remembers it.
    fn forget_missing(&mut self) {
        let twin = self.kernel.twin();
        self.owed.retain(|prefix| twin.target(prefix).is_some());
        self.told.iter_mut().for_each(|told| told.retain(|prefix, _| twin.target(prefix).is_some()));
    }

    /// What a neighbor took back while the daemon did not run is remembered by nobody but the kernel. Where another one has
    /// announced it since, that one answers for it.
    fn forget_answered_for(&mut self) {
        let Self { told, spoken, sessions_before, .. } = self;
        let fresh = |at: usize, said: u32| said > sessions_before[at];
        let all =
            told.iter().enumerate().flat_map(|(at, told)| told.iter().map(move |(prefix, said)| (at, prefix, said)));
        let answered: BTreeSet<Prefix> = all.filter(|(at, _, said)| fresh(*at, **said)).map(|(_, it, _)| *it).collect();
        for (at, told) in told.iter_mut().enumerate().filter(|(at, _)| spoken[*at]) {
            told.retain(|prefix, said| fresh(at, *said) || !answered.contains(prefix));
        }
    }
}

/// The network.
pub struct World {
    plan: Plan,
    prefixes: Vec<Prefix>,
    net: Net<Packet>,
    links: Vec<LinkState>,
    by_id: BTreeMap<LinkId, usize>,
    routers: Vec<Router>,
    due: BTreeSet<(Instant, usize)>,
    later: BTreeSet<(Instant, Later)>,
    circles: BTreeMap<(usize, Prefix), Circle>,
    random: StdRng,
    figures: Figures,
    violation: Option<Violation>,
}

impl World {
    /// A network in which everything has just been switched on.
    pub fn new(plan: Plan, seed: u64) -> Self {
        let mut net = Net::new(seed);
        let mut routers = Vec::new();
        for number in 0..plan.routers.len() {
            let text = plan.config(number);
            let parsed = config::parse(&text).unwrap_or_else(|mistakes| panic!("{}", mistakes.render("sim", &text)));
            let neighbors = &plan.routers[number].neighbors;
            routers.push(Router {
                config: parsed.config,
                node: net.add_node(),
                powered: false,
                kernel: Kernel::default(),
                daemon: None,
                ipsecd: false,
                followed: false,
                tunnels: BTreeMap::new(),
                due: None,
                changes: 0,
                was_idle: false,
                repairing: false,
                sessions: vec![0; neighbors.len()],
                sessions_before: vec![0; neighbors.len()],
                spoken: vec![false; neighbors.len()],
                told: vec![BTreeMap::new(); neighbors.len()],
                owed: BTreeSet::new(),
            });
        }
        let links = plan.links.iter().map(|link| {
            let [a, b] = link.ends.map(|end| routers[end].node);
            let id = net.link(a, b, Profile::default().delay(DELAY));
            LinkState { id, cut: [false; 2], unplugged: false, sa: false }
        });
        let links: Vec<LinkState> = links.collect();
        let by_id = links.iter().enumerate().map(|(number, link)| (link.id, number)).collect();
        let prefixes = plan.prefixes();
        let mut this = Self {
            plan,
            prefixes,
            net,
            links,
            by_id,
            routers,
            due: BTreeSet::new(),
            later: BTreeSet::new(),
            circles: BTreeMap::new(),
            random: StdRng::seed_from_u64(seed ^ 0x5eed),
            figures: Figures::default(),
            violation: None,
        };
        for link in 0..this.links.len() {
            this.sync(link);
        }
        for router in 0..this.routers.len() {
            this.power_on(router);
        }
        this
    }

    /// Puts a mistake into a router.
    pub fn plant(&mut self, router: usize, defect: Defect) {
        self.routers[router].kernel.defect = Some(defect);
        self.kill(router, false);
        self.start(router);
    }

    /// Plays a schedule.
    ///
    /// # Errors
    /// The first thing that must never be.
    pub fn play(&mut self, events: &[Event]) -> Result<Figures, Violation> {
        self.settle()?;
        for event in events {
            self.pass(Duration::from_millis(event.after.into()))?;
            self.apply(event.fault)?;
        }
        self.settle()?;
        self.figures.elapsed = self.net.elapsed();
        Ok(self.figures)
    }

    fn now(&self) -> Instant {
        self.net.now()
    }

    fn violate(&mut self, what: String) {
        let at = self.net.elapsed();
        self.violation.get_or_insert(Violation { at, what });
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) -> Result<(), Violation> {
        let until = self.now() + time;
        loop {
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
            let first = self.due.first().map(|(at, _)| *at);
            let next = first.into_iter().chain(self.later.first().map(|(at, _)| *at)).chain([until]).min();
            match self.net.advance(next.unwrap_or(until)) {
                Step::Arrived(arrival) => {
                    let link = self.by_id[&arrival.link];
                    self.receive(arrival.node.index(), link, arrival.payload);
                }
                Step::Deadline => {
                    let now = self.now();
                    if let Some((_, later)) = self.later.pop_first_if(now) {
                        self.do_later(later);
                    } else if let Some((_, router)) = self.due.pop_first_if(now) {
                        self.routers[router].due = None;
                        self.with_daemon(router, |daemon, now, out| daemon.work(now, out));
                    } else if now >= until {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn receive(&mut self, router: usize, link: usize, packet: Packet) {
        if let (None, Packet::Tcp(key, segment)) = (&self.routers[router].daemon, &packet) {
            // The kernel of a router whose daemon does not run.
            use crate::tcp::Segment;
            if self.routers[router].powered && !matches!(segment, Segment::Reset | Segment::Ack(_)) {
                let (node, id) = (self.routers[router].node, self.links[link].id);
                self.net.send(node, id, Packet::Tcp(*key, Segment::Reset));
            }
            return;
        }
        self.with_daemon(router, |daemon, now, out| daemon.receive(now, link, packet, out));
    }

    /// Lets a daemon do something, and sees what came of it.
    fn with_daemon(&mut self, router: usize, work: impl FnOnce(&mut Daemon, Instant, &mut Outbox)) {
        let now = self.now();
        let mut out = Outbox::default();
        let Some(daemon) = &mut self.routers[router].daemon else { return };
        work(daemon, now, &mut out);
        let due = daemon.due();
        self.reschedule(router, due);
        self.deliver(router, out);
        self.check(router);
    }

    fn reschedule(&mut self, router: usize, due: Option<Instant>) {
        let known = &mut self.routers[router].due;
        if *known != due {
            if let Some(known) = std::mem::replace(known, due) {
                self.due.remove(&(known, router));
            }
            self.due.extend(due.map(|due| (due, router)));
        }
    }

    fn deliver(&mut self, router: usize, out: Outbox) {
        let node = self.routers[router].node;
        for (link, packet) in out.packets {
            self.net.send(node, self.links[link].id, packet);
        }
        for (at, heard) in out.heard {
            self.heard(router, at, heard);
        }
    }

    /// Whether packets pass from an end of a link to the other.
    fn passes(&self, link: usize, from: usize) -> bool {
        let state = &self.links[link];
        let keyed = self.plan.links[link].kind == LinkKind::Lan || state.sa;
        let powered = self.plan.links[link].ends.iter().all(|end| self.routers[*end].powered);
        keyed && powered && !state.unplugged && !state.cut[from]
    }

    /// The network's idea of a link follows ours.
    fn sync(&mut self, link: usize) {
        let id = self.links[link].id;
        self.net.mend(id);
        for end in 0..2 {
            if !self.passes(link, end) {
                self.net.cut_from(self.routers[self.plan.links[link].ends[end]].node, id);
            }
        }
    }

    fn in_a_while(&mut self, milliseconds: std::ops::Range<u64>, what: Later) {
        let after = Duration::from_millis(self.random.random_range(milliseconds));
        self.later.insert((self.now() + after, what));
    }

    fn do_later(&mut self, later: Later) {
        match later {
            Later::StartBgpd(router) => self.start(router),
            Later::Follow(router) => self.follow(router),
            Later::Ike(link) => self.ike(link),
            Later::Deleted(link, end) => self.tunnel_is(link, end, false),
            Later::Ipsecd(router) => {
                if self.routers[router].powered && !self.routers[router].ipsecd {
                    self.routers[router].ipsecd = true;
                    self.in_a_while(10..200, Later::Follow(router));
                    for link in self.tunnels_of(router) {
                        self.in_a_while(500..3000, Later::Ike(link));
                    }
                }
            }
            Later::Look => self.look(),
        }
    }

    /// Waits until everything is over, and compares.
    fn settle(&mut self) -> Result<(), Violation> {
        for link in &self.links {
            self.net.set_profile(link.id, Profile::default().delay(DELAY));
        }
        self.pass(SETTLED)?;
        self.figures.settled += 1;
        self.compare();
        self.violation.take().map_or(Ok(()), Err)
    }
}

/// The first of an ordered set, once it is due.
trait PopFirstIf<T> {
    fn pop_first_if(&mut self, now: Instant) -> Option<(Instant, T)>;
}

impl<T: Ord> PopFirstIf<T> for BTreeSet<(Instant, T)> {
    fn pop_first_if(&mut self, now: Instant) -> Option<(Instant, T)> {
        if self.first()?.0 <= now { self.pop_first() } else { None }
    }
}
