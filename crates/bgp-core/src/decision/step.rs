//! Which step of the decision told two paths apart, for people: `show bgp … PREFIX` names it.

use super::{Candidate, DecisionOptions, SourceKind, winner};

/// The steps of the decision, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There was nothing to decide: it is the only path that can be used.
    Only,
    /// The other one is kept from a session that ended.
    Staleness,
    /// Cisco's weight.
    Weight,
    /// LOCAL_PREF.
    LocalPref,
    /// It is our own.
    Local,
    /// The length of the AS path.
    AsPath,
    /// ORIGIN.
    Origin,
    /// MULTI_EXIT_DISC.
    Med,
    /// External before internal.
    PeerType,
    /// The cost to the next hop.
    IgpMetric,
    /// The older one.
    Age,
    /// The lower identifier of the neighbor, or of the originator.
    RouterId,
    /// The length of the cluster list.
    Clusters,
    /// The lower address of the neighbor.
    Address,
    /// Nothing but which came first within the same source.
    Rest,
}

/// By which step `best`, an index into `candidates`, is before the best of the others.
pub(crate) fn deciding(candidates: &[Candidate<'_>], best: usize, options: &DecisionOptions) -> Step {
    let Some(chosen) = candidates.get(best) else { return Step::Only };
    let others: Vec<Candidate<'_>> =
        candidates.iter().enumerate().filter(|(at, _)| *at != best).map(|(_, candidate)| *candidate).collect();
    match winner(&others, options, |_| true).and_then(|at| others.get(at)) {
        Some(second) => between(chosen, second, options),
        None => Step::Only,
    }
}

/// The first step at which two paths differ.
fn between(a: &Candidate<'_>, b: &Candidate<'_>, options: &DecisionOptions) -> Step {
    let (x, y) = (a.merit, b.merit);
    let both_external = (a.kind, b.kind) == (SourceKind::External, SourceKind::External);
    let router_id = |c: &Candidate<'_>| if c.merit.originator == 0 { c.router_id } else { c.merit.originator };
    let length = |c: &Candidate<'_>| {
        (c.merit.path_len, if options.count_confederation { c.merit.confed_len } else { Default::default() })
    };
    let med_counts = options.always_compare_med || x.neighbor_as == y.neighbor_as;
    let med = |m: Option<u32>| m.unwrap_or(if options.missing_med_as_worst { u32::MAX } else { 0 });
    if y.long_lived_stale && !x.long_lived_stale {
        return Step::Only; // RFC 9494 §4.3: whatever else there is, such a path is used for want of another
    }
    let steps = [
        (Step::Staleness, a.stale != b.stale),
        (Step::Weight, x.weight != y.weight),
        (Step::LocalPref, x.local_pref != y.local_pref),
        (Step::Local, (a.kind == SourceKind::Local) != (b.kind == SourceKind::Local)),
        (Step::AsPath, !options.ignore_as_path_length && length(a) != length(b)),
        (Step::Origin, x.origin != y.origin),
        (Step::Med, med_counts && med(x.med) != med(y.med)),
        (Step::PeerType, a.kind.is_internal() != b.kind.is_internal()),
        (Step::IgpMetric, a.metric != b.metric),
        (Step::Age, both_external && !options.compare_router_id && a.learned != b.learned),
        (Step::RouterId, router_id(a) != router_id(b)),
        (Step::Clusters, x.clusters != y.clusters),
        (Step::Address, a.address != b.address),
    ];
    steps.into_iter().find(|(_, differs)| *differs).map_or(Step::Rest, |(step, _)| step)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    fn step(better: &Candidate<'_>, worse: &Candidate<'_>) -> Step {
        let both = [*worse, *better];
        let options = DecisionOptions::default();
        assert_eq!(winner(&both, &options, |_| true), Some(1), "{better:?} is to win");
        deciding(&both, 1, &options)
    }

    #[test]
    fn the_step_that_decided_is_named() {
        let plain = candidate(&PLAIN, 2);
        let by = |change: fn(&mut crate::rib::attrs::Merit)| {
            let mut merit = PLAIN;
            change(&mut merit);
            step(&candidate(&merit, 1), &plain)
        };
        assert_eq!(by(|m| m.weight = 100), Step::Weight);
        assert_eq!(by(|m| m.local_pref = 200), Step::LocalPref);
        assert_eq!(by(|m| m.path_len = 1), Step::AsPath);
        assert_eq!(by(|_| ()), Step::RouterId);
        let with = |change: fn(&mut Candidate<'_>)| {
            let mut worse = plain;
            change(&mut worse);
            step(&candidate(&PLAIN, 1), &worse)
        };
        assert_eq!(with(|c| c.stale = true), Step::Staleness);
        assert_eq!(with(|c| c.kind = SourceKind::Internal), Step::PeerType);
        assert_eq!(with(|c| c.metric = 10), Step::IgpMetric);
        assert_eq!(with(|c| c.learned = 7), Step::Age);
        let last_resort = crate::rib::attrs::Merit { long_lived_stale: true, ..PLAIN };
        let long_lived = Candidate { stale: true, ..candidate(&last_resort, 2) };
        assert_eq!(step(&candidate(&PLAIN, 1), &long_lived), Step::Only);
        assert_eq!(deciding(&[plain], 0, &DecisionOptions::default()), Step::Only);
    }
}
