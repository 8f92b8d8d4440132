//! `cargo xtask bench steady`: hundreds of tunnels with BFD and BGP in each, which nothing may make flap that is no fault.
//!
//! Two edge boxes, in namespaces joined by a WAN on this machine. All sessions are up; then it is counted what one box takes
//! of the processor at rest, and how many BFD and BGP sessions went down while nothing happened, while keys were replaced, and
//! while a full table came in on one side, crossed a tunnel and went into the kernel on the other.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::console::Console;
use integration::edge::{Binaries, Daemon, Edge};
use integration::feeder::{Feeder, Plan};
use integration::one_wan::{OneWan, Side};
use integration::{Lab, packages, pki, prefixes};
use serde::Serialize;

use super::{Options, ike::usage};
use crate::root;

const PATIENCE: Duration = Duration::from_secs(600);
/// How long the boxes are watched at rest.
const REST: Duration = Duration::from_secs(20);
const CORE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const CORE_ASN: u32 = 65_003;

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    bench: &'static str,
    subject: &'static str,
    tunnels: usize,
    /// What happened meanwhile: `rest`, `rekeys` or `table`.
    case: &'static str,
    /// How many rekeys, or routes; none at rest.
    count: usize,
    seconds: f64,
    /// Of one box's `ipsecd` and `bgpd`, in percent of one core.
    ipsecd_cpu: f64,
    bgpd_cpu: f64,
    /// BFD sessions that went down, counted at both boxes.
    bfd_downs: u64,
    /// BGP sessions that are not up at the end, of both boxes.
    bgp_lost: usize,
}

/// Runs each case; `false` when a session went down.
pub(super) fn run(options: &Options, binaries: &Binaries) -> Result<bool> {
    root::ensure()?;
    packages::ensure(&packages::BASE)?;
    let tunnels = options.tunnels.unwrap_or(200);
    ensure!((1..=4_000).contains(&tunnels), "--tunnels {tunnels}: 1 to 4000 are possible");
    let mut boxes = Boxes::up(binaries, tunnels)?;
    let mut lines = vec![boxes.during("rest", 0, |_| {
        std::thread::sleep(REST);
        Ok(())
    })?];
    lines.push(boxes.during("rekeys", options.rekeys, |boxes| boxes.rekey(options.rekeys))?);
    for routes in options.routes_or(&[1_000_000]) {
        lines.push(boxes.during("table", routes, |boxes| boxes.load(routes))?);
    }
    for line in &lines {
        print(line, options.json)?;
    }
    Ok(lines.iter().all(|line| line.bfd_downs == 0 && line.bgp_lost == 0))
}

fn print(line: &Line, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(line)?);
        return Ok(());
    }
    let Line { tunnels, case, count, seconds, ipsecd_cpu, bgpd_cpu, bfd_downs, bgp_lost, .. } = line;
    println!(
        "{tunnels} tunnels, {case:6} {count:>9} in {seconds:6.1} s: ipsecd {ipsecd_cpu:5.1} % of a core, bgpd {bgpd_cpu:5.1} %; \
         {bfd_downs} BFD sessions went down, {bgp_lost} BGP sessions are not up"
    );
    Ok(())
}

struct Boxes {
    // Dropped in this order: daemons before the namespaces they are in.
    feeder: Option<Feeder>,
    left: Edge,
    right: Edge,
    tunnels: usize,
    core: integration::Node,
    _lab: Lab,
}

/// An address inside the `n`th tunnel.
fn inside(side: Side, n: usize) -> Ipv4Addr {
    let network = u32::from(Ipv4Addr::new(169, 254, 0, 0)) + 4 * n as u32;
    Ipv4Addr::from(network + u32::from(side.number()))
}

fn name(side: Side, n: usize) -> String {
    format!("n{n}.{}", side.id())
}

fn text(side: Side, tunnels: usize) -> String {
    let (gateway, initiate, asn, other_asn) = match side {
        Side::Left => ("198.51.100.1", "", 65_001, 65_002),
        Side::Right => ("198.51.100.5", " initiate never\n", 65_002, 65_001),
    };
    let remote = side.other().wan_address();
    let mut text = format!("hostname bench\nwan isp\n interface wan1\n gateway {gateway}\n");
    let mut neighbors = String::new();
    let mut family = String::new();
    for n in 0..tunnels {
        let (own, other) = (name(side, n), name(side.other(), n));
        let (ours, theirs) = (inside(side, n), inside(side.other(), n));
        let _infallible = write!(
            text,
            "ipsec identity i{n}\n id {own}\n pre-shared-key file /etc/holdfast/psk\nipsec tunnel t{n}\n remote {remote} id {other}\n \
             wan isp\n identity i{n}\n ip address {ours}/30\n{initiate}"
        );
        let _infallible =
            write!(neighbors, " neighbor {theirs} remote-as {other_asn}\n neighbor {theirs} bfd profile calm\n");
        // The table goes by the first tunnel alone.
        if n > 0 {
            let _infallible = writeln!(family, "  neighbor {theirs} route-map NOTHING out");
        }
    }
    let core = if side == Side::Right { format!(" neighbor {CORE} remote-as {CORE_ASN}\n") } else { String::new() };
    let _infallible = write!(
        text,
        "bfd\n profile calm\n  transmit-interval 50\n  receive-interval 50\n  detect-multiplier 3\n\
         route-map NOTHING deny 10\nrouter bgp {asn}\n bgp router-id {}\n no bgp ebgp-requires-policy\n{neighbors}{core} \
         address-family ipv4 unicast\n{family}",
        side.inner()
    );
    text
}

impl Boxes {
    /// Both boxes with every session up.
    fn up(binaries: &Binaries, tunnels: usize) -> Result<Self> {
        let lab = Lab::new("steady")?;
        let wan = OneWan::build(&lab)?;
        let core = lab.node("core")?;
        lab.join((&core, "lan0"), (&wan.right, "lan0"))?;
        core.address("lan0", &format!("{CORE}/24"))?;
        wan.right.address("lan0", "10.9.0.1/24")?;
        let start = |side: Side| -> Result<Edge> {
            pki::write_secret(&wan.node(side).folder().join("psk"), "a key for everybody")?;
            let mut edge = Edge::new(wan.node(side), binaries, &text(side, tunnels))?;
            edge.start()?;
            Ok(edge)
        };
        let (left, right) = (start(Side::Left)?, start(Side::Right)?);
        let mut boxes = Self { feeder: None, left, right, tunnels, core, _lab: lab };
        boxes.wait("all sessions up", |boxes| {
            Ok(boxes.bgp_lost()? == 0 && boxes.bfd()?.iter().all(|(up, _)| *up == boxes.tunnels))
        })?;
        Ok(boxes)
    }

    fn wait(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let from = Instant::now();
        loop {
            let last = holds(self); // an error means "not yet"
            if matches!(last, Ok(true)) {
                return Ok(());
            }
            self.left.must_run()?;
            self.right.must_run()?;
            ensure!(from.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}: {last:?}, BFD {:?}", self.bfd()?);
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// How many BFD sessions are up at each box, and how often any went down.
    fn bfd(&self) -> Result<Vec<(usize, u64)>> {
        let of = |edge: &Edge| -> Result<(usize, u64)> {
            let peers = edge.json("show bfd peers json")?;
            let peers = peers.as_array().context("a list of BFD peers")?;
            let up = peers.iter().filter(|peer| peer["status"] == "up").count();
            Ok((up, peers.iter().filter_map(|peer| peer["session-down"].as_u64()).sum()))
        };
        [&self.left, &self.right].into_iter().map(of).collect()
    }

    /// BGP sessions between the boxes that are not up, counted at both.
    fn bgp_lost(&self) -> Result<usize> {
        let of = |edge: &Edge| -> Result<usize> {
            let summary = edge.json("show bgp ipv4 unicast summary json")?;
            let peers = summary["peers"].as_object().context("a list of neighbors")?;
            let up = |(address, peer): &(&String, &serde_json::Value)| {
                address.starts_with("169.254.") && peer["state"] == "Established"
            };
            Ok(self.tunnels - peers.iter().filter(up).count())
        };
        Ok(of(&self.left)? + of(&self.right)?)
    }

    /// Counts what `work` makes of the sessions, and what it costs the left box.
    fn during(&mut self, case: &'static str, count: usize, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<Line> {
        let pids = [self.left.process(Daemon::Ipsecd)?.id(), self.left.process(Daemon::Bgpd)?.id()];
        let used = || -> Result<[f64; 2]> { Ok([usage(pids[0])?.0, usage(pids[1])?.0]) };
        let downs = |boxes: &Self| -> Result<u64> { Ok(boxes.bfd()?.iter().map(|(_, downs)| downs).sum()) };
        let (downs_before, before, from) = (downs(self)?, used()?, Instant::now());
        work(self)?;
        let (seconds, after) = (from.elapsed().as_secs_f64(), used()?);
        let percent = |at: usize| (after[at] - before[at]) / seconds * 100.0;
        Ok(Line {
            bench: "steady",
            subject: "holdfast",
            tunnels: self.tunnels,
            case,
            count,
            seconds,
            ipsecd_cpu: percent(0),
            bgpd_cpu: percent(1),
            bfd_downs: downs(self)? - downs_before,
            bgp_lost: self.bgp_lost()?,
        })
    }

    /// Replaces the keys of one tunnel after the other, until it was done so often and all of it has happened.
    fn rekey(&mut self, count: usize) -> Result<()> {
        let before = self.rekeyed()?;
        let console = Console::of_ipsecd(&self.left)?;
        for n in 0..count {
            console.execute(&format!("rekey ipsec tunnel t{}", n % self.tunnels))?;
        }
        self.wait("all rekeys", |boxes| Ok(boxes.rekeyed()? >= before + count as u64))
    }

    /// How many child SAs the left box has seen replaced.
    fn rekeyed(&self) -> Result<u64> {
        let tunnels = self.left.json("show ipsec tunnel json")?;
        let tunnels = tunnels.as_object().context("tunnels by name")?;
        Ok(tunnels.values().filter_map(|tunnel| tunnel["childRekeys"].as_u64()).sum())
    }

    /// A full table comes in at the right box, crosses the first tunnel and goes into the left box's kernel.
    fn load(&mut self, routes: usize) -> Result<()> {
        let table = prefixes::take(routes)?;
        let last = table.last().context("a table without routes")?.prefix.network();
        let peer = SocketAddr::from(([10, 9, 0, 1], 179));
        self.feeder = Some(Feeder::start(&self.core, Plan { asn: CORE_ASN, address: CORE, peer, table })?);
        self.wait("the table in the left box's kernel", |boxes| {
            let told = boxes.left.prefixes_from(&inside(Side::Right, 0).to_string())?;
            Ok(told >= routes as u64 && boxes.left.node.egress(last.into()).as_deref() == Some("t0"))
        })
    }
}
