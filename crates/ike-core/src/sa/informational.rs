//! INFORMATIONAL requests: deletes, errors, signs of life (RFC 7296 §1.4).

use ike_wire::{Delete, Header, NotifyType, Payload, ProtocolId, find_notify};

use super::{
    Cx, Ending, IkeSa, News, Stage,
    child::ChildState,
    exchange::{Exchange, Task},
    leaving::Goodbye,
};
use crate::event::{DownCause, Event, Refusal};

impl IkeSa {
    pub(super) fn informational_requested(&mut self, cx: &mut Cx<'_>, header: &Header, payloads: &[Payload]) {
        let deleted = payloads.iter().any(|payload| matches!(payload, Payload::Delete(Delete::Ike)));
        if deleted {
            // RFC 7296 §1.4.1: an empty answer; the children need no mention.
            self.respond(cx, header, &[]);
            return self.deleted_by_peer(cx);
        }
        if find_notify(payloads, NotifyType::AuthenticationFailed).is_some() {
            // RFC 7296 §2.21.2: the initiator did not accept who we are.
            self.respond(cx, header, &[]);
            let why = Refusal::ByPeer;
            cx.log(Event::Refused { tunnel: self.tunnel.clone(), remote: self.path.remote, why: why.clone() });
            cx.news.push(News::Ended(Ending::Refused(why)));
            return self.leave(cx, Goodbye::Done);
        }
        self.take_token(payloads);
        let about_addresses = self.mobility_requested(cx, payloads);
        let mut answer = Vec::new();
        for payload in payloads {
            if let Payload::Delete(Delete::Child { protocol: ProtocolId::Esp, spis }) = payload {
                answer.extend(spis.iter().filter_map(|spi_out| self.child_deleted_by_peer(cx, *spi_out)));
            }
        }
        let mut answer = match &answer[..] {
            [] => Vec::new(),
            _ => vec![Payload::Delete(Delete::Child { protocol: ProtocolId::Esp, spis: answer })],
        };
        answer.extend(about_addresses);
        self.respond(cx, header, &answer);
    }

    /// The peer closes the IKE SA.
    fn deleted_by_peer(&mut self, cx: &mut Cx<'_>) {
        let Stage::Established(established) = &mut self.stage else { return };
        let rival = established.channel.window.abandon().and_then(|outstanding| outstanding.exchange.into_ike_rival());
        match rival {
            // It has replaced it by its own rekey; our colliding one came to nothing.
            Some(rival) => {
                let (children, path) = (std::mem::take(&mut established.children), established.carried_by(&self.path));
                cx.news.push(News::Inherit { heir: rival.spi, children, path });
                cx.news.push(News::Ended(Ending::Superseded));
            }
            None if established.undecided => cx.news.push(News::Ended(Ending::Superseded)),
            None => {
                self.log_closed(cx, DownCause::PeerDeleted);
                cx.news.push(News::Ended(Ending::Lost(DownCause::PeerDeleted)));
            }
        }
        self.leave(cx, Goodbye::Done);
    }

    /// The peer closes the pair that it receives on with this SPI; gives our half for the answer, if it is to be in it.
    fn child_deleted_by_peer(&mut self, cx: &mut Cx<'_>, spi_out: u32) -> Option<u32> {
        let Stage::Established(established) = &mut self.stage else { return None };
        let known = established.children.iter().find(|(_, child)| child.spi_out.get() == spi_out);
        let Some(spi_in) = known.map(|(spi_in, _)| *spi_in) else {
            let outstanding = established.channel.window.outstanding_mut()?;
            outstanding.exchange.child_mut()?.note_deleted(spi_out);
            return None;
        };
        let child = established.children.remove(&spi_in)?;
        let missed = matches!(child.state, ChildState::Live { .. } | ChildState::Rekeying);
        cx.news.push(News::ChildGone { spi_in, cause: missed.then_some(DownCause::PeerDeleted) });
        // RFC 7296 §1.4.1: if both sides delete the same pair at once, neither names it in its answer.
        let crossing = established.channel.window.outstanding().is_some_and(
            |outstanding| matches!(&outstanding.exchange, Exchange::DeleteChildren(spis) if spis.contains(&spi_in)),
        );
        (!crossing).then_some(spi_in.get())
    }

    /// Closes a pair of ours.
    pub(super) fn request_child_delete(&mut self, cx: &mut Cx<'_>, spi_in: net_types::Spi) {
        let Stage::Established(established) = &mut self.stage else { return };
        let Some(child) = established.children.get_mut(&spi_in) else { return };
        if !matches!(child.state, ChildState::Deleting { .. }) {
            child.state = ChildState::Deleting { expired: false };
        }
        let delete = Delete::Child { protocol: ProtocolId::Esp, spis: vec![spi_in.get()] };
        self.request(cx, Exchange::DeleteChildren(vec![spi_in]), &[Payload::Delete(delete)]);
    }

    /// Closes a pair of ours when its turn comes.
    pub(super) fn plan_child_delete(&mut self, spi_in: net_types::Spi) {
        if let Stage::Established(established) = &mut self.stage {
            established.enqueue(Task::DeleteChild(spi_in));
        }
    }
}
