//! The thread that hears what the kernel tells of associations, and ends what was inherited in time.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
    time::Instant,
};

use net_types::{Spi, TunnelName};
use rustix::event::{PollFd, PollFlags, Timespec};
use xfrm::{Current, GROUP_EXPIRE, GROUP_MAPPING, NETLINK_XFRM, SaId, SaInfo};

use super::{
    Control, lock,
    socket::Netlink,
    tunnel::{Told, Tunnel},
};
use crate::{Direction, Event, Limit, Limits, Path, Sink};

/// Added to the thread's event counter: go, and look again. A counter can hold both.
pub(super) const STOP: u64 = 1 << 32;
pub(super) const WAKE: u64 = 1;

pub(super) struct Listener {
    control: Arc<Mutex<Control>>,
    sink: Arc<dyn Sink>,
    events: Netlink,
    stop: Arc<OwnedFd>,
}

impl Listener {
    pub(super) fn new(control: Arc<Mutex<Control>>, sink: Arc<dyn Sink>, stop: Arc<OwnedFd>) -> io::Result<Self> {
        let events = Netlink::listen(NETLINK_XFRM, &[GROUP_EXPIRE, GROUP_MAPPING])?;
        Ok(Self { control, sink, events, stop })
    }

    pub(super) fn run(mut self) {
        loop {
            let now = Instant::now();
            let (inherited, due) = lock(&self.control).serve_inherited(now);
            for event in inherited {
                self.sink.event(event); // when it is full, there will be more packets
            }
            let patience = due.and_then(|at| Timespec::try_from(at.saturating_duration_since(now)).ok());
            let (stopped, told) = {
                let mut fds =
                    [PollFd::new(&*self.stop, PollFlags::IN), PollFd::new(self.events.as_fd(), PollFlags::IN)];
                match rustix::event::poll(&mut fds, patience.as_ref()) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(errno) => {
                        tracing::error!(error = %errno, "polling for the kernel's IPsec events failed; limits of volume are not followed any more");
                        return;
                    }
                }
                (!fds[0].revents().is_empty(), !fds[1].revents().is_empty())
            };
            if stopped && self.is_to_stop() {
                return;
            }
            if told {
                self.hear();
            }
        }
    }

    fn is_to_stop(&self) -> bool {
        let mut count = [0; 8];
        rustix::io::read(&*self.stop, &mut count).is_ok() && u64::from_ne_bytes(count) >= STOP
    }

    fn hear(&mut self) {
        let mut heard = Vec::new();
        match self.events.receive(|received| heard.extend(xfrm::Event::parse(received))) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                tracing::warn!(
                    "the kernel told more of its associations than there was room for; looking at all of them"
                );
                self.look_at_all();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => tracing::warn!(%error, "the kernel's IPsec events cannot be read"),
        }
        for event in heard {
            let told = match event {
                xfrm::Event::Expired { sa, hard } => lock(&self.control).expired(sa.id, hard),
                xfrm::Event::Moved { id, from, .. } => lock(&self.control).peer_moved(id, from),
            };
            if let Some(event) = told {
                self.sink.event(event); // when it is full, the counters still tell
            }
        }
    }

    /// After a loss: what was said is found out by the counters.
    fn look_at_all(&self) {
        let mut control = lock(&self.control);
        let Ok(sas) = control.requests.dump(xfrm::dump_sas(), SaInfo::parse) else { return };
        let told = control.reached(&sas);
        drop(control);
        for event in told {
            self.sink.event(event);
        }
    }
}

impl Control {
    fn expired(&mut self, id: SaId, hard: bool) -> Option<Event> {
        let limit = if hard { Limit::Hard } else { Limit::Soft };
        self.tunnels.iter_mut().find_map(|(name, tunnel)| {
            let (direction, told) = told_of(tunnel, id)?;
            tell(name, id.spi, direction, limit, told)
        })
    }

    /// `None` when that is known: the kernel repeats it, since it goes by what the association was made for.
    fn peer_moved(&mut self, id: SaId, from: SocketAddr) -> Option<Event> {
        let (name, sa) = self.tunnels.iter_mut().find_map(|(name, tunnel)| {
            let sa = tunnel.inbound.get_mut(&id.spi).filter(|sa| sa.id == id)?;
            Some((name, sa))
        })?;
        if sa.path.remote == from {
            return None;
        }
        sa.path.remote = from;
        let path = Path { wan: sa.path.wan.clone(), local: sa.path.local, remote: from };
        Some(Event::PeerMoved { tunnel: name.clone(), spi: id.spi, path })
    }

    /// The limits that associations have reached and that have not been told of.
    fn reached(&mut self, sas: &[SaInfo]) -> Vec<Event> {
        let mut out = Vec::new();
        for (name, tunnel) in &mut self.tunnels {
            let inbound = tunnel.inbound.values_mut().map(|sa| (sa.id, Direction::Inbound, sa.limits, &mut sa.told));
            let outbound = tunnel.outbound.iter_mut().map(|sa| (sa.id, Direction::Outbound, sa.limits, &mut sa.told));
            for (id, direction, limits, told) in inbound.chain(outbound) {
                let found = sas.iter().find(|sa| sa.id == id);
                let limit = match found {
                    None => Some(Limit::Hard), // the kernel has ended it
                    Some(sa) if beyond_soft(limits, sa.current) => Some(Limit::Soft),
                    Some(_) => None,
                };
                out.extend(limit.and_then(|limit| tell(name, id.spi, direction, limit, told)));
            }
        }
        out
    }
}

fn beyond_soft(limits: Limits, current: Current) -> bool {
    limits.soft_octets.is_some_and(|limit| current.octets >= limit)
        || limits.soft_packets.is_some_and(|limit| current.packets >= limit)
}

fn told_of(tunnel: &mut Tunnel, id: SaId) -> Option<(Direction, &mut Told)> {
    if let Some(sa) = tunnel.inbound.get_mut(&id.spi).filter(|sa| sa.id == id) {
        return Some((Direction::Inbound, &mut sa.told));
    }
    let sa = tunnel.outbound.iter_mut().find(|sa| sa.id == id)?;
    Some((Direction::Outbound, &mut sa.told))
}

/// The event, unless it has been told.
fn tell(name: &TunnelName, spi: Spi, direction: Direction, limit: Limit, told: &mut Told) -> Option<Event> {
    let flag = match limit {
        Limit::Soft => &mut told.soft,
        Limit::Hard => &mut told.hard,
    };
    let first = !std::mem::replace(flag, true);
    first.then(|| Event::Lifetime { tunnel: name.clone(), spi, direction, limit })
}
