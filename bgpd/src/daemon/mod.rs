//! The daemon as a whole: what it is made of ([`Daemon`]), and the task that keeps it as configured ([`supervisor`]).
//!
//! ```text
//! neighbors' tasks ──▶ routing table ──▶ FIB thread ──▶ kernel
//!        │   BFD thread · kernel monitor · ipsecd ──▲
//!        └──────────────── faults ──────────────────┘
//! ```

pub mod apply;
mod arrivals;
mod exits;
pub mod monitor;
pub mod neighbors;
pub mod outlet;
pub mod recursion;
pub mod start;
pub mod supervisor;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use config::{Config, UnknownLines};
use netwatch::View;

use crate::{
    bfd_thread::BfdHandle, fib_thread::FibHandle, rib_thread::RibHandle, silent::Silence, static_health::StaticBfd,
    tunnels::Tunnels,
};
use neighbors::Neighbors;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Where sockets are.
    pub run_dir: PathBuf,
    /// What becomes of lines of configuration that are not known.
    pub unknown_lines: UnknownLines,
    /// Nothing is written into the kernel.
    pub no_kernel: bool,
    /// Where to accept connections, in place of port 179 on all addresses.
    pub listen: Vec<SocketAddr>,
    /// MRT files to put into the table.
    pub load: Vec<PathBuf>,
    /// The logs, where their level is the configuration's to say.
    pub logs: Option<telemetry::Logs>,
}

/// The parts of a running daemon. Cheap to clone. What the outside may see of it is its [`State`](crate::state::State).
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
    /// BFD sessions that static routes depend on.
    pub static_bfd: StaticBfd,
    /// Links on which BFD hears nobody any more.
    pub silence: Silence,
    running: Arc<RwLock<Arc<Config>>>,
}

impl Daemon {
    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
