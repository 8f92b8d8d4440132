//! Hears what others (an operator, another daemon, the kernel itself) do to our routes, objects and links.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use netlink_packet_core::{NLM_F_REPLACE, NetlinkMessage, NetlinkPayload};
use netlink_sys::Socket;
use rustix::net::sockopt::{self, Timeout};

use super::socket::{self, READ};
use crate::{
    backend::{BackendError, Event},
    wire::{self, DELETE_NEXTHOP, Message, ROUTE_PROTOCOL},
};

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_NEXTHOP: u32 = 32;

/// The listening socket. Meant for a thread of its own, which passes events on.
pub struct Monitor {
    socket: Socket,
    input: Vec<u8>,
}

impl Monitor {
    /// Listens to everything but what the socket with address `own_port` does.
    pub(super) fn open(own_port: u32) -> Result<Self, BackendError> {
        let (socket, _) = socket::open()?;
        // In the kernel, before the queue: a million routes of our own must not push out the one event that counts.
        sys::netlink::ignore_changes_by(&socket, own_port)?;
        for group in [RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_NEXTHOP] {
            socket.add_membership(group)?;
        }
        Ok(Self { socket, input: Vec::with_capacity(READ) })
    }

    /// Waits for events, but no longer than `patience`; none may come back.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn wait(&mut self, patience: Duration) -> Result<Vec<Event>, BackendError> {
        // Zero would mean for ever.
        let patience = patience.max(Duration::from_millis(1));
        sockopt::set_socket_timeout(&self.socket, Timeout::Recv, Some(patience)).map_err(std::io::Error::from)?;
        self.input.clear();
        match self.socket.recv(&mut self.input, 0) {
            Ok(_) => Ok(socket::messages(&self.input).filter_map(|message| event(message.ok()?)).collect()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN) => Ok(Vec::new()),
                Some(libc::ENOBUFS) => Ok(vec![Event::Overrun]),
                _ => Err(error.into()),
            },
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn event(message: NetlinkMessage<Message>) -> Option<Event> {
    let replaced = message.header.flags & NLM_F_REPLACE != 0;
    match message.payload {
        NetlinkPayload::InnerMessage(Message::Nexthop(kind, object)) if object.protocol == ROUTE_PROTOCOL => {
            let id = object.id?;
            Some(if kind == DELETE_NEXTHOP { Event::NexthopRemoved(id) } else { Event::NexthopChanged(id) })
        }
        NetlinkPayload::InnerMessage(Message::Route(_, route)) => match wire::parse_route(&route) {
            Some((prefix, _)) => Some(Event::RouteTouched(prefix)),
            // IPv4 reports a replacement by what came, not by what went.
            None if replaced => wire::foreign_route(&route).map(Event::RouteTouched),
            None => None,
        },
        NetlinkPayload::InnerMessage(Message::Link { ifindex, usable }) => Some(Event::Link { ifindex, up: usable }),
        _ => None,
    }
}
