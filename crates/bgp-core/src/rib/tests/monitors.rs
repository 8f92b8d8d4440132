//! Monitoring stations are told what there is and then what changes (RFC 7854).

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What a station believes, from what it was told.
#[derive(Default, Debug, PartialEq)]
struct Believed {
    up: BTreeSet<PeerId>,
    /// By view and prefix: the AS path.
    routes: BTreeMap<(String, Prefix), String>,
    ends: Vec<String>,
}

impl Believed {
    fn take(&mut self, view: String, changes: Watched, end_of_rib: bool) {
        for prefix in changes.withdrawn {
            let had = self.routes.remove(&(view.clone(), prefix));
            assert!(had.is_some(), "{view}: {prefix} is withdrawn and was never announced");
        }
        for (attrs, prefixes) in changes.announced {
            for prefix in prefixes {
                self.routes.insert((view.clone(), prefix), attrs.attributes.as_path.to_string());
            }
        }
        if end_of_rib {
            self.ends.push(view);
        }
    }

    fn pull(&mut self, rib: &mut Rib, id: MonitorId, budget: usize) {
        while let Some(piece) = rib.poll_monitor(id, budget) {
            match piece {
                MonitorPiece::Up(peer) => assert!(self.up.insert(peer)),
                MonitorPiece::Down(peer) => {
                    assert!(self.up.remove(&peer));
                    self.routes.retain(|(view, _), _| !view.ends_with(&format!("{peer:?}")));
                }
                MonitorPiece::AdjIn { peer, pre_policy, post_policy, end_of_rib, .. } => {
                    assert!(self.up.contains(&peer));
                    self.take(format!("pre {peer:?}"), pre_policy.unwrap(), end_of_rib);
                    self.take(format!("post {peer:?}"), post_policy.unwrap(), false);
                }
                MonitorPiece::AdjOut { peer, changes, end_of_rib, .. } => {
                    assert!(self.up.contains(&peer));
                    self.take(format!("out {peer:?}"), changes, end_of_rib);
                }
                MonitorPiece::LocRib { changes, end_of_rib, .. } => self.take("loc".into(), changes, end_of_rib),
            }
        }
        assert!(!rib.owes_monitor(id));
    }
}

fn everything() -> MonitorConfig {
    let both = [true; Family::COUNT];
    MonitorConfig { pre_policy: both, post_policy: both, loc_rib: both, adj_out: both }
}

/// What a station would believe that knew the table itself.
fn truth(bench: &Bench) -> BTreeMap<(String, Prefix), String> {
    let mut all = BTreeMap::new();
    for prefix in bench.rib.walk(&Prefix::DEFAULT_V4) {
        let Some(route) = bench.rib.route(bench.now, &prefix) else { continue };
        for path in &route.paths {
            let Source::Peer(peer) = path.source else { continue };
            let gone = path.stale || matches!(path.state, PathState::Ghost | PathState::Leaving);
            if !gone {
                all.insert((format!("pre {peer:?}"), prefix), path.received.attributes.as_path.to_string());
                if let Some(effective) = &path.effective {
                    all.insert((format!("post {peer:?}"), prefix), effective.attributes.as_path.to_string());
                }
            }
            if path.state == PathState::Best
                && let Some(effective) = &path.effective
            {
                all.insert(("loc".into(), prefix), effective.attributes.as_path.to_string());
            }
        }
        for peer in [A, B, C] {
            if let Some(attrs) = bench.rib.advertised(peer, &prefix) {
                all.insert((format!("out {peer:?}"), prefix), attrs.attributes.as_path.to_string());
            }
        }
    }
    all
}

#[test]
fn a_station_is_told_what_there_is_and_then_what_changes() {
    let mut bench = Bench::new();
    bench.hear(A, announce(A, 1, &["10.0.0.0/8", "11.0.0.0/8"]));
    let id = bench.rib.add_monitor(everything()).unwrap();
    let mut station = Believed::default();
    bench.told(C);
    station.pull(&mut bench.rib, id, 1);
    assert_eq!(station.routes, truth(&bench));
    assert_eq!(station.up, [A, B, C].into());
    assert_eq!(station.ends.iter().filter(|view| *view == "loc").count(), Family::COUNT, "one for each family");
    bench.hear(B, announce(B, 3, &["10.0.0.0/8"]));
    bench.hear(A, withdraw(&["10.0.0.0/8"]));
    bench.told(C);
    station.pull(&mut bench.rib, id, 1);
    assert_eq!(station.routes, truth(&bench));
    bench.rib.peer_down(bench.now, A, Departure::Withdraw);
    bench.settle();
    bench.told(C);
    station.pull(&mut bench.rib, id, 100);
    assert_eq!(station.routes, truth(&bench));
    assert_eq!(station.up, [B, C].into());
    bench.rib.remove_monitor(id);
    bench.settle();
    assert_eq!(bench.rib.poll_monitor(id, 1), None);
}

proptest::proptest! {
    /// Whatever happens, and however seldom a station looks, in the end it believes what is so.
    #[test]
    fn a_station_believes_what_is_so(
        steps in proptest::collection::vec((0u8..8, 1u32..4, 0u8..6, 1usize..4), 1..60),
    ) {
        let mut bench = Bench::new();
        let id = bench.rib.add_monitor(everything()).unwrap();
        let mut station = Believed::default();
        for (what, peer, octet, budget) in steps {
            let (peer, text) = (PeerId(peer), format!("{}.0.0.0/8", 10 + octet));
            match what {
                0..=2 => bench.hear(peer, announce(peer, 1 + u32::from(octet) % 3, &[&text])),
                3 => bench.hear(peer, withdraw(&[&text])),
                4 => {
                    let until = bench.now + Duration::from_secs(60);
                    let stale = Departure::Stale { until, families: FamilySet::from(V4), long_lived: Default::default() };
                    bench.rib.peer_down(bench.now, peer, if octet < 3 { stale } else { Departure::Withdraw });
                    bench.settle();
                }
                5 => {
                    bench.rib.peer_up(bench.now, peer, up(peer));
                    bench.settle();
                }
                6 => drop(bench.told(peer)),
                _ => station.pull(&mut bench.rib, id, budget),
            }
        }
        bench.pass(Duration::from_secs(1000));
        for peer in [A, B, C] {
            bench.told(peer);
        }
        station.pull(&mut bench.rib, id, 7);
        proptest::prop_assert_eq!(&station.routes, &truth(&bench));
    }
}
