//! Tunnel interfaces while the daemon runs: which exist, and what they look like.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    sync::Arc,
};

use config::model::{self, Config, Packets, RemoteAddress, Tunnel};
use dataplane::{Datapath, Dataplane, Df, Dscp, Gre, KernelInterface, PacketPolicy, TunnelSpec};
use net_types::TunnelName;
use netwatch::View;
use rtnetlink::Handle;

use crate::{datapath::Choice, ike_loop::TunnelFacts, links::Links, state::State, suites, tunnel_if};

/// What is to be done about interfaces.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) mtu: bool,
    /// The ends of some GRE interface are not those of its link.
    pub(crate) ends: bool,
    pub(crate) deleted: BTreeSet<TunnelName>,
    /// Those that are to be made anew: for another datapath, or on another device.
    pub(crate) remade: BTreeSet<TunnelName>,
}

/// All interfaces of configured tunnels.
pub(crate) struct Devices {
    dataplane: Arc<dyn Dataplane>,
    handle: Handle,
    state: State,
    present: BTreeSet<TunnelName>,
    /// What the paths of tunnels take, where it is known.
    path_mtus: BTreeMap<TunnelName, u16>,
    choices: BTreeMap<TunnelName, Choice>,
}

impl Devices {
    pub(crate) fn new(dataplane: Arc<dyn Dataplane>, handle: Handle, state: State) -> Self {
        Self {
            dataplane,
            handle,
            state,
            present: BTreeSet::new(),
            path_mtus: BTreeMap::new(),
            choices: BTreeMap::new(),
        }
    }

    /// Makes the interfaces of a configuration, brings them to what it says, and gives what is true of each. One that
    /// cannot be made is left out, with an error in the log.
    pub(crate) async fn configure(&mut self, config: &Config, links: &Links) -> BTreeMap<TunnelName, TunnelFacts> {
        let mut facts = BTreeMap::new();
        self.path_mtus.retain(|name, _| config.tunnels.contains_key(name));
        for (name, tunnel) in &config.tunnels {
            match self.bring(config, name, tunnel, links).await {
                Ok(found) => {
                    self.present.insert(name.clone());
                    facts.insert(name.clone(), found);
                }
                Err(error) => {
                    tracing::error!(tunnel = %name, error, "the tunnel's interface cannot be made; the tunnel stays down")
                }
            }
        }
        facts
    }

    /// Takes up who seals and opens, and says so where that is new. Call it before [`Self::configure`].
    pub(crate) fn choose(&mut self, choices: BTreeMap<TunnelName, Choice>) {
        for (tunnel, choice) in choices.iter().filter(|(tunnel, choice)| self.choices.get(*tunnel) != Some(*choice)) {
            tracing::info!(%tunnel, datapath = choice.name(), why = %choice.why, "datapath");
            self.state.edit(tunnel, |detail| detail.datapath = Some(choice.clone()));
        }
        self.choices = choices;
    }

    fn datapath(&self, name: &TunnelName, tunnel: &Tunnel, links: &Links) -> Datapath {
        if !self.choices.get(name).is_some_and(|choice| choice.kernel) {
            return Datapath::Userspace;
        }
        let remote = match tunnel.remote.address {
            RemoteAddress::Address(address) => Some(address),
            RemoteAddress::Any => None,
        };
        let pin = links.pin(&tunnel.wan, remote);
        let interface = match (tunnel.packets.gre, remote) {
            (Some(model::Gre { key }), Some(remote)) => KernelInterface::Gre(Gre {
                remote,
                key,
                local: links.address(&tunnel.wan, remote.is_ipv4()),
                link: pin,
                mark: links.mark(&tunnel.wan),
            }),
            // One that may go over to another link is bound by its mark alone.
            _ => KernelInterface::Xfrm { pin: pin.filter(|_| tunnel.backup_wans.is_empty()) },
        };
        Datapath::Kernel { interface, offload: if tunnel.hardware_offload { links.ifindex(&tunnel.wan) } else { None } }
    }

    /// Whether some interface no longer is as `facts` say: another MTU fits its WAN, or somebody has deleted it.
    pub(crate) fn need_work(
        &self,
        config: &Config,
        links: &Links,
        view: &View,
        facts: &BTreeMap<TunnelName, TunnelFacts>,
    ) -> Work {
        let mut work = Work::default();
        let socket = any_socket();
        for (name, tunnel) in &config.tunnels {
            let Some(facts) = facts.get(name) else { continue };
            work.mtu |= facts.mtu != self.mtu(config, name, tunnel, links);
            let datapath = self.datapath(name, tunnel, links);
            if !datapath.keeps_interface(facts.datapath) {
                work.remade.insert(name.clone());
            }
            work.ends |= datapath != facts.datapath;
            // The view lags behind: of an interface that was just made it may not know yet. So the kernel is asked.
            if view.link(facts.ifindex).is_none() && ifindex(&socket, name).ok() != Some(facts.ifindex) {
                work.deleted.insert(name.clone());
            }
        }
        work
    }

    /// Lets go of what is left of interfaces that somebody has deleted.
    pub(crate) fn drop_deleted(&mut self, deleted: &BTreeSet<TunnelName>) {
        for name in deleted {
            tracing::error!(tunnel = %name, "the tunnel's interface was deleted by somebody; it is made again");
            self.dataplane.remove_tunnel(name, false);
            self.present.remove(name);
        }
    }

    /// Removes the interfaces of tunnels that are configured no more. Call it after their peers have been told.
    pub(crate) fn remove_stale(&mut self, config: &Config) {
        let stale: Vec<_> = self.present.iter().filter(|name| !config.tunnels.contains_key(*name)).cloned().collect();
        for name in stale {
            self.dataplane.remove_tunnel(&name, false);
            self.present.remove(&name);
            self.state.forget(&name);
        }
    }

    /// Brings a tunnel's interface to what its path takes.
    pub(crate) async fn fit_path(
        &mut self,
        config: &Config,
        links: &Links,
        name: &TunnelName,
        path_mtu: u16,
        facts: &mut TunnelFacts,
    ) {
        self.path_mtus.insert(name.clone(), path_mtu);
        let Some(tunnel) = config.tunnels.get(name) else { return };
        let mtu = self.mtu(config, name, tunnel, links);
        if mtu == facts.mtu {
            return;
        }
        facts.mtu = mtu;
        if let Err(error) = tunnel_if::set_mtu(&self.handle, name, facts.ifindex, u32::from(mtu)).await {
            tracing::warn!(tunnel = %name, %error, "the interface does not fit the path; large packets without DF are lost");
        }
    }

    /// As configured or as the WAN leaves it, and no more than the path takes.
    fn mtu(&self, config: &Config, name: &TunnelName, tunnel: &Tunnel, links: &Links) -> u16 {
        let path = self.path_mtus.get(name).copied().unwrap_or(u16::MAX);
        inner_mtu(config, tunnel, links).min(path)
    }

    async fn bring(
        &self,
        config: &Config,
        name: &TunnelName,
        tunnel: &Tunnel,
        links: &Links,
    ) -> Result<TunnelFacts, String> {
        let mtu = self.mtu(config, name, tunnel, links);
        let datapath = self.datapath(name, tunnel, links);
        let spec = TunnelSpec { name: name.clone(), mtu, policy: policy(tunnel.packets), datapath };
        self.dataplane.add_tunnel(spec).map_err(|error| error.to_string())?;
        let ifindex = ifindex(&any_socket(), name).map_err(|error| format!("looking up its interface: {error}"))?;
        tunnel_if::configure(&self.handle, name, ifindex, u32::from(mtu), &tunnel.addresses)
            .await
            .map_err(|error| error.to_string())?;
        Ok(TunnelFacts {
            wan: tunnel.wan.clone(),
            ifindex,
            mtu,
            addresses: tunnel.addresses.iter().map(config::model::InterfaceAddress::address).collect(),
            datapath,
            child_octets: tunnel.child_lifetime.octets,
            child_packets: tunnel.child_lifetime.packets,
        })
    }
}

fn policy(packets: Packets) -> PacketPolicy {
    let dscp = match packets.dscp {
        model::Dscp::Copy => Dscp::Copy,
        model::Dscp::Set(dscp) => Dscp::Set(dscp),
    };
    let df = match packets.df {
        model::Df::Copy => Df::Copy,
        model::Df::Set => Df::Set,
        model::Df::Clear => Df::Clear,
    };
    PacketPolicy { dscp, df, replay_window: packets.replay_window }
}

/// As configured, or what the path of the WAN leaves.
fn inner_mtu(config: &Config, tunnel: &Tunnel, links: &Links) -> u16 {
    let outer_is_ipv6 = matches!(tunnel.remote.address, RemoteAddress::Address(address) if address.is_ipv6());
    let ciphers = suites::packet_ciphers(config, tunnel);
    // It may move from one link to another at any time: what fits all of them fits.
    let links = std::iter::once(&tunnel.wan).chain(&tunnel.backup_wans).map(|wan| links.mtu_octets(wan));
    let outer_mtu = links.min().unwrap_or_default();
    let gre = tunnel.packets.gre.map_or(0, |gre| if gre.key.is_some() { 8 } else { 4 }); // RFC 2784 §2, RFC 2890 §2
    let fits = tunnel_if::inner_mtu_octets(outer_mtu, outer_is_ipv6, gre, &ciphers);
    tunnel.mtu_octets.unwrap_or(u16::try_from(fits).unwrap_or(u16::MAX))
}

/// A socket to ask the kernel about interfaces by.
fn any_socket() -> std::io::Result<OwnedFd> {
    let none = rustix::net::SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, none, None)?)
}

fn ifindex(socket: &std::io::Result<OwnedFd>, name: &TunnelName) -> std::io::Result<u32> {
    let socket = socket.as_ref().map_err(|error| std::io::Error::new(error.kind(), error.to_string()))?;
    Ok(rustix::net::netdevice::name_to_index(socket, name.as_str())?)
}
