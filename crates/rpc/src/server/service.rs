//! What a daemon serves: methods by name, each with its handler.

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin};

use bytes::Bytes;
use futures_util::FutureExt;

use super::sink::{Outlet, Sink};
use crate::{
    board::{Board, Change},
    credentials::Peer,
    wire::{Call, Code, Failure, Stream, Wire},
};

/// `Some` is the reply of a call, `None` the end of a stream.
type Outcome = Result<Option<Bytes>, Failure>;
type Handler = Box<dyn Fn(Peer, Bytes, Outlet) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// Methods and their handlers.
pub struct Service {
    pub(super) program: String,
    handlers: BTreeMap<&'static str, Handler>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("program", &self.program).field("methods", &self.handlers.keys()).finish()
    }
}

impl Service {
    /// A service of `program` without methods.
    pub fn new(program: &str) -> Self {
        Self { program: program.to_owned(), handlers: BTreeMap::new() }
    }

    /// Answers calls of kind `C`.
    #[must_use]
    pub fn call<C, F, R>(mut self, handler: F) -> Self
    where
        C: Call,
        F: Fn(Peer, C) -> R + Send + Sync + 'static,
        R: Future<Output = Result<C::Reply, Failure>> + Send + 'static,
    {
        self.handlers.insert(
            C::METHOD,
            Box::new(move |peer, request, _| match decode::<C>(C::METHOD, request) {
                Ok(request) => handler(peer, request).map(|reply| reply.map(|reply| Some(reply.to_bytes()))).boxed(),
                Err(failure) => std::future::ready(Err(failure)).boxed(),
            }),
        );
        self
    }

    /// Serves streams of kind `S`; the stream ends when the handler returns, and the handler is dropped when the caller
    /// cancels or goes.
    #[must_use]
    pub fn stream<S, F, R>(mut self, handler: F) -> Self
    where
        S: Stream,
        F: Fn(Peer, S, Sink<S::Event>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.handlers.insert(
            S::METHOD,
            Box::new(move |peer, request, outlet| match decode::<S>(S::METHOD, request) {
                Ok(request) => handler(peer, request, Sink::new(outlet)).map(|end| end.map(|()| None)).boxed(),
                Err(failure) => std::future::ready(Err(failure)).boxed(),
            }),
        );
        self
    }

    /// Serves streams of kind `S` from a board: the whole state, then changes.
    #[must_use]
    pub fn watch<S, K, V>(
        self,
        board: Board<K, V>,
        event: impl Fn(Change<K, V>) -> S::Event + Clone + Send + Sync + 'static,
    ) -> Self
    where
        S: Stream,
        K: Ord + Clone + Send + Sync + 'static,
        V: Clone + PartialEq + Send + Sync + 'static,
    {
        self.stream::<S, _, _>(move |_, _, sink| {
            let (board, event) = (board.clone(), event.clone());
            async move {
                let mut subscription = board.subscribe();
                loop {
                    // Credit first: what is read from the board is then the newest there is, however long this waited.
                    let ready = sink.ready().await?;
                    ready.send(&event(subscription.next().await)).await?;
                }
            }
        })
    }

    pub(super) fn start(
        &self,
        peer: Peer,
        method: &str,
        request: Bytes,
        outlet: Outlet,
    ) -> Result<Pin<Box<dyn Future<Output = Outcome> + Send>>, Failure> {
        match self.handlers.get(method) {
            Some(handler) => Ok(handler(peer, request, outlet)),
            None => {
                let method: String = method.chars().take(64).collect();
                let message = format!("{} does not serve \"{method}\"; it may be of another release", self.program);
                Err(Failure::new(Code::UnknownMethod, message))
            }
        }
    }
}

fn decode<W: Wire>(method: &str, request: Bytes) -> Result<W, Failure> {
    W::from_bytes(request).map_err(|error| Failure::new(Code::BadRequest, format!("{method}: {error}")))
}
