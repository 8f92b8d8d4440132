//! An authenticated IKE SA: its messages, its clocks, what waits for its turn.

mod clocks;
mod ending;
mod messages;
mod traffic;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use ike_crypto::CrashToken;
use ike_wire::{Certificate, IkeSpi};
use net_types::Spi;

use super::{
    Child, Cx, News,
    channel::Channel,
    child::superfluous,
    exchange::{Exchange, Task},
    follow_up::Awaited,
    mobike::Mobility,
};
use crate::{
    config::{ConnectionConfig, Doubt, Dpd, Retransmission},
    io::Path,
    nat::Nat,
    tunnel::Standing,
};

/// How often in an interval of dead peer detection on demand it is looked at what has been sent: by one such part of it a dead
/// peer may be asked later than it should.
const LOOKS: u32 = 4;
/// Between two looks at least: each costs as much as there are tunnels.
const LOOK: Duration = Duration::from_millis(50);
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
        let Dpd { doubt, interval, .. } = self.config.dpd;
        let at = match doubt {
            Doubt::Silence => self.alive_at() + interval,
            Doubt::NoAnswer => match self.unanswered() {
                Some(since) => since + interval,
                None => self.doubted_at + interval.min((interval / LOOKS).max(LOOK)),
            },
        };
        (!self.channel.window.is_busy()).then_some(at)
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
