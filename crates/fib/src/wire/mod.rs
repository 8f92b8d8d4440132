//! The netlink messages of the forwarding table: routes by `netlink-packet-route`, nexthop objects and links by us.

mod nexthop;
mod our_route;
mod route;

pub use nexthop::NexthopMessage;
pub(crate) use our_route::OurRoute;
pub use route::{ROUTE_PROTOCOL, ROUTE_TABLE};
pub(crate) use route::{foreign_route, parse_route, read_route, route_query};

use netlink_packet_core::{
    DecodeError, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, Parseable,
};
use netlink_packet_route::route::RouteMessage;

/// `RTM_NEWLINK`
const NEW_LINK: u16 = 16;
/// `RTM_DELLINK`
const DELETE_LINK: u16 = 17;
/// `RTM_NEWROUTE`
pub(crate) const NEW_ROUTE: u16 = 24;
/// `RTM_DELROUTE`
pub(crate) const DELETE_ROUTE: u16 = 25;
/// `RTM_GETROUTE`
pub(crate) const GET_ROUTE: u16 = 26;
/// `RTM_NEWNEXTHOP`
pub(crate) const NEW_NEXTHOP: u16 = 104;
/// `RTM_DELNEXTHOP`
pub(crate) const DELETE_NEXTHOP: u16 = 105;
/// `RTM_GETNEXTHOP`
pub(crate) const GET_NEXTHOP: u16 = 106;

const IFF_UP: u32 = 1;
/// Carrier is present; a TUN device loses it with its last file descriptor.
const IFF_LOWER_UP: u32 = 1 << 16;

/// What the forwarding table says and is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A route, under one of the three route message types.
    Route(u16, RouteMessage),
    /// A route that we put or remove, under the type for that.
    OurRoute(u16, OurRoute),
    /// A nexthop object, under one of the three nexthop message types.
    Nexthop(u16, NexthopMessage),
    /// A link exists and is usable or not, or exists no more.
    Link { ifindex: u32, usable: bool },
    /// Anything else; skipped.
    Other(u16),
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        match self {
            Self::Route(kind, _) | Self::OurRoute(kind, _) | Self::Nexthop(kind, _) | Self::Other(kind) => *kind,
            Self::Link { .. } => NEW_LINK,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::Route(_, message) => message.buffer_len(),
            Self::OurRoute(_, route) => route.len(),
            Self::Nexthop(_, message) => message.buffer_len(),
            Self::Link { .. } | Self::Other(_) => 0,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Self::Route(_, message) => message.emit(buffer),
            Self::OurRoute(_, route) => route.emit(buffer),
            Self::Nexthop(_, message) => message.emit(buffer),
            Self::Link { .. } | Self::Other(_) => {}
        }
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, body: &[u8]) -> Result<Self, DecodeError> {
        Ok(match header.message_type {
            kind @ (NEW_ROUTE | DELETE_ROUTE) => Self::Route(kind, RouteMessage::parse(body)?),
            kind @ (NEW_NEXTHOP | DELETE_NEXTHOP) => Self::Nexthop(kind, NexthopMessage::parse(body)?),
            kind @ (NEW_LINK | DELETE_LINK) => parse_link(kind, body),
            kind => Self::Other(kind),
        })
    }
}

/// Reads the fixed part of a link message (`struct ifinfomsg`); its hundreds of attributes say nothing we need.
fn parse_link(kind: u16, body: &[u8]) -> Message {
    let word = |at: usize| body.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    match (body.first(), word(4), word(8)) {
        // Bridges report their ports under a family of their own; those say nothing about the link itself.
        (Some(0), Some(ifindex), Some(flags)) => {
            let usable = kind == NEW_LINK && flags & IFF_UP != 0 && flags & IFF_LOWER_UP != 0;
            Message::Link { ifindex, usable }
        }
        _ => Message::Other(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(family: u8, ifindex: u32, flags: u32) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        body.extend(ifindex.to_ne_bytes());
        body.extend(flags.to_ne_bytes());
        body.extend([0; 4]);
        body
    }

    #[test]
    fn a_link_is_usable_when_it_is_up_and_has_carrier() {
        let both = IFF_UP | IFF_LOWER_UP;
        assert_eq!(parse_link(NEW_LINK, &link(0, 3, both)), Message::Link { ifindex: 3, usable: true });
        assert_eq!(parse_link(NEW_LINK, &link(0, 3, IFF_UP)), Message::Link { ifindex: 3, usable: false });
        assert_eq!(parse_link(DELETE_LINK, &link(0, 3, both)), Message::Link { ifindex: 3, usable: false });
        assert_eq!(parse_link(NEW_LINK, &link(7, 3, 0)), Message::Other(NEW_LINK));
        assert_eq!(parse_link(NEW_LINK, &[0, 0, 0]), Message::Other(NEW_LINK));
    }
}
