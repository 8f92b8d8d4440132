//! Bidirectional Forwarding Detection (RFC 5880) over one hop (RFC 5881) or several (RFC 5883), without I/O.
//!
//! A [`Session`] takes packets and timeouts and gives back packets and state changes; the owner has the sockets, the
//! clock and the random numbers. Which session a packet belongs to, [`Demux`] knows.
//!
//! The owner of the sockets checks what only the IP header tells: packets come with TTL 255 (RFC 5881 §5), and leave
//! with TTL 255 from a source port of 49152 or above (§4) to port [`PORT`].
//!
//! Echo packets (RFC 5880 §6.4) are sent where that is asked for; those of a peer are reflected by whatever forwards packets.
//! Intervals follow the jitter of the path where that is asked for.
//!
//! Left out on purpose: asking for demand mode (a peer that asks is obeyed), and authentication (a packet that carries it is discarded, as RFC 5880 §6.8.6 has it for a session without).

mod adapt;
mod demux;
mod echo;
mod packet;
mod session;

pub use demux::{Demux, Peer};
pub use echo::{ECHO_LEN, ECHO_PORT, EchoPacket, RoundTrip};
pub use packet::{Diagnostic, PACKET_LEN, Packet, PacketError, State};
pub use session::{Cause, Config, Input, Output, Session, Statistics};

/// UDP destination port of single-hop control packets (RFC 5881 §4).
pub const PORT: u16 = 3784;

/// UDP destination port of control packets over several hops (RFC 5883 §5).
pub const MULTIHOP_PORT: u16 = 4784;
