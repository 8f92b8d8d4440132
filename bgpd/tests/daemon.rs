//! The daemon as a process, with the kernel's tables left alone: sockets, signals, metrics.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rpc::{Client, ClientError, Configure, Execute};

/// A daemon in a directory of its own; killed if the test ends before it does.
struct Daemon {
    directory: tempfile::TempDir,
    process: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended as the test wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(metrics: Option<SocketAddr>) -> String {
    let metrics = metrics.map_or_else(String::new, |address| format!("metrics bgpd {address}\n"));
    format!(
        "hostname edge1\n{metrics}router bgp 65001\n bgp router-id 10.1.0.1\n \
         neighbor 127.0.0.9 remote-as 65002\n neighbor 127.0.0.9 passive\n"
    )
}

impl Daemon {
    fn start(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("holdfast.conf"), configuration).unwrap();
        let process = Self::command(&directory).args(["--listen", "127.0.0.1:0"]).spawn().unwrap();
        Self { directory, process }
    }

    fn command(directory: &tempfile::TempDir) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bgpd"));
        command.arg("--config").arg(directory.path().join("holdfast.conf"));
        command.arg("--run-dir").arg(directory.path()).arg("--no-kernel");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join(rpc::BGPD_SOCKET)
    }

    /// Waits until the daemon answers a command, and gives the answer.
    fn wait_for(&mut self, line: &str) -> String {
        self.until(&format!("an answer to {line}"), |daemon| daemon.execute(line).ok())
    }

    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("bgpd ended with {status} while waiting for {what}");
            }
            assert!(Instant::now() < deadline, "timed out waiting for {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn execute(&self, line: &str) -> Result<String, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::connect(&self.socket(), "test").await?;
            let mut stream = client.stream(&Execute { line: line.to_owned() }).await?;
            let mut output = String::new();
            while let Some(text) = stream.next().await {
                output += &text?.0;
            }
            Ok(output)
        })
    }

    fn configure(&self, lines: &str) -> Result<String, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::connect(&self.socket(), "test").await?;
            Ok(client.call(&Configure { lines: lines.to_owned() }).await?.warnings)
        })
    }

    fn summary(&self) -> serde_json::Value {
        serde_json::from_str(&self.execute("show bgp summary json").unwrap()).unwrap()
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn scrape(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn it_answers_serves_metrics_where_told_and_ends_when_told() {
    let (first, second) = (free_address(), free_address());
    let mut daemon = Daemon::start(&configuration(Some(first)));
    let summary: serde_json::Value = serde_json::from_str(&daemon.wait_for("show bgp summary json")).unwrap();
    assert_eq!(summary["ipv4Unicast"]["routerId"], "10.1.0.1");
    assert_eq!(summary["ipv4Unicast"]["peers"]["127.0.0.9"]["remoteAs"], 65002);

    // The door opens before everything behind it is there.
    let up = "bgp_session_up{peer=\"127.0.0.9\"} 0.0\n";
    let metrics = daemon.until("metrics of the session", |_| scrape(first).filter(|metrics| metrics.contains(up)));
    assert!(metrics.contains("fib_routes 0.0\n"), "{metrics}");

    let file = daemon.directory.path().join("holdfast.conf");
    fs::write(&file, configuration(Some(second))).unwrap();
    daemon.signal("HUP");
    daemon.until("metrics at the new address", |_| scrape(second));
    assert!(scrape(first).is_none(), "the old address is still served");

    fs::write(&file, "nonsense\n").unwrap();
    match daemon.execute("reload") {
        Err(ClientError::Failed(failure)) => assert!(failure.message.contains("nonsense"), "{failure}"),
        other => panic!("a bad file was taken: {other:?}"),
    }
    let running = daemon.execute("show running-config").unwrap();
    assert_eq!(config::parse(&running).unwrap().config, config::parse(&configuration(Some(second))).unwrap().config);

    daemon.signal("TERM");
    let status = daemon.process.wait().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn a_second_instance_with_the_same_run_dir_is_refused() {
    let mut daemon = Daemon::start(&configuration(None));
    daemon.wait_for("show version");
    let second = Daemon::command(&daemon.directory).args(["--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).output();
    let second = second.unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another instance"), "{second:?}");
    daemon.wait_for("show version");
}

#[test]
fn a_configuration_is_checked_without_starting() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("holdfast.conf");
    fs::write(&file, configuration(None)).unwrap();
    assert!(Daemon::command(&directory).arg("--check").status().unwrap().success());
    fs::write(&file, "router bgp 0\n").unwrap();
    let refused = Daemon::command(&directory).arg("--check").stderr(Stdio::piped()).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("holdfast.conf:1:12"), "{text}");
}

#[test]
fn lines_are_put_into_the_running_configuration_whole_or_not_at_all() {
    let mut daemon = Daemon::start("hostname edge1\n");
    daemon.wait_for("show running-config");
    let speaker =
        "router bgp 65001\nbgp router-id 10.1.0.1\nneighbor 127.0.0.9 remote-as 65002\nneighbor 127.0.0.9 passive\n";
    daemon.configure(speaker).unwrap();
    assert_eq!(daemon.summary()["ipv4Unicast"]["peers"]["127.0.0.9"]["remoteAs"], 65002);

    // AS, identifier and default preference change in place.
    let other = "no router bgp 65001\nrouter bgp 65009\n bgp router-id 10.9.0.1\n bgp default local-preference 7\n \
                 neighbor 127.0.0.8 remote-as 65002\n neighbor 127.0.0.8 passive\n";
    daemon.configure(other).unwrap();
    let summary = daemon.summary();
    let ours = &summary["ipv4Unicast"];
    assert_eq!((&ours["as"], &ours["routerId"]), (&65009.into(), &"10.9.0.1".into()));
    assert_eq!(ours["peers"].as_object().unwrap().keys().collect::<Vec<_>>(), ["127.0.0.8"]);
    assert_eq!(ours["peers"]["127.0.0.8"]["localAs"], 65009);
    let table: serde_json::Value = serde_json::from_str(&daemon.execute("show ip bgp json").unwrap()).unwrap();
    assert_eq!(table["defaultLocPrf"], 7);

    let before = daemon.execute("show running-config").unwrap();
    match daemon.configure("router bgp 65009\n neighbor 127.0.0.7 remote-as 1\n neighbor 127.0.0.7 tmers 1 3\n") {
        Err(ClientError::Failed(failure)) => assert!(failure.message.contains("tmers"), "{failure}"),
        other => panic!("a bad line was taken: {other:?}"),
    }
    assert_eq!(daemon.execute("show running-config").unwrap(), before);
    let warnings = daemon.configure("no ip route 10.0.0.0/8 blackhole\n").unwrap();
    assert!(warnings.contains("nothing to take back"), "{warnings}");
}

#[test]
fn lines_of_frrs_that_are_not_known_are_passed_over_where_told() {
    let text = "router ospf\n network 10.0.0.0/8 area 0\n!\nrouter bgp 65001\n bgp router-id 10.1.0.1\n neighbor 127.0.0.9 remote-as 65002\n";
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("holdfast.conf"), text).unwrap();
    assert!(!Daemon::command(&directory).arg("--check").status().unwrap().success());
    let lenient =
        Daemon::command(&directory).args(["--check", "--unknown-lines", "warn"]).stderr(Stdio::piped()).output();
    let lenient = lenient.unwrap();
    assert!(lenient.status.success());
    let told = String::from_utf8_lossy(&lenient.stderr).into_owned();
    assert!(told.contains("holdfast.conf:1:8: warning") && !told.contains(":2:"), "{told}");
}
