//! What the supervisor and the kernel's monitor make of tunnels, links and next hops.

use std::time::Instant;

use bgp_core::{
    rib::{NextHopKey, Resolved},
    session::{Input, Phase},
};
use bgpd::{
    failover::Cause,
    fib_thread::Fault,
    tunnels::{self, News},
};
use fib::{Event, PathState, Scope};
use rpc::{Followed, TunnelEvent, TunnelStatus};

use super::{Command, Daemon, Outbox, Peer};
use crate::topology::ifindex;

impl Daemon {
    /// A next hop on a link that has its carrier, and is no tunnel that is down.
    pub(super) fn resolve(&self, key: &NextHopKey) -> Option<Resolved> {
        let dead = self.tunnels.dead();
        let on_link = |peer: &&Peer| {
            let up = self.carrier.get(&peer.link).copied().unwrap_or(true);
            up && !dead.contains(&ifindex(peer.link)) && peer.spec.address == key.address
        };
        let peer = self.peers.iter().find(on_link)?;
        Some(Resolved { ifindex: ifindex(peer.link), gateway: Some(key.address), metric: 0 })
    }

    pub(super) fn refresh_next_hops(&mut self) {
        let keys: Vec<NextHopKey> = self.next_hops.keys().copied().collect();
        for key in keys {
            let resolved = self.resolve(&key);
            if self.next_hops.insert(key, resolved) != Some(resolved) {
                self.rib.rib().next_hop_resolved(key, resolved);
            }
        }
    }

    /// What ipsecd says, or its absence.
    pub(crate) fn tunnel(&mut self, now: Instant, said: Followed<TunnelEvent>, out: &mut Outbox) {
        for news in self.tunnels.apply(said) {
            match news {
                News::Status(status) if tunnels::is_up(&status) => {
                    self.orders.words(vec![tunnels::word(&status)]);
                    for at in 0..self.peers.len() {
                        if ifindex(self.peers[at].link) == status.ifindex {
                            self.input(now, at, Input::PathUp, out);
                            self.settle(now, at, out);
                        }
                    }
                }
                News::Status(status) => self.path_lost(now, &status, Cause::TunnelDown, tunnels::word(&status)),
                News::Lost(_) => {
                    let known: Vec<TunnelStatus> = self.tunnels.all().cloned().collect();
                    for status in known {
                        if let Some(word) = tunnels::word_of_the_absent(&status) {
                            self.path_lost(now, &status, Cause::IpsecdLost, word);
                        }
                    }
                }
                News::Synced => {}
                News::Gone(_) => panic!("no tunnel is taken out of the configuration"),
            }
        }
        self.refresh_next_hops();
        self.poke(now);
    }

    pub(super) fn path_lost(&mut self, now: Instant, status: &TunnelStatus, cause: Cause, word: (Scope, PathState)) {
        self.lost_over(now, status.ifindex, cause, word);
    }

    /// As `Neighbors::path_lost` does it.
    pub(super) fn lost_over(&mut self, now: Instant, over: u32, cause: Cause, word: (Scope, PathState)) {
        let behind =
            self.peers.iter().position(|peer| ifindex(peer.link) == over && peer.session.phase() == Phase::Established);
        let Some(at) = behind else { return self.orders.words(vec![word]) };
        let commands = self.commands.clone();
        let then = move || {
            if word.1 == PathState::Dead {
                commands.send((at, Command::PathLost)).unwrap_or_default();
            }
        };
        let fault = Fault::at(now, cause, "lost", vec![word]).peer(self.peers[at].spec.address);
        self.orders.fault(fault.over(self.peers[at].interface()).then(then));
        self.poke(now);
    }

    /// A wire was found dead, or alive again; the kernel has drawn its conclusions.
    pub(crate) fn carrier(&mut self, now: Instant, link: usize, up: bool, events: Vec<Event>, out: &mut Outbox) {
        self.carrier.insert(link, up);
        if up {
            for at in (0..self.peers.len()).filter(|at| self.peers[*at].link == link).collect::<Vec<_>>() {
                self.input(now, at, Input::PathUp, out);
                self.settle(now, at, out);
            }
        } else {
            self.lost_over(now, ifindex(link), Cause::LinkDown, (Scope::Link(ifindex(link)), PathState::Dead));
        }
        self.orders.kernel(events);
        self.refresh_next_hops();
        self.poke(now);
    }

    /// Somebody touched the kernel's table.
    pub(crate) fn kernel(&mut self, now: Instant, events: Vec<Event>) {
        self.orders.kernel(events);
        self.poke(now);
    }
}
