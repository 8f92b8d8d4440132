//! Metrics: what sessions, table, FIB and BFD count, read when it is asked for.
//!
//! Labels are addresses of configured neighbors and words of ours, so their number is bounded by the configuration. What
//! lives on other threads is asked for before each answer (`Snapshot::take`); nothing is counted for Prometheus alone.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use bgp_core::{
    PeerId,
    rib::{FamilyCounters, Source},
};
use net_types::Family;
use telemetry::{
    MetricsServer, SeriesWriter,
    prometheus_client::{
        collector::Collector,
        encoding::DescriptorEncoder,
        registry::{Registry, Unit},
    },
    series::Label,
};
use tokio::{sync::oneshot, task::JoinSet};
use tracing::{error, info};
use vrrp::Role;

use crate::{
    failover::{Cause, FailoverLog},
    show::{
        family_key,
        view::{Bfd, MessageCounts, Neighbor},
    },
    state::State,
    vrrp::{GroupView, Mishap},
};

/// The endpoint, kept where the configuration wants it.
#[derive(Debug, Default)]
pub struct Endpoint {
    address: Option<SocketAddr>,
    /// Serves as long as it is here.
    server: JoinSet<()>,
}

impl Endpoint {
    /// Serves at `wanted`, or not at all. Routes matter more than their metrics: an address that is taken is an error in
    /// the log and no more, and is tried again at the next reload.
    pub async fn follow(&mut self, wanted: Option<SocketAddr>, state: &State) {
        if self.address == wanted {
            return;
        }
        self.server.shutdown().await;
        self.address = None;
        let Some(address) = wanted else { return };
        match serve(address, state.clone()).await {
            Ok(server) => {
                self.server.spawn(server.run());
                self.address = wanted;
                info!(%address, "metrics are served");
            }
            Err(error) => {
                error!(%address, %error, "metrics cannot be served there; change \"metrics bgpd\" or free the address, and reload");
            }
        }
    }
}

async fn serve(address: SocketAddr, state: State) -> io::Result<MetricsServer> {
    let latest = Arc::new(Mutex::new(Snapshot::default()));
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics { latest: latest.clone() }));
    let server = MetricsServer::bind(address, Arc::new(registry)).await?;
    Ok(server.refreshed_by(move || {
        let (latest, state) = (latest.clone(), state.clone());
        async move {
            let snapshot = Snapshot::take(&state).await;
            *latest.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
        }
    }))
}

/// All that is told, at one moment.
#[derive(Clone, Debug, Default)]
struct Snapshot {
    neighbors: Vec<Neighbor>,
    survived_errors: BTreeMap<IpAddr, u64>,
    counters: BTreeMap<(IpAddr, Family), FamilyCounters>,
    /// By family: prefixes known, and those with a usable path.
    tables: Vec<(Family, usize, usize)>,
    attribute_sets: usize,
    fib: Option<fib::Stats>,
    bfd: Vec<Bfd>,
    failover: Failover,
    ipsecd_reachable: bool,
    vrrp: Vec<GroupView>,
}

/// What the failover log has to say.
#[derive(Clone, Debug, Default)]
struct Failover {
    faults: Vec<(Cause, u64)>,
    /// By cause and step, of the newest fault in the log that has come so far: from detection, in microseconds.
    last_steps: BTreeMap<(Cause, &'static str), u64>,
    held_down: usize,
    holds: u64,
}

impl Failover {
    fn of(log: &FailoverLog) -> Self {
        let mut last_steps = BTreeMap::new();
        for fault in log.faults() {
            let since = |at: Option<u64>| at.map(|at| at.saturating_sub(fault.detected_at_unix_us));
            let steps = [
                ("fib_switched", fault.fib_switch_us),
                ("rib_done", since(fault.rib_done_at_unix_us)),
                ("restored", since(fault.restored_at_unix_us)),
            ];
            last_steps.extend(steps.into_iter().filter_map(|(step, us)| Some(((fault.cause, step), us?))));
        }
        let held_down = log.held_paths().iter().filter(|path| path.until.is_some()).count();
        Self { faults: log.counts().collect(), last_steps, held_down, holds: log.holds() }
    }

    fn write(&self, out: &mut SeriesWriter<'_>) -> fmt::Result {
        let faults = self.faults.iter().map(|(cause, count)| ([label("cause", cause.as_str())], *count));
        out.counter("failover_faults", "Faults, by the detector that found them", None, faults)?;
        // Half an hour in microseconds is far below 2^53.
        let seconds = |micros: u64| micros as f64 / 1e6;
        let switched = |(cause, step)| (step == "fib_switched").then_some(cause);
        let switches = self.last_steps.iter().filter_map(|(of, us)| Some((switched(*of)?, *us)));
        out.gauge(
            "failover_last_switch",
            "From detection of the last fault to the kernel's acknowledgement",
            Some(Unit::Seconds),
            switches.map(|(cause, us)| ([label("cause", cause.as_str())], seconds(us))),
        )?;
        let steps = self.last_steps.iter();
        out.gauge(
            "failover_last_step",
            "From detection of the last fault that came so far to this step",
            Some(Unit::Seconds),
            steps.map(|((cause, step), us)| ([label("cause", cause.as_str()), label("step", step)], seconds(*us))),
        )?;
        out.gauge(
            "failover_held_paths",
            "Paths that work and are held down for having failed too often",
            None,
            [([], count(self.held_down))].into_iter(),
        )?;
        out.counter("failover_holds", "Times a path was held down", None, [([], self.holds)].into_iter())
    }
}

impl Snapshot {
    /// Asks each thread once. One that has ended, since the daemon is shutting down, is left out.
    async fn take(state: &State) -> Self {
        let running = state.running();
        let statuses: Vec<_> =
            running.peers.iter().map(|(address, peer)| (*address, peer.id(), peer.status())).collect();
        let ids: Vec<(IpAddr, PeerId)> = statuses.iter().map(|(address, id, _)| (*address, *id)).collect();
        let table = state.rib.query(move |rib, _| {
            let each = ids.iter().flat_map(|(address, id)| {
                let of = |family| Some(((*address, family), rib.counters(Source::Peer(*id), family)?));
                Family::ALL.into_iter().filter_map(of)
            });
            let tables = Family::ALL.map(|family| (family, rib.prefix_count(family), rib.reachable_count(family)));
            (each.collect(), tables.to_vec(), rib.attribute_count())
        });
        let (counters, tables, attribute_sets) = table.await.unwrap_or_default();
        let (answer, fib) = oneshot::channel();
        state.fib.ask(move |fib| {
            // Who asked may have given up.
            let _ = answer.send(fib.stats());
        });
        let failover = Failover::of(&state.fib.log().lock().unwrap_or_else(PoisonError::into_inner));
        Self {
            survived_errors: statuses.iter().map(|(address, _, status)| (*address, status.survived_errors)).collect(),
            neighbors: statuses.iter().map(|(_, _, status)| status.view()).collect(),
            counters,
            tables,
            attribute_sets,
            fib: fib.await.ok(),
            bfd: state.bfd.snapshot().await,
            failover,
            ipsecd_reachable: running.ipsecd_lost.is_none(),
            vrrp: state.vrrp.status(),
        }
    }

    fn write(&self, out: &mut SeriesWriter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        out.gauge("bgpd_build", "1, with the version", None, [([("version", version)], 1.0)].into_iter())?;
        out.gauge(
            "bgpd_ipsecd_reachable",
            "Whether ipsecd tells of its tunnels",
            None,
            [([], flag(self.ipsecd_reachable))].into_iter(),
        )?;
        self.write_sessions(out)?;
        self.write_tables(out)?;
        self.write_forwarding(out)?;
        self.write_bfd(out)?;
        self.write_vrrp(out)
    }

    fn write_sessions(&self, out: &mut SeriesWriter<'_>) -> fmt::Result {
        let neighbors = || self.neighbors.iter().map(|neighbor| (peer(neighbor.address), neighbor));
        out.gauge(
            "bgp_session_up",
            "Whether the session is established",
            None,
            neighbors().map(|(peer, neighbor)| ([peer], flag(neighbor.established_at.is_some()))),
        )?;
        out.counter(
            "bgp_session_established",
            "Times the session was established",
            None,
            neighbors().map(|(peer, neighbor)| ([peer], neighbor.established_count)),
        )?;
        out.counter(
            "bgp_session_lost",
            "Times the session was lost",
            None,
            neighbors().map(|(peer, neighbor)| ([peer], neighbor.dropped_count)),
        )?;
        let messages = neighbors().flat_map(|(peer, neighbor)| {
            let both = [("sent", neighbor.sent), ("received", neighbor.received)];
            both.into_iter().flat_map(move |(direction, counts)| {
                let peer = peer.clone();
                by_type(counts).map(move |(kind, count)| {
                    ([peer.clone(), label("direction", direction), label("type", kind)], count)
                })
            })
        });
        out.counter("bgp_messages", "Messages of the session", None, messages)?;
        let survived = self.survived_errors.iter().map(|(address, count)| ([peer(*address)], *count));
        out.counter("bgp_update_errors_survived", "Mistakes in UPDATEs that were survived (RFC 7606)", None, survived)?;
        let queues = neighbors().flat_map(|(peer, neighbor)| {
            let queues = [("in", neighbor.in_queue), ("out", neighbor.out_queue)];
            queues.map(|(direction, length)| ([peer.clone(), label("direction", direction)], count(length)))
        });
        out.gauge("bgp_queued_messages", "Messages that wait", None, queues)
    }

    fn write_tables(&self, out: &mut SeriesWriter<'_>) -> fmt::Result {
        let of_neighbors = self.counters.iter().flat_map(|((address, family), counters)| {
            let kinds = [
                ("received", counters.received),
                ("accepted", counters.accepted),
                ("stale", counters.leftover),
                ("sent", counters.sent),
            ];
            kinds.map(|(kind, number)| {
                ([peer(*address), label("family", family_key(*family)), label("kind", kind)], f64::from(number))
            })
        });
        out.gauge("bgp_neighbor_prefixes", "Prefixes from and to the neighbor", None, of_neighbors)?;
        let of_tables = self.tables.iter().flat_map(|(family, known, reachable)| {
            [("known", *known), ("reachable", *reachable)]
                .map(|(kind, number)| ([label("family", family_key(*family)), label("kind", kind)], count(number)))
        });
        out.gauge("bgp_table_prefixes", "Prefixes in the table", None, of_tables)?;
        out.gauge(
            "bgp_attribute_sets",
            "Distinct sets of path attributes",
            None,
            [([], count(self.attribute_sets))].into_iter(),
        )
    }

    fn write_forwarding(&self, out: &mut SeriesWriter<'_>) -> fmt::Result {
        if let Some(fib) = self.fib {
            let gauges = [
                ("fib_routes", "Routes programmed into the kernel", fib.routes),
                ("fib_path_lists", "Nexthop objects that routes share", fib.path_lists),
                ("fib_refused_routes", "Routes that the kernel refused", fib.refused),
            ];
            for (name, help, value) in gauges {
                out.gauge(name, help, None, [([], count(value))].into_iter())?;
            }
            let queued = [("urgent", fib.urgent), ("unprotected", fib.unprotected), ("lazy", fib.lazy)];
            let queued = queued.into_iter().map(|(kind, length)| ([label("kind", kind)], count(length)));
            out.gauge("fib_queued_changes", "Changes that wait to be written", None, queued)?;
            out.counter(
                "fib_resyncs",
                "Times the kernel's table was read anew",
                None,
                [([], fib.resyncs)].into_iter(),
            )?;
        }
        self.failover.write(out)
    }

    fn write_vrrp(&self, out: &mut SeriesWriter<'_>) -> fmt::Result {
        let groups = || self.vrrp.iter().map(|group| (virtual_router(group), &group.status));
        let roles = groups().flat_map(|([interface, vrid, family], status)| {
            [Role::Initialize, Role::Backup, Role::Active].map(|role| {
                let labels = [interface.clone(), vrid.clone(), family.clone(), label("state", role.as_str())];
                (labels, flag(status.role == role))
            })
        });
        out.gauge("vrrp_state", "1 for what the virtual router is here", None, roles)?;
        let priorities = groups().map(|(labels, status)| (labels, f64::from(status.priority)));
        out.gauge("vrrp_priority", "What is left of its priority", None, priorities)?;
        let transitions = groups().map(|(labels, status)| (labels, status.counts.transitions));
        out.counter("vrrp_transitions", "Times it became something else", None, transitions)?;
        let advertisements = groups().flat_map(|([interface, vrid, family], status)| {
            [("sent", status.counts.sent), ("received", status.counts.received)].map(|(direction, count)| {
                ([interface.clone(), vrid.clone(), family.clone(), label("direction", direction)], count)
            })
        });
        out.counter("vrrp_advertisements", "Advertisements", None, advertisements)?;
        let errors = groups().flat_map(|([interface, vrid, family], status)| {
            Mishap::ALL.map(|mishap| {
                let count = status.counts.errors.get(&mishap).copied().unwrap_or_default();
                ([interface.clone(), vrid.clone(), family.clone(), label("kind", mishap.as_str())], count)
            })
        });
        out.counter("vrrp_errors", "Advertisements that were discarded, not sent or odd", None, errors)
    }

    fn write_bfd(&self, out: &mut SeriesWriter<'_>) -> fmt::Result {
        let sessions = || self.bfd.iter().map(|session| (peer(session.peer), session));
        let up = sessions().map(|(peer, session)| ([peer], flag(session.status == "up")));
        out.gauge("bfd_session_up", "Whether the BFD session is up", None, up)?;
        let packets = sessions().flat_map(|(peer, session)| {
            [("received", session.packets.0), ("sent", session.packets.1)]
                .map(|(direction, number)| ([peer.clone(), label("direction", direction)], number))
        });
        out.counter("bfd_packets", "Control packets", None, packets)?;
        let changes = sessions().flat_map(|(peer, session)| {
            [("up", session.changes.0), ("down", session.changes.1)]
                .map(|(to, number)| ([peer.clone(), label("to", to)], number))
        });
        out.counter("bfd_session_changes", "Times the BFD session came up and went down", None, changes)
    }
}

/// Labels of a virtual router: bounded by the configuration.
fn virtual_router(group: &GroupView) -> [Label; 3] {
    [
        label("interface", group.interface.as_str()),
        label("vrid", &group.vrid.to_string()),
        label("family", group.addresses.family().as_str()),
    ]
}

#[derive(Debug)]
struct Metrics {
    latest: Arc<Mutex<Snapshot>>,
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        snapshot.write(&mut SeriesWriter::new(encoder))
    }
}

fn by_type(counts: MessageCounts) -> impl Iterator<Item = (&'static str, u64)> {
    [
        ("open", counts.opens),
        ("update", counts.updates),
        ("notification", counts.notifications),
        ("keepalive", counts.keepalives),
        ("route_refresh", counts.route_refreshes),
    ]
    .into_iter()
}

fn label(name: &'static str, value: &str) -> Label {
    (name, value.to_owned())
}

fn peer(address: IpAddr) -> Label {
    ("peer", address.to_string())
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

/// Numbers of things in memory are far below 2^53.
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use telemetry::prometheus_client::encoding::text;

    use super::*;
    use crate::{
        failover::{Detected, HeldPath, Switched},
        fib_thread::Restored,
    };

    #[test]
    fn what_is_known_is_written_and_what_is_not_is_left_out() {
        let counters = FamilyCounters { active: true, received: 12, accepted: 10, leftover: 0, sent: 3, to_send: 0 };
        let address: IpAddr = "169.254.1.1".parse().unwrap();
        let (mut log, at) = (FailoverLog::default(), |us| UNIX_EPOCH + Duration::from_micros(us));
        let (cause, detail, peer) = (Cause::BfdDown, String::new(), Some(address));
        let id = log.detected(Detected { cause, detail, peer, tunnel: None, at: at(0) });
        log.switched(id, Switched { at: at(250), took: Duration::from_micros(250), path_lists: 1, routes: 1 });
        let hold = HeldPath {
            interface: None,
            neighbors: vec![address],
            failures: 3,
            hold: Duration::from_secs(5),
            until: Some(at(9)),
        };
        log.held(&[address].into(), None, at(9));
        log.set_held_paths(vec![HeldPath { until: None, ..hold.clone() }, hold]);
        log.restored(&Restored::Peer(address), at(3_000_000));
        let snapshot = Snapshot {
            survived_errors: [(address, 2)].into(),
            counters: [((address, Family::Ipv4Unicast), counters)].into(),
            tables: vec![(Family::Ipv4Unicast, 20, 18)],
            fib: Some(fib::Stats { routes: 18, path_lists: 2, ..fib::Stats::default() }),
            failover: Failover::of(&log),
            vrrp: vec![crate::show::vrrp::tests::group()],
            ..Snapshot::default()
        };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Metrics { latest: Arc::new(Mutex::new(snapshot)) }));
        let mut written = String::new();
        text::encode(&mut written, &registry).unwrap();
        for line in [
            "bgpd_ipsecd_reachable 0.0",
            "bgp_update_errors_survived_total{peer=\"169.254.1.1\"} 2",
            "bgp_neighbor_prefixes{peer=\"169.254.1.1\",family=\"ipv4Unicast\",kind=\"accepted\"} 10.0",
            "bgp_table_prefixes{family=\"ipv4Unicast\",kind=\"reachable\"} 18.0",
            "fib_routes 18.0",
            "fib_resyncs_total 0",
            "vrrp_state{interface=\"lan0\",vrid=\"10\",family=\"ipv4\",state=\"backup\"} 1.0",
            "vrrp_state{interface=\"lan0\",vrid=\"10\",family=\"ipv4\",state=\"active\"} 0.0",
            "vrrp_priority{interface=\"lan0\",vrid=\"10\",family=\"ipv4\"} 100.0",
            "vrrp_advertisements_total{interface=\"lan0\",vrid=\"10\",family=\"ipv4\",direction=\"received\"} 9",
            "vrrp_errors_total{interface=\"lan0\",vrid=\"10\",family=\"ipv4\",kind=\"ttl\"} 2",
            "failover_faults_total{cause=\"BFD down\"} 1",
            "failover_faults_total{cause=\"hold timer expired\"} 0",
            "failover_last_switch_seconds{cause=\"BFD down\"} 0.00025",
            "failover_last_step_seconds{cause=\"BFD down\",step=\"fib_switched\"} 0.00025",
            "failover_last_step_seconds{cause=\"BFD down\",step=\"restored\"} 3.0",
            "failover_held_paths 1.0",
            "failover_holds_total 1",
        ] {
            assert!(written.lines().any(|written| written == line), "{line} is not in\n{written}");
        }
        assert!(!written.contains("bfd_session_up"), "{written}");
    }
}
