//! Walking over many routes without stopping the table.

use std::{collections::VecDeque, ops::RangeInclusive};

use bgp_core::rib::{RouteView, Walk};
use net_types::Prefix;

use super::{Gone, RibHandle};

/// Prefixes looked up in one turn of the table's loop: well below a millisecond.
const PIECE: usize = 256;

/// So many are sorted in passing.
const FEW: usize = 8192;

/// A walk over routes in order. Those that go meanwhile are skipped; those that come are seen if the walk has not come
/// to their part of the table yet.
pub struct RouteWalk {
    table: RibHandle,
    walk: Option<Walk>,
    /// What is walked after that.
    parts: VecDeque<(Prefix, RangeInclusive<u16>)>,
}

impl RouteWalk {
    /// Walks what `walk` names.
    pub(super) async fn new(table: RibHandle, mut walk: Walk) -> Result<Self, Gone> {
        if walk.remaining() > FEW {
            // Neither the table nor other tasks wait for that.
            let sorted = tokio::task::spawn_blocking(move || {
                walk.sort();
                walk
            });
            walk = sorted.await.map_err(|_| Gone)?;
        }
        Ok(Self { table, walk: Some(walk), parts: VecDeque::new() })
    }

    /// Walks the whole table within a prefix, part by part.
    pub(super) async fn over(table: RibHandle, within: Prefix) -> Result<Self, Gone> {
        let parts = table.query(move |rib, _| rib.parts(within.family())).await?;
        let parts = parts.into_iter().map(|part| (within, part)).collect();
        Ok(Self { table, walk: None, parts })
    }

    /// The next routes, with everything that is known about them; `None` at the end.
    ///
    /// # Errors
    /// When the table is gone.
    pub async fn next(&mut self) -> Result<Option<Vec<RouteView>>, Gone> {
        let mut walk = match self.walk.take().filter(|walk| walk.remaining() > 0) {
            Some(walk) => walk,
            None => {
                let Some((within, part)) = self.parts.pop_front() else { return Ok(None) };
                let walk = self.table.query(move |rib, _| rib.walk_part(&within, part)).await?;
                // Sorted here rather than on the table's thread.
                Self::new(self.table.clone(), walk).await?.walk.take().ok_or(Gone)?
            }
        };
        let (walk, routes) = self
            .table
            .query(move |rib, now| {
                let routes = walk.by_ref().take(PIECE).filter_map(|prefix| rib.route(now, &prefix)).collect();
                (walk, routes)
            })
            .await?;
        self.walk = Some(walk);
        Ok(Some(routes))
    }
}
