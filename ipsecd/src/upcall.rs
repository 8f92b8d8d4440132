//! From packet threads to the main loop: bounded queues that never make a packet wait.

use std::sync::Arc;

use dataplane::{Event, IkeDatagram, Sink};
use tokio::sync::mpsc;

/// IKE messages that may wait. A flood fills it and is dropped here, counted; peers repeat what they mean.
const IKE_QUEUE: usize = 512;
/// Events that may wait.
const EVENT_QUEUE: usize = 1024;

/// What packet threads put in.
pub(crate) struct Upcalls {
    ike: mpsc::Sender<IkeDatagram>,
    events: mpsc::Sender<Event>,
}

/// What the main loop takes out.
pub(crate) struct Incoming {
    pub(crate) ike: mpsc::Receiver<IkeDatagram>,
    pub(crate) events: mpsc::Receiver<Event>,
}

/// Both ends.
pub(crate) fn queues() -> (Arc<Upcalls>, Incoming) {
    let (ike, ike_out) = mpsc::channel(IKE_QUEUE);
    let (events, events_out) = mpsc::channel(EVENT_QUEUE);
    (Arc::new(Upcalls { ike, events }), Incoming { ike: ike_out, events: events_out })
}

impl Sink for Upcalls {
    fn ike(&self, datagram: IkeDatagram) -> bool {
        self.ike.try_send(datagram).is_ok()
    }

    fn event(&self, event: Event) -> bool {
        self.events.try_send(event).is_ok()
    }
}
