//! What the engine says about its work.

use std::time::Duration;

use net_types::Prefix;

use crate::{
    backend::{BackendError, NexthopId},
    forwarding::Forwarding,
    path_list::PathList,
};

/// What a change of a path's health did.
#[derive(Debug, Default)]
pub struct Switch {
    /// Path-lists (nexthop objects) replaced.
    pub lists: usize,
    /// Routes in the kernel that moved with them.
    pub routes: usize,
    /// Routes that the kernel had dropped with their link: they are written anew, and go another way then.
    pub flushed: usize,
    /// Those of the routes for which no path is left.
    pub blackholed: usize,
    /// From the call to the kernel's acknowledgement.
    pub elapsed: Duration,
    /// Paths that the kernel would not take, each in words; others were taken instead.
    pub refusals: Vec<String>,
    /// The outcome is unknown; a resync follows.
    pub error: Option<BackendError>,
}

/// What a call of [`flush`](super::Fib::flush) or [`migrate`](super::Fib::migrate) did.
#[derive(Debug, Default)]
pub struct Flushed {
    /// Messages sent.
    pub written: usize,
    /// Routes refused; they are tried again after the next resync.
    pub refused: usize,
    /// One of the refusals, in words.
    pub refusal: Option<String>,
    /// The outcome of this batch is unknown; it will be sent again, and a resync follows.
    pub error: Option<BackendError>,
}

/// What was found at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Routes with our protocol number.
    pub routes: usize,
    /// Nexthop objects with our protocol number.
    pub nexthops: usize,
}

/// How far a resync is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resync {
    /// None is wanted.
    Idle,
    /// Call again.
    Running,
    /// The table has been compared; what was amiss is queued.
    Done {
        /// Routes and objects that were not as they should have been.
        repaired: usize,
    },
}

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteView<'a> {
    /// Where to.
    pub prefix: Prefix,
    /// What it was told to use; `None` while that is not known (or it is on its way out).
    pub list: Option<&'a PathList>,
    /// What packets meet in the kernel now.
    pub installed: Option<&'a Forwarding>,
    /// The nexthop object or group that the kernel's route uses.
    pub object: Option<NexthopId>,
    /// Found at start and not decided on yet.
    pub adopted: bool,
    /// There is something left to write for it.
    pub queued: bool,
}

/// Counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Prefixes known.
    pub routes: usize,
    /// Nexthop objects that routes use, groups among them; the members of groups are not counted.
    pub path_lists: usize,
    /// Queue entries that forwarding waits for.
    pub urgent: usize,
    /// Queue entries that the next fault would find without the way out that they have by now.
    pub unprotected: usize,
    /// Queue entries that make no difference to forwarding.
    pub lazy: usize,
    /// Routes that the kernel refused.
    pub refused: usize,
    /// Times that the table was read.
    pub resyncs: u64,
}
