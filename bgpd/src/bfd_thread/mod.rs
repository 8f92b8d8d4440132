//! The thread that BFD runs on.
//!
//! It has its own sockets and waits for nothing but them and its timers, so a busy routing table cannot make a session
//! miss its time; it asks the scheduler to be preferred, and says so when it may not be. Packets that are waiting are
//! read before a detection time is held to have run out: a thread that was kept from running blames nobody else.
//!
//! State changes are told by a function that is called on this thread, first thing after the packet that brought them.

mod echo;
mod link;
mod ready;
mod worker;

use std::{
    io,
    net::IpAddr,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Instant,
};

use bfd::{Cause, Config, Peer, State};
use bgp_core::PeerId;
use fib::PathState;
use net_types::IfName;
use rustix::{
    event::{EventfdFlags, eventfd},
    fd::OwnedFd,
};
use tokio::sync::oneshot;

use crate::show::view;

/// A session that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The neighbor that it is for, unless it stands alone (`bfd` / `peer …`).
    pub neighbor: Option<PeerId>,
    /// Whom it is with.
    pub peer: Peer,
    /// The interface's name; none where the peer is several hops away.
    pub interface: Option<IfName>,
    /// Packets with a lower TTL are dropped, in a session over several hops (RFC 5883 §5).
    pub minimum_ttl: u8,
    /// Our own address; the kernel's choice without.
    pub local: Option<IpAddr>,
    /// Its timers.
    pub config: Config,
    /// Held down (`shutdown`).
    pub admin_down: bool,
}

/// A session went up or down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The neighbor that it is for.
    pub neighbor: Option<PeerId>,
    /// Whom it is with.
    pub peer: Peer,
    /// The interface's name; none where the peer is several hops away.
    pub interface: Option<IfName>,
    /// Before.
    pub from: State,
    /// Now.
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// The peer's BFD would go on while its control plane restarts (C bit, RFC 5882 §4.3).
    pub independent: bool,
    /// When the packet, or the silence, was noticed.
    pub at: Instant,
}

/// What a session's change of state says of the path to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Packets get there and back.
    Up,
    /// They do not, though the silence may be that of a daemon that restarts while packets still flow: our BFD lives in
    /// this daemon, as the peer's does (C bit clear, RFC 5882 §4.3). Whatever has an alternate moves at once; the rest stays
    /// in the tunnel, where nothing is in the clear, until the session has decided.
    Lost,
    /// Nothing: somebody does without BFD on purpose (RFC 5882 §3.2).
    Waived,
}

impl Verdict {
    /// As the forwarding table is told.
    pub fn state(self) -> PathState {
        match self {
            Self::Up | Self::Waived => PathState::Up,
            Self::Lost => PathState::LastResort,
        }
    }
}

impl Change {
    /// What it says of the path; none where it is on its way up.
    pub fn verdict(&self) -> Option<Verdict> {
        match (self.from, self.to, self.cause) {
            (_, State::Up, _) => Some(Verdict::Up),
            (State::Up, _, cause) if cause.blames_the_path() => Some(Verdict::Lost),
            (State::Up, ..) => Some(Verdict::Waived),
            _ => None,
        }
    }
}

enum Command {
    /// These sessions and no others. What stays as it was does not notice.
    Sessions(Vec<Wanted>),
    Snapshot(oneshot::Sender<Vec<view::Bfd>>),
    Close,
}

/// A grip on the thread. Cheap to clone.
#[derive(Clone)]
pub struct BfdHandle {
    commands: mpsc::Sender<Command>,
    bell: Arc<OwnedFd>,
}

impl BfdHandle {
    /// These sessions are to be, and no others. Those that stay as they were do not notice.
    pub fn sessions(&self, wanted: Vec<Wanted>) {
        self.command(Command::Sessions(wanted));
    }

    /// What `show bfd peers` prints; nothing when the thread has ended.
    pub async fn snapshot(&self) -> Vec<view::Bfd> {
        let (tell, told) = oneshot::channel();
        self.command(Command::Snapshot(tell));
        told.await.unwrap_or_default()
    }

    /// Tells every peer that its session is administratively down, and ends the thread.
    pub fn close(&self) {
        self.command(Command::Close);
    }

    fn command(&self, command: Command) {
        // After the thread's end there is nobody to do anything, and nothing to be done.
        if self.commands.send(command).is_ok()
            && let Err(error) = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes())
        {
            tracing::error!(%error, "the BFD thread cannot be woken");
        }
    }
}

/// Starts the thread in the caller's network namespace. `changed` is called on it and must not wait.
///
/// # Errors
/// When the system gives no thread or descriptor.
pub fn start(changed: impl FnMut(Change) + Send + 'static) -> io::Result<(BfdHandle, JoinHandle<()>)> {
    let (commands, inbox) = mpsc::channel();
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let worker = worker::Worker::new(inbox, bell.clone(), Box::new(changed))?;
    let thread = std::thread::Builder::new().name("bfd".into()).spawn(move || worker.run())?;
    Ok((BfdHandle { commands, bell }, thread))
}

#[cfg(test)]
mod tests;
