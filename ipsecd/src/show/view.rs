//! What the daemon knows, put together for printing.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use config::model::{Config, Gre, Probe, RemoteAddress};
use dataplane::{InboundStats, OutboundStats, TunnelStats, WanStats};
use net_types::{TunnelName, WanName};
use rpc::{TunnelState, TunnelStatus, WanState, WanStatus};

use crate::state::{State, TunnelDetail};

/// A tunnel.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// What it does.
    pub status: TunnelStatus,
    /// `description`
    pub description: Option<String>,
    /// Where the peer is, as configured.
    pub remote: String,
    /// Our outer address, where one is configured.
    pub local: Option<IpAddr>,
    /// Who the peer has to be.
    pub remote_id: Option<String>,
    /// Who we are.
    pub local_id: Option<String>,
    /// Whether it is a GRE interface, in transport mode.
    pub gre: Option<Gre>,
    /// Whether the configuration holds it down.
    pub shutdown: bool,
    /// Who is asked in it, and whether it counts as down since nobody answers.
    pub probe: Option<(Probe, bool)>,
    /// Its SAs and history.
    pub detail: TunnelDetail,
    /// Its counters.
    pub stats: Option<TunnelStats>,
}

/// A WAN link.
#[derive(Clone, Debug)]
pub struct Wan {
    /// How it is.
    pub status: WanStatus,
    /// Its gateways, as configured.
    pub gateways: Vec<String>,
    /// Tunnels over it: how many there are, and how many of them are up.
    pub tunnels: (usize, usize),
    /// Its counters.
    pub stats: Option<WanStats>,
}

/// All tunnels, or one, by name.
pub fn tunnels(state: &State, only: Option<&TunnelName>) -> Vec<Tunnel> {
    let config = state.config();
    let mut stats = state.stats().tunnels;
    let wanted = |name: &TunnelName| only.is_none_or(|only| only == name);
    let mut found: Vec<Tunnel> = state
        .tunnels()
        .snapshot()
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, status)| {
            let at = stats.iter().position(|one| one.tunnel == name);
            let silent = state.is_silent(&name);
            let detail = state.tunnel(&name).unwrap_or_default();
            tunnel(&config, status, silent, detail, at.map(|at| stats.swap_remove(at)))
        })
        .collect();
    found.sort_by(|a, b| a.status.tunnel.cmp(&b.status.tunnel));
    found
}

fn tunnel(
    config: &Config,
    status: TunnelStatus,
    silent: bool,
    detail: TunnelDetail,
    stats: Option<TunnelStats>,
) -> Tunnel {
    let configured = config.tunnels.get(&status.tunnel);
    let identity = configured.and_then(|tunnel| config.identities.get(&tunnel.identity));
    Tunnel {
        description: configured.and_then(|tunnel| tunnel.description.clone()),
        remote: configured.map_or_else(String::new, |tunnel| match tunnel.remote.address {
            RemoteAddress::Any => "any".to_owned(),
            RemoteAddress::Address(address) => address.to_string(),
        }),
        local: configured.and_then(|tunnel| tunnel.local),
        remote_id: configured.and_then(|tunnel| tunnel.remote.id.as_ref()).map(ToString::to_string),
        local_id: identity.map(|identity| identity.id.to_string()),
        gre: configured.and_then(|tunnel| tunnel.packets.gre),
        shutdown: configured.is_some_and(|tunnel| tunnel.shutdown),
        probe: configured.and_then(|tunnel| tunnel.probe).map(|probe| (probe, silent)),
        status,
        detail,
        stats,
    }
}

/// All WAN links, or one, by name.
pub fn wans(state: &State, only: Option<&WanName>) -> Vec<Wan> {
    let config = state.config();
    let tunnels = state.tunnels().snapshot();
    let stats = state.stats().wans;
    let mut found: Vec<Wan> = state
        .wans()
        .snapshot()
        .into_iter()
        .filter(|(name, _)| only.is_none_or(|only| only == name))
        .map(|(name, status)| {
            let configured = config.wans.get(&name);
            let v4 = configured.and_then(|wan| wan.gateway_v4).map(|gateway| gateway.to_string());
            let v6 = configured.and_then(|wan| wan.gateway_v6).map(|gateway| gateway.to_string());
            let over: Vec<_> = tunnels.iter().filter(|(_, tunnel)| tunnel.wan == name).collect();
            let up = over.iter().filter(|(_, tunnel)| matches!(tunnel.state, TunnelState::Up { .. })).count();
            Wan {
                status,
                gateways: v4.into_iter().chain(v6).collect(),
                tunnels: (over.len(), up),
                stats: stats.iter().find(|one| one.wan == name).cloned(),
            }
        })
        .collect();
    found.sort_by(|a, b| a.status.wan.cmp(&b.status.wan));
    found
}

impl Tunnel {
    /// `up`, `negotiating` or `down`.
    pub fn state(&self) -> &'static str {
        match self.status.state {
            TunnelState::Negotiating => "negotiating",
            TunnelState::Up { .. } => "up",
            TunnelState::Down { .. } => "down",
        }
    }

    /// Why it is down.
    pub fn cause(&self) -> Option<&str> {
        match &self.status.state {
            TunnelState::Down { cause } => Some(cause),
            TunnelState::Negotiating | TunnelState::Up { .. } => None,
        }
    }

    /// The peer's address as it is known now, or as configured.
    pub fn peer_address(&self) -> String {
        self.detail.ike.as_ref().map_or_else(|| self.remote.clone(), |ike| ike.remote.ip().to_canonical().to_string())
    }

    /// Counters of one of its inbound associations.
    pub fn inbound(&self, spi: net_types::Spi) -> Option<&InboundStats> {
        self.stats.as_ref()?.inbound.iter().find(|sa| sa.spi == spi)
    }

    /// Counters of one of its outbound associations.
    pub fn outbound(&self, spi: net_types::Spi) -> Option<&OutboundStats> {
        self.stats.as_ref()?.outbound.iter().find(|sa| sa.spi == spi)
    }
}

impl Wan {
    /// `up` or `down`.
    pub fn state(&self) -> &'static str {
        match self.status.state {
            WanState::Up { .. } => "up",
            WanState::Down { .. } => "down",
        }
    }
}

/// Microseconds of Unix time as a point in time.
pub fn since(unix_us: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(unix_us)
}
