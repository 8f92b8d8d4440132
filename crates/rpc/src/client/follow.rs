//! A stream that outlives its connection: when the daemon goes it says so at once, and when it returns it begins anew.

use std::{path::PathBuf, time::Duration};

use tokio::time::Instant;

use super::{Client, ClientError, EventStream};
use crate::{envelope::Hello, wire::Stream};

/// What a follower tells.
#[derive(Debug)]
pub enum Followed<E> {
    /// The daemon is there; the whole state follows, so what was known before is to be compared with it.
    Connected(Hello),
    /// It says this.
    Event(E),
    /// It is gone. Told once; attempts go on.
    Lost(ClientError),
}

/// Follows a stream of the daemon at a socket, for ever.
#[derive(Debug)]
pub struct Follower<S: Stream> {
    path: PathBuf,
    program: String,
    request: S,
    state: State<S::Event>,
}

#[derive(Debug)]
enum State<E> {
    Apart {
        /// When to try, an absolute time: who selects over `next` and something busy must not push it off for ever.
        at: Option<Instant>,
        /// How long to wait after another failure.
        wait: Duration,
        /// Whether the loss has been told.
        told: bool,
    },
    Following(EventStream<E>),
}

/// Between attempts: short, since routes may hang on it, and a refused connect to a Unix socket costs nothing.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

impl<S: Stream> Follower<S> {
    /// Follows `request` at the socket `path`, as `program`. Nothing happens before [`Self::next`].
    pub fn new(path: PathBuf, program: &str, request: S) -> Self {
        let state = State::Apart { at: None, wait: FIRST_WAIT, told: false };
        Self { path, program: program.to_owned(), request, state }
    }

    /// What comes next. Never ends; safe to drop and to ask again.
    pub async fn next(&mut self) -> Followed<S::Event> {
        loop {
            match &mut self.state {
                State::Following(stream) => {
                    let why = match stream.next().await {
                        Some(Ok(event)) => return Followed::Event(event),
                        Some(Err(error)) => error,
                        None => ClientError::Lost("the daemon ended the stream".to_owned()),
                    };
                    self.state = State::Apart { at: Some(Instant::now() + FIRST_WAIT), wait: FIRST_WAIT, told: true };
                    return Followed::Lost(why);
                }
                State::Apart { at, .. } => {
                    if let Some(at) = *at {
                        tokio::time::sleep_until(at).await;
                    }
                    match self.begin().await {
                        Ok((hello, stream)) => {
                            self.state = State::Following(stream);
                            return Followed::Connected(hello);
                        }
                        Err(error) => {
                            let State::Apart { at, wait, told } = &mut self.state else { continue };
                            *at = Some(Instant::now() + *wait);
                            *wait = (*wait * 2).min(LONGEST_WAIT);
                            if !std::mem::replace(told, true) {
                                return Followed::Lost(error);
                            }
                        }
                    }
                }
            }
        }
    }

    async fn begin(&self) -> Result<(Hello, EventStream<S::Event>), ClientError> {
        let client = Client::connect(&self.path, &self.program).await?;
        let stream = client.stream(&self.request).await?;
        Ok((client.hello().clone(), stream))
    }
}
