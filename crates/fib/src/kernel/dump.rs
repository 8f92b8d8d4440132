//! Lists the table in steps short enough to serve a fault between any two of them.

use net_types::Family;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkPayload};
use netlink_sys::Socket;

use super::socket::{self, READ};
use crate::{
    backend::{BackendError, Row},
    wire::{self, Message, NexthopMessage, ROUTE_PROTOCOL},
};

/// Objects come first, so that a route never names one not seen yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Nexthops,
    Routes(Family),
}

impl Stage {
    fn next(self) -> Option<Self> {
        match self {
            Self::Nexthops => Some(Self::Routes(Family::Ipv4Unicast)),
            Self::Routes(Family::Ipv4Unicast) => Some(Self::Routes(Family::Ipv6Unicast)),
            Self::Routes(_) => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Nexthops => "nexthop objects",
            Self::Routes(Family::Ipv4Unicast) => "IPv4 routes",
            Self::Routes(_) => "IPv6 routes",
        }
    }

    fn query(self) -> Message {
        match self {
            Self::Nexthops => Message::Nexthop(wire::GET_NEXTHOP, NexthopMessage::default()),
            Self::Routes(family) => Message::Route(wire::GET_ROUTE, wire::route_query(family)),
        }
    }
}

/// A listing under way. It has a socket of its own: one given up half-way leaves nothing behind.
pub(super) struct Dump {
    socket: Socket,
    stage: Stage,
    input: Vec<u8>,
}

impl Dump {
    pub(super) fn start() -> Result<Self, BackendError> {
        let (socket, _) = socket::open()?;
        // The kernel then filters routes by protocol and table, and refuses what it would otherwise ignore.
        socket.set_netlink_get_strict_chk(true)?;
        let dump = Self { socket, stage: Stage::Nexthops, input: Vec::with_capacity(READ) };
        dump.ask()?;
        Ok(dump)
    }

    fn ask(&self) -> Result<(), BackendError> {
        let mut out = Vec::new();
        socket::encode(&mut out, self.stage.query(), NLM_F_REQUEST | NLM_F_DUMP, 1);
        self.socket.send(&out, 0)?;
        Ok(())
    }

    /// Reads one part. An interrupted listing (`NLM_F_DUMP_INTR`) is taken as it is: whoever compares it repairs by
    /// writing what should be there, which does no harm where it was there all the time.
    pub(super) fn step(&mut self, rows: &mut Vec<Row>) -> Result<bool, BackendError> {
        self.input.clear();
        if let Err(error) = self.socket.recv(&mut self.input, 0) {
            return match error.raw_os_error() {
                Some(libc::EINTR) => Ok(true),
                Some(libc::ENOBUFS) => Err(BackendError::Overrun),
                _ => Err(error.into()),
            };
        }
        let mut rest = &self.input[..];
        // Routes are by far the most, and lead the part that they are in.
        while let Some((body, later)) = socket::leading(rest, wire::NEW_ROUTE) {
            let route = wire::read_route(body).map_err(|error| BackendError::Malformed(error.to_string()))?;
            rows.extend(route.map(|(prefix, target)| Row::Route(prefix, target)));
            rest = later;
        }
        for message in socket::messages(rest) {
            let message = message?;
            match message.payload {
                NetlinkPayload::InnerMessage(Message::Nexthop(_, object)) if object.protocol == ROUTE_PROTOCOL => {
                    rows.extend(object.id.map(|id| match object.group.is_empty() {
                        true => Row::Nexthop(id, object.kind),
                        false => Row::Group(id, object.group),
                    }));
                }
                NetlinkPayload::InnerMessage(Message::Route(_, route)) => {
                    rows.extend(wire::parse_route(&route).map(|(prefix, target)| Row::Route(prefix, target)));
                }
                NetlinkPayload::Error(error) if error.raw_code() != 0 => {
                    let refusal = socket::refusal(0, &message.header, error.raw_code(), &error.header);
                    return Err(BackendError::Dump { table: self.stage.name(), refusal });
                }
                NetlinkPayload::Done(_) => {
                    let Some(next) = self.stage.next() else { return Ok(false) };
                    self.stage = next;
                    self.ask()?;
                    return Ok(true);
                }
                _ => {}
            }
        }
        Ok(true)
    }
}
