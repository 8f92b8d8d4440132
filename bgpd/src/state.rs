//! What the daemon knows of itself, for those who ask: the RPC service and the metrics.
//!
//! The daemon's main loop writes, at each change of configuration, links or ipsecd; any number of readers take snapshots.
//! Tables are asked where they live; nothing here copies a route.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

use bgp_core::{PeerId, rib::RibConfig};
use config::{
    Config,
    command::{Clear, Cleared},
    model::NeighborId,
};
use netwatch::View;
use tokio::sync::{mpsc, oneshot};

use crate::{
    bfd_thread::BfdHandle, bmp::Bmp, dump::Dumps, fib_thread::FibHandle, load::Loads, peer::PeerHandle,
    rib_thread::RibHandle, rpki::Rpki, static_health::Health, tap::Tap, vrrp::Vrrp,
};

/// Orders of operators that may wait; who finds the queue full waits.
const CONTROLS: usize = 64;

/// What runs now. A new one takes the place of the old; nothing in it changes.
#[derive(Clone, Default)]
pub struct Running {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// How the routing table was told to see this router; `None` without `router bgp`.
    pub rib: Option<RibConfig>,
    /// Neighbors.
    pub peers: BTreeMap<IpAddr, Arc<PeerHandle>>,
    /// Links and addresses.
    pub view: Arc<View>,
    /// Why ipsecd cannot be reached, while it cannot.
    pub ipsecd_lost: Option<String>,
    /// What static routes depend on.
    pub health: Health,
}

impl Running {
    /// The neighbor of this number.
    pub fn peer(&self, id: PeerId) -> Option<(&IpAddr, &Arc<PeerHandle>)> {
        self.peers.iter().find(|(_, handle)| handle.id() == id)
    }

    /// The neighbor that operators call so, if it is known where it is.
    pub fn named(&self, name: &NeighborId) -> Option<(&IpAddr, &Arc<PeerHandle>)> {
        match name {
            NeighborId::Address(address) => self.peers.get_key_value(address),
            NeighborId::Interface(_) => self.peers.iter().find(|(_, handle)| handle.status().spec.name() == *name),
        }
    }
}

/// What an operator may ask of the daemon. The answer is a line for the operator, or why not.
#[derive(Debug)]
pub enum Control {
    /// Begin sessions anew.
    Clear {
        /// Whose.
        whom: Cleared,
        /// How.
        how: Clear,
        /// To whom to answer.
        answer: Answer,
    },
    /// Put lines into the configuration in force. The answer is what may not be what is meant.
    Configure {
        /// The lines.
        lines: String,
        /// To whom to answer.
        answer: Answer,
    },
    /// Read the configuration file again and apply the difference.
    Reload(Answer),
    /// Nothing: the answer shows that the loop goes round. For the watchdog.
    Ping(Answer),
}

/// Where the outcome of a [`Control`] goes.
pub type Answer = oneshot::Sender<Result<String, String>>;

/// Handle on the daemon's state; clones show the same.
#[derive(Clone)]
pub struct State {
    running: Arc<RwLock<Arc<Running>>>,
    controls: mpsc::Sender<Control>,
    /// The routing table.
    pub rib: RibHandle,
    /// The forwarding table and the failover log.
    pub fib: FibHandle,
    /// BFD.
    pub bfd: BfdHandle,
    /// Origin validation.
    pub rpki: Rpki,
    /// BMP stations.
    pub bmp: Bmp,
    /// Virtual routers.
    pub vrrp: Vrrp,
    /// MRT dumps.
    pub dumps: Dumps,
    /// MRT files in the table.
    pub loads: Loads,
    /// The log of events, and what dumps read.
    pub tap: Tap,
}

impl State {
    /// A state in which nothing runs, and the end at which orders arrive.
    pub fn new(
        rib: RibHandle,
        fib: FibHandle,
        bfd: BfdHandle,
        tap: Tap,
        vrrp: Vrrp,
    ) -> (Self, mpsc::Receiver<Control>) {
        let (controls, incoming) = mpsc::channel(CONTROLS);
        let rpki = Rpki::new(rib.clone());
        let (bmp, dumps, loads) = Default::default();
        (Self { running: Arc::default(), controls, rib, fib, bfd, rpki, bmp, vrrp, dumps, loads, tap }, incoming)
    }

    /// What runs now.
    pub fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// For the main loop: this runs from now on.
    pub fn set_running(&self, running: Running) {
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(running);
    }

    /// Hands an order to the main loop and waits for the outcome.
    ///
    /// # Errors
    /// With the operator's line, when it was refused or the daemon is shutting down.
    pub async fn control(&self, order: impl FnOnce(Answer) -> Control) -> Result<String, String> {
        let gone = |_| "% bgpd is shutting down".to_owned();
        let (answer, answered) = oneshot::channel();
        self.controls.send(order(answer)).await.map_err(|_| gone(()))?;
        answered.await.map_err(|_| gone(()))?
    }
}
