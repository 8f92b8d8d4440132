//! The rest of the daemon's grip on a neighbor's task.

use std::sync::Arc;

use bgp_core::PeerId;
use bgp_wire::Notification;
use net_types::Family;
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle};

use super::{PeerEvent, PeerHost, PeerSpec, PeerStatus, status::Shared, task::Task};

/// Commands that may wait for a task; it serves them at once, so that a full queue means that it is gone.
const COMMANDS: usize = 64;

/// What to tell a neighbor's task.
#[derive(Debug)]
pub enum PeerCommand {
    /// Run the session.
    Start,
    /// End it with this NOTIFICATION and stay down.
    Stop(Notification),
    /// End it with this NOTIFICATION and start over (`clear bgp`).
    Reset(Notification),
    /// BFD sees the neighbor.
    BfdUp,
    /// BFD has seen the neighbor and lost it.
    BfdLost {
        /// The neighbor's BFD would go on while its control plane restarts (C bit, RFC 5882 §4.3).
        independent: bool,
    },
    /// The path to the neighbor is gone.
    PathLost,
    /// The path to the neighbor works again: the tunnel or the link came up.
    PathUp,
    /// The configuration changed. The session starts over where it must.
    Reconfigure(Box<PeerSpec>),
    /// Ask the neighbor for its routes again (`clear bgp … soft in`).
    RequestRoutes(Family),
    /// The neighbor connected to us.
    Accepted(TcpStream),
    /// End the session with this NOTIFICATION, and the task with it.
    Remove(Notification),
    /// The same because the daemon ends: a neighbor that keeps our routes over a restart is to do so.
    Leave,
}

/// One neighbor's task.
#[derive(Debug)]
pub struct PeerHandle {
    id: PeerId,
    commands: mpsc::Sender<PeerCommand>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// Starts a neighbor's task within the current runtime. It waits for [`PeerCommand::Start`].
///
/// `events` leads to the routing table; its capacity is how many messages may wait there.
pub fn spawn<E, H>(spec: PeerSpec, host: H, events: mpsc::Sender<E>) -> PeerHandle
where
    E: From<PeerEvent> + Send + 'static,
    H: PeerHost,
{
    let (sender, receiver) = mpsc::channel(COMMANDS);
    let shared = Arc::new(Shared::new(spec.clone()));
    let id = spec.id;
    let task = tokio::spawn(Task::new(spec, host, events, receiver, Arc::clone(&shared)).run());
    PeerHandle { id, commands: sender, shared, task }
}

impl PeerHandle {
    /// Its number.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Hands over a command. It is lost only if the task is gone or has stopped serving, which is logged.
    pub fn send(&self, command: PeerCommand) {
        if let Err(error) = self.commands.try_send(command) {
            tracing::error!(peer = %self.id, %error, "a neighbor's task does not take commands");
        }
    }

    /// For the listener: where connections from the neighbor go.
    pub fn commands(&self) -> mpsc::Sender<PeerCommand> {
        self.commands.clone()
    }

    /// A snapshot, without disturbing the task.
    pub fn status(&self) -> PeerStatus {
        self.shared.snapshot()
    }

    /// Ends the session with `notification` and waits until it is written, or cannot be.
    pub async fn remove(self, notification: Notification) {
        self.end(PeerCommand::Remove(notification)).await;
    }

    /// The same because the daemon ends.
    pub async fn leave(self) {
        self.end(PeerCommand::Leave).await;
    }

    async fn end(self, command: PeerCommand) {
        // The queue may be full of commands that no longer matter.
        if self.commands.send(command).await.is_ok()
            && let Err(error) = self.task.await
        {
            tracing::error!(peer = %self.id, %error, "a neighbor's task failed");
        }
    }
}
