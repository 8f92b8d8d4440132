//! The BFD sessions that follow from a configuration and the links as they are.

use bfd::Peer;
use config::{
    Config,
    model::{BfdPeer, BfdPeerId, Neighbor, StaticTarget, UpdateSource},
};
use net_types::IfName;
use netwatch::View;

use super::Supervisor;
use crate::{
    bfd_thread::Wanted,
    setup::{self, BfdReach},
};

/// A session that no neighbor asks for: `bfd` / `peer …`.
fn bfd_alone(config: &Config, id: &BfdPeerId, peer: &BfdPeer, view: &View) -> Option<Wanted> {
    let profile = peer.timing(&config.bfd_profiles, None);
    let (timing, admin_down) = setup::timing(profile, config.frr_defaults);
    let link = match &id.interface {
        _ if id.multihop => None,
        Some(interface) => Some(view.link_named(interface.as_str())?),
        None => Some(view.on_link(id.address)?),
    };
    let interface = link.map(|link| link.name.parse::<IfName>()).transpose().ok()?;
    let local = || link.and_then(|link| view.source_toward(link.ifindex, id.address));
    Some(Wanted {
        neighbor: None,
        peer: Peer { ifindex: link.map_or(0, |link| link.ifindex), address: id.address },
        interface,
        minimum_ttl: if id.multihop { profile.minimum_ttl.unwrap_or(BfdPeer::MINIMUM_TTL) } else { u8::MAX },
        local: id.local.or_else(local),
        config: timing,
        admin_down,
    })
}

/// The session that a static route depends on.
fn bfd_of_static(route: &config::model::StaticRoute, view: &View) -> Option<(BfdPeerId, BfdPeer)> {
    let profile = route.bfd.as_ref()?.profile.clone();
    let StaticTarget::Gateway { address, interface } = &route.target else { return None };
    let interface = match interface {
        Some(interface) => interface.clone(),
        None => view.on_link(*address)?.name.parse().ok()?,
    };
    let id = BfdPeerId { address: *address, interface: Some(interface), local: None, multihop: false };
    Some((id, BfdPeer { profile, ..BfdPeer::default() }))
}

impl Supervisor {
    pub(super) fn bfd_sessions(&mut self, config: &Config, view: &View) {
        let mut wanted: Vec<Wanted> = Vec::new();
        if let Some(bgp) = &config.bgp {
            let neighbors = self.applied.peers.keys().filter_map(|address| self.neighbor_at(bgp, *address));
            wanted.extend(neighbors.filter_map(|neighbor| self.bfd_of_neighbor(config, bgp, &neighbor, view)));
        }
        for (id, peer) in &config.bfd_peers {
            let taken = |alone: &Wanted| {
                let same = |a: &Peer, b: &Peer| (a.address, a.is_multihop()) == (b.address, b.is_multihop());
                wanted.iter().any(|wanted| same(&wanted.peer, &alone.peer))
            };
            // A neighbor's session has its lines already.
            let alone = bfd_alone(config, id, peer, view).filter(|alone| !taken(alone));
            wanted.extend(alone);
        }
        for (id, peer) in config.static_routes.iter().filter_map(|route| bfd_of_static(route, view)) {
            let taken = |other: &Wanted| wanted.iter().any(|wanted| wanted.peer == other.peer);
            let watching = bfd_alone(config, &id, &peer, view).filter(|other| !taken(other));
            wanted.extend(watching);
        }
        if wanted != self.applied.bfd {
            self.daemon.bfd.sessions(wanted.clone());
            self.daemon.silence.retain(&wanted.iter().map(|wanted| wanted.peer).collect());
            self.applied.bfd = wanted;
        }
    }

    fn bfd_of_neighbor(
        &self,
        config: &Config,
        bgp: &config::model::Bgp,
        neighbor: &Neighbor,
        view: &View,
    ) -> Option<Wanted> {
        let address = self.address_of(neighbor)?;
        let entry = self.daemon.neighbors.get(&address)?;
        let reach = setup::bfd_reach(bgp, neighbor, entry.interface.is_some());
        let (timing, admin_down) = setup::bfd(config, neighbor, reach)?;
        let neighbor_id = Some(entry.handle.id());
        match reach {
            BfdReach::Link => {
                let (ifindex, interface) = entry.interface?;
                // An address that went with its link is expected back.
                let before = self.applied.bfd.iter().find(|before| before.peer.address == address);
                Some(Wanted {
                    neighbor: neighbor_id,
                    peer: Peer { ifindex, address },
                    interface: Some(interface),
                    minimum_ttl: u8::MAX,
                    local: view.source_toward(ifindex, address).or(before.and_then(|before| before.local)),
                    config: timing,
                    admin_down,
                })
            }
            BfdReach::Multihop { minimum_ttl } => Some(Wanted {
                neighbor: neighbor_id,
                peer: Peer::multihop(address),
                interface: None,
                minimum_ttl,
                local: match &neighbor.settings.update_source {
                    Some(UpdateSource::Address(local)) => Some(*local),
                    Some(UpdateSource::Interface(interface)) => {
                        view.link_named(interface.as_str()).and_then(|link| view.source_toward(link.ifindex, address))
                    }
                    None => None,
                },
                config: timing,
                admin_down,
            }),
        }
    }
}
