//! BMP messages, values to octets and back (RFC 7854; RFC 8671 for Adj-RIB-Out, RFC 9069 for Loc-RIB). No I/O.
//!
//! A monitored router only writes and a station only reads; both are here, since what one writes has to be what the
//! other reads, and labs need a station. BGP messages stay octets: they are `bgp-wire`'s.

mod message;
mod peer;
mod read;
mod stats;

pub use message::{DownReason, Information, Message, Termination};
pub use peer::{Peer, PeerType};
pub use read::{FrameError, ReadError, frame_length};
pub use stats::Stat;

/// The version of the protocol (RFC 7854 §4.1).
pub const VERSION: u8 = 3;
