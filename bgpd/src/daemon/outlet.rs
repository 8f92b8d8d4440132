//! What the routing table's thread says, passed on to whom it concerns. Nothing here waits.

use std::{cell::RefCell, collections::BTreeMap};

use bgp_core::{
    PeerId,
    rib::{BestChange, NextHopEvent, RibEvent},
};
use bgp_wire::FamilySet;
use net_types::Family;
use tokio::sync::mpsc;

use super::{neighbors::Neighbors, recursion::TableWatch};
use crate::{fib_thread::RibSide, rib_thread::Outlet};

/// Passes on.
pub struct TableOutlet {
    /// The FIB thread.
    pub fib: RibSide,
    /// Who resolves next hops.
    pub next_hops: mpsc::Sender<NextHopEvent>,
    /// Who acts on events; there are few.
    pub events: mpsc::UnboundedSender<RibEvent>,
    /// Whose addresses.
    pub neighbors: Neighbors,
    /// Who resolves next hops by the table itself.
    pub watch: TableWatch,
    /// Families that each neighbor has finished sending.
    pub finished: RefCell<BTreeMap<PeerId, FamilySet>>,
}

impl Outlet for TableOutlet {
    fn fib_room(&self) -> usize {
        self.fib.room()
    }

    fn fib_changes(&self, changes: Vec<BestChange>) {
        self.fib.changes(changes);
        self.watch.changed();
    }

    fn next_hop_room(&self) -> usize {
        self.next_hops.capacity()
    }

    fn next_hop(&self, event: NextHopEvent) {
        if self.next_hops.try_send(event).is_err() {
            // There was room, so the daemon is on its way out.
            tracing::debug!("a next hop is not resolved any more");
        }
    }

    fn event(&self, event: RibEvent) {
        if let RibEvent::Settled(unclaimed) = &event {
            let interface = |peer: &PeerId| Some(self.neighbors.by_id(*peer)?.1.interface?.0);
            self.fib.settled(unclaimed.clone(), unclaimed.protected.iter().filter_map(interface).collect());
        }
        // Nobody listens only while the daemon is on its way out.
        let _ = self.events.send(event);
    }

    fn end_of_rib(&self, peer: PeerId, family: Family) {
        let Some((address, entry)) = self.neighbors.by_id(peer) else { return };
        let status = entry.handle.status();
        let Some(terms) = status.terms else { return };
        entry.signs.complete(status.established_count, family);
        let mut finished = self.finished.borrow_mut();
        let families = finished.entry(peer).or_insert(FamilySet::EMPTY);
        families.insert(family);
        if families.intersection(terms.negotiated.families) == terms.negotiated.families {
            finished.remove(&peer);
            self.fib.returned(peer, address);
        }
    }

    fn idle(&self) {
        self.fib.idle();
    }
}
