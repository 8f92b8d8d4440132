//! Between a neighbor's task and the routing table: its events become calls, the table's messages fill its queue.
//!
//! It has a small task of its own, so that waiting for the table costs the neighbor's task nothing.

use std::time::Instant;

use bgp_core::{
    PeerId,
    rib::{Departure, PeerUp},
    session::Retain,
};
use bgp_wire::{FamilySet, RefreshKind, Update};
use tokio::sync::mpsc;

use super::{PeerEvent, PeerHandle, PeerHost, PeerSpec, RouteQueue, SessionUp, spawn};
use crate::rib_thread::{Gone, RibHandle, SessionLink, SessionOutput};

/// Events that a neighbor's task may be ahead.
const EVENTS: usize = 64;

/// Starts a neighbor's task with the routing table behind it. The table has to know the neighbor already
/// ([`RibHandle::configure_peer`]).
pub fn spawn_with_table<H: PeerHost>(spec: PeerSpec, host: H, table: RibHandle) -> PeerHandle {
    let (sender, events) = mpsc::channel(EVENTS);
    tokio::spawn(Bridge { peer: spec.id, table, events, session: None }.run());
    spawn(spec, host, sender)
}

struct Bridge {
    peer: PeerId,
    table: RibHandle,
    events: mpsc::Receiver<PeerEvent>,
    session: Option<Session>,
}

/// Both ends of an established session.
struct Session {
    link: SessionLink,
    output: SessionOutput,
    queue: RouteQueue,
}

impl Bridge {
    async fn run(mut self) {
        // The table is gone only when the daemon is; the neighbor's task then finds its events undeliverable and
        // ends the session.
        let Err(Gone) = self.serve().await else { return };
        tracing::debug!(peer = %self.peer, "the routing table is gone");
    }

    async fn serve(&mut self) -> Result<(), Gone> {
        let mut batch = Vec::with_capacity(EVENTS);
        loop {
            let Self { events, session, .. } = self;
            tokio::select! {
                biased;
                count = events.recv_many(&mut batch, EVENTS) => {
                    if count == 0 {
                        return Ok(()); // the neighbor is no longer configured
                    }
                    self.events(&mut batch).await?;
                }
                messages = next_messages(session) => match messages {
                    Some(messages) => {
                        if let Some(session) = session {
                            messages.into_iter().for_each(|message| session.queue.push(message));
                        }
                    }
                    None => *session = None, // the table has ended it: the neighbor was taken out
                },
            }
        }
    }

    /// Hands events over in order; what one neighbor said in a row goes together.
    async fn events(&mut self, batch: &mut Vec<PeerEvent>) -> Result<(), Gone> {
        let mut updates = Vec::new();
        for event in batch.drain(..) {
            match event {
                PeerEvent::Routes { update, .. } => updates.push(update),
                PeerEvent::Writable { .. } => {} // the queue is asked anyway
                PeerEvent::Up(up) => {
                    self.flush(&mut updates).await;
                    self.session = Some(self.up(*up).await?);
                }
                PeerEvent::Refresh { peer, refresh } => {
                    self.flush(&mut updates).await;
                    if let (RefreshKind::Request, Some(family)) = (refresh.kind, refresh.family()) {
                        self.table.route_refresh(peer, family).await?;
                    }
                }
                PeerEvent::Down { retain, at, .. } => {
                    self.flush(&mut updates).await;
                    if let Some(session) = self.session.take() {
                        session.link.down(departure(retain, at)).await?;
                    }
                }
            }
        }
        self.flush(&mut updates).await;
        Ok(())
    }

    async fn flush(&mut self, updates: &mut Vec<Update>) {
        if updates.is_empty() {
            return;
        }
        let updates = std::mem::take(updates);
        if let Some(session) = &self.session
            && session.link.send(updates).await.is_err()
        {
            self.session = None; // the table has ended it
        }
    }

    async fn up(&self, up: SessionUp) -> Result<Session, Gone> {
        let SessionUp { peer, terms, local, link, queue, stale_limit, .. } = up;
        let mut addresses = link.addresses;
        match local.ip() {
            std::net::IpAddr::V4(address) => addresses.v4 = addresses.v4.or(Some(address)),
            std::net::IpAddr::V6(address) if address.is_unicast_link_local() => {
                addresses.link_local = addresses.link_local.or(Some(address));
            }
            std::net::IpAddr::V6(address) => addresses.v6 = addresses.v6.or(Some(address)),
        }
        let peer_up = PeerUp {
            router_id: terms.peer_open.router_id,
            families: terms.negotiated.families,
            preserved: terms.restart.as_ref().map_or(FamilySet::EMPTY, |restart| restart.preserved),
            sends_end_of_rib: terms.restart.is_some(),
            stale_limit,
            local: addresses,
            scope: link.ifindex,
            shared_subnets: link.subnets,
        };
        let (link, output) = self.table.session_up(peer, peer_up, terms.negotiated).await?;
        Ok(Session { link, output, queue })
    }
}

/// What the table has for the neighbor, as soon as its queue takes it.
async fn next_messages(session: &mut Option<Session>) -> Option<Vec<bytes::Bytes>> {
    match session {
        Some(session) if session.queue.has_room() => session.output.recv().await,
        // Without room, the next event is `Writable` or the end.
        _ => std::future::pending().await,
    }
}

/// RFC 4724 §4.2
fn departure(retain: Option<Retain>, at: Instant) -> Departure {
    match retain {
        Some(Retain { families, restart_time }) => Departure::Stale { until: at + restart_time, families },
        None => Departure::Withdraw,
    }
}
