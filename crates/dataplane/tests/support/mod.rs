//! What the tests of either packet path share: sites, each a network namespace with a path of its own, and what they say to
//! each other.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use dataplane::{Dataplane, Event, IkeDatagram, KeeperDoor, Limits, NewInbound, NewOutbound, Path, Sink, keeper};
use esp::{Cipher, Keymat, Selectors};
use net_types::{Spi, TunnelName, WanName};
use sys::netns::NetNs;

/// Long: a processor may be emulated, and is slow then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) ike: Mutex<Vec<IkeDatagram>>,
    pub(crate) events: Mutex<Vec<Event>>,
}

impl Sink for Recorder {
    fn ike(&self, datagram: IkeDatagram) -> bool {
        self.ike.lock().unwrap().push(datagram);
        true
    }
    fn event(&self, event: Event) -> bool {
        self.events.lock().unwrap().push(event);
        true
    }
}

/// A site with the path `P`.
pub(crate) struct Site<P> {
    pub(crate) ns: NetNs,
    pub(crate) path: P,
    pub(crate) sink: Arc<Recorder>,
    pub(crate) number: u8,
}

impl<P: Dataplane> Site<P> {
    pub(crate) fn ip(&self, command: &str) -> String {
        run(&self.ns, "ip", command)
    }

    pub(crate) fn outer(&self) -> IpAddr {
        [198, 51, 100, self.number].into()
    }

    pub(crate) fn path_to(&self, peer: &Self) -> Path {
        Path { wan: wan(), local: SocketAddr::new(self.outer(), 4500), remote: SocketAddr::new(peer.outer(), 4500) }
    }
}

pub(crate) fn spi(raw: u32) -> Spi {
    Spi::try_from(raw).unwrap()
}

pub(crate) fn tunnel() -> TunnelName {
    "tun1".parse().unwrap()
}

pub(crate) fn wan() -> WanName {
    "isp1".parse().unwrap()
}

pub(crate) fn keymat(seed: u8) -> Keymat {
    Keymat::new(Cipher::Aes128Gcm16, vec![seed; Cipher::Aes128Gcm16.keymat_len()]).unwrap()
}

/// An association under `seed` that takes anything from along this path.
pub(crate) fn inbound(raw_spi: u32, seed: u8, path: Path) -> NewInbound {
    NewInbound {
        spi: spi(raw_spi),
        keymat: keymat(seed),
        esn: true,
        selectors: Selectors::any(),
        path,
        encapsulated: true,
        limits: Limits::default(),
    }
}

/// An association under `seed` that sends anything along this path.
pub(crate) fn outbound(raw_spi: u32, seed: u8, path: Path) -> NewOutbound {
    NewOutbound {
        spi: spi(raw_spi),
        keymat: keymat(seed),
        esn: true,
        selectors: Selectors::any(),
        path,
        encapsulated: true,
        limits: Limits::default(),
    }
}

/// Waits for a condition, not for a time.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::yield_now();
    }
}

/// Runs a program with the words of one line.
pub(crate) fn run(ns: &NetNs, program: &str, arguments: &str) -> String {
    ns.run(|| {
        let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    })
}

/// Makes a veth pair whose ends have one name.
pub(crate) fn join(near: &NetNs, far: &NetNs, name: &str) {
    let far = format!("/proc/{}/fd/{}", std::process::id(), far.as_fd().as_raw_fd());
    run(near, "ip", &format!("link add {name} type veth peer name {name} netns {far}"));
}

pub(crate) fn door(socket: &std::path::Path) -> KeeperDoor {
    let socket = socket.to_owned();
    Arc::new(move || keeper::Client::connect(&socket))
}
