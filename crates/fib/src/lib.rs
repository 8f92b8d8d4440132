//! The forwarding table: which prefix goes where, and what becomes of it when a path dies.
//!
//! Routes with the same ordered candidates share one *path-list*, which is one kernel nexthop object. A path that dies
//! costs one netlink message for each path-list that used it, whatever the number of prefixes; only afterwards are
//! routes rewritten one by one, in bounded batches that a second fault can come between. What must always hold:
//!
//! - *Fail closed.* A path-list with no live candidate drops packets. A route leaves the table only when told to.
//! - *Make before break.* An object exists before a route names it and goes only when no route does. A path that
//!   returns takes over a path-list only after the routes that no longer belong to it have left.
//! - *Nothing stale.* What the kernel or anybody else does to our objects and routes is heard ([`Monitor`]) and
//!   repaired; after lost notifications the table is read again ([`Fib::resync_step`]).
//! - *Restart.* Routes found at start ([`Fib::adopt`]) keep forwarding as they did until their prefix is decided anew
//!   or [`Fib::sweep`] says that it will not be.
//!
//! [`Fib`] is the engine, over a [`Backend`]: the [`Kernel`], or its [`Twin`] in memory.

mod backend;
mod engine;
mod kernel;
mod path;
mod twin;
pub mod wire;

pub use backend::{Backend, BackendError, Change, Event, Nexthop, NexthopId, Refusal, Row};
pub use engine::{Adopted, Fib, Flushed, Resync, RouteView, Stats, Switch};
pub use kernel::{CompatMode, Kernel, Monitor, disable_nexthop_compat_mode};
pub use path::{PathKey, PathState, Scope};
pub use twin::Twin;
