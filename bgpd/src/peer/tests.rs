//! Two neighbors' tasks over loopback TCP. Waiting is for conditions, with a deadline.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bgp_core::{
    PeerId,
    rib::{
        BestChange, LocalAddresses, LocalRoute, LocalSource, NextHopEvent, PeerConfig, Resolved, Rib, RibConfig,
        RibEvent,
    },
    session::{DownReason, Phase, RemoteAs, SessionConfig},
};
use bgp_wire::{
    Announcements, Attributes, GracefulRestart, GracefulRestartFamily, Notification, PeerKind, Withdrawals,
    notification::{CeaseCode, ShutdownCommunication},
};
use net_types::{Asn, Family, IfName, Prefix};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
    time::timeout,
};

use super::*;
use crate::rib_thread::{Outlet, RibHandle};

const PATIENCE: Duration = Duration::from_secs(20);

/// Remembers faults; there are no links.
#[derive(Clone, Default)]
struct Host {
    faults: Arc<Mutex<Vec<DownReason>>>,
}

impl PeerHost for Host {
    fn faulted(&self, fault: &PeerFault) {
        self.faults.lock().unwrap().push(fault.reason.clone());
    }

    fn established(&self, _: bgp_core::PeerId, _: bool) {}

    /// A loopback address is no next hop (RFC 4271 §6.3), so each speaker names another one.
    fn link(&self, local: SocketAddr, _: SocketAddr) -> Link {
        let IpAddr::V4(local) = local.ip() else { return Link::default() };
        let v4 = Some(Ipv4Addr::new(192, 0, 2, local.octets()[3]));
        Link { addresses: LocalAddresses { v4, ..LocalAddresses::default() }, ..Link::default() }
    }

    fn source(&self, _: &IfName, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

/// One speaker with one neighbor.
struct Speaker {
    handle: PeerHandle,
    events: mpsc::Receiver<PeerEvent>,
    host: Host,
    _listening: watch::Sender<u64>,
}

fn host_address(host: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, host).into()
}

/// A listener on 127.0.0.`host`, and where it listens.
fn listen(host: u8) -> (Listener, Acceptors, u16) {
    let acceptors = Acceptors::default();
    let listener = Listener::bind(SocketAddr::new(host_address(host), 0), acceptors.clone()).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, acceptors, port)
}

fn spec(us: u8, them: u8, port: u16) -> PeerSpec {
    let asn = |host: u8| Asn::literal(65000 + u32::from(host));
    let router_id = Ipv4Addr::new(10, 0, 0, us).try_into().unwrap();
    let session = SessionConfig {
        hold_time: Duration::from_secs(3),
        connect_retry: Duration::from_secs(1),
        ..SessionConfig::new(asn(us), router_id, RemoteAs::Exactly(asn(them)))
    };
    let transport = Transport { port, source: Some(Source::Address(host_address(us))), ..Transport::default() };
    PeerSpec {
        id: PeerId(u32::from(them)),
        address: host_address(them),
        link: None,
        bfd: BfdRules::default(),
        session,
        transport,
        filters: Default::default(),
        shutdown: None,
    }
}

fn start(spec: PeerSpec, listener: Listener, acceptors: &Acceptors, room: usize) -> Speaker {
    let (sender, events) = mpsc::channel(room);
    let host = Host::default();
    let handle = spawn(spec.clone(), host.clone(), sender);
    acceptors.insert(spec, handle.commands());
    let (keep, changed) = watch::channel(0);
    tokio::spawn(listener.run(changed));
    handle.send(PeerCommand::Start);
    Speaker { handle, events, host, _listening: keep }
}

/// Two speakers that dial each other. `adjust` may change what each knows of the other.
fn pair(hosts: [u8; 2], room: usize, adjust: impl Fn(&mut PeerSpec)) -> (Speaker, Speaker) {
    let [a, b] = hosts;
    let (listener_a, acceptors_a, port_a) = listen(a);
    let (listener_b, acceptors_b, port_b) = listen(b);
    let (mut spec_a, mut spec_b) = (spec(a, b, port_b), spec(b, a, port_a));
    adjust(&mut spec_a);
    adjust(&mut spec_b);
    (start(spec_a, listener_a, &acceptors_a, room), start(spec_b, listener_b, &acceptors_b, room))
}

impl Speaker {
    async fn event(&mut self) -> PeerEvent {
        match timeout(PATIENCE, self.events.recv()).await {
            Ok(Some(event)) => event,
            other => panic!("no event ({other:?}); {:?}", self.handle.status()),
        }
    }

    async fn up(&mut self) -> SessionUp {
        match self.event().await {
            PeerEvent::Up(up) => *up,
            other => panic!("expected Up, got {other:?}"),
        }
    }

    /// Waits until the status is as wanted.
    async fn until(&self, what: &str, mut wanted: impl FnMut(&PeerStatus) -> bool) {
        let waited = timeout(PATIENCE, async {
            while !wanted(&self.handle.status()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}: {:?}", self.handle.status());
    }
}

fn prefixes(count: u32) -> impl Iterator<Item = Prefix> {
    (0..count).map(|n| Prefix::new(Ipv4Addr::from(0x0a00_0000 + (n << 8)).into(), 24).unwrap())
}

fn announce(up: &SessionUp, count: u32) -> Vec<bytes::Bytes> {
    let mut attributes = Attributes::default();
    attributes.as_path.prepend(up.terms.local_open.asn, 1);
    let next_hop = bgp_wire::NextHop::V4(up.link.addresses.v4.unwrap());
    Announcements::new(&attributes, Family::Ipv4Unicast, next_hop, prefixes(count), &up.terms.negotiated)
        .unwrap()
        .collect()
}

#[tokio::test]
async fn routes_and_parting_words_cross() {
    let (mut a, mut b) = pair([11, 12], 16, |_| {});
    let (up_a, up_b) = (a.up().await, b.up().await);
    assert_eq!((up_a.local, up_a.remote), (up_b.remote, up_b.local), "of two connections the same one stays");
    assert!(up_a.terms.negotiated.four_octet_as && up_a.terms.route_refresh);

    announce(&up_a, 1000).into_iter().for_each(|message| up_a.queue.push(message));
    let mut learned = Vec::new();
    while learned.len() < 1000 {
        match b.event().await {
            PeerEvent::Routes { updates, .. } => {
                let announced = updates.into_iter().flat_map(|update| update.reach.unwrap().announced);
                learned.extend(announced.flat_map(|group| group.prefixes));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(learned.into_iter().eq(prefixes(1000)));
    let withdrawals = Withdrawals::new(Family::Ipv4Unicast, prefixes(1000), &up_a.terms.negotiated);
    withdrawals.for_each(|message| up_a.queue.push(message));
    let PeerEvent::Routes { updates, .. } = b.event().await else { panic!() };
    assert!(!updates[0].withdrawn.is_empty());

    let text = ShutdownCommunication::new("fibre work until 04:00");
    a.handle.send(PeerCommand::Stop(Notification::shutdown(CeaseCode::AdministrativeShutdown, Some(&text))));
    let reason = loop {
        match b.event().await {
            PeerEvent::Routes { .. } => {}
            PeerEvent::Down { reason, .. } => break reason,
            other => panic!("{other:?}"),
        }
    };
    let DownReason::Received(notification) = &reason else { panic!("{reason:?}") };
    assert_eq!(notification.communication(), Some(text));
    assert_eq!(*b.host.faults.lock().unwrap(), [reason], "the FIB heard of it");
    let status = b.handle.status();
    assert_eq!((status.established_count, status.dropped_count), (1, 1));
    assert!(status.received.updates > 0 && status.received.notifications == 1);
    assert!(matches!(status.last_reset.map(|reset| reset.reason), Some(DownReason::Received(_))));
}

#[tokio::test]
async fn a_slow_routing_table_holds_the_neighbor_back_and_keeps_the_session() {
    // One event at a time, and nobody takes them: `a` is deaf, `b` floods it.
    let (mut a, mut b) = pair([21, 22], 1, |_| {});
    a.up().await;
    let up = b.up().await;
    let messages = announce(&up, 200_000);
    let mut messages = messages.iter().cycle();
    a.until("reading has stopped", |status| {
        while up.queue.has_room() {
            up.queue.push(messages.next().unwrap().clone());
        }
        status.in_queue >= 100
    })
    .await;
    assert!(!up.queue.has_room(), "the queue towards a deaf neighbor fills up");

    // Longer than the hold time of 3 s, told by keepalives at intervals of at most 1 s.
    let (before_a, before_b) = (a.handle.status().sent.keepalives, b.handle.status().sent.keepalives);
    a.until("keepalives go out while blocked", |status| status.sent.keepalives >= before_a + 6).await;
    b.until("keepalives overtake routes", |status| status.phase == Phase::Established).await;
    assert_eq!(a.handle.status().dropped_count, 0, "{:?}", a.handle.status().last_reset);
    assert_eq!(b.handle.status().dropped_count, 0, "{:?}", b.handle.status().last_reset);
    assert!(b.handle.status().sent.keepalives >= before_b);

    // Once the routing table reads again, all of it arrives, and the other side hears that there is room.
    let drain = tokio::spawn(async move { while a.events.recv().await.is_some() {} });
    let PeerEvent::Writable { .. } = b.event().await else { panic!("expected Writable") };
    assert!(up.queue.has_room());
    drain.abort();
}

#[tokio::test]
async fn a_reset_comes_back_and_removal_ends_the_task() {
    let (mut a, mut b) = pair([31, 32], 16, |_| {});
    a.up().await;
    b.up().await;
    a.handle.send(PeerCommand::Reset(Notification::cease(CeaseCode::AdministrativeReset)));
    assert!(matches!(a.event().await, PeerEvent::Down { reason: DownReason::Reset(_), .. }));
    assert!(matches!(b.event().await, PeerEvent::Down { reason: DownReason::Received(_), .. }));
    a.up().await;
    b.up().await;
    timeout(PATIENCE, a.handle.remove(Notification::cease(CeaseCode::PeerDeconfigured))).await.unwrap();
    let PeerEvent::Down { reason: DownReason::Received(notification), .. } = b.event().await else { panic!() };
    assert_eq!(notification, Notification::cease(CeaseCode::PeerDeconfigured));
}

#[tokio::test]
async fn a_changed_session_starts_over_and_an_unchanged_one_does_not() {
    let (mut a, mut b) = pair([41, 42], 16, |_| {});
    a.up().await;
    b.up().await;
    let spec = a.handle.status().spec;
    a.handle.send(PeerCommand::Reconfigure(Box::new(spec.clone())));
    let mut changed = spec.clone();
    changed.session.hold_time = Duration::from_secs(9);
    changed.session.keepalive = Duration::from_secs(2);
    a.handle.send(PeerCommand::Reconfigure(Box::new(changed)));
    assert!(matches!(a.event().await, PeerEvent::Down { reason: DownReason::Reset(_), .. }), "one reset for two");
    a.up().await;
    assert_eq!(a.handle.status().established_count, 2);
    let shut = PeerSpec { shutdown: Some(Notification::cease(CeaseCode::AdministrativeShutdown)), ..spec.clone() };
    a.handle.send(PeerCommand::Reconfigure(Box::new(shut)));
    assert!(matches!(a.event().await, PeerEvent::Down { reason: DownReason::Stopped(_), .. }));
    a.handle.send(PeerCommand::Reconfigure(Box::new(spec)));
    a.up().await;
}

#[tokio::test]
async fn a_strict_session_waits_for_bfd_and_ends_with_it() {
    let (listener_a, acceptors_a, port_a) = listen(43);
    let (listener_b, acceptors_b, port_b) = listen(44);
    let bfd = BfdRules { strict: true, ..BfdRules::default() };
    let mut a = start(PeerSpec { bfd, ..spec(43, 44, port_b) }, listener_a, &acceptors_a, 16);
    let mut b = start(PeerSpec { bfd, ..spec(44, 43, port_a) }, listener_b, &acceptors_b, 16);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(host_address(44), 0)).unwrap();
    let mut early = socket.connect(SocketAddr::new(host_address(43), port_a)).await.unwrap();
    let mut answer = Vec::new();
    let end = timeout(PATIENCE, early.read_to_end(&mut answer)).await.unwrap();
    let opened = answer.get(18) == Some(&1);
    assert!(end.is_err() || !opened, "nobody is let in before BFD has seen him: {answer:?}");
    a.handle.send(PeerCommand::BfdUp);
    b.handle.send(PeerCommand::BfdUp);
    a.up().await;
    b.up().await;
    a.handle.send(PeerCommand::BfdLost { independent: false });
    assert!(matches!(a.event().await, PeerEvent::Down { reason: DownReason::BfdDown, .. }));
    let PeerEvent::Down { reason: DownReason::Received(said), .. } = b.event().await else { panic!() };
    assert_eq!(said, Notification::cease(CeaseCode::BfdDown));
    a.until("a rests", |status| status.phase == Phase::Idle).await;
    // Without the word nobody waits.
    let spec = PeerSpec { bfd: BfdRules::default(), ..a.handle.status().spec };
    a.handle.send(PeerCommand::Reconfigure(Box::new(spec)));
    b.handle.send(PeerCommand::PathUp);
    a.up().await;
}

#[tokio::test]
async fn a_loss_that_may_be_a_restart_is_left_to_the_hold_timer_where_that_is_asked_for() {
    let rules = BfdRules { check_control_plane: true, ..BfdRules::default() };
    let restart = GracefulRestart {
        restarting: false,
        notification: false,
        restart_seconds: 60,
        families: vec![GracefulRestartFamily::new(Family::Ipv4Unicast, true)],
    };
    let (mut a, mut b) = pair([45, 46], 16, |spec| {
        spec.bfd = rules;
        spec.session.graceful_restart = Some(restart.clone());
    });
    a.up().await;
    b.up().await;
    a.handle.send(PeerCommand::BfdLost { independent: false });
    a.handle.send(PeerCommand::BfdLost { independent: true });
    assert!(matches!(a.event().await, PeerEvent::Down { reason: DownReason::BfdDown, .. }));
    assert_eq!(a.host.faults.lock().unwrap().len(), 1, "the first was not a fault");
}

#[tokio::test]
async fn ttl_security_lets_a_direct_neighbor_in() {
    let (mut a, _b) = pair([51, 52], 16, |spec| spec.transport.hops = Hops::Secured(1));
    a.up().await;
}

#[tokio::test]
async fn a_stranger_is_not_answered() {
    let (listener, acceptors, port) = listen(61);
    let _speaker = start(spec(61, 62, 9), listener, &acceptors, 16);
    let mut stranger = TcpStream::connect(SocketAddr::new(host_address(61), port)).await.unwrap();
    let mut answer = Vec::new();
    let end = timeout(PATIENCE, stranger.read_to_end(&mut answer)).await.unwrap();
    assert!(end.is_err() || answer.is_empty(), "closed without a word: {answer:?}");
}

#[tokio::test]
async fn what_is_not_bgp_is_told_so_and_hung_up_on() {
    let (listener, acceptors, port) = listen(71);
    let mut spec = spec(71, 72, 9);
    spec.session.passive = true;
    let speaker = start(spec, listener, &acceptors, 16);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(host_address(72), 0)).unwrap();
    let mut client = socket.connect(SocketAddr::new(host_address(71), port)).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut answer)).await.unwrap().unwrap();
    // An OPEN, then NOTIFICATION 1/1.
    let open = usize::from(u16::from_be_bytes([answer[16], answer[17]]));
    assert_eq!(answer[open + 18..], [3, 1, 1]);
    speaker.until("the reason is kept", |status| status.last_reset.is_some()).await;
}

/// A FIB that takes everything and keeps nothing; every next hop is on the link.
struct Sink(mpsc::UnboundedSender<NextHopEvent>);

impl Outlet for Sink {
    fn fib_room(&self) -> usize {
        usize::MAX
    }

    fn fib_changes(&self, _: Vec<BestChange>) {}

    fn next_hop_room(&self) -> usize {
        usize::MAX
    }

    fn next_hop(&self, event: NextHopEvent) {
        let _ = self.0.send(event); // the resolver may be gone at the end of a test
    }

    fn event(&self, _: RibEvent) {}

    fn end_of_rib(&self, _: PeerId, _: Family) {}

    fn idle(&self) {}
}

/// A routing table whose next hops are all reachable.
fn table(us: u8) -> RibHandle {
    let asn = Asn::literal(65000 + u32::from(us));
    let router_id = Ipv4Addr::new(10, 0, 0, us).try_into().unwrap();
    let config = RibConfig::new(asn, router_id, 1);
    let (sender, mut events) = mpsc::unbounded_channel();
    let (table, _thread) = crate::rib_thread::spawn(config, Sink(sender)).unwrap();
    let resolver = table.clone();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let NextHopEvent::Wanted(key) = event {
                let resolved = Resolved { ifindex: 1, gateway: None, metric: 0 };
                if resolver.next_hop_resolved(key, Some(resolved)).await.is_err() {
                    return;
                }
            }
        }
    });
    table
}

#[tokio::test]
async fn two_routing_tables_agree() {
    const ROUTES: u32 = 5000;
    let (us, them) = (81, 82);
    let mut sides = Vec::new();
    let (listener_a, acceptors_a, port_a) = listen(us);
    let (listener_b, acceptors_b, port_b) = listen(them);
    for (us, them, port, listener, acceptors) in
        [(us, them, port_b, listener_a, acceptors_a), (them, us, port_a, listener_b, acceptors_b)]
    {
        let (table, spec) = (table(us), spec(us, them, port));
        let config = PeerConfig::new(spec.address, PeerKind::External, spec.session.local_asn);
        let events = table.add_peer(spec.id, config, PATIENCE).await.unwrap();
        let handle = spawn(spec.clone(), Host::default(), events);
        acceptors.insert(spec, handle.commands());
        let (keep, changed) = watch::channel(0);
        tokio::spawn(listener.run(changed));
        handle.send(PeerCommand::Start);
        sides.push((table, handle, keep));
    }
    let [(table_a, handle_a, _), (table_b, _handle_b, _)] = &sides[..] else { panic!() };
    let known = async |count: usize| {
        let waited = timeout(PATIENCE, async {
            while table_b.query(|rib, _| rib.reachable_count(Family::Ipv4Unicast)).await.unwrap() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "{count} prefixes expected: {:?}", handle_a.status());
    };
    let originate = |rib: &mut Rib, now| {
        prefixes(ROUTES).for_each(|prefix| rib.originate(now, LocalSource::Network, prefix, LocalRoute::default()));
    };
    table_a.apply(originate).await.unwrap();
    known(ROUTES as usize).await;
    table_a
        .apply(|rib, _| prefixes(ROUTES / 2).for_each(|prefix| rib.retract(LocalSource::Network, &prefix)))
        .await
        .unwrap();
    known(ROUTES as usize / 2).await;
    handle_a.send(PeerCommand::Stop(Notification::cease(CeaseCode::AdministrativeShutdown)));
    known(0).await;
    handle_a.send(PeerCommand::Start);
    known(ROUTES as usize / 2).await;
}
