//! The daemon: one loop that owns the IKE engine, the links and the tunnel interfaces, and waits for whatever comes next.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use config::model::Config;
use dataplane::{Datapaths, Dataplane, KeeperDoor};
use futures_util::FutureExt;
use ike_core::{ConnectionConfig, Input};
use ike_crypto::CrashTokenSecret;
use net_types::TunnelName;
use netwatch::Watch;
use rpc::TunnelState;
use telemetry::service_manager;
use tokio::sync::{mpsc, watch};

use crate::{
    datapath,
    devices::Devices,
    ike_loop::{IkeLoop, TunnelFacts, since_1970},
    links::{Changed, Links},
    probe::Probes,
    standby::{Order, Standbys},
    state::{Answer, Request, State},
    trust::{Material, Trust},
    upcall::{self, Incoming},
    wan::WanRouting,
};

/// Most changes of links and addresses that are looked at together.
const NEWS: usize = 4096;
/// How long peers have to answer the farewell. They notice by themselves what they did not hear.
const FAREWELL: Duration = Duration::from_secs(2);

/// A configuration that was read and found right, with the credentials that it names.
pub struct Loaded {
    /// All sections.
    pub config: Arc<Config>,
    /// Every tunnel as the IKE engine wants it.
    pub connections: Vec<ConnectionConfig>,
    /// Certificates to watch and lists to keep.
    pub material: Material,
}

/// Reads the configuration anew. An error is for the operator, and changes nothing.
pub type Loader = Box<dyn Fn() -> Result<Loaded, String> + Send>;

/// The running daemon.
pub struct Daemon {
    load: Loader,
    watch: Watch,
    links: Links,
    devices: Devices,
    facts: BTreeMap<TunnelName, TunnelFacts>,
    ike: IkeLoop,
    state: State,
    trust: Trust,
    standbys: Standbys,
    probes: Probes,
    incoming: Incoming,
    requests: mpsc::Receiver<Request>,
    /// What runs.
    loaded: Loaded,
    dataplane: Arc<Datapaths>,
    keeper: Option<KeeperDoor>,
    /// Open as long as the keeper lives.
    keeper_line: Option<KeeperLine>,
}

impl Daemon {
    /// Brings links and tunnel interfaces to the configuration and begins to negotiate. Interfaces that an earlier daemon
    /// left in the keeper's hands are taken up as they are. Without `crash_tokens`, peers need dead peer detection to
    /// notice that this daemon has lost its SAs.
    ///
    /// # Errors
    /// When the kernel cannot be asked for its links.
    pub async fn start(
        keeper: Option<KeeperDoor>,
        load: Loader,
        loaded: Loaded,
        crash_tokens: Option<CrashTokenSecret>,
    ) -> anyhow::Result<Self> {
        let watch = Watch::start().await.context("watching the kernel's links and addresses")?;
        let (upcalls, incoming) = upcall::queues();
        let datapaths = Arc::new(Datapaths::new(upcalls, keeper.clone()));
        let dataplane: Arc<dyn Dataplane> = Arc::<Datapaths>::clone(&datapaths);
        let (state, requests) = State::new(Arc::clone(&dataplane));
        let links = Links::new(Arc::clone(&dataplane), WanRouting::new(watch.handle().clone()), state.clone());
        let devices = Devices::new(Arc::clone(&dataplane), watch.handle().clone(), state.clone());
        let trust = Trust::start(state.clone());
        let probes = Probes::new(state.clone());
        let mut ike = IkeLoop::new(Instant::now(), Arc::clone(&dataplane), state.clone(), trust.asker());
        if let Some(secret) = crash_tokens {
            ike.set_crash_token_secret(secret);
        }
        let nothing = Loaded { config: Arc::default(), connections: Vec::new(), material: Material::default() };
        let facts = BTreeMap::new();
        let mut daemon = Self {
            load,
            watch,
            links,
            devices,
            facts,
            ike,
            state,
            trust,
            standbys: Standbys::default(),
            probes,
            incoming,
            requests,
            loaded: nothing,
            dataplane: datapaths,
            keeper,
            keeper_line: None,
        };
        daemon.apply(loaded).await;
        Ok(daemon)
    }

    /// What others may read and ask.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Serves until `stop` completes. Then peers are told, and interfaces stay as they are: what is routed into them is
    /// dropped.
    ///
    /// # Errors
    /// When the kernel's notifications end.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut stop = pin!(stop);
        loop {
            let deadline = self.ike.deadline().into_iter().chain(self.standbys.deadline()).min();
            tokio::select! {
                biased; // links first: their loss moves traffic. Then timers, which no flood of messages may starve.
                changed = self.watch.changed() => {
                    changed.context("watching the kernel's links and addresses")?;
                    // What is there already is looked at together: each of thousands of interfaces that come up is news.
                    for _ in 0..NEWS {
                        let Some(more) = self.watch.changed().now_or_never() else { break };
                        more.context("watching the kernel's links and addresses")?;
                    }
                    self.links_changed().await;
                }
                () = sleep_until(deadline) => self.ike.tick(Instant::now()),
                () = &mut stop => break,
                () = ended(self.keeper_line.as_ref()) => self.keeper_ended(),
                known = self.trust.changed() => self.ike.handle(Instant::now(), Input::Revocations(known)),
                Some(request) = self.requests.recv() => self.serve(request).await,
                Some(event) = self.incoming.events.recv() => self.packet_event(event).await,
                told = self.probes.told() => self.probes.heard(told),
                Some(datagram) = self.incoming.ike.recv() => self.ike.datagram(Instant::now(), datagram),
            }
            self.probes.follow(&self.facts);
            self.look_at_standbys();
        }
        service_manager::stopping();
        self.farewell().await;
        Ok(())
    }

    async fn links_changed(&mut self) {
        let lost = self.links.lost(self.watch.view());
        self.tell_links(lost);
        let found = self.links.found(self.watch.view()).await;
        self.tell_links(found);
        let work = self.devices.need_work(&self.loaded.config, &self.links, self.watch.view(), &self.facts);
        if !work.deleted.is_empty() {
            // Their keys go with them: peers are told, and asked again once there is an interface.
            self.facts.retain(|tunnel, _| !work.deleted.contains(tunnel));
            self.standbys.forgotten(&work.deleted);
            self.configure_ike();
            self.devices.drop_deleted(&work.deleted);
        }
        self.remake(&work.remade);
        if work.mtu || work.ends || !work.deleted.is_empty() || !work.remade.is_empty() {
            self.facts = self.devices.configure(&self.loaded.config, &self.links).await;
            self.configure_ike();
        }
    }

    async fn packet_event(&mut self, event: dataplane::Event) {
        let dataplane::Event::PathMtu { tunnel, mtu } = event else {
            return self.ike.packet_event(Instant::now(), event);
        };
        let Some(facts) = self.facts.get_mut(&tunnel) else { return };
        self.devices.fit_path(&self.loaded.config, &self.links, &tunnel, mtu, facts).await;
        self.ike.set_mtu(&tunnel, facts.mtu);
    }

    fn tell_links(&mut self, changed: Vec<Changed>) {
        for Changed { wan, addresses } in changed {
            self.ike.handle(Instant::now(), Input::Wan { wan, addresses });
        }
    }

    fn look_at_standbys(&mut self) {
        let tunnels = self.state.tunnels();
        let is_up = |tunnel: &TunnelName| {
            tunnels.get(tunnel).is_some_and(|status| matches!(status.state, TunnelState::Up { .. }))
        };
        let orders = self.standbys.look(Instant::now(), is_up);
        self.obey(orders);
    }

    fn obey(&mut self, orders: Vec<Order>) {
        let now = Instant::now();
        for order in orders {
            match order {
                Order::Call(tunnel) if self.facts.contains_key(&tunnel) => {
                    tracing::info!(%tunnel, "no other path is left: calling");
                    self.ike.handle(now, Input::Initiate(tunnel));
                }
                Order::Release(tunnel) if self.facts.contains_key(&tunnel) => {
                    tracing::info!(%tunnel, "another path has been back for long enough: standing by");
                    self.ike.handle(now, Input::Terminate(tunnel));
                }
                // Without an interface, as an error in the log says, it cannot be called: it is once it has one.
                Order::Call(tunnel) => self.standbys.forgotten(&[tunnel].into()),
                Order::Release(_) => {}
            }
        }
    }

    async fn serve(&mut self, request: Request) {
        let now = Instant::now();
        match request {
            Request::Initiate(tunnel, answer) => {
                self.standbys.by_hand(now, &tunnel, true);
                self.ask(&tunnel, answer, "initiating", |ike, tunnel| {
                    ike.handle(now, Input::Initiate(tunnel));
                });
            }
            Request::Terminate(tunnel, answer) => {
                self.standbys.by_hand(now, &tunnel, false);
                self.ask(&tunnel, answer, "terminated", |ike, tunnel| {
                    ike.handle(now, Input::Terminate(tunnel));
                });
            }
            Request::Silent(tunnels, answer) => {
                self.standbys.silent(now, tunnels);
                let _nobody_waits = answer.send(Ok(String::new()));
            }
            Request::Rekey { tunnel, ike: whole, answer } => self.ask(&tunnel, answer, "rekeying", |ike, tunnel| {
                ike.handle(now, Input::Rekey { tunnel, ike: whole });
            }),
            Request::Reload(answer) => {
                let outcome = self.reload().await;
                let _nobody_waits = answer.send(outcome);
            }
            Request::Ping(answer) => {
                let _nobody_waits = answer.send(Ok(String::new()));
            }
        }
    }

    fn ask(&mut self, tunnel: &TunnelName, answer: Answer, done: &str, act: impl FnOnce(&mut IkeLoop, TunnelName)) {
        let outcome = if self.facts.contains_key(tunnel) {
            act(&mut self.ike, tunnel.clone());
            tracing::info!(%tunnel, "{done} on request");
            Ok(format!("tunnel {tunnel}: {done}"))
        } else {
            Err(format!("there is no tunnel {tunnel}; \"show ipsec tunnel\" lists them"))
        };
        let _nobody_waits = answer.send(outcome);
    }

    async fn reload(&mut self) -> Result<String, String> {
        service_manager::reloading();
        let outcome = match (self.load)() {
            Ok(loaded) => {
                self.apply(loaded).await;
                Ok("configuration reloaded".to_owned())
            }
            Err(error) => Err(error),
        };
        match &outcome {
            Ok(done) => tracing::info!("{done}"),
            Err(error) => tracing::error!("the configuration stays as it was: {error}"),
        }
        service_manager::ready(&self.summary());
        outcome
    }

    /// Brings everything from what runs to what is configured. What did not change does not notice.
    async fn apply(&mut self, loaded: Loaded) {
        self.ike.handle(Instant::now(), Input::WallClock(since_1970()));
        self.state.set_config(Arc::clone(&loaded.config));
        // Lists that were read are known before anybody is accepted.
        let known = self.trust.configure(loaded.material.clone());
        self.ike.handle(Instant::now(), Input::Revocations(known));
        let choices = datapath::choose(&loaded.config, || self.dataplane.kernel_support());
        let kernel_wans = datapath::kernel_wans(&loaded.config, &choices);
        self.devices.choose(choices);
        let gone = self.links.configure(&loaded.config, &kernel_wans).await;
        let lost = self.links.lost(self.watch.view());
        let found = self.links.found(self.watch.view()).await;
        self.loaded = loaded;
        let view = self.watch.view();
        let work = self.devices.need_work(&self.loaded.config, &self.links, view, &self.facts);
        self.remake(&work.remade);
        self.facts = self.devices.configure(&self.loaded.config, &self.links).await;
        self.tell_links(lost);
        self.tell_links(found);
        self.configure_ike();
        self.standbys.configure(Instant::now(), &self.loaded.config);
        self.probes.configure(&self.loaded.config);
        self.tell_links(gone);
        self.devices.remove_stale(&self.loaded.config);
        self.watch_keeper();
    }

    /// Ends tunnels whose interfaces are to be made anew: their keys go with the old ones.
    fn remake(&mut self, remade: &BTreeSet<TunnelName>) {
        if remade.is_empty() {
            return;
        }
        self.facts.retain(|tunnel, _| !remade.contains(tunnel));
        self.standbys.forgotten(remade);
        self.configure_ike();
    }

    /// Without tunnels there is no keeper to watch.
    fn watch_keeper(&mut self) {
        if self.facts.is_empty() {
            self.keeper_line = None;
        } else if self.keeper_line.is_none()
            && let Some(door) = &self.keeper
        {
            match KeeperLine::watch(door) {
                Ok(line) => self.keeper_line = Some(line),
                Err(error) => tracing::error!(%error, "no keeper of tunnel devices; they do not outlive this process"),
            }
        }
    }

    /// Somebody has ended the keeper. Another one is given the devices before this process can end, too.
    fn keeper_ended(&mut self) {
        self.keeper_line = None;
        if self.facts.is_empty() {
            return;
        }
        tracing::error!("the keeper of tunnel devices has ended; starting another");
        if let Err(error) = self.dataplane.keep_devices() {
            tracing::error!(%error, "tunnel devices do not outlive this process");
        }
        self.watch_keeper();
    }

    fn configure_ike(&mut self) {
        // A tunnel without an interface would negotiate keys for nothing.
        let with_device = |connection: &&ConnectionConfig| self.facts.contains_key(&connection.tunnel);
        let connections = self.loaded.connections.iter().filter(with_device).cloned().collect();
        self.ike.configure(Instant::now(), self.facts.clone(), connections);
        for (tunnel, facts) in &self.facts {
            if self.state.tunnels().get(tunnel).is_none() {
                self.state.publish(tunnel, &facts.wan, facts.ifindex, TunnelState::Negotiating);
            }
        }
    }

    /// A line for `systemctl status`.
    pub fn summary(&self) -> String {
        let tunnels = self.state.tunnels().snapshot();
        let up = tunnels.iter().filter(|(_, status)| matches!(status.state, TunnelState::Up { .. })).count();
        format!("{up} of {} tunnels up", tunnels.len())
    }

    /// Tells every peer, and waits a little for their answers.
    async fn farewell(&mut self) {
        self.ike.handle(Instant::now(), Input::Shutdown);
        let end = Instant::now() + FAREWELL;
        while !self.ike.is_idle() && Instant::now() < end {
            let deadline = self.ike.deadline().map_or(end, |at| at.min(end));
            tokio::select! {
                () = sleep_until(Some(deadline)) => self.ike.tick(Instant::now()),
                Some(datagram) = self.incoming.ike.recv() => self.ike.datagram(Instant::now(), datagram),
                else => break,
            }
        }
    }
}

/// Word of the keeper's end.
struct KeeperLine {
    ended: watch::Receiver<bool>,
    since: Instant,
}

impl KeeperLine {
    fn watch(door: &KeeperDoor) -> std::io::Result<Self> {
        let mut client = door()?;
        let (tell, ended) = watch::channel(false);
        let watcher = move || match client.wait_for_end() {
            Ok(()) => {
                tell.send_replace(true);
            }
            Err(error) => tracing::error!(%error, "the keeper of tunnel devices is not watched any more"),
        };
        std::thread::Builder::new().name("keeper-watch".into()).spawn(watcher)?;
        Ok(Self { ended, since: Instant::now() })
    }
}

/// Completes when the keeper has ended; no sooner than a second after it was reached, lest one that cannot live is
/// started without pause.
async fn ended(line: Option<&KeeperLine>) {
    let Some(KeeperLine { ended, since }) = line else { return std::future::pending().await };
    if ended.clone().wait_for(|ended| *ended).await.is_err() {
        return std::future::pending().await;
    }
    tokio::time::sleep_until((*since + Duration::from_secs(1)).into()).await;
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
