//! Next hops that only a route of BGP's own leads to (RFC 4271 §9.1.2.1: recursive resolution).
//!
//! A route may prove another one's next hop if its own is reached without BGP, or has been proven so: [a bounded number of
//! steps](STEPS), each counted from what is reached without BGP, so no circle can hold itself up. What was answered this way,
//! and what could not be answered, is asked again when the table has changed.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bgp_core::rib::{NextHopKey, PathState};
use tokio::{sync::Notify, time::Instant};
use tracing::warn;

use super::supervisor::Supervisor;
use crate::{nexthop::Way, rib_thread::Gone};

/// Changes of the table within this time are looked at together.
const TOGETHER: Duration = Duration::from_millis(20);
/// Most next hops that are asked about in one job of the table's thread.
const PIECE: usize = 256;

/// Most routes of BGP's own that stand between a next hop and a way that is none of theirs.
const STEPS: usize = 8;

/// Works out which next hops are proven. `led` says of each which other next hop the longest route to it names, if there is
/// a route; `known` how a next hop is reached without those in question.
fn prove(
    led: &[(NextHopKey, Option<IpAddr>)],
    known: impl Fn(IpAddr) -> Option<Way>,
) -> BTreeMap<NextHopKey, Option<Way>> {
    let mut proven: BTreeMap<NextHopKey, Option<Way>> = led.iter().map(|(key, _)| (*key, None)).collect();
    let mut left: Vec<(NextHopKey, IpAddr)> = led.iter().filter_map(|(key, by)| Some((*key, (*by)?))).collect();
    for _ in 0..STEPS {
        let before = left.len();
        // What one step proves counts from the next one on.
        let at_start = proven.clone();
        left.retain(|(key, by)| {
            let of_table = || at_start.get(&NextHopKey { address: *by, scope: 0 }).copied().flatten();
            let Some(way) = known(*by).or_else(of_table).filter(|_| *by != key.address) else { return true };
            let way = Way { metric: way.metric.saturating_add(1), recursive: true, ..way };
            proven.insert(*key, Some(way));
            false
        });
        if left.len() == before {
            break;
        }
    }
    proven
}

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
        let mut led = Vec::with_capacity(open.len());
        for piece in open.chunks(PIECE) {
            led.extend(self.ask_table(piece.to_vec()).await?);
        }
        for (key, way) in prove(&led, |by| self.next_hops.without_table(by)) {
            if self.next_hops.answer(key, way) {
                self.tell_next_hop(key, way).await?;
            }
        }
        Ok(())
    }

    /// Which next hop the best of the longest route to each of these names.
    async fn ask_table(&self, keys: Vec<NextHopKey>) -> Result<Vec<(NextHopKey, Option<IpAddr>)>, Gone> {
        let query = move |rib: &bgp_core::rib::Rib, now| {
            let covering = |key: &NextHopKey| {
                let view = rib.longest_match(now, key.address).filter(|view| view.prefix.bits() > 0)?;
                let best = view.paths.into_iter().find(|path| path.state == PathState::Best)?;
                Some(best.effective.unwrap_or(best.received).next_hop.address())
            };
            keys.iter().map(|key| (*key, covering(key))).collect::<Vec<_>>()
        };
        self.daemon.rib.query(query).await
    }

    /// A next hop that the table asks about: how it is reached without BGP, or by a route of the table itself.
    pub(super) async fn want_next_hop(&mut self, key: NextHopKey) -> Result<(), Gone> {
        match self.next_hops.want(&self.watch, key).await {
            Ok(Some(way)) => self.tell_next_hop(key, Some(way)).await?,
            Ok(None) => {
                self.recursion.table.dependents.fetch_add(1, Ordering::Relaxed);
                let led = self.ask_table(vec![key]).await?;
                // One answer, and the right one: after a restart the first decides what is stale.
                for (key, way) in prove(&led, |by| self.next_hops.way_to(by)) {
                    self.next_hops.answer(key, way);
                    self.tell_next_hop(key, way).await?;
                }
            }
            Err(error) => {
                warn!(next_hop = %key.address, %error, "a next hop cannot be resolved");
                self.tell_next_hop(key, None).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(last: u8) -> NextHopKey {
        NextHopKey { address: IpAddr::from([10, 0, 0, last]), scope: 0 }
    }

    /// Of each pair the first is led to by the second; 1 is reached without BGP. Those that are proven, with their metric.
    fn proven(led: &[(u8, u8)]) -> Vec<(u8, u32)> {
        let led: Vec<_> = led.iter().map(|(hop, by)| (key(*hop), Some(key(*by).address))).collect();
        let way = Way { ifindex: 7, gateway: key(1).address, metric: 0, recursive: false };
        let known = |by: IpAddr| (by == key(1).address).then_some(way);
        let last = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(_) => 0,
        };
        let all = prove(&led, known);
        assert!(
            all.values().flatten().all(|it| it.recursive && it.gateway == way.gateway && it.ifindex == way.ifindex)
        );
        all.iter().filter_map(|(key, way)| Some((last(key.address), way.as_ref()?.metric))).collect()
    }

    #[test]
    fn each_step_rests_on_one_that_is_proven() {
        assert_eq!(proven(&[(2, 1)]), [(2, 1)]);
        assert_eq!(proven(&[(4, 3), (3, 2), (2, 1), (5, 9)]), [(2, 1), (3, 2), (4, 3)]);
    }

    #[test]
    fn circles_and_next_hops_that_lead_to_themselves_prove_nothing() {
        assert_eq!(proven(&[(2, 3), (3, 2)]), []);
        assert_eq!(proven(&[(2, 2), (3, 2)]), []);
        assert_eq!(proven(&[(2, 3), (3, 4), (4, 2), (5, 1), (6, 2)]), [(5, 1)]);
    }

    #[test]
    fn steps_are_bounded() {
        let chain: Vec<(u8, u8)> = (2..=30).map(|hop| (hop, hop - 1)).collect();
        assert_eq!(proven(&chain).len(), STEPS);
    }
}
