//! What the daemons and the shell say to each other, over a Unix socket.
//!
//! prost messages in length-prefixed [frames](frame) under a ceiling; a [hello] settles the version; typed [calls and
//! streams](wire), streams under credit so that a slow reader bounds the writer's memory instead of filling it. Who may
//! connect is told by the kernel's word on the peer ([credentials]). A [`Board`] serves state: the whole of it
//! first, then changes, the newest value of each key alone, so that a slow subscriber loses nothing and blocks nobody.
//!
//! [`frame`], [`hello`] and the messages do no I/O; [`server`] and [`client`] are their tokio shells.

pub mod board;
pub mod client;
pub mod credentials;
pub mod envelope;
pub mod frame;
pub mod hello;
pub mod messages;
pub mod server;
pub mod wire;

pub use board::{Board, Change};
pub use client::{Client, ClientError, EventStream, Followed, Follower};
pub use messages::{
    Configure, Configured, Execute, Heard, TellSilent, Text, TunnelEvent, TunnelState, TunnelStatus, WanEvent,
    WanState, WanStatus, WatchTunnels, WatchWans,
};
pub use server::{Limits, Server, Service, Sink};
pub use wire::{Call, Code, Failure, Stream};

/// Name of bgpd's socket within the run-dir.
pub const BGPD_SOCKET: &str = "bgpd.sock";
/// Name of ipsecd's socket within the run-dir.
pub const IPSECD_SOCKET: &str = "ipsecd.sock";
