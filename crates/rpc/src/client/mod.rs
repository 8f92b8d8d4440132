//! The calling side.

mod connection;
mod follow;
mod stream;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{net::UnixStream, time::timeout};

use crate::{
    envelope::{Body, CallBody, Hello},
    frame::FrameError,
    hello::NoCommonVersion,
    wire::{Call, Failure, Stream, Wire},
};

pub use follow::{Followed, Follower};
pub use stream::EventStream;

use connection::{Connection, Registration};

/// How long connecting and the hello may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Events that a stream may have on their way to us.
const WINDOW: u32 = 64;

/// Why a call did not work.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody serves the socket.
    #[error("cannot reach {path}: {error}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It accepted but did not answer.
    #[error("{0} does not answer")]
    Silent(PathBuf),
    /// No common version.
    #[error(transparent)]
    Version(#[from] NoCommonVersion),
    /// The connection ended.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// It said something that we do not understand.
    #[error("an answer does not make sense: {0}")]
    Protocol(String),
    /// It was refused or failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> Self {
        Self::Lost(error.to_string())
    }
}

/// A connection to a daemon. Clones share it; it closes with the last clone and the last stream.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
    hello: Arc<Hello>,
}

impl Client {
    /// Connects to the socket at `path` as `program`.
    ///
    /// # Errors
    /// When nobody answers there, or refuses us.
    pub async fn connect(path: &Path, program: &str) -> Result<Self, ClientError> {
        let attempt = async {
            let stream = UnixStream::connect(path)
                .await
                .map_err(|error| ClientError::Connect { path: path.to_owned(), error })?;
            Connection::open(stream, program).await
        };
        let (connection, hello) =
            timeout(PATIENCE, attempt).await.map_err(|_| ClientError::Silent(path.to_owned()))??;
        Ok(Self { connection: Arc::new(connection), hello: Arc::new(hello) })
    }

    /// What the daemon said of itself.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Asks, and waits for the answer. Dropping the future cancels the call.
    ///
    /// # Errors
    /// When it is refused, fails, or the connection is lost.
    pub async fn call<C: Call>(&self, request: &C) -> Result<C::Reply, ClientError> {
        let mut registration = self.begin(C::METHOD, request, 0).await?;
        match registration.next().await? {
            Body::Reply(octets) => C::Reply::from_bytes(octets).map_err(ClientError::Protocol),
            Body::Error(body) => Err(Failure::from(body).into()),
            other => Err(ClientError::Protocol(format!("{} was answered by {other:?}", C::METHOD))),
        }
    }

    /// Begins a stream. Dropping it cancels it.
    ///
    /// # Errors
    /// When the connection is lost; a refusal arrives on the stream.
    pub async fn stream<S: Stream>(&self, request: &S) -> Result<EventStream<S::Event>, ClientError> {
        Ok(EventStream::new(self.begin(S::METHOD, request, WINDOW).await?))
    }

    async fn begin<W: Wire>(&self, method: &str, request: &W, credit: u32) -> Result<Registration, ClientError> {
        // The answers that may come without our asking for more: `credit` events and the end.
        let registration = Connection::register(&self.connection, usize::try_from(WINDOW).unwrap_or(usize::MAX) + 1)?;
        let call = CallBody { method: method.to_owned(), request: request.to_bytes(), credit };
        registration.send(Body::Call(call)).await?;
        Ok(registration)
    }
}
