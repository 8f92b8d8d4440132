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
    Config {
        desired_min_tx: interval,
        required_min_rx: interval,
        detect_multiplier: 5,
        passive: false,
        ..Config::default()
    }
}

/// A site with one end of the link; `far` is the other end's address.
fn site(namespace: &NetNs, far: &str) -> Site {
    namespace.run(|| {
        let ifindex = Process::new("ip").args(["-o", "link", "show", "v0"]).output().unwrap().stdout;
        let ifindex = String::from_utf8(ifindex).unwrap().split(':').next().unwrap().parse().unwrap();
        let (tell, changes) = mpsc::channel();
        let (bfd, thread) = start(move |change| tell.send(change).unwrap()).unwrap();
        bfd.sessions(vec![Wanted {
            neighbor: Some(PeerId(1)),
            peer: Peer { ifindex, address: far.parse().unwrap() },
            interface: Some("v0".parse().unwrap()),
            minimum_ttl: 255,
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
            if change.to == state {
                return change;
            }
        }
    }
}

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
}
