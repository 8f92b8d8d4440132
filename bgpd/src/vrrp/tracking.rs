//! What a gateway is good for: tunnels that are up, neighbors whose routes are in.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use bgp_core::session::Phase;
use config::model::VrrpTracked;
use tokio::sync::watch;
use vrrp::Family;

use crate::{
    daemon::neighbors::Neighbors,
    tunnels::{Tunnels, is_up},
};

/// Tells of each thing that is tracked whether it is there; clones tell the same.
#[derive(Clone)]
pub struct Tracking {
    neighbors: Neighbors,
    tunnels: Arc<Mutex<Tunnels>>,
    /// After a restart of ours: neighbors have told everything again.
    settled: Arc<AtomicBool>,
    news: Arc<watch::Sender<()>>,
}

/// What is known of a neighbor's session beside its state. Sessions are told apart by their number, so that nothing of one
/// holds for the next.
#[derive(Debug, Default)]
pub struct Signs {
    /// The session whose routes of each family are complete.
    complete: [AtomicU64; 2],
    /// The session whose BFD went down.
    silent: AtomicU64,
}

impl Signs {
    /// The neighbor has said all that it has of this family, in the session of this number. Families that no host has a
    /// gateway for do not matter.
    pub fn complete(&self, session: u64, family: net_types::Family) {
        if let Some(gateway) = Family::ALL.into_iter().find(|gateway| routes_of(*gateway) == family) {
            self.complete_of(gateway).store(session, Relaxed);
        }
    }

    fn complete_of(&self, family: Family) -> &AtomicU64 {
        let [v4, v6] = &self.complete;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// BFD went down in the session of this number.
    pub fn silent(&self, session: u64) {
        self.silent.store(session, Relaxed);
    }

    /// BFD is up.
    pub fn heard(&self) {
        self.silent.store(0, Relaxed);
    }
}

impl Tracking {
    /// Of these neighbors and tunnels.
    pub fn new(neighbors: Neighbors, tunnels: Arc<Mutex<Tunnels>>) -> Self {
        let (news, _) = watch::channel(());
        Self { neighbors, tunnels, settled: Arc::new(AtomicBool::new(true)), news: Arc::new(news) }
    }

    /// Something that may be tracked has changed: whoever listens looks at once.
    pub fn changed(&self) {
        self.news.send_replace(());
    }

    /// Where [`changed`](Self::changed) is heard.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Whether the table is as it was before a restart of ours.
    pub fn set_settled(&self, settled: bool) {
        self.settled.store(settled, Relaxed);
        self.changed();
    }

    /// Whether routes are in, as far as our own restart goes.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Relaxed)
    }

    /// Why `tracked` is not healthy for hosts of this family; `None` if it is.
    pub(super) fn trouble(&self, tracked: &VrrpTracked, family: Family) -> Option<String> {
        match tracked {
            VrrpTracked::Tunnel(name) => {
                // What ipsecd said last holds while it restarts: its tunnels outlive that.
                let tunnels = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
                match tunnels.all().find(|status| status.tunnel == *name) {
                    Some(status) if is_up(status) => None,
                    Some(_) => Some(format!("{tracked} is down")),
                    None => Some(format!("ipsecd has not told of {tracked} yet")),
                }
            }
            VrrpTracked::Neighbor(address) => {
                let Some(entry) = self.neighbors.get(address) else {
                    return Some(format!("{tracked} is not there"));
                };
                let status = entry.handle.status();
                let session = status.established_count;
                let carries =
                    status.terms.as_ref().is_some_and(|terms| terms.negotiated.families.contains(routes_of(family)));
                if status.phase != Phase::Established {
                    Some(format!("{tracked} is not established"))
                } else if entry.signs.silent.load(Relaxed) == session {
                    Some(format!("BFD to {tracked} is down"))
                } else if carries && entry.signs.complete_of(family).load(Relaxed) != session {
                    Some(format!("{tracked} has not told all its {family} routes yet"))
                } else {
                    None
                }
            }
        }
    }
}

/// Which routes hosts of a family need.
fn routes_of(family: Family) -> net_types::Family {
    match family {
        Family::V4 => net_types::Family::Ipv4Unicast,
        Family::V6 => net_types::Family::Ipv6Unicast,
    }
}
