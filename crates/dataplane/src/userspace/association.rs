//! Associations as the packet threads use them: keys, selectors, the way out, and counters.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use arc_swap::{ArcSwap, Guard};
use esp::{HEADROOM, InboundSa, OpenError, Opened, OutboundSa, Selectors};
use net_types::{Spi, WanName};

use super::{Shared, tunnel::Tunnel, wan::Wan};
use crate::{
    Direction, Event, InboundStats, Limit, Limits, NewInbound, NewOutbound, OutboundStats, Path,
    counters::{Counter, LastSeen},
    ecn, inside,
    offload::Merger,
};

/// A path and the link that it begins with.
pub(super) struct Route {
    pub(super) wan: Arc<Wan>,
    pub(super) path: Path,
}

/// An association that seals.
pub(super) struct Outbound {
    pub(super) sa: OutboundSa,
    pub(super) selectors: Selectors,
    pub(super) encapsulated: bool,
    route: ArcSwap<Route>,
    pub(super) packets: Counter,
    pub(super) octets: Counter,
    lifetime: Lifetime,
}

impl Outbound {
    pub(super) fn new(new: NewOutbound, route: Route) -> Self {
        Self {
            sa: OutboundSa::new(new.spi, &new.keymat, new.esn),
            selectors: new.selectors,
            encapsulated: new.encapsulated,
            route: ArcSwap::from_pointee(route),
            packets: Counter::default(),
            octets: Counter::default(),
            lifetime: Lifetime::new(new.limits),
        }
    }

    pub(super) fn route(&self) -> Guard<Arc<Route>> {
        self.route.load()
    }

    pub(super) fn set_route(&self, route: Arc<Route>) {
        self.route.store(route);
    }

    /// Whether it may still send, telling of limits as they are reached.
    pub(super) fn check_lifetime(&self, tunnel: &Tunnel, shared: &Shared) -> bool {
        let (used, capacity) = (self.sa.used(), self.sa.capacity());
        let numbers = if used > capacity - capacity / 8 { Some(Limit::Soft) } else { None };
        self.lifetime.check(self.packets.get(), self.octets.get(), numbers, |limit| {
            shared.tell(Event::Lifetime {
                tunnel: tunnel.name().clone(),
                spi: self.sa.spi(),
                direction: Direction::Outbound,
                limit,
            });
        })
    }

    pub(super) fn stats(&self) -> OutboundStats {
        OutboundStats {
            spi: self.sa.spi(),
            cipher: self.sa.cipher(),
            esn: self.sa.is_extended(),
            sequence: self.sa.used(),
            packets: self.packets.get(),
            octets: self.octets.get(),
            path: self.route().path.clone(),
        }
    }
}

/// An association that opens.
pub(super) struct Inbound {
    sa: InboundSa,
    selectors: Selectors,
    tunnel: Arc<Tunnel>,
    /// Where its last authentic packet came from.
    source: ArcSwap<(WanName, SocketAddr)>,
    packets: Counter,
    octets: Counter,
    replays: Counter,
    forgeries: Counter,
    malformed: Counter,
    foreign: Counter,
    congested: Counter,
    seen: LastSeen,
    lifetime: Lifetime,
}

impl Inbound {
    pub(super) fn new(tunnel: Arc<Tunnel>, new: NewInbound) -> Self {
        Self {
            sa: InboundSa::new(new.spi, &new.keymat, new.esn).with_window(tunnel.policy().replay_window.into()),
            selectors: new.selectors,
            tunnel,
            source: ArcSwap::from_pointee((new.path.wan, new.path.remote)),
            packets: Counter::default(),
            octets: Counter::default(),
            replays: Counter::default(),
            forgeries: Counter::default(),
            malformed: Counter::default(),
            foreign: Counter::default(),
            congested: Counter::default(),
            seen: LastSeen::new(),
            lifetime: Lifetime::new(new.limits),
        }
    }

    pub(super) fn spi(&self) -> Spi {
        self.sa.spi()
    }

    pub(super) fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }

    /// Opens packets that came in one receive and passes what they hold on for the interface; `merger` may hold some back
    /// until it is finished. `tos` is that of their outer headers.
    pub(super) fn receive<'a>(
        &self,
        packets: impl Iterator<Item = &'a mut [u8]>,
        arrival: &Path,
        tos: u8,
        now: Instant,
        shared: &Shared,
        merger: &mut Option<Merger<'a, Arc<Tunnel>>>,
    ) {
        let (mut passed, mut octets, mut authentic) = (0, 0, false);
        if !self.may_receive(shared) {
            return;
        }
        let merger = match merger {
            Some(merger) if Arc::ptr_eq(merger.device(), &self.tunnel) => merger,
            _ => {
                if let Some(mut earlier) = merger.take() {
                    earlier.finish();
                }
                merger.insert(Merger::new(self.tunnel.mergeable(), Arc::clone(&self.tunnel)))
            }
        };
        let mut opener = self.sa.opener();
        for packet in packets {
            match opener.open(packet) {
                Ok(Opened::Packet(inner)) => {
                    authentic = true;
                    if !self.selectors.permit_inbound(&inner) {
                        self.foreign.add(1);
                        continue;
                    }
                    let Some(inner) = packet.get_mut(HEADROOM..HEADROOM + inner.length) else { continue };
                    if ecn::learn(inner, tos).is_err() {
                        self.congested.add(1);
                        continue;
                    }
                    inside::clamp_mss(inner, self.tunnel.mtu());
                    passed += 1;
                    octets += inner.len() as u64;
                    merger.push(inner);
                }
                Ok(Opened::Dummy) => authentic = true,
                Err(error) => {
                    authentic |= error.is_authentic();
                    match error {
                        OpenError::Replay(_) => self.replays.add(1),
                        OpenError::Authentication => self.forgeries.add(1),
                        OpenError::Length(_) | OpenError::OtherSpi(_) | OpenError::Padding | OpenError::Inner(_) => {
                            self.malformed.add(1);
                        }
                    }
                }
            }
        }
        drop(opener);
        self.packets.add(passed);
        self.octets.add(octets);
        self.tunnel.received(passed, octets);
        if authentic {
            self.seen.touch(now);
            self.tunnel.seen(now);
            self.follow(arrival, shared);
        }
    }

    fn may_receive(&self, shared: &Shared) -> bool {
        self.lifetime.check(self.packets.get(), self.octets.get(), None, |limit| {
            shared.tell(Event::Lifetime {
                tunnel: self.tunnel.name().clone(),
                spi: self.spi(),
                direction: Direction::Inbound,
                limit,
            });
        })
    }

    /// Tells when the peer's packets come from elsewhere than before (RFC 7296 §2.23); what follows from it is IKE's affair.
    fn follow(&self, arrival: &Path, shared: &Shared) {
        let known = self.source.load();
        if arrival.remote.port() == 0 {
            return; // plain ESP, of which no NAT is to be followed
        }
        if known.1 == arrival.remote && known.0 == arrival.wan {
            return;
        }
        self.source.store(Arc::new((arrival.wan.clone(), arrival.remote)));
        shared.tell(Event::PeerMoved { tunnel: self.tunnel.name().clone(), spi: self.spi(), path: arrival.clone() });
    }

    pub(super) fn stats(&self, now: Instant) -> InboundStats {
        InboundStats {
            spi: self.spi(),
            cipher: self.sa.cipher(),
            esn: self.sa.is_extended(),
            sequence: self.sa.highest(),
            packets: self.packets.get(),
            octets: self.octets.get(),
            replays: self.replays.get(),
            forgeries: self.forgeries.get(),
            malformed: self.malformed.get(),
            foreign: self.foreign.get(),
            congested: self.congested.get(),
            idle: self.seen.idle(now),
        }
    }
}

/// Limits and which of them have been told.
struct Lifetime {
    limits: Limits,
    soft_told: AtomicBool,
    hard_told: AtomicBool,
}

impl Lifetime {
    fn new(limits: Limits) -> Self {
        Self { limits, soft_told: AtomicBool::new(false), hard_told: AtomicBool::new(false) }
    }

    /// Whether the association may go on; `numbers` is what the sequence numbers have to say.
    fn check(&self, packets: u64, octets: u64, numbers: Option<Limit>, tell: impl Fn(Limit)) -> bool {
        let beyond = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used >= limit);
        let Limits { soft_octets, hard_octets, soft_packets, hard_packets } = self.limits;
        let hard = beyond(hard_octets, octets) || beyond(hard_packets, packets) || numbers == Some(Limit::Hard);
        let soft = hard || beyond(soft_octets, octets) || beyond(soft_packets, packets) || numbers.is_some();
        if soft && !self.soft_told.swap(true, Ordering::Relaxed) {
            tell(Limit::Soft);
        }
        if hard && !self.hard_told.swap(true, Ordering::Relaxed) {
            tell(Limit::Hard);
        }
        !hard
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn each_limit_is_told_once_and_the_hard_one_ends_it() {
        let told = RefCell::new(Vec::new());
        let lifetime = Lifetime::new(Limits { soft_octets: Some(100), hard_packets: Some(10), ..Limits::default() });
        let check = |packets, octets| lifetime.check(packets, octets, None, |limit| told.borrow_mut().push(limit));
        assert!(check(1, 99));
        assert!(told.borrow().is_empty());
        assert!(check(2, 100));
        assert!(check(3, 200));
        assert_eq!(*told.borrow(), [Limit::Soft]);
        assert!(!check(10, 300));
        assert!(!check(11, 300));
        assert_eq!(*told.borrow(), [Limit::Soft, Limit::Hard]);
    }
}
