//! Whole daemons in network namespaces: one router with two ways out, and what becomes of its kernel routes.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use sys::netns::NetNs;

/// A bgpd in a namespace of its own.
struct Router {
    namespace: NetNs,
    dir: PathBuf,
    daemon: Option<Child>,
}

fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Router {
    fn new(dir: &Path, name: &str, config: &str) -> Self {
        let dir = dir.join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("holdfast.conf"), config).unwrap();
        let router = Self { namespace: NetNs::new().unwrap(), dir, daemon: None };
        router.sh("ip link set lo up");
        router
    }

    fn sh(&self, line: &str) -> String {
        self.namespace.run(|| run(line))
    }

    fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let dir = self.dir.clone();
        self.daemon = Some(self.namespace.run(move || {
            Command::new(env!("CARGO_BIN_EXE_bgpd"))
                .args(["--config".as_ref(), dir.join("holdfast.conf").as_os_str()])
                .args(["--run-dir".as_ref(), dir.as_os_str()])
                .stderr(log)
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        }));
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.daemon.as_ref().unwrap().id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        self.daemon.take().unwrap().wait().unwrap();
    }

    /// Our routes and objects, as the system's tool shows them.
    fn table(&self) -> String {
        self.sh("ip route show proto 201; ip nexthop show proto 201")
    }

    fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(40);
        while !condition(self) {
            let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{what}: {}\n{log}", self.table());
            std::thread::sleep(Duration::from_millis(20)); // between two looks, not in place of one
        }
    }

    fn reaches(&self, through: &str) -> bool {
        self.namespace.run(|| {
            let output = Command::new("ip").args(["route", "get", "10.2.0.1"]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).contains(through)
        })
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // It may have ended by itself, which the test has noticed then.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Joins two routers by `link`, which has the same name on both sides.
fn join(near: &Router, far: &Router, link: &str, addresses: [&str; 2]) {
    let holder = far.namespace.run(|| Command::new("sleep").arg("60").spawn().unwrap());
    near.sh(&format!("ip link add {link} type veth peer name {link} netns {}", holder.id()));
    let mut holder = holder;
    holder.kill().unwrap();
    holder.wait().unwrap();
    for (router, address) in [near, far].into_iter().zip(addresses) {
        router.sh(&format!("ip addr add {address} dev {link}; ip link set {link} up"));
    }
}

fn config(bfd_ms: u32, asn: u32, router_id: &str, neighbors: &[(&str, u32)], network: &str) -> String {
    let mut text = format!(
        "bfd\n profile fast\n  transmit-interval {bfd_ms}\n  receive-interval {bfd_ms}\n  detect-multiplier 4\n\
         router bgp {asn}\n bgp router-id {router_id}\n"
    );
    for (address, remote) in neighbors {
        for line in [format!("remote-as {remote}"), "bfd profile fast".into(), "timers connect 1".into()] {
            text += &format!(" neighbor {address} {line}\n");
        }
    }
    text + &format!(" address-family ipv4 unicast\n  network {network}\n")
}

/// One router, and two others that announce the same prefix to it.
fn triangle(dir: &Path, bfd_ms: u32) -> [Router; 3] {
    let near = config(bfd_ms, 65001, "10.1.0.1", &[("192.0.2.2", 65002), ("192.0.2.6", 65003)], "10.1.0.0/16");
    let near = Router::new(dir, "near", &near);
    let one = Router::new(dir, "one", &config(bfd_ms, 65002, "10.2.0.1", &[("192.0.2.1", 65001)], "10.2.0.0/16"));
    let two = Router::new(dir, "two", &config(bfd_ms, 65003, "10.3.0.1", &[("192.0.2.5", 65001)], "10.2.0.0/16"));
    join(&near, &one, "v1", ["192.0.2.1/30", "192.0.2.2/30"]);
    join(&near, &two, "v2", ["192.0.2.5/30", "192.0.2.6/30"]);
    let mut routers = [near, one, two];
    routers[0].start();
    routers[1].start();
    // In this order, so that the older path is the one through the first.
    routers[0].wait("the first path", |near| near.reaches("dev v1"));
    routers[2].start();
    routers[0]
        .wait("the second path", |near| near.table().lines().any(|line| line.starts_with("id")) && sessions(near) == 2);
    routers
}

/// Sessions that were established and not lost since, by the log.
fn sessions(router: &Router) -> usize {
    let log = std::fs::read_to_string(router.dir.join("log")).unwrap();
    let count =
        |text: &str| log.lines().filter(|line| line.contains("session changed state") && line.contains(text)).count();
    count("to=Established").saturating_sub(count("from=Established"))
}

#[test]
fn a_neighbor_that_falls_silent_is_left_and_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let routers = triangle(dir.path(), 30);
    let near = &routers[0];
    // Stopped, it neither sends nor closes anything: only BFD can notice.
    routers[1].signal(Signal::STOP);
    near.wait("traffic on the second path", |near| near.reaches("dev v2"));
    routers[1].signal(Signal::CONT);
    near.wait("the first session again", |near| sessions(near) == 2);

    // And the same with a cut link, which the kernel answers by flushing what used it.
    routers[2].sh("ip link set v2 down");
    near.wait("traffic on the first path", |near| near.reaches("dev v1"));
    routers[2].sh("ip link set v2 up");
    near.wait("the second session again", |near| sessions(near) == 2);
    near.wait("no route is missing", |near| near.reaches("dev v"));
}

#[test]
fn a_restart_leaves_the_kernels_table_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    // No busy machine shall move the route on the way.
    let mut routers = triangle(dir.path(), 1000);
    let route = |near: &Router| near.sh("ip route get 10.2.0.1 | head -1");
    for signal in [Signal::KILL, Signal::TERM] {
        let before = route(&routers[0]);
        routers[0].end(signal);
        assert_eq!(route(&routers[0]), before, "without a daemon, after {signal:?}");
        std::fs::remove_file(routers[0].dir.join("log")).unwrap();
        routers[0].start();
        routers[0].wait("both sessions", |near| {
            assert_eq!(near.sh("ip route show proto 201").lines().count(), 1, "the route is never missing");
            sessions(near) == 2
        });
        routers[0].wait("the sweep", |near| {
            let log = std::fs::read_to_string(near.dir.join("log")).unwrap();
            log.contains("every neighbor has spoken")
        });
        assert!(routers[0].reaches("dev v"));
    }
}
