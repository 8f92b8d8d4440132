//! Every candidate in order of preference, for those who may not be told of the best.

use super::{Candidate, DecisionOptions, compare};

/// Indexes of all candidates, each the best of those that come behind it.
///
/// Within a neighboring AS the comparison is a total order, and so it is between the first of each, which never compare
/// MEDs. So the ranking merges sorted runs: n candidates of k neighboring ASes cost O(n log n) comparisons, and moving up to
/// k numbers a candidate.
pub(crate) fn ranked(candidates: &[Candidate<'_>], options: &DecisionOptions) -> Vec<usize> {
    let mut all: Vec<usize> = (0..candidates.len()).collect();
    let by_merit = |a: &usize, b: &usize| compare(&candidates[*a], &candidates[*b], options);
    if options.always_compare_med {
        all.sort_by(by_merit);
        return all;
    }
    let neighbor = |at: &usize| candidates[*at].merit.neighbor_as;
    all.sort_by(|a, b| neighbor(a).cmp(&neighbor(b)).then_with(|| by_merit(a, b)));
    // The rest of each run, the one with the best head last.
    let mut runs: Vec<&[usize]> = all.chunk_by(|a, b| neighbor(a) == neighbor(b)).collect();
    runs.sort_by(|a, b| by_merit(&b[0], &a[0]));
    let mut ranking = Vec::with_capacity(all.len());
    while let Some((best, rest)) = runs.pop().and_then(<[usize]>::split_first) {
        ranking.push(*best);
        if let Some(head) = rest.first() {
            let place = runs.partition_point(|run| by_merit(&run[0], head).is_gt());
            runs.insert(place, rest);
        }
    }
    ranking
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            Merit,
            tests::{PLAIN, candidate},
            winner,
        },
        *,
    };

    proptest! {
        #[test]
        fn each_is_the_best_of_those_that_are_left(
            paths in proptest::collection::vec((1u32..4, 0u32..3, proptest::option::of(0u32..3), 0u32..3), 0..9),
            always_compare_med: bool,
        ) {
            let merit = |(path_len, neighbor_as, med, _): &(u32, u32, Option<u32>, u32)| {
                Merit { path_len: *path_len, neighbor_as: *neighbor_as, med: *med, ..PLAIN }
            };
            let merits: Vec<_> = paths.iter().map(merit).collect();
            let candidates: Vec<_> = merits.iter().zip(&paths).zip(1..).map(|((merit, path), source)| {
                Candidate { metric: path.3, ..candidate(merit, source) }
            }).collect();
            let options = DecisionOptions { always_compare_med, ..DecisionOptions::default() };
            let mut left: Vec<u16> = candidates.iter().map(|candidate| candidate.source).collect();
            for at in ranked(&candidates, &options) {
                let best = winner(&candidates, &options, |candidate| left.contains(&candidate.source));
                prop_assert_eq!(Some(at), best);
                left.retain(|source| *source != candidates[at].source);
            }
            prop_assert!(left.is_empty());
        }
    }
}
