//! What ipsecd tells of its WAN links.

use std::net::IpAddr;

use net_types::{IfName, WanName};

use super::{EmptyProto, addresses_from_text, addresses_to_text, missing};
use crate::wire::{Stream, Wire};

/// Asks for all WAN links, then for every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchWans;

/// One link, or a mark in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WanEvent {
    /// How a link is now.
    Status(WanStatus),
    /// A link is not configured any more.
    Removed(WanName),
    /// All that exists has been told; what follows are changes. What was not told since the stream began is gone.
    Synced,
}

/// How a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WanStatus {
    /// Which.
    pub wan: WanName,
    /// Its interface.
    pub interface: IfName,
    /// Index of that; 0 while it does not exist.
    pub ifindex: u32,
    /// How it is.
    pub state: WanState,
    /// Since when, in microseconds of Unix time.
    pub since_unix_us: u64,
    /// Counts changes of state.
    pub generation: u64,
}

/// How a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WanState {
    /// Usable.
    Up {
        /// Our addresses on it.
        addresses: Vec<IpAddr>,
    },
    /// Not usable.
    Down {
        /// Why, for people.
        cause: String,
    },
}

/// [`WanEvent`] on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WanEventProto {
    #[prost(oneof = "Kind", tags = "1, 2, 3")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Status(StatusProto),
    #[prost(string, tag = "2")]
    Removed(String),
    #[prost(message, tag = "3")]
    Synced(EmptyProto),
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct StatusProto {
    #[prost(string, tag = "1")]
    wan: String,
    #[prost(string, tag = "2")]
    interface: String,
    #[prost(uint32, tag = "3")]
    ifindex: u32,
    #[prost(uint64, tag = "4")]
    since_unix_us: u64,
    #[prost(uint64, tag = "5")]
    generation: u64,
    #[prost(oneof = "StateProto", tags = "6, 7")]
    state: Option<StateProto>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
enum StateProto {
    #[prost(message, tag = "6")]
    Up(UpProto),
    #[prost(message, tag = "7")]
    Down(DownProto),
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct UpProto {
    #[prost(string, repeated, tag = "1")]
    addresses: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct DownProto {
    #[prost(string, tag = "1")]
    cause: String,
}

impl Wire for WatchWans {
    type Proto = EmptyProto;
    fn to_proto(&self) -> EmptyProto {
        EmptyProto {}
    }
    fn from_proto(_: EmptyProto) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Stream for WatchWans {
    const METHOD: &'static str = "wans.watch";
    type Event = WanEvent;
}

impl Wire for WanEvent {
    type Proto = WanEventProto;

    fn to_proto(&self) -> WanEventProto {
        let kind = match self {
            Self::Status(status) => Kind::Status(status_to_proto(status)),
            Self::Removed(wan) => Kind::Removed(wan.to_string()),
            Self::Synced => Kind::Synced(EmptyProto {}),
        };
        WanEventProto { kind: Some(kind) }
    }

    fn from_proto(proto: WanEventProto) -> Result<Self, String> {
        Ok(match proto.kind.ok_or_else(|| missing("a WAN event"))? {
            Kind::Status(status) => Self::Status(status_from_proto(status)?),
            Kind::Removed(wan) => Self::Removed(name(&wan)?),
            Kind::Synced(_) => Self::Synced,
        })
    }
}

fn status_to_proto(status: &WanStatus) -> StatusProto {
    let state = match &status.state {
        WanState::Up { addresses } => StateProto::Up(UpProto { addresses: addresses_to_text(addresses) }),
        WanState::Down { cause } => StateProto::Down(DownProto { cause: cause.clone() }),
    };
    StatusProto {
        wan: status.wan.to_string(),
        interface: status.interface.to_string(),
        ifindex: status.ifindex,
        since_unix_us: status.since_unix_us,
        generation: status.generation,
        state: Some(state),
    }
}

fn status_from_proto(proto: StatusProto) -> Result<WanStatus, String> {
    let state = match proto.state.ok_or_else(|| missing("the state of a WAN link"))? {
        StateProto::Up(up) => WanState::Up { addresses: addresses_from_text(&up.addresses)? },
        StateProto::Down(down) => WanState::Down { cause: down.cause },
    };
    Ok(WanStatus {
        wan: name(&proto.wan)?,
        interface: proto.interface.parse().map_err(|error| format!("interface: {error}"))?,
        ifindex: proto.ifindex,
        state,
        since_unix_us: proto.since_unix_us,
        generation: proto.generation,
    })
}

fn name(text: &str) -> Result<WanName, String> {
    text.parse().map_err(|error| format!("wan: {error}"))
}
