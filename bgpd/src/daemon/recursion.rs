//! Next hops that only a route of BGP's own leads to (RFC 4271 §9.1.2.1: recursive resolution).
//!
//! A route may prove another one's next hop if its own is reached without BGP: one step, so no circle can hold itself up.
//! What was answered this way, and what could not be answered, is asked again when the table has changed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bgp_core::rib::{NextHopKey, PathState, Resolved};
use tokio::{sync::Notify, time::Instant};
use tracing::warn;

use super::supervisor::Supervisor;
use crate::{nexthop::Way, rib_thread::Gone};

/// Changes of the table within this time are looked at together.
const TOGETHER: Duration = Duration::from_millis(20);
/// Most next hops that are asked about in one job of the table's thread.
const PIECE: usize = 256;

/// Tells the supervisor that the table has changed, while there are next hops that depend on it.
#[derive(Clone, Default)]
pub struct TableWatch {
    dependents: Arc<AtomicUsize>,
    changed: Arc<Notify>,
}

impl TableWatch {
    /// For the table's thread: best paths changed.
    pub fn changed(&self) {
        if self.dependents.load(Ordering::Relaxed) > 0 {
            self.changed.notify_one();
        }
    }
}

/// What the supervisor keeps of it.
#[derive(Default)]
pub(super) struct Recursion {
    pub(super) table: TableWatch,
    /// When the table is to be asked again.
    due: Option<Instant>,
}

impl Recursion {
    /// Returns when the table is to be asked again.
    pub(super) async fn wake(&mut self) {
        loop {
            match self.due {
                None => {
                    self.table.changed.notified().await;
                    self.due = Some(Instant::now() + TOGETHER);
                }
                Some(due) => {
                    tokio::time::sleep_until(due).await;
                    self.due = None;
                    return;
                }
            }
        }
    }
}

impl Supervisor {
    /// Asks the table about every next hop that nothing else leads to, and tells it what is new.
    pub(super) async fn resolve_by_table(&mut self) -> Result<(), Gone> {
        let open = self.next_hops.open();
        self.recursion.table.dependents.store(open.len(), Ordering::Relaxed);
        for piece in open.chunks(PIECE) {
            for (key, way) in self.ask_table(piece.to_vec()).await? {
                if self.next_hops.answer(key, way) {
                    self.tell_next_hop(key, way).await?;
                }
            }
        }
        Ok(())
    }

    async fn ask_table(&self, keys: Vec<NextHopKey>) -> Result<Vec<(NextHopKey, Option<Way>)>, Gone> {
        let asked = keys.clone();
        let found = self
            .daemon
            .rib
            .query(move |rib, now| {
                let covering = |key: &NextHopKey| {
                    let view = rib.longest_match(now, key.address).filter(|view| view.prefix.bits() > 0)?;
                    let best = view.paths.into_iter().find(|path| path.state == PathState::Best)?;
                    let attrs = best.effective.unwrap_or(best.received);
                    Some((attrs.next_hop.address(), best.resolved?))
                };
                asked.iter().map(covering).collect::<Vec<_>>()
            })
            .await?;
        let way = |(key, found): (NextHopKey, Option<(std::net::IpAddr, Resolved)>)| {
            let way = found.and_then(|(by, Resolved { ifindex, gateway, metric })| {
                let proven = by != key.address && self.next_hops.is_direct(by);
                let gateway = gateway.unwrap_or(key.address);
                proven.then_some(Way { ifindex, gateway, metric: metric.saturating_add(1), recursive: true })
            });
            (key, way)
        };
        Ok(keys.into_iter().zip(found).map(way).collect())
    }

    /// A next hop that the table asks about: how it is reached without BGP, or by a route of the table itself.
    pub(super) async fn want_next_hop(&mut self, key: NextHopKey) -> Result<(), Gone> {
        match self.next_hops.want(&self.watch, key).await {
            Ok(Some(way)) => self.tell_next_hop(key, Some(way)).await?,
            Ok(None) => {
                self.tell_next_hop(key, None).await?;
                self.recursion.table.dependents.fetch_add(1, Ordering::Relaxed);
                for (key, way) in self.ask_table(vec![key]).await? {
                    if self.next_hops.answer(key, way) {
                        self.tell_next_hop(key, way).await?;
                    }
                }
            }
            Err(error) => warn!(next_hop = %key.address, %error, "a next hop cannot be resolved"),
        }
        Ok(())
    }
}
