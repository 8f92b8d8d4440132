//! Pauses between bursts of UPDATEs (MinRouteAdvertisementIntervalTimer, RFC 4271 §9.2.1.1).
//!
//! Whatever a group of neighbors is owed goes out together; then nothing does for as long as `advertisement-interval` says.
//! Kept by group, since all that is sent to a group is. Withdrawals wait, too, as in FRR: what follows a withdrawal within
//! the pause is then one change and not two.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bgp_core::adj_out::GroupId;

/// Where the groups are that pause at all.
#[derive(Debug, Default)]
pub(super) struct Pauses(BTreeMap<GroupId, Burst>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Burst {
    Going,
    OverUntil(Instant),
}

impl Pauses {
    /// Whether nothing may be sent to `group` now.
    pub(super) fn holds(&mut self, group: GroupId, now: Instant) -> bool {
        match self.0.get(&group) {
            Some(Burst::OverUntil(until)) if *until > now => true,
            Some(Burst::OverUntil(_)) => {
                self.0.remove(&group);
                false
            }
            Some(Burst::Going) | None => false,
        }
    }

    /// Something was sent.
    pub(super) fn sent(&mut self, group: GroupId, interval: Duration) {
        if !interval.is_zero() {
            self.0.insert(group, Burst::Going);
        }
    }

    /// There is nothing more to send for now.
    pub(super) fn done(&mut self, group: GroupId, interval: Duration, now: Instant) {
        if let Some(burst @ Burst::Going) = self.0.get_mut(&group) {
            *burst = Burst::OverUntil(now + interval);
        }
    }

    /// When the next pause is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let ends = self.0.values().filter_map(|burst| match burst {
            Burst::OverUntil(until) => Some(*until),
            Burst::Going => None,
        });
        ends.min()
    }
}

#[cfg(test)]
mod tests {
    use bgp_core::{
        PeerId,
        rib::{LocalAddresses, PeerConfig, PeerUp, Rib, RibConfig},
    };
    use bgp_wire::{FamilySet, Negotiated, PeerKind};
    use net_types::Asn;

    use super::*;

    #[test]
    fn between_bursts_there_is_the_pause_that_was_asked_for() {
        let start = Instant::now();
        let config = RibConfig::new(Asn::literal(65001), "10.0.0.1".parse().unwrap(), 1);
        let mut rib = Rib::new(config, start);
        let asked = Duration::from_secs(5);
        for (number, advertisement_interval) in [(1, asked), (2, Duration::ZERO)] {
            let peer = PeerConfig::new([192, 0, 2, number].into(), PeerKind::External, Asn::literal(65001));
            rib.configure_peer(PeerId(number.into()), PeerConfig { advertisement_interval, ..peer });
            let up = PeerUp {
                router_id: u32::from(number).try_into().unwrap(),
                remote_as: Asn::literal(65009),
                negotiated: Negotiated::base(PeerKind::External),
                long_lived: FamilySet::EMPTY,
                long_lived_preserved: FamilySet::EMPTY,
                preserved: FamilySet::EMPTY,
                sends_end_of_rib: false,
                stale_limit: asked,
                local: LocalAddresses { v4: Some([192, 0, 2, 100].into()), ..LocalAddresses::default() },
                scope: 0,
                awaits_filters: FamilySet::EMPTY,
                shared_subnets: Vec::new(),
            };
            rib.peer_up(start, PeerId(number.into()), up);
        }
        let groups = rib.groups();
        assert_eq!(groups.len(), 2, "who pauses is not in a group with who does not");
        let mut pauses = Pauses::default();
        for group in &groups {
            let interval = rib.advertisement_interval(*group);
            assert!(!pauses.holds(*group, start));
            pauses.sent(*group, interval);
            assert!(!pauses.holds(*group, start), "the rest of the burst may go");
            pauses.done(*group, interval, start);
            pauses.done(*group, interval, start + asked / 2);
            assert_eq!(pauses.holds(*group, start + asked / 2), !interval.is_zero());
        }
        assert_eq!(pauses.deadline(), Some(start + asked));
        assert!(groups.iter().all(|group| !pauses.holds(*group, start + asked)));
        assert_eq!(pauses.deadline(), None);
    }
}
