//! Shares of the packets by link bandwidth (draft-ietf-idr-link-bandwidth), for paths that share them.
//!
//! The rules are FRR's: a share is a percentage of the sum, and at least 1.

use bgp_wire::ExtCommunity;
use smallvec::SmallVec;

use super::table::Entry;
use super::{Path, PathAttrs, attrs::AttrId, state::Shared};
use crate::{decision::LinkBandwidth, policy::Sharing};

/// The bandwidth that a path names, in octets a second.
pub(crate) fn of(attrs: &PathAttrs) -> Option<u64> {
    attrs.attributes.ext_communities.iter().find_map(|community: &ExtCommunity| community.bandwidth())
}

/// What is told of an entry's paths that share packets.
pub(crate) fn sharing(shared: &Shared, entry: &Entry) -> Sharing {
    let named = |path: &Path| of(&shared.attrs.attrs(path.effective?));
    let named: SmallVec<[Option<u64>; 4]> = entry.sharing().iter().map(named).collect();
    let octets = named.iter().flatten().copied().fold(0, u64::saturating_add);
    let weighted = match shared.decision.link_bandwidth {
        _ if named.len() < 2 || octets == 0 => false,
        LinkBandwidth::Ignore => false,
        LinkBandwidth::WhenAll => named.iter().all(Option::is_some),
        LinkBandwidth::SkipMissing | LinkBandwidth::DefaultForMissing => true,
    };
    Sharing { paths: entry.sharing().len() as u8, octets, weighted }
}

/// Of several paths that share packets, each one's weight; `None` for one that gets nothing.
pub(crate) fn weights(shared: &Shared, sharing: &[&Path]) -> SmallVec<[Option<u8>; 4]> {
    let handling = shared.decision.link_bandwidth;
    if sharing.len() < 2 || handling == LinkBandwidth::Ignore {
        return sharing.iter().map(|_| Some(1)).collect();
    }
    let named = |id: AttrId| of(&shared.attrs.attrs(id));
    let named: SmallVec<[Option<u64>; 4]> = sharing.iter().map(|path| path.effective.and_then(named)).collect();
    shares(&named, handling)
}

fn shares(named: &[Option<u64>], handling: LinkBandwidth) -> SmallVec<[Option<u8>; 4]> {
    let all = named.iter().all(Option::is_some);
    let total: u128 = named.iter().flatten().map(|octets| u128::from(*octets)).sum();
    let missing = match handling {
        _ if total == 0 => return named.iter().map(|_| Some(1)).collect(),
        LinkBandwidth::Ignore | LinkBandwidth::WhenAll if !all => return named.iter().map(|_| Some(1)).collect(),
        LinkBandwidth::SkipMissing => None,
        LinkBandwidth::Ignore | LinkBandwidth::WhenAll | LinkBandwidth::DefaultForMissing => Some(1),
    };
    let share = |octets: &Option<u64>| match octets {
        Some(octets) => Some((u128::from(*octets) * 100 / total).max(1) as u8), // at most 100
        None => missing,
    };
    named.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages_and_missing_ones_are_dealt_with_as_configured() {
        let shares = |named: &[u64], handling| {
            let named: Vec<_> = named.iter().map(|octets| Some(*octets).filter(|octets| *octets > 0)).collect();
            super::shares(&named, handling).to_vec()
        };
        use LinkBandwidth::{DefaultForMissing, SkipMissing, WhenAll};
        assert_eq!(shares(&[30, 10], WhenAll), [Some(75), Some(25)]);
        assert_eq!(shares(&[1, 1000], WhenAll), [Some(1), Some(99)], "never nothing");
        assert_eq!(shares(&[u64::MAX, u64::MAX], WhenAll), [Some(50), Some(50)]);
        assert_eq!(shares(&[30, 0], WhenAll), [Some(1), Some(1)]);
        assert_eq!(shares(&[30, 10, 0], SkipMissing), [Some(75), Some(25), None]);
        assert_eq!(shares(&[30, 10, 0], DefaultForMissing), [Some(75), Some(25), Some(1)]);
        assert_eq!(shares(&[0, 0], SkipMissing), [Some(1), Some(1)], "none names any");
    }
}
