//! The loop of one neighbor: sockets, timers and commands in, state machine, routes and words out.
//!
//! Whatever the task owes the routing table waits in its [`Outbox`]; while there is much of it, nothing more is read.
//! Everything else goes on, so a slow routing table costs no session.

use std::{
    future::{Future, poll_fn},
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Instant, SystemTime},
};

use bgp_core::session::{
    ConnectionId, Direction, DownReason, Input, Outgoing, Output, Phase, RemoteAs, Session, Terms,
};
use bgp_wire::{Message, Notification, Parsed, PrefixFilters, RouteRefresh, Survived, notification::CeaseCode};
use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};
use telemetry::LogLimit;
use tokio::{net::TcpStream, sync::mpsc, time::sleep_until};

use super::{
    Filters, PeerCommand, PeerEnds, PeerEvent, PeerFault, PeerHost, PeerSpec, RouteQueue, SessionUp,
    connection::{Connection, Ready},
    outbox::{Outbox, ROOM},
    socket,
    status::Shared,
};

/// Connections at once: one each way, a newcomer, and those that are closing.
const CONNECTIONS: usize = 8;
/// Log lines about mistakes that a neighbor may cause.
const MISTAKES: (u32, std::time::Duration) = (10, std::time::Duration::from_secs(60));

type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// What woke the loop.
enum Wake {
    Deadline,
    Command(Option<PeerCommand>),
    Dialed(io::Result<TcpStream>),
    /// The routing table takes another event, or is gone.
    Sink(bool),
    Ready(ConnectionId, Ready),
    Routes,
}

/// One neighbor's task.
pub(super) struct Task<E, H> {
    spec: PeerSpec,
    session: Session,
    host: Arc<H>,
    events: mpsc::Sender<E>,
    commands: mpsc::Receiver<PeerCommand>,
    status: Arc<Shared>,
    connections: Vec<Connection>,
    next_connection: u64,
    dial: Option<Dial>,
    outbox: Outbox,
    /// The task ends once everything is said.
    leaving: bool,
    /// BFD sees the neighbor.
    bfd_up: bool,
    /// A connection has a key of TCP-AO that is to go once the neighbor does not use it.
    old_keys: bool,
    /// Attempts to connect since the last session: each begins with another key of TCP-AO.
    attempts: usize,
    mistakes: LogLimit,
    failures: LogLimit,
}

impl<E, H> Task<E, H>
where
    E: From<PeerEvent> + Send + 'static,
    H: PeerHost,
{
    pub(super) fn new(
        spec: PeerSpec,
        host: H,
        events: mpsc::Sender<E>,
        commands: mpsc::Receiver<PeerCommand>,
        status: Arc<Shared>,
    ) -> Self {
        let session = Session::new(spec.session.clone(), Box::new(StdRng::from_os_rng()));
        Self {
            spec,
            session,
            host: Arc::new(host),
            events,
            commands,
            status,
            connections: Vec::new(),
            next_connection: 0,
            dial: None,
            outbox: Outbox::default(),
            leaving: false,
            bfd_up: false,
            old_keys: false,
            attempts: 0,
            mistakes: LogLimit::new(MISTAKES.0, MISTAKES.1),
            failures: LogLimit::new(MISTAKES.0, MISTAKES.1),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.tidy();
            if self.leaving && self.connections.is_empty() && self.outbox.is_empty() {
                return;
            }
            match self.wait().await {
                Wake::Deadline => self.expire(),
                Wake::Command(Some(command)) => self.command(command),
                // Whoever held the handle is gone, and so is the daemon.
                Wake::Command(None) => self.leave(Input::Stop(Notification::cease(CeaseCode::AdministrativeShutdown))),
                Wake::Dialed(result) => self.dialed(result),
                Wake::Sink(true) => {}
                Wake::Sink(false) => {
                    self.outbox.clear();
                    self.leave(Input::Stop(Notification::cease(CeaseCode::OutOfResources)));
                }
                Wake::Ready(id, ready) => self.ready(id, ready),
                Wake::Routes => {}
            }
            self.read_frames();
            self.write();
        }
    }

    /// Whether a whole message that has arrived was not looked at yet.
    fn has_unread(&self) -> bool {
        self.connections.iter().any(|connection| {
            connection.is_open() && connection.has_frame(self.session.negotiated(connection.id).max_message_octets())
        })
    }

    /// When time alone brings something about.
    fn deadline(&self) -> Option<Instant> {
        let closing = self.connections.iter().filter_map(Connection::deadline);
        self.session.poll_timeout().into_iter().chain(closing).min()
    }

    /// Waits for the next thing to do. Dropping what did not happen loses nothing.
    async fn wait(&mut self) -> Wake {
        // Events for the routing table first, as long as it takes them at once.
        while !self.outbox.is_empty() {
            match self.events.try_reserve() {
                Ok(permit) => {
                    if let Some(event) = self.outbox.pop() {
                        permit.send(event.into());
                    }
                }
                Err(mpsc::error::TrySendError::Full(())) => break,
                Err(mpsc::error::TrySendError::Closed(())) => return Wake::Sink(false),
            }
        }
        let deadline = self.deadline();
        let may_read = self.outbox.has_room();
        // Messages that were left unread while the events waited: the socket has nothing more to say about them.
        if may_read && self.has_unread() {
            return Wake::Sink(true);
        }
        let Self { connections, commands, dial, events, outbox, leaving, .. } = self;
        let queue = connections.iter().find_map(|connection| connection.routes().cloned());
        tokio::select! {
            biased; // a neighbor that floods us does not starve its own timers
            () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => Wake::Deadline,
            command = commands.recv(), if !*leaving => Wake::Command(command),
            result = poll_fn(|context| match dial {
                Some(dial) => dial.as_mut().poll(context),
                None => Poll::Pending,
            }) => Wake::Dialed(result),
            permit = events.reserve(), if !outbox.is_empty() => match permit {
                Ok(permit) => {
                    if let Some(event) = outbox.pop() {
                        permit.send(event.into());
                    }
                    Wake::Sink(true)
                }
                Err(_) => Wake::Sink(false),
            },
            (id, ready) = poll_fn(|context| {
                let ready = connections.iter().find_map(|connection| {
                    match connection.poll_ready(context, may_read) {
                        Poll::Ready(ready) => Some((connection.id, ready)),
                        Poll::Pending => None,
                    }
                });
                ready.map_or(Poll::Pending, Poll::Ready)
            }) => Wake::Ready(id, ready),
            () = async {
                match &queue {
                    Some(queue) => queue.filled().await,
                    None => std::future::pending().await,
                }
            } => Wake::Routes,
        }
    }

    /// Drops connections that are closed, and shows how much waits.
    fn tidy(&mut self) {
        let now = Instant::now();
        self.connections.retain_mut(|connection| !connection.is_done(now));
        let outgoing = self.connections.iter().map(Connection::backlog).sum();
        self.status.queued(self.outbox.len(), outgoing);
    }

    fn expire(&mut self) {
        // Messages that have arrived and that we have not come to look at are signs of life.
        let unread = self.connections.iter().find(|connection| {
            connection.is_open() && connection.has_frame(self.session.negotiated(connection.id).max_message_octets())
        });
        if let Some(id) = unread.map(|connection| connection.id) {
            self.input(Input::Backlog(id));
        }
        self.input(Input::Timeout);
    }

    fn command(&mut self, command: PeerCommand) {
        match command {
            PeerCommand::Start if self.is_wanted() => self.input(Input::Start),
            PeerCommand::Start => {}
            PeerCommand::Stop(notification) => self.input(Input::Stop(notification)),
            PeerCommand::Reset(notification) => self.input(Input::Reset(notification)),
            PeerCommand::BfdUp => {
                self.bfd_up = true;
                if self.spec.bfd.strict && self.is_wanted() {
                    self.input(Input::Start);
                }
                self.input(Input::PathUp);
            }
            PeerCommand::BfdLost { independent } => self.bfd_lost(independent),
            PeerCommand::PathLost => self.input(Input::PathLost),
            PeerCommand::PathUp => self.input(Input::PathUp),
            PeerCommand::Reconfigure(spec) => self.reconfigure(*spec),
            PeerCommand::RequestRoutes(family) => self.request_routes(family),
            PeerCommand::Accepted(stream) => self.connected(stream, Direction::Incoming),
            PeerCommand::Remove(notification) => self.leave(Input::Stop(notification)),
            PeerCommand::Leave => self.leave(Input::Leave),
        }
    }

    /// Whether there is to be a session now.
    fn is_wanted(&self) -> bool {
        self.spec.shutdown.is_none() && (self.bfd_up || !self.spec.bfd.strict)
    }

    fn bfd_lost(&mut self, independent: bool) {
        self.bfd_up = false;
        let restart = self.session.terms().and_then(|terms| terms.restart.as_ref());
        let survives = restart.is_some_and(|restart| !restart.families.is_empty());
        // RFC 5882 §4.3: the silence of a neighbor whose BFD shares the fate of its control plane may be a restart.
        if self.spec.bfd.check_control_plane && !independent && survives {
            tracing::info!(
                neighbor = %self.spec.address,
                "BFD lost the neighbor, which may be restarting: its session is left to the hold timer"
            );
            return;
        }
        if self.spec.bfd.strict { self.wait_for_bfd() } else { self.input(Input::BfdDown) }
    }

    /// Ends the session, and has no other before BFD sees the neighbor.
    fn wait_for_bfd(&mut self) {
        self.input(Input::BfdDown);
        self.input(Input::Stop(Notification::cease(CeaseCode::BfdDown)));
    }

    fn reconfigure(&mut self, spec: PeerSpec) {
        let was_wanted = self.is_wanted();
        let old = std::mem::replace(&mut self.spec, spec);
        self.session.reconfigure(self.spec.session.clone());
        self.status.reconfigured(&self.spec);
        match (&old.shutdown, &self.spec.shutdown) {
            (None, Some(notification)) => self.input(Input::Stop(notification.clone())),
            (Some(_), None) if self.is_wanted() => self.input(Input::Start),
            // `bfd strict` was said of a neighbor that BFD does not see.
            (None, None) if was_wanted && !self.is_wanted() => self.wait_for_bfd(),
            // `bfd strict` was taken back before BFD saw the neighbor.
            (None, None) if !was_wanted && self.is_wanted() => self.input(Input::Start),
            (Some(_), None) => {}
            (Some(_), Some(_)) => {}
            (None, None) if old.needs_reset(&self.spec) => {
                self.input(Input::Reset(Notification::cease(CeaseCode::OtherConfigurationChange)));
            }
            (None, None) => {
                self.settle_keys();
                self.send_filters(&old.filters);
            }
        }
    }

    /// Tells the neighbor what to keep back, in families where that is something else than it `knows`.
    fn send_filters(&mut self, knows: &Filters) {
        let Some(terms) = self.session.terms() else { return };
        let (families, max) = (terms.filters_out, terms.negotiated.max_message_octets());
        let Some(connection) = self.connections.iter_mut().find(|one| one.routes().is_some()) else { return };
        for family in families.iter() {
            let Some(lines) = self.spec.filters.get(&family).filter(|lines| knows.get(&family) != Some(lines)) else {
                continue;
            };
            let messages = PrefixFilters::messages(family, lines, knows.contains_key(&family), max);
            messages.into_iter().for_each(|message| connection.send(message));
        }
    }

    /// Brings the keys of connections to what is configured: at once what can be, the rest as the neighbor follows.
    fn settle_keys(&mut self) {
        self.old_keys = false;
        let Some(ao) = &self.spec.transport.ao else { return };
        for connection in self.connections.iter().filter(|connection| connection.is_open()) {
            match connection.settle_keys(ao, self.spec.address) {
                Ok(settled) => self.old_keys |= !settled,
                Err(error) => tracing::warn!(
                    neighbor = %self.spec.address, chain = %ao.chain, %error,
                    "the keys of TCP-AO of a connection cannot be changed; it goes on with those that it has"
                ),
            }
        }
    }

    fn request_routes(&mut self, family: net_types::Family) {
        let terms = self.session.terms();
        let may = terms.is_some_and(|terms| terms.route_refresh && terms.negotiated.families.contains(family));
        match self.connections.iter_mut().find(|connection| connection.routes().is_some()) {
            Some(connection) if may => connection.send(RouteRefresh::request(family).to_bytes()),
            _ => tracing::info!(
                neighbor = %self.spec.address, %family,
                "routes are not requested: the session is not established, or the neighbor does not speak route refresh"
            ),
        }
    }

    /// Ends the session, and the task when that is done.
    fn leave(&mut self, how: Input) {
        self.leaving = true;
        self.commands.close();
        self.input(how);
    }

    fn dialed(&mut self, result: io::Result<TcpStream>) {
        self.dial = None;
        match result {
            Ok(stream) => self.connected(stream, Direction::Outgoing),
            Err(error) => {
                tracing::debug!(neighbor = %self.spec.address, %error, "cannot connect");
                self.input(Input::DialFailed);
            }
        }
    }

    fn connected(&mut self, stream: TcpStream, direction: Direction) {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let room = self.connections.len() < CONNECTIONS;
        match Connection::new(id, stream) {
            Ok(connection) if room => {
                tracing::debug!(
                    neighbor = %self.spec.address, local = %connection.local, remote = %connection.remote, ?direction,
                    "connected"
                );
                self.connections.push(connection);
                self.settle_keys();
                self.input(Input::Connected(id, direction));
            }
            // The neighbor connects faster than connections close; or this one is closed again already.
            Ok(_) | Err(_) if direction == Direction::Incoming => {}
            Ok(_) | Err(_) => self.input(Input::DialFailed),
        }
    }

    fn ready(&mut self, id: ConnectionId, ready: Ready) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return };
        // What is ready for writing is written after every step.
        if ready.read {
            match connection.read() {
                Ok(true) if self.old_keys => self.settle_keys(), // it may have brought a new key into use
                Ok(true) => {}
                Ok(false) => self.lost(id, None),
                Err(error) => self.lost(id, Some(error)),
            }
        }
    }

    /// The stream has ended. What had arrived before is looked at first: it may say why.
    fn lost(&mut self, id: ConnectionId, error: Option<io::Error>) {
        self.read_frames_of(id, usize::MAX);
        if let Some(error) = error {
            tracing::debug!(neighbor = %self.spec.address, %error, "connection lost");
        }
        self.input(Input::Lost(id));
        // The state machine may not have known it; then nobody else closes it.
        self.hang_up(id);
    }

    fn hang_up(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            connection.hang_up(Instant::now());
        }
    }

    /// Looks at what was read, as far as the routing table leaves room.
    fn read_frames(&mut self) {
        let ids: Vec<_> = self.connections.iter().map(|connection| connection.id).collect();
        for id in ids {
            self.read_frames_of(id, ROOM);
        }
        self.connections.iter_mut().for_each(Connection::settle);
    }

    fn read_frames_of(&mut self, id: ConnectionId, most: usize) {
        while self.outbox.len() < most {
            let negotiated = self.session.negotiated(id);
            let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return };
            if !connection.is_open() {
                return;
            }
            let parsed = match connection.frame(negotiated.max_message_octets()) {
                Ok(Some(frame)) => {
                    let (octets, parsed) = (frame.len(), Message::parse(frame, &negotiated));
                    if self.host.wants_messages() {
                        let (local, message) = (connection.local.ip(), Bytes::copy_from_slice(frame));
                        let ends = ends(&self.spec, &self.session, Some(local));
                        self.host.received(&ends, negotiated.four_octet_as, message);
                    }
                    connection.passed(octets);
                    parsed
                }
                Ok(None) => return,
                Err(error) => Err(error.into()),
            };
            match parsed {
                Ok(Parsed { message, survived }) => {
                    self.status.received(message.kind());
                    self.mistakes(&survived);
                    self.input(Input::Received(id, message));
                }
                Err(error) => self.input(Input::Malformed(id, error)),
            }
        }
    }

    fn mistakes(&self, survived: &[Survived]) {
        if survived.is_empty() {
            return;
        }
        self.status.survived(survived.len());
        for Survived { error, remedy } in survived {
            if let Some(left_out) = self.mistakes.admit(Instant::now()) {
                tracing::warn!(
                    neighbor = %self.spec.address, %error, ?remedy, left_out,
                    "malformed UPDATE survived; the neighbor's operator should know"
                );
            }
        }
    }

    fn write(&mut self) {
        let mut failed = Vec::new();
        let mut progress = Vec::new();
        for connection in &mut self.connections {
            match connection.write(&self.status) {
                Ok(written) => {
                    if written.progress && connection.routes().is_some() {
                        progress.push(connection.id);
                    }
                    if written.room_again {
                        self.outbox.push(PeerEvent::Writable { peer: self.spec.id });
                    }
                }
                Err(error) => failed.push((connection.id, error)),
            }
        }
        for id in progress {
            self.input(Input::Written(id));
        }
        for (id, error) in failed {
            self.lost(id, Some(error));
        }
    }

    /// Runs the state machine, and does what it says.
    fn input(&mut self, input: Input) {
        for output in self.session.handle_input(Instant::now(), input) {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        let peer = self.spec.id;
        match output {
            Output::Dial => {
                let (spec, host) = (self.spec.clone(), Arc::clone(&self.host));
                let attempt = self.attempts;
                self.attempts = attempt.wrapping_add(1);
                self.dial = Some(Box::pin(async move { socket::dial(&spec, &host, attempt).await }));
            }
            Output::CancelDial => self.dial = None,
            Output::Send(id, message) => self.send(id, &message),
            Output::HangUp(id) => self.hang_up(id),
            Output::Up(id, terms) => self.up(id, *terms),
            Output::Routes(update) => self.outbox.push_routes(peer, update),
            Output::Refresh(refresh) => self.outbox.push(PeerEvent::Refresh { peer, refresh }),
            Output::Down(reason, retain) => {
                let at = Instant::now();
                // First of all: traffic moves before anything is told or written.
                let (retained, wall) = (retain.is_some(), SystemTime::now());
                self.host.faulted(&PeerFault { peer, reason: reason.clone(), retained, at, wall });
                tracing::warn!(neighbor = %self.spec.address, cause = %reason, "session lost");
                self.status.down(&reason);
                self.host.ended(peer, retain.map(|retain| retain.longest()));
                self.outbox.push(PeerEvent::Down { peer, reason, retain, at });
            }
            Output::AttemptFailed(reason) => {
                self.attempt_failed(reason);
                self.host.ended(peer, None);
            }
            Output::PhaseChanged { from, to } => {
                self.status.entered(to);
                let local = self.connections.first().map(|connection| connection.local.ip());
                self.host.changed(&ends(&self.spec, &self.session, local), from, to);
                if to == Phase::Established || from == Phase::Established {
                    tracing::info!(neighbor = %self.spec.address, %from, %to, "session changed state");
                } else {
                    tracing::debug!(neighbor = %self.spec.address, %from, %to, "session changed state");
                }
            }
        }
    }

    fn attempt_failed(&self, reason: DownReason) {
        if let Some(left_out) = self.failures.admit(Instant::now()) {
            tracing::info!(neighbor = %self.spec.address, cause = %reason, left_out, "no session");
        }
        self.status.attempt_failed(&reason);
    }

    fn send(&mut self, id: ConnectionId, message: &Outgoing) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            connection.send(message.to_bytes());
        }
    }

    fn up(&mut self, id: ConnectionId, terms: Terms) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return };
        self.attempts = 0;
        let queue = RouteQueue::new();
        connection.carry_routes(queue.clone());
        let (local, remote) = (connection.local, connection.remote);
        self.status.up(&terms, local, remote, connection.max_segment_octets(), connection.socket());
        self.host.established(self.spec.id, terms.restart.is_some());
        let link = self.host.link(local, remote).with(local.ip());
        // Where there is nothing to keep back the neighbor waits for that word, too (RFC 5291 §6).
        self.send_filters(&Filters::new());
        let up = SessionUp { peer: self.spec.id, terms, local, remote, link, queue, at: Instant::now() };
        self.outbox.push(PeerEvent::Up(Box::new(up)));
    }
}

/// Both ends of the session, as far as they are known.
fn ends(spec: &PeerSpec, session: &Session, local: Option<IpAddr>) -> PeerEnds {
    let configured = match spec.session.remote_asn {
        RemoteAs::Exactly(asn) => Some(asn),
        RemoteAs::Internal => Some(spec.session.local_asn),
        RemoteAs::External => None,
    };
    let asn = session.terms().map(|terms| terms.peer_open.asn).or(configured);
    PeerEnds { address: spec.address, asn, local, local_asn: spec.session.local_asn }
}
