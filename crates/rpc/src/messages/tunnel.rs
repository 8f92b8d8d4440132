//! What ipsecd tells of its tunnels.

use std::net::IpAddr;

use net_types::{Prefix, TunnelName, WanName};

use super::{EmptyProto, addresses_from_text, addresses_to_text, missing};
use crate::wire::{Stream, Wire};

/// Asks for all tunnels, then for every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchTunnels;

/// One tunnel, or a mark in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelEvent {
    /// What a tunnel does now.
    Status(TunnelStatus),
    /// A tunnel is not configured any more.
    Removed(TunnelName),
    /// All that exists has been told; what follows are changes. What was not told since the stream began is gone.
    Synced,
}

/// What a tunnel does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelStatus {
    /// Which; also the name of its interface.
    pub tunnel: TunnelName,
    /// Index of its interface; 0 before that exists.
    pub ifindex: u32,
    /// The link it runs over.
    pub wan: WanName,
    /// What it does.
    pub state: TunnelState,
    /// Since when, in microseconds of Unix time.
    pub since_unix_us: u64,
    /// Counts changes of state: a reader that sees it jump knows that it missed something in between.
    pub generation: u64,
}

/// What a tunnel does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelState {
    /// Not yet up.
    Negotiating,
    /// Packets flow.
    Up {
        /// Largest inner packet.
        mtu: u32,
        /// Addresses of its interface.
        addresses: Vec<IpAddr>,
        /// What its child SA carries on the peer's side, as far as that is whole prefixes, sorted: at most
        /// [`MOST_SELECTORS`](TunnelState::MOST_SELECTORS). Empty from an ipsecd that does not tell it yet.
        selectors: Vec<Prefix>,
    },
    /// Packets do not flow.
    Down {
        /// Why, for people.
        cause: String,
    },
}

impl TunnelState {
    /// Most prefixes that are told of a tunnel.
    pub const MOST_SELECTORS: usize = 64;
}

/// [`TunnelEvent`] on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TunnelEventProto {
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
    tunnel: String,
    #[prost(uint32, tag = "2")]
    ifindex: u32,
    #[prost(string, tag = "3")]
    wan: String,
    #[prost(uint64, tag = "4")]
    since_unix_us: u64,
    #[prost(uint64, tag = "5")]
    generation: u64,
    #[prost(oneof = "StateProto", tags = "6, 7, 8")]
    state: Option<StateProto>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
enum StateProto {
    #[prost(message, tag = "6")]
    Negotiating(EmptyProto),
    #[prost(message, tag = "7")]
    Up(UpProto),
    #[prost(message, tag = "8")]
    Down(DownProto),
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct UpProto {
    #[prost(uint32, tag = "1")]
    mtu: u32,
    #[prost(string, repeated, tag = "2")]
    addresses: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    selectors: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct DownProto {
    #[prost(string, tag = "1")]
    cause: String,
}

impl Wire for WatchTunnels {
    type Proto = EmptyProto;
    fn to_proto(&self) -> EmptyProto {
        EmptyProto {}
    }
    fn from_proto(_: EmptyProto) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Stream for WatchTunnels {
    const METHOD: &'static str = "tunnels.watch";
    type Event = TunnelEvent;
}

impl Wire for TunnelEvent {
    type Proto = TunnelEventProto;

    fn to_proto(&self) -> TunnelEventProto {
        let kind = match self {
            Self::Status(status) => Kind::Status(status_to_proto(status)),
            Self::Removed(tunnel) => Kind::Removed(tunnel.to_string()),
            Self::Synced => Kind::Synced(EmptyProto {}),
        };
        TunnelEventProto { kind: Some(kind) }
    }

    fn from_proto(proto: TunnelEventProto) -> Result<Self, String> {
        Ok(match proto.kind.ok_or_else(|| missing("a tunnel event"))? {
            Kind::Status(status) => Self::Status(status_from_proto(status)?),
            Kind::Removed(tunnel) => Self::Removed(name(&tunnel)?),
            Kind::Synced(_) => Self::Synced,
        })
    }
}

fn status_to_proto(status: &TunnelStatus) -> StatusProto {
    let state = match &status.state {
        TunnelState::Negotiating => StateProto::Negotiating(EmptyProto {}),
        TunnelState::Up { mtu, addresses, selectors } => StateProto::Up(UpProto {
            mtu: *mtu,
            addresses: addresses_to_text(addresses),
            selectors: selectors.iter().map(ToString::to_string).collect(),
        }),
        TunnelState::Down { cause } => StateProto::Down(DownProto { cause: cause.clone() }),
    };
    StatusProto {
        tunnel: status.tunnel.to_string(),
        ifindex: status.ifindex,
        wan: status.wan.to_string(),
        since_unix_us: status.since_unix_us,
        generation: status.generation,
        state: Some(state),
    }
}

fn status_from_proto(proto: StatusProto) -> Result<TunnelStatus, String> {
    let state = match proto.state.ok_or_else(|| missing("the state of a tunnel"))? {
        StateProto::Negotiating(_) => TunnelState::Negotiating,
        StateProto::Up(up) => TunnelState::Up {
            mtu: up.mtu,
            addresses: addresses_from_text(&up.addresses)?,
            selectors: prefixes(&up.selectors)?,
        },
        StateProto::Down(down) => TunnelState::Down { cause: down.cause },
    };
    Ok(TunnelStatus {
        tunnel: name(&proto.tunnel)?,
        ifindex: proto.ifindex,
        wan: proto.wan.parse().map_err(|error| format!("wan: {error}"))?,
        state,
        since_unix_us: proto.since_unix_us,
        generation: proto.generation,
    })
}

fn prefixes(texts: &[String]) -> Result<Vec<Prefix>, String> {
    if texts.len() > TunnelState::MOST_SELECTORS {
        return Err(format!("{} selectors of a tunnel, at most {} are told", texts.len(), TunnelState::MOST_SELECTORS));
    }
    texts.iter().map(|text| text.parse().map_err(|error| format!("selector: {error}"))).collect()
}

fn name(text: &str) -> Result<TunnelName, String> {
    text.parse().map_err(|error| format!("tunnel: {error}"))
}
