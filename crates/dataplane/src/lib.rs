//! The packet path of IPsec tunnels behind one trait.
//!
//! [`Dataplane`] is what ipsecd drives: WAN links, tunnel interfaces, associations. [`Userspace`] implements it with ESP in
//! this process over TUN devices and UDP sockets; [`Datapaths`] has the kernel's IPsec beside it, and gives each tunnel to the
//! one that it is configured for.
//! Everything moves in batches on threads of its own; facts flow back through a [`Sink`], which must not block.
//!
//! What holds here: a packet without an association is dropped and counted, never sent in the clear; outer packets leave
//! by sockets bound to their WAN link and marked for its routing table, so that they cannot follow a route through a
//! tunnel; what comes out of a tunnel is checked against the association's traffic selectors.

mod api;
mod counters;
mod datapaths;
mod ecn;
mod inside;
pub mod keeper;
mod kernel;
#[doc(hidden)]
pub mod offload; // for the fuzz target alone
mod userspace;

pub use api::{
    Datapath, Dataplane, DataplaneError, Df, Direction, Dscp, Event, Gre, IkeDatagram, InboundStats, KernelInterface,
    Limit, Limits, NewInbound, NewOutbound, OutboundStats, PacketPolicy, Path, Sink, Stats, TunnelSpec, TunnelStats,
    WanSpec, WanStats,
};
pub use datapaths::Datapaths;
pub use kernel::Support;
pub use userspace::{KeeperDoor, Userspace};
