//! A BGP speaker without I/O: sessions, routes, decisions and policy. No sockets, no clock, no randomness of its own.

mod peer_id;
pub mod session;

pub use peer_id::PeerId;
