//! One connection to a daemon: a task reads and tells the frames apart by call, another writes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::codec::{FramedRead, FramedWrite};

use super::ClientError;
use crate::{
    envelope::{Body, Cancel, Envelope, Hello},
    frame::EnvelopeCodec,
    hello,
    wire::Failure,
};

/// Frames between callers and the socket.
const QUEUE: usize = 64;

/// The shared half of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    frames: mpsc::Sender<Envelope>,
    calls: Arc<Mutex<Calls>>,
    /// Reader and writer end with the connection.
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Calls {
    last_id: u64,
    waiting: HashMap<u64, mpsc::Sender<Body>>,
    /// Why the connection ended, once it has.
    ended: Option<String>,
}

/// A call that was begun. Dropping it cancels the call if it has not ended.
#[derive(Debug)]
pub(super) struct Registration {
    connection: Arc<Connection>,
    id: u64,
    answers: mpsc::Receiver<Body>,
    ended: bool,
}

fn lock(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Says hello and starts the tasks.
    pub(super) async fn open(stream: UnixStream, program: &str) -> Result<(Self, Hello), ClientError> {
        let (reader, writer) = stream.into_split();
        let mut reader = FramedRead::new(reader, EnvelopeCodec);
        let mut writer = FramedWrite::new(writer, EnvelopeCodec);
        // A daemon that is too busy refuses without reading: its answer counts even if our hello did not go out.
        let said = writer.send(Envelope::new(0, Body::Hello(hello::ours(program)))).await;
        let theirs = match reader.next().await {
            Some(Ok(Envelope { body: Some(Body::Hello(theirs)), .. })) => theirs,
            Some(Ok(Envelope { body: Some(Body::Error(error)), .. })) => return Err(Failure::from(error).into()),
            Some(Ok(_)) => return Err(ClientError::Protocol("the first frame was not a hello".to_owned())),
            Some(Err(error)) => return Err(error.into()),
            None => {
                said?;
                return Err(ClientError::Lost("closed before the hello".to_owned()));
            }
        };
        hello::settle(&theirs)?;
        let (frames, queue) = mpsc::channel(QUEUE);
        let calls = Arc::new(Mutex::new(Calls::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(read(reader, calls.clone()));
        tasks.spawn(write(writer, queue, calls.clone()));
        Ok((Self { frames, calls, _tasks: tasks }, theirs))
    }

    /// Makes room for the answers of a new call.
    pub(super) fn register(connection: &Arc<Self>, room: usize) -> Result<Registration, ClientError> {
        let (sender, answers) = mpsc::channel(room);
        let mut calls = lock(&connection.calls);
        if let Some(why) = &calls.ended {
            return Err(ClientError::Lost(why.clone()));
        }
        calls.last_id += 1;
        let id = calls.last_id;
        calls.waiting.insert(id, sender);
        drop(calls);
        Ok(Registration { connection: connection.clone(), id, answers, ended: false })
    }

    fn why_ended(&self) -> ClientError {
        ClientError::Lost(lock(&self.calls).ended.clone().unwrap_or_else(|| "closed".to_owned()))
    }
}

impl Registration {
    pub(super) async fn send(&self, body: Body) -> Result<(), ClientError> {
        let sent = self.connection.frames.send(Envelope::new(self.id, body)).await;
        sent.map_err(|_| self.connection.why_ended())
    }

    /// The next frame of this call.
    pub(super) async fn next(&mut self) -> Result<Body, ClientError> {
        match self.answers.recv().await {
            Some(body) => {
                self.ended |= !matches!(body, Body::Event(_));
                Ok(body)
            }
            None => {
                self.ended = true;
                Err(self.connection.why_ended())
            }
        }
    }

    /// Grants more events without waiting; whether that worked.
    pub(super) fn try_send(&self, body: Body) -> bool {
        self.connection.frames.try_send(Envelope::new(self.id, body)).is_ok()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock(&self.connection.calls).waiting.remove(&self.id);
        if !self.ended {
            let cancel = Envelope::new(self.id, Body::Cancel(Cancel {}));
            // When the queue is full the daemon learns at the latest when its credit runs out.
            let _ = self.connection.frames.try_send(cancel);
        }
    }
}

fn end(calls: &Mutex<Calls>, why: String) {
    let mut calls = lock(calls);
    calls.ended.get_or_insert(why);
    calls.waiting.clear();
}

async fn read(mut reader: FramedRead<OwnedReadHalf, EnvelopeCodec>, calls: Arc<Mutex<Calls>>) {
    let why = loop {
        let Envelope { id, body } = match reader.next().await {
            None => break "closed by the daemon".to_owned(),
            Some(Err(error)) => break error.to_string(),
            Some(Ok(envelope)) => envelope,
        };
        let Some(body) = body else { break "a frame of an unknown kind".to_owned() };
        if id == 0 {
            break match body {
                Body::Error(error) => error.message,
                _ => "an unexpected frame about the connection".to_owned(),
            };
        }
        let last = !matches!(body, Body::Event(_));
        let mut calls = lock(&calls);
        // Frames of a call that was cancelled meanwhile are nobody's.
        if let Some(waiting) = calls.waiting.get(&id)
            && let Err(mpsc::error::TrySendError::Full(_)) = waiting.try_send(body)
        {
            break "the daemon sent more events than it was asked for".to_owned();
        }
        if last {
            calls.waiting.remove(&id);
        }
    };
    end(&calls, why);
}

async fn write(
    mut writer: FramedWrite<OwnedWriteHalf, EnvelopeCodec>,
    mut queue: mpsc::Receiver<Envelope>,
    calls: Arc<Mutex<Calls>>,
) {
    while let Some(envelope) = queue.recv().await {
        if let Err(error) = writer.send(envelope).await {
            end(&calls, error.to_string());
            return;
        }
    }
}
