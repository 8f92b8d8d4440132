//! The serving side.
//!
//! Everything a caller can make us hold is bounded: connections, calls outstanding on each, events on their way to each.
//! What exceeds a bound is refused by name (`Busy`) and costs the others nothing.

mod connection;
mod service;
mod sink;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
};
use tracing::{debug, warn};

use crate::credentials::{Peer, Policy};

pub use service::Service;
pub use sink::{Gone, Sink};

/// What callers may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Calls outstanding on one connection.
    pub calls: usize,
    /// Credit that one stream may pile up.
    pub window: usize,
    /// Time for the first frame to come, and for a frame to be taken by the other side.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, calls: 32, window: 4096, patience: Duration::from_secs(30) }
    }
}

/// A socket that serves a [`Service`]. Dropping it closes the socket and every connection.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    service: Arc<Service>,
    limits: Limits,
}

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody serves there.
    #[error("{0} is in use: another instance runs with this run-dir; stop it or choose another --run-dir")]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot open the socket {0}: {1}; check that the run-dir exists and is writable")]
    Io(PathBuf, io::Error),
}

impl Server {
    /// Opens the socket at `path`, taking the place of one that a dead process left behind.
    ///
    /// # Errors
    /// When another process serves there, or the system refuses.
    pub fn bind(path: &Path, service: Service, limits: Limits) -> Result<Self, BindError> {
        let failed = |error| BindError::Io(path.to_owned(), error);
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(BindError::InUse(path.to_owned())),
            // Nobody listens: a leftover.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        // The file's mode is the first gate, the peer's credentials are the second.
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
        if let Some(gid) = Policy::from_system().gid()
            && let Err(error) = std::os::unix::fs::chown(path, None, Some(gid))
        {
            debug!(path = %path.display(), %error, "the socket stays with our own group");
        }
        Ok(Self { listener, path: path.to_owned(), service: Arc::new(service), limits })
    }

    /// Serves until dropped.
    pub async fn run(self) {
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: accepting again at once would spin.
                    warn!(path = %self.path.display(), %error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (service, limits) = (self.service.clone(), self.limits);
            match slots.clone().try_acquire_owned() {
                Ok(slot) => {
                    connections.spawn(async move {
                        serve(stream, service, limits).await;
                        drop(slot);
                    });
                }
                Err(_) => {
                    debug!(limit = self.limits.connections, "a connection beyond the limit was refused");
                    connection::refuse_busy(&stream);
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Best effort: a leftover is recognised at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(stream: UnixStream, service: Arc<Service>, limits: Limits) {
    let peer = match stream.peer_cred() {
        Ok(cred) => Peer { uid: cred.uid(), gid: cred.gid() },
        Err(error) => {
            debug!(%error, "a connection went before it could be identified");
            return;
        }
    };
    let allowed = Policy::from_system().allows(peer);
    connection::run(stream, peer, allowed, service, limits).await;
}
