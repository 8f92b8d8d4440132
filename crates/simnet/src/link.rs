//! What a link does to the packets that cross it.

use std::time::{Duration, Instant};

use crate::NodeId;

/// Names one link of a [`Net`](crate::Net).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub(crate) usize);

/// How a link treats what is sent over it; the same in both directions.
///
/// The default is a perfect wire: nothing lost, no delay, no limit on size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    pub(crate) mtu: usize,
}

impl Default for Profile {
    fn default() -> Self {
        Self { loss: 0.0, duplicate: 0.0, delay: Duration::ZERO, jitter: Duration::ZERO, mtu: usize::MAX }
    }
}

impl Profile {
    /// A bad line: 20 ms away, a fifth is lost, some arrive twice and most out of order.
    pub fn lossy() -> Self {
        Self::default().loss(0.2).duplicate(0.05).delay(Duration::from_millis(20)).jitter(Duration::from_millis(60))
    }

    /// The share of packets that vanish, 0.0 to 1.0.
    ///
    /// # Panics
    /// When `share` is not a probability.
    #[must_use]
    pub fn loss(mut self, share: f64) -> Self {
        assert!((0.0..=1.0).contains(&share), "loss of {share}: expected 0.0 to 1.0");
        self.loss = share;
        self
    }

    /// The share of packets that arrive a second time, 0.0 to 1.0.
    ///
    /// # Panics
    /// When `share` is not a probability.
    #[must_use]
    pub fn duplicate(mut self, share: f64) -> Self {
        assert!((0.0..=1.0).contains(&share), "duplication of {share}: expected 0.0 to 1.0");
        self.duplicate = share;
        self
    }

    /// The least time from one end to the other.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Up to this much is added to the delay of each packet on its own, which also reorders them.
    #[must_use]
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Packets longer than this many octets vanish, as with path MTU discovery broken.
    #[must_use]
    pub fn mtu(mut self, octets: usize) -> Self {
        self.mtu = octets;
        self
    }
}

/// What became of the packets of one link, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Handed to the link.
    pub sent: u64,
    /// Handed to a node, duplicates included.
    pub delivered: u64,
    /// Dropped by chance.
    pub lost: u64,
    /// Dropped because the link was cut when they were sent or when they would have arrived.
    pub cut: u64,
    /// Dropped because they were longer than the MTU.
    pub oversized: u64,
    /// Extra copies made.
    pub duplicated: u64,
}

/// A link and its state.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) ends: [NodeId; 2],
    pub(crate) profile: Profile,
    /// Cut by hand until mended by hand, per direction: `[from ends[0], from ends[1]]`.
    pub(crate) cut: [bool; 2],
    /// Half-open spans of time in which nothing passes, in either direction.
    pub(crate) partitions: Vec<(Instant, Instant)>,
    pub(crate) counters: Counters,
}

impl Link {
    pub(crate) fn new(a: NodeId, b: NodeId, profile: Profile) -> Self {
        Self { ends: [a, b], profile, cut: [false; 2], partitions: Vec::new(), counters: Counters::default() }
    }

    /// Which direction a packet from `node` takes: an index into `ends` and `cut`.
    pub(crate) fn direction_from(&self, node: NodeId) -> Option<usize> {
        self.ends.iter().position(|end| *end == node)
    }

    pub(crate) fn passes(&self, direction: usize, at: Instant) -> bool {
        !self.cut[direction] && !self.partitions.iter().any(|(from, until)| (*from..*until).contains(&at))
    }
}
