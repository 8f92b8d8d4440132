//! `cargo xtask bench ike`: handshakes, beside strongSwan; and what many tunnels cost.
//!
//! Two daemons of one kind, in namespaces joined by a veth pair on this machine. Both have all tunnels configured; then the
//! caller begins with all of them at once, and it is counted how long that takes until each has its child SA, and how much
//! processor time either end has used. So a figure covers all that a tunnel needs to come up, at both ends together: the
//! handshake with its child SA, and its interface (ours) or its policies (charon with kernel-libipsec). Ours are `ipsecd`
//! as it is; strongSwan is charon with `start_action = start`, whose configuration is loaded within the time counted.
//!
//! The case `many` is ours alone: so many tunnels in one ipsecd, with memory for each and processor time at rest, with
//! every peer asked for a sign of life every ten seconds.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::edge::{Binaries, Daemon, Edge};
use integration::one_wan::{OneWan, Side};
use integration::peers::{Connection, Secret, StrongSwan};
use integration::pki::{Authority, KeyKind, Validity, write_secret};
use integration::{Lab, packages};
use serde::Serialize;

use super::Options;
use crate::root;

const KEY: &str = "a key for everybody";
/// Ticks a second in /proc, the same on every Linux that this runs on.
const USER_HZ: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the daemons are watched at rest.
const REST: Duration = Duration::from_secs(20);

/// What is measured.
struct Case {
    name: &'static str,
    ike: &'static str,
    certificates: bool,
    /// Whether strongSwan 5.9 can do it.
    beside: bool,
}

const CASES: [Case; 4] = [
    Case { name: "psk-x25519", ike: "aes256gcm16-prfsha384-x25519", certificates: false, beside: true },
    Case { name: "psk-ecp256", ike: "aes256gcm16-prfsha384-ecp256", certificates: false, beside: true },
    Case { name: "ecdsa-x25519", ike: "aes256gcm16-prfsha384-x25519", certificates: true, beside: true },
    Case {
        name: "psk-x25519-mlkem768",
        ike: "aes256gcm16-prfsha384-x25519-ke1_mlkem768",
        certificates: false,
        beside: false,
    },
];
/// The case of its own.
const MANY: &str = "many";

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    bench: &'static str,
    subject: &'static str,
    case: &'static str,
    tunnels: usize,
    /// Until the last one was up.
    up_s: f64,
    per_s: f64,
    /// By processor time of both ends together: what one core could do if it served both.
    per_core_s: f64,
    /// Of the caller's process, beyond what it had with no tunnel up.
    kb_per_tunnel: Option<f64>,
    /// Of the caller at rest, in percent of one core.
    cpu_at_rest: Option<f64>,
}

/// Runs each case; `false` is never the answer, since nothing here can fail to hold.
pub(super) fn run(options: &Options, binaries: &Binaries) -> Result<bool> {
    root::ensure()?;
    packages::ensure(&packages::PEERS)?;
    let known = CASES.iter().map(|case| case.name).chain([MANY]).collect::<Vec<_>>();
    for case in &options.case {
        ensure!(known.contains(&case.as_str()), "\"{case}\" is none of {}", known.join(", "));
    }
    let asked = |name: &str| options.case.is_empty() || options.case.iter().any(|asked| asked == name);
    let tunnels = |default: usize| options.tunnels.unwrap_or(default);
    for case in CASES.iter().filter(|case| asked(case.name)) {
        print(&ours(binaries, case, case.name, tunnels(200), false)?, options.json)?;
        // charon with certificates has one for all: a peer is told from another by its name, which is the certificate's.
        if case.beside && !case.certificates {
            print(&theirs(case, tunnels(200))?, options.json)?;
        }
    }
    if asked(MANY) {
        let [case, ..] = &CASES;
        print(&ours(binaries, case, MANY, tunnels(5_000), true)?, options.json)?;
    }
    Ok(true)
}

fn print(line: &Line, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(line)?);
        return Ok(());
    }
    let Line { subject, case, tunnels, up_s, per_s, per_core_s, kb_per_tunnel, cpu_at_rest, .. } = line;
    print!(
        "{subject:10} {case:20} {tunnels:6} up in {up_s:6.2} s, {per_s:6.0}/s, {per_core_s:6.0} per core and second"
    );
    kb_per_tunnel.iter().for_each(|kb| print!(", {kb:.1} kB a tunnel"));
    cpu_at_rest.iter().for_each(|cpu| print!(", {cpu:.1} % of a core at rest"));
    println!();
    Ok(())
}

/// Processor seconds and resident kilobytes of a process.
pub(super) fn usage(pid: u32) -> Result<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold anything: state is field 3, user and system time are 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 =
        fields.get(11..13).context("a short stat line")?.iter().filter_map(|n| n.parse::<u64>().ok()).sum();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no resident memory")?;
    let resident = line.trim().trim_end_matches(" kB").parse::<f64>()?;
    Ok((ticks as f64 / USER_HZ, resident))
}

fn name(side: Side, n: usize) -> String {
    format!("n{n}.{}", side.id())
}

/// Waits until `count` is reached; gives the time it took since `from`.
fn wait(what: &str, from: Instant, wanted: usize, mut count: impl FnMut() -> Result<usize>) -> Result<f64> {
    loop {
        let found = count()?;
        if found >= wanted {
            return Ok(from.elapsed().as_secs_f64());
        }
        ensure!(from.elapsed() < PATIENCE, "{found} of {wanted} {what} after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The configuration of one of our ends.
fn text(side: Side, case: &Case, tunnels: usize) -> String {
    let gateway = if side == Side::Left { "198.51.100.1" } else { "198.51.100.5" };
    let remote = side.other().wan_address();
    let mut text = format!(
        "hostname bench\nwan isp\n interface wan1\n gateway {gateway}\nipsec proposal bench\n ike {}\n esp aes256gcm16\n",
        case.ike
    );
    for n in 0..tunnels {
        let credential = if case.certificates {
            format!(
                " certificate /etc/holdfast/c{n}.pem\n private-key /etc/holdfast/c{n}.key\n trust-anchor /etc/holdfast/ca.pem\n"
            )
        } else {
            " pre-shared-key file /etc/holdfast/psk\n".to_owned()
        };
        let (own, other) = (name(side, n), name(side.other(), n));
        let initiate = if side == Side::Left { "" } else { " initiate never\n" };
        let _infallible = write!(
            text,
            "ipsec identity i{n}\n id {own}\n{credential}ipsec tunnel t{n}\n remote {remote} id {other}\n wan isp\n \
             identity i{n}\n proposal bench\n dpd interval 10 timeout 60\n{initiate}"
        );
    }
    text
}

fn ours(binaries: &Binaries, case: &Case, shown: &'static str, tunnels: usize, rest: bool) -> Result<Line> {
    let lab = Lab::new("ike")?;
    let wan = OneWan::build(&lab)?;
    let authority = Authority::new("Bench CA")?;
    for side in [Side::Left, Side::Right] {
        let folder = wan.node(side).folder();
        write_secret(&folder.join("psk"), KEY)?;
        for n in (0..tunnels).filter(|_| case.certificates) {
            let credential = authority.issue(&name(side, n), KeyKind::EcdsaP256, Validity::Current)?;
            credential.write(folder, &format!("c{n}"), &authority)?;
        }
    }
    // The caller's link is down until both have all their interfaces; then it calls at once.
    wan.left.set_link("wan1", false)?;
    let mut ends = [Side::Right, Side::Left]
        .map(|side| Edge::new(wan.node(side), binaries, &text(side, case, tunnels)))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    for end in &mut ends {
        end.start_ipsecd()?;
        let from = Instant::now();
        wait("daemons serve", from, 1, || {
            end.must_run()?;
            Ok(end.process(Daemon::Ipsecd)?.log().matches("ipsecd serves").count())
        })?;
    }
    let pids = ends.iter_mut().map(|end| Ok(end.process(Daemon::Ipsecd)?.id())).collect::<Result<Vec<u32>>>()?;
    let [called, caller] = pids[..] else { anyhow::bail!("two ends") };
    let before = (usage(called)?, usage(caller)?);
    wan.left.set_link("wan1", true)?;
    let from = Instant::now();
    let log = ends[1].process(Daemon::Ipsecd)?.log_path().to_owned();
    let up_s = wait("tunnels are up", from, tunnels, || {
        Ok(String::from_utf8_lossy(&std::fs::read(&log)?).matches("tunnel is up").count())
    })?;
    let after = (usage(called)?, usage(caller)?);
    let used = after.0.0 - before.0.0 + after.1.0 - before.1.0;
    let cpu_at_rest = if rest {
        std::thread::sleep(REST); // the tail of what came up
        let (start, from) = (usage(caller)?.0, Instant::now());
        std::thread::sleep(REST);
        Some((usage(caller)?.0 - start) / from.elapsed().as_secs_f64() * 100.0)
    } else {
        None
    };
    let kb_per_tunnel = Some((usage(caller)?.1 - before.1.1) / tunnels as f64);
    Ok(line("holdfast", shown, tunnels, up_s, used, kb_per_tunnel, cpu_at_rest))
}

/// What is in charon's `n`th tunnel at a side.
fn inside(side: Side, n: usize) -> String {
    format!("10.{}.{}.{}/32", 10 + side.number(), n / 250, 1 + n % 250)
}

fn theirs(case: &Case, tunnels: usize) -> Result<Line> {
    let lab = Lab::new("ike")?;
    let wan = OneWan::build(&lab)?;
    let connections = |side: Side, calls: bool| -> Vec<(String, Connection)> {
        let one = |n: usize| {
            let network = |side: Side| inside(side, n);
            let connection = Connection {
                local: side.wan_address().to_owned(),
                remote: side.other().wan_address().to_owned(),
                local_id: name(side, n),
                remote_id: name(side.other(), n),
                selectors: (network(side), network(side.other())),
                ike: case.ike.to_owned(),
                esp: "aes256gcm16".to_owned(),
                secret: Secret::Psk(KEY.to_owned()),
                more: "dpd_delay = 10s".to_owned(),
                more_child: if calls { "start_action = start".to_owned() } else { String::new() },
            };
            (format!("net{n}"), connection)
        };
        (0..tunnels).map(one).collect()
    };
    // kernel-libipsec wants an address of its own in what a child may carry.
    for side in [Side::Left, Side::Right] {
        let lines: Vec<_> = (0..tunnels).map(|n| format!("address add {} dev lo", inside(side, n))).collect();
        wan.node(side).ip_batch(&lines.join("\n"))?;
    }
    let (called, caller) = (StrongSwan::start_idle(&wan.right)?, StrongSwan::start_idle(&wan.left)?);
    called.load(&connections(Side::Right, false))?;
    let before = usage(called.process.id())?.0 + usage(caller.process.id())?.0;
    let from = Instant::now();
    caller.load(&connections(Side::Left, true))?;
    let log = caller.process.log_path().to_owned();
    let up_s = wait("child SAs", from, tunnels, || {
        let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        Ok(text.lines().filter(|line| line.contains("CHILD_SA net") && line.contains("established")).count())
    })?;
    let used = usage(called.process.id())?.0 + usage(caller.process.id())?.0 - before;
    Ok(line("strongswan", case.name, tunnels, up_s, used, None, None))
}

fn line(
    subject: &'static str,
    case: &'static str,
    tunnels: usize,
    up_s: f64,
    used: f64,
    kb_per_tunnel: Option<f64>,
    cpu_at_rest: Option<f64>,
) -> Line {
    let (per_s, per_core_s) = (tunnels as f64 / up_s, tunnels as f64 / used);
    Line { bench: "ike", subject, case, tunnels, up_s, per_s, per_core_s, kb_per_tunnel, cpu_at_rest }
}
