//! An IKE SA that is being closed, was closed by the peer, or was replaced: it only answers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ike_wire::{Delete, ExchangeType, Header, NotifyType, Payload};

use super::{
    Cx, IkeSa, Stage,
    channel::{Channel, Opened, notify, send},
    exchange::Exchange,
    window::Due,
};
use crate::{config::Retransmission, io::Path};

/// How long we try to tell the peer.
const GOODBYE_FOR: Duration = Duration::from_secs(4);
/// How long a last answer can be repeated.
const LINGER: Duration = Duration::from_secs(4);
/// How long the peer may take to close an SA that it has replaced.
const EXPECT_FOR: Duration = Duration::from_secs(60);

/// What is left of the SA.
pub(super) struct Leaving {
    pub(super) channel: Channel,
    goodbye: Goodbye,
    /// How long we try to tell the peer.
    goodbye_for: Duration,
    until: Instant,
}

/// Who closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// We do, as soon as the request that is on the way is answered.
    Due,
    /// We do; the request is on the way.
    Said,
    /// The peer does.
    Expected,
    /// It is done.
    Done,
}

impl Leaving {
    pub(super) fn new(now: Instant, channel: Channel, goodbye: Goodbye) -> Self {
        let patience = match goodbye {
            Goodbye::Due | Goodbye::Said => GOODBYE_FOR,
            Goodbye::Expected => EXPECT_FOR,
            Goodbye::Done => LINGER,
        };
        Self { channel, goodbye, goodbye_for: GOODBYE_FOR, until: now + patience }
    }

    /// The peer lives, and has to hear it: what it still sends by this SA would be lost.
    pub(super) fn insist(mut self, now: Instant, goodbye_for: Duration) -> Self {
        self.goodbye_for = self.goodbye_for.max(goodbye_for);
        self.until = self.until.max(now + goodbye_for);
        self
    }

    pub(super) fn deadline(&self) -> Instant {
        self.channel.window.deadline().map_or(self.until, |at| at.min(self.until))
    }

    /// Whether the peer still has to be told.
    pub(super) fn has_to_tell(&self) -> bool {
        matches!(self.goodbye, Goodbye::Due | Goodbye::Said)
    }

    fn done(&mut self, now: Instant) {
        self.goodbye = Goodbye::Done;
        self.channel.window.abandon();
        self.until = now + LINGER;
    }
}

impl IkeSa {
    /// Sends the DELETE when it is due and the window is free.
    pub(super) fn say_goodbye(&mut self, cx: &mut Cx<'_>) {
        let Stage::Leaving(leaving) = &mut self.stage else { return };
        if leaving.goodbye != Goodbye::Due || leaving.channel.window.is_busy() {
            return;
        }
        leaving.goodbye = Goodbye::Said;
        let policy = Retransmission::within(leaving.goodbye_for);
        let payloads = [Payload::Delete(Delete::Ike)];
        let sent = leaving.channel.request(cx.now, &self.path, policy, Exchange::DeleteIke, &payloads, cx.out);
        if sent.is_err() {
            self.stage = Stage::Over;
        }
    }

    pub(super) fn leaving_datagram(&mut self, cx: &mut Cx<'_>, header: &Header, path: &Path, bytes: &Bytes) {
        let Stage::Leaving(leaving) = &mut self.stage else { return };
        if !leaving.channel.is_due(header, path, bytes, cx.out) {
            return;
        }
        self.arrival = Some(path.clone());
        let Ok(opened) = leaving.channel.open(header, bytes) else { return };
        match opened {
            Opened::Partial => {}
            _ if header.flags.response => {
                let answered = leaving.channel.window.answer(header.message_id);
                match answered.map(|outstanding| outstanding.exchange) {
                    Some(Exchange::DeleteIke | Exchange::Refusal) => leaving.done(cx.now),
                    _ => self.say_goodbye(cx),
                }
            }
            Opened::Payloads(payloads) => {
                let deleted = payloads.iter().any(|payload| matches!(payload, Payload::Delete(Delete::Ike)));
                // RFC 7296 §2.25.2: nothing new can begin here; §2.25.1: a crossing DELETE is answered as such.
                match header.exchange {
                    ExchangeType::Informational => self.respond(cx, header, &[]),
                    _ => self.respond(cx, header, &[notify(NotifyType::TemporaryFailure, [])]),
                }
                if let (true, Stage::Leaving(leaving)) = (deleted, &mut self.stage) {
                    leaving.done(cx.now);
                }
            }
            Opened::Critical(_) | Opened::Malformed(_) => self.respond(cx, header, &[]),
        }
    }

    pub(super) fn leaving_timeout(&mut self, cx: &mut Cx<'_>) {
        let Stage::Leaving(leaving) = &mut self.stage else { return };
        if cx.now >= leaving.until {
            self.stage = Stage::Over;
            return;
        }
        match leaving.channel.window.due(cx.now, None) {
            Due::Nothing => {}
            Due::Again(packets) => send(&self.path, &packets, cx.out),
            Due::GiveUp { .. } => self.stage = Stage::Over,
        }
    }
}
