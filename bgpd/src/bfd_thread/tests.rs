<<<<<<< HEAD
//! Two threads with a link between them, in namespaces of their own.

use std::{process::Command as Process, sync::mpsc::Receiver, time::Duration};

use sys::netns::NetNs;

use super::*;

struct Site {
    bfd: BfdHandle,
    changes: Receiver<Change>,
    thread: JoinHandle<()>,
}

fn ip(arguments: &str) {
    let done = Process::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(done.success(), "ip {arguments}");
}

fn config() -> Config {
    let interval = Duration::from_millis(20);
    Config { desired_min_tx: interval, required_min_rx: interval, detect_multiplier: 5, passive: false }
}

/// A site with one end of the link; `far` is the other end's address.
fn site(namespace: &NetNs, far: &str) -> Site {
    namespace.run(|| {
        let ifindex = Process::new("ip").args(["-o", "link", "show", "v0"]).output().unwrap().stdout;
        let ifindex = String::from_utf8(ifindex).unwrap().split(':').next().unwrap().parse().unwrap();
        let (tell, changes) = mpsc::channel();
        let (bfd, thread) = start(move |change| tell.send(change).unwrap()).unwrap();
        bfd.sessions(vec![Wanted {
            neighbor: PeerId(1),
            peer: Peer { ifindex, address: far.parse().unwrap() },
            interface: "v0".parse().unwrap(),
            local: None,
            config: config(),
            admin_down: false,
        }]);
        Site { bfd, changes, thread }
    })
}

impl Site {
    fn until(&self, state: State) -> Change {
        loop {
            let change = self.changes.recv_timeout(Duration::from_secs(20)).expect("the session changes");
=======
//! Two threads at the ends of a veth pair, in namespaces of their own.

use std::{
    process::Command,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use bfd::{Config, Peer, State};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

struct End {
    handle: BfdHandle,
    thread: JoinHandle<()>,
    changes: Receiver<Change>,
}

/// Two namespaces and a veth pair, `va` with 192.0.2.1 and fd00::1 here, `vb` with .2 and ::2 there.
struct Pair {
    here: sys::netns::NetNs,
    there: sys::netns::NetNs,
}

impl Pair {
    fn new() -> Self {
        let pair = Self { here: sys::netns::NetNs::new().unwrap(), there: sys::netns::NetNs::new().unwrap() };
        let (tell, path) = channel();
        let (release, released) = channel::<()>();
        std::thread::scope(|scope| {
            // A thread that stays there lends its namespace a name.
            let there = &pair.there;
            scope.spawn(move || {
                there.enter().unwrap();
                let task = rustix::thread::gettid();
                tell.send(format!("/proc/{}/task/{task}/ns/net", std::process::id())).unwrap();
                released.recv().unwrap_err(); // let go by the sender's end
            });
            let path = path.recv().unwrap();
            pair.here.run(|| ip(&format!("link add va type veth peer name vb netns {path}")));
            drop(release);
        });
        for (namespace, device, last) in [(&pair.here, "va", 1), (&pair.there, "vb", 2)] {
            namespace.run(|| {
                ip(&format!("link set {device} up"));
                ip(&format!("addr add 192.0.2.{last}/24 dev {device}"));
                ip(&format!("addr add fd00::{last}/64 dev {device} nodad"));
            });
        }
        pair
    }
}

impl End {
    /// A BFD thread within `namespace`, with a session to `peer` over `interface`.
    fn start(namespace: &sys::netns::NetNs, interface: &str, local: &str, peer: &str) -> Self {
        let (interface, local): (IfName, IpAddr) = (interface.parse().unwrap(), local.parse().unwrap());
        let address = peer.parse().unwrap();
        namespace.run(|| {
            let (sender, changes) = channel();
            // Threads inherit the namespace of the one that makes them.
            let (handle, thread) = spawn(move |change| sender.send(change).unwrap_or(())).unwrap();
            let interval = Duration::from_millis(50);
            let config = Config { desired_min_tx: interval, required_min_rx: interval, ..Config::default() };
            let peer = Peer { ifindex: index(&interface), address };
            handle.run(Wanted { peer, local, interface, config });
            Self { handle, thread, changes }
        })
    }

    fn wait_for(&self, state: State) -> Change {
        loop {
            let change = self.changes.recv_timeout(DEADLINE).expect("a change of state");
>>>>>>> main
            if change.to == state {
                return change;
            }
        }
    }
}

<<<<<<< HEAD
fn pair(addresses: [&str; 2]) -> ([NetNs; 2], [Site; 2]) {
    let sides = [NetNs::new().unwrap(), NetNs::new().unwrap()];
    sides[0].run(|| {
        // The far namespace is held by a thread inside it while the link is made.
        let (ready, wait) = mpsc::channel::<String>();
        let (done, finished) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sides[1].run(move || {
                    ready.send(rustix::thread::gettid().as_raw_nonzero().to_string()).unwrap();
                    finished.recv().unwrap();
                });
            });
            let thread = wait.recv().unwrap();
            ip(&format!("link add v0 type veth peer name v0 netns {thread}"));
            done.send(()).unwrap();
        });
        ip("link set v0 up");
        ip(&format!("addr add {} dev v0{}", addresses[0], if addresses[0].contains(':') { " nodad" } else { "" }));
    });
    sides[1].run(|| {
        ip("link set v0 up");
        ip(&format!("addr add {} dev v0{}", addresses[1], if addresses[1].contains(':') { " nodad" } else { "" }));
    });
    let bare = |text: &str| text.split('/').next().unwrap().to_owned();
    let sites = [site(&sides[0], &bare(addresses[1])), site(&sides[1], &bare(addresses[0]))];
    (sides, sites)
}

#[test]
fn a_session_comes_up_and_notices_a_silent_link() {
    for addresses in [["192.0.2.1/24", "192.0.2.2/24"], ["2001:db8::1/64", "2001:db8::2/64"]] {
        let (sides, [near, far]) = pair(addresses);
        near.until(State::Up);
        far.until(State::Up);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let shown = runtime.block_on(near.bfd.snapshot());
        assert_eq!((shown.len(), shown[0].status), (1, "up"));
        assert!(shown[0].packets.0 > 0 && shown[0].remote_discriminator != 0);

        // Packets vanish without any event on the link.
        sides[1].run(|| ip("link set v0 down"));
        let lost = near.until(State::Down);
        assert_eq!(lost.from, State::Up);
        sides[1].run(|| {
            ip("link set v0 up");
            if addresses[1].contains(':') {
                ip(&format!("addr replace {} dev v0 nodad", addresses[1]));
            }
        });
        near.until(State::Up);
        far.until(State::Up);

        // Leaving on purpose is no fault of the path.
        far.bfd.close();
        far.thread.join().unwrap();
        assert_eq!(near.until(State::Down).cause, Cause::NeighborAdminDown);
        near.bfd.close();
        near.thread.join().unwrap();
    }
=======
fn index(interface: &IfName) -> u32 {
    let output = Command::new("ip").args(["-o", "link", "show", "dev", interface.as_str()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(':').next().unwrap().trim().parse().unwrap()
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(done.success(), "ip {arguments}");
}

fn ends(local: &str, remote: &str) -> (Pair, End, End) {
    let pair = Pair::new();
    let here = End::start(&pair.here, "va", local, remote);
    let there = End::start(&pair.there, "vb", remote, local);
    here.wait_for(State::Up);
    there.wait_for(State::Up);
    (pair, here, there)
}

#[test]
fn a_silent_link_is_noticed_and_its_return_too() {
    let (pair, here, there) = ends("192.0.2.1", "192.0.2.2");
    // Both directions die without a word from any link: frames go to an address that nobody has.
    let ends = [(&pair.here, "va", "192.0.2.2"), (&pair.there, "vb", "192.0.2.1")];
    for (namespace, device, address) in ends {
        namespace.run(|| ip(&format!("neigh replace {address} lladdr 02:00:00:00:00:99 nud permanent dev {device}")));
    }
    assert_eq!(here.wait_for(State::Down).cause, Cause::DetectionTimeExpired);
    assert_eq!(there.wait_for(State::Down).from, State::Up);
    for (namespace, device, address) in ends {
        namespace.run(|| ip(&format!("neigh del {address} dev {device}")));
    }
    here.wait_for(State::Up);
    there.wait_for(State::Up);
}

#[test]
fn a_peer_that_ends_says_that_it_means_to() {
    let (_pair, here, there) = ends("fd00::1", "fd00::2");
    there.handle.stop();
    there.thread.join().unwrap();
    assert_eq!(here.wait_for(State::Down).cause, Cause::NeighborAdminDown);
}

#[test]
fn sessions_are_described() {
    let (_pair, here, _there) = ends("192.0.2.1", "192.0.2.2");
    let (sender, answer) = channel();
    here.handle.snapshot(move |sessions| sender.send(sessions).unwrap());
    let sessions = answer.recv_timeout(DEADLINE).unwrap();
    assert_eq!(sessions.len(), 1);
    let session = &sessions[0];
    assert_eq!((session.status, session.detect_multiplier, session.remote_detect_multiplier), ("up", 3, 3));
    assert!(session.remote_discriminator != 0 && session.packets.0 > 0);
    let peer = Peer { ifindex: 0, address: session.peer };
    here.handle.remove(peer); // of no interface: takes nothing out
    let (sender, answer) = channel();
    here.handle.snapshot(move |sessions| sender.send(sessions.len()).unwrap());
    assert_eq!(answer.recv_timeout(DEADLINE).unwrap(), 1);
>>>>>>> main
}
