//! WAN links while the daemon runs: their marks, their sockets, their routing, and what they are doing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use config::model::{Config, Wan};
use dataplane::{Dataplane, WanSpec};
use net_types::WanName;
use netwatch::View;
use rpc::{WanState, WanStatus};

use crate::{
    state::State,
    wan::{LinkState, WanMark, WanRouting, assess},
};

/// A link whose usability or addresses changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) wan: WanName,
    /// Source addresses; none while it is down.
    pub(crate) addresses: Vec<IpAddr>,
}

/// All configured links.
pub(crate) struct Links {
    dataplane: Arc<dyn Dataplane>,
    routing: WanRouting,
    state: State,
    links: BTreeMap<WanName, Link>,
}

struct Link {
    spec: Wan,
    mark: WanMark,
    state: Option<LinkState>,
    /// The interface that its sockets are bound to.
    open_on: Option<u32>,
    /// Whether ESP is left to the kernel.
    kernel_esp: bool,
}

impl Links {
    pub(crate) fn new(dataplane: Arc<dyn Dataplane>, routing: WanRouting, state: State) -> Self {
        Self { dataplane, routing, state, links: BTreeMap::new() }
    }

    /// Takes up a configuration: links that stay keep their marks, and with them their sockets. Gives those that are gone;
    /// for the others see [`Self::lost`] and [`Self::found`]. The kernel gets the ESP of `kernel_wans`.
    pub(crate) async fn configure(&mut self, config: &Config, kernel_wans: &BTreeSet<WanName>) -> Vec<Changed> {
        let gone: Vec<_> = self.links.keys().filter(|name| !config.wans.contains_key(*name)).cloned().collect();
        for name in &gone {
            self.links.remove(name);
            self.dataplane.remove_wan(name);
            self.state.forget_wan(name);
        }
        for (name, spec) in &config.wans {
            let kernel_esp = kernel_wans.contains(name);
            if let Some(link) = self.links.get_mut(name) {
                if link.kernel_esp != kernel_esp {
                    link.kernel_esp = kernel_esp;
                    link.open_on = None; // what its sockets are for is said before they are open
                }
                if link.spec.interface != spec.interface {
                    link.open_on = None;
                }
                if link.spec != *spec {
                    link.state = None; // a changed gateway has to be written, too
                }
                link.spec = spec.clone();
                continue;
            }
            let Some(mark) = self.free_mark() else {
                tracing::error!(wan = %name, "more WAN links than there are marks; this one is not used");
                continue;
            };
            let link = Link { spec: spec.clone(), mark, state: None, open_on: None, kernel_esp };
            self.links.insert(name.clone(), link);
        }
        let marks: BTreeSet<_> = self.links.values().map(|link| link.mark).collect();
        if let Err(error) = self.routing.sync_rules(&marks).await {
            tracing::error!(%error, "the routing rules of the WAN links could not be set; their sockets stay bound to their interfaces");
        }
        gone.into_iter().map(|wan| Changed { wan, addresses: Vec::new() }).collect()
    }

    /// Links that can no longer be used. Says so at once: who waits for it has traffic to move.
    pub(crate) fn lost(&mut self, view: &View) -> Vec<Changed> {
        let mut changed = Vec::new();
        for (name, link) in &mut self.links {
            let now = assess(view, &link.spec);
            if link.state.as_ref() == Some(&now) || !matches!(now, LinkState::Down(_)) {
                continue;
            }
            let ifindex = view.link_named(link.spec.interface.as_str()).map_or(0, |found| found.ifindex);
            publish(&self.state, name, link, ifindex, &now);
            if ifindex == 0 || link.spec.shutdown {
                close_sockets(&*self.dataplane, name, link);
            }
            link.state = Some(now);
            changed.push(Changed { wan: name.clone(), addresses: Vec::new() });
        }
        changed
    }

    /// Links that can be used from now on, or have other addresses than before: with sockets and routing in place.
    pub(crate) async fn found(&mut self, view: &View) -> Vec<Changed> {
        let mut changed = Vec::new();
        for (name, link) in &mut self.links {
            let now = assess(view, &link.spec);
            let LinkState::Up { ifindex, addresses, .. } = &now else { continue };
            if link.state.as_ref() == Some(&now) && link.open_on == Some(*ifindex) {
                continue;
            }
            open_sockets(&*self.dataplane, name, link, *ifindex);
            if let Err(error) = self.routing.write_table(link.mark, &link.spec, view).await {
                tracing::warn!(wan = %name, %error, "the routing table of the WAN is incomplete");
            }
            publish(&self.state, name, link, *ifindex, &now);
            let addresses = if link.open_on.is_some() { addresses.clone() } else { Vec::new() };
            link.state = Some(now);
            changed.push(Changed { wan: name.clone(), addresses });
        }
        changed
    }

    /// Largest outer packet of a link: as configured, or as its interface says.
    pub(crate) fn mtu_octets(&self, wan: &WanName) -> u32 {
        const ETHERNET: u32 = 1500;
        let Some(link) = self.links.get(wan) else { return ETHERNET };
        let interface = match &link.state {
            Some(LinkState::Up { mtu_octets, .. }) => *mtu_octets,
            _ => ETHERNET,
        };
        link.spec.mtu_octets.map_or(interface, |path| interface.min(u32::from(path)))
    }

    /// The device that outer packets of the kernel's have to be bound to, where the link's routing table may come to nothing:
    /// without a gateway the lookup goes on in the main table.
    pub(crate) fn pin(&self, wan: &WanName, remote: Option<IpAddr>) -> Option<u32> {
        let spec = &self.links.get(wan)?.spec;
        let routed = match remote {
            Some(IpAddr::V4(_)) => spec.gateway_v4.is_some(),
            Some(IpAddr::V6(_)) => spec.gateway_v6.is_some(),
            None => spec.gateway_v4.is_some() && spec.gateway_v6.is_some(),
        };
        if routed { None } else { self.ifindex(wan) }
    }

    /// The interface of a link that is up, or that its sockets are open on.
    pub(crate) fn ifindex(&self, wan: &WanName) -> Option<u32> {
        let link = self.links.get(wan)?;
        match &link.state {
            Some(LinkState::Up { ifindex, .. }) => Some(*ifindex),
            _ => link.open_on,
        }
    }

    /// The address of a link, of this family, that calls go out from: the first.
    pub(crate) fn address(&self, wan: &WanName, v4: bool) -> Option<IpAddr> {
        match self.links.get(wan)?.state.as_ref()? {
            LinkState::Up { addresses, .. } => addresses.iter().copied().find(|address| address.is_ipv4() == v4),
            LinkState::Down(_) => None,
        }
    }

    /// What leads a link's packets to its routing table; 0 for a link that there is not.
    pub(crate) fn mark(&self, wan: &WanName) -> u32 {
        self.links.get(wan).map_or(0, |link| link.mark.get())
    }

    fn free_mark(&self) -> Option<WanMark> {
        let taken: BTreeSet<_> = self.links.values().map(|link| link.mark).collect();
        (0..=taken.len()).find_map(|index| WanMark::nth(index).filter(|mark| !taken.contains(mark)))
    }
}

fn publish(state: &State, name: &WanName, link: &Link, ifindex: u32, now: &LinkState) {
    let shown = match now {
        LinkState::Up { addresses, .. } => WanState::Up { addresses: addresses.clone() },
        LinkState::Down(reason) => WanState::Down { cause: reason.to_string() },
    };
    match (&link.state, now) {
        (Some(LinkState::Up { .. }) | None, LinkState::Down(reason)) => {
            tracing::warn!(wan = %name, interface = %link.spec.interface, cause = %reason, "WAN link is down");
        }
        (Some(LinkState::Down(_)) | None, LinkState::Up { addresses, .. }) => {
            tracing::info!(wan = %name, interface = %link.spec.interface, ?addresses, "WAN link is up");
        }
        _ => {}
    }
    state.publish_wan(WanStatus {
        wan: name.clone(),
        interface: link.spec.interface.clone(),
        ifindex,
        state: shown,
        since_unix_us: 0, // set when it is published
        generation: 0,
    });
}

/// Sockets are bound to an interface by index: one that was deleted and made again needs new ones.
fn open_sockets(dataplane: &dyn Dataplane, name: &WanName, link: &mut Link, ifindex: u32) {
    if link.open_on == Some(ifindex) {
        return;
    }
    let spec = WanSpec {
        name: name.clone(),
        interface: link.spec.interface.clone(),
        mark: link.mark.get(),
        kernel_esp: link.kernel_esp,
    };
    match dataplane.add_wan(spec) {
        Ok(()) => link.open_on = Some(ifindex),
        Err(error) => {
            link.open_on = None;
            tracing::error!(%error, "the sockets of a WAN link could not be opened; its tunnels stay down");
        }
    }
}

fn close_sockets(dataplane: &dyn Dataplane, name: &WanName, link: &mut Link) {
    if link.open_on.take().is_some() {
        dataplane.remove_wan(name);
    }
}
