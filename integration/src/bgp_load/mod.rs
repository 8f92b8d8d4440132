//! The load of the BGP benchmarks: made-up tables, and speakers that are faster than whoever is measured.
//!
//! A [`Table`] is rendered to octets before the clock starts, and a [`Speaker`] counts what it is told with one bit a
//! prefix. Both write and read octets of their own rather than use `bgp-wire`, as the [feeder](crate::feeder) does: a
//! measurement that shared our codec would share its mistakes. [`ceiling`] tells what the two reach between themselves.

mod presence;
mod speaker;
mod subject;
mod table;

pub use presence::Presence;
pub use speaker::{Plan, Speaker, ceiling};
pub use subject::{Answers, Asker, Kind, Listing, Memory, Neighbor, Setting, Subject, listing};
pub use table::{Origin, Route, Table};
