//! The routes that follow from a configuration and the links as they are: those that are announced, and static ones.

use bgp_core::rib::LocalSource;
use bgp_wire::PeerKind;
use config::Config;
use fib::PathList;
use net_types::Family;
use netwatch::View;

use super::Supervisor;
use crate::{
    fib_thread::{Distances, Restored, StaticRoute},
    local_routes::{self, Static},
    rib_thread::Gone,
    static_health, vrf,
};

impl Supervisor {
    pub(super) async fn originate(&mut self, config: &Config, view: &View) -> Result<(), Gone> {
        let wanted = local_routes::originated(config, view, &self.health());
        let (put, take) = local_routes::difference(&self.applied.originated, &wanted);
        self.applied.originated = wanted;
        if put.is_empty() && take.is_empty() {
            return Ok(());
        }
        self.daemon
            .rib
            .apply(move |rib, now| {
                for ((source, prefix), route) in put {
                    rib.originate(now, source, prefix, route);
                }
                for (source, prefix) in take {
                    rib.retract(source, &prefix);
                }
            })
            .await
    }

    /// What VRFs import and export.
    pub(super) async fn vrfs(&mut self, config: &Config, view: &View) -> Result<(), Gone> {
        let wanted = vrf::vrfs(config, view);
        if wanted == self.applied.vrfs {
            return Ok(());
        }
        let (put, take) = local_routes::difference(&self.applied.vrfs.exports, &wanted.exports);
        let imports = wanted.imports.clone();
        self.applied.vrfs = wanted;
        self.daemon
            .rib
            .apply(move |rib, now| {
                rib.set_vrfs(&imports);
                for (prefix, route) in put {
                    rib.export_vpn(now, prefix, route);
                }
                for prefix in take {
                    rib.retract(LocalSource::Vrf, &prefix);
                }
            })
            .await
    }

    /// Tells the FIB how routes of BGP rank beside static ones.
    pub(super) fn distances(&mut self, config: &Config) {
        let of = |family: Family| {
            let section = config.bgp.as_ref().and_then(|bgp| bgp.families.get(&family));
            section.and_then(|section| section.distance).unwrap_or_default()
        };
        let internal = self.applied.peers.values().filter(|peer| peer.config.kind == PeerKind::Internal);
        let distances = Distances {
            external: Family::ALL.map(|family| of(family).external),
            internal: Family::ALL.map(|family| of(family).internal),
            internal_sources: internal.map(|peer| peer.spec.id.0).collect(),
        };
        if distances != self.applied.distances {
            self.daemon.fib.distances(distances.clone());
            self.applied.distances = distances;
        }
    }

    pub(super) fn statics(&mut self, config: &Config, view: &View) {
        let wanted = local_routes::statics(config, view, &self.health());
        if wanted == self.applied.statics {
            return;
        }
        // Before the routes: those that depend on a session that is not up yet lead nowhere.
        self.daemon.fib.words(self.daemon.static_bfd.watch(local_routes::watched(&wanted)));
        let routes: Vec<StaticRoute> = wanted
            .iter()
            .map(|(prefix, route)| {
                let way = |way: &Static| match way {
                    Static::Via { ifindex, gateway, bfd } => Some(static_health::path(*ifindex, *gateway, *bfd)),
                    Static::Blackhole | Static::Reject => None,
                };
                let ways: Vec<_> = route.ways.iter().filter_map(way).map(|path| (path, 1)).collect();
                let alternates: Vec<_> = route.alternates.iter().filter_map(way).collect();
                let paths = match &route.ways[..] {
                    [Static::Reject, ..] => PathList::unreachable(),
                    [Static::Blackhole, ..] => PathList::ordered([]),
                    _ => PathList::multipath(&ways, &alternates),
                };
                StaticRoute { prefix: *prefix, paths, distance: route.distance }
            })
            .collect();
        self.daemon.fib.statics(routes);
        for interface in self.daemon.neighbors.exits.set(&wanted, view) {
            self.daemon.fib.restored(Restored::Interface(interface));
        }
        self.next_hops.set_statics(&wanted);
        self.applied.statics = wanted;
    }
}
