//! What the kernel has: links and addresses, kept up to date from rtnetlink notifications.
//!
//! [`View`] is plain data that answers questions; [`Watch`] keeps one true. Both daemons use it: ipsecd for the state of
//! WAN links, bgpd to resolve next hops and to redistribute connected prefixes. [`Watch::follow_routes`] adds the routes that
//! others put into the kernel, and leaves out our own, which may be a million. A next hop that is not connected is asked for
//! one by one ([`Watch::route_to`]).
//!
//! A lost notification (`ENOBUFS`) leads to a full dump, never to a stale view.

mod routes;
mod view;
mod watch;

pub use routes::{ForeignRoute, ForeignTarget};
pub use view::{Address, Link, VIRTUAL, View};
pub use watch::{Change, Hop, Watch};
