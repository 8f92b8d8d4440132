//! One connection: hello, then calls side by side.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc};

use bytes::BytesMut;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    net::{UnixStream, unix::OwnedReadHalf, unix::OwnedWriteHalf},
    sync::{Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_util::codec::{Encoder, FramedRead, FramedWrite};
use tracing::{debug, error};

use super::{Limits, Service, sink::Outlet};
use crate::{
    credentials::{GROUP, Peer},
    envelope::{Body, CallBody, Envelope, Hello},
    frame::{EnvelopeCodec, FrameError},
    hello,
    wire::{Code, Failure},
};

/// Frames between the handlers of a connection and its socket.
const QUEUE: usize = 32;

type Reader = FramedRead<OwnedReadHalf, EnvelopeCodec>;
type Writer = FramedWrite<OwnedWriteHalf, EnvelopeCodec>;

/// A call that has not ended.
struct Running {
    task: AbortHandle,
    credit: Arc<Semaphore>,
}

/// Why a connection ended, for the log.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("closed by the caller")]
    Closed,
    #[error("the caller did not say hello in time")]
    NoHello,
    #[error("the caller does not read")]
    NotReading,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Refused(Failure),
}

pub(super) async fn run(stream: UnixStream, peer: Peer, allowed: bool, service: Arc<Service>, limits: Limits) {
    let (reader, writer) = stream.into_split();
    let mut reader = FramedRead::new(reader, EnvelopeCodec);
    let mut writer = FramedWrite::new(writer, EnvelopeCodec);
    let why = match greet(&mut reader, &mut writer, peer, allowed, &service, limits).await {
        Ok(()) => serve(&mut reader, writer, peer, &service, limits).await,
        Err(Ended::Refused(failure)) => {
            let goodbye = Envelope::new(0, Body::Error(failure.clone().into()));
            // The caller may be gone or stuck; it was refused either way.
            let _ = timeout(limits.patience, writer.send(goodbye)).await;
            Ended::Refused(failure)
        }
        Err(ended) => ended,
    };
    debug!(uid = peer.uid, cause = %why, "a connection ended");
}

/// Tells a caller beyond the limit why it is not served, if its socket takes that at once.
pub(super) fn refuse_busy(stream: &UnixStream) {
    let failure = Failure::new(Code::Busy, "too many connections; close some shells and try again");
    let mut frame = BytesMut::new();
    if EnvelopeCodec.encode(Envelope::new(0, Body::Error(failure.into())), &mut frame).is_ok() {
        let _ = stream.try_write(&frame);
    }
}

/// The first exchange.
async fn greet(
    reader: &mut Reader,
    writer: &mut Writer,
    peer: Peer,
    allowed: bool,
    service: &Service,
    limits: Limits,
) -> Result<(), Ended> {
    let first = timeout(limits.patience, reader.next()).await.map_err(|_| Ended::NoHello)?;
    let theirs: Hello = match first.ok_or(Ended::Closed)??.body {
        Some(Body::Hello(theirs)) => theirs,
        _ => return Err(Ended::Refused(Failure::new(Code::BadRequest, "the first frame was not a hello"))),
    };
    if !allowed {
        let message = format!(
            "user {} may not talk to {}; only root, the daemon's own user and members of the group {GROUP} may",
            peer.uid, service.program
        );
        return Err(Ended::Refused(Failure::new(Code::Denied, message)));
    }
    hello::settle(&theirs).map_err(|error| Ended::Refused(Failure::new(Code::Version, error)))?;
    let ours = Envelope::new(0, Body::Hello(hello::ours(&service.program)));
    timeout(limits.patience, writer.send(ours)).await.map_err(|_| Ended::NotReading)??;
    Ok(())
}

async fn serve(reader: &mut Reader, writer: Writer, peer: Peer, service: &Service, limits: Limits) -> Ended {
    let (frames, queue) = mpsc::channel(QUEUE);
    let mut writing = JoinSet::new();
    writing.spawn(write(writer, queue, limits));
    let mut tasks: JoinSet<u64> = JoinSet::new();
    let mut running: HashMap<u64, Running> = HashMap::new();
    loop {
        let envelope = tokio::select! {
            Some(ended) = writing.join_next() => return ended.unwrap_or(Ended::NotReading),
            Some(done) = tasks.join_next() => {
                // A task that was cancelled has been taken out of the map by who cancelled it.
                if let Ok(id) = done {
                    running.remove(&id);
                }
                continue;
            }
            frame = reader.next() => match frame {
                None => return Ended::Closed,
                Some(Err(error)) => return error.into(),
                Some(Ok(envelope)) => envelope,
            },
        };
        let id = envelope.id;
        match envelope.body {
            Some(Body::Call(call)) if !running.contains_key(&id) && id != 0 => {
                if running.len() >= limits.calls {
                    let failure = Failure::new(Code::Busy, format!("more than {} calls at a time", limits.calls));
                    if frames.send(Envelope::new(id, Body::Error(failure.into()))).await.is_err() {
                        return Ended::NotReading;
                    }
                    continue;
                }
                let credit = usize::try_from(call.credit).unwrap_or(usize::MAX).min(limits.window);
                let credit = Arc::new(Semaphore::new(credit));
                let outlet = Outlet { id, frames: frames.clone(), credit: credit.clone() };
                let task = tasks.spawn(answer(peer, service, call, outlet));
                running.insert(id, Running { task, credit });
            }
            Some(Body::Credit(more)) => {
                if let Some(call) = running.get(&id) {
                    let room = limits.window.saturating_sub(call.credit.available_permits());
                    call.credit.add_permits(usize::try_from(more).unwrap_or(usize::MAX).min(room));
                }
            }
            Some(Body::Cancel(_)) => {
                if let Some(call) = running.remove(&id) {
                    call.task.abort();
                }
            }
            _ => return Ended::Refused(Failure::new(Code::BadRequest, "a frame that a caller does not send")),
        }
    }
}

/// Runs one call to its end and sends what ends it.
fn answer(peer: Peer, service: &Service, call: CallBody, outlet: Outlet) -> impl Future<Output = u64> + use<> {
    let started = service.start(peer, &call.method, call.request, outlet.clone());
    async move {
        let outcome = match started {
            // A defect in one handler must not take the daemon, or the caller's other calls, with it.
            Ok(handler) => AssertUnwindSafe(handler).catch_unwind().await.unwrap_or_else(|_| {
                error!(method = %call.method, "a handler panicked");
                Err(Failure::new(Code::Internal, "the daemon met a defect of its own; its log has the place"))
            }),
            Err(failure) => Err(failure),
        };
        let body = match outcome {
            Ok(Some(reply)) => Body::Reply(reply),
            Ok(None) => Body::End(crate::envelope::End {}),
            Err(failure) => Body::Error(failure.into()),
        };
        // When the connection is gone there is nobody to tell.
        let _ = outlet.frames.send(Envelope::new(outlet.id, body)).await;
        outlet.id
    }
}

async fn write(mut writer: Writer, mut queue: mpsc::Receiver<Envelope>, limits: Limits) -> Ended {
    while let Some(envelope) = queue.recv().await {
        let id = envelope.id;
        match timeout(limits.patience, writer.send(envelope)).await {
            Ok(Ok(())) => {}
            Ok(Err(FrameError::TooLong(length))) => {
                error!(length, "an answer was longer than a frame may be");
                let failure = Failure::new(Code::Internal, "the answer was too long for one frame");
                let refusal = Envelope::new(id, Body::Error(failure.into()));
                if !matches!(timeout(limits.patience, writer.send(refusal)).await, Ok(Ok(()))) {
                    return Ended::NotReading;
                }
            }
            Ok(Err(error)) => return error.into(),
            Err(_) => return Ended::NotReading,
        }
    }
    Ended::Closed
}
