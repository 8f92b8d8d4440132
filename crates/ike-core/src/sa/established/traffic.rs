//! What the engine tells an IKE SA in use: packets that came and went, links, and what the tunnel wants.

use std::{collections::BTreeMap, time::Instant};

use net_types::Spi;

use super::Link;
use crate::{
    event::{DownCause, Event},
    io::{Output, Path},
    sa::{Child, Cx, IkeSa, News, Stage, channel::send, child::ChildState, exchange::Task},
    tunnel::Phase,
};

impl IkeSa {
    /// RFC 7296 §2.23: the address of a peer behind a NAT follows its authentic messages.
    pub(super) fn follow(&mut self, cx: &mut Cx<'_>, path: Path) {
        let Stage::Established(established) = &mut self.stage else { return };
        let moved = path.remote != self.path.remote
            && (path.local, &path.wan, path.natt) == (self.path.local, &self.path.wan, self.path.natt);
        let may_move = established.peer_called
            && established.nat.peer_is_behind
            && established.config.remote.allows(path.remote.ip());
        if !moved || !may_move {
            return;
        }
        let tunnel = established.config.tunnel.clone();
        cx.out.push(Output::Event(Event::PeerMoved { tunnel, from: self.path.remote, to: path.remote }));
        for spi_in in established.children.keys() {
            let (tunnel, spi_in, path) = (established.config.tunnel.clone(), *spi_in, path.clone());
            cx.out.push(Output::MoveChild { tunnel, spi_in, path });
        }
        if let Some(mobility) = &mut established.mobility {
            mobility.is_carried_by(path.clone());
        }
        self.path = path;
        cx.news.push(News::Changed);
    }

    /// ESP came in on one of its children.
    pub(crate) fn inbound_seen(&mut self, cx: &mut Cx<'_>, spi_in: Spi, at: Instant) {
        let Stage::Established(established) = &mut self.stage else { return };
        let Some(child) = established.children.get_mut(&spi_in) else { return };
        if !std::mem::replace(&mut child.ready, true) {
            cx.news.push(News::ChildReady(spi_in));
        }
        // Not later than now: a clock that runs ahead must not keep a dead peer alive.
        let at = at.min(cx.now);
        established.inbound_at = Some(established.inbound_at.map_or(at, |before| before.max(at)));
    }

    /// ESP went out on one of its children, later than `since`.
    pub(crate) fn outbound_seen(&mut self, cx: &Cx<'_>, since: Instant) {
        let Stage::Established(established) = &mut self.stage else { return };
        // What may have been sent before the last sign of life was perhaps answered by it.
        if since >= established.alive_at() && established.unanswered().is_none() {
            established.unanswered_at = Some(cx.now);
        }
    }

    /// ESP came in from elsewhere (RFC 7296 §2.23). A mobile peer says where it is, and what it sent before it moved may
    /// still arrive: only its port is followed.
    pub(crate) fn inbound_from(&mut self, cx: &mut Cx<'_>, path: Path) {
        if !self.is_mobile() || path.remote.ip() == self.path.remote.ip() {
            self.follow(cx, path);
        }
    }

    /// A volume limit of a child was reached.
    pub(crate) fn child_limit(&mut self, cx: &mut Cx<'_>, spi_in: Spi, hard: bool) {
        let Stage::Established(established) = &mut self.stage else { return };
        let Some(child) = established.children.get_mut(&spi_in) else { return };
        if hard {
            if !matches!(child.state, ChildState::Deleting { .. }) {
                let task = child.expire(cx.now, spi_in);
                established.enqueue_first(task);
                cx.news.push(News::ChildPhase(spi_in, Phase::Leaving));
            }
        } else if matches!(child.state, ChildState::Live { .. }) {
            child.state = ChildState::Rekeying;
            established.enqueue(Task::Child { replaces: Some(spi_in), group: None });
        }
    }

    /// The operator wants a new child in place of this one, or a new IKE SA.
    pub(crate) fn rekey_now(&mut self, cx: &mut Cx<'_>, child: Option<Spi>) {
        match (child, &mut self.stage) {
            (Some(spi_in), _) => self.child_limit(cx, spi_in, false),
            (None, Stage::Established(established)) => {
                if established.rekey_at.take().is_some() {
                    established.enqueue(Task::RekeyIke { group: None });
                }
            }
            (None, _) => {}
        }
    }

    /// The tunnel has no child and wants one.
    pub(crate) fn want_child(&mut self) {
        if let Stage::Established(established) = &mut self.stage
            && !established.is_asking()
        {
            established.enqueue(Task::Child { replaces: None, group: None });
        }
    }

    /// A sign of life is wanted.
    pub(crate) fn want_proof(&mut self, cx: &mut Cx<'_>) {
        let Stage::Established(established) = &mut self.stage else { return };
        match established.channel.window.is_busy() {
            true => {
                established.channel.window.hasten(); // any answer is one
                self.established_timeout(cx);
            }
            false => established.enqueue_first(Task::Liveness),
        }
    }

    /// The link went down.
    pub(crate) fn link_lost(&mut self, cx: &mut Cx<'_>) {
        match &mut self.stage {
            Stage::Established(established) => {
                established.link = Link::Lost;
                cx.news.push(News::Changed);
            }
            Stage::Calling(_) | Stage::HalfOpen(_) | Stage::Mixing(_) | Stage::Proving(_) => {
                self.vanish(cx, DownCause::LinkDown);
            }
            Stage::Leaving(_) | Stage::Over => {}
        }
    }

    /// The link is back and so is our address: does the peer still know the SA?
    pub(crate) fn link_back(&mut self, cx: &mut Cx<'_>) {
        let Stage::Established(established) = &mut self.stage else { return };
        if established.link != Link::Lost {
            return;
        }
        established.link = Link::Back;
        if !self.repeat(cx) {
            self.want_proof(cx);
        }
    }

    /// Sends the request on the way again, as if for the first time; false if there is none.
    pub(in crate::sa) fn repeat(&mut self, cx: &mut Cx<'_>) -> bool {
        let Stage::Established(established) = &mut self.stage else { return false };
        let policy = established.retransmission();
        let packets = established.channel.window.restart(cx.now, policy);
        packets.inspect(|packets| send(&self.path, packets, cx.out)).is_some()
    }

    /// The children of the SA that this one replaces.
    pub(crate) fn inherit(&mut self, cx: &mut Cx<'_>, children: BTreeMap<Spi, Child>, path: &Path) {
        let Stage::Established(established) = &mut self.stage else {
            // It did not live long enough: neither do they.
            return cx.news.extend(children.into_keys().map(|spi_in| News::ChildGone { spi_in, cause: None }));
        };
        established.undecided = false;
        // One of the two sides may have moved since this SA was made.
        let own = established.carried_by(&self.path);
        for (spi_in, mut child) in children {
            if own != *path {
                let tunnel = established.config.tunnel.clone();
                cx.out.push(Output::MoveChild { tunnel, spi_in, path: own.clone() });
            }
            child.adopt(cx.now);
            established.children.insert(spi_in, child);
        }
        cx.news.push(News::Changed);
        // Its clocks stood still while it was undecided; what has become due meanwhile is due now.
        self.established_timeout(cx);
    }
}
