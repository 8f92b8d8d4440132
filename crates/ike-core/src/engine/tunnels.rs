//! What tunnels conclude once all inputs are in, and whom they call.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use ike_wire::IkeSpi;
use net_types::{TunnelName, WanName};

use super::{Ike, TimerKey};
use crate::{
    config::{ConnectionConfig, EngineConfig, Remote},
    event::{DownCause, Event},
    io::{Output, Path},
    sa::{IkeSa, init},
    tunnel::Wish,
};

impl Ike {
    /// Lets every touched tunnel draw its conclusions until nothing more follows from them.
    pub(super) fn settle(&mut self, now: Instant, out: &mut Vec<Output>) {
        while let Some(name) = self.touched.pop_first() {
            let Some(tunnel) = self.tunnels.get_mut(&name) else { continue };
            let views: Vec<_> = tunnel.sas.iter().filter_map(|spi| self.sas.get(spi)).map(IkeSa::view).collect();
            let way = way(&self.wans, &tunnel.config);
            let wishes = tunnel.settle(now, &way, &views, &mut self.spis, out);
            self.timers.set(&TimerKey::Tunnel(name.clone()), tunnel.deadline());
            for wish in wishes {
                match wish {
                    Wish::Call => self.call(now, &name, out),
                    Wish::NewChild(spi) => self.with_sa(now, spi, out, |sa, _| sa.want_child()),
                    Wish::Probe(spi) => self.with_sa(now, spi, out, |sa, cx| sa.want_proof(cx)),
                    Wish::Abandon(spi) => {
                        self.with_sa(now, spi, out, |sa, cx| sa.vanish(cx, DownCause::LinkDown));
                        if let Some(tunnel) = self.tunnels.get_mut(&name) {
                            tunnel.call_now(now);
                        }
                    }
                    Wish::CloseDuplicate { close, keep } => self.close_duplicate(now, &name, close, keep, out),
                }
            }
        }
    }

    pub(super) fn call(&mut self, now: Instant, name: &TunnelName, out: &mut Vec<Output>) {
        let Some(tunnel) = self.tunnels.get(name) else { return };
        let config = tunnel.config.clone();
        let paths = call_paths(&self.settings, &self.wans, &config);
        // A link may be up and lead nowhere: after each call without an answer it is the next one's turn.
        let Some(path) = paths.get(tunnel.unanswered() % paths.len().max(1)).cloned() else { return };
        let peer = path.remote.ip();
        if !self.calls.may_begin(peer, name) {
            return; // touched again when its turn comes
        }
        let mut cx = context!(self, now, out);
        if let Some(sa) = init::call(&mut cx, config, path) {
            self.calls.begun(peer, sa.spi());
            self.insert(sa, out);
        }
    }

    pub(super) fn close_duplicate(
        &mut self,
        now: Instant,
        name: &TunnelName,
        close: IkeSpi,
        keep: IkeSpi,
        out: &mut Vec<Output>,
    ) {
        if let (Some(closed), Some(kept)) = (self.sas.get(&close), self.sas.get(&keep)) {
            let (closed, kept) = (closed.spis(), kept.spis());
            out.push(Output::Event(Event::DuplicateClosed { tunnel: name.clone(), closed, kept }));
            self.with_sa(now, close, out, |sa, cx| sa.close_superseded(cx));
        }
    }
}

/// Whether any link can carry the tunnel, or why none can.
fn way(wans: &BTreeMap<WanName, Vec<IpAddr>>, config: &ConnectionConfig) -> Result<(), DownCause> {
    let mut addresses = config.wans().filter_map(|wan| wans.get(wan)).flatten().peekable();
    if addresses.peek().is_none() {
        return Err(DownCause::LinkDown);
    }
    match (config.local_address, config.remote) {
        (Some(local), _) if !addresses.any(|address| *address == local) => Err(DownCause::AddressAway(local)),
        (None, Remote::Address(remote)) if !addresses.any(|address| address.is_ipv4() == remote.is_ipv4()) => {
            Err(DownCause::LinkDown)
        }
        _ => Ok(()),
    }
}

/// From where to where a tunnel's first message may go, best first: one path for each link with an address of the peer's
/// family.
pub(super) fn call_paths(
    settings: &EngineConfig,
    wans: &BTreeMap<WanName, Vec<IpAddr>>,
    config: &ConnectionConfig,
) -> Vec<Path> {
    let Remote::Address(remote) = config.remote else { return Vec::new() };
    let port = settings.ike_port;
    let path = |wan: &WanName| {
        let addresses = wans.get(wan)?;
        let local = match config.local_address {
            Some(address) => addresses.contains(&address).then_some(address)?,
            None => *addresses.iter().find(|address| address.is_ipv4() == remote.is_ipv4())?,
        };
        let (local, remote) = (SocketAddr::new(local, port), SocketAddr::new(remote, port));
        Some(Path { wan: wan.clone(), local, remote, natt: false })
    };
    config.wans().filter_map(path).collect()
}
