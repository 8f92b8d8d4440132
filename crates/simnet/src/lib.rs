//! A seeded network and a clock that tests turn by hand.
//!
//! Protocol cores take the time and bytes as arguments; this crate supplies both. A [`Net`] joins nodes by links that
//! lose, delay, reorder, duplicate and cut what is sent over them, all drawn from one seed, so that a failing run can
//! be replayed exactly: [`for_each_seed`] prints the seed of a run that panicked and `SIMNET_SEED` runs it alone.
//!
//! The owner of the cores turns the crank:
//!
//! ```
//! use std::time::Duration;
//! use simnet::{Net, Profile, Step};
//!
//! let mut net: Net<Vec<u8>> = Net::new(7);
//! let (a, b) = (net.add_node(), net.add_node());
//! let wan = net.link(a, b, Profile::default().delay(Duration::from_millis(20)));
//! net.send(a, wan, b"ping".to_vec());
//! let deadline = net.now() + Duration::from_secs(1); // the earliest poll_timeout() of all cores
//! match net.advance(deadline) {
//!     Step::Arrived(arrival) => assert_eq!((arrival.node, &arrival.payload[..]), (b, &b"ping"[..])),
//!     Step::Deadline => unreachable!("the link loses nothing"),
//! }
//! assert_eq!(net.elapsed(), Duration::from_millis(20));
//! ```
//!
//! Nothing here sleeps: an hour of virtual time costs as much as the events in it.

mod link;
mod net;
mod seeds;

pub use link::{Counters, LinkId, Profile};
pub use net::{Arrival, Net, NodeId, Payload, Step};
pub use seeds::for_each_seed;
