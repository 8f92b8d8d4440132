//! Which paths are so much like the best one that packets may be spread over them too (ECMP).
//!
//! The rules are FRR's: equal in every step of the decision down to the cost of the next hop; external paths through one
//! neighboring AS, internal ones along one AS path, unless that is relaxed. RFC 4271 knows nothing of it.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::{Candidate, DecisionOptions, SourceKind, length, med};

/// How many paths of a family may share the packets of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaximumPaths {
    /// When the best path is external (`maximum-paths`); 1 is the best path alone.
    pub external: u8,
    /// When it is internal (`maximum-paths ibgp`).
    pub internal: u8,
    /// Internal paths only beside such with as long a cluster list (`equal-cluster-length`).
    pub equal_cluster_length: bool,
}

impl Default for MaximumPaths {
    fn default() -> Self {
        Self { external: 1, internal: 1, equal_cluster_length: false }
    }
}

/// What is looked up for paths that come this far, which few do.
pub(crate) trait Details {
    /// The next hop that a candidate names.
    fn next_hop(&self, candidate: usize) -> IpAddr;
    /// The AS of the neighbor that it came from.
    fn peer_as(&self, candidate: usize) -> u32;
    /// Whether two have the same AS path.
    fn same_as_path(&self, a: usize, b: usize) -> bool;
}

/// The paths beside `best`, in order of their next hops, as FRR picks them when there are more than may be.
pub(super) fn beside(
    best: usize,
    candidates: &[Candidate<'_>],
    options: &DecisionOptions,
    maximum: &MaximumPaths,
    details: &impl Details,
) -> SmallVec<[usize; 4]> {
    let kind = candidates[best].kind;
    let limit = if kind == SourceKind::Internal { maximum.internal } else { maximum.external };
    if limit < 2 || candidates.len() < 2 || kind == SourceKind::Local || candidates[best].merit.blackhole {
        return SmallVec::new();
    }
    let alike = |at: &usize| *at != best && are_equal(best, *at, candidates, options, maximum, details);
    let mut found: SmallVec<[(IpAddr, usize); 4]> =
        (0..candidates.len()).filter(alike).map(|at| (details.next_hop(at), at)).collect();
    found.sort_unstable_by_key(|(next_hop, at)| (*next_hop, candidates[*at].address, candidates[*at].id));
    // Another path through a next hop is no other way.
    found.dedup_by_key(|(next_hop, _)| *next_hop);
    let own = details.next_hop(best);
    let others = found.into_iter().filter(|(next_hop, _)| *next_hop != own).map(|(_, at)| at);
    others.take(usize::from(limit) - 1).collect()
}

fn are_equal(
    best: usize,
    other: usize,
    candidates: &[Candidate<'_>],
    options: &DecisionOptions,
    maximum: &MaximumPaths,
    details: &impl Details,
) -> bool {
    let (a, b) = (&candidates[best], &candidates[other]);
    let (x, y) = (a.merit, b.merit);
    let comparable = options.always_compare_med || x.neighbor_as == y.neighbor_as;
    let both_internal = a.kind == SourceKind::Internal && b.kind == SourceKind::Internal;
    (a.stale, x.weight, x.local_pref, x.origin, a.metric) == (b.stale, y.weight, y.local_pref, y.origin, b.metric)
        && b.kind != SourceKind::Local
        && !y.blackhole
        && (options.ignore_as_path_length || length(x, options) == length(y, options))
        && (!comparable || med(x, options) == med(y, options))
        && (options.relax_peer_type || a.kind == b.kind)
        && (!maximum.equal_cluster_length || !both_internal || x.clusters == y.clusters)
        && (options.relax_as_path
            || match b.kind {
                SourceKind::Internal => details.same_as_path(best, other),
                _ => details.peer_as(best) == details.peer_as(other),
            })
}
