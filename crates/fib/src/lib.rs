//! The forwarding table: which prefix goes where, and what becomes of it when a path dies.
//!
//! Routes with the same candidates share one *path-list*, which is one kernel nexthop object, or one group of them where
//! several equally good paths share the packets. A path that dies
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
mod forwarding;
mod kernel;
mod path;
mod path_list;
mod twin;
pub mod wire;

pub use backend::{Backend, BackendError, Change, Event, GroupMember, Nexthop, NexthopId, Refusal, Row, Target};
pub use engine::{Adopted, Fib, Flushed, Resync, RouteView, Stats, Switch};
pub use forwarding::{Forwarding, WeightedNexthop};
pub use kernel::{CompatMode, Kernel, Monitor, disable_nexthop_compat_mode};
pub use path::{Damped, PathKey, PathState, Scope};
pub use path_list::PathList;
pub use twin::Twin;
