//! From one configuration to the next, by the difference: what stays as it was does not notice.

mod liveness;
mod routes;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use bgp_core::{
    PeerId,
    rib::{PeerConfig, RibConfig},
};
use bgp_wire::{FamilySet, Notification, notification::CeaseCode};
use config::{Config, model::Neighbor};
use fib::wire::ROUTE_PROTOCOL;
use net_types::{Family, IfName};
use netwatch::View;
use rpc::TunnelState;
use tracing::{info, warn};

use super::{neighbors::Entry, start::listen, supervisor::Supervisor};
use crate::{
    bfd_thread::Wanted,
    fib_thread::Distances,
    local_routes::{self, Originated},
    peer::{self, PeerCommand, PeerSpec, SetupError},
    policy_setup::{self, Policies},
    rib_thread::Gone,
    setup,
    static_health::{Carried, Health},
    vrf,
};

/// What is in force.
#[derive(Default)]
pub(super) struct Applied {
    peers: BTreeMap<IpAddr, AppliedPeer>,
    originated: Originated,
    vrfs: vrf::Vrfs,
    statics: local_routes::Statics,
    distances: Distances,
    bfd: Vec<Wanted>,
    pub(super) last_id: u32,
}

impl Applied {
    pub(super) fn insert(&mut self, address: IpAddr, peer: AppliedPeer) {
        self.peers.insert(address, peer);
    }
}

pub(super) struct AppliedPeer {
    pub(super) spec: PeerSpec,
    config: PeerConfig,
    stale_limit: Duration,
}

/// What a neighbor is to be.
pub(super) struct Plan {
    address: IpAddr,
    neighbor: Neighbor,
    pub(super) new: AppliedPeer,
    /// It came by itself, from a listen range.
    dynamic: bool,
    through_tunnel: bool,
    rides_out_link_loss: bool,
}

/// Where a neighbor is reached: by its `interface`, on a connected subnet, or through the tunnel that its address
/// belongs to.
pub(super) fn locate(config: &Config, neighbor: &Neighbor, view: &View) -> Option<(u32, IfName)> {
    let named = setup::interface_of(neighbor).cloned().or_else(|| setup::tunnel_of(config, neighbor));
    let link = match named {
        Some(name) => view.link_named(name.as_str()),
        None => view.on_link(neighbor.id.address()?),
    }?;
    Some((link.ifindex, link.name.parse().ok()?))
}

impl Supervisor {
    /// Goes over to `config`, whole or not at all.
    ///
    /// # Errors
    /// What keeps it from being applied, in which case nothing has changed.
    pub(super) async fn apply(&mut self, config: Arc<Config>) -> Result<String, String> {
        let identity = self.identity(&config)?;
        if config.bgp.is_some() && !self.listening {
            let keys = self.keys_changed.subscribe();
            listen(&self.daemon.options.listen, &self.acceptors, &keys).map_err(|error| format!("{error:#}"))?;
            self.listening = true;
        }
        // Sessions whose OPEN said something else come up anew; their tasks see that by themselves.
        self.speaker.router_id = identity.router_id;
        self.speaker.hostname = config.hostname.as_ref().map(ToString::to_string).or_else(setup::host_name);
        let policies = Policies::new(&config);
        let (plans, ids) = self.plan(&config, &policies)?;
        self.applied.last_id = ids;
        if identity != self.rib_config {
            self.daemon.rib.configure(identity.clone()).await.map_err(|gone| gone.to_string())?;
            self.rib_config = identity;
        }
        let summary = self.apply_plans(&config, plans).await.map_err(|gone| gone.to_string())?;
        self.apply_policies(&config, &policies).await.map_err(|gone| gone.to_string())?;
        *self.daemon.running.write().unwrap_or_else(PoisonError::into_inner) = config.clone();
        self.daemon.fib.damping(config.path_damping);
        self.open_doors(&config)?;
        if local_routes::asks_for_foreign_routes(&config)
            && let Err(error) = self.watch.follow_routes(ROUTE_PROTOCOL)
        {
            warn!(%error, "routes of others in the kernel cannot be followed");
        }
        self.links_changed().await.map_err(|gone| gone.to_string())?;
        Ok(summary)
    }

    /// Who this router is. An identifier that was chosen and not configured stays as long as there is a speaker.
    fn identity(&self, config: &Config) -> Result<RibConfig, String> {
        let Some(bgp) = &config.bgp else { return Ok(self.rib_config.clone()) };
        let chosen =
            (self.daemon.config().bgp.as_ref()).is_some_and(|before| before.router_id.is_none() && self.listening);
        let router_id = match bgp.router_id {
            None if chosen => self.speaker.router_id,
            _ => setup::router_id(bgp, self.watch.view())
                .ok_or("there is no IPv4 address to take as BGP identifier: configure \"bgp router-id\"")?,
        };
        Ok(policy_setup::rib_config(bgp, router_id, self.rib_config.hash_seed))
    }

    fn plan(&self, config: &Config, policies: &Policies) -> Result<(Vec<Plan>, u32), String> {
        let Some(bgp) = &config.bgp else { return Ok((Vec::new(), self.applied.last_id)) };
        let mut last_id = self.applied.last_id;
        let mut errors = Vec::new();
        let mut plans = Vec::new();
        let mut wanted: BTreeMap<IpAddr, Neighbor> = BTreeMap::new();
        for neighbor in bgp.resolved() {
            let Some(address) = self.address_of(&neighbor) else { continue }; // not found on its link yet
            if let Some(other) = wanted.insert(address, neighbor) {
                errors.push(format!(
                    "{address} is at the other end of two links; neighbor {} cannot be told apart",
                    other.id
                ));
            }
        }
        // Those that came by themselves stay as long as there is a range for them.
        for address in
            self.applied.peers.keys().filter(|address| !wanted.contains_key(address)).copied().collect::<Vec<_>>()
        {
            if self.daemon.neighbors.get(&address).is_some_and(|entry| entry.dynamic)
                && let Some(neighbor) = bgp.dynamic(address)
            {
                wanted.insert(address, neighbor);
            }
        }
        for (address, neighbor) in wanted {
            let known = self.applied.peers.get(&address).map(|peer| peer.spec.id);
            let id = known.unwrap_or_else(|| {
                last_id += 1;
                PeerId(last_id)
            });
            match self.plan_one(config, bgp, neighbor, address, policies, id) {
                Ok(plan) => plans.push(plan),
                Err(error) => errors.push(error.to_string()),
            }
        }
        if errors.is_empty() { Ok((plans, last_id)) } else { Err(errors.join("\n")) }
    }

    pub(super) fn plan_one(
        &self,
        config: &Config,
        bgp: &config::model::Bgp,
        neighbor: Neighbor,
        address: IpAddr,
        policies: &Policies,
        id: PeerId,
    ) -> Result<Plan, SetupError> {
        let mut spec = peer::spec(bgp, &neighbor, address, id, &self.speaker)?;
        spec.transport.ao = peer::Ao::of(config, &neighbor.settings, address)?;
        spec.transport.tunnel = setup::tunnel_of(config, &neighbor);
        spec.filters = peer::filters(config, &neighbor.settings);
        let dynamic = neighbor.id == address.into() && !bgp.neighbors.contains_key(&neighbor.id);
        spec.session.passive |= dynamic; // whoever came by himself is waited for
        let through_tunnel = setup::tunnel_of(config, &neighbor).is_some();
        let on_one_link = spec.transport.is_on_one_link();
        let config = policy_setup::peer_config(bgp, &neighbor, address, policies, through_tunnel);
        Ok(Plan {
            address,
            neighbor,
            new: AppliedPeer { spec, config, stale_limit: bgp.graceful_restart.stalepath_time },
            dynamic,
            through_tunnel,
            rides_out_link_loss: !bgp.fast_convergence
                && (!bgp.fast_external_failover || !(through_tunnel || on_one_link)),
        })
    }

    async fn apply_plans(&mut self, config: &Config, plans: Vec<Plan>) -> Result<String, Gone> {
        let (mut added, mut changed) = (0, 0);
        let wanted: Vec<IpAddr> = plans.iter().map(|plan| plan.address).collect();
        let gone: Vec<IpAddr> = self.applied.peers.keys().filter(|known| !wanted.contains(known)).copied().collect();
        for address in &gone {
            self.remove_neighbor(address).await?;
        }
        for plan in plans {
            let address = plan.address;
            match self.applied.peers.get(&address) {
                None => {
                    added += 1;
                    self.add_neighbor(config, &plan).await?;
                }
                Some(old) => changed += usize::from(self.change_neighbor(old, &plan).await?),
            }
            if let Some(mut entry) = self.daemon.neighbors.get(&address) {
                entry.description = plan.neighbor.settings.description.clone();
                entry.dynamic = plan.dynamic;
                entry.through_tunnel = plan.through_tunnel;
                entry.rides_out_link_loss = plan.rides_out_link_loss;
                self.daemon.neighbors.insert(address, entry);
            }
            self.applied.peers.insert(address, plan.new);
        }
        // Whoever listens looks at the neighbors' keys again.
        self.keys_changed.send_modify(|generation| *generation += 1);
        Ok(format!("{added} neighbors added, {changed} changed, {} removed", gone.len()))
    }

    pub(super) async fn add_neighbor(&self, config: &Config, plan: &Plan) -> Result<(), Gone> {
        let Plan { address, neighbor, new, dynamic, through_tunnel, rides_out_link_loss } = plan;
        let spec = &new.spec;
        let events = self.daemon.rib.add_peer(spec.id, new.config.clone(), new.stale_limit).await?;
        let handle = Arc::new(peer::spawn(spec.clone(), self.host.clone(), events));
        let entry = Entry {
            handle: handle.clone(),
            interface: locate(config, neighbor, self.watch.view()),
            dynamic: *dynamic,
            through_tunnel: *through_tunnel,
            rides_out_link_loss: *rides_out_link_loss,
            description: neighbor.settings.description.clone(),
            signs: Arc::default(),
        };
        self.daemon.neighbors.insert(*address, entry);
        self.acceptors.insert(spec.clone(), handle.commands());
        handle.send(PeerCommand::Start);
        info!(neighbor = %address, "neighbor added");
        Ok(())
    }

    async fn change_neighbor(&self, old: &AppliedPeer, plan: &Plan) -> Result<bool, Gone> {
        let new = &plan.new;
        let spec_changed = old.spec != new.spec;
        let config_changed = (&old.config, old.stale_limit) != (&new.config, new.stale_limit);
        if config_changed {
            self.daemon.rib.configure_peer(new.spec.id, new.config.clone(), new.stale_limit).await?;
        }
        if spec_changed && let Some(entry) = self.daemon.neighbors.get(&plan.address) {
            self.acceptors.insert(new.spec.clone(), entry.handle.commands());
            entry.handle.send(PeerCommand::Reconfigure(Box::new(new.spec.clone())));
        }
        Ok(spec_changed || config_changed)
    }

    pub(super) async fn remove_neighbor(&mut self, address: &IpAddr) -> Result<(), Gone> {
        self.acceptors.remove(*address);
        let Some(old) = self.applied.peers.remove(address) else { return Ok(()) };
        if let Some(entry) = self.daemon.neighbors.remove(address) {
            entry.handle.send(PeerCommand::Remove(Notification::cease(CeaseCode::PeerDeconfigured)));
        }
        self.daemon.fib.excused(Some(old.spec.id));
        info!(neighbor = %address, "neighbor removed");
        self.daemon.rib.remove_peer(old.spec.id).await
    }

    async fn apply_policies(&self, config: &Config, policies: &Policies) -> Result<(), Gone> {
        let Some(bgp) = &config.bgp else { return Ok(()) };
        let decision = policy_setup::decision(bgp);
        let (between_clients, confederation) = (bgp.client_to_client_reflection, bgp.confederation.identifier);
        let graceful_shutdown = bgp.graceful_shutdown;
        let (mut local, mut aggregates, mut table_maps) = (Vec::new(), Vec::new(), Vec::new());
        let protocol_maps = Family::UNICAST.map(|family| (family, policies.of_map(config.protocol_maps.get(&family))));
        let dampening = Family::UNICAST.map(|family| (family, policy_setup::dampening(bgp, family)));
        for family in Family::ALL {
            let section = bgp.families.get(&family).cloned().unwrap_or_default();
            aggregates.push((family, policy_setup::aggregates(policies, &section)));
            table_maps.push((family, policies.of_map(section.table_map.as_ref())));
            let of_family = policy_setup::local_policies(policies, family, &section);
            local.extend(of_family.into_iter().map(|(source, policy)| (source, family, policy)));
        }
        self.daemon
            .rib
            .apply(move |rib, _| {
                rib.configure(RibConfig {
                    decision,
                    client_to_client_reflection: between_clients,
                    graceful_shutdown,
                    confederation,
                    ..rib.config().clone()
                });
                for (source, family, policy) in local {
                    rib.set_local_policy(source, family, policy);
                }
                for (family, aggregates) in aggregates {
                    rib.set_aggregates(family, aggregates);
                }
                for (family, figures) in dampening {
                    rib.set_dampening(family, figures);
                }
                for (family, policy) in table_maps {
                    rib.set_table_map(family, policy);
                }
                for (family, policy) in protocol_maps {
                    rib.set_protocol_map(family, policy);
                }
            })
            .await
    }

    /// Everything that follows from links and addresses, worked out again.
    pub(super) async fn links_changed(&mut self) -> Result<(), Gone> {
        let config = self.daemon.config();
        let view = self.watch.view().clone();
        self.state.vrrp.links(&view);
        *self.daemon.links.write().unwrap_or_else(PoisonError::into_inner) = view.clone();
        if let Some(bgp) = &config.bgp {
            let neighbors = self.daemon.neighbors.clone();
            neighbors.relocate(|address| locate(&config, &self.neighbor_at(bgp, *address)?, &view));
        }
        self.look_for_far_ends(&config);
        self.bfd_sessions(&config, &view);
        self.originate(&config, &view).await?;
        self.vrfs(&config, &view).await?;
        self.distances(&config);
        self.statics(&config, &view);
        self.refresh_next_hops().await?;
        self.publish();
        Ok(())
    }

    /// What static routes and next hops lead to may be another place, or none: tunnels or BFD sessions have changed.
    pub(super) async fn health_changed(&mut self) -> Result<(), Gone> {
        let config = self.daemon.config();
        let reached = self.next_hops.set_dead(self.health().dead);
        let carries = config.tunnels.values().any(|tunnel| tunnel.reverse_route.is_some());
        if config.static_routes.is_empty() && !carries && !reached {
            return Ok(());
        }
        let view = self.watch.view().clone();
        self.originate(&config, &view).await?;
        self.statics(&config, &view);
        self.refresh_next_hops().await?;
        self.publish();
        Ok(())
    }

    pub(super) fn health(&self) -> Health {
        let tunnels = self.daemon.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        let carried = tunnels.all().filter_map(|status| match &status.state {
            TunnelState::Up { selectors, .. } => {
                let carried = Carried { ifindex: status.ifindex, prefixes: selectors.clone() };
                Some((status.tunnel.clone(), carried))
            }
            TunnelState::Negotiating | TunnelState::Down { .. } => None,
        });
        Health { dead: tunnels.dead(), answering: self.daemon.static_bfd.answering(), carried: carried.collect() }
    }

    /// What follows from routes of others in the kernel.
    pub(super) async fn routes_changed(&mut self) -> Result<(), Gone> {
        let config = self.daemon.config();
        let view = self.watch.view().clone();
        self.originate(&config, &view).await?;
        self.refresh_next_hops().await?;
        self.publish();
        Ok(())
    }

    async fn refresh_next_hops(&mut self) -> Result<(), Gone> {
        match self.next_hops.refresh(&self.watch).await {
            Ok(answers) => {
                for (key, way) in answers {
                    self.tell_next_hop(key, way).await?;
                }
            }
            Err(error) => warn!(%error, "next hops cannot be resolved"),
        }
        Ok(())
    }

    /// Who has to have spoken before what was found in the kernel is stale.
    pub(super) fn awaited(&self) -> Vec<(PeerId, FamilySet)> {
        let wanted = self.applied.peers.values().filter(|peer| peer.spec.shutdown.is_none());
        wanted.map(|peer| (peer.spec.id, peer.spec.session.families)).collect()
    }

    /// Our restart is over: OPENs from now on do not say that we have just restarted.
    pub(super) fn restart_is_over(&mut self) {
        self.speaker.restarting = false;
        for (address, peer) in &mut self.applied.peers {
            let Some(restart) = &mut peer.spec.session.graceful_restart else { continue };
            if std::mem::take(&mut restart.restarting)
                && let Some(entry) = self.daemon.neighbors.get(address)
            {
                self.acceptors.insert(peer.spec.clone(), entry.handle.commands());
                entry.handle.send(PeerCommand::Reconfigure(Box::new(peer.spec.clone())));
            }
        }
    }

    /// Families that a neighbor is configured to carry.
    pub(super) fn families_of(&self, address: &IpAddr) -> Vec<Family> {
        let peer = self.applied.peers.get(address);
        peer.map(|peer| peer.spec.session.families.iter().collect()).unwrap_or_default()
    }
}
