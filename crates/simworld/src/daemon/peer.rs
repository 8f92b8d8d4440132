//! What a neighbor's task and the thread of BFD do: connections, datagrams, and whom the cores' outputs concern.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::PoisonError,
    time::{Instant, SystemTime},
};

use bfd::{Input as BfdInput, Output as BfdOutput};
use bgp_core::{
    rib::LocalAddresses,
    session::{ConnectionId, Direction, Input, Output},
};
use bgp_wire::{Message, Notification, frame_length, notification::CeaseCode};
use bgpd::{
    bfd_thread::{Change, Verdict},
    failover::Cause,
    fib_thread::Fault,
    peer::{Link, PeerEvent, PeerFault, RouteQueue, SessionUp},
};
use bytes::{Bytes, BytesMut};
use fib::Scope;
use net_types::Prefix;
use rand::Rng;
use tokio::sync::mpsc;

use super::{Command, Daemon, Heard, Outbox, PIECE, Task};
use crate::{
    packet::Packet,
    tcp::{Connection, Key, Segment},
    topology::ifindex,
};

impl Daemon {
    pub(super) fn expire(&mut self, now: Instant, at: usize, out: &mut Outbox) {
        if self.peers[at].bfd.poll_timeout().is_some_and(|due| due <= now) {
            self.bfd(now, at, BfdInput::Timeout, out);
        }
        if self.peers[at].session.poll_timeout().is_some_and(|due| due <= now) {
            self.input(now, at, Input::Timeout, out);
        }
        let peer = &mut self.peers[at];
        let mut lost = Vec::new();
        for (id, (connection, _)) in &mut peer.connections {
            let mut segments = Vec::new();
            if !connection.expire(now, &mut segments) {
                lost.push((*id, connection.open));
            }
            out.packets.extend(segments.into_iter().map(|segment| (peer.link, Packet::Tcp(connection.key, segment))));
        }
        for (id, open) in lost {
            self.forget(id, at);
            self.input(now, at, if open { Input::Lost(id) } else { Input::DialFailed }, out);
        }
        self.settle(now, at, out);
    }

    pub(super) fn forget(&mut self, id: ConnectionId, at: usize) {
        let peer = &mut self.peers[at];
        peer.connections.remove(&id);
        if let Some((_, queue)) = peer.routes.take_if(|(carries, _)| *carries == id) {
            queue.close();
        }
    }

    /// A packet came in by the link of the neighbor at this place.
    pub(crate) fn receive(&mut self, now: Instant, link: usize, packet: Packet, out: &mut Outbox) {
        let Some(at) = self.places.get(&link).copied() else { return };
        match packet {
            Packet::Bfd(octets) => {
                let packet = bfd::Packet::parse(&octets).expect("nothing is garbled on the way");
                let from = bfd::Peer { ifindex: ifindex(link), address: self.peers[at].spec.address };
                if self.demux.find(&from, &packet) == Some(at) {
                    self.bfd(now, at, BfdInput::Received(&packet), out);
                }
            }
            Packet::Tcp(key, segment) => self.segment(now, at, key, segment, out),
        }
        self.settle(now, at, out);
    }

    pub(super) fn segment(&mut self, now: Instant, at: usize, key: Key, segment: Segment, out: &mut Outbox) {
        let id = ConnectionId(key.0);
        let link = self.peers[at].link;
        let Some((connection, received)) = self.peers[at].connections.get_mut(&id) else {
            return self.first_segment(now, at, key, segment, out);
        };
        let was_open = connection.open;
        let mut segments = Vec::new();
        let heard = connection.hear(now, segment, &mut segments);
        let ended = heard.pieces.iter().any(Bytes::is_empty);
        heard.pieces.iter().for_each(|piece| received.extend_from_slice(piece));
        out.packets.extend(segments.into_iter().map(|segment| (link, Packet::Tcp(key, segment))));
        if heard.opened {
            self.input(now, at, Input::Connected(id, Direction::Outgoing), out);
        }
        if heard.progress {
            self.input(now, at, Input::Written(id), out);
        }
        self.read_frames(now, at, id, out);
        if heard.reset || ended {
            let closing = self.peers[at].connections.get(&id).is_some_and(|(connection, _)| connection.closing);
            self.forget(id, at);
            if !was_open && !heard.opened {
                self.input(now, at, Input::DialFailed, out);
            } else if !closing {
                self.input(now, at, Input::Lost(id), out);
            }
        }
    }

    /// A segment of a connection that is not known here, or not yet.
    fn first_segment(&mut self, now: Instant, at: usize, key: Key, segment: Segment, out: &mut Outbox) {
        let (id, peer) = (ConnectionId(key.0), &mut self.peers[at]);
        match segment {
            Segment::Open => {
                peer.connections.insert(id, (Connection::new(key, false, now), BytesMut::new()));
                out.packets.push((peer.link, Packet::Tcp(key, Segment::Accept)));
                self.input(now, at, Input::Connected(id, Direction::Incoming), out);
            }
            Segment::Accept | Segment::Piece(..) => out.packets.push((peer.link, Packet::Tcp(key, Segment::Reset))),
            Segment::Ack(_) | Segment::Reset => {}
        }
    }

    pub(super) fn read_frames(&mut self, now: Instant, at: usize, id: ConnectionId, out: &mut Outbox) {
        loop {
            let peer = &mut self.peers[at];
            let negotiated = peer.session.negotiated(id);
            let Some((connection, received)) = peer.connections.get_mut(&id) else { return };
            if connection.closing {
                return;
            }
            let length = match frame_length(received, negotiated.max_message_octets()) {
                Ok(Some(length)) if length <= received.len() => length,
                Ok(_) => return,
                Err(error) => panic!("our own messages are well-formed: {error}"),
            };
            let frame = received.split_to(length);
            let parsed = Message::parse(&frame, &negotiated);
            let parsed = parsed.unwrap_or_else(|error| panic!("our own messages are well-formed: {error}"));
            assert!(parsed.survived.is_empty(), "our own messages are well-formed: {:?}", parsed.survived);
            self.input(now, at, Input::Received(id, parsed.message), out);
        }
    }

    pub(super) fn bfd(&mut self, now: Instant, at: usize, input: BfdInput<'_>, out: &mut Outbox) {
        for output in self.peers[at].bfd.handle_input(now, input, &mut self.random) {
            let peer = &self.peers[at];
            match output {
                BfdOutput::SendEcho(_) => {} // no session here asks for it
                BfdOutput::Send(octets) => out.packets.push((peer.link, Packet::Bfd(octets))),
                BfdOutput::Changed { from, to, cause } => {
                    let far = bfd::Peer { ifindex: ifindex(peer.link), address: peer.spec.address };
                    let independent = peer.bfd.remote_is_independent();
                    let (neighbor, interface) = (Some(peer.spec.id), None);
                    let change = Change { neighbor, peer: far, interface, from, to, cause, independent, at: now };
                    self.bfd_changed(now, at, &change, out);
                }
            }
        }
    }

    pub(super) fn bfd_changed(&mut self, now: Instant, at: usize, change: &Change, out: &mut Outbox) {
        let peer = &self.peers[at];
        let Some(verdict) = change.verdict() else { return };
        let words = vec![(Scope::Monitored(peer.spec.id.0), verdict.state())];
        match verdict {
            Verdict::Up => {
                self.orders.words(words);
                self.input(now, at, Input::PathUp, out);
            }
            Verdict::Lost => {
                let commands = self.commands.clone();
                let then = move || commands.send((at, Command::BfdLost)).unwrap_or_default();
                let fault = Fault::at(now, Cause::BfdDown, change.cause.to_string(), words).peer(peer.spec.address);
                self.orders.fault(fault.over(peer.interface()).then(then));
            }
            Verdict::Waived => self.orders.words(words),
        }
        self.poke(now);
    }

    pub(super) fn input(&mut self, now: Instant, at: usize, input: Input, out: &mut Outbox) {
        for output in self.peers[at].session.handle_input(now, input) {
            self.perform(now, at, output, out);
        }
    }

    /// As a neighbor's task does it.
    pub(super) fn perform(&mut self, now: Instant, at: usize, output: Output, out: &mut Outbox) {
        let id = self.peers[at].spec.id;
        match output {
            Output::AttemptFailed(_) | Output::PhaseChanged { .. } => return,
            Output::Dial => {
                let key = Key(self.random.random());
                let mut connection = Connection::new(key, true, now);
                let mut segments = Vec::new();
                connection.begin(now, &mut segments);
                let peer = &mut self.peers[at];
                out.packets.extend(segments.into_iter().map(|segment| (peer.link, Packet::Tcp(key, segment))));
                peer.connections.insert(ConnectionId(key.0), (connection, BytesMut::new()));
                return;
            }
            Output::CancelDial => return self.peers[at].connections.retain(|_, (connection, _)| connection.open),
            Output::Send(connection, message) => {
                if let Some((connection, _)) = self.peers[at].connections.get_mut(&connection) {
                    connection.write(message.to_bytes());
                }
                return;
            }
            Output::HangUp(connection) => {
                if let Some((connection, _)) = self.peers[at].connections.get_mut(&connection) {
                    connection.close();
                }
                if let Some((_, queue)) = self.peers[at].routes.take_if(|(carries, _)| *carries == connection) {
                    queue.close();
                }
                return;
            }
            Output::Up(connection, terms) => {
                assert!(terms.restart.is_some(), "every router marks the end of its routes");
                let queue = RouteQueue::new();
                let peer = &mut self.peers[at];
                peer.routes = Some((connection, queue.clone()));
                self.up.lock().unwrap_or_else(PoisonError::into_inner).insert(id, peer.spec.address);
                self.orders.returning(id);
                out.heard.push((at, Heard::Session));
                let v4 = match peer.local {
                    IpAddr::V4(v4) => Some(v4),
                    IpAddr::V6(_) => None,
                };
                let subnet = Prefix::new(peer.local, 30).ok();
                let link = Link {
                    addresses: LocalAddresses { v4, ..LocalAddresses::default() },
                    ifindex: ifindex(peer.link),
                    subnets: subnet.into_iter().collect(),
                };
                let (local, remote) = (SocketAddr::new(peer.local, 179), SocketAddr::new(peer.spec.address, 179));
                let up = SessionUp { peer: id, terms: *terms, local, remote, link, queue, at: now };
                peer.pending.push_back(PeerEvent::Up(Box::new(up)));
            }
            Output::Routes(update) => {
                out.heard.push((at, Heard::Update(Box::new(update.clone()))));
                self.peers[at].pending.push_back(PeerEvent::Routes { peer: id, updates: vec![update] });
            }
            Output::Refresh(refresh) => {
                self.peers[at].pending.push_back(PeerEvent::Refresh { peer: id, refresh });
            }
            Output::Down(reason, retain) => {
                let retained = retain.is_some();
                let fault =
                    PeerFault { peer: id, reason: reason.clone(), retained, at: now, wall: SystemTime::UNIX_EPOCH };
                let report = Fault::at(now, Cause::SessionClosed, reason.to_string(), vec![fault.word()]);
                self.orders.fault(report.peer(self.peers[at].spec.address).over(self.peers[at].interface()));
                self.up.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                self.peers[at].pending.push_back(PeerEvent::Down { peer: id, reason, retain, at: now });
            }
        }
        self.poke(now);
    }

    /// What a neighbor's task does after each step: hands over what waits, writes, and says when it is due again.
    pub(super) fn settle(&mut self, now: Instant, at: usize, out: &mut Outbox) {
        let peer = &mut self.peers[at];
        let mut told = false;
        while let Some(event) = peer.pending.pop_front() {
            match peer.events.try_send(event) {
                Ok(()) => told = true,
                Err(mpsc::error::TrySendError::Full(event)) => {
                    peer.pending.push_front(event);
                    told = true;
                    break;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => panic!("the table lives as long as the daemon"),
            }
        }
        if let Some((id, queue)) = &peer.routes
            && let Some((connection, _)) = peer.connections.get_mut(id)
        {
            let mut chunks = VecDeque::new();
            while connection.has_room() && !queue.is_empty() {
                if queue.drain(PIECE, &mut chunks) {
                    peer.pending.push_back(PeerEvent::Writable { peer: peer.spec.id });
                    told = true;
                }
                chunks.drain(..).for_each(|chunk| connection.write(chunk.octets));
            }
        }
        let mut done = Vec::new();
        for (id, (connection, _)) in &mut peer.connections {
            let mut segments = Vec::new();
            connection.pump(now, &mut segments);
            out.packets.extend(segments.into_iter().map(|segment| (peer.link, Packet::Tcp(connection.key, segment))));
            if connection.closing && connection.is_drained() {
                done.push(*id);
            }
        }
        done.iter().for_each(|id| drop(peer.connections.remove(id)));
        let connections = peer.connections.values().filter_map(|(connection, _)| connection.timeout());
        let deadlines = connections.chain(peer.session.poll_timeout()).chain(peer.bfd.poll_timeout());
        let due = deadlines.min().map(|due| due.max(now));
        if due != peer.due {
            if let Some(known) = peer.due {
                self.agenda.remove(&(known, Task::Peer(at)));
            }
            peer.due = due;
            self.agenda.extend(due.map(|due| (due, Task::Peer(at))));
        }
        if told {
            self.busy[1] = true;
            let soon = self.soon(now);
            self.schedule_rib(soon);
        }
    }

    /// Ends a session that an operator resets.
    pub(crate) fn reset(&mut self, now: Instant, at: usize, out: &mut Outbox) {
        if at < self.peers.len() {
            self.input(now, at, Input::Reset(Notification::cease(CeaseCode::AdministrativeReset)), out);
            self.input(now, at, Input::Start, out);
            self.settle(now, at, out);
        }
    }
}
