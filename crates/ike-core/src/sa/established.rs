//! An authenticated IKE SA: its messages, its clocks, what waits for its turn.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ike_crypto::CrashToken;
use ike_wire::{Certificate, Delete, ExchangeType, Header, IkeSpi, NotifyType, Payload, find_notify};
use net_types::Spi;

use super::{
    Child, Cx, Ending, IkeSa, News, Stage,
    channel::{Channel, Opened, notify, send},
    child::{ChildState, superfluous},
    exchange::{Exchange, Task},
    follow_up::Awaited,
    leaving::{Goodbye, Leaving},
    mobike::Mobility,
    window::Due,
};
use crate::{
    config::{ConnectionConfig, Doubt, Retransmission},
    event::{DownCause, Event},
    io::{Output, Path},
    nat::Nat,
    tunnel::{Phase, Standing},
};

/// A NAT forgets a mapping after some 30 s at the earliest (RFC 3948 §4: 20 s by default).
const NAT_KEEPALIVE: Duration = Duration::from_secs(20);
/// A peer that puts off all that it is asked for this long is out of step (RFC 7296 §2.25: several minutes).
const OUT_OF_STEP: Duration = Duration::from_secs(300);
/// Two refusals further apart than this do not belong together: each one of them was a collision.
const PUT_OFF_APART: Duration = Duration::from_secs(60);

/// What is true while the SA is in use.
pub(crate) struct Established {
    pub(crate) config: Arc<ConnectionConfig>,
    pub(super) channel: Channel,
    pub(super) children: BTreeMap<Spi, Child>,
    queue: VecDeque<Task>,
    /// Exchanges of the peer whose follow-ups are to come.
    pub(super) awaited: Vec<Awaited>,
    /// Since when the peer has put off all new SAs, and when it last did.
    put_off: Option<(Instant, Instant)>,
    /// When it was made.
    since: Instant,
    /// When the two sides last proved who they are; a rekey carries it on.
    pub(super) authenticated: Instant,
    /// When the peer last sent an authentic message.
    heard: Instant,
    /// When ESP was last received on one of the children.
    inbound_at: Option<Instant>,
    /// When it was noticed that packets go out after the peer's last sign of life.
    unanswered_at: Option<Instant>,
    /// When there was last a reason to doubt that the peer lives, or none was found.
    doubted_at: Instant,
    link: Link,
    pub(super) rekey_at: Option<Instant>,
    hard_at: Instant,
    /// When we authenticate anew, or when the peer that called has to have done so.
    pub(super) reauth_at: Option<Instant>,
    pub(super) lowest_nonce: Arc<[u8]>,
    /// Whether we made it, by a call or a rekey.
    pub(super) ours: bool,
    /// Whether the peer's call was the origin of this SA and those before it.
    pub(super) peer_called: bool,
    /// Made by the peer's rekey while ours was on the way: unused until it is clear which one stays.
    pub(super) undecided: bool,
    pub(super) nat: Nat,
    keepalive_at: Option<Instant>,
    pub(super) peer: Peer,
    /// What a later life of the peer shows for this SA (RFC 6290).
    pub(super) peer_token: Option<CrashToken>,
    /// `None` where one side cannot move.
    pub(super) mobility: Option<Mobility>,
}

/// Whom the peer proved to be.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// As it calls itself.
    pub(super) name: String,
    /// By what it proved it; none where by a pre-shared key.
    pub(super) certificates: Arc<[Certificate]>,
}

/// What the link under an SA has been through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Nothing.
    Fine,
    /// It is down.
    Lost,
    /// It was down; whether the peer still has the SA is unknown.
    Back,
}

/// What an SA is born with.
pub(super) struct Birth {
    pub(super) config: Arc<ConnectionConfig>,
    pub(super) channel: Channel,
    pub(super) lowest_nonce: Arc<[u8]>,
    pub(super) ours: bool,
    pub(super) peer_called: bool,
    pub(super) undecided: bool,
    pub(super) nat: Nat,
    pub(super) peer: Peer,
    pub(super) peer_token: Option<CrashToken>,
    pub(super) mobility: Option<Mobility>,
    pub(super) reauth_at: Option<Instant>,
}

impl Established {
    pub(super) fn new(cx: &mut Cx<'_>, birth: Birth) -> Self {
        let Birth {
            config,
            channel,
            lowest_nonce,
            ours,
            peer_called,
            undecided,
            nat,
            peer,
            peer_token,
            mobility,
            reauth_at,
        } = birth;
        let lifetime = config.ike_lifetime;
        let jitter = cx.up_to(lifetime.jitter);
        Self {
            channel,
            children: BTreeMap::new(),
            queue: VecDeque::new(),
            awaited: Vec::new(),
            put_off: None,
            since: cx.now,
            authenticated: cx.now,
            heard: cx.now,
            inbound_at: None,
            unanswered_at: None,
            doubted_at: cx.now,
            link: Link::Fine,
            rekey_at: Some(cx.now + lifetime.rekey.saturating_sub(jitter)),
            hard_at: cx.now + lifetime.hard,
            reauth_at,
            lowest_nonce,
            ours,
            peer_called,
            undecided,
            nat,
            keepalive_at: nat.we_are_behind.then(|| cx.now + NAT_KEEPALIVE),
            peer,
            peer_token,
            mobility,
            config,
        }
    }

    pub(super) fn standing(&self, path: &Path) -> Standing {
        if self.undecided {
            return Standing::Leaving;
        }
        Standing::Established {
            since: self.since,
            authenticated: self.authenticated,
            heard: self.heard,
            asking: self.is_asking(),
            suspect: self.link != Link::Fine,
            path: path.clone(),
            ours: self.ours,
            lowest_nonce: self.lowest_nonce.clone(),
        }
    }

    /// Whether a child SA that replaces none is wanted or under way.
    fn is_asking(&self) -> bool {
        let underway = self.channel.window.outstanding().and_then(|outstanding| outstanding.exchange.child());
        let underway = underway.is_some_and(|offer| offer.replaces.is_none());
        underway || self.queue.iter().any(|task| matches!(task, Task::Child { replaces: None, .. }))
    }

    /// When the peer last sent an authentic message.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// How often and how long a request is repeated.
    pub(super) fn retransmission(&self) -> Retransmission {
        Retransmission::within(self.config.dpd.timeout)
    }

    /// Puts a task at the end of the queue, unless it is there already.
    pub(super) fn enqueue(&mut self, task: Task) {
        if !self.queue.contains(&task) {
            self.queue.push_back(task);
        }
    }

    /// Puts a task before all others.
    pub(super) fn enqueue_first(&mut self, task: Task) {
        self.queue.retain(|other| *other != task);
        self.queue.push_front(task);
    }

    /// Takes note of whether the peer puts off a new SA; true if it has done nothing else for minutes.
    fn is_out_of_step(&mut self, now: Instant, put_off: bool) -> bool {
        let together = |(_, last): &(Instant, Instant)| now.saturating_duration_since(*last) < PUT_OFF_APART;
        let since = self.put_off.filter(together).map_or(now, |(since, _)| since);
        self.put_off = put_off.then_some((since, now));
        put_off && now.saturating_duration_since(since) >= OUT_OF_STEP
    }

    pub(super) fn alive_at(&self) -> Instant {
        self.inbound_at.map_or(self.heard, |at| at.max(self.heard))
    }

    /// The IKE SA out of the peer's rekey, while ours is on the way.
    fn rival(&self) -> Option<IkeSpi> {
        self.channel.window.outstanding()?.exchange.ike()?.rival.as_ref().map(|rival| rival.spi)
    }

    /// When it is time to doubt that the peer lives. What has been sent is looked at before, which is why that has a time
    /// even where nothing was.
    fn dpd_at(&self) -> Option<Instant> {
        let since = match self.config.dpd.doubt {
            Doubt::Silence => self.alive_at(),
            Doubt::NoAnswer => self.unanswered().unwrap_or(self.doubted_at),
        };
        (!self.channel.window.is_busy()).then(|| since + self.config.dpd.interval)
    }

    /// Since when packets have gone out without any sign of life coming back.
    fn unanswered(&self) -> Option<Instant> {
        self.unanswered_at.filter(|at| *at >= self.alive_at())
    }

    /// It is time to doubt that the peer lives: whether there is reason to.
    fn is_doubtful(&mut self, now: Instant) -> bool {
        self.doubted_at = now;
        match self.config.dpd.doubt {
            Doubt::Silence => true,
            Doubt::NoAnswer => self.unanswered().is_some(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let decided_by = self.undecided.then(|| self.decided_by());
        let always = [self.channel.window.deadline(), Some(self.hard_at), decided_by];
        let active = self.link != Link::Lost && !self.undecided;
        let clocks =
            [self.rekey_at, self.dpd_at(), self.keepalive_at, self.reroute_at(), self.awaited_until(), self.reauth_at];
        let children = self.children.values().map(Child::deadline).min();
        let superfluous = superfluous(&self.children).map(|(at, _)| at);
        let while_active = clocks.into_iter().chain([children, superfluous]).flatten().filter(|_| active);
        always.into_iter().flatten().chain(while_active).min()
    }

    /// By when the rekey that it came out of has ended one way or the other. Whose answers are lost for ever, as those of a
    /// peer that has restarted are, would leave it undecided.
    fn decided_by(&self) -> Instant {
        self.since + self.config.dpd.timeout.saturating_mul(2)
    }

    /// Whether its link is lost, so that nothing can be sent.
    pub(super) fn is_stranded(&self) -> bool {
        self.link == Link::Lost
    }

    /// There is a way to the peer again, or another one.
    pub(super) fn is_found(&mut self) {
        self.link = Link::Fine;
    }

    /// Whether the peer is not known to have been told where we are now.
    pub(super) fn is_to_tell_move(&self) -> bool {
        let outstanding = self.channel.window.outstanding();
        let underway = outstanding.is_some_and(|outstanding| matches!(outstanding.exchange, Exchange::Update(_)));
        underway || self.queue.contains(&Task::Move)
    }

    /// NAT detection has another result since a side moved.
    pub(super) fn found_nat(&mut self, now: Instant, nat: Nat) {
        self.nat = nat;
        self.keepalive_at = nat.we_are_behind.then(|| now + NAT_KEEPALIVE);
    }

    /// The peer has proved that it is there.
    fn hear(&mut self, now: Instant, news: &mut Vec<News>) {
        self.heard = now;
        if self.link == Link::Back {
            self.link = Link::Fine;
            news.push(News::Changed);
        }
    }
}

/// Whether a message closes the IKE SA.
fn is_farewell(opened: &Opened) -> bool {
    match opened {
        Opened::Payloads(payloads) => payloads.iter().any(|payload| matches!(payload, Payload::Delete(Delete::Ike))),
        Opened::Partial | Opened::Malformed(_) | Opened::Critical(_) => false,
    }
}

impl IkeSa {
    pub(super) fn established_datagram(&mut self, cx: &mut Cx<'_>, header: &Header, path: Path, bytes: &Bytes) {
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
    pub(super) fn respond(&mut self, cx: &mut Cx<'_>, header: &Header, payloads: &[ike_wire::Payload]) {
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
            Exchange::Liveness | Exchange::DeleteIke | Exchange::Refusal | Exchange::Auth | Exchange::Intermediate => {}
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
    pub(super) fn next_request(&mut self, cx: &mut Cx<'_>) {
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
                Task::Liveness => self.request(cx, Exchange::Liveness, &[]),
                Task::Move => self.request_move(cx),
                Task::Verify => self.request_verification(cx),
                Task::CrashToken => self.request_crash_token(cx),
            }
        }
    }

    /// Sends a request; nothing is outstanding.
    pub(super) fn request(&mut self, cx: &mut Cx<'_>, exchange: Exchange, payloads: &[ike_wire::Payload]) {
        let Stage::Established(established) = &mut self.stage else { return };
        let policy = established.retransmission();
        if let Err(error) = established.channel.request(cx.now, &self.path, policy, exchange, payloads, cx.out) {
            self.vanish(cx, DownCause::ProtocolError(error.to_string()));
        }
    }

    pub(super) fn established_timeout(&mut self, cx: &mut Cx<'_>) {
        let Stage::Established(established) = &mut self.stage else { return };
        let alive = established.alive_at();
        let rival = established.rival();
        match established.channel.window.due(cx.now, rival.is_none().then_some(alive)) {
            Due::Nothing => {}
            Due::Again(packets) => send(&self.path, &packets, cx.out),
            // It lives, and on its own rekey's SA: it has forgotten this one.
            Due::GiveUp { waited } if rival.is_some() && alive + waited > cx.now => {
                return rival.into_iter().for_each(|rival| self.elect(cx, rival));
            }
            Due::GiveUp { .. } => {
                let silent_for = cx.now.saturating_duration_since(established.alive_at());
                let cause = match established.link {
                    Link::Lost => DownCause::LinkDown,
                    Link::Fine | Link::Back => DownCause::DpdTimeout { silent_for },
                };
                return self.lose(cx, cause);
            }
        }
        if cx.now >= established.hard_at {
            return self.close(cx, DownCause::RekeyFailed);
        }
        if established.undecided && cx.now >= established.decided_by() {
            // Now it is asked whether it lives, like any other.
            established.undecided = false;
            cx.news.push(News::Changed);
        }
        if established.link == Link::Lost || established.undecided {
            return;
        }
        if established.reauth_at.is_some_and(|at| cx.now >= at) {
            self.reauth_due(cx);
        }
        let Stage::Established(established) = &mut self.stage else { return };
        if established.reroute_at().is_some_and(|at| cx.now >= at) {
            self.reroute(cx);
        }
        let Stage::Established(established) = &mut self.stage else { return };
        established.drop_overdue(cx.now);
        if established.rekey_at.take_if(|at| cx.now >= *at).is_some() {
            established.enqueue(Task::RekeyIke { group: None });
        }
        let due: Vec<_> = established.children.iter_mut().filter_map(|(spi, child)| child.due(cx.now, *spi)).collect();
        for task in due {
            if let Task::DeleteChild(spi_in) = task {
                cx.news.push(News::ChildPhase(spi_in, Phase::Leaving));
            }
            established.enqueue(task);
        }
        if let Some((_, spi_in)) = superfluous(&established.children).filter(|(at, _)| cx.now >= *at) {
            self.retire(cx, spi_in, Phase::Leaving);
            self.plan_child_delete(spi_in);
        }
        let Stage::Established(established) = &mut self.stage else { return };
        if established.dpd_at().is_some_and(|at| cx.now >= at) && established.is_doubtful(cx.now) {
            established.enqueue(Task::Liveness);
        }
        if established.keepalive_at.take_if(|at| cx.now >= *at).is_some() {
            established.keepalive_at = Some(cx.now + NAT_KEEPALIVE);
            cx.out.push(Output::NatKeepalive { path: self.path.clone() });
        }
    }

    /// Whether this SA's own rekey, still on the way, has that rival; then it gives way to it.
    pub(crate) fn elect(&mut self, cx: &mut Cx<'_>, rival: IkeSpi) {
        let Stage::Established(established) = &mut self.stage else { return };
        if established.rival() == Some(rival) {
            established.channel.window.abandon();
            self.bequeath(cx, rival, Goodbye::Expected);
        }
    }

    /// The peer does not answer any more.
    fn lose(&mut self, cx: &mut Cx<'_>, cause: DownCause) {
        if let Stage::Established(established) = &mut self.stage {
            let rival =
                established.channel.window.abandon().and_then(|outstanding| outstanding.exchange.into_ike_rival());
            cx.news.extend(rival.map(|rival| News::CloseRival(rival.spi)));
        }
        self.vanish(cx, cause);
    }

    /// Ends its use: the children go, and the peer is told.
    pub(crate) fn close(&mut self, cx: &mut Cx<'_>, cause: DownCause) {
        match &self.stage {
            Stage::Established(_) => {
                self.log_closed(cx, cause.clone());
                cx.news.push(News::Ended(Ending::Lost(cause)));
                self.leave(cx, Goodbye::Due);
            }
            Stage::Calling(_) | Stage::HalfOpen(_) | Stage::Mixing(_) | Stage::Proving(_) => self.vanish(cx, cause),
            Stage::Leaving(_) | Stage::Over => {}
        }
    }

    /// As [`IkeSa::close`], because another SA has taken its place.
    pub(crate) fn close_superseded(&mut self, cx: &mut Cx<'_>) {
        if let Stage::Established(established) = &self.stage {
            let goodbye_for = established.config.dpd.timeout;
            cx.news.push(News::Ended(Ending::Superseded));
            self.end_children(cx);
            if let Stage::Established(established) = std::mem::replace(&mut self.stage, Stage::Over) {
                let leaving = Leaving::new(cx.now, established.channel, Goodbye::Due).insist(cx.now, goodbye_for);
                self.stage = Stage::Leaving(Box::new(leaving));
                self.say_goodbye(cx);
            }
        }
    }

    /// Another SA has taken its place, and closing it is the peer's part.
    pub(crate) fn await_close(&mut self, cx: &mut Cx<'_>) {
        if self.is_established() {
            cx.news.push(News::Ended(Ending::Superseded));
            self.leave(cx, Goodbye::Expected);
        }
    }

    /// From established to leaving.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_>, goodbye: Goodbye) {
        self.end_children(cx);
        if let Stage::Established(established) = std::mem::replace(&mut self.stage, Stage::Over) {
            self.stage = Stage::Leaving(Box::new(Leaving::new(cx.now, established.channel, goodbye)));
            self.say_goodbye(cx);
        }
    }

    /// The peer broke the protocol in an authentic message: the SA cannot go on (RFC 7296 §2.21.3).
    pub(super) fn break_off(&mut self, cx: &mut Cx<'_>, what: String) {
        self.close(cx, DownCause::ProtocolError(what));
    }

    /// RFC 7296 §2.23: the address of a peer behind a NAT follows its authentic messages.
    fn follow(&mut self, cx: &mut Cx<'_>, path: Path) {
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
    pub(super) fn repeat(&mut self, cx: &mut Cx<'_>) -> bool {
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
