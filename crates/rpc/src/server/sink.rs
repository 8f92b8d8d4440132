//! The writing end of a stream, under credit.

use std::{marker::PhantomData, sync::Arc};

use tokio::sync::{Semaphore, mpsc};

use crate::{
    envelope::{Body, Envelope},
    wire::{Code, Failure, Wire},
};

/// The caller, or the connection, is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller is gone")]
pub struct Gone;

impl From<Gone> for Failure {
    fn from(gone: Gone) -> Self {
        Self::new(Code::Failed, gone)
    }
}

/// Where the frames of one call go.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    pub(super) id: u64,
    pub(super) frames: mpsc::Sender<Envelope>,
    /// One permit an event; the caller adds them, and it is closed when the caller goes.
    pub(super) credit: Arc<Semaphore>,
}

/// Sends the events of one stream.
#[derive(Clone, Debug)]
pub struct Sink<E> {
    outlet: Outlet,
    event: PhantomData<fn(E)>,
}

/// Leave to send one event.
#[derive(Debug)]
pub struct Ready<'a, E> {
    sink: &'a Sink<E>,
}

impl<E: Wire> Sink<E> {
    pub(super) fn new(outlet: Outlet) -> Self {
        Self { outlet, event: PhantomData }
    }

    /// Waits until the caller wants another event. The leave is used up even if it is not made use of.
    ///
    /// # Errors
    /// When the caller is gone.
    pub async fn ready(&self) -> Result<Ready<'_, E>, Gone> {
        self.outlet.credit.acquire().await.map_err(|_| Gone)?.forget();
        Ok(Ready { sink: self })
    }

    /// Sends an event when the caller wants one.
    ///
    /// # Errors
    /// When the caller is gone.
    pub async fn send(&self, event: &E) -> Result<(), Gone> {
        self.ready().await?.send(event).await
    }
}

impl<E: Wire> Ready<'_, E> {
    /// Sends the event.
    ///
    /// # Errors
    /// When the caller is gone.
    pub async fn send(self, event: &E) -> Result<(), Gone> {
        let Outlet { id, frames, .. } = &self.sink.outlet;
        frames.send(Envelope::new(*id, Body::Event(event.to_bytes()))).await.map_err(|_| Gone)
    }
}
