//! Neighbors that nobody configured an address for: those that connect from a `bgp listen range`, and those that are found
//! at the other end of a link (`neighbor IFNAME interface`).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use bgp_core::{PeerId, session::Phase};
use config::{
    Config,
    model::{Bgp, Neighbor, NeighborId},
};
use net_types::IfName;
use tokio::{net::TcpStream, sync::mpsc, task::AbortHandle};
use tracing::{info, warn};

use super::supervisor::Supervisor;
use crate::{
    peer::{self, Door, PeerCommand},
    policy_setup::Policies,
    rib_thread::Gone,
    router_advert::{self, Seen},
};

/// The far ends of links, as they advertise themselves.
pub(super) struct FarEnds {
    seen: mpsc::Sender<Seen>,
    /// Who is there.
    pub(super) found: BTreeMap<IfName, Ipv6Addr>,
    /// Whom we ask, by interface; a link that was made again has another number.
    asking: BTreeMap<(IfName, u32), AbortHandle>,
}

impl FarEnds {
    pub(super) fn new(seen: mpsc::Sender<Seen>) -> Self {
        Self { seen, found: BTreeMap::new(), asking: BTreeMap::new() }
    }

    /// Advertises us on these links, and on no others.
    fn ask(&mut self, links: Vec<(IfName, u32)>) {
        self.asking.retain(|link, task| {
            let wanted = links.contains(link) && !task.is_finished();
            if !wanted {
                task.abort();
            }
            wanted
        });
        self.found.retain(|interface, _| links.iter().any(|(name, _)| name == interface));
        for (interface, ifindex) in links {
            let seen = self.seen.clone();
            self.asking.entry((interface.clone(), ifindex)).or_insert_with(|| {
                let task = tokio::spawn(async move {
                    if let Err(error) = router_advert::advertise(interface.clone(), ifindex, seen).await {
                        warn!(%interface, %error, "no router advertisements: a neighbor on this link is not found");
                    }
                });
                task.abort_handle()
            });
        }
    }
}

impl Supervisor {
    /// The address of a neighbor, if it is known by now.
    pub(super) fn address_of(&self, neighbor: &Neighbor) -> Option<IpAddr> {
        match &neighbor.id {
            NeighborId::Address(address) => Some(*address),
            NeighborId::Interface(interface) => self.far_ends.found.get(interface).copied().map(IpAddr::V6),
        }
    }

    /// Who `address` is: a configured neighbor, the one found on a link, or a member of a range that has come.
    pub(super) fn neighbor_at(&self, bgp: &Bgp, address: IpAddr) -> Option<Neighbor> {
        let on_link = self.far_ends.found.iter().find(|(_, found)| IpAddr::V6(**found) == address);
        let by_link = || bgp.resolve(&NeighborId::Interface(on_link?.0.clone()));
        bgp.resolve(&address.into()).or_else(by_link).or_else(|| bgp.dynamic(address))
    }

    /// Looks for the far ends of the links that neighbors are known by.
    pub(super) fn look_for_far_ends(&mut self, config: &Config) {
        let by_link = config.bgp.iter().flat_map(Bgp::resolved).filter_map(|neighbor| match neighbor.id {
            NeighborId::Interface(interface) => Some(interface),
            NeighborId::Address(_) => None,
        });
        let view = self.watch.view();
        let links = by_link.filter_map(|interface| {
            let link = view.link_named(interface.as_str()).filter(|link| link.is_up())?;
            Some((interface, link.ifindex))
        });
        let links = links.collect();
        self.far_ends.ask(links);
    }

    /// Somebody advertised itself on a link.
    pub(super) async fn far_end_seen(&mut self, Seen { interface, address }: Seen) -> Result<(), Gone> {
        if self.far_ends.found.insert(interface.clone(), address) == Some(address) {
            return Ok(());
        }
        info!(%interface, %address, "a neighbor was found on a link");
        if let Err(error) = self.apply(self.daemon.config()).await {
            warn!(%interface, %address, %error, "the neighbor on the link cannot be used");
        }
        Ok(())
    }

    /// Opens the door to the ranges that are configured, and shuts it to others.
    pub(super) fn open_doors(&self, config: &Config) -> Result<(), String> {
        let bgp = config.bgp.as_ref();
        let mut doors = Vec::new();
        for range in bgp.iter().flat_map(|bgp| bgp.listen_ranges.keys()) {
            let member = bgp.and_then(|bgp| bgp.dynamic(range.address()));
            let Some(member) = member else { continue }; // its group has no AS: nobody can be in it
            let password = peer::password(range.address(), &member.settings).map_err(|error| error.to_string())?;
            let ao = peer::Ao::of(config, &member.settings, range.address()).map_err(|error| error.to_string())?;
            doors.push(Door { range: *range, password, ao });
        }
        self.acceptors.open_doors(doors);
        self.keys_changed.send_modify(|generation| *generation += 1);
        Ok(())
    }

    /// Somebody connected from a range.
    pub(super) async fn arrived(&mut self, stream: TcpStream, remote: SocketAddr) -> Result<(), Gone> {
        let address = remote.ip().to_canonical();
        let config = self.daemon.config();
        if let Some(entry) = self.daemon.neighbors.get(&address) {
            entry.handle.send(PeerCommand::Accepted(stream)); // it came twice at once
            return Ok(());
        }
        let Some((bgp, neighbor)) = config.bgp.as_ref().and_then(|bgp| Some((bgp, bgp.dynamic(address)?))) else {
            return Ok(());
        };
        let there = self.daemon.neighbors.all().into_iter().filter(|(_, entry)| entry.dynamic).count();
        if there >= usize::from(bgp.listen_limit) {
            warn!(%address, limit = bgp.listen_limit, "a neighbor of a listen range is refused: \"bgp listen limit\" is reached");
            return Ok(());
        }
        self.applied.last_id += 1;
        let id = PeerId(self.applied.last_id);
        let plan = match self.plan_one(&config, bgp, neighbor, address, &Policies::new(&config), id) {
            Ok(plan) => plan,
            Err(error) => {
                warn!(%address, %error, "a neighbor of a listen range cannot be taken");
                return Ok(());
            }
        };
        if let Err(error) = peer::prepare(&stream, &plan.new.spec) {
            warn!(%address, %error, "cannot set the options of a connection: closed");
            return Ok(());
        }
        self.add_neighbor(&config, &plan).await?;
        self.applied.insert(address, plan.new);
        self.keys_changed.send_modify(|generation| *generation += 1);
        if let Some(entry) = self.daemon.neighbors.get(&address) {
            entry.handle.send(PeerCommand::Accepted(stream));
        }
        self.links_changed().await
    }

    /// A session, or an attempt at one, ended, and nothing is kept of it: whoever came by himself is forgotten.
    pub(super) async fn left(&mut self, peer: PeerId) -> Result<(), Gone> {
        let Some((address, entry)) = self.daemon.neighbors.by_id(peer) else { return Ok(()) };
        if !entry.dynamic || entry.handle.status().phase == Phase::Established {
            return Ok(());
        }
        self.remove_neighbor(&address).await?;
        self.keys_changed.send_modify(|generation| *generation += 1);
        self.links_changed().await
    }
}
