//! Two daemons against each other, each in a network namespace of its own: real IKE, real ESP, real interfaces.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use config::model::{self, Config};
use dataplane::{KeeperDoor, keeper};
use ike_core::{ChildMode, ConnectionConfig, Doubt, Dpd, Encapsulation, Lifetime, Remote, Retry, Role};
use ike_crypto::{EspProposal, Identity, IkeProposal, LocalCredential, PeerCredential, SecretBytes};
use ike_wire::TrafficSelector;
use ipsecd::{
    daemon::{Daemon, Loaded},
    state::{Request, State},
};
use net_types::{Prefix, TunnelName, WanName};
use rpc::{TunnelState, WanState};
use sys::netns::NetNs;
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(30);

fn tunnel() -> TunnelName {
    "tun1".parse().unwrap()
}

fn wan() -> WanName {
    "isp1".parse().unwrap()
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        thread::sleep(Duration::from_millis(2));
    }
}

fn ip(ns: &NetNs, command: &str) {
    ns.run(|| {
        let output = Command::new("ip").args(command.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
    });
}

/// What a site's configuration file would say.
#[derive(Clone)]
struct Plan {
    number: u8,
    key: &'static str,
    initiate: bool,
    shutdown: bool,
    dpd: Dpd,
    child_octets: Option<u64>,
}

impl Plan {
    /// Site 1 calls, site 2 waits.
    fn of(number: u8) -> Self {
        Self {
            number,
            key: "the same on both sides",
            initiate: number == 1,
            shutdown: false,
            dpd: Dpd::default(),
            child_octets: None,
        }
    }

    fn peer(&self) -> u8 {
        3 - self.number
    }

    fn load(&self) -> Loaded {
        let mut config = Config::default();
        let wan_spec = model::Wan {
            interface: "wan0".parse().unwrap(),
            gateway_v4: None,
            gateway_v6: None,
            mtu_octets: None,
            shutdown: self.shutdown,
        };
        config.wans.insert(wan(), wan_spec);
        let remote = IpAddr::from([198, 51, 100, self.peer()]);
        let address = format!("169.254.1.{}/30", self.number);
        let spec = model::Tunnel {
            description: None,
            remote: model::Remote { address: model::RemoteAddress::Address(remote), id: None },
            local: None,
            wan: wan(),
            backup_wans: vec![],
            childless: model::Childless::Allow,
            mobike: true,
            reauth: None,
            identity: "site".parse().unwrap(),
            proposal: None,
            addresses: vec![address.parse().unwrap()],
            local_selectors: Vec::new(),
            remote_selectors: Vec::new(),
            reverse_route: None,
            ppk: None,
            dpd: model::Dpd::default(),
            probe: None,
            ike_lifetime: model::Tunnel::IKE_LIFETIME,
            child_lifetime: model::ChildLifetime { octets: self.child_octets, ..model::ChildLifetime::default() },
            initiate: model::Initiate::OnStart,
            mtu_octets: None,
            packets: model::Packets::default(),
            demands: model::PeerDemands::default(),
            datapath: None,
            hardware_offload: false,
            shutdown: false,
        };
        config.tunnels.insert(tunnel(), spec);
        let id = |number: u8| Identity::fqdn(&format!("site{number}.example.net"));
        let key = || SecretBytes::from(self.key.as_bytes().to_vec());
        let everything = || [Prefix::DEFAULT_V4, Prefix::DEFAULT_V6].iter().map(TrafficSelector::from_prefix).collect();
        let connection = ConnectionConfig {
            tunnel: tunnel(),
            wan: wan(),
            backup_wans: Vec::new(),
            reauth: None,
            childless: ike_core::Childless::Allow,
            mobike: true,
            local_address: None,
            remote: Remote::Address(remote),
            local_id: id(self.number),
            local_credential: Arc::new(LocalCredential::pre_shared_key(key()).unwrap()),
            remote_id: id(self.peer()),
            remote_credential: Arc::new(PeerCredential::pre_shared_key(key()).unwrap()),
            ppk: None,
            ike_proposals: vec![IkeProposal::default()],
            esp_proposals: vec![EspProposal::default()],
            mode: ChildMode::Tunnel,
            local_ts: everything(),
            remote_ts: everything(),
            role: if self.initiate { Role::Initiate } else { Role::RespondOnly },
            encapsulation: Encapsulation::Always,
            dpd: self.dpd,
            ike_lifetime: Lifetime::of(Duration::from_secs(3600)),
            child_lifetime: Lifetime::of(Duration::from_secs(3600)),
            retry: Retry::default(),
            shutdown: false,
        };
        Loaded { config: Arc::new(config), connections: vec![connection], material: Default::default() }
    }
}

/// A daemon on a thread of its own.
struct Running {
    state: State,
    /// What a reload reads.
    plan: Arc<Mutex<Plan>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn start(ns: &Arc<NetNs>, plan: Plan) -> Self {
        Self::start_with(ns, plan, None)
    }

    fn start_with(ns: &Arc<NetNs>, plan: Plan, keeper: Option<KeeperDoor>) -> Self {
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let plan = Arc::new(Mutex::new(plan));
        let (ns, file) = (Arc::clone(ns), Arc::clone(&plan));
        let thread = thread::spawn(move || {
            ns.enter().expect("entering a network namespace needs CAP_SYS_ADMIN");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let first = file.lock().unwrap().load();
                let load = Box::new(move || Ok(file.lock().unwrap().load()));
                let daemon = Daemon::start(keeper, load, first, None).await.unwrap();
                ready.send(daemon.state().clone()).unwrap();
                let stop = async {
                    let _dropped = stopped.await;
                };
                daemon.run(stop).await.unwrap();
            });
        });
        let state = started.recv().expect("the daemon starts");
        Self { state, plan, stop: Some(stop), thread: Some(thread) }
    }

    fn tunnel(&self) -> Option<TunnelState> {
        self.state.tunnels().get(&tunnel()).map(|status| status.state)
    }

    fn is_up(&self) -> bool {
        matches!(self.tunnel(), Some(TunnelState::Up { .. }))
    }

    fn wait_up(&self) {
        wait_for("the tunnel is up", || self.is_up());
    }

    fn ask(&self, request: impl FnOnce(ipsecd::state::Answer) -> Request) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.state.request(request))
    }

    fn stop(mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the daemon ends well");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

struct Lab {
    near: Arc<NetNs>,
    far: Arc<NetNs>,
}

impl Lab {
    fn new() -> Self {
        let (near, far) = (Arc::new(NetNs::new().unwrap()), Arc::new(NetNs::new().unwrap()));
        let peer = format!("/proc/{}/fd/{}", std::process::id(), far.as_fd().as_raw_fd());
        ip(&near, &format!("link add wan0 type veth peer name wan0 netns {peer}"));
        for (ns, number) in [(&near, 1), (&far, 2)] {
            ip(ns, "link set lo up");
            ip(ns, &format!("addr add 198.51.100.{number}/24 dev wan0"));
            ip(ns, "link set wan0 up");
        }
        Self { near, far }
    }

    fn pair(&self) -> (Running, Running) {
        (Running::start(&self.near, Plan::of(1)), Running::start(&self.far, Plan::of(2)))
    }

    /// A datagram from one end of the tunnel to the other.
    fn crosses(&self) {
        let socket =
            |ns: &NetNs, number: u8| ns.run(|| UdpSocket::bind(SocketAddr::from(([169, 254, 1, number], 0))).unwrap());
        let (near, far) = (socket(&self.near, 1), socket(&self.far, 2));
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        near.send_to(b"through the tunnel", far.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 64];
        let (length, from) = far.recv_from(&mut buffer).expect("the datagram arrives");
        assert_eq!((&buffer[..length], from), (&b"through the tunnel"[..], near.local_addr().unwrap()));
    }
}

#[test]
fn a_tunnel_comes_up_carries_traffic_and_is_told() {
    let lab = Lab::new();
    let (near, far) = lab.pair();
    near.wait_up();
    far.wait_up();
    lab.crosses();
    let Some(TunnelState::Up { mtu, addresses, .. }) = near.tunnel() else { panic!("up") };
    assert_eq!((mtu, addresses), (1438, vec![IpAddr::from([169, 254, 1, 1])]));
    let detail = near.state.tunnel(&tunnel()).unwrap();
    assert_eq!(detail.children.len(), 1);
    assert!(detail.children[0].in_use);
    assert_eq!(detail.ike.unwrap().peer, "site2.example.net");
    wait_for("the packet is counted", || near.state.stats().tunnels[0].sent_packets > 0);
}

#[test]
fn both_kinds_of_rekey_keep_the_tunnel_up() {
    let lab = Lab::new();
    let (near, far) = lab.pair();
    near.wait_up();
    far.wait_up();
    let generation = near.state.tunnels().get(&tunnel()).unwrap().generation;
    let spis = |side: &Running| side.state.tunnel(&tunnel()).unwrap().ike.map(|ike| ike.spis);
    let (ike, child) = (spis(&near), near.state.tunnel(&tunnel()).unwrap().children[0].spi_in);
    near.ask(|answer| Request::Rekey { tunnel: tunnel(), ike: false, answer }).unwrap();
    wait_for("a new child SA in place of the old one", || {
        let children = near.state.tunnel(&tunnel()).unwrap().children;
        children.len() == 1 && children[0].spi_in != child && children[0].in_use
    });
    lab.crosses();
    far.ask(|answer| Request::Rekey { tunnel: tunnel(), ike: true, answer }).unwrap();
    wait_for("a new IKE SA on both sides", || spis(&near) != ike && spis(&near) == spis(&far));
    lab.crosses();
    assert_eq!(near.state.tunnels().get(&tunnel()).unwrap().generation, generation, "nobody noticed");
}

#[test]
fn a_lost_link_is_told_at_once_and_its_return_brings_the_tunnel_back() {
    let lab = Lab::new();
    let (near, _far) = lab.pair();
    near.wait_up();
    ip(&lab.near, "link set wan0 down");
    wait_for("tunnel and link are down", || {
        let wan_down = matches!(near.state.wans().get(&wan()).unwrap().state, WanState::Down { .. });
        wan_down && matches!(near.tunnel(), Some(TunnelState::Down { cause }) if cause.contains("link"))
    });
    ip(&lab.near, "link set wan0 up");
    near.wait_up();
    lab.crosses();
}

#[test]
fn terminate_holds_the_tunnel_down_until_it_is_initiated() {
    let lab = Lab::new();
    let (near, far) = lab.pair();
    near.wait_up();
    far.wait_up();
    assert!(far.ask(|answer| Request::Terminate("tun9".parse().unwrap(), answer)).unwrap_err().contains("tun9"));
    far.ask(|answer| Request::Terminate(tunnel(), answer)).unwrap();
    wait_for("both sides are down", || !near.is_up() && !far.is_up());
    wait_for("the peer's calls are refused", || {
        near.state.tunnel(&tunnel()).is_some_and(|detail| detail.last_error.is_some())
    });
    assert!(!far.is_up());
    far.ask(|answer| Request::Initiate(tunnel(), answer)).unwrap();
    far.wait_up();
    near.wait_up();
    lab.crosses();
}

#[test]
fn a_stopped_daemon_says_farewell_and_leaves_its_interface() {
    let lab = Lab::new();
    let (near, far) = lab.pair();
    near.wait_up();
    far.stop();
    wait_for("the peer knows", || !near.is_up());
    let links = lab.far.run(|| Command::new("ip").args(["-o", "link"]).output().unwrap().stdout);
    assert!(String::from_utf8_lossy(&links).contains("tun1"));
    let again = Running::start(&lab.far, Plan::of(2));
    again.wait_up();
    near.wait_up();
    lab.crosses();
}

#[test]
fn a_child_that_has_carried_its_volume_is_replaced() {
    let lab = Lab::new();
    let near = Running::start(&lab.near, Plan { child_octets: Some(60_000), ..Plan::of(1) });
    let far = Running::start(&lab.far, Plan::of(2));
    near.wait_up();
    far.wait_up();
    let first = near.state.tunnel(&tunnel()).unwrap().children[0].spi_in;
    wait_for("a child SA in place of the first", || {
        lab.crosses();
        let children = near.state.tunnel(&tunnel()).unwrap().children;
        children.iter().all(|child| child.spi_in != first) && near.is_up()
    });
    lab.crosses();
}

#[test]
fn a_peer_that_falls_silent_is_noticed() {
    let lab = Lab::new();
    let dpd = Dpd { doubt: Doubt::Silence, interval: Duration::from_millis(300), timeout: Duration::from_secs(1) };
    let near = Running::start(&lab.near, Plan { dpd, ..Plan::of(1) });
    let far = Running::start(&lab.far, Plan::of(2));
    near.wait_up();
    far.wait_up();
    ip(&lab.far, "addr del 198.51.100.2/24 dev wan0"); // the near link does not notice
    wait_for("the near side knows", || matches!(near.tunnel(), Some(TunnelState::Down { .. })));
    assert!(matches!(near.state.wans().get(&wan()).unwrap().state, WanState::Up { .. }));
    ip(&lab.far, "addr add 198.51.100.2/24 dev wan0");
    near.wait_up();
    far.wait_up();
    lab.crosses();
}

#[test]
fn on_demand_a_peer_that_falls_silent_is_noticed_by_whoever_sends_to_it() {
    let lab = Lab::new();
    let dpd = Dpd { doubt: Doubt::NoAnswer, interval: Duration::from_millis(300), timeout: Duration::from_secs(1) };
    let near = Running::start(&lab.near, Plan { dpd, ..Plan::of(1) });
    let far = Running::start(&lab.far, Plan::of(2));
    near.wait_up();
    far.wait_up();
    lab.crosses();
    ip(&lab.far, "addr del 198.51.100.2/24 dev wan0"); // the near link does not notice
    let socket = lab.near.run(|| UdpSocket::bind("169.254.1.1:0").unwrap());
    wait_for("the near side knows", || {
        let _ = socket.send_to(b"anybody there?", "169.254.1.2:9"); // refused once the tunnel is down
        matches!(near.tunnel(), Some(TunnelState::Down { .. }))
    });
    ip(&lab.far, "addr add 198.51.100.2/24 dev wan0");
    near.wait_up();
    far.wait_up();
    lab.crosses();
}

#[test]
fn a_keeper_that_is_killed_is_replaced_with_all_devices() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keeper.sock");
    let started = Arc::new(AtomicUsize::new(0));
    // In place of a process: a thread.
    let door: KeeperDoor = {
        let (socket, started) = (socket.clone(), Arc::clone(&started));
        Arc::new(move || {
            keeper::Client::connect(&socket).or_else(|_| {
                started.fetch_add(1, Ordering::Relaxed);
                let path = socket.clone();
                thread::spawn(move || keeper::serve(&path));
                wait_for("the keeper listens", || keeper::Client::connect(&socket).is_ok());
                keeper::Client::connect(&socket)
            })
        })
    };
    let lab = Lab::new();
    let near = Running::start_with(&lab.near, Plan::of(1), Some(Arc::clone(&door)));
    let held = || keeper::Client::connect(&socket).and_then(|mut client| client.adopt(&tunnel())).ok().flatten();
    assert!(held().is_some(), "the first keeper holds the device");
    // Releasing the last device behind the daemon's back ends the keeper.
    keeper::Client::connect(&socket).unwrap().release(&tunnel()).unwrap();
    wait_for("another keeper holds the device", || started.load(Ordering::Relaxed) == 2 && held().is_some());
    drop(near);
    keeper::Client::connect(&socket).unwrap().release(&tunnel()).unwrap();
}

#[test]
fn an_interface_that_somebody_deletes_is_made_again() {
    let lab = Lab::new();
    let (near, far) = lab.pair();
    near.wait_up();
    far.wait_up();
    let before = near.state.tunnels().get(&tunnel()).unwrap();
    ip(&lab.near, "link del tun1");
    wait_for("the tunnel is up on another interface", || {
        near.state.tunnels().get(&tunnel()).is_some_and(|now| now.ifindex != before.ifindex) && near.is_up()
    });
    far.wait_up();
    lab.crosses();
}

#[test]
fn the_tunnels_mtu_follows_the_links() {
    let lab = Lab::new();
    let (near, _far) = lab.pair();
    near.wait_up();
    ip(&lab.near, "link set wan0 mtu 1400");
    wait_for("a smaller MTU", || matches!(near.tunnel(), Some(TunnelState::Up { mtu: 1338, .. })));
    let shown = lab.near.run(|| Command::new("ip").args(["-o", "link", "show", "tun1"]).output().unwrap().stdout);
    assert!(String::from_utf8_lossy(&shown).contains("mtu 1338"));
}

#[test]
fn a_reload_applies_the_difference_and_nothing_else() {
    let lab = Lab::new();
    let (near, far) = lab.pair();
    near.wait_up();
    far.wait_up();
    let before = near.state.tunnels().get(&tunnel()).unwrap();
    let spi = |side: &Running| side.state.tunnel(&tunnel()).unwrap().children[0].spi_in;
    let child = spi(&near);
    assert_eq!(near.ask(Request::Reload).unwrap(), "configuration reloaded");
    assert_eq!(near.state.tunnels().get(&tunnel()).unwrap(), before, "nothing changed, nobody noticed");
    assert_eq!(spi(&near), child);

    near.plan.lock().unwrap().shutdown = true;
    near.ask(Request::Reload).unwrap();
    assert!(matches!(near.state.wans().get(&wan()).unwrap().state, WanState::Down { .. }));
    wait_for("the tunnel is down", || !near.is_up());

    near.plan.lock().unwrap().shutdown = false;
    near.ask(Request::Reload).unwrap();
    near.wait_up();
    lab.crosses();
}

#[test]
fn different_keys_are_refused_by_name() {
    let lab = Lab::new();
    let near = Running::start(&lab.near, Plan { key: "one key", ..Plan::of(1) });
    let far = Running::start(&lab.far, Plan { key: "another key", ..Plan::of(2) });
    wait_for("the refusal is noted", || {
        let detail = far.state.tunnel(&tunnel());
        detail.and_then(|detail| detail.last_error).is_some_and(|error| error.value.contains("pre-shared key"))
    });
    assert!(!near.is_up() && !far.is_up());
}
