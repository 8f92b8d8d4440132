//! The task that keeps the daemon as configured: configuration, links, tunnels and next hops come together here.
//!
//! It is on nobody's fast path: when it hears of a fault, traffic has moved already.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError},
    time::{Instant, SystemTime},
};

use bgp_core::PeerId;
use bgp_core::rib::{NextHopEvent, NextHopKey, Resolved, RibConfig, RibEvent};
use bgp_wire::{Notification, notification::CeaseCode};
use config::{
    Parsed, UnknownLines,
    command::{Clear, Cleared},
    model::{Config, MaximumPrefixAction},
};
use fib::{PathState, Scope};
use netwatch::{Change, Watch};
use rpc::{Follower, WatchTunnels};
use telemetry::service_manager;
use tokio::{
    net::TcpStream,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};
use tracing::{error, info, warn};

use super::{Daemon, apply::Applied, arrivals::FarEnds, neighbors::Host, recursion::Recursion};
use crate::{
    failover::Cause,
    fib_thread::Restored,
    metrics::Endpoint,
    nexthop::{NextHops, Way},
    peer::{Acceptors, PeerCommand, SelfState},
    rib_thread::Gone,
    router_advert::Seen,
    state::{Control, Running, State},
    tap::Kind,
    tunnels::{self, News, is_up},
};

/// The task's state. [`start`](super::start::start) makes it.
pub struct Supervisor {
    pub(super) daemon: Daemon,
    pub(super) watch: Watch,
    pub(super) next_hops: NextHops,
    pub(super) next_hop_events: mpsc::Receiver<NextHopEvent>,
    pub(super) recursion: Recursion,
    pub(super) rib_events: mpsc::UnboundedReceiver<RibEvent>,
    pub(super) state: State,
    pub(super) controls: mpsc::Receiver<Control>,
    pub(super) rib_config: RibConfig,
    pub(super) ipsecd_lost: Option<String>,
    pub(super) metrics: Endpoint,
    pub(super) acceptors: Acceptors,
    pub(super) keys_changed: watch::Sender<u64>,
    pub(super) host: Arc<Host>,
    pub(super) follower: Option<Follower<WatchTunnels>>,
    pub(super) applied: Applied,
    pub(super) speaker: SelfState,
    pub(super) listening: bool,
    pub(super) arrivals: mpsc::Receiver<(TcpStream, SocketAddr)>,
    pub(super) left: mpsc::Receiver<PeerId>,
    pub(super) far_ends: FarEnds,
    pub(super) far_ends_seen: mpsc::Receiver<Seen>,
}

/// The signals that the daemon obeys.
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they do not kill us.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

impl Supervisor {
    /// The parts of the daemon, for whoever shows or asks something.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Runs until a signal says otherwise, or a part of the daemon is gone.
    pub async fn run(&mut self, signals: &mut Signals) {
        let static_bfd = self.daemon.static_bfd.clone();
        loop {
            let result = tokio::select! {
                _ = signals.terminate.recv() => return info!("told to end (SIGTERM)"),
                _ = signals.interrupt.recv() => return info!("told to end (SIGINT)"),
                _ = signals.hangup.recv() => {
                    if let Err(mistakes) = self.reload().await {
                        error!("the configuration stays as it was:\n{mistakes}");
                    }
                    Ok(())
                }
                Some(order) = self.controls.recv() => self.order(order).await,
                Some((stream, remote)) = self.arrivals.recv() => self.arrived(stream, remote).await,
                Some(peer) = self.left.recv() => self.left(peer).await,
                Some(seen) = self.far_ends_seen.recv() => self.far_end_seen(seen).await,
                Some(event) = self.next_hop_events.recv() => self.next_hop(event).await,
                () = self.recursion.wake() => self.resolve_by_table().await,
                Some(event) = self.rib_events.recv() => self.rib_event(event).await,
                change = self.watch.changed() => match change {
                    Ok(change) => self.link_event(change).await,
                    Err(error) => return error!(%error, "links and addresses cannot be watched any more"),
                },
                news = follow(&mut self.follower) => {
                    let news = self.daemon.tunnels.lock().unwrap_or_else(PoisonError::into_inner).apply(news);
                    self.state.vrrp.tracking().changed();
                    news.into_iter().for_each(|news| self.tunnel_news(news));
                    self.health_changed().await
                }
                () = static_bfd.news() => self.health_changed().await,
            };
            if let Err(gone) = result {
                return error!(%gone, "the daemon cannot go on");
            }
        }
    }

    /// Reads the file again and applies the difference.
    ///
    /// # Errors
    /// All mistakes, in which case nothing has changed.
    pub(super) async fn reload(&mut self) -> Result<String, String> {
        service_manager::reloading();
        let read = read_config(&self.daemon.options.config, self.daemon.options.unknown_lines);
        let result = match read {
            Ok((config, warnings)) => {
                warnings.iter().for_each(|line| warn!("{line}"));
                self.apply(Arc::new(config)).await
            }
            Err(mistakes) => Err(mistakes),
        };
        match &result {
            Ok(summary) => {
                info!(summary, "configuration reloaded");
                self.state.tap.event(Kind::Policy, "configuration", format!("reloaded: {summary}"));
                self.follow_tunnels();
                self.follow_settings().await;
                service_manager::ready("configuration reloaded");
            }
            Err(_) => service_manager::ready("the new configuration was refused; the old one is in force"),
        }
        result
    }

    /// Puts lines into the configuration in force and applies the difference. The answer is what may not be what is meant.
    ///
    /// # Errors
    /// All mistakes, in which case nothing has changed.
    async fn configure(&mut self, lines: &str) -> Result<String, String> {
        let running = self.daemon.config();
        let edited = config::edit(&running, lines, self.daemon.options.unknown_lines);
        let Parsed { config, warnings } = edited.map_err(|refused| refused.render(lines))?;
        if config != *running {
            let summary = self.apply(Arc::new(config)).await?;
            info!(summary, "lines were put into the configuration in force");
            self.follow_tunnels();
            self.follow_settings().await;
        }
        warnings.lines("configure").for_each(|line| warn!("{line}"));
        Ok(warnings.to_string())
    }

    /// Metrics, RPKI caches, BMP stations, dumps and logs are as the configuration says.
    pub(super) async fn follow_settings(&mut self) {
        let config = self.daemon.config();
        self.metrics.follow(config.metrics.bgpd, &self.state).await;
        self.state.rpki.configure(&config.rpki).await;
        self.state.bmp.configure(&config, &self.state);
        self.state.vrrp.configure(&config);
        self.state.dumps.configure(&config.dumps, &self.state, &self.state.tap);
        if let Some(logs) = &self.daemon.options.logs
            && let Err(error) = logs.set_level(config.log.level.map_or("info", |level| level.as_str()))
        {
            warn!(%error, "the log level stays as it was");
        }
    }

    /// ipsecd is followed as long as tunnels are configured.
    pub(super) fn follow_tunnels(&mut self) {
        let wanted = !self.daemon.config().tunnels.is_empty();
        if wanted && self.follower.is_none() {
            self.follower = Some(crate::tunnels::follow(&self.daemon.options.run_dir));
        } else if !wanted && self.follower.take().is_none() {
            info!("no tunnel is configured: running as a BGP speaker without ipsecd");
        }
    }

    async fn order(&mut self, order: Control) -> Result<(), Gone> {
        // Whoever asked may have gone, which changes nothing.
        match order {
            Control::Reload(answer) => {
                let _ = answer.send(self.reload().await);
            }
            Control::Configure { lines, answer } => {
                let _ = answer.send(self.configure(&lines).await);
            }
            Control::Clear { whom, how, answer } => {
                let result = self.clear(&whom, how).await?;
                let _ = answer.send(result);
            }
            Control::Ping(answer) => {
                let _ = answer.send(Ok(String::new()));
            }
        }
        Ok(())
    }

    /// Shows to the outside what runs now.
    pub(super) fn publish(&self) {
        let config = self.daemon.config();
        self.state.set_running(Running {
            rib: config.bgp.is_some().then(|| self.rib_config.clone()),
            config,
            peers: self.daemon.neighbors.all().into_iter().map(|(address, entry)| (address, entry.handle)).collect(),
            view: Arc::new(self.watch.view().clone()),
            ipsecd_lost: self.ipsecd_lost.clone(),
            health: self.health(),
        });
    }

    async fn clear(&mut self, whom: &Cleared, how: Clear) -> Result<Result<String, String>, Gone> {
        let mut chosen = self.daemon.neighbors.all();
        let (own, config) = (self.rib_config.asn, self.daemon.config());
        chosen.retain(|(address, entry)| {
            let status = entry.handle.status();
            match whom {
                Cleared::All => true,
                Cleared::Neighbor(wanted) => *wanted == (*address).into() || *wanted == status.spec.name(),
                Cleared::As(wanted) => status.remote_as() == Some(*wanted),
                Cleared::External => status.remote_as() != Some(own),
                Cleared::Group(wanted) => {
                    let bgp = config.bgp.as_ref();
                    bgp.and_then(|bgp| bgp.named(&status.spec.name())?.peer_group).as_ref() == Some(wanted)
                }
            }
        });
        let nobody = match whom {
            Cleared::Neighbor(name) => Some(format!("{name} is no neighbor")),
            Cleared::As(asn) => Some(format!("no neighbor is in {asn}")),
            Cleared::Group(name) => Some(format!("no neighbor is in peer-group {name}")),
            Cleared::All | Cleared::External => None,
        };
        if let (Some(nobody), true) = (nobody, chosen.is_empty()) {
            return Ok(Err(format!("{nobody}; see \"show bgp neighbors\"")));
        }
        for (address, entry) in &chosen {
            let id = entry.handle.id();
            if matches!(how, Clear::Hard) {
                entry.handle.send(PeerCommand::Reset(Notification::cease(CeaseCode::AdministrativeReset)));
                entry.handle.send(PeerCommand::Start);
                // What an earlier session or an earlier run left behind, and fails closed, goes too.
                self.daemon.fib.excused(Some(id).filter(|_| !matches!(whom, Cleared::All)));
                self.daemon.rib.apply(move |rib, _| rib.clear_leftovers(id)).await?;
            }
            for family in self.families_of(address) {
                if matches!(how, Clear::SoftIn | Clear::Soft) {
                    entry.handle.send(PeerCommand::RequestRoutes(family));
                    self.daemon.rib.apply(move |rib, _| rib.reimport(id, family)).await?;
                }
                if matches!(how, Clear::SoftOut | Clear::Soft) {
                    self.daemon.rib.apply(move |rib, _| rib.route_refresh(id, family)).await?;
                }
            }
        }
        Ok(Ok(format!("{} neighbors cleared", chosen.len())))
    }

    async fn next_hop(&mut self, event: NextHopEvent) -> Result<(), Gone> {
        match event {
            NextHopEvent::Wanted(key) => self.want_next_hop(key).await?,
            NextHopEvent::Unwanted(key) => self.next_hops.unwant(key),
        }
        if self.next_hop_events.is_empty() {
            // The table may have more than there was room for.
            self.daemon.rib.wake();
        }
        Ok(())
    }

    pub(super) async fn tell_next_hop(&self, key: NextHopKey, way: Option<Way>) -> Result<(), Gone> {
        let what = match way {
            Some(way) if way.gateway == key.address => format!("reached on interface {}", way.ifindex),
            Some(way) => format!("reached by way of {} on interface {}", way.gateway, way.ifindex),
            None => "not reached".to_owned(),
        };
        self.state.tap.event(Kind::NextHop, key.address, what);
        let resolved = way.map(|way| Resolved { ifindex: way.ifindex, gateway: Some(way.gateway), metric: way.metric });
        self.daemon.rib.next_hop_resolved(key, resolved).await
    }

    async fn rib_event(&mut self, event: RibEvent) -> Result<(), Gone> {
        match event {
            RibEvent::MaximumPrefix { peer, family, count, limit, teardown } => {
                let Some((address, entry)) = self.daemon.neighbors.by_id(peer) else { return Ok(()) };
                warn!(neighbor = %address, %family, count, limit, teardown, "the neighbor sends too many prefixes, or nearly");
                if teardown {
                    entry.handle.send(PeerCommand::Stop(Notification::cease(CeaseCode::MaximumPrefixes)));
                    self.restart_later(address, family);
                }
            }
            RibEvent::Departed { peer, family } => {
                tracing::debug!(%peer, %family, "everything learned from a session that ended has been decided again");
            }
            RibEvent::Settled(_) => {
                info!("every neighbor has said what it has, or its time is over: routes are announced");
                self.state.vrrp.tracking().set_settled(true);
                self.restart_is_over();
            }
        }
        Ok(())
    }

    /// `maximum-prefix … restart MINUTES`
    fn restart_later(&self, address: IpAddr, family: net_types::Family) {
        let config = self.daemon.config();
        let neighbor = config.bgp.as_ref().and_then(|bgp| bgp.resolve(&address.into()));
        let settings = neighbor.and_then(|neighbor| neighbor.settings.families.get(&family).cloned());
        let action = settings.and_then(|settings| settings.maximum_prefix).map(|maximum| maximum.action);
        if let Some(MaximumPrefixAction::Restart(pause)) = action {
            let neighbors = self.daemon.neighbors.clone();
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                if let Some(entry) = neighbors.get(&address) {
                    entry.handle.send(PeerCommand::Start);
                }
            });
        }
    }

    async fn link_event(&mut self, change: Change) -> Result<(), Gone> {
        if let Change::Link(link) | Change::LinkGone(link) = &change {
            let what = match &change {
                Change::LinkGone(_) => "gone",
                _ if link.is_up() => "up",
                _ => "down",
            };
            self.state.tap.event(Kind::Link, &link.name, what);
        }
        match &change {
            Change::Routes => return self.routes_changed().await,
            Change::Address(ifindex) => self.daemon.fib.retry(*ifindex),
            Change::Link(link) if link.is_up() => self.daemon.fib.retry(link.ifindex),
            Change::Link(_) | Change::LinkGone(_) | Change::Everything => {}
        }
        self.links_changed().await?;
        if let Change::Address(ifindex) = change {
            // An address that came, or is known to be nobody else's now: what was dialed without it went nowhere.
            self.daemon.neighbors.path_back(ifindex);
        }
        Ok(())
    }

    /// What ipsecd says of a tunnel, as a word on the paths over it.
    fn tunnel_news(&mut self, news: News) {
        let Daemon { fib, neighbors, tunnels: known, .. } = &self.daemon;
        let at = (Instant::now(), SystemTime::now());
        match news {
            News::Status(status) => {
                let word = tunnels::word(&status);
                if is_up(&status) {
                    info!(tunnel = %status.tunnel, "tunnel is up");
                    neighbors.tap.event(Kind::Tunnel, &status.tunnel, "up");
                    fib.words(vec![word]);
                    neighbors.path_back(status.ifindex);
                    neighbors.path_restored(fib, status.ifindex);
                    fib.restored(Restored::Interface(status.tunnel.clone().into()));
                } else {
                    let detail = match &status.state {
                        rpc::TunnelState::Down { cause } => cause.as_str(),
                        _ => "the tunnel is being negotiated anew",
                    };
                    info!(tunnel = %status.tunnel, cause = detail, "tunnel is down");
                    neighbors.tap.event(Kind::Tunnel, &status.tunnel, format!("down: {detail}"));
                    neighbors.path_lost(fib, status.ifindex, Cause::TunnelDown, detail, word, at);
                }
            }
            News::Gone(status) => {
                let word = (Scope::Tunnel(status.ifindex), PathState::Dead);
                let detail = "the tunnel is not configured any more";
                neighbors.path_lost(fib, status.ifindex, Cause::Configuration, detail, word, at);
            }
            News::Synced => {
                info!("ipsecd has told the state of every tunnel");
                self.ipsecd_lost = None;
                self.publish();
            }
            News::Lost(why) => {
                neighbors.tap.event(Kind::Tunnel, "ipsecd", format!("cannot be reached: {why}"));
                warn!(why, "ipsecd cannot be reached: its tunnels are in doubt until it is back; BFD decides");
                let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                for status in known.all() {
                    let Some(word) = tunnels::word_of_the_absent(status) else { continue };
                    neighbors.path_lost(fib, status.ifindex, Cause::IpsecdLost, &why, word, at);
                }
                drop(known);
                self.ipsecd_lost = Some(why);
                self.publish();
            }
        }
    }

    /// Ends everything in an order that leaves forwarding as it is: the forwarding table first, so that sessions that
    /// end take no route along.
    pub async fn shut_down(self) {
        service_manager::stopping();
        // Hosts are sent elsewhere while everything still works here.
        self.state.vrrp.shut_down().await;
        self.state.set_running(Running::default());
        self.daemon.fib.close();
        self.daemon.bfd.close();
        let mut ends = tokio::task::JoinSet::new();
        // Entries are not kept meanwhile: whoever holds the last one can wait for its task.
        let addresses: Vec<IpAddr> = self.daemon.neighbors.all().into_iter().map(|(address, _)| address).collect();
        for address in addresses {
            self.acceptors.remove(address);
            let Some(entry) = self.daemon.neighbors.remove(&address) else { continue };
            match Arc::try_unwrap(entry.handle) {
                Ok(handle) => {
                    ends.spawn(handle.leave());
                }
                Err(handle) => handle.send(PeerCommand::Leave),
            }
        }
        ends.join_all().await;
        info!("neighbors have been told; routes stay in the kernel");
    }
}

async fn follow(follower: &mut Option<Follower<WatchTunnels>>) -> rpc::Followed<rpc::TunnelEvent> {
    match follower {
        Some(follower) => follower.next().await,
        None => std::future::pending().await,
    }
}

/// Reads and parses the file; the warnings, a line each, are the caller's to log.
///
/// # Errors
/// All mistakes, for people.
pub fn read_config(path: &std::path::Path, unknown: UnknownLines) -> Result<(Config, Vec<String>), String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    match config::parse_with(&text, unknown) {
        Ok(parsed) => {
            let warnings = parsed.warnings.lines(&name).collect();
            Ok((parsed.config, warnings))
        }
        Err(mistakes) => Err(mistakes.render(&name, &text)),
    }
}
