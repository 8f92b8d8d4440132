//! The kernel's forwarding table, over rtnetlink.

mod compat;
mod dump;
mod monitor;
mod socket;

pub use compat::{CompatMode, disable_nexthop_compat_mode};
pub use monitor::Monitor;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};

use self::{
    dump::Dump,
    socket::{Request, RouteSocket},
};
use crate::{
    backend::{Backend, BackendError, Change, GroupMember, NexthopId, Refusal, Row},
    wire::{self, Message, NexthopMessage, OurRoute, ROUTE_PROTOCOL},
};

/// Most messages in one send: more of them gain nothing, and hold the kernel's route lock for longer.
const BATCH: usize = 256;

/// Writes the forwarding table of the network namespace in which it was opened.
pub struct Kernel {
    socket: RouteSocket,
    dump: Option<Dump>,
    requests: Vec<Request>,
}

impl Kernel {
    /// Opens the route socket.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn open() -> Result<Self, BackendError> {
        Ok(Self { socket: RouteSocket::open()?, dump: None, requests: Vec::with_capacity(BATCH) })
    }

    /// A watch on everything that others do to our routes and nexthop objects, and on links.
    ///
    /// # Errors
    /// When the kernel does not let us listen.
    pub fn monitor(&self) -> Result<Monitor, BackendError> {
        Monitor::open(self.socket.port())
    }

    fn request(change: &Change) -> Request {
        let put = NLM_F_CREATE | NLM_F_REPLACE;
        let ours =
            |id: NexthopId| NexthopMessage { id: Some(id), protocol: ROUTE_PROTOCOL, ..NexthopMessage::default() };
        let object = |flags, id, nexthop| {
            let message = NexthopMessage { kind: Some(nexthop), ..ours(id) };
            Request { flags, message: Message::Nexthop(wire::NEW_NEXTHOP, message) }
        };
        let group = |flags, id, members: &[GroupMember]| {
            let message = NexthopMessage { group: members.to_vec(), ..ours(id) };
            Request { flags, message: Message::Nexthop(wire::NEW_NEXTHOP, message) }
        };
        match change {
            Change::PutNexthop(id, nexthop) => object(put, *id, *nexthop),
            Change::ReplaceNexthop(id, nexthop) => object(NLM_F_REPLACE, *id, *nexthop),
            Change::PutGroup(id, members) => group(put, *id, members),
            Change::ReplaceGroup(id, members) => group(NLM_F_REPLACE, *id, members),
            Change::RemoveNexthop(id) => Request {
                flags: 0,
                message: Message::Nexthop(
                    wire::DELETE_NEXTHOP,
                    NexthopMessage { id: Some(*id), ..NexthopMessage::default() },
                ),
            },
            Change::PutRoute(prefix, target) => {
                let route = OurRoute { prefix: *prefix, target: Some(*target) };
                Request { flags: put, message: Message::OurRoute(wire::NEW_ROUTE, route) }
            }
            Change::RemoveRoute(prefix) => {
                let route = OurRoute { prefix: *prefix, target: None };
                Request { flags: 0, message: Message::OurRoute(wire::DELETE_ROUTE, route) }
            }
        }
    }
}

impl Backend for Kernel {
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Refusal>, BackendError> {
        let mut refusals = Vec::new();
        for (chunk, base) in changes.chunks(BATCH).zip((0..).step_by(BATCH)) {
            self.requests.clear();
            self.requests.extend(chunk.iter().map(Self::request));
            for refusal in self.socket.transact(&mut self.requests)? {
                if !is_already_so(chunk.get(refusal.index), refusal.errno) {
                    refusals.push(Refusal { index: base + refusal.index, ..refusal });
                }
            }
        }
        Ok(refusals)
    }

    fn start_dump(&mut self) -> Result<(), BackendError> {
        self.dump = Some(Dump::start()?);
        Ok(())
    }

    fn continue_dump(&mut self, rows: &mut Vec<Row>) -> Result<bool, BackendError> {
        let Some(dump) = &mut self.dump else { return Ok(false) };
        let more = dump.step(rows)?;
        if !more {
            self.dump = None;
        }
        Ok(more)
    }
}

/// Taking out what is not there is no failure: changes say what is to be.
fn is_already_so(change: Option<&Change>, errno: i32) -> bool {
    match change {
        Some(Change::RemoveNexthop(_)) => errno == libc::ENOENT,
        Some(Change::RemoveRoute(_)) => errno == libc::ESRCH,
        Some(
            Change::PutNexthop(..)
            | Change::ReplaceNexthop(..)
            | Change::PutGroup(..)
            | Change::ReplaceGroup(..)
            | Change::PutRoute(..),
        )
        | None => false,
    }
}
