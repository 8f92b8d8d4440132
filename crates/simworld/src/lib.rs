//! Whole networks of routers in one thread: the daemons' own code over a virtual clock, faults drawn from a seed, and what
//! must hold whatever happens.
//!
//! A [`Plan`] is drawn: hubs, sites, tunnels, and a configuration file for each router. A [`World`] runs it. Each router
//! has the table and FIB threads of `bgpd` taken turn by turn ([`bgpd::rib_thread::ByHand`], [`bgpd::fib_thread::ByHand`]),
//! its sessions' and BFD's cores, its own reading of the configuration, and the twin of a kernel that outlives it. What a
//! daemon's tasks do with sockets, and `ipsecd` as seen by `bgpd`, are played. A schedule of [`Fault`]s is applied.
//!
//! Looked at all the time:
//! - *No leak.* A prefix that came through a tunnel keeps a route in the kernel, be it one that drops, until the living
//!   neighbor takes it back (never, with `bgp fail-closed withdrawn`). So does one that another router of the AS had from a
//!   tunnel, and said so.
//! - *No loop.* Packets that are followed through the kernels' tables do not run in a circle for longer than it takes two
//!   routers to tell each other what each of them has lost.
//!
//! Looked at when every timer has run out: each router has the best path and the kernel's route that the
//! [`mod@reference`] has worked out from who is alive, so nothing is stale, and packets arrive wherever they can.
//!
//! [`try_seed`] runs one seed; a failure says what was violated and has the schedule and the network shrunk to the least that
//! fails, in the form of a test. Hash tables of the daemon have keys that no seed decides, so the order of two messages within one batch may
//! differ between two runs of a seed; nothing here has been seen to depend on it.
//!
//! Not asked for, since nobody can keep it: routes that the kernel drops with a wire, or that somebody deletes, are missing
//! until the daemon has written others, and longer while it does not run; and packets may circle longer than otherwise where a
//! router that restarts forwards as it did before (RFC 4724 §4.1). That takes a daemon that dies in the moment between what
//! it has told and what it has written; such circles are counted.

mod daemon;
mod fault;
mod kernel;
mod packet;
pub mod reference;
mod run;
mod shrink;
mod tcp;
mod topology;
mod world;

pub use fault::{Event, Fault, draw};
pub use kernel::Defect;
pub use run::{Failure, Scenario, Without, try_seed};
pub use shrink::shrink;
pub use topology::{Link, LinkKind, Neighbor, Plan, Router, Size};
pub use world::{Figures, Violation, World};
