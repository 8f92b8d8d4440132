//! The thread between two neighbors and a FIB, all of them made of channels.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc as std_mpsc,
    },
};

use bgp_core::{
    rib::{LocalAddresses, LocalRoute, LocalSource, PathState, Protection, Source as RouteSource},
    session::{DownReason, RemoteAs, Retain, SessionConfig},
};
use bgp_wire::{
    Announcement, AsPath, Attributes, GracefulRestart, GracefulRestartFamily, Message, Negotiated, PeerKind, Reach,
    Update,
};
use net_types::{Asn, RouterId};

use super::*;
use crate::peer::{Link, RouteQueue, SessionUp};

const V4: Family = Family::Ipv4Unicast;
const PATIENCE: Duration = Duration::from_secs(20);

/// What the thread told the outside.
#[derive(Debug, PartialEq)]
enum Seen {
    Fib { prefix: String, best: Option<RouteSource>, protect: bool },
    Event(RibEvent),
    EndOfRib(PeerId),
    Idle,
}

#[derive(Clone)]
struct Outside {
    seen: std_mpsc::Sender<Seen>,
    wanted: std_mpsc::Sender<NextHopKey>,
    fib_room: Arc<AtomicUsize>,
}

impl Outlet for Outside {
    fn fib_room(&self) -> usize {
        self.fib_room.load(Ordering::SeqCst)
    }
    fn fib_changes(&self, changes: Vec<BestChange>) {
        assert!(changes.len() <= self.fib_room());
        for change in changes {
            let (prefix, best) = (change.prefix.to_string(), change.best.map(|path| path.source));
            self.tell(Seen::Fib { prefix, best, protect: change.protect });
        }
    }
    fn next_hop_room(&self) -> usize {
        1
    }
    fn next_hop(&self, event: NextHopEvent) {
        if let NextHopEvent::Wanted(key) = event {
            self.wanted.send(key).unwrap_or_default(); // the test may be over
        }
    }
    fn event(&self, event: RibEvent) {
        self.tell(Seen::Event(event));
    }
    fn end_of_rib(&self, peer: PeerId, _: Family) {
        self.tell(Seen::EndOfRib(peer));
    }
    fn idle(&self) {
        self.tell(Seen::Idle);
    }
}

impl Outside {
    fn tell(&self, seen: Seen) {
        self.seen.send(seen).unwrap_or_default(); // the test may be over
    }
}

struct Lab {
    rib: RibHandle,
    seen: std_mpsc::Receiver<Seen>,
    fib_room: Arc<AtomicUsize>,
}

/// The last that the FIB was told of each prefix: best path and protection.
type Told = BTreeMap<String, (Option<RouteSource>, bool)>;

/// One neighbor: AS 65100 + its number at 192.0.2.number.
struct Neighbor {
    id: PeerId,
    events: mpsc::Sender<PeerEvent>,
    queue: RouteQueue,
    negotiated: Negotiated,
}

fn address(peer: PeerId) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, peer.0 as u8)
}

fn router_id(number: u32) -> RouterId {
    RouterId::try_from(number).unwrap()
}

/// What AS `asn` says of itself to AS `remote`.
fn session(asn: u32, remote: u32) -> SessionConfig {
    let [own, remote] = [asn, remote].map(|number| Asn::try_from(number).unwrap());
    let restart = GracefulRestart {
        restarting: false,
        notification: true,
        restart_seconds: 120,
        families: vec![GracefulRestartFamily::new(V4, true)],
    };
    SessionConfig {
        graceful_restart: Some(restart),
        ..SessionConfig::new(own, router_id(asn), RemoteAs::Exactly(remote))
    }
}

impl Lab {
    fn new() -> Self {
        let (seen_in, seen) = std_mpsc::channel();
        let (wanted_in, wanted) = std_mpsc::channel::<NextHopKey>();
        let fib_room = Arc::new(AtomicUsize::new(1000));
        let config = RibConfig::new(Asn::literal(65001), router_id(1), 5);
        let outlet = Outside { seen: seen_in, wanted: wanted_in, fib_room: Arc::clone(&fib_room) };
        let (rib, _) = spawn(config, outlet).unwrap();
        let answers = rib.clone();
        // Every next hop is on a link of its own.
        thread::spawn(move || {
            while let Ok(key) = wanted.recv() {
                let resolved = Resolved { ifindex: 2, gateway: Some(key.address), metric: 0 };
                if answers.apply_blocking(move |rib, _| rib.next_hop_resolved(key, Some(resolved))).is_err() {
                    return;
                }
            }
        });
        Self { rib, seen, fib_room }
    }

    async fn neighbor(&self, number: u32) -> Neighbor {
        let id = PeerId(number);
        let mut config = PeerConfig::new(address(id).into(), PeerKind::External, Asn::literal(65001));
        config.protection = Protection::OnFailure;
        let events = self.rib.add_peer(id, config, Duration::from_secs(360)).await.unwrap();
        let negotiated =
            session(65001, 65100 + number).agree(&session(65100 + number, 65001).open()).unwrap().negotiated;
        // It reads what we write, whose paths start with our AS.
        let negotiated = Negotiated { enforce_first_as: None, ..negotiated };
        let neighbor = Neighbor { id, events, queue: RouteQueue::new(), negotiated };
        neighbor.up().await;
        neighbor
    }

    /// What the FIB was told until `last` came, latest word for each prefix.
    fn until(&self, last: &Seen) -> (Told, Vec<Seen>) {
        let (mut fib, mut others) = (BTreeMap::new(), Vec::new());
        loop {
            let seen =
                self.seen.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {last:?} after {fib:?}, {others:?}"));
            let over = seen == *last;
            match seen {
                Seen::Fib { prefix, best, protect } => drop(fib.insert(prefix, (best, protect))),
                other => others.push(other),
            }
            if over {
                return (fib, others);
            }
        }
    }

    /// Waits until the table has chosen so, whatever the FIB knows.
    async fn chosen(&self, prefix: &str, best: PeerId) {
        let (prefix, deadline): (Prefix, _) = (prefix.parse().unwrap(), Instant::now() + PATIENCE);
        loop {
            let route = self.rib.query(move |rib, now| rib.route(now, &prefix)).await.unwrap();
            let path = route.as_ref().and_then(|route| route.paths.first());
            if path.is_some_and(|path| path.state == PathState::Best && path.source == RouteSource::Peer(best)) {
                return;
            }
            assert!(Instant::now() < deadline, "{best} is not the best for {prefix}: {route:?}");
        }
    }

    /// Waits until the FIB was told so, and skips what it was told before.
    fn told(&self, prefix: &str, best: Option<PeerId>, protect: bool) {
        self.until(&Seen::Fib { prefix: prefix.into(), best: best.map(RouteSource::Peer), protect });
    }
}

impl Neighbor {
    async fn send(&self, event: PeerEvent) {
        self.events.send(event).await.unwrap();
    }

    async fn up(&self) {
        let number = self.id.0;
        let terms = session(65001, 65100 + number).agree(&session(65100 + number, 65001).open()).unwrap();
        let addresses = LocalAddresses { v4: Some(Ipv4Addr::new(192, 0, 2, 100)), ..Default::default() };
        let up = SessionUp {
            peer: self.id,
            terms,
            local: (Ipv4Addr::new(192, 0, 2, 100), 179).into(),
            remote: (address(self.id), 179).into(),
            link: Link { addresses, ifindex: 2, subnets: Vec::new() },
            queue: self.queue.clone(),
            at: Instant::now(),
        };
        self.send(PeerEvent::Up(Box::new(up))).await;
    }

    async fn down(&self, retain: Option<Retain>) {
        let (reason, at) = (DownReason::TransportLost, Instant::now());
        self.send(PeerEvent::Down { peer: self.id, reason, retain, at }).await;
    }

    async fn routes(&self, update: Update) {
        self.send(PeerEvent::Routes { peer: self.id, updates: vec![update] }).await;
    }

    async fn announce(&self, hops: u32, prefixes: &[&str]) {
        let path = (0..hops).map(|hop| Asn::try_from(if hop == 0 { 65100 + self.id.0 } else { 64000 }).unwrap());
        let attributes = Attributes { as_path: AsPath::sequence(path), ..Attributes::default() };
        let prefixes = prefixes.iter().map(|text| text.parse().unwrap()).collect();
        let next_hop = IpAddr::from(address(self.id)).into();
        let announced = [Announcement { family: V4, next_hop, prefixes }].into_iter().collect();
        self.routes(Update { reach: Some(Reach { attributes, announced }), ..Update::default() }).await;
    }

    async fn withdraw(&self, prefixes: &[&str]) {
        let withdrawn = prefixes.iter().map(|text| text.parse().unwrap()).collect();
        self.routes(Update { withdrawn, ..Update::default() }).await;
    }

    async fn end_of_rib(&self) {
        self.routes(Update { end_of_rib: Some(V4), ..Update::default() }).await;
    }

    /// Reads what was sent to it until the table `knows` of nothing more for it: `+prefix path`, `-prefix`, `.`.
    async fn hears(&self, lab: &Lab) -> Vec<String> {
        let (id, mut messages, deadline) = (self.id, VecDeque::new(), Instant::now() + PATIENCE);
        loop {
            // The table is asked before the queue is emptied: what it had handed over then is read now.
            let owes = lab.rib.query(move |rib, _| rib.owes(id) || rib.has_work()).await.unwrap();
            let room_again = self.queue.drain(usize::MAX, &mut messages);
            if room_again {
                self.send(PeerEvent::Writable { peer: id }).await;
            }
            if !owes {
                break;
            }
            assert!(Instant::now() < deadline, "the table owes {id} something and does not send it");
        }
        let mut heard = Vec::new();
        for chunk in messages {
            let mut rest = &chunk.octets[..];
            while let Some(length) = bgp_wire::frame_length(rest, self.negotiated.max_message_octets()).unwrap() {
                heard.extend(self.read(&rest[..length]));
                rest = &rest[length..];
            }
        }
        heard
    }

    fn read(&self, message: &[u8]) -> Vec<String> {
        let Message::Update(update) = Message::parse(message, &self.negotiated).unwrap().message else {
            panic!("only UPDATEs are sent by the table")
        };
        let mut heard: Vec<_> = update.withdrawn.iter().map(|prefix| format!("-{prefix}")).collect();
        if let Some(reach) = update.reach {
            let path = reach.attributes.as_path.to_string();
            let prefixes = reach.announced.iter().flat_map(|announcement| &announcement.prefixes);
            heard.extend(prefixes.map(|prefix| format!("+{prefix} {path}")));
        }
        heard.extend(update.end_of_rib.map(|_| ".".to_owned()));
        heard
    }
}

#[tokio::test]
async fn routes_flow_from_one_neighbor_to_the_fib_and_the_other_neighbor() {
    let lab = Lab::new();
    let (a, b) = (lab.neighbor(1).await, lab.neighbor(2).await);
    a.announce(1, &["10.0.0.0/8", "10.1.0.0/16"]).await;
    lab.told("10.1.0.0/16", Some(a.id), true);
    let mut heard = b.hears(&lab).await;
    heard.sort();
    assert_eq!(heard, ["+10.0.0.0/8 65001 65101", "+10.1.0.0/16 65001 65101", "."]);
    a.withdraw(&["10.1.0.0/16"]).await;
    lab.told("10.1.0.0/16", None, false);
    assert_eq!(b.hears(&lab).await, ["-10.1.0.0/16"]);
    assert_eq!(a.hears(&lab).await, ["."], "nothing of its own comes back to it");
}

#[tokio::test]
async fn a_session_that_ends_moves_its_routes_or_protects_them() {
    let lab = Lab::new();
    let (a, b) = (lab.neighbor(1).await, lab.neighbor(2).await);
    a.announce(1, &["10.0.0.0/8", "10.1.0.0/16"]).await;
    b.announce(2, &["10.0.0.0/8"]).await;
    lab.told("10.1.0.0/16", Some(a.id), true);
    b.hears(&lab).await;
    while lab.seen.try_recv().is_ok() {}
    a.down(None).await;
    let (fib, others) = lab.until(&Seen::Idle);
    let departed = |family| Seen::Event(RibEvent::Departed { peer: a.id, family });
    assert!(others.contains(&departed(V4)), "{others:?}");
    assert_eq!(fib["10.0.0.0/8"], (Some(RouteSource::Peer(b.id)), true));
    assert_eq!(fib["10.1.0.0/16"], (None, true), "blackholed, not leaked");
    assert_eq!(b.hears(&lab).await, ["-10.0.0.0/8", "-10.1.0.0/16"]);
}

#[tokio::test]
async fn a_neighbor_that_restarts_gracefully_keeps_its_routes_until_it_has_spoken() {
    let lab = Lab::new();
    let a = lab.neighbor(1).await;
    a.announce(1, &["10.0.0.0/8", "10.1.0.0/16"]).await;
    lab.told("10.1.0.0/16", Some(a.id), true);
    let restart = Retain {
        families: FamilySet::from(V4),
        restart_time: Duration::from_secs(120),
        long_lived: [Duration::ZERO; Family::COUNT],
    };
    a.down(Some(restart)).await;
    let (fib, _) = lab.until(&Seen::Event(RibEvent::Departed { peer: a.id, family: V4 }));
    assert!(fib.values().all(|(best, _)| best.is_some()), "{fib:?}");
    a.up().await;
    a.announce(1, &["10.0.0.0/8"]).await;
    a.end_of_rib().await;
    let (fib, _) = lab.until(&Seen::EndOfRib(a.id));
    assert!(fib.values().all(|(best, _)| best.is_some()), "{fib:?}");
    lab.told("10.1.0.0/16", None, false);
    let counters = lab.rib.query(move |rib, _| rib.counters(RouteSource::Peer(PeerId(1)), V4)).await.unwrap().unwrap();
    assert_eq!((counters.received, counters.leftover), (1, 0));
}

#[tokio::test]
async fn a_tunnel_known_dead_ends_the_wait_for_a_restart() {
    let lab = Lab::new();
    let a = lab.neighbor(1).await;
    a.announce(1, &["10.0.0.0/8"]).await;
    lab.told("10.0.0.0/8", Some(a.id), true);
    let restart = Retain {
        families: FamilySet::from(V4),
        restart_time: Duration::from_secs(120),
        long_lived: [Duration::ZERO; Family::COUNT],
    };
    a.down(Some(restart)).await;
    lab.until(&Seen::Event(RibEvent::Departed { peer: a.id, family: V4 }));
    lab.rib.peer_lost(a.id).await.unwrap();
    lab.told("10.0.0.0/8", None, true);
}

#[tokio::test]
async fn a_task_that_ends_without_a_word_ends_its_session() {
    let lab = Lab::new();
    let a = lab.neighbor(1).await;
    a.announce(1, &["10.0.0.0/8"]).await;
    lab.told("10.0.0.0/8", Some(a.id), true);
    drop(a);
    lab.told("10.0.0.0/8", None, true);
}

#[tokio::test]
async fn a_fib_without_room_holds_nobody_up_and_gets_the_latest_only() {
    let lab = Lab::new();
    let (a, b) = (lab.neighbor(1).await, lab.neighbor(2).await);
    lab.fib_room.store(0, Ordering::SeqCst);
    for hops in 1..50 {
        a.announce(hops, &["10.0.0.0/8"]).await;
    }
    b.announce(50, &["10.0.0.0/8"]).await;
    lab.chosen("10.0.0.0/8", a.id).await;
    let heard = b.hears(&lab).await;
    assert!(heard.last().is_some_and(|last| last.starts_with("+10.0.0.0/8 65001 65101")), "{heard:?}");
    b.announce(9, &["10.0.0.0/8"]).await;
    lab.chosen("10.0.0.0/8", b.id).await;
    assert!(!lab.seen.try_iter().any(|seen| matches!(seen, Seen::Fib { .. })));
    lab.fib_room.store(1, Ordering::SeqCst);
    lab.rib.wake();
    let (fib, others) = lab.until(&Seen::Idle);
    assert_eq!(fib["10.0.0.0/8"], (Some(RouteSource::Peer(b.id)), true), "{others:?}");
}

#[tokio::test]
async fn a_neighbor_that_reads_slowly_is_sent_no_more_than_fits_and_then_the_rest() {
    let lab = Lab::new();
    let (a, b) = (lab.neighbor(1).await, lab.neighbor(2).await);
    // Different paths for each, so that each takes a message of its own.
    let count = 20_000u32;
    let texts: Vec<_> = (0..count).map(|n| format!("{}/32", Ipv4Addr::from(0x0a00_0000 + n))).collect();
    for (n, text) in texts.iter().enumerate() {
        a.announce(1 + n as u32 % 50, &[text]).await;
    }
    while b.queue.has_room() {
        lab.rib.query(|_, _| ()).await.unwrap();
    }
    // Asking is a turn of the loop, so after some of them nothing more can be under way.
    let full = b.queue.len();
    for _ in 0..3 {
        lab.rib.query(|_, _| ()).await.unwrap();
    }
    assert_eq!(b.queue.len(), full, "the queue is full and grows no more");
    let heard = b.hears(&lab).await;
    let announced = heard.iter().filter(|line| line.starts_with('+')).count();
    assert_eq!(announced, count as usize);
}

#[tokio::test]
async fn questions_are_answered_and_tables_walked_by_the_piece_while_routes_pour_in() {
    let lab = Lab::new();
    let a = lab.neighbor(1).await;
    let texts: Vec<_> = (0..1000u32).map(|n| format!("{}/32", Ipv4Addr::from(0x0a00_0000 + n))).collect();
    let all: Vec<_> = texts.iter().map(String::as_str).collect();
    a.announce(1, &all).await;
    let network = "192.168.0.0/16".parse().unwrap();
    lab.rib
        .apply(move |rib, now| rib.originate(now, LocalSource::Network, network, LocalRoute::default()))
        .await
        .unwrap();
    lab.told(&texts[999], Some(a.id), true);
    let pour = async {
        for hops in 2..200 {
            a.announce(hops, &all).await;
        }
    };
    let walk = async {
        let mut walk = lab.rib.walk(Prefix::DEFAULT_V4).await.unwrap();
        let mut walked = Vec::new();
        while let Some(routes) = walk.next().await.unwrap() {
            assert!(routes.len() <= 256);
            walked.extend(routes.into_iter().map(|route| route.prefix.to_string()));
        }
        walked
    };
    let ((), walked) = tokio::join!(pour, walk);
    assert_eq!(walked[..1000], texts);
    assert_eq!(walked[1000], "192.168.0.0/16");
    let mut received = lab.rib.walk_received(a.id, V4).await.unwrap();
    assert_eq!(received.next().await.unwrap().unwrap().len(), 256);
}

#[test]
fn the_thread_ends_when_nobody_can_reach_it() {
    let (rib, thread) = spawn(
        RibConfig::new(Asn::literal(65001), router_id(1), 5),
        Outside { seen: std_mpsc::channel().0, wanted: std_mpsc::channel().0, fib_room: Arc::new(AtomicUsize::new(1)) },
    )
    .unwrap();
    drop(rib);
    thread.join().unwrap();
}
