//! The reading end of a stream: it asks for more as it goes.

use std::marker::PhantomData;

use super::{ClientError, WINDOW, connection::Registration};
use crate::{
    envelope::Body,
    wire::{Failure, Wire},
};

/// Events of one stream. Dropping it cancels the stream.
#[derive(Debug)]
pub struct EventStream<E> {
    registration: Registration,
    /// Events read and not yet asked for anew.
    owed: u32,
    done: bool,
    event: PhantomData<fn() -> E>,
}

impl<E: Wire> EventStream<E> {
    pub(super) fn new(registration: Registration) -> Self {
        Self { registration, owed: 0, done: false, event: PhantomData }
    }

    /// The next event; `None` when the stream has ended as it should. Safe to drop and to ask again.
    ///
    /// # Errors
    /// When it was refused, failed, or the connection was lost; nothing follows an error.
    pub async fn next(&mut self) -> Option<Result<E, ClientError>> {
        if self.done {
            return None;
        }
        // Half a window at a time; when our own queue is full, with the next event, or by waiting once no more can come.
        if self.owed >= WINDOW {
            if let Err(error) = self.registration.send(Body::Credit(self.owed)).await {
                self.done = true;
                return Some(Err(error));
            }
            self.owed = 0;
        } else if self.owed >= WINDOW / 2 && self.registration.try_send(Body::Credit(self.owed)) {
            self.owed = 0;
        }
        let outcome = match self.registration.next().await {
            Ok(Body::Event(octets)) => match E::from_bytes(octets) {
                Ok(event) => {
                    self.owed += 1;
                    return Some(Ok(event));
                }
                Err(error) => Some(Err(ClientError::Protocol(error))),
            },
            Ok(Body::End(_)) => None,
            Ok(Body::Error(body)) => Some(Err(Failure::from(body).into())),
            Ok(other) => Some(Err(ClientError::Protocol(format!("a stream was answered by {other:?}")))),
            Err(error) => Some(Err(error)),
        };
        self.done = true;
        outcome
    }
}
