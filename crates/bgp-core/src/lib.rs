//! A BGP speaker without I/O: sessions, routes, decisions and policy. No sockets, no clock, no randomness of its own.

pub mod adj_out;
pub mod decision;
mod peer_id;
pub mod policy;
pub mod rib;
pub mod session;
pub mod validation;

pub use peer_id::PeerId;
