//! AS4_PATH and AS4_AGGREGATOR, types 17 and 18: how four-octet AS numbers cross two-octet speakers (RFC 6793 §4.2).
//!
//! Their values are those of AS_PATH and AGGREGATOR with four-octet numbers; this file puts the two views together.

use smallvec::SmallVec;

use super::{Aggregator, AsPath, Segment, SegmentKind};
use net_types::Asn;

/// The path that a two-octet speaker passed on, with the numbers it could not hold filled in (RFC 6793 §4.2.3).
pub(crate) fn merge_path(narrow: AsPath, wide: &AsPath) -> AsPath {
    let wide = wide.without_confederation(); // RFC 6793 §6: confederation segments in AS4_PATH are discarded
    // RFC 6793 §4.2.3: an AS4_PATH longer than the AS_PATH is ignored.
    let Some(mut leading) = narrow.hop_count().checked_sub(wide.hop_count()) else { return narrow };
    let mut segments: SmallVec<[Segment; 1]> = SmallVec::new();
    for segment in narrow.segments() {
        match segment.kind {
            // Leading ones, and those beside what is kept, are kept.
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => segments.push(segment.clone()),
            _ if leading == 0 => break,
            SegmentKind::Set => {
                segments.push(segment.clone());
                leading -= 1;
            }
            SegmentKind::Sequence => {
                let kept = segment.asns.len().min(leading);
                segments.push(Segment { kind: segment.kind, asns: segment.asns.iter().take(kept).copied().collect() });
                leading -= kept;
                if kept < segment.asns.len() {
                    break;
                }
            }
        }
    }
    for segment in wide.segments() {
        match segments.last_mut() {
            Some(last)
                if (last.kind, segment.kind) == (SegmentKind::Sequence, SegmentKind::Sequence)
                    && last.asns.len() + segment.asns.len() <= 255 =>
            {
                last.asns.extend_from_slice(&segment.asns);
            }
            _ => segments.push(segment.clone()),
        }
    }
    AsPath::from_segments(segments)
}

/// Whether, and with what, AS4_AGGREGATOR replaces AGGREGATOR. The flag says whether AS4_PATH counts (RFC 6793 §4.2.3).
pub(crate) fn merge_aggregator(narrow: Option<Aggregator>, wide: Option<Aggregator>) -> (Option<Aggregator>, bool) {
    match (narrow, wide) {
        // An old speaker aggregated after the new ones: what they attached is out of date.
        (Some(narrow), Some(_)) if narrow.asn != Asn::TRANS => (Some(narrow), false),
        (Some(_), Some(wide)) => (Some(wide), true),
        (narrow, _) => (narrow, true),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::Asns;

    fn asns(numbers: &[u32]) -> Asns {
        numbers.iter().map(|n| Asn::try_from(*n).unwrap()).collect()
    }

    fn path(numbers: &[u32]) -> AsPath {
        AsPath::sequence(asns(numbers))
    }

    #[test]
    fn the_leading_part_comes_from_the_narrow_path() {
        let merged = merge_path(path(&[64500, 23456, 64501, 23456]), &path(&[4_200_000_000, 64501, 70000]));
        assert_eq!(merged, path(&[64500, 4_200_000_000, 64501, 70000]));
    }

    #[test]
    fn a_longer_wide_path_is_ignored() {
        assert_eq!(merge_path(path(&[64500]), &path(&[70000, 70001])), path(&[64500]));
    }

    #[test]
    fn confederation_segments_stay_in_front_and_never_come_from_the_wide_path() {
        let confed = Segment { kind: SegmentKind::ConfedSequence, asns: asns(&[64601]) };
        let narrow = AsPath::from_segments([
            confed.clone(),
            Segment { kind: SegmentKind::Sequence, asns: asns(&[64500, 23456]) },
        ]);
        let wide =
            AsPath::from_segments([confed.clone(), Segment { kind: SegmentKind::Sequence, asns: asns(&[70000]) }]);
        let merged = merge_path(narrow, &wide);
        assert_eq!(
            merged,
            AsPath::from_segments([confed, Segment { kind: SegmentKind::Sequence, asns: asns(&[64500, 70000]) }])
        );
    }

    #[test]
    fn a_set_counts_as_one_hop() {
        let narrow = AsPath::from_segments([
            Segment { kind: SegmentKind::Sequence, asns: asns(&[64500]) },
            Segment { kind: SegmentKind::Set, asns: asns(&[23456, 64502]) },
        ]);
        let wide = AsPath::from_segments([Segment { kind: SegmentKind::Set, asns: asns(&[70000, 64502]) }]);
        assert_eq!(merge_path(narrow, &wide).to_string(), "64500 {70000,64502}");
    }

    #[test]
    fn an_old_aggregator_outdates_both_wide_attributes() {
        let with = |asn| Some(Aggregator { asn, address: Ipv4Addr::new(192, 0, 2, 1) });
        let wide = with(Asn::literal(70000));
        assert_eq!(merge_aggregator(with(Asn::literal(64500)), wide), (with(Asn::literal(64500)), false));
        assert_eq!(merge_aggregator(with(Asn::TRANS), wide), (wide, true));
        assert_eq!(merge_aggregator(None, wide), (None, true));
    }
}
