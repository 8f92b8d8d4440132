//! The messages of an IKE SA in use: whose they are, and what waits for its turn (RFC 7296 §1.3, §1.4).

use bytes::Bytes;
use ike_wire::{Delete, ExchangeType, Header, NotifyType, Payload, find_notify};

use super::{Link, OUT_OF_STEP};
use crate::{
    event::DownCause,
    io::Path,
    sa::{
        Cx, IkeSa, News, Stage,
        channel::{Opened, notify},
        child::ChildState,
        exchange::{Exchange, Task},
    },
};

/// Whether a message closes the IKE SA.
fn is_farewell(opened: &Opened) -> bool {
    match opened {
        Opened::Payloads(payloads) => payloads.iter().any(|payload| matches!(payload, Payload::Delete(Delete::Ike))),
        Opened::Partial | Opened::Malformed(_) | Opened::Critical(_) => false,
    }
}

impl IkeSa {
    pub(in crate::sa) fn established_datagram(&mut self, cx: &mut Cx<'_>, header: &Header, path: Path, bytes: &Bytes) {
        let Stage::Established(established) = &mut self.stage else { return };
        if !established.channel.is_due(header, &path, bytes, cx.out) {
            return;
        }
        if self.is_crash(header, bytes) {
            return self.lose(cx, DownCause::PeerRestarted);
        }
        let Stage::Established(established) = &mut self.stage else { return };
        let Ok(opened) = established.channel.open(header, bytes) else { return };
        if matches!(opened, Opened::Partial) {
            return;
        }
        established.hear(cx.now, &mut cx.news);
        if !header.flags.response {
            // With a window of one, a new request means that the answer to the one before has arrived.
            for (spi_in, child) in established.children.iter_mut().filter(|(_, child)| !child.ready) {
                child.ready = true;
                cx.news.push(News::ChildReady(*spi_in));
            }
        }
        if established.undecided && !header.flags.response && !is_farewell(&opened) {
            // A peer that has seen both rekeys knows which SA stays, and one that has seen its own only takes that: what
            // it asks on this one says that our answer is lost for good.
            cx.news.push(News::Elected);
        }
        if !header.flags.response {
            self.arrival = Some(path.clone());
        }
        // An answer goes back the way of its question, which a mobile peer may have left since; a new request is never older
        // than where it says that it is (RFC 4555 §3.5).
        if !header.flags.response || !self.is_mobile() {
            self.follow(cx, path);
        }
        match opened {
            Opened::Partial => {}
            Opened::Payloads(payloads) if header.flags.response => self.answered(cx, header.message_id, payloads),
            Opened::Payloads(payloads) => match header.exchange {
                ExchangeType::CreateChildSa => self.create_child_requested(cx, header, &payloads),
                ExchangeType::Informational => self.informational_requested(cx, header, &payloads),
                ExchangeType::IkeFollowupKe => self.follow_up_requested(cx, header, &payloads),
                _ => self.respond(cx, header, &[notify(NotifyType::InvalidSyntax, [])]),
            },
            Opened::Critical(kind) if !header.flags.response => {
                self.respond(cx, header, &[notify(NotifyType::UnsupportedCriticalPayload, [kind])]);
            }
            Opened::Critical(kind) => self.break_off(cx, format!("answer with unknown critical payload {kind}")),
            Opened::Malformed(reason) => {
                if !header.flags.response {
                    self.respond(cx, header, &[notify(NotifyType::InvalidSyntax, [])]);
                }
                self.break_off(cx, reason.to_string());
            }
        }
    }

    /// Answers the request at hand.
    pub(in crate::sa) fn respond(&mut self, cx: &mut Cx<'_>, header: &Header, payloads: &[ike_wire::Payload]) {
        let channel = match &mut self.stage {
            Stage::Established(established) => &mut established.channel,
            Stage::Leaving(leaving) => &mut leaving.channel,
            Stage::HalfOpen(half_open) => &mut half_open.handshake.channel,
            Stage::Calling(_) | Stage::Mixing(_) | Stage::Proving(_) | Stage::Over => return,
        };
        let path = self.arrival.as_ref().unwrap_or(&self.path);
        if let Err(error) = channel.respond(path, header, payloads, cx.out) {
            self.vanish(cx, DownCause::ProtocolError(error.to_string()));
        }
    }

    /// The answer to our request.
    fn answered(&mut self, cx: &mut Cx<'_>, message_id: u32, payloads: Vec<ike_wire::Payload>) {
        let Stage::Established(established) = &mut self.stage else { return };
        let Some(outstanding) = established.channel.window.answer(message_id) else { return };
        if outstanding.exchange.child().is_some() || outstanding.exchange.ike().is_some() {
            let put_off = find_notify(&payloads, NotifyType::TemporaryFailure).is_some();
            if established.is_out_of_step(cx.now, put_off) {
                let what = format!("the peer has put off every new SA for {} s", OUT_OF_STEP.as_secs());
                return self.break_off(cx, what);
            }
        }
        match outstanding.exchange {
            Exchange::DeleteIke | Exchange::Refusal | Exchange::Auth | Exchange::Intermediate => {}
            Exchange::Liveness => established.heed_mapping(&self.path, &payloads),
            Exchange::FollowUp(follow_up) => self.follow_up_answered(cx, *follow_up, &payloads),
            Exchange::Update(told) => self.move_answered(cx, &told, &payloads),
            Exchange::Verify(cookie) => self.verification_answered(cx, &cookie, &payloads),
            Exchange::DeleteChildren(spis) => {
                for spi_in in spis {
                    if let Some(child) = established.children.remove(&spi_in) {
                        let expired = child.state == ChildState::Deleting { expired: true };
                        cx.news.push(News::ChildGone { spi_in, cause: expired.then_some(DownCause::RekeyFailed) });
                    }
                }
            }
            Exchange::Child(offer) => self.child_answered(cx, *offer, &payloads),
            Exchange::RekeyIke(offer) => self.ike_rekey_answered(cx, *offer, &payloads),
        }
    }

    /// Begins what waits, one request at a time.
    pub(in crate::sa) fn next_request(&mut self, cx: &mut Cx<'_>) {
        loop {
            let Stage::Established(established) = &mut self.stage else { return };
            let idle = !established.channel.window.is_busy()
                && established.link != Link::Lost
                && !established.undecided
                && !established.awaits_ike_rekey();
            let Some(task) = idle.then(|| established.queue.pop_front()).flatten() else { return };
            match task {
                Task::RekeyIke { group } => self.request_ike_rekey(cx, group),
                Task::Child { replaces, group } => self.request_child(cx, replaces, group),
                Task::DeleteChild(spi) => self.request_child_delete(cx, spi),
                Task::Liveness => self.request_liveness(cx),
                Task::Move => self.request_move(cx),
                Task::Verify => self.request_verification(cx),
                Task::CrashToken => self.request_crash_token(cx),
            }
        }
    }

    /// Sends a request; nothing is outstanding.
    pub(in crate::sa) fn request(&mut self, cx: &mut Cx<'_>, exchange: Exchange, payloads: &[ike_wire::Payload]) {
        let Stage::Established(established) = &mut self.stage else { return };
        let policy = established.retransmission();
        if let Err(error) = established.channel.request(cx.now, &self.path, policy, exchange, payloads, cx.out) {
            self.vanish(cx, DownCause::ProtocolError(error.to_string()));
        }
    }
}
