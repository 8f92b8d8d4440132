//! Whoever is measured: our bgpd, BIRD or FRR, in one configuration and without a forwarding table.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rpc::{Client, Execute};

use crate::edge::Binaries;
use crate::node::Node;
use crate::peers::{Bird, Frr};
use crate::process::Process;

/// A BGP speaker to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Holdfast,
    /// BIRD 2.
    Bird,
    /// FRR's bgpd, beside a zebra that installs nothing.
    Frr,
}

impl Kind {
    /// All of them, ours first.
    pub const ALL: [Self; 3] = [Self::Holdfast, Self::Bird, Self::Frr];

    /// As results name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holdfast => "holdfast",
            Self::Bird => "bird",
            Self::Frr => "frr",
        }
    }
}

/// A neighbor of the subject.
#[derive(Clone, Copy, Debug)]
pub struct Neighbor {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its AS.
    pub asn: u32,
}

/// What the subject is configured as.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Its address, and BGP identifier.
    pub address: Ipv4Addr,
    /// Its AS.
    pub asn: u32,
    /// Its neighbors, all external.
    pub neighbors: &'a [Neighbor],
    /// They are clients of a route server (RFC 7947).
    pub route_server: bool,
    /// The hold time that it proposes.
    pub hold_seconds: u16,
}

/// A running subject.
#[derive(Debug)]
pub struct Subject {
    daemon: Daemon,
    socket: Option<PathBuf>,
}

#[derive(Debug)]
enum Daemon {
    Holdfast(Process),
    Bird(Bird),
    Frr(Frr),
}

/// Octets of memory, in MB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Now.
    pub resident_mb: f64,
    /// The most since the start, or since [`Subject::forget_peak`].
    pub peak_mb: f64,
}

impl Subject {
    /// Starts it in a node.
    pub fn start(kind: Kind, node: &Node, binaries: &Binaries, setting: &Setting<'_>) -> Result<Self> {
        let mut socket = None;
        let daemon = match kind {
            Kind::Holdfast => {
                let config = node.write("holdfast.conf", holdfast(setting))?;
                let run = node.folder().join("run");
                std::fs::create_dir_all(&run)?;
                let (config, run_dir) = config.to_str().zip(run.to_str()).context("a path that is not UTF-8")?;
                let program = binaries.path("bgpd");
                let argv = [&program, "--config", config, "--run-dir", run_dir, "--no-kernel", "--log-level", "warn"];
                socket = Some(run.join(rpc::BGPD_SOCKET));
                Daemon::Holdfast(node.spawn("bgpd", &argv)?)
            }
            Kind::Bird => Daemon::Bird(Bird::start(node, &bird(setting))?),
            Kind::Frr => Daemon::Frr(Frr::start(node, &["bgpd"], &frr(setting))?),
        };
        Ok(Self { daemon, socket })
    }

    fn process(&self) -> Result<&Process> {
        match &self.daemon {
            Daemon::Holdfast(process) => Ok(process),
            Daemon::Bird(bird) => Ok(&bird.process),
            Daemon::Frr(frr) => frr.daemon("bgpd").context("FRR's bgpd was not started"),
        }
    }

    /// How much memory it takes.
    pub fn memory(&self) -> Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process()?.id()))?;
        let field = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? / 1024.0)
        };
        let (resident_mb, peak_mb) =
            field("VmRSS:").zip(field("VmHWM:")).context("the kernel tells no memory sizes")?;
        Ok(Memory { resident_mb, peak_mb })
    }

    /// The peak is counted from now on.
    pub fn forget_peak(&self) -> Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.process()?.id()), "5")?)
    }

    /// Where it takes commands, if it is ours.
    pub fn socket(&self) -> Option<&PathBuf> {
        self.socket.as_ref()
    }
}

fn holdfast(setting: &Setting<'_>) -> String {
    let Setting { address, asn, neighbors, route_server, hold_seconds } = setting;
    let keepalive = hold_seconds / 3;
    let mut text = format!("router bgp {asn}\n bgp router-id {address}\n timers bgp {keepalive} {hold_seconds}\n");
    for neighbor in *neighbors {
        let _ = writeln!(text, " neighbor {} remote-as {}\n neighbor {0} passive", neighbor.address, neighbor.asn);
    }
    text.push_str(" address-family ipv4 unicast\n");
    for neighbor in neighbors.iter().filter(|_| *route_server) {
        let _ = writeln!(text, "  neighbor {} route-server-client", neighbor.address);
    }
    text
}

fn bird(setting: &Setting<'_>) -> String {
    let Setting { address, asn, neighbors, route_server, hold_seconds } = setting;
    let mut text = format!("router id {address};\nprotocol device {{}}\n");
    let client = if *route_server { "rs client; " } else { "" };
    for (number, neighbor) in neighbors.iter().enumerate() {
        let _ = writeln!(
            text,
            "protocol bgp p{number} {{ local {address} as {asn}; neighbor {} as {}; passive; hold time {hold_seconds}; \
             {client}ipv4 {{ import all; export all; }}; }}",
            neighbor.address, neighbor.asn
        );
    }
    text
}

fn frr(setting: &Setting<'_>) -> String {
    let Setting { address, asn, neighbors, route_server, hold_seconds } = setting;
    let keepalive = hold_seconds / 3;
    let mut text = format!(
        "bgp no-rib\nrouter bgp {asn}\n bgp router-id {address}\n no bgp ebgp-requires-policy\n timers bgp {keepalive} {hold_seconds}\n"
    );
    for neighbor in *neighbors {
        let _ = writeln!(text, " neighbor {} remote-as {}\n neighbor {0} passive", neighbor.address, neighbor.asn);
    }
    text.push_str(" address-family ipv4 unicast\n");
    for neighbor in neighbors.iter().filter(|_| *route_server) {
        let _ = writeln!(text, "  neighbor {} route-server-client", neighbor.address);
    }
    text
}

/// Asks our bgpd the same thing over and over, and keeps the slowest answer.
#[derive(Debug)]
pub struct Asker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Answers>>>,
}

/// How fast the answers came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    /// How many.
    pub count: usize,
    /// The slowest.
    pub slowest: Duration,
}

/// Between two questions.
const BETWEEN: Duration = Duration::from_millis(10);

impl Asker {
    /// Starts asking; our shell's commands, over the socket that the shell uses.
    pub fn start(socket: PathBuf, line: &'static str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            let mut answers = Answers::default();
            runtime()?.block_on(async {
                let client = Client::connect(&socket, "bench").await?;
                while !stopped.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let mut stream = client.stream(&Execute { line: line.to_owned() }).await?;
                    while let Some(text) = stream.next().await {
                        text?;
                    }
                    answers.count += 1;
                    answers.slowest = answers.slowest.max(asked.elapsed());
                    tokio::time::sleep(BETWEEN).await;
                }
                Ok(answers)
            })
        };
        Ok(Self { stop, thread: Some(std::thread::Builder::new().name("asker".into()).spawn(work)?) })
    }

    /// Stops, and says how it went.
    pub fn stop(mut self) -> Result<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it was stopped before")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A long answer.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    /// When its first octet came.
    pub first: Duration,
    /// When its last one came.
    pub whole: Duration,
    /// How long it is.
    pub octets: usize,
}

/// Reads a whole answer of our bgpd.
pub fn listing(socket: &std::path::Path, line: &str) -> Result<Listing> {
    runtime()?.block_on(async {
        let client = Client::connect(socket, "bench").await?;
        let asked = Instant::now();
        let mut stream = client.stream(&Execute { line: line.to_owned() }).await?;
        let (mut first, mut octets) = (None, 0);
        while let Some(text) = stream.next().await {
            octets += text?.0.len();
            first.get_or_insert_with(|| asked.elapsed());
        }
        let first = first.context("the answer is empty")?;
        ensure!(octets > 0, "the answer is empty");
        Ok(Listing { first, whole: asked.elapsed(), octets })
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
