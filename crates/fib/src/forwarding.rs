//! What packets meet at the end of a route: one nexthop, or several that share them.

use crate::backend::Nexthop;

/// A nexthop and its share of the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeightedNexthop {
    /// Which one.
    pub nexthop: Nexthop,
    /// Beside the others' weights; not 0.
    pub weight: u8,
}

/// What packets to a route meet.
///
/// Equal values forward alike, whatever kinds of kernel objects they are: a group of one member is what its member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// All go one way, or none does.
    Single(Nexthop),
    /// Flows are spread over these: two at least, no two the same, in order.
    Multipath(Box<[WeightedNexthop]>),
}

impl Forwarding {
    /// Flows spread over `nexthops`, equal ones adding up (up to the greatest weight); `None` when there are none.
    pub(crate) fn spread(nexthops: impl Iterator<Item = WeightedNexthop>) -> Option<Self> {
        let mut nexthops = nexthops.peekable();
        let first = nexthops.next()?;
        if nexthops.peek().is_none() {
            return Some(Self::Single(first.nexthop));
        }
        let mut all: Vec<WeightedNexthop> = std::iter::once(first).chain(nexthops).collect();
        all.sort_unstable();
        all.dedup_by(|later, first| {
            let same = later.nexthop == first.nexthop;
            if same {
                first.weight = first.weight.saturating_add(later.weight);
            }
            same
        });
        match all.as_slice() {
            [only] => Some(Self::Single(only.nexthop)),
            _ => Some(Self::Multipath(all.into())),
        }
    }

    /// Every nexthop, with its share.
    pub fn nexthops(&self) -> impl Iterator<Item = WeightedNexthop> + Clone {
        let (single, several) = match self {
            Self::Single(nexthop) => (Some(WeightedNexthop { nexthop: *nexthop, weight: 1 }), &[][..]),
            Self::Multipath(several) => (None, &several[..]),
        };
        single.into_iter().chain(several.iter().copied())
    }

    /// Whether packets are dropped.
    pub fn is_blackhole(&self) -> bool {
        matches!(self, Self::Single(Nexthop::Blackhole(_)))
    }
}

#[cfg(test)]
mod tests {
    use net_types::Family;

    use super::*;

    fn hop(ifindex: u32, weight: u8) -> WeightedNexthop {
        let nexthop = Nexthop::Via { family: Family::Ipv4Unicast, ifindex, gateway: None };
        WeightedNexthop { nexthop, weight }
    }

    #[test]
    fn equal_nexthops_add_up_and_order_says_nothing() {
        let spread = |hops: &[WeightedNexthop]| Forwarding::spread(hops.iter().copied());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[hop(1, 7)]), Some(Forwarding::Single(hop(1, 1).nexthop)));
        assert_eq!(spread(&[hop(1, 7), hop(1, 2)]), Some(Forwarding::Single(hop(1, 1).nexthop)));
        assert_eq!(spread(&[hop(2, 1), hop(1, 200), hop(1, 100)]), spread(&[hop(1, 255), hop(2, 1)]));
        assert_ne!(spread(&[hop(1, 1), hop(2, 2)]), spread(&[hop(1, 2), hop(2, 1)]));
    }
}
