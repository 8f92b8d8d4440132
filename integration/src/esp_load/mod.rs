//! Load on a tunnel: one TCP stream, one UDP stream, and what carries them (ours, other people's, nothing at all).
//!
//! The generator is our own because it has to tell what the path did from what the load did. An unlimited UDP stream on a
//! machine that carries both ends loses most of itself in front of the path; a fixed rate measures the rate. So UDP is
//! sent with a window, as TCP is: so many packets may be on their way, which every queue of a path has room for. A packet
//! that is lost then was lost by the path, and the rate is what the path takes.

mod subject;
mod tcp;
mod udp;

pub use subject::{Carrier, EspPair};
pub use tcp::tcp_stream;
pub use udp::{UdpLoad, UdpOutcome, UdpShape};
