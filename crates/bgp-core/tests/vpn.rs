//! Routes of VPNs: told on with their labels, and imported by the VRFs that their route targets name.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use bgp_core::{
    PeerId,
    rib::{
        Departure, LocalAddresses, NextHopEvent, PeerConfig, PeerUp, Resolved, Rib, RibConfig, Source, VpnRoute,
        VrfConfig, VrfFamily,
    },
};
use bgp_wire::{
    Announcement, Attributes, ExtCommunity, FamilySet, Label, Labels, Negotiated, Origin, PathIds, PeerKind, Reach,
    Update,
};
use net_types::{Asn, Family, Prefix, Rd, RouterId};

const A: PeerId = PeerId(1);
const B: PeerId = PeerId(2);
const RED: u32 = 100;
const BLUE: u32 = 200;

struct Bench {
    rib: Rib,
    now: Instant,
}

fn prefix(rd: u32, text: &str) -> Prefix {
    text.parse::<Prefix>().unwrap().in_vpn(Rd::two_octet_as(65001, rd))
}

fn target(number: u8) -> ExtCommunity {
    ExtCommunity([0, 2, 0xfd, 0xe9, 0, 0, 0, number])
}

fn label(number: u32) -> Labels {
    Labels::from_elem(Label::try_from(number).unwrap(), 1)
}

fn address(peer: PeerId) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, peer.0 as u8).into()
}

fn announce(peer: PeerId, prefix: Prefix, number: u32, targets: &[u8]) -> Update {
    let ext_communities = targets.iter().map(|number| target(*number)).collect();
    let attributes = Attributes { local_pref: Some(100), ext_communities, ..Attributes::default() };
    let announced = Announcement { family: prefix.family(), next_hop: address(peer).into(), prefixes: vec![prefix] };
    let ids = PathIds { labels: [vec![label(number)]].into_iter().collect(), ..PathIds::default() };
    let reach = Reach { attributes, announced: [announced].into_iter().collect() };
    Update { reach: Some(reach), path_ids: Some(Box::new(ids)), ..Update::default() }
}

impl Bench {
    /// A route reflector with two clients that carry VPNv4, and the VRFs RED (imports target 1) and BLUE (2).
    fn new() -> Self {
        let now = Instant::now();
        let config = RibConfig::new(Asn::literal(65001), RouterId::try_from(0x0a00_0001).unwrap(), 1);
        let mut rib = Rib::new(config, now);
        for peer in [A, B] {
            let mut config = PeerConfig::new(address(peer), PeerKind::Internal, Asn::literal(65001));
            config.families.iter_mut().for_each(|family| family.rules.reflector_client = true);
            assert!(rib.configure_peer(peer, config));
            let families = FamilySet::from(Family::Ipv4Vpn);
            rib.peer_up(
                now,
                peer,
                PeerUp {
                    router_id: RouterId::try_from(peer.0).unwrap(),
                    remote_as: Asn::literal(65001),
                    negotiated: Negotiated { families, ..Negotiated::base(PeerKind::Internal) },
                    long_lived: FamilySet::EMPTY,
                    long_lived_preserved: FamilySet::EMPTY,
                    preserved: FamilySet::EMPTY,
                    sends_end_of_rib: true,
                    stale_limit: std::time::Duration::from_secs(360),
                    local: LocalAddresses { v4: Some(Ipv4Addr::new(192, 0, 2, 100)), ..Default::default() },
                    scope: 0,
                    awaits_filters: FamilySet::EMPTY,
                    shared_subnets: Vec::new(),
                },
            );
            while rib.poll_out(peer, 100).is_some() {}
        }
        let mut bench = Self { rib, now };
        bench.vrfs(&[(RED, 1, 1), (BLUE, 2, 2)]);
        bench
    }

    /// VRFs: table, distinguisher, route target to import.
    fn vrfs(&mut self, vrfs: &[(u32, u32, u8)]) {
        let config = |rd: u32, number: u8| {
            let family = VrfFamily { rd: Some(Rd::two_octet_as(65001, rd)), import: [target(number)].into() };
            VrfConfig { families: [family, VrfFamily::default()] }
        };
        let vrfs: BTreeMap<u32, VrfConfig> =
            vrfs.iter().map(|(table, rd, number)| (*table, config(*rd, *number))).collect();
        self.rib.set_vrfs(&vrfs);
    }

    fn settle(&mut self) {
        loop {
            while self.rib.work(self.now, 1) {}
            let Some(event) = self.rib.poll_next_hop() else { break };
            if let NextHopEvent::Wanted(key) = event {
                let resolved = Resolved { ifindex: 7, gateway: Some(key.address), metric: 0 };
                self.rib.next_hop_resolved(key, Some(resolved));
            }
        }
    }

    fn hear(&mut self, peer: PeerId, update: Update) {
        self.rib.update(self.now, peer, update);
        self.settle();
    }

    /// What the FIB is told: table, prefix and by whom it is best; nothing of VPNs as such.
    fn changes(&mut self) -> Vec<(Option<u32>, String, Option<Source>)> {
        let mut changes = Vec::new();
        while self.rib.poll_changes(1, &mut changes) {}
        changes
            .into_iter()
            .map(|c| (c.prefix.table(), c.prefix.plain().to_string(), c.best.map(|path| path.source)))
            .collect()
    }

    /// What `peer` is told, with labels.
    fn told(&mut self, peer: PeerId) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(batch) = self.rib.poll_out(peer, 1) {
            told.extend(batch.withdrawn.iter().map(|prefix| format!("-{prefix}")));
            for group in batch.announced {
                assert_eq!(group.prefixes.len(), group.labels.len());
                let both = group.prefixes.iter().zip(&group.labels);
                told.extend(both.map(|(prefix, labels)| format!("+{prefix} {labels:?} via {}", group.attrs.next_hop)));
            }
        }
        told
    }
}

fn of(table: u32, text: &str, peer: Option<PeerId>) -> (Option<u32>, String, Option<Source>) {
    (Some(table), text.to_owned(), peer.map(Source::Peer))
}

#[test]
fn a_route_goes_into_the_vrfs_that_its_targets_name_and_leaves_them_again() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, prefix(7, "10.0.0.0/8"), 16, &[1]));
    assert_eq!(bench.changes(), [of(RED, "10.0.0.0/8", Some(A))]);
    bench.hear(A, announce(A, prefix(7, "10.0.0.0/8"), 16, &[1, 2, 9]));
    assert_eq!(bench.changes(), [of(RED, "10.0.0.0/8", Some(A)), of(BLUE, "10.0.0.0/8", Some(A))]);
    bench.hear(A, announce(A, prefix(7, "10.0.0.0/8"), 16, &[2]));
    assert_eq!(bench.changes(), [of(RED, "10.0.0.0/8", None), of(BLUE, "10.0.0.0/8", Some(A))]);
    let withdrawn = vec![prefix(7, "10.0.0.0/8")];
    bench.hear(A, Update { withdrawn, ..Update::default() });
    assert_eq!(bench.changes(), [of(BLUE, "10.0.0.0/8", None)]);
    assert_eq!(bench.rib.prefix_count(Family::Ipv4Unicast), 0, "nothing of it is in this router's own table");
}

#[test]
fn of_two_vpns_with_one_prefix_the_better_route_is_used_and_the_other_stands_by() {
    let mut bench = Bench::new();
    let mut better = announce(B, prefix(8, "10.0.0.0/8"), 17, &[1]);
    better.reach.as_mut().unwrap().attributes.local_pref = Some(200);
    bench.hear(A, announce(A, prefix(7, "10.0.0.0/8"), 16, &[1]));
    bench.hear(B, better);
    assert_eq!(bench.changes(), [of(RED, "10.0.0.0/8", Some(B))]);
    let from = bench.rib.vrf_prefixes(RED, Family::Ipv4Unicast);
    let both = vec![prefix(8, "10.0.0.0/8"), prefix(7, "10.0.0.0/8")];
    assert_eq!(from, [("10.0.0.0/8".parse().unwrap(), both)]);
    bench.rib.peer_down(bench.now, B, Departure::Withdraw);
    bench.settle();
    assert_eq!(bench.changes(), [of(RED, "10.0.0.0/8", Some(A))]);
}

#[test]
fn a_walk_goes_by_distinguisher_and_ends() {
    let mut bench = Bench::new();
    for (rd, text) in [(9, "10.0.0.0/8"), (7, "11.0.0.0/8"), (7, "10.0.0.0/8")] {
        bench.hear(A, announce(A, prefix(rd, text), 16, &[1]));
    }
    let mut walk = bench.rib.walk_vpn(Family::Ipv4Vpn, None);
    assert_eq!(
        walk.by_ref().collect::<Vec<_>>(),
        [prefix(7, "10.0.0.0/8"), prefix(7, "11.0.0.0/8"), prefix(9, "10.0.0.0/8")]
    );
    assert_eq!((walk.remaining(), walk.next()), (0, None));
    assert_eq!(bench.rib.walk_vpn(Family::Ipv4Vpn, Some(Rd::two_octet_as(65001, 9))).count(), 1);
}

#[test]
fn vrfs_that_are_configured_later_or_no_longer_are_filled_and_emptied() {
    let mut bench = Bench::new();
    bench.vrfs(&[]);
    bench.hear(A, announce(A, prefix(7, "10.0.0.0/8"), 16, &[1]));
    assert_eq!(bench.changes(), []);
    bench.vrfs(&[(RED, 1, 1)]);
    assert_eq!(bench.changes(), [of(RED, "10.0.0.0/8", Some(A))]);
    bench.vrfs(&[(RED, 1, 2)]);
    assert_eq!(bench.changes(), [of(RED, "10.0.0.0/8", None)]);
    bench.vrfs(&[(BLUE, 1, 1)]);
    assert_eq!(bench.changes(), [of(BLUE, "10.0.0.0/8", Some(A))]);
    bench.vrfs(&[]);
    assert_eq!(bench.changes(), [of(BLUE, "10.0.0.0/8", None)]);
    assert!(!bench.rib.has_changes());
}

#[test]
fn labels_are_passed_on_with_the_next_hop_and_a_new_one_is_told() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, prefix(7, "10.0.0.0/8"), 16, &[1]));
    assert_eq!(bench.told(B), ["+65001:7:10.0.0.0/8 [16] via 192.0.2.1"]);
    bench.hear(A, announce(A, prefix(7, "10.0.0.0/8"), 16, &[1]));
    assert_eq!(bench.told(B), [] as [&str; 0]);
    bench.hear(A, announce(A, prefix(7, "10.0.0.0/8"), 17, &[1]));
    assert_eq!(bench.told(B), ["+65001:7:10.0.0.0/8 [17] via 192.0.2.1"]);
    let withdrawn = vec![prefix(7, "10.0.0.0/8")];
    bench.hear(A, Update { withdrawn, ..Update::default() });
    assert_eq!(bench.told(B), ["-65001:7:10.0.0.0/8"]);
    let mut config = PeerConfig::new(address(B), PeerKind::Internal, Asn::literal(65001));
    config.families.iter_mut().for_each(|family| {
        family.rules.reflector_client = true;
        family.next_hop_self = bgp_core::rib::NextHopSelf::Always;
    });
    bench.rib.configure_peer(B, config);
    bench.hear(A, announce(A, prefix(7, "10.0.0.0/8"), 18, &[1]));
    assert_eq!(bench.told(B), ["+65001:7:10.0.0.0/8 [] via 192.0.2.100"], "the label was A's, for packets to A");
}

#[test]
fn what_a_vrf_exports_is_told_and_keeps_others_out_of_its_table() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, prefix(7, "10.0.0.0/8"), 16, &[1]));
    assert_eq!(bench.changes(), [of(RED, "10.0.0.0/8", Some(A))]);
    let route = VpnRoute { targets: vec![target(1)], labels: label(99), origin: Origin::Igp };
    bench.rib.export_vpn(bench.now, prefix(1, "10.0.0.0/8"), route.clone());
    bench.settle();
    let own = Some(Source::Local(bgp_core::rib::LocalSource::Vrf));
    assert_eq!(bench.changes(), [(Some(RED), "10.0.0.0/8".to_owned(), own)]);
    let told = bench.told(B);
    assert!(told.contains(&"+65001:1:10.0.0.0/8 [99] via 192.0.2.100".to_owned()), "{told:?}");
    bench.rib.export_vpn(bench.now, prefix(1, "10.0.0.0/8"), VpnRoute { labels: label(100), ..route });
    assert_eq!(bench.told(B), ["+65001:1:10.0.0.0/8 [100] via 192.0.2.100"]);
    bench.rib.retract(bgp_core::rib::LocalSource::Vrf, &prefix(1, "10.0.0.0/8"));
    bench.settle();
    assert_eq!(bench.changes(), [of(RED, "10.0.0.0/8", Some(A))]);
}
