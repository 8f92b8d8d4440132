//! The seam between the engine and whatever holds the forwarding table: the kernel, or its twin in memory.

use std::{io, net::IpAddr, sync::Arc};

use net_types::{Family, Prefix};

/// Names a nexthop object; unique within a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NexthopId(pub u32);

/// What a nexthop object does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nexthop {
    /// Drops it. The kernel wants to know for which family.
    Blackhole(Family),
    /// Sends it out.
    Via {
        /// The family of the routes that use it when there is no gateway to tell.
        family: Family,
        /// The interface.
        ifindex: u32,
        /// The gateway on that interface, taken to be on link.
        gateway: Option<IpAddr>,
    },
}

/// One member of a nexthop group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The object that it is, which is no group itself: groups do not nest.
    pub id: NexthopId,
    /// Its share of the flows, beside the others' weights; not 0.
    pub weight: u8,
}

/// What a route does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// What this object does; with an address, packets of this router's own that have none yet are sent from that.
    Through(NexthopId, Option<IpAddr>),
    /// Drops it and tells the sender so (ICMP). No nexthop object does that.
    Unreachable,
}

/// One change of the table. Each says what is to be and may be made twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object exists and is this.
    PutNexthop(NexthopId, Nexthop),
    /// The object, which exists, is this. Refused with `ENOENT` when it does not exist: then the kernel flushed it, and
    /// its routes with it, which it announces to nobody.
    ReplaceNexthop(NexthopId, Nexthop),
    /// The object exists and is a group of these. Refused when one of them does not exist, when one of several is a
    /// blackhole, and when the object exists and is no group: the kernel turns neither kind into the other.
    PutGroup(NexthopId, Arc<[GroupMember]>),
    /// The same of a group that exists; refused like [`ReplaceNexthop`](Self::ReplaceNexthop) when it does not.
    ReplaceGroup(NexthopId, Arc<[GroupMember]>),
    /// The object does not exist. The kernel removes with it every route that still uses it, and takes it out of
    /// groups, of which one without another member goes the same way.
    RemoveNexthop(NexthopId),
    /// The prefix is routed so.
    PutRoute(Prefix, Target),
    /// The prefix has no route of ours.
    RemoveRoute(Prefix),
}

/// A change that was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its place in the batch.
    pub index: usize,
    /// The kernel's error number.
    pub errno: i32,
    /// The kernel's own explanation, where it gave one (extended acknowledgement).
    pub message: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let error = io::Error::from_raw_os_error(self.errno);
        match &self.message {
            Some(message) => write!(f, "{error}: {message}"),
            None => error.fmt(f),
        }
    }
}

/// One thing found in the table by a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A nexthop object with our protocol number; `None` when it is of a kind that we never make.
    Nexthop(NexthopId, Option<Nexthop>),
    /// A group with our protocol number.
    Group(NexthopId, Vec<GroupMember>),
    /// A route with our protocol number; `None` when it is of a kind that we never make.
    Route(Prefix, Option<Target>),
}

/// Something that happened to the table or the links without us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody removed a nexthop object of ours, and its routes with it, or its part in groups. (Not said of what goes
    /// with a link.)
    NexthopRemoved(NexthopId),
    /// Somebody rewrote a nexthop object of ours.
    NexthopChanged(NexthopId),
    /// A route of ours is gone, or somebody put another in its place.
    RouteTouched(Prefix),
    /// An interface changed: whether it can carry packets (administratively up, and with carrier). One that cannot
    /// has lost its nexthop objects, and those their routes.
    Link {
        /// Which one.
        ifindex: u32,
        /// Whether it is usable.
        up: bool,
    },
    /// Notifications were lost: anything may have happened.
    Overrun,
}

/// A batch whose outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The kernel dropped answers because the receive buffer was full; the changes may or may not be in.
    #[error("the kernel dropped answers on the route socket (ENOBUFS); the table has to be read again")]
    Overrun,
    /// The acknowledgement did not come.
    #[error("the kernel did not acknowledge a batch of {0} changes; the table has to be read again")]
    Unacknowledged(usize),
    /// The socket failed.
    #[error("route socket: {0}")]
    Io(#[from] io::Error),
    /// The kernel refused to list a table.
    #[error("the kernel refused to list {table}: {refusal}")]
    Dump {
        /// What was asked for.
        table: &'static str,
        /// Its answer.
        refusal: Refusal,
    },
    /// A message that makes no sense.
    #[error("the kernel sent a message that cannot be read: {0}")]
    Malformed(String),
}

/// Where routes go.
pub trait Backend {
    /// Makes the changes in order, going on after a refused one; returns those that were refused, by index.
    ///
    /// # Errors
    /// When it is not known which changes were made.
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Refusal>, BackendError>;

    /// Starts to list all nexthop objects, then all routes, that carry our protocol number.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn start_dump(&mut self) -> Result<(), BackendError>;

    /// Appends the next rows; false when there are no more. One call takes about a millisecond at most.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn continue_dump(&mut self, rows: &mut Vec<Row>) -> Result<bool, BackendError>;
}

impl<B: Backend + ?Sized> Backend for Box<B> {
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Refusal>, BackendError> {
        (**self).apply(changes)
    }

    fn start_dump(&mut self) -> Result<(), BackendError> {
        (**self).start_dump()
    }

    fn continue_dump(&mut self, rows: &mut Vec<Row>) -> Result<bool, BackendError> {
        (**self).continue_dump(rows)
    }
}
