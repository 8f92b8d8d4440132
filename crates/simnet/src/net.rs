//! The event queue: packets in flight, in the order in which they arrive.

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::link::{Counters, Link, LinkId, Profile};

/// Names one node of a [`Net`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

impl NodeId {
    /// Position in the order in which the nodes were added, for use as an index.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What a network can carry.
pub trait Payload: Clone {
    /// Its length as far as an MTU is concerned.
    fn octets(&self) -> usize;
}

impl Payload for Vec<u8> {
    fn octets(&self) -> usize {
        self.len()
    }
}

/// A packet that has reached the other end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival<P> {
    /// Where it came from.
    pub from: NodeId,
    /// Who has it now.
    pub node: NodeId,
    /// The link it came over.
    pub link: LinkId,
    /// What was sent.
    pub payload: P,
}

/// Why [`Net::advance`] stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<P> {
    /// A packet arrived; the clock stands at its arrival.
    Arrived(Arrival<P>),
    /// Nothing arrived up to the deadline; the clock stands there.
    Deadline,
}

/// Nodes, links, packets in flight and the clock.
pub struct Net<P> {
    seed: u64,
    rng: StdRng,
    origin: Instant,
    now: Instant,
    nodes: usize,
    links: Vec<Link>,
    /// By time of arrival, then in the order of sending: equal delays keep the order.
    in_flight: BTreeMap<(Instant, u64), (usize, Arrival<P>)>,
    next_serial: u64,
}

impl<P: Payload> Net<P> {
    /// An empty network whose chances are all drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let origin = Instant::now(); // an origin only: nothing below reads a clock
        Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
            origin,
            now: origin,
            nodes: 0,
            links: Vec::new(),
            in_flight: BTreeMap::new(),
            next_serial: 0,
        }
    }

    /// What to run again to see the same.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Virtual time since the network was made.
    pub fn elapsed(&self) -> Duration {
        self.now - self.origin
    }

    /// Adds a node.
    pub fn add_node(&mut self) -> NodeId {
        self.nodes += 1;
        NodeId(self.nodes - 1)
    }

    /// Joins two nodes; several links between the same two are several ways.
    ///
    /// # Panics
    /// When a node is not of this network or both are the same.
    pub fn link(&mut self, a: NodeId, b: NodeId, profile: Profile) -> LinkId {
        assert!(a != b && a.0 < self.nodes && b.0 < self.nodes, "{a:?} and {b:?} cannot be linked");
        self.links.push(Link::new(a, b, profile));
        LinkId(self.links.len() - 1)
    }

    /// From now on the link behaves differently; packets already in flight keep their time of arrival.
    pub fn set_profile(&mut self, link: LinkId, profile: Profile) {
        self.links[link.0].profile = profile;
    }

    /// Nothing passes until [`Net::mend`]; what is in flight is lost.
    pub fn cut(&mut self, link: LinkId) {
        self.links[link.0].cut = [true; 2];
    }

    /// Nothing that `from` sends passes until [`Net::mend`]; the other direction works on.
    ///
    /// # Panics
    /// When `from` is not an end of the link.
    pub fn cut_from(&mut self, from: NodeId, link: LinkId) {
        let link = &mut self.links[link.0];
        let direction = link.direction_from(from).expect("the node is an end of the link");
        link.cut[direction] = true;
    }

    /// Undoes every cut of the link made by hand.
    pub fn mend(&mut self, link: LinkId) {
        self.links[link.0].cut = [false; 2];
    }

    /// Nothing passes during `window`, counted from the network's beginning.
    pub fn partition(&mut self, link: LinkId, window: Range<Duration>) {
        self.links[link.0].partitions.push((self.origin + window.start, self.origin + window.end));
    }

    /// What became of the link's packets so far.
    pub fn counters(&self, link: LinkId) -> Counters {
        self.links[link.0].counters
    }

    /// Sends a packet to the other end of the link.
    ///
    /// # Panics
    /// When `from` is not an end of the link.
    pub fn send(&mut self, from: NodeId, link: LinkId, payload: P) {
        let now = self.now;
        let Link { ends, profile, .. } = self.links[link.0];
        let state = &mut self.links[link.0];
        let direction = state.direction_from(from).expect("the sender is an end of the link");
        state.counters.sent += 1;
        // Every packet draws the same number of chances, so that a change of one profile disturbs the others least.
        let (lost, twice) = (self.rng.random_bool(profile.loss), self.rng.random_bool(profile.duplicate));
        let arrivals = [(); 2].map(|()| now + profile.delay + profile.jitter.mul_f64(self.rng.random::<f64>()));
        if payload.octets() > profile.mtu {
            state.counters.oversized += 1;
        } else if lost {
            state.counters.lost += 1;
        } else if !state.passes(direction, now) {
            state.counters.cut += 1;
        } else {
            state.counters.duplicated += u64::from(twice);
            for at in &arrivals[..1 + usize::from(twice)] {
                let arrival = Arrival { from, node: ends[1 - direction], link, payload: payload.clone() };
                self.in_flight.insert((*at, self.next_serial), (direction, arrival));
                self.next_serial += 1;
            }
        }
    }

    /// Turns the clock to the next arrival or to `deadline`, whichever is first. A deadline in the past stands for now.
    pub fn advance(&mut self, deadline: Instant) -> Step<P> {
        let deadline = deadline.max(self.now);
        while let Some(next) = self.in_flight.first_entry() {
            let at = next.key().0;
            if at > deadline {
                break;
            }
            let (direction, arrival) = next.remove();
            self.now = at;
            let link = &mut self.links[arrival.link.0];
            if link.passes(direction, at) {
                link.counters.delivered += 1;
                return Step::Arrived(arrival);
            }
            link.counters.cut += 1;
        }
        self.now = deadline;
        Step::Deadline
    }

    /// When the next packet arrives, if any is in flight.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.first_key_value().map(|((at, _), _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pair(seed: u64, profile: Profile) -> (Net<Vec<u8>>, NodeId, NodeId, LinkId) {
        let mut net = Net::new(seed);
        let (a, b) = (net.add_node(), net.add_node());
        let link = net.link(a, b, profile);
        (net, a, b, link)
    }

    /// Everything that arrives within an hour, with the time since the beginning.
    fn drain(net: &mut Net<Vec<u8>>) -> Vec<(Duration, Vec<u8>)> {
        let end = net.now() + Duration::from_secs(3600);
        let mut arrived = Vec::new();
        while let Step::Arrived(arrival) = net.advance(end) {
            arrived.push((net.elapsed(), arrival.payload));
        }
        arrived
    }

    #[test]
    fn a_perfect_wire_delivers_in_order_after_its_delay() {
        let (mut net, a, _, link) = pair(1, Profile::default().delay(5 * MS));
        for n in 0..10u8 {
            net.send(a, link, vec![n]);
        }
        assert_eq!(drain(&mut net), (0..10).map(|n| (5 * MS, vec![n])).collect::<Vec<_>>());
    }

    #[test]
    fn the_deadline_comes_first_when_it_is_earlier() {
        let (mut net, a, _, link) = pair(1, Profile::default().delay(5 * MS));
        net.send(a, link, vec![1]);
        assert_eq!(net.advance(net.now() + 3 * MS), Step::Deadline);
        assert_eq!(net.elapsed(), 3 * MS);
        assert!(matches!(net.advance(net.now() + 3 * MS), Step::Arrived(_)));
        assert_eq!(net.elapsed(), 5 * MS);
        assert_eq!(net.advance(net.now() - 3 * MS), Step::Deadline, "the past stands for now");
        assert_eq!(net.elapsed(), 5 * MS);
    }

    #[test]
    fn jitter_reorders_and_duplicates_arrive_twice() {
        let (mut net, a, _, link) = pair(3, Profile::default().jitter(50 * MS).duplicate(0.5));
        for n in 0..100u8 {
            net.send(a, link, vec![n]);
        }
        let order: Vec<u8> = drain(&mut net).into_iter().map(|(_, payload)| payload[0]).collect();
        assert!(!order.is_sorted());
        let counters = net.counters(link);
        assert!((20..80).contains(&counters.duplicated), "{counters:?}");
        assert_eq!(order.len() as u64, 100 + counters.duplicated);
        assert!((0..100).all(|n| order.contains(&n)));
    }

    #[test]
    fn loss_takes_its_share() {
        let (mut net, a, _, link) = pair(4, Profile::default().loss(0.2));
        for _ in 0..10_000 {
            net.send(a, link, vec![0]);
        }
        let arrived = drain(&mut net).len();
        assert!((7_700..8_300).contains(&arrived), "{arrived} of 10000 arrived at 20 % loss");
        assert_eq!(net.counters(link).lost as usize, 10_000 - arrived);
    }

    #[test]
    fn packets_beyond_the_mtu_vanish() {
        let (mut net, a, _, link) = pair(5, Profile::default().mtu(100));
        net.send(a, link, vec![0; 101]);
        net.send(a, link, vec![0; 100]);
        assert_eq!(drain(&mut net).len(), 1);
        assert_eq!(net.counters(link).oversized, 1);
    }

    #[test]
    fn a_partition_stops_what_is_sent_and_what_is_in_flight() {
        let (mut net, a, b, link) = pair(6, Profile::default().delay(10 * MS));
        net.partition(link, 5 * MS..20 * MS);
        net.send(a, link, vec![1]); // would arrive at 10 ms
        assert_eq!(net.advance(net.now() + 15 * MS), Step::Deadline);
        net.send(b, link, vec![2]); // sent into the partition
        assert_eq!(net.advance(net.now() + 5 * MS), Step::Deadline);
        net.send(b, link, vec![3]); // at 20 ms the link is whole again
        assert_eq!(drain(&mut net), [(30 * MS, vec![3])]);
        assert_eq!(net.counters(link).cut, 2);
    }

    #[test]
    fn one_direction_can_be_cut_alone() {
        let (mut net, a, b, link) = pair(7, Profile::default());
        net.cut_from(a, link);
        net.send(a, link, vec![1]);
        net.send(b, link, vec![2]);
        assert_eq!(drain(&mut net), [(Duration::ZERO, vec![2])]);
        net.mend(link);
        net.send(a, link, vec![3]);
        assert_eq!(drain(&mut net).len(), 1);
    }

    proptest! {
        #[test]
        fn the_same_seed_gives_the_same_run(seed: u64, sizes in prop::collection::vec(1usize..200, 0..60)) {
            let run = || {
                let (mut net, a, b, link) = pair(seed, Profile::lossy().mtu(150));
                for (n, size) in sizes.iter().enumerate() {
                    net.send(if n % 2 == 0 { a } else { b }, link, vec![n as u8; *size]);
                    net.advance(net.now() + MS);
                }
                (drain(&mut net), net.counters(link))
            };
            prop_assert_eq!(run(), run());
        }

        #[test]
        fn every_packet_is_accounted_for(seed: u64, count in 0u64..200) {
            let (mut net, a, _, link) = pair(seed, Profile::lossy());
            for _ in 0..count {
                net.send(a, link, vec![0]);
            }
            drain(&mut net);
            let c = net.counters(link);
            prop_assert_eq!(c.sent, count);
            prop_assert_eq!(c.delivered, c.sent - c.lost - c.cut - c.oversized + c.duplicated);
        }
    }
}
