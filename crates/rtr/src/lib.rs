//! The RPKI to Router protocol, from the router's side (RFC 8210, with version 0 of RFC 6810), without I/O.
//!
//! [`Pdu`] is what goes over the wire; [`Client`] is what a router does about one cache: it takes octets and the time, and
//! gives octets to send, changes of payloads, and when to call again. A cache is a server like any other: what it sends
//! is bounded in size and number, and what contradicts itself ends the connection and not the daemon.

mod client;
mod pdu;

pub use client::{Client, Closed, Intervals, Output, Status};
pub use pdu::{ErrorCode, FrameError, Pdu, PduError, Version, frame_length};
