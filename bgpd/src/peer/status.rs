//! What `show bgp neighbors` and the metrics can see of a session without asking its task.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use bgp_core::session::{DownReason, Phase, Terms};
use bgp_wire::{AddPath, Capability, FamilySet, MessageType, Notification, Open, PeerKind, Role};
use net_types::{Asn, Family, RouterId};
use sys::tcp_ao;
use tokio::net::TcpStream;

use super::{Ao, AoKey, PeerSpec};
use crate::show::view;

/// A snapshot of one session.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its configuration.
    pub spec: PeerSpec,
    /// Where the state machine is.
    pub phase: Phase,
    /// What was agreed, while it is established.
    pub terms: Option<Terms>,
    /// Both ends of the connection, while it is established.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// The largest TCP segment, in octets, when the session was established.
    pub max_segment_octets: Option<u16>,
    /// What its segments are signed with, where TCP-AO does that.
    pub ao: Option<view::TcpAo>,
    /// When it was established, while it is.
    pub established_at: Option<SystemTime>,
    /// When it left Established, or was configured, last.
    pub since: SystemTime,
    /// Sessions that reached Established.
    pub established_count: u64,
    /// Sessions that were lost.
    pub dropped_count: u64,
    /// Why the last session, or attempt at one, ended.
    pub last_reset: Option<ResetInfo>,
    /// Messages sent.
    pub sent: view::MessageCounts,
    /// Messages received.
    pub received: view::MessageCounts,
    /// Mistakes in UPDATEs that were survived (RFC 7606).
    pub survived_errors: u64,
    /// When the last message came.
    pub last_read: Option<SystemTime>,
    /// When the last message went.
    pub last_write: Option<SystemTime>,
    /// Messages waiting for the routing table.
    pub in_queue: usize,
    /// Messages waiting to be written.
    pub out_queue: usize,
}

/// Why a session ended.
#[derive(Clone, Debug)]
pub struct ResetInfo {
    /// When.
    pub at: SystemTime,
    /// Why.
    pub reason: DownReason,
}

/// Counters of messages, one direction; indexed by type.
#[derive(Debug, Default)]
struct Counts([AtomicU64; 6]);

impl Counts {
    fn add(&self, kind: u8, count: usize) {
        if let Some(counter) = self.0.get(usize::from(kind)) {
            counter.fetch_add(count as u64, Relaxed);
        }
    }

    fn snapshot(&self) -> view::MessageCounts {
        let [_, opens, updates, notifications, keepalives, route_refreshes] =
            std::array::from_fn(|kind| self.0[kind].load(Relaxed));
        view::MessageCounts { opens, notifications, updates, keepalives, route_refreshes }
    }
}

/// What the task writes and others read.
#[derive(Debug)]
pub(super) struct Shared {
    slow: Mutex<Slow>,
    sent: Counts,
    received: Counts,
    survived: AtomicU64,
    last_read: AtomicU64,
    last_write: AtomicU64,
    in_queue: AtomicUsize,
    out_queue: AtomicUsize,
}

/// What changes with the session's state only.
#[derive(Debug)]
struct Slow {
    spec: PeerSpec,
    phase: Phase,
    terms: Option<Terms>,
    ends: Option<(SocketAddr, SocketAddr)>,
    max_segment_octets: Option<u16>,
    /// The connection, while it is established.
    socket: Weak<TcpStream>,
    established_at: Option<SystemTime>,
    since: SystemTime,
    established_count: u64,
    dropped_count: u64,
    last_reset: Option<ResetInfo>,
}

impl Shared {
    pub(super) fn new(spec: PeerSpec) -> Self {
        let slow = Slow {
            spec,
            phase: Phase::Idle,
            terms: None,
            ends: None,
            max_segment_octets: None,
            socket: Weak::new(),
            established_at: None,
            since: SystemTime::now(),
            established_count: 0,
            dropped_count: 0,
            last_reset: None,
        };
        Self {
            slow: Mutex::new(slow),
            sent: Counts::default(),
            received: Counts::default(),
            survived: AtomicU64::new(0),
            last_read: AtomicU64::new(0),
            last_write: AtomicU64::new(0),
            in_queue: AtomicUsize::new(0),
            out_queue: AtomicUsize::new(0),
        }
    }

    fn slow(&self) -> MutexGuard<'_, Slow> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn snapshot(&self) -> PeerStatus {
        let slow = self.slow();
        PeerStatus {
            spec: slow.spec.clone(),
            phase: slow.phase,
            terms: slow.terms.clone(),
            ends: slow.ends,
            max_segment_octets: slow.max_segment_octets,
            ao: slow.spec.transport.ao.as_ref().map(|ao| ao_view(ao, &slow.socket)),
            established_at: slow.established_at,
            since: slow.since,
            established_count: slow.established_count,
            dropped_count: slow.dropped_count,
            last_reset: slow.last_reset.clone(),
            sent: self.sent.snapshot(),
            received: self.received.snapshot(),
            survived_errors: self.survived.load(Relaxed),
            last_read: time(self.last_read.load(Relaxed)),
            last_write: time(self.last_write.load(Relaxed)),
            in_queue: self.in_queue.load(Relaxed),
            out_queue: self.out_queue.load(Relaxed),
        }
    }

    pub(super) fn reconfigured(&self, spec: &PeerSpec) {
        self.slow().spec = spec.clone();
    }

    pub(super) fn entered(&self, phase: Phase) {
        self.slow().phase = phase;
    }

    pub(super) fn up(
        &self,
        terms: &Terms,
        local: SocketAddr,
        remote: SocketAddr,
        max_segment_octets: Option<u16>,
        socket: Weak<TcpStream>,
    ) {
        let now = SystemTime::now();
        let mut slow = self.slow();
        slow.terms = Some(terms.clone());
        slow.ends = Some((local, remote));
        slow.max_segment_octets = max_segment_octets;
        slow.socket = socket;
        slow.established_at = Some(now);
        slow.since = now;
        slow.established_count += 1;
    }

    pub(super) fn down(&self, reason: &DownReason) {
        let now = SystemTime::now();
        let mut slow = self.slow();
        slow.terms = None;
        slow.ends = None;
        slow.max_segment_octets = None;
        slow.socket = Weak::new();
        slow.established_at = None;
        slow.since = now;
        slow.dropped_count += 1;
        slow.last_reset = Some(ResetInfo { at: now, reason: reason.clone() });
    }

    pub(super) fn attempt_failed(&self, reason: &DownReason) {
        self.slow().last_reset = Some(ResetInfo { at: SystemTime::now(), reason: reason.clone() });
    }

    pub(super) fn sent(&self, kind: u8, count: usize) {
        self.sent.add(kind, count);
        self.last_write.store(seconds(), Relaxed);
    }

    pub(super) fn received(&self, kind: MessageType) {
        self.received.add(kind as u8, 1);
        self.last_read.store(seconds(), Relaxed);
    }

    pub(super) fn survived(&self, errors: usize) {
        self.survived.fetch_add(errors as u64, Relaxed);
    }

    pub(super) fn queued(&self, incoming: usize, outgoing: usize) {
        self.in_queue.store(incoming, Relaxed);
        self.out_queue.store(outgoing, Relaxed);
    }
}

fn ao_view(ao: &Ao, socket: &Weak<TcpStream>) -> view::TcpAo {
    let configured = |key: &AoKey| (key.number, key.send_id, key.receive_id, key.algorithm);
    let live = socket.upgrade().and_then(|socket| Some((tcp_ao::info(&*socket).ok()?, tcp_ao::keys(&*socket).ok()?)));
    view::TcpAo {
        chain: ao.chain.clone(),
        exclude_options: ao.exclude_options,
        configured: ao.by_preference().rev().map(configured).collect(),
        live,
    }
}

/// Milliseconds since 1970; 0 is never.
fn seconds() -> u64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> Option<SystemTime> {
    (millis != 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
}

impl PeerStatus {
    /// Of a neighbor that has never had a session.
    pub fn idle(spec: PeerSpec) -> Self {
        Shared::new(spec).snapshot()
    }

    /// The neighbor's AS: what it said, or what is configured.
    pub fn remote_as(&self) -> Option<Asn> {
        use bgp_core::session::RemoteAs;
        let said = self.terms.as_ref().map(|terms| terms.peer_open.asn);
        said.or(match self.spec.session.remote_asn {
            RemoteAs::Exactly(asn) => Some(asn),
            RemoteAs::Internal => Some(self.spec.session.local_asn),
            RemoteAs::External => None,
        })
    }

    /// The neighbor's identifier, while it is established.
    pub fn router_id(&self) -> Option<RouterId> {
        self.terms.as_ref().map(|terms| terms.peer_open.router_id)
    }

    /// The host name that the neighbor told, while it is established.
    pub fn hostname(&self) -> Option<String> {
        self.terms.as_ref().and_then(peer_hostname)
    }

    /// Internal or external, while it is established.
    pub fn kind(&self) -> Option<PeerKind> {
        self.terms.as_ref().map(Terms::peer_kind)
    }

    /// As `show` renders it. What only others know is left for the caller: description, the tables' counters, BFD.
    pub fn view(&self) -> view::Neighbor {
        let session = &self.spec.session;
        let (local, remote) = self.ends.unzip();
        view::Neighbor {
            address: self.spec.address,
            link: self.spec.link.clone(),
            dynamic: false,
            description: None,
            remote_as: self.remote_as(),
            local_as: session.local_asn,
            kind: session.kind(),
            local_role: session.role.map(|local| local.role),
            router_id: self.router_id(),
            state: self.phase.as_str(),
            admin_shutdown: self.spec.shutdown.is_some(),
            established_at: self.established_at,
            since: self.since,
            established_count: self.established_count,
            dropped_count: self.dropped_count,
            sent: self.sent,
            received: self.received,
            out_queue: self.out_queue,
            in_queue: self.in_queue,
            last_read: self.last_read,
            last_write: self.last_write,
            hold: self.terms.as_ref().map(|terms| terms.hold_time),
            keepalive: self.terms.as_ref().map(|terms| terms.keepalive),
            configured_hold: session.hold_time,
            configured_keepalive: session.keepalive,
            connect_retry: session.connect_retry,
            capabilities: self.terms.as_ref().map(capabilities).unwrap_or_default(),
            families: session.families.iter().map(|family| (family, view::NeighborTable::default())).collect(),
            peer_group: None,
            configured: BTreeMap::new(),
            own_hostname: session.name.as_ref().map(|name| name.host.clone()),
            restart_times: (Duration::from_secs(120), Duration::from_secs(360)),
            restart_inherited: true,
            restart_mode: match &session.graceful_restart {
                None => "Disable",
                Some(restart) if restart.families.is_empty() => "Helper",
                Some(_) => "Restart",
            },
            last_reset: self.last_reset.as_ref().map(ResetInfo::view),
            local,
            remote,
            bfd: None,
            configured_max_segment_octets: self.spec.transport.max_segment_octets,
            max_segment_octets: self.max_segment_octets,
            ao: self.ao.clone(),
            max_hops: self.spec.transport.hops.limit(),
            extended_parameters: session.negotiation.extended_parameters,
        }
    }
}

impl ResetInfo {
    fn view(&self) -> view::LastReset {
        // A hard reset has the reason proper inside (RFC 8538 §3).
        let name = |notification: &Notification| {
            notification.hard_reset_reason().as_ref().unwrap_or(notification).code().to_string()
        };
        let notification = match &self.reason {
            DownReason::Received(notification) => Some((name(notification), notification.code().codes(), false)),
            reason => reason.notification().map(|sent| (name(&sent), sent.code().codes(), true)),
        };
        let due_to = match (&self.reason, &notification) {
            (DownReason::BfdDown, _) => "BFD down received",
            (DownReason::PathLost, _) => "Interface down",
            (DownReason::TransportLost | DownReason::Reconnected, _) => "Peer closed the session",
            (_, Some((_, _, true))) => "BGP Notification send",
            (_, Some((_, _, false))) => "BGP Notification received",
            (_, None) => "Waiting for peer OPEN",
        };
        view::LastReset {
            at: self.at,
            reason: self.reason.to_string(),
            due_to,
            notification_name: notification.as_ref().map(|(name, ..)| name.clone()),
            notification: notification.map(|(_, (code, subcode), ours)| (code, subcode, ours)),
        }
    }
}

fn capabilities(terms: &Terms) -> view::Capabilities {
    let (ours, theirs) = (&terms.local_open, &terms.peer_open);
    let mutual = |test: &dyn Fn(&Capability) -> bool| view::Mutual {
        advertised: ours.capabilities.iter().any(test),
        received: theirs.capabilities.iter().any(test),
    };
    let family = |family: Family| {
        let wanted = Capability::multiprotocol(family);
        (family, mutual(&|capability| *capability == wanted))
    };
    view::Capabilities {
        four_octet_as: mutual(&|c| matches!(c, Capability::FourOctetAs(_))),
        extended_message: mutual(&|c| *c == Capability::ExtendedMessage),
        route_refresh: mutual(&|c| *c == Capability::RouteRefresh),
        enhanced_route_refresh: mutual(&|c| *c == Capability::EnhancedRouteRefresh),
        graceful_restart: mutual(&|c| matches!(c, Capability::GracefulRestart(_))),
        long_lived: mutual(&|c| matches!(c, Capability::LongLived(_))),
        peer_restart_time: terms.restart.as_ref().map(|restart| restart.restart_time),
        peer_restarting: terms.restart.as_ref().is_some_and(|restart| restart.restarting),
        peer_restarts: terms.restart.iter().flat_map(|restart| restart.families.iter()).collect(),
        peer_preserved: terms.restart.iter().flat_map(|restart| restart.preserved.iter()).collect(),
        extended_next_hop: mutual(&|c| matches!(c, Capability::ExtendedNextHop(_))),
        add_path: Family::ALL.into_iter().map(|family| (family, add_path(ours, theirs, family))).collect(),
        filters: Family::UNICAST.into_iter().map(|family| (family, filters(ours, theirs, family))).collect(),
        role: mutual(&|c| matches!(c, Capability::Role(_))),
        peer_role: theirs.roles().next().and_then(Role::from_code),
        families: Family::ALL.into_iter().map(family).collect(),
        peer_software: theirs.capabilities.iter().find_map(|capability| match capability {
            Capability::SoftwareVersion(text) => Some(text.clone()),
            _ => None,
        }),
        peer_hostname: peer_hostname(terms),
    }
}

/// Who sends several paths of `family`, and who takes them (RFC 7911 §4).
fn add_path(ours: &Open, theirs: &Open, family: Family) -> (view::Mutual, view::Mutual) {
    let says = |open: &Open, test: fn(AddPath) -> Option<Family>| {
        open.capabilities.iter().any(|capability| match capability {
            Capability::AddPath(list) => list.iter().any(|one| test(*one) == Some(family)),
            _ => false,
        })
    };
    let mutual = |test| view::Mutual { advertised: says(ours, test), received: says(theirs, test) };
    (mutual(AddPath::sends), mutual(AddPath::receives))
}

/// Who sends filters of `family`, and who takes them (RFC 5291 §5).
fn filters(ours: &Open, theirs: &Open, family: Family) -> (view::Mutual, view::Mutual) {
    let mutual = |of: fn(&Open) -> FamilySet| view::Mutual {
        advertised: of(ours).contains(family),
        received: of(theirs).contains(family),
    };
    (mutual(Open::sends_filters), mutual(Open::receives_filters))
}

fn peer_hostname(terms: &Terms) -> Option<String> {
    terms.peer_open.capabilities.iter().find_map(|capability| match capability {
        Capability::Fqdn(name) => Some(name.host.clone()),
        _ => None,
    })
}
