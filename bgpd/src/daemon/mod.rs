//! The daemon as a whole: what it is made of ([`Daemon`]), and the task that keeps it as configured ([`supervisor`]).
//!
//! ```text
//! neighbors' tasks ──▶ routing table ──▶ FIB thread ──▶ kernel
//!        │   BFD thread · kernel monitor · ipsecd ──▲
//!        └──────────────── faults ──────────────────┘
//! ```

pub mod apply;
pub mod monitor;
pub mod neighbors;
pub mod outlet;
pub mod start;
pub mod supervisor;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use config::{Config, command::Clear};
use net_types::RouterId;
use netwatch::View;
use tokio::sync::{mpsc, oneshot};

use crate::{bfd_thread::BfdHandle, fib_thread::FibHandle, rib_thread::RibHandle, tunnels::Tunnels};
use neighbors::Neighbors;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Where sockets are.
    pub run_dir: PathBuf,
    /// Nothing is written into the kernel.
    pub no_kernel: bool,
    /// Where to accept connections, in place of port 179 on all addresses.
    pub listen: Option<SocketAddr>,
}

/// Something that the supervisor is asked to do.
#[derive(Debug)]
pub enum Request {
    /// `reload`
    Reload(oneshot::Sender<Result<String, String>>),
    /// `clear bgp`
    Clear {
        /// Only this neighbor.
        neighbor: Option<IpAddr>,
        /// How.
        how: Clear,
        /// What came of it.
        reply: oneshot::Sender<Result<String, String>>,
    },
}

/// The parts of a running daemon, for whoever shows or asks something. Cheap to clone.
#[derive(Clone)]
pub struct Daemon {
    /// The command line.
    pub options: Arc<Options>,
    /// The routing table.
    pub rib: RibHandle,
    /// The forwarding table.
    pub fib: FibHandle,
    /// BFD.
    pub bfd: BfdHandle,
    /// The neighbors.
    pub neighbors: Neighbors,
    /// Links and addresses as last told.
    pub links: Arc<RwLock<View>>,
    /// Tunnels as last told.
    pub tunnels: Arc<Mutex<Tunnels>>,
    /// Our BGP identifier.
    pub router_id: RouterId,
    running: Arc<RwLock<Arc<Config>>>,
    requests: mpsc::Sender<Request>,
}

impl Daemon {
    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the configuration file read again and the difference applied.
    ///
    /// # Errors
    /// All mistakes of the file, in which case nothing has changed.
    pub async fn reload(&self) -> Result<String, String> {
        self.request(Request::Reload).await
    }

    /// Starts sessions over, or has routes sent again.
    ///
    /// # Errors
    /// When there is no such neighbor.
    pub async fn clear(&self, neighbor: Option<IpAddr>, how: Clear) -> Result<String, String> {
        self.request(|reply| Request::Clear { neighbor, how, reply }).await
    }

    async fn request(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<String, String>>) -> Request,
    ) -> Result<String, String> {
        let gone = || "bgpd is shutting down".to_owned();
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
