//! Walking over many routes without stopping the table.

use bgp_core::rib::{RouteView, Walk};

use super::{Gone, RibHandle};

/// Prefixes looked up in one turn of the table's loop: well below a millisecond.
const PIECE: usize = 256;

/// So many are sorted in passing.
const FEW: usize = 8192;

/// A walk over routes in order. What came after its start is left out, what went is skipped.
pub struct RouteWalk {
    table: RibHandle,
    walk: Option<Walk>,
}

impl RouteWalk {
    pub(super) async fn new(table: RibHandle, mut walk: Walk) -> Result<Self, Gone> {
        if walk.remaining() > FEW {
            // Neither the table nor other tasks wait for that.
            let sorted = tokio::task::spawn_blocking(move || {
                walk.sort();
                walk
            });
            walk = sorted.await.map_err(|_| Gone)?;
        }
        Ok(Self { table, walk: Some(walk) })
    }

    /// The next routes, with everything that is known about them; `None` at the end.
    ///
    /// # Errors
    /// When the table is gone.
    pub async fn next(&mut self) -> Result<Option<Vec<RouteView>>, Gone> {
        let Some(mut walk) = self.walk.take().filter(|walk| walk.remaining() > 0) else { return Ok(None) };
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

    /// How many prefixes are left.
    pub fn remaining(&self) -> usize {
        self.walk.as_ref().map_or(0, Walk::remaining)
    }
}
