//! Which path is best (RFC 4271 §9.1.2), and which would be if that one failed.
//!
//! The comparison is pure: candidates are usable paths (next hop resolved, loops and policy passed). The steps are
//! those that operators know from other vendors; where the RFC leaves a choice, FRR's default is ours. One departure:
//! paths are always compared per neighboring AS first (`bgp deterministic-med`), since the outcome of comparing them
//! in order of arrival depends on that order.

mod multipath;
mod ranking;
mod step;

use std::{cmp::Ordering, net::IpAddr};

use net_types::Family;
use smallvec::SmallVec;

pub(crate) use self::multipath::Details;
pub use self::multipath::MaximumPaths;
pub(crate) use self::ranking::ranked;
pub use self::step::Step;
pub(crate) use self::step::deciding;
use crate::rib::attrs::Merit;

/// Where a path came from, as far as the decision cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SourceKind {
    Local,
    External,
    /// From another member AS of our confederation.
    Confederation,
    Internal,
}

impl SourceKind {
    /// From within our AS, as those outside see it (RFC 5065 §5.3).
    pub(crate) fn is_internal(self) -> bool {
        matches!(self, Self::Internal | Self::Confederation)
    }
}

/// What can be configured about the comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecisionOptions {
    /// Compare MEDs of different neighboring ASes (`bgp always-compare-med`).
    pub always_compare_med: bool,
    /// A path without MED is the worst rather than the best (`bgp bestpath med missing-as-worst`).
    pub missing_med_as_worst: bool,
    /// Between external paths prefer the lower router-id rather than the older path (`bgp bestpath compare-routerid`).
    pub compare_router_id: bool,
    /// Do not compare path lengths (`bgp bestpath as-path ignore`).
    pub ignore_as_path_length: bool,
    /// Member ASes of the confederation count as length (`bgp bestpath as-path confed`).
    pub count_confederation: bool,
    /// Packets may be spread over paths through several ASes, if they are as long (`bgp bestpath as-path multipath-relax`).
    pub relax_as_path: bool,
    /// The same over external and internal paths at once (`bgp bestpath peer-type multipath-relax`).
    pub relax_peer_type: bool,
    /// Over how many; indexed by `Family as usize`.
    pub maximum_paths: [MaximumPaths; Family::COUNT],
    /// In which shares.
    pub link_bandwidth: LinkBandwidth,
}

/// What becomes of the bandwidths that paths name which share packets (`bgp bestpath bandwidth`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkBandwidth {
    /// Shares are in proportion when all of them name one, else equal.
    #[default]
    WhenAll,
    /// Shares are equal (`ignore`).
    Ignore,
    /// Those that name none get nothing when others do (`skip-missing`).
    SkipMissing,
    /// Those that name none get the least share when others do (`default-weight-for-missing`).
    DefaultForMissing,
}

/// A usable path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) merit: &'a Merit,
    pub(crate) kind: SourceKind,
    /// Kept from a session that ended (RFC 4724 §4.2): used only while nothing fresher is there.
    pub(crate) stale: bool,
    pub(crate) router_id: u32,
    pub(crate) address: IpAddr,
    /// Cost to the next hop.
    pub(crate) metric: u32,
    pub(crate) learned: u32,
    /// Which source, and what packets take: an alternate should share neither with the best path.
    pub(crate) source: u16,
    /// Which of several paths of the source.
    pub(crate) id: u32,
    pub(crate) exit: (u32, Option<IpAddr>),
}

/// Indexes of the best path, of those that share its packets, and of the one that survives the failure of all these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) best: Option<usize>,
    pub(crate) beside: SmallVec<[usize; 4]>,
    pub(crate) alternate: Option<usize>,
}

/// Chooses among candidates of one family.
pub(crate) fn choose(
    candidates: &[Candidate<'_>],
    options: &DecisionOptions,
    maximum: &MaximumPaths,
    details: &impl Details,
) -> Choice {
    let Some(best) = winner(candidates, options, |_| true) else { return Choice::default() };
    if candidates.len() == 1 {
        return Choice { best: Some(best), ..Choice::default() };
    }
    let beside = multipath::beside(best, candidates, options, maximum, details);
    let alternate = standby(candidates, options, best, &beside);
    Choice { best: Some(best), beside, alternate }
}

/// Chooses among candidates of several entries, of which none share packets: the best and its alternate.
pub(crate) fn best_and_alternate(candidates: &[Candidate<'_>], options: &DecisionOptions) -> [Option<usize>; 2] {
    let best = winner(candidates, options, |_| true);
    [best, best.and_then(|best| standby(candidates, options, best, &[]))]
}

/// The best path that survives the failure of those that are chosen.
fn standby(candidates: &[Candidate<'_>], options: &DecisionOptions, best: usize, beside: &[usize]) -> Option<usize> {
    let chosen = || std::iter::once(best).chain(beside.iter().copied()).map(|at| &candidates[at]);
    let other_source = |c: &Candidate<'_>| chosen().all(|it| it.source != c.source);
    let other_exit = |c: &Candidate<'_>| chosen().all(|it| it.exit != c.exit);
    // Another peer over the same exit survives the peer's death but not the exit's: only if there is no better.
    let apart = winner(candidates, options, |c| other_source(c) && other_exit(c));
    let alternate = apart.or_else(|| winner(candidates, options, other_source));
    // Another path of the same peer survives at least the exit.
    alternate.or_else(|| winner(candidates, options, other_exit))
}

/// The best path of each neighboring AS, in order of the AS.
pub(crate) fn best_per_neighbor(candidates: &[Candidate<'_>], options: &DecisionOptions) -> Vec<usize> {
    let mut ases: Vec<u32> = candidates.iter().map(|c| c.merit.neighbor_as).collect();
    ases.sort_unstable();
    ases.dedup();
    ases.into_iter().filter_map(|asn| winner(candidates, options, |c| c.merit.neighbor_as == asn)).collect()
}

/// The best of the candidates that `wanted` lets take part.
fn winner(
    candidates: &[Candidate<'_>],
    options: &DecisionOptions,
    wanted: impl Fn(&Candidate<'_>) -> bool,
) -> Option<usize> {
    let mut indexes: SmallVec<[usize; 8]> = (0..candidates.len()).filter(|i| wanted(&candidates[*i])).collect();
    let across = |a: usize, b: usize| compare(&candidates[a], &candidates[b], options);
    if indexes.len() <= 2 || options.always_compare_med {
        return indexes.into_iter().min_by(|a, b| across(*a, *b));
    }
    // Within a neighboring AS every comparison sees the MED, so it is a total order; between the winners none does.
    indexes.sort_unstable_by_key(|i| candidates[*i].merit.neighbor_as);
    indexes
        .chunk_by(|a, b| candidates[*a].merit.neighbor_as == candidates[*b].merit.neighbor_as)
        .filter_map(|group| group.iter().copied().min_by(|a, b| across(*a, *b)))
        .min_by(|a, b| across(*a, *b))
}

fn med(merit: &Merit, options: &DecisionOptions) -> u32 {
    merit.med.unwrap_or(if options.missing_med_as_worst { u32::MAX } else { 0 })
}

fn length(merit: &Merit, options: &DecisionOptions) -> u32 {
    let confederation = if options.count_confederation { merit.confed_len } else { 0 };
    merit.path_len.saturating_add(confederation.into())
}

/// Whether a router of our AS that has told us `theirs` prefers what we tell it of `ours`: by what both carry between us, which
/// comes before its preference for what is external to itself (RFC 4271 §9.1.2.2 d). Weights stay on either router, and what
/// export policy makes of a path is not asked.
pub(crate) fn prefers_ours(theirs: &Candidate<'_>, ours: &Candidate<'_>, options: &DecisionOptions) -> bool {
    let (x, y) = (ours.merit, theirs.merit);
    let told = ours.stale.cmp(&theirs.stale).then(y.local_pref.cmp(&x.local_pref));
    theirs.kind.is_internal() && !ours.kind.is_internal() && told.then_with(|| by_attributes(x, y, options)).is_lt()
}

/// By what is left of the attributes behind LOCAL_PREF.
fn by_attributes(x: &Merit, y: &Merit, options: &DecisionOptions) -> Ordering {
    let by_length = match options.ignore_as_path_length {
        true => Ordering::Equal,
        false => length(x, options).cmp(&length(y, options)), // §9.1.2.2 a
    };
    by_length
        .then(x.origin.cmp(&y.origin)) // §9.1.2.2 b
        .then_with(|| match options.always_compare_med || x.neighbor_as == y.neighbor_as {
            true => med(x, options).cmp(&med(y, options)), // §9.1.2.2 c
            false => Ordering::Equal,
        })
}

/// `Less` when `a` is the better path.
fn compare(a: &Candidate<'_>, b: &Candidate<'_>, options: &DecisionOptions) -> Ordering {
    let (x, y) = (a.merit, b.merit);
    let local = |c: &Candidate<'_>| c.kind == SourceKind::Local;
    // ORIGINATOR_ID stands in for the router-id of reflected paths (RFC 4456 §9).
    let router_id = |c: &Candidate<'_>| if c.merit.originator == 0 { c.router_id } else { c.merit.originator };
    a.stale
        .cmp(&b.stale)
        .then(y.weight.cmp(&x.weight))
        .then(y.local_pref.cmp(&x.local_pref)) // §9.1.1
        .then(local(b).cmp(&local(a)))
        .then_with(|| by_attributes(x, y, options))
        .then(a.kind.is_internal().cmp(&b.kind.is_internal())) // §9.1.2.2 d, RFC 5065 §5.3
        .then(a.metric.cmp(&b.metric)) // §9.1.2.2 e
        .then_with(|| match (a.kind, b.kind) {
            // The older one, so that a newcomer that is no better moves no traffic (RFC 5004).
            (SourceKind::External, SourceKind::External) if !options.compare_router_id => a.learned.cmp(&b.learned),
            _ => Ordering::Equal,
        })
        .then_with(|| router_id(a).cmp(&router_id(b))) // §9.1.2.2 f
        .then(x.clusters.cmp(&y.clusters)) // RFC 4456 §9
        .then(a.address.cmp(&b.address)) // §9.1.2.2 g
        .then(a.source.cmp(&b.source)) // two sources of our own
        .then(a.id.cmp(&b.id))
}

#[cfg(test)]
mod tests;
