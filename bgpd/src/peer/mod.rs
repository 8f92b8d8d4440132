//! Neighbors: for each a task that owns its sockets and drives its session state machine.
//!
//! [`spawn`] starts the task and gives a [`PeerHandle`]; everything that happens goes to the routing table's channel as a
//! [`PeerEvent`]. The task never waits for the routing table: while its channel is full, the task stops reading from
//! the neighbor (TCP then holds it back) and goes on serving timers, commands and the write queue. A session that is
//! lost is reported to [`PeerHost::faulted`] before anything else, so that traffic moves first.
//!
//! Towards the neighbor, routes wait in a [`RouteQueue`] of bounded size that the routing table fills as long as it has
//! room; KEEPALIVEs and NOTIFICATIONs overtake them at message boundaries.

mod ao;
mod connection;
mod event;
mod filters;
mod handle;
mod listener;
mod outbox;
mod queue;
mod rules;
mod setup;
mod socket;
mod spec;
mod status;
mod task;
#[cfg(test)]
mod tests;

pub use ao::{Ao, AoKey};
pub use event::{Link, PeerEnds, PeerEvent, PeerFault, PeerHost, SessionUp};
pub use filters::{Filters, filters};
pub use handle::{PeerCommand, PeerHandle, spawn};
pub use listener::{Acceptors, Door, Listener};
pub use queue::{Chunk, RouteQueue};
pub use rules::{add_path, alias, role, rules};
pub use setup::{Ases, SelfState, SetupError, password, spec};
pub(crate) use socket::prepare;
pub use spec::{BfdRules, Hops, Password, PeerSpec, Source, Transport};
pub use status::{PeerStatus, ResetInfo};
