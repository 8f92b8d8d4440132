//! Puts a daemon together and takes it apart again.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context, anyhow};
use config::{Config, model::Bgp};
use fib::{
    Adopted, Backend, CompatMode, Fib, Kernel, Monitor, Scope, Twin, disable_nexthop_compat_mode, wire::ROUTE_PROTOCOL,
};
use net_types::Asn;
use netwatch::Watch;
use rand::Rng;
use telemetry::service_manager;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use super::arrivals::FarEnds;
use super::{
    Daemon, Options, monitor,
    neighbors::{Host, Neighbors},
    outlet::TableOutlet,
    recursion::Recursion,
    supervisor::Supervisor,
};
use crate::{
    bfd_thread::{self, Change, Verdict},
    failover::Cause,
    fib_thread::{self, Fault, FibHandle, Restored},
    metrics::Endpoint,
    nexthop::NextHops,
    peer::{Acceptors, Listener, PeerCommand, SelfState},
    policy_setup, rib_thread, service, setup,
    silent::{self, Silence},
    state::{Control, State},
    static_health::StaticBfd,
    tap::Kind,
    tunnels::Tunnels,
    vrrp::{Tracking, Vrrp},
};

/// Next hops that the table may be ahead of their resolution.
const NEXT_HOPS: usize = 1024;
/// Connections from listen ranges, ends of sessions, routers on links: each that wait for the supervisor.
const ARRIVALS: usize = 64;

/// The threads of a daemon.
pub struct Threads {
    open: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Waits until they have ended, which they were told to.
    pub fn join(self) {
        self.open.store(false, Ordering::Relaxed);
        for thread in self.threads {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                error!(thread = name, "a thread ended in a panic");
            }
        }
    }
}

type AnyFib = Fib<Box<dyn Backend + Send>>;

/// Opens the forwarding table and takes over what an earlier run left in it.
fn open_fib(no_kernel: bool) -> anyhow::Result<(AnyFib, Option<Monitor>, Adopted)> {
    if no_kernel {
        info!("--no-kernel: routes are learned and announced, and nothing is forwarded");
        return Ok((Fib::new(Box::new(Twin::default())), None, Adopted::default()));
    }
    match disable_nexthop_compat_mode() {
        CompatMode::AlreadyOff => {}
        CompatMode::SwitchedOff => {
            info!("net.ipv4.nexthop_compat_mode is 0 now: failover does not depend on the number of routes")
        }
        CompatMode::StaysOn(error) => warn!(
            %error,
            "net.ipv4.nexthop_compat_mode stays on: failover takes time for each route; set it to 0 (sysctl), or give bgpd CAP_NET_ADMIN and a writable /proc/sys"
        ),
    }
    let kernel = Kernel::open().context("cannot open a route socket")?;
    // Before the table is read, so that nothing that happens meanwhile is missed.
    let monitor = kernel.monitor().context("cannot watch the kernel's routes; bgpd needs CAP_NET_ADMIN")?;
    let backend: Box<dyn Backend + Send> = Box::new(kernel);
    let mut fib = Fib::new(backend);
    let adopted = fib.adopt().context("cannot read the kernel's routes")?;
    if adopted.routes > 0 {
        info!(
            routes = adopted.routes,
            nexthops = adopted.nexthops,
            "routes of an earlier run were found and stay in use until their prefixes are learned anew"
        );
    }
    Ok((fib, Some(monitor), adopted))
}

/// Starts everything. The supervisor is to be [run](Supervisor::run).
///
/// # Errors
/// When the system refuses something that the daemon cannot do without.
pub async fn start(options: Options, config: Config) -> anyhow::Result<(Supervisor, Threads)> {
    std::fs::create_dir_all(&options.run_dir).with_context(|| options.run_dir.display().to_string())?;
    let watch = Watch::start().await.context("cannot read links and addresses")?;
    let bgp = config.bgp.clone().unwrap_or_else(|| Bgp::new(Asn::literal(65535)));
    let router_id = match setup::router_id(&bgp, watch.view()) {
        Some(id) => id,
        None => Ipv4Addr::LOCALHOST.try_into()?, // Until something is configured; applying that asks again.
    };
    let (fib, kernel_monitor, adopted) = open_fib(options.no_kernel)?;
    let open = Arc::new(AtomicBool::new(true));
    let (fib, fib_thread) = fib_thread::start(fib)?;
    let neighbors = Neighbors::default();
    let mut threads = vec![fib_thread];
    if let Some(kernel_monitor) = kernel_monitor {
        threads.push(monitor::start(kernel_monitor, fib.clone(), neighbors.clone(), open.clone())?);
    }

    let (next_hops_in, next_hop_events) = mpsc::channel(NEXT_HOPS);
    let recursion = Recursion::default();
    let (events_in, rib_events) = mpsc::unbounded_channel();
    let outlet = TableOutlet {
        fib: fib.rib_side(),
        next_hops: next_hops_in,
        watch: recursion.table.clone(),
        events: events_in,
        neighbors: neighbors.clone(),
        finished: RefCell::new(BTreeMap::new()),
    };
    let rib_config = policy_setup::rib_config(&bgp, router_id, rand::rng().random());
    let (rib, rib_thread) = rib_thread::spawn(rib_config.clone(), outlet)?;
    if options.no_kernel {
        rib.apply(|rib, _| rib.without_fib()).await?;
    }
    let table = rib.clone();
    fib.call_when_room(move || table.wake());
    let static_bfd = StaticBfd::default();
    let silence = Silence::default();
    let tunnels: Arc<Mutex<Tunnels>> = Arc::default();
    let tracking = Tracking::new(neighbors.clone(), tunnels.clone());
    let changes = bfd_changes(fib.clone(), neighbors.clone(), static_bfd.clone(), silence.clone(), tracking.clone());
    let (bfd, bfd_thread) = bfd_thread::start(changes)?;
    threads.push(bfd_thread);
    drop(rib_thread); // ends with its last handle, which nobody can wait for who holds one

    let links = Arc::new(RwLock::new(watch.view().clone()));
    let (left_in, left) = mpsc::channel(ARRIVALS);
    let (arrivals_in, arrivals) = mpsc::channel(ARRIVALS);
    let (seen_in, far_ends_seen) = mpsc::channel(ARRIVALS);
    let host = Host {
        left: left_in,
        fib: fib.clone(),
        neighbors: neighbors.clone(),
        links: links.clone(),
        runtime: tokio::runtime::Handle::current(),
    };
    let (keys_changed, _) = watch::channel(0);
    let daemon = Daemon {
        options: Arc::new(options),
        rib,
        fib,
        bfd,
        neighbors,
        links,
        tunnels,
        static_bfd,
        silence,
        running: Arc::default(),
    };
    let preserved = adopted.routes > 0;
    tracking.set_settled(!preserved);
    let vrrp = Vrrp::new(tracking, daemon.neighbors.tap.clone(), !daemon.options.no_kernel);
    let (state, controls) =
        State::new(daemon.rib.clone(), daemon.fib.clone(), daemon.bfd.clone(), daemon.neighbors.tap.clone(), vrrp);
    let ipsecd = daemon.options.run_dir.join(rpc::IPSECD_SOCKET);
    tokio::spawn(silent::tell(daemon.silence.clone(), Arc::clone(&daemon.tunnels), ipsecd));
    let socket = daemon.options.run_dir.join(rpc::BGPD_SOCKET);
    answer(&socket, state.clone())?;
    let mut supervisor = Supervisor {
        daemon,
        watch,
        next_hops: NextHops::new(ROUTE_PROTOCOL),
        next_hop_events,
        recursion,
        rib_events,
        state,
        controls,
        rib_config,
        ipsecd_lost: None,
        metrics: Endpoint::default(),
        acceptors: Acceptors::with_doors(arrivals_in),
        arrivals,
        left,
        far_ends: FarEnds::new(seen_in),
        far_ends_seen,
        keys_changed,
        host: Arc::new(host),
        follower: None,
        applied: Default::default(),
        speaker: SelfState { router_id, hostname: None, restarting: preserved, forwarding_preserved: preserved },
        listening: false,
    };
    let limit = bgp.graceful_restart.select_defer_time.unwrap_or(bgp.graceful_restart.restart_time);
    if preserved {
        // Neighbors may have told everything before all of them are set up.
        supervisor.daemon.rib.hold(limit).await?;
    }
    supervisor.apply(Arc::new(config)).await.map_err(|text| anyhow!(text))?;
    if preserved {
        let awaited = supervisor.awaited();
        info!(neighbors = awaited.len(), ?limit, "waiting for every neighbor's routes before anything is changed");
        supervisor.daemon.rib.defer(limit, awaited).await?;
    }
    for file in supervisor.daemon.options.load.clone() {
        let Supervisor { state, rib_config, .. } = &supervisor;
        let begun = state.loads.begin(&state.rib, rib_config.asn, &file, None).await;
        begun.map_err(|why| anyhow!("--load: {why}"))?;
    }
    supervisor.follow_tunnels();
    supervisor.follow_settings().await;
    let state = supervisor.state.clone();
    tokio::spawn(service_manager::watchdog(move || {
        let state = state.clone();
        async move {
            // Through the loop, and through the table's thread: either may hang alone.
            let _loop = state.control(Control::Ping).await;
            let _table = state.rib.query(|_, _| ()).await;
        }
    }));
    Ok((supervisor, Threads { open, threads }))
}

/// Answers operators on a thread of its own: where hundreds of sessions have much to write, a question would else wait for
/// each of their tasks. The thread ends with the process.
fn answer(socket: &Path, state: State) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (socket, (tell, told)) = (socket.to_owned(), std::sync::mpsc::channel());
    let serve = move || {
        runtime.block_on(async {
            let server = match rpc::Server::bind(&socket, service::service(state), rpc::Limits::default()) {
                Ok(server) => server,
                // Whoever started us waits for the answer.
                Err(error) => return tell.send(Err(error)).unwrap_or_default(),
            };
            tell.send(Ok(())).unwrap_or_default();
            server.run().await;
        });
    };
    std::thread::Builder::new().name("rpc".into()).spawn(serve)?;
    told.recv().context("the thread that answers operators ended")??;
    Ok(())
}

/// Accepts connections for as long as the supervisor lives.
pub(super) fn listen(
    addresses: &[SocketAddr],
    acceptors: &Acceptors,
    keys: &watch::Receiver<u64>,
) -> anyhow::Result<()> {
    let everywhere = [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 179)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 179))];
    let addresses = if addresses.is_empty() { &everywhere } else { addresses };
    for address in addresses {
        match Listener::bind(*address, acceptors.clone()) {
            Ok(listener) => {
                tokio::spawn(listener.run(keys.clone()));
            }
            // A machine without IPv6.
            Err(error) if address.is_ipv6() && addresses == everywhere => warn!(%address, %error, "cannot listen"),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot listen on {address}: another BGP speaker may run here; port 179 takes CAP_NET_BIND_SERVICE")
                });
            }
        }
    }
    Ok(())
}

/// What happens when a BFD session changes: called on its thread.
fn bfd_changes(
    fib: FibHandle,
    neighbors: Neighbors,
    static_bfd: StaticBfd,
    silence: Silence,
    tracking: Tracking,
) -> impl FnMut(Change) + Send {
    move |change: Change| {
        static_route_follows(&fib, &static_bfd, &change);
        silence.changed(&change);
        let Some(neighbor) = change.neighbor else { return }; // it stands alone: shown, and no session depends on it
        let scope = Scope::Monitored(neighbor.0);
        neighbors.tap.event(
            Kind::Bfd,
            change.peer.address,
            format!("{} to {}: {}", change.from, change.to, change.cause),
        );
        let Some(verdict) = change.verdict() else { return };
        let words = vec![(scope, verdict.state())];
        let entry = neighbors.get(&change.peer.address);
        match verdict {
            Verdict::Up => {
                fib.words(words);
                if let Some(entry) = entry {
                    entry.handle.send(PeerCommand::BfdUp);
                    entry.signs.heard();
                    tracking.changed();
                }
            }
            Verdict::Lost => {
                let interface = entry.as_ref().and_then(|entry| entry.interface.clone());
                let heard_no_more = entry.clone();
                let fault = Fault::at(change.at, Cause::BfdDown, change.cause.to_string(), words)
                    .peer(change.peer.address)
                    .over(interface)
                    .then(move || {
                        if let Some(entry) = entry {
                            entry.handle.send(PeerCommand::BfdLost { independent: change.independent });
                        }
                    });
                fib.fault(fault);
                if let Some(entry) = heard_no_more {
                    entry.signs.silent(entry.handle.status().established_count);
                    tracking.changed();
                }
            }
            Verdict::Waived => fib.words(words),
        }
    }
}

/// Moves static routes that depend on this session.
fn static_route_follows(fib: &FibHandle, static_bfd: &StaticBfd, change: &Change) {
    let up = match change.verdict() {
        Some(Verdict::Up) => true,
        Some(Verdict::Lost) => false,
        Some(Verdict::Waived) | None => return,
    };
    let hop = (change.peer.ifindex, change.peer.address);
    let Some(word) = static_bfd.changed(hop, up) else { return };
    if up {
        fib.words(vec![word]);
        return fib.restored(Restored::Peer(change.peer.address));
    }
    let interface = change.interface.clone().map(|name| (change.peer.ifindex, name));
    let mut fault = Fault::now(Cause::BfdDown, change.cause.to_string(), vec![word]).peer(change.peer.address);
    fault.at = change.at;
    fib.fault(fault.over(interface));
}

/// Tells the service manager that the daemon serves.
pub fn ready(supervisor: &Supervisor) {
    let neighbors = supervisor.daemon().neighbors.all().len();
    service_manager::ready(&format!("{neighbors} neighbors configured"));
    info!(neighbors, router_id = %supervisor.speaker.router_id, "bgpd is ready");
}
